/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_manager.h"

#include <stdio.h>
#include <string.h>

static struct manager *the_manager;

static void send_msg(struct node *node, const struct vdc_msg *msg)
{
    struct vdc_buf frame = {0};
    if (node->link != NULL) {
        vdc_msg_encode(msg, &frame);
        enum vdc_rc rc = vdc_link_send(node->link, frame.data, frame.len);
        VDC_ASSERT(rc == VDC_RC_OK || rc == VDC_RC_END);
    }
    vdc_buf_deinit(&frame);
}

static void send_lead(struct node *node)
{
    struct vdc_msg msg = {.kind = VDC_MSG_ZONE_LEAD};
    vdc_str_set(msg.zone_lead.zone, sizeof msg.zone_lead.zone, "prod");
    msg.zone_lead.epoch = the_manager->epoch;
    msg.zone_lead.lease_ns = LEASE_NS;
    msg.zone_lead.grace_ns = 2 * VDC_SECOND;
    msg.zone_lead.incarnation = node->incarnation;
    msg.zone_lead.fenced = node->fenced;
    msg.zone_lead.follow_from = node->replica != NULL ? vdc_allocdb_sequence(node->replica) : 0;
    msg.zone_lead.snapshot = node->replica == NULL;
    send_msg(node, &msg);
}

static void take_snapshot(struct node *node, const struct vdc_msg_snapshot *piece)
{
    if (piece->offset == 0) {
        vdc_buf_clear(&node->snapshot);
    }
    vdc_buf_append(&node->snapshot, piece->piece.data, piece->piece.len);
    if (node->snapshot.len < piece->total) {
        return;
    }
    struct vdc_err err;
    vdc_allocdb_destroy(node->replica);
    if (vdc_allocdb_restore(node->snapshot.data, node->snapshot.len, &node->replica, &err) !=
        VDC_RC_OK) {
        fprintf(stderr, "%s: snapshot: %s\n", node->name, err.text);
        abort();
    }
}

static void take_records(struct node *node, const struct vdc_msg_records *records)
{
    for (size_t i = 0; i < records->records_len; i++) {
        struct vdc_err err;
        if (node->replica == NULL) {
            node->replica = vdc_allocdb_create();
        }
        if (vdc_allocdb_apply_record(node->replica, records->records[i].data,
                                     records->records[i].len, &err) == VDC_RC_CORRUPT) {
            fprintf(stderr, "%s: record: %s\n", node->name, err.text);
            abort();
        }
    }
}

static void take_ask(struct node *node, const struct vdc_msg_lease_ask *ask)
{
    struct vdc_digest digest =
        node->replica != NULL ? vdc_allocdb_digest(node->replica) : (struct vdc_digest){0};
    uint8_t bytes[VDC_MSG_DIGEST_LEN];
    for (unsigned i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(digest.lo >> (8 * i));
        bytes[8 + i] = (uint8_t)(digest.hi >> (8 * i));
    }
    node->replica_equal = node->replica != NULL &&
                          vdc_allocdb_sequence(node->replica) == ask->db_sequence &&
                          memcmp(bytes, ask->db_digest, sizeof bytes) == 0;
    node->compared++;
    if (!node->replica_equal) {
        fprintf(stderr, "%s: the replica at %llu differs from the node at %llu\n", node->name,
                node->replica ? (unsigned long long)vdc_allocdb_sequence(node->replica) : 0,
                (unsigned long long)ask->db_sequence);
    }
    if (!node->grant || ask->incarnation != node->incarnation) {
        return;
    }
    struct vdc_msg msg = {.kind = VDC_MSG_LEASE_GRANT};
    vdc_str_set(msg.lease_grant.zone, sizeof msg.lease_grant.zone, "prod");
    msg.lease_grant.epoch = the_manager->epoch;
    msg.lease_grant.incarnation = ask->incarnation;
    msg.lease_grant.asked_ns = ask->asked_ns;
    node->grants++;
    send_msg(node, &msg);
}

static void take_guest(struct node *node, const struct vdc_msg_guest *guest)
{
    size_t i = 0;
    while (i < node->guests_len && (!vdc_id_equal(&node->guests[i].partition, &guest->partition) ||
                                    node->guests[i].generation != guest->generation)) {
        i++;
    }
    VDC_ASSERT(i < GUESTS_MAX);
    node->guests[i] = *guest;
    node->guests_len = VDC_MAX(node->guests_len, i + 1);
}

