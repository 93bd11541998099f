/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where only the sentence tells cases apart, an unknown sentence falls to the side that is safe:
 * "it may have been done".
 */
#include "status.h"

#include <stdbool.h>
#include <string.h>

#include <grpc/status.h>

static struct vdc_etcd_outcome outcome(enum vdc_etcd_fate fate, enum vdc_rc rc)
{
    return (struct vdc_etcd_outcome){fate, rc};
}

static struct vdc_etcd_outcome refused(enum vdc_rc rc)
{
    return outcome(VDC_ETCD_ANSWERED, rc);
}

/* gRPC's own words where no connection could be made; etcd's where the member turned the call away at
 * the door because of our `hasleader` metadata. Neither has proposed anything. */
static bool never_proposed(const char *detail)
{
    return strncmp(detail, "failed to connect to all addresses", 34) == 0 ||
           strcmp(detail, "etcdserver: no leader") == 0;
}

static enum vdc_rc invalid_argument(const char *detail)
{
    if (strstr(detail, "too many operations") != NULL) {
        return VDC_RC_LIMIT;
    }
    if (strstr(detail, "request is too large") != NULL) {
        return VDC_RC_TOO_LARGE;
    }
    return VDC_RC_INVALID;
}

static struct vdc_etcd_outcome resource_exhausted(const char *detail)
{
    if (strstr(detail, "database space exceeded") != NULL) {
        return refused(VDC_RC_NO_SPACE);
    }
    if (strstr(detail, "too many requests") != NULL) {
        return outcome(VDC_ETCD_NOT_DONE, VDC_RC_UNAVAILABLE);
    }
    /* A request that is too large is turned away; an answer that is too large comes after the deed. */
    if (strstr(detail, "eceived message larger") != NULL) {
        return outcome(VDC_ETCD_LOST, VDC_RC_TOO_LARGE);
    }
    return refused(VDC_RC_TOO_LARGE);
}

struct vdc_etcd_outcome vdc_etcd_status_outcome(int status, const char *detail)
{
    switch ((grpc_status_code)status) {
    case GRPC_STATUS_OK:
        return refused(VDC_RC_OK);
    case GRPC_STATUS_INVALID_ARGUMENT:
        return refused(invalid_argument(detail));
    case GRPC_STATUS_NOT_FOUND:
        return refused(VDC_RC_NOT_FOUND);
    case GRPC_STATUS_ALREADY_EXISTS:
        return refused(VDC_RC_EXISTS);
    case GRPC_STATUS_PERMISSION_DENIED:
        return refused(VDC_RC_FORBIDDEN);
    case GRPC_STATUS_UNAUTHENTICATED:
        return refused(VDC_RC_UNAUTHENTICATED);
    case GRPC_STATUS_FAILED_PRECONDITION:
        return refused(VDC_RC_CONFLICT);
    case GRPC_STATUS_OUT_OF_RANGE:
        /* A compacted revision, or (from a member that lags) one that is not there yet. */
        return refused(VDC_RC_STALE);
    case GRPC_STATUS_UNIMPLEMENTED:
        return refused(VDC_RC_UNSUPPORTED);
    case GRPC_STATUS_DATA_LOSS:
        return refused(VDC_RC_CORRUPT);
    case GRPC_STATUS_RESOURCE_EXHAUSTED:
        return resource_exhausted(detail);
    case GRPC_STATUS_UNAVAILABLE:
        return outcome(never_proposed(detail) ? VDC_ETCD_NOT_DONE : VDC_ETCD_LOST,
                       VDC_RC_UNAVAILABLE);
    case GRPC_STATUS_DEADLINE_EXCEEDED:
        return outcome(VDC_ETCD_LOST, VDC_RC_TIMEOUT);
    case GRPC_STATUS_CANCELLED:
    case GRPC_STATUS_UNKNOWN:
    case GRPC_STATUS_ABORTED:
    case GRPC_STATUS_INTERNAL:
    case GRPC_STATUS__DO_NOT_USE:
        break;
    }
    return outcome(VDC_ETCD_LOST, VDC_RC_UNAVAILABLE);
}
