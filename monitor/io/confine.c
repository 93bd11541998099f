/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One clone(2) with all namespaces, then the child does in this order what needs privileges and
 * gives them up at the end:
 *
 *   wait for `place` -> own mounts, pivot_root -> descriptors -> limits -> drop capabilities, uid
 *   -> no_new_privs -> die with the parent -> exec
 *
 * The first failure is written to a pipe that closes on exec: the parent reads the sentence, or
 * the end of file when the program runs. The child is the init of its pid namespace: signals
 * without a handler are ignored there unless they come from outside, so a SIGKILL from the monitor
 * works and a stray one from within does not.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <grp.h>

#include <vdc/base.h>
#include <vdc/confine.h>

/* Descriptors are first copied up here, so that no target number is one of the sources. */
#define HIGH_FD 200
#define FDS_MAX 64
/* Descriptors that QEMU may have open: its own few dozen, and two of each disk. */
#define OPEN_FILES_MAX 1024

/* What the child inherits besides its configuration. */
struct child {
    const struct vdc_confine_config *config;
    int status_fd; /* write end: the sentence of a failure */
    int go_fd;     /* read end: one byte when it has been placed */
};

VDC_NORETURN static void child_fail(const struct child *child, const char *fmt, ...)
    VDC_PRINTF(2, 3);

VDC_NORETURN static void child_fail(const struct child *child, const char *fmt, ...)
{
    int errnum = errno;
    char text[512];
    va_list args;
    int len;

    va_start(args, fmt);
    len = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (len >= 0 && (size_t)len < sizeof(text)) {
        (void)snprintf(text + len, sizeof(text) - (size_t)len, ": %s", strerror(errnum));
    }
    (void)!write(child->status_fd, text, strlen(text));
    _exit(127);
}

/* ---- mounts ---- */

static void make_dir(const struct child *child, const char *path)
{
    if (mkdir(path, 0755) != 0 && errno != EEXIST) {
        child_fail(child, "mkdir %s", path);
    }
}

static void make_file(const struct child *child, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0444);

    if (fd < 0) {
        child_fail(child, "create %s", path);
    }
    (void)close(fd);
}

/* Binds `source` read-only on `target` (relative to the new root, which is the current directory).
 */
static void bind_readonly(const struct child *child, const char *source, const char *target)
{
    unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV;

    if (mount(source, target, NULL, MS_BIND, NULL) != 0) {
        child_fail(child, "bind %s", source);
    }
    if (mount(NULL, target, NULL, flags, NULL) != 0) {
        child_fail(child, "make %s read-only", source);
    }
}

/* Shows one path of the system in the new root: a link as a link, others bound. Absent ones are
 * left out (/lib32 on most machines). */
static void show_path(const struct child *child, const char *path)
{
    const char *target = path + 1;
    char link[PATH_MAX];
    struct stat st;
    ssize_t len;

    if (lstat(path, &st) != 0) {
        return;
    }
    if (S_ISLNK(st.st_mode)) {
        len = readlink(path, link, sizeof(link) - 1);
        if (len < 0) {
            child_fail(child, "readlink %s", path);
        }
        link[len] = '\0';
        if (symlink(link, target) != 0) {
            child_fail(child, "symlink %s", path);
        }
        return;
    }
    if (S_ISDIR(st.st_mode)) {
        make_dir(child, target);
    } else {
        make_file(child, target);
    }
    bind_readonly(child, path, target);
}

/* A device node of its own, owned by the partition's user; where mknod is not allowed (some
 * containers) the machine's node is bound. */
static void make_device(const struct child *child, const char *name, unsigned major_number,
                        unsigned minor_number)
{
    char target[64];
    char source[64];

    (void)snprintf(target, sizeof(target), "dev/%s", name);
    (void)snprintf(source, sizeof(source), "/dev/%s", name);
    if (mknod(target, S_IFCHR | 0600, makedev(major_number, minor_number)) == 0) {
        if (chown(target, child->config->uid, child->config->gid) != 0) {
            child_fail(child, "chown %s", target);
        }
        return;
    }
    make_file(child, target);
    if (mount(source, target, NULL, MS_BIND, NULL) != 0) {
        child_fail(child, "bind %s", source);
    }
}

