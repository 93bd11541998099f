/* SPDX-License-Identifier: Apache-2.0 */
/*
 * D1. Transactions are made in groups ahead of time; only the commits are timed, record and answer
 * included. A group fits into the second-level cache, so that reading it costs about what reading a
 * message that has just been decoded costs.
 */
#include <stdio.h>

#include <vdc/base.h>

#include "allocdb_bench.h"
#include "bench.h"

#define GROUP 128
#define ROUNDS 10
#define SECONDS 0.5
#define LOOKUPS 1000000

struct run {
    struct vdc_allocdb *db;
    struct workload workload;
    struct workload_tx group[GROUP];
    struct vdc_tx_result result;
    struct vdc_buf record;
    uint64_t wall_ns; /* of the commits in this round */
    uint64_t cpu_ns;
    uint64_t committed;
};

/* Not inlined: `valgrind --tool=callgrind --toggle-collect=measured_commits` counts just this. */
static void __attribute__((noinline)) measured_commits(struct run *run, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        bench_commit(run->db, &run->group[i], &run->result, &run->record);
    }
}

static void measure_group(struct run *run, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        workload_next(&run->workload, &run->group[i]);
    }
    uint64_t wall = bench_now_ns();
    uint64_t cpu = bench_cpu_ns();
    measured_commits(run, len);
    run->cpu_ns += bench_cpu_ns() - cpu;
    run->wall_ns += bench_now_ns() - wall;
    run->committed += len;
}

static void fill(struct run *run)
{
    run->db = vdc_allocdb_create();
    /* The stored answers, too, shall be as many as there can be. */
    for (uint64_t i = 0; !workload_full(&run->workload) || i < VDC_ALLOCDB_REQUESTS_MAX; i++) {
        workload_next(&run->workload, &run->group[0]);
        bench_commit(run->db, &run->group[0], &run->result, &run->record);
    }
}

/* Looks up owners of addresses drawn at random; the most steps that one took. */
static unsigned look_up(struct run *run, double *per_s)
{
    unsigned steps_max = 0;
    uint64_t owned = 0;
    uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < LOOKUPS; i++) {
        uint32_t numa = (uint32_t)vdc_prng_below(&run->workload.prng, WORKLOAD_NUMA_NODES);
        uint64_t addr = vdc_prng_below(&run->workload.prng, WORKLOAD_BYTES_PER_NUMA);
        unsigned steps = 0;
        owned += vdc_allocdb_memory_owner(run->db, numa, addr, &steps) != NULL;
        steps_max = VDC_MAX(steps_max, steps);
    }
    *per_s = LOOKUPS * 1e9 / (double)(bench_now_ns() - start);
    if (owned < LOOKUPS / 100 * 85 || owned > LOOKUPS / 100 * 95) {
        bench_die("%llu of %d addresses have an owner, where 90 %% should",
                  (unsigned long long)owned, LOOKUPS);
    }
    return steps_max;
}

void bench_memory(const struct bench_options *options)
{
    json_t *report = bench_report_begin("D1");
    unsigned rounds = options->transactions > 0 ? 1
                      : options->rounds > 0     ? options->rounds
                                                : ROUNDS;
    double round_ns = (options->seconds > 0 ? options->seconds : SECONDS) * 1e9;
    struct run *run = VDC_NEW(struct run);
    workload_init(&run->workload, options->seed);
    fill(run);
    struct bench_samples rates = {0};
    struct bench_samples cpu_rates = {0};
    uint64_t left = options->transactions;
    for (unsigned r = 0; r < rounds; r++) {
        run->wall_ns = 0;
        run->cpu_ns = 0;
        run->committed = 0;
        while (left > 0) {
            unsigned len = (unsigned)VDC_MIN(left, (uint64_t)GROUP);
            measure_group(run, len);
            left -= len;
        }
        while (options->transactions == 0 && (double)run->wall_ns < round_ns) {
            measure_group(run, GROUP);
        }
        bench_samples_add(&rates, (double)run->committed * 1e9 / (double)run->wall_ns);
        bench_samples_add(&cpu_rates, (double)run->committed * 1e9 / (double)run->cpu_ns);
    }
    double lookups_per_s;
    unsigned steps_max = look_up(run, &lookups_per_s);
    struct vdc_err err = {0};
    if (vdc_allocdb_check(run->db, &err) != VDC_RC_OK) {
        bench_die("the database is wrong afterwards: %s", err.text);
    }
    double rate = bench_samples_at(&rates, 0.5);
    double best = bench_samples_at(&rates, 1);
    double cpu_rate = bench_samples_at(&cpu_rates, 0.5);
    double used = 1 - (double)vdc_allocdb_memory_free_bytes(run->db) /
                          (double)vdc_allocdb_memory_bytes(run->db);
    (void)printf("D1: %.0f transactions/s (best round %.0f; per CPU-second %.0f), %zu partitions, "
                 "memory %.1f %% full\n"
                 "D1: %.0f lookups/s, at most %u steps\n",
                 rate, best, cpu_rate, vdc_allocdb_count_partitions(run->db), used * 100,
                 lookups_per_s, steps_max);
    if (options->json) {
        json_object_set_new(report, "tx_per_s", json_real(rate));
        json_object_set_new(report, "tx_per_s_best", json_real(best));
        json_object_set_new(report, "tx_per_cpu_s", json_real(cpu_rate));
        json_object_set_new(report, "lookup_steps_max", json_integer(steps_max));
        json_object_set_new(report, "lookups_per_s", json_real(lookups_per_s));
        json_object_set_new(report, "full", json_real(used));
        bench_report_end(report);
    } else {
        json_decref(report);
    }
    bench_samples_deinit(&rates);
    bench_samples_deinit(&cpu_rates);
    vdc_allocdb_destroy(run->db);
    vdc_buf_deinit(&run->record);
    workload_deinit(&run->workload);
    free(run);
}
