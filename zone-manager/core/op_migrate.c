/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live migration (architecture 7.2). The ownership record says who may run the guest; everything
 * before the write that moves it can be given up, nothing after it can.
 *
 *   RESERVE      target commits the partition as incoming; its guest waits for the stream;
 *      |         MIGRATE_IN opens its port
 *      v
 *   STREAM       the source notes that its guest is leaving (from then on it is not started there
 *      |         again, whatever ends or reboots); MIGRATE_OUT; it runs at the source and is copied
 *      |  source reports `switchover`: it stands still
 *      v
 *   SWITCHOVER   that this step could be written shows that the store answers; MIGRATE_CONTINUE
 *      |  source reports `migrated` and target `loaded`: the whole guest is at the target
 *      v  == one write: owner = target, generation_to ==
 *   MOVED        target is activated, source destroyed ---------------> END (done)
 *
 *   RESERVE, STREAM, SWITCHOVER -- any failure, loss, timeout --> ABORTING: written first, so that
 *   no successor moves the ownership either; then the source is told to go on and what the target
 *   holds is destroyed -----------------------------------------------> END (failed)
 *
 * A new leader finds the step and asks the guests: in ABORTING and MOVED there is only one way; in
 * STREAM and SWITCHOVER it goes on if the source has left `running`; otherwise, and in RESERVE, it
 * gives up. Either way the guest runs once.
 */
#include <stdio.h>

#include "zone_internal.h"

const struct vdc_sm_state migrate_states[] = {
    [MIGRATE_RESERVE] = {"reserve", VDC_SM_TO(MIGRATE_STREAM) | VDC_SM_TO(MIGRATE_ABORTING)},
    [MIGRATE_STREAM] = {"stream", VDC_SM_TO(MIGRATE_SWITCHOVER) | VDC_SM_TO(MIGRATE_ABORTING)},
    [MIGRATE_SWITCHOVER] = {"switchover", VDC_SM_TO(MIGRATE_MOVED) | VDC_SM_TO(MIGRATE_ABORTING)},
    [MIGRATE_MOVED] = {"moved", VDC_SM_TO(MIGRATE_END)},
    [MIGRATE_ABORTING] = {"aborting", VDC_SM_TO(MIGRATE_END)},
    [MIGRATE_END] = {"end", 0},
};

struct ends {
    struct zone_node *source;
    struct zone_node *target;
    const struct vdc_msg_guest *source_guest; /* NULL: not reported */
    const struct vdc_msg_guest *target_guest;
};

static struct ends find_ends(const struct vdc_zone *zone, const struct zone_op *op)
{
    struct ends ends = {
        .source = zone_find_node(zone, op->rec.source),
        .target = zone_find_node(zone, op->rec.target),
    };
    if (ends.source != NULL) {
        ends.source_guest = node_guest(ends.source, &op->rec.partition, op->rec.generation_from);
    }
    if (ends.target != NULL) {
        ends.target_guest = node_guest(ends.target, &op->rec.partition, op->rec.generation_to);
    }
    if (ends.source_guest != NULL) {
        if (ends.source_guest->stopped_at_ns != 0) {
            op->work->source_stopped_ns = ends.source_guest->stopped_at_ns;
        }
        if (ends.source_guest->downtime_ns != 0) {
            op->work->source_downtime_ns = ends.source_guest->downtime_ns;
        }
    }
    return ends;
}

static bool guest_in(const struct vdc_msg_guest *guest, enum vdc_guest_state state)
{
    return guest != NULL && guest->state == state;
}

/* From here on nobody moves the ownership. The reason is in the record: it outlives the leader. */
static void abort_migration(struct vdc_zone *zone, struct zone_op *op, const char *why)
{
    free(op->rec.error);
    op->rec.error = vdc_strdup(why);
    bool never_sent = op->step == MIGRATE_RESERVE && !op->work->resumed &&
                      op_call(op, SLOT_TARGET)->state == CALL_NONE;
    op_move(zone, op, MIGRATE_ABORTING, why);
    op->work->deadline = vdc_mono_add(zone->now, ZONE_ABORT_TIMEOUT_NS);
    if (never_sent || op_call(op, SLOT_TARGET)->state == CALL_REFUSED) {
        op_call(op, SLOT_DROP)->state = CALL_OK; /* there is nothing to destroy */
    }
    zone_write_begin(zone);
    zone_write_op(zone, op);
}

/* True while one of the nodes has no session, but may be back in a moment: the guest and its stream do
 * not need us for that long. *why is set when it has been away for too long. */
