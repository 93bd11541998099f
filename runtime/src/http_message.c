/* SPDX-License-Identifier: Apache-2.0 */
#include "http_message.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include <vdc/base.h>
#include <vdc/utf8.h>

static void fail(struct http_message *message, int status, const char *text)
{
    message->phase = HTTP_BAD;
    message->error_status = status;
    message->error_text = text;
}

static struct http_message *message_of(llhttp_t *parser)
{
    return vdc_container_of(parser, struct http_message, parser);
}

static int on_url(llhttp_t *parser, const char *at, size_t len)
{
    vdc_buf_append(&message_of(parser)->target, at, len);
    return 0;
}

static int on_field_name(llhttp_t *parser, const char *at, size_t len)
{
    struct http_message *message = message_of(parser);
    if (message->phase == HTTP_IN_HEAD) { /* trailers are read and dropped */
        vdc_buf_append(&message->field_name, at, len);
    }
    return 0;
}

static int on_field_value(llhttp_t *parser, const char *at, size_t len)
{
    struct http_message *message = message_of(parser);
    if (message->phase == HTTP_IN_HEAD) {
        vdc_buf_append(&message->field_value, at, len);
    }
    return 0;
}

static char *trimmed(const struct vdc_buf *text)
{
    const char *from = vdc_buf_text(text);
    size_t len = text->len;
    while (len > 0 && (from[len - 1] == ' ' || from[len - 1] == '\t')) {
        len--;
    }
    return vdc_asprintf("%.*s", (int)len, from);
}

static struct http_field *find_field(const struct http_message *message, const char *name)
{
    for (size_t i = 0; i < message->field_count; i++) {
        if (strcmp(message->fields[i].name, name) == 0) {
            return (struct http_field *)(uintptr_t)&message->fields[i];
        }
    }
    return NULL;
}

