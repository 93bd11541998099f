/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts a byte stream into lines that end with '\n', with a bound: what the control socket and QMP
 * both speak. Pure; one reader per connection.
 */
#ifndef VDC_LINE_READER_H
#define VDC_LINE_READER_H

#include <stdbool.h>
#include <stddef.h>

#include <vdc/buf.h>
#include <vdc/rc.h>

struct vdc_line_reader {
    struct vdc_buf buf; /* what has come and was not handed out yet */
    size_t taken;       /* bytes at the beginning of buf that were handed out; <= buf.len */
    size_t scanned;     /* bytes known to hold no '\n'; taken <= scanned <= buf.len */
    size_t line_max;    /* bytes of one line without its '\n' */
};

void vdc_line_reader_init(struct vdc_line_reader *reader, size_t line_max);
void vdc_line_reader_deinit(struct vdc_line_reader *reader);
/* Adds bytes. TOO_LARGE when more than line_max bytes wait already: the caller takes all lines after
 * each feed and closes when the rest is over. So the memory is bounded by line_max plus one feed. */
enum vdc_rc vdc_line_reader_feed(struct vdc_line_reader *reader, const void *data,
                                 size_t len) VDC_MUST_USE;
/* The next whole line, NUL-terminated in place without its '\n' (and without a '\r' before it), or
 * NULL. Valid until the next call. len may be NULL; a line may hold NUL bytes, which JSON refuses.
 */
char *vdc_line_reader_take(struct vdc_line_reader *reader, size_t *len);
/* After take() gave NULL: whether the unfinished line is longer than line_max already. */
bool vdc_line_reader_is_over(const struct vdc_line_reader *reader);

#endif
