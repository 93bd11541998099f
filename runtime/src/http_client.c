/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls and connections. A call takes an idle connection to the same place or opens one, and owns it
 * until the answer is whole; then the connection is idle or closed.
 *
 * What a lost connection means depends on how far the call was: before its bytes were handed to TLS
 * it took no effect; afterwards nobody knows, except for a method that changes nothing (GET, HEAD).
 * An idle connection may be closed by the server in the moment it is taken; such a call is sent once
 * more on a new connection if it changes nothing.
 */
#include <vdc/http_client.h>

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <uv.h>

#include <vdc/base.h>
#include <vdc/clock.h>

#include "address.h"
#include "http_message.h"

#define CLIENT_MAGIC UINT32_C(0x48434c49)
#define CALL_MAGIC UINT32_C(0x4843414c)
#define CLIENT_CONN_MAGIC UINT32_C(0x4843434e)
#define TICK_MS 100
#define TIMEOUT_DEFAULT_MS 30000

struct client_conn {
    uint32_t magic;
    bool up;
    bool used; /* it has answered before */
    bool in_input;
    bool dead; /* in_input: to be freed by it */
    struct vdc_http_client *client;
    struct vdc_tls *tls;
    struct vdc_http_call *call; /* NULL: idle */
    char *address;
    struct vdc_peer expected;
    struct http_message message;
    vdc_mono idle_until;
    TAILQ_ENTRY(client_conn) entry;
};

struct vdc_http_call {
    uint32_t magic;
    bool sent;
    struct vdc_http_client *client;
    struct client_conn *conn;
    enum vdc_http_method method;
    struct vdc_buf head;
    char *body;
    size_t body_len;
    vdc_http_done_cb on_done;
    void *data;
    vdc_mono deadline;
    TAILQ_ENTRY(vdc_http_call) entry;
};

struct vdc_http_client {
    uint32_t magic;
    struct vdc_tls_context *context;
    uv_timer_t timer; /* active while there is a call or a connection */
    size_t conn_count;
    TAILQ_HEAD(, client_conn) conns;
    TAILQ_HEAD(, vdc_http_call) calls;
};

static bool changes_nothing(enum vdc_http_method method)
{
    return method == VDC_HTTP_GET || method == VDC_HTTP_HEAD || method == VDC_HTTP_OPTIONS;
}

static void free_call(struct vdc_http_call *call)
{
    TAILQ_REMOVE(&call->client->calls, call, entry);
    vdc_buf_deinit(&call->head);
    free(call->body);
    call->magic = 0;
    free(call);
}

static void free_conn(struct client_conn *conn)
{
    http_message_deinit(&conn->message);
    free(conn->address);
    conn->magic = 0;
    free(conn);
}

/* Its TLS is closed or gone; its call was taken from it. */
static void drop_conn(struct client_conn *conn)
{
    VDC_ASSERT(conn->call == NULL);
    TAILQ_REMOVE(&conn->client->conns, conn, entry);
    conn->client->conn_count--;
    conn->tls = NULL;
    conn->dead = true;
    if (!conn->in_input) {
        free_conn(conn);
    }
}

static void close_conn(struct client_conn *conn)
{
    vdc_tls_close(conn->tls);
    drop_conn(conn);
}

/* Ends the call with an error; its connection, if any, was taken from it. */
static void fail_call(struct vdc_http_call *call, enum vdc_rc rc, const char *text)
{
    struct vdc_err why;
    vdc_err_set(&why, rc, "%s", text);
    vdc_http_done_cb on_done = call->on_done;
    void *data = call->data;
    free_call(call);
    on_done(data, rc, NULL, &why);
}

static struct vdc_http_call *take_call(struct client_conn *conn)
{
    struct vdc_http_call *call = conn->call;
    conn->call = NULL;
    if (call != NULL) {
        call->conn = NULL;
    }
    return call;
}

static void break_call(struct client_conn *conn, enum vdc_rc rc, const char *text)
{
    struct vdc_http_call *call = take_call(conn);
    struct vdc_err why;
    vdc_err_set(&why, rc, "http %s: %s", conn->address, text);
    close_conn(conn);
    fail_call(call, rc, why.text);
}

