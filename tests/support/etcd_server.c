/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/buf.h>

extern char **environ;

/* Time for a cluster to come up or to elect, on a machine busy with other tests. */
#define READY_SECONDS 60

struct member {
    pid_t pid; /* 0: not running */
    bool frozen;
    uint16_t client_port;
    uint16_t peer_port;
    char *endpoint;
};

struct test_etcd {
    char dir[64];
    size_t count;
    struct member members[TEST_ETCD_MEMBERS_MAX];
    const char *endpoints[TEST_ETCD_MEMBERS_MAX];
    const struct test_etcd_tls *tls;
    bool started;
};

static void die(const char *fmt, ...) VDC_PRINTF(1, 2) VDC_NORETURN;
static void die(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("etcd_server: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

/* All ports are held open together, so that no two are the same. */
static void find_ports(struct test_etcd *cluster)
{
    int fds[2 * TEST_ETCD_MEMBERS_MAX];
    for (size_t i = 0; i < 2 * cluster->count; i++) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof(at);
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fds[i] < 0 || bind(fds[i], (struct sockaddr *)&at, len) != 0 ||
            getsockname(fds[i], (struct sockaddr *)&at, &len) != 0) {
            die("no free port: %s", strerror(errno));
        }
        struct member *member = &cluster->members[i / 2];
        *(i % 2 == 0 ? &member->client_port : &member->peer_port) = ntohs(at.sin_port);
    }
    for (size_t i = 0; i < 2 * cluster->count; i++) {
        close(fds[i]);
    }
}

static void spawn(struct test_etcd *cluster, size_t number)
{
    struct member *member = &cluster->members[number];
    struct vdc_buf peers = {0};
    for (size_t i = 0; i < cluster->count; i++) {
        vdc_buf_printf(&peers, "%sm%zu=http://127.0.0.1:%u", i == 0 ? "" : ",", i,
                       cluster->members[i].peer_port);
    }
    const struct test_etcd_tls *tls = cluster->tls;
    vdc_autofree char *client =
        vdc_asprintf("%s://127.0.0.1:%u", tls != NULL ? "https" : "http", member->client_port);
    vdc_autofree char *peer = vdc_asprintf("http://127.0.0.1:%u", member->peer_port);
    vdc_autofree char *name = vdc_asprintf("m%zu", number);
    vdc_autofree char *data = vdc_asprintf("%s/m%zu", cluster->dir, number);
    vdc_autofree char *log = vdc_asprintf("%s/m%zu.log", cluster->dir, number);

    /* clang-format off */
    const char *args[48] = {
        "setpriv", "--pdeathsig", "SIGKILL",
        "etcd", "--name", name, "--data-dir", data,
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", peers.data, "--initial-cluster-state",
        cluster->started ? "existing" : "new", "--initial-cluster-token", cluster->dir,
        "--backend-batch-limit", "200", "--backend-batch-interval", "10ms",
        "--experimental-watch-progress-notify-interval", "500ms",
        "--logger", "zap", "--log-level", "warn", "--log-outputs", log,
    };
    /* clang-format on */
    size_t count = 0;
    while (args[count] != NULL) {
        count++;
    }
    if (tls != NULL) {
        const char *more[] = {"--cert-file", tls->cert_path,       "--key-file",
                              tls->key_path, "--client-cert-auth", "--trusted-ca-file",
                              tls->ca_path};
        memcpy(&args[count], more, sizeof(more));
    }

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    int errnum =
        posix_spawnp(&member->pid, args[0], &actions, NULL, (char **)(uintptr_t)args, environ);
    posix_spawn_file_actions_destroy(&actions);
    vdc_buf_deinit(&peers);
    if (errnum != 0) {
        die("start etcd: %s", strerror(errnum));
    }
    member->frozen = false;
}

char *test_etcd_ctl(const struct test_etcd *cluster, size_t member, const char *words)
{
    const struct test_etcd_tls *tls = cluster->tls;
    struct vdc_buf command = {0};
    vdc_buf_printf(&command, "ETCDCTL_API=3 etcdctl --command-timeout=2s --dial-timeout=2s ");
    if (tls != NULL) {
        vdc_buf_printf(&command, "--endpoints=https://%s --cacert=%s --cert=%s --key=%s ",
                       cluster->endpoints[member], tls->ca_path, tls->client_cert_path,
                       tls->client_key_path);
    } else {
        vdc_buf_printf(&command, "--endpoints=http://%s ", cluster->endpoints[member]);
    }
    vdc_buf_printf(&command, "%s 2>/dev/null", words);
    FILE *pipe = popen(command.data, "re");
    if (pipe == NULL) {
        die("etcdctl: %s", strerror(errno));
    }
    struct vdc_buf out = {0};
    for (;;) {
        char *to = vdc_buf_reserve(&out, 4096);
        size_t got = fread(to, 1, 4096, pipe);
        if (got == 0) {
            break;
        }
        out.len += got;
        out.data[out.len] = 0;
    }
    vdc_buf_deinit(&command);
    if (pclose(pipe) != 0) {
        vdc_buf_deinit(&out);
        return NULL;
    }
    return vdc_buf_steal(&out);
}

