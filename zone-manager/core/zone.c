/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life, loading, events and readers of the zone core; zone_internal.h says how its parts work
 * together.
 */
#include <stdarg.h>
#include <stdio.h>

#include "zone_internal.h"

struct vdc_zone *vdc_zone_create(const struct vdc_zone_config *config)
{
    struct vdc_zone *zone = VDC_NEW(struct vdc_zone);
    vdc_str_set(zone->name, sizeof zone->name, config->zone);
    vdc_str_set(zone->manager, sizeof zone->manager, config->manager);
    zone->epoch = config->epoch;
    vdc_prng_init(&zone->prng, config->seed);
    zone->began = config->now;
    zone->now = config->now;
    zone->leading_until = config->now;
    return zone;
}

static void update_clear(struct vdc_zone *zone)
{
    struct vdc_zone_update *update = &zone->update;
    for (size_t i = 0; i < update->writes_len; i++) {
        struct vdc_zone_write *write = &update->writes[i];
        for (size_t j = 0; j < write->puts_len; j++) {
            vdc_buf_deinit(&write->puts[j].value);
        }
        free(write->puts);
    }
    update->writes_len = 0;
    for (size_t i = 0; i < update->sends_len; i++) {
        /* What the core itself allocates for a message hangs on `owned` as one block. */
        free(update->sends[i].msg.owned);
    }
    update->sends_len = 0;
    for (size_t i = 0; i < update->answers_len; i++) {
        vdc_buf_deinit(&update->answers[i].data);
    }
    update->answers_len = 0;
}

void vdc_zone_destroy(struct vdc_zone *zone)
{
    if (zone == NULL) {
        return;
    }
    update_clear(zone);
    free(zone->update.writes);
    free(zone->update.sends);
    free(zone->update.answers);
    vdc_trace_deinit(&zone->update.trace);
    struct zone_pending *pending, *next;
    HASH_ITER(hh, zone->pending, pending, next)
    {
        HASH_DELETE(hh, zone->pending, pending);
        free(pending);
    }
    struct zone_console *console, *next_console;
    HASH_ITER(hh, zone->consoles, console, next_console)
    {
        HASH_DELETE(hh, zone->consoles, console);
        free(console);
    }
    while (zone->ops_len > 0) {
        op_free(zone, zone->ops[zone->ops_len - 1]);
    }
    free(zone->ops);
    while (zone->partitions_len > 0) {
        zone_remove_partition(zone, zone->partitions[zone->partitions_len - 1]);
    }
    free(zone->partitions);
    for (size_t i = 0; i < zone->nodes_len; i++) {
        node_destroy(zone, zone->nodes[i]);
    }
    free(zone->nodes);
    VDC_ASSERT(zone->calls == NULL);
    vdc_policy_destroy(zone->policy);
    vdc_policy_destroy(zone->policy_next);
    vdc_policy_record_deinit(&zone->policy_rec);
    vdc_policy_record_deinit(&zone->policy_next_rec);
    free(zone->placed);
    free(zone);
}

/* ---- nodes and partitions, sorted by name ---- */

