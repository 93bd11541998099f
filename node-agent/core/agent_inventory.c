/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the machine has, and what of it the node keeps for itself: all of that is in the database, so
 * that what is free there is free.
 *
 * The inventory is the whole machine. What is not offered to zones belongs to system partitions in
 * the node's own slice: "ultravisor" (the host's kernel and this agent) and, where the configuration
 * says that they run here, "command" (a zone manager) and "operations" (a member of the store). They
 * lie at the top of each NUMA node's memory, so that a machine that comes back with a little less
 * (another kernel) takes it from them and not from guests. Devices are recorded in the node's own
 * slice too; zones get them by ZONE_TRANSFER only.
 *
 * adjust() brings the database into line, each step being a transaction:
 *
 *     machine changed: system partitions away -> INVENTORY_SET -> each system partition anew
 *     else: each system partition that differs is replaced, in one transaction
 *     then devices: those that left are removed, new ones added
 *
 * What is refused (the zones' slices hold it, a device is attached) is tried again every
 * VDC_AGENT_INVENTORY_NS if something was committed meanwhile: leaders hear from HELLO what is
 * offered, and shrink their slices.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/crc32c.h>

#include "agent_internal.h"

/* The same partition after each start of this node. */
static struct vdc_id system_id(const struct vdc_agent *agent, const char *name)
{
    struct vdc_prng prng;
    uint64_t node = vdc_crc32c(0, agent->hello.node, strlen(agent->hello.node));
    vdc_prng_init(&prng, node << 32 | vdc_crc32c(0, name, strlen(name)));
    return vdc_id_make(&prng);
}

static enum vdc_rc commit(struct vdc_agent *agent, const struct vdc_op *ops, uint32_t ops_len,
                          struct vdc_tx_result *result)
{
    struct vdc_tx tx = {
        .role = VDC_ROLE_SYSTEM, .kind = VDC_TX_APPLY, .ops = ops, .ops_len = ops_len};
    return agent_commit(agent, &tx, result);
}

/* Said once, not at each try. */
static void note_refusal(struct vdc_agent *agent, const char *what,
                         const struct vdc_tx_result *result)
{
    if (!agent->inventory_refused) {
        AGENT_TRACE(agent, ERROR, "%s: %s -> the record stays as it is, tried again later", what,
                    result->text);
    }
}

/* --- the machine --- */

static bool same_machine(const struct vdc_agent *agent)
{
    if (vdc_allocdb_count_cpus(agent->db) != agent->cpus_len) {
        return false;
    }
    struct vdc_cpu_state cpu;
    for (uint32_t i = 0; i < agent->cpus_len; i++) {
        if (!vdc_allocdb_cpu_at(agent->db, i, &cpu) || cpu.info.number != agent->cpus[i].number ||
            cpu.info.numa != agent->cpus[i].numa || cpu.info.socket != agent->cpus[i].socket ||
            cpu.info.core != agent->cpus[i].core || cpu.info.thread != agent->cpus[i].thread) {
            return false;
        }
    }
    struct vdc_numa_state numa;
    for (uint32_t i = 0; i < agent->numa_len; i++) {
        if (!vdc_allocdb_numa_at(agent->db, i, &numa) || numa.number != agent->numa[i].number ||
            numa.memory_bytes != agent->numa[i].memory_bytes) {
            return false;
        }
    }
    return !vdc_allocdb_numa_at(agent->db, agent->numa_len, &numa);
}

static bool set_machine(struct vdc_agent *agent)
{
    struct vdc_op op = {
        .kind = VDC_OP_INVENTORY_SET,
        .inventory_set =
            {
                .cpus = agent->cpus,
                .cpus_len = agent->cpus_len,
                .numa = agent->numa,
                .numa_len = agent->numa_len,
            },
    };
    struct vdc_tx_result result;
    if (commit(agent, &op, 1, &result) != VDC_RC_OK) {
        note_refusal(agent, "inventory", &result);
        return false;
    }
    AGENT_TRACE(agent, INFO, "inventory: %u CPUs, %u NUMA nodes -> recorded", agent->cpus_len,
                agent->numa_len);
    return true;
}

/* --- system partitions --- */

static bool is_system(const struct vdc_partition *partition)
{
    return partition->kind == VDC_PARTITION_SYSTEM && partition->zone[0] == 0;
}

static bool is_configured(const struct vdc_agent *agent, const struct vdc_id *id)
{
    for (size_t i = 0; i < agent->systems_len; i++) {
        struct vdc_id known = system_id(agent, agent->systems[i].name);
        if (vdc_id_equal(&known, id)) {
            return true;
        }
    }
    return false;
}

/* Those that are not configured any more; or all. */
static bool destroy_systems(struct vdc_agent *agent, bool all)
{
    bool good = true;
    size_t len;
    const struct vdc_partition **list = vdc_allocdb_list_partitions(agent->db, &len);
    struct vdc_op *ops = vdc_calloc(len, sizeof *ops);
    size_t ops_len = 0;
    for (size_t i = 0; i < len; i++) {
        if (is_system(list[i]) && (all || !is_configured(agent, &list[i]->id))) {
            ops[ops_len++] = (struct vdc_op){
                .kind = VDC_OP_PARTITION_DESTROY,
                .partition_destroy = {list[i]->id, list[i]->generation},
            };
        }
    }
    free((void *)list); /* the first commit ends what it points to */
    for (size_t i = 0; i < ops_len; i++) {
        struct vdc_tx_result result;
        if (commit(agent, &ops[i], 1, &result) != VDC_RC_OK) {
            note_refusal(agent, "system partition", &result);
            good = false;
        }
    }
    free(ops);
    return good;
}

static uint64_t held_on(const struct vdc_partition *partition, uint32_t numa)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < partition->blocks_len; i++) {
        bytes += partition->blocks[i].numa == numa ? partition->blocks[i].bytes : 0;
    }
    return bytes;
}

