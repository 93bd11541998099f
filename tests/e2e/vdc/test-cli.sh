#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The command vdc as scripts and people use it: exit codes, JSON and tables, help, completion, files, contexts.
# The functions here are called by name through check and wait_until, which shellcheck can't see:
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tests/support/lab.sh
. tests/support/lab.sh
# shellcheck source=tests/e2e/vdc/common.sh
. tests/e2e/vdc/common.sh

policy=deploy/examples/prod.policy.yaml
program=${VDC_BUILD:-build/release}/bin/vdc
offline=$(mktemp -d "${TMPDIR:-/tmp}/vdc-test-cli.XXXXXX")
trap 'rm -rf "$offline"' EXIT

# ends STATUS COMMAND ...: its exit code; what it printed is shown if that is another one.
ends() {
    local want=$1 status=0
    shift
    "$@" >"$offline/out" 2>"$offline/err" </dev/null || status=$?
    cat "$offline/out" "$offline/err"
    echo "exit code $status"
    [ "$status" = "$want" ]
}
# says PATTERN STATUS COMMAND ...
says() {
    local pattern=$1
    shift
    ends "$@" && cat "$offline/out" "$offline/err" | grep -qE -- "$pattern"
}
# Without a server, a home and an environment.
alone() { env -i PATH="$PATH" HOME="$offline" ASAN_OPTIONS="${ASAN_OPTIONS:-}" "$program" "$@"; }

# --- what needs no server ---

check "--help is no error" says 'Exit codes: 0 done, 1 failed, 2 usage' 0 alone --help
check "--help of a command names its flags" says '--disk SIZE' 0 alone partition create --help
check "and not those of others" says '^Usage: vdc partition stop NAME' 0 alone partition stop -h
check "--help of a noun lists its verbs" says 'partition migrate NAME' 0 alone partition --help
check "a misspelt verb is recognised" says 'did you mean show' 2 alone partition shwo web
check "an output that can't be written is exit code 1" says 'not everything was written' 1 bash -c '"$0" --help >/dev/full' \
    "$program"
check "--version says one" says '^vdc [0-9]+\.[0-9]+' 0 alone --version
check "no command is a usage error" ends 2 alone
check "an unknown command is named" says 'no command "node dance"' 2 alone node dance
check "an unknown flag is a usage error" ends 2 alone --colour red node list
check "a flag of another command is named" says 'vdc node list takes no --memory' 2 alone node list --memory 1GiB
check "a missing argument is a usage error" says 'usage: vdc partition show NAME' 2 alone partition show
check "one argument too many is a usage error" ends 2 alone node list n1
check "what is no name is a usage error" says 'not a name' 2 alone partition show 'A/../B'
check "a format that doesn't exist is a usage error" ends 2 alone -o xml node list
check "a label without a value is a usage error" ends 2 alone --server https://127.0.0.1:1 partition create a --label app
check "vcpus that are no number are a usage error" ends 2 alone --server https://127.0.0.1:1 partition create a --vcpus two
check "a context that doesn't exist is a usage error" ends 2 alone --context nowhere node list
check "a certificate that doesn't exist is named" says 'nowhere.pem' 2 alone --server https://127.0.0.1:1 \
    --ca "$offline/nowhere.pem" --cert "$offline/nowhere.pem" --key "$offline/nowhere.pem" --timeout 1 node list
completes() {
    # shellcheck disable=SC1090
    . <(alone completion bash)
    COMP_WORDS=(vdc partition m) COMP_CWORD=2
    _vdc
    echo "${COMPREPLY[@]}"
    [ "${COMPREPLY[*]}" = migrate ]
}
check "completion completes" completes
check "lint of a good policy needs no server" says 'zone prod, no mistakes' 0 alone policy lint "$policy"
sed 's/strategy: spread/strategie: spread/' "$policy" >"$offline/bad.yaml"
line=$(grep -n strategie "$offline/bad.yaml" | cut -d: -f1)
check "lint of a bad one says where" says "bad.yaml:$line:3: .*strategie" 1 alone policy lint "$offline/bad.yaml"
check "lint of a bad and a good one fails" ends 1 alone policy lint "$offline/bad.yaml" "$policy"
check "lint of a file that doesn't exist fails" says 'nowhere.yaml' 1 alone policy lint "$offline/nowhere.yaml"
check "apply of a bad one fails before anything is sent" says "bad.yaml:$line:3:" 1 alone \
    --server https://127.0.0.1:1 policy apply "$offline/bad.yaml"
check "a server that isn't there is exit code 4" says 'is a manager running there' 4 alone \
    --server https://127.0.0.1:1 --timeout 1 node list

# --- with one ---

lab_begin --managers 2
offline_end() {
    rm -rf "$offline"
    lab_end
}
trap offline_end EXIT

check "done is exit code 0" ends 0 vdc node list
check "what doesn't exist is exit code 1" says 'no partition "nope"' 1 vdc partition show nope
create_web() { vdc partition create web --class gold --memory 128MiB --label app=web --idempotency-key "$1"; }
check "create waits and says why there" says 'winner n[1-4]' 0 create_web web-1
check "the same name again is exit code 5" ends 5 create_web web-2
check "the same key again is the same answer" ends 0 create_web web-1
check "the same key for something else is exit code 5" ends 5 vdc partition create other --class gold \
    --memory 128MiB --idempotency-key web-1
check "refused by policy is exit code 3, with the verdict" says 'rejected n1' 3 vdc partition create huge \
    --class gold --memory 64GiB
check "a server that serves somebody else's certificate is exit code 4" ends 4 vdc --ca "$dir/pki/etcd-ca.pem" \
    --timeout 3 node list
