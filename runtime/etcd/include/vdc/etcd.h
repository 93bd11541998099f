/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of etcd v3 (3.4 and later) for zone managers: transactions, writes guarded by a
 * leadership key, listing, watches that resume without loss, leases. Over gRPC's C core; nothing of
 * gRPC or protobuf shows here. It leaves out everything the project does not need (nested
 * transactions, authentication by password, snapshots, maintenance).
 *
 * Threads: every function is called from the loop's thread and every callback runs there, never
 * from inside a function of this header. Inside there is one thread that waits for gRPC.
 *
 * Keys and values going in are borrowed for the call. What a callback is given is borrowed until it
 * returns. Keys and values coming out have a NUL behind their length, so text may be used as such.
 *
 * Endpoints are used one at a time, in the order given; the client stays with one until it fails
 * and then takes the next, watches and keep-alives included. An endpoint has failed when it cannot
 * be reached, when it answers that it has no leader, or when a whole attempt_timeout_ms passed in
 * which it answered nothing at all (a frozen peer, which gRPC alone sees only after 7 s). When all
 * of them have failed in a row there is a pause, growing to VDC_ETCD_BACKOFF_MAX_MS.
 *
 *   open -> txn, write, list, watch, lease ... -> close -> on_closed
 */
#ifndef VDC_ETCD_H
#define VDC_ETCD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include <vdc/err.h>
#include <vdc/time.h>
#include <vdc/trace.h>

/* Members of one cluster: etcd's own advice ends at 7. */
#define VDC_ETCD_ENDPOINTS_MAX 9
/* Bytes of "host:port": a DNS name and a port. */
#define VDC_ETCD_ENDPOINT_MAX 260
/* Operations in one list of a transaction, and its compares: etcd's --max-txn-ops. */
#define VDC_ETCD_OPS_MAX 128
/* Operations of one guarded write: two places are kept for its own fence and for later needs. */
#define VDC_ETCD_WRITE_OPS_MAX 126
/* Bytes of a key: longest path of ours (prefix, zone, kind, name, id) with room. */
#define VDC_ETCD_KEY_MAX 1024
/* Encoded bytes of one transaction: etcd's --max-request-bytes (1.5 MiB) less its own envelope. */
#define VDC_ETCD_REQUEST_MAX (1536 * 1024 - 4096)
/* Bytes of one answer: a full page of the largest values would be more, none of ours comes near. */
#define VDC_ETCD_ANSWER_MAX (128 * 1024 * 1024)
/* Requests that have not had their callback: memory, and 16 times what keeps etcd busy (measured).
 */
#define VDC_ETCD_REQUESTS_MAX 4096
/* Requests on the wire; the rest waits its turn. Beyond 256 etcd gets no faster (measured). */
#define VDC_ETCD_IN_FLIGHT_MAX 256
/* Keys of one page of a list. */
#define VDC_ETCD_PAGE_KEYS 500
/* Watches and leases of one client: a few for each zone a manager leads. */
#define VDC_ETCD_WATCHES_MAX 64
#define VDC_ETCD_LEASES_MAX 64
/* Longest pause between two rounds over the endpoints, in ms: a third of the shortest useful TTL.
 */
#define VDC_ETCD_BACKOFF_MAX_MS 1000

struct vdc_etcd;

struct vdc_etcd_config {
    const char *const *endpoints; /* "host:port", "1.2.3.4:2379", "[::1]:2379" */
    size_t endpoint_count;        /* 1 <= count <= VDC_ETCD_ENDPOINTS_MAX */
    const char *ca_path;          /* PEM; NULL: no TLS, and then the next two are NULL too */
    const char *cert_path;        /* PEM, or NULL: no client certificate */
    const char *key_path;         /* PEM; given if and only if cert_path is */
    const char *authority;        /* the name every member's certificate has; NULL: its host */
    uint32_t attempt_timeout_ms;  /* one attempt at one endpoint; 0: 2000 */
    uint32_t request_timeout_ms;  /* a request with all its attempts; 0: 6000 */
    uint64_t seed;                /* of the jitter in pauses */
    /* Trace lines ("a fact -> a decision") for the log; may be NULL. */
    void (*on_trace)(void *data, enum vdc_level level, const char *line);
    void *data;
};

