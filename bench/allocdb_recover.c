/* SPDX-License-Identifier: Apache-2.0 */
/*
 * D3. A journal of so many records, without a snapshot, is read by `cat` and by the recovery in
 * turns: once with the files dropped from the page cache (as after a machine's restart) and once
 * with them in it (as after the agent's). The recovered database must have the digest of the one
 * that wrote the journal.
 */
#include <fcntl.h>
#include <glob.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <uv.h>

#include <vdc/base.h>
#include <vdc/journal.h>

#include "allocdb_bench.h"
#include "bench.h"

#define ROUNDS 5
/* Records in flight while the journal is written: large groups, because writing is not measured. */
#define GROUP 2048

extern char **environ;

static void count_durable(void *ctx, uint64_t sequence)
{
    (void)sequence;
    --*(unsigned *)ctx;
}

static enum vdc_rc refuse_snapshot(void *ctx, uint64_t sequence, const void *data, size_t len,
                                   struct vdc_err *err)
{
    (void)ctx;
    (void)sequence;
    (void)data;
    (void)len;
    return vdc_err_set(err, VDC_RC_INTERNAL, "there should be no snapshot");
}

static enum vdc_rc apply_record(void *ctx, uint64_t sequence, const void *data, size_t len,
                                struct vdc_err *err)
{
    (void)sequence;
    return vdc_allocdb_apply_record(ctx, data, len, err);
}

static void write_journal(const char *dir, const struct bench_options *options,
                          struct vdc_digest *digest)
{
    struct vdc_journal_options how = {
        .dir = dir, .on_snapshot = refuse_snapshot, .on_record = apply_record};
    struct vdc_journal_report report;
    struct vdc_err err = {0};
    struct vdc_allocdb *db = vdc_allocdb_create();
    how.ctx = db;
    uv_loop_t loop;
    struct vdc_journal *journal;
    VDC_ASSERT(uv_loop_init(&loop) == 0);
    if (vdc_journal_open(&journal, &loop, &how, &report, &err) != VDC_RC_OK) {
        bench_die("%s", err.text);
    }
    struct workload workload;
    struct workload_tx *wtx = VDC_NEW(struct workload_tx);
    struct vdc_tx_result result;
    struct vdc_buf record = {0};
    unsigned waiting = 0;
    workload_init(&workload, options->seed);
    for (uint64_t i = 0; i < options->records; i++) {
        while (waiting >= GROUP || vdc_journal_check_space(journal, &err) != VDC_RC_OK) {
            if (waiting == 0) {
                bench_die("%s", err.text);
            }
            (void)uv_run(&loop, UV_RUN_ONCE);
        }
        workload_next(&workload, wtx);
        bench_commit(db, wtx, &result, &record);
        vdc_journal_append(journal, result.sequence, record.data, record.len, count_durable,
                           &waiting);
        waiting++;
    }
    vdc_journal_close(journal, NULL, NULL);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    VDC_ASSERT(waiting == 0 && uv_loop_close(&loop) == 0);
    *digest = vdc_allocdb_digest(db);
    vdc_buf_deinit(&record);
    workload_deinit(&workload);
    vdc_allocdb_destroy(db);
    free(wtx);
}

/* --- the files --- */

struct files {
    glob_t found;
    uint64_t bytes;
};

static void list_files(const char *dir, struct files *files)
{
    vdc_autofree char *pattern = vdc_asprintf("%s/journal-*.log", dir);
    if (glob(pattern, 0, NULL, &files->found) != 0) {
        bench_die("no journal in %s", dir);
    }
    files->bytes = 0;
    for (size_t i = 0; i < files->found.gl_pathc; i++) {
        struct stat st;
        VDC_ASSERT(stat(files->found.gl_pathv[i], &st) == 0);
        files->bytes += (uint64_t)st.st_size;
    }
}

/* Clean pages of a file can be dropped by anybody who may open it. */
static void drop_from_cache(const struct files *files)
{
    for (size_t i = 0; i < files->found.gl_pathc; i++) {
        int fd = open(files->found.gl_pathv[i], O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) != 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) {
            bench_die("drop %s from the page cache: %m", files->found.gl_pathv[i]);
        }
        (void)close(fd);
    }
}

