/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU and the monitor are two processes; what one says to the other arrives in order after some
 * tenths of a millisecond. A frozen QEMU (SIGSTOP) does nothing: what it is told waits.
 */
#include "monitor.h"

#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/guest.h>

#include "check.h"
#include "monitor_words.h"
#include "node.h"

#define WORD_MIN_NS (20 * VDC_MS / 1000)
#define WORD_MAX_NS (400 * VDC_MS / 1000)
#define START_MIN_NS (30 * VDC_MS)
#define START_MAX_NS (400 * VDC_MS)
#define STREAM_MIN_NS (100 * VDC_MS)
#define STREAM_MAX_NS (3 * VDC_SECOND)
#define LAST_PART_MIN_NS (2 * VDC_MS)
#define LAST_PART_MAX_NS (60 * VDC_MS)
/* As VDC_MONITOR_VIEW_POLL_MS and VDC_MONITOR_LEASE_POLL_MS of the real driver. */
#define VIEW_POLL_NS (1 * VDC_SECOND)
#define LEASE_POLL_NS (50 * VDC_MS)
/* A broken stream is seen by who reads it after this long when its network is cut. */
#define STREAM_DEAD_NS (3 * VDC_SECOND)

struct qemu;

struct sim_relay {
    struct sim_relay *next;
    struct sim_world *world;
    uint32_t host;
    uint16_t port; /* 0: it dialled */
    bool ended;
    struct sim_relay *peer;
    struct qemu *qemu; /* connected to its unix socket */
};

enum migration { NO_MIGRATION, SENDING, SWITCHOVER, LAST_PART, SENT, RECEIVING, RECEIVED };

struct qemu {
    struct sim_process process;
    struct sim_monitor *monitor;
    struct sim_execution execution;
    bool vcpus;
    bool was_running; /* before the migration stopped it */
    enum migration migration;
    uint64_t attempt; /* of a migration: events of an earlier one are void */
    struct sim_relay *relay;
    int64_t heard_at; /* when the monitor's last word arrives */
    int64_t said_at;  /* when its own last word arrives */
    uint64_t sent, total;
    uint64_t downtime_began;
};

struct sim_monitor {
    struct sim_monitor *next;
    struct sim_world *world;
    struct sim_monitor_config config;
    struct sim_process process;
    struct vdc_guest *guest;
    struct qemu qemu;
    struct sim_view seen;
    bool view_known;
    bool gone; /* told so */
};

/* Of the one world of this process. Events name them, so they stay until the world ends. */
static struct sim_monitor *monitors;
static struct sim_relay *relays;
static uint16_t last_port = 1000;

/* ---- words between the two ---- */

static void guest_step(struct sim_monitor *monitor, struct vdc_guest_event *event,
                       struct vdc_err *reply);

static void hear_qmp(void *object, void *data)
{
    struct sim_monitor *monitor = object;
    struct vdc_guest_event event = {.kind = VDC_GUEST_EV_QMP, .qmp = data};
    guest_step(monitor, &event, NULL);
}

static void say(struct qemu *qemu, const struct vdc_qmp_message *message)
{
    struct sim_world *world = qemu->process.world;
    int64_t at = world->now + sim_chance(world, WORD_MIN_NS, WORD_MAX_NS);
    at = VDC_MAX(at, qemu->said_at);
    qemu->said_at = at;
    sim_after(world, &qemu->monitor->process, at - world->now, hear_qmp, qemu->monitor,
              vdc_memdup(message, sizeof *message), free);
}

static void say_event(struct qemu *qemu, enum vdc_qmp_event kind)
{
    struct vdc_qmp_message message = {.kind = VDC_QMP_EVENT, .event = kind};
    say(qemu, &message);
}

static void say_migration(struct qemu *qemu, enum vdc_qmp_migration status)
{
    struct vdc_qmp_message message = {
        .kind = VDC_QMP_EVENT, .event = VDC_QMP_EVENT_MIGRATION, .migration = status};
    say(qemu, &message);
}

static void say_return(struct qemu *qemu, uint64_t id)
{
    struct vdc_qmp_message message = {.kind = VDC_QMP_RETURN, .id = id};
    message.downtime_ms = -1;
    message.total_ms = -1;
    say(qemu, &message);
}

