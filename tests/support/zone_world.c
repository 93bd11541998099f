/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/policy_io.h>
#include <vdc/tx.h>

#include "zone_world.h"

#define LATENCY_NS (1 * VDC_MS)
#define WRITE_NS (2 * VDC_MS)
#define LOAD_NS (5 * VDC_MS)
#define BOOT_NS (500 * VDC_MS)
#define CONFIRM_NS (500 * VDC_MS)
#define LEADER_TTL_NS (3 * VDC_SECOND)
#define GRACE_NS (2 * VDC_SECOND)

enum item_kind { ITEM_TO_NODE, ITEM_TO_LEADER, ITEM_UP, ITEM_DOWN, ITEM_WRITTEN };

struct zw_item {
    vdc_mono at;
    uint64_t order;
    enum item_kind kind;
    size_t node;
    uint64_t session;
    uint64_t epoch; /* WRITTEN: of the leader that wrote */
    uint64_t write;
    struct vdc_zone_put *puts;
    size_t puts_len;
    struct vdc_buf bytes;
};

struct zw_record {
    char key[VDC_KEY_CAP];
    struct vdc_buf value;
};

const char zw_policy_text[] = "apiVersion: vdc/v1\n"
                              "kind: ZonePolicy\n"
                              "zone: prod\n"
                              "nodes:\n"
                              "  - match: rack in [\"r1\", \"r2\", \"r3\"]\n"
                              "    share: {cpus: 100%, memory: 100%}\n"
                              "capacity:\n"
                              "  cpu_overcommit: 4.0\n"
                              "classes:\n"
                              "  gold: {priority: 100, cpu: shared, failover: restart}\n"
                              "  silver: {priority: 50, cpu: shared, failover: restart}\n"
                              "  batch: {priority: 10, cpu: shared, failover: none}\n"
                              "placement:\n"
                              "  strategy: spread\n"
                              "  rules:\n"
                              "    - name: db-apart\n"
                              "      when: partition.labels.app == \"db\"\n"
                              "      apart: rack\n"
                              "failover:\n"
                              "  lease: 4s\n"
                              "  storm_brake: 30%\n"
                              "migration: {bandwidth: 1Gbit/s, downtime: 50ms, timeout: 10m}\n";

/* ---- items ---- */

static struct zw_item *push(struct zone_world *world, int64_t delay_ns, enum item_kind kind)
{
    VDC_GROW(world->items, world->items_cap, world->items_len + 1);
    struct zw_item item = {
        .at = vdc_mono_add(world->now, delay_ns), .order = world->order++, .kind = kind};
    size_t at = world->items_len++;
    while (at > 0 && world->items[at - 1].at.ns > item.at.ns) {
        world->items[at] = world->items[at - 1];
        at--;
    }
    world->items[at] = item;
    return &world->items[at];
}

static void item_deinit(struct zw_item *item)
{
    vdc_buf_deinit(&item->bytes);
    for (size_t i = 0; i < item->puts_len; i++) {
        vdc_buf_deinit(&item->puts[i].value);
    }
    free(item->puts);
}

static vdc_wall wall(const struct zone_world *world)
{
    return (vdc_wall){INT64_C(1700000000) * VDC_SECOND + world->now.ns};
}

/* ---- the store ---- */

static void store_put(struct zone_world *world, const struct vdc_zone_put *put)
{
    size_t at = 0;
    while (at < world->records_len && strcmp(world->records[at].key, put->key) != 0) {
        at++;
    }
    if (at < world->records_len) {
        vdc_buf_deinit(&world->records[at].value);
        if (put->value.data == NULL) {
            world->records[at] = world->records[--world->records_len];
            return;
        }
    } else if (put->value.data == NULL) {
        return;
    } else {
        VDC_GROW(world->records, world->records_cap, world->records_len + 1);
        world->records_len++;
    }
    memset(&world->records[at], 0, sizeof world->records[at]);
    vdc_str_set(world->records[at].key, VDC_KEY_CAP, put->key);
    vdc_buf_append(&world->records[at].value, put->value.data, put->value.len);
}

static struct vdc_policy *parse_policy(const char *text)
{
    struct vdc_policy *policy = NULL;
    struct vdc_diags diags = {.source = "test"};
    enum vdc_rc rc = vdc_policy_parse(text, strlen(text), &policy, &diags);
    if (rc != VDC_RC_OK) {
        struct vdc_buf out = {0};
        vdc_diags_render(&diags, &out);
        fprintf(stderr, "%s", vdc_buf_text(&out));
        vdc_buf_deinit(&out);
    }
    vdc_diags_deinit(&diags);
    VDC_ASSERT(rc == VDC_RC_OK);
    return policy;
}

/* ---- the leader ---- */

static void leader_step(struct zone_world *world, struct vdc_zone_event *event);

static void take_update(struct zone_world *world, struct vdc_zone_update *update)
{
    enum vdc_level level;
    char line[2048];
    while (vdc_trace_take(&update->trace, &level, line, sizeof line)) {
        vdc_buf_printf(&world->trace, "%lld.%03lld %s\n", (long long)(world->now.ns / VDC_SECOND),
                       (long long)(world->now.ns % VDC_SECOND / VDC_MS), line);
    }
    for (size_t i = 0; i < update->writes_len; i++) {
        const struct vdc_zone_write *write = &update->writes[i];
        struct zw_item *item = push(world, WRITE_NS, ITEM_WRITTEN);
        item->epoch = world->epoch;
        item->write = write->id;
        item->puts_len = write->puts_len;
        item->puts = vdc_calloc(write->puts_len, sizeof *item->puts);
        for (size_t j = 0; j < write->puts_len; j++) {
            memcpy(item->puts[j].key, write->puts[j].key, VDC_KEY_CAP);
            if (write->puts[j].value.data != NULL) {
                vdc_buf_append(&item->puts[j].value, write->puts[j].value.data,
                               write->puts[j].value.len);
            }
        }
        world->writes++;
    }
    for (size_t i = 0; i < update->sends_len; i++) {
        for (size_t n = 0; n < world->nodes_len; n++) {
            if (world->nodes[n].linked && world->nodes[n].session == update->sends[i].session) {
                struct zw_item *item = push(world, LATENCY_NS, ITEM_TO_NODE);
                item->node = n;
                item->session = update->sends[i].session;
                vdc_msg_encode(&update->sends[i].msg, &item->bytes);
            }
        }
    }
    for (size_t i = 0; i < update->answers_len; i++) {
        const struct vdc_zone_answer *from = &update->answers[i];
        VDC_ASSERT(world->answers_len < VDC_COUNT_OF(world->answers));
        struct zw_answer *answer = &world->answers[world->answers_len++];
        *answer = (struct zw_answer){
            .token = from->token,
            .rc = from->rc,
            .operation = from->operation,
            .has_operation = from->has_operation,
            .repeated = from->repeated,
        };
        memcpy(answer->text, from->text, sizeof answer->text);
        snprintf(answer->data, sizeof answer->data, "%s", vdc_buf_text(&from->data));
    }
}

