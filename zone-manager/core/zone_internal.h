/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the zone manager's core. How it works: an event only notes facts (a message, a finished
 * write, a passed deadline) and marks the nodes and operations that they concern; zone_settle() then
 * lets each marked one look at everything that is known *now* and take its next step. No step waits
 * for a particular message, so a new leader that has read the records and heard the nodes is in the
 * same position as the one that began.
 *
 *   zone.c      life, loading, events, settling, readers
 *   store.c     writes and what waits for them
 *   nodes.c     membership, sessions, incarnations, leases, fencing
 *   replica.c   what nodes hold and run; reconcile.c what they should
 *   calls.c     transactions and commands to nodes with repeatable request ids
 *   create.c    the transaction that brings a partition to a node; choice.c names its resources
 *   place.c     the snapshot for the policy engine, and placements
 *   requests.c  what clients ask
 *   op.c        what all operations share; op_run.c, op_stop.c, op_migrate.c their tables
 */
#ifndef VDC_ZONE_INTERNAL_H
#define VDC_ZONE_INTERNAL_H

#include <string.h>

#include <uthash.h>

#include <vdc/base.h>
#include <vdc/sm.h>
#include <vdc/zone.h>
#include <vdc/zone_choice.h>
#include <vdc/zone_lease.h>

/* A guest that must start (or stop) has this long until its operation fails; the partition stays as
 * desired and the node goes on trying. A loaded two-CPU machine boots three guests under TCG in 40 s. */
#define ZONE_START_TIMEOUT_NS (180 * VDC_SECOND)
#define ZONE_STOP_TIMEOUT_NS (120 * VDC_SECOND)
/* A volume that a node could not delete (a busy or hung storage) is tried again after this. */
#define ZONE_VOLUME_RETRY_NS (5 * VDC_SECOND)
/* A new leader's nodes join within milliseconds, those that have to dial again within seconds. Before
 * that it refuses nothing for want of a node; after it, a node that is not back counts as away. */
#define ZONE_SETTLE_NS (10 * VDC_SECOND)
/* Nodes that refuse one placement, one after the other: the replica is exact, so already a second
 * refusal means that something is wrong. */
#define ZONE_PLACE_ATTEMPTS_MAX 5
/* A placement that found no node is tried again when something changed, and this often. */
#define ZONE_PLACE_RETRY_NS (5 * VDC_SECOND)
/* The guest stands still from the switch-over on: longer than this and it goes on at the source. */
#define ZONE_SWITCHOVER_TIMEOUT_NS (10 * VDC_SECOND)
/* After a change of leader, both ends of a migration have this long to report. */
#define ZONE_RESUME_WAIT_NS (10 * VDC_SECOND)
/* An abort waits this long for a source that does not say what its guest does. */
#define ZONE_ABORT_TIMEOUT_NS (30 * VDC_SECOND)
#define ZONE_CONSOLE_TIMEOUT_NS (10 * VDC_SECOND)
/* Console reads under way at once: one screen of a page of partitions. */
#define ZONE_CONSOLES_MAX 256
/* Nodes fenced within this time count for the storm brake as long as they have not come back. */
#define ZONE_STORM_WINDOW_NS (60 * VDC_SECOND)
/* How often a braked zone looks again without being told anything. */
#define ZONE_STORM_RECHECK_NS (1 * VDC_SECOND)
/* A node's session may be away for so long before its migrations are given up: both QEMUs go on by
 * themselves, and an agent that is started again or a link that blinks is back within a second or two. */
#define ZONE_LINK_GRACE_NS (5 * VDC_SECOND)
/* A node that refused to be brought into line (its disk is full, say) is asked again after this. */
#define ZONE_REPAIR_RETRY_NS (10 * VDC_SECOND)
/* From a repair that was done to the next look: by then the guest has said what it does now. */
#define ZONE_REPAIR_NEXT_NS (1 * VDC_SECOND)
/* Heartbeats in a row that name a sequence beyond the replica's before it is read anew: records are
 * under way for milliseconds, heartbeats come every T/4. */
