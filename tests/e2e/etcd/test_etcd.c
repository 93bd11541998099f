/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The etcd client against real etcd: `test_etcd PKI` runs all, `test_etcd PKI NAME ...` some. PKI is
 * deploy/pki. A plain program, so that it also runs under a thread sanitizer.
 */
#include "harness.h"

#include <signal.h>
#include <unistd.h>

#include <vdc/clock.h>

static const char *pki_program;

/* Short, so that faults are seen soon; long enough for a busy machine. */
static const struct vdc_etcd_config quick = {.attempt_timeout_ms = 700, .request_timeout_ms = 2500};

/* ---- Transactions ---- */

static void compare_and_swap_works(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, NULL);
    struct vdc_etcd_compare absent = {.key = "/cas/a", .target = VDC_ETCD_CREATE_REVISION};
    struct vdc_etcd_op put = {
        .kind = VDC_ETCD_PUT, .key = "/cas/a", .value = "x\0y", .value_len = 3};
    struct vdc_etcd_op get = {.kind = VDC_ETCD_GET, .key = "/cas/a"};
    struct vdc_etcd_txn create = {.compares = &absent,
                                  .compare_count = 1,
                                  .then = &put,
                                  .then_count = 1,
                                  .otherwise = &get,
                                  .otherwise_count = 1};
    struct outcome first = run_txn(&bench, &create);
    CHECK(first.rc == VDC_RC_OK && first.succeeded && first.answers == 1);
    struct outcome second = run_txn(&bench, &create);
    CHECK(second.rc == VDC_RC_OK && !second.succeeded);
    CHECK(second.value_len == 3 && strcmp(second.value, "x") == 0);
    CHECK(second.create_revision == first.revision && second.mod_revision == first.revision);
    CHECK(second.version == 1 && second.lease == 0);

    struct vdc_etcd_compare same[] = {
        {.key = "/cas/a", .target = VDC_ETCD_VALUE, .value = "x\0y", .value_len = 3},
        {.key = "/cas/a", .target = VDC_ETCD_VERSION, .number = 1},
        {.key = "/cas/a",
         .target = VDC_ETCD_MOD_REVISION,
         .relation = VDC_ETCD_LESS,
         .number = first.revision + 1},
        {.key = "/cas/a",
         .target = VDC_ETCD_MOD_REVISION,
         .relation = VDC_ETCD_GREATER,
         .number = first.revision - 1},
        {.key = "/cas/a", .target = VDC_ETCD_VERSION, .relation = VDC_ETCD_NOT_EQUAL, .number = 9},
    };
    struct vdc_etcd_op del = {.kind = VDC_ETCD_DELETE, .key = "/cas/a"};
    struct vdc_etcd_txn drop = {
        .compares = same, .compare_count = VDC_COUNT_OF(same), .then = &del, .then_count = 1};
    struct outcome dropped = run_txn(&bench, &drop);
    CHECK(dropped.rc == VDC_RC_OK && dropped.succeeded && dropped.total == 1);
    CHECK(!run_txn(&bench, &drop).succeeded);
    bench_close(&bench);
}

static void ranges_have_limits_and_totals(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, NULL);
    CHECK(run_put(&bench, "/rng/a", "1", 0).rc == VDC_RC_OK);
    CHECK(run_put(&bench, "/rng/b", "", 0).rc == VDC_RC_OK);
    CHECK(run_put(&bench, "/rng0", "no part of it", 0).rc == VDC_RC_OK);
    struct vdc_etcd_op range = {.kind = VDC_ETCD_GET_PREFIX, .key = "/rng/", .limit = 1};
    struct vdc_etcd_txn read = {.then = &range, .then_count = 1};
    struct outcome one = run_txn(&bench, &read);
    CHECK(one.rc == VDC_RC_OK && one.kv_count == 1 && one.total == 2);
    CHECK(strcmp(one.key, "/rng/a") == 0 && strcmp(one.value, "1") == 0);
    range.limit = 0;
    CHECK(run_txn(&bench, &read).kv_count == 2);
    range.key = "";
    CHECK(run_txn(&bench, &read).total >= 3);
    struct outcome empty = run_get(&bench, "/rng/b");
    CHECK(empty.kv_count == 1 && empty.value_len == 0 && empty.value[0] == 0);
    struct vdc_etcd_op del = {.kind = VDC_ETCD_DELETE_PREFIX, .key = "/rng/"};
    CHECK(run_txn(&bench, &(struct vdc_etcd_txn){.then = &del, .then_count = 1}).total == 2);
    CHECK(run_get(&bench, "/rng0").kv_count == 1);
    bench_close(&bench);
}

static void what_is_too_much_is_refused(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, NULL);
    CHECK(run_put(&bench, "", "x", 0).rc == VDC_RC_INVALID);
    char key[VDC_ETCD_KEY_MAX + 2];
    memset(key, 'k', sizeof(key));
    key[VDC_ETCD_KEY_MAX + 1] = 0;
    CHECK(run_put(&bench, key, "x", 0).rc == VDC_RC_INVALID);
    key[VDC_ETCD_KEY_MAX] = 0;
    CHECK(run_put(&bench, key, "x", 0).rc == VDC_RC_OK);

    static struct vdc_etcd_op ops[VDC_ETCD_OPS_MAX + 1];
    for (size_t i = 0; i < VDC_COUNT_OF(ops); i++) {
        ops[i] = (struct vdc_etcd_op){.kind = VDC_ETCD_GET, .key = "/max"};
    }
    struct vdc_etcd_txn many = {.then = ops, .then_count = VDC_ETCD_OPS_MAX + 1};
    CHECK(run_txn(&bench, &many).rc == VDC_RC_LIMIT);
    many.then_count = VDC_ETCD_OPS_MAX;
    CHECK(run_txn(&bench, &many).answers == VDC_ETCD_OPS_MAX);

    size_t len = VDC_ETCD_REQUEST_MAX;
    vdc_autofree char *value = vdc_calloc(1, len + 1);
    memset(value, 'v', len);
    CHECK(run_put(&bench, "/max", value, 0).rc == VDC_RC_TOO_LARGE);
    value[len - 64] = 0;
    CHECK(run_put(&bench, "/max", value, 0).rc == VDC_RC_OK);

    struct vdc_etcd_op twice[2] = {{.kind = VDC_ETCD_PUT, .key = "/max"},
                                   {.kind = VDC_ETCD_PUT, .key = "/max"}};
    struct vdc_etcd_txn doubled = {.then = twice, .then_count = 2};
    CHECK(run_txn(&bench, &doubled).rc == VDC_RC_INVALID);
    CHECK(run_put(&bench, "/max", "x", 4711).rc == VDC_RC_NOT_FOUND);
    bench_close(&bench);
}

