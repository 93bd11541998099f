/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The leader's commands for the data plane of a migration:
 *
 *   migrate_in        relay listens -> monitor connects to it -> answer with the relay's port
 *   migrate_out       relay is told whom to dial -> monitor streams into it -> answer
 *   migrate_continue  mark the hand-over -> it is on the disk -> monitor continues -> answer
 *   migrate_cancel    whatever phase: the guest goes on here -> answer
 *
 * One at a time for each guest; only a cancel displaces another, which is answered CANCELLED. The
 * same request again gets the outcome it had, or waits for the one under way.
 */
#include <stdio.h>
#include <string.h>

#include "agent_internal.h"

static void answer(struct vdc_agent *agent, uint32_t session, const struct vdc_id *request_id,
                   enum vdc_rc rc, const char *text, uint16_t port)
{
    struct vdc_msg msg = {.kind = VDC_MSG_COMMAND_RESULT};
    msg.command_result.request_id = *request_id;
    msg.command_result.rc = rc;
    msg.command_result.port = port;
    snprintf(msg.command_result.text, sizeof msg.command_result.text, "%s", text);
    agent_send(agent, session, &msg);
}

void agent_command_finish(struct vdc_agent *agent, struct guest *guest, enum vdc_rc rc,
                          const char *text)
{
    if (guest->command.step == COMMAND_NONE) {
        return;
    }
    const struct vdc_msg_command *msg = &guest->command.msg;
    guest->answered = true;
    guest->last_request = msg->request_id;
    guest->last_rc = rc;
    snprintf(guest->last_text, sizeof guest->last_text, "%s", text);
    AGENT_TRACE(agent, INFO, "%s: %s: %s%s%s", guest->name, vdc_command_kind_name(msg->kind),
                vdc_rc_name(rc), text[0] != 0 ? ": " : "", text);
    answer(agent, guest->command.session, &msg->request_id, rc, text,
           msg->kind == VDC_COMMAND_MIGRATE_IN && rc == VDC_RC_OK ? guest->relay_port : 0);
    guest->command.step = COMMAND_NONE;
}

static void stop_relay(struct vdc_agent *agent, struct guest *guest)
{
    if (guest->relay) {
        guest->relay = false;
        guest->relay_port = 0;
        agent_act(agent, VDC_AGENT_DO_RELAY_STOP, &guest->key);
    }
}

static void start_relay(struct vdc_agent *agent, struct guest *guest)
{
    stop_relay(agent, guest);
    struct vdc_agent_action *action = agent_act(agent, VDC_AGENT_DO_RELAY, &guest->key);
    const struct vdc_msg_command *msg = &guest->command.msg;
    action->relay.listen = msg->kind == VDC_COMMAND_MIGRATE_IN;
    action->relay.peer_node = msg->peer_node; /* lives in the guest */
    action->relay.address = msg->peer_address;
    action->relay.port = msg->peer_port;
    guest->relay = true;
    guest->command.step = COMMAND_RELAY;
}

static void ask(struct vdc_agent *agent, struct guest *guest,
                enum vdc_agent_monitor_request request)
{
    struct vdc_agent_action *action = agent_act(agent, VDC_AGENT_DO_ASK, &guest->key);
    action->ask.request = request;
    action->ask.ticket = ++agent->tickets;
    action->ask.bandwidth = guest->command.msg.bandwidth;
    action->ask.downtime_ns = guest->command.msg.downtime_ns;
    guest->command.ticket = agent->tickets;
    guest->command.step = COMMAND_REPLY;
}

static void set_handover(struct vdc_agent *agent, struct guest *guest, bool set)
{
    if (guest->handover != set) {
        guest->handover = set;
        agent_act(agent, VDC_AGENT_DO_HANDOVER, &guest->key)->handover = set;
    }
}

static void wrong_phase(struct vdc_agent *agent, struct guest *guest)
{
    char text[128];
    snprintf(text, sizeof text, "the guest is %s here", vdc_guest_state_name(guest->report.state));
    agent_command_finish(agent, guest, VDC_RC_CONFLICT, text);
}

