/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's inventory and the zones' slices of it. */
#include <string.h>

#include "ops.h"

/* --- inventory --- */

static const struct vdc_numa_info *find_numa_info(const struct vdc_op_inventory_set *set,
                                                  uint32_t number)
{
    for (uint32_t i = 0; i < set->numa_len; i++) {
        if (set->numa[i].number == number) {
            return &set->numa[i];
        }
    }
    return NULL;
}

static bool has_cpu_info(const struct vdc_op_inventory_set *set, uint16_t number)
{
    uint32_t lo = 0;
    uint32_t hi = set->cpus_len;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (set->cpus[mid].number == number) {
            return true;
        }
        if (set->cpus[mid].number < number) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return false;
}

static enum vdc_rc judge_lost_memory(struct op_run *run, const struct vdc_op_inventory_set *set)
{
    struct vdc_allocdb *db = run->db;
    uint64_t after = 0;
    for (uint32_t i = 0; i < set->numa_len; i++) {
        after += set->numa[i].memory_bytes;
    }
    for (uint32_t i = 0; i < db->numa_len; i++) {
        const struct numa *numa = &db->numa[i];
        const struct vdc_numa_info *info = find_numa_info(set, numa->number);
        uint64_t kept = info == NULL ? 0 : info->memory_bytes;
        if (kept < numa->map.bytes &&
            !pagemap_range_is(&numa->map, kept, numa->map.bytes - kept, PAGE_OWNER_NONE)) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_IN_USE, kept, numa->map.bytes,
                             "memory of NUMA node %u beyond %llu bytes is in use", numa->number,
                             ull(kept));
        }
    }
    const struct vdc_zone_slice *node = &db->zones[NODE_ZONE].pub;
    uint64_t spare = node->memory_bytes - node->memory_used_bytes;
    if (after < db->memory_bytes && db->memory_bytes - after > spare) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_SLICE_MEMORY, db->memory_bytes - after,
                         spare, "%llu bytes of memory left, %llu bytes are in no zone",
                         ull(db->memory_bytes - after), ull(spare));
    }
    return VDC_RC_OK;
}

/* CPUs that are free in the node's own slice leave without being asked, so its pool may become too
 * small for the shares of the node's own partitions. */
static enum vdc_rc judge_lost_pool(struct op_run *run, const struct vdc_op_inventory_set *set)
{
    const struct vdc_allocdb *db = run->db;
    const struct vdc_zone_slice *node = &db->zones[NODE_ZONE].pub;
    uint32_t pool = 0;
    for (uint32_t i = 0; i < set->cpus_len; i++) {
        uint32_t old = cpu_index_of(db, set->cpus[i].number);
        pool += old == UINT32_MAX ||
                (db->cpus[old].zone == NODE_ZONE && db->cpus[old].owner == SLOT_NONE);
    }
    uint64_t left = zone_capacity(node, pool);
    if (node->shared_used_milli > left) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_POOL, node->shared_used_milli, left,
                         "the node itself needs %llu milli-CPU and would keep %llu",
                         ull(node->shared_used_milli), ull(left));
    }
    return VDC_RC_OK;
}

enum vdc_rc apply_inventory_set(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
    const struct vdc_op_inventory_set *set = &op->inventory_set;
    struct vdc_allocdb *db = run->db;
    if (run->tx->role != VDC_ROLE_SYSTEM || run->zone != NODE_ZONE) {
        return op_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ROLE, 0, 0,
                         "only the node itself knows its hardware");
    }
    for (uint32_t i = 0; i < db->cpus_len; i++) {
        const struct cpu *cpu = &db->cpus[i];
        if ((cpu->zone != NODE_ZONE || cpu->owner != SLOT_NONE) &&
            !has_cpu_info(set, cpu->info.number)) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_IN_USE, cpu->info.number, 0,
                             "CPU %u left and is in zone \"%s\"", cpu->info.number,
                             db->zones[cpu->zone].pub.name);
        }
    }
    enum vdc_rc rc = judge_lost_memory(run, set);
    if (rc == VDC_RC_OK) {
        rc = judge_lost_pool(run, set);
    }
    if (rc != VDC_RC_OK) {
        return rc;
    }
    /* The only operation of its transaction, so nothing after it can be refused: no undo. */
    inventory_replace(db, set);
    return VDC_RC_OK;
}

/* --- zones --- */

void op_save_zone(struct vdc_allocdb *db, uint32_t zone)
{
    VDC_GROW(db->saved_zones, db->saved_zones_cap, db->saved_zones_len + 1);
    struct undo *undo = undo_push(db, UNDO_ZONE_FIELDS, SLOT_NONE);
    undo->zone = zone;
    undo->number = (uint32_t)db->saved_zones_len;
    db->saved_zones[db->saved_zones_len++] = db->zones[zone].pub;
}

