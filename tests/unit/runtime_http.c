/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime_support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/http_client.h>

/* An answer of /big. */
#define BIG_BYTES (1 << 20)

struct world {
    struct test_loop t;
    struct vdc_tls_context *manager;
    struct vdc_tls_context *user;
    struct vdc_http_server *server;
    int requests;
    int gone;
    int drained;
    int refused;
    struct vdc_http_request *held; /* /hold: answered by the test */
    struct vdc_buf seen;           /* METHOD PATH BODY; ... */
};

static void on_gone(struct vdc_http_request *request)
{
    struct world *w = request->data;
    w->gone++;
}

static void on_drained(struct vdc_http_request *request)
{
    struct world *w = request->data;
    w->drained++;
}

static void on_request(void *data, struct vdc_http_request *request)
{
    struct world *w = data;
    w->requests++;
    vdc_buf_printf(&w->seen, "%s %s %s;", vdc_http_method_name(request->method), request->path,
                   request->body_len < 100 ? request->body : "(long)");
    if (strcmp(request->path, "/hold") == 0) {
        request->data = w;
        request->on_gone = on_gone;
        request->on_drained = on_drained;
        w->held = request;
        return;
    }
    if (strcmp(request->path, "/drop") == 0) {
        vdc_http_request_drop(request);
        return;
    }
    if (strcmp(request->path, "/big") == 0) {
        static char big[BIG_BYTES];
        memset(big, 'b', sizeof(big));
        vdc_http_respond(request, 200, "text/plain", big, sizeof(big), NULL, 0);
        return;
    }
    if (strcmp(request->path, "/who") == 0) {
        char text[VDC_PEER_TEXT_CAP];
        vdc_peer_to_text(&request->peer, text);
        const char *query = vdc_http_request_query(request, "q");
        const char *header = vdc_http_request_header(request, "x-TEST");
        vdc_autofree char *body =
            vdc_asprintf("%s q=%s x=%s len=%zu", text, query != NULL ? query : "-",
                         header != NULL ? header : "-", request->body_len);
        struct vdc_http_header extra = {"X-Extra", "yes"};
        vdc_http_respond(request, 200, "text/plain", body, strlen(body), &extra, 1);
        return;
    }
    vdc_http_respond(request, 404, "text/plain", "no\n", 3, NULL, 0);
}

static void on_refused(void *data, const struct vdc_err *why)
{
    (void)why;
    ((struct world *)data)->refused++;
}

static void open_world_with(struct world *w, bool optional, uint32_t ms)
{
    memset(w, 0, sizeof(*w));
    test_loop_open(&w->t);
    w->manager = test_context(&w->t, "m1", "http/1.1");
    w->user = test_context(&w->t, "alice", "http/1.1");
    struct vdc_http_server_config config = {.address = "127.0.0.1:0",
                                            .certificate_optional = optional,
                                            .on_request = on_request,
                                            .on_refused = on_refused,
                                            .data = w,
                                            .head_ms = ms,
                                            .body_ms = ms,
                                            .idle_ms = ms};
    struct vdc_err err;
    enum vdc_rc rc = vdc_http_server_open(w->manager, &config, &w->server, &err);
    cr_assert_eq(rc, VDC_RC_OK, "%s", vdc_err_text(&err));
}

static void open_world(struct world *w)
{
    open_world_with(w, false, 0);
}

static void close_world(struct world *w)
{
    vdc_http_server_close(w->server);
    vdc_tls_context_unref(w->manager);
    vdc_tls_context_unref(w->user);
    test_loop_close(&w->t);
    vdc_buf_deinit(&w->seen);
}

/* A client that sends any bytes and keeps all that comes back. */
struct raw {
    struct vdc_tls *tls;
    bool down;
    struct vdc_buf got;
};

static void raw_on_up(void *data, struct vdc_tls *tls)
{
    (void)data;
    (void)tls;
}

static void raw_on_data(void *data, struct vdc_tls *tls, const uint8_t *bytes, size_t len)
{
    (void)tls;
    vdc_buf_append(&((struct raw *)data)->got, bytes, len);
}

