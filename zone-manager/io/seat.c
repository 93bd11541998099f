/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who leads which zone, and what its core needs of the world.
 *
 *                  no leader key              won: its create_revision is the epoch
 *      FOLLOWING ----------------> CAMPAIGNING ----------------> LOADING -> LEADING
 *          ^             <- lost ----'                               |          |
 *          '--- guard refused, key gone or another's, store lease gone for good -'
 *
 * One store lease carries all leaderships of this manager. Its last confirmed keep-alive bounds what
 * the cores may promise to nodes (LEADING_UNTIL). When the store is silent for longer than that, the
 * cores stay, but grant nothing and their writes wait: if the leader key is still ours when the store
 * answers again (same create_revision: nobody led in between), it is hung on a new lease and all goes
 * on. Otherwise the cores are thrown away.
 *
 * What fails by itself (a record that cannot be read, a store that refuses) is not tried in a circle:
 * after each failure in a row the zone is left alone for twice as long, so that another manager may
 * try, and the answer to whoever asks for the zone says what was wrong.
 *
 * Writes of a core go out one batch at a time, each one guarded transaction: two writes of one key
 * never overtake each other, and all that is waiting shares a round trip.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/clock.h>
#include <vdc/entropy.h>
#include <vdc/log.h>

#include "seat_internal.h"

#define RETRY_MS 200
/* A keep-alive's TTL is counted by the store's clock: what we promise ends earlier by the same margin
 * that leases of nodes get (500 ppm of a minute) and one loop turn. */
#define LEADING_MARGIN (100 * VDC_MS)

static void send_batch(struct seat *seat);

/* ---- seats ---- */

struct seat *seat_find(struct manager *manager, const char *zone)
{
    for (struct seat *seat = manager->seats; seat != NULL; seat = seat->next) {
        if (strcmp(seat->zone, zone) == 0) {
            return seat;
        }
    }
    return NULL;
}

bool seat_leads(const struct seat *seat)
{
    return seat->state == SEAT_LEADING;
}

static void on_timer(uv_timer_t *timer)
{
    struct seat *seat = timer->data;
    if (seat_leads(seat)) {
        struct vdc_zone_event event = {.kind = VDC_ZONE_TICK};
        seat_step(seat, &event);
    } else {
        seat_campaign(seat); /* the pause after a failure is over */
    }
}

struct seat *seat_open(struct manager *manager, const char *zone)
{
    size_t count = 0;
    struct seat **at = &manager->seats;
    for (struct seat *seat = manager->seats; seat != NULL; seat = seat->next) {
        count++;
        if (strcmp(seat->zone, zone) < 0) {
            at = &seat->next;
        }
    }
    if (count >= MANAGER_ZONES_MAX) {
        vdc_log_error("zone %s: %d zones are the limit -> not served", zone, MANAGER_ZONES_MAX);
        return NULL;
    }
    struct seat *seat = VDC_NEW(struct seat);
    seat->manager = manager;
    vdc_str_set(seat->zone, VDC_NAME_CAP, zone);
    seat->writes_tail = &seat->writes_head;
    uv_timer_init(manager->loop, &seat->timer);
    seat->timer.data = seat;
    seat->next = *at;
    *at = seat;
    return seat;
}

void seat_learn(struct manager *manager, const struct vdc_zone_record *record)
{
    struct seat *seat = seat_find(manager, record->name);
    if (seat == NULL) {
        seat = seat_open(manager, record->name);
    }
    if (seat != NULL) {
        seat->record = *record;
        seat_campaign(seat);
    }
}

static void write_free(struct seat_write *write)
{
    for (size_t i = 0; i < write->puts_len; i++) {
        vdc_buf_deinit(&write->puts[i].value);
    }
    free(write->puts);
    free(write);
}

static void writes_free(struct seat_write *write)
{
    while (write != NULL) {
        struct seat_write *next = write->next;
        write_free(write);
        write = next;
    }
}

/* The zone is left alone for a while: after what passes by itself (the store is away) for the shortest
 * time, after what will probably fail again for twice as long each time. */
