/* SPDX-License-Identifier: Apache-2.0 */
/* Devices, volumes, ports, channels, promises, transfers and localities, one by one. */
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

TestSuite(ultravisor_entries, .init = setup, .fini = teardown);

#define IO 50 /* the node's own I/O partition, see with_io */

static const struct vdc_partition *find(uint64_t id)
{
    struct vdc_id key = id_of(id);
    return vdc_allocdb_find_partition(b.db, &key);
}

static void must(struct vdc_op op)
{
    cr_assert_eq(commit(&b, &op, 1), VDC_RC_OK, "%s", b.result.text);
}

static enum vdc_rc system_commit(struct vdc_op op)
{
    struct vdc_tx tx = {.role = VDC_ROLE_SYSTEM, .ops = &op, .ops_len = 1};
    return commit_tx(&b, &tx);
}

static enum vdc_rc zone_commit(const char *zone, struct vdc_op op)
{
    struct vdc_tx tx = tx_of(&b, &op, 1);
    vdc_str_set(tx.zone, sizeof(tx.zone), zone);
    return commit_tx(&b, &tx);
}

/* Refused so, with these numbers, and nothing changed. */
static void refused(struct vdc_op op, enum vdc_rc rc, enum vdc_tx_rule rule, uint64_t asked,
                    uint64_t free)
{
    struct vdc_digest before = vdc_allocdb_digest(b.db);
    cr_assert_eq(commit(&b, &op, 1), rc, "%s: %s", vdc_rc_name(b.result.rc), b.result.text);
    struct vdc_digest after = vdc_allocdb_digest(b.db);
    cr_assert(vdc_digest_equal(&before, &after));
    cr_assert_eq(b.result.rule, rule, "%s: %s", vdc_tx_rule_name(b.result.rule), b.result.text);
    cr_assert_eq(b.result.asked, asked, "asked %lu: %s", (unsigned long)b.result.asked,
                 b.result.text);
    cr_assert_eq(b.result.free, free, "free %lu: %s", (unsigned long)b.result.free, b.result.text);
}

static struct vdc_op op_device(enum vdc_op_kind kind, uint64_t id, const char *address)
{
    struct vdc_op op = {.kind = kind};
    if (kind == VDC_OP_DEVICE_ADD) {
        op.device_add.numa = 1;
        vdc_str_set(op.device_add.address, VDC_DEVICE_ADDRESS_CAP, address);
    } else if (kind == VDC_OP_DEVICE_REMOVE) {
        vdc_str_set(op.device_remove.address, VDC_DEVICE_ADDRESS_CAP, address);
    } else {
        op.device_attach.id = id_of(id);
        vdc_str_set(op.device_attach.address, VDC_DEVICE_ADDRESS_CAP, address);
    }
    return op;
}

static struct vdc_op op_volume(uint64_t id, uint64_t generation, uint64_t volume,
                               enum vdc_volume_mode mode)
{
    return (struct vdc_op){.kind = VDC_OP_VOLUME_ATTACH,
                           .volume_attach = {.id = id_of(id),
                                             .generation = generation,
                                             .volume = id_of(1000 + volume),
                                             .mode = mode}};
}

static struct vdc_op op_port(uint64_t id, uint8_t mac, const char *name)
{
    struct vdc_op op = {.kind = VDC_OP_PORT_CONNECT,
                        .port_connect = {.id = id_of(id), .mac = {2, 0, 0, 0, 0, mac}}};
    vdc_str_set(op.port_connect.name, VDC_PORT_NAME_CAP, name);
    vdc_str_set(op.port_connect.network, VDC_NAME_CAP, "lan");
    return op;
}

static struct vdc_op op_channel(uint64_t channel, uint64_t from, uint64_t to, uint64_t bytes)
{
    return (struct vdc_op){.kind = VDC_OP_CHANNEL_CONNECT,
                           .channel_connect = {.channel = id_of(2000 + channel),
                                               .endpoint = {id_of(from), id_of(to)},
                                               .type = VDC_CHANNEL_BLOCK,
                                               .version = 1,
                                               .bytes = bytes,
                                               .numa = VDC_NUMA_ANY}};
}

