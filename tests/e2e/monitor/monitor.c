/* SPDX-License-Identifier: Apache-2.0 */
/*
 * e2e_monitor MONITOR KERNEL INITRD DIR [SCENARIO ...]: prints "ok NAME" or "not ok NAME: why" for
 * each check. No check asserts how long something takes, with one exception: that a guest whose
 * lease has passed does not print any more.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/clock.h>
#include <vdc/file.h>

#include "harness.h"

#define MIGRATIONS 5

static int failures;

static bool check(const char *name, bool ok, const struct guest *guest)
{
    if (ok) {
        (void)printf("ok monitor %s\n", name);
    } else {
        failures++;
        (void)printf("not ok monitor %s: state %s (%s), see %s\n", name,
                     vdc_phase_text(guest->state.state), guest->state.reason, guest->dir);
        (void)fprintf(stderr, "---- %s ----\n", name);
        (void)fflush(stdout);
        {
            vdc_autofree char *log = vdc_asprintf("%s/monitor.log", guest->dir);
            struct vdc_buf text = {0};
            (void)!vdc_file_read(log, 1 << 20, &text, NULL);
            (void)fputs(vdc_buf_text(&text), stderr);
            vdc_buf_deinit(&text);
        }
    }
    (void)fflush(stdout);
    return ok;
}

/* The counts on a console: first and last; gap: the first count that does not follow its
 * predecessor, 0 if all do. A cut last line is not looked at. */
struct counts {
    unsigned long long first, last, gap;
    size_t lines;
};

static struct counts read_counts(const char *text)
{
    struct counts counts = {0};
    const char *at = text;

    while ((at = strstr(at, "COUNT ")) != NULL) {
        const char *end = strchr(at, '\n');
        unsigned long long n;

        if (end == NULL) {
            break;
        }
        n = strtoull(at + 6, NULL, 10);
        if (counts.lines == 0) {
            counts.first = n;
        } else if (n != counts.last + 1 && counts.gap == 0) {
            counts.gap = n;
        }
        counts.last = n;
        counts.lines++;
        at = end;
    }
    return counts;
}

static unsigned long long last_count(const struct guest *guest)
{
    vdc_autofree char *text = guest_console(guest);

    return read_counts(text).last;
}

static bool boots(struct guest *guest, const struct setup *setup)
{
    guest_start(guest, setup);
    return guest_connect(guest) && guest_wait(guest, VDC_PHASE_RUNNING) &&
           guest_wait_console(guest, "COUNT ");
}

static bool proc_status_has(int64_t pid, const char *text)
{
    vdc_autofree char *path = vdc_asprintf("/proc/%lld/status", (long long)pid);
    struct vdc_buf status = {0};
    bool found = vdc_file_read(path, 65536, &status, NULL) == VDC_RC_OK &&
                 strstr(vdc_buf_text(&status), text) != NULL;

    vdc_buf_deinit(&status);
    return found;
}

static bool namespace_differs(int64_t pid, const char *name)
{
    vdc_autofree char *theirs = vdc_asprintf("/proc/%lld/ns/%s", (long long)pid, name);
    vdc_autofree char *ours = vdc_asprintf("/proc/self/ns/%s", name);
    char a[128] = "", b[128] = "";

    return readlink(theirs, a, sizeof(a) - 1) > 0 && readlink(ours, b, sizeof(b) - 1) > 0 &&
           strcmp(a, b) != 0;
}

static bool is_confined(int64_t pid)
{
    return proc_status_has(pid, "CapEff:\t0000000000000000") &&
           proc_status_has(pid, "CapBnd:\t0000000000000000") &&
           proc_status_has(pid, "NoNewPrivs:\t1") && proc_status_has(pid, "Seccomp:\t2") &&
           proc_status_has(pid, "Uid:\t64099\t64099\t64099\t64099") &&
           namespace_differs(pid, "net") && namespace_differs(pid, "mnt") &&
           namespace_differs(pid, "ipc") && namespace_differs(pid, "pid");
}

