/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery has two threads: one reads the segments and checks each frame, the other replays. Between
 * them is a ring of batches, so that waiting for the disk, page faults and checksums cost the replaying
 * thread nothing. The ring bounds how far the first may be ahead.
 *
 * The reading thread: begin, fill, hand over, again; in the end `end`. The replaying thread: wait, use,
 * give back, again until there is none; it may `stop` the other, and then goes on waiting as before.
 */
#ifndef VDC_JOURNAL_AHEAD_H
#define VDC_JOURNAL_AHEAD_H

#include <uv.h>

#include "journal_internal.h"

/* Frames of a batch: one waking for so many records. */
#define AHEAD_FRAMES 256
/* Batches: some 4 MiB of usual records. With 8 the replay waited while the next segment was asked
 * for. */
#define AHEAD_BATCHES 32

struct journal_mapping {
    void *data; /* NULL when empty */
    size_t len;
};

/* Frames of one segment in order. The last batch of a segment brings what the frames lie in, to be
 * unmapped by whoever gives the batch back. */
struct ahead_batch {
    uint64_t segment; /* its first sequence */
    struct vdc_journal_frame frames[AHEAD_FRAMES];
    uint32_t len;
    struct journal_mapping map; /* data NULL: it is still needed */
};

struct journal_ahead {
    uv_mutex_t mutex;
    uv_cond_t changed;
    uint32_t begun; /* batches handed over; of the mutex, as the next three */
    uint32_t used;  /* given back <= begun <= used + AHEAD_BATCHES */
    bool ended;
    bool stopped;
    struct ahead_batch batches[AHEAD_BATCHES];
};

void journal_ahead_init(struct journal_ahead *ahead);
void journal_ahead_deinit(struct journal_ahead *ahead);

/* An empty batch; waits for one. NULL: the other has stopped this. */
struct ahead_batch *journal_ahead_begin(struct journal_ahead *ahead, uint64_t segment);
void journal_ahead_hand_over(struct journal_ahead *ahead);
void journal_ahead_end(struct journal_ahead *ahead);

/* The next batch; waits for one. NULL: there will be none. */
struct ahead_batch *journal_ahead_wait(struct journal_ahead *ahead);
void journal_ahead_give_back(struct journal_ahead *ahead);
void journal_ahead_stop(struct journal_ahead *ahead);

#endif