static void pause_seat(struct seat *seat, enum vdc_rc rc, const char *what)
{
    int64_t pause_ns = SEAT_PAUSE_MIN_NS;
    if (!vdc_rc_retryable(rc)) {
        pause_ns = VDC_MIN(SEAT_PAUSE_MIN_NS << VDC_MIN(seat->failures, 10u), SEAT_PAUSE_MAX_NS);
        seat->failures++;
    }
    seat->paused_until = vdc_mono_add(vdc_clock_mono(), pause_ns);
    vdc_str_set(seat->trouble, sizeof seat->trouble, what);
    vdc_log_error("zone %s: %s -> left alone for %lld s", seat->zone, what,
                  (long long)(pause_ns / VDC_SECOND));
}

void seat_give_up(struct seat *seat, enum vdc_rc rc, const char *what)
{
    pause_seat(seat, rc, what);
    seat_resign(seat, "it is given up");
}

/* Leadership is over: the core and all it waited for go. */
void seat_resign(struct seat *seat, const char *why)
{
    if (seat->state == SEAT_FOLLOWING) {
        return;
    }
    vdc_log_info("zone %s: %s -> no longer its leader", seat->zone, why);
    seat->state = SEAT_FOLLOWING;
    api_fail_waiters(seat);
    uv_timer_stop(&seat->timer);
    if (seat->load != NULL) {
        vdc_etcd_cancel(seat->load);
        seat->load = NULL;
    }
    if (seat->batch != NULL) {
        seat->batch->abandoned = true; /* on_written() frees it */
        vdc_etcd_cancel(seat->batch->request);
        seat->batch = NULL;
    }
    seat->broken = false;
    writes_free(seat->writes_head);
    seat->writes_head = NULL;
    seat->writes_tail = &seat->writes_head;
    vdc_zone_destroy(seat->core);
    seat->core = NULL;
    if (seat->epoch != 0) {
        seat->spent_epoch = seat->epoch;
        manager_retry_later(seat->manager);
    }
    seat->epoch = 0;
    seat->retaking = false;
}

/* ---- the core's events and updates ---- */

static void queue_write(struct seat *seat, struct vdc_zone_write *from)
{
    struct seat_write *write = VDC_NEW(struct seat_write);
    write->id = from->id;
    write->puts_len = from->puts_len;
    write->puts = vdc_calloc(from->puts_len, sizeof *write->puts);
    for (size_t i = 0; i < from->puts_len; i++) {
        memcpy(write->puts[i].key, from->puts[i].key, VDC_KEY_CAP);
        if (from->puts[i].value.data != NULL) {
            vdc_buf_append(&write->puts[i].value, from->puts[i].value.data,
                           from->puts[i].value.len);
        }
    }
    *seat->writes_tail = write;
    seat->writes_tail = &write->next;
}

static void arm_timer(struct seat *seat)
{
    vdc_mono deadline = vdc_zone_deadline(seat->core);
    if (vdc_mono_is_never(deadline)) {
        uv_timer_stop(&seat->timer);
        return;
    }
    int64_t ns = vdc_mono_sub(deadline, vdc_clock_mono());
    uint64_t ms = ns <= 0 ? 0 : (uint64_t)((ns + VDC_MS - 1) / VDC_MS);
    uv_update_time(seat->manager->loop);
    uv_timer_start(&seat->timer, on_timer, ms, 0);
}

void seat_step(struct seat *seat, struct vdc_zone_event *event)
{
    VDC_ASSERT(seat->core != NULL);
    event->now = vdc_clock_mono();
    event->wall = vdc_clock_wall();
    event->last_step_ns = seat->last_step_ns;
    struct vdc_zone_update *update = vdc_zone_step(seat->core, event);
    /* The loop has one thread and a step doesn't wait: time that passed is time that it took, but for
     * being preempted. */
    seat->last_step_ns = vdc_mono_sub(vdc_clock_mono(), event->now);
    for (size_t i = 0; i < update->writes_len; i++) {
        queue_write(seat, &update->writes[i]);
    }
    for (size_t i = 0; i < update->sends_len; i++) {
        nodes_send(seat->manager, update->sends[i].session, &update->sends[i].msg);
    }
    for (size_t i = 0; i < update->answers_len; i++) {
        api_answer(seat, &update->answers[i]);
    }
    vdc_log_trace(&update->trace);
    send_batch(seat);
    arm_timer(seat);
    api_check_waiters(seat);
}

