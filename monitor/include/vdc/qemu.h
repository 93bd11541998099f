/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting one QEMU with everything it is given: sockets for QMP, console and agent port, a pipe
 * for its stderr, the disks' descriptors, its control group and its confinement. Watching it is
 * io/monitor.c's. Blocking, about 30 ms.
 */
#ifndef VDC_QEMU_H
#define VDC_QEMU_H

#include <vdc/cgroup.h>
#include <vdc/err.h>
#include <vdc/monitor.h>
#include <vdc/spawn.h>
#include <vdc/view.h>

/* All zero is valid for vdc_qemu_deinit(). */
struct vdc_qemu {
    struct vdc_proc proc;
    int qmp_fd; /* our ends, non-blocking; the caller takes them, -1 after a failure */
    int console_fd;
    int agent_fd;
    int stderr_fd;
    struct vdc_cgroup_layout cgroups;
    char *cgroup; /* NULL: it runs in ours */
};

/* OK: QEMU runs as our child qemu->proc. Otherwise nothing runs and err says what failed. */
enum vdc_rc vdc_qemu_start(const struct vdc_monitor_config *config,
                           const struct vdc_view_content *view, struct vdc_qemu *qemu,
                           struct vdc_err *err) VDC_MUST_USE;
/* After its end, or a failed start: removes the control group. */
void vdc_qemu_deinit(struct vdc_qemu *qemu);

#endif
