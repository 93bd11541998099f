/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power cuts: the journal's own driver over a disk that loses, tears and reorders what was not
 * synced (journal_sim_disk.h). After each, the driver opens what is left, and must then have every
 * transaction that was acknowledged, none that was not asked for, none by half: the database's digest is
 * that of the sequence it has come to. Then it must be able to go on.
 *
 * Drivers with a step left out or in the wrong order are made by changing the log of the right one; that
 * each of them is found out shows that the disk and the checks are worth something.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <vdc/journal.h>

#include "journal_sim_disk.h"
#include "ultravisor_support.h"

#define SEGMENT 4096
/* So large that a write does not reach the segment's end, as it does in small ones (it ends at a page). */
#define LARGE_SEGMENT 32768
/* Sequences of one story. */
#define SEQUENCES_MAX 4096

/* A database that is journalled, over any number of crashes. */
struct story {
    uv_loop_t loop;
    struct sim_disk disk;
    struct vdc_journal *journal; /* NULL: closed */
    struct vdc_allocdb *db;
    struct vdc_journal_report report;
    struct vdc_err err;
    uint64_t segment_bytes;
    uint64_t salt_seed;
    uint64_t next_id;
    uint64_t acked;
    int snapshots_failed;
    /* By sequence: what the state was when it was appended. */
    struct vdc_digest digests[SEQUENCES_MAX];
};

static enum vdc_rc story_snapshot(void *ctx, uint64_t sequence, const void *data, size_t len,
                                  struct vdc_err *err)
{
    struct story *story = ctx;
    vdc_allocdb_destroy(story->db);
    story->db = NULL;
    enum vdc_rc rc = vdc_allocdb_restore(data, len, &story->db, err);
    if (rc == VDC_RC_OK && vdc_allocdb_sequence(story->db) != sequence) {
        return vdc_err_set(err, VDC_RC_CORRUPT, "the snapshot is of another sequence");
    }
    return rc;
}

static enum vdc_rc story_record(void *ctx, uint64_t sequence, const void *data, size_t len,
                                struct vdc_err *err)
{
    struct story *story = ctx;
    (void)sequence;
    return vdc_allocdb_apply_record(story->db, data, len, err);
}

/* `from` is taken; NULL: an empty disk. */
static void story_init(struct story *story, struct sim_image *from)
{
    *story = (struct story){.segment_bytes = SEGMENT, .salt_seed = 1};
    cr_assert_eq(uv_loop_init(&story->loop), 0);
    sim_disk_init(&story->disk, from);
    struct vdc_allocdb *empty = vdc_allocdb_create();
    story->digests[0] = vdc_allocdb_digest(empty);
    vdc_allocdb_destroy(empty);
}

static enum vdc_rc story_open(struct story *story)
{
    vdc_allocdb_destroy(story->db);
    story->db = vdc_allocdb_create();
    struct vdc_journal_options options = {.dir = "simulated",
                                          .segment_bytes = story->segment_bytes,
                                          .seed = story->salt_seed++,
                                          .disk = &story->disk.calls,
                                          .on_snapshot = story_snapshot,
                                          .on_record = story_record,
                                          .ctx = story};
    return vdc_journal_open(&story->journal, &story->loop, &options, &story->report, &story->err);
}

static void story_close(struct story *story)
{
    if (story->journal != NULL) {
        vdc_journal_close(story->journal, NULL, NULL);
        story->journal = NULL;
    }
    (void)uv_run(&story->loop, UV_RUN_DEFAULT);
}

static void story_deinit(struct story *story)
{
    story_close(story);
    cr_assert_eq(uv_loop_close(&story->loop), 0);
    sim_disk_deinit(&story->disk);
    vdc_allocdb_destroy(story->db);
}

static void story_acked(void *ctx, uint64_t sequence)
{
    struct story *story = ctx;
    cr_assert_gt(sequence, story->acked, "acknowledged twice or out of order");
    story->acked = sequence;
    sim_disk_mark(&story->disk, SIM_ACKED, sequence);
}

