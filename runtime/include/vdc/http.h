/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/1.1 server (RFC 9110, RFC 9112) under the REST API: llhttp parses, vdc/tls.h carries.
 * It knows connections, bounds and timeouts; routing, JSON and rights are the caller's. Requests of
 * one connection are handled one after the other, so pipelined answers come in order, and none is
 * read while more than VDC_TLS_QUEUE_LOW bytes of earlier answers wait to be sent.
 *
 * What it answers by itself: 400 malformed (also bare CR or LF, a missing or second Host, both
 * Content-Length and Transfer-Encoding, a NUL or bad escape in the path), 408 too slow, 413 body
 * too large, 431 head too large, 501 an unknown method or transfer coding, 503 one connection too
 * many (closed without an answer: before the handshake there is nobody to answer). Each as
 * application/problem+json. Same rules about threads and callbacks as in vdc/tls.h.
 */
#ifndef VDC_HTTP_H
#define VDC_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/limits.h>
#include <vdc/tls.h>

/* Bytes of request line and headers together: what other servers take by default (8 to 16 KiB). */
#define VDC_HTTP_HEAD_MAX (UINT32_C(16) << 10)
/* Header lines of one message, and parameters of one query. */
#define VDC_HTTP_HEADERS_MAX 100
#define VDC_HTTP_QUERY_MAX 64
/* Bytes of a message's chunk sizes, extensions and trailers together: framing costs 6 bytes a chunk. */
#define VDC_HTTP_FRAMING_MAX (UINT32_C(1) << 20)
/* Bytes of a stream that wait to be sent: more than that and its client is slow. */
#define VDC_HTTP_STREAM_QUEUE_MAX (UINT32_C(1) << 20)
/* From the first byte of a request to the end of its head; then to the end of its body. The second
 * is also how long a client may take nothing of an answer that waits for it. */
#define VDC_HTTP_HEAD_MS 10000
#define VDC_HTTP_BODY_MS 30000
/* Between two requests of a connection. */
#define VDC_HTTP_IDLE_MS 75000
/* Bytes of further requests that are read while one is being handled. */
#define VDC_HTTP_PIPELINE_MAX (UINT32_C(64) << 10)

enum vdc_http_method {
    VDC_HTTP_GET,
    VDC_HTTP_HEAD,
    VDC_HTTP_POST,
    VDC_HTTP_PUT,
    VDC_HTTP_PATCH,
    VDC_HTTP_DELETE,
    VDC_HTTP_OPTIONS,
};
const char *vdc_http_method_name(enum vdc_http_method method); /* "GET" */

struct vdc_http_header {
    const char *name;
    const char *value;
};

struct vdc_http_server;

/* One request; read only for the handler, except data and on_gone. It stays valid until it is
 * answered (vdc_http_respond, vdc_http_stream_end) or dropped, also when its client is gone. */
struct vdc_http_request {
    enum vdc_http_method method;
    const char *path;   /* percent-decoded, begins with '/', no NUL, no '/' from "%2F" (400) */
    const char *target; /* as sent: path and query, for forwarding */
    const char *body;   /* NUL-terminated behind body_len; "" without one */
    size_t body_len;
    struct vdc_peer peer; /* of the client certificate; kind none without one */
    const char *address;  /* of the client */
    bool gone;            /* the client has disconnected: answering is harmless and in vain */
    /* The handler's. on_gone (may be NULL) is called once when the client disconnects before the
     * end of the answer; the request must still be answered or dropped. */
    void *data;
    void (*on_gone)(struct vdc_http_request *request);
    /* Streams: what was written has gone out, see vdc_http_stream_write(). May be NULL. */
    void (*on_drained)(struct vdc_http_request *request);
};

struct vdc_http_server_config {
    const char *address;
    bool certificate_optional; /* clients without one are let in: bearer tokens are checked above */
    uint32_t connections_max;  /* 0: 4096 */
    /* Called for each whole request. It answers now or later. */
    void (*on_request)(void *data, struct vdc_http_request *request);
    void *data;
    void (*on_refused)(void *data, const struct vdc_err *why); /* TLS; for the log; may be NULL */
    /* 0: VDC_HTTP_HEAD_MS, VDC_HTTP_BODY_MS, VDC_HTTP_IDLE_MS. */
    uint32_t head_ms;
    uint32_t body_ms;
    uint32_t idle_ms;
};

enum vdc_rc vdc_http_server_open(struct vdc_tls_context *context,
                                 const struct vdc_http_server_config *config,
                                 struct vdc_http_server **server, struct vdc_err *err) VDC_MUST_USE;
uint16_t vdc_http_server_port(const struct vdc_http_server *server);
/* Stops listening and closes its connections; requests being handled become `gone` (on_gone is
 * called from here) and must still be answered or dropped. The pointer is dead; NULL is fine. */
void vdc_http_server_close(struct vdc_http_server *server);

/* The value of the header (name in any case), NULL if absent. Repeated headers are joined with ",
 * ".
 */
const char *vdc_http_request_header(const struct vdc_http_request *request, const char *name);
/* The decoded value of the query parameter, NULL if absent, "" without '='. The first one counts.
 */
const char *vdc_http_request_query(const struct vdc_http_request *request, const char *name);
/* The i-th query parameter in the order sent (to refuse unknown ones); false past the end. */
bool vdc_http_request_query_at(const struct vdc_http_request *request, size_t i, const char **name,
                               const char **value);

/* The whole answer; the request is dead afterwards. content_type NULL: none (then no body either).
 * Header names and values are ours: CR, LF and NUL in them are a defect (asserted). */
void vdc_http_respond(struct vdc_http_request *request, int status, const char *content_type,
                      const void *body, size_t body_len, const struct vdc_http_header *headers,
                      size_t header_count);
/* Ends the connection without an answer. */
void vdc_http_request_drop(struct vdc_http_request *request);

/* An answer in pieces (chunked), for long lists and server-sent events. */
void vdc_http_stream_begin(struct vdc_http_request *request, int status, const char *content_type,
                           const struct vdc_http_header *headers, size_t header_count);
/* LIMIT: the client reads too slowly and nothing was queued; wait for on_drained. END: gone. */
enum vdc_rc vdc_http_stream_write(struct vdc_http_request *request, const void *data,
                                  size_t len) VDC_MUST_USE;
/* The request is dead afterwards. */
void vdc_http_stream_end(struct vdc_http_request *request);

/* "Not Found". */
const char *vdc_http_status_text(int status);

#endif
