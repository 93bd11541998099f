/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The changes. The digest is the sum, in two independent 64-bit lanes, of a keyed hash of each item:
 * CPU, NUMA node, zone, partition, block of memory, claim. A sum does not care for order, and an item
 * is taken out by subtracting it, so a change costs the same in a database of any size. The hash
 * (multiply 64 x 64 -> 128, fold, per word) guards against defects and disk errors, not against
 * somebody who makes collisions: who can write the records can write anything.
 */
#include "allocdb_internal.h"

#include <string.h>

/* --- digest --- */

enum item_kind {
    ITEM_CPU = 1,
    ITEM_NUMA,
    ITEM_ZONE,
    ITEM_FIXED,
    ITEM_PARTITION,
    ITEM_HOLDING, /* a CPU or block of memory of a partition */
    ITEM_CLAIM,
};

/* The keys are digits of pi: nothing up the sleeve, and part of the snapshot's format. */
#define KEY_LO UINT64_C(0x243f6a8885a308d3)
#define KEY_HI UINT64_C(0x13198a2e03707344)
#define MUL_LO UINT64_C(0xa4093822299f31d1)
#define MUL_HI UINT64_C(0x082efa98ec4e6c89)

static inline uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline void hash_u64(struct vdc_digest *hash, uint64_t word)
{
    hash->lo = fold(hash->lo ^ word, MUL_LO) + word;
    hash->hi = fold(hash->hi + word, MUL_HI) ^ (word << 1);
}

static inline struct vdc_digest hash_begin(unsigned kind)
{
    struct vdc_digest hash = {KEY_LO, KEY_HI};
    hash_u64(&hash, kind);
    return hash;
}

static inline struct vdc_digest hash_end(struct vdc_digest hash)
{
    hash_u64(&hash, KEY_HI);
    return hash;
}

static inline uint64_t load_u64(const uint8_t *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof(word));
    return word;
}

/* 16 bytes for the price of one multiplication in each lane. */
static inline void hash_pair(struct vdc_digest *hash, uint64_t a, uint64_t b)
{
    hash->lo = fold(hash->lo ^ a, MUL_LO ^ b) + a;
    hash->hi = fold(hash->hi + b, MUL_HI + a) ^ (b << 1);
}

/* The length goes first, so the last 16 bytes may be read over some that were taken before. */
static void hash_bytes(struct vdc_digest *hash, const void *data, size_t len)
{
    const uint8_t *from = data;
    hash_u64(hash, len);
    if (len < 16) {
        uint64_t words[2] = {0};
        if (len > 0) {
            memcpy(words, from, len);
        }
        hash_pair(hash, words[0], words[1]);
        return;
    }
    for (size_t at = 0; at + 16 < len; at += 16) {
        hash_pair(hash, load_u64(from + at), load_u64(from + at + 8));
    }
    hash_pair(hash, load_u64(from + len - 16), load_u64(from + len - 8));
}

static inline void hash_id(struct vdc_digest *hash, const struct vdc_id *id)
{
    uint64_t words[2];
    memcpy(words, id->bytes, sizeof(words));
    hash_u64(hash, words[0]);
    hash_u64(hash, words[1]);
}

struct vdc_digest item_begin(unsigned kind)
{
    return hash_begin(kind);
}

void item_u64(struct vdc_digest *hash, uint64_t word)
{
    hash_u64(hash, word);
}

void item_bytes(struct vdc_digest *hash, const void *data, size_t len)
{
    hash_bytes(hash, data, len);
}

void item_id(struct vdc_digest *hash, const struct vdc_id *id)
{
    hash_id(hash, id);
}

struct vdc_digest item_end(struct vdc_digest hash)
{
    return hash_end(hash);
}

