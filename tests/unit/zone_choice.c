/* SPDX-License-Identifier: Apache-2.0 */
/* Which CPUs and which NUMA node a partition is given. The machine: two NUMA nodes with four cores of
 * two threads each (core c of node n: CPUs 4n + c and 8 + 4n + c) and 1 GiB each, all of zone "prod". */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include <vdc/zone_choice.h>

#include "ultravisor_support.h"

static struct bench b;
static struct vdc_zone_choice choice;

static void setup(void)
{
    static struct vdc_cpu_info cpus[16];
    static const struct vdc_numa_info numa[] = {{0, GIB}, {1, GIB}};
    for (uint16_t i = 0; i < 16; i++) {
        cpus[i] = (struct vdc_cpu_info){
            .number = i, .numa = i / 4 % 2, .socket = i / 4 % 2, .core = i % 4, .thread = i / 8};
    }
    struct vdc_op op = {
        .kind = VDC_OP_INVENTORY_SET,
        .inventory_set = {.cpus = cpus, .cpus_len = 16, .numa = numa, .numa_len = 2}};
    bench_init_empty(&b);
    cr_assert_eq(commit_tx(&b, &(struct vdc_tx){.role = VDC_ROLE_SYSTEM, .ops = &op, .ops_len = 1}),
                 VDC_RC_OK);
    op = op_zone_set(1000, 1000, 4000);
    cr_assert_eq(commit(&b, &op, 1), VDC_RC_OK);
}

static void teardown(void)
{
    bench_deinit(&b);
}

TestSuite(zone_choice, .init = setup, .fini = teardown);

static void choose(uint32_t cpus, uint64_t bytes)
{
    vdc_zone_choose(b.db, "prod", cpus, bytes, NULL, 0, &choice);
}

static void is_given(uint64_t id, const uint16_t *cpus, uint32_t len, uint32_t numa, uint64_t bytes)
{
    char name[16];
    snprintf(name, sizeof name, "p%u", (unsigned)id);
    struct vdc_op ops[] = {
        op_create(id, name),
        {.kind = VDC_OP_CPU_ASSIGN,
         .cpu_assign = {.id = id_of(id), .cpus = cpus, .cpus_len = len, .numa = VDC_NUMA_ANY}},
        op_memory(id, numa, bytes)};
    cr_assert_eq(commit(&b, ops, 3), VDC_RC_OK, "%s", b.result.text);
}

static void chose(const char *expected, uint32_t numa, bool one_node)
{
    struct vdc_buf text = {0};
    for (uint32_t i = 0; i < choice.cpus_len; i++) {
        vdc_buf_printf(&text, "%s%u", i > 0 ? " " : "", choice.cpus[i]);
    }
    cr_assert_str_eq(vdc_buf_text(&text), expected);
    cr_assert_eq(choice.numa, numa);
    cr_assert_eq(choice.one_node, one_node);
    vdc_buf_deinit(&text);
}

Test(zone_choice, both_threads_of_a_core_are_taken_before_a_second_core)
{
    choose(2, 64 * MIB);
    chose("0 8", 0, true);
    choose(4, 64 * MIB);
    chose("0 1 8 9", 0, true);
}

Test(zone_choice, an_odd_number_breaks_a_core_that_is_broken_already)
{
    is_given(1, (uint16_t[]){0}, 1, 0, 2 * MIB);
    choose(3, 64 * MIB);
    chose("1 8 9", 0, true); /* a core of its own, and the thread beside p1's */
    choose(1, 64 * MIB);
    chose("8", 0, true);
}

Test(zone_choice, the_node_with_least_beyond_it_is_taken_so_that_large_ones_find_a_whole_one)
{
    is_given(1, (uint16_t[]){4, 12}, 2, 1, 2 * MIB);
    choose(4, 64 * MIB);
    chose("5 6 13 14", 1, true);
    choose(8, 64 * MIB);
    chose("0 1 2 3 8 9 10 11", 0, true);
}

Test(zone_choice, cpus_and_memory_are_of_one_node_if_one_has_both)
{
    is_given(1, (uint16_t[]){4, 12}, 2, 1, 1000 * MIB);
    choose(2, 512 * MIB);
    chose("0 8", 0, true);
}

Test(zone_choice, what_fits_no_node_comes_from_as_few_as_possible)
{
    is_given(1, (uint16_t[]){0, 8}, 2, 0, 2 * MIB);
    choose(10, 64 * MIB);
    chose("1 4 5 6 7 9 12 13 14 15", 1, false);
}

Test(zone_choice, more_than_there_is_names_nothing)
{
    is_given(1, (uint16_t[]){0, 8}, 2, 0, 2 * MIB);
    choose(15, 64 * MIB);
    chose("", VDC_NUMA_ANY, false);
}

Test(zone_choice, a_share_of_the_pool_lies_where_most_memory_is_free)
{
    is_given(1, (uint16_t[]){0}, 1, 0, 512 * MIB);
    choose(0, 256 * MIB);
    chose("", 1, true);
    choose(0, 1536 * MIB);
    chose("", 1, false);
}

Test(zone_choice, what_is_on_its_way_is_not_given_twice)
{
    struct vdc_zone_choice first;
    struct vdc_zone_choice second;
    const struct vdc_zone_choice *busy[] = {&first, &second};
    vdc_zone_choose(b.db, "prod", 2, 768 * MIB, NULL, 0, &first);
    vdc_zone_choose(b.db, "prod", 2, 768 * MIB, busy, 1, &second);
    cr_assert_eq(first.numa, 0);
    cr_assert_eq(second.numa, 1);
    vdc_zone_choose(b.db, "prod", 2, 128 * MIB, busy, 2, &choice);
    chose("1 9", 0, true);
    vdc_zone_choose(b.db, "prod", 0, 300 * MIB, busy, 2, &choice);
    cr_assert_not(choice.one_node);
}

Test(zone_choice, cpus_of_other_zones_and_of_the_node_itself_are_left_alone)
{
    struct vdc_op op = op_zone_set(0, 1000, 4000);
    op.zone_set.cpu = (struct vdc_share){.amount = 2};
    op.zone_set.cpus = (uint16_t[]){6, 14};
    op.zone_set.cpus_len = 2;
    cr_assert_eq(commit(&b, &op, 1), VDC_RC_OK, "%s", b.result.text);
    choose(2, 64 * MIB);
    chose("6 14", 1, true);
    choose(3, 64 * MIB);
    chose("", VDC_NUMA_ANY, false);
}
