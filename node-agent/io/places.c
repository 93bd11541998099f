/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A place is made by the first publish, adopted by agent_places_find(), and dropped by agent_places_forget(). Its
 * processes are named by (pid, start time) only. "Gone" is told when monitor *and* QEMU have ended:
 * both hold the lock (flock) on the file `lock` of their directory from before the monitor's first
 * instruction until the kernel has taken their last descriptor, so a free lock is the proof, also when
 * this program died before it could note a pid, or QEMU dies slowly after its monitor was killed.
 */
#include "places.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>
#include <uthash.h>

#include <vdc/base.h>
#include <vdc/cgroup.h>
#include <vdc/file.h>
#include <vdc/launch.h>
#include <vdc/launch_spec.h>
#include <vdc/log.h>
#include <vdc/spawn.h>

#include "console_file.h"
#include "monitor_client.h"

#define PLACE_MAGIC UINT32_C(0x504c4143)
#define RELAY_MAGIC UINT32_C(0x52454c59)
/* Console reads that wait for a monitor. */
#define CONSOLE_WAITS_MAX 256
/* Tickets of our own beside the core's. */
#define TICKET_OWN (UINT64_C(1) << 63)
/* A relay whose other end never comes. One whose agent died before it could write the pid down is found by nobody and ends
 * by this alone, so it is short: both ends are there before a stream is asked for. */
#define RELAY_TIMEOUT_S "30"
#define MONITOR_JSON_MAX 4096
#define PATH_TEXT_MAX 1024
/* How often it is looked whether the processes of a guest that were killed have ended. */
#define LOCK_POLL_MS 20

struct relay {
    uint32_t magic;
    struct place *place; /* NULL: stopped, only waits to be reaped */
    struct vdc_proc proc;
    struct vdc_proc_watch *watch;
    uv_pipe_t out; /* its first line says that it listens, and the port */
    bool listen;
    bool ready;
    unsigned handles;
    char line[64];
    size_t line_len;
};

struct place {
    uint32_t magic;
    struct vdc_agent_key key;
    UT_hash_handle hh;
    struct places *owner;
    char *dir;
    char *view_path;
    void *view; /* mapped; NULL: none */
    struct vdc_proc monitor;
    struct vdc_proc_watch *monitor_watch;
    struct vdc_proc qemu;
    struct vdc_proc_watch *qemu_watch;
    uv_timer_t *lock_timer; /* waits for the lock to be free; NULL: does not */
    struct monitor_client *client;
    struct relay *relay;
    uint32_t slot; /* uid_base + slot; 0: none yet */
    bool have_last;
    struct vdc_agent_monitor_state last;
    uint64_t console_end;
};

/* A volume that is being deleted. */
struct deletion {
    struct deletion *next;
    uv_fs_t req;
    struct places *places; /* NULL: closed meanwhile */
    uint32_t session;
    struct vdc_id request_id;
    char *path;
};

struct console_wait {
    uint64_t ticket;
    struct vdc_agent_key key;
    uint32_t session;
    struct vdc_id request_id;
};

/* What came of an action at once: most are failures. */
struct outcome {
    struct vdc_agent_key key;
    enum vdc_agent_event_kind kind;
    enum vdc_rc rc;
    char text[VDC_ERR_TEXT_MAX];
};

struct places {
    struct places_config config;
    char *partitions_dir;
    char *views_dir;
    struct place *all;
    struct outcome *outcomes;
    size_t outcomes_len;
    size_t outcomes_cap;
    uint64_t tickets;
    struct console_wait waits[CONSOLE_WAITS_MAX];
    size_t waits_len;
    struct deletion *deletions;
    size_t deletions_len;
    struct vdc_view_content *content; /* too large for the stack */
};

static struct place *place_of(void *data)
{
    struct place *place;
    VDC_CAST(place, data, PLACE_MAGIC);
    return place;
}

static struct place *find(struct places *places, const struct vdc_agent_key *key)
{
    struct place *place;
    HASH_FIND(hh, places->all, key, sizeof *key, place);
    return place;
}

static void key_text(const struct vdc_agent_key *key, char text[64])
{
    char id[VDC_ID_TEXT_CAP];
    vdc_id_to_text(&key->id, id);
    snprintf(text, 64, "%s.%llu", id, (unsigned long long)key->generation);
}

