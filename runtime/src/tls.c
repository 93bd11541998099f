/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection. Bytes from the kernel go through OpenSSL to on_data at once; bytes of the owner
 * are queued as plaintext, and the flush (once per turn of the loop) encrypts and hands them to the
 * kernel. While the kernel holds a write, nothing more is encrypted, so the queue is bounded by
 * plaintext.
 *
 * Ends. fail() reports to the owner and lets the connection linger, so that an alert reaches the
 * peer. vdc_tls_close() lingers silently: the rest of the queue, close_notify, TCP's FIN, then what
 * the peer still sends is read and thrown away until its FIN. Closing earlier would make the kernel
 * answer unread bytes with a reset, which destroys what we have just sent.
 */
#include "tls_internal.h"

#include <openssl/err.h>
#include <openssl/sslerr.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void maybe_free(struct vdc_tls *tls)
{
    if (!tls->handle_closed || tls->lookup_busy) {
        return;
    }
    if (tls->listener != NULL) {
        tls->listener->connections--;
        tls_listener_unref(tls->listener);
    }
    SSL_free(tls->ssl);
    vdc_buf_deinit(&tls->spill);
    vdc_buf_deinit(&tls->out);
    vdc_buf_deinit(&tls->inflight);
    vdc_buf_deinit(&tls->backlog);
    free(tls->address);
    free(tls->refusal);
    free(tls->failed);
    struct vdc_tls_context *context = tls->context;
    tls->magic = 0;
    free(tls);
    vdc_tls_context_unref(context);
}

static void on_closed(uv_handle_t *handle)
{
    struct vdc_tls *tls;
    VDC_CAST(tls, handle->data, TLS_MAGIC);
    tls->handle_closed = true;
    maybe_free(tls);
}

static void enter_closed(struct vdc_tls *tls)
{
    if (tls->state == TLS_CLOSED) {
        return;
    }
    tls->state = TLS_CLOSED;
    tls->handlers = NULL;
    tls_clear_deadline(tls);
    tls_unmark_dirty(tls);
    if (tls->lookup_busy) {
        uv_cancel((uv_req_t *)&tls->lookup_req);
    }
    uv_close((uv_handle_t *)&tls->tcp, on_closed);
}

static void start_reading(struct vdc_tls *tls);

/* From here on the owner is gone. */
static void enter_linger(struct vdc_tls *tls)
{
    if (tls->state == TLS_RESOLVING || tls->state == TLS_CONNECTING) {
        enter_closed(tls); /* there is nobody to tell */
        return;
    }
    tls->state = TLS_LINGER;
    tls->handlers = NULL;
    tls_set_deadline(tls, &tls->context->lingering, VDC_TLS_LINGER_MS);
    vdc_buf_deinit(&tls->spill);
    start_reading(tls); /* it may have been paused: the peer's end must be seen */
    tls_mark_dirty(tls);
}

static void fail(struct vdc_tls *tls, enum vdc_rc rc, const char *fmt, ...) VDC_PRINTF(3, 4);
static void fail(struct vdc_tls *tls, enum vdc_rc rc, const char *fmt, ...)
{
    if (tls->state >= TLS_LINGER) {
        return;
    }
    char text[VDC_ERR_TEXT_MAX / 2];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    struct vdc_err why;
    vdc_err_set(&why, rc, "tls %s: %s", tls->address, text);

    const struct vdc_tls_handlers *handlers = tls->handlers;
    void *data = tls->data;
    struct vdc_tls_listener *listener = tls->listener;
    bool had_owner = handlers != NULL;
    if (rc != VDC_RC_END) { /* the peer can't read it; after its orderly end it still can */
        vdc_buf_clear(&tls->out);
        tls->out_at = 0;
    }
    enter_linger(tls);
    if (had_owner) {
        handlers->on_down(data, tls, &why);
    } else if (listener != NULL) {
        tls_listener_refuse(listener, &why);
    }
}

/* A broken socket: no use to linger. */
static void fail_socket(struct vdc_tls *tls, const char *step, int status)
{
    if (tls->state < TLS_LINGER) {
        fail(tls, VDC_RC_UNAVAILABLE, "%s: %s", step, uv_strerror(status));
    }
    enter_closed(tls);
}

