/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works. Records are encoded into *batches* as they come. At most one batch is being written;
 * the one behind it grows meanwhile, and is written in one go when the first is durable. Where a
 * record falls (which segment, which offset) is decided when it is appended, because it is then
 * known: batches are written in order and nothing else writes.
 *
 *     append -> [growing batch] -> write job: pwrite + fdatasync -> callbacks in order
 *                                  (a batch that begins a segment: into the spare file, then
 *                                   rename to its name and fsync(directory), so that a segment that
 *                                   has a name has a head)
 *
 * Three jobs run on the thread pool, at most one of each: write, make a spare segment, snapshot. Jobs
 * touch only their own arguments; all state belongs to the loop's thread.
 */
#include <vdc/journal.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/prng.h>

#include "journal_internal.h"

#define MAGIC UINT32_C(0x4c4e524a)
/* Between two tries to find space on a full disk. */
#define SPARE_RETRY_MS 100
/* Records of one batch: bounds the callbacks of one turn of the loop. */
#define BATCH_RECORDS_MAX 4096

struct waiter {
    uint64_t sequence;
    vdc_journal_durable_fn done;
    void *ctx;
};

struct batch {
    struct vdc_buf bytes;
    uint64_t first_sequence;
    uint64_t offset; /* in its segment */
    bool rotates;    /* begins a new segment, offset 0 */
    struct waiter *waiters;
    size_t waiters_len;
    size_t waiters_cap;
    struct batch *next;
};

struct vdc_journal {
    uint32_t magic;
    uv_loop_t *loop;
    char *dir;
    int dir_fd;
    int lock_fd;
    uint64_t segment_bytes;

    uint64_t appended; /* last sequence appended; >= durable */
    uint64_t durable;
    uint64_t written_bytes; /* of frames, ever */
    uint64_t snapshot_mark; /* written_bytes when the last snapshot was taken */

    int fd; /* of the segment that is written; -1: none yet */
    struct vdc_prng salts;
    uint32_t salt;      /* of the segment of the last batch */
    uint64_t tail;      /* where the next frame goes in the segment of the last batch */
    struct batch *head; /* the next to be written */
    struct batch *last;
    uint64_t queued_bytes;

    struct batch *writing;
    uv_work_t write_work;
    int write_fd;
    int rotated_fd; /* the segment before, to be closed */

    int spare_fd; /* -1: none */
    bool spare_busy;
    bool spare_failed;
    uint64_t spare_failed_at_ms;
    struct vdc_err spare_err;
    uv_work_t spare_work;
    int spare_new_fd;
    enum vdc_rc spare_rc;

    bool snapshot_busy;    /* taken, perhaps waiting for its sequence to be durable */
    bool snapshot_started; /* its job runs */
    uint64_t snapshot_sequence;
    uint64_t snapshot_new_mark;
    struct vdc_buf snapshot;
    void (*snapshot_done)(void *ctx, enum vdc_rc rc, const char *text);
    void *snapshot_ctx;
    enum vdc_rc snapshot_rc;
    struct vdc_err snapshot_err;
    uv_work_t snapshot_work;

    bool in_callback; /* the caller's code runs: nothing is freed under it */
    bool closing;
    void (*on_closed)(void *ctx);
    void *closed_ctx;
};

static void pump(struct vdc_journal *j);

/* What is on the disk is unknown now, and memory is ahead of it. The next start reads what is there;
 * going on could acknowledge what a crash would take back (fsync reports an error once). */
VDC_NORETURN static void die(const struct vdc_journal *j, const char *what,
                             const struct vdc_err *err)
{
    (void)fprintf(stderr, "journal %s: %s: %s -> end the process\n", j->dir, what, err->text);
    abort();
}

static void batch_destroy(struct batch *batch)
{
    vdc_buf_deinit(&batch->bytes);
    free(batch->waiters);
    free(batch);
}

/* --- spare segment --- */

