/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A second allocation database that is too simple to be wrong: flat arrays, linear search, every sum
 * counted anew, a copy of everything for the way back. It takes the transactions of vdc/tx.h and says
 * what allocdb.h promises about them: the answer to the last number, and the state afterwards. It
 * shares nothing with ultravisor-core but those structures.
 *
 * What it doesn't say: an answer's sentence, and what can be seen without a state (the caller says
 * whether a transaction has a valid form). Which of several equal resources is taken is a rule of
 * tx.h too, and is found in allocdb_model_memory.c (choose) and allocdb_model_cpus.c (list_cpus) in one place each.
 *
 *     allocdb_model_memory.c   who owns each page, where a demand goes
 *     allocdb_model.c          transactions, and what is found and counted
 *     allocdb_model_{zones,entries,cpus,blocks}.c   operations
 *     allocdb_draw.c           random transactions that make sense often enough
 *     allocdb_compare.c        is the database what the model says?
 *     allocdb_run.c            the loop, and what it has reached
 *     allocdb_soak.c           the program for long runs
 */
#ifndef VDC_TEST_ALLOCDB_MODEL_H
#define VDC_TEST_ALLOCDB_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include <vdc/allocdb.h>
#include <vdc/base.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define PAGE (4 * KIB)
#define CHUNK_PAGES 512u /* pages of 2 MiB */
#define GIB_CHUNKS 512u  /* those of 1 GiB */

/* Bounds of the model, not of the database: what a run draws stays below them. */
#define MODEL_PARTITIONS_MAX 32
#define MODEL_ENTRIES_MAX 160
#define MODEL_CPUS_MAX 32
#define MODEL_NUMAS_MAX 4
#define MODEL_CLAIMS_MAX 8
#define NONE (-1)
#define NODE 0 /* the zone "" */

/* An owner of pages: 0 nobody, 1 + partition, OWNER_CHANNEL + entry. */
#define OWNER_CHANNEL 1000

/* 2 MiB, or what is left of it at the end of the memory. */
struct model_chunk {
    uint16_t pages; /* that there are */
    uint16_t free_pages;
    bool split; /* the pages have owners of their own; else all have this one: */
    uint16_t owner;
    uint16_t page[CHUNK_PAGES];
};

struct model_numa {
    uint32_t number;
    uint64_t bytes;
    uint32_t chunks_len;
    struct model_chunk *chunks;
};

struct model_cpu {
    struct vdc_cpu_info info;
    int zone;
    int owner;
};

struct model_zone {
    char name[VDC_NAME_CAP];
    bool joined;
    uint64_t epoch;
    uint64_t incarnation;
    uint32_t overcommit;
    struct vdc_share cpu_share;
    struct vdc_share memory_share;
    uint64_t memory_bytes;
};

struct model_partition {
    bool exists;
    struct vdc_op_partition_create as; /* with the present run, generation, configuration */
    int zone;
    struct vdc_id claim;
    uint32_t shared;
    uint64_t held; /* bytes */
    uint64_t sequence;
};

struct model_entry {
    bool exists;
    enum vdc_entry_kind kind;
    int zone;
    int owner;
    int peer;
    uint64_t sequence;
    struct vdc_op_device_add device;
    struct vdc_op_volume_attach volume;
    struct vdc_op_port_connect port;
    struct vdc_op_channel_connect channel; /* without its blocks: they are in the pages */
    struct vdc_op_fence_promise promise;
};

struct model_claim {
    bool exists;
    struct vdc_id id;
    int zone;
    uint32_t partitions;
    uint64_t sequence;
};

/* All but the pages: copied before each transaction and put back after a refusal. */
struct model_state {
    struct model_cpu cpus[MODEL_CPUS_MAX];
    int cpus_len;
    struct model_zone zones[VDC_ALLOCDB_ZONES_MAX];
    int zones_len;
    struct model_partition partitions[MODEL_PARTITIONS_MAX];
    struct model_entry entries[MODEL_ENTRIES_MAX];
    struct model_claim claims[MODEL_CLAIMS_MAX];
    uint64_t memory_bytes;
};

