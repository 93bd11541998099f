/* SPDX-License-Identifier: Apache-2.0 */
#include "manager.h"

#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/policy_io.h>
#include <vdc/record.h>

#include "plan.h"

#define LEADER_TTL_NS (3 * VDC_SECOND)
#define KEEP_ALIVE_NS (1 * VDC_SECOND)
/* As in seat.c. */
#define LEADING_MARGIN_NS (100 * VDC_MS)
#define RETRY_NS (200 * VDC_MS)
#define SESSIONS_MAX (4 * SIM_NODES_MAX)
#define WAITERS_MAX 4096

enum seat { FOLLOWING, CAMPAIGNING, LOADING, LEADING };

struct session {
    uint64_t conn;
    char node[VDC_NAME_CAP];
    struct vdc_msg *hello; /* NULL: not yet */
};

struct queued {
    struct queued *next;
    uint64_t id;
    struct sim_put *puts;
    size_t puts_len;
};

struct waiter {
    uint64_t token;
    sim_answer_fn *on_answer;
    void *object;
};

struct sim_manager {
    struct sim_world *world;
    uint32_t host;
    struct sim_clock clock;
    struct sim_process process;
    struct sim_store_client store;
    enum seat seat;
    struct vdc_zone *zone;
    int64_t lease;       /* of the store; 0: none */
    int64_t asked_lease; /* a keep-alive is under way for it */
    bool asking;
    vdc_mono leading_until;
    int64_t epoch;
    int64_t epoch_lease; /* the lease that the leader key hangs on */
    int64_t spent_epoch;
    int64_t leader_revision;
    int64_t leader_lease;
    bool leader_known;
    struct queued *queue;
    struct queued **queue_tail;
    bool writing;
    struct session sessions[SESSIONS_MAX];
    size_t sessions_len;
    struct waiter waiters[WAITERS_MAX];
    size_t waiters_len;
};

static void campaign(struct sim_manager *manager);

/* ---- the core ---- */

static void queue_free(struct sim_manager *manager)
{
    while (manager->queue != NULL) {
        struct queued *next = manager->queue->next;
        for (size_t i = 0; i < manager->queue->puts_len; i++) {
            vdc_buf_deinit(&manager->queue->puts[i].value);
        }
        free(manager->queue->puts);
        free(manager->queue);
        manager->queue = next;
    }
    manager->queue_tail = &manager->queue;
}

static void resign(struct sim_manager *manager, const char *why)
{
    if (manager->seat == FOLLOWING) {
        return;
    }
    sim_say(manager->world, manager->process.name, "%s -> no longer the leader", why);
    manager->seat = FOLLOWING;
    vdc_zone_destroy(manager->zone);
    manager->zone = NULL;
    queue_free(manager);
    manager->writing = false;
    manager->waiters_len = 0;
    manager->spent_epoch = manager->epoch;
    manager->epoch = 0;
    sim_process_arm(&manager->process, VDC_NEVER, NULL, NULL);
}

static void queue_write(struct sim_manager *manager, const struct vdc_zone_write *write)
{
    struct queued *queued = VDC_NEW(struct queued);
    queued->id = write->id;
    queued->puts_len = write->puts_len;
    queued->puts = vdc_calloc(write->puts_len, sizeof *queued->puts);
    for (size_t i = 0; i < write->puts_len; i++) {
        vdc_str_set(queued->puts[i].key, sizeof queued->puts[i].key, write->puts[i].key);
        if (write->puts[i].value.data != NULL) {
            vdc_buf_append(&queued->puts[i].value, write->puts[i].value.data,
                           write->puts[i].value.len);
        }
    }
    *manager->queue_tail = queued;
    manager->queue_tail = &queued->next;
}

static void send_write(struct sim_manager *manager)
{
    if (manager->writing || manager->queue == NULL) {
        return;
    }
    struct queued *first = manager->queue;
    manager->queue = first->next;
    if (manager->queue == NULL) {
        manager->queue_tail = &manager->queue;
    }
    manager->writing = true;
    sim_store_write(manager->world->store, &manager->store, first->id, manager->epoch, first->puts,
                    first->puts_len);
    free(first);
}

struct returning {
    struct vdc_zone_answer answer;
    sim_answer_fn *on_answer;
    void *object;
};

