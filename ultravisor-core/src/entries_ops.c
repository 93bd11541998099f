/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations on entries, and the transfer of resources between zones. As in allocdb_ops.c, each
 * judges, resolves what is open, changes the state with undo, and appends itself to the record.
 */
#include <stdlib.h>
#include <string.h>

#include "entries.h"

#define ull(x) ((unsigned long long)(x))

static enum vdc_rc judge_limit(struct op_run *run)
{
    uint32_t len = 0;
    for (int kind = 0; kind < VDC_ENTRY_KIND_COUNT; kind++) {
        len += run->db->entry_counts[kind];
    }
    if (len >= VDC_ALLOCDB_ENTRIES_MAX) {
        return op_refuse(run, VDC_RC_LIMIT, VDC_RULE_LIMIT, len + 1u, VDC_ALLOCDB_ENTRIES_MAX,
                         "%u devices, volumes, ports, channels and promises, limit %d", len + 1u,
                         VDC_ALLOCDB_ENTRIES_MAX);
    }
    return VDC_RC_OK;
}

/* --- devices --- */

static enum vdc_rc judge_machine(struct op_run *run)
{
    if (run->tx->role != VDC_ROLE_SYSTEM || run->zone != NODE_ZONE) {
        return op_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ROLE, 0, 0,
                         "only the node itself knows its hardware");
    }
    return VDC_RC_OK;
}

static enum vdc_rc apply_device_add(struct op_run *run, const struct vdc_op *op)
{
    const struct vdc_op_device_add *add = &op->device_add;
    enum vdc_rc rc = judge_machine(run);
    if (rc == VDC_RC_OK) {
        rc = judge_limit(run);
    }
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (entry_find_device(run->db, add->address) != NULL) {
        return op_refuse(run, VDC_RC_EXISTS, VDC_RULE_DEVICE_EXISTS, 0, 0, "%s is known",
                         add->address);
    }
    struct entry *entry = entry_make(run->db, VDC_ENTRY_DEVICE, NODE_ZONE, SLOT_NONE, SLOT_NONE);
    memcpy(entry->pub.device.address, add->address, sizeof(add->address));
    entry->pub.device.kind = add->kind;
    entry->pub.device.numa = add->numa;
    entry_add(run->db, entry);
    op_record(run, op);
    return VDC_RC_OK;
}

static enum vdc_rc find_device(struct op_run *run, const char *address, struct entry **out)
{
    *out = entry_find_device(run->db, address);
    return *out != NULL ? VDC_RC_OK
                        : op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_DEVICE, 0, 0,
                                    "no device %s", address);
}

/* The device must be of the zone and nobody's. */
static enum vdc_rc judge_free_device(struct op_run *run, const struct entry *entry)
{
    const struct vdc_partition *owner = entry->pub.partition;
    if (entry->zone == run->zone && owner == NULL) {
        return VDC_RC_OK;
    }
    return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_DEVICE_BUSY, 1, 0, "%s is %s \"%s\"",
                     entry->pub.device.address, owner == NULL ? "in zone" : "attached to",
                     owner == NULL ? entry->pub.zone : owner->name);
}

static void set_device(struct vdc_allocdb *db, struct entry *entry, uint32_t zone, uint32_t owner)
{
    struct entry *changed = entry_copy(db, entry);
    changed->zone = zone;
    changed->owner = owner;
    memcpy(changed->pub.zone, db->zones[zone].pub.name, sizeof(changed->pub.zone));
    changed->pub.partition = owner == SLOT_NONE ? NULL : &slot_at(db, owner)->pub;
    entry_drop(db, entry);
    entry_add(db, changed);
}

static enum vdc_rc apply_device_remove(struct op_run *run, const struct vdc_op *op)
{
    struct entry *entry;
    enum vdc_rc rc = judge_machine(run);
    if (rc == VDC_RC_OK) {
        rc = find_device(run, op->device_remove.address, &entry);
    }
    if (rc == VDC_RC_OK) {
        rc = judge_free_device(run, entry);
    }
    if (rc == VDC_RC_OK) {
        entry_drop(run->db, entry);
        op_record(run, op);
    }
    return rc;
}

