/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node agent's core: what one node does about what its zones' leaders want and what really runs.
 * Pure: no clock, socket, file or process. It holds the node's allocation database; its driver
 * (node-agent/io) tells it what happened by events and carries out the actions of each update.
 * Called from the loop's thread only.
 *
 * An update's actions are a list, to be carried out in their order. The driver may not fail at one:
 * what goes wrong comes back as an event (MONITOR_GONE, HANDOVER_MARKED, RELAY_ENDED, SESSION_DOWN). Nothing is
 * acknowledged, streamed or started before its record is durable: the core waits for DURABLE itself,
 * so the driver needs no rule of its own.
 *
 * Flow control: the change stream to a session goes on only while the session's queue is short, a
 * bounded piece per step, so a database of any size passes through a link's queue. An answer never
 * overtakes the record that it speaks of.
 *
 * A *guest* here is one directory RUN/partitions/ID.GENERATION: the partition of that id, begun under
 * that generation. Its processes (monitor, QEMU, relay) may outlive this program; after a restart the
 * driver tells by FOUND what it met, then RECOVERED, and the core adopts or kills.
 *
 *             START                 first state
 *      idle ---------> starting --------------------> up
 *       ^  ^              | GONE                      | KILL     GONE
 *       |  +--------------+---------------------------+--------> (idle)
 *       +---------------------------------------------- killing <---+
 *
 * Deviation from "a session with the leader of each zone": the node keeps one with every manager it
 * is configured with, so that a new leader finds its nodes connected.
 */
#ifndef VDC_AGENT_H
#define VDC_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/agent_monitor.h>
#include <vdc/allocdb.h>
#include <vdc/msg.h>
#include <vdc/run_lease.h>
#include <vdc/time.h>
#include <vdc/trace.h>

/* Managers a node dials: an etcd of five with a manager on each, three times over. */
#define VDC_AGENT_MANAGERS_MAX 16
/* Records kept in memory for a session that follows from a little behind; older: a snapshot. */
#define VDC_AGENT_BACKLOG_MAX 8192
#define VDC_AGENT_BACKLOG_BYTES (UINT64_C(8) << 20)
/* Bytes of the change stream (snapshot pieces, records) that one step sends to one session. What is
 * left waits for SESSION_DRAINED: a quarter of a link's queue, whose rest is for everything else. */
#define VDC_AGENT_STREAM_BYTES (UINT32_C(4) << 20)
/* Answers that wait for their record to be durable and streamed. A manager that has so many to come
 * and reads nothing gets them unstreamed, which ends in its link's queue being full. */
#define VDC_AGENT_ANSWERS_MAX 16384
/* Transactions that wait for guests to be gone (destroys); more are answered LIMIT. */
#define VDC_AGENT_HELD_MAX 256
/* A monitor that was started and has said nothing for so long is killed, and started again later. It
 * speaks as soon as QEMU's process exists, which takes 0.1 s alone and seconds on a full machine. */
#define VDC_AGENT_START_NS (60 * VDC_SECOND)
/* From asking a monitor to kill its guest until it is killed itself. */
#define VDC_AGENT_KILL_AFTER_NS (1 * VDC_SECOND)
/* From a lease's end to the SIGKILL of a guest that by its monitor's last word still runs. The monitor
 * itself pauses 200 ms before that end and kills at it; its word may be some ms late. Shorter than
 * what leaders add to a lease (VDC_ZONE_LEASE_PAUSE_NS). */
#define VDC_AGENT_LEASE_KILL_NS (150 * VDC_MS)
/* A monitor that failed is started again after FIRST, doubling to MAX; anew after it ran STABLE. */
#define VDC_AGENT_RESTART_FIRST_NS (1 * VDC_SECOND)
#define VDC_AGENT_RESTART_MAX_NS (60 * VDC_SECOND)
#define VDC_AGENT_RESTART_STABLE_NS (60 * VDC_SECOND)
/* A monitor answers each request at once; a relay starts in milliseconds. Generous for busy hosts. */
#define VDC_AGENT_COMMAND_NS (20 * VDC_SECOND)
/* The directory (console log) of a guest that is gone from here stays readable for so long... */
#define VDC_AGENT_GRAVE_NS (600 * VDC_SECOND)
/* ... but no more of them than this, the oldest go first. */
#define VDC_AGENT_GRAVES_MAX 256
/* A change of the database that could not be journalled (disk full) is tried again after this. */
#define VDC_AGENT_RETRY_NS (1 * VDC_SECOND)
/* What the database refused to record of the machine is tried again after this. Leaders shrink their
 * slices within a second of hearing that less is offered; trying writes a few records at worst. */
