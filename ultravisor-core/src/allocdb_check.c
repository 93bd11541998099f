/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every invariant from nothing. It shares with the changes only the hash of an item: what is summed,
 * and what is counted, is found anew from the CPUs, the page maps and the partitions.
 */
#include <string.h>

#include "allocdb_internal.h"

#define ull(x) ((unsigned long long)(x))

/* What the partitions of one zone hold, counted. */
struct held {
    uint64_t shared_milli;
    uint64_t memory_bytes;
    uint32_t partitions;
};

static enum vdc_rc broken(struct vdc_err *err, const char *what, const char *name)
{
    return vdc_err_set(err, VDC_RC_INTERNAL, "allocation database: %s: %s", what, name);
}

static enum vdc_rc check_blocks(const struct vdc_allocdb *db, const struct slot *slot,
                                uint64_t *numa_used, struct vdc_err *err)
{
    const struct vdc_partition *pub = &slot->pub;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < pub->blocks_len; i++) {
        const struct vdc_memory_block *b = &pub->blocks[i];
        uint32_t numa = numa_index_of(db, b->numa);
        if (numa == UINT32_MAX ||
            !pagemap_range_is(&db->numa[numa].map, b->addr, b->bytes, slot->number)) {
            return broken(err, "a block is not its partition's in the page map", pub->name);
        }
        if (i > 0 && (b[-1].numa > b->numa ||
                      (b[-1].numa == b->numa && b[-1].addr + b[-1].bytes >= b->addr))) {
            return broken(err, "blocks are not maximal runs in ascending order", pub->name);
        }
        numa_used[numa] += b->bytes;
        sum += b->bytes;
    }
    if (sum != pub->held_bytes) {
        return broken(err, "held bytes are not the blocks' sum", pub->name);
    }
    if (pub->blocks_len > VDC_VIEW_BLOCKS_MAX) {
        return broken(err, "more blocks than a view shows", pub->name);
    }
    return VDC_RC_OK;
}

static enum vdc_rc check_slot(const struct vdc_allocdb *db, const struct slot *slot,
                              uint64_t *numa_used, uint32_t *dedicated, struct vdc_err *err)
{
    const struct vdc_partition *pub = &slot->pub;
    if (idmap_get(&db->by_id, &pub->id) != slot->number) {
        return broken(err, "not found by its id", pub->name);
    }
    if (slot->zone >= db->zones_len || strcmp(db->zones[slot->zone].pub.name, pub->zone) != 0 ||
        !db->zones[slot->zone].pub.joined) {
        return broken(err, "in a zone that is not here", pub->name);
    }
    if (pub->cpus_len > 0 && pub->shared_milli > 0) {
        return broken(err, "dedicated and shared CPUs", pub->name);
    }
    for (uint32_t i = 0; i < pub->cpus_len; i++) {
        uint32_t index = cpu_index_of(db, pub->cpus[i]);
        if (index == UINT32_MAX || db->cpus[index].owner != slot->number ||
            db->cpus[index].zone != slot->zone || (i > 0 && pub->cpus[i] <= pub->cpus[i - 1])) {
            return broken(err, "has a CPU that is not its own", pub->name);
        }
    }
    *dedicated += pub->cpus_len;
    if (!vdc_id_is_none(&pub->claim) && claim_find(db, &pub->claim) == NULL) {
        return broken(err, "held by a claim that is not there", pub->name);
    }
    return check_blocks(db, slot, numa_used, err);
}

static enum vdc_rc check_zone(const struct vdc_allocdb *db, uint32_t z, const struct held *held,
                              struct vdc_err *err)
{
    const struct zone *zone = &db->zones[z];
    const struct vdc_zone_slice *pub = &zone->pub;
    uint32_t cpus = 0;
    uint32_t dedicated = 0;
    vdc_autofree uint32_t *free_numa = vdc_calloc(db->numa_len + 1ul, sizeof(uint32_t));
    for (uint32_t i = 0; i < db->cpus_len; i++) {
        bool here = db->cpus[i].zone == z;
        bool is_free = here && db->cpus[i].owner == SLOT_NONE;
        cpus += here;
        dedicated += here && !is_free;
        free_numa[numa_index_of(db, db->cpus[i].info.numa)] += is_free;
        if (((zone->free[i / 64] >> (i % 64) & 1) != 0) != is_free) {
            return broken(err, "bitmap of free CPUs", pub->name);
        }
    }
    for (uint32_t i = 0; i < db->numa_len; i++) {
        if (free_numa[i] != zone->free_numa[i]) {
            return broken(err, "free CPUs per NUMA node", pub->name);
        }
    }
    if (cpus != pub->cpus || dedicated != pub->cpus_dedicated ||
        zone_capacity(pub, cpus - dedicated) != pub->shared_capacity_milli) {
        return broken(err, "CPU counters", pub->name);
    }
    if (held->shared_milli != pub->shared_used_milli ||
        pub->shared_used_milli > pub->shared_capacity_milli) {
        return broken(err, "shared milli-CPU", pub->name);
    }
    if (held->memory_bytes != pub->memory_used_bytes ||
        pub->memory_used_bytes > pub->memory_bytes) {
        return broken(err, "memory of the slice", pub->name);
    }
    if (held->partitions != pub->partitions) {
        return broken(err, "number of partitions", pub->name);
    }
    if (!pub->joined && (pub->cpus > 0 || pub->memory_bytes > 0 || pub->partitions > 0)) {
        return broken(err, "left, but holds something", pub->name);
    }
    return VDC_RC_OK;
}

