/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a program: fork, arrange the descriptors, exec. A pipe that closes by itself on exec
 * carries back what failed before it, so the starter knows at once. Between fork and exec only
 * functions that are safe there (signal-safety(7)) are called: everything is prepared before.
 *
 * Watching: a pidfd becomes readable when its process has ended, child or not, which libuv's own
 * child handling (SIGCHLD) can't do for adopted ones.
 */
#include <vdc/spawn.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <vdc/base.h>
#include <vdc/file.h>

/* Descriptor numbers in the child. */
#define CHILD_FD_MAX 1024
/* /proc/PID/stat is one line of 52 numbers. */
#define STAT_BYTES_MAX 4096
#define WATCH_MAGIC UINT32_C(0x57415443)

/* What failed in the child, sent through the pipe. */
struct child_failure {
    int errnum;
    char step[28];
};

struct child_plan {
    const struct vdc_spawn_config *config;
    const char *path; /* argv[0] resolved */
    int report_fd;
    int null_fd;
    int log_fd; /* -1: none */
    int above;  /* the first number above all that the child is given */
    pid_t parent;
};

VDC_NORETURN static void fail_child(int fd, const char *step)
{
    struct child_failure failure = {.errnum = errno};
    strncpy(failure.step, step, sizeof(failure.step) - 1);
    ssize_t rv = write(fd, &failure, sizeof(failure));
    (void)rv;
    _exit(127);
}

