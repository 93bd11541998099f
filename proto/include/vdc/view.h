/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The view: what one partition's monitor (and the I/O partitions that serve it) may know,
 * read-only, out of the node's allocation database. It is one file of VDC_VIEW_BYTES on tmpfs that
 * only the node agent's user may write; readers get a read-only descriptor and map it MAP_SHARED,
 * PROT_READ. This header is its layout's codec; creating, mapping and passing the file is the
 * agent's driver.
 *
 * One writer at a time, any number of readers, no lock: a sequence lock (odd while being written)
 * makes a reader retry rather than see half of a change. The run-lease deadline changes every
 * second and stands outside of the sequence lock, as one aligned 64-bit word that is always whole.
 *
 * Layout: little-endian, fixed offsets (proto/src/view.c), versioned. A reader refuses a version
 * that it does not know. base only.
 */
#ifndef VDC_VIEW_H
#define VDC_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include <vdc/err.h>
#include <vdc/id.h>
#include <vdc/limits.h>
#include <vdc/rc.h>
#include <vdc/time.h>

/* Size of the file: sixteen 4 KiB pages; only those in use are ever touched. */
#define VDC_VIEW_BYTES 65536
/* Memory blocks (maximal runs of addresses on one NUMA node) of a partition. A map so fragmented
 * that a partition needs more refuses the partition (allocdb.h); 1024 fill 24 KiB of the file. */
#define VDC_VIEW_BLOCKS_MAX 1024
/* Channels that a view shows: two paths to each of 16 disks and 16 ports of a guest, twice over. An
 * I/O partition may have more; it serves its guests by their views and has no need to see all. */
#define VDC_VIEW_CHANNELS_MAX 128
/* Blocks of the memory of all of these together: each lies in one or two, 64 at most. */
#define VDC_VIEW_CHANNEL_BLOCKS_MAX 1024
/* Reads that find a torn state before VDC_RC_UNAVAILABLE; a write takes microseconds, so this many
 * mean that the writer died in the middle (the restarted agent publishes again). */
#define VDC_VIEW_RETRIES_MAX 100000

/* What the ultravisor wants the partition to do. The order is part of the file and wire formats. */
enum vdc_run {
    VDC_RUN_INCOMING, /* QEMU waits for a migration stream; the guest may not run here yet */
    VDC_RUN_RUNNING,
    VDC_RUN_PAUSED,
    VDC_RUN_STOPPED, /* no QEMU; resources stay held */
    /* It runs and is on its way to another node. Should it end, or the machine, it is not started here
     * again before its leader has said who owns it: so this stands before the first byte is sent. */
    VDC_RUN_LEAVING,
};
#define VDC_RUN_COUNT 5
/* "running"; NULL for no run state. */
const char *vdc_run_name(enum vdc_run run);

/* The order is part of the file and wire formats. */
enum vdc_partition_kind {
    VDC_PARTITION_GUEST,
    VDC_PARTITION_IO,
    VDC_PARTITION_SYSTEM, /* ultravisor, command, operations */
};
#define VDC_PARTITION_KIND_COUNT 3
const char *vdc_partition_kind_name(enum vdc_partition_kind kind);

/* What a channel speaks. The order is part of the file, wire and journal formats. */
enum vdc_channel_type {
    VDC_CHANNEL_COMMAND,
    VDC_CHANNEL_BLOCK,
    VDC_CHANNEL_NETWORK,
    VDC_CHANNEL_CONSOLE,
};
#define VDC_CHANNEL_TYPE_COUNT 4

/* A run of memory of one NUMA node, owned by one partition. */
struct vdc_memory_block {
    uint64_t addr;  /* offset in the NUMA node's offered memory, bytes; multiple of 4 KiB */
    uint64_t bytes; /* multiple of 4 KiB, > 0 */
    uint32_t numa;  /* NUMA node number */
};

/* One end of a channel: shared memory with another partition of this node. */
struct vdc_view_channel {
    struct vdc_id id;
    struct vdc_id peer; /* the partition at the other end */
    enum vdc_channel_type type;
    uint16_t version;    /* of the type's protocol */
    bool second;         /* this partition is the second endpoint */
    uint64_t bytes;      /* sum of its blocks */
    uint32_t blocks_at;  /* its blocks: channel_blocks[blocks_at .. blocks_at + blocks_len) */
    uint32_t blocks_len; /* > 0 */
};

/* No lease is needed (partitions that policy does not restart elsewhere): run regardless. */
#define VDC_VIEW_LEASE_NONE INT64_MAX
/* No lease was granted in this boot: do not run. */
#define VDC_VIEW_LEASE_NEVER INT64_C(0)

struct vdc_view_content {
    struct vdc_id partition;
    char name[VDC_NAME_CAP];
    char zone[VDC_NAME_CAP];
    uint64_t sequence;    /* of the database when this was published */
    uint64_t generation;  /* of the ownership */
    uint64_t incarnation; /* of the node's run lease in this zone */
    enum vdc_partition_kind kind;
    enum vdc_run run;
    uint32_t vcpus;
    uint32_t cpu_milli; /* quota: 1000 per dedicated CPU, or the share of the pool */
    uint32_t cpus_len;  /* 0: the vCPUs run in the zone's pool; else == number of dedicated CPUs */
    uint32_t blocks_len;
    uint64_t memory_bytes;        /* sum of the blocks */
    uint16_t cpus[VDC_VCPUS_MAX]; /* ascending; vCPU i runs on cpus[i % cpus_len] */
    struct vdc_memory_block blocks[VDC_VIEW_BLOCKS_MAX]; /* ascending by (numa, addr) */
    uint32_t channels_len;       /* those shown: the first ones in the order of their ids */
    uint32_t channels_total;     /* >= channels_len: so many there are */
    uint32_t channel_blocks_len; /* of those shown */
    struct vdc_view_channel channels[VDC_VIEW_CHANNELS_MAX];
    struct vdc_memory_block channel_blocks[VDC_VIEW_CHANNEL_BLOCKS_MAX];
};

/* Writes `content` into the mapped file `page` (VDC_VIEW_BYTES, 8-byte aligned), leaving the lease
 * deadline as it is (a new, zero-filled file has VDC_VIEW_LEASE_NEVER). Asserts that the lengths
 * are within their bounds. A write that the last writer left half done is repaired. */
void vdc_view_publish(void *page, const struct vdc_view_content *content);
/* The deadline: CLOCK_BOOTTIME ns. One atomic store, no transaction, any time after creation. */
void vdc_view_set_lease(void *page, int64_t deadline_ns);

/* Reads a whole, validated state. UNAVAILABLE: nothing published yet or torn for too long; CORRUPT:
 * no view, another version or fields out of bounds (with the sentence in err). */
enum vdc_rc vdc_view_read(const void *page, struct vdc_view_content *out,
                          struct vdc_err *err) VDC_MUST_USE;
/* The deadline as stored, see VDC_VIEW_LEASE_*: cheap, for every check of the lease. */
int64_t vdc_view_lease(const void *page);
/* A number that changes with each publish (even when stable): poll this, read when it moved. */
uint64_t vdc_view_version(const void *page);

#endif