/* Translates what OpenSSL says about a failed handshake or read. */
static void fail_openssl(struct vdc_tls *tls)
{
    if (tls->refusal != NULL) {
        ERR_clear_error();
        fail(tls, VDC_RC_UNAUTHENTICATED, "%s", tls->refusal);
        return;
    }
    unsigned long code = ERR_peek_last_error();
    const char *reason = tls_openssl_reason();
    switch (ERR_GET_REASON(code)) {
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
        fail(tls, VDC_RC_UNAUTHENTICATED, "the peer refuses our certificate (%s)", reason);
        return;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        fail(tls, VDC_RC_UNAUTHENTICATED, "the peer shows no certificate");
        return;
    default: /* OpenSSL's numbers, not an enum of ours */
        fail(tls, VDC_RC_PROTOCOL, "not the TLS 1.3 that was expected (%s)", reason);
    }
}

size_t vdc_tls_queued(const struct vdc_tls *tls)
{
    return tls->out.len - tls->out_at + tls->inflight.len + tls->backlog.len;
}

static void on_written(uv_write_t *req, int status);

/* Gives `inflight` to the kernel; what it takes at once is done with. */
static void write_inflight(struct vdc_tls *tls)
{
    uv_buf_t piece = uv_buf_init(tls->inflight.data, (unsigned)tls->inflight.len);
    int rv = uv_try_write((uv_stream_t *)&tls->tcp, &piece, 1);
    if (rv == (int)tls->inflight.len) {
        vdc_buf_deinit(&tls->inflight);
        return;
    }
    if (rv > 0) {
        vdc_buf_consume(&tls->inflight, (size_t)rv);
        piece = uv_buf_init(tls->inflight.data, (unsigned)tls->inflight.len);
    }
    rv = rv < 0 && rv != UV_EAGAIN
             ? rv
             : uv_write(&tls->write_req, (uv_stream_t *)&tls->tcp, &piece, 1, on_written);
    if (rv != 0) {
        vdc_buf_deinit(&tls->inflight);
        fail_socket(tls, "write", rv);
        return;
    }
    tls->writing = true;
}

/* Moves what OpenSSL has just put into the shared buffer to the kernel, in order. */
static void send_cipher(struct vdc_tls *tls)
{
    struct vdc_buf *cipher = &tls->context->cipher;
    if (cipher->len == 0 || tls->state == TLS_CLOSED) {
        vdc_buf_clear(cipher);
        return;
    }
    if (tls->writing) {
        vdc_buf_append(&tls->backlog, cipher->data, cipher->len);
        vdc_buf_clear(cipher);
        return;
    }
    uv_buf_t piece = uv_buf_init(cipher->data, (unsigned)cipher->len);
    int rv = uv_try_write((uv_stream_t *)&tls->tcp, &piece, 1);
    size_t sent = rv > 0 ? (size_t)rv : 0;
    if (rv < 0 && rv != UV_EAGAIN) {
        vdc_buf_clear(cipher);
        fail_socket(tls, "write", rv);
        return;
    }
    if (sent < cipher->len) {
        vdc_buf_append(&tls->inflight, cipher->data + sent, cipher->len - sent);
    }
    vdc_buf_clear(cipher);
    if (tls->inflight.len > 0) {
        write_inflight(tls);
    }
}

static void on_written(uv_write_t *req, int status)
{
    struct vdc_tls *tls;
    VDC_CAST(tls, req->handle->data, TLS_MAGIC);
    tls->writing = false;
    vdc_buf_deinit(&tls->inflight);
    if (tls->state == TLS_CLOSED) {
        return;
    }
    if (status != 0) {
        fail_socket(tls, "write", status);
        return;
    }
    if (tls->backlog.len > 0) {
        struct vdc_buf next = tls->backlog;
        tls->backlog = (struct vdc_buf){0};
        tls->inflight = next;
        write_inflight(tls);
    }
    tls_mark_dirty(tls);
}

