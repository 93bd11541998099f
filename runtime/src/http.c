/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's connections. Each has one message that is being read or one request that is being
 * handled, never both: what comes in meanwhile is kept up to a bound, then reading is paused.
 *
 *   IDLE -> READING -> HANDLING -> (STREAMING ->) (DRAINING ->) IDLE -> ...
 *     \________\___________\____________\_____________\________> closed
 *
 * DRAINING: the answers that are still to be sent are long. Nothing more is read before they are
 * short, or a client that asks and never reads would fill our memory at the rate at which it asks.
 *
 * A request belongs to its handler. It points to its connection while that exists; when the
 * connection goes first, the request becomes `gone`, and answering it only frees it.
 *
 * One timer looks at all connections twice a second; timeouts are that coarse.
 */
#include "http_message.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <time.h>
#include <uv.h>

#include <vdc/base.h>
#include <vdc/clock.h>

#define SERVER_MAGIC UINT32_C(0x48535256)
#define CONN_MAGIC UINT32_C(0x48434f4e)
#define REQUEST_MAGIC UINT32_C(0x48524551)
#define TICK_MS 500
#define CONNECTIONS_MAX_DEFAULT 4096

enum conn_state {
    CONN_IDLE,
    CONN_READING,
    CONN_HANDLING,
    CONN_STREAMING,
    CONN_DRAINING,
    CONN_CLOSED,
};

struct http_conn {
    uint32_t magic;
    enum conn_state state;
    bool in_input; /* process_input is on the stack: who closes leaves the freeing to it */
    bool paused;
    bool close_after; /* DRAINING: then close instead of reading on */
    struct vdc_http_server *server;
    struct vdc_tls *tls;
    struct http_message message;
    struct vdc_buf in; /* what came behind the request that is being handled */
    struct http_request *request;
    vdc_mono deadline;
    uint64_t written;  /* bytes of answers, ever */
    uint64_t progress; /* of those, what had gone out when the deadline was set */
    TAILQ_ENTRY(http_conn) entry;
};

struct vdc_http_server {
    uint32_t magic;
    struct vdc_tls_context *context;
    struct vdc_tls_listener *listener;
    struct vdc_http_server_config config;
    uv_timer_t timer;
    TAILQ_HEAD(, http_conn) conns;
};

struct http_request {
    struct vdc_http_request public; /* first: handlers have its address */
    uint32_t magic;
    struct http_conn *conn; /* NULL: gone */
    struct http_message message;
    struct http_target target;
    char *address;
    bool keep_alive;
    bool chunked;   /* of a stream: HTTP/1.0 ends it by closing instead */
    bool above_low; /* of a stream: on_drained is due */
};

static struct http_request *request_of(const struct vdc_http_request *public)
{
    struct http_request *request = (struct http_request *)(uintptr_t) public;
    VDC_ASSERT(request->magic == REQUEST_MAGIC);
    return request;
}

static void free_request(struct http_request *request)
{
    http_message_deinit(&request->message);
    http_target_deinit(&request->target);
    free(request->address);
    request->magic = 0;
    free(request);
}

static void set_deadline(struct http_conn *conn, uint32_t ms)
{
    conn->deadline = vdc_mono_add(vdc_clock_mono(), (int64_t)ms * VDC_MS);
}

static void free_conn(struct http_conn *conn)
{
    http_message_deinit(&conn->message);
    vdc_buf_deinit(&conn->in);
    conn->magic = 0;
    free(conn);
}

/* Takes the connection out of everything; its TLS is closed or gone already. */
static void drop_conn(struct http_conn *conn)
{
    struct http_request *request = conn->request;
    conn->state = CONN_CLOSED;
    conn->tls = NULL;
    conn->request = NULL;
    TAILQ_REMOVE(&conn->server->conns, conn, entry);
    if (!conn->in_input) {
        free_conn(conn);
    }
    if (request != NULL) {
        request->conn = NULL;
        request->public.gone = true;
        if (request->public.on_gone != NULL) {
            request->public.on_gone(&request->public);
        }
    }
}