static uint64_t sum_of(const struct vdc_agent *agent, const struct vdc_agent_system *system)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < agent->numa_len; i++) {
        bytes += system->memory_bytes[i];
    }
    return bytes;
}

static bool system_is(const struct vdc_agent *agent, const struct vdc_agent_system *system,
                      const struct vdc_partition *partition)
{
    if (partition->cpus_len != system->cpus_len) {
        return false;
    }
    for (uint32_t i = 0; i < system->cpus_len; i++) {
        if (partition->cpus[i] != system->cpus[i]) {
            return false;
        }
    }
    for (uint32_t i = 0; i < agent->numa_len; i++) {
        if (held_on(partition, agent->numa[i].number) != system->memory_bytes[i]) {
            return false;
        }
    }
    return partition->held_bytes == sum_of(agent, system);
}

/* One transaction: the old one goes, the new one comes with all that it has. `tops`: where its memory
 * ends on each NUMA node; NULL: wherever there is some. */
static enum vdc_rc put_system(struct vdc_agent *agent, const struct vdc_agent_system *system,
                              const uint64_t *tops, struct vdc_tx_result *result)
{
    struct vdc_op ops[3 + VDC_NUMA_NODES_MAX] = {0};
    struct vdc_memory_block blocks[VDC_NUMA_NODES_MAX];
    uint32_t len = 0;
    struct vdc_id id = system_id(agent, system->name);
    const struct vdc_partition *old = vdc_allocdb_find_partition(agent->db, &id);
    uint64_t generation = old == NULL ? 1 : old->generation + 1;
    if (old != NULL) {
        ops[len].kind = VDC_OP_PARTITION_DESTROY;
        ops[len++].partition_destroy =
            (struct vdc_op_partition_destroy){.id = id, .generation = old->generation};
    }
    struct vdc_op_partition_create *create = &ops[len].partition_create;
    ops[len++].kind = VDC_OP_PARTITION_CREATE;
    create->id = id;
    vdc_str_set(create->name, sizeof create->name, system->name);
    create->kind = VDC_PARTITION_SYSTEM;
    create->generation = generation;
    create->run = VDC_RUN_RUNNING;
    create->vcpus = system->cpus_len;
    create->memory_bytes = VDC_MIN(sum_of(agent, system), VDC_PARTITION_MEMORY_MAX);
    if (system->cpus_len > 0) {
        ops[len].kind = VDC_OP_CPU_ASSIGN;
        ops[len++].cpu_assign = (struct vdc_op_cpu_assign){
            .id = id, .cpus = system->cpus, .cpus_len = system->cpus_len, .numa = VDC_NUMA_ANY};
    }
    for (uint32_t i = 0; i < agent->numa_len; i++) {
        uint64_t bytes = system->memory_bytes[i];
        if (bytes == 0) {
            continue;
        }
        ops[len].kind = VDC_OP_MEMORY_ASSIGN;
        struct vdc_op_memory_assign *assign = &ops[len++].memory_assign;
        *assign =
            (struct vdc_op_memory_assign){.id = id, .bytes = bytes, .numa = agent->numa[i].number};
        if (tops != NULL && tops[i] >= bytes) {
            blocks[i] = (struct vdc_memory_block){
                .addr = tops[i] - bytes, .bytes = bytes, .numa = agent->numa[i].number};
            assign->blocks = &blocks[i];
            assign->blocks_len = 1;
        }
    }
    return commit(agent, ops, len, result);
}

static bool set_system(struct vdc_agent *agent, const struct vdc_agent_system *system,
                       const uint64_t *tops)
{
    struct vdc_id id = system_id(agent, system->name);
    const struct vdc_partition *partition = vdc_allocdb_find_partition(agent->db, &id);
    if (partition != NULL && system_is(agent, system, partition)) {
        return true;
    }
    struct vdc_tx_result result;
    enum vdc_rc rc = put_system(agent, system, tops, &result);
    if (rc != VDC_RC_OK && result.rule == VDC_RULE_MEMORY_BUSY) {
        rc = put_system(agent, system, NULL, &result);
    }
    char what[VDC_NAME_CAP + 32];
    snprintf(what, sizeof what, "system partition %s", system->name);
    if (rc != VDC_RC_OK) {
        note_refusal(agent, what, &result);
        return false;
    }
    AGENT_TRACE(agent, INFO, "%s: %u CPUs, %llu MiB -> kept for the node itself", what,
                system->cpus_len, (unsigned long long)(sum_of(agent, system) >> 20));
    return true;
}

