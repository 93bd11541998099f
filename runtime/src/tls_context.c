/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The context: keys, the check of a peer's certificate, and what all connections of a loop share -
 * the list of connections with something to send (flushed once per turn of the loop, so that many
 * small writes become few records) and the lists of deadlines.
 */
#include "tls_internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

const char *tls_openssl_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return reason != NULL ? reason : "no reason given";
}

/* The vdc:// identity of a certificate; INVALID if there is none or more than one. */
static enum vdc_rc read_identity(X509 *certificate, struct vdc_peer *peer)
{
    *peer = (struct vdc_peer){0};
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int found = 0;
    for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI) {
            continue;
        }
        const char *uri = (const char *)ASN1_STRING_get0_data(name->d.uniformResourceIdentifier);
        int len = ASN1_STRING_length(name->d.uniformResourceIdentifier);
        if (len < 6 || memcmp(uri, "vdc://", 6) != 0) {
            continue;
        }
        found++;
        if (vdc_peer_parse(uri, (size_t)len, peer) != VDC_RC_OK) {
            found = -1;
            break;
        }
    }
    GENERAL_NAMES_free(names);
    if (found != 1) {
        *peer = (struct vdc_peer){0};
        return VDC_RC_INVALID;
    }
    return VDC_RC_OK;
}

static char *refuse_identity(const struct vdc_tls *tls, const struct vdc_peer *peer)
{
    char is[VDC_PEER_TEXT_CAP];
    char wanted[VDC_PEER_TEXT_CAP];
    vdc_peer_to_text(peer, is);
    vdc_peer_to_text(&tls->expected, wanted);
    if (!vdc_peer_matches(peer, &tls->expected)) {
        return vdc_asprintf("peer certificate is %s, expected %s", is, wanted);
    }
    if ((tls->peers & VDC_PEER_BIT(peer->kind)) == 0) {
        return vdc_asprintf("peer certificate is %s, and a %s may not come here", is,
                            vdc_peer_kind_name(peer->kind));
    }
    return NULL;
}

/* Called by OpenSSL for each certificate of the chain, the peer's own last. Refusing here and not
 * after the handshake tells the peer by an alert. */
static int on_verify(int ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct vdc_tls *tls;
    VDC_CAST(tls, SSL_get_app_data(ssl), TLS_MAGIC);
    if (!ok) {
        if (tls->refusal == NULL) {
            tls->refusal =
                vdc_asprintf("peer certificate refused: %s",
                             X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
        }
        return 0;
    }
    if (X509_STORE_CTX_get_error_depth(store) != 0) {
        return 1;
    }
    struct vdc_peer peer;
    if (read_identity(X509_STORE_CTX_get_current_cert(store), &peer) != VDC_RC_OK) {
        tls->refusal = vdc_strdup("peer certificate has no identity (one URI vdc://KIND/NAME)");
    } else {
        tls->refusal = refuse_identity(tls, &peer);
    }
    if (tls->refusal != NULL) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
        return 0;
    }
    tls->peer = peer;
    return 1;
}

static int on_select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                          const unsigned char *in, unsigned in_len, void *data)
{
    (void)ssl;
    const struct vdc_tls_context *context = data;
    unsigned char *selected;
    if (SSL_select_next_proto(&selected, out_len, context->alpn, 1u + context->alpn[0], in,
                              in_len) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301: no_application_protocol */
    }
    *out = selected;
    return SSL_TLSEXT_ERR_OK;
}

static enum vdc_rc fail_file(const char *what, const char *path, struct vdc_err *err)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        ERR_clear_error();
        return vdc_err_errno(err, errno, "%s %s", what, path);
    }
    fclose(file);
    return vdc_err_set(err, VDC_RC_INVALID, "%s %s: %s", what, path, tls_openssl_reason());
}

