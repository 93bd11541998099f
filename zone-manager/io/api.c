/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The REST API (docs/api.md): routes, who may ask, reading from the core and handing requests to it,
 * answers and waiting for operations.
 *
 * A mutation goes to the core with a token; the core's answer finds the waiter of that token. Without
 * ?wait= the answer is sent then (202 and the operation); with it the waiter stays until the operation
 * has ended or the time is over. A client that goes away is forgotten, not its operation.
 */
#include <openssl/evp.h>
#include <string.h>

#include <vdc/clock.h>
#include <vdc/log.h>
#include <vdc/policy_io.h>
#include <vdc/quantity.h>

#include "manager.h"

#define WAITER_MAGIC UINT32_C(0x3a17e400)
#define JSON_TYPE "application/json"
#define PROBLEM_TYPE "application/problem+json"

/* A request whose answer is not there yet. */
struct waiter {
    uint32_t magic;
    struct seat *seat; /* NULL: the creation of a zone */
    struct vdc_http_request *request;
    uint64_t token; /* 0: the core has answered */
    enum vdc_zone_request_kind kind;
    int64_t wait_ms; /* 0: don't wait for the end */
    bool has_operation;
    struct vdc_id operation;
    bool timed_out;
    uv_timer_t timer;
    struct waiter *next;
};

/* ---- answers ---- */

void api_json(struct vdc_http_request *request, int status, json_t *body, const char *location)
{
    /* 15 digits: "153.775", where 17 would show the binary fraction. */
    char *text = json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(15));
    VDC_ASSERT(text != NULL);
    struct vdc_http_header header = {"location", location};
    vdc_http_respond(request, status, JSON_TYPE, text, strlen(text), &header,
                     location != NULL ? 1 : 0);
    free(text);
    json_decref(body);
}

void api_problem(struct vdc_http_request *request, enum vdc_rc rc, const char *detail,
                 json_t *extra)
{
    int status = vdc_rc_http_status(rc);
    json_t *body =
        json_pack("{s:s+, s:s, s:i, s:o, s:s}", "type", "urn:vdc:problem:", vdc_rc_name(rc),
                  "title", vdc_rc_sentence(rc), "status", status, "detail", render_text(detail),
                  "code", vdc_rc_name(rc));
    VDC_ASSERT(body != NULL);
    const char *key = vdc_http_request_header(request, "idempotency-key");
    if (key != NULL && json_object_set_new(body, "request_id", json_string(key)) != 0) {
        json_object_set_new(body, "request_id", json_null()); /* not UTF-8 */
    }
    if (extra != NULL) {
        json_object_update(body, extra);
        json_decref(extra);
    }
    char *text = json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(15));
    VDC_ASSERT(text != NULL);
    struct vdc_http_header retry = {"retry-after", "1"};
    vdc_http_respond(request, status, PROBLEM_TYPE, text, strlen(text), &retry,
                     vdc_rc_retryable(rc) ? 1 : 0);
    free(text);
    json_decref(body);
}

static void problem(struct vdc_http_request *request, enum vdc_rc rc, const char *fmt, ...)
    VDC_PRINTF(3, 4);

static void problem(struct vdc_http_request *request, enum vdc_rc rc, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char text[1024];
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    api_problem(request, rc, text, NULL);
}

const char *api_user(const struct vdc_http_request *request)
{
    const char *user = vdc_http_request_header(request, FORWARD_USER_HEADER);
    if (request->peer.kind == VDC_PEER_MANAGER && user != NULL && vdc_name_valid(user)) {
        return user;
    }
    return request->peer.name;
}

/* ---- waiters ---- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct waiter *waiter;
    VDC_CAST(waiter, handle->data, WAITER_MAGIC);
    waiter->magic = 0;
    free(waiter);
}

/* The request has been answered or dropped; the waiter is gone. */
static void waiter_end(struct manager *manager, struct waiter *waiter)
{
    struct waiter **at = &manager->waiters;
    while (*at != waiter) {
        at = &(*at)->next;
    }
    *at = waiter->next;
    manager->waiters_len--;
    uv_close((uv_handle_t *)&waiter->timer, on_timer_closed);
}

