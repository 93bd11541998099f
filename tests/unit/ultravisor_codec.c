/* SPDX-License-Identifier: Apache-2.0 */
/* The binary form of transactions, answers and records: round trips, and everything cut short. */
#include <string.h>

#include <criterion/criterion.h>

#include "ultravisor_support.h"

static const uint16_t CPUS[] = {1, 4, 9};
static const struct vdc_memory_block BLOCKS[] = {{.addr = 0, .bytes = 4 * KIB, .numa = 0},
                                                 {.addr = 8 * KIB, .bytes = 4 * KIB, .numa = 0},
                                                 {.addr = 0, .bytes = 1 * GIB, .numa = 63}};

/* Those of entries, and the forms with a locality, behind `len`. */
static uint32_t every_entry_op(struct vdc_op *ops, uint32_t len)
{
    ops[len] = op_any(1, 4, VDC_NUMA_ANY);
    ops[len].cpu_assign.locality = VDC_LOCALITY_SPANNING;
    ops[len].cpu_assign.nodes = UINT64_C(1) << 63 | 1;
    ops[len++].cpu_assign.whole_cores = true;
    ops[len++] = (struct vdc_op){.kind = VDC_OP_DEVICE_ADD,
                                 .device_add = {.address = "0000:3b:00.0", .numa = 1}};
    ops[len++] =
        (struct vdc_op){.kind = VDC_OP_DEVICE_REMOVE, .device_remove = {.address = "nvme0"}};
    ops[len++] = (struct vdc_op){.kind = VDC_OP_DEVICE_ATTACH,
                                 .device_attach = {.id = id_of(1), .address = "nvme0"}};
    ops[len++] = (struct vdc_op){.kind = VDC_OP_DEVICE_DETACH,
                                 .device_detach = {.id = id_of(1), .address = "nvme0"}};
    ops[len++] = (struct vdc_op){
        .kind = VDC_OP_VOLUME_ATTACH,
        .volume_attach = {
            .id = id_of(1), .generation = 3, .volume = id_of(2), .mode = VDC_VOLUME_WRITE}};
    ops[len++] = (struct vdc_op){.kind = VDC_OP_VOLUME_DETACH,
                                 .volume_detach = {.id = id_of(1), .volume = id_of(2)}};
    ops[len++] = (struct vdc_op){
        .kind = VDC_OP_PORT_CONNECT,
        .port_connect = {.id = id_of(1), .mac = {2, 1}, .name = "vdc1", .network = "lan"}};
    ops[len++] = (struct vdc_op){.kind = VDC_OP_PORT_DISCONNECT,
                                 .port_disconnect = {.id = id_of(1), .mac = {2, 1}}};
    ops[len++] = (struct vdc_op){.kind = VDC_OP_CHANNEL_CONNECT,
                                 .channel_connect = {.channel = id_of(9),
                                                     .endpoint = {id_of(1), id_of(2)},
                                                     .type = VDC_CHANNEL_CONSOLE,
                                                     .version = 7,
                                                     .bytes = 8 * KIB,
                                                     .numa = 0,
                                                     .blocks = BLOCKS,
                                                     .blocks_len = 2}};
    ops[len++] = (struct vdc_op){.kind = VDC_OP_CHANNEL_DISCONNECT,
                                 .channel_disconnect = {.channel = id_of(9)}};
    ops[len++] = (struct vdc_op){.kind = VDC_OP_FENCE_PROMISE,
                                 .fence_promise = {.node = "n1", .incarnation = UINT64_MAX}};
    ops[len++] = (struct vdc_op){
        .kind = VDC_OP_ZONE_TRANSFER,
        .zone_transfer = {
            .to = "test", .cpus = CPUS, .cpus_len = 3, .memory_bytes = 4 * KIB, .device = "nvme0"}};
    return len;
}

