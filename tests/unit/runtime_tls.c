/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of links and HTTP don't reach: who is refused and how it reads, garbage, half-close. */
#include "runtime_support.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vdc/base.h>

struct end {
    struct vdc_tls *tls;
    int ups;
    int ends;
    int downs;
    int drains;
    bool close_on_data;
    struct vdc_buf got;
    struct vdc_err why;
};

static void end_on_up(void *data, struct vdc_tls *tls)
{
    struct end *end = data;
    end->ups++;
    end->tls = tls;
}

static void end_on_data(void *data, struct vdc_tls *tls, const uint8_t *bytes, size_t len)
{
    struct end *end = data;
    vdc_buf_append(&end->got, bytes, len);
    if (end->close_on_data) {
        end->tls = NULL;
        vdc_tls_close(tls);
    }
}

static void end_on_end(void *data, struct vdc_tls *tls)
{
    (void)tls;
    ((struct end *)data)->ends++;
}

static void end_on_drained(void *data, struct vdc_tls *tls)
{
    (void)tls;
    ((struct end *)data)->drains++;
}

static void end_on_down(void *data, struct vdc_tls *tls, const struct vdc_err *why)
{
    (void)tls;
    struct end *end = data;
    end->downs++;
    end->why = *why;
    end->tls = NULL;
}

static const struct vdc_tls_handlers end_handlers = {.on_up = end_on_up,
                                                     .on_data = end_on_data,
                                                     .on_end = end_on_end,
                                                     .on_drained = end_on_drained,
                                                     .on_down = end_on_down};

struct world {
    struct test_loop t;
    struct vdc_tls_context *node;
    struct vdc_tls_context *manager;
    struct vdc_tls_listener *listener;
    struct end client;
    struct end server;
    int refusals;
    struct vdc_err refused;
};

static void on_accept(void *data, struct vdc_tls *tls)
{
    struct world *w = data;
    w->server.ups++;
    w->server.tls = tls;
    vdc_tls_set_handlers(tls, &end_handlers, &w->server);
}

static void on_refused(void *data, const struct vdc_err *why)
{
    struct world *w = data;
    w->refusals++;
    w->refused = *why;
}

static void open_world_with(struct world *w, const struct vdc_tls_listen_config *extra)
{
    memset(w, 0, sizeof(*w));
    test_loop_open(&w->t);
    w->node = test_context(&w->t, "n1", NULL);
    w->manager = test_context(&w->t, "m1", NULL);
    struct vdc_tls_listen_config config = {0};
    if (extra != NULL) {
        config = *extra;
    }
    config.address = "127.0.0.1:0";
    config.on_accept = on_accept;
    config.on_refused = on_refused;
    config.data = w;
    struct vdc_err err;
    cr_assert_eq(vdc_tls_listen(w->manager, &config, &w->listener, &err), VDC_RC_OK, "%s",
                 vdc_err_text(&err));
}

static void open_world(struct world *w)
{
    open_world_with(w, NULL);
}

static void dial(struct world *w, struct vdc_tls_context *context)
{
    struct vdc_err err;
    cr_assert_eq(vdc_tls_dial(context, test_address(vdc_tls_listener_port(w->listener)), NULL,
                              &end_handlers, &w->client, &w->client.tls, &err),
                 VDC_RC_OK, "%s", vdc_err_text(&err));
}

static void dial_up(struct world *w)
{
    dial(w, w->node);
    cr_assert(test_run_until_count(&w->t, &w->server.ups, 1), "%s", w->client.why.text);
    cr_assert(test_run_until_count(&w->t, &w->client.ups, 1), "%s", w->client.why.text);
}

static void close_world(struct world *w)
{
    vdc_tls_close(w->client.tls);
    vdc_tls_close(w->server.tls);
    vdc_tls_listener_close(w->listener);
    vdc_tls_context_unref(w->node);
    vdc_tls_context_unref(w->manager);
    test_loop_close(&w->t);
    vdc_buf_deinit(&w->client.got);
    vdc_buf_deinit(&w->server.got);
}

static void expect_reason(const struct vdc_err *why, enum vdc_rc rc, const char *text)
{
    cr_assert_eq(why->rc, rc, "%s", why->text);
    cr_assert(strstr(why->text, text) != NULL, "%s", why->text);
    cr_assert_eq(strncmp(why->text, "tls 127.0.0.1:", 14), 0, "%s", why->text);
}

