/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function per operation. Each judges against the present state (which includes what the
 * operations before it in the same transaction did), resolves open choices, changes the state with
 * an entry in the undo log for each change, and appends itself, resolved, to the record. A refusal
 * may leave changes behind: the caller undoes the whole transaction.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "allocdb_internal.h"
#include "tx_codec.h"

#define ull(x) ((unsigned long long)(x))

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

void op_record(struct op_run *run, const struct vdc_op *op)
{
    if (run->record != NULL) {
        tx_encode_op(op, run->record);
    }
}

/* The zone must be on this node; `slice` is its slice. */
enum vdc_rc op_find_zone(struct op_run *run, struct vdc_zone_slice **slice)
{
    if (run->zone == ZONE_NONE) {
        enum vdc_rc rc = op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_ZONE, 0, 0,
                                   "zone %s has no slice of this node", run->tx->zone);
        /* Nothing here knows the zone's epoch, so nothing is remembered for it either. */
        run->stored = false;
        return rc;
    }
    *slice = &run->db->zones[run->zone].pub;
    if (!(*slice)->joined) {
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_ZONE, 0, 0, "zone %s has left this node",
                         run->tx->zone);
    }
    return VDC_RC_OK;
}

enum vdc_rc op_find_slot(struct op_run *run, const struct vdc_id *id, struct slot **out)
{
    struct vdc_zone_slice *slice;
    enum vdc_rc rc = op_find_zone(run, &slice);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    uint32_t number = idmap_get(&run->db->by_id, id);
    if (number == VDC_IDMAP_NONE) {
        char text[VDC_ID_TEXT_CAP];
        vdc_id_to_text(id, text);
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_PARTITION, 0, 0, "no partition %s",
                         text);
    }
    struct slot *slot = slot_at(run->db, number);
    if (slot->zone != run->zone) {
        return op_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0,
                         "partition %s belongs to zone \"%s\", not to \"%s\"", slot->pub.name,
                         slot->pub.zone, run->tx->zone);
    }
    if (!vdc_id_equal(&slot->pub.claim, &run->tx->claim)) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CLAIMED, 0, 0, "partition %s is %s",
                         slot->pub.name,
                         vdc_id_is_none(&slot->pub.claim) ? "not of this claim"
                                                          : "held by a claim that is not settled");
    }
    *out = slot;
    return VDC_RC_OK;
}

enum vdc_rc op_find_guarded(struct op_run *run, const struct vdc_id *id, uint64_t generation,
                            struct slot **out)
{
    enum vdc_rc rc = op_find_slot(run, id, out);
    if (rc == VDC_RC_OK && (*out)->pub.generation != generation) {
        return op_refuse(run, VDC_RC_STALE, VDC_RULE_GENERATION, generation, (*out)->pub.generation,
                         "partition %s has generation %llu, not %llu", (*out)->pub.name,
                         ull((*out)->pub.generation), ull(generation));
    }
    return rc;
}

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

static enum vdc_rc apply_inventory_set(struct op_run *run, const struct vdc_op *op)
{
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
    op_record(run, op);
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

static enum vdc_rc apply_zone_set(struct op_run *run, const struct vdc_op *op)
{
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

    struct vdc_op resolved = *op;
    if (set->cpus_len == 0) {
        uint64_t wanted = share_of(&set->cpu, db->cpus_len);
        resolved.zone_set.cpus = db->scratch_cpus;
        resolved.zone_set.cpus_len = resolve_zone_cpus(db, run->zone, wanted);
        if (resolved.zone_set.cpus_len != wanted) {
            return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_SLICE_CPU, wanted,
                             resolved.zone_set.cpus_len,
                             "asked %llu CPUs, with what is free it can have %u", ull(wanted),
                             resolved.zone_set.cpus_len);
        }
    }
    enum vdc_rc rc = set_zone_cpus(run, resolved.zone_set.cpus, resolved.zone_set.cpus_len);
    if (rc == VDC_RC_OK) {
        uint64_t wanted = share_of(&set->memory, db->memory_bytes);
        rc = set_zone_memory(run, wanted - wanted % PAGE_4K);
    }
    if (rc == VDC_RC_OK) {
        zone_touch(db, NODE_ZONE);
        zone_touch(db, run->zone);
        op_record(run, &resolved);
    }
    return rc;
}

