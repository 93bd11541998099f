/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes: their incarnations, leases, replicas, and what happens when one falls silent.
 *
 *             HELLO of a member                   ZONE_JOINED, READY is durable
 *    (unknown) ---------------> JOINING(i) ------------------------------------> READY(i)
 *                                  ^                                           |        ^
 *                     it is back:  |                       no question for T,  |        | it asks
 *                     incarnation  |                       lease run out       v        | again
 *                        i + 1     |                                         SILENT ----+
 *                                  |        FENCED is durable: its             |
 *                                  +---------- partitions start elsewhere <----+
 *
 * Between SILENT and FENCED stands the storm brake. A node in JOINING has no lease and owns nothing
 * that may run: its old incarnation was fenced before. A READY node that says HELLO in another
 * incarnation (its journal is gone) gets no grants, so it falls silent and takes the same way.
 */
#include <stdio.h>

#include "zone_internal.h"

static const struct vdc_sm_state node_states[] = {
    [VDC_NODE_JOINING] = {"joining", VDC_SM_TO(VDC_NODE_JOINING) | VDC_SM_TO(VDC_NODE_READY)},
    [VDC_NODE_READY] = {"ready", VDC_SM_TO(VDC_NODE_SILENT) | VDC_SM_TO(VDC_NODE_FENCED)},
    [VDC_NODE_SILENT] = {"silent", VDC_SM_TO(VDC_NODE_READY) | VDC_SM_TO(VDC_NODE_FENCED)},
    [VDC_NODE_FENCED] = {"fenced", VDC_SM_TO(VDC_NODE_JOINING)},
};

static void node_move(struct vdc_zone *zone, struct zone_node *node, enum vdc_node_state to,
                      const char *why)
{
    node->state =
        (enum vdc_node_state)vdc_sm_move(node_states, VDC_COUNT_OF(node_states), (int)node->state,
                                         (int)to, &zone->update.trace, "node", node->rec.name, why);
    if (to != VDC_NODE_SILENT) {
        node->rec.state = to;
    }
}

static bool recorded(const struct zone_node *node)
{
    return node->rec.incarnation != 0;
}

bool node_is_lost(const struct zone_node *node)
{
    return (node->state == VDC_NODE_FENCED && node->write == 0) || node->state == VDC_NODE_JOINING;
}

/* ---- what the policy says of it ---- */

bool node_is_member(const struct vdc_zone *zone, const struct zone_node *node,
                    struct vdc_policy_share *share)
{
    struct vdc_policy_label labels[VDC_LABELS_MAX];
    for (size_t i = 0; i < node->rec.labels_len; i++) {
        labels[i].key = node->rec.labels[i].key;
        labels[i].value = node->rec.labels[i].value;
    }
    const struct vdc_policy_node seen = {
        .name = node->rec.name,
        .rack = node->rec.rack,
        .labels = labels,
        .label_count = node->rec.labels_len,
        .cpu_model = node->rec.cpu_model,
        .accelerator = node->rec.accelerator,
        .numa_nodes = node->rec.numa_nodes,
        .cpus = node->rec.cpus,
        .memory_bytes = node->rec.memory_bytes,
    };
    return vdc_policy_share(zone->policy, &seen, share);
}

/* Whether the zone's slice on the node is as the policy says. */
static bool slice_is(const struct vdc_zone *zone, const struct zone_node *node,
                     const struct vdc_policy_share *share)
{
    const struct vdc_zone_slice *slice = vdc_allocdb_find_zone(node->replica, zone->name);
    return slice != NULL && slice->joined && slice->cpu_share.milli == 0 &&
           slice->cpu_share.amount == share->cpus && slice->memory_share.milli == 0 &&
           slice->memory_share.amount == share->memory_bytes &&
           slice->overcommit_milli == vdc_policy_settings(zone->policy)->cpu_overcommit_milli;
}

bool zone_is_settling(const struct vdc_zone *zone, const char **name)
{
    if (vdc_mono_sub(zone->now, zone->began) >= ZONE_SETTLE_NS) {
        return false;
    }
    for (size_t i = 0; i < zone->nodes_len; i++) {
        const struct zone_node *node = zone->nodes[i];
        bool lost =
            node->state == VDC_NODE_FENCED || (node->state == VDC_NODE_JOINING && !node->connected);
        if (!lost && !(node->connected && node_known(node))) {
            *name = node->rec.name;
            return true;
        }
    }
    return false;
}

