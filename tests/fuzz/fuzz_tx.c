/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions from a hostile leader: what decodes is committed to a small database, which must stay
 * whole, and its record must bring a replica to the same state. The input is a list of transactions,
 * each with two bytes of length before it.
 */
#include <string.h>

#include <vdc/allocdb.h>
#include <vdc/base.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void commit(struct vdc_allocdb *db, struct vdc_allocdb *replica, const struct vdc_tx *tx)
{
    struct vdc_tx_result result;
    struct vdc_buf record = {0};
    struct vdc_err err = {0};
    (void)vdc_allocdb_commit(db, tx, &result, &record);
    if (record.len > 0) {
        VDC_ASSERT(vdc_allocdb_apply_record(replica, record.data, record.len, &err) == VDC_RC_OK);
    }
    vdc_buf_deinit(&record);
}

static void prepare(struct vdc_allocdb *db, struct vdc_allocdb *replica)
{
    static const struct vdc_cpu_info cpus[] = {{.number = 0}, {.number = 1, .core = 1}};
    static const struct vdc_numa_info numa[] = {{.memory_bytes = (UINT64_C(5) << 28) + 8192}};
    struct vdc_op op = {
        .kind = VDC_OP_INVENTORY_SET,
        .inventory_set = {.cpus = cpus, .cpus_len = 2, .numa = numa, .numa_len = 1}};
    struct vdc_tx tx = {.role = VDC_ROLE_SYSTEM, .ops = &op, .ops_len = 1};
    commit(db, replica, &tx);
    op = (struct vdc_op){
        .kind = VDC_OP_ZONE_SET,
        .zone_set = {.overcommit_milli = 4000, .cpu = {.milli = 1000}, .memory = {.milli = 1000}}};
    vdc_str_set(tx.zone, sizeof(tx.zone), "prod");
    commit(db, replica, &tx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vdc_allocdb *db = vdc_allocdb_create();
    struct vdc_allocdb *replica = vdc_allocdb_create();
    struct vdc_err err = {0};
    prepare(db, replica);
    while (size >= 2) {
        size_t len = VDC_MIN((size_t)data[0] | (size_t)data[1] << 8, size - 2);
        struct vdc_tx tx;
        if (vdc_tx_decode(data + 2, len, &tx, &err) == VDC_RC_OK) {
            struct vdc_buf again = {0};
            vdc_tx_encode(&tx, &again);
            VDC_ASSERT(again.len == len);
            vdc_buf_deinit(&again);
            commit(db, replica, &tx);
            vdc_tx_deinit(&tx);
        }
        data += 2 + len;
        size -= 2 + len;
    }
    struct vdc_digest a = vdc_allocdb_digest(db);
    struct vdc_digest b = vdc_allocdb_digest(replica);
    VDC_ASSERT(vdc_digest_equal(&a, &b));
    VDC_ASSERT(vdc_allocdb_check(db, &err) == VDC_RC_OK);
    vdc_allocdb_destroy(db);
    vdc_allocdb_destroy(replica);
    return 0;
}