static enum vdc_rc apply_device_attach(struct op_run *run, const struct vdc_op *op)
{
    struct slot *slot;
    struct entry *entry;
    enum vdc_rc rc = op_find_slot(run, &op->device_attach.id, &slot);
    if (rc == VDC_RC_OK) {
        rc = find_device(run, op->device_attach.address, &entry);
    }
    if (rc == VDC_RC_OK) {
        rc = judge_free_device(run, entry);
    }
    if (rc == VDC_RC_OK) {
        set_device(run->db, entry, run->zone, slot->number);
        op_record(run, op);
    }
    return rc;
}

static enum vdc_rc apply_device_detach(struct op_run *run, const struct vdc_op *op)
{
    struct slot *slot;
    struct entry *entry;
    enum vdc_rc rc = op_find_slot(run, &op->device_detach.id, &slot);
    if (rc == VDC_RC_OK) {
        rc = find_device(run, op->device_detach.address, &entry);
    }
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (entry->owner != slot->number) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_DEVICE_BUSY, 1, 0, "%s is not %s's",
                         entry->pub.device.address, slot->pub.name);
    }
    set_device(run->db, entry, run->zone, SLOT_NONE);
    op_record(run, op);
    return VDC_RC_OK;
}

/* --- volumes --- */

static enum vdc_rc apply_volume_attach(struct op_run *run, const struct vdc_op *op)
{
    const struct vdc_op_volume_attach *attach = &op->volume_attach;
    struct vdc_allocdb *db = run->db;
    struct slot *slot;
    enum vdc_rc rc = op_find_guarded(run, &attach->id, attach->generation, &slot);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct entry *old = entry_find_volume(db, &attach->volume, &attach->id);
    uint32_t use = volume_use(db, &attach->volume);
    bool written = use == VOLUME_WRITTEN && old == NULL;
    uint32_t others = use == VOLUME_WRITTEN ? written : use - (old != NULL);
    if (written || (others > 0 && attach->mode == VDC_VOLUME_WRITE)) {
        char volume[VDC_ID_TEXT_CAP];
        vdc_id_to_text(&attach->volume, volume);
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_VOLUME_BUSY, 1, others,
                         "volume %s is %s by %u other partition%s", volume,
                         written ? "written" : "read", others, others == 1 ? "" : "s");
    }
    rc = old == NULL ? judge_limit(run) : VDC_RC_OK;
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct entry *entry = entry_make(db, VDC_ENTRY_VOLUME, run->zone, slot->number, SLOT_NONE);
    entry->pub.volume = (struct vdc_volume_use){
        .volume = attach->volume, .mode = attach->mode, .generation = attach->generation};
    if (old != NULL) {
        entry_drop(db, old);
    }
    entry_add(db, entry);
    op_record(run, op);
    return VDC_RC_OK;
}

static enum vdc_rc apply_volume_detach(struct op_run *run, const struct vdc_op *op)
{
    const struct vdc_op_volume_detach *detach = &op->volume_detach;
    struct slot *slot;
    enum vdc_rc rc = op_find_slot(run, &detach->id, &slot);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct entry *entry = entry_find_volume(run->db, &detach->volume, &detach->id);
    if (entry == NULL) {
        char volume[VDC_ID_TEXT_CAP];
        vdc_id_to_text(&detach->volume, volume);
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_VOLUME, 0, 0,
                         "%s does not use volume %s", slot->pub.name, volume);
    }
    entry_drop(run->db, entry);
    op_record(run, op);
    return VDC_RC_OK;
}

/* --- ports --- */

static enum vdc_rc apply_port_connect(struct op_run *run, const struct vdc_op *op)
{
    const struct vdc_op_port_connect *connect = &op->port_connect;
    struct slot *slot;
    enum vdc_rc rc = op_find_slot(run, &connect->id, &slot);
    if (rc == VDC_RC_OK) {
        rc = judge_limit(run);
    }
    if (rc != VDC_RC_OK) {
        return rc;
    }
    const struct entry *by_mac = entry_find_port(run->db, connect->mac);
    const struct entry *other =
        by_mac != NULL ? by_mac : entry_find_port_name(run->db, connect->name);
    if (other != NULL) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_PORT_BUSY, 1, 0,
                         "the %s of port %s is in use by port %s of %s",
                         by_mac != NULL ? "MAC address" : "name", connect->name,
                         other->pub.port.name, other->pub.partition->name);
    }
    struct entry *entry = entry_make(run->db, VDC_ENTRY_PORT, run->zone, slot->number, SLOT_NONE);
    memcpy(entry->pub.port.mac, connect->mac, sizeof(connect->mac));
    memcpy(entry->pub.port.name, connect->name, sizeof(connect->name));
    memcpy(entry->pub.port.network, connect->network, sizeof(connect->network));
    entry_add(run->db, entry);
    op_record(run, op);
    return VDC_RC_OK;
}

