#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Twenty live migrations, two guests at a time crossing each other over four nodes, and those that are refused.
# The functions here are called by name through check and wait_until, which shellcheck can't see:
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tests/support/lab.sh
. tests/support/lab.sh
# shellcheck source=tests/e2e/vdc/common.sh
. tests/e2e/vdc/common.sh

lab_begin --managers 1
create a a
create b b
declare -A ids=([a]=$(partition a .id) [b]=$(partition b .id))
[ "$(node_of a)" = n1 ] || vdc partition migrate a --to n1 >/dev/null
[ "$(node_of b)" = n3 ] || vdc partition migrate b --to n3 >/dev/null

move() { # NAME NODE: in the background of a round
    vdc partition migrate "$1" --to "$2" -o json >"$dir/$1.json" 2>&1
}
moved() {
    jq -c '[.state, .source, .target, .downtime_ms, .duration_ms, .error]' "$dir/$1.json"
    jq -e --arg to "$2" '.state == "done" and .target == $to and .downtime_ms > 0' "$dir/$1.json" >/dev/null &&
        [ "$(node_of "$1")" = "$2" ] && runs_once "$1"
}
downtimes=()
for round in $(seq 1 10); do
    to_a=n$((round % 4 + 1))
    to_b=n$(((14 - round) % 4 + 1))
    [ "$(node_of b)" != "$to_b" ] || to_b=n$((${to_b#n} % 4 + 1))
    move a "$to_a" &
    move_a=$!
    move b "$to_b" || true
    wait "$move_a" || true
    check "round $round: a moves to $to_a" moved a "$to_a"
    check "round $round: b moves to $to_b" moved b "$to_b"
    downtimes+=("$(jq .downtime_ms "$dir/a.json")" "$(jq .downtime_ms "$dir/b.json")")
    for name in a b; do
        wait_until 60 goes_on "${ids[$name]}"
    done
done
echo "downtimes in ms: ${downtimes[*]}"
check "a lost and repeated no count in all its migrations" unbroken "${ids[a]}"
check "b lost and repeated no count in all its migrations" unbroken "${ids[b]}"
check "no relay, no waiting guest, no monitor without guest is left on any node" no_leftovers
check "records and databases agree" wait_until 30 consistent

migrate() { # NAME TARGET
    expect "$3" "$4" POST "/v1/partitions/$1/migrate?wait=60s" -d "{\"target\":\"$2\"}"
}
check "a migration to where it is is refused" migrate a "$(node_of a)" 409 true
check "one to a node that doesn't exist is refused" migrate a n9 404 true
create db-1 db
create db-2 db
from=$(node_of db-1)
to=$(node_of db-2)
check "one against a rule is refused by its name" migrate db-1 "$to" 409 '.code == "REFUSED" and
    (.verdict | test("db-apart"))'
check "a refused one moved nothing" test "$(node_of db-1)" = "$from"
check "without a target the policy chooses" expect 200 '.state == "done" and .target != .source' \
    POST '/v1/partitions/b/migrate?wait=60s'
check "b goes on" goes_on "${ids[b]}"
check "b is unbroken" unbroken "${ids[b]}"
check "nothing is left over" wait_until 30 no_leftovers
check_quiet_logs
check_end
