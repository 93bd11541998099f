/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver of one guest: starts QEMU as launch configuration and view say, and carries out what
 * the life-cycle core (guest.h) decides. One per process.
 */
#ifndef VDC_MONITOR_H
#define VDC_MONITOR_H

#include <stdbool.h>

#include <vdc/err.h>
#include <vdc/launch.h>

/* Milliseconds between looks at the view when nobody told of a change: the agent does by `refresh`,
 * so this bounds only what an agent that died just then leaves behind. */
#define VDC_MONITOR_VIEW_POLL_MS 1000
/* The same while the guest waits for a renewed lease, which is announced by nobody. */
#define VDC_MONITOR_LEASE_POLL_MS 50
/* Bytes of QEMU's stderr that are logged; the rest is read and dropped. */
#define VDC_MONITOR_QEMU_LOG_MAX 65536

struct vdc_monitor_config {
    const char *dir;  /* of this partition's files; exists */
    const char *qemu; /* absolute path of the program */
    int view_fd;      /* read-only, VDC_VIEW_BYTES; taken */
    int lock_fd; /* kept open here and in QEMU: who locked it knows when both are gone; 0: none */
    bool kvm;
    bool unconfined;
    const struct vdc_launch *launch;
};

/* Runs until QEMU has ended. OK: *exit_status is the process's (0 stopped, 3 failed). Errors are
 * those before QEMU was tried (view, directory, socket). */
enum vdc_rc vdc_monitor_run(const struct vdc_monitor_config *config, int *exit_status,
                            struct vdc_err *err) VDC_MUST_USE;

#endif
