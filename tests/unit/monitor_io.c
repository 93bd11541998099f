/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor's drivers that need neither root nor QEMU: console log, control socket, KVM probe. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <vdc/base.h>
#include <vdc/console.h>
#include <vdc/control.h>
#include <vdc/file.h>
#include <vdc/kvm_probe.h>
#include <vdc/line_reader.h>

static char root[64];

static void init(void)
{
    strcpy(root, "/tmp/vdc-monitor-io.XXXXXX");
    cr_assert_not_null(mkdtemp(root));
}

static void fini(void)
{
    (void)!vdc_dir_remove(root, NULL);
}

TestSuite(monitor_io, .init = init, .fini = fini);

/* ---- console ---- */

/* Byte `n` of a stream that repeats later than any test writes. */
static char byte_at(uint64_t n)
{
    return (char)((n * 2654435761U) >> 29);
}

static void write_stream(struct vdc_console *console, uint64_t from, size_t len)
{
    vdc_autofree char *data = vdc_calloc(len + 1, 1);

    for (size_t i = 0; i < len; i++) {
        data[i] = byte_at(from + i);
    }
    cr_assert_eq(vdc_console_write(console, data, len, NULL), VDC_RC_OK);
}

Test(monitor_io, console_keeps_the_last_bytes_and_gives_them_by_offset)
{
    struct vdc_console console;
    struct vdc_monitor_console out;
    int dirfd = open(root, O_RDONLY | O_DIRECTORY);
    const uint64_t total = 3 * (uint64_t)VDC_CONSOLE_FILE_MAX + 12345;
    uint64_t at = 0;
    uint64_t offset = 0;
    uint64_t kept = 0;

    cr_assert_eq(vdc_console_open(&console, dirfd, NULL), VDC_RC_OK);
    while (at < total) {
        size_t len = (size_t)VDC_MIN(total - at, 70001);
        write_stream(&console, at, len);
        at += len;
    }
    cr_assert_eq(console.end, total);
    do {
        vdc_console_read(&console, offset, 32768, &out);
        cr_assert_gt(out.len, 0);
        for (size_t i = 0; i < out.len; i++) {
            cr_assert_eq(out.data[i], byte_at(out.offset + i));
        }
        offset = out.offset + out.len;
        kept += out.len;
        free(out.data);
    } while (offset < out.end);
    cr_assert_eq(kept, VDC_CONSOLE_FILE_MAX + 12345, "the last two files, no byte twice");
    vdc_console_read(&console, total + 5, 10, &out);
    cr_assert_eq(out.len, 0);
    cr_assert_eq(out.offset, total);
    free(out.data);
    vdc_console_close(&console);
    close(dirfd);
}

static void expect_console(const struct vdc_console *console, uint64_t offset, const char *text)
{
    struct vdc_monitor_console out;

    vdc_console_read(console, offset, 200, &out);
    cr_assert_eq(out.offset, offset);
    cr_assert_str_eq(out.data, text);
    free(out.data);
}

Test(monitor_io, console_goes_on_behind_what_an_earlier_run_said)
{
    static const char first[] = "ok\nCOUNT 12";
    static const char mark[] =
        " ...\r\n--- 1970-01-01T00:00:00.000Z: the guest is started anew ---\r\n";
    struct vdc_console console;
    int dirfd = open(root, O_RDONLY | O_DIRECTORY);

    cr_assert_eq(vdc_console_open(&console, dirfd, NULL), VDC_RC_OK);
    vdc_console_begin_run(&console, (vdc_wall){0});
    cr_assert_eq(console.end, 0, "the first run needs no line");
    cr_assert_eq(vdc_console_write(&console, first, strlen(first), NULL), VDC_RC_OK);
    vdc_console_close(&console);
    cr_assert_eq(vdc_console_open(&console, dirfd, NULL), VDC_RC_OK);
    cr_assert_eq(console.end, strlen(first));
    vdc_console_begin_run(&console, (vdc_wall){0});
    expect_console(&console, strlen(first), mark);
    vdc_console_begin_run(&console, (vdc_wall){0});
    expect_console(&console, strlen(first) + strlen(mark), mark + strlen(" ...\r\n"));
    vdc_console_close(&console);
    close(dirfd);
}

