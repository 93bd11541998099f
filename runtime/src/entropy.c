/* SPDX-License-Identifier: Apache-2.0 */
#include <vdc/entropy.h>

#include <errno.h>
#include <sys/random.h>

#include <vdc/base.h>

void vdc_entropy_fill(void *bytes, size_t len)
{
    uint8_t *at = bytes;
    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        VDC_ASSERT(got > 0);
        at += got;
        len -= (size_t)got;
    }
}

uint64_t vdc_entropy_seed(void)
{
    uint64_t seed;
    vdc_entropy_fill(&seed, sizeof(seed));
    return seed;
}

struct vdc_id vdc_entropy_id(void)
{
    /* The four words of the generator are filled whole: a 64-bit seed would make ids of many
     * processes collide after 2^32 of them. */
    struct vdc_prng prng;
    vdc_entropy_fill(prng.s, sizeof(prng.s));
    return vdc_id_make(&prng);
}
