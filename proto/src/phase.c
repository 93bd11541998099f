/* SPDX-License-Identifier: Apache-2.0 */
#include <vdc/phase.h>

#include <vdc/base.h>

const char *const vdc_phase_texts[VDC_PHASES] = {
#define X(name, text) text,
    VDC_PHASE_LIST(X)
#undef X
};

const char *vdc_phase_text(enum vdc_phase phase)
{
    VDC_ASSERT((size_t)phase < VDC_PHASES);
    return vdc_phase_texts[phase];
}