static void begin_continue(struct vdc_agent *agent, struct guest *guest)
{
    if (guest->state.phase == VDC_PHASE_HANDOVER || guest->state.phase == VDC_PHASE_POSTMIGRATE) {
        agent_command_finish(agent, guest, VDC_RC_OK, "");
    } else if (guest->state.phase != VDC_PHASE_SWITCHOVER) {
        wrong_phase(agent, guest);
    } else {
        /* The mark first: once the monitor goes on, the target may become the owner. */
        guest->command.step = COMMAND_MARK;
        guest->handover = true;
        agent_act(agent, VDC_AGENT_DO_HANDOVER, &guest->key)->handover = true;
    }
}

static void begin_cancel(struct vdc_agent *agent, struct guest *guest)
{
    if (guest->process == VDC_AGENT_IDLE) {
        /* It died while nobody knew who owns it; now the leader has said that this node does. */
        set_handover(agent, guest, false);
        agent_command_finish(agent, guest, VDC_RC_OK, "");
        agent_guest_reconcile(agent, guest);
        return;
    }
    if (!guest->has_state) {
        guest->command.step = COMMAND_STATE;
        return;
    }
    switch (guest->state.phase) {
    case VDC_PHASE_MIGRATING:
    case VDC_PHASE_SWITCHOVER:
        ask(agent, guest, VDC_MONITOR_ASK_MIGRATE_CANCEL);
        return;
    case VDC_PHASE_HANDOVER:
        guest->command.step = COMMAND_HANDOVER;
        stop_relay(agent, guest); /* the quickest way out of it: the stream breaks */
        return;
    case VDC_PHASE_POSTMIGRATE:
        ask(agent, guest, VDC_MONITOR_ASK_RESUME);
        return;
    case VDC_PHASE_STARTING:
    case VDC_PHASE_PRELAUNCH:
    case VDC_PHASE_INCOMING:
    case VDC_PHASE_LOADING:
    case VDC_PHASE_LOADED:
    case VDC_PHASE_RUNNING:
    case VDC_PHASE_PAUSED:
    case VDC_PHASE_STOPPING:
    case VDC_PHASE_STOPPED:
    case VDC_PHASE_FAILED:
        /* A migrate_out may be on its way to the monitor: without a relay it leads nowhere. */
        stop_relay(agent, guest);
        agent_command_finish(agent, guest, VDC_RC_OK, "");
        return;
    }
}

static void begin(struct vdc_agent *agent, struct guest *guest)
{
    bool up = guest->process == VDC_AGENT_UP && guest->has_state;
    switch (guest->command.msg.kind) {
    case VDC_COMMAND_MIGRATE_IN:
        if (!up || guest->state.phase != VDC_PHASE_INCOMING) {
            wrong_phase(agent, guest);
        } else {
            start_relay(agent, guest);
        }
        return;
    case VDC_COMMAND_MIGRATE_OUT:
        if (!up ||
            (guest->state.phase != VDC_PHASE_RUNNING && guest->state.phase != VDC_PHASE_PAUSED)) {
            wrong_phase(agent, guest);
        } else {
            start_relay(agent, guest);
        }
        return;
    case VDC_COMMAND_MIGRATE_CONTINUE:
        if (!up) {
            wrong_phase(agent, guest);
        } else {
            begin_continue(agent, guest);
        }
        return;
    case VDC_COMMAND_MIGRATE_CANCEL:
        begin_cancel(agent, guest);
        return;
    case VDC_COMMAND_VOLUME_DELETE:
    case VDC_COMMAND_CONSOLE_READ:
        return; /* never gets here */
    }
}

static void read_console(struct vdc_agent *agent, uint32_t session,
                         const struct vdc_msg_command *msg)
{
    struct vdc_agent_action *action = agent_act(agent, VDC_AGENT_DO_CONSOLE, NULL);
    action->console.session = session;
    action->console.command = agent_keep(agent, vdc_memdup(msg, sizeof *msg));
    const struct guest *guest = agent_guest_of_partition(agent, &msg->partition);
    if (guest != NULL && strcmp(guest->zone, msg->zone) == 0) {
        action->key = guest->key;
        action->console.known = true;
        action->console.live = guest->process == VDC_AGENT_UP;
        return;
    }
    for (size_t i = 0; i < agent->graves_len; i++) {
        const struct grave *grave = &agent->graves[i];
        if (vdc_id_equal(&grave->key.id, &msg->partition) && strcmp(grave->zone, msg->zone) == 0 &&
            (!action->console.known || grave->key.generation > action->key.generation)) {
            action->key = grave->key;
            action->console.known = true;
        }
    }
}