static bool in_cgroup(const struct guest *guest)
{
    vdc_autofree char *path = vdc_asprintf("/proc/%lld/cgroup", (long long)guest->state.qemu_pid);
    struct vdc_buf text = {0};
    bool found = vdc_file_read(path, 65536, &text, NULL) == VDC_RC_OK &&
                 strstr(vdc_buf_text(&text), guest->launch.cgroup) != NULL;

    vdc_buf_deinit(&text);
    return found;
}

static bool final_is(const struct guest *guest, enum vdc_phase state)
{
    vdc_autofree char *path = vdc_asprintf("%s/final.json", guest->dir);
    struct vdc_buf text = {0};
    struct vdc_monitor_state final;
    bool ok = vdc_file_read(path, VDC_MONITOR_LINE_MAX, &text, NULL) == VDC_RC_OK &&
              vdc_monitor_state_decode(text.data, text.len, &final, NULL) == VDC_RC_OK &&
              final.state == state && final.ended;

    vdc_buf_deinit(&text);
    return ok;
}

/* Reads the whole console over the protocol. */
static char *console_by_protocol(struct guest *guest)
{
    struct vdc_monitor_request request = {.command = VDC_MONITOR_CONSOLE_READ, .max = 1000};
    struct vdc_buf text = {0};
    bool more = true;

    while (more) {
        struct vdc_monitor_message reply;
        if (!guest_request(guest, request, &reply)) {
            break;
        }
        vdc_buf_append(&text, reply.console.data, reply.console.len);
        request.offset = reply.console.offset + reply.console.len;
        more = request.offset < reply.console.end;
        vdc_monitor_message_deinit(&reply);
    }
    return vdc_buf_steal(&text);
}

/* ---- scenarios ---- */

static void scenario_life(const struct setup *setup)
{
    struct guest guest;
    unsigned long long before;

    guest_init(&guest, setup, "life", "life.raw");
    check("boots a guest that counts on its disk", boots(&guest, setup), &guest);
    check("QEMU is confined", is_confined(guest.state.qemu_pid), &guest);
    check("QEMU is in the partition's control group", in_cgroup(&guest), &guest);
    {
        vdc_autofree char *text = console_by_protocol(&guest);
        check("console_read gives the console",
              strstr(text, "COUNT 1\n") != NULL || strstr(text, "COUNT 1\r\n") != NULL, &guest);
    }

    settle(1000);
    check("pause stops the guest",
          guest_command(&guest, VDC_MONITOR_PAUSE) && guest_wait(&guest, VDC_PHASE_PAUSED), &guest);
    settle(100);
    before = last_count(&guest);
    settle(500);
    check("a paused guest does not count", last_count(&guest) == before, &guest);
    check("resume lets it go on",
          guest_command(&guest, VDC_MONITOR_RESUME) && guest_wait(&guest, VDC_PHASE_RUNNING),
          &guest);
    guest.content.run = VDC_RUN_PAUSED;
    guest_publish(&guest);
    check("the view pauses the guest", guest_wait(&guest, VDC_PHASE_PAUSED), &guest);
    guest.content.run = VDC_RUN_RUNNING;
    guest_publish(&guest);
    check("the view runs the guest", guest_wait(&guest, VDC_PHASE_RUNNING), &guest);

    guest_disconnect(&guest);
    check("an agent that comes back finds the state",
          guest_connect(&guest) && guest_wait(&guest, VDC_PHASE_RUNNING) &&
              guest.state.monitor_pid == guest.monitor.pid &&
              guest.state.monitor_start == guest.monitor.start_time,
          &guest);

    check("stop powers the guest off",
          guest_command(&guest, VDC_MONITOR_STOP) && guest_join(&guest) == 0 &&
              guest.state.state == VDC_PHASE_STOPPED && final_is(&guest, VDC_PHASE_STOPPED),
          &guest);
    {
        vdc_autofree char *text = guest_console(&guest);
        struct counts counts = read_counts(text);
        check("no count was lost by pauses", counts.gap == 0 && counts.lines > 5, &guest);
    }
    guest_end(&guest);

    guest_init(&guest, setup, "life", "life.raw");
    check("boots again from its disk", boots(&guest, setup), &guest);
    {
        vdc_autofree char *text = guest_console(&guest);
        check("it goes on from the last count on its disk", read_counts(text).first > before,
              &guest);
    }
    {
        vdc_autofree char *text = guest_console_all(&guest);
        const char *mark = strstr(text, "the guest is started anew");
        check("the log of its former run is still there",
              mark != NULL && strstr(text, "COUNT 1") < mark, &guest);
    }
    check("kill ends it at once",
          guest_command(&guest, VDC_MONITOR_KILL) && guest_join(&guest) == 0 &&
              final_is(&guest, VDC_PHASE_STOPPED),
          &guest);
    guest_end(&guest);
}

