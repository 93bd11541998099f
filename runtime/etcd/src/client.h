/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the client. Layers, each using only those above it:
 *
 *   queue     completions of gRPC on the loop
 *   client    the channel to the endpoint in use, the timer, open and close
 *   call      one attempt: a unary call
 *   request   attempts until there is an outcome, or the deadline
 *   txn, list, write, lease      what etcd.h offers, made of requests
 *   watch     a stream of its own
 *
 * Nothing here calls the user from inside one of the user's calls: results come from the queue's or
 * the timer's callback. A user may close, cancel and start things inside a callback; whoever called
 * it then touches only what is certain to be there still (the request, the stream, the client).
 */
#ifndef VDC_ETCD_CLIENT_H
#define VDC_ETCD_CLIENT_H

#include <grpc/grpc.h>
#include <uthash.h>
#include <uv.h>

#include <vdc/base.h>
#include <vdc/buf.h>
#include <vdc/etcd.h>

#include "fence.h"
#include "queue.h"
#include "route.h"
#include "status.h"

#define VDC_ETCD_MAGIC UINT32_C(0x65746364)
#define VDC_ETCD_REQUEST_MAGIC UINT32_C(0x65747271)
#define VDC_ETCD_WATCH_MAGIC UINT32_C(0x65747761)
#define VDC_ETCD_LEASE_MAGIC UINT32_C(0x65746c65)

/* Leadership keys written under in the life of one client: one for each zone it ever led. */
#define VDC_ETCD_GUARDS_MAX 4096

/* The fence state of one guard key; kept until the client is closed. */
struct vdc_etcd_guard_state {
    char *key;
    int64_t create_revision; /* the newest term of ours */
    char *fence_key;
    struct vdc_etcd_fence fence;
    UT_hash_handle hh;
};

struct vdc_etcd_stream;

struct vdc_etcd {
    uint32_t magic;
    uv_loop_t *loop;
    char *endpoints[VDC_ETCD_ENDPOINTS_MAX];
    char *authority; /* NULL: gRPC's default */
    int64_t attempt_timeout_ms;
    int64_t request_timeout_ms;
    void (*on_trace)(void *data, enum vdc_level level, const char *line);
    void *data;

    struct vdc_etcd_queue queue;
    grpc_channel_credentials *credentials;
    grpc_channel *channel; /* NULL: to be made at the next attempt */
    struct vdc_etcd_route route;
    vdc_mono away_since; /* no endpoint has answered since; never: one does */
    uv_timer_t timer;
    vdc_mono timer_due;

    struct vdc_etcd_request *waiting;   /* list: to be sent or settled */
    struct vdc_etcd_request *in_flight; /* list */
    uint32_t in_flight_count;
    uint32_t request_count; /* all that have not been freed */
    struct vdc_etcd_watch *watches;
    uint32_t watch_count;
    struct vdc_etcd_stream *streams; /* those whose tags are not all back */
    struct vdc_etcd_lease *leases;
    uint32_t lease_count;
    struct vdc_etcd_guard_state *guards;
    uint32_t guard_count;

    bool closing;
    bool queue_closed;
    void (*on_closed)(void *data);
    void *on_closed_data;
};

/* ---- client.c ---- */

void vdc_etcd_trace(struct vdc_etcd *etcd, enum vdc_level level, const char *fmt, ...)
    VDC_PRINTF(3, 4);
/* Runs everything that is due at `when`, or soon after. */
void vdc_etcd_wake_at(struct vdc_etcd *etcd, vdc_mono when);
/* The channel to the current endpoint. */
grpc_channel *vdc_etcd_channel(struct vdc_etcd *etcd);
/* The `hasleader` metadata: a member that is cut off from the majority then ends streams and refuses
 * calls instead of looking healthy. */
const grpc_metadata *vdc_etcd_metadata(void);
/* How an attempt or stream of `generation` ended; moves to the next endpoint where that is due. */
void vdc_etcd_report(struct vdc_etcd *etcd, uint64_t generation, vdc_mono sent,
                     struct vdc_etcd_outcome outcome, const char *detail);
/* Sends what waits, opens watches, as far as the route allows. Calls no user. */
void vdc_etcd_pump(struct vdc_etcd *etcd);

/* ---- call.c ---- */

struct vdc_etcd_call;

struct vdc_etcd_call_end {
    struct vdc_etcd_outcome outcome;
    const char *detail; /* "" for none */
    const void *answer; /* of OK */
    size_t answer_len;
    vdc_mono sent;
    const char *endpoint;
};

typedef void (*vdc_etcd_call_cb)(void *data, const struct vdc_etcd_call_end *end);

