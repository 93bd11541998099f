/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a random run meets too seldom to rely on: a fault at each place of a transaction, many that
 * want the last of something, the end of what is remembered, and the page map at its edges.
 */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "ultravisor_support.h"

static struct bench b;

static void setup(void)
{
    bench_init(&b);
}

static void teardown(void)
{
    bench_deinit(&b);
}

TestSuite(allocdb_edges, .init = setup, .fini = teardown);

static void must(struct vdc_op op)
{
    cr_assert_eq(commit(&b, &op, 1), VDC_RC_OK, "%s", b.result.text);
}

/* By the node itself, in its own slice. */
static enum vdc_rc commit_system(const struct vdc_op *ops, uint32_t len)
{
    struct vdc_tx tx = tx_of(&b, ops, len);
    tx.zone[0] = 0;
    tx.role = VDC_ROLE_SYSTEM;
    tx.epoch = 0;
    return commit_tx(&b, &tx);
}

/* --- the machine changes --- */

Test(allocdb_edges, a_cpu_that_leaves_must_not_be_needed_by_the_nodes_own_shares)
{
    struct vdc_op inventory = op_inventory();
    struct vdc_op ops[] = {op_create(1, "ultravisor"), op_shared(1, 1000)};
    must(op_zone_set(500, 500, 1000));
    cr_assert_eq(commit_system(ops, 2), VDC_RC_OK, "%s", b.result.text);
    /* The zone has CPUs 0 to 3; the node's pool is 4, 5, 6 and 9. */
    struct vdc_cpu_info left[5];
    memcpy(left, inventory.inventory_set.cpus, 4 * sizeof(left[0]));
    inventory.inventory_set.cpus = left;
    inventory.inventory_set.cpus_len = 4;
    cr_assert_eq(commit_system(&inventory, 1), VDC_RC_CONFLICT);
    cr_assert_eq(b.result.rule, VDC_RULE_CPU_POOL);
    cr_assert_eq(b.result.asked, 1000);
    cr_assert_eq(b.result.free, 0);
    left[4] = (struct vdc_cpu_info){.number = 77, .numa = 0, .core = 9};
    inventory.inventory_set.cpus_len = 5;
    cr_assert_eq(commit_system(&inventory, 1), VDC_RC_OK, "a new one is as good: %s",
                 b.result.text);
}

/* --- a fault at each place of a transaction --- */

#define OPS_MAX 48
#define IO 50 /* the node's own I/O partition */
#define WEB 1
#define BYSTANDER 70 /* stays through all */

static struct vdc_op on_device(enum vdc_op_kind kind, uint64_t id, const char *address)
{
    struct vdc_op op = {.kind = kind};
    if (kind == VDC_OP_DEVICE_ADD) {
        vdc_str_set(op.device_add.address, VDC_DEVICE_ADDRESS_CAP, address);
    } else if (kind == VDC_OP_DEVICE_REMOVE) {
        vdc_str_set(op.device_remove.address, VDC_DEVICE_ADDRESS_CAP, address);
    } else {
        op.device_attach.id = id_of(id);
        vdc_str_set(op.device_attach.address, VDC_DEVICE_ADDRESS_CAP, address);
    }
    return op;
}

static struct vdc_op on_volume(enum vdc_op_kind kind, uint64_t id, uint64_t volume)
{
    struct vdc_op op = {.kind = kind};
    if (kind == VDC_OP_VOLUME_ATTACH) {
        op.volume_attach = (struct vdc_op_volume_attach){.id = id_of(id),
                                                         .generation = 1,
                                                         .volume = id_of(1000 + volume),
                                                         .mode = VDC_VOLUME_WRITE};
    } else {
        op.volume_detach =
            (struct vdc_op_volume_detach){.id = id_of(id), .volume = id_of(1000 + volume)};
    }
    return op;
}

static struct vdc_op on_port(enum vdc_op_kind kind, uint64_t id, uint8_t number)
{
    struct vdc_op op = {.kind = kind};
    const uint8_t mac[6] = {2, 0, 0, 0, 0, number};
    if (kind == VDC_OP_PORT_CONNECT) {
        op.port_connect.id = id_of(id);
        memcpy(op.port_connect.mac, mac, sizeof(mac));
        (void)snprintf(op.port_connect.name, VDC_PORT_NAME_CAP, "vdc%u", number);
        vdc_str_set(op.port_connect.network, VDC_NAME_CAP, "lan");
    } else {
        op.port_disconnect.id = id_of(id);
        memcpy(op.port_disconnect.mac, mac, sizeof(mac));
    }
    return op;
}

static struct vdc_op connect_channel(uint64_t channel, uint64_t from, uint64_t bytes)
{
    return (struct vdc_op){.kind = VDC_OP_CHANNEL_CONNECT,
                           .channel_connect = {.channel = id_of(2000 + channel),
                                               .endpoint = {id_of(from), id_of(IO)},
                                               .type = VDC_CHANNEL_BLOCK,
                                               .version = 1,
                                               .bytes = bytes,
                                               .numa = VDC_NUMA_ANY}};
}

