/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries against a naive model: flat arrays and linear search. Random transactions of one to three
 * operations; the model says beforehand which operation is refused by which rule, and afterwards
 * every entry, slice and counter must agree, and a replica's digest too.
 *
 * VDC_MODEL_OPS and VDC_MODEL_SEED make longer and other runs.
 */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <vdc/prng.h>

#include "ultravisor_support.h"

#define OPS_DEFAULT 40000
#define SEED_DEFAULT 20261122
#define IDS 10
#define DEVICES 4
#define VOLUMES 3
#define PORTS 6 /* MAC addresses; one name fewer */
#define CHANNELS 6
#define NODES 3
#define CPUS 8
#define ZONES 3 /* prod, test, the node's own */
#define OWN 2
#define PAGE (4 * KIB)

static const uint16_t CPU_NUMBERS[CPUS] = {0, 1, 2, 3, 4, 5, 6, 9};
static const char *const ZONE_NAMES[ZONES] = {"prod", "test", ""};
static const char *const NAMES[NODES] = {"n0", "n1", "n2"};

/* All numbers are -1 for none. */
struct model {
    struct {
        int zone;
        uint64_t generation;
    } p[IDS];
    struct {
        bool exists;
        int zone;
        int owner;
    } device[DEVICES];
    struct {
        int mode; /* 0: none, 1 + enum vdc_volume_mode */
        uint64_t generation;
    } use[VOLUMES][IDS];
    struct {
        int owner;
        int name;
    } port[PORTS];
    struct {
        int a, b;
        uint64_t pages;
    } channel[CHANNELS];
    uint64_t promise[ZONES][NODES];
    int cpu_zone[CPUS];
    uint64_t pages[ZONES];
};

static struct model m;
static struct vdc_prng prng;

static int below(int bound)
{
    return (int)vdc_prng_below(&prng, (uint64_t)bound);
}

static uint64_t pages_used(int zone)
{
    uint64_t sum = 0;
    for (int c = 0; c < CHANNELS; c++) {
        sum += m.channel[c].a >= 0 && m.p[m.channel[c].a].zone == zone ? m.channel[c].pages : 0;
    }
    return sum;
}

static enum vdc_tx_rule find(int id, int zone)
{
    if (m.p[id].zone < 0) {
        return VDC_RULE_UNKNOWN_PARTITION;
    }
    return m.p[id].zone == zone ? VDC_RULE_NONE : VDC_RULE_ZONE;
}

static void drop_partition(int id)
{
    for (int d = 0; d < DEVICES; d++) {
        m.device[d].owner = m.device[d].owner == id ? -1 : m.device[d].owner;
    }
    for (int v = 0; v < VOLUMES; v++) {
        m.use[v][id].mode = 0;
    }
    for (int i = 0; i < PORTS; i++) {
        m.port[i].owner = m.port[i].owner == id ? -1 : m.port[i].owner;
    }
    for (int c = 0; c < CHANNELS; c++) {
        if (m.channel[c].a == id || m.channel[c].b == id) {
            m.channel[c].a = m.channel[c].b = -1;
        }
    }
    m.p[id].zone = -1;
}

static const char *address_of(int device)
{
    static const char *const addresses[DEVICES] = {"0000:00:01.0", "nvme0", "eth0", "eth00"};
    return addresses[device];
}

/* What one operation of each kind is about: drawn once, told to the model and to the database. */
struct draw {
    enum vdc_op_kind kind;
    int id, peer, thing, name, mode, to;
    uint64_t generation, amount;
};

static enum vdc_tx_rule model_volume(const struct draw *d, int zone)
{
    enum vdc_tx_rule rule = find(d->id, zone);
    if (rule != VDC_RULE_NONE) {
        return rule;
    }
    if (m.p[d->id].generation != d->generation) {
        return VDC_RULE_GENERATION;
    }
    for (int i = 0; i < IDS; i++) {
        bool other = i != d->id && m.use[d->thing][i].mode != 0;
        if (other && (d->mode == VDC_VOLUME_WRITE || m.use[d->thing][i].mode == 2)) {
            return VDC_RULE_VOLUME_BUSY;
        }
    }
    m.use[d->thing][d->id].mode = 1 + d->mode;
    m.use[d->thing][d->id].generation = d->generation;
    return VDC_RULE_NONE;
}