static enum vdc_rc apply_port_disconnect(struct op_run *run, const struct vdc_op *op)
{
    const struct vdc_op_port_disconnect *disconnect = &op->port_disconnect;
    struct slot *slot;
    enum vdc_rc rc = op_find_slot(run, &disconnect->id, &slot);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct entry *entry = entry_find_port(run->db, disconnect->mac);
    if (entry == NULL || entry->owner != slot->number) {
        const uint8_t *m = disconnect->mac;
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_PORT, 0, 0,
                         "%s has no port %02x:%02x:%02x:%02x:%02x:%02x", slot->pub.name, m[0], m[1],
                         m[2], m[3], m[4], m[5]);
    }
    entry_drop(run->db, entry);
    op_record(run, op);
    return VDC_RC_OK;
}

/* --- channels --- */

static enum vdc_rc find_peer(struct op_run *run, const struct vdc_id *id, struct slot **out)
{
    const struct vdc_allocdb *db = run->db;
    uint32_t number = idmap_get(&db->by_id, id);
    if (number == VDC_IDMAP_NONE) {
        char text[VDC_ID_TEXT_CAP];
        vdc_id_to_text(id, text);
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_PARTITION, 0, 0,
                         "no partition %s on this node", text);
    }
    struct slot *slot = slot_at(db, number);
    if (slot->zone != run->zone && slot->zone != NODE_ZONE) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CHANNEL_ENDPOINT, 0, 0,
                         "partition %s belongs to zone \"%s\"", slot->pub.name, slot->pub.zone);
    }
    if (!vdc_id_is_none(&slot->pub.claim) && !vdc_id_equal(&slot->pub.claim, &run->tx->claim)) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CLAIMED, 0, 0,
                         "partition %s is held by a claim that is not settled", slot->pub.name);
    }
    *out = slot;
    return VDC_RC_OK;
}

static int compare_blocks(const void *a, const void *b)
{
    const struct vdc_memory_block *x = a;
    const struct vdc_memory_block *y = b;
    return x->addr < y->addr ? -1 : x->addr > y->addr;
}

/* Finds the lowest free memory of the NUMA node, large blocks first, into scratch as maximal runs.
 * Nothing is taken yet: the taking here is only how the page map says where. */
static enum vdc_rc find_memory(struct op_run *run, uint32_t numa, uint64_t bytes)
{
    struct vdc_allocdb *db = run->db;
    struct pagemap *map = &db->numa[numa].map;
    uint32_t len = 0;
    for (uint64_t left = bytes; left > 0;) {
        uint64_t addr;
        uint64_t taken;
        pagemap_take_next(map, left, PAGE_4K, ENTRY_OWNER_BASE, &addr, &taken);
        VDC_GROW(db->scratch_blocks, db->scratch_blocks_cap, (size_t)len + 1);
        db->scratch_blocks[len++] =
            (struct vdc_memory_block){.addr = addr, .bytes = taken, .numa = db->numa[numa].number};
        left -= taken;
    }
    for (uint32_t i = 0; i < len; i++) {
        pagemap_free(map, db->scratch_blocks[i].addr, db->scratch_blocks[i].bytes);
    }
    qsort(db->scratch_blocks, len, sizeof(db->scratch_blocks[0]), compare_blocks);
    uint32_t runs = 0;
    for (uint32_t i = 1; i < len; i++) {
        struct vdc_memory_block *last = &db->scratch_blocks[runs];
        if (last->addr + last->bytes == db->scratch_blocks[i].addr) {
            last->bytes += db->scratch_blocks[i].bytes;
        } else {
            db->scratch_blocks[++runs] = db->scratch_blocks[i];
        }
    }
    db->scratch_blocks_len = runs + 1;
    if (db->scratch_blocks_len > VDC_CHANNEL_BLOCKS_MAX) {
        return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_FRAGMENTED, db->scratch_blocks_len,
                         VDC_CHANNEL_BLOCKS_MAX, "%llu bytes would lie in %u blocks, limit %d",
                         ull(bytes), db->scratch_blocks_len, VDC_CHANNEL_BLOCKS_MAX);
    }
    return VDC_RC_OK;
}

