/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model's CPUs of partitions: which are chosen, and whether what is named may be had.
 */
#include <string.h>

#include "allocdb_model_run.h"

static bool same_core(const struct model_cpu *a, const struct model_cpu *b)
{
    return a->info.socket == b->info.socket && a->info.core == b->info.core;
}

/* Whether c is the lowest-numbered CPU of its core, and the whole core is free in the zone. */
static bool begins_free_core(const struct model *m, int c, int zone)
{
    for (int i = 0; i < m->now.cpus_len; i++) {
        if (same_core(&m->now.cpus[i], &m->now.cpus[c]) &&
            (i < c || !model_cpu_is_free(m, i, zone, NONE))) {
            return false;
        }
    }
    return true;
}

/* Lists free CPUs of the NUMA node (NONE: of all), lowest first, until there are `wanted`; whole
 * cores are not broken. */
static uint32_t list_cpus(const struct model_run *run, int numa, uint32_t wanted, bool whole,
                          bool listed[MODEL_CPUS_MAX])
{
    const struct model *m = run->m;
    uint32_t found = 0;
    for (int c = 0; c < m->now.cpus_len && found < wanted; c++) {
        if (!model_cpu_is_free(m, c, run->zone, numa) ||
            (whole && !begins_free_core(m, c, run->zone))) {
            continue;
        }
        for (int i = 0; i < m->now.cpus_len; i++) {
            bool take = whole ? same_core(&m->now.cpus[i], &m->now.cpus[c]) : i == c;
            found += take && !listed[i];
            listed[i] = listed[i] || take;
        }
    }
    return found;
}

static bool refuse_cpus(struct model_run *run, const struct vdc_op_cpu_assign *assign,
                        enum vdc_tx_rule rule, uint32_t asked, uint32_t found)
{
    return model_refuse(run, VDC_RC_NO_SPACE, assign->whole_cores ? VDC_RULE_CPU_CORE : rule, asked,
                        found);
}

static bool list_of_one(struct model_run *run, const struct vdc_op_cpu_assign *assign, int only,
                        bool *listed)
{
    uint32_t most = 0;
    for (int n = 0; n < run->m->numas_len; n++) {
        if (only != NONE && n != only) {
            continue;
        }
        memset(listed, 0, MODEL_CPUS_MAX * sizeof(listed[0]));
        uint32_t found = list_cpus(run, n, assign->any, assign->whole_cores, listed);
        if (found >= assign->any) {
            return true;
        }
        most = VDC_MAX(most, found);
    }
    return refuse_cpus(run, assign, VDC_RULE_LOCALITY, assign->any, most);
}

static bool list_of_all(struct model_run *run, const struct vdc_op_cpu_assign *assign, int first,
                        bool *listed)
{
    uint32_t found = 0;
    if (first != NONE) {
        found = list_cpus(run, first, assign->any, assign->whole_cores, listed);
    }
    for (int n = 0; n < run->m->numas_len && found < assign->any; n++) {
        if (n != first) {
            found += list_cpus(run, n, assign->any - found, assign->whole_cores, listed);
        }
    }
    return found >= assign->any || refuse_cpus(run, assign, VDC_RULE_CPU_FREE, assign->any, found);
}

static bool list_of_set(struct model_run *run, const struct vdc_op_cpu_assign *assign, bool *listed)
{
    uint32_t count = model_count_bits(assign->nodes);
    uint32_t nth = 0;
    if (!model_need_nodes(run, assign->nodes)) {
        return false;
    }
    for (int n = 0; n < run->m->numas_len; n++) {
        if ((assign->nodes >> run->m->numas[n].number & 1) == 0) {
            continue;
        }
        uint32_t part = assign->any / count + (nth < assign->any % count);
        uint32_t found = list_cpus(run, n, part, assign->whole_cores, listed);
        if (found < part) {
            return refuse_cpus(run, assign, VDC_RULE_LOCALITY, part, found);
        }
        nth++;
    }
    return true;
}

static bool resolve_cpus(struct model_run *run, const struct vdc_op_cpu_assign *assign,
                         bool *listed)
{
    int numa;
    if (!model_need_numa(run, assign->numa, &numa)) {
        return false;
    }
    switch (assign->locality) {
    case VDC_LOCALITY_DEFAULT:
        if (!assign->whole_cores) {
            uint32_t here = model_count_free_cpus(run->m, run->zone, numa);
            (void)list_cpus(run, numa, assign->any, false, listed);
            return assign->any <= here ||
                   model_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_CPU_FREE, assign->any, here);
        }
        return numa == NONE ? list_of_all(run, assign, NONE, listed)
                            : list_of_one(run, assign, numa, listed);
    case VDC_LOCALITY_STRICT:
        return list_of_one(run, assign, numa, listed);
    case VDC_LOCALITY_PREFERRED:
        return list_of_all(run, assign, numa, listed);
    case VDC_LOCALITY_SPANNING:
        return list_of_set(run, assign, listed);
    }
    return false;
}