static enum vdc_tx_rule model_device(const struct draw *d, int zone)
{
    bool attach = d->kind == VDC_OP_DEVICE_ATTACH;
    if (d->kind == VDC_OP_DEVICE_ADD || d->kind == VDC_OP_DEVICE_REMOVE) {
        if (zone != OWN) {
            return VDC_RULE_ROLE;
        }
    } else if (find(d->id, zone) != VDC_RULE_NONE) {
        return find(d->id, zone);
    }
    if (d->kind == VDC_OP_DEVICE_ADD) {
        if (m.device[d->thing].exists) {
            return VDC_RULE_DEVICE_EXISTS;
        }
        m.device[d->thing].exists = true;
        m.device[d->thing].zone = OWN;
        m.device[d->thing].owner = -1;
        return VDC_RULE_NONE;
    }
    if (!m.device[d->thing].exists) {
        return VDC_RULE_UNKNOWN_DEVICE;
    }
    bool free_here = m.device[d->thing].zone == zone && m.device[d->thing].owner < 0;
    if (d->kind == VDC_OP_DEVICE_DETACH ? m.device[d->thing].owner != d->id : !free_here) {
        return VDC_RULE_DEVICE_BUSY;
    }
    m.device[d->thing].exists = d->kind != VDC_OP_DEVICE_REMOVE;
    m.device[d->thing].owner = attach ? d->id : -1;
    return VDC_RULE_NONE;
}

static enum vdc_tx_rule model_port(const struct draw *d, int zone)
{
    enum vdc_tx_rule rule = find(d->id, zone);
    if (rule != VDC_RULE_NONE) {
        return rule;
    }
    if (d->kind == VDC_OP_PORT_DISCONNECT) {
        if (m.port[d->thing].owner != d->id) {
            return VDC_RULE_UNKNOWN_PORT;
        }
        m.port[d->thing].owner = -1;
        return VDC_RULE_NONE;
    }
    for (int i = 0; i < PORTS; i++) {
        if (m.port[i].owner >= 0 && (i == d->thing || m.port[i].name == d->name)) {
            return VDC_RULE_PORT_BUSY;
        }
    }
    m.port[d->thing].owner = d->id;
    m.port[d->thing].name = d->name;
    return VDC_RULE_NONE;
}

static enum vdc_tx_rule model_channel(const struct draw *d, int zone)
{
    if (d->kind == VDC_OP_CHANNEL_DISCONNECT) {
        if (m.channel[d->thing].a < 0) {
            return VDC_RULE_UNKNOWN_CHANNEL;
        }
        if (m.p[m.channel[d->thing].a].zone != zone) {
            return VDC_RULE_ZONE;
        }
        m.channel[d->thing].a = m.channel[d->thing].b = -1;
        return VDC_RULE_NONE;
    }
    enum vdc_tx_rule rule = find(d->id, zone);
    if (rule != VDC_RULE_NONE) {
        return rule;
    }
    if (m.p[d->peer].zone < 0) {
        return VDC_RULE_UNKNOWN_PARTITION;
    }
    if (m.p[d->peer].zone != zone && m.p[d->peer].zone != OWN) {
        return VDC_RULE_CHANNEL_ENDPOINT;
    }
    if (m.channel[d->thing].a >= 0) {
        return VDC_RULE_CHANNEL_EXISTS;
    }
    if (d->amount > m.pages[zone] - pages_used(zone)) {
        return VDC_RULE_MEMORY_SLICE;
    }
    m.channel[d->thing].a = d->id;
    m.channel[d->thing].b = d->peer;
    m.channel[d->thing].pages = d->amount;
    return VDC_RULE_NONE;
}

static enum vdc_tx_rule model_transfer(const struct draw *d, int zone)
{
    if (d->to == zone) {
        return VDC_RULE_ZONE;
    }
    if (m.cpu_zone[d->thing] != zone) {
        return VDC_RULE_CPU_BUSY;
    }
    if (d->amount > m.pages[zone] - pages_used(zone)) {
        return VDC_RULE_MEMORY_SLICE;
    }
    if (d->mode > 0) {
        int device = d->mode - 1;
        if (!m.device[device].exists) {
            return VDC_RULE_UNKNOWN_DEVICE;
        }
        if (m.device[device].zone != zone || m.device[device].owner >= 0) {
            return VDC_RULE_DEVICE_BUSY;
        }
        m.device[device].zone = d->to;
    }
    m.cpu_zone[d->thing] = d->to;
    m.pages[zone] -= d->amount;
    m.pages[d->to] += d->amount;
    return VDC_RULE_NONE;
}

