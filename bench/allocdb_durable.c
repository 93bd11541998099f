/* SPDX-License-Identifier: Apache-2.0 */
/*
 * D2. In each round, one after the other on the same disk: bare fdatasync, our database with its
 * journal, and each peer. Ours has a fixed number of requests outstanding; each acknowledgement
 * brings the next request, as from so many clients. Peers get transactions that were made before, 64
 * in one of theirs; the making isn't counted. Ours are made by a thread that plays the clients, for the
 * same reason: a request's latency runs from when the database is asked to when it acknowledges.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uv.h>

#include <vdc/base.h>
#include <vdc/journal.h>

#include "allocdb_bench.h"
#include "bench.h"

#define ROUNDS 8
#define SECONDS 1.0
#define PEERS_MAX 2
#define PEER_BATCH 64
/* The floor writes one block each time, in turn over a file that was filled before, so that no
 * metadata is written. */
#define FLOOR_BLOCK 4096
#define FLOOR_BLOCKS 4096

/* Requests that the clients' thread makes at a time, and how many such blocks it may be ahead. */
#define BLOCK_REQUESTS 256
#define BLOCKS 4

struct request {
    struct workload_tx wtx;
    bool full; /* the machine is 90 % full from here on */
};

struct clients {
    uv_thread_t thread;
    uv_sem_t empty; /* blocks to be made */
    uv_sem_t ready; /* blocks to be asked */
    atomic_bool stop;
    struct workload workload;
    struct request requests[BLOCKS * BLOCK_REQUESTS];
    size_t next; /* to be asked */
};

struct ours {
    struct vdc_allocdb *db;
    struct vdc_journal *journal;
    uv_loop_t loop;
    struct clients clients;
    bool full;
    struct vdc_tx_result result;
    struct vdc_buf record;
    unsigned outstanding;
    uint64_t deadline_ns;
    uint64_t acknowledged; /* in this round, before its deadline */
    uint64_t record_bytes; /* of all records ever */
    struct bench_samples latency_ns;
    uint64_t asked_ns[OUTSTANDING_MAX]; /* by sequence modulo: when its request came */
};

struct round {
    double floor_per_s;
    double floor_p99_ns;
    double ours_per_s;
    double ours_p99_ns;
    double peer_per_s[PEERS_MAX];
    double append_per_s[PEERS_MAX];
};

/* --- floor --- */