static struct vdc_op disconnect_channel(uint64_t channel)
{
    return (struct vdc_op){.kind = VDC_OP_CHANNEL_DISCONNECT,
                           .channel_disconnect = {.channel = id_of(2000 + channel)}};
}

static struct vdc_op promise_away(const char *node, uint64_t incarnation)
{
    struct vdc_op op = {.kind = VDC_OP_FENCE_PROMISE,
                        .fence_promise = {.incarnation = incarnation}};
    vdc_str_set(op.fence_promise.node, VDC_NAME_CAP, node);
    return op;
}

static struct vdc_op give_to(const char *zone, uint64_t bytes, const char *address)
{
    static const uint16_t cpus[] = {9};
    struct vdc_op op = {.kind = VDC_OP_ZONE_TRANSFER,
                        .zone_transfer = {.cpus = cpus, .cpus_len = 1, .memory_bytes = bytes}};
    vdc_str_set(op.zone_transfer.to, VDC_NAME_CAP, zone);
    vdc_str_set(op.zone_transfer.device, VDC_DEVICE_ADDRESS_CAP, address);
    return op;
}

static struct vdc_op set_incarnation(uint64_t incarnation)
{
    return (struct vdc_op){.kind = VDC_OP_INCARNATION_SET,
                           .incarnation_set = {.incarnation = incarnation}};
}

static struct vdc_op set_generation(uint64_t id, uint64_t generation, uint64_t next)
{
    return (struct vdc_op){
        .kind = VDC_OP_PARTITION_SET_GENERATION,
        .partition_set_generation = {.id = id_of(id), .generation = generation, .next = next}};
}

static struct vdc_op set_config(uint64_t id, const char *config)
{
    return (struct vdc_op){.kind = VDC_OP_PARTITION_SET_CONFIG,
                           .partition_set_config = {.id = id_of(id),
                                                    .generation = 1,
                                                    .config = (const uint8_t *)config,
                                                    .config_len = (uint32_t)strlen(config)}};
}

static struct vdc_op release_cpus(uint64_t id)
{
    return (struct vdc_op){.kind = VDC_OP_CPU_RELEASE, .cpu_release = {.id = id_of(id)}};
}

static struct vdc_op release_memory(uint64_t id)
{
    return (struct vdc_op){.kind = VDC_OP_MEMORY_RELEASE, .memory_release = {.id = id_of(id)}};
}

/* A zone beside, an I/O partition and two devices of the node, one partition with all that there is. */
static void populate(void)
{
    struct vdc_op beside = op_zone_set(0, 0, 1000);
    struct vdc_tx tx = tx_of(&b, &beside, 1);
    vdc_str_set(tx.zone, sizeof(tx.zone), "test");
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_OK, "%s", b.result.text);
    struct vdc_op own[] = {op_create(IO, "io-a"),
                           on_device(VDC_OP_DEVICE_ADD, 0, "nvme0"),
                           on_device(VDC_OP_DEVICE_ADD, 0, "eth0"),
                           {.kind = VDC_OP_ZONE_TRANSFER},
                           set_incarnation(1)};
    own[0].partition_create.kind = VDC_PARTITION_IO;
    vdc_str_set(own[3].zone_transfer.to, VDC_NAME_CAP, "prod");
    vdc_str_set(own[3].zone_transfer.device, VDC_DEVICE_ADDRESS_CAP, "nvme0");
    cr_assert_eq(commit_system(own, VDC_COUNT_OF(own)), VDC_RC_OK, "%s", b.result.text);
    struct vdc_op ops[] = {
        op_create(BYSTANDER, "bystander"),
        op_create(WEB, "web"),
        op_any(WEB, 2, 0),
        op_memory(WEB, 0, 1 * GIB + 6 * MIB),
        on_device(VDC_OP_DEVICE_ATTACH, WEB, "nvme0"),
        on_volume(VDC_OP_VOLUME_ATTACH, WEB, 1),
        on_port(VDC_OP_PORT_CONNECT, WEB, 1),
        connect_channel(1, WEB, 20 * KIB),
        promise_away("n7", 4),
        set_incarnation(3),
    };
    cr_assert_eq(commit(&b, ops, VDC_COUNT_OF(ops)), VDC_RC_OK, "%s", b.result.text);
}

