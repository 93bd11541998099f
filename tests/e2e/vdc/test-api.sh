#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The REST API by raw requests, with two managers and four nodes: bad input, who may ask, idempotency keys through a
# change of leader, lists by pages, waiting, forwarding, policies that are refused.
# The functions here are called by name through check and wait_until, which shellcheck can't see:
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tests/support/lab.sh
. tests/support/lab.sh
# shellcheck source=tests/e2e/vdc/common.sh
. tests/e2e/vdc/common.sh

lab_begin --managers 2
policy=deploy/examples/prod.policy.yaml
json='content-type: application/json'
yaml='content-type: application/yaml'

# --- bodies ---

create=(POST /v1/partitions -H "$json" --data-binary)
check "truncated JSON is 400 with line and column" expect 400 '.code == "INVALID" and .errors[0].line == 1 and
    .errors[0].column == 8' "${create[@]}" '{"name":'
check "what is not JSON is 400" expect 400 '.code == "INVALID"' "${create[@]}" 'hello'
check "JSON with something after it is 400" expect 400 '.code == "INVALID"' "${create[@]}" '{"name":"a"} {}'
check "a duplicate key is 400" expect 400 '.detail | test("duplicate")' "${create[@]}" '{"name":"a","name":"b"}'
check "an array is 400" expect 400 '.detail | test("not an object")' "${create[@]}" '[]'
check "no body is 400" expect 400 '.code == "INVALID"' "${create[@]}" ''
check "deep nesting is 400" expect 400 '.code == "INVALID"' "${create[@]}" \
    "{\"name\":$(printf '[%.0s' $(seq 1 5000))"
check "bytes that are not UTF-8 are 400" expect 400 '.code == "INVALID"' "${create[@]}" $'{"name":"\xff\xfe"}'
head -c 4194305 /dev/zero | tr '\0' ' ' >"$dir/large"
check "a body above 4 MiB is 413" expect 413 true "${create[@]}" "@$dir/large"
check "an unknown field is named, with a hint" expect 400 '[.errors[] | select(.pointer == "/memroy")][0].message |
    test("unknown field.*did you mean \"memory\"")' "${create[@]}" '{"name":"a","memroy":"1GiB"}'
check "every field of a wrong type is named" expect 400 '[.errors[].pointer] | sort ==
    ["/labels", "/memory", "/name", "/vcpus"]' "${create[@]}" '{"name":5,"memory":12,"vcpus":"two","labels":[]}'
long=$(printf '\u00fc%.0s' $(seq 1 200))
check "an unknown field with a long name is not passed over" expect 400 '.errors | length == 1' "${create[@]}" \
    "{\"name\":\"a\",\"memory\":\"128MiB\",\"class\":\"gold\",\"x$long\":1}"
check "a label that is no text is named" expect 400 '.errors[0].pointer == "/labels/n"' "${create[@]}" \
    '{"name":"a","memory":"128MiB","labels":{"n":1}}'
labels=$(seq 1 33 | jq -cs 'map({key: "k\(.)", value: "v"}) | from_entries')
check "33 labels are above the limit" expect 400 '.errors[0].message | test("33 labels, the limit is 32")' \
    "${create[@]}" "{\"name\":\"a\",\"memory\":\"128MiB\",\"labels\":$labels}"
check "a name that is none is 400" expect 400 '.errors[0].pointer == "/name"' "${create[@]}" \
    '{"name":"-A/","memory":"128MiB"}'
check "a quantity with an unknown unit is 400" expect 400 '.errors[0].pointer == "/memory"' "${create[@]}" \
    '{"name":"a","memory":"12parsecs"}'
check "more memory than any machine has is 400" expect 400 '.errors[0].pointer == "/memory"' "${create[@]}" \
    '{"name":"a","memory":"999999TiB"}'
check "a class that the policy hasn't is 400" expect 400 '.detail | test("platinum")' "${create[@]}" \
    '{"name":"a","memory":"128MiB","class":"platinum"}'
check "a zone that doesn't exist is 404" expect 404 '.detail | test("mars")' "${create[@]}" \
    '{"name":"a","memory":"128MiB","zone":"mars"}'
check "nothing of all this made a partition" expect 200 '.items == []' GET /v1/partitions

# --- paths, methods, queries ---

check "an unknown partition is 404" expect 404 '.code == "NOT_FOUND" and (.detail | test("nope"))' \
    GET /v1/partitions/nope
check "to destroy an unknown partition is 404" expect 404 '.code == "NOT_FOUND"' DELETE /v1/partitions/nope
check "to migrate an unknown partition is 404" expect 404 '.code == "NOT_FOUND"' POST /v1/partitions/nope/migrate
check "the console of an unknown partition is 404" expect 404 '.code == "NOT_FOUND"' GET /v1/partitions/nope/console
check "an unknown node is 404" expect 404 '.code == "NOT_FOUND"' GET /v1/nodes/n9
check "an unknown operation is 404" expect 404 '.code == "NOT_FOUND"' \
    GET /v1/operations/00000000-0000-4000-8000-000000000000
check "an unknown zone is 404" expect 404 '.code == "NOT_FOUND"' GET /v1/zones/mars
check "an unknown path is 404" expect 404 '.code == "NOT_FOUND"' GET /v1/planets
check "another version of the API is 404" expect 404 '.code == "NOT_FOUND"' GET /v2/nodes
check "an unknown query parameter is 400" expect 400 '.detail | test("colour")' GET '/v1/partitions?colour=red'
encoded=$(printf '%%C3%%BC%.0s' $(seq 1 200))
check "a long path of other letters is 404" expect 404 '.code == "NOT_FOUND"' GET "/v1/x$encoded"
check "a long query parameter of other letters is 400" expect 400 '.code == "INVALID"' GET "/v1/nodes?x$encoded=1"
check "a limit of 0 is 400" expect 400 '.detail | test("limit")' GET '/v1/partitions?limit=0'
check "a limit above 1000 is 400" expect 400 '.detail | test("limit")' GET '/v1/partitions?limit=1001'
check "a cursor that no list gave is 400" expect 400 '.detail | test("cursor")' GET '/v1/operations?cursor=x'
check "a time to wait that is none is 400" expect 400 '.detail | test("wait")' POST '/v1/partitions?wait=soon' -d \
    '{"name":"a","memory":"128MiB","class":"gold"}'
check "a wrong method is 405" expect 405 true PATCH /v1/partitions
allows() { expect 405 true "$2" "$1" && [ "$(header allow)" = "$3" ]; }
check "the answer to a wrong method says which are right" allows /v1/partitions/a/start GET POST
check "the same of a partition" allows /v1/partitions/a PUT "GET, DELETE"
long=$(printf 'x%.0s' $(seq 1 20000))
check "a head above its limit is 431" expect 431 true GET /v1/nodes -H "x-long: $long"

# --- who asks ---

hub_curl() { lab exec hub curl -sS --noproxy '*' --max-time 10 --cacert "$dir/pki/ca.pem" "$@" -o "$dir/body"; }
as_nobody() { ! hub_curl https://10.77.0.1:7443/v1/nodes 2>"$dir/error" && grep -q 'certificate required' "$dir/error"; }
as_stranger() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$dir/self.key" -out "$dir/self.pem" \
        -days 1 -subj /CN=admin -addext subjectAltName=URI:vdc://user/admin 2>/dev/null
    ! hub_curl --cert "$dir/self.pem" --key "$dir/self.key" https://10.77.0.1:7443/v1/nodes 2>"$dir/error"
}
check "who has no certificate gets no connection" as_nobody
check "who has made a certificate alone gets none" as_stranger
check "a node's certificate is 403" expect 403 '.code == "FORBIDDEN" and (.detail | test("vdc://node/n1"))' \
    GET /v1/nodes --cert "$dir/pki/n1.pem" --key "$dir/pki/n1.key"
check "a node's certificate makes no partition" expect 403 '.code == "FORBIDDEN"' "${create[@]}" \
    '{"name":"a","class":"gold","memory":"128MiB"}' --cert "$dir/pki/n1.pem" --key "$dir/pki/n1.key"

# --- keys ---

keyed() { # KEY BODY [WAIT]: prints "STATUS OPERATION-ID-OR-CODE"
    local answer
    answer=$(rest "$(any_manager)" POST "/v1/partitions${3:+?wait=$3}" -H "$json" -H "idempotency-key: $1" -d "$2")
    echo "$(cat "$dir/status") $(jq -r '.id // .code' <<<"$answer")"
}
body() {
    jq -cn --arg name "$1" --arg app "$2" '{$name, class: "gold", memory: "128MiB", disk: "16MiB", labels: {$app}}'
}
same() {
    echo "first $1, again $2"
    [ "$1" = "$2" ]
}
keyed key-1 "$(body db-1 db)" 60s >"$dir/first"
check "a create with a key is done" grep -qE '^200 [0-9a-f-]{36}$' "$dir/first"
check "the same again is the same operation" same "$(cat "$dir/first")" "$(keyed key-1 "$(body db-1 db)" 60s)"
check "the same key with another body is 409" expect 409 '.code == "CONFLICT" and .request_id == "key-1"' \
    "${create[@]}" "$(body db-9 db)" -H 'idempotency-key: key-1'
check "an empty key is 400" expect 400 '.detail | test("Idempotency-Key")' "${create[@]}" "$(body a b)" \
    -H 'idempotency-key;'
check "a key of 128 bytes is 400" expect 400 '.detail | test("Idempotency-Key")' "${create[@]}" "$(body a b)" \
    -H "idempotency-key: $(printf 'k%.0s' $(seq 1 128))"
check "the same name again is 409" expect 409 '.code == "EXISTS"' "${create[@]}" "$(body db-1 db)"
for k in 2 3; do
    keyed "key-$k" "$(body "db-$k" db)" 60s >"$dir/db-$k"
    check "db-$k is created" grep -q '^200 ' "$dir/db-$k"
done
# A guest that still boots doesn't see the power button that `stop` presses.
for k in 1 2 3; do
    check "db-$k counts" wait_until 120 goes_beyond "$(partition "db-$k" .id)" 0
done
refusal() { # prints the verdict of the fourth database
    rest "$(any_manager)" POST /v1/partitions -H "$json" -H 'idempotency-key: key-4' -d "$(body db-4 db)" |
        jq -r .verdict
}
check "a fourth database is refused by rule and racks" expect 409 '.code == "REFUSED" and (.verdict |
    test("db-apart") and test("r1") and test("r2") and test("r3"))' "${create[@]}" "$(body db-4 db)" \
    -H 'idempotency-key: key-4'
