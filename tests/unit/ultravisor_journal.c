/* SPDX-License-Identifier: Apache-2.0 */
/* The journal: its format alone, the driver over real files, and a writer that is killed. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <vdc/journal.h>
#include <vdc/journal_format.h>

#include "ultravisor_support.h"

/* --- the format --- */

#define SALT UINT32_C(0x5a17)

/* A segment of 4096 bytes with batches {1}, {2, 3}, {4}; where each frame begins. */
static void make_segment(struct vdc_buf *out, uint64_t at[5])
{
    static const uint64_t batch[5] = {0, 1, 2, 2, 4};
    vdc_journal_head_encode(1, SALT, out);
    for (uint64_t i = 1; i <= 4; i++) {
        char payload[50];
        memset(payload, (int)i, sizeof(payload));
        at[i] = out->len;
        vdc_journal_frame_encode(i, batch[i], SALT, payload, 30 + i, out);
    }
    at[0] = out->len;
    memset(vdc_buf_reserve(out, 4096), 0, 4096);
    out->len = 4096;
}

/* Scans to the end; how it ended, and the last sequence that was whole. */
static enum vdc_journal_scan scan(const struct vdc_buf *bytes, uint64_t *last, uint64_t *offset)
{
    struct vdc_journal_frame frame;
    enum vdc_journal_scan how;
    *offset = VDC_JOURNAL_HEAD_BYTES;
    *last = 0;
    while ((how = vdc_journal_scan_frame(bytes->data, bytes->len, *offset, *last + 1, SALT,
                                         &frame)) == VDC_JOURNAL_FRAME) {
        *last = frame.sequence;
        *offset = frame.next;
    }
    return how;
}

Test(ultravisor_journal, a_whole_segment_scans_to_its_end)
{
    struct vdc_buf bytes = {0};
    uint64_t at[5], last, offset, first;
    uint32_t salt;
    make_segment(&bytes, at);
    cr_assert_eq(vdc_journal_head_decode(bytes.data, bytes.len, &first, &salt), VDC_RC_OK);
    cr_assert_eq(first, 1);
    cr_assert_eq(salt, SALT);
    cr_assert_eq(scan(&bytes, &last, &offset), VDC_JOURNAL_END);
    cr_assert_eq(last, 4);
    cr_assert_eq(offset, at[0]);
    vdc_buf_deinit(&bytes);
}

Test(ultravisor_journal, the_last_batch_may_be_torn_at_any_byte_and_an_earlier_one_may_not)
{
    struct vdc_buf bytes = {0};
    uint64_t at[5], last, offset;
    make_segment(&bytes, at);
    for (uint64_t i = VDC_JOURNAL_HEAD_BYTES; i < at[0]; i++) {
        struct vdc_buf broken = {0};
        vdc_buf_append(&broken, bytes.data, bytes.len);
        broken.data[i] ^= 0x41;
        enum vdc_journal_scan how = scan(&broken, &last, &offset);
        /* Filling behind a payload is not checked: nothing is kept there. */
        bool filling = (i >= at[1] + 24 + 31 && i < at[2]) || (i >= at[2] + 24 + 32 && i < at[3]) ||
                       (i >= at[3] + 24 + 33 && i < at[4]) || i >= at[4] + 24 + 34;
        if (filling) {
            cr_assert_eq(last, 4);
        } else {
            cr_assert_eq(how, i < at[4] ? VDC_JOURNAL_DAMAGE : VDC_JOURNAL_TORN, "byte %lu",
                         (unsigned long)i);
        }
        /* Cut here: all before stands, and only then is what follows not damage. */
        memset(broken.data + i, 0, broken.len - i);
        cr_assert_neq(scan(&broken, &last, &offset), VDC_JOURNAL_DAMAGE);
        cr_assert_leq(offset, i + 7, "a whole frame may lose only its filling");
        vdc_buf_deinit(&broken);
    }
    vdc_buf_deinit(&bytes);
}

