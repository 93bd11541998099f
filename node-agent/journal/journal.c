/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works. Records are encoded into *groups* as they come, under a mutex. A thread of the journal's
 * own, the writer, takes the oldest group, writes it, syncs it, hands it back, and takes the next: while
 * one group is on its way to the disk, the loop's thread fills the one behind it. Where a record falls
 * (which segment, which offset) is decided when it is appended, because it is then known: groups are
 * written in order and nothing else writes.
 *
 *     append -> [growing group] -> writer: write + sync -> [durable groups] -> callbacks in order
 *                                  (a group that begins a segment: into the spare file, then rename
 *                                   to its name and sync of the directory, so that a segment that
 *                                   has a name has a head)
 *
 * The spare segment is filled with zeros piece by piece, by jobs on libuv's pool. Pieces keep pace with
 * the records: shortly before a segment is full, its successor is ready; when nothing is to be written,
 * they follow one another. So a sync finds at most one of them before it. A snapshot is one job. Jobs touch only their own arguments; what the writer and the loop's thread share is marked.
 */
#include <vdc/journal.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/prng.h>

#include "journal_internal.h"

#define MAGIC UINT32_C(0x4c4e524a)
/* Between two tries to find space on a full disk. */
#define SPARE_RETRY_MS 100
/* Bytes of one piece of a spare: some 0.1 ms of a fast disk's time. */
#define SPARE_PIECE (UINT64_C(128) << 10)
/* Records of one group: bounds the callbacks of one turn of the loop. */
#define GROUP_RECORDS_MAX 4096
/* Least records of a group that is begun while callbacks run. */
#define EAGER_RECORDS_MIN 16
/* ... and at least one in so many of those that come during a sync. */
#define EAGER_PART 4
/* Weight of the newest measurement of how long a sync and a callback take: one in so many. */
#define SMOOTHING 8
/* A write ends at a multiple of this, filled with zeros: a part of a page that is not in memory would be
 * read first. */
#define PAGE 4096
/* Groups that are kept for use again. */
#define IDLE_GROUPS_MAX 4

struct waiter {
    uint64_t sequence;
    vdc_journal_durable_fn done;
    void *ctx;
};

struct group {
    struct vdc_buf bytes;
    size_t frames; /* bytes without the zeros at the end */
    uint64_t first_sequence;
    uint64_t offset; /* in its segment */
    bool rotates;    /* begins a new segment, offset 0 */
    struct waiter *waiters;
    size_t waiters_len;
    size_t waiters_cap;
    struct group *next;
};

struct group_queue {
    struct group *head;
    struct group *last;
};

struct vdc_journal {
    uint32_t magic;
    uv_loop_t *loop;
    char *path;
    struct journal_dir dir;
    int lock_fd;
    uint64_t segment_bytes;

    /* The loop's thread alone. */
    uint64_t appended; /* last sequence appended; >= durable */
    uint64_t durable;
    uint64_t written_bytes; /* of frames, ever */
    uint64_t snapshot_mark; /* written_bytes when the last snapshot was taken */
    struct vdc_prng salts;
    uint32_t salt; /* of the segment of the last group */
    uint64_t tail; /* where the next frame goes in the segment of the last group */
    struct group *idle;
    unsigned idle_len;
    uv_async_t written; /* the writer has handed groups back */

    struct journal_spare spare; /* being made */
    bool spare_busy;            /* a job has it */
    uint64_t spare_goal;        /* how far the job fills it */
    bool spare_failed;          /* the last try; until the next succeeds */
    uint64_t spare_failed_at_ms;
    struct vdc_err spare_err; /* of the last try that failed */
    uv_work_t spare_work;
    enum vdc_rc spare_rc; /* the job's */
    struct vdc_err spare_job_err;

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

    uint64_t tell_ns; /* how long a callback takes, smoothed */

    bool in_callback; /* the caller's code runs: nothing is freed under it */
    bool closing;
    bool closed;
    void (*on_closed)(void *ctx);
    void *closed_ctx;

    /* Shared with the writer, under the mutex. */
    uv_thread_t writer;
    uv_mutex_t mutex;
    uv_cond_t wake;
    struct group_queue queued;
    struct group_queue done;
    uint64_t queued_bytes;     /* of groups that are not durable */
    unsigned queued_rotations; /* groups in `queued` that begin a segment */
    bool writing;              /* the writer has a group */
    bool renaming;             /* ... which takes the spare, whose name still leads to it */
    bool held;                 /* callbacks run: the writer waits for so many records: */
    size_t eager_records;
    uint64_t sync_ns; /* how long a group takes to become durable, smoothed */
    bool stop;
    int spare_fd; /* -1: none */

