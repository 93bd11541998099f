/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real node agents (two, on loopback addresses) with real monitors, relays and QEMU; this program is
 * their zone manager. e2e_agent BIN_DIR PKI_DIR IMAGE_DIR WORK_DIR: prints "ok NAME" or "not ok NAME:
 * why" for each check.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vdc/file.h>
#include <vdc/log.h>
#include <vdc/spawn.h>

#include "fake_manager.h"

struct agent {
    const char *name;
    struct vdc_proc proc;
    char *config;
    char *run_dir;
    char *log;
};

static const char *bin_dir;
static const char *pki_dir;
static const char *image_dir;
static const char *work_dir;
static struct manager manager;
static struct agent agents[NODES];
static struct node *n1;
static struct node *n2;
static int failed;
static struct vdc_id web = {{0x77, 1}};

static bool check(const char *name, bool good, const char *why)
{
    if (good) {
        printf("ok agent %s\n", name);
    } else {
        printf("not ok agent %s: %s\n", name, why);
        failed++;
    }
    fflush(stdout);
    return good;
}

static void must(enum vdc_rc rc, const struct vdc_err *err)
{
    if (rc != VDC_RC_OK) {
        printf("not ok agent set-up: %s\n", vdc_err_text(err));
        exit(1);
    }
}

#define OFFERED_BYTES (UINT64_C(512) << 20)

static void write_config(struct agent *agent, unsigned number)
{
    struct vdc_buf text = {0};
    struct vdc_err err;
    agent->name = number == 1 ? "n1" : "n2";
    agent->config = vdc_asprintf("%s/%s.yaml", work_dir, agent->name);
    agent->run_dir = vdc_asprintf("%s/%s-run", work_dir, agent->name);
    agent->log = vdc_asprintf("%s/%s.log", work_dir, agent->name);
    vdc_buf_printf(&text, "name: %s\nrack: r1\nlabels: {tier: compute}\n", agent->name);
    vdc_buf_printf(&text, "managers: [\"127.0.0.1:%u\"]\naddress: 127.0.0.%u\n", manager.port,
                   10 + number);
    vdc_buf_printf(&text, "state_dir: %s/%s-state\nrun_dir: %s\n", work_dir, agent->name,
                   agent->run_dir);
    vdc_buf_printf(&text, "shared_dir: %s/shared\nimage_dir: %s\n", work_dir, image_dir);
    vdc_buf_printf(&text, "tls: {ca: %s/ca.pem, cert: %s/%s.pem, key: %s/%s.key}\n", pki_dir,
                   pki_dir, agent->name, pki_dir, agent->name);
    vdc_buf_printf(&text, "resources: {cpus: 2, memory: %llu}\n",
                   (unsigned long long)OFFERED_BYTES);
    vdc_buf_printf(&text, "cgroup: vdc-e2e-agent-%d/%s\nuid_base: %u\n", (int)getpid(), agent->name,
                   300000 + 1000 * number);
    must(vdc_file_write_atomic(agent->config, text.data, text.len, 0644, &err), &err);
    vdc_buf_deinit(&text);
}

static void start_agent(struct agent *agent)
{
    vdc_autofree char *program = vdc_asprintf("%s/vdc-node-agent", bin_dir);
    const char *argv[] = {program, "--config", agent->config, NULL};
    struct vdc_spawn_config config = {.argv = argv, .log_path = agent->log};
    struct vdc_err err;
    must(vdc_spawn(&config, &agent->proc, &err), &err);
}

/* The exit status as of waitpid(2). */
static int end_agent(struct agent *agent, int sig)
{
    int status = -1;
    if (agent->proc.pid != 0) {
        kill(agent->proc.pid, sig);
        waitpid(agent->proc.pid, &status, 0);
        agent->proc = (struct vdc_proc){0};
    }
    return status;
}

/* The console logs of some generations, one behind the other. */
static void read_console(const struct agent *agent, uint64_t generation, struct vdc_buf *text)
{
    char id[VDC_ID_TEXT_CAP];
    struct vdc_err err;
    vdc_id_to_text(&web, id);
    static const char *const names[] = {"console.log.1", "console.log"};
    for (size_t i = 0; i < 2; i++) {
        vdc_autofree char *path = vdc_asprintf("%s/partitions/%s.%llu/%s", agent->run_dir, id,
                                               (unsigned long long)generation, names[i]);
        if (vdc_file_exists(path)) {
            must(vdc_file_read(path, UINT32_C(8) << 20, text, &err), &err);
        }
    }
}

