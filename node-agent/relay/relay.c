/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two pipes in opposite directions:
 *
 *   unix --read--> vdc_tls_write        stops reading while TLS' queue is long
 *   TLS --on_data--> uv_write           pauses TLS while libuv's queue is long
 *
 * Each ends by itself: end of file on one side is passed on as the end of that half. When both
 * halves have ended, the relay closes in order. Neither side is read before both are connected.
 */
#include "relay.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <vdc/base.h>

#define RELAY_MAGIC UINT32_C(0x524c4159)
#define READ_BYTES 262144

struct relay {
    uint32_t magic;
    const struct relay_config *config;
    struct vdc_tls_context *context;
    struct vdc_tls_listener *listener; /* NULL: dialling, or its one peer has come */
    struct vdc_tls *tls;
    uint16_t port;
    bool tls_up;
    bool unix_up;
    bool unix_ended;  /* it sends no more: unix -> TLS is over */
    bool unix_broken; /* it reads no more: what TLS brings is thrown away */
    bool tls_ended;   /* TLS -> unix is over but for what is queued */
    bool unix_shut;   /* and that is written too */
    bool closed;
    bool listening; /* server_pipe is open */
    uv_pipe_t server_pipe;
    uv_pipe_t pipe;
    uv_timer_t timer;
    uv_shutdown_t shutdown_req;
    char read_bytes[READ_BYTES];
    struct vdc_err result;
};

struct unix_write {
    uv_write_t req;
    char bytes[];
};

/* Stops listening on the unix socket. */
static void close_server_pipe(struct relay *relay)
{
    if (relay->listening) {
        relay->listening = false;
        uv_close((uv_handle_t *)&relay->server_pipe, NULL);
        unlink(relay->config->unix_path);
    }
}

/* Closes everything; the loop ends when what is queued has gone. */
static void close_relay(struct relay *relay)
{
    if (relay->closed) {
        return;
    }
    relay->closed = true;
    close_server_pipe(relay);
    vdc_tls_listener_close(relay->listener);
    relay->listener = NULL;
    vdc_tls_close(relay->tls);
    relay->tls = NULL;
    uv_close((uv_handle_t *)&relay->pipe, NULL);
    uv_close((uv_handle_t *)&relay->timer, NULL);
    vdc_tls_context_unref(relay->context);
}

static void fail(struct relay *relay, enum vdc_rc rc, const char *text)
{
    if (!relay->closed) {
        vdc_err_set(&relay->result, rc, "%s", text);
        if (relay->tls != NULL) { /* the other end must not take this for an orderly end */
            vdc_tls_abort(relay->tls);
            relay->tls = NULL;
        }
        close_relay(relay);
    }
}

static void fail_uv(struct relay *relay, const char *step, int status)
{
    char text[128];
    snprintf(text, sizeof(text), "unix socket: %s: %s", step, uv_strerror(status));
    fail(relay, VDC_RC_IO, text);
}

static void close_if_done(struct relay *relay)
{
    if (relay->unix_ended && relay->unix_shut) {
        close_relay(relay);
    }
}

static void on_shut(uv_shutdown_t *req, int status)
{
    (void)status; /* a unix side that is gone has nothing more to be told */
    struct relay *relay;
    VDC_CAST(relay, req->handle->data, RELAY_MAGIC);
    relay->unix_shut = true;
    if (!relay->closed) {
        close_if_done(relay);
    }
}

/* The unix side does not read any more: in order if it had ended its own half before. */
static void on_unix_write_failed(struct relay *relay, int status)
{
    if (!relay->unix_ended && status != UV_EPIPE) {
        fail_uv(relay, "write", status);
        return;
    }
    relay->unix_broken = true;
    if (relay->tls != NULL) {
        vdc_tls_resume(relay->tls);
    }
}

static void on_unix_written(uv_write_t *req, int status)
{
    struct relay *relay;
    VDC_CAST(relay, req->handle->data, RELAY_MAGIC);
    free(vdc_container_of(req, struct unix_write, req));
    if (relay->closed) {
        return;
    }
    if (status != 0) {
        on_unix_write_failed(relay, status);
    } else if (relay->tls != NULL &&
               uv_stream_get_write_queue_size((uv_stream_t *)&relay->pipe) < RELAY_QUEUE_HIGH) {
        vdc_tls_resume(relay->tls);
    }
}

