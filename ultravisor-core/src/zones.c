/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's CPUs and NUMA nodes, and the zones that they are divided among. Each change keeps the
 * bitmaps and counters right and has an inverse, so that undoing is calling the inverses backwards.
 */
#include <string.h>

#include "allocdb_internal.h"

/* --- zones --- */

uint32_t zone_find(const struct vdc_allocdb *db, const char *name)
{
    for (uint32_t i = 0; i < db->zones_len; i++) {
        const char *here = db->zones[i].pub.name;
        if (here[0] == name[0] && strcmp(here, name) == 0) {
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
    db->zones[z].name_hash = digest_of_zone_name(name);
    zone_rebuild_cpus(db, z);
    zone_touch(db, z);
    return z;
}

void zone_unmake(struct vdc_allocdb *db, uint32_t z)
{
    VDC_ASSERT(z + 1 == db->zones_len && z != NODE_ZONE);
    struct zone *zone = &db->zones[z];
    VDC_ASSERT(zone->pub.cpus == 0 && zone->pub.partitions == 0);
    /* It was made in the transaction that is undone, so it never was in the digest. */
    VDC_ASSERT(zone->item.lo == 0 && zone->item.hi == 0);
    free(zone->free);
    free(zone->free_numa);
    db->zones_len--;
}

void zone_touch(struct vdc_allocdb *db, uint32_t z)
{
    _Static_assert(VDC_ALLOCDB_ZONES_MAX <= 64, "a bit for each");
    zone_update_capacity(&db->zones[z].pub);
    db->touched_zones |= UINT64_C(1) << z;
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

static void set_owner(struct vdc_allocdb *db, uint32_t index, uint32_t owner)
{
    struct vdc_zone_slice *slice = &db->zones[db->cpus[index].zone].pub;
    bool is_free = owner == SLOT_NONE;
    cpu_mark(db, index, is_free);
    db->cpus[index].owner = owner;
    slice->cpus_dedicated = is_free ? slice->cpus_dedicated - 1 : slice->cpus_dedicated + 1;
    zone_update_capacity(slice);
}

void cpu_assign(struct vdc_allocdb *db, struct slot *slot, uint32_t index)
{
    uint16_t number = db->cpus[index].info.number;
    uint32_t len = slot->pub.cpus_len;
    VDC_ASSERT(db->cpus[index].owner == SLOT_NONE && len < VDC_VCPUS_MAX);
    slot_need_cpus(slot, len + 1);
    uint32_t at = len;
    while (at > 0 && slot->cpus[at - 1] > number) {
        slot->cpus[at] = slot->cpus[at - 1];
        at--;
    }
    slot->cpus[at] = number;
    slot->pub.cpus_len = len + 1;
    slot_touch(db, slot);
    set_owner(db, index, slot->number);
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
    slot_touch(db, slot);
    set_owner(db, index, SLOT_NONE);
}

/* For all CPUs that the slot lists, which are of its zone, whose they are. Inlined into each of its
 * two callers: it is most of what a partition's CPUs cost. */
static inline __attribute__((always_inline)) void set_owners(struct vdc_allocdb *db,
                                                             const struct slot *slot, bool taken)
{
    struct zone *zone = &db->zones[slot->zone];
    uint64_t *free_cpus = zone->free;
    uint32_t *free_numa = zone->free_numa;
    struct cpu *cpus = db->cpus;
    const uint16_t *cpu_index = db->cpu_index;
    const uint8_t *cpu_numa = db->cpu_numa;
    uint32_t owner = taken ? slot->number : SLOT_NONE;
    uint32_t len = slot->pub.cpus_len;
    for (uint32_t i = 0; i < len; i++) {
        uint32_t index = cpu_index[slot->cpus[i]] - 1u;
        uint64_t bit = UINT64_C(1) << (index % 64);
        uint64_t *word = &free_cpus[index / 64];
        VDC_ASSERT(((*word & bit) != 0) == taken);
        *word ^= bit;
        cpus[index].owner = owner;
        free_numa[cpu_numa[index]] += taken ? UINT32_MAX : 1;
    }
    zone->pub.cpus_dedicated += taken ? len : 0 - len;
    zone_update_capacity(&zone->pub);
}

void cpus_take(struct vdc_allocdb *db, const struct slot *slot)
{
    set_owners(db, slot, true);
}

void cpus_give(struct vdc_allocdb *db, const struct slot *slot)
{
    set_owners(db, slot, false);
}

void cpus_assign_first(struct vdc_allocdb *db, struct slot *slot, const uint16_t *cpus,
                       uint32_t len)
{
    VDC_ASSERT(slot->pub.cpus_len == 0 && len <= VDC_VCPUS_MAX);
    slot_need_cpus(slot, len);
    for (uint32_t i = 0; i < len; i++) {
        slot->cpus[i] = cpus[i];
    }
    slot->pub.cpus_len = len;
    cpus_take(db, slot);
    slot_touch(db, slot);
}

void cpus_release_all(struct vdc_allocdb *db, struct slot *slot)
{
    cpus_give(db, slot);
    slot->pub.cpus_len = 0;
    slot_touch(db, slot);
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
    free(db->cpu_number);
    db->cpu_number = vdc_calloc(set->cpus_len, sizeof(db->cpu_number[0]));
    for (uint32_t i = 0; i < set->cpus_len; i++) {
        db->cpu_index[set->cpus[i].number] = (uint16_t)(i + 1);
        db->cpu_number[i] = set->cpus[i].number;
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
    free(db->cpu_numa);
    db->cpu_numa = vdc_calloc(db->cpus_len, sizeof(db->cpu_numa[0]));
    _Static_assert(VDC_NUMA_NODES_MAX <= UINT8_MAX, "a NUMA index is a byte");
    for (uint32_t i = 0; i < db->cpus_len; i++) {
        db->cpu_numa[i] = (uint8_t)numa_index_of(db, db->cpus[i].info.numa);
        struct numa *numa = &db->numa[db->cpu_numa[i]];
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
        zone_touch(db, z);
    }
}