static struct vdc_op op_promise(const char *node, uint64_t incarnation)
{
    struct vdc_op op = {.kind = VDC_OP_FENCE_PROMISE,
                        .fence_promise = {.incarnation = incarnation}};
    vdc_str_set(op.fence_promise.node, VDC_NAME_CAP, node);
    return op;
}

static struct vdc_op op_transfer(const char *to, const uint16_t *cpus, uint32_t len, uint64_t bytes)
{
    struct vdc_op op = {.kind = VDC_OP_ZONE_TRANSFER,
                        .zone_transfer = {.cpus = cpus, .cpus_len = len, .memory_bytes = bytes}};
    vdc_str_set(op.zone_transfer.to, VDC_NAME_CAP, to);
    return op;
}

/* The node's own I/O partition, and zone "test" beside "prod" with nothing. */
static void with_io(void)
{
    struct vdc_op op = op_create(IO, "io-a");
    op.partition_create.kind = VDC_PARTITION_IO;
    cr_assert_eq(system_commit(op), VDC_RC_OK, "%s", b.result.text);
    cr_assert_eq(zone_commit("test", op_zone_set(0, 0, 1000)), VDC_RC_OK, "%s", b.result.text);
}

static size_t count(enum vdc_entry_kind kind)
{
    return vdc_allocdb_count_entries(b.db, kind);
}

Test(ultravisor_entries, a_device_has_one_owner_and_is_free_after_its_end)
{
    struct vdc_op add = op_device(VDC_OP_DEVICE_ADD, 0, "0000:3b:00.0");
    refused(add, VDC_RC_FORBIDDEN, VDC_RULE_ROLE, 0, 0);
    cr_assert_eq(system_commit(add), VDC_RC_OK, "%s", b.result.text);
    cr_assert_eq(system_commit(add), VDC_RC_EXISTS);
    must(op_create(1, "web"));
    must(op_create(2, "db"));
    struct vdc_op attach = op_device(VDC_OP_DEVICE_ATTACH, 1, "0000:3b:00.0");
    refused(attach, VDC_RC_CONFLICT, VDC_RULE_DEVICE_BUSY, 1, 0);
    struct vdc_op give = op_transfer("prod", NULL, 0, 0);
    vdc_str_set(give.zone_transfer.device, VDC_DEVICE_ADDRESS_CAP, "0000:3b:00.0");
    cr_assert_eq(system_commit(give), VDC_RC_OK, "%s", b.result.text);
    refused(op_device(VDC_OP_DEVICE_ATTACH, 1, "nvme0"), VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_DEVICE,
            0, 0);
    must(attach);
    const struct vdc_entry *device = vdc_allocdb_find_device(b.db, "0000:3b:00.0");
    cr_assert_eq(device->partition, find(1));
    cr_assert_str_eq(device->zone, "prod");
    cr_assert_eq(device->device.numa, 1);
    refused(op_device(VDC_OP_DEVICE_ATTACH, 2, "0000:3b:00.0"), VDC_RC_CONFLICT,
            VDC_RULE_DEVICE_BUSY, 1, 0);
    refused(op_device(VDC_OP_DEVICE_DETACH, 2, "0000:3b:00.0"), VDC_RC_CONFLICT,
            VDC_RULE_DEVICE_BUSY, 1, 0);
    cr_assert_eq(system_commit(op_device(VDC_OP_DEVICE_REMOVE, 0, "0000:3b:00.0")),
                 VDC_RC_CONFLICT);
    must(op_destroy(1, 1));
    cr_assert_null(vdc_allocdb_find_device(b.db, "0000:3b:00.0")->partition);
    must(op_device(VDC_OP_DEVICE_ATTACH, 2, "0000:3b:00.0"));
    must(op_device(VDC_OP_DEVICE_DETACH, 2, "0000:3b:00.0"));
    must(op_destroy(2, 1));
    must((struct vdc_op){.kind = VDC_OP_ZONE_LEAVE});
    cr_assert_str_eq(vdc_allocdb_find_device(b.db, "0000:3b:00.0")->zone, "", "back to the node");
    cr_assert_eq(system_commit(op_device(VDC_OP_DEVICE_REMOVE, 0, "0000:3b:00.0")), VDC_RC_OK);
    cr_assert_eq(count(VDC_ENTRY_DEVICE), 0);
}