Test(tls, refuses_a_client_of_another_ca)
{
    struct world w;
    open_world(&w);
    struct vdc_tls_context *rogue = test_context(&w.t, "rogue/n1", NULL);
    dial(&w, rogue);
    cr_assert(test_run_until_count(&w.t, &w.client.downs, 1));
    /* The rogue trusts its own CA only, so it refuses first. */
    expect_reason(&w.client.why, VDC_RC_UNAUTHENTICATED, "peer certificate refused: ");
    cr_assert(test_run_until_count(&w.t, &w.refusals, 1));
    expect_reason(&w.refused, VDC_RC_UNAUTHENTICATED, "the peer refuses our certificate");
    cr_assert_eq(w.server.ups, 0);
    vdc_tls_context_unref(rogue);
    close_world(&w);
}

static struct vdc_tls_context *mixed_context(struct world *w)
{
    struct vdc_tls_config config = {.ca_path = VDC_TEST_PKI "/ca.pem",
                                    .cert_path = VDC_TEST_PKI "/rogue/n1.pem",
                                    .key_path = VDC_TEST_PKI "/rogue/n1.key"};
    struct vdc_tls_context *context;
    cr_assert_eq(vdc_tls_context_create(&w->t.loop, &config, &context, NULL), VDC_RC_OK);
    return context;
}

Test(tls, refuses_a_certificate_that_another_ca_signed_for_the_same_name)
{
    struct world w;
    open_world(&w);
    struct vdc_tls_context *mixed = mixed_context(&w);
    dial(&w, mixed);
    cr_assert(test_run_until_count(&w.t, &w.refusals, 1));
    cr_assert(test_run_until_count(&w.t, &w.client.downs, 1));
    expect_reason(&w.refused, VDC_RC_UNAUTHENTICATED, "peer certificate refused: ");
    expect_reason(&w.client.why, VDC_RC_UNAUTHENTICATED, "the peer refuses our certificate");
    cr_assert_eq(w.server.ups, 0);
    vdc_tls_context_unref(mixed);
    close_world(&w);
}

Test(tls, refuses_a_certificate_without_identity)
{
    struct world w;
    open_world(&w);
    struct vdc_tls_context *plain = test_context(&w.t, "plain", NULL);
    cr_assert_eq(vdc_tls_context_self(plain)->kind, VDC_PEER_NONE);
    cr_assert_str_eq(vdc_tls_context_self(w.node)->name, "n1");
    dial(&w, plain);
    cr_assert(test_run_until_count(&w.t, &w.refusals, 1));
    expect_reason(&w.refused, VDC_RC_UNAUTHENTICATED, "has no identity");
    cr_assert(test_run_until_count(&w.t, &w.client.downs, 1));
    vdc_tls_context_unref(plain);
    close_world(&w);
}

Test(tls, refuses_an_expired_certificate)
{
    struct world w;
    open_world(&w);
    struct vdc_tls_context *old = test_context(&w.t, "old", NULL);
    dial(&w, old);
    cr_assert(test_run_until_count(&w.t, &w.refusals, 1));
    expect_reason(&w.refused, VDC_RC_UNAUTHENTICATED, "certificate has expired");
    cr_assert(test_run_until_count(&w.t, &w.client.downs, 1));
    expect_reason(&w.client.why, VDC_RC_UNAUTHENTICATED, "the peer refuses our certificate");
    cr_assert_eq(w.server.ups, 0);
    vdc_tls_context_unref(old);
    close_world(&w);
}

Test(tls, refuses_a_certificate_that_may_only_be_a_client)
{
    struct world w;
    open_world(&w);
    struct vdc_tls_context *user = test_context(&w.t, "alice", NULL);
    struct vdc_tls_listener *listener;
    struct vdc_tls_listen_config config = {
        .address = "127.0.0.1:0", .on_accept = on_accept, .on_refused = on_refused, .data = &w};
    cr_assert_eq(vdc_tls_listen(user, &config, &listener, NULL), VDC_RC_OK);
    cr_assert_eq(vdc_tls_dial(w.node, test_address(vdc_tls_listener_port(listener)), NULL,
                              &end_handlers, &w.client, &w.client.tls, NULL),
                 VDC_RC_OK);
    cr_assert(test_run_until_count(&w.t, &w.client.downs, 1));
    expect_reason(&w.client.why, VDC_RC_UNAUTHENTICATED, "peer certificate refused: ");
    vdc_tls_listener_close(listener);
    vdc_tls_context_unref(user);
    close_world(&w);
}

