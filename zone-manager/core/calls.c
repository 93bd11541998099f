/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions and commands to nodes.
 *
 * A call's request id is made from its operation's id, the slot and the generation that it is about.
 * All three are in the record that was durable before the call was sent, so a new leader that sends
 * it again sends the same request and gets the first one's answer: it takes effect once. A new try
 * after a refusal has a new generation, so it is a new request. What a node is only told to bring it
 * into line (its slice, the dropping of strays) has a fresh id: repeating that is harmless.
 *
 * Calls are not repeated by time: the link is ordered and reliable while it lasts. After a reconnect
 * whoever still needs the answer sends again.
 */
#include "zone_internal.h"

bool node_reachable(const struct zone_node *node)
{
    return node != NULL && node->connected && node->joined && node->write == 0 &&
           node->rec.state == VDC_NODE_READY;
}

bool node_known(const struct zone_node *node)
{
    return node_reachable(node) && node->guests_complete && node->replica != NULL &&
           !node->snapshot_asked;
}

struct zone_call *op_call(struct zone_op *op, enum op_slot slot)
{
    VDC_ASSERT(op->work != NULL);
    return &op->work->calls[slot];
}

static uint64_t mix(uint64_t value)
{
    struct vdc_prng prng;
    vdc_prng_init(&prng, value);
    return vdc_prng_next(&prng);
}

/* Ids of one operation differ in what is mixed in; those of different ones in their own 122 bits. */
static struct vdc_id derive_id(const struct vdc_id *from, enum op_slot slot, uint64_t generation)
{
    uint64_t halves[2];
    memcpy(halves, from->bytes, sizeof halves);
    uint64_t with = mix(mix((uint64_t)slot + 1) ^ generation);
    halves[0] ^= with;
    halves[1] ^= mix(with);
    struct vdc_id id;
    memcpy(id.bytes, halves, sizeof halves);
    id.bytes[6] = (uint8_t)((id.bytes[6] & 0x0f) | 0x40);
    id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
    return id;
}

static uint64_t slot_generation(const struct zone_op *op, enum op_slot slot)
{
    switch (slot) {
    case SLOT_TARGET:
    case SLOT_RUN:
    case SLOT_IN:
        return op->rec.generation_to;
    case SLOT_DROP:
        /* After a move it is the source's, after an abort the target's. */
        return op->rec.kind == VDC_OPERATION_MIGRATE && op->step == MIGRATE_ABORTING
                   ? op->rec.generation_to
                   : op->rec.generation_from;
    case SLOT_RESET:
    case SLOT_LEAVE:
    case SLOT_STAY:
    case SLOT_OUT:
    case SLOT_CONTINUE:
    case SLOT_CANCEL:
    case SLOT_VOLUME:
    case SLOT_COUNT:
        break;
    }
    return op->rec.generation_from;
}

void call_forget(struct vdc_zone *zone, struct zone_call *call)
{
    if (call->state == CALL_SENT) {
        HASH_DELETE(hh, zone->calls, call);
    }
    *call = (struct zone_call){0};
}

void op_reset_call(struct vdc_zone *zone, struct zone_op *op, enum op_slot slot)
{
    call_forget(zone, op_call(op, slot));
}

bool op_retry_refused(struct vdc_zone *zone, struct zone_op *op, enum op_slot slot,
                      const char *node)
{
    const struct zone_call *call = op_call(op, slot);
    if (call->state != CALL_REFUSED ||
        (call->rc != VDC_RC_NO_SPACE && !vdc_rc_retryable(call->rc))) {
        return false;
    }
    if (vdc_mono_is_never(op->work->retry_at)) {
        TRACE(zone, WARN, "%s %s: %s refuses: %s -> again in %lld ms",
              vdc_operation_kind_name(op->rec.kind), op->rec.partition_name, node, call->text,
              (long long)(ZONE_REPAIR_NEXT_NS / VDC_MS));
        op->work->retry_at = vdc_mono_add(zone->now, ZONE_REPAIR_NEXT_NS);
    } else if (vdc_mono_reached(zone->now, op->work->retry_at)) {
        op->work->retry_at = VDC_NEVER;
        op_reset_call(zone, op, slot);
    }
    return true;
}

/* False: it is answered, or under way in this session. */
static bool call_send(struct vdc_zone *zone, struct zone_call *call, const struct vdc_id *id,
                      struct zone_node *node)
{
    if (call->state == CALL_OK || call->state == CALL_REFUSED) {
        return false;
    }
    if (call->state == CALL_SENT) {
        if (call->session == node->session) {
            return false;
        }
        VDC_ASSERT(vdc_id_equal(&call->id, id));
    } else {
        call->id = *id;
        call->state = CALL_SENT;
        HASH_ADD(hh, zone->calls, id, sizeof call->id, call);
    }
    call->session = node->session;
    return true;
}

