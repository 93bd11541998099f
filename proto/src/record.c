/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON of the store's records. Each record is described by a table of fields; one encoder and one
 * decoder walk the tables, so that a field is written down once and both directions agree.
 */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/record.h>
#include <vdc/utf8.h>

#include "names.h"

enum field_type {
    FIELD_TEXT,  /* char[size] */
    FIELD_OWNED, /* char *, may be NULL; at most `size` bytes */
    FIELD_U32,
    FIELD_U64,
    FIELD_I64,
    FIELD_BOOL,
    FIELD_WALL,
    FIELD_ID,
    FIELD_BYTES, /* uint8_t[size] as hex */
    FIELD_ENUM,  /* an int-sized enum; names, size = how many */
    FIELD_RC,
    FIELD_LABELS, /* struct vdc_label[VDC_LABELS_MAX], and size_t at offset2 */
};

struct field {
    const char *name;
    enum field_type type;
    size_t offset;
    size_t size;
    const char *const *names;
    size_t offset2;
};

#define TEXT(record, member)                                  \
    {                                                         \
#member, FIELD_TEXT, offsetof(struct record, member), \
            sizeof(((struct record *)0)->member), NULL, 0     \
    }
#define PLAIN(record, member, type)                                                           \
    {                                                                                         \
#member, type, offsetof(struct record, member), sizeof(((struct record *)0)->member), \
            NULL, 0                                                                           \
    }
#define OWNED(record, member, max)                                          \
    {                                                                       \
#member, FIELD_OWNED, offsetof(struct record, member), max, NULL, 0 \
    }
#define ENUM(record, member, table, count)                                    \
    {                                                                         \
#member, FIELD_ENUM, offsetof(struct record, member), count, table, 0 \
    }
