/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Desired against actual, one guest at a time. agent_guest_reconcile() compares what the (durable) record
 * wants with what runs, and does the next step; it is called whenever either may have changed.
 *
 * What can fail: the monitor cannot be started or ends: again after a growing wait, as long as the
 * record wants it and the lease allows it. A guest that powered itself off stays off. A target whose
 * monitor ended before it was activated is not started again: its leader aborts. A source that handed
 * over and then died is not started again: its leader knows who owns the guest now.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/launch_spec.h>
#include <vdc/quantity.h>

#include "agent_internal.h"

struct guest *agent_guest_find(struct vdc_agent *agent, const struct vdc_agent_key *key)
{
    /* The key is hashed as bytes: it has no padding. */
    _Static_assert(sizeof *key == sizeof key->id + sizeof key->generation, "padding");
    struct guest *guest;
    HASH_FIND(hh, agent->guests, key, sizeof *key, guest);
    return guest;
}

struct guest *agent_guest_of_partition(struct vdc_agent *agent, const struct vdc_id *id)
{
    for (struct guest *guest = agent->guests; guest != NULL; guest = guest->hh.next) {
        if (guest->in_db && vdc_id_equal(&guest->key.id, id)) {
            return guest;
        }
    }
    return NULL;
}

struct guest *agent_guest_add(struct vdc_agent *agent, const struct vdc_agent_key *key)
{
    struct guest *guest = VDC_NEW(struct guest);
    guest->key = *key;
    guest->silent_at = VDC_NEVER;
    guest->kill_at = VDC_NEVER;
    guest->lease_kill_at = VDC_NEVER;
    guest->lease_needed = true;
    HASH_ADD(hh, agent->guests, key, sizeof guest->key, guest);
    /* Its directory may still stand there from an earlier life under the same generation. */
    for (size_t i = 0; i < agent->graves_len; i++) {
        if (memcmp(&agent->graves[i].key, key, sizeof *key) == 0) {
            agent_act(agent, VDC_AGENT_DO_REMOVE, key);
            agent->graves_len--;
            memmove(&agent->graves[i], &agent->graves[i + 1],
                    (agent->graves_len - i) * sizeof agent->graves[0]);
            break;
        }
    }
    return guest;
}

bool agent_partition_needs_lease(const struct vdc_partition *partition)
{
    if (partition->kind != VDC_PARTITION_GUEST) {
        return false;
    }
    /* A description that cannot be read cannot be started either; needing a lease is the safe
     * reading. */
    struct vdc_launch_spec spec;
    return vdc_launch_spec_parse(partition->config, partition->config_len, &spec, NULL) !=
               VDC_RC_OK ||
           spec.restartable;
}

void agent_guest_take_partition(struct guest *guest, const struct vdc_partition *partition)
{
    if (partition == NULL) {
        return;
    }
    vdc_str_set(guest->zone, sizeof guest->zone, partition->zone);
    vdc_str_set(guest->name, sizeof guest->name, partition->name);
    guest->lease_needed = agent_partition_needs_lease(partition);
}

void agent_guest_sweep(struct vdc_agent *agent, uint64_t sequence)
{
    struct guest *guest;
    struct guest *next;
    HASH_ITER(hh, agent->guests, guest, next)
    {
        if (guest->in_db && vdc_allocdb_find_partition(agent->db, &guest->key.id) == NULL) {
            guest->in_db = false;
            guest->touched = sequence;
        }
    }
    size_t len;
    const struct vdc_partition **list = vdc_allocdb_list_partitions(agent->db, &len);
    for (size_t i = 0; i < len; i++) {
        const struct vdc_partition *partition = list[i];
        if (partition->kind != VDC_PARTITION_GUEST || !vdc_id_is_none(&partition->claim) ||
            agent_guest_of_partition(agent, &partition->id) != NULL) {
            continue;
        }
        struct vdc_agent_key key = {partition->id, partition->generation};
        guest = agent_guest_find(agent, &key);
        if (guest == NULL) {
            guest = agent_guest_add(agent, &key);
        }
        guest->in_db = true;
        guest->touched = sequence;
        agent_guest_take_partition(guest, partition);
    }
    free((void *)list);
}