bool node_is_usable(const struct vdc_zone *zone, const struct zone_node *node, const char **why)
{
    struct vdc_policy_share share;
    switch (node->state) {
    case VDC_NODE_JOINING:
        *why = recorded(node) ? "joining" : "not in the zone: no entry of the policy matches it";
        return false;
    case VDC_NODE_SILENT:
        *why = "silent";
        return false;
    case VDC_NODE_FENCED:
        *why = "fenced";
        return false;
    case VDC_NODE_READY:
        break;
    }
    if (!node->connected) {
        *why = "no session";
        return false;
    }
    if (!node_known(node)) {
        *why = "its state is being read";
        return false;
    }
    if (!node_is_member(zone, node, &share)) {
        *why = "not in the zone";
        return false;
    }
    if (!slice_is(zone, node, &share) && node->zone_set.state != CALL_REFUSED) {
        *why = "its share is being set";
        return false;
    }
    *why = "";
    return true;
}

/* Asks for the slice that the policy says; once for each wish. */
static void set_slice(struct vdc_zone *zone, struct zone_node *node)
{
    struct vdc_policy_share share;
    if (!node_known(node) || !node_is_member(zone, node, &share) || slice_is(zone, node, &share)) {
        return;
    }
    uint64_t overcommit = vdc_policy_settings(zone->policy)->cpu_overcommit_milli;
    bool asked = node->zone_set.state != CALL_NONE && node->share_asked.cpus == share.cpus &&
                 node->share_asked.memory_bytes == share.memory_bytes &&
                 node->overcommit_asked == overcommit;
    if (asked) {
        if (node->zone_set.state == CALL_REFUSED && node->zone_set.text[0] != 0) {
            TRACE(zone, WARN, "node %s: refused its share of %u CPUs: %s -> left as it is",
                  node->rec.name, share.cpus, node->zone_set.text);
            node->zone_set.text[0] = 0;
        }
        return;
    }
    if (node->zone_set.state == CALL_SENT) {
        return; /* its answer comes first */
    }
    call_forget(zone, &node->zone_set);
    node->share_asked = share;
    node->overcommit_asked = overcommit;
    const struct vdc_op op = {
        .kind = VDC_OP_ZONE_SET,
        .zone_set = {.overcommit_milli = (uint32_t)overcommit,
                     .cpu = {.amount = share.cpus},
                     .memory = {.amount = share.memory_bytes}},
    };
    node_send_tx(zone, node, &node->zone_set, &op, 1);
}

void node_policy_changed(struct vdc_zone *zone, struct zone_node *node)
{
    struct vdc_policy_share share;
    node->lead_sent = false; /* tells it the new lease time */
    node->stray_noted = false;
    if (recorded(node) && !node_is_member(zone, node, &share)) {
        TRACE(zone, WARN, "node %s: not in the zone by policy version %llu -> takes nothing new",
              node->rec.name, (unsigned long long)zone->policy_rec.version);
    }
    zone_mark_node(zone, node);
}

/* ---- sessions ---- */

void node_loaded(struct vdc_zone *zone, struct zone_node *node)
{
    int64_t lease = zone_lease_ns(zone);
    if (node->state == VDC_NODE_READY) {
        vdc_zone_lease_assume(&node->lease, node->rec.incarnation,
                              VDC_MAX(lease, zone->rec.lease_ns), zone->now);
        vdc_zone_lease_set_time(&node->lease, lease);
    }
    /* Fenced by a predecessor: only the wall clock says when, good enough for the storm brake. */
    node->fenced_at =
        vdc_mono_add(zone->now, VDC_MIN(node->rec.changed_at.ns - zone->wall.ns, INT64_C(0)));
    zone_mark_node(zone, node);
}