static void close_conn(struct http_conn *conn)
{
    vdc_tls_close(conn->tls);
    drop_conn(conn);
}

const char *vdc_http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {100, "Continue"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < VDC_COUNT_OF(texts); i++) {
        if (texts[i].status == status) {
            return texts[i].text;
        }
    }
    return "Unknown";
}

/* "Sun, 22 Nov 2026 17:02:53 GMT" (RFC 9110 5.6.7), not in the locale's language. */
static void put_date(struct vdc_buf *head)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t now = (time_t)(vdc_clock_wall().ns / VDC_SECOND);
    struct tm tm;
    gmtime_r(&now, &tm);
    vdc_buf_printf(head, "Date: %.3s, %02d %.3s %04d %02d:%02d:%02d GMT\r\n", days + 3 * tm.tm_wday,
                   tm.tm_mday, months + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
                   tm.tm_sec);
}

static void put_head(struct vdc_buf *head, int status, const char *content_type,
                     const struct vdc_http_header *headers, size_t count)
{
    vdc_buf_printf(head, "HTTP/1.1 %d %s\r\n", status, vdc_http_status_text(status));
    put_date(head);
    if (content_type != NULL) {
        vdc_buf_printf(head, "Content-Type: %s\r\n", content_type);
    }
    for (size_t i = 0; i < count; i++) {
        VDC_ASSERT(strpbrk(headers[i].name, "\r\n: ") == NULL);
        VDC_ASSERT(strpbrk(headers[i].value, "\r\n") == NULL);
        vdc_buf_printf(head, "%s: %s\r\n", headers[i].name, headers[i].value);
    }
}

/* An answer is ours, so its size is no reason to refuse it. */
static void write_answer(struct http_conn *conn, const void *head, size_t head_len,
                         const void *body, size_t body_len)
{
    struct vdc_tls *tls = conn->tls;
    vdc_tls_set_queue_max(tls, vdc_tls_queued(tls) + head_len + body_len);
    enum vdc_rc rc = vdc_tls_write2(tls, head, head_len, body, body_len);
    VDC_ASSERT(rc == VDC_RC_OK || rc == VDC_RC_END);
    conn->written += head_len + body_len;
}

/* Bytes of answers that the client's side has taken (the queue counts TLS' own bytes too, so this
 * is only nearly so). */
static uint64_t bytes_out(const struct http_conn *conn)
{
    uint64_t queued = vdc_tls_queued(conn->tls);
    return conn->written > queued ? conn->written - queued : 0;
}

/* From now on the client has body_ms to take something of what is queued. */
static void await_progress(struct http_conn *conn)
{
    conn->progress = bytes_out(conn);
    set_deadline(conn, conn->server->config.body_ms);
}

/* What goes wrong before there is a request: answers and closes. */
static void refuse(struct http_conn *conn, int status, const char *text)
{
    vdc_auto(vdc_buf_deinit) struct vdc_buf head = {0};
    vdc_autofree char *body = vdc_asprintf(
        "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":\"%s\"}\n",
        vdc_http_status_text(status), status, text);
    put_head(&head, status, "application/problem+json", NULL, 0);
    vdc_buf_printf(&head, "Content-Length: %zu\r\nConnection: close\r\n\r\n", strlen(body));
    write_answer(conn, head.data, head.len, body, strlen(body));
    close_conn(conn);
}

