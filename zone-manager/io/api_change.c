/* SPDX-License-Identifier: Apache-2.0 */
/* PUT, POST, DELETE: bodies are read and checked, then the leader's core is asked. */
#include <string.h>

#include <vdc/clock.h>
#include <vdc/entropy.h>
#include <vdc/log.h>
#include <vdc/policy_io.h>

#include "api_internal.h"

/* ---- policies ---- */

struct zone_creation {
    struct manager *manager;
    struct vdc_http_request *request;
    struct vdc_zone_record record;
    char zone[VDC_NAME_CAP];
};

static void on_zone_created(void *data, enum vdc_rc rc, const struct vdc_etcd_result *result,
                            const struct vdc_err *err)
{
    struct zone_creation *creation = data;
    if (rc == VDC_RC_OK && result->succeeded) {
        char location[VDC_NAME_CAP + 16];
        snprintf(location, sizeof location, "/v1/zones/%s", creation->zone);
        vdc_log_info("zone %s: created by its first policy", creation->zone);
        /* Whoever has this answer may ask here for the zone, before the watch tells of it. */
        seat_learn(creation->manager, &creation->record);
        api_json(creation->request, 201,
                 json_pack("{s:s, s:s, s:i}", "id", creation->zone, "name", creation->zone,
                           "policy_version", 1),
                 location);
    } else if (rc == VDC_RC_OK) {
        api_problemf(
            creation->request, VDC_RC_CONFLICT,
            "zone %s was created by another request at the same time; apply the policy again",
            creation->zone);
    } else {
        api_problemf(creation->request, rc, "create zone %s: %s", creation->zone,
                     vdc_err_text(err));
    }
    free(creation);
}

/* The operation that the creation was: its key is known to the leader that follows, which repeats it. */
static void creation_record(struct vdc_http_request *request,
                            const struct vdc_policy_record *policy, struct vdc_operation_record *op)
{
    uint64_t seed;
    struct vdc_prng prng;
    vdc_entropy_fill(&seed, sizeof seed);
    vdc_prng_init(&prng, seed);
    *op = (struct vdc_operation_record){.id = vdc_id_make(&prng),
                                        .kind = VDC_OPERATION_APPLY_POLICY,
                                        .state = VDC_OPSTATE_DONE,
                                        .step = "end",
                                        .created_at = policy->applied_at,
                                        .finished_at = policy->applied_at};
    vdc_str_set(op->zone, VDC_NAME_CAP, policy->zone);
    vdc_str_set(op->user, VDC_NAME_CAP, policy->applied_by);
    const char *key = vdc_http_request_header(request, "idempotency-key");
    if (key != NULL) {
        vdc_str_set(op->request_key, VDC_REQUEST_KEY_CAP, key);
    }
    api_hash_request(request, op->body_digest);
}

static bool may_create_zone(struct manager *manager, struct vdc_http_request *request)
{
    size_t count = 0;
    for (const struct seat *seat = manager->seats; seat != NULL; seat = seat->next) {
        count++;
    }
    if (count >= MANAGER_ZONES_MAX) {
        api_problemf(request, VDC_RC_LIMIT, "there are %d zones, which is the limit",
                     MANAGER_ZONES_MAX);
        return false;
    }
    return api_check_key(request);
}

/* The first policy of a new zone: no leader yet, so any manager writes it, if it is the first. */
static void create_zone(struct manager *manager, struct vdc_http_request *request, const char *zone,
                        char *text)
{
    struct vdc_policy_record policy;
    memset(&policy, 0, sizeof policy);
    vdc_str_set(policy.zone, VDC_NAME_CAP, zone);
    policy.version = 1;
    vdc_str_set(policy.applied_by, VDC_NAME_CAP, api_user(request));
    policy.applied_at = vdc_clock_wall();
    policy.text = text;
    struct vdc_zone_record record;
    memset(&record, 0, sizeof record);
    vdc_str_set(record.name, VDC_NAME_CAP, zone);
    record.policy_version = 1;
    record.created_at = policy.applied_at;

    struct vdc_operation_record op;
    creation_record(request, &policy, &op);

    char zone_key[VDC_KEY_CAP];
    char policy_key[VDC_KEY_CAP];
    char op_key[VDC_KEY_CAP];
    struct vdc_buf op_value = {0};
    struct vdc_buf zone_value = {0};
    struct vdc_buf policy_value = {0};
    vdc_key_zone(zone_key, zone);
    vdc_key_policy(policy_key, zone, 1);
    vdc_key_operation(op_key, zone, &op.id);
    vdc_operation_record_encode(&op, &op_value);
    vdc_zone_record_encode(&record, &zone_value);
    vdc_policy_record_encode(&policy, &policy_value);
    struct vdc_etcd_compare absent = {.key = zone_key,
                                      .target = VDC_ETCD_CREATE_REVISION,
                                      .relation = VDC_ETCD_EQUAL,
                                      .number = 0};
    struct vdc_etcd_op puts[] = {
        {.kind = VDC_ETCD_PUT,
         .key = zone_key,
         .value = zone_value.data,
         .value_len = zone_value.len},
        {.kind = VDC_ETCD_PUT,
         .key = policy_key,
         .value = policy_value.data,
         .value_len = policy_value.len},
        {.kind = VDC_ETCD_PUT, .key = op_key, .value = op_value.data, .value_len = op_value.len}};
    struct vdc_etcd_txn txn = {
        .compares = &absent, .compare_count = 1, .then = puts, .then_count = VDC_COUNT_OF(puts)};
    struct zone_creation *creation = VDC_NEW(struct zone_creation);
    creation->manager = manager;
    creation->request = request;
    creation->record = record;
    vdc_str_set(creation->zone, VDC_NAME_CAP, zone);
    enum vdc_rc rc = vdc_etcd_txn(manager->etcd, &txn, on_zone_created, creation, NULL);
    if (rc != VDC_RC_OK) {
        free(creation);
        api_problemf(request, rc, "create zone %s: %s", zone, vdc_rc_sentence(rc));
    }
    vdc_buf_deinit(&zone_value);
    vdc_buf_deinit(&policy_value);
    vdc_buf_deinit(&op_value);
}

