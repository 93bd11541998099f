/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy engine: (policy, snapshot, request) -> verdict.
 *
 * A *policy* is one zone's file, read and checked (docs/policy.md is the language). A *snapshot* is
 * what the caller knows of nodes and partitions at one instant. A *verdict* says where a partition
 * goes and why, or why nowhere and which smallest change would help. A refusal is a verdict, not an
 * error: no function here fails for it.
 *
 * Pure: no clock, no files, no randomness, no state between calls. The same policy, snapshot and
 * request give the same verdict, byte for byte, whatever the order of the snapshot's arrays.
 * All numbers are integers: CPUs in thousandths (milli), memory in bytes, scores in thousandths of
 * a point.
 *
 * Used by the zone manager's core (decisions), the CLI (`vdc policy lint`) and the simulator.
 * Reading the YAML text is policy_io.h; this header begins with the tree. A policy is immutable and
 * may be used from any thread.
 */
#ifndef VDC_POLICY_H
#define VDC_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/buf.h>
#include <vdc/expr.h>
#include <vdc/id.h>
#include <vdc/limits.h>
#include <vdc/rc.h>
#include <vdc/tree.h>

/* Entries of each section of a file. Rules are checked for each node of each placement. */
#define VDC_POLICY_RULES_MAX 256
#define VDC_POLICY_CLASSES_MAX 64
#define VDC_POLICY_MATCHES_MAX 256
#define VDC_POLICY_TENANTS_MAX 50000
/* Memory is given to guests in blocks of this size (the middle tier of the node's page map). */
#define VDC_POLICY_MEMORY_BLOCK (UINT64_C(2) << 20)

/* ---- the policy ---- */

struct vdc_policy;

/* Checks the whole tree and adds every error to diags (sorted by place afterwards). OK: *policy is
 * the caller's and keeps nothing of the tree. INVALID: *policy is NULL, diags has at least one.
 * What this version cannot enforce is an error by name ("rebalance: not supported by this
 * version"). */
enum vdc_rc vdc_policy_build(const struct vdc_tree *tree, struct vdc_policy **policy,
                             struct vdc_diags *diags) VDC_MUST_USE;
void vdc_policy_destroy(struct vdc_policy *policy); /* accepts NULL */

enum vdc_policy_cpu { VDC_POLICY_CPU_SHARED, VDC_POLICY_CPU_DEDICATED };

struct vdc_policy_class {
    char name[VDC_NAME_CAP];
    uint32_t priority; /* 0..1000; higher is restarted first */
    enum vdc_policy_cpu cpu;
    bool failover_restart; /* false: failover: none, needs no run lease */
};

struct vdc_policy_settings {
    char zone[VDC_NAME_CAP];
    uint64_t cpu_overcommit_milli;  /* >= 1000: shared vCPUs per CPU of the shared pool */
    uint64_t lease_ms;              /* run-lease time T, 1,000..600,000 */
    uint64_t storm_brake_milli;     /* of the zone's nodes; more than this lost at once: wait for an
                                       operator; 1000: never */
    uint64_t migration_bandwidth;   /* bytes per second; 0: unbounded */
    uint64_t migration_downtime_ms; /* > 0 */
    uint64_t migration_timeout_ms;  /* > 0 */
};

const struct vdc_policy_settings *vdc_policy_settings(const struct vdc_policy *policy);
size_t vdc_policy_class_count(const struct vdc_policy *policy);
const struct vdc_policy_class *vdc_policy_class_at(const struct vdc_policy *policy, size_t index);
/* The class of that name; "" is the class named "default", or the built-in one (priority 0, shared,
 * 100 shares, restart) in a policy without classes. NULL: there is no such class. */
const struct vdc_policy_class *vdc_policy_class_find(const struct vdc_policy *policy,
                                                     const char *name);

/* ---- the snapshot: all borrowed for the call, never changed ---- */

struct vdc_policy_label {
    const char *key;
    const char *value;
};

enum vdc_policy_node_state {
    VDC_POLICY_NODE_USABLE,
    VDC_POLICY_NODE_CLOSED, /* takes nothing new; what runs there counts for the rules */
    VDC_POLICY_NODE_LOST,   /* fenced: what was there runs no more and counts for nothing */
};

#define VDC_POLICY_NO_NODE SIZE_MAX

struct vdc_policy_node {
    const char *name;                      /* differs from every other node's */
    const char *rack;                      /* "" if none is known: then it is a rack of its own */
    const struct vdc_policy_label *labels; /* keys differ */
    size_t label_count;
    const char *cpu_model;   /* "" if not known */
    const char *accelerator; /* "kvm", "tcg"; "" if not known */
    enum vdc_policy_node_state state;
    const char *why_not; /* "draining", "no session since 12 s"; read unless USABLE; may be NULL */
    uint32_t numa_nodes;
    uint32_t cpus; /* the machine's that it offers to all zones; the policy applies the share */
    uint64_t memory_bytes; /* likewise */
    /* Used by this zone, with what is decided but not yet in the node's database. */
    uint32_t cpus_dedicated;
    uint64_t cpu_shared_milli;
    uint64_t memory_used_bytes;
};

