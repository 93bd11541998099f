/* SPDX-License-Identifier: Apache-2.0 */
#include <vdc/prng.h>

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

void vdc_prng_init(struct vdc_prng *prng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        prng->s[i] = splitmix(&seed);
    }
}

uint64_t vdc_prng_next(struct vdc_prng *prng)
{
    uint64_t *s = prng->s;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t vdc_prng_below(struct vdc_prng *prng, uint64_t bound)
{
    /* Values below 2^64 mod bound are drawn again: they would make small results likelier. */
    uint64_t threshold = (0 - bound) % bound;
    for (;;) {
        uint64_t value = vdc_prng_next(prng);
        if (value >= threshold) {
            return value % bound;
        }
    }
}

void vdc_prng_split(struct vdc_prng *prng, struct vdc_prng *child)
{
    vdc_prng_init(child, vdc_prng_next(prng));
}
