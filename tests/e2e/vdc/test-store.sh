#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# etcd stopped and started again, for a shorter and for a longer time than a run lease lasts: nothing that was
# acknowledged is lost, guests go on or come back, a request made meanwhile ends well.
# The functions here are called by name through check and wait_until, which shellcheck can't see:
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tests/support/lab.sh
. tests/support/lab.sh
# shellcheck source=tests/e2e/vdc/common.sh
. tests/e2e/vdc/common.sh

lab_begin --managers 2
create db-1 db
create web web
db=$(partition db-1 .id)
web=$(partition web .id)

list() { rest "$(any_manager)" GET "/v1/$1" | jq -c '[.items[] | [.id, .name // .kind, .created_at]]'; }
includes() { # LIST FILE: all that the file has is still there
    echo "now $(list "$1"), before $(cat "$2")"
    jq -en --argjson now "$(list "$1")" --argjson before "$(cat "$2")" '$before - $now == []' >/dev/null
}
outage() { # SECONDS NAME
    local seconds=$1 name=$2 policy
    list partitions >"$dir/partitions"
    list operations >"$dir/operations"
    policy=$(rest "$(any_manager)" GET /v1/zones/prod/policy | jq .version)
    lab etcd-stop
    "$dir/vdc" partition create "$name" --class gold --memory 128MiB --label app=late --idempotency-key "key-$name" \
        --timeout 120 -o json >"$dir/late.json" 2>"$dir/late.err" &
    late=$!
    check "db-1 counts without etcd ($seconds s)" goes_on "$db"
    sleep "$seconds"
    check "the request is not answered without etcd ($seconds s)" kill -0 "$late"
    lab etcd-start
    check "there is a leader again ($seconds s)" wait_until 90 led
    wait "$late" && late=0 || late=$?
    check "a request made meanwhile ends well ($seconds s): $(tail -n 1 "$dir/late.err")" test "$late" = 0
    check "it is done ($seconds s)" jq -e '.state == "done"' "$dir/late.json"
    check "its key gives the same operation ($seconds s)" expect 200 ".id == $(jq .id "$dir/late.json")" \
        POST '/v1/partitions?wait=60s' -H "idempotency-key: key-$name" -d "$(jq -cn --arg name "$name" \
            '{$name, class: "gold", memory: "128MiB", labels: {app: "late"}}')"
    check "all partitions are there ($seconds s)" includes partitions "$dir/partitions"
    check "all operations are there ($seconds s)" includes operations "$dir/operations"
    check "the policy is there ($seconds s)" expect 200 ".version == $policy" GET /v1/zones/prod/policy
    check "all nodes are ready ($seconds s)" wait_until 60 nodes_are ready 4
    for each in db-1 web "$name"; do
        check "$each runs ($seconds s)" wait_until 90 is_in_state "$each" running
        check "$each runs once ($seconds s)" wait_until 60 runs_once "$each"
        check "$each goes on ($seconds s)" goes_on "$(partition "$each" .id)"
        check "$each has lost no count ($seconds s)" continuous "$(partition "$each" .id)"
    done
    check "records, databases and processes agree ($seconds s)" wait_until 60 consistent
}
outage 3 late-1
outage 12 late-2
check "the guests of the first hour are still the same ones" test "$(partition db-1 .id) $(partition web .id)" = "$db $web"
check_quiet_logs
check_end
