/* SPDX-License-Identifier: Apache-2.0 */
/* Looking into a journal that lies there: one with a partition, its port and a promise. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include <vdc/base.h>
#include <vdc/file.h>
#include <vdc/journal.h>

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
    cr_assert_eq(agent_inspect(root, &out, &err), VDC_RC_OK, "%s", err.text);
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
    cr_assert_eq(agent_inspect(root, &out, &err), VDC_RC_CORRUPT);
    cr_assert_not_null(strstr(err.text, " at 64: "), "%s", err.text);
    shows("state before the damage");
}

Test(node_inspect, a_directory_that_is_not_there_is_said)
{
    struct vdc_err err = {0};
    cr_assert_neq(agent_inspect("/nonexistent/journal", &out, &err), VDC_RC_OK);
    cr_assert_not_null(strstr(err.text, "/nonexistent/journal"), "%s", err.text);
}