Test(tls, lets_a_client_without_certificate_in_only_where_that_is_allowed)
{
    /* libcurl and browsers come like this; OpenSSL's own client plays them. */
    for (int optional = 0; optional < 2; optional++) {
        struct world w;
        struct vdc_tls_listen_config extra = {.certificate_optional = optional != 0};
        open_world_with(&w, &extra);
        vdc_autofree char *command = vdc_asprintf(
            "openssl s_client -connect %s -CAfile %s/ca.pem -quiet </dev/null >/dev/null 2>&1 &",
            test_address(vdc_tls_listener_port(w.listener)), VDC_TEST_PKI);
        cr_assert_eq(system(command), 0);
        if (optional) {
            cr_assert(test_run_until_count(&w.t, &w.server.ups, 1));
            cr_assert_eq(vdc_tls_peer(w.server.tls)->kind, VDC_PEER_NONE);
        } else {
            cr_assert(test_run_until_count(&w.t, &w.refusals, 1));
            expect_reason(&w.refused, VDC_RC_UNAUTHENTICATED, "shows no certificate");
            cr_assert_eq(w.server.ups, 0);
        }
        close_world(&w);
    }
}

Test(tls, refuses_garbage_and_survives_connections_that_come_to_nothing)
{
    struct world w;
    open_world(&w);
    uint16_t port = vdc_tls_listener_port(w.listener);
    for (int i = 0; i < 50; i++) {
        close(test_connect(port));
    }
    int fd = test_connect(port);
    const char *text = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    while (w.refusals == 0 || w.refused.rc != VDC_RC_PROTOCOL) {
        int before = w.refusals;
        cr_assert(test_run_until_count(&w.t, &w.refusals, before + 1));
    }
    expect_reason(&w.refused, VDC_RC_PROTOCOL, "not the TLS 1.3 that was expected");
    close(fd);
    dial_up(&w);
    close_world(&w);
}

Test(tls, gives_up_a_handshake_that_takes_too_long)
{
    struct world w;
    open_world(&w);
    vdc_tls_context_set_handshake_ms(w.manager, 200);
    vdc_tls_context_set_handshake_ms(w.node, 200);
    int fd = test_connect(vdc_tls_listener_port(w.listener));
    cr_assert(test_run_until_count(&w.t, &w.refusals, 1));
    expect_reason(&w.refused, VDC_RC_TIMEOUT, "no handshake within 200 ms");
    close(fd);
    /* The same for a dial to somebody who accepts and says nothing. */
    int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(listen(silent, 1), 0);
    struct sockaddr_storage at;
    socklen_t len = sizeof(at);
    cr_assert_eq(getsockname(silent, (struct sockaddr *)&at, &len), 0);
    uint16_t port = (uint16_t)(((uint8_t *)&at)[2] << 8 | ((uint8_t *)&at)[3]);
    cr_assert_eq(vdc_tls_dial(w.node, test_address(port), NULL, &end_handlers, &w.client,
                              &w.client.tls, NULL),
                 VDC_RC_OK);
    cr_assert(test_run_until_count(&w.t, &w.client.downs, 1));
    expect_reason(&w.client.why, VDC_RC_TIMEOUT, "no handshake within 200 ms");
    close(silent);
    close_world(&w);
}

Test(tls, closes_what_is_one_connection_too_many)
{
    struct world w;
    struct vdc_tls_listen_config extra = {.connections_max = 1};
    open_world_with(&w, &extra);
    dial_up(&w);
    struct vdc_tls *first = w.client.tls;
    dial(&w, w.node);
    cr_assert(test_run_until_count(&w.t, &w.client.downs, 1));
    expect_reason(&w.refused, VDC_RC_LIMIT, "more than 1 connections");
    w.client.tls = first;
    close_world(&w);
}