static enum vdc_tx_rule model_apply(const struct draw *d, int zone)
{
    enum vdc_tx_rule rule;
    if (d->kind == VDC_OP_PARTITION_CREATE) {
        if (m.p[d->id].zone >= 0) {
            return VDC_RULE_PARTITION_EXISTS;
        }
        m.p[d->id].zone = zone;
        m.p[d->id].generation = d->generation;
        return VDC_RULE_NONE;
    }
    if (d->kind == VDC_OP_PARTITION_DESTROY) {
        rule = find(d->id, zone);
        if (rule == VDC_RULE_NONE && m.p[d->id].generation != d->generation) {
            rule = VDC_RULE_GENERATION;
        }
        if (rule == VDC_RULE_NONE) {
            drop_partition(d->id);
        }
        return rule;
    }
    if (d->kind == VDC_OP_VOLUME_ATTACH) {
        return model_volume(d, zone);
    }
    if (d->kind == VDC_OP_VOLUME_DETACH) {
        rule = find(d->id, zone);
        if (rule == VDC_RULE_NONE && m.use[d->thing][d->id].mode == 0) {
            rule = VDC_RULE_UNKNOWN_VOLUME;
        }
        if (rule == VDC_RULE_NONE) {
            m.use[d->thing][d->id].mode = 0;
        }
        return rule;
    }
    if (d->kind == VDC_OP_PORT_CONNECT || d->kind == VDC_OP_PORT_DISCONNECT) {
        return model_port(d, zone);
    }
    if (d->kind == VDC_OP_CHANNEL_CONNECT || d->kind == VDC_OP_CHANNEL_DISCONNECT) {
        return model_channel(d, zone);
    }
    if (d->kind == VDC_OP_FENCE_PROMISE) {
        if (zone == OWN) {
            return VDC_RULE_ZONE;
        }
        if (d->amount <= m.promise[zone][d->thing]) {
            return VDC_RULE_PROMISE;
        }
        m.promise[zone][d->thing] = d->amount;
        return VDC_RULE_NONE;
    }
    return d->kind == VDC_OP_ZONE_TRANSFER ? model_transfer(d, zone) : model_device(d, zone);
}

/* --- drawing --- */

/* Mostly a partition with which the zone can do something, else any. */
static int draw_id(int zone, bool exists)
{
    int id = below(IDS);
    for (int tries = 0; tries < 20 && below(12) > 0; tries++) {
        if (exists ? m.p[id].zone == zone : m.p[id].zone < 0) {
            return id;
        }
        id = below(IDS);
    }
    return id;
}

static struct draw draw_op(int zone)
{
    static const enum vdc_op_kind kinds[] = {
        VDC_OP_PARTITION_CREATE, VDC_OP_PARTITION_CREATE,   VDC_OP_PARTITION_CREATE,
        VDC_OP_DEVICE_ADD,       VDC_OP_DEVICE_REMOVE,      VDC_OP_DEVICE_ATTACH,
        VDC_OP_DEVICE_ATTACH,    VDC_OP_DEVICE_DETACH,      VDC_OP_VOLUME_ATTACH,
        VDC_OP_VOLUME_ATTACH,    VDC_OP_VOLUME_DETACH,      VDC_OP_PORT_CONNECT,
        VDC_OP_PORT_CONNECT,     VDC_OP_PORT_DISCONNECT,    VDC_OP_CHANNEL_CONNECT,
        VDC_OP_CHANNEL_CONNECT,  VDC_OP_CHANNEL_DISCONNECT, VDC_OP_FENCE_PROMISE,
        VDC_OP_ZONE_TRANSFER,    VDC_OP_PARTITION_DESTROY};
    struct draw d = {.kind = kinds[below(VDC_COUNT_OF(kinds))], .to = below(ZONES)};
    d.id = draw_id(zone, d.kind != VDC_OP_PARTITION_CREATE);
    d.peer = (d.id + 1 + below(IDS - 1)) % IDS;
    d.mode = below(2);
    d.generation =
        m.p[d.id].zone >= 0 && below(20) > 0 ? m.p[d.id].generation : 1 + (uint64_t)below(3);
    d.name = below(PORTS - 1);
    d.amount = 1 + (uint64_t)below(16);
    d.thing = below(3);
    if (d.kind == VDC_OP_PORT_CONNECT || d.kind == VDC_OP_PORT_DISCONNECT) {
        d.thing = below(PORTS);
    } else if (d.kind == VDC_OP_CHANNEL_CONNECT || d.kind == VDC_OP_CHANNEL_DISCONNECT) {
        d.thing = below(CHANNELS);
    } else if (d.kind == VDC_OP_FENCE_PROMISE) {
        d.amount = m.promise[0][d.thing] + (uint64_t)below(3);
        d.amount += d.amount == 0;
    } else if (d.kind == VDC_OP_ZONE_TRANSFER) {
        d.thing = below(CPUS);
        d.mode = below(4) == 0 ? 1 + below(DEVICES) : 0;
    } else if (d.kind <= VDC_OP_DEVICE_DETACH && d.kind >= VDC_OP_DEVICE_ADD) {
        d.thing = below(DEVICES);
    }
    return d;
}

