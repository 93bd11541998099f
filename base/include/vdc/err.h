/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An error that a person will read. Functions that can fail return `enum vdc_rc`; where the reason
 * is worth more than its code, a last parameter `struct vdc_err *err` (may be NULL) collects it from
 * the inside out: vdc_err_set() where it happened, vdc_err_wrap() on the way up, so that it reads
 * "start partition web-3: attach tap vdc12: open /dev/net/tun: permission denied".
 */
#ifndef VDC_ERR_H
#define VDC_ERR_H

#include <vdc/rc.h>

/* Longer texts are cut: enough for a path of five steps with a file name in each. */
#define VDC_ERR_TEXT_MAX 768

struct vdc_err {
    enum vdc_rc rc;
    char text[VDC_ERR_TEXT_MAX]; /* NUL-terminated, no final newline */
};

/* Sets code and text, returns the code. */
enum vdc_rc vdc_err_set(struct vdc_err *err, enum vdc_rc rc, const char *fmt, ...) VDC_PRINTF(3, 4);
/* As vdc_err_set, with ": " and the sentence of errno value `errnum` behind; the code is its
 * translation (ENOENT -> NOT_FOUND, EACCES -> FORBIDDEN, ENOSPC -> NO_SPACE, ..., else IO). */
enum vdc_rc vdc_err_errno(struct vdc_err *err, int errnum, const char *fmt, ...) VDC_PRINTF(3, 4);
/* Puts "text: " before what is there, keeps and returns the code. Without an err it returns the code
 * of the last error that this thread set without one. */
enum vdc_rc vdc_err_wrap(struct vdc_err *err, const char *fmt, ...) VDC_PRINTF(2, 3);
enum vdc_rc vdc_rc_from_errno(int errnum);
/* The text, or the code's sentence if none was set; never NULL. */
const char *vdc_err_text(const struct vdc_err *err);

#endif
