/* SPDX-License-Identifier: Apache-2.0 */
/* Every invariant of the entries from nothing. */
#include <string.h>

#include "entries.h"

static enum vdc_rc broken(struct vdc_err *err, const char *what, const struct entry *entry)
{
    return vdc_err_set(err, VDC_RC_INTERNAL, "allocation database: %s %u: %s",
                       vdc_entry_kind_name(entry->pub.kind), entry->number, what);
}

static bool is_listed(const struct vdc_allocdb *db, uint32_t slot_number, uint32_t entry)
{
    if (slot_number == SLOT_NONE) {
        return true;
    }
    const struct slot *slot = slot_at(db, slot_number);
    uint32_t times = 0;
    for (uint32_t i = 0; i < slot->entries_len; i++) {
        times += slot->entries[i] == entry;
    }
    return slot->live && times == 1;
}

static enum vdc_rc check_channel(const struct vdc_allocdb *db, const struct entry *entry,
                                 uint64_t *numa_used, uint64_t *zone_used, struct vdc_err *err)
{
    const struct vdc_channel *channel = &entry->pub.channel;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < channel->blocks_len; i++) {
        const struct vdc_memory_block *block = &channel->blocks[i];
        uint32_t numa = numa_index_of(db, block->numa);
        if (numa == UINT32_MAX || !pagemap_range_is(&db->numa[numa].map, block->addr, block->bytes,
                                                    ENTRY_OWNER_BASE + entry->number)) {
            return broken(err, "a block is not its own in the page map", entry);
        }
        numa_used[numa] += block->bytes;
        sum += block->bytes;
    }
    zone_used[entry->zone] += sum;
    return sum == channel->bytes ? VDC_RC_OK : broken(err, "bytes are not the blocks' sum", entry);
}

static enum vdc_rc check_entry(const struct vdc_allocdb *db, const struct entry *entry,
                               struct vdc_err *err)
{
    struct entry_key key = entry_key_of(entry);
    if (entry_find(db, &key) != entry) {
        return broken(err, "not found by its key", entry);
    }
    if (entry->zone >= db->zones_len ||
        strcmp(db->zones[entry->zone].pub.name, entry->pub.zone) != 0 ||
        !entry_owners_fit(db, entry)) {
        return broken(err, "of a zone or owner that it cannot have", entry);
    }
    if (!is_listed(db, entry->owner, entry->number) || !is_listed(db, entry->peer, entry->number)) {
        return broken(err, "not in its owner's list", entry);
    }
    if (entry->pub.kind == VDC_ENTRY_PORT &&
        entry_find_port_name(db, entry->pub.port.name) != entry) {
        return broken(err, "not found by its name", entry);
    }
    return VDC_RC_OK;
}

/* Counts anew who uses each volume. */
static enum vdc_rc check_volumes(const struct vdc_allocdb *db, struct vdc_err *err)
{
    struct idmap uses = {0};
    enum vdc_rc rc = VDC_RC_OK;
    for (uint32_t i = 0; i < db->entries_len; i++) {
        const struct entry *entry = db->entries[i];
        if (!entry->live || entry->pub.kind != VDC_ENTRY_VOLUME) {
            continue;
        }
        const struct vdc_volume_use *use = &entry->pub.volume;
        uint32_t before = idmap_get(&uses, &use->volume);
        bool alone = before == VDC_IDMAP_NONE;
        if (!alone && (before == 0 || use->mode == VDC_VOLUME_WRITE)) {
            rc = broken(err, "the volume has a writer and somebody else", entry);
        }
        uint32_t readers = alone ? 0 : before;
        volume_set_use(&uses, &use->volume,
                       use->mode == VDC_VOLUME_WRITE ? VOLUME_WRITTEN : readers + 1);
    }
    for (uint32_t i = 0; rc == VDC_RC_OK && i < db->entries_len; i++) {
        const struct entry *entry = db->entries[i];
        bool is_use = entry->live && entry->pub.kind == VDC_ENTRY_VOLUME;
        if (is_use && idmap_get(&uses, &entry->pub.volume.volume) !=
                          idmap_get(&db->volume_uses, &entry->pub.volume.volume)) {
            rc = broken(err, "the volume's users are counted wrongly", entry);
        }
    }
    if (rc == VDC_RC_OK && uses.len != db->volume_uses.len) {
        rc = vdc_err_set(err, VDC_RC_INTERNAL, "allocation database: volumes without users");
    }
    idmap_deinit(&uses);
    return rc;
}

enum vdc_rc entries_check(const struct vdc_allocdb *db, uint64_t *numa_used, uint64_t *zone_used,
                          struct vdc_err *err)
{
    uint32_t counts[VDC_ENTRY_KIND_COUNT] = {0};
    uint64_t listed = 0;
    for (uint32_t i = 0; i < db->entries_len; i++) {
        const struct entry *entry = db->entries[i];
        if (!entry->live) {
            continue;
        }
        counts[entry->pub.kind]++;
        listed += entry->owner != SLOT_NONE;
        listed += entry->peer != SLOT_NONE;
        enum vdc_rc rc = check_entry(db, entry, err);
        if (rc == VDC_RC_OK && entry->pub.kind == VDC_ENTRY_CHANNEL) {
            rc = check_channel(db, entry, numa_used, zone_used, err);
        }
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    for (uint32_t s = 0; s < db->slots_len; s++) {
        listed -= slot_at(db, s)->entries_len;
    }
    if (listed != 0 || memcmp(counts, db->entry_counts, sizeof(counts)) != 0) {
        return vdc_err_set(err, VDC_RC_INTERNAL, "allocation database: number of entries");
    }
    return check_volumes(db, err);
}