/* ns that `cat FILES >/dev/null` takes, the process's start included. */
static double measure_cat(const struct files *files)
{
    char **argv = vdc_calloc(files->found.gl_pathc + 2, sizeof(argv[0]));
    char name[] = "cat";
    argv[0] = name;
    memcpy(&argv[1], files->found.gl_pathv, files->found.gl_pathc * sizeof(argv[0]));
    posix_spawn_file_actions_t actions;
    VDC_ASSERT(posix_spawn_file_actions_init(&actions) == 0);
    VDC_ASSERT(
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) == 0);
    uint64_t start = bench_now_ns();
    pid_t pid;
    int status;
    if (posix_spawnp(&pid, "cat", &actions, NULL, argv, environ) != 0 ||
        waitpid(pid, &status, 0) != pid || status != 0) {
        bench_die("cat failed");
    }
    double ns = (double)(bench_now_ns() - start);
    (void)posix_spawn_file_actions_destroy(&actions);
    free(argv);
    return ns;
}

/* ns that opening the journal and replaying it takes. */
static double measure_recovery(const char *dir, const struct bench_options *options,
                               const struct vdc_digest *expected, bool *digest_equal)
{
    struct vdc_journal_options how = {
        .dir = dir, .on_snapshot = refuse_snapshot, .on_record = apply_record};
    struct vdc_journal_report report;
    struct vdc_err err = {0};
    uint64_t start = bench_now_ns();
    struct vdc_allocdb *db = vdc_allocdb_create();
    how.ctx = db;
    if (vdc_journal_verify(&how, &report, &err) != VDC_RC_OK) {
        bench_die("%s", err.text);
    }
    double ns = (double)(bench_now_ns() - start);
    struct vdc_digest digest = vdc_allocdb_digest(db);
    *digest_equal =
        *digest_equal && vdc_digest_equal(&digest, expected) && report.records == options->records;
    if (vdc_allocdb_check(db, &err) != VDC_RC_OK) {
        bench_die("the recovered database is wrong: %s", err.text);
    }
    vdc_allocdb_destroy(db);
    return ns;
}

void bench_recover(const struct bench_options *options)
{
    json_t *report = bench_report_begin("D3");
    unsigned rounds = options->rounds > 0 ? options->rounds : ROUNDS;
    char *dir = bench_make_dir(options->dir);
    vdc_autofree char *journal_dir = vdc_asprintf("%s/journal", dir);
    struct vdc_digest digest;
    struct files files;
    bool digest_equal = true;
    write_journal(journal_dir, options, &digest);
    list_files(journal_dir, &files);
    struct bench_samples ratio[2] = {{0}, {0}};
    struct bench_samples rate[2] = {{0}, {0}};
    for (unsigned i = 0; i < rounds; i++) {
        for (unsigned warm = 0; warm < 2; warm++) {
            if (!warm) {
                drop_from_cache(&files);
            }
            double cat_ns = measure_cat(&files);
            if (!warm) {
                drop_from_cache(&files);
            }
            double ns = measure_recovery(journal_dir, options, &digest, &digest_equal);
            bench_samples_add(&ratio[warm], cat_ns / ns);
            bench_samples_add(&rate[warm], (double)files.bytes * 1e9 / ns);
        }
    }
    double cold = bench_samples_at(&ratio[0], 0.5);
    double warm = bench_samples_at(&ratio[1], 0.5);
    double cold_rate = bench_samples_at(&rate[0], 0.5);
    double warm_rate = bench_samples_at(&rate[1], 0.5);
    (void)printf("D3: %llu records in %.0f MiB, digest %s\n"
                 "D3: from the disk: %.0f MiB/s, %.3f times cat's rate\n"
                 "D3: from the page cache: %.0f MiB/s (%.0f records/s), %.3f times cat's rate\n",
                 (unsigned long long)options->records, (double)files.bytes / 1048576,
                 digest_equal ? "equal" : "NOT EQUAL", cold_rate / 1048576, cold,
                 warm_rate / 1048576, warm_rate / (double)files.bytes * (double)options->records,
                 warm);
    if (options->json) {
        json_object_set_new(report, "records", json_integer((json_int_t)options->records));
        json_object_set_new(report, "bytes", json_integer((json_int_t)files.bytes));
        json_object_set_new(report, "ratio_cat", json_real(cold));
        json_object_set_new(report, "ratio_cat_cached", json_real(warm));
        json_object_set_new(report, "bytes_per_s", json_real(cold_rate));
        json_object_set_new(report, "bytes_per_s_cached", json_real(warm_rate));
        json_object_set_new(report, "digest_equal", json_boolean(digest_equal));
        bench_report_end(report);
    } else {
        json_decref(report);
    }
    for (unsigned i = 0; i < 2; i++) {
        bench_samples_deinit(&ratio[i]);
        bench_samples_deinit(&rate[i]);
    }
    globfree(&files.found);
    bench_remove_dir(dir);
    free(dir);
    if (!digest_equal) {
        bench_die("recovery gave another database");
    }
}