/* The next transaction: creates a partition, or ends the one created before. */
static void story_append(struct story *story)
{
    uint64_t id = ++story->next_id;
    struct vdc_op ops[] = {op_create(id, "web"), op_shared(id, 100), op_memory(id, 0, 4 * MIB)};
    struct vdc_op inventory = op_inventory();
    struct vdc_op zone = op_zone_set(1000, 1000, 4000);
    struct vdc_op destroy = op_destroy(id - 1, 1);
    struct vdc_tx tx = {.request_id = id_of(UINT64_C(1) << 40 | id),
                        .zone = "prod",
                        .epoch = 1,
                        .role = VDC_ROLE_COMMAND,
                        .ops = ops,
                        .ops_len = 3};
    uint64_t sequence = vdc_allocdb_sequence(story->db) + 1;
    if (sequence == 1) {
        tx = (struct vdc_tx){.role = VDC_ROLE_SYSTEM, .ops = &inventory, .ops_len = 1};
    } else if (sequence == 2) {
        tx.ops = &zone;
        tx.ops_len = 1;
    } else {
        struct vdc_id before = id_of(id - 1);
        (void)snprintf(ops[0].partition_create.name, VDC_NAME_CAP, "web-%d", (int)id);
        if (vdc_allocdb_find_partition(story->db, &before) != NULL) {
            tx.ops = &destroy;
            tx.ops_len = 1;
        }
    }
    struct vdc_tx_result result;
    struct vdc_buf record = {0};
    (void)vdc_allocdb_commit(story->db, &tx, &result, &record);
    cr_assert_eq(result.rc, VDC_RC_OK, "%s", result.text);
    cr_assert_eq(result.sequence, sequence);
    cr_assert_lt(sequence, SEQUENCES_MAX);
    story->digests[sequence] = vdc_allocdb_digest(story->db);
    sim_disk_mark(&story->disk, SIM_APPENDED, sequence);
    vdc_journal_append(story->journal, sequence, record.data, record.len, story_acked, story);
    vdc_buf_deinit(&record);
}

/* One group, then waits until nothing is under way. */
static void story_append_group(struct story *story, unsigned records)
{
    for (unsigned i = 0; i < records; i++) {
        while (vdc_journal_check_space(story->journal, &story->err) == VDC_RC_LIMIT) {
            (void)uv_run(&story->loop, UV_RUN_ONCE);
        }
        story_append(story);
    }
    (void)uv_run(&story->loop, UV_RUN_DEFAULT);
}

static void story_snapshotted(void *ctx, enum vdc_rc rc, const char *text)
{
    struct story *story = ctx;
    (void)text;
    story->snapshots_failed += rc != VDC_RC_OK;
}

static void story_take_snapshot(struct story *story)
{
    struct vdc_buf data = {0};
    vdc_allocdb_snapshot(story->db, &data);
    (void)!vdc_journal_snapshot(story->journal, vdc_allocdb_sequence(story->db), &data,
                                story_snapshotted, story);
    vdc_buf_deinit(&data);
}

/* --- the check --- */

struct tally {
    uint64_t images;     /* looked at */
    uint64_t distinct;   /* opened */
    uint64_t violations; /* what the first one was: */
    char text[512];
    uint64_t *seen; /* hashes, open addressing; 0: free */
    size_t seen_cap;
};

static void tally_deinit(struct tally *tally)
{
    free(tally->seen);
}

static bool tally_is_new(struct tally *tally, uint64_t hash)
{
    hash = hash == 0 ? 1 : hash;
    if (tally->distinct * 2 >= tally->seen_cap) {
        uint64_t *before = tally->seen;
        size_t len = tally->seen_cap;
        tally->seen_cap = len == 0 ? 1024 : len * 2;
        tally->seen = vdc_calloc(tally->seen_cap, sizeof(hash));
        for (size_t i = 0; i < len; i++) {
            size_t at = before[i] % tally->seen_cap;
            while (before[i] != 0 && tally->seen[at] != 0) {
                at = (at + 1) % tally->seen_cap;
            }
            tally->seen[at] = before[i] != 0 ? before[i] : tally->seen[at];
        }
        free(before);
    }
    size_t at = hash % tally->seen_cap;
    while (tally->seen[at] != 0 && tally->seen[at] != hash) {
        at = (at + 1) % tally->seen_cap;
    }
    bool is_new = tally->seen[at] == 0;
    tally->seen[at] = hash;
    tally->distinct += is_new;
    return is_new;
}

