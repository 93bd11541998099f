/* SPDX-License-Identifier: Apache-2.0 */
/* Looking into a database: of a journal that lies there, one with a partition, its port and a promise,
 * and of a running agent. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <vdc/base.h>
#include <vdc/file.h>
#include <vdc/journal.h>

#include "control.h"
#include "inspect.h"
#include "ultravisor_support.h"

static char root[] = "/tmp/vdc-inspect-XXXXXX";
static struct bench b;
static uv_loop_t loop;
static struct vdc_journal *journal;
static struct vdc_buf out;

static enum vdc_rc no_bytes(void *ctx, uint64_t sequence, const void *data, size_t len,
                            struct vdc_err *err)
{
    (void)ctx, (void)sequence, (void)data, (void)len;
    return vdc_err_set(err, VDC_RC_INTERNAL, "the journal is new");
}

static void put(struct vdc_tx tx)
{
    cr_assert_eq(commit_tx(&b, &tx), VDC_RC_OK, "%s", b.result.text);
    vdc_journal_append(journal, b.result.sequence, b.record.data, b.record.len, NULL, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
}

/* The journal with five records, each in a batch of its own, closed. */
static void setup(void)
{
    struct vdc_err err = {0};
    struct vdc_journal_report report;
    cr_assert_not_null(mkdtemp(root));
    uv_loop_init(&loop);
    bench_init_empty(&b);
    struct vdc_journal_options options = {.dir = root,
                                          .segment_bytes = 65536,
                                          .seed = 1,
                                          .on_snapshot = no_bytes,
                                          .on_record = no_bytes};
    cr_assert_eq(vdc_journal_open(&journal, &loop, &options, &report, &err), VDC_RC_OK, "%s",
                 err.text);
    struct vdc_op inventory = op_inventory();
    put((struct vdc_tx){.role = VDC_ROLE_SYSTEM, .ops = &inventory, .ops_len = 1});
    struct vdc_op zone = op_zone_set(1000, 1000, 4000);
    put(tx_of(&b, &zone, 1));
    struct vdc_op web[] = {op_create(1, "web"), op_any(1, 2, 0), op_memory(1, 0, 4 * MIB)};
    put(tx_of(&b, web, 3));
    struct vdc_op port = {
        .kind = VDC_OP_PORT_CONNECT,
        .port_connect = {
            .id = id_of(1), .mac = {2, 0, 0, 0, 0, 9}, .name = "vdc9", .network = "lan"}};
    put(tx_of(&b, &port, 1));
    struct vdc_op promise = {.kind = VDC_OP_FENCE_PROMISE,
                             .fence_promise = {.node = "n7", .incarnation = 4}};
    put(tx_of(&b, &promise, 1));
    vdc_journal_close(journal, NULL, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
}

static void teardown(void)
{
    struct vdc_err err;
    cr_assert_eq(uv_loop_close(&loop), 0);
    bench_deinit(&b);
    vdc_buf_deinit(&out);
    cr_assert_eq(vdc_dir_remove(root, &err), VDC_RC_OK, "%s", err.text);
}

TestSuite(node_inspect, .init = setup, .fini = teardown);

static void shows(const char *text)
{
    cr_assert_not_null(strstr(vdc_buf_text(&out), text), "no \"%s\" in:\n%s", text,
                       vdc_buf_text(&out));
}

Test(node_inspect, a_whole_journal_is_shown_with_its_digest)
{
    struct vdc_err err = {0};
    struct vdc_digest digest = vdc_allocdb_digest(b.db);
    char text[VDC_DIGEST_TEXT_CAP];
    vdc_digest_to_text(&digest, text);
    cr_assert_eq(agent_inspect(root, false, &out, &err), VDC_RC_OK, "%s", err.text);
    shows("journal: snapshot 0, 5 records behind it, last 5");
    shows(text);
    shows("port 02:00:00:00:00:09  vdc9 of network lan  zone prod  partition web  since 4");
    shows("promise node n7  up to incarnation 4  zone prod  since 5");
    shows("memory numa 0 [0x0, 0x400000)");
    shows("invariants: all hold");
}

Test(node_inspect, a_damaged_one_is_shown_up_to_the_damage)
{
    struct vdc_err err = {0};
    vdc_autofree char *path = vdc_asprintf("%s/journal-%016x.log", root, 1u);
    FILE *file = fopen(path, "r+");
    cr_assert_not_null(file, "%s", path);
    cr_assert_eq(fseek(file, 64 + 8, SEEK_SET), 0); /* the first record's sequence */
    cr_assert_eq(fputc(77, file), 77);
    cr_assert_eq(fclose(file), 0);
    cr_assert_eq(agent_inspect(root, false, &out, &err), VDC_RC_CORRUPT);
    cr_assert_not_null(strstr(err.text, " at 64: "), "%s", err.text);
    shows("state before the damage");
}

Test(node_inspect, a_directory_that_is_not_there_is_said)
{
    struct vdc_err err = {0};
    cr_assert_neq(agent_inspect("/nonexistent/journal", false, &out, &err), VDC_RC_OK);
    cr_assert_not_null(strstr(err.text, "/nonexistent/journal"), "%s", err.text);
    cr_assert_eq(out.len, 0, "tables of nothing:\n%s", vdc_buf_text(&out));
}

Test(node_inspect, a_directory_without_a_journal_is_said_and_shows_no_empty_tables)
{
    struct vdc_err err = {0};
    vdc_autofree char *empty = vdc_asprintf("%s/empty", root);
    vdc_autofree char *below = vdc_asprintf("%s/empty/journal", root);
    cr_assert_eq(vdc_dir_make(empty, 0700, &err), VDC_RC_OK);
    cr_assert_eq(agent_inspect(empty, false, &out, &err), VDC_RC_NOT_FOUND);
    cr_assert_not_null(strstr(err.text, "holds no journal"), "%s", err.text);
    cr_assert_eq(out.len, 0);
    /* The usual mistake: the agent's state directory instead of the journal's. */
    cr_assert_eq(vdc_dir_make(below, 0700, &err), VDC_RC_OK);
    cr_assert_eq(agent_inspect(empty, true, &out, &err), VDC_RC_NOT_FOUND);
    cr_assert_not_null(strstr(err.text, "inspect that one"), "%s", err.text);
    cr_assert_eq(out.len, 0);
}

static json_t *parsed(void)
{
    json_error_t where;
    json_t *json = json_loadb(vdc_buf_text(&out), out.len, JSON_REJECT_DUPLICATES, &where);
    cr_assert_not_null(json, "line %d: %s", where.line, where.text);
    return json;
}

Test(node_inspect, json_says_what_the_tables_say)
{
    struct vdc_err err = {0};
    struct vdc_digest digest = vdc_allocdb_digest(b.db);
    char text[VDC_DIGEST_TEXT_CAP];
    vdc_digest_to_text(&digest, text);
    cr_assert_eq(agent_inspect(root, true, &out, &err), VDC_RC_OK, "%s", err.text);
    json_t *json = parsed();
    const char *said, *zone, *name, *invariants, *network;
    json_int_t sequence, records, addr, bytes;
    json_t *damage;
    int failed = json_unpack(
        json, "{s:s, s:{s:I, s:o}, s:{s:I, s:s, s:[{s:s, s:[{s:I, s:I}]}], s:[{s:s, s:s}]}}",
        "invariants", &invariants, "journal", "records", &records, "damage", &damage, "database",
        "sequence", &sequence, "digest", &said, "partitions", "name", &name, "blocks", "addr",
        &addr, "bytes", &bytes, "ports", "network", &network, "zone", &zone);
    cr_assert_eq(failed, 0, "%s", vdc_buf_text(&out));
    cr_assert_str_eq(said, text);
    cr_assert_str_eq(invariants, "all hold");
    cr_assert_str_eq(name, "web");
    cr_assert_str_eq(network, "lan");
    cr_assert_str_eq(zone, "prod");
    cr_assert(json_is_null(damage));
    cr_assert_eq(sequence, 5);
    cr_assert_eq(records, 5);
    cr_assert_eq(addr, 0);
    cr_assert_eq(bytes, (json_int_t)(4 * MIB));
    json_decref(json);
}

/* --- the running agent --- */

static struct vdc_agent *agent;
static struct control *control;

static void open_control(void)
{
    struct vdc_err err;
    vdc_autofree struct vdc_agent_config *config = VDC_NEW(struct vdc_agent_config);
    struct vdc_buf snapshot = {0};
    struct vdc_allocdb *db;
    vdc_allocdb_snapshot(b.db, &snapshot);
    cr_assert_eq(vdc_allocdb_restore(snapshot.data, snapshot.len, &db, &err), VDC_RC_OK);
    vdc_buf_deinit(&snapshot);
    agent = vdc_agent_create(config, db);
    cr_assert_eq(agent_control_open(&loop, root, agent, &control, &err), VDC_RC_OK, "%s", err.text);
}

static void close_control(void)
{
    agent_control_close(control);
    uv_run(&loop, UV_RUN_DEFAULT);
    vdc_agent_destroy(agent);
}

/* What `vdc-node-agent --show` prints, into `out`; its result. */
static enum vdc_rc show(bool json)
{
    struct vdc_err err;
    vdc_autofree char *path = vdc_asprintf("%s/shown", root);
    pid_t child = fork();
    if (child == 0) {
        cr_assert_not_null(freopen(path, "w", stdout));
        enum vdc_rc rc = agent_control_show(root, json, &err);
        fflush(stdout);
        _exit((int)rc);
    }
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) {
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
    vdc_buf_clear(&out);
    cr_assert_eq(vdc_file_read(path, 1 << 20, &out, &err), VDC_RC_OK, "%s", err.text);
    return (enum vdc_rc)WEXITSTATUS(status);
}

Test(node_inspect, a_running_agent_shows_the_same_tables)
{
    struct vdc_buf tables = {0};
    open_control();
    agent_inspect_render(b.db, &tables);
    cr_assert_eq(show(false), VDC_RC_OK);
    shows(vdc_buf_text(&tables));
    shows("LEADER");
    vdc_buf_deinit(&tables);
    close_control();
}

Test(node_inspect, a_running_agent_shows_the_same_json)
{
    open_control();
    cr_assert_eq(show(true), VDC_RC_OK);
    json_t *json = parsed();
    json_t *expected = agent_inspect_json(b.db);
    cr_assert(json_equal(json_object_get(json, "database"), expected));
    cr_assert(json_is_array(json_object_get(json, "guests")));
    json_decref(expected);
    json_decref(json);
    close_control();
}

static int connect_silently(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/agent.sock", root);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    uv_run(&loop, UV_RUN_NOWAIT);
    return fd;
}

Test(node_inspect, askers_that_say_nothing_are_bounded_and_hold_nobody_up)
{
    int fds[CONTROL_CLIENTS_MAX];
    signal(SIGPIPE, SIG_IGN); /* as the agent does */
    open_control();
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        fds[i] = connect_silently();
    }
    cr_assert_eq(show(false), VDC_RC_UNAVAILABLE);
    cr_assert_eq(out.len, 0);
    close(fds[0]);
    uv_run(&loop, UV_RUN_NOWAIT);
    cr_assert_eq(show(false), VDC_RC_OK);
    /* A line that is none is told so. */
    cr_assert_eq(write(fds[1], "drop all\n", 9), 9);
    uv_run(&loop, UV_RUN_NOWAIT);
    uv_run(&loop, UV_RUN_NOWAIT);
    char said[256] = "";
    cr_assert_gt(read(fds[1], said, sizeof said - 1), 0);
    cr_assert_not_null(strstr(said, "unknown request"), "%s", said);
    close_control(); /* returns: the silent ones are closed with it */
    for (int i = 1; i < CONTROL_CLIENTS_MAX; i++) {
        close(fds[i]);
    }
}
