/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The database's state and the small changes that everything is made of. Each change in
 * zones.c, slots.c and entries.c keeps the bitmaps and counters right and is its own inverse's partner,
 * so that undoing a refused transaction is calling the partners backwards.
 *
 *     allocdb.c           a transaction from checks to record; epochs, claims
 *     answers.c           request ids and their stored answers
 *     ops*.c              one function per operation: judge, resolve, change with an undo entry
 *     allocdb_place.c     where CPUs and memory may lie: localities, whole cores
 *     zones.c             CPUs, NUMA nodes, zones: the changes
 *     slots.c             partitions with what they hold, claims: the changes
 *     entries.c           devices, volumes, ports, channels, promises: table, digest, snapshot
 *     pagemap*.c          whose memory is whose, what is free
 *     digest.c, undo.c    the digest of all that; taking back
 *     allocdb_snapshot.c  snapshot and restore
 *     allocdb_check.c     every invariant from nothing
 *     allocdb_read.c      readers
 */
#ifndef VDC_ALLOCDB_INTERNAL_H
#define VDC_ALLOCDB_INTERNAL_H

#include <uthash.h>

#include <vdc/allocdb.h>
#include <vdc/base.h>

#include "answers.h"
#include "digest.h"
#include "idmap.h"
#include "pagemap.h"
#include "tx_codec.h"
#include "wire.h"

#define SLOT_NONE UINT32_MAX
#define SLOTS_PER_CHUNK 256
/* What most partitions hold lies in their slot, where it is fetched with the rest. */
#define SLOT_FEW_CPUS 16
#define SLOT_FEW_BLOCKS 4
#define NODE_ZONE 0 /* the zone "": the node's own slice */
#define ZONE_NONE UINT32_MAX

struct cpu {
    struct vdc_cpu_info info;
    uint16_t zone;
    uint32_t owner; /* slot, or SLOT_NONE */
};

struct numa {
    uint32_t number;
    uint32_t cpus;
    uint32_t first_word; /* of the CPU bitmaps: where its CPUs lie */
    uint32_t end_word;
    uint64_t *mask; /* bit per CPU index */
    struct pagemap map;
};

struct zone {
    struct vdc_zone_slice pub;
    uint64_t *free;      /* bit per CPU index: in this zone and not dedicated */
    uint32_t *free_numa; /* number of those per NUMA index */
    uint64_t name_hash;  /* stands for the zone in its CPUs' digests */
    struct vdc_digest item;
};

struct slot {
    struct vdc_partition pub; /* first: readers get a pointer to it */
    uint32_t number;
    uint32_t zone;
    bool live;
    uint16_t *cpus; /* few_cpus until there are more, as pub.cpus when there are any */
    uint32_t cpus_cap;
    uint32_t blocks_cap;
    struct vdc_memory_block *blocks; /* few_blocks until there are more */
    uint16_t few_cpus[SLOT_FEW_CPUS];
    struct vdc_memory_block few_blocks[SLOT_FEW_BLOCKS];
    uint8_t *config;
    size_t config_cap;
    uint32_t *entries; /* numbers of those that it owns or is an endpoint of, in no order */
    size_t entries_cap;
    uint32_t entries_len;
    struct vdc_digest identity; /* of what never changes but by a new configuration */
    uint32_t identity_at;       /* where that is encoded; identity is not made yet. 0: it is */
    uint32_t identity_len;
    struct vdc_digest item; /* its part of the database's digest; zero when it has none */
    bool touched;           /* in db->touched: item is of before the transaction */
    uint32_t next_unused;
    uint32_t next_in_claim;
};

struct claim {
    struct vdc_id id;
    uint32_t zone;
    uint32_t first_slot;
    uint32_t partitions;
    uint64_t sequence;
};

