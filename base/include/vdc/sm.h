/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checked state machine: a table of states with their names and allowed successors. A machine with
 * more than two states embeds one, and moves only through vdc_sm_move(), which refuses (asserts) a
 * move that the table does not allow and writes the trace line "KIND NAME: a -> b (why)".
 */
#ifndef VDC_SM_H
#define VDC_SM_H

#include <stdint.h>

#include <vdc/trace.h>

#define VDC_SM_STATES_MAX 32

struct vdc_sm_state {
    const char *name;
    uint32_t next; /* bit n: state n may follow */
};

/* The bit of state `s` in a table's `next`. */
#define VDC_SM_TO(s) (UINT32_C(1) << (s))

/* Asserts that the move is allowed; returns `to`. */
int vdc_sm_move(const struct vdc_sm_state *table, size_t count, int from, int to,
                struct vdc_trace *trace, const char *kind, const char *name, const char *why);
/* The number of the state called `name`, or -1. */
int vdc_sm_find(const struct vdc_sm_state *table, size_t count, const char *name);

#endif