static bool is_away(struct vdc_zone *zone, struct zone_op *op, const struct ends *ends,
                    char why[VDC_ERR_TEXT_MAX])
{
    struct op_work *work = op->work;
    const struct zone_node *const nodes[] = {ends->source, ends->target};
    const char *const names[] = {op->rec.source, op->rec.target};
    size_t away = VDC_COUNT_OF(nodes);
    bool lost = false;
    for (size_t i = VDC_COUNT_OF(nodes); i > 0; i--) {
        /* One that is just back has yet to say what its guests do: until then we know old states. */
        if (nodes[i - 1] == NULL || !node_reachable(nodes[i - 1]) ||
            !nodes[i - 1]->guests_complete) {
            away = i - 1;
            lost = lost || nodes[i - 1] == NULL || node_is_lost(nodes[i - 1]);
        }
    }
    if (away == VDC_COUNT_OF(nodes)) {
        work->away_since = VDC_NEVER;
        work->retry_at = VDC_NEVER;
        return false;
    }
    if (vdc_mono_is_never(work->away_since)) {
        work->away_since = zone->now;
    }
    vdc_mono until = vdc_mono_add(work->away_since, ZONE_LINK_GRACE_NS);
    if (lost || vdc_mono_reached(zone->now, until)) {
        snprintf(why, VDC_ERR_TEXT_MAX, "the session of the %s %s was lost",
                 away == 0 ? "source" : "target", names[away]);
        return false;
    }
    work->retry_at = until;
    return true;
}

/* What ends a migration in every step before the move, and what only has it wait; true: not now. */
static bool abort_if_broken(struct vdc_zone *zone, struct zone_op *op, const struct ends *ends)
{
    char why[VDC_ERR_TEXT_MAX] = "";
    const struct vdc_partition_record *rec = &op->partition->rec;
    bool away = is_away(zone, op, ends, why);
    if (why[0] != 0) {
        abort_migration(zone, op, why);
        return true;
    }
    if (vdc_mono_reached(zone->now, op->work->deadline)) {
        snprintf(why, sizeof why, "not finished in time, in step %s", op->rec.step);
    } else if (rec->desired != VDC_DESIRED_RUNNING) {
        snprintf(why, sizeof why, "it is not meant to run any more");
    } else if (guest_in(ends->source_guest, VDC_GUEST_FAILED) ||
               guest_in(ends->source_guest, VDC_GUEST_STOPPED) ||
               guest_in(ends->source_guest, VDC_GUEST_STARTING)) {
        snprintf(why, sizeof why, "the guest ended at the source: %s %.640s",
                 vdc_guest_state_name(ends->source_guest->state), ends->source_guest->reason);
    } else if (guest_in(ends->target_guest, VDC_GUEST_FAILED) ||
               guest_in(ends->target_guest, VDC_GUEST_STOPPED)) {
        snprintf(why, sizeof why, "the target failed: %.640s", ends->target_guest->reason);
    } else {
        static const enum op_slot slots[] = {SLOT_TARGET, SLOT_IN, SLOT_LEAVE, SLOT_OUT,
                                             SLOT_CONTINUE};
        for (size_t i = 0; i < VDC_COUNT_OF(slots); i++) {
            const struct zone_call *call = op_call(op, slots[i]);
            if (call->state == CALL_REFUSED) {
                bool source = slots[i] != SLOT_TARGET && slots[i] != SLOT_IN;
                snprintf(why, sizeof why, "%s refused: %.640s",
                         source ? op->rec.source : op->rec.target, call->text);
                abort_migration(zone, op, why);
                return true;
            }
        }
        return away;
    }
    abort_migration(zone, op, why);
    return true;
}

/* After a change of leader: waits until both ends have said what they run, then says whether the
 * migration can go on from this step. False: wait, or it was aborted. */
static bool resume(struct vdc_zone *zone, struct zone_op *op, const struct ends *ends)
{
    if (!op->work->resumed) {
        return true;
    }
    if (vdc_mono_is_never(op->work->retry_at)) {
        op->work->retry_at = vdc_mono_add(zone->now, ZONE_RESUME_WAIT_NS);
    }
    bool known = ends->source != NULL && node_known(ends->source) && ends->target != NULL &&
                 node_known(ends->target);
    bool lost = ends->source == NULL || node_is_lost(ends->source) || ends->target == NULL ||
                node_is_lost(ends->target);
    if (!known && !lost && !vdc_mono_reached(zone->now, op->work->retry_at)) {
        return false;
    }
    op->work->retry_at = VDC_NEVER;
    bool moving = known && (guest_in(ends->source_guest, VDC_GUEST_MIGRATING) ||
                            guest_in(ends->source_guest, VDC_GUEST_SWITCHOVER) ||
                            guest_in(ends->source_guest, VDC_GUEST_MIGRATED));
    if (op->step == MIGRATE_RESERVE || !moving) {
        abort_migration(zone, op, "the leader changed before the guest was on its way");
        return false;
    }
    TRACE(zone, INFO, "%s: source is %s -> the migration goes on", op->rec.partition_name,
          vdc_guest_state_name(ends->source_guest->state));
    op->work->resumed = false;
    return true;
}

