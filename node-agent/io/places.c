/* SPDX-License-Identifier: Apache-2.0 */
/* A place is made by the first publish, adopted by agent_places_find(), dropped by agent_places_forget(). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include <vdc/cgroup.h>
#include <vdc/file.h>
#include <vdc/launch.h>
#include <vdc/log.h>

#include "places_internal.h"

#define MONITOR_JSON_MAX 4096

struct place *place_of(void *data)
{
    struct place *place;
    VDC_CAST(place, data, PLACE_MAGIC);
    return place;
}

struct place *place_find(struct places *places, const struct vdc_agent_key *key)
{
    struct place *place;
    HASH_FIND(hh, places->all, key, sizeof *key, place);
    return place;
}

void place_key_text(const struct vdc_agent_key *key, char text[64])
{
    char id[VDC_ID_TEXT_CAP];
    vdc_id_to_text(&key->id, id);
    snprintf(text, 64, "%s.%llu", id, (unsigned long long)key->generation);
}

struct place *place_find_or_add(struct places *places, const struct vdc_agent_key *key)
{
    struct place *place = place_find(places, key);
    if (place != NULL) {
        return place;
    }
    char name[PLACE_KEY_CAP];
    place_key_text(key, name);
    place = VDC_NEW(struct place);
    place->magic = PLACE_MAGIC;
    place->key = *key;
    place->owner = places;
    place->dir = vdc_asprintf("%s/%s", places->partitions_dir, name);
    place->view_path = vdc_asprintf("%s/%s", places->views_dir, name);
    HASH_ADD(hh, places->all, key, sizeof place->key, place);
    return place;
}

void place_deliver(struct place *place, struct vdc_agent_event *event)
{
    event->key = place->key;
    place->owner->config.on_event(place->owner->config.data, event);
}

void place_tell_later(struct places *places, const struct vdc_agent_key *key,
                      enum vdc_agent_event_kind kind, enum vdc_rc rc, const char *text)
{
    VDC_GROW(places->outcomes, places->outcomes_cap, places->outcomes_len + 1);
    struct outcome *outcome = &places->outcomes[places->outcomes_len++];
    *outcome = (struct outcome){.key = *key, .kind = kind, .rc = rc};
    vdc_str_set(outcome->text, sizeof outcome->text, text);
}

void place_fail_later(struct places *places, const struct vdc_agent_key *key,
                      enum vdc_agent_event_kind kind, const struct vdc_err *err)
{
    place_tell_later(places, key, kind, VDC_RC_UNAVAILABLE, vdc_err_text(err));
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

enum vdc_rc place_map_view(struct place *place, struct vdc_err *err)
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
    struct place *place = place_find_or_add(places, key);
    const struct vdc_partition *partition = vdc_allocdb_find_partition(db, &key->id);
    struct vdc_err err;
    if (partition == NULL) {
        return; /* gone again in the same step */
    }
    if (place_map_view(place, &err) != VDC_RC_OK) {
        vdc_log_error("%s", vdc_err_text(&err));
        return; /* the start that needs it fails with its reason */
    }
    vdc_allocdb_fill_view(db, partition, places->content);
    vdc_view_publish(place->view, places->content);
}

void agent_places_set_lease(struct places *places, const struct vdc_agent_key *key,
                            int64_t lease_ns)
{
    struct place *place = place_find(places, key);
    if (place != NULL && place->view != NULL) {
        vdc_view_set_lease(place->view, lease_ns);
    }
}

void agent_places_mark_handover(struct places *places, const struct vdc_agent_key *key, bool set)
{
    char name[PLACE_KEY_CAP];
    place_key_text(key, name);
    vdc_autofree char *path = vdc_asprintf("%s/%s/handover", places->partitions_dir, name);
    struct vdc_err err = {0};
    enum vdc_rc rc =
        set ? vdc_file_write_atomic(path, "", 0, 0640, &err) : vdc_file_remove(path, &err);
    if (rc != VDC_RC_OK) {
        vdc_log_error("%s", vdc_err_text(&err));
    }
    if (set) {
        place_tell_later(places, key, VDC_AGENT_HANDOVER_MARKED, rc, vdc_err_text(&err));
    }
}

void place_turn_log(const struct place *place, const char *name)
{
    vdc_autofree char *path = vdc_asprintf("%s/%s", place->dir, name);
    vdc_autofree char *old = vdc_asprintf("%s.1", path);
    struct stat info;
    if (stat(path, &info) == 0 && (uint64_t)info.st_size > PLACE_LOG_MAX &&
        rename(path, old) != 0) {
        vdc_log_warn("rename %s: %s", path, strerror(errno));
    }
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
    place_stop_lock_timer(place);
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
    struct place *place = place_find(places, key);
    char name[PLACE_KEY_CAP];
    place_key_text(key, name);
    vdc_autofree char *path = vdc_asprintf("%s/%s", places->views_dir, name);
    struct vdc_err err;
    if (vdc_file_remove(path, &err) != VDC_RC_OK) {
        vdc_log_error("%s", vdc_err_text(&err));
    }
    remove_group(places, name);
    if (place != NULL) {
        place_answer_waits(place);
        drop(place);
    }
}

void agent_places_remove(struct places *places, const struct vdc_agent_key *key)
{
    char name[PLACE_KEY_CAP];
    place_key_text(key, name);
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
    struct place *place = place_find_or_add(places, key);
    struct vdc_agent_event event = {.kind = VDC_AGENT_FOUND};
    struct vdc_err err;
    take_slot(place);
    if (vdc_file_exists(place->view_path) && place_map_view(place, &err) == VDC_RC_OK) {
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
        if (place_watch_monitor(place, &err) == VDC_RC_OK) {
            event.found.alive = true;
        } else {
            vdc_log_error("adopt %s: %s", place->dir, vdc_err_text(&err));
        }
    } else {
        /* Begun and not noted by an agent that died there, or left by a monitor that was killed. */
        event.found.alive = place_await_lock(place);
    }
    place_deliver(place, &event);
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
        place_leave_relay(place);
        drop(place);
    }
    place_leave_deletions(places);
    free(places->partitions_dir);
    free(places->views_dir);
    free(places->outcomes);
    free(places->content);
    free(places);
}
