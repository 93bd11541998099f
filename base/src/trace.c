/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/trace.h>

static const char *const level_names[] = {"debug", "info", "warn", "error"};

const char *vdc_level_name(enum vdc_level level)
{
    return level_names[level];
}

void vdc_trace_line(struct vdc_trace *trace, enum vdc_level level, const char *fmt, ...)
{
    if (trace->lines >= VDC_TRACE_LINES_MAX) {
        trace->dropped++;
        return;
    }
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    /* Text from outside may be in it: one line stays one line. */
    for (char *at = line; *at != 0; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            *at = ' ';
        }
    }
    vdc_buf_printf(&trace->text, "%c%s\n", (char)('0' + (int)level), line);
    trace->lines++;
}

bool vdc_trace_take(struct vdc_trace *trace, enum vdc_level *level, char *line, size_t cap)
{
    if (trace->lines == 0) {
        if (trace->dropped == 0) {
            return false;
        }
        *level = VDC_LEVEL_WARN;
        snprintf(line, cap, "trace: %u more lines in this step were dropped", trace->dropped);
        trace->dropped = 0;
        return true;
    }
    char *end = memchr(trace->text.data, '\n', trace->text.len);
    VDC_ASSERT(end != NULL);
    *level = (enum vdc_level)(trace->text.data[0] - '0');
    snprintf(line, cap, "%.*s", (int)(end - trace->text.data - 1), trace->text.data + 1);
    vdc_buf_consume(&trace->text, (size_t)(end - trace->text.data) + 1);
    trace->lines--;
    return true;
}

void vdc_trace_deinit(struct vdc_trace *trace)
{
    vdc_buf_deinit(&trace->text);
    *trace = (struct vdc_trace){0};
}