static void set_deadline(struct vdc_zone *zone, struct zone_op *op)
{
    if (vdc_mono_is_never(op->work->deadline)) {
        int64_t timeout = (int64_t)vdc_policy_settings(zone->policy)->migration_timeout_ms * VDC_MS;
        op->work->deadline = vdc_mono_add(op->work->step_began, timeout);
    }
}

/* ---- the steps ---- */

static void advance_reserve(struct vdc_zone *zone, struct zone_op *op, const struct ends *ends)
{
    set_deadline(zone, op);
    if (!resume(zone, op, ends) || abort_if_broken(zone, op, ends)) {
        return;
    }
    if (!op_send_create(zone, op, ends->target, VDC_RUN_INCOMING)) {
        abort_migration(zone, op, "the policy has not its class any more");
        return;
    }
    if (op_call(op, SLOT_TARGET)->state != CALL_OK ||
        !guest_in(ends->target_guest, VDC_GUEST_INCOMING)) {
        return;
    }
    struct vdc_msg_command in = {
        .partition = op->rec.partition,
        .generation = op->rec.generation_to,
        .kind = VDC_COMMAND_MIGRATE_IN,
    };
    vdc_str_set(in.peer_node, sizeof in.peer_node, op->rec.source);
    op_send_command(zone, op, SLOT_IN, ends->target, &in);
    if (op_call(op, SLOT_IN)->state == CALL_OK) {
        vdc_mono deadline = op->work->deadline;
        op_move_write(zone, op, MIGRATE_STREAM, "the target waits");
        op->work->deadline = deadline;
    }
}

static void advance_stream(struct vdc_zone *zone, struct zone_op *op, const struct ends *ends)
{
    set_deadline(zone, op);
    bool mine = !op->work->resumed;
    if (!resume(zone, op, ends) || abort_if_broken(zone, op, ends)) {
        return;
    }
    const struct zone_call *in = op_call(op, SLOT_IN);
    if (mine && in->state == CALL_OK) {
        const struct vdc_op leave = {
            .kind = VDC_OP_PARTITION_SET_RUN,
            .partition_set_run = {op->rec.partition, op->rec.generation_from, VDC_RUN_LEAVING},
        };
        op_send_tx(zone, op, SLOT_LEAVE, ends->source, &leave, 1);
    }
    if (mine && op_call(op, SLOT_LEAVE)->state == CALL_OK) {
        const struct vdc_policy_settings *settings = vdc_policy_settings(zone->policy);
        struct vdc_msg_command out = {
            .partition = op->rec.partition,
            .generation = op->rec.generation_from,
            .kind = VDC_COMMAND_MIGRATE_OUT,
            .peer_port = in->port,
            .bandwidth = settings->migration_bandwidth,
            .downtime_ns = (int64_t)settings->migration_downtime_ms * VDC_MS,
        };
        vdc_str_set(out.peer_node, sizeof out.peer_node, op->rec.target);
        vdc_str_set(out.peer_address, sizeof out.peer_address, ends->target->rec.address);
        op_send_command(zone, op, SLOT_OUT, ends->source, &out);
    }
    if (guest_in(ends->source_guest, VDC_GUEST_SWITCHOVER) ||
        guest_in(ends->source_guest, VDC_GUEST_MIGRATED)) {
        op_move_write(zone, op, MIGRATE_SWITCHOVER, "the guest stands still");
        op->work->deadline = vdc_mono_add(zone->now, ZONE_SWITCHOVER_TIMEOUT_NS);
        return;
    }
    /* No longer on its way: QEMU gave up and mostly says why, or its lease ran out and it is paused. */
    op->work->streamed = op->work->streamed || guest_in(ends->source_guest, VDC_GUEST_MIGRATING);
    bool back = guest_in(ends->source_guest, VDC_GUEST_RUNNING) ||
                guest_in(ends->source_guest, VDC_GUEST_PAUSED);
    bool told =
        op_call(op, SLOT_OUT)->state == CALL_OK && back && ends->source_guest->reason[0] != 0;
    if (back && (op->work->streamed || told)) {
        char why[VDC_ERR_TEXT_MAX];
        const char *reason = ends->source_guest->reason;
        snprintf(why, sizeof why, "the source gave up and is %s%s%.640s",
                 vdc_guest_state_name(ends->source_guest->state), reason[0] != 0 ? ": " : "",
                 reason);
        abort_migration(zone, op, why);
    }
}

