/* SPDX-License-Identifier: Apache-2.0 */
#include "codec.h"

#include <string.h>

#include <vdc/base.h>

/* ---- Checks ---- */

enum vdc_rc vdc_etcd_check_key(const char *key, bool may_be_empty)
{
    if (key == NULL) {
        return VDC_RC_INVALID;
    }
    size_t len = strnlen(key, VDC_ETCD_KEY_MAX + 1);
    if (len > VDC_ETCD_KEY_MAX || (len == 0 && !may_be_empty)) {
        return VDC_RC_INVALID;
    }
    return VDC_RC_OK;
}

static enum vdc_rc check_value(const void *value, size_t len)
{
    if (value == NULL && len > 0) {
        return VDC_RC_INVALID;
    }
    return len > VDC_ETCD_REQUEST_MAX ? VDC_RC_TOO_LARGE : VDC_RC_OK;
}

enum vdc_rc vdc_etcd_check_compares(const struct vdc_etcd_compare *compares, size_t count)
{
    if (count > VDC_ETCD_OPS_MAX) {
        return VDC_RC_LIMIT;
    }
    for (size_t i = 0; i < count; i++) {
        enum vdc_rc rc = vdc_etcd_check_key(compares[i].key, false);
        if (rc == VDC_RC_OK && compares[i].target == VDC_ETCD_VALUE) {
            rc = check_value(compares[i].value, compares[i].value_len);
        }
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    return VDC_RC_OK;
}

static enum vdc_rc check_op(const struct vdc_etcd_op *op)
{
    enum vdc_rc rc = vdc_etcd_check_key(op->key, op->kind == VDC_ETCD_GET_PREFIX);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    switch (op->kind) {
    case VDC_ETCD_PUT:
        return op->lease < 0 ? VDC_RC_INVALID : check_value(op->value, op->value_len);
    case VDC_ETCD_GET_PREFIX:
        return op->limit < 0 ? VDC_RC_INVALID : VDC_RC_OK;
    case VDC_ETCD_DELETE:
    case VDC_ETCD_DELETE_PREFIX:
    case VDC_ETCD_GET:
        return VDC_RC_OK;
    }
    return VDC_RC_INVALID;
}

enum vdc_rc vdc_etcd_check_ops(const struct vdc_etcd_op *ops, size_t count)
{
    if (count > VDC_ETCD_OPS_MAX) {
        return VDC_RC_LIMIT;
    }
    for (size_t i = 0; i < count; i++) {
        enum vdc_rc rc = check_op(&ops[i]);
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    return VDC_RC_OK;
}

bool vdc_etcd_ops_write(const struct vdc_etcd_op *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (ops[i].kind != VDC_ETCD_GET && ops[i].kind != VDC_ETCD_GET_PREFIX) {
            return true;
        }
    }
    return false;
}

/* ---- Encoding ---- */

/* protobuf-c's bytes are not const, and packing only reads them. */
static ProtobufCBinaryData bytes(const void *data, size_t len)
{
    return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)data};
}

static ProtobufCBinaryData text(const char *string)
{
    return bytes(string, strlen(string));
}

static void append(struct vdc_buf *buf, const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *to = (uint8_t *)vdc_buf_reserve(buf, len);
    VDC_ASSERT(protobuf_c_message_pack(message, to) == len);
    buf->len += len;
    buf->data[buf->len] = 0;
}

size_t vdc_etcd_prefix_end(const char *prefix, uint8_t *end)
{
    size_t len = strlen(prefix);
    memcpy(end, prefix, len);
    while (len > 0 && end[len - 1] == 0xff) {
        len--;
    }
    if (len == 0) {
        /* No key is above: etcd takes a single NUL for "to the last key". */
        end[0] = 0;
        return 1;
    }
    end[len - 1]++;
    return len;
}

static Etcdpb__Compare__CompareResult relation_code(enum vdc_etcd_relation relation)
{
    switch (relation) {
    case VDC_ETCD_EQUAL:
        return ETCDPB__COMPARE__COMPARE_RESULT__EQUAL;
    case VDC_ETCD_GREATER:
        return ETCDPB__COMPARE__COMPARE_RESULT__GREATER;
    case VDC_ETCD_LESS:
        return ETCDPB__COMPARE__COMPARE_RESULT__LESS;
    case VDC_ETCD_NOT_EQUAL:
        break;
    }
    return ETCDPB__COMPARE__COMPARE_RESULT__NOT_EQUAL;
}