static enum vdc_rc load_files(struct vdc_tls_context *context, const struct vdc_tls_config *config,
                              struct vdc_err *err)
{
    SSL_CTX *ctx = context->ssl_ctx;
    if (SSL_CTX_load_verify_file(ctx, config->ca_path) != 1) {
        return fail_file("CA certificate", config->ca_path, err);
    }
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(config->ca_path);
    if (names != NULL) {
        SSL_CTX_set_client_CA_list(ctx, names);
    }
    if (SSL_CTX_use_certificate_chain_file(ctx, config->cert_path) != 1) {
        return fail_file("certificate", config->cert_path, err);
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, config->key_path, SSL_FILETYPE_PEM) != 1) {
        return fail_file("private key", config->key_path, err);
    }
    if (SSL_CTX_check_private_key(ctx) != 1) {
        ERR_clear_error();
        return vdc_err_set(err, VDC_RC_INVALID, "private key %s does not belong to certificate %s",
                           config->key_path, config->cert_path);
    }
    /* One without identity may serve browsers; our own peers will refuse it. */
    if (read_identity(SSL_CTX_get0_certificate(ctx), &context->self) != VDC_RC_OK) {
        context->self = (struct vdc_peer){0};
    }
    return VDC_RC_OK;
}

static SSL_CTX *make_ssl_ctx(struct vdc_tls_context *context)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    VDC_ASSERT(ctx != NULL);
    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    /* No resumption: each peer shows its certificate each time, and tickets cost a record each. */
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, on_verify);
    if (context->alpn[0] != 0) {
        SSL_CTX_set_alpn_protos(ctx, context->alpn, 1u + context->alpn[0]);
        SSL_CTX_set_alpn_select_cb(ctx, on_select_alpn, context);
    }
    return ctx;
}

static void on_context_closed(uv_handle_t *handle)
{
    struct vdc_tls_context *context;
    VDC_CAST(context, handle->data, TLS_CONTEXT_MAGIC);
    if (--context->open_handles > 0) {
        return;
    }
    vdc_buf_deinit(&context->cipher);
    SSL_CTX_free(context->ssl_ctx);
    context->magic = 0;
    free(context);
}

/* Only those that are dirty now: what handlers write meanwhile goes in the next turn, so that nobody
 * else of the loop starves. New ones stand behind in the list and carry the new turn's number. */
static void flush_dirty(struct vdc_tls_context *context)
{
    uint64_t turn = context->turn++;
    struct vdc_tls *tls;
    while ((tls = TAILQ_FIRST(&context->dirty)) != NULL && tls->dirty_turn <= turn) {
        tls_unmark_dirty(tls);
        tls_flush(tls);
    }
    if (TAILQ_EMPTY(&context->dirty)) {
        uv_idle_stop(&context->idle);
    }
}

static void on_idle(uv_idle_t *handle)
{
    struct vdc_tls_context *context;
    VDC_CAST(context, handle->data, TLS_CONTEXT_MAGIC);
    flush_dirty(context);
}

static void on_check(uv_check_t *handle)
{
    struct vdc_tls_context *context;
    VDC_CAST(context, handle->data, TLS_CONTEXT_MAGIC);
    flush_dirty(context);
}

static void expire_list(struct tls_list *list, vdc_mono now)
{
    struct vdc_tls *tls;
    while ((tls = TAILQ_FIRST(list)) != NULL && vdc_mono_reached(now, tls->deadline)) {
        tls_clear_deadline(tls);
        tls_expire(tls);
    }
}

static void on_timer(uv_timer_t *handle)
{
    struct vdc_tls_context *context;
    VDC_CAST(context, handle->data, TLS_CONTEXT_MAGIC);
    vdc_mono now = vdc_clock_mono();
    context->refs++; /* the last connection may go in here */
    expire_list(&context->handshaking, now);
    expire_list(&context->lingering, now);
    if (TAILQ_EMPTY(&context->handshaking) && TAILQ_EMPTY(&context->lingering)) {
        uv_timer_stop(&context->timer);
    }
    vdc_tls_context_unref(context);
}

