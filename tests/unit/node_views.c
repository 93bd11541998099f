/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views as their readers have them: files that the agent writes from its database, and that others
 * hold by a read-only descriptor. What a reader sees is whole, what it tries to write fails, and a
 * restart of the agent goes on in the same file.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <uv.h>

#include <vdc/base.h>
#include <vdc/file.h>
#include <vdc/view.h>

#include "places.h"
#include "ultravisor_support.h"

/* A user that owns nothing: nobody. */
#define NOBODY 65534
#define READERS 2
/* Each commit is four operations, a publish and what two readers cost. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COMMITS 100000
#else
#define COMMITS 1000000
#endif

static char root[] = "/dev/shm/vdc-node-views-XXXXXX";
static struct bench b;
static uv_loop_t loop;
static struct agent_config config;
static struct places *places;
static struct vdc_agent_key web;

static void on_event(void *data, struct vdc_agent_event *event)
{
    (void)data, (void)event;
}

static void on_command_result(void *data, uint32_t session,
                              const struct vdc_msg_command_result *result)
{
    (void)data, (void)session, (void)result;
}

static void open_places(void)
{
    struct vdc_err err;
    struct places_config places_config = {.loop = &loop,
                                          .agent = &config,
                                          .program_dir = root,
                                          .on_event = on_event,
                                          .on_command_result = on_command_result};
    cr_assert_eq(agent_places_open(&places_config, &places, &err), VDC_RC_OK, "%s", err.text);
}

static void publish(void)
{
    agent_places_publish(places, b.db, &web);
}

/* Partition 1 is the guest, 2 what its channel goes to. */
static void setup(void)
{
    cr_assert_not_null(mkdtemp(root));
    snprintf(config.run_dir, sizeof config.run_dir, "%s/run", root);
    snprintf(config.shared_dir, sizeof config.shared_dir, "%s/shared", root);
    cr_assert_eq(mkdir(config.shared_dir, 0755), 0);
    cr_assert_eq(uv_loop_init(&loop), 0);
    open_places();
    bench_init(&b);
    struct vdc_op ops[] = {op_create(1, "web"), op_memory(1, 0, 4 * MIB), op_create(2, "io-a")};
    cr_assert_eq(commit(&b, ops, 3), VDC_RC_OK, "%s", b.result.text);
    web = (struct vdc_agent_key){id_of(1), 1};
    publish();
}

static void teardown(void)
{
    struct vdc_err err;
    agent_places_close(places);
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(&loop), 0);
    bench_deinit(&b);
    cr_assert_eq(vdc_dir_remove(root, &err), VDC_RC_OK, "%s", err.text);
}

TestSuite(node_views, .init = setup, .fini = teardown, .timeout = 280);

static char *view_path(void)
{
    char id[VDC_ID_TEXT_CAP];
    vdc_id_to_text(&web.id, id);
    return vdc_asprintf("%s/views/%s.%llu", config.run_dir, id, (unsigned long long)web.generation);
}

/* As a monitor gets it. */
static int open_view(void)
{
    vdc_autofree char *path = view_path();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0, "%s: %s", path, strerror(errno));
    return fd;
}

static const void *map_view(int fd)
{
    const void *page = mmap(NULL, VDC_VIEW_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    cr_assert_neq(page, MAP_FAILED);
    return page;
}

static struct vdc_op op_channel(uint64_t id)
{
    return (struct vdc_op){.kind = VDC_OP_CHANNEL_CONNECT,
                           .channel_connect = {.channel = id_of(id),
                                               .endpoint = {id_of(1), id_of(2)},
                                               .type = VDC_CHANNEL_BLOCK,
                                               .version = 3,
                                               .bytes = 64 * KIB,
                                               .numa = 1}};
}

Test(node_views, a_channel_is_shown_at_both_ends_and_gone_when_it_ends)
{
    vdc_autofree struct vdc_view_content *view = VDC_NEW(struct vdc_view_content);
    struct vdc_op op = op_channel(7);
    cr_assert_eq(commit(&b, &op, 1), VDC_RC_OK, "%s", b.result.text);
    vdc_allocdb_fill_view(b.db, vdc_allocdb_find_partition(b.db, &web.id), view);
    cr_assert_eq(view->channels_len, 1);
    cr_assert_eq(view->channels_total, 1);
    const struct vdc_view_channel *channel = &view->channels[0];
    cr_assert(vdc_id_equal(&channel->id, &op.channel_connect.channel));
    cr_assert(vdc_id_equal(&channel->peer, &op.channel_connect.endpoint[1]));
    cr_assert_eq(channel->type, VDC_CHANNEL_BLOCK);
    cr_assert_eq(channel->version, 3);
    cr_assert_eq(channel->bytes, 64 * KIB);
    cr_assert_not(channel->second);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < channel->blocks_len; i++) {
        cr_assert_eq(view->channel_blocks[channel->blocks_at + i].numa, 1);
        bytes += view->channel_blocks[channel->blocks_at + i].bytes;
    }
    cr_assert_eq(bytes, 64 * KIB);
    /* The same memory at the other end, which sees the guest as its peer. */
    struct vdc_memory_block block = view->channel_blocks[0];
    vdc_allocdb_fill_view(b.db, vdc_allocdb_find_partition(b.db, &op.channel_connect.endpoint[1]),
                          view);
    cr_assert(view->channels[0].second);
    cr_assert(vdc_id_equal(&view->channels[0].peer, &web.id));
    cr_assert_eq(view->channel_blocks[0].addr, block.addr);
    op = op_destroy(2, 1);
    cr_assert_eq(commit(&b, &op, 1), VDC_RC_OK);
    vdc_allocdb_fill_view(b.db, vdc_allocdb_find_partition(b.db, &web.id), view);
    cr_assert_eq(view->channels_total, 0);
}