static void enter_new_root(const struct child *child)
{
    static const char *const paths[] = {"/usr", "/bin", "/lib", "/lib32", "/lib64", "/libx32"};
    static const char *const loader[] = {"/etc/ld.so.cache", "/etc/ld.so.conf",
                                         "/etc/ld.so.conf.d"};
    const struct vdc_confine_config *config = child->config;

    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        child_fail(child, "make mounts private");
    }
    if (mount("vdc", config->root, "tmpfs", MS_NOSUID, "size=64k,nr_inodes=64,mode=0755") != 0) {
        child_fail(child, "mount tmpfs on %s", config->root);
    }
    /* From here on targets are relative, while sources are still the machine's paths. */
    if (chdir(config->root) != 0) {
        child_fail(child, "chdir %s", config->root);
    }
    for (size_t i = 0; i < VDC_COUNT_OF(paths); i++) {
        show_path(child, paths[i]);
    }
    make_dir(child, "etc");
    for (size_t i = 0; i < VDC_COUNT_OF(loader); i++) {
        show_path(child, loader[i]);
    }
    make_dir(child, "boot");
    make_file(child, &VDC_CONFINE_KERNEL[1]);
    bind_readonly(child, config->kernel, &VDC_CONFINE_KERNEL[1]);
    if (config->initrd != NULL) {
        make_file(child, &VDC_CONFINE_INITRD[1]);
        bind_readonly(child, config->initrd, &VDC_CONFINE_INITRD[1]);
    }
    make_dir(child, "dev");
    make_device(child, "null", 1, 3);
    make_device(child, "urandom", 1, 9);
    if (config->kvm) {
        make_device(child, "kvm", 10, 232);
    }
    make_dir(child, "tmp"); /* read-only too: GLib asks for its name, nothing is written */
    if (syscall(SYS_pivot_root, ".", ".") != 0) {
        child_fail(child, "pivot_root");
    }
    if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) {
        child_fail(child, "leave the old root");
    }
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, NULL) != 0) {
        child_fail(child, "make the root read-only");
    }
}

/* ---- privileges ---- */

static void set_limit(const struct child *child, __rlimit_resource_t resource, rlim_t value)
{
    struct rlimit limit = {.rlim_cur = value, .rlim_max = value};

    if (setrlimit(resource, &limit) != 0) {
        child_fail(child, "set limit %d", (int)resource);
    }
}

static void drop_privileges(const struct child *child)
{
    const struct vdc_confine_config *config = child->config;

    /* The bounding set ends at the first number that the kernel does not know. */
    for (int cap = 0; cap < 64; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0) {
            if (errno == EINVAL) {
                break;
            }
            child_fail(child, "drop capability %d", cap);
        }
    }
    if (setgroups(0, NULL) != 0 || setresgid(config->gid, config->gid, config->gid) != 0 ||
        setresuid(config->uid, config->uid, config->uid) != 0) {
        child_fail(child, "become user %u group %u", config->uid, config->gid);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        child_fail(child, "set no_new_privs");
    }
}

/* Comes after the change of user, which clears it. A parent that died before shows as the end of
 * the go pipe. */
static void die_with_parent(const struct child *child)
{
    struct pollfd poll_go = {.fd = child->go_fd, .events = POLLIN};

    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) {
        child_fail(child, "ask to die with the monitor");
    }
    if (poll(&poll_go, 1, 0) != 0) {
        _exit(127);
    }
}

/* ---- the child ---- */

static int move_up(const struct child *child, int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);

    if (high < 0) {
        child_fail(child, "copy descriptor %d", fd);
    }
    return high;
}

static void set_fd(const struct child *child, int fd, int as)
{
    if (dup2(fd, as) != as) {
        child_fail(child, "place descriptor %d", as);
    }
}