static void answer_arrives(void *object, void *data)
{
    struct returning *returning = data;
    (void)object;
    returning->on_answer(returning->object, returning->answer.token, &returning->answer);
}

static void send_answer(struct sim_manager *manager, const struct vdc_zone_answer *answer)
{
    for (size_t i = 0; i < manager->waiters_len; i++) {
        if (manager->waiters[i].token == answer->token) {
            struct returning *returning = VDC_NEW(struct returning);
            returning->answer = *answer;
            returning->answer.data = (struct vdc_buf){0}; /* nobody reads consoles here */
            returning->on_answer = manager->waiters[i].on_answer;
            returning->object = manager->waiters[i].object;
            manager->waiters[i] = manager->waiters[--manager->waiters_len];
            sim_after(manager->world, NULL, sim_chance(manager->world, VDC_MS / 2, 3 * VDC_MS),
                      answer_arrives, NULL, returning, free);
            return;
        }
    }
}

static void on_timer(void *object, void *data);

static void step(struct sim_manager *manager, struct vdc_zone_event *event)
{
    struct sim_world *world = manager->world;
    event->now = sim_process_now(&manager->process);
    event->wall = (vdc_wall){INT64_C(1700000000) * VDC_SECOND + world->now};
    struct vdc_zone_update *update = vdc_zone_step(manager->zone, event);
    for (size_t i = 0; i < update->writes_len; i++) {
        queue_write(manager, &update->writes[i]);
    }
    for (size_t i = 0; i < update->sends_len; i++) {
        struct vdc_buf frame = {0};
        vdc_msg_encode(&update->sends[i].msg, &frame);
        sim_conn_send(world, update->sends[i].session, &manager->process, frame.data, frame.len);
        vdc_buf_deinit(&frame);
    }
    for (size_t i = 0; i < update->answers_len; i++) {
        send_answer(manager, &update->answers[i]);
    }
    sim_say_trace(world, manager->process.name, &update->trace);
    send_write(manager);
    sim_process_arm(&manager->process, vdc_zone_deadline(manager->zone), on_timer, manager);
}

static void on_timer(void *object, void *data)
{
    struct sim_manager *manager = object;
    (void)data;
    if (manager->seat == LEADING) {
        struct vdc_zone_event event = {.kind = VDC_ZONE_TICK};
        step(manager, &event);
    }
}

struct vdc_policy *sim_policy_parse(const char *text)
{
    struct vdc_policy *policy = NULL;
    struct vdc_diags diags = {.source = "sim"};
    enum vdc_rc rc = vdc_policy_parse(text, strlen(text), &policy, &diags);
    if (rc != VDC_RC_OK) {
        struct vdc_buf out = {0};
        vdc_diags_render(&diags, &out);
        fprintf(stderr, "vdc-sim: %s", vdc_buf_text(&out));
        vdc_buf_deinit(&out);
    }
    vdc_diags_deinit(&diags);
    VDC_ASSERT(rc == VDC_RC_OK);
    return policy;
}

/* ---- the seat ---- */

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void load(struct sim_manager *manager, const struct sim_kv *kv)
{
    struct vdc_err err = {0};
    const char *key = kv->key + strlen(VDC_STORE_PREFIX);
    const char *json = vdc_buf_text(&kv->value);
    size_t len = kv->value.len;
    enum vdc_rc rc = VDC_RC_OK;
    struct vdc_zone_event event = {0};
    if (starts_with(key, "zones/")) {
        struct vdc_zone_record zone;
        rc = vdc_zone_record_decode(json, len, &zone, &err);
        event.kind = VDC_ZONE_LOAD_ZONE;
        event.zone = &zone;
        step(manager, &event);
    } else if (starts_with(key, "policies/")) {
        struct vdc_policy_record policy;
        rc = vdc_policy_record_decode(json, len, &policy, &err);
        VDC_ASSERT(rc == VDC_RC_OK);
        event.kind = VDC_ZONE_LOAD_POLICY;
        event.policy.record = &policy;
        event.policy.built = sim_policy_parse(policy.text);
        step(manager, &event);
        vdc_policy_record_deinit(&policy);
    } else if (starts_with(key, "nodes/")) {
        struct vdc_node_record *node = VDC_NEW(struct vdc_node_record);
        rc = vdc_node_record_decode(json, len, node, &err);
        event.kind = VDC_ZONE_LOAD_NODE;
        event.node = node;
        step(manager, &event);
        free(node);
    } else if (starts_with(key, "partitions/")) {
        struct vdc_partition_record partition;
        rc = vdc_partition_record_decode(json, len, &partition, &err);
        VDC_ASSERT(rc == VDC_RC_OK);
        event.kind = VDC_ZONE_LOAD_PARTITION;
        event.partition = &partition;
        step(manager, &event);
        vdc_partition_record_deinit(&partition);
    } else if (starts_with(key, "operations/")) {
        struct vdc_operation_record operation;
        rc = vdc_operation_record_decode(json, len, &operation, &err);
        VDC_ASSERT(rc == VDC_RC_OK);
        event.kind = VDC_ZONE_LOAD_OPERATION;
        event.operation = &operation;
        step(manager, &event);
        vdc_operation_record_deinit(&operation);
    }
    VDC_ASSERT(rc == VDC_RC_OK);
}

