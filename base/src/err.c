/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <vdc/err.h>

/* The code of the last error of this thread that nobody wanted the text of: without it a wrap of
 * such an error on its way up would lose its code. */
static _Thread_local enum vdc_rc textless_rc = VDC_RC_INTERNAL;

enum vdc_rc vdc_err_set(struct vdc_err *err, enum vdc_rc rc, const char *fmt, ...)
{
    if (err == NULL) {
        textless_rc = rc;
        return rc;
    }
    va_list ap;
    va_start(ap, fmt);
    /* Arguments may point into err->text itself, so the text is made aside. */
    char text[VDC_ERR_TEXT_MAX];
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    memcpy(err->text, text, sizeof text);
    err->rc = rc;
    return rc;
}

enum vdc_rc vdc_rc_from_errno(int errnum)
{
    switch (errnum) {
    case 0:
        return VDC_RC_OK;
    case ENOENT:
    case ESRCH:
    case ENODEV:
        return VDC_RC_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return VDC_RC_FORBIDDEN;
    case EEXIST:
    case EADDRINUSE:
        return VDC_RC_EXISTS;
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
        return VDC_RC_NO_SPACE;
    case EMFILE:
    case ENFILE:
        return VDC_RC_LIMIT;
    case EINVAL:
        return VDC_RC_INVALID;
    case ETIMEDOUT:
        return VDC_RC_TIMEOUT;
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EPIPE:
        return VDC_RC_UNAVAILABLE;
    case ENOSYS:
    case EOPNOTSUPP:
        return VDC_RC_UNSUPPORTED;
    default:
        return VDC_RC_IO;
    }
}

enum vdc_rc vdc_err_errno(struct vdc_err *err, int errnum, const char *fmt, ...)
{
    enum vdc_rc rc = vdc_rc_from_errno(errnum);
    if (err == NULL) {
        textless_rc = rc;
        return rc;
    }
    va_list ap;
    va_start(ap, fmt);
    char text[VDC_ERR_TEXT_MAX];
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t len = strlen(text);
    snprintf(text + len, sizeof text - len, ": %s", strerror(errnum));
    memcpy(err->text, text, sizeof text);
    err->rc = rc;
    return rc;
}

enum vdc_rc vdc_err_wrap(struct vdc_err *err, const char *fmt, ...)
{
    if (err == NULL) {
        return textless_rc;
    }
    va_list ap;
    va_start(ap, fmt);
    char text[VDC_ERR_TEXT_MAX];
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    int len = (int)strlen(text);
    snprintf(text + len, sizeof text - (size_t)len, ": %.*s", VDC_ERR_TEXT_MAX - 3 - len,
             vdc_err_text(err));
    memcpy(err->text, text, sizeof text);
    return err->rc;
}

const char *vdc_err_text(const struct vdc_err *err)
{
    return err->text[0] != 0 ? err->text : vdc_rc_sentence(err->rc);
}