__attribute__((format(printf, 2, 3))) static void violation(struct tally *tally, const char *fmt,
                                                            ...)
{
    if (tally->violations++ == 0) {
        va_list args;
        va_start(args, fmt);
        (void)vsnprintf(tally->text, sizeof(tally->text), fmt, args);
        va_end(args);
    }
}

/* Opens what a crash left; `recovered` is the story that goes on from there, or NULL. */
static void check_image(const struct story *story, struct sim_image *image, uint64_t acked,
                        uint64_t appended, struct tally *tally)
{
    static struct story after; /* large */
    tally->images++;
    if (!tally_is_new(tally, sim_image_hash(image) ^ acked << 32 ^ appended)) {
        sim_image_deinit(image);
        return;
    }
    story_init(&after, image);
    after.segment_bytes = story->segment_bytes;
    after.salt_seed = UINT64_C(1) << 32 | tally->distinct;
    after.next_id = story->next_id + 10;
    enum vdc_rc rc = story_open(&after);
    uint64_t got = after.report.last_sequence;
    if (rc != VDC_RC_OK) {
        violation(tally, "it refuses to start: %s", after.err.text);
    } else if (got < acked || got > appended) {
        violation(tally, "%lu acknowledged and %lu asked for, but %lu recovered", acked, appended,
                  got);
    } else {
        struct vdc_digest digest = vdc_allocdb_digest(after.db);
        if (!vdc_digest_equal(&digest, &story->digests[got])) {
            violation(tally, "another state at %lu", got);
        }
        after.acked = got;
        story_append_group(&after, 1);
        story_close(&after);
        digest = vdc_allocdb_digest(after.db);
        rc = story_open(&after);
        struct vdc_digest again = vdc_allocdb_digest(after.db);
        if (rc != VDC_RC_OK || !vdc_digest_equal(&digest, &again) || after.acked != got + 1) {
            violation(tally, "it does not go on from %lu: %s", got, after.err.text);
        }
    }
    story_deinit(&after);
}

/* Every power cut that the log allows: after each operation with all that may be left, and in each
 * write at every byte. `acked` is of the log's beginning. */
static void check_all(const struct story *story, const struct sim_log *log, uint64_t acked,
                      struct tally *tally)
{
    uint64_t appended = acked;
    for (size_t ops = 0; ops <= log->len; ops++) {
        struct sim_chooser chooser = {0};
        do {
            struct sim_image image;
            sim_crash(&story->disk.base, log, ops, &chooser, &image);
            check_image(story, &image, acked, appended, tally);
        } while (sim_choose_next(&chooser) && tally->violations == 0);
        sim_chooser_deinit(&chooser);
        const struct sim_op *next = ops < log->len ? &log->ops[ops] : NULL;
        for (size_t cut = 1; next != NULL && next->kind == SIM_WRITE && next->data != NULL &&
                             cut < next->len && tally->violations == 0;
             cut++) {
            struct sim_image image;
            sim_crash_torn(&story->disk.base, log, ops, cut, &image);
            check_image(story, &image, acked, appended, tally);
        }
        if (next != NULL && next->kind == SIM_APPENDED) {
            appended = next->sequence;
        } else if (next != NULL && next->kind == SIM_ACKED) {
            acked = next->sequence;
        }
    }
}

/* --- a small history, exhaustively --- */

/* Groups of one and more, the first segment's begin, rotation, snapshot, truncation, a restart. */
static void small_history(struct story *story)
{
    story_init(story, NULL);
    cr_assert_eq(story_open(story), VDC_RC_OK, "%s", story->err.text);
    story_append_group(story, 1);
    story_append_group(story, 3);
    story_append_group(story, 2);
    story_take_snapshot(story);
    story_append_group(story, 5); /* into the second segment */
    story_close(story);
    cr_assert_eq(story_open(story), VDC_RC_OK, "%s", story->err.text);
    story_append_group(story, 5);
    story_take_snapshot(story);
    story_append_group(story, 4);
    story_close(story);
    cr_assert_eq(story->acked, vdc_allocdb_sequence(story->db));
}

static unsigned count_ops(const struct sim_log *log, enum sim_kind kind)
{
    unsigned count = 0;
    for (size_t i = 0; i < log->len; i++) {
        count += log->ops[i].kind == kind;
    }
    return count;
}

