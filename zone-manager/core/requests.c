/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients ask. A request becomes an operation in one write with what it changes, and is answered
 * when that is durable. A request key that is known is answered with its first operation; a policy's
 * refusal is an operation too, finished at once, so that it is repeated like every other answer.
 */
#include <stdio.h>

#include "zone_internal.h"

/* ---- answers ---- */

static void answer_with_op(struct vdc_zone *zone, struct zone_op *op, uint64_t token, bool repeated)
{
    bool refused = op->rec.state == VDC_OPSTATE_FAILED && op->rec.rc == VDC_RC_REFUSED &&
                   op->rec.error != NULL;
    struct vdc_zone_answer *answer = zone_answer(zone, token, refused ? VDC_RC_REFUSED : VDC_RC_OK,
                                                 "%s", refused ? op->rec.error : "");
    answer->has_operation = true;
    answer->operation = op->rec.id;
    answer->repeated = repeated;
}

void zone_answer_waiters(struct vdc_zone *zone, struct zone_op *op)
{
    for (size_t i = 0; i < op->waiters_len; i++) {
        answer_with_op(zone, op, op->waiters[i], op->first_answered);
        op->first_answered = true;
    }
    op->waiters_len = 0;
}

static void wait_for_op(struct vdc_zone *zone, struct zone_op *op, uint64_t token)
{
    if (op->durable) {
        answer_with_op(zone, op, token, true);
        return;
    }
    if (op->waiters_len >= ZONE_WAITERS_MAX) {
        zone_answer(zone, token, VDC_RC_LIMIT, "%d requests with this key wait already",
                    ZONE_WAITERS_MAX);
        return;
    }
    VDC_GROW(op->waiters, op->waiters_cap, op->waiters_len + 1);
    op->waiters[op->waiters_len++] = token;
}

/* The operation now carries the request: who, which key, whom to answer. */
static void take_request(struct vdc_zone *zone, struct zone_op *op,
                         const struct vdc_zone_request *request)
{
    vdc_str_set(op->rec.user, sizeof op->rec.user, request->user);
    vdc_str_set(op->rec.request_key, sizeof op->rec.request_key, request->request_key);
    memcpy(op->rec.body_digest, request->body_digest, sizeof op->rec.body_digest);
    op_add_key(zone, op);
    wait_for_op(zone, op, request->token);
}

/* True: it was answered. */
static bool answer_repeated(struct vdc_zone *zone, const struct vdc_zone_request *request)
{
    struct zone_op *op = NULL;
    if (request->request_key[0] == 0) {
        return false;
    }
    HASH_FIND(hh_key, zone->ops_by_key, request->request_key, strlen(request->request_key), op);
    if (op == NULL) {
        return false;
    }
    if (memcmp(op->rec.body_digest, request->body_digest, sizeof op->rec.body_digest) != 0) {
        zone_answer(zone, request->token, VDC_RC_CONFLICT,
                    "the key %s was used for another request", request->request_key);
        return true;
    }
    wait_for_op(zone, op, request->token);
    return true;
}

/* A verdict is stored like every outcome. */
static void refuse(struct vdc_zone *zone, const struct vdc_zone_request *request,
                   enum vdc_operation_kind kind, int step, struct zone_partition *partition,
                   const char *name, const struct placement *placement)
{
    struct zone_op *op = op_create(zone, kind, step, NULL);
    VDC_GROW(zone->placed, zone->placed_cap, zone->placed_len + 1);
    zone->placed[zone->placed_len++] = op;
    vdc_str_set(op->rec.partition_name, sizeof op->rec.partition_name, name);
    if (partition != NULL) {
        op->rec.partition = partition->rec.id;
        vdc_str_set(op->rec.source, sizeof op->rec.source, partition->rec.owner);
    }
    vdc_str_set(op->rec.target, sizeof op->rec.target, request->target);
    take_request(zone, op, request);
    op_set_verdict(op, placement);
    op->rec.state = VDC_OPSTATE_FAILED;
    op->rec.rc = VDC_RC_REFUSED;
    op->rec.error = vdc_strdup(placement->line);
    op->rec.finished_at = zone->wall;
    vdc_str_set(op->rec.step, sizeof op->rec.step, "end");
    op->step = op_table(kind)->end;
    op_write_both(zone, op);
}