static bool set_systems(struct vdc_agent *agent)
{
    bool good = destroy_systems(agent, false);
    uint64_t tops[VDC_NUMA_NODES_MAX];
    for (uint32_t i = 0; i < agent->numa_len; i++) {
        tops[i] = agent->numa[i].memory_bytes;
    }
    for (size_t i = 0; i < agent->systems_len; i++) {
        good = set_system(agent, &agent->systems[i], tops) && good;
        for (uint32_t n = 0; n < agent->numa_len; n++) {
            tops[n] -= VDC_MIN(tops[n], agent->systems[i].memory_bytes[n]);
        }
    }
    return good;
}

/* --- devices --- */

static const struct vdc_op_device_add *find_device(const struct vdc_agent *agent,
                                                   const char *address)
{
    for (size_t i = 0; i < agent->devices_len; i++) {
        if (strcmp(agent->devices[i].address, address) == 0) {
            return &agent->devices[i];
        }
    }
    return NULL;
}

static bool remove_devices(struct vdc_agent *agent)
{
    bool good = true;
    size_t len;
    const struct vdc_entry **list = vdc_allocdb_list_entries(agent->db, VDC_ENTRY_DEVICE, &len);
    struct vdc_op *ops = vdc_calloc(len, sizeof *ops);
    size_t ops_len = 0;
    for (size_t i = 0; i < len; i++) {
        const struct vdc_device *device = &list[i]->device;
        const struct vdc_op_device_add *now = find_device(agent, device->address);
        if (now == NULL || now->kind != device->kind || now->numa != device->numa) {
            ops[ops_len].kind = VDC_OP_DEVICE_REMOVE;
            vdc_str_set(ops[ops_len++].device_remove.address, VDC_DEVICE_ADDRESS_CAP,
                        device->address);
        }
    }
    free((void *)list);
    for (size_t i = 0; i < ops_len; i++) {
        struct vdc_tx_result result;
        const char *address = ops[i].device_remove.address;
        if (commit(agent, &ops[i], 1, &result) == VDC_RC_OK) {
            AGENT_TRACE(agent, INFO, "device %s: it left the machine -> removed", address);
        } else {
            note_refusal(agent, "device that left the machine", &result);
            good = false;
        }
    }
    free(ops);
    return good;
}

static bool add_devices(struct vdc_agent *agent)
{
    bool good = true;
    size_t at = 0;
    while (at < agent->devices_len) {
        struct vdc_op ops[VDC_TX_OPS_MAX];
        uint32_t len = 0;
        for (; at < agent->devices_len && len < VDC_TX_OPS_MAX; at++) {
            if (vdc_allocdb_find_device(agent->db, agent->devices[at].address) == NULL) {
                ops[len].kind = VDC_OP_DEVICE_ADD;
                ops[len++].device_add = agent->devices[at];
            }
        }
        struct vdc_tx_result result;
        if (len > 0 && commit(agent, ops, len, &result) != VDC_RC_OK) {
            note_refusal(agent, "devices", &result);
            good = false;
        } else if (len > 0) {
            AGENT_TRACE(agent, INFO, "devices: %u new -> recorded, in no zone", len);
        }
    }
    return good;
}

/* --- all of it --- */

static bool adjust_machine(struct vdc_agent *agent)
{
    if (same_machine(agent)) {
        return true;
    }
    /* Memory that is gone lay at the end, where the system partitions are. */
    return destroy_systems(agent, true) && set_machine(agent);
}

static void adjust(struct vdc_agent *agent)
{
    bool good = agent->journal == VDC_RC_OK;
    if (good) {
        good = adjust_machine(agent);
        good = set_systems(agent) && good;
        good = remove_devices(agent) && good;
        good = add_devices(agent) && good;
        agent->inventory_refused = !good;
    }
    agent->inventory_tried = agent->committed;
    agent->inventory_at = good ? VDC_NEVER : vdc_mono_add(agent->now, VDC_AGENT_INVENTORY_NS);
}

void agent_inventory_begin(struct vdc_agent *agent)
{
    adjust(agent);
}

void agent_inventory_take_devices(struct vdc_agent *agent, const struct vdc_agent_event *event)
{
    free(agent->devices);
    agent->devices_len = event->devices.len;
    agent->devices =
        vdc_memdup(event->devices.list, event->devices.len * sizeof *event->devices.list);
    adjust(agent);
}

void agent_inventory_tick(struct vdc_agent *agent)
{
    if (!vdc_mono_reached(agent->now, agent->inventory_at)) {
        return;
    }
    if (agent->inventory_refused && agent->inventory_tried == agent->committed) {
        agent->inventory_at = vdc_mono_add(agent->now, VDC_AGENT_INVENTORY_NS);
    } else {
        adjust(agent);
    }
}
