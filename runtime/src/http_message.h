/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP/1.1 message as it comes in: llhttp splits it, this collects and bounds it. No sockets, no
 * time: the server, the client, the tests and the fuzzer feed it bytes.
 *
 * A head is collected whole, checked for what parsers disagree about (bare CR or LF, NUL, folded
 * lines) and only then given to llhttp; the body goes through llhttp as it comes.
 */
#ifndef VDC_RUNTIME_HTTP_MESSAGE_H
#define VDC_RUNTIME_HTTP_MESSAGE_H

#include <llhttp.h>

#include <vdc/buf.h>
#include <vdc/http.h>

enum http_phase {
    HTTP_IDLE, /* not one byte yet (empty lines before a request don't count) */
    HTTP_IN_HEAD,
    HTTP_IN_BODY, /* the head is known */
    HTTP_WHOLE,
    HTTP_BAD, /* error_status and error_text */
};

struct http_field {
    char *name; /* in lower case */
    char *value;
};

struct http_message {
    llhttp_t parser;
    enum http_phase phase;
    bool is_request;
    bool skip_body; /* of a response: its request was HEAD */
    bool keep_alive;
    size_t body_max;
    size_t body_raw; /* bytes of the body with its framing */
    struct vdc_buf head;
    struct vdc_buf target;
    struct vdc_buf field_name;
    struct vdc_buf field_value;
    struct http_field fields[VDC_HTTP_HEADERS_MAX];
    size_t field_count;
    struct vdc_buf body;
    int error_status;
    const char *error_text;
};

void http_message_init(struct http_message *message, bool is_request, size_t body_max);
void http_message_deinit(struct http_message *message);
/* Takes bytes up to the next change of phase (head known, whole, bad); returns how many. Call again
 * with the rest while phase is IN_BODY; not once WHOLE or BAD. */
size_t http_message_feed(struct http_message *message, const char *bytes, size_t len);
/* The connection ended: a response without a length is whole then. */
void http_message_finish(struct http_message *message);
/* Repeated fields are joined with ", "; `name` in lower case; NULL if absent. */
const char *http_message_field(const struct http_message *message, const char *name);
int http_message_status(const struct http_message *message);
/* False for a method that this server has no name for. */
bool http_message_method(const struct http_message *message, enum vdc_http_method *method);
bool http_message_is_1_0(const struct http_message *message);

/* A target split and decoded. */
struct http_target {
    char *path;
    struct http_field query[VDC_HTTP_QUERY_MAX];
    size_t query_count;
};
/* INVALID: not of the origin or absolute form, bad escapes, NUL or control bytes, %2F in the path, no
 * UTF-8. To be released by http_target_deinit in any case. */
enum vdc_rc http_target_parse(struct http_target *target, const char *text, size_t len);
void http_target_deinit(struct http_target *target);

#endif