/* The state of its operation as the answer: 202 while it runs, 200 when done, a problem if it failed. */
static void answer_operation(struct waiter *waiter, const struct vdc_operation_record *record)
{
    char id[VDC_ID_TEXT_CAP];
    char location[VDC_NAME_CAP + 32];
    vdc_id_to_text(&record->id, id);
    snprintf(location, sizeof location, "/v1/operations/%s", id);
    if (record->state == VDC_OPSTATE_FAILED || record->state == VDC_OPSTATE_CANCELLED) {
        json_t *extra = json_pack("{s:o, s:s?}", "operation", render_operation(record), "verdict",
                                  record->verdict);
        const char *detail = record->error != NULL     ? record->error
                             : record->verdict != NULL ? record->verdict
                                                       : vdc_rc_sentence(record->rc);
        api_problem(waiter->request, record->rc != VDC_RC_OK ? record->rc : VDC_RC_INTERNAL, detail,
                    extra);
        return;
    }
    bool done = record->state == VDC_OPSTATE_DONE;
    api_json(waiter->request, done ? 200 : 202, render_operation(record), location);
}

static bool operation_ended(const struct vdc_operation_record *record)
{
    return record->state == VDC_OPSTATE_DONE || record->state == VDC_OPSTATE_FAILED ||
           record->state == VDC_OPSTATE_CANCELLED;
}

static void on_wait_over(uv_timer_t *timer)
{
    struct waiter *waiter;
    VDC_CAST(waiter, timer->data, WAITER_MAGIC);
    const struct vdc_operation_record *record =
        vdc_zone_operation_find(waiter->seat->core, &waiter->operation);
    if (record != NULL) {
        answer_operation(waiter, record);
    } else {
        problem(waiter->request, VDC_RC_NOT_FOUND, "the operation is not known any more");
    }
    waiter_end(waiter->seat->manager, waiter);
}

static struct waiter *waiter_open(struct manager *manager, struct seat *seat,
                                  struct vdc_http_request *request)
{
    if (manager->waiters_len >= MANAGER_WAITERS_MAX) {
        problem(request, VDC_RC_LIMIT, "%d requests are waiting already", MANAGER_WAITERS_MAX);
        return NULL;
    }
    struct waiter *waiter = VDC_NEW(struct waiter);
    waiter->magic = WAITER_MAGIC;
    waiter->seat = seat;
    waiter->request = request;
    uv_timer_init(manager->loop, &waiter->timer);
    waiter->timer.data = waiter;
    waiter->next = manager->waiters;
    manager->waiters = waiter;
    manager->waiters_len++;
    return waiter;
}

static void answer_console(struct waiter *waiter, const struct vdc_zone_answer *answer)
{
    char from[32];
    char to[32];
    snprintf(from, sizeof from, "%llu", (unsigned long long)answer->data_offset);
    snprintf(to, sizeof to, "%llu", (unsigned long long)answer->data_end);
    struct vdc_http_header headers[] = {{"vdc-console-offset", from}, {"vdc-console-end", to}};
    vdc_http_respond(waiter->request, 200, "application/octet-stream", vdc_buf_text(&answer->data),
                     answer->data.len, headers, VDC_COUNT_OF(headers));
}

void api_answer(struct seat *seat, const struct vdc_zone_answer *answer)
{
    struct manager *manager = seat->manager;
    struct waiter *waiter = manager->waiters;
    while (waiter != NULL && waiter->token != answer->token) {
        waiter = waiter->next;
    }
    VDC_ASSERT(waiter != NULL);
    waiter->token = 0;
    if (waiter->kind == VDC_REQUEST_CONSOLE && answer->rc == VDC_RC_OK) {
        answer_console(waiter, answer);
        waiter_end(manager, waiter);
        return;
    }
    const struct vdc_operation_record *record =
        answer->has_operation ? vdc_zone_operation_find(seat->core, &answer->operation) : NULL;
    if (record == NULL) {
        VDC_ASSERT(answer->rc != VDC_RC_OK || answer->has_operation);
        api_problem(waiter->request, answer->rc != VDC_RC_OK ? answer->rc : VDC_RC_NOT_FOUND,
                    answer->rc != VDC_RC_OK ? answer->text
                                            : "the operation of that request is not kept any more",
                    NULL);
        waiter_end(manager, waiter);
        return;
    }
    if (operation_ended(record) || waiter->wait_ms == 0) {
        answer_operation(waiter, record);
        waiter_end(manager, waiter);
        return;
    }
    waiter->has_operation = true;
    waiter->operation = answer->operation;
    uv_timer_start(&waiter->timer, on_wait_over, (uint64_t)waiter->wait_ms, 0);
}

