/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one TLS layer under all links: TLS 1.3 with certificates of both ends (RFC 8446), OpenSSL fed
 * through BIOs of our own over libuv's TCP. Byte streams only; frames are vdc/link.h, HTTP is
 * vdc/http.h. Keepalives are the callers'.
 *
 * All calls and callbacks are on the loop's thread. No handler is called from inside a function of
 * this header. A handler may call any of them, also vdc_tls_close() on its own connection.
 *
 * Certificates are checked at the handshake (signer, dates, purpose, identity); a connection that is up
 * outlives the end of its certificate. There are no revocation lists: a peer is locked out by a new CA.
 *
 * Made for ten thousand idle peers in a process: an idle connection keeps no buffer, and handshake
 * and closing times share one timer.
 */
#ifndef VDC_TLS_H
#define VDC_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/err.h>
#include <vdc/limits.h>
#include <vdc/peer.h>

struct uv_loop_s;
struct vdc_tls_context;
struct vdc_tls_listener;
struct vdc_tls;

/* From the start of a dial or an accept until the peer is known: a handshake takes 2 ms of CPU, and
 * hundreds may arrive at once after a fault. */
#define VDC_TLS_HANDSHAKE_MS 10000
/* How long a close may take to deliver what is queued before it is cut off. */
#define VDC_TLS_LINGER_MS 5000
/* Bytes that wait to be sent, unless vdc_tls_set_queue_max() says otherwise: four of the largest
 * frames. */
#define VDC_TLS_QUEUE_MAX (UINT32_C(16) << 20)
/* on_drained is called when the queue falls to this many bytes or fewer: the pipe is not yet idle.
 */
#define VDC_TLS_QUEUE_LOW (UINT32_C(64) << 10)

struct vdc_tls_config {
    const char *ca_path;   /* PEM; who signs our peers */
    const char *cert_path; /* PEM; ours, with its chain */
    const char *key_path;
    const char *alpn; /* the one protocol offered and taken, e.g. "http/1.1"; NULL: none */
};

/* Reads the files, and makes the process ignore SIGPIPE. One context serves dials and listens of one
 * loop. INVALID, NOT_FOUND, ... with the file's name in err. Released by vdc_tls_context_unref();
 * connections and listeners hold their own reference. */
enum vdc_rc vdc_tls_context_create(struct uv_loop_s *loop, const struct vdc_tls_config *config,
                                   struct vdc_tls_context **context,
                                   struct vdc_err *err) VDC_MUST_USE;
struct vdc_tls_context *vdc_tls_context_ref(struct vdc_tls_context *context);
/* NULL is fine. With the last reference its handles on the loop are closed too. */
void vdc_tls_context_unref(struct vdc_tls_context *context);
struct uv_loop_s *vdc_tls_context_loop(const struct vdc_tls_context *context);
/* The identity in our own certificate (kind none if it has no such URI). */
const struct vdc_peer *vdc_tls_context_self(const struct vdc_tls_context *context);

/* Another handshake bound than VDC_TLS_HANDSHAKE_MS, for dials and accepts from now on; a bound for
 * one context, so that one timer does for all. */
void vdc_tls_context_set_handshake_ms(struct vdc_tls_context *context, uint32_t handshake_ms);

struct vdc_tls_handlers {
    /* Dial only: the handshake is done and the peer is the expected one. In TLS 1.3 the peer may
     * still refuse *our* certificate, which shows as on_down before its first byte. */
    void (*on_up)(void *data, struct vdc_tls *tls);
    /* Bytes are borrowed for the call. */
    void (*on_data)(void *data, struct vdc_tls *tls, const uint8_t *bytes, size_t len);
    /* The peer will send no more (close_notify), it may still read. NULL: such a connection is
     * closed, and on_down says END. */
    void (*on_end)(void *data, struct vdc_tls *tls);
    /* The queue fell from above VDC_TLS_QUEUE_LOW to it or below. May be NULL. */
    void (*on_drained)(void *data, struct vdc_tls *tls);
    /* Follows a vdc_tls_resume(), from the loop: to take up what the owner had kept itself. May be
     * NULL. */
    void (*on_resumed)(void *data, struct vdc_tls *tls);
    /* The connection is gone, not by our own vdc_tls_close(): the last call, `tls` is dead after
     * it. END: orderly end by the peer. UNAVAILABLE: could not connect, or the connection broke.
     * TIMEOUT, UNAUTHENTICATED (certificate or identity), PROTOCOL otherwise. The text begins with
     * "tls ADDRESS: ". */
    void (*on_down)(void *data, struct vdc_tls *tls, const struct vdc_err *why);
};

