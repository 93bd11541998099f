/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instants. Monotonic and wall time are different types, so that no deadline can be made from a
 * clock that an operator or NTP may set. Monotonic instants are CLOCK_BOOTTIME (it goes on while the
 * machine sleeps: a lease does too). Only runtime/clock.c reads clocks.
 */
#ifndef VDC_TIME_H
#define VDC_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VDC_MS INT64_C(1000000)
#define VDC_SECOND (INT64_C(1000) * VDC_MS)

typedef struct {
    int64_t ns; /* since boot; INT64_MAX: never */
} vdc_mono;

typedef struct {
    int64_t ns; /* since 1970-01-01T00:00:00Z */
} vdc_wall;

#define VDC_NEVER ((vdc_mono){INT64_MAX})

/* Saturates at VDC_NEVER. */
vdc_mono vdc_mono_add(vdc_mono at, int64_t ns);
/* a - b, in ns. */
int64_t vdc_mono_sub(vdc_mono a, vdc_mono b);
vdc_mono vdc_mono_min(vdc_mono a, vdc_mono b);
vdc_mono vdc_mono_max(vdc_mono a, vdc_mono b);
/* now >= deadline; never for VDC_NEVER. */
bool vdc_mono_reached(vdc_mono now, vdc_mono deadline);
bool vdc_mono_is_never(vdc_mono at);

/* "2026-11-22T17:02:53.123Z": 24 bytes and NUL. */
#define VDC_WALL_TEXT_CAP 32
void vdc_wall_to_text(vdc_wall at, char text[VDC_WALL_TEXT_CAP]);

#endif