#define VDC_AGENT_INVENTORY_NS (10 * VDC_SECOND)
/* System partitions of a node: ultravisor, command, operations. */
#define VDC_AGENT_SYSTEMS_MAX 3

/* One guest's directory. generation is the one it was begun under (see SET_GENERATION). */
struct vdc_agent_key {
    struct vdc_id id;
    uint64_t generation;
};

/* What of the machine is not offered to zones, and for whom. */
struct vdc_agent_system {
    char name[VDC_NAME_CAP];      /* "ultravisor"; each differs */
    uint16_t cpus[VDC_VCPUS_MAX]; /* its own, ascending */
    uint32_t cpus_len;            /* 0: it runs in the pools, on what is left there */
    uint64_t
        memory_bytes[VDC_NUMA_NODES_MAX]; /* [i]: of the config's numa[i]; multiples of 4 KiB */
};

/* What HELLO says beside the database; strings and arrays borrowed for vdc_agent_create(). HELLO's
 * CPUs and memory are what is offered to zones: the machine less what the system partitions have. */
struct vdc_agent_config {
    struct vdc_msg_hello hello; /* db_*, zones*: filled by the core */
    /* What the machine has; brought into the database at RECOVERED. */
    const struct vdc_cpu_info *cpus;
    uint32_t cpus_len;
    const struct vdc_numa_info *numa;
    uint32_t numa_len;
    const struct vdc_agent_system *systems; /* those in the database that are not here end */
    size_t systems_len;                     /* <= VDC_AGENT_SYSTEMS_MAX */
    const struct vdc_op_device_add *devices;
    size_t devices_len;
};

enum vdc_agent_event_kind {
    VDC_AGENT_FOUND,      /* any number, before RECOVERED */
    VDC_AGENT_RECOVERED,  /* everything was found: begin */
    VDC_AGENT_DEVICES,    /* the machine's devices changed: all that it has now */
    VDC_AGENT_DURABLE,    /* all records up to `sequence` are on the disk */
    VDC_AGENT_SESSION_UP, /* a link to manager `session` (its index) is up */
    VDC_AGENT_SESSION_DOWN,
    VDC_AGENT_SESSION_DRAINED, /* its queue, which was long (sessions_busy), is short again */
    VDC_AGENT_SESSION_MSG,
    VDC_AGENT_MONITOR_STATE,   /* also the first word of one that was started or adopted */
    VDC_AGENT_MONITOR_REPLY,   /* to a request with a ticket other than 0 */
    VDC_AGENT_MONITOR_GONE,    /* monitor *and* QEMU have ended, or could not be started */
    VDC_AGENT_HANDOVER_MARKED, /* how HANDOVER (set) went: monitor.rc, monitor.text */
    VDC_AGENT_RELAY_READY,
    VDC_AGENT_RELAY_ENDED,
    VDC_AGENT_TICK, /* the deadline was reached */
};

struct vdc_agent_event {
    enum vdc_agent_event_kind kind;
    vdc_mono now;
    /* Not OK: the journal takes no records now (NO_SPACE, LIMIT). */
    enum vdc_rc journal;
    /* Bit i: much of what was sent to session i still waits in its queue. The stream to it pauses;
     * SESSION_DRAINED follows. */
    uint32_t sessions_busy;
    struct vdc_agent_key key; /* FOUND, MONITOR_*, RELAY_* */
    union {
        struct {
            uint64_t generation; /* in its view; 0: none */
            int64_t lease_ns;    /* in its view, VDC_VIEW_LEASE_* or a deadline */
            bool alive;          /* its monitor or QEMU runs; the driver is connecting to it */
            bool handover;       /* HANDOVER (set) was done */
            bool ended;          /* a last state was left by the monitor: `last` */
            struct vdc_agent_monitor_state last;
        } found;
        struct {
            const struct vdc_op_device_add *list;
            size_t len;
        } devices;
        uint64_t sequence;
        struct {
            uint32_t index;
            const char *manager; /* SESSION_UP: its name, from its certificate */
            const struct vdc_msg *msg;
        } session;
        struct {
            const struct vdc_agent_monitor_state *state; /* STATE; GONE: the last, or NULL */
            uint64_t ticket;
            enum vdc_rc rc;
            const char *text; /* GONE: why, if state is NULL; REPLY, MARKED: the error */
        } monitor;
        struct {
            uint16_t port; /* READY of a listening relay */
            enum vdc_rc rc;
            const char *text;
        } relay;
    };
};