static bool judge_cores(struct model_run *run, int p, const uint16_t *cpus, uint32_t len, int c)
{
    int count = run->s->cpus_len;
    for (int step = 1; step < count; step++) {
        int other = (c + step) % count;
        const struct model_cpu *cpu = &run->s->cpus[other];
        bool listed = cpu->owner == p;
        for (uint32_t i = 0; i < len; i++) {
            listed = listed || cpus[i] == cpu->info.number;
        }
        if (same_core(cpu, &run->s->cpus[c]) && !listed) {
            return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_CORE,
                                run->s->cpus[c].info.number, cpu->info.number);
        }
    }
    return true;
}

static bool judge_cpu_place(struct model_run *run, int p, const struct vdc_op_cpu_assign *assign,
                            const uint16_t *cpus, uint32_t len)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < len; i++) {
        int c = model_find_cpu(run->m, cpus[i]);
        if (c == NONE) {
            return true; /* refused as unknown when it is assigned */
        }
        uint32_t number = run->s->cpus[c].info.numa;
        first = i == 0 ? number : first;
        if (!model_node_fits(assign->locality, assign->numa, assign->nodes, first, number)) {
            return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_LOCALITY, cpus[i], number);
        }
        if (assign->whole_cores && !judge_cores(run, p, cpus, len, c)) {
            return false;
        }
    }
    return true;
}

static bool assign_cpus(struct model_run *run, int p, const uint16_t *cpus, uint32_t len)
{
    struct model *m = run->m;
    if (run->s->partitions[p].shared > 0) {
        return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, len,
                            run->s->partitions[p].shared);
    }
    uint32_t pool = model_count_free_cpus(m, run->zone, NONE);
    uint64_t left = len >= pool ? 0 : (uint64_t)(pool - len) * run->s->zones[run->zone].overcommit;
    for (uint32_t i = 0; i < len; i++) {
        int c = model_find_cpu(m, cpus[i]);
        if (c == NONE) {
            return model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CPU, cpus[i], 0);
        }
        if (!model_cpu_is_free(m, c, run->zone, NONE)) {
            return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_BUSY, cpus[i], 0);
        }
        run->s->cpus[c].owner = p;
        model_touch(run, p);
    }
    uint64_t used = model_shared_used(m, run->zone);
    return used <= left || model_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_CPU_POOL, used, left);
}

static bool assign_share(struct model_run *run, int p, uint32_t milli)
{
    struct model_partition *partition = &run->s->partitions[p];
    uint32_t held = model_count_held_cpus(run->m, p);
    if (held > 0 || partition->shared + milli > VDC_VCPUS_MAX * 1000) {
        return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, milli, held);
    }
    uint64_t left = model_capacity(run->m, run->zone) - model_shared_used(run->m, run->zone);
    if (milli > left) {
        return model_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_CPU_POOL, milli, left);
    }
    partition->shared += milli;
    model_touch(run, p);
    return true;
}

bool model_apply_cpu_assign(struct model_run *run, const struct vdc_op_cpu_assign *assign)
{
    int p = model_need_partition(run, &assign->id);
    if (p == NONE) {
        return false;
    }
    if (assign->shared_milli > 0) {
        return assign_share(run, p, assign->shared_milli);
    }
    uint16_t chosen[MODEL_CPUS_MAX];
    const uint16_t *cpus = assign->cpus;
    uint32_t len = assign->cpus_len;
    if (assign->any > 0) {
        bool listed[MODEL_CPUS_MAX] = {0};
        if (!resolve_cpus(run, assign, listed)) {
            return false;
        }
        cpus = chosen;
        len = 0;
        for (int c = 0; c < run->s->cpus_len; c++) {
            if (listed[c]) {
                chosen[len++] = run->s->cpus[c].info.number;
            }
        }
    }
    bool places = assign->locality != VDC_LOCALITY_DEFAULT || assign->whole_cores;
    return (!places || judge_cpu_place(run, p, assign, cpus, len)) &&
           assign_cpus(run, p, cpus, len);
}

bool model_apply_cpu_release(struct model_run *run, const struct vdc_op_cpu_release *release)
{
    int p = model_need_partition(run, &release->id);
    if (p == NONE) {
        return false;
    }
    struct model_partition *partition = &run->s->partitions[p];
    if (release->cpus_len == 0 && release->shared_milli == 0) {
        for (int c = 0; c < run->s->cpus_len; c++) {
            if (run->s->cpus[c].owner == p) {
                run->s->cpus[c].owner = NONE;
                model_touch(run, p);
            }
        }
        run->m->touched[p] = run->m->touched[p] || partition->shared > 0;
        partition->shared = 0;
        return true;
    }
    if (release->shared_milli > partition->shared) {
        return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, release->shared_milli,
                            partition->shared);
    }
    partition->shared -= release->shared_milli;
    for (uint32_t i = 0; i < release->cpus_len; i++) {
        int c = model_find_cpu(run->m, release->cpus[i]);
        if (c == NONE || run->s->cpus[c].owner != p) {
            return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, release->cpus[i], 0);
        }
        run->s->cpus[c].owner = NONE;
    }
    model_touch(run, p);
    return true;
}