/* One that is refused, of each kind that can be in a transaction with others. Returns their number. */
static uint32_t make_faults(struct vdc_op *faults)
{
    uint32_t len = 0;
    faults[len] = op_zone_set(0, 0, 1000);
    faults[len++].zone_set.cpu.amount = 99;
    faults[len++] = (struct vdc_op){.kind = VDC_OP_ZONE_LEAVE};
    faults[len++] = set_incarnation(1);
    faults[len++] = op_create(BYSTANDER, "again");
    faults[len++] = op_run(99, 1, VDC_RUN_PAUSED);
    faults[len++] = set_generation(99, 1, 2);
    faults[len++] = set_config(99, "x");
    faults[len++] = op_destroy(99, 1);
    faults[len++] = op_any(99, 1, VDC_NUMA_ANY);
    faults[len++] = release_cpus(99);
    faults[len++] = op_memory(99, VDC_NUMA_ANY, 2 * MIB);
    faults[len++] = release_memory(99);
    faults[len++] = on_device(VDC_OP_DEVICE_ADD, 0, "nvme0");
    faults[len++] = on_device(VDC_OP_DEVICE_REMOVE, 0, "nothing");
    faults[len++] = on_device(VDC_OP_DEVICE_ATTACH, 99, "nvme0");
    faults[len++] = on_device(VDC_OP_DEVICE_DETACH, 99, "nvme0");
    faults[len++] = on_volume(VDC_OP_VOLUME_ATTACH, 99, 1);
    faults[len++] = on_volume(VDC_OP_VOLUME_DETACH, 99, 1);
    faults[len++] = on_port(VDC_OP_PORT_CONNECT, 99, 9);
    faults[len++] = on_port(VDC_OP_PORT_DISCONNECT, 99, 1);
    faults[len++] = connect_channel(9, 99, 4 * KIB);
    faults[len++] = disconnect_channel(99);
    faults[len++] = promise_away("n7", 1);
    faults[len++] = give_to("nowhere", 4 * KIB, "");
    return len;
}

static void snapshot(struct vdc_buf *out)
{
    vdc_buf_clear(out);
    vdc_allocdb_snapshot(b.db, out);
}

/* Each fault behind each of the first operations. Without a request id not even the refusal is kept,
 * so the whole snapshot must be what it was. Then the transaction without a fault. In a fresh zone
 * there is nothing yet with which some operations collide. */
static void fault_everywhere(const struct vdc_tx *tx, bool fresh)
{
    struct vdc_op faults[OPS_MAX];
    uint32_t faults_len = make_faults(faults);
    struct vdc_buf before = {0};
    struct vdc_buf after = {0};
    struct vdc_err err = {0};
    snapshot(&before);
    for (uint32_t at = 0; at <= tx->ops_len; at++) {
        for (uint32_t f = 0; f < faults_len; f++) {
            struct vdc_op ops[OPS_MAX + 1];
            if (fresh &&
                (faults[f].kind == VDC_OP_ZONE_LEAVE || faults[f].kind == VDC_OP_INCARNATION_SET ||
                 faults[f].kind == VDC_OP_FENCE_PROMISE)) {
                continue;
            }
            memcpy(ops, tx->ops, at * sizeof(ops[0]));
            ops[at] = faults[f];
            memcpy(&ops[at + 1], &tx->ops[at], (tx->ops_len - at) * sizeof(ops[0]));
            struct vdc_tx broken = *tx;
            broken.request_id = (struct vdc_id){0};
            broken.ops = ops;
            broken.ops_len = tx->ops_len + 1;
            enum vdc_rc rc = vdc_allocdb_commit(b.db, &broken, &b.result, &b.record);
            cr_assert_neq(rc, VDC_RC_OK, "%s behind %u", vdc_op_name(faults[f].kind), at);
            cr_assert_eq(b.result.op, at, "%s", b.result.text);
            snapshot(&after);
            cr_assert(before.len == after.len && memcmp(before.data, after.data, after.len) == 0,
                      "%s behind %u left a trace", vdc_op_name(faults[f].kind), at);
        }
        cr_assert_eq(vdc_allocdb_check(b.db, &err), VDC_RC_OK, "behind %u: %s", at, err.text);
    }
    cr_assert_eq(commit_tx(&b, tx), VDC_RC_OK, "%s", b.result.text);
    vdc_buf_deinit(&before);
    vdc_buf_deinit(&after);
}

Test(allocdb_edges, a_fault_behind_any_operation_of_a_zones_transaction_leaves_no_trace)
{
    populate();
    struct vdc_op ops[] = {
        op_zone_set(900, 1000, 5000),
        {.kind = VDC_OP_ZONE_EPOCH},
        set_incarnation(9),
        op_create(2, "db"),
        op_run(2, 1, VDC_RUN_PAUSED),
        set_config(2, "another"),
        op_shared(2, 700),
        release_cpus(2),
        op_any(2, 1, VDC_NUMA_ANY),
        op_memory(2, VDC_NUMA_ANY, 4 * GIB),
        on_device(VDC_OP_DEVICE_DETACH, WEB, "nvme0"),
        on_device(VDC_OP_DEVICE_ATTACH, 2, "nvme0"),
        on_volume(VDC_OP_VOLUME_DETACH, WEB, 1),
        on_volume(VDC_OP_VOLUME_ATTACH, 2, 1),
        on_port(VDC_OP_PORT_DISCONNECT, WEB, 1),
        on_port(VDC_OP_PORT_CONNECT, 2, 1),
        disconnect_channel(1),
        connect_channel(1, 2, 3 * MIB),
        promise_away("n7", 5),
        promise_away("n8", 1),
        set_generation(2, 1, 4),
        op_shared(BYSTANDER, 300), /* the same on a partition that was there before */
        op_run(BYSTANDER, 1, VDC_RUN_PAUSED),
        set_config(BYSTANDER, "another"),
        op_memory(BYSTANDER, 1, 2 * MIB),
        on_volume(VDC_OP_VOLUME_ATTACH, BYSTANDER, 9),
        set_generation(BYSTANDER, 1, 2),
        release_cpus(BYSTANDER),
        op_any(BYSTANDER, 1, 1),
        release_memory(WEB),
        release_cpus(WEB),
        op_destroy(WEB, 1),
        op_create(WEB, "web-again"),
        op_memory(WEB, 0, 2 * MIB),
    };
    struct vdc_tx tx = tx_of(&b, ops, VDC_COUNT_OF(ops));
    tx.epoch = 3;
    fault_everywhere(&tx, false);
}