static void scenario_faults(const struct setup *setup)
{
    struct guest guest;
    struct vdc_proc qemu;
    vdc_mono until;

    guest_init(&guest, setup, "fault", "fault.raw");
    check("boots for faults", boots(&guest, setup), &guest);
    (void)kill((pid_t)guest.state.qemu_pid, SIGKILL);
    check("a killed QEMU is reported as failed",
          guest_join(&guest) == 3 && guest.state.state == VDC_PHASE_FAILED &&
              guest.state.exit_signal == SIGKILL && final_is(&guest, VDC_PHASE_FAILED),
          &guest);
    guest_end(&guest);

    guest_init(&guest, setup, "fault", "fault.raw");
    check("boots after a kill", boots(&guest, setup), &guest);
    qemu =
        (struct vdc_proc){.pid = (pid_t)guest.state.qemu_pid, .start_time = guest.state.qemu_start};
    (void)kill(guest.monitor.pid, SIGKILL);
    (void)guest_join(&guest);
    until = vdc_mono_add(vdc_clock_mono(), WAIT_MS * VDC_MS);
    while (vdc_proc_alive(&qemu) && !vdc_mono_reached(vdc_clock_mono(), until)) {
        (void)usleep(10000);
    }
    check("QEMU dies with its monitor", !vdc_proc_alive(&qemu), &guest);
    guest_end(&guest);

    guest_init(&guest, setup, "fault", NULL);
    vdc_str_set(guest.launch.kernel, sizeof(guest.launch.kernel), "/nonexistent/kernel");
    guest_start(&guest, setup);
    check("a kernel that is not there is reported",
          guest_join(&guest) == 3 && final_is(&guest, VDC_PHASE_FAILED), &guest);
    guest_end(&guest);
}

/* For developers without root. Run as root here, but nothing of the confinement is asked for. */
static void scenario_unconfined(const struct setup *setup)
{
    struct guest guest;

    guest_init(&guest, setup, "unconfined", "unconfined.raw");
    guest.launch.uid = guest.launch.gid = 0;
    guest_start(&guest, setup);
    check("without uid and without --unconfined nothing is started", guest_join(&guest) == 1,
          &guest);
    guest_end(&guest);
    guest_init(&guest, setup, "unconfined", "unconfined.raw");
    guest.launch.uid = guest.launch.gid = 0;
    guest.launch.cgroup[0] = '\0';
    guest.unconfined = true;
    check("--unconfined boots, and the state says so",
          boots(&guest, setup) && !guest.state.confined, &guest);
    check("it stops as well", guest_command(&guest, VDC_MONITOR_STOP) && guest_join(&guest) == 0,
          &guest);
    guest_end(&guest);
}

