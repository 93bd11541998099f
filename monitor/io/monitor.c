/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One libuv loop; its handles are QMP, the console, the agent port, QEMU's stderr, the control
 * socket, the watch on QEMU's process and one timer. Each callback makes an event of what happened
 * and gives it to the core; apply() carries out the answer in the order that guest.h lists.
 *
 * At the end: QEMU is gone -> its last words on QMP, console and stderr are read -> EXITED ->
 * final.json -> the control socket delivers and closes -> the loop has no handles left.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <uv.h>

#include <vdc/base.h>
#include <vdc/clock.h>
#include <vdc/console.h>
#include <vdc/control.h>
#include <vdc/file.h>
#include <vdc/guest.h>
#include <vdc/log.h>
#include <vdc/monitor.h>
#include <vdc/qemu.h>
#include <vdc/qemu_args.h>
#include <vdc/qmp_link.h>
#include <vdc/spawn.h>
#include <vdc/view.h>

#define MAGIC UINT32_C(0x4d4f4e49)
/* Bytes read from the console in one turn of the loop. */
#define CONSOLE_TURN_MAX (256U << 10)
/* Bytes of the last line of QEMU's stderr that is kept as the reason of a failure. */
#define LAST_LINE_MAX 255

/* A descriptor of QEMU's that we read: console, agent port, stderr. */
struct stream {
    uv_poll_t poll;
    int fd; /* -1: closed */
    bool polled;
};

struct monitor {
    uint32_t magic;
    const struct vdc_monitor_config *config;
    uv_loop_t loop;
    uv_timer_t timer;
    struct vdc_guest *guest;

    const void *view_page;
    struct vdc_view_content *view; /* as last read */
    uint64_t view_version;
    bool view_known;
    int64_t lease_ns;

    struct vdc_control *control;
    struct vdc_qmp_link *qmp;
    struct stream console_stream;
    struct stream agent_stream;
    struct stream stderr_stream;
    struct vdc_console console;
    int dirfd;
    int migration_fd; /* -1: none */

    struct vdc_proc self;
    struct vdc_qemu qemu;
    struct vdc_proc_watch *watch;
    bool qemu_ended;

    char stderr_line[LAST_LINE_MAX + 1]; /* being read */
    size_t stderr_len;
    char stderr_last[LAST_LINE_MAX + 1]; /* complete */
    size_t stderr_logged;

    /* ACT_CONNECT of the step that is applied; done after it. */
    char *connect_path;
    bool stepping;
    bool ended;
    int exit_status;
};

static void step(struct monitor *monitor, const struct vdc_guest_event *event,
                 struct vdc_err *reply);

/* ---- state to clients ---- */

static void fill_state(const struct monitor *monitor, struct vdc_monitor_state *state)
{
    *state = *vdc_guest_state(monitor->guest);
    state->monitor_pid = monitor->self.pid;
    state->monitor_start = monitor->self.start_time;
    state->console_end = monitor->console.end;
}

static void broadcast(struct monitor *monitor)
{
    struct vdc_monitor_message message = {.kind = VDC_MONITOR_MESSAGE_STATE, .has_state = true};

    if (monitor->control != NULL) {
        fill_state(monitor, &message.state);
        vdc_control_broadcast(monitor->control, &message);
    }
}

/* ---- streams ---- */

static void stream_stop(struct stream *stream)
{
    if (stream->fd >= 0) {
        if (stream->polled) {
            uv_close((uv_handle_t *)&stream->poll, NULL);
            stream->polled = false;
        }
        (void)close(stream->fd);
        stream->fd = -1;
    }
}

/* Reads once; 0 when nothing is there now, and the stream is closed at its end. */
static size_t stream_read(struct stream *stream, char *data, size_t max)
{
    ssize_t got;

    if (stream->fd < 0) {
        return 0;
    }
    do {
        got = read(stream->fd, data, max);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return 0;
    }
    if (got <= 0) {
        stream_stop(stream);
        return 0;
    }
    return (size_t)got;
}

/* Moves what the guest has printed into the log, at most `max` bytes. */
static void read_console(struct monitor *monitor, size_t max)
{
    char data[16384];
    size_t done = 0;
    size_t got;

    while (done < max && (got = stream_read(&monitor->console_stream, data, sizeof(data))) > 0) {
        struct vdc_err err = {0};

        if (vdc_console_write(&monitor->console, data, got, &err) != VDC_RC_OK) {
            vdc_log_error("console: %s", vdc_err_text(&err));
        }
        done += got;
    }
}

