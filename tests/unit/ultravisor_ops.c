/* SPDX-License-Identifier: Apache-2.0 */
/* The operations one by one: what they do, what refuses them and with which numbers. */
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

TestSuite(ultravisor_ops, .init = setup, .fini = teardown);

static const struct vdc_partition *find(uint64_t id)
{
    struct vdc_id key = id_of(id);
    return vdc_allocdb_find_partition(b.db, &key);
}

static void must(const struct vdc_op *ops, uint32_t len)
{
    cr_assert_eq(commit(&b, ops, len), VDC_RC_OK, "%s", b.result.text);
}

/* Refused so, and nothing of the resources changed. */
static void refused(const struct vdc_op *ops, uint32_t len, enum vdc_rc rc, enum vdc_tx_rule rule,
                    uint32_t op)
{
    struct vdc_digest before = vdc_allocdb_digest(b.db);
    cr_assert_eq(commit(&b, ops, len), rc, "%s: %s", vdc_rc_name(b.result.rc), b.result.text);
    struct vdc_digest after = vdc_allocdb_digest(b.db);
    cr_assert(vdc_digest_equal(&before, &after));
    cr_assert_eq(b.result.rule, rule, "%s: %s", vdc_tx_rule_name(b.result.rule), b.result.text);
    cr_assert_eq(b.result.op, op);
    cr_assert_neq(b.result.text[0], 0);
}

Test(ultravisor_ops, a_zone_that_joins_with_everything_leaves_the_node_nothing)
{
    const struct vdc_zone_slice *zone = vdc_allocdb_find_zone(b.db, "prod");
    cr_assert_eq(zone->cpus, 8);
    cr_assert_eq(zone->shared_capacity_milli, 8 * 4000);
    cr_assert_eq(zone->memory_bytes, 2 * NUMA_BYTES);
    const struct vdc_zone_slice *node = vdc_allocdb_zone_at(b.db, 0);
    cr_assert_eq(node->cpus, 0);
    cr_assert_eq(node->memory_bytes, 0);
}

Test(ultravisor_ops, a_partition_is_created_with_its_share_and_memory_in_one_transaction)
{
    struct vdc_op ops[] = {op_create(1, "web"), op_shared(1, 2000),
                           op_memory(1, VDC_NUMA_ANY, 128 * MIB)};
    must(ops, 3);
    const struct vdc_partition *web = find(1);
    cr_assert_str_eq(web->name, "web");
    cr_assert_str_eq(web->zone, "prod");
    cr_assert_str_eq(web->tenant, "acme");
    cr_assert_str_eq(web->class_name, "gold");
    cr_assert_eq(web->run, VDC_RUN_RUNNING);
    cr_assert_eq(web->shared_milli, 2000);
    cr_assert_eq(web->held_bytes, 128 * MIB);
    cr_assert_eq(web->blocks_len, 1);
    cr_assert_eq(web->config_len, 2);
    cr_assert_eq(web->sequence, b.result.sequence);
    cr_assert_eq(vdc_allocdb_memory_owner(b.db, 0, 5 * MIB, NULL), web);
    const struct vdc_zone_slice *zone = vdc_allocdb_find_zone(b.db, "prod");
    cr_assert_eq(zone->shared_used_milli, 2000);
    cr_assert_eq(zone->memory_used_bytes, 128 * MIB);
    cr_assert_eq(zone->partitions, 1);
}

Test(ultravisor_ops, destroying_returns_to_the_digest_of_before)
{
    struct vdc_digest before = vdc_allocdb_digest(b.db);
    struct vdc_op ops[] = {op_create(1, "web"), op_any(1, 3, VDC_NUMA_ANY),
                           op_memory(1, 1, 1 * GIB + 6 * MIB)};
    must(ops, 3);
    struct vdc_op destroy = op_destroy(1, 1);
    must(&destroy, 1);
    struct vdc_digest after = vdc_allocdb_digest(b.db);
    cr_assert(vdc_digest_equal(&before, &after));
    cr_assert_null(find(1));
    cr_assert_eq(vdc_allocdb_memory_free_bytes(b.db), 2 * NUMA_BYTES);
}

