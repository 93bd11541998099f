/* SPDX-License-Identifier: Apache-2.0 */
/* Launch descriptions: whatever is accepted names files only by checked names. */
#include <stddef.h>
#include <stdint.h>

#include <vdc/base.h>
#include <vdc/launch_spec.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vdc_launch_spec spec;
    struct vdc_err err;
    if (vdc_launch_spec_parse(data, size, &spec, &err) == VDC_RC_OK) {
        VDC_ASSERT(vdc_name_valid(spec.image));
        VDC_ASSERT(spec.volume[0] == 0 || vdc_name_valid(spec.volume));
        VDC_ASSERT(spec.disk_bytes <= VDC_LAUNCH_DISK_BYTES_MAX);
    }
    return 0;
}