void op_move_cpu(struct vdc_allocdb *db, uint32_t index, uint32_t zone)
{
    struct undo *undo = undo_push(db, UNDO_CPU_ZONE, SLOT_NONE);
    undo->zone = db->cpus[index].zone;
    undo->number = index;
    cpu_move(db, index, zone);
}

/* The CPU numbers that the zone shall have, ascending, into scratch. Returns their number. */
static uint32_t resolve_zone_cpus(struct vdc_allocdb *db, uint32_t zone, uint64_t wanted)
{
    uint64_t held = db->zones[zone].pub.cpus;
    uint64_t take = wanted > held ? wanted - held : 0;
    uint64_t give = held > wanted ? held - wanted : 0;
    /* Given back are the highest-numbered that are not dedicated: count those to be kept. */
    uint64_t undedicated = held - db->zones[zone].pub.cpus_dedicated;
    uint64_t keep = undedicated > give ? undedicated - give : 0;
    uint32_t len = 0;
    for (uint32_t i = 0; i < db->cpus_len; i++) {
        const struct cpu *cpu = &db->cpus[i];
        bool wants = false;
        if (cpu->zone == zone) {
            wants = cpu->owner != SLOT_NONE || keep > 0;
            keep -= cpu->owner == SLOT_NONE && keep > 0;
        } else if (cpu->zone == NODE_ZONE && cpu->owner == SLOT_NONE && take > 0) {
            wants = true;
            take--;
        }
        if (wants) {
            db->scratch_cpus[len++] = cpu->info.number;
        }
    }
    return len;
}

static enum vdc_rc set_zone_cpus(struct op_run *run, const uint16_t *cpus, uint32_t len)
{
    struct vdc_allocdb *db = run->db;
    uint32_t at = 0;
    for (uint32_t i = 0; i < db->cpus_len; i++) {
        const struct cpu *cpu = &db->cpus[i];
        bool wants = at < len && cpus[at] == cpu->info.number;
        at += wants;
        if (wants == (cpu->zone == run->zone)) {
            continue;
        }
        if (cpu->owner != SLOT_NONE || (wants && cpu->zone != NODE_ZONE)) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_BUSY, cpu->info.number, 0,
                             "CPU %u is %s in zone \"%s\"", cpu->info.number,
                             cpu->owner != SLOT_NONE ? "dedicated" : "already",
                             db->zones[cpu->zone].pub.name);
        }
        op_move_cpu(db, i, wants ? run->zone : NODE_ZONE);
    }
    if (at < len) {
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CPU, cpus[at], 0, "no CPU %u",
                         cpus[at]);
    }
    const struct vdc_zone_slice *slice = &db->zones[run->zone].pub;
    if (slice->shared_used_milli > slice->shared_capacity_milli) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_POOL, slice->shared_used_milli,
                         slice->shared_capacity_milli,
                         "%llu milli-CPU are in use, the pool would have %llu",
                         ull(slice->shared_used_milli), ull(slice->shared_capacity_milli));
    }
    const struct vdc_zone_slice *node = &db->zones[NODE_ZONE].pub;
    if (node->shared_used_milli > node->shared_capacity_milli) {
        return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_SLICE_CPU, node->shared_used_milli,
                         node->shared_capacity_milli,
                         "the node itself needs %llu milli-CPU and would keep %llu",
                         ull(node->shared_used_milli), ull(node->shared_capacity_milli));
    }
    return VDC_RC_OK;
}

static enum vdc_rc set_zone_memory(struct op_run *run, uint64_t wanted)
{
    struct vdc_allocdb *db = run->db;
    struct vdc_zone_slice *slice = &db->zones[run->zone].pub;
    struct vdc_zone_slice *node = &db->zones[NODE_ZONE].pub;
    if (wanted < slice->memory_used_bytes) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_IN_USE, wanted, slice->memory_used_bytes,
                         "%llu bytes of memory are in use, the slice would have %llu",
                         ull(slice->memory_used_bytes), ull(wanted));
    }
    uint64_t spare = node->memory_bytes - node->memory_used_bytes;
    if (wanted > slice->memory_bytes && wanted - slice->memory_bytes > spare) {
        return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_SLICE_MEMORY, wanted - slice->memory_bytes,
                         spare, "asked %llu bytes of memory more, %llu are in no zone",
                         ull(wanted - slice->memory_bytes), ull(spare));
    }
    node->memory_bytes -= wanted - slice->memory_bytes; /* modulo 2^64: also gives back */
    slice->memory_bytes = wanted;
    return VDC_RC_OK;
}

