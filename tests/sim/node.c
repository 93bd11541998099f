/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives the agent's core as node-agent/io does: driver.c (journal, sessions), places.c (views,
 * monitors, relays).
 */
#include "node.h"

#include <stdio.h>
#include <string.h>

#include <vdc/agent.h>
#include <vdc/base.h>

#include "check.h"
#include "manager.h"
#include "monitor.h"
#include "plan.h"

#define SYNC_MIN_NS (VDC_MS / 4)
#define SYNC_MAX_NS (8 * VDC_MS)
#define WORD_NS (VDC_MS / 5)
#define CONNECT_MAX_NS (50 * VDC_MS)
#define DIAL_MIN_NS (100 * VDC_MS)
#define DIAL_MAX_NS (1000 * VDC_MS)

struct sim_place {
    struct sim_place *next;
    struct sim_node *node;
    struct vdc_agent_key key;
    struct sim_view view;
    bool dir;
    bool handover;
    bool ended; /* final.json is there */
    struct vdc_agent_monitor_state last;
    struct sim_monitor *monitor;
    struct sim_relay *relay;
    uint64_t connected; /* the life of the agent that is; 0: none */
    int64_t told_at;    /* the agent's last word from here arrives then */
};

struct record {
    uint8_t *data;
    size_t len;
};

struct sim_node {
    struct sim_world *world;
    uint32_t number;
    char name[VDC_NAME_CAP];
    char rack[VDC_NAME_CAP];
    struct sim_clock clock;
    bool power;
    struct sim_process process;
    struct vdc_agent *agent;
    struct record *journal; /* by sequence - 1 */
    size_t journal_len, journal_cap, durable;
    bool syncing;
    bool disk_full;
    unsigned hung_monitors;
    uint32_t busy;              /* sessions whose queues are long, as bits */
    struct vdc_digest *digests; /* by sequence - 1 */
    size_t digests_len, digests_cap;
    struct sim_place *places;
    struct sim_place *dead_places; /* events may name them */
    uint64_t conns[SIM_MANAGERS_MAX];
};

static void step(struct sim_node *node, struct vdc_agent_event *event);

/* ---- places ---- */

static struct sim_place *find(struct sim_node *node, const struct vdc_agent_key *key)
{
    struct sim_place *place = node->places;
    while (place != NULL && memcmp(&place->key, key, sizeof *key) != 0) {
        place = place->next;
    }
    return place;
}

static struct sim_place *find_or_add(struct sim_node *node, const struct vdc_agent_key *key)
{
    struct sim_place *place = find(node, key);
    if (place == NULL) {
        place = VDC_NEW(struct sim_place);
        place->node = node;
        place->key = *key;
        place->dir = true;
        place->view.lease_ns = VDC_VIEW_LEASE_NEVER;
        place->next = node->places;
        node->places = place;
    }
    return place;
}

static void remove_place(struct sim_node *node, struct sim_place *place)
{
    struct sim_place **at = &node->places;
    while (*at != place) {
        at = &(*at)->next;
    }
    *at = place->next;
    sim_monitor_vanish(place->monitor);
    place->monitor = NULL;
    sim_relay_end(place->relay);
    place->relay = NULL;
    place->connected = 0;
    place->next = node->dead_places;
    node->dead_places = place;
}

struct word {
    enum vdc_agent_event_kind kind;
    struct vdc_agent_monitor_state state;
    bool has_state;
    uint64_t ticket;
    enum vdc_rc rc;
    uint16_t port;
    char text[256];
};

