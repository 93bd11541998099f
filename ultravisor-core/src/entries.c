/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of entries. One hash table by key serves all kinds, because a key begins with its kind;
 * ports have a second one by name, and of volumes it is counted who reads or writes them. Each
 * partition lists the entries that it owns or is an endpoint of, so that its end costs what it has.
 */
#include "entries.h"

#include <string.h>

const char *vdc_entry_kind_name(enum vdc_entry_kind kind)
{
    static const char *const names[] = {"device", "volume", "port", "channel", "promise"};
    _Static_assert(VDC_COUNT_OF(names) == VDC_ENTRY_KIND_COUNT, "VDC_ENTRY_KIND_COUNT");
    return (unsigned)kind < VDC_ENTRY_KIND_COUNT ? names[kind] : "unknown";
}

/* --- keys --- */

static struct entry_key key_begin(enum vdc_entry_kind kind)
{
    return (struct entry_key){.bytes = {(uint8_t)kind}, .len = 1};
}

static void key_put(struct entry_key *key, const void *data, size_t len)
{
    VDC_ASSERT(len <= sizeof(key->bytes) - key->len);
    memcpy(key->bytes + key->len, data, len);
    key->len += (uint32_t)len;
}

static struct entry_key key_of_volume(const struct vdc_id *volume, const struct vdc_id *partition)
{
    struct entry_key key = key_begin(VDC_ENTRY_VOLUME);
    key_put(&key, volume->bytes, sizeof(volume->bytes));
    key_put(&key, partition->bytes, sizeof(partition->bytes));
    return key;
}

static struct entry_key key_of_promise(const char *zone, const char *node)
{
    struct entry_key key = key_begin(VDC_ENTRY_PROMISE);
    key_put(&key, zone, strlen(zone) + 1);
    key_put(&key, node, strlen(node));
    return key;
}

struct entry_key entry_key_of(const struct entry *entry)
{
    struct entry_key key = key_begin(entry->pub.kind);
    switch (entry->pub.kind) {
    case VDC_ENTRY_DEVICE:
        key_put(&key, entry->pub.device.address, strlen(entry->pub.device.address));
        break;
    case VDC_ENTRY_VOLUME:
        return key_of_volume(&entry->pub.volume.volume, &entry->pub.partition->id);
    case VDC_ENTRY_PORT:
        key_put(&key, entry->pub.port.mac, sizeof(entry->pub.port.mac));
        break;
    case VDC_ENTRY_CHANNEL:
        key_put(&key, entry->pub.channel.id.bytes, sizeof(entry->pub.channel.id.bytes));
        break;
    case VDC_ENTRY_PROMISE:
        return key_of_promise(entry->pub.zone, entry->pub.promise.node);
    }
    return key;
}

struct entry *entry_find(const struct vdc_allocdb *db, const struct entry_key *key)
{
    struct entry *entry;
    HASH_FIND(hh, db->entry_by_key, key->bytes, key->len, entry);
    return entry;
}

struct entry *entry_find_device(const struct vdc_allocdb *db, const char *address)
{
    struct entry_key key = key_begin(VDC_ENTRY_DEVICE);
    size_t len = strlen(address);
    if (len >= VDC_DEVICE_ADDRESS_CAP) {
        return NULL;
    }
    key_put(&key, address, len);
    return entry_find(db, &key);
}

struct entry *entry_find_volume(const struct vdc_allocdb *db, const struct vdc_id *volume,
                                const struct vdc_id *partition)
{
    struct entry_key key = key_of_volume(volume, partition);
    return entry_find(db, &key);
}

struct entry *entry_find_port(const struct vdc_allocdb *db, const uint8_t mac[6])
{
    struct entry_key key = key_begin(VDC_ENTRY_PORT);
    key_put(&key, mac, 6);
    return entry_find(db, &key);
}

struct entry *entry_find_port_name(const struct vdc_allocdb *db, const char *name)
{
    struct entry *entry;
    HASH_FIND(hh_name, db->port_by_name, name, (unsigned)strlen(name), entry);
    return entry;
}

struct entry *entry_find_channel(const struct vdc_allocdb *db, const struct vdc_id *id)
{
    struct entry_key key = key_begin(VDC_ENTRY_CHANNEL);
    key_put(&key, id->bytes, sizeof(id->bytes));
    return entry_find(db, &key);
}

