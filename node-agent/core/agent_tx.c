/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions of the zones' leaders and of the node itself. A record is journalled at once and put
 * into the backlog; its answer, its stream and its effects wait for agent_become_durable().
 *
 * A transaction with a destroy first kills: it is *held* until every guest that it destroys has no
 * process left, then committed. So "destroyed" in an answer means that nothing runs, and resources
 * are never free while somebody still uses them. If the commit is then refused by another of its
 * operations, the guest is simply started again by the reconciling.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/launch_spec.h>

#include "agent_internal.h"

static void answer(struct vdc_agent *agent, uint32_t session, const struct vdc_id *request_id,
                   enum vdc_rc rc, const char *rule, const char *text)
{
    struct vdc_msg msg = {.kind = VDC_MSG_TX_RESULT};
    msg.tx_result.request_id = *request_id;
    msg.tx_result.rc = rc;
    msg.tx_result.op_index = VDC_TX_OP_NONE;
    vdc_str_set(msg.tx_result.rule, sizeof msg.tx_result.rule, rule);
    snprintf(msg.tx_result.text, sizeof msg.tx_result.text, "%s", text);
    agent_send(agent, session, &msg);
}

/* Durable, and told to that session before: a leader's replica then has what the answer speaks of. */
static bool may_answer(const struct vdc_agent *agent, uint32_t session, uint64_t sequence)
{
    const struct session *to = &agent->sessions[session];
    bool streamed = !to->up || !to->following || to->sent >= sequence ||
                    agent->answers_len > VDC_AGENT_ANSWERS_MAX;
    return sequence <= agent->durable && streamed;
}

/* Sent now if its record is durable, else when it is. */
static void answer_result(struct vdc_agent *agent, uint32_t session,
                          const struct vdc_id *request_id, const struct vdc_tx_result *result)
{
    struct vdc_msg_tx_result message = {
        .request_id = *request_id,
        .rc = result->rc,
        .sequence = result->sequence,
        .op_index = result->op,
    };
    vdc_str_set(message.rule, sizeof message.rule, vdc_tx_rule_name(result->rule));
    snprintf(message.text, sizeof message.text, "%s", result->text);
    if (may_answer(agent, session, result->sequence)) {
        struct vdc_msg msg = {.kind = VDC_MSG_TX_RESULT, .tx_result = message};
        agent_send(agent, session, &msg);
        return;
    }
    VDC_GROW(agent->answers, agent->answers_cap, agent->answers_len + 1);
    agent->answers[agent->answers_len++] = (struct answer){
        .sequence = result->sequence,
        .session = session,
        .result = message,
    };
}

static void add_to_backlog(struct vdc_agent *agent, uint64_t sequence, struct vdc_buf *record)
{
    struct vdc_record_head head;
    enum vdc_rc rc = vdc_record_head_read(record->data, record->len, &head);
    VDC_ASSERT(rc == VDC_RC_OK && head.sequence == sequence);
    VDC_GROW(agent->backlog, agent->backlog_cap, agent->backlog_len + 1);
    agent->backlog[agent->backlog_len++] = (struct record){
        .sequence = sequence,
        .digest = head.digest,
        .data = record->data,
        .len = record->len,
    };
    agent->backlog_bytes += record->len;
    *record = (struct vdc_buf){0};
}

static void touch(struct vdc_agent *agent, const struct vdc_id *id, uint64_t sequence)
{
    struct guest *guest = agent_guest_of_partition(agent, id);
    if (guest != NULL) {
        guest->touched = sequence;
    }
}

static void note_created(struct vdc_agent *agent, const struct vdc_op_partition_create *op,
                         uint64_t sequence)
{
    if (op->kind != VDC_PARTITION_GUEST) {
        return;
    }
    struct vdc_agent_key key = {op->id, op->generation};
    struct guest *guest = agent_guest_find(agent, &key);
    if (guest == NULL) {
        guest = agent_guest_add(agent, &key);
    }
    guest->in_db = true;
    guest->touched = sequence;
    agent_guest_take_partition(guest, vdc_allocdb_find_partition(agent->db, &op->id));
}