Test(ultravisor_journal, sectors_of_one_write_that_came_out_of_order_are_a_torn_write)
{
    struct vdc_buf bytes = {0};
    uint64_t at[5], last, offset;
    make_segment(&bytes, at);
    memset(bytes.data + at[4], 0, at[0] - at[4]);
    memset(bytes.data + at[2], 0, at[3] - at[2]); /* 2 was lost, 3 of the same write was not */
    cr_assert_eq(scan(&bytes, &last, &offset), VDC_JOURNAL_TORN);
    cr_assert_eq(last, 1);
    vdc_buf_deinit(&bytes);
}

Test(ultravisor_journal, a_frame_inside_a_torn_payload_is_not_taken_for_one)
{
    /* A payload that carries a whole frame of a later batch, made without the salt. */
    struct vdc_buf inner = {0};
    struct vdc_buf bytes = {0};
    uint64_t last, offset;
    vdc_journal_frame_encode(9, 9, 0, "x", 1, &inner);
    for (int salted = 0; salted < 2; salted++) {
        vdc_buf_clear(&bytes);
        vdc_journal_head_encode(1, SALT, &bytes);
        vdc_buf_clear(&inner);
        vdc_journal_frame_encode(9, 9, salted ? SALT : 0, "x", 1, &inner);
        vdc_journal_frame_encode(1, 1, SALT, inner.data, inner.len, &bytes);
        bytes.data[VDC_JOURNAL_HEAD_BYTES + 4] ^= 1;
        cr_assert_eq(scan(&bytes, &last, &offset), salted ? VDC_JOURNAL_DAMAGE : VDC_JOURNAL_TORN);
    }
    vdc_buf_deinit(&inner);
    vdc_buf_deinit(&bytes);
}

Test(ultravisor_journal, a_head_with_any_wrong_byte_is_refused)
{
    struct vdc_buf bytes = {0};
    uint64_t first;
    uint32_t salt;
    vdc_journal_head_encode(7, SALT, &bytes);
    for (size_t i = 0; i < bytes.len; i++) {
        bytes.data[i] ^= 1;
        cr_assert_neq(vdc_journal_head_decode(bytes.data, bytes.len, &first, &salt), VDC_RC_OK);
        bytes.data[i] ^= 1;
        cr_assert_neq(vdc_journal_head_decode(bytes.data, i, &first, &salt), VDC_RC_OK);
    }
    vdc_buf_deinit(&bytes);
}

/* --- the driver --- */

#define SEGMENT 8192

struct desk {
    char dir[64];
    uv_loop_t loop;
    struct vdc_journal *journal;
    struct vdc_journal_options options;
    struct vdc_journal_report report;
    struct vdc_err err;
    uint64_t seen;     /* last record that recovery gave */
    uint64_t snapshot; /* ... and the snapshot */
    uint64_t acked;
    enum vdc_rc snapshot_rc;
    bool closed;
};

static size_t payload_of(uint64_t sequence, char payload[400])
{
    size_t len = 20 + sequence * 37 % 300;
    memset(payload, (int)(sequence % 251), len);
    memcpy(payload, &sequence, sizeof(sequence));
    return len;
}

static enum vdc_rc desk_snapshot(void *ctx, uint64_t sequence, const void *data, size_t len,
                                 struct vdc_err *err)
{
    struct desk *desk = ctx;
    (void)err;
    cr_assert_eq(len, sizeof(sequence));
    cr_assert_eq(memcmp(data, &sequence, sizeof(sequence)), 0);
    desk->snapshot = sequence;
    desk->seen = sequence;
    return VDC_RC_OK;
}

static enum vdc_rc desk_record(void *ctx, uint64_t sequence, const void *data, size_t len,
                               struct vdc_err *err)
{
    struct desk *desk = ctx;
    char payload[400];
    (void)err;
    cr_assert_eq(sequence, desk->seen + 1);
    cr_assert_eq(len, payload_of(sequence, payload));
    cr_assert_eq(memcmp(data, payload, len), 0);
    desk->seen = sequence;
    return VDC_RC_OK;
}

