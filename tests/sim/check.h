/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judges. They look at what runs and writes, at the store and at the nodes' databases through
 * public readers; what the cores think of it does not enter.
 */
#ifndef SIM_CHECK_H
#define SIM_CHECK_H

#include <vdc/id.h>

#include "world.h"

/* One QEMU process as the outside sees it. */
struct sim_execution {
    struct sim_execution *next;
    struct vdc_id partition;
    const char *where; /* "n1" */
    bool executes;     /* its vCPUs run now */
    uint64_t image; /* version of the guest's state that its memory goes with; 0: none, it boots */
};

struct sim_checks *sim_checks_create(struct sim_world *world);
void sim_checks_destroy(struct sim_checks *checks);

void sim_check_add(struct sim_world *world, struct sim_execution *execution);
void sim_check_remove(struct sim_world *world, struct sim_execution *execution);
/* Its vCPUs begin (under this generation, as its view says) or stop. S1: nobody else executes; the
 * volume was not written under a newer generation; a guest that came by migration goes on exactly where
 * it stood. */
void sim_check_executes(struct sim_world *world, struct sim_execution *execution, bool executes,
                        uint64_t generation);

/* The partition's volume is gone: somebody must have asked for its end. (It may run on for a while: on
 * a fenced host that nobody reaches.) */
void sim_check_volume_deleted(struct sim_world *world, const struct vdc_id *partition,
                              const char *where);

/* A client was told that its request (key) became this operation. S5, and durable before acknowledged. */
void sim_check_acknowledged(struct sim_world *world, const char *key,
                            const struct vdc_id *operation);

/* Looks at everything that can be seen from outside: S2, S3, S10. Also does so by itself, four times
 * a second. */
void sim_check_all(struct sim_world *world);
/* L1, after faults have healed: "" or what is not as it should be. */
const char *sim_check_settled(struct sim_world *world);

#endif