void api_check_waiters(struct seat *seat)
{
    struct manager *manager = seat->manager;
    for (struct waiter *waiter = manager->waiters, *next; waiter != NULL; waiter = next) {
        next = waiter->next;
        if (waiter->seat != seat || !waiter->has_operation) {
            continue;
        }
        const struct vdc_operation_record *record =
            vdc_zone_operation_find(seat->core, &waiter->operation);
        if (record == NULL || operation_ended(record)) {
            on_wait_over(&waiter->timer);
        }
    }
}

void api_fail_waiters(struct seat *seat)
{
    struct manager *manager = seat->manager;
    for (struct waiter *waiter = manager->waiters, *next; waiter != NULL; waiter = next) {
        next = waiter->next;
        if (waiter->seat == seat) {
            problem(waiter->request, VDC_RC_NO_LEADER,
                    "this manager stopped leading zone %s before the answer was known; ask again "
                    "with the same Idempotency-Key",
                    seat->zone);
            waiter_end(manager, waiter);
        }
    }
}

/* ---- requests to the core ---- */

static void hash_request(const struct vdc_http_request *request, uint8_t digest[32])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const char *method = vdc_http_method_name(request->method);
    unsigned len = 32;
    VDC_ASSERT(context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1);
    /* NULs between the parts, so that no two different requests give one text. */
    EVP_DigestUpdate(context, method, strlen(method) + 1);
    EVP_DigestUpdate(context, request->path, strlen(request->path) + 1);
    EVP_DigestUpdate(context, request->body, request->body_len);
    VDC_ASSERT(EVP_DigestFinal_ex(context, digest, &len) == 1 && len == 32);
    EVP_MD_CTX_free(context);
}

/* ?wait=30s; false: the mistake has been answered. Absent: 0. */
static bool read_wait(struct vdc_http_request *request, int64_t *wait_ms)
{
    const char *text = vdc_http_request_query(request, "wait");
    *wait_ms = 0;
    if (text == NULL) {
        return true;
    }
    struct vdc_err err = {0};
    int64_t ns;
    if (vdc_quantity_duration(text, &ns, &err) != VDC_RC_OK) {
        problem(request, VDC_RC_INVALID, "?wait=: %s", vdc_err_text(&err));
        return false;
    }
    *wait_ms = ns / VDC_MS < MANAGER_WAIT_MAX_MS ? ns / VDC_MS : MANAGER_WAIT_MAX_MS;
    return true;
}

/* Hands the request to the core. `asked` is filled except token, key, digest and user. */
static void submit(struct seat *seat, struct vdc_http_request *request,
                   struct vdc_zone_request *asked)
{
    struct manager *manager = seat->manager;
    const char *key = vdc_http_request_header(request, "idempotency-key");
    int64_t wait_ms = 0;
    struct waiter *waiter = NULL;
    if (key != NULL && (key[0] == 0 || strlen(key) > VDC_REQUEST_KEY_MAX)) {
        problem(request, VDC_RC_INVALID, "Idempotency-Key must have 1 to %d bytes",
                VDC_REQUEST_KEY_MAX);
    } else if (read_wait(request, &wait_ms)) {
        waiter = waiter_open(manager, seat, request);
    }
    if (waiter == NULL) {
        vdc_policy_destroy(asked->policy);
        return;
    }
    waiter->token = ++manager->token_last;
    waiter->kind = asked->kind;
    waiter->wait_ms = wait_ms;
    asked->token = waiter->token;
    if (key != NULL) {
        vdc_str_set(asked->request_key, VDC_REQUEST_KEY_CAP, key);
    }
    vdc_str_set(asked->user, VDC_NAME_CAP, api_user(request));
    hash_request(request, asked->body_digest);
    struct vdc_zone_event event = {.kind = VDC_ZONE_REQUEST};
    event.request = asked;
    seat_step(seat, &event);
}

/* ---- zones ---- */

/* The zone a request is about: named by ?zone= (or `name`), or the only one. NULL: answered. */
static struct seat *pick_zone(struct manager *manager, struct vdc_http_request *request,
                              const char *name)
{
    if (name == NULL || name[0] == 0) {
        name = vdc_http_request_query(request, "zone");
    }
    if (name != NULL) {
        struct seat *seat = seat_find(manager, name);
        if (seat == NULL || seat->record.policy_version == 0) {
            problem(request, VDC_RC_NOT_FOUND,
                    "there is no zone \"%.64s\"; apply a policy to create it", name);
            return NULL;
        }
        return seat;
    }
    struct seat *only = NULL;
    for (struct seat *seat = manager->seats; seat != NULL; seat = seat->next) {
        if (seat->record.policy_version == 0) {
            continue;
        }
        if (only != NULL) {
            problem(request, VDC_RC_INVALID, "there are several zones: say which by ?zone=NAME");
            return NULL;
        }
        only = seat;
    }
    if (only == NULL) {
        problem(request, VDC_RC_NOT_FOUND, "there is no zone yet; apply a policy to create one");
    }
    return only;
}