/* By the database: whoever may read or write it, whatever its own partition does. */
static bool volume_is_in_use(const struct vdc_agent *agent, const struct vdc_id *volume)
{
    size_t len;
    bool used = false;
    vdc_autofree const struct vdc_entry **uses =
        vdc_allocdb_list_entries(agent->db, VDC_ENTRY_VOLUME, &len);
    for (size_t i = 0; i < len; i++) {
        used = used || vdc_id_equal(&uses[i]->volume.volume, volume);
    }
    return used;
}

/* The leader has seen the partition's end before it asks for this; that nothing of it is here is
 * checked all the same, for what is deleted does not come back. */
static void delete_volume(struct vdc_agent *agent, uint32_t session,
                          const struct vdc_msg_command *msg)
{
    bool here = vdc_allocdb_find_partition(agent->db, &msg->partition) != NULL ||
                volume_is_in_use(agent, &msg->partition);
    for (const struct guest *guest = agent->guests; guest != NULL; guest = guest->hh.next) {
        here = here || (vdc_id_equal(&guest->key.id, &msg->partition) &&
                        (guest->in_db || guest->process != VDC_AGENT_IDLE));
    }
    char id[VDC_ID_TEXT_CAP];
    vdc_id_to_text(&msg->partition, id);
    if (here) {
        AGENT_TRACE(agent, ERROR, "volume %s: it is in use here -> not deleted", id);
        answer(agent, session, &msg->request_id, VDC_RC_CONFLICT,
               "the volume is in use, or its partition is still on this node", 0);
        return;
    }
    AGENT_TRACE(agent, INFO, "volume %s: its partition is destroyed -> delete", id);
    struct vdc_agent_action *action = agent_act(agent, VDC_AGENT_DO_VOLUME_DELETE, NULL);
    action->console.session = session;
    action->console.command = agent_keep(agent, vdc_memdup(msg, sizeof *msg));
}

void agent_command_receive(struct vdc_agent *agent, uint32_t session,
                           const struct vdc_msg_command *msg)
{
    const struct zone *zone = agent_find_zone(agent, msg->zone);
    if (zone == NULL || !zone->led || zone->session != session || zone->epoch != msg->epoch ||
        zone->join != JOIN_DONE) {
        answer(agent, session, &msg->request_id, VDC_RC_STALE,
               "this session does not lead the zone with its newest epoch", 0);
        return;
    }
    if (msg->kind == VDC_COMMAND_CONSOLE_READ) {
        read_console(agent, session, msg);
        return;
    }
    if (msg->kind == VDC_COMMAND_VOLUME_DELETE) {
        delete_volume(agent, session, msg);
        return;
    }
    struct guest *guest = agent_guest_of_partition(agent, &msg->partition);
    const struct vdc_partition *partition =
        guest != NULL ? vdc_allocdb_find_partition(agent->db, &msg->partition) : NULL;
    if (partition == NULL || strcmp(guest->zone, msg->zone) != 0) {
        answer(agent, session, &msg->request_id, VDC_RC_NOT_FOUND, "no such partition here", 0);
        return;
    }
    if (partition->generation != msg->generation) {
        answer(agent, session, &msg->request_id, VDC_RC_STALE, "another generation is here", 0);
        return;
    }
    if (guest->command.step != COMMAND_NONE) {
        if (vdc_id_equal(&guest->command.msg.request_id, &msg->request_id)) {
            guest->command.session = session;
            return;
        }
        if (msg->kind != VDC_COMMAND_MIGRATE_CANCEL) {
            answer(agent, session, &msg->request_id, VDC_RC_CONFLICT,
                   "another command is under way for this partition", 0);
            return;
        }
        agent_command_finish(agent, guest, VDC_RC_CANCELLED, "displaced by a cancel");
    } else if (guest->answered && vdc_id_equal(&guest->last_request, &msg->request_id)) {
        answer(agent, session, &msg->request_id, guest->last_rc, guest->last_text,
               guest->relay_port);
        return;
    }
    guest->command = (struct command){
        .step = COMMAND_REPLY,
        .msg = *msg,
        .session = session,
        .deadline = vdc_mono_add(agent->now, VDC_AGENT_COMMAND_NS),
    };
    begin(agent, guest);
}