enum undo_kind {
    UNDO_ZONE_NEW,    /* zone */
    UNDO_ZONE_FIELDS, /* zone, number = saved zone */
    UNDO_CPU_ZONE,    /* zone = where it was, number = CPU index */
    UNDO_CPU_ASSIGN,  /* slot, number = CPU index */
    UNDO_CPU_RELEASE, /* slot, number = CPU index */
    UNDO_CPUS_FIRST,  /* slot, which had no CPU before */
    UNDO_SHARED,      /* slot, a = what it was */
    UNDO_MEM_TAKE,    /* slot, number = NUMA index, a = addr, b = bytes */
    UNDO_MEM_FREE,    /* the same */
    UNDO_MEM_FIRST,   /* slot, which had no memory before */
    UNDO_RUN,         /* slot, a = what it was */
    UNDO_GENERATION,  /* slot, a */
    UNDO_CONFIG,      /* slot, saved = bytes, a = length */
    UNDO_CREATE,      /* slot */
    UNDO_DESTROY,     /* slot, which still lists what it held */
    UNDO_ENTRY_ADD,   /* slot = its owner, number = entry */
    UNDO_ENTRY_DROP,  /* the same */
};

struct undo {
    enum undo_kind kind;
    uint32_t zone;
    uint32_t slot; /* SLOT_NONE: no partition is touched */
    uint32_t number;
    uint64_t a;
    uint64_t b;
    uint8_t *saved;
};

struct vdc_allocdb {
    uint64_t sequence;
    struct vdc_digest digest;

    struct cpu *cpus; /* ascending by number */
    uint32_t cpus_len;
    uint32_t cpu_words;  /* words of a bitmap over them */
    uint16_t *cpu_index; /* CPU number -> index + 1; 65536 entries or NULL */
    /* What assigning reads of a CPU, apart from `cpus`, which does not fit into a near cache: */
    uint16_t *cpu_number; /* index -> number */
    uint8_t *cpu_numa;    /* index -> NUMA index */
    struct numa *numa;    /* ascending by number */
    uint32_t numa_len;
    uint8_t numa_index[VDC_NUMA_NODES_MAX]; /* NUMA number -> index + 1 */
    uint64_t memory_bytes;

    struct zone *zones;
    size_t zones_cap;
    uint32_t zones_len;

    struct slot **chunks;
    size_t chunks_cap;
    uint32_t slots_len;    /* ever made */
    uint32_t slots_unused; /* head of the list, SLOT_NONE: none */
    uint32_t partitions_len;
    struct idmap by_id;

    struct claim *claims; /* unordered */
    size_t claims_cap;
    uint32_t claims_len;
    struct idmap claim_by_id;

    struct entry **entries; /* by number */
    size_t entries_cap;
    uint32_t entries_len;    /* ever made */
    uint32_t entries_unused; /* head of the list, SLOT_NONE: none */
    uint32_t entry_counts[VDC_ENTRY_KIND_COUNT];
    struct entry *entry_by_key;
    struct entry *port_by_name;
    struct idmap volume_uses; /* of a volume: readers, or VOLUME_WRITTEN */
    uint32_t *core_next;      /* per CPU index: the next CPU of the same core, in a ring */

    struct answers answers;

    /* Of the transaction under way. What it touches is hashed once, when it stands. */
    uint64_t touched_zones; /* bit per zone */
    uint32_t *touched;      /* slots */
    size_t touched_cap;
    uint32_t touched_len;
    struct vdc_op resolved;       /* the operation under way, with its choices made */
    struct vdc_buf scratch_bytes; /* what a commit would put into the record */
    struct tx_arena arena;        /* of the record that is replayed */
    struct undo *undo;
    size_t undo_cap;
    size_t undo_len;
    struct vdc_zone_slice *saved_zones;
    size_t saved_zones_cap;
    size_t saved_zones_len;
    uint16_t *scratch_cpus; /* VDC_NODE_CPUS_MAX */
    struct vdc_memory_block *scratch_blocks;
    size_t scratch_blocks_cap;
    uint32_t scratch_blocks_len;
};

static inline struct slot *slot_at(const struct vdc_allocdb *db, uint32_t number)
{
    return &db->chunks[number / SLOTS_PER_CHUNK][number % SLOTS_PER_CHUNK];
}