Test(ultravisor_entries, a_volume_has_many_readers_or_one_writer)
{
    for (uint64_t id = 1; id <= 3; id++) {
        must(op_create(id, "p"));
    }
    must(op_volume(1, 1, 7, VDC_VOLUME_READ));
    must(op_volume(2, 1, 7, VDC_VOLUME_READ));
    refused(op_volume(3, 1, 7, VDC_VOLUME_WRITE), VDC_RC_CONFLICT, VDC_RULE_VOLUME_BUSY, 1, 2);
    refused(op_volume(1, 1, 7, VDC_VOLUME_WRITE), VDC_RC_CONFLICT, VDC_RULE_VOLUME_BUSY, 1, 1);
    must((struct vdc_op){.kind = VDC_OP_VOLUME_DETACH,
                         .volume_detach = {.id = id_of(2), .volume = id_of(1007)}});
    must(op_volume(1, 1, 7, VDC_VOLUME_WRITE));
    refused(op_volume(2, 1, 7, VDC_VOLUME_READ), VDC_RC_CONFLICT, VDC_RULE_VOLUME_BUSY, 1, 1);
    refused((struct vdc_op){.kind = VDC_OP_VOLUME_DETACH,
                            .volume_detach = {.id = id_of(2), .volume = id_of(1007)}},
            VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_VOLUME, 0, 0);
    refused(op_volume(1, 2, 7, VDC_VOLUME_WRITE), VDC_RC_STALE, VDC_RULE_GENERATION, 2, 1);
    must((struct vdc_op){.kind = VDC_OP_PARTITION_SET_GENERATION,
                         .partition_set_generation = {.id = id_of(1), .generation = 1, .next = 2}});
    must(op_volume(1, 2, 7, VDC_VOLUME_WRITE));
    struct vdc_id volume = id_of(1007);
    struct vdc_id owner = id_of(1);
    cr_assert_eq(vdc_allocdb_find_volume(b.db, &volume, &owner)->volume.generation, 2);
    must(op_destroy(1, 2));
    cr_assert_eq(count(VDC_ENTRY_VOLUME), 0);
    must(op_volume(3, 1, 7, VDC_VOLUME_WRITE));
}

Test(ultravisor_entries, a_mac_address_and_a_port_name_are_one_partitions)
{
    must(op_create(1, "web"));
    must(op_create(2, "db"));
    must(op_port(1, 9, "vdc1"));
    refused(op_port(2, 9, "vdc2"), VDC_RC_CONFLICT, VDC_RULE_PORT_BUSY, 1, 0);
    cr_assert_not_null(strstr(b.result.text, "MAC address"));
    refused(op_port(2, 8, "vdc1"), VDC_RC_CONFLICT, VDC_RULE_PORT_BUSY, 1, 0);
    struct vdc_op disconnect = {.kind = VDC_OP_PORT_DISCONNECT,
                                .port_disconnect = {.id = id_of(2), .mac = {2, 0, 0, 0, 0, 9}}};
    refused(disconnect, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_PORT, 0, 0);
    must(op_port(2, 8, "vdc2"));
    must(op_destroy(1, 1));
    const uint8_t mac[] = {2, 0, 0, 0, 0, 8};
    cr_assert_str_eq(vdc_allocdb_find_port(b.db, mac)->port.name, "vdc2");
    must(op_port(2, 9, "vdc1"));
    disconnect.port_disconnect.id = id_of(2);
    must(disconnect);
    cr_assert_eq(count(VDC_ENTRY_PORT), 1);
}