/* Whether the member says in `endpoint status -w json` that it is the leader itself; *known: that
 * there is a leader at all. */
static bool says_leader(const struct test_etcd *cluster, size_t member, bool *known)
{
    vdc_autofree char *status = test_etcd_ctl(cluster, member, "endpoint status -w json");
    if (status == NULL) {
        return false;
    }
    const char *own = strstr(status, "\"member_id\":");
    const char *leader = strstr(status, "\"leader\":");
    if (own == NULL || leader == NULL) {
        return false;
    }
    uint64_t own_id = strtoull(own + strlen("\"member_id\":"), NULL, 10);
    uint64_t leader_id = strtoull(leader + strlen("\"leader\":"), NULL, 10);
    *known = *known || leader_id != 0;
    return leader_id != 0 && own_id == leader_id;
}

size_t test_etcd_leader(const struct test_etcd *cluster)
{
    for (int tries = 0; tries < READY_SECONDS * 10; tries++) {
        for (size_t i = 0; i < cluster->count; i++) {
            bool known = false;
            const struct member *member = &cluster->members[i];
            if (member->pid != 0 && !member->frozen && says_leader(cluster, i, &known)) {
                return i;
            }
        }
        usleep(100 * 1000);
    }
    die("no leader after %d s; logs are in %s", READY_SECONDS, cluster->dir);
}

struct test_etcd *test_etcd_start(size_t members, const struct test_etcd_tls *tls)
{
    if (members < 1 || members > TEST_ETCD_MEMBERS_MAX) {
        die("%zu members", members);
    }
    struct test_etcd *cluster = VDC_NEW(struct test_etcd);
    const char *tmp = getenv("TMPDIR");
    snprintf(cluster->dir, sizeof(cluster->dir), "%.40s/vdc-etcd.XXXXXX",
             tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(cluster->dir) == NULL) {
        die("make %s: %s", cluster->dir, strerror(errno));
    }
    cluster->count = members;
    cluster->tls = tls;
    find_ports(cluster);
    for (size_t i = 0; i < members; i++) {
        struct member *member = &cluster->members[i];
        member->endpoint = vdc_asprintf("127.0.0.1:%u", member->client_port);
        cluster->endpoints[i] = member->endpoint;
        spawn(cluster, i);
    }
    test_etcd_leader(cluster);
    cluster->started = true;
    return cluster;
}

const char *const *test_etcd_endpoints(const struct test_etcd *cluster)
{
    return cluster->endpoints;
}

size_t test_etcd_count(const struct test_etcd *cluster)
{
    return cluster->count;
}

const char *test_etcd_dir(const struct test_etcd *cluster)
{
    return cluster->dir;
}

void test_etcd_signal(struct test_etcd *cluster, size_t number, int signal_number)
{
    struct member *member = &cluster->members[number];
    if (number >= cluster->count || member->pid == 0 || kill(member->pid, signal_number) != 0) {
        die("signal %d to member %zu: it does not run", signal_number, number);
    }
    member->frozen = signal_number == SIGSTOP;
    if (signal_number == SIGSTOP) {
        /* Its threads stop one after the other; on a busy machine one may still answer meanwhile. */
        waitpid(member->pid, NULL, WUNTRACED);
    }
    if (signal_number == SIGKILL) {
        waitpid(member->pid, NULL, 0);
        member->pid = 0;
    }
}

void test_etcd_restart(struct test_etcd *cluster, size_t member)
{
    if (member >= cluster->count || cluster->members[member].pid != 0) {
        die("restart of member %zu, which runs", member);
    }
    spawn(cluster, member);
}

void test_etcd_stop(struct test_etcd *cluster)
{
    for (size_t i = 0; i < cluster->count; i++) {
        if (cluster->members[i].pid != 0) {
            test_etcd_signal(cluster, i, SIGKILL);
        }
        free(cluster->members[i].endpoint);
    }
    vdc_autofree char *command = vdc_asprintf("rm -rf '%s'", cluster->dir);
    if (system(command) != 0) {
        die("remove %s", cluster->dir);
    }
    free(cluster);
}
