/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <jansson.h>

#include <vdc/base.h>
#include <vdc/launch.h>
#include <vdc/monitor_protocol.h>

/* Milliseconds of grace at most: a minute after its lease no guest's memory is worth keeping. */
#define GRACE_MS_MAX 60000
#define GRACE_MS_DEFAULT 2000
/* kHz: no CPU counts faster than 20 GHz. */
#define TSC_KHZ_MAX 20000000

static enum vdc_rc read_text(const char *name, const json_t *value, char *out, size_t cap,
                             struct vdc_err *err)
{
    const char *text = json_string_value(value);

    if (text == NULL || strlen(text) != json_string_length(value) ||
        !vdc_str_copy(out, cap, text)) {
        return vdc_err_set(err, VDC_RC_INVALID, "%s is no text of at most %zu bytes", name,
                           cap - 1);
    }
    return VDC_RC_OK;
}

static enum vdc_rc read_name(const char *name, const json_t *value, char out[VDC_NAME_CAP],
                             struct vdc_err *err)
{
    enum vdc_rc rc = read_text(name, value, out, VDC_NAME_CAP, err);

    if (rc == VDC_RC_OK && !vdc_name_valid(out)) {
        return vdc_err_set(err, VDC_RC_INVALID, "%s is no valid name", name);
    }
    return rc;
}

static enum vdc_rc read_path(const char *name, const json_t *value, char *out, struct vdc_err *err)
{
    enum vdc_rc rc = read_text(name, value, out, VDC_LAUNCH_PATH_MAX + 1, err);

    if (rc == VDC_RC_OK && out[0] != '/') {
        return vdc_err_set(err, VDC_RC_INVALID, "%s is no absolute path", name);
    }
    return rc;
}

static enum vdc_rc read_bool(const char *name, const json_t *value, bool *out, struct vdc_err *err)
{
    if (!json_is_boolean(value)) {
        return vdc_err_set(err, VDC_RC_INVALID, "%s is neither true nor false", name);
    }
    *out = json_is_true(value);
    return VDC_RC_OK;
}

static enum vdc_rc read_u32(const char *name, const json_t *value, uint32_t max, uint32_t *out,
                            struct vdc_err *err)
{
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value) || number < 0 || number > max) {
        return vdc_err_set(err, VDC_RC_INVALID, "%s is no integer from 0 to %u", name, max);
    }
    *out = (uint32_t)number;
    return VDC_RC_OK;
}

static bool cgroup_valid(const char *path)
{
    vdc_autofree char *copy = vdc_strdup(path);
    char *rest = copy;
    char *part;

    if (path[0] == '/') {
        return false;
    }
    while (path[0] != '\0' && (part = strsep(&rest, "/")) != NULL) {
        if (part[0] == '\0' || strcmp(part, ".") == 0 || strcmp(part, "..") == 0) {
            return false;
        }
    }
    return true;
}

static enum vdc_rc read_cgroup(const json_t *value, char *out, struct vdc_err *err)
{
    enum vdc_rc rc = read_text("cgroup", value, out, VDC_LAUNCH_PATH_MAX + 1, err);

    if (rc == VDC_RC_OK && !cgroup_valid(out)) {
        return vdc_err_set(err, VDC_RC_INVALID,
                           "cgroup is no relative path without empty parts, \".\" and \"..\"");
    }
    return rc;
}

static enum vdc_rc read_disk(const json_t *json, struct vdc_launch_disk *disk, struct vdc_err *err)
{
    const char *name;
    json_t *value;

    if (!json_is_object(json)) {
        return vdc_err_set(err, VDC_RC_INVALID, "no object");
    }
    json_object_foreach((json_t *)json, name, value)
    {
        enum vdc_rc rc;

        if (strcmp(name, "id") == 0) {
            rc = read_name(name, value, disk->id, err);
        } else if (strcmp(name, "path") == 0) {
            rc = read_path(name, value, disk->path, err);
        } else if (strcmp(name, "readonly") == 0) {
            rc = read_bool(name, value, &disk->readonly, err);
        } else {
            rc = vdc_err_set(err, VDC_RC_INVALID, "%s is no field of a disk", name);
        }
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    if (disk->id[0] == '\0' || disk->path[0] == '\0') {
        return vdc_err_set(err, VDC_RC_INVALID, "id or path is missing");
    }
    return VDC_RC_OK;
}

static enum vdc_rc read_disks(const json_t *json, struct vdc_launch *launch, struct vdc_err *err)
{
    if (!json_is_array(json) || json_array_size(json) > VDC_LAUNCH_DISKS_MAX) {
        return vdc_err_set(err, VDC_RC_INVALID, "disks is no list of at most %d",
                           VDC_LAUNCH_DISKS_MAX);
    }
    launch->disk_count = (uint32_t)json_array_size(json);
    for (uint32_t i = 0; i < launch->disk_count; i++) {
        enum vdc_rc rc = read_disk(json_array_get(json, i), &launch->disks[i], err);

        if (rc != VDC_RC_OK) {
            (void)vdc_err_wrap(err, "disks[%u]", i);
            return rc;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(launch->disks[k].id, launch->disks[i].id) == 0) {
                return vdc_err_set(err, VDC_RC_INVALID, "disks[%u]: id %s is there twice", i,
                                   launch->disks[i].id);
            }
        }
    }
    return VDC_RC_OK;
}

