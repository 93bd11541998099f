#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Real monitors with real QEMU and the laboratory's guest: boot, stop, leases, faults, migration.
# Needs root. VDC_BUILD is the build folder.
set -euo pipefail

build=${VDC_BUILD:?is the build folder}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$here/../../.." && pwd)
if ! "$project/deploy/guest-image" >&2; then
    echo "not ok monitor guest image: deploy/guest-image failed"
    exit 1
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/vdc-e2e-monitor.XXXXXX")
# A deep path on purpose: longer than a unix socket's address, as laboratories below a home may be.
deep=$work/a-directory-name-that-is-long/and-another-one-below-it/so-that-a-socket-path-is-too-long
mkdir -p "$deep"
trap 'rm -rf "$work"' EXIT
"$build/tests/e2e_monitor" "$build/bin/vdc-monitor" "$project/build/guest/vmlinuz" \
    "$project/build/guest/initrd.img" "$deep" "$@"
