/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_full DIR: the journal with a database on a small file system, filled until nothing more goes,
 * with a file beside it that holds space back. Prints "ok NAME" or "not ok NAME: why" for each check.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vdc/allocdb.h>
#include <vdc/base.h>
#include <vdc/journal.h>

#define SEGMENT (UINT64_C(64) << 10)
#define BALLAST (UINT32_C(256) << 10)
#define TRANSACTIONS_MAX 100000
#define MIB (UINT64_C(1) << 20)

struct story {
    const char *dir;
    uv_loop_t loop;
    struct vdc_journal *journal;
    struct vdc_journal_report report;
    struct vdc_allocdb *db;
    struct vdc_err err;
    uint64_t acked;
    bool failed;
};

static void check(struct story *story, bool good, const char *name)
{
    (void)printf(good ? "ok %s\n" : "not ok %s: %s\n", name, story->err.text);
    (void)fflush(stdout);
    story->failed = story->failed || !good;
}

static enum vdc_rc on_snapshot(void *ctx, uint64_t sequence, const void *data, size_t len,
                               struct vdc_err *err)
{
    struct story *story = ctx;
    (void)sequence;
    vdc_allocdb_destroy(story->db);
    story->db = NULL;
    return vdc_allocdb_restore(data, len, &story->db, err);
}

static enum vdc_rc on_record(void *ctx, uint64_t sequence, const void *data, size_t len,
                             struct vdc_err *err)
{
    struct story *story = ctx;
    (void)sequence;
    return vdc_allocdb_apply_record(story->db, data, len, err);
}

static enum vdc_rc open_story(struct story *story)
{
    struct vdc_journal_options options = {.dir = story->dir,
                                          .segment_bytes = SEGMENT,
                                          .on_snapshot = on_snapshot,
                                          .on_record = on_record,
                                          .ctx = story};
    vdc_allocdb_destroy(story->db);
    story->db = vdc_allocdb_create();
    return vdc_journal_open(&story->journal, &story->loop, &options, &story->report, &story->err);
}

static void close_story(struct story *story)
{
    vdc_journal_close(story->journal, NULL, NULL);
    (void)uv_run(&story->loop, UV_RUN_DEFAULT);
}

static void on_durable(void *ctx, uint64_t sequence)
{
    struct story *story = ctx;
    story->acked = sequence;
}

static struct vdc_id id_of(uint64_t number)
{
    struct vdc_id id = {.bytes = {[15] = 1}};
    memcpy(id.bytes, &number, sizeof(number));
    return id;
}

/* The next transaction: inventory, zone, then create a partition or destroy it again. */
static void append(struct story *story)
{
    static const struct vdc_cpu_info cpus[] = {{.number = 0}, {.number = 1, .core = 1}};
    static const struct vdc_numa_info numa[] = {{.memory_bytes = 1024 * MIB}};
    uint64_t number = vdc_allocdb_sequence(story->db) + 1;
    struct vdc_op op = {
        .kind = VDC_OP_INVENTORY_SET,
        .inventory_set = {.cpus = cpus, .cpus_len = 2, .numa = numa, .numa_len = 1}};
    struct vdc_tx tx = {.role = VDC_ROLE_SYSTEM, .ops = &op, .ops_len = 1};
    if (number > 1) {
        tx = (struct vdc_tx){.request_id = id_of(number << 1 | 1),
                             .zone = "prod",
                             .epoch = 1,
                             .role = VDC_ROLE_COMMAND,
                             .ops = &op,
                             .ops_len = 1};
        op = (struct vdc_op){.kind = VDC_OP_ZONE_SET,
                             .zone_set = {.overcommit_milli = 1000,
                                          .cpu = {.milli = 1000},
                                          .memory = {.milli = 1000}}};
    }
    if (number > 2 && number % 2 == 1) {
        op = (struct vdc_op){.kind = VDC_OP_PARTITION_CREATE,
                             .partition_create = {.id = id_of(2),
                                                  .name = "web",
                                                  .tenant = "acme",
                                                  .class_name = "gold",
                                                  .kind = VDC_PARTITION_GUEST,
                                                  .generation = 1,
                                                  .run = VDC_RUN_RUNNING,
                                                  .vcpus = 1,
                                                  .memory_bytes = 64 * MIB,
                                                  .config = (const uint8_t *)"{}",
                                                  .config_len = 2}};
    } else if (number > 2) {
        op = (struct vdc_op){.kind = VDC_OP_PARTITION_DESTROY,
                             .partition_destroy = {.id = id_of(2), .generation = 1}};
    }
    struct vdc_tx_result result;
    struct vdc_buf record = {0};
    (void)vdc_allocdb_commit(story->db, &tx, &result, &record);
    VDC_ASSERT(result.rc == VDC_RC_OK);
    vdc_journal_append(story->journal, result.sequence, record.data, record.len, on_durable, story);
    vdc_buf_deinit(&record);
}

