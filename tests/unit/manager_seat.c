/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who leads a zone, against a store that the test plays: answers that are lost, a history that is
 * compacted away, records that cannot be read. The functions of vdc/etcd.h that the seats use are
 * defined here; a transaction is done at once, and its answer and the watch's events are delivered when the
 * test says so.
 */
#include <string.h>

#include <criterion/criterion.h>

#include <vdc/clock.h>

#include "seat_internal.h"

#define KEYS_MAX 32

struct key {
    char key[VDC_KEY_CAP];
    struct vdc_buf value;
    int64_t create_revision;
    int64_t mod_revision;
    int64_t lease;
};

/* A callback that is still to come. */
struct due {
    enum { DUE_TXN, DUE_LIST, DUE_EVENT, DUE_WRITE } kind;
    vdc_etcd_txn_cb txn;
    vdc_etcd_list_cb list;
    vdc_etcd_write_cb write;
    void *data;
    enum vdc_rc rc;
    bool succeeded;
    int64_t revision;
    struct key kvs[KEYS_MAX];
    size_t count;
    bool deleted;
    char prefix[VDC_KEY_CAP];
    struct due *next;
};

static struct {
    struct key keys[KEYS_MAX];
    size_t count;
    int64_t revision;
    struct due *due;
    bool lose_txn_answer; /* of the next transaction that puts */
    bool hold_events;
    bool watching_zones, watching_leaders;
    const struct vdc_etcd_watch_calls *leader_calls;
    const struct vdc_etcd_watch_calls *zone_calls;
    const struct vdc_etcd_lease_calls *lease_calls;
    void *data;
    size_t loads; /* how often somebody began to lead and read the zone's record */
} store;

static void push(struct due *due)
{
    struct due **at = &store.due;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = due;
}

static struct key *find(const char *key)
{
    for (size_t i = 0; i < store.count; i++) {
        if (strcmp(store.keys[i].key, key) == 0) {
            return &store.keys[i];
        }
    }
    return NULL;
}

static void copy(struct key *to, const struct key *from)
{
    *to = *from;
    to->value = (struct vdc_buf){0};
    vdc_buf_append(&to->value, vdc_buf_text(&from->value), from->value.len);
}

static void tell(const struct key *key, bool deleted)
{
    struct due *due = VDC_NEW(struct due);
    due->kind = DUE_EVENT;
    due->deleted = deleted;
    due->count = 1;
    copy(&due->kvs[0], key);
    due->kvs[0].mod_revision = store.revision;
    push(due);
}

static void store_put(const char *name, const void *value, size_t len, int64_t lease)
{
    struct key *key = find(name);
    store.revision++;
    if (key == NULL) {
        key = &store.keys[store.count++];
        *key = (struct key){.create_revision = store.revision};
        vdc_str_set(key->key, sizeof key->key, name);
    }
    vdc_buf_clear(&key->value);
    vdc_buf_append(&key->value, value, len);
    key->mod_revision = store.revision;
    key->lease = lease;
    tell(key, false);
}

static void store_delete(const char *name, bool told)
{
    struct key *key = find(name);
    store.revision++;
    if (told) {
        tell(key, true);
    }
    vdc_buf_deinit(&key->value);
    *key = store.keys[--store.count];
}

/* ---- what the seats call ---- */

enum vdc_rc vdc_etcd_txn(struct vdc_etcd *etcd, const struct vdc_etcd_txn *txn, vdc_etcd_txn_cb cb,
                         void *data, struct vdc_etcd_request **request)
{
    (void)etcd;
    struct due *due = VDC_NEW(struct due);
    due->kind = DUE_TXN;
    due->txn = cb;
    due->data = data;
    due->succeeded = true;
    for (size_t i = 0; i < txn->compare_count; i++) {
        const struct key *key = find(txn->compares[i].key);
        due->succeeded =
            due->succeeded && (key == NULL ? 0 : key->create_revision) == txn->compares[i].number;
    }
    for (size_t i = 0; due->succeeded && i < txn->then_count; i++) {
        const struct vdc_etcd_op *op = &txn->then[i];
        if (op->kind == VDC_ETCD_PUT) {
            store_put(op->key, op->value, op->value_len, op->lease);
            due->rc = store.lose_txn_answer ? VDC_RC_UNKNOWN_OUTCOME : VDC_RC_OK;
            store.lose_txn_answer = false;
        } else if (op->kind == VDC_ETCD_DELETE) {
            store_delete(op->key, true);
        } else if (find(op->key) != NULL) {
            copy(&due->kvs[due->count++], find(op->key));
            store.loads += strstr(op->key, "/zones/") != NULL;
        }
    }
    due->revision = store.revision;
    push(due);
    if (request != NULL) {
        *request = (struct vdc_etcd_request *)due;
    }
    return VDC_RC_OK;
}