static void encrypt_queue(struct vdc_tls *tls)
{
    while (tls->out_at < tls->out.len && !tls->writing && tls->state != TLS_CLOSED) {
        size_t len = VDC_MIN(tls->out.len - tls->out_at, TLS_ENCRYPT_BYTES);
        ERR_clear_error();
        int rv = SSL_write(tls->ssl, tls->out.data + tls->out_at, (int)len);
        if (rv != (int)len) { /* the BIO takes all, so this is no lack of room */
            fail(tls, VDC_RC_PROTOCOL, "encrypt: %s", tls_openssl_reason());
            enter_closed(tls);
            return;
        }
        tls->out_at += len;
        send_cipher(tls);
    }
    if (tls->out_at == tls->out.len) {
        vdc_buf_deinit(&tls->out);
        tls->out_at = 0;
    } else if (tls->out_at > tls->out.len / 2) {
        vdc_buf_consume(&tls->out, tls->out_at);
        tls->out_at = 0;
    }
}

static void send_close_notify(struct vdc_tls *tls)
{
    tls->half = TLS_HALF_ENDED;
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
    ERR_clear_error();
    send_cipher(tls);
}

static void on_fin_sent(uv_shutdown_t *req, int status)
{
    struct vdc_tls *tls;
    VDC_CAST(tls, req->handle->data, TLS_MAGIC);
    if (tls->state == TLS_LINGER && (status != 0 || tls->peer_eof)) {
        enter_closed(tls);
    }
}

static void finish_linger(struct vdc_tls *tls)
{
    if (tls->writing || tls->fin_sent) {
        return;
    }
    tls->fin_sent = true;
    if (uv_shutdown(&tls->shutdown_req, (uv_stream_t *)&tls->tcp, on_fin_sent) != 0) {
        enter_closed(tls);
    }
}

static void report_drained(struct vdc_tls *tls)
{
    if (tls->above_low && vdc_tls_queued(tls) <= VDC_TLS_QUEUE_LOW) {
        tls->above_low = false;
        if (tls->state == TLS_UP && tls->handlers->on_drained != NULL) {
            tls->handlers->on_drained(tls->data, tls);
        }
    }
}

static void pump_resumed(struct vdc_tls *tls);

void tls_flush(struct vdc_tls *tls)
{
    if (tls->failed != NULL) {
        struct vdc_err *failed = vdc_steal(&tls->failed);
        fail(tls, failed->rc, "%s", failed->text);
        free(failed);
        return;
    }
    if (tls->state == TLS_UP && tls->resumed) {
        tls->resumed = false;
        pump_resumed(tls);
    }
    if (tls->state < TLS_UP || tls->state == TLS_CLOSED) {
        return;
    }
    if (tls->established) {
        encrypt_queue(tls);
        bool all_out = tls->out.len == 0 && tls->state != TLS_CLOSED;
        if (all_out && tls->half == TLS_HALF_ENDING) {
            send_close_notify(tls);
        }
    }
    if (tls->state == TLS_LINGER && tls->out.len == 0) {
        finish_linger(tls);
    } else {
        report_drained(tls);
    }
}

void tls_expire(struct vdc_tls *tls)
{
    switch (tls->state) {
    case TLS_RESOLVING:
    case TLS_CONNECTING:
        fail(tls, VDC_RC_UNAVAILABLE, "no connection within %u ms", tls->context->handshake_ms);
        return;
    case TLS_HANDSHAKE:
        fail(tls, VDC_RC_TIMEOUT, "no handshake within %u ms", tls->context->handshake_ms);
        return;
    case TLS_LINGER:
        enter_closed(tls);
        return;
    case TLS_UP:
    case TLS_CLOSED:
        return;
    }
}

static void finish_handshake(struct vdc_tls *tls)
{
    tls_clear_deadline(tls);
    tls->state = TLS_UP;
    tls->established = true;
    tls_mark_dirty(tls);
    if (tls->paused) { /* by the dialler, before this; the handshake had to be read all the same */
        uv_read_stop((uv_stream_t *)&tls->tcp);
    }
    if (tls->listener == NULL) {
        tls->handlers->on_up(tls->data, tls);
        return;
    }
    tls->listener->on_accept(tls->listener->data, tls);
    VDC_ASSERT(tls->handlers != NULL || tls->state >= TLS_LINGER);
}

