/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handed-out lines stay in the buffer until the next feed drops them in one move: a burst of many
 * short lines costs one memmove, not one per line.
 */
#include <string.h>

#include <vdc/base.h>
#include <vdc/line_reader.h>

void vdc_line_reader_init(struct vdc_line_reader *reader, size_t line_max)
{
    *reader = (struct vdc_line_reader){.line_max = line_max};
}

void vdc_line_reader_deinit(struct vdc_line_reader *reader)
{
    vdc_buf_deinit(&reader->buf);
    *reader = (struct vdc_line_reader){0};
}

enum vdc_rc vdc_line_reader_feed(struct vdc_line_reader *reader, const void *data, size_t len)
{
    struct vdc_buf *buf = &reader->buf;

    if (reader->taken > 0) {
        vdc_buf_consume(buf, reader->taken);
        reader->scanned -= reader->taken;
        reader->taken = 0;
    }
    /* Whole lines that nobody took count too: a caller that does not take is a defect, and memory
     * stays bounded by line_max plus one feed. */
    if (buf->len > reader->line_max) {
        return VDC_RC_TOO_LARGE;
    }
    vdc_buf_append(buf, data, len);
    return VDC_RC_OK;
}

char *vdc_line_reader_take(struct vdc_line_reader *reader, size_t *len)
{
    struct vdc_buf *buf = &reader->buf;
    char *newline;
    char *line;
    size_t line_len;

    if (reader->scanned >= buf->len) {
        return NULL;
    }
    newline = memchr(buf->data + reader->scanned, '\n', buf->len - reader->scanned);
    if (newline == NULL) {
        reader->scanned = buf->len;
        return NULL;
    }
    line = buf->data + reader->taken;
    line_len = (size_t)(newline - line);
    reader->taken += line_len + 1;
    reader->scanned = reader->taken;
    if (line_len > 0 && line[line_len - 1] == '\r') {
        line_len--;
    }
    line[line_len] = '\0';
    if (len != NULL) {
        *len = line_len;
    }
    return line;
}

bool vdc_line_reader_is_over(const struct vdc_line_reader *reader)
{
    return reader->buf.len - reader->taken > reader->line_max && reader->scanned >= reader->buf.len;
}