enum vdc_rc vdc_etcd_write(struct vdc_etcd *etcd, const struct vdc_etcd_guard *guard,
                           const struct vdc_etcd_op *ops, size_t op_count, vdc_etcd_write_cb cb,
                           void *data, struct vdc_etcd_request **request)
{
    (void)etcd;
    (void)guard;
    (void)ops;
    (void)op_count;
    struct due *due = VDC_NEW(struct due);
    due->kind = DUE_WRITE;
    due->write = cb;
    due->data = data;
    push(due);
    *request = (struct vdc_etcd_request *)due;
    return VDC_RC_OK;
}

enum vdc_rc vdc_etcd_list(struct vdc_etcd *etcd, const char *prefix, vdc_etcd_list_cb cb,
                          void *data, struct vdc_etcd_request **request)
{
    (void)etcd;
    struct due *due = VDC_NEW(struct due);
    due->kind = DUE_LIST;
    due->list = cb;
    due->data = data;
    due->revision = store.revision;
    for (size_t i = 0; i < store.count; i++) {
        if (strncmp(store.keys[i].key, prefix, strlen(prefix)) == 0) {
            copy(&due->kvs[due->count++], &store.keys[i]);
        }
    }
    push(due);
    if (request != NULL) {
        *request = (struct vdc_etcd_request *)due;
    }
    return VDC_RC_OK;
}

void vdc_etcd_cancel(struct vdc_etcd_request *request)
{
    struct due *due = (struct due *)request;
    due->rc = VDC_RC_CANCELLED;
}

enum vdc_rc vdc_etcd_watch_open(struct vdc_etcd *etcd, const char *prefix, int64_t from_revision,
                                const struct vdc_etcd_watch_calls *calls, void *data,
                                struct vdc_etcd_watch **out)
{
    (void)etcd;
    (void)from_revision;
    bool zones = strstr(prefix, "zones/") != NULL;
    *(zones ? &store.watching_zones : &store.watching_leaders) = true;
    *(zones ? &store.zone_calls : &store.leader_calls) = calls;
    store.data = data;
    *out = (struct vdc_etcd_watch *)(zones ? &store.watching_zones : &store.watching_leaders);
    return VDC_RC_OK;
}

void vdc_etcd_watch_close(struct vdc_etcd_watch *watch)
{
    if (watch != NULL) {
        *(bool *)watch = false;
    }
}

enum vdc_rc vdc_etcd_lease_open(struct vdc_etcd *etcd, int64_t ttl_s,
                                const struct vdc_etcd_lease_calls *calls, void *data,
                                struct vdc_etcd_lease **out)
{
    (void)etcd;
    (void)ttl_s;
    store.lease_calls = calls;
    store.data = data;
    *out = (struct vdc_etcd_lease *)&store;
    return VDC_RC_OK;
}

void vdc_etcd_lease_close(struct vdc_etcd_lease *lease, void (*on_done)(void *data, enum vdc_rc rc),
                          void *data)
{
    (void)lease;
    if (on_done != NULL) {
        on_done(data, VDC_RC_OK);
    }
}

bool nodes_send(struct manager *manager, uint64_t session, const struct vdc_msg *msg)
{
    (void)manager;
    (void)session;
    (void)msg;
    return true;
}

void nodes_introduce(struct seat *seat)
{
    (void)seat;
}

void api_answer(struct seat *seat, const struct vdc_zone_answer *answer)
{
    (void)seat;
    (void)answer;
}

void api_check_waiters(struct seat *seat)
{
    (void)seat;
}

void api_fail_waiters(struct seat *seat)
{
    (void)seat;
}

/* ---- delivering ---- */

static void kv_of(const struct key *key, struct vdc_etcd_kv *kv)
{
    *kv = (struct vdc_etcd_kv){.key = key->key,
                               .key_len = strlen(key->key),
                               .value = vdc_buf_text(&key->value),
                               .value_len = key->value.len,
                               .create_revision = key->create_revision,
                               .mod_revision = key->mod_revision,
                               .lease = key->lease};
}

