/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames over TLS, and dialling again. A dialler keeps its object for ever and its connection from
 * attempt to attempt; an accepted link is its connection.
 *
 *   WAITING --timer--> CONNECTING --TLS up, greeting--> UP
 *      ^___________________|____________________________|   on_down, back-off
 */
#include <vdc/link.h>

#include <stdio.h>
#include <string.h>
#include <uv.h>

#include <vdc/base.h>
#include <vdc/buf.h>
#include <vdc/clock.h>
#include <vdc/entropy.h>

#include "address.h"

#define LINK_MAGIC UINT32_C(0x4c494e4b)
#define LINK_LISTENER_MAGIC UINT32_C(0x4c4c4953)
#define HEADER_BYTES 4

enum link_state { LINK_WAITING, LINK_CONNECTING, LINK_UP, LINK_CLOSED };

struct vdc_link {
    uint32_t magic;
    enum link_state state;
    bool dialled;
    bool paused;
    bool in_input; /* take_frames is on the stack */
    struct vdc_tls_context *context;
    struct vdc_tls *tls; /* NULL while WAITING */
    const struct vdc_link_handlers *handlers;
    void *data;
    struct vdc_buf in; /* the beginning of a frame that is not yet whole */

    /* Dialled only. */
    uv_timer_t timer; /* WAITING: the next attempt; CONNECTING: the greeting's bound */
    char *addresses[VDC_LINK_ADDRESSES_MAX];
    size_t address_count;
    size_t address_next;
    char *address_once; /* a redirect: tried before the list */
    char *address_last;
    struct vdc_peer expected;
    int64_t backoff_ms; /* 0: none yet */
    vdc_mono up_at;
    struct vdc_prng prng;
};

struct vdc_link_listener {
    uint32_t magic;
    struct vdc_tls_context *context;
    struct vdc_tls_listener *tls;
    const struct vdc_link_handlers *handlers;
    void (*on_refused)(void *data, const struct vdc_err *why);
    void *data;
};

static const struct vdc_tls_handlers link_tls_handlers;

static void free_link(struct vdc_link *link)
{
    for (size_t i = 0; i < link->address_count; i++) {
        free(link->addresses[i]);
    }
    free(link->address_once);
    free(link->address_last);
    vdc_buf_deinit(&link->in);
    vdc_tls_context_unref(link->context);
    link->magic = 0;
    free(link);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct vdc_link *link;
    VDC_CAST(link, handle->data, LINK_MAGIC);
    free_link(link);
}

/* The object goes when nobody uses it: a dialler's with its timer, and never under take_frames. */
static void release_link(struct vdc_link *link)
{
    link->state = LINK_CLOSED;
    if (link->in_input) {
        return; /* take_frames releases it */
    }
    if (link->dialled) {
        uv_close((uv_handle_t *)&link->timer, on_timer_closed);
    } else {
        free_link(link);
    }
}

static void start_attempt(struct vdc_link *link);

static void on_wait_over(uv_timer_t *timer)
{
    struct vdc_link *link;
    VDC_CAST(link, timer->data, LINK_MAGIC);
    start_attempt(link);
}

/* 100 ms, 200 ms, ... 2 s, each times 0.5 to 1.5. */
static void enter_waiting(struct vdc_link *link)
{
    link->state = LINK_WAITING;
    link->tls = NULL;
    vdc_buf_deinit(&link->in);
    int64_t next = link->backoff_ms == 0 ? VDC_LINK_BACKOFF_MIN_MS : link->backoff_ms * 2;
    link->backoff_ms = VDC_MIN(next, VDC_LINK_BACKOFF_MAX_MS);
    uint64_t base = (uint64_t)link->backoff_ms;
    uint64_t wait_ms = base / 2 + vdc_prng_below(&link->prng, base + 1);
    uv_timer_start(&link->timer, on_wait_over, wait_ms, 0);
}

/* The connection is gone or was given up by us. */
static void end_connection(struct vdc_link *link, const struct vdc_err *why)
{
    bool was_up = link->state == LINK_UP;
    link->tls = NULL;
    if (!link->dialled) {
        link->state = LINK_CLOSED; /* closing it in there is neither needed nor allowed */
        link->handlers->on_down(link->data, link, why);
        release_link(link);
        return;
    }
    if (was_up && vdc_mono_sub(vdc_clock_mono(), link->up_at) >= VDC_LINK_STABLE_MS * VDC_MS) {
        link->backoff_ms = 0;
    }
    enter_waiting(link);
    link->handlers->on_down(link->data, link, why);
}

