/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/quantity.h>

#include "manager.h"
#include "node.h"
#include "store.h"

const char *sim_fault_name(enum sim_fault fault)
{
    static const char *const names[] = {
#define X(name, text) text,
        SIM_FAULT_LIST(X)
#undef X
    };
    return names[fault];
}

/* ---- drawing ---- */

static int64_t pick(struct vdc_prng *prng, int64_t from, int64_t to)
{
    return from + (int64_t)vdc_prng_below(prng, (uint64_t)(to - from) + 1);
}

void sim_plan_draw(uint64_t seed, struct sim_plan *plan)
{
    struct vdc_prng prng;
    vdc_prng_init(&prng, seed ^ UINT64_C(0x5eedf00d));
    *plan = (struct sim_plan){
        .nodes = (uint32_t)pick(&prng, 2, 7),
        .managers = (uint32_t)pick(&prng, 1, 3),
        .clients = (uint32_t)pick(&prng, 1, 4),
        .cpus = (uint32_t)pick(&prng, 2, 8),
        .memory_bytes = (uint64_t)pick(&prng, 2, 8) << 30,
        .drift_ppm = pick(&prng, 0, 500),
        .lease_ms = pick(&prng, 1000, 6000),
        .fault_every_ns = pick(&prng, 300, 8000) * VDC_MS,
        .request_every_ns = pick(&prng, 100, 3000) * VDC_MS,
        .partitions = (uint32_t)pick(&prng, 1, 12),
        .safety_ns = pick(&prng, 20, 120) * VDC_SECOND,
        .liveness_ns = 240 * VDC_SECOND,
    };
    plan->racks = (uint32_t)pick(&prng, 1, plan->nodes);
    for (int i = 0; i < SIM_FAULTS; i++) {
        plan->faults[i] = sim_one_in(&prng, 3);
    }
    plan->split = sim_one_in(&prng, 5);
    if (plan->split) {
        for (int i = 0; i < SIM_FAULTS; i++) {
            plan->faults[i] = i == SIM_CUT_MANAGER || i == SIM_CUT_STORE || i == SIM_ISOLATE;
        }
        plan->managers = (uint32_t)pick(&prng, 2, 3);
        plan->fault_every_ns = pick(&prng, 500, 3000) * VDC_MS;
    }
    struct vdc_buf text = {0};
    vdc_buf_printf(&text, "apiVersion: vdc/v1\nkind: ZonePolicy\nzone: " SIM_ZONE "\n"
                          "nodes:\n"
                          "  - match: rack != \"none\"\n"
                          "    share: {cpus: 100%%, memory: 100%%}\n"
                          "capacity:\n  cpu_overcommit: 8.0\n"
                          "classes:\n"
                          "  gold: {priority: 100, cpu: shared, failover: restart}\n"
                          "  silver: {priority: 50, cpu: shared, failover: restart}\n"
                          "  batch: {priority: 10, cpu: shared, failover: none}\n"
                          "placement:\n  strategy: spread\n");
    if (sim_one_in(&prng, 2)) {
        vdc_buf_printf(&text, "  rules:\n    - name: db-apart\n"
                              "      when: partition.labels.app == \"db\"\n"
                              "      apart: rack\n");
    }
    vdc_buf_printf(&text, "failover:\n  lease: %lldms\n  storm_brake: %lld%%\n",
                   (long long)plan->lease_ms, (long long)pick(&prng, 10, 100));
    vdc_buf_printf(&text, "migration: {bandwidth: 1Gbit/s, downtime: 50ms, timeout: 60s}\n");
    VDC_ASSERT(text.len < sizeof plan->policy);
    vdc_str_set(plan->policy, sizeof plan->policy, vdc_buf_text(&text));
    vdc_buf_deinit(&text);
}

void sim_plan_print(uint64_t seed, const struct sim_plan *plan)
{
    printf("seed %llu: %u nodes in %u racks, %u managers, %u clients, %u CPUs and %llu GiB each, "
           "drift %lld ppm, lease %lld ms, %u partitions, request every %lld ms, fault every %lld "
           "ms, %lld s\nfaults:",
           (unsigned long long)seed, plan->nodes, plan->racks, plan->managers, plan->clients,
           plan->cpus, (unsigned long long)(plan->memory_bytes >> 30), (long long)plan->drift_ppm,
           (long long)plan->lease_ms, plan->partitions,
           (long long)(plan->request_every_ns / VDC_MS), (long long)(plan->fault_every_ns / VDC_MS),
           (long long)(plan->safety_ns / VDC_SECOND));
    for (int i = 0; i < SIM_FAULTS; i++) {
        if (plan->faults[i]) {
            printf(" %s", sim_fault_name((enum sim_fault)i));
        }
    }
    printf("\n");
}

