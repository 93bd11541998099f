/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node against the records, beside all operations: what it holds and should not is destroyed there,
 * what it owns runs or stops as the record says, what it owns and does not hold is placed anew.
 */
#include "zone_internal.h"

void node_forget_repairs(struct vdc_zone *zone, struct zone_node *node)
{
    struct zone_repair *repair, *next;
    HASH_ITER(hh, node->repairs, repair, next)
    {
        call_forget(zone, &repair->call);
        HASH_DELETE(hh, node->repairs, repair);
        free(repair);
    }
    node->repair_at = VDC_NEVER;
}

/* Whether the records give the partition to this node, or its operation still decides. */
static bool should_hold(const struct vdc_zone *zone, const struct zone_node *node,
                        const struct vdc_partition *held)
{
    const struct zone_partition *partition = zone_partition_by_id(zone, &held->id);
    if (partition == NULL) {
        return false;
    }
    const struct zone_op *op = partition->op;
    if (op != NULL && (strcmp(op->rec.source, node->rec.name) == 0 ||
                       strcmp(op->rec.target, node->rec.name) == 0)) {
        return true;
    }
    return strcmp(partition->rec.owner, node->rec.name) == 0 &&
           partition->rec.generation == held->generation;
}

/* A place for one call that brings the partition into line on this node; NULL: one is under way. */
static struct zone_repair *begin_repair(struct zone_node *node, const struct vdc_partition *held)
{
    struct guest_key key = guest_key(&held->id, held->generation);
    struct zone_repair *repair;
    HASH_FIND(hh, node->repairs, &key, sizeof key, repair);
    if (repair != NULL) {
        return NULL;
    }
    repair = VDC_NEW(struct zone_repair);
    repair->key = key;
    HASH_ADD(hh, node->repairs, key, sizeof repair->key, repair);
    return repair;
}

/* One transaction; true: it was sent now. */
static bool send_repair(struct vdc_zone *zone, struct zone_node *node,
                        const struct vdc_partition *held, const struct vdc_op *ops,
                        uint32_t ops_len)
{
    struct zone_repair *repair = begin_repair(node, held);
    if (repair != NULL) {
        node_send_tx(zone, node, &repair->call, ops, ops_len);
    }
    return repair != NULL;
}

static void drop_stray(struct vdc_zone *zone, struct zone_node *node,
                       const struct vdc_partition *held)
{
    const struct vdc_op op = {
        .kind = VDC_OP_PARTITION_DESTROY,
        .partition_destroy = {.id = held->id, .generation = held->generation},
    };
    if (send_repair(zone, node, held, &op, 1)) {
        TRACE(zone, INFO,
              "%s on %s: generation %llu is not its owner's any more -> destroyed there",
              held->name, node->rec.name, (unsigned long long)held->generation);
    }
}

/* An operation that ended without reaching the node (it was away too long, its disk was full) leaves
 * behind what is meant and what is the case. What is meant holds: the record says so. Only where no
 * operation decides, and only at the owner in the present generation, so nothing can run twice. */
static void set_run(struct vdc_zone *zone, struct zone_node *node, const struct vdc_partition *held)
{
    const struct zone_partition *partition = zone_partition_by_id(zone, &held->id);
    if (partition->op != NULL || !partition->durable || partition->deleted) {
        return;
    }
    enum vdc_run meant = VDC_RUN_STOPPED;
    switch (partition->rec.desired) {
    case VDC_DESIRED_RUNNING:
        meant = VDC_RUN_RUNNING;
        break;
    case VDC_DESIRED_STOPPED:
        break;
    case VDC_DESIRED_ABSENT:
        return; /* a destroy failed: whoever asked for it knows, and asks again */
    }
    struct vdc_op ops[2] = {{
        .kind = VDC_OP_PARTITION_SET_RUN,
        .partition_set_run = {held->id, held->generation, meant},
    }};
    uint32_t ops_len = 1;
    if (meant == VDC_RUN_RUNNING) {
        ops_len += volume_op(&partition->rec, held->generation, &ops[1]);
    }
    if (held->run != meant && send_repair(zone, node, held, ops, ops_len)) {
        TRACE(zone, WARN, "%s on %s: is not as it is meant to be -> told to %s", held->name,
              node->rec.name, meant == VDC_RUN_RUNNING ? "run" : "stop");
    }
}

