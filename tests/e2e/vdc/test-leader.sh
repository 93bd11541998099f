#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Leaders killed at several moments of a migration, and one that is suspended: a new leader finishes or aborts the
# migration, and the guest runs exactly once and never notices.
# The functions here are called by name through check and wait_until, which shellcheck can't see:
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tests/support/lab.sh
. tests/support/lab.sh
# shellcheck source=tests/e2e/vdc/common.sh
. tests/e2e/vdc/common.sh

lab_begin --managers 2
create web web
id=$(partition web .id)

# migrate_to NODE: begins it, sets $operation.
migrate_to() {
    operation=$(rest "$(any_manager)" POST /v1/partitions/web/migrate -d "{\"target\":\"$1\"}" | jq -r .id)
}
next_node() { echo "n$(($(node_of web | tr -d n) % 4 + 1))"; }
settled() { # of the migration that was disturbed
    [[ $(state_of "$operation") =~ ^(done|failed)$ ]] && is_in_state web running && runs_once web
}
place_is_right() { # done: the target, failed: the source
    local at
    at=$(node_of web)
    echo "migration $(state_of "$operation"), source $source, target $target, it is on $at"
    case $(state_of "$operation") in
        done) [ "$at" = "$target" ] ;;
        *) [ "$at" = "$source" ] ;;
    esac
}
check_after() { # WHEN
    check "the migration ends under the new leader ($1)" wait_until 120 ended "$operation"
    check "the guest runs once, where its record says ($1)" wait_until 60 settled
    check "that is where the operation's end says ($1)" place_is_right
    check "the guest goes on ($1)" goes_on "$id"
    check "it printed each count once, in order ($1)" unbroken "$id"
    check "records, databases and processes agree ($1)" wait_until 60 consistent
}

for delay in 0.00 0.06 0.12 0.20 0.30 0.90; do
    source=$(node_of web)
    target=$(next_node)
    first=$(leader)
    migrate_to "$target"
    sleep "$delay"
    lab manager-kill "$first"
    check "another manager leads (killed after $delay s)" wait_until 60 led
    check_after "killed after $delay s: $(state_of "$operation")"
    lab manager-start "$first"
done

# A leader that stands still longer than its lease, in the middle of a migration, and wakes as if nothing had happened.
source=$(node_of web)
target=$(next_node)
first=$(leader)
other=$(other_manager "$first")
pid=$(cut -d' ' -f1 "$dir/procs/$first")
migrate_to "$target"
sleep 0.1
kill -STOP "$pid"
other_leads() { expect_from "$other" 200 ".status.leader == \"$other\"" GET /v1/zones/prod >/dev/null 2>&1; }
check "another manager leads when the leader stands still" wait_until 60 other_leads
sleep 6
check "a change is made meanwhile" expect_from "$other" 200 '.state == "done"' POST '/v1/partitions?wait=60s' \
    -d '{"name":"late","class":"gold","memory":"128MiB"}'
generation=$(rest "$other" GET /v1/partitions/web | jq .status.generation)
kill -CONT "$pid"
follows() { expect_from "$first" 200 ".status.leader == \"$other\"" GET /v1/zones/prod; }
check "the old leader follows when it wakes" wait_until 30 follows
sleep 3
check_after "suspended: $(state_of "$operation")"
late_id=$(partition late .id)
check "what was made meanwhile runs" wait_until 60 goes_beyond "$late_id" 3
check "it runs once" runs_once late
check "the waking leader moved nothing" test "$(partition web .status.generation)" = "$generation"
check "the other one still leads" leads "$other"
check_quiet_logs
check_end