static enum vdc_rc read_field(const char *name, const json_t *value, struct vdc_launch *launch,
                              struct vdc_err *err)
{
    if (strcmp(name, "name") == 0) {
        return read_name(name, value, launch->name, err);
    }
    if (strcmp(name, "kernel") == 0) {
        return read_path(name, value, launch->kernel, err);
    }
    if (strcmp(name, "initrd") == 0) {
        return read_path(name, value, launch->initrd, err);
    }
    if (strcmp(name, "append") == 0) {
        return read_text(name, value, launch->append, sizeof(launch->append), err);
    }
    if (strcmp(name, "disks") == 0) {
        return read_disks(value, launch, err);
    }
    if (strcmp(name, "migrate_incoming") == 0) {
        return read_bool(name, value, &launch->migrate_incoming, err);
    }
    if (strcmp(name, "lease") == 0) {
        return read_bool(name, value, &launch->lease, err);
    }
    if (strcmp(name, "uid") == 0) {
        return read_u32(name, value, INT32_MAX, &launch->uid, err);
    }
    if (strcmp(name, "gid") == 0) {
        return read_u32(name, value, INT32_MAX, &launch->gid, err);
    }
    if (strcmp(name, "cgroup") == 0) {
        return read_cgroup(value, launch->cgroup, err);
    }
    if (strcmp(name, "grace_ms") == 0) {
        return read_u32(name, value, GRACE_MS_MAX, &launch->grace_ms, err);
    }
    if (strcmp(name, "stop_timeout_s") == 0) {
        return read_u32(name, value, VDC_MONITOR_STOP_TIMEOUT_MAX, &launch->stop_timeout_s, err);
    }
    if (strcmp(name, "tsc_khz") == 0) {
        return read_u32(name, value, TSC_KHZ_MAX, &launch->tsc_khz, err);
    }
    return vdc_err_set(err, VDC_RC_INVALID, "%s is no field of a launch configuration", name);
}

static enum vdc_rc read_fields(json_t *json, struct vdc_launch *launch, struct vdc_err *err)
{
    const char *name;
    json_t *value;

    if (!json_is_object(json)) {
        return vdc_err_set(err, VDC_RC_INVALID, "no JSON object");
    }
    json_object_foreach(json, name, value)
    {
        enum vdc_rc rc = read_field(name, value, launch, err);
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    if (launch->name[0] == '\0' || launch->kernel[0] == '\0') {
        return vdc_err_set(err, VDC_RC_INVALID, "%s is missing",
                           launch->name[0] == '\0' ? "name" : "kernel");
    }
    return VDC_RC_OK;
}

enum vdc_rc vdc_launch_parse(const char *text, size_t len, struct vdc_launch *launch,
                             struct vdc_err *err)
{
    json_error_t where;
    json_t *json;
    enum vdc_rc rc;

    *launch = (struct vdc_launch){
        .lease = true,
        .grace_ms = GRACE_MS_DEFAULT,
        .stop_timeout_s = VDC_MONITOR_STOP_TIMEOUT_DEFAULT,
    };
    if (len > VDC_LAUNCH_TEXT_MAX) {
        return vdc_err_set(err, VDC_RC_TOO_LARGE, "more than %d bytes", VDC_LAUNCH_TEXT_MAX);
    }
    json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    if (json == NULL) {
        return vdc_err_set(err, VDC_RC_INVALID, "line %d column %d: %s", where.line, where.column,
                           where.text);
    }
    rc = read_fields(json, launch, err);
    json_decref(json);
    return rc;
}

static void set(json_t *json, const char *name, json_t *value)
{
    VDC_ASSERT(value != NULL && json_object_set_new(json, name, value) == 0);
}

char *vdc_launch_to_json(const struct vdc_launch *launch)
{
    json_t *json = json_object();
    json_t *disks = json_array();
    char *text;

    set(json, "name", json_string(launch->name));
    set(json, "kernel", json_string(launch->kernel));
    if (launch->initrd[0] != '\0') {
        set(json, "initrd", json_string(launch->initrd));
    }
    set(json, "append", json_string(launch->append));
    for (uint32_t i = 0; i < launch->disk_count; i++) {
        json_t *disk = json_object();
        set(disk, "id", json_string(launch->disks[i].id));
        set(disk, "path", json_string(launch->disks[i].path));
        set(disk, "readonly", json_boolean(launch->disks[i].readonly));
        VDC_ASSERT(json_array_append_new(disks, disk) == 0);
    }
    set(json, "disks", disks);
    set(json, "migrate_incoming", json_boolean(launch->migrate_incoming));
    set(json, "lease", json_boolean(launch->lease));
    set(json, "uid", json_integer(launch->uid));
    set(json, "gid", json_integer(launch->gid));
    set(json, "cgroup", json_string(launch->cgroup));
    set(json, "grace_ms", json_integer(launch->grace_ms));
    set(json, "stop_timeout_s", json_integer(launch->stop_timeout_s));
    set(json, "tsc_khz", json_integer(launch->tsc_khz));
    text = json_dumps(json, JSON_INDENT(2));
    VDC_ASSERT(text != NULL);
    json_decref(json);
    return text;
}
