/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vdc-sim: whole histories of a virtual data center from one number each. See --help.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/quantity.h>
#include <vdc/record.h>

#include "check.h"
#include "manager.h"
#include "monitor.h"
#include "node.h"
#include "plan.h"
#include "store.h"

static const char help[] =
    "usage: vdc-sim [OPTION ...]\n"
    "Runs the real cores of zone managers, node agents and monitors in a simulated world of "
    "networks,\n"
    "disks, clocks, QEMU and etcd, with faults drawn from a seed, and judges what can be seen "
    "from\n"
    "outside after every step.\n\n"
    "  --seed N        one history (default 1)\n"
    "  --trace         print its transcript; the same for the same seed, byte for byte\n"
    "  --seeds A..B    all histories from A to B; prints those that break an invariant\n"
    "  --kept FILE     the histories of a file: a number and a sentence on each line\n"
    "  --jobs J        so many at a time (default 1)\n"
    "  --seconds S     end the sweep after S seconds of real time\n"
    "  --first         end the sweep at the first broken history\n"
    "  --json          the last line is one JSON object\n"
    "  --help\n\n"
    "Exits with 1 when an invariant was broken or the world did not settle after the faults.\n";

struct outcome {
    uint64_t seed;
    uint64_t events;
    int64_t simulated_ns;
    uint64_t digest;
    char broken[512];
};

static void first_records(struct sim_world *world)
{
    struct vdc_buf value = {0};
    char key[VDC_KEY_CAP];
    struct vdc_zone_record zone = {.policy_version = 1};
    vdc_str_set(zone.name, sizeof zone.name, SIM_ZONE);
    vdc_zone_record_encode(&zone, &value);
    vdc_key_zone(key, SIM_ZONE);
    sim_store_put_now(world->store, key, value.data, value.len);
    vdc_buf_clear(&value);
    char text[sizeof world->plan->policy];
    memcpy(text, world->plan->policy, sizeof text);
    struct vdc_policy_record policy = {.version = 1, .text = text};
    vdc_str_set(policy.zone, sizeof policy.zone, SIM_ZONE);
    vdc_policy_record_encode(&policy, &value);
    vdc_key_policy(key, SIM_ZONE, 1);
    sim_store_put_now(world->store, key, value.data, value.len);
    vdc_buf_deinit(&value);
}

static void build(struct sim_world *world)
{
    const struct sim_plan *plan = world->plan;
    world->checks = sim_checks_create(world);
    world->store = sim_store_create(world);
    first_records(world);
    for (uint32_t i = 0; i < plan->managers; i++) {
        world->managers[i] = sim_manager_create(world, i);
        world->managers_len++;
    }
    for (uint32_t i = 0; i < plan->nodes; i++) {
        world->nodes[i] = sim_node_create(world, i);
        world->nodes_len++;
    }
    for (uint32_t i = 0; i < plan->clients; i++) {
        world->clients_all[i] = sim_client_create(world, i);
        world->clients_len++;
    }
    for (size_t i = 0; i < world->managers_len; i++) {
        sim_manager_start(world->managers[i]);
    }
    for (size_t i = 0; i < world->nodes_len; i++) {
        sim_node_start_agent(world->nodes[i]);
    }
    for (size_t i = 0; i < world->clients_len; i++) {
        sim_client_begin(world->clients_all[i]);
    }
    sim_faults_begin(world);
}

static void tear_down(struct sim_world *world)
{
    for (size_t i = 0; i < world->nodes_len; i++) {
        sim_node_destroy(world->nodes[i]);
    }
    for (size_t i = 0; i < world->managers_len; i++) {
        sim_manager_destroy(world->managers[i]);
    }
    for (size_t i = 0; i < world->clients_len; i++) {
        sim_client_destroy(world->clients_all[i]);
    }
    sim_monitors_free();
    sim_store_destroy(world->store);
    sim_checks_destroy(world->checks);
    sim_world_destroy(world);
}

static void run_until(struct sim_world *world, int64_t until)
{
    while (world->broken[0] == 0 && sim_step(world, until)) {
    }
}