void api_put_policy(struct manager *manager, struct vdc_http_request *request, const char *zone)
{
    struct seat *seat = seat_find(manager, zone);
    bool exists = seat != NULL && seat->record.policy_version != 0;
    if (exists && !seat_leads(seat)) {
        forward_request(seat, request);
        return;
    }
    char *text = NULL;
    if (!spec_read_policy(request, &text)) {
        return;
    }
    struct vdc_diags diags = {.source = "policy"};
    struct vdc_policy *policy = NULL;
    if (vdc_policy_parse(text, strlen(text), &policy, &diags) != VDC_RC_OK) {
        struct vdc_err err = {0};
        vdc_diags_to_err(&diags, &err);
        api_problem(request, VDC_RC_INVALID, vdc_err_text(&err),
                    json_pack("{s:o}", "errors", vdc_diags_json(&diags)));
    } else if (strcmp(vdc_policy_settings(policy)->zone, zone) != 0) {
        api_problemf(request, VDC_RC_INVALID, "the policy is for zone %s, the request for zone %s",
                     vdc_policy_settings(policy)->zone, zone);
    } else if (!exists && may_create_zone(manager, request)) {
        create_zone(manager, request, zone, text);
    } else if (exists) {
        struct vdc_zone_request *asked = VDC_NEW(struct vdc_zone_request);
        asked->kind = VDC_REQUEST_APPLY_POLICY;
        asked->policy_text = text;
        asked->policy = policy;
        policy = NULL; /* passed on */
        api_submit(seat, request, asked);
        free(asked);
    }
    vdc_policy_destroy(policy);
    vdc_diags_deinit(&diags);
    free(text);
}

/* ---- partitions ---- */

void api_create_partition(struct manager *manager, struct vdc_http_request *request)
{
    struct vdc_zone_request *asked = VDC_NEW(struct vdc_zone_request);
    asked->kind = VDC_REQUEST_CREATE;
    if (spec_read_create(request, &asked->spec)) {
        struct seat *seat = api_pick_led_zone(manager, request, asked->spec.zone);
        if (seat != NULL) {
            vdc_str_set(asked->spec.zone, VDC_NAME_CAP, seat->zone);
            api_submit(seat, request, asked);
        }
    }
    free(asked);
}

void api_change_partition(struct manager *manager, struct vdc_http_request *request,
                          const char *name, enum vdc_zone_request_kind kind)
{
    struct vdc_zone_request *asked = VDC_NEW(struct vdc_zone_request);
    asked->kind = kind;
    bool ok = kind == VDC_REQUEST_MIGRATE ? spec_read_migrate(request, asked->target)
                                          : spec_read_empty(request);
    struct seat *seat = ok ? api_pick_led_zone(manager, request, NULL) : NULL;
    if (seat != NULL) {
        vdc_str_set(asked->partition, VDC_NAME_CAP, name);
        api_submit(seat, request, asked);
    }
    free(asked);
}

void api_read_console(struct manager *manager, struct vdc_http_request *request, const char *name)
{
    const char *offset = vdc_http_request_query(request, "offset");
    const char *max = vdc_http_request_query(request, "max");
    uint64_t from = 0;
    uint64_t count = VDC_MSG_CONSOLE_MAX;
    if ((offset != NULL && !vdc_parse_u64(offset, INT64_MAX, &from)) ||
        (max != NULL && (!vdc_parse_u64(max, VDC_MSG_CONSOLE_MAX, &count) || count == 0))) {
        api_problemf(request, VDC_RC_INVALID,
                     "?offset= must be a number of bytes, ?max= one from 1 to %u",
                     VDC_MSG_CONSOLE_MAX);
        return;
    }
    struct seat *seat = api_pick_led_zone(manager, request, NULL);
    if (seat != NULL) {
        struct vdc_zone_request *asked = VDC_NEW(struct vdc_zone_request);
        asked->kind = VDC_REQUEST_CONSOLE;
        vdc_str_set(asked->partition, VDC_NAME_CAP, name);
        asked->offset = from;
        asked->max = (uint32_t)count;
        api_submit(seat, request, asked);
        free(asked);
    }
}