static void tell_leading_until(struct sim_manager *manager)
{
    struct vdc_zone_event event = {.kind = VDC_ZONE_LEADING_UNTIL};
    event.until = manager->leading_until;
    step(manager, &event);
}

static void introduce(struct sim_manager *manager, const struct session *session)
{
    struct vdc_zone_event event = {.kind = VDC_ZONE_NODE_UP};
    event.session.session = session->conn;
    event.session.msg = session->hello;
    step(manager, &event);
}

static void on_loaded(void *object, enum vdc_rc rc, const struct sim_kv *kvs, size_t len)
{
    struct sim_manager *manager = object;
    if (manager->seat != LOADING) {
        return;
    }
    if (rc != VDC_RC_OK) {
        resign(manager, "its records could not be read");
        return;
    }
    /* Of the policies only the one in force: the last one. */
    const struct sim_kv *policy = NULL;
    for (size_t i = 0; i < len; i++) {
        if (starts_with(kvs[i].key, VDC_STORE_PREFIX "policies/")) {
            policy = &kvs[i];
        }
    }
    for (size_t i = 0; i < len; i++) {
        if (starts_with(kvs[i].key, VDC_STORE_PREFIX "zones/")) {
            load(manager, &kvs[i]);
        }
    }
    VDC_ASSERT(policy != NULL);
    load(manager, policy);
    for (size_t i = 0; i < len; i++) {
        if (!starts_with(kvs[i].key, VDC_STORE_PREFIX "policies/") &&
            !starts_with(kvs[i].key, VDC_STORE_PREFIX "zones/")) {
            load(manager, &kvs[i]);
        }
    }
    manager->seat = LEADING;
    struct vdc_zone_event event = {.kind = VDC_ZONE_LOADED};
    step(manager, &event);
    if (manager->epoch_lease == manager->lease) {
        tell_leading_until(manager);
    }
    sim_say(manager->world, manager->process.name, "leads with epoch %lld",
            (long long)manager->epoch);
    for (size_t i = 0; i < manager->sessions_len && manager->zone != NULL; i++) {
        if (manager->sessions[i].hello != NULL) {
            introduce(manager, &manager->sessions[i]);
        }
    }
}

static void begin_leading(struct sim_manager *manager, int64_t epoch, int64_t lease)
{
    manager->seat = LOADING;
    manager->epoch = epoch;
    manager->epoch_lease = lease;
    manager->writing = false;
    struct vdc_zone_config config = {
        .zone = SIM_ZONE,
        .manager = manager->process.name,
        .epoch = (uint64_t)epoch,
        .seed = vdc_prng_next(&manager->world->chance),
        .now = sim_process_now(&manager->process),
    };
    manager->zone = vdc_zone_create(&config);
    sim_store_load(manager->world->store, &manager->store);
}

static void adopt_own_key(struct sim_manager *manager)
{
    if (manager->seat == FOLLOWING && manager->leader_revision != 0 && manager->lease != 0 &&
        manager->leader_lease == manager->lease &&
        manager->leader_revision != manager->spent_epoch) {
        begin_leading(manager, manager->leader_revision, manager->leader_lease);
    }
}

