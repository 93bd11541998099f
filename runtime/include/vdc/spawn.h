/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting programs that may outlive their starter, and finding them again. A process is named by
 * (pid, start time): a pid alone is given again by the kernel. Whoever adopts writes the pair down
 * and compares it later. cgroups and namespaces are the caller's business (enter them before, or
 * start a program that does).
 */
#ifndef VDC_SPAWN_H
#define VDC_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <vdc/err.h>

struct uv_loop_s;

/* Descriptors that one child is given: a guest's monitor gets about five. */
#define VDC_SPAWN_FDS_MAX 64

struct vdc_proc {
    pid_t pid;           /* 0: none */
    uint64_t start_time; /* field 22 of /proc/PID/stat: clock ticks since boot */
};

struct vdc_spawn_fd {
    int fd; /* the caller's; stays open and the caller's */
    int as; /* its number in the child, < 1024; each number once */
};

struct vdc_spawn_config {
    const char *const *argv; /* NULL at the end; argv[0] is a path, or a name looked up in PATH */
    const char *const *env;  /* NULL at the end; NULL: the caller's environment */
    const char *cwd;         /* NULL: the caller's */
    const struct vdc_spawn_fd *fds;
    size_t fd_count;
    /* Standard output and error are appended to this file (created with mode 0640). NULL:
     * inherited. An entry of `fds` at 0, 1 or 2 goes before both. Standard input is /dev/null
     * otherwise. */
    const char *log_path;
    bool detached;     /* own session: signals to the starter's terminal and group don't reach it */
    int parent_signal; /* signal that it gets when the starter dies (PR_SET_PDEATHSIG); 0: none */
};

/* Starts the program. All signals are at their defaults and unblocked in it; every descriptor not
 * named above is closed. Failures of exec are reported here (NOT_FOUND, FORBIDDEN, ...): when this
 * returns OK, the program runs. The child must be watched (or it stays a zombie). */
enum vdc_rc vdc_spawn(const struct vdc_spawn_config *config, struct vdc_proc *proc,
                      struct vdc_err *err) VDC_MUST_USE;

/* The start time of a running process; NOT_FOUND if there is none or it is a zombie. */
enum vdc_rc vdc_proc_find(pid_t pid, struct vdc_proc *proc, struct vdc_err *err) VDC_MUST_USE;
/* Whether exactly this process (same start time) is still running; a zombie is not. */
bool vdc_proc_alive(const struct vdc_proc *proc);
/* Sends a signal to exactly this process, without a race on its pid; NOT_FOUND if it is gone. */
enum vdc_rc vdc_proc_kill(const struct vdc_proc *proc, int sig, struct vdc_err *err) VDC_MUST_USE;

struct vdc_proc_exit {
    bool known; /* false: it was not our child, so nobody tells us how it ended */
    int code;   /* exit code, -1 if ended by a signal */
    int sig;    /* the signal, else 0 */
};

struct vdc_proc_watch;
typedef void (*vdc_proc_exit_cb)(void *data, const struct vdc_proc_exit *how);

/* Calls on_exit once, from the loop, when the process has ended (also if it had ended before the
 * call); a child of ours is reaped. Works for children and for adopted processes. Never called
 * after vdc_proc_watch_close(). */
enum vdc_rc vdc_proc_watch_open(struct uv_loop_s *loop, const struct vdc_proc *proc,
                                vdc_proc_exit_cb on_exit, void *data, struct vdc_proc_watch **watch,
                                struct vdc_err *err) VDC_MUST_USE;
/* Also due after on_exit was called (may be called from within it); NULL is fine. The pointer is
 * dead afterwards. */
void vdc_proc_watch_close(struct vdc_proc_watch *watch);

#endif