refusal >"$dir/refusal"
check "asked again with its key the verdict is the same" same "$(cat "$dir/refusal")" "$(refusal)"
check "what fits nowhere is refused with the numbers" expect 409 '.code == "REFUSED" and (.verdict | test("memory"))
    and (.verdict | test("64 ?GiB"))' "${create[@]}" '{"name":"huge","class":"gold","memory":"64GiB"}'
check "the refused ones are not in the list" expect 200 '[.items[].name] == ["db-1", "db-2", "db-3"]' GET /v1/partitions

# --- operations ---

location_works() {
    local answer at
    answer=$(rest "$(any_manager)" POST /v1/partitions/db-1/stop) || return
    [ "$(cat "$dir/status")" = 202 ] || { echo "$answer" && return 1; }
    at=$(header location)
    expect 200 ".id == $(jq .id <<<"$answer") and .kind == \"stop\"" GET "$at"
}
check "a change without ?wait= is 202, and its Location answers" location_works
check "?wait=0s is 202" expect 202 '.state == "running" or .state == "queued"' POST \
    '/v1/partitions/db-2/stop?wait=0s'
check "?wait= is the finished operation" expect 200 '.state == "done" and .kind == "stop"' POST \
    '/v1/partitions/db-3/stop?wait=60s'
stopped() { is_in_state "$1" stopped; }
for k in 1 2 3; do
    check "db-$k stops" wait_until 60 stopped "db-$k"
    check "db-$k has no QEMU any more" test "$(qemus "db-$k")" = 0
