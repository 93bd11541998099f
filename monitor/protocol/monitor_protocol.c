/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec of the control protocol. One table per object (name, type, place in the struct) serves
 * both directions, so a field cannot be written and forgotten when reading.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include <vdc/base.h>
#include <vdc/monitor_protocol.h>
#include <vdc/utf8.h>

static const char *const migration_status_texts[] = {
#define X(name, text) text,
    VDC_MIGRATION_STATUS_LIST(X)
#undef X
};
static const char *const command_texts[] = {
#define X(name, text) text,
    VDC_MONITOR_COMMAND_LIST(X)
#undef X
};
static const char *const dir_texts[] = {"none", "out", "in"};

const char *vdc_guest_migration_status_text(enum vdc_guest_migration_status status)
{
    VDC_ASSERT((size_t)status < VDC_COUNT_OF(migration_status_texts));
    return migration_status_texts[status];
}

const char *vdc_monitor_command_text(enum vdc_monitor_command command)
{
    VDC_ASSERT((size_t)command < VDC_COUNT_OF(command_texts));
    return command_texts[command];
}

/* ---- fields ---- */

enum field_type { FIELD_TEXT, FIELD_U64, FIELD_I64, FIELD_I32, FIELD_BOOL, FIELD_ENUM };

struct field {
    const char *name;
    enum field_type type;
    size_t offset;
    size_t cap;               /* TEXT: bytes with NUL */
    const char *const *texts; /* ENUM */
    size_t texts_len;
};

#define F_TEXT(s, f)                                                               \
    {                                                                              \
#f, FIELD_TEXT, offsetof(struct s, f), sizeof(((struct s *)0)->f), NULL, 0 \
    }
#define F_U64(s, f)                                      \
    {                                                    \
#f, FIELD_U64, offsetof(struct s, f), 0, NULL, 0 \
    }
#define F_I64(s, f)                                      \
    {                                                    \
#f, FIELD_I64, offsetof(struct s, f), 0, NULL, 0 \
    }
#define F_I32(s, f)                                      \
    {                                                    \
#f, FIELD_I32, offsetof(struct s, f), 0, NULL, 0 \
    }
#define F_BOOL(s, f)                                      \
    {                                                     \
#f, FIELD_BOOL, offsetof(struct s, f), 0, NULL, 0 \
    }
#define F_ENUM(s, f, t)                                              \
    {                                                                \
#f, FIELD_ENUM, offsetof(struct s, f), 0, t, VDC_COUNT_OF(t) \
    }

static const struct field state_fields[] = {
    F_TEXT(vdc_monitor_state, name),         F_ENUM(vdc_monitor_state, state, vdc_phase_texts),
    F_TEXT(vdc_monitor_state, reason),       F_U64(vdc_monitor_state, generation),
    F_BOOL(vdc_monitor_state, lease_needed), F_I64(vdc_monitor_state, lease_deadline_ns),
    F_I64(vdc_monitor_state, monitor_pid),   F_U64(vdc_monitor_state, monitor_start),
    F_I64(vdc_monitor_state, qemu_pid),      F_U64(vdc_monitor_state, qemu_start),
    F_TEXT(vdc_monitor_state, accelerator),  F_BOOL(vdc_monitor_state, confined),
    F_BOOL(vdc_monitor_state, responsive),   F_I64(vdc_monitor_state, running_since_ns),
    F_U64(vdc_monitor_state, resets),        F_BOOL(vdc_monitor_state, panicked),
    F_U64(vdc_monitor_state, console_end),   F_BOOL(vdc_monitor_state, ended),
    F_I32(vdc_monitor_state, exit_code),     F_I32(vdc_monitor_state, exit_signal),
};

static const struct field migration_fields[] = {
    F_ENUM(vdc_monitor_migration, dir, dir_texts),
    F_ENUM(vdc_monitor_migration, status, migration_status_texts),
    F_U64(vdc_monitor_migration, bytes_total),
    F_U64(vdc_monitor_migration, bytes_transferred),
    F_U64(vdc_monitor_migration, bytes_remaining),
    F_U64(vdc_monitor_migration, dirty_bytes_per_s),
    F_I64(vdc_monitor_migration, started_ns),
    F_I64(vdc_monitor_migration, stopped_ns),
    F_I64(vdc_monitor_migration, resumed_ns),
    F_I64(vdc_monitor_migration, qemu_downtime_ms),
    F_I64(vdc_monitor_migration, qemu_total_ms),
    F_TEXT(vdc_monitor_migration, error),
};