/* Index of the CPU with that number; UINT32_MAX: none. */
static inline uint32_t cpu_index_of(const struct vdc_allocdb *db, uint32_t number)
{
    if (db->cpu_index == NULL || number > UINT16_MAX) {
        return UINT32_MAX;
    }
    return (uint32_t)db->cpu_index[number] - 1;
}

static inline uint32_t numa_index_of(const struct vdc_allocdb *db, uint32_t number)
{
    return number < VDC_NUMA_NODES_MAX ? (uint32_t)db->numa_index[number] - 1 : UINT32_MAX;
}

/* --- digest.c --- */

struct vdc_digest digest_of_cpu(const struct vdc_allocdb *db, uint32_t index);
struct vdc_digest digest_of_numa(const struct numa *numa);
uint64_t digest_of_zone_name(const char *name);
struct vdc_digest digest_of_zone(const struct zone *zone);
/* `data`: the identity in the encoding of a PARTITION_CREATE (tx_codec.h). */
struct vdc_digest digest_of_identity(const void *data, size_t len);
/* With all that it holds but its entries. */
struct vdc_digest digest_of_slot(const struct vdc_allocdb *db, const struct slot *slot);
struct vdc_digest digest_of_claim(const struct vdc_allocdb *db, const struct claim *claim);

/* --- zones.c --- */

/* ZONE_NONE: never heard of. */
uint32_t zone_find(const struct vdc_allocdb *db, const char *name);
/* Appends a zone that has not joined. */
uint32_t zone_make(struct vdc_allocdb *db, const char *name);
void zone_unmake(struct vdc_allocdb *db, uint32_t zone); /* the last one, holding nothing */
/* After its fields changed. */
void zone_touch(struct vdc_allocdb *db, uint32_t zone);
uint64_t zone_capacity(const struct vdc_zone_slice *slice, uint32_t pool_cpus);

void cpu_move(struct vdc_allocdb *db, uint32_t index, uint32_t zone); /* not dedicated */
void cpu_assign(struct vdc_allocdb *db, struct slot *slot, uint32_t index);
void cpu_release(struct vdc_allocdb *db, struct slot *slot, uint32_t index);
/* All CPUs that the slot will have, ascending; it has none. And all that it has. */
void cpus_assign_first(struct vdc_allocdb *db, struct slot *slot, const uint16_t *cpus,
                       uint32_t len);
void cpus_release_all(struct vdc_allocdb *db, struct slot *slot);
/* Only whose they are, for all CPUs that the slot lists. */
void cpus_take(struct vdc_allocdb *db, const struct slot *slot);
void cpus_give(struct vdc_allocdb *db, const struct slot *slot);

/* Replaces the inventory, carrying over who holds what; the caller has judged it. */
void inventory_replace(struct vdc_allocdb *db, const struct vdc_op_inventory_set *set);

/* --- slots.c --- */

void shared_set(struct vdc_allocdb *db, struct slot *slot, uint32_t milli);
/* Books a range into the slot's blocks and its slice: the page map is the caller's... */
void memory_book(struct vdc_allocdb *db, struct slot *slot, uint32_t numa, uint64_t addr,
                 uint64_t bytes);
/* ... and out of them. */
void memory_unbook(struct vdc_allocdb *db, struct slot *slot, uint32_t numa, uint64_t addr,
                   uint64_t bytes);

/* Takes `bytes` of the NUMA node, which has them in blocks of `page`, for a slot that has none. */
void memory_take_first(struct vdc_allocdb *db, struct slot *slot, uint32_t numa, uint64_t page,
                       uint64_t bytes);
/* Takes the blocks, which are free and ascend, for a slot that has none. */
void memory_take_named(struct vdc_allocdb *db, struct slot *slot,
                       const struct vdc_memory_block *blocks, uint32_t len);
void memory_give_all(struct vdc_allocdb *db, struct slot *slot);

/* An unused slot with the fields of `create`, not in any table yet; its claim and its identity (or
 * where that is encoded) are the caller's to set. */