/* True when the record differs from what the node says of itself. */
static bool take_hello(struct zone_node *node, const struct vdc_msg_hello *hello)
{
    struct vdc_node_record old = node->rec;
    struct vdc_node_record *rec = &node->rec;
    vdc_str_set(rec->rack, sizeof rec->rack, hello->rack);
    vdc_str_set(rec->address, sizeof rec->address, hello->address);
    vdc_str_set(rec->cpu_model, sizeof rec->cpu_model, hello->cpu_model);
    vdc_str_set(rec->accelerator, sizeof rec->accelerator, hello->accelerator);
    rec->labels_len = hello->labels_len;
    for (size_t i = 0; i < hello->labels_len; i++) {
        rec->labels[i] = hello->labels[i];
    }
    rec->cpus = hello->cpus;
    rec->numa_nodes = (uint32_t)hello->numa_len;
    rec->memory_bytes = 0;
    for (size_t i = 0; i < hello->numa_len; i++) {
        rec->memory_bytes += hello->numa[i].memory_bytes;
    }
    bool same = strcmp(old.rack, rec->rack) == 0 && strcmp(old.address, rec->address) == 0 &&
                strcmp(old.cpu_model, rec->cpu_model) == 0 &&
                strcmp(old.accelerator, rec->accelerator) == 0 && old.cpus == rec->cpus &&
                old.numa_nodes == rec->numa_nodes && old.memory_bytes == rec->memory_bytes &&
                old.labels_len == rec->labels_len;
    for (size_t i = 0; same && i < rec->labels_len; i++) {
        same = strcmp(old.labels[i].key, rec->labels[i].key) == 0 &&
               strcmp(old.labels[i].value, rec->labels[i].value) == 0;
    }
    return !same;
}

static void session_forget(struct vdc_zone *zone, struct zone_node *node)
{
    if (node->connected) {
        HASH_DELETE(hh_session, zone->sessions, node);
    }
    node->connected = false;
    node->joined = false;
    node->lead_sent = false;
    node->guests_complete = false;
    node->snapshot_asked = false;
    node->stray_noted = false;
    vdc_buf_clear(&node->snapshot);
    call_forget(zone, &node->zone_set);
    node_forget_repairs(zone, node);
}

static uint64_t incarnation_in(const struct vdc_zone *zone, const struct vdc_msg_hello *hello)
{
    for (size_t i = 0; i < hello->zones_len; i++) {
        if (strcmp(hello->zones[i].zone, zone->name) == 0) {
            return hello->zones[i].incarnation;
        }
    }
    return 0;
}

void node_up(struct vdc_zone *zone, uint64_t session, const struct vdc_msg_hello *hello)
{
    struct zone_node *node = zone_find_node(zone, hello->node);
    if (node == NULL) {
        node = zone_add_node(zone, hello->node);
        node->state = VDC_NODE_JOINING;
        node->rec.state = VDC_NODE_JOINING;
    }
    session_forget(zone, node);
    node->connected = true;
    node->session = session;
    HASH_ADD(hh_session, zone->sessions, session, sizeof node->session, node);
    node->hello = *hello;
    node->hello_incarnation = incarnation_in(zone, hello);
    node->rec_changed |= take_hello(node, hello) && recorded(node);
    for (struct zone_guest *guest = node->guests; guest != NULL; guest = guest->hh.next) {
        guest->heard = false;
    }
    zone_mark_node(zone, node);
    zone_mark_ops_of(zone, node->rec.name);
}

void node_down(struct vdc_zone *zone, struct zone_node *node)
{
    session_forget(zone, node);
    if (recorded(node)) {
        TRACE(zone, INFO, "node %s: its session ended", node->rec.name);
    }
    zone_mark_node(zone, node);
    zone_mark_ops_of(zone, node->rec.name);
}

void node_destroy(struct vdc_zone *zone, struct zone_node *node)
{
    session_forget(zone, node);
    node_forget_guests(node, true);
    vdc_buf_deinit(&node->snapshot);
    vdc_allocdb_destroy(node->replica);
    free(node);
}

static int64_t grace_ns(int64_t lease)
{
    /* A late grant within half a lease saves the paused guest; beyond that its successor may be
     * running already, and two seconds are enough for any late packet. */
    return VDC_MIN(ZONE_GRACE_MAX_NS, lease / 2);
}

void node_send_lead(struct vdc_zone *zone, struct zone_node *node, bool fenced, bool reread)
{
    struct vdc_msg_zone_lead *lead = &zone_send(zone, node->session, VDC_MSG_ZONE_LEAD)->zone_lead;
    vdc_str_set(lead->zone, sizeof lead->zone, zone->name);
    lead->epoch = zone->epoch;
    lead->lease_ns = zone_lease_ns(zone);
    lead->grace_ns = grace_ns(lead->lease_ns);
    /* Not before: what the node asks until it reads this is for its old time, which may be longer.
     * What it asked before it read this and is granted after this, it ignores. */
    vdc_zone_lease_set_time(&node->lease, lead->lease_ns);
    lead->incarnation = node->rec.incarnation;
    lead->fenced = fenced;
    uint64_t have = node->replica == NULL ? 0 : vdc_allocdb_sequence(node->replica);
    lead->snapshot =
        reread || node->replica == NULL || (!node->joined && have > node->hello.db_sequence);
    lead->follow_from = lead->snapshot ? 0 : have;
    node->snapshot_asked |= lead->snapshot;
    node->lead_sent = true;
}

