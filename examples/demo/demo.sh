#!/bin/sh
# For people who build or test a platform: plans that are slow, fail, never finish, or answer nonsense. Needs jq.
#
# The catalog says in the first argument how the plan behaves, and in the second in which operation; every other operation
# of it succeeds at once. The parameter `seconds` says how long the slow plans take.
set -eu
how=$1 when=$2 operation=$3
document=$(cat)
# Of a broker that was killed in this moment, only a part may have come, or nothing.
[ "$(printf '%s' "$document" | jq '.operation_id | length')" ] || exit 1
get() { printf '%s' "$document" | jq -r "$1"; }

succeed() {
  case $operation in
  bind) get '{credentials: {username: "demo", password: "demo-\(.binding_id)"}} | tojson' ;;
  *) get '{dashboard_url: "https://demo.example.com/\(.instance_id | @uri)", state: {plan: .plan.name}} | tojson' ;;
  esac
}

case $how/$operation in
slow/*)
  seconds=$(get '.parameters.seconds | if type == "number" and . >= 0 and . <= 3600 then floor else 30 end')
  done=0
  while [ "$done" -lt "$seconds" ]; do
    echo "{\"progress\": \"Working ($((done * 100 / seconds))%)\"}"
    sleep 1
    done=$((done + 1))
  done
  succeed
  ;;
fail/"$when")
  echo "the plan fails in $when, as it says" >&2
  echo "{\"error\": \"demo\", \"description\": \"This plan fails in $when.\", \"instance_usable\": true, \"update_repeatable\": true}"
  exit 1
  ;;
never/"$when")
  echo '{"progress": "This never ends."}'
  exec sleep 1000000
  ;;
crash/"$when") kill -9 $$ ;;
later/"$when")
  # Succeeds at the third attempt.
  [ "$(get .attempt)" -ge 3 ] || exit 75
  succeed
  ;;
nonsense/"$when") echo 'Hello, platform!' ;;
*) succeed ;;
esac
