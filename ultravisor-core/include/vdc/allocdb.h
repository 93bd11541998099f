/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allocation database: the master record of one node's hardware and of who holds it. Pure: it
 * has no clock, file, socket or thread; one thread at a time uses it. The node agent keeps the
 * master and journals its records; each zone manager keeps a replica by applying the same records.
 *
 * What it holds: CPUs with topology, memory of each NUMA node in a tiered page map, the slices of
 * the zones with their epochs and incarnations, partitions with what they hold, claims, devices,
 * volumes in use, network ports, channels, fence promises (entry.h), and the answers of the last
 * VDC_ALLOCDB_REQUESTS_MAX requests.
 *
 * Invariants (vdc_allocdb_check recomputes all of them):
 *   - every CPU and every memory block has at most one owner; a CPU is in exactly one slice;
 *   - a zone's shared milli-CPU <= CPUs of its pool x overcommit, with pool = its CPUs - dedicated;
 *   - a zone's used memory <= its slice; sum of the slices <= the node's memory;
 *   - digest == the digest computed from nothing.
 *
 * How the driver uses it, in this order:
 *   1. vdc_allocdb_commit(db, tx, &result, &record);
 *   2. record.len > 0: append it to the journal under result.sequence; publish views, stream it and
 *      answer only when that is durable (a crash before leaves no trace outside);
 *   3. record.len == 0: answer when everything up to result.sequence is durable (a repeated request
 *      may be ahead of its own record's write), at once when result.sequence is 0.
 */
#ifndef VDC_ALLOCDB_H
#define VDC_ALLOCDB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/buf.h>
#include <vdc/entry.h>
#include <vdc/err.h>
#include <vdc/id.h>
#include <vdc/tx.h>
#include <vdc/view.h>

/* Partitions and claims together with them, on one node: 64 NUMA nodes full of 64 GiB guests. */
#define VDC_ALLOCDB_PARTITIONS_MAX 65536
/* Zones that ever had a slice of this node (epochs stay remembered after leaving), "" included. */
#define VDC_ALLOCDB_ZONES_MAX 64
/* Unsettled claims. */
#define VDC_ALLOCDB_CLAIMS_MAX 4096
/* Answers kept for repeated request ids: the last so many requests that had an id, in order. A
 * client that repeats later than that many requests is answered as if it asked for the first time;
 * at 5,000 requests a second that is 13 s, and leaders give up repeating after 10 s. */
#define VDC_ALLOCDB_REQUESTS_MAX 65536
/* Bytes of a snapshot: 65,536 partitions with full launch descriptions. */
#define VDC_ALLOCDB_SNAPSHOT_MAX (UINT64_C(1) << 30)

struct vdc_allocdb;

/* An empty database: no inventory, sequence 0. Never NULL. */
struct vdc_allocdb *vdc_allocdb_create(void);
void vdc_allocdb_destroy(struct vdc_allocdb *db); /* NULL is fine */

/* Applies all of `tx` or nothing and fills `result` (result->rc is also returned). `record` is
 * cleared, then holds the record to journal, if there is one:
 *   - OK: the change, with every choice resolved;
 *   - refused by the state (NO_SPACE, CONFLICT, EXISTS, NOT_FOUND, STALE generation, LIMIT) with a
 *     request id: the refusal, which is stored as that request's answer. To ask again, use a new
 * id;
 *   - empty: a repeated request (result->repeated, the stored first answer), or a refusal that
 *     stands whatever the state (INVALID, TOO_LARGE, FORBIDDEN, STALE epoch, unknown zone): not
 *     stored.
 * A higher epoch than the last seen for the zone is remembered with any record; a lower one is
 * refused. Nothing in `tx` is kept. */
enum vdc_rc vdc_allocdb_commit(struct vdc_allocdb *db, const struct vdc_tx *tx,
                               struct vdc_tx_result *result, struct vdc_buf *record);

/* Replay and replicas. PROTOCOL: its sequence is not the next one (nothing happened). CORRUPT: not
 * a record, or it does not apply, or another digest afterwards: the database is then unusable;
 * build it again from a snapshot. */
enum vdc_rc vdc_allocdb_apply_record(struct vdc_allocdb *db, const void *record, size_t len,
                                     struct vdc_err *err) VDC_MUST_USE;

uint64_t vdc_allocdb_sequence(const struct vdc_allocdb *db);
/* Of CPUs, memory, zones, partitions, claims, entries: equal state gives equal digests whatever happened
 * before; the stored answers and the sequence are not in it. Incremental: reading it is free. */
struct vdc_digest vdc_allocdb_digest(const struct vdc_allocdb *db);

/* Appends the snapshot: canonical (equal databases give equal bytes), with its own checksum. */
void vdc_allocdb_snapshot(const struct vdc_allocdb *db, struct vdc_buf *out);
/* A database from a snapshot, every invariant checked; *db is NULL on failure. CORRUPT,
 * UNSUPPORTED (version), TOO_LARGE. */
enum vdc_rc vdc_allocdb_restore(const void *data, size_t len, struct vdc_allocdb **db,
                                struct vdc_err *err) VDC_MUST_USE;

/* Recomputes every invariant, page map and digest from nothing: O(size). INTERNAL with the broken
 * one in err. */
enum vdc_rc vdc_allocdb_check(const struct vdc_allocdb *db, struct vdc_err *err) VDC_MUST_USE;

/* --- readers; what they return is valid until the next commit, apply_record or destroy --- */

struct vdc_partition {
    struct vdc_id id;
    char name[VDC_NAME_CAP];
    char zone[VDC_NAME_CAP]; /* "": the node itself */
    char tenant[VDC_NAME_CAP];
    char class_name[VDC_NAME_CAP];
    struct vdc_id claim; /* none: real; else held by that unsettled claim */
    enum vdc_partition_kind kind;
    enum vdc_run run;
    uint64_t generation;
    uint64_t sequence; /* of the last change of this record or of what it holds */
    uint32_t vcpus;
    uint32_t shared_milli; /* 0 when it has dedicated CPUs or none */
    uint64_t memory_bytes; /* what the guest is told */
    uint64_t held_bytes;   /* sum of the blocks */
    const uint8_t *config;
    uint32_t config_len;
    uint32_t cpus_len;
    const uint16_t *cpus; /* dedicated, ascending */
    uint32_t blocks_len;
    const struct vdc_memory_block *blocks; /* maximal runs, ascending by (numa, addr) */
};

struct vdc_zone_slice {
    char name[VDC_NAME_CAP];
    bool joined;    /* false: left, only epoch and incarnation are remembered */
    uint64_t epoch; /* highest seen; 0: none */
    uint64_t incarnation;
    uint32_t overcommit_milli;
    struct vdc_share cpu_share; /* as asked */
    struct vdc_share memory_share;
    uint32_t cpus;           /* in the slice */
    uint32_t cpus_dedicated; /* of them */
    uint64_t shared_capacity_milli;
    uint64_t shared_used_milli;
    uint64_t memory_bytes; /* of the slice */
    uint64_t memory_used_bytes;
    uint32_t partitions; /* claimed ones included */
};

struct vdc_numa_state {
    uint32_t number;
    uint32_t cpus;
    uint32_t cpus_free; /* not dedicated, in any slice */
    uint64_t memory_bytes;
    uint64_t free_bytes;
    uint64_t largest_free_bytes; /* largest free block: 1 GiB, 2 MiB, 4 KiB or 0 */
};

struct vdc_cpu_state {
    struct vdc_cpu_info info;
    const char *zone;                      /* "" the node's own slice */
    const struct vdc_partition *partition; /* NULL: in its slice's pool */
};

/* NULL: unknown. Constant time. */
const struct vdc_partition *vdc_allocdb_find_partition(const struct vdc_allocdb *db,
                                                       const struct vdc_id *id);
size_t vdc_allocdb_count_partitions(const struct vdc_allocdb *db);
/* All, sorted by name, then id; the array (not what it points to) is the caller's to free. */
const struct vdc_partition **vdc_allocdb_list_partitions(const struct vdc_allocdb *db, size_t *len);

/* NULL: never heard of. */
const struct vdc_zone_slice *vdc_allocdb_find_zone(const struct vdc_allocdb *db, const char *name);
/* i = 0 is "", the node's own slice; then in the order of their first joining; NULL: no more. */
const struct vdc_zone_slice *vdc_allocdb_zone_at(const struct vdc_allocdb *db, size_t i);

/* i-th NUMA node in ascending order; false: no more. */
bool vdc_allocdb_numa_at(const struct vdc_allocdb *db, size_t i, struct vdc_numa_state *out);
/* i-th CPU in ascending order; false: no more. */
bool vdc_allocdb_cpu_at(const struct vdc_allocdb *db, size_t i, struct vdc_cpu_state *out);
/* Totals over the node. */
uint32_t vdc_allocdb_count_cpus(const struct vdc_allocdb *db);
uint64_t vdc_allocdb_memory_bytes(const struct vdc_allocdb *db);
uint64_t vdc_allocdb_memory_free_bytes(const struct vdc_allocdb *db);
/* Free, not dedicated CPUs of the zone on NUMA node `numa` (or VDC_NUMA_ANY). */
uint32_t vdc_allocdb_zone_cpus_free(const struct vdc_allocdb *db, const char *zone, uint32_t numa);

/* The owner of CPU `number` / of the byte at offset `addr` of NUMA node `numa`; NULL: nobody. The
 * latter takes at most one step per tier; *steps (may be NULL) counts them. The memory of a channel
 * is its first endpoint's. */
const struct vdc_partition *vdc_allocdb_cpu_owner(const struct vdc_allocdb *db, uint32_t number);
const struct vdc_partition *vdc_allocdb_memory_owner(const struct vdc_allocdb *db, uint32_t numa,
                                                     uint64_t addr, unsigned *steps);

/* Claims that are not settled, in the order of their ids; i-th; false: no more. */
struct vdc_claim {
    struct vdc_id id;
    char zone[VDC_NAME_CAP];
    uint32_t partitions; /* held by it */
    uint64_t sequence;   /* when it was prepared */
};
bool vdc_allocdb_claim_at(const struct vdc_allocdb *db, size_t i, struct vdc_claim *out);

/* The content of a partition's view as of now (vdc_view_publish); the lease is not in it. Of its
 * channels as many as a view has room for, see VDC_VIEW_CHANNELS_MAX. */
void vdc_allocdb_fill_view(const struct vdc_allocdb *db, const struct vdc_partition *partition,
                           struct vdc_view_content *out);

#endif