Test(allocdb_edges, a_fault_behind_any_operation_of_the_nodes_transaction_leaves_no_trace)
{
    populate();
    struct vdc_op ops[] = {
        on_device(VDC_OP_DEVICE_ADD, 0, "nvme1"),
        on_device(VDC_OP_DEVICE_REMOVE, 0, "eth0"),
        on_device(VDC_OP_DEVICE_ATTACH, IO, "nvme1"),
        set_incarnation(2),
        op_create(51, "io-b"),
        on_volume(VDC_OP_VOLUME_ATTACH, IO, 7),
        on_port(VDC_OP_PORT_CONNECT, IO, 7),
        op_run(IO, 1, VDC_RUN_PAUSED),
        op_destroy(IO, 1), /* and with it the channel of prod's partition, and nvme1 is free */
        on_device(VDC_OP_DEVICE_REMOVE, 0, "nvme1"),
        op_create(IO, "io-a"),
    };
    struct vdc_tx tx = tx_of(&b, ops, VDC_COUNT_OF(ops));
    tx.zone[0] = 0;
    tx.role = VDC_ROLE_SYSTEM;
    tx.epoch = 0;
    fault_everywhere(&tx, false);
}

Test(allocdb_edges, a_fault_behind_any_operation_of_a_new_zones_transaction_leaves_no_trace)
{
    must(op_zone_set(500, 500, 1000)); /* the other half is for the new one */
    populate();
    struct vdc_op ops[] = {
        op_zone_set(250, 250, 2000), /* makes the zone: CPUs 6 and 9 */
        set_incarnation(2),
        op_create(60, "p"),
        op_memory(60, 1, 2 * GIB / 2),
        op_shared(60, 1500),
        promise_away("n7", 5),
        op_destroy(60, 1),
        {.kind = VDC_OP_ZONE_TRANSFER},
    };
    static const uint16_t last[] = {5};
    struct vdc_op_zone_transfer *give = &ops[VDC_COUNT_OF(ops) - 1].zone_transfer;
    vdc_str_set(give->to, VDC_NAME_CAP, "test");
    give->cpus = last;
    give->cpus_len = 1;
    struct vdc_tx tx = tx_of(&b, ops, VDC_COUNT_OF(ops));
    vdc_str_set(tx.zone, sizeof(tx.zone), "fresh");
    fault_everywhere(&tx, true);
}

Test(allocdb_edges, a_fault_behind_any_operation_of_a_claim_leaves_no_trace)
{
    populate();
    must(on_device(VDC_OP_DEVICE_DETACH, WEB, "nvme0"));
    struct vdc_op ops[] = {
        op_create(2, "db"),
        op_any(2, 1, VDC_NUMA_ANY),
        op_memory(2, VDC_NUMA_ANY, 100 * MIB),
        on_device(VDC_OP_DEVICE_ATTACH, 2, "nvme0"),
        on_volume(VDC_OP_VOLUME_ATTACH, 2, 2),
        on_port(VDC_OP_PORT_CONNECT, 2, 2),
        connect_channel(2, 2, 3 * MIB),
        op_create(3, "cache"),
        op_shared(3, 500),
    };
    struct vdc_tx tx = tx_of(&b, ops, VDC_COUNT_OF(ops));
    tx.kind = VDC_TX_PREPARE;
    tx.claim = id_of(77);
    fault_everywhere(&tx, false);
}

/* --- many want the last one --- */

#define CLIENTS 8

/* The `first`-th of the clients asks first; one wins, and repeating changes nothing. */
static void race(const struct vdc_op *wishes, uint32_t first, enum vdc_tx_rule rule)
{
    struct vdc_tx txs[CLIENTS];
    struct vdc_tx_result answers[CLIENTS];
    for (uint32_t i = 0; i < CLIENTS; i++) {
        uint32_t client = (first + i) % CLIENTS;
        txs[client] = tx_of(&b, &wishes[client], 1);
        enum vdc_rc rc = commit_tx(&b, &txs[client]);
        cr_assert_eq(rc == VDC_RC_OK, i == 0, "client %u: %s", client, b.result.text);
        cr_assert(i == 0 || b.result.rule == rule, "%s", b.result.text);
        answers[client] = b.result;
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        (void)commit_tx(&b, &txs[i]);
        cr_assert(b.result.repeated && b.result.rc == answers[i].rc &&
                      b.result.sequence == answers[i].sequence &&
                      strcmp(b.result.text, answers[i].text) == 0,
                  "client %u: %s", i, b.result.text);
    }
}

