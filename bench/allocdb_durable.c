/* SPDX-License-Identifier: Apache-2.0 */
/*
 * D2. In each round, one after the other on the same disk: bare fdatasync, our database with its
 * journal, and each peer. Ours has a fixed number of requests outstanding; each acknowledgement
 * brings the next request, as from so many clients. Peers get records that were made before, 64 in a
 * transaction.
 */
#include <errno.h>
#include <fcntl.h>
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
/* Records made for the peers; they are stored again and again under new numbers. */
#define PEER_RECORDS 4096
/* The floor writes one block each time, in turn over a file that was filled before, so that no
 * metadata is written. */
#define FLOOR_BLOCK 4096
#define FLOOR_BLOCKS 4096

struct ours {
    struct vdc_allocdb *db;
    struct vdc_journal *journal;
    uv_loop_t loop;
    struct workload workload;
    struct workload_tx wtx;
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

static void acknowledge(void *ctx, uint64_t sequence);

static void ask(struct ours *ours)
{
    struct vdc_err err = {0};
    workload_next(&ours->workload, &ours->wtx);
    uint64_t asked_ns = bench_now_ns();
    if (vdc_journal_check_space(ours->journal, &err) != VDC_RC_OK) {
        bench_die("%s", err.text);
    }
    bench_commit(ours->db, &ours->wtx, &ours->result, &ours->record);
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
    workload_init(&ours->workload, seed);
    VDC_ASSERT(uv_loop_init(&ours->loop) == 0);
    if (vdc_journal_open(&ours->journal, &ours->loop, &options, &report, &err) != VDC_RC_OK) {
        bench_die("%s", err.text);
    }
    while (!workload_full(&ours->workload)) {
        ask(ours);
        run_until_idle(ours);
        /* A few hundred in one group: filling is not measured, but shall not take minutes. */
        for (unsigned i = 0; i < 255 && !workload_full(&ours->workload); i++) {
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
    workload_deinit(&ours->workload);
    free(ours);
}

/* --- peers --- */

struct peer_run {
    const struct bench_peer *peer;
    void *store;
    uint64_t next;
};

static struct vdc_buf *make_records(uint64_t seed)
{
    struct vdc_buf *records = vdc_calloc(PEER_RECORDS, sizeof(records[0]));
    struct vdc_allocdb *db = vdc_allocdb_create();
    struct workload workload;
    struct workload_tx *wtx = VDC_NEW(struct workload_tx);
    struct vdc_tx_result result;
    workload_init(&workload, seed);
    struct vdc_buf dropped = {0};
    while (!workload_full(&workload)) {
        workload_next(&workload, wtx);
        bench_commit(db, wtx, &result, &dropped);
    }
    for (unsigned i = 0; i < PEER_RECORDS; i++) {
        workload_next(&workload, wtx);
        bench_commit(db, wtx, &result, &records[i]);
    }
    vdc_buf_deinit(&dropped);
    workload_deinit(&workload);
    vdc_allocdb_destroy(db);
    free(wtx);
    return records;
}

static double measure_peer(struct peer_run *run, const struct vdc_buf *records, uint64_t span_ns)
{
    uint64_t start = bench_now_ns();
    uint64_t now = start;
    uint64_t stored = 0;
    while (now - start < span_ns) {
        run->peer->put(run->store, run->next, &records[run->next % PEER_RECORDS], PEER_BATCH);
        run->next += PEER_BATCH;
        stored += PEER_BATCH;
        now = bench_now_ns();
    }
    return (double)stored * 1e9 / (double)(now - start);
}

static unsigned open_peers(const char *dir, struct peer_run runs[PEERS_MAX])
{
    unsigned len = 0;
    for (const struct bench_peer *peer = bench_peers; peer->name != NULL; peer++) {
        VDC_ASSERT(len < PEERS_MAX);
        vdc_autofree char *own = vdc_asprintf("%s/%s", dir, peer->name);
        if (mkdir(own, 0700) != 0) {
            bench_die("make %s: %m", own);
        }
        runs[len++] = (struct peer_run){.peer = peer, .store = peer->open(own)};
    }
    return len;
}

/* --- report --- */

static void report_peer(json_t *report, const char *name, const struct round *rounds, unsigned len,
                        int peer)
{
    vdc_autofree char *rate_key = vdc_asprintf("%s_per_s", name);
    vdc_autofree char *ratio_key = vdc_asprintf("ratio_%s", name);
    if (peer < 0) {
        (void)printf("D2: %s was not there when this was built: not compared\n", name);
        json_object_set_new(report, ratio_key, json_null());
        return;
    }
    struct bench_samples rate = {0};
    struct bench_samples ratio = {0};
    for (unsigned i = 0; i < len; i++) {
        bench_samples_add(&rate, rounds[i].peer_per_s[peer]);
        bench_samples_add(&ratio, rounds[i].ours_per_s / rounds[i].peer_per_s[peer]);
    }
    (void)printf("D2: %s, %d records in a transaction: %.0f records/s; ours %.2f times that\n",
                 name, PEER_BATCH, bench_samples_at(&rate, 0.5), bench_samples_at(&ratio, 0.5));
    json_object_set_new(report, rate_key, json_real(bench_samples_at(&rate, 0.5)));
    json_object_set_new(report, ratio_key, json_real(bench_samples_at(&ratio, 0.5)));
    bench_samples_deinit(&rate);
    bench_samples_deinit(&ratio);
}

/* Median over the rounds of a(round) / b(round); b NULL: of a alone. */
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

static int find_peer(const struct peer_run *runs, unsigned len, const char *name)
{
    for (unsigned i = 0; i < len; i++) {
        if (strcmp(runs[i].peer->name, name) == 0) {
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
    struct vdc_buf *records = make_records(options->seed);
    struct peer_run peers[PEERS_MAX];
    unsigned peers_len = open_peers(dir, peers);
    struct ours *ours = open_ours(journal_dir, options->seed);
    int floor_fd = open_floor(dir);
    for (unsigned i = 0; i < len; i++) {
        measure_floor(floor_fd, span_ns, &rounds[i]);
        measure_ours(ours, options->outstanding, span_ns, &rounds[i]);
        for (unsigned p = 0; p < peers_len; p++) {
            rounds[i].peer_per_s[p] = measure_peer(&peers[p], records, span_ns);
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
        peers[p].peer->close(peers[p].store);
    }
    for (unsigned i = 0; i < PEER_RECORDS; i++) {
        vdc_buf_deinit(&records[i]);
    }
    free(records);
    (void)close(floor_fd);
    bench_remove_dir(dir);
    free(dir);
}
