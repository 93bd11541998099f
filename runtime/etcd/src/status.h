/* SPDX-License-Identifier: Apache-2.0 */
/* What the end of an attempt means: gRPC's status and etcd's sentence, translated once. Pure. */
#ifndef VDC_ETCD_STATUS_H
#define VDC_ETCD_STATUS_H

#include <vdc/rc.h>

enum vdc_etcd_fate {
    VDC_ETCD_ANSWERED, /* rc says how: OK, or refused and nothing done */
    VDC_ETCD_NOT_DONE, /* certainly nothing done; the endpoint cannot serve now; try elsewhere */
    VDC_ETCD_LOST      /* it may have been done, now or later */
};

struct vdc_etcd_outcome {
    enum vdc_etcd_fate fate;
    enum vdc_rc rc; /* of LOST and NOT_DONE: UNAVAILABLE, TIMEOUT; TOO_LARGE for an answer */
};

/* `status` is a grpc_status_code, `detail` the text beside it (NUL-terminated). */
struct vdc_etcd_outcome vdc_etcd_status_outcome(int status, const char *detail);

#endif
