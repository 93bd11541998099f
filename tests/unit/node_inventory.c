/* SPDX-License-Identifier: Apache-2.0 */
/* What the node agent's core brings into its database: the machine, the node's own system partitions
 * and devices, at the start and when they change. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include <vdc/agent.h>
#include <vdc/base.h>

#define MIB (UINT64_C(1) << 20)

static struct vdc_cpu_info cpus[4];
static struct vdc_numa_info numa[2];
static struct vdc_agent_system systems[2];
static struct vdc_op_device_add devices[600];
static struct vdc_agent_config *config;
static struct vdc_agent *agent;
static struct vdc_allocdb *journalled; /* what the journal would recover to */
static enum vdc_rc journal;
static int64_t now_ns;
static struct vdc_buf trace;
static unsigned records; /* of the last step */

static void step(struct vdc_agent_event *event)
{
    struct vdc_err err;
    event->now.ns = now_ns;
    event->journal = journal;
    struct vdc_agent_update *update = vdc_agent_step(agent, event);
    uint64_t durable = 0;
    records = 0;
    for (size_t i = 0; i < update->actions_len; i++) {
        const struct vdc_agent_action *action = &update->actions[i];
        if (action->kind == VDC_AGENT_DO_JOURNAL) {
            cr_assert_eq(vdc_allocdb_apply_record(journalled, action->journal.data,
                                                  action->journal.len, &err),
                         VDC_RC_OK, "%s", err.text);
            durable = action->journal.sequence;
            records++;
        }
    }
    vdc_buf_clear(&trace);
    enum vdc_level level;
    char line[512];
    while (vdc_trace_take(&update->trace, &level, line, sizeof line)) {
        vdc_buf_printf(&trace, "%s\n", line);
    }
    cr_assert_eq(vdc_allocdb_check(vdc_agent_allocdb(agent), &err), VDC_RC_OK, "%s", err.text);
    if (durable > 0) {
        struct vdc_agent_event event2 = {
            .kind = VDC_AGENT_DURABLE, .now.ns = now_ns, .journal = journal};
        event2.sequence = durable;
        vdc_agent_step(agent, &event2);
    }
}

static void start(void)
{
    struct vdc_buf snapshot = {0};
    struct vdc_allocdb *db;
    vdc_allocdb_snapshot(journalled, &snapshot);
    cr_assert_eq(vdc_allocdb_restore(snapshot.data, snapshot.len, &db, NULL), VDC_RC_OK);
    vdc_buf_deinit(&snapshot);
    vdc_agent_destroy(agent);
    agent = vdc_agent_create(config, db);
    struct vdc_agent_event event = {.kind = VDC_AGENT_RECOVERED};
    step(&event);
}

static void tick(void)
{
    now_ns += VDC_AGENT_INVENTORY_NS;
    struct vdc_agent_event event = {.kind = VDC_AGENT_TICK};
    step(&event);
}

/* Four CPUs and 1 GiB + 512 MiB; the ultravisor has CPU 3 and 64 MiB of each NUMA node. */
static void setup(void)
{
    for (uint16_t i = 0; i < 4; i++) {
        cpus[i] = (struct vdc_cpu_info){.number = i, .numa = i / 2, .core = i};
    }
    numa[0] = (struct vdc_numa_info){0, 1024 * MIB};
    numa[1] = (struct vdc_numa_info){1, 512 * MIB};
    systems[0] = (struct vdc_agent_system){
        .name = "ultravisor", .cpus = {3}, .cpus_len = 1, .memory_bytes = {64 * MIB, 64 * MIB}};
    config = VDC_NEW(struct vdc_agent_config);
    vdc_str_set(config->hello.node, sizeof config->hello.node, "n1");
    config->cpus = cpus;
    config->cpus_len = 4;
    config->numa = numa;
    config->numa_len = 2;
    config->systems = systems;
    config->systems_len = 1;
    config->devices = devices;
    journalled = vdc_allocdb_create();
    journal = VDC_RC_OK;
    now_ns = VDC_SECOND;
}

