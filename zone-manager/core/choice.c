/* SPDX-License-Identifier: Apache-2.0 */
#include <vdc/zone_choice.h>

#include <stdlib.h>
#include <string.h>

#include <vdc/base.h>

/* A free CPU of the zone, with how much of its core is free. */
struct free_cpu {
    struct vdc_cpu_info info;
    uint32_t core_size; /* CPUs of its core */
    uint32_t core_free; /* of them free */
};

struct node {
    uint32_t number;
    uint64_t memory; /* free, not promised to another */
    uint32_t first;  /* cpus[first..first + len): its free CPUs */
    uint32_t len;
};

struct survey {
    struct free_cpu *cpus; /* by NUMA node, core, number */
    uint32_t cpus_len;
    struct node nodes[VDC_NUMA_NODES_MAX];
    size_t nodes_len;
};

static int compare_places(const void *a, const void *b)
{
    const struct vdc_cpu_info *x = &((const struct free_cpu *)a)->info;
    const struct vdc_cpu_info *y = &((const struct free_cpu *)b)->info;
    const int keys[] = {x->numa - y->numa, x->socket - y->socket, x->core - y->core,
                        x->number - y->number};
    for (size_t i = 0; i < VDC_COUNT_OF(keys); i++) {
        if (keys[i] != 0) {
            return keys[i];
        }
    }
    return 0;
}

static bool same_core(const struct vdc_cpu_info *a, const struct vdc_cpu_info *b)
{
    return a->socket == b->socket && a->core == b->core && a->numa == b->numa;
}

/* Fills in the sizes of cores; drops CPUs that are not free. */
static void keep_free(struct survey *survey, const bool *is_free)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < survey->cpus_len;) {
        uint32_t end = i;
        uint32_t free_len = 0;
        while (end < survey->cpus_len &&
               same_core(&survey->cpus[i].info, &survey->cpus[end].info)) {
            free_len += is_free[survey->cpus[end].info.number];
            end++;
        }
        for (uint32_t k = i; k < end; k++) {
            if (is_free[survey->cpus[k].info.number]) {
                struct free_cpu cpu = survey->cpus[k];
                cpu.core_size = end - i;
                cpu.core_free = free_len;
                survey->cpus[kept++] = cpu;
            }
        }
        i = end;
    }
    survey->cpus_len = kept;
}

static void survey_cpus(struct survey *survey, const struct vdc_allocdb *db, const char *zone,
                        const struct vdc_zone_choice *const *busy, size_t busy_len)
{
    vdc_autofree bool *is_free = vdc_calloc(UINT16_MAX + 1, sizeof *is_free);
    survey->cpus = vdc_calloc(vdc_allocdb_count_cpus(db), sizeof *survey->cpus);
    struct vdc_cpu_state cpu;
    for (size_t i = 0; vdc_allocdb_cpu_at(db, i, &cpu); i++) {
        survey->cpus[survey->cpus_len++].info = cpu.info;
        is_free[cpu.info.number] = cpu.partition == NULL && strcmp(cpu.zone, zone) == 0;
    }
    for (size_t i = 0; i < busy_len; i++) {
        for (uint32_t k = 0; k < busy[i]->cpus_len; k++) {
            is_free[busy[i]->cpus[k]] = false;
        }
    }
    qsort(survey->cpus, survey->cpus_len, sizeof *survey->cpus, compare_places);
    keep_free(survey, is_free);
}

static void survey_nodes(struct survey *survey, const struct vdc_allocdb *db,
                         const struct vdc_zone_choice *const *busy, size_t busy_len)
{
    struct vdc_numa_state numa;
    uint32_t at = 0;
    while (vdc_allocdb_numa_at(db, survey->nodes_len, &numa)) {
        struct node *node = &survey->nodes[survey->nodes_len++];
        *node = (struct node){.number = numa.number, .memory = numa.free_bytes};
        for (size_t i = 0; i < busy_len; i++) {
            uint64_t theirs = busy[i]->numa == numa.number ? busy[i]->memory_bytes : 0;
            node->memory -= VDC_MIN(theirs, node->memory);
        }
        /* Both are in ascending order of NUMA nodes. */
        node->first = at;
        while (at < survey->cpus_len && survey->cpus[at].info.numa == numa.number) {
            at++;
        }
        node->len = at - node->first;
    }
}

