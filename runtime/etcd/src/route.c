/* SPDX-License-Identifier: Apache-2.0 */
#include "route.h"

#include <vdc/base.h>
#include <vdc/etcd.h>

void vdc_etcd_route_init(struct vdc_etcd_route *route, size_t count, uint64_t seed)
{
    VDC_ASSERT(count >= 1);
    *route = (struct vdc_etcd_route){.count = count, .generation = 1};
    vdc_prng_init(&route->prng, seed);
}

void vdc_etcd_route_answered(struct vdc_etcd_route *route, uint64_t generation, vdc_mono now)
{
    if (generation != route->generation) {
        return;
    }
    route->failures = 0;
    route->timeouts = 0;
    route->heard = now;
    route->not_before = (vdc_mono){0};
}

/* After every full round without an answer: 50 ms, 100 ms, ... 1 s, each shortened by up to a half,
 * so that managers which lost the same member do not come back in step. */
static int64_t pause_ns(struct vdc_etcd_route *route)
{
    if (route->failures % route->count != 0) {
        return 0;
    }
    size_t round = route->failures / route->count;
    int64_t ms = VDC_ETCD_BACKOFF_MAX_MS;
    if (round <= 5) {
        ms = VDC_MIN(ms, (int64_t)VDC_ETCD_BACKOFF_MIN_MS << (round - 1));
    }
    int64_t half = ms * VDC_MS / 2;
    return half + (int64_t)vdc_prng_below(&route->prng, (uint64_t)half + 1);
}

static void move(struct vdc_etcd_route *route, vdc_mono now)
{
    route->generation++;
    route->current = (route->current + 1) % route->count;
    route->failures++;
    route->timeouts = 0;
    route->not_before = vdc_mono_add(now, pause_ns(route));
}

bool vdc_etcd_route_failed(struct vdc_etcd_route *route, uint64_t generation, vdc_mono now)
{
    if (generation != route->generation) {
        return false;
    }
    move(route, now);
    return true;
}

bool vdc_etcd_route_timed_out(struct vdc_etcd_route *route, uint64_t generation, vdc_mono sent,
                              vdc_mono now)
{
    if (generation != route->generation) {
        return false;
    }
    route->timeouts++;
    /* Silence during the whole attempt is a frozen or unreachable peer; one slow answer among others
     * is not worth a move, two in a row are. */
    bool silent = route->heard.ns < sent.ns;
    if (!silent && route->timeouts < VDC_ETCD_TIMEOUTS_MAX) {
        return false;
    }
    move(route, now);
    return true;
}
