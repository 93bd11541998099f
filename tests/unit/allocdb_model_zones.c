/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of the model on the machine and the zones' slices of it.
 */
#include <string.h>

#include "allocdb_model_run.h"

bool model_apply_inventory_set(struct model_run *run, const struct vdc_op_inventory_set *set)
{
    struct model *m = run->m;
    struct model_state *s = run->s;
    if (run->tx->role != VDC_ROLE_SYSTEM || run->zone != NODE) {
        return model_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ROLE, 0, 0);
    }
    struct model_cpu cpus[MODEL_CPUS_MAX];
    VDC_ASSERT(set->cpus_len <= MODEL_CPUS_MAX);
    for (int c = 0; c < s->cpus_len; c++) {
        bool stays = false;
        for (uint32_t i = 0; i < set->cpus_len; i++) {
            stays = stays || set->cpus[i].number == s->cpus[c].info.number;
        }
        if (!stays && (s->cpus[c].zone != NODE || s->cpus[c].owner != NONE)) {
            return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_IN_USE, s->cpus[c].info.number, 0);
        }
    }
    uint64_t after = 0;
    for (uint32_t i = 0; i < set->numa_len; i++) {
        after += set->numa[i].memory_bytes;
    }
    for (int n = 0; n < m->numas_len; n++) {
        uint64_t kept = 0;
        for (uint32_t i = 0; i < set->numa_len; i++) {
            kept = set->numa[i].number == m->numas[n].number ? set->numa[i].memory_bytes : kept;
        }
        if (kept < m->numas[n].bytes &&
            !memory_is(&m->numas[n], kept, m->numas[n].bytes - kept, 0)) {
            return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_IN_USE, kept, m->numas[n].bytes);
        }
    }
    uint64_t spare = s->zones[NODE].memory_bytes - model_memory_used(m, NODE);
    if (after < s->memory_bytes && s->memory_bytes - after > spare) {
        return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_SLICE_MEMORY, s->memory_bytes - after,
                            spare);
    }
    for (uint32_t i = 0; i < set->cpus_len; i++) {
        int old = model_find_cpu(m, set->cpus[i].number);
        cpus[i] = (struct model_cpu){.info = set->cpus[i],
                                     .zone = old == NONE ? NODE : s->cpus[old].zone,
                                     .owner = old == NONE ? NONE : s->cpus[old].owner};
    }
    memcpy(s->cpus, cpus, set->cpus_len * sizeof(cpus[0]));
    s->cpus_len = (int)set->cpus_len;
    if (model_shared_used(m, NODE) > model_capacity(m, NODE)) {
        return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_POOL, model_shared_used(m, NODE),
                            model_capacity(m, NODE));
    }
    /* The only operation of its transaction: nothing takes this back. */
    memory_replace(m, set->numa, set->numa_len);
    s->zones[NODE].memory_bytes += after - s->memory_bytes;
    s->memory_bytes = after;
    return true;
}

static uint64_t share_of(const struct vdc_share *share, uint64_t whole)
{
    return share->milli != 0 ? whole * share->milli / 1000 : share->amount;
}

/* The zone's CPUs are to be `wants`. */
static bool set_zone_cpus(struct model_run *run, const bool *wants)
{
    for (int c = 0; c < run->s->cpus_len; c++) {
        struct model_cpu *cpu = &run->s->cpus[c];
        if (wants[c] == (cpu->zone == run->zone)) {
            continue;
        }
        if (cpu->owner != NONE || (wants[c] && cpu->zone != NODE)) {
            return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_BUSY, cpu->info.number, 0);
        }
        cpu->zone = wants[c] ? run->zone : NODE;
    }
    return true;
}

static bool judge_pools(struct model_run *run)
{
    struct model *m = run->m;
    if (model_shared_used(m, run->zone) > model_capacity(m, run->zone)) {
        return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_POOL,
                            model_shared_used(m, run->zone), model_capacity(m, run->zone));
    }
    if (model_shared_used(m, NODE) > model_capacity(m, NODE)) {
        return model_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_SLICE_CPU, model_shared_used(m, NODE),
                            model_capacity(m, NODE));
    }
    return true;
}

/* A number of CPUs: the highest free ones go, the lowest free ones come. False: not possible. */
static bool resolve_zone_cpus(struct model_run *run, uint64_t wanted, bool *wants)
{
    uint64_t have = model_count_cpus(run->m, run->zone);
    for (int c = run->s->cpus_len - 1; c >= 0; c--) {
        wants[c] = run->s->cpus[c].zone == run->zone;
        if (wants[c] && run->s->cpus[c].owner == NONE && have > wanted) {
            wants[c] = false;
            have--;
        }
    }
    for (int c = 0; c < run->s->cpus_len; c++) {
        if (model_cpu_is_free(run->m, c, NODE, NONE) && have < wanted) {
            wants[c] = true;
            have++;
        }
    }
    return have == wanted || model_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_SLICE_CPU, wanted, have);
}

