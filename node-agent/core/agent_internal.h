/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the node agent's core share; see vdc/agent.h for the whole. */
#ifndef VDC_AGENT_INTERNAL_H
#define VDC_AGENT_INTERNAL_H

#include <uthash.h>

#include <vdc/agent.h>
#include <vdc/base.h>

/* The command of a migration that a guest is busy with; one at a time. */
enum command_step {
    COMMAND_NONE,
    COMMAND_RELAY,    /* waits for RELAY_READY */
    COMMAND_MARK,     /* continue: waits until the mark of the hand-over is on the disk */
    COMMAND_REPLY,    /* waits for the monitor's reply */
    COMMAND_STATE,    /* cancel: waits for the first word of an adopted monitor */
    COMMAND_HANDOVER, /* cancel: waits until the monitor has left `handover` either way */
};

struct command {
    enum command_step step;
    struct vdc_msg_command msg;
    uint32_t session;
    uint64_t ticket;
    vdc_mono deadline;
};

struct guest {
    struct vdc_agent_key key;
    UT_hash_handle hh;
    char zone[VDC_NAME_CAP];
    char name[VDC_NAME_CAP];
    bool in_db;       /* the database has it (also if not yet durable) */
    uint64_t touched; /* last record that concerns it: nothing is done before that is durable */
    bool doomed;      /* to be destroyed: a transaction or a fencing waits for its end */
    bool lease_needed;
    enum vdc_agent_process process;
    bool has_state;
    struct vdc_agent_monitor_state state; /* of the present or last monitor */
    bool stop_wanted;  /* this monitor was told to stop: its end is not the guest's own doing */
    bool ended_itself; /* the guest powered itself off: stays so until its run state is set again */
    bool incoming_failed; /* a target's monitor ended before it was activated */
    bool activate_asked;
    /* MIGRATE_CONTINUE was passed on: the target may own the guest. If the processes die now, they
     * are not started again here until the leader says so (cancel, or destroy). */
    bool handover;
    uint32_t failures;
    vdc_mono started_at;
    vdc_mono restart_at;
    vdc_mono silent_at;     /* STARTING, by us: when to give up waiting for its first word */
    vdc_mono kill_at;       /* KILLING: when to go from asking to SIGKILL */
    vdc_mono lease_kill_at; /* the lease is over: when not to trust its monitor any longer */
    bool relay;
    uint16_t relay_port; /* of a listening relay that is ready; 0: none */
    struct command command;
    bool answered; /* last_* are the outcome of the last command */
    struct vdc_id last_request;
    enum vdc_rc last_rc;
    char last_text[VDC_MSG_TEXT_CAP];
    bool reported;
    struct vdc_msg_guest report;
};

/* Fencing: guests are being killed. Commit: the journal refused. Durable: waits for the disk. */
enum join_step { JOIN_NONE, JOIN_FENCING, JOIN_COMMIT, JOIN_DURABLE, JOIN_DONE };

struct zone {
    char name[VDC_NAME_CAP];
    uint64_t epoch; /* highest seen */
    bool led;       /* `session` is the leader's */
    uint32_t session;
    enum join_step join;
    struct vdc_msg_zone_lead lead;
    uint64_t join_sequence;
    struct vdc_run_lease lease;
};

struct session {
    bool up;
    char manager[VDC_NAME_CAP];
    bool following;
    uint64_t sent;       /* last record streamed */
    bool snapshot_waits; /* until `snapshot_sequence` is durable and all of it is sent */
    uint64_t snapshot_sequence;
    struct vdc_buf snapshot;
    size_t snapshot_at; /* bytes of it that were sent */
    size_t streamed;    /* bytes of the stream in this step */
};

struct record {
    uint64_t sequence;
    struct vdc_digest digest;
    void *data;
    size_t len;
};

struct answer {
    uint64_t sequence; /* due when this is durable */
    uint32_t session;
    struct vdc_msg_tx_result result;
};

struct held {
    struct vdc_tx tx; /* owned */
    uint32_t session;
};

struct grave {
    struct vdc_agent_key key;
    char zone[VDC_NAME_CAP];
    vdc_mono remove_at;
};

struct vdc_agent {
    struct vdc_allocdb *db;
    struct vdc_msg_hello hello;
    struct vdc_cpu_info *cpus;
    uint32_t cpus_len;
    struct vdc_numa_info *numa;
    uint32_t numa_len;
    struct vdc_agent_system systems[VDC_AGENT_SYSTEMS_MAX];
    size_t systems_len;
    struct vdc_op_device_add *devices;
    size_t devices_len;
    bool inventory_refused;   /* the last try did not bring everything into line */
    uint64_t inventory_tried; /* `committed` then */
    vdc_mono inventory_at;    /* the next try */
    bool recovered;
    vdc_mono now;
    enum vdc_rc journal;
    uint32_t sessions_busy; /* as the event says */
    vdc_mono retry_at;      /* something waits for the journal to take records again */
    uint64_t committed;
    uint64_t durable; /* <= committed */
    struct vdc_digest durable_digest;
    /* Records backlog[0..backlog_len), ascending; the last ones may not be durable yet. */
    struct record *backlog;
    size_t backlog_len;
    size_t backlog_cap;
    uint64_t backlog_bytes;
    struct answer *answers;
    size_t answers_len;
    size_t answers_cap;
    struct held held[VDC_AGENT_HELD_MAX];
    size_t held_len;
    struct guest *guests; /* uthash by key */
    struct zone zones[VDC_MSG_ZONES_MAX];
    size_t zones_len;
    struct session sessions[VDC_AGENT_MANAGERS_MAX];
    struct grave graves[VDC_AGENT_GRAVES_MAX];
    size_t graves_len;
    uint64_t tickets;
    struct vdc_agent_update update;
    size_t actions_cap;
    void **kept; /* what actions point to; freed at the next step */
    size_t kept_len;
    size_t kept_cap;
};

