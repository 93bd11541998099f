/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <grpc/status.h>

#include "status.h"

static void expect(int status, const char *detail, enum vdc_etcd_fate fate, enum vdc_rc rc)
{
    struct vdc_etcd_outcome outcome = vdc_etcd_status_outcome(status, detail);
    cr_assert_eq(outcome.fate, fate, "%d %s", status, detail);
    cr_assert_eq(outcome.rc, rc, "%d %s: %s", status, detail, vdc_rc_name(outcome.rc));
}

Test(etcd_status, a_deadline_or_broken_connection_may_have_been_done)
{
    expect(GRPC_STATUS_DEADLINE_EXCEEDED, "", VDC_ETCD_LOST, VDC_RC_TIMEOUT);
    expect(GRPC_STATUS_UNAVAILABLE, "Socket closed", VDC_ETCD_LOST, VDC_RC_UNAVAILABLE);
    expect(GRPC_STATUS_UNAVAILABLE, "etcdserver: request timed out", VDC_ETCD_LOST,
           VDC_RC_UNAVAILABLE);
    expect(GRPC_STATUS_CANCELLED, "", VDC_ETCD_LOST, VDC_RC_UNAVAILABLE);
    expect(GRPC_STATUS_UNKNOWN, "words nobody knows", VDC_ETCD_LOST, VDC_RC_UNAVAILABLE);
    expect(12345, "", VDC_ETCD_LOST, VDC_RC_UNAVAILABLE);
}

Test(etcd_status, what_was_turned_away_at_the_door_was_not_done)
{
    expect(GRPC_STATUS_UNAVAILABLE, "failed to connect to all addresses; last error: ...",
           VDC_ETCD_NOT_DONE, VDC_RC_UNAVAILABLE);
    expect(GRPC_STATUS_UNAVAILABLE, "etcdserver: no leader", VDC_ETCD_NOT_DONE, VDC_RC_UNAVAILABLE);
    expect(GRPC_STATUS_RESOURCE_EXHAUSTED, "etcdserver: too many requests", VDC_ETCD_NOT_DONE,
           VDC_RC_UNAVAILABLE);
}

Test(etcd_status, refusals_are_answers)
{
    expect(GRPC_STATUS_OK, "", VDC_ETCD_ANSWERED, VDC_RC_OK);
    expect(GRPC_STATUS_INVALID_ARGUMENT, "etcdserver: too many operations in txn request",
           VDC_ETCD_ANSWERED, VDC_RC_LIMIT);
    expect(GRPC_STATUS_INVALID_ARGUMENT, "etcdserver: request is too large", VDC_ETCD_ANSWERED,
           VDC_RC_TOO_LARGE);
    expect(GRPC_STATUS_INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request",
           VDC_ETCD_ANSWERED, VDC_RC_INVALID);
    expect(GRPC_STATUS_NOT_FOUND, "etcdserver: requested lease not found", VDC_ETCD_ANSWERED,
           VDC_RC_NOT_FOUND);
    expect(GRPC_STATUS_OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted",
           VDC_ETCD_ANSWERED, VDC_RC_STALE);
    expect(GRPC_STATUS_RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded",
           VDC_ETCD_ANSWERED, VDC_RC_NO_SPACE);
    expect(GRPC_STATUS_DATA_LOSS, "", VDC_ETCD_ANSWERED, VDC_RC_CORRUPT);
}

Test(etcd_status, an_answer_too_large_to_take_comes_after_the_deed)
{
    expect(GRPC_STATUS_RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)",
           VDC_ETCD_LOST, VDC_RC_TOO_LARGE);
}
