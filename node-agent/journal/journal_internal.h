/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the journal's directory, shared by the driver and recovery. Everything here blocks.
 */
#ifndef VDC_JOURNAL_INTERNAL_H
#define VDC_JOURNAL_INTERNAL_H

#include <vdc/journal.h>
#include <vdc/journal_disk.h>
#include <vdc/journal_format.h>

#define JOURNAL_NAME_CAP 64
#define JOURNAL_SPARE "spare.log"

/* The journal's directory. */
struct journal_dir {
    const struct vdc_journal_disk *disk;
    int fd;
};

/* What lies in the directory, ascending. */
struct journal_listing {
    uint64_t *segments; /* the sequences that they begin with */
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

void journal_segment_name(char name[JOURNAL_NAME_CAP], uint64_t first_sequence);
void journal_snapshot_name(char name[JOURNAL_NAME_CAP], uint64_t sequence);

enum vdc_rc journal_list(const struct journal_dir *dir, struct journal_listing *out,
                         struct vdc_err *err);
void journal_listing_deinit(struct journal_listing *listing);
/* Opens the directory, made first if `make`; options->disk NULL: the real one. */
enum vdc_rc journal_open_dir(const struct vdc_journal_options *options, bool make,
                             struct journal_dir *dir, struct vdc_err *err);
void journal_close_dir(const struct journal_dir *dir);
/* Reads snapshot and records through the callbacks; changes nothing. */
enum vdc_rc journal_recover(const struct journal_dir *dir,
                            const struct vdc_journal_options *options, struct journal_tail *tail,
                            struct vdc_journal_report *report, struct vdc_err *err);

/* All of it or errno's translation. */
enum vdc_rc journal_write_all(const struct vdc_journal_disk *disk, int fd, const void *data,
                              size_t len, uint64_t offset, struct vdc_err *err);

/* A segment that is being made ready ahead: zero-filled, durable, named JOURNAL_SPARE. */
struct journal_spare {
    int fd; /* -1: not begun */
    uint64_t filled;
    uint64_t bytes; /* filled == bytes: ready, if it also was synced */
    bool ready;
};
/* Begins it if need be and fills up to `more` bytes of it; the last call also syncs. On failure
 * nothing of it is left. */
enum vdc_rc journal_fill_spare(const struct journal_dir *dir, struct journal_spare *spare,
                               uint64_t more, struct vdc_err *err);
/* write, sync, rename, sync of the directory. On failure the temporary file is removed. */
enum vdc_rc journal_write_snapshot(const struct journal_dir *dir, uint64_t sequence,
                                   const void *data, size_t len, struct vdc_err *err);
/* Removes the snapshots before `sequence`, the segments of which a later one begins at or before
 * sequence + 1, and what a crash left of a snapshot. No snapshot may be under way. What cannot be
 * removed is left for the next time: it does no harm. */
void journal_drop_old(const struct journal_dir *dir, uint64_t sequence);

#endif