static enum vdc_rc resolve_channel_memory(struct op_run *run,
                                          const struct vdc_op_channel_connect *connect)
{
    const struct vdc_allocdb *db = run->db;
    uint64_t most = 0;
    uint64_t largest = 0;
    if (connect->numa != VDC_NUMA_ANY && numa_index_of(db, connect->numa) == UINT32_MAX) {
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, connect->numa, 0,
                         "no NUMA node %u", connect->numa);
    }
    for (uint32_t i = 0; i < db->numa_len; i++) {
        if (connect->numa != VDC_NUMA_ANY && db->numa[i].number != connect->numa) {
            continue;
        }
        uint64_t here = pagemap_free_in(&db->numa[i].map, PAGE_4K);
        if (here >= connect->bytes) {
            return find_memory(run, i, connect->bytes);
        }
        most = VDC_MAX(most, here);
        largest = VDC_MAX(largest, pagemap_largest_free(&db->numa[i].map));
    }
    return op_refuse_memory(run, connect->bytes, most, largest);
}

static enum vdc_rc judge_channel_memory(struct op_run *run,
                                        const struct vdc_op_channel_connect *connect)
{
    const struct vdc_allocdb *db = run->db;
    for (uint32_t i = 0; i < connect->blocks_len; i++) {
        const struct vdc_memory_block *block = &connect->blocks[i];
        uint32_t numa = numa_index_of(db, block->numa);
        if (numa == UINT32_MAX) {
            return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, block->numa, 0,
                             "no NUMA node %u", block->numa);
        }
        if (!pagemap_range_is(&db->numa[numa].map, block->addr, block->bytes, PAGE_OWNER_NONE)) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_MEMORY_BUSY, block->bytes, 0,
                             "block %u (NUMA node %u at %llu, %llu bytes) is not free", i,
                             block->numa, ull(block->addr), ull(block->bytes));
        }
    }
    return VDC_RC_OK;
}

/* Everything about a channel but its memory. */
static enum vdc_rc judge_channel(struct op_run *run, const struct vdc_op_channel_connect *connect,
                                 struct slot **slot, struct slot **peer)
{
    enum vdc_rc rc = op_find_slot(run, &connect->endpoint[0], slot);
    if (rc == VDC_RC_OK) {
        rc = find_peer(run, &connect->endpoint[1], peer);
    }
    if (rc == VDC_RC_OK) {
        rc = judge_limit(run);
    }
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (entry_find_channel(run->db, &connect->channel) != NULL) {
        return op_refuse(run, VDC_RC_EXISTS, VDC_RULE_CHANNEL_EXISTS, 0, 0,
                         "a channel with that id is here");
    }
    const struct vdc_zone_slice *slice = &run->db->zones[run->zone].pub;
    uint64_t left = slice->memory_bytes - slice->memory_used_bytes;
    if (connect->bytes > left) {
        return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_SLICE, connect->bytes, left,
                         "asked %llu bytes, zone \"%s\" has %llu of %llu left here",
                         ull(connect->bytes), slice->name, ull(left), ull(slice->memory_bytes));
    }
    return VDC_RC_OK;
}

static enum vdc_rc apply_channel_connect(struct op_run *run, const struct vdc_op *op)
{
    struct vdc_op resolved = *op;
    struct vdc_op_channel_connect *connect = &resolved.channel_connect;
    struct slot *slot = NULL;
    struct slot *peer = NULL;
    enum vdc_rc rc = judge_channel(run, connect, &slot, &peer);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (connect->blocks_len == 0) {
        rc = resolve_channel_memory(run, connect);
        connect->blocks = run->db->scratch_blocks;
        connect->blocks_len = run->db->scratch_blocks_len;
    } else {
        rc = judge_channel_memory(run, connect);
    }
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct entry *entry =
        entry_make(run->db, VDC_ENTRY_CHANNEL, run->zone, slot->number, peer->number);
    entry->blocks = vdc_memdup(connect->blocks, connect->blocks_len * sizeof(connect->blocks[0]));
    entry->pub.channel = (struct vdc_channel){.id = connect->channel,
                                              .type = connect->type,
                                              .version = connect->version,
                                              .bytes = connect->bytes,
                                              .blocks_len = connect->blocks_len,
                                              .blocks = entry->blocks};
    entry_add(run->db, entry);
    op_record(run, &resolved);
    return VDC_RC_OK;
}