/* Starts the client; nothing is sent until something is asked for. Reads the TLS files. INVALID,
 * NOT_FOUND, FORBIDDEN, IO. The strings of config are copied. */
enum vdc_rc vdc_etcd_open(uv_loop_t *loop, const struct vdc_etcd_config *config,
                          struct vdc_etcd **out, struct vdc_err *err) VDC_MUST_USE;

/* Ends everything: requests get their callback with CANCELLED, watches and leases end silently (a
 * lease runs out by itself; revoke it before if its keys should go at once), then on_closed. Their
 * handles are gone once this returns. NULL is allowed and calls nothing. */
void vdc_etcd_close(struct vdc_etcd *etcd, void (*on_closed)(void *data), void *data);

/* The endpoint in use, for `show`. Valid until close. */
const char *vdc_etcd_endpoint(const struct vdc_etcd *etcd);

/* ---- Transactions ---- */

struct vdc_etcd_kv {
    const char *key; /* NUL behind key_len */
    size_t key_len;
    const char *value; /* NUL behind value_len; never NULL */
    size_t value_len;
    int64_t create_revision; /* 0 < create_revision <= mod_revision; 0 in a delete event */
    int64_t mod_revision;
    int64_t version; /* puts since it was created; 0 in a delete event */
    int64_t lease;   /* 0: none */
};

enum vdc_etcd_target {
    VDC_ETCD_CREATE_REVISION, /* number; an absent key has 0 */
    VDC_ETCD_MOD_REVISION,    /* number; an absent key has 0 */
    VDC_ETCD_VERSION,         /* number; an absent key has 0 */
    VDC_ETCD_VALUE            /* value, value_len; never true for an absent key */
};

enum vdc_etcd_relation { VDC_ETCD_EQUAL, VDC_ETCD_GREATER, VDC_ETCD_LESS, VDC_ETCD_NOT_EQUAL };

/* "the key's target stands in this relation to number or value". */
struct vdc_etcd_compare {
    const char *key;
    enum vdc_etcd_target target;
    enum vdc_etcd_relation relation;
    int64_t number;
    const void *value;
    size_t value_len;
};

enum vdc_etcd_op_kind {
    VDC_ETCD_PUT,           /* key, value, value_len, lease */
    VDC_ETCD_DELETE,        /* key */
    VDC_ETCD_DELETE_PREFIX, /* key is the prefix, not empty */
    VDC_ETCD_GET,           /* key */
    VDC_ETCD_GET_PREFIX     /* key is the prefix ("" for everything), limit */
};

struct vdc_etcd_op {
    enum vdc_etcd_op_kind kind;
    const char *key;
    const void *value; /* may be NULL when value_len is 0 */
    size_t value_len;
    int64_t lease; /* 0: none */
    int64_t limit; /* keys; 0: all */
};

/* All operations of `then` when every compare holds (none: always), else all of `otherwise`. */
struct vdc_etcd_txn {
    const struct vdc_etcd_compare *compares;
    size_t compare_count;
    const struct vdc_etcd_op *then;
    size_t then_count;
    const struct vdc_etcd_op *otherwise;
    size_t otherwise_count;
};

struct vdc_etcd_answer {
    enum vdc_etcd_op_kind kind; /* GET or GET_PREFIX: GET; DELETE*: DELETE; PUT */
    const struct vdc_etcd_kv *kvs;
    size_t kv_count; /* of a get, in the order of keys; <= total */
    int64_t total;   /* keys in the range of a get, whatever the limit; keys deleted by a delete */
};

struct vdc_etcd_result {
    bool succeeded;   /* `then` was done */
    int64_t revision; /* the store's, after the transaction */
    const struct vdc_etcd_answer *answers;
    size_t answer_count; /* one for each operation that was done, in their order */
};

/* A request under way; valid until its callback has been called. */
struct vdc_etcd_request;