Test(ultravisor_entries, a_channel_lives_as_long_as_both_of_its_endpoints)
{
    with_io();
    must(op_create(1, "web"));
    must(op_channel(1, 1, IO, 12 * KIB));
    struct vdc_id id = id_of(2001);
    const struct vdc_entry *channel = vdc_allocdb_find_channel(b.db, &id);
    cr_assert_eq(channel->partition, find(1));
    cr_assert_eq(channel->peer, find(IO));
    cr_assert_eq(channel->channel.blocks_len, 1);
    uint64_t addr = channel->channel.blocks[0].addr;
    cr_assert_eq(vdc_allocdb_memory_channel(b.db, channel->channel.blocks[0].numa, addr), channel);
    cr_assert_eq(vdc_allocdb_memory_owner(b.db, channel->channel.blocks[0].numa, addr, NULL),
                 find(1));
    cr_assert_eq(vdc_allocdb_find_zone(b.db, "prod")->memory_used_bytes, 12 * KIB);
    refused(op_channel(1, 1, IO, 4 * KIB), VDC_RC_EXISTS, VDC_RULE_CHANNEL_EXISTS, 0, 0);
    refused(op_channel(2, 1, 77, 4 * KIB), VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_PARTITION, 0, 0);
    cr_assert_eq(zone_commit("test", op_create(3, "other")), VDC_RC_OK, "%s", b.result.text);
    refused(op_channel(2, 1, 3, 4 * KIB), VDC_RC_CONFLICT, VDC_RULE_CHANNEL_ENDPOINT, 0, 0);
    cr_assert_eq(zone_commit("test", op_channel(2, 3, IO, 4 * KIB)), VDC_RC_NO_SPACE);
    cr_assert_eq(b.result.rule, VDC_RULE_MEMORY_SLICE);
    struct vdc_op disconnect = {.kind = VDC_OP_CHANNEL_DISCONNECT,
                                .channel_disconnect = {.channel = id_of(2001)}};
    cr_assert_eq(zone_commit("test", disconnect), VDC_RC_FORBIDDEN);
    must(disconnect);
    refused(disconnect, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CHANNEL, 0, 0);
    struct vdc_digest before = vdc_allocdb_digest(b.db);
    must(op_create(2, "db"));
    must(op_channel(2, 1, 2, 6 * MIB + 4 * KIB));
    must(op_destroy(2, 1));
    struct vdc_digest after = vdc_allocdb_digest(b.db);
    cr_assert(vdc_digest_equal(&before, &after), "the second endpoint's end leaves nothing");
    must(op_channel(3, 1, IO, 4 * KIB));
    cr_assert_eq(system_commit(op_destroy(IO, 1)), VDC_RC_OK);
    cr_assert_eq(count(VDC_ENTRY_CHANNEL), 0);
    cr_assert_eq(vdc_allocdb_find_zone(b.db, "prod")->memory_used_bytes, 0);
}

Test(ultravisor_entries, a_channels_memory_is_nobody_elses)
{
    with_io();
    must(op_create(1, "web"));
    must(op_channel(1, 1, IO, 4 * KIB));
    struct vdc_id id = id_of(2001);
    struct vdc_memory_block block = vdc_allocdb_find_channel(b.db, &id)->channel.blocks[0];
    struct vdc_op named = op_channel(2, 1, IO, 4 * KIB);
    named.channel_connect.blocks = &block;
    named.channel_connect.blocks_len = 1;
    refused(named, VDC_RC_CONFLICT, VDC_RULE_MEMORY_BUSY, 4 * KIB, 0);
    cr_assert_geq(block.addr, 3 * GIB, "the odd pages at the end break no large block");
    must((struct vdc_op){.kind = VDC_OP_MEMORY_RELEASE, .memory_release = {.id = id_of(1)}});
    cr_assert_eq(count(VDC_ENTRY_CHANNEL), 1);
    struct vdc_op inventory = op_inventory();
    cr_assert_eq(system_commit(inventory), VDC_RC_OK, "%s", b.result.text);
    cr_assert_not_null(vdc_allocdb_memory_channel(b.db, block.numa, block.addr));
    struct vdc_op far = op_channel(2, 1, IO, 4 * KIB);
    far.channel_connect.numa = 9;
    refused(far, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, 9, 0);
}