static void hear_word(void *object, void *data)
{
    struct sim_place *place = object;
    const struct word *word = data;
    struct vdc_agent_event event = {.kind = word->kind, .key = place->key};
    switch (word->kind) {
    case VDC_AGENT_MONITOR_STATE:
        event.monitor.state = &word->state;
        break;
    case VDC_AGENT_MONITOR_REPLY:
        event.monitor.ticket = word->ticket;
        event.monitor.rc = word->rc;
        event.monitor.text = word->text;
        break;
    case VDC_AGENT_MONITOR_GONE:
        event.monitor.state = word->has_state ? &word->state : NULL;
        event.monitor.text = "the monitor was killed";
        break;
    case VDC_AGENT_HANDOVER_MARKED:
        event.monitor.rc = word->rc;
        event.monitor.text = word->text;
        break;
    case VDC_AGENT_RELAY_READY:
    case VDC_AGENT_RELAY_ENDED:
        event.relay.port = word->port;
        event.relay.rc = word->rc;
        event.relay.text = word->text;
        break;
    case VDC_AGENT_FOUND:
    case VDC_AGENT_RECOVERED:
    case VDC_AGENT_DURABLE:
    case VDC_AGENT_DEVICES:
    case VDC_AGENT_SESSION_UP:
    case VDC_AGENT_SESSION_DOWN:
    case VDC_AGENT_SESSION_DRAINED:
    case VDC_AGENT_SESSION_MSG:
    case VDC_AGENT_TICK:
        VDC_ASSERT(false);
    }
    step(place->node, &event);
}

static void tell_agent(struct sim_place *place, const struct word *word, int64_t delay_ns)
{
    struct sim_node *node = place->node;
    struct sim_world *world = node->world;
    if (!node->process.alive) {
        return;
    }
    int64_t at = VDC_MAX(world->now + delay_ns, place->told_at);
    place->told_at = at;
    sim_after(world, &node->process, at - world->now, hear_word, place,
              vdc_memdup(word, sizeof *word), free);
}

static bool connected(const struct sim_place *place)
{
    return place->node->process.alive && place->connected == place->node->process.life;
}

void sim_place_state(struct sim_place *place, const struct vdc_agent_monitor_state *state)
{
    if (connected(place)) {
        struct word word = {.kind = VDC_AGENT_MONITOR_STATE, .state = *state};
        tell_agent(place, &word, WORD_NS);
    }
}

void sim_place_reply(struct sim_place *place, uint64_t ticket, enum vdc_rc rc, const char *text)
{
    if (connected(place)) {
        struct word word = {.kind = VDC_AGENT_MONITOR_REPLY, .ticket = ticket, .rc = rc};
        vdc_str_set(word.text, sizeof word.text, text);
        tell_agent(place, &word, WORD_NS);
    }
}

static void tell_gone(struct sim_place *place)
{
    struct word word = {.kind = VDC_AGENT_MONITOR_GONE, .has_state = place->ended};
    word.state = place->last;
    tell_agent(place, &word, WORD_NS);
    place->connected = 0;
}

void sim_place_gone(struct sim_place *place, const struct vdc_agent_monitor_state *last)
{
    place->ended = last != NULL;
    if (last != NULL) {
        place->last = *last;
    }
    tell_gone(place);
}

struct sim_relay *sim_place_relay(struct sim_place *place)
{
    return place->relay;
}

static void connect_monitor(void *object, void *data)
{
    struct sim_place *place = object;
    (void)data;
    if (place->monitor != NULL && !sim_monitor_is_gone(place->monitor)) {
        place->connected = place->node->process.life;
        struct word word = {.kind = VDC_AGENT_MONITOR_STATE};
        sim_monitor_state(place->monitor, &word.state);
        tell_agent(place, &word, WORD_NS);
    }
}

/* ---- the journal ---- */

static void begin_sync(struct sim_node *node);

struct sync {
    size_t until;
};

static void on_synced(void *object, void *data)
{
    struct sim_node *node = object;
    const struct sync *sync = data;
    node->syncing = false;
    node->durable = sync->until;
    struct vdc_agent_event event = {.kind = VDC_AGENT_DURABLE, .sequence = sync->until};
    step(node, &event);
    begin_sync(node);
}

static void begin_sync(struct sim_node *node)
{
    if (node->syncing || node->durable == node->journal_len) {
        return;
    }
    node->syncing = true;
    struct sync *sync = VDC_NEW(struct sync);
    sync->until = node->journal_len;
    sim_after(node->world, &node->process, sim_chance(node->world, SYNC_MIN_NS, SYNC_MAX_NS),
              on_synced, node, sync, free);
}