static void add_grave(struct vdc_agent *agent, const struct guest *guest)
{
    if (agent->graves_len == VDC_AGENT_GRAVES_MAX) {
        agent_act(agent, VDC_AGENT_DO_REMOVE, &agent->graves[0].key);
        agent->graves_len--;
        memmove(&agent->graves[0], &agent->graves[1], agent->graves_len * sizeof agent->graves[0]);
    }
    struct grave *grave = &agent->graves[agent->graves_len++];
    *grave = (struct grave){
        .key = guest->key,
        .remove_at = vdc_mono_add(agent->now, VDC_AGENT_GRAVE_NS),
    };
    vdc_str_set(grave->zone, sizeof grave->zone, guest->zone);
}

static void bury(struct vdc_agent *agent, struct guest *guest)
{
    agent_command_finish(agent, guest, VDC_RC_CANCELLED, "the partition is destroyed here");
    agent_act(agent, VDC_AGENT_DO_FORGET, &guest->key);
    add_grave(agent, guest);
    HASH_DEL(agent->guests, guest);
    free(guest);
}

static void begin_kill(struct vdc_agent *agent, struct guest *guest, const char *why)
{
    guest->silent_at = VDC_NEVER;
    AGENT_TRACE(agent, INFO, "%s: %s -> kill", guest->name, why);
    if (guest->process == VDC_AGENT_UP) {
        /* Its monitor kills QEMU and tidies up; it is killed itself if that takes too long. */
        struct vdc_agent_action *action = agent_act(agent, VDC_AGENT_DO_ASK, &guest->key);
        action->ask.request = VDC_MONITOR_ASK_KILL;
        guest->kill_at = vdc_mono_add(agent->now, VDC_AGENT_KILL_AFTER_NS);
    } else {
        agent_act(agent, VDC_AGENT_DO_KILL, &guest->key);
        guest->kill_at = vdc_mono_add(agent->now, 5 * VDC_AGENT_KILL_AFTER_NS);
    }
    guest->process = VDC_AGENT_KILLING;
}

void agent_guest_doom(struct vdc_agent *agent, struct guest *guest, const char *why)
{
    guest->doomed = true;
    if (guest->process == VDC_AGENT_STARTING || guest->process == VDC_AGENT_UP) {
        begin_kill(agent, guest, why);
    }
}

bool agent_guest_any_process(const struct vdc_agent *agent, const char *zone)
{
    for (const struct guest *guest = agent->guests; guest != NULL; guest = guest->hh.next) {
        /* One that the database does not know (its journal was lost) may be of any zone. */
        bool may_be = guest->zone[0] == 0 || strcmp(guest->zone, zone) == 0;
        if (may_be && guest->lease_needed && guest->process != VDC_AGENT_IDLE) {
            return true;
        }
    }
    return false;
}

void agent_guest_publish_lease(struct vdc_agent *agent, struct guest *guest)
{
    const struct zone *zone = agent_find_zone(agent, guest->zone);
    struct vdc_agent_action *action = agent_act(agent, VDC_AGENT_DO_LEASE, &guest->key);
    if (!guest->lease_needed) {
        action->lease_ns = VDC_VIEW_LEASE_NONE;
    } else {
        action->lease_ns = zone != NULL ? zone->lease.deadline.ns : VDC_VIEW_LEASE_NEVER;
    }
}

void agent_guest_publish(struct vdc_agent *agent, struct guest *guest)
{
    agent_act(agent, VDC_AGENT_DO_PUBLISH, &guest->key);
    agent_guest_publish_lease(agent, guest);
    if (guest->process == VDC_AGENT_UP) {
        agent_act(agent, VDC_AGENT_DO_ASK, &guest->key)->ask.request = VDC_MONITOR_ASK_REFRESH;
    }
}

/* --- reports --- */

