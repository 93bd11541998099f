/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of the journal, apart from any file: frames, segment heads, and the scan that recovery
 * makes. Pure, so that the simulator, the fuzzer and the driver (journal.h) read alike.
 *
 * A segment is a zero-filled file of fixed size: a head of VDC_JOURNAL_HEAD_BYTES, then frames
 *
 *     [length u32][crc32c u32][sequence u64][batch u64][payload][zeros to a multiple of 8]
 *
 * all little-endian. The checksum covers the segment's salt, then everything but itself and the
 * filling. The salt is a random number in the head: payloads hold bytes that others chose (launch
 * descriptions), and without it a torn record could show whole frames that somebody had put inside,
 * or an older segment's, where the disk kept them. `batch` is the
 * sequence of the first frame of the group that was written by the same write. A group is written
 * only after the one before is durable, so a damaged frame that is followed by a whole one of a
 * *later* batch had been durable: that is damage, not a torn write. Without it, a write whose
 * sectors reached the disk out of order could not be told from damage.
 */
#ifndef VDC_JOURNAL_FORMAT_H
#define VDC_JOURNAL_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include <vdc/buf.h>
#include <vdc/err.h>
#include <vdc/rc.h>
#include <vdc/tx.h>

#define VDC_JOURNAL_HEAD_BYTES 64
#define VDC_JOURNAL_FRAME_HEAD_BYTES 24
/* Bytes of one payload: the largest record. */
#define VDC_JOURNAL_PAYLOAD_MAX VDC_TX_BYTES_MAX
/* Bytes that a payload takes in a segment. */
#define VDC_JOURNAL_FRAME_BYTES(len) \
    ((VDC_JOURNAL_FRAME_HEAD_BYTES + (uint64_t)(len) + 7) & ~UINT64_C(7))

/* Appends a segment's head: its first frame will have sequence >= first_sequence. */
void vdc_journal_head_encode(uint64_t first_sequence, uint32_t salt, struct vdc_buf *out);
/* CORRUPT, UNSUPPORTED (version). */
enum vdc_rc vdc_journal_head_decode(const void *data, size_t len, uint64_t *first_sequence,
                                    uint32_t *salt) VDC_MUST_USE;
/* Appends one frame of the segment with that salt; batch <= sequence, len <= VDC_JOURNAL_PAYLOAD_MAX. */
void vdc_journal_frame_encode(uint64_t sequence, uint64_t batch, uint32_t salt, const void *payload,
                              size_t len, struct vdc_buf *out);

struct vdc_journal_frame {
    uint64_t sequence;
    uint64_t batch;
    const uint8_t *payload; /* into the scanned bytes */
    uint32_t len;
    uint64_t offset; /* of the frame */
    uint64_t next;   /* offset behind it */
};

enum vdc_journal_scan {
    VDC_JOURNAL_FRAME, /* a whole frame with the expected sequence */
    VDC_JOURNAL_END,   /* only zeros from here on (or the end) */
    VDC_JOURNAL_TORN,  /* not a frame, and nothing acknowledged follows: cut here */
    VDC_JOURNAL_DAMAGE /* not a frame, but a later batch follows: refuse */
};

/* Reads the frame at `offset` of a segment's bytes. `expected`: the sequence it must have. The
 * bytes of following segments are not looked at: the caller treats TORN in any but the last segment
 * that holds a frame as damage if a later one has a frame with batch > expected
 * (vdc_journal_find_later). */
enum vdc_journal_scan vdc_journal_scan_frame(const void *data, size_t len, uint64_t offset,
                                             uint64_t expected, uint32_t salt,
                                             struct vdc_journal_frame *out);
/* The offset of the first whole frame at or behind `offset` with batch > expected; UINT64_MAX:
 * none. */
uint64_t vdc_journal_find_later(const void *data, size_t len, uint64_t offset, uint64_t expected,
                                uint32_t salt);

#endif