#define LABELS(record, member)                                            \
    {                                                                     \
        "labels", FIELD_LABELS, offsetof(struct record, member), 0, NULL, \
            offsetof(struct record, member##_len)                         \
    }

#define X(name, text) +1
static const struct field zone_fields[] = {
    TEXT(vdc_zone_record, name),
    PLAIN(vdc_zone_record, policy_version, FIELD_U64),
    PLAIN(vdc_zone_record, lease_ns, FIELD_I64),
    PLAIN(vdc_zone_record, created_at, FIELD_WALL),
};

static const struct field leader_fields[] = {
    TEXT(vdc_leader_record, manager),
    TEXT(vdc_leader_record, api),
};

static const struct field policy_fields[] = {
    TEXT(vdc_policy_record, zone),
    PLAIN(vdc_policy_record, version, FIELD_U64),
    TEXT(vdc_policy_record, applied_by),
    PLAIN(vdc_policy_record, applied_at, FIELD_WALL),
    OWNED(vdc_policy_record, text, VDC_POLICY_TEXT_MAX),
};

static const struct field node_fields[] = {
    TEXT(vdc_node_record, name),
    TEXT(vdc_node_record, zone),
    TEXT(vdc_node_record, rack),
    LABELS(vdc_node_record, labels),
    TEXT(vdc_node_record, address),
    ENUM(vdc_node_record, state, vdc_node_state_names, VDC_NODE_STATES(X)),
    PLAIN(vdc_node_record, incarnation, FIELD_U64),
    PLAIN(vdc_node_record, cpus, FIELD_U32),
    PLAIN(vdc_node_record, memory_bytes, FIELD_U64),
    PLAIN(vdc_node_record, numa_nodes, FIELD_U32),
    TEXT(vdc_node_record, cpu_model),
    TEXT(vdc_node_record, accelerator),
    PLAIN(vdc_node_record, changed_at, FIELD_WALL),
};

static const struct field spec_fields[] = {
    TEXT(vdc_partition_spec, name),
    TEXT(vdc_partition_spec, zone),
    TEXT(vdc_partition_spec, tenant),
    TEXT(vdc_partition_spec, class),
    TEXT(vdc_partition_spec, image),
    LABELS(vdc_partition_spec, labels),
    PLAIN(vdc_partition_spec, vcpus, FIELD_U32),
    PLAIN(vdc_partition_spec, memory_bytes, FIELD_U64),
    PLAIN(vdc_partition_spec, disk_bytes, FIELD_U64),
};

static const struct field partition_fields[] = {
    PLAIN(vdc_partition_record, id, FIELD_ID),
    ENUM(vdc_partition_record, desired, vdc_desired_names, 3),
    TEXT(vdc_partition_record, owner),
    PLAIN(vdc_partition_record, generation, FIELD_U64),
    PLAIN(vdc_partition_record, generation_last, FIELD_U64),
    PLAIN(vdc_partition_record, operation, FIELD_ID),
    PLAIN(vdc_partition_record, policy_version, FIELD_U64),
    PLAIN(vdc_partition_record, restartable, FIELD_BOOL),
    OWNED(vdc_partition_record, verdict, VDC_VERDICT_TEXT_MAX),
    PLAIN(vdc_partition_record, created_at, FIELD_WALL),
    PLAIN(vdc_partition_record, changed_at, FIELD_WALL),
};

static const struct field operation_fields[] = {
    PLAIN(vdc_operation_record, id, FIELD_ID),
    TEXT(vdc_operation_record, zone),
    ENUM(vdc_operation_record, kind, vdc_operation_kind_names, VDC_OPERATION_KINDS(X)),
    ENUM(vdc_operation_record, state, vdc_operation_state_names, VDC_OPERATION_STATES(X)),
    TEXT(vdc_operation_record, step),
    PLAIN(vdc_operation_record, partition, FIELD_ID),
    TEXT(vdc_operation_record, partition_name),
    TEXT(vdc_operation_record, request_key),
    PLAIN(vdc_operation_record, body_digest, FIELD_BYTES),
    TEXT(vdc_operation_record, user),
    TEXT(vdc_operation_record, source),
    TEXT(vdc_operation_record, target),
    PLAIN(vdc_operation_record, generation_from, FIELD_U64),
    PLAIN(vdc_operation_record, generation_to, FIELD_U64),
    PLAIN(vdc_operation_record, rc, FIELD_RC),
    OWNED(vdc_operation_record, error, VDC_VERDICT_TEXT_MAX),
    OWNED(vdc_operation_record, verdict, VDC_VERDICT_TEXT_MAX),
    PLAIN(vdc_operation_record, created_at, FIELD_WALL),
    PLAIN(vdc_operation_record, finished_at, FIELD_WALL),
    PLAIN(vdc_operation_record, placement_ns, FIELD_I64),
    PLAIN(vdc_operation_record, downtime_ns, FIELD_I64),
    PLAIN(vdc_operation_record, duration_ns, FIELD_I64),
};
#undef X

/* Sentences may have been cut within a character, which jansson refuses: then repaired. */
static json_t *text_to_json(const char *text)
{
    json_t *value = json_string(text);
    if (value == NULL) {
        vdc_autofree char *repaired = vdc_strdup(text);
        vdc_text_make_printable(repaired);
        value = json_string(repaired);
    }
    VDC_ASSERT(value != NULL);
    return value;
}

/* JSON's integers here are signed: a larger one would be read back as CORRUPT, for ever. */
static json_t *u64_to_json(uint64_t value)
{
    VDC_ASSERT(value <= INT64_MAX);
    return json_integer((json_int_t)value);
}

static json_t *labels_to_json(const struct vdc_label *labels, size_t count)
{
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++) {
        json_object_set_new(object, labels[i].key, text_to_json(labels[i].value));
    }
    return object;
}

static json_t *bytes_to_json(const uint8_t *bytes, size_t count)
{
    struct vdc_buf hex = {0};
    for (size_t i = 0; i < count; i++) {
        vdc_buf_printf(&hex, "%02x", bytes[i]);
    }
    json_t *value = json_string(vdc_buf_text(&hex));
    vdc_buf_deinit(&hex);
    return value;
}

static json_t *field_to_json(const struct field *field, const char *record)
{
    const void *at = record + field->offset;
    char id[VDC_ID_TEXT_CAP];
    switch (field->type) {
    case FIELD_TEXT:
        return text_to_json(at);
    case FIELD_OWNED:
        return *(char *const *)at != NULL ? text_to_json(*(char *const *)at) : NULL;
    case FIELD_U32:
        return json_integer(*(const uint32_t *)at);
    case FIELD_U64:
        return u64_to_json(*(const uint64_t *)at);
    case FIELD_I64:
        return json_integer(*(const int64_t *)at);
    case FIELD_BOOL:
        return json_boolean(*(const bool *)at);
    case FIELD_WALL:
        return json_integer(((const vdc_wall *)at)->ns);
    case FIELD_ID:
        if (vdc_id_is_none(at)) {
            return NULL;
        }
        vdc_id_to_text(at, id);
        return json_string(id);
    case FIELD_BYTES:
        return bytes_to_json(at, field->size);
    case FIELD_ENUM: {
        int value = (int)*(const unsigned *)at;
        VDC_ASSERT(value >= 0 && (size_t)value < field->size);
        return json_string(field->names[value]);
    }
    case FIELD_RC:
        return json_string(vdc_rc_name(*(const enum vdc_rc *)at));
    case FIELD_LABELS:
        return labels_to_json(at, *(const size_t *)(const void *)(record + field->offset2));
    }
    return NULL;
}

