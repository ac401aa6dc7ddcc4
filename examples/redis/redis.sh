#!/bin/sh
# Redis: for each binding an ACL user that reaches the keys of its own prefix only.
#
# Needs redis-cli and jq, and a server (7 or later) with an `aclfile`, without which users are gone after a restart.
# REDIS_HOST and REDIS_PORT name it; REDISCLI_AUTH is the password of its user `default`, which redis-cli reads itself.
set -eu
document=$(cat)
# Of a broker that was killed in this moment, only a part may have come, or nothing.
[ "$(printf '%s' "$document" | jq '.operation_id | length')" ] || exit 1
get() { printf '%s' "$document" | jq -r "$1 // empty"; }
# Ids can be any text; these are safe in commands and patterns.
name() { printf '%s' "$1" | sha256sum | cut -c 1-24; }

instance=$(name "$(get .instance_id)")
user=$instance-$(name "$(get .binding_id)")

redis() {
  redis-cli -e -h "$REDIS_HOST" -p "$REDIS_PORT" "$@"
}

# Removes the users and keys whose names begin so. Connections of a user are closed with it.
remove() {
  users=$(redis ACL USERS)
  for found in $users; do
    case $found in "$1"*) redis ACL DELUSER "$found" >&2 ;; esac
  done
  redis ACL SAVE >&2
  cursor=0
  while
    cursor=$(redis EVAL "
      local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2] .. '*', 'COUNT', 1000)
      for _, key in ipairs(found[2]) do redis.call('UNLINK', key) end
      return found[1]" 0 "$cursor" "$1")
    [ "$cursor" != 0 ]
  do :; done
}

# 75 asks the broker to try again later.
redis PING >&2 || exit 75

case $1 in
provision | update)
  echo '{}'
  ;;
bind)
  PASSWORD=$(od -An -N 24 -t x1 /dev/urandom | tr -d ' \n')
  # With -x the last argument comes from standard input: arguments can be seen by everybody. What is taken away at the end
  # reaches beyond a prefix.
  printf '>%s' "$PASSWORD" | redis -x ACL SETUSER "$user" reset on "~$user:*" "&$user:*" +@all -@admin -@dangerous \
    -scan -randomkey -dbsize -select -move -copy >&2
  redis ACL SAVE >&2
  ROLE=$user PASSWORD=$PASSWORD jq -n -c '{
    credentials: {
      uri: "redis://\(env.ROLE):\(env.PASSWORD)@\(env.REDIS_HOST):\(env.REDIS_PORT)",
      host: env.REDIS_HOST, port: (env.REDIS_PORT | tonumber), username: env.ROLE, password: env.PASSWORD,
      prefix: "\(env.ROLE):"
    },
    endpoints: [{host: env.REDIS_HOST, ports: [env.REDIS_PORT], protocol: "tcp"}]
  }'
  ;;
unbind)
  remove "$user"
  echo '{}'
  ;;
deprovision)
  remove "$instance-"
  echo '{}'
  ;;
esac