static void campaign(struct sim_manager *manager)
{
    if (manager->seat == FOLLOWING && manager->leader_known && manager->leader_revision == 0 &&
        manager->lease != 0) {
        manager->seat = CAMPAIGNING;
        manager->epoch = 0;
        sim_store_campaign(manager->world->store, &manager->store, 0, manager->lease,
                           manager->process.name);
    }
}

static void on_campaign(void *object, enum vdc_rc rc, int64_t revision)
{
    struct sim_manager *manager = object;
    if (manager->seat == CAMPAIGNING) {
        manager->seat = FOLLOWING;
        if (rc == VDC_RC_OK) {
            begin_leading(manager, revision, manager->lease);
        } else {
            adopt_own_key(manager);
        }
    } else if ((manager->seat == LEADING || manager->seat == LOADING) && rc == VDC_RC_OK) {
        /* Taken again under the new lease. */
        manager->epoch_lease = manager->lease;
        if (manager->seat == LEADING) {
            tell_leading_until(manager);
        }
    } else if (manager->seat == LEADING && rc == VDC_RC_CONFLICT) {
        resign(manager, "the leader key is another's or gone");
        campaign(manager);
    }
}

static void on_written(void *object, uint64_t id, enum vdc_rc rc)
{
    struct sim_manager *manager = object;
    if (manager->seat != LEADING || !manager->writing) {
        return;
    }
    manager->writing = false;
    if (rc != VDC_RC_OK) {
        resign(manager, rc == VDC_RC_STALE ? "a write found another leader"
                                           : "a write's outcome is not known");
        campaign(manager);
        return;
    }
    struct vdc_zone_event event = {.kind = VDC_ZONE_WRITTEN};
    event.written.write = id;
    event.written.rc = VDC_RC_OK;
    step(manager, &event);
}

static void keep_alive(void *object, void *data)
{
    struct sim_manager *manager = object;
    (void)data;
    if (!manager->asking) {
        manager->asking = true;
        sim_store_keep_alive(manager->world->store, &manager->store, manager->lease, LEADER_TTL_NS);
    }
}

static void on_renewed(void *object, int64_t lease, vdc_mono sent)
{
    struct sim_manager *manager = object;
    bool is_new = lease != manager->lease;
    manager->asking = false;
    manager->lease = lease;
    manager->leading_until = vdc_mono_add(sent, LEADER_TTL_NS - LEADING_MARGIN_NS);
    if (is_new && (manager->seat == LEADING || manager->seat == LOADING)) {
        sim_store_campaign(manager->world->store, &manager->store, manager->epoch, lease,
                           manager->process.name);
    } else if (is_new) {
        campaign(manager);
    } else if (manager->seat == LEADING && manager->epoch_lease == lease) {
        tell_leading_until(manager);
    }
    sim_after(manager->world, &manager->process, KEEP_ALIVE_NS, keep_alive, manager, NULL, NULL);
}

static void on_lease_lost(void *object)
{
    struct sim_manager *manager = object;
    sim_say(manager->world, manager->process.name, "store lease lost -> a new one is asked for");
    manager->asking = false;
    manager->lease = 0;
    sim_after(manager->world, &manager->process, RETRY_NS, keep_alive, manager, NULL, NULL);
}

static void on_leader(void *object, int64_t create_revision, int64_t mod, int64_t lease)
{
    struct sim_manager *manager = object;
    manager->leader_known = true;
    manager->leader_revision = create_revision;
    manager->leader_lease = lease;
    if (create_revision == 0) {
        if ((manager->seat == LEADING || manager->seat == LOADING) && mod > manager->epoch) {
            resign(manager, "the leader key is gone");
        }
        campaign(manager);
        return;
    }
    if ((manager->seat == LEADING || manager->seat == LOADING) &&
        manager->epoch < create_revision) {
        resign(manager, "another manager leads");
    }
    adopt_own_key(manager);
}