struct model_answer {
    enum vdc_rc rc;
    uint64_t sequence;
    uint32_t op;
    enum vdc_tx_rule rule;
    uint64_t asked;
    uint64_t free;
    uint64_t largest;
    bool repeated;
};

struct model_saved_chunk {
    int numa;
    uint32_t chunk;
    struct model_chunk was;
};

struct model {
    struct model_state now;
    struct model_state before;
    struct model_numa numas[MODEL_NUMAS_MAX]; /* ascending */
    int numas_len;
    struct model_saved_chunk *saved; /* of the transaction under way */
    size_t saved_cap;
    size_t saved_len;
    uint64_t sequence;
    bool touched[MODEL_PARTITIONS_MAX]; /* by the transaction under way */
    bool touched_entry[MODEL_ENTRIES_MAX];
    /* The answers of the last VDC_ALLOCDB_REQUESTS_MAX requests: the n-th one at n modulo that. */
    struct vdc_id *answer_ids;
    struct model_answer *answers;
    uint64_t answers_len;     /* ever stored */
    uint64_t answers_highest; /* number (the first 8 bytes) of a stored request id */
};

struct model *model_create(void);
void model_destroy(struct model *m);

/* What the database must answer, and its state afterwards. `form`: VDC_RC_OK, or why the transaction
 * has no valid form. *recorded: whether there is a record. Launch descriptions are borrowed for the
 * model's life. */
struct model_answer model_commit(struct model *m, const struct vdc_tx *tx, enum vdc_rc form,
                                 bool *recorded);

/* NONE: there is none. */
int model_find_zone(const struct model *m, const char *name);
int model_find_partition(const struct model *m, const struct vdc_id *id);
int model_find_numa(const struct model *m, uint32_t number);
int model_find_cpu(const struct model *m, uint32_t number);
int model_find_device(const struct model *m, const char *address);
int model_find_port(const struct model *m, const uint8_t mac[6]);
int model_find_channel(const struct model *m, const struct vdc_id *id);
int model_find_volume(const struct model *m, const struct vdc_id *volume, int partition);
int model_find_promise(const struct model *m, int zone, const char *node);
int model_find_claim(const struct model *m, const struct vdc_id *id);

/* Counted from the arrays. numa: index or NONE for all. */
uint32_t model_count_cpus(const struct model *m, int zone);
uint32_t model_count_free_cpus(const struct model *m, int zone, int numa);
uint32_t model_count_held_cpus(const struct model *m, int partition);
uint32_t model_count_partitions(const struct model *m, int zone);
uint64_t model_capacity(const struct model *m, int zone);
uint64_t model_shared_used(const struct model *m, int zone);
uint64_t model_memory_used(const struct model *m, int zone);

/* --- allocdb_model_memory.c --- */

uint16_t memory_owner(const struct model_numa *numa, uint64_t page);
/* Whether all of the range is there and the owner's. */
bool memory_is(const struct model_numa *numa, uint64_t addr, uint64_t bytes, uint16_t owner);
/* With a way back until memory_keep or memory_undo. */
void memory_set(struct model *m, int numa, uint64_t addr, uint64_t bytes, uint16_t owner);
void memory_keep(struct model *m);
void memory_undo(struct model *m);
/* All that the owner has becomes free. */
void memory_drop(struct model *m, uint16_t owner);
/* Bytes that a demand in pages of `page` bytes (4 KiB, 2 MiB) can use. */
uint64_t memory_free(const struct model_numa *numa, uint64_t page);
/* 1 GiB, 2 MiB, 4 KiB or 0. */
uint64_t memory_largest(const struct model_numa *numa);
/* Takes the next run for a demand of `bytes`, which are there, for the owner: at *addr, so many. */
uint64_t memory_take(struct model *m, int numa, uint64_t bytes, uint64_t page, uint16_t owner,
                     uint64_t *addr);
