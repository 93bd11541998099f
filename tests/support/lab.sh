# SPDX-License-Identifier: Apache-2.0
# Sourced by end-to-end scripts that need a running virtual data center; the script's working directory is the
# project's root. Gives check, wait_until (check.sh), the readers of guests.sh, and
#
#   lab_begin [OPTIONS of lab up]   starts one in a directory of its own ($dir), applies the example policy and waits for
#                                   its nodes; ends it when the script ends, and keeps its logs if a check failed
#   lab ...                         deploy/lab for it
#   create NAME APP                 a partition of 128 MiB with a disk; waits until its guest counts
#
# Programs are taken from $VDC_BUILD/bin (set by tests/run).
# shellcheck shell=bash
# shellcheck source=tests/support/check.sh
. tests/support/check.sh
# shellcheck source=deploy/guests.sh
. deploy/guests.sh

lab() { deploy/lab --dir "$dir" "$@"; }

lab_end() {
    local status=$? options=()
    if [ "$check_failed" = 1 ] || [ $status != 0 ]; then
        options=(--keep-logs)
    fi
    lab down "${options[@]}" || true
    if [ ${#options[@]} -gt 0 ]; then
        rm -rf "$lab_kept"
        mkdir -p "$lab_kept"
        cp -r "$dir/log/." "$lab_kept/" && echo "logs are in $lab_kept"
    fi
    rm -rf "$lab_work"
    exit $status
}

lab_begin() {
    local policy=deploy/examples/prod.policy.yaml
    lab_work=$(mktemp -d "${TMPDIR:-/tmp}/vdc-test.XXXXXX")
    lab_kept=${VDC_BUILD:-$PWD/build/release}/test-logs/$(basename "$0" .sh)
    dir=$lab_work/lab
    trap lab_end EXIT
    trap 'exit 1' INT TERM
    deploy/guest-image
    lab up "$@"
    wait_until 60 lab curl /v1/zones --max-time 2 -o /dev/null
    wait_until 60 vdc policy apply "$policy" --wait
    wait_until 60 nodes_are ready "$(find "$dir/etc" -name 'n*.yaml' | wc -l)"
}

create() {
    vdc partition create "$1" --label "app=$2" --class gold --vcpus 1 --memory 128MiB --disk 16MiB --wait >/dev/null
    wait_until 120 counted "$(partition "$1" .id)" 'n[0-9]' '*' 0
}