Test(tls, delivers_what_was_queued_before_a_close)
{
    struct world w;
    open_world(&w);
    dial_up(&w);
    vdc_autofree char *big = vdc_calloc(1, 8u << 20);
    cr_assert_eq(vdc_tls_write(w.client.tls, big, 8u << 20), VDC_RC_OK);
    vdc_tls_close(w.client.tls);
    w.client.tls = NULL;
    cr_assert(test_run_until_count(&w.t, &w.server.ends, 1));
    cr_assert_eq(w.server.got.len, 8u << 20);
    cr_assert_eq(w.client.downs, 0, "it was our own close");
    close_world(&w);
}

Test(tls, delivers_an_answer_to_a_peer_that_is_still_sending)
{
    struct world w;
    open_world(&w);
    dial_up(&w);
    vdc_autofree char *big = vdc_calloc(1, 8u << 20);
    cr_assert_eq(vdc_tls_write(w.client.tls, big, 8u << 20), VDC_RC_OK);
    cr_assert_eq(vdc_tls_write(w.server.tls, "too much", 8), VDC_RC_OK);
    w.server.close_on_data = true;
    cr_assert(test_run_until_count(&w.t, &w.client.ends, 1), "%s", w.client.why.text);
    cr_assert_str_eq(vdc_buf_text(&w.client.got), "too much");
    close_world(&w);
}

Test(tls, ends_one_half_while_the_other_goes_on)
{
    struct world w;
    open_world(&w);
    dial_up(&w);
    cr_assert_eq(vdc_tls_write(w.client.tls, "question", 8), VDC_RC_OK);
    vdc_tls_shutdown(w.client.tls);
    cr_assert_eq(vdc_tls_write(w.client.tls, "more", 4), VDC_RC_END);
    cr_assert(test_run_until_count(&w.t, &w.server.ends, 1));
    cr_assert_str_eq(vdc_buf_text(&w.server.got), "question");
    cr_assert_eq(vdc_tls_write(w.server.tls, "answer", 6), VDC_RC_OK);
    vdc_tls_shutdown(w.server.tls);
    cr_assert(test_run_until_count(&w.t, &w.client.ends, 1));
    cr_assert_str_eq(vdc_buf_text(&w.client.got), "answer");
    cr_assert_eq(w.client.downs + w.server.downs, 0);
    close_world(&w);
}

Test(tls, takes_a_connection_that_breaks_off_for_no_orderly_end)
{
    struct world w;
    open_world(&w);
    dial_up(&w);
    vdc_tls_abort(w.client.tls);
    w.client.tls = NULL;
    cr_assert(test_run_until_count(&w.t, &w.server.downs, 1));
    cr_assert_eq(w.server.ends, 0);
    cr_assert_eq(w.server.why.rc, VDC_RC_UNAVAILABLE, "%s", w.server.why.text);
    close_world(&w);
}

Test(tls, keeps_everything_in_order_over_many_pauses)
{
    struct world w;
    open_world(&w);
    dial_up(&w);
    size_t total = 4u << 20;
    vdc_autofree uint32_t *words = vdc_calloc(total / 4, 4);
    for (size_t i = 0; i < total / 4; i++) {
        words[i] = (uint32_t)i;
    }
    cr_assert_eq(vdc_tls_write(w.client.tls, words, total), VDC_RC_OK);
    for (int i = 0; w.server.got.len < total; i++) {
        cr_assert_lt(i, 1000000);
        vdc_tls_pause(w.server.tls);
        uv_run(&w.t.loop, UV_RUN_NOWAIT);
        size_t before = w.server.got.len;
        uv_run(&w.t.loop, UV_RUN_NOWAIT);
        cr_assert_eq(w.server.got.len, before, "nothing comes while paused");
        vdc_tls_resume(w.server.tls);
        uv_run(&w.t.loop, UV_RUN_NOWAIT);
    }
    cr_assert_eq(w.server.got.len, total);
    cr_assert_eq(memcmp(w.server.got.data, words, total), 0);
    cr_assert_eq(w.client.drains, 1);
    close_world(&w);
}

