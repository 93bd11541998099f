/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes of a place, which are named by (pid, start time) only. "Gone" is told when monitor
 * *and* QEMU have ended: both hold the lock (flock) on the file `lock` of their directory from before
 * the monitor's first instruction until the kernel has taken their last descriptor, so a free lock is
 * the proof, also when this program died before it could note a pid, or QEMU dies slowly after its
 * monitor was killed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vdc/file.h>
#include <vdc/launch.h>
#include <vdc/launch_spec.h>
#include <vdc/log.h>

#include "places_internal.h"

/* How often it is looked whether the processes of a guest that were killed have ended... */
#define LOCK_POLL_MS 20
/* ... and at how many of these looks, in vain, they are looked for and killed again: each 5 s. */
#define LOCK_KILL_POLLS 250

static void finish_gone(struct place *place)
{
    vdc_proc_watch_close(place->qemu_watch);
    place->qemu_watch = NULL;
    place->qemu = (struct vdc_proc){0};
    agent_monitor_client_close(place->client);
    place->client = NULL;
    place_answer_waits(place);
    struct vdc_agent_monitor_state last;
    struct vdc_agent_event event = {.kind = VDC_AGENT_MONITOR_GONE};
    if (agent_monitor_read_final(place->dir, &last, &place->console_end)) {
        event.monitor.state = &last;
    } else {
        event.monitor.text = "the monitor was killed";
    }
    place_deliver(place, &event);
}

/* --- the lock --- */

/* OK with *fd: the lock is ours until all copies of *fd are closed. CONFLICT: a process of the guest
 * has it. */
static enum vdc_rc take_lock(const struct place *place, int *fd, struct vdc_err *err)
{
    vdc_autofree char *path = vdc_asprintf("%s/lock", place->dir);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0) {
        return vdc_err_errno(err, errno, "open %s", path);
    }
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0) {
        return VDC_RC_OK;
    }
    int errnum = errno;
    close(*fd);
    *fd = -1;
    if (errnum == EWOULDBLOCK) {
        return vdc_err_set(err, VDC_RC_CONFLICT, "a process of its last start has not ended");
    }
    return vdc_err_errno(err, errnum, "lock %s", path);
}

static bool lock_is_held(const struct place *place)
{
    int fd;
    if (!vdc_file_exists(place->dir)) {
        return false;
    }
    enum vdc_rc rc = take_lock(place, &fd, NULL);
    if (rc == VDC_RC_OK) {
        close(fd);
    }
    return rc == VDC_RC_CONFLICT;
}

static bool has_open(pid_t pid, const struct stat *file)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    bool found = false;
    struct dirent *entry;
    while (dir != NULL && !found && (entry = readdir(dir)) != NULL) {
        struct stat info;
        found = entry->d_name[0] != '.' && fstatat(dirfd(dir), entry->d_name, &info, 0) == 0 &&
                info.st_dev == file->st_dev && info.st_ino == file->st_ino;
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return found;
}

