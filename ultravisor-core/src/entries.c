/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of entries. One hash table by key serves all kinds, because a key begins with its kind;
 * ports have a second one by name, and of volumes it is counted who reads or writes them. Each
 * partition lists the entries that it owns or is an endpoint of, so that its end costs what it has.
 *
 * An entry in the snapshot:
 *
 *     kind u8 | sequence u64 | zone u16 | owner 16 | peer 16 | then, by kind:
 *     device   address, kind u8, NUMA node u32          volume   id, mode u8, generation u64
 *     port     MAC 6, name, network                     promise  node, incarnation u64
 *     channel  id, type u8, version u16, bytes u64, blocks u32: numa u16, addr u64, bytes u64
 */
#include "entries.h"

#include <string.h>

#include "tx_codec.h"

#define ENTRY_FIXED_MAX 384
#define BLOCK_BYTES 18

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

static struct entry_key key_of(const struct entry *entry)
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

static struct entry *find(const struct vdc_allocdb *db, const struct entry_key *key)
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
    return find(db, &key);
}

struct entry *entry_find_volume(const struct vdc_allocdb *db, const struct vdc_id *volume,
                                const struct vdc_id *partition)
{
    struct entry_key key = key_of_volume(volume, partition);
    return find(db, &key);
}

struct entry *entry_find_port(const struct vdc_allocdb *db, const uint8_t mac[6])
{
    struct entry_key key = key_begin(VDC_ENTRY_PORT);
    key_put(&key, mac, 6);
    return find(db, &key);
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
    return find(db, &key);
}

struct entry *entry_find_promise(const struct vdc_allocdb *db, const char *zone, const char *node)
{
    if (strlen(zone) > VDC_NAME_MAX || strlen(node) > VDC_NAME_MAX) {
        return NULL;
    }
    struct entry_key key = key_of_promise(zone, node);
    return find(db, &key);
}

/* --- volumes --- */

uint32_t volume_use(const struct vdc_allocdb *db, const struct vdc_id *volume)
{
    uint32_t use = idmap_get(&db->volume_uses, volume);
    /* The map has no way to say "none" but this value; a writer is stored as 0. */
    return use == VDC_IDMAP_NONE ? 0 : use == 0 ? VOLUME_WRITTEN : use;
}

static void volume_set_use(struct idmap *uses, const struct vdc_id *volume, uint32_t use)
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
    entry->key = key_of(entry);
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

/* --- readers --- */

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

/* --- snapshot --- */

static uint8_t *write_content(uint8_t *to, const struct vdc_entry *pub)
{
    switch (pub->kind) {
    case VDC_ENTRY_DEVICE:
        to = wire_put_text(to, pub->device.address);
        to = wire_put_u8(to, (uint8_t)pub->device.kind);
        return wire_put_u32(to, pub->device.numa);
    case VDC_ENTRY_VOLUME:
        to = wire_put(to, pub->volume.volume.bytes, 16);
        to = wire_put_u8(to, (uint8_t)pub->volume.mode);
        return wire_put_u64(to, pub->volume.generation);
    case VDC_ENTRY_PORT:
        to = wire_put(to, pub->port.mac, sizeof(pub->port.mac));
        to = wire_put_text(to, pub->port.name);
        return wire_put_text(to, pub->port.network);
    case VDC_ENTRY_CHANNEL:
        to = wire_put(to, pub->channel.id.bytes, 16);
        to = wire_put_u8(to, (uint8_t)pub->channel.type);
        to = wire_put_u16(to, pub->channel.version);
        to = wire_put_u64(to, pub->channel.bytes);
        to = wire_put_u32(to, pub->channel.blocks_len);
        for (uint32_t i = 0; i < pub->channel.blocks_len; i++) {
            to = wire_put_u16(to, (uint16_t)pub->channel.blocks[i].numa);
            to = wire_put_u64(to, pub->channel.blocks[i].addr);
            to = wire_put_u64(to, pub->channel.blocks[i].bytes);
        }
        return to;
    case VDC_ENTRY_PROMISE:
        to = wire_put_text(to, pub->promise.node);
        return wire_put_u64(to, pub->promise.incarnation);
    }
    return to;
}

static void write_entry(const struct entry *entry, struct vdc_buf *out)
{
    static const struct vdc_id none;
    const struct vdc_entry *pub = &entry->pub;
    uint8_t *start = (uint8_t *)vdc_buf_reserve(
        out, ENTRY_FIXED_MAX + (size_t)VDC_CHANNEL_BLOCKS_MAX * BLOCK_BYTES);
    uint8_t *to = wire_put_u8(start, (uint8_t)pub->kind);
    to = wire_put_u64(to, pub->sequence);
    to = wire_put_u16(to, (uint16_t)entry->zone);
    to = wire_put(to, pub->partition == NULL ? none.bytes : pub->partition->id.bytes, 16);
    to = wire_put(to, pub->peer == NULL ? none.bytes : pub->peer->id.bytes, 16);
    to = write_content(to, pub);
    out->len += (size_t)(to - start);
}