/* ---- create ---- */

static bool label_valid(const struct vdc_label *label)
{
    for (const char *at = label->value; *at != 0; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            return false;
        }
    }
    for (const char *at = label->key; *at != 0; at++) {
        if ((unsigned char)*at <= 0x20 || *at == 0x7f) {
            return false;
        }
    }
    return label->key[0] != 0;
}

/* Says that there is no such class, and which there are. */
static void say_class(const struct vdc_zone *zone, const char *name, char why[VDC_ERR_TEXT_MAX])
{
    struct vdc_buf known = {0};
    size_t count = vdc_policy_class_count(zone->policy);
    for (size_t i = 0; i < count; i++) {
        vdc_buf_printf(&known, "%s%s", i == 0 ? "" : ", ",
                       vdc_policy_class_at(zone->policy, i)->name);
    }
    if (name[0] == 0) {
        snprintf(
            why, VDC_ERR_TEXT_MAX,
            "class: none was given and the policy has none called \"default\"; choose one of: %s",
            vdc_buf_text(&known));
    } else if (count == 0) {
        snprintf(why, VDC_ERR_TEXT_MAX,
                 "class: the policy defines no classes, so there is no \"%s\"; leave it out", name);
    } else {
        snprintf(why, VDC_ERR_TEXT_MAX, "class: the policy has no class \"%s\"; choose one of: %s",
                 name, vdc_buf_text(&known));
    }
    vdc_buf_deinit(&known);
}

/* "" when it is valid, else what is wrong. */
static void check_spec(const struct vdc_zone *zone, const struct vdc_partition_spec *spec,
                       char why[VDC_ERR_TEXT_MAX])
{
    struct vdc_id as_id;
    why[0] = 0;
    if (!vdc_name_valid(spec->name)) {
        snprintf(why, VDC_ERR_TEXT_MAX, "name: \"%s\" is no name", spec->name);
    } else if (vdc_id_from_text(spec->name, &as_id)) {
        snprintf(why, VDC_ERR_TEXT_MAX, "name: it reads like an id");
    } else if (strcmp(spec->zone, zone->name) != 0) {
        snprintf(why, VDC_ERR_TEXT_MAX, "zone: this is zone %s", zone->name);
    } else if (spec->tenant[0] != 0 && !vdc_name_valid(spec->tenant)) {
        snprintf(why, VDC_ERR_TEXT_MAX, "tenant: \"%s\" is no name", spec->tenant);
    } else if (!vdc_name_valid(spec->image)) {
        snprintf(why, VDC_ERR_TEXT_MAX, "image: \"%s\" is no name", spec->image);
    } else if (vdc_policy_class_find(zone->policy, spec->class) == NULL) {
        say_class(zone, spec->class, why);
    } else if (spec->vcpus < 1 || spec->vcpus > VDC_VCPUS_MAX) {
        snprintf(why, VDC_ERR_TEXT_MAX, "vcpus: %u is not between 1 and %d", spec->vcpus,
                 VDC_VCPUS_MAX);
    } else if (spec->memory_bytes == 0 || spec->memory_bytes % (UINT64_C(1) << 20) != 0 ||
               spec->memory_bytes > VDC_PARTITION_MEMORY_MAX) {
        snprintf(why, VDC_ERR_TEXT_MAX, "memory: whole MiB up to 16 TiB, not %llu bytes",
                 (unsigned long long)spec->memory_bytes);
    } else if (spec->labels_len > VDC_LABELS_MAX) {
        snprintf(why, VDC_ERR_TEXT_MAX, "labels: more than %d", VDC_LABELS_MAX);
    }
    for (size_t i = 0; why[0] == 0 && i < spec->labels_len; i++) {
        if (!label_valid(&spec->labels[i])) {
            snprintf(why, VDC_ERR_TEXT_MAX, "labels: number %zu is not valid", i + 1);
        }
    }
}

