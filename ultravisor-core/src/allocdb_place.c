/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where CPUs and memory may lie. The caller decides the NUMA nodes and whether cores are shared; the
 * database checks, and only among equals it takes the lowest-numbered. A request without locality
 * does not come here (ops_cpu.c, ops_memory.c).
 */
#include <stdlib.h>

#include "ops.h"

/* --- topology --- */

struct core_cpu {
    uint64_t core; /* socket and core */
    uint32_t index;
};

static int compare_cores(const void *a, const void *b)
{
    const struct core_cpu *x = a;
    const struct core_cpu *y = b;
    if (x->core != y->core) {
        return x->core < y->core ? -1 : 1;
    }
    return x->index < y->index ? -1 : x->index > y->index;
}

void topology_rebuild(struct vdc_allocdb *db)
{
    vdc_autofree struct core_cpu *sorted = vdc_calloc(db->cpus_len, sizeof(sorted[0]));
    for (uint32_t i = 0; i < db->cpus_len; i++) {
        const struct vdc_cpu_info *info = &db->cpus[i].info;
        sorted[i] =
            (struct core_cpu){.core = (uint64_t)info->socket << 16 | info->core, .index = i};
    }
    qsort(sorted, db->cpus_len, sizeof(sorted[0]), compare_cores);
    free(db->core_next);
    db->core_next = vdc_calloc(db->cpus_len, sizeof(db->core_next[0]));
    uint32_t first = 0;
    for (uint32_t i = 0; i < db->cpus_len; i++) {
        bool last = i + 1 == db->cpus_len || sorted[i + 1].core != sorted[i].core;
        db->core_next[sorted[i].index] = sorted[last ? first : i + 1].index;
        first = last ? i + 1 : first;
    }
}

/* --- CPUs --- */

static bool is_free(const struct vdc_allocdb *db, uint32_t zone, uint32_t index)
{
    return (db->zones[zone].free[index / 64] >> (index % 64) & 1) != 0;
}

/* CPUs of the core of which this is the lowest-numbered one, if all are free; else 0. */
static uint32_t free_core(const struct vdc_allocdb *db, uint32_t zone, uint32_t index)
{
    uint32_t count = 0;
    uint32_t at = index;
    do {
        if (at < index || !is_free(db, zone, at)) {
            return 0;
        }
        count++;
        at = db->core_next[at];
    } while (at != index);
    return count;
}

/* Lists free CPUs of the NUMA node behind `len` in scratch, lowest first, until there are `wanted`
 * more. Returns how many it listed, with whole cores perhaps more than wanted. */
static uint32_t find_cpus(struct op_run *run, uint32_t numa, uint32_t wanted, bool whole,
                          uint32_t len)
{
    struct vdc_allocdb *db = run->db;
    uint32_t found = 0;
    for (uint32_t i = 0; i < db->cpus_len && found < wanted; i++) {
        if (numa_index_of(db, db->cpus[i].info.numa) != numa || !is_free(db, run->zone, i)) {
            continue;
        }
        uint32_t count = whole ? free_core(db, run->zone, i) : 1;
        uint32_t at = i;
        for (uint32_t c = 0; c < count; c++) {
            db->scratch_cpus[len + found] = db->cpus[at].info.number;
            found++;
            at = db->core_next[at];
        }
    }
    return found;
}

static enum vdc_rc refuse_cpus(struct op_run *run, const struct vdc_op_cpu_assign *assign,
                               enum vdc_tx_rule rule, uint32_t asked, uint32_t free_cpus,
                               const char *where)
{
    return op_refuse(run, VDC_RC_NO_SPACE, assign->whole_cores ? VDC_RULE_CPU_CORE : rule, asked,
                     free_cpus, "asked %u CPUs%s %s, %u are free there", asked,
                     assign->whole_cores ? " on whole cores" : "", where, free_cpus);
}

static enum vdc_rc cpus_of_one(struct op_run *run, const struct vdc_op_cpu_assign *assign,
                               uint32_t *len)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < run->db->numa_len; i++) {
        if (assign->numa != VDC_NUMA_ANY && run->db->numa[i].number != assign->numa) {
            continue;
        }
        *len = find_cpus(run, i, assign->any, assign->whole_cores, 0);
        if (*len >= assign->any) {
            return VDC_RC_OK;
        }
        most = VDC_MAX(most, *len);
    }
    return refuse_cpus(run, assign, VDC_RULE_LOCALITY, assign->any, most, "of one NUMA node");
}

/* The NUMA node `first` (UINT32_MAX: none), then all others. */
static enum vdc_rc cpus_of_all(struct op_run *run, const struct vdc_op_cpu_assign *assign,
                               uint32_t first, uint32_t *len)
{
    *len = 0;
    if (first != UINT32_MAX) {
        *len = find_cpus(run, first, assign->any, assign->whole_cores, 0);
    }
    for (uint32_t i = 0; i < run->db->numa_len && *len < assign->any; i++) {
        if (i != first) {
            *len += find_cpus(run, i, assign->any - *len, assign->whole_cores, *len);
        }
    }
    return *len >= assign->any
               ? VDC_RC_OK
               : refuse_cpus(run, assign, VDC_RULE_CPU_FREE, assign->any, *len, "of any NUMA node");
}