static void do_handshake(struct vdc_tls *tls)
{
    ERR_clear_error();
    int rv = SSL_do_handshake(tls->ssl);
    int error = rv == 1 ? SSL_ERROR_NONE : SSL_get_error(tls->ssl, rv);
    send_cipher(tls);
    if (tls->state != TLS_HANDSHAKE) {
        ERR_clear_error();
        return;
    }
    if (rv == 1) {
        finish_handshake(tls);
    } else if (error != SSL_ERROR_WANT_READ) {
        fail_openssl(tls);
    }
}

/* The peer has ended its half. */
static void end_reading(struct vdc_tls *tls)
{
    tls->read_ended = true;
    if (tls->handlers->on_end != NULL) {
        tls->handlers->on_end(tls->data, tls);
        return;
    }
    if (tls->half == TLS_HALF_OPEN) {
        tls->half = TLS_HALF_ENDING;
    }
    fail(tls, VDC_RC_END, "the peer closed the connection");
}

/* Takes what has come in as far as the state allows. */
static void pump(struct vdc_tls *tls)
{
    if (tls->state == TLS_HANDSHAKE) {
        do_handshake(tls);
    }
    while (tls->state == TLS_UP && !tls->paused && !tls->read_ended) {
        uint8_t *plain = tls->context->plain_bytes;
        ERR_clear_error();
        int got = SSL_read(tls->ssl, plain, TLS_PLAIN_BYTES);
        int error = got > 0 ? SSL_ERROR_NONE : SSL_get_error(tls->ssl, got);
        /* Before the owner hears of it: what is in the shared buffer now is this connection's. */
        send_cipher(tls);
        if (got > 0 && tls->state == TLS_UP) {
            tls->handlers->on_data(tls->data, tls, plain, (size_t)got);
            continue;
        }
        if (tls->state != TLS_UP || error == SSL_ERROR_WANT_READ) {
            ERR_clear_error();
            return;
        }
        if (error == SSL_ERROR_ZERO_RETURN) {
            end_reading(tls);
        } else {
            fail_openssl(tls);
        }
    }
}

/* Ciphertext that was not taken, because the owner paused. */
static void keep_rest(struct vdc_tls *tls)
{
    if (tls->in_len > 0 && tls->state < TLS_LINGER) {
        vdc_buf_append(&tls->spill, tls->in, tls->in_len);
    }
    tls->in = NULL;
    tls->in_len = 0;
}

/* TCP's end, when everything that came before it has been taken. */
static void take_eof(struct vdc_tls *tls)
{
    if (tls->state == TLS_UP && !tls->paused && !tls->read_ended) {
        fail(tls, VDC_RC_UNAVAILABLE, "the connection broke off");
    }
}