/* What has been printed by now, and no more: a QEMU that goes on writing must not keep us here while
 * its lease runs out. A guest that is stopped has written all into the socket. */
static void read_console_now(struct monitor *monitor)
{
    int waiting = 0;

    if (monitor->console_stream.fd >= 0 &&
        ioctl(monitor->console_stream.fd, FIONREAD, &waiting) == 0 && waiting > 0) {
        read_console(monitor, (size_t)waiting);
    }
}

static void end_stderr_line(struct monitor *monitor)
{
    if (monitor->stderr_len == 0) {
        return;
    }
    monitor->stderr_line[monitor->stderr_len] = '\0';
    memcpy(monitor->stderr_last, monitor->stderr_line, monitor->stderr_len + 1);
    monitor->stderr_len = 0;
    if (monitor->stderr_logged < VDC_MONITOR_QEMU_LOG_MAX) {
        monitor->stderr_logged += strlen(monitor->stderr_last);
        vdc_log_warn("qemu: %s", monitor->stderr_last);
        if (monitor->stderr_logged >= VDC_MONITOR_QEMU_LOG_MAX) {
            vdc_log_warn("qemu says more than %d bytes -> the rest is not logged",
                         VDC_MONITOR_QEMU_LOG_MAX);
        }
    }
}

static void read_stderr(struct monitor *monitor)
{
    char data[4096];
    size_t got = stream_read(&monitor->stderr_stream, data, sizeof(data));

    for (size_t i = 0; i < got; i++) {
        if (data[i] == '\n') {
            end_stderr_line(monitor);
        } else if (monitor->stderr_len < LAST_LINE_MAX) {
            monitor->stderr_line[monitor->stderr_len++] = data[i];
        }
    }
    if (monitor->stderr_stream.fd < 0) {
        end_stderr_line(monitor);
    }
}

static void on_console(uv_poll_t *poll, int status, int events)
{
    struct monitor *monitor;

    (void)status;
    (void)events;
    VDC_CAST(monitor, poll->data, MAGIC);
    read_console(monitor, CONSOLE_TURN_MAX);
}

/* The agent port is part of the hardware from the first day, so that guests keep it through
 * migrations; nothing is asked over it yet, and what a guest says there is dropped. */
static void on_agent(uv_poll_t *poll, int status, int events)
{
    struct monitor *monitor;
    char data[4096];

    (void)status;
    (void)events;
    VDC_CAST(monitor, poll->data, MAGIC);
    (void)stream_read(&monitor->agent_stream, data, sizeof(data));
}

static void on_stderr(uv_poll_t *poll, int status, int events)
{
    struct monitor *monitor;

    (void)status;
    (void)events;
    VDC_CAST(monitor, poll->data, MAGIC);
    read_stderr(monitor);
}

static void stream_watch(struct monitor *monitor, struct stream *stream, uv_poll_cb on_ready)
{
    VDC_ASSERT(uv_poll_init(&monitor->loop, &stream->poll, stream->fd) == 0);
    stream->poll.data = monitor;
    stream->polled = true;
    VDC_ASSERT(uv_poll_start(&stream->poll, UV_READABLE, on_ready) == 0);
}

/* ---- the view ---- */

static void read_view(struct monitor *monitor)
{
    struct vdc_guest_event event = {.kind = VDC_GUEST_EV_VIEW, .now = vdc_clock_mono()};
    uint64_t version = vdc_view_version(monitor->view_page);
    int64_t lease_ns = vdc_view_lease(monitor->view_page);
    struct vdc_err err = {0};

    if (monitor->view_known && version == monitor->view_version && lease_ns == monitor->lease_ns) {
        return;
    }
    if (!monitor->view_known || version != monitor->view_version) {
        if (vdc_view_read(monitor->view_page, monitor->view, &err) != VDC_RC_OK) {
            /* The lease goes on to be obeyed with what was read last. */
            vdc_log_error("view: %s", vdc_err_text(&err));
        } else {
            monitor->view_version = version;
            monitor->view_known = true;
        }
    }
    monitor->lease_ns = lease_ns;
    event.view = (struct vdc_guest_view){
        .run = monitor->view->run,
        .generation = monitor->view->generation,
        .lease_ns = lease_ns,
    };
    step(monitor, &event, NULL);
}