static void run(uint64_t seed, bool trace, struct outcome *outcome)
{
    struct sim_plan plan;
    sim_plan_draw(seed, &plan);
    struct sim_world *world = sim_world_create(seed);
    world->plan = &plan;
    world->trace = trace;
    if (trace) {
        sim_plan_print(seed, &plan);
    }
    build(world);
    run_until(world, plan.safety_ns);
    if (world->broken[0] == 0) {
        sim_faults_heal(world);
        for (size_t i = 0; i < world->clients_len; i++) {
            sim_client_finish(world->clients_all[i]);
        }
    }
    int64_t bound = plan.safety_ns + plan.liveness_ns;
    const char *why = "";
    while (world->broken[0] == 0 && world->now < bound) {
        run_until(world, world->now + VDC_SECOND);
        why = sim_check_settled(world);
        if (why[0] == 0) {
            break;
        }
    }
    if (world->broken[0] == 0 && why[0] != 0) {
        sim_break(world, "L1: %s, %lld s after the last fault", why,
                  (long long)(plan.liveness_ns / VDC_SECOND));
    }
    outcome->seed = seed;
    outcome->events = world->events;
    outcome->simulated_ns = world->now;
    outcome->digest = world->digest;
    memcpy(outcome->broken, world->broken, sizeof outcome->broken);
    tear_down(world);
}

/* ---- sweeps ---- */

struct sweep {
    uint64_t from, to;
    uint64_t jobs;
    int64_t seconds; /* 0: no end */
    bool first;      /* the first broken history ends it */
};

struct totals {
    uint64_t histories, events, broken;
    double simulated_s;
};

static void add(struct totals *totals, const struct outcome *outcome)
{
    totals->histories++;
    totals->events += outcome->events;
    totals->simulated_s += (double)outcome->simulated_ns / (double)VDC_SECOND;
    if (outcome->broken[0] != 0) {
        totals->broken++;
        printf("seed %llu: %s\n", (unsigned long long)outcome->seed, outcome->broken);
        fflush(stdout);
    }
}

static void worker(const struct sweep *sweep, uint64_t number, int fd, time_t end)
{
    for (uint64_t seed = sweep->from + number; seed <= sweep->to; seed += sweep->jobs) {
        struct outcome outcome = {0};
        if (sweep->seconds != 0 && time(NULL) >= end) {
            break;
        }
        run(seed, false, &outcome);
        bool last = sweep->first && outcome.broken[0] != 0;
        if (write(fd, &outcome, sizeof outcome) != (ssize_t)sizeof outcome) {
            _exit(2);
        }
        if (last) {
            break;
        }
    }
    _exit(0);
}

static int sweep_run(const struct sweep *sweep, struct totals *totals)
{
    time_t end = time(NULL) + sweep->seconds;
    int fds[2];
    if (pipe(fds) != 0) {
        perror("vdc-sim: pipe");
        return 2;
    }
    for (uint64_t i = 0; i < sweep->jobs; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            close(fds[0]);
            worker(sweep, i, fds[1], end);
        } else if (pid < 0) {
            perror("vdc-sim: fork");
            return 2;
        }
    }
    close(fds[1]);
    struct outcome outcome;
    time_t told = time(NULL);
    /* An outcome is shorter than PIPE_BUF: they do not mix. */
    while (read(fds[0], &outcome, sizeof outcome) == (ssize_t)sizeof outcome) {
        add(totals, &outcome);
        if (sweep->first && totals->broken > 0) {
            break;
        }
        if (isatty(STDERR_FILENO) && time(NULL) != told) {
            told = time(NULL);
            fprintf(stderr, "\r%llu histories, %.0f simulated s, %llu broken ",
                    (unsigned long long)totals->histories, totals->simulated_s,
                    (unsigned long long)totals->broken);
        }
    }
    close(fds[0]);
    int status = totals->broken > 0 ? 1 : 0;
    int child;
    while (wait(&child) > 0) {
        if (!WIFEXITED(child) || WEXITSTATUS(child) != 0) {
            fprintf(stderr, "vdc-sim: a job ended by an assertion or signal\n");
            status = 1;
        }
    }
    return status;
}