struct entry *entry_find_promise(const struct vdc_allocdb *db, const char *zone, const char *node)
{
    if (strlen(zone) > VDC_NAME_MAX || strlen(node) > VDC_NAME_MAX) {
        return NULL;
    }
    struct entry_key key = key_of_promise(zone, node);
    return entry_find(db, &key);
}

/* --- volumes --- */

uint32_t volume_use(const struct vdc_allocdb *db, const struct vdc_id *volume)
{
    uint32_t use = idmap_get(&db->volume_uses, volume);
    /* The map has no way to say "none" but this value; a writer is stored as 0. */
    return use == VDC_IDMAP_NONE ? 0 : use == 0 ? VOLUME_WRITTEN : use;
}

void volume_set_use(struct idmap *uses, const struct vdc_id *volume, uint32_t use)
{
    if (idmap_get(uses, volume) != VDC_IDMAP_NONE) {
        idmap_remove(uses, volume);
    }
    if (use != 0) {
        idmap_put(uses, volume, use == VOLUME_WRITTEN ? 0 : use);
    }
}

static void volume_count(struct vdc_allocdb *db, const struct vdc_volume_use *use, bool begins)
{
    uint32_t now = volume_use(db, &use->volume);
    if (use->mode == VDC_VOLUME_WRITE) {
        VDC_ASSERT(now == (begins ? 0 : VOLUME_WRITTEN));
        volume_set_use(&db->volume_uses, &use->volume, begins ? VOLUME_WRITTEN : 0);
        return;
    }
    VDC_ASSERT(now != VOLUME_WRITTEN && (begins || now > 0));
    volume_set_use(&db->volume_uses, &use->volume, begins ? now + 1 : now - 1);
}

/* --- digest --- */

static struct vdc_digest digest_of_entry(const struct entry *entry)
{
    const struct vdc_entry *pub = &entry->pub;
    struct vdc_digest hash = digest_begin(DIGEST_ENTRY + (unsigned)pub->kind);
    static const struct vdc_id none;
    digest_bytes(&hash, entry->key.bytes, entry->key.len);
    digest_bytes(&hash, pub->zone, strlen(pub->zone));
    digest_id(&hash, pub->partition == NULL ? &none : &pub->partition->id);
    digest_id(&hash, pub->peer == NULL ? &none : &pub->peer->id);
    switch (pub->kind) {
    case VDC_ENTRY_DEVICE:
        digest_pair(&hash, pub->device.kind, pub->device.numa);
        break;
    case VDC_ENTRY_VOLUME:
        digest_pair(&hash, pub->volume.mode, pub->volume.generation);
        break;
    case VDC_ENTRY_PORT:
        digest_bytes(&hash, pub->port.name, strlen(pub->port.name));
        digest_bytes(&hash, pub->port.network, strlen(pub->port.network));
        break;
    case VDC_ENTRY_CHANNEL:
        digest_pair(&hash, (uint64_t)pub->channel.type << 32 | pub->channel.version,
                    pub->channel.bytes);
        for (uint32_t i = 0; i < pub->channel.blocks_len; i++) {
            digest_pair(&hash, pub->channel.blocks[i].addr | pub->channel.blocks[i].numa,
                        pub->channel.blocks[i].bytes);
        }
        break;
    case VDC_ENTRY_PROMISE:
        digest_pair(&hash, pub->promise.incarnation, 0);
        break;
    }
    return digest_end(hash);
}

struct vdc_digest entries_digest(const struct vdc_allocdb *db)
{
    struct vdc_digest sum = {0};
    for (uint32_t i = 0; i < db->entries_len; i++) {
        if (db->entries[i]->live) {
            struct vdc_digest item = digest_of_entry(db->entries[i]);
            digest_add(&sum, &item);
        }
    }
    return sum;
}

/* --- the table --- */

struct entry *entry_at(const struct vdc_allocdb *db, uint32_t number)
{
    VDC_ASSERT(number < db->entries_len);
    return db->entries[number];
}

struct entry *entry_make(struct vdc_allocdb *db, enum vdc_entry_kind kind, uint32_t zone,
                         uint32_t owner, uint32_t peer)
{
    uint32_t number = db->entries_unused;
    if (number == SLOT_NONE) {
        VDC_GROW(db->entries, db->entries_cap, (size_t)db->entries_len + 1);
        number = db->entries_len++;
        db->entries[number] = VDC_NEW(struct entry);
    } else {
        db->entries_unused = db->entries[number]->next_unused;
    }
    struct entry *entry = db->entries[number];
    *entry = (struct entry){.number = number, .zone = zone, .owner = owner, .peer = peer};
    entry->pub.kind = kind;
    memcpy(entry->pub.zone, db->zones[zone].pub.name, sizeof(entry->pub.zone));
    entry->pub.partition = owner == SLOT_NONE ? NULL : &slot_at(db, owner)->pub;
    entry->pub.peer = peer == SLOT_NONE ? NULL : &slot_at(db, peer)->pub;
    return entry;
}

