/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery: newest snapshot, then each segment in order, each frame's sequence exactly one more than
 * the last. What can be found, and what it means:
 *
 *     zeros up to the end                     the segment's end
 *     no frame, in the last segment, and no   a torn write: nobody was told that it was durable;
 *     later batch behind it                   cut (by the driver, when it opens for writing)
 *     no frame, and a later batch behind it,  damage: something that was durable is gone; refuse
 *     or it is not the last segment           with file and offset, change nothing
 *     a segment begins too late               damage: a file is missing
 *
 * A thread of its own reads the segments and judges all this, another replays (journal_ahead.h).
 */
#include "journal_ahead.h"

#include <inttypes.h>
#include <string.h>

#include <vdc/base.h>

/* Bytes of a file that recovery maps: the largest snapshot; segments are far smaller. */
#define FILE_BYTES_MAX (UINT64_C(1) << 30)

static void unmap_file(const struct journal_dir *dir, struct journal_mapping *map)
{
    dir->disk->unmap(dir->disk->ctx, map->data, map->len);
}

static enum vdc_rc map_file(const struct journal_dir *dir, const char *name,
                            struct journal_mapping *map, struct vdc_err *err)
{
    int rc = dir->disk->map(dir->disk->ctx, dir->fd, name, &map->data, &map->len);
    if (rc < 0) {
        return vdc_err_errno(err, -rc, "read %s", name);
    }
    if (map->len > FILE_BYTES_MAX) {
        unmap_file(dir, map);
        return vdc_err_set(err, VDC_RC_TOO_LARGE, "%s: %zu bytes", name, map->len);
    }
    return VDC_RC_OK;
}

struct recovery {
    const struct journal_dir *dir;
    const struct vdc_journal_options *options;
    struct journal_tail *tail;
    struct vdc_journal_report *report;
    struct vdc_err *err;
    struct vdc_err read_err; /* of the reading thread, as all that follows until it has ended */
    enum vdc_rc read_rc;
    const struct journal_listing *listing;
    uint64_t expected; /* sequence of the next frame; 0: whatever the first segment begins with */
    uint64_t segment;  /* the one that is being read */
    struct ahead_batch *batch; /* being filled; NULL: none */
    struct journal_ahead ahead;
};

static enum vdc_rc recover_snapshot(struct recovery *r, uint64_t sequence)
{
    char name[JOURNAL_NAME_CAP];
    journal_snapshot_name(name, sequence);
    struct journal_mapping map;
    enum vdc_rc rc = map_file(r->dir, name, &map, r->err);
    if (rc == VDC_RC_OK) {
        rc = r->options->on_snapshot(r->options->ctx, sequence, map.len == 0 ? "" : map.data,
                                     map.len, r->err);
        rc = rc == VDC_RC_OK ? rc : vdc_err_wrap(r->err, "%s", name);
        unmap_file(r->dir, &map);
    }
    r->report->snapshot_sequence = sequence;
    r->tail->last_sequence = sequence;
    return rc;
}

/* --- the reading thread --- */

/* A batch with room; false: the replay has failed, nothing more is needed. */
static bool has_room(struct recovery *r)
{
    if (r->batch == NULL) {
        r->batch = journal_ahead_begin(&r->ahead, r->segment);
    }
    return r->batch != NULL;
}

static void hand_over(struct recovery *r)
{
    r->batch = NULL;
    journal_ahead_hand_over(&r->ahead);
}

static enum vdc_rc take_frame(struct recovery *r, const struct vdc_journal_frame *frame)
{
    r->expected = frame->sequence + 1;
    if (frame->sequence <= r->report->snapshot_sequence) {
        return VDC_RC_OK;
    }
    if (!has_room(r)) {
        return VDC_RC_CANCELLED;
    }
    r->batch->frames[r->batch->len++] = *frame;
    if (r->batch->len == AHEAD_FRAMES) {
        hand_over(r);
    }
    return VDC_RC_OK;
}

