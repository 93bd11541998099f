/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a random run meets too seldom to rely on: a fault at each place of a transaction, many that
 * want the last of something, the end of what is remembered, and the page map at its edges.
 */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "ultravisor_support.h"

static struct bench b;

static void setup(void)
{
    bench_init(&b);
}

static void teardown(void)
{
    bench_deinit(&b);
}

TestSuite(allocdb_edges, .init = setup, .fini = teardown);

static void must(struct vdc_op op)
{
    cr_assert_eq(commit(&b, &op, 1), VDC_RC_OK, "%s", b.result.text);
}

/* By the node itself, in its own slice. */
static enum vdc_rc commit_system(const struct vdc_op *ops, uint32_t len)
{
    struct vdc_tx tx = tx_of(&b, ops, len);
    tx.zone[0] = 0;
    tx.role = VDC_ROLE_SYSTEM;
    tx.epoch = 0;
    return commit_tx(&b, &tx);
}

/* --- the machine changes --- */

Test(allocdb_edges, a_cpu_that_leaves_must_not_be_needed_by_the_nodes_own_shares)
{
    struct vdc_op inventory = op_inventory();
    struct vdc_op ops[] = {op_create(1, "ultravisor"), op_shared(1, 1000)};
    must(op_zone_set(500, 500, 1000));
    cr_assert_eq(commit_system(ops, 2), VDC_RC_OK, "%s", b.result.text);
    /* The zone has CPUs 0 to 3; the node's pool is 4, 5, 6 and 9. */
    struct vdc_cpu_info left[5];
    memcpy(left, inventory.inventory_set.cpus, 4 * sizeof(left[0]));
    inventory.inventory_set.cpus = left;
    inventory.inventory_set.cpus_len = 4;
    cr_assert_eq(commit_system(&inventory, 1), VDC_RC_CONFLICT);
    cr_assert_eq(b.result.rule, VDC_RULE_CPU_POOL);
    cr_assert_eq(b.result.asked, 1000);
    cr_assert_eq(b.result.free, 0);
    left[4] = (struct vdc_cpu_info){.number = 77, .numa = 0, .core = 9};
    inventory.inventory_set.cpus_len = 5;
    cr_assert_eq(commit_system(&inventory, 1), VDC_RC_OK, "a new one is as good: %s",
                 b.result.text);
}