static void desk_init(struct desk *desk)
{
    *desk = (struct desk){.dir = "/tmp/vdc-journal-XXXXXX"};
    cr_assert_not_null(mkdtemp(desk->dir));
    desk->options = (struct vdc_journal_options){.dir = desk->dir,
                                                 .segment_bytes = SEGMENT,
                                                 .on_snapshot = desk_snapshot,
                                                 .on_record = desk_record,
                                                 .ctx = desk};
    cr_assert_eq(uv_loop_init(&desk->loop), 0);
}

static enum vdc_rc desk_open(struct desk *desk)
{
    desk->seen = desk->snapshot = 0;
    desk->closed = false;
    enum vdc_rc rc =
        vdc_journal_open(&desk->journal, &desk->loop, &desk->options, &desk->report, &desk->err);
    desk->acked = rc == VDC_RC_OK ? vdc_journal_durable(desk->journal) : 0;
    return rc;
}

static void desk_closed(void *ctx)
{
    struct desk *desk = ctx;
    desk->closed = true;
    desk->journal = NULL;
}

static void desk_close(struct desk *desk)
{
    vdc_journal_close(desk->journal, desk_closed, desk);
    uv_run(&desk->loop, UV_RUN_DEFAULT);
    cr_assert(desk->closed);
}

static void desk_deinit(struct desk *desk)
{
    char command[100];
    cr_assert_eq(uv_loop_close(&desk->loop), 0);
    (void)snprintf(command, sizeof(command), "rm -r %s", desk->dir);
    cr_assert_eq(system(command), 0);
}

static void desk_durable(void *ctx, uint64_t sequence)
{
    struct desk *desk = ctx;
    cr_assert_eq(sequence, desk->acked + 1, "acknowledged in order");
    desk->acked = sequence;
    cr_assert_geq(vdc_journal_durable(desk->journal), sequence);
}

/* Appends up to `last`, each after the journal said that it takes it. */
static void desk_append(struct desk *desk, uint64_t last)
{
    char payload[400];
    for (uint64_t i = desk->seen + 1; i <= last; i++) {
        while (vdc_journal_check_space(desk->journal, &desk->err) == VDC_RC_LIMIT) {
            uv_run(&desk->loop, UV_RUN_ONCE);
        }
        cr_assert_eq(vdc_journal_check_space(desk->journal, &desk->err), VDC_RC_OK, "%s",
                     desk->err.text);
        vdc_journal_append(desk->journal, i, payload, payload_of(i, payload), desk_durable, desk);
        desk->seen = i;
    }
    uv_run(&desk->loop, UV_RUN_DEFAULT);
    cr_assert_eq(desk->acked, last);
}

static void path_of(const struct desk *desk, uint64_t first, char path[128])
{
    (void)snprintf(path, 128, "%s/journal-%016lx.log", desk->dir, (unsigned long)first);
}

static void file_read(const char *path, struct vdc_buf *out)
{
    vdc_buf_clear(out);
    int fd = open(path, O_RDONLY);
    cr_assert_geq(fd, 0, "%s: %s", path, strerror(errno));
    ssize_t got;
    while ((got = read(fd, vdc_buf_reserve(out, SEGMENT * 2), SEGMENT * 2)) > 0) {
        out->len += (size_t)got;
    }
    (void)close(fd);
}

static void file_write(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert_eq(write(fd, data, len), (ssize_t)len);
    (void)close(fd);
}

