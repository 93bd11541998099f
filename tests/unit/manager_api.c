/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The REST API above a zone's core and below HTTP: the test plays the HTTP server, the seats and the
 * store, and reads what is answered.
 */
#include <string.h>

#include <criterion/criterion.h>

#include <vdc/policy_io.h>

#include "api_internal.h"

/* ---- the world: one request at a time, one zone that is led here ---- */

static struct {
    const char *headers[4][2];
    size_t headers_len;
    const char *query[4][2];
    size_t query_len;
    int status; /* 0: not answered */
    json_t *json;
    char retry_after[16];
    uint64_t token;                      /* of the request that reached the core */
    struct vdc_operation_record created; /* by a transaction */
    size_t puts;
} world;

static struct manager *manager;
static struct seat *seat;

static const char *lookup(const char *const (*pairs)[2], size_t len, const char *name)
{
    for (size_t i = 0; i < len; i++) {
        if (strcmp(pairs[i][0], name) == 0) {
            return pairs[i][1];
        }
    }
    return NULL;
}

const char *vdc_http_request_header(const struct vdc_http_request *request, const char *name)
{
    (void)request;
    return lookup(world.headers, world.headers_len, name);
}

const char *vdc_http_request_query(const struct vdc_http_request *request, const char *name)
{
    (void)request;
    return lookup(world.query, world.query_len, name);
}

bool vdc_http_request_query_at(const struct vdc_http_request *request, size_t i, const char **name,
                               const char **value)
{
    (void)request;
    if (i >= world.query_len) {
        return false;
    }
    *name = world.query[i][0];
    *value = world.query[i][1];
    return true;
}

void vdc_http_respond(struct vdc_http_request *request, int status, const char *content_type,
                      const void *body, size_t len, const struct vdc_http_header *headers,
                      size_t count)
{
    (void)request;
    (void)content_type;
    cr_assert_eq(world.status, 0, "answered twice");
    world.status = status;
    world.json = json_loadb(body, len, 0, NULL);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(headers[i].name, "retry-after") == 0) {
            vdc_str_set(world.retry_after, sizeof world.retry_after, headers[i].value);
        }
    }
}

const char *vdc_http_method_name(enum vdc_http_method method)
{
    return method == VDC_HTTP_GET ? "GET" : method == VDC_HTTP_PUT ? "PUT" : "POST";
}

enum vdc_rc vdc_http_server_open(struct vdc_tls_context *context,
                                 const struct vdc_http_server_config *config,
                                 struct vdc_http_server **server, struct vdc_err *err)
{
    (void)context;
    (void)err;
    manager->client = NULL;
    *server = (struct vdc_http_server *)(uintptr_t)config->on_request;
    return VDC_RC_OK;
}

void vdc_http_server_close(struct vdc_http_server *server)
{
    (void)server;
}

struct vdc_http_client *vdc_http_client_create(struct vdc_tls_context *context)
{
    (void)context;
    return NULL;
}

void vdc_http_client_destroy(struct vdc_http_client *client)
{
    (void)client;
}

struct seat *seat_find(struct manager *of, const char *zone)
{
    return of->seats != NULL && strcmp(of->seats->zone, zone) == 0 ? of->seats : NULL;
}

bool seat_leads(const struct seat *of)
{
    return of->state == SEAT_LEADING;
}

void seat_step(struct seat *of, struct vdc_zone_event *event)
{
    (void)of;
    world.token = event->request->token;
    vdc_policy_destroy(event->request->policy);
}

void seat_learn(struct manager *of, const struct vdc_zone_record *record)
{
    (void)of;
    (void)record;
}

void forward_request(struct seat *of, struct vdc_http_request *request)
{
    (void)of;
    (void)request;
    cr_assert_fail("it is led here");
}

enum vdc_rc vdc_etcd_txn(struct vdc_etcd *etcd, const struct vdc_etcd_txn *txn, vdc_etcd_txn_cb cb,
                         void *data, struct vdc_etcd_request **request)
{
    (void)etcd;
    (void)request;
    struct vdc_err err = {0};
    for (size_t i = 0; i < txn->then_count; i++) {
        const struct vdc_etcd_op *op = &txn->then[i];
        world.puts++;
        if (strstr(op->key, "/operations/") != NULL) {
            cr_assert_eq(
                vdc_operation_record_decode(op->value, op->value_len, &world.created, &err),
                VDC_RC_OK, "%s", err.text);
        }
    }
    struct vdc_etcd_result result = {.succeeded = true, .revision = 5};
    cb(data, VDC_RC_OK, &result, &err);
    return VDC_RC_OK;
}

static const char policy_text[] = "apiVersion: vdc/v1\nkind: ZonePolicy\nzone: prod\n"
                                  "nodes:\n  - match: node.name != \"\"\n";