static void on_retry(void *object, void *data)
{
    struct sim_manager *manager = object;
    (void)data;
    campaign(manager);
    adopt_own_key(manager);
    if ((manager->seat == LEADING || manager->seat == LOADING) && manager->lease != 0 &&
        manager->epoch_lease != manager->lease) {
        sim_store_campaign(manager->world->store, &manager->store, manager->epoch, manager->lease,
                           manager->process.name);
    }
    if (manager->seat == FOLLOWING && manager->spent_epoch != 0 &&
        manager->leader_revision == manager->spent_epoch) {
        sim_store_abdicate(manager->world->store, &manager->store, manager->spent_epoch);
    }
    sim_after(manager->world, &manager->process, 1 * VDC_SECOND, on_retry, manager, NULL, NULL);
}

static const struct sim_store_calls store_calls = {
    .on_written = on_written,
    .on_campaign = on_campaign,
    .on_loaded = on_loaded,
    .on_renewed = on_renewed,
    .on_lease_lost = on_lease_lost,
    .on_leader = on_leader,
};

/* ---- sessions ---- */

static struct session *find_session(struct sim_manager *manager, uint64_t conn)
{
    for (size_t i = 0; i < manager->sessions_len; i++) {
        if (manager->sessions[i].conn == conn) {
            return &manager->sessions[i];
        }
    }
    return NULL;
}

static void drop_session(struct sim_manager *manager, uint64_t conn)
{
    struct session *session = find_session(manager, conn);
    if (session == NULL) {
        return;
    }
    bool known = session->hello != NULL;
    if (known) {
        vdc_msg_deinit(session->hello);
        free(session->hello);
    }
    *session = manager->sessions[--manager->sessions_len];
    if (known && manager->seat == LEADING) {
        struct vdc_zone_event event = {.kind = VDC_ZONE_NODE_DOWN};
        event.session.session = conn;
        step(manager, &event);
    }
}

static void on_down(void *object, uint64_t conn)
{
    drop_session(object, conn);
}

static void take_hello(struct sim_manager *manager, uint64_t conn, struct vdc_msg *msg)
{
    struct session *session = find_session(manager, conn);
    bool newer = session->hello != NULL;
    if (newer) {
        vdc_msg_deinit(session->hello);
        free(session->hello);
        session->hello = msg;
        if (manager->seat == LEADING) {
            struct vdc_zone_event event = {.kind = VDC_ZONE_NODE_MSG};
            event.session.session = conn;
            event.session.msg = msg;
            step(manager, &event);
        }
        return;
    }
    for (size_t i = 0; i < manager->sessions_len; i++) {
        if (manager->sessions[i].conn != conn && manager->sessions[i].hello != NULL &&
            strcmp(manager->sessions[i].node, msg->hello.node) == 0) {
            uint64_t other = manager->sessions[i].conn;
            sim_conn_close(manager->world, other, &manager->process);
            drop_session(manager, other);
            break;
        }
    }
    session = find_session(manager, conn);
    session->hello = msg;
    vdc_str_set(session->node, sizeof session->node, msg->hello.node);
    struct vdc_msg welcome = {.kind = VDC_MSG_WELCOME};
    vdc_str_set(welcome.welcome.manager, VDC_NAME_CAP, manager->process.name);
    welcome.welcome.protocol = VDC_MSG_PROTOCOL;
    struct vdc_buf frame = {0};
    vdc_msg_encode(&welcome, &frame);
    sim_conn_send(manager->world, conn, &manager->process, frame.data, frame.len);
    vdc_buf_deinit(&frame);
    if (manager->seat == LEADING) {
        introduce(manager, session);
    }
}

static void on_frame(void *object, uint64_t conn, const void *data, size_t len)
{
    struct sim_manager *manager = object;
    if (find_session(manager, conn) == NULL) {
        return;
    }
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    struct vdc_err err = {0};
    if (vdc_msg_decode(data, len, msg, &err) != VDC_RC_OK) {
        sim_break(manager->world, "a node sent what cannot be read: %s", vdc_err_text(&err));
        free(msg);
        return;
    }
    if (msg->kind == VDC_MSG_HELLO) {
        take_hello(manager, conn, msg);
        return;
    }
    if (manager->seat == LEADING && msg->kind != VDC_MSG_BYE) {
        struct vdc_zone_event event = {.kind = VDC_ZONE_NODE_MSG};
        event.session.session = conn;
        event.session.msg = msg;
        step(manager, &event);
    }
    vdc_msg_deinit(msg);
    free(msg);
}