static enum vdc_rc apply_zone_leave(struct op_run *run, const struct vdc_op *op)
{
    struct vdc_allocdb *db = run->db;
    struct vdc_zone_slice *slice;
    enum vdc_rc rc = op_find_zone(run, &slice);
    if (rc != VDC_RC_OK) {
        return rc;
    }
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
    rc = set_zone_cpus(run, NULL, 0);
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
    op_record(run, op);
    return VDC_RC_OK;
}

static enum vdc_rc apply_zone_epoch(struct op_run *run, const struct vdc_op *op)
{
    if (run->zone == ZONE_NONE || run->zone == NODE_ZONE) {
        struct vdc_zone_slice *slice;
        enum vdc_rc rc = op_find_zone(run, &slice);
        return rc != VDC_RC_OK ? rc
                               : op_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0,
                                           "the node's own slice has no leader");
    }
    op_record(run, op);
    return VDC_RC_OK;
}

static enum vdc_rc apply_incarnation_set(struct op_run *run, const struct vdc_op *op)
{
    struct vdc_zone_slice *slice;
    enum vdc_rc rc = op_find_zone(run, &slice);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    uint64_t incarnation = op->incarnation_set.incarnation;
    if (incarnation <= slice->incarnation) {
        return op_refuse(run, VDC_RC_STALE, VDC_RULE_INCARNATION, incarnation, slice->incarnation,
                         "incarnation %llu is not greater than %llu", ull(incarnation),
                         ull(slice->incarnation));
    }
    op_save_zone(run->db, run->zone);
    slice->incarnation = incarnation;
    zone_touch(run->db, run->zone);
    op_record(run, op);
    return VDC_RC_OK;
}

/* --- partitions --- */

/* Puts the operation into the record and hashes the identity from there. */
static struct vdc_digest record_create(struct op_run *run, const struct vdc_op *op)
{
    struct vdc_buf *out = run->record;
    if (out == NULL) {
        out = &run->db->scratch_bytes;
        vdc_buf_clear(out);
    }
    size_t at = out->len + TX_IDENTITY_AT;
    tx_encode_op(op, out);
    return digest_of_identity(out->data + at, out->len - at);
}

static enum vdc_rc apply_create(struct op_run *run, const struct vdc_op *op)
{
    const struct vdc_op_partition_create *create = &op->partition_create;
    struct vdc_allocdb *db = run->db;
    struct vdc_zone_slice *slice;
    enum vdc_rc rc = op_find_zone(run, &slice);
    if (rc != VDC_RC_OK) {
        return rc;
    }
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
    struct slot *slot = slot_make(db);
    struct vdc_partition *pub = &slot->pub;
    slot->zone = run->zone;
    pub->id = create->id;
    memcpy(pub->name, create->name, sizeof(pub->name));
    memcpy(pub->zone, slice->name, sizeof(pub->zone));
    memcpy(pub->tenant, create->tenant, sizeof(pub->tenant));
    memcpy(pub->class_name, create->class_name, sizeof(pub->class_name));
    pub->claim = run->tx->claim;
    pub->kind = create->kind;
    pub->run = create->run;
    pub->generation = create->generation;
    pub->vcpus = create->vcpus;
    pub->memory_bytes = create->memory_bytes;
    slot_set_config(slot, create->config, create->config_len);
    slot->identity = record_create(run, op);
    slot_enter(db, slot);
    undo_push(db, UNDO_CREATE, slot->number);
    return VDC_RC_OK;
}

static enum vdc_rc apply_set_run(struct op_run *run, const struct vdc_op *op)
{
    struct slot *slot;
    enum vdc_rc rc =
        op_find_guarded(run, &op->partition_set_run.id, op->partition_set_run.generation, &slot);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    undo_push(run->db, UNDO_RUN, slot->number)->a = slot->pub.run;
    slot->pub.run = op->partition_set_run.run;
    slot_touch(run->db, slot);
    op_record(run, op);
    return VDC_RC_OK;
}