static struct vdc_id id_of(uint64_t number)
{
    struct vdc_prng prng;
    vdc_prng_init(&prng, number);
    return vdc_id_make(&prng);
}

/* A leader that knows one partition and one operation, which ended without reaching its aim. Both have
 * a verdict that was cut in the middle of a character. */
static struct vdc_zone *make_core(void)
{
    const struct vdc_zone_config config = {
        .zone = "prod", .manager = "m1", .epoch = 3, .seed = 1, .now = {1}};
    struct vdc_zone *zone = vdc_zone_create(&config);
    struct vdc_zone_event event = {.now = {1}};
    struct vdc_zone_record record = {.name = "prod", .policy_version = 1};
    event.kind = VDC_ZONE_LOAD_ZONE;
    event.zone = &record;
    vdc_zone_step(zone, &event);
    struct vdc_policy_record policy = {
        .zone = "prod", .version = 1, .applied_by = "op", .text = (char *)policy_text};
    struct vdc_diags diags = {.source = "policy"};
    event.kind = VDC_ZONE_LOAD_POLICY;
    event.policy.record = &policy;
    cr_assert_eq(vdc_policy_parse(policy_text, strlen(policy_text), &event.policy.built, &diags),
                 VDC_RC_OK);
    vdc_zone_step(zone, &event);
    char verdict[] = "placed by somebody caf\xc3";
    char error[] = "n1 did not do it within 120 s";
    struct vdc_partition_record partition = {.spec = {.name = "web", .zone = "prod", .vcpus = 1},
                                             .id = id_of(1),
                                             .desired = VDC_DESIRED_STOPPED,
                                             .owner = "n1",
                                             .generation = 1,
                                             .generation_last = 1,
                                             .verdict = verdict};
    event.kind = VDC_ZONE_LOAD_PARTITION;
    event.partition = &partition;
    vdc_zone_step(zone, &event);
    struct vdc_operation_record op = {.id = id_of(2),
                                      .zone = "prod",
                                      .kind = VDC_OPERATION_STOP,
                                      .state = VDC_OPSTATE_FAILED,
                                      .step = "end",
                                      .rc = VDC_RC_TIMEOUT,
                                      .error = error,
                                      .verdict = verdict};
    event.kind = VDC_ZONE_LOAD_OPERATION;
    event.operation = &op;
    vdc_zone_step(zone, &event);
    event.kind = VDC_ZONE_LOADED;
    vdc_zone_step(zone, &event);
    return zone;
}

static void begin(void)
{
    memset(&world, 0, sizeof world);
    manager = VDC_NEW(struct manager);
    manager->loop = VDC_NEW(uv_loop_t);
    uv_loop_init(manager->loop);
    manager->zones_known = true;
    seat = VDC_NEW(struct seat);
    seat->manager = manager;
    vdc_str_set(seat->zone, VDC_NAME_CAP, "prod");
    seat->record.policy_version = 1;
    seat->state = SEAT_LEADING;
    seat->core = make_core();
    manager->seats = seat;
    struct vdc_err err = {0};
    cr_assert_eq(api_open(manager, &err), VDC_RC_OK);
}

static void end(void)
{
    api_close(manager);
    uv_run(manager->loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(manager->loop), 0);
    json_decref(world.json);
    vdc_operation_record_deinit(&world.created);
    vdc_zone_destroy(seat->core);
    free(seat);
    free(manager->loop);
    free(manager);
}

TestSuite(manager_api, .init = begin, .fini = end);

static void ask(struct vdc_http_request *request, enum vdc_http_method method, const char *path,
                const char *body)
{
    *request = (struct vdc_http_request){.method = method,
                                         .path = path,
                                         .target = path,
                                         .body = body,
                                         .body_len = strlen(body),
                                         .peer = {.kind = VDC_PEER_USER, .name = "op"}};
    void (*on_request)(void *, struct vdc_http_request *) =
        (void (*)(void *, struct vdc_http_request *))(uintptr_t)manager->api;
    on_request(manager, request);
}

static const char *answered(const char *field)
{
    const char *text = json_string_value(json_object_get(world.json, field));
    return text != NULL ? text : "";
}

/* ---- the tests ---- */

Test(manager_api, an_operation_that_has_failed_for_good_asks_nobody_to_try_again)
{
    struct vdc_http_request request;
    world.headers[0][0] = "idempotency-key";
    world.headers[0][1] = "k1";
    world.headers_len = 1;
    ask(&request, VDC_HTTP_POST, "/v1/partitions/web/stop", "");
    cr_assert_eq(world.status, 0);
    struct vdc_zone_answer answer = {
        .token = world.token, .has_operation = true, .operation = id_of(2), .repeated = true};
    api_answer(seat, &answer);
    cr_assert_eq(world.status, 409); /* not 504: it would be that for ever */
    cr_assert_str_eq(world.retry_after, "");
    cr_assert_str_eq(answered("code"), "TIMEOUT");
    cr_assert_not_null(json_object_get(json_object_get(world.json, "operation"), "id"));
}

