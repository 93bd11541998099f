/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transactions that bench-allocdb makes, the same for every figure and every store that is
 * compared. The machine has 64 NUMA nodes of 256 CPUs and 1 TiB, all in one zone:
 *
 *   - the first transaction is the inventory, the second gives the zone everything;
 *   - then partitions are created, NUMA node after NUMA node, until each is 90 % full;
 *   - from then on each transaction has four operations: create a partition, assign it dedicated
 *     CPUs ("any n of NUMA node k") and memory of that node, destroy an older partition of the same
 *     node that is drawn at random. So it stays 90 % full, and memory becomes as fragmented as
 *     partitions of unequal sizes and lives make it.
 *
 * Guests have 1, 2, 4 or 8 vCPUs (4 : 3 : 2 : 1) and 2 to 6 GiB for each; half of them have whole
 * GiB, half any multiple of 2 MiB. Launch descriptions and names are as the zone manager writes
 * them. Every transaction brings a new request id.
 *
 * The generator knows what it made and needs no database; one seed gives one sequence.
 */
#ifndef VDC_ALLOCDB_WORKLOAD_H
#define VDC_ALLOCDB_WORKLOAD_H

#include <vdc/prng.h>
#include <vdc/tx.h>

#define WORKLOAD_NUMA_NODES 64
#define WORKLOAD_CPUS_PER_NUMA 256
#define WORKLOAD_BYTES_PER_NUMA (UINT64_C(1) << 40)
#define WORKLOAD_OPS 4
#define WORKLOAD_CONFIG_CAP 256

struct workload_guest {
    struct vdc_id id;
    uint32_t numa;
    uint32_t vcpus;
    uint64_t bytes;
};

struct workload_node {
    uint32_t cpus_used;
    uint64_t bytes_used;
};

struct workload {
    struct vdc_prng prng;
    uint64_t next;    /* number of the next transaction */
    uint32_t filling; /* NUMA node that is being filled; WORKLOAD_NUMA_NODES: all are */
    struct workload_node nodes[WORKLOAD_NUMA_NODES];
    struct workload_guest *guests;
    size_t guests_len;
    size_t guests_cap;
};

/* A transaction with all that it points to; must not be moved. */
struct workload_tx {
    struct vdc_tx tx;
    struct vdc_op ops[WORKLOAD_OPS];
    char config[WORKLOAD_CONFIG_CAP];
};

void workload_init(struct workload *w, uint64_t seed);
void workload_deinit(struct workload *w);
/* The next transaction. */
void workload_next(struct workload *w, struct workload_tx *out);
/* Whether the machine is 90 % full, so that the next transaction has four operations. */
bool workload_full(const struct workload *w);

#endif