/* A refusal is for good: its key gives it again and again. So a leader that does not see all nodes yet
 * says "ask again" instead. */
static bool answer_if_settling(struct vdc_zone *zone, const struct vdc_zone_request *request,
                               const char *name)
{
    const char *node;
    if (!zone_is_settling(zone, &node)) {
        return false;
    }
    zone_answer(
        zone, request->token, VDC_RC_NO_LEADER,
        "%s has no place yet, and the zone's leader is new and still waits for %s; ask again "
        "soon",
        name, node);
    return true;
}

static void request_create(struct vdc_zone *zone, const struct vdc_zone_request *request)
{
    struct vdc_partition_record rec = {.spec = request->spec, .desired = VDC_DESIRED_RUNNING};
    char why[VDC_ERR_TEXT_MAX];
    if (rec.spec.zone[0] == 0) {
        vdc_str_set(rec.spec.zone, sizeof rec.spec.zone, zone->name);
    }
    if (rec.spec.image[0] == 0) {
        vdc_str_set(rec.spec.image, sizeof rec.spec.image, "linux");
    }
    check_spec(zone, &rec.spec, why);
    if (why[0] != 0) {
        zone_answer(zone, request->token, VDC_RC_INVALID, "%s", why);
        return;
    }
    if (zone_find_partition(zone, rec.spec.name) != NULL) {
        zone_answer(zone, request->token, VDC_RC_EXISTS, "a partition %s exists already",
                    rec.spec.name);
        return;
    }
    struct placement placement;
    zone_place(zone, &rec.spec, &rec.id, VDC_POLICY_CREATE, NULL, NULL, 0, &placement);
    placement_trace(zone, &placement);
    if (!placement.placed) {
        if (!answer_if_settling(zone, request, rec.spec.name)) {
            refuse(zone, request, VDC_OPERATION_CREATE, RUN_COMMIT, NULL, rec.spec.name,
                   &placement);
        }
        placement_deinit(&placement);
        return;
    }
    rec.id = vdc_id_make(&zone->prng);
    rec.generation = 1;
    rec.generation_last = 1;
    rec.policy_version = zone->policy_rec.version;
    rec.restartable = vdc_policy_class_find(zone->policy, rec.spec.class)->failover_restart;
    rec.created_at = zone->wall;
    vdc_str_set(rec.owner, sizeof rec.owner, placement.node->rec.name);
    struct zone_op *op =
        op_create(zone, VDC_OPERATION_CREATE, RUN_COMMIT, zone_add_partition(zone, &rec));
    VDC_GROW(zone->placed, zone->placed_cap, zone->placed_len + 1);
    zone->placed[zone->placed_len++] = op;
    vdc_str_set(op->rec.target, sizeof op->rec.target, rec.owner);
    op->rec.generation_from = 0;
    take_request(zone, op, request);
    op_set_verdict(op, &placement);
    op_write_both(zone, op);
    placement_deinit(&placement);
}

/* ---- what concerns one partition ---- */

/* The partition, free for a new operation; NULL: answered. `pass` lets destroy and stop end a
 * placement that waits for room. */
static struct zone_partition *take_partition(struct vdc_zone *zone,
                                             const struct vdc_zone_request *request)
{
    struct zone_partition *partition = zone_find_partition(zone, request->partition);
    if (partition == NULL || !partition->durable || partition->deleted) {
        zone_answer(zone, request->token, VDC_RC_NOT_FOUND, "there is no partition %s in zone %s",
                    request->partition, zone->name);
        return NULL;
    }
    if (partition->op != NULL) {
        char id[VDC_ID_TEXT_CAP];
        vdc_id_to_text(&partition->op->rec.id, id);
        zone_answer(zone, request->token, VDC_RC_CONFLICT,
                    "operation %s (%s, step %s) of %s is under way", id,
                    vdc_operation_kind_name(partition->op->rec.kind), partition->op->rec.step,
                    partition->rec.spec.name);
        return NULL;
    }
    return partition;
}

