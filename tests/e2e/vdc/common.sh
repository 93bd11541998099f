# SPDX-License-Identifier: Apache-2.0
# Sourced by the end-to-end tests of the whole virtual data center, after tests/support/lab.sh: raw requests to one
# manager, who leads, what runs where, and the whole history of a guest's console.
#
#   rest MANAGER METHOD PATH [CURL-ARGS ...]   one request; body on stdout, head in $dir/head, status in $dir/status
#   expect STATUS JQ METHOD PATH [CURL-ARGS]   true if the first manager that runs answers so; errors must be problems
#   expect_from MANAGER STATUS JQ ...          the same, of a certain manager
#   leader                                     name of the manager that leads zone prod, as another one may say
#   history ID                                 the counts that a guest printed on all nodes, by generation, then age
#   continuous ID, unbroken ID                 whether they have no hole and no repetition; never started again either
#   resumed_after ID LAST                      whether a guest that has started again goes on where it was
#   runs_once NAME, no_leftovers               what runs where
#   check_quiet_logs                           a check: no sanitizer report, no failed assertion in any log
#
# Functions are called by name through check and wait_until, which shellcheck can't see.
# shellcheck shell=bash disable=SC2154,SC2317

rest() {
    local manager=$1 method=$2 path=$3
    shift 3
    rm -f "$dir/status" "$dir/head" "$dir/body"
    lab exec hub curl --silent --show-error --noproxy '*' --max-time 60 --cacert "$dir/pki/ca.pem" \
        --cert "$dir/pki/admin.pem" --key "$dir/pki/admin.key" -D "$dir/head" -X "$method" \
        -w '%{http_code}' -o "$dir/body" "$@" "https://10.77.0.${manager#m}:7443$path" >"$dir/status" || return
    cat "$dir/body"
}

# header NAME: of the last answer.
header() { tr -d '\r' <"$dir/head" | sed -n "s/^$1: //Ip" | head -n 1; }

# The first manager of the lab that runs.
any_manager() {
    local k
    for k in 1 2 3; do
        if runs "m$k"; then
            echo "m$k"
            return
        fi
    done
}
# runs NAME: a process that the lab has recorded (m1, e1, agent-n1, n1).
runs() {
    local pid
    read -r pid _ 2>/dev/null <"$dir/procs/$1" && kill -0 "$pid" 2>/dev/null
}

expect_from() {
    local manager=$1 status=$2 filter=$3 answer
    shift 3
    answer=$(rest "$manager" "$@") || return
    echo "$(cat "$dir/status") $answer"
    [ "$(cat "$dir/status")" = "$status" ] || return 1
    if [ "$status" -ge 400 ]; then
        [ "$(header content-type)" = application/problem+json ] || return 1
        jq -e --argjson status "$status" '.status == $status and (.type, .title, .detail | length > 0)' \
            <<<"$answer" >/dev/null || return 1
    fi
    jq -e "$filter" <<<"$answer" >/dev/null
}
expect() { expect_from "$(any_manager)" "$@"; }

leader() { rest "$(any_manager)" GET /v1/zones/prod | jq -r '.status.leader // ""'; }
leads() { [ "$(leader 2>/dev/null)" = "$1" ]; }
# The zone has a leader that runs and answers for it.
led() {
    runs "$(leader 2>/dev/null)" && expect 200 true GET '/v1/partitions?limit=1' >/dev/null 2>&1
}
other_manager() { echo "m$((3 - ${1#m}))"; }

# kill_leader: its name is in $killed, and another leads when it returns.
kill_leader() {
    killed=$(leader)
    lab manager-kill "$killed"
    wait_until 60 led
}

# replicas_equal: the leader's replica of each node that is there equals the node's own database.
replicas_equal() {
    vdc node list -o json | jq -e '[.[] | select(.status.connected)] | length > 0 and all(.status.allocation.equal)' \
        >/dev/null
}