/* After a resume: first what the owner has kept, then what we have, in OpenSSL and before it. */
static void pump_resumed(struct vdc_tls *tls)
{
    if (tls->handlers->on_resumed != NULL) {
        tls->handlers->on_resumed(tls->data, tls);
    }
    /* Moved out of the connection for the call: a handler may close it. */
    struct vdc_buf spill = tls->spill;
    tls->spill = (struct vdc_buf){0};
    tls->in = (const uint8_t *)spill.data;
    tls->in_len = spill.len;
    pump(tls);
    keep_rest(tls);
    vdc_buf_deinit(&spill);
    if (tls->peer_eof) {
        take_eof(tls);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct vdc_tls *tls;
    VDC_CAST(tls, handle->data, TLS_MAGIC);
    *buf = uv_buf_init((char *)tls->context->read_bytes, TLS_READ_BYTES);
}

static void on_eof(struct vdc_tls *tls)
{
    tls->peer_eof = true;
    uv_read_stop((uv_stream_t *)&tls->tcp);
    if (tls->state == TLS_LINGER) {
        if (tls->fin_sent) {
            enter_closed(tls);
        }
        return;
    }
    if (tls->state < TLS_UP) {
        fail(tls, VDC_RC_UNAVAILABLE, "the connection broke off");
    } else {
        take_eof(tls); /* unless it is paused: what is kept comes first */
    }
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
    struct vdc_tls *tls;
    VDC_CAST(tls, stream->data, TLS_MAGIC);
    if (tls->state == TLS_UP && tls->resumed) { /* before its flush: what was kept comes first */
        tls->resumed = false;
        pump_resumed(tls);
    }
    if (got == UV_EOF) {
        on_eof(tls);
        return;
    }
    if (got < 0) {
        fail_socket(tls, "read", (int)got);
        return;
    }
    if (got == 0 || tls->state >= TLS_LINGER) {
        return;
    }
    if (tls->spill.len > 0) { /* paused again at once */
        vdc_buf_append(&tls->spill, buf->base, (size_t)got);
        return;
    }
    tls->in = (const uint8_t *)buf->base;
    tls->in_len = (size_t)got;
    pump(tls);
    keep_rest(tls);
}

static void start_reading(struct vdc_tls *tls)
{
    if (!tls->peer_eof && tls->state != TLS_CLOSED) {
        uv_read_start((uv_stream_t *)&tls->tcp, on_alloc, on_read);
    }
}

struct vdc_tls *tls_create(struct vdc_tls_context *context, const char *address)
{
    struct vdc_tls *tls = VDC_NEW(struct vdc_tls);
    tls->magic = TLS_MAGIC;
    tls->context = vdc_tls_context_ref(context);
    tls->address = vdc_strdup(address);
    tls->peers = VDC_PEERS_ALL;
    tls->queue_max = VDC_TLS_QUEUE_MAX;
    tls->ssl = SSL_new(context->ssl_ctx);
    VDC_ASSERT(tls->ssl != NULL);
    SSL_set_app_data(tls->ssl, tls);
    BIO *bio = tls_bio_create(tls);
    SSL_set_bio(tls->ssl, bio, bio);
    int rv = uv_tcp_init(context->loop, &tls->tcp);
    VDC_ASSERT(rv == 0);
    tls->tcp.data = tls;
    return tls;
}

void tls_start_handshake(struct vdc_tls *tls, bool as_server)
{
    tls->state = TLS_HANDSHAKE;
    uv_tcp_nodelay(&tls->tcp, 1);
    if (as_server) {
        SSL_set_accept_state(tls->ssl);
    } else {
        SSL_set_connect_state(tls->ssl);
    }
    start_reading(tls);
    if (!as_server) {
        do_handshake(tls);
    }
}

static void on_connected(uv_connect_t *req, int status)
{
    struct vdc_tls *tls;
    VDC_CAST(tls, req->data, TLS_MAGIC);
    if (tls->state != TLS_CONNECTING) {
        return;
    }
    if (status != 0) {
        fail(tls, VDC_RC_UNAVAILABLE, "connect: %s", uv_strerror(status));
        return;
    }
    tls_start_handshake(tls, false);
}

static void fail_later(struct vdc_tls *tls, enum vdc_rc rc, const char *step, int status)
{
    tls->failed = VDC_NEW(struct vdc_err);
    vdc_err_set(tls->failed, rc, "%s: %s", step, uv_strerror(status));
    tls_mark_dirty(tls);
}

static void connect_to(struct vdc_tls *tls, const struct sockaddr *sockaddr)
{
    tls->state = TLS_CONNECTING;
    tls->connect_req.data = tls;
    int rv = uv_tcp_connect(&tls->connect_req, &tls->tcp, sockaddr, on_connected);
    if (rv != 0) {
        fail_later(tls, VDC_RC_UNAVAILABLE, "connect", rv);
    }
}

static void on_looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct vdc_tls *tls;
    VDC_CAST(tls, req->data, TLS_MAGIC);
    tls->lookup_busy = false;
    if (tls->state == TLS_CLOSED) {
        maybe_free(tls);
    } else if (status != 0 || found == NULL) {
        fail(tls, VDC_RC_UNAVAILABLE, "look up the name: %s", uv_strerror(status));
    } else {
        connect_to(tls, found->ai_addr);
    }
    uv_freeaddrinfo(found);
}