/* The maximal runs of the owner, ascending; at most `max` are written. Returns how many there are. */
uint32_t memory_runs(const struct model *m, uint16_t owner, struct vdc_memory_block *out,
                     uint32_t max);
/* New sizes; what stays keeps its owners. The caller has judged it. */
void memory_replace(struct model *m, const struct vdc_numa_info *infos, uint32_t len);

/* --- allocdb_draw.c --- */

#define DRAW_OPS_MAX 6
#define DRAW_BLOCKS_MAX VDC_VIEW_BLOCKS_MAX

struct vdc_prng;

/* A transaction with all that its operations point to. */
struct draw {
    struct vdc_tx tx;
    enum vdc_rc form; /* why it is no valid one */
    struct vdc_op ops[VDC_TX_OPS_MAX + 1];
    uint16_t cpus[DRAW_OPS_MAX][MODEL_CPUS_MAX];
    struct vdc_memory_block blocks[DRAW_OPS_MAX][DRAW_BLOCKS_MAX];
    struct vdc_cpu_info infos[MODEL_CPUS_MAX];
    struct vdc_numa_info numas[MODEL_NUMAS_MAX];
};

void draw_tx(struct draw *draw, const struct model *m, struct vdc_prng *prng);
/* The n-th of the ids of partitions, channels, volumes, claims that are drawn; addresses, MAC
 * addresses and names of nodes; false / NULL: no more. */
bool draw_partition_id(uint32_t n, struct vdc_id *id);
bool draw_channel_id(uint32_t n, struct vdc_id *id);
bool draw_volume_id(uint32_t n, struct vdc_id *id);
bool draw_claim_id(uint32_t n, struct vdc_id *id);
const char *draw_address(uint32_t n);
bool draw_mac(uint32_t n, uint8_t mac[6]);
const char *draw_node_name(uint32_t n);

/* --- allocdb_compare.c: each ends the process with a sentence when something differs --- */

/* For the sentence: where the run is. */
extern uint64_t compare_seed;
extern uint64_t compare_transaction;
extern const struct vdc_tx *compare_tx; /* the last one */
VDC_NORETURN void compare_failed(const char *file, int line, const char *fmt, ...) VDC_PRINTF(3, 4);
#define MUST(cond, ...)                                      \
    do {                                                     \
        if (!(cond)) {                                       \
            compare_failed(__FILE__, __LINE__, __VA_ARGS__); \
        }                                                    \
    } while (0)

void compare_answers(const struct vdc_tx_result *result, const struct model_answer *answer);
/* Slices, CPUs, partitions, entries, counters. `blocks`: the memory of each partition and channel. */
void compare_state(const struct model *m, const struct vdc_allocdb *db, bool blocks);
/* Lists, views, claims, owners of addresses, and the database's own invariants. */
void compare_all(const struct model *m, const struct vdc_allocdb *db, struct vdc_prng *prng);
/* Another database that came to the model's state on the shortest way has the same digest. Does
 * nothing for the few states to which no short way leads; returns whether it did. */
bool compare_rebuilt(const struct model *m, const struct vdc_allocdb *db);

/* --- allocdb_run.c --- */

struct run_stats {
    uint64_t operations;
    uint64_t transactions;
    uint64_t records;
    uint64_t repeated;
    uint64_t forgotten; /* requests repeated after their answer was dropped */
    uint64_t rebuilt;
    uint64_t restarts;
    uint64_t accepted[VDC_OP_COUNT];
    uint64_t refused[VDC_OP_COUNT];
    uint64_t rules[VDC_RULE_COUNT];
};

/* Runs at least so many operations, in databases of at most `episode` operations each. `progress`
 * (may be NULL) is called now and then. */
void run_model(uint64_t seed, uint64_t operations, uint64_t episode, struct run_stats *stats,
               void (*progress)(const struct run_stats *stats));
/* What the run has not reached, as a sentence; NULL: nothing is missing. */
const char *run_missing(const struct run_stats *stats, char *text, size_t cap);

#endif