static struct place *find_or_add(struct places *places, const struct vdc_agent_key *key)
{
    struct place *place = find(places, key);
    if (place != NULL) {
        return place;
    }
    char name[64];
    key_text(key, name);
    place = VDC_NEW(struct place);
    place->magic = PLACE_MAGIC;
    place->key = *key;
    place->owner = places;
    place->dir = vdc_asprintf("%s/%s", places->partitions_dir, name);
    place->view_path = vdc_asprintf("%s/%s", places->views_dir, name);
    HASH_ADD(hh, places->all, key, sizeof place->key, place);
    return place;
}

static void deliver(struct place *place, struct vdc_agent_event *event)
{
    event->key = place->key;
    place->owner->config.on_event(place->owner->config.data, event);
}

static void tell_later(struct places *places, const struct vdc_agent_key *key,
                       enum vdc_agent_event_kind kind, enum vdc_rc rc, const char *text)
{
    VDC_GROW(places->outcomes, places->outcomes_cap, places->outcomes_len + 1);
    struct outcome *outcome = &places->outcomes[places->outcomes_len++];
    *outcome = (struct outcome){.key = *key, .kind = kind, .rc = rc};
    vdc_str_set(outcome->text, sizeof outcome->text, text);
}

static void fail_later(struct places *places, const struct vdc_agent_key *key,
                       enum vdc_agent_event_kind kind, const struct vdc_err *err)
{
    tell_later(places, key, kind, VDC_RC_UNAVAILABLE, vdc_err_text(err));
}

void agent_places_deliver(struct places *places)
{
    while (places->outcomes_len > 0) {
        struct outcome outcome = places->outcomes[0];
        places->outcomes_len--;
        memmove(&places->outcomes[0], &places->outcomes[1],
                places->outcomes_len * sizeof places->outcomes[0]);
        struct vdc_agent_event event = {.kind = outcome.kind, .key = outcome.key};
        if (outcome.kind == VDC_AGENT_RELAY_ENDED) {
            event.relay.rc = outcome.rc;
            event.relay.text = outcome.text;
        } else {
            event.monitor.rc = outcome.rc;
            event.monitor.text = outcome.text;
        }
        places->config.on_event(places->config.data, &event);
    }
}

/* --- views --- */