struct entry *entry_copy(struct vdc_allocdb *db, const struct entry *entry)
{
    VDC_ASSERT(entry->pub.kind != VDC_ENTRY_CHANNEL);
    struct entry *copy = entry_make(db, entry->pub.kind, entry->zone, entry->owner, entry->peer);
    copy->pub = entry->pub;
    return copy;
}

void entry_recycle(struct vdc_allocdb *db, struct entry *entry)
{
    VDC_ASSERT(!entry->live);
    free(entry->blocks);
    entry->blocks = NULL;
    entry->next_unused = db->entries_unused;
    db->entries_unused = entry->number;
}

static void list_add(struct vdc_allocdb *db, uint32_t slot_number, uint32_t entry)
{
    if (slot_number == SLOT_NONE) {
        return;
    }
    struct slot *slot = slot_at(db, slot_number);
    VDC_GROW(slot->entries, slot->entries_cap, (size_t)slot->entries_len + 1);
    slot->entries[slot->entries_len++] = entry;
}

static void list_remove(struct vdc_allocdb *db, uint32_t slot_number, uint32_t entry)
{
    if (slot_number == SLOT_NONE) {
        return;
    }
    struct slot *slot = slot_at(db, slot_number);
    uint32_t at = 0;
    while (slot->entries[at] != entry) {
        at++;
        VDC_ASSERT(at < slot->entries_len);
    }
    slot->entries[at] = slot->entries[--slot->entries_len];
}

static void channel_memory(struct vdc_allocdb *db, struct entry *entry, bool takes)
{
    const struct vdc_channel *channel = &entry->pub.channel;
    for (uint32_t i = 0; i < channel->blocks_len; i++) {
        const struct vdc_memory_block *block = &channel->blocks[i];
        struct pagemap *map = &db->numa[numa_index_of(db, block->numa)].map;
        if (takes) {
            pagemap_take(map, block->addr, block->bytes, ENTRY_OWNER_BASE + entry->number);
        } else {
            pagemap_free(map, block->addr, block->bytes);
        }
    }
    uint64_t *used = &db->zones[entry->zone].pub.memory_used_bytes;
    *used = takes ? *used + channel->bytes : *used - channel->bytes;
}

void entry_enter(struct vdc_allocdb *db, struct entry *entry)
{
    VDC_ASSERT(!entry->live);
    entry->live = true;
    entry->key = entry_key_of(entry);
    HASH_ADD_KEYPTR(hh, db->entry_by_key, entry->key.bytes, entry->key.len, entry);
    list_add(db, entry->owner, entry->number);
    list_add(db, entry->peer, entry->number);
    db->entry_counts[entry->pub.kind]++;
    switch (entry->pub.kind) {
    case VDC_ENTRY_VOLUME:
        volume_count(db, &entry->pub.volume, true);
        break;
    case VDC_ENTRY_PORT:
        HASH_ADD_KEYPTR(hh_name, db->port_by_name, entry->pub.port.name,
                        (unsigned)strlen(entry->pub.port.name), entry);
        break;
    case VDC_ENTRY_CHANNEL:
        channel_memory(db, entry, true);
        break;
    case VDC_ENTRY_DEVICE:
    case VDC_ENTRY_PROMISE:
        break;
    }
    entry->item = digest_of_entry(entry);
    digest_add(&db->digest, &entry->item);
}

void entry_leave(struct vdc_allocdb *db, struct entry *entry)
{
    VDC_ASSERT(entry->live);
    digest_sub(&db->digest, &entry->item);
    switch (entry->pub.kind) {
    case VDC_ENTRY_VOLUME:
        volume_count(db, &entry->pub.volume, false);
        break;
    case VDC_ENTRY_PORT:
        HASH_DELETE(hh_name, db->port_by_name, entry);
        break;
    case VDC_ENTRY_CHANNEL:
        channel_memory(db, entry, false);
        break;
    case VDC_ENTRY_DEVICE:
    case VDC_ENTRY_PROMISE:
        break;
    }
    db->entry_counts[entry->pub.kind]--;
    list_remove(db, entry->peer, entry->number);
    list_remove(db, entry->owner, entry->number);
    HASH_DELETE(hh, db->entry_by_key, entry);
    entry->live = false;
}