/* Starts a unary call; cb comes exactly once, later; the call is freed after it. `body` is copied. */
struct vdc_etcd_call *vdc_etcd_call_start(struct vdc_etcd *etcd, const char *method,
                                          const void *body, size_t len, int64_t timeout_ms,
                                          vdc_etcd_call_cb cb, void *data);
void vdc_etcd_call_cancel(struct vdc_etcd_call *call);

/* ---- request.c ---- */

#define VDC_ETCD_METHOD_TXN "/etcdserverpb.KV/Txn"
#define VDC_ETCD_METHOD_GRANT "/etcdserverpb.Lease/LeaseGrant"
#define VDC_ETCD_METHOD_REVOKE "/etcdserverpb.Lease/LeaseRevoke"
#define VDC_ETCD_METHOD_KEEPALIVE "/etcdserverpb.Lease/LeaseKeepAlive"
#define VDC_ETCD_METHOD_WATCH "/etcdserverpb.Watch/Watch"

struct vdc_etcd_request_end {
    enum vdc_rc rc;
    const void *answer; /* of OK */
    size_t answer_len;
    vdc_mono sent;    /* of OK: when the attempt that was answered was sent */
    bool may_be_done; /* the last attempt's answer was lost */
    const struct vdc_err *err;
};

/* What a kind of request does; the functions get the request's `data`. */
struct vdc_etcd_request_kind {
    const char *method;
    const char *what; /* for texts: "etcd WHAT at HOST: reason" */
    bool idempotent;  /* a lost attempt is simply tried again */
    bool urgent;      /* goes before others and beyond VDC_ETCD_IN_FLIGHT_MAX */
    /* May be NULL: makes request->body for the attempt to come. */
    void (*prepare)(struct vdc_etcd_request *request);
    /* The outcome. True: finished, to be freed. False: it was queued again. */
    bool (*done)(struct vdc_etcd_request *request, const struct vdc_etcd_request_end *end);
    /* Frees what the kind has put around the request, and the request. */
    void (*destroy)(struct vdc_etcd_request *request);
};

struct vdc_etcd_request {
    uint32_t magic;
    struct vdc_etcd *etcd;
    const struct vdc_etcd_request_kind *kind;
    struct vdc_buf body;
    int64_t attempt_timeout_ms;
    vdc_mono deadline;          /* VDC_NEVER: until there is an outcome */
    vdc_mono not_before;        /* of the next attempt */
    uint32_t failures;          /* attempts without an outcome */
    struct vdc_etcd_call *call; /* in flight, else NULL */
    bool cancelled;
    bool settled; /* nothing to send: done with OK from the timer */
    struct vdc_err last;
    struct vdc_etcd_request *prev;
    struct vdc_etcd_request *next;
};

/* LIMIT when too many are under way. Always to be asked before a request of the user is made. */
enum vdc_rc vdc_etcd_request_room(const struct vdc_etcd *etcd);
void vdc_etcd_request_init(struct vdc_etcd_request *request, struct vdc_etcd *etcd,
                           const struct vdc_etcd_request_kind *kind, vdc_mono deadline);
void vdc_etcd_request_deinit(struct vdc_etcd_request *request);
/* Puts it to the waiting ones and sends it if there is room. Also from `done`, which then returns
 * false. */
void vdc_etcd_request_queue(struct vdc_etcd_request *request);
/* The instant request_timeout_ms from now. */
vdc_mono vdc_etcd_request_deadline(const struct vdc_etcd *etcd);
void vdc_etcd_requests_send(struct vdc_etcd *etcd);
/* Ends those that are cancelled, settled or late; from the timer. */
void vdc_etcd_requests_expire(struct vdc_etcd *etcd, vdc_mono now);
/* When the next one is late, or may be sent. */
vdc_mono vdc_etcd_requests_due(const struct vdc_etcd *etcd);

/* ---- write.c ---- */

void vdc_etcd_guards_free(struct vdc_etcd *etcd);

/* ---- watch.c ---- */

void vdc_etcd_watches_open(struct vdc_etcd *etcd);
/* Ends the streams of earlier generations; their watches open again on the new channel. */
void vdc_etcd_watches_move(struct vdc_etcd *etcd);
vdc_mono vdc_etcd_watches_due(const struct vdc_etcd *etcd);

/* ---- lease.c ---- */

/* Sends keep-alives that are due and ends leases that have lapsed; from the timer. */
void vdc_etcd_leases_run(struct vdc_etcd *etcd, vdc_mono now);
vdc_mono vdc_etcd_leases_due(const struct vdc_etcd *etcd);
void vdc_etcd_leases_drop(struct vdc_etcd *etcd);

#endif