/* ---- faults ---- */

static void heal_manager(void *object, void *data)
{
    (void)data;
    struct sim_manager *manager = object;
    struct sim_process *process = sim_manager_process(manager);
    if (!process->alive) {
        sim_manager_start(manager);
    } else if (process->stopped) {
        sim_say(process->world, process->name, "goes on");
        sim_process_stop(process, false);
    }
}

static void heal_agent(void *object, void *data)
{
    (void)data;
    struct sim_node *node = object;
    struct sim_process *process = sim_node_agent(node);
    if (!process->alive) {
        sim_node_start_agent(node);
    } else if (process->stopped) {
        sim_say(process->world, process->name, "goes on");
        sim_process_stop(process, false);
    }
}

static void heal_power(void *object, void *data)
{
    (void)data;
    sim_node_power(object, true);
}

static void heal_disk(void *object, void *data)
{
    (void)data;
    sim_node_set_disk_full(object, false);
}

static void heal_store(void *object, void *data)
{
    (void)data;
    struct sim_world *world = object;
    sim_say(world, "store", "answers again");
    sim_store_set_up(world->store, true);
    sim_store_set_loss(world->store, 0);
}

static void heal_net(void *object, void *data)
{
    (void)data;
    sim_say(object, "net", "healed");
    sim_net_heal(object);
}

/* What is between two hosts, both ways; each cut heals by itself, so several last at a time. */
struct between {
    uint32_t a, b;
};

static void heal_between(void *object, void *data)
{
    const struct between *between = data;
    sim_net_cut(object, between->a, between->b, false);
    sim_net_cut(object, between->b, between->a, false);
    sim_net_slow(object, between->a, between->b, 0);
    sim_net_slow(object, between->b, between->a, 0);
}

static void heal_between_later(struct sim_world *world, uint32_t a, uint32_t b, int64_t lasts)
{
    struct between between = {a, b};
    sim_after(world, NULL, lasts, heal_between, world, vdc_memdup(&between, sizeof between), free);
}

/* How long a fault lasts: mostly short, sometimes longer than every lease. */
static int64_t span(struct sim_world *world)
{
    switch (world->plan->split ? 3 : vdc_prng_below(&world->faults, 4)) {
    case 0:
        return pick(&world->faults, 10, 500) * VDC_MS;
    case 1:
        return pick(&world->faults, 500, 4000) * VDC_MS;
    case 2:
        return pick(&world->faults, 2, 12) * VDC_SECOND;
    default:
        return pick(&world->faults, 8, 30) * VDC_SECOND;
    }
}

static void cut_pair(struct sim_world *world, uint32_t a, uint32_t b, int64_t lasts)
{
    heal_between_later(world, a, b, lasts);
    uint64_t ways = vdc_prng_below(&world->faults, 3);
    if (ways != 1) {
        sim_net_cut(world, a, b, true);
    }
    if (ways != 2) {
        sim_net_cut(world, b, a, true);
    }
}

static void isolate(struct sim_world *world, uint32_t host, int64_t lasts)
{
    for (uint32_t i = 0; i < world->nodes_len; i++) {
        if (i != host) {
            heal_between_later(world, host, i, lasts);
            sim_net_cut(world, host, i, true);
            sim_net_cut(world, i, host, true);
        }
    }
    for (size_t i = 0; i < world->managers_len; i++) {
        uint32_t manager = sim_manager_host(world->managers[i]);
        heal_between_later(world, host, manager, lasts);
        sim_net_cut(world, host, manager, true);
        sim_net_cut(world, manager, host, true);
    }
}