static void spare_job(uv_work_t *work)
{
    struct vdc_journal *j;
    VDC_CAST(j, work->data, MAGIC);
    if (j->spare_failed) {
        /* Records wait for space: try at a pace that a full disk can bear. */
        (void)usleep(SPARE_RETRY_MS * 1000);
    }
    j->spare_rc = journal_make_spare(j->dir_fd, j->segment_bytes, &j->spare_new_fd, &j->spare_err);
}

static void spare_done(uv_work_t *work, int status)
{
    struct vdc_journal *j;
    VDC_CAST(j, work->data, MAGIC);
    VDC_ASSERT(status == 0);
    j->spare_busy = false;
    j->spare_failed = j->spare_rc != VDC_RC_OK;
    if (j->spare_rc == VDC_RC_OK) {
        j->spare_fd = j->spare_new_fd;
    } else if (j->spare_rc == VDC_RC_NO_SPACE) {
        j->spare_failed_at_ms = uv_now(j->loop);
    } else {
        die(j, "make a segment", &j->spare_err);
    }
    pump(j);
}

/* Whether a queued batch cannot be written before there is a spare. */
static bool waits_for_spare(const struct vdc_journal *j)
{
    bool rotates = false;
    for (const struct batch *batch = j->head; batch != NULL; batch = batch->next) {
        rotates = rotates || batch->rotates;
    }
    return rotates && j->spare_fd < 0;
}

static void start_spare(struct vdc_journal *j)
{
    bool waits = waits_for_spare(j);
    /* Until a rotating write has renamed the spare that it took, the name still leads to that file: a
     * new spare would truncate and zero the segment that is being written. */
    bool renaming = j->writing != NULL && j->writing->rotates;
    if (renaming || j->spare_busy || j->spare_fd >= 0 ||
        (j->closing && (!waits || j->spare_failed))) {
        return;
    }
    if (j->spare_failed && !waits && uv_now(j->loop) - j->spare_failed_at_ms < SPARE_RETRY_MS) {
        return;
    }
    j->spare_busy = true;
    j->spare_work.data = j;
    VDC_ASSERT(uv_queue_work(j->loop, &j->spare_work, spare_job, spare_done) == 0);
}

/* --- writing --- */

static void write_job(uv_work_t *work)
{
    struct vdc_journal *j;
    VDC_CAST(j, work->data, MAGIC);
    const struct batch *batch = j->writing;
    struct vdc_err err = {0};
    char name[JOURNAL_NAME_CAP];
    journal_segment_name(name, batch->first_sequence);
    if (journal_write_all(j->write_fd, batch->bytes.data, batch->bytes.len, batch->offset, &err) !=
            VDC_RC_OK ||
        journal_sync(j->write_fd, "segment", &err) != VDC_RC_OK) {
        die(j, "write", &err);
    }
    if (batch->rotates &&
        (renameat(j->dir_fd, JOURNAL_SPARE, j->dir_fd, name) != 0 || fsync(j->dir_fd) != 0)) {
        (void)vdc_err_errno(&err, errno, "rename %s to %s", JOURNAL_SPARE, name);
        die(j, "begin a segment", &err);
    }
}

static void write_done(uv_work_t *work, int status)
{
    struct vdc_journal *j;
    VDC_CAST(j, work->data, MAGIC);
    VDC_ASSERT(status == 0);
    struct batch *batch = j->writing;
    j->writing = NULL;
    if (j->rotated_fd >= 0) {
        (void)close(j->rotated_fd);
        j->rotated_fd = -1;
    }
    j->queued_bytes -= batch->bytes.len;
    j->in_callback = true;
    for (size_t i = 0; i < batch->waiters_len; i++) {
        const struct waiter *waiter = &batch->waiters[i];
        j->durable = waiter->sequence;
        if (waiter->done != NULL) {
            waiter->done(waiter->ctx, waiter->sequence);
        }
    }
    j->in_callback = false;
    batch_destroy(batch);
    pump(j);
}

