#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The REST API and the vdc command against real daemons: what a client may get wrong, retries with a key, policies that
# must be refused with the place of the mistake, and the life of one partition.
# The functions here are called by name through check and wait_until, which shellcheck can't see:
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tests/support/lab.sh
. tests/support/lab.sh

lab_begin --nodes "n1=r1 n2=r2"

# answers STATUS-EXPRESSION JQ-CONDITION METHOD PATH [BODY [HEADER ...]]
answers() {
    local status=$1 condition=$2
    shift 2
    api "$@" || { echo "curl failed"; return 1; }
    if ! [[ $api_status =~ ^($status)$ ]]; then
        echo "status $api_status: $api_body"
        return 1
    fi
    jq -e "$condition" <<<"$api_body" >/dev/null || { echo "not $condition: $api_body"; return 1; }
}
good='{"name":"one","class":"gold","labels":{"app":"web"},"memory":"128MiB","disk":"16MiB"}'

check "a truncated body is refused with its place" \
    answers 400 '.errors[0].line >= 1 and .title and .status == 400' POST /v1/partitions '{"name": "a", '
check "a body that is no JSON is refused" answers 400 '.detail | test("not JSON")' POST /v1/partitions 'hello'
check "an array is refused" answers 400 '.detail | test("object")' POST /v1/partitions '[]'
check "an unknown field is refused by name" \
    answers 400 'any(.errors[]; .message | test("memmory"))' POST /v1/partitions '{"name":"a","memmory":"128MiB"}'
check "each mistake is named" answers 400 '.errors | length >= 3' POST /v1/partitions \
    '{"name":"A b","memory":"lots","vcpus":-1}'
check "a duplicate field is refused" answers 400 '.status == 400' POST /v1/partitions '{"name":"a","name":"b"}'
head -c 20000000 /dev/zero | tr '\0' ' ' >"$dir/large"
check "a body that is too large is refused" answers 413 '.status == 413' POST /v1/partitions "@$dir/large"
check "an unknown partition is not found" answers 404 '.detail | test("nothing-here")' GET /v1/partitions/nothing-here
check "an unknown path is not found" answers 404 '.status == 404' GET /v1/nonsense
check "a method that a path lacks is refused" answers 405 '.status == 405' PUT /v1/nodes '{}'
check "an unknown class is refused" answers 400 '.detail | test("platinum")' POST /v1/partitions \
    '{"name":"a","class":"platinum","memory":"128MiB"}'
check "what fits nowhere is refused with the verdict and the numbers" \
    answers 409 '.verdict | test("memory")' POST /v1/partitions '{"name":"huge","class":"gold","memory":"64GiB"}'

check "a partition is created" answers 202 '.kind == "create"' POST /v1/partitions "$good" 'idempotency-key: key-1'
first=$(lab curl /v1/partitions/one | jq -r .id)
operation=$(lab curl /v1/operations | jq -r '[.items[] | select(.kind == "create" and .partition == "one")][0].id')
# 200 once the operation has ended.
check "the same key and body get the first answer" \
    answers '200|202' ".id == \"$operation\"" POST /v1/partitions "$good" 'idempotency-key: key-1'
check "the same key with another body is a conflict" \
    answers 409 '.status == 409' POST /v1/partitions "${good/128MiB/256MiB}" 'idempotency-key: key-1'
check "a name that is taken is a conflict" answers 409 '.detail | test("one")' POST /v1/partitions "$good"
check "there is one partition still" answers 200 '.items | length == 1' GET /v1/partitions
counts_on() { wait_until 90 counted "$first" 'n[0-9]' '*' "${1:-0}"; }
check "its guest counts" counts_on
check "its console can be read" bash -c "'$dir/vdc' partition console one | grep -q 'GUEST UP name=one'"
check "its placement is explained" bash -c "'$dir/vdc' partition explain one | grep -q 'placed on'"
second='{"name":"two","class":"batch","memory":"64MiB"}'
check "with ?wait= the finished operation is answered" \
    answers 200 '.state == "done"' POST '/v1/partitions?wait=60s' "$second"
