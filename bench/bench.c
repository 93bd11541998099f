/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <vdc/base.h>

/* Load average above which a machine does not count as quiet (the targets' definition). */
#define QUIET_LOAD_MAX 0.5
/* Descriptors that removing a directory may use. */
#define WALK_DEPTH 8

#if defined(__SANITIZE_ADDRESS__)
#define BUILD_EXTRA " asan"
#else
#define BUILD_EXTRA ""
#endif

void bench_die(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)fputs("bench: ", stderr);
    (void)vfprintf(stderr, fmt, args);
    (void)fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;
    VDC_ASSERT(clock_gettime(clock, &now) == 0);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t bench_now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t bench_cpu_ns(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

/* --- samples --- */

void bench_samples_add(struct bench_samples *samples, double value)
{
    VDC_GROW(samples->values, samples->cap, samples->len + 1);
    samples->values[samples->len++] = value;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double bench_samples_at(struct bench_samples *samples, double share)
{
    if (samples->len == 0) {
        return 0;
    }
    qsort(samples->values, samples->len, sizeof(samples->values[0]), compare_doubles);
    return samples->values[(size_t)(share * (double)(samples->len - 1) + 0.5)];
}

void bench_samples_deinit(struct bench_samples *samples)
{
    free(samples->values);
    *samples = (struct bench_samples){0};
}

/* --- report --- */

/* The model's name as Linux gives it on x86; other machines have none there. */
static void read_cpu_model(char *model, size_t cap)
{
    (void)snprintf(model, cap, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            line[strcspn(line, "\n")] = 0;
            (void)snprintf(model, cap, "%s", colon + 2);
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

json_t *bench_report_begin(const char *id)
{
    char model[128];
    struct utsname host;
    double load = 0;
    read_cpu_model(model, sizeof(model));
    VDC_ASSERT(uname(&host) == 0);
    bool quiet = getloadavg(&load, 1) == 1 && load <= QUIET_LOAD_MAX;
    json_t *report =
        json_pack("{s:s, s:{s:s, s:I, s:s, s:s}, s:b}", "id", id, "machine", "cpu", model, "cores",
                  (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "kernel", host.release, "build",
                  VDC_VERSION " " VDC_BENCH_BUILD BUILD_EXTRA ", " __VERSION__, "quiet", quiet);
    VDC_ASSERT(report != NULL);
    return report;
}

void bench_report_end(json_t *report)
{
    char *text = json_dumps(report, JSON_REAL_PRECISION(6));
    VDC_ASSERT(text != NULL);
    (void)puts(text);
    free(text);
    json_decref(report);
}

/* --- directories --- */

char *bench_make_dir(const char *parent)
{
    if (parent == NULL) {
        parent = getenv("TMPDIR");
    }
    char *dir = vdc_asprintf("%s/bench-allocdb.XXXXXX", parent != NULL ? parent : "/var/tmp");
    if (mkdtemp(dir) == NULL) {
        bench_die("make a directory %s: %m", dir);
    }
    return dir;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    (void)remove(path);
    return 0;
}

void bench_remove_dir(const char *dir)
{
    (void)nftw(dir, remove_entry, WALK_DEPTH, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
