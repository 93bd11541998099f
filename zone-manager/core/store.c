/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes to the store. Memory is changed when a write is made, not when it is durable: this leader
 * is the only writer, so nothing can come between. What others may see waits for the WRITTEN event:
 * an operation or node with a write under way takes no step, answers are kept with the operation.
 */
#include "zone_internal.h"

uint64_t zone_write_begin(struct vdc_zone *zone)
{
    VDC_GROW(zone->update.writes, zone->writes_cap, zone->update.writes_len + 1);
    struct vdc_zone_write *write = &zone->update.writes[zone->update.writes_len++];
    *write = (struct vdc_zone_write){.id = ++zone->last_write};
    struct zone_pending *pending = VDC_NEW(struct zone_pending);
    pending->id = write->id;
    HASH_ADD(hh, zone->pending, id, sizeof pending->id, pending);
    return write->id;
}

static struct vdc_zone_write *open_write(struct vdc_zone *zone)
{
    VDC_ASSERT(zone->update.writes_len > 0);
    return &zone->update.writes[zone->update.writes_len - 1];
}

static struct zone_pending *open_pending(struct vdc_zone *zone)
{
    struct zone_pending *pending;
    HASH_FIND(hh, zone->pending, &zone->last_write, sizeof zone->last_write, pending);
    VDC_ASSERT(pending != NULL);
    return pending;
}

/* Takes the value over; value->data == NULL deletes. */
void zone_write_put(struct vdc_zone *zone, const char *key, struct vdc_buf *value)
{
    struct vdc_zone_write *write = open_write(zone);
    VDC_ASSERT(write->puts_len < VDC_ZONE_PUTS_MAX);
    write->puts = vdc_realloc(write->puts, write->puts_len + 1, sizeof *write->puts);
    struct vdc_zone_put *put = &write->puts[write->puts_len++];
    vdc_str_set(put->key, sizeof put->key, key);
    put->value = *value;
    *value = (struct vdc_buf){0};
}

void zone_write_zone(struct vdc_zone *zone)
{
    char key[VDC_KEY_CAP];
    struct vdc_buf value = {0};
    vdc_key_zone(key, zone->name);
    vdc_zone_record_encode(&zone->rec, &value);
    zone_write_put(zone, key, &value);
}

void zone_write_policy(struct vdc_zone *zone, const struct vdc_policy_record *rec)
{
    char key[VDC_KEY_CAP];
    struct vdc_buf value = {0};
    vdc_key_policy(key, zone->name, rec->version);
    vdc_policy_record_encode(rec, &value);
    zone_write_put(zone, key, &value);
}

void zone_write_node(struct vdc_zone *zone, struct zone_node *node)
{
    char key[VDC_KEY_CAP];
    struct vdc_buf value = {0};
    VDC_ASSERT(node->write == 0);
    VDC_ASSERT(node->rec.state != VDC_NODE_SILENT);
    node->rec.changed_at = zone->wall;
    vdc_key_node(key, zone->name, node->rec.name);
    vdc_node_record_encode(&node->rec, &value);
    zone_write_put(zone, key, &value);
    node->write = zone->last_write;
    open_pending(zone)->node = node;
}

void zone_write_partition(struct vdc_zone *zone, struct zone_partition *partition)
{
    char key[VDC_KEY_CAP];
    struct vdc_buf value = {0};
    const struct vdc_partition_record *rec = &partition->rec;
    VDC_ASSERT(rec->generation <= rec->generation_last);
    VDC_ASSERT((rec->owner[0] == 0) == (rec->generation == 0));
    partition->rec.changed_at = zone->wall;
    vdc_key_partition(key, zone->name, &rec->id);
    vdc_partition_record_encode(rec, &value);
    zone_write_put(zone, key, &value);
    zone->generation++;
}

void zone_write_delete_partition(struct vdc_zone *zone, struct zone_partition *partition)
{
    char key[VDC_KEY_CAP];
    struct vdc_buf none = {0};
    vdc_key_partition(key, zone->name, &partition->rec.id);
    zone_write_put(zone, key, &none);
    partition->deleted = true;
    zone->generation++;
}

void zone_write_op(struct vdc_zone *zone, struct zone_op *op)
{
    char key[VDC_KEY_CAP];
    struct vdc_buf value = {0};
    VDC_ASSERT(op->write == 0);
    vdc_key_operation(key, zone->name, &op->rec.id);
    vdc_operation_record_encode(&op->rec, &value);
    zone_write_put(zone, key, &value);
    op->write = zone->last_write;
    open_pending(zone)->op = op;
}

void zone_written(struct vdc_zone *zone, uint64_t id)
{
    struct zone_pending *pending;
    HASH_FIND(hh, zone->pending, &id, sizeof id, pending);
    if (pending == NULL) {
        return;
    }
    struct zone_op *op = pending->op;
    struct zone_node *node = pending->node;
    HASH_DELETE(hh, zone->pending, pending);
    free(pending);
    if (node != NULL) {
        VDC_ASSERT(node->write == id);
        node->write = 0;
        zone_mark_node(zone, node);
    }
    if (op == NULL) {
        return;
    }
    VDC_ASSERT(op->write == id);
    op->write = 0;
    op->durable = true;
    op->shown = op->rec;
    if (op->partition != NULL) {
        op->partition->durable = true;
    }
    if (op == zone->policy_op) {
        zone_policy_in_force(zone);
    }
    zone_answer_waiters(zone, op);
    if (op_is_finished(op)) {
        op_release(zone, op);
    } else {
        zone_mark_op(zone, op);
    }
}
