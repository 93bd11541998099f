/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the machine has: CPUs with their topology, memory of each NUMA node, the CPU's model, and
 * which accelerator its guests can use. Read once at the start (blocking).
 */
#ifndef VDC_NODE_AGENT_DISCOVER_H
#define VDC_NODE_AGENT_DISCOVER_H

#include <stdint.h>

#include <vdc/allocdb.h>
#include <vdc/err.h>
#include <vdc/msg.h>

/* Of the memory that is not limited by configuration, this much stays the host's own: its kernel,
 * this agent, page tables and the parts of QEMU that are not guest memory. */
#define DISCOVER_RESERVE_MIN (UINT64_C(256) << 20)
#define DISCOVER_RESERVE_DIVISOR 16

struct inventory {
    struct vdc_cpu_info *cpus; /* ascending */
    uint32_t cpus_len;
    struct vdc_numa_info numa[VDC_NUMA_NODES_MAX]; /* ascending, multiples of 2 MiB */
    uint32_t numa_len;
    char cpu_model[VDC_ADDRESS_CAP];
};

/* Reads ROOT/sys and ROOT/proc (root "" is the machine; tests have trees of their own). A kernel
 * without NUMA has one node, 0. Only online CPUs count. */
enum vdc_rc agent_discover_inventory(const char *root, struct inventory *inventory,
                                     struct vdc_err *err) VDC_MUST_USE;
/* Offers at most so much (0: no limit): the lowest-numbered CPUs; memory in proportion to the nodes'.
 * Without a limit of memory the host's reserve is taken off. */
void agent_discover_limit(struct inventory *inventory, uint64_t cpus, uint64_t memory_bytes);
void agent_discover_deinit(struct inventory *inventory);

struct accelerator {
    char name[VDC_NAME_CAP]; /* "kvm", "tcg" */
    char reason[VDC_MSG_TEXT_CAP];
};

/* Runs `monitor --probe`, at most once per boot: its answer is kept in `cache` (in the run
 * directory). A probe that fails means TCG, with the reason. */
void agent_discover_accelerator(const char *monitor, const char *cache, struct accelerator *out);

#endif