static enum vdc_rc apply_set_generation(struct op_run *run, const struct vdc_op *op)
{
    const struct vdc_op_partition_set_generation *set = &op->partition_set_generation;
    struct slot *slot;
    enum vdc_rc rc = op_find_guarded(run, &set->id, set->generation, &slot);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    undo_push(run->db, UNDO_GENERATION, slot->number)->a = slot->pub.generation;
    slot->pub.generation = set->next;
    slot_touch(run->db, slot);
    op_record(run, op);
    return VDC_RC_OK;
}

static enum vdc_rc apply_set_config(struct op_run *run, const struct vdc_op *op)
{
    const struct vdc_op_partition_set_config *set = &op->partition_set_config;
    struct slot *slot;
    enum vdc_rc rc = op_find_guarded(run, &set->id, set->generation, &slot);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct undo *undo = undo_push(run->db, UNDO_CONFIG, slot->number);
    undo->saved = vdc_memdup(slot->pub.config, slot->pub.config_len);
    undo->a = slot->pub.config_len;
    slot_set_config(slot, set->config, set->config_len);
    slot->identity = slot_identity(slot);
    slot_touch(run->db, slot);
    op_record(run, op);
    return VDC_RC_OK;
}

static void release_cpu(struct vdc_allocdb *db, struct slot *slot, uint32_t index)
{
    undo_push(db, UNDO_CPU_RELEASE, slot->number)->number = index;
    cpu_release(db, slot, index);
}

static void set_shared(struct vdc_allocdb *db, struct slot *slot, uint32_t milli)
{
    undo_push(db, UNDO_SHARED, slot->number)->a = slot->pub.shared_milli;
    shared_set(db, slot, milli);
}

static void release_memory(struct vdc_allocdb *db, struct slot *slot, uint32_t numa, uint64_t addr,
                           uint64_t bytes)
{
    struct undo *undo = undo_push(db, UNDO_MEM_FREE, slot->number);
    undo->number = numa;
    undo->a = addr;
    undo->b = bytes;
    memory_unbook(db, slot, numa, addr, bytes);
    pagemap_free(&db->numa[numa].map, addr, bytes);
}

static void release_all_cpus(struct vdc_allocdb *db, struct slot *slot)
{
    while (slot->pub.cpus_len > 0) {
        release_cpu(db, slot, cpu_index_of(db, slot->cpus[slot->pub.cpus_len - 1]));
    }
    if (slot->pub.shared_milli > 0) {
        set_shared(db, slot, 0);
    }
}

static void release_all_memory(struct vdc_allocdb *db, struct slot *slot)
{
    while (slot->pub.blocks_len > 0) {
        struct vdc_memory_block last = slot->blocks[slot->pub.blocks_len - 1];
        release_memory(db, slot, numa_index_of(db, last.numa), last.addr, last.bytes);
    }
}

void op_destroy_slot(struct vdc_allocdb *db, struct slot *slot)
{
    entries_release(db, slot);
    undo_push(db, UNDO_DESTROY, slot->number);
    slot_leave(db, slot);
}

static enum vdc_rc apply_destroy(struct op_run *run, const struct vdc_op *op)
{
    struct slot *slot;
    enum vdc_rc rc =
        op_find_guarded(run, &op->partition_destroy.id, op->partition_destroy.generation, &slot);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    op_destroy_slot(run->db, slot);
    op_record(run, op);
    return VDC_RC_OK;
}

/* --- CPUs --- */

