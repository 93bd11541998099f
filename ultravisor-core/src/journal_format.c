/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segment head: magic 8 | version u32 | crc32c u32 of the other bytes | first sequence u64 |
 * salt u32 | zeros. Version 1 had no salt.
 */
#include <vdc/journal_format.h>

#include <string.h>

#include <vdc/base.h>
#include <vdc/crc32c.h>

#include "wire.h"

#define MAGIC "VDCJRNL1"
#define VERSION 2
#define HEAD_CRC_AT 12

static uint32_t head_crc(const uint8_t head[VDC_JOURNAL_HEAD_BYTES])
{
    uint32_t crc = vdc_crc32c(0, head, HEAD_CRC_AT);
    return vdc_crc32c(crc, head + HEAD_CRC_AT + 4, VDC_JOURNAL_HEAD_BYTES - HEAD_CRC_AT - 4);
}

void vdc_journal_head_encode(uint64_t first_sequence, uint32_t salt, struct vdc_buf *out)
{
    uint8_t head[VDC_JOURNAL_HEAD_BYTES] = {0};
    uint8_t *to = wire_put(head, MAGIC, 8);
    (void)wire_put_u32(to, VERSION);
    to = wire_put_u64(head + HEAD_CRC_AT + 4, first_sequence);
    (void)wire_put_u32(to, salt);
    (void)wire_put_u32(head + HEAD_CRC_AT, head_crc(head));
    vdc_buf_append(out, head, sizeof(head));
}

enum vdc_rc vdc_journal_head_decode(const void *data, size_t len, uint64_t *first_sequence,
                                    uint32_t *salt)
{
    *first_sequence = 0;
    *salt = 0;
    if (len < VDC_JOURNAL_HEAD_BYTES || memcmp(data, MAGIC, 8) != 0) {
        return VDC_RC_CORRUPT;
    }
    struct wire_reader in = {.at = (const uint8_t *)data + 8,
                             .end = (const uint8_t *)data + VDC_JOURNAL_HEAD_BYTES};
    uint32_t version = wire_get_u32(&in);
    uint32_t crc = wire_get_u32(&in);
    if (crc != head_crc(data)) {
        return VDC_RC_CORRUPT;
    }
    if (version != VERSION) {
        return VDC_RC_UNSUPPORTED;
    }
    *first_sequence = wire_get_u64(&in);
    *salt = wire_get_u32(&in);
    return VDC_RC_OK;
}

static uint32_t frame_crc(const uint8_t *frame, uint32_t payload_len, uint32_t salt)
{
    uint32_t crc = vdc_crc32c(0, &salt, sizeof(salt));
    crc = vdc_crc32c(crc, frame, 4);
    return vdc_crc32c(crc, frame + 8, VDC_JOURNAL_FRAME_HEAD_BYTES - 8 + (size_t)payload_len);
}

void vdc_journal_frame_encode(uint64_t sequence, uint64_t batch, uint32_t salt, const void *payload,
                              size_t len, struct vdc_buf *out)
{
    VDC_ASSERT(len <= VDC_JOURNAL_PAYLOAD_MAX && batch <= sequence && batch > 0);
    size_t bytes = VDC_JOURNAL_FRAME_BYTES(len);
    uint8_t *frame = (uint8_t *)vdc_buf_reserve(out, bytes);
    uint8_t *to = wire_put_u32(frame, (uint32_t)len);
    to = wire_put_u32(to, 0);
    to = wire_put_u64(to, sequence);
    to = wire_put_u64(to, batch);
    to = len == 0 ? to : wire_put(to, payload, len);
    memset(to, 0, bytes - (size_t)(to - frame));
    (void)wire_put_u32(frame + 4, frame_crc(frame, (uint32_t)len, salt));
    out->len += bytes;
    out->data[out->len] = 0;
}

/* Whether a whole frame lies at `offset`. The cheap conditions come first: the scan for a later frame
 * tries every multiple of 8. */
static bool read_frame(const uint8_t *data, size_t len, uint64_t offset, uint32_t salt,
                       struct vdc_journal_frame *out)
{
    if (offset > len || len - offset < VDC_JOURNAL_FRAME_HEAD_BYTES) {
        return false;
    }
    struct wire_reader in = {.at = data + offset, .end = data + len};
    uint32_t payload_len = wire_get_u32(&in);
    uint32_t crc = wire_get_u32(&in);
    *out = (struct vdc_journal_frame){.offset = offset, .len = payload_len};
    out->sequence = wire_get_u64(&in);
    out->batch = wire_get_u64(&in);
    out->payload = in.at;
    out->next = offset + VDC_JOURNAL_FRAME_BYTES(payload_len);
    return out->batch > 0 && out->batch <= out->sequence &&
           payload_len <= VDC_JOURNAL_PAYLOAD_MAX && out->next <= len &&
           crc == frame_crc(data + offset, payload_len, salt);
}

static bool all_zero(const uint8_t *data, size_t len)
{
    return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

uint64_t vdc_journal_find_later(const void *data, size_t len, uint64_t offset, uint64_t expected,
                                uint32_t salt)
{
    struct vdc_journal_frame frame;
    for (uint64_t at = (offset + 7) & ~UINT64_C(7);
         at < len && len - at >= VDC_JOURNAL_FRAME_HEAD_BYTES; at += 8) {
        uint64_t batch;
        memcpy(&batch, (const uint8_t *)data + at + 16, sizeof(batch));
        if (batch > expected && read_frame(data, len, at, salt, &frame)) {
            return at;
        }
    }
    return UINT64_MAX;
}

enum vdc_journal_scan vdc_journal_scan_frame(const void *data, size_t len, uint64_t offset,
                                             uint64_t expected, uint32_t salt,
                                             struct vdc_journal_frame *out)
{
    if (read_frame(data, len, offset, salt, out) && out->sequence == expected) {
        return VDC_JOURNAL_FRAME;
    }
    uint64_t start = VDC_MIN(offset, (uint64_t)len);
    if (all_zero((const uint8_t *)data + start, len - start)) {
        return VDC_JOURNAL_END;
    }
    if (vdc_journal_find_later(data, len, start, expected, salt) != UINT64_MAX) {
        return VDC_JOURNAL_DAMAGE;
    }
    return VDC_JOURNAL_TORN;
}
