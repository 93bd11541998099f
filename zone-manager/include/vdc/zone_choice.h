/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which CPUs and which NUMA node of its host a partition gets: the zone manager decides that, the
 * node's database only checks it. Pure; used by the zone's leader with its replica of the node.
 *
 * All on one NUMA node if one has it all: for dedicated CPUs the one that has least beyond it, so
 * that large partitions find whole nodes later; for shares of the pool the one with most free memory,
 * since nothing is gained by filling one up. Otherwise dedicated CPUs come from as few nodes as
 * possible. Within a node whole free cores are taken before single threads of cores, so that two
 * partitions share a core only where that cannot be helped.
 */
#ifndef VDC_ZONE_CHOICE_H
#define VDC_ZONE_CHOICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/allocdb.h>
#include <vdc/limits.h>

struct vdc_zone_choice {
    uint16_t cpus[VDC_VCPUS_MAX]; /* dedicated, ascending */
    uint32_t cpus_len;            /* 0: none asked for, or not so many are free: name none */
    uint32_t numa;                /* where it should lie; VDC_NUMA_ANY: nowhere in particular */
    bool one_node;                /* CPUs and memory all fit on `numa` */
    uint64_t memory_bytes;        /* as asked */
};

/* Chooses `cpus` dedicated CPUs of the zone (0: it has a share of the pool) and a NUMA node for `bytes`
 * of memory. `busy`: what was chosen before on this node and is not in the replica yet. */
void vdc_zone_choose(const struct vdc_allocdb *replica, const char *zone, uint32_t cpus,
                     uint64_t bytes, const struct vdc_zone_choice *const *busy, size_t busy_len,
                     struct vdc_zone_choice *choice);

#endif