/* Behind the frames that lie in it. */
static void release(struct recovery *r, struct journal_mapping *map)
{
    if (has_room(r)) {
        r->batch->map = *map;
        hand_over(r);
    } else {
        unmap_file(r->dir, map);
    }
}

static enum vdc_rc damaged(struct recovery *r, const char *name, uint64_t offset, const char *what)
{
    return vdc_err_set(&r->read_err, VDC_RC_CORRUPT,
                       "%s at %" PRIu64 ": %s (expected record %" PRIu64 ")", name, offset, what,
                       r->expected);
}

/* Bytes up to the last one that is not zero. */
static uint64_t used_bytes(const struct journal_mapping *map)
{
    const uint8_t *bytes = map->data;
    uint64_t len = map->len;
    while (len > 0 && bytes[len - 1] == 0) {
        len--;
    }
    return len;
}

static enum vdc_rc read_frames(struct recovery *r, const char *name,
                               const struct journal_mapping *map, uint32_t salt, bool is_last,
                               uint64_t *offset)
{
    for (;;) {
        struct vdc_journal_frame frame;
        enum vdc_rc rc;
        switch (vdc_journal_scan_frame(map->data, map->len, *offset, r->expected, salt, &frame)) {
        case VDC_JOURNAL_FRAME:
            rc = take_frame(r, &frame);
            if (rc != VDC_RC_OK) {
                return rc;
            }
            *offset = frame.next;
            continue;
        case VDC_JOURNAL_END:
            return VDC_RC_OK;
        case VDC_JOURNAL_TORN:
            if (!is_last) {
                return damaged(r, name, *offset, "not a record, and a later segment follows");
            }
            r->report->torn_bytes = used_bytes(map) - *offset;
            r->report->torn_offset = *offset;
            vdc_str_set(r->report->torn_file, sizeof(r->report->torn_file), name);
            return VDC_RC_OK;
        case VDC_JOURNAL_DAMAGE:
            return damaged(r, name, *offset, "not a record, and later ones follow");
        }
    }
}

static enum vdc_rc read_segment(struct recovery *r, uint64_t begins, const char *name,
                                const struct journal_mapping *map, bool is_last)
{
    uint64_t first = 0;
    uint32_t salt = 0;
    enum vdc_rc rc = vdc_journal_head_decode(map->data, map->len, &first, &salt);
    if (rc != VDC_RC_OK || first != begins) {
        return vdc_err_set(&r->read_err, rc == VDC_RC_OK ? VDC_RC_CORRUPT : rc,
                           "%s at 0: not a segment's head of this version", name);
    }
    bool follows = r->expected == 0
                       ? first <= r->report->snapshot_sequence + 1
                       : first == r->expected ||
                             (first <= r->report->snapshot_sequence + 1 && first > r->expected);
    if (!follows) {
        return damaged(r, name, 0, "records before this segment are missing");
    }
    r->expected = first;
    uint64_t offset = VDC_JOURNAL_HEAD_BYTES;
    rc = read_frames(r, name, map, salt, is_last, &offset);
    if (rc == VDC_RC_OK && is_last) {
        r->tail->has_segment = true;
        r->tail->segment_first = first;
        r->tail->salt = salt;
        r->tail->offset = offset;
        r->tail->bytes = map->len;
    }
    return rc;
}