static void send_tx(struct vdc_zone *zone, struct zone_node *node, const struct vdc_id *id,
                    const struct vdc_op *ops, uint32_t ops_len)
{
    struct vdc_tx tx = {
        .request_id = *id,
        .epoch = zone->epoch,
        .role = VDC_ROLE_COMMAND,
        .kind = VDC_TX_APPLY,
        .ops = ops,
        .ops_len = ops_len,
    };
    vdc_str_set(tx.zone, sizeof tx.zone, zone->name);
    struct vdc_buf bytes = {0};
    vdc_tx_encode(&tx, &bytes);
    struct vdc_msg *msg = zone_send(zone, node->session, VDC_MSG_TX);
    msg->tx.tx.len = bytes.len;
    msg->owned = vdc_buf_steal(&bytes);
    msg->tx.tx.data = msg->owned;
}

bool op_needs_send(struct zone_op *op, enum op_slot slot, const struct zone_node *node)
{
    const struct zone_call *call = op_call(op, slot);
    return node_reachable(node) && call->state != CALL_OK && call->state != CALL_REFUSED &&
           !(call->state == CALL_SENT && call->session == node->session);
}

void op_send_tx(struct vdc_zone *zone, struct zone_op *op, enum op_slot slot,
                struct zone_node *node, const struct vdc_op *ops, uint32_t ops_len)
{
    struct zone_call *call = op_call(op, slot);
    if (!node_reachable(node)) {
        return;
    }
    struct vdc_id id = derive_id(&op->rec.id, slot, slot_generation(op, slot));
    call->op = op;
    if (call_send(zone, call, &id, node)) {
        send_tx(zone, node, &call->id, ops, ops_len);
    }
}

void node_send_tx(struct vdc_zone *zone, struct zone_node *node, struct zone_call *call,
                  const struct vdc_op *ops, uint32_t ops_len)
{
    struct vdc_id id = call->state == CALL_SENT ? call->id : vdc_id_make(&zone->prng);
    call->node = node;
    if (call_send(zone, call, &id, node)) {
        send_tx(zone, node, &call->id, ops, ops_len);
    }
}

static void send_command(struct vdc_zone *zone, struct zone_node *node, const struct vdc_id *id,
                         struct vdc_msg_command *command)
{
    command->request_id = *id;
    vdc_str_set(command->zone, sizeof command->zone, zone->name);
    command->epoch = zone->epoch;
    zone_send(zone, node->session, VDC_MSG_COMMAND)->command = *command;
}

void op_send_command(struct vdc_zone *zone, struct zone_op *op, enum op_slot slot,
                     struct zone_node *node, struct vdc_msg_command *command)
{
    struct zone_call *call = op_call(op, slot);
    if (!node_reachable(node)) {
        return;
    }
    struct vdc_id id = derive_id(&op->rec.id, slot, slot_generation(op, slot));
    call->op = op;
    if (call_send(zone, call, &id, node)) {
        send_command(zone, node, &call->id, command);
    }
}

void node_send_command(struct vdc_zone *zone, struct zone_node *node, struct zone_call *call,
                       struct vdc_msg_command *command)
{
    struct vdc_id id = call->state == CALL_SENT ? call->id : vdc_id_make(&zone->prng);
    call->node = node;
    if (call_send(zone, call, &id, node)) {
        send_command(zone, node, &call->id, command);
    }
}

static void call_answered(struct vdc_zone *zone, struct zone_node *node,
                          const struct vdc_id *request_id, enum vdc_rc rc, const char *rule,
                          const char *text, uint64_t sequence, uint16_t port)
{
    struct zone_call *call;
    HASH_FIND(hh, zone->calls, request_id, sizeof *request_id, call);
    if (call == NULL || call->session != node->session) {
        return;
    }
    HASH_DELETE(hh, zone->calls, call);
    call->state = rc == VDC_RC_OK ? CALL_OK : CALL_REFUSED;
    call->rc = rc;
    call->sequence = sequence;
    call->port = port;
    vdc_str_set(call->rule, sizeof call->rule, rule);
    vdc_str_set(call->text, sizeof call->text, text);
    if (call->op != NULL) {
        zone_mark_op(zone, call->op);
    } else {
        zone_mark_node(zone, call->node);
    }
}

void zone_on_tx_result(struct vdc_zone *zone, struct zone_node *node,
                       const struct vdc_msg_tx_result *result)
{
    call_answered(zone, node, &result->request_id, result->rc, result->rule,
                  result->text[0] != 0 ? result->text : vdc_rc_sentence(result->rc),
                  result->sequence, 0);
}

void zone_on_command_result(struct vdc_zone *zone, struct zone_node *node,
                            const struct vdc_msg_command_result *result)
{
    call_answered(zone, node, &result->request_id, result->rc, "",
                  result->text[0] != 0 ? result->text : vdc_rc_sentence(result->rc), 0,
                  result->port);
}
