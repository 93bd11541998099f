/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain structs of vdc/etcd.h to and from etcd's protobuf messages: pure.
 *
 * A TxnRequest is made in pieces that are simply put one behind the other, because encoded repeated
 * fields add up: so a guarded write encodes its operations once and its compares at each attempt.
 */
#ifndef VDC_ETCD_CODEC_H
#define VDC_ETCD_CODEC_H

#include <vdc/buf.h>
#include <vdc/etcd.h>

#include "etcd.pb-c.h"

/* Which list of a transaction an operation is added to. */
enum vdc_etcd_branch { VDC_ETCD_THEN, VDC_ETCD_OTHERWISE };

/* INVALID, LIMIT, TOO_LARGE for what etcd.h forbids; see there. */
enum vdc_rc vdc_etcd_check_key(const char *key, bool may_be_empty);
enum vdc_rc vdc_etcd_check_compares(const struct vdc_etcd_compare *compares, size_t count);
enum vdc_rc vdc_etcd_check_ops(const struct vdc_etcd_op *ops, size_t count);
bool vdc_etcd_ops_write(const struct vdc_etcd_op *ops, size_t count);

/* These append to buf; what goes in was checked. */
void vdc_etcd_encode_compares(struct vdc_buf *buf, const struct vdc_etcd_compare *compares,
                              size_t count);
void vdc_etcd_encode_ops(struct vdc_buf *buf, enum vdc_etcd_branch branch,
                         const struct vdc_etcd_op *ops, size_t count);
/* A TxnRequest that reads `limit` keys from key `from` (any bytes) to the end of `prefix`, as they
 * were at `revision` (0: now). */
void vdc_etcd_encode_page(struct vdc_buf *buf, const char *prefix, const char *from,
                          size_t from_len, int64_t limit, int64_t revision);
void vdc_etcd_encode_watch(struct vdc_buf *buf, const char *prefix, int64_t from_revision);
void vdc_etcd_encode_grant(struct vdc_buf *buf, int64_t ttl_s);
void vdc_etcd_encode_keepalive(struct vdc_buf *buf, int64_t lease_id);
void vdc_etcd_encode_revoke(struct vdc_buf *buf, int64_t lease_id);

/* The end of the range of keys that begin with prefix: bytes into `end` (room for strlen + 1),
 * returns their number. */
size_t vdc_etcd_prefix_end(const char *prefix, uint8_t *end);

/* A decoded answer of a transaction; owns all that `result` points to. */
struct vdc_etcd_decoded {
    struct vdc_etcd_result result;
    struct vdc_etcd_answer *answers;
    struct vdc_etcd_kv *kvs;
    Etcdpb__TxnResponse *message;
};

/* OK or PROTOCOL; free with vdc_etcd_decoded_deinit in both cases. `then_count`, `otherwise_count`:
 * the operations that were asked for. */
enum vdc_rc vdc_etcd_decode_txn(const void *data, size_t len, size_t then_count,
                                size_t otherwise_count, struct vdc_etcd_decoded *out);
void vdc_etcd_decoded_deinit(struct vdc_etcd_decoded *decoded);

/* NULL if it is no such message. Free with vdc_etcd_watch_response_free. All byte fields have a NUL
 * behind them. */
Etcdpb__WatchResponse *vdc_etcd_decode_watch(const void *data, size_t len);
void vdc_etcd_watch_response_free(Etcdpb__WatchResponse *response);
/* Borrows from kv. */
struct vdc_etcd_kv vdc_etcd_kv_from(const Etcdpb__KeyValue *kv);

/* OK, PROTOCOL; of a grant also INVALID with etcd's refusal. ttl_s <= 0 of a keep-alive: the lease is
 * gone. */
enum vdc_rc vdc_etcd_decode_grant(const void *data, size_t len, int64_t *lease_id, int64_t *ttl_s);
enum vdc_rc vdc_etcd_decode_keepalive(const void *data, size_t len, int64_t *ttl_s);

#endif
