/* SPDX-License-Identifier: Apache-2.0 */
#include "fence.h"

struct vdc_etcd_attempt vdc_etcd_fence_begin(const struct vdc_etcd_fence *fence)
{
    return (struct vdc_etcd_attempt){.revision = fence->revision, .moves = fence->dirty};
}

void vdc_etcd_fence_lost(struct vdc_etcd_fence *fence, struct vdc_etcd_attempt attempt)
{
    /* One that requires an older revision can no longer be done. */
    if (attempt.revision == fence->revision) {
        fence->dirty = true;
    }
}

void vdc_etcd_fence_done(struct vdc_etcd_fence *fence, struct vdc_etcd_attempt attempt,
                         int64_t store_revision)
{
    if (attempt.moves) {
        vdc_etcd_fence_learn(fence, store_revision);
    }
}

void vdc_etcd_fence_learn(struct vdc_etcd_fence *fence, int64_t revision)
{
    if (revision > fence->revision) {
        fence->revision = revision;
        fence->dirty = false;
    }
}
