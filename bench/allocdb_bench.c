/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-allocdb: figures D1, D2 and D3 of docs/benchmarks.md. Each mode is one file.
 */
#include "allocdb_bench.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vdc/base.h>

#include "bench.h"

static const char usage[] =
    "bench-allocdb [--durable | --recover] [options]\n"
    "  (neither)         D1: transactions in memory\n"
    "  --durable         D2: acknowledged durable transactions, against bare fdatasync and others\n"
    "  --recover         D3: recovery of a journal, against cat of its files\n"
    "  --json            print the figures as one JSON object in the last line\n"
    "  --rounds N        rounds, of which the median is taken\n"
    "  --seconds S       seconds of each piece of a round\n"
    "  --transactions N  D1: exactly so many, in one round (for counting instructions)\n"
    "  --outstanding N   D2: requests under way (256)\n"
    "  --records N       D3: records of the journal (1000000)\n"
    "  --seed N          of the workload (1)\n"
    "  --dir DIR         where to put files ($TMPDIR or /var/tmp)\n";

void bench_commit(struct vdc_allocdb *db, const struct workload_tx *wtx,
                  struct vdc_tx_result *result, struct vdc_buf *record)
{
    if (vdc_allocdb_commit(db, &wtx->tx, result, record) != VDC_RC_OK) {
        bench_die("a transaction was refused: %s", result->text);
    }
}

static uint64_t number(const char *text, uint64_t min, uint64_t max)
{
    uint64_t value;
    if (!vdc_parse_u64(text, max, &value) || value < min) {
        bench_die("%s is no number from %llu to %llu", text, (unsigned long long)min,
                  (unsigned long long)max);
    }
    return value;
}

static double positive(const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (*text == 0 || *end != 0 || !(value > 0 && value <= 3600)) {
        bench_die("%s is no number of seconds", text);
    }
    return value;
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"durable", no_argument, NULL, 'd'},
        {"recover", no_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},
        {"rounds", required_argument, NULL, 'n'},
        {"seconds", required_argument, NULL, 's'},
        {"transactions", required_argument, NULL, 't'},
        {"outstanding", required_argument, NULL, 'o'},
        {"records", required_argument, NULL, 'c'},
        {"seed", required_argument, NULL, 'e'},
        {"dir", required_argument, NULL, 'i'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct bench_options options = {.seed = 1, .outstanding = 256, .records = 1000000};
    void (*run)(const struct bench_options *) = bench_memory;
    int c;
    while ((c = getopt_long(argc, argv, "h", names, NULL)) != -1) {
        switch (c) {
        case 'd':
            run = bench_durable;
            break;
        case 'r':
            run = bench_recover;
            break;
        case 'j':
            options.json = true;
            break;
        case 'n':
            options.rounds = (unsigned)number(optarg, 1, 1000);
            break;
        case 's':
            options.seconds = positive(optarg);
            break;
        case 't':
            options.transactions = number(optarg, 1, UINT64_C(1) << 40);
            break;
        case 'o':
            options.outstanding = (unsigned)number(optarg, 1, OUTSTANDING_MAX);
            break;
        case 'c':
            options.records = number(optarg, 1, UINT64_C(1) << 30);
            break;
        case 'e':
            options.seed = number(optarg, 0, UINT64_MAX);
            break;
        case 'i':
            options.dir = optarg;
            break;
        case 'h':
            (void)fputs(usage, stdout);
            return 0;
        default:
            (void)fputs(usage, stderr);
            return 2;
        }
    }
    if (optind < argc) {
        (void)fputs(usage, stderr);
        return 2;
    }
    run(&options);
    return 0;
}
