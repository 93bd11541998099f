/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the JSON bodies of requests. Every mistake is collected, not only the first, and answered as
 * application/problem+json with a JSON pointer (RFC 6901) each; unknown fields are mistakes.
 */
#include <string.h>

#include <vdc/policy_io.h>
#include <vdc/quantity.h>

#include "manager.h"

/* Mistakes named in one answer. */
#define MISTAKES_MAX 20

struct body {
    struct vdc_http_request *request;
    json_t *root;
    json_t *mistakes;
};

/* Appends "/PART", as RFC 6901 writes a name that has '~' or '/' in it. */
static void put_pointer(struct vdc_buf *pointer, const char *part)
{
    vdc_buf_puts(pointer, "/");
    for (; *part != 0; part++) {
        if (*part == '~' || *part == '/') {
            vdc_buf_puts(pointer, *part == '~' ? "~0" : "~1");
        } else {
            vdc_buf_append(pointer, part, 1);
        }
    }
}

/* About the field, or, where `member` is not NULL, about that member of it. */
static void mistake_in(struct body *body, const char *field, const char *member, const char *fmt,
                       ...) VDC_PRINTF(4, 5);

static void mistake_in(struct body *body, const char *field, const char *member, const char *fmt,
                       ...)
{
    if (json_array_size(body->mistakes) >= MISTAKES_MAX) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    char text[512];
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct vdc_buf pointer = {0};
    put_pointer(&pointer, field);
    if (member != NULL) {
        put_pointer(&pointer, member);
    }
    json_array_append_new(body->mistakes,
                          json_pack("{s:o, s:o}", "pointer", render_text(vdc_buf_text(&pointer)),
                                    "message", render_text(text)));
    vdc_buf_deinit(&pointer);
}

#define mistake(body, field, ...) mistake_in(body, field, NULL, __VA_ARGS__)

/* Answers with what was wrong; true if nothing was. The body is released either way. */
static bool finish(struct body *body)
{
    bool ok = json_array_size(body->mistakes) == 0;
    if (!ok) {
        api_problem(body->request, VDC_RC_INVALID, "the body is not valid",
                    json_pack("{s:O}", "errors", body->mistakes));
    }
    json_decref(body->mistakes);
    json_decref(body->root);
    return ok;
}

/* Parses the body as an object; an absent one counts as {} where it may be. */
static bool begin(struct body *body, struct vdc_http_request *request, bool may_be_empty)
{
    *body = (struct body){.request = request};
    json_error_t problem;
    if (request->body_len == 0 && may_be_empty) {
        body->root = json_object();
    } else {
        body->root = json_loadb(request->body, request->body_len, JSON_REJECT_DUPLICATES, &problem);
    }
    if (body->root == NULL) {
        char detail[512];
        snprintf(detail, sizeof detail, "the body is not JSON: %s (line %d, column %d)",
                 problem.text, problem.line, problem.column);
        json_t *extra =
            json_pack("{s:[{s:s, s:i, s:i, s:o}]}", "errors", "pointer", "", "line", problem.line,
                      "column", problem.column, "message", render_text(problem.text));
        api_problem(request, VDC_RC_INVALID, detail, extra);
        return false;
    }
    if (!json_is_object(body->root)) {
        json_decref(body->root);
        api_problem(request, VDC_RC_INVALID, "the body is JSON, but not an object", NULL);
        return false;
    }
    body->mistakes = json_array();
    return true;
}

static void check_fields(struct body *body, const char *const *known, size_t count)
{
    const char *key;
    json_t *value;
    json_object_foreach(body->root, key, value)
    {
        bool found = false;
        for (size_t i = 0; i < count && !found; i++) {
            found = strcmp(known[i], key) == 0;
        }
        if (!found) {
            const char *nearest = vdc_nearest_name(key, known, count);
            mistake(body, key, "unknown field \"%.64s\"%s%s%s", key,
                    nearest != NULL ? "; did you mean \"" : "", nearest != NULL ? nearest : "",
                    nearest != NULL ? "\"?" : "");
        }
    }
}

static void read_name(struct body *body, const char *field, bool needed, char out[VDC_NAME_CAP])
{
    const json_t *value = json_object_get(body->root, field);
    if (value == NULL) {
        if (needed) {
            mistake(body, field, "%s is missing", field);
        }
        return;
    }
    if (!json_is_string(value) || !vdc_name_valid(json_string_value(value))) {
        mistake(body, field,
                "%s must be a name: 1 to %d of a-z 0-9 . -, beginning and ending with a letter or "
                "digit",
                field, VDC_NAME_MAX);
        return;
    }
    vdc_str_set(out, VDC_NAME_CAP, json_string_value(value));
}

/* FIELD_bytes as a number, or FIELD as text with a unit. */
static void read_bytes(struct body *body, const char *field, const char *field_bytes, bool needed,
                       uint64_t max, uint64_t *out)
{
    const json_t *text = json_object_get(body->root, field);
    const json_t *number = json_object_get(body->root, field_bytes);
    uint64_t value = 0;
    struct vdc_err err = {0};
    if (text != NULL && number != NULL) {
        mistake(body, field, "give %s or %s, not both", field, field_bytes);
        return;
    }
    if (text == NULL && number == NULL) {
        if (needed) {
            mistake(body, field, "%s is missing (for example \"128MiB\")", field);
        }
        return;
    }
    if (number != NULL) {
        if (!json_is_integer(number) || json_integer_value(number) < 0) {
            mistake(body, field_bytes, "%s must be a number of bytes", field_bytes);
            return;
        }
        value = (uint64_t)json_integer_value(number);
    } else if (!json_is_string(text)) {
        mistake(body, field, "%s must be text with a unit, for example \"128MiB\"", field);
        return;
    } else if (vdc_quantity_bytes(json_string_value(text), &value, &err) != VDC_RC_OK) {
        mistake(body, field, "%s", vdc_err_text(&err));
        return;
    }
    if (value > max) {
        mistake(body, text != NULL ? field : field_bytes, "%s is above the limit of %llu bytes",
                field, (unsigned long long)max);
        return;
    }
    *out = value;
}