Test(journal_crash, nothing_acknowledged_is_lost_by_any_power_cut_in_a_small_history)
{
    static struct story story;
    struct tally tally = {0};
    small_history(&story);
    /* It has all that it should: segments begun, snapshots renamed, segments dropped. */
    cr_assert_geq(count_ops(&story.disk.log, SIM_RENAME), 4);
    cr_assert_geq(count_ops(&story.disk.log, SIM_REMOVE), 2);
    check_all(&story, &story.disk.log, 0, &tally);
    cr_assert_eq(tally.violations, 0, "%s", tally.text);
    cr_log_info("%lu crashes, %lu different disks after %zu operations", tally.images,
                tally.distinct, story.disk.log.len);
    cr_assert_gt(tally.distinct, 1000);
    tally_deinit(&tally);
    story_deinit(&story);
}

/* Ids that lie apart, so that each transaction creates and all records are equally long. */
static void append_creating(struct story *story, unsigned records)
{
    for (unsigned i = 0; i < records; i++) {
        story->next_id += 2;
        story_append(story);
    }
    (void)uv_run(&story->loop, UV_RUN_DEFAULT);
}

/* The disk of one crash, which is opened, written on, and crashes again, in all ways. */
static void crash_again(const struct story *first, struct sim_image *image, struct tally *tally)
{
    static struct story second;
    story_init(&second, image);
    second.segment_bytes = first->segment_bytes;
    second.salt_seed = 77;
    second.next_id = first->next_id + 100;
    memcpy(second.digests, first->digests, sizeof(second.digests));
    enum vdc_rc rc = story_open(&second);
    if (rc != VDC_RC_OK) {
        violation(tally, "it refuses to start: %s", second.err.text);
    } else {
        second.acked = second.report.last_sequence;
        append_creating(&second, 1);
        story_close(&second);
        check_all(&second, &second.disk.log, second.report.last_sequence, tally);
    }
    story_deinit(&second);
}

Test(journal_crash, a_power_cut_while_a_torn_end_is_cut_or_written_over_loses_nothing)
{
    static struct story story;
    struct tally first = {0};
    struct tally tally = {0};
    story_init(&story, NULL);
    story.segment_bytes = LARGE_SEGMENT;
    story.next_id = 100;
    cr_assert_eq(story_open(&story), VDC_RC_OK, "%s", story.err.text);
    story_append_group(&story, 1);
    story_append_group(&story, 1);
    size_t from = story.disk.log.len;
    append_creating(&story, 5);
    size_t to = story.disk.log.len;
    for (size_t ops = from; ops < to; ops++) {
        struct sim_chooser chooser = {0};
        do {
            struct sim_image image;
            sim_crash(&story.disk.base, &story.disk.log, ops, &chooser, &image);
            if (tally_is_new(&first, sim_image_hash(&image))) {
                crash_again(&story, &image, &tally);
            }
            sim_image_deinit(&image);
        } while (sim_choose_next(&chooser));
        sim_chooser_deinit(&chooser);
    }
    cr_assert_eq(tally.violations, 0, "%s", tally.text);
    cr_log_info("%lu disks after one crash, %lu after two", first.distinct, tally.distinct);
    cr_assert_gt(first.distinct, 8);
    tally_deinit(&first);
    tally_deinit(&tally);
    story_deinit(&story);
}

/* --- drivers that are wrong --- */

static void log_copy(const struct sim_log *from, struct sim_log *to)
{
    *to = (struct sim_log){.len = from->len, .cap = from->len};
    to->ops = vdc_memdup(from->ops, from->len * sizeof(from->ops[0]));
}

static void log_remove(struct sim_log *log, enum sim_kind kind)
{
    size_t kept = 0;
    for (size_t i = 0; i < log->len; i++) {
        if (log->ops[i].kind != kind) {
            log->ops[kept++] = log->ops[i];
        }
    }
    log->len = kept;
}

static void log_move(struct sim_log *log, size_t from, size_t to)
{
    struct sim_op op = log->ops[from];
    if (from < to) {
        memmove(&log->ops[from], &log->ops[from + 1], (to - from) * sizeof(op));
    } else {
        memmove(&log->ops[to + 1], &log->ops[to], (from - to) * sizeof(op));
    }
    log->ops[to] = op;
}

