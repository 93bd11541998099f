#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Real node agents under a manager that does what the test tells it: joining, guests, the agent's death, migration,
# monitors' death, fencing, leases, destroying. Needs root. VDC_BUILD is the build folder. KEEP=1 keeps the logs.
set -euo pipefail

build=${VDC_BUILD:?is the build folder}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../../.." && pwd)
if ! "$project/deploy/guest-image" >&2; then
    echo "not ok agent guest image: deploy/guest-image failed"
    exit 1
fi
# The run directories must be on a tmpfs.
work=$(mktemp -d /dev/shm/vdc-e2e-agent.XXXXXX)

# What a failed run left: processes whose command line names its directory, and nothing else.
clean() {
    local proc
    for proc in /proc/[0-9]*; do
        if [ "${proc#/proc/}" != $$ ] && { tr '\0' ' ' <"$proc/cmdline"; } 2>/dev/null | grep -qF "$work/"; then
            kill -KILL "${proc#/proc/}" 2>/dev/null || true
        fi
    done
    [ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap clean EXIT
mkdir "$work/shared"
"$project/deploy/pki" "$work/pki" --node n1 n2 --manager m1,127.0.0.1 >&2
status=0
"$build/tests/e2e_agent" "$build/bin" "$work/pki" "$project/build/guest" "$work" "$@" || status=$?
if [ $status != 0 ]; then
    tail -n 60 "$work"/*.log >&2
fi
exit $status
