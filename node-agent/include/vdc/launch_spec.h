/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The launch description that a zone manager puts into PARTITION_CREATE (tx.h keeps it unread): one
 * flat JSON object,
 *   {"image":"linux","disk_bytes":67108864,"volume":"UUID","restartable":true,"name":"web"}
 * image: a name (required); disk_bytes: 0 or absent = no disk; volume: the disk's file, required with
 * a disk; restartable: whether policy restarts it elsewhere, hence whether it needs a run lease
 * (default true: the safe one). Anything else is refused by name. Pure.
 */
#ifndef VDC_LAUNCH_SPEC_H
#define VDC_LAUNCH_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/err.h>
#include <vdc/limits.h>

/* Bytes of one disk: what a raw file on ext4 can hold. */
#define VDC_LAUNCH_DISK_BYTES_MAX (UINT64_C(16) << 40)

struct vdc_launch_spec {
    char image[VDC_NAME_CAP];
    uint64_t disk_bytes; /* multiple of 512; 0: none */
    char volume[VDC_NAME_CAP];
    char name[VDC_NAME_CAP]; /* "" allowed */
    bool restartable;
};

/* INVALID with the field in err. */
enum vdc_rc vdc_launch_spec_parse(const void *data, size_t len, struct vdc_launch_spec *spec,
                                  struct vdc_err *err) VDC_MUST_USE;

#endif