static enum vdc_rc map_view(struct place *place, struct vdc_err *err)
{
    if (place->view != NULL) {
        return VDC_RC_OK;
    }
    int fd = open(place->view_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0) {
        return vdc_err_errno(err, errno, "open %s", place->view_path);
    }
    if (ftruncate(fd, VDC_VIEW_BYTES) != 0) {
        enum vdc_rc rc = vdc_err_errno(err, errno, "make %s", place->view_path);
        close(fd);
        return rc;
    }
    void *view = mmap(NULL, VDC_VIEW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int errnum = errno;
    close(fd);
    if (view == MAP_FAILED) {
        return vdc_err_errno(err, errnum, "map %s", place->view_path);
    }
    place->view = view;
    return VDC_RC_OK;
}

void agent_places_publish(struct places *places, const struct vdc_allocdb *db,
                          const struct vdc_agent_key *key)
{
    struct place *place = find_or_add(places, key);
    const struct vdc_partition *partition = vdc_allocdb_find_partition(db, &key->id);
    struct vdc_err err;
    if (partition == NULL) {
        return; /* gone again in the same step */
    }
    if (map_view(place, &err) != VDC_RC_OK) {
        vdc_log_error("%s", vdc_err_text(&err));
        return; /* the start that needs it fails with its reason */
    }
    vdc_allocdb_fill_view(db, partition, places->content);
    vdc_view_publish(place->view, places->content);
}

void agent_places_set_lease(struct places *places, const struct vdc_agent_key *key,
                            int64_t lease_ns)
{
    struct place *place = find(places, key);
    if (place != NULL && place->view != NULL) {
        vdc_view_set_lease(place->view, lease_ns);
    }
}

/* --- the monitor's end --- */

static void answer_waits(struct place *place)
{
    struct places *places = place->owner;
    for (size_t i = 0; i < places->waits_len;) {
        struct console_wait wait = places->waits[i];
        if (memcmp(&wait.key, &place->key, sizeof wait.key) != 0) {
            i++;
            continue;
        }
        places->waits[i] = places->waits[--places->waits_len];
        struct vdc_msg_command_result result = {
            .request_id = wait.request_id,
            .rc = VDC_RC_UNAVAILABLE,
        };
        vdc_str_set(result.text, sizeof result.text, "the guest has just ended: ask again");
        places->config.on_command_result(places->config.data, wait.session, &result);
    }
}

static void finish_gone(struct place *place)
{
    vdc_proc_watch_close(place->qemu_watch);
    place->qemu_watch = NULL;
    place->qemu = (struct vdc_proc){0};
    agent_monitor_client_close(place->client);
    place->client = NULL;
    answer_waits(place);
    struct vdc_agent_monitor_state last;
    struct vdc_agent_event event = {.kind = VDC_AGENT_MONITOR_GONE};
    if (agent_monitor_read_final(place->dir, &last, &place->console_end)) {
        event.monitor.state = &last;
    } else {
        event.monitor.text = "the monitor was killed";
    }
    deliver(place, &event);
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

/* Kills whoever holds the lock: seldom called, so reading all of /proc is cheap enough. */
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

static void stop_lock_timer(struct place *place)
{
    if (place->lock_timer != NULL) {
        uv_close((uv_handle_t *)place->lock_timer, free_timer);
        place->lock_timer = NULL;
    }
}

static void on_lock_timer(uv_timer_t *timer)
{
    struct place *place = place_of(timer->data);
    if (lock_is_held(place)) {
        kill_holders(place, false);
    } else {
        stop_lock_timer(place);
        finish_gone(place);
    }
}

/* True: processes of the guest live on; they are killed, and GONE comes when they have ended. */
static bool await_lock(struct place *place)
{
    if (!lock_is_held(place)) {
        return false;
    }
    kill_holders(place, true);
    if (place->lock_timer == NULL) {
        place->lock_timer = VDC_NEW(uv_timer_t);
        uv_timer_init(place->owner->config.loop, place->lock_timer);
        place->lock_timer->data = place;
    }
    uv_timer_start(place->lock_timer, on_lock_timer, LOCK_POLL_MS, LOCK_POLL_MS);
    return true;
}

static void on_qemu_exit(void *data, const struct vdc_proc_exit *how)
{
    (void)how;
    struct place *place = place_of(data);
    if (!await_lock(place)) {
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
    if (!await_lock(place)) {
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
    deliver(place, &event);
}

static void take_console(struct place *place, uint64_t ticket, enum vdc_rc rc, const char *text,
                         const struct monitor_console *console)
{
    struct places *places = place->owner;
    for (size_t i = 0; i < places->waits_len; i++) {
        if (places->waits[i].ticket != ticket) {
            continue;
        }
        struct console_wait wait = places->waits[i];
        places->waits[i] = places->waits[--places->waits_len];
        struct vdc_msg_command_result result = {.request_id = wait.request_id, .rc = rc};
        if (rc != VDC_RC_OK) {
            snprintf(result.text, sizeof result.text, "%s", text);
        } else if (console != NULL) {
            result.offset = console->offset;
            result.end = console->end;
            result.data.data = console->data;
            result.data.len = console->len;
        }
        places->config.on_command_result(places->config.data, wait.session, &result);
        return;
    }
}

static void on_reply(void *data, uint64_t ticket, enum vdc_rc rc, const char *text,
                     const struct monitor_console *console)
{
    struct place *place = place_of(data);
    if ((ticket & TICKET_OWN) != 0) {
        take_console(place, ticket, rc, text, console);
        return;
    }
    struct vdc_agent_event event = {.kind = VDC_AGENT_MONITOR_REPLY};
    event.monitor.ticket = ticket;
    event.monitor.rc = rc;
    event.monitor.text = text;
    deliver(place, &event);
}

static const struct monitor_client_handlers client_handlers = {
    .on_state = on_state,
    .on_reply = on_reply,
};

static enum vdc_rc watch_monitor(struct place *place, struct vdc_err *err)
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

static enum vdc_rc make_volume(const char *path, uint64_t bytes, struct vdc_err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return vdc_err_errno(err, errno, "open volume %s", path);
    }
    struct stat info;
    enum vdc_rc rc = VDC_RC_OK;
    if (fstat(fd, &info) != 0) {
        rc = vdc_err_errno(err, errno, "volume %s", path);
    } else if (info.st_size == 0 && ftruncate(fd, (off_t)bytes) != 0) {
        rc = vdc_err_errno(err, errno, "make volume %s of %llu bytes", path,
                           (unsigned long long)bytes);
    } else if (info.st_size != 0 && (uint64_t)info.st_size != bytes) {
        rc = vdc_err_set(err, VDC_RC_CONFLICT, "volume %s has %lld bytes, not %llu", path,
                         (long long)info.st_size, (unsigned long long)bytes);
    }
    close(fd);
    return rc;
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
        snprintf(disk->path, sizeof disk->path, "%s/volumes/%s.raw", config->shared_dir,
                 spec.volume);
        rc = make_volume(disk->path, spec.disk_bytes, err);
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
        key_text(&place->key, name);
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
    enum vdc_rc rc = map_view(place, err);
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
    rc = note_monitor(place, err);
    if (rc == VDC_RC_OK) {
        rc = watch_monitor(place, err);
    }
    if (rc != VDC_RC_OK && vdc_proc_kill(&place->monitor, SIGKILL, NULL) == VDC_RC_OK) {
        place->monitor = (struct vdc_proc){0};
    }
    return rc;
}

void agent_places_start(struct places *places, const struct vdc_agent_action *action)
{
    struct place *place = find_or_add(places, &action->key);
    struct vdc_err err;
    if (start(place, action, &err) != VDC_RC_OK) {
        vdc_err_wrap(&err, "start %s", action->start.partition->name);
        fail_later(places, &action->key, VDC_AGENT_MONITOR_GONE, &err);
    }
}

void agent_places_kill(struct places *places, const struct vdc_agent_key *key)
{
    struct place *place = find(places, key);
    struct vdc_err err;
    if (place == NULL || place->monitor.pid == 0) {
        if (place == NULL || (place->qemu_watch == NULL && place->lock_timer == NULL)) {
            vdc_err_set(&err, VDC_RC_NOT_FOUND, "there was no process");
            fail_later(places, key, VDC_AGENT_MONITOR_GONE, &err);
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
    struct place *place = find(places, &action->key);
    if (place == NULL || place->client == NULL) {
        return; /* it has ended: GONE is on its way, and finishes what waits */
    }
    vdc_autofree char *relay = vdc_asprintf("%s/relay.sock", place->dir);
    agent_monitor_client_ask(place->client, action->ask.request, action->ask.ticket, relay,
                             action->ask.bandwidth, action->ask.downtime_ns);
}

void agent_places_mark_handover(struct places *places, const struct vdc_agent_key *key, bool set)
{
    char name[64];
    key_text(key, name);
    vdc_autofree char *path = vdc_asprintf("%s/%s/handover", places->partitions_dir, name);
    struct vdc_err err = {0};
    enum vdc_rc rc =
        set ? vdc_file_write_atomic(path, "", 0, 0640, &err) : vdc_file_remove(path, &err);
    if (rc != VDC_RC_OK) {
        vdc_log_error("%s", vdc_err_text(&err));
    }
    if (set) {
        tell_later(places, key, VDC_AGENT_HANDOVER_MARKED, rc, vdc_err_text(&err));
    }
}

/* --- relays --- */

static void release_relay(struct relay *relay)
{
    if (--relay->handles == 0) {
        relay->magic = 0;
        free(relay);
    }
}

static struct relay *relay_of(void *data)
{
    struct relay *relay;
    VDC_CAST(relay, data, RELAY_MAGIC);
    return relay;
}

static void on_relay_handle_closed(uv_handle_t *handle)
{
    release_relay(relay_of(handle->data));
}

static void close_relay_handles(struct relay *relay)
{
    vdc_proc_watch_close(relay->watch);
    relay->watch = NULL;
    uv_close((uv_handle_t *)&relay->out, on_relay_handle_closed);
}

static void on_relay_exit(void *data, const struct vdc_proc_exit *how)
{
    struct relay *relay = relay_of(data);
    struct place *place = relay->place;
    close_relay_handles(relay);
    if (place == NULL) {
        return;
    }
    place->relay = NULL;
    char text[128] = "";
    bool good = how->known && how->code == 0;
    if (!good) {
        snprintf(text, sizeof text, "the relay ended with %s %d, see relay.log",
                 how->sig != 0 ? "signal" : "code", how->sig != 0 ? how->sig : how->code);
    }
    struct vdc_agent_event event = {.kind = VDC_AGENT_RELAY_ENDED};
    event.relay.rc = good ? VDC_RC_OK : VDC_RC_UNAVAILABLE;
    event.relay.text = text;
    deliver(place, &event);
}

static void tell_relay_ready(struct relay *relay, uint16_t port)
{
    if (relay->ready || relay->place == NULL) {
        return;
    }
    relay->ready = true;
    struct vdc_agent_event event = {.kind = VDC_AGENT_RELAY_READY, .relay.port = port};
    deliver(relay->place, &event);
}

static void on_relay_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct relay *relay = relay_of(handle->data);
    /* When the line is full, what comes is read and dropped at its last byte. */
    size_t room = sizeof relay->line - 1 - relay->line_len;
    *buf = uv_buf_init(relay->line + relay->line_len - (room == 0), (unsigned)(room + (room == 0)));
}

static void on_relay_out(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
    (void)buf;
    struct relay *relay = relay_of(stream->data);
    if (got < 0) {
        uv_read_stop(stream);
        return;
    }
    relay->line_len = VDC_MIN(relay->line_len + (size_t)got, sizeof relay->line - 1);
    relay->line[relay->line_len] = 0;
    unsigned port;
    if (strchr(relay->line, '\n') != NULL && sscanf(relay->line, "port %u", &port) == 1 &&
        port <= UINT16_MAX && (port > 0) == relay->listen) {
        tell_relay_ready(relay, (uint16_t)port);
    }
}

static enum vdc_rc spawn_relay(struct relay *relay, const struct vdc_agent_action *action, int out,
                               struct vdc_err *err)
{
    const struct place *place = relay->place;
    const struct places_config *config = &place->owner->config;
    vdc_autofree char *program = vdc_asprintf("%s/%s", config->program_dir, PLACES_RELAY);
    vdc_autofree char *path = vdc_asprintf("%s/relay.sock", place->dir);
    vdc_autofree char *log = vdc_asprintf("%s/relay.log", place->dir);
    /* A unix socket's address holds 107 bytes: a name in its own directory always fits. */
    vdc_autofree char *peer = vdc_asprintf("vdc://node/%s", action->relay.peer_node);
    vdc_autofree char *to = vdc_asprintf(strchr(action->relay.address, ':') ? "[%s]:%u" : "%s:%u",
                                         action->relay.address, action->relay.port);
    const char *argv[20] = {program};
    size_t n = 1;
    if (relay->listen) {
        argv[n++] = "--listen";
        argv[n++] = config->agent->address;
        argv[n++] = "--port";
        argv[n++] = "0";
    } else {
        argv[n++] = "--connect";
        argv[n++] = to;
    }
    const char *const rest[] = {
        "--unix", "relay.sock",           "--peer",      peer,
        "--ca",   config->agent->tls_ca,  "--cert",      config->agent->tls_cert,
        "--key",  config->agent->tls_key, "--timeout-s", RELAY_TIMEOUT_S,
    };
    for (size_t i = 0; i < VDC_COUNT_OF(rest); i++) {
        argv[n++] = rest[i];
    }
    enum vdc_rc rc = vdc_file_remove(path, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct vdc_spawn_fd fd = {.fd = out, .as = 1};
    struct vdc_spawn_config spawn = {
        .argv = argv,
        .cwd = place->dir,
        .fds = &fd,
        .fd_count = 1,
        .log_path = log,
        .detached = true,
    };
    return vdc_spawn(&spawn, &relay->proc, err);
}

static enum vdc_rc start_relay(struct place *place, const struct vdc_agent_action *action,
                               struct vdc_err *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return vdc_err_errno(err, errno, "pipe");
    }
    struct relay *relay = VDC_NEW(struct relay);
    relay->magic = RELAY_MAGIC;
    relay->place = place;
    relay->listen = action->relay.listen;
    enum vdc_rc rc = spawn_relay(relay, action, fds[1], err);
    close(fds[1]);
    if (rc == VDC_RC_OK) {
        rc = vdc_proc_watch_open(place->owner->config.loop, &relay->proc, on_relay_exit, relay,
                                 &relay->watch, err);
    }
    if (rc != VDC_RC_OK) {
        close(fds[0]);
        free(relay);
        return rc;
    }
    relay->handles = 1;
    uv_pipe_init(place->owner->config.loop, &relay->out, 0);
    relay->out.data = relay;
    if (uv_pipe_open(&relay->out, fds[0]) != 0) {
        close(fds[0]);
    } else {
        uv_read_start((uv_stream_t *)&relay->out, on_relay_alloc, on_relay_out);
    }
    place->relay = relay;
    return VDC_RC_OK;
}

void agent_places_start_relay(struct places *places, const struct vdc_agent_action *action)
{
    struct place *place = find_or_add(places, &action->key);
    struct vdc_err err;
    agent_places_stop_relay(places, &action->key);
    if (start_relay(place, action, &err) != VDC_RC_OK) {
        vdc_err_wrap(&err, "start the relay");
        fail_later(places, &action->key, VDC_AGENT_RELAY_ENDED, &err);
    }
}

void agent_places_stop_relay(struct places *places, const struct vdc_agent_key *key)
{
    struct place *place = find(places, key);
    if (place == NULL || place->relay == NULL) {
        return;
    }
    struct vdc_err err;
    place->relay->place = NULL;
    if (vdc_proc_kill(&place->relay->proc, SIGKILL, &err) != VDC_RC_OK &&
        err.rc != VDC_RC_NOT_FOUND) {
        vdc_log_error("stop the relay: %s", vdc_err_text(&err));
    }
    place->relay = NULL; /* its watch reaps and frees it */
}

/* --- console --- */

static void answer_from_file(struct places *places, const struct vdc_agent_action *action,
                             const struct place *place)
{
    const struct vdc_msg_command *command = action->console.command;
    struct vdc_msg_command_result result = {.request_id = command->request_id};
    struct vdc_buf data = {0};
    char name[64];
    key_text(&action->key, name);
    vdc_autofree char *dir = vdc_asprintf("%s/%s", places->partitions_dir, name);
    uint64_t known_end = place != NULL ? place->console_end : 0;
    struct vdc_agent_monitor_state last;
    if (known_end == 0 && !agent_monitor_read_final(dir, &last, &known_end)) {
        known_end = 0;
    }
    if (!action->console.known ||
        !agent_console_file_read(dir, known_end, command->offset,
                                 VDC_MIN(command->max, VDC_MSG_CONSOLE_MAX), &data, &result.offset,
                                 &result.end)) {
        result.rc = VDC_RC_NOT_FOUND;
        vdc_str_set(result.text, sizeof result.text, "no console log of this partition is here");
    }
    result.data.data = vdc_buf_text(&data);
    result.data.len = data.len;
    places->config.on_command_result(places->config.data, action->console.session, &result);
    vdc_buf_deinit(&data);
}

void agent_places_read_console(struct places *places, const struct vdc_agent_action *action)
{
    struct place *place = action->console.known ? find(places, &action->key) : NULL;
    if (!action->console.live || place == NULL || place->client == NULL ||
        places->waits_len == CONSOLE_WAITS_MAX) {
        answer_from_file(places, action, place);
        return;
    }
    uint64_t ticket = TICKET_OWN | ++places->tickets;
    places->waits[places->waits_len++] = (struct console_wait){
        .ticket = ticket,
        .key = action->key,
        .session = action->console.session,
        .request_id = action->console.command->request_id,
    };
    agent_monitor_client_read_console(place->client, ticket, action->console.command->offset,
                                      action->console.command->max);
}

/* --- volumes --- */

static char *volume_path(const struct places *places, const char *volume)
{
    return vdc_asprintf("%s/volumes/%s.raw", places->config.agent->shared_dir, volume);
}

static void answer_deletion(const struct places *places, uint32_t session,
                            const struct vdc_id *request_id, enum vdc_rc rc, const char *text)
{
    struct vdc_msg_command_result result = {.request_id = *request_id, .rc = rc};
    vdc_str_set(result.text, sizeof result.text, text);
    places->config.on_command_result(places->config.data, session, &result);
}

static void on_deleted(uv_fs_t *req)
{
    struct deletion *deletion = vdc_container_of(req, struct deletion, req);
    struct places *places = deletion->places;
    struct vdc_err err = {0};
    enum vdc_rc rc = VDC_RC_OK;
    vdc_autofree char *dir = vdc_strdup(deletion->path);
    *strrchr(dir, '/') = 0;
    /* Where all volumes are missing, this one is not gone: the shared storage is. */
    if (req->result < 0 && (req->result != UV_ENOENT || !vdc_file_exists(dir))) {
        rc = vdc_err_errno(&err, (int)-req->result, "delete %s", deletion->path);
        vdc_log_error("%s", vdc_err_text(&err));
    }
    uv_fs_req_cleanup(req);
    if (places != NULL) {
        struct deletion **at = &places->deletions;
        while (*at != deletion) {
            at = &(*at)->next;
        }
        *at = deletion->next;
        places->deletions_len--;
        answer_deletion(places, deletion->session, &deletion->request_id,
                        rc == VDC_RC_NOT_FOUND ? VDC_RC_UNAVAILABLE : rc, vdc_err_text(&err));
    }
    free(deletion->path);
    free(deletion);
}

void agent_places_delete_volume(struct places *places, const struct vdc_agent_action *action)
{
    const struct vdc_msg_command *command = action->console.command;
    if (places->deletions_len == PLACES_DELETIONS_MAX) {
        answer_deletion(places, action->console.session, &command->request_id, VDC_RC_LIMIT,
                        "too many volumes are being deleted here: again later");
        return;
    }
    char id[VDC_ID_TEXT_CAP];
    vdc_id_to_text(&command->partition, id);
    struct deletion *deletion = VDC_NEW(struct deletion);
    *deletion = (struct deletion){
        .next = places->deletions,
        .places = places,
        .session = action->console.session,
        .request_id = command->request_id,
        .path = volume_path(places, id),
    };
    places->deletions = deletion;
    places->deletions_len++;
    VDC_ASSERT(uv_fs_unlink(places->config.loop, &deletion->req, deletion->path, on_deleted) == 0);
}

/* --- leaving --- */

/* A monitor removes its partition's control group; one that was killed could not. */
static void remove_group(const struct places *places, const char *name)
{
    struct vdc_cgroup_layout layout;
    struct vdc_err err;
    if (places->config.agent->cgroup[0] == 0 ||
        vdc_cgroup_layout_read(&layout, &err) != VDC_RC_OK) {
        return;
    }
    vdc_autofree char *path = vdc_asprintf("%s/%s", places->config.agent->cgroup, name);
    if (vdc_cgroup_remove(&layout, path, &err) != VDC_RC_OK && err.rc != VDC_RC_NOT_FOUND) {
        vdc_log_warn("%s", vdc_err_text(&err));
    }
    vdc_cgroup_layout_deinit(&layout);
}

static void drop(struct place *place)
{
    agent_places_stop_relay(place->owner, &place->key);
    vdc_proc_watch_close(place->monitor_watch);
    vdc_proc_watch_close(place->qemu_watch);
    stop_lock_timer(place);
    agent_monitor_client_close(place->client);
    if (place->view != NULL) {
        munmap(place->view, VDC_VIEW_BYTES);
    }
    HASH_DEL(place->owner->all, place);
    free(place->dir);
    free(place->view_path);
    place->magic = 0;
    free(place);
}

void agent_places_forget(struct places *places, const struct vdc_agent_key *key)
{
    struct place *place = find(places, key);
    char name[64];
    key_text(key, name);
    vdc_autofree char *path = vdc_asprintf("%s/%s", places->views_dir, name);
    struct vdc_err err;
    if (vdc_file_remove(path, &err) != VDC_RC_OK) {
        vdc_log_error("%s", vdc_err_text(&err));
    }
    remove_group(places, name);
    if (place != NULL) {
        answer_waits(place);
        drop(place);
    }
}

void agent_places_remove(struct places *places, const struct vdc_agent_key *key)
{
    char name[64];
    key_text(key, name);
    vdc_autofree char *dir = vdc_asprintf("%s/%s", places->partitions_dir, name);
    struct vdc_err err;
    if (vdc_dir_remove(dir, &err) != VDC_RC_OK) {
        vdc_log_error("%s", vdc_err_text(&err));
    }
}

/* --- the start --- */

/* What was left by another boot is of no use: its processes are gone and its leases are instants of
 * a clock that began anew. */
static enum vdc_rc check_boot(struct places *places, struct vdc_err *err)
{
    vdc_autofree char *path = vdc_asprintf("%s/boot_id", places->config.agent->run_dir);
    struct vdc_buf now = {0};
    struct vdc_buf then = {0};
    enum vdc_rc rc = vdc_file_read("/proc/sys/kernel/random/boot_id", 128, &now, err);
    if (rc == VDC_RC_OK && (vdc_file_read(path, 128, &then, NULL) != VDC_RC_OK ||
                            strcmp(vdc_buf_text(&now), vdc_buf_text(&then)) != 0)) {
        rc = vdc_dir_remove(places->partitions_dir, err);
        if (rc == VDC_RC_OK) {
            rc = vdc_dir_remove(places->views_dir, err);
        }
        if (rc == VDC_RC_OK) {
            rc = vdc_file_write_atomic(path, now.data, now.len, 0640, err);
        }
    }
    vdc_buf_deinit(&now);
    vdc_buf_deinit(&then);
    return rc;
}

enum vdc_rc agent_places_open(const struct places_config *config, struct places **out,
                              struct vdc_err *err)
{
    struct places *places = VDC_NEW(struct places);
    places->config = *config;
    places->partitions_dir = vdc_asprintf("%s/partitions", config->agent->run_dir);
    places->views_dir = vdc_asprintf("%s/views", config->agent->run_dir);
    places->content = VDC_NEW(struct vdc_view_content);
    vdc_autofree char *volumes = vdc_asprintf("%s/volumes", config->agent->shared_dir);
    enum vdc_rc rc = vdc_dir_make(config->agent->run_dir, 0755, err);
    if (rc == VDC_RC_OK) {
        rc = check_boot(places, err);
    }
    if (rc == VDC_RC_OK) {
        rc = vdc_dir_make(places->partitions_dir, 0755, err);
    }
    if (rc == VDC_RC_OK) {
        rc = vdc_dir_make(places->views_dir, 0750, err);
    }
    if (rc == VDC_RC_OK) {
        rc = vdc_dir_make(volumes, 0750, err);
    }
    if (rc != VDC_RC_OK) {
        agent_places_close(places);
        return rc;
    }
    *out = places;
    return rc;
}

/* "ID.GEN". */
static bool parse_key(const char *name, struct vdc_agent_key *key)
{
    char id[VDC_ID_TEXT_CAP];
    if (strlen(name) < VDC_ID_TEXT_CAP || name[VDC_ID_TEXT_CAP - 1] != '.') {
        return false;
    }
    memcpy(id, name, VDC_ID_TEXT_CAP - 1);
    id[VDC_ID_TEXT_CAP - 1] = 0;
    return vdc_id_from_text(id, &key->id) &&
           vdc_parse_u64(name + VDC_ID_TEXT_CAP, UINT64_MAX, &key->generation);
}

static bool find_monitor(struct place *place)
{
    vdc_autofree char *path = vdc_asprintf("%s/monitor.json", place->dir);
    struct vdc_buf text = {0};
    struct vdc_proc proc = {0};
    if (vdc_file_read(path, MONITOR_JSON_MAX, &text, NULL) == VDC_RC_OK) {
        json_t *root = json_loadb(vdc_buf_text(&text), text.len, 0, NULL);
        proc.pid = (pid_t)json_integer_value(json_object_get(root, "pid"));
        proc.start_time = (uint64_t)json_integer_value(json_object_get(root, "start"));
        json_decref(root);
    } else {
        /* We died between starting it and writing that down: its socket tells. */
        pid_t pid = agent_monitor_find_listener(place->dir);
        if (pid > 0 && vdc_proc_find(pid, &proc, NULL) != VDC_RC_OK) {
            proc.pid = 0;
        }
    }
    vdc_buf_deinit(&text);
    if (proc.pid <= 0 || !vdc_proc_alive(&proc)) {
        return false;
    }
    place->monitor = proc;
    return true;
}

static void take_slot(struct place *place)
{
    vdc_autofree char *path = vdc_asprintf("%s/config.json", place->dir);
    vdc_autofree struct vdc_launch *launch = VDC_NEW(struct vdc_launch);
    struct vdc_buf text = {0};
    uint32_t base = place->owner->config.agent->uid_base;
    if (vdc_file_read(path, VDC_LAUNCH_TEXT_MAX, &text, NULL) == VDC_RC_OK &&
        vdc_launch_parse(vdc_buf_text(&text), text.len, launch, NULL) == VDC_RC_OK &&
        launch->uid > base) {
        place->slot = launch->uid - base;
    }
    vdc_buf_deinit(&text);
}

static void adopt(struct places *places, const struct vdc_agent_key *key)
{
    struct place *place = find_or_add(places, key);
    struct vdc_agent_event event = {.kind = VDC_AGENT_FOUND};
    struct vdc_err err;
    take_slot(place);
    if (vdc_file_exists(place->view_path) && map_view(place, &err) == VDC_RC_OK) {
        if (vdc_view_read(place->view, places->content, NULL) == VDC_RC_OK) {
            event.found.generation = places->content->generation;
        }
        event.found.lease_ns = vdc_view_lease(place->view);
    }
    vdc_autofree char *mark = vdc_asprintf("%s/handover", place->dir);
    event.found.handover = vdc_file_exists(mark);
    event.found.ended =
        agent_monitor_read_final(place->dir, &event.found.last, &place->console_end);
    if (find_monitor(place)) {
        if (watch_monitor(place, &err) == VDC_RC_OK) {
            event.found.alive = true;
        } else {
            vdc_log_error("adopt %s: %s", place->dir, vdc_err_text(&err));
        }
    } else {
        /* Begun and not noted by an agent that died there, or left by a monitor that was killed. */
        event.found.alive = await_lock(place);
    }
    deliver(place, &event);
}

void agent_places_find(struct places *places)
{
    DIR *dir = opendir(places->partitions_dir);
    if (dir == NULL) {
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        struct vdc_agent_key key = {0};
        if (parse_key(entry->d_name, &key)) {
            adopt(places, &key);
        }
    }
    closedir(dir);
}

void agent_places_close(struct places *places)
{
    if (places == NULL) {
        return;
    }
    struct place *place;
    struct place *next;
    HASH_ITER(hh, places->all, place, next)
    {
        if (place->relay != NULL) {
            /* It goes on without us. */
            close_relay_handles(place->relay);
            place->relay = NULL;
        }
        drop(place);
    }
    for (struct deletion *at = places->deletions; at != NULL; at = at->next) {
        at->places = NULL; /* it ends by itself; a leader that has no answer asks again */
    }
    free(places->partitions_dir);
    free(places->views_dir);
    free(places->outcomes);
    free(places->content);
    free(places);
}