static struct vdc_op op_of(const struct draw *d)
{
    struct vdc_op op = {.kind = d->kind};
    struct vdc_id id = id_of((uint64_t)d->id);
    uint8_t mac[6] = {2, 0, 0, 0, 0, (uint8_t)d->thing};
    struct vdc_id thing = id_of(1000 + (uint64_t)d->thing);
    if (d->kind == VDC_OP_PARTITION_CREATE) {
        op = op_create((uint64_t)d->id, "p");
        op.partition_create.generation = d->generation;
    } else if (d->kind == VDC_OP_PARTITION_DESTROY) {
        op = op_destroy((uint64_t)d->id, d->generation);
    } else if (d->kind == VDC_OP_DEVICE_ADD) {
        vdc_str_set(op.device_add.address, VDC_DEVICE_ADDRESS_CAP, address_of(d->thing));
    } else if (d->kind == VDC_OP_DEVICE_REMOVE) {
        vdc_str_set(op.device_remove.address, VDC_DEVICE_ADDRESS_CAP, address_of(d->thing));
    } else if (d->kind == VDC_OP_DEVICE_ATTACH || d->kind == VDC_OP_DEVICE_DETACH) {
        op.device_attach.id = id;
        vdc_str_set(op.device_attach.address, VDC_DEVICE_ADDRESS_CAP, address_of(d->thing));
    } else if (d->kind == VDC_OP_VOLUME_ATTACH) {
        op.volume_attach = (struct vdc_op_volume_attach){.id = id,
                                                         .generation = d->generation,
                                                         .volume = thing,
                                                         .mode = (enum vdc_volume_mode)d->mode};
    } else if (d->kind == VDC_OP_VOLUME_DETACH) {
        op.volume_detach = (struct vdc_op_volume_detach){.id = id, .volume = thing};
    } else if (d->kind == VDC_OP_PORT_CONNECT) {
        op.port_connect.id = id;
        memcpy(op.port_connect.mac, mac, sizeof(mac));
        (void)snprintf(op.port_connect.name, VDC_PORT_NAME_CAP, "vdc%d", d->name);
        vdc_str_set(op.port_connect.network, VDC_NAME_CAP, "lan");
    } else if (d->kind == VDC_OP_PORT_DISCONNECT) {
        op.port_disconnect.id = id;
        memcpy(op.port_disconnect.mac, mac, sizeof(mac));
    } else if (d->kind == VDC_OP_CHANNEL_CONNECT) {
        op.channel_connect =
            (struct vdc_op_channel_connect){.channel = thing,
                                            .endpoint = {id, id_of((uint64_t)d->peer)},
                                            .version = 1,
                                            .bytes = d->amount * PAGE,
                                            .numa = VDC_NUMA_ANY};
    } else if (d->kind == VDC_OP_CHANNEL_DISCONNECT) {
        op.channel_disconnect.channel = thing;
    } else if (d->kind == VDC_OP_FENCE_PROMISE) {
        vdc_str_set(op.fence_promise.node, VDC_NAME_CAP, NAMES[d->thing]);
        op.fence_promise.incarnation = d->amount;
    } else {
        vdc_str_set(op.zone_transfer.to, VDC_NAME_CAP, ZONE_NAMES[d->to]);
        op.zone_transfer.cpus = &CPU_NUMBERS[d->thing];
        op.zone_transfer.cpus_len = 1;
        op.zone_transfer.memory_bytes = d->amount * PAGE;
        if (d->mode > 0) {
            vdc_str_set(op.zone_transfer.device, VDC_DEVICE_ADDRESS_CAP, address_of(d->mode - 1));
        }
    }
    return op;
}