/*
 * rc: OK with `result`; else result is NULL and err says why:
 *   UNAVAILABLE, TIMEOUT   nothing was done, request_timeout_ms is over
 *   UNKNOWN_OUTCOME        a transaction that writes may have been done, now or even a little later
 *   INVALID                etcd refused it (two puts of one key, ...)
 *   NOT_FOUND              a put names a lease that is no more
 *   TOO_LARGE, LIMIT       larger than etcd is configured to take
 *   NO_SPACE               etcd's quota is used up (an operator must compact and defragment)
 *   FORBIDDEN, UNAUTHENTICATED, CORRUPT, PROTOCOL, CANCELLED
 */
typedef void (*vdc_etcd_txn_cb)(void *data, enum vdc_rc rc, const struct vdc_etcd_result *result,
                                const struct vdc_err *err);

/*
 * Sends a transaction. A read (gets only), and a write that certainly has not reached etcd, is
 * tried again on the next endpoint until request_timeout_ms is over. A write that may have reached
 * it is not: it ends as UNKNOWN_OUTCOME. `request` (may be NULL) is for vdc_etcd_cancel. INVALID (a
 * key is empty or longer than VDC_ETCD_KEY_MAX, ...), LIMIT (too many operations, or too many
 * requests), TOO_LARGE: at once, and then there is no callback.
 */
enum vdc_rc vdc_etcd_txn(struct vdc_etcd *etcd, const struct vdc_etcd_txn *txn, vdc_etcd_txn_cb cb,
                         void *data, struct vdc_etcd_request **request) VDC_MUST_USE;

/* Gives a request up; its callback comes soon, with CANCELLED unless its answer was already there.
 * What it asked for may be done nevertheless. */
void vdc_etcd_cancel(struct vdc_etcd_request *request);

/* ---- Guarded writes: how a zone's leader writes ---- */

/* "I lead as long as this key is the one I created." */
struct vdc_etcd_guard {
    const char *key;         /* the leadership key */
    int64_t create_revision; /* as it was when the leader created it, > 0 */
};

/* Behind the guard's key this makes the key of its fence. */
#define VDC_ETCD_FENCE_SUFFIX "/fence"

/* rc: OK with the revision of the write; STALE: the guard no longer holds and the last attempt did
 * nothing (an attempt before it whose answer was lost may have); CANCELLED; the refusals of
 * vdc_etcd_txn_cb. Never UNAVAILABLE, TIMEOUT or UNKNOWN_OUTCOME. */
typedef void (*vdc_etcd_write_cb)(void *data, enum vdc_rc rc, int64_t revision,
                                  const struct vdc_err *err);

/*
 * Does all of `ops` (puts and deletes) in one transaction if the guard holds, and goes on trying
 * until it knows whether it did: for as long as etcd is away, or until the caller cancels.
 *
 * Trying again is safe because the guard makes this manager the only writer and because an attempt
 * whose answer was lost can do nothing once a later one has succeeded: each attempt also requires
 * that the fence (a key beside the guard) has the revision that it knew when it was sent, and the
 * attempt after a lost one moves the fence. Without that, a transaction stuck in a frozen member
 * could overwrite newer ones of the same leader when it thaws.
 *
 * Writes do not wait for each other: do not have two under way for one key. Nobody else may write or
 * delete the fence while the guard is held. Codes as vdc_etcd_txn;
 * LIMIT above VDC_ETCD_WRITE_OPS_MAX (split it where it means something), INVALID for gets.
 */
enum vdc_rc vdc_etcd_write(struct vdc_etcd *etcd, const struct vdc_etcd_guard *guard,
                           const struct vdc_etcd_op *ops, size_t op_count, vdc_etcd_write_cb cb,
                           void *data, struct vdc_etcd_request **request) VDC_MUST_USE;

/* ---- Lists ---- */

/*
 * Called for each page, `more` true, then once with the last page and `more` false; `revision` is
 * the same in all: together they are the prefix as it was at that revision, and a watch from
 * revision + 1 continues it. On failure rc is not OK, more is false and there are no keys: STALE
 * (the revision was compacted away in between: list again), UNAVAILABLE, TIMEOUT, CANCELLED, ...
 */
