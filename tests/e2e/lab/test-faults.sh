#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Faults under running guests, with three zone managers and real processes: agents, leaders, etcd, links.
# After each the guests run exactly once and no number that one has printed is lost or repeated.
# The functions here are called by name through check and wait_until, which shellcheck can't see:
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tests/support/lab.sh
. tests/support/lab.sh

hosts=(n1 n2 n3)
lab_begin --nodes "n1=r1 n2=r2 n3=r3" --managers 3
create web web
create db-1 db
web=$(partition web .id)
db=$(partition db-1 .id)

qemu_of() { lab exec "$1" pgrep -f "vdc.name=$2 " || true; }
# runs_once NAME: one QEMU in all hosts has it, and that on the node that owns it.
runs_once() {
    local host n=0 owner
    owner=$(node_of "$1") || return 1
    for host in "${hosts[@]}"; do
        if [ -n "$(qemu_of "$host" "$1")" ]; then
            n=$((n + 1))
            [ "$host" = "$owner" ] || return 1
        fi
    done
    [ "$n" = 1 ] && is_in_state "$1" running
}
leader() { vdc zone list -o json | jq -r '.[0].status.leader'; }
has_leader() { [ -n "$(leader 2>/dev/null)" ] && vdc node list >/dev/null 2>&1; }
ended_on() { [ -z "$(qemu_of "$1" "$2")" ]; }
# stands_still ID NODE: what is there of a guest on a node that lost it prints nothing more.
stands_still() {
    local before
    before=$(last_count "$1" "$2" '*')
    sleep 1
    [ "$(last_count "$1" "$2" '*')" = "$before" ]
}
# continues_after KEPT-FOLDER NAME: the guest's present generation began after all that the kept one had printed.
continues_after() {
    local files before after
    kept_files "$1"
    before=$(counts "${files[@]}" | tail -n 1)
    console_files "$(partition "$2" .id)" 'n[0-9]' "$(partition "$2" .status.generation)"
    after=$(counts "${files[@]}" | head -n 1)
    echo "printed there last: ${before:-nothing}, here first: ${after:-nothing}"
    [ "${after:-0}" -gt "${before:-0}" ]
}
goes_on() { # ID: its guest, wherever it is, prints more
    local before
    before=$(last_count "$1" 'n[0-9]' '*')
    wait_until 60 counted "$1" 'n[0-9]' '*' $((before + 3))
}
no_gap() { [ "$(counts "$@" | gap)" = 0 ]; }
whole() { # ID: all that was printed on one node by one generation has no gap
    local files
    console_files "$1" 'n[0-9]' '*'
    no_gap "${files[@]}"
}

# --- an agent that comes back ---

node=$(node_of web)
pid=$(qemu_of "$node" web)
lab agent-kill "$node"
check "a guest goes on counting without its node's agent" goes_on "$web"
lab agent-start "$node"
check "its node is ready again" wait_until 30 node_is "$node" ready
check "the guest is the same process" test "$(qemu_of "$node" web)" = "$pid"
check "it runs once" wait_until 20 runs_once web
check "it goes on counting under the new agent" goes_on "$web"
check "it has lost no count" whole "$web"

# --- an agent that doesn't: its lease ends, so its guest does, and then runs elsewhere ---

node=$(node_of web)
generation=$(partition web .status.generation)
keep=$(keep_console web)
lab agent-kill "$node"
other_owns() { [ "$(node_of web)" != "$node" ] && [ "$(partition web .status.generation)" -gt "$generation" ]; }
check "a node whose agent stays dead loses its guests to another" wait_until 60 other_owns
check "the guest on the old node stands still by then" stands_still "$web" "$node"
check "the guest counts there" goes_on "$web"
check "the guest that stayed behind has ended" wait_until 20 ended_on "$node" web
check "it continues after its last printed count" continues_after "$keep" web
lab agent-start "$node"
check "the node is taken back" wait_until 60 node_is "$node" ready
check "it runs none of the guests that moved" wait_until 30 node_is_empty "$node"
check "the guest runs once" wait_until 20 runs_once web

# --- leaders killed while a migration is under way ---

operation_ended() { [[ $(vdc operation show "$1" -o json 2>/dev/null | jq -r .state) =~ ^(done|failed|cancelled)$ ]]; }
for delay in 0.1 0.4 0.7; do
    source=$(node_of web)
    target=n1
    [ "$source" != n1 ] || target=n2
    keep=$(keep_console web)
    killed=$(leader)
    operation=$(vdc partition migrate web --to "$target" --no-wait -o json | jq -r .id)
    sleep "$delay"
    lab manager-kill "$killed"
    check "after the leader's death ($delay s into a migration) there is another" wait_until 60 has_leader
    check "the migration ends under it" wait_until 90 operation_ended "$operation"
    check "the guest runs once" wait_until 60 runs_once web
    check "it goes on counting" goes_on "$web"
    kept_files "$keep"
    stream=("${files[@]}")
    if [ "$(node_of web)" != "$source" ]; then
        console_files "$web" "$(node_of web)" "$(partition web .status.generation)"
        stream+=("${files[@]}")
    fi
    state=$(vdc operation show "$operation" -o json | jq -r .state)
    check "no count is lost or repeated (the migration: $state)" no_gap "${stream[@]}"
    lab manager-start "$killed"
done
check "a guest that had nothing to do with it was not moved" test "$(partition db-1 .status.generation)" = 1

# --- etcd stopped and started again ---

partitions() { vdc partition list -o json | jq -c '[.[] | [.name, .id]]'; }
before=$(partitions)
lab etcd-stop
check "a guest goes on counting without etcd" goes_on "$db"
vdc partition create late --label app=late --memory 128MiB --timeout 2 >/dev/null 2>&1 && late=0 || late=$?
check "a request during the outage is not acknowledged" test "$late" != 0
lab etcd-start
check "after etcd's return there is a leader" wait_until 60 has_leader
lasting() { [ "$(partitions | jq -c '[.[] | select(.[0] != "late")]')" = "$before" ]; }
check "all partitions are still there" wait_until 30 lasting
check "all nodes are ready" wait_until 60 nodes_are ready 3
check "the guests run once" wait_until 60 runs_once db-1
check "the guests go on counting" goes_on "$db"
check "the guest has lost no count" whole "$db"
check "a partition can be created again" create after-etcd web

# --- a node cut off from the network ---

node=$(node_of db-1)
keep=$(keep_console db-1)
lab link-cut "$node"
moved() { [ "$(node_of db-1 2>/dev/null)" != "$node" ]; }
check "a node that is cut off loses its guests to another" wait_until 60 moved
check "the guest on it stands still by then" stands_still "$db" "$node"
check "that guest has ended" wait_until 20 ended_on "$node" db-1
check "the guest counts on the other node" goes_on "$db"
check "it continues after its last printed count" continues_after "$keep" db-1
lab link-mend "$node"
check "the node returns" wait_until 60 node_is "$node" ready
check "the guest runs once" wait_until 30 runs_once db-1
check_logs
check_end