static struct vdc_op wish(enum vdc_op_kind kind, uint64_t id)
{
    if (kind == VDC_OP_MEMORY_ASSIGN) {
        return op_memory(id, 0, 2 * MIB);
    }
    if (kind == VDC_OP_DEVICE_ATTACH) {
        return on_device(kind, id, "nvme0");
    }
    if (kind == VDC_OP_VOLUME_ATTACH) {
        return on_volume(kind, id, 3);
    }
    return kind == VDC_OP_PORT_CONNECT ? on_port(kind, id, 3) : op_any(id, 1, VDC_NUMA_ANY);
}

Test(allocdb_edges, one_of_many_gets_the_last_of_anything)
{
    static const struct {
        enum vdc_op_kind kind;
        enum vdc_tx_rule rule;
    } races[] = {{VDC_OP_CPU_ASSIGN, VDC_RULE_CPU_FREE},
                 {VDC_OP_MEMORY_ASSIGN, VDC_RULE_MEMORY_FREE},
                 {VDC_OP_DEVICE_ATTACH, VDC_RULE_DEVICE_BUSY},
                 {VDC_OP_VOLUME_ATTACH, VDC_RULE_VOLUME_BUSY},
                 {VDC_OP_PORT_CONNECT, VDC_RULE_PORT_BUSY}};
    populate();
    must(op_destroy(WEB, 1));
    struct vdc_op hog[] = {op_create(WEB, "hog"), op_any(WEB, 7, VDC_NUMA_ANY),
                           op_memory(WEB, 0, 3 * GIB - 2 * MIB)};
    cr_assert_eq(commit(&b, hog, 3), VDC_RC_OK, "%s", b.result.text);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        must(op_create(10 + i, "client"));
    }
    for (size_t r = 0; r < VDC_COUNT_OF(races); r++) {
        for (uint32_t first = 0; first < CLIENTS; first++) {
            struct vdc_op wishes[CLIENTS];
            for (uint32_t i = 0; i < CLIENTS; i++) {
                wishes[i] = wish(races[r].kind, 10 + i);
            }
            race(wishes, first, races[r].rule);
            /* The winner leaves it to the next round. */
            must(op_destroy(10 + first, 1));
            must(op_create(10 + first, "client"));
        }
    }
}

/* --- request ids --- */

/* Odd requests are refused. The guard makes each answer another one. */
static void make_request(uint64_t number, struct vdc_op *op, struct vdc_tx *tx)
{
    *op = number % 2 == 0 ? op_run(WEB, 1, (enum vdc_run)(number / 2 % 4))
                          : op_run(WEB, 1000 + number, VDC_RUN_PAUSED);
    *tx = tx_of(&b, op, 1);
    tx->request_id = id_of(UINT64_C(1) << 50 | number);
}

static bool is_answer(const struct vdc_tx_result *is, uint64_t number, uint64_t sequence)
{
    bool refused = number % 2 == 1;
    return is->repeated && is->sequence == sequence && is->largest == 0 &&
           is->rc == (refused ? VDC_RC_STALE : VDC_RC_OK) &&
           is->rule == (refused ? VDC_RULE_GENERATION : VDC_RULE_NONE) &&
           is->op == (refused ? 0 : VDC_TX_OP_NONE) && is->asked == (refused ? 1000 + number : 0) &&
           is->free == (refused ? 1 : 0) && (strstr(is->text, "generation") != NULL) == refused;
}

/* Of the requests 0 .. len - 1 the last `kept` get their first answers; nothing else happens. */
static void compare_kept(struct vdc_allocdb *db, uint64_t len, uint64_t kept, uint64_t first)
{
    struct vdc_op op;
    struct vdc_tx tx;
    uint64_t sequence = vdc_allocdb_sequence(db);
    for (uint64_t number = len - kept; number < len; number++) {
        make_request(number, &op, &tx);
        (void)vdc_allocdb_commit(db, &tx, &b.result, &b.record);
        cr_assert(is_answer(&b.result, number, first + number), "request %lu: %s",
                  (unsigned long)number, b.result.text);
        cr_assert_eq(b.record.len, 0);
    }
    cr_assert_eq(vdc_allocdb_sequence(db), sequence);
}