static void take(struct node *node, const struct vdc_msg *msg)
{
    switch (msg->kind) {
    case VDC_MSG_HELLO: {
        node->hello = msg->hello;
        struct vdc_msg welcome = {.kind = VDC_MSG_WELCOME};
        vdc_str_set(welcome.welcome.manager, sizeof welcome.welcome.manager, "m1");
        welcome.welcome.protocol = VDC_MSG_PROTOCOL;
        send_msg(node, &welcome);
        if (node->lead) {
            send_lead(node);
        }
        break;
    }
    case VDC_MSG_ZONE_JOINED:
        node->joined = msg->zone_joined.incarnation == node->incarnation;
        node->fenced = false;
        break;
    case VDC_MSG_LEASE_ASK:
        take_ask(node, &msg->lease_ask);
        break;
    case VDC_MSG_TX_RESULT:
        node->result = msg->tx_result;
        node->has_result = true;
        if (node->results_len < RESULTS_MAX) {
            node->results[node->results_len++] = msg->tx_result;
        }
        break;
    case VDC_MSG_RECORDS:
        take_records(node, &msg->records);
        break;
    case VDC_MSG_SNAPSHOT:
        take_snapshot(node, &msg->snapshot);
        break;
    case VDC_MSG_GUEST:
        take_guest(node, &msg->guest);
        break;
    case VDC_MSG_GUESTS_END:
        node->guests_complete = true;
        break;
    case VDC_MSG_COMMAND_RESULT:
        node->answer = msg->command_result;
        vdc_buf_clear(&node->console);
        vdc_buf_append(&node->console, msg->command_result.data.data, msg->command_result.data.len);
        node->has_answer = true;
        break;
    case VDC_MSG_BYE:
        node->bye++;
        fprintf(stderr, "%s: bye: %s\n", node->name, msg->bye.reason);
        break;
    case VDC_MSG_WELCOME:
    case VDC_MSG_ZONE_LEAD:
    case VDC_MSG_LEASE_GRANT:
    case VDC_MSG_TX:
    case VDC_MSG_COMMAND:
        fprintf(stderr, "%s: sent %s\n", node->name, vdc_msg_kind_name(msg->kind));
        abort();
    }
}

/* --- links --- */

static struct node *node_of(struct vdc_link *link)
{
    for (size_t i = 0; i < NODES; i++) {
        if (strcmp(the_manager->nodes[i].name, vdc_link_peer(link)->name) == 0) {
            return &the_manager->nodes[i];
        }
    }
    return NULL;
}

static void on_up(void *data, struct vdc_link *link)
{
    (void)data;
    struct node *node = node_of(link);
    VDC_ASSERT(node != NULL);
    node->link = link;
    node->sessions++;
    node->joined = false;
    node->guests_complete = false;
    node->guests_len = 0;
    vdc_link_set_data(link, node);
}

static void on_frame(void *data, struct vdc_link *link, const uint8_t *frame, size_t len)
{
    (void)link;
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    struct vdc_err err;
    if (vdc_msg_decode(frame, len, msg, &err) != VDC_RC_OK) {
        fprintf(stderr, "bad frame: %s\n", err.text);
        abort();
    }
    take(data, msg);
    vdc_msg_deinit(msg);
    free(msg);
}

static void on_down(void *data, struct vdc_link *link, const struct vdc_err *why)
{
    (void)why;
    struct node *node = data;
    if (node->link == link) {
        node->link = NULL;
        node->joined = false;
    }
}

static const struct vdc_link_handlers handlers = {
    .on_up = on_up,
    .on_frame = on_frame,
    .on_down = on_down,
};

static void must(enum vdc_rc rc, const struct vdc_err *err)
{
    if (rc != VDC_RC_OK) {
        fprintf(stderr, "%s\n", vdc_err_text(err));
        exit(1);
    }
}

void manager_open(struct manager *manager, const char *pki)
{
    *manager = (struct manager){.epoch = 1};
    the_manager = manager;
    uv_loop_init(&manager->loop);
    uv_timer_init(&manager->loop, &manager->timer);
    manager->timer.data = manager;
    for (size_t i = 0; i < NODES; i++) {
        struct node *node = &manager->nodes[i];
        snprintf(node->name, sizeof node->name, "n%zu", i + 1);
        node->incarnation = 1;
        node->lead = true;
        node->grant = true;
    }
    vdc_autofree char *ca = vdc_asprintf("%s/ca.pem", pki);
    vdc_autofree char *cert = vdc_asprintf("%s/m1.pem", pki);
    vdc_autofree char *key = vdc_asprintf("%s/m1.key", pki);
    struct vdc_tls_config config = {.ca_path = ca, .cert_path = cert, .key_path = key};
    struct vdc_err err;
    must(vdc_tls_context_create(&manager->loop, &config, &manager->tls, &err), &err);
    must(vdc_link_listen(manager->tls, "127.0.0.1:0", VDC_PEER_BIT(VDC_PEER_NODE), &handlers, NULL,
                         manager, &manager->listener, &err),
         &err);
    manager->port = vdc_link_listener_port(manager->listener);
}