/* Number of the last whole COUNT line; *gaps counts those that do not follow the one before. */
static long last_count(const char *text, unsigned *gaps)
{
    long last = -1;
    for (const char *at = text; (at = strstr(at, "COUNT ")) != NULL; at++) {
        const char *end = strchr(at, '\n');
        if (end == NULL) {
            break;
        }
        long count = strtol(at + 6, NULL, 10);
        if (last >= 0 && count != last + 1 && gaps != NULL) {
            (*gaps)++;
        }
        last = count;
    }
    return last;
}

static long count_of(const struct agent *agent, uint64_t generation)
{
    struct vdc_buf text = {0};
    read_console(agent, generation, &text);
    long count = last_count(vdc_buf_text(&text), NULL);
    vdc_buf_deinit(&text);
    return count;
}

/* Until it has counted `more` further. */
static bool counts_on(const struct agent *agent, uint64_t generation, long more)
{
    long from = count_of(agent, generation);
    for (int i = 0; i < WAIT_MS / 100; i++) {
        if (count_of(agent, generation) >= from + more) {
            return true;
        }
        manager_settle(&manager, 100);
    }
    return false;
}

static bool has_processes(const struct agent *agent)
{
    vdc_autofree char *dir = vdc_asprintf("%s/partitions", agent->run_dir);
    bool found = false;
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc != NULL && (entry = readdir(proc)) != NULL) {
        vdc_autofree char *path = vdc_asprintf("/proc/%s/cmdline", entry->d_name);
        struct vdc_buf text = {0};
        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' &&
            vdc_file_read(path, 65536, &text, NULL) == VDC_RC_OK &&
            memmem(text.data, text.len, dir, strlen(dir)) != NULL) {
            found = true;
        }
        vdc_buf_deinit(&text);
    }
    closedir(proc);
    return found;
}

/* --- the checks, one after the other --- */

static bool join(struct node *node)
{
    if (!manager_wait(&manager, node->joined && node->guests_complete && node->grants > 0)) {
        return false;
    }
    /* All that is offered; the rest of the machine is the node's own. */
    struct vdc_op op = {
        .kind = VDC_OP_ZONE_SET,
        .zone_set = {.overcommit_milli = 4000,
                     .cpu = {.amount = node->hello.cpus},
                     .memory = {.amount = node->hello.numa[0].memory_bytes}},
    };
    return manager_tx(&manager, node, &op, 1) == VDC_RC_OK;
}

static bool wait_equal(struct node *node)
{
    unsigned compared = node->compared;
    return manager_wait(&manager, node->compared > compared && node->replica_equal);
}

/* The node's own partitions stay. */
static bool zone_is_empty(const struct node *node)
{
    return vdc_allocdb_find_zone(node->replica, "prod")->partitions == 0;
}

static bool check_joining(void)
{
    start_agent(&agents[0]);
    bool good = check("joins over mutual TLS, takes its slice", join(n1), "no ZONE_JOINED");
    good = good && check("hello tells inventory and accelerator",
                         n1->hello.cpus >= 1 && n1->hello.numa_len >= 1 &&
                             n1->hello.accelerator[0] != 0 && n1->hello.accelerator_reason[0] != 0,
                         "fields are missing");
    good = good &&
           check("what is not offered is the ultravisor's",
                 vdc_allocdb_memory_bytes(n1->replica) > OFFERED_BYTES &&
                     vdc_allocdb_find_zone(n1->replica, "prod")->memory_bytes == OFFERED_BYTES &&
                     vdc_allocdb_zone_at(n1->replica, 0)->memory_bytes ==
                         vdc_allocdb_zone_at(n1->replica, 0)->memory_used_bytes,
                 "free is not total less what partitions hold");
    return good && check("replica equals the database by digest", wait_equal(n1), "it differs");
}

#define CLIENTS 16

