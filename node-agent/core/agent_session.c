/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions with managers, joining zones, run leases and the change stream.
 *
 * Joining, per ZONE_LEAD:
 *
 *      ZONE_LEAD, fenced                    ZONE_LEAD
 *           v                                   v
 *        fencing -- those gone ------> commit (epoch, incarnation, destroys) --> durable --> done
 *           kill                          ^ journal refuses: again in 1 s   |
 *                                         +---------------------------------+
 *
 * When done: ZONE_JOINED, the stream from where the leader's replica stands, what runs, GUESTS_END,
 * and only then the first LEASE_ASK. So a leader that grants a lease has seen what this node believes
 * to own and has already sent the destroys of what it does not: a rebooted node starts nothing that
 * moved away while it was down.
 *
 * Fencing concerns the guests that need a run lease: they may run elsewhere by now. One that policy
 * does not restart elsewhere (`failover: none`) is still this node's, goes on running through it all,
 * and is reported as ever.
 *
 * The killing and destroying of a fencing goes on when the session breaks: the order was the leader's,
 * and its successor finds the new incarnation in HELLO.
 */
#include <stdio.h>
#include <string.h>

#include "agent_internal.h"

struct zone *agent_find_zone(struct vdc_agent *agent, const char *name)
{
    for (size_t i = 0; i < agent->zones_len; i++) {
        if (strcmp(agent->zones[i].name, name) == 0) {
            return &agent->zones[i];
        }
    }
    return NULL;
}

struct zone *agent_zone_add(struct vdc_agent *agent, const char *name)
{
    struct zone *zone = agent_find_zone(agent, name);
    if (zone != NULL) {
        return zone;
    }
    if (agent->zones_len == VDC_MSG_ZONES_MAX) {
        return NULL;
    }
    zone = &agent->zones[agent->zones_len++];
    vdc_str_set(zone->name, sizeof zone->name, name);
    const struct vdc_zone_slice *slice = vdc_allocdb_find_zone(agent->db, name);
    zone->epoch = slice != NULL ? slice->epoch : 0;
    return zone;
}

static void say_bye(struct vdc_agent *agent, uint32_t session, const char *reason)
{
    struct vdc_msg msg = {.kind = VDC_MSG_BYE};
    snprintf(msg.bye.reason, sizeof msg.bye.reason, "%s", reason);
    agent_send(agent, session, &msg);
}

/* --- the session itself --- */

static void put_digest(const struct vdc_digest *digest, uint8_t out[VDC_MSG_DIGEST_LEN])
{
    for (unsigned i = 0; i < 8; i++) {
        out[i] = (uint8_t)(digest->lo >> (8 * i));
        out[8 + i] = (uint8_t)(digest->hi >> (8 * i));
    }
}

static void fill_zones(const struct vdc_agent *agent, struct vdc_msg_hello *hello)
{
    for (size_t i = 0; i < agent->zones_len; i++) {
        const struct zone *zone = &agent->zones[i];
        const struct vdc_zone_slice *slice = vdc_allocdb_find_zone(agent->db, zone->name);
        struct vdc_msg_zone_state *out = &hello->zones[hello->zones_len++];
        *out = (struct vdc_msg_zone_state){
            .epoch = zone->epoch,
            .incarnation = slice != NULL ? slice->incarnation : 0,
        };
        vdc_str_set(out->zone, sizeof out->zone, zone->name);
    }
}

static void send_hello(struct vdc_agent *agent, uint32_t index)
{
    struct vdc_msg msg = {.kind = VDC_MSG_HELLO, .hello = agent->hello};
    msg.hello.db_sequence = agent->durable;
    put_digest(&agent->durable_digest, msg.hello.db_digest);
    msg.hello.zones_len = 0;
    fill_zones(agent, &msg.hello);
    agent_send(agent, index, &msg);
}

void agent_session_up(struct vdc_agent *agent, const struct vdc_agent_event *event)
{
    VDC_ASSERT(event->session.index < VDC_AGENT_MANAGERS_MAX);
    struct session *session = &agent->sessions[event->session.index];
    session->up = true;
    session->following = false;
    vdc_str_set(session->manager, sizeof session->manager, event->session.manager);
    send_hello(agent, event->session.index);
    AGENT_TRACE(agent, INFO, "manager %s: connected -> hello, sequence %llu", session->manager,
                (unsigned long long)agent->durable);
}