    /* The writer's. */
    int fd; /* of the segment that is written; -1: none yet */
};

static void pump(struct vdc_journal *j);

/* What is on the disk is unknown now, and memory is ahead of it. The next start reads what is there;
 * going on could acknowledge what a crash would take back (a sync reports an error once). */
VDC_NORETURN static void die(const struct vdc_journal *j, const char *what,
                             const struct vdc_err *err)
{
    (void)fprintf(stderr, "journal %s: %s: %s -> end the process\n", j->path, what, err->text);
    abort();
}

VDC_NORETURN static void die_code(const struct vdc_journal *j, const char *what, int code)
{
    struct vdc_err err = {0};
    (void)vdc_err_errno(&err, -code, "%s", what);
    die(j, "write", &err);
}

static void group_destroy(struct group *group)
{
    vdc_buf_deinit(&group->bytes);
    free(group->waiters);
    free(group);
}

static void queue_push(struct group_queue *queue, struct group *group)
{
    group->next = NULL;
    if (queue->last != NULL) {
        queue->last->next = group;
    } else {
        queue->head = group;
    }
    queue->last = group;
}

static struct group *queue_pop(struct group_queue *queue)
{
    struct group *group = queue->head;
    if (group != NULL) {
        queue->head = group->next;
        queue->last = queue->head == NULL ? NULL : queue->last;
    }
    return group;
}

/* --- the writer --- */

/* Waits for a group; NULL: the journal is closed. Called and returning with the mutex held. */
static struct group *next_group(struct vdc_journal *j)
{
    for (;;) {
        const struct group *group = j->queued.head;
        if (j->stop) {
            return NULL;
        }
        if (group != NULL && !(group->rotates && j->spare_fd < 0) &&
            !(j->held && group->waiters_len < j->eager_records)) {
            return queue_pop(&j->queued);
        }
        uv_cond_wait(&j->wake, &j->mutex);
    }
}

/* Fills up to the end of a page. */
static void pad_group(const struct vdc_journal *j, struct group *group)
{
    uint64_t end = group->offset + group->bytes.len;
    uint64_t padded = VDC_MAX(end, VDC_MIN((end + PAGE - 1) / PAGE * PAGE, j->segment_bytes));
    size_t more = (size_t)(padded - end);
    group->frames = group->bytes.len;
    if (more > 0) {
        memset(vdc_buf_reserve(&group->bytes, more), 0, more);
        group->bytes.len += more;
        group->bytes.data[group->bytes.len] = 0;
    }
}

static void write_group(struct vdc_journal *j, struct group *group, int fd)
{
    const struct vdc_journal_disk *disk = j->dir.disk;
    struct vdc_err err = {0};
    pad_group(j, group);
    if (journal_write_all(disk, fd, group->bytes.data, group->bytes.len, group->offset, &err) !=
        VDC_RC_OK) {
        die(j, "write", &err);
    }
    int code = disk->sync(disk->ctx, fd);
    if (code < 0) {
        die_code(j, "sync a segment", code);
    }
    if (group->rotates) {
        char name[JOURNAL_NAME_CAP];
        journal_segment_name(name, group->first_sequence);
        code = disk->rename(disk->ctx, j->dir.fd, JOURNAL_SPARE, name);
        code = code < 0 ? code : disk->sync_dir(disk->ctx, j->dir.fd);
        if (code < 0) {
            die_code(j, "begin a segment", code);
        }
    }
}

static uint64_t smooth(uint64_t before, uint64_t now)
{
    return before == 0 ? now : (before * (SMOOTHING - 1) + now) / SMOOTHING;
}