static enum vdc_guest_state report_state(const struct guest *guest, enum vdc_run run)
{
    if (!guest->has_state) {
        return run == VDC_RUN_STOPPED && guest->process == VDC_AGENT_IDLE ? VDC_GUEST_STOPPED
                                                                          : VDC_GUEST_STARTING;
    }
    switch (guest->state.phase) {
    case VDC_PHASE_STARTING:
    case VDC_PHASE_PRELAUNCH:
        return VDC_GUEST_STARTING;
    case VDC_PHASE_INCOMING:
    case VDC_PHASE_LOADING:
        return VDC_GUEST_INCOMING;
    case VDC_PHASE_LOADED:
        return VDC_GUEST_LOADED;
    case VDC_PHASE_RUNNING:
        return VDC_GUEST_RUNNING;
    case VDC_PHASE_PAUSED:
        return VDC_GUEST_PAUSED;
    case VDC_PHASE_MIGRATING:
        return VDC_GUEST_MIGRATING;
    case VDC_PHASE_SWITCHOVER:
    case VDC_PHASE_HANDOVER:
        return VDC_GUEST_SWITCHOVER;
    case VDC_PHASE_POSTMIGRATE:
        return VDC_GUEST_MIGRATED;
    case VDC_PHASE_STOPPING:
        return VDC_GUEST_STOPPING;
    case VDC_PHASE_STOPPED:
        return VDC_GUEST_STOPPED;
    case VDC_PHASE_FAILED:
        /* However it ended: wanted is that it does not run, and it does not. */
        return run == VDC_RUN_STOPPED && guest->process == VDC_AGENT_IDLE ? VDC_GUEST_STOPPED
                                                                          : VDC_GUEST_FAILED;
    }
    return VDC_GUEST_FAILED;
}

static uint64_t known_ns(int64_t ns)
{
    return ns > 0 ? (uint64_t)ns : 0;
}

static void build_report(const struct guest *guest, const struct vdc_partition *partition,
                         struct vdc_msg_guest *out)
{
    const struct vdc_agent_monitor_state *state = &guest->state;
    *out = (struct vdc_msg_guest){
        .partition = guest->key.id,
        .generation = partition->generation,
        .state = report_state(guest, partition->run),
        .started_at_ns = known_ns(guest->started_at.ns),
    };
    vdc_str_set(out->zone, sizeof out->zone, guest->zone);
    if (!guest->has_state) {
        return;
    }
    if (state->migration_failed && state->migration_error[0] != 0) {
        snprintf(out->reason, sizeof out->reason, "migration: %s", state->migration_error);
    } else {
        snprintf(out->reason, sizeof out->reason, "%s", state->reason);
    }
    vdc_str_set(out->accelerator, sizeof out->accelerator, state->accelerator);
    out->bytes_total = state->bytes_total;
    out->bytes_left = state->bytes_left;
    out->bytes_sent = state->bytes_sent;
    out->stopped_at_ns = known_ns(state->stopped_ns);
    out->running_at_ns =
        known_ns(state->resumed_ns > 0 ? state->resumed_ns : state->running_since_ns);
    out->downtime_ns = known_ns(state->downtime_ms) * (uint64_t)VDC_MS;
}

static bool same_report(const struct vdc_msg_guest *a, const struct vdc_msg_guest *b)
{
    return a->state == b->state && a->generation == b->generation &&
           a->bytes_sent == b->bytes_sent && a->bytes_left == b->bytes_left &&
           a->stopped_at_ns == b->stopped_at_ns && a->running_at_ns == b->running_at_ns &&
           a->downtime_ns == b->downtime_ns && a->started_at_ns == b->started_at_ns &&
           strcmp(a->reason, b->reason) == 0 && strcmp(a->accelerator, b->accelerator) == 0;
}

void agent_guest_report(struct vdc_agent *agent, struct guest *guest, bool always)
{
    const struct vdc_partition *partition =
        guest->in_db ? vdc_allocdb_find_partition(agent->db, &guest->key.id) : NULL;
    const struct zone *zone = agent_find_zone(agent, guest->zone);
    if (partition == NULL || guest->doomed || guest->touched > agent->durable) {
        return;
    }
    struct vdc_msg msg = {.kind = VDC_MSG_GUEST};
    build_report(guest, partition, &msg.guest);
    if (!always && guest->reported && same_report(&msg.guest, &guest->report)) {
        return;
    }
    guest->report = msg.guest;
    guest->reported = true;
    if (zone != NULL && zone->led && zone->join == JOIN_DONE) {
        agent_send(agent, zone->session, &msg);
    }
}

/* --- reconciling --- */