/* The `any` lowest-numbered free CPUs of the zone (on one NUMA node) into scratch. */
static enum vdc_rc resolve_any_cpus(struct op_run *run, const struct vdc_op_cpu_assign *assign)
{
    struct vdc_allocdb *db = run->db;
    const struct zone *zone = &db->zones[run->zone];
    const struct numa *numa = NULL;
    uint32_t free_cpus = zone->pub.cpus - zone->pub.cpus_dedicated;
    if (assign->numa != VDC_NUMA_ANY) {
        uint32_t at = numa_index_of(db, assign->numa);
        if (at == UINT32_MAX) {
            return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, assign->numa, 0,
                             "no NUMA node %u", assign->numa);
        }
        numa = &db->numa[at];
        free_cpus = zone->free_numa[at];
    }
    if (assign->any > free_cpus) {
        return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_CPU_FREE, assign->any, free_cpus,
                         "asked %u dedicated CPUs, %u are free", assign->any, free_cpus);
    }
    uint32_t len = 0;
    uint32_t end = numa == NULL ? db->cpu_words : numa->end_word;
    for (uint32_t w = numa == NULL ? 0 : numa->first_word; w < end && len < assign->any; w++) {
        uint64_t word = zone->free[w] & (numa == NULL ? UINT64_MAX : numa->mask[w]);
        for (; word != 0 && len < assign->any; word &= word - 1) {
            uint32_t index = w * 64 + (uint32_t)__builtin_ctzll(word);
            db->scratch_cpus[len++] = db->cpus[index].info.number;
        }
    }
    VDC_ASSERT(len == assign->any);
    return VDC_RC_OK;
}

static enum vdc_rc assign_cpus(struct op_run *run, struct slot *slot, const uint16_t *cpus,
                               uint32_t len)
{
    struct vdc_allocdb *db = run->db;
    const struct vdc_zone_slice *slice = &db->zones[run->zone].pub;
    if (slot->pub.shared_milli > 0 || len > VDC_VCPUS_MAX - slot->pub.cpus_len) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, len, slot->pub.shared_milli,
                         "%s has %u milli-CPU of the pool and %u dedicated CPUs", slot->pub.name,
                         slot->pub.shared_milli, slot->pub.cpus_len);
    }
    uint32_t pool = slice->cpus - slice->cpus_dedicated;
    uint64_t left = len >= pool ? 0 : zone_capacity(slice, pool - len);
    for (uint32_t i = 0; i < len; i++) {
        uint32_t index = cpu_index_of(db, cpus[i]);
        if (index == UINT32_MAX) {
            return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CPU, cpus[i], 0, "no CPU %u",
                             cpus[i]);
        }
        const struct cpu *cpu = &db->cpus[index];
        if (cpu->zone != run->zone || cpu->owner != SLOT_NONE) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_BUSY, cpus[i], 0, "CPU %u is %s%s",
                             cpus[i], cpu->zone != run->zone ? "not in zone " : "dedicated to ",
                             cpu->zone != run->zone ? run->tx->zone
                                                    : slot_at(db, cpu->owner)->pub.name);
        }
        undo_push(db, UNDO_CPU_ASSIGN, slot->number)->number = index;
        cpu_assign(db, slot, index);
    }
    if (slice->shared_used_milli > left) {
        return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_CPU_POOL, slice->shared_used_milli, left,
                         "%llu milli-CPU of the pool are in use, it would keep %llu",
                         ull(slice->shared_used_milli), ull(left));
    }
    return VDC_RC_OK;
}

static enum vdc_rc assign_shared(struct op_run *run, struct slot *slot, uint32_t milli)
{
    const struct vdc_zone_slice *slice = &run->db->zones[run->zone].pub;
    if (slot->pub.cpus_len > 0 || milli > VDC_VCPUS_MAX * 1000 - slot->pub.shared_milli) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, milli, slot->pub.cpus_len,
                         "%s has %u dedicated CPUs and %u milli-CPU of the pool", slot->pub.name,
                         slot->pub.cpus_len, slot->pub.shared_milli);
    }
    uint64_t left = slice->shared_capacity_milli - slice->shared_used_milli;
    if (milli > left) {
        return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_CPU_POOL, milli, left,
                         "asked %u milli-CPU of zone %s's pool, %llu of %llu are free", milli,
                         slice->name, ull(left), ull(slice->shared_capacity_milli));
    }
    set_shared(run->db, slot, slot->pub.shared_milli + milli);
    return VDC_RC_OK;
}