static void writer_main(void *arg)
{
    struct vdc_journal *j;
    VDC_CAST(j, arg, MAGIC);
    uv_mutex_lock(&j->mutex);
    for (struct group *group; (group = next_group(j)) != NULL;) {
        int before = j->fd;
        if (group->rotates) {
            j->fd = j->spare_fd;
            j->spare_fd = -1;
            j->renaming = true;
            j->queued_rotations--;
        }
        j->writing = true;
        uv_mutex_unlock(&j->mutex);
        uint64_t begun = uv_hrtime();
        write_group(j, group, j->fd);
        uint64_t spent = uv_hrtime() - begun;
        if (group->rotates && before >= 0) {
            j->dir.disk->close(j->dir.disk->ctx, before);
        }
        uv_mutex_lock(&j->mutex);
        j->sync_ns = smooth(j->sync_ns, spent);
        j->writing = false;
        j->renaming = false;
        j->queued_bytes -= group->frames;
        queue_push(&j->done, group);
        VDC_ASSERT(uv_async_send(&j->written) == 0);
    }
    uv_mutex_unlock(&j->mutex);
}

static void recycle_group(struct vdc_journal *j, struct group *group)
{
    if (j->idle_len == IDLE_GROUPS_MAX) {
        group_destroy(group);
        return;
    }
    vdc_buf_clear(&group->bytes);
    group->waiters_len = 0;
    group->next = j->idle;
    j->idle = group;
    j->idle_len++;
}

/* All of a group is durable, so all of it is before the first callback: the last one may speak for the
 * others. */
static void tell_group(struct vdc_journal *j, const struct group *group)
{
    j->durable = group->waiters[group->waiters_len - 1].sequence;
    for (size_t i = 0; i < group->waiters_len; i++) {
        const struct waiter *waiter = &group->waiters[i];
        if (waiter->done != NULL) {
            waiter->done(waiter->ctx, waiter->sequence);
        }
    }
}

/* The answer to one acknowledgement is often the next request, so a group fills while callbacks run. Is
 * the disk slower than they are, the writer waits for their end: all requests shall share one sync, not
 * the first have one for itself and the rest stand behind it. Is it faster, it would idle meanwhile: then
 * it begins with a part of the records that come during one sync. So it never waits long, and while it
 * is busy groups grow by themselves. (A quarter gave 15 % more than all of them.) */
static size_t eager_records(const struct vdc_journal *j, uint64_t sync_ns)
{
    uint64_t outstanding = j->appended - j->durable;
    uint64_t during_sync = sync_ns / VDC_MAX(j->tell_ns, 1);
    return during_sync >= outstanding
               ? SIZE_MAX
               : VDC_MAX((size_t)during_sync / EAGER_PART, (size_t)EAGER_RECORDS_MIN);
}

static void tell_groups(struct vdc_journal *j, struct group_queue *done)
{
    uint64_t begun = uv_hrtime();
    uint64_t records = 0;
    j->in_callback = true;
    for (struct group *group; (group = queue_pop(done)) != NULL;) {
        records += group->waiters_len;
        tell_group(j, group);
        recycle_group(j, group);
    }
    j->in_callback = false;
    if (records > 0) {
        j->tell_ns = smooth(j->tell_ns, (uv_hrtime() - begun) / records);
    }
}

static void on_written(uv_async_t *async)
{
    struct vdc_journal *j;
    VDC_CAST(j, async->data, MAGIC);
    uv_mutex_lock(&j->mutex);
    struct group_queue done = j->done;
    j->done = (struct group_queue){0};
    j->held = true;
    j->eager_records = eager_records(j, j->sync_ns);
    uv_mutex_unlock(&j->mutex);
    tell_groups(j, &done);
    uv_mutex_lock(&j->mutex);
    j->held = false;
    uv_cond_signal(&j->wake);
    uv_mutex_unlock(&j->mutex);
    if (j->durable == j->appended) {
        uv_unref((uv_handle_t *)&j->written);
    }
    pump(j);
}

/* --- the spare segment --- */

struct progress {
    bool renaming; /* JOURNAL_SPARE still is the name of the segment that is written */
    bool has_spare;
    bool waits; /* a group cannot be written before there is a spare ... */
    bool stuck; /* ... and nothing else is under way */
    bool busy;  /* something is to be written */
};

static struct progress look(struct vdc_journal *j)
{
    uv_mutex_lock(&j->mutex);
    const struct group *head = j->queued.head;
    bool has_spare = j->spare_fd >= 0;
    struct progress now = {
        .renaming = j->renaming,
        .has_spare = has_spare,
        .waits = j->queued_rotations > 0 && !has_spare,
        .stuck = !j->writing && j->done.head == NULL && head != NULL && head->rotates && !has_spare,
        .busy = j->writing || head != NULL,
    };
    uv_mutex_unlock(&j->mutex);
    return now;
}