Test(tls, refuses_malformed_addresses_and_files_at_once)
{
    struct world w;
    open_world(&w);
    struct vdc_err err;
    const char *bad[] = {"",       "127.0.0.1", ":1",     "127.0.0.1:", "127.0.0.1:65536",
                         "::1:80", "[::1]",     "[zz]:1", "a b:1",      "http://x:1"};
    for (size_t i = 0; i < VDC_COUNT_OF(bad); i++) {
        cr_assert_eq(vdc_tls_dial(w.node, bad[i], NULL, &end_handlers, NULL, &w.client.tls, &err),
                     VDC_RC_INVALID, "%s", bad[i]);
    }
    w.client.tls = NULL;
    struct vdc_tls_config config = {.ca_path = VDC_TEST_PKI "/none.pem",
                                    .cert_path = VDC_TEST_PKI "/n1.pem",
                                    .key_path = VDC_TEST_PKI "/n2.key"};
    struct vdc_tls_context *context;
    cr_assert_eq(vdc_tls_context_create(&w.t.loop, &config, &context, &err), VDC_RC_NOT_FOUND);
    cr_assert(strstr(err.text, "none.pem") != NULL, "%s", err.text);
    config.ca_path = VDC_TEST_PKI "/ca.pem";
    cr_assert_eq(vdc_tls_context_create(&w.t.loop, &config, &context, &err), VDC_RC_INVALID);
    cr_assert(strstr(err.text, "n2.key") != NULL, "%s", err.text);
    config.cert_path = VDC_TEST_PKI "/n1.key";
    cr_assert_eq(vdc_tls_context_create(&w.t.loop, &config, &context, &err), VDC_RC_INVALID);
    struct vdc_tls_listener *listener;
    struct vdc_tls_listen_config again = {
        .address = test_address(vdc_tls_listener_port(w.listener)), .on_accept = on_accept};
    cr_assert_eq(vdc_tls_listen(w.manager, &again, &listener, &err), VDC_RC_CONFLICT);
    close_world(&w);
}

Test(tls, says_unavailable_where_nobody_listens_and_for_an_unknown_name)
{
    struct world w;
    open_world(&w);
    cr_assert_eq(
        vdc_tls_dial(w.node, "127.0.0.1:1", NULL, &end_handlers, &w.client, &w.client.tls, NULL),
        VDC_RC_OK);
    cr_assert(test_run_until_count(&w.t, &w.client.downs, 1));
    expect_reason(&w.client.why, VDC_RC_UNAVAILABLE, "connect: ");
    vdc_autofree char *local =
        vdc_asprintf("localhost:%u", (unsigned)vdc_tls_listener_port(w.listener));
    cr_assert_eq(vdc_tls_dial(w.node, "no-such-host.invalid:1", NULL, &end_handlers, &w.client,
                              &w.client.tls, NULL),
                 VDC_RC_OK);
    vdc_tls_abort(w.client.tls); /* while the name is being looked up */
    cr_assert_eq(vdc_tls_dial(w.node, local, NULL, &end_handlers, &w.client, &w.client.tls, NULL),
                 VDC_RC_OK);
    cr_assert(test_run_until_count(&w.t, &w.server.ups, 1));
    cr_assert(test_run_until_count(&w.t, &w.client.ups, 1));
    close_world(&w);
}

/* A client of OpenSSL's own, for what our side never sends. */
struct foreign {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
};

static void foreign_open(struct world *w, struct foreign *foreign)
{
    foreign->ctx = SSL_CTX_new(TLS_client_method());
    cr_assert_eq(SSL_CTX_use_certificate_chain_file(foreign->ctx, VDC_TEST_PKI "/n1.pem"), 1);
    cr_assert_eq(
        SSL_CTX_use_PrivateKey_file(foreign->ctx, VDC_TEST_PKI "/n1.key", SSL_FILETYPE_PEM), 1);
    foreign->ssl = SSL_new(foreign->ctx);
    foreign->fd = test_connect(vdc_tls_listener_port(w->listener));
    cr_assert_eq(fcntl(foreign->fd, F_SETFL, O_NONBLOCK), 0);
    SSL_set_fd(foreign->ssl, foreign->fd);
    int ups = w->server.ups;
    for (int i = 0; SSL_connect(foreign->ssl) != 1; i++) {
        cr_assert_lt(i, 1000000);
        uv_run(&w->t.loop, UV_RUN_NOWAIT);
    }
    cr_assert(test_run_until_count(&w->t, &w->server.ups, ups + 1));
}

static void foreign_close(struct foreign *foreign)
{
    SSL_free(foreign->ssl);
    SSL_CTX_free(foreign->ctx);
    close(foreign->fd);
}

/* A receiver that takes one piece and pauses; "go on" comes by another connection. */
struct slow {
    struct end end;
    int pieces;
};