static enum vdc_rc apply_cpu_assign(struct op_run *run, const struct vdc_op *op)
{
    struct vdc_op resolved;
    resolved.kind = op->kind;
    resolved.cpu_assign = op->cpu_assign;
    struct vdc_op_cpu_assign *assign = &resolved.cpu_assign;
    struct slot *slot;
    enum vdc_rc rc = op_find_slot(run, &assign->id, &slot);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (assign->shared_milli > 0) {
        rc = assign_shared(run, slot, assign->shared_milli);
    } else {
        bool places = assign->locality != VDC_LOCALITY_DEFAULT || assign->whole_cores;
        if (assign->any > 0) {
            assign->cpus_len = assign->any;
            rc = places ? place_cpus(run, slot, assign, &assign->cpus_len)
                        : resolve_any_cpus(run, assign);
            assign->cpus = run->db->scratch_cpus;
            assign->any = 0;
        }
        if (rc == VDC_RC_OK && places) {
            rc = judge_cpu_place(run, slot, assign);
        }
        if (rc == VDC_RC_OK) {
            rc = assign_cpus(run, slot, assign->cpus, assign->cpus_len);
        }
    }
    if (rc == VDC_RC_OK) {
        op_record(run, &resolved);
    }
    return rc;
}

static enum vdc_rc apply_cpu_release(struct op_run *run, const struct vdc_op *op)
{
    const struct vdc_op_cpu_release *release = &op->cpu_release;
    struct vdc_allocdb *db = run->db;
    struct slot *slot;
    enum vdc_rc rc = op_find_slot(run, &release->id, &slot);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (release->cpus_len == 0 && release->shared_milli == 0) {
        release_all_cpus(db, slot);
    }
    if (release->shared_milli > slot->pub.shared_milli) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, release->shared_milli,
                         slot->pub.shared_milli, "%s has %u milli-CPU of the pool, not %u",
                         slot->pub.name, slot->pub.shared_milli, release->shared_milli);
    }
    if (release->shared_milli > 0) {
        set_shared(db, slot, slot->pub.shared_milli - release->shared_milli);
    }
    for (uint32_t i = 0; i < release->cpus_len; i++) {
        uint32_t index = cpu_index_of(db, release->cpus[i]);
        if (index == UINT32_MAX || db->cpus[index].owner != slot->number) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, release->cpus[i], 0,
                             "CPU %u is not dedicated to %s", release->cpus[i], slot->pub.name);
        }
        release_cpu(db, slot, index);
    }
    op_record(run, op);
    return VDC_RC_OK;
}

/* --- memory --- */

/* Guests' memory is backed by 2 MiB pages and up; channels and system partitions take 4 KiB. */
uint64_t op_page_of(const struct slot *slot)
{
    return slot->pub.kind == VDC_PARTITION_GUEST ? PAGE_2M : PAGE_4K;
}

static void book_taken(struct op_run *run, struct slot *slot, uint32_t numa, uint64_t addr,
                       uint64_t bytes)
{
    struct undo *undo = undo_push(run->db, UNDO_MEM_TAKE, slot->number);
    undo->number = numa;
    undo->a = addr;
    undo->b = bytes;
    memory_book(run->db, slot, numa, addr, bytes);
}

enum vdc_rc op_refuse_memory(struct op_run *run, uint64_t asked, uint64_t free_bytes,
                             uint64_t largest)
{
    run->result->largest = largest;
    return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_FREE, asked, free_bytes,
                     "asked %llu bytes, free %llu, largest free block %llu", ull(asked),
                     ull(free_bytes), ull(largest));
}

static enum vdc_rc refuse_fragmented(struct op_run *run, uint64_t asked)
{
    return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_FRAGMENTED, asked, VDC_VIEW_BLOCKS_MAX,
                     "%llu bytes would lie in more than %u blocks", ull(asked),
                     VDC_VIEW_BLOCKS_MAX);
}

