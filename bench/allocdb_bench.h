/* SPDX-License-Identifier: Apache-2.0 */
/* The three measurements of bench-allocdb; main() is in allocdb_bench.c. */
#ifndef VDC_ALLOCDB_BENCH_H
#define VDC_ALLOCDB_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include <vdc/allocdb.h>
#include <vdc/buf.h>

#include "allocdb_workload.h"

struct bench_options {
    bool json;
    uint64_t seed;
    unsigned rounds;       /* >= 1 */
    double seconds;        /* of each measured piece of a round, > 0 */
    uint64_t transactions; /* D1: exactly so many instead of by time; 0: by time */
    unsigned outstanding;  /* D2; 1..OUTSTANDING_MAX */
    uint64_t records;      /* D3 */
    const char *dir;       /* where scratch directories are made; NULL: see bench_make_dir */
};

/* Requests that wait for their acknowledgement in D2. */
#define OUTSTANDING_MAX 65536

void bench_memory(const struct bench_options *options);  /* D1 */
void bench_durable(const struct bench_options *options); /* D2 */
void bench_recover(const struct bench_options *options); /* D3 */

/* Commits one transaction that cannot be refused. */
void bench_commit(struct vdc_allocdb *db, const struct workload_tx *wtx,
                  struct vdc_tx_result *result, struct vdc_buf *record);

/* --- the stores that D2 is compared with: allocdb_peers.c --- */

/* A committed transaction: as it is journalled, and decoded with every choice made. */
struct bench_item {
    struct vdc_buf record;
    struct vdc_tx tx;
};

/* A store of the same allocations. */
struct bench_peer {
    const char *name; /* "sqlite", "lmdb" */
    /* A new store in an existing, empty directory. */
    void *(*open)(const char *dir);
    /* Makes `len` transactions, numbered from `first` on, durable in one of its own: `apply` what they
     * do to partitions, CPUs and memory, `append` only their records. */
    void (*apply)(void *store, uint64_t first, const struct bench_item *items, unsigned len);
    void (*append)(void *store, uint64_t first, const struct bench_item *items, unsigned len);
    void (*close)(void *store);
};

/* Those that were found when this was built; ends with name NULL. */
extern const struct bench_peer bench_peers[];

#endif