static void append(struct sim_node *node, uint64_t sequence, const void *data, size_t len)
{
    if (sequence != node->journal_len + 1) {
        sim_break(node->world, "%s journals %llu behind %zu", node->name,
                  (unsigned long long)sequence, node->journal_len);
        return;
    }
    VDC_GROW(node->journal, node->journal_cap, node->journal_len + 1);
    node->journal[node->journal_len++] = (struct record){vdc_memdup(data, len), len};
    struct vdc_record_head head;
    if (vdc_record_head_read(data, len, &head) != VDC_RC_OK || head.sequence != sequence) {
        sim_break(node->world, "%s journals what is no record %llu", node->name,
                  (unsigned long long)sequence);
        return;
    }
    VDC_GROW(node->digests, node->digests_cap, sequence);
    node->digests_len = sequence;
    node->digests[sequence - 1] = head.digest;
    begin_sync(node);
}

/* What was not synced may be there or not; in order. */
static void lose_unsynced(struct sim_node *node)
{
    size_t kept =
        (size_t)sim_chance(node->world, (int64_t)node->durable, (int64_t)node->journal_len);
    while (node->journal_len > kept) {
        free(node->journal[--node->journal_len].data);
    }
    node->durable = kept;
    node->syncing = false;
}

/* ---- sessions ---- */

static void dial(void *object, void *data);

static void dial_later(struct sim_node *node, uint32_t index)
{
    uint32_t *copy = vdc_memdup(&index, sizeof index);
    sim_after(node->world, &node->process, sim_chance(node->world, DIAL_MIN_NS, DIAL_MAX_NS), dial,
              node, copy, free);
}

static uint32_t index_of(const struct sim_node *node, uint64_t conn)
{
    uint32_t index = 0;
    while (index < SIM_MANAGERS_MAX && node->conns[index] != conn) {
        index++;
    }
    return index;
}

static void on_frame(void *object, uint64_t conn, const void *data, size_t len)
{
    struct sim_node *node = object;
    uint32_t index = index_of(node, conn);
    if (index == SIM_MANAGERS_MAX) {
        return;
    }
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    struct vdc_err err = {0};
    if (vdc_msg_decode(data, len, msg, &err) != VDC_RC_OK) {
        sim_break(node->world, "a manager sent what cannot be read: %s", vdc_err_text(&err));
    } else {
        struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_MSG};
        event.session.index = index;
        event.session.msg = msg;
        step(node, &event);
        vdc_msg_deinit(msg);
    }
    free(msg);
}

static void on_down(void *object, uint64_t conn)
{
    struct sim_node *node = object;
    uint32_t index = index_of(node, conn);
    if (index == SIM_MANAGERS_MAX) {
        return;
    }
    node->conns[index] = 0;
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_DOWN};
    event.session.index = index;
    step(node, &event);
    dial_later(node, index);
}

static const struct sim_end_calls end_calls = {.on_frame = on_frame, .on_down = on_down};

static void dial(void *object, void *data)
{
    struct sim_node *node = object;
    uint32_t index = *(const uint32_t *)data;
    struct sim_end own = {&node->process, node->number, &end_calls, node};
    struct sim_manager *manager = node->world->managers[index];
    uint64_t conn = sim_manager_dial(manager, &own);
    if (conn == 0) {
        dial_later(node, index);
        return;
    }
    node->conns[index] = conn;
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_UP};
    event.session.index = index;
    event.session.manager = sim_manager_name(manager);
    step(node, &event);
}

/* ---- actions ---- */

static void start_monitor(struct sim_node *node, const struct vdc_agent_action *action)
{
    struct sim_place *place = find_or_add(node, &action->key);
    sim_monitor_vanish(place->monitor);
    place->ended = false;
    struct sim_monitor_config config = {
        .partition = action->key.id,
        .where = node->name,
        .clock = &node->clock,
        .view = &place->view,
        .place = place,
        .incoming = action->start.incoming,
        .lease = action->start.lease,
        .grace_ns = action->start.grace_ns,
    };
    snprintf(config.name, sizeof config.name, "%.40s", action->start.partition->name);
    place->monitor = sim_monitor_start(node->world, &config);
    sim_after(node->world, &node->process, sim_chance(node->world, VDC_MS, CONNECT_MAX_NS),
              connect_monitor, place, NULL, NULL);
}