/* As pick_zone, but led from here: else it has been forwarded and NULL is returned. */
static struct seat *pick_led_zone(struct manager *manager, struct vdc_http_request *request,
                                  const char *name)
{
    struct seat *seat = pick_zone(manager, request, name);
    if (seat != NULL && !seat_leads(seat)) {
        forward_request(seat, request);
        return NULL;
    }
    return seat;
}

struct zone_creation {
    struct vdc_http_request *request;
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
        api_json(creation->request, 201,
                 json_pack("{s:s, s:s, s:i}", "id", creation->zone, "name", creation->zone,
                           "policy_version", 1),
                 location);
    } else if (rc == VDC_RC_OK) {
        problem(creation->request, VDC_RC_CONFLICT,
                "zone %s was created by another request at the same time; apply the policy again",
                creation->zone);
    } else {
        problem(creation->request, rc, "create zone %s: %s", creation->zone, vdc_err_text(err));
    }
    free(creation);
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

    char zone_key[VDC_KEY_CAP];
    char policy_key[VDC_KEY_CAP];
    struct vdc_buf zone_value = {0};
    struct vdc_buf policy_value = {0};
    vdc_key_zone(zone_key, zone);
    vdc_key_policy(policy_key, zone, 1);
    vdc_zone_record_encode(&record, &zone_value);
    vdc_policy_record_encode(&policy, &policy_value);
    struct vdc_etcd_compare absent = {.key = zone_key,
                                      .target = VDC_ETCD_CREATE_REVISION,
                                      .relation = VDC_ETCD_EQUAL,
                                      .number = 0};
    struct vdc_etcd_op puts[] = {{.kind = VDC_ETCD_PUT,
                                  .key = zone_key,
                                  .value = zone_value.data,
                                  .value_len = zone_value.len},
                                 {.kind = VDC_ETCD_PUT,
                                  .key = policy_key,
                                  .value = policy_value.data,
                                  .value_len = policy_value.len}};
    struct vdc_etcd_txn txn = {
        .compares = &absent, .compare_count = 1, .then = puts, .then_count = VDC_COUNT_OF(puts)};
    struct zone_creation *creation = VDC_NEW(struct zone_creation);
    creation->request = request;
    vdc_str_set(creation->zone, VDC_NAME_CAP, zone);
    enum vdc_rc rc = vdc_etcd_txn(manager->etcd, &txn, on_zone_created, creation, NULL);
    if (rc != VDC_RC_OK) {
        free(creation);
        problem(request, rc, "create zone %s: %s", zone, vdc_rc_sentence(rc));
    }
    vdc_buf_deinit(&zone_value);
    vdc_buf_deinit(&policy_value);
}

static void put_policy(struct manager *manager, struct vdc_http_request *request, const char *zone)
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
        problem(request, VDC_RC_INVALID, "the policy is for zone %s, the request for zone %s",
                vdc_policy_settings(policy)->zone, zone);
    } else if (!exists) {
        create_zone(manager, request, zone, text);
    } else {
        struct vdc_zone_request *asked = VDC_NEW(struct vdc_zone_request);
        asked->kind = VDC_REQUEST_APPLY_POLICY;
        asked->policy_text = text;
        asked->policy = policy;
        policy = NULL; /* passed on */
        submit(seat, request, asked);
        free(asked);
    }
    vdc_policy_destroy(policy);
    vdc_diags_deinit(&diags);
    free(text);
}

static void get_policy(struct manager *manager, struct vdc_http_request *request, const char *zone)
{
    struct seat *seat = pick_led_zone(manager, request, zone);
    if (seat == NULL) {
        return;
    }
    const struct vdc_policy_record *record = vdc_zone_policy_record(seat->core);
    char at[VDC_WALL_TEXT_CAP];
    vdc_wall_to_text(record->applied_at, at);
    api_json(request, 200,
             json_pack("{s:s, s:I, s:s, s:s, s:s}", "zone", seat->zone, "version",
                       (json_int_t)record->version, "applied_by", record->applied_by, "applied_at",
                       at, "policy", record->text),
             NULL);
}

