/* SPDX-License-Identifier: Apache-2.0 */
/* What readers get of the entries. */
#include <string.h>

#include "entries.h"

const struct vdc_partition *owner_partition(const struct vdc_allocdb *db, uint32_t owner)
{
    if (owner == PAGE_OWNER_NONE) {
        return NULL;
    }
    return owner >= ENTRY_OWNER_BASE ? entry_at(db, owner - ENTRY_OWNER_BASE)->pub.partition
                                     : &slot_at(db, owner)->pub;
}

const struct vdc_entry *vdc_allocdb_memory_channel(const struct vdc_allocdb *db, uint32_t numa,
                                                   uint64_t addr)
{
    uint32_t at = numa_index_of(db, numa);
    uint32_t owner =
        at == UINT32_MAX ? PAGE_OWNER_NONE : pagemap_owner(&db->numa[at].map, addr, NULL);
    bool is_channel = owner != PAGE_OWNER_NONE && owner >= ENTRY_OWNER_BASE;
    return is_channel ? &entry_at(db, owner - ENTRY_OWNER_BASE)->pub : NULL;
}

static const struct vdc_entry *pub_of(const struct entry *entry)
{
    return entry == NULL ? NULL : &entry->pub;
}

const struct vdc_entry *vdc_allocdb_find_device(const struct vdc_allocdb *db, const char *address)
{
    return pub_of(entry_find_device(db, address));
}

const struct vdc_entry *vdc_allocdb_find_volume(const struct vdc_allocdb *db,
                                                const struct vdc_id *volume,
                                                const struct vdc_id *partition)
{
    return pub_of(entry_find_volume(db, volume, partition));
}

const struct vdc_entry *vdc_allocdb_find_port(const struct vdc_allocdb *db, const uint8_t mac[6])
{
    return pub_of(entry_find_port(db, mac));
}

const struct vdc_entry *vdc_allocdb_find_channel(const struct vdc_allocdb *db,
                                                 const struct vdc_id *id)
{
    return pub_of(entry_find_channel(db, id));
}

uint64_t vdc_allocdb_promised(const struct vdc_allocdb *db, const char *zone, const char *node)
{
    const struct entry *entry = entry_find_promise(db, zone, node);
    return entry == NULL ? 0 : entry->pub.promise.incarnation;
}

size_t vdc_allocdb_count_entries(const struct vdc_allocdb *db, enum vdc_entry_kind kind)
{
    return db->entry_counts[kind];
}

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = *(const struct entry *const *)a;
    const struct entry *y = *(const struct entry *const *)b;
    int order = memcmp(x->key.bytes, y->key.bytes, VDC_MIN(x->key.len, y->key.len));
    return order != 0 ? order : (x->key.len > y->key.len) - (x->key.len < y->key.len);
}

/* pub is the first field of an entry, so that the sorted array serves both. */
_Static_assert(offsetof(struct entry, pub) == 0, "an entry begins with what readers see");

const struct vdc_entry **vdc_allocdb_list_entries(const struct vdc_allocdb *db,
                                                  enum vdc_entry_kind kind, size_t *len)
{
    const struct vdc_entry **list =
        vdc_calloc((size_t)db->entry_counts[kind] + 1, sizeof(const struct vdc_entry *));
    *len = 0;
    for (uint32_t i = 0; i < db->entries_len; i++) {
        if (db->entries[i]->live && db->entries[i]->pub.kind == kind) {
            list[(*len)++] = &db->entries[i]->pub;
        }
    }
    qsort(list, *len, sizeof(const struct vdc_entry *), compare_entries);
    return list;
}

const struct vdc_entry **vdc_allocdb_entries_of(const struct vdc_allocdb *db,
                                                const struct vdc_partition *partition, size_t *len)
{
    const struct slot *slot = vdc_container_of(partition, struct slot, pub);
    const struct vdc_entry **list =
        vdc_calloc((size_t)slot->entries_len + 1, sizeof(const struct vdc_entry *));
    *len = slot->entries_len;
    for (uint32_t i = 0; i < slot->entries_len; i++) {
        list[i] = &entry_at(db, slot->entries[i])->pub;
    }
    qsort(list, *len, sizeof(const struct vdc_entry *), compare_entries);
    return list;
}