#define ZONE_REPLICA_BEHIND_MAX 8
/* Finished operations kept for answers to repeated requests and for people. */
#define ZONE_OPERATIONS_KEPT 1000
/* Clients that wait for one write of one operation: repeated requests. */
#define ZONE_WAITERS_MAX 64
/* Longest pause that the grace between pausing and killing a guest takes. */
#define ZONE_GRACE_MAX_NS (2 * VDC_SECOND)

struct zone_node;
struct zone_op;
struct zone_partition;

enum call_state { CALL_NONE, CALL_SENT, CALL_OK, CALL_REFUSED };

/* One transaction or command to one node. Its request id is made from the operation's, so that a new
 * leader that repeats it asks for the same thing; see calls.c. */
struct zone_call {
    UT_hash_handle hh; /* in zone->calls by id, while SENT */
    struct vdc_id id;
    enum call_state state;
    struct zone_op *op; /* exactly one of these two */
    struct zone_node *node;
    uint64_t session; /* that it was sent on last */
    uint64_t sequence;
    uint16_t port;
    enum vdc_rc rc;
    char rule[VDC_NAME_CAP];
    char text[VDC_MSG_TEXT_CAP];
};

struct guest_key {
    struct vdc_id partition;
    uint64_t generation;
};

struct zone_guest {
    UT_hash_handle hh;
    struct guest_key key;
    bool heard; /* since the session began */
    struct vdc_msg_guest msg;
};

/* What the node is told to bring it into line with the records, beside all operations: to give a
 * partition up, or to run or stop one that it owns. The transaction is under way. */
struct zone_repair {
    UT_hash_handle hh;
    struct guest_key key;
    struct zone_call call;
};

struct zone_node {
    struct vdc_node_record rec;
    enum vdc_node_state state; /* as seen: with SILENT; the record has READY then */
    uint64_t write;            /* under way, 0: none */
    bool dirty;
    bool lost_handled;  /* FENCED and durable: its partitions were looked at */
    bool stray_noted;   /* trace once: connected in another incarnation, or no member */
    bool rec_changed;   /* the HELLO says other things than the record */
    bool reconcile;     /* compare what it holds with what it should */
    vdc_mono repair_at; /* when to compare again after a refusal; VDC_NEVER: nothing was refused */
    vdc_mono fenced_at;
    struct vdc_zone_lease lease;
    vdc_mono brake_until;

    bool connected;
    uint64_t session;
    UT_hash_handle hh_session;
    struct vdc_msg_hello hello;
    uint64_t hello_incarnation;
    bool lead_sent; /* in this session */
    bool joined;    /* ZONE_JOINED in this session with the record's incarnation */
    bool guests_complete;

    struct vdc_allocdb *replica;
    bool replica_equal;
    bool snapshot_asked;
    struct vdc_buf snapshot;
    uint32_t behind;
    struct zone_call zone_set;
    struct vdc_policy_share share_asked; /* by zone_set */
    uint64_t overcommit_asked;
    bool usable; /* at the last look: a change wakes placements that wait */

    struct zone_guest *guests;
    struct zone_repair *repairs;
};

enum op_slot {
    SLOT_TARGET, /* target: create, or set-run */
    SLOT_RESET,  /* owner: set-run stopped before it is started again */
    SLOT_RUN,    /* migration target: activate */
    SLOT_DROP,   /* source after the move, or target after an abort, or destroy */
    SLOT_LEAVE,  /* migration source: set-run leaving, before the stream begins */
    SLOT_STAY,   /* migration source: set-run running, after an abort */
    SLOT_IN,     /* command migrate_in */
    SLOT_OUT,    /* command migrate_out */
    SLOT_CONTINUE,
    SLOT_CANCEL,
    SLOT_VOLUME, /* any node: command volume_delete */
    SLOT_COUNT,
};

