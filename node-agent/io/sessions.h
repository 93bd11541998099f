/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The links to the managers: one to each configured address, dialled for ever. Frames are opaque
 * here; a session is named by its index in the configuration's list.
 */
#ifndef VDC_NODE_AGENT_SESSIONS_H
#define VDC_NODE_AGENT_SESSIONS_H

#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include <vdc/tls.h>

#include "config.h"

struct sessions;

struct sessions_handlers {
    void (*on_up)(void *data, uint32_t index, const char *manager);
    void (*on_frame)(void *data, uint32_t index, const uint8_t *frame, size_t len);
    /* A session that agent_sessions_busy() named is no longer busy. */
    void (*on_drained)(void *data, uint32_t index);
    /* After an on_up only. */
    void (*on_down)(void *data, uint32_t index);
};

enum vdc_rc agent_sessions_open(uv_loop_t *loop, const struct agent_config *config,
                                const struct sessions_handlers *handlers, void *data,
                                struct sessions **sessions, struct vdc_err *err) VDC_MUST_USE;
/* A link whose queue is full belongs to a manager that reads nothing: it is dropped and dialled
 * again (on_down comes from the loop), and its manager then reads what it missed from the stream. */
void agent_sessions_send(struct sessions *sessions, uint32_t index, const void *frame, size_t len);
/* Bit i: more than VDC_TLS_QUEUE_LOW bytes wait to be sent to session i; on_drained or on_down
 * follows. */
uint32_t agent_sessions_busy(const struct sessions *sessions);
void agent_sessions_close(struct sessions *sessions);

#endif
