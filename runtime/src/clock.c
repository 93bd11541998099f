/* SPDX-License-Identifier: Apache-2.0 */
#include <vdc/clock.h>

#include <time.h>

#include <vdc/base.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec now;
    int rv = clock_gettime(id, &now);
    VDC_ASSERT(rv == 0);
    return (int64_t)now.tv_sec * VDC_SECOND + (int64_t)now.tv_nsec;
}

vdc_mono vdc_clock_mono(void)
{
    return (vdc_mono){read_clock(CLOCK_BOOTTIME)};
}

vdc_wall vdc_clock_wall(void)
{
    return (vdc_wall){read_clock(CLOCK_REALTIME)};
}
