/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fence of a guard: pure. It makes it safe to try a write again whose answer was lost.
 *
 * The danger: attempt 1 of write A is stuck in a frozen member; attempt 2 succeeds elsewhere; write B
 * changes the same key; the member thaws and attempt 1 is done, over B. The guard does not help: the
 * leader is the same. So every attempt requires that the fence key's mod_revision is the one known
 * when it was sent, and an attempt that follows a lost one also puts the fence key, which gives it a
 * new mod_revision. Once that has been done, whatever was sent with the old one can never be done.
 * While nothing is lost the fence costs one compare and no write, and writes stay concurrent.
 *
 *   mod_revisions of one key only grow, also over delete and create: an old one never comes back.
 */
#ifndef VDC_ETCD_FENCE_H
#define VDC_ETCD_FENCE_H

#include <stdbool.h>
#include <stdint.h>

struct vdc_etcd_fence {
    int64_t revision; /* the newest mod_revision of the fence key that is known; 0: none */
    bool dirty;       /* an attempt sent with this revision may still be done */
};

struct vdc_etcd_attempt {
    int64_t revision; /* what the attempt requires of the fence */
    bool moves;       /* it also puts the fence key */
};

/* What the next attempt must require and do. */
struct vdc_etcd_attempt vdc_etcd_fence_begin(const struct vdc_etcd_fence *fence);
/* The attempt's answer was lost. */
void vdc_etcd_fence_lost(struct vdc_etcd_fence *fence, struct vdc_etcd_attempt attempt);
/* The attempt was done, at this revision of the store. */
void vdc_etcd_fence_done(struct vdc_etcd_fence *fence, struct vdc_etcd_attempt attempt,
                         int64_t store_revision);
/* The attempt was not done because the fence stands at `revision`. */
void vdc_etcd_fence_learn(struct vdc_etcd_fence *fence, int64_t revision);

#endif
