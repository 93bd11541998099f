/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <vdc/base.h>
#include <vdc/sm.h>

int vdc_sm_move(const struct vdc_sm_state *table, size_t count, int from, int to,
                struct vdc_trace *trace, const char *kind, const char *name, const char *why)
{
    VDC_ASSERT(count <= VDC_SM_STATES_MAX);
    VDC_ASSERT(from >= 0 && (size_t)from < count && to >= 0 && (size_t)to < count);
    VDC_ASSERT((table[from].next & VDC_SM_TO(to)) != 0);
    vdc_trace_line(trace, VDC_LEVEL_INFO, "%s %s: %s -> %s (%s)", kind, name, table[from].name,
                   table[to].name, why);
    return to;
}

int vdc_sm_find(const struct vdc_sm_state *table, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(table[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}
