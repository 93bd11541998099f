/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/buf.h>

void vdc_buf_deinit(struct vdc_buf *buf)
{
    free(buf->data);
    *buf = (struct vdc_buf){0};
}

void vdc_buf_clear(struct vdc_buf *buf)
{
    buf->len = 0;
    if (buf->data != NULL) {
        buf->data[0] = 0;
    }
}

char *vdc_buf_reserve(struct vdc_buf *buf, size_t more)
{
    VDC_ASSERT(more <= SIZE_MAX / 2 - buf->len - 1);
    VDC_GROW(buf->data, buf->cap, buf->len + more + 1);
    buf->data[buf->len] = 0;
    return buf->data + buf->len;
}

void vdc_buf_append(struct vdc_buf *buf, const void *data, size_t len)
{
    char *at = vdc_buf_reserve(buf, len);
    if (len > 0) {
        memcpy(at, data, len);
    }
    buf->len += len;
    buf->data[buf->len] = 0;
}

void vdc_buf_puts(struct vdc_buf *buf, const char *text)
{
    vdc_buf_append(buf, text, strlen(text));
}

void vdc_buf_printf(struct vdc_buf *buf, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    int need = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    VDC_ASSERT(need >= 0);
    char *at = vdc_buf_reserve(buf, (size_t)need);
    vsnprintf(at, (size_t)need + 1, fmt, again);
    va_end(again);
    buf->len += (size_t)need;
}

void vdc_buf_consume(struct vdc_buf *buf, size_t len)
{
    VDC_ASSERT(len <= buf->len);
    if (len == 0) {
        return;
    }
    memmove(buf->data, buf->data + len, buf->len - len);
    buf->len -= len;
    buf->data[buf->len] = 0;
}

char *vdc_buf_steal(struct vdc_buf *buf)
{
    char *data = buf->data != NULL ? buf->data : vdc_strdup("");
    *buf = (struct vdc_buf){0};
    return data;
}

const char *vdc_buf_text(const struct vdc_buf *buf)
{
    return buf->data != NULL ? buf->data : "";
}