/* A stop or destroy ends a placement that only waits for room, in a write before its own. */
static bool cancel_waiting(struct vdc_zone *zone, const struct vdc_zone_request *request)
{
    struct zone_partition *partition = zone_find_partition(zone, request->partition);
    struct zone_op *op = partition == NULL ? NULL : partition->op;
    if (op == NULL || op->write != 0 || op->rec.state != VDC_OPSTATE_QUEUED) {
        return false;
    }
    op_finish(zone, op, VDC_RC_CANCELLED, "%s asks to %s it", request->user,
              request->kind == VDC_REQUEST_STOP ? "stop" : "destroy");
    op_write_both(zone, op);
    /* The next operation may be written at once: writes of one key go in order. */
    op->partition = NULL;
    partition->op = NULL;
    return true;
}

static void begin_simple(struct vdc_zone *zone, const struct vdc_zone_request *request,
                         struct zone_partition *partition, enum vdc_operation_kind kind, int step,
                         enum vdc_desired desired)
{
    partition->rec.desired = desired;
    struct zone_op *op = op_create(zone, kind, step, partition);
    vdc_str_set(op->rec.target, sizeof op->rec.target, partition->rec.owner);
    if (kind == VDC_OPERATION_START && step == RUN_PLACE) {
        op->rec.state = VDC_OPSTATE_QUEUED;
    }
    take_request(zone, op, request);
    op_write_both(zone, op);
}

static void request_start(struct vdc_zone *zone, const struct vdc_zone_request *request)
{
    struct zone_partition *partition = take_partition(zone, request);
    if (partition == NULL) {
        return;
    }
    const struct vdc_partition_record *rec = &partition->rec;
    struct zone_node *owner = zone_find_node(zone, rec->owner);
    bool held = owner != NULL && !node_is_lost(owner) &&
                (!node_known(owner) || node_holds(owner, &rec->id, rec->generation) != NULL);
    if (!held && owner != NULL && node_is_lost(owner) && !rec->restartable) {
        zone_answer(zone, request->token, VDC_RC_UNAVAILABLE,
                    "its node %s is lost, and its class does not restart elsewhere", rec->owner);
        return;
    }
    begin_simple(zone, request, partition, VDC_OPERATION_START, held ? RUN_COMMIT : RUN_PLACE,
                 VDC_DESIRED_RUNNING);
}

static void request_stop(struct vdc_zone *zone, const struct vdc_zone_request *request)
{
    (void)cancel_waiting(zone, request);
    struct zone_partition *partition = take_partition(zone, request);
    if (partition != NULL) {
        begin_simple(zone, request, partition, VDC_OPERATION_STOP, STOP_WAIT, VDC_DESIRED_STOPPED);
    }
}

static void request_destroy(struct vdc_zone *zone, const struct vdc_zone_request *request)
{
    (void)cancel_waiting(zone, request);
    struct zone_partition *partition = take_partition(zone, request);
    if (partition != NULL) {
        begin_simple(zone, request, partition, VDC_OPERATION_DESTROY, STOP_WAIT,
                     VDC_DESIRED_ABSENT);
    }
}