static void inject(struct sim_world *world, enum sim_fault fault)
{
    struct vdc_prng *prng = &world->faults;
    struct sim_node *node = world->nodes[vdc_prng_below(prng, world->nodes_len)];
    struct sim_node *other = world->nodes[vdc_prng_below(prng, world->nodes_len)];
    struct sim_manager *manager = world->managers[vdc_prng_below(prng, world->managers_len)];
    struct sim_process *agent = sim_node_agent(node);
    int64_t lasts = span(world);
    char text[VDC_QUANTITY_TEXT_CAP];
    vdc_quantity_duration_text(lasts / VDC_MS * VDC_MS, text);
    sim_say(world, "fault", "%s (%s, %s, %s) for %s", sim_fault_name(fault), sim_node_name(node),
            sim_node_name(other), sim_manager_name(manager), text);
    switch (fault) {
    case SIM_MANAGER_KILL:
        if (sim_manager_process(manager)->alive) {
            sim_manager_kill(manager);
            sim_after(world, NULL, lasts, heal_manager, manager, NULL, NULL);
        }
        break;
    case SIM_MANAGER_STOP:
        if (sim_manager_process(manager)->alive) {
            sim_process_stop(sim_manager_process(manager), true);
            sim_after(world, NULL, lasts, heal_manager, manager, NULL, NULL);
        }
        break;
    case SIM_AGENT_KILL:
        if (agent->alive && !sim_node_has_hung_monitor(node)) {
            sim_node_kill_agent(node);
            sim_after(world, NULL, lasts, heal_agent, node, NULL, NULL);
        }
        break;
    case SIM_AGENT_STOP:
        if (agent->alive && !sim_node_has_hung_monitor(node)) {
            sim_process_stop(agent, true);
            sim_after(world, NULL, lasts, heal_agent, node, NULL, NULL);
        }
        break;
    case SIM_POWER:
        if (sim_node_has_power(node)) {
            sim_node_power(node, false);
            sim_after(world, NULL, lasts + VDC_SECOND, heal_power, node, NULL, NULL);
        }
        break;
    case SIM_CUT_MANAGER:
        cut_pair(world, sim_node_host(node), sim_manager_host(manager), lasts);
        break;
    case SIM_CUT_STORE:
        cut_pair(world, sim_manager_host(manager), sim_store_host(), lasts);
        break;
    case SIM_CUT_NODES:
        cut_pair(world, sim_node_host(node), sim_node_host(other), lasts);
        break;
    case SIM_ISOLATE:
        isolate(world, sim_node_host(node), lasts);
        break;
    case SIM_RESET:
        if (agent->alive) {
            sim_conn_reset(world, agent);
        }
        break;
    case SIM_SLOW:
        sim_net_slow(world, sim_node_host(node), sim_manager_host(manager),
                     pick(prng, 1, 2000) * VDC_MS);
        heal_between_later(world, sim_node_host(node), sim_manager_host(manager), lasts);
        break;
    case SIM_STORE_DOWN:
        sim_store_set_up(world->store, false);
        sim_after(world, NULL, lasts, heal_store, world, NULL, NULL);
        break;
    case SIM_STORE_LOSS:
        sim_store_set_loss(world->store, (uint64_t)pick(prng, 2, 20));
        sim_after(world, NULL, lasts, heal_store, world, NULL, NULL);
        break;
    case SIM_DISK_FULL:
        sim_node_set_disk_full(node, true);
        sim_after(world, NULL, lasts, heal_disk, node, NULL, NULL);
        break;
    case SIM_QEMU_CRASH:
        sim_node_hurt_guest(node, prng, 0);
        break;
    case SIM_MONITOR_KILL:
        sim_node_hurt_guest(node, prng, 1);
        break;
    case SIM_MONITOR_STOP:
        sim_node_hurt_guest(node, prng, 2);
        break;
    case SIM_POWEROFF:
        sim_node_hurt_guest(node, prng, 3);
        break;
    case SIM_FAULTS:
        break;
    }
}

static void on_fault(void *object, void *data)
{
    (void)data;
    struct sim_world *world = object;
    const struct sim_plan *plan = world->plan;
    if (world->now >= plan->safety_ns) {
        return;
    }
    enum sim_fault kinds[SIM_FAULTS];
    size_t count = 0;
    for (int i = 0; i < SIM_FAULTS; i++) {
        if (plan->faults[i]) {
            kinds[count++] = (enum sim_fault)i;
        }
    }
    if (count == 0) {
        return;
    }
    inject(world, kinds[vdc_prng_below(&world->faults, count)]);
    sim_after(world, NULL, pick(&world->faults, VDC_MS, 2 * plan->fault_every_ns), on_fault, world,
              NULL, NULL);
}

void sim_faults_begin(struct sim_world *world)
{
    /* Half of the histories begin in peace. */
    int64_t first = sim_one_in(&world->faults, 2) ? 10 * VDC_SECOND : VDC_SECOND;
    sim_after(world, NULL, first, on_fault, world, NULL, NULL);
}

void sim_faults_heal(struct sim_world *world)
{
    sim_say(world, "fault", "everything is healed");
    heal_net(world, NULL);
    heal_store(world, NULL);
    for (size_t i = 0; i < world->managers_len; i++) {
        heal_manager(world->managers[i], NULL);
    }
    for (size_t i = 0; i < world->nodes_len; i++) {
        sim_node_set_disk_full(world->nodes[i], false);
        sim_node_power(world->nodes[i], true);
        heal_agent(world->nodes[i], NULL);
    }
}
