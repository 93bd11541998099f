/* SPDX-License-Identifier: Apache-2.0 */
#include "sessions.h"

#include <string.h>

#include <vdc/base.h>
#include <vdc/link.h>
#include <vdc/log.h>

#define SESSION_MAGIC UINT32_C(0x53455353)

struct session_link {
    uint32_t magic;
    struct sessions *owner;
    uint32_t index;
    struct vdc_link *link;
    bool up;
    char last_error[VDC_ERR_TEXT_MAX]; /* logged once, not at each attempt */
};

struct sessions {
    struct vdc_tls_context *tls;
    const struct sessions_handlers *handlers;
    void *data;
    uv_timer_t *overflow; /* sessions whose queue overflowed are ended from the loop */
    uint32_t overflown;   /* bit per index */
    struct session_link links[AGENT_MANAGERS_MAX];
    size_t len;
};

static struct session_link *from_data(void *data)
{
    struct session_link *link;
    VDC_CAST(link, data, SESSION_MAGIC);
    return link;
}

static void on_up(void *data, struct vdc_link *link)
{
    struct session_link *session = from_data(data);
    session->up = true;
    session->last_error[0] = 0;
    session->owner->handlers->on_up(session->owner->data, session->index,
                                    vdc_link_peer(link)->name);
}

static void on_frame(void *data, struct vdc_link *link, const uint8_t *frame, size_t len)
{
    (void)link;
    struct session_link *session = from_data(data);
    session->owner->handlers->on_frame(session->owner->data, session->index, frame, len);
}

static void on_drained(void *data, struct vdc_link *link)
{
    (void)link;
    struct session_link *session = from_data(data);
    if (session->up) {
        session->owner->handlers->on_drained(session->owner->data, session->index);
    }
}

static void end_session(struct session_link *session)
{
    if (session->up) {
        session->up = false;
        session->owner->handlers->on_down(session->owner->data, session->index);
    }
}

static void on_down(void *data, struct vdc_link *link, const struct vdc_err *why)
{
    (void)link;
    struct session_link *session = from_data(data);
    if (strcmp(session->last_error, vdc_err_text(why)) != 0) {
        vdc_str_set(session->last_error, sizeof session->last_error, vdc_err_text(why));
        vdc_log_warn("manager session: %s", session->last_error);
    }
    end_session(session);
}

static const struct vdc_link_handlers link_handlers = {
    .on_up = on_up,
    .on_frame = on_frame,
    .on_drained = on_drained,
    .on_down = on_down,
};

static void on_overflow(uv_timer_t *timer)
{
    struct sessions *sessions = timer->data;
    uint32_t overflown = sessions->overflown;
    sessions->overflown = 0;
    for (uint32_t i = 0; i < sessions->len; i++) {
        if ((overflown & (UINT32_C(1) << i)) != 0) {
            vdc_log_warn("manager session %s: reads nothing, its queue is full -> dial again",
                         vdc_link_address(sessions->links[i].link));
            vdc_link_redial(sessions->links[i].link, NULL);
            end_session(&sessions->links[i]);
        }
    }
}

enum vdc_rc agent_sessions_open(uv_loop_t *loop, const struct agent_config *config,
                                const struct sessions_handlers *handlers, void *data,
                                struct sessions **out, struct vdc_err *err)
{
    struct sessions *sessions = VDC_NEW(struct sessions);
    sessions->handlers = handlers;
    sessions->data = data;
    sessions->overflow = VDC_NEW(uv_timer_t);
    uv_timer_init(loop, sessions->overflow);
    sessions->overflow->data = sessions;
    struct vdc_tls_config tls = {
        .ca_path = config->tls_ca,
        .cert_path = config->tls_cert,
        .key_path = config->tls_key,
    };
    enum vdc_rc rc = vdc_tls_context_create(loop, &tls, &sessions->tls, err);
    const struct vdc_peer *self = rc == VDC_RC_OK ? vdc_tls_context_self(sessions->tls) : NULL;
    if (self != NULL && (self->kind != VDC_PEER_NODE || strcmp(self->name, config->name) != 0)) {
        char text[VDC_PEER_TEXT_CAP];
        vdc_peer_to_text(self, text);
        rc = vdc_err_set(err, VDC_RC_INVALID, "the certificate is %s, the configured node is %s",
                         text, config->name);
    }
    struct vdc_peer expected = {.kind = VDC_PEER_MANAGER};
    for (size_t i = 0; i < config->managers_len && rc == VDC_RC_OK; i++) {
        struct session_link *session = &sessions->links[i];
        *session = (struct session_link){
            .magic = SESSION_MAGIC,
            .owner = sessions,
            .index = (uint32_t)i,
        };
        const char *address = config->managers[i];
        rc = vdc_link_dial(sessions->tls, &address, 1, &expected, &link_handlers, session,
                           &session->link, err);
        sessions->len += rc == VDC_RC_OK;
    }
    if (rc != VDC_RC_OK) {
        agent_sessions_close(sessions);
        return rc;
    }
    *out = sessions;
    return rc;
}

void agent_sessions_send(struct sessions *sessions, uint32_t index, const void *frame, size_t len)
{
    struct session_link *session = &sessions->links[index];
    if (!session->up) {
        return;
    }
    enum vdc_rc rc = vdc_link_send(session->link, frame, len);
    if (rc == VDC_RC_LIMIT) {
        sessions->overflown |= UINT32_C(1) << index;
        uv_timer_start(sessions->overflow, on_overflow, 0, 0);
    } else if (rc != VDC_RC_OK && rc != VDC_RC_END) {
        vdc_log_error("manager session: a frame of %zu bytes cannot be sent: %s", len,
                      vdc_rc_sentence(rc));
    }
}

uint32_t agent_sessions_busy(const struct sessions *sessions)
{
    uint32_t busy = 0;
    for (uint32_t i = 0; i < sessions->len; i++) {
        bool long_queue =
            sessions->links[i].up && vdc_link_queued(sessions->links[i].link) > VDC_TLS_QUEUE_LOW;
        busy |= (uint32_t)long_queue << i;
    }
    return busy;
}

static void free_timer(uv_handle_t *handle)
{
    free(handle);
}

void agent_sessions_close(struct sessions *sessions)
{
    if (sessions == NULL) {
        return;
    }
    for (size_t i = 0; i < sessions->len; i++) {
        vdc_link_close(sessions->links[i].link);
    }
    vdc_tls_context_unref(sessions->tls);
    uv_close((uv_handle_t *)sessions->overflow, free_timer);
    free(sessions);
}