static void spare_job(uv_work_t *work)
{
    struct vdc_journal *j;
    VDC_CAST(j, work->data, MAGIC);
    if (j->spare_failed && j->spare.fd < 0) {
        /* Records may wait for space: try at a pace that a full disk can bear. */
        (void)usleep(SPARE_RETRY_MS * 1000);
    }
    do {
        j->spare_rc = journal_fill_spare(&j->dir, &j->spare, SPARE_PIECE, &j->spare_job_err);
    } while (j->spare_rc == VDC_RC_OK && !j->spare.ready && j->spare.filled < j->spare_goal);
}

static void give_spare(struct vdc_journal *j)
{
    uv_mutex_lock(&j->mutex);
    j->spare_fd = j->spare.fd;
    uv_cond_signal(&j->wake);
    uv_mutex_unlock(&j->mutex);
    j->spare.fd = -1;
    j->spare.ready = false;
}

static void spare_done(uv_work_t *work, int status)
{
    struct vdc_journal *j;
    VDC_CAST(j, work->data, MAGIC);
    VDC_ASSERT(status == 0);
    j->spare_busy = false;
    if (j->spare_rc == VDC_RC_NO_SPACE) {
        j->spare_failed = true;
        j->spare_failed_at_ms = uv_now(j->loop);
        j->spare_err = j->spare_job_err;
    } else if (j->spare_rc != VDC_RC_OK) {
        die(j, "make a segment", &j->spare_job_err);
    } else if (j->spare.ready) {
        j->spare_failed = false;
        give_spare(j);
    }
    pump(j);
}

static void start_spare(struct vdc_journal *j)
{
    struct progress now = look(j);
    /* Until a rotating write has renamed the spare that it took, the name still leads to that file: a
     * new spare would truncate and zero the segment that is being written. */
    if (now.renaming || now.has_spare || j->spare_busy ||
        (j->closing && (!now.waits || j->spare_failed))) {
        return;
    }
    if (j->spare_failed && j->spare.fd < 0 && !now.waits &&
        uv_now(j->loop) - j->spare_failed_at_ms < SPARE_RETRY_MS) {
        return;
    }
    /* A bit faster than the records. At full speed, the syncs of a whole segment's groups would stand
     * behind zeros; evenly, each has a bit of them before it. */
    j->spare_goal = now.waits ? j->segment_bytes : j->tail + j->tail / 8;
    if (j->spare.fd >= 0 && now.busy && !now.waits && j->spare.filled > j->spare_goal) {
        return; /* ahead of the records */
    }
    j->spare_busy = true;
    j->spare_work.data = j;
    VDC_ASSERT(uv_queue_work(j->loop, &j->spare_work, spare_job, spare_done) == 0);
}

/* --- snapshot --- */