static void say_error(struct qemu *qemu, uint64_t id, const char *text)
{
    struct vdc_qmp_message message = {.kind = VDC_QMP_ERROR, .id = id};
    vdc_str_set(message.error, sizeof message.error, text);
    say(qemu, &message);
}

/* ---- the vCPUs ---- */

static void note_execution(struct qemu *qemu)
{
    bool executes = qemu->process.alive && !qemu->process.stopped && qemu->vcpus;
    if (executes != qemu->execution.executes) {
        sim_check_executes(qemu->process.world, &qemu->execution, executes,
                           qemu->monitor->config.view->generation);
    }
}

static void set_vcpus(struct qemu *qemu, bool run)
{
    if (qemu->vcpus != run) {
        qemu->vcpus = run;
        note_execution(qemu);
        say_event(qemu, run ? VDC_QMP_EVENT_RESUME : VDC_QMP_EVENT_STOP);
    }
}

/* ---- the end of QEMU ---- */

struct end {
    int code;
    int signal;
};

static void finish_gone(struct sim_monitor *monitor, bool with_state)
{
    if (monitor->gone) {
        return;
    }
    monitor->gone = true;
    struct vdc_agent_monitor_state last;
    sim_monitor_state(monitor, &last);
    sim_place_gone(monitor->config.place, with_state ? &last : NULL);
}

static void hear_exit(void *object, void *data)
{
    struct sim_monitor *monitor = object;
    const struct end *end = data;
    struct vdc_guest_event event = {.kind = VDC_GUEST_EV_EXITED,
                                    .text = "",
                                    .exit_code = end->code,
                                    .exit_signal = end->signal};
    guest_step(monitor, &event, NULL);
}

static void relay_lost_qemu(struct sim_relay *relay);

static void qemu_end(struct qemu *qemu, int code, int signal)
{
    if (!qemu->process.alive) {
        return;
    }
    struct sim_world *world = qemu->process.world;
    sim_process_end(&qemu->process);
    qemu->attempt++;
    note_execution(qemu);
    sim_check_remove(world, &qemu->execution);
    if (qemu->relay != NULL) {
        relay_lost_qemu(qemu->relay);
        qemu->relay = NULL;
    }
    struct end *end = VDC_NEW(struct end);
    *end = (struct end){code, signal};
    int64_t at = world->now + sim_chance(world, WORD_MIN_NS, WORD_MAX_NS);
    at = VDC_MAX(at, qemu->said_at);
    sim_after(world, &qemu->monitor->process, at - world->now, hear_exit, qemu->monitor, end, free);
}

static void qemu_exits(void *object, void *data)
{
    struct qemu *qemu = object;
    const struct end *end = data;
    qemu_end(qemu, end->code, end->signal);
}

static void exit_later(struct qemu *qemu, int64_t delay_ns, int code)
{
    struct end *end = VDC_NEW(struct end);
    end->code = code;
    sim_after(qemu->process.world, &qemu->process, delay_ns, qemu_exits, qemu, end, free);
}

/* ---- migration ---- */

struct attempt {
    uint64_t number;
};

static void later(struct qemu *qemu, int64_t delay_ns, sim_fn *fn)
{
    struct attempt *attempt = VDC_NEW(struct attempt);
    attempt->number = qemu->attempt;
    sim_after(qemu->process.world, &qemu->process, delay_ns, fn, qemu, attempt, free);
}

static bool is_void(const struct qemu *qemu, const void *data)
{
    return ((const struct attempt *)data)->number != qemu->attempt;
}

static void resumes_itself(void *object, void *data)
{
    struct qemu *qemu = object;
    if (!is_void(qemu, data) && qemu->was_running) {
        set_vcpus(qemu, true);
    }
}

/* The source gives up: what it says, then it goes on where the guest ran before. */
static void source_fails(struct qemu *qemu, enum vdc_qmp_migration status)
{
    bool stopped = qemu->migration == SWITCHOVER || qemu->migration == LAST_PART;
    qemu->migration = NO_MIGRATION;
    qemu->attempt++;
    if (qemu->relay != NULL) {
        relay_lost_qemu(qemu->relay);
        qemu->relay = NULL;
    }
    struct sim_world *world = qemu->process.world;
    if (stopped && sim_one_in(&world->chance, 2)) {
        /* Either order was seen. */
        set_vcpus(qemu, qemu->was_running);
        say_migration(qemu, status);
        return;
    }
    say_migration(qemu, status);
    if (stopped) {
        later(qemu, sim_chance(world, 0, 50 * VDC_MS), resumes_itself);
    }
}