/* Values above 2^63 - 1 don't occur (counters from 0); jansson has signed integers only. */
static json_int_t to_json_int(uint64_t value)
{
    return value > INT64_MAX ? INT64_MAX : (json_int_t)value;
}

/* Texts from outside (QEMU's error messages) may hold bytes that are no UTF-8, which jansson
 * refuses: then they are repaired. */
static json_t *to_json_text(const char *text)
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

static json_t *fields_to_json(const struct field *fields, size_t count, const void *object)
{
    json_t *json = json_object();

    VDC_ASSERT(json != NULL);
    for (size_t i = 0; i < count; i++) {
        const struct field *field = &fields[i];
        const char *at = (const char *)object + field->offset;
        json_t *value = NULL;

        switch (field->type) {
        case FIELD_TEXT:
            value = to_json_text(at);
            break;
        case FIELD_U64:
            value = json_integer(to_json_int(*(const uint64_t *)(const void *)at));
            break;
        case FIELD_I64:
            value = json_integer(*(const int64_t *)(const void *)at);
            break;
        case FIELD_I32:
            value = json_integer(*(const int32_t *)(const void *)at);
            break;
        case FIELD_BOOL:
            value = json_boolean(*(const bool *)(const void *)at);
            break;
        case FIELD_ENUM: {
            unsigned number = *(const unsigned *)(const void *)at;
            VDC_ASSERT(number < field->texts_len);
            value = json_string(field->texts[number]);
            break;
        }
        }
        VDC_ASSERT(value != NULL && json_object_set_new(json, field->name, value) == 0);
    }
    return json;
}

static enum vdc_rc text_from_json(const struct field *field, const json_t *value, char *at,
                                  struct vdc_err *err)
{
    if (!json_is_string(value)) {
        return vdc_err_set(err, VDC_RC_PROTOCOL, "%s is no text", field->name);
    }
    if (strlen(json_string_value(value)) != json_string_length(value) ||
        !vdc_str_copy(at, field->cap, json_string_value(value))) {
        return vdc_err_set(err, VDC_RC_PROTOCOL, "%s is longer than %zu bytes", field->name,
                           field->cap - 1);
    }
    return VDC_RC_OK;
}

static enum vdc_rc enum_from_json(const struct field *field, const json_t *value, unsigned *number,
                                  struct vdc_err *err)
{
    const char *text = json_string_value(value);

    for (unsigned n = 0; text != NULL && n < field->texts_len; n++) {
        if (strcmp(text, field->texts[n]) == 0) {
            *number = n;
            return VDC_RC_OK;
        }
    }
    return vdc_err_set(err, VDC_RC_PROTOCOL, "%s is none of its values", field->name);
}

static enum vdc_rc field_from_json(const struct field *field, const json_t *value, char *at,
                                   struct vdc_err *err)
{
    json_int_t number = json_integer_value(value);

    switch (field->type) {
    case FIELD_TEXT:
        return text_from_json(field, value, at, err);
    case FIELD_ENUM:
        return enum_from_json(field, value, (unsigned *)(void *)at, err);
    case FIELD_BOOL:
        if (!json_is_boolean(value)) {
            return vdc_err_set(err, VDC_RC_PROTOCOL, "%s is neither true nor false", field->name);
        }
        *(bool *)(void *)at = json_is_true(value);
        return VDC_RC_OK;
    case FIELD_U64:
    case FIELD_I64:
    case FIELD_I32:
        break;
    }
    if (!json_is_integer(value) || (field->type == FIELD_U64 && number < 0) ||
        (field->type == FIELD_I32 && (number < INT32_MIN || number > INT32_MAX))) {
        return vdc_err_set(err, VDC_RC_PROTOCOL, "%s is no integer of its range", field->name);
    }
    if (field->type == FIELD_U64) {
        *(uint64_t *)(void *)at = (uint64_t)number;
    } else if (field->type == FIELD_I64) {
        *(int64_t *)(void *)at = number;
    } else {
        *(int32_t *)(void *)at = (int32_t)number;
    }
    return VDC_RC_OK;
}

