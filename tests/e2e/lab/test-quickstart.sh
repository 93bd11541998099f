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
result() { tail -n 1 "$work/quickstart.out" | jq -e "$1" >/dev/null; }

check "the quickstart passes" bash -c "deploy/quickstart --dir '$dir' --managers 3 --etcd 3 --json \
    >'$work/quickstart.out' 2>&1 || { tail -n 5 '$work/quickstart.out'; exit 1; }"
grep -v '^{' "$work/quickstart.out" || true
check "its last line says ok" result '.ok == true'
check "four nodes and four partitions" result '.nodes == 4 and .partitions == 4'
check "no count was lost by migration" result '.migration_counter_gap == 0'
check "it has measured" result \
    '[.placement_ms, .boot_s, .migration_downtime_ms, .failover_s] | all(type == "number" and . > 0)'
check "the refusal names the rule and the racks" result '.refused_reason | test("db-apart.*r1.*r2.*r3")'
check "it leaves nothing running" nothing_runs
check "it leaves no file" test ! -e "$dir"

setsid deploy/quickstart up --dir "$dir" >"$work/crash.out" 2>&1 &
crashed=$!
in_step_2() { grep -q '== 2' "$work/crash.out"; }
check "a second run comes as far as placing partitions" wait_until 120 in_step_2
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