static void teardown(void)
{
    vdc_agent_destroy(agent);
    vdc_allocdb_destroy(journalled);
    vdc_buf_deinit(&trace);
    free(config);
}

TestSuite(node_inventory, .init = setup, .fini = teardown);

static const struct vdc_allocdb *db(void)
{
    return vdc_agent_allocdb(agent);
}

static const struct vdc_partition *find_by_name(const char *name)
{
    size_t len;
    const struct vdc_partition *found = NULL;
    const struct vdc_partition **list = vdc_allocdb_list_partitions(db(), &len);
    for (size_t i = 0; i < len; i++) {
        found = strcmp(list[i]->name, name) == 0 ? list[i] : found;
    }
    free((void *)list);
    return found;
}

/* A transaction of the node itself, as if a leader's had come: the core has no other way in here. */
static enum vdc_rc zone_set(uint32_t zone_cpus, uint64_t bytes)
{
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    static uint64_t requests;
    struct vdc_op op = {
        .kind = VDC_OP_ZONE_SET,
        .zone_set = {.overcommit_milli = 1000, .cpu.amount = zone_cpus, .memory.amount = bytes}};
    struct vdc_tx tx = {
        .epoch = 1, .role = VDC_ROLE_COMMAND, .zone = "prod", .ops = &op, .ops_len = 1};
    memcpy(tx.request_id.bytes, &(uint64_t){++requests}, 8);
    struct vdc_buf bytes_of = {0};
    vdc_tx_encode(&tx, &bytes_of);
    msg->kind = VDC_MSG_TX;
    msg->tx.tx.data = bytes_of.data;
    msg->tx.tx.len = bytes_of.len;
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_MSG};
    event.session.msg = msg;
    step(&event);
    vdc_buf_deinit(&bytes_of);
    free(msg);
    const struct vdc_zone_slice *slice = vdc_allocdb_find_zone(db(), "prod");
    return slice->cpus == zone_cpus && slice->memory_bytes == bytes ? VDC_RC_OK : VDC_RC_REFUSED;
}

static void join(void)
{
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_UP};
    event.session.manager = "m1";
    step(&event);
    msg->kind = VDC_MSG_ZONE_LEAD;
    vdc_str_set(msg->zone_lead.zone, sizeof msg->zone_lead.zone, "prod");
    msg->zone_lead.epoch = 1;
    msg->zone_lead.lease_ns = 4 * VDC_SECOND;
    msg->zone_lead.incarnation = 1;
    event = (struct vdc_agent_event){.kind = VDC_AGENT_SESSION_MSG};
    event.session.msg = msg;
    step(&event);
    /* The join ends with the step behind the one that made it durable. */
    event = (struct vdc_agent_event){.kind = VDC_AGENT_TICK};
    step(&event);
    free(msg);
}

Test(node_inventory, what_is_free_is_the_machine_less_what_partitions_hold)
{
    start();
    const struct vdc_partition *own = find_by_name("ultravisor");
    cr_assert_not_null(own);
    cr_assert_eq(own->kind, VDC_PARTITION_SYSTEM);
    cr_assert_str_eq(own->zone, "");
    cr_assert_eq(own->cpus_len, 1);
    cr_assert_eq(own->cpus[0], 3);
    cr_assert_eq(own->held_bytes, 128 * MIB);
    /* At the end of each NUMA node. */
    cr_assert_eq(own->blocks_len, 2);
    cr_assert_eq(own->blocks[0].addr, (1024 - 64) * MIB);
    cr_assert_eq(own->blocks[1].addr, (512 - 64) * MIB);
    cr_assert_eq(vdc_allocdb_memory_bytes(db()), 1536 * MIB);
    cr_assert_eq(vdc_allocdb_memory_free_bytes(db()), (1536 - 128) * MIB);
    join();
    cr_assert_neq(zone_set(4, 1024 * MIB), VDC_RC_OK, "a zone got the ultravisor's CPU");
    cr_assert_neq(zone_set(3, 1536 * MIB), VDC_RC_OK, "a zone got the ultravisor's memory");
    cr_assert_eq(zone_set(3, (1536 - 128) * MIB), VDC_RC_OK);
}