page() { lab curl "/v1/partitions?limit=1${1:+&cursor=$1}"; }
pages() {
    local one two
    one=$(page)
    two=$(page "$(jq -r .next_cursor <<<"$one")")
    [ "$(jq -r '.items[0].name' <<<"$one")$(jq -r '.items[0].name' <<<"$two")" = onetwo ] &&
        [ "$(jq -r .next_cursor <<<"$two")" = null ]
}
check "a list is given in pages" pages
check "a limit that is none is refused" answers 400 '.status == 400' GET '/v1/partitions?limit=many'

check "a partition is stopped" vdc partition stop one --wait
no_guest() { ! lab exec n1 pgrep -f 'vdc.name=one ' && ! lab exec n2 pgrep -f 'vdc.name=one '; }
check "its guest has ended" wait_until 10 no_guest
last=$(last_count "$first" 'n[0-9]' '*')
check "it is started again" vdc partition start one --wait
check "it goes on after its last count" counts_on "$last"
check "it is destroyed" vdc partition destroy one --wait
check "then it is not found" answers 404 '.status == 404' GET /v1/partitions/one
check "its name is free again" answers 202 '.kind == "create"' POST /v1/partitions "$good"

# --- who may ask ---

stranger() { ! lab exec hub curl --silent --cacert "$dir/pki/ca.pem" --noproxy '*' https://10.77.0.1:7443/v1/nodes; }
check "a client without a certificate gets nothing" stranger
node_asks() {
    local status
    status=$(lab exec hub curl --silent --cacert "$dir/pki/ca.pem" --cert "$dir/pki/n1.pem" --key "$dir/pki/n1.key" \
        --noproxy '*' -o /dev/null -w '%{http_code}' -X POST -H 'content-type: application/json' \
        --data-binary "$second" https://10.77.0.1:7443/v1/partitions) || true
    [ "$status" = 403 ] || [ "$status" = 000 ] || { echo "status $status"; return 1; }
}
check "a node's certificate may not create partitions" node_asks

# --- policies that must be refused, with the place ---

# refused_at LINE:COLUMN WORDS SED-EXPRESSION: the example policy with a change
refused_at() {
    local output
    sed "$3" deploy/examples/prod.policy.yaml >"$dir/bad.policy.yaml"
    output=$(vdc policy lint "$dir/bad.policy.yaml" 2>&1) && { echo "lint took it"; return 1; }
    grep -q "bad.policy.yaml:$1.*$2" <<<"$output" || { echo "$output"; return 1; }
    output=$(vdc policy apply "$dir/bad.policy.yaml" 2>&1) && { echo "apply took it"; return 1; }
    grep -q "$2" <<<"$output" || { echo "$output"; return 1; }
}
line_of() { grep -n -m1 "$1" deploy/examples/prod.policy.yaml | cut -d: -f1; }
check "a policy with an unknown field is refused with its place" \
    refused_at "$(line_of 'strategy:')" 'stratgy' 's/^  strategy:/  stratgy:/'
check "a policy with a duplicate key is refused with its place" \
    refused_at "$(($(line_of '^zone: prod') + 1))" 'zone' 's/^zone: prod/zone: prod\nzone: other/'
check "a policy with a bad rule is refused with its place" refused_at "$(line_of 'apart: rack')" 'apart' \
    's/apart: rack/apart: planet/'
check "an expression with an unknown attribute is refused" \
    refused_at "$(line_of 'partition.labels.app == "db"')" 'lables' 's/partition.labels.app == "db"/partition.lables.app == "db"/'
version() { vdc zone list -o json | jq '.[0].policy_version'; }
check "the policy in force is still the first" test "$(version)" = 1

# --- a manager that begins while the store is away ---

lab etcd-stop
lab manager-kill m1
lab manager-start m1
check "a manager that hasn't read the store says so, not that there is no zone" \
    wait_until 20 answers 503 '.detail | test("store")' GET /v1/partitions
lab etcd-start
check "it answers once it has" wait_until 60 answers 200 '.items | length > 0' GET /v1/partitions
check_logs
check_end