done
db_1=$(partition db-1 .id)
last=$(history "$db_1" | tail -n 1)
check "a stopped partition can't be migrated" expect 409 '.code == "CONFLICT"' POST /v1/partitions/db-3/migrate
check "a target that doesn't exist is 404" expect 404 '.detail | test("n9")' POST /v1/partitions/db-3/migrate \
    -H "$json" -d '{"target":"n9"}'

# walk PATH FIELD: all of a list, one a page.
walk() {
    local cursor='' page
    while :; do
        page=$(rest "$(any_manager)" GET "$1?limit=1${cursor:+&cursor=$cursor}") || return
        jq -r ".items[].$2" <<<"$page"
        [ "$(jq '.items | length' <<<"$page")" -le 1 ] || return
        cursor=$(jq -r '.next_cursor // ""' <<<"$page")
        [ -n "$cursor" ] || return 0
    done
}
walks() { # PATH FIELD: the pages together are the list
    local pages whole
    pages=$(walk "$1" "$2")
    whole=$(rest "$(any_manager)" GET "$1?limit=1000" | jq -r ".items[].$2")
    echo "pages: ${pages//$'\n'/ }, whole: ${whole//$'\n'/ }"
    [ "$(wc -l <<<"$pages")" -ge "$3" ] && [ "$pages" = "$whole" ]
}
check "partitions page by page are each there once" walks /v1/partitions name 3
check "nodes page by page are each there once" walks /v1/nodes name 4
check "operations page by page are each there once" walks /v1/operations id 6

