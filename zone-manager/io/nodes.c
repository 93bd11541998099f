/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions of nodes. A link that a node dialled becomes a session with its HELLO, which is given to
 * every zone that is led here; what the node says later goes to the zone that the message names, or,
 * where it names none (records, results), to all. A second session of one node ends the first: the
 * node knows better whether that one is dead.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/log.h>

#include "manager.h"

#define SESSION_MAGIC UINT32_C(0x5e551011)

static void step_all(struct manager *manager, struct vdc_zone_event *event)
{
    for (struct seat *seat = manager->seats; seat != NULL; seat = seat->next) {
        if (seat_leads(seat)) {
            seat_step(seat, event);
        }
    }
}

static void session_remove(struct session *session)
{
    HASH_DELETE(hh, session->manager->sessions, session);
    if (session->hello != NULL) {
        vdc_msg_deinit(session->hello);
        free(session->hello);
    }
    session->magic = 0;
    free(session);
}

static void end_session(struct session *session, const char *why)
{
    struct manager *manager = session->manager;
    if (session->hello != NULL) {
        vdc_log_info("node %s: session %llu ended: %s", session->hello->hello.node,
                     (unsigned long long)session->id, why);
        struct vdc_zone_event event = {.kind = VDC_ZONE_NODE_DOWN};
        event.session.session = session->id;
        step_all(manager, &event);
    }
    session_remove(session);
}

static void close_session(struct session *session, const char *why)
{
    struct vdc_msg msg = {.kind = VDC_MSG_BYE};
    snprintf(msg.bye.reason, sizeof msg.bye.reason, "%s", why);
    nodes_send(session->manager, session->id, &msg);
    vdc_link_close(session->link);
    end_session(session, why);
}

/* Ends the sessions that could not be sent to. */
static void on_sweep(uv_timer_t *timer)
{
    struct manager *manager = timer->data;
    struct session *session, *next;
    HASH_ITER(hh, manager->sessions, session, next)
    {
        if (session->choked) {
            vdc_link_close(session->link);
            end_session(session, "it does not read what it is sent");
        }
    }
}

/* A node repeats its HELLO to the managers that don't lead when it joined under one that does: what it
 * said first is then out of date, and the next leader, which may be this manager, must not go by it. */
static void take_newer_hello(struct session *session, struct vdc_msg *msg)
{
    if (strcmp(session->hello->hello.node, msg->hello.node) != 0) {
        close_session(session, "a hello with another name");
        return;
    }
    vdc_msg_deinit(session->hello);
    *session->hello = *msg;
    msg->owned = NULL; /* went with the copy */
    struct vdc_zone_event event = {.kind = VDC_ZONE_NODE_MSG};
    event.session.session = session->id;
    event.session.msg = session->hello;
    step_all(session->manager, &event);
}

static void take_hello(struct session *session, struct vdc_msg *msg)
{
    struct manager *manager = session->manager;
    const struct vdc_peer *peer = vdc_link_peer(session->link);
    if (session->hello != NULL) {
        take_newer_hello(session, msg);
        return;
    }
    if (strcmp(peer->name, msg->hello.node) != 0) {
        vdc_log_warn("node %s calls itself %s -> refused", peer->name, msg->hello.node);
        close_session(session, "the name in the hello is not the one in the certificate");
        return;
    }
    if (msg->hello.protocol != VDC_MSG_PROTOCOL) {
        close_session(session, "this manager speaks protocol 1 only");
        return;
    }
    struct session *other, *next;
    HASH_ITER(hh, manager->sessions, other, next)
    {
        if (other != session && other->hello != NULL &&
            strcmp(other->hello->hello.node, msg->hello.node) == 0) {
            close_session(other, "a newer session of the same node");
        }
    }
    session->hello = VDC_NEW(struct vdc_msg);
    *session->hello = *msg;
    msg->owned = NULL; /* went with the copy */
    struct vdc_msg welcome = {.kind = VDC_MSG_WELCOME};
    vdc_str_set(welcome.welcome.manager, VDC_NAME_CAP, manager->config.name);
    welcome.welcome.protocol = VDC_MSG_PROTOCOL;
    nodes_send(manager, session->id, &welcome);
    vdc_log_info("node %s (rack %s) at %s: session %llu", session->hello->hello.node,
                 session->hello->hello.rack, vdc_link_address(session->link),
                 (unsigned long long)session->id);
    struct vdc_zone_event event = {.kind = VDC_ZONE_NODE_UP};
    event.session.session = session->id;
    event.session.msg = session->hello;
    step_all(manager, &event);
}

