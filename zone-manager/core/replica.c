/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a node says of itself: its database, of which we keep a replica that is compared at each
 * heartbeat, and the guests that its monitors run.
 */
#include <stdio.h>

#include "zone_internal.h"

static void reread(struct vdc_zone *zone, struct zone_node *node, const char *why)
{
    if (!node->connected || node->snapshot_asked) {
        return;
    }
    TRACE(zone, ERROR, "node %s: its replica %s -> read anew", node->rec.name, why);
    node->replica_equal = false;
    node->behind = 0;
    vdc_buf_clear(&node->snapshot);
    node_send_lead(zone, node, false, true);
}

static void replica_changed(struct vdc_zone *zone, struct zone_node *node)
{
    zone->generation++;
    zone_mark_node(zone, node);
    zone_mark_ops_of(zone, node->rec.name);
}

void node_take_records(struct vdc_zone *zone, struct zone_node *node,
                       const struct vdc_msg_records *records)
{
    if (node->replica == NULL || node->snapshot_asked) {
        return; /* the snapshot that was asked for has them, or they come again behind it */
    }
    for (size_t i = 0; i < records->records_len; i++) {
        uint64_t sequence = records->first_sequence + i;
        if (sequence <= vdc_allocdb_sequence(node->replica)) {
            continue;
        }
        struct vdc_err err = {0};
        enum vdc_rc rc = vdc_allocdb_apply_record(node->replica, records->records[i].data,
                                                  records->records[i].len, &err);
        if (rc != VDC_RC_OK) {
            if (rc != VDC_RC_PROTOCOL) {
                vdc_allocdb_destroy(node->replica);
                node->replica = NULL;
            }
            reread(zone, node, vdc_err_text(&err));
            return;
        }
        node->behind = 0;
    }
    replica_changed(zone, node);
}

void node_take_snapshot(struct vdc_zone *zone, struct zone_node *node,
                        const struct vdc_msg_snapshot *snapshot)
{
    if (snapshot->offset == 0) {
        vdc_buf_clear(&node->snapshot);
    }
    if (snapshot->offset != node->snapshot.len || snapshot->total > VDC_ALLOCDB_SNAPSHOT_MAX ||
        snapshot->piece.len > snapshot->total - snapshot->offset) {
        vdc_buf_clear(&node->snapshot);
        node->snapshot_asked = false;
        reread(zone, node, "came in pieces that do not fit");
        return;
    }
    vdc_buf_append(&node->snapshot, snapshot->piece.data, snapshot->piece.len);
    if (node->snapshot.len < snapshot->total) {
        return;
    }
    struct vdc_allocdb *replica = NULL;
    struct vdc_err err = {0};
    node->snapshot_asked = false;
    enum vdc_rc rc = vdc_allocdb_restore(node->snapshot.data, node->snapshot.len, &replica, &err);
    vdc_buf_deinit(&node->snapshot);
    vdc_allocdb_destroy(node->replica);
    node->replica = replica;
    node->behind = 0;
    node->reconcile = true;
    if (rc != VDC_RC_OK) {
        /* Asked for again at its next heartbeat, not in a circle. */
        TRACE(zone, ERROR, "node %s: its snapshot is not readable: %s", node->rec.name,
              vdc_err_text(&err));
    }
    replica_changed(zone, node);
}

void node_compare_replica(struct vdc_zone *zone, struct zone_node *node,
                          const struct vdc_msg_lease_ask *ask)
{
    if (node->snapshot_asked || !node->joined) {
        return;
    }
    if (node->replica == NULL) {
        reread(zone, node, "is missing");
        return;
    }
    uint64_t sequence = vdc_allocdb_sequence(node->replica);
    if (ask->db_sequence != sequence) {
        node->behind++;
        if (node->behind >= ZONE_REPLICA_BEHIND_MAX) {
            reread(zone, node, "does not follow");
        }
        return;
    }
    node->behind = 0;
    struct vdc_digest digest = vdc_allocdb_digest(node->replica);
    uint8_t bytes[VDC_MSG_DIGEST_LEN];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(digest.lo >> (8 * i));
        bytes[8 + i] = (uint8_t)(digest.hi >> (8 * i));
    }
    node->replica_equal = memcmp(bytes, ask->db_digest, sizeof bytes) == 0;
    if (!node->replica_equal) {
        char why[96];
        snprintf(why, sizeof why, "differs at sequence %llu", (unsigned long long)sequence);
        reread(zone, node, why);
    }
}