static void publish(struct sim_node *node, const struct vdc_agent_key *key)
{
    struct sim_place *place = find_or_add(node, key);
    const struct vdc_partition *partition =
        vdc_allocdb_find_partition(vdc_agent_allocdb(node->agent), &key->id);
    if (partition != NULL) {
        place->view.exists = true;
        place->view.run = partition->run;
        place->view.generation = partition->generation;
    }
}

static void start_relay(struct sim_node *node, const struct vdc_agent_action *action)
{
    struct sim_place *place = find_or_add(node, &action->key);
    struct sim_world *world = node->world;
    sim_relay_end(place->relay);
    if (action->relay.listen) {
        place->relay = sim_relay_listen(world, node->number);
        struct word word = {.kind = VDC_AGENT_RELAY_READY, .port = sim_relay_port(place->relay)};
        tell_agent(place, &word, sim_chance(world, 2 * VDC_MS, 20 * VDC_MS));
        return;
    }
    unsigned peer = 0;
    VDC_ASSERT(sscanf(action->relay.address, "10.0.0.%u", &peer) == 1 && peer > 0);
    place->relay = sim_relay_dial(world, node->number, peer - 1, action->relay.port);
    if (place->relay != NULL) {
        struct word word = {.kind = VDC_AGENT_RELAY_READY};
        tell_agent(place, &word, sim_chance(world, 2 * VDC_MS, 20 * VDC_MS));
    } else {
        struct word word = {.kind = VDC_AGENT_RELAY_ENDED, .rc = VDC_RC_UNAVAILABLE};
        vdc_str_set(word.text, sizeof word.text, "the peer's relay does not answer");
        tell_agent(place, &word, sim_chance(world, 2 * VDC_MS, 2 * VDC_SECOND));
    }
}

static void delete_volume(struct sim_node *node, const struct vdc_agent_action *action)
{
    const struct vdc_msg_command *command = action->console.command;
    sim_check_volume_deleted(node->world, &command->partition, node->name);
    struct vdc_msg msg = {.kind = VDC_MSG_COMMAND_RESULT};
    msg.command_result.request_id = command->request_id;
    struct vdc_buf frame = {0};
    vdc_msg_encode(&msg, &frame);
    if (node->conns[action->console.session] != 0) {
        sim_conn_send(node->world, node->conns[action->console.session], &node->process, frame.data,
                      frame.len);
    }
    vdc_buf_deinit(&frame);
}

static void mark_handover(struct sim_node *node, struct sim_place *place, bool set)
{
    if (place == NULL) {
        return;
    }
    struct word word = {.kind = VDC_AGENT_HANDOVER_MARKED};
    if (set && sim_one_in(&node->world->chance, 50)) {
        word.rc = VDC_RC_IO;
        vdc_str_set(word.text, sizeof word.text, "the mark cannot be written");
    } else {
        place->handover = set;
    }
    if (set) {
        tell_agent(place, &word, WORD_NS);
    }
}