static void requests_have_a_bound(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, NULL);
    struct outcome *outcomes = vdc_calloc(VDC_ETCD_REQUESTS_MAX, sizeof(*outcomes));
    struct vdc_etcd_op op = {.kind = VDC_ETCD_GET, .key = "/none"};
    struct vdc_etcd_txn txn = {.then = &op, .then_count = 1};
    for (size_t i = 0; i < VDC_ETCD_REQUESTS_MAX; i++) {
        CHECK(vdc_etcd_txn(bench.etcd, &txn, outcome_of_txn, &outcomes[i], NULL) == VDC_RC_OK);
    }
    struct outcome none = {0};
    CHECK(vdc_etcd_txn(bench.etcd, &txn, outcome_of_txn, &none, NULL) == VDC_RC_LIMIT);
    for (size_t i = 0; i < VDC_ETCD_REQUESTS_MAX; i++) {
        WAIT(&bench, outcomes[i].done);
        CHECK(outcomes[i].rc == VDC_RC_OK);
    }
    free(outcomes);
    bench_close(&bench);
}

/* ---- Lists ---- */

#define LIST_KEYS 1203

struct listing {
    struct bench *bench;
    struct vdc_etcd_request *request;
    size_t pages;
    size_t keys;
    int64_t revision;
    char last[64];
    enum vdc_rc rc;
    bool done;
    size_t cancel_at; /* page; 0: never */
    struct outcome meanwhile;
};

static void on_page(void *data, enum vdc_rc rc, const struct vdc_etcd_kv *kvs, size_t count,
                    int64_t revision, bool more, const struct vdc_err *err)
{
    (void)err;
    struct listing *listing = data;
    CHECK(!listing->done);
    listing->pages++;
    listing->keys += count;
    CHECK(listing->revision == 0 || listing->revision == revision);
    listing->revision = revision;
    for (size_t i = 0; i < count; i++) {
        CHECK(strcmp(listing->last, kvs[i].key) < 0);
        CHECK(kvs[i].mod_revision <= revision);
        snprintf(listing->last, sizeof(listing->last), "%s", kvs[i].key);
    }
    listing->rc = rc;
    listing->done = !more;
    if (listing->pages == 1 && more) {
        /* Written between two pages: not part of this list. */
        struct vdc_etcd_op put = {.kind = VDC_ETCD_PUT, .key = "/list/9999"};
        struct vdc_etcd_txn txn = {.then = &put, .then_count = 1};
        CHECK(vdc_etcd_txn(listing->bench->etcd, &txn, outcome_of_txn, &listing->meanwhile, NULL) ==
              VDC_RC_OK);
    }
    if (listing->pages == listing->cancel_at) {
        vdc_etcd_cancel(listing->request);
    }
}

static void list_is_whole_and_of_one_revision(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, NULL);
    char keys[100][32];
    struct vdc_etcd_op ops[100];
    for (int base = 0; base < LIST_KEYS; base += 100) {
        size_t count = 0;
        for (int i = base; i < LIST_KEYS && count < 100; i++, count++) {
            snprintf(keys[count], sizeof(keys[count]), "/list/%04d", i);
            ops[count] = (struct vdc_etcd_op){.kind = VDC_ETCD_PUT, .key = keys[count]};
        }
        struct vdc_etcd_txn txn = {.then = ops, .then_count = count};
        CHECK(run_txn(&bench, &txn).rc == VDC_RC_OK);
    }
    struct listing listing = {.bench = &bench};
    CHECK(vdc_etcd_list(bench.etcd, "/list/", on_page, &listing, &listing.request) == VDC_RC_OK);
    WAIT(&bench, listing.done && listing.meanwhile.done);
    CHECK(listing.rc == VDC_RC_OK && listing.keys == LIST_KEYS && listing.pages == 3);
    CHECK(listing.meanwhile.rc == VDC_RC_OK && listing.meanwhile.revision > listing.revision);

    struct listing again = {.bench = &bench, .cancel_at = 2};
    CHECK(vdc_etcd_list(bench.etcd, "/list/", on_page, &again, &again.request) == VDC_RC_OK);
    WAIT(&bench, again.done && again.meanwhile.done);
    CHECK(again.rc == VDC_RC_CANCELLED && again.pages == 3);

    struct listing none = {.bench = &bench};
    CHECK(vdc_etcd_list(bench.etcd, "/nothing/", on_page, &none, NULL) == VDC_RC_OK);
    WAIT(&bench, none.done);
    CHECK(none.rc == VDC_RC_OK && none.keys == 0 && none.revision > 0);
    bench_close(&bench);
}

/* ---- Guarded writes ---- */