Test(ultravisor_ops, any_cpus_of_a_numa_node_are_its_lowest_numbered_free_ones)
{
    struct vdc_op ops[] = {op_create(1, "web"), op_any(1, 2, 1)};
    must(ops, 2);
    cr_assert_eq(find(1)->cpus_len, 2);
    cr_assert_eq(find(1)->cpus[0], 1);
    cr_assert_eq(find(1)->cpus[1], 3);
    cr_assert_eq(vdc_allocdb_cpu_owner(b.db, 3), find(1));
    cr_assert_null(vdc_allocdb_cpu_owner(b.db, 0));
    cr_assert_eq(vdc_allocdb_zone_cpus_free(b.db, "prod", 1), 2);
    struct vdc_op more[] = {op_create(2, "db"), op_any(2, 3, 1)};
    refused(more, 2, VDC_RC_NO_SPACE, VDC_RULE_CPU_FREE, 1);
    cr_assert_eq(b.result.asked, 3);
    cr_assert_eq(b.result.free, 2);
}

Test(ultravisor_ops, named_cpus_are_refused_when_busy_or_unknown)
{
    uint16_t cpus[] = {4, 9};
    struct vdc_op ops[] = {op_create(1, "web"), {.kind = VDC_OP_CPU_ASSIGN}};
    ops[1].cpu_assign = (struct vdc_op_cpu_assign){.id = id_of(1), .cpus = cpus, .cpus_len = 2};
    must(ops, 2);
    cr_assert_eq(find(1)->cpus[1], 9);
    struct vdc_op again[] = {op_create(2, "db"), ops[1]};
    again[1].cpu_assign.id = id_of(2);
    refused(again, 2, VDC_RC_CONFLICT, VDC_RULE_CPU_BUSY, 1);
    uint16_t unknown[] = {7};
    again[1].cpu_assign.cpus = unknown;
    again[1].cpu_assign.cpus_len = 1;
    refused(again, 2, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CPU, 1);
}

Test(ultravisor_ops, the_pool_ends_at_its_cpus_times_the_overcommit)
{
    struct vdc_op ops[] = {op_create(1, "web"), op_shared(1, 31000)};
    must(ops, 2);
    struct vdc_op more[] = {op_create(2, "db"), op_shared(2, 1001)};
    refused(more, 2, VDC_RC_NO_SPACE, VDC_RULE_CPU_POOL, 1);
    cr_assert_eq(b.result.asked, 1001);
    cr_assert_eq(b.result.free, 1000);
    more[1] = op_shared(2, 1000);
    must(more, 2);
    /* A dedicated CPU would take 4000 milli-CPU out of the full pool. */
    struct vdc_op dedicated[] = {op_create(3, "batch"), op_any(3, 1, VDC_NUMA_ANY)};
    refused(dedicated, 2, VDC_RC_NO_SPACE, VDC_RULE_CPU_POOL, 1);
}

Test(ultravisor_ops, dedicated_and_shared_cpus_do_not_mix)
{
    struct vdc_op ops[] = {op_create(1, "web"), op_shared(1, 1000), op_any(1, 1, 0)};
    refused(ops, 3, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, 2);
}

Test(ultravisor_ops, memory_refusals_say_asked_free_and_largest)
{
    struct vdc_op ops[] = {op_create(1, "web"), op_memory(1, 0, 2 * GIB + 2 * MIB)};
    must(ops, 2);
    struct vdc_op more[] = {op_create(2, "db"), op_memory(2, 0, 1 * GIB)};
    refused(more, 2, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_FREE, 1);
    cr_assert_eq(b.result.asked, 1 * GIB);
    cr_assert_eq(b.result.free, 1 * GIB - 2 * MIB);
    cr_assert_eq(b.result.largest, 2 * MIB);
    more[1] = op_memory(2, VDC_NUMA_ANY, 1 * GIB);
    must(more, 2);
    cr_assert_eq(find(2)->blocks[0].numa, 1, "the NUMA node that holds all of it");
}

Test(ultravisor_ops, memory_larger_than_a_numa_node_spans_several)
{
    struct vdc_op ops[] = {op_create(1, "big"), op_memory(1, VDC_NUMA_ANY, 5 * GIB)};
    must(ops, 2);
    cr_assert_eq(find(1)->blocks_len, 2);
    cr_assert_eq(find(1)->blocks[0].bytes, 3 * GIB);
    cr_assert_eq(find(1)->blocks[1].bytes, 2 * GIB);
}