/* Moves each operation `late` to before the nearest operation `early` in front of it. */
static void log_swap(struct sim_log *log, enum sim_kind late, enum sim_kind early, bool same_inode)
{
    for (size_t i = 0; i < log->len; i++) {
        size_t at = i;
        while (log->ops[i].kind == late && at > 0 &&
               !(log->ops[at].kind == early &&
                 (!same_inode || log->ops[at].inode == log->ops[i].inode))) {
            at--;
        }
        if (log->ops[at].kind == early && at < i) {
            log_move(log, i, at);
        }
    }
}

static void assert_found_out(const struct story *story, struct sim_log *log, const char *what)
{
    struct tally tally = {0};
    check_all(story, log, 0, &tally);
    cr_assert_gt(tally.violations, 0, "%s was not found out in %lu crashes", what, tally.images);
    cr_log_info("%s: %s", what, tally.text);
    tally_deinit(&tally);
    free(log->ops);
}

Test(journal_crash, a_driver_that_leaves_out_a_sync_or_changes_the_order_is_found_out)
{
    static struct story story;
    struct sim_log log;
    small_history(&story);

    log_copy(&story.disk.log, &log);
    log_remove(&log, SIM_SYNC);
    assert_found_out(&story, &log, "no fdatasync");

    log_copy(&story.disk.log, &log);
    log_remove(&log, SIM_SYNC_DIR);
    assert_found_out(&story, &log, "no sync of the directory");

    log_copy(&story.disk.log, &log);
    log_swap(&log, SIM_ACKED, SIM_SYNC, false);
    assert_found_out(&story, &log, "acknowledged before the sync");

    log_copy(&story.disk.log, &log);
    log_swap(&log, SIM_RENAME, SIM_SYNC, true);
    assert_found_out(&story, &log, "renamed before the sync");

    log_copy(&story.disk.log, &log);
    log_swap(&log, SIM_REMOVE, SIM_SYNC_DIR, false);
    assert_found_out(&story, &log, "old segments dropped before the snapshot's name is durable");

    story_deinit(&story);
}

/* --- long histories, at random --- */

/* Some groups and snapshots, without waiting for each. */
static void random_session(struct story *story, struct vdc_prng *prng)
{
    unsigned steps = 5 + (unsigned)vdc_prng_below(prng, 40);
    for (unsigned i = 0; i < steps; i++) {
        unsigned records = 1 + (unsigned)vdc_prng_below(prng, i % 4 == 0 ? 40 : 6);
        for (unsigned r = 0; r < records; r++) {
            if (vdc_journal_check_space(story->journal, NULL) != VDC_RC_OK) {
                (void)uv_run(&story->loop, UV_RUN_ONCE);
                continue;
            }
            story_append(story);
        }
        if (vdc_prng_below(prng, 12) == 0) {
            story_take_snapshot(story);
        }
        if (vdc_prng_below(prng, 3) > 0) {
            (void)uv_run(&story->loop, UV_RUN_NOWAIT);
        }
    }
    story_close(story);
}

/* A power cut somewhere in the story's log: what is left becomes its disk. */
static void random_crash(struct story *story, struct vdc_prng *prng)
{
    size_t ops = (size_t)vdc_prng_below(prng, story->disk.log.len + 1);
    struct sim_chooser chooser = {.prng = prng};
    struct sim_image image;
    uint64_t appended = story->report.last_sequence;
    uint64_t acked = story->report.last_sequence;
    for (size_t i = 0; i < ops; i++) {
        const struct sim_op *op = &story->disk.log.ops[i];
        appended = op->kind == SIM_APPENDED ? op->sequence : appended;
        acked = op->kind == SIM_ACKED ? op->sequence : acked;
    }
    const struct sim_op *next = ops < story->disk.log.len ? &story->disk.log.ops[ops] : NULL;
    if (next != NULL && next->kind == SIM_WRITE && next->data != NULL &&
        vdc_prng_below(prng, 2) == 0) {
        sim_crash_torn(&story->disk.base, &story->disk.log, ops,
                       (size_t)vdc_prng_below(prng, next->len), &image);
    } else {
        sim_crash(&story->disk.base, &story->disk.log, ops, &chooser, &image);
    }
    sim_disk_deinit(&story->disk);
    sim_disk_init(&story->disk, &image);
    story->disk.slow_one_in = 1 + (unsigned)vdc_prng_below(prng, 20);
    enum vdc_rc rc = story_open(story);
    cr_assert_eq(rc, VDC_RC_OK, "it refuses to start: %s", story->err.text);
    uint64_t got = story->report.last_sequence;
    cr_assert_geq(got, acked);
    cr_assert_leq(got, appended);
    struct vdc_digest digest = vdc_allocdb_digest(story->db);
    cr_assert(vdc_digest_equal(&digest, &story->digests[got]), "another state at %lu", got);
    cr_assert_eq(vdc_allocdb_check(story->db, &story->err), VDC_RC_OK, "%s", story->err.text);
    story->acked = got;
}