static void request_migrate(struct vdc_zone *zone, const struct vdc_zone_request *request)
{
    struct zone_partition *partition = take_partition(zone, request);
    if (partition == NULL) {
        return;
    }
    struct vdc_partition_record *rec = &partition->rec;
    struct zone_node *owner = zone_find_node(zone, rec->owner);
    if (request->target[0] != 0 && zone_find_node(zone, request->target) == NULL) {
        zone_answer(zone, request->token, VDC_RC_NOT_FOUND, "there is no node %s in zone %s",
                    request->target, zone->name);
        return;
    }
    if (owner == NULL || !node_known(owner)) {
        zone_answer(zone, request->token, VDC_RC_UNAVAILABLE, "its node %s cannot be reached",
                    rec->owner);
        return;
    }
    const struct vdc_msg_guest *guest = node_guest(owner, &rec->id, rec->generation);
    if (guest != NULL && guest->state == VDC_GUEST_PAUSED) {
        zone_answer(zone, request->token, VDC_RC_CONFLICT,
                    "%s is paused on %s (%s), and only a running guest can be migrated: migrate it "
                    "when it runs again, or stop it and start it",
                    rec->spec.name, rec->owner,
                    guest->reason[0] != 0 ? guest->reason : "no reason given");
        return;
    }
    if (guest == NULL || guest->state != VDC_GUEST_RUNNING) {
        zone_answer(zone, request->token, VDC_RC_CONFLICT,
                    "%s is %s on %s, and only a running guest can be migrated: start it first, or "
                    "wait until it runs",
                    rec->spec.name, guest == NULL ? "not seen" : vdc_guest_state_name(guest->state),
                    rec->owner);
        return;
    }
    struct placement placement;
    zone_place(zone, &rec->spec, &rec->id, VDC_POLICY_MIGRATE, request->target, NULL, 0,
               &placement);
    placement_trace(zone, &placement);
    if (!placement.placed) {
        if (!answer_if_settling(zone, request, rec->spec.name)) {
            refuse(zone, request, VDC_OPERATION_MIGRATE, MIGRATE_RESERVE, partition, rec->spec.name,
                   &placement);
        }
        placement_deinit(&placement);
        return;
    }
    struct zone_op *op = op_create(zone, VDC_OPERATION_MIGRATE, MIGRATE_RESERVE, partition);
    VDC_GROW(zone->placed, zone->placed_cap, zone->placed_len + 1);
    zone->placed[zone->placed_len++] = op;
    vdc_str_set(op->rec.source, sizeof op->rec.source, rec->owner);
    vdc_str_set(op->rec.target, sizeof op->rec.target, placement.node->rec.name);
    op->rec.generation_to = ++rec->generation_last;
    take_request(zone, op, request);
    op_set_verdict(op, &placement);
    op_write_both(zone, op);
    placement_deinit(&placement);
}

static void request_console(struct vdc_zone *zone, const struct vdc_zone_request *request)
{
    const struct zone_partition *partition = zone_find_partition(zone, request->partition);
    if (partition == NULL || !partition->durable) {
        zone_answer(zone, request->token, VDC_RC_NOT_FOUND, "there is no partition %s in zone %s",
                    request->partition, zone->name);
        return;
    }
    const struct zone_node *owner = zone_find_node(zone, partition->rec.owner);
    if (!node_reachable(owner)) {
        zone_answer(zone, request->token, VDC_RC_UNAVAILABLE, "its node %s cannot be reached",
                    partition->rec.owner);
        return;
    }
    if (HASH_COUNT(zone->consoles) >= ZONE_CONSOLES_MAX) {
        zone_answer(zone, request->token, VDC_RC_LIMIT, "%d console reads are under way",
                    ZONE_CONSOLES_MAX);
        return;
    }
    struct zone_console *console = VDC_NEW(struct zone_console);
    console->id = vdc_id_make(&zone->prng);
    console->token = request->token;
    console->session = owner->session;
    console->deadline = vdc_mono_add(zone->now, ZONE_CONSOLE_TIMEOUT_NS);
    HASH_ADD(hh, zone->consoles, id, sizeof console->id, console);
    struct vdc_msg_command *command = &zone_send(zone, owner->session, VDC_MSG_COMMAND)->command;
    command->request_id = console->id;
    vdc_str_set(command->zone, sizeof command->zone, zone->name);
    command->epoch = zone->epoch;
    command->partition = partition->rec.id;
    command->generation = partition->rec.generation;
    command->kind = VDC_COMMAND_CONSOLE_READ;
    command->offset = request->offset;
    command->max = VDC_MIN(request->max, VDC_MSG_CONSOLE_MAX);
}

/* ---- the policy ---- */