static void guarded_write_needs_its_guard(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, NULL);
    CHECK(run_write(&bench, "/g/leader", 1, "/g/a", "no guard").rc == VDC_RC_STALE);
    int64_t mine = make_guard(&bench, "/g/leader");
    struct outcome done = run_write(&bench, "/g/leader", mine, "/g/a", "one");
    CHECK(done.rc == VDC_RC_OK && done.revision > mine);
    CHECK(strcmp(run_get(&bench, "/g/a").value, "one") == 0);
    CHECK(run_get(&bench, "/g/leader/fence").kv_count == 0); /* nothing lost: no fence */

    /* Many at once, none waiting for another. */
    static struct outcome outcomes[300];
    struct vdc_etcd_guard guard = {.key = "/g/leader", .create_revision = mine};
    for (size_t i = 0; i < VDC_COUNT_OF(outcomes); i++) {
        vdc_autofree char *key = vdc_asprintf("/g/many/%zu", i);
        struct vdc_etcd_op op = {.kind = VDC_ETCD_PUT, .key = key};
        CHECK(vdc_etcd_write(bench.etcd, &guard, &op, 1, outcome_of_write, &outcomes[i], NULL) ==
              VDC_RC_OK);
    }
    for (size_t i = 0; i < VDC_COUNT_OF(outcomes); i++) {
        WAIT(&bench, outcomes[i].done);
        CHECK(outcomes[i].rc == VDC_RC_OK);
    }

    struct vdc_etcd_op del = {.kind = VDC_ETCD_DELETE, .key = "/g/leader"};
    CHECK(run_txn(&bench, &(struct vdc_etcd_txn){.then = &del, .then_count = 1}).total == 1);
    CHECK(run_write(&bench, "/g/leader", mine, "/g/a", "two").rc == VDC_RC_STALE);
    int64_t next = make_guard(&bench, "/g/leader");
    CHECK(run_write(&bench, "/g/leader", mine, "/g/a", "two").rc == VDC_RC_STALE);
    CHECK(run_write(&bench, "/g/leader", next, "/g/a", "three").rc == VDC_RC_OK);
    CHECK(run_write(&bench, "/g/leader", mine, "/g/a", "two").rc == VDC_RC_STALE);
    CHECK(strcmp(run_get(&bench, "/g/a").value, "three") == 0);

    struct vdc_etcd_op get = {.kind = VDC_ETCD_GET, .key = "/g/a"};
    CHECK(vdc_etcd_write(bench.etcd, &guard, &get, 1, outcome_of_write, NULL, NULL) ==
          VDC_RC_INVALID);
    CHECK(vdc_etcd_write(bench.etcd, &guard, &del, VDC_ETCD_WRITE_OPS_MAX + 1, outcome_of_write,
                         NULL, NULL) == VDC_RC_LIMIT);
    bench_close(&bench);
}

/* The case the fence is for: an attempt stuck in a frozen member must not be done, or change
 * anything, after newer writes. Many writes, so that some of them are in the frozen member. */
static void frozen_member_cannot_bring_old_writes_back(struct test_etcd *cluster)
{
    enum { KEYS = 40 };
    struct bench bench;
    bench_open(&bench, cluster, &quick);
    int64_t mine = make_guard(&bench, "/f/leader");
    size_t frozen = 0;
    while (strcmp(test_etcd_endpoints(cluster)[frozen], vdc_etcd_endpoint(bench.etcd)) != 0) {
        frozen++;
    }
    test_etcd_signal(cluster, frozen, SIGSTOP);
    static struct outcome outcomes[KEYS];
    struct vdc_etcd_guard guard = {.key = "/f/leader", .create_revision = mine};
    for (size_t i = 0; i < KEYS; i++) {
        vdc_autofree char *key = vdc_asprintf("/f/%02zu", i);
        struct vdc_etcd_op op = {.kind = VDC_ETCD_PUT, .key = key, .value = "old", .value_len = 3};
        CHECK(vdc_etcd_write(bench.etcd, &guard, &op, 1, outcome_of_write, &outcomes[i], NULL) ==
              VDC_RC_OK);
    }
    for (size_t i = 0; i < KEYS; i++) {
        WAIT(&bench, outcomes[i].done);
        CHECK(outcomes[i].rc == VDC_RC_OK);
    }
    CHECK(run_get(&bench, "/f/leader/fence").kv_count == 1);
    for (size_t i = 0; i < KEYS; i++) {
        vdc_autofree char *key = vdc_asprintf("/f/%02zu", i);
        CHECK(run_write(&bench, "/f/leader", mine, key, "new").rc == VDC_RC_OK);
    }
    test_etcd_signal(cluster, frozen, SIGCONT);
    bench_sleep(&bench, 1500); /* whatever it still holds is done now, or refused */
    for (size_t i = 0; i < KEYS; i++) {
        vdc_autofree char *key = vdc_asprintf("/f/%02zu", i);
        CHECK(strcmp(run_get(&bench, key).value, "new") == 0);
    }
    bench_close(&bench);
}

static void cancelled_write_ends(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, &quick);
    int64_t mine = make_guard(&bench, "/c/leader");
    test_etcd_signal(cluster, 0, SIGSTOP);
    struct outcome outcome = {0};
    struct vdc_etcd_request *request;
    struct vdc_etcd_guard guard = {.key = "/c/leader", .create_revision = mine};
    struct vdc_etcd_op op = {.kind = VDC_ETCD_PUT, .key = "/c/a"};
    CHECK(vdc_etcd_write(bench.etcd, &guard, &op, 1, outcome_of_write, &outcome, &request) ==
          VDC_RC_OK);
    bench_sleep(&bench, 3000); /* through several attempts, longer than request_timeout_ms */
    CHECK(!outcome.done);
    vdc_etcd_cancel(request);
    CHECK(!outcome.done);
    WAIT(&bench, outcome.done);
    CHECK(outcome.rc == VDC_RC_CANCELLED);
    test_etcd_signal(cluster, 0, SIGCONT);
    CHECK(run_write(&bench, "/c/leader", mine, "/c/a", "after").rc == VDC_RC_OK);
    bench_sleep(&bench, 300);
    CHECK(strcmp(run_get(&bench, "/c/a").value, "after") == 0);
    bench_close(&bench);
}

/* ---- Unknown outcomes ---- */