static enum vdc_rc fields_from_json(const struct field *fields, size_t count, const json_t *json,
                                    void *object, struct vdc_err *err)
{
    if (!json_is_object(json)) {
        return vdc_err_set(err, VDC_RC_PROTOCOL, "no JSON object");
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(json, fields[i].name);
        enum vdc_rc rc;

        if (value == NULL) {
            return vdc_err_set(err, VDC_RC_PROTOCOL, "%s is missing", fields[i].name);
        }
        rc = field_from_json(&fields[i], value, (char *)object + fields[i].offset, err);
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    return VDC_RC_OK;
}

/* ---- JSON in and out ---- */

static void append_json(json_t *json, struct vdc_buf *out)
{
    char *text = json_dumps(json, JSON_COMPACT);

    VDC_ASSERT(text != NULL);
    vdc_buf_puts(out, text);
    vdc_buf_puts(out, "\n");
    free(text);
    json_decref(json);
}

static void set(json_t *json, const char *name, json_t *value)
{
    VDC_ASSERT(value != NULL && json_object_set_new(json, name, value) == 0);
}

/* An object of depth and size that our own lines have; the caller frees it. NULL with err set. */
static json_t *load_object(const char *line, size_t len, enum vdc_rc rc, struct vdc_err *err)
{
    json_error_t where;
    json_t *json;

    if (len > VDC_MONITOR_LINE_MAX) {
        (void)vdc_err_set(err, rc, "the line has more than %d bytes", VDC_MONITOR_LINE_MAX);
        return NULL;
    }
    json = json_loadb(line, len, JSON_REJECT_DUPLICATES, &where);
    if (json == NULL) {
        (void)vdc_err_set(err, rc, "no JSON at byte %d: %s", where.position, where.text);
        return NULL;
    }
    if (!json_is_object(json)) {
        json_decref(json);
        (void)vdc_err_set(err, rc, "no JSON object");
        return NULL;
    }
    return json;
}

/* ---- base64 (RFC 4648 section 4) ---- */

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *base64_encode(const char *data, size_t len)
{
    const unsigned char *in = (const unsigned char *)data;
    char *text = vdc_calloc((len + 2) / 3 * 4 + 1, 1);
    char *at = text;

    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = (uint32_t)in[i] << 16;
        bits |= i + 1 < len ? (uint32_t)in[i + 1] << 8 : 0;
        bits |= i + 2 < len ? in[i + 2] : 0;
        *at++ = base64_digits[bits >> 18];
        *at++ = base64_digits[bits >> 12 & 63];
        *at++ = i + 1 < len ? base64_digits[bits >> 6 & 63] : '=';
        *at++ = i + 2 < len ? base64_digits[bits & 63] : '=';
    }
    *at = '\0';
    return text;
}

/* Decodes into out (room for len / 4 * 3 bytes); false for anything but canonical base64. */
static bool base64_decode(const char *text, size_t len, char *out, size_t *out_len)
{
    size_t n = 0;

    if (len % 4 != 0) {
        return false;
    }
    for (size_t i = 0; i < len; i += 4) {
        uint32_t bits = 0;
        size_t pads = 0;

        for (size_t k = 0; k < 4; k++) {
            char c = text[i + k];
            const char *digit = c == '\0' ? NULL : strchr(base64_digits, c);

            if (c == '=' && i + 4 == len && k >= 2) {
                pads++;
                digit = base64_digits;
            } else if (digit == NULL || pads > 0) {
                return false;
            }
            bits = bits << 6 | (uint32_t)(digit - base64_digits);
        }
        for (size_t k = 0; k < 3 - pads; k++) {
            out[n++] = (char)(bits >> (16 - 8 * k) & 255);
        }
    }
    *out_len = n;
    return true;
}

/* ---- state ---- */

static json_t *state_to_json(const struct vdc_monitor_state *state)
{
    json_t *json = fields_to_json(state_fields, VDC_COUNT_OF(state_fields), state);

    set(json, "migration",
        fields_to_json(migration_fields, VDC_COUNT_OF(migration_fields), &state->migration));
    return json;
}

static enum vdc_rc state_from_json(const json_t *json, struct vdc_monitor_state *state,
                                   struct vdc_err *err)
{
    enum vdc_rc rc = fields_from_json(state_fields, VDC_COUNT_OF(state_fields), json, state, err);

    if (rc == VDC_RC_OK) {
        rc = fields_from_json(migration_fields, VDC_COUNT_OF(migration_fields),
                              json_object_get(json, "migration"), &state->migration, err);
        if (rc != VDC_RC_OK) {
            (void)vdc_err_wrap(err, "migration");
            return rc;
        }
    }
    return rc;
}

void vdc_monitor_state_encode(const struct vdc_monitor_state *state, struct vdc_buf *out)
{
    append_json(state_to_json(state), out);
}