/* Holes of 100 MiB are not what a demand of 200 MiB is made of while a longer run is free. */
Test(ultravisor_ops, memory_goes_where_a_run_holds_all_of_it)
{
    for (uint64_t id = 1; id <= 3; id++) {
        struct vdc_op ops[] = {op_create(id, "web"), op_memory(id, 0, 100 * MIB)};
        must(ops, 2);
    }
    struct vdc_op gone = op_destroy(1, 1);
    must(&gone, 1);
    struct vdc_op larger[] = {op_create(4, "db"), op_memory(4, 0, 200 * MIB)};
    must(larger, 2);
    cr_assert_eq(find(4)->blocks_len, 1);
    cr_assert_eq(find(4)->blocks[0].addr, 300 * MIB);
    struct vdc_op equal[] = {op_create(5, "db"), op_memory(5, 0, 100 * MIB)};
    must(equal, 2);
    cr_assert_eq(find(5)->blocks_len, 1);
    cr_assert_eq(find(5)->blocks[0].addr, 0, "the lowest run that is long enough");
}

Test(ultravisor_ops, guests_get_whole_2_mib_pages_and_system_partitions_4_kib)
{
    struct vdc_op ops[] = {op_create(1, "web"), op_memory(1, 0, 2 * MIB + 4 * KIB)};
    refused(ops, 2, VDC_RC_INVALID, VDC_RULE_MEMORY_PAGE, 1);
    cr_assert_eq(b.record.len, 0, "it would be refused for ever: nothing is stored");
    ops[0].partition_create.kind = VDC_PARTITION_SYSTEM;
    must(ops, 2);
    unsigned steps;
    cr_assert_eq(vdc_allocdb_memory_owner(b.db, 0, find(1)->blocks[0].addr, &steps), find(1));
    cr_assert_leq(steps, 3);
}

Test(ultravisor_ops, named_blocks_must_be_free_and_can_be_released_in_part)
{
    struct vdc_memory_block block = {.addr = 64 * MIB, .bytes = 8 * MIB, .numa = 1};
    struct vdc_op ops[] = {op_create(1, "web"), op_memory(1, VDC_NUMA_ANY, 8 * MIB)};
    ops[1].memory_assign.blocks = &block;
    ops[1].memory_assign.blocks_len = 1;
    must(ops, 2);
    struct vdc_op other[] = {op_create(2, "db"), ops[1]};
    other[1].memory_assign.id = id_of(2);
    refused(other, 2, VDC_RC_CONFLICT, VDC_RULE_MEMORY_BUSY, 1);
    struct vdc_memory_block middle = {.addr = 66 * MIB, .bytes = 2 * MIB, .numa = 1};
    struct vdc_op release = {
        .kind = VDC_OP_MEMORY_RELEASE,
        .memory_release = {.id = id_of(1), .blocks = &middle, .blocks_len = 1}};
    must(&release, 1);
    cr_assert_eq(find(1)->blocks_len, 2);
    cr_assert_eq(find(1)->held_bytes, 6 * MIB);
    refused(&release, 1, VDC_RC_CONFLICT, VDC_RULE_MEMORY_BUSY, 0);
}

Test(ultravisor_ops, run_generation_and_configuration_change_under_the_guard)
{
    struct vdc_op create = op_create(1, "web");
    must(&create, 1);
    struct vdc_op stale = op_run(1, 2, VDC_RUN_PAUSED);
    refused(&stale, 1, VDC_RC_STALE, VDC_RULE_GENERATION, 0);
    cr_assert_eq(b.result.asked, 2);
    cr_assert_eq(b.result.free, 1);
    struct vdc_op ops[] = {
        op_run(1, 1, VDC_RUN_PAUSED),
        {.kind = VDC_OP_PARTITION_SET_GENERATION,
         .partition_set_generation = {.id = id_of(1), .generation = 1, .next = 5}},
        {.kind = VDC_OP_PARTITION_SET_CONFIG,
         .partition_set_config = {.id = id_of(1),
                                  .generation = 5,
                                  .config = (const uint8_t *)"{\"a\":1}",
                                  .config_len = 7}},
    };
    must(ops, 3);
    cr_assert_eq(find(1)->run, VDC_RUN_PAUSED);
    cr_assert_eq(find(1)->generation, 5);
    cr_assert_eq(find(1)->config_len, 7);
    struct vdc_op old = op_destroy(1, 1);
    refused(&old, 1, VDC_RC_STALE, VDC_RULE_GENERATION, 0);
}