typedef void (*vdc_etcd_list_cb)(void *data, enum vdc_rc rc, const struct vdc_etcd_kv *kvs,
                                 size_t count, int64_t revision, bool more,
                                 const struct vdc_err *err);

/* Reads all keys under a prefix ("" for all), in the order of keys, VDC_ETCD_PAGE_KEYS at a time;
 * each page has request_timeout_ms. `request` as for vdc_etcd_txn, valid until more is false. */
enum vdc_rc vdc_etcd_list(struct vdc_etcd *etcd, const char *prefix, vdc_etcd_list_cb cb,
                          void *data, struct vdc_etcd_request **request) VDC_MUST_USE;

/* ---- Watches ---- */

struct vdc_etcd_watch;

struct vdc_etcd_event {
    bool deleted;          /* else put */
    struct vdc_etcd_kv kv; /* of a delete: key and mod_revision only */
};

struct vdc_etcd_watch_calls {
    /* Changes, each once, in the order of revisions, none left out, through reconnects and over
     * members. Changes of one transaction have one mod_revision; they may come in two calls. */
    void (*on_events)(void *data, const struct vdc_etcd_event *events, size_t count);
    /* What comes next in the history has been compacted away: nothing more will come. The owner
     * closes this watch, lists again and watches from there. */
    void (*on_compacted)(void *data, int64_t compact_revision);
};

/* Watches all keys under a prefix ("" for all) from `from_revision` on (a list's revision + 1; >=
 * 1). INVALID, LIMIT. A watch event and the answer to the transaction that caused it come in any
 * order. */
enum vdc_rc vdc_etcd_watch_open(struct vdc_etcd *etcd, const char *prefix, int64_t from_revision,
                                const struct vdc_etcd_watch_calls *calls, void *data,
                                struct vdc_etcd_watch **out) VDC_MUST_USE;

/* The first revision that has not been delivered in full: where a new watch would continue. */
int64_t vdc_etcd_watch_revision(const struct vdc_etcd_watch *watch);

/* No callback comes after this; the handle is gone. NULL is allowed. */
void vdc_etcd_watch_close(struct vdc_etcd_watch *watch);

/* ---- Leases ---- */

struct vdc_etcd_lease;

struct vdc_etcd_lease_calls {
    /* The lease was granted (the first call) or a keep-alive confirmed. `sent` is the instant at
     * which the confirmed request was sent: the lease certainly holds until sent + ttl_ms. */
    void (*on_renewed)(void *data, int64_t lease_id, vdc_mono sent, int64_t ttl_ms);
    /* Once, the last call: it can no longer be relied on. NOT_FOUND: etcd said that it has run out
     * or was revoked; TIMEOUT: the last confirmed sent + ttl has passed (its keys may still be
     * there for a while; the client tries to revoke it). Other codes: it could not be granted. The
     * owner closes the handle and may ask for a new one. */
    void (*on_lost)(void *data, enum vdc_rc rc, const struct vdc_err *err);
};

/* Asks for a lease of ttl_s seconds (1..86400; etcd gives no less than 1.5 of its election
 * timeouts, about 2 s, so use what on_renewed says), until it is granted or closed, and keeps it
 * alive each ttl/3. LIMIT, INVALID. */
enum vdc_rc vdc_etcd_lease_open(struct vdc_etcd *etcd, int64_t ttl_s,
                                const struct vdc_etcd_lease_calls *calls, void *data,
                                struct vdc_etcd_lease **out) VDC_MUST_USE;

/* 0 until granted. */
int64_t vdc_etcd_lease_id(const struct vdc_etcd_lease *lease);

/* Ends the keep-alives and revokes the lease, and with it its keys; on_done (may be NULL) comes
 * when etcd has answered, or with TIMEOUT, UNAVAILABLE after request_timeout_ms: then it runs out.
 * A lease that was never granted or is lost gives OK. No callback of the lease itself comes after
 * this; the handle is gone. NULL is allowed and calls nothing. */
void vdc_etcd_lease_close(struct vdc_etcd_lease *lease, void (*on_done)(void *data, enum vdc_rc rc),
                          void *data);

#endif