Test(ultravisor_entries, a_promise_only_grows_and_outlives_the_zone)
{
    must(op_promise("n7", 4));
    refused(op_promise("n7", 4), VDC_RC_STALE, VDC_RULE_PROMISE, 4, 4);
    refused(op_promise("n7", 3), VDC_RC_STALE, VDC_RULE_PROMISE, 3, 4);
    must(op_promise("n7", 9));
    must(op_promise("n8", 1));
    cr_assert_eq(vdc_allocdb_promised(b.db, "prod", "n7"), 9);
    cr_assert_eq(vdc_allocdb_promised(b.db, "test", "n7"), 0);
    must((struct vdc_op){.kind = VDC_OP_ZONE_LEAVE});
    cr_assert_eq(vdc_allocdb_promised(b.db, "prod", "n7"), 9);
    cr_assert_eq(system_commit(op_promise("n7", 99)), VDC_RC_FORBIDDEN);
}

Test(ultravisor_entries, a_zone_gives_what_is_free_to_another)
{
    with_io();
    must(op_create(1, "web"));
    must(op_any(1, 1, 0));
    must(op_memory(1, 0, 2 * MIB));
    must(op_create(2, "db"));
    must(op_shared(2, 24000));
    const uint16_t busy[] = {0};
    const uint16_t two[] = {5, 9};
    const uint16_t one[] = {9};
    refused(op_transfer("test", busy, 1, 0), VDC_RC_CONFLICT, VDC_RULE_CPU_BUSY, 0, 0);
    refused(op_transfer("test", two, 2, 0), VDC_RC_CONFLICT, VDC_RULE_CPU_POOL, 24000, 20000);
    refused(op_transfer("none", one, 1, 0), VDC_RC_NOT_FOUND, VDC_RULE_ZONE, 0, 0);
    refused(op_transfer("prod", one, 1, 0), VDC_RC_INVALID, VDC_RULE_ZONE, 0, 0);
    uint64_t all = 2 * NUMA_BYTES;
    refused(op_transfer("test", NULL, 0, all), VDC_RC_NO_SPACE, VDC_RULE_MEMORY_SLICE, all,
            all - 2 * MIB);
    must(op_transfer("test", one, 1, 1 * GIB));
    const struct vdc_zone_slice *test = vdc_allocdb_find_zone(b.db, "test");
    cr_assert_eq(test->cpus, 1);
    cr_assert_eq(test->memory_bytes, 1 * GIB);
    cr_assert_eq(test->cpu_share.amount, 1);
    cr_assert_eq(vdc_allocdb_find_zone(b.db, "prod")->cpus, 7);
    cr_assert_eq(zone_commit("test", op_transfer("", one, 1, 4 * KIB)), VDC_RC_OK, "%s",
                 b.result.text);
    cr_assert_eq(vdc_allocdb_find_zone(b.db, "")->cpus, 1);
    struct vdc_op op = op_transfer("test", busy, 1, 0);
    struct vdc_tx tx = tx_of(&b, &op, 1);
    tx.role = VDC_ROLE_IO;
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_FORBIDDEN);
}

Test(ultravisor_entries, a_claim_holds_entries_and_an_abort_gives_them_back)
{
    with_io();
    struct vdc_digest before = vdc_allocdb_digest(b.db);
    struct vdc_op ops[] = {op_create(1, "web"), op_volume(1, 1, 3, VDC_VOLUME_WRITE),
                           op_port(1, 4, "vdc4"), op_channel(1, 1, IO, 8 * KIB)};
    struct vdc_tx tx = tx_of(&b, ops, VDC_COUNT_OF(ops));
    tx.kind = VDC_TX_PREPARE;
    tx.claim = id_of(99);
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_OK, "%s", b.result.text);
    must(op_create(2, "db"));
    refused(op_volume(2, 1, 3, VDC_VOLUME_READ), VDC_RC_CONFLICT, VDC_RULE_VOLUME_BUSY, 1, 1);
    refused(op_channel(2, 2, 1, 4 * KIB), VDC_RC_CONFLICT, VDC_RULE_CLAIMED, 0, 0);
    must(op_destroy(2, 1));
    struct vdc_tx abort_tx = tx_of(&b, NULL, 0);
    abort_tx.kind = VDC_TX_ABORT_CLAIM;
    abort_tx.claim = id_of(99);
    cr_assert_eq(commit_tx(&b, &abort_tx), VDC_RC_OK, "%s", b.result.text);
    struct vdc_digest after = vdc_allocdb_digest(b.db);
    cr_assert(vdc_digest_equal(&before, &after));
}

