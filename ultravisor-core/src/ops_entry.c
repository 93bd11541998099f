/* SPDX-License-Identifier: Apache-2.0 */
/* Devices, volumes in use, network ports and fence promises. */
#include <string.h>

#include "entries.h"
#include "ops.h"

enum vdc_rc op_judge_entries_limit(struct op_run *run)
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

enum vdc_rc apply_device_add(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
    const struct vdc_op_device_add *add = &op->device_add;
    enum vdc_rc rc = judge_machine(run);
    if (rc == VDC_RC_OK) {
        rc = op_judge_entries_limit(run);
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
    return VDC_RC_OK;
}

static enum vdc_rc find_device(struct op_run *run, const char *address, struct entry **out)
{
    *out = entry_find_device(run->db, address);
    return *out != NULL ? VDC_RC_OK
                        : op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_DEVICE, 0, 0,
                                    "no device %s", address);
}

/* The device, which must be of the zone and nobody's. */
enum vdc_rc op_find_free_device(struct op_run *run, const char *address, struct entry **out)
{
    enum vdc_rc rc = find_device(run, address, out);
    if (rc != VDC_RC_OK || ((*out)->zone == run->zone && (*out)->pub.partition == NULL)) {
        return rc;
    }
    const struct vdc_partition *owner = (*out)->pub.partition;
    return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_DEVICE_BUSY, 1, 0, "%s is %s \"%s\"", address,
                     owner == NULL ? "in zone" : "attached to",
                     owner == NULL ? (*out)->pub.zone : owner->name);
}

enum vdc_rc apply_device_remove(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
    struct entry *entry;
    enum vdc_rc rc = judge_machine(run);
    if (rc == VDC_RC_OK) {
        rc = op_find_free_device(run, op->device_remove.address, &entry);
    }
    if (rc == VDC_RC_OK) {
        entry_drop(run->db, entry);
    }
    return rc;
}

enum vdc_rc apply_device_attach(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
    struct entry *entry;
    enum vdc_rc rc = op_find_free_device(run, op->device_attach.address, &entry);
    if (rc == VDC_RC_OK) {
        entry_set_device(run->db, entry, run->zone, slot->number);
    }
    return rc;
}

enum vdc_rc apply_device_detach(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
    struct entry *entry;
    enum vdc_rc rc = find_device(run, op->device_detach.address, &entry);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (entry->owner != slot->number) {
        return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_DEVICE_BUSY, 1, 0, "%s is not %s's",
                         entry->pub.device.address, slot->pub.name);
    }
    entry_set_device(run->db, entry, run->zone, SLOT_NONE);
    return VDC_RC_OK;
}

/* --- volumes --- */

enum vdc_rc apply_volume_attach(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
    const struct vdc_op_volume_attach *attach = &op->volume_attach;
    struct vdc_allocdb *db = run->db;
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
    enum vdc_rc rc = old == NULL ? op_judge_entries_limit(run) : VDC_RC_OK;
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
    return VDC_RC_OK;
}

enum vdc_rc apply_volume_detach(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
    const struct vdc_op_volume_detach *detach = &op->volume_detach;
    struct entry *entry = entry_find_volume(run->db, &detach->volume, &detach->id);
    if (entry == NULL) {
        char volume[VDC_ID_TEXT_CAP];
        vdc_id_to_text(&detach->volume, volume);
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_VOLUME, 0, 0,
                         "%s does not use volume %s", slot->pub.name, volume);
    }
    entry_drop(run->db, entry);
    return VDC_RC_OK;
}

/* --- ports --- */

enum vdc_rc apply_port_connect(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
    const struct vdc_op_port_connect *connect = &op->port_connect;
    enum vdc_rc rc = op_judge_entries_limit(run);
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
    return VDC_RC_OK;
}

enum vdc_rc apply_port_disconnect(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
    const struct vdc_op_port_disconnect *disconnect = &op->port_disconnect;
    struct entry *entry = entry_find_port(run->db, disconnect->mac);
    if (entry == NULL || entry->owner != slot->number) {
        const uint8_t *m = disconnect->mac;
        return op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_PORT, 0, 0,
                         "%s has no port %02x:%02x:%02x:%02x:%02x:%02x", slot->pub.name, m[0], m[1],
                         m[2], m[3], m[4], m[5]);
    }
    entry_drop(run->db, entry);
    return VDC_RC_OK;
}

/* --- fence promises --- */

enum vdc_rc apply_fence_promise(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    (void)slot;
    const struct vdc_op_fence_promise *promise = &op->fence_promise;
    const struct vdc_zone_slice *slice = &run->db->zones[run->zone].pub;
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
    enum vdc_rc rc = old == NULL ? op_judge_entries_limit(run) : VDC_RC_OK;
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
    return VDC_RC_OK;
}
