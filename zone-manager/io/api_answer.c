/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers, and waiting for them. A mutation goes to the core with a token; the core's answer finds the
 * waiter of that token. Without ?wait= the answer is sent then (202 and the operation); with it the
 * waiter stays until the operation has ended or the time is over. A client that goes away is forgotten,
 * not its operation.
 */
#include <openssl/evp.h>
#include <string.h>

#include <vdc/quantity.h>

#include "api_internal.h"

#define WAITER_MAGIC UINT32_C(0x3a17e400)
#define JSON_TYPE "application/json"

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

static void send_problem(struct vdc_http_request *request, int status, bool again, enum vdc_rc rc,
                         const char *detail, json_t *extra)
{
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
    vdc_http_respond(request, status, API_PROBLEM_TYPE, text, strlen(text), &retry, again ? 1 : 0);
    free(text);
    json_decref(body);
}

void api_problem(struct vdc_http_request *request, enum vdc_rc rc, const char *detail,
                 json_t *extra)
{
    send_problem(request, vdc_rc_http_status(rc), vdc_rc_retryable(rc), rc, detail, extra);
}

/* What has ended stays as it is: the same request gets this answer again and again. A status or a
 * Retry-After that has clients ask again would have them do so for ever. */
static void send_failure(struct vdc_http_request *request, enum vdc_rc rc, const char *detail,
                         json_t *extra)
{
    int status = vdc_rc_retryable(rc) ? 409 : vdc_rc_http_status(rc);
    send_problem(request, status, false, rc, detail, extra);
}

void api_problemf(struct vdc_http_request *request, enum vdc_rc rc, const char *fmt, ...)
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
        json_t *extra = json_object();
        json_object_set_new(extra, "operation", render_operation(record));
        json_object_set_new(extra, "verdict",
                            record->verdict != NULL ? render_text(record->verdict) : json_null());
        const char *detail = record->error != NULL     ? record->error
                             : record->verdict != NULL ? record->verdict
                                                       : vdc_rc_sentence(record->rc);
        send_failure(waiter->request, record->rc != VDC_RC_OK ? record->rc : VDC_RC_INTERNAL,
                     detail, extra);
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
        api_problemf(waiter->request, VDC_RC_NOT_FOUND, "the operation is not known any more");
    }
    waiter_end(waiter->seat->manager, waiter);
}

static struct waiter *waiter_open(struct manager *manager, struct seat *seat,
                                  struct vdc_http_request *request)
{
    if (manager->waiters_len >= MANAGER_WAITERS_MAX) {
        api_problemf(request, VDC_RC_LIMIT, "%d requests are waiting already", MANAGER_WAITERS_MAX);
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
            api_problemf(
                waiter->request, VDC_RC_NO_LEADER,
                "this manager stopped leading zone %s before the answer was known; ask again "
                "with the same Idempotency-Key",
                seat->zone);
            waiter_end(manager, waiter);
        }
    }
}

/* ---- requests to the core ---- */

void api_hash_request(const struct vdc_http_request *request, uint8_t digest[32])
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

bool api_check_key(struct vdc_http_request *request)
{
    const char *key = vdc_http_request_header(request, "idempotency-key");
    if (key != NULL && (key[0] == 0 || strlen(key) > VDC_REQUEST_KEY_MAX)) {
        api_problemf(request, VDC_RC_INVALID, "Idempotency-Key must have 1 to %d bytes",
                     VDC_REQUEST_KEY_MAX);
        return false;
    }
    return true;
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
        api_problemf(request, VDC_RC_INVALID, "?wait=: %s", vdc_err_text(&err));
        return false;
    }
    *wait_ms = ns / VDC_MS < MANAGER_WAIT_MAX_MS ? ns / VDC_MS : MANAGER_WAIT_MAX_MS;
    return true;
}

/* Hands the request to the core. `asked` is filled except token, key, digest and user. */
void api_submit(struct seat *seat, struct vdc_http_request *request, struct vdc_zone_request *asked)
{
    struct manager *manager = seat->manager;
    const char *key = vdc_http_request_header(request, "idempotency-key");
    int64_t wait_ms = 0;
    struct waiter *waiter = NULL;
    if (!api_check_key(request)) {
        /* answered */
    } else if (vdc_http_request_header(request, "if-match") != NULL) {
        /* Taking the request and not the condition would change what the client meant to protect. */
        api_problemf(request, VDC_RC_UNSUPPORTED,
                     "If-Match is not supported by this version; leave it out");
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
    api_hash_request(request, asked->body_digest);
    struct vdc_zone_event event = {.kind = VDC_ZONE_REQUEST};
    event.request = asked;
    seat_step(seat, &event);
}

void api_end_waiters(struct manager *manager)
{
    while (manager->waiters != NULL) {
        struct waiter *waiter = manager->waiters;
        api_problemf(waiter->request, VDC_RC_UNAVAILABLE, "this manager is being stopped");
        waiter_end(manager, waiter);
    }
}
