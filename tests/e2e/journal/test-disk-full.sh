#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The journal on file systems that are really full: 1 MiB of memory, and 4 MiB of ext4 where a loop device can be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
program=${VDC_BUILD:-build/dev}/tests/journal_disk_full
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# on NAME MOUNT-ARGUMENTS: in a mount namespace of its own, so that nothing is left mounted.
on() {
    local name=$1 status=0
    shift
    unshare --mount --propagation private bash -c 'mnt=$1; program=$2; shift 2; mount "$@" "$mnt" && "$program" "$mnt"' \
        - "$scratch/mnt" "$program" "$@" >"$scratch/out" 2>&1 || status=$?
    sed -n "s/^\(not \)\{0,1\}ok /&$name: /p" "$scratch/out"
    grep -vE '^(not )?ok ' "$scratch/out" || true
    if [ $status != 0 ] && ! grep -q '^not ok ' "$scratch/out"; then
        echo "not ok $name: ended with status $status"
    fi
    ! grep -q '^not ok ' "$scratch/out" && [ $status = 0 ]
}

mkdir "$scratch/mnt"
failed=0
on tmpfs -t tmpfs -o size=1M none || failed=1
truncate -s 4M "$scratch/image"
mkfs.ext4 -q -O '^has_journal' "$scratch/image"
if losetup -f >/dev/null 2>&1; then
    on ext4 -o loop "$scratch/image" || failed=1
else
    echo "ext4: no loop device here, so only tmpfs was looked at"
fi
exit $failed