Test(ultravisor_ops, a_fault_at_any_operation_leaves_no_trace)
{
    struct vdc_op base[] = {
        op_create(1, "web"), op_shared(1, 1000), op_memory(1, 0, 1 * GIB + 6 * MIB),
        op_create(2, "db"),  op_any(2, 2, 1),    op_memory(2, 1, 64 * MIB)};
    must(base, 6);
    struct vdc_memory_block piece = {.addr = find(1)->blocks[0].addr, .bytes = 2 * MIB, .numa = 0};
    struct vdc_op ops[] = {
        op_zone_set(1000, 1000, 5000),
        op_create(3, "batch"),
        op_any(3, 1, 0),
        op_memory(3, VDC_NUMA_ANY, 4 * MIB),
        {.kind = VDC_OP_MEMORY_RELEASE,
         .memory_release = {.id = id_of(1), .blocks = &piece, .blocks_len = 1}},
        {.kind = VDC_OP_CPU_RELEASE, .cpu_release = {.id = id_of(2)}},
        op_shared(2, 500),
        op_run(2, 1, VDC_RUN_STOPPED),
        {.kind = VDC_OP_PARTITION_SET_GENERATION,
         .partition_set_generation = {.id = id_of(2), .generation = 1, .next = 2}},
        {.kind = VDC_OP_PARTITION_SET_CONFIG,
         .partition_set_config = {.id = id_of(2), .generation = 2}},
        op_destroy(1, 1),
        op_create(1, "web-again"),
        {.kind = VDC_OP_INCARNATION_SET, .incarnation_set = {.incarnation = 7}},
        op_destroy(3, 1),
    };
    for (uint32_t fail = 0; fail <= VDC_COUNT_OF(ops); fail++) {
        struct vdc_op broken[VDC_COUNT_OF(ops) + 1];
        memcpy(broken, ops, sizeof(ops));
        memmove(&broken[fail + 1], &broken[fail], (VDC_COUNT_OF(ops) - fail) * sizeof(ops[0]));
        broken[fail] = op_run(99, 1, VDC_RUN_RUNNING);
        refused(broken, VDC_COUNT_OF(ops) + 1, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_PARTITION, fail);
    }
    must(ops, VDC_COUNT_OF(ops));
}

Test(ultravisor_ops, an_older_epoch_is_refused_and_a_newer_one_remembered)
{
    b.epoch = 7;
    struct vdc_op epoch = {.kind = VDC_OP_ZONE_EPOCH};
    must(&epoch, 1);
    cr_assert_eq(vdc_allocdb_find_zone(b.db, "prod")->epoch, 7);
    b.epoch = 6;
    struct vdc_op create = op_create(1, "web");
    refused(&create, 1, VDC_RC_STALE, VDC_RULE_EPOCH, VDC_TX_OP_NONE);
    cr_assert_eq(b.result.asked, 6);
    cr_assert_eq(b.result.free, 7);
    cr_assert_eq(b.record.len, 0);
    /* A refusal by the state also carries the epoch. */
    b.epoch = 9;
    struct vdc_op unknown = op_run(1, 1, VDC_RUN_PAUSED);
    cr_assert_eq(commit(&b, &unknown, 1), VDC_RC_NOT_FOUND);
    cr_assert_eq(vdc_allocdb_find_zone(b.db, "prod")->epoch, 9);
}

Test(ultravisor_ops, a_known_request_id_gets_its_first_answer)
{
    struct vdc_op create = op_create(1, "web");
    struct vdc_tx tx = tx_of(&b, &create, 1);
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_OK);
    uint64_t first = b.result.sequence;
    struct vdc_op destroy = op_destroy(1, 1);
    must(&destroy, 1);
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_OK);
    cr_assert(b.result.repeated);
    cr_assert_eq(b.result.sequence, first);
    cr_assert_null(find(1), "it did not take effect again");

    struct vdc_op unknown = op_run(1, 1, VDC_RUN_PAUSED);
    struct vdc_tx refusal = tx_of(&b, &unknown, 1);
    cr_assert_eq(commit_tx(&b, &refusal), VDC_RC_NOT_FOUND);
    char text[VDC_TX_TEXT_CAP];
    memcpy(text, b.result.text, sizeof(text));
    must(&create, 1);
    cr_assert_eq(commit_tx(&b, &refusal), VDC_RC_NOT_FOUND, "refused once, refused for ever");
    cr_assert(b.result.repeated);
    cr_assert_str_eq(b.result.text, text);
}

