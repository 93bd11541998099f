/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "node_support.h"

static void make_agent(struct bench *bench, struct vdc_allocdb *db)
{
    static const struct vdc_cpu_info cpus[] = {{.number = 0}, {.number = 1, .core = 1}};
    static const struct vdc_numa_info numa[] = {{.number = 0, .memory_bytes = 1024 * MIB}};
    static struct vdc_agent_config config;
    config = (struct vdc_agent_config){.cpus = cpus, .cpus_len = 2, .numa = numa, .numa_len = 1};
    vdc_str_set(config.hello.node, sizeof config.hello.node, "n1");
    vdc_str_set(config.hello.rack, sizeof config.hello.rack, "r1");
    bench->agent = vdc_agent_create(&config, db);
}

void bench_recovered(struct bench *bench)
{
    struct vdc_agent_event event = {.kind = VDC_AGENT_RECOVERED};
    bench_step(bench, &event);
    bench_durable(bench);
}

void bench_init(struct bench *bench)
{
    *bench = (struct bench){.now = {1000 * VDC_SECOND}};
    make_agent(bench, vdc_allocdb_create());
    bench_recovered(bench);
}

void bench_restart(struct bench *bench, uint64_t durable)
{
    struct vdc_allocdb *db = vdc_allocdb_create();
    for (uint64_t i = 0; i < durable; i++) {
        struct vdc_err err;
        cr_assert_eq(
            vdc_allocdb_apply_record(db, bench->records[i].data, bench->records[i].len, &err),
            VDC_RC_OK, "%s", err.text);
    }
    for (uint64_t i = durable; i < bench->journalled; i++) {
        vdc_buf_deinit(&bench->records[i]);
    }
    bench->journalled = durable;
    vdc_agent_destroy(bench->agent);
    make_agent(bench, db);
}

void bench_deinit(struct bench *bench)
{
    vdc_agent_destroy(bench->agent);
    for (uint64_t i = 0; i < bench->journalled; i++) {
        vdc_buf_deinit(&bench->records[i]);
    }
    free(bench->records);
    vdc_buf_deinit(&bench->log);
}

struct vdc_id id_of(uint64_t n)
{
    struct vdc_id id = {{0}};
    id.bytes[0] = 1;
    id.bytes[15] = (uint8_t)n;
    id.bytes[14] = (uint8_t)(n >> 8);
    return id;
}

struct vdc_agent_key key_of(uint64_t n, uint64_t generation)
{
    return (struct vdc_agent_key){id_of(n), generation};
}

static void log_key(struct bench *bench, const char *what, const struct vdc_agent_key *key)
{
    vdc_buf_printf(&bench->log, "%s p%u.%llu", what,
                   (unsigned)(key->id.bytes[15] + (key->id.bytes[14] << 8)),
                   (unsigned long long)key->generation);
}

static void log_msg(struct bench *bench, uint32_t session, const struct vdc_msg *msg)
{
    vdc_buf_printf(&bench->log, "send %u %s", session, vdc_msg_kind_name(msg->kind));
    switch (msg->kind) {
    case VDC_MSG_TX_RESULT:
        vdc_buf_printf(&bench->log, " r%u %s seq %llu rule %s: %s",
                       (unsigned)(msg->tx_result.request_id.bytes[15] +
                                  (msg->tx_result.request_id.bytes[14] << 8)),
                       vdc_rc_name(msg->tx_result.rc), (unsigned long long)msg->tx_result.sequence,
                       msg->tx_result.rule, msg->tx_result.text);
        break;
    case VDC_MSG_RECORDS:
        vdc_buf_printf(&bench->log, " %llu+%zu", (unsigned long long)msg->records.first_sequence,
                       msg->records.records_len);
        break;
    case VDC_MSG_SNAPSHOT:
        vdc_buf_printf(&bench->log, " %llu", (unsigned long long)msg->snapshot.sequence);
        break;
    case VDC_MSG_GUEST:
        vdc_buf_printf(&bench->log, " p%u.%llu %s (%s)", msg->guest.partition.bytes[15],
                       (unsigned long long)msg->guest.generation,
                       vdc_guest_state_name(msg->guest.state), msg->guest.reason);
        break;
    case VDC_MSG_ZONE_JOINED:
        vdc_buf_printf(&bench->log, " epoch %llu incarnation %llu",
                       (unsigned long long)msg->zone_joined.epoch,
                       (unsigned long long)msg->zone_joined.incarnation);
        break;
    case VDC_MSG_LEASE_ASK:
        bench->asked_ns = msg->lease_ask.asked_ns;
        bench->asks++;
        vdc_buf_printf(&bench->log, " seq %llu", (unsigned long long)msg->lease_ask.db_sequence);
        break;
    case VDC_MSG_COMMAND_RESULT:
        vdc_buf_printf(&bench->log, " %s port %u: %s", vdc_rc_name(msg->command_result.rc),
                       msg->command_result.port, msg->command_result.text);
        break;
    case VDC_MSG_BYE:
        vdc_buf_printf(&bench->log, " %s", msg->bye.reason);
        break;
    case VDC_MSG_HELLO:
        for (size_t i = 0; i < msg->hello.zones_len; i++) {
            vdc_buf_printf(&bench->log, " %s/%llu/%llu", msg->hello.zones[i].zone,
                           (unsigned long long)msg->hello.zones[i].epoch,
                           (unsigned long long)msg->hello.zones[i].incarnation);
        }
        break;
    default:
        break;
    }
}

