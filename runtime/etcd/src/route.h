/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which endpoint to use and when: pure. The driver reports how attempts ended; each belongs to the
 * generation (the channel) that it was sent on, and reports of earlier generations count for
 * nothing, so that a hundred attempts that fail together move the client on once.
 *
 * Invariants: current < count; generation grows by one with each move; not_before only delays
 * attempts, never what is under way.
 */
#ifndef VDC_ETCD_ROUTE_H
#define VDC_ETCD_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/prng.h>
#include <vdc/time.h>

/* The pause after the first round over all endpoints, in ms; it doubles with each further round up
 * to VDC_ETCD_BACKOFF_MAX_MS. A member's restart takes about a second. */
#define VDC_ETCD_BACKOFF_MIN_MS 50
/* Timeouts in a row, whatever was heard in between from other requests, that make an endpoint
 * failed. */
#define VDC_ETCD_TIMEOUTS_MAX 2

struct vdc_etcd_route {
    size_t count;
    size_t current;
    uint64_t generation; /* 1, 2, ... */
    uint32_t failures;   /* endpoints given up in a row, since the last answer */
    uint32_t timeouts;   /* attempts in a row that ended by timeout */
    vdc_mono heard;      /* when the current endpoint last answered */
    vdc_mono not_before; /* no attempt before this instant */
    struct vdc_prng prng;
};

void vdc_etcd_route_init(struct vdc_etcd_route *route, size_t count, uint64_t seed);
/* The endpoint answered something. */
void vdc_etcd_route_answered(struct vdc_etcd_route *route, uint64_t generation, vdc_mono now);
/* It could not be reached, or said that it cannot serve. True: the route moved to the next endpoint
 * (the same one where there is only one), which wants a new channel. */
bool vdc_etcd_route_failed(struct vdc_etcd_route *route, uint64_t generation, vdc_mono now);
/* An attempt sent at `sent` was not answered in time. True: the route moved. */
bool vdc_etcd_route_timed_out(struct vdc_etcd_route *route, uint64_t generation, vdc_mono sent,
                              vdc_mono now);

#endif