/* ---- writes ---- */

static void on_written(void *data, enum vdc_rc rc, int64_t revision, const struct vdc_err *err)
{
    (void)revision;
    struct seat_batch *batch = data;
    struct seat *seat = batch->seat;
    struct seat_write *writes = batch->writes;
    bool abandoned = batch->abandoned;
    free(batch);
    if (abandoned) {
        writes_free(writes);
        return;
    }
    seat->batch = NULL;
    if (rc != VDC_RC_OK) {
        writes_free(writes);
        if (rc == VDC_RC_STALE) {
            seat_resign(seat, "a write found another leader");
            seat_campaign(seat);
        } else {
            seat_give_up(seat, rc, vdc_err_text(err));
        }
        return;
    }
    seat->failures = 0;
    seat->trouble[0] = 0;
    while (writes != NULL && seat_leads(seat)) {
        struct vdc_zone_event event = {.kind = VDC_ZONE_WRITTEN};
        event.written.write = writes->id;
        event.written.rc = VDC_RC_OK;
        struct seat_write *next = writes->next;
        write_free(writes);
        writes = next;
        seat_step(seat, &event);
    }
    writes_free(writes);
}

/* Where `key` stands among the first `count` operations, or `count`. */
static size_t find_op(const struct vdc_etcd_op *ops, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(ops[i].key, key) == 0) {
            return i;
        }
    }
    return count;
}

/* Puts as many waiting writes as fit into one transaction; the last put of a key counts. */
static void send_batch(struct seat *seat)
{
    if (seat->batch != NULL || seat->writes_head == NULL) {
        return;
    }
    struct vdc_etcd_op ops[VDC_ETCD_WRITE_OPS_MAX];
    size_t count = 0;
    size_t bytes = 0;
    struct seat_write *first = seat->writes_head;
    struct seat_write *last = NULL;
    for (struct seat_write *write = first; write != NULL; write = write->next) {
        size_t more = 0;
        for (size_t i = 0; i < write->puts_len; i++) {
            more += write->puts[i].value.len + VDC_KEY_CAP;
        }
        if (last != NULL && (count + write->puts_len > VDC_ETCD_WRITE_OPS_MAX ||
                             bytes + more > VDC_ETCD_REQUEST_MAX / 2)) {
            break;
        }
        for (size_t i = 0; i < write->puts_len; i++) {
            const struct vdc_zone_put *put = &write->puts[i];
            size_t at = find_op(ops, count, put->key);
            ops[at] = (struct vdc_etcd_op){.kind = put->value.data != NULL ? VDC_ETCD_PUT
                                                                           : VDC_ETCD_DELETE,
                                           .key = put->key,
                                           .value = put->value.data,
                                           .value_len = put->value.len};
            count += at == count;
        }
        bytes += more;
        last = write;
    }
    seat->writes_head = last->next;
    if (seat->writes_head == NULL) {
        seat->writes_tail = &seat->writes_head;
    }
    last->next = NULL;
    struct seat_batch *batch = VDC_NEW(struct seat_batch);
    batch->seat = seat;
    batch->writes = first;
    char key[VDC_KEY_CAP];
    vdc_key_leader(key, seat->zone);
    struct vdc_etcd_guard guard = {.key = key, .create_revision = seat->epoch};
    enum vdc_rc rc =
        vdc_etcd_write(seat->manager->etcd, &guard, ops, count, on_written, batch, &batch->request);
    if (rc != VDC_RC_OK) {
        /* Our own bounds make sure that this is not the size: the client's queue is full. */
        vdc_log_error("zone %s: write of %zu keys: %s", seat->zone, count, vdc_rc_sentence(rc));
        writes_free(first);
        free(batch);
        seat->broken = true;
        manager_retry_later(seat->manager);
        return;
    }
    seat->batch = batch;
}

