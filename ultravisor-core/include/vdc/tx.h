/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transaction on a node's allocation database: a list of typed operations that happen all or not
 * at all (allocdb.h), its answer, and the one binary codec of both that the command channel, the
 * journal and the change stream share. Pure: no I/O, no clock.
 *
 * Every operation acts in the transaction's zone; zone "" is the node's own slice (what no zone was
 * given), which only VDC_ROLE_SYSTEM may touch. An operation that leaves a choice open ("any 2 CPUs
 * of NUMA node 1", "512 MiB anywhere") is resolved deterministically at the commit, and the record
 * that is journalled and streamed carries the choice, so that replaying never chooses.
 *
 * Ownership: the pointers in a transaction are borrowed by whoever is called with it. vdc_tx_decode
 * puts everything in memory of the transaction, freed by vdc_tx_deinit; a transaction that the
 * caller built by hand (designated initialisers, ops on the stack) needs no deinit.
 */
#ifndef VDC_TX_H
#define VDC_TX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/buf.h>
#include <vdc/err.h>
#include <vdc/id.h>
#include <vdc/limits.h>
#include <vdc/rc.h>
#include <vdc/view.h>

/* Operations of one transaction: a gang of 64 partitions of 4 operations each. */
#define VDC_TX_OPS_MAX 256
/* Bytes of one encoded transaction or record: an inventory of VDC_NODE_CPUS_MAX CPUs is 320 KiB. */
#define VDC_TX_BYTES_MAX (UINT32_C(1) << 20)
/* CPUs of one node: 64 NUMA nodes of 256. */
#define VDC_NODE_CPUS_MAX 16384
/* Memory of one NUMA node, bytes: 16 TiB, as VDC_PARTITION_MEMORY_MAX. */
#define VDC_NUMA_MEMORY_MAX (UINT64_C(16) << 40)
/* Bytes of a partition's launch description, which the database keeps and does not read. */
#define VDC_PARTITION_CONFIG_MAX 8192
/* Overcommit of a zone's pool, thousandths: 1000 = none; 64000 is beyond any sane policy. */
#define VDC_OVERCOMMIT_MILLI_MAX 64000
/* Bytes of the sentence of an answer. */
#define VDC_TX_TEXT_CAP 256

/* Bytes of a device's address with its NUL: "0000:3b:00.0", or a disk's name by its serial number. */
#define VDC_DEVICE_ADDRESS_CAP 128
/* Bytes of a network port's name with its NUL: Linux' IFNAMSIZ. */
#define VDC_PORT_NAME_CAP 16
/* Memory of one channel, bytes: the rings and buffers of one device of one guest. */
#define VDC_CHANNEL_MEMORY_MAX (UINT64_C(64) << 20)
/* Blocks that a channel's memory may lie in: each is mapped at both ends. */
#define VDC_CHANNEL_BLOCKS_MAX 64

#define VDC_NUMA_ANY UINT32_MAX

/* Who asks. The agent sets it from the link (never from the peer's bytes). */
enum vdc_role {
    VDC_ROLE_SYSTEM,  /* the node itself, acting locally; epoch must be 0 */
    VDC_ROLE_COMMAND, /* the leader of a zone; epoch must be >= 1 */
    VDC_ROLE_IO,      /* may change nothing */
    VDC_ROLE_GUEST,   /* may change nothing */
};
#define VDC_ROLE_COUNT 4

enum vdc_tx_kind {
    VDC_TX_APPLY,        /* the operations, now */
    VDC_TX_PREPARE,      /* hold what the operations need under `claim` until one of the next two */
    VDC_TX_COMMIT_CLAIM, /* no operations: what `claim` holds becomes real */
    VDC_TX_ABORT_CLAIM,  /* no operations: what `claim` holds is given back */
};
#define VDC_TX_KIND_COUNT 4

/* X(NAME, "name"): the order is part of the formats; append only. */
#define VDC_OP_LIST(X)                                      \
    X(INVENTORY_SET, "inventory-set")                       \
    X(ZONE_SET, "zone-set")                                 \
    X(ZONE_LEAVE, "zone-leave")                             \
    X(ZONE_EPOCH, "zone-epoch")                             \
    X(INCARNATION_SET, "incarnation-set")                   \
    X(PARTITION_CREATE, "partition-create")                 \
    X(PARTITION_SET_RUN, "partition-set-run")               \
    X(PARTITION_SET_GENERATION, "partition-set-generation") \
    X(PARTITION_SET_CONFIG, "partition-set-config")         \
    X(PARTITION_DESTROY, "partition-destroy")               \
    X(CPU_ASSIGN, "cpu-assign")                             \
    X(CPU_RELEASE, "cpu-release")                           \
    X(MEMORY_ASSIGN, "memory-assign")                       \
    X(MEMORY_RELEASE, "memory-release")                     \
    X(DEVICE_ADD, "device-add")                             \
    X(DEVICE_REMOVE, "device-remove")                       \
    X(DEVICE_ATTACH, "device-attach")                       \
    X(DEVICE_DETACH, "device-detach")                       \
    X(VOLUME_ATTACH, "volume-attach")                       \
    X(VOLUME_DETACH, "volume-detach")                       \
    X(PORT_CONNECT, "port-connect")                         \
    X(PORT_DISCONNECT, "port-disconnect")                   \
    X(CHANNEL_CONNECT, "channel-connect")                   \
    X(CHANNEL_DISCONNECT, "channel-disconnect")             \
    X(FENCE_PROMISE, "fence-promise")                       \
    X(ZONE_TRANSFER, "zone-transfer")

enum vdc_op_kind {
#define X(name, text) VDC_OP_##name,
    VDC_OP_LIST(X)
#undef X
};
#define VDC_OP_COUNT 26
const char *vdc_op_name(enum vdc_op_kind kind);

/* One CPU of the machine. Numbers are Linux' CPU numbers; they need not be dense. */
struct vdc_cpu_info {
    uint16_t number;
    uint16_t numa;
    uint16_t socket;
    uint16_t core;   /* unique within the socket */
    uint16_t thread; /* 0-based within the core */
};

struct vdc_numa_info {
    uint32_t number;       /* < VDC_NUMA_NODES_MAX */
    uint64_t memory_bytes; /* offered to partitions; multiple of 4 KiB; may be 0 */
};

/* What the machine has. System only, the only operation of its transaction, zone "". Repeated when
 * the machine changed: what left must be free and in no zone; zones keep their CPUs. */
struct vdc_op_inventory_set {
    const struct vdc_cpu_info *cpus; /* ascending by number, no number twice */
    uint32_t cpus_len;
    const struct vdc_numa_info *numa; /* ascending by number, no number twice */
    uint32_t numa_len;
};

/* A share of the node: thousandths of the whole, or an amount. Exactly one is not 0, or both are 0
 * for nothing. */
struct vdc_share {
    uint32_t milli;  /* 1000 = all that the node offers, rounded down to whole units */
    uint64_t amount; /* CPUs, or bytes */
};

/* Joins the node to the zone, or changes the zone's slice of it. What grows is taken from the
 * node's own slice; what shrinks must be free. */
struct vdc_op_zone_set {
    uint32_t overcommit_milli; /* shared milli-CPU per milli-CPU of the pool; 1000..MAX */
    struct vdc_share cpu;
    struct vdc_share memory;
    /* Resolved, or named by the caller: exactly the zone's CPUs afterwards, ascending. NULL: the
     * lowest-numbered free ones are taken, the highest-numbered free ones given back. */
    const uint16_t *cpus;
    uint32_t cpus_len;
};

/* The zone must hold no partition and no claim here. Its epoch stays remembered. */
struct vdc_op_zone_leave {
    char unused;
};

/* Only brings the transaction's epoch: from now on no older leader is obeyed. */
struct vdc_op_zone_epoch {
    char unused;
};

/* The node's run-lease incarnation in the zone (architecture 7.1); must be greater than the last.
 */
struct vdc_op_incarnation_set {
    uint64_t incarnation;
};

/* A descriptor without resources: CPU_ASSIGN and MEMORY_ASSIGN follow in the same transaction. */
struct vdc_op_partition_create {
    struct vdc_id id;
    char name[VDC_NAME_CAP];
    char tenant[VDC_NAME_CAP];     /* "" allowed */
    char class_name[VDC_NAME_CAP]; /* "" allowed */
    enum vdc_partition_kind kind;
    uint64_t generation; /* >= 1 */
    enum vdc_run run;
    uint32_t vcpus;        /* 1..VDC_VCPUS_MAX; 0 allowed for kind system */
    uint64_t memory_bytes; /* what the guest is told it has; the blocks may be more */
    const uint8_t *config; /* opaque launch description */
    uint32_t config_len;   /* <= VDC_PARTITION_CONFIG_MAX */
};

struct vdc_op_partition_set_run {
    struct vdc_id id;
    uint64_t generation; /* guard: the record's present one, else STALE */
    enum vdc_run run;
};

struct vdc_op_partition_set_generation {
    struct vdc_id id;
    uint64_t generation; /* guard */
    uint64_t next;       /* > generation */
};

struct vdc_op_partition_set_config {
    struct vdc_id id;
    uint64_t generation; /* guard */
    const uint8_t *config;
    uint32_t config_len;
};

/* Releases everything that the partition holds. */
struct vdc_op_partition_destroy {
    struct vdc_id id;
    uint64_t generation; /* guard */
};

/* Where what is asked for may lie. The order is part of the formats. */
enum vdc_locality {
    /* `numa` is strict when it names a node; with VDC_NUMA_ANY CPUs come in the order of their
     * numbers, memory from the first node that has all of it, else from several. */
    VDC_LOCALITY_DEFAULT,
    /* All on one NUMA node: `numa`, or with VDC_NUMA_ANY the lowest-numbered that has all of it.
     * What the caller names must lie so. */
    VDC_LOCALITY_STRICT,
    VDC_LOCALITY_PREFERRED, /* `numa` (named) as far as it goes, then the others, ascending */
    VDC_LOCALITY_SPANNING, /* in equal parts on the nodes of `nodes`, the first ones the odd units */
};
#define VDC_LOCALITY_COUNT 4
const char *vdc_locality_name(enum vdc_locality locality);

/* Exactly one of the three forms: cpus_len > 0 (these, dedicated), any > 0 (that many free ones of
 * `numa`, dedicated; resolved lowest number first), or shared_milli > 0 (that much more of the
 * zone's pool). A partition has either dedicated CPUs or a share. */
struct vdc_op_cpu_assign {
    struct vdc_id id;
    const uint16_t *cpus; /* ascending */
    uint32_t cpus_len;    /* <= VDC_VCPUS_MAX */
    uint32_t any;
    uint32_t numa; /* of `any`; VDC_NUMA_ANY: all, in the order of CPU numbers */
    uint32_t shared_milli;
    enum vdc_locality locality; /* DEFAULT for a share */
    uint64_t nodes;             /* SPANNING: bit per NUMA node number; else 0 */
    /* No thread of a core of these is another's: `any` takes whole free cores until it has so many
     * (perhaps more CPUs, on the last core); named ones must be whole cores, what the partition has
     * already included. */
    bool whole_cores;
};

/* cpus_len 0 and shared_milli 0: all that it has. */
struct vdc_op_cpu_release {
    struct vdc_id id;
    const uint16_t *cpus; /* ascending */
    uint32_t cpus_len;
    uint32_t shared_milli;
};

/* Guests: `bytes` a multiple of 2 MiB; others of 4 KiB. Resolved as few large blocks: of each size
 * the lowest run that is long enough, else the longest; VDC_NUMA_ANY goes through the NUMA nodes in ascending order, using the first
 * that holds all of it, else several. */
struct vdc_op_memory_assign {
    struct vdc_id id;
    uint64_t bytes;
    uint32_t numa;
    const struct vdc_memory_block
        *blocks;         /* resolved, or named by the caller: their sum is bytes */
    uint32_t blocks_len; /* <= VDC_VIEW_BLOCKS_MAX */
    enum vdc_locality locality;
    uint64_t nodes; /* SPANNING: bit per NUMA node number; else 0 */
};

/* blocks_len 0: all that it has. Blocks may be parts of what it holds. */
struct vdc_op_memory_release {
    struct vdc_id id;
    const struct vdc_memory_block *blocks;
    uint32_t blocks_len;
};

/* The order is part of the formats. */
enum vdc_device_kind {
    VDC_DEVICE_PCI, /* a function, by its address */
    VDC_DEVICE_DISK,
    VDC_DEVICE_NIC,
};
#define VDC_DEVICE_KIND_COUNT 3
const char *vdc_device_kind_name(enum vdc_device_kind kind);

/* The machine has the device. System only, zone "". It begins in the node's own slice; zones get it
 * by ZONE_TRANSFER. */
struct vdc_op_device_add {
    char address[VDC_DEVICE_ADDRESS_CAP]; /* printable ASCII without spaces; unique on the node */
    enum vdc_device_kind kind;
    uint32_t numa; /* the NUMA node it hangs on, or VDC_NUMA_ANY */
};

/* System only, zone "": the device left. It must be nobody's and in the node's own slice. */
struct vdc_op_device_remove {
    char address[VDC_DEVICE_ADDRESS_CAP];
};

/* ATTACH: the device is of the transaction's zone and nobody's. DETACH: it is the partition's. */
struct vdc_op_device_attach {
    struct vdc_id id;
    char address[VDC_DEVICE_ADDRESS_CAP];
};

enum vdc_volume_mode {
    VDC_VOLUME_READ, /* any number of partitions, while nobody writes */
    VDC_VOLUME_WRITE /* one partition, and nobody else reads */
};
#define VDC_VOLUME_MODE_COUNT 2

/* The partition uses the volume from now on. Repeated by the same partition it changes mode and
 * generation, which is how a new generation of the owner takes its volumes over. */
struct vdc_op_volume_attach {
    struct vdc_id id;
    uint64_t generation; /* guard, and the stamp of the use: what the storage is told */
    struct vdc_id volume;
    enum vdc_volume_mode mode;
};

struct vdc_op_volume_detach {
    struct vdc_id id;
    struct vdc_id volume;
};

/* A port of a network: the MAC address and the name are the partition's alone on this node. */
struct vdc_op_port_connect {
    struct vdc_id id;
    uint8_t mac[6];               /* unicast, not zero */
    char name[VDC_PORT_NAME_CAP]; /* of the host's interface: letters, digits, '-', '_', '.' */
    char network[VDC_NAME_CAP];
};

struct vdc_op_port_disconnect {
    struct vdc_id id;
    uint8_t mac[6];
};

/* enum vdc_channel_type is the view's, where both ends read it. */
const char *vdc_channel_type_name(enum vdc_channel_type type);

/* Shared memory between two partitions of this node. The first endpoint is of the transaction's
 * zone and its slice pays for the memory; the second is of the same zone or the node's own (an I/O
 * partition). The channel ends with either of them. */
struct vdc_op_channel_connect {
    struct vdc_id channel;
    struct vdc_id endpoint[2]; /* different */
    enum vdc_channel_type type;
    uint16_t version; /* of the type's protocol, >= 1 */
    uint64_t bytes;   /* multiple of 4 KiB, 4 KiB .. VDC_CHANNEL_MEMORY_MAX */
    uint32_t numa;    /* strict; VDC_NUMA_ANY: the lowest-numbered node that has all of it */
    const struct vdc_memory_block *blocks; /* resolved, or named: all on one node, sum is bytes */
    uint32_t blocks_len;                   /* <= VDC_CHANNEL_BLOCKS_MAX */
};

struct vdc_op_channel_disconnect {
    struct vdc_id channel;
};

/* This node, a witness, promises never again to renew the run lease `incarnation` (or an older one)
 * of `node` in the zone (architecture 7.1). Promises only grow, and nothing takes one back. */
struct vdc_op_fence_promise {
    char node[VDC_NAME_CAP];
    uint64_t incarnation; /* > the last promised one */
};

/* The transaction's zone gives free resources of its slice to another zone that is on this node
 * ("": back to the node). The giver's epoch guards it: the receiver only gains. Both slices' shares
 * become the amounts that they then have. At least one of the three. */
struct vdc_op_zone_transfer {
    char to[VDC_NAME_CAP];
    const uint16_t *cpus; /* ascending; free ones of the giver */
    uint32_t cpus_len;
    uint64_t memory_bytes;               /* multiple of 4 KiB */
    char device[VDC_DEVICE_ADDRESS_CAP]; /* "": none; nobody's, of the giver */
};

struct vdc_op {
    enum vdc_op_kind kind;
    union {
        struct vdc_op_inventory_set inventory_set;
        struct vdc_op_zone_set zone_set;
        struct vdc_op_zone_leave zone_leave;
        struct vdc_op_zone_epoch zone_epoch;
        struct vdc_op_incarnation_set incarnation_set;
        struct vdc_op_partition_create partition_create;
        struct vdc_op_partition_set_run partition_set_run;
        struct vdc_op_partition_set_generation partition_set_generation;
        struct vdc_op_partition_set_config partition_set_config;
        struct vdc_op_partition_destroy partition_destroy;
        struct vdc_op_cpu_assign cpu_assign;
        struct vdc_op_cpu_release cpu_release;
        struct vdc_op_memory_assign memory_assign;
        struct vdc_op_memory_release memory_release;
        struct vdc_op_device_add device_add;
        struct vdc_op_device_remove device_remove;
        struct vdc_op_device_attach device_attach;
        struct vdc_op_device_attach device_detach;
        struct vdc_op_volume_attach volume_attach;
        struct vdc_op_volume_detach volume_detach;
        struct vdc_op_port_connect port_connect;
        struct vdc_op_port_disconnect port_disconnect;
        struct vdc_op_channel_connect channel_connect;
        struct vdc_op_channel_disconnect channel_disconnect;
        struct vdc_op_fence_promise fence_promise;
        struct vdc_op_zone_transfer zone_transfer;
    };
};

struct vdc_tx {
    struct vdc_id request_id; /* none: never remembered (local bookkeeping of the node) */
    struct vdc_id claim;      /* none for VDC_TX_APPLY */
    char zone[VDC_NAME_CAP];
    uint64_t epoch; /* of the zone's leader; 0 only for VDC_ROLE_SYSTEM */
    enum vdc_role role;
    enum vdc_tx_kind kind;
    const struct vdc_op *ops;
    uint32_t ops_len; /* <= VDC_TX_OPS_MAX */
    void *memory;     /* vdc_tx_decode's; NULL in one built by hand */
};

/* Appends the encoding. The transaction must be structurally valid (vdc_tx_validate). */
void vdc_tx_encode(const struct vdc_tx *tx, struct vdc_buf *out);
/* Decodes exactly `len` bytes and validates as vdc_tx_validate; out is deinitialised on failure.
 * INVALID, TOO_LARGE, UNSUPPORTED (another version, an unknown operation). */
enum vdc_rc vdc_tx_decode(const void *data, size_t len, struct vdc_tx *out,
                          struct vdc_err *err) VDC_MUST_USE;
void vdc_tx_deinit(struct vdc_tx *tx);
/* What can be said without a database: bounds, names, enums, order of lists, forms. INVALID or
 * TOO_LARGE with the operation's index in the sentence. */
enum vdc_rc vdc_tx_validate(const struct vdc_tx *tx, struct vdc_err *err) VDC_MUST_USE;

/* The rules that can refuse. X(NAME, "name"): append only. */
#define VDC_RULE_LIST(X)                                                                           \
    X(NONE, "")                                                                                    \
    X(FORM, "form")             /* structurally invalid */                                         \
    X(ROLE, "role")             /* this role may not do that */                                    \
    X(EPOCH, "epoch")           /* an older leader of the zone */                                  \
    X(ZONE, "zone")             /* zone not on this node, or not the owner's */                    \
    X(GENERATION, "generation") /* guard does not match */                                         \
    X(UNKNOWN_PARTITION, "unknown-partition")                                                      \
    X(PARTITION_EXISTS, "partition-exists")                                                        \
    X(UNKNOWN_CLAIM, "unknown-claim")                                                              \
    X(CLAIM_EXISTS, "claim-exists")                                                                \
    X(CLAIM_OPS, "claim-ops") /* a claim only creates and assigns */                               \
    X(CLAIMED, "claimed")     /* held by a claim that is not settled */                            \
    X(UNKNOWN_CPU, "unknown-cpu")                                                                  \
    X(UNKNOWN_NUMA, "unknown-numa")                                                                \
    X(CPU_BUSY, "cpu-busy")                   /* dedicated to another, or in another zone */       \
    X(CPU_FREE, "cpu-free")                   /* not enough free CPUs */                           \
    X(CPU_POOL, "cpu-pool")                   /* pool x overcommit would be exceeded */            \
    X(CPU_FORM, "cpu-form")                   /* dedicated and shared mixed, or not held */        \
    X(MEMORY_PAGE, "memory-page")             /* not a multiple of the kind's page */              \
    X(MEMORY_SLICE, "memory-slice")           /* the zone's slice of memory is exhausted */        \
    X(MEMORY_FREE, "memory-free")             /* not enough free memory on the NUMA node(s) */     \
    X(MEMORY_BUSY, "memory-busy")             /* a named block is owned by another */              \
    X(MEMORY_FRAGMENTED, "memory-fragmented") /* would need more than VDC_VIEW_BLOCKS_MAX */       \
    X(SLICE_CPU, "slice-cpu")                 /* the node's own slice has not so many free CPUs */ \
    X(SLICE_MEMORY, "slice-memory")           /* the node's own slice has not so much memory */    \
    X(IN_USE, "in-use")                       /* what should go is in use */                       \
    X(INCARNATION, "incarnation")             /* not greater than the last */                      \
    X(LIMIT, "limit")                         /* a bound of the database */                        \
    X(UNKNOWN_DEVICE, "unknown-device")                                                            \
    X(DEVICE_EXISTS, "device-exists")                                                              \
    X(DEVICE_BUSY, "device-busy") /* another's, or in another zone */                              \
    X(UNKNOWN_VOLUME, "unknown-volume")                                                            \
    X(VOLUME_BUSY, "volume-busy") /* another writes it, or it is read and should be written */     \
    X(UNKNOWN_PORT, "unknown-port")                                                                \
    X(PORT_BUSY, "port-busy") /* the MAC address or the name is in use */                          \
    X(UNKNOWN_CHANNEL, "unknown-channel")                                                          \
    X(CHANNEL_EXISTS, "channel-exists")                                                            \
    X(CHANNEL_ENDPOINT, "channel-endpoint") /* the second endpoint may not be that one */          \
    X(PROMISE, "promise")                   /* not greater than the last one */                    \
    X(CPU_CORE, "cpu-core")                 /* not whole cores, or not enough free ones */         \
    X(LOCALITY, "locality")                 /* does not fit the asked NUMA nodes */

enum vdc_tx_rule {
#define X(name, text) VDC_RULE_##name,
    VDC_RULE_LIST(X)
#undef X
};
#define VDC_RULE_COUNT 41
const char *vdc_tx_rule_name(enum vdc_tx_rule rule);

#define VDC_TX_OP_NONE UINT32_MAX

/* The answer. OK, or which operation was refused by which rule with which numbers. */
struct vdc_tx_result {
    enum vdc_rc rc;
    bool repeated;     /* the request id was known; the rest is the stored first answer */
    uint64_t sequence; /* of its record; acknowledge when this is durable. 0: no record was made */
    uint32_t op;       /* index of the refused operation, VDC_TX_OP_NONE: the whole transaction */
    enum vdc_tx_rule rule;
    uint64_t asked;   /* in the rule's unit: CPUs, milli-CPU, bytes, generation, epoch; else 0 */
    uint64_t free;    /* what there was instead */
    uint64_t largest; /* largest free block, bytes, where the rule is about memory */
    char text[VDC_TX_TEXT_CAP]; /* "op 2 memory-assign: asked 512 MiB, free 300 MiB, ..."; "" for OK
                                 */
};

void vdc_tx_result_encode(const struct vdc_tx_result *result, struct vdc_buf *out);
enum vdc_rc vdc_tx_result_decode(const void *data, size_t len, struct vdc_tx_result *out,
                                 struct vdc_err *err) VDC_MUST_USE;

/* 128 bits over the canonical state, see allocdb.h. */
struct vdc_digest {
    uint64_t lo;
    uint64_t hi;
};
#define VDC_DIGEST_TEXT_CAP 33
void vdc_digest_to_text(const struct vdc_digest *digest, char text[VDC_DIGEST_TEXT_CAP]);
bool vdc_digest_equal(const struct vdc_digest *a, const struct vdc_digest *b);

/* One committed change, as it is journalled and streamed: opaque bytes whose head can be read
 * without a database. */
struct vdc_record_head {
    uint64_t sequence;
    struct vdc_digest digest; /* of the state after it */
    enum vdc_rc rc;           /* not OK: a stored refusal, which changes no resource */
    struct vdc_id request_id;
};
enum vdc_rc vdc_record_head_read(const void *data, size_t len,
                                 struct vdc_record_head *out) VDC_MUST_USE;
/* The whole record: what was asked, resolved, and its answer. tx_out needs vdc_tx_deinit. */
enum vdc_rc vdc_record_decode(const void *data, size_t len, struct vdc_record_head *head,
                              struct vdc_tx *tx_out, struct vdc_tx_result *result,
                              struct vdc_err *err) VDC_MUST_USE;

#endif