/* NUMA nodes of a set; UINT32_MAX with the refusal made: one is not here. */
static uint32_t count_nodes(struct op_run *run, uint64_t nodes)
{
    for (uint32_t number = 0; number < VDC_NUMA_NODES_MAX; number++) {
        if ((nodes >> number & 1) != 0 && numa_index_of(run->db, number) == UINT32_MAX) {
            (void)op_refuse_numa(run, number);
            return UINT32_MAX;
        }
    }
    return (uint32_t)__builtin_popcountll(nodes);
}

static enum vdc_rc cpus_of_set(struct op_run *run, const struct vdc_op_cpu_assign *assign,
                               uint32_t *len)
{
    uint32_t count = count_nodes(run, assign->nodes);
    uint32_t nth = 0;
    *len = 0;
    if (count == UINT32_MAX) {
        return run->result->rc;
    }
    for (uint32_t i = 0; i < run->db->numa_len; i++) {
        if ((assign->nodes >> run->db->numa[i].number & 1) == 0) {
            continue;
        }
        uint32_t part = assign->any / count + (nth++ < assign->any % count);
        uint32_t found = find_cpus(run, i, part, assign->whole_cores, *len);
        if (found < part) {
            return refuse_cpus(run, assign, VDC_RULE_LOCALITY, part, found,
                               "of each of the NUMA nodes");
        }
        *len += found;
    }
    return VDC_RC_OK;
}

static int compare_numbers(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

enum vdc_rc place_cpus(struct op_run *run, const struct slot *slot,
                       const struct vdc_op_cpu_assign *assign, uint32_t *len)
{
    (void)slot;
    bool named = assign->numa != VDC_NUMA_ANY;
    uint32_t numa = named ? numa_index_of(run->db, assign->numa) : UINT32_MAX;
    if (named && numa == UINT32_MAX) {
        return op_refuse_numa(run, assign->numa);
    }
    uint32_t found = 0;
    enum vdc_rc rc = VDC_RC_OK;
    switch (assign->locality) {
    case VDC_LOCALITY_DEFAULT:
        rc = named ? cpus_of_one(run, assign, &found) : cpus_of_all(run, assign, numa, &found);
        break;
    case VDC_LOCALITY_STRICT:
        rc = cpus_of_one(run, assign, &found);
        break;
    case VDC_LOCALITY_PREFERRED:
        rc = cpus_of_all(run, assign, numa, &found);
        break;
    case VDC_LOCALITY_SPANNING:
        rc = cpus_of_set(run, assign, &found);
        break;
    }
    qsort(run->db->scratch_cpus, found, sizeof(run->db->scratch_cpus[0]), compare_numbers);
    *len = found;
    return rc;
}

static bool lists_cpu(const struct vdc_op_cpu_assign *assign, uint16_t number)
{
    return bsearch(&number, assign->cpus, assign->cpus_len, sizeof(number), compare_numbers) !=
           NULL;
}

static enum vdc_rc judge_core(struct op_run *run, const struct slot *slot,
                              const struct vdc_op_cpu_assign *assign, uint32_t index)
{
    const struct vdc_allocdb *db = run->db;
    for (uint32_t at = db->core_next[index]; at != index; at = db->core_next[at]) {
        const struct cpu *cpu = &db->cpus[at];
        if (cpu->owner != slot->number && !lists_cpu(assign, cpu->info.number)) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_CORE, db->cpus[index].info.number,
                             cpu->info.number, "CPU %u shares its core with CPU %u, which %s lacks",
                             db->cpus[index].info.number, cpu->info.number, slot->pub.name);
        }
    }
    return VDC_RC_OK;
}

/* Whether `number` is one of the NUMA nodes that the locality allows, after `first` was. */
static bool node_fits(enum vdc_locality locality, uint32_t numa, uint64_t nodes, uint32_t first,
                      uint32_t number)
{
    switch (locality) {
    case VDC_LOCALITY_STRICT:
        return number == (numa == VDC_NUMA_ANY ? first : numa);
    case VDC_LOCALITY_SPANNING:
        return number < VDC_NUMA_NODES_MAX && (nodes >> number & 1) != 0;
    case VDC_LOCALITY_DEFAULT:
    case VDC_LOCALITY_PREFERRED:
        break;
    }
    return true;
}

enum vdc_rc judge_cpu_place(struct op_run *run, const struct slot *slot,
                            const struct vdc_op_cpu_assign *assign)
{
    const struct vdc_allocdb *db = run->db;
    uint32_t first = VDC_NUMA_ANY;
    enum vdc_rc rc = VDC_RC_OK;
    for (uint32_t i = 0; rc == VDC_RC_OK && i < assign->cpus_len; i++) {
        uint32_t index = cpu_index_of(db, assign->cpus[i]);
        if (index == UINT32_MAX) {
            return VDC_RC_OK; /* refused as unknown when it is assigned */
        }
        uint32_t number = db->cpus[index].info.numa;
        first = i == 0 ? number : first;
        if (!node_fits(assign->locality, assign->numa, assign->nodes, first, number)) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_LOCALITY, assign->cpus[i], number,
                             "CPU %u is of NUMA node %u", assign->cpus[i], number);
        }
        if (assign->whole_cores) {
            rc = judge_core(run, slot, assign, index);
        }
    }
    return rc;
}