static enum vdc_rc read_segments(struct recovery *r)
{
    for (size_t i = 0; i < r->listing->segments_len; i++) {
        char name[JOURNAL_NAME_CAP];
        struct journal_mapping map;
        r->segment = r->listing->segments[i];
        journal_segment_name(name, r->segment);
        enum vdc_rc rc = map_file(r->dir, name, &map, &r->read_err);
        if (rc == VDC_RC_OK) {
            bool is_last = i + 1 == r->listing->segments_len;
            rc = read_segment(r, r->segment, name, &map, is_last);
            release(r, &map);
        }
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    /* The segment ends before the snapshot (its end was lost, the snapshot was not): the records to
     * come would not follow there. */
    if (r->tail->has_segment && r->expected <= r->report->snapshot_sequence) {
        r->tail->has_segment = false;
    }
    return VDC_RC_OK;
}

static void reader_main(void *arg)
{
    struct recovery *r = arg;
    r->read_rc = read_segments(r);
    journal_ahead_end(&r->ahead);
}

/* --- the replaying thread --- */

static enum vdc_rc replay_batch(struct recovery *r, const struct ahead_batch *batch)
{
    enum vdc_rc rc = VDC_RC_OK;
    for (uint32_t i = 0; rc == VDC_RC_OK && i < batch->len; i++) {
        const struct vdc_journal_frame *frame = &batch->frames[i];
        r->report->records++;
        r->tail->last_sequence = frame->sequence;
        r->tail->replay_bytes += frame->next - frame->offset;
        rc = r->options->on_record(r->options->ctx, frame->sequence, frame->payload, frame->len,
                                   r->err);
        if (rc != VDC_RC_OK) {
            char name[JOURNAL_NAME_CAP];
            journal_segment_name(name, batch->segment);
            rc = vdc_err_wrap(r->err, "%s at %" PRIu64, name, frame->offset);
        }
    }
    return rc;
}

/* What was read before damage is replayed, and what cannot be replayed is reported first, as if there
 * were one thread. */
static enum vdc_rc recover_segments(struct recovery *r)
{
    uv_thread_t reader;
    struct ahead_batch *batch;
    enum vdc_rc rc = VDC_RC_OK;
    journal_ahead_init(&r->ahead);
    VDC_ASSERT(uv_thread_create(&reader, reader_main, r) == 0);
    while ((batch = journal_ahead_wait(&r->ahead)) != NULL) {
        if (rc == VDC_RC_OK) {
            rc = replay_batch(r, batch);
            if (rc != VDC_RC_OK) {
                journal_ahead_stop(&r->ahead);
            }
        }
        if (batch->map.data != NULL) {
            unmap_file(r->dir, &batch->map);
        }
        journal_ahead_give_back(&r->ahead);
    }
    VDC_ASSERT(uv_thread_join(&reader) == 0);
    journal_ahead_deinit(&r->ahead);
    if (rc == VDC_RC_OK && r->read_rc != VDC_RC_OK && r->err != NULL) {
        *r->err = r->read_err;
    }
    return rc == VDC_RC_OK ? r->read_rc : rc;
}

enum vdc_rc journal_recover(const struct journal_dir *dir,
                            const struct vdc_journal_options *options, struct journal_tail *tail,
                            struct vdc_journal_report *report, struct vdc_err *err)
{
    *tail = (struct journal_tail){0};
    *report = (struct vdc_journal_report){0};
    struct journal_listing listing;
    struct recovery *r = VDC_NEW(struct recovery);
    r->dir = dir;
    r->options = options;
    r->tail = tail;
    r->report = report;
    r->err = err;
    r->listing = &listing;
    enum vdc_rc rc = journal_list(dir, &listing, err);
    if (rc == VDC_RC_OK && listing.snapshots_len > 0) {
        rc = recover_snapshot(r, listing.snapshots[listing.snapshots_len - 1]);
    }
    if (rc == VDC_RC_OK && listing.segments_len > 0) {
        rc = recover_segments(r);
    }
    free(r);
    report->last_sequence = tail->last_sequence;
    journal_listing_deinit(&listing);
    return rc;
}

enum vdc_rc vdc_journal_verify(const struct vdc_journal_options *options,
                               struct vdc_journal_report *report, struct vdc_err *err)
{
    struct journal_dir dir;
    struct journal_tail tail;
    *report = (struct vdc_journal_report){0};
    enum vdc_rc rc = journal_open_dir(options, false, &dir, err);
    if (rc == VDC_RC_OK) {
        rc = journal_recover(&dir, options, &tail, report, err);
        journal_close_dir(&dir);
    }
    return rc == VDC_RC_OK ? rc : vdc_err_wrap(err, "journal %s", options->dir);
}