/* Takes `bytes` of one NUMA node, which has them, and lists the runs in scratch. */
enum vdc_rc op_take_from_numa(struct op_run *run, struct slot *slot, uint32_t numa, uint64_t bytes)
{
    struct vdc_allocdb *db = run->db;
    uint64_t left = bytes;
    while (left > 0) {
        uint64_t addr;
        uint64_t taken;
        pagemap_take_next(&db->numa[numa].map, left, op_page_of(slot), slot->number, &addr, &taken);
        book_taken(run, slot, numa, addr, taken);
        left -= taken;
        uint32_t len = db->scratch_blocks_len;
        uint32_t number = db->numa[numa].number;
        if (len > 0 && db->scratch_blocks[len - 1].numa == number &&
            db->scratch_blocks[len - 1].addr + db->scratch_blocks[len - 1].bytes == addr) {
            db->scratch_blocks[len - 1].bytes += taken;
            continue;
        }
        VDC_GROW(db->scratch_blocks, db->scratch_blocks_cap, (size_t)len + 1);
        db->scratch_blocks[len] =
            (struct vdc_memory_block){.addr = addr, .bytes = taken, .numa = number};
        db->scratch_blocks_len++;
        if (db->scratch_blocks_len > VDC_VIEW_BLOCKS_MAX ||
            slot->pub.blocks_len > VDC_VIEW_BLOCKS_MAX) {
            return refuse_fragmented(run, bytes);
        }
    }
    return VDC_RC_OK;
}

static bool lies_before(const struct vdc_memory_block *a, const struct vdc_memory_block *b)
{
    return a->numa != b->numa ? a->numa < b->numa : a->addr < b->addr;
}

/* By insertion: there are two or three, and never more than VDC_VIEW_BLOCKS_MAX. */
static void sort_blocks(struct vdc_memory_block *blocks, uint32_t len)
{
    for (uint32_t i = 1; i < len; i++) {
        struct vdc_memory_block block = blocks[i];
        uint32_t at = i;
        while (at > 0 && lies_before(&block, &blocks[at - 1])) {
            blocks[at] = blocks[at - 1];
            at--;
        }
        blocks[at] = block;
    }
}

/* Decides which NUMA nodes give how much: one that has it all if there is one. */
static enum vdc_rc take_anywhere(struct op_run *run, struct slot *slot, uint64_t bytes)
{
    struct vdc_allocdb *db = run->db;
    uint64_t page = op_page_of(slot);
    uint64_t free_bytes = 0;
    uint64_t largest = 0;
    for (uint32_t i = 0; i < db->numa_len; i++) {
        uint64_t here = pagemap_free_in(&db->numa[i].map, page);
        if (here >= bytes) {
            return op_take_from_numa(run, slot, i, bytes);
        }
        free_bytes += here;
        largest = VDC_MAX(largest, pagemap_largest_free(&db->numa[i].map));
    }
    if (free_bytes < bytes) {
        return op_refuse_memory(run, bytes, free_bytes, largest);
    }
    enum vdc_rc rc = VDC_RC_OK;
    for (uint32_t i = 0; rc == VDC_RC_OK && bytes > 0; i++) {
        uint64_t part = VDC_MIN(bytes, pagemap_free_in(&db->numa[i].map, page));
        rc = op_take_from_numa(run, slot, i, part);
        bytes -= part;
    }
    return rc;
}

static enum vdc_rc resolve_memory(struct op_run *run, struct slot *slot,
                                  struct vdc_op_memory_assign *assign)
{
    struct vdc_allocdb *db = run->db;
    db->scratch_blocks_len = 0;
    enum vdc_rc rc;
    if (assign->locality != VDC_LOCALITY_DEFAULT) {
        rc = place_memory(run, slot, assign);
    } else if (assign->numa == VDC_NUMA_ANY) {
        rc = take_anywhere(run, slot, assign->bytes);
    } else {
        uint32_t numa = numa_index_of(db, assign->numa);
        if (numa == UINT32_MAX) {
            return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, assign->numa, 0,
                             "no NUMA node %u", assign->numa);
        }
        const struct pagemap *map = &db->numa[numa].map;
        uint64_t free_bytes = pagemap_free_in(map, op_page_of(slot));
        rc = assign->bytes > free_bytes
                 ? op_refuse_memory(run, assign->bytes, free_bytes, pagemap_largest_free(map))
                 : op_take_from_numa(run, slot, numa, assign->bytes);
    }
    if (rc != VDC_RC_OK) {
        return rc;
    }
    sort_blocks(db->scratch_blocks, db->scratch_blocks_len);
    assign->blocks = db->scratch_blocks;
    assign->blocks_len = db->scratch_blocks_len;
    return rc;
}

