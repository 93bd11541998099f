/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <time.h>

#include <vdc/time.h>

vdc_mono vdc_mono_add(vdc_mono at, int64_t ns)
{
    int64_t sum;
    if (at.ns == INT64_MAX || __builtin_add_overflow(at.ns, ns, &sum)) {
        return VDC_NEVER;
    }
    return (vdc_mono){sum};
}

int64_t vdc_mono_sub(vdc_mono a, vdc_mono b)
{
    return a.ns - b.ns;
}

vdc_mono vdc_mono_min(vdc_mono a, vdc_mono b)
{
    return a.ns < b.ns ? a : b;
}

vdc_mono vdc_mono_max(vdc_mono a, vdc_mono b)
{
    return a.ns > b.ns ? a : b;
}

bool vdc_mono_reached(vdc_mono now, vdc_mono deadline)
{
    return deadline.ns != INT64_MAX && now.ns >= deadline.ns;
}

bool vdc_mono_is_never(vdc_mono at)
{
    return at.ns == INT64_MAX;
}

void vdc_wall_to_text(vdc_wall at, char text[VDC_WALL_TEXT_CAP])
{
    /* Rounded down, also before 1970: records from the store may hold any number. */
    int64_t ms = at.ns / VDC_MS - (at.ns % VDC_MS < 0);
    time_t seconds = (time_t)(ms / 1000 - (ms % 1000 < 0));
    struct tm tm;
    gmtime_r(&seconds, &tm); /* a calculation: reads no clock and no time zone */
    char day[24];
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, VDC_WALL_TEXT_CAP, "%s.%03dZ", day, (int)(ms - (int64_t)seconds * 1000));
}