# qemus NAME [NODE ...]: how many QEMU processes run a partition, over all hosts that are up.
qemus() {
    local name=$1 node n=0
    shift
    [ $# -gt 0 ] || set -- n1 n2 n3 n4
    for node in "$@"; do
        if runs "$node"; then
            n=$((n + $(lab exec "$node" pgrep -fc "^qemu.* guest=$name," || true)))
        fi
    done
    echo $n
}
# qemu_of NAME NODE: its pid there.
qemu_of() { lab exec "$2" pgrep -f "^qemu.* guest=$1,"; }
# runs_once NAME: one QEMU, and it is where the record says.
runs_once() {
    echo "$(qemus "$1") of $1 on all nodes, $(qemus "$1" "$(node_of "$1")") where its record says"
    [ "$(qemus "$1")" = 1 ] && [ "$(qemus "$1" "$(node_of "$1")")" = 1 ]
}
# No relay is left on any node, and each monitor has its QEMU.
no_leftovers() {
    local node monitors guests relays bad=0
    for node in n1 n2 n3 n4; do
        runs "$node" || continue
        monitors=$(lab exec "$node" pgrep -fc '^[^ ]*/vdc-monitor ' || true)
        guests=$(lab exec "$node" pgrep -fc '^qemu-system' || true)
        relays=$(lab exec "$node" pgrep -fc '^[^ ]*/vdc-relay ' || true)
        echo "$node: $monitors monitors, $guests guests, $relays relays"
        [ "$monitors" = "$guests" ] && [ "$relays" = 0 ] || bad=1
    done
    return $bad
}
# node_counts_right: each node's database has as many partitions as the zone's records say.
node_counts_right() {
    local records nodes
    records=$(vdc partition list -o json | jq -c '[.[].status.node] | group_by(.) | map({(.[0]): length}) | add // {}')
    nodes=$(vdc node list -o json | jq -c '[.[] | select(.status.connected) | select(.status.allocation.partitions > 0)
        | {(.name): .status.allocation.partitions}] | add // {}')
    echo "records $records, databases $nodes"
    [ -n "$records" ] && [ "$records" = "$nodes" ]
}

# A directory ID.GENERATION stays readable after its guest has left; a power cut's is in NODE.dead-K.
console_list() { # ID: "GENERATION AGE FILE"
    local file folder
    for file in "$dir"/run/n[0-9]*/partitions/"$1".*/console.log{.1,}; do
        [ -s "$file" ] || continue
        folder=$(dirname "$file")
        echo "${folder##*.} $(stat -c %Y "$file") $file"
    done
}
history_lines() {
    # As one stream: a hand-over may cut a line in two. A guest that was killed in the middle of one starts a new one.
    console_list "$1" | sort -s -k1n -k2n | while read -r _ _ file; do
        cat "$file"
    done | tr -d '\r' | sed 's/GUEST UP/\n&/' | grep -aE '^(COUNT [0-9]+|GUEST UP .*)$' || true
}
history() { history_lines "$1" | sed -n 's/^COUNT //p'; }
# continuous ID: no count that was ever printed is lost or repeated. A guest that starts again may skip one: it was on
# its disk before it could be printed.
continuous() {
    history_lines "$1" | awk '
        /^GUEST UP/ { up = 1; ups++; next }
        n > 0 && $2 != last + 1 && !(up && $2 == last + 2) { print "after " last " came " $2; bad++ }
        { last = $2; n++; up = 0 }
        END { print n + 0 " counts, " ups + 0 " starts, " bad + 0 " breaks"; exit bad > 0 || n == 0 }'
}
# resumed_after ID LAST: it has started again, and its first count then is the one after LAST (or one further: see above).
resumed_after() {
    history_lines "$1" | awk -v last="$2" '
        /^GUEST UP/ { first = ""; next }
        first == "" { first = $2 }
        END { print "printed last: " last ", first then: " first; exit !(first == last + 1 || first == last + 2) }'
}
# unbroken ID: it has also never started again.
unbroken() { continuous "$1" && [ "$(history_lines "$1" | grep -c '^GUEST UP')" = 1 ]; }
# goes_on ID: prints more counts than it has.
goes_on() {
    local last
    last=$(history "$1" | tail -n 1)
    wait_until 60 goes_beyond "$1" "${last:-0}"
}
goes_beyond() {
    local last
    last=$(history "$1" | tail -n 1)
    [ "${last:-0}" -gt "$2" ]
}

sanitizer_reports() {
    grep -rlsE 'Sanitizer|runtime error: |this must hold but does not|out of memory: ' "$dir/log" "$dir"/run/n*/partitions --include='*.log' |
        grep -v '/console' || true
}
quiet_logs() {
    local file reports
    reports=$(sanitizer_reports)
    for file in $reports; do
        echo "$file: $(grep -m 1 -E 'Sanitizer|runtime error: |this must hold but does not|out of memory: ' "$file")"
    done
    [ -z "$reports" ]
}
ended() { expect 200 '.state | IN("done", "failed", "cancelled")' GET "/v1/operations/$1" >/dev/null 2>&1; }
state_of() { rest "$(any_manager)" GET "/v1/operations/$1" | jq -r .state; }
# consistent: after a fault records, databases and reality agree.
consistent() { led && no_leftovers && node_counts_right && replicas_equal; }

check_quiet_logs() {
    check "no program reported a sanitizer's finding or a failed assertion" quiet_logs
}
