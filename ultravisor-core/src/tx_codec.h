/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the codec that records are made from: a record carries a transaction whose
 * operations are encoded one by one as they are resolved.
 */
#ifndef VDC_TX_CODEC_H
#define VDC_TX_CODEC_H

#include <vdc/tx.h>

#include "wire.h"

#define RECORD_VERSION 2
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
/* A record's transaction may have no operations (refusals). */
enum vdc_rc tx_decode_loose(const void *data, size_t len, struct vdc_tx *out,
                            struct vdc_err *err) VDC_MUST_USE;
/* vdc_tx_validate, by rule: FORM always. */
enum vdc_rc tx_validate_op(const struct vdc_op *op, uint32_t index,
                           struct vdc_err *err) VDC_MUST_USE;
enum vdc_rc tx_validate_head(const struct vdc_tx *tx, struct vdc_err *err) VDC_MUST_USE;

#endif