Test(ultravisor_journal, records_come_back_in_order_over_many_segments)
{
    struct desk desk;
    desk_init(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK, "%s", desk.err.text);
    cr_assert_eq(desk.report.last_sequence, 0);
    desk_append(&desk, 500);
    desk_close(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK, "%s", desk.err.text);
    cr_assert_eq(desk.seen, 500);
    cr_assert_eq(desk.report.records, 500);
    cr_assert_eq(desk.report.torn_bytes, 0);
    desk_append(&desk, 600);
    desk_close(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK, "%s", desk.err.text);
    cr_assert_eq(desk.seen, 600);
    desk_close(&desk);
    desk_deinit(&desk);
}

Test(ultravisor_journal, closing_waits_for_what_is_queued)
{
    struct desk desk;
    char payload[400];
    desk_init(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK);
    for (uint64_t i = 1; i <= 10; i++) {
        vdc_journal_append(desk.journal, i, payload, payload_of(i, payload), NULL, NULL);
    }
    desk_close(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK);
    cr_assert_eq(desk.seen, 10);
    desk_close(&desk);
    desk_deinit(&desk);
}

Test(ultravisor_journal, a_second_process_is_kept_out)
{
    struct desk desk;
    desk_init(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK);
    struct vdc_journal *second;
    cr_assert_eq(vdc_journal_open(&second, &desk.loop, &desk.options, &desk.report, &desk.err),
                 VDC_RC_CONFLICT);
    cr_assert_null(second);
    desk_close(&desk);
    desk_deinit(&desk);
}

Test(ultravisor_journal, a_tail_torn_at_any_byte_is_cut_and_the_journal_goes_on)
{
    struct desk desk;
    char path[128];
    struct vdc_buf whole = {0};
    desk_init(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK);
    desk_append(&desk, 3);
    path_of(&desk, 1, path);
    file_read(path, &whole);
    size_t before = whole.len;
    cr_assert_eq(before, SEGMENT);
    desk_close(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK);
    desk_append(&desk, 4);
    desk_close(&desk);
    struct vdc_buf more = {0};
    file_read(path, &more);
    size_t from = 0;
    size_t to = 0;
    for (size_t i = 0; i < SEGMENT; i++) {
        if (whole.data[i] != more.data[i]) {
            from = from == 0 ? i : from;
            to = i + 1;
        }
    }
    for (size_t cut = from; cut < to; cut++) {
        memcpy(whole.data, more.data, cut);
        memset(whole.data + cut, 0, SEGMENT - cut);
        file_write(path, whole.data, SEGMENT);
        cr_assert_eq(desk_open(&desk), VDC_RC_OK, "%s", desk.err.text);
        cr_assert_eq(desk.seen, 3, "cut at %zu of %zu", cut, to);
        cr_assert(cut == from || desk.report.torn_bytes > 0);
        desk_append(&desk, 5);
        desk_close(&desk);
        cr_assert_eq(desk_open(&desk), VDC_RC_OK, "%s", desk.err.text);
        cr_assert_eq(desk.seen, 5);
        cr_assert_eq(desk.report.torn_bytes, 0);
        desk_close(&desk);
    }
    vdc_buf_deinit(&whole);
    vdc_buf_deinit(&more);
    desk_deinit(&desk);
}

Test(ultravisor_journal, damage_in_the_middle_is_refused_with_file_and_offset_and_nothing_changes)
{
    struct desk desk;
    char path[128];
    struct vdc_buf bytes = {0};
    struct vdc_buf after = {0};
    desk_init(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK);
    for (uint64_t i = 1; i <= 5; i++) {
        desk_append(&desk, i); /* batches of their own */
    }
    desk_close(&desk);
    path_of(&desk, 1, path);
    file_read(path, &bytes);
    uint64_t offset = VDC_JOURNAL_HEAD_BYTES + VDC_JOURNAL_FRAME_BYTES(20 + 37);
    for (uint64_t at = offset; at < offset + 40; at += 3) {
        bytes.data[at] ^= 0x10;
        file_write(path, bytes.data, bytes.len);
        cr_assert_eq(desk_open(&desk), VDC_RC_CORRUPT);
        cr_assert_not_null(strstr(desk.err.text, "journal-0000000000000001.log at 152"), "%s",
                           desk.err.text);
        file_read(path, &after);
        cr_assert_eq(memcmp(bytes.data, after.data, bytes.len), 0);
        bytes.data[at] ^= 0x10;
    }
    file_write(path, bytes.data, bytes.len);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK, "%s", desk.err.text);
    desk_close(&desk);
    vdc_buf_deinit(&bytes);
    vdc_buf_deinit(&after);
    desk_deinit(&desk);
}