/* Its pieces may be on their way in this step's update. */
static void drop_snapshot(struct vdc_agent *agent, struct session *session)
{
    agent_keep(agent, vdc_buf_steal(&session->snapshot));
    session->snapshot_at = 0;
    session->snapshot_waits = false;
}

void agent_session_down(struct vdc_agent *agent, uint32_t index)
{
    VDC_ASSERT(index < VDC_AGENT_MANAGERS_MAX);
    struct session *session = &agent->sessions[index];
    if (!session->up) {
        return;
    }
    AGENT_TRACE(agent, WARN, "manager %s: connection lost", session->manager);
    session->up = false;
    session->following = false;
    drop_snapshot(agent, session);
    for (size_t i = 0; i < agent->zones_len; i++) {
        struct zone *zone = &agent->zones[i];
        if (zone->led && zone->session == index) {
            zone->led = false;
            struct vdc_run_lease_event leave = {.kind = VDC_RUN_LEASE_LEAVE, .now = agent->now};
            agent_zone_lease_event(agent, zone, &leave);
        }
    }
}

/* --- the stream --- */

static void take_snapshot(struct vdc_agent *agent, struct session *session)
{
    drop_snapshot(agent, session);
    vdc_allocdb_snapshot(agent->db, &session->snapshot);
    session->snapshot_sequence = agent->committed;
    session->snapshot_waits = true;
}

/* Whether the stream has to wait for SESSION_DRAINED. That it comes is certain: what this step has
 * sent, or what the driver calls busy, is more than a short queue. */
static bool stream_waits(const struct vdc_agent *agent, uint32_t index)
{
    return (agent->sessions_busy & (UINT32_C(1) << index)) != 0 ||
           agent->sessions[index].streamed >= VDC_AGENT_STREAM_BYTES;
}

/* True when all of it is sent. */
static bool send_snapshot(struct vdc_agent *agent, uint32_t index)
{
    struct session *session = &agent->sessions[index];
    size_t total = session->snapshot.len;
    while (session->snapshot_at < total) {
        if (stream_waits(agent, index)) {
            return false;
        }
        struct vdc_msg msg = {.kind = VDC_MSG_SNAPSHOT};
        msg.snapshot.sequence = session->snapshot_sequence;
        msg.snapshot.offset = session->snapshot_at;
        msg.snapshot.total = total;
        msg.snapshot.piece.data = session->snapshot.data + session->snapshot_at;
        msg.snapshot.piece.len = VDC_MIN(total - session->snapshot_at, (size_t)VDC_MSG_PIECE_MAX);
        agent_send(agent, index, &msg);
        session->snapshot_at += msg.snapshot.piece.len;
        session->streamed += msg.snapshot.piece.len;
    }
    session->sent = session->snapshot_sequence;
    drop_snapshot(agent, session);
    return true;
}

/* The backlog's place of `sequence`; false: it is not kept any more. */
static bool find_record(const struct vdc_agent *agent, uint64_t sequence, size_t *at)
{
    if (agent->backlog_len == 0 || sequence < agent->backlog[0].sequence) {
        return false;
    }
    *at = (size_t)(sequence - agent->backlog[0].sequence);
    VDC_ASSERT(*at < agent->backlog_len && agent->backlog[*at].sequence == sequence);
    return true;
}

/* Bytes of records in one message: with its other fields it stays far below a frame. */
#define RECORDS_BYTES_MAX (UINT32_C(1) << 20)

static void send_records(struct vdc_agent *agent, uint32_t index, size_t at)
{
    struct session *session = &agent->sessions[index];
    struct vdc_msg msg = {.kind = VDC_MSG_RECORDS};
    msg.records.first_sequence = agent->backlog[at].sequence;
    size_t bytes = 0;
    for (; at < agent->backlog_len && agent->backlog[at].sequence <= agent->durable; at++) {
        const struct record *record = &agent->backlog[at];
        if (msg.records.records_len == VDC_MSG_RECORDS_MAX ||
            (bytes > 0 && bytes + record->len > RECORDS_BYTES_MAX)) {
            break;
        }
        bytes += record->len;
        /* A copy: the backlog may be trimmed before the driver sends. */
        msg.records.records[msg.records.records_len++] = (struct vdc_msg_bytes){
            agent_keep(agent, vdc_memdup(record->data, record->len)),
            record->len,
        };
        session->sent = record->sequence;
    }
    session->streamed += bytes;
    agent_send(agent, index, &msg);
}