/* The file's histories, one after the other. */
static int run_kept(const char *path, struct totals *totals)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        fprintf(stderr, "vdc-sim: %s: cannot be read\n", path);
        return 2;
    }
    char line[512];
    unsigned long long seed;
    while (fgets(line, sizeof line, file) != NULL) {
        if (line[0] != '#' && sscanf(line, "%llu", &seed) == 1) {
            struct outcome outcome = {0};
            run(seed, false, &outcome);
            add(totals, &outcome);
        }
    }
    fclose(file);
    return totals->broken > 0 || totals->histories == 0 ? 1 : 0;
}

static bool parse_seeds(const char *text, struct sweep *sweep)
{
    const char *dots = strstr(text, "..");
    char first[32];
    if (dots == NULL || (size_t)(dots - text) >= sizeof first) {
        return false;
    }
    memcpy(first, text, (size_t)(dots - text));
    first[dots - text] = 0;
    return vdc_parse_u64(first, UINT64_MAX, &sweep->from) &&
           vdc_parse_u64(dots + 2, UINT64_MAX, &sweep->to) && sweep->from <= sweep->to;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},    {"seeds", required_argument, NULL, 'S'},
        {"kept", required_argument, NULL, 'k'},    {"jobs", required_argument, NULL, 'j'},
        {"seconds", required_argument, NULL, 't'}, {"trace", no_argument, NULL, 'T'},
        {"json", no_argument, NULL, 'J'},          {"first", no_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
    };
    struct sweep sweep = {.from = 1, .to = 1, .jobs = 1};
    uint64_t seconds = 0;
    bool many = false;
    const char *kept = NULL;
    bool trace = false;
    bool json = false;
    bool good = true;
    int option;
    while (good && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 's':
            good = vdc_parse_u64(optarg, UINT64_MAX, &sweep.from);
            sweep.to = sweep.from;
            break;
        case 'S':
            good = many = parse_seeds(optarg, &sweep);
            break;
        case 'k':
            kept = optarg;
            break;
        case 'j':
            good = vdc_parse_u64(optarg, 256, &sweep.jobs) && sweep.jobs > 0;
            break;
        case 't':
            good = vdc_parse_u64(optarg, 1000000, &seconds);
            break;
        case 'T':
            trace = true;
            break;
        case 'f':
            sweep.first = true;
            break;
        case 'J':
            json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            good = false;
        }
    }
    if (!good || optind != argc) {
        fputs("vdc-sim: wrong option or number; --help tells\n", stderr);
        return 2;
    }
    sweep.seconds = (int64_t)seconds;
    struct totals totals = {0};
    struct timespec began, ended;
    int status;
    clock_gettime(CLOCK_MONOTONIC, &began);
    if (kept != NULL) {
        status = run_kept(kept, &totals);
    } else if (many) {
        status = sweep_run(&sweep, &totals);
    } else {
        struct outcome outcome = {0};
        run(sweep.from, trace, &outcome);
        add(&totals, &outcome);
        printf("transcript %016llx\n", (unsigned long long)outcome.digest);
        status = outcome.broken[0] != 0;
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    double took =
        (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9;
    printf("%llu histories, %.0f simulated seconds, %llu events, %llu broken, in %.1f s\n",
           (unsigned long long)totals.histories, totals.simulated_s,
           (unsigned long long)totals.events, (unsigned long long)totals.broken, took);
    if (json) {
        printf("{\"id\":\"F2\",\"histories\":%llu,\"simulated_s\":%.0f,\"sim_ratio\":%.1f,"
               "\"events\":%llu,\"violations\":%llu}\n",
               (unsigned long long)totals.histories, totals.simulated_s,
               totals.simulated_s / (took > 0 ? took * (double)sweep.jobs : 1),
               (unsigned long long)totals.events, (unsigned long long)totals.broken);
    }
    return status;
}
