/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one seed means: the cluster, the policy, the workload and the faults. Drawn before anything
 * runs, and printed first. Each kind of fault is in a plan or not (so that some histories are full of
 * one kind), and then happens at random instants.
 */
#ifndef SIM_PLAN_H
#define SIM_PLAN_H

#include "world.h"

#define SIM_FAULT_LIST(X)                                                             \
    X(MANAGER_KILL, "manager-kill") /* and started again */                           \
    X(MANAGER_STOP, "manager-stop") /* SIGSTOP for a while */                         \
    X(AGENT_KILL, "agent-kill")                                                       \
    X(AGENT_STOP, "agent-stop")                                                       \
    X(POWER, "power")                                                                 \
    X(CUT_MANAGER, "cut-manager") /* between a node and a manager, one way or both */ \
    X(CUT_STORE, "cut-store")     /* between a manager and the store */               \
    X(CUT_NODES, "cut-nodes")     /* between two nodes */                             \
    X(ISOLATE, "isolate")         /* a node from everybody */                         \
    X(RESET, "reset")             /* all connections of a node */                     \
    X(SLOW, "slow")                                                                   \
    X(STORE_DOWN, "store-down")                                                       \
    X(STORE_LOSS, "store-loss") /* requests and answers get lost */                   \
    X(DISK_FULL, "disk-full")                                                         \
    X(QEMU_CRASH, "qemu-crash")                                                       \
    X(MONITOR_KILL, "monitor-kill")                                                   \
    X(MONITOR_STOP, "monitor-stop")                                                   \
    X(POWEROFF, "poweroff") /* a guest powers itself off */

enum sim_fault {
#define X(name, text) SIM_##name,
    SIM_FAULT_LIST(X)
#undef X
        SIM_FAULTS
};
const char *sim_fault_name(enum sim_fault fault);

struct sim_plan {
    uint32_t nodes, managers, racks, clients;
    uint32_t cpus; /* of each node */
    uint64_t memory_bytes;
    int64_t drift_ppm;
    int64_t lease_ms;
    bool faults[SIM_FAULTS];
    bool split; /* only cuts, long ones: several believe that they lead, several nodes alone */
    int64_t fault_every_ns; /* on average */
    int64_t request_every_ns;
    uint32_t partitions; /* that the clients keep alive together */
    int64_t safety_ns;
    int64_t liveness_ns; /* bound of L1 */
    char policy[2048];
};

void sim_plan_draw(uint64_t seed, struct sim_plan *plan);
void sim_plan_print(uint64_t seed, const struct sim_plan *plan);

/* Begins to inject faults; ends with everything healed and started. */
void sim_faults_begin(struct sim_world *world);
void sim_faults_heal(struct sim_world *world);

/* The clients of the API. */
struct sim_client *sim_client_create(struct sim_world *world, uint32_t number);
void sim_client_destroy(struct sim_client *client);
void sim_client_begin(struct sim_client *client);
/* No new requests; those under way are still repeated until they are answered. */
void sim_client_finish(struct sim_client *client);
bool sim_client_is_idle(const struct sim_client *client);

#endif
