/* SPDX-License-Identifier: Apache-2.0 */
#include "ultravisor_support.h"

#include <string.h>

#include <criterion/criterion.h>

struct vdc_id id_of(uint64_t number)
{
    struct vdc_id id = {0};
    memcpy(id.bytes, &number, sizeof(number));
    id.bytes[15] = 1;
    return id;
}

struct vdc_op op_inventory(void)
{
    static const struct vdc_cpu_info cpus[] = {
        {.number = 0, .numa = 0, .socket = 0, .core = 0}, {.number = 1, .numa = 1, .socket = 1},
        {.number = 2, .numa = 0, .socket = 0, .core = 1}, {.number = 3, .numa = 1, .socket = 1},
        {.number = 4, .numa = 0, .socket = 0, .core = 2}, {.number = 5, .numa = 1, .socket = 1},
        {.number = 6, .numa = 0, .socket = 0, .core = 3}, {.number = 9, .numa = 1, .socket = 1},
    };
    static const struct vdc_numa_info numa[] = {{.number = 0, .memory_bytes = NUMA_BYTES},
                                                {.number = 1, .memory_bytes = NUMA_BYTES}};
    return (struct vdc_op){.kind = VDC_OP_INVENTORY_SET,
                           .inventory_set = {.cpus = cpus,
                                             .cpus_len = VDC_COUNT_OF(cpus),
                                             .numa = numa,
                                             .numa_len = VDC_COUNT_OF(numa)}};
}

struct vdc_op op_zone_set(uint32_t cpu_milli, uint32_t memory_milli, uint32_t overcommit_milli)
{
    return (struct vdc_op){.kind = VDC_OP_ZONE_SET,
                           .zone_set = {.overcommit_milli = overcommit_milli,
                                        .cpu = {.milli = cpu_milli},
                                        .memory = {.milli = memory_milli}}};
}

struct vdc_op op_create(uint64_t id, const char *name)
{
    struct vdc_op op = {.kind = VDC_OP_PARTITION_CREATE,
                        .partition_create = {.id = id_of(id),
                                             .tenant = "acme",
                                             .class_name = "gold",
                                             .kind = VDC_PARTITION_GUEST,
                                             .generation = 1,
                                             .run = VDC_RUN_RUNNING,
                                             .vcpus = 2,
                                             .memory_bytes = 128 * MIB,
                                             .config = (const uint8_t *)"{}",
                                             .config_len = 2}};
    vdc_str_set(op.partition_create.name, VDC_NAME_CAP, name);
    return op;
}

struct vdc_op op_shared(uint64_t id, uint32_t milli)
{
    return (struct vdc_op){.kind = VDC_OP_CPU_ASSIGN,
                           .cpu_assign = {.id = id_of(id), .shared_milli = milli}};
}

struct vdc_op op_any(uint64_t id, uint32_t cpus, uint32_t numa)
{
    return (struct vdc_op){.kind = VDC_OP_CPU_ASSIGN,
                           .cpu_assign = {.id = id_of(id), .any = cpus, .numa = numa}};
}

struct vdc_op op_memory(uint64_t id, uint32_t numa, uint64_t bytes)
{
    return (struct vdc_op){.kind = VDC_OP_MEMORY_ASSIGN,
                           .memory_assign = {.id = id_of(id), .numa = numa, .bytes = bytes}};
}

struct vdc_op op_run(uint64_t id, uint64_t generation, enum vdc_run run)
{
    return (struct vdc_op){
        .kind = VDC_OP_PARTITION_SET_RUN,
        .partition_set_run = {.id = id_of(id), .generation = generation, .run = run}};
}

struct vdc_op op_destroy(uint64_t id, uint64_t generation)
{
    return (struct vdc_op){.kind = VDC_OP_PARTITION_DESTROY,
                           .partition_destroy = {.id = id_of(id), .generation = generation}};
}

struct vdc_tx tx_of(struct bench *b, const struct vdc_op *ops, uint32_t len)
{
    return (struct vdc_tx){.request_id = id_of(UINT64_C(1) << 40 | ++b->next_request),
                           .zone = "prod",
                           .epoch = b->epoch,
                           .role = VDC_ROLE_COMMAND,
                           .kind = VDC_TX_APPLY,
                           .ops = ops,
                           .ops_len = len};
}

enum vdc_rc commit_tx(struct bench *b, const struct vdc_tx *tx)
{
    struct vdc_err err = {0};
    struct vdc_digest before = vdc_allocdb_digest(b->db);
    uint64_t sequence = vdc_allocdb_sequence(b->db);
    enum vdc_rc rc = vdc_allocdb_commit(b->db, tx, &b->result, &b->record);
    struct vdc_digest after = vdc_allocdb_digest(b->db);
    cr_assert_eq(rc, b->result.rc);
    cr_assert_eq(vdc_allocdb_sequence(b->db), sequence + (b->record.len > 0));
    if (b->record.len > 0) {
        cr_assert_eq(b->result.sequence, sequence + 1);
        enum vdc_rc applied =
            vdc_allocdb_apply_record(b->replica, b->record.data, b->record.len, &err);
        cr_assert_eq(applied, VDC_RC_OK, "%s", err.text);
    } else {
        cr_assert(vdc_digest_equal(&before, &after), "no record, but another state");
    }
    struct vdc_digest replica = vdc_allocdb_digest(b->replica);
    cr_assert(vdc_digest_equal(&after, &replica));
    rc = vdc_allocdb_check(b->db, &err);
    cr_assert_eq(rc, VDC_RC_OK, "%s", err.text);
    rc = vdc_allocdb_check(b->replica, &err);
    cr_assert_eq(rc, VDC_RC_OK, "replica: %s", err.text);
    return b->result.rc;
}

enum vdc_rc commit(struct bench *b, const struct vdc_op *ops, uint32_t len)
{
    struct vdc_tx tx = tx_of(b, ops, len);
    return commit_tx(b, &tx);
}

void bench_init_empty(struct bench *b)
{
    *b = (struct bench){.db = vdc_allocdb_create(), .replica = vdc_allocdb_create(), .epoch = 1};
}

void bench_init(struct bench *b)
{
    bench_init_empty(b);
    struct vdc_op inventory = op_inventory();
    struct vdc_tx tx = {.role = VDC_ROLE_SYSTEM, .ops = &inventory, .ops_len = 1};
    cr_assert_eq(commit_tx(b, &tx), VDC_RC_OK, "%s", b->result.text);
    struct vdc_op zone = op_zone_set(1000, 1000, 4000);
    cr_assert_eq(commit(b, &zone, 1), VDC_RC_OK, "%s", b->result.text);
}

void bench_deinit(struct bench *b)
{
    vdc_allocdb_destroy(b->db);
    vdc_allocdb_destroy(b->replica);
    vdc_buf_deinit(&b->record);
}