static void break_connection(struct vdc_link *link, enum vdc_rc rc, const char *text)
{
    struct vdc_err why;
    vdc_err_set(&why, rc, "link %s: %s", vdc_tls_address(link->tls), text);
    vdc_tls_close(link->tls);
    end_connection(link, &why);
}

static void on_greeting_late(uv_timer_t *timer)
{
    struct vdc_link *link;
    VDC_CAST(link, timer->data, LINK_MAGIC);
    break_connection(link, VDC_RC_TIMEOUT, "no greeting in time");
}

static const char *next_address(struct vdc_link *link)
{
    free(link->address_last);
    if (link->address_once != NULL) {
        link->address_last = vdc_steal(&link->address_once);
    } else {
        link->address_last = vdc_strdup(link->addresses[link->address_next]);
        link->address_next = (link->address_next + 1) % link->address_count;
    }
    return link->address_last;
}

static void start_attempt(struct vdc_link *link)
{
    link->state = LINK_CONNECTING;
    struct vdc_err err;
    /* Checked when it was given; so this can't fail for the address. */
    enum vdc_rc rc = vdc_tls_dial(link->context, next_address(link), &link->expected,
                                  &link_tls_handlers, link, &link->tls, &err);
    VDC_ASSERT(rc == VDC_RC_OK);
    uv_timer_stop(&link->timer);
}

static void link_on_up(void *data, struct vdc_tls *tls)
{
    (void)tls;
    struct vdc_link *link;
    VDC_CAST(link, data, LINK_MAGIC);
    uv_timer_start(&link->timer, on_greeting_late, VDC_TLS_HANDSHAKE_MS, 0);
}

static void enter_up(struct vdc_link *link)
{
    link->state = LINK_UP;
    if (link->dialled) {
        uv_timer_stop(&link->timer);
        link->up_at = vdc_clock_mono();
    }
    if (link->paused) {
        vdc_tls_pause(link->tls);
    }
    link->handlers->on_up(link->data, link);
}

static uint32_t read_length(const uint8_t *header)
{
    return (uint32_t)header[0] << 24 | (uint32_t)header[1] << 16 | (uint32_t)header[2] << 8 |
           (uint32_t)header[3];
}

/* One frame header with its `len` bytes behind. False: the connection is broken. */
static bool take_frame(struct vdc_link *link, const uint8_t *frame, size_t len)
{
    if (link->state == LINK_CONNECTING) {
        if (len != 0) {
            break_connection(link, VDC_RC_PROTOCOL, "a frame came before the greeting");
            return false;
        }
        enter_up(link);
        return true;
    }
    if (len == 0) {
        break_connection(link, VDC_RC_PROTOCOL, "an empty frame came");
        return false;
    }
    link->handlers->on_frame(link->data, link, frame, len);
    return true;
}

/* Takes whole frames from the front; returns the bytes used. Stops when the link's connection is no
 * longer `tls`, or when the owner paused it. */
static size_t take_frames(struct vdc_link *link, const struct vdc_tls *tls, const uint8_t *bytes,
                          size_t len)
{
    size_t used = 0;
    while (link->state != LINK_CLOSED && link->tls == tls &&
           !(link->paused && link->state == LINK_UP) && len - used >= HEADER_BYTES) {
        uint32_t frame_len = read_length(bytes + used);
        if (frame_len > VDC_FRAME_MAX) {
            break_connection(link, VDC_RC_PROTOCOL, "a frame is longer than the bound");
            break;
        }
        if (len - used - HEADER_BYTES < frame_len) {
            break;
        }
        const uint8_t *frame = bytes + used + HEADER_BYTES;
        used += HEADER_BYTES + frame_len;
        if (!take_frame(link, frame, frame_len)) {
            break;
        }
    }
    return used;
}