static void move_ownership(struct vdc_zone *zone, struct zone_op *op)
{
    struct vdc_partition_record *rec = &op->partition->rec;
    VDC_ASSERT(strcmp(rec->owner, op->rec.source) == 0);
    VDC_ASSERT(rec->generation == op->rec.generation_from);
    VDC_ASSERT(op->rec.generation_to > op->rec.generation_from);
    vdc_str_set(rec->owner, sizeof rec->owner, op->rec.target);
    rec->generation = op->rec.generation_to;
    rec->policy_version = zone->policy_rec.version;
    op_move(zone, op, MIGRATE_MOVED, "the whole guest is at the target");
    op_write_both(zone, op);
}

static void advance_switchover(struct vdc_zone *zone, struct zone_op *op, const struct ends *ends)
{
    if (vdc_mono_is_never(op->work->deadline)) {
        op->work->deadline = vdc_mono_add(zone->now, ZONE_SWITCHOVER_TIMEOUT_NS);
    }
    if (!resume(zone, op, ends) || abort_if_broken(zone, op, ends)) {
        return;
    }
    if (guest_in(ends->source_guest, VDC_GUEST_RUNNING)) {
        abort_migration(zone, op, "the source runs again");
        return;
    }
    if (guest_in(ends->source_guest, VDC_GUEST_SWITCHOVER)) {
        struct vdc_msg_command go = {
            .partition = op->rec.partition,
            .generation = op->rec.generation_from,
            .kind = VDC_COMMAND_MIGRATE_CONTINUE,
        };
        op_send_command(zone, op, SLOT_CONTINUE, ends->source, &go);
    }
    if (guest_in(ends->source_guest, VDC_GUEST_MIGRATED) &&
        guest_in(ends->target_guest, VDC_GUEST_LOADED)) {
        move_ownership(zone, op);
    }
}

/* One machine's nodes share a clock, others do not: a difference that cannot be is not used. */
static int64_t downtime(const struct zone_op *op, const struct vdc_msg_guest *target)
{
    uint64_t stopped = op->work->source_stopped_ns;
    if (stopped != 0 && target->running_at_ns > stopped &&
        target->running_at_ns - stopped < (uint64_t)(60 * VDC_SECOND)) {
        return (int64_t)(target->running_at_ns - stopped);
    }
    return (int64_t)op->work->source_downtime_ns;
}

static void advance_moved(struct vdc_zone *zone, struct zone_op *op, const struct ends *ends)
{
    if (ends->target == NULL || node_is_lost(ends->target)) {
        op_finish(zone, op, VDC_RC_UNAVAILABLE, "the target %s was lost after the move",
                  op->rec.target);
        op_write_both(zone, op);
        return;
    }
    bool known = node_known(ends->target);
    if (known && node_holds(ends->target, &op->rec.partition, op->rec.generation_to) == NULL) {
        op_finish(zone, op, VDC_RC_UNAVAILABLE, "the target %s lost it after the move",
                  op->rec.target);
        op_write_both(zone, op);
        return;
    }
    struct vdc_op run[2] = {{
        .kind = VDC_OP_PARTITION_SET_RUN,
        .partition_set_run = {op->rec.partition, op->rec.generation_to, VDC_RUN_RUNNING},
    }};
    uint32_t run_len = 1 + volume_op(&op->partition->rec, op->rec.generation_to, &run[1]);
    const struct vdc_op drop = {
        .kind = VDC_OP_PARTITION_DESTROY,
        .partition_destroy = {op->rec.partition, op->rec.generation_from},
    };
    /* The guest is there and stands still: a full disk of its node must not be the end. */
    (void)op_retry_refused(zone, op, SLOT_RUN, op->rec.target);
    op_send_tx(zone, op, SLOT_RUN, ends->target, run, run_len);
    op_send_tx(zone, op, SLOT_DROP, ends->source, &drop, 1);
    /* A source that is away is cleaned up when it comes back: it holds an old generation. */
    enum call_state dropped = op_call(op, SLOT_DROP)->state;
    bool source_done =
        dropped == CALL_OK || dropped == CALL_REFUSED || !node_reachable(ends->source);
    if (known && guest_in(ends->target_guest, VDC_GUEST_RUNNING) && source_done) {
        op->rec.downtime_ns = downtime(op, ends->target_guest);
        op_finish(zone, op, VDC_RC_OK, "runs on %s, stood still for %lld ms", op->rec.target,
                  (long long)(op->rec.downtime_ns / VDC_MS));
        op_write_both(zone, op);
        return;
    }
    if (vdc_mono_is_never(op->work->deadline)) {
        op->work->deadline = vdc_mono_add(op->work->step_began, ZONE_START_TIMEOUT_NS);
    }
    if (vdc_mono_reached(zone->now, op->work->deadline)) {
        /* It owns the guest whatever happens; that it does not run is the node's to mend. */
        op_finish(zone, op, VDC_RC_TIMEOUT, "it was moved to %s and does not run there: %s",
                  op->rec.target,
                  ends->target_guest == NULL ? "not seen"
                                             : vdc_guest_state_name(ends->target_guest->state));
        op_write_both(zone, op);
    }
}