static void scenario_lease(const struct setup *setup)
{
    struct guest guest;
    unsigned long long count;

    guest_init(&guest, setup, "lease", "lease.raw");
    guest.lease_ns = 2 * VDC_SECOND;
    guest.launch.grace_ms = 20000;
    check("boots under a lease", boots(&guest, setup), &guest);
    guest.renew = false;
    check("the guest is paused when its lease passes",
          guest_wait(&guest, VDC_PHASE_PAUSED) && strcmp(guest.state.reason, "lease") == 0, &guest);
    count = last_count(&guest);
    settle(500);
    check("it does not count after that", last_count(&guest) == count, &guest);
    guest.renew = true;
    check("a renewal in the grace time lets it go on", guest_wait(&guest, VDC_PHASE_RUNNING),
          &guest);
    check("stop under a lease", guest_command(&guest, VDC_MONITOR_STOP) && guest_join(&guest) == 0,
          &guest);
    guest_end(&guest);

    guest_init(&guest, setup, "lease", "lease.raw");
    guest.lease_ns = 2 * VDC_SECOND;
    guest.launch.grace_ms = 500;
    check("boots under a short grace time", boots(&guest, setup), &guest);
    guest.renew = false;
    check("it is killed after the grace time",
          guest_join(&guest) == 3 && strcmp(guest.state.reason, "lease") == 0, &guest);
    guest_end(&guest);

    guest_init(&guest, setup, "lease", "lease.raw");
    guest.lease_ns = 2 * VDC_SECOND;
    guest.launch.grace_ms = 20000;
    check("boots for a hung QEMU", boots(&guest, setup), &guest);
    (void)kill((pid_t)guest.state.qemu_pid, SIGSTOP);
    guest.renew = false;
    check("a QEMU that does not confirm the pause is killed without grace",
          guest_join(&guest) == 3 && strcmp(guest.state.reason, "lease") == 0, &guest);
    guest_end(&guest);
}

/* ---- migration ---- */

/* Forwards between two unix sockets that both wait for one connection, as a pair of relays does. */
struct forwarder {
    char out_path[2048];
    char in_path[2048];
    pid_t pid;
};

static int listen_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int dirfd;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)unlink(path);
    if (vdc_unix_path_open(path, address.sun_path, &dirfd, NULL) != VDC_RC_OK ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 1) != 0) {
        perror(path);
        exit(1);
    }
    if (dirfd >= 0) {
        (void)close(dirfd);
    }
    return fd;
}

static void forward(int from, int to)
{
    char data[65536];
    ssize_t got;

    while ((got = read(from, data, sizeof(data))) > 0) {
        for (ssize_t sent = 0; sent < got;) {
            ssize_t put = send(to, data + sent, (size_t)(got - sent), MSG_NOSIGNAL);
            if (put <= 0) {
                _exit(1);
            }
            sent += put;
        }
    }
    _exit(0);
}

static void forwarder_start(struct forwarder *forwarder, const struct setup *setup)
{
    int out, in;

    (void)snprintf(forwarder->out_path, sizeof(forwarder->out_path), "%s/out.sock", setup->dir);
    (void)snprintf(forwarder->in_path, sizeof(forwarder->in_path), "%s/in.sock", setup->dir);
    out = listen_unix(forwarder->out_path);
    in = listen_unix(forwarder->in_path);
    forwarder->pid = fork();
    if (forwarder->pid == 0) {
        int source = accept(out, NULL, NULL);
        int target = accept(in, NULL, NULL);
        forward(source, target);
    }
    (void)close(out);
    (void)close(in);
}

static void forwarder_end(struct forwarder *forwarder)
{
    (void)kill(forwarder->pid, SIGKILL);
    (void)waitpid(forwarder->pid, NULL, 0);
}

static bool request_path(struct guest *guest, enum vdc_monitor_command command, const char *path)
{
    struct vdc_monitor_request request = {.command = command};

    vdc_str_set(request.unix_path, sizeof(request.unix_path), path);
    return guest_request(guest, request, NULL);
}

static void target_init(struct guest *target, const struct setup *setup, const char *name,
                        const struct guest *source)
{
    guest_init(target, setup, name, "migrate.raw");
    vdc_str_set(target->launch.name, sizeof(target->launch.name), source->launch.name);
    target->launch.migrate_incoming = true;
    target->content.run = VDC_RUN_INCOMING;
    target->content.generation = source->content.generation + 1;
}

