/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting QEMU so that a guest which breaks out of it finds nothing: its own mount namespace (a
 * small tmpfs with read-only /usr and libraries, the kernel and initrd, /dev/null, urandom and, if
 * used, kvm), network (no interface), pid, ipc and uts namespaces, its own user and group, no
 * capability, no new privileges, no core dumps. It dies with the monitor (PR_SET_PDEATHSIG). Files
 * are passed as descriptors. Linux: namespaces(7), pivot_root(2), capabilities(7).
 */
#ifndef VDC_CONFINE_H
#define VDC_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <vdc/err.h>

/* Where QEMU finds the kernel and initrd in its own root. */
#define VDC_CONFINE_KERNEL "/boot/kernel"
#define VDC_CONFINE_INITRD "/boot/initrd"

struct vdc_confine_fd {
    int fd; /* ours, stays open */
    int as; /* its number in the child, >= 3 */
};

struct vdc_confine_config {
    const char *program; /* absolute path */
    char *const *args;
    const struct vdc_confine_fd *fds;
    size_t fd_count;
    int log_fd;         /* becomes stdout and stderr */
    bool confined;      /* false: only descriptors, signals and PR_SET_PDEATHSIG */
    const char *root;   /* an empty directory that becomes the new root's mount point */
    const char *kernel; /* path outside */
    const char *initrd; /* NULL: none */
    bool kvm;
    uid_t uid; /* not 0 */
    gid_t gid;
    /* Called in the parent when the child exists and waits: puts it into its control group. */
    enum vdc_rc (*place)(void *data, pid_t pid, struct vdc_err *err);
    void *place_data;
};

/* OK: the program runs as child *pid (to be reaped by the caller). Otherwise nothing is left of it
 * and err says which step failed. Blocks for a few ms. The process must have no other threads that
 * hold locks (libuv's pool not used before). */
enum vdc_rc vdc_confine_start(const struct vdc_confine_config *config, pid_t *pid,
                              struct vdc_err *err) VDC_MUST_USE;

#endif