Test(ultravisor_journal, damage_at_the_end_of_an_earlier_segment_and_a_missing_one_are_refused)
{
    struct desk desk;
    char command[200];
    char path[128];
    struct vdc_buf bytes = {0};
    desk_init(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK);
    desk_append(&desk, 200);
    desk_close(&desk);
    (void)snprintf(command, sizeof(command),
                   "cd %s && ls journal-*.log > names && mv $(sed -n 3p names) aside", desk.dir);
    cr_assert_eq(system(command), 0);
    cr_assert_eq(desk_open(&desk), VDC_RC_CORRUPT);
    cr_assert_not_null(strstr(desk.err.text, "missing"), "%s", desk.err.text);
    (void)snprintf(command, sizeof(command), "cd %s && mv aside $(sed -n 3p names)", desk.dir);
    cr_assert_eq(system(command), 0);
    path_of(&desk, 1, path);
    file_read(path, &bytes);
    bytes.data[SEGMENT - 9] ^= 1; /* behind its last record, or in it */
    file_write(path, bytes.data, bytes.len);
    vdc_buf_deinit(&bytes);
    cr_assert_eq(desk_open(&desk), VDC_RC_CORRUPT);
    cr_assert_not_null(strstr(desk.err.text, "journal-0000000000000001.log at"), "%s",
                       desk.err.text);
    desk_deinit(&desk);
}

static void desk_snapshotted(void *ctx, enum vdc_rc rc, const char *text)
{
    struct desk *desk = ctx;
    (void)text;
    desk->snapshot_rc = rc;
}

static void desk_take_snapshot(struct desk *desk, uint64_t sequence)
{
    struct vdc_buf data = {0};
    vdc_buf_append(&data, &sequence, sizeof(sequence));
    desk->snapshot_rc = VDC_RC_INTERNAL;
    cr_assert_eq(vdc_journal_snapshot(desk->journal, sequence, &data, desk_snapshotted, desk),
                 VDC_RC_OK);
    cr_assert_null(data.data);
}

static int count_files(const struct desk *desk, const char *pattern)
{
    char command[200];
    (void)snprintf(command, sizeof(command), "exit $(ls %s/%s 2>/dev/null | wc -l)", desk->dir,
                   pattern);
    return WEXITSTATUS(system(command));
}

Test(ultravisor_journal, a_snapshot_replaces_what_is_before_it)
{
    struct desk desk;
    desk_init(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK);
    desk_append(&desk, 300);
    cr_assert_gt(count_files(&desk, "journal-*"), 5);
    desk_take_snapshot(&desk, 300);
    uv_run(&desk.loop, UV_RUN_DEFAULT);
    cr_assert_eq(desk.snapshot_rc, VDC_RC_OK);
    cr_assert_eq(vdc_journal_replay_bytes(desk.journal), 0);
    cr_assert_eq(count_files(&desk, "journal-*"), 1);
    desk_append(&desk, 320);
    desk_take_snapshot(&desk, 310);
    uv_run(&desk.loop, UV_RUN_DEFAULT);
    cr_assert_eq(count_files(&desk, "snapshot-*"), 1);
    desk_close(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK, "%s", desk.err.text);
    cr_assert_eq(desk.snapshot, 310);
    cr_assert_eq(desk.seen, 320);
    cr_assert_eq(desk.report.records, 10);
    desk_close(&desk);
    desk_deinit(&desk);
}