static void target_fails(struct qemu *qemu)
{
    qemu->attempt++;
    say_migration(qemu, VDC_QMP_MIGRATION_FAILED);
    exit_later(qemu, VDC_MS, 1);
}

static void stream_broke(void *object, void *data)
{
    struct qemu *qemu = object;
    if (is_void(qemu, data)) {
        return;
    }
    switch (qemu->migration) {
    case SENDING:
    case SWITCHOVER:
    case LAST_PART:
        source_fails(qemu, VDC_QMP_MIGRATION_FAILED);
        break;
    case RECEIVING:
        target_fails(qemu);
        break;
    case NO_MIGRATION:
    case SENT:
    case RECEIVED:
        break;
    }
}

/* The other end of a stream has gone; a QEMU that waits at the switch-over point sees it only when it
 * writes again. */
static void tell_broken(struct sim_relay *relay)
{
    struct qemu *qemu = relay->qemu;
    if (qemu != NULL && qemu->migration != SWITCHOVER) {
        later(qemu, sim_chance(relay->world, WORD_MIN_NS, 5 * VDC_MS), stream_broke);
    }
}

static void relay_lost_qemu(struct sim_relay *relay)
{
    relay->qemu = NULL;
    relay->ended = true;
    if (relay->peer != NULL && !relay->peer->ended) {
        tell_broken(relay->peer);
    }
}

void sim_relay_end(struct sim_relay *relay)
{
    if (relay == NULL || relay->ended) {
        return;
    }
    relay->ended = true;
    tell_broken(relay);
    if (relay->peer != NULL && !relay->peer->ended) {
        tell_broken(relay->peer);
    }
}

/* True: what is sent now arrives. */
static bool stream_works(const struct sim_relay *relay)
{
    return relay != NULL && !relay->ended && relay->peer != NULL && !relay->peer->ended &&
           relay->peer->qemu != NULL &&
           !sim_net_is_cut(relay->world, relay->host, relay->peer->host) &&
           !sim_net_is_cut(relay->world, relay->peer->host, relay->host);
}

static void all_arrived(void *object, void *data)
{
    struct qemu *target = object;
    if (!is_void(target, data)) {
        target->migration = RECEIVED;
        target->attempt++;
        say_migration(target, VDC_QMP_MIGRATION_COMPLETED);
    }
}

static void last_part_sent(void *object, void *data)
{
    struct qemu *qemu = object;
    if (is_void(qemu, data)) {
        return;
    }
    struct sim_world *world = qemu->process.world;
    struct sim_relay *relay = qemu->relay;
    if (relay == NULL || relay->ended || relay->peer == NULL || relay->peer->ended) {
        source_fails(qemu, VDC_QMP_MIGRATION_FAILED);
        return;
    }
    if (!stream_works(relay)) {
        if (sim_one_in(&world->chance, 2)) {
            source_fails(qemu, VDC_QMP_MIGRATION_FAILED);
            return;
        }
        /* The rest went into the sockets' buffers, and there it stays. */
        if (relay->peer->qemu != NULL) {
            later(relay->peer->qemu, STREAM_DEAD_NS, stream_broke);
        }
    } else {
        struct qemu *target = relay->peer->qemu;
        target->execution.image = qemu->execution.image;
        later(target, sim_net_delay(world, relay->host, relay->peer->host), all_arrived);
    }
    qemu->migration = SENT;
    qemu->attempt++;
    /* In order: the socket is closed, but all was read before. */
    relay->qemu = NULL;
    qemu->relay = NULL;
    say_migration(qemu, VDC_QMP_MIGRATION_COMPLETED);
}