static void request_policy(struct vdc_zone *zone, const struct vdc_zone_request *request)
{
    struct vdc_policy *policy = request->policy;
    struct vdc_err err = {0};
    VDC_ASSERT(policy != NULL && request->policy_text != NULL);
    const char *name = vdc_policy_settings(policy)->zone;
    if (strcmp(name, zone->name) != 0) {
        zone_answer(zone, request->token, VDC_RC_INVALID, "the policy is for zone %s, this is %s",
                    name, zone->name);
        vdc_policy_destroy(policy);
        return;
    }
    if (zone->policy_op != NULL) {
        zone_answer(zone, request->token, VDC_RC_CONFLICT, "policy version %llu is being written",
                    (unsigned long long)zone->policy_next_rec.version);
        vdc_policy_destroy(policy);
        return;
    }
    if (zone_check_policy(zone, policy, &err) != VDC_RC_OK) {
        struct placement verdict = {.text = vdc_strdup(err.text)};
        vdc_str_set(verdict.line, sizeof verdict.line, err.text);
        refuse(zone, request, VDC_OPERATION_APPLY_POLICY, STOP_WAIT, NULL, "", &verdict);
        placement_deinit(&verdict);
        vdc_policy_destroy(policy);
        return;
    }
    struct zone_op *op = op_create(zone, VDC_OPERATION_APPLY_POLICY, STOP_WAIT, NULL);
    take_request(zone, op, request);
    zone->policy_op = op;
    zone->policy_next = policy;
    zone->policy_next_rec = (struct vdc_policy_record){
        .version = zone->policy_rec.version + 1,
        .applied_at = zone->wall,
        .text = vdc_strdup(request->policy_text),
    };
    vdc_str_set(zone->policy_next_rec.zone, VDC_NAME_CAP, zone->name);
    vdc_str_set(zone->policy_next_rec.applied_by, VDC_NAME_CAP, request->user);
    zone->rec.policy_version = zone->policy_next_rec.version;
    int64_t next_lease = (int64_t)vdc_policy_settings(policy)->lease_ms * VDC_MS;
    int64_t longest = VDC_MAX(zone_lease_ns(zone), zone->rec.lease_ns);
    zone->rec.lease_ns = longest > next_lease ? longest : 0;
    op_finish(zone, op, VDC_RC_OK, "version %llu",
              (unsigned long long)zone->policy_next_rec.version);
    zone_write_begin(zone);
    zone_write_policy(zone, &zone->policy_next_rec);
    zone_write_zone(zone);
    zone_write_op(zone, op);
}

void zone_policy_in_force(struct vdc_zone *zone)
{
    zone->policy_op = NULL;
    vdc_policy_destroy(zone->policy);
    vdc_policy_record_deinit(&zone->policy_rec);
    zone->policy = zone->policy_next;
    zone->policy_rec = zone->policy_next_rec;
    zone->policy_next = NULL;
    zone->policy_next_rec = (struct vdc_policy_record){0};
    zone->generation++;
    zone->lease_old_until = zone->rec.lease_ns == 0
                                ? (vdc_mono){0}
                                : vdc_mono_add(zone->now, vdc_zone_lease_span(zone->rec.lease_ns));
    TRACE(zone, INFO, "zone %s: policy version %llu by %s is in force", zone->name,
          (unsigned long long)zone->policy_rec.version, zone->policy_rec.applied_by);
    for (size_t i = 0; i < zone->nodes_len; i++) {
        node_policy_changed(zone, zone->nodes[i]);
    }
    zone_mark_ops_of(zone, NULL);
}

void zone_request(struct vdc_zone *zone, const struct vdc_zone_request *request)
{
    if (!zone->loaded) {
        vdc_policy_destroy(request->policy);
        zone_answer(zone, request->token, VDC_RC_NO_LEADER, "zone %s is being loaded", zone->name);
        return;
    }
    if (request->kind != VDC_REQUEST_CONSOLE && answer_repeated(zone, request)) {
        vdc_policy_destroy(request->policy);
        return;
    }
    switch (request->kind) {
    case VDC_REQUEST_CREATE:
        request_create(zone, request);
        break;
    case VDC_REQUEST_START:
        request_start(zone, request);
        break;
    case VDC_REQUEST_STOP:
        request_stop(zone, request);
        break;
    case VDC_REQUEST_DESTROY:
        request_destroy(zone, request);
        break;
    case VDC_REQUEST_MIGRATE:
        request_migrate(zone, request);
        break;
    case VDC_REQUEST_APPLY_POLICY:
        request_policy(zone, request);
        break;
    case VDC_REQUEST_CONSOLE:
        request_console(zone, request);
        break;
    }
}