static void stream_to(struct vdc_agent *agent, uint32_t index)
{
    struct session *session = &agent->sessions[index];
    if (!session->up || !session->following) {
        return;
    }
    while (session->snapshot_waits || session->sent < agent->durable) {
        size_t at;
        if (session->snapshot_waits) {
            if (session->snapshot_sequence > agent->durable || !send_snapshot(agent, index)) {
                return;
            }
        } else if (stream_waits(agent, index)) {
            return;
        } else if (find_record(agent, session->sent + 1, &at)) {
            send_records(agent, index, at);
        } else {
            take_snapshot(agent, session);
        }
    }
}

void agent_session_stream(struct vdc_agent *agent)
{
    for (uint32_t i = 0; i < VDC_AGENT_MANAGERS_MAX; i++) {
        stream_to(agent, i);
    }
}

/* The leader's replica stands at follow_from, or wants a snapshot. */
static void follow(struct vdc_agent *agent, uint32_t index, const struct vdc_msg_zone_lead *lead)
{
    struct session *session = &agent->sessions[index];
    size_t at;
    if (lead->snapshot || lead->follow_from > agent->durable ||
        (lead->follow_from < agent->durable && !find_record(agent, lead->follow_from + 1, &at))) {
        take_snapshot(agent, session);
    } else {
        session->sent =
            session->following ? VDC_MIN(session->sent, lead->follow_from) : lead->follow_from;
    }
    session->following = true;
    stream_to(agent, index);
}

/* --- leases --- */

void agent_zone_lease_event(struct vdc_agent *agent, struct zone *zone,
                            const struct vdc_run_lease_event *event)
{
    struct vdc_run_lease_update update;
    vdc_run_lease_step(&zone->lease, event, &update);
    if (update.deadline_changed) {
        struct guest *guest;
        struct guest *next;
        HASH_ITER(hh, agent->guests, guest, next)
        {
            if (guest->in_db && guest->lease_needed && strcmp(guest->zone, zone->name) == 0) {
                agent_guest_publish_lease(agent, guest);
            }
        }
    }
    if (update.expired) {
        AGENT_TRACE(agent, WARN, "zone %s: the run lease ran out -> nothing is started",
                    zone->name);
        agent_guest_watch_lease(agent, zone->name, true);
    }
    if (update.began) {
        agent_guest_watch_lease(agent, zone->name, false);
        AGENT_TRACE(agent, INFO, "zone %s: run lease granted, incarnation %llu", zone->name,
                    (unsigned long long)zone->lease.incarnation);
        agent_guest_reconcile_zone(agent, zone->name);
    }
    if (!update.ask) {
        return;
    }
    struct vdc_msg msg = {.kind = VDC_MSG_LEASE_ASK};
    vdc_str_set(msg.lease_ask.zone, sizeof msg.lease_ask.zone, zone->name);
    msg.lease_ask.epoch = zone->epoch;
    msg.lease_ask.incarnation = zone->lease.incarnation;
    msg.lease_ask.asked_ns = update.asked_ns;
    msg.lease_ask.db_sequence = agent->durable;
    put_digest(&agent->durable_digest, msg.lease_ask.db_digest);
    agent_send(agent, zone->session, &msg);
}

static void take_grant(struct vdc_agent *agent, uint32_t index,
                       const struct vdc_msg_lease_grant *grant)
{
    struct zone *zone = agent_find_zone(agent, grant->zone);
    if (zone == NULL || !zone->led || zone->session != index) {
        return;
    }
    struct vdc_run_lease_event event = {
        .kind = VDC_RUN_LEASE_GRANT,
        .now = agent->now,
        .epoch = grant->epoch,
        .incarnation = grant->incarnation,
        .asked_ns = grant->asked_ns,
    };
    agent_zone_lease_event(agent, zone, &event);
}