/* The source is back to itself: it has said so, or there is none any more. */
static bool source_is_back(struct zone_op *op, const struct ends *ends)
{
    if (ends->source == NULL || node_is_lost(ends->source)) {
        return true;
    }
    if (!node_known(ends->source)) {
        return false;
    }
    if (node_holds(ends->source, &op->rec.partition, op->rec.generation_from) == NULL) {
        return true;
    }
    return op_call(op, SLOT_CANCEL)->state != CALL_SENT &&
           op_call(op, SLOT_STAY)->state != CALL_SENT &&
           !guest_in(ends->source_guest, VDC_GUEST_MIGRATING) &&
           !guest_in(ends->source_guest, VDC_GUEST_SWITCHOVER) &&
           !guest_in(ends->source_guest, VDC_GUEST_MIGRATED);
}

static void advance_aborting(struct vdc_zone *zone, struct zone_op *op, const struct ends *ends)
{
    const struct vdc_op drop = {
        .kind = VDC_OP_PARTITION_DESTROY,
        .partition_destroy = {op->rec.partition, op->rec.generation_to},
    };
    struct vdc_msg_command cancel = {
        .partition = op->rec.partition,
        .generation = op->rec.generation_from,
        .kind = VDC_COMMAND_MIGRATE_CANCEL,
    };
    if (vdc_mono_is_never(op->work->deadline)) {
        op->work->deadline = vdc_mono_add(op->work->step_began, ZONE_ABORT_TIMEOUT_NS);
    }
    const struct vdc_op stay = {
        .kind = VDC_OP_PARTITION_SET_RUN,
        .partition_set_run = {op->rec.partition, op->rec.generation_from, VDC_RUN_RUNNING},
    };
    if (ends->source != NULL && node_known(ends->source)) {
        op_send_command(zone, op, SLOT_CANCEL, ends->source, &cancel);
        if (op->partition->rec.desired == VDC_DESIRED_RUNNING) {
            op_send_tx(zone, op, SLOT_STAY, ends->source, &stay, 1);
        }
    }
    op_send_tx(zone, op, SLOT_DROP, ends->target, &drop, 1);
    enum call_state dropped = op_call(op, SLOT_DROP)->state;
    bool target_done =
        dropped == CALL_OK || dropped == CALL_REFUSED || !node_reachable(ends->target);
    /* A source that is away is waited for: it comes back or is fenced. */
    bool late = vdc_mono_reached(zone->now, op->work->deadline);
    bool gave_up = late && (ends->source == NULL || node_reachable(ends->source));
    if (late && !gave_up) {
        op->work->deadline = vdc_mono_add(zone->now, ZONE_ABORT_TIMEOUT_NS);
    }
    if ((source_is_back(op, ends) && target_done) || gave_up) {
        vdc_autofree char *why = op->rec.error == NULL ? NULL : vdc_strdup(op->rec.error);
        op->shown.error = NULL;
        op_finish(zone, op, VDC_RC_CONFLICT, "%s", why == NULL ? "given up" : why);
        op_write_both(zone, op);
    }
}

void migrate_advance(struct vdc_zone *zone, struct zone_op *op)
{
    struct ends ends = find_ends(zone, op);
    switch ((enum migrate_step)op->step) {
    case MIGRATE_RESERVE:
        advance_reserve(zone, op, &ends);
        break;
    case MIGRATE_STREAM:
        advance_stream(zone, op, &ends);
        break;
    case MIGRATE_SWITCHOVER:
        advance_switchover(zone, op, &ends);
        break;
    case MIGRATE_MOVED:
        advance_moved(zone, op, &ends);
        break;
    case MIGRATE_ABORTING:
        advance_aborting(zone, op, &ends);
        break;
    case MIGRATE_END:
        break;
    }
}
