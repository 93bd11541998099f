/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/confine.h>
#include <vdc/file.h>
#include <vdc/kvm_probe.h>
#include <vdc/log.h>
#include <vdc/qemu.h>
#include <vdc/qemu_args.h>

/* Milli-CPUs that QEMU's own threads may use beside the guest's vCPUs. */
#define EMULATOR_CPU_MILLI 500

/* Files and descriptors of one start; closed in ours when QEMU has its copies. */
struct start {
    struct vdc_confine_fd fds[VDC_QEMU_FDS_MAX];
    size_t fd_count;
    struct vdc_qemu_hardware hardware;
    int stderr_write;
};

static void start_add_fd(struct start *start, int fd, int as)
{
    VDC_ASSERT(start->fd_count < VDC_COUNT_OF(start->fds));
    start->fds[start->fd_count++] = (struct vdc_confine_fd){.fd = fd, .as = as};
}

static void start_deinit(struct start *start)
{
    for (size_t i = 0; i < start->fd_count; i++) {
        (void)close(start->fds[i].fd);
    }
    if (start->stderr_write >= 0) {
        (void)close(start->stderr_write);
    }
}

/* One end for QEMU at `as`, the other is ours and does not block. */
static enum vdc_rc add_pair(struct start *start, int as, int *ours, struct vdc_err *err)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        return vdc_err_errno(err, errno, "socketpair");
    }
    start_add_fd(start, fds[1], as);
    *ours = fds[0];
    if (fcntl(fds[0], F_SETFL, O_NONBLOCK) != 0) {
        return vdc_err_errno(err, errno, "make a socket non-blocking");
    }
    return VDC_RC_OK;
}

static enum vdc_rc open_disk_fd(struct start *start, const char *path, int flags, int as,
                                struct vdc_err *err)
{
    struct stat st;
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return vdc_err_errno(err, errno, "open disk %s", path);
    }
    start_add_fd(start, fd, as);
    if (fstat(fd, &st) != 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))) {
        return vdc_err_set(err, VDC_RC_INVALID, "disk %s is no file and no block device", path);
    }
    if (fcntl(fd, F_SETFL, flags & O_DIRECT) != 0) {
        return vdc_err_errno(err, errno, "disk %s", path);
    }
    return VDC_RC_OK;
}

static bool takes_direct(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC | O_NONBLOCK);

    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0;
}

static enum vdc_rc add_disks(struct start *start, const struct vdc_launch *launch,
                             struct vdc_err *err)
{
    enum vdc_rc rc = VDC_RC_OK;

    for (uint32_t i = 0; i < launch->disk_count && rc == VDC_RC_OK; i++) {
        const struct vdc_launch_disk *disk = &launch->disks[i];
        int as = VDC_QEMU_FD_DISK + 2 * (int)i;

        start->hardware.direct[i] = takes_direct(disk->path);
        rc = open_disk_fd(start, disk->path, O_RDONLY, as, err);
        if (rc == VDC_RC_OK && !disk->readonly) {
            rc = open_disk_fd(start, disk->path, O_RDWR, as + 1, err);
        }
    }
    return rc;
}

static enum vdc_rc open_fds(struct vdc_qemu *qemu, struct start *start,
                            const struct vdc_launch *launch, struct vdc_err *err)
{
    int fds[2];
    enum vdc_rc rc = add_pair(start, VDC_QEMU_FD_QMP, &qemu->qmp_fd, err);

    if (rc == VDC_RC_OK) {
        rc = add_pair(start, VDC_QEMU_FD_CONSOLE, &qemu->console_fd, err);
    }
    if (rc == VDC_RC_OK) {
        rc = add_pair(start, VDC_QEMU_FD_AGENT, &qemu->agent_fd, err);
    }
    if (rc == VDC_RC_OK && pipe2(fds, O_CLOEXEC) != 0) {
        rc = vdc_err_errno(err, errno, "pipe");
    } else if (rc == VDC_RC_OK) {
        qemu->stderr_fd = fds[0];
        start->stderr_write = fds[1];
        (void)fcntl(fds[0], F_SETFL, O_NONBLOCK);
    }
    return rc == VDC_RC_OK ? add_disks(start, launch, err) : rc;
}

/* The dedicated CPUs as a list for cpuset; NULL for the pool. */
static char *cpu_list(const struct vdc_view_content *view)
{
    struct vdc_buf text = {0};

    for (uint32_t i = 0; i < view->cpus_len; i++) {
        vdc_buf_printf(&text, "%s%u", i == 0 ? "" : ",", view->cpus[i]);
    }
    if (view->cpus_len == 0) {
        return NULL;
    }
    return vdc_buf_steal(&text);
}