static void write_unix(struct relay *relay, const uint8_t *bytes, size_t len)
{
    uv_stream_t *stream = (uv_stream_t *)&relay->pipe;
    uv_buf_t piece = uv_buf_init((char *)(uintptr_t)bytes, (unsigned)len);
    int rv = uv_try_write(stream, &piece, 1);
    if (rv == (int)len) {
        return;
    }
    if (rv < 0 && rv != UV_EAGAIN) {
        on_unix_write_failed(relay, rv);
        return;
    }
    size_t sent = rv > 0 ? (size_t)rv : 0;
    struct unix_write *write = vdc_calloc(1, sizeof(*write) + len - sent);
    memcpy(write->bytes, bytes + sent, len - sent);
    piece = uv_buf_init(write->bytes, (unsigned)(len - sent));
    rv = uv_write(&write->req, stream, &piece, 1, on_unix_written);
    if (rv != 0) {
        free(write);
        on_unix_write_failed(relay, rv);
        return;
    }
    if (uv_stream_get_write_queue_size(stream) >= RELAY_QUEUE_HIGH) {
        vdc_tls_pause(relay->tls);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct relay *relay;
    VDC_CAST(relay, handle->data, RELAY_MAGIC);
    *buf = uv_buf_init(relay->read_bytes, READ_BYTES);
}

static void on_unix_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
    struct relay *relay;
    VDC_CAST(relay, stream->data, RELAY_MAGIC);
    /* A reset is how a unix socket ends whose owner did not read all: for us an end as well. */
    if (got == UV_EOF || got == UV_ECONNRESET) {
        relay->unix_ended = true;
        uv_read_stop(stream);
        vdc_tls_shutdown(relay->tls);
        close_if_done(relay);
        return;
    }
    if (got < 0) {
        fail_uv(relay, "read", (int)got);
        return;
    }
    enum vdc_rc rc = vdc_tls_write(relay->tls, buf->base, (size_t)got);
    VDC_ASSERT(rc == VDC_RC_OK); /* its bound is far above ours */
    if (vdc_tls_queued(relay->tls) >= RELAY_QUEUE_HIGH) {
        uv_read_stop(stream);
    }
}

static void start_if_both(struct relay *relay)
{
    if (relay->tls_up && relay->unix_up) {
        uv_timer_stop(&relay->timer);
        uv_read_start((uv_stream_t *)&relay->pipe, on_alloc, on_unix_read);
        vdc_tls_resume(relay->tls);
    }
}

static void on_tls_up(void *data, struct vdc_tls *tls)
{
    struct relay *relay;
    VDC_CAST(relay, data, RELAY_MAGIC);
    relay->tls_up = true;
    vdc_tls_pause(tls);
    start_if_both(relay);
}

static void on_tls_data(void *data, struct vdc_tls *tls, const uint8_t *bytes, size_t len)
{
    (void)tls;
    struct relay *relay;
    VDC_CAST(relay, data, RELAY_MAGIC);
    if (!relay->unix_broken) {
        write_unix(relay, bytes, len);
    }
}

static void on_tls_end(void *data, struct vdc_tls *tls)
{
    (void)tls;
    struct relay *relay;
    VDC_CAST(relay, data, RELAY_MAGIC);
    relay->tls_ended = true;
    int rv = uv_shutdown(&relay->shutdown_req, (uv_stream_t *)&relay->pipe, on_shut);
    if (rv != 0) {
        relay->unix_shut = true;
        close_if_done(relay);
    }
}

static void on_tls_drained(void *data, struct vdc_tls *tls)
{
    (void)tls;
    struct relay *relay;
    VDC_CAST(relay, data, RELAY_MAGIC);
    if (relay->unix_up && !relay->unix_ended) {
        uv_read_start((uv_stream_t *)&relay->pipe, on_alloc, on_unix_read);
    }
}

static void on_tls_down(void *data, struct vdc_tls *tls, const struct vdc_err *why)
{
    (void)tls;
    struct relay *relay;
    VDC_CAST(relay, data, RELAY_MAGIC);
    relay->tls = NULL;
    fail(relay, why->rc, why->text);
}

static const struct vdc_tls_handlers relay_tls_handlers = {
    .on_up = on_tls_up,
    .on_data = on_tls_data,
    .on_end = on_tls_end,
    .on_drained = on_tls_drained,
    .on_down = on_tls_down,
};