/* ---- lists ---- */

struct page {
    size_t limit;
    const char *cursor; /* "" = from the beginning */
    json_t *items;
    char last[VDC_NAME_CAP]; /* what the next page begins after */
};

/* False: a mistake has been answered. */
static bool page_begin(struct page *page, struct vdc_http_request *request)
{
    const char *limit = vdc_http_request_query(request, "limit");
    const char *cursor = vdc_http_request_query(request, "cursor");
    uint64_t number = MANAGER_PAGE_DEFAULT;
    if (limit != NULL && (!vdc_parse_u64(limit, MANAGER_PAGE_MAX, &number) || number == 0)) {
        problem(request, VDC_RC_INVALID, "?limit= must be a number from 1 to %d", MANAGER_PAGE_MAX);
        return false;
    }
    if (cursor != NULL && !vdc_name_valid(cursor)) {
        problem(request, VDC_RC_INVALID, "?cursor= is not one that was given by a list");
        return false;
    }
    *page = (struct page){.limit = number, .cursor = cursor != NULL ? cursor : ""};
    page->items = json_array();
    return true;
}

static bool page_full(const struct page *page)
{
    return json_array_size(page->items) >= page->limit;
}

static void page_add(struct page *page, json_t *item, const char *name)
{
    json_array_append_new(page->items, item);
    vdc_str_set(page->last, sizeof page->last, name);
}

static void page_end(struct page *page, struct vdc_http_request *request, bool more)
{
    api_json(
        request, 200,
        json_pack("{s:o, s:s?}", "items", page->items, "next_cursor", more ? page->last : NULL),
        NULL);
}

static void list_zones(struct manager *manager, struct vdc_http_request *request)
{
    struct page page;
    if (!page_begin(&page, request)) {
        return;
    }
    bool more = false;
    for (struct seat *seat = manager->seats; seat != NULL; seat = seat->next) {
        if (seat->record.policy_version == 0 || strcmp(seat->zone, page.cursor) <= 0) {
            continue;
        }
        if (page_full(&page)) {
            more = true;
            break;
        }
        page_add(&page, render_zone(seat), seat->zone);
    }
    page_end(&page, request, more);
}

static void list_nodes(struct manager *manager, struct vdc_http_request *request)
{
    struct seat *seat = pick_led_zone(manager, request, NULL);
    struct page page;
    if (seat == NULL || !page_begin(&page, request)) {
        return;
    }
    struct vdc_zone_node_info info;
    vdc_mono now = vdc_clock_mono();
    const char *after = page.cursor;
    bool more = false;
    while (vdc_zone_node_next(seat->core, after, &info)) {
        if (page_full(&page)) {
            more = true;
            break;
        }
        page_add(&page, render_node(seat->core, &info, now), info.record->name);
        after = info.record->name;
    }
    page_end(&page, request, more);
}

static void list_partitions(struct manager *manager, struct vdc_http_request *request)
{
    struct seat *seat = pick_led_zone(manager, request, NULL);
    struct page page;
    if (seat == NULL || !page_begin(&page, request)) {
        return;
    }
    struct vdc_zone_partition_info info;
    const char *after = page.cursor;
    bool more = false;
    while (vdc_zone_partition_next(seat->core, after, &info)) {
        if (page_full(&page)) {
            more = true;
            break;
        }
        page_add(&page, render_partition(&info), info.record->spec.name);
        after = info.record->spec.name;
    }
    page_end(&page, request, more);
}

static void list_operations(struct manager *manager, struct vdc_http_request *request)
{
    struct seat *seat = pick_led_zone(manager, request, NULL);
    struct page page;
    if (seat == NULL || !page_begin(&page, request)) {
        return;
    }
    struct vdc_id after;
    bool from_begin = page.cursor[0] == 0;
    if (!from_begin && !vdc_id_from_text(page.cursor, &after)) {
        json_decref(page.items);
        problem(request, VDC_RC_INVALID, "?cursor= is not one that was given by a list");
        return;
    }
    const struct vdc_operation_record *record =
        vdc_zone_operation_next(seat->core, from_begin ? NULL : &after);
    for (; record != NULL && !page_full(&page);
         record = vdc_zone_operation_next(seat->core, &record->id)) {
        char id[VDC_ID_TEXT_CAP];
        vdc_id_to_text(&record->id, id);
        page_add(&page, render_operation(record), id);
    }
    page_end(&page, request, record != NULL);
}

