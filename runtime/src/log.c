/* SPDX-License-Identifier: Apache-2.0 */
#include <vdc/log.h>

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/clock.h>

static _Atomic(int) level_min = VDC_LEVEL_INFO;

/* "2026-11-22T17:02:53.123Z info  ": the level is padded so that texts stand in one column. */
static size_t put_head(char *line, size_t cap, enum vdc_level level)
{
    char at[VDC_WALL_TEXT_CAP];
    vdc_wall_to_text(vdc_clock_wall(), at);
    return (size_t)snprintf(line, cap, "%s %-5s ", at, vdc_level_name(level));
}

static void write_line(enum vdc_level level, const char *text)
{
    char line[VDC_LOG_LINE_MAX];
    size_t len = put_head(line, sizeof(line), level);
    for (const char *c = text; *c != '\0' && len < sizeof(line) - 1; c++) {
        line[len++] = (unsigned char)*c < 0x20 ? '?' : *c;
    }
    line[len++] = '\n';
    /* Nowhere to report a failing log; a daemon goes on without one. */
    ssize_t rv = write(STDERR_FILENO, line, len);
    (void)rv;
}

void vdc_log_open(const char *program, enum vdc_level min_level)
{
    atomic_store(&level_min, (int)min_level);
    vdc_log(VDC_LEVEL_INFO, "%s %s starts, pid %d", program, VDC_VERSION, (int)getpid());
}

void vdc_log(enum vdc_level level, const char *fmt, ...)
{
    if ((int)level < atomic_load(&level_min)) {
        return;
    }
    char text[VDC_LOG_LINE_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    write_line(level, text);
}

void vdc_log_trace(struct vdc_trace *trace)
{
    enum vdc_level level;
    char line[VDC_LOG_LINE_MAX];
    while (vdc_trace_take(trace, &level, line, sizeof(line))) {
        if ((int)level >= atomic_load(&level_min)) {
            write_line(level, line);
        }
    }
}