static void start(struct vdc_agent *agent, struct guest *guest,
                  const struct vdc_partition *partition, const struct zone *zone)
{
    guest->process = VDC_AGENT_STARTING;
    guest->has_state = false;
    guest->state = (struct vdc_agent_monitor_state){.downtime_ms = -1};
    guest->activate_asked = false;
    guest->stop_wanted = false;
    guest->started_at = agent->now;
    guest->silent_at = vdc_mono_add(agent->now, VDC_AGENT_START_NS);
    agent_act(agent, VDC_AGENT_DO_PUBLISH, &guest->key);
    agent_guest_publish_lease(agent, guest);
    struct vdc_agent_action *action = agent_act(agent, VDC_AGENT_DO_START, &guest->key);
    action->start.partition = partition;
    action->start.incoming = partition->run == VDC_RUN_INCOMING;
    action->start.lease = guest->lease_needed;
    action->start.grace_ns = zone != NULL ? zone->lead.grace_ns : 0;
    AGENT_TRACE(agent, INFO, "%s: wanted %s, generation %llu, nothing runs -> start", guest->name,
                vdc_run_name(partition->run), (unsigned long long)partition->generation);
    agent_guest_report(agent, guest, false);
}

static void start_when_allowed(struct vdc_agent *agent, struct guest *guest,
                               const struct vdc_partition *partition)
{
    const struct zone *zone = agent_find_zone(agent, guest->zone);
    switch (partition->run) {
    case VDC_RUN_PAUSED:
    case VDC_RUN_STOPPED:
    case VDC_RUN_LEAVING:
        agent_guest_report(agent, guest, false);
        return;
    case VDC_RUN_INCOMING:
        if (guest->incoming_failed) {
            return;
        }
        break;
    case VDC_RUN_RUNNING:
        if (guest->ended_itself) {
            return;
        }
        break;
    }
    if (guest->handover || !vdc_mono_reached(agent->now, guest->restart_at)) {
        return;
    }
    if (guest->lease_needed && (zone == NULL || !vdc_run_lease_valid(&zone->lease, agent->now))) {
        return;
    }
    start(agent, guest, partition, zone);
}

void agent_guest_reconcile(struct vdc_agent *agent, struct guest *guest)
{
    if (!agent->recovered || guest->touched > agent->durable) {
        return;
    }
    const struct vdc_partition *partition =
        guest->in_db ? vdc_allocdb_find_partition(agent->db, &guest->key.id) : NULL;
    switch (guest->process) {
    case VDC_AGENT_IDLE:
        if (partition == NULL) {
            bury(agent, guest);
        } else if (!guest->doomed) {
            start_when_allowed(agent, guest, partition);
        }
        return;
    case VDC_AGENT_STARTING:
        if (partition == NULL) {
            begin_kill(agent, guest, "not in the database");
        }
        return;
    case VDC_AGENT_UP:
        if (partition != NULL && partition->run == VDC_RUN_STOPPED) {
            guest->stop_wanted = true;
        }
        if (partition == NULL) {
            begin_kill(agent, guest, "not in the database");
        } else if (partition->run == VDC_RUN_RUNNING && guest->has_state &&
                   guest->state.phase == VDC_PHASE_INCOMING && !guest->doomed) {
            /* Its node was lost after the move: the stream that it waits for came to an earlier life. */
            guest->stop_wanted = true;
            begin_kill(agent, guest, "waits for a stream, and its record says running");
        } else if (partition->run == VDC_RUN_RUNNING && guest->has_state &&
                   guest->state.phase == VDC_PHASE_LOADED && !guest->activate_asked &&
                   !guest->doomed) {
            guest->activate_asked = true;
            agent_act(agent, VDC_AGENT_DO_ASK, &guest->key)->ask.request = VDC_MONITOR_ASK_ACTIVATE;
            AGENT_TRACE(agent, INFO, "%s: loaded, and its record says running -> activate",
                        guest->name);
        }
        return;
    case VDC_AGENT_KILLING:
        return;
    }
}

void agent_guest_reconcile_zone(struct vdc_agent *agent, const char *zone)
{
    struct guest *guest;
    struct guest *next;
    HASH_ITER(hh, agent->guests, guest, next)
    {
        if (strcmp(guest->zone, zone) == 0) {
            agent_guest_reconcile(agent, guest);
        }
    }
}

/* --- what was found at the start --- */