static void act(struct sim_node *node, const struct vdc_agent_action *action)
{
    struct sim_place *place = find(node, &action->key);
    switch (action->kind) {
    case VDC_AGENT_DO_JOURNAL:
        append(node, action->journal.sequence, action->journal.data, action->journal.len);
        break;
    case VDC_AGENT_DO_PUBLISH:
        publish(node, &action->key);
        break;
    case VDC_AGENT_DO_LEASE:
        if (place != NULL) {
            place->view.lease_ns = action->lease_ns;
        }
        break;
    case VDC_AGENT_DO_START:
        start_monitor(node, action);
        break;
    case VDC_AGENT_DO_KILL:
        if (place != NULL && place->monitor != NULL && !sim_monitor_is_gone(place->monitor)) {
            sim_monitor_kill(place->monitor);
        } else if (place != NULL) {
            tell_gone(place);
        }
        break;
    case VDC_AGENT_DO_ASK:
        if (place != NULL && place->monitor != NULL && !sim_monitor_is_gone(place->monitor)) {
            sim_monitor_ask(place->monitor, action->ask.request, action->ask.ticket,
                            action->ask.bandwidth, action->ask.downtime_ns);
        }
        break;
    case VDC_AGENT_DO_HANDOVER:
        mark_handover(node, place, action->handover);
        break;
    case VDC_AGENT_DO_RELAY:
        start_relay(node, action);
        break;
    case VDC_AGENT_DO_RELAY_STOP:
        if (place != NULL) {
            sim_relay_end(place->relay);
            place->relay = NULL;
        }
        break;
    case VDC_AGENT_DO_FORGET:
        if (place != NULL) {
            sim_monitor_vanish(place->monitor);
            place->monitor = NULL;
            place->view.exists = false;
            place->view.generation = 0;
        }
        break;
    case VDC_AGENT_DO_REMOVE:
        if (place != NULL) {
            remove_place(node, place);
        }
        break;
    case VDC_AGENT_DO_VOLUME_DELETE:
        delete_volume(node, action);
        break;
    case VDC_AGENT_DO_CONSOLE:
        break; /* no client here reads consoles */
    case VDC_AGENT_DO_SEND: {
        struct vdc_buf frame = {0};
        vdc_msg_encode(action->send.msg, &frame);
        if (node->conns[action->send.session] != 0) {
            sim_conn_send(node->world, node->conns[action->send.session], &node->process,
                          frame.data, frame.len);
        }
        vdc_buf_deinit(&frame);
        break;
    }
    }
}

static void on_timer(void *object, void *data)
{
    (void)data;
    struct vdc_agent_event event = {.kind = VDC_AGENT_TICK};
    step(object, &event);
}

static void on_drained(void *object, void *data)
{
    struct sim_node *node = object;
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_DRAINED};
    event.session.index = *(const uint32_t *)data;
    node->busy &= ~(UINT32_C(1) << event.session.index);
    if (node->conns[event.session.index] != 0) {
        step(node, &event);
    }
}

/* Now and then a session's queue is long for a while. */
static void draw_busy(struct sim_node *node)
{
    struct sim_world *world = node->world;
    uint32_t index = (uint32_t)vdc_prng_below(&world->chance, 40 * world->managers_len);
    if (index < world->managers_len && node->conns[index] != 0 &&
        (node->busy & (UINT32_C(1) << index)) == 0) {
        node->busy |= UINT32_C(1) << index;
        sim_after(world, &node->process, sim_chance(world, VDC_MS, 300 * VDC_MS), on_drained, node,
                  vdc_memdup(&index, sizeof index), free);
    }
}

static void step(struct sim_node *node, struct vdc_agent_event *event)
{
    if (node->agent == NULL) {
        return;
    }
    event->now = sim_process_now(&node->process);
    event->journal = node->disk_full ? VDC_RC_NO_SPACE : VDC_RC_OK;
    draw_busy(node);
    event->sessions_busy = node->busy;
    struct vdc_agent_update *update = vdc_agent_step(node->agent, event);
    for (size_t i = 0; i < update->actions_len; i++) {
        act(node, &update->actions[i]);
    }
    sim_say_trace(node->world, node->process.name, &update->trace);
    sim_process_arm(&node->process, vdc_agent_deadline(node->agent), on_timer, node);
}

/* ---- the agent's life ---- */

static struct vdc_allocdb *recover(struct sim_node *node)
{
    struct vdc_allocdb *db = vdc_allocdb_create();
    for (size_t i = 0; i < node->journal_len; i++) {
        struct vdc_err err = {0};
        enum vdc_rc rc =
            vdc_allocdb_apply_record(db, node->journal[i].data, node->journal[i].len, &err);
        if (rc != VDC_RC_OK) {
            sim_break(node->world, "%s: record %zu cannot be replayed: %s", node->name, i + 1,
                      vdc_err_text(&err));
            break;
        }
    }
    return db;
}

