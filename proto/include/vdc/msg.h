/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of the command channel as plain structs, and their codec (protobuf, command.proto).
 * Cores make and read these structs; only drivers call the codec. One session is one link between a
 * node and a manager:
 *
 *   node                                   manager
 *    | HELLO ------------------------------> |  who I am, what I have, my database's sequence
 *    | <------------------------------ WELCOME
 *    | <---------------------------- ZONE_LEAD  for each zone this manager leads and the node serves
 *    | ZONE_JOINED ------------------------> |  epoch noted, incarnation begun (journalled)
 *    | SNAPSHOT*, RECORDS* ----------------> |  from follow_from on, for ever
 *    | GUEST*, GUESTS_END -----------------> |  what runs now; then GUEST at each change
 *    | LEASE_ASK (every lease/4) ----------> |  with sequence and digest: the replica is compared
 *    | <-------------------------- LEASE_GRANT
 *    | <--------------------- TX, COMMAND -- |
 *    | TX_RESULT, COMMAND_RESULT ----------> |  a TX_RESULT is sent after its record is durable
 *
 * HELLO is sent again to all other managers when the node has joined under one: the next leader is one
 * of them and must know the incarnation that began since.
 *
 * A zone's messages are valid only with the epoch of its newest leader: older ones are dropped by the
 * node with a BYE that says so. Pointers inside a message are borrowed for the call that carries it;
 * vdc_msg_decode() returns one that owns its memory (vdc_msg_deinit).
 */
#ifndef VDC_MSG_H
#define VDC_MSG_H

#include <stddef.h>
#include <stdint.h>

#include <vdc/base.h>
#include <vdc/buf.h>
#include <vdc/id.h>
#include <vdc/limits.h>

#define VDC_MSG_PROTOCOL 2
#define VDC_MSG_DIGEST_LEN 16
/* Bytes of a free text (reason, refusal): cut by the sender. */
#define VDC_MSG_TEXT_MAX 1023
#define VDC_MSG_TEXT_CAP (VDC_MSG_TEXT_MAX + 1)
/* Zones that one node can serve: shares below a sixteenth of a machine are not worth a manager. */
#define VDC_MSG_ZONES_MAX 16
/* CPUs of one node: eight times the largest machine's. */
#define VDC_MSG_CPUS_MAX 16384
/* Records in one RECORDS message and bytes in one SNAPSHOT piece: far below VDC_FRAME_MAX. */
#define VDC_MSG_RECORDS_MAX 256
#define VDC_MSG_PIECE_MAX (UINT32_C(256) << 10)
/* Bytes of console in one answer. */
#define VDC_MSG_CONSOLE_MAX (UINT32_C(64) << 10)

enum vdc_msg_kind {
    VDC_MSG_HELLO,
    VDC_MSG_WELCOME,
    VDC_MSG_ZONE_LEAD,
    VDC_MSG_ZONE_JOINED,
    VDC_MSG_LEASE_ASK,
    VDC_MSG_LEASE_GRANT,
    VDC_MSG_TX,
    VDC_MSG_TX_RESULT,
    VDC_MSG_RECORDS,
    VDC_MSG_SNAPSHOT,
    VDC_MSG_GUEST,
    VDC_MSG_GUESTS_END,
    VDC_MSG_COMMAND,
    VDC_MSG_COMMAND_RESULT,
    VDC_MSG_BYE,
};

/* What a guest does, as its monitor sees it. The database's run state is what it *should* do. */
#define VDC_GUEST_STATES(X)                                                                       \
    X(STARTING, "starting") /* the monitor or QEMU is being started */                            \
    X(INCOMING, "incoming") /* waits for a migration stream; `port` was given by MIGRATE_IN */    \
    X(LOADED, "loaded")     /* the stream is complete, paused until it is activated */            \
    X(RUNNING, "running")                                                                         \
    X(PAUSED, "paused")         /* by command, or by a lease that ran out (reason) */             \
    X(MIGRATING, "migrating")   /* pre-copy under way, the guest runs */                          \
    X(SWITCHOVER, "switchover") /* stopped at the switch-over point, waits for CONTINUE/CANCEL */ \
    X(MIGRATED, "migrated")     /* stream sent completely, stopped; resumes only by CANCEL */     \
    X(STOPPING, "stopping")                                                                       \
    X(STOPPED, "stopped") /* ended in order: the guest shut down or was asked to */               \
    X(FAILED, "failed")   /* ended otherwise (reason) */

