/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands in etcd, as plain structs, and its JSON form. One key per record under /vdc/v1/ :
 *
 *   zones/ZONE                  zone: which policy version is in force       (watched by all managers)
 *   leaders/ZONE                leader: who leads; its create_revision is the zone's epoch (watched)
 *   policies/ZONE/0000000007    policy version 7, its text
 *   nodes/ZONE/NODE             node as a member of the zone
 *   partitions/ZONE/ID          partition: spec, desired state, ownership
 *   operations/ZONE/ID          operation
 *
 * Only the zone's leader writes records of its zone, and every write is guarded by the create_revision of
 * leaders/ZONE: so its memory is the truth while it leads, and a retried write is harmless. The one
 * exception is the first policy of a new zone, created if absent by any manager.
 *
 * JSON so that an operator can read the store with etcdctl; unknown fields are ignored on reading (a
 * newer manager wrote them), missing ones are zero, wrong ones are CORRUPT with the field's name.
 */
#ifndef VDC_RECORD_H
#define VDC_RECORD_H

#include <vdc/buf.h>
#include <vdc/id.h>
#include <vdc/limits.h>
#include <vdc/msg.h>
#include <vdc/time.h>

#define VDC_STORE_PREFIX "/vdc/v1/"

/* Bytes of a verdict's stored text and JSON: 100 rejected nodes named; more are counted by reason. */
#define VDC_VERDICT_TEXT_MAX (UINT32_C(32) << 10)

struct vdc_zone_record {
    char name[VDC_NAME_CAP];
    uint64_t policy_version; /* in force; >= 1 */
    int64_t lease_ns; /* longest run lease that a node may still hold from an earlier policy; 0: the
                         present policy's */
    vdc_wall created_at;
};

struct vdc_leader_record {
    char manager[VDC_NAME_CAP];
    char api[VDC_ADDRESS_CAP]; /* "10.77.0.1:7443": where other managers forward requests to */
};

struct vdc_policy_record {
    char zone[VDC_NAME_CAP];
    uint64_t version;
    char applied_by[VDC_NAME_CAP];
    vdc_wall applied_at;
    char *text; /* owned */
};

#define VDC_NODE_STATES(X)                                                                     \
    X(JOINING, "joining") /* named an incarnation, not yet begun by the node */                \
    X(READY, "ready")                                                                          \
    X(SILENT, "silent") /* no lease ask in time; its lease may still run (not stored: seen) */ \
    X(FENCED, "fenced") /* its lease of `incarnation` has ended and is never renewed */

enum vdc_node_state {
#define X(name, text) VDC_NODE_##name,
    VDC_NODE_STATES(X)
#undef X
};
const char *vdc_node_state_name(enum vdc_node_state state);

struct vdc_node_record {
    char name[VDC_NAME_CAP];
    char zone[VDC_NAME_CAP];
    char rack[VDC_NAME_CAP];
    struct vdc_label labels[VDC_LABELS_MAX];
    size_t labels_len;
    char address[VDC_ADDRESS_CAP];
    enum vdc_node_state state; /* JOINING, READY or FENCED */
    uint64_t incarnation;      /* the present or last one */
    uint32_t cpus;
    uint64_t memory_bytes;
    uint32_t numa_nodes;
    char cpu_model[VDC_ADDRESS_CAP];
    char accelerator[VDC_NAME_CAP];
    vdc_wall changed_at;
};

enum vdc_desired { VDC_DESIRED_RUNNING, VDC_DESIRED_STOPPED, VDC_DESIRED_ABSENT };
const char *vdc_desired_name(enum vdc_desired desired); /* "running", "stopped", "absent" */

struct vdc_partition_spec {
    char name[VDC_NAME_CAP]; /* unique in the zone */
    char zone[VDC_NAME_CAP];
    char tenant[VDC_NAME_CAP]; /* "" = none */
    char class[VDC_NAME_CAP];
    char image[VDC_NAME_CAP]; /* "linux" when not given */
    struct vdc_label labels[VDC_LABELS_MAX];
    size_t labels_len;
    uint32_t vcpus;
    uint64_t memory_bytes;
    uint64_t disk_bytes; /* 0: no disk */
};

struct vdc_partition_record {
    struct vdc_id id;
    struct vdc_partition_spec spec;
    enum vdc_desired desired;
    char owner[VDC_NAME_CAP]; /* node that may run it; "" = none placed */
    uint64_t generation;      /* of the ownership; every move adds at least one; >= 1 once placed */
    uint64_t
        generation_last; /* highest ever given out (a migration's target has one before it owns) */
    struct vdc_id operation; /* the operation under way, or none */
    uint64_t policy_version; /* that placed it */
    bool restartable;        /* class says failover: restart: it needs a lease */
    char *verdict;           /* owned; the last placement's explanation, may be NULL */
    vdc_wall created_at;
    vdc_wall changed_at;
};

#define VDC_OPERATION_KINDS(X) \
    X(CREATE, "create")        \
    X(START, "start")          \
    X(STOP, "stop")            \
    X(DESTROY, "destroy")      \
    X(MIGRATE, "migrate")      \
    X(FAILOVER, "failover")    \
    X(APPLY_POLICY, "apply_policy")

