/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The change stream from the agent's core through its sessions and a real link to a manager: a
 * database larger than the link's queue arrives whole, also at a manager that reads slowly.
 */
#include "runtime_support.h"

#include <criterion/criterion.h>
#include <string.h>

#include <vdc/agent.h>
#include <vdc/base.h>
#include <vdc/clock.h>
#include <vdc/link.h>
#include <vdc/msg.h>

#include "sessions.h"

/* With descriptions of the largest size: 20 MiB. */
#define PARTITIONS 2500
#define OPS_AT_ONCE 50

static const struct vdc_cpu_info cpus[] = {{.number = 0}, {.number = 1, .core = 1}};
static const struct vdc_numa_info numa[] = {{.number = 0, .memory_bytes = UINT64_C(1) << 30}};

struct world {
    struct test_loop t;
    struct vdc_agent *agent;
    struct sessions *sessions;
    uint64_t journalled;
    int downs;
    /* The manager. */
    struct vdc_tls_context *manager;
    struct vdc_link_listener *listener;
    struct vdc_link *link;
    struct vdc_buf snapshot;
    struct vdc_allocdb *replica;
    int snapshots;
    int pieces;
    int results;
    uv_timer_t rest;
    unsigned rest_every; /* pieces after which it reads nothing for a while; 0: never */
};

static void commit(struct vdc_allocdb *db, enum vdc_role role, const char *zone,
                   const struct vdc_op *ops, uint32_t len)
{
    struct vdc_tx tx = {
        .role = role,
        .epoch = role == VDC_ROLE_COMMAND ? 1 : 0,
        .kind = VDC_TX_APPLY,
        .ops = ops,
        .ops_len = len,
    };
    vdc_str_set(tx.zone, sizeof tx.zone, zone);
    struct vdc_tx_result result;
    struct vdc_buf record = {0};
    cr_assert_eq(vdc_allocdb_commit(db, &tx, &result, &record), VDC_RC_OK, "%s", result.text);
    vdc_buf_deinit(&record);
}

static struct vdc_allocdb *make_big_database(void)
{
    struct vdc_allocdb *db = vdc_allocdb_create();
    struct vdc_op inventory = {
        .kind = VDC_OP_INVENTORY_SET,
        .inventory_set = {.cpus = cpus, .cpus_len = 2, .numa = numa, .numa_len = 1},
    };
    commit(db, VDC_ROLE_SYSTEM, "", &inventory, 1);
    struct vdc_op join[2] = {
        {.kind = VDC_OP_ZONE_SET,
         .zone_set = {.overcommit_milli = 4000, .cpu = {.milli = 1000}, .memory = {.milli = 1000}}},
        {.kind = VDC_OP_INCARNATION_SET, .incarnation_set = {.incarnation = 1}},
    };
    commit(db, VDC_ROLE_COMMAND, "prod", join, 2);
    static uint8_t config[VDC_PARTITION_CONFIG_MAX];
    memset(config, ' ', sizeof config);
    memcpy(config, "{\"image\":\"linux\"", 16);
    config[sizeof config - 1] = '}';
    struct vdc_prng prng;
    vdc_prng_init(&prng, 1);
    for (int done = 0; done < PARTITIONS; done += OPS_AT_ONCE) {
        struct vdc_op ops[OPS_AT_ONCE];
        for (int i = 0; i < OPS_AT_ONCE; i++) {
            ops[i] = (struct vdc_op){
                .kind = VDC_OP_PARTITION_CREATE,
                .partition_create = {.id = vdc_id_make(&prng),
                                     .class_name = "gold",
                                     .kind = VDC_PARTITION_GUEST,
                                     .generation = 1,
                                     .run = VDC_RUN_STOPPED,
                                     .vcpus = 1,
                                     .memory_bytes = UINT64_C(128) << 20,
                                     .config = config,
                                     .config_len = sizeof config},
            };
            snprintf(ops[i].partition_create.name, VDC_NAME_CAP, "p%d", done + i);
        }
        commit(db, VDC_ROLE_COMMAND, "prod", ops, OPS_AT_ONCE);
    }
    return db;
}

/* --- the node: what node-agent/io/driver.c does, without guests and journal --- */

static void step(struct world *w, struct vdc_agent_event *event)
{
    event->now = vdc_clock_mono();
    event->sessions_busy = w->sessions != NULL ? agent_sessions_busy(w->sessions) : 0;
    uint64_t before = w->journalled;
    struct vdc_agent_update *update = vdc_agent_step(w->agent, event);
    for (size_t i = 0; i < update->actions_len; i++) {
        const struct vdc_agent_action *action = &update->actions[i];
        if (action->kind == VDC_AGENT_DO_SEND) {
            struct vdc_buf frame = {0};
            vdc_msg_encode(action->send.msg, &frame);
            agent_sessions_send(w->sessions, action->send.session, frame.data, frame.len);
            vdc_buf_deinit(&frame);
        } else if (action->kind == VDC_AGENT_DO_JOURNAL) {
            w->journalled = action->journal.sequence;
        }
    }
    vdc_trace_deinit(&update->trace);
    if (w->journalled > before) {
        struct vdc_agent_event durable = {.kind = VDC_AGENT_DURABLE, .sequence = w->journalled};
        step(w, &durable);
    }
}

