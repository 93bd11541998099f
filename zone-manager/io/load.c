/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a zone's records for a core that has just been created: the zone, the policy in force, then all
 * nodes, partitions and operations. Nobody else writes them meanwhile: the leader key is ours. One
 * record that cannot be read ends it: a leader that did not know of a partition would place it twice.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/policy_io.h>

#include "seat_internal.h"

/* A record under a key that is not its own would be written to another place than it was read from. */
static enum vdc_rc check_key(const char *key, const char *own, struct vdc_err *err)
{
    return strcmp(key, own) == 0
               ? VDC_RC_OK
               : vdc_err_set(err, VDC_RC_CORRUPT, "it holds the record of %s", own);
}

static void load_node(struct seat *seat, const struct vdc_etcd_kv *kv, struct vdc_err *err)
{
    struct vdc_zone_event event = {.kind = VDC_ZONE_LOAD_NODE};
    struct vdc_node_record *record = VDC_NEW(struct vdc_node_record);
    char own[VDC_KEY_CAP];
    if (vdc_node_record_decode(kv->value, kv->value_len, record, err) == VDC_RC_OK) {
        vdc_key_node(own, record->zone, record->name);
        if (check_key(kv->key, own, err) == VDC_RC_OK) {
            event.node = record;
            seat_step(seat, &event);
        }
    }
    free(record);
}

static void load_partition(struct seat *seat, const struct vdc_etcd_kv *kv, struct vdc_err *err)
{
    struct vdc_zone_event event = {.kind = VDC_ZONE_LOAD_PARTITION};
    struct vdc_partition_record *record = VDC_NEW(struct vdc_partition_record);
    char own[VDC_KEY_CAP];
    if (vdc_partition_record_decode(kv->value, kv->value_len, record, err) == VDC_RC_OK) {
        vdc_key_partition(own, record->spec.zone, &record->id);
        if (check_key(kv->key, own, err) == VDC_RC_OK) {
            event.partition = record;
            seat_step(seat, &event);
        }
    }
    vdc_partition_record_deinit(record);
    free(record);
}

static void load_operation(struct seat *seat, const struct vdc_etcd_kv *kv, struct vdc_err *err)
{
    struct vdc_zone_event event = {.kind = VDC_ZONE_LOAD_OPERATION};
    struct vdc_operation_record *record = VDC_NEW(struct vdc_operation_record);
    char own[VDC_KEY_CAP];
    if (vdc_operation_record_decode(kv->value, kv->value_len, record, err) == VDC_RC_OK) {
        vdc_key_operation(own, record->zone, &record->id);
        if (check_key(kv->key, own, err) == VDC_RC_OK) {
            event.operation = record;
            seat_step(seat, &event);
        }
    }
    vdc_operation_record_deinit(record);
    free(record);
}

static const struct {
    const char *name; /* of the keys' directory */
    void (*load)(struct seat *seat, const struct vdc_etcd_kv *kv, struct vdc_err *err);
} lists[] = {{"nodes", load_node}, {"partitions", load_partition}, {"operations", load_operation}};

/* Leadership is given up; *err says what is wrong, `key` (may be NULL) with which record. */
static void give_up(struct seat *seat, const char *key, const struct vdc_err *err)
{
    struct vdc_err whole = *err;
    if (key != NULL) {
        vdc_err_wrap(&whole, "%s", key);
    }
    vdc_err_wrap(&whole, "its records could not be read");
    seat_give_up(seat, whole.rc, vdc_err_text(&whole));
}

static void load_next(struct seat *seat);

static void on_list(void *data, enum vdc_rc rc, const struct vdc_etcd_kv *kvs, size_t count,
                    int64_t revision, bool more, const struct vdc_err *err)
{
    (void)revision;
    struct seat *seat = data;
    if (rc == VDC_RC_CANCELLED) {
        return; /* by resign(), which has forgotten it */
    }
    if (!more) {
        seat->load = NULL;
    }
    if (rc != VDC_RC_OK) {
        give_up(seat, NULL, err);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct vdc_err problem = {0};
        lists[VDC_COUNT_OF(lists) - seat->lists_left].load(seat, &kvs[i], &problem);
        if (problem.rc != VDC_RC_OK) {
            if (seat->load != NULL) {
                vdc_etcd_cancel(seat->load);
                seat->load = NULL;
            }
            give_up(seat, kvs[i].key, &problem);
            return;
        }
    }
    if (!more) {
        seat->lists_left--;
        load_next(seat);
    }
}