static void leader_step(struct zone_world *world, struct vdc_zone_event *event)
{
    if (world->zone == NULL || world->leader_paused) {
        return;
    }
    event->now = world->now;
    event->wall = wall(world);
    take_update(world, vdc_zone_step(world->zone, event));
}

static bool has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void load_record(struct zone_world *world, const struct zw_record *from)
{
    struct vdc_err err = {0};
    const char *key = from->key + strlen(VDC_STORE_PREFIX);
    const char *json = vdc_buf_text(&from->value);
    size_t len = from->value.len;
    enum vdc_rc rc = VDC_RC_OK;
    struct vdc_zone_event event = {0};
    struct vdc_zone_record zone;
    struct vdc_policy_record policy;
    struct vdc_node_record node;
    struct vdc_partition_record partition;
    struct vdc_operation_record operation;
    if (has_prefix(key, "zones/")) {
        rc = vdc_zone_record_decode(json, len, &zone, &err);
        event.kind = VDC_ZONE_LOAD_ZONE;
        event.zone = &zone;
        leader_step(world, &event);
    } else if (has_prefix(key, "policies/")) {
        rc = vdc_policy_record_decode(json, len, &policy, &err);
        VDC_ASSERT(rc == VDC_RC_OK);
        event.kind = VDC_ZONE_LOAD_POLICY;
        event.policy.record = &policy;
        event.policy.built = parse_policy(policy.text);
        leader_step(world, &event);
        vdc_policy_record_deinit(&policy);
    } else if (has_prefix(key, "nodes/")) {
        rc = vdc_node_record_decode(json, len, &node, &err);
        event.kind = VDC_ZONE_LOAD_NODE;
        event.node = &node;
        leader_step(world, &event);
    } else if (has_prefix(key, "partitions/")) {
        rc = vdc_partition_record_decode(json, len, &partition, &err);
        VDC_ASSERT(rc == VDC_RC_OK);
        event.kind = VDC_ZONE_LOAD_PARTITION;
        event.partition = &partition;
        leader_step(world, &event);
        vdc_partition_record_deinit(&partition);
    } else if (has_prefix(key, "operations/")) {
        rc = vdc_operation_record_decode(json, len, &operation, &err);
        VDC_ASSERT(rc == VDC_RC_OK);
        event.kind = VDC_ZONE_LOAD_OPERATION;
        event.operation = &operation;
        leader_step(world, &event);
        vdc_operation_record_deinit(&operation);
    }
    VDC_ASSERT(rc == VDC_RC_OK);
}

static void link_down(struct zone_world *world, size_t n, int64_t back_after_ns);

static void begin_leading(struct zone_world *world)
{
    world->epoch = ++world->revision;
    const struct vdc_zone_config config = {.zone = "prod",
                                           .manager = "m1",
                                           .epoch = world->epoch,
                                           .seed = world->epoch,
                                           .now = world->now};
    world->zone = vdc_zone_create(&config);
    /* Of the policies only the one in force: the last of the sorted keys. */
    char newest[VDC_KEY_CAP] = "";
    for (size_t i = 0; i < world->records_len; i++) {
        const char *key = world->records[i].key;
        if (strstr(key, "/policies/") != NULL && strcmp(key, newest) > 0) {
            vdc_str_set(newest, sizeof newest, key);
        }
    }
    for (size_t i = 0; i < world->records_len; i++) {
        const char *key = world->records[i].key;
        if (strstr(key, "/policies/") == NULL || strcmp(key, newest) == 0) {
            load_record(world, &world->records[i]);
        }
    }
    struct vdc_zone_event event = {.kind = VDC_ZONE_LOADED};
    leader_step(world, &event);
    world->confirm_at = world->now;
}

