/* SPDX-License-Identifier: Apache-2.0 */
#include <vdc/launch_spec.h>

#include <string.h>

#include <jansson.h>

#include <vdc/base.h>

static enum vdc_rc take_name(const char *field, json_t *value, char out[VDC_NAME_CAP],
                             struct vdc_err *err)
{
    const char *text = json_string_value(value);
    if (text == NULL || !vdc_name_valid(text)) {
        return vdc_err_set(err, VDC_RC_INVALID, "launch description: %s is not a name", field);
    }
    vdc_str_set(out, VDC_NAME_CAP, text);
    return VDC_RC_OK;
}

static enum vdc_rc take_field(const char *field, json_t *value, struct vdc_launch_spec *spec,
                              struct vdc_err *err)
{
    if (strcmp(field, "image") == 0) {
        return take_name(field, value, spec->image, err);
    }
    if (strcmp(field, "volume") == 0) {
        return take_name(field, value, spec->volume, err);
    }
    if (strcmp(field, "name") == 0) {
        return take_name(field, value, spec->name, err);
    }
    if (strcmp(field, "restartable") == 0) {
        if (!json_is_boolean(value)) {
            return vdc_err_set(err, VDC_RC_INVALID,
                               "launch description: restartable is neither true nor false");
        }
        spec->restartable = json_is_true(value);
        return VDC_RC_OK;
    }
    if (strcmp(field, "disk_bytes") == 0) {
        json_int_t bytes = json_integer_value(value);
        if (!json_is_integer(value) || bytes < 0 || (uint64_t)bytes > VDC_LAUNCH_DISK_BYTES_MAX ||
            bytes % 512 != 0) {
            return vdc_err_set(err, VDC_RC_INVALID,
                               "launch description: disk_bytes is not a multiple of 512 up to 16 "
                               "TiB");
        }
        spec->disk_bytes = (uint64_t)bytes;
        return VDC_RC_OK;
    }
    return vdc_err_set(err, VDC_RC_INVALID, "launch description: unknown field %.40s", field);
}

enum vdc_rc vdc_launch_spec_parse(const void *data, size_t len, struct vdc_launch_spec *spec,
                                  struct vdc_err *err)
{
    *spec = (struct vdc_launch_spec){.restartable = true};
    if (len == 0) {
        return vdc_err_set(err, VDC_RC_INVALID, "launch description: it is empty");
    }
    json_error_t where;
    json_t *root = json_loadb(data, len, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(root)) {
        json_decref(root);
        return vdc_err_set(err, VDC_RC_INVALID, "launch description: not a JSON object");
    }
    enum vdc_rc rc = VDC_RC_OK;
    const char *field;
    json_t *value;
    json_object_foreach(root, field, value)
    {
        rc = take_field(field, value, spec, err);
        if (rc != VDC_RC_OK) {
            break;
        }
    }
    json_decref(root);
    if (rc == VDC_RC_OK && spec->image[0] == 0) {
        rc = vdc_err_set(err, VDC_RC_INVALID, "launch description: image is missing");
    }
    if (rc == VDC_RC_OK && spec->disk_bytes > 0 && spec->volume[0] == 0) {
        rc = vdc_err_set(err, VDC_RC_INVALID, "launch description: a disk without a volume");
    }
    return rc;
}