/* Which guests a committed transaction concerns: reconciled when it is durable. */
static void note_op(struct vdc_agent *agent, const struct vdc_op *op, uint64_t sequence)
{
    struct guest *guest;
    switch (op->kind) {
    case VDC_OP_PARTITION_CREATE:
        note_created(agent, &op->partition_create, sequence);
        break;
    case VDC_OP_PARTITION_DESTROY:
        guest = agent_guest_of_partition(agent, &op->partition_destroy.id);
        if (guest != NULL) {
            guest->in_db = false;
            guest->touched = sequence;
        }
        break;
    case VDC_OP_PARTITION_SET_RUN:
        guest = agent_guest_of_partition(agent, &op->partition_set_run.id);
        if (guest != NULL) {
            guest->touched = sequence;
            guest->ended_itself = false;
            if (guest->handover && op->partition_set_run.run == VDC_RUN_RUNNING) {
                /* No migration is under way any more, or its leader would not start it here. */
                guest->handover = false;
                agent_act(agent, VDC_AGENT_DO_HANDOVER, &guest->key)->handover = false;
            }
            guest->failures = 0;
            guest->restart_at = (vdc_mono){0};
        }
        break;
    case VDC_OP_PARTITION_SET_GENERATION:
        touch(agent, &op->partition_set_generation.id, sequence);
        break;
    case VDC_OP_PARTITION_SET_CONFIG:
        guest = agent_guest_of_partition(agent, &op->partition_set_config.id);
        if (guest != NULL) {
            guest->touched = sequence;
            agent_guest_take_partition(guest,
                                       vdc_allocdb_find_partition(agent->db, &guest->key.id));
        }
        break;
    case VDC_OP_CPU_ASSIGN:
        touch(agent, &op->cpu_assign.id, sequence);
        break;
    case VDC_OP_CPU_RELEASE:
        touch(agent, &op->cpu_release.id, sequence);
        break;
    case VDC_OP_MEMORY_ASSIGN:
        touch(agent, &op->memory_assign.id, sequence);
        break;
    case VDC_OP_MEMORY_RELEASE:
        touch(agent, &op->memory_release.id, sequence);
        break;
    case VDC_OP_DEVICE_ATTACH:
        touch(agent, &op->device_attach.id, sequence);
        break;
    case VDC_OP_DEVICE_DETACH:
        touch(agent, &op->device_detach.id, sequence);
        break;
    case VDC_OP_VOLUME_ATTACH:
        touch(agent, &op->volume_attach.id, sequence);
        break;
    case VDC_OP_VOLUME_DETACH:
        touch(agent, &op->volume_detach.id, sequence);
        break;
    case VDC_OP_PORT_CONNECT:
        touch(agent, &op->port_connect.id, sequence);
        break;
    case VDC_OP_PORT_DISCONNECT:
        touch(agent, &op->port_disconnect.id, sequence);
        break;
    case VDC_OP_INVENTORY_SET:
    case VDC_OP_ZONE_SET:
    case VDC_OP_ZONE_LEAVE:
    case VDC_OP_ZONE_EPOCH:
    case VDC_OP_INCARNATION_SET:
    case VDC_OP_DEVICE_ADD:
    case VDC_OP_DEVICE_REMOVE:
    case VDC_OP_CHANNEL_CONNECT:    /* touch_changed */
    case VDC_OP_CHANNEL_DISCONNECT: /* the same */
    case VDC_OP_FENCE_PROMISE:
    case VDC_OP_ZONE_TRANSFER:
        break;
    }
}

/* Whether it may change what others than its partitions hold: a channel begins and ends at both of
 * its endpoints, also when one of them is destroyed. */
static bool reaches_others(const struct vdc_tx *tx)
{
    for (uint32_t i = 0; i < tx->ops_len; i++) {
        enum vdc_op_kind kind = tx->ops[i].kind;
        if (kind == VDC_OP_CHANNEL_CONNECT || kind == VDC_OP_CHANNEL_DISCONNECT ||
            kind == VDC_OP_PARTITION_DESTROY) {
            return true;
        }
    }
    return tx->kind != VDC_TX_APPLY;
}

/* The guests whose records the change of that sequence changed: their views are published anew. */
static void touch_changed(struct vdc_agent *agent, uint64_t sequence)
{
    for (struct guest *guest = agent->guests; guest != NULL; guest = guest->hh.next) {
        const struct vdc_partition *partition =
            guest->in_db ? vdc_allocdb_find_partition(agent->db, &guest->key.id) : NULL;
        if (partition != NULL && partition->sequence == sequence) {
            guest->touched = sequence;
        }
    }
}

