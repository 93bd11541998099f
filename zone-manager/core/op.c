/* SPDX-License-Identifier: Apache-2.0 */
/* What all operations share: their list, their moves, their end. */
#include <stdarg.h>
#include <stdio.h>

#include "zone_internal.h"

static const struct op_table run_table = {"run", run_states, RUN_END + 1, RUN_END, run_advance};
static const struct op_table stop_table = {"stop", stop_states, STOP_END + 1, STOP_END,
                                           stop_advance};
static const struct op_table destroy_table = {"destroy", destroy_states, DESTROY_END + 1,
                                              DESTROY_END, destroy_advance};
static const struct op_table migrate_table = {"migrate", migrate_states, MIGRATE_END + 1,
                                              MIGRATE_END, migrate_advance};
static const struct op_table policy_table = {"apply_policy", policy_states, STOP_END + 1, STOP_END,
                                             NULL};

const struct op_table *op_table(enum vdc_operation_kind kind)
{
    switch (kind) {
    case VDC_OPERATION_CREATE:
    case VDC_OPERATION_START:
    case VDC_OPERATION_FAILOVER:
        return &run_table;
    case VDC_OPERATION_STOP:
        return &stop_table;
    case VDC_OPERATION_DESTROY:
        return &destroy_table;
    case VDC_OPERATION_MIGRATE:
        return &migrate_table;
    case VDC_OPERATION_APPLY_POLICY:
        return &policy_table;
    }
    VDC_ASSERT(false); /* records with other kinds are refused when they are read */
    return NULL;
}

bool op_is_finished(const struct zone_op *op)
{
    switch (op->rec.state) {
    case VDC_OPSTATE_QUEUED:
    case VDC_OPSTATE_RUNNING:
        return false;
    case VDC_OPSTATE_DONE:
    case VDC_OPSTATE_FAILED:
    case VDC_OPSTATE_CANCELLED:
        break;
    }
    return true;
}

/* Before: negative. Oldest first, ids decide between equal times. */
static int op_compare(const struct vdc_operation_record *a, const struct vdc_operation_record *b)
{
    if (a->created_at.ns != b->created_at.ns) {
        return a->created_at.ns < b->created_at.ns ? -1 : 1;
    }
    return vdc_id_compare(&a->id, &b->id);
}

