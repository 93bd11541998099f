/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's side of a run lease in one zone (architecture 7.1): pure core, stands alone. It says
 * when to ask and until when the node may run the zone's restartable partitions. Whom it asks is its
 * caller's business: today the zone's leader, later a majority of witnesses.
 *
 *   - Asked every lease/4, and faster (VDC_RUN_LEASE_FIRST_NS) until the first grant.
 *   - A grant extends the deadline to the instant of *asking* + lease: the grantor counts from when
 *     it received the question, which is later, so its promise always outlasts ours.
 *   - The deadline only grows, except by REVOKE. A grant for another incarnation, an older epoch, an
 *     instant at which nothing was asked since the last JOIN, or of the future is ignored.
 *
 * The caller carries an update out in this order: the deadline into the views, then the question.
 */
#ifndef VDC_RUN_LEASE_H
#define VDC_RUN_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include <vdc/time.h>

/* A lease shorter than a busy machine's scheduling delays would pause guests for nothing; one longer
 * than an hour would keep a dead node's guests away from everybody for as long. */
#define VDC_RUN_LEASE_MIN_NS (100 * VDC_MS)
#define VDC_RUN_LEASE_MAX_NS (3600 * VDC_SECOND)
/* Until the first grant after a JOIN: the leader may still be writing that we are ready. */
#define VDC_RUN_LEASE_FIRST_NS (200 * VDC_MS)
/* Questions whose answers may be under way; older ones are forgotten, their grants ignored. */
#define VDC_RUN_LEASE_ASKED_MAX 32

struct vdc_run_lease {
    bool joined;          /* a leader is there to ask */
    bool granted;         /* since the last JOIN */
    int64_t lease_ns;     /* T, of the last JOIN */
    uint64_t epoch;       /* of the leader that is asked */
    uint64_t incarnation; /* ours */
    vdc_mono deadline;    /* {0}: never had one, or revoked */
    bool valid;           /* deadline > now at the last step: expiry is told once */
    vdc_mono next_ask;
    vdc_mono asked[VDC_RUN_LEASE_ASKED_MAX]; /* ring, since the last JOIN */
    uint32_t asked_len;
    uint32_t asked_at;
};

enum vdc_run_lease_event_kind {
    VDC_RUN_LEASE_JOIN,    /* lease_ns, epoch, incarnation: from now on, ask this leader */
    VDC_RUN_LEASE_LEAVE,   /* nobody to ask; the deadline stays */
    VDC_RUN_LEASE_GRANT,   /* epoch, incarnation, asked_ns */
    VDC_RUN_LEASE_RESTORE, /* after a restart of the agent: deadline, as found in a view */
    VDC_RUN_LEASE_REVOKE,  /* the incarnation was fenced */
    VDC_RUN_LEASE_TICK,
};

struct vdc_run_lease_event {
    enum vdc_run_lease_event_kind kind;
    vdc_mono now;
    int64_t lease_ns; /* VDC_RUN_LEASE_MIN_NS..MAX_NS */
    uint64_t epoch;
    uint64_t incarnation;
    uint64_t asked_ns;
    vdc_mono deadline;
};

struct vdc_run_lease_update {
    bool ask; /* send a LEASE_ASK with asked_ns */
    uint64_t asked_ns;
    bool deadline_changed; /* publish lease->deadline */
    bool began;            /* it was not valid and is now */
    bool expired;          /* it was valid and is no more */
};

/* Zero-initialise a lease; nothing to free. */
void vdc_run_lease_step(struct vdc_run_lease *lease, const struct vdc_run_lease_event *event,
                        struct vdc_run_lease_update *update);
bool vdc_run_lease_valid(const struct vdc_run_lease *lease, vdc_mono now);
/* When to TICK: the next question or the expiry. */
vdc_mono vdc_run_lease_deadline(const struct vdc_run_lease *lease);

#endif