/* ---- one thing ---- */

static void get_node(struct manager *manager, struct vdc_http_request *request, const char *name)
{
    struct seat *seat = pick_led_zone(manager, request, NULL);
    struct vdc_zone_node_info info;
    if (seat == NULL) {
        return;
    }
    if (!vdc_zone_node_find(seat->core, name, &info)) {
        problem(request, VDC_RC_NOT_FOUND, "zone %s has no node \"%.64s\"", seat->zone, name);
        return;
    }
    api_json(request, 200, render_node(seat->core, &info, vdc_clock_mono()), NULL);
}

static void get_partition(struct manager *manager, struct vdc_http_request *request,
                          const char *name, bool explain)
{
    struct seat *seat = pick_led_zone(manager, request, NULL);
    struct vdc_zone_partition_info info;
    if (seat == NULL) {
        return;
    }
    if (!vdc_zone_partition_find(seat->core, name, &info)) {
        problem(request, VDC_RC_NOT_FOUND, "zone %s has no partition \"%.64s\"", seat->zone, name);
        return;
    }
    if (explain) {
        api_json(request, 200,
                 json_pack("{s:s, s:s?, s:I, s:s}", "partition", info.record->spec.name, "node",
                           info.record->owner[0] != 0 ? info.record->owner : NULL, "policy_version",
                           (json_int_t)info.record->policy_version, "verdict",
                           info.record->verdict != NULL ? info.record->verdict : "not placed yet"),
                 NULL);
        return;
    }
    api_json(request, 200, render_partition(&info), NULL);
}

static void get_operation(struct manager *manager, struct vdc_http_request *request,
                          const char *name)
{
    struct seat *seat = pick_led_zone(manager, request, NULL);
    struct vdc_id id;
    if (seat == NULL) {
        return;
    }
    const struct vdc_operation_record *record =
        vdc_id_from_text(name, &id) ? vdc_zone_operation_find(seat->core, &id) : NULL;
    if (record == NULL) {
        problem(request, VDC_RC_NOT_FOUND, "zone %s has no operation \"%.64s\" (any more)",
                seat->zone, name);
        return;
    }
    api_json(request, 200, render_operation(record), NULL);
}

static void create_partition(struct manager *manager, struct vdc_http_request *request)
{
    struct vdc_zone_request *asked = VDC_NEW(struct vdc_zone_request);
    asked->kind = VDC_REQUEST_CREATE;
    if (spec_read_create(request, &asked->spec)) {
        struct seat *seat = pick_led_zone(manager, request, asked->spec.zone);
        if (seat != NULL) {
            vdc_str_set(asked->spec.zone, VDC_NAME_CAP, seat->zone);
            submit(seat, request, asked);
        }
    }
    free(asked);
}

static void change_partition(struct manager *manager, struct vdc_http_request *request,
                             const char *name, enum vdc_zone_request_kind kind)
{
    struct vdc_zone_request *asked = VDC_NEW(struct vdc_zone_request);
    asked->kind = kind;
    bool ok = kind == VDC_REQUEST_MIGRATE ? spec_read_migrate(request, asked->target)
                                          : spec_read_empty(request);
    struct seat *seat = ok ? pick_led_zone(manager, request, NULL) : NULL;
    if (seat != NULL) {
        vdc_str_set(asked->partition, VDC_NAME_CAP, name);
        submit(seat, request, asked);
    }
    free(asked);
}

static void read_console(struct manager *manager, struct vdc_http_request *request,
                         const char *name)
{
    const char *offset = vdc_http_request_query(request, "offset");
    const char *max = vdc_http_request_query(request, "max");
    uint64_t from = 0;
    uint64_t count = VDC_MSG_CONSOLE_MAX;
    if ((offset != NULL && !vdc_parse_u64(offset, INT64_MAX, &from)) ||
        (max != NULL && (!vdc_parse_u64(max, VDC_MSG_CONSOLE_MAX, &count) || count == 0))) {
        problem(request, VDC_RC_INVALID,
                "?offset= must be a number of bytes, ?max= one from 1 to %u", VDC_MSG_CONSOLE_MAX);
        return;
    }
    struct seat *seat = pick_led_zone(manager, request, NULL);
    if (seat != NULL) {
        struct vdc_zone_request *asked = VDC_NEW(struct vdc_zone_request);
        asked->kind = VDC_REQUEST_CONSOLE;
        vdc_str_set(asked->partition, VDC_NAME_CAP, name);
        asked->offset = from;
        asked->max = (uint32_t)count;
        submit(seat, request, asked);
        free(asked);
    }
}