enum vdc_rc vdc_monitor_state_decode(const char *line, size_t len, struct vdc_monitor_state *state,
                                     struct vdc_err *err)
{
    struct vdc_err local = {0};
    struct vdc_monitor_state parsed = {0};
    json_t *json = load_object(line, len, VDC_RC_CORRUPT, err);
    enum vdc_rc rc;

    if (json == NULL) {
        return VDC_RC_CORRUPT;
    }
    rc = state_from_json(json, &parsed, &local);
    json_decref(json);
    if (rc != VDC_RC_OK) {
        return vdc_err_set(err, VDC_RC_CORRUPT, "%s", vdc_err_text(&local));
    }
    *state = parsed;
    return VDC_RC_OK;
}

/* ---- messages ---- */

void vdc_monitor_message_encode(const struct vdc_monitor_message *message, struct vdc_buf *out)
{
    json_t *json = json_object();

    VDC_ASSERT(json != NULL);
    switch (message->kind) {
    case VDC_MONITOR_MESSAGE_STATE:
        set(json, "event", json_string("state"));
        break;
    case VDC_MONITOR_MESSAGE_REPLY:
        set(json, "id", json_integer(to_json_int(message->id)));
        set(json, "rc", json_string(vdc_rc_name(message->rc)));
        if (message->error[0] != '\0') {
            set(json, "error", to_json_text(message->error));
        }
        break;
    }
    if (message->has_state || message->kind == VDC_MONITOR_MESSAGE_STATE) {
        set(json, "state", state_to_json(&message->state));
    }
    if (message->has_console) {
        json_t *console = json_object();
        vdc_autofree char *text = base64_encode(message->console.data, message->console.len);

        VDC_ASSERT(message->console.len <= VDC_MONITOR_CONSOLE_READ_MAX);
        set(console, "offset", json_integer(to_json_int(message->console.offset)));
        set(console, "end", json_integer(to_json_int(message->console.end)));
        set(console, "data", json_string(text));
        set(json, "console", console);
    }
    append_json(json, out);
}

static enum vdc_rc console_from_json(const json_t *json, struct vdc_monitor_console *console,
                                     struct vdc_err *err)
{
    static const struct field fields[] = {
        F_U64(vdc_monitor_console, offset),
        F_U64(vdc_monitor_console, end),
    };
    const json_t *data = json_object_get(json, "data");
    enum vdc_rc rc = fields_from_json(fields, VDC_COUNT_OF(fields), json, console, err);

    if (rc != VDC_RC_OK) {
        (void)vdc_err_wrap(err, "console");
        return rc;
    }
    if (!json_is_string(data)) {
        return vdc_err_set(err, VDC_RC_PROTOCOL, "console: data is no text");
    }
    console->data = vdc_calloc(json_string_length(data) / 4 * 3 + 1, 1);
    if (!base64_decode(json_string_value(data), json_string_length(data), console->data,
                       &console->len)) {
        free(vdc_steal(&console->data));
        return vdc_err_set(err, VDC_RC_PROTOCOL, "console: data is no base64");
    }
    return VDC_RC_OK;
}

static enum vdc_rc reply_from_json(const json_t *json, struct vdc_monitor_message *message,
                                   struct vdc_err *err)
{
    static const struct field fields[] = {F_U64(vdc_monitor_message, id)};
    static const struct field error_field[] = {F_TEXT(vdc_monitor_message, error)};
    const char *name = json_string_value(json_object_get(json, "rc"));
    enum vdc_rc rc = fields_from_json(fields, 1, json, message, err);

    message->kind = VDC_MONITOR_MESSAGE_REPLY;
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (name == NULL) {
        return vdc_err_set(err, VDC_RC_PROTOCOL, "rc is no text");
    }
    message->rc = vdc_rc_from_name(name);
    if (json_object_get(json, "error") != NULL) {
        rc = fields_from_json(error_field, 1, json, message, err);
    }
    if (rc == VDC_RC_OK && json_object_get(json, "state") != NULL) {
        message->has_state = true;
        rc = state_from_json(json_object_get(json, "state"), &message->state, err);
    }
    if (rc == VDC_RC_OK && json_object_get(json, "console") != NULL) {
        message->has_console = true;
        rc = console_from_json(json_object_get(json, "console"), &message->console, err);
    }
    return rc;
}