/* Each wants more than half of the memory; their requests are on their way at the same time. */
static bool check_race(void)
{
    static const char config[] = "{\"image\":\"linux\",\"name\":\"racer\"}";
    const struct vdc_zone_slice *slice = vdc_allocdb_find_zone(n1->replica, "prod");
    uint64_t bytes =
        slice->memory_bytes / 2 / (UINT64_C(2) << 20) * (UINT64_C(2) << 20) + (UINT64_C(2) << 20);
    struct vdc_op ops[CLIENTS][2];
    for (uint8_t i = 0; i < CLIENTS; i++) {
        struct vdc_id id = {{0x88, i}};
        ops[i][0] = (struct vdc_op){.kind = VDC_OP_PARTITION_CREATE,
                                    .partition_create = {.id = id,
                                                         .name = "racer",
                                                         .kind = VDC_PARTITION_GUEST,
                                                         .generation = 1,
                                                         .run = VDC_RUN_STOPPED,
                                                         .vcpus = 1,
                                                         .memory_bytes = bytes,
                                                         .config = (const uint8_t *)config,
                                                         .config_len = sizeof config - 1}};
        ops[i][1] =
            (struct vdc_op){.kind = VDC_OP_MEMORY_ASSIGN,
                            .memory_assign = {.id = id, .bytes = bytes, .numa = VDC_NUMA_ANY}};
    }
    bool good = check("a repeated request gets the first one's answer, on its way too",
                      manager_race(&manager, n1, ops[0], 2, CLIENTS), "other answers, or none");
    unsigned won = 0;
    unsigned lost = 0;
    for (size_t i = 0; good && i < n1->results_len; i++) {
        won += n1->results[i].rc == VDC_RC_OK;
        lost += n1->results[i].rc == VDC_RC_NO_SPACE;
    }
    good = good && check("one of many gets the last memory", won == 2 && lost == 2 * CLIENTS - 2,
                         "another number has it");
    good =
        good && check("the replica has the winner alone",
                      wait_equal(n1) && vdc_allocdb_find_zone(n1->replica, "prod")->partitions == 1,
                      "it does not");
    for (uint8_t i = 0; good && i < CLIENTS; i++) {
        struct vdc_id id = {{0x88, i}};
        if (vdc_allocdb_find_partition(n1->replica, &id) != NULL) {
            good = manager_destroy(&manager, n1, &id, 1) == VDC_RC_OK;
        }
    }
    return good && check("the winner is destroyed", wait_equal(n1) && zone_is_empty(n1),
                         "it is still there");
}

static bool check_create(void)
{
    enum vdc_rc rc = manager_create(&manager, n1, &web, 1, VDC_RUN_RUNNING);
    bool good = check("create is committed", rc == VDC_RC_OK, vdc_rc_sentence(rc));
    good = good && check("guest runs and counts",
                         manager_wait(&manager, manager_guest_is(n1, &web, 1, VDC_GUEST_RUNNING)) &&
                             counts_on(&agents[0], 1, 5),
                         "it does not count");
    struct vdc_msg_command more = {.offset = 0, .max = 4096};
    rc = good ? manager_command(&manager, n1, &web, 1, VDC_COMMAND_CONSOLE_READ, &more)
              : VDC_RC_INTERNAL;
    return good && check("console is read through the agent",
                         rc == VDC_RC_OK && strstr(vdc_buf_text(&n1->console), "COUNT ") != NULL,
                         vdc_rc_sentence(rc));
}

static bool check_agent_killed(void)
{
    long before = count_of(&agents[0], 1);
    end_agent(&agents[0], SIGKILL);
    manager_settle(&manager, 500);
    unsigned sessions = n1->sessions;
    start_agent(&agents[0]);
    bool good = check("killed agent comes back with its database",
                      manager_wait(&manager, n1->sessions > sessions && n1->guests_complete) &&
                          wait_equal(n1),
                      "it did not join again");
    good = good && check("its guest was adopted",
                         manager_wait(&manager, manager_guest_is(n1, &web, 1, VDC_GUEST_RUNNING)),
                         "it is not reported as running");
    good = good && check("and unharmed: it counts on", counts_on(&agents[0], 1, 5), "no counts");
    struct vdc_buf text = {0};
    read_console(&agents[0], 1, &text);
    unsigned gaps = 0;
    long after = last_count(vdc_buf_text(&text), &gaps);
    vdc_buf_deinit(&text);
    return good && check("without a gap in its counts", gaps == 0 && after > before, "a gap");
}