static void raw_on_down(void *data, struct vdc_tls *tls, const struct vdc_err *why)
{
    (void)tls;
    (void)why;
    ((struct raw *)data)->down = true;
}

static const struct vdc_tls_handlers raw_handlers = {
    .on_up = raw_on_up, .on_data = raw_on_data, .on_down = raw_on_down};

static void raw_open(struct world *w, struct raw *raw)
{
    memset(raw, 0, sizeof(*raw));
    struct vdc_peer manager = test_peer("vdc://manager/m1");
    cr_assert_eq(vdc_tls_dial(w->user, test_address(vdc_http_server_port(w->server)), &manager,
                              &raw_handlers, raw, &raw->tls, NULL),
                 VDC_RC_OK);
}

static void raw_send(struct raw *raw, const char *text)
{
    cr_assert_eq(vdc_tls_write(raw->tls, text, strlen(text)), VDC_RC_OK);
}

static int count_text(const struct raw *raw, const char *text)
{
    int count = 0;
    for (const char *at = vdc_buf_text(&raw->got); (at = strstr(at, text)) != NULL; at++) {
        count++;
    }
    return count;
}

static bool wait_text(struct world *w, const struct raw *raw, const char *text, int wanted)
{
    for (int i = 0; i < 2000 && count_text(raw, text) < wanted; i++) {
        test_run_for(&w->t, 5);
    }
    return count_text(raw, text) >= wanted;
}

/* Sends `text`, expects `status` in the answer, and that the server closes. */
static void expect_refusal(const char *text, const char *status)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    raw_send(&raw, text);
    cr_assert(test_run_until(&w.t, &raw.down));
    vdc_autofree char *line = vdc_asprintf("HTTP/1.1 %s", status);
    cr_assert_eq(strncmp(vdc_buf_text(&raw.got), line, strlen(line)), 0, "wanted %s, got: %s",
                 status, vdc_buf_text(&raw.got));
    cr_assert_eq(w.requests, 0);
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

#define HOST "Host: x\r\n"

