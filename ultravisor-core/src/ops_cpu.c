/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ops.h"

static enum vdc_rc refuse_free(struct op_run *run, uint32_t asked, uint32_t free_cpus)
{
    return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_CPU_FREE, asked, free_cpus,
                     "asked %u dedicated CPUs, %u are free", asked, free_cpus);
}

/* The `any` lowest-numbered free CPUs of the zone (on one NUMA node) into scratch. */
static enum vdc_rc resolve_any(struct op_run *run, const struct vdc_op_cpu_assign *assign)
{
    struct vdc_allocdb *db = run->db;
    const struct zone *zone = &db->zones[run->zone];
    const struct numa *numa = NULL;
    uint32_t free_cpus = zone->pub.cpus - zone->pub.cpus_dedicated;
    uint32_t w = 0;
    uint32_t end = db->cpu_words;
    if (assign->numa != VDC_NUMA_ANY) {
        uint32_t at = numa_index_of(db, assign->numa);
        if (at == UINT32_MAX) {
            return op_refuse_numa(run, assign->numa);
        }
        numa = &db->numa[at];
        free_cpus = zone->free_numa[at];
        w = numa->first_word;
        end = numa->end_word;
    }
    if (assign->any > free_cpus) {
        return refuse_free(run, assign->any, free_cpus);
    }
    uint32_t left = assign->any;
    uint16_t *to = db->scratch_cpus;
    for (; w < end && left > 0; w++) {
        uint64_t word = zone->free[w] & (numa == NULL ? UINT64_MAX : numa->mask[w]);
        for (; word != 0 && left > 0; word &= word - 1, left--) {
            *to++ = db->cpu_number[w * 64 + (uint32_t)__builtin_ctzll(word)];
        }
    }
    VDC_ASSERT(left == 0);
    return VDC_RC_OK;
}

static enum vdc_rc judge_named(struct op_run *run, uint16_t number)
{
    struct vdc_allocdb *db = run->db;
    uint32_t index = cpu_index_of(db, number);
    if (index == UINT32_MAX) {
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CPU, number, 0, "no CPU %u",
                         number);
    }
    const struct cpu *cpu = &db->cpus[index];
    if (cpu->zone == run->zone && cpu->owner == SLOT_NONE) {
        return VDC_RC_OK;
    }
    return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_BUSY, number, 0, "CPU %u is %s%s", number,
                     cpu->zone != run->zone ? "not in zone " : "dedicated to ",
                     cpu->zone != run->zone ? run->tx->zone : slot_at(db, cpu->owner)->pub.name);
}

/* Makes the CPUs, ascending, the partition's. `chosen`: they are known to be free. */
static enum vdc_rc assign_cpus(struct op_run *run, struct slot *slot, const uint16_t *cpus,
                               uint32_t len, bool chosen)
{
    struct vdc_allocdb *db = run->db;
    const struct vdc_zone_slice *slice = &db->zones[run->zone].pub;
    if (slot->pub.shared_milli > 0 || len > VDC_VCPUS_MAX - slot->pub.cpus_len) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, len, slot->pub.shared_milli,
                         "%s has %u milli-CPU of the pool and %u dedicated CPUs", slot->pub.name,
                         slot->pub.shared_milli, slot->pub.cpus_len);
    }
    for (uint32_t i = 0; !chosen && i < len; i++) {
        enum vdc_rc rc = judge_named(run, cpus[i]);
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    if (slot->pub.cpus_len == 0) {
        (void)undo_push(db, UNDO_CPUS_FIRST, slot->number);
        cpus_assign_first(db, slot, cpus, len);
    } else {
        for (uint32_t i = 0; i < len; i++) {
            uint32_t index = cpu_index_of(db, cpus[i]);
            undo_push(db, UNDO_CPU_ASSIGN, slot->number)->number = index;
            cpu_assign(db, slot, index);
        }
    }
    if (slice->shared_used_milli > slice->shared_capacity_milli) {
        return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_CPU_POOL, slice->shared_used_milli,
                         slice->shared_capacity_milli,
                         "%llu milli-CPU of the pool are in use, it would keep %llu",
                         ull(slice->shared_used_milli), ull(slice->shared_capacity_milli));
    }
    return VDC_RC_OK;
}

static void set_shared(struct vdc_allocdb *db, struct slot *slot, uint32_t milli)
{
    undo_push(db, UNDO_SHARED, slot->number)->a = slot->pub.shared_milli;
    shared_set(db, slot, milli);
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

enum vdc_rc apply_cpu_assign(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    struct vdc_allocdb *db = run->db;
    if (op->cpu_assign.shared_milli > 0) {
        return assign_shared(run, slot, op->cpu_assign.shared_milli);
    }
    struct vdc_op_cpu_assign *assign = &db->resolved.cpu_assign;
    bool chosen = op->cpu_assign.any > 0;
    bool places = op->cpu_assign.locality != VDC_LOCALITY_DEFAULT || op->cpu_assign.whole_cores;
    enum vdc_rc rc = VDC_RC_OK;
    *assign = op->cpu_assign;
    if (chosen) {
        db->resolved.kind = VDC_OP_CPU_ASSIGN;
        run->resolved = &db->resolved;
        assign->cpus_len = assign->any;
        rc = places ? place_cpus(run, slot, assign, &assign->cpus_len) : resolve_any(run, assign);
        assign->cpus = db->scratch_cpus;
        assign->any = 0;
    }
    if (rc == VDC_RC_OK && places) {
        rc = judge_cpu_place(run, slot, assign);
    }
    return rc != VDC_RC_OK ? rc : assign_cpus(run, slot, assign->cpus, assign->cpus_len, chosen);
}

static void release_cpu(struct vdc_allocdb *db, struct slot *slot, uint32_t index)
{
    undo_push(db, UNDO_CPU_RELEASE, slot->number)->number = index;
    cpu_release(db, slot, index);
}

enum vdc_rc apply_cpu_release(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    const struct vdc_op_cpu_release *release = &op->cpu_release;
    struct vdc_allocdb *db = run->db;
    bool all = release->cpus_len == 0 && release->shared_milli == 0;
    while (all && slot->pub.cpus_len > 0) {
        release_cpu(db, slot, cpu_index_of(db, slot->cpus[slot->pub.cpus_len - 1]));
    }
    uint32_t milli = all ? slot->pub.shared_milli : release->shared_milli;
    if (milli > slot->pub.shared_milli) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, milli, slot->pub.shared_milli,
                         "%s has %u milli-CPU of the pool, not %u", slot->pub.name,
                         slot->pub.shared_milli, milli);
    }
    if (milli > 0) {
        set_shared(db, slot, slot->pub.shared_milli - milli);
    }
    for (uint32_t i = 0; i < release->cpus_len; i++) {
        uint32_t index = cpu_index_of(db, release->cpus[i]);
        if (index == UINT32_MAX || db->cpus[index].owner != slot->number) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, release->cpus[i], 0,
                             "CPU %u is not dedicated to %s", release->cpus[i], slot->pub.name);
        }
        release_cpu(db, slot, index);
    }
    return VDC_RC_OK;
}