Test(journal_crash, nothing_acknowledged_is_lost_over_many_power_cuts_at_random)
{
    static struct story story;
    const char *text = getenv("VDC_SEED");
    const char *times = getenv("VDC_SEEDS");
    uint64_t first = text == NULL ? 1 : strtoull(text, NULL, 10);
    uint64_t seeds = times == NULL ? (text == NULL ? 60 : 1) : strtoull(times, NULL, 10);
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        struct vdc_prng prng;
        vdc_prng_init(&prng, seed);
        cr_log_info("VDC_SEED=%lu", seed);
        story_init(&story, NULL);
        story.segment_bytes = seed % 2 == 0 ? SEGMENT : LARGE_SEGMENT;
        story.salt_seed = seed << 20;
        cr_assert_eq(story_open(&story), VDC_RC_OK, "%s", story.err.text);
        for (unsigned cut = 0; cut < 12; cut++) {
            random_session(&story, &prng);
            random_crash(&story, &prng);
        }
        story_deinit(&story);
    }
}

/* --- one at a time --- */

Test(journal_crash, no_new_spare_is_begun_while_the_old_one_has_its_name)
{
    static struct story story;
    story_init(&story, NULL);
    cr_assert_eq(story_open(&story), VDC_RC_OK, "%s", story.err.text);
    sim_disk_hold_renames(&story.disk, true);
    story_append(&story); /* begins the first segment, in the spare */
    while (!sim_disk_rename_waits(&story.disk)) {
        (void)uv_run(&story.loop, UV_RUN_NOWAIT);
    }
    size_t before = story.disk.log.len;
    while (vdc_journal_check_space(story.journal, &story.err) == VDC_RC_OK) {
        story_append(&story);
        (void)uv_run(&story.loop, UV_RUN_NOWAIT);
        uv_sleep(1); /* what a wrong driver began would come to the disk now */
    }
    for (size_t i = before; i < story.disk.log.len; i++) {
        cr_assert_eq(story.disk.log.ops[i].kind, SIM_APPENDED, "the spare was begun again");
    }
    sim_disk_hold_renames(&story.disk, false);
    story_append_group(&story, 30);
    uint64_t last = vdc_allocdb_sequence(story.db);
    struct vdc_digest digest = vdc_allocdb_digest(story.db);
    story_close(&story);
    cr_assert_eq(story_open(&story), VDC_RC_OK, "%s", story.err.text);
    cr_assert_eq(story.report.last_sequence, last);
    struct vdc_digest again = vdc_allocdb_digest(story.db);
    cr_assert(vdc_digest_equal(&digest, &again));
    story_deinit(&story);
}

Test(journal_crash, a_sync_error_ends_the_process, .signal = SIGABRT)
{
    static struct story story;
    story_init(&story, NULL);
    cr_assert_eq(story_open(&story), VDC_RC_OK, "%s", story.err.text);
    story_append_group(&story, 2);
    story.disk.sync_error = -EIO;
    story_append_group(&story, 1);
    cr_assert_fail("the journal went on");
}

Test(journal_crash, a_write_error_ends_the_process, .signal = SIGABRT)
{
    static struct story story;
    story_init(&story, NULL);
    cr_assert_eq(story_open(&story), VDC_RC_OK, "%s", story.err.text);
    story_append_group(&story, 2);
    story.disk.write_error = -EIO;
    story_append_group(&story, 1);
    cr_assert_fail("the journal went on");
}

