/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the allocation database share: a small machine (2 NUMA nodes of 4 CPUs and 3 GiB
 * + 12 KiB of memory each, CPU numbers alternating between them), short forms of operations, and a
 * commit that also feeds a replica and demands that it stays equal.
 */
#ifndef VDC_ULTRAVISOR_SUPPORT_H
#define VDC_ULTRAVISOR_SUPPORT_H

#include <vdc/allocdb.h>
#include <vdc/base.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define NUMA_BYTES (3 * GIB + 12 * KIB)

struct bench {
    struct vdc_allocdb *db;
    struct vdc_allocdb *replica;
    struct vdc_buf record; /* of the last commit */
    struct vdc_tx_result result;
    uint64_t epoch;
    uint64_t next_request;
};

/* The small machine with zone "prod" holding all of it, overcommit 4. */
void bench_init(struct bench *b);
/* Without inventory and zone. */
void bench_init_empty(struct bench *b);
void bench_deinit(struct bench *b);

struct vdc_id id_of(uint64_t number);

/* Commits as zone "prod"'s leader with a new request id, applies the record to the replica and
 * checks both. */
enum vdc_rc commit(struct bench *b, const struct vdc_op *ops, uint32_t len);
/* The same for any transaction. */
enum vdc_rc commit_tx(struct bench *b, const struct vdc_tx *tx);
/* zone "prod", command role, the bench's epoch, a new request id. */
struct vdc_tx tx_of(struct bench *b, const struct vdc_op *ops, uint32_t len);

struct vdc_op op_inventory(void);
struct vdc_op op_zone_set(uint32_t cpu_milli, uint32_t memory_milli, uint32_t overcommit_milli);
struct vdc_op op_create(uint64_t id, const char *name);
struct vdc_op op_shared(uint64_t id, uint32_t milli);
struct vdc_op op_any(uint64_t id, uint32_t cpus, uint32_t numa);
struct vdc_op op_memory(uint64_t id, uint32_t numa, uint64_t bytes);
struct vdc_op op_run(uint64_t id, uint64_t generation, enum vdc_run run);
struct vdc_op op_destroy(uint64_t id, uint64_t generation);

#endif