enum vdc_agent_action_kind {
    VDC_AGENT_DO_JOURNAL, /* append bytes as record `sequence` */
    VDC_AGENT_DO_PUBLISH, /* (re)publish the view from the database; make it if there is none */
    VDC_AGENT_DO_LEASE,   /* the view's lease deadline: lease_ns */
    VDC_AGENT_DO_START,   /* directory, launch configuration, monitor */
    VDC_AGENT_DO_KILL,    /* SIGKILL to monitor and QEMU by verified pids; GONE follows */
    VDC_AGENT_DO_ASK,     /* a request to the monitor; a REPLY follows if ticket != 0 */
    /* Leave (set) or remove (!set) a mark in the directory that survives us. HANDOVER_MARKED follows
     * if set. */
    VDC_AGENT_DO_HANDOVER,
    VDC_AGENT_DO_RELAY,         /* start the migration relay; READY or ENDED follows */
    VDC_AGENT_DO_RELAY_STOP,    /* no event follows that is not already under way */
    VDC_AGENT_DO_FORGET,        /* drop the view and what is held in memory; keep the directory */
    VDC_AGENT_DO_REMOVE,        /* remove the directory */
    VDC_AGENT_DO_VOLUME_DELETE, /* remove the file of the volume of `console.command`'s partition from
                                 * the shared storage, and answer the command */
    VDC_AGENT_DO_CONSOLE, /* read the newest console log of `command`'s partition and answer it */
    VDC_AGENT_DO_SEND,
};

struct vdc_agent_action {
    enum vdc_agent_action_kind kind;
    struct vdc_agent_key key;
    union {
        struct {
            uint64_t sequence;
            const void *data;
            size_t len;
        } journal;
        int64_t lease_ns;
        struct {
            const struct vdc_partition *partition;
            bool incoming; /* wait for a migration stream instead of booting */
            bool lease;    /* needs a run lease */
            int64_t grace_ns;
        } start;
        struct {
            enum vdc_agent_monitor_request request;
            uint64_t ticket;
            uint64_t bandwidth;
            int64_t downtime_ns;
        } ask;
        bool handover;
        struct {
            bool listen;
            const char *peer_node;
            const char *address; /* !listen */
            uint16_t port;
        } relay;
        struct {
            uint32_t session;
            const struct vdc_msg_command *command;
            bool known; /* key says which directory; else none is known any more */
            bool live;  /* its monitor can be asked */
        } console;
        struct {
            uint32_t session;
            const struct vdc_msg *msg;
        } send;
    };
};

/* Lives in the core until the next step. */
struct vdc_agent_update {
    struct vdc_agent_action *actions;
    size_t actions_len;
    struct vdc_trace trace; /* the driver takes the lines out */
};

struct vdc_agent;

/* Takes `db`, recovered from the journal and all of it durable. */
struct vdc_agent *vdc_agent_create(const struct vdc_agent_config *config, struct vdc_allocdb *db);
void vdc_agent_destroy(struct vdc_agent *agent); /* NULL is fine */
/* Never fails: bad input is answered or ignored with a trace line. */
struct vdc_agent_update *vdc_agent_step(struct vdc_agent *agent,
                                        const struct vdc_agent_event *event);
vdc_mono vdc_agent_deadline(const struct vdc_agent *agent);

/* --- readers, valid until the next step --- */

const struct vdc_allocdb *vdc_agent_allocdb(const struct vdc_agent *agent);

enum vdc_agent_process { VDC_AGENT_IDLE, VDC_AGENT_STARTING, VDC_AGENT_UP, VDC_AGENT_KILLING };
const char *vdc_agent_process_name(enum vdc_agent_process process);

struct vdc_agent_guest_info {
    struct vdc_agent_key key;
    const struct vdc_partition *partition; /* NULL: gone from the database */
    enum vdc_agent_process process;
    struct vdc_msg_guest report; /* what a leader was told last */
    uint32_t failures;
};
/* i-th guest in the order of their coming; false: no more. */
bool vdc_agent_guest_at(const struct vdc_agent *agent, size_t i, struct vdc_agent_guest_info *out);

struct vdc_agent_zone_info {
    char name[VDC_NAME_CAP];
    uint64_t epoch;
    uint64_t incarnation;
    bool joined;
    char leader[VDC_NAME_CAP]; /* "": none connected */
    struct vdc_run_lease lease;
};
bool vdc_agent_zone_at(const struct vdc_agent *agent, size_t i, struct vdc_agent_zone_info *out);

struct vdc_agent_session_info {
    bool up;
    char manager[VDC_NAME_CAP];
    bool following;
    uint64_t sent_sequence; /* last record that was streamed */
};
bool vdc_agent_session_at(const struct vdc_agent *agent, uint32_t index,
                          struct vdc_agent_session_info *out);

#endif
