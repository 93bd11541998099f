/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTPS client that a zone manager forwards requests to the leader with. One request at a time
 * per connection; idle connections are kept per (address, expected identity) and used again. No
 * redirects, cookies, proxies. Same rules about threads and callbacks as in vdc/tls.h.
 */
#ifndef VDC_HTTP_CLIENT_H
#define VDC_HTTP_CLIENT_H

#include <vdc/http.h>

struct vdc_http_client;
struct vdc_http_call;

/* Connections of one client, all addresses together; further calls get LIMIT. */
#define VDC_HTTP_CLIENT_CONNS_MAX 256
/* Shorter than VDC_HTTP_IDLE_MS, so that it is normally us who closes. */
#define VDC_HTTP_CLIENT_IDLE_MS 60000

struct vdc_http_call_config {
    enum vdc_http_method method;
    const char *address;                   /* "10.0.0.1:7443" */
    struct vdc_peer expected;              /* whose certificate; kind none: anybody of our CA */
    const char *target;                    /* "/v1/partitions?wait=30s", already encoded */
    const struct vdc_http_header *headers; /* beyond Host and Content-Length */
    size_t header_count;
    const void *body;
    size_t body_len;
    int64_t timeout_ms; /* of everything; 0: 30 s */
};

struct vdc_http_response {
    int status;
    const char *body; /* NUL-terminated behind body_len; at most VDC_HTTP_BODY_MAX */
    size_t body_len;
    const struct vdc_http_header *headers; /* names in lower case */
    size_t header_count;
};
/* NULL if absent. */
const char *vdc_http_response_header(const struct vdc_http_response *response, const char *name);

/* Exactly once per call unless it is cancelled. rc OK: `response` is borrowed for the call. Else it
 * is NULL and why->text says more: UNAVAILABLE, TIMEOUT, UNAUTHENTICATED: it was not sent and took
 * no effect; UNKNOWN_OUTCOME: it was sent and no answer came; PROTOCOL, TOO_LARGE: an answer came
 * that cannot be used. */
typedef void (*vdc_http_done_cb)(void *data, enum vdc_rc rc,
                                 const struct vdc_http_response *response,
                                 const struct vdc_err *why);

struct vdc_http_client *vdc_http_client_create(struct vdc_tls_context *context);
/* Cancels all calls (their callbacks are not called). The pointer is dead; NULL is fine. */
void vdc_http_client_destroy(struct vdc_http_client *client);

/* Everything in the config is copied. INVALID (malformed address or target), LIMIT. The call is
 * dead once on_done was called. */
enum vdc_rc vdc_http_client_send(struct vdc_http_client *client,
                                 const struct vdc_http_call_config *config,
                                 vdc_http_done_cb on_done, void *data, struct vdc_http_call **call,
                                 struct vdc_err *err) VDC_MUST_USE;
/* on_done is not called any more; the request may have taken effect. */
void vdc_http_call_cancel(struct vdc_http_call *call);

#endif