void entries_write(const struct vdc_allocdb *db, struct vdc_buf *out)
{
    uint32_t len = 0;
    for (int kind = 0; kind < VDC_ENTRY_KIND_COUNT; kind++) {
        len += db->entry_counts[kind];
    }
    (void)wire_put_u32((uint8_t *)vdc_buf_reserve(out, 4), len);
    out->len += 4;
    for (int kind = 0; kind < VDC_ENTRY_KIND_COUNT; kind++) {
        size_t count;
        vdc_autofree const struct vdc_entry **list =
            vdc_allocdb_list_entries(db, (enum vdc_entry_kind)kind, &count);
        for (size_t i = 0; i < count; i++) {
            write_entry(vdc_container_of(list[i], struct entry, pub), out);
        }
    }
}

/* The operation that would make the entry: its validation bounds the snapshot's fields too. */
static struct vdc_op op_of(const struct vdc_entry *pub, const struct vdc_id ids[2])
{
    struct vdc_op op = {0};
    switch (pub->kind) {
    case VDC_ENTRY_DEVICE:
        op.kind = VDC_OP_DEVICE_ADD;
        op.device_add.kind = pub->device.kind;
        op.device_add.numa = pub->device.numa;
        vdc_str_set(op.device_add.address, VDC_DEVICE_ADDRESS_CAP, pub->device.address);
        break;
    case VDC_ENTRY_VOLUME:
        op.kind = VDC_OP_VOLUME_ATTACH;
        op.volume_attach = (struct vdc_op_volume_attach){.id = ids[0],
                                                         .generation = pub->volume.generation,
                                                         .volume = pub->volume.volume,
                                                         .mode = pub->volume.mode};
        break;
    case VDC_ENTRY_PORT:
        op.kind = VDC_OP_PORT_CONNECT;
        op.port_connect.id = ids[0];
        memcpy(op.port_connect.mac, pub->port.mac, sizeof(pub->port.mac));
        vdc_str_set(op.port_connect.name, VDC_PORT_NAME_CAP, pub->port.name);
        vdc_str_set(op.port_connect.network, VDC_NAME_CAP, pub->port.network);
        break;
    case VDC_ENTRY_CHANNEL:
        op.kind = VDC_OP_CHANNEL_CONNECT;
        op.channel_connect = (struct vdc_op_channel_connect){.channel = pub->channel.id,
                                                             .endpoint = {ids[0], ids[1]},
                                                             .type = pub->channel.type,
                                                             .version = pub->channel.version,
                                                             .bytes = pub->channel.bytes,
                                                             .numa = VDC_NUMA_ANY,
                                                             .blocks = pub->channel.blocks,
                                                             .blocks_len = pub->channel.blocks_len};
        break;
    case VDC_ENTRY_PROMISE:
        op.kind = VDC_OP_FENCE_PROMISE;
        op.fence_promise.incarnation = pub->promise.incarnation;
        vdc_str_set(op.fence_promise.node, VDC_NAME_CAP, pub->promise.node);
        break;
    }
    return op;
}

/* The fields of the kind; a channel's blocks are read into the entry. */
static void read_content(struct entry *entry, struct wire_reader *in)
{
    struct vdc_entry *pub = &entry->pub;
    switch (pub->kind) {
    case VDC_ENTRY_DEVICE:
        wire_get_text(in, pub->device.address, sizeof(pub->device.address));
        pub->device.kind = (enum vdc_device_kind)wire_get_u8(in);
        pub->device.numa = wire_get_u32(in);
        return;
    case VDC_ENTRY_VOLUME:
        pub->volume.volume = wire_get_id(in);
        pub->volume.mode = (enum vdc_volume_mode)wire_get_u8(in);
        pub->volume.generation = wire_get_u64(in);
        return;
    case VDC_ENTRY_PORT:
        wire_get_into(in, pub->port.mac, sizeof(pub->port.mac));
        wire_get_text(in, pub->port.name, sizeof(pub->port.name));
        wire_get_text(in, pub->port.network, sizeof(pub->port.network));
        return;
    case VDC_ENTRY_CHANNEL:
        pub->channel.id = wire_get_id(in);
        pub->channel.type = (enum vdc_channel_type)wire_get_u8(in);
        pub->channel.version = wire_get_u16(in);
        pub->channel.bytes = wire_get_u64(in);
        pub->channel.blocks_len = wire_get_u32(in);
        if (pub->channel.blocks_len == 0 || pub->channel.blocks_len > VDC_CHANNEL_BLOCKS_MAX) {
            in->bad = true;
            pub->channel.blocks_len = 0;
            return;
        }
        entry->blocks = vdc_calloc(pub->channel.blocks_len, sizeof(entry->blocks[0]));
        pub->channel.blocks = entry->blocks;
        for (uint32_t i = 0; i < pub->channel.blocks_len; i++) {
            entry->blocks[i].numa = wire_get_u16(in);
            entry->blocks[i].addr = wire_get_u64(in);
            entry->blocks[i].bytes = wire_get_u64(in);
        }
        return;
    case VDC_ENTRY_PROMISE:
        wire_get_text(in, pub->promise.node, sizeof(pub->promise.node));
        pub->promise.incarnation = wire_get_u64(in);
        return;
    }
}