static int on_field_complete(llhttp_t *parser)
{
    struct http_message *message = message_of(parser);
    if (message->phase != HTTP_IN_HEAD) {
        return 0;
    }
    vdc_autofree char *name = trimmed(&message->field_name);
    vdc_autofree char *value = trimmed(&message->field_value);
    vdc_buf_clear(&message->field_name);
    vdc_buf_clear(&message->field_value);
    for (char *c = name; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    if (name[0] == '\0') { /* llhttp lets ": x" through */
        fail(message, 400, "a header has no name");
        return -1;
    }
    struct http_field *first = find_field(message, name);
    if (first != NULL) {
        /* Two hosts or two lengths are two readings of one message. */
        if (strcmp(name, "host") == 0 || strcmp(name, "content-length") == 0) {
            fail(message, 400, "a header that may stand once stands twice");
            return -1;
        }
        char *joined = vdc_asprintf("%s, %s", first->value, value);
        free(first->value);
        first->value = joined;
        return 0;
    }
    if (message->field_count == VDC_HTTP_HEADERS_MAX) {
        fail(message, 431, "too many headers");
        return -1;
    }
    message->fields[message->field_count++] =
        (struct http_field){.name = vdc_steal(&name), .value = vdc_steal(&value)};
    return 0;
}

static void check_request_head(struct http_message *message)
{
    const llhttp_t *parser = &message->parser;
    const char *coding = http_message_field(message, "transfer-encoding");
    if (parser->http_major != 1 || parser->http_minor > 1) {
        fail(message, 505, "this server speaks HTTP/1.1");
    } else if (http_message_field(message, "host") == NULL && parser->http_minor == 1) {
        fail(message, 400, "the Host header is missing");
    } else if (coding != NULL && http_message_field(message, "content-length") != NULL) {
        fail(message, 400, "both Content-Length and Transfer-Encoding");
    } else if (coding != NULL && parser->http_minor == 0) {
        fail(message, 400, "Transfer-Encoding in HTTP/1.0");
    } else if (coding != NULL && strcasecmp(coding, "chunked") != 0) {
        fail(message, 501, "the only transfer coding here is chunked");
    } else if (coding == NULL && parser->content_length > message->body_max) {
        fail(message, 413, "the body is larger than the limit");
    }
}

static int on_head(llhttp_t *parser)
{
    struct http_message *message = message_of(parser);
    if (message->is_request) {
        check_request_head(message);
    } else if ((parser->flags & F_CHUNKED) == 0 && (parser->flags & F_CONTENT_LENGTH) != 0 &&
               !message->skip_body && parser->content_length > message->body_max) {
        fail(message, 413, "the body is larger than the limit");
    }
    if (message->phase == HTTP_BAD) {
        return -1;
    }
    message->phase = HTTP_IN_BODY;
    return message->skip_body ? 1 : 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    struct http_message *message = message_of(parser);
    if (len > message->body_max - message->body.len) {
        fail(message, 413, "the body is larger than the limit");
        return HPE_USER;
    }
    vdc_buf_append(&message->body, at, len);
    return 0;
}

static int on_whole(llhttp_t *parser)
{
    struct http_message *message = message_of(parser);
    message->keep_alive = llhttp_should_keep_alive(parser) != 0;
    message->phase = HTTP_WHOLE;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_field_name,
    .on_header_value = on_field_value,
    .on_header_value_complete = on_field_complete,
    .on_headers_complete = on_head,
    .on_body = on_body,
    .on_message_complete = on_whole,
};

void http_message_init(struct http_message *message, bool is_request, size_t body_max)
{
    memset(message, 0, sizeof(*message));
    message->is_request = is_request;
    message->body_max = body_max;
    llhttp_init(&message->parser, is_request ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
}

void http_message_deinit(struct http_message *message)
{
    for (size_t i = 0; i < message->field_count; i++) {
        free(message->fields[i].name);
        free(message->fields[i].value);
    }
    message->field_count = 0;
    vdc_buf_deinit(&message->head);
    vdc_buf_deinit(&message->target);
    vdc_buf_deinit(&message->field_name);
    vdc_buf_deinit(&message->field_value);
    vdc_buf_deinit(&message->body);
}

static void fail_parse(struct http_message *message)
{
    if (message->phase == HTTP_BAD) {
        return; /* a callback has said more */
    }
    if (llhttp_get_errno(&message->parser) == HPE_INVALID_METHOD) {
        fail(message, 501, "the method is not known");
    } else {
        fail(message, 400, "the message is malformed");
    }
}

/* Whether byte `i` of the head may follow byte i - 1. Lines end with CR LF and nothing else; a line
 * that begins with a blank would be a continuation, which RFC 9112 5.2 forbids to send. */
static bool byte_fits(const char *head, size_t i)
{
    char c = head[i];
    char before = i > 0 ? head[i - 1] : '\0';
    if (c == '\0' || (c == '\n') != (before == '\r')) {
        return false;
    }
    return !(before == '\n' && (c == ' ' || c == '\t'));
}

/* Collects the head; true when it is complete. */
static bool collect_head(struct http_message *message, const char *bytes, size_t len, size_t *used)
{
    struct vdc_buf *head = &message->head;
    while (*used < len) {
        char c = bytes[(*used)++];
        /* Empty lines before a request line are ignored (RFC 9112 2.2). */
        if (head->len == 0 && (c == '\r' || c == '\n') && message->is_request) {
            continue;
        }
        if (head->len == VDC_HTTP_HEAD_MAX) {
            fail(message, 431, "the head is larger than the limit");
            return false;
        }
        message->phase = HTTP_IN_HEAD;
        vdc_buf_append(head, &c, 1);
        if (!byte_fits(head->data, head->len - 1)) {
            fail(message, 400, "a line of the head does not end with CR LF");
            return false;
        }
        if (c == '\n' && head->len >= 4 && memcmp(head->data + head->len - 4, "\r\n\r\n", 4) == 0) {
            return true;
        }
    }
    return false;
}

/* Method, target and version with one blank between each; llhttp skips more of them. */
static bool first_line_fits(const struct http_message *message)
{
    const char *line = vdc_buf_text(&message->head);
    size_t len = strcspn(line, "\r");
    size_t blanks = 0;
    for (size_t i = 0; i < len; i++) {
        blanks += line[i] == ' ' || line[i] == '\t';
    }
    return !message->is_request || blanks == 2;
}

static void parse_head(struct http_message *message)
{
    if (!first_line_fits(message)) {
        fail(message, 400, "the request line is malformed");
        return;
    }
    llhttp_errno_t rv = llhttp_execute(&message->parser, message->head.data, message->head.len);
    bool upgrade = rv == HPE_PAUSED_UPGRADE && message->phase == HTTP_WHOLE;
    if (rv == HPE_OK && message->phase == HTTP_IN_HEAD) {
        fail(message, 400, "the message is malformed");
    } else if (rv != HPE_OK && rv != HPE_PAUSED && !upgrade) {
        fail_parse(message);
    }
    vdc_buf_deinit(&message->head);
}

static size_t feed_body(struct http_message *message, const char *bytes, size_t len)
{
    llhttp_errno_t rv = llhttp_execute(&message->parser, bytes, len);
    size_t used = len;
    if (rv == HPE_PAUSED && message->phase == HTTP_WHOLE) {
        used = (size_t)(llhttp_get_error_pos(&message->parser) - bytes);
    } else if (rv != HPE_OK) {
        fail_parse(message);
    }
    message->body_raw += used;
    if (message->phase != HTTP_BAD &&
        message->body_raw - message->body.len > VDC_HTTP_FRAMING_MAX) {
        fail(message, 413, "the chunks' framing is larger than the limit");
    }
    return used;
}

size_t http_message_feed(struct http_message *message, const char *bytes, size_t len)
{
    size_t used = 0;
    switch (message->phase) {
    case HTTP_IDLE:
    case HTTP_IN_HEAD:
        if (collect_head(message, bytes, len, &used)) {
            parse_head(message);
        }
        return used;
    case HTTP_IN_BODY:
        return feed_body(message, bytes, len);
    case HTTP_WHOLE:
    case HTTP_BAD:
        break;
    }
    return 0;
}

void http_message_finish(struct http_message *message)
{
    if (message->phase == HTTP_IN_BODY) {
        /* Calls on_whole where the end of the connection is the end of the body. */
        llhttp_finish(&message->parser);
    }
    if (message->phase != HTTP_WHOLE && message->phase != HTTP_BAD) {
        fail(message, 400, "the connection ended within a message");
    }
}

const char *http_message_field(const struct http_message *message, const char *name)
{
    const struct http_field *field = find_field(message, name);
    return field != NULL ? field->value : NULL;
}

int http_message_status(const struct http_message *message)
{
    return message->parser.status_code;
}

bool http_message_is_1_0(const struct http_message *message)
{
    return message->parser.http_minor == 0;
}

bool http_message_method(const struct http_message *message, enum vdc_http_method *method)
{
    switch (message->parser.method) { /* llhttp's numbers, most of which we don't serve */
    case HTTP_GET:
        *method = VDC_HTTP_GET;
        return true;
    case HTTP_HEAD:
        *method = VDC_HTTP_HEAD;
        return true;
    case HTTP_POST:
        *method = VDC_HTTP_POST;
        return true;
    case HTTP_PUT:
        *method = VDC_HTTP_PUT;
        return true;
    case HTTP_PATCH:
        *method = VDC_HTTP_PATCH;
        return true;
    case HTTP_DELETE:
        *method = VDC_HTTP_DELETE;
        return true;
    case HTTP_OPTIONS:
        *method = VDC_HTTP_OPTIONS;
        return true;
    default:
        return false;
    }
}

const char *vdc_http_method_name(enum vdc_http_method method)
{
    switch (method) {
    case VDC_HTTP_GET:
        return "GET";
    case VDC_HTTP_HEAD:
        return "HEAD";
    case VDC_HTTP_POST:
        return "POST";
    case VDC_HTTP_PUT:
        return "PUT";
    case VDC_HTTP_PATCH:
        return "PATCH";
    case VDC_HTTP_DELETE:
        return "DELETE";
    case VDC_HTTP_OPTIONS:
        return "OPTIONS";
    }
    return "?";
}

/* Percent-decodes; NULL for what http_target_parse refuses. */
static char *decode(const char *text, size_t len, bool in_query)
{
    vdc_auto(vdc_buf_deinit) struct vdc_buf out = {0};
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '%') {
            int high = len - i > 2 ? vdc_hex_digit(text[i + 1]) : -1;
            int low = len - i > 2 ? vdc_hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return NULL;
            }
            c = (char)(high * 16 + low);
            if (c == '\0' || (c == '/' && !in_query)) {
                return NULL;
            }
            i += 2;
        } else if (c == '+' && in_query) {
            c = ' ';
        } else if ((unsigned char)c <= 0x20 || (unsigned char)c >= 0x7f || c == '#') {
            return NULL;
        }
        vdc_buf_append(&out, &c, 1);
    }
    return vdc_text_is_printable(vdc_buf_text(&out), out.len) ? vdc_buf_steal(&out) : NULL;
}

