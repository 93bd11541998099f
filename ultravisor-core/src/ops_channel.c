/* SPDX-License-Identifier: Apache-2.0 */
/* Channels between two partitions, with the memory that they share. */
#include <stdlib.h>

#include "entries.h"
#include "ops.h"

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
        return op_refuse_numa(run, connect->numa);
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
            return op_refuse_numa(run, block->numa);
        }
        if (!pagemap_range_is(&db->numa[numa].map, block->addr, block->bytes, PAGE_OWNER_NONE)) {
            return op_refuse_busy_block(run, i, block);
        }
    }
    return VDC_RC_OK;
}

/* Everything about a channel but its memory. */
static enum vdc_rc judge_channel(struct op_run *run, const struct vdc_op_channel_connect *connect,
                                 struct slot **peer)
{
    enum vdc_rc rc = find_peer(run, &connect->endpoint[1], peer);
    if (rc == VDC_RC_OK) {
        rc = op_judge_entries_limit(run);
    }
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (entry_find_channel(run->db, &connect->channel) != NULL) {
        return op_refuse(run, VDC_RC_EXISTS, VDC_RULE_CHANNEL_EXISTS, 0, 0,
                         "a channel with that id is here");
    }
    if (connect->bytes > op_slice_left(run)) {
        return op_refuse_slice(run, connect->bytes);
    }
    return VDC_RC_OK;
}

enum vdc_rc apply_channel_connect(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    struct vdc_op_channel_connect *connect = &run->db->resolved.channel_connect;
    struct slot *peer = NULL;
    run->db->resolved = *op;
    run->resolved = &run->db->resolved;
    enum vdc_rc rc = judge_channel(run, connect, &peer);
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
    return VDC_RC_OK;
}

enum vdc_rc apply_channel_disconnect(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
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
    return VDC_RC_OK;
}