enum vdc_rc agent_commit(struct vdc_agent *agent, const struct vdc_tx *tx,
                         struct vdc_tx_result *result)
{
    struct vdc_buf record = {0};
    enum vdc_rc rc = vdc_allocdb_commit(agent->db, tx, result, &record);
    if (record.len == 0) {
        vdc_buf_deinit(&record);
        return rc;
    }
    VDC_ASSERT(result->sequence == agent->committed + 1);
    agent->committed = result->sequence;
    struct vdc_agent_action *action = agent_act(agent, VDC_AGENT_DO_JOURNAL, NULL);
    action->journal.sequence = result->sequence;
    action->journal.data = agent_keep(agent, vdc_memdup(record.data, record.len));
    action->journal.len = record.len;
    add_to_backlog(agent, result->sequence, &record);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (tx->kind == VDC_TX_APPLY) {
        for (uint32_t i = 0; i < tx->ops_len; i++) {
            note_op(agent, &tx->ops[i], result->sequence);
        }
    } else {
        agent_guest_sweep(agent, result->sequence);
    }
    if (reaches_others(tx)) {
        touch_changed(agent, result->sequence);
    }
    return rc;
}

/* --- what a leader may not ask for in a form that the node could never start --- */

static bool attaches_volume(const struct vdc_tx *tx, const struct vdc_id *partition,
                            const struct vdc_id *volume)
{
    for (uint32_t i = 0; i < tx->ops_len; i++) {
        const struct vdc_op_volume_attach *attach = &tx->ops[i].volume_attach;
        if (tx->ops[i].kind == VDC_OP_VOLUME_ATTACH && attach->mode == VDC_VOLUME_WRITE &&
            vdc_id_equal(&attach->id, partition) && vdc_id_equal(&attach->volume, volume)) {
            return true;
        }
    }
    return false;
}

/* A guest that may run may write its disk, so the database must say that it does: in the same
 * transaction, or already. */
static enum vdc_rc check_volume(const struct vdc_agent *agent, const struct vdc_tx *tx,
                                const struct vdc_id *partition, const void *config, size_t len,
                                enum vdc_run run, struct vdc_err *err)
{
    struct vdc_launch_spec spec;
    struct vdc_id volume;
    enum vdc_rc rc = vdc_launch_spec_parse(config, len, &spec, err);
    if (rc != VDC_RC_OK || spec.disk_bytes == 0) {
        return rc;
    }
    if (!vdc_id_from_text(spec.volume, &volume)) {
        return vdc_err_set(err, VDC_RC_INVALID, "launch description: volume is not an id");
    }
    const struct vdc_entry *use = vdc_allocdb_find_volume(agent->db, &volume, partition);
    bool writes = use != NULL && use->volume.mode == VDC_VOLUME_WRITE;
    if (run == VDC_RUN_RUNNING && !writes && !attaches_volume(tx, partition, &volume)) {
        return vdc_err_set(err, VDC_RC_CONFLICT, "it would run and volume %s is not attached to it",
                           spec.volume);
    }
    return VDC_RC_OK;
}

static enum vdc_rc check_op(const struct vdc_agent *agent, const struct vdc_tx *tx,
                            const struct vdc_op *op, struct vdc_err *err)
{
    if (op->kind == VDC_OP_PARTITION_CREATE && op->partition_create.kind == VDC_PARTITION_GUEST) {
        const struct vdc_op_partition_create *create = &op->partition_create;
        return check_volume(agent, tx, &create->id, create->config, create->config_len, create->run,
                            err);
    }
    if (op->kind == VDC_OP_PARTITION_SET_RUN) {
        const struct vdc_op_partition_set_run *set = &op->partition_set_run;
        const struct vdc_partition *partition = vdc_allocdb_find_partition(agent->db, &set->id);
        if (partition != NULL && partition->kind == VDC_PARTITION_GUEST) {
            return check_volume(agent, tx, &set->id, partition->config, partition->config_len,
                                set->run, err);
        }
    }
    return VDC_RC_OK;
}

static enum vdc_rc check_ops(const struct vdc_agent *agent, const struct vdc_tx *tx,
                             struct vdc_err *err)
{
    for (uint32_t i = 0; i < tx->ops_len; i++) {
        enum vdc_rc rc = check_op(agent, tx, &tx->ops[i], err);
        if (rc != VDC_RC_OK) {
            vdc_err_wrap(err, "op %u %s", i, vdc_op_name(tx->ops[i].kind));
            return rc;
        }
    }
    return VDC_RC_OK;
}

/* Whether the commit would get as far as destroying: the guards hold. Nothing is killed for a
 * transaction that is refused anyway. */
