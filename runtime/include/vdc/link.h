/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Framed links between daemons: each frame is a 4-byte big-endian length and as many bytes, 1 to
 * VDC_FRAME_MAX, over vdc/tls.h. What is in a frame, keepalives and sessions are the callers'.
 *
 * A link is dialled (and dialled again for ever) or accepted. The accepting end sends one empty
 * frame first, so a dialler's on_up means that its own certificate was accepted too; any other
 * empty frame breaks the protocol. Same rules about threads and callbacks as in vdc/tls.h.
 *
 *   dialled:  waiting -> connecting -> up -> waiting -> ...     until vdc_link_close()
 *   accepted:                          up -> (on_down, dead)
 */
#ifndef VDC_LINK_H
#define VDC_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/tls.h>

struct vdc_link;
struct vdc_link_listener;

/* Waits between two attempts of a dialler: doubled from MIN to MAX, each multiplied by a random
 * factor of 0.5 to 1.5, so that a thousand nodes don't return in one instant. It starts anew after
 * a link was up for VDC_LINK_STABLE_MS. */
#define VDC_LINK_BACKOFF_MIN_MS 100
#define VDC_LINK_BACKOFF_MAX_MS 2000
#define VDC_LINK_STABLE_MS 5000
/* Addresses of one dialler; tried in turn. */
#define VDC_LINK_ADDRESSES_MAX 16

struct vdc_link_handlers {
    /* Frames may be sent from now on. */
    void (*on_up)(void *data, struct vdc_link *link);
    /* One whole frame; borrowed for the call. */
    void (*on_frame)(void *data, struct vdc_link *link, const uint8_t *frame, size_t len);
    /* The queue has fallen to VDC_TLS_QUEUE_LOW: after LIMIT, send again. May be NULL. */
    void (*on_drained)(void *data, struct vdc_link *link);
    /* Not by our own close. Accepted: the last call, `link` is dead after it. Dialled: it is called
     * after each on_up and each attempt that failed; the link tries again by itself. */
    void (*on_down)(void *data, struct vdc_link *link, const struct vdc_err *why);
};

/* Dials the first of `addresses` (strings are copied), then the next after each failure, for ever.
 * `expected` as in vdc_tls_dial(). INVALID for a malformed address or none. */
enum vdc_rc vdc_link_dial(struct vdc_tls_context *context, const char *const *addresses,
                          size_t address_count, const struct vdc_peer *expected,
                          const struct vdc_link_handlers *handlers, void *data,
                          struct vdc_link **link, struct vdc_err *err) VDC_MUST_USE;

/* `data` is what on_up of a new link gets; vdc_link_set_data() changes it for that link. `peers` as
 * in struct vdc_tls_listen_config. on_refused (for the log) may be NULL. */
enum vdc_rc vdc_link_listen(struct vdc_tls_context *context, const char *address, unsigned peers,
                            const struct vdc_link_handlers *handlers,
                            void (*on_refused)(void *data, const struct vdc_err *why), void *data,
                            struct vdc_link_listener **listener, struct vdc_err *err) VDC_MUST_USE;
uint16_t vdc_link_listener_port(const struct vdc_link_listener *listener);
/* Its links live on. The pointer is dead afterwards; NULL is fine. */
void vdc_link_listener_close(struct vdc_link_listener *listener);

void vdc_link_set_data(struct vdc_link *link, void *data);
void *vdc_link_data(const struct vdc_link *link);
bool vdc_link_is_up(const struct vdc_link *link);
/* While up: the identity and the address of the other end. Else none and the address tried last. */
const struct vdc_peer *vdc_link_peer(const struct vdc_link *link);
const char *vdc_link_address(const struct vdc_link *link);

/* Queues one frame (a copy). LIMIT: the queue is full, see on_drained. END: the link is not up.
 * TOO_LARGE: more than VDC_FRAME_MAX; INVALID: empty. */
enum vdc_rc vdc_link_send(struct vdc_link *link, const void *frame, size_t len) VDC_MUST_USE;
size_t vdc_link_queued(const struct vdc_link *link);
/* No on_frame until resumed. */
void vdc_link_pause(struct vdc_link *link);
void vdc_link_resume(struct vdc_link *link);
/* Dialled only: ends the present connection without on_down and dials the next address at once (the
 * caller knows better, e.g. no answer to its keepalive, or a redirect). `address` (may be NULL) is
 * dialled first, once. */
void vdc_link_redial(struct vdc_link *link, const char *address);
/* Sends what is queued, then closes. No handler is called any more; the pointer is dead. NULL is
 * fine. */
void vdc_link_close(struct vdc_link *link);

#endif
