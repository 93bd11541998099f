/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One control group per partition, on cgroup v1 (a hierarchy per controller) and v2 (one
 * hierarchy), whichever the machine has: Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst in
 * Linux. Blocking writes to cgroupfs; library vdc-cgroup, for the monitor and the node agent.
 */
#ifndef VDC_CGROUP_H
#define VDC_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <vdc/err.h>
#include <vdc/trace.h>

enum vdc_cgroup_controller {
    VDC_CGROUP_CPU,
    VDC_CGROUP_MEMORY,
    VDC_CGROUP_PIDS,
    VDC_CGROUP_CPUSET,
};
#define VDC_CGROUP_CONTROLLERS 4

struct vdc_cgroup_layout {
    /* Directory of the hierarchy that has the controller; NULL: none has. */
    char *mount[VDC_CGROUP_CONTROLLERS];
    bool v2[VDC_CGROUP_CONTROLLERS];
};

struct vdc_cgroup_limits {
    uint64_t memory_bytes; /* 0: no limit */
    uint32_t cpu_milli;    /* quota, 1000 = one CPU; 0: no limit */
    uint32_t cpu_shares;   /* weight beside others, 1000 = one CPU's; 0: the default */
    uint32_t pids;         /* 0: no limit */
    const char *cpus;      /* "0-3,8": run on these; NULL: on any */
};

/* Finds the hierarchies from the text of /proc/self/mountinfo (proc(5)) and, for a v2 mount, from
 * its cgroup.controllers. `root` is put before each mount point: "" except in tests. A controller
 * that v1 has is taken from there (the kernel gives it to one of the two only). */
void vdc_cgroup_layout_find(struct vdc_cgroup_layout *layout, const char *mountinfo,
                            const char *root);
/* The same for this process. */
enum vdc_rc vdc_cgroup_layout_read(struct vdc_cgroup_layout *layout,
                                   struct vdc_err *err) VDC_MUST_USE;
void vdc_cgroup_layout_deinit(struct vdc_cgroup_layout *layout);

/* Makes the group `path` (relative to each hierarchy) with its parents and sets the limits. A
 * controller that is absent or a limit that is refused is said in one line of `trace` and not an
 * error: the guest runs with less confinement rather than not at all. NOT_FOUND only when no
 * controller at all is there. */
enum vdc_rc vdc_cgroup_make(const struct vdc_cgroup_layout *layout, const char *path,
                            const struct vdc_cgroup_limits *limits, struct vdc_trace *trace,
                            struct vdc_err *err) VDC_MUST_USE;
/* Puts a process into the group in every hierarchy where it exists. */
enum vdc_rc vdc_cgroup_enter(const struct vdc_cgroup_layout *layout, const char *path, pid_t pid,
                             struct vdc_err *err) VDC_MUST_USE;
/* Removes the group (not its parents); BUSY processes make it CONFLICT, a missing one is fine. */
enum vdc_rc vdc_cgroup_remove(const struct vdc_cgroup_layout *layout, const char *path,
                              struct vdc_err *err) VDC_MUST_USE;

#endif