Test(ultravisor_ops, the_oldest_answer_is_forgotten_when_there_are_too_many)
{
    struct vdc_op run = op_run(1, 1, VDC_RUN_PAUSED);
    struct vdc_op create = op_create(1, "web");
    must(&create, 1);
    struct vdc_tx first = tx_of(&b, &run, 1);
    struct vdc_tx tx = first;
    for (uint32_t i = 0; i <= VDC_ALLOCDB_REQUESTS_MAX; i++) {
        cr_assert_eq(vdc_allocdb_commit(b.db, &tx, &b.result, &b.record), VDC_RC_OK);
        cr_assert_not(b.result.repeated);
        tx = tx_of(&b, &run, 1);
    }
    cr_assert_eq(vdc_allocdb_commit(b.db, &first, &b.result, &b.record), VDC_RC_OK);
    cr_assert_not(b.result.repeated);
}

Test(ultravisor_ops, only_the_owning_zone_changes_a_partition)
{
    struct vdc_op half = op_zone_set(500, 500, 4000);
    must(&half, 1);
    struct vdc_op create = op_create(1, "web");
    must(&create, 1);
    struct vdc_tx other = tx_of(&b, &half, 1);
    vdc_str_set(other.zone, sizeof(other.zone), "test");
    cr_assert_eq(commit_tx(&b, &other), VDC_RC_OK, "%s", b.result.text);
    struct vdc_op ops[] = {op_run(1, 1, VDC_RUN_STOPPED)};
    other = tx_of(&b, ops, 1);
    vdc_str_set(other.zone, sizeof(other.zone), "test");
    cr_assert_eq(commit_tx(&b, &other), VDC_RC_FORBIDDEN);
    cr_assert_eq(b.result.rule, VDC_RULE_ZONE);
    /* Nor does it take the other zone's CPUs. */
    uint16_t first[] = {0};
    struct vdc_op take[] = {op_create(2, "db"), {.kind = VDC_OP_CPU_ASSIGN}};
    take[1].cpu_assign = (struct vdc_op_cpu_assign){.id = id_of(2), .cpus = first, .cpus_len = 1};
    other = tx_of(&b, take, 2);
    vdc_str_set(other.zone, sizeof(other.zone), "test");
    cr_assert_eq(commit_tx(&b, &other), VDC_RC_CONFLICT);
    cr_assert_eq(b.result.rule, VDC_RULE_CPU_BUSY);
}

Test(ultravisor_ops, guests_and_io_partitions_change_nothing)
{
    struct vdc_op create = op_create(1, "web");
    struct vdc_tx tx = tx_of(&b, &create, 1);
    tx.role = VDC_ROLE_GUEST;
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_FORBIDDEN);
    tx.role = VDC_ROLE_IO;
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_FORBIDDEN);
    cr_assert_eq(b.result.rule, VDC_RULE_ROLE);
    struct vdc_op inventory = op_inventory();
    refused(&inventory, 1, VDC_RC_FORBIDDEN, VDC_RULE_ROLE, 0);
}

Test(ultravisor_ops, slices_cannot_exceed_the_node)
{
    struct vdc_op set = op_zone_set(500, 400, 1000);
    must(&set, 1);
    struct vdc_tx tx = tx_of(&b, &set, 1);
    vdc_str_set(tx.zone, sizeof(tx.zone), "test");
    set.zone_set.cpu.milli = 625;
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_NO_SPACE);
    cr_assert_eq(b.result.rule, VDC_RULE_SLICE_CPU);
    cr_assert_eq(b.result.asked, 5);
    cr_assert_eq(b.result.free, 4);
    cr_assert_null(vdc_allocdb_find_zone(b.db, "test"));
    set.zone_set.cpu.milli = 500;
    set.zone_set.memory.milli = 601;
    tx.request_id = id_of(77);
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_NO_SPACE);
    cr_assert_eq(b.result.rule, VDC_RULE_SLICE_MEMORY);
    set.zone_set.memory.milli = 600;
    tx.request_id = id_of(78);
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_OK, "%s", b.result.text);
}

