/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a daemon: text lines on standard error, "2026-11-22T17:02:53.123Z info  text". Each
 * line is one write(2), so lines of several processes that share a file don't mix. Libraries return
 * errors and don't log; whoever decides logs once. Bytes below 0x20 in the text are written as '?',
 * so nothing from outside can forge a line. Call from the loop's thread or any other.
 */
#ifndef VDC_LOG_H
#define VDC_LOG_H

#include <vdc/trace.h>

/* Longer lines are cut. */
#define VDC_LOG_LINE_MAX 2048

/* Sets the least level that is written (info until then) and writes the line "PROGRAM VERSION
 * starts, pid N". */
void vdc_log_open(const char *program, enum vdc_level min_level);
void vdc_log(enum vdc_level level, const char *fmt, ...) VDC_PRINTF(2, 3);
/* Takes all lines out of a core's trace and logs them; `trace` is empty afterwards. */
void vdc_log_trace(struct vdc_trace *trace);

#define vdc_log_debug(...) vdc_log(VDC_LEVEL_DEBUG, __VA_ARGS__)
#define vdc_log_info(...) vdc_log(VDC_LEVEL_INFO, __VA_ARGS__)
#define vdc_log_warn(...) vdc_log(VDC_LEVEL_WARN, __VA_ARGS__)
#define vdc_log_error(...) vdc_log(VDC_LEVEL_ERROR, __VA_ARGS__)

#endif