/* The index of the first node whose name is not less than `name`. */
static size_t node_index(const struct vdc_zone *zone, const char *name)
{
    size_t low = 0, high = zone->nodes_len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(zone->nodes[middle]->rec.name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static size_t partition_index(const struct vdc_zone *zone, const char *name)
{
    size_t low = 0, high = zone->partitions_len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(zone->partitions[middle]->rec.spec.name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct zone_node *zone_find_node(const struct vdc_zone *zone, const char *name)
{
    size_t at = node_index(zone, name);
    if (at < zone->nodes_len && strcmp(zone->nodes[at]->rec.name, name) == 0) {
        return zone->nodes[at];
    }
    return NULL;
}

struct zone_node *zone_add_node(struct vdc_zone *zone, const char *name)
{
    size_t at = node_index(zone, name);
    struct zone_node *node = VDC_NEW(struct zone_node);
    node->repair_at = VDC_NEVER;
    vdc_str_set(node->rec.name, sizeof node->rec.name, name);
    vdc_str_set(node->rec.zone, sizeof node->rec.zone, zone->name);
    VDC_GROW(zone->nodes, zone->nodes_cap, zone->nodes_len + 1);
    memmove(&zone->nodes[at + 1], &zone->nodes[at], (zone->nodes_len - at) * sizeof *zone->nodes);
    zone->nodes[at] = node;
    zone->nodes_len++;
    return node;
}

struct zone_partition *zone_partition_by_id(const struct vdc_zone *zone, const struct vdc_id *id)
{
    struct zone_partition *partition;
    HASH_FIND(hh, zone->partitions_by_id, id, sizeof *id, partition);
    return partition;
}

struct zone_partition *zone_find_partition(const struct vdc_zone *zone, const char *name)
{
    size_t at = partition_index(zone, name);
    if (at < zone->partitions_len && strcmp(zone->partitions[at]->rec.spec.name, name) == 0) {
        return zone->partitions[at];
    }
    struct vdc_id id;
    if (vdc_id_from_text(name, &id)) {
        return zone_partition_by_id(zone, &id);
    }
    return NULL;
}

struct zone_partition *zone_add_partition(struct vdc_zone *zone,
                                          const struct vdc_partition_record *rec)
{
    size_t at = partition_index(zone, rec->spec.name);
    struct zone_partition *partition = VDC_NEW(struct zone_partition);
    partition->rec = *rec;
    VDC_GROW(zone->partitions, zone->partitions_cap, zone->partitions_len + 1);
    memmove(&zone->partitions[at + 1], &zone->partitions[at],
            (zone->partitions_len - at) * sizeof(struct zone_partition *));
    zone->partitions[at] = partition;
    zone->partitions_len++;
    HASH_ADD(hh, zone->partitions_by_id, rec.id, sizeof partition->rec.id, partition);
    return partition;
}

void zone_remove_partition(struct vdc_zone *zone, struct zone_partition *partition)
{
    size_t at = partition_index(zone, partition->rec.spec.name);
    while (zone->partitions[at] != partition) {
        at++;
        VDC_ASSERT(at < zone->partitions_len);
    }
    memmove(&zone->partitions[at], &zone->partitions[at + 1],
            (zone->partitions_len - at - 1) * sizeof(struct zone_partition *));
    zone->partitions_len--;
    HASH_DELETE(hh, zone->partitions_by_id, partition);
    vdc_partition_record_deinit(&partition->rec);
    free(partition);
}

/* ---- what the parts use ---- */

void zone_mark_node(struct vdc_zone *zone, struct zone_node *node)
{
    node->dirty = true;
    zone->dirty = true;
}

void zone_mark_op(struct vdc_zone *zone, struct zone_op *op)
{
    op->dirty = true;
    zone->dirty = true;
}

void zone_mark_ops_of(struct vdc_zone *zone, const char *node)
{
    for (struct zone_op *op = zone->active; op != NULL; op = op->active_next) {
        if (node == NULL || strcmp(op->rec.source, node) == 0 ||
            strcmp(op->rec.target, node) == 0 ||
            (op->partition != NULL && strcmp(op->partition->rec.owner, node) == 0)) {
            zone_mark_op(zone, op);
        }
    }
}

struct vdc_msg *zone_send(struct vdc_zone *zone, uint64_t session, enum vdc_msg_kind kind)
{
    VDC_GROW(zone->update.sends, zone->sends_cap, zone->update.sends_len + 1);
    struct vdc_zone_send *send = &zone->update.sends[zone->update.sends_len++];
    memset(send, 0, sizeof *send);
    send->session = session;
    send->msg.kind = kind;
    return &send->msg;
}

struct vdc_zone_answer *zone_answer(struct vdc_zone *zone, uint64_t token, enum vdc_rc rc,
                                    const char *fmt, ...)
{
    VDC_GROW(zone->update.answers, zone->answers_cap, zone->update.answers_len + 1);
    struct vdc_zone_answer *answer = &zone->update.answers[zone->update.answers_len++];
    memset(answer, 0, sizeof *answer);
    answer->token = token;
    answer->rc = rc;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(answer->text, sizeof answer->text, fmt, ap);
    va_end(ap);
    return answer;
}

int64_t zone_lease_ns(const struct vdc_zone *zone)
{
    return (int64_t)vdc_policy_settings(zone->policy)->lease_ms * VDC_MS;
}

/* ---- loading ---- */

static void load_node(struct vdc_zone *zone, const struct vdc_node_record *rec)
{
    struct zone_node *node = zone_add_node(zone, rec->name);
    node->rec = *rec;
    node->state = rec->state;
}

static char *copy_text(const char *text)
{
    return text == NULL ? NULL : vdc_strdup(text);
}

static void load_partition(struct vdc_zone *zone, const struct vdc_partition_record *rec)
{
    struct vdc_partition_record copy = *rec;
    copy.verdict = copy_text(rec->verdict);
    zone_add_partition(zone, &copy)->durable = true;
}

static void load_operation(struct vdc_zone *zone, const struct vdc_operation_record *rec)
{
    struct vdc_operation_record copy = *rec;
    copy.error = copy_text(rec->error);
    copy.verdict = copy_text(rec->verdict);
    op_load(zone, &copy);
}

static void load_policy(struct vdc_zone *zone, const struct vdc_policy_record *rec,
                        struct vdc_policy *built)
{
    vdc_policy_record_deinit(&zone->policy_rec);
    vdc_policy_destroy(zone->policy);
    zone->policy_rec = *rec;
    zone->policy_rec.text = copy_text(rec->text);
    zone->policy = built;
}

/* Reviews the partitions that have nothing under way, in the order of restarting. */
static void review_all(struct vdc_zone *zone)
{
    size_t len = zone->partitions_len;
    struct zone_partition **order = vdc_calloc(len, sizeof(struct zone_partition *));
    if (len > 0) {
        memcpy(order, zone->partitions, len * sizeof(struct zone_partition *));
    }
    zone_failover_order(zone, order, len);
    for (size_t i = 0; i < len; i++) {
        zone_review_partition(zone, order[i]);
    }
    free(order);
}

static void loaded(struct vdc_zone *zone)
{
    VDC_ASSERT(zone->policy != NULL && zone->rec.name[0] != 0);
    zone->loaded = true;
    int64_t lease = zone_lease_ns(zone);
    if (zone->rec.lease_ns > lease) {
        zone->lease_old_until = vdc_mono_add(zone->now, vdc_zone_lease_span(zone->rec.lease_ns));
    }
    for (size_t i = 0; i < zone->nodes_len; i++) {
        node_loaded(zone, zone->nodes[i]);
    }
    size_t under_way = 0;
    for (size_t i = 0; i < zone->ops_len; i++) {
        struct zone_op *op = zone->ops[i];
        if (op_is_finished(op)) {
            continue;
        }
        op->partition = zone_partition_by_id(zone, &op->rec.partition);
        if (op->partition == NULL || op->partition->op != NULL) {
            /* The writes of operation and partition are one, so this is a store edited by hand. */
            TRACE(zone, ERROR, "operation %s of %s has no partition of its own -> left alone",
                  vdc_operation_kind_name(op->rec.kind), op->rec.partition_name);
            continue;
        }
        op->partition->op = op;
        op_begin(zone, op);
        op->work->resumed = true;
        zone_mark_op(zone, op);
        under_way++;
    }
    TRACE(
        zone, INFO,
        "zone %s: epoch %llu, policy version %llu, %zu nodes, %zu partitions, %zu operations under "
        "way -> leading",
        zone->name, (unsigned long long)zone->epoch, (unsigned long long)zone->policy_rec.version,
        zone->nodes_len, zone->partitions_len, under_way);
    review_all(zone);
}

/* ---- the leader's own operations ---- */

void zone_review_partition(struct vdc_zone *zone, struct zone_partition *partition)
{
    const struct vdc_partition_record *rec = &partition->rec;
    if (!zone->loaded || zone->stale || partition->op != NULL || partition->deleted ||
        !partition->durable || rec->desired != VDC_DESIRED_RUNNING) {
        return;
    }
    struct zone_node *owner = zone_find_node(zone, rec->owner);
    if (owner == NULL) {
        run_begin_failover(zone, partition, "it has no node");
        return;
    }
    if (node_is_lost(owner)) {
        if (rec->restartable) {
            run_begin_failover(zone, partition, "its node is fenced");
        }
        return;
    }
    if (node_known(owner) && owner->replica != NULL &&
        node_holds(owner, &rec->id, rec->generation) == NULL) {
        run_begin_failover(zone, partition, "its node holds it no more");
    }
}

/* ---- events ---- */

static struct zone_node *find_session(struct vdc_zone *zone, uint64_t session)
{
    struct zone_node *node;
    HASH_FIND(hh_session, zone->sessions, &session, sizeof session, node);
    return node;
}

static void console_result(struct vdc_zone *zone, const struct vdc_msg_command_result *result)
{
    struct zone_console *console;
    HASH_FIND(hh, zone->consoles, &result->request_id, sizeof result->request_id, console);
    if (console == NULL) {
        return;
    }
    struct vdc_zone_answer *answer =
        zone_answer(zone, console->token, result->rc, "%s", result->text);
    if (result->rc == VDC_RC_OK) {
        vdc_buf_append(&answer->data, result->data.data, result->data.len);
        answer->data_offset = result->offset;
        answer->data_end = result->end;
    }
    HASH_DELETE(hh, zone->consoles, console);
    free(console);
}

/* Answers the reads that can get no answer any more. session 0: those past their deadline. */
static void expire_consoles(struct vdc_zone *zone, uint64_t session)
{
    struct zone_console *console, *next;
    HASH_ITER(hh, zone->consoles, console, next)
    {
        bool gone = session != 0 && console->session == session;
        if (!gone && !vdc_mono_reached(zone->now, console->deadline)) {
            continue;
        }
        if (gone) {
            zone_answer(zone, console->token, VDC_RC_UNAVAILABLE,
                        "the node closed its session before it answered");
        } else {
            zone_answer(zone, console->token, VDC_RC_TIMEOUT, "the node gave no answer in time");
        }
        HASH_DELETE(hh, zone->consoles, console);
        free(console);
    }
}

static void session_event(struct vdc_zone *zone, const struct vdc_zone_event *event)
{
    uint64_t session = event->session.session;
    const struct vdc_msg *msg = event->session.msg;
    if (event->kind == VDC_ZONE_NODE_UP) {
        VDC_ASSERT(msg != NULL && msg->kind == VDC_MSG_HELLO);
        node_up(zone, session, &msg->hello);
        return;
    }
    struct zone_node *node = find_session(zone, session);
    if (node == NULL) {
        return;
    }
    if (event->kind == VDC_ZONE_NODE_DOWN) {
        expire_consoles(zone, session);
        node_down(zone, node);
        return;
    }
    if (msg->kind == VDC_MSG_COMMAND_RESULT) {
        console_result(zone, &msg->command_result);
    }
    node_message(zone, node, msg);
}

static void tick(struct vdc_zone *zone)
{
    if (!zone->loaded) {
        return;
    }
    expire_consoles(zone, 0);
    for (size_t i = 0; i < zone->nodes_len; i++) {
        if (vdc_mono_reached(zone->now, node_deadline(zone, zone->nodes[i]))) {
            zone_mark_node(zone, zone->nodes[i]);
        }
    }
    for (struct zone_op *op = zone->active; op != NULL; op = op->active_next) {
        if (vdc_mono_reached(zone->now, vdc_mono_min(op->work->deadline, op->work->retry_at))) {
            zone_mark_op(zone, op);
        }
    }
    if (zone->rec.lease_ns != 0 && zone->lease_old_until.ns != 0 &&
        vdc_mono_reached(zone->now, zone->lease_old_until)) {
        zone->rec.lease_ns = 0;
        zone->lease_old_until = (vdc_mono){0};
        zone_write_begin(zone);
        zone_write_zone(zone);
    }
}

/* Lets everything that is marked take its steps until nothing moves. */
static void zone_settle(struct vdc_zone *zone)
{
    /* Each round acts on facts and makes fewer of them new: a loop that goes on is our defect. */
    for (int round = 0; zone->dirty; round++) {
        VDC_ASSERT(round < 1000);
        zone->dirty = false;
        for (size_t i = 0; i < zone->nodes_len; i++) {
            if (zone->nodes[i]->dirty) {
                zone->nodes[i]->dirty = false;
                node_advance(zone, zone->nodes[i]);
            }
        }
        struct zone_op *next;
        for (struct zone_op *op = zone->active; op != NULL; op = next) {
            next = op->active_next;
            if (op->dirty) {
                op->dirty = false;
                if (op->write == 0) {
                    op_table(op->rec.kind)->advance(zone, op);
                }
            }
        }
    }
}

/* The time of the last step is shared out among the placements it made. */
static void note_placements(struct vdc_zone *zone, int64_t last_step_ns)
{
    for (size_t i = 0; i < zone->placed_len; i++) {
        if (last_step_ns > 0) {
            zone->placed[i]->rec.placement_ns = last_step_ns / (int64_t)zone->placed_len;
        }
    }
    zone->placed_len = 0;
}

struct vdc_zone_update *vdc_zone_step(struct vdc_zone *zone, const struct vdc_zone_event *event)
{
    update_clear(zone);
    zone->now = vdc_mono_max(zone->now, event->now);
    zone->wall = event->wall;
    note_placements(zone, event->last_step_ns);
    if (zone->stale) {
        if (event->kind == VDC_ZONE_REQUEST) {
            vdc_policy_destroy(event->request->policy);
            zone_answer(zone, event->request->token, VDC_RC_NO_LEADER,
                        "this manager does not lead zone %s any more", zone->name);
        }
        return &zone->update;
    }
    switch (event->kind) {
    case VDC_ZONE_LOAD_ZONE:
        VDC_ASSERT(!zone->loaded);
        zone->rec = *event->zone;
        break;
    case VDC_ZONE_LOAD_POLICY:
        VDC_ASSERT(!zone->loaded);
        load_policy(zone, event->policy.record, event->policy.built);
        break;
    case VDC_ZONE_LOAD_NODE:
        VDC_ASSERT(!zone->loaded);
        load_node(zone, event->node);
        break;
    case VDC_ZONE_LOAD_PARTITION:
        VDC_ASSERT(!zone->loaded);
        load_partition(zone, event->partition);
        break;
    case VDC_ZONE_LOAD_OPERATION:
        VDC_ASSERT(!zone->loaded);
        load_operation(zone, event->operation);
        break;
    case VDC_ZONE_LOADED:
        VDC_ASSERT(!zone->loaded);
        loaded(zone);
        break;
    case VDC_ZONE_LEADING_UNTIL:
        zone->leading_until = vdc_mono_max(zone->leading_until, event->until);
        tick(zone); /* what was put off while leadership was in doubt */
        break;
    case VDC_ZONE_WRITTEN:
        if (event->written.rc != VDC_RC_OK) {
            TRACE(zone, WARN, "zone %s: a write was refused as of an old leader -> no more steps",
                  zone->name);
            zone->stale = true;
            return &zone->update;
        }
        zone_written(zone, event->written.write);
        break;
    case VDC_ZONE_NODE_UP:
    case VDC_ZONE_NODE_MSG:
    case VDC_ZONE_NODE_DOWN:
        session_event(zone, event);
        break;
    case VDC_ZONE_REQUEST:
        zone_request(zone, event->request);
        break;
    case VDC_ZONE_TICK:
        tick(zone);
        break;
    }
    if (zone->loaded) {
        zone_settle(zone);
    }
    return &zone->update;
}

vdc_mono vdc_zone_deadline(const struct vdc_zone *zone)
{
    vdc_mono deadline = VDC_NEVER;
    if (!zone->loaded || zone->stale) {
        return deadline;
    }
    for (size_t i = 0; i < zone->nodes_len; i++) {
        deadline = vdc_mono_min(deadline, node_deadline(zone, zone->nodes[i]));
    }
    for (const struct zone_op *op = zone->active; op != NULL; op = op->active_next) {
        if (op->write == 0) {
            deadline = vdc_mono_min(deadline, vdc_mono_min(op->work->deadline, op->work->retry_at));
        }
    }
    for (const struct zone_console *console = zone->consoles; console != NULL;
         console = console->hh.next) {
        deadline = vdc_mono_min(deadline, console->deadline);
    }
    if (zone->rec.lease_ns != 0 && zone->lease_old_until.ns != 0) {
        deadline = vdc_mono_min(deadline, zone->lease_old_until);
    }
    return deadline;
}

/* ---- readers ---- */

bool vdc_zone_is_loaded(const struct vdc_zone *zone)
{
    return zone->loaded;
}

const struct vdc_policy *vdc_zone_policy(const struct vdc_zone *zone)
{
    return zone->policy;
}

const struct vdc_policy_record *vdc_zone_policy_record(const struct vdc_zone *zone)
{
    return &zone->policy_rec;
}

static void node_info(const struct vdc_zone *zone, const struct zone_node *node,
                      struct vdc_zone_node_info *info)
{
    *info = (struct vdc_zone_node_info){
        .record = &node->rec,
        .state = node->state,
        .connected = node->connected,
        .lease_until = node->lease.open ? node->lease.until : (vdc_mono){0},
        .replica = node->replica,
        .replica_sequence = node->replica == NULL ? 0 : vdc_allocdb_sequence(node->replica),
        .replica_equal = node->replica_equal,
    };
    info->usable = node_is_usable(zone, node, &info->why_not);
    for (size_t i = 0; i < zone->partitions_len; i++) {
        if (strcmp(zone->partitions[i]->rec.owner, node->rec.name) == 0) {
            info->partitions++;
        }
    }
}

bool vdc_zone_node_next(const struct vdc_zone *zone, const char *after,
                        struct vdc_zone_node_info *info)
{
    size_t at = node_index(zone, after);
    if (at < zone->nodes_len && strcmp(zone->nodes[at]->rec.name, after) == 0) {
        at++;
    }
    if (at >= zone->nodes_len) {
        return false;
    }
    node_info(zone, zone->nodes[at], info);
    return true;
}

bool vdc_zone_node_find(const struct vdc_zone *zone, const char *name,
                        struct vdc_zone_node_info *info)
{
    const struct zone_node *node = zone_find_node(zone, name);
    if (node == NULL) {
        return false;
    }
    node_info(zone, node, info);
    return true;
}

static void partition_info(const struct vdc_zone *zone, const struct zone_partition *partition,
                           struct vdc_zone_partition_info *info)
{
    memset(info, 0, sizeof *info);
    info->record = &partition->rec;
    const struct zone_node *owner = zone_find_node(zone, partition->rec.owner);
    if (owner == NULL) {
        return;
    }
    const struct vdc_msg_guest *guest =
        node_guest(owner, &partition->rec.id, partition->rec.generation);
    if (guest != NULL) {
        info->seen = true;
        info->guest = *guest;
    }
}

bool vdc_zone_partition_next(const struct vdc_zone *zone, const char *after,
                             struct vdc_zone_partition_info *info)
{
    size_t at = partition_index(zone, after);
    while (at < zone->partitions_len && (!zone->partitions[at]->durable ||
                                         strcmp(zone->partitions[at]->rec.spec.name, after) == 0)) {
        at++;
    }
    if (at >= zone->partitions_len) {
        return false;
    }
    partition_info(zone, zone->partitions[at], info);
    return true;
}

bool vdc_zone_partition_find(const struct vdc_zone *zone, const char *name,
                             struct vdc_zone_partition_info *info)
{
    const struct zone_partition *partition = zone_find_partition(zone, name);
    if (partition == NULL || !partition->durable) {
        return false;
    }
    partition_info(zone, partition, info);
    return true;
}

const struct vdc_operation_record *vdc_zone_operation_find(const struct vdc_zone *zone,
                                                           const struct vdc_id *id)
{
    const struct zone_op *op;
    HASH_FIND(hh, zone->ops_by_id, id, sizeof *id, op);
    return op != NULL && op->durable ? &op->shown : NULL;
}

const struct vdc_operation_record *vdc_zone_operation_next(const struct vdc_zone *zone,
                                                           const struct vdc_id *after)
{
    size_t at = zone->ops_len;
    if (after != NULL) {
        while (at > 0 && !vdc_id_equal(&zone->ops[at - 1]->rec.id, after)) {
            at--;
        }
        if (at > 0) {
            at--;
        }
    }
    while (at > 0 && !zone->ops[at - 1]->durable) {
        at--;
    }
    return at > 0 ? &zone->ops[at - 1]->shown : NULL;
}