static void node_on_up(void *data, uint32_t index, const char *manager)
{
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_UP};
    event.session.index = index;
    event.session.manager = manager;
    step(data, &event);
}

static void node_on_frame(void *data, uint32_t index, const uint8_t *frame, size_t len)
{
    static struct vdc_msg msg;
    struct vdc_err err;
    cr_assert_eq(vdc_msg_decode(frame, len, &msg, &err), VDC_RC_OK, "%s", err.text);
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_MSG};
    event.session.index = index;
    event.session.msg = &msg;
    step(data, &event);
    vdc_msg_deinit(&msg);
}

static void node_on_drained(void *data, uint32_t index)
{
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_DRAINED};
    event.session.index = index;
    step(data, &event);
}

static void node_on_down(void *data, uint32_t index)
{
    struct world *w = data;
    w->downs++;
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_DOWN};
    event.session.index = index;
    step(w, &event);
}

static const struct sessions_handlers node_handlers = {
    .on_up = node_on_up,
    .on_frame = node_on_frame,
    .on_drained = node_on_drained,
    .on_down = node_on_down,
};

/* --- the manager --- */

static void manager_send(struct world *w, const struct vdc_msg *msg)
{
    struct vdc_buf frame = {0};
    vdc_msg_encode(msg, &frame);
    cr_assert_eq(vdc_link_send(w->link, frame.data, frame.len), VDC_RC_OK);
    vdc_buf_deinit(&frame);
}

static void lead(struct world *w)
{
    static struct vdc_msg msg;
    msg = (struct vdc_msg){.kind = VDC_MSG_ZONE_LEAD};
    strcpy(msg.zone_lead.zone, "prod");
    msg.zone_lead.epoch = 2;
    msg.zone_lead.lease_ns = 4 * VDC_SECOND;
    msg.zone_lead.grace_ns = 2 * VDC_SECOND;
    msg.zone_lead.incarnation = 1;
    msg.zone_lead.snapshot = true;
    manager_send(w, &msg);
}

static void send_tx(struct world *w, uint64_t number)
{
    struct vdc_prng prng;
    vdc_prng_init(&prng, number);
    struct vdc_op op = {
        .kind = VDC_OP_ZONE_SET,
        .zone_set = {.overcommit_milli = 4000 + (uint32_t)number,
                     .cpu = {.milli = 1000},
                     .memory = {.milli = 1000}},
    };
    struct vdc_tx tx = {
        .request_id = vdc_id_make(&prng),
        .zone = "prod",
        .epoch = 2,
        .role = VDC_ROLE_COMMAND,
        .kind = VDC_TX_APPLY,
        .ops = &op,
        .ops_len = 1,
    };
    struct vdc_buf bytes = {0};
    vdc_tx_encode(&tx, &bytes);
    static struct vdc_msg msg;
    msg = (struct vdc_msg){.kind = VDC_MSG_TX, .tx = {.tx = {bytes.data, bytes.len}}};
    manager_send(w, &msg);
    vdc_buf_deinit(&bytes);
}

static void on_rested(uv_timer_t *timer)
{
    struct world *w = timer->data;
    vdc_link_resume(w->link);
}

static void take_piece(struct world *w, const struct vdc_msg_snapshot *piece)
{
    if (piece->offset == 0) {
        vdc_buf_clear(&w->snapshot);
    }
    w->pieces++;
    cr_assert_eq(piece->offset, w->snapshot.len, "the pieces come in order");
    vdc_buf_append(&w->snapshot, piece->piece.data, piece->piece.len);
    if (w->snapshot.len == piece->total) {
        struct vdc_err err;
        vdc_allocdb_destroy(w->replica);
        cr_assert_eq(vdc_allocdb_restore(w->snapshot.data, w->snapshot.len, &w->replica, &err),
                     VDC_RC_OK, "%s", err.text);
        w->snapshots++;
    }
    if (w->rest_every != 0 && (unsigned)w->pieces % w->rest_every == 0) {
        vdc_link_pause(w->link);
        uv_timer_start(&w->rest, on_rested, 20, 0);
    }
}

static void take_records(struct world *w, const struct vdc_msg_records *records)
{
    for (size_t i = 0; i < records->records_len && w->replica != NULL; i++) {
        if (records->first_sequence + i > vdc_allocdb_sequence(w->replica)) {
            struct vdc_err err;
            cr_assert_eq(vdc_allocdb_apply_record(w->replica, records->records[i].data,
                                                  records->records[i].len, &err),
                         VDC_RC_OK, "%s", err.text);
        }
    }
}