Test(ultravisor_entries, a_fault_behind_every_kind_of_entry_leaves_no_trace)
{
    with_io();
    must(op_create(1, "web"));
    must(op_volume(1, 1, 1, VDC_VOLUME_READ));
    must(op_port(1, 1, "vdc1"));
    must(op_channel(1, 1, IO, 8 * KIB));
    const uint16_t cpu[] = {3};
    struct vdc_op ops[] = {
        op_volume(1, 1, 1, VDC_VOLUME_WRITE),
        op_channel(2, 1, IO, 12 * KIB),
        {.kind = VDC_OP_CHANNEL_DISCONNECT, .channel_disconnect = {.channel = id_of(2001)}},
        op_promise("n1", 3),
        op_promise("n1", 5),
        op_transfer("test", cpu, 1, 4 * KIB),
        op_destroy(1, 1),
        op_create(1, "again"),
        op_port(1, 1, "vdc1"),
        op_channel(2, 1, IO, 4 * KIB),
        op_destroy(7, 1)};
    for (uint32_t len = 1; len < VDC_COUNT_OF(ops); len++) {
        struct vdc_op some[VDC_COUNT_OF(ops)];
        memcpy(some, ops, len * sizeof(some[0]));
        some[len] = op_destroy(7, 1);
        struct vdc_digest before = vdc_allocdb_digest(b.db);
        cr_assert_eq(commit(&b, some, len + 1), VDC_RC_NOT_FOUND, "%s", b.result.text);
        cr_assert_eq(b.result.op, len, "%s", b.result.text);
        struct vdc_digest after = vdc_allocdb_digest(b.db);
        cr_assert(vdc_digest_equal(&before, &after));
    }
    cr_assert_eq(commit(&b, ops, VDC_COUNT_OF(ops) - 1), VDC_RC_OK, "%s", b.result.text);
}

Test(ultravisor_entries, a_snapshot_brings_every_kind_back)
{
    with_io();
    cr_assert_eq(system_commit(op_device(VDC_OP_DEVICE_ADD, 0, "nvme0")), VDC_RC_OK);
    must(op_create(1, "web"));
    must(op_volume(1, 1, 1, VDC_VOLUME_READ));
    must(op_port(1, 1, "vdc1"));
    must(op_channel(1, 1, IO, 2 * MIB + 8 * KIB));
    must(op_promise("n1", 3));
    struct vdc_buf bytes = {0};
    struct vdc_buf again = {0};
    struct vdc_err err = {0};
    struct vdc_allocdb *restored;
    vdc_allocdb_snapshot(b.db, &bytes);
    cr_assert_eq(vdc_allocdb_restore(bytes.data, bytes.len, &restored, &err), VDC_RC_OK, "%s",
                 err.text);
    vdc_allocdb_snapshot(restored, &again);
    cr_assert_eq(bytes.len, again.len);
    cr_assert_eq(memcmp(bytes.data, again.data, bytes.len), 0);
    size_t len;
    struct vdc_id id = id_of(1);
    const struct vdc_entry **list =
        vdc_allocdb_entries_of(restored, vdc_allocdb_find_partition(restored, &id), &len);
    cr_assert_eq(len, 3);
    cr_assert_eq(list[0]->kind, VDC_ENTRY_VOLUME);
    cr_assert_eq(list[1]->kind, VDC_ENTRY_PORT);
    cr_assert_eq(list[2]->kind, VDC_ENTRY_CHANNEL);
    free(list);
    vdc_allocdb_destroy(restored);
    vdc_buf_deinit(&bytes);
    vdc_buf_deinit(&again);
}