/* The oneof's case must be set as well, or protobuf-c silently leaves the value out. */
static void fill_compare(Etcdpb__Compare *to, const struct vdc_etcd_compare *from)
{
    etcdpb__compare__init(to);
    to->key = text(from->key);
    to->result = relation_code(from->relation);
    switch (from->target) {
    case VDC_ETCD_CREATE_REVISION:
        to->target = ETCDPB__COMPARE__COMPARE_TARGET__CREATE;
        to->target_union_case = ETCDPB__COMPARE__TARGET_UNION_CREATE_REVISION;
        to->create_revision = from->number;
        break;
    case VDC_ETCD_MOD_REVISION:
        to->target = ETCDPB__COMPARE__COMPARE_TARGET__MOD;
        to->target_union_case = ETCDPB__COMPARE__TARGET_UNION_MOD_REVISION;
        to->mod_revision = from->number;
        break;
    case VDC_ETCD_VERSION:
        to->target = ETCDPB__COMPARE__COMPARE_TARGET__VERSION;
        to->target_union_case = ETCDPB__COMPARE__TARGET_UNION_VERSION;
        to->version = from->number;
        break;
    case VDC_ETCD_VALUE:
        to->target = ETCDPB__COMPARE__COMPARE_TARGET__VALUE;
        to->target_union_case = ETCDPB__COMPARE__TARGET_UNION_VALUE;
        to->value = bytes(from->value, from->value_len);
        break;
    }
}

void vdc_etcd_encode_compares(struct vdc_buf *buf, const struct vdc_etcd_compare *compares,
                              size_t count)
{
    VDC_ASSERT(count <= VDC_ETCD_OPS_MAX);
    Etcdpb__Compare messages[VDC_ETCD_OPS_MAX];
    Etcdpb__Compare *pointers[VDC_ETCD_OPS_MAX];
    Etcdpb__TxnRequest txn = ETCDPB__TXN_REQUEST__INIT;
    for (size_t i = 0; i < count; i++) {
        fill_compare(&messages[i], &compares[i]);
        pointers[i] = &messages[i];
    }
    txn.n_compare = count;
    txn.compare = pointers;
    append(buf, &txn.base);
}

/* One operation at a time: room for all their messages and range ends would be 150 KiB of stack. */
static void encode_op(struct vdc_buf *buf, enum vdc_etcd_branch branch,
                      const struct vdc_etcd_op *op)
{
    Etcdpb__RangeRequest range = ETCDPB__RANGE_REQUEST__INIT;
    Etcdpb__PutRequest put = ETCDPB__PUT_REQUEST__INIT;
    Etcdpb__DeleteRangeRequest del = ETCDPB__DELETE_RANGE_REQUEST__INIT;
    Etcdpb__RequestOp request = ETCDPB__REQUEST_OP__INIT;
    uint8_t end[VDC_ETCD_KEY_MAX + 1];

    switch (op->kind) {
    case VDC_ETCD_PUT:
        put.key = text(op->key);
        put.value = bytes(op->value, op->value_len);
        put.lease = op->lease;
        request.request_case = ETCDPB__REQUEST_OP__REQUEST_REQUEST_PUT;
        request.request_put = &put;
        break;
    case VDC_ETCD_DELETE_PREFIX:
        del.range_end = bytes(end, vdc_etcd_prefix_end(op->key, end));
        /* fall through */
    case VDC_ETCD_DELETE:
        del.key = text(op->key);
        request.request_case = ETCDPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
        request.request_delete_range = &del;
        break;
    case VDC_ETCD_GET_PREFIX:
        range.range_end = bytes(end, vdc_etcd_prefix_end(op->key, end));
        range.limit = op->limit;
        /* fall through */
    case VDC_ETCD_GET:
        /* etcd refuses an empty key; the lowest one is a single NUL. */
        range.key = op->key[0] == 0 ? bytes("", 1) : text(op->key);
        request.request_case = ETCDPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
        request.request_range = &range;
        break;
    }

    Etcdpb__TxnRequest txn = ETCDPB__TXN_REQUEST__INIT;
    Etcdpb__RequestOp *list = &request;
    switch (branch) {
    case VDC_ETCD_THEN:
        txn.n_success = 1;
        txn.success = &list;
        break;
    case VDC_ETCD_OTHERWISE:
        txn.n_failure = 1;
        txn.failure = &list;
        break;
    }
    append(buf, &txn.base);
}

