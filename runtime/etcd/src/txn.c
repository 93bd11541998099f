/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions, and lists: a list is one read after the other, all at the revision of the first. */
#include "client.h"

#include <string.h>

#include "codec.h"

/* ---- Transactions ---- */

struct txn_request {
    struct vdc_etcd_request request; /* first */
    size_t then_count;
    size_t otherwise_count;
    vdc_etcd_txn_cb cb;
    void *data;
};

static bool txn_done(struct vdc_etcd_request *request, const struct vdc_etcd_request_end *end)
{
    struct txn_request *txn = (struct txn_request *)request;
    if (end->rc != VDC_RC_OK) {
        txn->cb(txn->data, end->rc, NULL, end->err);
        return true;
    }
    struct vdc_etcd_decoded decoded;
    enum vdc_rc rc = vdc_etcd_decode_txn(end->answer, end->answer_len, txn->then_count,
                                         txn->otherwise_count, &decoded);
    if (rc == VDC_RC_OK) {
        txn->cb(txn->data, rc, &decoded.result, end->err);
    } else {
        struct vdc_err err;
        vdc_err_set(&err, rc, "etcd transaction: the answer cannot be read");
        txn->cb(txn->data, rc, NULL, &err);
    }
    vdc_etcd_decoded_deinit(&decoded);
    return true;
}

static void txn_destroy(struct vdc_etcd_request *request)
{
    vdc_etcd_request_deinit(request);
    free(request);
}

static const struct vdc_etcd_request_kind read_kind = {.method = VDC_ETCD_METHOD_TXN,
                                                       .what = "read",
                                                       .idempotent = true,
                                                       .done = txn_done,
                                                       .destroy = txn_destroy};
static const struct vdc_etcd_request_kind txn_kind = {
    .method = VDC_ETCD_METHOD_TXN, .what = "transaction", .done = txn_done, .destroy = txn_destroy};

static enum vdc_rc check_txn(const struct vdc_etcd *etcd, const struct vdc_etcd_txn *txn)
{
    enum vdc_rc rc = vdc_etcd_request_room(etcd);
    if (rc == VDC_RC_OK) {
        rc = vdc_etcd_check_compares(txn->compares, txn->compare_count);
    }
    if (rc == VDC_RC_OK) {
        rc = vdc_etcd_check_ops(txn->then, txn->then_count);
    }
    if (rc == VDC_RC_OK) {
        rc = vdc_etcd_check_ops(txn->otherwise, txn->otherwise_count);
    }
    return rc;
}

enum vdc_rc vdc_etcd_txn(struct vdc_etcd *etcd, const struct vdc_etcd_txn *txn, vdc_etcd_txn_cb cb,
                         void *data, struct vdc_etcd_request **request)
{
    enum vdc_rc rc = check_txn(etcd, txn);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    bool writes = vdc_etcd_ops_write(txn->then, txn->then_count) ||
                  vdc_etcd_ops_write(txn->otherwise, txn->otherwise_count);
    struct vdc_buf body = {0};
    vdc_etcd_encode_compares(&body, txn->compares, txn->compare_count);
    vdc_etcd_encode_ops(&body, VDC_ETCD_THEN, txn->then, txn->then_count);
    vdc_etcd_encode_ops(&body, VDC_ETCD_OTHERWISE, txn->otherwise, txn->otherwise_count);
    if (body.len > VDC_ETCD_REQUEST_MAX) {
        vdc_buf_deinit(&body);
        return VDC_RC_TOO_LARGE;
    }

    struct txn_request *made = VDC_NEW(struct txn_request);
    vdc_etcd_request_init(&made->request, etcd, writes ? &txn_kind : &read_kind,
                          vdc_etcd_request_deadline(etcd));
    made->request.body = body;
    made->then_count = txn->then_count;
    made->otherwise_count = txn->otherwise_count;
    made->cb = cb;
    made->data = data;
    if (request != NULL) {
        *request = &made->request;
    }
    vdc_etcd_request_queue(&made->request);
    return VDC_RC_OK;
}

/* ---- Lists ---- */