static void start_write(struct vdc_journal *j)
{
    struct batch *batch = j->head;
    if (batch == NULL || j->writing != NULL || (batch->rotates && j->spare_fd < 0)) {
        return;
    }
    j->head = batch->next;
    if (j->head == NULL) {
        j->last = NULL;
    }
    if (batch->rotates) {
        j->rotated_fd = j->fd;
        j->fd = j->spare_fd;
        j->spare_fd = -1;
    }
    j->write_fd = j->fd;
    j->writing = batch;
    j->write_work.data = j;
    VDC_ASSERT(uv_queue_work(j->loop, &j->write_work, write_job, write_done) == 0);
}

/* --- snapshot --- */

static void snapshot_job(uv_work_t *work)
{
    struct vdc_journal *j;
    VDC_CAST(j, work->data, MAGIC);
    j->snapshot_rc = journal_write_snapshot(j->dir_fd, j->snapshot_sequence, j->snapshot.data,
                                            j->snapshot.len, &j->snapshot_err);
    if (j->snapshot_rc == VDC_RC_OK) {
        journal_drop_old(j->dir_fd, j->snapshot_sequence);
    }
}

static void snapshot_done(uv_work_t *work, int status)
{
    struct vdc_journal *j;
    VDC_CAST(j, work->data, MAGIC);
    VDC_ASSERT(status == 0);
    if (j->snapshot_rc != VDC_RC_OK && j->snapshot_rc != VDC_RC_NO_SPACE) {
        die(j, "snapshot", &j->snapshot_err);
    }
    if (j->snapshot_rc == VDC_RC_OK) {
        j->snapshot_mark = j->snapshot_new_mark;
    }
    j->snapshot_busy = false;
    j->snapshot_started = false;
    vdc_buf_deinit(&j->snapshot);
    if (j->snapshot_done != NULL) {
        j->in_callback = true;
        j->snapshot_done(j->snapshot_ctx, j->snapshot_rc, j->snapshot_err.text);
        j->in_callback = false;
    }
    pump(j);
}

/* Only when its records are durable: a snapshot ahead of the journal would leave a gap behind it. */
static void start_snapshot(struct vdc_journal *j)
{
    if (!j->snapshot_busy || j->snapshot_started || j->durable < j->snapshot_sequence) {
        return;
    }
    j->snapshot_started = true;
    j->snapshot_err = (struct vdc_err){0};
    j->snapshot_work.data = j;
    VDC_ASSERT(uv_queue_work(j->loop, &j->snapshot_work, snapshot_job, snapshot_done) == 0);
}

enum vdc_rc vdc_journal_snapshot(struct vdc_journal *j, uint64_t sequence, struct vdc_buf *data,
                                 void (*done)(void *ctx, enum vdc_rc rc, const char *text),
                                 void *ctx)
{
    VDC_ASSERT(sequence <= j->appended && !j->closing);
    if (j->snapshot_busy) {
        return VDC_RC_CONFLICT;
    }
    j->snapshot_busy = true;
    j->snapshot_sequence = sequence;
    j->snapshot_new_mark = j->written_bytes;
    j->snapshot = *data;
    *data = (struct vdc_buf){0};
    j->snapshot_done = done;
    j->snapshot_ctx = ctx;
    pump(j);
    return VDC_RC_OK;
}

/* --- what to do next --- */

static void finish_close(struct vdc_journal *j)
{
    /* A batch that waits for space was never acknowledged, and never will be. */
    bool stuck = waits_for_spare(j) && j->spare_failed && !j->spare_busy;
    bool waits = j->snapshot_busy && (j->snapshot_started || !stuck);
    if (!j->closing || j->in_callback || j->writing != NULL || (j->head != NULL && !stuck) ||
        j->spare_busy || waits) {
        return;
    }
    while (j->head != NULL) {
        struct batch *batch = j->head;
        j->head = batch->next;
        batch_destroy(batch);
    }
    if (j->fd >= 0) {
        (void)close(j->fd);
    }
    if (j->spare_fd >= 0) {
        (void)close(j->spare_fd);
    }
    (void)close(j->dir_fd);
    (void)close(j->lock_fd);
    void (*on_closed)(void *ctx) = j->on_closed;
    void *ctx = j->closed_ctx;
    vdc_buf_deinit(&j->snapshot);
    free(j->dir);
    j->magic = 0;
    free(j);
    if (on_closed != NULL) {
        on_closed(ctx);
    }
}