static void tick(struct monitor *monitor)
{
    struct vdc_guest_event event = {.kind = VDC_GUEST_EV_TICK};

    read_view(monitor);
    event.now = vdc_clock_mono();
    step(monitor, &event, NULL);
}

static void on_timer(uv_timer_t *timer)
{
    struct monitor *monitor;

    VDC_CAST(monitor, timer->data, MAGIC);
    tick(monitor);
}

static void arm_timer(struct monitor *monitor)
{
    vdc_mono now = vdc_clock_mono();
    int64_t poll_ms = vdc_guest_waits_for_lease(monitor->guest) ? VDC_MONITOR_LEASE_POLL_MS
                                                                : VDC_MONITOR_VIEW_POLL_MS;
    vdc_mono at =
        vdc_mono_min(vdc_guest_deadline(monitor->guest), vdc_mono_add(now, poll_ms * VDC_MS));
    int64_t ns = VDC_MAX(vdc_mono_sub(at, now), 0);

    if (!monitor->ended) {
        uv_update_time(&monitor->loop);
        (void)uv_timer_start(&monitor->timer, on_timer, (uint64_t)((ns + VDC_MS - 1) / VDC_MS), 0);
    }
}

/* ---- the migration's socket ---- */

static void close_migration(struct monitor *monitor)
{
    if (monitor->migration_fd >= 0) {
        (void)close(monitor->migration_fd);
        monitor->migration_fd = -1;
    }
}

static enum vdc_rc connect_unix(const char *path, int *fd, struct vdc_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int dirfd;
    enum vdc_rc rc = vdc_unix_path_open(path, address.sun_path, &dirfd, err);

    if (rc != VDC_RC_OK) {
        return rc;
    }
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0 || connect(*fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        rc = vdc_err_errno(err, errno, "connect to %s", path);
        if (*fd >= 0) {
            (void)close(*fd);
        }
        *fd = -1;
    }
    if (dirfd >= 0) {
        (void)close(dirfd);
    }
    return rc;
}

static void connect_migration(struct monitor *monitor, const char *path)
{
    struct vdc_err err = {0};
    struct vdc_guest_event event = {.kind = VDC_GUEST_EV_CONNECTED};

    close_migration(monitor);
    event.ok = connect_unix(path, &monitor->migration_fd, &err) == VDC_RC_OK;
    event.text = vdc_err_text(&err);
    event.now = vdc_clock_mono();
    step(monitor, &event, NULL);
}

/* ---- carrying out ---- */

static void signal_qemu(struct monitor *monitor, int sig)
{
    struct vdc_err err = {0};

    if (!monitor->qemu_ended && vdc_proc_kill(&monitor->qemu.proc, sig, &err) != VDC_RC_OK) {
        vdc_log_warn("signal %d to QEMU: %s", sig, vdc_err_text(&err));
    }
}

static void send_qmp(struct monitor *monitor, const struct vdc_guest_action *action)
{
    struct vdc_buf line = {0};

    if (monitor->qmp != NULL) {
        vdc_qmp_command_encode(action->command, &action->params, action->id, &line);
        vdc_qmp_link_send(monitor->qmp, &line,
                          action->command == VDC_QMP_GETFD ? monitor->migration_fd : -1);
    }
    vdc_buf_deinit(&line);
}

static void do_action(struct monitor *monitor, const struct vdc_guest_update *update,
                      const struct vdc_guest_action *action)
{
    switch (action->kind) {
    case VDC_GUEST_ACT_QMP:
        send_qmp(monitor, action);
        break;
    case VDC_GUEST_ACT_CONNECT:
        free(monitor->connect_path);
        monitor->connect_path = vdc_strdup(update->path);
        break;
    case VDC_GUEST_ACT_CLOSE_MIGRATION:
        close_migration(monitor);
        break;
    case VDC_GUEST_ACT_FREEZE:
        signal_qemu(monitor, SIGSTOP);
        break;
    case VDC_GUEST_ACT_THAW:
        signal_qemu(monitor, SIGCONT);
        break;
    case VDC_GUEST_ACT_KILL:
        signal_qemu(monitor, SIGKILL);
        break;
    }
}

static void write_final(struct monitor *monitor)
{
    vdc_autofree char *path = vdc_asprintf("%s/final.json", monitor->config->dir);
    struct vdc_monitor_state state;
    struct vdc_buf line = {0};
    struct vdc_err err = {0};

    fill_state(monitor, &state);
    vdc_monitor_state_encode(&state, &line);
    if (vdc_file_write_atomic(path, line.data, line.len, 0640, &err) != VDC_RC_OK) {
        vdc_log_error("final state: %s", vdc_err_text(&err));
    }
    vdc_buf_deinit(&line);
}

