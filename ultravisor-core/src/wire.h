/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Little-endian bytes in and out. The writer trusts its caller to have reserved room; the reader
 * trusts nothing: after the first read beyond the end it is `bad`, gives zeros, and stays bad.
 */
#ifndef VDC_WIRE_H
#define VDC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/id.h>
#include <vdc/tx.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they lie");

static inline uint8_t *wire_put(uint8_t *to, const void *data, size_t len)
{
    memcpy(to, data, len);
    return to + len;
}

static inline uint8_t *wire_put_u8(uint8_t *to, uint8_t value)
{
    *to = value;
    return to + 1;
}

static inline uint8_t *wire_put_u16(uint8_t *to, uint16_t value)
{
    return wire_put(to, &value, sizeof(value));
}

static inline uint8_t *wire_put_u32(uint8_t *to, uint32_t value)
{
    return wire_put(to, &value, sizeof(value));
}

static inline uint8_t *wire_put_u64(uint8_t *to, uint64_t value)
{
    return wire_put(to, &value, sizeof(value));
}

/* One byte of length, then the bytes; at most 255. The text stands in an array whose size is a
 * multiple of 8, and 8 bytes behind it may be written over: it is copied by the word, because the
 * names of a transaction are many and short. */
static inline uint8_t *wire_put_text(uint8_t *to, const char *text)
{
    uint8_t *start = to + 1;
    for (to = start;; to += 8, text += 8) {
        uint64_t word;
        memcpy(&word, text, sizeof(word));
        memcpy(to, &word, sizeof(word));
        /* The lowest bit of it is that of the first zero byte. */
        uint64_t zero =
            (word - UINT64_C(0x0101010101010101)) & ~word & UINT64_C(0x8080808080808080);
        if (zero != 0) {
            to += (unsigned)__builtin_ctzll(zero) / 8;
            break;
        }
    }
    VDC_ASSERT(to - start <= UINT8_MAX);
    start[-1] = (uint8_t)(to - start);
    return to;
}

struct wire_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

static inline size_t wire_left(const struct wire_reader *in)
{
    return (size_t)(in->end - in->at);
}

/* The next `len` bytes, NULL (and bad) if there are not so many. */
static inline const uint8_t *wire_get(struct wire_reader *in, size_t len)
{
    if (len > wire_left(in)) {
        in->bad = true;
        in->at = in->end;
        return NULL;
    }
    const uint8_t *from = in->at;
    in->at += len;
    return from;
}

static inline void wire_get_into(struct wire_reader *in, void *to, size_t len)
{
    const uint8_t *from = wire_get(in, len);
    if (from == NULL) {
        memset(to, 0, len);
        return;
    }
    memcpy(to, from, len);
}

static inline uint8_t wire_get_u8(struct wire_reader *in)
{
    uint8_t value;
    wire_get_into(in, &value, sizeof(value));
    return value;
}

static inline uint16_t wire_get_u16(struct wire_reader *in)
{
    uint16_t value;
    wire_get_into(in, &value, sizeof(value));
    return value;
}

static inline uint32_t wire_get_u32(struct wire_reader *in)
{
    uint32_t value;
    wire_get_into(in, &value, sizeof(value));
    return value;
}

static inline uint64_t wire_get_u64(struct wire_reader *in)
{
    uint64_t value;
    wire_get_into(in, &value, sizeof(value));
    return value;
}

static inline struct vdc_id wire_get_id(struct wire_reader *in)
{
    struct vdc_id id;
    wire_get_into(in, id.bytes, sizeof(id.bytes));
    return id;
}

/* Into `text` of `cap` bytes; bad when too long or with a NUL inside. */
static inline void wire_get_text(struct wire_reader *in, char *text, size_t cap)
{
    size_t len = wire_get_u8(in);
    text[0] = 0;
    if (len >= cap) {
        in->bad = true;
        return;
    }
    const uint8_t *from = wire_get(in, len);
    if (from == NULL || memchr(from, 0, len) != NULL) {
        in->bad = true;
        return;
    }
    memcpy(text, from, len);
    text[len] = 0;
}

#endif
