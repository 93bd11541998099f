/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each bound of the allocation database, reached: the last unit is given, the one behind it is refused
 * with both numbers, and nothing has changed.
 */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "ultravisor_support.h"

#define PAGE (4 * KIB)

static struct bench b;

static void setup(void)
{
    bench_init(&b);
}

static void teardown(void)
{
    bench_deinit(&b);
}

TestSuite(allocdb_limits, .init = setup, .fini = teardown);

/* Without commit_tx's check of everything, which would take as long as all the rest. */
static enum vdc_rc commit_fast(struct vdc_tx *tx)
{
    return vdc_allocdb_commit(b.db, tx, &b.result, &b.record);
}

static void must_fast(const struct vdc_op *ops, uint32_t len)
{
    struct vdc_tx tx = tx_of(&b, ops, len);
    cr_assert_eq(commit_fast(&tx), VDC_RC_OK, "%s", b.result.text);
}

static void refused_fast(struct vdc_tx *tx, enum vdc_tx_rule rule, uint64_t asked, uint64_t there)
{
    struct vdc_digest before = vdc_allocdb_digest(b.db);
    cr_assert_neq(commit_fast(tx), VDC_RC_OK);
    struct vdc_digest after = vdc_allocdb_digest(b.db);
    cr_assert(vdc_digest_equal(&before, &after));
    cr_assert_eq(b.result.rule, rule, "%s", b.result.text);
    cr_assert_eq(b.result.asked, asked, "%s", b.result.text);
    cr_assert_eq(b.result.free, there, "%s", b.result.text);
}

static void check_all(void)
{
    struct vdc_err err = {0};
    cr_assert_eq(vdc_allocdb_check(b.db, &err), VDC_RC_OK, "%s", err.text);
}

static struct vdc_op op_promise(uint32_t node)
{
    struct vdc_op op = {.kind = VDC_OP_FENCE_PROMISE, .fence_promise = {.incarnation = 1}};
    (void)snprintf(op.fence_promise.node, VDC_NAME_CAP, "n%u", node);
    return op;
}

Test(allocdb_limits, zones_that_were_ever_here)
{
    struct vdc_op nothing = op_zone_set(0, 0, 1000);
    struct vdc_op leave = {.kind = VDC_OP_ZONE_LEAVE};
    struct vdc_tx tx;
    for (int i = 2; i < VDC_ALLOCDB_ZONES_MAX; i++) {
        tx = tx_of(&b, &nothing, 1);
        (void)snprintf(tx.zone, sizeof(tx.zone), "z%d", i);
        cr_assert_eq(commit_fast(&tx), VDC_RC_OK, "%s", b.result.text);
        tx = tx_of(&b, &leave, 1);
        (void)snprintf(tx.zone, sizeof(tx.zone), "z%d", i);
        cr_assert_eq(commit_fast(&tx), VDC_RC_OK, "%s", b.result.text);
    }
    tx = tx_of(&b, &nothing, 1);
    vdc_str_set(tx.zone, sizeof(tx.zone), "one-more");
    refused_fast(&tx, VDC_RULE_LIMIT, VDC_ALLOCDB_ZONES_MAX + 1, VDC_ALLOCDB_ZONES_MAX);
    cr_assert_eq(b.result.rc, VDC_RC_LIMIT);
    tx = tx_of(&b, &nothing, 1);
    vdc_str_set(tx.zone, sizeof(tx.zone), "z5");
    cr_assert_eq(commit_fast(&tx), VDC_RC_OK, "one that was here may come again");
    check_all();
}

Test(allocdb_limits, unsettled_claims)
{
    struct vdc_tx tx;
    for (uint32_t i = 0; i <= VDC_ALLOCDB_CLAIMS_MAX; i++) {
        struct vdc_op create = op_create(1 + i, "claimed");
        tx = tx_of(&b, &create, 1);
        tx.kind = VDC_TX_PREPARE;
        tx.claim = id_of(UINT64_C(1) << 41 | i);
        if (i < VDC_ALLOCDB_CLAIMS_MAX) {
            cr_assert_eq(commit_fast(&tx), VDC_RC_OK, "%s", b.result.text);
        } else {
            refused_fast(&tx, VDC_RULE_LIMIT, VDC_ALLOCDB_CLAIMS_MAX + 1, VDC_ALLOCDB_CLAIMS_MAX);
        }
    }
    struct vdc_tx abort_one = tx_of(&b, NULL, 0);
    abort_one.kind = VDC_TX_ABORT_CLAIM;
    abort_one.claim = id_of(UINT64_C(1) << 41 | 17);
    cr_assert_eq(commit_fast(&abort_one), VDC_RC_OK, "%s", b.result.text);
    struct vdc_op again = op_create(1 + VDC_ALLOCDB_CLAIMS_MAX, "claimed");
    tx.ops = &again;
    tx.request_id = id_of(UINT64_C(1) << 42);
    cr_assert_eq(commit_fast(&tx), VDC_RC_OK, "%s", b.result.text);
    check_all();
}