static json_t *to_json(const struct field *fields, size_t count, const void *record)
{
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++) {
        json_t *value = field_to_json(&fields[i], record);
        if (value != NULL) {
            json_object_set_new(object, fields[i].name, value);
        }
    }
    return object;
}

static void dump(json_t *object, struct vdc_buf *buf)
{
    char *text = json_dumps(object, JSON_COMPACT);
    VDC_ASSERT(text != NULL);
    vdc_buf_puts(buf, text);
    free(text);
    json_decref(object);
}

static bool labels_from_json(const json_t *value, struct vdc_label *labels, size_t *count)
{
    if (!json_is_object(value) || json_object_size(value) > VDC_LABELS_MAX) {
        return false;
    }
    const char *key;
    json_t *item;
    size_t len = 0;
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        if (!json_is_string(item) || !vdc_str_copy(labels[len].key, VDC_LABEL_CAP, key) ||
            !vdc_str_copy(labels[len].value, VDC_LABEL_CAP, json_string_value(item))) {
            return false;
        }
        len++;
    }
    *count = len;
    return true;
}

static bool bytes_from_json(const json_t *value, uint8_t *bytes, size_t count)
{
    if (!json_is_string(value) || json_string_length(value) != 2 * count) {
        return false;
    }
    const char *hex = json_string_value(value);
    for (size_t i = 0; i < count; i++) {
        int high = vdc_hex_digit(hex[2 * i]);
        int low = vdc_hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool field_from_json(const struct field *field, const json_t *value, char *record)
{
    void *at = record + field->offset;
    switch (field->type) {
    case FIELD_TEXT:
        return json_is_string(value) && vdc_str_copy(at, field->size, json_string_value(value));
    case FIELD_OWNED:
        if (!json_is_string(value) || json_string_length(value) > field->size) {
            return false;
        }
        *(char **)at = vdc_strdup(json_string_value(value));
        return true;
    case FIELD_U32:
        if (!json_is_integer(value) || json_integer_value(value) < 0 ||
            json_integer_value(value) > UINT32_MAX) {
            return false;
        }
        *(uint32_t *)at = (uint32_t)json_integer_value(value);
        return true;
    case FIELD_U64:
        if (!json_is_integer(value) || json_integer_value(value) < 0) {
            return false;
        }
        *(uint64_t *)at = (uint64_t)json_integer_value(value);
        return true;
    case FIELD_I64:
        if (!json_is_integer(value)) {
            return false;
        }
        *(int64_t *)at = json_integer_value(value);
        return true;
    case FIELD_BOOL:
        *(bool *)at = json_is_true(value);
        return json_is_boolean(value);
    case FIELD_WALL:
        ((vdc_wall *)at)->ns = json_integer_value(value);
        return json_is_integer(value);
    case FIELD_ID:
        return json_is_string(value) && vdc_id_from_text(json_string_value(value), at);
    case FIELD_BYTES:
        return bytes_from_json(value, at, field->size);
    case FIELD_ENUM: {
        int found = json_is_string(value)
                        ? vdc_enum_find(field->names, field->size, json_string_value(value))
                        : -1;
        if (found < 0) {
            return false;
        }
        *(unsigned *)at = (unsigned)found;
        return true;
    }
    case FIELD_RC:
        if (!json_is_string(value)) {
            return false;
        }
        *(enum vdc_rc *)at = vdc_rc_from_name(json_string_value(value));
        return true;
    case FIELD_LABELS:
        return labels_from_json(value, at, (size_t *)(void *)(record + field->offset2));
    }
    return false;
}

/* On failure everything owned that was set is freed again. */
static enum vdc_rc from_json(const struct field *fields, size_t count, const json_t *object,
                             const char *what, void *record, struct vdc_err *err)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(object, fields[i].name);
        if (value == NULL || field_from_json(&fields[i], value, record)) {
            continue;
        }
        for (size_t k = 0; k < count; k++) {
            if (fields[k].type == FIELD_OWNED) {
                char **text = (char **)(void *)((char *)record + fields[k].offset);
                free(*text);
                *text = NULL;
            }
        }
        return vdc_err_set(err, VDC_RC_CORRUPT, "%s record: field \"%s\" is not as expected", what,
                           fields[i].name);
    }
    return VDC_RC_OK;
}

