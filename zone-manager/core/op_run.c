/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A partition comes to run: create, start and failover are one machine, begun at different states.
 *
 *    failover, no room;         placed: owner, generation + 1     the node has committed
 *    start of a lost one             (one write)
 *         PLACE -----------------------> COMMIT -----------------------> START
 *           ^                              |  |                            | |
 *           |   refused: another node;     |  | node fenced, or            | | runs, or
 *           +-- fenced while committing ---+  | nobody takes it            | | gave up waiting
 *           +-- fenced while starting ------- | -------------------------- + |
 *                                             v                              v
 *                                            END <---------------------------+
 *
 * Invariant: in COMMIT and START the partition's owner is rec.target and its generation is
 * rec.generation_to; the transaction of a generation goes to one node only, the one that the record
 * named before it was sent.
 */
#include "zone_internal.h"

const struct vdc_sm_state run_states[] = {
    [RUN_PLACE] = {"place", VDC_SM_TO(RUN_COMMIT) | VDC_SM_TO(RUN_END)},
    [RUN_COMMIT] = {"commit", VDC_SM_TO(RUN_PLACE) | VDC_SM_TO(RUN_START) | VDC_SM_TO(RUN_COMMIT) |
                                  VDC_SM_TO(RUN_END)},
    [RUN_START] = {"start", VDC_SM_TO(RUN_PLACE) | VDC_SM_TO(RUN_COMMIT) | VDC_SM_TO(RUN_END)},
    [RUN_END] = {"end", 0},
};

static enum vdc_policy_cause cause_of(const struct zone_op *op)
{
    /* Only a first placement is measured against quotas: what exists has passed them. */
    return op->rec.kind == VDC_OPERATION_CREATE ? VDC_POLICY_CREATE : VDC_POLICY_FAILOVER;
}

/* In memory: the partition belongs to the node, with a generation that nobody had. */
static void give_to(struct vdc_zone *zone, struct zone_op *op, struct zone_node *node)
{
    struct vdc_partition_record *rec = &op->partition->rec;
    vdc_str_set(rec->owner, sizeof rec->owner, node->rec.name);
    rec->generation = ++rec->generation_last;
    rec->policy_version = zone->policy_rec.version;
    vdc_str_set(op->rec.target, sizeof op->rec.target, node->rec.name);
    op->rec.generation_to = rec->generation;
    op->rec.state = VDC_OPSTATE_RUNNING;
    op_reset_call(zone, op, SLOT_TARGET);
    op_reset_call(zone, op, SLOT_RESET);
}

static void note_placed(struct vdc_zone *zone, struct zone_op *op)
{
    VDC_GROW(zone->placed, zone->placed_cap, zone->placed_len + 1);
    zone->placed[zone->placed_len++] = op;
}

/* Looks for a node and writes what comes of it: from PLACE, or from the others after a loss. */
static void place_again(struct vdc_zone *zone, struct zone_op *op, const char *why)
{
    struct placement placement;
    const char *excluded[ZONE_PLACE_ATTEMPTS_MAX];
    struct op_work *work = op->work;
    for (size_t i = 0; i < work->excluded_len; i++) {
        excluded[i] = work->excluded[i];
    }
    zone_place(zone, &op->partition->rec.spec, &op->partition->rec.id, cause_of(op), NULL, excluded,
               work->excluded_len, &placement);
    note_placed(zone, op);
    /* The rest of a verdict names the state's generation, which every write changes. */
    bool changed = op->rec.verdict == NULL ||
                   strncmp(op->rec.verdict, placement.line, strlen(placement.line)) != 0;
    if (placement.placed || changed) {
        placement_trace(zone, &placement);
    }
    if (placement.placed) {
        op_set_verdict(op, &placement);
        give_to(zone, op, placement.node);
        op_move(zone, op, RUN_COMMIT, why);
        op_write_both(zone, op);
    } else {
        /* What refused it this time may take it the next time. */
        work->excluded_len = 0;
        if (op->step != RUN_PLACE) {
            op_move(zone, op, RUN_PLACE, why);
            changed = true;
        }
        op->work->retry_at = vdc_mono_add(zone->now, ZONE_PLACE_RETRY_NS);
        op->rec.state = VDC_OPSTATE_QUEUED;
        if (changed) {
            op_set_verdict(op, &placement);
            op_write_both(zone, op);
        }
        work->tried = zone->generation;
    }
    placement_deinit(&placement);
}

void run_begin_failover(struct vdc_zone *zone, struct zone_partition *partition, const char *why)
{
    struct zone_op *op = op_create(zone, VDC_OPERATION_FAILOVER, RUN_PLACE, partition);
    vdc_str_set(op->rec.source, sizeof op->rec.source, partition->rec.owner);
    TRACE(zone, WARN, "%s: %s -> restarts elsewhere", partition->rec.spec.name, why);
    place_again(zone, op, why);
}