/* ---- messages ---- */

static void take_joined(struct vdc_zone *zone, struct zone_node *node,
                        const struct vdc_msg_zone_joined *joined)
{
    if (joined->epoch != zone->epoch || joined->incarnation != node->rec.incarnation) {
        return;
    }
    node->joined = true;
    node->hello_incarnation = joined->incarnation;
    zone_mark_ops_of(zone, node->rec.name);
}

static void take_lease_ask(struct vdc_zone *zone, struct zone_node *node,
                           const struct vdc_msg_lease_ask *ask)
{
    if (ask->epoch != zone->epoch) {
        return;
    }
    if (vdc_zone_lease_ask(&node->lease, ask->incarnation, zone->now, zone->leading_until)) {
        struct vdc_msg_lease_grant *grant =
            &zone_send(zone, node->session, VDC_MSG_LEASE_GRANT)->lease_grant;
        vdc_str_set(grant->zone, sizeof grant->zone, zone->name);
        grant->epoch = zone->epoch;
        grant->incarnation = ask->incarnation;
        grant->asked_ns = ask->asked_ns;
    }
    node_compare_replica(zone, node, ask);
}

static void take_guests_end(struct vdc_zone *zone, struct zone_node *node)
{
    node_forget_guests(node, false);
    node->guests_complete = true;
    node->reconcile = true;
    zone_mark_ops_of(zone, node->rec.name);
}

/* The node joined under another leader after it had introduced itself here. */
static void take_newer_hello(struct vdc_zone *zone, struct zone_node *node,
                             const struct vdc_msg_hello *hello)
{
    if (node->joined) {
        return; /* under this one since: what it says of us is as old as the way here */
    }
    node->hello_incarnation = VDC_MAX(node->hello_incarnation, incarnation_in(zone, hello));
    zone_mark_node(zone, node);
}

void node_message(struct vdc_zone *zone, struct zone_node *node, const struct vdc_msg *msg)
{
    switch (msg->kind) {
    case VDC_MSG_HELLO:
        take_newer_hello(zone, node, &msg->hello);
        break;
    case VDC_MSG_ZONE_JOINED:
        if (strcmp(msg->zone_joined.zone, zone->name) == 0) {
            take_joined(zone, node, &msg->zone_joined);
        }
        break;
    case VDC_MSG_LEASE_ASK:
        if (strcmp(msg->lease_ask.zone, zone->name) == 0) {
            take_lease_ask(zone, node, &msg->lease_ask);
        }
        break;
    case VDC_MSG_TX_RESULT:
        zone_on_tx_result(zone, node, &msg->tx_result);
        break;
    case VDC_MSG_RECORDS:
        node_take_records(zone, node, &msg->records);
        break;
    case VDC_MSG_SNAPSHOT:
        node_take_snapshot(zone, node, &msg->snapshot);
        break;
    case VDC_MSG_GUEST:
        if (strcmp(msg->guest.zone, zone->name) == 0) {
            node_take_guest(zone, node, &msg->guest);
        }
        break;
    case VDC_MSG_GUESTS_END:
        if (strcmp(msg->guests_end.zone, zone->name) == 0) {
            take_guests_end(zone, node);
        }
        break;
    case VDC_MSG_COMMAND_RESULT:
        zone_on_command_result(zone, node, &msg->command_result);
        break;
    case VDC_MSG_BYE:
        TRACE(zone, INFO, "node %s: says goodbye: %s", node->rec.name, msg->bye.reason);
        break;
    case VDC_MSG_WELCOME:
    case VDC_MSG_ZONE_LEAD:
    case VDC_MSG_LEASE_GRANT:
    case VDC_MSG_TX:
    case VDC_MSG_COMMAND:
        TRACE(zone, WARN, "node %s: sent a %s, which is a manager's -> ignored", node->rec.name,
              vdc_msg_kind_name(msg->kind));
        break;
    }
    zone_mark_node(zone, node);
}

/* ---- silence ---- */

/* True when the node is back as somebody else: gone for the old incarnation, yet no sign of a storm. */
static bool back_as_another(const struct zone_node *node)
{
    return node->connected && node->hello_incarnation != node->rec.incarnation;
}