static int open_floor(const char *dir)
{
    vdc_autofree char *path = vdc_asprintf("%s/floor", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    char block[FLOOR_BLOCK] = {0};
    for (unsigned i = 0; fd >= 0 && i < FLOOR_BLOCKS; i++) {
        if (write(fd, block, sizeof(block)) != (ssize_t)sizeof(block)) {
            bench_die("write %s: %m", path);
        }
    }
    if (fd < 0 || fsync(fd) != 0) {
        bench_die("%s: %m", path);
    }
    return fd;
}

static void measure_floor(int fd, uint64_t span_ns, struct round *round)
{
    struct bench_samples latency_ns = {0};
    char block[FLOOR_BLOCK];
    memset(block, 'x', sizeof(block));
    uint64_t start = bench_now_ns();
    uint64_t now = start;
    for (unsigned i = 0; now - start < span_ns; i++) {
        off_t at = (off_t)(i % FLOOR_BLOCKS) * FLOOR_BLOCK;
        if (pwrite(fd, block, sizeof(block), at) != (ssize_t)sizeof(block)) {
            bench_die("write: %m");
        }
        uint64_t before = bench_now_ns();
        if (fdatasync(fd) != 0) {
            bench_die("fdatasync: %m");
        }
        now = bench_now_ns();
        bench_samples_add(&latency_ns, (double)(now - before));
    }
    round->floor_per_s = (double)latency_ns.len * 1e9 / (double)(now - start);
    round->floor_p99_ns = bench_samples_at(&latency_ns, 0.99);
    bench_samples_deinit(&latency_ns);
}

/* --- ours --- */

static void make_requests(void *arg)
{
    struct clients *clients = arg;
    for (size_t at = 0;; at = (at + 1) % VDC_COUNT_OF(clients->requests)) {
        if (at % BLOCK_REQUESTS == 0) {
            uv_sem_wait(&clients->empty);
            if (atomic_load(&clients->stop)) {
                return;
            }
        }
        struct request *request = &clients->requests[at];
        request->full = workload_full(&clients->workload);
        workload_next(&clients->workload, &request->wtx);
        if ((at + 1) % BLOCK_REQUESTS == 0) {
            uv_sem_post(&clients->ready);
        }
    }
}

static void clients_start(struct clients *clients, uint64_t seed)
{
    workload_init(&clients->workload, seed);
    VDC_ASSERT(uv_sem_init(&clients->empty, BLOCKS) == 0 && uv_sem_init(&clients->ready, 0) == 0);
    VDC_ASSERT(uv_thread_create(&clients->thread, make_requests, clients) == 0);
}

static void clients_stop(struct clients *clients)
{
    atomic_store(&clients->stop, true);
    uv_sem_post(&clients->empty);
    VDC_ASSERT(uv_thread_join(&clients->thread) == 0);
    uv_sem_destroy(&clients->empty);
    uv_sem_destroy(&clients->ready);
    workload_deinit(&clients->workload);
}

/* The next request; clients_took when it is no longer needed. */
static struct request *clients_take(struct clients *clients)
{
    if (clients->next % BLOCK_REQUESTS == 0) {
        uv_sem_wait(&clients->ready);
    }
    return &clients->requests[clients->next];
}

static void clients_took(struct clients *clients)
{
    clients->next = (clients->next + 1) % VDC_COUNT_OF(clients->requests);
    if (clients->next % BLOCK_REQUESTS == 0) {
        uv_sem_post(&clients->empty);
    }
}

static void acknowledge(void *ctx, uint64_t sequence);

static void ask(struct ours *ours)
{
    struct vdc_err err = {0};
    const struct request *request = clients_take(&ours->clients);
    ours->full = request->full;
    uint64_t asked_ns = bench_now_ns();
    if (vdc_journal_check_space(ours->journal, &err) != VDC_RC_OK) {
        bench_die("%s", err.text);
    }
    bench_commit(ours->db, &request->wtx, &ours->result, &ours->record);
    clients_took(&ours->clients);
    ours->asked_ns[ours->result.sequence % OUTSTANDING_MAX] = asked_ns;
    ours->record_bytes += ours->record.len;
    vdc_journal_append(ours->journal, ours->result.sequence, ours->record.data, ours->record.len,
                       acknowledge, ours);
    ours->outstanding++;
}

static void acknowledge(void *ctx, uint64_t sequence)
{
    struct ours *ours = ctx;
    uint64_t now = bench_now_ns();
    ours->outstanding--;
    if (now < ours->deadline_ns) {
        ours->acknowledged++;
        bench_samples_add(&ours->latency_ns,
                          (double)(now - ours->asked_ns[sequence % OUTSTANDING_MAX]));
        ask(ours);
    }
}

static void run_until_idle(struct ours *ours)
{
    while (ours->outstanding > 0) {
        (void)uv_run(&ours->loop, UV_RUN_ONCE);
    }
}

static void measure_ours(struct ours *ours, unsigned outstanding, uint64_t span_ns,
                         struct round *round)
{
    ours->acknowledged = 0;
    ours->latency_ns.len = 0;
    ours->deadline_ns = bench_now_ns() + span_ns;
    for (unsigned i = 0; i < outstanding; i++) {
        ask(ours);
    }
    run_until_idle(ours);
    round->ours_per_s = (double)ours->acknowledged * 1e9 / (double)span_ns;
    round->ours_p99_ns = bench_samples_at(&ours->latency_ns, 0.99);
}

static enum vdc_rc nothing_there(void *ctx, uint64_t sequence, const void *data, size_t len,
                                 struct vdc_err *err)
{
    (void)ctx;
    (void)data;
    (void)len;
    return vdc_err_set(err, VDC_RC_INTERNAL, "a new journal holds %llu",
                       (unsigned long long)sequence);
}

static struct ours *open_ours(const char *dir, uint64_t seed)
{
    struct ours *ours = VDC_NEW(struct ours);
    struct vdc_journal_options options = {
        .dir = dir, .on_snapshot = nothing_there, .on_record = nothing_there};
    struct vdc_journal_report report;
    struct vdc_err err = {0};
    ours->db = vdc_allocdb_create();
    clients_start(&ours->clients, seed);
    VDC_ASSERT(uv_loop_init(&ours->loop) == 0);
    if (vdc_journal_open(&ours->journal, &ours->loop, &options, &report, &err) != VDC_RC_OK) {
        bench_die("%s", err.text);
    }
    while (!ours->full) {
        ask(ours);
        run_until_idle(ours);
        /* A few hundred in one group: filling is not measured, but shall not take minutes. */
        for (unsigned i = 0; i < 255 && !ours->full; i++) {
            ask(ours);
        }
        run_until_idle(ours);
    }
    return ours;
}

static void close_ours(struct ours *ours)
{
    vdc_journal_close(ours->journal, NULL, NULL);
    (void)uv_run(&ours->loop, UV_RUN_DEFAULT);
    VDC_ASSERT(uv_loop_close(&ours->loop) == 0);
    struct vdc_err err = {0};
    if (vdc_allocdb_check(ours->db, &err) != VDC_RC_OK) {
        bench_die("the database is wrong afterwards: %s", err.text);
    }
    vdc_allocdb_destroy(ours->db);
    vdc_buf_deinit(&ours->record);
    bench_samples_deinit(&ours->latency_ns);
    clients_stop(&ours->clients);
    free(ours);
}

/* --- peers --- */

/* Each peer has a database of ours beside it, which makes its transactions. */
struct peer_run {
    const struct bench_peer *peer;
    void *store;
    struct vdc_allocdb *db;
    struct workload workload;
    struct workload_tx wtx;
    struct bench_item items[PEER_BATCH];
};

/* The next PEER_BATCH transactions, committed and decoded. Returns the first one's number. */
static uint64_t make_items(struct peer_run *run)
{
    for (unsigned i = 0; i < PEER_BATCH; i++) {
        struct bench_item *item = &run->items[i];
        struct vdc_tx_result result;
        struct vdc_record_head head;
        struct vdc_err err = {0};
        workload_next(&run->workload, &run->wtx);
        bench_commit(run->db, &run->wtx, &result, &item->record);
        vdc_tx_deinit(&item->tx);
        if (vdc_record_decode(item->record.data, item->record.len, &head, &item->tx, &result,
                              &err) != VDC_RC_OK) {
            bench_die("decode: %s", err.text);
        }
    }
    return vdc_allocdb_sequence(run->db) - PEER_BATCH + 1;
}

static struct peer_run *open_peer(const struct bench_peer *peer, const char *dir, uint64_t seed)
{
    struct peer_run *run = VDC_NEW(struct peer_run);
    vdc_autofree char *own = vdc_asprintf("%s/%s", dir, peer->name);
    if (mkdir(own, 0700) != 0) {
        bench_die("make %s: %m", own);
    }
    run->peer = peer;
    run->store = peer->open(own);
    run->db = vdc_allocdb_create();
    workload_init(&run->workload, seed);
    while (!workload_full(&run->workload)) {
        uint64_t first = make_items(run);
        peer->apply(run->store, first, run->items, PEER_BATCH);
    }
    return run;
}

static void close_peer(struct peer_run *run)
{
    run->peer->close(run->store);
    for (unsigned i = 0; i < PEER_BATCH; i++) {
        vdc_tx_deinit(&run->items[i].tx);
        vdc_buf_deinit(&run->items[i].record);
    }
    workload_deinit(&run->workload);
    vdc_allocdb_destroy(run->db);
    free(run);
}

/* Transactions/s: the state follows in any case, so that destroys find what they destroy. */
static double measure_peer(struct peer_run *run, bool append, uint64_t span_ns)
{
    uint64_t spent = 0;
    uint64_t stored = 0;
    while (spent < span_ns) {
        uint64_t first = make_items(run);
        if (append) {
            uint64_t start = bench_now_ns();
            run->peer->append(run->store, first, run->items, PEER_BATCH);
            spent += bench_now_ns() - start;
            run->peer->apply(run->store, first, run->items, PEER_BATCH);
        } else {
            uint64_t start = bench_now_ns();
            run->peer->apply(run->store, first, run->items, PEER_BATCH);
            spent += bench_now_ns() - start;
        }
        stored += PEER_BATCH;
    }
    return (double)stored * 1e9 / (double)spent;
}

/* --- report --- */

/* The median of an expression of `round` over the rounds. */
#define MEDIAN(rounds, len, expression)                  \
    __extension__({                                      \
        struct bench_samples median_ = {0};              \
        for (unsigned m_ = 0; m_ < (len); m_++) {        \
            const struct round *round = &(rounds)[m_];   \
            bench_samples_add(&median_, (expression));   \
        }                                                \
        double value_ = bench_samples_at(&median_, 0.5); \
        bench_samples_deinit(&median_);                  \
        value_;                                          \
    })

static void report_peer(json_t *report, const char *name, const struct round *rounds, unsigned len,
                        int peer)
{
    vdc_autofree char *rate_key = vdc_asprintf("%s_per_s", name);
    vdc_autofree char *ratio_key = vdc_asprintf("ratio_%s", name);
    vdc_autofree char *append_key = vdc_asprintf("ratio_%s_append", name);
    if (peer < 0) {
        (void)printf("D2: %s was not there when this was built: not compared\n", name);
        json_object_set_new(report, ratio_key, json_null());
        return;
    }
    double rate = MEDIAN(rounds, len, round->peer_per_s[peer]);
    double append_rate = MEDIAN(rounds, len, round->append_per_s[peer]);
    double ratio = MEDIAN(rounds, len, round->ours_per_s / round->peer_per_s[peer]);
    double append = MEDIAN(rounds, len, round->ours_per_s / round->append_per_s[peer]);
    (void)printf("D2: %s, %d in a transaction: %.0f/s, ours %.2f times that; records only "
                 "appended: %.0f/s, ours %.2f times that\n",
                 name, PEER_BATCH, rate, ratio, append_rate, append);
    json_object_set_new(report, rate_key, json_real(rate));
    json_object_set_new(report, ratio_key, json_real(ratio));
    json_object_set_new(report, append_key, json_real(append));
}

static int find_peer(struct peer_run *const *runs, unsigned len, const char *name)
{
    for (unsigned i = 0; i < len; i++) {
        if (strcmp(runs[i]->peer->name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static void report_rounds(json_t *report, const struct round *rounds, unsigned len,
                          unsigned outstanding)
{
    double ours = MEDIAN(rounds, len, round->ours_per_s);
    double floor = MEDIAN(rounds, len, round->floor_per_s);
    double ratio = MEDIAN(rounds, len, round->ours_per_s / round->floor_per_s);
    double p99 = MEDIAN(rounds, len, round->ours_p99_ns);
    double floor_p99 = MEDIAN(rounds, len, round->floor_p99_ns);
    double p99_ratio = MEDIAN(rounds, len, round->ours_p99_ns / round->floor_p99_ns);
    (void)printf(
        "D2: %.0f durable transactions/s with %u outstanding, p99 %.2f ms\n"
        "D2: bare fdatasync: %.0f/s, p99 %.2f ms; ours %.2f times the rate, %.2f times the "
        "p99\n",
        ours, outstanding, p99 / 1e6, floor, floor_p99 / 1e6, ratio, p99_ratio);
    json_object_set_new(report, "durable_tx_per_s", json_real(ours));
    json_object_set_new(report, "fdatasync_per_s", json_real(floor));
    json_object_set_new(report, "ratio_fdatasync", json_real(ratio));
    json_object_set_new(report, "p99_ms", json_real(p99 / 1e6));
    json_object_set_new(report, "fdatasync_p99_ms", json_real(floor_p99 / 1e6));
    json_object_set_new(report, "p99_ratio", json_real(p99_ratio));
}

void bench_durable(const struct bench_options *options)
{
    json_t *report = bench_report_begin("D2");
    unsigned len = options->rounds > 0 ? options->rounds : ROUNDS;
    uint64_t span_ns = (uint64_t)((options->seconds > 0 ? options->seconds : SECONDS) * 1e9);
    char *dir = bench_make_dir(options->dir);
    vdc_autofree char *journal_dir = vdc_asprintf("%s/journal", dir);
    vdc_autofree struct round *rounds = vdc_calloc(len, sizeof(rounds[0]));
    struct peer_run *peers[PEERS_MAX];
    unsigned peers_len = 0;
    for (const struct bench_peer *peer = bench_peers; peer->name != NULL; peer++) {
        VDC_ASSERT(peers_len < PEERS_MAX);
        peers[peers_len++] = open_peer(peer, dir, options->seed);
    }
    struct ours *ours = open_ours(journal_dir, options->seed);
    int floor_fd = open_floor(dir);
    for (unsigned i = 0; i < len; i++) {
        measure_floor(floor_fd, span_ns, &rounds[i]);
        measure_ours(ours, options->outstanding, span_ns, &rounds[i]);
        for (unsigned p = 0; p < peers_len; p++) {
            rounds[i].peer_per_s[p] = measure_peer(peers[p], false, span_ns);
            rounds[i].append_per_s[p] = measure_peer(peers[p], true, span_ns / 2);
        }
    }
    uint64_t sequence = vdc_allocdb_sequence(ours->db);
    (void)printf("D2: %u rounds; a record has %llu bytes in the mean\n", len,
                 (unsigned long long)(ours->record_bytes / sequence));
    report_rounds(report, rounds, len, options->outstanding);
    report_peer(report, "sqlite", rounds, len, find_peer(peers, peers_len, "sqlite"));
    report_peer(report, "lmdb", rounds, len, find_peer(peers, peers_len, "lmdb"));
    if (options->json) {
        bench_report_end(report);
    } else {
        json_decref(report);
    }
    close_ours(ours);
    for (unsigned p = 0; p < peers_len; p++) {
        close_peer(peers[p]);
    }
    (void)close(floor_fd);
    bench_remove_dir(dir);
    free(dir);
}