void sim_node_start_agent(struct sim_node *node)
{
    if (!node->power || node->process.alive) {
        return;
    }
    struct sim_world *world = node->world;
    sim_process_begin(&node->process);
    sim_say(world, node->process.name, "starts with %zu records", node->journal_len);
    struct vdc_cpu_info cpus[16];
    uint32_t cpus_len = world->plan->cpus;
    for (uint32_t i = 0; i < cpus_len; i++) {
        cpus[i] = (struct vdc_cpu_info){.number = (uint16_t)i, .core = (uint16_t)i};
    }
    struct vdc_numa_info numa = {0, world->plan->memory_bytes};
    struct vdc_agent_config *config = VDC_NEW(struct vdc_agent_config);
    struct vdc_msg_hello *hello = &config->hello;
    vdc_str_set(hello->node, VDC_NAME_CAP, node->name);
    vdc_str_set(hello->rack, VDC_NAME_CAP, node->rack);
    snprintf(hello->address, sizeof hello->address, "10.0.0.%u", node->number + 1);
    vdc_str_set(hello->agent_version, VDC_NAME_CAP, "sim");
    vdc_str_set(hello->accelerator, VDC_NAME_CAP, "tcg");
    hello->protocol = VDC_MSG_PROTOCOL;
    hello->cpus = cpus_len;
    hello->numa_len = 1;
    hello->numa[0].cpus = cpus_len;
    hello->numa[0].memory_bytes = numa.memory_bytes;
    config->cpus = cpus;
    config->cpus_len = cpus_len;
    config->numa = &numa;
    config->numa_len = 1;
    node->agent = vdc_agent_create(config, recover(node));
    free(config);
    for (struct sim_place *place = node->places; place != NULL; place = place->next) {
        struct vdc_agent_event event = {.kind = VDC_AGENT_FOUND, .key = place->key};
        event.found.generation = place->view.exists ? place->view.generation : 0;
        event.found.lease_ns = place->view.exists ? place->view.lease_ns : 0;
        event.found.alive = place->monitor != NULL && !sim_monitor_is_gone(place->monitor);
        event.found.handover = place->handover;
        event.found.ended = place->ended;
        event.found.last = place->last;
        step(node, &event);
        if (event.found.alive) {
            sim_after(world, &node->process, sim_chance(world, VDC_MS, CONNECT_MAX_NS),
                      connect_monitor, place, NULL, NULL);
        }
    }
    struct vdc_agent_event event = {.kind = VDC_AGENT_RECOVERED};
    step(node, &event);
    for (uint32_t i = 0; i < world->managers_len; i++) {
        node->conns[i] = 0;
        dial_later(node, i);
    }
}

static void end_agent(struct sim_node *node, bool silent)
{
    sim_conn_drop_all(node->world, &node->process, silent);
    sim_process_end(&node->process);
    vdc_agent_destroy(node->agent);
    node->agent = NULL;
    node->busy = 0;
    lose_unsynced(node);
    memset(node->conns, 0, sizeof node->conns);
}

void sim_node_kill_agent(struct sim_node *node)
{
    if (node->process.alive) {
        sim_say(node->world, node->process.name, "is killed");
        end_agent(node, false);
    }
}

void sim_node_power(struct sim_node *node, bool on)
{
    if (on == node->power) {
        return;
    }
    node->power = on;
    if (on) {
        sim_say(node->world, node->name, "has power again");
        /* CLOCK_BOOTTIME begins anew. */
        node->clock.offset_ns = 0;
        node->clock.offset_ns = 10 * VDC_SECOND - sim_local(&node->clock, node->world->now);
        sim_node_start_agent(node);
        return;
    }
    sim_say(node->world, node->name, "loses power");
    if (node->process.alive) {
        end_agent(node, true);
    } else {
        lose_unsynced(node);
    }
    while (node->places != NULL) {
        remove_place(node, node->places);
    }
}

/* ---- the rest ---- */

struct sim_node *sim_node_create(struct sim_world *world, uint32_t number)
{
    struct sim_node *node = VDC_NEW(struct sim_node);
    node->world = world;
    node->number = number;
    snprintf(node->name, sizeof node->name, "n%u", number + 1);
    snprintf(node->rack, sizeof node->rack, "r%u", number % world->plan->racks + 1);
    node->clock =
        (struct sim_clock){sim_chance(world, 1, 1000) * VDC_SECOND,
                           sim_chance(world, -world->plan->drift_ppm, world->plan->drift_ppm)};
    node->power = true;
    sim_process_init(&node->process, world, &node->clock, "n%u/agent", number + 1);
    return node;
}