static enum vdc_rc parse_parameter(struct http_target *target, const char *text, size_t len)
{
    if (len == 0) {
        return VDC_RC_OK;
    }
    if (target->query_count == VDC_HTTP_QUERY_MAX) {
        return VDC_RC_INVALID;
    }
    const char *equals = memchr(text, '=', len);
    size_t name_len = equals != NULL ? (size_t)(equals - text) : len;
    const char *value = equals != NULL ? equals + 1 : text + len;
    struct http_field *field = &target->query[target->query_count++];
    field->name = decode(text, name_len, true);
    field->value = decode(value, len - (size_t)(value - text), true);
    return field->name != NULL && field->value != NULL ? VDC_RC_OK : VDC_RC_INVALID;
}

static enum vdc_rc parse_query(struct http_target *target, const char *text, size_t len)
{
    while (len > 0) {
        const char *end = memchr(text, '&', len);
        size_t piece = end != NULL ? (size_t)(end - text) : len;
        enum vdc_rc rc = parse_parameter(target, text, piece);
        if (rc != VDC_RC_OK) {
            return rc;
        }
        piece += end != NULL ? 1 : 0;
        text += piece;
        len -= piece;
    }
    return VDC_RC_OK;
}

enum vdc_rc http_target_parse(struct http_target *target, const char *text, size_t len)
{
    memset(target, 0, sizeof(*target));
    /* The absolute form, which proxies send: what stands before the path says nothing here. */
    size_t scheme = 0;
    if (len > 8 && strncasecmp(text, "https://", 8) == 0) {
        scheme = 8;
    } else if (len > 7 && strncasecmp(text, "http://", 7) == 0) {
        scheme = 7;
    }
    if (scheme > 0) {
        const char *slash = memchr(text + scheme, '/', len - scheme);
        if (slash == NULL) {
            return VDC_RC_INVALID;
        }
        len -= (size_t)(slash - text);
        text = slash;
    }
    if (len == 0 || text[0] != '/') {
        return VDC_RC_INVALID;
    }
    const char *question = memchr(text, '?', len);
    size_t path_len = question != NULL ? (size_t)(question - text) : len;
    target->path = decode(text, path_len, false);
    if (target->path == NULL) {
        return VDC_RC_INVALID;
    }
    return question != NULL ? parse_query(target, question + 1, len - path_len - 1) : VDC_RC_OK;
}

void http_target_deinit(struct http_target *target)
{
    free(target->path);
    for (size_t i = 0; i < target->query_count; i++) {
        free(target->query[i].name);
        free(target->query[i].value);
    }
    memset(target, 0, sizeof(*target));
}