/* Whether fencing one more node would follow a storm: too much of the zone gone at once, so that the
 * fault is rather in between, and starting it all again elsewhere would make things worse. One node
 * alone is never a storm, however small the zone. */
static bool storm(const struct vdc_zone *zone, uint64_t *lost, uint64_t *total)
{
    *lost = 0;
    *total = 0;
    for (size_t i = 0; i < zone->nodes_len; i++) {
        const struct zone_node *node = zone->nodes[i];
        switch (node->state) {
        case VDC_NODE_READY:
        case VDC_NODE_SILENT: {
            int64_t quiet = vdc_mono_sub(zone->now, node->lease.heard);
            (*total)++;
            if (quiet > node->lease.lease_ns / 2 && !back_as_another(node)) {
                (*lost)++;
            }
            break;
        }
        case VDC_NODE_FENCED:
            if (!node->connected &&
                vdc_mono_sub(zone->now, node->fenced_at) < ZONE_STORM_WINDOW_NS) {
                (*total)++;
                (*lost)++;
            }
            break;
        case VDC_NODE_JOINING:
            *total += recorded(node) ? 1 : 0;
            break;
        }
    }
    uint64_t share = vdc_policy_settings(zone->policy)->storm_brake_milli;
    return share < 1000 && *lost > 1 && *lost * 1000 > share * *total;
}

static void fence(struct vdc_zone *zone, struct zone_node *node)
{
    int64_t quiet_ms = vdc_mono_sub(zone->now, node->lease.heard) / VDC_MS;
    TRACE(zone, WARN, "%s: silent for %lld.%lld s, lease over -> fenced", node->rec.name,
          (long long)(quiet_ms / 1000), (long long)(quiet_ms % 1000 / 100));
    node_move(zone, node, VDC_NODE_FENCED, "its lease is over");
    vdc_zone_lease_close(&node->lease);
    node->fenced_at = zone->now;
    node->lost_handled = false;
    zone_write_begin(zone);
    zone_write_node(zone, node);
}

/* Whether the node, READY until now, is silent; fences it unless the brake holds. */
static bool watch_silence(struct vdc_zone *zone, struct zone_node *node)
{
    if (!vdc_mono_reached(zone->now, vdc_zone_lease_over(&node->lease))) {
        if (node->state == VDC_NODE_SILENT) {
            node_move(zone, node, VDC_NODE_READY, "it asks again");
        }
        return false;
    }
    if (vdc_mono_reached(zone->now, zone->leading_until)) {
        return false; /* suspended, or without the store: what it asked may just not be read yet */
    }
    bool first = node->state != VDC_NODE_SILENT;
    if (first) {
        node_move(zone, node, VDC_NODE_SILENT, "no question for a lease time");
    }
    uint64_t lost, total;
    if (!back_as_another(node) && storm(zone, &lost, &total)) {
        if (first) {
            TRACE(zone, WARN, "%s: %llu of %llu nodes gone at once, brake at %llu.%llu%% -> waits",
                  node->rec.name, (unsigned long long)lost, (unsigned long long)total,
                  (unsigned long long)vdc_policy_settings(zone->policy)->storm_brake_milli / 10,
                  (unsigned long long)vdc_policy_settings(zone->policy)->storm_brake_milli % 10);
        }
        node->brake_until = vdc_mono_add(zone->now, ZONE_STORM_RECHECK_NS);
        return true;
    }
    fence(zone, node);
    return true;
}

/* ---- the states ---- */

static void begin_incarnation(struct vdc_zone *zone, struct zone_node *node, const char *why)
{
    node->rec.incarnation = VDC_MAX(node->rec.incarnation, node->hello_incarnation) + 1;
    node_move(zone, node, VDC_NODE_JOINING, why);
    node->lead_sent = false;
    node->joined = false;
    node->rec_changed = false;
    zone_write_begin(zone);
    zone_write_node(zone, node);
}

