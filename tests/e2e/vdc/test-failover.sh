#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Power cuts: what may restart elsewhere does, with nothing lost that was on disk; what may not waits for its node;
# many at once restart nothing before somebody looks; a host that returns has nothing old on it.
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
create db-2 db
create web web
vdc partition create job --class batch --label app=job --memory 128MiB --disk 16MiB >/dev/null
declare -A ids last
for name in db-1 db-2 web job; do
    ids[$name]=$(partition "$name" .id)
done
victim=$(node_of db-1)
for name in web job; do
    [ "$(node_of "$name")" = "$victim" ] || vdc partition migrate "$name" --to "$victim" >/dev/null
done
for name in db-1 web job; do
    wait_until 60 goes_on "${ids[$name]}"
done
before=$(node_of db-2)
incarnation=$(vdc node show "$victim" -o json | jq .status.incarnation)
lab host-kill "$victim"
for name in db-1 web job; do
    last[$name]=$(history "${ids[$name]}" | tail -n 1)
done
elsewhere() { is_in_state "$1" running && [ "$(node_of "$1")" != "$victim" ]; }
for name in db-1 web; do
    check "$name restarts on another node" wait_until 90 elsewhere "$name"
    check "$name counts there" wait_until 90 goes_beyond "${ids[$name]}" "${last[$name]}"
    check "$name has lost nothing that it had printed" continuous "${ids[$name]}"
    check "$name runs once" runs_once "$name"
done
check "the restart says why" expect 200 '.items[0].kind == "failover" and .items[0].state == "done" and
    (.items[0].verdict | test("fenced"))' GET '/v1/operations?limit=1'
check "the databases are still in different racks" test "$(rack_of "$(node_of db-1)")" != "$(rack_of "$(node_of db-2)")"
check "db-2 was not touched" test "$(node_of db-2)" = "$before"
check "db-2 is unbroken" unbroken "${ids[db-2]}"
check "the lost node is fenced" node_is "$victim" fenced
check "a partition of class batch stays with its node" test "$(node_of job)" = "$victim"
check "it runs nowhere" test "$(qemus job)" = 0
check "its console says that its node is away" expect 503 '.code == "UNAVAILABLE"' GET /v1/partitions/job/console
check "nothing new is placed on the lost node" expect 409 '.code | IN("REFUSED", "CONFLICT")' \
    POST '/v1/partitions/web/migrate?wait=30s' -d "{\"target\":\"$victim\"}"

lab host-up "$victim"
check "the host is ready again" wait_until 90 node_is "$victim" ready
check "it is a new incarnation" test "$(vdc node show "$victim" -o json | jq .status.incarnation)" -gt "$incarnation"
check "what moved away does not run there" test "$(qemus db-1 "$victim") $(qemus web "$victim")" = "0 0"
check "the partition of class batch runs there again" wait_until 90 goes_beyond "${ids[job]}" "${last[job]}"
check "it has lost nothing that it had printed" continuous "${ids[job]}"
check "records, databases and processes agree" wait_until 60 consistent
check "web can move back" expect 200 '.state == "done"' POST '/v1/partitions/web/migrate?wait=60s' \
    -d "{\"target\":\"$victim\"}"
check "web goes on there" goes_on "${ids[web]}"
check "web has lost nothing by all this" continuous "${ids[web]}"

# Two of four at once are more than the policy's 30 %: it may be the network, so nobody restarts anything.
two=$(vdc node list -o json | jq -r --arg v "$victim" --arg b "$(node_of db-2)" \
    '[.[].name | select(. != $v and . != $b)] | join(" ")')
set -- "$victim" "${two%% *}"
web_generation=$(partition web .status.generation)
lab host-kill "$1"
lab host-kill "$2"
held() { grep -hq "$1: .*brake.*waits" "$dir"/log/m?.log; }
check "the storm brake holds" wait_until 60 held "$victim"
sleep 5
check "nothing restarts while it holds" test "$(partition web .status.generation)" = "$web_generation"
lab host-up "$2"
check "one is back" wait_until 90 node_is "$2" ready
check "then web restarts" wait_until 90 elsewhere web
check "web goes on" goes_on "${ids[web]}"
check "web has still lost nothing" continuous "${ids[web]}"
lab host-up "$1"
check "all are back" wait_until 90 nodes_are ready 4
for name in db-1 db-2 web job; do
    check "$name runs in the end" wait_until 90 is_in_state "$name" running
    check "$name goes on in the end" goes_on "${ids[$name]}"
    check "$name has lost nothing in the end" continuous "${ids[$name]}"
done
check "records, databases and processes agree in the end" wait_until 60 consistent
check_quiet_logs
check_end