bool model_apply_zone_set(struct model_run *run, const struct vdc_op_zone_set *set)
{
    struct model_state *s = run->s;
    bool wants[MODEL_CPUS_MAX] = {0};
    if (run->zone == NODE) {
        return model_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0);
    }
    if (run->zone == NONE) {
        if (s->zones_len == VDC_ALLOCDB_ZONES_MAX) {
            return model_refuse(run, VDC_RC_LIMIT, VDC_RULE_LIMIT, VDC_ALLOCDB_ZONES_MAX + 1,
                                VDC_ALLOCDB_ZONES_MAX);
        }
        run->zone = s->zones_len++;
        s->zones[run->zone] = (struct model_zone){0};
        vdc_str_set(s->zones[run->zone].name, VDC_NAME_CAP, run->tx->zone);
    }
    struct model_zone *zone = &s->zones[run->zone];
    zone->joined = true;
    zone->overcommit = set->overcommit_milli;
    zone->cpu_share = set->cpu;
    zone->memory_share = set->memory;
    uint32_t at = 0;
    if (set->cpus_len == 0 &&
        !resolve_zone_cpus(run, share_of(&set->cpu, (uint64_t)s->cpus_len), wants)) {
        return false;
    }
    for (int c = 0; c < s->cpus_len && at < set->cpus_len; c++) {
        /* The list is looked through in step with the CPUs: behind an unknown one nothing counts. */
        wants[c] = set->cpus[at] == s->cpus[c].info.number;
        at += wants[c];
    }
    if (!set_zone_cpus(run, wants)) {
        return false;
    }
    if (at < set->cpus_len) {
        return model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CPU, set->cpus[at], 0);
    }
    if (!judge_pools(run)) {
        return false;
    }
    uint64_t wanted = share_of(&set->memory, s->memory_bytes) / PAGE * PAGE;
    uint64_t used = model_memory_used(run->m, run->zone);
    uint64_t spare = s->zones[NODE].memory_bytes - model_memory_used(run->m, NODE);
    if (wanted < used) {
        return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_IN_USE, wanted, used);
    }
    if (wanted > zone->memory_bytes && wanted - zone->memory_bytes > spare) {
        return model_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_SLICE_MEMORY,
                            wanted - zone->memory_bytes, spare);
    }
    s->zones[NODE].memory_bytes = s->zones[NODE].memory_bytes + zone->memory_bytes - wanted;
    zone->memory_bytes = wanted;
    return true;
}

bool model_apply_zone_leave(struct model_run *run)
{
    struct model_state *s = run->s;
    if (!model_need_zone(run)) {
        return false;
    }
    if (run->zone == NODE) {
        return model_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0);
    }
    uint32_t partitions = model_count_partitions(run->m, run->zone);
    if (partitions > 0) {
        return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_IN_USE, 0, partitions);
    }
    struct model_zone *zone = &s->zones[run->zone];
    for (int c = 0; c < s->cpus_len; c++) {
        s->cpus[c].zone = s->cpus[c].zone == run->zone ? NODE : s->cpus[c].zone;
    }
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        if (model_is_entry(run->m, e, VDC_ENTRY_DEVICE) && s->entries[e].zone == run->zone) {
            s->entries[e].zone = NODE;
            run->m->touched_entry[e] = true;
        }
    }
    s->zones[NODE].memory_bytes += zone->memory_bytes;
    zone->memory_bytes = 0;
    zone->joined = false;
    zone->overcommit = 1000;
    zone->cpu_share = (struct vdc_share){0};
    zone->memory_share = (struct vdc_share){0};
    return true;
}

bool model_apply_zone_epoch(struct model_run *run)
{
    if (run->zone == NONE) {
        return model_need_zone(run);
    }
    return run->zone != NODE || model_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0);
}

bool model_apply_incarnation_set(struct model_run *run, uint64_t incarnation)
{
    if (!model_need_zone(run)) {
        return false;
    }
    struct model_zone *zone = &run->s->zones[run->zone];
    if (incarnation <= zone->incarnation) {
        return model_refuse(run, VDC_RC_STALE, VDC_RULE_INCARNATION, incarnation,
                            zone->incarnation);
    }
    zone->incarnation = incarnation;
    return true;
}

bool model_apply_zone_transfer(struct model_run *run, const struct vdc_op_zone_transfer *transfer)
{
    struct model_state *s = run->s;
    if (!model_need_zone(run)) {
        return false;
    }
    int to = model_find_zone(run->m, transfer->to);
    if (to == NONE || !s->zones[to].joined) {
        return model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_ZONE, 0, 0);
    }
    if (to == run->zone) {
        return model_refuse(run, VDC_RC_INVALID, VDC_RULE_ZONE, 0, 0);
    }
    for (uint32_t i = 0; i < transfer->cpus_len; i++) {
        int c = model_find_cpu(run->m, transfer->cpus[i]);
        if (c == NONE) {
            return model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CPU, transfer->cpus[i], 0);
        }
        if (!model_cpu_is_free(run->m, c, run->zone, NONE)) {
            return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_BUSY, transfer->cpus[i], 0);
        }
        s->cpus[c].zone = to;
    }
    uint64_t used = model_shared_used(run->m, run->zone);
    if (used > model_capacity(run->m, run->zone)) {
        return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_POOL, used,
                            model_capacity(run->m, run->zone));
    }
    if (!model_within_slice(run, transfer->memory_bytes)) {
        return false;
    }
    s->zones[run->zone].memory_bytes -= transfer->memory_bytes;
    s->zones[to].memory_bytes += transfer->memory_bytes;
    if (transfer->device[0] != 0) {
        int e = model_need_free_device(run, transfer->device);
        if (e == NONE) {
            return false;
        }
        s->entries[e].zone = to;
        run->m->touched_entry[e] = true;
    }
    const int both[2] = {run->zone, to};
    for (int i = 0; i < 2; i++) {
        struct model_zone *zone = &s->zones[both[i]];
        if (both[i] != NODE && transfer->cpus_len > 0) {
            zone->cpu_share = (struct vdc_share){.amount = model_count_cpus(run->m, both[i])};
        }
        if (both[i] != NODE && transfer->memory_bytes > 0) {
            zone->memory_share = (struct vdc_share){.amount = zone->memory_bytes};
        }
    }
    return true;
}