/* That CPU `number` is the partition's. The tag (bit 0) tells it from a block. */
static inline struct vdc_digest digest_of_held_cpu(const struct slot *slot, uint16_t number)
{
    struct vdc_digest hash = slot->holding;
    hash_u64(&hash, (uint64_t)number << 1 | 1);
    return hash_end(hash);
}

struct vdc_digest digest_of_cpu(const struct vdc_allocdb *db, uint32_t index)
{
    const struct cpu *cpu = &db->cpus[index];
    struct vdc_digest hash = hash_begin(ITEM_CPU);
    hash_u64(&hash, (uint64_t)cpu->info.number | (uint64_t)cpu->info.numa << 16 |
                        (uint64_t)cpu->info.socket << 32 | (uint64_t)cpu->info.core << 48);
    hash_u64(&hash, cpu->info.thread);
    /* By name: the zones' numbers are history (the order of their joining). */
    hash_u64(&hash, db->zones[cpu->zone].name_hash);
    hash = hash_end(hash);
    if (cpu->owner != SLOT_NONE) {
        struct vdc_digest held = digest_of_held_cpu(slot_at(db, cpu->owner), cpu->info.number);
        digest_add(&hash, &held);
    }
    return hash;
}

struct vdc_digest digest_of_numa(const struct numa *numa)
{
    struct vdc_digest hash = hash_begin(ITEM_NUMA);
    hash_u64(&hash, numa->number);
    hash_u64(&hash, numa->map.bytes);
    return hash_end(hash);
}

struct vdc_digest digest_of_zone(const struct vdc_zone_slice *slice)
{
    struct vdc_digest hash = hash_begin(ITEM_ZONE);
    hash_bytes(&hash, slice->name, strlen(slice->name));
    hash_u64(&hash, slice->joined);
    hash_u64(&hash, slice->epoch);
    hash_u64(&hash, slice->incarnation);
    hash_u64(&hash, slice->overcommit_milli);
    hash_u64(&hash, slice->cpu_share.milli);
    hash_u64(&hash, slice->cpu_share.amount);
    hash_u64(&hash, slice->memory_share.milli);
    hash_u64(&hash, slice->memory_share.amount);
    hash_u64(&hash, slice->memory_bytes);
    return hash_end(hash);
}

struct vdc_digest digest_of_slot(const struct slot *slot)
{
    struct vdc_digest hash = hash_begin(ITEM_PARTITION);
    hash_u64(&hash, slot->fixed.lo);
    hash_u64(&hash, slot->fixed.hi);
    hash_id(&hash, &slot->pub.claim);
    hash_u64(&hash, slot->pub.generation);
    hash_u64(&hash, (uint64_t)slot->pub.run << 32 | slot->pub.shared_milli);
    return hash_end(hash);
}

struct vdc_digest digest_of_block(const struct slot *slot, const struct vdc_memory_block *block)
{
    /* Addresses are multiples of 4 KiB, so a NUMA node's number fits below. */
    _Static_assert(VDC_NUMA_NODES_MAX <= PAGE_4K / 2, "bit 0 is the tag");
    struct vdc_digest hash = slot->holding;
    hash_u64(&hash, block->addr | (uint64_t)block->numa << 1);
    hash_u64(&hash, block->bytes);
    return hash_end(hash);
}

struct vdc_digest digest_of_claim(const struct vdc_allocdb *db, const struct claim *claim)
{
    struct vdc_digest hash = hash_begin(ITEM_CLAIM);
    const char *zone = db->zones[claim->zone].pub.name;
    hash_id(&hash, &claim->id);
    hash_bytes(&hash, zone, strlen(zone));
    hash_u64(&hash, claim->partitions);
    return hash_end(hash);
}

/* --- zones --- */

uint32_t numa_index_of(const struct vdc_allocdb *db, uint32_t number)
{
    return number < VDC_NUMA_NODES_MAX ? (uint32_t)db->numa_index[number] - 1 : UINT32_MAX;
}