Test(ultravisor_ops, a_slice_shrinks_only_to_what_is_in_use)
{
    struct vdc_op ops[] = {op_create(1, "web"), op_shared(1, 16001), op_memory(1, 0, 1 * GIB)};
    must(ops, 3);
    struct vdc_op cpus = op_zone_set(500, 1000, 4000);
    refused(&cpus, 1, VDC_RC_CONFLICT, VDC_RULE_CPU_POOL, 0);
    struct vdc_op memory = op_zone_set(1000, 100, 4000);
    refused(&memory, 1, VDC_RC_CONFLICT, VDC_RULE_IN_USE, 0);
    struct vdc_op leave = {.kind = VDC_OP_ZONE_LEAVE};
    refused(&leave, 1, VDC_RC_CONFLICT, VDC_RULE_IN_USE, 0);
}

Test(ultravisor_ops, a_zone_leaves_and_its_epoch_stays)
{
    b.epoch = 5;
    struct vdc_op leave = {.kind = VDC_OP_ZONE_LEAVE};
    must(&leave, 1);
    cr_assert_not(vdc_allocdb_find_zone(b.db, "prod")->joined);
    cr_assert_eq(vdc_allocdb_zone_at(b.db, 0)->cpus, 8);
    struct vdc_op create = op_create(1, "web");
    refused(&create, 1, VDC_RC_NOT_FOUND, VDC_RULE_ZONE, 0);
    b.epoch = 4;
    struct vdc_op set = op_zone_set(1000, 1000, 1000);
    refused(&set, 1, VDC_RC_STALE, VDC_RULE_EPOCH, VDC_TX_OP_NONE);
    b.epoch = 6;
    must(&set, 1);
}

Test(ultravisor_ops, incarnations_only_grow)
{
    struct vdc_op set = {.kind = VDC_OP_INCARNATION_SET, .incarnation_set = {.incarnation = 3}};
    must(&set, 1);
    cr_assert_eq(vdc_allocdb_find_zone(b.db, "prod")->incarnation, 3);
    refused(&set, 1, VDC_RC_STALE, VDC_RULE_INCARNATION, 0);
}

Test(ultravisor_ops, a_changed_machine_keeps_what_is_held)
{
    struct vdc_op ops[] = {op_create(1, "web"), op_any(1, 1, 1), op_memory(1, 1, 1 * GIB)};
    must(ops, 3);
    struct vdc_op half = op_zone_set(500, 500, 4000);
    must(&half, 1);
    /* CPU 9 left and a NUMA node of memory shrank: both were free and in no zone. */
    struct vdc_op inventory = op_inventory();
    struct vdc_numa_info numa[] = {{.number = 0, .memory_bytes = 2 * GIB},
                                   {.number = 1, .memory_bytes = NUMA_BYTES}};
    inventory.inventory_set.cpus_len = 7;
    inventory.inventory_set.numa = numa;
    struct vdc_tx tx = {.role = VDC_ROLE_SYSTEM, .ops = &inventory, .ops_len = 1};
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_OK, "%s", b.result.text);
    cr_assert_eq(vdc_allocdb_count_cpus(b.db), 7);
    cr_assert_eq(vdc_allocdb_memory_owner(b.db, 1, 0, NULL), find(1));
    numa[1].memory_bytes = 512 * MIB;
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_CONFLICT);
    cr_assert_eq(b.result.rule, VDC_RULE_IN_USE);
    inventory.inventory_set.cpus_len = 1;
    numa[1].memory_bytes = NUMA_BYTES;
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_CONFLICT);
    cr_assert_eq(b.result.rule, VDC_RULE_IN_USE);
}

