#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Nodes that fall silent while their guests live: the agent is dead and stays dead, then a node is cut off from the
# network. Their guests end by their run lease alone, before they run elsewhere, and nothing that was printed is lost;
# one that needs no lease runs on.
# The functions here are called by name through check and wait_until, which shellcheck can't see:
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tests/support/lab.sh
. tests/support/lab.sh
# shellcheck source=tests/e2e/vdc/common.sh
. tests/e2e/vdc/common.sh

lab_begin --nodes "n1=r1 n2=r2 n3=r3" --managers 1
create web web
create db-1 db
web=$(partition web .id)
db=$(partition db-1 .id)

moved_from() { # NODE NAME GENERATION
    [ "$(node_of "$2")" != "$1" ] && [ "$(partition "$2" .status.generation)" -gt "$3" ]
}
# stands_still ID NODE: what is there of a guest on a node that lost it prints nothing more.
stands_still() {
    local before
    before=$(last_count "$1" "$2" '*')
    sleep 1
    echo "printed last: $before"
    [ "$before" -gt 0 ] && [ "$(last_count "$1" "$2" '*')" = "$before" ]
}
# The one that stayed behind must not be taken for it.
counts_anew() { counted "$2" 'n[0-9]' "$(partition "$1" .status.generation)" 0; }
ended_on() { [ "$(qemus "$2" "$1")" = 0 ]; }

# falls_silent WHAT NAME ID NODE MEND ...: after its node has fallen silent. MEND is a command that brings it back.
falls_silent() {
    local what=$1 name=$2 id=$3 node=$4 generation=$5
    shift 5
    check "$name moves to another node ($what)" wait_until 60 moved_from "$node" "$name" "$generation"
    check "the one on the old node stands still by then ($what)" stands_still "$id" "$node"
    check "it counts there ($what)" wait_until 60 counts_anew "$name" "$id"
    check "the one on the old node has ended, by itself ($what)" wait_until 20 ended_on "$node" "$name"
    check "nothing that it had printed is lost ($what)" continuous "$id"
    "$@"
    check "the node is taken back ($what)" wait_until 60 node_is "$node" ready
    check "the guest runs once ($what)" wait_until 20 runs_once "$name"
    check "records, databases and processes agree ($what)" wait_until 60 consistent
}

node=$(node_of web)
generation=$(partition web .status.generation)
lab agent-kill "$node"
falls_silent "its agent is dead" web "$web" "$node" "$generation" lab agent-start "$node"

# Both may be on one node by now: it must be the only one whose fall is looked at.
node=$(node_of db-1)
[ "$(node_of web)" != "$node" ] || vdc partition migrate web >/dev/null
vdc partition create job --class batch --label app=job --memory 128MiB --disk 16MiB >/dev/null
job=$(partition job .id)
wait_until 60 goes_on "$job"
[ "$(node_of job)" = "$node" ] || vdc partition migrate job --to "$node" >/dev/null
pid=$(qemu_of job "$node")
generation=$(partition db-1 .status.generation)
lab link-cut "$node"
falls_silent "its link is cut" db-1 "$db" "$node" "$generation" lab link-mend "$node"
# Class batch has failover: none. It restarts nowhere else, so it needs no lease, and a fencing is nothing to it.
check "a guest that needs no lease is the same process through all this" test "$(qemu_of job "$node")" = "$pid"
check "it has never stood still for good" goes_on "$job"
check "it has lost and repeated nothing" unbroken "$job"

check "web has lost nothing by all this" continuous "$web"
check "web goes on" goes_on "$web"
check_quiet_logs
check_end