/* `lease`: the store lease that our key hangs on, which need not be the present one any more. */
static void begin_leading(struct seat *seat, int64_t epoch, int64_t lease)
{
    struct manager *manager = seat->manager;
    vdc_log_info("zone %s: leader key created -> epoch %lld, loading", seat->zone,
                 (long long)epoch);
    seat->state = SEAT_LOADING;
    seat->epoch = epoch;
    seat->lease_id = lease;
    struct vdc_zone_config config = {.zone = seat->zone,
                                     .manager = manager->config.name,
                                     .epoch = (uint64_t)epoch,
                                     .now = vdc_clock_mono()};
    vdc_entropy_fill(&config.seed, sizeof config.seed);
    seat->core = vdc_zone_create(&config);
    seat_load(seat);
}

void seat_loaded(struct seat *seat)
{
    struct vdc_zone_event event = {.kind = VDC_ZONE_LOADED};
    seat->state = SEAT_LEADING;
    seat_step(seat, &event);
    if (seat->lease_id == seat->manager->lease_id) {
        event = (struct vdc_zone_event){.kind = VDC_ZONE_LEADING_UNTIL};
        event.until = seat->manager->leading_until;
        seat_step(seat, &event);
    } else {
        seat_retake(seat); /* the lease was lost while we loaded */
    }
    vdc_log_info("zone %s: loaded -> leading with epoch %lld", seat->zone, (long long)seat->epoch);
    nodes_introduce(seat);
}

/* ---- campaigns ---- */

static void leader_value(const struct manager *manager, struct vdc_buf *buf)
{
    struct vdc_leader_record record;
    memset(&record, 0, sizeof record);
    vdc_str_set(record.manager, VDC_NAME_CAP, manager->config.name);
    vdc_str_set(record.api, VDC_ADDRESS_CAP, manager->config.api_advertise);
    vdc_leader_record_encode(&record, buf);
}

/* The leader key of the store is ours: our campaign won, though its answer may have been lost. */
bool seat_adopt_own_key(struct seat *seat)
{
    struct manager *manager = seat->manager;
    if (seat->state != SEAT_FOLLOWING || seat->leader_revision == 0 || manager->lease_id == 0 ||
        seat->leader_lease != manager->lease_id || manager->stopping ||
        seat->leader_revision == seat->spent_epoch) {
        return false;
    }
    begin_leading(seat, seat->leader_revision, seat->leader_lease);
    return true;
}

static void on_campaign(void *data, enum vdc_rc rc, const struct vdc_etcd_result *result,
                        const struct vdc_err *err)
{
    struct seat *seat = data;
    if (rc == VDC_RC_CANCELLED || seat->state != SEAT_CAMPAIGNING) {
        return;
    }
    if (rc == VDC_RC_OK && result->succeeded) {
        begin_leading(seat, result->revision, seat->put_lease);
        return;
    }
    seat->state = SEAT_FOLLOWING;
    if (seat_adopt_own_key(seat)) {
        /* The watch told of our key before this answer: an earlier campaign had won, and its answer
         * was lost. Without this nobody would lead: we keep the key alive. */
        return;
    }
    if (rc != VDC_RC_OK) {
        pause_seat(seat, rc, vdc_err_text(err));
        seat_campaign(seat);
    }
}

/* Writes our name to the zone's leader key under the present lease, if the key has that create_revision. */
static bool put_leader(struct seat *seat, int64_t create_revision, vdc_etcd_txn_cb cb)
{
    struct manager *manager = seat->manager;
    char key[VDC_KEY_CAP];
    vdc_key_leader(key, seat->zone);
    struct vdc_buf value = {0};
    leader_value(manager, &value);
    struct vdc_etcd_compare as_known = {.key = key,
                                        .target = VDC_ETCD_CREATE_REVISION,
                                        .relation = VDC_ETCD_EQUAL,
                                        .number = create_revision};
    struct vdc_etcd_op put = {.kind = VDC_ETCD_PUT,
                              .key = key,
                              .value = value.data,
                              .value_len = value.len,
                              .lease = manager->lease_id};
    struct vdc_etcd_txn txn = {
        .compares = &as_known, .compare_count = 1, .then = &put, .then_count = 1};
    seat->put_lease = manager->lease_id;
    bool sent = vdc_etcd_txn(manager->etcd, &txn, cb, seat, NULL) == VDC_RC_OK;
    vdc_buf_deinit(&value);
    if (!sent) {
        manager_retry_later(manager);
    }
    return sent;
}