/* Up to the point at which the source waits for migrate_continue. */
static bool begin_migration(struct guest *source, struct guest *target, const struct setup *setup,
                            struct forwarder *forwarder)
{
    guest_start(target, setup);
    forwarder_start(forwarder, setup);
    return guest_connect(target) && guest_wait(target, VDC_PHASE_INCOMING) &&
           request_path(target, VDC_MONITOR_MIGRATE_IN, forwarder->in_path) &&
           guest_wait(target, VDC_PHASE_LOADING) &&
           request_path(source, VDC_MONITOR_MIGRATE_OUT, forwarder->out_path) &&
           guest_wait(source, VDC_PHASE_SWITCHOVER);
}

/* The consoles of all who ran the guest, behind each other, hold each count once. `before` is the
 * joined text of those that have ended. */
static bool no_gap(const char *before, const struct guest *source, const struct guest *target)
{
    vdc_autofree char *first = guest_console(source);
    vdc_autofree char *second = guest_console(target);
    vdc_autofree char *text = vdc_asprintf("%s%s%s", before, first, second);
    struct counts counts = read_counts(text);

    if (counts.gap != 0) {
        (void)fprintf(stderr, "gap before count %llu\n", counts.gap);
    }
    return counts.gap == 0 && counts.lines > 0;
}

static void scenario_migrate(const struct setup *setup)
{
    struct guest guests[2];
    struct guest *source = &guests[0];
    struct guest *target = &guests[1];
    struct forwarder forwarder;
    char *joined = vdc_strdup("");
    char name[64];

    guest_init(source, setup, "migrate-0", "migrate.raw");
    check("boots for migrations", boots(source, setup), source);
    for (int i = 1; i <= MIGRATIONS; i++) {
        unsigned long long count;
        bool ok;

        (void)snprintf(name, sizeof(name), "migrate-%d", i);
        target_init(target, setup, name, source);
        ok = begin_migration(source, target, setup, &forwarder) &&
             guest_command(source, VDC_MONITOR_MIGRATE_CONTINUE) &&
             guest_wait(source, VDC_PHASE_POSTMIGRATE) && guest_wait(target, VDC_PHASE_LOADED);
        (void)snprintf(name, sizeof(name), "migration %d hands over", i);
        check(name, ok, ok ? source : target);
        count = last_count(source);
        target->content.run = VDC_RUN_RUNNING;
        guest_publish(target);
        settle(200);
        (void)snprintf(name, sizeof(name), "migration %d: nobody runs before activate", i);
        check(name, target->state.state == VDC_PHASE_LOADED && last_count(source) == count, target);
        ok = guest_command(target, VDC_MONITOR_ACTIVATE) && guest_wait(target, VDC_PHASE_RUNNING) &&
             guest_wait_console(target, "COUNT ");
        settle(300);
        (void)snprintf(name, sizeof(name), "migration %d: the target runs, no count lost or twice",
                       i);
        check(name, ok && no_gap(joined, source, target), target);
        (void)fprintf(
            stderr, "migration %d: downtime %.1f ms, of it 200 waited; QEMU says %lld ms\n", i,
            (double)(target->state.migration.resumed_ns - source->state.migration.stopped_ns) / 1e6,
            (long long)source->state.migration.qemu_downtime_ms);
        (void)guest_command(source, VDC_MONITOR_KILL);
        check("the source ends", guest_join(source) == 0, source);
        forwarder_end(&forwarder);
        {
            vdc_autofree char *console = guest_console(source);
            char *longer = vdc_asprintf("%s%s", joined, console);
            free(joined);
            joined = longer;
        }
        guest_end(source);
        *source = *target;
        /* The harness knows guests by address: register the moved one anew. */
        guest_moved(target, source);
    }
    free(joined);
    (void)guest_command(source, VDC_MONITOR_KILL);
    (void)guest_join(source);
    guest_end(source);
}