static void memory_sent(void *object, void *data)
{
    struct qemu *qemu = object;
    if (is_void(qemu, data)) {
        return;
    }
    if (!stream_works(qemu->relay)) {
        if (qemu->relay == NULL || qemu->relay->ended || qemu->relay->peer == NULL ||
            qemu->relay->peer->ended) {
            source_fails(qemu, VDC_QMP_MIGRATION_FAILED);
        } else {
            later(qemu, 200 * VDC_MS, memory_sent); /* stalls; the leader's timeout ends it */
        }
        return;
    }
    qemu->sent = qemu->total;
    qemu->was_running = qemu->vcpus;
    qemu->migration = SWITCHOVER;
    set_vcpus(qemu, false);
    say_migration(qemu, VDC_QMP_MIGRATION_PRE_SWITCHOVER);
}

static void begin_sending(struct qemu *qemu, uint64_t id)
{
    struct sim_relay *relay = sim_place_relay(qemu->monitor->config.place);
    if (relay == NULL || relay->ended || relay->peer == NULL) {
        say_error(qemu, id, "no socket of that name");
        return;
    }
    relay->qemu = qemu;
    qemu->relay = relay;
    qemu->attempt++;
    qemu->migration = SENDING;
    qemu->was_running = qemu->vcpus;
    qemu->total = UINT64_C(256) << 20;
    qemu->sent = 0;
    say_return(qemu, id);
    say_migration(qemu, VDC_QMP_MIGRATION_ACTIVE);
    later(qemu, sim_chance(qemu->process.world, STREAM_MIN_NS, STREAM_MAX_NS), memory_sent);
}

static void begin_receiving(struct qemu *qemu, uint64_t id)
{
    struct sim_relay *relay = sim_place_relay(qemu->monitor->config.place);
    if (relay == NULL || relay->ended) {
        say_error(qemu, id, "no socket of that name");
        return;
    }
    relay->qemu = qemu;
    qemu->relay = relay;
    qemu->attempt++;
    qemu->migration = RECEIVING;
    say_return(qemu, id);
    say_migration(qemu, VDC_QMP_MIGRATION_ACTIVE);
}

/* ---- QMP ---- */

struct word {
    enum vdc_qmp_command command;
    uint64_t id;
};

static void powers_off(void *object, void *data)
{
    struct qemu *qemu = object;
    (void)data;
    struct vdc_qmp_message message = {
        .kind = VDC_QMP_EVENT, .event = VDC_QMP_EVENT_SHUTDOWN, .by_guest = true};
    if (!qemu->vcpus) {
        return; /* nobody there who could */
    }
    say(qemu, &message);
    set_vcpus(qemu, false);
    exit_later(qemu, VDC_MS, 0);
}

static void do_cont(struct qemu *qemu, uint64_t id)
{
    bool stuck = qemu->migration == SWITCHOVER || qemu->migration == LAST_PART ||
                 qemu->migration == RECEIVING;
    if (stuck) {
        say_error(qemu, id, "the migration is not finalized yet");
        return;
    }
    set_vcpus(qemu, true);
    say_return(qemu, id);
}

static void do_command(void *object, void *data)
{
    struct qemu *qemu = object;
    const struct word *word = data;
    struct sim_world *world = qemu->process.world;
    switch (word->command) {
    case VDC_QMP_CAPABILITIES:
    case VDC_QMP_MIGRATION_CAPABILITIES:
    case VDC_QMP_MIGRATION_PARAMETERS:
    case VDC_QMP_GETFD:
        say_return(qemu, word->id);
        break;
    case VDC_QMP_MIGRATE:
        begin_sending(qemu, word->id);
        break;
    case VDC_QMP_MIGRATE_INCOMING:
        begin_receiving(qemu, word->id);
        break;
    case VDC_QMP_MIGRATE_CONTINUE:
        if (qemu->migration != SWITCHOVER) {
            say_error(qemu, word->id, "migration is not in the expected state");
            break;
        }
        qemu->migration = LAST_PART;
        say_return(qemu, word->id);
        say_migration(qemu, VDC_QMP_MIGRATION_DEVICE);
        later(qemu, sim_chance(world, LAST_PART_MIN_NS, LAST_PART_MAX_NS), last_part_sent);
        break;
    case VDC_QMP_MIGRATE_CANCEL:
        say_return(qemu, word->id);
        if (qemu->migration == SENDING || qemu->migration == SWITCHOVER) {
            source_fails(qemu, VDC_QMP_MIGRATION_CANCELLED);
        }
        break;
    case VDC_QMP_QUERY_MIGRATE: {
        struct vdc_qmp_message message = {.kind = VDC_QMP_RETURN, .id = word->id};
        message.ram_total = qemu->total;
        message.ram_transferred = qemu->sent;
        message.ram_remaining = qemu->total - qemu->sent;
        message.downtime_ms = qemu->migration == SENT ? 40 : -1;
        message.total_ms = qemu->migration == SENT ? 900 : -1;
        say(qemu, &message);
        break;
    }
    case VDC_QMP_CONT:
        do_cont(qemu, word->id);
        break;
    case VDC_QMP_STOP:
        set_vcpus(qemu, false);
        qemu->was_running = false;
        say_return(qemu, word->id);
        break;
    case VDC_QMP_POWERDOWN:
        say_return(qemu, word->id);
        if (!sim_one_in(&world->chance, 8)) { /* some guests don't listen */
            sim_after(world, &qemu->process, sim_chance(world, 100 * VDC_MS, 3 * VDC_SECOND),
                      powers_off, qemu, NULL, NULL);
        }
        break;
    case VDC_QMP_QUIT:
        say_return(qemu, word->id);
        exit_later(qemu, 2 * VDC_MS, 0);
        break;
    }
}

