/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entry in the snapshot:
 *
 *     kind u8 | sequence u64 | zone u16 | owner 16 | peer 16 | then, by kind:
 *     device   address, kind u8, NUMA node u32          volume   id, mode u8, generation u64
 *     port     MAC 6, name, network                     promise  node, incarnation u64
 *     channel  id, type u8, version u16, bytes u64, blocks u32: numa u16, addr u64, bytes u64
 */
#include <string.h>

#include "entries.h"
#include "tx_codec.h"

#define ENTRY_FIXED_MAX 384

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
bool entry_owners_fit(const struct vdc_allocdb *db, const struct entry *entry)
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
    struct entry_key key = entry_key_of(entry);
    if (entry_find(db, &key) != NULL) {
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
    bool good = !in->bad && entry_owners_fit(db, entry);
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
