/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of bits in arrays of 64-bit words. Ranges are [first, end) and not empty. */
#ifndef VDC_BITS_H
#define VDC_BITS_H

#include <stdbool.h>
#include <stdint.h>

static inline bool bit_get(const uint64_t *words, uint32_t i)
{
    return (words[i / 64] >> (i % 64) & 1) != 0;
}

static inline void bit_put(uint64_t *words, uint32_t i, bool on)
{
    uint64_t bit = UINT64_C(1) << (i % 64);
    words[i / 64] = on ? words[i / 64] | bit : words[i / 64] & ~bit;
}

/* The bits of the first and of the last word of a range. */
static inline uint64_t bits_from(uint32_t first)
{
    return UINT64_MAX << (first % 64);
}

static inline uint64_t bits_until(uint32_t end)
{
    return UINT64_MAX >> ((64 - end % 64) % 64);
}

static inline void bits_set(uint64_t *words, uint32_t first, uint32_t end)
{
    uint32_t w = first / 64;
    uint32_t last = (end - 1) / 64;
    uint64_t mask = bits_from(first);
    for (; w < last; w++) {
        words[w] |= mask;
        mask = UINT64_MAX;
    }
    words[last] |= mask & bits_until(end);
}

static inline void bits_clear(uint64_t *words, uint32_t first, uint32_t end)
{
    uint32_t w = first / 64;
    uint32_t last = (end - 1) / 64;
    uint64_t mask = bits_from(first);
    for (; w < last; w++) {
        words[w] &= ~mask;
        mask = UINT64_MAX;
    }
    words[last] &= ~(mask & bits_until(end));
}

/* Whether none of them is set (flip 0) or all are (flip UINT64_MAX). */
static inline bool bits_none(const uint64_t *words, uint32_t first, uint32_t end, uint64_t flip)
{
    uint32_t w = first / 64;
    uint32_t last = (end - 1) / 64;
    uint64_t mask = bits_from(first);
    for (; w < last; w++) {
        if (((words[w] ^ flip) & mask) != 0) {
            return false;
        }
        mask = UINT64_MAX;
    }
    return ((words[last] ^ flip) & mask & bits_until(end)) == 0;
}

/* The lowest bit at or behind `from` that is set (flip 0) or clear (flip UINT64_MAX); the number of
 * bits: none. */
static inline uint32_t bit_next(const uint64_t *words, uint32_t words_len, uint32_t from,
                                uint64_t flip)
{
    uint32_t w = from / 64;
    if (w >= words_len) {
        return words_len * 64;
    }
    uint64_t word = (words[w] ^ flip) & bits_from(from);
    while (word == 0) {
        if (++w == words_len) {
            return words_len * 64;
        }
        word = words[w] ^ flip;
    }
    return w * 64 + (uint32_t)__builtin_ctzll(word);
}

/* Where the run of set bits that ends before `end` begins: `end` when the bit before it is clear. */
static inline uint32_t run_begin(const uint64_t *words, uint32_t end)
{
    while (end > 0) {
        uint32_t w = (end - 1) / 64;
        uint64_t clear = ~words[w] & bits_until(end);
        if (clear != 0) {
            return w * 64 + 64 - (uint32_t)__builtin_clzll(clear);
        }
        end = w * 64;
    }
    return 0;
}

#endif