void agent_zone_tick(struct vdc_agent *agent)
{
    for (size_t i = 0; i < agent->zones_len; i++) {
        struct vdc_run_lease_event tick = {.kind = VDC_RUN_LEASE_TICK, .now = agent->now};
        agent_zone_lease_event(agent, &agent->zones[i], &tick);
    }
}

/* --- joining --- */

static enum vdc_rc commit_ops(struct vdc_agent *agent, struct zone *zone, enum vdc_tx_kind kind,
                              const struct vdc_id *claim, const struct vdc_op *ops,
                              uint32_t ops_len)
{
    struct vdc_tx tx = {
        .epoch = zone->epoch,
        .role = VDC_ROLE_COMMAND,
        .kind = kind,
        .ops = ops,
        .ops_len = ops_len,
    };
    if (claim != NULL) {
        tx.claim = *claim;
    }
    vdc_str_set(tx.zone, sizeof tx.zone, zone->name);
    struct vdc_tx_result result;
    enum vdc_rc rc = agent_commit(agent, &tx, &result);
    if (rc != VDC_RC_OK) {
        AGENT_TRACE(agent, ERROR, "zone %s: joining: %s", zone->name, result.text);
    }
    return rc;
}

static enum vdc_rc abort_claims(struct vdc_agent *agent, struct zone *zone)
{
    struct vdc_claim claim;
    size_t i = 0;
    while (vdc_allocdb_claim_at(agent->db, i, &claim)) {
        if (strcmp(claim.zone, zone->name) != 0) {
            i++;
            continue;
        }
        enum vdc_rc rc = commit_ops(agent, zone, VDC_TX_ABORT_CLAIM, &claim.id, NULL, 0);
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    return VDC_RC_OK;
}

/* Half a transaction's operations at once. */
#define DESTROYS_MAX (VDC_TX_OPS_MAX / 2)

/* What a fencing has given away: partitions that need no lease are nobody else's. */
static enum vdc_rc destroy_fenced(struct vdc_agent *agent, struct zone *zone)
{
    for (;;) {
        struct vdc_op ops[DESTROYS_MAX];
        uint32_t ops_len = 0;
        size_t len;
        const struct vdc_partition **list = vdc_allocdb_list_partitions(agent->db, &len);
        for (size_t i = 0; i < len && ops_len < DESTROYS_MAX; i++) {
            if (strcmp(list[i]->zone, zone->name) == 0 && agent_partition_needs_lease(list[i])) {
                ops[ops_len++] = (struct vdc_op){
                    .kind = VDC_OP_PARTITION_DESTROY,
                    .partition_destroy = {list[i]->id, list[i]->generation},
                };
            }
        }
        free((void *)list);
        if (ops_len == 0) {
            return VDC_RC_OK;
        }
        enum vdc_rc rc = commit_ops(agent, zone, VDC_TX_APPLY, NULL, ops, ops_len);
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
}

/* Everything that the journal must hold before ZONE_JOINED. */
static enum vdc_rc commit_join(struct vdc_agent *agent, struct zone *zone)
{
    const struct vdc_zone_slice *slice = vdc_allocdb_find_zone(agent->db, zone->name);
    uint64_t incarnation = slice != NULL ? slice->incarnation : 0;
    if (slice == NULL || !slice->joined) {
        /* The first time: a slice of nothing, which the leader's policy then sizes. */
        struct vdc_op op = {.kind = VDC_OP_ZONE_SET, .zone_set = {.overcommit_milli = 1000}};
        enum vdc_rc rc = commit_ops(agent, zone, VDC_TX_APPLY, NULL, &op, 1);
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    if (zone->lead.fenced && incarnation != zone->lead.incarnation) {
        enum vdc_rc rc = abort_claims(agent, zone);
        if (rc == VDC_RC_OK) {
            rc = destroy_fenced(agent, zone);
        }
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    slice = vdc_allocdb_find_zone(agent->db, zone->name);
    if (incarnation != zone->lead.incarnation) {
        struct vdc_op op = {
            .kind = VDC_OP_INCARNATION_SET,
            .incarnation_set = {zone->lead.incarnation},
        };
        return commit_ops(agent, zone, VDC_TX_APPLY, NULL, &op, 1);
    }
    if (slice != NULL && slice->epoch < zone->epoch) {
        struct vdc_op op = {.kind = VDC_OP_ZONE_EPOCH};
        return commit_ops(agent, zone, VDC_TX_APPLY, NULL, &op, 1);
    }
    return VDC_RC_OK;
}

static void send_guests(struct vdc_agent *agent, const struct zone *zone)
{
    for (struct guest *guest = agent->guests; guest != NULL; guest = guest->hh.next) {
        if (strcmp(guest->zone, zone->name) == 0) {
            agent_guest_report(agent, guest, true);
        }
    }
    struct vdc_msg end = {.kind = VDC_MSG_GUESTS_END};
    vdc_str_set(end.guests_end.zone, sizeof end.guests_end.zone, zone->name);
    agent_send(agent, zone->session, &end);
}

static void finish_join(struct vdc_agent *agent, struct zone *zone)
{
    zone->join = JOIN_DONE;
    /* The other managers know this node as it was when they met it. The next leader is one of them: if
     * it took the old incarnation for what the node is now, it would wait for the lease's end and fence
     * a node that is well. */
    for (uint32_t i = 0; i < VDC_AGENT_MANAGERS_MAX; i++) {
        if (agent->sessions[i].up && !(zone->led && zone->session == i)) {
            send_hello(agent, i);
        }
    }
    if (!zone->led) {
        return;
    }
    struct vdc_msg msg = {.kind = VDC_MSG_ZONE_JOINED};
    vdc_str_set(msg.zone_joined.zone, sizeof msg.zone_joined.zone, zone->name);
    msg.zone_joined.epoch = zone->epoch;
    msg.zone_joined.incarnation = zone->lead.incarnation;
    agent_send(agent, zone->session, &msg);
    AGENT_TRACE(agent, INFO, "zone %s: joined under %s, epoch %llu, incarnation %llu", zone->name,
                agent->sessions[zone->session].manager, (unsigned long long)zone->epoch,
                (unsigned long long)zone->lead.incarnation);
    follow(agent, zone->session, &zone->lead);
    send_guests(agent, zone);
    struct vdc_run_lease_event join = {
        .kind = VDC_RUN_LEASE_JOIN,
        .now = agent->now,
        .lease_ns = zone->lead.lease_ns,
        .epoch = zone->epoch,
        .incarnation = zone->lead.incarnation,
    };
    agent_zone_lease_event(agent, zone, &join);
    agent_guest_reconcile_zone(agent, zone->name);
}

static void continue_join(struct vdc_agent *agent, struct zone *zone)
{
    if (zone->join == JOIN_FENCING && !agent_guest_any_process(agent, zone->name)) {
        zone->join = JOIN_COMMIT;
    }
    if (zone->join == JOIN_COMMIT) {
        if (agent->journal != VDC_RC_OK) {
            agent_retry_later(agent);
            return;
        }
        if (commit_join(agent, zone) != VDC_RC_OK) {
            zone->join = JOIN_NONE;
            say_bye(agent, zone->session, "the node cannot join: its database refuses");
            return;
        }
        zone->join_sequence = agent->committed;
        zone->join = JOIN_DURABLE;
    }
    if (zone->join == JOIN_DURABLE && agent->durable >= zone->join_sequence) {
        finish_join(agent, zone);
    }
}

void agent_zone_continue_joins(struct vdc_agent *agent)
{
    for (size_t i = 0; i < agent->zones_len; i++) {
        continue_join(agent, &agent->zones[i]);
    }
}

static void doom_zone(struct vdc_agent *agent, struct zone *zone)
{
    AGENT_TRACE(agent, WARN,
                "zone %s: this node was fenced -> destroy all of the zone that needs its lease",
                zone->name);
    struct vdc_run_lease_event revoke = {.kind = VDC_RUN_LEASE_REVOKE, .now = agent->now};
    agent_zone_lease_event(agent, zone, &revoke);
    struct guest *guest;
    struct guest *next;
    HASH_ITER(hh, agent->guests, guest, next)
    {
        if (guest->lease_needed && strcmp(guest->zone, zone->name) == 0) {
            agent_guest_doom(agent, guest, "the node was fenced");
        }
    }
}

static const char *refuse_lead(struct vdc_agent *agent, const struct zone *zone,
                               const struct vdc_msg_zone_lead *lead)
{
    if (lead->epoch < zone->epoch) {
        return "a leader with a higher epoch was seen";
    }
    if (lead->lease_ns < VDC_RUN_LEASE_MIN_NS || lead->lease_ns > VDC_RUN_LEASE_MAX_NS ||
        lead->grace_ns < 0 || lead->grace_ns > VDC_RUN_LEASE_MAX_NS) {
        return "a lease or grace time out of bounds";
    }
    const struct vdc_zone_slice *slice = vdc_allocdb_find_zone(agent->db, zone->name);
    if (lead->incarnation == 0 || (slice != NULL && lead->incarnation < slice->incarnation)) {
        return "an incarnation that has passed";
    }
    return NULL;
}

static void take_lead(struct vdc_agent *agent, uint32_t index, const struct vdc_msg_zone_lead *lead)
{
    struct zone *zone = agent_zone_add(agent, lead->zone);
    const char *why = zone == NULL ? "too many zones" : refuse_lead(agent, zone, lead);
    if (why != NULL) {
        AGENT_TRACE(agent, WARN, "zone %s: %s claims to lead with epoch %llu: %s -> ignored",
                    lead->zone, agent->sessions[index].manager, (unsigned long long)lead->epoch,
                    why);
        say_bye(agent, index, why);
        return;
    }
    const struct vdc_zone_slice *slice = vdc_allocdb_find_zone(agent->db, zone->name);
    bool fence = lead->fenced && (slice == NULL || slice->incarnation != lead->incarnation);
    bool fencing = zone->join == JOIN_FENCING;
    zone->epoch = lead->epoch;
    zone->led = true;
    zone->session = index;
    zone->lead = *lead;
    struct vdc_run_lease_event leave = {.kind = VDC_RUN_LEASE_LEAVE, .now = agent->now};
    agent_zone_lease_event(agent, zone, &leave);
    if (fence || fencing) {
        /* A fencing once begun is finished: its guests are doomed already. */
        zone->lead.fenced = true;
        zone->join = JOIN_FENCING;
        doom_zone(agent, zone);
    } else {
        zone->join = JOIN_COMMIT;
    }
}

void agent_session_receive(struct vdc_agent *agent, uint32_t index, const struct vdc_msg *msg)
{
    VDC_ASSERT(index < VDC_AGENT_MANAGERS_MAX);
    if (!agent->sessions[index].up) {
        return;
    }
    const char *manager = agent->sessions[index].manager;
    switch (msg->kind) {
    case VDC_MSG_WELCOME:
        if (msg->welcome.protocol != VDC_MSG_PROTOCOL) {
            AGENT_TRACE(agent, WARN, "manager %s: speaks protocol %u, we speak %u", manager,
                        msg->welcome.protocol, VDC_MSG_PROTOCOL);
        }
        return;
    case VDC_MSG_ZONE_LEAD:
        take_lead(agent, index, &msg->zone_lead);
        return;
    case VDC_MSG_LEASE_GRANT:
        take_grant(agent, index, &msg->lease_grant);
        return;
    case VDC_MSG_TX:
        agent_receive_tx(agent, index, &msg->tx);
        return;
    case VDC_MSG_COMMAND:
        agent_command_receive(agent, index, &msg->command);
        return;
    case VDC_MSG_BYE:
        AGENT_TRACE(agent, WARN, "manager %s: says bye: %s", manager, msg->bye.reason);
        return;
    case VDC_MSG_HELLO:
    case VDC_MSG_ZONE_JOINED:
    case VDC_MSG_LEASE_ASK:
    case VDC_MSG_TX_RESULT:
    case VDC_MSG_RECORDS:
    case VDC_MSG_SNAPSHOT:
    case VDC_MSG_GUEST:
    case VDC_MSG_GUESTS_END:
    case VDC_MSG_COMMAND_RESULT:
        break;
    }
    AGENT_TRACE(agent, WARN, "manager %s: sent %s, which only nodes send -> ignored", manager,
                vdc_msg_kind_name(msg->kind));
}