static void lost_answer_is_unknown_outcome(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, &quick);
    CHECK(run_put(&bench, "/u/a", "1", 0).rc == VDC_RC_OK);
    test_etcd_signal(cluster, 0, SIGSTOP);
    CHECK(run_put(&bench, "/u/a", "2", 0).rc == VDC_RC_UNKNOWN_OUTCOME);
    struct outcome read = run_get(&bench, "/u/a");
    CHECK(read.rc == VDC_RC_TIMEOUT || read.rc == VDC_RC_UNAVAILABLE);
    test_etcd_signal(cluster, 0, SIGCONT);
    CHECK(run_get(&bench, "/u/a").rc == VDC_RC_OK);

    test_etcd_signal(cluster, 0, SIGKILL);
    struct outcome down;
    do {
        /* The first one may still have met the dying connection. */
        down = run_put(&bench, "/u/a", "3", 0);
    } while (down.rc == VDC_RC_UNKNOWN_OUTCOME);
    CHECK(down.rc == VDC_RC_UNAVAILABLE);
    printf("    text: %s\n", down.text);
    test_etcd_restart(cluster, 0);
    test_etcd_leader(cluster);
    CHECK(run_put(&bench, "/u/a", "4", 0).rc == VDC_RC_OK);
    bench_close(&bench);
}

/* ---- Watches ---- */

static void watch_brings_each_change_once(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, NULL);
    int64_t start = run_put(&bench, "/w/seq", "0", 0).revision;
    CHECK(run_put(&bench, "/elsewhere", "0", 0).rc == VDC_RC_OK);
    struct recorder recorder;
    recorder_open(&recorder, &bench, "/w/", start);
    struct vdc_etcd_op ops[3] = {
        {.kind = VDC_ETCD_PUT, .key = "/w/seq", .value = "1", .value_len = 1},
        {.kind = VDC_ETCD_PUT, .key = "/w/x"},
        {.kind = VDC_ETCD_PUT, .key = "/w/y"},
    };
    CHECK(run_txn(&bench, &(struct vdc_etcd_txn){.then = ops, .then_count = 3}).rc == VDC_RC_OK);
    struct vdc_etcd_op del = {.kind = VDC_ETCD_DELETE, .key = "/w/x"};
    struct outcome last = run_txn(&bench, &(struct vdc_etcd_txn){.then = &del, .then_count = 1});
    WAIT(&bench, recorder.deletes == 1);
    CHECK(recorder.events == 5 && strcmp(recorder.seq_value, "1") == 0);
    CHECK(vdc_etcd_watch_revision(recorder.watch) == last.revision + 1);

    /* Changes elsewhere move the resume point by progress notifications. */
    int64_t beyond = run_put(&bench, "/elsewhere", "1", 0).revision;
    WAIT(&bench, vdc_etcd_watch_revision(recorder.watch) == beyond + 1);
    CHECK(recorder.events == 5);
    vdc_etcd_watch_close(recorder.watch);

    /* A watch may be closed from inside its own callback. */
    recorder_open(&recorder, &bench, "/w/", start);
    recorder.close_at_first = true;
    WAIT(&bench, recorder.events > 0);
    CHECK(recorder.watch == NULL);
    bench_close(&bench);
}

static void watch_brings_large_histories_in_pieces(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, NULL);
    size_t len = 300 * 1024;
    vdc_autofree char *value = vdc_calloc(1, len + 1);
    memset(value, 'v', len);
    int64_t start = 0;
    for (int i = 0; i < 30; i++) {
        struct vdc_etcd_op ops[3] = {
            {.kind = VDC_ETCD_PUT, .key = "/big/a", .value = value, .value_len = len},
            {.kind = VDC_ETCD_PUT, .key = "/big/b", .value = value, .value_len = len},
            {.kind = VDC_ETCD_PUT, .key = "/big/seq", .value = value, .value_len = len},
        };
        struct outcome put = run_txn(&bench, &(struct vdc_etcd_txn){.then = ops, .then_count = 3});
        CHECK(put.rc == VDC_RC_OK);
        start = start == 0 ? put.revision : start;
    }
    struct recorder recorder;
    recorder_open(&recorder, &bench, "/big/", start);
    WAIT(&bench, recorder.events == 90);
    CHECK(recorder.bytes == 90 * len && recorder.seq_version == 30);
    vdc_etcd_watch_close(recorder.watch);
    bench_close(&bench);
}

static void watch_of_compacted_history_says_so(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, NULL);
    int64_t start = run_put(&bench, "/comp/seq", "0", 0).revision;
    CHECK(run_put(&bench, "/comp/seq", "1", 0).rc == VDC_RC_OK);
    int64_t last = run_put(&bench, "/comp/seq", "2", 0).revision;
    vdc_autofree char *words = vdc_asprintf("compact %lld", (long long)last);
    vdc_autofree char *out = test_etcd_ctl(cluster, 0, words);
    CHECK(out != NULL);
    struct recorder recorder;
    recorder_open(&recorder, &bench, "/comp/", start);
    WAIT(&bench, recorder.compacted != 0);
    CHECK(recorder.compacted == last && recorder.events == 0);
    recorder_open(&recorder, &bench, "/comp/", last + 1);
    CHECK(run_put(&bench, "/comp/x", "3", 0).rc == VDC_RC_OK);
    WAIT(&bench, recorder.events == 1);
    vdc_etcd_watch_close(recorder.watch);
    bench_close(&bench);
}

/* Writes "seq" again and again while faults happen, and checks what the watch saw. */
static void write_through(struct bench *bench, struct recorder *recorder, const char *prefix,
                          int64_t guard, int from, int to)
{
    vdc_autofree char *leader = vdc_asprintf("%sleader", prefix);
    vdc_autofree char *key = vdc_asprintf("%sseq", prefix);
    char value[16];
    for (int i = from; i < to; i++) {
        snprintf(value, sizeof(value), "%d", i);
        CHECK(run_write(bench, leader, guard, key, value).rc == VDC_RC_OK);
    }
    struct outcome now = run_get(bench, key);
    CHECK(now.rc == VDC_RC_OK && strcmp(now.value, value) == 0);
    /* A lost write that was done and then done again counts twice: in the version, and in the watch. */
    WAIT(bench, recorder->seq_version == now.version);
    CHECK(strcmp(recorder->seq_value, value) == 0);
}