Test(allocdb_edges, the_last_65536_answers_are_kept_also_by_replicas_and_snapshots)
{
    const uint64_t more = 10;
    const uint64_t len = VDC_ALLOCDB_REQUESTS_MAX + more;
    struct vdc_err err = {0};
    struct vdc_op op;
    struct vdc_tx tx;
    cr_assert_eq(VDC_ALLOCDB_REQUESTS_MAX, 65536);
    must(op_create(WEB, "web"));
    uint64_t first = vdc_allocdb_sequence(b.db) + 1;
    for (uint64_t number = 0; number < len; number++) {
        make_request(number, &op, &tx);
        (void)vdc_allocdb_commit(b.db, &tx, &b.result, &b.record);
        cr_assert_not(b.result.repeated);
        cr_assert_eq(b.result.sequence, first + number, "refusals are recorded too");
        cr_assert_eq(vdc_allocdb_apply_record(b.replica, b.record.data, b.record.len, &err),
                     VDC_RC_OK, "%s", err.text);
    }
    compare_kept(b.db, len, VDC_ALLOCDB_REQUESTS_MAX, first);
    compare_kept(b.replica, len, VDC_ALLOCDB_REQUESTS_MAX, first);
    struct vdc_buf bytes = {0};
    struct vdc_allocdb *restarted;
    vdc_allocdb_snapshot(b.db, &bytes);
    cr_assert_eq(vdc_allocdb_restore(bytes.data, bytes.len, &restarted, &err), VDC_RC_OK, "%s",
                 err.text);
    compare_kept(restarted, len, VDC_ALLOCDB_REQUESTS_MAX, first);
    /* The ring goes on where it was: the next ones push out the oldest, one by one. */
    for (uint64_t number = 0; number < more; number++) {
        make_request(number, &op, &tx);
        (void)vdc_allocdb_commit(restarted, &tx, &b.result, &b.record);
        cr_assert_not(b.result.repeated, "request %lu was forgotten", (unsigned long)number);
    }
    make_request(2 * more - 1, &op, &tx);
    (void)vdc_allocdb_commit(restarted, &tx, &b.result, &b.record);
    cr_assert_not(b.result.repeated, "pushed out by the ten");
    make_request(2 * more + 1, &op, &tx);
    (void)vdc_allocdb_commit(restarted, &tx, &b.result, &b.record);
    cr_assert(b.result.repeated, "not yet");
    vdc_allocdb_destroy(restarted);
    vdc_buf_deinit(&bytes);
}

Test(allocdb_edges, a_zone_that_was_never_here_leaves_no_answer)
{
    struct vdc_op op = op_run(WEB, 1, VDC_RUN_PAUSED);
    struct vdc_tx txs[] = {tx_of(&b, &op, 1), tx_of(&b, NULL, 0), tx_of(&b, NULL, 0)};
    txs[1].kind = VDC_TX_COMMIT_CLAIM;
    txs[1].claim = id_of(5);
    txs[2].kind = VDC_TX_ABORT_CLAIM;
    txs[2].claim = id_of(5);
    for (size_t i = 0; i < VDC_COUNT_OF(txs); i++) {
        vdc_str_set(txs[i].zone, sizeof(txs[i].zone), "elsewhere");
        cr_assert_eq(commit_tx(&b, &txs[i]), VDC_RC_NOT_FOUND);
        cr_assert_eq(b.record.len, 0, "%zu: %s", i, b.result.text);
        cr_assert_eq(commit_tx(&b, &txs[i]), VDC_RC_NOT_FOUND);
        cr_assert_not(b.result.repeated);
    }
}

/* --- the page map --- */

/* The steps to the owner of each page of [from, from + bytes), which must be the partition's. */
static void count_steps(uint64_t id, uint32_t numa, uint64_t from, uint64_t bytes,
                        uint64_t pages[4])
{
    struct vdc_id key = id_of(id);
    const struct vdc_partition *owner = vdc_allocdb_find_partition(b.db, &key);
    for (uint64_t at = from; at < from + bytes; at += 4 * KIB) {
        unsigned steps = 99;
        cr_assert_eq(vdc_allocdb_memory_owner(b.db, numa, at, &steps), owner);
        cr_assert(steps >= 1 && steps <= 3, "%u steps", steps);
        pages[steps]++;
    }
}

static unsigned steps_to(uint32_t numa, uint64_t addr)
{
    unsigned steps = 99;
    (void)vdc_allocdb_memory_owner(b.db, numa, addr, &steps);
    return steps;
}

Test(allocdb_edges, an_odd_size_takes_few_large_blocks_and_small_ones_at_its_edge)
{
    const uint64_t bytes = 2 * GIB + 6 * MIB + 20 * KIB;
    uint64_t pages[4] = {0};
    struct vdc_op create = op_create(1, "odd");
    create.partition_create.kind = VDC_PARTITION_SYSTEM;
    must(create);
    must(op_memory(1, 0, bytes));
    struct vdc_id id = id_of(1);
    const struct vdc_partition *odd = vdc_allocdb_find_partition(b.db, &id);
    cr_assert_leq(odd->blocks_len, 3, "one run of each size at most");
    for (uint32_t i = 0; i < odd->blocks_len; i++) {
        count_steps(1, 0, odd->blocks[i].addr, odd->blocks[i].bytes, pages);
    }
    /* Each step is one tier: 1 GiB blocks, then 2 MiB blocks, then 4 KiB blocks. */
    cr_assert_eq(pages[1], 2 * GIB / (4 * KIB), "2 blocks of 1 GiB");
    cr_assert_eq(pages[2], 3 * 512, "3 blocks of 2 MiB");
    cr_assert_eq(pages[3], 5, "5 blocks of 4 KiB");
}