static void on_tls_accept(void *data, struct vdc_tls *tls)
{
    struct relay *relay;
    VDC_CAST(relay, data, RELAY_MAGIC);
    if (relay->tls != NULL) { /* its handshake was under way when the first one's was done */
        vdc_tls_close(tls);
        return;
    }
    relay->tls = tls;
    vdc_tls_set_handlers(tls, &relay_tls_handlers, relay);
    on_tls_up(relay, tls);
    vdc_tls_listener_close(relay->listener);
    relay->listener = NULL;
}

static void on_tls_refused(void *data, const struct vdc_err *why)
{
    (void)data;
    fprintf(stderr, "vdc-relay: refused: %s\n", vdc_err_text(why));
}

static void on_unix_accept(uv_stream_t *server, int status)
{
    struct relay *relay;
    VDC_CAST(relay, server->data, RELAY_MAGIC);
    if (status != 0 || uv_accept(server, (uv_stream_t *)&relay->pipe) != 0) {
        return;
    }
    relay->unix_up = true;
    close_server_pipe(relay);
    struct vdc_err err;
    if (relay->config->address != NULL &&
        vdc_tls_dial(relay->context, relay->config->address, &relay->config->peer,
                     &relay_tls_handlers, relay, &relay->tls, &err) != VDC_RC_OK) {
        fail(relay, err.rc, err.text);
        return;
    }
    start_if_both(relay);
}

static void on_timeout(uv_timer_t *timer)
{
    struct relay *relay;
    VDC_CAST(relay, timer->data, RELAY_MAGIC);
    fail(relay, VDC_RC_TIMEOUT,
         relay->unix_up ? "the other relay did not come in time"
                        : "nobody connected to the unix socket in time");
}

static enum vdc_rc listen_unix(struct relay *relay, struct vdc_err *err)
{
    const char *path = relay->config->unix_path;
    unlink(path); /* of a relay that was killed */
    mode_t before = umask(0177);
    int rv = uv_pipe_bind(&relay->server_pipe, path);
    umask(before);
    if (rv == 0) {
        rv = uv_listen((uv_stream_t *)&relay->server_pipe, 1, on_unix_accept);
    }
    if (rv != 0) {
        return vdc_err_set(err, vdc_rc_from_errno(-rv), "listen at %s: %s", path, uv_strerror(rv));
    }
    return VDC_RC_OK;
}

static enum vdc_rc listen_tls(struct relay *relay, struct vdc_err *err)
{
    struct vdc_tls_listen_config config = {.address = relay->config->listen_at,
                                           .expected = relay->config->peer,
                                           .connections_max = 16,
                                           .on_accept = on_tls_accept,
                                           .on_refused = on_tls_refused,
                                           .data = relay};
    enum vdc_rc rc = vdc_tls_listen(relay->context, &config, &relay->listener, err);
    if (rc == VDC_RC_OK) {
        relay->port = vdc_tls_listener_port(relay->listener);
    }
    return rc;
}

enum vdc_rc relay_open(struct vdc_tls_context *context, const struct relay_config *config,
                       struct relay **out, struct vdc_err *err)
{
    uv_loop_t *loop = vdc_tls_context_loop(context);
    struct relay *relay = VDC_NEW(struct relay);
    *out = relay;
    relay->magic = RELAY_MAGIC;
    relay->config = config;
    relay->context = vdc_tls_context_ref(context);
    uv_pipe_init(loop, &relay->server_pipe, 0);
    uv_pipe_init(loop, &relay->pipe, 0);
    uv_timer_init(loop, &relay->timer);
    relay->server_pipe.data = relay->pipe.data = relay->timer.data = relay;
    relay->listening = true;
    uv_timer_start(&relay->timer, on_timeout, (uint64_t)config->timeout_s * 1000, 0);
    enum vdc_rc rc = listen_unix(relay, err);
    if (rc == VDC_RC_OK && config->address == NULL) {
        rc = listen_tls(relay, err);
    }
    if (rc != VDC_RC_OK) {
        close_relay(relay);
    }
    return rc;
}

uint16_t relay_port(const struct relay *relay)
{
    return relay->port;
}

enum vdc_rc relay_result(const struct relay *relay, struct vdc_err *err)
{
    *err = relay->result;
    return relay->result.rc;
}

void relay_free(struct relay *relay)
{
    relay->magic = 0;
    free(relay);
}