static void close_all(struct monitor *monitor)
{
    uv_close((uv_handle_t *)&monitor->timer, NULL);
    stream_stop(&monitor->console_stream);
    stream_stop(&monitor->agent_stream);
    stream_stop(&monitor->stderr_stream);
    vdc_qmp_link_close(monitor->qmp);
    monitor->qmp = NULL;
    vdc_proc_watch_close(monitor->watch);
    monitor->watch = NULL;
    close_migration(monitor);
    if (monitor->control != NULL) {
        vdc_control_close(monitor->control);
        monitor->control = NULL;
    }
}

/* `reply` (NULL unless the event is a request) gets the core's answer. */
static void step(struct monitor *monitor, const struct vdc_guest_event *event,
                 struct vdc_err *reply)
{
    struct vdc_guest_update update;
    vdc_autofree char *path = NULL;

    if (monitor->ended) {
        return;
    }
    VDC_ASSERT(!monitor->stepping);
    monitor->stepping = true;
    vdc_guest_step(monitor->guest, event, &update);
    vdc_log_trace(vdc_guest_trace(monitor->guest));
    for (size_t i = 0; i < update.action_count; i++) {
        do_action(monitor, &update, &update.actions[i]);
    }
    monitor->stepping = false;
    if (update.changed) {
        read_console_now(monitor);
        broadcast(monitor);
    }
    if (reply != NULL) {
        *reply = update.reply;
    }
    if (update.ended) {
        monitor->ended = true;
        monitor->exit_status = update.exit_status;
        write_final(monitor);
        return;
    }
    path = vdc_steal(&monitor->connect_path);
    if (path != NULL) {
        connect_migration(monitor, path);
    }
    arm_timer(monitor);
}

/* ---- QEMU's messages and end ---- */

static void on_qmp_message(void *data, const struct vdc_qmp_message *message)
{
    struct monitor *monitor;
    struct vdc_guest_event event = {
        .kind = VDC_GUEST_EV_QMP, .now = vdc_clock_mono(), .qmp = message};

    VDC_CAST(monitor, data, MAGIC);
    step(monitor, &event, NULL);
}

static void on_qmp_broken(void *data, const char *why)
{
    struct monitor *monitor;
    struct vdc_guest_event event = {
        .kind = VDC_GUEST_EV_QMP_BROKEN, .now = vdc_clock_mono(), .text = why};

    VDC_CAST(monitor, data, MAGIC);
    if (!monitor->qemu_ended) {
        step(monitor, &event, NULL);
    }
}

static void on_qemu_exit(void *data, const struct vdc_proc_exit *how)
{
    struct monitor *monitor;
    struct vdc_guest_event event = {.kind = VDC_GUEST_EV_EXITED, .text = ""};

    VDC_CAST(monitor, data, MAGIC);
    monitor->qemu_ended = true;
    if (monitor->qmp != NULL) {
        vdc_qmp_link_drain(monitor->qmp);
    }
    read_console(monitor, SIZE_MAX);
    while (monitor->stderr_stream.fd >= 0) {
        size_t before = monitor->stderr_logged + monitor->stderr_len;
        read_stderr(monitor);
        if (monitor->stderr_logged + monitor->stderr_len == before) {
            break;
        }
    }
    end_stderr_line(monitor);
    event.now = vdc_clock_mono();
    event.exit_code = how->known && how->sig == 0 ? how->code : -1;
    event.exit_signal = how->known ? how->sig : 0;
    event.text = monitor->stderr_last;
    step(monitor, &event, NULL);
    close_all(monitor);
}

/* ---- clients ---- */

static void on_connect(void *data, struct vdc_control_client *client)
{
    struct monitor *monitor;
    struct vdc_monitor_message message = {.kind = VDC_MONITOR_MESSAGE_STATE, .has_state = true};

    VDC_CAST(monitor, data, MAGIC);
    fill_state(monitor, &message.state);
    vdc_control_send(client, &message);
}

static void answer_console(struct monitor *monitor, const struct vdc_monitor_request *request,
                           struct vdc_monitor_message *message)
{
    size_t max = request->max == 0 ? VDC_MONITOR_CONSOLE_READ_MAX : request->max;