/* Feeds `bytes` (may be none: after a resume) behind what is kept. */
static void feed(struct vdc_link *link, const uint8_t *bytes, size_t len)
{
    const struct vdc_tls *tls = link->tls;
    VDC_ASSERT(!link->in_input);
    link->in_input = true;
    if (link->in.len == 0) {
        size_t used = take_frames(link, tls, bytes, len);
        if (link->state != LINK_CLOSED && link->tls == tls && used < len) {
            vdc_buf_append(&link->in, bytes + used, len - used);
        }
    } else {
        /* Out of the link for the time: a handler may redial, which drops the link's own. */
        struct vdc_buf in = link->in;
        link->in = (struct vdc_buf){0};
        vdc_buf_append(&in, bytes, len);
        size_t used = take_frames(link, tls, (const uint8_t *)in.data, in.len);
        if (link->state != LINK_CLOSED && link->tls == tls && used < in.len) {
            vdc_buf_consume(&in, used);
            link->in = in;
        } else {
            vdc_buf_deinit(&in);
        }
    }
    link->in_input = false;
    if (link->state == LINK_CLOSED) {
        release_link(link);
    }
}

static void link_on_data(void *data, struct vdc_tls *tls, const uint8_t *bytes, size_t len)
{
    (void)tls;
    struct vdc_link *link;
    VDC_CAST(link, data, LINK_MAGIC);
    feed(link, bytes, len);
}

/* What was kept while paused. */
static void link_on_resumed(void *data, struct vdc_tls *tls)
{
    (void)tls;
    struct vdc_link *link;
    VDC_CAST(link, data, LINK_MAGIC);
    if (link->in.len > 0) {
        feed(link, NULL, 0);
    }
}

static void link_on_drained(void *data, struct vdc_tls *tls)
{
    (void)tls;
    struct vdc_link *link;
    VDC_CAST(link, data, LINK_MAGIC);
    if (link->state == LINK_UP && link->handlers->on_drained != NULL) {
        link->handlers->on_drained(link->data, link);
    }
}

static void link_on_down(void *data, struct vdc_tls *tls, const struct vdc_err *why)
{
    (void)tls;
    struct vdc_link *link;
    VDC_CAST(link, data, LINK_MAGIC);
    end_connection(link, why);
}

static const struct vdc_tls_handlers link_tls_handlers = {
    .on_up = link_on_up,
    .on_data = link_on_data,
    .on_drained = link_on_drained,
    .on_resumed = link_on_resumed,
    .on_down = link_on_down,
};