static void pump(struct vdc_journal *j)
{
    start_write(j);
    start_spare(j);
    start_snapshot(j);
    finish_close(j);
}

/* --- appending --- */

static struct batch *growing_batch(struct vdc_journal *j, uint64_t sequence, uint64_t frame_bytes)
{
    struct batch *batch = j->last;
    bool full = j->tail + frame_bytes > j->segment_bytes && j->tail > VDC_JOURNAL_HEAD_BYTES;
    bool rotates = full || j->tail == 0;
    if (batch != NULL && !rotates && batch->waiters_len < BATCH_RECORDS_MAX) {
        return batch;
    }
    batch = VDC_NEW(struct batch);
    batch->first_sequence = sequence;
    batch->rotates = rotates;
    if (rotates) {
        j->salt = (uint32_t)vdc_prng_next(&j->salts);
        vdc_journal_head_encode(sequence, j->salt, &batch->bytes);
        j->tail = VDC_JOURNAL_HEAD_BYTES;
        j->queued_bytes += VDC_JOURNAL_HEAD_BYTES;
    } else {
        batch->offset = j->tail;
    }
    if (j->last != NULL) {
        j->last->next = batch;
    } else {
        j->head = batch;
    }
    j->last = batch;
    return batch;
}

void vdc_journal_append(struct vdc_journal *j, uint64_t sequence, const void *data, size_t len,
                        vdc_journal_durable_fn done, void *ctx)
{
    VDC_ASSERT(sequence == j->appended + 1 && !j->closing);
    uint64_t bytes = VDC_JOURNAL_FRAME_BYTES(len);
    struct batch *batch = growing_batch(j, sequence, bytes);
    vdc_journal_frame_encode(sequence, batch->first_sequence, j->salt, data, len, &batch->bytes);
    VDC_GROW(batch->waiters, batch->waiters_cap, batch->waiters_len + 1);
    batch->waiters[batch->waiters_len++] =
        (struct waiter){.sequence = sequence, .done = done, .ctx = ctx};
    j->appended = sequence;
    j->tail += bytes;
    j->queued_bytes += bytes;
    j->written_bytes += bytes;
    /* The answer to one acknowledgement is often the next request: all that are asked from within the
     * callbacks of one group shall be in the next, not one of them alone and the rest behind it. */
    if (!j->in_callback) {
        pump(j);
    }
}

/* Largest frame that is planned for; small segments (tests) bound their records with them. */
static uint64_t frame_bytes_max(const struct vdc_journal *j)
{
    return VDC_MIN(VDC_JOURNAL_FRAME_BYTES(VDC_JOURNAL_PAYLOAD_MAX), j->segment_bytes / 4);
}

enum vdc_rc vdc_journal_check_space(struct vdc_journal *j, struct vdc_err *err)
{
    uint64_t queue_max = VDC_MIN(VDC_JOURNAL_QUEUE_MAX, j->segment_bytes / 2);
    if (j->queued_bytes > queue_max) {
        return vdc_err_set(err, VDC_RC_LIMIT, "journal: %" PRIu64 " bytes wait for the disk",
                           j->queued_bytes);
    }
    /* The queue holds at most half a segment, so one spare is enough for all that it can need. */
    uint64_t left = j->tail == 0 || j->tail > j->segment_bytes ? 0 : j->segment_bytes - j->tail;
    bool waits = waits_for_spare(j);
    if (j->spare_fd >= 0 || (left >= frame_bytes_max(j) && !waits)) {
        return VDC_RC_OK;
    }
    start_spare(j);
    /* While a spare is being made, records may wait for it, unless the last try found no space. */
    if (!j->spare_failed) {
        return VDC_RC_OK;
    }
    return vdc_err_set(err, VDC_RC_NO_SPACE, "journal %s: %s", j->dir, j->spare_err.text);
}

uint64_t vdc_journal_durable(const struct vdc_journal *j)
{
    return j->durable;
}