/* Appends until the journal takes no more. */
static void fill_disk(struct story *story)
{
    for (unsigned i = 0; i < SEQUENCES_MAX; i++) {
        enum vdc_rc rc = vdc_journal_check_space(story->journal, &story->err);
        if (rc == VDC_RC_NO_SPACE) {
            return;
        }
        if (rc == VDC_RC_OK) {
            story_append(story);
        }
        (void)uv_run(&story->loop, rc == VDC_RC_OK ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    }
    cr_assert_fail("the disk never was full");
}

Test(journal_crash, a_full_disk_refuses_says_what_to_do_and_recovers_by_itself)
{
    static struct story story;
    story_init(&story, NULL);
    sim_disk_set_capacity(&story.disk, 3 * SEGMENT + 100);
    cr_assert_eq(story_open(&story), VDC_RC_OK, "%s", story.err.text);
    fill_disk(&story);
    cr_assert_not_null(strstr(story.err.text, "No space left on device"), "%s", story.err.text);
    cr_assert_not_null(strstr(story.err.text, "make room there for 4 KiB"), "%s", story.err.text);
    cr_assert_leq(sim_disk_used(&story.disk), 3 * SEGMENT + 100);
    /* A snapshot finds no space either, and nothing else happens; or it waits behind records that were
     * taken just before the spare segment failed, and wait for space too. */
    story_take_snapshot(&story);
    for (int i = 0; i < 400 && story.snapshots_failed == 0; i++) {
        uv_sleep(5);
        (void)uv_run(&story.loop, UV_RUN_NOWAIT);
    }
    bool waits = story.acked < vdc_allocdb_sequence(story.db);
    cr_assert(waits != (story.snapshots_failed == 1), "what was taken became durable, or waits");
    sim_disk_set_capacity(&story.disk, 8 * SEGMENT);
    while (vdc_journal_check_space(story.journal, &story.err) != VDC_RC_OK) {
        uv_sleep(5);
        (void)uv_run(&story.loop, UV_RUN_NOWAIT);
    }
    story_append_group(&story, 10);
    uint64_t last = vdc_allocdb_sequence(story.db);
    cr_assert_eq(story.acked, last);
    struct vdc_digest digest = vdc_allocdb_digest(story.db);
    story_close(&story);
    cr_assert_eq(story_open(&story), VDC_RC_OK, "%s", story.err.text);
    struct vdc_digest again = vdc_allocdb_digest(story.db);
    cr_assert_eq(story.report.last_sequence, last);
    cr_assert(vdc_digest_equal(&digest, &again));
    story_deinit(&story);
}

Test(journal_crash, closing_on_a_full_disk_gives_up_what_was_never_acknowledged)
{
    static struct story story;
    story_init(&story, NULL);
    cr_assert_eq(story_open(&story), VDC_RC_OK, "%s", story.err.text);
    story_append_group(&story, 1);
    sim_disk_set_capacity(&story.disk, sim_disk_used(&story.disk)); /* the next segment is made */
    /* Past what the journal promises: a caller that appends without asking. */
    for (unsigned i = 0; i < 60; i++) {
        story_append(&story);
    }
    story_close(&story);
    uint64_t acked = story.acked;
    sim_disk_set_capacity(&story.disk, UINT64_MAX);
    cr_assert_eq(story_open(&story), VDC_RC_OK, "%s", story.err.text);
    cr_assert_geq(story.report.last_sequence, acked);
    cr_assert_lt(story.report.last_sequence, 61);
    story_deinit(&story);
}

Test(journal_crash, what_a_crash_left_of_a_snapshot_is_removed)
{
    static struct story story;
    story_init(&story, NULL);
    int fd = story.disk.calls.open(&story.disk, 0, "snapshot-0000000000000007.snap.tmp", true);
    (void)!story.disk.calls.write(&story.disk, fd, "half", 4, 0);
    cr_assert_eq(story_open(&story), VDC_RC_OK, "%s", story.err.text);
    for (size_t i = 0; i < story.disk.now.names_len; i++) {
        cr_assert_null(strstr(story.disk.now.names[i].name, ".tmp"));
    }
    story_deinit(&story);
}