/* The zone that a message of a node is about; NULL: none, it concerns all. */
static const char *zone_of(const struct vdc_msg *msg)
{
    switch (msg->kind) {
    case VDC_MSG_ZONE_JOINED:
        return msg->zone_joined.zone;
    case VDC_MSG_LEASE_ASK:
        return msg->lease_ask.zone;
    case VDC_MSG_GUEST:
        return msg->guest.zone;
    case VDC_MSG_GUESTS_END:
        return msg->guests_end.zone;
    case VDC_MSG_HELLO:
    case VDC_MSG_WELCOME:
    case VDC_MSG_ZONE_LEAD:
    case VDC_MSG_LEASE_GRANT:
    case VDC_MSG_TX:
    case VDC_MSG_TX_RESULT:
    case VDC_MSG_RECORDS:
    case VDC_MSG_SNAPSHOT:
    case VDC_MSG_COMMAND:
    case VDC_MSG_COMMAND_RESULT:
    case VDC_MSG_BYE:
        break;
    }
    return NULL;
}

static void on_frame(void *data, struct vdc_link *link, const uint8_t *frame, size_t len)
{
    (void)link;
    struct session *session;
    VDC_CAST(session, data, SESSION_MAGIC);
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    struct vdc_err err = {0};
    if (vdc_msg_decode(frame, len, msg, &err) != VDC_RC_OK) {
        vdc_log_warn("%s: %s -> session closed", vdc_link_peer(link)->name, vdc_err_text(&err));
        close_session(session, vdc_err_text(&err));
    } else if (msg->kind == VDC_MSG_HELLO) {
        take_hello(session, msg);
    } else if (session->hello == NULL) {
        close_session(session, "the first message must be a hello");
    } else if (msg->kind == VDC_MSG_BYE) {
        vdc_log_info("node %s says: %s", session->hello->hello.node, msg->bye.reason);
    } else {
        const char *zone = zone_of(msg);
        struct vdc_zone_event event = {.kind = VDC_ZONE_NODE_MSG};
        event.session.session = session->id;
        event.session.msg = msg;
        if (zone == NULL) {
            step_all(session->manager, &event);
        } else {
            struct seat *seat = seat_find(session->manager, zone);
            if (seat != NULL && seat_leads(seat)) {
                seat_step(seat, &event);
            }
        }
    }
    vdc_msg_deinit(msg);
    free(msg);
}

static void on_down(void *data, struct vdc_link *link, const struct vdc_err *why)
{
    (void)link;
    struct session *session;
    VDC_CAST(session, data, SESSION_MAGIC);
    end_session(session, vdc_err_text(why));
}

static void on_up(void *data, struct vdc_link *link)
{
    struct manager *manager = data;
    struct session *session = VDC_NEW(struct session);
    session->magic = SESSION_MAGIC;
    session->manager = manager;
    session->id = ++manager->session_last;
    session->link = link;
    HASH_ADD(hh, manager->sessions, id, sizeof session->id, session);
    vdc_link_set_data(link, session);
}

static void on_refused(void *data, const struct vdc_err *why)
{
    (void)data;
    vdc_log_warn("command channel: %s", vdc_err_text(why));
}

static const struct vdc_link_handlers handlers = {
    .on_up = on_up, .on_frame = on_frame, .on_down = on_down};

enum vdc_rc nodes_open(struct manager *manager, struct vdc_err *err)
{
    uv_timer_init(manager->loop, &manager->sweep);
    manager->sweep.data = manager;
    if (vdc_link_listen(manager->tls, manager->config.nodes_listen, VDC_PEER_BIT(VDC_PEER_NODE),
                        &handlers, on_refused, manager, &manager->nodes, err) != VDC_RC_OK) {
        return vdc_err_wrap(err, "listen for nodes");
    }
    return VDC_RC_OK;
}

void nodes_close(struct manager *manager)
{
    vdc_link_listener_close(manager->nodes);
    manager->nodes = NULL;
    uv_close((uv_handle_t *)&manager->sweep, NULL);
    while (manager->sessions != NULL) {
        vdc_link_close(manager->sessions->link);
        session_remove(manager->sessions);
    }
}

void nodes_introduce(struct seat *seat)
{
    struct session *session, *next;
    HASH_ITER(hh, seat->manager->sessions, session, next)
    {
        if (session->hello != NULL) {
            struct vdc_zone_event event = {.kind = VDC_ZONE_NODE_UP};
            event.session.session = session->id;
            event.session.msg = session->hello;
            seat_step(seat, &event);
        }
    }
}

bool nodes_send(struct manager *manager, uint64_t session_id, const struct vdc_msg *msg)
{
    struct session *session;
    HASH_FIND(hh, manager->sessions, &session_id, sizeof session_id, session);
    if (session == NULL || session->choked) {
        return false;
    }
    struct vdc_buf frame = {0};
    vdc_msg_encode(msg, &frame);
    enum vdc_rc rc = vdc_link_send(session->link, frame.data, frame.len);
    vdc_buf_deinit(&frame);
    if (rc != VDC_RC_OK) {
        /* The node reads nothing, or is going. A gap in what it is told would be worse than a new
         * session, which starts from what it has. Not from here: a core may be in its step. */
        session->choked = true;
        uv_timer_start(&manager->sweep, on_sweep, 0, 0);
    }
    return rc == VDC_RC_OK;
}