/* The message is whole: it becomes a request and the connection waits for its answer. */
static void start_request(struct http_conn *conn)
{
    struct vdc_http_server *server = conn->server;
    struct http_request *request = VDC_NEW(struct http_request);
    struct vdc_http_request *public = &request->public;
    if (!http_message_method(&conn->message, &public->method)) {
        free(request);
        refuse(conn, 501, "the method is not served");
        return;
    }
    const struct vdc_buf *target = &conn->message.target;
    if (http_target_parse(&request->target, vdc_buf_text(target), target->len) != VDC_RC_OK) {
        http_target_deinit(&request->target);
        free(request);
        refuse(conn, 400, "the path or query is malformed");
        return;
    }
    request->magic = REQUEST_MAGIC;
    request->conn = conn;
    request->keep_alive = conn->message.keep_alive;
    request->chunked = !http_message_is_1_0(&conn->message);
    request->address = vdc_strdup(vdc_tls_address(conn->tls));
    request->message = conn->message;
    http_message_init(&conn->message, true, VDC_HTTP_BODY_MAX);
    public->path = request->target.path;
    public->target = vdc_buf_text(&request->message.target);
    public->body = vdc_buf_text(&request->message.body);
    public->body_len = request->message.body.len;
    public->peer = *vdc_tls_peer(conn->tls);
    public->address = request->address;
    conn->request = request;
    conn->state = CONN_HANDLING;
    server->config.on_request(server->config.data, public);
}

/* The head is known and a body is to come. */
static void greet_body(struct http_conn *conn)
{
    set_deadline(conn, conn->server->config.body_ms);
    const char *expect = http_message_field(&conn->message, "expect");
    if (expect == NULL) {
        return;
    }
    if (strcasecmp(expect, "100-continue") != 0) {
        refuse(conn, 417, "the only expectation known here is 100-continue");
        return;
    }
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    write_answer(conn, go_on, sizeof(go_on) - 1, NULL, 0);
}

static bool is_reading(const struct http_conn *conn)
{
    return conn->state == CONN_IDLE || conn->state == CONN_READING;
}

/* One step of the message that is being read; returns the bytes used. */
static size_t read_message(struct http_conn *conn, const char *bytes, size_t len)
{
    struct http_message *message = &conn->message;
    enum http_phase before = message->phase;
    size_t used = http_message_feed(message, bytes, len);
    if (conn->state == CONN_IDLE && message->phase != HTTP_IDLE) {
        conn->state = CONN_READING;
        set_deadline(conn, conn->server->config.head_ms);
    }
    switch (message->phase) {
    case HTTP_IDLE:
    case HTTP_IN_HEAD:
        break;
    case HTTP_IN_BODY:
        if (before != HTTP_IN_BODY) {
            greet_body(conn);
        }
        break;
    case HTTP_WHOLE:
        start_request(conn);
        break;
    case HTTP_BAD:
        refuse(conn, message->error_status, message->error_text);
        break;
    }
    return used;
}

/* Keeps what belongs to later requests, and stops reading when that is much. */
static void keep_input(struct http_conn *conn, const char *bytes, size_t len)
{
    vdc_buf_append(&conn->in, bytes, len);
    if (conn->in.len > VDC_HTTP_PIPELINE_MAX && !conn->paused) {
        conn->paused = true;
        vdc_tls_pause(conn->tls);
    }
}

static void process_input(struct http_conn *conn, const char *bytes, size_t len)
{
    size_t used = 0;
    conn->in_input = true;
    while (is_reading(conn) && used < len) {
        used += read_message(conn, bytes + used, len - used);
    }
    conn->in_input = false;
    if (conn->state == CONN_CLOSED) {
        free_conn(conn);
    } else if (used < len) {
        keep_input(conn, bytes + used, len - used);
    }
}

static void conn_on_data(void *data, struct vdc_tls *tls, const uint8_t *bytes, size_t len)
{
    (void)tls;
    struct http_conn *conn;
    VDC_CAST(conn, data, CONN_MAGIC);
    if (!is_reading(conn) || conn->in.len > 0) {
        keep_input(conn, (const char *)bytes, len);
    } else {
        process_input(conn, (const char *)bytes, len);
    }
}

/* After an answer: what came in meanwhile. */
static void conn_on_resumed(void *data, struct vdc_tls *tls)
{
    (void)tls;
    struct http_conn *conn;
    VDC_CAST(conn, data, CONN_MAGIC);
    if (!is_reading(conn) || conn->in.len == 0) {
        return;
    }
    struct vdc_buf in = conn->in;
    conn->in = (struct vdc_buf){0};
    process_input(conn, in.data, in.len);
    vdc_buf_deinit(&in);
}