/* The answer leaves the connection first: on_done may use, close or destroy anything. */
static void complete_call(struct client_conn *conn)
{
    struct vdc_http_call *call = take_call(conn);
    struct http_message message = conn->message;
    http_message_init(&conn->message, false, VDC_HTTP_BODY_MAX);
    conn->used = true;
    conn->idle_until = vdc_mono_add(vdc_clock_mono(), (int64_t)VDC_HTTP_CLIENT_IDLE_MS * VDC_MS);
    /* An answer that came before all of the question had gone out: the rest of it is still queued, and
     * the next question would stand behind it. */
    if (!message.keep_alive || (conn->up && vdc_tls_queued(conn->tls) > 0)) {
        close_conn(conn);
    }
    struct vdc_http_header headers[VDC_HTTP_HEADERS_MAX];
    for (size_t i = 0; i < message.field_count; i++) {
        headers[i].name = message.fields[i].name;
        headers[i].value = message.fields[i].value;
    }
    struct vdc_http_response response = {.status = http_message_status(&message),
                                         .body = vdc_buf_text(&message.body),
                                         .body_len = message.body.len,
                                         .headers = headers,
                                         .header_count = message.field_count};
    vdc_http_done_cb on_done = call->on_done;
    void *data = call->data;
    free_call(call);
    on_done(data, VDC_RC_OK, &response, NULL);
    http_message_deinit(&message);
}

static void send_call(struct client_conn *conn)
{
    struct vdc_http_call *call = conn->call;
    conn->message.skip_body = call->method == VDC_HTTP_HEAD;
    vdc_tls_set_queue_max(conn->tls, call->head.len + call->body_len);
    enum vdc_rc rc =
        vdc_tls_write2(conn->tls, call->head.data, call->head.len, call->body, call->body_len);
    VDC_ASSERT(rc == VDC_RC_OK);
    call->sent = true;
}

/* An interim answer (100 Continue): the real one follows. */
static bool is_interim(const struct http_message *message)
{
    int status = http_message_status(message);
    return status >= 100 && status < 200;
}

/* False once the call has ended, one way or the other. */
static bool read_answer(struct client_conn *conn)
{
    struct http_message *message = &conn->message;
    if (message->phase == HTTP_BAD) {
        enum vdc_rc rc = message->error_status == 413 ? VDC_RC_TOO_LARGE : VDC_RC_PROTOCOL;
        break_call(conn, rc, message->error_text);
        return false;
    }
    if (message->phase == HTTP_WHOLE && is_interim(message)) {
        http_message_deinit(message);
        http_message_init(message, false, VDC_HTTP_BODY_MAX);
        message->skip_body = conn->call->method == VDC_HTTP_HEAD;
    } else if (message->phase == HTTP_WHOLE) {
        complete_call(conn);
        return false;
    }
    return true;
}

static void client_on_data(void *data, struct vdc_tls *tls, const uint8_t *bytes, size_t len)
{
    (void)tls;
    struct client_conn *conn;
    VDC_CAST(conn, data, CLIENT_CONN_MAGIC);
    size_t used = 0;
    bool go_on = conn->call != NULL && conn->call->sent;
    conn->in_input = true;
    while (go_on && used < len) {
        used += http_message_feed(&conn->message, (const char *)bytes + used, len - used);
        go_on = read_answer(conn);
    }
    conn->in_input = false;
    if (conn->dead) {
        free_conn(conn);
    } else if (used < len) {
        /* More than was asked for: nothing of it can be trusted to belong to the next call. */
        if (conn->call != NULL) {
            break_call(conn, VDC_RC_PROTOCOL, "an answer came before its question");
        } else {
            close_conn(conn);
        }
    }
}

static void client_on_up(void *data, struct vdc_tls *tls)
{
    (void)tls;
    struct client_conn *conn;
    VDC_CAST(conn, data, CLIENT_CONN_MAGIC);
    conn->up = true;
    send_call(conn);
}

static void open_conn(struct vdc_http_client *client, struct vdc_http_call *call,
                      const char *address, const struct vdc_peer *expected);