Test(ultravisor_ops, a_claim_holds_until_it_is_committed_or_aborted)
{
    struct vdc_digest before = vdc_allocdb_digest(b.db);
    struct vdc_op ops[] = {op_create(1, "web"), op_shared(1, 1000), op_memory(1, 0, 64 * MIB),
                           op_create(2, "db")};
    struct vdc_tx tx = tx_of(&b, ops, 4);
    tx.kind = VDC_TX_PREPARE;
    tx.claim = id_of(500);
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_OK, "%s", b.result.text);
    struct vdc_claim claim;
    cr_assert(vdc_allocdb_claim_at(b.db, 0, &claim));
    cr_assert_eq(claim.partitions, 2);
    struct vdc_op run = op_run(1, 1, VDC_RUN_RUNNING);
    refused(&run, 1, VDC_RC_CONFLICT, VDC_RULE_CLAIMED, 0);

    struct vdc_tx abort_tx = tx_of(&b, NULL, 0);
    abort_tx.kind = VDC_TX_ABORT_CLAIM;
    abort_tx.claim = id_of(500);
    cr_assert_eq(commit_tx(&b, &abort_tx), VDC_RC_OK, "%s", b.result.text);
    struct vdc_digest after = vdc_allocdb_digest(b.db);
    cr_assert(vdc_digest_equal(&before, &after));
    abort_tx.request_id = id_of(901);
    cr_assert_eq(commit_tx(&b, &abort_tx), VDC_RC_NOT_FOUND);
    cr_assert_eq(b.result.rule, VDC_RULE_UNKNOWN_CLAIM);

    tx.request_id = id_of(902);
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_OK);
    tx.request_id = id_of(903);
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_EXISTS);
    struct vdc_tx commit_claim = tx_of(&b, NULL, 0);
    commit_claim.kind = VDC_TX_COMMIT_CLAIM;
    commit_claim.claim = id_of(500);
    cr_assert_eq(commit_tx(&b, &commit_claim), VDC_RC_OK);
    must(&run, 1);
    /* The same state as without a claim. */
    struct vdc_digest claimed = vdc_allocdb_digest(b.db);
    struct vdc_op destroy[] = {op_destroy(1, 1), op_destroy(2, 1)};
    must(destroy, 2);
    must(ops, 4);
    must(&run, 1);
    after = vdc_allocdb_digest(b.db);
    cr_assert(vdc_digest_equal(&claimed, &after));
}

Test(ultravisor_ops, a_claim_does_nothing_that_an_abort_could_not_take_back)
{
    struct vdc_op create = op_create(1, "web");
    must(&create, 1);
    struct vdc_op ops[] = {op_create(2, "db"), op_destroy(1, 1)};
    struct vdc_tx tx = tx_of(&b, ops, 2);
    tx.kind = VDC_TX_PREPARE;
    tx.claim = id_of(500);
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_INVALID);
    cr_assert_eq(b.result.rule, VDC_RULE_CLAIM_OPS);
}

Test(ultravisor_ops, a_snapshot_restores_everything_and_is_canonical)
{
    struct vdc_op ops[] = {
        op_create(1, "web"), op_shared(1, 1000), op_memory(1, 0, 1 * GIB + 6 * MIB),
        op_create(2, "db"),  op_any(2, 2, 1),    op_memory(2, 1, 64 * MIB)};
    must(ops, 6);
    struct vdc_op held[] = {op_create(3, "claimed"), op_memory(3, VDC_NUMA_ANY, 2 * MIB)};
    struct vdc_tx tx = tx_of(&b, held, 2);
    tx.kind = VDC_TX_PREPARE;
    tx.claim = id_of(500);
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_OK);
    struct vdc_op incarnation = {.kind = VDC_OP_INCARNATION_SET,
                                 .incarnation_set = {.incarnation = 3}};
    must(&incarnation, 1);
    struct vdc_op unknown = op_run(1, 7, VDC_RUN_PAUSED);
    struct vdc_tx refusal = tx_of(&b, &unknown, 1);
    cr_assert_eq(commit_tx(&b, &refusal), VDC_RC_STALE);

    struct vdc_buf first = {0};
    struct vdc_buf second = {0};
    struct vdc_buf replica = {0};
    vdc_allocdb_snapshot(b.db, &first);
    vdc_allocdb_snapshot(b.replica, &replica);
    struct vdc_allocdb *restored;
    struct vdc_err err = {0};
    cr_assert_eq(vdc_allocdb_restore(first.data, first.len, &restored, &err), VDC_RC_OK, "%s",
                 err.text);
    vdc_allocdb_snapshot(restored, &second);
    cr_assert_eq(first.len, second.len);
    cr_assert_eq(memcmp(first.data, second.data, first.len), 0);
    cr_assert_eq(first.len, replica.len);
    cr_assert_eq(memcmp(first.data, replica.data, first.len), 0, "replica's snapshot");

    /* It goes on from there: the claim settles, the stored refusal is still the answer. */
    vdc_allocdb_destroy(b.replica);
    b.replica = restored;
    struct vdc_tx settle = tx_of(&b, NULL, 0);
    settle.kind = VDC_TX_ABORT_CLAIM;
    settle.claim = id_of(500);
    cr_assert_eq(commit_tx(&b, &settle), VDC_RC_OK);
    struct vdc_buf record = {0};
    cr_assert_eq(vdc_allocdb_commit(restored, &refusal, &b.result, &record), VDC_RC_STALE);
    cr_assert(b.result.repeated);
    cr_assert_eq(b.result.rule, VDC_RULE_GENERATION);

    for (size_t at = 0; at < first.len; at++) {
        struct vdc_allocdb *broken;
        first.data[at] ^= 0x20;
        cr_assert_neq(vdc_allocdb_restore(first.data, first.len, &broken, &err), VDC_RC_OK);
        cr_assert_neq(vdc_allocdb_restore(first.data, at, &broken, &err), VDC_RC_OK);
        first.data[at] ^= 0x20;
    }
    vdc_buf_deinit(&record);
    vdc_buf_deinit(&first);
    vdc_buf_deinit(&second);
    vdc_buf_deinit(&replica);
}

