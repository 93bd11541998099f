/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <vdc/base.h>
#include <vdc/launch.h>
#include <vdc/line_reader.h>
#include <vdc/monitor_protocol.h>

/* ---- lines ---- */

Test(monitor_protocol, lines_are_cut_from_any_pieces)
{
    static const char text[] = "one\ntwo\r\n\nfour";
    char joined[64] = "";
    struct vdc_line_reader reader;
    char *line;

    vdc_line_reader_init(&reader, 16);
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        cr_assert_eq(vdc_line_reader_feed(&reader, &text[i], 1), VDC_RC_OK);
        while ((line = vdc_line_reader_take(&reader, NULL)) != NULL) {
            strcat(joined, "<");
            strcat(joined, line);
            strcat(joined, ">");
        }
    }
    cr_assert_str_eq(joined, "<one><two><>");
    cr_assert_not(vdc_line_reader_is_over(&reader));
    cr_assert_eq(vdc_line_reader_feed(&reader, "\nfive\nsix\n", 10), VDC_RC_OK);
    cr_assert_str_eq(vdc_line_reader_take(&reader, NULL), "four");
    cr_assert_str_eq(vdc_line_reader_take(&reader, NULL), "five");
    cr_assert_str_eq(vdc_line_reader_take(&reader, NULL), "six");
    cr_assert_null(vdc_line_reader_take(&reader, NULL));
    vdc_line_reader_deinit(&reader);
}

Test(monitor_protocol, a_line_without_end_is_noticed)
{
    struct vdc_line_reader reader;

    vdc_line_reader_init(&reader, 8);
    cr_assert_eq(vdc_line_reader_feed(&reader, "12345678", 8), VDC_RC_OK);
    cr_assert_null(vdc_line_reader_take(&reader, NULL));
    cr_assert_not(vdc_line_reader_is_over(&reader));
    cr_assert_eq(vdc_line_reader_feed(&reader, "9", 1), VDC_RC_OK);
    cr_assert_null(vdc_line_reader_take(&reader, NULL));
    cr_assert(vdc_line_reader_is_over(&reader));
    cr_assert_eq(vdc_line_reader_feed(&reader, "0", 1), VDC_RC_TOO_LARGE);
    vdc_line_reader_deinit(&reader);
}

/* ---- messages ---- */

static struct vdc_monitor_state make_state(void)
{
    struct vdc_monitor_state state = {
        .name = "web-1",
        .state = VDC_PHASE_SWITCHOVER,
        .reason = "memory is sent",
        .generation = 3,
        .lease_needed = true,
        .lease_deadline_ns = 123456789,
        .monitor_pid = 10,
        .monitor_start = 11,
        .qemu_pid = 12,
        .qemu_start = 13,
        .accelerator = "tcg",
        .confined = true,
        .responsive = true,
        .console_end = 14,
        .exit_code = -1,
    };

    state.migration = (struct vdc_monitor_migration){
        .dir = VDC_MIGRATION_OUT,
        .status = VDC_MIGRATION_STATUS_SWITCHOVER,
        .bytes_total = 1,
        .stopped_ns = INT64_MAX,
        .qemu_downtime_ms = -1,
        .error = "a \"quoted\" one",
    };
    return state;
}

Test(monitor_protocol, a_state_survives_the_wire)
{
    struct vdc_monitor_message out = {.kind = VDC_MONITOR_MESSAGE_STATE, .has_state = true};
    struct vdc_monitor_message in;
    struct vdc_buf line = {0};

    out.state = make_state();
    vdc_monitor_message_encode(&out, &line);
    cr_assert_eq(line.data[line.len - 1], '\n');
    cr_assert_null(memchr(line.data, '\n', line.len - 1));
    cr_assert_eq(vdc_monitor_message_decode(line.data, line.len - 1, &in, NULL), VDC_RC_OK);
    cr_assert_eq(in.kind, VDC_MONITOR_MESSAGE_STATE);
    cr_assert_eq(memcmp(&in.state, &out.state, sizeof(in.state)), 0);
    for (size_t len = 0; len < line.len - 1; len++) {
        cr_assert_eq(vdc_monitor_message_decode(line.data, len, &in, NULL), VDC_RC_PROTOCOL);
    }
    vdc_buf_deinit(&line);
}