enum vdc_operation_kind {
#define X(name, text) VDC_OPERATION_##name,
    VDC_OPERATION_KINDS(X)
#undef X
};
const char *vdc_operation_kind_name(enum vdc_operation_kind kind);

#define VDC_OPERATION_STATES(X) \
    X(QUEUED, "queued")         \
    X(RUNNING, "running")       \
    X(DONE, "done")             \
    X(FAILED, "failed")         \
    X(CANCELLED, "cancelled")

enum vdc_operation_state {
#define X(name, text) VDC_OPSTATE_##name,
    VDC_OPERATION_STATES(X)
#undef X
};
const char *vdc_operation_state_name(enum vdc_operation_state state);

/* The steps of an operation's own table (zone-manager/core); stored by name. */
#define VDC_STEP_CAP 32

struct vdc_operation_record {
    struct vdc_id id;
    char zone[VDC_NAME_CAP];
    enum vdc_operation_kind kind;
    enum vdc_operation_state state;
    char step[VDC_STEP_CAP];
    struct vdc_id partition; /* none for APPLY_POLICY */
    char partition_name[VDC_NAME_CAP];
    char request_key[VDC_REQUEST_KEY_CAP]; /* Idempotency-Key; "" for the leader's own operations */
    uint8_t body_digest[32]; /* SHA-256 of method, path and body: same key, other body -> 409 */
    char user[VDC_NAME_CAP];
    char source[VDC_NAME_CAP]; /* node the partition leaves, "" = none */
    char target[VDC_NAME_CAP]; /* node it goes to, "" = none */
    uint64_t generation_from;
    uint64_t generation_to;
    enum vdc_rc rc; /* of the finished operation */
    char *error;    /* owned; sentence, NULL if none */
    char *verdict;  /* owned; explanation (text) of the placement or refusal, NULL if none */
    vdc_wall created_at;
    vdc_wall finished_at; /* 0: not yet */
    int64_t placement_ns; /* time the decision took, CPU; 0: none */
    int64_t
        downtime_ns; /* migrations: vCPUs stopped at the source to vCPUs running at the target, where both
                             clocks are one machine's; else QEMU's own figure */
    int64_t duration_ns;
};

/* Keys. `key` must hold VDC_KEY_CAP bytes. */
#define VDC_KEY_CAP 256
void vdc_key_zone(char key[VDC_KEY_CAP], const char *zone);
void vdc_key_leader(char key[VDC_KEY_CAP], const char *zone);
void vdc_key_policy(char key[VDC_KEY_CAP], const char *zone, uint64_t version);
void vdc_key_node(char key[VDC_KEY_CAP], const char *zone, const char *node);
void vdc_key_partition(char key[VDC_KEY_CAP], const char *zone, const struct vdc_id *id);
void vdc_key_operation(char key[VDC_KEY_CAP], const char *zone, const struct vdc_id *id);

/* Each: append the record's JSON to buf / read it. After a decode that is OK, the record owns what is
 * marked owned: vdc_*_record_deinit() frees. */
void vdc_zone_record_encode(const struct vdc_zone_record *record, struct vdc_buf *buf);
void vdc_leader_record_encode(const struct vdc_leader_record *record, struct vdc_buf *buf);
void vdc_policy_record_encode(const struct vdc_policy_record *record, struct vdc_buf *buf);
void vdc_node_record_encode(const struct vdc_node_record *record, struct vdc_buf *buf);
void vdc_partition_record_encode(const struct vdc_partition_record *record, struct vdc_buf *buf);
void vdc_operation_record_encode(const struct vdc_operation_record *record, struct vdc_buf *buf);
enum vdc_rc vdc_zone_record_decode(const char *json, size_t len, struct vdc_zone_record *record,
                                   struct vdc_err *err) VDC_MUST_USE;
enum vdc_rc vdc_leader_record_decode(const char *json, size_t len, struct vdc_leader_record *record,
                                     struct vdc_err *err) VDC_MUST_USE;
enum vdc_rc vdc_policy_record_decode(const char *json, size_t len, struct vdc_policy_record *record,
                                     struct vdc_err *err) VDC_MUST_USE;
enum vdc_rc vdc_node_record_decode(const char *json, size_t len, struct vdc_node_record *record,
                                   struct vdc_err *err) VDC_MUST_USE;
enum vdc_rc vdc_partition_record_decode(const char *json, size_t len,
                                        struct vdc_partition_record *record,
                                        struct vdc_err *err) VDC_MUST_USE;
enum vdc_rc vdc_operation_record_decode(const char *json, size_t len,
                                        struct vdc_operation_record *record,
                                        struct vdc_err *err) VDC_MUST_USE;
void vdc_policy_record_deinit(struct vdc_policy_record *record);
void vdc_partition_record_deinit(struct vdc_partition_record *record);
void vdc_operation_record_deinit(struct vdc_operation_record *record);

#endif