/* A first placement that found only refusals leaves nothing behind. */
static void give_up_create(struct vdc_zone *zone, struct zone_op *op)
{
    const struct zone_call *call = op_call(op, SLOT_TARGET);
    op_finish(zone, op, call->rc == VDC_RC_NO_SPACE ? VDC_RC_NO_SPACE : VDC_RC_CONFLICT,
              "%u nodes refused it, the last one, %s: %s", op->work->attempts, op->rec.target,
              call->text);
    op_finish_gone(zone, op);
}

static void on_refusal(struct vdc_zone *zone, struct zone_op *op)
{
    const struct zone_call *call = op_call(op, SLOT_TARGET);
    struct op_work *work = op->work;
    TRACE(zone, WARN, "%s: %s refused it: %s -> another node", op->rec.partition_name,
          op->rec.target, call->text);
    work->attempts++;
    if (work->excluded_len < ZONE_PLACE_ATTEMPTS_MAX) {
        vdc_str_set(work->excluded[work->excluded_len++], VDC_NAME_CAP, op->rec.target);
    }
    if (op->rec.kind == VDC_OPERATION_CREATE && work->attempts >= ZONE_PLACE_ATTEMPTS_MAX) {
        give_up_create(zone, op);
        return;
    }
    if (op->rec.kind == VDC_OPERATION_CREATE) {
        struct placement placement;
        const char *excluded[ZONE_PLACE_ATTEMPTS_MAX];
        for (size_t i = 0; i < work->excluded_len; i++) {
            excluded[i] = work->excluded[i];
        }
        zone_place(zone, &op->partition->rec.spec, &op->partition->rec.id, VDC_POLICY_CREATE, NULL,
                   excluded, work->excluded_len, &placement);
        note_placed(zone, op);
        placement_trace(zone, &placement);
        op_set_verdict(op, &placement);
        if (!placement.placed) {
            give_up_create(zone, op);
        } else {
            give_to(zone, op, placement.node);
            op_move(zone, op, RUN_COMMIT, "another node");
            op_write_both(zone, op);
        }
        placement_deinit(&placement);
        return;
    }
    place_again(zone, op, "refused");
}

/* A start of what its node still holds only changes its run state. */
static bool is_restart(const struct zone_op *op)
{
    return op->rec.kind == VDC_OPERATION_START && op->rec.generation_to == op->rec.generation_from;
}

/* True when nothing that an earlier transaction did can still run: then another node may have it. */
static bool may_replace(struct zone_op *op)
{
    return op->partition->rec.restartable ||
           (!is_restart(op) && !op->work->resumed && op_call(op, SLOT_TARGET)->state == CALL_NONE &&
            op->step == RUN_COMMIT);
}

static void on_lost(struct vdc_zone *zone, struct zone_op *op, const char *why)
{
    if (may_replace(op)) {
        place_again(zone, op, why);
        return;
    }
    op_finish(zone, op, VDC_RC_UNAVAILABLE, "%s is lost, and its class does not restart elsewhere",
              op->rec.target);
    op_write_both(zone, op);
}

static void send_restart(struct vdc_zone *zone, struct zone_op *op, struct zone_node *node)
{
    const struct vdc_partition_record *rec = &op->partition->rec;
    const struct vdc_partition *held = node_holds(node, &rec->id, rec->generation);
    const struct vdc_msg_guest *guest = node_guest(node, &rec->id, rec->generation);
    struct vdc_op set[2] = {{
        .kind = VDC_OP_PARTITION_SET_RUN,
        .partition_set_run = {.id = rec->id, .generation = rec->generation},
    }};
    /* A guest that powered itself off is still meant to run: to start it, that is taken back first. */
    bool ended = guest != NULL && (guest->state == VDC_GUEST_STOPPED);
    if (op_call(op, SLOT_TARGET)->state == CALL_NONE && held != NULL &&
        held->run == VDC_RUN_RUNNING && ended) {
        set[0].partition_set_run.run = VDC_RUN_STOPPED;
        if (!op_retry_refused(zone, op, SLOT_RESET, node->rec.name) &&
            op_call(op, SLOT_RESET)->state == CALL_REFUSED) {
            op_finish(zone, op, op_call(op, SLOT_RESET)->rc, "%s: %s", node->rec.name,
                      op_call(op, SLOT_RESET)->text);
            op_write_both(zone, op);
            return;
        }
        op_send_tx(zone, op, SLOT_RESET, node, set, 1);
        return;
    }
    set[0].partition_set_run.run = VDC_RUN_RUNNING;
    uint32_t len = 1 + volume_op(rec, rec->generation, &set[1]);
    op_send_tx(zone, op, SLOT_TARGET, node, set, len);
}

