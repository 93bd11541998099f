/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The BIO between OpenSSL and a connection. OpenSSL's own memory BIO keeps its largest size for
 * ever, which ten thousand idle connections can't afford; this one has no buffer: it reads from what
 * libuv has just read and writes to a buffer that all connections share.
 */
#include "tls_internal.h"

#include <string.h>

static int bio_read(BIO *bio, char *to, size_t len, size_t *got)
{
    struct vdc_tls *tls;
    VDC_CAST(tls, BIO_get_data(bio), TLS_MAGIC);
    BIO_clear_retry_flags(bio);
    if (tls->in_len == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    *got = VDC_MIN(len, tls->in_len);
    memcpy(to, tls->in, *got);
    tls->in += *got;
    tls->in_len -= *got;
    return 1;
}

static int bio_write(BIO *bio, const char *from, size_t len, size_t *put)
{
    struct vdc_tls *tls;
    VDC_CAST(tls, BIO_get_data(bio), TLS_MAGIC);
    BIO_clear_retry_flags(bio);
    vdc_buf_append(&tls->context->cipher, from, len);
    *put = len;
    return 1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    /* Nothing is kept here, so a flush has always been done; all else is not offered. */
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *make_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "vdc");
    VDC_ASSERT(method != NULL);
    BIO_meth_set_read_ex(method, bio_read);
    BIO_meth_set_write_ex(method, bio_write);
    BIO_meth_set_ctrl(method, bio_ctrl);
    return method;
}

BIO *tls_bio_create(struct vdc_tls *tls)
{
    /* One for the process, for ever: the connections of any context use it. */
    static BIO_METHOD *method;
    if (method == NULL) {
        method = make_method();
    }
    BIO *bio = BIO_new(method);
    VDC_ASSERT(bio != NULL);
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    return bio;
}
