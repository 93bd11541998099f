/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include <vdc/etcd.h>

#include "route.h"

static vdc_mono at_ms(int64_t ms)
{
    return (vdc_mono){ms * VDC_MS};
}

Test(etcd_route, a_hundred_failures_of_one_channel_move_once)
{
    struct vdc_etcd_route route;
    vdc_etcd_route_init(&route, 3, 1);
    cr_assert_eq(route.current, 0);
    cr_assert(vdc_etcd_route_failed(&route, 1, at_ms(10)));
    for (int i = 0; i < 99; i++) {
        cr_assert_not(vdc_etcd_route_failed(&route, 1, at_ms(10)));
    }
    cr_assert_eq(route.current, 1);
    cr_assert_eq(route.generation, 2);
}

Test(etcd_route, the_next_endpoint_is_tried_at_once_and_a_full_round_pauses)
{
    struct vdc_etcd_route route;
    vdc_etcd_route_init(&route, 3, 1);
    vdc_etcd_route_failed(&route, 1, at_ms(100));
    vdc_etcd_route_failed(&route, 2, at_ms(100));
    cr_assert(vdc_mono_reached(at_ms(100), route.not_before));
    vdc_etcd_route_failed(&route, 3, at_ms(100));
    cr_assert_eq(route.current, 0);
    cr_assert_not(vdc_mono_reached(at_ms(100), route.not_before));
    cr_assert(vdc_mono_reached(at_ms(100 + VDC_ETCD_BACKOFF_MIN_MS), route.not_before));
}

Test(etcd_route, pauses_grow_to_their_bound_and_an_answer_ends_them)
{
    struct vdc_etcd_route route;
    vdc_etcd_route_init(&route, 1, 7);
    int64_t last = 0;
    for (uint64_t i = 1; i <= 100; i++) {
        cr_assert(vdc_etcd_route_failed(&route, i, at_ms(0)));
        last = route.not_before.ns;
        cr_assert_leq(last, VDC_ETCD_BACKOFF_MAX_MS * VDC_MS);
        cr_assert_geq(last, VDC_ETCD_BACKOFF_MIN_MS * VDC_MS / 2);
    }
    cr_assert_geq(last, VDC_ETCD_BACKOFF_MAX_MS * VDC_MS / 2);
    vdc_etcd_route_answered(&route, 100, at_ms(5)); /* an earlier channel says nothing */
    cr_assert_eq(route.failures, 100);
    vdc_etcd_route_answered(&route, 101, at_ms(5));
    cr_assert_eq(route.failures, 0);
    cr_assert(vdc_mono_reached(at_ms(0), route.not_before));
}

Test(etcd_route, an_endpoint_silent_during_a_whole_attempt_is_left)
{
    struct vdc_etcd_route route;
    vdc_etcd_route_init(&route, 2, 1);
    vdc_etcd_route_answered(&route, 1, at_ms(100));
    cr_assert(vdc_etcd_route_timed_out(&route, 1, at_ms(200), at_ms(900)));
    cr_assert_eq(route.current, 1);
}

Test(etcd_route, one_slow_answer_among_others_is_borne_and_two_in_a_row_are_not)
{
    struct vdc_etcd_route route;
    vdc_etcd_route_init(&route, 2, 1);
    vdc_etcd_route_answered(&route, 1, at_ms(300));
    cr_assert_not(vdc_etcd_route_timed_out(&route, 1, at_ms(200), at_ms(900)));
    vdc_etcd_route_answered(&route, 1, at_ms(950));
    cr_assert_not(vdc_etcd_route_timed_out(&route, 1, at_ms(300), at_ms(1000)));
    cr_assert(vdc_etcd_route_timed_out(&route, 1, at_ms(400), at_ms(1100)));
}