Test(allocdb_limits, partitions)
{
    struct vdc_op ops[VDC_TX_OPS_MAX];
    uint64_t next = 1;
    while (next <= VDC_ALLOCDB_PARTITIONS_MAX) {
        for (uint32_t i = 0; i < VDC_TX_OPS_MAX; i++) {
            ops[i] = op_create(next++, "p");
        }
        must_fast(ops, VDC_TX_OPS_MAX);
    }
    struct vdc_op one_more = op_create(next, "p");
    struct vdc_tx tx = tx_of(&b, &one_more, 1);
    refused_fast(&tx, VDC_RULE_LIMIT, VDC_ALLOCDB_PARTITIONS_MAX + 1, VDC_ALLOCDB_PARTITIONS_MAX);
    struct vdc_op instead[] = {op_destroy(77, 1), one_more};
    must_fast(instead, 2);
    cr_assert_eq(vdc_allocdb_count_partitions(b.db), VDC_ALLOCDB_PARTITIONS_MAX);
    check_all();
}

Test(allocdb_limits, entries_of_all_kinds_together)
{
    struct vdc_op ops[VDC_TX_OPS_MAX];
    struct vdc_op two[] = {op_create(1, "web"), op_create(2, "db")};
    must_fast(two, 2);
    for (uint32_t next = 0; next < VDC_ALLOCDB_ENTRIES_MAX;) {
        for (uint32_t i = 0; i < VDC_TX_OPS_MAX; i++) {
            ops[i] = op_promise(next++);
        }
        must_fast(ops, VDC_TX_OPS_MAX);
    }
    struct vdc_op more[] = {
        op_promise(VDC_ALLOCDB_ENTRIES_MAX),
        {.kind = VDC_OP_VOLUME_ATTACH,
         .volume_attach = {.id = id_of(1), .generation = 1, .volume = id_of(9)}},
        {.kind = VDC_OP_PORT_CONNECT,
         .port_connect = {.id = id_of(1), .mac = {2, 1}, .name = "vdc1", .network = "lan"}},
        {.kind = VDC_OP_CHANNEL_CONNECT,
         .channel_connect = {.channel = id_of(8),
                             .endpoint = {id_of(1), id_of(2)},
                             .version = 1,
                             .bytes = PAGE,
                             .numa = VDC_NUMA_ANY}},
        {.kind = VDC_OP_DEVICE_ADD, .device_add = {.address = "nvme0"}},
    };
    for (size_t i = 0; i < VDC_COUNT_OF(more); i++) {
        struct vdc_tx tx = tx_of(&b, &more[i], 1);
        if (more[i].kind == VDC_OP_DEVICE_ADD) {
            tx.zone[0] = 0;
            tx.role = VDC_ROLE_SYSTEM;
            tx.epoch = 0;
        }
        refused_fast(&tx, VDC_RULE_LIMIT, VDC_ALLOCDB_ENTRIES_MAX + 1, VDC_ALLOCDB_ENTRIES_MAX);
    }
    struct vdc_op newer = op_promise(7);
    newer.fence_promise.incarnation = 2;
    must_fast(&newer, 1);
    check_all();
}

Test(allocdb_limits, bytes_of_a_record)
{
    static uint8_t config[VDC_PARTITION_CONFIG_MAX];
    struct vdc_op ops[VDC_TX_OPS_MAX];
    struct vdc_op create = op_create(1, "web");
    must_fast(&create, 1);
    for (uint32_t i = 0; i < VDC_TX_OPS_MAX; i++) {
        ops[i] = (struct vdc_op){
            .kind = VDC_OP_PARTITION_SET_CONFIG,
            .partition_set_config = {
                .id = id_of(1), .generation = 1, .config = config, .config_len = sizeof(config)}};
    }
    /* Twice as much as a record may have. */
    struct vdc_tx tx = tx_of(&b, ops, VDC_TX_OPS_MAX);
    struct vdc_digest before = vdc_allocdb_digest(b.db);
    cr_assert_neq(commit_fast(&tx), VDC_RC_OK);
    struct vdc_digest after = vdc_allocdb_digest(b.db);
    cr_assert(vdc_digest_equal(&before, &after));
    cr_assert_eq(b.result.rule, VDC_RULE_LIMIT, "%s", b.result.text);
    cr_assert_eq(b.result.op, VDC_TX_OP_NONE);
    cr_assert_gt(b.result.asked, VDC_TX_BYTES_MAX);
    cr_assert_eq(b.result.free, VDC_TX_BYTES_MAX);
    must_fast(ops, VDC_TX_OPS_MAX / 4);
    cr_assert_leq(b.record.len, VDC_TX_BYTES_MAX);
    check_all();
}