static bool migrate(struct node *from, struct node *to, uint64_t generation)
{
    const struct agent *source = &agents[from == n2];
    const struct agent *target = &agents[to == n2];
    uint64_t next = generation + 1;
    struct vdc_msg_command more = {.downtime_ns = 50 * VDC_MS};
    if (manager_create(&manager, to, &web, next, VDC_RUN_INCOMING) != VDC_RC_OK ||
        !manager_wait(&manager, manager_guest_is(to, &web, next, VDC_GUEST_INCOMING))) {
        return check("target waits for the stream", false, "not incoming");
    }
    vdc_str_set(more.peer_node, sizeof more.peer_node, from->name);
    if (manager_command(&manager, to, &web, next, VDC_COMMAND_MIGRATE_IN, &more) != VDC_RC_OK ||
        to->answer.port == 0) {
        return check("target opens its relay", false, to->answer.text);
    }
    vdc_str_set(more.peer_node, sizeof more.peer_node, to->name);
    vdc_str_set(more.peer_address, sizeof more.peer_address, to->hello.address);
    more.peer_port = to->answer.port;
    if (manager_command(&manager, from, &web, generation, VDC_COMMAND_MIGRATE_OUT, &more) !=
            VDC_RC_OK ||
        !manager_wait(&manager, manager_guest_is(from, &web, generation, VDC_GUEST_SWITCHOVER))) {
        return check("source reaches the switch-over", false, from->answer.text);
    }
    if (manager_command(&manager, from, &web, generation, VDC_COMMAND_MIGRATE_CONTINUE, NULL) !=
            VDC_RC_OK ||
        !manager_wait(&manager, manager_guest_is(from, &web, generation, VDC_GUEST_MIGRATED) &&
                                    manager_guest_is(to, &web, next, VDC_GUEST_LOADED))) {
        return check("stream is handed over", false, from->answer.text);
    }
    if (manager_set_run(&manager, to, &web, next, VDC_RUN_RUNNING) != VDC_RC_OK ||
        manager_destroy(&manager, from, &web, generation) != VDC_RC_OK ||
        !manager_wait(&manager, manager_guest_is(to, &web, next, VDC_GUEST_RUNNING)) ||
        !counts_on(target, next, 5)) {
        return check("target runs", false, "it does not");
    }
    struct vdc_buf text = {0};
    read_console(source, generation, &text);
    read_console(target, next, &text);
    unsigned gaps = 0;
    bool good = last_count(vdc_buf_text(&text), &gaps) > 0 && gaps == 0;
    vdc_buf_deinit(&text);
    return check("migration loses and repeats no count", good, "a gap");
}

static bool check_migration(void)
{
    start_agent(&agents[1]);
    return check("a second node joins", join(n2), "it does not") && migrate(n1, n2, 1) &&
           check("source's processes are gone", !has_processes(&agents[0]), "some are left") &&
           migrate(n2, n1, 2);
}

static bool check_monitor_killed(void)
{
    char id[VDC_ID_TEXT_CAP];
    vdc_id_to_text(&web, id);
    vdc_autofree char *path =
        vdc_asprintf("%s/partitions/%s.3/monitor.json", agents[0].run_dir, id);
    struct vdc_buf text = {0};
    struct vdc_err err;
    must(vdc_file_read(path, 4096, &text, &err), &err);
    int pid = 0;
    sscanf(vdc_buf_text(&text), "{\"pid\": %d", &pid);
    vdc_buf_deinit(&text);
    if (pid <= 1 || kill(pid, SIGKILL) != 0) {
        return check("monitor is found", false, "no pid");
    }
    return check("killed monitor is reported",
                 manager_wait(&manager, manager_guest_is(n1, &web, 3, VDC_GUEST_FAILED)),
                 "it is not") &&
           check("and started again; the guest goes on from its disk",
                 manager_wait(&manager, manager_guest_is(n1, &web, 3, VDC_GUEST_RUNNING)) &&
                     counts_on(&agents[0], 3, 5),
                 "it does not count");
}

static bool check_fenced(void)
{
    /* As if n1 had been fenced while its session was away. */
    n1->incarnation = 2;
    n1->fenced = true;
    unsigned sessions = n1->sessions;
    end_agent(&agents[0], SIGTERM);
    start_agent(&agents[0]);
    bool good =
        check("fenced node joins under its new incarnation",
              manager_wait(&manager, n1->sessions > sessions && n1->joined && n1->guests_complete),
              "it does not");
    good = good && check("and has destroyed what it ran",
                         !has_processes(&agents[0]) && n1->guests_len == 0 && n1->replica != NULL &&
                             wait_equal(n1) && zone_is_empty(n1),
                         "something is left");
    return good &&
           check("it is usable again",
                 manager_create(&manager, n1, &web, 4, VDC_RUN_RUNNING) == VDC_RC_OK &&
                     manager_wait(&manager, manager_guest_is(n1, &web, 4, VDC_GUEST_RUNNING)) &&
                     counts_on(&agents[0], 4, 5),
                 "nothing starts");
}

