# SPDX-License-Identifier: Apache-2.0
# Sourced by quickstart and the end-to-end tests: what the guests of a laboratory printed, and what `vdc` says of them.
# $dir is the laboratory's directory; $dir/vdc the command.
# shellcheck shell=bash disable=SC2154

vdc() { "$dir/vdc" "$@"; }

# partition NAME JQ-EXPRESSION
partition() { vdc partition show "$1" -o json | jq -r "$2"; }
node_of() { partition "$1" .status.node; }
rack_of() { vdc node list -o json | jq -r --arg name "$1" '.[] | select(.name == $name) | .spec.rack'; }
# place_of NAME: "n3 (rack r3)".
place_of() {
    local node
    node=$(node_of "$1")
    echo "$node (rack $(rack_of "$node"))"
}
is_placed() { [ "$(partition "$1" .status.node)" != null ]; }
is_in_state() { [ "$(partition "$1" .status.state 2>/dev/null)" = "$2" ]; }
nodes_are() {
    [ "$(vdc node list -o json 2>/dev/null | jq --arg s "$1" '[.[] | select(.status.state == $s)] | length')" = "$2" ]
}
node_is() { [ "$(vdc node show "$1" -o json 2>/dev/null | jq -r .status.state)" = "$2" ]; }
node_is_empty() { [ "$(vdc node show "$1" -o json 2>/dev/null | jq -r .status.partitions)" = 0 ]; }

# console_files ID NODE-PATTERN GENERATION-PATTERN: sets `files` to what the partition's monitors wrote there, oldest
# first. A run folder of a host that lost its power is called NODE.dead-K.
console_files() {
    local folder
    files=()
    # shellcheck disable=SC2086
    for folder in $(printf '%s\n' "$dir"/run/$2/partitions/$1.$3 | sed 's/.*[.]/& /' | sort -k2n | tr -d ' '); do
        [ ! -e "$folder/console.log.1" ] || files+=("$folder/console.log.1")
        [ ! -e "$folder/console.log" ] || files+=("$folder/console.log")
    done
}
# counts FILE ...: the numbers that a guest printed.
counts() {
    cat "$@" /dev/null | tr -d '\r' | sed -n 's/^COUNT \([0-9][0-9]*\)$/\1/p'
}
# Reads numbers; prints how many are missing or repeated. 0 is a guest that never noticed.
gap() {
    awk 'NR > 1 && $1 != last + 1 { d = $1 - last - 1; gap += d < 0 ? -d : d } { last = $1 } END { print gap + 0 }'
}
# last_count ID NODE-PATTERN GENERATION-PATTERN: 0 if it has printed none.
last_count() {
    local files last
    console_files "$@"
    last=$(counts "${files[@]}" | tail -n 1)
    echo "${last:-0}"
}
# counted ID NODE-PATTERN GENERATION-PATTERN MORE-THAN: the guest has printed a number above MORE-THAN.
counted() { [ "$(last_count "$1" "$2" "$3")" -gt "$4" ]; }