/* Transactions until one is refused, or so many. */
static enum vdc_rc append_until_refused(struct story *story, unsigned max)
{
    for (unsigned i = 0; i < max;) {
        enum vdc_rc rc = vdc_journal_check_space(story->journal, &story->err);
        if (rc == VDC_RC_NO_SPACE) {
            return rc;
        }
        if (rc == VDC_RC_OK) {
            append(story);
            i++;
        }
        (void)uv_run(&story->loop, rc == VDC_RC_OK ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    }
    (void)uv_run(&story->loop, UV_RUN_DEFAULT);
    return VDC_RC_OK;
}

static void make_ballast(const char *path)
{
    char block[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    memset(block, 'b', sizeof(block));
    for (unsigned i = 0; i < BALLAST / sizeof(block); i++) {
        VDC_ASSERT(fd >= 0 && write(fd, block, sizeof(block)) == (ssize_t)sizeof(block));
    }
    (void)close(fd);
}

static bool same_digest(const struct vdc_allocdb *db, const struct vdc_digest *expected)
{
    struct vdc_digest now = vdc_allocdb_digest(db);
    return vdc_digest_equal(&now, expected);
}

static void run(struct story *story, const char *ballast)
{
    check(story, open_story(story) == VDC_RC_OK, "opened");
    check(story, append_until_refused(story, TRANSACTIONS_MAX) == VDC_RC_NO_SPACE,
          "a full disk refuses");
    check(story,
          strstr(story->err.text, "make room there for 64 KiB") != NULL &&
              strstr(story->err.text, story->dir) != NULL,
          "the refusal says where room is missing and how much");
    uint64_t full_at = vdc_allocdb_sequence(story->db);
    struct vdc_digest digest = vdc_allocdb_digest(story->db);
    (void)uv_run(&story->loop, UV_RUN_DEFAULT);
    check(story, story->acked == full_at, "all that was taken became durable");
    check(story,
          vdc_allocdb_find_zone(story->db, "prod") != NULL && same_digest(story->db, &digest) &&
              vdc_allocdb_check(story->db, &story->err) == VDC_RC_OK,
          "reads go on");

    /* A restart on the full disk. */
    close_story(story);
    bool opened = open_story(story) == VDC_RC_OK;
    check(story, opened && same_digest(story->db, &digest), "it starts on a full disk, complete");
    if (!opened) {
        return;
    }
    story->acked = story->report.last_sequence;
    (void)uv_run(&story->loop, UV_RUN_DEFAULT);
    check(story, append_until_refused(story, TRANSACTIONS_MAX) == VDC_RC_NO_SPACE,
          "it refuses again");

    /* Space comes back; nobody restarts anything. */
    VDC_ASSERT(unlink(ballast) == 0);
    enum vdc_rc rc = VDC_RC_NO_SPACE;
    for (unsigned i = 0; rc != VDC_RC_OK && i < 1000; i++) {
        uv_sleep(20);
        (void)uv_run(&story->loop, UV_RUN_NOWAIT);
        rc = vdc_journal_check_space(story->journal, &story->err);
    }
    check(story, rc == VDC_RC_OK, "it takes transactions again when there is room");
    check(story, append_until_refused(story, 300) == VDC_RC_OK, "300 more");
    digest = vdc_allocdb_digest(story->db);
    uint64_t last = vdc_allocdb_sequence(story->db);
    check(story, story->acked == last && last >= full_at + 300, "all of them durable");
    close_story(story);
    check(story, open_story(story) == VDC_RC_OK && same_digest(story->db, &digest),
          "nothing was lost");
    close_story(story);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "disk_full DIR\n");
        return 2;
    }
    vdc_autofree char *ballast = vdc_asprintf("%s/ballast", argv[1]);
    vdc_autofree char *dir = vdc_asprintf("%s/journal", argv[1]);
    struct story story = {.dir = dir};
    VDC_ASSERT(uv_loop_init(&story.loop) == 0);
    make_ballast(ballast);
    run(&story, ballast);
    VDC_ASSERT(uv_loop_close(&story.loop) == 0);
    vdc_allocdb_destroy(story.db);
    return story.failed ? 1 : 0;
}