/* The next request may come, or is in `in` already. */
static void enter_idle(struct http_conn *conn)
{
    conn->state = CONN_IDLE;
    set_deadline(conn, conn->server->config.idle_ms);
    if (conn->in.len > 0 || conn->paused) {
        conn->paused = false;
        vdc_tls_resume(conn->tls);
    }
}

static void conn_on_drained(void *data, struct vdc_tls *tls)
{
    (void)tls;
    struct http_conn *conn;
    VDC_CAST(conn, data, CONN_MAGIC);
    if (conn->state == CONN_DRAINING) {
        if (conn->close_after) {
            close_conn(conn);
        } else {
            enter_idle(conn);
        }
        return;
    }
    struct http_request *request = conn->request;
    if (conn->state == CONN_STREAMING && request->above_low) {
        request->above_low = false;
        if (request->public.on_drained != NULL) {
            request->public.on_drained(&request->public);
        }
    }
}

static void conn_on_down(void *data, struct vdc_tls *tls, const struct vdc_err *why)
{
    (void)tls;
    (void)why;
    struct http_conn *conn;
    VDC_CAST(conn, data, CONN_MAGIC);
    drop_conn(conn);
}

static const struct vdc_tls_handlers conn_handlers = {
    .on_data = conn_on_data,
    .on_resumed = conn_on_resumed,
    .on_drained = conn_on_drained,
    .on_down = conn_on_down,
};

static void on_accept(void *data, struct vdc_tls *tls)
{
    struct vdc_http_server *server;
    VDC_CAST(server, data, SERVER_MAGIC);
    struct http_conn *conn = VDC_NEW(struct http_conn);
    conn->magic = CONN_MAGIC;
    conn->server = server;
    conn->tls = tls;
    http_message_init(&conn->message, true, VDC_HTTP_BODY_MAX);
    set_deadline(conn, server->config.idle_ms);
    TAILQ_INSERT_TAIL(&server->conns, conn, entry);
    vdc_tls_set_handlers(tls, &conn_handlers, conn);
}

static void on_refused(void *data, const struct vdc_err *why)
{
    struct vdc_http_server *server;
    VDC_CAST(server, data, SERVER_MAGIC);
    if (server->config.on_refused != NULL) {
        server->config.on_refused(server->config.data, why);
    }
}

static void expire_conn(struct http_conn *conn)
{
    switch (conn->state) {
    case CONN_IDLE:
        close_conn(conn);
        return;
    case CONN_READING:
        refuse(conn, 408, "the request did not come in time");
        return;
    case CONN_STREAMING: /* its client reads nothing */
    case CONN_DRAINING:
        vdc_tls_abort(conn->tls);
        drop_conn(conn);
        return;
    case CONN_HANDLING:
    case CONN_CLOSED:
        return;
    }
}

static bool conn_expired(struct http_conn *conn, vdc_mono now)
{
    bool sending =
        conn->state == CONN_DRAINING || (conn->state == CONN_STREAMING && conn->request->above_low);
    if (!(is_reading(conn) || sending) || !vdc_mono_reached(now, conn->deadline)) {
        return false;
    }
    if (sending && bytes_out(conn) > conn->progress) { /* slow, but it reads */
        await_progress(conn);
        return false;
    }
    return true;
}

static void on_tick(uv_timer_t *timer)
{
    struct vdc_http_server *server;
    VDC_CAST(server, timer->data, SERVER_MAGIC);
    vdc_mono now = vdc_clock_mono();
    struct http_conn *conn = TAILQ_FIRST(&server->conns);
    while (conn != NULL) {
        struct http_conn *next = TAILQ_NEXT(conn, entry);
        if (conn_expired(conn, now)) {
            bool has_request = conn->request != NULL;
            expire_conn(conn);
            if (has_request) {
                return; /* on_gone may have closed anything, also the server; the rest next time */
            }
        }
        conn = next;
    }
}