Test(node_views, more_channels_than_a_view_has_room_for_are_counted)
{
    vdc_autofree struct vdc_view_content *view = VDC_NEW(struct vdc_view_content);
    vdc_autofree void *page = aligned_alloc(4096, VDC_VIEW_BYTES);
    memset(page, 0, VDC_VIEW_BYTES);
    for (uint64_t i = 0; i < VDC_VIEW_CHANNELS_MAX + 3; i++) {
        struct vdc_op op = op_channel(100 + i);
        op.channel_connect.bytes = 4 * KIB;
        cr_assert_eq(commit(&b, &op, 1), VDC_RC_OK, "%s", b.result.text);
    }
    vdc_allocdb_fill_view(b.db, vdc_allocdb_find_partition(b.db, &web.id), view);
    cr_assert_eq(view->channels_len, VDC_VIEW_CHANNELS_MAX);
    cr_assert_eq(view->channels_total, VDC_VIEW_CHANNELS_MAX + 3);
    vdc_view_publish(page, view);
    cr_assert_eq(vdc_view_read(page, view, NULL), VDC_RC_OK);
    cr_assert_eq(view->channels_total, VDC_VIEW_CHANNELS_MAX + 3);
}

/* --- whole --- */

/* What follows from the generation: see hammer(). */
static bool is_whole(const struct vdc_view_content *view, uint64_t offset)
{
    bool odd = view->generation % 2 == 1;
    return view->sequence - view->generation == offset &&
           view->run == (odd ? VDC_RUN_RUNNING : VDC_RUN_PAUSED) &&
           view->memory_bytes == (odd ? 4 * MIB : 6 * MIB) &&
           view->channels_len == (odd ? 0u : 1u) && view->channels_total == view->channels_len;
}

/* Reads until the partition is stopped; the exit status says what it saw. */
static void read_for_ever(int fd, uint64_t offset)
{
    const void *page = mmap(NULL, VDC_VIEW_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    struct vdc_view_content *view = VDC_NEW(struct vdc_view_content);
    uint64_t changes = 0;
    uint64_t last = 0;
    for (;;) {
        enum vdc_rc rc = vdc_view_read(page, view, NULL);
        if (rc == VDC_RC_UNAVAILABLE) {
            continue; /* the writer was not given the CPU for very long */
        }
        if (rc != VDC_RC_OK || view->sequence < last) {
            _exit(2);
        }
        if (view->run == VDC_RUN_STOPPED) {
            _exit(changes > 100 ? 0 : 3);
        }
        if (view->generation > 1 && !is_whole(view, offset)) {
            _exit(4);
        }
        changes += view->sequence != last;
        last = view->sequence;
    }
}

/* One commit changes generation, run state, memory and channels at once: a reader that saw some of
 * them from another commit would see them disagree. */
static void hammer(void)
{
    for (uint64_t generation = 1; generation <= COMMITS; generation++) {
        bool odd = (generation + 1) % 2 == 1;
        struct vdc_op more = op_memory(1, 1, 2 * MIB);
        struct vdc_op less = {
            .kind = VDC_OP_MEMORY_RELEASE,
            .memory_release = {.id = id_of(1),
                               .blocks = &(struct vdc_memory_block){.bytes = 2 * MIB, .numa = 1},
                               .blocks_len = 1}};
        struct vdc_op ops[] = {
            op_run(1, generation, odd ? VDC_RUN_RUNNING : VDC_RUN_PAUSED),
            odd ? less : more,
            odd ? (struct vdc_op){.kind = VDC_OP_CHANNEL_DISCONNECT,
                                  .channel_disconnect = {id_of(7)}}
                : op_channel(7),
            {.kind = VDC_OP_PARTITION_SET_GENERATION,
             .partition_set_generation = {id_of(1), generation, generation + 1}},
        };
        /* Without the bench's replica and checks: they would take hours. */
        struct vdc_tx tx = {
            .zone = "prod", .epoch = b.epoch, .role = VDC_ROLE_COMMAND, .ops = ops, .ops_len = 4};
        cr_assert_eq(vdc_allocdb_commit(b.db, &tx, &b.result, &b.record), VDC_RC_OK, "%s",
                     b.result.text);
        publish();
    }
    struct vdc_op stop = op_run(1, COMMITS + 1, VDC_RUN_STOPPED);
    struct vdc_tx tx = {
        .zone = "prod", .epoch = b.epoch, .role = VDC_ROLE_COMMAND, .ops = &stop, .ops_len = 1};
    cr_assert_eq(vdc_allocdb_commit(b.db, &tx, &b.result, &b.record), VDC_RC_OK);
    publish();
}

Test(node_views, readers_of_a_million_commits_see_each_one_whole)
{
    pid_t readers[READERS];
    /* The first commit makes generation 2. */
    uint64_t offset = vdc_allocdb_sequence(b.db) + 1 - 2;
    for (int i = 0; i < READERS; i++) {
        readers[i] = fork();
        if (readers[i] == 0) {
            read_for_ever(open_view(), offset);
        }
    }
    hammer();
    for (int i = 0; i < READERS; i++) {
        int status;
        cr_assert_eq(waitpid(readers[i], &status, 0), readers[i]);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "reader %d: status %x", i, status);
    }
}

