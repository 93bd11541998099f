/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guests' places on this machine, as the core's actions ask for them:
 *
 *   RUN/partitions/ID.GEN/   monitor.json (pid, start time), monitor.sock, config.json, console.log,
 *                            monitor.log, final.json, handover (a mark), relay.sock, relay.log,
 *                            lock (held by monitor and QEMU as long as they live)
 *   RUN/views/ID.GEN         the view; 0640, mapped shared and writable only here
 *
 * Nothing calls back from within a function of this header: what fails at once is delivered by
 * agent_places_deliver(), which the driver calls after each of the core's steps.
 */
#ifndef VDC_NODE_AGENT_PLACES_H
#define VDC_NODE_AGENT_PLACES_H

#include <uv.h>

#include <vdc/agent.h>

#include "config.h"

/* Migration streams go through a program of their own: its name beside ours. */
#define PLACES_RELAY "vdc-relay"
#define PLACES_MONITOR "vdc-monitor"
/* Volumes that are being deleted at one time; more are answered LIMIT, and asked for again. */
#define PLACES_DELETIONS_MAX 64

struct places;

struct places_config {
    uv_loop_t *loop;
    const struct agent_config *agent;
    const char *program_dir; /* where vdc-monitor and vdc-relay are */
    const char *accelerator; /* "kvm" or "tcg" */
    /* Events are complete but for `now` and `journal`. */
    void (*on_event)(void *data, struct vdc_agent_event *event);
    /* The answer to agent_places_read_console() and agent_places_delete_volume(). */
    void (*on_command_result)(void *data, uint32_t session,
                              const struct vdc_msg_command_result *result);
    void *data;
};

/* Makes the directories. What is left there from before a reboot is removed: its leases are of
 * another boot's clock. */
enum vdc_rc agent_places_open(const struct places_config *config, struct places **places,
                              struct vdc_err *err) VDC_MUST_USE;
/* A FOUND event for each directory, by on_event, from within; those alive are watched. */
void agent_places_find(struct places *places);
void agent_places_deliver(struct places *places);
/* Processes go on. */
void agent_places_close(struct places *places);

void agent_places_publish(struct places *places, const struct vdc_allocdb *db,
                          const struct vdc_agent_key *key);
void agent_places_set_lease(struct places *places, const struct vdc_agent_key *key,
                            int64_t lease_ns);
void agent_places_start(struct places *places, const struct vdc_agent_action *action);
void agent_places_kill(struct places *places, const struct vdc_agent_key *key);
void agent_places_ask(struct places *places, const struct vdc_agent_action *action);
void agent_places_mark_handover(struct places *places, const struct vdc_agent_key *key, bool set);
void agent_places_start_relay(struct places *places, const struct vdc_agent_action *action);
void agent_places_stop_relay(struct places *places, const struct vdc_agent_key *key);
void agent_places_forget(struct places *places, const struct vdc_agent_key *key);
void agent_places_remove(struct places *places, const struct vdc_agent_key *key);
void agent_places_read_console(struct places *places, const struct vdc_agent_action *action);
/* Answered when it is done: a large file takes its time, on the thread pool. */
void agent_places_delete_volume(struct places *places, const struct vdc_agent_action *action);

#endif
