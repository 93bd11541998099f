/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing byte buffer, always NUL-terminated behind its length, so that it serves as text too.
 * Zero-initialise it ({0}); vdc_buf_deinit frees. Callers bound what they append from outside.
 */
#ifndef VDC_BUF_H
#define VDC_BUF_H

#include <stddef.h>
#include <stdint.h>

#include <vdc/rc.h>

struct vdc_buf {
    char *data; /* NULL while nothing was appended; data[len] == 0 otherwise */
    size_t len;
    size_t cap;
};

void vdc_buf_deinit(struct vdc_buf *buf);
void vdc_buf_clear(struct vdc_buf *buf); /* keeps the memory */
/* Room for `more` bytes behind len; returns where they go. The caller adds to len itself. */
char *vdc_buf_reserve(struct vdc_buf *buf, size_t more);
void vdc_buf_append(struct vdc_buf *buf, const void *data, size_t len);
void vdc_buf_puts(struct vdc_buf *buf, const char *text);
void vdc_buf_printf(struct vdc_buf *buf, const char *fmt, ...) VDC_PRINTF(2, 3);
/* Drops the first `len` bytes. */
void vdc_buf_consume(struct vdc_buf *buf, size_t len);
/* Hands the memory out ("" if empty); buf is empty afterwards. */
char *vdc_buf_steal(struct vdc_buf *buf);
/* data or "": never NULL. */
const char *vdc_buf_text(const struct vdc_buf *buf);

#endif
