#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The laboratory itself, without our daemons: what the fault tests stand on must be true of it.
# The functions here are called by name through check and wait_until, which shellcheck can't see:
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tests/support/check.sh
. tests/support/check.sh

work=$(mktemp -d "${TMPDIR:-/tmp}/vdc-test-lab.XXXXXX")
dir=$work/lab
lab() { deploy/lab --dir "$dir" "$@"; }
cleanup() {
    lab down >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT

id=$(printf '%s' "$(realpath -m "$dir")" | sha256sum | cut -c1-8)
marked() { grep -lsxz "VDC_LAB=$id" /proc/[0-9]*/environ; }
traces() {
    marked || true
    grep -s " $dir/" /proc/mounts || true
    find /sys/fs/cgroup -maxdepth 2 -name "vdc-$id*" 2>/dev/null
    ls -d "$dir" 2>/dev/null || true
}
nothing_left() { [ -z "$(traces)" ] || { traces; return 1; }; }
snapshot() {
    ip -o link
    ip -o address | sed 's/valid_lft.*//'
    ip netns list
    find /run -maxdepth 1
}
reaches() { lab exec "$1" bash -c "exec 3<>/dev/tcp/$2"; }
refuses() { ! "$@" 2>/dev/null; }
etcd_has() { [ "$(lab etcdctl --command-timeout=3s get --print-value-only "$1")" = "$2" ]; }
alive() { kill -0 "$1" 2>/dev/null; }
gone() { ! alive "$1"; }

before=$(snapshot)
check "a lab comes up with three members of etcd" lab up --no-daemons --etcd 3 --nodes "n1=r1 n2=r2"
check "the machine's own network is as it was" test "$(snapshot)" = "$before"
check "a host reaches etcd's port over the bridge" reaches n1 10.77.0.1/2379
check "a value is written to etcd" lab etcdctl put /vdc/v1/test one
check "a node's certificate opens nothing in etcd" refuses lab exec hub env ETCDCTL_API=3 etcdctl \
    --command-timeout=3s --cacert "$dir/pki/etcd-ca.pem" --cert "$dir/pki/n1.pem" --key "$dir/pki/n1.key" \
    --endpoints https://10.77.0.1:2379 get /vdc/v1/test
check "one member is killed" lab etcd-stop 1
check "two members of three still answer" wait_until 30 etcd_has /vdc/v1/test one
check "all members are killed" lab etcd-stop
check "a stopped etcd doesn't answer" refuses lab etcdctl --command-timeout=1s get /vdc/v1/test
check "they are started again" lab etcd-start
check "what was written is still there" wait_until 30 etcd_has /vdc/v1/test one

# A program in a host that has left its parent, as a monitor does, and one in a namespace below.
lab exec n1 bash -c 'setsid sleep 7777 </dev/null >/dev/null 2>&1 &
    setsid unshare -p -f sleep 7778 </dev/null >/dev/null 2>&1 &'
inner_pids() { pgrep -fx 'sleep 777[78]' || true; }
two_inside() { [ "$(inner_pids | wc -l)" = 2 ]; }
none_inside() { [ -z "$(inner_pids)" ]; }
check "daemons of a host outlive the command that started them" wait_until 10 two_inside
touch "$dir/run/n1/console.log"
check "a host's power is cut" lab host-kill n1
check "all of its processes are dead" none_inside
check "its run directory is put aside for reading" test -e "$dir/run/n1.dead-1/console.log"
check "the other host lives" lab exec n2 true
check "the network without it works" reaches n2 10.77.0.1/2379
n2_connects() { timeout 2 deploy/lab --dir "$dir" exec n2 bash -c 'exec 3<>/dev/tcp/10.77.0.1/2379' 2>/dev/null; }
lab link-cut n2
check "a host with a cut link reaches nobody" refuses n2_connects
lab link-mend n2
check "a mended link carries" wait_until 20 n2_connects

hub=$(cut -d' ' -f1 "$dir/procs/hub")
check "a second run ends the first" lab up --no-daemons --nodes "n1=r1"
check "its hub is gone" gone "$hub"
check "down ends the lab" lab down
check "down leaves nothing" nothing_left
check "down twice is no error" lab down

lab up --no-daemons --nodes "n1=r1" >/dev/null 2>&1
kill -KILL "$(cut -d' ' -f1 "$dir/procs/hub")"
rm -rf "$dir/procs" "$dir/lab.conf"
check "down cleans up after a crash that left no records" lab down
check "no process, mount or cgroup of it is left" bash -c "! grep -lsxz 'VDC_LAB=$id' /proc/[0-9]*/environ &&
    ! grep -q ' $dir/' /proc/mounts && [ -z \"\$(find /sys/fs/cgroup -maxdepth 2 -name 'vdc-$id*')\" ]"
mkdir -p "$work/other/etc"
touch "$work/other/etc/passwd" "$work/other/vmlinuz"
not_ours() { ! "$@" >"$work/refused" 2>&1 && grep -q 'vmlinuz, which no lab has made' "$work/refused"; }
check "a folder that holds what no lab has made is refused" not_ours deploy/lab --dir "$work/other" up --no-daemons
check "the quickstart refuses it as well" not_ours deploy/quickstart --dir "$work/other"
check "nothing in it was touched" test -e "$work/other/etc/passwd"
sleep 300 &
stranger=$!
lab up --no-daemons --nodes "n1=r1" >/dev/null 2>&1
echo "$stranger 12345" >"$dir/procs/n9"
lab down
check "a recorded number that now belongs to another process is not killed" alive "$stranger"
kill "$stranger"
check_end
