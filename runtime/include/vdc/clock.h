/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clocks of a running daemon. runtime/src/clock.c is the only file that reads them: a core is
 * told the time by its driver, so that the simulator can own it.
 */
#ifndef VDC_CLOCK_H
#define VDC_CLOCK_H

#include <vdc/time.h>

/* CLOCK_BOOTTIME: for deadlines, leases and durations; goes on while the machine sleeps. The same
 * for all processes of one machine, so it may be put into a view. */
vdc_mono vdc_clock_mono(void);
/* CLOCK_REALTIME: for logs and audit only; may jump in either direction. */
vdc_wall vdc_clock_wall(void);

#endif