enum vdc_rc vdc_tls_dial(struct vdc_tls_context *context, const char *address,
                         const struct vdc_peer *expected, const struct vdc_tls_handlers *handlers,
                         void *data, struct vdc_tls **out, struct vdc_err *err)
{
    struct vdc_address parsed;
    enum vdc_rc rc = vdc_address_parse(address, &parsed, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct vdc_tls *tls = tls_create(context, address);
    tls->handlers = handlers;
    tls->data = data;
    if (expected != NULL) {
        tls->expected = *expected;
    }
    tls_set_deadline(tls, &context->handshaking, context->handshake_ms);
    if (parsed.is_literal) {
        connect_to(tls, (const struct sockaddr *)&parsed.sockaddr);
    } else {
        char port[8];
        snprintf(port, sizeof(port), "%u", (unsigned)parsed.port);
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
        tls->state = TLS_RESOLVING;
        tls->lookup_req.data = tls;
        int rv = uv_getaddrinfo(context->loop, &tls->lookup_req, on_looked_up, parsed.host, port,
                                &hints);
        tls->lookup_busy = rv == 0;
        if (rv != 0) {
            fail_later(tls, VDC_RC_UNAVAILABLE, "look up the name", rv);
        }
    }
    *out = tls;
    return VDC_RC_OK;
}

void vdc_tls_set_handlers(struct vdc_tls *tls, const struct vdc_tls_handlers *handlers, void *data)
{
    VDC_ASSERT(tls->magic == TLS_MAGIC && tls->state < TLS_LINGER);
    tls->handlers = handlers;
    tls->data = data;
}

void vdc_tls_set_queue_max(struct vdc_tls *tls, size_t bytes)
{
    tls->queue_max = bytes;
}

const struct vdc_peer *vdc_tls_peer(const struct vdc_tls *tls)
{
    return &tls->peer;
}

const char *vdc_tls_address(const struct vdc_tls *tls)
{
    return tls->address;
}

enum vdc_rc vdc_tls_write2(struct vdc_tls *tls, const void *head, size_t head_len, const void *body,
                           size_t body_len)
{
    VDC_ASSERT(tls->magic == TLS_MAGIC && tls->state < TLS_LINGER);
    if (tls->half != TLS_HALF_OPEN) {
        return VDC_RC_END;
    }
    size_t queued = vdc_tls_queued(tls);
    size_t len = head_len + body_len;
    if (queued > tls->queue_max || len > tls->queue_max - queued) {
        return VDC_RC_LIMIT;
    }
    vdc_buf_append(&tls->out, head, head_len);
    vdc_buf_append(&tls->out, body, body_len);
    if (queued + len > VDC_TLS_QUEUE_LOW) {
        tls->above_low = true;
    }
    tls_mark_dirty(tls);
    return VDC_RC_OK;
}

enum vdc_rc vdc_tls_write(struct vdc_tls *tls, const void *bytes, size_t len)
{
    return vdc_tls_write2(tls, bytes, len, NULL, 0);
}

void vdc_tls_pause(struct vdc_tls *tls)
{
    VDC_ASSERT(tls->magic == TLS_MAGIC && tls->state < TLS_LINGER);
    tls->paused = true;
    if (tls->state == TLS_UP) {
        uv_read_stop((uv_stream_t *)&tls->tcp);
    }
}

void vdc_tls_resume(struct vdc_tls *tls)
{
    VDC_ASSERT(tls->magic == TLS_MAGIC && tls->state < TLS_LINGER);
    tls->paused = false;
    if (tls->state == TLS_UP) {
        tls->resumed = true;
        start_reading(tls);
        tls_mark_dirty(tls);
    }
}

void vdc_tls_shutdown(struct vdc_tls *tls)
{
    VDC_ASSERT(tls->magic == TLS_MAGIC && tls->state < TLS_LINGER);
    if (tls->half == TLS_HALF_OPEN) {
        tls->half = TLS_HALF_ENDING;
        tls_mark_dirty(tls);
    }
}

void vdc_tls_close(struct vdc_tls *tls)
{
    if (tls == NULL) {
        return;
    }
    VDC_ASSERT(tls->magic == TLS_MAGIC && tls->state < TLS_LINGER);
    if (!tls->established) {
        vdc_tls_abort(tls);
        return;
    }
    if (tls->half == TLS_HALF_OPEN) {
        tls->half = TLS_HALF_ENDING;
    }
    enter_linger(tls);
}

void vdc_tls_abort(struct vdc_tls *tls)
{
    VDC_ASSERT(tls->magic == TLS_MAGIC && tls->state < TLS_LINGER);
    enter_closed(tls);
}
