/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the journal's directory, shared by the driver and recovery. Everything here blocks.
 */
#ifndef VDC_JOURNAL_INTERNAL_H
#define VDC_JOURNAL_INTERNAL_H

#include <vdc/journal.h>
#include <vdc/journal_format.h>

#define JOURNAL_NAME_CAP 64
#define JOURNAL_SPARE "spare.log"

struct journal_segment {
    uint64_t first_sequence;
    uint64_t bytes; /* of the file */
};

/* What lies in the directory, ascending. */
struct journal_listing {
    struct journal_segment *segments;
    size_t segments_len;
    size_t segments_cap;
    uint64_t *snapshots; /* sequences */
    size_t snapshots_len;
    size_t snapshots_cap;
};

/* Where the journal ends. */
struct journal_tail {
    uint64_t last_sequence; /* of records or of the snapshot */
    bool has_segment;       /* the last segment can be written on ... */
    uint64_t segment_first; /* ... this one ... */
    uint32_t salt;          /* ... whose frames are salted so ... */
    uint64_t offset;        /* ... from here */
    uint64_t bytes;         /* its size */
    uint64_t replay_bytes;  /* of frames behind the snapshot */
};

/* `what` is "journal" or "snapshot", `end` "log" or "snap". */
void journal_segment_name(char name[JOURNAL_NAME_CAP], uint64_t first_sequence);
void journal_snapshot_name(char name[JOURNAL_NAME_CAP], uint64_t sequence);

enum vdc_rc journal_list(int dir_fd, struct journal_listing *out, struct vdc_err *err);
void journal_listing_deinit(struct journal_listing *listing);
/* Opens the directory, made first if `create`. */
enum vdc_rc journal_open_dir(const char *dir, bool create, int *fd, struct vdc_err *err);
/* Reads snapshot and records through the callbacks; changes nothing. */
enum vdc_rc journal_recover(int dir_fd, const struct vdc_journal_options *options,
                            struct journal_tail *tail, struct vdc_journal_report *report,
                            struct vdc_err *err);

/* All of it or errno's translation. */
enum vdc_rc journal_write_all(int fd, const void *data, size_t len, uint64_t offset,
                              struct vdc_err *err);
/* Writes zeros over [from, to). */
enum vdc_rc journal_zero(int fd, uint64_t from, uint64_t to, struct vdc_err *err);
enum vdc_rc journal_sync(int fd, const char *name, struct vdc_err *err);
/* A zero-filled, durable JOURNAL_SPARE. On failure none is left behind. */
enum vdc_rc journal_make_spare(int dir_fd, uint64_t bytes, int *fd, struct vdc_err *err);
/* write, fsync, rename, fsync(directory). On failure the temporary file is removed. */
enum vdc_rc journal_write_snapshot(int dir_fd, uint64_t sequence, const void *data, size_t len,
                                   struct vdc_err *err);
/* Removes the snapshots before `sequence` and the segments of which a later one begins at or before
 * sequence + 1. What cannot be removed is left for the next time: it does no harm. */
void journal_drop_old(int dir_fd, uint64_t sequence);

#endif