static bool next_permutation(uint32_t *order, uint32_t len)
{
    uint32_t i = len - 1;
    while (i > 0 && order[i - 1] > order[i]) {
        i--;
    }
    if (i == 0) {
        return false;
    }
    uint32_t j = len - 1;
    while (order[j] < order[i - 1]) {
        j--;
    }
    uint32_t swap = order[i - 1];
    order[i - 1] = order[j];
    order[j] = swap;
    for (uint32_t k = len - 1; i < k; i++, k--) {
        swap = order[i];
        order[i] = order[k];
        order[k] = swap;
    }
    return true;
}

/* The fifth is a channel of 4 KiB blocks: its first endpoint is partition 6. */
#define HOLDERS 5

static void hold_all(void)
{
    static const uint64_t sizes[HOLDERS - 1] = {4 * KIB, 2 * MIB + 4 * KIB, 511 * 4 * KIB,
                                                1 * GIB - 2 * MIB};
    for (uint32_t i = 0; i < HOLDERS - 1; i++) {
        struct vdc_op ops[] = {op_create(1 + i, "holder"), op_memory(1 + i, 0, sizes[i])};
        ops[0].partition_create.kind = VDC_PARTITION_SYSTEM;
        cr_assert_eq(commit(&b, ops, 2), VDC_RC_OK, "%s", b.result.text);
    }
    struct vdc_op ops[] = {op_create(6, "web"), connect_channel(1, 6, 12 * KIB)};
    ops[1].channel_connect.numa = 0;
    cr_assert_eq(commit(&b, ops, 2), VDC_RC_OK, "%s", b.result.text);
}

Test(allocdb_edges, buddies_merge_into_one_free_block_whatever_goes_first)
{
    uint32_t order[HOLDERS] = {0, 1, 2, 3, 4};
    struct vdc_op io = op_create(IO, "io-a");
    io.partition_create.kind = VDC_PARTITION_IO;
    cr_assert_eq(commit_system(&io, 1), VDC_RC_OK);
    /* The odd end of 12 KiB is taken, so that the first 2 MiB must be broken. */
    struct vdc_op end[] = {op_create(40, "end"), op_memory(40, 0, 12 * KIB)};
    end[0].partition_create.kind = VDC_PARTITION_SYSTEM;
    cr_assert_eq(commit(&b, end, 2), VDC_RC_OK);
    struct vdc_digest empty = vdc_allocdb_digest(b.db);
    do {
        hold_all();
        cr_assert_eq(steps_to(0, 0), 3, "the first 2 MiB are broken");
        for (uint32_t i = 0; i < HOLDERS; i++) {
            must(op_destroy(order[i] == HOLDERS - 1 ? 6 : 1 + order[i], 1));
        }
        struct vdc_digest is = vdc_allocdb_digest(b.db);
        struct vdc_numa_state numa;
        cr_assert(vdc_digest_equal(&is, &empty));
        cr_assert(vdc_allocdb_numa_at(b.db, 0, &numa));
        cr_assert_eq(numa.free_bytes, 3 * GIB);
        cr_assert_eq(numa.largest_free_bytes, 1 * GIB);
        for (uint64_t gib = 0; gib < 3; gib++) {
            cr_assert_eq(steps_to(0, gib * GIB + 4 * KIB), 1, "GiB %lu is whole again",
                         (unsigned long)gib);
        }
        cr_assert_eq(steps_to(0, 3 * GIB), 3, "the odd end is never whole");
    } while (next_permutation(order, HOLDERS));
}

Test(allocdb_edges, channels_share_one_broken_2_mib_block)
{
    struct vdc_op io = op_create(IO, "io-a");
    io.partition_create.kind = VDC_PARTITION_IO;
    cr_assert_eq(commit_system(&io, 1), VDC_RC_OK);
    must(op_create(WEB, "web"));
    must(op_memory(WEB, 0, 3 * GIB));
    must(op_memory(WEB, 1, 3 * GIB - 2 * MIB));
    /* Left: the odd ends of 12 KiB, and 2 MiB of NUMA node 1. */
    struct vdc_id id;
    for (uint64_t i = 0; i < 3 + 3 + 512; i++) {
        must(connect_channel(i, WEB, 4 * KIB));
        id = id_of(2000 + i);
        const struct vdc_entry *channel = vdc_allocdb_find_channel(b.db, &id);
        cr_assert_eq(channel->channel.blocks_len, 1);
        cr_assert_eq(channel->channel.blocks[0].numa, i < 3 ? 0 : 1);
        cr_assert_eq(vdc_allocdb_memory_channel(b.db, channel->channel.blocks[0].numa,
                                                channel->channel.blocks[0].addr),
                     channel);
        /* The odd end of node 1 first: what is broken already is used up before more is broken. */
        cr_assert(i < 3 || i >= 6 || channel->channel.blocks[0].addr >= 3 * GIB);
    }
    struct vdc_op one_more = connect_channel(999, WEB, 4 * KIB);
    cr_assert_eq(commit(&b, &one_more, 1), VDC_RC_NO_SPACE);
    cr_assert_eq(b.result.free, 0);
    for (uint64_t i = 0; i < 3 + 3 + 512; i += 2) {
        must(disconnect_channel(i));
    }
    struct vdc_numa_state numa;
    cr_assert(vdc_allocdb_numa_at(b.db, 1, &numa));
    cr_assert_eq(numa.largest_free_bytes, 4 * KIB, "every other page is a channel's");
    for (uint64_t i = 1; i < 3 + 3 + 512; i += 2) {
        must(disconnect_channel(i));
    }
    cr_assert(vdc_allocdb_numa_at(b.db, 1, &numa));
    cr_assert_eq(numa.largest_free_bytes, 2 * MIB);
    must(op_memory(WEB, 1, 2 * MIB));
}

