/* SPDX-License-Identifier: Apache-2.0 */
/* A segment's bytes: every frame that the scan gives lies inside, and the scan ends. */
#include <vdc/base.h>
#include <vdc/journal_format.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vdc_journal_frame frame;
    uint64_t first;
    uint32_t salt;
    (void)!vdc_journal_head_decode(data, size, &first, &salt);
    uint64_t offset = 0;
    uint64_t expected = 1;
    while (vdc_journal_scan_frame(data, size, offset, expected, salt, &frame) ==
           VDC_JOURNAL_FRAME) {
        VDC_ASSERT(frame.next > offset && frame.next <= size);
        VDC_ASSERT(frame.payload + frame.len <= data + size);
        offset = frame.next;
        expected++;
    }
    return 0;
}