/* Tries to become the leader where nobody is. */
void seat_campaign(struct seat *seat)
{
    struct manager *manager = seat->manager;
    if (manager->stopping || seat->state != SEAT_FOLLOWING || seat->leader_revision != 0 ||
        seat->record.policy_version == 0 || manager->lease_id == 0) {
        return;
    }
    int64_t wait_ns = vdc_mono_sub(seat->paused_until, vdc_clock_mono());
    if (wait_ns > 0) {
        uv_update_time(manager->loop);
        uv_timer_start(&seat->timer, on_timer, (uint64_t)(wait_ns / VDC_MS) + 1, 0);
    } else if (put_leader(seat, 0, on_campaign)) {
        seat->state = SEAT_CAMPAIGNING;
    }
}

static void on_retaken(void *data, enum vdc_rc rc, const struct vdc_etcd_result *result,
                       const struct vdc_err *err)
{
    struct seat *seat = data;
    struct manager *manager = seat->manager;
    if (rc == VDC_RC_CANCELLED || !seat->retaking) {
        return;
    }
    seat->retaking = false;
    if (rc == VDC_RC_OK && result->succeeded) {
        seat->lease_id = seat->put_lease;
        vdc_log_info("zone %s: the leader key is still ours (epoch %lld) -> hung on a new lease",
                     seat->zone, (long long)seat->epoch);
        if (seat->lease_id != manager->lease_id) {
            seat_retake(seat); /* lost again meanwhile */
        } else if (seat_leads(seat)) {
            struct vdc_zone_event event = {.kind = VDC_ZONE_LEADING_UNTIL};
            event.until = manager->leading_until;
            seat_step(seat, &event);
        }
    } else if (rc == VDC_RC_OK) {
        seat_resign(seat, "the leader key is another's or gone");
        seat_campaign(seat);
    } else {
        vdc_log_warn("zone %s: taking the leader key again: %s", seat->zone, vdc_err_text(err));
        manager_retry_later(manager);
    }
}

/* The lease under our leadership is lost, but perhaps the key is not: hang it on the present one. */
void seat_retake(struct seat *seat)
{
    struct manager *manager = seat->manager;
    if (seat->core != NULL && !seat->retaking && seat->lease_id != manager->lease_id &&
        manager->lease_id != 0) {
        seat->retaking = put_leader(seat, seat->epoch, on_retaken);
    }
}

static void on_abdicated(void *data, enum vdc_rc rc, const struct vdc_etcd_result *result,
                         const struct vdc_err *err)
{
    struct seat *seat = data;
    (void)result;
    if (rc == VDC_RC_CANCELLED) {
        return;
    }
    seat->abdicating = false;
    if (rc != VDC_RC_OK) {
        vdc_log_warn("zone %s: giving the leader key back: %s", seat->zone, vdc_err_text(err));
        manager_retry_later(seat->manager);
    }
    /* The watch tells that it is gone, and then the next campaign begins. */
}

/* Leadership was given up (records not readable, the client's queue full) while the key is ours: as
 * long as it stands nobody leads the zone. */
static void abdicate(struct seat *seat)
{
    if (seat->state != SEAT_FOLLOWING || seat->abdicating || seat->spent_epoch == 0 ||
        seat->leader_revision != seat->spent_epoch) {
        return;
    }
    char key[VDC_KEY_CAP];
    vdc_key_leader(key, seat->zone);
    struct vdc_etcd_compare ours = {.key = key,
                                    .target = VDC_ETCD_CREATE_REVISION,
                                    .relation = VDC_ETCD_EQUAL,
                                    .number = seat->spent_epoch};
    struct vdc_etcd_op del = {.kind = VDC_ETCD_DELETE, .key = key};
    struct vdc_etcd_txn txn = {
        .compares = &ours, .compare_count = 1, .then = &del, .then_count = 1};
    seat->abdicating =
        vdc_etcd_txn(seat->manager->etcd, &txn, on_abdicated, seat, NULL) == VDC_RC_OK;
    if (!seat->abdicating) {
        manager_retry_later(seat->manager);
    }
}

