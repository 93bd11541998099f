/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The step: takes the event to whom it concerns, then lets what waited for it go on. The parts are
 * agent_session.c (managers, zones, leases, the change stream), agent_tx.c (transactions and
 * durability), agent_inventory.c (the machine), agent_guest.c (desired against actual), agent_command.c (migrations, console).
 */
#include <string.h>

#include "agent_internal.h"

static const char *const process_names[] = {"idle", "starting", "up", "killing"};

const char *vdc_agent_process_name(enum vdc_agent_process process)
{
    return process_names[process];
}

static const char *const request_names[] = {
    "refresh",    "kill",        "resume",           "activate",
    "migrate_in", "migrate_out", "migrate_continue", "migrate_cancel",
};

const char *vdc_agent_monitor_request_name(enum vdc_agent_monitor_request request)
{
    return request_names[request];
}

struct vdc_agent_action *agent_act(struct vdc_agent *agent, enum vdc_agent_action_kind kind,
                                   const struct vdc_agent_key *key)
{
    VDC_GROW(agent->update.actions, agent->actions_cap, agent->update.actions_len + 1);
    struct vdc_agent_action *action = &agent->update.actions[agent->update.actions_len++];
    *action = (struct vdc_agent_action){.kind = kind};
    if (key != NULL) {
        action->key = *key;
    }
    return action;
}

void *agent_keep(struct vdc_agent *agent, void *memory)
{
    VDC_GROW(agent->kept, agent->kept_cap, agent->kept_len + 1);
    agent->kept[agent->kept_len++] = memory;
    return memory;
}

void agent_send(struct vdc_agent *agent, uint32_t session, const struct vdc_msg *msg)
{
    if (!agent->sessions[session].up) {
        return;
    }
    struct vdc_msg *copy = agent_keep(agent, vdc_memdup(msg, sizeof *msg));
    struct vdc_agent_action *action = agent_act(agent, VDC_AGENT_DO_SEND, NULL);
    action->send.session = session;
    action->send.msg = copy;
}

void agent_retry_later(struct vdc_agent *agent)
{
    if (vdc_mono_is_never(agent->retry_at)) {
        agent->retry_at = vdc_mono_add(agent->now, VDC_AGENT_RETRY_NS);
    }
}

static void clear_update(struct vdc_agent *agent)
{
    agent->update.actions_len = 0;
    for (size_t i = 0; i < agent->kept_len; i++) {
        free(agent->kept[i]);
    }
    agent->kept_len = 0;
    for (size_t i = 0; i < VDC_AGENT_MANAGERS_MAX; i++) {
        agent->sessions[i].streamed = 0;
    }
}

struct vdc_agent *vdc_agent_create(const struct vdc_agent_config *config, struct vdc_allocdb *db)
{
    struct vdc_agent *agent = VDC_NEW(struct vdc_agent);
    agent->db = db;
    agent->hello = config->hello;
    agent->hello.protocol = VDC_MSG_PROTOCOL;
    agent->cpus = vdc_memdup(config->cpus, config->cpus_len * sizeof *config->cpus);
    agent->cpus_len = config->cpus_len;
    agent->numa = vdc_memdup(config->numa, config->numa_len * sizeof *config->numa);
    agent->numa_len = config->numa_len;
    VDC_ASSERT(config->systems_len <= VDC_AGENT_SYSTEMS_MAX);
    for (size_t i = 0; i < config->systems_len; i++) {
        agent->systems[i] = config->systems[i];
    }
    agent->systems_len = config->systems_len;
    agent->devices = vdc_memdup(config->devices, config->devices_len * sizeof *config->devices);
    agent->devices_len = config->devices_len;
    agent->inventory_at = VDC_NEVER;
    agent->retry_at = VDC_NEVER;
    agent->committed = vdc_allocdb_sequence(db);
    agent->durable = agent->committed;
    agent->durable_digest = vdc_allocdb_digest(db);
    return agent;
}

void vdc_agent_destroy(struct vdc_agent *agent)
{
    if (agent == NULL) {
        return;
    }
    clear_update(agent);
    struct guest *guest;
    struct guest *next;
    HASH_ITER(hh, agent->guests, guest, next)
    {
        HASH_DEL(agent->guests, guest);
        free(guest);
    }
    agent_drop_backlog(agent);
    for (size_t i = 0; i < agent->held_len; i++) {
        vdc_tx_deinit(&agent->held[i].tx);
    }
    for (size_t i = 0; i < VDC_AGENT_MANAGERS_MAX; i++) {
        vdc_buf_deinit(&agent->sessions[i].snapshot);
    }
    free(agent->answers);
    free(agent->cpus);
    free(agent->numa);
    free(agent->devices);
    free(agent->kept);
    free(agent->update.actions);
    vdc_trace_deinit(&agent->update.trace);
    vdc_allocdb_destroy(agent->db);
    free(agent);
}

