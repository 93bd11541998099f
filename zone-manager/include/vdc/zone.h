/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The leader of one zone: pure core. It is created when this manager wins the zone's leadership, is
 * given all of the zone's records, then learns of nodes, their messages, finished writes, API requests
 * and time by events, and answers each with an update: what to write to etcd, what to send to which
 * node, which request to answer. It is thrown away when leadership is lost; its successor resumes every
 * operation from the records alone.
 *
 * Called from the loop thread only. No clock, socket, file or random source: events carry `now`, the
 * seed comes with the configuration.
 *
 * The driver carries an update out in this order:
 *   1. writes: each is one guarded etcd transaction (vdc_etcd_write); they may be under way side by
 *      side, but two that touch one key go in order. Each outcome comes back as an event;
 *   2. sends, in order;
 *   3. answers to requests;
 *   4. trace lines; 5. arm one timer for vdc_zone_deadline().
 * Whatever a node or client must not see before it is durable is sent in the update of the WRITTEN
 * event, not before: the core takes care of that.
 */
#ifndef VDC_ZONE_H
#define VDC_ZONE_H

#include <vdc/allocdb.h>
#include <vdc/msg.h>
#include <vdc/policy.h>
#include <vdc/record.h>
#include <vdc/time.h>
#include <vdc/trace.h>

struct vdc_zone;

struct vdc_zone_config {
    const char *zone;
    const char *manager; /* this manager's name */
    uint64_t epoch;      /* create_revision of leaders/ZONE */
    uint64_t seed;       /* of ids and jitter */
    vdc_mono now;        /* when leadership began: leases of a predecessor may run until now + T */
};

/* Everything a client may ask that changes something or needs a node's answer. Reading is done by the
 * readers below. */
enum vdc_zone_request_kind {
    VDC_REQUEST_CREATE,
    VDC_REQUEST_START,
    VDC_REQUEST_STOP,
    VDC_REQUEST_DESTROY,
    VDC_REQUEST_MIGRATE,
    VDC_REQUEST_APPLY_POLICY,
    VDC_REQUEST_CONSOLE,
};

struct vdc_zone_request {
    uint64_t token; /* the driver's; comes back with the answer, exactly once */
    enum vdc_zone_request_kind kind;
    char request_key[VDC_REQUEST_KEY_CAP]; /* "" = none */
    uint8_t body_digest[32];
    char user[VDC_NAME_CAP];
    struct vdc_partition_spec spec; /* CREATE */
    char partition[VDC_NAME_CAP];   /* others: name, or id as text (36 bytes fit) */
    char target[VDC_NAME_CAP];      /* MIGRATE: node, "" = policy chooses */
    uint64_t offset;                /* CONSOLE */
    uint32_t max;
    const char *policy_text;   /* APPLY_POLICY: as applied (stored), and ... */
    struct vdc_policy *policy; /* ... as built; ownership passes to the core */
};

enum vdc_zone_event_kind {
    /* Loading: any number of records, in any order, then LOADED. Nothing else comes before LOADED. */
    VDC_ZONE_LOAD_ZONE,
    VDC_ZONE_LOAD_POLICY, /* the one in force: text and built form */
    VDC_ZONE_LOAD_NODE,
    VDC_ZONE_LOAD_PARTITION,
    VDC_ZONE_LOAD_OPERATION,
    VDC_ZONE_LOADED,
    VDC_ZONE_LEADING_UNTIL, /* the store lease was confirmed: leadership holds until `until` at least */
    VDC_ZONE_WRITTEN, /* a write is durable (rc OK) or leadership was lost (STALE: the core only
                               waits to be destroyed) */
    VDC_ZONE_NODE_UP, /* a session began: its HELLO */
    VDC_ZONE_NODE_MSG,
    VDC_ZONE_NODE_DOWN,
    VDC_ZONE_REQUEST,
    VDC_ZONE_TICK, /* the deadline was reached */
};