uint64_t vdc_journal_replay_bytes(const struct vdc_journal *j)
{
    return j->written_bytes - j->snapshot_mark;
}

/* --- opening and closing --- */

static enum vdc_rc take_lock(struct vdc_journal *j, struct vdc_err *err)
{
    j->lock_fd = openat(j->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (j->lock_fd < 0) {
        return vdc_err_errno(err, errno, "open lock");
    }
    if (flock(j->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            return vdc_err_set(err, VDC_RC_CONFLICT, "another process has it open");
        }
        return vdc_err_errno(err, errno, "lock");
    }
    return VDC_RC_OK;
}

/* Opens the last segment and makes what lies behind its last record zero again. */
static enum vdc_rc open_tail(struct vdc_journal *j, const struct journal_tail *tail,
                             const struct vdc_journal_report *report, struct vdc_err *err)
{
    char name[JOURNAL_NAME_CAP];
    journal_segment_name(name, tail->segment_first);
    j->fd = openat(j->dir_fd, name, O_RDWR | O_CLOEXEC);
    if (j->fd < 0) {
        return vdc_err_errno(err, errno, "open %s", name);
    }
    enum vdc_rc rc = VDC_RC_OK;
    if (report->torn_bytes > 0) {
        rc = journal_zero(j->fd, tail->offset, tail->bytes, err);
        if (rc == VDC_RC_OK) {
            rc = journal_sync(j->fd, name, err);
        }
    }
    j->tail = tail->offset;
    j->salt = tail->salt;
    return rc == VDC_RC_OK ? rc : vdc_err_wrap(err, "cut the torn end of %s", name);
}

/* The spare that a first append needs, made now, so that a full disk is found at the start. */
static enum vdc_rc open_without_tail(struct vdc_journal *j, struct vdc_err *err)
{
    return journal_make_spare(j->dir_fd, j->segment_bytes, &j->spare_fd, err);
}

static void destroy_unopened(struct vdc_journal *j)
{
    const int fds[] = {j->fd, j->spare_fd, j->dir_fd, j->lock_fd};
    for (size_t i = 0; i < VDC_COUNT_OF(fds); i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    free(j->dir);
    free(j);
}

enum vdc_rc vdc_journal_open(struct vdc_journal **out, uv_loop_t *loop,
                             const struct vdc_journal_options *options,
                             struct vdc_journal_report *report, struct vdc_err *err)
{
    *out = NULL;
    *report = (struct vdc_journal_report){0};
    struct vdc_journal *j = VDC_NEW(struct vdc_journal);
    j->magic = MAGIC;
    j->loop = loop;
    j->dir = vdc_strdup(options->dir);
    vdc_prng_init(&j->salts, options->seed);
    j->segment_bytes =
        options->segment_bytes == 0 ? VDC_JOURNAL_SEGMENT_BYTES : options->segment_bytes;
    j->dir_fd = j->lock_fd = j->fd = j->spare_fd = j->rotated_fd = -1;
    struct journal_tail tail = {0};
    enum vdc_rc rc = journal_open_dir(options->dir, true, &j->dir_fd, err);
    if (rc == VDC_RC_OK) {
        rc = take_lock(j, err);
    }
    if (rc == VDC_RC_OK) {
        rc = journal_recover(j->dir_fd, options, &tail, report, err);
    }
    if (rc == VDC_RC_OK) {
        rc = tail.has_segment ? open_tail(j, &tail, report, err) : open_without_tail(j, err);
    }
    if (rc != VDC_RC_OK) {
        destroy_unopened(j);
        return vdc_err_wrap(err, "journal %s", options->dir);
    }
    j->appended = j->durable = tail.last_sequence;
    j->written_bytes = tail.replay_bytes;
    journal_drop_old(j->dir_fd, report->snapshot_sequence);
    *out = j;
    pump(j);
    return VDC_RC_OK;
}

void vdc_journal_close(struct vdc_journal *j, void (*on_closed)(void *ctx), void *ctx)
{
    VDC_ASSERT(!j->closing);
    j->closing = true;
    j->on_closed = on_closed;
    j->closed_ctx = ctx;
    pump(j);
}
