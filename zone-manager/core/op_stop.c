/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stop has one step: the wish is durable, the node is told, the outcome is seen. Destroy has a second
 * one for what it had on the shared storage.
 *
 *    stop:    WAIT ------> END
 *    destroy: WAIT ------> VOLUME ------> END
 *                nothing of it      any node
 *                runs or is held    has deleted it
 *
 * Only here is a volume ever deleted: no move, restart or fencing does. It has its partition's id,
 * which no other partition ever gets, and it goes while the record still says `absent`: a leader or a
 * node that dies in between has it asked for again, and what is gone already is well.
 *
 * Applying a policy is one write and has no step.
 */
#include "zone_internal.h"

const struct vdc_sm_state stop_states[] = {
    [STOP_WAIT] = {"stop", VDC_SM_TO(STOP_END)},
    [STOP_END] = {"end", 0},
};
const struct vdc_sm_state destroy_states[] = {
    [DESTROY_WAIT] = {"destroy", VDC_SM_TO(DESTROY_VOLUME) | VDC_SM_TO(DESTROY_END)},
    [DESTROY_VOLUME] = {"volume", VDC_SM_TO(DESTROY_END)},
    [DESTROY_END] = {"end", 0},
};
const struct vdc_sm_state policy_states[] = {
    [STOP_WAIT] = {"write", VDC_SM_TO(STOP_END)},
    [STOP_END] = {"end", 0},
};

/* Whether its node is gone in a way that what ran there runs no more. */
static bool owner_gone(const struct zone_node *node, const struct vdc_partition_record *rec)
{
    return rec->owner[0] == 0 || node == NULL || (node_is_lost(node) && rec->restartable);
}

static bool expired(struct vdc_zone *zone, struct zone_op *op)
{
    if (vdc_mono_is_never(op->work->deadline)) {
        op->work->deadline = vdc_mono_add(op->work->step_began, ZONE_STOP_TIMEOUT_NS);
    }
    if (!vdc_mono_reached(zone->now, op->work->deadline)) {
        return false;
    }
    bool destroy = op->rec.kind == VDC_OPERATION_DESTROY;
    op_finish(zone, op, VDC_RC_TIMEOUT, "%s did not do it within %lld s; %s", op->rec.target,
              (long long)(ZONE_STOP_TIMEOUT_NS / VDC_SECOND),
              destroy ? "destroy it again" : "it is told to stop again when it answers");
    op_write_both(zone, op);
    return true;
}

void stop_advance(struct vdc_zone *zone, struct zone_op *op)
{
    const struct vdc_partition_record *rec = &op->partition->rec;
    struct zone_node *node = zone_find_node(zone, rec->owner);
    struct zone_call *call = op_call(op, SLOT_TARGET);
    if (owner_gone(node, rec)) {
        op_finish(zone, op, VDC_RC_OK, "its node is fenced");
        op_write_both(zone, op);
        return;
    }
    const struct vdc_op set = {
        .kind = VDC_OP_PARTITION_SET_RUN,
        .partition_set_run = {rec->id, rec->generation, VDC_RUN_STOPPED},
    };
    bool known = node_known(node) && vdc_allocdb_sequence(node->replica) >= call->sequence;
    bool held = known && node_holds(node, &rec->id, rec->generation) != NULL;
    if (known && !held) {
        op_finish(zone, op, VDC_RC_OK, "its node does not hold it any more");
        op_write_both(zone, op);
        return;
    }
    if (call->state == CALL_REFUSED) {
        op_finish(zone, op, call->rc, "%s: %s", node->rec.name, call->text);
        op_write_both(zone, op);
        return;
    }
    if (call->state == CALL_OK && known) {
        const struct vdc_msg_guest *guest = node_guest(node, &rec->id, rec->generation);
        if (guest == NULL || guest->state == VDC_GUEST_STOPPED ||
            guest->state == VDC_GUEST_FAILED) {
            op_finish(zone, op, VDC_RC_OK, "stopped on %s", rec->owner);
            op_write_both(zone, op);
            return;
        }
    }
    op_send_tx(zone, op, SLOT_TARGET, node, &set, 1);
    (void)expired(zone, op);
}

/* Who is to delete the volume: all nodes have the same storage. Its owner first: that one has seen its
 * guest end. */
static struct zone_node *deleting_node(const struct vdc_zone *zone,
                                       const struct vdc_partition_record *rec)
{
    struct zone_node *owner = zone_find_node(zone, rec->owner);
    if (node_reachable(owner)) {
        return owner;
    }
    for (size_t i = 0; i < zone->nodes_len; i++) {
        if (node_reachable(zone->nodes[i])) {
            return zone->nodes[i];
        }
    }
    return NULL;
}