Test(http, answers_and_keeps_the_connection)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    raw_send(&raw, "GET /who?q=a%20b+c HTTP/1.1\r\n" HOST "X-Test: one\r\nx-test: two\r\n\r\n");
    cr_assert(wait_text(&w, &raw, "vdc://user/alice q=a b c x=one, two len=0", 1), "%s",
              vdc_buf_text(&raw.got));
    cr_assert_eq(count_text(&raw, "X-Extra: yes\r\n"), 1);
    cr_assert_eq(count_text(&raw, "Connection: close"), 0);
    raw_send(&raw, "POST /who HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc");
    cr_assert(wait_text(&w, &raw, "len=3", 1));
    raw_send(&raw, "GET /nothing HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    cr_assert(test_run_until(&w.t, &raw.down));
    cr_assert_eq(count_text(&raw, "HTTP/1.1 404 Not Found"), 1);
    cr_assert_eq(count_text(&raw, "Connection: close"), 1);
    cr_assert_eq(w.requests, 3);
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

Test(http, takes_a_request_byte_by_byte)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    const char *text =
        "PUT /who HTTP/1.1\r\n" HOST
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n";
    for (const char *c = text; *c != '\0'; c++) {
        cr_assert_eq(vdc_tls_write(raw.tls, c, 1), VDC_RC_OK);
        uv_run(&w.t.loop, UV_RUN_NOWAIT);
    }
    cr_assert(wait_text(&w, &raw, "len=5", 1), "%s", vdc_buf_text(&raw.got));
    cr_assert_str_eq(vdc_buf_text(&w.seen), "PUT /who abcde;");
    vdc_tls_close(raw.tls);
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

Test(http, answers_pipelined_requests_in_order_also_when_the_first_takes_long)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    raw_send(&raw, "GET /hold HTTP/1.1\r\n" HOST "\r\n"
                   "POST /who?q=2 HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nxx"
                   "GET /who?q=3 HTTP/1.1\r\n" HOST "\r\n");
    cr_assert(test_run_until_count(&w.t, &w.requests, 1));
    test_run_for(&w.t, 50);
    cr_assert_eq(w.requests, 1, "the second waits for the first");
    vdc_http_respond(w.held, 200, "text/plain", "first", 5, NULL, 0);
    cr_assert(test_run_until_count(&w.t, &w.requests, 3));
    cr_assert(wait_text(&w, &raw, "q=3", 1));
    const char *text = vdc_buf_text(&raw.got);
    cr_assert_lt(strstr(text, "first"), strstr(text, "q=2"));
    cr_assert_lt(strstr(text, "q=2"), strstr(text, "q=3"));
    vdc_tls_close(raw.tls);
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

Test(http, stops_reading_when_too_much_is_pipelined)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    raw_send(&raw, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    cr_assert(test_run_until_count(&w.t, &w.requests, 1));
    /* More than the kernel keeps on the way, so that what is not read stays with its sender. */
    vdc_autofree char *body = vdc_calloc(1, 1 << 20);
    int sent = 15;
    for (int i = 0; i < sent; i++) {
        raw_send(&raw, "POST /who HTTP/1.1\r\n" HOST "Content-Length: 1048576\r\n\r\n");
        cr_assert_eq(vdc_tls_write(raw.tls, body, 1 << 20), VDC_RC_OK);
    }
    test_run_for(&w.t, 300);
    cr_assert_gt(vdc_tls_queued(raw.tls), 0);
    vdc_http_respond(w.held, 200, NULL, NULL, 0, NULL, 0);
    cr_assert(test_run_until_count(&w.t, &w.requests, 1 + sent));
    cr_assert(wait_text(&w, &raw, "HTTP/1.1 200 OK", 1 + sent));
    vdc_tls_close(raw.tls);
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

Test(http, answers_no_more_while_its_answers_are_not_read)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    raw_send(&raw, "GET /who HTTP/1.1\r\n" HOST "\r\n");
    cr_assert(wait_text(&w, &raw, "len=0", 1));
    vdc_tls_pause(raw.tls);
    int asked = 32; /* far more than the kernel keeps on the way */
    for (int i = 0; i < asked; i++) {
        raw_send(&raw, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    }
    raw_send(&raw, "POST /who?q=last HTTP/1.1\r\n" HOST
                   "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx");
    test_run_for(&w.t, 300);
    cr_assert_lt(w.requests, asked / 2);
    vdc_tls_resume(raw.tls);
    cr_assert(wait_text(&w, &raw, "q=last", 1));
    cr_assert_eq(w.requests, asked + 2);
    cr_assert_gt(raw.got.len, (size_t)asked * BIG_BYTES);
    vdc_tls_close(raw.tls);
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

Test(http, ends_the_connection_of_a_client_that_takes_nothing)
{
    struct world w;
    struct raw raw;
    open_world_with(&w, false, 200);
    raw_open(&w, &raw);
    for (int i = 0; i < 64; i++) {
        raw_send(&raw, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    }
    cr_assert(test_run_until_count(&w.t, &w.requests, 1));
    vdc_tls_pause(raw.tls);
    test_run_for(&w.t, 1500);
    vdc_tls_resume(raw.tls);
    cr_assert(test_run_until(&w.t, &raw.down));
    cr_assert_lt(w.requests, 64);
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

Test(http, sends_a_long_last_answer_whole_before_it_closes)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    raw_send(&raw, "GET /big HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    cr_assert(test_run_until(&w.t, &raw.down));
    cr_assert_gt(raw.got.len, BIG_BYTES);
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

Test(http, greets_a_body_behind_an_answer_that_is_still_queued)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    raw_send(&raw,
             "GET /nothing HTTP/1.1\r\n" HOST "\r\n"
             "POST /who HTTP/1.1\r\n" HOST "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    cr_assert(wait_text(&w, &raw, "HTTP/1.1 100 Continue\r\n\r\n", 1));
    raw_send(&raw, "ok");
    cr_assert(wait_text(&w, &raw, "len=2", 1));
    vdc_tls_close(raw.tls);
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

Test(http, tells_the_handler_when_the_client_is_gone_and_takes_its_answer_all_the_same)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    raw_send(&raw, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    cr_assert(test_run_until_count(&w.t, &w.requests, 1));
    vdc_tls_close(raw.tls);
    cr_assert(test_run_until_count(&w.t, &w.gone, 1));
    cr_assert(w.held->gone);
    vdc_http_respond(w.held, 200, "text/plain", "late", 4, NULL, 0);
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

Test(http, may_be_closed_while_requests_are_handled)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    raw_send(&raw, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    cr_assert(test_run_until_count(&w.t, &w.requests, 1));
    vdc_http_server_close(w.server);
    w.server = NULL;
    cr_assert_eq(w.gone, 1);
    vdc_http_respond(w.held, 200, NULL, NULL, 0, NULL, 0);
    cr_assert(test_run_until(&w.t, &raw.down));
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

Test(http, ends_the_connection_of_a_dropped_request)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    raw_send(&raw, "GET /drop HTTP/1.1\r\n" HOST "\r\nGET /who HTTP/1.1\r\n" HOST "\r\n");
    cr_assert(test_run_until(&w.t, &raw.down));
    cr_assert_eq(raw.got.len, 0);
    cr_assert_eq(w.requests, 1);
    close_world(&w);
}

Test(http, greets_a_body_that_waits_for_it)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    raw_send(&raw,
             "POST /who HTTP/1.1\r\n" HOST "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    cr_assert(wait_text(&w, &raw, "HTTP/1.1 100 Continue\r\n\r\n", 1));
    raw_send(&raw, "ok");
    cr_assert(wait_text(&w, &raw, "len=2", 1));
    vdc_tls_close(raw.tls);
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

Test(http, answers_head_without_the_body)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    raw_send(&raw, "HEAD /nothing HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    cr_assert(test_run_until(&w.t, &raw.down));
    cr_assert_eq(count_text(&raw, "Content-Length: 3\r\n"), 1);
    cr_assert_eq(count_text(&raw, "no\n"), 0);
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

Test(http, streams_in_chunks_and_says_when_the_client_is_slow)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    raw_send(&raw, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    cr_assert(test_run_until_count(&w.t, &w.requests, 1));
    vdc_http_stream_begin(w.held, 200, "text/event-stream", NULL, 0);
    cr_assert_eq(vdc_http_stream_write(w.held, "hello", 5), VDC_RC_OK);
    cr_assert(wait_text(&w, &raw, "5\r\nhello\r\n", 1));
    vdc_tls_pause(raw.tls);
    vdc_autofree char *piece = vdc_calloc(1, 100000);
    memset(piece, 'p', 100000);
    size_t written = 0;
    for (int i = 0; i < 5000; i++) {
        enum vdc_rc rc = vdc_http_stream_write(w.held, piece, 100000);
        if (rc == VDC_RC_LIMIT) {
            test_run_for(&w.t, 2);
            rc = vdc_http_stream_write(w.held, piece, 100000);
        }
        if (rc == VDC_RC_LIMIT) {
            break;
        }
        written += 100000;
    }
    cr_assert_eq(vdc_http_stream_write(w.held, piece, 100000), VDC_RC_LIMIT);
    int drained = w.drained;
    vdc_tls_resume(raw.tls);
    cr_assert(test_run_until_count(&w.t, &w.drained, drained + 1));
    vdc_http_stream_end(w.held);
    cr_assert(wait_text(&w, &raw, "\r\n0\r\n\r\n", 1));
    size_t found = 0;
    for (size_t i = 0; i < raw.got.len; i++) {
        found += raw.got.data[i] == 'p';
    }
    cr_assert_geq(found, written);
    raw_send(&raw, "GET /who HTTP/1.1\r\n" HOST "\r\n");
    cr_assert(wait_text(&w, &raw, "len=0", 1));
    vdc_tls_close(raw.tls);
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

Test(http, refuses_a_length_together_with_chunks)
{
    expect_refusal("POST /who HTTP/1.1\r\n" HOST
                   "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                   "400");
    expect_refusal("POST /who HTTP/1.1\r\n" HOST
                   "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
                   "400");
}

Test(http, refuses_two_lengths_and_odd_ones)
{
    expect_refusal("POST /who HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
                   "400");
    expect_refusal("POST /who HTTP/1.1\r\n" HOST "Content-Length: 1, 1\r\n\r\nx", "400");
    expect_refusal("POST /who HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\nx", "400");
    expect_refusal("POST /who HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\nx", "400");
    expect_refusal("POST /who HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999999\r\n\r\nx",
                   "400");
}

Test(http, refuses_transfer_codings_other_than_chunked)
{
    expect_refusal("POST /who HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", "501");
    expect_refusal("POST /who HTTP/1.1\r\n" HOST
                   "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
                   "400");
    expect_refusal("POST /who HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                   "400");
}

Test(http, refuses_lines_that_parsers_disagree_about)
{
    expect_refusal("GET /who HTTP/1.1\nHost: x\n\n", "400");
    expect_refusal("GET /who HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", "400");
    expect_refusal("GET /who HTTP/1.1\r\n" HOST "X: y\r\n z\r\n\r\n", "400");
    expect_refusal("GET /who HTTP/1.1\r\nHost : x\r\n\r\n", "400");
    expect_refusal("GET /who HTTP/1.1\r\n: x\r\n" HOST "\r\n", "400");
    expect_refusal("GET  /who HTTP/1.1\r\n" HOST "\r\n", "400");
}

Test(http, wants_exactly_one_host)
{
    expect_refusal("GET /who HTTP/1.1\r\n\r\n", "400");
    expect_refusal("GET /who HTTP/1.1\r\n" HOST HOST "\r\n", "400");
}

Test(http, refuses_bad_paths_and_escapes)
{
    expect_refusal("GET who HTTP/1.1\r\n" HOST "\r\n", "400");
    expect_refusal("GET /a%00b HTTP/1.1\r\n" HOST "\r\n", "400");
    expect_refusal("GET /a%2Fb HTTP/1.1\r\n" HOST "\r\n", "400");
    expect_refusal("GET /a%4 HTTP/1.1\r\n" HOST "\r\n", "400");
    expect_refusal("GET /a%zz HTTP/1.1\r\n" HOST "\r\n", "400");
    expect_refusal("GET /a%c0%af HTTP/1.1\r\n" HOST "\r\n", "400");
    expect_refusal("GET /who?q=%0a HTTP/1.1\r\n" HOST "\r\n", "400");
}

Test(http, refuses_methods_and_versions_it_does_not_serve)
{
    expect_refusal("BREW /who HTTP/1.1\r\n" HOST "\r\n", "501");
    expect_refusal("TRACE /who HTTP/1.1\r\n" HOST "\r\n", "501");
    expect_refusal("CONNECT x:1 HTTP/1.1\r\n" HOST "\r\n", "501");
    expect_refusal("GET /who HTTP/2.0\r\n" HOST "\r\n", "505");
    expect_refusal("\x16\x03\x01 garbage x\r\n\r\n", "501");
}

Test(http, refuses_a_body_over_the_limit_before_it_has_come)
{
    vdc_autofree char *text =
        vdc_asprintf("POST /who HTTP/1.1\r\n" HOST "Content-Length: %u\r\n\r\n",
                     (unsigned)VDC_HTTP_BODY_MAX + 1);
    expect_refusal(text, "413");
}

Test(http, refuses_chunks_that_add_up_to_more_than_the_limit)
{
    struct vdc_buf text = {0};
    vdc_buf_puts(&text, "POST /who HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    vdc_autofree char *piece = vdc_calloc(1, 0x10001);
    memset(piece, 'c', 0x10000);
    for (size_t sum = 0; sum <= VDC_HTTP_BODY_MAX; sum += 0x10000) {
        vdc_buf_printf(&text, "10000\r\n%s\r\n", piece);
    }
    expect_refusal(text.data, "413");
    vdc_buf_deinit(&text);
}

Test(http, refuses_heads_over_the_limits)
{
    struct vdc_buf text = {0};
    vdc_buf_puts(&text, "GET /who HTTP/1.1\r\n" HOST);
    for (int i = 0; i < VDC_HTTP_HEADERS_MAX; i++) {
        vdc_buf_printf(&text, "X-%d: y\r\n", i);
    }
    vdc_buf_puts(&text, "\r\n");
    expect_refusal(text.data, "431");
    vdc_buf_clear(&text);
    vdc_buf_puts(&text, "GET /who HTTP/1.1\r\n" HOST "X: ");
    for (size_t i = 0; i < VDC_HTTP_HEAD_MAX; i++) {
        vdc_buf_puts(&text, "y");
    }
    expect_refusal(text.data, "431");
    vdc_buf_deinit(&text);
}

Test(http, answers_408_to_a_slow_head_and_a_slow_body_and_closes_an_idle_connection)
{
    struct world w;
    struct raw head;
    struct raw body;
    struct raw idle;
    open_world_with(&w, false, 200);
    raw_open(&w, &head);
    raw_open(&w, &body);
    raw_open(&w, &idle);
    raw_send(&head, "GET /who HT");
    raw_send(&body, "POST /who HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nab");
    cr_assert(test_run_until(&w.t, &head.down));
    cr_assert(test_run_until(&w.t, &body.down));
    cr_assert(test_run_until(&w.t, &idle.down));
    cr_assert_eq(count_text(&head, "HTTP/1.1 408"), 1);
    cr_assert_eq(count_text(&body, "HTTP/1.1 408"), 1);
    cr_assert_eq(idle.got.len, 0);
    cr_assert_eq(w.requests, 0);
    vdc_buf_deinit(&head.got);
    vdc_buf_deinit(&body.got);
    close_world(&w);
}

Test(http, forgets_a_request_that_is_cut_off)
{
    struct world w;
    struct raw raw;
    open_world(&w);
    raw_open(&w, &raw);
    raw_send(&raw, "POST /who HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nab");
    test_run_for(&w.t, 50);
    vdc_tls_close(raw.tls);
    test_run_for(&w.t, 50);
    cr_assert_eq(w.requests, 0);
    vdc_buf_deinit(&raw.got);
    close_world(&w);
}

/* The client. */

struct call {
    bool done;
    enum vdc_rc rc;
    int status;
    char body[256];
    char extra[32];
    struct vdc_err why;
};

static void on_done(void *data, enum vdc_rc rc, const struct vdc_http_response *response,
                    const struct vdc_err *why)
{
    struct call *call = data;
    call->done = true;
    call->rc = rc;
    if (rc == VDC_RC_OK) {
        call->status = response->status;
        snprintf(call->body, sizeof(call->body), "%s", response->body);
        const char *extra = vdc_http_response_header(response, "X-EXTRA");
        snprintf(call->extra, sizeof(call->extra), "%s", extra != NULL ? extra : "");
    } else {
        call->why = *why;
    }
}

static struct vdc_http_call *send_call(struct world *w, struct vdc_http_client *client,
                                       struct call *call, enum vdc_http_method method,
                                       const char *target, const char *expected, int64_t timeout_ms)
{
    memset(call, 0, sizeof(*call));
    struct vdc_http_header header = {"X-Test", "fwd"};
    struct vdc_http_call_config config = {.method = method,
                                          .address = test_address(vdc_http_server_port(w->server)),
                                          .expected = test_peer(expected),
                                          .target = target,
                                          .headers = &header,
                                          .header_count = 1,
                                          .body = "{}",
                                          .body_len = method == VDC_HTTP_POST ? 2 : 0,
                                          .timeout_ms = timeout_ms};
    struct vdc_http_call *out = NULL;
    struct vdc_err err;
    enum vdc_rc rc = vdc_http_client_send(client, &config, on_done, call, &out, &err);
    cr_assert_eq(rc, VDC_RC_OK, "%s", vdc_err_text(&err));
    return out;
}

Test(http_client, calls_and_uses_its_connection_again)
{
    struct world w;
    struct call call;
    open_world(&w);
    struct vdc_http_client *client = vdc_http_client_create(w.user);
    for (int i = 0; i < 3; i++) {
        send_call(&w, client, &call, VDC_HTTP_POST, "/who?q=1", "vdc://manager/m1", 0);
        cr_assert(test_run_until(&w.t, &call.done));
        cr_assert_eq(call.rc, VDC_RC_OK, "%s", call.why.text);
        cr_assert_eq(call.status, 200);
        cr_assert_str_eq(call.body, "vdc://user/alice q=1 x=fwd len=2");
        cr_assert_str_eq(call.extra, "yes");
    }
    send_call(&w, client, &call, VDC_HTTP_HEAD, "/who", "vdc://manager/m1", 0);
    cr_assert(test_run_until(&w.t, &call.done));
    cr_assert_eq(call.status, 200);
    cr_assert_str_eq(call.body, "");
    send_call(&w, client, &call, VDC_HTTP_GET, "/nothing", "vdc://manager/m1", 0);
    cr_assert(test_run_until(&w.t, &call.done));
    cr_assert_eq(call.status, 404);
    vdc_http_client_destroy(client);
    close_world(&w);
}

Test(http_client, reads_a_stream)
{
    struct world w;
    struct call call;
    open_world(&w);
    struct vdc_http_client *client = vdc_http_client_create(w.user);
    send_call(&w, client, &call, VDC_HTTP_GET, "/hold", "vdc://manager/m1", 0);
    cr_assert(test_run_until_count(&w.t, &w.requests, 1));
    vdc_http_stream_begin(w.held, 200, "text/plain", NULL, 0);
    cr_assert_eq(vdc_http_stream_write(w.held, "one ", 4), VDC_RC_OK);
    cr_assert_eq(vdc_http_stream_write(w.held, "two", 3), VDC_RC_OK);
    vdc_http_stream_end(w.held);
    cr_assert(test_run_until(&w.t, &call.done));
    cr_assert_str_eq(call.body, "one two");
    vdc_http_client_destroy(client);
    close_world(&w);
}

Test(http_client, says_what_is_known_of_the_outcome)
{
    struct world w;
    struct call call;
    open_world(&w);
    struct vdc_http_client *client = vdc_http_client_create(w.user);
    send_call(&w, client, &call, VDC_HTTP_POST, "/drop", "vdc://manager/m1", 0);
    cr_assert(test_run_until(&w.t, &call.done));
    cr_assert_eq(call.rc, VDC_RC_UNKNOWN_OUTCOME, "%s", call.why.text);
    send_call(&w, client, &call, VDC_HTTP_GET, "/drop", "vdc://manager/m1", 0);
    cr_assert(test_run_until(&w.t, &call.done));
    cr_assert_eq(call.rc, VDC_RC_UNAVAILABLE, "%s", call.why.text);
    send_call(&w, client, &call, VDC_HTTP_POST, "/who", "vdc://manager/m2", 0);
    cr_assert(test_run_until(&w.t, &call.done));
    cr_assert_eq(call.rc, VDC_RC_UNAUTHENTICATED, "%s", call.why.text);
    send_call(&w, client, &call, VDC_HTTP_POST, "/hold", "vdc://manager/m1", 300);
    cr_assert(test_run_until(&w.t, &call.done));
    cr_assert_eq(call.rc, VDC_RC_UNKNOWN_OUTCOME, "%s", call.why.text);
    cr_assert(test_run_until_count(&w.t, &w.gone, 1));
    vdc_http_request_drop(w.held);
    send_call(&w, client, &call, VDC_HTTP_GET, "/hold", "vdc://manager/m1", 300);
    cr_assert(test_run_until(&w.t, &call.done));
    cr_assert_eq(call.rc, VDC_RC_TIMEOUT, "%s", call.why.text);
    vdc_http_request_drop(w.held);
    vdc_http_client_destroy(client);
    close_world(&w);
}

Test(http_client, reports_a_server_that_is_not_there)
{
    struct world w;
    struct call call = {0};
    open_world(&w);
    struct vdc_http_client *client = vdc_http_client_create(w.user);
    struct vdc_http_call_config config = {.address = "127.0.0.1:1", .target = "/who"};
    cr_assert_eq(vdc_http_client_send(client, &config, on_done, &call, NULL, NULL), VDC_RC_OK);
    cr_assert(test_run_until(&w.t, &call.done));
    cr_assert_eq(call.rc, VDC_RC_UNAVAILABLE, "%s", call.why.text);
    config.target = "/a b";
    cr_assert_eq(vdc_http_client_send(client, &config, on_done, &call, NULL, NULL), VDC_RC_INVALID);
    struct vdc_http_header evil = {"X", "a\r\nY: b"};
    config.target = "/";
    config.headers = &evil;
    config.header_count = 1;
    cr_assert_eq(vdc_http_client_send(client, &config, on_done, &call, NULL, NULL), VDC_RC_INVALID);
    vdc_http_client_destroy(client);
    close_world(&w);
}

Test(http_client, forgets_a_call_that_is_cancelled)
{
    struct world w;
    struct call call;
    open_world(&w);
    struct vdc_http_client *client = vdc_http_client_create(w.user);
    struct vdc_http_call *running =
        send_call(&w, client, &call, VDC_HTTP_GET, "/hold", "vdc://manager/m1", 0);
    cr_assert(test_run_until_count(&w.t, &w.requests, 1));
    vdc_http_call_cancel(running);
    cr_assert(test_run_until_count(&w.t, &w.gone, 1));
    vdc_http_respond(w.held, 200, NULL, NULL, 0, NULL, 0);
    cr_assert_not(call.done);
    vdc_http_client_destroy(client);
    close_world(&w);
}

/* A server that answers as soon as the first bytes are there, and then reads no more. */
struct hasty {
    int connections;
    struct vdc_tls *tls[4];
};

static void hasty_on_data(void *data, struct vdc_tls *tls, const uint8_t *bytes, size_t len)
{
    (void)data;
    (void)bytes;
    (void)len;
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    cr_assert_eq(vdc_tls_write(tls, answer, sizeof(answer) - 1), VDC_RC_OK);
    vdc_tls_pause(tls);
}

static void hasty_on_down(void *data, struct vdc_tls *tls, const struct vdc_err *why)
{
    (void)data;
    (void)tls;
    (void)why;
}

static const struct vdc_tls_handlers hasty_handlers = {.on_data = hasty_on_data,
                                                       .on_down = hasty_on_down};

static void hasty_on_accept(void *data, struct vdc_tls *tls)
{
    struct hasty *hasty = data;
    hasty->tls[hasty->connections++] = tls;
    vdc_tls_set_handlers(tls, &hasty_handlers, hasty);
}

Test(http_client, asks_nothing_behind_a_question_that_was_answered_before_it_was_out)
{
    struct world w;
    struct hasty hasty = {0};
    struct vdc_tls_listener *listener;
    open_world(&w);
    struct vdc_tls_listen_config listen = {
        .address = "127.0.0.1:0", .on_accept = hasty_on_accept, .data = &hasty};
    cr_assert_eq(vdc_tls_listen(w.manager, &listen, &listener, NULL), VDC_RC_OK);
    struct vdc_http_client *client = vdc_http_client_create(w.user);
    size_t len = 32u << 20; /* more than the kernel keeps on the way */
    vdc_autofree char *body = vdc_calloc(1, len);
    struct vdc_http_call_config config = {.method = VDC_HTTP_POST,
                                          .address = test_address(vdc_tls_listener_port(listener)),
                                          .target = "/who",
                                          .body = body,
                                          .body_len = len};
    for (int i = 1; i <= 2; i++) {
        struct call call = {0};
        cr_assert_eq(vdc_http_client_send(client, &config, on_done, &call, NULL, NULL), VDC_RC_OK);
        cr_assert(test_run_until(&w.t, &call.done));
        cr_assert_eq(call.rc, VDC_RC_OK, "%s", call.why.text);
        cr_assert_str_eq(call.body, "ok");
        cr_assert_eq(hasty.connections, i);
        config.body_len = 2;
    }
    vdc_http_client_destroy(client);
    for (int i = 0; i < hasty.connections; i++) {
        vdc_tls_abort(hasty.tls[i]);
    }
    vdc_tls_listener_close(listener);
    close_world(&w);
}