static void log_action(struct bench *bench, const struct vdc_agent_action *action)
{
    switch (action->kind) {
    case VDC_AGENT_DO_JOURNAL:
        cr_assert_eq(action->journal.sequence, bench->journalled + 1);
        VDC_GROW(bench->records, bench->records_cap, bench->journalled + 1);
        bench->records[bench->journalled] = (struct vdc_buf){0};
        vdc_buf_append(&bench->records[bench->journalled], action->journal.data,
                       action->journal.len);
        bench->journalled++;
        vdc_buf_printf(&bench->log, "journal %llu", (unsigned long long)bench->journalled);
        break;
    case VDC_AGENT_DO_PUBLISH:
        log_key(bench, "publish", &action->key);
        break;
    case VDC_AGENT_DO_LEASE:
        log_key(bench, "lease", &action->key);
        if (action->lease_ns == VDC_VIEW_LEASE_NONE) {
            vdc_buf_puts(&bench->log, " none-needed");
        } else {
            vdc_buf_printf(
                &bench->log, " %lld",
                (long long)(action->lease_ns == 0 ? 0 : action->lease_ns - bench->now.ns));
        }
        break;
    case VDC_AGENT_DO_START:
        log_key(bench, "start", &action->key);
        vdc_buf_puts(&bench->log, action->start.incoming ? " incoming" : "");
        break;
    case VDC_AGENT_DO_KILL:
        log_key(bench, "kill", &action->key);
        break;
    case VDC_AGENT_DO_ASK:
        log_key(bench, "ask", &action->key);
        vdc_buf_printf(&bench->log, " %s", vdc_agent_monitor_request_name(action->ask.request));
        if (action->ask.ticket != 0) {
            bench->ticket = action->ask.ticket;
        }
        break;
    case VDC_AGENT_DO_HANDOVER:
        log_key(bench, action->handover ? "mark" : "unmark", &action->key);
        break;
    case VDC_AGENT_DO_RELAY:
        log_key(bench, "relay", &action->key);
        vdc_buf_printf(&bench->log, " %s %s", action->relay.listen ? "listen" : "connect",
                       action->relay.peer_node);
        break;
    case VDC_AGENT_DO_RELAY_STOP:
        log_key(bench, "relay-stop", &action->key);
        break;
    case VDC_AGENT_DO_FORGET:
        log_key(bench, "forget", &action->key);
        break;
    case VDC_AGENT_DO_REMOVE:
        log_key(bench, "remove", &action->key);
        break;
    case VDC_AGENT_DO_VOLUME_DELETE:
        vdc_buf_printf(&bench->log, "volume-delete p%u for %u",
                       action->console.command->partition.bytes[15], action->console.session);
        break;
    case VDC_AGENT_DO_CONSOLE:
        log_key(bench, "console", &action->key);
        vdc_buf_printf(&bench->log, " %s", action->console.known ? "known" : "unknown");
        break;
    case VDC_AGENT_DO_SEND:
        log_msg(bench, action->send.session, action->send.msg);
        break;
    }
    vdc_buf_puts(&bench->log, "\n");
}