Test(manager_api, what_may_pass_by_itself_says_when_to_ask_again)
{
    struct vdc_http_request request;
    ask(&request, VDC_HTTP_POST, "/v1/partitions/web/stop", "");
    struct vdc_zone_answer answer = {.token = world.token, .rc = VDC_RC_UNAVAILABLE, .text = "n1"};
    api_answer(seat, &answer);
    cr_assert_eq(world.status, 503);
    cr_assert_str_eq(world.retry_after, "1");
}

Test(manager_api, texts_that_were_cut_inside_a_character_are_shown)
{
    struct vdc_http_request request;
    ask(&request, VDC_HTTP_GET, "/v1/partitions/web/explain", "");
    cr_assert_eq(world.status, 200);
    cr_assert_str_eq(answered("verdict"), "placed by somebody caf");
}

Test(manager_api, operations_show_them_too)
{
    struct vdc_http_request request;
    ask(&request, VDC_HTTP_GET, "/v1/operations", "");
    const json_t *items = json_object_get(world.json, "items");
    cr_assert_str_eq(json_string_value(json_object_get(json_array_get(items, 0), "verdict")),
                     "placed by somebody caf");
}

Test(manager_api, pointers_of_mistakes_are_escaped)
{
    struct vdc_http_request request;
    ask(&request, VDC_HTTP_POST, "/v1/partitions",
        "{\"name\":\"a\",\"memory\":\"128MiB\",\"a/b~c\":1,\"labels\":{\"x/y\":5}}");
    cr_assert_eq(world.status, 400);
    const json_t *errors = json_object_get(world.json, "errors");
    cr_assert_eq(json_array_size(errors), 2);
    cr_assert_str_eq(json_string_value(json_object_get(json_array_get(errors, 0), "pointer")),
                     "/a~1b~0c");
    cr_assert_str_eq(json_string_value(json_object_get(json_array_get(errors, 1), "pointer")),
                     "/labels/x~1y");
}

Test(manager_api, a_cursor_that_is_gone_is_no_end_of_the_list)
{
    struct vdc_http_request request;
    char text[VDC_ID_TEXT_CAP];
    struct vdc_id gone = id_of(9);
    vdc_id_to_text(&gone, text);
    world.query[0][0] = "cursor";
    world.query[0][1] = text;
    world.query_len = 1;
    ask(&request, VDC_HTTP_GET, "/v1/operations", "");
    cr_assert_eq(world.status, 412);
    cr_assert(strstr(answered("detail"), "list from the beginning") != NULL);
}

Test(manager_api, a_condition_that_is_not_understood_is_not_ignored)
{
    struct vdc_http_request request;
    world.headers[0][0] = "if-match";
    world.headers[0][1] = "\"7\"";
    world.headers_len = 1;
    ask(&request, VDC_HTTP_DELETE, "/v1/partitions/web", "");
    cr_assert_eq(world.status, 501);
    cr_assert_eq(world.token, 0);
}

Test(manager_api, the_key_of_a_zones_first_policy_is_kept_for_its_leader)
{
    struct vdc_http_request request;
    manager->seats = NULL;
    world.headers[0][0] = "idempotency-key";
    world.headers[0][1] = "first";
    world.headers[1][0] = "content-type";
    world.headers[1][1] = "application/yaml";
    world.headers_len = 2;
    ask(&request, VDC_HTTP_PUT, "/v1/zones/prod/policy", policy_text);
    cr_assert_eq(world.status, 201);
    cr_assert_eq(world.puts, 3);
    cr_assert_str_eq(world.created.request_key, "first");
    cr_assert_str_eq(world.created.user, "op");
    cr_assert_eq(world.created.state, VDC_OPSTATE_DONE);
    uint8_t digest[32];
    api_hash_request(&request, digest);
    cr_assert_eq(memcmp(digest, world.created.body_digest, sizeof digest), 0);
}

Test(manager_api, an_empty_key_creates_no_zone)
{
    struct vdc_http_request request;
    manager->seats = NULL;
    world.headers[0][0] = "idempotency-key";
    world.headers[0][1] = "";
    world.headers[1][0] = "content-type";
    world.headers[1][1] = "application/yaml";
    world.headers_len = 2;
    ask(&request, VDC_HTTP_PUT, "/v1/zones/prod/policy", policy_text);
    cr_assert_eq(world.status, 400);
    cr_assert_eq(world.puts, 0);
}