static bool may_destroy(const struct vdc_agent *agent, const struct vdc_tx *tx)
{
    for (uint32_t i = 0; i < tx->ops_len; i++) {
        if (tx->ops[i].kind != VDC_OP_PARTITION_DESTROY) {
            continue;
        }
        const struct vdc_op_partition_destroy *op = &tx->ops[i].partition_destroy;
        const struct vdc_partition *partition = vdc_allocdb_find_partition(agent->db, &op->id);
        if (partition == NULL || partition->generation != op->generation ||
            strcmp(partition->zone, tx->zone) != 0) {
            return false;
        }
    }
    return true;
}

/* Dooms the guests that tx destroys; true if one of them still has a process. */
static bool doom_destroyed(struct vdc_agent *agent, const struct vdc_tx *tx)
{
    bool busy = false;
    for (uint32_t i = 0; i < tx->ops_len; i++) {
        if (tx->ops[i].kind != VDC_OP_PARTITION_DESTROY) {
            continue;
        }
        struct guest *guest = agent_guest_of_partition(agent, &tx->ops[i].partition_destroy.id);
        if (guest != NULL) {
            agent_guest_doom(agent, guest, "its leader destroys it");
            busy = busy || guest->process != VDC_AGENT_IDLE;
        }
    }
    return busy;
}

static void spare_destroyed(struct vdc_agent *agent, const struct vdc_tx *tx)
{
    for (uint32_t i = 0; i < tx->ops_len; i++) {
        if (tx->ops[i].kind != VDC_OP_PARTITION_DESTROY) {
            continue;
        }
        struct guest *guest = agent_guest_of_partition(agent, &tx->ops[i].partition_destroy.id);
        if (guest != NULL && guest->doomed) {
            guest->doomed = false;
            agent_guest_reconcile(agent, guest);
        }
    }
}

static void commit_and_answer(struct vdc_agent *agent, uint32_t session, const struct vdc_tx *tx)
{
    struct vdc_tx_result result;
    enum vdc_rc rc = agent_commit(agent, tx, &result);
    if (rc != VDC_RC_OK) {
        AGENT_TRACE(agent, WARN, "zone %s: transaction refused: %s", tx->zone, result.text);
        spare_destroyed(agent, tx);
    }
    answer_result(agent, session, &tx->request_id, &result);
}

static bool tx_destroys(const struct vdc_tx *tx)
{
    for (uint32_t i = 0; i < tx->ops_len; i++) {
        if (tx->ops[i].kind == VDC_OP_PARTITION_DESTROY) {
            return true;
        }
    }
    return false;
}

/* Takes over *tx when it has to wait. */
static void carry_out(struct vdc_agent *agent, uint32_t session, struct vdc_tx *tx)
{
    if (tx_destroys(tx) && may_destroy(agent, tx)) {
        for (size_t i = 0; i < agent->held_len; i++) {
            if (vdc_id_equal(&agent->held[i].tx.request_id, &tx->request_id)) {
                agent->held[i].session = session; /* the same request again: one answer */
                vdc_tx_deinit(tx);
                return;
            }
        }
        if (agent->held_len == VDC_AGENT_HELD_MAX) {
            answer(agent, session, &tx->request_id, VDC_RC_LIMIT, "limit",
                   "too many transactions wait for guests to end");
            vdc_tx_deinit(tx);
            return;
        }
        if (doom_destroyed(agent, tx)) {
            agent->held[agent->held_len++] = (struct held){.tx = *tx, .session = session};
            return;
        }
    }
    commit_and_answer(agent, session, tx);
    vdc_tx_deinit(tx);
}

static const char *check_leader(struct vdc_agent *agent, uint32_t session, const struct vdc_tx *tx,
                                enum vdc_rc *rc)
{
    const struct zone *zone = agent_find_zone(agent, tx->zone);
    *rc = VDC_RC_STALE;
    if (zone == NULL || !zone->led || zone->session != session) {
        return "this session does not lead the zone";
    }
    if (tx->epoch != zone->epoch) {
        return "another epoch than the zone's newest leader's";
    }
    *rc = VDC_RC_UNAVAILABLE;
    return zone->join == JOIN_DONE ? NULL : "the node is still joining the zone";
}

