/* SPDX-License-Identifier: Apache-2.0 */
/* The run lease's own core, alone. */
#include <criterion/criterion.h>

#include <vdc/run_lease.h>

#define T (4 * VDC_SECOND)

static struct vdc_run_lease lease;
static struct vdc_run_lease_update update;

static void step(enum vdc_run_lease_event_kind kind, int64_t now, uint64_t epoch,
                 uint64_t incarnation, uint64_t asked)
{
    struct vdc_run_lease_event event = {
        .kind = kind,
        .now = {now},
        .lease_ns = T,
        .epoch = epoch,
        .incarnation = incarnation,
        .asked_ns = asked,
    };
    vdc_run_lease_step(&lease, &event, &update);
}

#define AT(s) ((int64_t)((s) * (double)VDC_SECOND))

static void setup(void)
{
    lease = (struct vdc_run_lease){0};
    step(VDC_RUN_LEASE_JOIN, AT(100), 3, 1, 0);
}

TestSuite(node_lease, .init = setup);

Test(node_lease, joining_asks_at_once_and_a_grant_counts_from_then)
{
    cr_assert(update.ask);
    cr_assert_eq(update.asked_ns, AT(100));
    cr_assert(!vdc_run_lease_valid(&lease, (vdc_mono){AT(100)}));
    step(VDC_RUN_LEASE_GRANT, AT(101), 3, 1, AT(100));
    cr_assert(update.began && update.deadline_changed);
    cr_assert_eq(lease.deadline.ns, AT(104));
}

Test(node_lease, asking_is_fast_until_the_first_grant_then_every_quarter)
{
    cr_assert_eq(vdc_run_lease_deadline(&lease).ns, AT(100) + VDC_RUN_LEASE_FIRST_NS);
    step(VDC_RUN_LEASE_GRANT, AT(100.1), 3, 1, AT(100));
    cr_assert_eq(vdc_run_lease_deadline(&lease).ns, AT(101));
    step(VDC_RUN_LEASE_TICK, AT(101), 0, 0, 0);
    cr_assert(update.ask);
    step(VDC_RUN_LEASE_TICK, AT(101.5), 0, 0, 0);
    cr_assert(!update.ask);
}

Test(node_lease, what_was_not_asked_is_not_taken)
{
    step(VDC_RUN_LEASE_GRANT, AT(101), 3, 1, AT(103)); /* of the future */
    cr_assert(!update.deadline_changed);
    step(VDC_RUN_LEASE_GRANT, AT(101), 3, 2, AT(100)); /* another incarnation */
    cr_assert(!update.deadline_changed);
    step(VDC_RUN_LEASE_GRANT, AT(101), 2, 1, AT(100)); /* an older epoch */
    cr_assert(!update.deadline_changed);
}

Test(node_lease, a_question_of_before_the_last_join_is_void)
{
    step(VDC_RUN_LEASE_LEAVE, AT(100.2), 0, 0, 0);
    step(VDC_RUN_LEASE_JOIN, AT(100.3), 4, 1, 0);
    step(VDC_RUN_LEASE_GRANT, AT(100.4), 4, 1, AT(100));
    cr_assert(!update.deadline_changed);
}

Test(node_lease, grants_out_of_order_never_shorten)
{
    step(VDC_RUN_LEASE_TICK, AT(101), 0, 0, 0);
    cr_assert(update.ask);
    step(VDC_RUN_LEASE_GRANT, AT(101.1), 3, 1, AT(101));
    step(VDC_RUN_LEASE_GRANT, AT(101.2), 3, 1, AT(100));
    cr_assert(!update.deadline_changed);
    cr_assert_eq(lease.deadline.ns, AT(105));
}

Test(node_lease, expiry_is_told_once_and_a_lost_leader_does_not_shorten)
{
    step(VDC_RUN_LEASE_GRANT, AT(100.1), 3, 1, AT(100));
    step(VDC_RUN_LEASE_LEAVE, AT(101), 0, 0, 0);
    cr_assert(vdc_run_lease_valid(&lease, (vdc_mono){AT(103.9)}));
    cr_assert_eq(vdc_run_lease_deadline(&lease).ns, AT(104));
    step(VDC_RUN_LEASE_TICK, AT(104), 0, 0, 0);
    cr_assert(update.expired);
    step(VDC_RUN_LEASE_TICK, AT(105), 0, 0, 0);
    cr_assert(!update.expired && !update.ask);
    cr_assert(vdc_mono_is_never(vdc_run_lease_deadline(&lease)));
}

Test(node_lease, revoking_ends_it_at_once)
{
    step(VDC_RUN_LEASE_GRANT, AT(100.1), 3, 1, AT(100));
    step(VDC_RUN_LEASE_REVOKE, AT(100.5), 0, 0, 0);
    cr_assert(update.expired && update.deadline_changed);
    cr_assert_eq(lease.deadline.ns, 0);
    cr_assert(!update.ask);
}