static void advance_volume(struct vdc_zone *zone, struct zone_op *op)
{
    const struct vdc_partition_record *rec = &op->partition->rec;
    struct zone_call *call = op_call(op, SLOT_VOLUME);
    struct op_work *work = op->work;
    if (call->state == CALL_OK) {
        op_finish(zone, op, VDC_RC_OK, "nothing of it is left");
        op_finish_gone(zone, op);
        return;
    }
    struct zone_node *owner = zone_find_node(zone, rec->owner);
    if (owner != NULL && node_known(owner) &&
        node_holds(owner, &rec->id, rec->generation) != NULL) {
        /* It was fenced, and is back with the guest that it may have kept. */
        const struct vdc_op drop = {
            .kind = VDC_OP_PARTITION_DESTROY,
            .partition_destroy = {rec->id, rec->generation},
        };
        op_send_tx(zone, op, SLOT_DROP, owner, &drop, 1);
        (void)expired(zone, op);
        return;
    }
    struct zone_node *node = deleting_node(zone, rec);
    if (node == NULL) {
        work->step_began = zone->now; /* whenever one is back */
        work->deadline = VDC_NEVER;
        work->retry_at = VDC_NEVER;
        return;
    }
    if (call->state == CALL_REFUSED) {
        if (vdc_mono_is_never(work->retry_at)) {
            TRACE(zone, WARN, "%s: its volume is not deleted yet: %s -> again",
                  op->rec.partition_name, call->text);
            work->retry_at = vdc_mono_add(zone->now, ZONE_VOLUME_RETRY_NS);
        }
        if (vdc_mono_reached(zone->now, work->deadline)) {
            op_finish(zone, op, call->rc, "%s could not delete its volume: %s; destroy it again",
                      node->rec.name, call->text);
            op_write_both(zone, op);
            return;
        }
        if (!vdc_mono_reached(zone->now, work->retry_at)) {
            return;
        }
        op_reset_call(zone, op, SLOT_VOLUME);
        work->retry_at = VDC_NEVER;
    }
    struct vdc_msg_command command = {
        .kind = VDC_COMMAND_VOLUME_DELETE,
        .partition = rec->id,
        .generation = rec->generation,
    };
    op_send_command(zone, op, SLOT_VOLUME, node, &command);
    (void)expired(zone, op);
}

/* Nothing of it runs or is held any more where it matters. */
static void end_destroy(struct vdc_zone *zone, struct zone_op *op, const char *why)
{
    const struct vdc_partition_record *rec = &op->partition->rec;
    if (rec->spec.disk_bytes > 0 && rec->generation_last > 0) {
        op_move_write(zone, op, DESTROY_VOLUME, why);
    } else {
        op_finish(zone, op, VDC_RC_OK, "nothing of it is left");
        op_finish_gone(zone, op);
    }
}

void destroy_advance(struct vdc_zone *zone, struct zone_op *op)
{
    if (op->step == DESTROY_VOLUME) {
        advance_volume(zone, op);
        return;
    }
    const struct vdc_partition_record *rec = &op->partition->rec;
    struct zone_node *node = zone_find_node(zone, rec->owner);
    struct zone_call *call = op_call(op, SLOT_DROP);
    bool known = node_known(node) && vdc_allocdb_sequence(node->replica) >= call->sequence;
    bool held = known && node_holds(node, &rec->id, rec->generation) != NULL;
    if (owner_gone(node, rec) || call->state == CALL_OK || (known && !held) ||
        (call->state == CALL_REFUSED && call->rc == VDC_RC_NOT_FOUND)) {
        end_destroy(zone, op, "nothing of it runs");
        return;
    }
    /* Meant is that it goes: what passes only delays that. */
    if (!op_retry_refused(zone, op, SLOT_DROP, node->rec.name) && call->state == CALL_REFUSED) {
        op_finish(zone, op, call->rc, "%s refused: %s; destroy it again", node->rec.name,
                  call->text);
        op_write_both(zone, op);
        return;
    }
    if (node_is_lost(node)) {
        /* Of a class that does not restart: it may run there still, without its volume then, which nobody
         * else ever gets. What the host holds without a record it is told to destroy when it joins.
         * Waiting for a host that may never come back would keep name and quota for ever. */
        end_destroy(zone, op, "its node is fenced; what is left there goes when that is back");
        return;
    }
    const struct vdc_op drop = {
        .kind = VDC_OP_PARTITION_DESTROY,
        .partition_destroy = {rec->id, rec->generation},
    };
    op_send_tx(zone, op, SLOT_DROP, node, &drop, 1);
    /* No time limit while the node is away: it comes back, or is fenced. */
    if (node_reachable(node)) {
        (void)expired(zone, op);
    } else {
        op->work->step_began = zone->now;
        op->work->deadline = VDC_NEVER;
    }
}