void agent_guest_take_found(struct vdc_agent *agent, const struct vdc_agent_event *event)
{
    if (agent_guest_find(agent, &event->key) != NULL) {
        return;
    }
    struct guest *guest = agent_guest_add(agent, &event->key);
    char id[VDC_ID_TEXT_CAP];
    vdc_id_to_text(&event->key.id, id);
    vdc_str_set(guest->name, sizeof guest->name, id);
    const struct vdc_partition *partition = vdc_allocdb_find_partition(agent->db, &event->key.id);
    guest->process = event->found.alive ? VDC_AGENT_STARTING : VDC_AGENT_IDLE;
    guest->handover = event->found.handover;
    if (event->found.ended && !event->found.alive) {
        guest->has_state = true;
        guest->state = event->found.last;
    }
    if (partition == NULL || (partition->generation != event->found.generation &&
                              partition->generation != event->key.generation)) {
        return;
    }
    guest->in_db = true;
    agent_guest_take_partition(guest, partition);
    guest->ended_itself = guest->has_state && guest->state.phase == VDC_PHASE_STOPPED &&
                          (partition->run == VDC_RUN_RUNNING || partition->run == VDC_RUN_LEAVING);
    guest->incoming_failed = guest->has_state && partition->run == VDC_RUN_INCOMING;
    if (!guest->lease_needed || event->found.lease_ns <= 0 ||
        event->found.lease_ns == VDC_VIEW_LEASE_NONE) {
        return;
    }
    struct zone *zone = agent_zone_add(agent, guest->zone);
    if (zone != NULL) {
        struct vdc_run_lease_event restore = {
            .kind = VDC_RUN_LEASE_RESTORE,
            .now = event->now,
            .deadline = {event->found.lease_ns},
        };
        struct vdc_run_lease_update update;
        vdc_run_lease_step(&zone->lease, &restore, &update);
    }
}

void agent_guest_begin(struct vdc_agent *agent)
{
    struct guest *guest;
    struct guest *next;
    HASH_ITER(hh, agent->guests, guest, next)
    {
        if (guest->in_db && guest->process == VDC_AGENT_STARTING) {
            AGENT_TRACE(agent, INFO, "%s: its processes outlived the agent -> adopt", guest->name);
        }
        const struct zone *zone = agent_find_zone(agent, guest->zone);
        if (guest->lease_needed && guest->process == VDC_AGENT_STARTING &&
            (zone == NULL || !vdc_run_lease_valid(&zone->lease, agent->now))) {
            /* It ran out while we were away: its monitor has this long to say that all is well. */
            guest->lease_kill_at = vdc_mono_add(agent->now, VDC_AGENT_KILL_AFTER_NS);
        }
        if (guest->in_db) {
            guest->touched = VDC_MIN(guest->touched, agent->durable);
            agent_guest_publish(agent, guest);
        }
        agent_guest_reconcile(agent, guest);
    }
}

/* --- monitors --- */

static void clear_handover(struct vdc_agent *agent, struct guest *guest)
{
    if (guest->handover) {
        guest->handover = false;
        agent_act(agent, VDC_AGENT_DO_HANDOVER, &guest->key)->handover = false;
    }
}

void agent_guest_take_state(struct vdc_agent *agent, const struct vdc_agent_event *event)
{
    struct guest *guest = agent_guest_find(agent, &event->key);
    if (guest == NULL || guest->process == VDC_AGENT_IDLE) {
        return;
    }
    const struct vdc_agent_monitor_state *state = event->monitor.state;
    bool changed = !guest->has_state || guest->state.phase != state->phase;
    bool first = guest->process == VDC_AGENT_STARTING;
    guest->state = *state;
    guest->has_state = true;
    guest->silent_at = VDC_NEVER;
    if (first) {
        guest->process = VDC_AGENT_UP;
    }
    if (changed) {
        guest->activate_asked = false;
    }
    if (state->phase == VDC_PHASE_RUNNING) {
        /* QEMU resumed by itself before the stream was complete: the hand-over failed. */
        clear_handover(agent, guest);
    }
    if (first && guest->in_db) {
        /* What changed while nobody listened. */
        agent_act(agent, VDC_AGENT_DO_ASK, &guest->key)->ask.request = VDC_MONITOR_ASK_REFRESH;
    }
    agent_guest_report(agent, guest, false);
    agent_command_follow_state(agent, guest);
    agent_guest_reconcile(agent, guest);
}