uint32_t zone_find(const struct vdc_allocdb *db, const char *name)
{
    for (uint32_t i = 0; i < db->zones_len; i++) {
        if (strcmp(db->zones[i].pub.name, name) == 0) {
            return i;
        }
    }
    return ZONE_NONE;
}

/* Makes the zone's CPU tables anew from the CPUs. */
static void zone_rebuild_cpus(struct vdc_allocdb *db, uint32_t z)
{
    struct zone *zone = &db->zones[z];
    free(zone->free);
    free(zone->free_numa);
    zone->free = vdc_calloc(db->cpu_words, sizeof(uint64_t));
    zone->free_numa = vdc_calloc(db->numa_len, sizeof(uint32_t));
    zone->pub.cpus = 0;
    zone->pub.cpus_dedicated = 0;
    for (uint32_t i = 0; i < db->cpus_len; i++) {
        if (db->cpus[i].zone != z) {
            continue;
        }
        zone->pub.cpus++;
        if (db->cpus[i].owner != SLOT_NONE) {
            zone->pub.cpus_dedicated++;
        } else {
            zone->free[i / 64] |= UINT64_C(1) << (i % 64);
            zone->free_numa[numa_index_of(db, db->cpus[i].info.numa)]++;
        }
    }
}

uint64_t zone_capacity(const struct vdc_zone_slice *slice, uint32_t pool_cpus)
{
    return (uint64_t)pool_cpus * slice->overcommit_milli;
}

static void zone_update_capacity(struct vdc_zone_slice *slice)
{
    slice->shared_capacity_milli = zone_capacity(slice, slice->cpus - slice->cpus_dedicated);
}

uint32_t zone_make(struct vdc_allocdb *db, const char *name)
{
    VDC_ASSERT(db->zones_len < VDC_ALLOCDB_ZONES_MAX);
    VDC_GROW(db->zones, db->zones_cap, (size_t)db->zones_len + 1);
    uint32_t z = db->zones_len++;
    db->zones[z] = (struct zone){.pub = {.overcommit_milli = 1000}};
    vdc_str_set(db->zones[z].pub.name, sizeof(db->zones[z].pub.name), name);
    struct vdc_digest hash = hash_begin(ITEM_ZONE);
    hash_bytes(&hash, name, strlen(name));
    db->zones[z].name_hash = hash_end(hash).lo;
    zone_rebuild_cpus(db, z);
    zone_refresh(db, z);
    return z;
}

void zone_unmake(struct vdc_allocdb *db, uint32_t z)
{
    VDC_ASSERT(z + 1 == db->zones_len && z != NODE_ZONE);
    struct zone *zone = &db->zones[z];
    VDC_ASSERT(zone->pub.cpus == 0 && zone->pub.partitions == 0);
    digest_sub(&db->digest, &zone->item);
    free(zone->free);
    free(zone->free_numa);
    db->zones_len--;
}

void zone_refresh(struct vdc_allocdb *db, uint32_t z)
{
    struct zone *zone = &db->zones[z];
    zone_update_capacity(&zone->pub);
    digest_sub(&db->digest, &zone->item);
    zone->item = digest_of_zone(&zone->pub);
    digest_add(&db->digest, &zone->item);
}

/* --- CPUs --- */

static void cpu_mark(struct vdc_allocdb *db, uint32_t index, bool is_free)
{
    struct cpu *cpu = &db->cpus[index];
    struct zone *zone = &db->zones[cpu->zone];
    uint64_t bit = UINT64_C(1) << (index % 64);
    uint32_t *count = &zone->free_numa[numa_index_of(db, cpu->info.numa)];
    if (is_free) {
        zone->free[index / 64] |= bit;
        ++*count;
    } else {
        zone->free[index / 64] &= ~bit;
        --*count;
    }
}