static enum vdc_rc check_claims(const struct vdc_allocdb *db, struct vdc_err *err)
{
    uint64_t hanging = 0;
    for (uint32_t i = 0; i < db->claims_len; i++) {
        const struct claim *claim = &db->claims[i];
        uint32_t partitions = 0;
        for (uint32_t s = claim->first_slot; s != SLOT_NONE; s = slot_at(db, s)->next_in_claim) {
            const struct slot *slot = slot_at(db, s);
            if (!slot->live || !vdc_id_equal(&slot->pub.claim, &claim->id) ||
                slot->zone != claim->zone) {
                return broken(err, "hangs in a wrong claim", slot->pub.name);
            }
            partitions++;
        }
        if (partitions != claim->partitions || partitions == 0 ||
            claim_find(db, &claim->id) != claim) {
            return broken(err, "a claim's partitions", db->zones[claim->zone].pub.name);
        }
        hanging += partitions;
    }
    for (uint32_t s = 0; s < db->slots_len; s++) {
        const struct slot *slot = slot_at(db, s);
        hanging -= slot->live && !vdc_id_is_none(&slot->pub.claim);
    }
    return hanging == 0 ? VDC_RC_OK : broken(err, "claimed, but in no claim", "some partition");
}

static struct vdc_digest digest_from_nothing(const struct vdc_allocdb *db)
{
    struct vdc_digest sum = entries_digest(db);
    struct vdc_digest item;
    for (uint32_t i = 0; i < db->cpus_len; i++) {
        item = digest_of_cpu(db, i);
        digest_add(&sum, &item);
    }
    for (uint32_t i = 0; i < db->numa_len; i++) {
        item = digest_of_numa(&db->numa[i]);
        digest_add(&sum, &item);
    }
    for (uint32_t i = 0; i < db->zones_len; i++) {
        item = digest_of_zone(&db->zones[i]);
        digest_add(&sum, &item);
    }
    for (uint32_t i = 0; i < db->claims_len; i++) {
        item = digest_of_claim(db, &db->claims[i]);
        digest_add(&sum, &item);
    }
    for (uint32_t s = 0; s < db->slots_len; s++) {
        struct slot copy = *slot_at(db, s);
        if (copy.live) {
            copy.identity = slot_identity(&copy);
            item = digest_of_slot(db, &copy);
            digest_add(&sum, &item);
        }
    }
    return sum;
}

static enum vdc_rc check_sums(const struct vdc_allocdb *db, const uint64_t *numa_used,
                              uint32_t dedicated, struct vdc_err *err)
{
    uint64_t memory = 0;
    uint64_t slices = 0;
    uint32_t owned = 0;
    for (uint32_t i = 0; i < db->numa_len; i++) {
        const struct pagemap *map = &db->numa[i].map;
        enum vdc_rc rc = pagemap_check(map, err);
        if (rc != VDC_RC_OK) {
            return rc;
        }
        if (numa_used[i] != map->bytes - map->free_bytes) {
            return broken(err, "memory that no partition's blocks name", "page map");
        }
        memory += map->bytes;
    }
    for (uint32_t z = 0; z < db->zones_len; z++) {
        if (db->zones[z].pub.memory_bytes > memory - slices) {
            return broken(err, "slices exceed the node's memory", db->zones[z].pub.name);
        }
        slices += db->zones[z].pub.memory_bytes;
    }
    for (uint32_t i = 0; i < db->cpus_len; i++) {
        owned += db->cpus[i].owner != SLOT_NONE;
    }
    if (memory != db->memory_bytes || slices != memory || owned != dedicated) {
        return broken(err, "totals", "node");
    }
    struct vdc_digest digest = digest_from_nothing(db);
    if (!vdc_digest_equal(&digest, &db->digest)) {
        return broken(err, "digest", "differs from the one computed from nothing");
    }
    return VDC_RC_OK;
}

enum vdc_rc vdc_allocdb_check(const struct vdc_allocdb *db, struct vdc_err *err)
{
    vdc_autofree struct held *held = vdc_calloc(db->zones_len, sizeof(held[0]));
    vdc_autofree uint64_t *numa_used = vdc_calloc(db->numa_len + 1ul, sizeof(uint64_t));
    uint32_t dedicated = 0;
    uint32_t live = 0;
    enum vdc_rc rc = VDC_RC_OK;
    for (uint32_t s = 0; rc == VDC_RC_OK && s < db->slots_len; s++) {
        const struct slot *slot = slot_at(db, s);
        if (!slot->live) {
            continue;
        }
        live++;
        rc = check_slot(db, slot, numa_used, &dedicated, err);
        if (rc == VDC_RC_OK) {
            held[slot->zone].shared_milli += slot->pub.shared_milli;
            held[slot->zone].memory_bytes += slot->pub.held_bytes;
            held[slot->zone].partitions++;
        }
    }
    if (rc == VDC_RC_OK && (live != db->partitions_len || db->by_id.len != live)) {
        rc = broken(err, "number of partitions", "node");
    }
    vdc_autofree uint64_t *zone_used = vdc_calloc(db->zones_len, sizeof(uint64_t));
    if (rc == VDC_RC_OK) {
        rc = entries_check(db, numa_used, zone_used, err);
    }
    for (uint32_t z = 0; rc == VDC_RC_OK && z < db->zones_len; z++) {
        held[z].memory_bytes += zone_used[z];
        rc = check_zone(db, z, &held[z], err);
    }
    if (rc == VDC_RC_OK) {
        rc = check_claims(db, err);
    }
    return rc == VDC_RC_OK ? check_sums(db, numa_used, dedicated, err) : rc;
}