/* Whether its owners are those that its kind must have. */
static bool owners_fit(const struct vdc_allocdb *db, const struct entry *entry)
{
    bool owned = entry->owner != SLOT_NONE;
    if (owned && slot_at(db, entry->owner)->zone != entry->zone) {
        return false;
    }
    uint32_t peer_zone = entry->peer == SLOT_NONE ? NODE_ZONE : slot_at(db, entry->peer)->zone;
    switch (entry->pub.kind) {
    case VDC_ENTRY_DEVICE:
        return entry->peer == SLOT_NONE;
    case VDC_ENTRY_VOLUME:
    case VDC_ENTRY_PORT:
        return owned && entry->peer == SLOT_NONE;
    case VDC_ENTRY_CHANNEL:
        return owned && entry->peer != SLOT_NONE && entry->peer != entry->owner &&
               (peer_zone == entry->zone || peer_zone == NODE_ZONE);
    case VDC_ENTRY_PROMISE:
        return !owned && entry->peer == SLOT_NONE && entry->zone != NODE_ZONE;
    }
    return false;
}

/* Whether it can stand beside those that are there. */
static bool fits(const struct vdc_allocdb *db, const struct entry *entry)
{
    struct entry_key key = key_of(entry);
    if (find(db, &key) != NULL) {
        return false;
    }
    const struct vdc_channel *channel = &entry->pub.channel;
    uint32_t use;
    switch (entry->pub.kind) {
    case VDC_ENTRY_VOLUME:
        use = volume_use(db, &entry->pub.volume.volume);
        return use == 0 || (use != VOLUME_WRITTEN && entry->pub.volume.mode == VDC_VOLUME_READ);
    case VDC_ENTRY_PORT:
        return entry_find_port_name(db, entry->pub.port.name) == NULL;
    case VDC_ENTRY_CHANNEL:
        for (uint32_t i = 0; i < channel->blocks_len; i++) {
            uint32_t numa = numa_index_of(db, channel->blocks[i].numa);
            if (numa == UINT32_MAX ||
                !pagemap_range_is(&db->numa[numa].map, channel->blocks[i].addr,
                                  channel->blocks[i].bytes, PAGE_OWNER_NONE)) {
                return false;
            }
        }
        return true;
    case VDC_ENTRY_DEVICE:
    case VDC_ENTRY_PROMISE:
        break;
    }
    return true;
}

static bool read_entry(struct vdc_allocdb *db, struct wire_reader *in)
{
    uint8_t kind = wire_get_u8(in);
    uint64_t sequence = wire_get_u64(in);
    uint16_t zone = wire_get_u16(in);
    struct vdc_id ids[2] = {wire_get_id(in)};
    ids[1] = wire_get_id(in);
    uint32_t slots[2];
    bool known = true;
    for (int i = 0; i < 2; i++) {
        bool none = vdc_id_is_none(&ids[i]);
        slots[i] = none ? SLOT_NONE : idmap_get(&db->by_id, &ids[i]);
        known = known && (none || slots[i] != VDC_IDMAP_NONE);
    }
    if (in->bad || !known || kind >= VDC_ENTRY_KIND_COUNT || zone >= db->zones_len) {
        return false;
    }
    struct entry *entry = entry_make(db, (enum vdc_entry_kind)kind, zone, slots[0], slots[1]);
    entry->pub.sequence = sequence;
    read_content(entry, in);
    bool good = !in->bad && owners_fit(db, entry);
    if (good) {
        struct vdc_op op = op_of(&entry->pub, ids);
        good = tx_validate_op(&op, 0, NULL) == VDC_RC_OK && fits(db, entry);
    }
    if (good) {
        entry_enter(db, entry);
    } else {
        entry_recycle(db, entry);
    }
    return good;
}

const char *entries_read(struct vdc_allocdb *db, struct wire_reader *in)
{
    uint32_t len = wire_get_u32(in);
    if (in->bad || len > VDC_ALLOCDB_ENTRIES_MAX) {
        return "too many entries";
    }
    for (uint32_t i = 0; i < len; i++) {
        if (!read_entry(db, in)) {
            return "an entry is not one, or cannot be beside the others";
        }
    }
    return NULL;
}

/* --- check --- */

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
    struct entry_key key = key_of(entry);
    if (find(db, &key) != entry) {
        return broken(err, "not found by its key", entry);
    }
    if (entry->zone >= db->zones_len ||
        strcmp(db->zones[entry->zone].pub.name, entry->pub.zone) != 0 || !owners_fit(db, entry)) {
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