static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int sig = 1; sig < NSIG; sig++) {
        sigaction(sig, &action, NULL); /* fails for KILL and STOP, which have their default */
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* All descriptors are first copied above the numbers that the child is given, so that putting one
 * at its number can't overwrite another that is still needed. */
static void arrange_fds(const struct child_plan *plan, int report)
{
    const struct vdc_spawn_config *config = plan->config;
    int high[VDC_SPAWN_FDS_MAX + 3];
    int as[VDC_SPAWN_FDS_MAX + 3];
    size_t count = 0;
    bool std_given[3] = {false, false, false};
    for (size_t i = 0; i < config->fd_count; i++) {
        high[count] = fcntl(config->fds[i].fd, F_DUPFD, plan->above);
        as[count] = config->fds[i].as;
        if (as[count] < 3) {
            std_given[as[count]] = true;
        }
        count++;
    }
    for (int std = 0; std < 3; std++) {
        int from = std == 0 ? plan->null_fd : plan->log_fd;
        if (std_given[std]) {
            continue;
        }
        high[count] = fcntl(from >= 0 ? from : std, F_DUPFD, plan->above);
        as[count++] = std;
    }
    for (size_t i = 0; i < count; i++) {
        if (high[i] < 0) {
            fail_child(report, "copy a descriptor");
        }
    }
    /* Everything below is ours to overwrite now; everything above goes at exec. */
    if (close_range(0, (unsigned)plan->above - 1, 0) != 0) {
        fail_child(report, "close descriptors");
    }
    for (size_t i = 0; i < count; i++) {
        if (dup2(high[i], as[i]) < 0) {
            fail_child(report, "place a descriptor");
        }
    }
    if (close_range((unsigned)plan->above, UINT_MAX, CLOSE_RANGE_CLOEXEC) != 0) {
        fail_child(report, "close descriptors");
    }
}

VDC_NORETURN static void run_child(const struct child_plan *plan)
{
    const struct vdc_spawn_config *config = plan->config;
    int report = fcntl(plan->report_fd, F_DUPFD_CLOEXEC, plan->above);
    if (report < 0) {
        fail_child(plan->report_fd, "copy the report pipe");
    }
    reset_signals();
    if (config->detached && setsid() < 0) {
        fail_child(report, "setsid");
    }
    if (config->parent_signal != 0) {
        if (prctl(PR_SET_PDEATHSIG, (unsigned long)config->parent_signal) != 0) {
            fail_child(report, "set the parent signal");
        }
        if (getppid() != plan->parent) { /* it died before the line above */
            raise(config->parent_signal);
        }
    }
    if (config->cwd != NULL && chdir(config->cwd) != 0) {
        fail_child(report, "chdir");
    }
    arrange_fds(plan, report);
    char *const *env = config->env != NULL ? (char *const *)(uintptr_t)config->env : environ;
    execve(plan->path, (char *const *)(uintptr_t)config->argv, env);
    fail_child(report, "exec");
}

/* argv[0] as execvp would find it, but before the fork. */
static enum vdc_rc resolve(const char *name, char **path, struct vdc_err *err)
{
    if (strchr(name, '/') != NULL) {
        *path = vdc_strdup(name);
        return VDC_RC_OK;
    }
    const char *dirs = getenv("PATH");
    if (dirs == NULL) {
        dirs = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    }
    while (*dirs != '\0') {
        size_t len = strcspn(dirs, ":");
        vdc_autofree char *candidate = vdc_asprintf("%.*s/%s", (int)len, dirs, name);
        if (len > 0 && access(candidate, X_OK) == 0) {
            *path = vdc_steal(&candidate);
            return VDC_RC_OK;
        }
        dirs += len + (dirs[len] == ':');
    }
    return vdc_err_set(err, VDC_RC_NOT_FOUND, "start %s: not in PATH", name);
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

/* Waits until exec has closed the pipe or the child has said what failed. */
static enum vdc_rc await_exec(int fd, pid_t pid, const char *path, struct vdc_err *err)
{
    struct child_failure failure = {0};
    ssize_t got;
    do {
        got = read(fd, &failure, sizeof(failure));
    } while (got < 0 && errno == EINTR);
    if (got == 0) {
        return VDC_RC_OK;
    }
    reap(pid);
    if (got != (ssize_t)sizeof(failure)) {
        return vdc_err_set(err, VDC_RC_IO, "start %s: the child ended before exec", path);
    }
    failure.step[sizeof(failure.step) - 1] = '\0';
    return vdc_err_errno(err, failure.errnum, "start %s: %s", path, failure.step);
}

static enum vdc_rc fork_child(const struct child_plan *plan, const int report[2],
                              struct vdc_proc *proc, struct vdc_err *err)
{
    /* No signal handler of ours may run in the child. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        run_child(plan);
    }
    int errnum = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    if (pid < 0) {
        return vdc_err_errno(err, errnum, "start %s: fork", plan->path);
    }
    enum vdc_rc rc = await_exec(report[0], pid, plan->path, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    /* One that has ended already is a zombie until it is watched: its start time still counts. */
    proc->pid = pid;
    return VDC_RC_OK;
}

/* Field 3 and 22 of proc(5) stat. Field 2 is the program's name in parentheses and may hold spaces
 * and parentheses itself, so counting starts behind the last one. */
static enum vdc_rc read_stat(pid_t pid, char *state, uint64_t *start_time, struct vdc_err *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    vdc_auto(vdc_buf_deinit) struct vdc_buf text = {0};
    enum vdc_rc rc = vdc_file_read(path, STAT_BYTES_MAX, &text, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    const char *at = strrchr(vdc_buf_text(&text), ')');
    if (at == NULL || at[1] != ' ') {
        return vdc_err_set(err, VDC_RC_CORRUPT, "%s: not understood", path);
    }
    at += 2;
    *state = *at;
    for (int field = 3; field < 22 && at != NULL; field++) {
        at = strchr(at, ' ');
        at = at != NULL ? at + 1 : NULL;
    }
    unsigned long long value;
    if (at == NULL || sscanf(at, "%llu", &value) != 1) {
        return vdc_err_set(err, VDC_RC_CORRUPT, "%s: not understood", path);
    }
    *start_time = value;
    return VDC_RC_OK;
}

enum vdc_rc vdc_spawn(const struct vdc_spawn_config *config, struct vdc_proc *proc,
                      struct vdc_err *err)
{
    *proc = (struct vdc_proc){0};
    VDC_ASSERT(config->argv != NULL && config->argv[0] != NULL);
    VDC_ASSERT(config->fd_count <= VDC_SPAWN_FDS_MAX);
    int above = 3;
    for (size_t i = 0; i < config->fd_count; i++) {
        VDC_ASSERT(config->fds[i].as >= 0 && config->fds[i].as < CHILD_FD_MAX);
        above = VDC_MAX(above, config->fds[i].as + 1);
    }
    vdc_autofree char *path = NULL;
    enum vdc_rc rc = resolve(config->argv[0], &path, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0) {
        return vdc_err_errno(err, errno, "start %s: pipe", path);
    }
    struct child_plan plan = {.config = config,
                              .path = path,
                              .report_fd = report[1],
                              .null_fd = open("/dev/null", O_RDWR | O_CLOEXEC),
                              .log_fd = -1,
                              .above = above,
                              .parent = getpid()};
    if (config->log_path != NULL) {
        plan.log_fd = open(config->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    }
    if (plan.null_fd < 0 || (config->log_path != NULL && plan.log_fd < 0)) {
        const char *what = plan.null_fd < 0 ? "/dev/null" : config->log_path;
        rc = vdc_err_errno(err, errno, "start %s: open %s", path, what);
        close(report[1]);
    } else {
        rc = fork_child(&plan, report, proc, err);
    }
    close(report[0]);
    close_fd(plan.null_fd);
    close_fd(plan.log_fd);
    if (rc == VDC_RC_OK) {
        char state;
        rc = read_stat(proc->pid, &state, &proc->start_time, err);
        if (rc != VDC_RC_OK) { /* nobody could name it later: it must not live on unknown */
            kill(proc->pid, SIGKILL);
            reap(proc->pid);
            *proc = (struct vdc_proc){0};
        }
    }
    return rc;
}

enum vdc_rc vdc_proc_find(pid_t pid, struct vdc_proc *proc, struct vdc_err *err)
{
    char state;
    *proc = (struct vdc_proc){0};
    uint64_t start_time;
    enum vdc_rc rc = read_stat(pid, &state, &start_time, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (state == 'Z' || state == 'X') {
        return vdc_err_set(err, VDC_RC_NOT_FOUND, "process %d has ended", (int)pid);
    }
    *proc = (struct vdc_proc){.pid = pid, .start_time = start_time};
    return VDC_RC_OK;
}

bool vdc_proc_alive(const struct vdc_proc *proc)
{
    struct vdc_proc now;
    return proc->pid > 0 && vdc_proc_find(proc->pid, &now, NULL) == VDC_RC_OK &&
           now.start_time == proc->start_time;
}

/* A pidfd of exactly this process: opened first, compared afterwards, so the pid can't be given to
 * another in between. A zombie of ours passes (it can still be waited for). */
static enum vdc_rc open_pidfd(const struct vdc_proc *proc, int *fd, struct vdc_err *err)
{
    *fd = proc->pid > 0 ? pidfd_open(proc->pid, 0) : -1;
    if (*fd < 0) {
        return vdc_err_errno(err, proc->pid > 0 ? errno : ESRCH, "process %d", (int)proc->pid);
    }
    char state;
    uint64_t start_time;
    enum vdc_rc rc = read_stat(proc->pid, &state, &start_time, err);
    if (rc == VDC_RC_OK && start_time != proc->start_time) {
        rc = vdc_err_set(err, VDC_RC_NOT_FOUND, "process %d has ended, another has its pid",
                         (int)proc->pid);
    }
    if (rc != VDC_RC_OK) {
        close(*fd);
        *fd = -1;
    }
    return rc;
}

enum vdc_rc vdc_proc_kill(const struct vdc_proc *proc, int sig, struct vdc_err *err)
{
    int fd;
    enum vdc_rc rc = open_pidfd(proc, &fd, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (pidfd_send_signal(fd, sig, NULL, 0) != 0) {
        rc = vdc_err_errno(err, errno, "signal %d to process %d", sig, (int)proc->pid);
    }
    close(fd);
    return rc;
}

struct vdc_proc_watch {
    uint32_t magic;
    int fd; /* -1: it had ended before we looked */
    bool closed;
    vdc_proc_exit_cb on_exit;
    void *data;
    union {
        uv_handle_t handle;
        uv_poll_t poll;   /* fd >= 0 */
        uv_timer_t timer; /* fd < 0: calls on_exit from the loop, not from the opener */
    } uv;
};

static void free_watch(uv_handle_t *handle)
{
    struct vdc_proc_watch *watch;
    VDC_CAST(watch, handle->data, WATCH_MAGIC);
    close_fd(watch->fd);
    watch->magic = 0;
    free(watch);
}

static void report_exit(struct vdc_proc_watch *watch)
{
    struct vdc_proc_exit how = {.known = false, .code = -1};
    siginfo_t info = {0};
    if (watch->fd >= 0 && waitid(P_PIDFD, (id_t)watch->fd, &info, WEXITED | WNOHANG) == 0 &&
        info.si_pid != 0) {
        how.known = true;
        how.code = info.si_code == CLD_EXITED ? info.si_status : -1;
        how.sig = info.si_code == CLD_EXITED ? 0 : info.si_status;
    }
    watch->on_exit(watch->data, &how);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct vdc_proc_watch *watch;
    VDC_CAST(watch, poll->data, WATCH_MAGIC);
    if (status == 0) {
        uv_poll_stop(poll);
        report_exit(watch);
    }
}

static void on_gone_timer(uv_timer_t *timer)
{
    struct vdc_proc_watch *watch;
    VDC_CAST(watch, timer->data, WATCH_MAGIC);
    report_exit(watch);
}

enum vdc_rc vdc_proc_watch_open(struct uv_loop_s *loop, const struct vdc_proc *proc,
                                vdc_proc_exit_cb on_exit, void *data, struct vdc_proc_watch **out,
                                struct vdc_err *err)
{
    int fd;
    enum vdc_rc rc = open_pidfd(proc, &fd, err);
    if (rc != VDC_RC_OK && rc != VDC_RC_NOT_FOUND) {
        return rc;
    }
    struct vdc_proc_watch *watch = VDC_NEW(struct vdc_proc_watch);
    watch->magic = WATCH_MAGIC;
    watch->fd = fd;
    watch->on_exit = on_exit;
    watch->data = data;
    if (fd < 0) {
        uv_timer_init(loop, &watch->uv.timer);
        watch->uv.handle.data = watch;
        uv_timer_start(&watch->uv.timer, on_gone_timer, 0, 0);
    } else {
        int rv = uv_poll_init(loop, &watch->uv.poll, fd);
        if (rv != 0) {
            close(fd);
            free(watch);
            return vdc_err_errno(err, -rv, "watch process %d", (int)proc->pid);
        }
        watch->uv.handle.data = watch;
        uv_poll_start(&watch->uv.poll, UV_READABLE, on_poll);
    }
    *out = watch;
    return VDC_RC_OK;
}

void vdc_proc_watch_close(struct vdc_proc_watch *watch)
{
    if (watch == NULL) {
        return;
    }
    VDC_ASSERT(watch->magic == WATCH_MAGIC && !watch->closed);
    watch->closed = true;
    uv_close(&watch->uv.handle, free_watch);
}