/* ---- routes ---- */

/* "/v1/partitions/web/start" -> {"partitions", "web", "start"}; parts beyond three: 0. */
struct path {
    char text[512];
    const char *part[3];
    size_t parts;
};

static bool split_path(const char *from, struct path *path)
{
    *path = (struct path){.part = {"", "", ""}};
    if (strncmp(from, "/v1/", 4) != 0 || !vdc_str_copy(path->text, sizeof path->text, from + 4)) {
        return false;
    }
    char *rest = path->text;
    char *part;
    while ((part = strsep(&rest, "/")) != NULL) {
        if (part[0] == 0 || path->parts == 3 || strlen(part) > VDC_NAME_MAX) {
            return false;
        }
        path->part[path->parts++] = part;
    }
    return path->parts > 0;
}

/* `allowed`: the methods that the path knows, as the Allow header lists them (RFC 9110, 15.5.6). */
static void method_not_allowed(struct vdc_http_request *request, const char *allowed)
{
    char detail[256];
    snprintf(detail, sizeof detail, "%.160s takes %s", request->path, allowed);
    json_t *body = json_pack("{s:s, s:s, s:i, s:o, s:s}", "type", "urn:vdc:problem:METHOD", "title",
                             "that method is not for this path", "status", 405, "detail",
                             render_text(detail), "code", "METHOD");
    VDC_ASSERT(body != NULL);
    char *text = json_dumps(body, JSON_COMPACT);
    VDC_ASSERT(text != NULL);
    struct vdc_http_header allow = {"allow", allowed};
    vdc_http_respond(request, 405, PROBLEM_TYPE, text, strlen(text), &allow, 1);
    free(text);
    json_decref(body);
}

static void route_partition(struct manager *manager, struct vdc_http_request *request,
                            const struct path *path)
{
    static const struct {
        const char *verb;
        enum vdc_zone_request_kind kind;
    } verbs[] = {
        {"start", VDC_REQUEST_START}, {"stop", VDC_REQUEST_STOP}, {"migrate", VDC_REQUEST_MIGRATE}};
    bool get = request->method == VDC_HTTP_GET;
    if (path->parts == 2 && get) {
        get_partition(manager, request, path->part[1], false);
    } else if (path->parts == 2 && request->method == VDC_HTTP_DELETE) {
        change_partition(manager, request, path->part[1], VDC_REQUEST_DESTROY);
    } else if (path->parts == 2) {
        method_not_allowed(request, "GET, DELETE");
    } else if (strcmp(path->part[2], "console") == 0 || strcmp(path->part[2], "explain") == 0) {
        if (!get) {
            method_not_allowed(request, "GET");
        } else if (path->part[2][0] == 'c') {
            read_console(manager, request, path->part[1]);
        } else {
            get_partition(manager, request, path->part[1], true);
        }
    } else {
        for (size_t i = 0; i < VDC_COUNT_OF(verbs); i++) {
            if (strcmp(path->part[2], verbs[i].verb) == 0) {
                if (request->method == VDC_HTTP_POST) {
                    change_partition(manager, request, path->part[1], verbs[i].kind);
                } else {
                    method_not_allowed(request, "POST");
                }
                return;
            }
        }
        problem(request, VDC_RC_NOT_FOUND, "a partition has no \"%s\"", path->part[2]);
    }
}