enum vdc_guest_state {
#define X(name, text) VDC_GUEST_##name,
    VDC_GUEST_STATES(X)
#undef X
};
const char *vdc_guest_state_name(enum vdc_guest_state state);
/* -1 for an unknown name. */
int vdc_guest_state_find(const char *name);

/* Commands concern the data plane of a migration, files and reading; everything that changes who may hold
 * or run what is a transaction. */
#define VDC_COMMAND_KINDS(X)                                                                     \
    X(MIGRATE_IN, "migrate_in")   /* target: open a relay for peer_node; answers its port */     \
    X(MIGRATE_OUT, "migrate_out") /* source: stream to peer_address:peer_port */                 \
    X(MIGRATE_CONTINUE, "migrate_continue") /* source at SWITCHOVER: send the rest */            \
    X(MIGRATE_CANCEL, "migrate_cancel") /* source: give up, run on (from MIGRATING, SWITCHOVER \
                                               or MIGRATED); target: nothing to do, it is destroyed */ \
    X(VOLUME_DELETE,                                                                             \
      "volume_delete") /* the file of a destroyed partition's volume, by the         \
                                         partition's id; OK also if it is gone already */           \
    X(CONSOLE_READ, "console_read") /* offset, max -> data, end (bytes so far) */

enum vdc_command_kind {
#define X(name, text) VDC_COMMAND_##name,
    VDC_COMMAND_KINDS(X)
#undef X
};
const char *vdc_command_kind_name(enum vdc_command_kind kind);

struct vdc_label {
    char key[VDC_LABEL_CAP];
    char value[VDC_LABEL_CAP];
};

struct vdc_msg_numa {
    uint32_t id;
    uint32_t cpus;
    uint64_t memory_bytes;
};

struct vdc_msg_zone_state {
    char zone[VDC_NAME_CAP];
    uint64_t epoch;       /* highest seen */
    uint64_t incarnation; /* 0: never served the zone */
};

struct vdc_msg_hello {
    uint32_t protocol;
    char node[VDC_NAME_CAP]; /* must be the name in the certificate */
    char rack[VDC_NAME_CAP];
    struct vdc_label labels[VDC_LABELS_MAX];
    size_t labels_len;
    char address[VDC_ADDRESS_CAP];
    char agent_version[VDC_NAME_CAP];
    uint8_t boot_id[16];
    uint32_t cpus;
    struct vdc_msg_numa numa[VDC_NUMA_NODES_MAX];
    size_t numa_len;
    char cpu_model[VDC_ADDRESS_CAP];
    char accelerator[VDC_NAME_CAP];
    char accelerator_reason[VDC_MSG_TEXT_CAP];
    uint64_t db_sequence;
    uint8_t db_digest[VDC_MSG_DIGEST_LEN];
    struct vdc_msg_zone_state zones[VDC_MSG_ZONES_MAX];
    size_t zones_len;
};

struct vdc_msg_welcome {
    char manager[VDC_NAME_CAP];
    uint32_t protocol;
};

struct vdc_msg_zone_lead {
    char zone[VDC_NAME_CAP];
    uint64_t epoch;
    int64_t lease_ns;     /* T: a grant counts from the instant it was asked for */
    int64_t grace_ns;     /* a guest paused for this long past its lease is killed */
    uint64_t incarnation; /* the one the node must be in */
    bool fenced;
    uint64_t follow_from;
    bool snapshot;
};

struct vdc_msg_zone_joined {
    char zone[VDC_NAME_CAP];
    uint64_t epoch;
    uint64_t incarnation;
};

struct vdc_msg_lease_ask {
    char zone[VDC_NAME_CAP];
    uint64_t epoch;
    uint64_t incarnation;
    uint64_t asked_ns; /* the node's CLOCK_BOOTTIME; the manager only echoes it */
    uint64_t db_sequence;
    uint8_t db_digest[VDC_MSG_DIGEST_LEN];
};

struct vdc_msg_lease_grant {
    char zone[VDC_NAME_CAP];
    uint64_t epoch;
    uint64_t incarnation;
    uint64_t asked_ns;
};

struct vdc_msg_bytes {
    const void *data;
    size_t len;
};

