/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the measuring programs share: a clock, medians, the JSON line and scratch directories. They
 * are tools for developers: whatever goes wrong ends the program with a sentence and status 1.
 *
 * A figure is worth something as a ratio to a floor measured in the same run, in turns with it; so
 * programs measure in rounds and report the median over the rounds. Absolute rates are of the
 * machine and its load (`quiet` in the JSON line says whether there was any at the start).
 */
#ifndef VDC_BENCH_H
#define VDC_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <vdc/rc.h>

VDC_NORETURN void bench_die(const char *fmt, ...) VDC_PRINTF(1, 2);

/* CLOCK_MONOTONIC and the CPU time of this thread, ns. */
uint64_t bench_now_ns(void);
uint64_t bench_cpu_ns(void);

/* A growing list of measurements. Zero-initialise; bench_samples_deinit frees. */
struct bench_samples {
    double *values;
    size_t len;
    size_t cap;
};
void bench_samples_add(struct bench_samples *samples, double value);
/* The value below which `share` (0..1) of them lie; 0.5 is the median. Sorts. 0 when empty. */
double bench_samples_at(struct bench_samples *samples, double share);
void bench_samples_deinit(struct bench_samples *samples);

/* {id, machine{cpu, cores, kernel, build}, quiet}: call it first, because of `quiet`. */
json_t *bench_report_begin(const char *id);
/* Prints it as one line and frees it. */
void bench_report_end(json_t *report);

/* A new directory in `parent`, or, if that is NULL, in $TMPDIR or /var/tmp (/tmp is often memory,
 * where fdatasync costs nothing). The caller frees the path after bench_remove_dir. */
char *bench_make_dir(const char *parent);
/* Removes the directory with the files in it (and in directories of it). */
void bench_remove_dir(const char *dir);

#endif