static void single_member_killed_and_restarted(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, &quick);
    int64_t guard = make_guard(&bench, "/kill/leader");
    struct recorder recorder;
    recorder_open(&recorder, &bench, "/kill/", guard + 1);
    write_through(&bench, &recorder, "/kill/", guard, 0, 50);
    for (int round = 0; round < 3; round++) {
        /* One write is on its way while the member dies. */
        struct outcome outcome = {0};
        struct vdc_etcd_op op = {.kind = VDC_ETCD_PUT, .key = "/kill/seq"};
        struct vdc_etcd_guard held = {.key = "/kill/leader", .create_revision = guard};
        CHECK(vdc_etcd_write(bench.etcd, &held, &op, 1, outcome_of_write, &outcome, NULL) ==
              VDC_RC_OK);
        test_etcd_signal(cluster, 0, SIGKILL);
        bench_sleep(&bench, 300);
        test_etcd_restart(cluster, 0);
        WAIT(&bench, outcome.done);
        CHECK(outcome.rc == VDC_RC_OK);
        write_through(&bench, &recorder, "/kill/", guard, 100 * round, 100 * round + 50);
    }
    bench_close(&bench);
}

static void members_fail_over(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, &quick);
    int64_t guard = make_guard(&bench, "/over/leader");
    struct recorder recorder;
    recorder_open(&recorder, &bench, "/over/", guard + 1);
    write_through(&bench, &recorder, "/over/", guard, 0, 50);
    /* The member in use, then the cluster's leader, whichever they are. */
    for (int round = 0; round < 4; round++) {
        size_t victim = test_etcd_leader(cluster);
        if (round % 2 == 0) {
            victim = 0;
            while (strcmp(test_etcd_endpoints(cluster)[victim], vdc_etcd_endpoint(bench.etcd)) !=
                   0) {
                victim++;
            }
        }
        test_etcd_signal(cluster, victim, SIGKILL);
        write_through(&bench, &recorder, "/over/", guard, 100 * round, 100 * round + 50);
        test_etcd_restart(cluster, victim);
        write_through(&bench, &recorder, "/over/", guard, 100 * round + 50, 100 * round + 100);
        test_etcd_leader(cluster);
    }
    bench_close(&bench);
}

/* Nothing is asked; only the watch is there to notice. */
static void watch_leaves_a_frozen_member(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, &quick);
    struct outcome first = run_put(&bench, "/ice/seq", "0", 0);
    CHECK(first.rc == VDC_RC_OK);
    struct recorder recorder;
    recorder_open(&recorder, &bench, "/ice/", first.revision);
    WAIT(&bench, recorder.events == 1);
    size_t frozen = 0;
    while (strcmp(test_etcd_endpoints(cluster)[frozen], vdc_etcd_endpoint(bench.etcd)) != 0) {
        frozen++;
    }
    test_etcd_signal(cluster, frozen, SIGSTOP);
    size_t other = test_etcd_leader(cluster);
    vdc_autofree char *out = test_etcd_ctl(cluster, other, "put /ice/seq 1");
    CHECK(out != NULL);
    WAIT(&bench, recorder.events == 2);
    test_etcd_signal(cluster, frozen, SIGCONT);
    bench_close(&bench);
}

static void member_without_majority_is_left(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, &quick);
    struct outcome first = run_put(&bench, "/cut/seq", "0", 0);
    CHECK(first.rc == VDC_RC_OK);
    struct recorder recorder;
    recorder_open(&recorder, &bench, "/cut/", first.revision);
    WAIT(&bench, recorder.events == 1);
    test_etcd_signal(cluster, 1, SIGKILL);
    test_etcd_signal(cluster, 2, SIGKILL);
    struct outcome lost = run_put(&bench, "/cut/x", "1", 0);
    CHECK(lost.rc == VDC_RC_UNKNOWN_OUTCOME || lost.rc == VDC_RC_UNAVAILABLE ||
          lost.rc == VDC_RC_TIMEOUT);
    struct outcome read = run_get(&bench, "/cut/seq");
    CHECK(read.rc == VDC_RC_UNAVAILABLE || read.rc == VDC_RC_TIMEOUT);
    test_etcd_restart(cluster, 1);
    test_etcd_restart(cluster, 2);
    test_etcd_leader(cluster);
    struct outcome back;
    do {
        back = run_put(&bench, "/cut/seq", "1", 0);
    } while (back.rc != VDC_RC_OK);
    int64_t version = run_get(&bench, "/cut/seq").version;
    WAIT(&bench, recorder.seq_version == version);
    bench_close(&bench);
}

/* ---- Leases ---- */

struct holding {
    struct vdc_etcd_lease *lease;
    int64_t id;
    int64_t ttl_ms;
    vdc_mono sent;
    size_t renewed;
    size_t lost;
    enum vdc_rc lost_rc;
    bool revoked;
    enum vdc_rc revoke_rc;
};

static void on_renewed(void *data, int64_t lease_id, vdc_mono sent, int64_t ttl_ms)
{
    struct holding *holding = data;
    CHECK(holding->lost == 0);
    CHECK(holding->id == 0 || holding->id == lease_id);
    CHECK(sent.ns > holding->sent.ns && sent.ns <= vdc_clock_mono().ns);
    holding->id = lease_id;
    holding->sent = sent;
    holding->ttl_ms = ttl_ms;
    holding->renewed++;
}