enum vdc_rc vdc_http_server_open(struct vdc_tls_context *context,
                                 const struct vdc_http_server_config *config,
                                 struct vdc_http_server **out, struct vdc_err *err)
{
    struct vdc_http_server *server = VDC_NEW(struct vdc_http_server);
    server->magic = SERVER_MAGIC;
    server->config = *config;
    server->config.address = NULL;
    server->config.head_ms = config->head_ms != 0 ? config->head_ms : VDC_HTTP_HEAD_MS;
    server->config.body_ms = config->body_ms != 0 ? config->body_ms : VDC_HTTP_BODY_MS;
    server->config.idle_ms = config->idle_ms != 0 ? config->idle_ms : VDC_HTTP_IDLE_MS;
    TAILQ_INIT(&server->conns);
    struct vdc_tls_listen_config listen = {.address = config->address,
                                           .certificate_optional = config->certificate_optional,
                                           .connections_max = config->connections_max != 0
                                                                  ? config->connections_max
                                                                  : CONNECTIONS_MAX_DEFAULT,
                                           .on_accept = on_accept,
                                           .on_refused = on_refused,
                                           .data = server};
    enum vdc_rc rc = vdc_tls_listen(context, &listen, &server->listener, err);
    if (rc != VDC_RC_OK) {
        free(server);
        return rc;
    }
    server->context = vdc_tls_context_ref(context);
    uv_timer_init(vdc_tls_context_loop(context), &server->timer);
    server->timer.data = server;
    uv_timer_start(&server->timer, on_tick, TICK_MS, TICK_MS);
    uv_unref((uv_handle_t *)&server->timer);
    *out = server;
    return VDC_RC_OK;
}

uint16_t vdc_http_server_port(const struct vdc_http_server *server)
{
    return vdc_tls_listener_port(server->listener);
}

static void on_server_closed(uv_handle_t *handle)
{
    struct vdc_http_server *server;
    VDC_CAST(server, handle->data, SERVER_MAGIC);
    vdc_tls_context_unref(server->context);
    server->magic = 0;
    free(server);
}

void vdc_http_server_close(struct vdc_http_server *server)
{
    if (server == NULL) {
        return;
    }
    VDC_ASSERT(server->magic == SERVER_MAGIC && server->listener != NULL);
    vdc_tls_listener_close(server->listener);
    server->listener = NULL;
    struct http_conn *conn;
    while ((conn = TAILQ_FIRST(&server->conns)) != NULL) {
        close_conn(conn);
    }
    uv_close((uv_handle_t *)&server->timer, on_server_closed);
}

const char *vdc_http_request_header(const struct vdc_http_request *public, const char *name)
{
    const struct http_request *request = request_of(public);
    for (size_t i = 0; i < request->message.field_count; i++) {
        if (strcasecmp(request->message.fields[i].name, name) == 0) {
            return request->message.fields[i].value;
        }
    }
    return NULL;
}

const char *vdc_http_request_query(const struct vdc_http_request *public, const char *name)
{
    const struct http_target *target = &request_of(public)->target;
    for (size_t i = 0; i < target->query_count; i++) {
        if (strcmp(target->query[i].name, name) == 0) {
            return target->query[i].value;
        }
    }
    return NULL;
}

bool vdc_http_request_query_at(const struct vdc_http_request *public, size_t i, const char **name,
                               const char **value)
{
    const struct http_target *target = &request_of(public)->target;
    if (i >= target->query_count) {
        return false;
    }
    *name = target->query[i].name;
    *value = target->query[i].value;
    return true;
}

/* The answer is queued: the connection goes on with the next request or closes. */
static void finish_request(struct http_request *request)
{
    struct http_conn *conn = request->conn;
    bool keep_alive = request->keep_alive;
    conn->request = NULL;
    free_request(request);
    if (vdc_tls_queued(conn->tls) > VDC_TLS_QUEUE_LOW) { /* so a drained event is to come */
        conn->state = CONN_DRAINING;
        conn->close_after = !keep_alive;
        await_progress(conn);
    } else if (keep_alive) {
        enter_idle(conn);
    } else {
        close_conn(conn);
    }
}