static void advance_joining(struct vdc_zone *zone, struct zone_node *node)
{
    struct vdc_policy_share share;
    if (!node->connected) {
        return;
    }
    if (!recorded(node)) {
        if (node_is_member(zone, node, &share)) {
            begin_incarnation(zone, node, "a member by policy");
        } else if (!node->stray_noted) {
            TRACE(zone, INFO, "node %s: not in zone %s by policy -> not led", node->rec.name,
                  zone->name);
            node->stray_noted = true;
        }
        return;
    }
    if (node->hello_incarnation > node->rec.incarnation) {
        begin_incarnation(zone, node, "it knows a later incarnation");
        return;
    }
    if (!node->lead_sent) {
        bool first = node->rec.incarnation == 1;
        node_send_lead(zone, node, !first && node->hello_incarnation != node->rec.incarnation,
                       false);
    }
    if (node->joined) {
        node_move(zone, node, VDC_NODE_READY, "it has joined");
        node->rec_changed = false;
        zone_write_begin(zone);
        zone_write_node(zone, node);
    }
}

static void advance_ready(struct vdc_zone *zone, struct zone_node *node)
{
    if (!node->lease.open || node->lease.incarnation != node->rec.incarnation) {
        /* READY is durable: from now on it may be granted. */
        vdc_zone_lease_open(&node->lease, node->rec.incarnation, zone_lease_ns(zone), zone->now);
    }
    if (watch_silence(zone, node) && node->write != 0) {
        return;
    }
    if (!node->connected) {
        return;
    }
    if (node->hello_incarnation != node->rec.incarnation) {
        if (!node->stray_noted) {
            TRACE(
                zone, WARN,
                "node %s: back in incarnation %llu, known in %llu -> waits until the old lease is "
                "over",
                node->rec.name, (unsigned long long)node->hello_incarnation,
                (unsigned long long)node->rec.incarnation);
            node->stray_noted = true;
        }
        return;
    }
    if (!node->lead_sent) {
        node_send_lead(zone, node, false, false);
    }
    if (node->rec_changed && node->joined) {
        node->rec_changed = false;
        zone_write_begin(zone);
        zone_write_node(zone, node);
        return;
    }
    set_slice(zone, node);
    node_reconcile(zone, node);
}

static void advance_fenced(struct vdc_zone *zone, struct zone_node *node)
{
    if (!node->lost_handled) {
        node->lost_handled = true;
        vdc_allocdb_destroy(node->replica);
        node->replica = NULL;
        node_forget_guests(node, true);
        zone->generation++;
        zone_mark_ops_of(zone, node->rec.name);
        struct zone_partition **owned =
            vdc_calloc(zone->partitions_len, sizeof(struct zone_partition *));
        size_t len = 0;
        for (size_t i = 0; i < zone->partitions_len; i++) {
            if (strcmp(zone->partitions[i]->rec.owner, node->rec.name) == 0) {
                owned[len++] = zone->partitions[i];
            }
        }
        zone_failover_order(zone, owned, len);
        for (size_t i = 0; i < len; i++) {
            zone_review_partition(zone, owned[i]);
        }
        free(owned);
    }
    if (node->connected) {
        begin_incarnation(zone, node, "it is back");
    }
}

void node_advance(struct vdc_zone *zone, struct zone_node *node)
{
    if (node->write != 0) {
        return;
    }
    switch (node->state) {
    case VDC_NODE_JOINING:
        advance_joining(zone, node);
        break;
    case VDC_NODE_READY:
    case VDC_NODE_SILENT:
        advance_ready(zone, node);
        break;
    case VDC_NODE_FENCED:
        advance_fenced(zone, node);
        break;
    }
    const char *why;
    bool usable = node_is_usable(zone, node, &why);
    if (usable != node->usable) {
        node->usable = usable;
        zone->generation++;
        TRACE(zone, INFO, "node %s: %s%s", node->rec.name, usable ? "usable" : "not usable: ", why);
        zone_mark_ops_of(zone, NULL);
    }
}

static vdc_mono silence_deadline(const struct vdc_zone *zone, const struct zone_node *node)
{
    vdc_mono over = vdc_zone_lease_over(&node->lease);
    if (!vdc_mono_reached(zone->now, over)) {
        return over;
    }
    if (vdc_mono_reached(zone->now, zone->leading_until)) {
        return VDC_NEVER; /* the next LEADING_UNTIL looks */
    }
    return vdc_mono_max(over, node->brake_until);
}

vdc_mono node_deadline(const struct vdc_zone *zone, const struct zone_node *node)
{
    if (node->write != 0 || !node->lease.open ||
        (node->state != VDC_NODE_READY && node->state != VDC_NODE_SILENT)) {
        return VDC_NEVER;
    }
    return vdc_mono_min(silence_deadline(zone, node),
                        node_known(node) ? node->repair_at : VDC_NEVER);
}