static bool check_lease(void)
{
    n1->grant = false;
    bool good = check("without grants the guest is paused or killed in time",
                      manager_wait(&manager, manager_guest_is(n1, &web, 4, VDC_GUEST_PAUSED) ||
                                                 manager_guest_is(n1, &web, 4, VDC_GUEST_FAILED)),
                      "it still runs");
    manager_settle(&manager, 3000); /* the grace time and some: it is killed now */
    long stopped = count_of(&agents[0], 4);
    manager_settle(&manager, 1000);
    good = good && check("and stays so", count_of(&agents[0], 4) == stopped, "it counts");
    n1->grant = true;
    return good && check("with a lease it runs again",
                         manager_wait(&manager, manager_guest_is(n1, &web, 4, VDC_GUEST_RUNNING)) &&
                             counts_on(&agents[0], 4, 5),
                         "it does not");
}

static bool check_stop_and_destroy(void)
{
    bool good = check("stop powers the guest down",
                      manager_set_run(&manager, n1, &web, 4, VDC_RUN_STOPPED) == VDC_RC_OK &&
                          manager_wait(&manager, manager_guest_is(n1, &web, 4, VDC_GUEST_STOPPED)),
                      "it is not stopped");
    good = good &&
           check("start boots it again",
                 manager_set_run(&manager, n1, &web, 4, VDC_RUN_RUNNING) == VDC_RC_OK &&
                     manager_wait(&manager, manager_guest_is(n1, &web, 4, VDC_GUEST_RUNNING)) &&
                     counts_on(&agents[0], 4, 5),
                 "it does not run");
    good = good && check("destroy is answered when nothing is left of it",
                         manager_destroy(&manager, n1, &web, 4) == VDC_RC_OK &&
                             !has_processes(&agents[0]) && wait_equal(n1) && zone_is_empty(n1),
                         "something is left");
    struct vdc_msg_command more = {.max = 4096};
    return good && check("its console can still be read",
                         manager_command(&manager, n1, &web, 4, VDC_COMMAND_CONSOLE_READ, &more) ==
                             VDC_RC_OK,
                         n1->answer.text);
}

static bool check_show(void)
{
    vdc_autofree char *program = vdc_asprintf("%s/vdc-node-agent", bin_dir);
    vdc_autofree char *command = vdc_asprintf("'%s' --show '%s'", program, agents[0].run_dir);
    char bytes[8192];
    FILE *pipe = popen(command, "r");
    size_t len = pipe != NULL ? fread(bytes, 1, sizeof bytes - 1, pipe) : 0;
    bytes[len] = 0;
    int status = pipe != NULL ? pclose(pipe) : -1;
    return check("--show prints the tables",
                 status == 0 && strstr(bytes, "digest ") != NULL && strstr(bytes, "prod") != NULL &&
                     strstr(bytes, "m1") != NULL,
                 bytes);
}

static void remove_groups(void)
{
    static const char *const mounts[] = {"",     "cpu",    "cpu,cpuacct", "memory",
                                         "pids", "cpuset", "freezer"};
    for (size_t i = 0; i < VDC_COUNT_OF(mounts); i++) {
        vdc_autofree char *dir =
            vdc_asprintf("/sys/fs/cgroup/%s/vdc-e2e-agent-%d", mounts[i], (int)getpid());
        vdc_autofree char *a = vdc_asprintf("%s/n1", dir);
        vdc_autofree char *b = vdc_asprintf("%s/n2", dir);
        if (rmdir(a) == 0 || rmdir(b) == 0) {
            rmdir(b);
        }
        rmdir(dir);
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fputs("usage: e2e_agent BIN_DIR PKI_DIR IMAGE_DIR WORK_DIR\n", stderr);
        return 2;
    }
    bin_dir = argv[1];
    pki_dir = argv[2];
    image_dir = argv[3];
    work_dir = argv[4];
    manager_open(&manager, pki_dir);
    n1 = &manager.nodes[0];
    n2 = &manager.nodes[1];
    write_config(&agents[0], 1);
    write_config(&agents[1], 2);
    bool good = check_joining() && check_race() && check_create() && check_agent_killed() &&
                check_migration() && check_monitor_killed() && check_fenced() && check_lease() &&
                check_stop_and_destroy() && check_show();
    (void)good;
    for (size_t i = 0; i < NODES; i++) {
        if (agents[i].proc.pid != 0) {
            check("SIGTERM ends the agent in order", end_agent(&agents[i], SIGTERM) == 0,
                  "another exit status, see its log");
        }
    }
    manager_close(&manager);
    remove_groups();
    for (size_t i = 0; i < NODES; i++) {
        free(agents[i].config);
        free(agents[i].run_dir);
        free(agents[i].log);
    }
    return failed > 0;
}
