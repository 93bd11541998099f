/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of the model on devices, volumes, ports, channels and promises.
 */
#include <string.h>

#include "allocdb_model_run.h"

/* Entries have places of their own that are never moved, so that a channel's pages know it. */
static struct model_entry *entry_make(struct model_run *run, enum vdc_entry_kind kind, int zone,
                                      int owner, int peer)
{
    int e = 0;
    while (run->s->entries[e].exists) {
        e++;
        VDC_ASSERT(e < MODEL_ENTRIES_MAX);
    }
    struct model_entry *entry = &run->s->entries[e];
    *entry = (struct model_entry){
        .exists = true, .kind = kind, .zone = zone, .owner = owner, .peer = peer};
    run->m->touched_entry[e] = true;
    if (owner != NONE) {
        model_touch(run, owner);
    }
    if (peer != NONE) {
        model_touch(run, peer);
    }
    return entry;
}

void model_end_entry(struct model_run *run, int e)
{
    struct model_entry *entry = &run->s->entries[e];
    if (entry->owner != NONE) {
        model_touch(run, entry->owner);
    }
    if (entry->peer != NONE) {
        model_touch(run, entry->peer);
    }
    if (entry->kind == VDC_ENTRY_CHANNEL) {
        memory_drop(run->m, (uint16_t)(OWNER_CHANNEL + e));
    }
    entry->exists = false;
}

static bool judge_machine(struct model_run *run)
{
    return (run->tx->role == VDC_ROLE_SYSTEM && run->zone == NODE) ||
           model_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ROLE, 0, 0);
}

bool model_apply_device_add(struct model_run *run, const struct vdc_op_device_add *add)
{
    if (!judge_machine(run)) {
        return false;
    }
    if (model_find_device(run->m, add->address) != NONE) {
        return model_refuse(run, VDC_RC_EXISTS, VDC_RULE_DEVICE_EXISTS, 0, 0);
    }
    entry_make(run, VDC_ENTRY_DEVICE, NODE, NONE, NONE)->device = *add;
    return true;
}

/* NONE: refused. */
static int need_device(struct model_run *run, const char *address)
{
    int e = model_find_device(run->m, address);
    if (e == NONE) {
        (void)model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_DEVICE, 0, 0);
    }
    return e;
}

int model_need_free_device(struct model_run *run, const char *address)
{
    int e = need_device(run, address);
    if (e != NONE && (run->s->entries[e].zone != run->zone || run->s->entries[e].owner != NONE)) {
        (void)model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_DEVICE_BUSY, 1, 0);
        return NONE;
    }
    return e;
}

bool model_apply_device_remove(struct model_run *run, const struct vdc_op_device_remove *remove)
{
    int e = judge_machine(run) ? model_need_free_device(run, remove->address) : NONE;
    if (e != NONE) {
        model_end_entry(run, e);
    }
    return e != NONE;
}

bool model_apply_device_attach(struct model_run *run, const struct vdc_op_device_attach *attach)
{
    int p = model_need_partition(run, &attach->id);
    int e = p == NONE ? NONE : model_need_free_device(run, attach->address);
    if (e == NONE) {
        return false;
    }
    run->s->entries[e].owner = p;
    run->m->touched_entry[e] = true;
    model_touch(run, p);
    return true;
}

bool model_apply_device_detach(struct model_run *run, const struct vdc_op_device_attach *detach)
{
    int p = model_need_partition(run, &detach->id);
    int e = p == NONE ? NONE : need_device(run, detach->address);
    if (e == NONE) {
        return false;
    }
    if (run->s->entries[e].owner != p) {
        return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_DEVICE_BUSY, 1, 0);
    }
    run->s->entries[e].owner = NONE;
    run->m->touched_entry[e] = true;
    model_touch(run, p);
    return true;
}

bool model_apply_volume_attach(struct model_run *run, const struct vdc_op_volume_attach *attach)
{
    int p = model_need_guarded(run, &attach->id, attach->generation);
    if (p == NONE) {
        return false;
    }
    uint64_t others = 0;
    bool written = false;
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        const struct model_entry *entry = &run->s->entries[e];
        if (model_is_entry(run->m, e, VDC_ENTRY_VOLUME) && entry->owner != p &&
            vdc_id_equal(&entry->volume.volume, &attach->volume)) {
            others++;
            written = written || entry->volume.mode == VDC_VOLUME_WRITE;
        }
    }
    if (written || (others > 0 && attach->mode == VDC_VOLUME_WRITE)) {
        return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_VOLUME_BUSY, 1, others);
    }
    int old = model_find_volume(run->m, &attach->volume, p);
    if (old != NONE) {
        model_end_entry(run, old);
    }
    entry_make(run, VDC_ENTRY_VOLUME, run->zone, p, NONE)->volume = *attach;
    return true;
}

bool model_apply_volume_detach(struct model_run *run, const struct vdc_op_volume_detach *detach)
{
    int p = model_need_partition(run, &detach->id);
    if (p == NONE) {
        return false;
    }
    int e = model_find_volume(run->m, &detach->volume, p);
    if (e == NONE) {
        return model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_VOLUME, 0, 0);
    }
    model_end_entry(run, e);
    return true;
}

bool model_apply_port_connect(struct model_run *run, const struct vdc_op_port_connect *connect)
{
    int p = model_need_partition(run, &connect->id);
    if (p == NONE) {
        return false;
    }
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        const struct vdc_op_port_connect *port = &run->s->entries[e].port;
        if (model_is_entry(run->m, e, VDC_ENTRY_PORT) &&
            (memcmp(port->mac, connect->mac, 6) == 0 || strcmp(port->name, connect->name) == 0)) {
            return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_PORT_BUSY, 1, 0);
        }
    }
    entry_make(run, VDC_ENTRY_PORT, run->zone, p, NONE)->port = *connect;
    return true;
}