static void on_lost(void *data, enum vdc_rc rc, const struct vdc_err *err)
{
    struct holding *holding = data;
    printf("    lost: %s\n", vdc_err_text(err));
    holding->lost++;
    holding->lost_rc = rc;
    vdc_etcd_lease_close(holding->lease, NULL, NULL);
    holding->lease = NULL;
}

static void on_revoked(void *data, enum vdc_rc rc)
{
    struct holding *holding = data;
    holding->revoked = true;
    holding->revoke_rc = rc;
}

static const struct vdc_etcd_lease_calls lease_calls = {on_renewed, on_lost};

static void lease_is_kept_and_revoked(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, NULL);
    struct holding holding = {0};
    CHECK(vdc_etcd_lease_open(bench.etcd, 2, &lease_calls, &holding, &holding.lease) == VDC_RC_OK);
    CHECK(vdc_etcd_lease_id(holding.lease) == 0);
    WAIT(&bench, holding.renewed == 1);
    CHECK(vdc_etcd_lease_id(holding.lease) == holding.id && holding.ttl_ms >= 2000);
    CHECK(run_put(&bench, "/lease/a", "mine", holding.id).rc == VDC_RC_OK);
    WAIT(&bench, holding.renewed == 6); /* longer than one TTL */
    CHECK(run_get(&bench, "/lease/a").lease == holding.id);
    vdc_etcd_lease_close(holding.lease, on_revoked, &holding);
    WAIT(&bench, holding.revoked);
    CHECK(holding.revoke_rc == VDC_RC_OK && holding.lost == 0);
    CHECK(run_get(&bench, "/lease/a").kv_count == 0);

    struct holding never = {0};
    CHECK(vdc_etcd_lease_open(bench.etcd, 60, &lease_calls, &never, &never.lease) == VDC_RC_OK);
    vdc_etcd_lease_close(never.lease, on_revoked, &never);
    CHECK(!never.revoked);
    WAIT(&bench, never.revoked);
    CHECK(never.revoke_rc == VDC_RC_OK && never.renewed == 0);
    CHECK(vdc_etcd_lease_open(bench.etcd, 0, &lease_calls, &never, &never.lease) == VDC_RC_INVALID);
    bench_close(&bench);
}

static void lease_revoked_by_others_is_lost(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, NULL);
    struct holding holding = {0};
    CHECK(vdc_etcd_lease_open(bench.etcd, 2, &lease_calls, &holding, &holding.lease) == VDC_RC_OK);
    WAIT(&bench, holding.renewed == 1);
    vdc_autofree char *words = vdc_asprintf("lease revoke %llx", (unsigned long long)holding.id);
    vdc_autofree char *out = test_etcd_ctl(cluster, 0, words);
    CHECK(out != NULL);
    WAIT(&bench, holding.lost == 1);
    CHECK(holding.lost_rc == VDC_RC_NOT_FOUND);
    bench_close(&bench);
}

static void lease_without_answers_lapses(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, &quick);
    struct holding holding = {0};
    CHECK(vdc_etcd_lease_open(bench.etcd, 3, &lease_calls, &holding, &holding.lease) == VDC_RC_OK);
    WAIT(&bench, holding.renewed == 2);
    CHECK(run_put(&bench, "/lapse/a", "mine", holding.id).rc == VDC_RC_OK);
    test_etcd_signal(cluster, 0, SIGSTOP);
    WAIT(&bench, holding.lost == 1);
    CHECK(holding.lost_rc == VDC_RC_TIMEOUT);
    CHECK(vdc_mono_sub(vdc_clock_mono(), holding.sent) >= holding.ttl_ms * VDC_MS);
    test_etcd_signal(cluster, 0, SIGCONT);
    struct outcome now;
    do {
        now = run_get(&bench, "/lapse/a");
    } while (now.rc != VDC_RC_OK || now.kv_count != 0); /* revoked behind it, or run out */
    bench_close(&bench);
}

static void lease_survives_a_failover(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, &quick);
    struct holding holding = {0};
    CHECK(vdc_etcd_lease_open(bench.etcd, 8, &lease_calls, &holding, &holding.lease) == VDC_RC_OK);
    WAIT(&bench, holding.renewed == 1);
    CHECK(run_put(&bench, "/keep/a", "mine", holding.id).rc == VDC_RC_OK);
    size_t victim = 0;
    while (strcmp(test_etcd_endpoints(cluster)[victim], vdc_etcd_endpoint(bench.etcd)) != 0) {
        victim++;
    }
    test_etcd_signal(cluster, victim, SIGSTOP);
    size_t renewed = holding.renewed;
    WAIT(&bench, holding.renewed >= renewed + 2);
    CHECK(holding.lost == 0 && run_get(&bench, "/keep/a").lease == holding.id);
    test_etcd_signal(cluster, victim, SIGCONT);
    vdc_etcd_lease_close(holding.lease, on_revoked, &holding);
    WAIT(&bench, holding.revoked);
    bench_close(&bench);
}

