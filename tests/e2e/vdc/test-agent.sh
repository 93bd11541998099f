#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Node agents killed and started again under running guests, at rest and in the middle of a create, a migration and a
# stop: guests never notice, and every change comes to its end.
# The functions here are called by name through check and wait_until, which shellcheck can't see:
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tests/support/lab.sh
. tests/support/lab.sh
# shellcheck source=tests/e2e/vdc/common.sh
. tests/e2e/vdc/common.sh

lab_begin --managers 1
create web web
create db-1 db
web=$(partition web .id)
node=$(node_of web)

restart() { # NODE [PAUSE]
    lab agent-kill "$1"
    sleep "${2:-0}"
    lab agent-start "$1"
}
for pause in 0 1 2; do
    pid=$(qemu_of web "$node")
    restart "$node" "$pause"
    check "the node is ready ($pause s without agent)" wait_until 60 node_is "$node" ready
    check "the guest is the same process ($pause s without agent)" test "$(qemu_of web "$node")" = "$pid"
    check "it goes on ($pause s without agent)" goes_on "$web"
    check "it lost and repeated nothing ($pause s without agent)" unbroken "$web"
    check "the replica equals the database ($pause s without agent)" wait_until 30 replicas_equal
done
console_goes_on() { vdc partition console web | tr -d '\r' | grep -c '^COUNT' | grep -qv '^0$'; }
check "its console is read through the new agent from the beginning" console_goes_on

# All agents at once.
for name in n1 n2 n3 n4; do lab agent-kill "$name"; done
for name in n1 n2 n3 n4; do lab agent-start "$name"; done
check "all nodes are ready after all agents died at once" wait_until 60 nodes_are ready 4
check "web goes on" goes_on "$web"
check "web is unbroken" unbroken "$web"

# In the middle of changes.
begin() { rest "$(any_manager)" "$@" | jq -r .id; }
agree() { led && node_counts_right && replicas_equal; }
settle() { # WHAT OPERATION: any end but a hang is right
    check "$1 ends" wait_until 120 ended "$2"
    check "records and databases agree after $1" wait_until 60 agree
}
for delay in 0 0.05; do
    operation=$(begin POST /v1/partitions -d "{\"name\":\"x$delay\",\"class\":\"gold\",\"memory\":\"128MiB\"}")
    sleep "$delay"
    restart "$(partition "x$delay" .status.node)"
    settle "a create with its agent killed after $delay s" "$operation"
    check "it is done ($delay s)" test "$(state_of "$operation")" = "done"
    check "it runs once ($delay s)" wait_until 60 runs_once "x$delay"
done
for side in source target; do
    for delay in 0.1 0.6; do
        source=$(node_of web)
        target=n$((${source#n} % 4 + 1))
        operation=$(begin POST /v1/partitions/web/migrate -d "{\"target\":\"$target\"}")
        sleep "$delay"
        restart "${!side}"
        what="a migration with the agent of its $side killed after $delay s"
        settle "$what" "$operation"
        check "the guest runs once after $what ($(state_of "$operation"))" wait_until 60 runs_once web
        check "it goes on after $what" goes_on "$web"
        check "it is unbroken after $what" unbroken "$web"
    done
done
operation=$(begin POST /v1/partitions/db-1/stop)
restart "$(node_of db-1)"
settle "a stop with its agent killed" "$operation"
check "db-1 is stopped" wait_until 60 is_in_state db-1 stopped
check "db-1 starts again" expect 200 '.state == "done"' POST '/v1/partitions/db-1/start?wait=60s'
node=$(node_of web)
operation=$(begin DELETE /v1/partitions/web)
restart "$node"
settle "a destroy with its agent killed" "$operation"
for name in db-1 x0 x0.05; do
    check "$name is destroyed" expect 200 '.state == "done"' DELETE "/v1/partitions/$name?wait=60s"
done
check "nothing is left" expect 200 '.items == []' GET /v1/partitions
# A relay that nobody came to ends by itself after a minute.
check "no node has a monitor, a guest or a relay" wait_until 90 no_leftovers
check "no QEMU is left" test "$(qemus '.*')" = 0
check_quiet_logs
check_end
