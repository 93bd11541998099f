/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots and records from a damaged disk. The checksum of a snapshot is put right first, because
 * no fuzzer finds one. The first byte says which of the two the rest is.
 */
#include <string.h>

#include <vdc/allocdb.h>
#include <vdc/base.h>
#include <vdc/crc32c.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void restore(const uint8_t *data, size_t size)
{
    vdc_autofree uint8_t *copy = vdc_memdup(data, size);
    struct vdc_allocdb *db;
    struct vdc_err err = {0};
    if (size >= 4) {
        uint32_t crc = vdc_crc32c(0, copy, size - 4);
        memcpy(copy + size - 4, &crc, sizeof(crc));
    }
    if (vdc_allocdb_restore(copy, size, &db, &err) == VDC_RC_OK) {
        struct vdc_buf again = {0};
        vdc_allocdb_snapshot(db, &again);
        vdc_buf_deinit(&again);
        VDC_ASSERT(vdc_allocdb_check(db, &err) == VDC_RC_OK);
        vdc_allocdb_destroy(db);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    if ((data[0] & 1) == 0) {
        restore(data + 1, size - 1);
        return 0;
    }
    struct vdc_allocdb *db = vdc_allocdb_create();
    struct vdc_err err = {0};
    (void)!vdc_allocdb_apply_record(db, data + 1, size - 1, &err);
    vdc_allocdb_destroy(db);
    return 0;
}
