/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tx_codec.h"

/* --- refusals --- */

enum vdc_rc op_refuse(struct op_run *run, enum vdc_rc rc, enum vdc_tx_rule rule, uint64_t asked,
                      uint64_t free, const char *fmt, ...)
{
    struct vdc_tx_result *result = run->result;
    result->rc = rc;
    result->op = run->index;
    result->rule = rule;
    result->asked = asked;
    result->free = free;
    run->stored = rc != VDC_RC_INVALID && rc != VDC_RC_TOO_LARGE && rc != VDC_RC_FORBIDDEN;
    int used = 0;
    if (run->index != VDC_TX_OP_NONE) {
        used = snprintf(result->text, sizeof(result->text), "op %u %s: ", run->index,
                        vdc_op_name(run->tx->ops[run->index].kind));
    }
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(result->text + used, sizeof(result->text) - (size_t)used, fmt, args);
    va_end(args);
    return rc;
}

enum vdc_rc op_refuse_memory(struct op_run *run, uint64_t asked, uint64_t free_bytes,
                             uint64_t largest)
{
    run->result->largest = largest;
    return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_FREE, asked, free_bytes,
                     "asked %llu bytes, free %llu, largest free block %llu", ull(asked),
                     ull(free_bytes), ull(largest));
}

enum vdc_rc op_refuse_slice(struct op_run *run, uint64_t asked)
{
    const struct vdc_zone_slice *slice = &run->db->zones[run->zone].pub;
    uint64_t left = op_slice_left(run);
    return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_SLICE, asked, left,
                     "asked %llu bytes, zone \"%s\" has %llu of %llu left here", ull(asked),
                     slice->name, ull(left), ull(slice->memory_bytes));
}

enum vdc_rc op_refuse_numa(struct op_run *run, uint32_t number)
{
    return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, number, 0, "no NUMA node %u",
                     number);
}

enum vdc_rc op_refuse_busy_block(struct op_run *run, uint32_t i,
                                 const struct vdc_memory_block *block)
{
    return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_MEMORY_BUSY, block->bytes, 0,
                     "block %u (NUMA node %u at %llu, %llu bytes) is not free", i, block->numa,
                     ull(block->addr), ull(block->bytes));
}

/* --- the table --- */

enum op_needs {
    OP_NEEDS_NOTHING,
    OP_NEEDS_ZONE,    /* the transaction's zone is on this node */
    OP_NEEDS_SLOT,    /* and the partition is the zone's, and of the transaction's claim if any */
    OP_NEEDS_GUARDED, /* and has the generation that the operation says */
};

struct op_row {
    enum vdc_rc (*apply)(struct op_run *run, const struct vdc_op *op, struct slot *slot);
    enum op_needs needs;
    bool claimable;    /* can be given back without a trace, so a claim may hold it */
    uint16_t id_at;    /* where in struct vdc_op the partition's id is */
    uint16_t guard_at; /* and the generation */
};

#define NOTHING(name)                                    \
    {                                                    \
        .apply = apply_##name, .needs = OP_NEEDS_NOTHING \
    }
#define ZONE(name)                                    \
    {                                                 \
        .apply = apply_##name, .needs = OP_NEEDS_ZONE \
    }
#define SLOT(name, field)                              \
    {                                                  \
        .apply = apply_##name, .needs = OP_NEEDS_SLOT, \
        .id_at = offsetof(struct vdc_op, name.field)   \
    }
#define CLAIMABLE(name, field)                                            \
    {                                                                     \
        .apply = apply_##name, .needs = OP_NEEDS_SLOT, .claimable = true, \
        .id_at = offsetof(struct vdc_op, name.field)                      \
    }
#define GUARDED(name, may_claim)                                                  \
    {                                                                             \
        .apply = apply_##name, .needs = OP_NEEDS_GUARDED, .claimable = may_claim, \
        .id_at = offsetof(struct vdc_op, name.id),                                \
        .guard_at = offsetof(struct vdc_op, name.generation)                      \
    }

static const struct op_row rows[] = {
    [VDC_OP_INVENTORY_SET] = NOTHING(inventory_set),
    [VDC_OP_ZONE_SET] = NOTHING(zone_set),
    [VDC_OP_ZONE_LEAVE] = ZONE(zone_leave),
    [VDC_OP_ZONE_EPOCH] = NOTHING(zone_epoch),
    [VDC_OP_INCARNATION_SET] = ZONE(incarnation_set),
    [VDC_OP_PARTITION_CREATE] = {.apply = apply_partition_create,
                                 .needs = OP_NEEDS_ZONE,
                                 .claimable = true},
    [VDC_OP_PARTITION_SET_RUN] = GUARDED(partition_set_run, false),
    [VDC_OP_PARTITION_SET_GENERATION] = GUARDED(partition_set_generation, false),
    [VDC_OP_PARTITION_SET_CONFIG] = GUARDED(partition_set_config, false),
    [VDC_OP_PARTITION_DESTROY] = GUARDED(partition_destroy, false),
    [VDC_OP_CPU_ASSIGN] = CLAIMABLE(cpu_assign, id),
    [VDC_OP_CPU_RELEASE] = SLOT(cpu_release, id),
    [VDC_OP_MEMORY_ASSIGN] = CLAIMABLE(memory_assign, id),
    [VDC_OP_MEMORY_RELEASE] = SLOT(memory_release, id),
    [VDC_OP_DEVICE_ADD] = NOTHING(device_add),
    [VDC_OP_DEVICE_REMOVE] = NOTHING(device_remove),
    [VDC_OP_DEVICE_ATTACH] = CLAIMABLE(device_attach, id),
    [VDC_OP_DEVICE_DETACH] = SLOT(device_detach, id),
    [VDC_OP_VOLUME_ATTACH] = GUARDED(volume_attach, true),
    [VDC_OP_VOLUME_DETACH] = SLOT(volume_detach, id),
    [VDC_OP_PORT_CONNECT] = CLAIMABLE(port_connect, id),
    [VDC_OP_PORT_DISCONNECT] = SLOT(port_disconnect, id),
    [VDC_OP_CHANNEL_CONNECT] = CLAIMABLE(channel_connect, endpoint[0]),
    [VDC_OP_CHANNEL_DISCONNECT] = ZONE(channel_disconnect),
    [VDC_OP_FENCE_PROMISE] = ZONE(fence_promise),
    [VDC_OP_ZONE_TRANSFER] = ZONE(zone_transfer),
};
_Static_assert(VDC_COUNT_OF(rows) == VDC_OP_COUNT, "a row for each operation");