/* --- memory --- */

static uint64_t free_bytes_of(const struct op_run *run, const struct slot *slot, uint32_t numa)
{
    return pagemap_free_in(&run->db->numa[numa].map, op_page_of(slot));
}

static enum vdc_rc memory_of_one(struct op_run *run, struct slot *slot, uint32_t numa,
                                 uint64_t bytes)
{
    uint64_t most = 0;
    uint64_t largest = 0;
    for (uint32_t i = 0; i < run->db->numa_len; i++) {
        if (numa != UINT32_MAX && i != numa) {
            continue;
        }
        uint64_t here = free_bytes_of(run, slot, i);
        if (here >= bytes) {
            return op_take_from_numa(run, slot, i, bytes);
        }
        most = VDC_MAX(most, here);
        largest = VDC_MAX(largest, pagemap_largest_free(&run->db->numa[i].map));
    }
    run->result->largest = largest;
    return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_LOCALITY, bytes, most,
                     "asked %llu bytes of one NUMA node, the freest has %llu, largest block %llu",
                     ull(bytes), ull(most), ull(largest));
}

static enum vdc_rc memory_preferring(struct op_run *run, struct slot *slot, uint32_t numa,
                                     uint64_t bytes)
{
    uint64_t free_bytes = 0;
    uint64_t largest = 0;
    for (uint32_t i = 0; i < run->db->numa_len; i++) {
        free_bytes += free_bytes_of(run, slot, i);
        largest = VDC_MAX(largest, pagemap_largest_free(&run->db->numa[i].map));
    }
    if (free_bytes < bytes) {
        return op_refuse_memory(run, bytes, free_bytes, largest);
    }
    uint64_t part = VDC_MIN(bytes, free_bytes_of(run, slot, numa));
    enum vdc_rc rc = op_take_from_numa(run, slot, numa, part);
    uint64_t left = bytes - part;
    for (uint32_t i = 0; rc == VDC_RC_OK && left > 0; i++) {
        if (i != numa) {
            part = VDC_MIN(left, free_bytes_of(run, slot, i));
            rc = op_take_from_numa(run, slot, i, part);
            left -= part;
        }
    }
    return rc;
}

static enum vdc_rc memory_spanning(struct op_run *run, struct slot *slot, uint64_t nodes,
                                   uint64_t bytes)
{
    struct vdc_allocdb *db = run->db;
    uint32_t count = count_nodes(run, nodes);
    if (count == UINT32_MAX) {
        return run->result->rc;
    }
    uint64_t page = op_page_of(slot);
    uint64_t pages = bytes / page;
    uint32_t nth = 0;
    enum vdc_rc rc = VDC_RC_OK;
    for (uint32_t i = 0; rc == VDC_RC_OK && i < db->numa_len; i++) {
        if ((nodes >> db->numa[i].number & 1) == 0) {
            continue;
        }
        uint64_t part = (pages / count + (nth++ < pages % count)) * page;
        uint64_t here = free_bytes_of(run, slot, i);
        if (part > here) {
            run->result->largest = pagemap_largest_free(&db->numa[i].map);
            return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_LOCALITY, part, here,
                             "asked %llu bytes of NUMA node %u, one of %u, it has %llu", ull(part),
                             db->numa[i].number, count, ull(here));
        }
        rc = op_take_from_numa(run, slot, i, part);
    }
    return rc;
}

enum vdc_rc place_memory(struct op_run *run, struct slot *slot,
                         const struct vdc_op_memory_assign *assign)
{
    bool named = assign->numa != VDC_NUMA_ANY;
    uint32_t numa = named ? numa_index_of(run->db, assign->numa) : UINT32_MAX;
    if (named && numa == UINT32_MAX) {
        return op_refuse_numa(run, assign->numa);
    }
    switch (assign->locality) {
    case VDC_LOCALITY_DEFAULT:
    case VDC_LOCALITY_STRICT:
        break;
    case VDC_LOCALITY_PREFERRED:
        return memory_preferring(run, slot, numa, assign->bytes);
    case VDC_LOCALITY_SPANNING:
        return memory_spanning(run, slot, assign->nodes, assign->bytes);
    }
    return memory_of_one(run, slot, numa, assign->bytes);
}

enum vdc_rc judge_memory_place(struct op_run *run, const struct vdc_op_memory_assign *assign)
{
    for (uint32_t i = 0; i < assign->blocks_len; i++) {
        uint32_t number = assign->blocks[i].numa;
        if (!node_fits(assign->locality, assign->numa, assign->nodes, assign->blocks[0].numa,
                       number)) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_LOCALITY, assign->blocks[i].bytes,
                             number, "block %u is of NUMA node %u", i, number);
        }
    }
    return VDC_RC_OK;
}
