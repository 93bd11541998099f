/* SPDX-License-Identifier: Apache-2.0 */
/* What seat.c (leading), load.c (reading a zone's records) and watch.c (what the store says) ask of each
 * other. All on the loop's thread. */
#ifndef VDC_MANAGER_SEAT_INTERNAL_H
#define VDC_MANAGER_SEAT_INTERNAL_H

#include "manager.h"

/* A zone whose leading failed is left alone for so long, doubled with each failure in a row: short
 * enough that a passing fault costs nothing, long enough that a record which stays unreadable does not
 * fill the log (measured before: five times a second) and an operator need not wait long after mending it. */
#define SEAT_PAUSE_MIN_NS (1 * VDC_SECOND)
#define SEAT_PAUSE_MAX_NS (30 * VDC_SECOND)

/* ---- seat.c ---- */

/* NULL at the limit of zones. */
struct seat *seat_open(struct manager *manager, const char *zone);
/* Tries to become the leader where nobody is; while the seat is paused, after that. */
void seat_campaign(struct seat *seat);
/* The leader key is ours, by a campaign whose answer was lost: leads. False: it is not. */
bool seat_adopt_own_key(struct seat *seat);
/* The lease under our leadership is lost, but perhaps the key is not: hangs it on the present one. */
void seat_retake(struct seat *seat);
/* Leadership is over: core, writes and waiting requests go. Nothing where there is none. */
void seat_resign(struct seat *seat, const char *why);
/* As seat_resign, because of a failure: `what` is told to whoever asks for the zone, and a code that is
 * not retryable makes the pause before the next campaign longer each time. */
void seat_give_up(struct seat *seat, enum vdc_rc rc, const char *what);
/* All records were read: leads. */
void seat_loaded(struct seat *seat);
/* Whatever is missing (watches, lease, campaigns) is tried again soon. */
void manager_retry_later(struct manager *manager);

/* ---- load.c ---- */

/* Reads the records into the seat's core, then calls seat_loaded() or seat_give_up(). */
void seat_load(struct seat *seat);

/* ---- watch.c ---- */

/* Lists and watches what is not watched yet. */
void watch_zones(struct manager *manager);

#endif
