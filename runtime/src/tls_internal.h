/* SPDX-License-Identifier: Apache-2.0 */
/* What the tls_*.c files share. */
#ifndef VDC_RUNTIME_TLS_INTERNAL_H
#define VDC_RUNTIME_TLS_INTERNAL_H

#include <openssl/ssl.h>
#include <sys/queue.h>
#include <uv.h>

#include <vdc/base.h>
#include <vdc/buf.h>
#include <vdc/clock.h>
#include <vdc/tls.h>

#include "address.h"

#define TLS_MAGIC UINT32_C(0x544c5343)
#define TLS_CONTEXT_MAGIC UINT32_C(0x544c5358)
#define TLS_LISTENER_MAGIC UINT32_C(0x544c534c)

/* Bytes of one read from the kernel and of one decrypted piece (a TLS record has at most 16 KiB). */
#define TLS_READ_BYTES 65536
#define TLS_PLAIN_BYTES 16384
/* Bytes that are encrypted before the kernel is asked whether it takes them. */
#define TLS_ENCRYPT_BYTES ((size_t)256 << 10)
/* How often the lists of deadlines are looked at. */
#define TLS_TICK_MS 100
#define TLS_CONTEXT_HANDLES 3

/*
 *   RESOLVING -> CONNECTING -> HANDSHAKE -> UP -> LINGER -> CLOSED
 *   (dial)                     (accept)
 * Any of them may go to LINGER (an alert is still to be delivered) or CLOSED. From LINGER on, the
 * owner is gone and no handler is called.
 */
enum tls_state {
    TLS_RESOLVING,
    TLS_CONNECTING,
    TLS_HANDSHAKE,
    TLS_UP,
    TLS_LINGER,
    TLS_CLOSED,
};

/* Our sending half. */
enum tls_half { TLS_HALF_OPEN, TLS_HALF_ENDING, TLS_HALF_ENDED };

TAILQ_HEAD(tls_list, vdc_tls);

struct vdc_tls_context {
    uint32_t magic;
    uint32_t refs;
    uint32_t open_handles;
    uint32_t handshake_ms;
    uv_loop_t *loop;
    SSL_CTX *ssl_ctx;
    struct vdc_peer self;
    uint8_t alpn[256]; /* wire form: length, name; length 0: none */
    uv_idle_t idle;    /* active while `dirty` is not empty, so the loop doesn't sleep on it */
    uv_check_t check;
    uv_timer_t timer; /* active while a deadline list is not empty */
    uint64_t turn;
    struct tls_list dirty;
    struct tls_list handshaking; /* each list has one duration, so its order is that of deadlines */
    struct tls_list lingering;
    /* Shared by all connections: used only inside one call. */
    uint8_t read_bytes[TLS_READ_BYTES];
    uint8_t plain_bytes[TLS_PLAIN_BYTES];
    struct vdc_buf cipher; /* what OpenSSL wants sent, see tls_send_cipher() */
};

struct vdc_tls_listener {
    uint32_t magic;
    uint32_t refs; /* itself while open, and each connection */
    uint32_t connections;
    uint32_t connections_max;
    unsigned peers;
    bool certificate_optional;
    bool closed;
    uint16_t port;
    struct vdc_peer expected;
    struct vdc_tls_context *context;
    void (*on_accept)(void *data, struct vdc_tls *tls);
    void (*on_refused)(void *data, const struct vdc_err *why);
    void *data;
    uv_tcp_t tcp;
};

struct vdc_tls {
    uint32_t magic;
    enum tls_state state;
    enum tls_half half;
    bool is_dirty;
    bool paused;
    bool resumed;     /* the flush has to look at what was kept while paused */
    bool established; /* the handshake is done: what is queued may be encrypted */
    bool read_ended;  /* close_notify received */
    bool peer_eof;    /* TCP's end received */
    bool fin_sent;
    bool above_low;   /* on_drained is due when the queue has fallen */
    bool writing;     /* write_req is under way with `inflight` */
    bool lookup_busy; /* lookup_req is under way */
    bool handle_closed;
    struct vdc_tls_context *context;
    struct vdc_tls_listener *listener; /* NULL: dialled */
    SSL *ssl;
    uv_tcp_t tcp;
    uv_connect_t connect_req;
    uv_getaddrinfo_t lookup_req;
    uv_shutdown_t shutdown_req;
    uv_write_t write_req;
    const struct vdc_tls_handlers *handlers;
    void *data;
    char *address;
    struct vdc_peer peer;
    struct vdc_peer expected;
    unsigned peers;
    char *refusal;          /* why the peer's certificate was refused by us */
    struct vdc_err *failed; /* to be reported by the next flush */
    const uint8_t *in;      /* ciphertext not yet taken by OpenSSL, borrowed for one call */
    size_t in_len;
    struct vdc_buf spill; /* the same, kept while paused */
    struct vdc_buf out;   /* plaintext from out_at on */
    size_t out_at;
    struct vdc_buf inflight; /* ciphertext in the kernel's hands */
    struct vdc_buf backlog;  /* ciphertext behind it */
    size_t queue_max;
    vdc_mono deadline;
    struct tls_list *deadline_list; /* NULL: none */
    TAILQ_ENTRY(vdc_tls) deadline_entry;
    uint64_t dirty_turn; /* the context's turn in which it became dirty */
    TAILQ_ENTRY(vdc_tls) dirty_entry;
};

/* tls_bio.c */
BIO *tls_bio_create(struct vdc_tls *tls);

/* tls_context.c */
void tls_mark_dirty(struct vdc_tls *tls);
void tls_unmark_dirty(struct vdc_tls *tls);
void tls_set_deadline(struct vdc_tls *tls, struct tls_list *list, uint32_t ms);
void tls_clear_deadline(struct vdc_tls *tls);
/* The reason of OpenSSL's last error as text; clears its queue. */
const char *tls_openssl_reason(void);

/* tls.c */
struct vdc_tls *tls_create(struct vdc_tls_context *context, const char *address);
void tls_start_handshake(struct vdc_tls *tls, bool as_server);
void tls_flush(struct vdc_tls *tls);
void tls_expire(struct vdc_tls *tls);

/* tls_listener.c */
void tls_listener_unref(struct vdc_tls_listener *listener);
void tls_listener_refuse(struct vdc_tls_listener *listener, const struct vdc_err *why);

#endif
