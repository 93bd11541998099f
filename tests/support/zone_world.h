/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small world around the zone core, in memory and on one virtual clock: a store with guarded
 * writes, links that keep order and can be cut, and nodes with a real allocation database each, run
 * leases, and guests that boot, stop and migrate. It checks after every event that no partition runs
 * twice. Deterministic: equal calls give equal worlds.
 */
#ifndef VDC_ZONE_WORLD_H
#define VDC_ZONE_WORLD_H

#include <vdc/zone.h>

#define ZW_NODES_MAX 8
#define ZW_GUESTS_MAX 32

enum zw_fault {
    ZW_NO_FAULT,
    ZW_CUT_SOURCE,     /* the link of node_a breaks, with everything on it; back after 300 ms */
    ZW_CUT_TARGET,     /* of node_b */
    ZW_ISOLATE_SOURCE, /* as cut, but back only after 12 s: it runs on while it has a lease */
    ZW_ISOLATE_TARGET,
    ZW_KILL_SOURCE,
    ZW_KILL_TARGET,
    ZW_NEW_LEADER_WRITES_LOST, /* writes under way did not happen */
    ZW_NEW_LEADER_WRITES_DONE, /* they did, but the old leader never knew */
};

struct zw_guest {
    struct vdc_id id;
    uint64_t generation;
    enum vdc_guest_state state;
    bool restartable;
    bool paused; /* by its lease */
    char peer[VDC_NAME_CAP];
    vdc_mono next_at; /* something happens by itself: booted, switch-over reached */
    uint64_t stopped_at_ns;
    uint64_t running_at_ns;
    struct vdc_id last_command; /* repeated: its answer is, too */
    enum vdc_rc last_rc;
};

struct zw_node {
    char name[VDC_NAME_CAP];
    char rack[VDC_NAME_CAP];
    bool up;
    bool linked; /* the link works; a dead node has none */
    uint64_t session;
    vdc_mono relink_at;
    struct vdc_allocdb *db;
    struct vdc_buf *records; /* by sequence - 1 */
    size_t records_len, records_cap;
    uint64_t epoch;
    uint64_t incarnation;
    bool joined;
    int64_t lease_ns;
    vdc_mono lease_until;
    vdc_mono ask_at;
    bool mute;               /* runs, but asks for nothing */
    bool refuse_tx;          /* answers creates and changes of the run state with NO_SPACE, known
                     * requests too: as a real node whose disk is full */
    uint32_t refuse_volumes; /* fails to delete that many */
    bool lie_digest;
    bool old_hello;    /* its first HELLO is from before it joined; a newer one follows */
    int64_t stream_ns; /* from migrate_out to switch-over */
    bool guest_fails;  /* incoming guests fail instead of loading */
    struct zw_guest guests[ZW_GUESTS_MAX];
    size_t guests_len;
    uint32_t grants;
    uint32_t snapshots;
};

struct zw_answer {
    uint64_t token;
    enum vdc_rc rc;
    char text[VDC_ERR_TEXT_MAX];
    struct vdc_id operation;
    bool has_operation;
    bool repeated;
    char data[64];
};

struct zw_item;
struct zw_record;

struct zone_world {
    vdc_mono now;
    uint64_t revision;
    struct vdc_zone *zone;
    uint64_t epoch;
    bool store_down;    /* writes wait, leadership is not confirmed */
    bool leader_paused; /* no event reaches it */
    vdc_mono confirm_at;
    struct zw_record *records;
    size_t records_len, records_cap;
    struct zw_node nodes[ZW_NODES_MAX];
    size_t nodes_len;
    struct zw_item *items; /* by (at, order) */
    size_t items_len, items_cap;
    uint64_t order;
    uint64_t sessions;
    struct zw_answer answers[256];
    size_t answers_len;
    uint64_t tokens;
    struct vdc_buf trace;
    uint64_t steps;
    enum zw_fault fault;
    uint64_t fault_after; /* items until it happens */
    bool fault_done;
    const char *node_a;
    const char *node_b;
    struct vdc_id volumes[16]; /* whose volumes nodes have deleted, in that order */
    size_t volumes_len;
    size_t writes; /* made so far */
    bool leading;  /* false: no leader runs */
};

/* The quickstart's zone: n1..n4 in racks r1, r2, r3, r3, with 2 CPUs and 4 GiB; the policy is
 * ZW_POLICY with `extra` put behind. */
struct zone_world *zw_create(void);
void zw_destroy(struct zone_world *world);
extern const char zw_policy_text[];
struct zw_node *zw_node(struct zone_world *world, const char *name);
/* Runs for so long; every event is checked. */
void zw_run(struct zone_world *world, int64_t ms);
/* Replaces the leader by one that knows only the store. */
void zw_new_leader(struct zone_world *world, bool writes_done);
void zw_kill(struct zone_world *world, const char *name);
/* Power back: the journal is there, nothing runs. With wipe: the journal is gone. */
void zw_revive(struct zone_world *world, const char *name, bool wipe);
void zw_cut(struct zone_world *world, const char *name, int64_t back_after_ms);
/* Requests; return the token. */
uint64_t zw_create_partition(struct zone_world *world, const char *name, const char *class,
                             const char *app, const char *key);
uint64_t zw_ask(struct zone_world *world, enum vdc_zone_request_kind kind, const char *partition,
                const char *target, const char *key);
uint64_t zw_apply(struct zone_world *world, const char *text, const char *key);
/* NULL: not answered. */
const struct zw_answer *zw_answer(const struct zone_world *world, uint64_t token);
/* The operation of an answer. */
const struct vdc_operation_record *zw_operation(const struct zone_world *world, uint64_t token);
const char *zw_owner(const struct zone_world *world, const char *partition);
/* Nodes on which the partition's guest executes now; the name of one in *where. */
int zw_running(const struct zone_world *world, const char *partition, const char **where);
bool zw_saw(const struct zone_world *world, const char *text);
/* Every partition that should run runs once, at its recorded owner and generation; no operation is
 * under way (but a failover that waits for room, with its verdict); replicas are equal; nothing runs or is held that nobody owns. "" or what is wrong. */
const char *zw_unsettled(struct zone_world *world);

#endif