/* `address`: "10.0.0.2:7444", "[fd00::2]:7444" or "name:7444". The peer's certificate must be of
 * our CA and match `expected` (NULL: anybody of our CA that has an identity); the address is not
 * compared with it. INVALID for a malformed address; everything later comes by on_down. `handlers`
 * must stay valid. */
enum vdc_rc vdc_tls_dial(struct vdc_tls_context *context, const char *address,
                         const struct vdc_peer *expected, const struct vdc_tls_handlers *handlers,
                         void *data, struct vdc_tls **tls, struct vdc_err *err) VDC_MUST_USE;

struct vdc_tls_listen_config {
    const char *address;       /* "127.0.0.1:0": any free port, see vdc_tls_listener_port() */
    unsigned peers;            /* VDC_PEER_BIT()s that may come; 0: VDC_PEERS_ALL */
    struct vdc_peer expected;  /* beyond that, exactly this one (kind none: no more conditions) */
    bool certificate_optional; /* also peers without a certificate: vdc_tls_peer() is then none */
    uint32_t connections_max;  /* more are closed at once; 0: 16384 */
    /* Handshake done, the peer is acceptable. It must call vdc_tls_set_handlers() or
     * vdc_tls_close() before it returns. */
    void (*on_accept)(void *data, struct vdc_tls *tls);
    /* A connection that did not get that far, or one too many (LIMIT). For the log; may be NULL. */
    void (*on_refused)(void *data, const struct vdc_err *why);
    void *data;
};

/* Strings of the config are not kept. CONFLICT if the address is in use. */
enum vdc_rc vdc_tls_listen(struct vdc_tls_context *context,
                           const struct vdc_tls_listen_config *config,
                           struct vdc_tls_listener **listener, struct vdc_err *err) VDC_MUST_USE;
uint16_t vdc_tls_listener_port(const struct vdc_tls_listener *listener);
/* Accepted connections live on; those in their handshake are dropped. The pointer is dead
 * afterwards; NULL is fine. */
void vdc_tls_listener_close(struct vdc_tls_listener *listener);

void vdc_tls_set_handlers(struct vdc_tls *tls, const struct vdc_tls_handlers *handlers, void *data);
void vdc_tls_set_queue_max(struct vdc_tls *tls, size_t bytes);
/* Of the verified certificate. */
const struct vdc_peer *vdc_tls_peer(const struct vdc_tls *tls);
/* "10.0.0.2:7444": the other end's address as dialled or accepted. */
const char *vdc_tls_address(const struct vdc_tls *tls);

/* Queues a copy; sent with all else that was queued in this turn of the loop. Also before on_up.
 * LIMIT if the queue would exceed its bound (nothing is queued then), END after vdc_tls_shutdown().
 */
enum vdc_rc vdc_tls_write(struct vdc_tls *tls, const void *bytes, size_t len) VDC_MUST_USE;
/* The same for two pieces, both or none of which are queued: a header and its body. */
enum vdc_rc vdc_tls_write2(struct vdc_tls *tls, const void *head, size_t head_len, const void *body,
                           size_t body_len) VDC_MUST_USE;
/* Bytes that are not yet handed to the kernel. */
size_t vdc_tls_queued(const struct vdc_tls *tls);
/* No on_data until resumed: the peer is slowed down by TCP. on_down may still come. */
void vdc_tls_pause(struct vdc_tls *tls);
void vdc_tls_resume(struct vdc_tls *tls);
/* Half-close: sends what is queued and close_notify; reading goes on. */
void vdc_tls_shutdown(struct vdc_tls *tls);
/* Graceful: what is queued is still sent (for at most VDC_TLS_LINGER_MS), then it closes. No
 * handler is called any more and the pointer is dead afterwards. NULL is fine. */
void vdc_tls_close(struct vdc_tls *tls);
/* The same without sending what is queued. */
void vdc_tls_abort(struct vdc_tls *tls);

#endif