static void slow_on_data(void *data, struct vdc_tls *tls, const uint8_t *bytes, size_t len)
{
    struct slow *slow = data;
    slow->pieces++;
    vdc_buf_append(&slow->end.got, bytes, len);
    vdc_tls_pause(tls);
}

static void slow_on_end(void *data, struct vdc_tls *tls)
{
    (void)tls;
    ((struct slow *)data)->end.ends++;
}

static void slow_on_down(void *data, struct vdc_tls *tls, const struct vdc_err *why)
{
    (void)tls;
    ((struct slow *)data)->end.downs++;
    ((struct slow *)data)->end.why = *why;
}

static const struct vdc_tls_handlers slow_handlers = {
    .on_data = slow_on_data, .on_end = slow_on_end, .on_down = slow_on_down};

static void go_on(void *data, struct vdc_tls *tls, const uint8_t *bytes, size_t len)
{
    (void)tls;
    (void)bytes;
    (void)len;
    vdc_tls_resume(data);
}

static const struct vdc_tls_handlers go_on_handlers = {.on_data = go_on, .on_down = slow_on_down};

Test(tls, loses_nothing_when_the_end_comes_while_it_is_paused)
{
    struct world w;
    open_world(&w);
    struct foreign sender;
    struct foreign other;
    foreign_open(&w, &other);
    struct vdc_tls *other_tls = w.server.tls;
    foreign_open(&w, &sender);
    struct vdc_tls *tls = w.server.tls;
    struct slow slow = {0};
    vdc_tls_set_handlers(tls, &slow_handlers, &slow);
    vdc_tls_set_handlers(other_tls, &go_on_handlers, tls);
    char text[3 * 16384] = {0};
    int on = 1;
    setsockopt(other.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(sender.fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
    cr_assert_eq(SSL_write(sender.ssl, text, sizeof(text)), (int)sizeof(text));
    SSL_shutdown(sender.ssl);
    on = 0;
    setsockopt(sender.fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
    cr_assert(test_run_until_count(&w.t, &slow.pieces, 1));
    /* In this order, so that one look of the loop finds "go on" first and then the end (after a look
     * that found neither, or epoll would tell of the one first that it told of before). */
    uv_run(&w.t.loop, UV_RUN_NOWAIT);
    cr_assert_eq(SSL_write(other.ssl, "x", 1), 1);
    cr_assert_eq(shutdown(sender.fd, SHUT_WR), 0);
    for (int wanted = 2; wanted <= 3; wanted++) {
        cr_assert(test_run_until_count(&w.t, &slow.pieces, wanted), "%s", slow.end.why.text);
        vdc_tls_resume(tls);
    }
    cr_assert(test_run_until_count(&w.t, &slow.end.ends, 1), "%s", slow.end.why.text);
    cr_assert_eq(slow.end.got.len, sizeof(text));
    cr_assert_eq(slow.end.downs, 0, "%s", slow.end.why.text);
    vdc_tls_close(tls);
    vdc_tls_close(other_tls);
    w.server.tls = NULL;
    foreign_close(&sender);
    foreign_close(&other);
    vdc_buf_deinit(&slow.end.got);
    close_world(&w);
}

Test(tls, reads_nothing_when_it_was_paused_before_it_was_up)
{
    struct world w;
    open_world(&w);
    dial(&w, w.node);
    vdc_tls_pause(w.client.tls);
    cr_assert(test_run_until_count(&w.t, &w.server.ups, 1), "%s", w.client.why.text);
    size_t len = 15u << 20; /* more than the kernel keeps on the way */
    vdc_autofree char *big = vdc_calloc(1, len);
    cr_assert_eq(vdc_tls_write(w.server.tls, big, len), VDC_RC_OK);
    test_run_for(&w.t, 300);
    cr_assert_eq(w.client.ups, 1);
    cr_assert_eq(w.client.got.len, 0);
    cr_assert_gt(vdc_tls_queued(w.server.tls), 0, "nobody keeps it on the client's side");
    vdc_tls_resume(w.client.tls);
    while (w.client.got.len < len && w.client.downs == 0) {
        uv_run(&w.t.loop, UV_RUN_ONCE);
    }
    cr_assert_eq(w.client.got.len, len);
    close_world(&w);
}