void zw_new_leader(struct zone_world *world, bool writes_done)
{
    vdc_zone_destroy(world->zone);
    world->zone = NULL;
    world->leader_paused = false;
    world->store_down = false; /* without a store nobody is elected */
    for (size_t i = 0; i < world->items_len; i++) {
        struct zw_item *item = &world->items[i];
        if (item->kind == ITEM_WRITTEN && writes_done) {
            for (size_t j = 0; j < item->puts_len; j++) {
                store_put(world, &item->puts[j]);
            }
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < world->items_len; i++) {
        if (world->items[i].kind == ITEM_WRITTEN) {
            item_deinit(&world->items[i]);
        } else {
            world->items[kept++] = world->items[i];
        }
    }
    world->items_len = kept;
    for (size_t i = 0; i < world->nodes_len; i++) {
        link_down(world, i, 20 * VDC_MS);
    }
    begin_leading(world);
}

/* ---- nodes: sending ---- */

struct zw_node *zw_node(struct zone_world *world, const char *name)
{
    for (size_t i = 0; i < world->nodes_len; i++) {
        if (strcmp(world->nodes[i].name, name) == 0) {
            return &world->nodes[i];
        }
    }
    VDC_ASSERT(false);
    return NULL;
}

static size_t node_number(const struct zone_world *world, const struct zw_node *node)
{
    return (size_t)(node - world->nodes);
}

static void node_send(struct zone_world *world, struct zw_node *node, const struct vdc_msg *msg)
{
    if (!node->linked) {
        return;
    }
    struct zw_item *item = push(world, LATENCY_NS, ITEM_TO_LEADER);
    item->node = node_number(world, node);
    item->session = node->session;
    vdc_msg_encode(msg, &item->bytes);
}

static void digest_bytes(const struct vdc_allocdb *db, uint8_t out[VDC_MSG_DIGEST_LEN])
{
    struct vdc_digest digest = vdc_allocdb_digest(db);
    for (int i = 0; i < 8; i++) {
        out[i] = (uint8_t)(digest.lo >> (8 * i));
        out[8 + i] = (uint8_t)(digest.hi >> (8 * i));
    }
}

static void report(struct zone_world *world, struct zw_node *node, const struct zw_guest *guest)
{
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    msg->kind = VDC_MSG_GUEST;
    vdc_str_set(msg->guest.zone, VDC_NAME_CAP, "prod");
    msg->guest.partition = guest->id;
    msg->guest.generation = guest->generation;
    msg->guest.state = guest->paused ? VDC_GUEST_PAUSED : guest->state;
    msg->guest.stopped_at_ns = guest->stopped_at_ns;
    msg->guest.running_at_ns = guest->running_at_ns;
    node_send(world, node, msg);
    free(msg);
}

static void link_up(struct zone_world *world, struct zw_node *node)
{
    node->linked = true;
    node->session = ++world->sessions;
    node->relink_at = VDC_NEVER;
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    msg->kind = VDC_MSG_HELLO;
    struct vdc_msg_hello *hello = &msg->hello;
    hello->protocol = VDC_MSG_PROTOCOL;
    vdc_str_set(hello->node, VDC_NAME_CAP, node->name);
    vdc_str_set(hello->rack, VDC_NAME_CAP, node->rack);
    vdc_str_set(hello->address, VDC_ADDRESS_CAP, "10.0.0.1");
    vdc_str_set(hello->accelerator, VDC_NAME_CAP, "tcg");
    vdc_str_set(hello->agent_version, VDC_NAME_CAP, "0");
    hello->cpus = vdc_allocdb_count_cpus(node->db);
    hello->numa_len = 1;
    hello->numa[0].cpus = hello->cpus;
    hello->numa[0].memory_bytes = vdc_allocdb_memory_bytes(node->db);
    hello->db_sequence = vdc_allocdb_sequence(node->db);
    digest_bytes(node->db, hello->db_digest);
    if (node->incarnation != 0) {
        hello->zones_len = node->old_hello ? 0 : 1;
        vdc_str_set(hello->zones[0].zone, VDC_NAME_CAP, "prod");
        hello->zones[0].epoch = node->epoch;
        hello->zones[0].incarnation = node->incarnation;
    }
    struct zw_item *item = push(world, LATENCY_NS, ITEM_UP);
    item->node = node_number(world, node);
    item->session = node->session;
    vdc_msg_encode(msg, &item->bytes);
    if (node->old_hello) {
        hello->zones_len = 1;
        node_send(world, node, msg);
    }
    free(msg);
}

static void link_down(struct zone_world *world, size_t n, int64_t back_after_ns)
{
    struct zw_node *node = &world->nodes[n];
    size_t kept = 0;
    for (size_t i = 0; i < world->items_len; i++) {
        struct zw_item *item = &world->items[i];
        bool of_link = item->kind != ITEM_WRITTEN && item->node == n;
        if (of_link) {
            item_deinit(item);
        } else {
            world->items[kept++] = *item;
        }
    }
    world->items_len = kept;
    if (node->linked) {
        struct zw_item *item = push(world, LATENCY_NS, ITEM_DOWN);
        item->node = n;
        item->session = node->session;
    }
    node->linked = false;
    node->joined = false;
    node->relink_at =
        node->up && back_after_ns >= 0 ? vdc_mono_add(world->now, back_after_ns) : VDC_NEVER;
}

void zw_cut(struct zone_world *world, const char *name, int64_t back_after_ms)
{
    link_down(world, node_number(world, zw_node(world, name)), back_after_ms * VDC_MS);
}

/* ---- nodes: database and guests ---- */

static struct zw_guest *find_guest(struct zw_node *node, const struct vdc_id *id)
{
    for (size_t i = 0; i < node->guests_len; i++) {
        if (vdc_id_equal(&node->guests[i].id, id)) {
            return &node->guests[i];
        }
    }
    return NULL;
}

static void remove_guest(struct zw_node *node, struct zw_guest *guest)
{
    *guest = node->guests[--node->guests_len];
}

static bool lease_valid(const struct zone_world *world, const struct zw_node *node)
{
    return world->now.ns < node->lease_until.ns;
}

static void set_guest(struct zone_world *world, struct zw_node *node, struct zw_guest *guest,
                      enum vdc_guest_state state, int64_t then_ns)
{
    guest->state = state;
    guest->next_at = then_ns < 0 ? VDC_NEVER : vdc_mono_add(world->now, then_ns);
    if (state == VDC_GUEST_RUNNING) {
        guest->running_at_ns = (uint64_t)world->now.ns;
    }
    report(world, node, guest);
}

static bool config_restartable(const struct vdc_partition *partition)
{
    return memmem(partition->config, partition->config_len, "\"restartable\":true", 18) != NULL;
}

static bool config_has_disk(const struct vdc_partition *partition)
{
    return memmem(partition->config, partition->config_len, "\"disk_bytes\":0,", 15) == NULL;
}

/* Desired against actual, as an agent does it. */
static void node_reconcile(struct zone_world *world, struct zw_node *node)
{
    for (size_t i = node->guests_len; i > 0; i--) {
        if (vdc_allocdb_find_partition(node->db, &node->guests[i - 1].id) == NULL) {
            remove_guest(node, &node->guests[i - 1]);
        }
    }
    size_t len;
    const struct vdc_partition **all = vdc_allocdb_list_partitions(node->db, &len);
    for (size_t i = 0; i < len; i++) {
        struct zw_guest *guest = find_guest(node, &all[i]->id);
        bool may_run = lease_valid(world, node) || !config_restartable(all[i]);
        if (guest == NULL &&
            (all[i]->run == VDC_RUN_INCOMING || (all[i]->run == VDC_RUN_RUNNING && may_run))) {
            VDC_ASSERT(node->guests_len < ZW_GUESTS_MAX);
            guest = &node->guests[node->guests_len++];
            memset(guest, 0, sizeof *guest);
            guest->id = all[i]->id;
            guest->generation = all[i]->generation;
            guest->restartable = config_restartable(all[i]);
            set_guest(world, node, guest, VDC_GUEST_STARTING,
                      all[i]->run == VDC_RUN_INCOMING ? 50 * VDC_MS : BOOT_NS);
        } else if (guest != NULL && all[i]->run == VDC_RUN_RUNNING &&
                   guest->state == VDC_GUEST_LOADED && may_run) {
            set_guest(world, node, guest, VDC_GUEST_RUNNING, -1);
        } else if (guest != NULL && all[i]->run == VDC_RUN_RUNNING && may_run &&
                   (guest->state == VDC_GUEST_STOPPED || guest->state == VDC_GUEST_FAILED)) {
            set_guest(world, node, guest, VDC_GUEST_STARTING, BOOT_NS);
        } else if (guest != NULL && all[i]->run == VDC_RUN_STOPPED &&
                   guest->state != VDC_GUEST_STOPPED && guest->state != VDC_GUEST_STOPPING) {
            set_guest(world, node, guest, VDC_GUEST_STOPPING, 100 * VDC_MS);
        }
    }
    free(all);
}

/* Commits and keeps the record; streams it if there is a leader. */
static enum vdc_rc node_commit(struct zone_world *world, struct zw_node *node,
                               const struct vdc_tx *tx, struct vdc_tx_result *result)
{
    struct vdc_buf record = {0};
    enum vdc_rc rc = vdc_allocdb_commit(node->db, tx, result, &record);
    if (record.len > 0) {
        VDC_GROW(node->records, node->records_cap, node->records_len + 1);
        node->records[node->records_len++] = record;
        VDC_ASSERT(vdc_allocdb_sequence(node->db) == node->records_len);
    } else {
        vdc_buf_deinit(&record);
    }
    (void)world;
    return rc;
}

static void send_records(struct zone_world *world, struct zw_node *node, uint64_t after)
{
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    msg->kind = VDC_MSG_RECORDS;
    for (uint64_t at = after; at < node->records_len;) {
        msg->records.first_sequence = at + 1;
        msg->records.records_len = 0;
        while (at < node->records_len && msg->records.records_len < VDC_MSG_RECORDS_MAX) {
            msg->records.records[msg->records.records_len++] =
                (struct vdc_msg_bytes){node->records[at].data, node->records[at].len};
            at++;
        }
        node_send(world, node, msg);
    }
    free(msg);
}

static void send_snapshot(struct zone_world *world, struct zw_node *node)
{
    struct vdc_buf all = {0};
    vdc_allocdb_snapshot(node->db, &all);
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    msg->kind = VDC_MSG_SNAPSHOT;
    /* In two pieces, to have pieces at all. */
    for (size_t at = 0; at < all.len;) {
        size_t piece = at == 0 ? (all.len + 1) / 2 : all.len - at;
        msg->snapshot = (struct vdc_msg_snapshot){
            .sequence = vdc_allocdb_sequence(node->db),
            .offset = at,
            .total = all.len,
            .piece = {all.data + at, piece},
        };
        node_send(world, node, msg);
        at += piece;
    }
    node->snapshots++;
    free(msg);
    vdc_buf_deinit(&all);
}

static void local_tx(struct zone_world *world, struct zw_node *node, const struct vdc_op *op)
{
    struct vdc_tx tx = {.epoch = node->epoch, .role = VDC_ROLE_COMMAND, .ops = op, .ops_len = 1};
    vdc_str_set(tx.zone, VDC_NAME_CAP, "prod");
    struct vdc_tx_result result;
    enum vdc_rc rc = node_commit(world, node, &tx, &result);
    if (rc != VDC_RC_OK) {
        fprintf(stderr, "world: %s: %s\n", node->name, result.text);
    }
    VDC_ASSERT(rc == VDC_RC_OK);
}

static void on_zone_lead(struct zone_world *world, struct zw_node *node,
                         const struct vdc_msg_zone_lead *lead)
{
    if (lead->epoch < node->epoch) {
        return;
    }
    node->epoch = lead->epoch;
    node->lease_ns = lead->lease_ns;
    const struct vdc_zone_slice *slice = vdc_allocdb_find_zone(node->db, "prod");
    if (slice == NULL || !slice->joined) {
        const struct vdc_op op = {.kind = VDC_OP_ZONE_SET, .zone_set = {.overcommit_milli = 1000}};
        local_tx(world, node, &op);
    }
    if (lead->incarnation != node->incarnation) {
        if (lead->fenced) {
            size_t len;
            const struct vdc_partition **all = vdc_allocdb_list_partitions(node->db, &len);
            struct vdc_op *ops = vdc_calloc(len, sizeof *ops);
            size_t ops_len = 0;
            for (size_t i = 0; i < len; i++) {
                struct zw_guest *guest = find_guest(node, &all[i]->id);
                if (!config_restartable(all[i])) {
                    continue; /* it is nobody else's, and runs on */
                }
                if (guest != NULL) {
                    remove_guest(node, guest);
                }
                ops[ops_len].kind = VDC_OP_PARTITION_DESTROY;
                ops[ops_len].partition_destroy.id = all[i]->id;
                ops[ops_len].partition_destroy.generation = all[i]->generation;
                ops_len++;
            }
            free(all);
            for (size_t i = 0; i < ops_len; i++) {
                local_tx(world, node, &ops[i]);
            }
            free(ops);
        }
        const struct vdc_op op = {.kind = VDC_OP_INCARNATION_SET,
                                  .incarnation_set = {lead->incarnation}};
        local_tx(world, node, &op);
        node->incarnation = lead->incarnation;
        node->lease_until = (vdc_mono){0};
    }
    node->joined = true;
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    msg->kind = VDC_MSG_ZONE_JOINED;
    vdc_str_set(msg->zone_joined.zone, VDC_NAME_CAP, "prod");
    msg->zone_joined.epoch = node->epoch;
    msg->zone_joined.incarnation = node->incarnation;
    node_send(world, node, msg);
    if (lead->snapshot) {
        send_snapshot(world, node);
    } else {
        send_records(world, node, lead->follow_from);
    }
    for (size_t i = 0; i < node->guests_len; i++) {
        report(world, node, &node->guests[i]);
    }
    memset(msg, 0, sizeof *msg);
    msg->kind = VDC_MSG_GUESTS_END;
    vdc_str_set(msg->guests_end.zone, VDC_NAME_CAP, "prod");
    node_send(world, node, msg);
    free(msg);
    node->ask_at = vdc_mono_add(world->now, 10 * VDC_MS);
}

static void on_tx(struct zone_world *world, struct zw_node *node, const struct vdc_msg_tx *from)
{
    struct vdc_tx tx;
    struct vdc_err err = {0};
    enum vdc_rc rc = vdc_tx_decode(from->tx.data, from->tx.len, &tx, &err);
    if (rc != VDC_RC_OK) {
        fprintf(stderr, "world: %s\n", err.text);
    }
    VDC_ASSERT(rc == VDC_RC_OK);
    tx.role = VDC_ROLE_COMMAND;
    uint64_t before = vdc_allocdb_sequence(node->db);
    struct vdc_tx_result result = {0};
    if (node->refuse_tx &&
        (tx.ops[0].kind == VDC_OP_PARTITION_CREATE || tx.ops[0].kind == VDC_OP_PARTITION_SET_RUN)) {
        result.rc = VDC_RC_NO_SPACE;
        vdc_str_set(result.text, sizeof result.text, "no room, says the test");
    } else {
        (void)node_commit(world, node, &tx, &result);
    }
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    msg->kind = VDC_MSG_TX_RESULT;
    msg->tx_result.request_id = tx.request_id;
    msg->tx_result.rc = result.rc;
    msg->tx_result.sequence = result.sequence;
    vdc_str_set(msg->tx_result.text, VDC_MSG_TEXT_CAP, result.text);
    node_send(world, node, msg);
    free(msg);
    send_records(world, node, before);
    vdc_tx_deinit(&tx);
    node_reconcile(world, node);
}

static void on_command(struct zone_world *world, struct zw_node *node,
                       const struct vdc_msg_command *command)
{
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    struct vdc_msg_command_result *result = &msg->command_result;
    struct zw_guest *guest = find_guest(node, &command->partition);
    msg->kind = VDC_MSG_COMMAND_RESULT;
    result->request_id = command->request_id;
    result->rc = VDC_RC_OK;
    bool right = guest != NULL && guest->generation == command->generation;
    if (right && vdc_id_equal(&guest->last_command, &command->request_id)) {
        result->rc = guest->last_rc;
        result->port = 4000;
        node_send(world, node, msg);
        free(msg);
        return;
    }
    switch (command->kind) {
    case VDC_COMMAND_MIGRATE_IN:
        if (right && guest->state == VDC_GUEST_INCOMING) {
            result->port = 4000;
        } else {
            result->rc = VDC_RC_CONFLICT;
        }
        break;
    case VDC_COMMAND_MIGRATE_OUT:
        if (right && guest->state == VDC_GUEST_RUNNING && !guest->paused) {
            vdc_str_set(guest->peer, VDC_NAME_CAP, command->peer_node);
            set_guest(world, node, guest, VDC_GUEST_MIGRATING, node->stream_ns);
        } else {
            result->rc = VDC_RC_CONFLICT;
        }
        break;
    case VDC_COMMAND_MIGRATE_CONTINUE:
        if (right && guest->state == VDC_GUEST_SWITCHOVER) {
            struct zw_node *peer = zw_node(world, guest->peer);
            struct zw_guest *there = peer->up ? find_guest(peer, &guest->id) : NULL;
            if (there != NULL && there->state == VDC_GUEST_INCOMING) {
                /* The target has it all a moment after the source has sent it all. */
                there->next_at = vdc_mono_add(world->now, LOAD_NS);
                set_guest(world, node, guest, VDC_GUEST_MIGRATED, -1);
            } else {
                set_guest(world, node, guest, VDC_GUEST_RUNNING, -1);
            }
        }
        break;
    case VDC_COMMAND_MIGRATE_CANCEL:
        if (right && (guest->state == VDC_GUEST_MIGRATING || guest->state == VDC_GUEST_SWITCHOVER ||
                      guest->state == VDC_GUEST_MIGRATED)) {
            set_guest(world, node, guest, VDC_GUEST_RUNNING, -1);
        }
        break;
    case VDC_COMMAND_VOLUME_DELETE:
        /* As the agent does: not beside its partition. */
        if (vdc_allocdb_find_partition(node->db, &command->partition) != NULL) {
            result->rc = VDC_RC_CONFLICT;
        } else if (node->refuse_volumes > 0) {
            node->refuse_volumes--;
            result->rc = VDC_RC_IO;
        } else {
            VDC_ASSERT(world->volumes_len < VDC_COUNT_OF(world->volumes));
            world->volumes[world->volumes_len++] = command->partition;
        }
        break;
    case VDC_COMMAND_CONSOLE_READ:
        result->data = (struct vdc_msg_bytes){"COUNT 7\n", 8};
        result->end = 8;
        break;
    }
    if (right && command->kind != VDC_COMMAND_CONSOLE_READ) {
        guest->last_command = command->request_id;
        guest->last_rc = result->rc;
    }
    node_send(world, node, msg);
    free(msg);
}

static void node_take(struct zone_world *world, struct zw_node *node, const struct vdc_msg *msg)
{
    if (msg->kind == VDC_MSG_ZONE_LEAD) {
        on_zone_lead(world, node, &msg->zone_lead);
    } else if (msg->kind == VDC_MSG_TX) {
        on_tx(world, node, &msg->tx);
    } else if (msg->kind == VDC_MSG_COMMAND && msg->command.epoch == node->epoch) {
        on_command(world, node, &msg->command);
    } else if (msg->kind == VDC_MSG_LEASE_GRANT && msg->lease_grant.epoch == node->epoch &&
               msg->lease_grant.incarnation == node->incarnation) {
        vdc_mono until =
            vdc_mono_add((vdc_mono){(int64_t)msg->lease_grant.asked_ns}, node->lease_ns);
        node->lease_until = vdc_mono_max(node->lease_until, until);
        node->grants++;
        for (size_t i = 0; i < node->guests_len; i++) {
            if (node->guests[i].paused && lease_valid(world, node)) {
                node->guests[i].paused = false;
                report(world, node, &node->guests[i]);
            }
        }
        node_reconcile(world, node);
    }
}

static void node_ask(struct zone_world *world, struct zw_node *node)
{
    node->ask_at = vdc_mono_add(world->now, node->lease_ns / 4);
    if (node->mute) {
        return;
    }
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    msg->kind = VDC_MSG_LEASE_ASK;
    vdc_str_set(msg->lease_ask.zone, VDC_NAME_CAP, "prod");
    msg->lease_ask.epoch = node->epoch;
    msg->lease_ask.incarnation = node->incarnation;
    msg->lease_ask.asked_ns = (uint64_t)world->now.ns;
    msg->lease_ask.db_sequence = vdc_allocdb_sequence(node->db);
    digest_bytes(node->db, msg->lease_ask.db_digest);
    if (node->lie_digest) {
        msg->lease_ask.db_digest[0] ^= 1;
    }
    node_send(world, node, msg);
    free(msg);
}

/* What a node does by itself at this instant. */
static void node_tick(struct zone_world *world, struct zw_node *node)
{
    if (!node->up) {
        return;
    }
    if (!node->linked && vdc_mono_reached(world->now, node->relink_at)) {
        link_up(world, node);
    }
    if (node->joined && vdc_mono_reached(world->now, node->ask_at)) {
        node_ask(world, node);
    }
    for (size_t i = 0; i < node->guests_len; i++) {
        struct zw_guest *guest = &node->guests[i];
        if (guest->restartable && !guest->paused && !lease_valid(world, node) &&
            (guest->state == VDC_GUEST_RUNNING || guest->state == VDC_GUEST_MIGRATING)) {
            guest->paused = true;
            report(world, node, guest);
        }
        if (guest->paused &&
            vdc_mono_reached(world->now, vdc_mono_add(node->lease_until, GRACE_NS))) {
            guest->paused = false;
            set_guest(world, node, guest, VDC_GUEST_FAILED, -1);
        }
        if (!vdc_mono_reached(world->now, guest->next_at)) {
            continue;
        }
        guest->next_at = VDC_NEVER;
        const struct vdc_partition *partition = vdc_allocdb_find_partition(node->db, &guest->id);
        if (guest->state == VDC_GUEST_STARTING) {
            bool incoming = partition->run == VDC_RUN_INCOMING;
            if (incoming) {
                set_guest(world, node, guest, VDC_GUEST_INCOMING, -1);
            } else if (!guest->restartable || lease_valid(world, node)) {
                set_guest(world, node, guest, VDC_GUEST_RUNNING, -1);
            } else {
                set_guest(world, node, guest, VDC_GUEST_FAILED, -1);
            }
        } else if (guest->state == VDC_GUEST_INCOMING) {
            set_guest(world, node, guest, node->guest_fails ? VDC_GUEST_FAILED : VDC_GUEST_LOADED,
                      -1);
            node_reconcile(world, node);
        } else if (guest->state == VDC_GUEST_MIGRATING) {
            guest->stopped_at_ns = (uint64_t)world->now.ns;
            set_guest(world, node, guest, VDC_GUEST_SWITCHOVER, -1);
        } else if (guest->state == VDC_GUEST_STOPPING) {
            set_guest(world, node, guest, VDC_GUEST_STOPPED, -1);
        }
    }
}

static vdc_mono node_next(const struct zone_world *world, const struct zw_node *node)
{
    vdc_mono next = VDC_NEVER;
    if (!node->up) {
        return next;
    }
    if (!node->linked) {
        next = vdc_mono_min(next, node->relink_at);
    }
    if (node->joined) {
        next = vdc_mono_min(next, node->ask_at);
    }
    for (size_t i = 0; i < node->guests_len; i++) {
        const struct zw_guest *guest = &node->guests[i];
        next = vdc_mono_min(next, guest->next_at);
        if (guest->restartable && lease_valid(world, node)) {
            next = vdc_mono_min(next, node->lease_until);
        }
        if (guest->paused) {
            next = vdc_mono_min(next, vdc_mono_add(node->lease_until, GRACE_NS));
        }
    }
    return next;
}

void zw_kill(struct zone_world *world, const char *name)
{
    struct zw_node *node = zw_node(world, name);
    node->up = false;
    node->guests_len = 0;
    link_down(world, node_number(world, node), -1);
}

static void inventory(struct zone_world *world, struct zw_node *node)
{
    const struct vdc_cpu_info cpus[2] = {{0, 0, 0, 0, 0}, {1, 0, 0, 1, 0}};
    const struct vdc_numa_info numa = {0, UINT64_C(4) << 30};
    const struct vdc_op op = {
        .kind = VDC_OP_INVENTORY_SET,
        .inventory_set = {.cpus = cpus, .cpus_len = 2, .numa = &numa, .numa_len = 1},
    };
    const struct vdc_tx tx = {.role = VDC_ROLE_SYSTEM, .ops = &op, .ops_len = 1};
    struct vdc_tx_result result;
    enum vdc_rc rc = node_commit(world, node, &tx, &result);
    VDC_ASSERT(rc == VDC_RC_OK);
}

static void drop_journal(struct zw_node *node)
{
    vdc_allocdb_destroy(node->db);
    for (size_t i = 0; i < node->records_len; i++) {
        vdc_buf_deinit(&node->records[i]);
    }
    node->records_len = 0;
    node->db = NULL;
}

void zw_revive(struct zone_world *world, const char *name, bool wipe)
{
    struct zw_node *node = zw_node(world, name);
    if (wipe) {
        drop_journal(node);
        node->db = vdc_allocdb_create();
        inventory(world, node);
        node->incarnation = 0;
        node->epoch = 0;
        node->lease_until = (vdc_mono){0};
    }
    node->up = true;
    node->relink_at = world->now;
    /* A host that was off starts nothing before it has a lease of its own; the others it may. */
    node->lease_until = (vdc_mono){0};
    node_reconcile(world, node);
}

/* ---- checks ---- */

static bool executes(const struct zw_guest *guest)
{
    return !guest->paused &&
           (guest->state == VDC_GUEST_RUNNING || guest->state == VDC_GUEST_MIGRATING);
}

/* What executes writes its volume: its node's database says so, in that generation. */
static void check_volumes(struct zone_world *world)
{
    for (size_t n = 0; n < world->nodes_len; n++) {
        const struct zw_node *node = &world->nodes[n];
        for (size_t i = 0; i < node->guests_len; i++) {
            const struct zw_guest *guest = &node->guests[i];
            const struct vdc_partition *partition =
                vdc_allocdb_find_partition(node->db, &guest->id);
            if (!executes(guest) || partition == NULL || !config_has_disk(partition)) {
                continue;
            }
            const struct vdc_entry *use = vdc_allocdb_find_volume(node->db, &guest->id, &guest->id);
            if (use == NULL || use->volume.mode != VDC_VOLUME_WRITE ||
                use->volume.generation != guest->generation) {
                fprintf(stderr, "%s\n%s runs on %s and its volume is not in use there\n",
                        vdc_buf_text(&world->trace), partition->name, node->name);
                abort();
            }
        }
    }
}

/* S1: one guest, one owner. */
static void check_once(struct zone_world *world)
{
    for (size_t a = 0; a < world->nodes_len; a++) {
        for (size_t i = 0; i < world->nodes[a].guests_len; i++) {
            const struct zw_guest *guest = &world->nodes[a].guests[i];
            for (size_t b = a + 1; executes(guest) && b < world->nodes_len; b++) {
                const struct zw_guest *other = find_guest(&world->nodes[b], &guest->id);
                if (other != NULL && executes(other)) {
                    fprintf(stderr, "%s\nS1 broken: it runs on %s and %s\n",
                            vdc_buf_text(&world->trace), world->nodes[a].name,
                            world->nodes[b].name);
                    abort();
                }
            }
        }
    }
}

/* ---- running ---- */

static void do_fault(struct zone_world *world)
{
    world->fault_done = true;
    vdc_buf_printf(&world->trace, "FAULT %d\n", world->fault);
    switch (world->fault) {
    case ZW_NO_FAULT:
        break;
    case ZW_CUT_SOURCE:
        zw_cut(world, world->node_a, 300);
        break;
    case ZW_CUT_TARGET:
        zw_cut(world, world->node_b, 300);
        break;
    case ZW_ISOLATE_SOURCE:
        zw_cut(world, world->node_a, 12000);
        break;
    case ZW_ISOLATE_TARGET:
        zw_cut(world, world->node_b, 12000);
        break;
    case ZW_KILL_SOURCE:
        zw_kill(world, world->node_a);
        break;
    case ZW_KILL_TARGET:
        zw_kill(world, world->node_b);
        break;
    case ZW_NEW_LEADER_WRITES_LOST:
        zw_new_leader(world, false);
        break;
    case ZW_NEW_LEADER_WRITES_DONE:
        zw_new_leader(world, true);
        break;
    }
}

static void do_item(struct zone_world *world, struct zw_item *item)
{
    struct zw_node *node = &world->nodes[item->node];
    struct vdc_zone_event event = {0};
    struct vdc_msg *msg = NULL;
    if (item->bytes.len > 0) {
        struct vdc_err err = {0};
        msg = VDC_NEW(struct vdc_msg);
        enum vdc_rc rc = vdc_msg_decode(item->bytes.data, item->bytes.len, msg, &err);
        if (rc != VDC_RC_OK) {
            fprintf(stderr, "world: %s\n", err.text);
        }
        VDC_ASSERT(rc == VDC_RC_OK);
    }
    switch (item->kind) {
    case ITEM_TO_NODE:
        if (node->up && node->linked && node->session == item->session) {
            node_take(world, node, msg);
        }
        break;
    case ITEM_TO_LEADER:
    case ITEM_UP:
    case ITEM_DOWN:
        event.kind = item->kind == ITEM_UP     ? VDC_ZONE_NODE_UP
                     : item->kind == ITEM_DOWN ? VDC_ZONE_NODE_DOWN
                                               : VDC_ZONE_NODE_MSG;
        event.session.session = item->session;
        event.session.msg = msg;
        leader_step(world, &event);
        break;
    case ITEM_WRITTEN:
        event.kind = VDC_ZONE_WRITTEN;
        event.written.write = item->write;
        event.written.rc = item->epoch == world->epoch ? VDC_RC_OK : VDC_RC_STALE;
        for (size_t i = 0; event.written.rc == VDC_RC_OK && i < item->puts_len; i++) {
            store_put(world, &item->puts[i]);
        }
        leader_step(world, &event);
        break;
    }
    if (msg != NULL) {
        vdc_msg_deinit(msg);
        free(msg);
    }
}

/* Whether the item may be delivered: a store that is down and a paused leader hold theirs back. */
static bool deliverable(const struct zone_world *world, const struct zw_item *item)
{
    if (item->kind == ITEM_WRITTEN) {
        return !world->store_down && !world->leader_paused;
    }
    return item->kind == ITEM_TO_NODE || !world->leader_paused;
}

static size_t next_item(const struct zone_world *world)
{
    for (size_t i = 0; i < world->items_len; i++) {
        if (deliverable(world, &world->items[i])) {
            return i;
        }
    }
    return SIZE_MAX;
}

/* One thing happens, at or before `until`; false: nothing is left before it. */
static bool world_step(struct zone_world *world, vdc_mono until)
{
    size_t at = next_item(world);
    vdc_mono next = at == SIZE_MAX ? VDC_NEVER : world->items[at].at;
    for (size_t i = 0; i < world->nodes_len; i++) {
        next = vdc_mono_min(next, node_next(world, &world->nodes[i]));
    }
    bool leader = world->zone != NULL && !world->leader_paused;
    if (leader) {
        next = vdc_mono_min(next, vdc_zone_deadline(world->zone));
        if (!world->store_down) {
            next = vdc_mono_min(next, world->confirm_at);
        }
    }
    if (next.ns > until.ns) {
        world->now = until;
        return false;
    }
    world->now = vdc_mono_max(world->now, next);
    world->steps++;
    if (at != SIZE_MAX && vdc_mono_reached(world->now, world->items[at].at)) {
        if (world->fault != ZW_NO_FAULT && !world->fault_done && world->fault_after-- == 0) {
            do_fault(world);
            return true;
        }
        struct zw_item item = world->items[at];
        memmove(&world->items[at], &world->items[at + 1],
                (world->items_len - at - 1) * sizeof *world->items);
        world->items_len--;
        do_item(world, &item);
        item_deinit(&item);
    } else if (leader && !world->store_down && vdc_mono_reached(world->now, world->confirm_at)) {
        struct vdc_zone_event event = {.kind = VDC_ZONE_LEADING_UNTIL,
                                       .until = vdc_mono_add(world->now, LEADER_TTL_NS)};
        world->confirm_at = vdc_mono_add(world->now, CONFIRM_NS);
        leader_step(world, &event);
    } else {
        for (size_t i = 0; i < world->nodes_len; i++) {
            node_tick(world, &world->nodes[i]);
        }
        if (leader && vdc_mono_reached(world->now, vdc_zone_deadline(world->zone))) {
            struct vdc_zone_event event = {.kind = VDC_ZONE_TICK};
            leader_step(world, &event);
        }
    }
    check_once(world);
    check_volumes(world);
    return true;
}

void zw_run(struct zone_world *world, int64_t ms)
{
    vdc_mono until = vdc_mono_add(world->now, ms * VDC_MS);
    uint64_t from = world->steps;
    while (world_step(world, until)) {
        if (world->steps - from > 500000) {
            fprintf(stderr, "%s\nthe world goes in circles\n", vdc_buf_text(&world->trace));
            abort();
        }
    }
}

/* ---- requests ---- */

static uint64_t ask_leader(struct zone_world *world, struct vdc_zone_request *request,
                           const char *key, uint8_t digest)
{
    request->token = ++world->tokens;
    vdc_str_set(request->request_key, VDC_REQUEST_KEY_CAP, key);
    request->body_digest[0] = digest;
    vdc_str_set(request->user, VDC_NAME_CAP, "op");
    struct vdc_zone_event event = {.kind = VDC_ZONE_REQUEST, .request = request};
    leader_step(world, &event);
    return request->token;
}

uint64_t zw_create_partition(struct zone_world *world, const char *name, const char *class,
                             const char *app, const char *key)
{
    struct vdc_zone_request request = {.kind = VDC_REQUEST_CREATE};
    struct vdc_partition_spec *spec = &request.spec;
    uint8_t digest = 1;
    vdc_str_set(spec->name, VDC_NAME_CAP, name);
    vdc_str_set(spec->class, VDC_NAME_CAP, class);
    spec->vcpus = 1;
    spec->memory_bytes = UINT64_C(128) << 20;
    spec->disk_bytes = UINT64_C(16) << 20;
    spec->labels_len = 1;
    vdc_str_set(spec->labels[0].key, VDC_LABEL_CAP, "app");
    vdc_str_set(spec->labels[0].value, VDC_LABEL_CAP, app);
    for (const char *at = name; *at != 0; at++) {
        digest = (uint8_t)(digest * 31 + (uint8_t)*at);
    }
    return ask_leader(world, &request, key, digest);
}

uint64_t zw_ask(struct zone_world *world, enum vdc_zone_request_kind kind, const char *partition,
                const char *target, const char *key)
{
    struct vdc_zone_request request = {.kind = kind, .max = 1000};
    vdc_str_set(request.partition, VDC_NAME_CAP, partition);
    vdc_str_set(request.target, VDC_NAME_CAP, target);
    return ask_leader(world, &request, key, 9);
}

uint64_t zw_apply(struct zone_world *world, const char *text, const char *key)
{
    struct vdc_zone_request request = {
        .kind = VDC_REQUEST_APPLY_POLICY,
        .policy_text = text,
        .policy = parse_policy(text),
    };
    return ask_leader(world, &request, key, 5);
}

const struct zw_answer *zw_answer(const struct zone_world *world, uint64_t token)
{
    const struct zw_answer *found = NULL;
    for (size_t i = 0; i < world->answers_len; i++) {
        if (world->answers[i].token == token) {
            VDC_ASSERT(found == NULL); /* exactly once */
            found = &world->answers[i];
        }
    }
    return found;
}

const struct vdc_operation_record *zw_operation(const struct zone_world *world, uint64_t token)
{
    const struct zw_answer *answer = zw_answer(world, token);
    if (answer == NULL || !answer->has_operation) {
        return NULL;
    }
    return vdc_zone_operation_find(world->zone, &answer->operation);
}

const char *zw_owner(const struct zone_world *world, const char *partition)
{
    struct vdc_zone_partition_info info;
    if (!vdc_zone_partition_find(world->zone, partition, &info)) {
        return "";
    }
    return info.record->owner;
}

int zw_running(const struct zone_world *world, const char *partition, const char **where)
{
    struct vdc_zone_partition_info info;
    int count = 0;
    if (!vdc_zone_partition_find(world->zone, partition, &info)) {
        return 0;
    }
    for (size_t n = 0; n < world->nodes_len; n++) {
        const struct zw_node *node = &world->nodes[n];
        for (size_t i = 0; i < node->guests_len; i++) {
            if (vdc_id_equal(&node->guests[i].id, &info.record->id) && executes(&node->guests[i])) {
                count++;
                if (where != NULL) {
                    *where = node->name;
                }
            }
        }
    }
    return count;
}

bool zw_saw(const struct zone_world *world, const char *text)
{
    return strstr(vdc_buf_text(&world->trace), text) != NULL;
}

const char *zw_unsettled(struct zone_world *world)
{
    static char why[512];
    struct vdc_zone_partition_info info;
    char after[VDC_NAME_CAP] = "";
    while (vdc_zone_partition_next(world->zone, after, &info)) {
        vdc_str_set(after, sizeof after, info.record->spec.name);
        const char *where = "";
        int count = zw_running(world, after, &where);
        const struct vdc_operation_record *op =
            vdc_zone_operation_find(world->zone, &info.record->operation);
        if (op != NULL && op->kind == VDC_OPERATION_FAILOVER && op->state == VDC_OPSTATE_QUEUED &&
            op->verdict != NULL && count == 0) {
            continue; /* the policy has no node for it, and says why */
        }
        if (!vdc_id_is_none(&info.record->operation)) {
            snprintf(why, sizeof why, "%s: an operation is under way", after);
            return why;
        }
        int wanted = info.record->desired == VDC_DESIRED_RUNNING ? 1 : 0;
        if (count != wanted) {
            snprintf(why, sizeof why, "%s: runs %d times", after, count);
            return why;
        }
        if (wanted == 0) {
            continue;
        }
        const struct zw_node *owner = zw_node(world, info.record->owner);
        const struct vdc_partition *held = vdc_allocdb_find_partition(owner->db, &info.record->id);
        if (strcmp(where, owner->name) != 0 || held == NULL ||
            held->generation != info.record->generation) {
            snprintf(why, sizeof why, "%s: runs on %s, owner %s", after, where, owner->name);
            return why;
        }
    }
    for (size_t n = 0; n < world->nodes_len; n++) {
        struct zw_node *node = &world->nodes[n];
        struct vdc_zone_node_info seen;
        if (!node->up) {
            continue;
        }
        if (!vdc_zone_node_find(world->zone, node->name, &seen) || !seen.usable ||
            !seen.replica_equal) {
            snprintf(why, sizeof why, "%s: not usable or its replica is not equal: %s", node->name,
                     seen.why_not);
            return why;
        }
        size_t len;
        const struct vdc_partition **all = vdc_allocdb_list_partitions(node->db, &len);
        why[0] = 0;
        for (size_t i = 0; i < len; i++) {
            char id[VDC_ID_TEXT_CAP];
            vdc_id_to_text(&all[i]->id, id);
            if (!vdc_zone_partition_find(world->zone, id, &info) ||
                strcmp(info.record->owner, node->name) != 0) {
                snprintf(why, sizeof why, "%s: holds %s, which it does not own", node->name,
                         all[i]->name);
            }
        }
        free(all);
        if (why[0] != 0) {
            return why;
        }
    }
    return "";
}

/* ---- life ---- */

struct zone_world *zw_create(void)
{
    static const char *const racks[] = {"r1", "r2", "r3", "r3"};
    struct zone_world *world = VDC_NEW(struct zone_world);
    world->now = (vdc_mono){1000 * VDC_SECOND};
    struct vdc_zone_put put = {0};
    const struct vdc_zone_record zone = {.name = "prod", .policy_version = 1};
    vdc_key_zone(put.key, "prod");
    vdc_zone_record_encode(&zone, &put.value);
    store_put(world, &put);
    vdc_buf_deinit(&put.value);
    vdc_autofree char *text = vdc_strdup(zw_policy_text);
    const struct vdc_policy_record policy = {
        .zone = "prod", .version = 1, .applied_by = "op", .text = text};
    put = (struct vdc_zone_put){0};
    vdc_key_policy(put.key, "prod", 1);
    vdc_policy_record_encode(&policy, &put.value);
    store_put(world, &put);
    vdc_buf_deinit(&put.value);
    for (size_t i = 0; i < VDC_COUNT_OF(racks); i++) {
        struct zw_node *node = &world->nodes[world->nodes_len++];
        snprintf(node->name, sizeof node->name, "n%zu", i + 1);
        vdc_str_set(node->rack, sizeof node->rack, racks[i]);
        node->up = true;
        node->relink_at = world->now;
        node->stream_ns = 100 * VDC_MS;
        node->db = vdc_allocdb_create();
        inventory(world, node);
    }
    begin_leading(world);
    return world;
}

void zw_destroy(struct zone_world *world)
{
    vdc_zone_destroy(world->zone);
    for (size_t i = 0; i < world->items_len; i++) {
        item_deinit(&world->items[i]);
    }
    free(world->items);
    for (size_t i = 0; i < world->records_len; i++) {
        vdc_buf_deinit(&world->records[i].value);
    }
    free(world->records);
    for (size_t i = 0; i < world->nodes_len; i++) {
        drop_journal(&world->nodes[i]);
        free(world->nodes[i].records);
    }
    vdc_buf_deinit(&world->trace);
    free(world);
}