static void scenario_abort(const struct setup *setup)
{
    struct guest source, target;
    struct forwarder forwarder;

    guest_init(&source, setup, "abort", "migrate.raw");
    check("boots for aborts", boots(&source, setup), &source);

    target_init(&target, setup, "abort-1", &source);
    check("reaches the switch-over", begin_migration(&source, &target, setup, &forwarder), &source);
    check("cancel at the switch-over lets the source go on",
          guest_command(&source, VDC_MONITOR_MIGRATE_CANCEL) &&
              guest_wait(&source, VDC_PHASE_RUNNING) &&
              source.state.migration.status == VDC_MIGRATION_STATUS_CANCELLED,
          &source);
    check("the target of a cancelled migration fails", guest_join(&target) == 3, &target);
    guest_end(&target);
    forwarder_end(&forwarder);

    target_init(&target, setup, "abort-2", &source);
    check("reaches the switch-over again", begin_migration(&source, &target, setup, &forwarder),
          &source);
    (void)kill(target.monitor.pid, SIGKILL);
    forwarder_end(&forwarder);
    (void)guest_join(&target);
    check("a target that dies at the switch-over lets the source go on",
          guest_command(&source, VDC_MONITOR_MIGRATE_CONTINUE) &&
              guest_wait(&source, VDC_PHASE_RUNNING),
          &source);
    guest_end(&target);

    target_init(&target, setup, "abort-3", &source);
    check("hands over for an abort",
          begin_migration(&source, &target, setup, &forwarder) &&
              guest_command(&source, VDC_MONITOR_MIGRATE_CONTINUE) &&
              guest_wait(&source, VDC_PHASE_POSTMIGRATE) && guest_wait(&target, VDC_PHASE_LOADED),
          &source);
    (void)guest_command(&target, VDC_MONITOR_KILL);
    (void)guest_join(&target);
    check("resume after postmigrate runs the source again",
          guest_command(&source, VDC_MONITOR_RESUME) && guest_wait(&source, VDC_PHASE_RUNNING),
          &source);
    settle(500);
    check("no count was lost by aborts", no_gap("", &source, &target), &source);
    guest_end(&target);
    forwarder_end(&forwarder);

    check("migrate_out to a socket that is not there fails and the guest runs on",
          request_path(&source, VDC_MONITOR_MIGRATE_OUT, "/nonexistent/relay.sock") &&
              guest_wait(&source, VDC_PHASE_RUNNING) &&
              source.state.migration.status == VDC_MIGRATION_STATUS_FAILED,
          &source);

    target_init(&target, setup, "abort-4", &source);
    check("reaches the switch-over for a lease",
          begin_migration(&source, &target, setup, &forwarder), &source);
    source.renew = false;
    settle(4500);
    forwarder_end(&forwarder); /* QEMU would now resume the guest by itself */
    check("a source whose lease passes in the switch-over never runs again",
          guest_join(&source) == 3 && strcmp(source.state.reason, "lease") == 0 &&
              source.state.migration.resumed_ns == 0,
          &source);
    guest_end(&source);
    check("a target whose source is gone fails", guest_join(&target) == 3, &target);
    guest_end(&target);
}

static const struct {
    const char *name;
    void (*run)(const struct setup *setup);
} scenarios[] = {
    {"life", scenario_life},       {"faults", scenario_faults}, {"lease", scenario_lease},
    {"migrate", scenario_migrate}, {"abort", scenario_abort},   {"unconfined", scenario_unconfined},
};

static bool chosen(int argc, char **argv, const char *name)
{
    for (int i = 5; i < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return true;
        }
    }
    return argc <= 5;
}

int main(int argc, char **argv)
{
    struct setup setup;

    if (argc < 5) {
        (void)fputs("usage: e2e_monitor MONITOR KERNEL INITRD DIR [SCENARIO ...]\n", stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    setup =
        (struct setup){.monitor = argv[1], .kernel = argv[2], .initrd = argv[3], .dir = argv[4]};
    for (size_t i = 0; i < VDC_COUNT_OF(scenarios); i++) {
        if (chosen(argc, argv, scenarios[i].name)) {
            scenarios[i].run(&setup);
        }
    }
    guests_end();
    return failures == 0 ? 0 : 1;
}