/* What an operation under way needs beyond its record. */
struct op_work {
    struct zone_call calls[SLOT_COUNT];
    struct vdc_zone_choice choice; /* of the create that is under way in SLOT_TARGET */
    vdc_mono step_began;
    vdc_mono deadline; /* of the step or the whole, see op_*.c */
    vdc_mono retry_at;
    uint64_t tried; /* the state's generation when a placement found no room */
    bool resumed;   /* begun by another leader, and not yet understood */
    uint32_t attempts;
    char excluded[ZONE_PLACE_ATTEMPTS_MAX][VDC_NAME_CAP];
    size_t excluded_len;
    uint64_t source_stopped_ns;
    uint64_t source_downtime_ns;
    vdc_mono away_since; /* migration: one of its nodes has no session; VDC_NEVER: both have */
    bool streamed;       /* migration: the source was seen on its way */
};

struct zone_op {
    struct vdc_operation_record rec;
    /* As it is durable: what readers get. Its texts are the record's, or NULL while those change. */
    struct vdc_operation_record shown;
    UT_hash_handle hh;     /* by id */
    UT_hash_handle hh_key; /* by request key */
    bool durable;          /* its first write is */
    uint64_t write;        /* under way, 0: none */
    bool dirty;
    int step;
    struct op_work *work; /* NULL once it is finished and durable */
    struct zone_op *active_prev, *active_next;
    struct zone_partition *partition;
    uint64_t *waiters; /* tokens to be answered when it is durable; first: the one that made it */
    size_t waiters_len, waiters_cap;
    bool first_answered;
};

struct zone_partition {
    struct vdc_partition_record rec;
    UT_hash_handle hh; /* by id */
    bool durable;
    bool deleted; /* the write that deletes it is under way */
    struct zone_op *op;
};

struct zone_pending {
    uint64_t id;
    UT_hash_handle hh;
    struct zone_op *op;
    struct zone_node *node;
};

struct zone_console {
    UT_hash_handle hh;
    struct vdc_id id;
    uint64_t token;
    uint64_t session;
    vdc_mono deadline;
};

struct vdc_zone {
    char name[VDC_NAME_CAP];
    char manager[VDC_NAME_CAP];
    uint64_t epoch;
    struct vdc_prng prng;
    vdc_mono began;
    vdc_mono now;
    vdc_wall wall;
    bool loaded;
    bool stale; /* leadership was lost: does nothing more */
    vdc_mono leading_until;
    uint64_t generation; /* of the state, counts what placements depend on */

    struct vdc_zone_record rec;
    vdc_mono lease_old_until; /* rec.lease_ns may be cleared then */
    struct vdc_policy_record policy_rec;
    struct vdc_policy *policy;
    /* Being written; in force when it is durable. */
    struct zone_op *policy_op;
    struct vdc_policy_record policy_next_rec;
    struct vdc_policy *policy_next;

    struct zone_node **nodes; /* by name */
    size_t nodes_len, nodes_cap;
    struct zone_node *sessions;
    struct zone_partition **partitions; /* by name */
    size_t partitions_len, partitions_cap;
    struct zone_partition *partitions_by_id;
    struct zone_op **ops; /* by (created_at, id), oldest first */
    size_t ops_len, ops_cap;
    struct zone_op *ops_by_id;
    struct zone_op *ops_by_key;
    struct zone_op *active;
    bool dirty;
    struct zone_call *calls;
    struct zone_pending *pending;
    struct zone_console *consoles;
    uint64_t last_write;

    struct zone_op **placed; /* operations that the last step placed: its time is theirs */
    size_t placed_len, placed_cap;

    struct vdc_zone_update update;
    size_t writes_cap, sends_cap, answers_cap;
};