Test(ultravisor_entries, a_replica_that_was_away_goes_on_from_its_sequence)
{
    /* Records kept since then bring it up to date; a gap is not applied. */
    struct vdc_buf snapshot = {0};
    struct vdc_buf second = {0};
    struct vdc_err err = {0};
    struct vdc_allocdb *late;
    vdc_allocdb_snapshot(b.db, &snapshot);
    cr_assert_eq(vdc_allocdb_restore(snapshot.data, snapshot.len, &late, &err), VDC_RC_OK);
    must(op_create(1, "web"));
    struct vdc_buf first = {0};
    vdc_buf_append(&first, b.record.data, b.record.len);
    must(op_port(1, 1, "vdc1"));
    vdc_buf_append(&second, b.record.data, b.record.len);
    cr_assert_eq(vdc_allocdb_apply_record(late, second.data, second.len, &err), VDC_RC_PROTOCOL);
    cr_assert_eq(vdc_allocdb_apply_record(late, first.data, first.len, &err), VDC_RC_OK);
    cr_assert_eq(vdc_allocdb_apply_record(late, second.data, second.len, &err), VDC_RC_OK);
    struct vdc_digest x = vdc_allocdb_digest(b.db);
    struct vdc_digest y = vdc_allocdb_digest(late);
    cr_assert(vdc_digest_equal(&x, &y));
    cr_assert_eq(vdc_allocdb_sequence(b.db), vdc_allocdb_sequence(late));
    vdc_allocdb_destroy(late);
    vdc_buf_deinit(&first);
    vdc_buf_deinit(&second);
    vdc_buf_deinit(&snapshot);
}

Test(ultravisor_entries, strict_preferred_and_spanning_memory)
{
    must(op_create(1, "web"));
    struct vdc_op op = op_memory(1, VDC_NUMA_ANY, 4 * GIB);
    op.memory_assign.locality = VDC_LOCALITY_STRICT;
    refused(op, VDC_RC_NO_SPACE, VDC_RULE_LOCALITY, 4 * GIB, 3 * GIB);
    cr_assert_eq(b.result.largest, 1 * GIB);
    op = op_memory(1, 1, 4 * GIB);
    op.memory_assign.locality = VDC_LOCALITY_PREFERRED;
    must(op);
    cr_assert_eq(find(1)->blocks_len, 2);
    cr_assert_eq(find(1)->blocks[0].bytes, 1 * GIB);
    cr_assert_eq(find(1)->blocks[1].bytes, 3 * GIB);
    refused(op, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_SLICE, 4 * GIB, 2 * GIB + 24 * KIB);
    must((struct vdc_op){.kind = VDC_OP_MEMORY_RELEASE, .memory_release = {.id = id_of(1)}});
    op = op_memory(1, VDC_NUMA_ANY, 6 * MIB);
    op.memory_assign.locality = VDC_LOCALITY_SPANNING;
    op.memory_assign.nodes = 3;
    must(op);
    cr_assert_eq(find(1)->blocks[0].bytes, 4 * MIB, "the odd page is the first node's");
    cr_assert_eq(find(1)->blocks[1].bytes, 2 * MIB);
    op.memory_assign.nodes = 5;
    refused(op, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, 2, 0);
    const struct vdc_memory_block wrong = {.addr = 1 * GIB, .bytes = 2 * MIB, .numa = 1};
    op = op_memory(1, 0, 2 * MIB);
    op.memory_assign.locality = VDC_LOCALITY_STRICT;
    op.memory_assign.blocks = &wrong;
    op.memory_assign.blocks_len = 1;
    refused(op, VDC_RC_CONFLICT, VDC_RULE_LOCALITY, 2 * MIB, 1);
}