static void send_create(struct vdc_zone *zone, struct zone_op *op, struct zone_node *node)
{
    if (!op_send_create(zone, op, node, VDC_RUN_RUNNING)) {
        op_finish(zone, op, VDC_RC_REFUSED, "the policy has no class %s any more",
                  op->partition->rec.spec.class);
        op_write_both(zone, op);
    }
}

/* A refusal says nothing of an earlier sending of the same request whose answer was lost: a full disk
 * or a node that is just joining refuses before it looks whether it knows the request. What the node
 * holds decides; its replica is never behind its answers. */
static void take_refusal(struct vdc_zone *zone, struct zone_op *op, const struct zone_node *node)
{
    struct zone_call *call = op_call(op, SLOT_TARGET);
    const struct vdc_partition_record *rec = &op->partition->rec;
    if (node_holds(node, &rec->id, rec->generation) == NULL) {
        on_refusal(zone, op);
    } else if (is_restart(op)) {
        /* It may even be running there: another node must not have it. */
        op_finish(zone, op, call->rc, "%s refused to start it: %s", node->rec.name, call->text);
        op_write_both(zone, op);
    } else {
        TRACE(zone, WARN, "%s: %s refused it (%s), but holds it -> committed",
              op->rec.partition_name, node->rec.name, call->text);
        call->state = CALL_OK;
        zone_mark_op(zone, op);
    }
}

static void advance_commit(struct vdc_zone *zone, struct zone_op *op)
{
    struct zone_node *node = zone_find_node(zone, op->rec.target);
    struct zone_call *call = op_call(op, SLOT_TARGET);
    if (node == NULL || node_is_lost(node)) {
        on_lost(zone, op, "its node is fenced");
        return;
    }
    if (call->state == CALL_OK) {
        op_move_write(zone, op, RUN_START, "committed");
        op->work->deadline = vdc_mono_add(zone->now, ZONE_START_TIMEOUT_NS);
        return;
    }
    if (!node_known(node)) {
        return;
    }
    if (call->state == CALL_REFUSED) {
        take_refusal(zone, op, node);
        return;
    }
    if (is_restart(op)) {
        send_restart(zone, op, node);
    } else {
        send_create(zone, op, node);
    }
}

static void advance_start(struct vdc_zone *zone, struct zone_op *op)
{
    struct zone_node *node = zone_find_node(zone, op->rec.target);
    const struct vdc_partition_record *rec = &op->partition->rec;
    const struct zone_call *call = op_call(op, SLOT_TARGET);
    if (vdc_mono_is_never(op->work->deadline)) {
        op->work->deadline = vdc_mono_add(op->work->step_began, ZONE_START_TIMEOUT_NS);
    }
    if (node == NULL || node_is_lost(node)) {
        on_lost(zone, op, "its node is fenced");
        return;
    }
    const struct vdc_msg_guest *guest = node_guest(node, &rec->id, rec->generation);
    bool known = node_known(node) && vdc_allocdb_sequence(node->replica) >= call->sequence;
    if (known && node_holds(node, &rec->id, rec->generation) == NULL) {
        /* It committed and was fenced and is back, all between two looks of ours. */
        place_again(zone, op, "its node holds it no more");
        return;
    }
    if (known && guest != NULL && guest->state == VDC_GUEST_RUNNING) {
        op_finish(zone, op, VDC_RC_OK, "runs on %s", op->rec.target);
        op_write_both(zone, op);
        return;
    }
    if (vdc_mono_reached(zone->now, op->work->deadline)) {
        op_finish(zone, op, VDC_RC_TIMEOUT, "it does not run on %s after %lld s: %s%s%s",
                  op->rec.target, (long long)(ZONE_START_TIMEOUT_NS / VDC_SECOND),
                  guest == NULL ? "not seen" : vdc_guest_state_name(guest->state),
                  guest != NULL && guest->reason[0] != 0 ? ": " : "",
                  guest == NULL ? "" : guest->reason);
        op_write_both(zone, op);
    }
}

void run_advance(struct vdc_zone *zone, struct zone_op *op)
{
    switch ((enum run_step)op->step) {
    case RUN_PLACE:
        /* Only a state that has changed, or time can change the verdict. */
        if (op->work->tried != zone->generation ||
            vdc_mono_reached(zone->now, op->work->retry_at)) {
            place_again(zone, op, "a node was found");
        }
        break;
    case RUN_COMMIT:
        advance_commit(zone, op);
        break;
    case RUN_START:
        advance_start(zone, op);
        break;
    case RUN_END:
        break;
    }
}