/* Every other page from page `first` on. */
static void every_other(struct vdc_memory_block *blocks, uint32_t len, uint64_t first)
{
    for (uint32_t i = 0; i < len; i++) {
        blocks[i] = (struct vdc_memory_block){.addr = (first + 2 * i) * PAGE, .bytes = PAGE};
    }
}

Test(allocdb_limits, blocks_of_a_partition)
{
    static struct vdc_memory_block blocks[VDC_VIEW_BLOCKS_MAX];
    struct vdc_op create = op_create(1, "sieve");
    create.partition_create.kind = VDC_PARTITION_SYSTEM;
    must_fast(&create, 1);
    every_other(blocks, VDC_VIEW_BLOCKS_MAX, 0);
    struct vdc_op op = op_memory(1, VDC_NUMA_ANY, VDC_VIEW_BLOCKS_MAX * PAGE);
    op.memory_assign.blocks = blocks;
    op.memory_assign.blocks_len = VDC_VIEW_BLOCKS_MAX;
    must_fast(&op, 1);
    struct vdc_memory_block far = {.addr = 1 * GIB, .bytes = PAGE};
    op.memory_assign.bytes = PAGE;
    op.memory_assign.blocks = &far;
    op.memory_assign.blocks_len = 1;
    struct vdc_tx tx = tx_of(&b, &op, 1);
    refused_fast(&tx, VDC_RULE_MEMORY_FRAGMENTED, PAGE, VDC_VIEW_BLOCKS_MAX);
    far.addr = PAGE; /* between the first two: one block fewer */
    must_fast(&op, 1);
    struct vdc_id id = id_of(1);
    const struct vdc_partition *sieve = vdc_allocdb_find_partition(b.db, &id);
    cr_assert_eq(sieve->blocks_len, VDC_VIEW_BLOCKS_MAX - 1);
    struct vdc_view_content *view = vdc_calloc(1, sizeof(*view));
    vdc_allocdb_fill_view(b.db, sieve, view);
    cr_assert_eq(view->blocks_len, VDC_VIEW_BLOCKS_MAX - 1);
    free(view);
    check_all();
}

Test(allocdb_limits, blocks_and_bytes_of_a_channel)
{
    struct vdc_memory_block blocks[VDC_CHANNEL_BLOCKS_MAX + 1];
    struct vdc_op holders[] = {op_create(1, "hog"), op_create(2, "web"),
                               op_memory(1, VDC_NUMA_ANY, 2 * NUMA_BYTES)};
    holders[0].partition_create.kind = VDC_PARTITION_SYSTEM;
    must_fast(holders, 3);
    every_other(blocks, VDC_CHANNEL_BLOCKS_MAX + 1, 0);
    struct vdc_op release = {.kind = VDC_OP_MEMORY_RELEASE,
                             .memory_release = {.id = id_of(1),
                                                .blocks = blocks,
                                                .blocks_len = VDC_CHANNEL_BLOCKS_MAX + 1}};
    must_fast(&release, 1);
    struct vdc_op connect = {.kind = VDC_OP_CHANNEL_CONNECT,
                             .channel_connect = {.channel = id_of(8),
                                                 .endpoint = {id_of(1), id_of(2)},
                                                 .version = 1,
                                                 .bytes = (VDC_CHANNEL_BLOCKS_MAX + 1) * PAGE,
                                                 .numa = VDC_NUMA_ANY}};
    struct vdc_tx tx = tx_of(&b, &connect, 1);
    refused_fast(&tx, VDC_RULE_MEMORY_FRAGMENTED, VDC_CHANNEL_BLOCKS_MAX + 1,
                 VDC_CHANNEL_BLOCKS_MAX);
    connect.channel_connect.bytes = VDC_CHANNEL_BLOCKS_MAX * PAGE;
    must_fast(&connect, 1);
    struct vdc_op end[] = {op_destroy(1, 1), op_create(3, "db")};
    must_fast(end, 2);
    connect.channel_connect.endpoint[0] = id_of(3);
    connect.channel_connect.bytes = VDC_CHANNEL_MEMORY_MAX + PAGE;
    tx = tx_of(&b, &connect, 1);
    refused_fast(&tx, VDC_RULE_FORM, 0, 0);
    cr_assert_eq(b.result.rc, VDC_RC_TOO_LARGE);
    connect.channel_connect.bytes = VDC_CHANNEL_MEMORY_MAX;
    must_fast(&connect, 1);
    check_all();
}
