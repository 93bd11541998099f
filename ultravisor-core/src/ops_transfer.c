/* SPDX-License-Identifier: Apache-2.0 */
/* A zone gives free resources of its slice to another one. */
#include "entries.h"
#include "ops.h"

static enum vdc_rc transfer_cpus(struct op_run *run, const struct vdc_op_zone_transfer *transfer,
                                 uint32_t to)
{
    struct vdc_allocdb *db = run->db;
    for (uint32_t i = 0; i < transfer->cpus_len; i++) {
        uint32_t index = cpu_index_of(db, transfer->cpus[i]);
        if (index == UINT32_MAX) {
            return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CPU, transfer->cpus[i], 0,
                             "no CPU %u", transfer->cpus[i]);
        }
        const struct cpu *cpu = &db->cpus[index];
        if (cpu->zone != run->zone || cpu->owner != SLOT_NONE) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_BUSY, transfer->cpus[i], 0,
                             "CPU %u is %s \"%s\"", transfer->cpus[i],
                             cpu->zone != run->zone ? "in zone" : "dedicated to",
                             cpu->zone != run->zone ? db->zones[cpu->zone].pub.name
                                                    : slot_at(db, cpu->owner)->pub.name);
        }
        op_move_cpu(db, index, to);
    }
    const struct vdc_zone_slice *slice = &db->zones[run->zone].pub;
    if (slice->shared_used_milli > slice->shared_capacity_milli) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_POOL, slice->shared_used_milli,
                         slice->shared_capacity_milli,
                         "%llu milli-CPU are in use, the pool would have %llu",
                         ull(slice->shared_used_milli), ull(slice->shared_capacity_milli));
    }
    return VDC_RC_OK;
}

static enum vdc_rc transfer_memory(struct op_run *run, uint64_t bytes, uint32_t to)
{
    struct vdc_zone_slice *slice = &run->db->zones[run->zone].pub;
    if (bytes > op_slice_left(run)) {
        return op_refuse_slice(run, bytes);
    }
    slice->memory_bytes -= bytes;
    run->db->zones[to].pub.memory_bytes += bytes;
    return VDC_RC_OK;
}

/* The slice is now what it has: what was asked for earlier would take the transfer back. The node's
 * own slice is asked for by nobody. */
static void restate_shares(struct vdc_allocdb *db, uint32_t zone,
                           const struct vdc_op_zone_transfer *transfer)
{
    struct vdc_zone_slice *slice = &db->zones[zone].pub;
    if (zone != NODE_ZONE && transfer->cpus_len > 0) {
        slice->cpu_share = (struct vdc_share){.amount = slice->cpus};
    }
    if (zone != NODE_ZONE && transfer->memory_bytes > 0) {
        slice->memory_share = (struct vdc_share){.amount = slice->memory_bytes};
    }
    zone_touch(db, zone);
}

static enum vdc_rc transfer_device(struct op_run *run, const char *address, uint32_t to)
{
    struct entry *entry;
    enum vdc_rc rc = op_find_free_device(run, address, &entry);
    if (rc == VDC_RC_OK) {
        entry_set_device(run->db, entry, to, SLOT_NONE);
    }
    return rc;
}

enum vdc_rc apply_zone_transfer(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
    const struct vdc_op_zone_transfer *transfer = &op->zone_transfer;
    struct vdc_allocdb *db = run->db;
    uint32_t to = zone_find(db, transfer->to);
    if (to == ZONE_NONE || !db->zones[to].pub.joined) {
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_ZONE, 0, 0,
                         "zone %s has no slice of this node", transfer->to);
    }
    if (to == run->zone) {
        return op_refuse(run, VDC_RC_INVALID, VDC_RULE_ZONE, 0, 0, "giver and receiver are one");
    }
    op_save_zone(db, run->zone);
    op_save_zone(db, to);
    enum vdc_rc rc = transfer_cpus(run, transfer, to);
    if (rc == VDC_RC_OK) {
        rc = transfer_memory(run, transfer->memory_bytes, to);
    }
    if (rc == VDC_RC_OK && transfer->device[0] != 0) {
        rc = transfer_device(run, transfer->device, to);
    }
    if (rc == VDC_RC_OK) {
        restate_shares(db, run->zone, transfer);
        restate_shares(db, to, transfer);
    }
    return rc;
}