Test(ultravisor_journal, a_snapshot_never_gets_ahead_of_its_records)
{
    struct desk desk;
    char payload[400];
    desk_init(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK);
    vdc_journal_append(desk.journal, 1, payload, payload_of(1, payload), desk_durable, &desk);
    vdc_journal_append(desk.journal, 2, payload, payload_of(2, payload), desk_durable, &desk);
    desk_take_snapshot(&desk, 2);
    struct vdc_buf again = {0};
    vdc_buf_puts(&again, "x");
    cr_assert_eq(vdc_journal_snapshot(desk.journal, 2, &again, NULL, NULL), VDC_RC_CONFLICT);
    vdc_buf_deinit(&again);
    while (count_files(&desk, "snapshot-*.snap") == 0) {
        uv_run(&desk.loop, UV_RUN_ONCE);
        cr_assert(count_files(&desk, "snapshot-*.snap") == 0 || desk.acked == 2);
    }
    desk_close(&desk);
    desk_deinit(&desk);
}

Test(ultravisor_journal, verifying_changes_nothing_and_needs_no_lock)
{
    struct desk desk;
    char path[128];
    struct vdc_buf before = {0};
    struct vdc_buf after = {0};
    desk_init(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK);
    desk_append(&desk, 4);
    path_of(&desk, 1, path);
    file_read(path, &before);
    before.data[VDC_JOURNAL_HEAD_BYTES + 500] = 7; /* in the middle of the last batch, or behind */
    file_write(path, before.data, before.len);
    desk.seen = 0;
    struct vdc_journal_report report;
    cr_assert_eq(vdc_journal_verify(&desk.options, &report, &desk.err), VDC_RC_OK, "%s",
                 desk.err.text);
    cr_assert_gt(report.torn_bytes, 0);
    file_read(path, &after);
    cr_assert_eq(memcmp(before.data, after.data, before.len), 0);
    desk_close(&desk);
    vdc_buf_deinit(&before);
    vdc_buf_deinit(&after);
    desk_deinit(&desk);
}

/* --- killed --- */

static int ack_pipe;

static void write_ack(void *ctx, uint64_t sequence)
{
    (void)ctx;
    (void)!write(ack_pipe, &sequence, sizeof(sequence));
}

/* Appends for ever; says on the pipe what became durable. Never returns. */
static void writer_main(struct desk *desk, int fd)
{
    char payload[400];
    ack_pipe = fd;
    if (uv_loop_init(&desk->loop) != 0 || desk_open(desk) != VDC_RC_OK) {
        _exit(1);
    }
    for (uint64_t i = desk->seen + 1;; i++) {
        while (vdc_journal_check_space(desk->journal, NULL) == VDC_RC_LIMIT) {
            uv_run(&desk->loop, UV_RUN_ONCE);
        }
        vdc_journal_append(desk->journal, i, payload, payload_of(i, payload), write_ack, NULL);
        if (i % 7 == 0) {
            uv_run(&desk->loop, UV_RUN_NOWAIT);
        }
        if (i % 400 == 0) {
            struct vdc_buf data = {0};
            vdc_buf_append(&data, &i, sizeof(i));
            (void)!vdc_journal_snapshot(desk->journal, i, &data, NULL, NULL);
            vdc_buf_deinit(&data);
        }
    }
}

