/* SPDX-License-Identifier: Apache-2.0 */
/* Partitions' volumes: SHARED/volumes/ID.raw, made with the first start, deleted by the leader's order. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vdc/file.h>
#include <vdc/log.h>

#include "places_internal.h"

/* A volume that is being deleted. */
struct deletion {
    struct deletion *next;
    uv_fs_t req;
    struct places *places; /* NULL: closed meanwhile */
    uint32_t session;
    struct vdc_id request_id;
    char *path;
};

char *place_volume_path(const struct places *places, const char *volume)
{
    return vdc_asprintf("%s/volumes/%s.raw", places->config.agent->shared_dir, volume);
}

/* The directory is ours to make, the storage is not: where that isn't mounted, its guests would get
 * blank disks of this node's own. */
static enum vdc_rc make_dir(const struct places *places, struct vdc_err *err)
{
    const char *shared = places->config.agent->shared_dir;
    vdc_autofree char *dir = vdc_asprintf("%s/volumes", shared);
    if (!vdc_file_exists(shared)) {
        return vdc_err_set(err, VDC_RC_UNAVAILABLE,
                           "%s is not there: is the shared storage mounted?", shared);
    }
    return vdc_dir_make(dir, 0750, err);
}

enum vdc_rc place_make_volume(const struct places *places, const char *volume, uint64_t bytes,
                              struct vdc_err *err)
{
    vdc_autofree char *path = place_volume_path(places, volume);
    enum vdc_rc rc = make_dir(places, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return vdc_err_errno(err, errno, "open volume %s", path);
    }
    struct stat info;
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
        .path = place_volume_path(places, id),
    };
    places->deletions = deletion;
    places->deletions_len++;
    VDC_ASSERT(uv_fs_unlink(places->config.loop, &deletion->req, deletion->path, on_deleted) == 0);
}

void place_leave_deletions(struct places *places)
{
    for (struct deletion *at = places->deletions; at != NULL; at = at->next) {
        at->places = NULL; /* a leader that has no answer asks again */
    }
}