enum vdc_rc op_find_zone(struct op_run *run)
{
    if (run->zone == ZONE_NONE) {
        enum vdc_rc rc = op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_ZONE, 0, 0,
                                   "zone %s has no slice of this node", run->tx->zone);
        /* Nothing here knows the zone's epoch, so nothing is remembered for it either. */
        run->stored = false;
        return rc;
    }
    if (!run->db->zones[run->zone].pub.joined) {
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_ZONE, 0, 0, "zone %s has left this node",
                         run->tx->zone);
    }
    return VDC_RC_OK;
}

static enum vdc_rc refuse_slot(struct op_run *run, const struct vdc_id *id, const struct slot *slot)
    __attribute__((cold, noinline));
static enum vdc_rc refuse_slot(struct op_run *run, const struct vdc_id *id, const struct slot *slot)
{
    if (slot == NULL) {
        char text[VDC_ID_TEXT_CAP];
        vdc_id_to_text(id, text);
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_PARTITION, 0, 0, "no partition %s",
                         text);
    }
    if (slot->zone != run->zone) {
        return op_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0,
                         "partition %s belongs to zone \"%s\", not to \"%s\"", slot->pub.name,
                         slot->pub.zone, run->tx->zone);
    }
    return op_refuse(
        run, VDC_RC_CONFLICT, VDC_RULE_CLAIMED, 0, 0, "partition %s is %s", slot->pub.name,
        id_is_none(&slot->pub.claim) ? "not of this claim" : "held by a claim that is not settled");
}

/* The partition after the zone was found. A transaction's operations mostly are about the one that
 * the operation before was about. */
static inline enum vdc_rc find_slot(struct op_run *run, const struct vdc_id *id, struct slot **out)
{
    *out = run->last;
    if (*out != NULL && id_equal(&(*out)->pub.id, id)) {
        return VDC_RC_OK;
    }
    uint32_t number = idmap_get(&run->db->by_id, id);
    *out = number == VDC_IDMAP_NONE ? NULL : slot_at(run->db, number);
    if (*out == NULL || (*out)->zone != run->zone ||
        !id_equal(&(*out)->pub.claim, &run->tx->claim)) {
        return refuse_slot(run, id, *out);
    }
    run->last = *out;
    return VDC_RC_OK;
}

static inline enum vdc_rc judge_guard(struct op_run *run, const struct slot *slot,
                                      uint64_t generation)
{
    if (slot->pub.generation != generation) {
        return op_refuse(run, VDC_RC_STALE, VDC_RULE_GENERATION, generation, slot->pub.generation,
                         "partition %s has generation %llu, not %llu", slot->pub.name,
                         ull(slot->pub.generation), ull(generation));
    }
    return VDC_RC_OK;
}

static enum vdc_rc refuse_claim(struct op_run *run)
{
    return op_refuse(run, VDC_RC_INVALID, VDC_RULE_CLAIM_OPS, 0, 0,
                     "a claim creates partitions and assigns to them, nothing else");
}

/* What the row says that is needed; *slot only if that is a partition. */
static inline enum vdc_rc find_needed(struct op_run *run, const struct vdc_op *op,
                                      const struct op_row *row, struct slot **slot)
{
    if (run->zone == ZONE_NONE || !run->db->zones[run->zone].pub.joined) {
        return op_find_zone(run);
    }
    if (row->needs == OP_NEEDS_ZONE) {
        return VDC_RC_OK;
    }
    enum vdc_rc rc = find_slot(run, (const void *)((const char *)op + row->id_at), slot);
    if (rc != VDC_RC_OK || row->needs == OP_NEEDS_SLOT) {
        return rc;
    }
    uint64_t generation;
    memcpy(&generation, (const char *)op + row->guard_at, sizeof(generation));
    return judge_guard(run, *slot, generation);
}

enum vdc_rc op_apply(struct op_run *run, const struct vdc_op *op)
{
    const struct op_row *row = &rows[op->kind];
    struct slot *slot = NULL;
    if (run->tx->kind == VDC_TX_PREPARE && !row->claimable) {
        return refuse_claim(run);
    }
    run->resolved = op;
    if (row->needs != OP_NEEDS_NOTHING) {
        enum vdc_rc rc = find_needed(run, op, row, &slot);
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    enum vdc_rc rc = row->apply(run, op, slot);
    if (rc == VDC_RC_OK && run->record != NULL && run->resolved != NULL) {
        tx_encode_op(run->resolved, run->record);
    }
    return rc;
}