static const struct sim_end_calls end_calls = {.on_frame = on_frame, .on_down = on_down};

uint64_t sim_manager_dial(struct sim_manager *manager, const struct sim_end *node)
{
    struct sim_world *world = manager->world;
    if (!manager->process.alive || manager->process.stopped ||
        manager->sessions_len == SESSIONS_MAX || sim_net_is_cut(world, node->host, manager->host) ||
        sim_net_is_cut(world, manager->host, node->host)) {
        return 0;
    }
    struct sim_end own = {&manager->process, manager->host, &end_calls, manager};
    uint64_t conn = sim_conn_open(world, node, &own);
    manager->sessions[manager->sessions_len++] = (struct session){.conn = conn};
    return conn;
}

/* ---- clients ---- */

bool sim_manager_request(struct sim_manager *manager, struct vdc_zone_request *request,
                         sim_answer_fn *on_answer, void *object)
{
    if (!manager->process.alive || manager->process.stopped || manager->seat != LEADING ||
        manager->waiters_len == WAITERS_MAX) {
        return false;
    }
    manager->waiters[manager->waiters_len++] = (struct waiter){request->token, on_answer, object};
    struct vdc_zone_event event = {.kind = VDC_ZONE_REQUEST};
    event.request = request;
    step(manager, &event);
    return true;
}

/* ---- life ---- */

struct sim_manager *sim_manager_create(struct sim_world *world, uint32_t number)
{
    struct sim_manager *manager = VDC_NEW(struct sim_manager);
    manager->world = world;
    manager->host = SIM_NODES_MAX + number;
    manager->clock =
        (struct sim_clock){sim_chance(world, 1, 1000) * VDC_SECOND,
                           sim_chance(world, -world->plan->drift_ppm, world->plan->drift_ppm)};
    sim_process_init(&manager->process, world, &manager->clock, "m%u", number + 1);
    manager->store = (struct sim_store_client){
        .process = &manager->process,
        .host = manager->host,
        .calls = &store_calls,
        .object = manager,
    };
    manager->queue_tail = &manager->queue;
    return manager;
}

void sim_manager_start(struct sim_manager *manager)
{
    sim_process_begin(&manager->process);
    sim_say(manager->world, manager->process.name, "starts");
    manager->lease = 0;
    manager->asking = false;
    manager->leader_known = false;
    manager->leader_revision = 0;
    manager->spent_epoch = 0;
    sim_store_watch(manager->world->store, &manager->store);
    keep_alive(manager, NULL);
    on_retry(manager, NULL);
}

void sim_manager_kill(struct sim_manager *manager)
{
    sim_say(manager->world, manager->process.name, "is killed");
    sim_conn_drop_all(manager->world, &manager->process, false);
    sim_process_end(&manager->process);
    sim_store_unwatch(manager->world->store, &manager->store);
    vdc_zone_destroy(manager->zone);
    manager->zone = NULL;
    manager->seat = FOLLOWING;
    queue_free(manager);
    manager->writing = false;
    manager->waiters_len = 0;
    for (size_t i = 0; i < manager->sessions_len; i++) {
        if (manager->sessions[i].hello != NULL) {
            vdc_msg_deinit(manager->sessions[i].hello);
            free(manager->sessions[i].hello);
        }
    }
    manager->sessions_len = 0;
}

void sim_manager_destroy(struct sim_manager *manager)
{
    if (manager->process.alive) {
        sim_process_end(&manager->process);
    }
    vdc_zone_destroy(manager->zone);
    queue_free(manager);
    for (size_t i = 0; i < manager->sessions_len; i++) {
        if (manager->sessions[i].hello != NULL) {
            vdc_msg_deinit(manager->sessions[i].hello);
            free(manager->sessions[i].hello);
        }
    }
    free(manager);
}

struct sim_process *sim_manager_process(struct sim_manager *manager)
{
    return &manager->process;
}

uint32_t sim_manager_host(const struct sim_manager *manager)
{
    return manager->host;
}

const struct vdc_zone *sim_manager_zone(const struct sim_manager *manager)
{
    return manager->seat == LEADING ? manager->zone : NULL;
}

const char *sim_manager_name(const struct sim_manager *manager)
{
    return manager->process.name;
}