struct slot *slot_make(struct vdc_allocdb *db, const struct vdc_op_partition_create *create,
                       uint32_t zone);
/* Frees what a slot holds memory for; it stays unused. */
void slot_deinit(struct slot *slot);
/* Makes room for so many CPUs (blocks) in all. */
void slot_need_cpus(struct slot *slot, uint32_t need);
void slot_need_blocks(struct slot *slot, uint32_t need);
void slot_recycle(struct vdc_allocdb *db, struct slot *slot);
void slot_set_config(struct slot *slot, const uint8_t *config, uint32_t len);
/* What slot->identity must be. */
struct vdc_digest slot_identity(const struct slot *slot);
void slot_make_identity(struct slot *slot);
/* Into (out of) the tables. Leaving gives back all that it holds but its entries, and keeps the
 * lists of it; entering takes it again. */
void slot_enter(struct vdc_allocdb *db, struct slot *slot);
void slot_leave(struct vdc_allocdb *db, struct slot *slot);
/* It changes in this transaction: its item of the digest and its sequence follow when that stands. */
static inline void slot_touch(struct vdc_allocdb *db, struct slot *slot)
{
    if (!slot->touched) {
        slot->touched = true;
        VDC_GROW(db->touched, db->touched_cap, (size_t)db->touched_len + 1);
        db->touched[db->touched_len++] = slot->number;
    }
}

struct claim *claim_find(const struct vdc_allocdb *db, const struct vdc_id *id);
struct claim *claim_make(struct vdc_allocdb *db, const struct vdc_id *id, uint32_t zone);
void claim_remove(struct vdc_allocdb *db, struct claim *claim);

/* --- undo.c --- */

static inline struct undo *undo_push(struct vdc_allocdb *db, enum undo_kind kind, uint32_t slot)
{
    VDC_GROW(db->undo, db->undo_cap, db->undo_len + 1);
    struct undo *undo = &db->undo[db->undo_len++];
    *undo = (struct undo){.kind = kind, .slot = slot};
    return undo;
}
void undo_all(struct vdc_allocdb *db);
/* The transaction stands: lets go of what was saved for undoing it. */
void undo_forget(struct vdc_allocdb *db, uint64_t sequence);
/* Brings the digest up to what was touched, and stamps the touched partitions with `sequence` (0:
 * leaves them as they are). `encoded`: where the identities of those that were created are; NULL:
 * nowhere, they are made. */
void touched_settle(struct vdc_allocdb *db, uint64_t sequence, const struct vdc_buf *encoded);

/* --- allocdb_place.c --- */

/* Links the CPUs of each core, after the CPUs changed. */
void topology_rebuild(struct vdc_allocdb *db);

/* --- entries.c --- */

void entries_deinit(struct vdc_allocdb *db);
void entries_undo(struct vdc_allocdb *db, const struct undo *undo);
/* The transaction stands. */
void entries_settle(struct vdc_allocdb *db, const struct undo *undo, uint64_t sequence);
/* The partition ends: devices become free, all else of its entries ends. */
void entries_release(struct vdc_allocdb *db, struct slot *slot);
/* The zone leaves: its devices go back to the node. */
void entries_leave_zone(struct vdc_allocdb *db, uint32_t zone);
/* Takes the channels' memory in new page maps. */
void entries_retake(struct vdc_allocdb *db);
void entries_write(const struct vdc_allocdb *db, struct vdc_buf *out);
/* NULL: read; else what is wrong. */
const char *entries_read(struct vdc_allocdb *db, struct wire_reader *in);
/* Adds what channels hold: bytes per NUMA index and per zone; recomputes the rest. */
enum vdc_rc entries_check(const struct vdc_allocdb *db, uint64_t *numa_used, uint64_t *zone_used,
                          struct vdc_err *err);
struct vdc_digest entries_digest(const struct vdc_allocdb *db);
/* The partition that an owner in a page map stands for; NULL: none. */
const struct vdc_partition *owner_partition(const struct vdc_allocdb *db, uint32_t owner);

#endif