Test(node_inventory, a_system_partition_with_nothing_of_its_own_is_recorded_too)
{
    systems[0] = (struct vdc_agent_system){.name = "ultravisor"};
    start();
    cr_assert_not_null(find_by_name("ultravisor"));
    cr_assert_eq(vdc_allocdb_memory_free_bytes(db()), 1536 * MIB);
    start();
    cr_assert_eq(records, 0);
}

Test(node_inventory, a_restart_with_the_same_machine_writes_nothing)
{
    start();
    cr_assert_gt(records, 0);
    uint64_t sequence = vdc_allocdb_sequence(db());
    start();
    cr_assert_eq(records, 0);
    cr_assert_eq(vdc_allocdb_sequence(db()), sequence);
}

Test(node_inventory, a_configuration_that_changed_replaces_the_system_partitions)
{
    start();
    struct vdc_id id = find_by_name("ultravisor")->id;
    systems[0].cpus_len = 0;
    systems[0].memory_bytes[0] = 32 * MIB;
    systems[1] = (struct vdc_agent_system){
        .name = "operations", .cpus = {2, 3}, .cpus_len = 2, .memory_bytes = {0, 128 * MIB}};
    config->systems_len = 2;
    start();
    cr_assert(vdc_id_equal(&find_by_name("ultravisor")->id, &id));
    cr_assert_eq(find_by_name("ultravisor")->held_bytes, 96 * MIB);
    cr_assert_eq(find_by_name("operations")->cpus_len, 2);
    cr_assert_eq(find_by_name("operations")->held_bytes, 128 * MIB);
    config->systems_len = 1;
    start();
    cr_assert_null(find_by_name("operations"));
    cr_assert_eq(vdc_allocdb_memory_free_bytes(db()), (1536 - 96) * MIB);
}

Test(node_inventory, a_machine_with_less_memory_takes_it_from_its_own_partition)
{
    start();
    join();
    cr_assert_eq(zone_set(3, (1536 - 128) * MIB), VDC_RC_OK);
    numa[0].memory_bytes -= 32 * MIB;
    systems[0].memory_bytes[0] -= 32 * MIB;
    start();
    cr_assert_eq(vdc_allocdb_memory_bytes(db()), (1536 - 32) * MIB);
    cr_assert_eq(find_by_name("ultravisor")->held_bytes, 96 * MIB);
    cr_assert_eq(vdc_allocdb_find_zone(db(), "prod")->memory_bytes, (1536 - 128) * MIB);
}

Test(node_inventory, what_the_zones_still_hold_is_taken_when_they_give_it_back)
{
    start();
    join();
    cr_assert_eq(zone_set(3, (1536 - 128) * MIB), VDC_RC_OK);
    systems[0].memory_bytes[0] += 256 * MIB;
    start();
    cr_assert_not_null(strstr(vdc_buf_text(&trace), "system partition ultravisor"));
    cr_assert_eq(find_by_name("ultravisor")->held_bytes, 128 * MIB);
    uint64_t sequence = vdc_allocdb_sequence(db());
    for (int i = 0; i < 5; i++) {
        tick(); /* nothing changed, so nothing is tried, said or written */
        cr_assert_eq(trace.len, 0, "%s", vdc_buf_text(&trace));
    }
    cr_assert_eq(vdc_allocdb_sequence(db()), sequence);
    join();
    cr_assert_eq(zone_set(3, (1536 - 384) * MIB), VDC_RC_OK);
    tick();
    cr_assert_eq(find_by_name("ultravisor")->held_bytes, 384 * MIB);
    cr_assert_eq(vdc_agent_deadline(agent).ns > now_ns, true);
}