enum vdc_rc vdc_tls_context_create(struct uv_loop_s *loop, const struct vdc_tls_config *config,
                                   struct vdc_tls_context **out, struct vdc_err *err)
{
    /* libuv writes with write(2): a peer that is gone must be an error, not the end of us. */
    signal(SIGPIPE, SIG_IGN);
    struct vdc_tls_context *context = VDC_NEW(struct vdc_tls_context);
    context->magic = TLS_CONTEXT_MAGIC;
    context->refs = 1;
    context->handshake_ms = VDC_TLS_HANDSHAKE_MS;
    context->loop = loop;
    TAILQ_INIT(&context->dirty);
    TAILQ_INIT(&context->handshaking);
    TAILQ_INIT(&context->lingering);
    if (config->alpn != NULL) {
        size_t len = strlen(config->alpn);
        VDC_ASSERT(len > 0 && len < sizeof(context->alpn));
        context->alpn[0] = (uint8_t)len;
        memcpy(context->alpn + 1, config->alpn, len);
    }
    context->ssl_ctx = make_ssl_ctx(context);
    enum vdc_rc rc = load_files(context, config, err);
    if (rc != VDC_RC_OK) {
        SSL_CTX_free(context->ssl_ctx);
        free(context);
        return rc;
    }
    uv_idle_init(loop, &context->idle);
    uv_check_init(loop, &context->check);
    uv_timer_init(loop, &context->timer);
    context->open_handles = TLS_CONTEXT_HANDLES;
    context->idle.data = context->check.data = context->timer.data = context;
    uv_check_start(&context->check, on_check);
    /* A loop without connections may end. */
    uv_unref((uv_handle_t *)&context->check);
    uv_unref((uv_handle_t *)&context->timer);
    *out = context;
    return VDC_RC_OK;
}

struct vdc_tls_context *vdc_tls_context_ref(struct vdc_tls_context *context)
{
    VDC_ASSERT(context->magic == TLS_CONTEXT_MAGIC && context->refs > 0);
    context->refs++;
    return context;
}

void vdc_tls_context_unref(struct vdc_tls_context *context)
{
    if (context == NULL) {
        return;
    }
    VDC_ASSERT(context->magic == TLS_CONTEXT_MAGIC && context->refs > 0);
    if (--context->refs == 0) {
        uv_close((uv_handle_t *)&context->idle, on_context_closed);
        uv_close((uv_handle_t *)&context->check, on_context_closed);
        uv_close((uv_handle_t *)&context->timer, on_context_closed);
    }
}

struct uv_loop_s *vdc_tls_context_loop(const struct vdc_tls_context *context)
{
    return context->loop;
}

const struct vdc_peer *vdc_tls_context_self(const struct vdc_tls_context *context)
{
    return &context->self;
}

void vdc_tls_context_set_handshake_ms(struct vdc_tls_context *context, uint32_t handshake_ms)
{
    /* Another duration would break the order of the list. */
    VDC_ASSERT(TAILQ_EMPTY(&context->handshaking));
    context->handshake_ms = handshake_ms;
}

void tls_mark_dirty(struct vdc_tls *tls)
{
    if (tls->is_dirty) {
        return;
    }
    struct vdc_tls_context *context = tls->context;
    tls->is_dirty = true;
    tls->dirty_turn = context->turn;
    TAILQ_INSERT_TAIL(&context->dirty, tls, dirty_entry);
    uv_idle_start(&context->idle, on_idle);
}

void tls_unmark_dirty(struct vdc_tls *tls)
{
    if (tls->is_dirty) {
        tls->is_dirty = false;
        TAILQ_REMOVE(&tls->context->dirty, tls, dirty_entry);
    }
}

void tls_set_deadline(struct vdc_tls *tls, struct tls_list *list, uint32_t ms)
{
    tls_clear_deadline(tls);
    tls->deadline = vdc_mono_add(vdc_clock_mono(), (int64_t)ms * VDC_MS);
    tls->deadline_list = list;
    TAILQ_INSERT_TAIL(list, tls, deadline_entry);
    if (!uv_is_active((uv_handle_t *)&tls->context->timer)) {
        uv_timer_start(&tls->context->timer, on_timer, TLS_TICK_MS, TLS_TICK_MS);
    }
}

void tls_clear_deadline(struct vdc_tls *tls)
{
    if (tls->deadline_list != NULL) {
        TAILQ_REMOVE(tls->deadline_list, tls, deadline_entry);
        tls->deadline_list = NULL;
    }
}
