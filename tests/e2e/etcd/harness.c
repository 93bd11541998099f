/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

static void on_hang(uv_timer_t *timer)
{
    (void)timer;
    fprintf(stderr, "the test hangs: nothing for %d s\n", HANG_SECONDS);
    abort();
}

static void print_trace(void *data, enum vdc_level level, const char *line)
{
    (void)data;
    printf("    %s: %s\n", vdc_level_name(level), line);
}

/* A member that the previous check froze may still be catching up, and a leader be chosen: a first
 * request would meet that, which is not what the check is about. */
static void settle(struct bench *bench)
{
    for (int tries = 0; tries < SETTLE_TRIES; tries++) {
        if (run_put(bench, "/settled", "", 0).rc == VDC_RC_OK) {
            return;
        }
    }
    fprintf(stderr, "the cluster takes no write in %d tries\n", SETTLE_TRIES);
    abort();
}

void bench_open(struct bench *bench, struct test_etcd *cluster,
                const struct vdc_etcd_config *config)
{
    struct vdc_etcd_config full = config != NULL ? *config : (struct vdc_etcd_config){0};
    if (full.endpoints == NULL) {
        full.endpoints = test_etcd_endpoints(cluster);
        full.endpoint_count = test_etcd_count(cluster);
    }
    full.on_trace = print_trace;
    *bench = (struct bench){.cluster = cluster};
    CHECK(uv_loop_init(&bench->loop) == 0);
    CHECK(uv_timer_init(&bench->loop, &bench->hang) == 0);
    struct vdc_err err = {0};
    if (vdc_etcd_open(&bench->loop, &full, &bench->etcd, &err) != VDC_RC_OK) {
        fprintf(stderr, "%s\n", vdc_err_text(&err));
        exit(1);
    }
    if (full.endpoint_count > 1) {
        settle(bench);
    }
}

void bench_turn(struct bench *bench)
{
    uv_timer_start(&bench->hang, on_hang, HANG_SECONDS * 1000, 0);
    uv_run(&bench->loop, UV_RUN_ONCE);
    uv_timer_stop(&bench->hang);
}

static void set_flag(void *data)
{
    *(bool *)data = true;
}

void bench_close(struct bench *bench)
{
    bool closed = false;
    if (bench->etcd != NULL) {
        vdc_etcd_close(bench->etcd, set_flag, &closed);
        WAIT(bench, closed);
    }
    uv_close((uv_handle_t *)&bench->hang, NULL);
    uv_run(&bench->loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&bench->loop) == 0);
}

