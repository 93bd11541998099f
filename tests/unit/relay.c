/* SPDX-License-Identifier: Apache-2.0 */
/* Two real vdc-relay processes between two unix sockets. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/prng.h>
#include <vdc/spawn.h>

#define STREAM_BYTES (50u << 20)
#define STEP_MS 60000

struct pair {
    char dir[64];
    char path_a[96]; /* listening relay's unix socket */
    char path_b[96];
    char log[96];
    int port;
    struct vdc_proc listener;
    struct vdc_proc dialler;
};

static void start_listener(struct pair *pair, const char *peer, const char *timeout_s)
{
    int out[2];
    cr_assert_eq(pipe2(out, O_CLOEXEC), 0);
    const char *argv[] = {VDC_RELAY,
                          "--listen",
                          "127.0.0.1",
                          "--unix",
                          pair->path_a,
                          "--peer",
                          peer,
                          "--ca",
                          VDC_TEST_PKI "/ca.pem",
                          "--cert",
                          VDC_TEST_PKI "/n1.pem",
                          "--key",
                          VDC_TEST_PKI "/n1.key",
                          "--timeout-s",
                          timeout_s,
                          NULL};
    struct vdc_spawn_fd fd = {out[1], 1};
    struct vdc_spawn_config config = {
        .argv = argv, .fds = &fd, .fd_count = 1, .log_path = pair->log, .parent_signal = SIGKILL};
    struct vdc_err err;
    cr_assert_eq(vdc_spawn(&config, &pair->listener, &err), VDC_RC_OK, "%s", vdc_err_text(&err));
    close(out[1]);
    char line[64] = {0};
    ssize_t got = read(out[0], line, sizeof(line) - 1);
    cr_assert_gt(got, 0);
    cr_assert_eq(sscanf(line, "port %d\n", &pair->port), 1, "%s", line);
    close(out[0]);
}

static void start_dialler(struct pair *pair, const char *name, const char *peer)
{
    char to[32];
    char cert[256];
    char key[256];
    snprintf(to, sizeof(to), "127.0.0.1:%d", pair->port);
    snprintf(cert, sizeof(cert), "%s/%s.pem", VDC_TEST_PKI, name);
    snprintf(key, sizeof(key), "%s/%s.key", VDC_TEST_PKI, name);
    const char *argv[] = {VDC_RELAY, "--connect",  to,
                          "--unix",  pair->path_b, "--peer",
                          peer,      "--ca",       VDC_TEST_PKI "/ca.pem",
                          "--cert",  cert,         "--key",
                          key,       NULL};
    struct vdc_spawn_config config = {
        .argv = argv, .log_path = pair->log, .parent_signal = SIGKILL};
    struct vdc_err err;
    cr_assert_eq(vdc_spawn(&config, &pair->dialler, &err), VDC_RC_OK, "%s", vdc_err_text(&err));
}

static void open_pair(struct pair *pair)
{
    memset(pair, 0, sizeof(*pair));
    signal(SIGPIPE, SIG_IGN);
    strcpy(pair->dir, "/tmp/vdc-relay-test-XXXXXX");
    cr_assert_not_null(mkdtemp(pair->dir));
    snprintf(pair->path_a, sizeof(pair->path_a), "%s/a.sock", pair->dir);
    snprintf(pair->path_b, sizeof(pair->path_b), "%s/b.sock", pair->dir);
    snprintf(pair->log, sizeof(pair->log), "%s/log", pair->dir);
}

static void close_pair(struct pair *pair)
{
    unlink(pair->log);
    cr_assert_eq(rmdir(pair->dir), 0, "a relay left its socket behind");
}

static int connect_unix(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, path, sizeof(to.sun_path) - 1);
    for (int i = 0; i < STEP_MS / 10; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0) {
            return fd;
        }
        close(fd);
        usleep(10000);
    }
    cr_assert_fail("nobody listens at %s", path);
    return -1;
}