void vdc_etcd_encode_ops(struct vdc_buf *buf, enum vdc_etcd_branch branch,
                         const struct vdc_etcd_op *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        encode_op(buf, branch, &ops[i]);
    }
}

void vdc_etcd_encode_page(struct vdc_buf *buf, const char *prefix, const char *from,
                          size_t from_len, int64_t limit, int64_t revision)
{
    uint8_t end[VDC_ETCD_KEY_MAX + 1];
    Etcdpb__RangeRequest range = ETCDPB__RANGE_REQUEST__INIT;
    Etcdpb__RequestOp request = ETCDPB__REQUEST_OP__INIT;
    Etcdpb__RequestOp *list = &request;
    Etcdpb__TxnRequest txn = ETCDPB__TXN_REQUEST__INIT;

    range.key = from_len == 0 ? bytes("", 1) : bytes(from, from_len);
    range.range_end = bytes(end, vdc_etcd_prefix_end(prefix, end));
    range.limit = limit;
    range.revision = revision;
    request.request_case = ETCDPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
    request.request_range = &range;
    txn.n_success = 1;
    txn.success = &list;
    append(buf, &txn.base);
}

void vdc_etcd_encode_watch(struct vdc_buf *buf, const char *prefix, int64_t from_revision)
{
    uint8_t end[VDC_ETCD_KEY_MAX + 1];
    Etcdpb__WatchCreateRequest create = ETCDPB__WATCH_CREATE_REQUEST__INIT;
    Etcdpb__WatchRequest request = ETCDPB__WATCH_REQUEST__INIT;

    create.key = prefix[0] == 0 ? bytes("", 1) : text(prefix);
    create.range_end = bytes(end, vdc_etcd_prefix_end(prefix, end));
    create.start_revision = from_revision;
    create.progress_notify = true;
    create.fragment = true;
    request.request_union_case = ETCDPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    request.create_request = &create;
    append(buf, &request.base);
}

void vdc_etcd_encode_grant(struct vdc_buf *buf, int64_t ttl_s)
{
    Etcdpb__LeaseGrantRequest request = ETCDPB__LEASE_GRANT_REQUEST__INIT;
    request.ttl = ttl_s;
    append(buf, &request.base);
}

void vdc_etcd_encode_keepalive(struct vdc_buf *buf, int64_t lease_id)
{
    Etcdpb__LeaseKeepAliveRequest request = ETCDPB__LEASE_KEEP_ALIVE_REQUEST__INIT;
    request.id = lease_id;
    append(buf, &request.base);
}

void vdc_etcd_encode_revoke(struct vdc_buf *buf, int64_t lease_id)
{
    Etcdpb__LeaseRevokeRequest request = ETCDPB__LEASE_REVOKE_REQUEST__INIT;
    request.id = lease_id;
    append(buf, &request.base);
}

/* ---- Decoding ---- */

/* One byte more than asked for, zeroed: that is how every key and value gets its NUL without being
 * copied a second time. */
static void *alloc_with_nul(void *data, size_t size)
{
    (void)data;
    return vdc_calloc(1, size + 1);
}

static void free_one(void *data, void *pointer)
{
    (void)data;
    free(pointer);
}

static ProtobufCAllocator allocator = {alloc_with_nul, free_one, NULL};

/* The number of bytes of an absent field is 0 and its pointer NULL. */
static const char *field(const ProtobufCBinaryData *data)
{
    return data->data == NULL ? "" : (const char *)data->data;
}

struct vdc_etcd_kv vdc_etcd_kv_from(const Etcdpb__KeyValue *kv)
{
    return (struct vdc_etcd_kv){.key = field(&kv->key),
                                .key_len = kv->key.len,
                                .value = field(&kv->value),
                                .value_len = kv->value.len,
                                .create_revision = kv->create_revision,
                                .mod_revision = kv->mod_revision,
                                .version = kv->version,
                                .lease = kv->lease};
}

static size_t count_kvs(const Etcdpb__TxnResponse *message)
{
    size_t count = 0;
    for (size_t i = 0; i < message->n_responses; i++) {
        const Etcdpb__ResponseOp *op = message->responses[i];
        if (op->response_case == ETCDPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE) {
            count += op->response_range->n_kvs;
        }
    }
    return count;
}