void agent_command_take_mark(struct vdc_agent *agent, const struct vdc_agent_event *event)
{
    struct guest *guest = agent_guest_find(agent, &event->key);
    if (guest == NULL || guest->command.step != COMMAND_MARK) {
        return; /* a cancel has displaced it, and takes the mark away */
    }
    if (event->monitor.rc != VDC_RC_OK) {
        /* Without the mark, an agent that is started again after both have died would start the guest
         * beside its target. What was written in part goes too. */
        set_handover(agent, guest, false);
        char text[VDC_MSG_TEXT_CAP];
        snprintf(text, sizeof text, "the hand-over cannot be noted: %s", event->monitor.text);
        agent_command_finish(agent, guest, event->monitor.rc, text);
    } else if (guest->process != VDC_AGENT_UP || guest->state.phase != VDC_PHASE_SWITCHOVER) {
        set_handover(agent, guest, false);
        wrong_phase(agent, guest);
    } else {
        ask(agent, guest, VDC_MONITOR_ASK_MIGRATE_CONTINUE);
    }
}

void agent_command_take_relay(struct vdc_agent *agent, const struct vdc_agent_event *event)
{
    struct guest *guest = agent_guest_find(agent, &event->key);
    if (guest == NULL || !guest->relay) {
        return;
    }
    bool waits = guest->command.step == COMMAND_RELAY;
    if (event->kind == VDC_AGENT_RELAY_ENDED) {
        guest->relay = false;
        guest->relay_port = 0;
        if (event->relay.rc != VDC_RC_OK) {
            AGENT_TRACE(agent, WARN, "%s: relay: %s", guest->name, event->relay.text);
        }
        if (waits) {
            agent_command_finish(agent, guest,
                                 event->relay.rc == VDC_RC_OK ? VDC_RC_END : event->relay.rc,
                                 event->relay.text);
        }
        return;
    }
    guest->relay_port = event->relay.port;
    if (waits) {
        ask(agent, guest,
            guest->command.msg.kind == VDC_COMMAND_MIGRATE_IN ? VDC_MONITOR_ASK_MIGRATE_IN
                                                              : VDC_MONITOR_ASK_MIGRATE_OUT);
    }
}

void agent_command_take_reply(struct vdc_agent *agent, const struct vdc_agent_event *event)
{
    struct guest *guest = agent_guest_find(agent, &event->key);
    if (guest == NULL || guest->command.step != COMMAND_REPLY ||
        guest->command.ticket != event->monitor.ticket) {
        return;
    }
    enum vdc_rc rc = event->monitor.rc;
    switch (guest->command.msg.kind) {
    case VDC_COMMAND_MIGRATE_IN:
    case VDC_COMMAND_MIGRATE_OUT:
        if (rc != VDC_RC_OK) {
            agent_command_finish(agent, guest, rc, event->monitor.text);
            stop_relay(agent, guest);
            return;
        }
        break;
    case VDC_COMMAND_MIGRATE_CONTINUE:
        if (rc != VDC_RC_OK && guest->state.phase == VDC_PHASE_SWITCHOVER) {
            set_handover(agent, guest, false);
        }
        break;
    case VDC_COMMAND_MIGRATE_CANCEL:
        if (rc == VDC_RC_OK) {
            set_handover(agent, guest, false);
            stop_relay(agent, guest);
        } else if (guest->state.phase == VDC_PHASE_HANDOVER) {
            /* It left the switch-over point while the cancel was under way: see how that ends. */
            guest->command.step = COMMAND_HANDOVER;
            return;
        }
        break;
    case VDC_COMMAND_VOLUME_DELETE:
    case VDC_COMMAND_CONSOLE_READ:
        break;
    }
    agent_command_finish(agent, guest, rc, rc == VDC_RC_OK ? "" : event->monitor.text);
}

void agent_command_follow_state(struct vdc_agent *agent, struct guest *guest)
{
    if (guest->command.step == COMMAND_STATE) {
        begin_cancel(agent, guest);
        return;
    }
    if (guest->command.step != COMMAND_HANDOVER) {
        return;
    }
    if (guest->state.phase == VDC_PHASE_POSTMIGRATE) {
        ask(agent, guest, VDC_MONITOR_ASK_RESUME);
    } else if (guest->state.phase == VDC_PHASE_RUNNING || guest->state.phase == VDC_PHASE_PAUSED) {
        agent_command_finish(agent, guest, VDC_RC_OK, "");
    }
}
