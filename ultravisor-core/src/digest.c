/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The items of the digest. What is longer than 32 bytes is read in two streams of 16 bytes each, one
 * for each lane, which are crossed at the end: half the multiplications, and still every byte reaches
 * both lanes.
 */
#include "digest.h"

#include "allocdb_internal.h"
#include "tx_codec.h"

static inline uint64_t load_u64(const uint8_t *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof(word));
    return word;
}

void digest_bytes(struct vdc_digest *hash, const void *data, size_t len)
{
    const uint8_t *from = data;
    uint8_t padded[32] = {0};
    uint64_t lo = hash->lo ^ len;
    uint64_t hi = hash->hi + len;
    for (size_t left = len; left > 32; left -= 32, from += 32) {
        lo = digest_fold(lo ^ load_u64(from), DIGEST_MUL_LO ^ load_u64(from + 8));
        hi = digest_fold(hi ^ load_u64(from + 16), DIGEST_MUL_HI ^ load_u64(from + 24));
    }
    /* The length is in the hash, so the last 32 bytes may be read over some that were taken before. */
    if (len >= sizeof(padded)) {
        from = (const uint8_t *)data + len - sizeof(padded);
    } else if (len > 0) {
        memcpy(padded, from, len);
        from = padded;
    } else {
        from = padded;
    }
    lo = digest_fold(lo ^ load_u64(from), DIGEST_MUL_LO ^ load_u64(from + 8));
    hi = digest_fold(hi ^ load_u64(from + 16), DIGEST_MUL_HI ^ load_u64(from + 24));
    digest_pair(hash, lo, hi);
}

struct vdc_digest digest_of_cpu(const struct vdc_allocdb *db, uint32_t index)
{
    const struct cpu *cpu = &db->cpus[index];
    struct vdc_digest hash = digest_begin(DIGEST_CPU);
    /* The zone by its name: the zones' numbers are history (the order of their joining). */
    digest_pair(&hash,
                (uint64_t)cpu->info.number | (uint64_t)cpu->info.numa << 16 |
                    (uint64_t)cpu->info.socket << 32 | (uint64_t)cpu->info.core << 48,
                db->zones[cpu->zone].name_hash);
    digest_pair(&hash, cpu->info.thread, 0);
    return digest_end(hash);
}

struct vdc_digest digest_of_numa(const struct numa *numa)
{
    struct vdc_digest hash = digest_begin(DIGEST_NUMA);
    digest_pair(&hash, numa->number, numa->map.bytes);
    return digest_end(hash);
}

uint64_t digest_of_zone_name(const char *name)
{
    struct vdc_digest hash = digest_begin(DIGEST_ZONE);
    digest_bytes(&hash, name, strlen(name));
    return digest_end(hash).lo;
}

struct vdc_digest digest_of_zone(const struct zone *zone)
{
    const struct vdc_zone_slice *pub = &zone->pub;
    struct vdc_digest hash = digest_begin(DIGEST_ZONE);
    digest_pair(&hash, zone->name_hash, (uint64_t)pub->overcommit_milli << 1 | pub->joined);
    digest_pair(&hash, pub->epoch, pub->incarnation);
    digest_pair(&hash, pub->cpu_share.milli, pub->cpu_share.amount);
    digest_pair(&hash, pub->memory_share.milli, pub->memory_share.amount);
    digest_pair(&hash, pub->memory_bytes, 0);
    return digest_end(hash);
}

struct vdc_digest digest_of_identity(const void *data, size_t len)
{
    struct vdc_digest hash = digest_begin(DIGEST_IDENTITY);
    digest_bytes(&hash, data, len);
    return hash;
}

/* CPU numbers four to a word, the last words filled with zeros: their number is in the hash. */
static void hash_cpus(struct vdc_digest *hash, const uint16_t *cpus, uint32_t len)
{
    for (uint32_t at = 0; at < len; at += 8) {
        uint64_t words[2] = {0};
        uint32_t part = VDC_MIN(len - at, 8u);
        for (uint32_t i = 0; i < part; i++) {
            words[i / 4] |= (uint64_t)cpus[at + i] << (i % 4 * 16);
        }
        digest_pair(hash, words[0], words[1]);
    }
}

struct vdc_digest digest_of_slot(const struct vdc_allocdb *db, const struct slot *slot)
{
    const struct vdc_partition *pub = &slot->pub;
    struct vdc_digest hash = digest_begin(DIGEST_PARTITION);
    digest_pair(&hash, slot->identity.lo, slot->identity.hi);
    digest_id(&hash, &pub->claim);
    digest_pair(&hash, pub->generation, db->zones[slot->zone].name_hash);
    digest_pair(&hash, (uint64_t)pub->run << 32 | pub->shared_milli,
                (uint64_t)pub->cpus_len << 32 | pub->blocks_len);
    hash_cpus(&hash, pub->cpus, pub->cpus_len);
    /* Addresses are multiples of 4 KiB, so a NUMA node's number fits below. */
    _Static_assert(VDC_NUMA_NODES_MAX <= PAGE_4K, "the number is below the address");
    for (uint32_t i = 0; i < pub->blocks_len; i++) {
        digest_pair(&hash, pub->blocks[i].addr | pub->blocks[i].numa, pub->blocks[i].bytes);
    }
    return digest_end(hash);
}

struct vdc_digest digest_of_claim(const struct vdc_allocdb *db, const struct claim *claim)
{
    struct vdc_digest hash = digest_begin(DIGEST_CLAIM);
    digest_id(&hash, &claim->id);
    digest_pair(&hash, db->zones[claim->zone].name_hash, claim->partitions);
    return digest_end(hash);
}