Test(ultravisor_entries, strict_preferred_and_spanning_cpus)
{
    must(op_create(1, "web"));
    struct vdc_op op = op_any(1, 5, VDC_NUMA_ANY);
    op.cpu_assign.locality = VDC_LOCALITY_STRICT;
    refused(op, VDC_RC_NO_SPACE, VDC_RULE_LOCALITY, 5, 4);
    op = op_any(1, 5, 1);
    op.cpu_assign.locality = VDC_LOCALITY_PREFERRED;
    must(op);
    cr_assert_eq(find(1)->cpus_len, 5);
    cr_assert_eq(find(1)->cpus[0], 0, "one of the other node");
    cr_assert_eq(find(1)->cpus[1], 1);
    must((struct vdc_op){.kind = VDC_OP_CPU_RELEASE, .cpu_release = {.id = id_of(1)}});
    op = op_any(1, 3, VDC_NUMA_ANY);
    op.cpu_assign.locality = VDC_LOCALITY_SPANNING;
    op.cpu_assign.nodes = 3;
    must(op);
    cr_assert(find(1)->cpus[0] == 0 && find(1)->cpus[1] == 1 && find(1)->cpus[2] == 2);
    op.cpu_assign.any = 7;
    refused(op, VDC_RC_NO_SPACE, VDC_RULE_LOCALITY, 4, 2);
    const uint16_t two[] = {4, 5};
    op = op_any(1, 0, VDC_NUMA_ANY);
    op.cpu_assign.cpus = two;
    op.cpu_assign.cpus_len = 2;
    op.cpu_assign.locality = VDC_LOCALITY_STRICT;
    refused(op, VDC_RC_CONFLICT, VDC_RULE_LOCALITY, 5, 1);
}

Test(ultravisor_entries, whole_cores_are_shared_with_nobody)
{
    /* NUMA node 1 is one core of four threads; those of node 0 have one each. */
    must(op_create(1, "web"));
    must(op_create(2, "db"));
    const uint16_t some[] = {1, 3};
    struct vdc_op op = op_any(1, 0, VDC_NUMA_ANY);
    op.cpu_assign.cpus = some;
    op.cpu_assign.cpus_len = 2;
    op.cpu_assign.whole_cores = true;
    refused(op, VDC_RC_CONFLICT, VDC_RULE_CPU_CORE, 1, 5);
    op = op_any(1, 2, 1);
    op.cpu_assign.whole_cores = true;
    must(op);
    cr_assert_eq(find(1)->cpus_len, 4, "the whole core");
    must((struct vdc_op){.kind = VDC_OP_CPU_RELEASE, .cpu_release = {.id = id_of(1)}});
    must(op_any(2, 1, 1));
    refused(op, VDC_RC_NO_SPACE, VDC_RULE_CPU_CORE, 2, 0);
    op.cpu_assign.numa = VDC_NUMA_ANY;
    must(op);
    cr_assert(find(1)->cpus[0] == 0 && find(1)->cpus[1] == 2);
}

Test(ultravisor_entries, forms_that_no_state_allows_are_invalid)
{
    struct vdc_op ops[16];
    uint32_t len = 0;
    ops[len++] = op_device(VDC_OP_DEVICE_ADD, 0, "with space");
    ops[len++] = op_device(VDC_OP_DEVICE_ATTACH, 1, "");
    ops[len++] = op_volume(1, 0, 1, VDC_VOLUME_READ);
    ops[len++] = op_volume(1, 1, 1, (enum vdc_volume_mode)2);
    ops[len++] = op_port(1, 1, "a/b");
    ops[len] = op_port(1, 1, "ok");
    ops[len++].port_connect.mac[0] = 3;
    ops[len++] = op_channel(1, 1, 1, 4 * KIB);
    ops[len++] = op_channel(1, 1, 2, 100);
    ops[len] = op_channel(1, 1, 2, 4 * KIB);
    ops[len++].channel_connect.version = 0;
    ops[len++] = op_promise("n1", 0);
    ops[len++] = op_transfer("test", NULL, 0, 0);
    ops[len++] = op_transfer("test", NULL, 0, 100);
    ops[len] = op_memory(1, VDC_NUMA_ANY, 2 * MIB);
    ops[len++].memory_assign.locality = VDC_LOCALITY_PREFERRED;
    ops[len] = op_any(1, 1, VDC_NUMA_ANY);
    ops[len++].cpu_assign.locality = VDC_LOCALITY_SPANNING;
    ops[len] = op_shared(1, 100);
    ops[len++].cpu_assign.whole_cores = true;
    for (uint32_t i = 0; i < len; i++) {
        refused(ops[i], VDC_RC_INVALID, VDC_RULE_FORM, 0, 0);
    }
    refused(op_channel(1, 1, 2, VDC_CHANNEL_MEMORY_MAX + 4 * KIB), VDC_RC_TOO_LARGE, VDC_RULE_FORM,
            0, 0);
}