static void load_next(struct seat *seat)
{
    if (seat->lists_left > 0) {
        char prefix[VDC_KEY_CAP];
        snprintf(prefix, sizeof prefix, VDC_STORE_PREFIX "%s/%s/",
                 lists[VDC_COUNT_OF(lists) - seat->lists_left].name, seat->zone);
        if (vdc_etcd_list(seat->manager->etcd, prefix, on_list, seat, &seat->load) != VDC_RC_OK) {
            seat_give_up(seat, VDC_RC_LIMIT, "the store client is overloaded");
        }
        return;
    }
    seat_loaded(seat);
}

/* The one record that a transaction asked for, decoded by its caller. False: leadership was given up. */
static bool take_one(struct seat *seat, const char *key, enum vdc_rc rc,
                     const struct vdc_etcd_result *result, const struct vdc_err *err)
{
    struct vdc_err problem = {0};
    if (rc != VDC_RC_OK) {
        give_up(seat, NULL, err);
        return false;
    }
    if (result->answers[0].kv_count != 1) {
        vdc_err_set(&problem, VDC_RC_NOT_FOUND, "it is not in the store");
        give_up(seat, key, &problem);
        return false;
    }
    return true;
}

/* The answer to: the policy that was in force when we began to lead. */
static void on_policy(void *data, enum vdc_rc rc, const struct vdc_etcd_result *result,
                      const struct vdc_err *err)
{
    struct seat *seat = data;
    if (rc == VDC_RC_CANCELLED) {
        return;
    }
    seat->load = NULL;
    char key[VDC_KEY_CAP];
    vdc_key_policy(key, seat->zone, seat->record.policy_version);
    if (!take_one(seat, key, rc, result, err)) {
        return;
    }
    const struct vdc_etcd_kv *kv = &result->answers[0].kvs[0];
    struct vdc_policy_record record;
    struct vdc_err problem = {0};
    if (vdc_policy_record_decode(kv->value, kv->value_len, &record, &problem) != VDC_RC_OK) {
        give_up(seat, key, &problem);
        return;
    }
    struct vdc_diags diags = {.source = key};
    struct vdc_zone_event event = {.kind = VDC_ZONE_LOAD_POLICY};
    event.policy.record = &record;
    if (record.text == NULL) {
        vdc_err_set(&problem, VDC_RC_CORRUPT, "it has no text");
        give_up(seat, key, &problem);
    } else if (vdc_policy_parse(record.text, strlen(record.text), &event.policy.built, &diags) !=
               VDC_RC_OK) {
        vdc_diags_to_err(&diags, &problem);
        give_up(seat, NULL, &problem);
    } else {
        struct vdc_zone_event zone = {.kind = VDC_ZONE_LOAD_ZONE};
        zone.zone = &seat->record;
        seat_step(seat, &zone);
        seat_step(seat, &event);
        seat->lists_left = VDC_COUNT_OF(lists);
        load_next(seat);
    }
    vdc_diags_deinit(&diags);
    vdc_policy_record_deinit(&record);
}

static void get_one(struct seat *seat, const char *key, vdc_etcd_txn_cb cb)
{
    struct vdc_etcd_op get = {.kind = VDC_ETCD_GET, .key = key};
    struct vdc_etcd_txn txn = {.then = &get, .then_count = 1};
    if (vdc_etcd_txn(seat->manager->etcd, &txn, cb, seat, &seat->load) != VDC_RC_OK) {
        seat_give_up(seat, VDC_RC_LIMIT, "the store client is overloaded");
    }
}

static void on_zone_record(void *data, enum vdc_rc rc, const struct vdc_etcd_result *result,
                           const struct vdc_err *err)
{
    struct seat *seat = data;
    if (rc == VDC_RC_CANCELLED) {
        return;
    }
    seat->load = NULL;
    char key[VDC_KEY_CAP];
    vdc_key_zone(key, seat->zone);
    if (!take_one(seat, key, rc, result, err)) {
        return;
    }
    const struct vdc_etcd_kv *kv = &result->answers[0].kvs[0];
    struct vdc_zone_record record;
    struct vdc_err problem = {0};
    char own[VDC_KEY_CAP];
    if (vdc_zone_record_decode(kv->value, kv->value_len, &record, &problem) == VDC_RC_OK) {
        vdc_key_zone(own, record.name);
        (void)check_key(key, own, &problem);
    }
    if (problem.rc != VDC_RC_OK) {
        give_up(seat, key, &problem);
        return;
    }
    seat->record = record;
    vdc_key_policy(key, seat->zone, record.policy_version);
    get_one(seat, key, on_policy);
}

void seat_load(struct seat *seat)
{
    char key[VDC_KEY_CAP];
    vdc_key_zone(key, seat->zone);
    get_one(seat, key, on_zone_record);
}