/* The zones that the recovered database knows, with the run leases that the views still hold. */
static void begin(struct vdc_agent *agent)
{
    agent->recovered = true;
    const struct vdc_zone_slice *slice;
    for (size_t i = 0; (slice = vdc_allocdb_zone_at(agent->db, i)) != NULL; i++) {
        if (slice->name[0] != 0 && slice->joined && agent_find_zone(agent, slice->name) == NULL) {
            struct zone *zone = agent_zone_add(agent, slice->name);
            if (zone == NULL) {
                AGENT_TRACE(agent, ERROR, "zone %s: more than %d zones -> not served", slice->name,
                            VDC_MSG_ZONES_MAX);
            }
        }
    }
    agent_inventory_begin(agent);
    agent_guest_sweep(agent, agent->committed);
    agent_guest_begin(agent);
}

struct vdc_agent_update *vdc_agent_step(struct vdc_agent *agent,
                                        const struct vdc_agent_event *event)
{
    clear_update(agent);
    agent->now = event->now;
    agent->journal = event->journal;
    agent->sessions_busy = event->sessions_busy;
    VDC_ASSERT(agent->recovered || event->kind == VDC_AGENT_FOUND ||
               event->kind == VDC_AGENT_RECOVERED);
    switch (event->kind) {
    case VDC_AGENT_FOUND:
        agent_guest_take_found(agent, event);
        break;
    case VDC_AGENT_RECOVERED:
        begin(agent);
        break;
    case VDC_AGENT_DEVICES:
        agent_inventory_take_devices(agent, event);
        break;
    case VDC_AGENT_DURABLE:
        agent_become_durable(agent, event->sequence);
        break;
    case VDC_AGENT_SESSION_UP:
        agent_session_up(agent, event);
        break;
    case VDC_AGENT_SESSION_DOWN:
        agent_session_down(agent, event->session.index);
        break;
    case VDC_AGENT_SESSION_DRAINED:
        agent_session_stream(agent);
        agent_send_due_answers(agent);
        break;
    case VDC_AGENT_SESSION_MSG:
        agent_session_receive(agent, event->session.index, event->session.msg);
        break;
    case VDC_AGENT_MONITOR_STATE:
        agent_guest_take_state(agent, event);
        break;
    case VDC_AGENT_MONITOR_REPLY:
        agent_command_take_reply(agent, event);
        break;
    case VDC_AGENT_MONITOR_GONE:
        agent_guest_take_gone(agent, event);
        break;
    case VDC_AGENT_HANDOVER_MARKED:
        agent_command_take_mark(agent, event);
        break;
    case VDC_AGENT_RELAY_READY:
    case VDC_AGENT_RELAY_ENDED:
        agent_command_take_relay(agent, event);
        break;
    case VDC_AGENT_TICK:
        break;
    }
    if (agent->recovered) {
        if (vdc_mono_reached(agent->now, agent->retry_at)) {
            agent->retry_at = VDC_NEVER;
            agent_release_held(agent);
        }
        agent_inventory_tick(agent);
        agent_zone_continue_joins(agent);
        agent_zone_tick(agent);
        agent_guest_tick(agent);
    }
    return &agent->update;
}

vdc_mono vdc_agent_deadline(const struct vdc_agent *agent)
{
    vdc_mono at = vdc_mono_min(agent->retry_at, agent_guest_deadline(agent));
    at = vdc_mono_min(at, agent->inventory_at);
    for (size_t i = 0; i < agent->zones_len; i++) {
        at = vdc_mono_min(at, vdc_run_lease_deadline(&agent->zones[i].lease));
    }
    return at;
}

const struct vdc_allocdb *vdc_agent_allocdb(const struct vdc_agent *agent)
{
    return agent->db;
}

bool vdc_agent_guest_at(const struct vdc_agent *agent, size_t i, struct vdc_agent_guest_info *out)
{
    const struct guest *guest = agent->guests;
    for (; guest != NULL && i > 0; i--) {
        guest = guest->hh.next;
    }
    if (guest == NULL) {
        return false;
    }
    *out = (struct vdc_agent_guest_info){
        .key = guest->key,
        .partition = guest->in_db ? vdc_allocdb_find_partition(agent->db, &guest->key.id) : NULL,
        .process = guest->process,
        .report = guest->report,
        .failures = guest->failures,
    };
    return true;
}

bool vdc_agent_zone_at(const struct vdc_agent *agent, size_t i, struct vdc_agent_zone_info *out)
{
    if (i >= agent->zones_len) {
        return false;
    }
    const struct zone *zone = &agent->zones[i];
    const struct vdc_zone_slice *slice = vdc_allocdb_find_zone(agent->db, zone->name);
    *out = (struct vdc_agent_zone_info){
        .epoch = zone->epoch,
        .incarnation = slice != NULL ? slice->incarnation : 0,
        .joined = zone->join == JOIN_DONE && zone->led,
        .lease = zone->lease,
    };
    vdc_str_set(out->name, sizeof out->name, zone->name);
    if (zone->led) {
        vdc_str_set(out->leader, sizeof out->leader, agent->sessions[zone->session].manager);
    }
    return true;
}

bool vdc_agent_session_at(const struct vdc_agent *agent, uint32_t index,
                          struct vdc_agent_session_info *out)
{
    if (index >= VDC_AGENT_MANAGERS_MAX) {
        return false;
    }
    const struct session *session = &agent->sessions[index];
    *out = (struct vdc_agent_session_info){
        .up = session->up,
        .following = session->following,
        .sent_sequence = session->sent,
    };
    vdc_str_set(out->manager, sizeof out->manager, session->manager);
    return true;
}
