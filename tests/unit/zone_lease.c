/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <vdc/zone_lease.h>

static vdc_mono at(int64_t ms)
{
    return (vdc_mono){ms * VDC_MS};
}

Test(zone_lease, a_question_is_granted_only_while_the_manager_knows_that_it_leads)
{
    struct vdc_zone_lease lease;
    vdc_zone_lease_open(&lease, 3, 4 * VDC_SECOND, at(1000));
    cr_assert(vdc_zone_lease_ask(&lease, 3, at(2000), at(5000)));
    cr_assert_not(vdc_zone_lease_ask(&lease, 3, at(5000), at(5000)));
    cr_assert_not(vdc_zone_lease_ask(&lease, 3, at(6000), at(5000)));
}

Test(zone_lease, it_ends_after_the_last_grant_with_its_margin)
{
    struct vdc_zone_lease lease;
    int64_t span = vdc_zone_lease_span(4 * VDC_SECOND);
    vdc_zone_lease_open(&lease, 3, 4 * VDC_SECOND, at(1000));
    cr_assert(vdc_zone_lease_ask(&lease, 3, at(2000), at(5000)));
    cr_assert_eq(vdc_zone_lease_over(&lease).ns, at(2000).ns + span);
    cr_assert(span > 4 * VDC_SECOND && span < 5 * VDC_SECOND);
}

Test(zone_lease, a_node_that_asks_without_being_granted_is_not_silent)
{
    struct vdc_zone_lease lease;
    vdc_zone_lease_open(&lease, 3, 4 * VDC_SECOND, at(1000));
    cr_assert_not(vdc_zone_lease_ask(&lease, 3, at(9000), at(5000)));
    cr_assert_eq(lease.until.ns, at(1000).ns);
    cr_assert(vdc_zone_lease_over(&lease).ns > at(13000).ns);
}

Test(zone_lease, another_incarnation_gets_nothing_and_is_not_heard)
{
    struct vdc_zone_lease lease;
    vdc_zone_lease_open(&lease, 3, 4 * VDC_SECOND, at(1000));
    cr_assert_not(vdc_zone_lease_ask(&lease, 2, at(2000), at(5000)));
    cr_assert_not(vdc_zone_lease_ask(&lease, 4, at(2000), at(5000)));
    cr_assert_eq(lease.heard.ns, at(1000).ns);
}

Test(zone_lease, a_new_leader_assumes_that_its_predecessor_granted_until_now)
{
    struct vdc_zone_lease lease;
    vdc_zone_lease_assume(&lease, 3, 4 * VDC_SECOND, at(1000));
    cr_assert_eq(vdc_zone_lease_over(&lease).ns, at(1000).ns + vdc_zone_lease_span(4 * VDC_SECOND));
}

Test(zone_lease, a_shorter_time_does_not_shorten_what_was_granted)
{
    struct vdc_zone_lease lease;
    vdc_zone_lease_open(&lease, 3, 60 * VDC_SECOND, at(1000));
    cr_assert(vdc_zone_lease_ask(&lease, 3, at(2000), at(5000)));
    vdc_mono before = lease.until;
    vdc_zone_lease_set_time(&lease, 2 * VDC_SECOND);
    cr_assert(vdc_zone_lease_ask(&lease, 3, at(3000), at(5000)));
    cr_assert_eq(lease.until.ns, before.ns);
    cr_assert_eq(vdc_zone_lease_over(&lease).ns, before.ns);
}

Test(zone_lease, closed_is_never_granted_again)
{
    struct vdc_zone_lease lease;
    vdc_zone_lease_open(&lease, 3, 4 * VDC_SECOND, at(1000));
    vdc_zone_lease_close(&lease);
    cr_assert_not(vdc_zone_lease_ask(&lease, 3, at(2000), at(5000)));
    cr_assert(vdc_mono_is_never(vdc_zone_lease_over(&lease)));
}
