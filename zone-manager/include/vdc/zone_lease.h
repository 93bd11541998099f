/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The leader's book about one node's run lease (architecture 7.1): pure, stands alone. The node may
 * run restartable partitions until the instant of *its* asking + T; this side cannot read the node's
 * clock, but it received the question later, so (its own instant of receipt + T + a margin) is never
 * before the node's. Today the leader grants alone; when a majority of witnesses does, only this
 * file and its user in nodes.c change.
 *
 * Invariants: `until` never goes back while the lease is open; a closed lease is granted never again.
 */
#ifndef VDC_ZONE_LEASE_H
#define VDC_ZONE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include <vdc/time.h>

/* Two clocks of rates within 500 ppm drift apart by at most 1/1000 of T; and a monitor that wakes at
 * its deadline needs a moment until the vCPUs stand still and what they wrote has drained. */
#define VDC_ZONE_LEASE_PPM 1000
#define VDC_ZONE_LEASE_PAUSE_NS (250 * VDC_MS)

struct vdc_zone_lease {
    bool open;            /* grants are possible */
    uint64_t incarnation; /* that they are for */
    int64_t lease_ns;     /* T that the node was told last, or a longer one before */
    vdc_mono heard;       /* the last valid question, granted or not; when it was opened before */
    vdc_mono until;       /* latest instant, by our clock, until which the node may run */
};

/* T with its margin. */
int64_t vdc_zone_lease_span(int64_t lease_ns);
/* The incarnation has become READY: nothing was granted yet. */
void vdc_zone_lease_open(struct vdc_zone_lease *lease, uint64_t incarnation, int64_t lease_ns,
                         vdc_mono now);
/* A new leader finds a READY node: a predecessor may have granted until this very moment. */
void vdc_zone_lease_assume(struct vdc_zone_lease *lease, uint64_t incarnation, int64_t lease_ns,
                           vdc_mono now);
/* The node counts with another T from now on; one that is already granted runs as it was. */
void vdc_zone_lease_set_time(struct vdc_zone_lease *lease, int64_t lease_ns);
/* A question came. True: grant it, `until` was moved before. False: closed, another incarnation, or
 * this manager does not know that it still leads (`leading_until` has passed: a leader that was
 * suspended grants nothing when it wakes). A question for this incarnation counts as heard in any
 * case. */
bool vdc_zone_lease_ask(struct vdc_zone_lease *lease, uint64_t incarnation, vdc_mono now,
                        vdc_mono leading_until);
/* The instant from which the node is silent and runs nothing restartable: no question for a whole
 * lease time, and everything granted has run out. VDC_NEVER while closed. */
vdc_mono vdc_zone_lease_over(const struct vdc_zone_lease *lease);
/* Fenced: granted never again. */
void vdc_zone_lease_close(struct vdc_zone_lease *lease);

#endif