struct list_request {
    struct vdc_etcd_request request; /* first */
    char *prefix;
    struct vdc_buf from; /* the first key of the page to come */
    int64_t revision;    /* 0 before the first page */
    vdc_etcd_list_cb cb;
    void *data;
};

static void list_prepare(struct vdc_etcd_request *request)
{
    struct list_request *list = (struct list_request *)request;
    vdc_buf_clear(&request->body);
    vdc_etcd_encode_page(&request->body, list->prefix, vdc_buf_text(&list->from), list->from.len,
                         VDC_ETCD_PAGE_KEYS, list->revision);
}

static bool list_failed(struct list_request *list, enum vdc_rc rc, const struct vdc_err *err)
{
    list->cb(list->data, rc, NULL, 0, list->revision, false, err);
    return true;
}

static bool list_page(struct list_request *list, const struct vdc_etcd_result *result)
{
    const struct vdc_etcd_answer *page = &result->answers[0];
    if (list->revision == 0) {
        list->revision = result->revision;
    }
    bool more = page->total > (int64_t)page->kv_count;
    struct vdc_err none = {0};
    if (more && page->kv_count == 0) {
        vdc_err_set(&none, VDC_RC_PROTOCOL, "etcd list: an empty page that is not the last");
        return list_failed(list, VDC_RC_PROTOCOL, &none);
    }
    if (more) {
        /* The next key after the last one is that with a NUL behind it. */
        const struct vdc_etcd_kv *last = &page->kvs[page->kv_count - 1];
        vdc_buf_clear(&list->from);
        vdc_buf_append(&list->from, last->key, last->key_len + 1);
    }
    list->cb(list->data, VDC_RC_OK, page->kvs, page->kv_count, list->revision, more, &none);
    if (!more) {
        return true;
    }
    list->request.deadline = vdc_etcd_request_deadline(list->request.etcd);
    vdc_etcd_request_queue(&list->request);
    return false;
}

static bool list_done(struct vdc_etcd_request *request, const struct vdc_etcd_request_end *end)
{
    struct list_request *list = (struct list_request *)request;
    if (end->rc != VDC_RC_OK) {
        return list_failed(list, end->rc, end->err);
    }
    struct vdc_etcd_decoded decoded;
    enum vdc_rc rc = vdc_etcd_decode_txn(end->answer, end->answer_len, 1, 0, &decoded);
    if (rc == VDC_RC_OK && decoded.answers[0].kind != VDC_ETCD_GET) {
        rc = VDC_RC_PROTOCOL;
    }
    bool finished;
    if (rc == VDC_RC_OK) {
        finished = list_page(list, &decoded.result);
    } else {
        struct vdc_err err;
        vdc_err_set(&err, rc, "etcd list: the answer cannot be read");
        finished = list_failed(list, rc, &err);
    }
    vdc_etcd_decoded_deinit(&decoded);
    return finished;
}

static void list_destroy(struct vdc_etcd_request *request)
{
    struct list_request *list = (struct list_request *)request;
    vdc_etcd_request_deinit(request);
    vdc_buf_deinit(&list->from);
    free(list->prefix);
    free(list);
}

static const struct vdc_etcd_request_kind list_kind = {.method = VDC_ETCD_METHOD_TXN,
                                                       .what = "list",
                                                       .idempotent = true,
                                                       .prepare = list_prepare,
                                                       .done = list_done,
                                                       .destroy = list_destroy};

enum vdc_rc vdc_etcd_list(struct vdc_etcd *etcd, const char *prefix, vdc_etcd_list_cb cb,
                          void *data, struct vdc_etcd_request **request)
{
    enum vdc_rc rc = vdc_etcd_request_room(etcd);
    if (rc == VDC_RC_OK) {
        rc = vdc_etcd_check_key(prefix, true);
    }
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct list_request *made = VDC_NEW(struct list_request);
    vdc_etcd_request_init(&made->request, etcd, &list_kind, vdc_etcd_request_deadline(etcd));
    made->prefix = vdc_strdup(prefix);
    vdc_buf_puts(&made->from, prefix);
    made->cb = cb;
    made->data = data;
    if (request != NULL) {
        *request = &made->request;
    }
    vdc_etcd_request_queue(&made->request);
    return VDC_RC_OK;
}