Test(monitor_io, console_offsets_stay_true_over_rotations_and_new_runs)
{
    const uint64_t total = 2 * (uint64_t)VDC_CONSOLE_FILE_MAX + 5;
    struct vdc_console console;
    int dirfd = open(root, O_RDONLY | O_DIRECTORY);

    for (int run = 0; run < 3; run++) {
        cr_assert_eq(vdc_console_open(&console, dirfd, NULL), VDC_RC_OK);
        cr_assert_eq(console.end, (uint64_t)run * total);
        write_stream(&console, console.end, total);
        vdc_console_close(&console);
    }
    cr_assert_eq(vdc_console_open(&console, dirfd, NULL), VDC_RC_OK);
    cr_assert_eq(console.end, 3 * total);
    for (uint64_t offset = console.old_base; offset < console.end; offset += 99991) {
        struct vdc_monitor_console out;
        vdc_console_read(&console, offset, 1, &out);
        cr_assert_eq(out.offset, offset);
        cr_assert_eq(out.data[0], byte_at(offset));
        free(out.data);
    }
    cr_assert_leq(console.end - console.old_base, 2 * (uint64_t)VDC_CONSOLE_FILE_MAX);
    vdc_console_close(&console);
    close(dirfd);
}

Test(monitor_io, console_counts_bytes_that_a_full_disk_loses_and_says_so_once)
{
    struct vdc_console console;
    struct vdc_monitor_console out;
    struct vdc_err err = {0};
    int dirfd = open(root, O_RDONLY | O_DIRECTORY);

    cr_assert_eq(vdc_console_open(&console, dirfd, NULL), VDC_RC_OK);
    cr_assert_eq(vdc_console_write(&console, "before", 6, NULL), VDC_RC_OK);
    close(console.file);
    console.file = open("/dev/full", O_RDWR);
    cr_assert_eq(vdc_console_write(&console, "lost", 4, &err), VDC_RC_NO_SPACE);
    cr_assert_eq(vdc_console_write(&console, "after", 5, NULL), VDC_RC_OK);
    cr_assert_eq(console.end, 15);
    vdc_console_read(&console, 10, 100, &out);
    cr_assert_eq(out.offset, 10);
    cr_assert_str_eq(out.data, "after");
    free(out.data);
    vdc_console_close(&console);
    close(dirfd);
}

/* ---- control socket ---- */

static uv_loop_t loop;
static struct vdc_control *control;
static int requests;

static void on_connect(void *data, struct vdc_control_client *client)
{
    struct vdc_monitor_message message = {.kind = VDC_MONITOR_MESSAGE_STATE, .has_state = true};

    (void)data;
    vdc_control_send(client, &message);
}

static void on_request(void *data, struct vdc_control_client *client,
                       const struct vdc_monitor_request *request)
{
    struct vdc_monitor_message message = {.kind = VDC_MONITOR_MESSAGE_REPLY, .id = request->id};

    (void)data;
    requests++;
    vdc_control_send(client, &message);
}

static void open_control(void)
{
    vdc_autofree char *path = vdc_asprintf("%s/monitor.sock", root);
    const struct vdc_control_config config = {
        .path = path, .on_connect = on_connect, .on_request = on_request};
    struct vdc_err err = {0};

    cr_assert_eq(uv_loop_init(&loop), 0);
    cr_assert_eq(vdc_control_open(&loop, &config, &control, &err), VDC_RC_OK, "%s", err.text);
}

static void close_control(void)
{
    vdc_control_close(control);
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(&loop), 0);
}

