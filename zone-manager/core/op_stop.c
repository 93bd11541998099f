/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stop and destroy have one step each: the wish is durable, the node is told, the outcome is seen.
 *
 *    WAIT ------> END
 *
 * Applying a policy is one write and has no step.
 */
#include "zone_internal.h"

const struct vdc_sm_state stop_states[] = {
    [STOP_WAIT] = {"stop", VDC_SM_TO(STOP_END)},
    [STOP_END] = {"end", 0},
};
const struct vdc_sm_state destroy_states[] = {
    [STOP_WAIT] = {"destroy", VDC_SM_TO(STOP_END)},
    [STOP_END] = {"end", 0},
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

void destroy_advance(struct vdc_zone *zone, struct zone_op *op)
{
    const struct vdc_partition_record *rec = &op->partition->rec;
    struct zone_node *node = zone_find_node(zone, rec->owner);
    struct zone_call *call = op_call(op, SLOT_DROP);
    bool known = node_known(node) && vdc_allocdb_sequence(node->replica) >= call->sequence;
    bool held = known && node_holds(node, &rec->id, rec->generation) != NULL;
    if (owner_gone(node, rec) || call->state == CALL_OK || (known && !held) ||
        (call->state == CALL_REFUSED && call->rc == VDC_RC_NOT_FOUND)) {
        op_finish(zone, op, VDC_RC_OK, "nothing of it is left");
        op_finish_gone(zone, op);
        return;
    }
    if (call->state == CALL_REFUSED) {
        op_finish(zone, op, call->rc, "%s refused: %s; destroy it again", node->rec.name,
                  call->text);
        op_write_both(zone, op);
        return;
    }
    if (node_is_lost(node)) {
        /* Of a class that does not restart: it may run there still. Nobody can have its id or its
         * volume again, and what the node holds without a record it is told to destroy when it joins.
         * Waiting for a host that may never come back would keep name and quota for ever. */
        op_finish(zone, op, VDC_RC_OK,
                  "%s is fenced; what is left of it there goes when it is back", node->rec.name);
        op_finish_gone(zone, op);
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