static void client_on_down(void *data, struct vdc_tls *tls, const struct vdc_err *why)
{
    (void)tls;
    struct client_conn *conn;
    VDC_CAST(conn, data, CLIENT_CONN_MAGIC);
    struct vdc_http_call *call = conn->call;
    bool answer_begun = conn->message.phase != HTTP_IDLE;
    if (call != NULL && answer_begun) {
        /* Without a length, the connection's orderly end is the answer's. */
        if (why->rc == VDC_RC_END) {
            http_message_finish(&conn->message);
        }
        if (conn->message.phase == HTTP_WHOLE) {
            conn->message.keep_alive = true; /* there is no connection left to close */
            conn->up = false;                /* nor to use again */
            conn->in_input = true;
            complete_call(conn);
            conn->in_input = false;
            if (conn->dead) { /* the client was destroyed by on_done */
                free_conn(conn);
                return;
            }
            drop_conn(conn);
            return;
        }
    }
    take_call(conn);
    bool again = call != NULL && conn->used && !answer_begun && changes_nothing(call->method);
    if (again) {
        call->sent = false;
        open_conn(call->client, call, conn->address, &conn->expected);
    }
    drop_conn(conn);
    if (call == NULL || again) {
        return;
    }
    enum vdc_rc rc = why->rc == VDC_RC_END ? VDC_RC_UNAVAILABLE : why->rc;
    if (call->sent && rc != VDC_RC_UNAUTHENTICATED) {
        rc = changes_nothing(call->method) ? VDC_RC_UNAVAILABLE : VDC_RC_UNKNOWN_OUTCOME;
    }
    fail_call(call, rc, why->text);
}

static const struct vdc_tls_handlers client_handlers = {
    .on_up = client_on_up, .on_data = client_on_data, .on_down = client_on_down};

static void open_conn(struct vdc_http_client *client, struct vdc_http_call *call,
                      const char *address, const struct vdc_peer *expected)
{
    struct client_conn *conn = VDC_NEW(struct client_conn);
    conn->magic = CLIENT_CONN_MAGIC;
    conn->client = client;
    conn->call = call;
    conn->address = vdc_strdup(address);
    conn->expected = *expected;
    http_message_init(&conn->message, false, VDC_HTTP_BODY_MAX);
    call->conn = conn;
    client->conn_count++;
    TAILQ_INSERT_TAIL(&client->conns, conn, entry);
    enum vdc_rc rc =
        vdc_tls_dial(client->context, address, expected, &client_handlers, conn, &conn->tls, NULL);
    VDC_ASSERT(rc == VDC_RC_OK); /* the address was checked */
}

static struct client_conn *find_idle(struct vdc_http_client *client, const char *address,
                                     const struct vdc_peer *expected)
{
    struct client_conn *conn;
    TAILQ_FOREACH(conn, &client->conns, entry)
    {
        if (conn->call == NULL && conn->up && strcmp(conn->address, address) == 0 &&
            vdc_peer_equal(&conn->expected, expected)) {
            return conn;
        }
    }
    return NULL;
}

static void expire_call(struct vdc_http_call *call)
{
    struct client_conn *conn = call->conn;
    bool sent = call->sent && !changes_nothing(call->method);
    struct vdc_err why;
    vdc_err_set(&why, VDC_RC_TIMEOUT, "http %s: no answer in time", conn->address);
    take_call(conn);
    close_conn(conn);
    fail_call(call, sent ? VDC_RC_UNKNOWN_OUTCOME : VDC_RC_TIMEOUT, why.text);
}

static void on_tick(uv_timer_t *timer)
{
    struct vdc_http_client *client;
    VDC_CAST(client, timer->data, CLIENT_MAGIC);
    vdc_mono now = vdc_clock_mono();
    struct client_conn *conn = TAILQ_FIRST(&client->conns);
    while (conn != NULL) {
        struct client_conn *next = TAILQ_NEXT(conn, entry);
        if (conn->call == NULL && vdc_mono_reached(now, conn->idle_until)) {
            close_conn(conn);
        }
        conn = next;
    }
    struct vdc_http_call *call;
    TAILQ_FOREACH(call, &client->calls, entry)
    {
        if (vdc_mono_reached(now, call->deadline)) {
            expire_call(call);
            return; /* on_done may have changed everything: the others in the next tick */
        }
    }
    if (TAILQ_EMPTY(&client->calls) && TAILQ_EMPTY(&client->conns)) {
        uv_timer_stop(timer);
    }
}

struct vdc_http_client *vdc_http_client_create(struct vdc_tls_context *context)
{
    struct vdc_http_client *client = VDC_NEW(struct vdc_http_client);
    client->magic = CLIENT_MAGIC;
    client->context = vdc_tls_context_ref(context);
    TAILQ_INIT(&client->conns);
    TAILQ_INIT(&client->calls);
    uv_timer_init(vdc_tls_context_loop(context), &client->timer);
    client->timer.data = client;
    uv_unref((uv_handle_t *)&client->timer);
    return client;
}

static void on_client_closed(uv_handle_t *handle)
{
    struct vdc_http_client *client;
    VDC_CAST(client, handle->data, CLIENT_MAGIC);
    vdc_tls_context_unref(client->context);
    client->magic = 0;
    free(client);
}