static void tell(struct qemu *qemu, enum vdc_qmp_command command, uint64_t id)
{
    struct sim_world *world = qemu->process.world;
    struct word *word = VDC_NEW(struct word);
    *word = (struct word){command, id};
    int64_t at = world->now + sim_chance(world, WORD_MIN_NS, WORD_MAX_NS);
    at = VDC_MAX(at, qemu->heard_at);
    qemu->heard_at = at;
    sim_after(world, &qemu->process, at - world->now, do_command, qemu, word, free);
}

/* ---- the monitor ---- */

static void on_timer(void *object, void *data);

static void hear_connected(void *object, void *data)
{
    struct sim_monitor *monitor = object;
    (void)data;
    struct sim_relay *relay = sim_place_relay(monitor->config.place);
    struct vdc_guest_event event = {.kind = VDC_GUEST_EV_CONNECTED, .text = "no relay there"};
    event.ok = relay != NULL && !relay->ended;
    guest_step(monitor, &event, NULL);
}

static void act(struct sim_monitor *monitor, const struct vdc_guest_action *action)
{
    struct sim_world *world = monitor->world;
    struct qemu *qemu = &monitor->qemu;
    switch (action->kind) {
    case VDC_GUEST_ACT_QMP:
        tell(qemu, action->command, action->id);
        break;
    case VDC_GUEST_ACT_CONNECT:
        sim_after(world, &monitor->process, sim_chance(world, WORD_MIN_NS, WORD_MAX_NS),
                  hear_connected, monitor, NULL, NULL);
        break;
    case VDC_GUEST_ACT_CLOSE_MIGRATION:
        break; /* our copy of the socket: QEMU has its own */
    case VDC_GUEST_ACT_FREEZE:
        sim_process_stop(&qemu->process, true);
        note_execution(qemu);
        break;
    case VDC_GUEST_ACT_THAW:
        sim_process_stop(&qemu->process, false);
        note_execution(qemu);
        break;
    case VDC_GUEST_ACT_KILL:
        qemu_end(qemu, 0, 9);
        break;
    }
}

static void tell_state(struct sim_monitor *monitor)
{
    struct vdc_agent_monitor_state state;
    sim_monitor_state(monitor, &state);
    sim_place_state(monitor->config.place, &state);
}

static void arm(struct sim_monitor *monitor)
{
    int64_t poll = vdc_guest_waits_for_lease(monitor->guest) ? LEASE_POLL_NS : VIEW_POLL_NS;
    vdc_mono at = vdc_mono_add(sim_process_now(&monitor->process), poll);
    sim_process_arm(&monitor->process, vdc_mono_min(at, vdc_guest_deadline(monitor->guest)),
                    on_timer, monitor);
}