static void free_places(struct sim_place *place)
{
    while (place != NULL) {
        struct sim_place *next = place->next;
        free(place);
        place = next;
    }
}

void sim_node_destroy(struct sim_node *node)
{
    while (node->places != NULL) {
        remove_place(node, node->places);
    }
    free_places(node->dead_places);
    vdc_agent_destroy(node->agent);
    for (size_t i = 0; i < node->journal_len; i++) {
        free(node->journal[i].data);
    }
    free(node->journal);
    free(node->digests);
    free(node);
}

bool sim_node_has_power(const struct sim_node *node)
{
    return node->power;
}

struct sim_process *sim_node_agent(struct sim_node *node)
{
    return &node->process;
}

void sim_node_set_disk_full(struct sim_node *node, bool full)
{
    node->disk_full = full;
}

const char *sim_node_name(const struct sim_node *node)
{
    return node->name;
}

uint32_t sim_node_host(const struct sim_node *node)
{
    return node->number;
}

const struct vdc_allocdb *sim_node_db(const struct sim_node *node)
{
    return node->agent != NULL ? vdc_agent_allocdb(node->agent) : NULL;
}

bool sim_node_digest_at(const struct sim_node *node, uint64_t sequence, struct vdc_digest *out)
{
    if (sequence == 0 || sequence > node->digests_len) {
        return false;
    }
    *out = node->digests[sequence - 1];
    return true;
}

/* Longest time that a monitor is stopped. */
#define HANG_MAX_NS (8 * VDC_SECOND)

struct wake {
    struct sim_process *process;
    uint64_t life;
};

static void on_wake(void *object, void *data)
{
    struct sim_node *node = object;
    const struct wake *wake = data;
    node->hung_monitors--;
    if (wake->process->alive && wake->process->life == wake->life) {
        sim_process_stop(wake->process, false);
    }
}

bool sim_node_has_hung_monitor(const struct sim_node *node)
{
    return node->hung_monitors > 0;
}

/* A monitor that hangs and an agent that hangs or is dead leave nobody who ends a lease: architecture
 * 7.1 has I/O partitions for that, which are not there yet. So never both at once. */
static void hang(struct sim_node *node, struct sim_process *process)
{
    if (!node->process.alive || node->process.stopped) {
        return;
    }
    struct wake *wake = VDC_NEW(struct wake);
    *wake = (struct wake){process, process->life};
    sim_process_stop(process, true);
    node->hung_monitors++;
    sim_after(node->world, NULL, sim_chance(node->world, 100 * VDC_MS, HANG_MAX_NS), on_wake, node,
              wake, free);
}

void sim_node_hurt_guest(struct sim_node *node, struct vdc_prng *prng, int how)
{
    size_t count = 0;
    for (struct sim_place *place = node->places; place != NULL; place = place->next) {
        count += place->monitor != NULL && !sim_monitor_is_gone(place->monitor);
    }
    if (count == 0) {
        return;
    }
    size_t pick = (size_t)vdc_prng_below(prng, count);
    struct sim_place *place = node->places;
    for (;; place = place->next) {
        bool lives = place->monitor != NULL && !sim_monitor_is_gone(place->monitor);
        if (lives && pick-- == 0) {
            break;
        }
    }
    struct sim_process *process = sim_monitor_process(place->monitor);
    static const char *const what[] = {"its QEMU crashes", "is killed", "is stopped",
                                       "the guest powers itself off"};
    sim_say(node->world, process->name, "%s", what[how]);
    switch (how) {
    case 0:
        sim_monitor_crash_qemu(place->monitor);
        break;
    case 1:
        sim_monitor_kill(place->monitor);
        break;
    case 2:
        hang(node, process);
        break;
    default:
        sim_monitor_guest_poweroff(place->monitor);
        break;
    }
}