# --- policies ---

put=(PUT /v1/zones/prod/policy -H "$yaml" --data-binary)
cp "$policy" "$dir/good.yaml"
sed 's/strategy: spread/strategie: spread/' "$policy" >"$dir/field.yaml"
sed 's/apart: rack/apart: moon/' "$policy" >"$dir/rule.yaml"
sed 's/^  strategy: spread.*/&\n  strategy: pack/' "$policy" >"$dir/key.yaml"
sed 's/partition.labels.app == "db"/partition.labels.app === "db"/' "$policy" >"$dir/expression.yaml"
sed 's/partition.labels.app == "db"/partition.lables.app == "db"/' "$policy" >"$dir/attribute.yaml"
sed 's/^kind: ZonePolicy/kind: [/' "$policy" >"$dir/yaml.yaml"
sed 's/^zone: prod/zone: mars/' "$policy" >"$dir/mars.yaml"
line_of() { grep -n "$2" "$dir/$1.yaml" | tail -n 1 | cut -d: -f1; }
wrong() { # NAME LINE COLUMN MESSAGE
    expect 400 ".code == \"INVALID\" and any(.errors[]; .line == $2 and .column == $3 and (.message | test(\"$4\")))" \
        "${put[@]}" "@$dir/$1.yaml"
}
check "a policy with an unknown field is refused where it stands" wrong field "$(line_of field strategie)" 3 \
    'strategie.*did you mean strategy'
check "a bad rule is refused where it stands" wrong rule "$(line_of rule 'apart: moon')" 14 'db-apart.*moon'
check "a duplicate key is refused where it stands" wrong key "$(line_of key 'strategy: pack')" 3 'duplicate key'
check "a bad expression is refused where it stands" wrong expression "$(line_of expression '===')" 36 .
check "an attribute that doesn't exist is refused where it stands" wrong attribute "$(line_of attribute lables)" 23 \
    "lables.*did you mean partition.labels"
check "broken YAML is refused with a line" expect 400 '.errors[0].line > 0' "${put[@]}" "@$dir/yaml.yaml"
check "an empty policy is refused" expect 400 '.code == "INVALID"' "${put[@]}" ''
check "a policy for another zone is refused" expect 400 '.detail | test("mars")' "${put[@]}" "@$dir/mars.yaml"
check "a policy in a JSON body with an unknown field is refused" expect 400 '.errors[0].pointer == "/polizy"' \
    PUT /v1/zones/prod/policy -H "$json" -d '{"polizy":""}'
in_force() { # VERSION FILE
    rest "$(any_manager)" GET /v1/zones/prod/policy >"$dir/policy.json" &&
        [ "$(jq .version "$dir/policy.json")" = "$1" ] && jq -j .policy "$dir/policy.json" | cmp - "$2"
}
check "the policy in force is still the first" in_force 1 "$policy"
{
    cat "$policy"
    echo '# second'
} >"$dir/second.yaml"
check "a good one is applied" expect 200 true PUT '/v1/zones/prod/policy?wait=30s' -H "$yaml" --data-binary \
    "@$dir/second.yaml"