/* --- comparing --- */

static int number_of(const struct vdc_partition *partition)
{
    return partition == NULL ? -1 : partition->id.bytes[0];
}

static void compare_owned(const struct bench *b)
{
    for (int i = 0; i < DEVICES; i++) {
        const struct vdc_entry *device = vdc_allocdb_find_device(b->db, address_of(i));
        cr_assert_eq(device != NULL, m.device[i].exists);
        if (device != NULL) {
            cr_assert_eq(number_of(device->partition), m.device[i].owner);
            cr_assert_str_eq(device->zone, ZONE_NAMES[m.device[i].zone]);
        }
    }
    for (int v = 0; v < VOLUMES; v++) {
        for (int i = 0; i < IDS; i++) {
            struct vdc_id volume = id_of(1000 + (uint64_t)v);
            struct vdc_id id = id_of((uint64_t)i);
            const struct vdc_entry *use = vdc_allocdb_find_volume(b->db, &volume, &id);
            cr_assert_eq(use == NULL ? 0 : 1 + (int)use->volume.mode, m.use[v][i].mode);
            cr_assert(use == NULL || use->volume.generation == m.use[v][i].generation);
        }
    }
    for (int i = 0; i < PORTS; i++) {
        const uint8_t mac[6] = {2, 0, 0, 0, 0, (uint8_t)i};
        const struct vdc_entry *port = vdc_allocdb_find_port(b->db, mac);
        cr_assert_eq(port == NULL ? -1 : number_of(port->partition), m.port[i].owner);
        cr_assert(port == NULL || port->port.name[3] - '0' == m.port[i].name);
    }
}

static void compare(const struct bench *b)
{
    compare_owned(b);
    uint64_t channels = 0;
    for (int c = 0; c < CHANNELS; c++) {
        struct vdc_id id = id_of(1000 + (uint64_t)c);
        const struct vdc_entry *channel = vdc_allocdb_find_channel(b->db, &id);
        cr_assert_eq(channel == NULL ? -1 : number_of(channel->partition), m.channel[c].a);
        cr_assert_eq(channel == NULL ? -1 : number_of(channel->peer), m.channel[c].b);
        cr_assert(channel == NULL || channel->channel.bytes == m.channel[c].pages * PAGE);
        channels += channel != NULL;
    }
    cr_assert_eq(vdc_allocdb_count_entries(b->db, VDC_ENTRY_CHANNEL), channels);
    for (int z = 0; z < ZONES; z++) {
        const struct vdc_zone_slice *slice = vdc_allocdb_find_zone(b->db, ZONE_NAMES[z]);
        uint32_t cpus = 0;
        for (int c = 0; c < CPUS; c++) {
            cpus += m.cpu_zone[c] == z;
        }
        cr_assert_eq(slice->cpus, cpus);
        cr_assert_eq(slice->memory_bytes, m.pages[z] * PAGE);
        cr_assert_eq(slice->memory_used_bytes, pages_used(z) * PAGE);
        for (int n = 0; n < NODES; n++) {
            cr_assert_eq(vdc_allocdb_promised(b->db, ZONE_NAMES[z], NAMES[n]), m.promise[z][n]);
        }
    }
}

/* The replica becomes what its snapshot restores to: choices must not depend on what is lost. */
static void restart_replica(struct bench *b)
{
    struct vdc_buf mine = {0};
    struct vdc_buf theirs = {0};
    struct vdc_err err = {0};
    struct vdc_allocdb *restored;
    vdc_allocdb_snapshot(b->db, &mine);
    vdc_allocdb_snapshot(b->replica, &theirs);
    cr_assert(mine.len == theirs.len && memcmp(mine.data, theirs.data, mine.len) == 0,
              "snapshots of equal states differ");
    cr_assert_eq(vdc_allocdb_restore(theirs.data, theirs.len, &restored, &err), VDC_RC_OK, "%s",
                 err.text);
    vdc_allocdb_destroy(b->replica);
    b->replica = restored;
    vdc_buf_deinit(&mine);
    vdc_buf_deinit(&theirs);
}

static uint64_t refusals;