/* One of each kind but inventory-set, all fields filled. */
static uint32_t every_op(struct vdc_op ops[VDC_OP_COUNT + 4])
{
    uint32_t len = 0;
    ops[len] = op_zone_set(0, 500, 2500);
    ops[len].zone_set.cpu.amount = 3;
    ops[len].zone_set.cpus = CPUS;
    ops[len++].zone_set.cpus_len = 3;
    ops[len++] = (struct vdc_op){.kind = VDC_OP_ZONE_LEAVE};
    ops[len++] = (struct vdc_op){.kind = VDC_OP_ZONE_EPOCH};
    ops[len++] =
        (struct vdc_op){.kind = VDC_OP_INCARNATION_SET, .incarnation_set = {.incarnation = 9}};
    ops[len++] = op_create(1, "web");
    ops[len++] = op_run(1, 2, VDC_RUN_STOPPED);
    ops[len++] = (struct vdc_op){
        .kind = VDC_OP_PARTITION_SET_GENERATION,
        .partition_set_generation = {.id = id_of(1), .generation = 2, .next = UINT64_MAX}};
    ops[len++] = (struct vdc_op){
        .kind = VDC_OP_PARTITION_SET_CONFIG,
        .partition_set_config = {
            .id = id_of(1), .generation = 2, .config = (const uint8_t *)"x", .config_len = 1}};
    ops[len++] = op_destroy(1, 7);
    ops[len++] = op_shared(1, 500);
    ops[len++] = op_any(1, 3, 5);
    ops[len] = op_shared(1, 0);
    ops[len].cpu_assign.cpus = CPUS;
    ops[len++].cpu_assign.cpus_len = 3;
    ops[len++] = (struct vdc_op){.kind = VDC_OP_CPU_RELEASE,
                                 .cpu_release = {.id = id_of(1), .cpus = CPUS, .cpus_len = 2}};
    ops[len++] = op_memory(1, VDC_NUMA_ANY, 6 * MIB);
    ops[len] = op_memory(1, 3, 1 * GIB + 8 * KIB);
    ops[len].memory_assign.blocks = BLOCKS;
    ops[len++].memory_assign.blocks_len = 3;
    ops[len++] =
        (struct vdc_op){.kind = VDC_OP_MEMORY_RELEASE,
                        .memory_release = {.id = id_of(1), .blocks = BLOCKS, .blocks_len = 3}};
    return every_entry_op(ops, len);
}

static struct vdc_tx tx_with(const struct vdc_op *ops, uint32_t len)
{
    return (struct vdc_tx){.request_id = id_of(3),
                           .zone = "prod",
                           .epoch = 5,
                           .role = VDC_ROLE_COMMAND,
                           .ops = ops,
                           .ops_len = len};
}

static void must_come_back(const struct vdc_tx *tx)
{
    struct vdc_buf bytes = {0};
    struct vdc_buf again = {0};
    struct vdc_tx out;
    struct vdc_err err = {0};
    vdc_tx_encode(tx, &bytes);
    cr_assert_eq(vdc_tx_decode(bytes.data, bytes.len, &out, &err), VDC_RC_OK, "%s", err.text);
    cr_assert_eq(out.ops_len, tx->ops_len);
    cr_assert_str_eq(out.zone, tx->zone);
    for (uint32_t i = 0; i < out.ops_len; i++) {
        cr_assert_eq(out.ops[i].kind, tx->ops[i].kind);
    }
    vdc_tx_encode(&out, &again);
    cr_assert_eq(bytes.len, again.len);
    cr_assert_eq(memcmp(bytes.data, again.data, bytes.len), 0);
    vdc_tx_deinit(&out);
    /* Cut short at every byte, in memory of exactly that size. */
    for (size_t len = 0; len < bytes.len; len++) {
        vdc_autofree void *cut = vdc_memdup(bytes.data, len);
        cr_assert_neq(vdc_tx_decode(cut, len, &out, &err), VDC_RC_OK);
        cr_assert_null(out.memory);
    }
    vdc_buf_append(&bytes, "", 1);
    cr_assert_eq(vdc_tx_decode(bytes.data, bytes.len, &out, &err), VDC_RC_INVALID,
                 "a byte too many");
    vdc_buf_deinit(&bytes);
    vdc_buf_deinit(&again);
}

Test(ultravisor_codec, every_operation_comes_back_as_it_was)
{
    struct vdc_op ops[VDC_OP_COUNT + 4];
    uint32_t len = every_op(ops);
    struct vdc_tx tx = tx_with(ops, len);
    must_come_back(&tx);
    struct vdc_op inventory = op_inventory();
    tx = (struct vdc_tx){.role = VDC_ROLE_SYSTEM, .ops = &inventory, .ops_len = 1};
    must_come_back(&tx);
}

Test(ultravisor_codec, no_wrong_byte_does_more_than_fail)
{
    struct vdc_op ops[VDC_OP_COUNT + 4];
    uint32_t len = every_op(ops);
    struct vdc_tx tx = tx_with(ops, len);
    struct vdc_buf bytes = {0};
    struct vdc_tx out;
    vdc_tx_encode(&tx, &bytes);
    for (size_t i = 0; i < bytes.len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes.data[i] ^= (char)(1u << bit);
            if (vdc_tx_decode(bytes.data, bytes.len, &out, NULL) == VDC_RC_OK) {
                cr_assert_eq(vdc_tx_validate(&out, NULL), VDC_RC_OK);
                vdc_tx_deinit(&out);
            }
            bytes.data[i] ^= (char)(1u << bit);
        }
    }
    vdc_buf_deinit(&bytes);
}

static void invalid(struct vdc_op op, enum vdc_rc rc)
{
    struct vdc_tx tx = tx_with(&op, 1);
    struct vdc_err err = {0};
    cr_assert_eq(vdc_tx_validate(&tx, &err), rc, "%s: %s", vdc_op_name(op.kind), err.text);
    cr_assert_not_null(strstr(err.text, vdc_op_name(op.kind)));
}