static void on_slept(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

void bench_sleep(struct bench *bench, uint64_t ms)
{
    bool done = false;
    uv_timer_t *timer = VDC_NEW(uv_timer_t);
    uv_timer_init(&bench->loop, timer);
    timer->data = &done;
    uv_update_time(&bench->loop);
    uv_timer_start(timer, on_slept, ms, 0);
    WAIT(bench, done);
    uv_close((uv_handle_t *)timer, (uv_close_cb)free);
}

static void copy_text(char *to, size_t cap, const char *from)
{
    snprintf(to, cap, "%s", from);
}

void outcome_of_txn(void *data, enum vdc_rc rc, const struct vdc_etcd_result *result,
                    const struct vdc_err *err)
{
    struct outcome *outcome = data;
    CHECK(!outcome->done);
    CHECK((rc == VDC_RC_OK) == (result != NULL));
    outcome->done = true;
    outcome->rc = rc;
    copy_text(outcome->text, sizeof(outcome->text), vdc_err_text(err));
    if (result == NULL) {
        return;
    }
    outcome->succeeded = result->succeeded;
    outcome->revision = result->revision;
    outcome->answers = result->answer_count;
    if (result->answer_count > 0) {
        outcome->total = result->answers[0].total;
        outcome->kv_count = result->answers[0].kv_count;
    }
    if (outcome->kv_count > 0) {
        const struct vdc_etcd_kv *kv = &result->answers[0].kvs[0];
        CHECK(kv->key[kv->key_len] == 0 && kv->value[kv->value_len] == 0);
        copy_text(outcome->key, sizeof(outcome->key), kv->key);
        copy_text(outcome->value, sizeof(outcome->value), kv->value);
        outcome->value_len = kv->value_len;
        outcome->create_revision = kv->create_revision;
        outcome->mod_revision = kv->mod_revision;
        outcome->version = kv->version;
        outcome->lease = kv->lease;
    }
}

void outcome_of_write(void *data, enum vdc_rc rc, int64_t revision, const struct vdc_err *err)
{
    struct outcome *outcome = data;
    CHECK(!outcome->done);
    outcome->done = true;
    outcome->rc = rc;
    outcome->revision = revision;
    copy_text(outcome->text, sizeof(outcome->text), vdc_err_text(err));
}

struct outcome run_txn(struct bench *bench, const struct vdc_etcd_txn *txn)
{
    struct outcome outcome = {0};
    enum vdc_rc rc = vdc_etcd_txn(bench->etcd, txn, outcome_of_txn, &outcome, NULL);
    if (rc != VDC_RC_OK) {
        outcome.rc = rc;
        return outcome;
    }
    CHECK(!outcome.done); /* never from inside the call */
    WAIT(bench, outcome.done);
    return outcome;
}

struct outcome run_put(struct bench *bench, const char *key, const char *value, int64_t lease)
{
    struct vdc_etcd_op op = {.kind = VDC_ETCD_PUT,
                             .key = key,
                             .value = value,
                             .value_len = strlen(value),
                             .lease = lease};
    return run_txn(bench, &(struct vdc_etcd_txn){.then = &op, .then_count = 1});
}

struct outcome run_get(struct bench *bench, const char *key)
{
    struct vdc_etcd_op op = {.kind = VDC_ETCD_GET, .key = key};
    return run_txn(bench, &(struct vdc_etcd_txn){.then = &op, .then_count = 1});
}

int64_t make_guard(struct bench *bench, const char *key)
{
    struct vdc_etcd_compare absent = {.key = key, .target = VDC_ETCD_CREATE_REVISION};
    struct vdc_etcd_op put = {.kind = VDC_ETCD_PUT, .key = key};
    struct outcome outcome =
        run_txn(bench, &(struct vdc_etcd_txn){
                           .compares = &absent, .compare_count = 1, .then = &put, .then_count = 1});
    CHECK(outcome.rc == VDC_RC_OK && outcome.succeeded);
    return outcome.revision;
}

struct outcome run_write(struct bench *bench, const char *guard, int64_t create_revision,
                         const char *key, const char *value)
{
    struct outcome outcome = {0};
    struct vdc_etcd_op op = {
        .kind = VDC_ETCD_PUT, .key = key, .value = value, .value_len = strlen(value)};
    struct vdc_etcd_guard held = {.key = guard, .create_revision = create_revision};
    CHECK(vdc_etcd_write(bench->etcd, &held, &op, 1, outcome_of_write, &outcome, NULL) ==
          VDC_RC_OK);
    WAIT(bench, outcome.done);
    return outcome;
}

static void on_events(void *data, const struct vdc_etcd_event *events, size_t count)
{
    struct recorder *recorder = data;
    CHECK(count > 0);
    for (size_t i = 0; i < count; i++) {
        const struct vdc_etcd_kv *kv = &events[i].kv;
        CHECK(kv->mod_revision >= recorder->last_revision);
        recorder->last_revision = kv->mod_revision;
        recorder->events++;
        recorder->deletes += events[i].deleted;
        recorder->bytes += kv->value_len;
        size_t len = strlen(kv->key);
        CHECK(len == kv->key_len);
        if (!events[i].deleted && len >= 3 && strcmp(kv->key + len - 3, "seq") == 0) {
            CHECK(kv->version == recorder->seq_version + 1);
            recorder->seq_version = kv->version;
            copy_text(recorder->seq_value, sizeof(recorder->seq_value), kv->value);
        }
    }
    if (recorder->close_at_first) {
        vdc_etcd_watch_close(recorder->watch);
        recorder->watch = NULL;
    }
}

static void on_compacted(void *data, int64_t compact_revision)
{
    struct recorder *recorder = data;
    CHECK(recorder->compacted == 0);
    recorder->compacted = compact_revision;
    vdc_etcd_watch_close(recorder->watch);
    recorder->watch = NULL;
}

void recorder_open(struct recorder *recorder, struct bench *bench, const char *prefix,
                   int64_t from_revision)
{
    static const struct vdc_etcd_watch_calls calls = {on_events, on_compacted};
    *recorder = (struct recorder){.bench = bench};
    CHECK(vdc_etcd_watch_open(bench->etcd, prefix, from_revision, &calls, recorder,
                              &recorder->watch) == VDC_RC_OK);
}
