/* SPDX-License-Identifier: Apache-2.0 */
/*
 * allocdb-model: the allocation database against the naive model for as long as one likes.
 *
 *     allocdb-model [--operations N] [--seed N]
 *
 * Prints the seed first, its progress, and what the run has reached. Exits 1 if it has not reached every
 * rule and operation, and aborts with a sentence where the two differ.
 */
#include <getopt.h>
#include <stdio.h>
#include <time.h>

#include "allocdb_model.h"

#define OPERATIONS_DEFAULT UINT64_C(10000000)
/* Of one database: enough to forget answers, few enough to begin from nothing now and then. */
#define EPISODE_OPERATIONS UINT64_C(500000)

#define ull(x) ((unsigned long long)(x))

static struct timespec started;

static double seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - started.tv_sec) + 1e-9 * (double)(now.tv_nsec - started.tv_nsec);
}

static void progress(const struct run_stats *stats)
{
    double passed = seconds();
    (void)printf("%7.0f s  %llu operations, %llu transactions, %.0f operations/s\n", passed,
                 ull(stats->operations), ull(stats->transactions),
                 (double)stats->operations / passed);
    (void)fflush(stdout);
}

static void report(const struct run_stats *stats)
{
    (void)printf("%llu operations in %llu transactions, %llu records, %llu repeated requests, %llu "
                 "after their answer was dropped, %llu states rebuilt, %llu restarts, %.0f s\n",
                 ull(stats->operations), ull(stats->transactions), ull(stats->records),
                 ull(stats->repeated), ull(stats->forgotten), ull(stats->rebuilt),
                 ull(stats->restarts), seconds());
    for (int k = 0; k < VDC_OP_COUNT; k++) {
        (void)printf("  %-26s %10llu accepted %10llu refused\n", vdc_op_name((enum vdc_op_kind)k),
                     ull(stats->accepted[k]), ull(stats->refused[k]));
    }
    for (int rule = 1; rule < VDC_RULE_COUNT; rule++) {
        (void)printf("  %-26s %10llu\n", vdc_tx_rule_name((enum vdc_tx_rule)rule),
                     ull(stats->rules[rule]));
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"operations", required_argument, NULL, 'o'},
                                            {"seed", required_argument, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    uint64_t operations = OPERATIONS_DEFAULT;
    uint64_t seed = 1;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        uint64_t *to = option == 'o' ? &operations : option == 's' ? &seed : NULL;
        if (to == NULL || !vdc_parse_u64(optarg, UINT64_MAX, to)) {
            (void)fprintf(stderr, "usage: allocdb-model [--operations N] [--seed N]\n");
            return 2;
        }
    }
    (void)printf("seed %llu, %llu operations\n", ull(seed), ull(operations));
    (void)fflush(stdout);
    (void)clock_gettime(CLOCK_MONOTONIC, &started);
    struct run_stats stats;
    char text[160];
    run_model(seed, operations, EPISODE_OPERATIONS, &stats, progress);
    report(&stats);
    const char *missing = run_missing(&stats, text, sizeof(text));
    if (missing != NULL) {
        (void)printf("not reached: %s\n", missing);
        return 1;
    }
    return 0;
}
