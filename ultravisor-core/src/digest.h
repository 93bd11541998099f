/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hash of which the database's digest is made (allocdb.h). The digest is the sum, in two
 * independent 64-bit lanes, of the hash of each item: CPU, NUMA node, zone, partition with what it
 * holds, claim, entry. A sum does not care for order, and an item is taken out by subtracting it, so
 * a change costs what the changed items cost, in a database of any size.
 *
 * The hash (multiply 64 x 64 -> 128, fold) guards against defects and disk errors, not against
 * somebody who makes collisions: who can write the records can write anything.
 */
#ifndef VDC_DIGEST_H
#define VDC_DIGEST_H

#include <string.h>

#include <vdc/id.h>
#include <vdc/tx.h>

/* What an item begins with, so that no two kinds can look alike. Part of the formats. */
enum digest_item {
    DIGEST_CPU = 1,
    DIGEST_NUMA,
    DIGEST_ZONE,
    DIGEST_IDENTITY,
    DIGEST_PARTITION,
    DIGEST_CLAIM,
    DIGEST_ENTRY = 16, /* + enum vdc_entry_kind */
};

/* The keys are digits of pi: nothing up the sleeve, and part of the formats. */
#define DIGEST_KEY_LO UINT64_C(0x243f6a8885a308d3)
#define DIGEST_KEY_HI UINT64_C(0x13198a2e03707344)
#define DIGEST_MUL_LO UINT64_C(0xa4093822299f31d1)
#define DIGEST_MUL_HI UINT64_C(0x082efa98ec4e6c89)

static inline uint64_t digest_fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* 16 bytes for one multiplication in each lane. */
static inline void digest_pair(struct vdc_digest *hash, uint64_t a, uint64_t b)
{
    hash->lo = digest_fold(hash->lo ^ a, DIGEST_MUL_LO ^ b);
    hash->hi = digest_fold(hash->hi + b, DIGEST_MUL_HI + a);
}

static inline struct vdc_digest digest_begin(unsigned item)
{
    return (struct vdc_digest){DIGEST_KEY_LO + item, DIGEST_KEY_HI ^ item};
}

static inline struct vdc_digest digest_end(struct vdc_digest hash)
{
    digest_pair(&hash, DIGEST_KEY_HI, DIGEST_KEY_LO);
    return hash;
}

static inline void digest_id(struct vdc_digest *hash, const struct vdc_id *id)
{
    uint64_t words[2];
    memcpy(words, id->bytes, sizeof(words));
    digest_pair(hash, words[0], words[1]);
}

/* Any bytes, with their length. */
void digest_bytes(struct vdc_digest *hash, const void *data, size_t len);

static inline void digest_add(struct vdc_digest *digest, const struct vdc_digest *item)
{
    digest->lo += item->lo;
    digest->hi += item->hi;
}

static inline void digest_sub(struct vdc_digest *digest, const struct vdc_digest *item)
{
    digest->lo -= item->lo;
    digest->hi -= item->hi;
}

#endif