/* --- not to be written --- */

/* In a child as `nobody`, with the descriptor as only what it was given. 0: every try was refused. */
static int try_to_write(int fd, const char *path)
{
    char proc[64];
    struct stat info;
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    const void *page = mmap(NULL, VDC_VIEW_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED || vdc_view_version(page) == 0) {
        return 1;
    }
    if (mmap(NULL, VDC_VIEW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED) {
        return 2;
    }
    if (mprotect((void *)(uintptr_t)page, VDC_VIEW_BYTES, PROT_READ | PROT_WRITE) == 0) {
        return 3;
    }
    if (open(proc, O_RDWR) >= 0 || open(proc, O_WRONLY) >= 0 || errno != EACCES) {
        return 4;
    }
    if (open(path, O_RDWR) >= 0 || open(path, O_RDONLY) >= 0) {
        return 5; /* nor does anybody find it by name */
    }
    if (pwrite(fd, "x", 1, 0) >= 0 || ftruncate(fd, 0) == 0) {
        return 6;
    }
    if (fchmod(fd, 0666) == 0 || fstat(fd, &info) != 0 || info.st_size != VDC_VIEW_BYTES) {
        return 7;
    }
    return 0;
}

static int status_of_nobody(int (*what)(int fd, const char *path), int fd, const char *path)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 &&
            (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0)) {
            _exit(99);
        }
        _exit(what(fd, path));
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    return status;
}

Test(node_views, a_read_only_descriptor_cannot_be_made_a_writable_one)
{
    if (geteuid() != 0) {
        cr_skip_test("needs root: only root can become a user that does not own the file");
    }
    int fd = open_view();
    vdc_autofree char *path = view_path();
    int status = status_of_nobody(try_to_write, fd, path);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "try %d succeeded",
              WEXITSTATUS(status));
    close(fd);
}

static int write_through(int fd, const char *path)
{
    (void)path;
    signal(SIGSEGV, SIG_DFL);
    void *page = mmap(NULL, VDC_VIEW_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    *(volatile uint64_t *)page = 0;
    return 0;
}

Test(node_views, a_write_through_a_view_faults)
{
    int fd = open_view();
    int status = status_of_nobody(write_through, fd, "");
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "status %x", status);
    close(fd);
}

/* --- the agent's restart --- */

Test(node_views, a_reader_goes_on_in_the_same_file_when_the_agent_starts_again)
{
    vdc_autofree struct vdc_view_content *view = VDC_NEW(struct vdc_view_content);
    struct vdc_err err;
    int fd = open_view();
    const void *page = map_view(fd);
    agent_places_set_lease(places, &web, 12345);
    /* What makes it a place that is found again. */
    char id[VDC_ID_TEXT_CAP];
    vdc_id_to_text(&web.id, id);
    vdc_autofree char *dir = vdc_asprintf("%s/partitions/%s.1", config.run_dir, id);
    cr_assert_eq(vdc_dir_make(dir, 0750, &err), VDC_RC_OK, "%s", err.text);
    agent_places_close(places);
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert_eq(vdc_view_read(page, view, &err), VDC_RC_OK, "%s", err.text);
    uint64_t version = vdc_view_version(page);
    open_places();
    agent_places_find(places);
    cr_assert_eq(vdc_view_version(page), version, "finding it changed it");
    struct vdc_op op = op_run(1, 1, VDC_RUN_PAUSED);
    cr_assert_eq(commit(&b, &op, 1), VDC_RC_OK, "%s", b.result.text);
    publish();
    cr_assert_neq(vdc_view_version(page), version);
    cr_assert_eq(vdc_view_read(page, view, &err), VDC_RC_OK, "%s", err.text);
    cr_assert_eq(view->run, VDC_RUN_PAUSED);
    cr_assert_eq(view->sequence, vdc_allocdb_sequence(b.db));
    cr_assert_eq(vdc_view_lease(page), 12345, "the lease was lost");
    close(fd);
}