Test(monitor_protocol, a_text_that_is_no_utf8_does_not_break_a_state)
{
    struct vdc_monitor_state state = make_state();
    struct vdc_monitor_state in;
    struct vdc_buf line = {0};

    strcpy(state.reason, "bad \xff byte");
    vdc_monitor_state_encode(&state, &line);
    cr_assert_eq(vdc_monitor_state_decode(line.data, line.len, &in, NULL), VDC_RC_OK);
    cr_assert_str_eq(in.reason, "bad ? byte");
    vdc_buf_deinit(&line);
}

Test(monitor_protocol, console_bytes_of_any_kind_and_length_survive)
{
    char data[300];

    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (char)(i * 7);
    }
    for (size_t len = 0; len <= sizeof(data); len++) {
        struct vdc_monitor_message out = {
            .kind = VDC_MONITOR_MESSAGE_REPLY, .id = len, .has_console = true};
        struct vdc_monitor_message in;
        struct vdc_buf line = {0};

        out.console =
            (struct vdc_monitor_console){.offset = 5, .end = 900, .len = len, .data = data};
        vdc_monitor_message_encode(&out, &line);
        cr_assert_eq(vdc_monitor_message_decode(line.data, line.len - 1, &in, NULL), VDC_RC_OK);
        cr_assert_eq(in.id, len);
        cr_assert_eq(in.console.len, len);
        cr_assert_eq(in.console.end, 900);
        cr_assert_eq(memcmp(in.console.data, data, len), 0);
        vdc_monitor_message_deinit(&in);
        vdc_buf_deinit(&line);
    }
}

Test(monitor_protocol, the_largest_console_reply_fits_a_line)
{
    vdc_autofree char *data = vdc_calloc(VDC_MONITOR_CONSOLE_READ_MAX, 1);
    struct vdc_monitor_message out = {
        .kind = VDC_MONITOR_MESSAGE_REPLY, .id = INT64_MAX, .has_console = true};
    struct vdc_buf line = {0};

    out.console = (struct vdc_monitor_console){
        .offset = INT64_MAX, .end = INT64_MAX, .len = VDC_MONITOR_CONSOLE_READ_MAX, .data = data};
    vdc_monitor_message_encode(&out, &line);
    cr_assert_leq(line.len, VDC_MONITOR_LINE_MAX);
    vdc_buf_deinit(&line);
}

Test(monitor_protocol, replies_that_are_damaged_are_refused)
{
    static const char *const lines[] = {
        "",
        "[]",
        "{}",
        "{\"id\":1}",
        "{\"id\":-1,\"rc\":\"OK\"}",
        "{\"id\":\"1\",\"rc\":\"OK\"}",
        "{\"event\":\"other\"}",
        "{\"event\":\"state\"}",
        "{\"event\":\"state\",\"state\":{\"name\":\"x\"}}",
        "{\"id\":1,\"rc\":\"OK\",\"console\":{}}",
        "{\"id\":1,\"rc\":\"OK\",\"console\":{\"offset\":0,\"end\":0,\"data\":\"A\"}}",
        "{\"id\":1,\"rc\":\"OK\",\"console\":{\"offset\":0,\"end\":0,\"data\":\"A=AA\"}}",
        "{\"id\":1,\"rc\":\"OK\",\"console\":{\"offset\":0,\"end\":0,\"data\":\"AA=A\"}}",
        "{\"id\":1,\"rc\":\"OK\",\"console\":{\"offset\":0,\"end\":0,\"data\":\"====\"}}",
        "{\"id\":1,\"rc\":\"OK\",\"rc\":\"OK\"}",
    };
    struct vdc_monitor_message message;

    for (size_t i = 0; i < VDC_COUNT_OF(lines); i++) {
        cr_assert_eq(vdc_monitor_message_decode(lines[i], strlen(lines[i]), &message, NULL),
                     VDC_RC_PROTOCOL, "%s", lines[i]);
    }
    cr_assert_eq(
        vdc_monitor_message_decode("{\"id\":1,\"rc\":\"NEWER\",\"more\":1}", 30, &message, NULL),
        VDC_RC_OK);
    cr_assert_eq(message.rc, VDC_RC_INTERNAL);
}