static int dial(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/monitor.sock", root);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void turn(void)
{
    for (int i = 0; i < 20; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
    }
}

/* Everything that waits at the client; -1 when the connection was closed and nothing waits. */
static ssize_t take(int fd, char *data, size_t cap)
{
    ssize_t got;

    turn();
    got = read(fd, data, cap - 1);
    data[got > 0 ? got : 0] = '\0';
    return got == 0 ? -1 : VDC_MAX(got, 0);
}

static void put_text(int fd, const char *text)
{
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

Test(monitor_io, a_client_gets_the_state_first_and_an_answer_to_each_request)
{
    char data[8192];
    int fd;

    open_control();
    fd = dial();
    cr_assert_gt(take(fd, data, sizeof(data)), 0);
    cr_assert_not_null(strstr(data, "\"event\":\"state\""));
    put_text(fd, "{\"id\":1,\"command\":\"status\"}\n{\"id\":2,\"comm");
    cr_assert_gt(take(fd, data, sizeof(data)), 0);
    cr_assert_str_eq(data, "{\"id\":1,\"rc\":\"OK\"}\n");
    put_text(fd, "and\":\"nonsense\"}\n");
    cr_assert_gt(take(fd, data, sizeof(data)), 0);
    cr_assert_not_null(strstr(data, "{\"id\":2,\"rc\":\"INVALID\""));
    cr_assert_eq(requests, 1);
    close(fd);
    close_control();
}

Test(monitor_io, a_line_without_end_is_answered_and_closes_the_connection)
{
    vdc_autofree char *blob = vdc_calloc(VDC_MONITOR_LINE_MAX + 1, 1);
    char data[8192];
    size_t sent = 0;
    int fd;

    open_control();
    fd = dial();
    memset(blob, 'x', VDC_MONITOR_LINE_MAX + 1);
    while (sent < VDC_MONITOR_LINE_MAX + 1) {
        ssize_t put = write(fd, blob + sent, VDC_MONITOR_LINE_MAX + 1 - sent);
        sent += put > 0 ? (size_t)put : 0;
        turn();
    }
    cr_assert_gt(take(fd, data, sizeof(data)), 0);
    cr_assert_not_null(strstr(data, "\"id\":0,\"rc\":\"INVALID\""));
    cr_assert_eq(take(fd, data, sizeof(data)), -1);
    close(fd);
    close_control();
}

Test(monitor_io, clients_over_the_limit_are_turned_away_and_the_others_stay)
{
    int fds[VDC_MONITOR_CLIENTS_MAX + 1];
    char data[8192];
    struct vdc_monitor_message message = {.kind = VDC_MONITOR_MESSAGE_STATE, .has_state = true};

    open_control();
    for (size_t i = 0; i < VDC_COUNT_OF(fds); i++) {
        fds[i] = dial();
        cr_assert_eq(take(fds[i], data, sizeof(data)) == -1, i == VDC_MONITOR_CLIENTS_MAX);
    }
    vdc_control_broadcast(control, &message);
    for (size_t i = 0; i < VDC_MONITOR_CLIENTS_MAX; i++) {
        cr_assert_gt(take(fds[i], data, sizeof(data)), 0);
    }
    close(fds[0]);
    turn();
    close(fds[VDC_MONITOR_CLIENTS_MAX]);
    fds[0] = dial();
    cr_assert_gt(take(fds[0], data, sizeof(data)), 0, "a place that became free is given again");
    for (size_t i = 0; i < VDC_MONITOR_CLIENTS_MAX; i++) {
        close(fds[i]);
    }
    close_control();
}

Test(monitor_io, a_client_that_does_not_read_is_cut_off)
{
    struct vdc_monitor_message message = {.kind = VDC_MONITOR_MESSAGE_STATE, .has_state = true};
    char data[65536];
    ssize_t got;
    int lazy;

    open_control();
    lazy = dial();
    turn();
    for (int i = 0; i < 5000; i++) {
        vdc_control_broadcast(control, &message);
    }
    turn();
    while ((got = read(lazy, data, sizeof(data))) > 0) {
    }
    cr_assert_eq(got, 0, "closed, not waiting");
    close(lazy);
    close_control();
}

/* ---- KVM probe ---- */

Test(monitor_io, the_kvm_probe_gives_a_verdict_with_a_reason)
{
    struct vdc_kvm_probe probe;

    vdc_kvm_probe(&probe);
    cr_assert_neq(probe.reason[0], '\0');
    cr_assert_eq(probe.usable,
                 VDC_MIN(probe.real_instructions_per_s, probe.long_instructions_per_s) >=
                     VDC_KVM_INSTRUCTIONS_PER_S_MIN);
    cr_assert_not_null(strstr(probe.reason, probe.usable ? "-> KVM" : "-> TCG"));
}
