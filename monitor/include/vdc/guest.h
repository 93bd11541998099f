/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of one guest partition: the pure core of vdc-monitor. It is told what happened (QEMU's
 * messages, changes of the view, requests of the node agent, time) and answers with what is to be
 * done. No clock, socket or process; the simulator may drive it as io/monitor.c does.
 *
 * The driver carries an update out in this order:
 *   1. log the trace lines (vdc_guest_trace)
 *   2. do the actions, in their order
 *   3. read the console until nothing is left; then, if `changed`, send the state to all clients
 *      (so a guest that is reported stopped has nothing unread)
 *   4. answer the request (`reply`), if the event was one
 *   5. if `ended`: write final.json, and end with `exit_status`
 *   6. arm one timer for vdc_guest_deadline(); when it fires, first give a VIEW event if the view
 *      has changed, then TICK.
 *
 * The run lease. The guest may run only before the deadline in the view. A stop takes time, so it
 * is ordered VDC_GUEST_LEASE_MARGIN_MS before the deadline; if QEMU has not confirmed it at the
 * deadline, QEMU is killed. Where QEMU might resume the guest by itself (a migration that has stopped
 * it may fail, or has just failed) the whole process is frozen instead. So after the deadline no guest
 * runs, whatever QEMU does. A lease that is renewed within the grace time lets it go on; otherwise
 * QEMU is killed. A guest that has never run here (PRELAUNCH, INCOMING, LOADING, LOADED) has
 * touched nothing, and just waits for a valid lease.
 *
 *              qmp ready               view: running & lease
 *   STARTING ─────────────► PRELAUNCH ───────────────────────► RUNNING ◄────────► PAUSED
 *       │                                                      ▲  │  ▲
 *       │ (incoming)                       activate            │  │  │ cancel, failure
 *       └──► INCOMING ──► LOADING ──► LOADED ──────────────────┘  ▼  │
 *             migrate_in       completed                       MIGRATING ──► SWITCHOVER
 *                                                                                │ continue
 *   any ──► STOPPING ──► STOPPED          RUNNING ◄── POSTMIGRATE ◄── HANDOVER ◄──┘
 *   any ──► FAILED                          resume
 */
#ifndef VDC_GUEST_H
#define VDC_GUEST_H

#include <vdc/err.h>
#include <vdc/monitor_protocol.h>
#include <vdc/qmp.h>
#include <vdc/time.h>
#include <vdc/trace.h>
#include <vdc/view.h>

/* Milliseconds before the lease's deadline at which the pause is ordered. QMP stop takes 0.6 ms on
 * a quiet machine; 200 ms is what a loaded one was seen to need, and a twentieth of a 4 s lease. */
#define VDC_GUEST_LEASE_MARGIN_MS 200
/* Milliseconds for one QMP command before QEMU counts as not responsive. The slowest that we send,
 * `stop` with disks to flush, took 0.6 s on a busy disk. */
#define VDC_GUEST_QMP_TIMEOUT_MS 5000
/* Milliseconds from starting QEMU to its first answer: 60 ms alone, seconds on a full machine. */
#define VDC_GUEST_START_TIMEOUT_MS 30000
/* Milliseconds from `quit` to the kill. */
#define VDC_GUEST_QUIT_TIMEOUT_MS 3000
/* Milliseconds between questions about a migration's progress. */
#define VDC_GUEST_PROGRESS_MS 200
/* QEMU may say "completed" before it knows the downtime (it then says 0): asked again so often. */
#define VDC_GUEST_DOWNTIME_QUERIES_MAX 10
#define VDC_GUEST_DOWNTIME_QUERY_MS 50
/* Milliseconds that QEMU is given to resume the guest by itself after a failed migration; an earlier
 * `cont` is refused ("not finalized yet"). */
#define VDC_GUEST_RESUME_WAIT_MS 300
/* Milliseconds until a guest that QEMU itself stopped (a disk is full or fails) is let run again, where
 * it meets the same request once more: what makes room takes seconds at least. */
#define VDC_GUEST_STOPPED_RETRY_MS 5000
/* Milliseconds until a refused `cont` is tried again: the disks are free when the other end of a
 * migration has ended. */
#define VDC_GUEST_CONT_RETRY_MS 1000
/* QMP commands without an answer at one time. */
#define VDC_GUEST_PENDING_MAX 32
/* Defaults of migrate_out. */
#define VDC_GUEST_BANDWIDTH_DEFAULT (UINT64_C(1) << 30)
#define VDC_GUEST_DOWNTIME_MS_DEFAULT 50