static void back_off(struct vdc_agent *agent, struct guest *guest)
{
    if (vdc_mono_sub(agent->now, guest->started_at) >= VDC_AGENT_RESTART_STABLE_NS) {
        guest->failures = 0;
    }
    int64_t wait = VDC_AGENT_RESTART_FIRST_NS;
    for (uint32_t i = 0; i < guest->failures && wait < VDC_AGENT_RESTART_MAX_NS; i++) {
        wait *= 2;
    }
    wait = VDC_MIN(wait, VDC_AGENT_RESTART_MAX_NS);
    guest->failures++;
    guest->restart_at = vdc_mono_add(agent->now, wait);
    char text[VDC_QUANTITY_TEXT_CAP];
    vdc_quantity_duration_text(wait, text);
    AGENT_TRACE(agent, WARN, "%s: %s -> start again in %s", guest->name, guest->state.reason, text);
}

static void note_end(struct vdc_agent *agent, struct guest *guest,
                     const struct vdc_partition *partition)
{
    if (partition->run == VDC_RUN_STOPPED || partition->run == VDC_RUN_PAUSED) {
        AGENT_TRACE(agent, INFO, "%s: has ended (%s), as its record wants", guest->name,
                    guest->state.reason);
    } else if (partition->run == VDC_RUN_LEAVING) {
        guest->ended_itself = guest->state.phase == VDC_PHASE_STOPPED;
        AGENT_TRACE(agent, WARN, "%s: ended on its way to another node: %s -> its leader decides",
                    guest->name, guest->state.reason);
    } else if (partition->run == VDC_RUN_INCOMING) {
        guest->incoming_failed = true;
        AGENT_TRACE(agent, WARN, "%s: ended before the guest was here: %s -> its leader decides",
                    guest->name, guest->state.reason);
    } else if (guest->handover) {
        AGENT_TRACE(agent, WARN, "%s: ended after it was handed over: %s -> its leader decides",
                    guest->name, guest->state.reason);
    } else if (guest->stop_wanted) {
        /* Wanted stopped, then running again before it had ended. */
        AGENT_TRACE(agent, INFO, "%s: has ended (%s), and is wanted again", guest->name,
                    guest->state.reason);
    } else if (guest->state.phase == VDC_PHASE_STOPPED) {
        guest->ended_itself = true;
        AGENT_TRACE(agent, INFO, "%s: the guest powered itself off -> stays off", guest->name);
    } else {
        back_off(agent, guest);
    }
}

void agent_guest_take_gone(struct vdc_agent *agent, const struct vdc_agent_event *event)
{
    struct guest *guest = agent_guest_find(agent, &event->key);
    if (guest == NULL || guest->process == VDC_AGENT_IDLE) {
        return;
    }
    guest->process = VDC_AGENT_IDLE;
    guest->silent_at = VDC_NEVER;
    guest->kill_at = VDC_NEVER;
    guest->activate_asked = false;
    if (event->monitor.state != NULL && (event->monitor.state->phase == VDC_PHASE_STOPPED ||
                                         event->monitor.state->phase == VDC_PHASE_FAILED)) {
        guest->state = *event->monitor.state;
    } else {
        guest->state.phase = VDC_PHASE_FAILED;
        snprintf(guest->state.reason, sizeof guest->state.reason, "%s",
                 event->monitor.text != NULL ? event->monitor.text : "the monitor was killed");
    }
    guest->has_state = true;
    if (guest->relay) {
        guest->relay = false;
        guest->relay_port = 0;
        agent_act(agent, VDC_AGENT_DO_RELAY_STOP, &guest->key);
    }
    if (guest->command.step != COMMAND_NONE &&
        guest->command.msg.kind == VDC_COMMAND_MIGRATE_CANCEL) {
        /* The leader has said that it runs here, and what it asks for has come about: nobody would
         * say so again. */
        clear_handover(agent, guest);
        agent_command_finish(agent, guest, VDC_RC_OK, "");
    }
    agent_command_finish(agent, guest, VDC_RC_UNAVAILABLE, guest->state.reason);
    const struct vdc_partition *partition =
        guest->in_db ? vdc_allocdb_find_partition(agent->db, &guest->key.id) : NULL;
    if (partition != NULL && !guest->doomed) {
        note_end(agent, guest, partition);
        agent_guest_report(agent, guest, false);
    }
    if (guest->doomed) {
        agent_release_held(agent);
    }
    agent_guest_reconcile(agent, guest);
}