static void guest_step(struct sim_monitor *monitor, struct vdc_guest_event *event,
                       struct vdc_err *reply)
{
    struct vdc_guest_update update;
    VDC_ASSERT(monitor->guest != NULL);
    event->now = sim_process_now(&monitor->process);
    vdc_guest_step(monitor->guest, event, &update);
    sim_say_trace(monitor->world, monitor->process.name, vdc_guest_trace(monitor->guest));
    for (size_t i = 0; i < update.action_count; i++) {
        act(monitor, &update.actions[i]);
    }
    if (update.changed) {
        tell_state(monitor);
    }
    if (reply != NULL) {
        *reply = update.reply;
    }
    if (update.ended) {
        sim_process_end(&monitor->process);
        finish_gone(monitor, true);
        return;
    }
    if (monitor->process.alive) {
        arm(monitor);
    }
}

static void read_view(struct sim_monitor *monitor)
{
    const struct sim_view *view = monitor->config.view;
    if (monitor->view_known && memcmp(view, &monitor->seen, sizeof *view) == 0) {
        return;
    }
    monitor->seen = *view;
    monitor->view_known = true;
    struct vdc_guest_event event = {.kind = VDC_GUEST_EV_VIEW};
    event.view = (struct vdc_guest_view){view->run, view->generation, view->lease_ns};
    guest_step(monitor, &event, NULL);
}

static void on_timer(void *object, void *data)
{
    struct sim_monitor *monitor = object;
    (void)data;
    read_view(monitor);
    if (monitor->process.alive) {
        struct vdc_guest_event event = {.kind = VDC_GUEST_EV_TICK};
        guest_step(monitor, &event, NULL);
    }
}

struct asked {
    enum vdc_agent_monitor_request request;
    uint64_t ticket;
    uint64_t bandwidth;
    int64_t downtime_ns;
};

static void hear_request(void *object, void *data)
{
    struct sim_monitor *monitor = object;
    const struct asked *asked = data;
    struct vdc_monitor_request *request = VDC_NEW(struct vdc_monitor_request);
    struct vdc_err reply = {0};
    request->command = agent_monitor_command(asked->request);
    request->max_bandwidth = asked->bandwidth;
    request->downtime_ms = (uint32_t)(asked->downtime_ns / VDC_MS);
    vdc_str_set(request->unix_path, sizeof request->unix_path, "/relay.sock");
    read_view(monitor);
    if (monitor->process.alive && request->command != VDC_MONITOR_REFRESH) {
        struct vdc_guest_event event = {.kind = VDC_GUEST_EV_REQUEST, .request = request};
        guest_step(monitor, &event, &reply);
    }
    if (asked->ticket != 0) {
        sim_place_reply(monitor->config.place, asked->ticket, reply.rc, reply.text);
    }
    free(request);
}

void sim_monitor_ask(struct sim_monitor *monitor, enum vdc_agent_monitor_request request,
                     uint64_t ticket, uint64_t bandwidth, int64_t downtime_ns)
{
    struct asked *asked = VDC_NEW(struct asked);
    *asked = (struct asked){request, ticket, bandwidth, downtime_ns};
    /* One socket: requests stay in order. */
    sim_after(monitor->world, &monitor->process, WORD_MAX_NS, hear_request, monitor, asked, free);
}

void sim_monitor_state(const struct sim_monitor *monitor, struct vdc_agent_monitor_state *out)
{
    agent_monitor_translate(vdc_guest_state(monitor->guest), out);
}

/* ---- life ---- */

static void qemu_answers(void *object, void *data)
{
    struct qemu *qemu = object;
    (void)data;
    struct vdc_qmp_message greeting = {.kind = VDC_QMP_GREETING};
    say(qemu, &greeting);
}