static const struct node *best_for_cpus(const struct survey *survey, uint32_t cpus, uint64_t bytes)
{
    const struct node *best = NULL;
    for (size_t i = 0; i < survey->nodes_len; i++) {
        const struct node *node = &survey->nodes[i];
        if (node->len >= cpus && node->memory >= bytes &&
            (best == NULL || node->len < best->len ||
             (node->len == best->len && node->memory < best->memory))) {
            best = node;
        }
    }
    return best;
}

static const struct node *best_for_memory(const struct survey *survey)
{
    const struct node *best = NULL;
    for (size_t i = 0; i < survey->nodes_len; i++) {
        const struct node *node = &survey->nodes[i];
        if (node->memory > 0 && (best == NULL || node->memory > best->memory)) {
            best = node;
        }
    }
    return best;
}

static void take(struct vdc_zone_choice *choice, const struct vdc_cpu_info *cpu)
{
    choice->cpus[choice->cpus_len++] = cpu->number;
}

/* Up to `want` CPUs of the node: whole free cores that fit, then threads of cores that others use
 * already, then what is left. Returns how many. */
static uint32_t take_cpus(const struct survey *survey, const struct node *node, uint32_t want,
                          struct vdc_zone_choice *choice)
{
    uint32_t left = want;
    vdc_autofree bool *taken = vdc_calloc(node->len, sizeof *taken);
    for (int pass = 0; pass < 3; pass++) {
        for (uint32_t i = 0; i < node->len && left > 0; i++) {
            const struct free_cpu *cpu = &survey->cpus[node->first + i];
            bool whole = cpu->core_free == cpu->core_size;
            bool begins = i == 0 || !same_core(&cpu->info, &survey->cpus[node->first + i - 1].info);
            if (pass == 0 && whole && begins && cpu->core_size <= left) {
                for (uint32_t k = 0; k < cpu->core_size; k++) {
                    taken[i + k] = true;
                    take(choice, &survey->cpus[node->first + i + k].info);
                }
                left -= cpu->core_size;
            } else if (!taken[i] && (pass == 2 || (pass == 1 && !whole))) {
                taken[i] = true;
                take(choice, &cpu->info);
                left--;
            }
        }
    }
    return want - left;
}

/* From the nodes with most free CPUs: as few nodes as possible. */
static void spread_cpus(struct survey *survey, uint32_t cpus, struct vdc_zone_choice *choice)
{
    if (survey->cpus_len < cpus) {
        return;
    }
    uint32_t left = cpus;
    while (left > 0) {
        struct node *most = &survey->nodes[0];
        for (size_t i = 1; i < survey->nodes_len; i++) {
            most = survey->nodes[i].len > most->len ? &survey->nodes[i] : most;
        }
        if (left == cpus) {
            choice->numa = most->number;
        }
        left -= take_cpus(survey, most, VDC_MIN(left, most->len), choice);
        most->len = 0;
    }
}

static int compare_numbers(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

void vdc_zone_choose(const struct vdc_allocdb *replica, const char *zone, uint32_t cpus,
                     uint64_t bytes, const struct vdc_zone_choice *const *busy, size_t busy_len,
                     struct vdc_zone_choice *choice)
{
    vdc_autofree struct survey *survey = VDC_NEW(struct survey);
    *choice = (struct vdc_zone_choice){.numa = VDC_NUMA_ANY, .memory_bytes = bytes};
    VDC_ASSERT(cpus <= VDC_VCPUS_MAX);
    if (cpus > 0) {
        survey_cpus(survey, replica, zone, busy, busy_len);
    }
    survey_nodes(survey, replica, busy, busy_len);
    const struct node *best = cpus > 0 ? best_for_cpus(survey, cpus, bytes) : NULL;
    if (best != NULL) {
        choice->numa = best->number;
        choice->one_node = true;
        take_cpus(survey, best, cpus, choice);
    } else if (cpus > 0) {
        spread_cpus(survey, cpus, choice);
    } else if ((best = best_for_memory(survey)) != NULL) {
        choice->numa = best->number;
        choice->one_node = best->memory >= bytes;
    }
    qsort(choice->cpus, choice->cpus_len, sizeof choice->cpus[0], compare_numbers);
    free(survey->cpus);
}