Test(monitor_protocol, every_request_survives_the_wire)
{
    for (int c = 0; c <= VDC_MONITOR_CONSOLE_READ; c++) {
        struct vdc_monitor_request out = {.id = 7, .command = (enum vdc_monitor_command)c};
        struct vdc_monitor_request in;
        struct vdc_buf line = {0};
        struct vdc_err err = {0};

        switch (out.command) {
        case VDC_MONITOR_STOP:
            out.timeout_s = 3;
            break;
        case VDC_MONITOR_MIGRATE_OUT:
            out.max_bandwidth = 1 << 20;
            out.downtime_ms = 20;
            strcpy(out.unix_path, "/run/relay.sock");
            break;
        case VDC_MONITOR_MIGRATE_IN:
            strcpy(out.unix_path, "/run/relay.sock");
            break;
        case VDC_MONITOR_CONSOLE_READ:
            out.offset = 9;
            out.max = 10;
            break;
        default:
            break;
        }
        vdc_monitor_request_encode(&out, &line);
        cr_assert_eq(vdc_monitor_request_decode(line.data, line.len, &in, &err), VDC_RC_OK, "%s",
                     err.text);
        cr_assert_eq(memcmp(&in, &out, sizeof(in)), 0);
        vdc_buf_deinit(&line);
    }
}

Test(monitor_protocol, requests_that_are_wrong_are_refused_with_the_field)
{
    static const struct {
        const char *line;
        const char *text;
    } cases[] = {
        {"", "no JSON"},
        {"5", "no JSON"},
        {"{\"command\":\"status\"}", "id"},
        {"{\"id\":1}", "the command is not known"},
        {"{\"id\":1,\"command\":\"destroy\"}", "the command is not known"},
        {"{\"id\":1,\"command\":\"status\",\"x\":1}", "x is no field of status"},
        {"{\"id\":1,\"command\":\"pause\",\"timeout_s\":1}", "timeout_s is no field of pause"},
        {"{\"id\":1,\"command\":\"stop\",\"timeout_s\":3601}", "timeout_s"},
        {"{\"id\":1,\"command\":\"stop\",\"timeout_s\":-1}", "timeout_s"},
        {"{\"id\":1,\"command\":\"migrate_in\"}", "unix is missing"},
        {"{\"id\":1,\"command\":\"migrate_in\",\"unix\":\"relative\"}", "unix"},
        {"{\"id\":1,\"command\":\"migrate_in\",\"unix\":\"/a\\u0000b\"}", "no JSON"},
        {"{\"id\":1,\"command\":\"console_read\",\"max\":32769}", "max"},
        {"{\"id\":1,\"id\":2,\"command\":\"status\"}", "duplicate"},
    };
    struct vdc_monitor_request request;

    for (size_t i = 0; i < VDC_COUNT_OF(cases); i++) {
        struct vdc_err err = {0};
        cr_assert_eq(
            vdc_monitor_request_decode(cases[i].line, strlen(cases[i].line), &request, &err),
            VDC_RC_INVALID, "%s", cases[i].line);
        cr_assert_not_null(strstr(err.text, cases[i].text), "%s: %s", cases[i].line, err.text);
    }
    cr_assert_eq(vdc_monitor_request_decode("{\"id\":4,\"command\":\"x\"}", 22, &request, NULL),
                 VDC_RC_INVALID);
    cr_assert_eq(request.id, 4, "the id is kept for the answer");
}