    message->has_console = true;
    vdc_console_read(&monitor->console, request->offset, max, &message->console);
}

static void on_request(void *data, struct vdc_control_client *client,
                       const struct vdc_monitor_request *request)
{
    struct monitor *monitor;
    struct vdc_monitor_message message = {.kind = VDC_MONITOR_MESSAGE_REPLY, .id = request->id};
    struct vdc_guest_event event = {.kind = VDC_GUEST_EV_REQUEST, .request = request};
    struct vdc_err reply = {0};

    VDC_CAST(monitor, data, MAGIC);
    if (request->command == VDC_MONITOR_CONSOLE_READ) {
        answer_console(monitor, request, &message);
    } else if (request->command == VDC_MONITOR_REFRESH) {
        read_view(monitor);
    } else if (request->command == VDC_MONITOR_STATUS) {
        message.has_state = true;
        fill_state(monitor, &message.state);
    } else {
        read_view(monitor); /* so that the answer is not given from an old one */
        event.now = vdc_clock_mono();
        step(monitor, &event, &reply);
        message.rc = reply.rc;
        (void)snprintf(message.error, sizeof(message.error), "%.*s", VDC_MONITOR_TEXT_MAX,
                       reply.text);
    }
    vdc_control_send(client, &message);
    vdc_monitor_message_deinit(&message);
}

/* ---- starting ---- */

static enum vdc_rc start_qemu(struct monitor *monitor, struct vdc_err *err)
{
    struct vdc_guest_event event = {.kind = VDC_GUEST_EV_STARTED};
    struct vdc_qemu *qemu = &monitor->qemu;
    enum vdc_rc rc = vdc_qemu_start(monitor->config, monitor->view, qemu, err);

    if (rc != VDC_RC_OK) {
        return rc;
    }
    monitor->console_stream.fd = qemu->console_fd;
    monitor->agent_stream.fd = qemu->agent_fd;
    monitor->stderr_stream.fd = qemu->stderr_fd;
    monitor->qmp =
        vdc_qmp_link_open(&monitor->loop, qemu->qmp_fd, on_qmp_message, on_qmp_broken, monitor);
    rc = vdc_proc_watch_open(&monitor->loop, &qemu->proc, on_qemu_exit, monitor, &monitor->watch,
                             err);
    if (rc != VDC_RC_OK) {
        (void)vdc_err_wrap(err, "watch QEMU");
        (void)!vdc_proc_kill(&qemu->proc, SIGKILL, NULL);
        return rc;
    }
    stream_watch(monitor, &monitor->console_stream, on_console);
    stream_watch(monitor, &monitor->agent_stream, on_agent);
    stream_watch(monitor, &monitor->stderr_stream, on_stderr);
    event.now = vdc_clock_mono();
    event.pid = qemu->proc.pid;
    event.start_time = qemu->proc.start_time;
    step(monitor, &event, NULL);
    return VDC_RC_OK;
}

static enum vdc_rc map_view(struct monitor *monitor, struct vdc_err *err)
{
    struct stat st;
    enum vdc_rc rc;

    if (fstat(monitor->config->view_fd, &st) != 0) {
        return vdc_err_errno(err, errno, "view descriptor %d", monitor->config->view_fd);
    }
    if (st.st_size < VDC_VIEW_BYTES) {
        return vdc_err_set(err, VDC_RC_CORRUPT, "the view has %lld bytes, not %d",
                           (long long)st.st_size, VDC_VIEW_BYTES);
    }
    monitor->view_page =
        mmap(NULL, VDC_VIEW_BYTES, PROT_READ, MAP_SHARED, monitor->config->view_fd, 0);
    if (monitor->view_page == MAP_FAILED) {
        return vdc_err_errno(err, errno, "map the view");
    }
    monitor->view = VDC_NEW(struct vdc_view_content);
    rc = vdc_view_read(monitor->view_page, monitor->view, err);
    if (rc != VDC_RC_OK) {
        (void)vdc_err_wrap(err, "view");
        return rc;
    }
    if (monitor->view->vcpus == 0 || monitor->view->vcpus > VDC_VCPUS_MAX ||
        monitor->view->memory_bytes <= VDC_QEMU_MEMORY_TRIM ||
        monitor->view->memory_bytes % 4096 != 0) {
        return vdc_err_set(err, VDC_RC_INVALID, "the view gives %u vCPUs and %llu bytes of memory",
                           monitor->view->vcpus, (unsigned long long)monitor->view->memory_bytes);
    }
    return VDC_RC_OK;
}