struct vdc_guest_config {
    const char *name;
    bool migrate_incoming;
    bool lease; /* false: runs without one, whatever the view says */
    uint32_t grace_ms;
    uint32_t stop_timeout_s; /* for a stop that the view asks for */
    const char *accelerator;
    bool confined;
};

enum vdc_guest_event_kind {
    VDC_GUEST_EV_TICK,    /* the deadline has come (or nothing: harmless) */
    VDC_GUEST_EV_VIEW,    /* the view as read now */
    VDC_GUEST_EV_STARTED, /* QEMU's process exists */
    VDC_GUEST_EV_START_FAILED,
    VDC_GUEST_EV_QMP, /* one message of QEMU */
    VDC_GUEST_EV_QMP_BROKEN,
    VDC_GUEST_EV_CONNECTED, /* the outcome of ACT_CONNECT */
    VDC_GUEST_EV_EXITED,    /* QEMU's process has ended and its console was read to the end */
    VDC_GUEST_EV_REQUEST,   /* of a client; console_read and status are the driver's own */
};

struct vdc_guest_view {
    enum vdc_run run;
    uint64_t generation;
    int64_t lease_ns; /* as vdc_view_lease() gives it */
};

/* What it points to is borrowed for the call. */
struct vdc_guest_event {
    enum vdc_guest_event_kind kind;
    vdc_mono now;
    struct vdc_guest_view view;                /* VIEW */
    int64_t pid;                               /* STARTED */
    uint64_t start_time;                       /* STARTED */
    const struct vdc_qmp_message *qmp;         /* QMP */
    const struct vdc_monitor_request *request; /* REQUEST */
    bool ok;                                   /* CONNECTED */
    const char *text;                          /* START_FAILED, QMP_BROKEN, CONNECTED: why;
                                                  EXITED: the last line on QEMU's stderr, or "" */
    int exit_code;                             /* EXITED */
    int exit_signal;                           /* EXITED; 0: none */
};

enum vdc_guest_action_kind {
    VDC_GUEST_ACT_QMP,     /* send the command; GETFD carries the migration socket beside it */
    VDC_GUEST_ACT_CONNECT, /* connect to `path`, then a CONNECTED event (not within this step) */
    VDC_GUEST_ACT_CLOSE_MIGRATION, /* close our copy of that socket, if it is open */
    VDC_GUEST_ACT_FREEZE,          /* SIGSTOP */
    VDC_GUEST_ACT_THAW,            /* SIGCONT */
    VDC_GUEST_ACT_KILL,            /* SIGKILL */
};

struct vdc_guest_action {
    enum vdc_guest_action_kind kind;
    enum vdc_qmp_command command; /* QMP */
    struct vdc_qmp_params params; /* QMP */
    uint64_t id;                  /* QMP */
};

/* Actions of one step: more than any handler gives. */
#define VDC_GUEST_ACTIONS_MAX 16

struct vdc_guest_update {
    struct vdc_guest_action actions[VDC_GUEST_ACTIONS_MAX];
    size_t action_count;
    const char *path; /* of ACT_CONNECT: the request's, borrowed from the event */
    bool changed;
    struct vdc_err reply; /* REQUEST: rc and, if not OK, the sentence */
    bool ended;
    int exit_status; /* 0: stopped, 3: failed */
};

struct vdc_guest;

struct vdc_guest *vdc_guest_create(const struct vdc_guest_config *config, vdc_mono now);
void vdc_guest_destroy(struct vdc_guest *guest);
/* Fills *update. Any order of events is taken; those that make no sense in a state are ignored. */
void vdc_guest_step(struct vdc_guest *guest, const struct vdc_guest_event *event,
                    struct vdc_guest_update *update);
/* When the next TICK is due; VDC_NEVER if no time matters. */
vdc_mono vdc_guest_deadline(const struct vdc_guest *guest);
/* The state to report; the driver fills monitor_pid, monitor_start and console_end. */
const struct vdc_monitor_state *vdc_guest_state(const struct vdc_guest *guest);
/* Whether the guest waits for a renewed lease: the driver then looks at the view more often. */
bool vdc_guest_waits_for_lease(const struct vdc_guest *guest);
struct vdc_trace *vdc_guest_trace(struct vdc_guest *guest);

#endif