static void deliver(struct due *due)
{
    struct vdc_etcd_kv kvs[KEYS_MAX];
    struct vdc_err err = {0};
    for (size_t i = 0; i < due->count; i++) {
        kv_of(&due->kvs[i], &kvs[i]);
    }
    if (due->rc != VDC_RC_OK) {
        vdc_err_set(&err, due->rc, "says the test");
    }
    struct vdc_etcd_answer answer = {.kind = VDC_ETCD_GET, .kvs = kvs, .kv_count = due->count};
    struct vdc_etcd_result result = {.succeeded = due->succeeded,
                                     .revision = due->revision,
                                     .answers = &answer,
                                     .answer_count = 1};
    struct vdc_etcd_event event = {.deleted = due->deleted, .kv = kvs[0]};
    bool leaders = strstr(due->kvs[0].key, "/leaders/") != NULL;
    switch (due->kind) {
    case DUE_TXN:
        due->txn(due->data, due->rc, due->rc == VDC_RC_OK ? &result : NULL, &err);
        break;
    case DUE_LIST:
        due->list(due->data, due->rc, kvs, due->rc == VDC_RC_OK ? due->count : 0, due->revision,
                  false, &err);
        break;
    case DUE_WRITE:
        due->write(due->data, due->rc, due->revision, &err);
        break;
    case DUE_EVENT:
        if (leaders && store.watching_leaders) {
            store.leader_calls->on_events(store.data, &event, 1);
        } else if (strstr(due->kvs[0].key, "/zones/") != NULL && store.watching_zones) {
            store.zone_calls->on_events(store.data, &event, 1);
        }
        break;
    }
    for (size_t i = 0; i < due->count; i++) {
        vdc_buf_deinit(&due->kvs[i].value);
    }
    free(due);
}

/* Delivers what may be delivered, in order, and what follows from it. */
static void deliver_all(void)
{
    for (struct due **at = &store.due; *at != NULL;) {
        struct due *due = *at;
        if (due->kind == DUE_EVENT && store.hold_events) {
            at = &due->next;
            continue;
        }
        *at = due->next;
        deliver(due);
        at = &store.due;
    }
}

static struct manager *manager;

/* Lets timers run until `done`; the test's own time limit is the bound. */
static void run_until(bool (*done)(void))
{
    while (!done()) {
        deliver_all();
        uv_run(manager->loop, UV_RUN_NOWAIT);
        uv_sleep(5);
    }
    deliver_all();
}

static struct seat *seat(void)
{
    return seat_find(manager, "prod");
}

static bool leads(void)
{
    return seat() != NULL && seat_leads(seat());
}

static void renew(int64_t lease)
{
    store.lease_calls->on_renewed(manager, lease, vdc_clock_mono(), 60000);
}

static void put_zone(void)
{
    static const char text[] = "apiVersion: vdc/v1\nkind: ZonePolicy\nzone: prod\n"
                               "nodes:\n  - match: node.name != \"\"\n";
    char key[VDC_KEY_CAP];
    struct vdc_buf value = {0};
    struct vdc_policy_record policy = {.zone = "prod", .version = 1, .text = (char *)text};
    vdc_key_policy(key, "prod", 1);
    vdc_policy_record_encode(&policy, &value);
    store_put(key, value.data, value.len, 0);
    vdc_buf_clear(&value);
    struct vdc_zone_record zone = {.name = "prod", .policy_version = 1};
    vdc_key_zone(key, "prod");
    vdc_zone_record_encode(&zone, &value);
    store_put(key, value.data, value.len, 0);
    vdc_buf_deinit(&value);
}

static void put_leader_of(const char *name)
{
    struct vdc_buf value = {0};
    struct vdc_leader_record record = {0};
    vdc_str_set(record.manager, sizeof record.manager, name);
    vdc_str_set(record.api, sizeof record.api, "10.0.0.9:7443");
    vdc_leader_record_encode(&record, &value);
    store_put(VDC_STORE_PREFIX "leaders/prod", value.data, value.len, 99);
    vdc_buf_deinit(&value);
}

static void begin(void)
{
    memset(&store, 0, sizeof store);
    manager = VDC_NEW(struct manager);
    vdc_str_set(manager->config.name, VDC_NAME_CAP, "m1");
    vdc_str_set(manager->config.api_advertise, VDC_ADDRESS_CAP, "10.0.0.1:7443");
    manager->loop = VDC_NEW(uv_loop_t);
    uv_loop_init(manager->loop);
    put_zone();
}