Test(monitor_protocol, long_socket_paths_are_reached_through_their_directory)
{
    char template[] = "/tmp/vdc-unix-path.XXXXXX";
    char out[VDC_UNIX_PATH_CAP];
    vdc_autofree char *dir = NULL;
    vdc_autofree char *path = NULL;
    vdc_autofree char *other = NULL;
    int dirfd;
    struct stat a, b;

    cr_assert_not_null(mkdtemp(template));
    dir = vdc_asprintf("%s/%0100d", template, 1);
    cr_assert_eq(mkdir(dir, 0700), 0);
    path = vdc_asprintf("%s/s", dir);
    cr_assert_eq(mkdir(path, 0700), 0); /* anything that stat finds */
    cr_assert_eq(vdc_unix_path_open(path, out, &dirfd, NULL), VDC_RC_OK);
    cr_assert_geq(dirfd, 0);
    cr_assert_eq(stat(path, &a), 0);
    cr_assert_eq(stat(out, &b), 0);
    cr_assert_eq(a.st_ino, b.st_ino);
    close(dirfd);
    cr_assert_eq(vdc_unix_path_open("/tmp/s", out, &dirfd, NULL), VDC_RC_OK);
    cr_assert_str_eq(out, "/tmp/s");
    cr_assert_eq(dirfd, -1);
    cr_assert_eq(vdc_unix_path_open("s", out, &dirfd, NULL), VDC_RC_INVALID);
    other = vdc_asprintf("%s-not-there/s", dir);
    cr_assert_eq(vdc_unix_path_open(other, out, &dirfd, NULL), VDC_RC_NOT_FOUND);
    rmdir(path);
    rmdir(dir);
    rmdir(template);
}

/* ---- the launch configuration ---- */

Test(monitor_protocol, a_launch_configuration_survives_its_file)
{
    struct vdc_launch out = {.name = "web-1",
                             .kernel = "/k",
                             .initrd = "/i",
                             .append = "quiet",
                             .disk_count = 1,
                             .migrate_incoming = true,
                             .lease = true,
                             .uid = 1,
                             .gid = 2,
                             .cgroup = "vdc/n1/x",
                             .grace_ms = 100,
                             .stop_timeout_s = 5,
                             .tsc_khz = 9};
    struct vdc_launch in;
    vdc_autofree char *text = NULL;

    strcpy(out.disks[0].id, "root");
    strcpy(out.disks[0].path, "/d");
    text = vdc_launch_to_json(&out);
    cr_assert_eq(vdc_launch_parse(text, strlen(text), &in, NULL), VDC_RC_OK);
    cr_assert_eq(memcmp(&in, &out, sizeof(in)), 0);
}

Test(monitor_protocol, a_launch_configuration_that_is_wrong_is_refused_with_the_place)
{
    static const struct {
        const char *json;
        const char *text;
    } cases[] = {
        {"{", "line 1"},
        {"[]", "no JSON object"},
        {"{\"name\":\"a\"}", "kernel is missing"},
        {"{\"kernel\":\"/k\"}", "name is missing"},
        {"{\"name\":\"A B\",\"kernel\":\"/k\"}", "name is no valid name"},
        {"{\"name\":\"a\",\"kernel\":\"k\"}", "kernel is no absolute path"},
        {"{\"name\":\"a\",\"kernel\":\"/k\",\"disk\":[]}", "disk is no field"},
        {"{\"name\":\"a\",\"kernel\":\"/k\",\"uid\":-1}", "uid"},
        {"{\"name\":\"a\",\"kernel\":\"/k\",\"cgroup\":\"a/../b\"}", "cgroup"},
        {"{\"name\":\"a\",\"kernel\":\"/k\",\"cgroup\":\"/a\"}", "cgroup"},
        {"{\"name\":\"a\",\"kernel\":\"/k\",\"disks\":[{}]}", "disks[0]: id or path is missing"},
        {"{\"name\":\"a\",\"kernel\":\"/k\",\"disks\":[{\"id\":\"x\",\"path\":\"/d\"},"
         "{\"id\":\"x\",\"path\":\"/e\"}]}",
         "disks[1]: id x is there twice"},
        {"{\"name\":\"a\",\"kernel\":\"/k\",\"name\":\"b\"}", "duplicate"},
    };
    struct vdc_launch launch;

    for (size_t i = 0; i < VDC_COUNT_OF(cases); i++) {
        struct vdc_err err = {0};
        cr_assert_eq(vdc_launch_parse(cases[i].json, strlen(cases[i].json), &launch, &err),
                     VDC_RC_INVALID, "%s", cases[i].json);
        cr_assert_not_null(strstr(err.text, cases[i].text), "%s: %s", cases[i].json, err.text);
    }
}