static void watches_leases_and_guards_have_bounds(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, NULL);
    static struct recorder recorders[VDC_ETCD_WATCHES_MAX];
    for (size_t i = 0; i < VDC_ETCD_WATCHES_MAX; i++) {
        recorder_open(&recorders[i], &bench, "/bound/", 1);
    }
    static const struct vdc_etcd_watch_calls no_watch_calls;
    struct vdc_etcd_watch *watch;
    CHECK(vdc_etcd_watch_open(bench.etcd, "/bound/", 1, &no_watch_calls, NULL, &watch) ==
          VDC_RC_LIMIT);
    CHECK(vdc_etcd_watch_open(bench.etcd, "/bound/", 0, &no_watch_calls, NULL, &watch) ==
          VDC_RC_INVALID);

    static struct holding holdings[VDC_ETCD_LEASES_MAX];
    for (size_t i = 0; i < VDC_ETCD_LEASES_MAX; i++) {
        CHECK(vdc_etcd_lease_open(bench.etcd, 60, &lease_calls, &holdings[i], &holdings[i].lease) ==
              VDC_RC_OK);
    }
    struct vdc_etcd_lease *lease;
    CHECK(vdc_etcd_lease_open(bench.etcd, 60, &lease_calls, NULL, &lease) == VDC_RC_LIMIT);
    for (size_t i = 0; i < VDC_ETCD_LEASES_MAX; i++) {
        WAIT(&bench, holdings[i].renewed == 1);
        vdc_etcd_lease_close(holdings[i].lease, on_revoked, &holdings[i]);
    }

    enum { GUARDS = 4096, BATCH = 1024 };
    static struct outcome outcomes[BATCH];
    struct vdc_etcd_op put = {.kind = VDC_ETCD_PUT, .key = "/bound/a"};
    for (size_t i = 0; i < GUARDS; i++) {
        vdc_autofree char *key = vdc_asprintf("/bound/%zu", i);
        struct vdc_etcd_guard guard = {.key = key, .create_revision = 1};
        outcomes[i % BATCH] = (struct outcome){0};
        CHECK(vdc_etcd_write(bench.etcd, &guard, &put, 1, outcome_of_write, &outcomes[i % BATCH],
                             NULL) == VDC_RC_OK);
        for (size_t j = 0; i % BATCH == BATCH - 1 && j < BATCH; j++) {
            WAIT(&bench, outcomes[j].done);
            CHECK(outcomes[j].rc == VDC_RC_STALE);
        }
    }
    struct vdc_etcd_guard one_more = {.key = "/bound/more", .create_revision = 1};
    CHECK(vdc_etcd_write(bench.etcd, &one_more, &put, 1, outcome_of_write, NULL, NULL) ==
          VDC_RC_LIMIT);
    one_more.key = "/bound/0"; /* known already */
    outcomes[0] = (struct outcome){0};
    CHECK(vdc_etcd_write(bench.etcd, &one_more, &put, 1, outcome_of_write, &outcomes[0], NULL) ==
          VDC_RC_OK);
    bench_close(&bench);
}

/* ---- The end ---- */

static void close_ends_everything(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, &quick);
    int64_t mine = make_guard(&bench, "/end/leader");
    struct recorder recorder;
    recorder_open(&recorder, &bench, "", mine);
    struct holding holding = {0};
    CHECK(vdc_etcd_lease_open(bench.etcd, 2, &lease_calls, &holding, &holding.lease) == VDC_RC_OK);
    WAIT(&bench, holding.renewed == 1 && recorder.events > 0);
    test_etcd_signal(cluster, 0, SIGSTOP);
    static struct outcome reads[400];
    static struct outcome writes[20];
    struct vdc_etcd_op get = {.kind = VDC_ETCD_GET, .key = "/end/a"};
    struct vdc_etcd_txn read = {.then = &get, .then_count = 1};
    struct vdc_etcd_op put = {.kind = VDC_ETCD_PUT, .key = "/end/a"};
    struct vdc_etcd_guard guard = {.key = "/end/leader", .create_revision = mine};
    for (size_t i = 0; i < VDC_COUNT_OF(reads); i++) {
        CHECK(vdc_etcd_txn(bench.etcd, &read, outcome_of_txn, &reads[i], NULL) == VDC_RC_OK);
    }
    for (size_t i = 0; i < VDC_COUNT_OF(writes); i++) {
        CHECK(vdc_etcd_write(bench.etcd, &guard, &put, 1, outcome_of_write, &writes[i], NULL) ==
              VDC_RC_OK);
    }
    bench_sleep(&bench, 100);
    bench_close(&bench);
    for (size_t i = 0; i < VDC_COUNT_OF(reads); i++) {
        if (reads[i].rc != VDC_RC_CANCELLED) {
            printf("    read %zu: %s\n", i, vdc_rc_name(reads[i].rc));
        }
        CHECK(reads[i].done && reads[i].rc == VDC_RC_CANCELLED);
    }
    for (size_t i = 0; i < VDC_COUNT_OF(writes); i++) {
        CHECK(writes[i].done && writes[i].rc == VDC_RC_CANCELLED);
    }
    CHECK(holding.lost == 0);
    test_etcd_signal(cluster, 0, SIGCONT);
}

struct closer {
    struct bench *bench;
    bool closed;
};

static void note_closed(void *data)
{
    ((struct closer *)data)->closed = true;
}

static void close_inside(void *data, enum vdc_rc rc, const struct vdc_etcd_result *result,
                         const struct vdc_err *err)
{
    (void)rc;
    (void)result;
    (void)err;
    struct closer *closer = data;
    vdc_etcd_close(closer->bench->etcd, note_closed, closer);
    closer->bench->etcd = NULL;
}

static void client_closes_inside_a_callback_or_unused(struct test_etcd *cluster)
{
    struct bench bench;
    bench_open(&bench, cluster, NULL);
    struct closer closer = {.bench = &bench};
    struct vdc_etcd_op get = {.kind = VDC_ETCD_GET, .key = "/a"};
    struct vdc_etcd_txn read = {.then = &get, .then_count = 1};
    CHECK(vdc_etcd_txn(bench.etcd, &read, close_inside, &closer, NULL) == VDC_RC_OK);
    WAIT(&bench, closer.closed);
    bench_close(&bench);
    bench_open(&bench, cluster, NULL);
    bench_close(&bench);
}

/* ---- TLS ---- */