Test(ultravisor_codec, forms_that_no_state_allows_are_invalid)
{
    struct vdc_op op = op_create(1, "web");
    op.partition_create.generation = 0;
    invalid(op, VDC_RC_INVALID);
    op = op_create(1, "web");
    op.partition_create.name[0] = '/';
    invalid(op, VDC_RC_INVALID);
    op = op_create(1, "web");
    op.partition_create.config_len = VDC_PARTITION_CONFIG_MAX + 1;
    invalid(op, VDC_RC_TOO_LARGE);
    op = op_create(1, "web");
    op.partition_create.vcpus = VDC_VCPUS_MAX + 1;
    invalid(op, VDC_RC_TOO_LARGE);
    op = op_shared(1, 1000);
    op.cpu_assign.any = 1;
    invalid(op, VDC_RC_INVALID);
    op = op_memory(1, 0, 4095);
    invalid(op, VDC_RC_INVALID);
    op = op_memory(1, VDC_NUMA_NODES_MAX, 4096);
    invalid(op, VDC_RC_INVALID);
    static const uint16_t twice[] = {3, 3};
    op = op_shared(1, 0);
    op.cpu_assign.cpus = twice;
    op.cpu_assign.cpus_len = 2;
    invalid(op, VDC_RC_INVALID);
    struct vdc_memory_block overlap[] = {{.addr = 0, .bytes = 8 * KIB},
                                         {.addr = 4 * KIB, .bytes = 4 * KIB}};
    op = op_memory(1, 0, 12 * KIB);
    op.memory_assign.blocks = overlap;
    op.memory_assign.blocks_len = 2;
    invalid(op, VDC_RC_INVALID);
    op = op_zone_set(500, 500, 999);
    invalid(op, VDC_RC_INVALID);
    op = op_run(1, 1, (enum vdc_run)VDC_RUN_COUNT);
    invalid(op, VDC_RC_INVALID);
}

Test(ultravisor_codec, more_operations_than_the_limit_are_too_large)
{
    static struct vdc_op ops[VDC_TX_OPS_MAX + 1];
    for (uint32_t i = 0; i <= VDC_TX_OPS_MAX; i++) {
        ops[i] = (struct vdc_op){.kind = VDC_OP_ZONE_EPOCH};
    }
    struct vdc_tx tx = tx_with(ops, VDC_TX_OPS_MAX);
    must_come_back(&tx);
    tx.ops_len++;
    cr_assert_eq(vdc_tx_validate(&tx, NULL), VDC_RC_TOO_LARGE);
    struct vdc_buf bytes = {0};
    struct vdc_tx out;
    vdc_tx_encode(&tx, &bytes);
    cr_assert_eq(vdc_tx_decode(bytes.data, bytes.len, &out, NULL), VDC_RC_TOO_LARGE);
    vdc_buf_deinit(&bytes);
}

Test(ultravisor_codec, an_answer_and_a_record_come_back)
{
    struct bench b;
    bench_init(&b);
    struct vdc_op ops[] = {op_create(1, "web"), op_memory(1, 0, 9 * GIB)};
    cr_assert_eq(commit(&b, ops, 2), VDC_RC_NO_SPACE);
    struct vdc_buf bytes = {0};
    struct vdc_tx_result result;
    vdc_tx_result_encode(&b.result, &bytes);
    cr_assert_eq(vdc_tx_result_decode(bytes.data, bytes.len, &result, NULL), VDC_RC_OK);
    cr_assert_eq(result.asked, 9 * GIB);
    cr_assert_str_eq(result.text, b.result.text);
    for (size_t len = 0; len < bytes.len; len++) {
        cr_assert_neq(vdc_tx_result_decode(bytes.data, len, &result, NULL), VDC_RC_OK);
    }

    struct vdc_record_head head;
    struct vdc_tx tx;
    cr_assert_eq(vdc_record_decode(b.record.data, b.record.len, &head, &tx, &result, NULL),
                 VDC_RC_OK);
    cr_assert_eq(head.rc, VDC_RC_NO_SPACE);
    cr_assert_eq(tx.ops_len, 0, "a refusal keeps the answer, not the operations");
    vdc_tx_deinit(&tx);
    ops[1] = op_memory(1, VDC_NUMA_ANY, 2 * MIB);
    cr_assert_eq(commit(&b, ops, 2), VDC_RC_OK);
    cr_assert_eq(vdc_record_decode(b.record.data, b.record.len, &head, &tx, &result, NULL),
                 VDC_RC_OK);
    struct vdc_digest digest = vdc_allocdb_digest(b.db);
    cr_assert(vdc_digest_equal(&digest, &head.digest));
    cr_assert_eq(tx.ops[1].memory_assign.blocks_len, 1, "the choice is in the record");
    vdc_tx_deinit(&tx);
    for (size_t len = 0; len < b.record.len; len++) {
        cr_assert_neq(vdc_record_decode(b.record.data, len, &head, &tx, &result, NULL), VDC_RC_OK);
    }
    vdc_buf_deinit(&bytes);
    bench_deinit(&b);
}
