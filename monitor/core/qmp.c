/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <jansson.h>

#include <vdc/base.h>
#include <vdc/qmp.h>

static const char *const command_texts[] = {
#define X(name, text) text,
    VDC_QMP_COMMAND_LIST(X)
#undef X
};

const char *vdc_qmp_command_text(enum vdc_qmp_command command)
{
    VDC_ASSERT((size_t)command < VDC_COUNT_OF(command_texts));
    return command_texts[command];
}

static void put_capability(struct vdc_buf *out, const char *name, bool last)
{
    vdc_buf_printf(out, "{\"capability\":\"%s\",\"state\":true}%s", name, last ? "" : ",");
}

void vdc_qmp_command_encode(enum vdc_qmp_command command, const struct vdc_qmp_params *params,
                            uint64_t id, struct vdc_buf *out)
{
    vdc_buf_printf(out, "{\"execute\":\"%s\",\"id\":%llu", vdc_qmp_command_text(command),
                   (unsigned long long)id);
    switch (command) {
    case VDC_QMP_MIGRATION_CAPABILITIES:
        vdc_buf_puts(out, ",\"arguments\":{\"capabilities\":[");
        put_capability(out, "events", false);
        /* A target must not touch the disks before it may run: the source may yet go on. */
        put_capability(out, params->incoming ? "late-block-activate" : "pause-before-switchover",
                       true);
        vdc_buf_puts(out, "]}");
        break;
    case VDC_QMP_MIGRATION_PARAMETERS:
        vdc_buf_printf(out, ",\"arguments\":{\"max-bandwidth\":%llu,\"downtime-limit\":%u}",
                       (unsigned long long)params->max_bandwidth, params->downtime_ms);
        break;
    case VDC_QMP_GETFD:
        vdc_buf_puts(out, ",\"arguments\":{\"fdname\":\"" VDC_QMP_MIGRATION_FD "\"}");
        break;
    case VDC_QMP_MIGRATE:
    case VDC_QMP_MIGRATE_INCOMING:
        vdc_buf_puts(out, ",\"arguments\":{\"uri\":\"fd:" VDC_QMP_MIGRATION_FD "\"}");
        break;
    case VDC_QMP_MIGRATE_CONTINUE:
        vdc_buf_puts(out, ",\"arguments\":{\"state\":\"pre-switchover\"}");
        break;
    case VDC_QMP_CAPABILITIES:
    case VDC_QMP_MIGRATE_CANCEL:
    case VDC_QMP_QUERY_MIGRATE:
    case VDC_QMP_CONT:
    case VDC_QMP_STOP:
    case VDC_QMP_POWERDOWN:
    case VDC_QMP_QUIT:
        break;
    }
    vdc_buf_puts(out, "}\n");
}

/* Texts of QEMU are cut, not refused: they are for people only. */
static void copy_text(char *dst, size_t cap, const json_t *value)
{
    const char *text = json_string_value(value);
    size_t len = text == NULL ? 0 : strnlen(text, cap - 1);

    if (len > 0) {
        memcpy(dst, text, len);
    }
    dst[len] = '\0';
}

static enum vdc_qmp_migration migration_status(const json_t *value)
{
    static const struct {
        const char *text;
        enum vdc_qmp_migration status;
    } table[] = {
        {"none", VDC_QMP_MIGRATION_NONE},
        {"setup", VDC_QMP_MIGRATION_ACTIVE},
        {"active", VDC_QMP_MIGRATION_ACTIVE},
        {"pre-switchover", VDC_QMP_MIGRATION_PRE_SWITCHOVER},
        {"device", VDC_QMP_MIGRATION_DEVICE},
        {"completed", VDC_QMP_MIGRATION_COMPLETED},
        {"cancelling", VDC_QMP_MIGRATION_CANCELLING},
        {"cancelled", VDC_QMP_MIGRATION_CANCELLED},
        {"failed", VDC_QMP_MIGRATION_FAILED},
    };
    const char *text = json_string_value(value);

    if (text == NULL) {
        return VDC_QMP_MIGRATION_NONE;
    }
    for (size_t i = 0; i < VDC_COUNT_OF(table); i++) {
        if (strcmp(text, table[i].text) == 0) {
            return table[i].status;
        }
    }
    return VDC_QMP_MIGRATION_ACTIVE;
}

static uint64_t get_u64(const json_t *object, const char *name)
{
    json_int_t number = json_integer_value(json_object_get(object, name));

    return number < 0 ? 0 : (uint64_t)number;
}