static int exit_code(const struct vdc_proc *proc)
{
    int status;
    cr_assert_eq(waitpid(proc->pid, &status, 0), proc->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

struct stream {
    int fd;
    struct vdc_prng send;
    struct vdc_prng expect;
    uint64_t send_word;
    uint64_t expect_word;
    size_t sent;
    size_t sent_max;
    size_t received;
    bool shut;
    bool ended;
};

static void open_stream(struct stream *stream, int fd, uint64_t mine, uint64_t theirs, size_t max)
{
    memset(stream, 0, sizeof(*stream));
    stream->fd = fd;
    stream->sent_max = max;
    vdc_prng_init(&stream->send, mine);
    vdc_prng_init(&stream->expect, theirs);
    fcntl(fd, F_SETFL, O_NONBLOCK);
}

/* Byte n of a generator's output. */
static uint8_t next_byte(struct vdc_prng *prng, uint64_t *word, size_t n)
{
    if (n % 8 == 0) {
        *word = vdc_prng_next(prng);
    }
    return (uint8_t)(*word >> (8 * (n % 8)));
}

static void send_some(struct stream *stream)
{
    static uint8_t piece[65536];
    struct vdc_prng prng = stream->send;
    uint64_t word = stream->send_word;
    size_t len = VDC_MIN(sizeof(piece), stream->sent_max - stream->sent);
    for (size_t i = 0; i < len; i++) {
        piece[i] = next_byte(&prng, &word, stream->sent + i);
    }
    ssize_t put = write(stream->fd, piece, len);
    if (put < 0) {
        cr_assert_eq(errno, EAGAIN);
        return;
    }
    for (ssize_t i = 0; i < put; i++) {
        next_byte(&stream->send, &stream->send_word, stream->sent++);
    }
}

static void receive_some(struct stream *stream)
{
    static uint8_t piece[65536];
    ssize_t got = read(stream->fd, piece, sizeof(piece));
    if (got == 0) {
        stream->ended = true;
    } else if (got < 0) {
        cr_assert_eq(errno, EAGAIN);
    }
    for (ssize_t i = 0; i < got; i++) {
        uint8_t wanted = next_byte(&stream->expect, &stream->expect_word, stream->received++);
        if (piece[i] != wanted) { /* cr_assert for each byte would take minutes */
            cr_assert_fail("byte %zu differs", stream->received - 1);
        }
    }
}

static void turn_streams(struct stream *a, struct stream *b)
{
    struct stream *both[] = {a, b};
    struct pollfd fds[2];
    for (int i = 0; i < 2; i++) {
        struct stream *stream = both[i];
        if (stream->sent == stream->sent_max && !stream->shut) {
            stream->shut = true;
            cr_assert_eq(shutdown(stream->fd, SHUT_WR), 0);
        }
        short events = stream->shut ? 0 : POLLOUT;
        fds[i] = (struct pollfd){stream->ended && stream->shut ? -1 : stream->fd,
                                 (short)(events | (stream->ended ? 0 : POLLIN)), 0};
    }
    cr_assert_gt(poll(fds, 2, STEP_MS), 0, "nothing moves");
    for (int i = 0; i < 2; i++) {
        if (fds[i].revents & (POLLIN | POLLHUP)) {
            receive_some(both[i]);
        }
        if (fds[i].revents & POLLOUT && !both[i]->shut) {
            send_some(both[i]);
        }
    }
}

static void carry(size_t a_to_b, size_t b_to_a)
{
    struct pair pair;
    open_pair(&pair);
    start_listener(&pair, "vdc://node/n2", "60");
    start_dialler(&pair, "n2", "vdc://node/n1");
    struct stream a;
    struct stream b;
    open_stream(&a, connect_unix(pair.path_a), 1, 2, a_to_b);
    open_stream(&b, connect_unix(pair.path_b), 2, 1, b_to_a);
    while (!a.ended || !b.ended) {
        turn_streams(&a, &b);
    }
    cr_assert_eq(a.received, b_to_a);
    cr_assert_eq(b.received, a_to_b);
    close(a.fd);
    close(b.fd);
    cr_assert_eq(exit_code(&pair.listener), 0);
    cr_assert_eq(exit_code(&pair.dialler), 0);
    close_pair(&pair);
}

Test(relay, carries_fifty_megabytes_both_ways_unharmed, .timeout = 120)
{
    carry(STREAM_BYTES, STREAM_BYTES);
}

Test(relay, carries_one_way_after_the_other_has_ended, .timeout = 120)
{
    carry(0, STREAM_BYTES / 5);
    carry(STREAM_BYTES / 5, 0);
    carry(0, 0);
}

Test(relay, refuses_another_identity_and_goes_on_waiting_for_the_right_one, .timeout = 120)
{
    struct pair pair;
    open_pair(&pair);
    start_listener(&pair, "vdc://node/n2", "60");
    start_dialler(&pair, "m1", "vdc://node/n1");
    int fd = connect_unix(pair.path_b);
    cr_assert_eq(exit_code(&pair.dialler), 1);
    close(fd);
    start_dialler(&pair, "n2", "vdc://node/n1");
    int b = connect_unix(pair.path_b);
    int a = connect_unix(pair.path_a);
    cr_assert_eq(write(b, "hello", 5), 5);
    char text[8] = {0};
    cr_assert_eq(read(a, text, sizeof(text)), 5);
    cr_assert_str_eq(text, "hello");
    close(a);
    close(b);
    cr_assert_eq(exit_code(&pair.listener), 0);
    cr_assert_eq(exit_code(&pair.dialler), 0);
    close_pair(&pair);
}

Test(relay, fails_where_the_other_relay_is_not_the_expected_one, .timeout = 120)
{
    struct pair pair;
    open_pair(&pair);
    start_listener(&pair, "vdc://node/n2", "60");
    start_dialler(&pair, "n2", "vdc://node/n3");
    int fd = connect_unix(pair.path_b);
    cr_assert_eq(exit_code(&pair.dialler), 1);
    close(fd);
    kill(pair.listener.pid, SIGTERM);
    cr_assert_eq(exit_code(&pair.listener), 1000 + SIGTERM);
    unlink(pair.path_a);
    close_pair(&pair);
}

Test(relay, fails_when_the_other_relay_is_killed, .timeout = 120)
{
    struct pair pair;
    open_pair(&pair);
    start_listener(&pair, "vdc://node/n2", "60");
    start_dialler(&pair, "n2", "vdc://node/n1");
    int a = connect_unix(pair.path_a);
    int b = connect_unix(pair.path_b);
    cr_assert_eq(write(b, "x", 1), 1);
    char c;
    cr_assert_eq(read(a, &c, 1), 1);
    kill(pair.dialler.pid, SIGKILL);
    cr_assert_eq(exit_code(&pair.dialler), 1000 + SIGKILL);
    cr_assert_eq(exit_code(&pair.listener), 1);
    cr_assert_eq(read(a, &c, 1), 0);
    close(a);
    close(b);
    close_pair(&pair);
}

Test(relay, gives_up_when_nobody_comes, .timeout = 120)
{
    struct pair pair;
    open_pair(&pair);
    start_listener(&pair, "vdc://node/n2", "1");
    cr_assert_eq(exit_code(&pair.listener), 1);
    close_pair(&pair);
}