bool model_apply_port_disconnect(struct model_run *run,
                                 const struct vdc_op_port_disconnect *disconnect)
{
    int p = model_need_partition(run, &disconnect->id);
    if (p == NONE) {
        return false;
    }
    int e = model_find_port(run->m, disconnect->mac);
    if (e == NONE || run->s->entries[e].owner != p) {
        return model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_PORT, 0, 0);
    }
    model_end_entry(run, e);
    return true;
}

/* The second end of a channel; NONE: refused. */
static int need_peer(struct model_run *run, const struct vdc_id *id)
{
    int p = model_find_partition(run->m, id);
    if (p == NONE) {
        (void)model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_PARTITION, 0, 0);
        return NONE;
    }
    const struct model_partition *peer = &run->s->partitions[p];
    if (peer->zone != run->zone && peer->zone != NODE) {
        (void)model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CHANNEL_ENDPOINT, 0, 0);
        return NONE;
    }
    if (!vdc_id_is_none(&peer->claim) && !vdc_id_equal(&peer->claim, &run->tx->claim)) {
        (void)model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CLAIMED, 0, 0);
        return NONE;
    }
    return p;
}

static bool take_for_channel(struct model_run *run, const struct vdc_op_channel_connect *connect,
                             uint16_t owner)
{
    struct model *m = run->m;
    for (uint32_t i = 0; i < connect->blocks_len; i++) {
        const struct vdc_memory_block *block = &connect->blocks[i];
        int n = model_find_numa(m, block->numa);
        if (n == NONE) {
            return model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, block->numa, 0);
        }
        if (!memory_is(&m->numas[n], block->addr, block->bytes, 0)) {
            return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_MEMORY_BUSY, block->bytes, 0);
        }
        memory_set(m, n, block->addr, block->bytes, owner);
    }
    if (connect->blocks_len > 0) {
        return true;
    }
    int only = connect->numa == VDC_NUMA_ANY ? NONE : model_find_numa(m, connect->numa);
    if (connect->numa != VDC_NUMA_ANY && only == NONE) {
        return model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, connect->numa, 0);
    }
    uint64_t most = 0;
    uint64_t largest = 0;
    for (int n = 0; n < m->numas_len; n++) {
        if (only != NONE && n != only) {
            continue;
        }
        uint64_t here = memory_free(&m->numas[n], PAGE);
        if (here >= connect->bytes) {
            for (uint64_t left = connect->bytes; left > 0;) {
                uint64_t addr;
                left -= memory_take(m, n, left, PAGE, owner, &addr);
            }
            uint32_t runs = memory_runs(m, owner, NULL, 0);
            return runs <= VDC_CHANNEL_BLOCKS_MAX ||
                   model_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_FRAGMENTED, runs,
                                VDC_CHANNEL_BLOCKS_MAX);
        }
        most = VDC_MAX(most, here);
        largest = VDC_MAX(largest, memory_largest(&m->numas[n]));
    }
    run->answer.largest = largest;
    return model_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_FREE, connect->bytes, most);
}

bool model_apply_channel_connect(struct model_run *run,
                                 const struct vdc_op_channel_connect *connect)
{
    int p = model_need_partition(run, &connect->endpoint[0]);
    int peer = p == NONE ? NONE : need_peer(run, &connect->endpoint[1]);
    if (peer == NONE) {
        return false;
    }
    if (model_find_channel(run->m, &connect->channel) != NONE) {
        return model_refuse(run, VDC_RC_EXISTS, VDC_RULE_CHANNEL_EXISTS, 0, 0);
    }
    if (!model_within_slice(run, connect->bytes)) {
        return false;
    }
    struct model_entry *entry = entry_make(run, VDC_ENTRY_CHANNEL, run->zone, p, peer);
    entry->channel = *connect;
    entry->channel.blocks = NULL;
    return take_for_channel(run, connect, (uint16_t)(OWNER_CHANNEL + (entry - run->s->entries)));
}

bool model_apply_channel_disconnect(struct model_run *run, const struct vdc_id *id)
{
    if (!model_need_zone(run)) {
        return false;
    }
    int e = model_find_channel(run->m, id);
    if (e == NONE) {
        return model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CHANNEL, 0, 0);
    }
    if (run->s->entries[e].zone != run->zone) {
        return model_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0);
    }
    if (!vdc_id_is_none(&run->s->partitions[run->s->entries[e].owner].claim)) {
        return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CLAIMED, 0, 0);
    }
    model_end_entry(run, e);
    return true;
}

bool model_apply_promise(struct model_run *run, const struct vdc_op_fence_promise *promise)
{
    if (!model_need_zone(run)) {
        return false;
    }
    if (run->zone == NODE) {
        return model_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0);
    }
    int old = model_find_promise(run->m, run->zone, promise->node);
    uint64_t last = old == NONE ? 0 : run->s->entries[old].promise.incarnation;
    if (promise->incarnation <= last) {
        return model_refuse(run, VDC_RC_STALE, VDC_RULE_PROMISE, promise->incarnation, last);
    }
    if (old != NONE) {
        model_end_entry(run, old);
    }
    entry_make(run, VDC_ENTRY_PROMISE, run->zone, NONE, NONE)->promise = *promise;
    return true;
}