static enum vdc_rc take_named(struct op_run *run, struct slot *slot,
                              const struct vdc_op_memory_assign *assign)
{
    struct vdc_allocdb *db = run->db;
    for (uint32_t i = 0; i < assign->blocks_len; i++) {
        const struct vdc_memory_block *block = &assign->blocks[i];
        uint32_t numa = numa_index_of(db, block->numa);
        if (numa == UINT32_MAX) {
            return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, block->numa, 0,
                             "no NUMA node %u", block->numa);
        }
        if (block->addr % op_page_of(slot) != 0 || block->bytes % op_page_of(slot) != 0) {
            return op_refuse(run, VDC_RC_INVALID, VDC_RULE_MEMORY_PAGE, block->bytes,
                             op_page_of(slot), "block %u is not made of pages of %llu bytes", i,
                             ull(op_page_of(slot)));
        }
        struct pagemap *map = &db->numa[numa].map;
        if (!pagemap_range_is(map, block->addr, block->bytes, PAGE_OWNER_NONE)) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_MEMORY_BUSY, block->bytes, 0,
                             "block %u (NUMA node %u at %llu, %llu bytes) is not free", i,
                             block->numa, ull(block->addr), ull(block->bytes));
        }
        pagemap_take(map, block->addr, block->bytes, slot->number);
        book_taken(run, slot, numa, block->addr, block->bytes);
        if (slot->pub.blocks_len > VDC_VIEW_BLOCKS_MAX) {
            return refuse_fragmented(run, assign->bytes);
        }
    }
    return VDC_RC_OK;
}

static enum vdc_rc apply_memory_assign(struct op_run *run, const struct vdc_op *op)
{
    struct vdc_op resolved;
    resolved.kind = op->kind;
    resolved.memory_assign = op->memory_assign;
    struct vdc_op_memory_assign *assign = &resolved.memory_assign;
    struct slot *slot;
    enum vdc_rc rc = op_find_slot(run, &assign->id, &slot);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (assign->bytes % op_page_of(slot) != 0) {
        return op_refuse(run, VDC_RC_INVALID, VDC_RULE_MEMORY_PAGE, assign->bytes, op_page_of(slot),
                         "%llu bytes are not whole pages of %llu", ull(assign->bytes),
                         ull(op_page_of(slot)));
    }
    const struct vdc_zone_slice *slice = &run->db->zones[run->zone].pub;
    uint64_t left = slice->memory_bytes - slice->memory_used_bytes;
    if (assign->bytes > left) {
        return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_SLICE, assign->bytes, left,
                         "asked %llu bytes, zone \"%s\" has %llu of %llu left here",
                         ull(assign->bytes), slice->name, ull(left), ull(slice->memory_bytes));
    }
    rc = assign->blocks_len > 0 ? take_named(run, slot, assign) : resolve_memory(run, slot, assign);
    if (rc == VDC_RC_OK && assign->locality != VDC_LOCALITY_DEFAULT) {
        rc = judge_memory_place(run, assign);
    }
    if (rc == VDC_RC_OK) {
        op_record(run, &resolved);
    }
    return rc;
}