struct vdc_policy_partition {
    struct vdc_id id; /* none for one that is not created yet */
    const char *name;
    const char *tenant;     /* "": none */
    const char *class_name; /* "": default */
    const struct vdc_policy_label *labels;
    size_t label_count;
    uint32_t vcpus;        /* >= 1 */
    uint64_t memory_bytes; /* > 0 */
    size_t node; /* index into the snapshot's nodes, or VDC_POLICY_NO_NODE: it runs nowhere */
};

struct vdc_policy_snapshot {
    uint64_t policy_version; /* copied into the verdict */
    uint64_t generation;     /* of the state that this was made from; copied into the verdict */
    const struct vdc_policy_node *nodes;
    size_t node_count;
    const struct vdc_policy_partition *partitions; /* guest partitions of this zone, stopped too */
    size_t partition_count;
};

/* ---- what belongs to the zone ---- */

struct vdc_policy_share {
    uint32_t cpus;
    uint64_t memory_bytes; /* a multiple of VDC_POLICY_MEMORY_BLOCK */
};

/* Whether the node gives resources to the zone (the first entry of `nodes` that matches), and how
 * much. */
bool vdc_policy_share(const struct vdc_policy *policy, const struct vdc_policy_node *node,
                      struct vdc_policy_share *share);

struct vdc_policy_need {
    uint32_t cpus_dedicated; /* one of these two is 0 */
    uint64_t cpu_shared_milli;
    uint64_t memory_bytes; /* rounded up to blocks */
};

/* What a partition of that size takes of its node, as this policy counts. False: no such class. */
bool vdc_policy_need(const struct vdc_policy *policy, const struct vdc_policy_partition *partition,
                     struct vdc_policy_need *need);

/* ---- placing ---- */

enum vdc_policy_cause {
    VDC_POLICY_CREATE,   /* quotas and the tenant's classes are checked */
    VDC_POLICY_MIGRATE,  /* the node where it runs is no candidate */
    VDC_POLICY_FAILOVER, /* its node is lost */
};
const char *vdc_policy_cause_text(enum vdc_policy_cause cause); /* "create" */

struct vdc_policy_request {
    enum vdc_policy_cause cause;
    /* A partition of the snapshot with the same id (or, while either's id is none, the same name) is
     * the same one and does not count against itself. So a caller may show a partition that is on
     * the move twice, the second time without its id. */
    struct vdc_policy_partition partition;
    const char *target;          /* the only candidate, or NULL: any */
    const char *const *excluded; /* names of nodes that are no candidates */
    size_t excluded_count;
};

/* Why a node is no candidate, or the request as a whole is refused. X(name, text) */
#define VDC_POLICY_REASON_LIST(X)                 \
    X(NOT_IN_ZONE, "not in the zone")             \
    X(EXCLUDED, "excluded by the request")        \
    X(ALREADY_THERE, "it runs there")             \
    X(NOT_USABLE, "not usable")                   \
    X(VCPUS, "more vCPUs than the node has CPUs") \
    X(CPU, "CPU")                                 \
    X(MEMORY, "memory")                           \
    X(RULE, "rule")                               \
    X(QUOTA, "quota")                             \
    X(CLASS, "class")                             \
    X(TENANT, "tenant")                           \
    X(TARGET, "target")

enum vdc_policy_reason {
#define X(name, text) VDC_POLICY_REASON_##name,
    VDC_POLICY_REASON_LIST(X)
#undef X
};
const char *vdc_policy_reason_name(enum vdc_policy_reason reason); /* "memory", "not-usable" */
const char *vdc_policy_reason_text(enum vdc_policy_reason reason); /* as in the list */

/* Examples of rejected nodes kept in a verdict; all are counted. */
#define VDC_POLICY_REJECTIONS_MAX 64
/* Strategy parts plus soft rules that gave points to one node. */
#define VDC_POLICY_PARTS_MAX 16
#define VDC_POLICY_CHANGES_MAX 8
#define VDC_POLICY_DETAIL_CAP 192
/* A rule's name, or "TENANT.partitions". */
#define VDC_POLICY_RULE_CAP (VDC_NAME_CAP + 16)

struct vdc_policy_rejection {
    char node[VDC_NAME_CAP]; /* "": the request as a whole (QUOTA, CLASS, TENANT, TARGET) */
    char rack[VDC_NAME_CAP];
    enum vdc_policy_reason reason;      /* the first that failed, in the order of the list */
    char rule[VDC_POLICY_RULE_CAP];     /* RULE: its name; QUOTA: "acme.memory"; else "" */
    char detail[VDC_POLICY_DETAIL_CAP]; /* "rack r1 holds db-1"; "asks 512 MiB, 256 MiB free" */
    uint64_t
        asked; /* CPU: milli-CPU of the machine; MEMORY: bytes; VCPUS: count; QUOTA: its unit */
    uint64_t available; /* same unit; asked > available */
};