static void end(void)
{
    seats_close(manager);
    uv_run(manager->loop, UV_RUN_DEFAULT);
    deliver_all();
    for (struct seat *at = manager->seats, *next; at != NULL; at = next) {
        next = at->next;
        free(at);
    }
    cr_assert_eq(uv_loop_close(manager->loop), 0);
    free(manager->loop);
    free(manager);
    for (size_t i = 0; i < store.count; i++) {
        vdc_buf_deinit(&store.keys[i].value);
    }
}

static void open_manager(void)
{
    struct vdc_err err = {0};
    cr_assert_eq(seats_open(manager, &err), VDC_RC_OK);
    deliver_all();
}

TestSuite(manager_seat, .init = begin, .fini = end, .timeout = 60);

Test(manager_seat, a_zone_without_a_leader_is_led)
{
    open_manager();
    renew(7);
    run_until(leads);
    cr_assert_eq(seat()->epoch, seat()->leader_revision);
}

Test(manager_seat, a_campaign_that_won_without_an_answer_is_not_forgotten)
{
    open_manager();
    /* The first campaign wins and its answer is lost, the watch is slow: the second one is refused
     * because of our own key, which our keep-alives would hold for ever. */
    store.hold_events = true;
    store.lose_txn_answer = true;
    renew(7);
    deliver_all();
    cr_assert_eq(seat()->state, SEAT_FOLLOWING);
    seat()->paused_until = (vdc_mono){0};
    seat_campaign(seat());
    cr_assert_eq(seat()->state, SEAT_CAMPAIGNING);
    struct due *second = store.due;
    while (second->kind != DUE_TXN) {
        second = second->next;
    }
    cr_assert_not(second->succeeded);
    store.hold_events = false; /* the event comes first, then the answer */
    run_until(leads);
}

static bool relisted(void)
{
    return store.watching_leaders && !manager->listing_leaders;
}

Test(manager_seat, a_leader_that_went_while_the_history_was_compacted_is_replaced)
{
    put_leader_of("m2");
    open_manager();
    renew(7);
    deliver_all();
    cr_assert_str_eq(seat()->leader.manager, "m2");
    cr_assert_eq(seat()->state, SEAT_FOLLOWING);
    store_delete(VDC_STORE_PREFIX "leaders/prod", false); /* nobody will ever tell */
    store.leader_calls->on_compacted(manager, store.revision);
    run_until(relisted);
    run_until(leads);
}

Test(manager_seat, a_relist_while_leading_changes_nothing)
{
    open_manager();
    renew(7);
    run_until(leads);
    int64_t epoch = seat()->epoch;
    store.leader_calls->on_compacted(manager, store.revision);
    run_until(relisted);
    cr_assert(leads());
    cr_assert_eq(seat()->epoch, epoch);
}

static bool gave_up(void)
{
    return store.loads >= 2 && seat()->state == SEAT_FOLLOWING;
}

static bool key_given_back(void)
{
    return seat()->leader_revision == 0;
}

Test(manager_seat, an_unreadable_record_is_named_and_not_tried_in_a_circle)
{
    static const char bad[] =
        VDC_STORE_PREFIX "partitions/prod/00000000-0000-4000-8000-0000000000ba";
    store_put(bad, "nonsense", 8, 0);
    open_manager();
    renew(7);
    run_until(gave_up);
    cr_assert(strstr(seat()->trouble, bad) != NULL, "%s", seat()->trouble);
    cr_assert(strstr(seat()->trouble, "could not be read") != NULL, "%s", seat()->trouble);
    cr_assert_eq(seat()->failures, 2);
    seat()->paused_until = VDC_NEVER; /* as if it had just failed: the key goes, nothing is tried */
    run_until(key_given_back);
    cr_assert_eq(store.loads, 2);
    store_delete(bad, true);
    seat()->paused_until = (vdc_mono){0}; /* the pause is over, as its timer would say */
    seat_campaign(seat());
    run_until(leads);
}

Test(manager_seat, a_record_under_another_key_is_refused)
{
    struct vdc_buf value = {0};
    struct vdc_node_record node = {
        .name = "n1", .zone = "prod", .state = VDC_NODE_READY, .incarnation = 1};
    vdc_node_record_encode(&node, &value);
    store_put(VDC_STORE_PREFIX "nodes/prod/n2", value.data, value.len, 0);
    vdc_buf_deinit(&value);
    open_manager();
    renew(7);
    run_until(gave_up);
    cr_assert(strstr(seat()->trouble, "nodes/prod/n2: it holds the record of") != NULL, "%s",
              seat()->trouble);
}