void vdc_http_respond(struct vdc_http_request *public, int status, const char *content_type,
                      const void *body, size_t body_len, const struct vdc_http_header *headers,
                      size_t header_count)
{
    struct http_request *request = request_of(public);
    if (request->conn == NULL) {
        free_request(request);
        return;
    }
    struct http_conn *conn = request->conn;
    VDC_ASSERT(conn->state == CONN_HANDLING);
    vdc_auto(vdc_buf_deinit) struct vdc_buf head = {0};
    put_head(&head, status, content_type, headers, header_count);
    bool no_body = status == 204 || status == 304;
    if (!no_body) {
        vdc_buf_printf(&head, "Content-Length: %zu\r\n", body_len);
    }
    vdc_buf_puts(&head, request->keep_alive ? (request->chunked ? "" : "Connection: keep-alive\r\n")
                                            : "Connection: close\r\n");
    vdc_buf_puts(&head, "\r\n");
    bool send_body = !no_body && public->method != VDC_HTTP_HEAD;
    write_answer(conn, head.data, head.len, body, send_body ? body_len : 0);
    finish_request(request);
}

void vdc_http_request_drop(struct vdc_http_request *public)
{
    struct http_request *request = request_of(public);
    struct http_conn *conn = request->conn;
    free_request(request);
    if (conn != NULL) {
        conn->request = NULL;
        vdc_tls_abort(conn->tls);
        drop_conn(conn);
    }
}

void vdc_http_stream_begin(struct vdc_http_request *public, int status, const char *content_type,
                           const struct vdc_http_header *headers, size_t header_count)
{
    struct http_request *request = request_of(public);
    if (request->conn == NULL) {
        return;
    }
    struct http_conn *conn = request->conn;
    VDC_ASSERT(conn->state == CONN_HANDLING);
    vdc_auto(vdc_buf_deinit) struct vdc_buf head = {0};
    put_head(&head, status, content_type, headers, header_count);
    if (request->chunked) {
        vdc_buf_puts(&head, "Transfer-Encoding: chunked\r\n");
    } else {
        request->keep_alive = false;
    }
    vdc_buf_puts(&head, request->keep_alive ? "\r\n" : "Connection: close\r\n\r\n");
    write_answer(conn, head.data, head.len, NULL, 0);
    conn->state = CONN_STREAMING;
}

enum vdc_rc vdc_http_stream_write(struct vdc_http_request *public, const void *data, size_t len)
{
    struct http_request *request = request_of(public);
    if (request->conn == NULL) {
        return VDC_RC_END;
    }
    struct http_conn *conn = request->conn;
    VDC_ASSERT(conn->state == CONN_STREAMING);
    if (len == 0 || public->method == VDC_HTTP_HEAD) {
        return VDC_RC_OK; /* an empty chunk would be the end */
    }
    size_t queued = vdc_tls_queued(conn->tls);
    /* Only above the low mark is there still a drained event to come. */
    if (queued > VDC_TLS_QUEUE_LOW && queued + len > VDC_HTTP_STREAM_QUEUE_MAX) {
        return VDC_RC_LIMIT;
    }
    vdc_auto(vdc_buf_deinit) struct vdc_buf chunk = {0};
    if (request->chunked) {
        vdc_buf_printf(&chunk, "%zx\r\n", len);
    }
    vdc_buf_append(&chunk, data, len);
    if (request->chunked) {
        vdc_buf_puts(&chunk, "\r\n");
    }
    if (queued + chunk.len > VDC_TLS_QUEUE_LOW && !request->above_low) {
        request->above_low = true;
        await_progress(conn);
    }
    write_answer(conn, chunk.data, chunk.len, NULL, 0);
    return VDC_RC_OK;
}

void vdc_http_stream_end(struct vdc_http_request *public)
{
    struct http_request *request = request_of(public);
    if (request->conn == NULL) {
        free_request(request);
        return;
    }
    VDC_ASSERT(request->conn->state == CONN_STREAMING);
    if (request->chunked && public->method != VDC_HTTP_HEAD) {
        write_answer(request->conn, "0\r\n\r\n", 5, NULL, 0);
    }
    finish_request(request);
}