check "the second server is tried if the first is away" ends 0 vdc \
    --server https://10.77.0.9:7443,https://10.77.0.2:7443 node list
check "wrong input is exit code 1 and names the field" says '/memory: ' 1 vdc partition create x --class gold \
    --memory 12parsecs

long=$(printf 'a-very-long-name-%.0s' 1 2 3)x
printf '%s\n' "name: $long" 'class: gold' 'memory: 128MiB' 'labels: {owner: somebody-with-a-long-name, cost: 4711}' \
    >"$offline/spec.yaml"
check "a partition is made of a YAML file" ends 0 vdc partition create -f "$offline/spec.yaml"
check "numbers in labels stay text" expect 200 '.labels.cost == "4711"' GET "/v1/partitions/$long"
from_stdin() { echo '{"name":"json","class":"batch","memory_bytes":134217728}' | vdc partition create -f -; }
check "and of JSON on standard input" from_stdin
check "a file that doesn't exist is a usage error" ends 2 vdc partition create x -f "$offline/nowhere.yaml"
check "a YAML file with a duplicate key is refused with its place" says ':2:1: ' 2 vdc partition create \
    -f <(printf 'name: a\nname: b\n')

operation=$(vdc operation list -o json | jq -r '.[0].id')
# shellcheck disable=SC2086
for words in "zone list" "node list" "node show n1" "partition list" "partition show web" "partition explain web" \
    "operation list" "operation show $operation" "policy show"; do
    is_json() { vdc -o json $words | jq -e 'type == "array" or type == "object"'; }
    check "vdc $words -o json is JSON" is_json
    fits() {
        vdc $words >"$offline/table"
        cat "$offline/table"
        [ -s "$offline/table" ] && [ "$(LC_ALL=C.UTF-8 wc -L <"$offline/table")" -le 100 ]
    }
    case $words in
        *list) check "the table of vdc $words fits 100 columns" fits ;;
    esac
done
# The agent's database has the whole machine; what is not offered to zones is a system partition's.
adds_up() {
    vdc node show n1 -o json | jq -e '.status.allocation |
        .memory_bytes == .memory_free_bytes + .zone_memory_used_bytes + ([.system[].memory_bytes] | add)
        and (.system[0].name == "ultravisor") and (.devices | all(.zone == null and .partition == null))'
}
check "what is free on a node is its memory less what partitions hold" adds_up
check "system partitions are a line each" says '- name ultravisor, cpus [0-9]+, memory_bytes ' 0 vdc node show n1
is_yaml() {
    [ "$(vdc -o yaml node list | grep -c '^- id: n[1-4]$')" = 4 ]
}
check "a list is YAML with -o yaml" is_yaml
check "a wide table has more columns" says 'ADDRESS' 0 vdc -o wide node list
lint_is_json() { alone -o json policy lint "$policy" | jq -e '.[0].ok and .[0].zone == "prod"'; }
check "vdc policy lint -o json is JSON" lint_is_json
error_is_json() {
    vdc -o json partition show nope >"$offline/out" 2>/dev/null || true
    jq -e '.code == "NOT_FOUND" and .status == 404' "$offline/out"
}
check "an error with -o json is a problem in JSON" error_is_json
policy_same() { vdc policy show -o json | jq -j .policy | cmp - "$policy"; }
check "the policy is shown as it was applied" policy_same

no_wait() {
    local answer
    answer=$(vdc -o json partition stop json --no-wait) || return
    echo "$answer"
    jq -e '.state != "done"' <<<"$answer"
}
check "--no-wait returns at once" no_wait
counts_up() { vdc partition console web | grep -q '^COUNT 5'; }
check "the console is printed" wait_until 120 counts_up
check "from its beginning, by the guest of that name" says '^GUEST UP name=web' 0 vdc partition console web
check "a placement is explained" says 'placed on n[1-4]' 0 vdc partition explain web
follows() {
    local n
    n=$(vdc partition console web | tr -d '\r' | grep -c '^COUNT')
    timeout 5 "$dir/vdc" partition console web --follow >"$offline/follow" || [ $? = 124 ]
    echo "$n counts before, $(counts "$offline/follow" | wc -l) with --follow"
    [ "$(counts "$offline/follow" | wc -l)" -gt $((n + 5)) ] && [ "$(counts "$offline/follow" | gap)" = 0 ]
}
check "--follow goes on with it" follows
console_is_json() { vdc partition console web -o json | jq -e '.partition == "web" and (.text | test("COUNT 5"))' >/dev/null; }
check "vdc partition console -o json is JSON" console_is_json

mkdir -p "$offline/.config/vdc"
cat >"$offline/.config/vdc/config.yaml" <<END
current: lab
contexts:
  lab: {servers: ["https://10.77.0.1:7443"], ca: "$dir/pki/ca.pem", cert: "$dir/pki/viewer.pem", key: "$dir/pki/viewer.key"}
  wrong: {servers: ["https://10.77.0.9:7443"], ca: "$dir/pki/ca.pem", cert: "$dir/pki/viewer.pem", key: "$dir/pki/viewer.key"}
END
in_context() { lab exec hub env -i PATH="$PATH" HOME="$offline" "$(realpath "$program")" "$@"; }
check "a context of the configuration file is used" ends 0 in_context node list
check "another one is chosen by --context" ends 4 in_context --context wrong --timeout 1 node list
check "vdc migrates" ends 0 vdc partition migrate web
check "vdc stops" wait_until 60 ends 0 vdc partition stop web
check "vdc starts" ends 0 vdc partition start web
for name in web "$long" json; do
    check "vdc destroys ${name:0:8}" wait_until 60 ends 0 vdc partition destroy "$name"
done
check "an empty list says so" says '^none$' 0 vdc partition list
check_quiet_logs
check_end
