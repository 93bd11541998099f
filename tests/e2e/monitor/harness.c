/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/cgroup.h>
#include <vdc/clock.h>
#include <vdc/file.h>

#include "harness.h"

#define DISK_BYTES (16 << 20)
#define GUESTS_MAX 8
#define CONSOLE_MAX (4U << 20)

static struct guest *guests[GUESTS_MAX];

static void must(bool ok, const char *what)
{
    if (!ok) {
        (void)fprintf(stderr, "harness: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void renew(struct guest *guest)
{
    if (guest->renew) {
        vdc_view_set_lease(guest->page, vdc_clock_mono().ns + guest->lease_ns);
    }
}

static void renew_all(void)
{
    for (size_t i = 0; i < GUESTS_MAX; i++) {
        if (guests[i] != NULL) {
            renew(guests[i]);
        }
    }
}

static void make_view(struct guest *guest)
{
    vdc_autofree char *path = vdc_asprintf("%s/view", guest->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    must(fd >= 0 && ftruncate(fd, VDC_VIEW_BYTES) == 0, path);
    guest->page = mmap(NULL, VDC_VIEW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(guest->page != MAP_FAILED, path);
    (void)close(fd);
    guest->view_fd = open(path, O_RDONLY | O_CLOEXEC);
    must(guest->view_fd >= 0, path);
}

void guest_init(struct guest *guest, const struct setup *setup, const char *name, const char *disk)
{
    int fd;

    *guest = (struct guest){.sock = -1, .renew = true, .lease_ns = 4 * VDC_SECOND};
    (void)snprintf(guest->dir, sizeof(guest->dir), "%s/%s", setup->dir, name);
    must(vdc_dir_make(guest->dir, 0755, NULL) == VDC_RC_OK, guest->dir);
    vdc_str_set(guest->launch.name, sizeof(guest->launch.name), name);
    vdc_str_set(guest->launch.kernel, sizeof(guest->launch.kernel), setup->kernel);
    vdc_str_set(guest->launch.initrd, sizeof(guest->launch.initrd), setup->initrd);
    vdc_str_set(guest->launch.append, sizeof(guest->launch.append), "panic=-1 quiet");
    if (disk != NULL) {
        guest->launch.disk_count = 1;
        vdc_str_set(guest->launch.disks[0].id, VDC_NAME_CAP, "root");
        (void)snprintf(guest->launch.disks[0].path, sizeof(guest->launch.disks[0].path), "%s/%s",
                       setup->dir, disk);
        fd = open(guest->launch.disks[0].path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        must(fd >= 0 && ftruncate(fd, DISK_BYTES) == 0, disk);
        (void)close(fd);
    }
    guest->launch.lease = true;
    guest->launch.uid = guest->launch.gid = 64099;
    guest->launch.grace_ms = 1500;
    guest->launch.stop_timeout_s = 10;
    (void)snprintf(guest->launch.cgroup, sizeof(guest->launch.cgroup), "vdc-e2e-monitor-%d/%s",
                   (int)getpid(), name);
    guest->content = (struct vdc_view_content){
        .generation = 1,
        .run = VDC_RUN_RUNNING,
        .kind = VDC_PARTITION_GUEST,
        .vcpus = 1,
        .cpu_milli = 1000,
        .memory_bytes = 128 << 20,
        .blocks_len = 1,
        .blocks = {{.addr = 0, .bytes = 128 << 20, .numa = 0}},
    };
    vdc_str_set(guest->content.name, sizeof(guest->content.name), name);
    vdc_str_set(guest->content.zone, sizeof(guest->content.zone), "prod");
    vdc_line_reader_init(&guest->reader, VDC_MONITOR_LINE_MAX);
    make_view(guest);
    for (size_t i = 0; i < GUESTS_MAX; i++) {
        if (guests[i] == NULL) {
            guests[i] = guest;
            return;
        }
    }
    must(false, "too many guests");
}

void guest_publish(struct guest *guest)
{
    vdc_view_publish(guest->page, &guest->content);
    if (guest->sock >= 0) {
        (void)guest_command(guest, VDC_MONITOR_REFRESH);
    }
}

void guest_start(struct guest *guest, const struct setup *setup)
{
    vdc_autofree char *config = vdc_asprintf("%s/launch.json", guest->dir);
    vdc_autofree char *log = vdc_asprintf("%s/monitor.log", guest->dir);
    vdc_autofree char *json = vdc_launch_to_json(&guest->launch);
    const char *const argv[] = {setup->monitor,
                                "--dir",
                                guest->dir,
                                "--config",
                                config,
                                "--view-fd",
                                "3",
                                "--accel",
                                "tcg",
                                guest->unconfined ? "--unconfined" : NULL,
                                NULL};
    const struct vdc_spawn_fd fds[] = {{.fd = guest->view_fd, .as = 3}};
    const struct vdc_spawn_config spawn = {.argv = argv,
                                           .fds = fds,
                                           .fd_count = 1,
                                           .log_path = log,
                                           .detached = true,
                                           .parent_signal = SIGKILL};
    struct vdc_err err = {0};

    must(vdc_file_write_atomic(config, json, strlen(json), 0600, &err) == VDC_RC_OK, config);
    vdc_view_publish(guest->page, &guest->content);
    renew(guest);
    if (vdc_spawn(&spawn, &guest->monitor, &err) != VDC_RC_OK) {
        (void)fprintf(stderr, "harness: %s\n", vdc_err_text(&err));
        exit(1);
    }
}

static bool connect_once(struct guest *guest)
{
    vdc_autofree char *path = vdc_asprintf("%s/monitor.sock", guest->dir);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int dirfd;
    bool ok;

    if (vdc_unix_path_open(path, address.sun_path, &dirfd, NULL) != VDC_RC_OK) {
        return false;
    }
    guest->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ok = connect(guest->sock, (struct sockaddr *)&address, sizeof(address)) == 0;
    if (dirfd >= 0) {
        (void)close(dirfd);
    }
    if (!ok) {
        (void)close(guest->sock);
        guest->sock = -1;
    }
    return ok;
}

bool guest_connect(struct guest *guest)
{
    vdc_mono until = vdc_mono_add(vdc_clock_mono(), WAIT_MS * VDC_MS);

    while (!connect_once(guest)) {
        if (vdc_mono_reached(vdc_clock_mono(), until) || !vdc_proc_alive(&guest->monitor)) {
            return false;
        }
        renew_all();
        (void)usleep(20000);
    }
    return true;
}

void guest_disconnect(struct guest *guest)
{
    if (guest->sock >= 0) {
        (void)close(guest->sock);
        guest->sock = -1;
    }
    vdc_line_reader_deinit(&guest->reader);
    vdc_line_reader_init(&guest->reader, VDC_MONITOR_LINE_MAX);
    guest->state_known = false;
}

/* Takes one line; a reply goes to `reply` (may be NULL). */
static bool take_message(struct guest *guest, struct vdc_monitor_message *reply, bool *replied)
{
    struct vdc_monitor_message message;
    struct vdc_err err = {0};
    size_t len;
    char *line = vdc_line_reader_take(&guest->reader, &len);

    if (line == NULL) {
        return false;
    }
    if (vdc_monitor_message_decode(line, len, &message, &err) != VDC_RC_OK) {
        (void)fprintf(stderr, "harness: %s: %s\n", vdc_err_text(&err), line);
        exit(1);
    }
    if (message.kind == VDC_MONITOR_MESSAGE_STATE) {
        guest->state = message.state;
        guest->state_known = true;
    }
    if (message.kind == VDC_MONITOR_MESSAGE_REPLY && reply != NULL) {
        *reply = message;
        *replied = true;
    } else {
        vdc_monitor_message_deinit(&message);
    }
    return true;
}

/* Reads what comes within 20 ms. */
static void pump(struct guest *guest, struct vdc_monitor_message *reply, bool *replied)
{
    struct pollfd poll_fd = {.fd = guest->sock, .events = POLLIN};
    char data[4096];
    ssize_t got;

    renew_all();
    if (take_message(guest, reply, replied)) {
        return;
    }
    if (guest->sock < 0 || poll(&poll_fd, 1, 20) != 1) {
        (void)usleep(guest->sock < 0 ? 20000 : 0);
        return;
    }
    got = read(guest->sock, data, sizeof(data));
    if (got <= 0) {
        (void)close(guest->sock);
        guest->sock = -1;
        return;
    }
    must(vdc_line_reader_feed(&guest->reader, data, (size_t)got) == VDC_RC_OK, "line too long");
}

bool guest_request(struct guest *guest, struct vdc_monitor_request request,
                   struct vdc_monitor_message *reply)
{
    vdc_mono until = vdc_mono_add(vdc_clock_mono(), WAIT_MS * VDC_MS);
    struct vdc_monitor_message local;
    struct vdc_buf line = {0};
    bool replied = false;
    bool ok;

    request.id = ++guest->last_id;
    vdc_monitor_request_encode(&request, &line);
    ok = guest->sock >= 0 &&
         send(guest->sock, line.data, line.len, MSG_NOSIGNAL) == (ssize_t)line.len;
    vdc_buf_deinit(&line);
    while (ok && !replied && guest->sock >= 0 && !vdc_mono_reached(vdc_clock_mono(), until)) {
        pump(guest, &local, &replied);
    }
    if (!replied) {
        (void)fprintf(stderr, "harness: %s: no reply\n", vdc_monitor_command_text(request.command));
        return false;
    }
    ok = local.rc == VDC_RC_OK;
    if (!ok) {
        (void)fprintf(stderr, "harness: %s: %s %s\n", vdc_monitor_command_text(request.command),
                      vdc_rc_name(local.rc), local.error);
    }
    if (reply != NULL) {
        *reply = local;
    } else {
        vdc_monitor_message_deinit(&local);
    }
    return ok;
}

bool guest_command(struct guest *guest, enum vdc_monitor_command command)
{
    return guest_request(guest, (struct vdc_monitor_request){.command = command, .timeout_s = 10},
                         NULL);
}

bool guest_wait(struct guest *guest, enum vdc_phase state)
{
    vdc_mono until = vdc_mono_add(vdc_clock_mono(), WAIT_MS * VDC_MS);
    bool replied;

    while (!guest->state_known || guest->state.state != state) {
        bool over = guest->state_known && (guest->state.state == VDC_PHASE_STOPPED ||
                                           guest->state.state == VDC_PHASE_FAILED);
        if (over || vdc_mono_reached(vdc_clock_mono(), until) || guest->sock < 0) {
            (void)fprintf(stderr, "harness: %s is %s (%s), not %s\n", guest->launch.name,
                          vdc_phase_text(guest->state.state), guest->state.reason,
                          vdc_phase_text(state));
            return false;
        }
        pump(guest, NULL, &replied);
    }
    return true;
}

bool guest_wait_console(struct guest *guest, const char *text)
{
    vdc_mono until = vdc_mono_add(vdc_clock_mono(), WAIT_MS * VDC_MS);
    bool found = false;
    bool replied;

    while (!found && !vdc_mono_reached(vdc_clock_mono(), until)) {
        vdc_autofree char *console = guest_console(guest);
        found = strstr(console, text) != NULL;
        pump(guest, NULL, &replied);
    }
    return found;
}

void settle(int ms)
{
    vdc_mono until = vdc_mono_add(vdc_clock_mono(), ms * VDC_MS);
    bool replied;

    while (!vdc_mono_reached(vdc_clock_mono(), until)) {
        for (size_t i = 0; i < GUESTS_MAX; i++) {
            if (guests[i] != NULL && guests[i]->sock >= 0) {
                pump(guests[i], NULL, &replied);
            }
        }
        renew_all();
        (void)usleep(1000);
    }
}

int guest_join(struct guest *guest)
{
    vdc_mono until = vdc_mono_add(vdc_clock_mono(), WAIT_MS * VDC_MS);
    int status = 0;
    bool replied;

    while (waitpid(guest->monitor.pid, &status, WNOHANG) == 0) {
        if (vdc_mono_reached(vdc_clock_mono(), until)) {
            return -2;
        }
        pump(guest, NULL, &replied);
    }
    while (guest->sock >= 0) {
        pump(guest, NULL, &replied);
    }
    guest->monitor.pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void remove_cgroup(const char *path)
{
    struct vdc_cgroup_layout layout;

    if (vdc_cgroup_layout_read(&layout, NULL) == VDC_RC_OK) {
        /* A QEMU whose monitor was just killed takes a moment to end. */
        for (int i = 0; i < 500 && vdc_cgroup_remove(&layout, path, NULL) == VDC_RC_CONFLICT; i++) {
            (void)usleep(10000);
        }
    }
    vdc_cgroup_layout_deinit(&layout);
}

void guests_end(void)
{
    vdc_autofree char *parent = vdc_asprintf("vdc-e2e-monitor-%d", (int)getpid());

    remove_cgroup(parent);
}

void guest_end(struct guest *guest)
{
    if (guest->monitor.pid > 0) {
        (void)kill(guest->monitor.pid, SIGKILL);
        (void)waitpid(guest->monitor.pid, NULL, 0);
    }
    if (guest->launch.cgroup[0] != '\0') {
        remove_cgroup(guest->launch.cgroup); /* of a monitor that was killed */
    }
    guest_disconnect(guest);
    vdc_line_reader_deinit(&guest->reader);
    (void)munmap(guest->page, VDC_VIEW_BYTES);
    (void)close(guest->view_fd);
    for (size_t i = 0; i < GUESTS_MAX; i++) {
        if (guests[i] == guest) {
            guests[i] = NULL;
        }
    }
}

void guest_moved(const struct guest *old, struct guest *now)
{
    for (size_t i = 0; i < GUESTS_MAX; i++) {
        if (guests[i] == old) {
            guests[i] = now;
        }
    }
}

char *guest_console_all(const struct guest *guest)
{
    vdc_autofree char *old = vdc_asprintf("%s/console.log.1", guest->dir);
    vdc_autofree char *path = vdc_asprintf("%s/console.log", guest->dir);
    struct vdc_buf text = {0};

    (void)!vdc_file_read(old, CONSOLE_MAX, &text, NULL);
    (void)!vdc_file_read(path, CONSOLE_MAX, &text, NULL);
    return vdc_buf_steal(&text);
}

char *guest_console(const struct guest *guest)
{
    static const char mark[] = "the guest is started anew";
    vdc_autofree char *all = guest_console_all(guest);
    const char *run = all;

    for (const char *at = all; (at = strstr(at, mark)) != NULL; at += strlen(mark)) {
        run = at;
    }
    return vdc_strdup(run);
}
