/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal's reader. A first byte 0: the rest is a segment's bytes, scanned. Else the rest is a
 * little program that makes a directory, because no fuzzer finds a checksum:
 *
 *     0 FIRST SALT              begins a segment of which the first record is FIRST
 *     1 SEQUENCE BATCH LEN ...  a whole frame with LEN bytes, with the salt of the last segment
 *     2 LEN ...                 bytes
 *     3 N                       8 N zeros
 *     4 LOW HIGH XOR            changes a byte of the segment
 *     5 SEQUENCE LEN ...        a snapshot
 *
 * The driver's recovery reads it. Whatever it accepts must come in order, must come again when it is
 * read again, and is all that is left when the torn end that it reports is cut.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/journal.h>
#include <vdc/journal_format.h>

#include "journal_sim_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void scan(const uint8_t *data, size_t size)
{
    struct vdc_journal_frame frame;
    uint64_t first;
    uint32_t salt;
    (void)!vdc_journal_head_decode(data, size, &first, &salt);
    uint64_t offset = 0;
    uint64_t expected = 1;
    while (vdc_journal_scan_frame(data, size, offset, expected, salt, &frame) ==
           VDC_JOURNAL_FRAME) {
        VDC_ASSERT(frame.next > offset && frame.next <= size);
        VDC_ASSERT(frame.payload + frame.len <= data + size);
        offset = frame.next;
        expected++;
    }
}

struct input {
    const uint8_t *at;
    size_t left;
};

static uint8_t take(struct input *in)
{
    if (in->left == 0) {
        return 0;
    }
    in->left--;
    return *in->at++;
}

/* 1 or more. */
static uint64_t take_number(struct input *in)
{
    uint64_t number = take(in);
    return number == 0 ? 1 : number;
}

/* Up to a length that the input says; *len of them. */
static const uint8_t *take_bytes(struct input *in, size_t *len)
{
    *len = take(in);
    *len = VDC_MIN(*len, in->left);
    const uint8_t *bytes = in->at;
    in->at += *len;
    in->left -= *len;
    return bytes;
}

static struct vdc_buf *add_file(struct sim_image *image, const char *format, uint64_t number)
{
    VDC_GROW(image->inodes, image->inodes_cap, image->inodes_len + 1);
    VDC_GROW(image->names, image->names_cap, image->names_len + 1);
    struct sim_name *name = &image->names[image->names_len++];
    name->inode = (int)image->inodes_len++;
    image->inodes[name->inode] = (struct vdc_buf){0};
    /* Two of one name would be no directory: the later ones get a name that nobody reads. */
    (void)snprintf(name->name, sizeof(name->name), "%s-%016lx.%s", format, (unsigned long)number,
                   strcmp(format, "journal") == 0 ? "log" : "snap");
    for (size_t i = 0; i + 1 < image->names_len; i++) {
        if (strcmp(image->names[i].name, name->name) == 0) {
            (void)snprintf(name->name, sizeof(name->name), "again-%zu", image->names_len);
        }
    }
    return &image->inodes[name->inode];
}

static void make_image(struct input *in, struct sim_image *image)
{
    int segment = -1; /* inode */
    uint32_t salt = 0;
    while (in->left > 0 && image->inodes_len < 16) {
        uint8_t what = take(in) % 6;
        struct vdc_buf *file = segment < 0 ? NULL : &image->inodes[segment];
        size_t len;
        if (what == 0) {
            uint8_t first = take(in);
            salt = take(in);
            file = add_file(image, "journal", first);
            vdc_journal_head_encode(first, salt, file);
            segment = (int)image->inodes_len - 1;
        } else if (what == 5) {
            file = add_file(image, "snapshot", take(in));
            const uint8_t *bytes = take_bytes(in, &len);
            vdc_buf_append(file, bytes, len);
        } else if (file == NULL) {
            continue;
        } else if (what == 1) {
            uint64_t sequence = take_number(in);
            uint64_t batch = take_number(in);
            const uint8_t *bytes = take_bytes(in, &len);
            vdc_journal_frame_encode(sequence, VDC_MIN(batch, sequence), salt, bytes, len, file);
        } else if (what == 2) {
            const uint8_t *bytes = take_bytes(in, &len);
            vdc_buf_append(file, bytes, len);
        } else if (what == 3) {
            len = (size_t)take(in) * 8;
            memset(vdc_buf_reserve(file, len), 0, len);
            file->len += len;
        } else {
            size_t at = take(in);
            at |= (size_t)take(in) << 8;
            uint8_t change = take(in);
            if (file->len > 0) {
                file->data[at % file->len] = (char)(file->data[at % file->len] ^ change);
            }
        }
    }
}