static json_t *parse(const char *json, size_t len, const char *what, struct vdc_err *err)
{
    json_error_t problem;
    json_t *object = json_loadb(json, len, JSON_REJECT_DUPLICATES, &problem);
    if (object != NULL && !json_is_object(object)) {
        json_decref(object);
        object = NULL;
        vdc_err_set(err, VDC_RC_CORRUPT, "%s record: not a JSON object", what);
    } else if (object == NULL) {
        vdc_err_set(err, VDC_RC_CORRUPT, "%s record: %s at line %d, column %d", what, problem.text,
                    problem.line, problem.column);
    }
    return object;
}

static enum vdc_rc decode(const struct field *fields, size_t count, const char *what,
                          const char *json, size_t len, void *record, size_t record_size,
                          struct vdc_err *err)
{
    memset(record, 0, record_size);
    json_t *object = parse(json, len, what, err);
    if (object == NULL) {
        return VDC_RC_CORRUPT;
    }
    enum vdc_rc rc = from_json(fields, count, object, what, record, err);
    json_decref(object);
    return rc;
}

/* The functions of a record that is described by one table. */
#define RECORD(kind)                                                                               \
    void vdc_##kind##_record_encode(const struct vdc_##kind##_record *record, struct vdc_buf *buf) \
    {                                                                                              \
        dump(to_json(kind##_fields, VDC_COUNT_OF(kind##_fields), record), buf);                    \
    }                                                                                              \
    enum vdc_rc vdc_##kind##_record_decode(                                                        \
        const char *json, size_t len, struct vdc_##kind##_record *record, struct vdc_err *err)     \
    {                                                                                              \
        return decode(kind##_fields, VDC_COUNT_OF(kind##_fields), #kind, json, len, record,        \
                      sizeof *record, err);                                                        \
    }

RECORD(zone)
RECORD(leader)
RECORD(policy)
RECORD(node)
RECORD(operation)

void vdc_partition_record_encode(const struct vdc_partition_record *record, struct vdc_buf *buf)
{
    json_t *object = to_json(partition_fields, VDC_COUNT_OF(partition_fields), record);
    json_object_set_new(object, "spec",
                        to_json(spec_fields, VDC_COUNT_OF(spec_fields), &record->spec));
    dump(object, buf);
}

enum vdc_rc vdc_partition_record_decode(const char *json, size_t len,
                                        struct vdc_partition_record *record, struct vdc_err *err)
{
    memset(record, 0, sizeof *record);
    json_t *object = parse(json, len, "partition", err);
    if (object == NULL) {
        return VDC_RC_CORRUPT;
    }
    const json_t *spec = json_object_get(object, "spec");
    enum vdc_rc rc = VDC_RC_OK;
    if (!json_is_object(spec)) {
        rc = vdc_err_set(err, VDC_RC_CORRUPT, "partition record: field \"spec\" is not an object");
    }
    if (rc == VDC_RC_OK) {
        rc = from_json(spec_fields, VDC_COUNT_OF(spec_fields), spec, "partition", &record->spec,
                       err);
    }
    if (rc == VDC_RC_OK) {
        rc = from_json(partition_fields, VDC_COUNT_OF(partition_fields), object, "partition",
                       record, err);
    }
    json_decref(object);
    return rc;
}

void vdc_policy_record_deinit(struct vdc_policy_record *record)
{
    free(record->text);
    record->text = NULL;
}

void vdc_partition_record_deinit(struct vdc_partition_record *record)
{
    free(record->verdict);
    record->verdict = NULL;
}

void vdc_operation_record_deinit(struct vdc_operation_record *record)
{
    free(record->error);
    free(record->verdict);
    record->error = NULL;
    record->verdict = NULL;
}
