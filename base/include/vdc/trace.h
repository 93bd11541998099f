/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trace lines: "a fact, an arrow, a decision". A core appends lines to a bounded list in its state;
 * its driver takes them after each step and writes them to the log (runtime) or the transcript (the
 * simulator). The same line is the operator's log and a scenario test's oracle, so wording matters.
 */
#ifndef VDC_TRACE_H
#define VDC_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include <vdc/buf.h>
#include <vdc/rc.h>

enum vdc_level { VDC_LEVEL_DEBUG, VDC_LEVEL_INFO, VDC_LEVEL_WARN, VDC_LEVEL_ERROR };

/* Lines that one step may leave; more are counted and the count is the last line. */
#define VDC_TRACE_LINES_MAX 1024

struct vdc_trace {
    struct vdc_buf text; /* lines: one level byte ('0' + level), the text, '\n' */
    uint32_t lines;
    uint32_t dropped;
};

void vdc_trace_line(struct vdc_trace *trace, enum vdc_level level, const char *fmt, ...)
    VDC_PRINTF(3, 4);
/* Takes the first line out (without '\n', cut to cap); false when there is none. */
bool vdc_trace_take(struct vdc_trace *trace, enum vdc_level *level, char *line, size_t cap);
void vdc_trace_deinit(struct vdc_trace *trace);
const char *vdc_level_name(enum vdc_level level); /* "info" */

#endif