enum vdc_rc vdc_link_dial(struct vdc_tls_context *context, const char *const *addresses,
                          size_t address_count, const struct vdc_peer *expected,
                          const struct vdc_link_handlers *handlers, void *data,
                          struct vdc_link **out, struct vdc_err *err)
{
    if (address_count == 0 || address_count > VDC_LINK_ADDRESSES_MAX) {
        return vdc_err_set(err, VDC_RC_INVALID, "link: wanted 1 to %d addresses",
                           VDC_LINK_ADDRESSES_MAX);
    }
    for (size_t i = 0; i < address_count; i++) {
        struct vdc_address parsed;
        enum vdc_rc rc = vdc_address_parse(addresses[i], &parsed, err);
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    struct vdc_link *link = VDC_NEW(struct vdc_link);
    link->magic = LINK_MAGIC;
    link->dialled = true;
    link->context = vdc_tls_context_ref(context);
    link->handlers = handlers;
    link->data = data;
    link->address_count = address_count;
    for (size_t i = 0; i < address_count; i++) {
        link->addresses[i] = vdc_strdup(addresses[i]);
    }
    if (expected != NULL) {
        link->expected = *expected;
    }
    vdc_prng_init(&link->prng, vdc_entropy_seed());
    uv_timer_init(vdc_tls_context_loop(context), &link->timer);
    link->timer.data = link;
    start_attempt(link);
    *out = link;
    return VDC_RC_OK;
}

static void on_accept(void *data, struct vdc_tls *tls)
{
    struct vdc_link_listener *listener;
    VDC_CAST(listener, data, LINK_LISTENER_MAGIC);
    struct vdc_link *link = VDC_NEW(struct vdc_link);
    link->magic = LINK_MAGIC;
    link->context = vdc_tls_context_ref(listener->context);
    link->tls = tls;
    link->handlers = listener->handlers;
    link->data = listener->data;
    vdc_tls_set_handlers(tls, &link_tls_handlers, link);
    static const uint8_t greeting[HEADER_BYTES] = {0};
    enum vdc_rc rc = vdc_tls_write(tls, greeting, sizeof(greeting));
    VDC_ASSERT(rc == VDC_RC_OK);
    enter_up(link);
}

static void on_refused(void *data, const struct vdc_err *why)
{
    struct vdc_link_listener *listener;
    VDC_CAST(listener, data, LINK_LISTENER_MAGIC);
    if (listener->on_refused != NULL) {
        listener->on_refused(listener->data, why);
    }
}

enum vdc_rc vdc_link_listen(struct vdc_tls_context *context, const char *address, unsigned peers,
                            const struct vdc_link_handlers *handlers,
                            void (*refused)(void *data, const struct vdc_err *why), void *data,
                            struct vdc_link_listener **out, struct vdc_err *err)
{
    struct vdc_link_listener *listener = VDC_NEW(struct vdc_link_listener);
    listener->magic = LINK_LISTENER_MAGIC;
    listener->context = context;
    listener->handlers = handlers;
    listener->on_refused = refused;
    listener->data = data;
    struct vdc_tls_listen_config config = {.address = address,
                                           .peers = peers,
                                           .on_accept = on_accept,
                                           .on_refused = on_refused,
                                           .data = listener};
    enum vdc_rc rc = vdc_tls_listen(context, &config, &listener->tls, err);
    if (rc != VDC_RC_OK) {
        free(listener);
        return rc;
    }
    *out = listener;
    return VDC_RC_OK;
}

uint16_t vdc_link_listener_port(const struct vdc_link_listener *listener)
{
    return vdc_tls_listener_port(listener->tls);
}

void vdc_link_listener_close(struct vdc_link_listener *listener)
{
    if (listener == NULL) {
        return;
    }
    VDC_ASSERT(listener->magic == LINK_LISTENER_MAGIC);
    /* The TLS listener calls nothing of ours after this. */
    vdc_tls_listener_close(listener->tls);
    listener->magic = 0;
    free(listener);
}

void vdc_link_set_data(struct vdc_link *link, void *data)
{
    link->data = data;
}

void *vdc_link_data(const struct vdc_link *link)
{
    return link->data;
}

bool vdc_link_is_up(const struct vdc_link *link)
{
    return link->state == LINK_UP && link->tls != NULL;
}

const struct vdc_peer *vdc_link_peer(const struct vdc_link *link)
{
    static const struct vdc_peer none;
    return vdc_link_is_up(link) ? vdc_tls_peer(link->tls) : &none;
}

const char *vdc_link_address(const struct vdc_link *link)
{
    if (link->tls != NULL) {
        return vdc_tls_address(link->tls);
    }
    return link->address_last != NULL ? link->address_last : "";
}

enum vdc_rc vdc_link_send(struct vdc_link *link, const void *frame, size_t len)
{
    VDC_ASSERT(link->magic == LINK_MAGIC);
    if (len == 0) {
        return VDC_RC_INVALID;
    }
    if (len > VDC_FRAME_MAX) {
        return VDC_RC_TOO_LARGE;
    }
    if (!vdc_link_is_up(link)) {
        return VDC_RC_END;
    }
    const uint8_t header[HEADER_BYTES] = {(uint8_t)(len >> 24), (uint8_t)(len >> 16),
                                          (uint8_t)(len >> 8), (uint8_t)len};
    return vdc_tls_write2(link->tls, header, sizeof(header), frame, len);
}

size_t vdc_link_queued(const struct vdc_link *link)
{
    return link->tls != NULL ? vdc_tls_queued(link->tls) : 0;
}

void vdc_link_pause(struct vdc_link *link)
{
    link->paused = true;
    if (vdc_link_is_up(link)) {
        vdc_tls_pause(link->tls);
    }
}

void vdc_link_resume(struct vdc_link *link)
{
    link->paused = false;
    if (vdc_link_is_up(link)) {
        vdc_tls_resume(link->tls);
    }
}

void vdc_link_redial(struct vdc_link *link, const char *address)
{
    VDC_ASSERT(link->magic == LINK_MAGIC && link->dialled && link->state != LINK_CLOSED);
    struct vdc_address parsed;
    if (address != NULL && vdc_address_parse(address, &parsed, NULL) == VDC_RC_OK) {
        free(link->address_once);
        link->address_once = vdc_strdup(address);
    }
    vdc_tls_close(link->tls);
    link->tls = NULL;
    link->backoff_ms = 0;
    enter_waiting(link);
    uv_timer_start(&link->timer, on_wait_over, 0, 0);
}

void vdc_link_close(struct vdc_link *link)
{
    if (link == NULL) {
        return;
    }
    VDC_ASSERT(link->magic == LINK_MAGIC && link->state != LINK_CLOSED);
    vdc_tls_close(link->tls);
    link->tls = NULL;
    release_link(link);
}
