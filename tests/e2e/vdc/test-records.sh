#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A manager that cannot read the zone's records: it gives its leader key back, so that the zone is led again, under a new
# epoch, as soon as they are readable and not only when the manager is started again; one that begins while the store is
# away doesn't know what there is, and says that.
# The functions here are called by name through check and wait_until, which shellcheck can't see:
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
# shellcheck source=tests/support/lab.sh
. tests/support/lab.sh
# shellcheck source=tests/e2e/vdc/common.sh
. tests/e2e/vdc/common.sh

lab_begin --managers 1
bad=/vdc/v1/partitions/prod/00000000-0000-4000-8000-00000000bad0
gave_up_often() { [ "$(grep -c 'its records could not be read' "$dir/log/m1.log")" -ge 2 ]; }

lab manager-kill m1
lab etcdctl put "$bad" nonsense >/dev/null
lab manager-start m1
check "the leader gives up and tries again" wait_until 60 gave_up_often
lab etcdctl del "$bad" >/dev/null
check "the zone is led when its records are readable" wait_until 60 led
check "its nodes are usable" wait_until 60 nodes_are ready 4

lab etcd-stop
lab manager-kill m1
lab manager-start m1
# A 404 would be final to a client, which would then make anew what is there.
check "a manager that hasn't read the store says so, not that there is no zone" \
    wait_until 30 expect 503 '.detail | test("store")' GET /v1/partitions
check "and says when to ask again" test -n "$(header retry-after)"
lab etcd-start
check "it answers once it has" wait_until 60 expect 200 '.items == []' GET /v1/partitions
check_quiet_logs
check_end