void bench_step(struct bench *bench, struct vdc_agent_event *event)
{
    vdc_buf_clear(&bench->log);
    event->now = bench->now;
    event->journal = bench->journal;
    struct vdc_agent_update *update = vdc_agent_step(bench->agent, event);
    for (size_t i = 0; i < update->actions_len; i++) {
        log_action(bench, &update->actions[i]);
    }
    enum vdc_level level;
    char line[1024];
    while (vdc_trace_take(&update->trace, &level, line, sizeof line)) {
        vdc_buf_printf(&bench->log, "# %s\n", line);
    }
    struct vdc_err err;
    cr_assert_eq(vdc_allocdb_check(vdc_agent_allocdb(bench->agent), &err), VDC_RC_OK, "%s",
                 err.text);
}

void bench_durable(struct bench *bench)
{
    struct vdc_agent_event event = {.kind = VDC_AGENT_DURABLE, .sequence = bench->journalled};
    bench_step(bench, &event);
}

void bench_tick(struct bench *bench, int64_t later_ns)
{
    struct vdc_agent_event event = {.kind = VDC_AGENT_TICK};
    bench->now = vdc_mono_add(bench->now, later_ns);
    bench_step(bench, &event);
}

void bench_msg(struct bench *bench, uint32_t session, const struct vdc_msg *msg)
{
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_MSG};
    event.session.index = session;
    event.session.msg = msg;
    bench_step(bench, &event);
}

void bench_session_up(struct bench *bench, uint32_t session, const char *manager)
{
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_UP};
    event.session.index = session;
    event.session.manager = manager;
    bench_step(bench, &event);
}

void bench_session_down(struct bench *bench, uint32_t session)
{
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_DOWN};
    event.session.index = session;
    bench_step(bench, &event);
}

void bench_lead(struct bench *bench, uint32_t session, uint64_t epoch, uint64_t incarnation,
                bool fenced)
{
    struct vdc_msg msg = {.kind = VDC_MSG_ZONE_LEAD};
    vdc_str_set(msg.zone_lead.zone, sizeof msg.zone_lead.zone, "prod");
    msg.zone_lead.epoch = epoch;
    msg.zone_lead.lease_ns = LEASE_NS;
    msg.zone_lead.grace_ns = 2 * VDC_SECOND;
    msg.zone_lead.incarnation = incarnation;
    msg.zone_lead.fenced = fenced;
    msg.zone_lead.snapshot = true;
    bench_msg(bench, session, &msg);
}

void bench_grant(struct bench *bench, uint32_t session, uint64_t epoch, uint64_t incarnation)
{
    struct vdc_msg msg = {.kind = VDC_MSG_LEASE_GRANT};
    vdc_str_set(msg.lease_grant.zone, sizeof msg.lease_grant.zone, "prod");
    msg.lease_grant.epoch = epoch;
    msg.lease_grant.incarnation = incarnation;
    msg.lease_grant.asked_ns = bench->asked_ns;
    bench_msg(bench, session, &msg);
}

uint64_t bench_tx(struct bench *bench, uint32_t session, uint64_t epoch, uint64_t request,
                  const struct vdc_op *ops, uint32_t ops_len)
{
    if (request == 0) {
        request = 100 + ++bench->requests;
    }
    struct vdc_tx tx = {
        .request_id = id_of(request),
        .zone = "prod",
        .epoch = epoch,
        .role = VDC_ROLE_COMMAND,
        .kind = VDC_TX_APPLY,
        .ops = ops,
        .ops_len = ops_len,
    };
    struct vdc_buf bytes = {0};
    vdc_tx_encode(&tx, &bytes);
    struct vdc_msg msg = {.kind = VDC_MSG_TX};
    msg.tx.tx.data = bytes.data;
    msg.tx.tx.len = bytes.len;
    bench_msg(bench, session, &msg);
    vdc_buf_deinit(&bytes);
    return request;
}

void bench_join(struct bench *bench)
{
    bench_session_up(bench, 0, "m1");
    bench_lead(bench, 0, 1, 1, false);
    bench_durable(bench);
    struct vdc_op op = {
        .kind = VDC_OP_ZONE_SET,
        .zone_set = {.overcommit_milli = 4000, .cpu = {.milli = 1000}, .memory = {.milli = 1000}},
    };
    bench_tx(bench, 0, 1, 0, &op, 1);
    bench_durable(bench);
    has(bench, "OK seq");
    bench_grant(bench, 0, 1, 1);
}