void vdc_http_client_destroy(struct vdc_http_client *client)
{
    if (client == NULL) {
        return;
    }
    VDC_ASSERT(client->magic == CLIENT_MAGIC);
    struct vdc_http_call *call;
    while ((call = TAILQ_FIRST(&client->calls)) != NULL) {
        vdc_http_call_cancel(call);
    }
    struct client_conn *conn;
    while ((conn = TAILQ_FIRST(&client->conns)) != NULL) {
        close_conn(conn);
    }
    uv_close((uv_handle_t *)&client->timer, on_client_closed);
}

/* A target or header with a blank or a line end in it would become two requests. */
static bool visible(const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c <= 0x20 || *c == 0x7f) {
            return false;
        }
    }
    return *text != '\0';
}

static enum vdc_rc put_call_head(struct vdc_buf *head, const struct vdc_http_call_config *config,
                                 struct vdc_err *err)
{
    if (config->target[0] != '/' || !visible(config->target)) {
        return vdc_err_set(err, VDC_RC_INVALID, "http: the target is malformed");
    }
    vdc_buf_printf(head, "%s %s HTTP/1.1\r\nHost: %s\r\n", vdc_http_method_name(config->method),
                   config->target, config->address);
    for (size_t i = 0; i < config->header_count; i++) {
        const struct vdc_http_header *header = &config->headers[i];
        if (!visible(header->name) || strchr(header->name, ':') != NULL ||
            strpbrk(header->value, "\r\n") != NULL) {
            return vdc_err_set(err, VDC_RC_INVALID, "http: a header is malformed");
        }
        vdc_buf_printf(head, "%s: %s\r\n", header->name, header->value);
    }
    if (config->body_len > 0 || !changes_nothing(config->method)) {
        vdc_buf_printf(head, "Content-Length: %zu\r\n", config->body_len);
    }
    vdc_buf_puts(head, "\r\n");
    return VDC_RC_OK;
}

enum vdc_rc vdc_http_client_send(struct vdc_http_client *client,
                                 const struct vdc_http_call_config *config,
                                 vdc_http_done_cb on_done, void *data, struct vdc_http_call **out,
                                 struct vdc_err *err)
{
    VDC_ASSERT(client->magic == CLIENT_MAGIC);
    struct vdc_address parsed;
    enum vdc_rc rc = vdc_address_parse(config->address, &parsed, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    vdc_auto(vdc_buf_deinit) struct vdc_buf head = {0};
    rc = put_call_head(&head, config, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct client_conn *conn = find_idle(client, config->address, &config->expected);
    if (conn == NULL && client->conn_count >= VDC_HTTP_CLIENT_CONNS_MAX) {
        return vdc_err_set(err, VDC_RC_LIMIT, "http: more than %d connections",
                           VDC_HTTP_CLIENT_CONNS_MAX);
    }
    struct vdc_http_call *call = VDC_NEW(struct vdc_http_call);
    call->magic = CALL_MAGIC;
    call->client = client;
    call->method = config->method;
    call->head = head;
    head = (struct vdc_buf){0};
    call->body = vdc_memdup(config->body_len > 0 ? config->body : "", config->body_len);
    call->body_len = config->body_len;
    call->on_done = on_done;
    call->data = data;
    int64_t timeout_ms = config->timeout_ms != 0 ? config->timeout_ms : TIMEOUT_DEFAULT_MS;
    call->deadline = vdc_mono_add(vdc_clock_mono(), timeout_ms * VDC_MS);
    TAILQ_INSERT_TAIL(&client->calls, call, entry);
    if (conn != NULL) {
        conn->call = call;
        call->conn = conn;
        send_call(conn);
    } else {
        open_conn(client, call, config->address, &config->expected);
    }
    if (!uv_is_active((uv_handle_t *)&client->timer)) {
        uv_timer_start(&client->timer, on_tick, TICK_MS, TICK_MS);
    }
    if (out != NULL) {
        *out = call;
    }
    return VDC_RC_OK;
}

void vdc_http_call_cancel(struct vdc_http_call *call)
{
    VDC_ASSERT(call->magic == CALL_MAGIC);
    struct client_conn *conn = call->conn;
    take_call(conn);
    close_conn(conn);
    free_call(call);
}

const char *vdc_http_response_header(const struct vdc_http_response *response, const char *name)
{
    for (size_t i = 0; i < response->header_count; i++) {
        if (strcasecmp(response->headers[i].name, name) == 0) {
            return response->headers[i].value;
        }
    }
    return NULL;
}