/* --- time --- */

void agent_guest_watch_lease(struct vdc_agent *agent, const char *zone, bool over)
{
    for (struct guest *guest = agent->guests; guest != NULL; guest = guest->hh.next) {
        if (guest->lease_needed && strcmp(guest->zone, zone) == 0) {
            guest->lease_kill_at =
                over ? vdc_mono_add(agent->now, VDC_AGENT_LEASE_KILL_NS) : VDC_NEVER;
        }
    }
}

/* Whether its vCPUs may be running, by its monitor's last word; one that was adopted and has said
 * nothing yet may run too. */
static bool may_execute(const struct guest *guest)
{
    if (!guest->has_state) {
        return guest->process == VDC_AGENT_STARTING && guest->started_at.ns == 0;
    }
    /* One whose monitor was asked to kill it may run as well: that monitor may hang. */
    return (guest->process == VDC_AGENT_UP || guest->process == VDC_AGENT_KILLING) &&
           (guest->state.phase == VDC_PHASE_RUNNING || guest->state.phase == VDC_PHASE_MIGRATING ||
            guest->state.phase == VDC_PHASE_STOPPING);
}

static void enforce_lease(struct vdc_agent *agent, struct guest *guest)
{
    guest->lease_kill_at = VDC_NEVER;
    if (!may_execute(guest)) {
        return;
    }
    AGENT_TRACE(agent, WARN, "%s: the lease is over and its monitor has not paused it -> kill",
                guest->name);
    agent_act(agent, VDC_AGENT_DO_KILL, &guest->key);
    guest->process = VDC_AGENT_KILLING;
    guest->kill_at = vdc_mono_add(agent->now, 5 * VDC_AGENT_KILL_AFTER_NS);
}

void agent_guest_tick(struct vdc_agent *agent)
{
    struct guest *guest;
    struct guest *next;
    HASH_ITER(hh, agent->guests, guest, next)
    {
        if (vdc_mono_reached(agent->now, guest->lease_kill_at)) {
            enforce_lease(agent, guest);
        }
        if (vdc_mono_reached(agent->now, guest->silent_at)) {
            begin_kill(agent, guest, "its monitor was started and says nothing");
        }
        if (guest->process == VDC_AGENT_KILLING && vdc_mono_reached(agent->now, guest->kill_at)) {
            agent_act(agent, VDC_AGENT_DO_KILL, &guest->key);
            guest->kill_at = vdc_mono_add(agent->now, 5 * VDC_AGENT_KILL_AFTER_NS);
        }
        if (guest->command.step != COMMAND_NONE &&
            vdc_mono_reached(agent->now, guest->command.deadline)) {
            agent_command_finish(agent, guest, VDC_RC_TIMEOUT, "no answer in time");
        }
        if (guest->process == VDC_AGENT_IDLE && guest->restart_at.ns != 0 &&
            vdc_mono_reached(agent->now, guest->restart_at)) {
            guest->restart_at = (vdc_mono){0};
            agent_guest_reconcile(agent, guest);
        }
    }
    while (agent->graves_len > 0 && vdc_mono_reached(agent->now, agent->graves[0].remove_at)) {
        agent_act(agent, VDC_AGENT_DO_REMOVE, &agent->graves[0].key);
        agent->graves_len--;
        memmove(&agent->graves[0], &agent->graves[1], agent->graves_len * sizeof agent->graves[0]);
    }
}

vdc_mono agent_guest_deadline(const struct vdc_agent *agent)
{
    vdc_mono at = agent->graves_len > 0 ? agent->graves[0].remove_at : VDC_NEVER;
    for (const struct guest *guest = agent->guests; guest != NULL; guest = guest->hh.next) {
        at = vdc_mono_min(at, vdc_mono_min(guest->kill_at, guest->lease_kill_at));
        at = vdc_mono_min(at, guest->silent_at);
        if (guest->command.step != COMMAND_NONE) {
            at = vdc_mono_min(at, guest->command.deadline);
        }
        if (guest->process == VDC_AGENT_IDLE && guest->restart_at.ns != 0) {
            at = vdc_mono_min(at, guest->restart_at);
        }
    }
    return at;
}