void manager_close(struct manager *manager)
{
    vdc_link_listener_close(manager->listener);
    for (size_t i = 0; i < NODES; i++) {
        struct node *node = &manager->nodes[i];
        vdc_link_close(node->link);
        vdc_allocdb_destroy(node->replica);
        vdc_buf_deinit(&node->snapshot);
        vdc_buf_deinit(&node->console);
    }
    vdc_tls_context_unref(manager->tls);
    uv_close((uv_handle_t *)&manager->timer, NULL);
    uv_run(&manager->loop, UV_RUN_DEFAULT);
    uv_loop_close(&manager->loop);
}

/* --- waiting --- */

static void on_timeout(uv_timer_t *timer)
{
    ((struct manager *)timer->data)->timed_out = true;
}

void manager_begin_wait(struct manager *manager)
{
    manager->timed_out = false;
    uv_update_time(&manager->loop);
    uv_timer_start(&manager->timer, on_timeout, WAIT_MS, 0);
}

bool manager_turn(struct manager *manager)
{
    uv_run(&manager->loop, UV_RUN_ONCE);
    return !manager->timed_out;
}

void manager_settle(struct manager *manager, unsigned ms)
{
    manager->timed_out = false;
    uv_update_time(&manager->loop);
    uv_timer_start(&manager->timer, on_timeout, ms, 0);
    while (!manager->timed_out) {
        uv_run(&manager->loop, UV_RUN_ONCE);
    }
}

/* --- asking --- */

static struct vdc_id next_request(struct manager *manager)
{
    struct vdc_id id = {{0xab}};
    uint64_t n = ++manager->requests;
    memcpy(id.bytes + 8, &n, sizeof n);
    return id;
}

