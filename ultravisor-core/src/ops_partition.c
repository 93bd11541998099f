/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ops.h"
#include "tx_codec.h"

/* Puts the operation into the record, where the identity is hashed when the transaction stands. */
static void record_create(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    struct vdc_buf *out = run->record != NULL ? run->record : &run->db->scratch_bytes;
    size_t at = out->len + TX_IDENTITY_AT;
    tx_encode_op(op, out);
    slot->identity_at = (uint32_t)at;
    slot->identity_len = (uint32_t)(out->len - at);
    run->resolved = NULL;
}

enum vdc_rc apply_partition_create(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    const struct vdc_op_partition_create *create = &op->partition_create;
    struct vdc_allocdb *db = run->db;
    uint32_t other = idmap_get(&db->by_id, &create->id);
    if (other != VDC_IDMAP_NONE) {
        const struct vdc_partition *pub = &slot_at(db, other)->pub;
        return op_refuse(run, VDC_RC_EXISTS, VDC_RULE_PARTITION_EXISTS, create->generation,
                         pub->generation, "partition %s is here with generation %llu", pub->name,
                         ull(pub->generation));
    }
    if (db->partitions_len == VDC_ALLOCDB_PARTITIONS_MAX) {
        return op_refuse(run, VDC_RC_LIMIT, VDC_RULE_LIMIT, db->partitions_len + 1u,
                         VDC_ALLOCDB_PARTITIONS_MAX, "%u partitions, limit %u",
                         db->partitions_len + 1u, VDC_ALLOCDB_PARTITIONS_MAX);
    }
    slot = slot_make(db, create, run->zone);
    slot->pub.claim = run->tx->claim;
    record_create(run, op, slot);
    slot_enter(db, slot);
    (void)undo_push(db, UNDO_CREATE, slot->number);
    run->last = slot;
    return VDC_RC_OK;
}

enum vdc_rc apply_partition_set_run(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    undo_push(run->db, UNDO_RUN, slot->number)->a = slot->pub.run;
    slot->pub.run = op->partition_set_run.run;
    slot_touch(run->db, slot);
    return VDC_RC_OK;
}

enum vdc_rc apply_partition_set_generation(struct op_run *run, const struct vdc_op *op,
                                           struct slot *slot)
{
    undo_push(run->db, UNDO_GENERATION, slot->number)->a = slot->pub.generation;
    slot->pub.generation = op->partition_set_generation.next;
    slot_touch(run->db, slot);
    return VDC_RC_OK;
}

enum vdc_rc apply_partition_set_config(struct op_run *run, const struct vdc_op *op,
                                       struct slot *slot)
{
    const struct vdc_op_partition_set_config *set = &op->partition_set_config;
    struct undo *undo = undo_push(run->db, UNDO_CONFIG, slot->number);
    undo->saved = vdc_memdup(slot->pub.config, slot->pub.config_len);
    undo->a = slot->pub.config_len;
    slot_set_config(slot, set->config, set->config_len);
    slot_make_identity(slot);
    slot_touch(run->db, slot);
    return VDC_RC_OK;
}

void op_destroy_slot(struct vdc_allocdb *db, struct slot *slot)
{
    entries_release(db, slot);
    (void)undo_push(db, UNDO_DESTROY, slot->number);
    slot_leave(db, slot);
}

enum vdc_rc apply_partition_destroy(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)op;
    op_destroy_slot(run->db, slot);
    run->last = NULL;
    return VDC_RC_OK;
}