/* Kills whoever holds the lock; reads all of /proc for it. */
static void kill_holders(const struct place *place, bool log)
{
    vdc_autofree char *path = vdc_asprintf("%s/lock", place->dir);
    struct stat file;
    DIR *dir = stat(path, &file) == 0 ? opendir("/proc") : NULL;
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        uint64_t pid;
        struct vdc_proc proc;
        struct vdc_err err;
        if (vdc_parse_u64(entry->d_name, INT32_MAX, &pid) && (pid_t)pid != getpid() &&
            vdc_proc_find((pid_t)pid, &proc, NULL) == VDC_RC_OK && has_open((pid_t)pid, &file) &&
            vdc_proc_kill(&proc, SIGKILL, &err) == VDC_RC_OK && log) {
            vdc_log_warn("%s: process %d holds its lock and is nobody's -> killed", place->dir,
                         (int)pid);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

static void free_timer(uv_handle_t *handle)
{
    free(handle);
}

void place_stop_lock_timer(struct place *place)
{
    if (place->lock_timer != NULL) {
        uv_close((uv_handle_t *)place->lock_timer, free_timer);
        place->lock_timer = NULL;
    }
}

static void on_lock_timer(uv_timer_t *timer)
{
    struct place *place = place_of(timer->data);
    if (!lock_is_held(place)) {
        place_stop_lock_timer(place);
        finish_gone(place);
    } else if (++place->lock_polls % LOCK_KILL_POLLS == 0) {
        /* A process that is stuck in the kernel may take for ever, and reading all of /proc is work:
         * done at each look, it would cost this node its leases. */
        kill_holders(place, false);
    }
}

bool place_await_lock(struct place *place)
{
    if (!lock_is_held(place)) {
        return false;
    }
    kill_holders(place, true);
    if (place->lock_timer == NULL) {
        place->lock_timer = VDC_NEW(uv_timer_t);
        uv_timer_init(place->owner->config.loop, place->lock_timer);
        place->lock_timer->data = place;
        place->lock_polls = 0;
    }
    uv_timer_start(place->lock_timer, on_lock_timer, LOCK_POLL_MS, LOCK_POLL_MS);
    return true;
}

static void on_qemu_exit(void *data, const struct vdc_proc_exit *how)
{
    (void)how;
    struct place *place = place_of(data);
    if (!place_await_lock(place)) {
        finish_gone(place);
    }
}

static void on_monitor_exit(void *data, const struct vdc_proc_exit *how)
{
    (void)how;
    struct place *place = place_of(data);
    vdc_proc_watch_close(place->monitor_watch);
    place->monitor_watch = NULL;
    place->monitor = (struct vdc_proc){0};
    struct vdc_err err;
    if (place->qemu.pid != 0 && vdc_proc_alive(&place->qemu)) {
        if (vdc_proc_kill(&place->qemu, SIGKILL, &err) == VDC_RC_OK &&
            vdc_proc_watch_open(place->owner->config.loop, &place->qemu, on_qemu_exit, place,
                                &place->qemu_watch, &err) == VDC_RC_OK) {
            return;
        }
    }
    if (!place_await_lock(place)) {
        finish_gone(place);
    }
}

static void on_state(void *data, const struct vdc_agent_monitor_state *state,
                     const struct vdc_proc *qemu, uint64_t console_end)
{
    struct place *place = place_of(data);
    if (qemu->pid != 0) {
        place->qemu = *qemu;
    }
    place->console_end = console_end;
    struct vdc_agent_event event = {.kind = VDC_AGENT_MONITOR_STATE, .monitor.state = state};
    place_deliver(place, &event);
}

static void on_reply(void *data, uint64_t ticket, enum vdc_rc rc, const char *text,
                     const struct monitor_console *console)
{
    struct place *place = place_of(data);
    if ((ticket & TICKET_OWN) != 0) {
        place_take_console(place, ticket, rc, text, console);
        return;
    }
    struct vdc_agent_event event = {.kind = VDC_AGENT_MONITOR_REPLY};
    event.monitor.ticket = ticket;
    event.monitor.rc = rc;
    event.monitor.text = text;
    place_deliver(place, &event);
}

static const struct monitor_client_handlers client_handlers = {
    .on_state = on_state,
    .on_reply = on_reply,
};

enum vdc_rc place_watch_monitor(struct place *place, struct vdc_err *err)
{
    uv_loop_t *loop = place->owner->config.loop;
    enum vdc_rc rc = vdc_proc_watch_open(loop, &place->monitor, on_monitor_exit, place,
                                         &place->monitor_watch, err);
    if (rc == VDC_RC_OK) {
        place->client = agent_monitor_client_open(loop, place->dir, &client_handlers, place);
    }
    return rc;
}

/* --- starting --- */

static uint32_t free_slot(const struct places *places)
{
    for (uint32_t slot = 1;; slot++) {
        const struct place *place = places->all;
        while (place != NULL && place->slot != slot) {
            place = place->hh.next;
        }
        if (place == NULL) {
            return slot;
        }
    }
}

/* The kernel of an image: IMAGE_DIR/NAME/vmlinuz, or IMAGE_DIR/vmlinuz where there is only one. */
static void find_image(const struct places *places, const char *image, struct vdc_launch *launch)
{
    const char *dir = places->config.agent->image_dir;
    snprintf(launch->kernel, sizeof launch->kernel, "%s/%s/vmlinuz", dir, image);
    snprintf(launch->initrd, sizeof launch->initrd, "%s/%s/initrd.img", dir, image);
    if (!vdc_file_exists(launch->kernel)) {
        snprintf(launch->kernel, sizeof launch->kernel, "%s/vmlinuz", dir);
        snprintf(launch->initrd, sizeof launch->initrd, "%s/initrd.img", dir);
    }
}

static enum vdc_rc write_launch(struct place *place, const struct vdc_agent_action *action,
                                struct vdc_err *err)
{
    struct places *places = place->owner;
    const struct agent_config *config = places->config.agent;
    const struct vdc_partition *partition = action->start.partition;
    struct vdc_launch_spec spec;
    enum vdc_rc rc = vdc_launch_spec_parse(partition->config, partition->config_len, &spec, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (place->slot == 0) {
        place->slot = free_slot(places);
    }
    vdc_autofree struct vdc_launch *launch = VDC_NEW(struct vdc_launch);
    vdc_str_set(launch->name, sizeof launch->name, partition->name);
    find_image(places, spec.image, launch);
    snprintf(launch->append, sizeof launch->append, "panic=-1 quiet vdc.name=%s", partition->name);
    if (spec.disk_bytes > 0) {
        struct vdc_launch_disk *disk = &launch->disks[0];
        launch->disk_count = 1;
        vdc_str_set(disk->id, sizeof disk->id, "disk0");
        vdc_autofree char *volume = place_volume_path(places, spec.volume);
        vdc_str_set(disk->path, sizeof disk->path, volume);
        rc = place_make_volume(places, spec.volume, spec.disk_bytes, err);
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    launch->migrate_incoming = action->start.incoming;
    launch->lease = action->start.lease;
    launch->uid = config->uid_base + place->slot;
    launch->gid = launch->uid;
    launch->grace_ms =
        action->start.grace_ns > 0 ? (uint32_t)(action->start.grace_ns / VDC_MS) : 2000;
    launch->stop_timeout_s = 30;
    if (config->cgroup[0] != 0) {
        char name[64];
        place_key_text(&place->key, name);
        snprintf(launch->cgroup, sizeof launch->cgroup, "%s/%s", config->cgroup, name);
    }
    vdc_autofree char *json = vdc_launch_to_json(launch);
    vdc_autofree char *path = vdc_asprintf("%s/config.json", place->dir);
    return vdc_file_write_atomic(path, json, strlen(json), 0640, err);
}

static enum vdc_rc remove_stale(const struct place *place, struct vdc_err *err)
{
    static const char *const names[] = {"final.json", "monitor.sock", "monitor.json"};
    enum vdc_rc rc = VDC_RC_OK;
    for (size_t i = 0; i < VDC_COUNT_OF(names) && rc == VDC_RC_OK; i++) {
        vdc_autofree char *path = vdc_asprintf("%s/%s", place->dir, names[i]);
        rc = vdc_file_remove(path, err);
    }
    return rc;
}

static enum vdc_rc spawn_monitor(struct place *place, int lock, struct vdc_err *err)
{
    const struct places_config *config = &place->owner->config;
    int view = open(place->view_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (view < 0) {
        return vdc_err_errno(err, errno, "open %s", place->view_path);
    }
    vdc_autofree char *program = vdc_asprintf("%s/%s", config->program_dir, PLACES_MONITOR);
    vdc_autofree char *launch = vdc_asprintf("%s/config.json", place->dir);
    vdc_autofree char *log = vdc_asprintf("%s/monitor.log", place->dir);
    place_turn_log(place, "monitor.log");
    const char *argv[] = {
        program,    "--dir", place->dir,  "--view-fd", "3", "--accel", config->accelerator,
        "--config", launch,  "--lock-fd", "4",         NULL};
    struct vdc_spawn_fd fds[] = {{.fd = view, .as = 3}, {.fd = lock, .as = 4}};
    struct vdc_spawn_config spawn = {
        .argv = argv,
        .fds = fds,
        .fd_count = VDC_COUNT_OF(fds),
        .log_path = log,
        .detached = true,
    };
    enum vdc_rc rc = vdc_spawn(&spawn, &place->monitor, err);
    close(view);
    return rc;
}

static enum vdc_rc note_monitor(const struct place *place, struct vdc_err *err)
{
    vdc_autofree char *path = vdc_asprintf("%s/monitor.json", place->dir);
    char text[128];
    int len = snprintf(text, sizeof text, "{\"pid\": %d, \"start\": %llu}\n", place->monitor.pid,
                       (unsigned long long)place->monitor.start_time);
    return vdc_file_write_atomic(path, text, (size_t)len, 0640, err);
}

static enum vdc_rc start(struct place *place, const struct vdc_agent_action *action,
                         struct vdc_err *err)
{
    int lock = -1;
    enum vdc_rc rc = place_map_view(place, err);
    if (rc == VDC_RC_OK) {
        rc = vdc_dir_make(place->dir, 0750, err);
    }
    if (rc == VDC_RC_OK) {
        rc = take_lock(place, &lock, err);
    }
    if (rc == VDC_RC_OK) {
        rc = remove_stale(place, err);
    }
    if (rc == VDC_RC_OK) {
        rc = write_launch(place, action, err);
    }
    if (rc == VDC_RC_OK) {
        rc = spawn_monitor(place, lock, err);
    }
    if (lock >= 0) {
        close(lock); /* the monitor has its own copy */
    }
    if (rc != VDC_RC_OK) {
        return rc;
    }
    rc = place_watch_monitor(place, err);
    if (rc != VDC_RC_OK) {
        (void)!vdc_proc_kill(&place->monitor, SIGKILL, NULL);
        place->monitor = (struct vdc_proc){0};
        return rc;
    }
    if (note_monitor(place, err) != VDC_RC_OK) {
        /* Only its lock would tell of it after our end. GONE comes when it has ended. */
        vdc_log_error("%s: %s -> its monitor is killed", place->dir, vdc_err_text(err));
        (void)!vdc_proc_kill(&place->monitor, SIGKILL, NULL);
    }
    return VDC_RC_OK;
}

void agent_places_start(struct places *places, const struct vdc_agent_action *action)
{
    struct place *place = place_find_or_add(places, &action->key);
    struct vdc_err err;
    if (start(place, action, &err) != VDC_RC_OK) {
        vdc_err_wrap(&err, "start %s", action->start.partition->name);
        place_fail_later(places, &action->key, VDC_AGENT_MONITOR_GONE, &err);
    }
}

void agent_places_kill(struct places *places, const struct vdc_agent_key *key)
{
    struct place *place = place_find(places, key);
    struct vdc_err err;
    if (place == NULL || place->monitor.pid == 0) {
        if (place == NULL || (place->qemu_watch == NULL && place->lock_timer == NULL)) {
            vdc_err_set(&err, VDC_RC_NOT_FOUND, "there was no process");
            place_fail_later(places, key, VDC_AGENT_MONITOR_GONE, &err);
        }
        return;
    }
    if (place->qemu.pid != 0 && vdc_proc_kill(&place->qemu, SIGKILL, &err) != VDC_RC_OK &&
        err.rc != VDC_RC_NOT_FOUND) {
        vdc_log_error("kill: %s", vdc_err_text(&err));
    }
    if (vdc_proc_kill(&place->monitor, SIGKILL, &err) != VDC_RC_OK && err.rc != VDC_RC_NOT_FOUND) {
        vdc_log_error("kill: %s", vdc_err_text(&err));
    }
}

void agent_places_ask(struct places *places, const struct vdc_agent_action *action)
{
    struct place *place = place_find(places, &action->key);
    if (place == NULL || place->client == NULL) {
        return; /* it has ended: GONE is on its way, and finishes what waits */
    }
    vdc_autofree char *relay = vdc_asprintf("%s/relay.sock", place->dir);
    agent_monitor_client_ask(place->client, action->ask.request, action->ask.ticket, relay,
                             action->ask.bandwidth, action->ask.downtime_ns);
}
