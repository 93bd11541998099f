/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the machine has: CPUs with their topology, memory of each NUMA node, the CPU's model, and
 * which accelerator its guests can use. Read once at the start (blocking). And how it is divided
 * between what is offered to zones and the node's own system partitions.
 */
#ifndef VDC_NODE_AGENT_DISCOVER_H
#define VDC_NODE_AGENT_DISCOVER_H

#include <stdint.h>

#include <vdc/agent.h>
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
    /* By agent_discover_divide(): what is offered to zones ... */
    uint32_t cpus_offered;                       /* the first so many of cpus */
    uint64_t memory_offered[VDC_NUMA_NODES_MAX]; /* [i]: of numa[i] */
    /* ... and who has the rest. */
    struct vdc_agent_system systems[VDC_AGENT_SYSTEMS_MAX];
    size_t systems_len;
};

/* CPUs and bytes; 0: none (of a limit: no limit). */
struct discover_amount {
    uint64_t cpus;
    uint64_t memory_bytes;
};

struct discover_division {
    struct discover_amount limit;     /* offered at most */
    bool has_command, has_operations; /* the host also runs a zone manager, a member of the store */
    struct discover_amount command;   /* theirs */
    struct discover_amount operations; /* CPUs 0: they run in the pools */
};

/* Reads ROOT/sys and ROOT/proc (root "" is the machine; tests have trees of their own). A kernel
 * without NUMA has one node, 0. Only online CPUs count. */
enum vdc_rc agent_discover_inventory(const char *root, struct inventory *inventory,
                                     struct vdc_err *err) VDC_MUST_USE;
/* Divides the machine: command and operations get what they are given, zones are offered at most the
 * limit of what is left (the lowest-numbered CPUs; memory in proportion to the NUMA nodes'), and the
 * system partition "ultravisor" has the rest. Without a limit of memory that rest is the host's
 * reserve. CPUs that nobody has (more than VDC_VCPUS_MAX beyond the limit) leave the inventory.
 * INVALID: command and operations ask for more than there is. */
enum vdc_rc agent_discover_divide(struct inventory *inventory,
                                  const struct discover_division *division,
                                  struct vdc_err *err) VDC_MUST_USE;
void agent_discover_deinit(struct inventory *inventory);

struct accelerator {
    char name[VDC_NAME_CAP]; /* "kvm", "tcg" */
    char reason[VDC_MSG_TEXT_CAP];
};

/* Runs `monitor --probe`, at most once per boot: its answer is kept in `cache` (in the run
 * directory). A probe that fails means TCG, with the reason. */
void agent_discover_accelerator(const char *monitor, const char *cache, struct accelerator *out);

#endif
