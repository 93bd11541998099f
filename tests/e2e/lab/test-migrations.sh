#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Twenty live migrations of one guest that counts: none of its numbers may be lost or repeated, and its source must end.
# The functions here are called by name through check and wait_until, which shellcheck can't see:
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tests/support/lab.sh
. tests/support/lab.sh

lab_begin --nodes "n1=r1 n2=r2"
create web web
id=$(partition web .id)
one_runs() { [ $(($(lab exec n1 pgrep -c qemu-system || true) + $(lab exec n2 pgrep -c qemu-system || true))) = 1 ]; }

stream=$dir/stream
: >"$stream"
# Appends to the stream what the guest printed where it ran.
move_once() {
    local k=$1 source target keep operation files
    source=$(node_of web)
    target=n$((3 - ${source#n}))
    keep=$(keep_console web)
    operation=$(vdc partition migrate web --to "$target" --wait -o json) || { echo "$operation"; return 1; }
    if [ "$(jq -r .state <<<"$operation")" != "done" ] || [ "$(node_of web)" != "$target" ]; then
        echo "$operation"
        return 1
    fi
    jq .downtime_ms <<<"$operation" >>"$dir/downtimes"
    kept_files "$keep"
    cat "${files[@]}" >>"$stream"
    wait_until 30 counted "$id" "$target" $((k + 1)) "$(counts "$stream" | tail -n 1)"
}
moves_once_without_loss() {
    move_once "$1" || return 1
    local files
    console_files "$id" "$(node_of web)" $(($1 + 1))
    [ "$(counts "$stream" "${files[@]}" | gap)" = 0 ]
}
for k in $(seq 1 20); do
    check "migration $k loses and repeats no count" moves_once_without_loss "$k"
done
check "only one of all these runs the guest" wait_until 20 one_runs
echo "downtimes in ms: $(tr '\n' ' ' <"$dir/downtimes")"
check_logs
check_end