static void manager_on_frame(void *data, struct vdc_link *link, const uint8_t *frame, size_t len)
{
    (void)link;
    struct world *w = data;
    static struct vdc_msg msg;
    struct vdc_err err;
    cr_assert_eq(vdc_msg_decode(frame, len, &msg, &err), VDC_RC_OK, "%s", err.text);
    if (msg.kind == VDC_MSG_HELLO) {
        lead(w);
    } else if (msg.kind == VDC_MSG_ZONE_JOINED) {
        for (uint64_t i = 1; i <= 10; i++) { /* what they change comes behind the snapshot */
            send_tx(w, i);
        }
    } else if (msg.kind == VDC_MSG_SNAPSHOT) {
        take_piece(w, &msg.snapshot);
    } else if (msg.kind == VDC_MSG_RECORDS) {
        take_records(w, &msg.records);
    } else if (msg.kind == VDC_MSG_TX_RESULT) {
        cr_assert_eq(msg.tx_result.rc, VDC_RC_OK, "%s", msg.tx_result.text);
        cr_assert(w->replica != NULL, "an answer overtook the snapshot");
        cr_assert_geq(vdc_allocdb_sequence(w->replica), msg.tx_result.sequence,
                      "an answer overtook its record");
        w->results++;
    }
    vdc_msg_deinit(&msg);
}

static void manager_on_up(void *data, struct vdc_link *link)
{
    ((struct world *)data)->link = link;
}

static void manager_on_down(void *data, struct vdc_link *link, const struct vdc_err *why)
{
    (void)link;
    (void)why;
    ((struct world *)data)->link = NULL;
}

static const struct vdc_link_handlers manager_handlers = {
    .on_up = manager_on_up, .on_frame = manager_on_frame, .on_down = manager_on_down};

/* --- both --- */

static void open_world(struct world *w)
{
    test_loop_open(&w->t);
    uv_timer_init(&w->t.loop, &w->rest);
    w->rest.data = w;
    w->manager = test_context(&w->t, "m1", NULL);
    struct vdc_err err;
    cr_assert_eq(vdc_link_listen(w->manager, "127.0.0.1:0", VDC_PEER_BIT(VDC_PEER_NODE),
                                 &manager_handlers, NULL, w, &w->listener, &err),
                 VDC_RC_OK, "%s", err.text);
    static struct vdc_agent_config config;
    config = (struct vdc_agent_config){.cpus = cpus, .cpus_len = 2, .numa = numa, .numa_len = 1};
    strcpy(config.hello.node, "n1");
    strcpy(config.hello.rack, "r1");
    w->agent = vdc_agent_create(&config, make_big_database());
    struct vdc_agent_event recovered = {.kind = VDC_AGENT_RECOVERED};
    step(w, &recovered);
    static struct agent_config agent;
    agent = (struct agent_config){.managers_len = 1};
    strcpy(agent.name, "n1");
    strcpy(agent.managers[0], test_address(vdc_link_listener_port(w->listener)));
    strcpy(agent.tls_ca, VDC_TEST_PKI "/ca.pem");
    strcpy(agent.tls_cert, VDC_TEST_PKI "/n1.pem");
    strcpy(agent.tls_key, VDC_TEST_PKI "/n1.key");
    cr_assert_eq(agent_sessions_open(&w->t.loop, &agent, &node_handlers, w, &w->sessions, &err),
                 VDC_RC_OK, "%s", err.text);
}

static void close_world(struct world *w)
{
    agent_sessions_close(w->sessions);
    vdc_link_listener_close(w->listener);
    vdc_link_close(w->link);
    vdc_tls_context_unref(w->manager);
    uv_close((uv_handle_t *)&w->rest, NULL);
    test_loop_close(&w->t);
    vdc_agent_destroy(w->agent);
    vdc_allocdb_destroy(w->replica);
    vdc_buf_deinit(&w->snapshot);
}

static void expect_whole(unsigned rest_every)
{
    static struct world w;
    w = (struct world){.rest_every = rest_every};
    open_world(&w);
    cr_assert(test_run_until_count(&w.t, &w.results, 10), "%d pieces, %d snapshots", w.pieces,
              w.snapshots);
    cr_assert_gt(w.snapshot.len, VDC_TLS_QUEUE_MAX, "more than a link's queue holds");
    cr_assert_eq(w.snapshots, 1);
    cr_assert_eq(w.downs, 0);
    struct vdc_digest have = vdc_allocdb_digest(w.replica);
    struct vdc_digest wanted = vdc_allocdb_digest(vdc_agent_allocdb(w.agent));
    cr_assert_eq(memcmp(&have, &wanted, sizeof have), 0);
    close_world(&w);
}

Test(stream, carries_a_database_that_is_larger_than_the_links_queue)
{
    expect_whole(0);
}

Test(stream, waits_for_a_manager_that_reads_slowly)
{
    expect_whole(8);
}