check "it is in force as the second version" in_force 2 "$dir/second.yaml"

# --- two managers ---

first=$(leader)
other=$(other_manager "$first")
check "a manager that doesn't lead answers lists" expect_from "$other" 200 '[.items[].name] ==
    ["db-1", "db-2", "db-3"]' GET /v1/partitions
check "it answers of its leader" expect_from "$other" 200 ".status.leader == \"$first\"" GET /v1/zones/prod
check "it passes a change on" expect_from "$other" 200 '.state == "done" and .user == "admin"' \
    POST '/v1/partitions/db-1/start?wait=60s'
check "what was started again goes on after its last count" wait_until 60 resumed_after "$db_1" "$last"
check "it passes problems on" expect_from "$other" 404 '.code == "NOT_FOUND"' GET /v1/partitions/nope
console_end() { # MANAGER
    rest "$1" GET "/v1/partitions/db-1/console?max=10" >/dev/null && [ "$(wc -c <"$dir/body")" = 10 ] &&
        [ "$(header vdc-console-offset)" = 0 ] && [ "$(header vdc-console-end)" -ge 10 ]
}
check "a console says where it is" wait_until 60 console_end "$first"
check "it passes that on" wait_until 60 console_end "$other"
check "it passes refusals on" expect_from "$other" 409 '.code == "REFUSED"' "${create[@]}" "$(body db-4 db)" \
    -H 'idempotency-key: key-4'
check "it passes an unchanged key on" expect_from "$other" 409 '.code == "CONFLICT"' "${create[@]}" \
    "$(body db-9 db)" -H 'idempotency-key: key-1'
check "a user's word for another user counts for nothing" expect_from "$first" 200 '.user == "viewer"' \
    POST '/v1/partitions/db-2/start?wait=60s' -H 'vdc-user: admin' --cert "$dir/pki/viewer.pem" \
    --key "$dir/pki/viewer.key"

kill_leader
check "after the leader's death the other one leads" test "$(leader)" = "$other"
check "a key gives the same operation under the new leader" same "$(cat "$dir/first")" \
    "$(keyed key-1 "$(body db-1 db)" 60s)"
check "a refused one has the same verdict under the new leader" same "$(cat "$dir/refusal")" "$(refusal)"
check "a key with another body is 409 under the new leader" expect 409 '.code == "CONFLICT"' "${create[@]}" \
    "$(body db-9 db)" -H 'idempotency-key: key-1'
check "the policy is the second one under the new leader" in_force 2 "$dir/second.yaml"
check "operations of the old leader are known to the new one" expect 200 '.state == "done"' \
    GET "/v1/operations/$(cut -d' ' -f2 "$dir/first")"

destroyed() { expect 200 '.state == "done"' DELETE "/v1/partitions/$1?wait=60s"; }
# volumes_are ID ...: the volumes on the shared storage are those of these partitions, no more and no fewer.
volumes_are() {
    local now
    now=$(cd "$dir/shared/volumes" && printf '%s\n' *.raw | sed 's/[.]raw$//' | grep -vx '[*]' | sort | tr '\n' ' ') || true
    echo "there are: $now"
    [ "$now" = "$(printf '%s\n' "$@" | sort | grep . | tr '\n' ' ')" ]
}
db_2=$(partition db-2 .id)
db_3=$(partition db-3 .id)
check "each database has its volume" volumes_are "$db_1" "$db_2" "$db_3"
check "db-1 is destroyed" destroyed db-1
check "its volume is gone, and no other" volumes_are "$db_2" "$db_3"
for k in 2 3; do
    check "db-$k is destroyed" destroyed "db-$k"
done
check "then it is not there" expect 404 '.code == "NOT_FOUND"' GET /v1/partitions/db-1
again=$(keyed again "$(body db-1 db)" 60s)
check "its name can be used again" grep -qE '^200 ' <<<"$again"
check "what has it now is another one" test "$(partition db-1 .id)" != "$db_1"
check "that one is destroyed as well" destroyed db-1
check "nothing is left" expect 200 '.items == []' GET /v1/partitions
check "no database has anything left" node_counts_right
check "no volume is left" volumes_are
check_quiet_logs
check_end