static enum vdc_rc apply_channel_disconnect(struct op_run *run, const struct vdc_op *op)
{
    struct vdc_zone_slice *slice;
    enum vdc_rc rc = op_find_zone(run, &slice);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct entry *entry = entry_find_channel(run->db, &op->channel_disconnect.channel);
    if (entry == NULL) {
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CHANNEL, 0, 0,
                         "no such channel, or it ended with an endpoint");
    }
    if (entry->zone != run->zone) {
        return op_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0,
                         "the channel belongs to zone \"%s\"", entry->pub.zone);
    }
    if (!vdc_id_is_none(&entry->pub.partition->claim)) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CLAIMED, 0, 0,
                         "its endpoint %s is held by a claim that is not settled",
                         entry->pub.partition->name);
    }
    entry_drop(run->db, entry);
    op_record(run, op);
    return VDC_RC_OK;
}

/* --- fence promises --- */

static enum vdc_rc apply_fence_promise(struct op_run *run, const struct vdc_op *op)
{
    const struct vdc_op_fence_promise *promise = &op->fence_promise;
    struct vdc_zone_slice *slice;
    enum vdc_rc rc = op_find_zone(run, &slice);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (run->zone == NODE_ZONE) {
        return op_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0,
                         "the node's own slice has no run leases");
    }
    struct entry *old = entry_find_promise(run->db, slice->name, promise->node);
    uint64_t last = old == NULL ? 0 : old->pub.promise.incarnation;
    if (promise->incarnation <= last) {
        return op_refuse(run, VDC_RC_STALE, VDC_RULE_PROMISE, promise->incarnation, last,
                         "incarnation %llu of node %s is promised away up to %llu",
                         ull(promise->incarnation), promise->node, ull(last));
    }
    rc = old == NULL ? judge_limit(run) : VDC_RC_OK;
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct entry *entry = entry_make(run->db, VDC_ENTRY_PROMISE, run->zone, SLOT_NONE, SLOT_NONE);
    memcpy(entry->pub.promise.node, promise->node, sizeof(promise->node));
    entry->pub.promise.incarnation = promise->incarnation;
    if (old != NULL) {
        entry_drop(run->db, old);
    }
    entry_add(run->db, entry);
    op_record(run, op);
    return VDC_RC_OK;
}

/* --- transfer between zones --- */

static enum vdc_rc transfer_cpus(struct op_run *run, const struct vdc_op_zone_transfer *transfer,
                                 uint32_t to)
{
    struct vdc_allocdb *db = run->db;
    for (uint32_t i = 0; i < transfer->cpus_len; i++) {
        uint32_t index = cpu_index_of(db, transfer->cpus[i]);
        if (index == UINT32_MAX) {
            return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CPU, transfer->cpus[i], 0,
                             "no CPU %u", transfer->cpus[i]);
        }
        const struct cpu *cpu = &db->cpus[index];
        if (cpu->zone != run->zone || cpu->owner != SLOT_NONE) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_BUSY, transfer->cpus[i], 0,
                             "CPU %u is %s \"%s\"", transfer->cpus[i],
                             cpu->zone != run->zone ? "in zone" : "dedicated to",
                             cpu->zone != run->zone ? db->zones[cpu->zone].pub.name
                                                    : slot_at(db, cpu->owner)->pub.name);
        }
        op_move_cpu(db, index, to);
    }
    const struct vdc_zone_slice *slice = &db->zones[run->zone].pub;
    if (slice->shared_used_milli > slice->shared_capacity_milli) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_POOL, slice->shared_used_milli,
                         slice->shared_capacity_milli,
                         "%llu milli-CPU are in use, the pool would have %llu",
                         ull(slice->shared_used_milli), ull(slice->shared_capacity_milli));
    }
    return VDC_RC_OK;
}

static enum vdc_rc transfer_memory(struct op_run *run, uint64_t bytes, uint32_t to)
{
    struct vdc_zone_slice *slice = &run->db->zones[run->zone].pub;
    uint64_t left = slice->memory_bytes - slice->memory_used_bytes;
    if (bytes > left) {
        return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_SLICE, bytes, left,
                         "asked %llu bytes, zone \"%s\" has %llu of %llu left here", ull(bytes),
                         slice->name, ull(left), ull(slice->memory_bytes));
    }
    slice->memory_bytes -= bytes;
    run->db->zones[to].pub.memory_bytes += bytes;
    return VDC_RC_OK;
}

/* The slice is now what it has: what was asked for earlier would take the transfer back. The node's
 * own slice is asked for by nobody. */