#define AGENT_TRACE(agent, level, ...) \
    vdc_trace_line(&(agent)->update.trace, VDC_LEVEL_##level, __VA_ARGS__)

/* agent.c */
struct vdc_agent_action *agent_act(struct vdc_agent *agent, enum vdc_agent_action_kind kind,
                                   const struct vdc_agent_key *key);
/* Keeps `memory` until the next step. */
void *agent_keep(struct vdc_agent *agent, void *memory);
/* A copy of the message; what it points to must live until the next step (agent_keep). */
void agent_send(struct vdc_agent *agent, uint32_t session, const struct vdc_msg *msg);
void agent_retry_later(struct vdc_agent *agent);

/* agent_tx.c */
/* Commits locally; the record is journalled. Refusals are in result. */
enum vdc_rc agent_commit(struct vdc_agent *agent, const struct vdc_tx *tx,
                         struct vdc_tx_result *result);
void agent_receive_tx(struct vdc_agent *agent, uint32_t session, const struct vdc_msg_tx *msg);
/* After a guest has ended: transactions that waited for it. */
void agent_release_held(struct vdc_agent *agent);
void agent_become_durable(struct vdc_agent *agent, uint64_t sequence);
/* Those whose records are durable and streamed to whom they are for. */
void agent_send_due_answers(struct vdc_agent *agent);
void agent_drop_backlog(struct vdc_agent *agent);

/* agent_inventory.c */
/* Machine, system partitions and devices as they are, into the database. */
void agent_inventory_begin(struct vdc_agent *agent);
void agent_inventory_take_devices(struct vdc_agent *agent, const struct vdc_agent_event *event);
void agent_inventory_tick(struct vdc_agent *agent);

/* agent_guest.c */
struct guest *agent_guest_find(struct vdc_agent *agent, const struct vdc_agent_key *key);
/* The one that the database has; NULL: none. */
struct guest *agent_guest_of_partition(struct vdc_agent *agent, const struct vdc_id *id);
struct guest *agent_guest_add(struct vdc_agent *agent, const struct vdc_agent_key *key);
/* Brings guests and database together after claims or recovery. */
void agent_guest_sweep(struct vdc_agent *agent, uint64_t sequence);
/* Whether the partition may run only under its zone's run lease; a fencing destroys those. */
bool agent_partition_needs_lease(const struct vdc_partition *partition);
/* Takes names and needs from the record. */
void agent_guest_take_partition(struct guest *guest, const struct vdc_partition *partition);
void agent_guest_doom(struct vdc_agent *agent, struct guest *guest, const char *why);
void agent_guest_publish(struct vdc_agent *agent, struct guest *guest);
void agent_guest_publish_lease(struct vdc_agent *agent, struct guest *guest);
void agent_guest_reconcile(struct vdc_agent *agent, struct guest *guest);
void agent_guest_reconcile_zone(struct vdc_agent *agent, const char *zone);
void agent_guest_report(struct vdc_agent *agent, struct guest *guest, bool always);
void agent_guest_take_found(struct vdc_agent *agent, const struct vdc_agent_event *event);
void agent_guest_take_state(struct vdc_agent *agent, const struct vdc_agent_event *event);
void agent_guest_take_gone(struct vdc_agent *agent, const struct vdc_agent_event *event);
void agent_guest_tick(struct vdc_agent *agent);
void agent_guest_begin(struct vdc_agent *agent);
vdc_mono agent_guest_deadline(const struct vdc_agent *agent);
/* The zone's lease is over (or runs again): those that need it have VDC_AGENT_LEASE_KILL_NS. */
void agent_guest_watch_lease(struct vdc_agent *agent, const char *zone, bool over);
/* True while a process of any guest of the zone that needs its lease may still run. */
bool agent_guest_any_process(const struct vdc_agent *agent, const char *zone);

/* agent_command.c */
void agent_command_receive(struct vdc_agent *agent, uint32_t session,
                           const struct vdc_msg_command *msg);
void agent_command_take_reply(struct vdc_agent *agent, const struct vdc_agent_event *event);
void agent_command_take_mark(struct vdc_agent *agent, const struct vdc_agent_event *event);
void agent_command_take_relay(struct vdc_agent *agent, const struct vdc_agent_event *event);
void agent_command_follow_state(struct vdc_agent *agent, struct guest *guest);
/* Answers the command under way, if there is one. */
void agent_command_finish(struct vdc_agent *agent, struct guest *guest, enum vdc_rc rc,
                          const char *text);

/* agent_session.c */
struct zone *agent_find_zone(struct vdc_agent *agent, const char *name);
struct zone *agent_zone_add(struct vdc_agent *agent, const char *name);
void agent_session_up(struct vdc_agent *agent, const struct vdc_agent_event *event);
void agent_session_down(struct vdc_agent *agent, uint32_t index);
void agent_session_receive(struct vdc_agent *agent, uint32_t index, const struct vdc_msg *msg);
void agent_session_stream(struct vdc_agent *agent);
void agent_zone_continue_joins(struct vdc_agent *agent);
void agent_zone_tick(struct vdc_agent *agent);
void agent_zone_lease_event(struct vdc_agent *agent, struct zone *zone,
                            const struct vdc_run_lease_event *event);

#endif
