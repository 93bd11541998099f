/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal driver: puts the allocation database's records on the local disk and reads them back
 * at the start. It knows nothing of what is in a record. One per agent, used from the loop's
 * thread; a thread of its own writes and syncs, segments and snapshots are made on libuv's pool.
 *
 * Directory: `journal-<first sequence>.log` segments (journal_format.h), zero-filled ahead of use,
 * and `snapshot-<sequence>.snap`; `lock` keeps a second agent out. Group commit: while one group is
 * being made durable, further records queue; the next write takes all of them: one write and one
 * fdatasync for each group. All calls of the file system go through vdc/journal_disk.h.
 *
 * A sync or write error other than a full disk ends the process (what is on disk is then unknown;
 * the supervisor's restart reads it). A full disk is found before a record is accepted, because
 * segments are zero-filled ahead: vdc_journal_check_space says so, and reads go on.
 */
#ifndef VDC_JOURNAL_H
#define VDC_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include <vdc/buf.h>
#include <vdc/err.h>
#include <vdc/journal_disk.h>
#include <vdc/rc.h>

/* Bytes of a segment: some 300,000 small records; zero-filling one takes a fraction of a second. */
#define VDC_JOURNAL_SEGMENT_BYTES (UINT64_C(16) << 20)
/* Bytes queued and not durable; beyond, vdc_journal_append says LIMIT. */
#define VDC_JOURNAL_QUEUE_MAX (UINT64_C(8) << 20)

struct vdc_journal;

struct vdc_journal_options {
    const char *dir;        /* made if absent (0700) */
    uint64_t segment_bytes; /* 0: VDC_JOURNAL_SEGMENT_BYTES; tests use small ones */
    uint64_t seed;          /* random, of the segments' salts (journal_format.h); tests: 0 */
    const struct vdc_journal_disk *disk; /* NULL: the real one; outlives the journal */
    /* Recovery, in this order, from within vdc_journal_open: the newest snapshot, if there is one,
     * then each record behind it. Not OK ends the opening with that code. */
    enum vdc_rc (*on_snapshot)(void *ctx, uint64_t sequence, const void *data, size_t len,
                               struct vdc_err *err);
    enum vdc_rc (*on_record)(void *ctx, uint64_t sequence, const void *data, size_t len,
                             struct vdc_err *err);
    void *ctx;
};

struct vdc_journal_report {
    uint64_t snapshot_sequence; /* 0: none */
    uint64_t last_sequence;     /* 0: nothing at all */
    uint64_t records;           /* replayed */
    uint64_t torn_bytes;        /* cut from the tail; 0: clean */
    char torn_file[64];         /* name in the directory */
    uint64_t torn_offset;
};

/* Opens and recovers (blocking: before the loop runs). CORRUPT with file and offset: damage that is
 * not a torn tail; nothing was changed. CONFLICT: another process has it open. NO_SPACE. */
enum vdc_rc vdc_journal_open(struct vdc_journal **journal, uv_loop_t *loop,
                             const struct vdc_journal_options *options,
                             struct vdc_journal_report *report, struct vdc_err *err) VDC_MUST_USE;
/* Reads as vdc_journal_open does, changes nothing, takes no lock (--inspect). */
enum vdc_rc vdc_journal_verify(const struct vdc_journal_options *options,
                               struct vdc_journal_report *report, struct vdc_err *err) VDC_MUST_USE;

/* Called once per record, in order, when it is durable. Records become durable in groups:
 * vdc_journal_durable may be further on already. */
typedef void (*vdc_journal_durable_fn)(void *ctx, uint64_t sequence);

/* OK: a record of any size will be accepted. NO_SPACE: the disk is full (tried anew at each call,
 * at most every 100 ms of the loop's time); LIMIT: too much is queued. Ask before
 * vdc_allocdb_commit. */
enum vdc_rc vdc_journal_check_space(struct vdc_journal *journal, struct vdc_err *err);
/* Queues a record (copied). sequence == last + 1. After vdc_journal_check_space said OK in the same
 * turn of the loop it cannot fail. done may be NULL. */
void vdc_journal_append(struct vdc_journal *journal, uint64_t sequence, const void *data,
                        size_t len, vdc_journal_durable_fn done, void *ctx);
/* The last sequence that is durable. */
uint64_t vdc_journal_durable(const struct vdc_journal *journal);
/* Bytes of journal behind the last snapshot: what a recovery would replay. */
uint64_t vdc_journal_replay_bytes(const struct vdc_journal *journal);

/* Makes `data` (taken: emptied) durable as the snapshot of `sequence` (<= last appended), then
 * drops the segments and snapshots that it replaces. One at a time: CONFLICT while one is under
 * way. A full disk is reported to done and harms nothing. */
enum vdc_rc vdc_journal_snapshot(struct vdc_journal *journal, uint64_t sequence,
                                 struct vdc_buf *data,
                                 void (*done)(void *ctx, enum vdc_rc rc, const char *text),
                                 void *ctx) VDC_MUST_USE;

/* Waits for what is queued, then closes (the loop must still run); on_closed may be NULL. What waits for
 * space on a full disk is given up: nobody was told that it was durable. */
void vdc_journal_close(struct vdc_journal *journal, void (*on_closed)(void *ctx), void *ctx);

#endif