static uint64_t share_of(const struct vdc_share *share, uint64_t whole)
{
    return share->milli != 0 ? whole * share->milli / 1000 : share->amount;
}

enum vdc_rc apply_zone_set(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
    const struct vdc_op_zone_set *set = &op->zone_set;
    struct vdc_allocdb *db = run->db;
    if (run->zone == NODE_ZONE) {
        return op_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0,
                         "the node's own slice is what the zones leave");
    }
    if (run->zone == ZONE_NONE) {
        if (db->zones_len == VDC_ALLOCDB_ZONES_MAX) {
            return op_refuse(run, VDC_RC_LIMIT, VDC_RULE_LIMIT, db->zones_len + 1u,
                             VDC_ALLOCDB_ZONES_MAX, "%u zones, limit %u", db->zones_len + 1u,
                             VDC_ALLOCDB_ZONES_MAX);
        }
        run->zone = zone_make(db, run->tx->zone);
        undo_push(db, UNDO_ZONE_NEW, SLOT_NONE)->zone = run->zone;
    }
    op_save_zone(db, NODE_ZONE);
    op_save_zone(db, run->zone);
    struct vdc_zone_slice *slice = &db->zones[run->zone].pub;
    slice->joined = true;
    slice->overcommit_milli = set->overcommit_milli;
    slice->cpu_share = set->cpu;
    slice->memory_share = set->memory;
    zone_touch(db, run->zone);

    struct vdc_op_zone_set *resolved = &db->resolved.zone_set;
    db->resolved = *op;
    run->resolved = &db->resolved;
    if (set->cpus_len == 0) {
        uint64_t wanted = share_of(&set->cpu, db->cpus_len);
        resolved->cpus = db->scratch_cpus;
        resolved->cpus_len = resolve_zone_cpus(db, run->zone, wanted);
        if (resolved->cpus_len != wanted) {
            return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_SLICE_CPU, wanted, resolved->cpus_len,
                             "asked %llu CPUs, with what is free it can have %u", ull(wanted),
                             resolved->cpus_len);
        }
    }
    enum vdc_rc rc = set_zone_cpus(run, resolved->cpus, resolved->cpus_len);
    if (rc == VDC_RC_OK) {
        uint64_t wanted = share_of(&set->memory, db->memory_bytes);
        rc = set_zone_memory(run, wanted - wanted % PAGE_4K);
    }
    if (rc == VDC_RC_OK) {
        zone_touch(db, NODE_ZONE);
        zone_touch(db, run->zone);
    }
    return rc;
}

enum vdc_rc apply_zone_leave(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)op;
    (void)slot;
    struct vdc_allocdb *db = run->db;
    struct vdc_zone_slice *slice = &db->zones[run->zone].pub;
    if (run->zone == NODE_ZONE) {
        return op_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0,
                         "the node cannot leave itself");
    }
    if (slice->partitions > 0) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_IN_USE, 0, slice->partitions,
                         "zone %s has %u partitions here", slice->name, slice->partitions);
    }
    op_save_zone(db, NODE_ZONE);
    op_save_zone(db, run->zone);
    enum vdc_rc rc = set_zone_cpus(run, NULL, 0);
    if (rc == VDC_RC_OK) {
        rc = set_zone_memory(run, 0);
    }
    VDC_ASSERT(rc == VDC_RC_OK);
    entries_leave_zone(db, run->zone);
    slice->joined = false;
    slice->cpu_share = (struct vdc_share){0};
    slice->memory_share = (struct vdc_share){0};
    slice->overcommit_milli = 1000;
    zone_touch(db, NODE_ZONE);
    zone_touch(db, run->zone);
    return VDC_RC_OK;
}

enum vdc_rc apply_zone_epoch(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
    (void)op;
    /* A zone that left is still told of newer epochs. */
    if (run->zone == ZONE_NONE) {
        return op_find_zone(run);
    }
    if (run->zone == NODE_ZONE) {
        return op_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0,
                         "the node's own slice has no leader");
    }
    return VDC_RC_OK;
}

enum vdc_rc apply_incarnation_set(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
    struct vdc_zone_slice *slice = &run->db->zones[run->zone].pub;
    uint64_t incarnation = op->incarnation_set.incarnation;
    if (incarnation <= slice->incarnation) {
        return op_refuse(run, VDC_RC_STALE, VDC_RULE_INCARNATION, incarnation, slice->incarnation,
                         "incarnation %llu is not greater than %llu", ull(incarnation),
                         ull(slice->incarnation));
    }
    op_save_zone(run->db, run->zone);
    slice->incarnation = incarnation;
    zone_touch(run->db, run->zone);
    return VDC_RC_OK;
}