uint64_t bench_create(struct bench *bench, uint64_t n, uint64_t generation, enum vdc_run run,
                      bool restartable)
{
    char config[128];
    int len = snprintf(config, sizeof config, "{\"image\":\"linux\",\"restartable\":%s}",
                       restartable ? "true" : "false");
    struct vdc_op ops[3] = {
        {
            .kind = VDC_OP_PARTITION_CREATE,
            .partition_create =
                {
                    .id = id_of(n),
                    .kind = VDC_PARTITION_GUEST,
                    .generation = generation,
                    .run = run,
                    .vcpus = 1,
                    .memory_bytes = 64 * MIB,
                    .config = (const uint8_t *)config,
                    .config_len = (uint32_t)len,
                },
        },
        {.kind = VDC_OP_CPU_ASSIGN, .cpu_assign = {.id = id_of(n), .shared_milli = 1000}},
        {
            .kind = VDC_OP_MEMORY_ASSIGN,
            .memory_assign = {.id = id_of(n), .bytes = 64 * MIB, .numa = VDC_NUMA_ANY},
        },
    };
    snprintf(ops[0].partition_create.name, VDC_NAME_CAP, "p%u", (unsigned)n);
    return bench_tx(bench, 0, 1, 0, ops, 3);
}

uint64_t bench_set_run(struct bench *bench, uint64_t n, uint64_t generation, enum vdc_run run)
{
    struct vdc_op op = {
        .kind = VDC_OP_PARTITION_SET_RUN,
        .partition_set_run = {id_of(n), generation, run},
    };
    return bench_tx(bench, 0, 1, 0, &op, 1);
}

uint64_t bench_destroy(struct bench *bench, uint64_t n, uint64_t generation)
{
    struct vdc_op op = {
        .kind = VDC_OP_PARTITION_DESTROY,
        .partition_destroy = {id_of(n), generation},
    };
    return bench_tx(bench, 0, 1, 0, &op, 1);
}

void bench_state(struct bench *bench, uint64_t n, uint64_t generation, enum vdc_phase phase)
{
    struct vdc_agent_monitor_state state = {.phase = phase, .downtime_ms = -1};
    struct vdc_agent_event event = {
        .kind = VDC_AGENT_MONITOR_STATE,
        .key = key_of(n, generation),
        .monitor.state = &state,
    };
    bench_step(bench, &event);
}

void bench_gone(struct bench *bench, uint64_t n, uint64_t generation, const char *why)
{
    struct vdc_agent_event event = {
        .kind = VDC_AGENT_MONITOR_GONE,
        .key = key_of(n, generation),
        .monitor.text = why,
    };
    bench_step(bench, &event);
}

void bench_marked(struct bench *bench, uint64_t n, uint64_t generation, enum vdc_rc rc)
{
    struct vdc_agent_event event = {
        .kind = VDC_AGENT_HANDOVER_MARKED,
        .key = key_of(n, generation),
        .monitor = {.rc = rc, .text = "no space left"},
    };
    bench_step(bench, &event);
}

void bench_reply(struct bench *bench, uint64_t n, uint64_t generation, enum vdc_rc rc)
{
    struct vdc_agent_event event = {
        .kind = VDC_AGENT_MONITOR_REPLY,
        .key = key_of(n, generation),
        .monitor = {.ticket = bench->ticket, .rc = rc, .text = "why not"},
    };
    bench_step(bench, &event);
}

void bench_command(struct bench *bench, uint64_t n, uint64_t generation, enum vdc_command_kind kind)
{
    struct vdc_msg msg = {.kind = VDC_MSG_COMMAND};
    msg.command.request_id = id_of(500 + ++bench->requests);
    vdc_str_set(msg.command.zone, sizeof msg.command.zone, "prod");
    msg.command.epoch = 1;
    msg.command.partition = id_of(n);
    msg.command.generation = generation;
    msg.command.kind = kind;
    vdc_str_set(msg.command.peer_node, sizeof msg.command.peer_node, "n2");
    vdc_str_set(msg.command.peer_address, sizeof msg.command.peer_address, "10.0.0.2");
    msg.command.peer_port = 4711;
    bench_msg(bench, 0, &msg);
}

void bench_run_guest(struct bench *bench, uint64_t n, uint64_t generation)
{
    bench_create(bench, n, generation, VDC_RUN_RUNNING, true);
    bench_durable(bench);
    bench_state(bench, n, generation, VDC_PHASE_RUNNING);
}
