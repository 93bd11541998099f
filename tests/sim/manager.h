/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A zone manager: the real zone core (vdc/zone.h) behind a seat that campaigns, loads and writes as
 * zone-manager/io/seat.c does. Nodes and clients dial it.
 */
#ifndef SIM_MANAGER_H
#define SIM_MANAGER_H

#include <vdc/zone.h>

#include "store.h"
#include "world.h"

struct sim_manager *sim_manager_create(struct sim_world *world, uint32_t number);
void sim_manager_destroy(struct sim_manager *manager);
void sim_manager_start(struct sim_manager *manager);
void sim_manager_kill(struct sim_manager *manager);
struct sim_process *sim_manager_process(struct sim_manager *manager);
uint32_t sim_manager_host(const struct sim_manager *manager);
/* The calls of the node's end of a session: what the node dials with; see node.c. 0: refused. */
uint64_t sim_manager_dial(struct sim_manager *manager, const struct sim_end *node);
/* NULL: it does not lead (as it thinks). */
const struct vdc_zone *sim_manager_zone(const struct sim_manager *manager);
const char *sim_manager_name(const struct sim_manager *manager);

/* A client's request has arrived. on_answer is called at the client's side after the way back; the
 * client is told UNAVAILABLE by its own timeout. False: it does not lead. */
typedef void sim_answer_fn(void *object, uint64_t token, const struct vdc_zone_answer *answer);
bool sim_manager_request(struct sim_manager *manager, struct vdc_zone_request *request,
                         sim_answer_fn *on_answer, void *object);

struct vdc_policy *sim_policy_parse(const char *text);

#endif