static void route(struct manager *manager, struct vdc_http_request *request,
                  const struct path *path)
{
    const char *noun = path->part[0];
    const char *name = path->part[1];
    bool get = request->method == VDC_HTTP_GET;
    bool list = path->parts == 1;
    bool one = path->parts == 2;
    if (strcmp(noun, "partitions") == 0 && !list) {
        route_partition(manager, request, path);
    } else if (strcmp(noun, "partitions") == 0 && request->method == VDC_HTTP_POST) {
        create_partition(manager, request);
    } else if (strcmp(noun, "partitions") == 0) {
        if (get) {
            list_partitions(manager, request);
        } else {
            method_not_allowed(request, "GET, POST");
        }
    } else if (strcmp(noun, "zones") == 0 && path->parts == 3 &&
               strcmp(path->part[2], "policy") == 0 && vdc_name_valid(name)) {
        if (get) {
            get_policy(manager, request, name);
        } else if (request->method == VDC_HTTP_PUT) {
            put_policy(manager, request, name);
        } else {
            method_not_allowed(request, "GET, PUT");
        }
    } else if (!(list || one) || (strcmp(noun, "nodes") != 0 && strcmp(noun, "operations") != 0 &&
                                  strcmp(noun, "zones") != 0)) {
        problem(request, VDC_RC_NOT_FOUND, "there is nothing at %.200s", request->path);
    } else if (!get) {
        method_not_allowed(request, "GET");
    } else if (strcmp(noun, "nodes") == 0 && list) {
        list_nodes(manager, request);
    } else if (strcmp(noun, "nodes") == 0) {
        get_node(manager, request, name);
    } else if (strcmp(noun, "operations") == 0 && list) {
        list_operations(manager, request);
    } else if (strcmp(noun, "operations") == 0) {
        get_operation(manager, request, name);
    } else if (list) {
        list_zones(manager, request);
    } else {
        struct seat *seat = pick_zone(manager, request, name);
        if (seat != NULL) {
            api_json(request, 200, render_zone(seat), NULL);
        }
    }
}

/* Query parameters that some route knows: a misspelt one must not pass silently. */
static bool check_query(struct vdc_http_request *request)
{
    static const char *const known[] = {"wait", "zone", "limit", "cursor", "offset", "max"};
    const char *name;
    const char *value;
    for (size_t i = 0; vdc_http_request_query_at(request, i, &name, &value); i++) {
        bool found = false;
        for (size_t k = 0; k < VDC_COUNT_OF(known) && !found; k++) {
            found = strcmp(known[k], name) == 0;
        }
        if (!found) {
            problem(request, VDC_RC_INVALID, "unknown query parameter \"%.64s\"", name);
            return false;
        }
    }
    return true;
}

static void on_request(void *data, struct vdc_http_request *request)
{
    struct manager *manager = data;
    struct path path;
    if (strcmp(request->path, "/healthz") == 0 || strcmp(request->path, "/readyz") == 0) {
        bool ready = manager->watch_zones != NULL && manager->watch_leaders != NULL;
        if (request->path[1] == 'r' && !ready) {
            problem(request, VDC_RC_UNAVAILABLE, "the store has not answered yet");
        } else {
            vdc_http_respond(request, 200, "text/plain", "ok\n", 3, NULL, 0);
        }
    } else if (request->peer.kind != VDC_PEER_USER && request->peer.kind != VDC_PEER_MANAGER) {
        char peer[VDC_PEER_TEXT_CAP];
        vdc_peer_to_text(&request->peer, peer);
        problem(request, VDC_RC_FORBIDDEN, "%s is not a user: the API is for vdc://user/NAME",
                peer);
    } else if (!split_path(request->path, &path)) {
        problem(request, VDC_RC_NOT_FOUND, "there is nothing at %.200s", request->path);
    } else if (!manager->zones_known) {
        /* A manager that has just begun: "there is no zone" would be a wrong answer, not a missing one. */
        problem(request, VDC_RC_UNAVAILABLE,
                "this manager has not read the zones from the store yet; ask again");
    } else if (check_query(request)) {
        route(manager, request, &path);
    }
}

static void on_refused(void *data, const struct vdc_err *why)
{
    (void)data;
    vdc_log_warn("api: %s", vdc_err_text(why));
}

enum vdc_rc api_open(struct manager *manager, struct vdc_err *err)
{
    struct vdc_http_server_config config = {.address = manager->config.api_listen,
                                            .on_request = on_request,
                                            .data = manager,
                                            .on_refused = on_refused};
    manager->client = vdc_http_client_create(manager->tls_http);
    if (vdc_http_server_open(manager->tls_http, &config, &manager->api, err) != VDC_RC_OK) {
        return vdc_err_wrap(err, "listen for the API");
    }
    return VDC_RC_OK;
}

void api_close(struct manager *manager)
{
    while (manager->waiters != NULL) {
        struct waiter *waiter = manager->waiters;
        problem(waiter->request, VDC_RC_UNAVAILABLE, "this manager is being stopped");
        waiter_end(manager, waiter);
    }
    vdc_http_server_close(manager->api);
    manager->api = NULL;
    vdc_http_client_destroy(manager->client);
    manager->client = NULL;
}