static enum vdc_rc apply_memory_release(struct op_run *run, const struct vdc_op *op)
{
    const struct vdc_op_memory_release *release = &op->memory_release;
    struct vdc_allocdb *db = run->db;
    struct slot *slot;
    enum vdc_rc rc = op_find_slot(run, &release->id, &slot);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (release->blocks_len == 0) {
        release_all_memory(db, slot);
    }
    for (uint32_t i = 0; i < release->blocks_len; i++) {
        const struct vdc_memory_block *block = &release->blocks[i];
        uint32_t numa = numa_index_of(db, block->numa);
        if (numa == UINT32_MAX ||
            !pagemap_range_is(&db->numa[numa].map, block->addr, block->bytes, slot->number)) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_MEMORY_BUSY, block->bytes, 0,
                             "block %u (NUMA node %u at %llu, %llu bytes) is not %s's", i,
                             block->numa, ull(block->addr), ull(block->bytes), slot->pub.name);
        }
        if (block->addr % op_page_of(slot) != 0 || block->bytes % op_page_of(slot) != 0) {
            return op_refuse(run, VDC_RC_INVALID, VDC_RULE_MEMORY_PAGE, block->bytes,
                             op_page_of(slot), "block %u is not made of pages of %llu bytes", i,
                             ull(op_page_of(slot)));
        }
        release_memory(db, slot, numa, block->addr, block->bytes);
        if (slot->pub.blocks_len > VDC_VIEW_BLOCKS_MAX) {
            return refuse_fragmented(run, block->bytes);
        }
    }
    op_record(run, op);
    return VDC_RC_OK;
}

/* What a claim may hold is what can be given back without a trace: new partitions and theirs. */
static bool claim_may(enum vdc_op_kind kind)
{
    return kind == VDC_OP_PARTITION_CREATE || kind == VDC_OP_CPU_ASSIGN ||
           kind == VDC_OP_MEMORY_ASSIGN || kind == VDC_OP_DEVICE_ATTACH ||
           kind == VDC_OP_VOLUME_ATTACH || kind == VDC_OP_PORT_CONNECT ||
           kind == VDC_OP_CHANNEL_CONNECT;
}

enum vdc_rc op_apply(struct op_run *run, const struct vdc_op *op)
{
    if (run->tx->kind == VDC_TX_PREPARE && !claim_may(op->kind)) {
        return op_refuse(run, VDC_RC_INVALID, VDC_RULE_CLAIM_OPS, 0, 0,
                         "a claim creates partitions and assigns to them, nothing else");
    }
    switch (op->kind) {
    case VDC_OP_INVENTORY_SET:
        return apply_inventory_set(run, op);
    case VDC_OP_ZONE_SET:
        return apply_zone_set(run, op);
    case VDC_OP_ZONE_LEAVE:
        return apply_zone_leave(run, op);
    case VDC_OP_ZONE_EPOCH:
        return apply_zone_epoch(run, op);
    case VDC_OP_INCARNATION_SET:
        return apply_incarnation_set(run, op);
    case VDC_OP_PARTITION_CREATE:
        return apply_create(run, op);
    case VDC_OP_PARTITION_SET_RUN:
        return apply_set_run(run, op);
    case VDC_OP_PARTITION_SET_GENERATION:
        return apply_set_generation(run, op);
    case VDC_OP_PARTITION_SET_CONFIG:
        return apply_set_config(run, op);
    case VDC_OP_PARTITION_DESTROY:
        return apply_destroy(run, op);
    case VDC_OP_CPU_ASSIGN:
        return apply_cpu_assign(run, op);
    case VDC_OP_CPU_RELEASE:
        return apply_cpu_release(run, op);
    case VDC_OP_MEMORY_ASSIGN:
        return apply_memory_assign(run, op);
    case VDC_OP_MEMORY_RELEASE:
        return apply_memory_release(run, op);
    case VDC_OP_DEVICE_ADD:
    case VDC_OP_DEVICE_REMOVE:
    case VDC_OP_DEVICE_ATTACH:
    case VDC_OP_DEVICE_DETACH:
    case VDC_OP_VOLUME_ATTACH:
    case VDC_OP_VOLUME_DETACH:
    case VDC_OP_PORT_CONNECT:
    case VDC_OP_PORT_DISCONNECT:
    case VDC_OP_CHANNEL_CONNECT:
    case VDC_OP_CHANNEL_DISCONNECT:
    case VDC_OP_FENCE_PROMISE:
    case VDC_OP_ZONE_TRANSFER:
        return entry_op_apply(run, op);
    }
    return op_refuse(run, VDC_RC_INVALID, VDC_RULE_FORM, 0, 0, "unknown operation");
}