static int64_t get_time(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    return json_is_integer(value) && json_integer_value(value) >= 0 ? json_integer_value(value)
                                                                    : -1;
}

/* The fields of query-migrate; other answers have none of them and leave them at "absent". */
static void read_return(const json_t *value, struct vdc_qmp_message *message)
{
    const json_t *ram = json_object_get(value, "ram");
    uint64_t page_bytes = get_u64(ram, "page-size");
    uint64_t pages_per_s = get_u64(ram, "dirty-pages-rate");

    message->migration = migration_status(json_object_get(value, "status"));
    message->ram_total = get_u64(ram, "total");
    message->ram_transferred = get_u64(ram, "transferred");
    message->ram_remaining = get_u64(ram, "remaining");
    if (__builtin_mul_overflow(page_bytes, pages_per_s, &message->dirty_bytes_per_s) ||
        message->dirty_bytes_per_s > INT64_MAX) {
        message->dirty_bytes_per_s = INT64_MAX;
    }
    message->downtime_ms = get_time(value, "downtime");
    message->total_ms = get_time(value, "total-time");
    copy_text(message->error, sizeof(message->error), json_object_get(value, "error-desc"));
}

static void read_event(const json_t *json, struct vdc_qmp_message *message)
{
    static const struct {
        const char *text;
        enum vdc_qmp_event event;
    } table[] = {
        {"STOP", VDC_QMP_EVENT_STOP},
        {"RESUME", VDC_QMP_EVENT_RESUME},
        {"RESET", VDC_QMP_EVENT_RESET},
        {"SHUTDOWN", VDC_QMP_EVENT_SHUTDOWN},
        {"POWERDOWN", VDC_QMP_EVENT_POWERDOWN},
        {"MIGRATION", VDC_QMP_EVENT_MIGRATION},
        {"GUEST_PANICKED", VDC_QMP_EVENT_PANICKED},
        {"BLOCK_IO_ERROR", VDC_QMP_EVENT_IO_ERROR},
    };
    const json_t *data = json_object_get(json, "data");

    copy_text(message->event_name, sizeof(message->event_name), json_object_get(json, "event"));
    for (size_t i = 0; i < VDC_COUNT_OF(table); i++) {
        if (strcmp(message->event_name, table[i].text) == 0) {
            message->event = table[i].event;
        }
    }
    message->by_guest = json_is_true(json_object_get(data, "guest"));
    copy_text(message->reason, sizeof(message->reason), json_object_get(data, "reason"));
    message->migration = migration_status(json_object_get(data, "status"));
}

static enum vdc_rc read_message(const json_t *json, struct vdc_qmp_message *message,
                                struct vdc_err *err)
{
    message->id = get_u64(json, "id");
    if (json_is_string(json_object_get(json, "event"))) {
        message->kind = VDC_QMP_EVENT;
        read_event(json, message);
    } else if (json_object_get(json, "return") != NULL) {
        message->kind = VDC_QMP_RETURN;
        read_return(json_object_get(json, "return"), message);
    } else if (json_is_object(json_object_get(json, "error"))) {
        message->kind = VDC_QMP_ERROR;
        copy_text(message->error, sizeof(message->error),
                  json_object_get(json_object_get(json, "error"), "desc"));
    } else if (json_is_object(json_object_get(json, "QMP"))) {
        message->kind = VDC_QMP_GREETING;
    } else {
        return vdc_err_set(err, VDC_RC_PROTOCOL, "neither greeting, return, error nor event");
    }
    return VDC_RC_OK;
}

enum vdc_rc vdc_qmp_message_decode(const char *line, size_t len, struct vdc_qmp_message *message,
                                   struct vdc_err *err)
{
    json_error_t where;
    json_t *json;
    enum vdc_rc rc;

    *message = (struct vdc_qmp_message){.downtime_ms = -1, .total_ms = -1};
    if (len > VDC_QMP_LINE_MAX) {
        return vdc_err_set(err, VDC_RC_PROTOCOL, "a line of more than %d bytes", VDC_QMP_LINE_MAX);
    }
    json = json_loadb(line, len, 0, &where);
    if (json == NULL) {
        return vdc_err_set(err, VDC_RC_PROTOCOL, "no JSON at byte %d: %s", where.position,
                           where.text);
    }
    rc = read_message(json, message, err);
    json_decref(json);
    return rc;
}