struct sim_monitor *sim_monitor_start(struct sim_world *world,
                                      const struct sim_monitor_config *config)
{
    struct sim_monitor *monitor = VDC_NEW(struct sim_monitor);
    monitor->next = monitors;
    monitors = monitor;
    monitor->world = world;
    monitor->config = *config;
    sim_process_init(&monitor->process, world, config->clock, "%s/%.40s", config->where,
                     config->name);
    sim_process_begin(&monitor->process);
    const struct vdc_guest_config guest = {
        .name = monitor->config.name,
        .migrate_incoming = config->incoming || config->view->run == VDC_RUN_INCOMING,
        .lease = config->lease,
        .grace_ms = config->grace_ns > 0 ? (uint32_t)(config->grace_ns / VDC_MS) : 2000,
        .stop_timeout_s = 30,
        .accelerator = "tcg",
        .confined = true,
    };
    monitor->guest = vdc_guest_create(&guest, sim_process_now(&monitor->process));
    struct qemu *qemu = &monitor->qemu;
    qemu->monitor = monitor;
    sim_process_init(&qemu->process, world, config->clock, "%s/qemu", config->where);
    sim_process_begin(&qemu->process);
    qemu->execution.partition = config->partition;
    qemu->execution.where = config->where;
    sim_check_add(world, &qemu->execution);
    struct vdc_guest_event event = {.kind = VDC_GUEST_EV_STARTED, .pid = 1, .start_time = 1};
    guest_step(monitor, &event, NULL);
    read_view(monitor);
    sim_after(world, &qemu->process, sim_chance(world, START_MIN_NS, START_MAX_NS), qemu_answers,
              qemu, NULL, NULL);
    return monitor;
}

void sim_monitor_vanish(struct sim_monitor *monitor)
{
    if (monitor == NULL || monitor->guest == NULL) {
        return;
    }
    monitor->gone = true;
    if (monitor->qemu.process.alive) {
        sim_process_end(&monitor->qemu.process);
        note_execution(&monitor->qemu);
        sim_check_remove(monitor->world, &monitor->qemu.execution);
        if (monitor->qemu.relay != NULL) {
            relay_lost_qemu(monitor->qemu.relay);
        }
    }
    sim_process_end(&monitor->process);
    vdc_guest_destroy(monitor->guest);
    monitor->guest = NULL;
}

struct sim_process *sim_monitor_process(struct sim_monitor *monitor)
{
    return &monitor->process;
}

void sim_monitor_kill(struct sim_monitor *monitor)
{
    if (monitor->gone) {
        return;
    }
    sim_process_end(&monitor->process);
    qemu_end(&monitor->qemu, 0, 9);
    finish_gone(monitor, false);
}

void sim_monitor_crash_qemu(struct sim_monitor *monitor)
{
    qemu_end(&monitor->qemu, 0, 11);
}

void sim_monitor_guest_poweroff(struct sim_monitor *monitor)
{
    if (monitor->qemu.process.alive) {
        sim_after(monitor->world, &monitor->qemu.process, 0, powers_off, &monitor->qemu, NULL,
                  NULL);
    }
}

bool sim_monitor_is_gone(const struct sim_monitor *monitor)
{
    return monitor->gone;
}

bool sim_monitor_executes(const struct sim_monitor *monitor)
{
    return monitor->qemu.execution.executes;
}

/* ---- relays ---- */

static struct sim_relay *relay_new(struct sim_world *world, uint32_t host)
{
    struct sim_relay *relay = VDC_NEW(struct sim_relay);
    relay->world = world;
    relay->host = host;
    relay->next = relays;
    relays = relay;
    return relay;
}

struct sim_relay *sim_relay_listen(struct sim_world *world, uint32_t host)
{
    struct sim_relay *relay = relay_new(world, host);
    last_port = last_port == UINT16_MAX ? 1000 : (uint16_t)(last_port + 1);
    relay->port = last_port;
    return relay;
}

struct sim_relay *sim_relay_dial(struct sim_world *world, uint32_t host, uint32_t peer_host,
                                 uint16_t port)
{
    struct sim_relay *peer = relays;
    while (peer != NULL && (peer->host != peer_host || peer->port != port || peer->ended)) {
        peer = peer->next;
    }
    if (peer == NULL || peer->peer != NULL || sim_net_is_cut(world, host, peer_host) ||
        sim_net_is_cut(world, peer_host, host)) {
        return NULL;
    }
    struct sim_relay *relay = relay_new(world, host);
    relay->peer = peer;
    peer->peer = relay;
    return relay;
}

uint16_t sim_relay_port(const struct sim_relay *relay)
{
    return relay->port;
}

void sim_monitors_free(void)
{
    while (monitors != NULL) {
        struct sim_monitor *next = monitors->next;
        vdc_guest_destroy(monitors->guest);
        free(monitors);
        monitors = next;
    }
    while (relays != NULL) {
        struct sim_relay *next = relays->next;
        free(relays);
        relays = next;
    }
}