static void arrange_fds(struct child *child)
{
    const struct vdc_confine_config *config = child->config;
    int high[FDS_MAX];
    int log_fd = move_up(child, config->log_fd);
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null_fd < 0) {
        child_fail(child, "open /dev/null");
    }
    null_fd = move_up(child, null_fd);
    VDC_ASSERT(config->fd_count <= FDS_MAX);
    for (size_t i = 0; i < config->fd_count; i++) {
        high[i] = move_up(child, config->fds[i].fd);
    }
    child->status_fd = move_up(child, child->status_fd);
    child->go_fd = move_up(child, child->go_fd);
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) != 0) {
        child_fail(child, "mark descriptors to be closed");
    }
    set_fd(child, null_fd, 0);
    set_fd(child, log_fd, 1);
    set_fd(child, log_fd, 2);
    for (size_t i = 0; i < config->fd_count; i++) {
        set_fd(child, high[i], config->fds[i].as);
    }
}

static void reset_signals(void)
{
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++) {
        (void)signal(sig, SIG_DFL);
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

VDC_NORETURN static void run_child(struct child *child)
{
    const struct vdc_confine_config *config = child->config;
    static char path[] = "PATH=/usr/bin:/bin";
    static char locale[] = "LC_ALL=C";
    char *const env[] = {path, locale, NULL};
    char go;

    if (read(child->go_fd, &go, 1) != 1) {
        _exit(127);
    }
    reset_signals();
    (void)umask(022); /* the new root is made for another user */
    (void)setsid();
    if (config->confined) {
        enter_new_root(child);
    }
    arrange_fds(child);
    set_limit(child, RLIMIT_CORE, 0);
    set_limit(child, RLIMIT_NOFILE, OPEN_FILES_MAX);
    if (config->confined) {
        drop_privileges(child);
    } else if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        child_fail(child, "set no_new_privs");
    }
    die_with_parent(child);
    (void)execve(config->program, config->args, env);
    child_fail(child, "exec %s", config->program);
}

/* ---- the parent ---- */

/* As fork(), in new namespaces. */
static pid_t fork_with(int namespaces)
{
    return (pid_t)syscall(SYS_clone, (unsigned long)namespaces | SIGCHLD, NULL, NULL, NULL, 0);
}

/* Waits for the child's sentence or its exec. */
static enum vdc_rc read_status(int fd, struct vdc_err *err)
{
    char text[512];
    size_t len = 0;

    for (;;) {
        ssize_t got = read(fd, text + len, sizeof(text) - 1 - len);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            break;
        }
        len += (size_t)got;
    }
    text[len] = '\0';
    return len == 0 ? VDC_RC_OK : vdc_err_set(err, VDC_RC_IO, "%s", text);
}

static enum vdc_rc release_child(const struct vdc_confine_config *config, pid_t pid, int go_fd,
                                 int status_fd, struct vdc_err *err)
{
    if (config->place != NULL) {
        enum vdc_rc rc = config->place(config->place_data, pid, err);
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    if (write(go_fd, "g", 1) != 1) {
        return vdc_err_errno(err, errno, "release the child");
    }
    return read_status(status_fd, err);
}

enum vdc_rc vdc_confine_start(const struct vdc_confine_config *config, pid_t *pid,
                              struct vdc_err *err)
{
    int namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
    int status[2];
    int go[2];
    enum vdc_rc rc;

    VDC_ASSERT(!config->confined || (config->uid != 0 && config->gid != 0));
    if (pipe2(status, O_CLOEXEC) != 0) {
        return vdc_err_errno(err, errno, "pipe");
    }
    if (pipe2(go, O_CLOEXEC) != 0) {
        rc = vdc_err_errno(err, errno, "pipe");
        goto close_status;
    }
    *pid = fork_with(config->confined ? namespaces : 0);
    if (*pid < 0) {
        rc = vdc_err_errno(err, errno, "clone");
        goto close_go;
    }
    if (*pid == 0) {
        struct child child = {.config = config, .status_fd = status[1], .go_fd = go[0]};
        (void)close(go[1]);
        run_child(&child);
    }
    (void)close(status[1]);
    status[1] = -1;
    rc = release_child(config, *pid, go[1], status[0], err);
    if (rc != VDC_RC_OK) {
        (void)kill(*pid, SIGKILL);
        (void)waitpid(*pid, NULL, 0);
    }
close_go:
    (void)close(go[0]);
    (void)close(go[1]);
close_status:
    (void)close(status[0]);
    if (status[1] >= 0) {
        (void)close(status[1]);
    }
    return rc;
}