/* ---- the store lease ---- */

static void on_renewed(void *data, int64_t lease_id, vdc_mono sent, int64_t ttl_ms)
{
    struct manager *manager = data;
    bool is_new = manager->lease_id != lease_id;
    manager->lease_id = lease_id;
    manager->leading_until = vdc_mono_add(sent, ttl_ms * VDC_MS - LEADING_MARGIN);
    for (struct seat *seat = manager->seats; seat != NULL; seat = seat->next) {
        if (is_new) {
            seat_retake(seat);
            seat_campaign(seat);
        } else if (seat_leads(seat) && seat->lease_id == lease_id) {
            struct vdc_zone_event event = {.kind = VDC_ZONE_LEADING_UNTIL};
            event.until = manager->leading_until;
            seat_step(seat, &event);
        }
    }
}

static void on_lease_lost(void *data, enum vdc_rc rc, const struct vdc_err *err)
{
    struct manager *manager = data;
    vdc_log_warn("store lease lost: %s (%s) -> a new one is asked for", vdc_err_text(err),
                 vdc_rc_name(rc));
    vdc_etcd_lease_close(manager->lease, NULL, NULL);
    manager->lease = NULL;
    manager->lease_id = 0;
    manager_retry_later(manager);
}

static void open_lease(struct manager *manager)
{
    static const struct vdc_etcd_lease_calls calls = {.on_renewed = on_renewed,
                                                      .on_lost = on_lease_lost};
    if (manager->lease == NULL &&
        vdc_etcd_lease_open(manager->etcd, manager->config.leader_ttl_s, &calls, manager,
                            &manager->lease) != VDC_RC_OK) {
        manager_retry_later(manager);
    }
}

static void on_retry(uv_timer_t *timer)
{
    struct manager *manager = timer->data;
    if (manager->stopping) {
        return;
    }
    watch_zones(manager);
    open_lease(manager);
    for (struct seat *seat = manager->seats; seat != NULL; seat = seat->next) {
        if (seat->broken) {
            seat_give_up(seat, VDC_RC_LIMIT, "the store client takes no more writes");
        }
        abdicate(seat);
        seat_retake(seat);
        seat_campaign(seat);
    }
}

/* Whatever is missing is tried again by on_retry(), which knows what there is. */
void manager_retry_later(struct manager *manager)
{
    if (!manager->stopping && !uv_is_active((uv_handle_t *)&manager->retry)) {
        uv_timer_start(&manager->retry, on_retry, RETRY_MS, 0);
    }
}

enum vdc_rc seats_open(struct manager *manager, struct vdc_err *err)
{
    (void)err;
    uv_timer_init(manager->loop, &manager->retry);
    manager->retry.data = manager;
    open_lease(manager);
    watch_zones(manager);
    return VDC_RC_OK;
}

static void on_revoked(void *data, enum vdc_rc rc)
{
    struct manager *manager = data;
    vdc_log_info("store lease given back: %s", vdc_rc_name(rc));
    manager->revoked = true;
}

void seats_close(struct manager *manager)
{
    manager->stopping = true;
    uv_close((uv_handle_t *)&manager->retry, NULL);
    vdc_etcd_watch_close(manager->watch_zones);
    vdc_etcd_watch_close(manager->watch_leaders);
    for (struct seat *seat = manager->seats; seat != NULL; seat = seat->next) {
        seat_resign(seat, "this manager stops");
        uv_close((uv_handle_t *)&seat->timer, NULL);
    }
    manager->revoked = manager->lease == NULL;
    vdc_etcd_lease_close(manager->lease, on_revoked, manager);
    manager->lease = NULL;
}