static void snapshot_job(uv_work_t *work)
{
    struct vdc_journal *j;
    VDC_CAST(j, work->data, MAGIC);
    j->snapshot_rc = journal_write_snapshot(&j->dir, j->snapshot_sequence, j->snapshot.data,
                                            j->snapshot.len, &j->snapshot_err);
    if (j->snapshot_rc == VDC_RC_OK) {
        journal_drop_old(&j->dir, j->snapshot_sequence);
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

static void free_journal(uv_handle_t *handle)
{
    struct vdc_journal *j;
    VDC_CAST(j, handle->data, MAGIC);
    void (*on_closed)(void *ctx) = j->on_closed;
    void *ctx = j->closed_ctx;
    uv_cond_destroy(&j->wake);
    uv_mutex_destroy(&j->mutex);
    j->magic = 0;
    free(j->path);
    free(j);
    if (on_closed != NULL) {
        on_closed(ctx);
    }
}

static void destroy_groups(struct group *group)
{
    while (group != NULL) {
        struct group *next = group->next;
        group_destroy(group);
        group = next;
    }
}

/* Files and memory; the writer is gone or never was. */
static void release(struct vdc_journal *j)
{
    const int fds[] = {j->fd, j->spare_fd, j->spare.fd, j->lock_fd};
    for (size_t i = 0; i < VDC_COUNT_OF(fds); i++) {
        if (fds[i] >= 0) {
            j->dir.disk->close(j->dir.disk->ctx, fds[i]);
        }
    }
    journal_close_dir(&j->dir);
    destroy_groups(j->queued.head);
    destroy_groups(j->idle);
    vdc_buf_deinit(&j->snapshot);
}

static void finish_close(struct vdc_journal *j)
{
    if (!j->closing || j->closed || j->in_callback || j->spare_busy) {
        return;
    }
    /* A group that waits for space was never acknowledged, and never will be. */
    bool stuck = j->spare_failed && look(j).stuck;
    bool snapshot_waits = j->snapshot_busy && (j->snapshot_started || !stuck);
    if ((j->durable != j->appended && !stuck) || snapshot_waits) {
        return;
    }
    j->closed = true;
    uv_mutex_lock(&j->mutex);
    j->stop = true;
    uv_cond_signal(&j->wake);
    uv_mutex_unlock(&j->mutex);
    VDC_ASSERT(uv_thread_join(&j->writer) == 0);
    release(j);
    uv_close((uv_handle_t *)&j->written, free_journal);
}

static void pump(struct vdc_journal *j)
{
    start_spare(j);
    start_snapshot(j);
    finish_close(j);
}

/* --- appending --- */

/* The mutex is held. */
static struct group *growing_group(struct vdc_journal *j, uint64_t sequence, uint64_t frame_bytes)
{
    struct group *group = j->queued.last;
    bool full = j->tail + frame_bytes > j->segment_bytes && j->tail > VDC_JOURNAL_HEAD_BYTES;
    bool rotates = full || j->tail == 0;
    if (group != NULL && !rotates && group->waiters_len < GROUP_RECORDS_MAX) {
        return group;
    }
    group = j->idle;
    if (group != NULL) {
        j->idle = group->next;
        j->idle_len--;
    } else {
        group = VDC_NEW(struct group);
    }
    group->first_sequence = sequence;
    group->rotates = rotates;
    group->offset = rotates ? 0 : j->tail;
    if (rotates) {
        j->salt = (uint32_t)vdc_prng_next(&j->salts);
        vdc_journal_head_encode(sequence, j->salt, &group->bytes);
        j->tail = VDC_JOURNAL_HEAD_BYTES;
        j->queued_bytes += VDC_JOURNAL_HEAD_BYTES;
        j->queued_rotations++;
    }
    queue_push(&j->queued, group);
    return group;
}

void vdc_journal_append(struct vdc_journal *j, uint64_t sequence, const void *data, size_t len,
                        vdc_journal_durable_fn done, void *ctx)
{
    VDC_ASSERT(sequence == j->appended + 1 && !j->closing);
    uint64_t bytes = VDC_JOURNAL_FRAME_BYTES(len);
    uv_mutex_lock(&j->mutex);
    struct group *group = growing_group(j, sequence, bytes);
    vdc_journal_frame_encode(sequence, group->first_sequence, j->salt, data, len, &group->bytes);
    VDC_GROW(group->waiters, group->waiters_cap, group->waiters_len + 1);
    group->waiters[group->waiters_len++] =
        (struct waiter){.sequence = sequence, .done = done, .ctx = ctx};
    j->queued_bytes += bytes;
    if (!j->writing && (!j->held || group->waiters_len == j->eager_records)) {
        uv_cond_signal(&j->wake);
    }
    uv_mutex_unlock(&j->mutex);
    if (j->durable == j->appended) {
        uv_ref((uv_handle_t *)&j->written);
    }
    j->appended = sequence;
    j->tail += bytes;
    j->written_bytes += bytes;
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
    uv_mutex_lock(&j->mutex);
    uint64_t queued = j->queued_bytes;
    bool has_spare = j->spare_fd >= 0;
    bool waits = j->queued_rotations > 0 && !has_spare;
    uv_mutex_unlock(&j->mutex);
    /* What waits for space says so, however much it is. */
    if (queued > queue_max && !(waits && j->spare_failed)) {
        return vdc_err_set(err, VDC_RC_LIMIT, "journal: %" PRIu64 " bytes wait for the disk",
                           queued);
    }
    /* The queue holds at most half a segment, so one spare is enough for all that it can need. */
    uint64_t left = j->tail == 0 || j->tail > j->segment_bytes ? 0 : j->segment_bytes - j->tail;
    if (has_spare || (left >= frame_bytes_max(j) && !waits)) {
        return VDC_RC_OK;
    }
    start_spare(j);
    /* While a spare is being made, records may wait for it, unless the last try found no space. */
    if (!j->spare_failed) {
        return VDC_RC_OK;
    }
    return vdc_err_set(err, VDC_RC_NO_SPACE,
                       "journal %s: %s; make room there for %" PRIu64
                       " KiB: it is tried again by itself, and nothing is lost",
                       j->path, j->spare_err.text, j->segment_bytes >> 10);
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
    j->lock_fd = j->dir.disk->lock(j->dir.disk->ctx, j->dir.fd);
    if (j->lock_fd == -EWOULDBLOCK) {
        return vdc_err_set(err, VDC_RC_CONFLICT, "another process has it open");
    }
    return j->lock_fd >= 0 ? VDC_RC_OK : vdc_err_errno(err, -j->lock_fd, "lock");
}

/* Opens the last segment and makes what lies behind its last record zero again. */
static enum vdc_rc open_tail(struct vdc_journal *j, const struct journal_tail *tail,
                             const struct vdc_journal_report *report, struct vdc_err *err)
{
    const struct vdc_journal_disk *disk = j->dir.disk;
    char name[JOURNAL_NAME_CAP];
    journal_segment_name(name, tail->segment_first);
    j->fd = disk->open(disk->ctx, j->dir.fd, name, false);
    int code = VDC_MIN(j->fd, 0);
    if (code == 0 && report->torn_bytes > 0) {
        code = disk->zero(disk->ctx, j->fd, tail->offset, tail->bytes);
        code = code < 0 ? code : disk->sync(disk->ctx, j->fd);
    }
    j->tail = tail->offset;
    j->salt = tail->salt;
    return code == 0 ? VDC_RC_OK : vdc_err_errno(err, -code, "cut the torn end of %s", name);
}

/* The spare that a first append needs, made now, so that a full disk is found at the start. */
static enum vdc_rc open_without_tail(struct vdc_journal *j, struct vdc_err *err)
{
    enum vdc_rc rc = journal_fill_spare(&j->dir, &j->spare, j->segment_bytes, err);
    if (rc == VDC_RC_OK) {
        j->spare_fd = j->spare.fd;
        j->spare.fd = -1;
        j->spare.ready = false;
    }
    return rc;
}

static enum vdc_rc open_files(struct vdc_journal *j, const struct vdc_journal_options *options,
                              struct journal_tail *tail, struct vdc_journal_report *report,
                              struct vdc_err *err)
{
    enum vdc_rc rc = journal_open_dir(options, true, &j->dir, err);
    if (rc == VDC_RC_OK) {
        rc = take_lock(j, err);
    }
    if (rc == VDC_RC_OK) {
        rc = journal_recover(&j->dir, options, tail, report, err);
    }
    if (rc == VDC_RC_OK) {
        rc = tail->has_segment ? open_tail(j, tail, report, err) : open_without_tail(j, err);
    }
    return rc;
}

static void start_writer(struct vdc_journal *j)
{
    VDC_ASSERT(uv_mutex_init(&j->mutex) == 0);
    VDC_ASSERT(uv_cond_init(&j->wake) == 0);
    VDC_ASSERT(uv_async_init(j->loop, &j->written, on_written) == 0);
    j->written.data = j;
    /* It keeps the loop running only while something is to be told. */
    uv_unref((uv_handle_t *)&j->written);
    VDC_ASSERT(uv_thread_create(&j->writer, writer_main, j) == 0);
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
    j->path = vdc_strdup(options->dir);
    vdc_prng_init(&j->salts, options->seed);
    j->segment_bytes =
        options->segment_bytes == 0 ? VDC_JOURNAL_SEGMENT_BYTES : options->segment_bytes;
    j->dir.fd = j->lock_fd = j->fd = j->spare_fd = -1;
    j->spare = (struct journal_spare){.fd = -1, .bytes = j->segment_bytes};
    struct journal_tail tail = {0};
    enum vdc_rc rc = open_files(j, options, &tail, report, err);
    if (rc != VDC_RC_OK) {
        release(j);
        free(j->path);
        free(j);
        return vdc_err_wrap(err, "journal %s", options->dir);
    }
    j->appended = j->durable = tail.last_sequence;
    j->written_bytes = tail.replay_bytes;
    journal_drop_old(&j->dir, report->snapshot_sequence);
    start_writer(j);
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