static enum vdc_rc open_dir(struct monitor *monitor, struct vdc_err *err)
{
    vdc_autofree char *final_path = vdc_asprintf("%s/final.json", monitor->config->dir);
    enum vdc_rc rc;

    monitor->dirfd = open(monitor->config->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (monitor->dirfd < 0) {
        return vdc_err_errno(err, errno, "open directory %s", monitor->config->dir);
    }
    rc = vdc_file_remove(final_path, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    rc = vdc_console_open(&monitor->console, monitor->dirfd, err);
    if (rc == VDC_RC_OK) {
        vdc_console_begin_run(&monitor->console, vdc_clock_wall());
    }
    return rc;
}

static enum vdc_rc open_all(struct monitor *monitor, struct vdc_err *err)
{
    vdc_autofree char *path = vdc_asprintf("%s/monitor.sock", monitor->config->dir);
    struct vdc_control_config control = {
        .path = path, .on_connect = on_connect, .on_request = on_request, .data = monitor};
    enum vdc_rc rc = map_view(monitor, err);

    if (rc == VDC_RC_OK) {
        rc = open_dir(monitor, err);
    }
    if (rc == VDC_RC_OK) {
        rc = vdc_proc_find(getpid(), &monitor->self, err);
    }
    if (rc == VDC_RC_OK) {
        rc = vdc_control_open(&monitor->loop, &control, &monitor->control, err);
    }
    return rc;
}

static void create_guest(struct monitor *monitor)
{
    const struct vdc_launch *launch = monitor->config->launch;
    const struct vdc_guest_config config = {
        .name = launch->name,
        .migrate_incoming = launch->migrate_incoming || monitor->view->run == VDC_RUN_INCOMING,
        .lease = launch->lease,
        .grace_ms = launch->grace_ms,
        .stop_timeout_s = launch->stop_timeout_s,
        .accelerator = monitor->config->kvm ? "kvm" : "tcg",
        .confined = !monitor->config->unconfined,
    };

    monitor->guest = vdc_guest_create(&config, vdc_clock_mono());
}

static void run_guest(struct monitor *monitor)
{
    struct vdc_err err = {0};

    create_guest(monitor);
    if (start_qemu(monitor, &err) != VDC_RC_OK) {
        struct vdc_guest_event event = {
            .kind = VDC_GUEST_EV_START_FAILED, .now = vdc_clock_mono(), .text = vdc_err_text(&err)};
        step(monitor, &event, NULL);
        close_all(monitor);
    } else {
        read_view(monitor);
    }
}

static void deinit(struct monitor *monitor)
{
    vdc_qemu_deinit(&monitor->qemu);
    vdc_console_close(&monitor->console);
    vdc_guest_destroy(monitor->guest);
    if (monitor->dirfd >= 0) {
        (void)close(monitor->dirfd);
    }
    if (monitor->view_page != NULL && monitor->view_page != MAP_FAILED) {
        (void)munmap((void *)(uintptr_t)monitor->view_page, VDC_VIEW_BYTES);
    }
    free(monitor->view);
    free(monitor->connect_path);
    monitor->magic = 0;
    free(monitor);
}

enum vdc_rc vdc_monitor_run(const struct vdc_monitor_config *config, int *exit_status,
                            struct vdc_err *err)
{
    struct monitor *monitor = VDC_NEW(struct monitor);
    enum vdc_rc rc;

    monitor->magic = MAGIC;
    monitor->config = config;
    monitor->dirfd = monitor->migration_fd = -1;
    monitor->console_stream.fd = monitor->agent_stream.fd = monitor->stderr_stream.fd = -1;
    monitor->console = (struct vdc_console){.file = -1, .old = -1, .base_file = -1};
    VDC_ASSERT(uv_loop_init(&monitor->loop) == 0);
    VDC_ASSERT(uv_timer_init(&monitor->loop, &monitor->timer) == 0);
    monitor->timer.data = monitor;
    rc = open_all(monitor, err);
    if (rc == VDC_RC_OK) {
        run_guest(monitor);
    } else {
        close_all(monitor);
    }
    (void)uv_run(&monitor->loop, UV_RUN_DEFAULT);
    *exit_status = monitor->exit_status;
    VDC_ASSERT(uv_loop_close(&monitor->loop) == 0);
    deinit(monitor);
    return rc;
}