#define TRACE(zone, level, ...) \
    vdc_trace_line(&(zone)->update.trace, VDC_LEVEL_##level, __VA_ARGS__)

/* zone.c */
struct zone_node *zone_find_node(const struct vdc_zone *zone, const char *name);
struct zone_node *zone_add_node(struct vdc_zone *zone, const char *name);
struct zone_partition *zone_find_partition(const struct vdc_zone *zone, const char *name);
struct zone_partition *zone_partition_by_id(const struct vdc_zone *zone, const struct vdc_id *id);
/* Takes over the record's owned texts. */
struct zone_partition *zone_add_partition(struct vdc_zone *zone,
                                          const struct vdc_partition_record *rec);
void zone_remove_partition(struct vdc_zone *zone, struct zone_partition *partition);
void zone_mark_node(struct vdc_zone *zone, struct zone_node *node);
void zone_mark_op(struct vdc_zone *zone, struct zone_op *op);
/* Operations under way that name the node as source, target or owner; NULL: all of them. */
void zone_mark_ops_of(struct vdc_zone *zone, const char *node);
/* Appends a message to the update; the union's member is the caller's to fill. */
struct vdc_msg *zone_send(struct vdc_zone *zone, uint64_t session, enum vdc_msg_kind kind);
struct vdc_zone_answer *zone_answer(struct vdc_zone *zone, uint64_t token, enum vdc_rc rc,
                                    const char *fmt, ...) VDC_PRINTF(4, 5);
/* Looks whether the partition, with no operation under way, needs one of the leader's own. */
void zone_review_partition(struct vdc_zone *zone, struct zone_partition *partition);
int64_t zone_lease_ns(const struct vdc_zone *zone);

/* store.c: begin, put what belongs together, done. */
uint64_t zone_write_begin(struct vdc_zone *zone);
void zone_write_put(struct vdc_zone *zone, const char *key, struct vdc_buf *value);
void zone_write_zone(struct vdc_zone *zone);
void zone_write_policy(struct vdc_zone *zone, const struct vdc_policy_record *rec);
void zone_write_node(struct vdc_zone *zone, struct zone_node *node);
void zone_write_partition(struct vdc_zone *zone, struct zone_partition *partition);
void zone_write_delete_partition(struct vdc_zone *zone, struct zone_partition *partition);
void zone_write_op(struct vdc_zone *zone, struct zone_op *op);
void zone_written(struct vdc_zone *zone, uint64_t id);

/* calls.c */
/* The node takes transactions and commands of this zone now. */
bool node_reachable(const struct zone_node *node);
/* It is reachable and everything that it runs and holds is known. */
bool node_known(const struct zone_node *node);
struct zone_call *op_call(struct zone_op *op, enum op_slot slot);
/* Whether op_send_tx() would send: it is neither answered nor under way in the present session. */
bool op_needs_send(struct zone_op *op, enum op_slot slot, const struct zone_node *node);
/* Sends it unless it is answered, or under way in the present session. */
void op_send_tx(struct vdc_zone *zone, struct zone_op *op, enum op_slot slot,
                struct zone_node *node, const struct vdc_op *ops, uint32_t ops_len);
void op_send_command(struct vdc_zone *zone, struct zone_op *op, enum op_slot slot,
                     struct zone_node *node, struct vdc_msg_command *command);
void op_reset_call(struct vdc_zone *zone, struct zone_op *op, enum op_slot slot);
/* Whether the call was refused for what passes by itself (a full disk, a full queue): it is forgotten
 * after ZONE_REPAIR_NEXT_NS, by retry_at, so that it can be sent again. */
bool op_retry_refused(struct vdc_zone *zone, struct zone_op *op, enum op_slot slot,
                      const char *node);
void node_send_tx(struct vdc_zone *zone, struct zone_node *node, struct zone_call *call,
                  const struct vdc_op *ops, uint32_t ops_len);
void node_send_command(struct vdc_zone *zone, struct zone_node *node, struct zone_call *call,
                       struct vdc_msg_command *command);
void call_forget(struct vdc_zone *zone, struct zone_call *call);
void zone_on_tx_result(struct vdc_zone *zone, struct zone_node *node,
                       const struct vdc_msg_tx_result *result);
void zone_on_command_result(struct vdc_zone *zone, struct zone_node *node,
                            const struct vdc_msg_command_result *result);

/* create.c */
/* Sends the transaction that creates op->partition at the node as rec.generation_to (SLOT_TARGET),
 * unless it is answered or under way. False: the policy has no such class any more. */
bool op_send_create(struct vdc_zone *zone, struct zone_op *op, struct zone_node *node,
                    enum vdc_run run);
/* The partition uses its volume from now on, in that generation. 1, or 0 if it has none. */
uint32_t volume_op(const struct vdc_partition_record *rec, uint64_t generation, struct vdc_op *op);

/* nodes.c */
void node_loaded(struct vdc_zone *zone, struct zone_node *node);
void node_up(struct vdc_zone *zone, uint64_t session, const struct vdc_msg_hello *hello);
void node_down(struct vdc_zone *zone, struct zone_node *node);
void node_message(struct vdc_zone *zone, struct zone_node *node, const struct vdc_msg *msg);
void node_advance(struct vdc_zone *zone, struct zone_node *node);
vdc_mono node_deadline(const struct vdc_zone *zone, const struct zone_node *node);
void node_policy_changed(struct vdc_zone *zone, struct zone_node *node);
bool node_is_usable(const struct vdc_zone *zone, const struct zone_node *node, const char **why);
/* Whether a leader that is new still waits for nodes that its predecessor had; *name: one of them.
 * What it would refuse now may be possible in a moment. */
bool zone_is_settling(const struct vdc_zone *zone, const char **name);
/* Fenced for good: nothing of its last incarnation runs (what needs a lease) or is held. */
bool node_is_lost(const struct zone_node *node);
void node_destroy(struct vdc_zone *zone, struct zone_node *node);
/* Whether the policy gives something of the node to this zone. */
bool node_is_member(const struct vdc_zone *zone, const struct zone_node *node,
                    struct vdc_policy_share *share);

/* Tells it who leads, in which incarnation, and from where to stream its changes; `reread`: all of it. */
void node_send_lead(struct vdc_zone *zone, struct zone_node *node, bool fenced, bool reread);

/* replica.c */
const struct vdc_msg_guest *node_guest(const struct zone_node *node, const struct vdc_id *partition,
                                       uint64_t generation);
/* The replica's record of it with that generation; NULL also without a replica. */
const struct vdc_partition *node_holds(const struct zone_node *node, const struct vdc_id *partition,
                                       uint64_t generation);
void node_take_records(struct vdc_zone *zone, struct zone_node *node,
                       const struct vdc_msg_records *records);
void node_take_snapshot(struct vdc_zone *zone, struct zone_node *node,
                        const struct vdc_msg_snapshot *snapshot);
/* The heartbeat's sequence and digest against the replica's; what differs is read anew. */
void node_compare_replica(struct vdc_zone *zone, struct zone_node *node,
                          const struct vdc_msg_lease_ask *ask);
void node_take_guest(struct vdc_zone *zone, struct zone_node *node,
                     const struct vdc_msg_guest *msg);
/* All of them, or those that were not heard of since the session began. */
void node_forget_guests(struct zone_node *node, bool all);
/* A key without padding that could differ. */
struct guest_key guest_key(const struct vdc_id *partition, uint64_t generation);

/* reconcile.c */
void node_reconcile(struct vdc_zone *zone, struct zone_node *node);
void node_forget_repairs(struct vdc_zone *zone, struct zone_node *node);

/* place.c */
struct placement {
    bool placed;
    struct zone_node *node;
    char line[VDC_ERR_TEXT_MAX];
    char *text; /* owned: the whole verdict */
};
void zone_place(struct vdc_zone *zone, const struct vdc_partition_spec *spec,
                const struct vdc_id *id, enum vdc_policy_cause cause, const char *target,
                const char *const *excluded, size_t excluded_len, struct placement *placement);
/* The decision's line, where it is a new one. */
void placement_trace(struct vdc_zone *zone, const struct placement *placement);
void placement_deinit(struct placement *placement);
/* Diagnostics of a policy against what exists. */
enum vdc_rc zone_check_policy(struct vdc_zone *zone, const struct vdc_policy *policy,
                              struct vdc_err *err);
/* Sorts partitions into the order in which they are restarted. */
void zone_failover_order(struct vdc_zone *zone, struct zone_partition **partitions, size_t len);

/* requests.c */
void zone_request(struct vdc_zone *zone, const struct vdc_zone_request *request);
void zone_answer_waiters(struct vdc_zone *zone, struct zone_op *op);
void zone_policy_in_force(struct vdc_zone *zone);

/* op.c */
struct op_table {
    const char *name;
    const struct vdc_sm_state *states;
    int count;
    int end;
    void (*advance)(struct vdc_zone *zone, struct zone_op *op);
};
const struct op_table *op_table(enum vdc_operation_kind kind);
/* A new operation in memory at `step`; the caller fills the record's rest and writes it. */
struct zone_op *op_create(struct vdc_zone *zone, enum vdc_operation_kind kind, int step,
                          struct zone_partition *partition);
struct zone_op *op_load(struct vdc_zone *zone, const struct vdc_operation_record *rec);
void op_begin(struct vdc_zone *zone, struct zone_op *op); /* takes it among those under way */
void op_move(struct vdc_zone *zone, struct zone_op *op, int step, const char *why);
/* Moves and writes the operation alone. */
void op_move_write(struct vdc_zone *zone, struct zone_op *op, int step, const char *why);
/* Writes operation and partition as they are. */
void op_write_both(struct vdc_zone *zone, struct zone_op *op);
/* The record's request key was set: repeated requests find it. */
void op_add_key(struct vdc_zone *zone, struct zone_op *op);
/* Ends it in memory; op_write_both() or op_finish_gone() follows at once. */
void op_finish(struct vdc_zone *zone, struct zone_op *op, enum vdc_rc rc, const char *fmt, ...)
    VDC_PRINTF(4, 5);
/* Writes the finished operation, deletes its partition. */
void op_finish_gone(struct vdc_zone *zone, struct zone_op *op);
/* Finished and durable: it is no longer under way. */
void op_release(struct vdc_zone *zone, struct zone_op *op);
void op_set_verdict(struct zone_op *op, const struct placement *placement);
void op_trim(struct vdc_zone *zone); /* adds deletions to the write that is open */
void op_free(struct vdc_zone *zone, struct zone_op *op);
bool op_is_finished(const struct zone_op *op);

/* op_run.c: create, start, failover */
enum run_step { RUN_PLACE, RUN_COMMIT, RUN_START, RUN_END };
void run_advance(struct vdc_zone *zone, struct zone_op *op);
extern const struct vdc_sm_state run_states[];
void run_begin_failover(struct vdc_zone *zone, struct zone_partition *partition, const char *why);

/* op_stop.c: stop, destroy, apply_policy */
enum stop_step { STOP_WAIT, STOP_END };
enum destroy_step { DESTROY_WAIT, DESTROY_VOLUME, DESTROY_END };
void stop_advance(struct vdc_zone *zone, struct zone_op *op);
void destroy_advance(struct vdc_zone *zone, struct zone_op *op);
extern const struct vdc_sm_state stop_states[];
extern const struct vdc_sm_state destroy_states[];
extern const struct vdc_sm_state policy_states[];

/* op_migrate.c */
enum migrate_step {
    MIGRATE_RESERVE,
    MIGRATE_STREAM,
    MIGRATE_SWITCHOVER,
    MIGRATE_MOVED,
    MIGRATE_ABORTING,
    MIGRATE_END
};
void migrate_advance(struct vdc_zone *zone, struct zone_op *op);
extern const struct vdc_sm_state migrate_states[];

#endif