Test(node_inventory, a_full_disk_delays_the_record_of_the_machine)
{
    journal = VDC_RC_NO_SPACE;
    start();
    cr_assert_eq(records, 0);
    cr_assert_eq(vdc_allocdb_count_cpus(db()), 0);
    journal = VDC_RC_OK;
    tick();
    cr_assert_eq(vdc_allocdb_count_cpus(db()), 4);
    cr_assert_not_null(find_by_name("ultravisor"));
}

static void put_device(size_t i, const char *address, enum vdc_device_kind kind, uint32_t on)
{
    devices[i] = (struct vdc_op_device_add){.kind = kind, .numa = on};
    vdc_str_set(devices[i].address, sizeof devices[i].address, address);
}

Test(node_inventory, devices_are_recorded_in_no_zone_and_follow_the_machine)
{
    put_device(0, "disk:A1", VDC_DEVICE_DISK, 1);
    put_device(1, "0000:3b:00.0", VDC_DEVICE_PCI, VDC_NUMA_ANY);
    config->devices_len = 2;
    start();
    const struct vdc_entry *disk = vdc_allocdb_find_device(db(), "disk:A1");
    cr_assert_not_null(disk);
    cr_assert_str_eq(disk->zone, "");
    cr_assert_null(disk->partition);
    cr_assert_eq(disk->device.numa, 1);
    /* One is pulled out, one moves to another slot, one is new. */
    put_device(0, "0000:3b:00.0", VDC_DEVICE_PCI, 1);
    put_device(1, "nic:52:54:00:12:34:56", VDC_DEVICE_NIC, 0);
    struct vdc_agent_event event = {.kind = VDC_AGENT_DEVICES};
    event.devices.list = devices;
    event.devices.len = 2;
    step(&event);
    cr_assert_null(vdc_allocdb_find_device(db(), "disk:A1"));
    cr_assert_eq(vdc_allocdb_find_device(db(), "0000:3b:00.0")->device.numa, 1);
    cr_assert_eq(vdc_allocdb_count_entries(db(), VDC_ENTRY_DEVICE), 2);
    step(&event);
    cr_assert_eq(records, 0);
}

Test(node_inventory, more_devices_than_fit_one_transaction_are_all_recorded)
{
    for (size_t i = 0; i < VDC_COUNT_OF(devices); i++) {
        char address[32];
        snprintf(address, sizeof address, "disk:%zu", i);
        put_device(i, address, VDC_DEVICE_DISK, 0);
    }
    config->devices_len = VDC_COUNT_OF(devices);
    start();
    cr_assert_eq(vdc_allocdb_count_entries(db(), VDC_ENTRY_DEVICE), VDC_COUNT_OF(devices));
}

Test(node_inventory, a_device_that_a_zone_has_stays_recorded_until_it_is_given_back)
{
    put_device(0, "disk:A1", VDC_DEVICE_DISK, 1);
    config->devices_len = 1;
    start();
    join();
    cr_assert_eq(zone_set(1, 64 * MIB), VDC_RC_OK);
    /* Given by the node itself; no program asks for that yet. */
    struct vdc_op op = {.kind = VDC_OP_ZONE_TRANSFER,
                        .zone_transfer = {.to = "prod", .device = "disk:A1"}};
    struct vdc_tx tx = {.role = VDC_ROLE_SYSTEM, .ops = &op, .ops_len = 1};
    struct vdc_tx_result result;
    struct vdc_buf record = {0};
    cr_assert_eq(vdc_allocdb_commit(journalled, &tx, &result, &record), VDC_RC_OK, "%s",
                 result.text);
    vdc_buf_deinit(&record);
    config->devices_len = 0;
    start();
    cr_assert_not_null(strstr(vdc_buf_text(&trace), "left the machine"), "%s",
                       vdc_buf_text(&trace));
    cr_assert_not_null(vdc_allocdb_find_device(db(), "disk:A1"));
}