void cpu_move(struct vdc_allocdb *db, uint32_t index, uint32_t to)
{
    struct cpu *cpu = &db->cpus[index];
    VDC_ASSERT(cpu->owner == SLOT_NONE);
    struct vdc_digest item = digest_of_cpu(db, index);
    digest_sub(&db->digest, &item);
    cpu_mark(db, index, false);
    db->zones[cpu->zone].pub.cpus--;
    zone_update_capacity(&db->zones[cpu->zone].pub);
    cpu->zone = (uint16_t)to;
    cpu_mark(db, index, true);
    db->zones[to].pub.cpus++;
    zone_update_capacity(&db->zones[to].pub);
    item = digest_of_cpu(db, index);
    digest_add(&db->digest, &item);
}

/* Of the CPU's part of the digest only that changes which says whose it is. */
static void cpu_set_owner(struct vdc_allocdb *db, uint32_t index, const struct slot *slot,
                          bool assigned)
{
    struct cpu *cpu = &db->cpus[index];
    struct vdc_zone_slice *slice = &db->zones[cpu->zone].pub;
    struct vdc_digest held = digest_of_held_cpu(slot, cpu->info.number);
    cpu_mark(db, index, !assigned);
    if (assigned) {
        cpu->owner = slot->number;
        slice->cpus_dedicated++;
        digest_add(&db->digest, &held);
    } else {
        cpu->owner = SLOT_NONE;
        slice->cpus_dedicated--;
        digest_sub(&db->digest, &held);
    }
    zone_update_capacity(slice);
}

void cpu_assign(struct vdc_allocdb *db, struct slot *slot, uint32_t index)
{
    uint16_t number = db->cpus[index].info.number;
    uint32_t len = slot->pub.cpus_len;
    VDC_ASSERT(db->cpus[index].owner == SLOT_NONE && len < VDC_VCPUS_MAX);
    VDC_GROW(slot->cpus, slot->cpus_cap, (size_t)len + 1);
    uint32_t at = len;
    while (at > 0 && slot->cpus[at - 1] > number) {
        slot->cpus[at] = slot->cpus[at - 1];
        at--;
    }
    slot->cpus[at] = number;
    slot->pub.cpus = slot->cpus;
    slot->pub.cpus_len = len + 1;
    cpu_set_owner(db, index, slot, true);
}

void cpu_release(struct vdc_allocdb *db, struct slot *slot, uint32_t index)
{
    VDC_ASSERT(db->cpus[index].owner == slot->number);
    uint16_t number = db->cpus[index].info.number;
    uint32_t at = 0;
    while (slot->cpus[at] != number) {
        at++;
        VDC_ASSERT(at < slot->pub.cpus_len);
    }
    memmove(&slot->cpus[at], &slot->cpus[at + 1],
            (slot->pub.cpus_len - at - 1) * sizeof(slot->cpus[0]));
    slot->pub.cpus_len--;
    cpu_set_owner(db, index, slot, false);
}

void shared_set(struct vdc_allocdb *db, struct slot *slot, uint32_t milli)
{
    struct vdc_zone_slice *slice = &db->zones[slot->zone].pub;
    slice->shared_used_milli = slice->shared_used_milli - slot->pub.shared_milli + milli;
    slot->pub.shared_milli = milli;
    slot_refresh(db, slot);
}

/* --- memory: a partition's blocks are its maximal runs, so that equal holdings look equal --- */

