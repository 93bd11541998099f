/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A monitor process: the real core of vdc-monitor (vdc/guest.h) over a modelled QEMU, and the relays
 * that carry migration streams. QEMU's behaviour is that of version 7.2 as measured: it resumes the
 * guest by itself after a failed or cancelled migration, and never after a completed one.
 */
#ifndef SIM_MONITOR_H
#define SIM_MONITOR_H

#include <vdc/agent_monitor.h>
#include <vdc/id.h>
#include <vdc/view.h>

#include "world.h"

struct sim_place;
struct sim_monitor;
struct sim_relay;

/* The published page, as far as the monitor reads it. */
struct sim_view {
    bool exists;
    enum vdc_run run;
    uint64_t generation;
    int64_t lease_ns;
};

struct sim_monitor_config {
    char name[VDC_NAME_CAP];
    struct vdc_id partition;
    const char *where; /* the node's name */
    const struct sim_clock *clock;
    const struct sim_view *view; /* lives as long as the monitor */
    struct sim_place *place;
    bool incoming;
    bool lease;
    int64_t grace_ns;
};

struct sim_monitor *sim_monitor_start(struct sim_world *world,
                                      const struct sim_monitor_config *config);
/* Both processes are gone at once, and nobody is told: the power went, or nobody looks any more. */
void sim_monitor_vanish(struct sim_monitor *monitor);
bool sim_monitor_is_gone(const struct sim_monitor *monitor);
void sim_monitors_free(void); /* all of the world, at its end; relays too */
struct sim_process *sim_monitor_process(struct sim_monitor *monitor);
/* SIGKILL to both; sim_place_gone() follows. */
void sim_monitor_kill(struct sim_monitor *monitor);
void sim_monitor_crash_qemu(struct sim_monitor *monitor);
void sim_monitor_guest_poweroff(struct sim_monitor *monitor);
bool sim_monitor_executes(const struct sim_monitor *monitor);
/* A request of the agent; its reply comes by sim_place_reply(). */
void sim_monitor_ask(struct sim_monitor *monitor, enum vdc_agent_monitor_request request,
                     uint64_t ticket, uint64_t bandwidth, int64_t downtime_ns);
void sim_monitor_state(const struct sim_monitor *monitor, struct vdc_agent_monitor_state *out);

/* ---- relays ---- */

/* Listens on its host; its port is > 0. */
struct sim_relay *sim_relay_listen(struct sim_world *world, uint32_t host);
/* Dials; NULL when nobody listens there or the way is cut. */
struct sim_relay *sim_relay_dial(struct sim_world *world, uint32_t host, uint32_t peer_host,
                                 uint16_t port);
uint16_t sim_relay_port(const struct sim_relay *relay);
/* The process ends; the stream through it breaks. */
void sim_relay_end(struct sim_relay *relay);

#endif