struct reading {
    uint64_t snapshot;
    uint64_t last;
    uint64_t records;
    uint64_t sum; /* of what was read, in order */
};

static void add(struct reading *reading, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < len; i++) {
        reading->sum = reading->sum * 31 + bytes[i];
    }
}

static enum vdc_rc on_snapshot(void *ctx, uint64_t sequence, const void *data, size_t len,
                               struct vdc_err *err)
{
    struct reading *reading = ctx;
    (void)err;
    VDC_ASSERT(reading->records == 0 && reading->snapshot == 0);
    reading->snapshot = reading->last = sequence;
    add(reading, data, len);
    return VDC_RC_OK;
}

static enum vdc_rc on_record(void *ctx, uint64_t sequence, const void *data, size_t len,
                             struct vdc_err *err)
{
    struct reading *reading = ctx;
    (void)err;
    VDC_ASSERT(sequence > reading->snapshot);
    VDC_ASSERT(reading->last == 0 ? reading->records == 0 : sequence == reading->last + 1);
    reading->last = sequence;
    reading->records++;
    add(reading, data, len);
    return VDC_RC_OK;
}

static enum vdc_rc read_disk(struct sim_disk *disk, struct reading *reading,
                             struct vdc_journal_report *report)
{
    struct vdc_journal_options options = {.dir = "fuzzed",
                                          .disk = &disk->calls,
                                          .on_snapshot = on_snapshot,
                                          .on_record = on_record,
                                          .ctx = reading};
    struct vdc_err err = {0};
    *reading = (struct reading){0};
    enum vdc_rc rc = vdc_journal_verify(&options, report, &err);
    VDC_ASSERT((rc == VDC_RC_OK) == (err.rc == VDC_RC_OK));
    if (rc == VDC_RC_OK) {
        VDC_ASSERT(report->records == reading->records);
        VDC_ASSERT(report->last_sequence == reading->last);
    }
    return rc;
}

static void cut_torn_end(struct sim_disk *disk, const struct vdc_journal_report *report)
{
    for (size_t i = 0; i < disk->now.names_len; i++) {
        if (strcmp(disk->now.names[i].name, report->torn_file) == 0) {
            struct vdc_buf *file = &disk->now.inodes[disk->now.names[i].inode];
            VDC_ASSERT(report->torn_offset + report->torn_bytes <= file->len);
            memset(file->data + report->torn_offset, 0, file->len - report->torn_offset);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || data[0] == 0) {
        scan(data + (size > 0), size - (size > 0));
        return 0;
    }
    struct input in = {.at = data + 1, .left = size - 1};
    struct sim_image image = {0};
    struct sim_disk disk;
    make_image(&in, &image);
    sim_disk_init(&disk, &image);
    struct reading first;
    struct reading again;
    struct vdc_journal_report report;
    if (read_disk(&disk, &first, &report) == VDC_RC_OK) {
        cut_torn_end(&disk, &report);
        VDC_ASSERT(read_disk(&disk, &again, &report) == VDC_RC_OK);
        VDC_ASSERT(memcmp(&first, &again, sizeof(first)) == 0);
        VDC_ASSERT(report.torn_bytes == 0);
    }
    sim_disk_deinit(&disk);
    return 0;
}
