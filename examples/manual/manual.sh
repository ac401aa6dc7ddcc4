#!/bin/sh
# A person does the work: each request becomes a ticket in $DESK/todo, and the operation goes on until the operator has put
# an answer of the same name into $DESK/done.
#
# Needs jq. The answer is one JSON object: to provision, `{"credentials": {…}}` for the apps; to update and deprovision,
# `{}`; to any of them, `{"error": "refused", "description": "what the user reads"}`. Write it under another name and rename
# it with mv, so that it is not read half written. When the platform takes a request back, the ticket goes away.
set -eu
document=$(cat)
# Of a broker that was killed in this moment, only a part may have come, or nothing.
[ "$(printf '%s' "$document" | jq '.operation_id | length')" ] || exit 1
get() { printf '%s' "$document" | jq "$@"; }

# Waits for the answer; then it is in the file $answer. A repeat, after a crash, finds the same ticket.
ask() {
  name=$1-$(get -r .operation_id).json
  ticket=$DESK/todo/$name answer=$DESK/done/$name
  mkdir -p "$DESK/todo" "$DESK/done"
  trap 'rm -f "$ticket"; echo "taken back: $ticket" >&2; exit 1' TERM
  get '{operation, instance_id, service: .service.name, plan: .plan.name, context, parameters}' >"$ticket.new"
  mv "$ticket.new" "$ticket"
  echo "waiting for $answer" >&2
  seconds=0
  until [ -e "$answer" ]; do
    [ $((seconds % 60)) -ne 0 ] || echo "{\"progress\": \"Waiting for an operator ($((seconds / 60)) min)\"}"
    # In the background, so that SIGTERM need not wait for its end.
    sleep 1 &
    wait $!
    seconds=$((seconds + 1))
  done
  jq -e 'type == "object"' "$answer" >/dev/null || {
    # The operator can mend it: the broker calls again.
    mv "$answer" "$answer.wrong"
    echo "not a JSON object: $answer.wrong" >&2
    exit 75
  }
  rm -f "$ticket"
}

case $1 in
provision)
  ask provision
  # Kept for the bindings.
  jq -c 'if .error then . else {state: {credentials: (.credentials // {})}} end' "$answer"
  ;;
update | deprovision)
  ask "$1"
  jq -c . "$answer"
  ;;
bind)
  get -c '{credentials: .instance.state.credentials}'
  ;;
unbind)
  echo '{}'
  ;;
esac
