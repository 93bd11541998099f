/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the codec that records are made from: a record carries a transaction whose
 * operations are encoded one by one as they are resolved.
 */
#ifndef VDC_TX_CODEC_H
#define VDC_TX_CODEC_H

#include <vdc/tx.h>

#include "wire.h"

#define TX_VERSION 3
#define RECORD_VERSION 2
/* Encodings of what lists are made of. */
#define BLOCK_BYTES 18
#define CPU_INFO_BYTES 10
#define NUMA_INFO_BYTES 10
/* version u8, zeros 3, rc u32, sequence u64, digest 16, request id 16. */
#define RECORD_HEAD_BYTES 48
/* Where the digest lies in it, patched in when the transaction has been applied. */
#define RECORD_DIGEST_AT 16

/* Where in the encoding of a PARTITION_CREATE, which begins with kind, run state and generation, the
 * partition's identity begins: what never changes but by a new configuration. */
#define TX_IDENTITY_AT 10

/* What the next two write at most, with the 8 bytes behind a text (wire.h). */
#define TX_HEAD_MAX (4 + 16 + 16 + 8 + VDC_NAME_CAP + 4 + 8)
#define TX_RESULT_MAX (4 + 1 + 8 + 4 + 2 + 8 + 8 + 8 + VDC_TX_TEXT_CAP + 8)
/* Both return what is behind what they wrote. */
uint8_t *tx_put_head(uint8_t *to, const struct vdc_tx *tx, uint32_t ops_len);
uint8_t *tx_put_result(uint8_t *to, const struct vdc_tx_result *result);
void tx_encode_op(const struct vdc_op *op, struct vdc_buf *out);
/* Memory that transactions are decoded into; freed with its data. */
struct tx_arena {
    uint8_t *data;
    size_t cap;
};
/* As vdc_record_decode, but the transaction lies in the arena and in `data`, so it is gone with either
 * and needs no deinit; of `result` only what the record has is set. */
enum vdc_rc record_decode_borrowed(const void *data, size_t len, struct vdc_record_head *head,
                                   struct vdc_tx *tx_out, struct vdc_tx_result *result,
                                   struct tx_arena *arena, struct vdc_err *err) VDC_MUST_USE;
/* vdc_tx_validate, by rule: FORM always. */
enum vdc_rc tx_validate_op(const struct vdc_op *op, uint32_t index,
                           struct vdc_err *err) VDC_MUST_USE;
enum vdc_rc tx_validate_head(const struct vdc_tx *tx, struct vdc_err *err) VDC_MUST_USE;

#endif