enum vdc_rc vdc_monitor_message_decode(const char *line, size_t len,
                                       struct vdc_monitor_message *message, struct vdc_err *err)
{
    json_t *json = load_object(line, len, VDC_RC_PROTOCOL, err);
    struct vdc_monitor_message parsed = {0};
    enum vdc_rc rc;
    const char *event;

    if (json == NULL) {
        return VDC_RC_PROTOCOL;
    }
    event = json_string_value(json_object_get(json, "event"));
    if (event == NULL) {
        rc = reply_from_json(json, &parsed, err);
    } else if (strcmp(event, "state") == 0) {
        parsed.kind = VDC_MONITOR_MESSAGE_STATE;
        parsed.has_state = true;
        rc = state_from_json(json_object_get(json, "state"), &parsed.state, err);
    } else {
        rc = vdc_err_set(err, VDC_RC_PROTOCOL, "the event is not known");
    }
    json_decref(json);
    if (rc == VDC_RC_OK) {
        *message = parsed;
    } else {
        vdc_monitor_message_deinit(&parsed);
    }
    return rc;
}

void vdc_monitor_message_deinit(struct vdc_monitor_message *message)
{
    free(vdc_steal(&message->console.data));
}

/* ---- requests ---- */

/* Which fields a command takes. */
enum { TAKES_TIMEOUT = 1, TAKES_UNIX = 2, TAKES_LIMITS = 4, TAKES_RANGE = 8 };

static unsigned command_takes(enum vdc_monitor_command command)
{
    switch (command) {
    case VDC_MONITOR_STOP:
        return TAKES_TIMEOUT;
    case VDC_MONITOR_MIGRATE_OUT:
        return TAKES_UNIX | TAKES_LIMITS;
    case VDC_MONITOR_MIGRATE_IN:
        return TAKES_UNIX;
    case VDC_MONITOR_CONSOLE_READ:
        return TAKES_RANGE;
    case VDC_MONITOR_STATUS:
    case VDC_MONITOR_REFRESH:
    case VDC_MONITOR_PAUSE:
    case VDC_MONITOR_RESUME:
    case VDC_MONITOR_KILL:
    case VDC_MONITOR_MIGRATE_CONTINUE:
    case VDC_MONITOR_MIGRATE_CANCEL:
    case VDC_MONITOR_ACTIVATE:
        return 0;
    }
    VDC_ASSERT(false);
}

void vdc_monitor_request_encode(const struct vdc_monitor_request *request, struct vdc_buf *out)
{
    json_t *json = json_object();
    unsigned takes = command_takes(request->command);

    VDC_ASSERT(json != NULL);
    set(json, "id", json_integer(to_json_int(request->id)));
    set(json, "command", json_string(vdc_monitor_command_text(request->command)));
    if ((takes & TAKES_TIMEOUT) != 0) {
        set(json, "timeout_s", json_integer(request->timeout_s));
    }
    if ((takes & TAKES_UNIX) != 0) {
        set(json, "unix", to_json_text(request->unix_path));
    }
    if ((takes & TAKES_LIMITS) != 0) {
        set(json, "max_bandwidth", json_integer(to_json_int(request->max_bandwidth)));
        set(json, "downtime_ms", json_integer(request->downtime_ms));
    }
    if ((takes & TAKES_RANGE) != 0) {
        set(json, "offset", json_integer(to_json_int(request->offset)));
        set(json, "max", json_integer(request->max));
    }
    append_json(json, out);
}

static enum vdc_rc number_in_range(const char *name, const json_t *value, uint64_t max,
                                   uint64_t *number, struct vdc_err *err)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (uint64_t)json_integer_value(value) > max) {
        return vdc_err_set(err, VDC_RC_INVALID, "%s is no integer from 0 to %llu", name,
                           (unsigned long long)max);
    }
    *number = (uint64_t)json_integer_value(value);
    return VDC_RC_OK;
}

static enum vdc_rc request_field(const char *name, const json_t *value, unsigned takes,
                                 struct vdc_monitor_request *request, struct vdc_err *err)
{
    uint64_t number = 0;
    enum vdc_rc rc;