/* Index of the first block that does not lie wholly before (numa, addr). */
static uint32_t block_at(const struct slot *slot, uint32_t numa, uint64_t addr)
{
    uint32_t lo = 0;
    uint32_t hi = slot->pub.blocks_len;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct vdc_memory_block *b = &slot->blocks[mid];
        if (b->numa < numa || (b->numa == numa && b->addr + b->bytes <= addr)) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static void block_remove(struct vdc_allocdb *db, struct slot *slot, uint32_t at)
{
    struct vdc_digest item = digest_of_block(slot, &slot->blocks[at]);
    digest_sub(&db->digest, &item);
    slot->pub.blocks_len--;
    memmove(&slot->blocks[at], &slot->blocks[at + 1],
            (slot->pub.blocks_len - at) * sizeof(slot->blocks[0]));
}

static void block_insert(struct vdc_allocdb *db, struct slot *slot, uint32_t at,
                         const struct vdc_memory_block *block)
{
    VDC_GROW(slot->blocks, slot->blocks_cap, (size_t)slot->pub.blocks_len + 1);
    memmove(&slot->blocks[at + 1], &slot->blocks[at],
            (slot->pub.blocks_len - at) * sizeof(slot->blocks[0]));
    slot->blocks[at] = *block;
    slot->pub.blocks = slot->blocks;
    slot->pub.blocks_len++;
    struct vdc_digest item = digest_of_block(slot, block);
    digest_add(&db->digest, &item);
}

void memory_book(struct vdc_allocdb *db, struct slot *slot, uint32_t numa, uint64_t addr,
                 uint64_t bytes)
{
    uint32_t number = db->numa[numa].number;
    struct vdc_memory_block run = {.addr = addr, .bytes = bytes, .numa = number};
    uint32_t at = block_at(slot, number, addr);
    if (at < slot->pub.blocks_len && slot->blocks[at].numa == number &&
        slot->blocks[at].addr == addr + bytes) {
        run.bytes += slot->blocks[at].bytes;
        block_remove(db, slot, at);
    }
    if (at > 0 && slot->blocks[at - 1].numa == number &&
        slot->blocks[at - 1].addr + slot->blocks[at - 1].bytes == addr) {
        at--;
        run.addr = slot->blocks[at].addr;
        run.bytes += slot->blocks[at].bytes;
        block_remove(db, slot, at);
    }
    block_insert(db, slot, at, &run);
    slot->pub.held_bytes += bytes;
    db->zones[slot->zone].pub.memory_used_bytes += bytes;
}

void memory_unbook(struct vdc_allocdb *db, struct slot *slot, uint32_t numa, uint64_t addr,
                   uint64_t bytes)
{
    uint32_t number = db->numa[numa].number;
    uint32_t at = block_at(slot, number, addr);
    VDC_ASSERT(at < slot->pub.blocks_len);
    struct vdc_memory_block run = slot->blocks[at];
    VDC_ASSERT(run.numa == number && run.addr <= addr && addr + bytes <= run.addr + run.bytes);
    block_remove(db, slot, at);
    struct vdc_memory_block tail = {
        .addr = addr + bytes, .bytes = run.addr + run.bytes - addr - bytes, .numa = number};
    if (tail.bytes > 0) {
        block_insert(db, slot, at, &tail);
    }
    struct vdc_memory_block head = {.addr = run.addr, .bytes = addr - run.addr, .numa = number};
    if (head.bytes > 0) {
        block_insert(db, slot, at, &head);
    }
    slot->pub.held_bytes -= bytes;
    db->zones[slot->zone].pub.memory_used_bytes -= bytes;
}

/* --- partitions --- */

struct slot *slot_make(struct vdc_allocdb *db)
{
    uint32_t number = db->slots_unused;
    if (number == SLOT_NONE) {
        number = db->slots_len;
        if (number % SLOTS_PER_CHUNK == 0) {
            VDC_GROW(db->chunks, db->chunks_cap, (size_t)number / SLOTS_PER_CHUNK + 1);
            db->chunks[number / SLOTS_PER_CHUNK] = vdc_calloc(SLOTS_PER_CHUNK, sizeof(struct slot));
        }
        db->slots_len++;
        slot_at(db, number)->number = number;
    } else {
        db->slots_unused = slot_at(db, number)->next_unused;
    }
    struct slot *slot = slot_at(db, number);
    slot->pub = (struct vdc_partition){0};
    slot->item = (struct vdc_digest){0};
    slot->next_in_claim = SLOT_NONE;
    return slot;
}

void slot_recycle(struct vdc_allocdb *db, struct slot *slot)
{
    VDC_ASSERT(!slot->live && slot->pub.cpus_len == 0 && slot->pub.blocks_len == 0 &&
               slot->entries_len == 0);
    slot->next_unused = db->slots_unused;
    db->slots_unused = slot->number;
}

void slot_set_config(struct slot *slot, const uint8_t *config, uint32_t len)
{
    VDC_GROW(slot->config, slot->config_cap, (size_t)len);
    if (len > 0) {
        memcpy(slot->config, config, len);
    }
    slot->pub.config = slot->config;
    slot->pub.config_len = len;
}

void slot_rehash(struct slot *slot)
{
    const struct vdc_partition *pub = &slot->pub;
    struct vdc_digest hash = hash_begin(ITEM_FIXED);
    hash_id(&hash, &pub->id);
    hash_bytes(&hash, pub->name, strlen(pub->name));
    hash_bytes(&hash, pub->zone, strlen(pub->zone));
    hash_bytes(&hash, pub->tenant, strlen(pub->tenant));
    hash_bytes(&hash, pub->class_name, strlen(pub->class_name));
    hash_u64(&hash, (uint64_t)pub->kind << 32 | pub->vcpus);
    hash_u64(&hash, pub->memory_bytes);
    hash_bytes(&hash, pub->config, pub->config_len);
    slot->fixed = hash_end(hash);
    slot->holding = hash_begin(ITEM_HOLDING);
    hash_id(&slot->holding, &pub->id);
}

void slot_refresh(struct vdc_allocdb *db, struct slot *slot)
{
    digest_sub(&db->digest, &slot->item);
    slot->item = digest_of_slot(slot);
    digest_add(&db->digest, &slot->item);
}

void slot_enter(struct vdc_allocdb *db, struct slot *slot)
{
    VDC_ASSERT(!slot->live);
    slot->live = true;
    idmap_put(&db->by_id, &slot->pub.id, slot->number);
    db->partitions_len++;
    db->zones[slot->zone].pub.partitions++;
    slot_refresh(db, slot);
}

void slot_leave(struct vdc_allocdb *db, struct slot *slot)
{
    VDC_ASSERT(slot->live && slot->pub.cpus_len == 0 && slot->pub.blocks_len == 0 &&
               slot->pub.shared_milli == 0);
    slot->live = false;
    idmap_remove(&db->by_id, &slot->pub.id);
    db->partitions_len--;
    db->zones[slot->zone].pub.partitions--;
    digest_sub(&db->digest, &slot->item);
    slot->item = (struct vdc_digest){0};
}

/* --- claims: whole transactions only, so they need no undo --- */

struct claim *claim_find(const struct vdc_allocdb *db, const struct vdc_id *id)
{
    uint32_t at = idmap_get(&db->claim_by_id, id);
    return at == VDC_IDMAP_NONE ? NULL : &db->claims[at];
}

struct claim *claim_make(struct vdc_allocdb *db, const struct vdc_id *id, uint32_t zone)
{
    VDC_GROW(db->claims, db->claims_cap, (size_t)db->claims_len + 1);
    uint32_t at = db->claims_len++;
    db->claims[at] = (struct claim){.id = *id, .zone = zone, .first_slot = SLOT_NONE};
    idmap_put(&db->claim_by_id, id, at);
    return &db->claims[at];
}

void claim_remove(struct vdc_allocdb *db, struct claim *claim)
{
    uint32_t at = (uint32_t)(claim - db->claims);
    uint32_t last = db->claims_len - 1;
    idmap_remove(&db->claim_by_id, &claim->id);
    if (at != last) {
        idmap_remove(&db->claim_by_id, &db->claims[last].id);
        db->claims[at] = db->claims[last];
        idmap_put(&db->claim_by_id, &db->claims[at].id, at);
    }
    db->claims_len--;
}

/* --- inventory --- */

static void inventory_digest(struct vdc_allocdb *db,
                             void (*change)(struct vdc_digest *, const struct vdc_digest *))
{
    for (uint32_t i = 0; i < db->cpus_len; i++) {
        struct vdc_digest item = digest_of_cpu(db, i);
        change(&db->digest, &item);
    }
    for (uint32_t i = 0; i < db->numa_len; i++) {
        struct vdc_digest item = digest_of_numa(&db->numa[i]);
        change(&db->digest, &item);
    }
}

static void replace_cpus(struct vdc_allocdb *db, const struct vdc_op_inventory_set *set)
{
    struct cpu *cpus = vdc_calloc(set->cpus_len, sizeof(cpus[0]));
    for (uint32_t i = 0; i < set->cpus_len; i++) {
        uint32_t old = cpu_index_of(db, set->cpus[i].number);
        cpus[i] =
            old == UINT32_MAX ? (struct cpu){.zone = NODE_ZONE, .owner = SLOT_NONE} : db->cpus[old];
        cpus[i].info = set->cpus[i];
    }
    free(db->cpus);
    db->cpus = cpus;
    db->cpus_len = set->cpus_len;
    db->cpu_words = (set->cpus_len + 63) / 64;
    free(db->cpu_index);
    db->cpu_index = vdc_calloc((size_t)UINT16_MAX + 1, sizeof(db->cpu_index[0]));
    for (uint32_t i = 0; i < set->cpus_len; i++) {
        db->cpu_index[set->cpus[i].number] = (uint16_t)(i + 1);
    }
    topology_rebuild(db);
}

static void replace_numa(struct vdc_allocdb *db, const struct vdc_op_inventory_set *set)
{
    for (uint32_t i = 0; i < db->numa_len; i++) {
        pagemap_deinit(&db->numa[i].map);
        free(db->numa[i].mask);
    }
    free(db->numa);
    db->numa = vdc_calloc(set->numa_len, sizeof(db->numa[0]));
    db->numa_len = set->numa_len;
    db->memory_bytes = 0;
    memset(db->numa_index, 0, sizeof(db->numa_index));
    for (uint32_t i = 0; i < set->numa_len; i++) {
        struct numa *numa = &db->numa[i];
        db->numa_index[set->numa[i].number] = (uint8_t)(i + 1);
        numa->number = set->numa[i].number;
        numa->mask = vdc_calloc(db->cpu_words, sizeof(uint64_t));
        numa->first_word = db->cpu_words;
        pagemap_init(&numa->map, set->numa[i].memory_bytes);
        db->memory_bytes += set->numa[i].memory_bytes;
    }
    for (uint32_t i = 0; i < db->cpus_len; i++) {
        struct numa *numa = &db->numa[numa_index_of(db, db->cpus[i].info.numa)];
        numa->cpus++;
        numa->mask[i / 64] |= UINT64_C(1) << (i % 64);
        numa->first_word = VDC_MIN(numa->first_word, i / 64);
        numa->end_word = i / 64 + 1;
    }
}

void inventory_replace(struct vdc_allocdb *db, const struct vdc_op_inventory_set *set)
{
    inventory_digest(db, digest_sub);
    uint64_t memory_before = db->memory_bytes;
    replace_cpus(db, set);
    replace_numa(db, set);
    for (uint32_t s = 0; s < db->slots_len; s++) {
        const struct slot *slot = slot_at(db, s);
        for (uint32_t i = 0; slot->live && i < slot->pub.blocks_len; i++) {
            const struct vdc_memory_block *block = &slot->blocks[i];
            pagemap_take(&db->numa[numa_index_of(db, block->numa)].map, block->addr, block->bytes,
                         s);
        }
    }
    entries_retake(db);
    inventory_digest(db, digest_add);
    db->zones[NODE_ZONE].pub.memory_bytes += db->memory_bytes - memory_before;
    for (uint32_t z = 0; z < db->zones_len; z++) {
        zone_rebuild_cpus(db, z);
        zone_refresh(db, z);
    }
}

/* --- undo --- */

static void undo_zone_fields(struct vdc_allocdb *db, const struct undo *undo)
{
    const struct vdc_zone_slice *saved = &db->saved_zones[undo->number];
    struct vdc_zone_slice *pub = &db->zones[undo->zone].pub;
    pub->joined = saved->joined;
    pub->incarnation = saved->incarnation;
    pub->overcommit_milli = saved->overcommit_milli;
    pub->cpu_share = saved->cpu_share;
    pub->memory_share = saved->memory_share;
    pub->memory_bytes = saved->memory_bytes;
    zone_refresh(db, undo->zone);
}

static void undo_one(struct vdc_allocdb *db, const struct undo *undo)
{
    struct slot *slot = undo->slot == SLOT_NONE ? NULL : slot_at(db, undo->slot);
    switch (undo->kind) {
    case UNDO_ZONE_NEW:
        zone_unmake(db, undo->zone);
        break;
    case UNDO_ZONE_FIELDS:
        undo_zone_fields(db, undo);
        break;
    case UNDO_CPU_ZONE:
        cpu_move(db, undo->number, undo->zone);
        break;
    case UNDO_CPU_ASSIGN:
        cpu_release(db, slot, undo->number);
        break;
    case UNDO_CPU_RELEASE:
        cpu_assign(db, slot, undo->number);
        break;
    case UNDO_SHARED:
        shared_set(db, slot, (uint32_t)undo->a);
        break;
    case UNDO_MEM_TAKE:
        memory_unbook(db, slot, undo->number, undo->a, undo->b);
        pagemap_free(&db->numa[undo->number].map, undo->a, undo->b);
        break;
    case UNDO_MEM_FREE:
        pagemap_take(&db->numa[undo->number].map, undo->a, undo->b, slot->number);
        memory_book(db, slot, undo->number, undo->a, undo->b);
        break;
    case UNDO_RUN:
        slot->pub.run = (enum vdc_run)undo->a;
        slot_refresh(db, slot);
        break;
    case UNDO_GENERATION:
        slot->pub.generation = undo->a;
        slot_refresh(db, slot);
        break;
    case UNDO_CONFIG:
        slot_set_config(slot, undo->saved, (uint32_t)undo->a);
        slot_rehash(slot);
        slot_refresh(db, slot);
        free(undo->saved);
        break;
    case UNDO_CREATE:
        slot_leave(db, slot);
        slot_recycle(db, slot);
        break;
    case UNDO_DESTROY:
        slot_enter(db, slot);
        break;
    case UNDO_ENTRY_ADD:
    case UNDO_ENTRY_DROP:
        entries_undo(db, undo);
        break;
    }
}

void undo_all(struct vdc_allocdb *db)
{
    while (db->undo_len > 0) {
        struct undo undo = db->undo[--db->undo_len];
        undo_one(db, &undo);
    }
    db->saved_zones_len = 0;
}

void undo_forget(struct vdc_allocdb *db, uint64_t sequence)
{
    for (size_t i = 0; i < db->undo_len; i++) {
        const struct undo *undo = &db->undo[i];
        if (undo->slot != SLOT_NONE) {
            slot_at(db, undo->slot)->pub.sequence = sequence;
        }
        if (undo->kind == UNDO_CONFIG) {
            free(undo->saved);
        } else if (undo->kind == UNDO_DESTROY) {
            slot_recycle(db, slot_at(db, undo->slot));
        } else if (undo->kind == UNDO_ENTRY_ADD || undo->kind == UNDO_ENTRY_DROP) {
            entries_settle(db, undo, sequence);
        }
    }
    db->undo_len = 0;
    db->saved_zones_len = 0;
}
