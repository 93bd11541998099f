#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The quickstart as a user runs it, with three zone managers and three members of etcd; then what it leaves behind after
# its end, after a crash in the middle, and after a failure.
# The functions here are called by name through check and wait_until, which shellcheck can't see:
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tests/support/check.sh
. tests/support/check.sh

export VDC_BUILD=${VDC_BUILD:-$PWD/build/release}
work=$(mktemp -d "${TMPDIR:-/tmp}/vdc-test-quickstart.XXXXXX")
dir=$work/lab
quickstart() { deploy/quickstart --dir "$dir" "$@"; }
cleanup() {
    quickstart down >/dev/null 2>&1 || true
    if [ "$check_failed" = 1 ]; then
        cp "$work"/*.out "$VDC_BUILD/test-logs/" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT

id=$(printf '%s' "$(realpath -m "$dir")" | sha256sum | cut -c1-8)
nothing_runs() {
    ! grep -lsxz "VDC_LAB=$id" /proc/[0-9]*/environ && ! grep " $dir/" /proc/mounts &&
        [ -z "$(find /sys/fs/cgroup -maxdepth 2 -name "vdc-$id*")" ]
}
result() { # RUN JQ
    tail -n 1 "$work/$1.out" | jq -e "$2" >/dev/null || { tail -n 1 "$work/$1.out" && return 1; }
}
passes() { # RUN ARGUMENTS ...: its steps and times are printed: a person who reads the test's log wants them
    local run=$1
    shift
    quickstart --json "$@" >"$work/$run.out" 2>&1 || { tail -n 5 "$work/$run.out" && return 1; }
}
shown() { grep -v '^{' "$work/$1.out" || true; }
full='.ok == true and .nodes == 4 and .partitions == 4 and .migration_counter_gap == 0'
measured='[.placement_ms, .boot_s, .migration_downtime_ms, .failover_s] | all(type == "number" and . > 0)'
rule='.refused_reason | test("db-apart.*r1.*r2.*r3")'

check "the quickstart passes with three managers and three members of etcd" passes up up --managers 3 --etcd 3
shown up
check "its last line says ok, four nodes, four partitions, no count lost" result up "$full"
check "it has measured" result up "$measured"
check "the refusal names the rule and the racks" result up "$rule"
check "after 'up' it says how to use it, and how to end it" \
    grep -q "$dir/vdc partition list .*/deploy/quickstart down --dir $dir\$" "$work/up.out"
lists() { "$dir/vdc" partition list -o json | jq -e 'length == 4 and all(.status.state == "running")'; }
check "and that works" lists
hub=$(cut -d' ' -f1 "$dir/procs/hub")
check "a second run passes, with one of each" passes run
shown run
check "its last line says ok, too" result run "$full"
check "it has ended the first" test ! -e "/proc/$hub"
check "it leaves nothing running" nothing_runs
check "it leaves no file" test ! -e "$dir"

setsid deploy/quickstart up --dir "$dir" >"$work/crash.out" 2>&1 &
crashed=$!
in_step_2() { grep -q '== 2' "$work/crash.out"; }
check "a third run comes as far as placing partitions" wait_until 120 in_step_2
sleep 2
kill -KILL -- "-$crashed"
wait "$crashed" 2>/dev/null || true
check "down cleans up after a crash" quickstart down
check "nothing of the crashed run is left" nothing_runs

mkdir "$work/bin"
cp "$VDC_BUILD"/bin/* "$work/bin/"
printf '#!/bin/sh\necho "this agent is broken" >&2\nexit 1\n' >"$work/bin/vdc-node-agent"
fails() {
    ! VDC_BUILD=$work quickstart --json >"$work/failure.out" 2>&1
}
check "it fails with a broken program" fails
check "and names the step and where the logs are" bash -c \
    "tail -n 1 '$work/failure.out' | jq -e '.ok == false and (.step | test(\"start\")) and (.logs | length > 0)'"
check "a failure leaves nothing running" nothing_runs
check "but the logs" test -s "$dir/log/agent-n1.log"
check_end
