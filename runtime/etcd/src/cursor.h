/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a watch stands: pure. etcd resumes a watch at a revision; one revision may hold several
 * changes (one transaction), and an answer that is too large comes in fragments that may end within
 * a revision. So the position is a revision and the number of its changes that were delivered. etcd
 * brings the changes of a revision in the same order each time, so that many are skipped on resuming.
 *
 * The `created` answer's revision is the store's, not the watch's: it must never come in here. (A
 * client that took it lost changes after a failover; measured.)
 */
#ifndef VDC_ETCD_CURSOR_H
#define VDC_ETCD_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

struct vdc_etcd_cursor {
    int64_t revision; /* the first not delivered in full */
    uint32_t seen;    /* of its changes: delivered */
    uint32_t skip;    /* of its changes: to come again on this stream; skip <= seen */
};

void vdc_etcd_cursor_init(struct vdc_etcd_cursor *cursor, int64_t revision);
/* A new stream starts at cursor->revision. */
void vdc_etcd_cursor_resume(struct vdc_etcd_cursor *cursor);
/* A change with this mod_revision came: true if it is to be delivered, false if it was before. */
bool vdc_etcd_cursor_take(struct vdc_etcd_cursor *cursor, int64_t mod_revision);
/* An answer with changes is over; `more`: its last revision goes on in the next one (a fragment). */
void vdc_etcd_cursor_end(struct vdc_etcd_cursor *cursor, bool more);
/* A progress notification: everything up to and including `revision` has been sent. */
void vdc_etcd_cursor_progress(struct vdc_etcd_cursor *cursor, int64_t revision);

#endif