/* How many nodes were rejected for one reason (and rule). */
struct vdc_policy_tally {
    enum vdc_policy_reason reason;
    char rule[VDC_POLICY_RULE_CAP];
    uint64_t nodes;
};

struct vdc_policy_part {
    char name[VDC_NAME_CAP]; /* "cpu", "memory", "balance" or the rule's name */
    int64_t milli;           /* points x 1000, weight applied */
};

struct vdc_policy_candidate {
    char node[VDC_NAME_CAP]; /* "": there is none */
    char rack[VDC_NAME_CAP];
    int64_t score_milli; /* the sum of all parts, also of those that are not kept */
    struct vdc_policy_part parts[VDC_POLICY_PARTS_MAX];
    size_t part_count;
};

enum vdc_policy_change_kind {
    VDC_POLICY_CHANGE_DROP_RULE,   /* rule */
    VDC_POLICY_CHANGE_FREE_CPU,    /* node, amount: milli-CPU of the machine */
    VDC_POLICY_CHANGE_FREE_MEMORY, /* node, amount: bytes */
    VDC_POLICY_CHANGE_ASK_VCPUS,   /* amount: ask for at most so many */
    VDC_POLICY_CHANGE_ASK_MEMORY,  /* amount: ask for at most so many bytes */
    VDC_POLICY_CHANGE_OPEN_NODE,   /* node: make it usable */
    VDC_POLICY_CHANGE_RAISE_QUOTA, /* rule: "acme.memory"; amount: to this much */
};
const char *vdc_policy_change_name(enum vdc_policy_change_kind kind); /* "drop-rule" */

struct vdc_policy_change {
    enum vdc_policy_change_kind kind;
    char rule[VDC_POLICY_RULE_CAP];
    char node[VDC_NAME_CAP];
    uint64_t amount;
};

struct vdc_policy_verdict {
    bool placed;
    enum vdc_policy_cause cause;
    char partition[VDC_NAME_CAP];
    uint64_t policy_version;
    uint64_t generation;
    uint64_t considered; /* nodes of the snapshot (1 with a target) */
    uint64_t fitting;    /* of these, candidates that passed everything */
    size_t node;         /* index in the snapshot of winner.node; VDC_POLICY_NO_NODE if refused */
    struct vdc_policy_candidate winner;
    struct vdc_policy_candidate runner_up;
    struct vdc_policy_need need;             /* zero if the class is unknown */
    struct vdc_policy_rejection *rejections; /* by node name; the first ..._MAX; owned */
    size_t rejection_count;
    struct vdc_policy_tally
        *tallies; /* most nodes first, then in the order of reasons and names; owned */
    size_t tally_count;
    /* Refused: done together, these make this request succeed; the fewest that do. None if nothing
     * that the engine can name would (no node in the zone, no such class). */
    struct vdc_policy_change changes[VDC_POLICY_CHANGES_MAX];
    size_t change_count;
};

/* Decides. *verdict is overwritten; the caller deinits it. */
void vdc_policy_place(const struct vdc_policy *policy, const struct vdc_policy_snapshot *snapshot,
                      const struct vdc_policy_request *request, struct vdc_policy_verdict *verdict);
void vdc_policy_verdict_deinit(struct vdc_policy_verdict *verdict);

/* Appends one line without '\n':
 * "db-3: placed on n3 (rack r3), score 93.750; next n4 93.750; 2 of 4 nodes rejected (2 by rule
 * db-apart)", "db-4: refused, no node of 4 fits (4 by rule db-apart: rack r1 holds db-1, ...);
 * smallest change: drop hard rule db-apart". */
void vdc_policy_verdict_line(const struct vdc_policy_verdict *verdict, struct vdc_buf *out);
/* Appends that line and one for each score part and rejected node, each with '\n'. */
void vdc_policy_verdict_text(const struct vdc_policy_verdict *verdict, struct vdc_buf *out);
/* Appends "drop hard rule db-apart and free 512 MiB on n2"; nothing if there are no changes. */
void vdc_policy_changes_text(const struct vdc_policy_verdict *verdict, struct vdc_buf *out);

/* ---- around a placement ---- */

/* Sorts indices of the snapshot's partitions into the order in which they are restarted: priority
 * (highest first), then name. */
void vdc_policy_failover_order(const struct vdc_policy *policy,
                               const struct vdc_policy_snapshot *snapshot, size_t *indices,
                               size_t count);

/* Where the policy contradicts what exists: a group that must be apart over more racks (nodes) than
 * the zone has, a class or tenant in use that it no longer defines, a quota below what is in use.
 * Adds diagnostics at the lines of the policy; INVALID if there are any. For `vdc policy apply`. */
enum vdc_rc vdc_policy_check(const struct vdc_policy *policy,
                             const struct vdc_policy_snapshot *snapshot,
                             struct vdc_diags *diags) VDC_MUST_USE;

#endif