struct vdc_zone_event {
    enum vdc_zone_event_kind kind;
    vdc_mono now;
    vdc_wall wall;        /* for records' times only */
    int64_t last_step_ns; /* CPU time that the previous step took, as the driver measured it; 0: not
                             measured. It becomes placement_ns of what that step placed. */
    union {
        const struct vdc_zone_record *zone;
        struct {
            const struct vdc_policy_record *record;
            struct vdc_policy *built; /* ownership passes */
        } policy;
        const struct vdc_node_record *node;           /* copied */
        const struct vdc_partition_record *partition; /* copied */
        const struct vdc_operation_record *operation; /* copied */
        vdc_mono until;
        struct {
            uint64_t write;
            enum vdc_rc rc;
        } written;
        struct {
            uint64_t session;
            const struct vdc_msg *msg; /* NODE_UP: HELLO; NODE_DOWN: NULL */
        } session;
        const struct vdc_zone_request *request;
    };
};

struct vdc_zone_put {
    char key[VDC_KEY_CAP];
    struct vdc_buf value; /* value.data == NULL: delete the key */
};

/* Puts of one write: all or nothing. A batch of creates stays below etcd's 128. */
#define VDC_ZONE_PUTS_MAX 100

struct vdc_zone_write {
    uint64_t id;
    struct vdc_zone_put *puts;
    size_t puts_len;
};

struct vdc_zone_send {
    uint64_t session;
    struct vdc_msg msg; /* vdc_msg_deinit() is the core's */
};

struct vdc_zone_answer {
    uint64_t token;
    enum vdc_rc rc;
    char text[VDC_ERR_TEXT_MAX]; /* for rc != OK */
    bool has_operation;          /* accepted (or known): durable before this answer */
    struct vdc_id operation;
    bool repeated;       /* the request key was known: this is the first answer again */
    struct vdc_buf data; /* CONSOLE */
    uint64_t data_offset;
    uint64_t data_end;
};

/* Lives in the core until the next step. */
struct vdc_zone_update {
    struct vdc_zone_write *writes;
    size_t writes_len;
    struct vdc_zone_send *sends;
    size_t sends_len;
    struct vdc_zone_answer *answers;
    size_t answers_len;
    struct vdc_trace trace; /* the driver takes the lines out */
};

struct vdc_zone *vdc_zone_create(const struct vdc_zone_config *config);
void vdc_zone_destroy(struct vdc_zone *zone);
/* Never fails: bad input is answered, a broken invariant asserts. */
struct vdc_zone_update *vdc_zone_step(struct vdc_zone *zone, const struct vdc_zone_event *event);
vdc_mono vdc_zone_deadline(const struct vdc_zone *zone);

/* Readers: borrowed until the next step. Orders are by name (partitions, nodes) or newest first
 * (operations), stable, with a cursor: start after the named one. */
struct vdc_zone_node_info {
    const struct vdc_node_record *record;
    enum vdc_node_state state; /* as seen, with SILENT */
    bool connected;
    vdc_mono lease_until;              /* by this manager's clock; the latest the node can think */
    const struct vdc_allocdb *replica; /* NULL until it is loaded */
    uint64_t replica_sequence;
    bool replica_equal;  /* digest compared equal at the last heartbeat */
    size_t partitions;   /* owned */
    bool usable;         /* takes new partitions; else: */
    const char *why_not; /* "silent", "no session"; static */
};
struct vdc_zone_partition_info {
    const struct vdc_partition_record *record;
    bool seen; /* the owner reported `guest` for the present generation */
    struct vdc_msg_guest guest;
};
bool vdc_zone_is_loaded(const struct vdc_zone *zone);
const struct vdc_policy *vdc_zone_policy(const struct vdc_zone *zone);
const struct vdc_policy_record *vdc_zone_policy_record(const struct vdc_zone *zone);
/* The first node with a name greater than `after` ("" = first); false at the end. */
bool vdc_zone_node_next(const struct vdc_zone *zone, const char *after,
                        struct vdc_zone_node_info *info);
bool vdc_zone_node_find(const struct vdc_zone *zone, const char *name,
                        struct vdc_zone_node_info *info);
bool vdc_zone_partition_next(const struct vdc_zone *zone, const char *after,
                             struct vdc_zone_partition_info *info);
/* By name or id text. */
bool vdc_zone_partition_find(const struct vdc_zone *zone, const char *name,
                             struct vdc_zone_partition_info *info);
const struct vdc_operation_record *vdc_zone_operation_find(const struct vdc_zone *zone,
                                                           const struct vdc_id *id);
/* Newest first; after == NULL: the newest. NULL at the end. */
const struct vdc_operation_record *vdc_zone_operation_next(const struct vdc_zone *zone,
                                                           const struct vdc_id *after);

#endif