const struct vdc_partition *node_holds(const struct zone_node *node, const struct vdc_id *partition,
                                       uint64_t generation)
{
    if (node->replica == NULL) {
        return NULL;
    }
    const struct vdc_partition *found = vdc_allocdb_find_partition(node->replica, partition);
    return found != NULL && found->generation == generation ? found : NULL;
}

/* ---- guests ---- */

/* A key without padding that could differ: 16 bytes and 8. */
struct guest_key guest_key(const struct vdc_id *partition, uint64_t generation)
{
    struct guest_key key;
    memset(&key, 0, sizeof key);
    key.partition = *partition;
    key.generation = generation;
    return key;
}

static struct zone_guest *find_guest(const struct zone_node *node, const struct vdc_id *partition,
                                     uint64_t generation)
{
    struct guest_key key = guest_key(partition, generation);
    struct zone_guest *guest;
    HASH_FIND(hh, node->guests, &key, sizeof key, guest);
    return guest;
}

const struct vdc_msg_guest *node_guest(const struct zone_node *node, const struct vdc_id *partition,
                                       uint64_t generation)
{
    const struct zone_guest *guest = find_guest(node, partition, generation);
    return guest == NULL ? NULL : &guest->msg;
}

static void prune_guests(struct zone_node *node)
{
    struct zone_guest *guest, *next;
    HASH_ITER(hh, node->guests, guest, next)
    {
        if (node_holds(node, &guest->key.partition, guest->key.generation) == NULL) {
            HASH_DELETE(hh, node->guests, guest);
            free(guest);
        }
    }
}

void node_take_guest(struct vdc_zone *zone, struct zone_node *node, const struct vdc_msg_guest *msg)
{
    struct zone_guest *guest = find_guest(node, &msg->partition, msg->generation);
    struct zone_partition *partition = zone_partition_by_id(zone, &msg->partition);
    if (guest == NULL) {
        if (node->replica != NULL &&
            HASH_COUNT(node->guests) > 64 + 2 * vdc_allocdb_count_partitions(node->replica)) {
            prune_guests(node);
        }
        if (HASH_COUNT(node->guests) > 2 * VDC_ALLOCDB_PARTITIONS_MAX) {
            return;
        }
        guest = VDC_NEW(struct zone_guest);
        guest->key = guest_key(&msg->partition, msg->generation);
        HASH_ADD(hh, node->guests, key, sizeof guest->key, guest);
    } else if (guest->msg.state == msg->state && guest->heard) {
        guest->msg = *msg;
        if (partition != NULL && partition->op != NULL) {
            zone_mark_op(zone, partition->op);
        }
        return;
    }
    guest->heard = true;
    guest->msg = *msg;
    if (partition == NULL) {
        return;
    }
    TRACE(zone, INFO, "%s on %s: %s, generation %llu%s%s", partition->rec.spec.name, node->rec.name,
          vdc_guest_state_name(msg->state), (unsigned long long)msg->generation,
          msg->reason[0] != 0 ? ": " : "", msg->reason);
    if (partition->op != NULL) {
        zone_mark_op(zone, partition->op);
    }
}

void node_forget_guests(struct zone_node *node, bool all)
{
    struct zone_guest *guest, *next;
    HASH_ITER(hh, node->guests, guest, next)
    {
        if (all || !guest->heard) {
            HASH_DELETE(hh, node->guests, guest);
            free(guest);
        }
    }
}