Test(ultravisor_ops, a_record_is_applied_once_and_in_order)
{
    struct vdc_op create = op_create(1, "web");
    must(&create, 1);
    struct vdc_err err;
    cr_assert_eq(vdc_allocdb_apply_record(b.replica, b.record.data, b.record.len, &err),
                 VDC_RC_PROTOCOL);
    struct vdc_allocdb *fresh = vdc_allocdb_create();
    cr_assert_eq(vdc_allocdb_apply_record(fresh, b.record.data, b.record.len, &err),
                 VDC_RC_PROTOCOL);
    vdc_allocdb_destroy(fresh);
    struct vdc_op more = op_create(2, "db");
    struct vdc_tx tx = tx_of(&b, &more, 1);
    cr_assert_eq(vdc_allocdb_commit(b.db, &tx, &b.result, &b.record), VDC_RC_OK);
    b.record.data[20] ^= 1; /* in its digest */
    cr_assert_eq(vdc_allocdb_apply_record(b.replica, b.record.data, b.record.len, &err),
                 VDC_RC_CORRUPT);
}

Test(ultravisor_ops, the_view_shows_the_partitions_own_records)
{
    struct vdc_op ops[] = {op_create(1, "web"), op_any(1, 2, 1),    op_memory(1, 0, 1 * GIB),
                           op_create(2, "db"),  op_shared(2, 1500), op_memory(2, 1, 64 * MIB)};
    must(ops, 6);
    struct vdc_view_content view;
    vdc_allocdb_fill_view(b.db, find(1), &view);
    cr_assert_str_eq(view.name, "web");
    cr_assert_eq(view.cpus_len, 2);
    cr_assert_eq(view.cpus[1], 3);
    cr_assert_eq(view.cpu_milli, 2000);
    cr_assert_eq(view.blocks_len, 1);
    cr_assert_eq(view.memory_bytes, 1 * GIB);
    vdc_allocdb_fill_view(b.db, find(2), &view);
    cr_assert_eq(view.cpus_len, 0);
    cr_assert_eq(view.cpu_milli, 1500);
}

Test(ultravisor_ops, limits_hold_to_the_last_unit)
{
    struct vdc_op half = op_zone_set(500, 0, 1000);
    half.zone_set.memory.amount = 64 * MIB;
    must(&half, 1);
    struct vdc_op ops[] = {op_create(1, "web"), op_memory(1, 0, 66 * MIB)};
    refused(ops, 2, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_SLICE, 1);
    cr_assert_eq(b.result.free, 64 * MIB);
    ops[1] = op_memory(1, 0, 64 * MIB);
    must(ops, 2);
    /* Four CPUs: with one dedicated, the pool is 3000. */
    struct vdc_op share[] = {op_create(2, "db"), op_shared(2, 3001)};
    must(share, 2);
    struct vdc_op dedicated = op_any(1, 1, VDC_NUMA_ANY);
    refused(&dedicated, 1, VDC_RC_NO_SPACE, VDC_RULE_CPU_POOL, 0);
    struct vdc_op one = {.kind = VDC_OP_CPU_RELEASE,
                         .cpu_release = {.id = id_of(2), .shared_milli = 1}};
    must(&one, 1);
    must(&dedicated, 1);
}