static void push_undo(struct vdc_allocdb *db, enum undo_kind kind, const struct entry *entry)
{
    undo_push(db, kind, entry->owner)->number = entry->number;
    if (entry->owner != SLOT_NONE) {
        slot_touch(db, slot_at(db, entry->owner));
    }
    if (entry->peer != SLOT_NONE) {
        slot_touch(db, slot_at(db, entry->peer));
    }
}

void entry_add(struct vdc_allocdb *db, struct entry *entry)
{
    entry_enter(db, entry);
    push_undo(db, UNDO_ENTRY_ADD, entry);
}

void entry_drop(struct vdc_allocdb *db, struct entry *entry)
{
    entry_leave(db, entry);
    push_undo(db, UNDO_ENTRY_DROP, entry);
}

void entry_set_device(struct vdc_allocdb *db, struct entry *entry, uint32_t zone, uint32_t owner)
{
    struct entry *changed = entry_copy(db, entry);
    changed->zone = zone;
    changed->owner = owner;
    memcpy(changed->pub.zone, db->zones[zone].pub.name, sizeof(changed->pub.zone));
    changed->pub.partition = owner == SLOT_NONE ? NULL : &slot_at(db, owner)->pub;
    entry_drop(db, entry);
    entry_add(db, changed);
}

void entries_undo(struct vdc_allocdb *db, const struct undo *undo)
{
    struct entry *entry = entry_at(db, undo->number);
    if (undo->kind == UNDO_ENTRY_DROP) {
        entry_enter(db, entry);
        return;
    }
    entry_leave(db, entry);
    entry_recycle(db, entry);
}

void entries_settle(struct vdc_allocdb *db, const struct undo *undo, uint64_t sequence)
{
    struct entry *entry = entry_at(db, undo->number);
    if (undo->kind == UNDO_ENTRY_ADD) {
        entry->pub.sequence = sequence;
    } else {
        entry_recycle(db, entry);
    }
}

void entries_release(struct vdc_allocdb *db, struct slot *slot)
{
    while (slot->entries_len > 0) {
        struct entry *entry = entry_at(db, slot->entries[slot->entries_len - 1]);
        entry_drop(db, entry);
        if (entry->pub.kind == VDC_ENTRY_DEVICE) {
            struct entry *free_one = entry_copy(db, entry);
            free_one->owner = SLOT_NONE;
            free_one->pub.partition = NULL;
            entry_add(db, free_one);
        }
    }
}

void entries_leave_zone(struct vdc_allocdb *db, uint32_t zone)
{
    uint32_t len = db->entries_len; /* those that are made meanwhile are the node's */
    for (uint32_t i = 0; i < len; i++) {
        struct entry *entry = db->entries[i];
        if (!entry->live || entry->pub.kind != VDC_ENTRY_DEVICE || entry->zone != zone) {
            continue;
        }
        entry_drop(db, entry);
        struct entry *given = entry_copy(db, entry);
        given->zone = NODE_ZONE;
        given->pub.zone[0] = 0;
        entry_add(db, given);
    }
}

void entries_retake(struct vdc_allocdb *db)
{
    for (uint32_t i = 0; i < db->entries_len; i++) {
        const struct entry *entry = db->entries[i];
        const struct vdc_channel *channel = &entry->pub.channel;
        bool is_channel = entry->live && entry->pub.kind == VDC_ENTRY_CHANNEL;
        for (uint32_t b = 0; is_channel && b < channel->blocks_len; b++) {
            pagemap_take(&db->numa[numa_index_of(db, channel->blocks[b].numa)].map,
                         channel->blocks[b].addr, channel->blocks[b].bytes,
                         ENTRY_OWNER_BASE + entry->number);
        }
    }
}

void entries_deinit(struct vdc_allocdb *db)
{
    HASH_CLEAR(hh_name, db->port_by_name);
    HASH_CLEAR(hh, db->entry_by_key);
    for (uint32_t i = 0; i < db->entries_len; i++) {
        free(db->entries[i]->blocks);
        free(db->entries[i]);
    }
    free(db->entries);
    idmap_deinit(&db->volume_uses);
}