static void make_cgroup(struct vdc_qemu *qemu, const struct vdc_monitor_config *config,
                        const struct vdc_view_content *view)
{
    vdc_autofree char *cpus = cpu_list(view);
    struct vdc_cgroup_limits limits = {
        .memory_bytes = vdc_qemu_memory_limit(view->memory_bytes, view->vcpus, config->kvm),
        .cpu_milli = VDC_MAX(view->vcpus * 1000, view->cpu_milli) + EMULATOR_CPU_MILLI,
        .cpu_shares = view->cpu_milli,
        .pids = view->vcpus + VDC_QEMU_THREADS_MAX,
        .cpus = cpus,
    };
    struct vdc_trace trace = {0};
    struct vdc_err err = {0};
    enum vdc_rc rc;

    if (config->launch->cgroup[0] == '\0') {
        return;
    }
    rc = vdc_cgroup_layout_read(&qemu->cgroups, &err);
    if (rc == VDC_RC_OK) {
        rc = vdc_cgroup_make(&qemu->cgroups, config->launch->cgroup, &limits, &trace, &err);
    }
    vdc_log_trace(&trace);
    vdc_trace_deinit(&trace);
    if (rc == VDC_RC_OK) {
        qemu->cgroup = vdc_strdup(config->launch->cgroup);
    } else {
        vdc_log_warn("cgroup: %s -> the guest runs without limits", vdc_err_text(&err));
    }
}

/* While the child waits: its start time and its control group. */
static enum vdc_rc place_qemu(void *data, pid_t pid, struct vdc_err *err)
{
    struct vdc_qemu *qemu = data;
    enum vdc_rc rc = vdc_proc_find(pid, &qemu->proc, err);

    if (rc == VDC_RC_OK && qemu->cgroup != NULL) {
        rc = vdc_cgroup_enter(&qemu->cgroups, qemu->cgroup, pid, err);
    }
    return rc;
}

static enum vdc_rc spawn_qemu(struct vdc_qemu *qemu, struct start *start,
                              const struct vdc_monitor_config *config,
                              const struct vdc_view_content *view, struct vdc_err *err)
{
    const struct vdc_launch *launch = config->launch;
    bool has_initrd = launch->initrd[0] != '\0';
    vdc_autofree char *root = vdc_asprintf("%s/root", config->dir);
    char **args;
    pid_t pid;
    enum vdc_rc rc = vdc_dir_make(root, 0755, err);
    struct vdc_confine_config confine = {
        .program = config->qemu,
        .fds = start->fds,
        .fd_count = start->fd_count,
        .log_fd = start->stderr_write,
        .confined = !config->unconfined,
        .root = root,
        .kernel = launch->kernel,
        .initrd = has_initrd ? launch->initrd : NULL,
        .kvm = config->kvm,
        .uid = launch->uid,
        .gid = launch->gid,
        .place = place_qemu,
        .place_data = qemu,
    };

    if (rc != VDC_RC_OK) {
        return rc;
    }
    start->hardware.launch = launch;
    start->hardware.kernel = config->unconfined ? launch->kernel : VDC_CONFINE_KERNEL;
    if (has_initrd) {
        start->hardware.initrd = config->unconfined ? launch->initrd : VDC_CONFINE_INITRD;
    }
    start->hardware.vcpus = view->vcpus;
    start->hardware.memory_bytes = view->memory_bytes;
    start->hardware.kvm = config->kvm;
    start->hardware.incoming = launch->migrate_incoming || view->run == VDC_RUN_INCOMING;
    start->hardware.sandbox = true;
    start->hardware.tsc_khz = launch->tsc_khz != 0 ? launch->tsc_khz : vdc_tsc_khz();
    args = vdc_qemu_args_make(&start->hardware);
    confine.args = args;
    make_cgroup(qemu, config, view);
    rc = vdc_confine_start(&confine, &pid, err);
    vdc_qemu_args_free(args);
    return rc;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

enum vdc_rc vdc_qemu_start(const struct vdc_monitor_config *config,
                           const struct vdc_view_content *view, struct vdc_qemu *qemu,
                           struct vdc_err *err)
{
    struct start start = {.stderr_write = -1};
    enum vdc_rc rc;

    *qemu = (struct vdc_qemu){.qmp_fd = -1, .console_fd = -1, .agent_fd = -1, .stderr_fd = -1};
    if (config->lock_fd > 0) {
        int lock = fcntl(config->lock_fd, F_DUPFD_CLOEXEC, 0);
        if (lock < 0) {
            return vdc_err_errno(err, errno, "lock descriptor %d", config->lock_fd);
        }
        start_add_fd(&start, lock, VDC_QEMU_FD_LOCK);
    }
    rc = open_fds(qemu, &start, config->launch, err);
    if (rc == VDC_RC_OK) {
        rc = spawn_qemu(qemu, &start, config, view, err);
    }
    start_deinit(&start);
    if (rc != VDC_RC_OK) {
        close_fd(&qemu->qmp_fd);
        close_fd(&qemu->console_fd);
        close_fd(&qemu->agent_fd);
        close_fd(&qemu->stderr_fd);
        (void)vdc_err_wrap(err, "start QEMU");
    }
    return rc;
}

void vdc_qemu_deinit(struct vdc_qemu *qemu)
{
    struct vdc_err err = {0};

    if (qemu->cgroup != NULL &&
        vdc_cgroup_remove(&qemu->cgroups, qemu->cgroup, &err) != VDC_RC_OK) {
        vdc_log_warn("cgroup: %s", vdc_err_text(&err));
    }
    free(vdc_steal(&qemu->cgroup));
    vdc_cgroup_layout_deinit(&qemu->cgroups);
}
