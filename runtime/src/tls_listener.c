/* SPDX-License-Identifier: Apache-2.0 */
#include "tls_internal.h"

#include <string.h>

/* Connections that the kernel keeps for us while we are busy: Linux' default bound. */
#define LISTEN_BACKLOG 4096
#define CONNECTIONS_MAX_DEFAULT 16384

void tls_listener_unref(struct vdc_tls_listener *listener)
{
    VDC_ASSERT(listener->magic == TLS_LISTENER_MAGIC && listener->refs > 0);
    if (--listener->refs == 0) {
        struct vdc_tls_context *context = listener->context;
        listener->magic = 0;
        free(listener);
        vdc_tls_context_unref(context);
    }
}

void tls_listener_refuse(struct vdc_tls_listener *listener, const struct vdc_err *why)
{
    if (!listener->closed && listener->on_refused != NULL) {
        listener->on_refused(listener->data, why);
    }
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct vdc_tls_listener *listener;
    VDC_CAST(listener, handle->data, TLS_LISTENER_MAGIC);
    tls_listener_unref(listener);
}

static struct vdc_tls *accept_one(struct vdc_tls_listener *listener)
{
    struct vdc_tls *tls = tls_create(listener->context, "incoming");
    tls->listener = listener;
    listener->refs++;
    listener->connections++;
    tls->expected = listener->expected;
    tls->peers = listener->peers;
    if (uv_accept((uv_stream_t *)&listener->tcp, (uv_stream_t *)&tls->tcp) != 0) {
        vdc_tls_abort(tls); /* it was gone again */
        return NULL;
    }
    struct sockaddr_storage from = {0};
    int len = sizeof(from);
    if (uv_tcp_getpeername(&tls->tcp, (struct sockaddr *)&from, &len) == 0) {
        char text[VDC_ADDRESS_CAP];
        vdc_address_to_text(&from, text);
        free(tls->address);
        tls->address = vdc_strdup(text);
    }
    return tls;
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct vdc_tls_listener *listener;
    VDC_CAST(listener, stream->data, TLS_LISTENER_MAGIC);
    struct vdc_err why;
    if (status != 0) {
        vdc_err_set(&why, VDC_RC_LIMIT, "tls: accept: %s", uv_strerror(status));
        tls_listener_refuse(listener, &why);
        return;
    }
    struct vdc_tls *tls = accept_one(listener);
    if (tls == NULL) {
        return;
    }
    if (listener->connections > listener->connections_max) {
        vdc_err_set(&why, VDC_RC_LIMIT, "tls %s: more than %u connections", tls->address,
                    listener->connections_max);
        vdc_tls_abort(tls);
        tls_listener_refuse(listener, &why);
        return;
    }
    if (!listener->certificate_optional) {
        SSL_set_verify(tls->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       SSL_get_verify_callback(tls->ssl));
    }
    tls_set_deadline(tls, &listener->context->handshaking, listener->context->handshake_ms);
    tls_start_handshake(tls, true);
}

static int bind_and_listen(struct vdc_tls_listener *listener, const struct sockaddr_storage *at)
{
    int rv = uv_tcp_bind(&listener->tcp, (const struct sockaddr *)at, 0);
    if (rv == 0) {
        rv = uv_listen((uv_stream_t *)&listener->tcp, LISTEN_BACKLOG, on_connection);
    }
    struct sockaddr_storage bound = {0};
    int len = sizeof(bound);
    if (rv == 0) {
        rv = uv_tcp_getsockname(&listener->tcp, (struct sockaddr *)&bound, &len);
    }
    listener->port = rv == 0 ? vdc_address_port(&bound) : 0;
    return rv;
}

enum vdc_rc vdc_tls_listen(struct vdc_tls_context *context,
                           const struct vdc_tls_listen_config *config,
                           struct vdc_tls_listener **out, struct vdc_err *err)
{
    struct vdc_address address;
    enum vdc_rc rc = vdc_address_parse(config->address, &address, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (!address.is_literal) {
        return vdc_err_set(err, VDC_RC_INVALID, "listen at %s: wanted an IP address",
                           config->address);
    }
    struct vdc_tls_listener *listener = VDC_NEW(struct vdc_tls_listener);
    listener->magic = TLS_LISTENER_MAGIC;
    listener->refs = 1;
    listener->context = vdc_tls_context_ref(context);
    listener->connections_max =
        config->connections_max != 0 ? config->connections_max : CONNECTIONS_MAX_DEFAULT;
    listener->peers = config->peers != 0 ? config->peers : VDC_PEERS_ALL;
    listener->certificate_optional = config->certificate_optional;
    listener->expected = config->expected;
    listener->on_accept = config->on_accept;
    listener->on_refused = config->on_refused;
    listener->data = config->data;
    int rv = uv_tcp_init(context->loop, &listener->tcp);
    VDC_ASSERT(rv == 0);
    listener->tcp.data = listener;
    rv = bind_and_listen(listener, &address.sockaddr);
    if (rv != 0) {
        listener->closed = true;
        uv_close((uv_handle_t *)&listener->tcp, on_listener_closed);
        return vdc_err_set(err, rv == UV_EADDRINUSE ? VDC_RC_CONFLICT : vdc_rc_from_errno(-rv),
                           "listen at %s: %s", config->address, uv_strerror(rv));
    }
    *out = listener;
    return VDC_RC_OK;
}

uint16_t vdc_tls_listener_port(const struct vdc_tls_listener *listener)
{
    return listener->port;
}

void vdc_tls_listener_close(struct vdc_tls_listener *listener)
{
    if (listener == NULL) {
        return;
    }
    VDC_ASSERT(listener->magic == TLS_LISTENER_MAGIC && !listener->closed);
    listener->closed = true;
    struct vdc_tls *tls = TAILQ_FIRST(&listener->context->handshaking);
    while (tls != NULL) {
        struct vdc_tls *next = TAILQ_NEXT(tls, deadline_entry);
        if (tls->listener == listener) {
            vdc_tls_abort(tls);
        }
        tls = next;
    }
    uv_close((uv_handle_t *)&listener->tcp, on_listener_closed);
}