static struct zone_op *op_add(struct vdc_zone *zone, const struct vdc_operation_record *rec)
{
    size_t low = 0, high = zone->ops_len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (op_compare(&zone->ops[middle]->rec, rec) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    struct zone_op *op = VDC_NEW(struct zone_op);
    op->rec = *rec;
    VDC_GROW(zone->ops, zone->ops_cap, zone->ops_len + 1);
    memmove(&zone->ops[low + 1], &zone->ops[low], (zone->ops_len - low) * sizeof *zone->ops);
    zone->ops[low] = op;
    zone->ops_len++;
    HASH_ADD(hh, zone->ops_by_id, rec.id, sizeof op->rec.id, op);
    return op;
}

void op_add_key(struct vdc_zone *zone, struct zone_op *op)
{
    if (op->rec.request_key[0] != 0) {
        HASH_ADD_KEYPTR(hh_key, zone->ops_by_key, op->rec.request_key, strlen(op->rec.request_key),
                        op);
    }
}

/* Where to go on with an operation that was written by a version that knew more steps. It has to be
 * one that moves nothing before it has asked: a partition that has a node may run there, and only COMMIT
 * looks at that node before any other gets it. */
static int safe_step(const struct vdc_operation_record *rec)
{
    switch (rec->kind) {
    case VDC_OPERATION_CREATE:
    case VDC_OPERATION_START:
    case VDC_OPERATION_FAILOVER:
        return rec->target[0] != 0 ? RUN_COMMIT : RUN_PLACE;
    case VDC_OPERATION_MIGRATE:
        return MIGRATE_ABORTING;
    case VDC_OPERATION_STOP:
    case VDC_OPERATION_DESTROY:
    case VDC_OPERATION_APPLY_POLICY:
        break;
    }
    return STOP_WAIT;
}

struct zone_op *op_load(struct vdc_zone *zone, const struct vdc_operation_record *rec)
{
    struct zone_op *op = op_add(zone, rec);
    const struct op_table *table = op_table(rec->kind);
    op->durable = true;
    op->shown = op->rec;
    op->step = vdc_sm_find(table->states, (size_t)table->count, rec->step);
    if (op->step < 0 && !op_is_finished(op)) {
        op->step = safe_step(rec);
        TRACE(zone, ERROR, "operation %s of %s: step %s is not known -> goes on at %s",
              vdc_operation_kind_name(rec->kind), rec->partition_name, rec->step,
              table->states[op->step].name);
    }
    op_add_key(zone, op);
    return op;
}

struct zone_op *op_create(struct vdc_zone *zone, enum vdc_operation_kind kind, int step,
                          struct zone_partition *partition)
{
    struct vdc_operation_record rec = {.kind = kind, .state = VDC_OPSTATE_RUNNING};
    rec.id = vdc_id_make(&zone->prng);
    vdc_str_set(rec.zone, sizeof rec.zone, zone->name);
    vdc_str_set(rec.step, sizeof rec.step, op_table(kind)->states[step].name);
    rec.created_at = zone->wall;
    if (zone->ops_len > 0 && zone->ops[zone->ops_len - 1]->rec.created_at.ns >= rec.created_at.ns) {
        /* Their order is the order in which they were begun, also when the wall clock steps back. */
        rec.created_at.ns = zone->ops[zone->ops_len - 1]->rec.created_at.ns + 1;
    }
    if (partition != NULL) {
        rec.partition = partition->rec.id;
        vdc_str_set(rec.partition_name, sizeof rec.partition_name, partition->rec.spec.name);
        rec.generation_from = partition->rec.generation;
        rec.generation_to = partition->rec.generation;
    }
    struct zone_op *op = op_add(zone, &rec);
    op->step = step;
    op->partition = partition;
    if (partition != NULL) {
        VDC_ASSERT(partition->op == NULL);
        partition->op = op;
        partition->rec.operation = rec.id;
    }
    op_begin(zone, op);
    return op;
}

void op_begin(struct vdc_zone *zone, struct zone_op *op)
{
    op->work = VDC_NEW(struct op_work);
    op->work->deadline = VDC_NEVER;
    op->work->retry_at = VDC_NEVER;
    op->work->away_since = VDC_NEVER;
    op->work->step_began = zone->now;
    op->active_next = zone->active;
    if (zone->active != NULL) {
        zone->active->active_prev = op;
    }
    zone->active = op;
}

static void op_end_work(struct vdc_zone *zone, struct zone_op *op)
{
    if (op->work == NULL) {
        return;
    }
    for (int slot = 0; slot < SLOT_COUNT; slot++) {
        call_forget(zone, &op->work->calls[slot]);
    }
    free(op->work);
    op->work = NULL;
    if (op->active_prev != NULL) {
        op->active_prev->active_next = op->active_next;
    } else {
        zone->active = op->active_next;
    }
    if (op->active_next != NULL) {
        op->active_next->active_prev = op->active_prev;
    }
    op->active_prev = NULL;
    op->active_next = NULL;
}

void op_move(struct vdc_zone *zone, struct zone_op *op, int step, const char *why)
{
    const struct op_table *table = op_table(op->rec.kind);
    op->step =
        vdc_sm_move(table->states, (size_t)table->count, op->step, step, &zone->update.trace,
                    vdc_operation_kind_name(op->rec.kind),
                    op->rec.partition_name[0] != 0 ? op->rec.partition_name : zone->name, why);
    vdc_str_set(op->rec.step, sizeof op->rec.step, table->states[step].name);
    op->work->step_began = zone->now;
    op->work->deadline = VDC_NEVER;
    op->work->retry_at = VDC_NEVER;
    op->work->resumed = false;
}

void op_move_write(struct vdc_zone *zone, struct zone_op *op, int step, const char *why)
{
    op_move(zone, op, step, why);
    zone_write_begin(zone);
    zone_write_op(zone, op);
}

void op_write_both(struct vdc_zone *zone, struct zone_op *op)
{
    zone_write_begin(zone);
    if (op->partition != NULL) {
        zone_write_partition(zone, op->partition);
    }
    zone_write_op(zone, op);
    op_trim(zone);
}

/* One write ends it for everybody: the operation, and the partition's mark that it is under way. */
void op_finish(struct vdc_zone *zone, struct zone_op *op, enum vdc_rc rc, const char *fmt, ...)
{
    char text[VDC_ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    op_move(zone, op, op_table(op->rec.kind)->end, text);
    op->rec.state = rc == VDC_RC_OK          ? VDC_OPSTATE_DONE
                    : rc == VDC_RC_CANCELLED ? VDC_OPSTATE_CANCELLED
                                             : VDC_OPSTATE_FAILED;
    op->rec.rc = rc;
    if (rc != VDC_RC_OK) {
        free(op->rec.error);
        op->rec.error = vdc_strdup(text);
    }
    op->rec.finished_at = zone->wall;
    op->rec.duration_ns = VDC_MAX(zone->wall.ns - op->rec.created_at.ns, INT64_C(0));
    if (op->partition != NULL) {
        op->partition->rec.operation = (struct vdc_id){0};
    }
}

void op_finish_gone(struct vdc_zone *zone, struct zone_op *op)
{
    zone_write_begin(zone);
    zone_write_delete_partition(zone, op->partition);
    zone_write_op(zone, op);
}

void op_release(struct vdc_zone *zone, struct zone_op *op)
{
    struct zone_partition *partition = op->partition;
    op->partition = NULL;
    op_end_work(zone, op);
    const char *const names[] = {op->rec.source, op->rec.target,
                                 partition == NULL ? "" : partition->rec.owner};
    for (size_t i = 0; i < VDC_COUNT_OF(names); i++) {
        struct zone_node *node = zone_find_node(zone, names[i]);
        if (node != NULL) {
            node->reconcile = true;
            zone_mark_node(zone, node);
        }
    }
    if (partition == NULL) {
        return;
    }
    partition->op = NULL;
    if (partition->deleted) {
        zone_remove_partition(zone, partition);
    } else {
        zone_review_partition(zone, partition);
    }
    /* What was given back may be what a waiting placement needs. */
    zone_mark_ops_of(zone, NULL);
}

void op_set_verdict(struct zone_op *op, const struct placement *placement)
{
    op->shown.verdict = NULL;
    free(op->rec.verdict);
    op->rec.verdict = vdc_strdup(placement->text);
    if (op->partition != NULL) {
        free(op->partition->rec.verdict);
        op->partition->rec.verdict = vdc_strdup(placement->text);
    }
}

void op_free(struct vdc_zone *zone, struct zone_op *op)
{
    op_end_work(zone, op);
    size_t at = zone->ops_len;
    while (at > 0 && zone->ops[at - 1] != op) {
        at--;
    }
    VDC_ASSERT(at > 0);
    memmove(&zone->ops[at - 1], &zone->ops[at], (zone->ops_len - at) * sizeof *zone->ops);
    zone->ops_len--;
    HASH_DELETE(hh, zone->ops_by_id, op);
    if (op->rec.request_key[0] != 0) {
        HASH_DELETE(hh_key, zone->ops_by_key, op);
    }
    vdc_operation_record_deinit(&op->rec);
    free(op->waiters);
    free(op);
}

/* Two at a time, so that the list shrinks although each write may add one. */
void op_trim(struct vdc_zone *zone)
{
    size_t at = 0;
    for (int removed = 0; removed < 2 && zone->ops_len > ZONE_OPERATIONS_KEPT;) {
        while (at < zone->ops_len && (!op_is_finished(zone->ops[at]) || zone->ops[at]->write != 0 ||
                                      zone->ops[at]->work != NULL || !zone->ops[at]->durable)) {
            at++;
        }
        if (at >= zone->ops_len) {
            return;
        }
        char key[VDC_KEY_CAP];
        struct vdc_buf none = {0};
        vdc_key_operation(key, zone->name, &zone->ops[at]->rec.id);
        zone_write_put(zone, key, &none);
        op_free(zone, zone->ops[at]);
        removed++;
    }
}
