/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node: a host with a clock, a disk, a tmpfs and processes: the real agent core (vdc/agent.h), and for
 * each guest a monitor (monitor.h). Losing power ends them all and empties the tmpfs.
 */
#ifndef SIM_NODE_H
#define SIM_NODE_H

#include <vdc/agent_monitor.h>
#include <vdc/allocdb.h>

#include "world.h"

struct sim_place;
struct sim_relay;

struct sim_node *sim_node_create(struct sim_world *world, uint32_t number);
void sim_node_destroy(struct sim_node *node);
void sim_node_power(struct sim_node *node, bool on);
bool sim_node_has_power(const struct sim_node *node);
void sim_node_start_agent(struct sim_node *node);
void sim_node_kill_agent(struct sim_node *node);
struct sim_process *sim_node_agent(struct sim_node *node);
void sim_node_set_disk_full(struct sim_node *node, bool full);
const char *sim_node_name(const struct sim_node *node);
uint32_t sim_node_host(const struct sim_node *node);
/* The agent's database; NULL while no agent runs. */
const struct vdc_allocdb *sim_node_db(const struct sim_node *node);
/* Digest of its database as of a sequence that it once had (0 < sequence <= newest). False: unknown. */
bool sim_node_digest_at(const struct sim_node *node, uint64_t sequence, struct vdc_digest *out);
/* Something happens to one of its guests, drawn by `prng`: 0 its QEMU dies, 1 its monitor is killed,
 * 2 its monitor is stopped for a while, 3 the guest powers itself off. */
void sim_node_hurt_guest(struct sim_node *node, struct vdc_prng *prng, int how);

bool sim_node_has_hung_monitor(const struct sim_node *node);

/* ---- what a monitor tells; place: as given to sim_monitor_start() ---- */
void sim_place_state(struct sim_place *place, const struct vdc_agent_monitor_state *state);
void sim_place_reply(struct sim_place *place, uint64_t ticket, enum vdc_rc rc, const char *text);
/* The monitor and its QEMU have ended; last: what it wrote down, or NULL. */
void sim_place_gone(struct sim_place *place, const struct vdc_agent_monitor_state *last);
/* The relay that its QEMU connects to; NULL: none. */
struct sim_relay *sim_place_relay(struct sim_place *place);

#endif