/* A migration that ended while its source was away (fenced, or silent for too long) left its guest at
 * the switch-over point, where it stands still until somebody decides. The owner's guest goes on. */
static void end_migration(struct vdc_zone *zone, struct zone_node *node,
                          const struct vdc_partition *held)
{
    const struct zone_partition *partition = zone_partition_by_id(zone, &held->id);
    const struct vdc_msg_guest *guest = node_guest(node, &held->id, held->generation);
    if (partition->op != NULL || !partition->durable || partition->deleted || guest == NULL ||
        (guest->state != VDC_GUEST_MIGRATING && guest->state != VDC_GUEST_SWITCHOVER &&
         guest->state != VDC_GUEST_MIGRATED)) {
        return;
    }
    struct zone_repair *repair = begin_repair(node, held);
    if (repair == NULL) {
        return;
    }
    struct vdc_msg_command cancel = {
        .partition = held->id,
        .generation = held->generation,
        .kind = VDC_COMMAND_MIGRATE_CANCEL,
    };
    TRACE(zone, WARN, "%s on %s: is %s, and no migration is under way -> told to go on", held->name,
          node->rec.name, vdc_guest_state_name(guest->state));
    node_send_command(zone, node, &repair->call, &cancel);
}

/* Forgets the repairs that were answered, and says when to look again. */
static void end_repairs(struct vdc_zone *zone, struct zone_node *node)
{
    struct zone_repair *repair, *next;
    HASH_ITER(hh, node->repairs, repair, next)
    {
        if (repair->call.state == CALL_SENT) {
            continue;
        }
        if (repair->call.state == CALL_REFUSED && repair->call.rc != VDC_RC_NOT_FOUND) {
            TRACE(zone, WARN, "node %s: refuses to be brought into line: %s -> again in %lld s",
                  node->rec.name, repair->call.text,
                  (long long)(ZONE_REPAIR_RETRY_NS / VDC_SECOND));
            node->repair_at = vdc_mono_add(zone->now, ZONE_REPAIR_RETRY_NS);
        } else {
            /* One repair at a time for each partition: the next look finds what else is to be done. */
            node->repair_at =
                vdc_mono_min(node->repair_at, vdc_mono_add(zone->now, ZONE_REPAIR_NEXT_NS));
        }
        call_forget(zone, &repair->call);
        HASH_DELETE(hh, node->repairs, repair);
        free(repair);
    }
}

void node_reconcile(struct vdc_zone *zone, struct zone_node *node)
{
    if (!node_known(node)) {
        return;
    }
    end_repairs(zone, node);
    if (vdc_mono_reached(zone->now, node->repair_at)) {
        node->repair_at = VDC_NEVER;
        node->reconcile = true;
    }
    if (!node->reconcile) {
        return;
    }
    node->reconcile = false;
    size_t len;
    const struct vdc_partition **held = vdc_allocdb_list_partitions(node->replica, &len);
    for (size_t i = 0; i < len; i++) {
        if (strcmp(held[i]->zone, zone->name) != 0 || held[i]->kind != VDC_PARTITION_GUEST) {
            continue;
        }
        if (should_hold(zone, node, held[i])) {
            set_run(zone, node, held[i]);
            end_migration(zone, node, held[i]);
        } else {
            drop_stray(zone, node, held[i]);
        }
    }
    free(held);
    for (size_t i = 0; i < zone->partitions_len; i++) {
        if (strcmp(zone->partitions[i]->rec.owner, node->rec.name) == 0) {
            zone_review_partition(zone, zone->partitions[i]);
        }
    }
}
