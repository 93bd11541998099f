/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The deterministic generator of the cores and the simulator: xoshiro256** (Blackman and Vigna,
 * 2018), seeded through splitmix64. Not for secrets: those come from runtime/entropy.c, which also
 * seeds the generators of running daemons.
 */
#ifndef VDC_PRNG_H
#define VDC_PRNG_H

#include <stdint.h>

struct vdc_prng {
    uint64_t s[4];
};

void vdc_prng_init(struct vdc_prng *prng, uint64_t seed);
uint64_t vdc_prng_next(struct vdc_prng *prng);
/* Even over [0, bound); bound >= 1. */
uint64_t vdc_prng_below(struct vdc_prng *prng, uint64_t bound);
/* An independent stream, so that a draw added to one does not shift the others. */
void vdc_prng_split(struct vdc_prng *prng, struct vdc_prng *child);

#endif