/* --- the digest --- */

/* Commits each alone; none may leave the digest as it was, nor bring an earlier one back. */
static void each_changes_the_digest(const struct vdc_op *ops, uint32_t len)
{
    struct vdc_digest seen[64];
    cr_assert_lt(len, VDC_COUNT_OF(seen));
    seen[0] = vdc_allocdb_digest(b.db);
    for (uint32_t i = 0; i < len; i++) {
        must(ops[i]);
        seen[i + 1] = vdc_allocdb_digest(b.db);
        for (uint32_t k = 0; k <= i; k++) {
            cr_assert_not(vdc_digest_equal(&seen[i + 1], &seen[k]), "%s (%u)",
                          vdc_op_name(ops[i].kind), i);
        }
    }
}

Test(allocdb_edges, every_change_of_a_record_is_in_the_digest)
{
    populate();
    const struct vdc_op shares[] = {op_zone_set(900, 1000, 5000), op_zone_set(900, 900, 5000),
                                    op_zone_set(900, 900, 6000)};
    each_changes_the_digest(shares, VDC_COUNT_OF(shares));
    struct vdc_op read = on_volume(VDC_OP_VOLUME_ATTACH, 2, 5);
    read.volume_attach.mode = VDC_VOLUME_READ;
    struct vdc_op reattached = on_volume(VDC_OP_VOLUME_ATTACH, 2, 5);
    reattached.volume_attach.generation = 4;
    const struct vdc_op ops[] = {
        set_incarnation(9),
        op_create(2, "db"),
        op_run(2, 1, VDC_RUN_PAUSED),
        set_config(2, "another"),
        op_shared(2, 700),
        op_shared(2, 1),
        op_memory(2, VDC_NUMA_ANY, 4 * MIB),
        on_device(VDC_OP_DEVICE_DETACH, WEB, "nvme0"),
        on_device(VDC_OP_DEVICE_ATTACH, 2, "nvme0"),
        read,
        on_volume(VDC_OP_VOLUME_ATTACH, 2, 5),
        set_generation(2, 1, 4),
        reattached,
        on_port(VDC_OP_PORT_CONNECT, 2, 2),
        connect_channel(2, 2, 3 * MIB),
        connect_channel(3, 2, 4 * KIB),
        promise_away("n7", 5),
        promise_away("n8", 1),
    };
    each_changes_the_digest(ops, VDC_COUNT_OF(ops));
    b.epoch = 99;
    const struct vdc_op epoch = {.kind = VDC_OP_ZONE_EPOCH};
    each_changes_the_digest(&epoch, 1);
}

Test(allocdb_edges, every_field_of_a_partition_and_a_channel_is_in_the_digest)
{
    populate();
    struct vdc_op ops[16];
    struct vdc_digest digests[16];
    uint32_t len = VDC_COUNT_OF(ops);
    for (uint32_t i = 0; i < len; i++) {
        ops[i] = i < 10 ? op_create(2, "db") : connect_channel(2, WEB, 8 * KIB);
        if (i >= 10) {
            ops[i].channel_connect.numa = 0;
        }
    }
    vdc_str_set(ops[1].partition_create.name, VDC_NAME_CAP, "dc");
    vdc_str_set(ops[2].partition_create.tenant, VDC_NAME_CAP, "");
    vdc_str_set(ops[3].partition_create.class_name, VDC_NAME_CAP, "silver");
    ops[4].partition_create.kind = VDC_PARTITION_IO;
    ops[5].partition_create.generation = 2;
    ops[6].partition_create.run = VDC_RUN_STOPPED;
    ops[7].partition_create.vcpus = 3;
    ops[8].partition_create.memory_bytes = 1;
    ops[9].partition_create.config_len = 1;
    ops[11].channel_connect.type = VDC_CHANNEL_CONSOLE;
    ops[12].channel_connect.version = 2;
    ops[13].channel_connect.bytes = 4 * KIB;
    ops[14].channel_connect.numa = 1;
    ops[15].channel_connect.endpoint[1] = id_of(BYSTANDER);
    for (uint32_t i = 0; i < len; i++) {
        must(ops[i]);
        digests[i] = vdc_allocdb_digest(b.db);
        for (uint32_t k = 0; k < i; k++) {
            cr_assert_not(vdc_digest_equal(&digests[k], &digests[i]), "%u and %u", k, i);
        }
        must(i < 10 ? op_destroy(2, ops[i].partition_create.generation) : disconnect_channel(2));
    }
}
