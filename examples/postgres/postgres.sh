#!/bin/sh
# A PostgreSQL database for each service instance, a role for each binding.
#
# Needs psql and jq. PGHOST, PGPORT, PGUSER and PGPASSWORD name the server (13 or later) and a superuser of it. In the
# database, everything belongs to one role that cannot log in; the roles of the bindings act as that role, so what an app
# makes outlives its binding. Whatever comes from a user goes into SQL as a psql variable, which quotes it.
set -eu
document=$(cat)
# Of a broker that was killed in this moment, only a part may have come, or nothing.
[ "$(printf '%s' "$document" | jq '.operation_id | length')" ] || exit 1
get() { printf '%s' "$document" | jq -r "$1 // empty"; }
# Ids can be any text; names in PostgreSQL are short.
name() { printf '%s_%s' "$1" "$(printf '%s' "$2" | sha256sum | cut -c 1-32)"; }

instance=$(get .instance_id) binding=$(get .binding_id)
db=$(name i "$instance") role=$(name b "$instance/$binding")

# Runs the SQL on standard input, in a database. 75 asks the broker to try again later: psql ends with 2 when the server
# cannot be reached.
sql() {
  status=0
  psql -Xqb -d "$1" -v ON_ERROR_STOP=1 -v db="$db" -v role="$role" -v instance="$instance" -v limit="$limit" >&2 ||
    status=$?
  case $status in 0) ;; 2) exit 75 ;; *) exit 1 ;; esac
}

limit=$(get '.parameters.connections | if . == null then -1
  elif type == "number" and . == floor and . >= 1 and . <= 1000 then . else "wrong" end')
if [ "$limit" = wrong ]; then
  echo '{"error": "invalid", "description": "connections: wanted a whole number from 1 to 1000."}'
  exit 1
fi

case $1 in
provision | update)
  sql postgres <<'SQL'
SELECT format('CREATE ROLE %I NOLOGIN', :'db') WHERE to_regrole(:'db') IS NULL \gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'db', :'db')
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'db') \gexec
REVOKE ALL ON DATABASE :"db" FROM PUBLIC;
ALTER DATABASE :"db" CONNECTION LIMIT :limit;
COMMENT ON DATABASE :"db" IS :'instance';
SQL
  jq -n --arg db "$db" '{metadata: {attributes: {database: $db}}, state: {database: $db}}' -c
  ;;
bind)
  # Hexadecimal, so that it needs no quoting; on standard input, since arguments can be seen by everybody.
  PASSWORD=$(od -An -N 24 -t x1 /dev/urandom | tr -d ' \n')
  sql postgres <<SQL
SELECT format('CREATE ROLE %I', :'role') WHERE to_regrole(:'role') IS NULL \gexec
ALTER ROLE :"role" LOGIN PASSWORD '$PASSWORD';
GRANT :"db" TO :"role";
ALTER ROLE :"role" IN DATABASE :"db" SET role = :'db';
SQL
  DB=$db ROLE=$role PASSWORD=$PASSWORD jq -n -c '{
    credentials: {
      uri: "postgresql://\(env.ROLE):\(env.PASSWORD)@\(env.PGHOST):\(env.PGPORT)/\(env.DB)",
      host: env.PGHOST, port: (env.PGPORT | tonumber), database: env.DB, username: env.ROLE, password: env.PASSWORD
    },
    endpoints: [{host: env.PGHOST, ports: [env.PGPORT], protocol: "tcp"}]
  }'
  ;;
unbind)
  sql postgres <<'SQL'
SELECT format('ALTER ROLE %I NOLOGIN', :'role') WHERE to_regrole(:'role') IS NOT NULL \gexec
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = :'role';
SQL
  # Without the database there is nothing in it that the role could own.
  exists=$(psql -Xqt -d postgres -v db="$db" <<'SQL'
SELECT 1 FROM pg_database WHERE datname = :'db'
SQL
) || exit 75
  [ -z "$exists" ] || sql "$db" <<'SQL'
SELECT format('REASSIGN OWNED BY %I TO %I', :'role', :'db') WHERE to_regrole(:'role') IS NOT NULL \gexec
SELECT format('DROP OWNED BY %I', :'role') WHERE to_regrole(:'role') IS NOT NULL \gexec
SQL
  sql postgres <<'SQL'
DROP ROLE IF EXISTS :"role";
SQL
  echo '{}'
  ;;
deprovision)
  sql postgres <<'SQL'
DROP DATABASE IF EXISTS :"db" WITH (FORCE);
SELECT format('DROP ROLE %I', member::regrole::text) FROM pg_auth_members
  WHERE roleid = to_regrole(:'db') AND member::regrole::text LIKE 'b\_%' \gexec
DROP ROLE IF EXISTS :"db";
SQL
  echo '{}'
  ;;
esac
