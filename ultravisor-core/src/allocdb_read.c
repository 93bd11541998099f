/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "allocdb_internal.h"

const struct vdc_partition *vdc_allocdb_find_partition(const struct vdc_allocdb *db,
                                                       const struct vdc_id *id)
{
    uint32_t number = idmap_get(&db->by_id, id);
    return number == VDC_IDMAP_NONE ? NULL : &slot_at(db, number)->pub;
}

size_t vdc_allocdb_count_partitions(const struct vdc_allocdb *db)
{
    return db->partitions_len;
}

static int compare_partitions(const void *a, const void *b)
{
    const struct vdc_partition *x = *(const struct vdc_partition *const *)a;
    const struct vdc_partition *y = *(const struct vdc_partition *const *)b;
    int by_name = strcmp(x->name, y->name);
    return by_name != 0 ? by_name : vdc_id_compare(&x->id, &y->id);
}

const struct vdc_partition **vdc_allocdb_list_partitions(const struct vdc_allocdb *db, size_t *len)
{
    const struct vdc_partition **list =
        vdc_calloc((size_t)db->partitions_len + 1, sizeof(const struct vdc_partition *));
    *len = 0;
    for (uint32_t s = 0; s < db->slots_len; s++) {
        if (slot_at(db, s)->live) {
            list[(*len)++] = &slot_at(db, s)->pub;
        }
    }
    qsort(list, *len, sizeof(const struct vdc_partition *), compare_partitions);
    return list;
}

const struct vdc_zone_slice *vdc_allocdb_find_zone(const struct vdc_allocdb *db, const char *name)
{
    uint32_t z = zone_find(db, name);
    return z == ZONE_NONE ? NULL : &db->zones[z].pub;
}

const struct vdc_zone_slice *vdc_allocdb_zone_at(const struct vdc_allocdb *db, size_t i)
{
    return i < db->zones_len ? &db->zones[i].pub : NULL;
}

bool vdc_allocdb_numa_at(const struct vdc_allocdb *db, size_t i, struct vdc_numa_state *out)
{
    if (i >= db->numa_len) {
        return false;
    }
    const struct numa *numa = &db->numa[i];
    *out = (struct vdc_numa_state){
        .number = numa->number,
        .cpus = numa->cpus,
        .memory_bytes = numa->map.bytes,
        .free_bytes = numa->map.free_bytes,
        .largest_free_bytes = pagemap_largest_free(&numa->map),
    };
    for (uint32_t z = 0; z < db->zones_len; z++) {
        out->cpus_free += db->zones[z].free_numa[i];
    }
    return true;
}

static const struct vdc_partition *owner_of(const struct vdc_allocdb *db, uint32_t slot)
{
    return slot == SLOT_NONE ? NULL : &slot_at(db, slot)->pub;
}

bool vdc_allocdb_cpu_at(const struct vdc_allocdb *db, size_t i, struct vdc_cpu_state *out)
{
    if (i >= db->cpus_len) {
        return false;
    }
    const struct cpu *cpu = &db->cpus[i];
    *out = (struct vdc_cpu_state){.info = cpu->info,
                                  .zone = db->zones[cpu->zone].pub.name,
                                  .partition = owner_of(db, cpu->owner)};
    return true;
}

uint32_t vdc_allocdb_count_cpus(const struct vdc_allocdb *db)
{
    return db->cpus_len;
}

uint64_t vdc_allocdb_memory_bytes(const struct vdc_allocdb *db)
{
    return db->memory_bytes;
}

uint64_t vdc_allocdb_memory_free_bytes(const struct vdc_allocdb *db)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < db->numa_len; i++) {
        bytes += db->numa[i].map.free_bytes;
    }
    return bytes;
}

uint32_t vdc_allocdb_zone_cpus_free(const struct vdc_allocdb *db, const char *zone, uint32_t numa)
{
    uint32_t z = zone_find(db, zone);
    if (z == ZONE_NONE) {
        return 0;
    }
    if (numa == VDC_NUMA_ANY) {
        return db->zones[z].pub.cpus - db->zones[z].pub.cpus_dedicated;
    }
    uint32_t at = numa_index_of(db, numa);
    return at == UINT32_MAX ? 0 : db->zones[z].free_numa[at];
}