static void restate_shares(struct vdc_allocdb *db, uint32_t zone,
                           const struct vdc_op_zone_transfer *transfer)
{
    struct vdc_zone_slice *slice = &db->zones[zone].pub;
    if (zone != NODE_ZONE && transfer->cpus_len > 0) {
        slice->cpu_share = (struct vdc_share){.amount = slice->cpus};
    }
    if (zone != NODE_ZONE && transfer->memory_bytes > 0) {
        slice->memory_share = (struct vdc_share){.amount = slice->memory_bytes};
    }
    zone_touch(db, zone);
}

static enum vdc_rc transfer_device(struct op_run *run, const char *address, uint32_t to)
{
    struct entry *entry;
    enum vdc_rc rc = find_device(run, address, &entry);
    if (rc == VDC_RC_OK) {
        rc = judge_free_device(run, entry);
    }
    if (rc == VDC_RC_OK) {
        set_device(run->db, entry, to, SLOT_NONE);
    }
    return rc;
}

static enum vdc_rc apply_zone_transfer(struct op_run *run, const struct vdc_op *op)
{
    const struct vdc_op_zone_transfer *transfer = &op->zone_transfer;
    struct vdc_allocdb *db = run->db;
    struct vdc_zone_slice *slice;
    enum vdc_rc rc = op_find_zone(run, &slice);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    uint32_t to = zone_find(db, transfer->to);
    if (to == ZONE_NONE || !db->zones[to].pub.joined) {
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_ZONE, 0, 0,
                         "zone %s has no slice of this node", transfer->to);
    }
    if (to == run->zone) {
        return op_refuse(run, VDC_RC_INVALID, VDC_RULE_ZONE, 0, 0, "giver and receiver are one");
    }
    op_save_zone(db, run->zone);
    op_save_zone(db, to);
    rc = transfer_cpus(run, transfer, to);
    if (rc == VDC_RC_OK) {
        rc = transfer_memory(run, transfer->memory_bytes, to);
    }
    if (rc == VDC_RC_OK && transfer->device[0] != 0) {
        rc = transfer_device(run, transfer->device, to);
    }
    if (rc == VDC_RC_OK) {
        restate_shares(db, run->zone, transfer);
        restate_shares(db, to, transfer);
        op_record(run, op);
    }
    return rc;
}

enum vdc_rc entry_op_apply(struct op_run *run, const struct vdc_op *op)
{
    switch (op->kind) {
    case VDC_OP_DEVICE_ADD:
        return apply_device_add(run, op);
    case VDC_OP_DEVICE_REMOVE:
        return apply_device_remove(run, op);
    case VDC_OP_DEVICE_ATTACH:
        return apply_device_attach(run, op);
    case VDC_OP_DEVICE_DETACH:
        return apply_device_detach(run, op);
    case VDC_OP_VOLUME_ATTACH:
        return apply_volume_attach(run, op);
    case VDC_OP_VOLUME_DETACH:
        return apply_volume_detach(run, op);
    case VDC_OP_PORT_CONNECT:
        return apply_port_connect(run, op);
    case VDC_OP_PORT_DISCONNECT:
        return apply_port_disconnect(run, op);
    case VDC_OP_CHANNEL_CONNECT:
        return apply_channel_connect(run, op);
    case VDC_OP_CHANNEL_DISCONNECT:
        return apply_channel_disconnect(run, op);
    case VDC_OP_FENCE_PROMISE:
        return apply_fence_promise(run, op);
    case VDC_OP_ZONE_TRANSFER:
        return apply_zone_transfer(run, op);
    case VDC_OP_INVENTORY_SET:
    case VDC_OP_ZONE_SET:
    case VDC_OP_ZONE_LEAVE:
    case VDC_OP_ZONE_EPOCH:
    case VDC_OP_INCARNATION_SET:
    case VDC_OP_PARTITION_CREATE:
    case VDC_OP_PARTITION_SET_RUN:
    case VDC_OP_PARTITION_SET_GENERATION:
    case VDC_OP_PARTITION_SET_CONFIG:
    case VDC_OP_PARTITION_DESTROY:
    case VDC_OP_CPU_ASSIGN:
    case VDC_OP_CPU_RELEASE:
    case VDC_OP_MEMORY_ASSIGN:
    case VDC_OP_MEMORY_RELEASE:
        break;
    }
    return op_refuse(run, VDC_RC_INVALID, VDC_RULE_FORM, 0, 0, "not an operation on entries");
}