Test(ultravisor_journal, nothing_acknowledged_is_lost_when_the_writer_is_killed)
{
    struct desk desk;
    desk_init(&desk);
    uint64_t acked = 0;
    for (int round = 0; round < 25; round++) {
        int fds[2];
        cr_assert_eq(pipe(fds), 0);
        pid_t pid = fork();
        cr_assert_geq(pid, 0);
        if (pid == 0) {
            (void)close(fds[0]);
            writer_main(&desk, fds[1]);
        }
        (void)close(fds[1]);
        uint64_t before = acked;
        while (acked < before + 20 + (uint64_t)round * 31 &&
               read(fds[0], &acked, sizeof(acked)) == sizeof(acked)) {
        }
        cr_assert_eq(kill(pid, SIGKILL), 0);
        while (read(fds[0], &acked, sizeof(acked)) == sizeof(acked)) {
        }
        int status;
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert(WIFSIGNALED(status), "the writer failed by itself");
        (void)close(fds[0]);
        struct vdc_journal_report report;
        desk.seen = 0;
        cr_assert_eq(vdc_journal_verify(&desk.options, &report, &desk.err), VDC_RC_OK, "%s",
                     desk.err.text);
        cr_assert_geq(report.last_sequence, acked);
        cr_assert_gt(acked, before);
    }
    desk_deinit(&desk);
}

/* --- with the database --- */

static enum vdc_rc db_snapshot(void *ctx, uint64_t sequence, const void *data, size_t len,
                               struct vdc_err *err)
{
    struct vdc_allocdb **db = ctx;
    vdc_allocdb_destroy(*db);
    enum vdc_rc rc = vdc_allocdb_restore(data, len, db, err);
    cr_assert(rc != VDC_RC_OK || vdc_allocdb_sequence(*db) == sequence);
    return rc;
}

static enum vdc_rc db_record(void *ctx, uint64_t sequence, const void *data, size_t len,
                             struct vdc_err *err)
{
    struct vdc_allocdb **db = ctx;
    (void)sequence;
    return vdc_allocdb_apply_record(*db, data, len, err);
}

Test(ultravisor_journal, a_database_recovers_to_the_same_digest)
{
    struct desk desk;
    struct bench b;
    desk_init(&desk);
    bench_init_empty(&b);
    struct vdc_allocdb *recovered = vdc_allocdb_create();
    desk.options.on_snapshot = db_snapshot;
    desk.options.on_record = db_record;
    desk.options.ctx = &recovered;
    cr_assert_eq(desk_open(&desk), VDC_RC_OK);
    struct vdc_op inventory = op_inventory();
    struct vdc_op zone = op_zone_set(1000, 1000, 4000);
    struct vdc_tx tx = {.role = VDC_ROLE_SYSTEM, .ops = &inventory, .ops_len = 1};
    for (uint64_t i = 1; i <= 60; i++) {
        struct vdc_op ops[] = {op_create(i, "web"), op_shared(i, 500), op_memory(i, 0, 4 * MIB)};
        if (i > 1) {
            tx = i == 2 ? tx_of(&b, &zone, 1) : tx_of(&b, ops, 3);
        }
        cr_assert_eq(commit_tx(&b, &tx), VDC_RC_OK, "%s", b.result.text);
        vdc_journal_append(desk.journal, b.result.sequence, b.record.data, b.record.len, NULL,
                           NULL);
        uv_run(&desk.loop, UV_RUN_DEFAULT);
        if (i == 40) {
            struct vdc_buf snapshot = {0};
            vdc_allocdb_snapshot(b.db, &snapshot);
            cr_assert_eq(vdc_journal_snapshot(desk.journal, i, &snapshot, NULL, NULL), VDC_RC_OK);
        }
    }
    desk_close(&desk);
    cr_assert_eq(desk_open(&desk), VDC_RC_OK, "%s", desk.err.text);
    cr_assert_eq(desk.report.snapshot_sequence, 40);
    cr_assert_eq(desk.report.records, 20);
    struct vdc_digest expected = vdc_allocdb_digest(b.db);
    struct vdc_digest got = vdc_allocdb_digest(recovered);
    cr_assert(vdc_digest_equal(&expected, &got));
    cr_assert_eq(vdc_allocdb_check(recovered, &desk.err), VDC_RC_OK, "%s", desk.err.text);
    desk_close(&desk);
    vdc_allocdb_destroy(recovered);
    bench_deinit(&b);
    desk_deinit(&desk);
}