static uint32_t step(struct bench *b, uint64_t nth)
{
    int zone = below(ZONES);
    uint32_t len = 1 + (uint32_t)below(3);
    struct vdc_op ops[3];
    struct model before = m;
    enum vdc_tx_rule rule = VDC_RULE_NONE;
    uint32_t failed = VDC_TX_OP_NONE;
    for (uint32_t i = 0; i < len; i++) {
        struct draw d = draw_op(zone);
        ops[i] = op_of(&d);
        if (rule == VDC_RULE_NONE) {
            rule = model_apply(&d, zone);
            failed = rule == VDC_RULE_NONE ? VDC_TX_OP_NONE : i;
        }
    }
    struct vdc_tx tx = tx_of(b, ops, len);
    vdc_str_set(tx.zone, sizeof(tx.zone), ZONE_NAMES[zone]);
    if (zone == OWN) {
        tx.role = VDC_ROLE_SYSTEM;
        tx.epoch = 0;
    }
    if (nth % 50 == 0) {
        (void)commit_tx(b, &tx); /* with every invariant */
    } else {
        struct vdc_err err = {0};
        (void)vdc_allocdb_commit(b->db, &tx, &b->result, &b->record);
        if (b->record.len > 0) {
            cr_assert_eq(vdc_allocdb_apply_record(b->replica, b->record.data, b->record.len, &err),
                         VDC_RC_OK, "%s", err.text);
        }
    }
    cr_assert_eq(b->result.rule, rule, "%s, not %s: %s", vdc_tx_rule_name(b->result.rule),
                 vdc_tx_rule_name(rule), b->result.text);
    cr_assert_eq(b->result.op, failed);
    if (rule != VDC_RULE_NONE) {
        m = before;
        refusals++;
    }
    compare(b);
    return len;
}

static void init_model(struct bench *b)
{
    memset(&m, 0, sizeof(m));
    for (int i = 0; i < IDS; i++) {
        m.p[i].zone = -1;
    }
    for (int i = 0; i < DEVICES; i++) {
        m.device[i].owner = -1;
    }
    for (int i = 0; i < PORTS; i++) {
        m.port[i].owner = -1;
    }
    for (int i = 0; i < CHANNELS; i++) {
        m.channel[i].a = m.channel[i].b = -1;
    }
    bench_init(b);
    for (int z = 0; z < OWN; z++) {
        struct vdc_op op = op_zone_set(0, 0, 1000);
        op.zone_set.cpu.amount = 3;
        op.zone_set.memory.amount = 40 * PAGE;
        struct vdc_tx tx = tx_of(b, &op, 1);
        vdc_str_set(tx.zone, sizeof(tx.zone), ZONE_NAMES[z]);
        cr_assert_eq(commit_tx(b, &tx), VDC_RC_OK, "%s", b->result.text);
        m.pages[z] = 40;
    }
    m.pages[OWN] = 2 * NUMA_BYTES / PAGE - 80;
    for (int c = 0; c < CPUS; c++) {
        struct vdc_cpu_state cpu;
        cr_assert(vdc_allocdb_cpu_at(b->db, (size_t)c, &cpu));
        m.cpu_zone[c] = strcmp(cpu.zone, "prod") == 0 ? 0 : strcmp(cpu.zone, "test") == 0 ? 1 : OWN;
    }
}

static uint64_t number_of_env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t number;
    return text != NULL && vdc_parse_u64(text, UINT64_MAX, &number) ? number : otherwise;
}

Test(ultravisor_entries_model, agrees_with_a_naive_model_after_each_of_many_random_operations)
{
    struct bench b;
    uint64_t seed = number_of_env("VDC_MODEL_SEED", SEED_DEFAULT);
    uint64_t ops_max = number_of_env("VDC_MODEL_OPS", OPS_DEFAULT);
    (void)fprintf(stderr, "seed %lu\n", (unsigned long)seed);
    vdc_prng_init(&prng, seed);
    init_model(&b);
    uint64_t txs = 0;
    for (uint64_t ops = 0; ops < ops_max; txs++) {
        ops += step(&b, txs);
        if (txs % 1000 == 999) {
            restart_replica(&b);
        }
    }
    cr_assert_gt(refusals, txs / 20, "too few refusals to mean anything");
    cr_assert_lt(refusals, txs * 19 / 20, "too few successes to mean anything");
    bench_deinit(&b);
}
