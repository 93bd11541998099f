/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The phases of one guest as its monitor sees them: what the monitor reports over its control socket
 * and what the node agent acts on. Finer than enum vdc_guest_state (msg.h), which is what zone
 * managers and people are told. Pure, base only (library vdc-view), so that the monitor stays small.
 */
#ifndef VDC_PHASE_H
#define VDC_PHASE_H

/* X(name, text) */
#define VDC_PHASE_LIST(X)                                                                          \
    X(STARTING, "starting")   /* QEMU was started, it does not answer yet */                       \
    X(PRELAUNCH, "prelaunch") /* ready, the guest has not run yet */                               \
    X(INCOMING, "incoming")   /* ready, waits for migrate_in */                                    \
    X(LOADING, "loading")     /* takes a migration in */                                           \
    X(LOADED, "loaded")       /* has the whole guest, waits for activate */                        \
    X(RUNNING, "running")                                                                          \
    X(PAUSED, "paused")           /* reason: command, view, lease, panic, disk, ... */             \
    X(MIGRATING, "migrating")     /* source: the guest runs, memory is being sent */               \
    X(SWITCHOVER, "switchover")   /* source: the guest is stopped, waits for continue or cancel */ \
    X(HANDOVER, "handover")       /* source: the last part is being sent */                        \
    X(POSTMIGRATE, "postmigrate") /* source: all was sent */                                       \
    X(STOPPING, "stopping")       /* asked to shut down */                                         \
    X(STOPPED, "stopped")         /* ended as asked, or the guest powered itself off */            \
    X(FAILED, "failed")           /* ended otherwise, or could not be started */

enum vdc_phase {
#define X(name, text) VDC_PHASE_##name,
    VDC_PHASE_LIST(X)
#undef X
};
#define VDC_PHASES (VDC_PHASE_FAILED + 1)

extern const char *const vdc_phase_texts[VDC_PHASES];
const char *vdc_phase_text(enum vdc_phase phase); /* "running" */

#endif