struct vdc_msg_tx {
    struct vdc_msg_bytes tx; /* vdc_tx_encode() */
};

struct vdc_msg_tx_result {
    struct vdc_id request_id;
    enum vdc_rc rc;
    uint64_t sequence; /* of the record that holds it, also for a repeated request */
    uint32_t op_index; /* refusals: which operation */
    char rule[VDC_NAME_CAP];
    char text[VDC_MSG_TEXT_CAP];
};

struct vdc_msg_records {
    uint64_t first_sequence;
    struct vdc_msg_bytes records[VDC_MSG_RECORDS_MAX];
    size_t records_len;
};

struct vdc_msg_snapshot {
    uint64_t sequence;
    uint64_t offset; /* pieces come in order; the last one ends at total */
    uint64_t total;
    struct vdc_msg_bytes piece;
};

struct vdc_msg_guest {
    char zone[VDC_NAME_CAP];
    struct vdc_id partition;
    uint64_t generation;
    enum vdc_guest_state state;
    char reason[VDC_MSG_TEXT_CAP];
    char accelerator[VDC_NAME_CAP];
    uint64_t bytes_total; /* of the migration under way, as QEMU counts */
    uint64_t bytes_left;
    uint64_t bytes_sent;
    /* CLOCK_BOOTTIME of the node; 0: not known. One machine's nodes share that clock, others do not. */
    uint64_t stopped_at_ns; /* source: the vCPUs stopped for the switch-over */
    uint64_t running_at_ns; /* last time the vCPUs began to run */
    uint64_t downtime_ns;   /* source: as QEMU reports it */
    uint64_t started_at_ns; /* QEMU was started */
};

struct vdc_msg_guests_end {
    char zone[VDC_NAME_CAP];
};

struct vdc_msg_command {
    struct vdc_id request_id;
    char zone[VDC_NAME_CAP];
    uint64_t epoch;
    struct vdc_id partition;
    uint64_t generation;
    enum vdc_command_kind kind;
    char peer_node[VDC_NAME_CAP];
    char peer_address[VDC_ADDRESS_CAP];
    uint16_t peer_port;
    uint64_t bandwidth; /* bytes per second, 0: no limit */
    int64_t downtime_ns;
    uint64_t offset;
    uint32_t max;
};

struct vdc_msg_command_result {
    struct vdc_id request_id;
    enum vdc_rc rc;
    char text[VDC_MSG_TEXT_CAP];
    uint16_t port;
    uint64_t offset; /* of data's first byte: later than asked when older bytes are gone */
    uint64_t end;
    struct vdc_msg_bytes data;
};

struct vdc_msg_bye {
    char reason[VDC_MSG_TEXT_CAP];
};

struct vdc_msg {
    enum vdc_msg_kind kind;
    union {
        struct vdc_msg_hello hello;
        struct vdc_msg_welcome welcome;
        struct vdc_msg_zone_lead zone_lead;
        struct vdc_msg_zone_joined zone_joined;
        struct vdc_msg_lease_ask lease_ask;
        struct vdc_msg_lease_grant lease_grant;
        struct vdc_msg_tx tx;
        struct vdc_msg_tx_result tx_result;
        struct vdc_msg_records records;
        struct vdc_msg_snapshot snapshot;
        struct vdc_msg_guest guest;
        struct vdc_msg_guests_end guests_end;
        struct vdc_msg_command command;
        struct vdc_msg_command_result command_result;
        struct vdc_msg_bye bye;
    };
    void *owned; /* codec's: what vdc_msg_deinit() frees */
};

/* "lease_ask", for traces. */
const char *vdc_msg_kind_name(enum vdc_msg_kind kind);
/* Appends the encoded frame body to buf. What does not fit a bound is a defect of the caller. */
void vdc_msg_encode(const struct vdc_msg *msg, struct vdc_buf *buf);
/* Decodes and checks one frame body from outside: names, ids, enums, bounds, texts (printable UTF-8;
 * those that are only for people are repaired instead of refused). INVALID, TOO_LARGE or UNSUPPORTED
 * with the field in err; msg is then empty. On OK the caller calls vdc_msg_deinit(). */
enum vdc_rc vdc_msg_decode(const void *data, size_t len, struct vdc_msg *msg,
                           struct vdc_err *err) VDC_MUST_USE;
void vdc_msg_deinit(struct vdc_msg *msg);

#endif