void agent_receive_tx(struct vdc_agent *agent, uint32_t session, const struct vdc_msg_tx *msg)
{
    struct vdc_tx tx;
    struct vdc_err err;
    if (vdc_tx_decode(msg->tx.data, msg->tx.len, &tx, &err) != VDC_RC_OK) {
        struct vdc_msg bye = {.kind = VDC_MSG_BYE};
        snprintf(bye.bye.reason, sizeof bye.bye.reason, "transaction: %s", vdc_err_text(&err));
        AGENT_TRACE(agent, WARN, "%s: bad transaction: %s -> ignored",
                    agent->sessions[session].manager, vdc_err_text(&err));
        agent_send(agent, session, &bye);
        return;
    }
    tx.role = VDC_ROLE_COMMAND;
    enum vdc_rc rc;
    const char *why = check_leader(agent, session, &tx, &rc);
    if (why != NULL) {
        AGENT_TRACE(agent, WARN, "%s: transaction for zone %s: %s -> refused",
                    agent->sessions[session].manager, tx.zone, why);
        answer(agent, session, &tx.request_id, rc, "epoch", why);
    } else if (agent->journal != VDC_RC_OK) {
        answer(agent, session, &tx.request_id, agent->journal, "journal",
               agent->journal == VDC_RC_NO_SPACE
                   ? "the disk of the node's journal is full: make room there (the node's log says "
                     "where and how much); it is tried again by itself"
                   : "the node's journal takes no records now");
    } else if ((rc = check_ops(agent, &tx, &err)) != VDC_RC_OK) {
        answer(agent, session, &tx.request_id, rc, "form", vdc_err_text(&err));
    } else {
        carry_out(agent, session, &tx);
        return;
    }
    vdc_tx_deinit(&tx);
}

void agent_release_held(struct vdc_agent *agent)
{
    size_t kept = 0;
    for (size_t i = 0; i < agent->held_len; i++) {
        struct held held = agent->held[i];
        if (may_destroy(agent, &held.tx) && doom_destroyed(agent, &held.tx)) {
            agent->held[kept++] = held;
        } else if (agent->journal != VDC_RC_OK) {
            agent->held[kept++] = held;
            agent_retry_later(agent);
        } else {
            commit_and_answer(agent, held.session, &held.tx);
            vdc_tx_deinit(&held.tx);
        }
    }
    agent->held_len = kept;
}

/* --- durability --- */

static void drop_first(struct vdc_agent *agent, size_t count)
{
    if (count == 0) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        agent->backlog_bytes -= agent->backlog[i].len;
        free(agent->backlog[i].data);
    }
    agent->backlog_len -= count;
    memmove(agent->backlog, agent->backlog + count, agent->backlog_len * sizeof *agent->backlog);
}

/* A quarter at a time, so that the moving costs little per record. */
static void trim_backlog(struct vdc_agent *agent)
{
    if (agent->backlog_len <= VDC_AGENT_BACKLOG_MAX &&
        agent->backlog_bytes <= VDC_AGENT_BACKLOG_BYTES) {
        return;
    }
    size_t count = 0;
    while (count < agent->backlog_len / 4 + 1 && count < agent->backlog_len &&
           agent->backlog[count].sequence <= agent->durable) {
        count++;
    }
    drop_first(agent, count);
}

void agent_drop_backlog(struct vdc_agent *agent)
{
    drop_first(agent, agent->backlog_len);
    free(agent->backlog);
    agent->backlog = NULL;
}

void agent_send_due_answers(struct vdc_agent *agent)
{
    size_t kept = 0;
    for (size_t i = 0; i < agent->answers_len; i++) {
        if (!may_answer(agent, agent->answers[i].session, agent->answers[i].sequence)) {
            agent->answers[kept++] = agent->answers[i];
            continue;
        }
        struct vdc_msg msg = {.kind = VDC_MSG_TX_RESULT, .tx_result = agent->answers[i].result};
        agent_send(agent, agent->answers[i].session, &msg);
    }
    agent->answers_len = kept;
}

void agent_become_durable(struct vdc_agent *agent, uint64_t sequence)
{
    VDC_ASSERT(sequence <= agent->committed);
    if (sequence <= agent->durable) {
        return;
    }
    uint64_t before = agent->durable;
    agent->durable = sequence;
    for (size_t i = agent->backlog_len; i > 0; i--) {
        if (agent->backlog[i - 1].sequence == sequence) {
            agent->durable_digest = agent->backlog[i - 1].digest;
            break;
        }
    }
    /* Records first: a leader's replica then has what an answer speaks of. */
    agent_session_stream(agent);
    agent_send_due_answers(agent);
    struct guest *guest;
    struct guest *next;
    HASH_ITER(hh, agent->guests, guest, next)
    {
        if (guest->touched > before && guest->touched <= sequence) {
            if (guest->in_db) {
                agent_guest_publish(agent, guest);
            }
            agent_guest_reconcile(agent, guest);
        }
    }
    trim_backlog(agent);
}