static bool decode_answer(const Etcdpb__ResponseOp *op, struct vdc_etcd_answer *answer,
                          struct vdc_etcd_kv *kvs)
{
    switch (op->response_case) {
    case ETCDPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT:
        answer->kind = VDC_ETCD_PUT;
        return true;
    case ETCDPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE:
        answer->kind = VDC_ETCD_DELETE;
        answer->total = op->response_delete_range->deleted;
        return true;
    case ETCDPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE:
        answer->kind = VDC_ETCD_GET;
        answer->kvs = kvs;
        answer->kv_count = op->response_range->n_kvs;
        answer->total = op->response_range->count;
        for (size_t i = 0; i < answer->kv_count; i++) {
            kvs[i] = vdc_etcd_kv_from(op->response_range->kvs[i]);
        }
        return true;
    case ETCDPB__RESPONSE_OP__RESPONSE__NOT_SET:
    case _ETCDPB__RESPONSE_OP__RESPONSE__CASE_IS_INT_SIZE:
        break;
    }
    return false;
}

enum vdc_rc vdc_etcd_decode_txn(const void *data, size_t len, size_t then_count,
                                size_t otherwise_count, struct vdc_etcd_decoded *out)
{
    *out = (struct vdc_etcd_decoded){0};
    out->message = etcdpb__txn_response__unpack(&allocator, len, data);
    if (out->message == NULL || out->message->header == NULL) {
        return VDC_RC_PROTOCOL;
    }
    size_t expected = out->message->succeeded ? then_count : otherwise_count;
    if (out->message->n_responses != expected) {
        return VDC_RC_PROTOCOL;
    }

    out->answers = vdc_calloc(expected, sizeof(*out->answers));
    out->kvs = vdc_calloc(count_kvs(out->message), sizeof(*out->kvs));
    struct vdc_etcd_kv *kvs = out->kvs;
    for (size_t i = 0; i < expected; i++) {
        if (!decode_answer(out->message->responses[i], &out->answers[i], kvs)) {
            return VDC_RC_PROTOCOL;
        }
        kvs += out->answers[i].kv_count;
    }
    out->result = (struct vdc_etcd_result){.succeeded = out->message->succeeded != 0,
                                           .revision = out->message->header->revision,
                                           .answers = out->answers,
                                           .answer_count = expected};
    return VDC_RC_OK;
}

void vdc_etcd_decoded_deinit(struct vdc_etcd_decoded *decoded)
{
    free(decoded->answers);
    free(decoded->kvs);
    if (decoded->message != NULL) {
        etcdpb__txn_response__free_unpacked(decoded->message, &allocator);
    }
    *decoded = (struct vdc_etcd_decoded){0};
}

Etcdpb__WatchResponse *vdc_etcd_decode_watch(const void *data, size_t len)
{
    Etcdpb__WatchResponse *response = etcdpb__watch_response__unpack(&allocator, len, data);
    if (response == NULL) {
        return NULL;
    }
    bool sound = response->header != NULL;
    for (size_t i = 0; i < response->n_events; i++) {
        sound = sound && response->events[i]->kv != NULL;
    }
    if (!sound) {
        vdc_etcd_watch_response_free(response);
        return NULL;
    }
    return response;
}

void vdc_etcd_watch_response_free(Etcdpb__WatchResponse *response)
{
    etcdpb__watch_response__free_unpacked(response, &allocator);
}

enum vdc_rc vdc_etcd_decode_grant(const void *data, size_t len, int64_t *lease_id, int64_t *ttl_s)
{
    Etcdpb__LeaseGrantResponse *response =
        etcdpb__lease_grant_response__unpack(&allocator, len, data);
    if (response == NULL) {
        return VDC_RC_PROTOCOL;
    }
    enum vdc_rc rc = VDC_RC_OK;
    if (response->error[0] != 0) {
        rc = VDC_RC_INVALID;
    } else if (response->id == 0 || response->ttl <= 0) {
        rc = VDC_RC_PROTOCOL;
    } else {
        *lease_id = response->id;
        *ttl_s = response->ttl;
    }
    etcdpb__lease_grant_response__free_unpacked(response, &allocator);
    return rc;
}

enum vdc_rc vdc_etcd_decode_keepalive(const void *data, size_t len, int64_t *ttl_s)
{
    Etcdpb__LeaseKeepAliveResponse *response =
        etcdpb__lease_keep_alive_response__unpack(&allocator, len, data);
    if (response == NULL) {
        return VDC_RC_PROTOCOL;
    }
    *ttl_s = response->ttl;
    etcdpb__lease_keep_alive_response__free_unpacked(response, &allocator);
    return VDC_RC_OK;
}