const struct vdc_partition *vdc_allocdb_cpu_owner(const struct vdc_allocdb *db, uint32_t number)
{
    uint32_t index = cpu_index_of(db, number);
    return index == UINT32_MAX ? NULL : owner_of(db, db->cpus[index].owner);
}

const struct vdc_partition *vdc_allocdb_memory_owner(const struct vdc_allocdb *db, uint32_t numa,
                                                     uint64_t addr, unsigned *steps)
{
    if (steps != NULL) {
        *steps = 0;
    }
    uint32_t at = numa_index_of(db, numa);
    if (at == UINT32_MAX) {
        return NULL;
    }
    return owner_partition(db, pagemap_owner(&db->numa[at].map, addr, steps));
}

/* The claim with the i-th smallest id: claims are few, so counting smaller ones is enough. */
bool vdc_allocdb_claim_at(const struct vdc_allocdb *db, size_t i, struct vdc_claim *out)
{
    for (uint32_t c = 0; c < db->claims_len; c++) {
        const struct claim *claim = &db->claims[c];
        size_t smaller = 0;
        for (uint32_t o = 0; o < db->claims_len; o++) {
            smaller += vdc_id_compare(&db->claims[o].id, &claim->id) < 0;
        }
        if (smaller == i) {
            *out = (struct vdc_claim){
                .id = claim->id, .partitions = claim->partitions, .sequence = claim->sequence};
            vdc_str_set(out->zone, sizeof(out->zone), db->zones[claim->zone].pub.name);
            return true;
        }
    }
    return false;
}

/* As many as a view has room for, in the order of their ids. */
static void fill_channels(const struct vdc_allocdb *db, const struct vdc_partition *partition,
                          struct vdc_view_content *out)
{
    size_t len;
    vdc_autofree const struct vdc_entry **entries = vdc_allocdb_entries_of(db, partition, &len);
    bool room = true;
    for (size_t i = 0; i < len; i++) {
        const struct vdc_channel *channel = &entries[i]->channel;
        if (entries[i]->kind != VDC_ENTRY_CHANNEL) {
            continue;
        }
        out->channels_total++;
        room = room && out->channels_len < VDC_VIEW_CHANNELS_MAX &&
               channel->blocks_len <= VDC_VIEW_CHANNEL_BLOCKS_MAX - out->channel_blocks_len;
        if (!room) {
            continue;
        }
        bool second = entries[i]->peer == partition;
        out->channels[out->channels_len++] = (struct vdc_view_channel){
            .id = channel->id,
            .peer = second ? entries[i]->partition->id : entries[i]->peer->id,
            .type = channel->type,
            .version = channel->version,
            .second = second,
            .bytes = channel->bytes,
            .blocks_at = out->channel_blocks_len,
            .blocks_len = channel->blocks_len,
        };
        for (uint32_t b = 0; b < channel->blocks_len; b++) {
            out->channel_blocks[out->channel_blocks_len++] = channel->blocks[b];
        }
    }
}

void vdc_allocdb_fill_view(const struct vdc_allocdb *db, const struct vdc_partition *partition,
                           struct vdc_view_content *out)
{
    const struct slot *slot = vdc_container_of(partition, struct slot, pub);
    VDC_ASSERT(slot->live);
    *out = (struct vdc_view_content){
        .partition = partition->id,
        .sequence = db->sequence,
        .generation = partition->generation,
        .incarnation = db->zones[slot->zone].pub.incarnation,
        .kind = partition->kind,
        .run = partition->run,
        .vcpus = partition->vcpus,
        .cpu_milli = partition->cpus_len > 0 ? partition->cpus_len * 1000 : partition->shared_milli,
        .cpus_len = partition->cpus_len,
        .blocks_len = partition->blocks_len,
        .memory_bytes = partition->held_bytes,
    };
    vdc_str_set(out->name, sizeof(out->name), partition->name);
    vdc_str_set(out->zone, sizeof(out->zone), partition->zone);
    for (uint32_t i = 0; i < partition->cpus_len; i++) {
        out->cpus[i] = partition->cpus[i];
    }
    for (uint32_t i = 0; i < partition->blocks_len; i++) {
        out->blocks[i] = partition->blocks[i];
    }
    fill_channels(db, partition, out);
}