static void read_labels(struct body *body, struct vdc_partition_spec *spec)
{
    json_t *labels = json_object_get(body->root, "labels");
    if (labels == NULL) {
        return;
    }
    if (!json_is_object(labels)) {
        mistake(body, "labels", "labels must be an object of texts");
        return;
    }
    if (json_object_size(labels) > VDC_LABELS_MAX) {
        mistake(body, "labels", "%zu labels, the limit is %d", json_object_size(labels),
                VDC_LABELS_MAX);
        return;
    }
    const char *key;
    json_t *value;
    json_object_foreach(labels, key, value)
    {
        struct vdc_label *label = &spec->labels[spec->labels_len];
        if (key[0] == 0 || !json_is_string(value) ||
            !vdc_str_copy(label->key, VDC_LABEL_CAP, key) ||
            !vdc_str_copy(label->value, VDC_LABEL_CAP, json_string_value(value))) {
            mistake_in(body, "labels", key,
                       "label \"%.64s\": key and value are texts of at most %d bytes", key,
                       VDC_LABEL_MAX);
            return;
        }
        spec->labels_len++;
    }
}

/* Disks are files on shared storage: one mistake in a number must not fill it. */
#define DISK_MAX (UINT64_C(64) << 40)

bool spec_read_create(struct vdc_http_request *request, struct vdc_partition_spec *spec)
{
    static const char *const known[] = {"name",   "zone",  "tenant",       "class",
                                        "image",  "vcpus", "memory_bytes", "memory",
                                        "labels", "disk",  "disk_bytes"};
    struct body body;
    if (!begin(&body, request, false)) {
        return false;
    }
    memset(spec, 0, sizeof *spec);
    check_fields(&body, known, VDC_COUNT_OF(known));
    read_name(&body, "name", true, spec->name);
    read_name(&body, "zone", false, spec->zone);
    read_name(&body, "tenant", false, spec->tenant);
    read_name(&body, "class", false, spec->class);
    vdc_str_set(spec->image, VDC_NAME_CAP, "linux");
    read_name(&body, "image", false, spec->image);
    read_labels(&body, spec);
    const json_t *vcpus = json_object_get(body.root, "vcpus");
    spec->vcpus = 1;
    if (vcpus != NULL && (!json_is_integer(vcpus) || json_integer_value(vcpus) < 1 ||
                          json_integer_value(vcpus) > VDC_VCPUS_MAX)) {
        mistake(&body, "vcpus", "vcpus must be a number from 1 to %d", VDC_VCPUS_MAX);
    } else if (vcpus != NULL) {
        spec->vcpus = (uint32_t)json_integer_value(vcpus);
    }
    read_bytes(&body, "memory", "memory_bytes", true, VDC_PARTITION_MEMORY_MAX,
               &spec->memory_bytes);
    read_bytes(&body, "disk", "disk_bytes", false, DISK_MAX, &spec->disk_bytes);
    return finish(&body);
}

bool spec_read_migrate(struct vdc_http_request *request, char target[VDC_NAME_CAP])
{
    static const char *const known[] = {"target"};
    struct body body;
    target[0] = 0;
    if (!begin(&body, request, true)) {
        return false;
    }
    check_fields(&body, known, VDC_COUNT_OF(known));
    read_name(&body, "target", false, target);
    return finish(&body);
}

bool spec_read_empty(struct vdc_http_request *request)
{
    struct body body;
    if (!begin(&body, request, true)) {
        return false;
    }
    check_fields(&body, NULL, 0);
    return finish(&body);
}

bool spec_read_policy(struct vdc_http_request *request, char **text)
{
    const char *type = vdc_http_request_header(request, "content-type");
    if (type != NULL && strstr(type, "yaml") != NULL) {
        if (request->body_len > VDC_POLICY_TEXT_MAX) {
            api_problem(request, VDC_RC_TOO_LARGE, "a policy is at most 1 MiB", NULL);
            return false;
        }
        if (strlen(request->body) != request->body_len) {
            api_problem(request, VDC_RC_INVALID, "the policy contains a NUL byte", NULL);
            return false;
        }
        *text = vdc_strdup(request->body);
        return true;
    }
    static const char *const known[] = {"policy"};
    struct body body;
    if (!begin(&body, request, false)) {
        return false;
    }
    check_fields(&body, known, VDC_COUNT_OF(known));
    const json_t *value = json_object_get(body.root, "policy");
    *text = NULL;
    if (!json_is_string(value)) {
        mistake(&body, "policy", "policy must be the policy file as text");
    } else if (json_string_length(value) > VDC_POLICY_TEXT_MAX) {
        mistake(&body, "policy", "a policy is at most %u bytes", VDC_POLICY_TEXT_MAX);
    } else {
        *text = vdc_strdup(json_string_value(value));
    }
    if (!finish(&body)) {
        free(*text);
        *text = NULL;
        return false;
    }
    return true;
}