static void send_tx(struct manager *manager, struct node *node, const struct vdc_id *request_id,
                    const struct vdc_op *ops, uint32_t ops_len)
{
    struct vdc_tx tx = {
        .request_id = *request_id,
        .zone = "prod",
        .epoch = manager->epoch,
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
    send_msg(node, &msg);
    vdc_buf_deinit(&bytes);
}

bool manager_race(struct manager *manager, struct node *node, const struct vdc_op *ops,
                  uint32_t ops_len, uint32_t clients)
{
    struct vdc_id ids[RESULTS_MAX / 2];
    VDC_ASSERT(clients <= VDC_COUNT_OF(ids));
    node->results_len = 0;
    for (uint32_t i = 0; i < clients; i++) {
        ids[i] = next_request(manager);
    }
    /* Each twice, the second ones before the first are answered. */
    for (uint32_t i = 0; i < 2 * clients; i++) {
        uint32_t client = i % clients;
        send_tx(manager, node, &ids[client], &ops[(size_t)client * ops_len], ops_len);
    }
    if (!manager_wait(manager, node->results_len == 2 * (size_t)clients)) {
        return false;
    }
    uint32_t equal = 0;
    for (uint32_t i = 0; i < clients; i++) {
        const struct vdc_msg_tx_result *one = NULL;
        for (size_t r = 0; r < node->results_len; r++) {
            const struct vdc_msg_tx_result *result = &node->results[r];
            if (vdc_id_equal(&result->request_id, &ids[i])) {
                equal += one != NULL && one->rc == result->rc &&
                         one->sequence == result->sequence && strcmp(one->text, result->text) == 0;
                one = result;
            }
        }
    }
    return equal == clients;
}

enum vdc_rc manager_tx(struct manager *manager, struct node *node, const struct vdc_op *ops,
                       uint32_t ops_len)
{
    struct vdc_id request_id = next_request(manager);
    node->has_result = false;
    send_tx(manager, node, &request_id, ops, ops_len);
    if (!manager_wait(manager, node->has_result)) {
        return VDC_RC_TIMEOUT;
    }
    if (node->result.rc != VDC_RC_OK) {
        fprintf(stderr, "%s: tx: %s %s\n", node->name, vdc_rc_name(node->result.rc),
                node->result.text);
    }
    return node->result.rc;
}

#define MIB (UINT64_C(1) << 20)

/* Its disk, whose volume has its id. */
static struct vdc_op attach_op(const struct vdc_id *id, uint64_t generation)
{
    return (struct vdc_op){
        .kind = VDC_OP_VOLUME_ATTACH,
        .volume_attach = {.id = *id,
                          .generation = generation,
                          .volume = *id,
                          .mode = VDC_VOLUME_WRITE},
    };
}

enum vdc_rc manager_create(struct manager *manager, struct node *node, const struct vdc_id *id,
                           uint64_t generation, enum vdc_run run)
{
    char text[VDC_ID_TEXT_CAP];
    char config[256];
    vdc_id_to_text(id, text);
    int len = snprintf(config, sizeof config,
                       "{\"image\":\"linux\",\"disk_bytes\":16777216,\"volume\":\"%s\","
                       "\"restartable\":true,\"name\":\"web\"}",
                       text);
    struct vdc_op ops[4] = {
        {
            .kind = VDC_OP_PARTITION_CREATE,
            .partition_create =
                {
                    .id = *id,
                    .name = "web",
                    .kind = VDC_PARTITION_GUEST,
                    .generation = generation,
                    .run = run,
                    .vcpus = 1,
                    .memory_bytes = 128 * MIB,
                    .config = (const uint8_t *)config,
                    .config_len = (uint32_t)len,
                },
        },
        {.kind = VDC_OP_CPU_ASSIGN, .cpu_assign = {.id = *id, .shared_milli = 1000}},
        {
            .kind = VDC_OP_MEMORY_ASSIGN,
            .memory_assign = {.id = *id, .bytes = 128 * MIB, .numa = VDC_NUMA_ANY},
        },
        attach_op(id, generation),
    };
    /* A target of a migration writes nothing before it is told to run. */
    return manager_tx(manager, node, ops, run == VDC_RUN_INCOMING ? 3 : 4);
}

enum vdc_rc manager_set_run(struct manager *manager, struct node *node, const struct vdc_id *id,
                            uint64_t generation, enum vdc_run run)
{
    struct vdc_op ops[2] = {
        {
            .kind = VDC_OP_PARTITION_SET_RUN,
            .partition_set_run = {*id, generation, run},
        },
        attach_op(id, generation),
    };
    return manager_tx(manager, node, ops, run == VDC_RUN_RUNNING ? 2 : 1);
}

enum vdc_rc manager_destroy(struct manager *manager, struct node *node, const struct vdc_id *id,
                            uint64_t generation)
{
    struct vdc_op op = {
        .kind = VDC_OP_PARTITION_DESTROY,
        .partition_destroy = {*id, generation},
    };
    return manager_tx(manager, node, &op, 1);
}

enum vdc_rc manager_command(struct manager *manager, struct node *node, const struct vdc_id *id,
                            uint64_t generation, enum vdc_command_kind kind,
                            const struct vdc_msg_command *more)
{
    struct vdc_msg msg = {.kind = VDC_MSG_COMMAND};
    if (more != NULL) {
        msg.command = *more;
    }
    msg.command.request_id = next_request(manager);
    vdc_str_set(msg.command.zone, sizeof msg.command.zone, "prod");
    msg.command.epoch = manager->epoch;
    msg.command.partition = *id;
    msg.command.generation = generation;
    msg.command.kind = kind;
    node->has_answer = false;
    send_msg(node, &msg);
    if (!manager_wait(manager, node->has_answer)) {
        return VDC_RC_TIMEOUT;
    }
    if (node->answer.rc != VDC_RC_OK) {
        fprintf(stderr, "%s: %s: %s %s\n", node->name, vdc_command_kind_name(kind),
                vdc_rc_name(node->answer.rc), node->answer.text);
    }
    return node->answer.rc;
}

const struct vdc_msg_guest *manager_guest(const struct node *node, const struct vdc_id *id,
                                          uint64_t generation)
{
    for (size_t i = 0; i < node->guests_len; i++) {
        if (vdc_id_equal(&node->guests[i].partition, id) &&
            node->guests[i].generation == generation) {
            return &node->guests[i];
        }
    }
    return NULL;
}

bool manager_guest_is(const struct node *node, const struct vdc_id *id, uint64_t generation,
                      enum vdc_guest_state state)
{
    const struct vdc_msg_guest *guest = manager_guest(node, id, generation);
    return guest != NULL && guest->state == state;
}