static void mutual_tls_is_asked_for(void)
{
    char dir[] = "/tmp/vdc-etcd-pki.XXXXXX";
    CHECK(mkdtemp(dir) != NULL);
    vdc_autofree char *make = vdc_asprintf("'%s' %s/a --etcd 127.0.0.1 --manager m1 >/dev/null && "
                                           "'%s' %s/b --etcd 127.0.0.1 --manager m1 >/dev/null",
                                           pki_program, dir, pki_program, dir);
    CHECK(system(make) == 0);
    vdc_autofree char *ca = vdc_asprintf("%s/a/etcd-ca.pem", dir);
    vdc_autofree char *cert = vdc_asprintf("%s/a/etcd.pem", dir);
    vdc_autofree char *key = vdc_asprintf("%s/a/etcd.key", dir);
    vdc_autofree char *own_cert = vdc_asprintf("%s/a/m1-etcd.pem", dir);
    vdc_autofree char *own_key = vdc_asprintf("%s/a/m1-etcd.key", dir);
    vdc_autofree char *rogue_ca = vdc_asprintf("%s/b/etcd-ca.pem", dir);
    vdc_autofree char *rogue_cert = vdc_asprintf("%s/b/m1-etcd.pem", dir);
    vdc_autofree char *rogue_key = vdc_asprintf("%s/b/m1-etcd.key", dir);
    struct test_etcd_tls tls = {ca, cert, key, own_cert, own_key};
    struct test_etcd *cluster = test_etcd_start(1, &tls);

    struct vdc_etcd_config config = {
        .ca_path = ca, .cert_path = own_cert, .key_path = own_key, .request_timeout_ms = 3000};
    struct bench bench;
    bench_open(&bench, cluster, &config);
    CHECK(run_put(&bench, "/tls", "1", 0).rc == VDC_RC_OK);
    bench_close(&bench);

    config.authority = "etcd.vdc"; /* a name that every member's certificate carries */
    bench_open(&bench, cluster, &config);
    CHECK(run_put(&bench, "/tls", "2", 0).rc == VDC_RC_OK);
    bench_close(&bench);

    struct vdc_etcd_config wrong[4] = {config, config, config, config};
    wrong[0].cert_path = wrong[0].key_path = NULL;
    wrong[1].cert_path = rogue_cert;
    wrong[1].key_path = rogue_key;
    wrong[2].ca_path = rogue_ca;
    wrong[3].authority = "other.example";
    for (size_t i = 0; i < VDC_COUNT_OF(wrong); i++) {
        bench_open(&bench, cluster, &wrong[i]);
        struct outcome outcome = run_get(&bench, "/tls");
        printf("    text: %s\n", outcome.text);
        CHECK(outcome.rc == VDC_RC_UNAVAILABLE || outcome.rc == VDC_RC_TIMEOUT);
        bench_close(&bench);
    }
    bench_open(&bench, cluster, &config);
    CHECK(strcmp(run_get(&bench, "/tls").value, "2") == 0);
    bench_close(&bench);
    test_etcd_stop(cluster);
    vdc_autofree char *clean = vdc_asprintf("rm -rf %s", dir);
    CHECK(system(clean) == 0);

    struct vdc_etcd *etcd;
    struct vdc_err err = {0};
    CHECK(vdc_etcd_open(uv_default_loop(), &config, &etcd, &err) == VDC_RC_INVALID);
    const char *endpoint = "127.0.0.1:1";
    config.endpoints = &endpoint;
    config.endpoint_count = 1;
    CHECK(vdc_etcd_open(uv_default_loop(), &config, &etcd, &err) == VDC_RC_NOT_FOUND);
    printf("    text: %s\n", vdc_err_text(&err));
}

/* ---- */

struct check {
    const char *name;
    size_t members; /* 0: starts its own */
    void (*fn)(struct test_etcd *cluster);
};

/* clang-format off */
#define ONE(name) {#name, 1, name}
#define THREE(name) {#name, 3, name}
/* clang-format on */
static const struct check checks[] = {
    ONE(compare_and_swap_works),
    ONE(ranges_have_limits_and_totals),
    ONE(what_is_too_much_is_refused),
    ONE(requests_have_a_bound),
    ONE(list_is_whole_and_of_one_revision),
    ONE(guarded_write_needs_its_guard),
    ONE(cancelled_write_ends),
    ONE(lost_answer_is_unknown_outcome),
    ONE(watch_brings_each_change_once),
    ONE(watch_brings_large_histories_in_pieces),
    ONE(watch_of_compacted_history_says_so),
    ONE(single_member_killed_and_restarted),
    ONE(lease_is_kept_and_revoked),
    ONE(lease_revoked_by_others_is_lost),
    ONE(lease_without_answers_lapses),
    ONE(watches_leases_and_guards_have_bounds),
    ONE(close_ends_everything),
    ONE(client_closes_inside_a_callback_or_unused),
    THREE(frozen_member_cannot_bring_old_writes_back),
    THREE(members_fail_over),
    THREE(watch_leaves_a_frozen_member),
    THREE(member_without_majority_is_left),
    THREE(lease_survives_a_failover),
};

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return true;
        }
    }
    return argc <= 2;
}

static void run_with(size_t members, int argc, char **argv)
{
    struct test_etcd *cluster = NULL;
    for (size_t i = 0; i < VDC_COUNT_OF(checks); i++) {
        if (checks[i].members != members || !wanted(checks[i].name, argc, argv)) {
            continue;
        }
        if (cluster == NULL) {
            cluster = test_etcd_start(members, NULL);
        }
        vdc_mono start = vdc_clock_mono();
        printf("  %s\n", checks[i].name);
        fflush(stdout);
        checks[i].fn(cluster);
        printf("ok %s (%.1f s)\n", checks[i].name,
               (double)vdc_mono_sub(vdc_clock_mono(), start) / (double)VDC_SECOND);
        fflush(stdout);
    }
    if (cluster != NULL) {
        test_etcd_stop(cluster);
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: test_etcd PKI-PROGRAM [CHECK ...]\n");
        return 2;
    }
    pki_program = argv[1];
    setvbuf(stdout, NULL, _IOLBF, 0);
    run_with(1, argc, argv);
    run_with(3, argc, argv);
    if (wanted("mutual_tls_is_asked_for", argc, argv)) {
        printf("  mutual_tls_is_asked_for\n");
        mutual_tls_is_asked_for();
        printf("ok mutual_tls_is_asked_for\n");
    }
    return 0;
}