    if (strcmp(name, "unix") == 0 && (takes & TAKES_UNIX) != 0) {
        const char *path = json_string_value(value);
        if (path == NULL || path[0] != '/' || strlen(path) != json_string_length(value) ||
            !vdc_str_copy(request->unix_path, sizeof(request->unix_path), path)) {
            return vdc_err_set(err, VDC_RC_INVALID, "unix is no absolute path of at most %d bytes",
                               VDC_MONITOR_PATH_MAX);
        }
        return VDC_RC_OK;
    }
    if (strcmp(name, "timeout_s") == 0 && (takes & TAKES_TIMEOUT) != 0) {
        rc = number_in_range(name, value, VDC_MONITOR_STOP_TIMEOUT_MAX, &number, err);
        request->timeout_s = (uint32_t)number;
        return rc;
    }
    if (strcmp(name, "max_bandwidth") == 0 && (takes & TAKES_LIMITS) != 0) {
        return number_in_range(name, value, INT64_MAX, &request->max_bandwidth, err);
    }
    if (strcmp(name, "downtime_ms") == 0 && (takes & TAKES_LIMITS) != 0) {
        rc = number_in_range(name, value, VDC_MONITOR_DOWNTIME_MS_MAX, &number, err);
        request->downtime_ms = (uint32_t)number;
        return rc;
    }
    if (strcmp(name, "offset") == 0 && (takes & TAKES_RANGE) != 0) {
        return number_in_range(name, value, INT64_MAX, &request->offset, err);
    }
    if (strcmp(name, "max") == 0 && (takes & TAKES_RANGE) != 0) {
        rc = number_in_range(name, value, VDC_MONITOR_CONSOLE_READ_MAX, &number, err);
        request->max = (uint32_t)number;
        return rc;
    }
    return vdc_err_set(err, VDC_RC_INVALID, "%s is no field of %s", name,
                       vdc_monitor_command_text(request->command));
}

static enum vdc_rc request_from_json(json_t *json, struct vdc_monitor_request *request,
                                     struct vdc_err *err)
{
    static const struct field command_field = F_ENUM(vdc_monitor_request, command, command_texts);
    const char *name;
    json_t *value;
    unsigned takes;
    unsigned command = 0;
    enum vdc_rc rc =
        number_in_range("id", json_object_get(json, "id"), INT64_MAX, &request->id, err);

    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (enum_from_json(&command_field, json_object_get(json, "command"), &command, NULL) !=
        VDC_RC_OK) {
        return vdc_err_set(err, VDC_RC_INVALID, "the command is not known");
    }
    request->command = (enum vdc_monitor_command)command;
    takes = command_takes(request->command);
    if ((takes & TAKES_TIMEOUT) != 0) {
        request->timeout_s = VDC_MONITOR_STOP_TIMEOUT_DEFAULT;
    }
    json_object_foreach(json, name, value)
    {
        if (strcmp(name, "id") != 0 && strcmp(name, "command") != 0) {
            rc = request_field(name, value, takes, request, err);
            if (rc != VDC_RC_OK) {
                return rc;
            }
        }
    }
    if ((takes & TAKES_UNIX) != 0 && request->unix_path[0] == '\0') {
        return vdc_err_set(err, VDC_RC_INVALID, "unix is missing");
    }
    return VDC_RC_OK;
}

enum vdc_rc vdc_monitor_request_decode(const char *line, size_t len,
                                       struct vdc_monitor_request *request, struct vdc_err *err)
{
    json_t *json = load_object(line, len, VDC_RC_INVALID, err);
    enum vdc_rc rc;

    *request = (struct vdc_monitor_request){0};
    if (json == NULL) {
        return VDC_RC_INVALID;
    }
    rc = request_from_json(json, request, err);
    json_decref(json);
    return rc;
}

/* ---- paths ---- */

enum vdc_rc vdc_unix_path_open(const char *path, char out[VDC_UNIX_PATH_CAP], int *dirfd,
                               struct vdc_err *err)
{
    const char *slash = strrchr(path, '/');
    vdc_autofree char *dir = NULL;

    *dirfd = -1;
    if (slash == NULL || slash[1] == '\0') {
        return vdc_err_set(err, VDC_RC_INVALID, "%s is no path of a socket", path);
    }
    if (vdc_str_copy(out, VDC_UNIX_PATH_CAP, path)) {
        return VDC_RC_OK;
    }
    dir = vdc_asprintf("%.*s", (int)(slash - path + 1), path);
    *dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*dirfd < 0) {
        return vdc_err_errno(err, errno, "open %s", dir);
    }
    if (snprintf(out, VDC_UNIX_PATH_CAP, "/proc/self/fd/%d/%s", *dirfd, slash + 1) >=
        VDC_UNIX_PATH_CAP) {
        (void)close(*dirfd);
        *dirfd = -1;
        return vdc_err_set(err, VDC_RC_TOO_LARGE, "%s: the last part is too long", path);
    }
    return VDC_RC_OK;
}
