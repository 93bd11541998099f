/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off: the columns below are meant so. */
/*
 * The launch configuration of one partition (vdc-monitor --config FILE): a JSON object that the
 * node agent writes. It holds what the view does not: files, identity for confinement, times.
 * What the view holds (vCPUs, memory, generation, run state, lease deadline) is not in it.
 *
 *   {
 *     "name": "web-1",               the partition's name (required)
 *     "kernel": "/path/vmlinuz",     required; this and the initrd must be readable by uid
 *     "initrd": "/path/initrd.img",  optional
 *     "append": "panic=-1 quiet",    kernel arguments; console=ttyS0 and tsc_early_khz= are added
 *                                    where they are missing
 *     "disks": [{"id": "root", "path": "/path/disk.raw", "readonly": false}],
 *                                    raw files, virtio-blk
 *     "migrate_incoming": false,     true: start empty and wait for migrate_in
 *     "lease": true,                 false: runs without a run lease (failover: none)
 *     "uid": 64001, "gid": 64001,    whom QEMU runs as (required unless --unconfined)
 *     "cgroup": "vdc-lab/n1/ID.GEN", this partition's own group, relative to each hierarchy's mount;
 *                                    parents are made as needed, the last one is removed at the
 *                                    end; "" or absent: no limits
 *     "grace_ms": 2000,              from the lease's end to the kill
 *     "stop_timeout_s": 10,          when the view says stopped
 *     "tsc_khz": 2596124             optional: else measured at start (10 ms)
 *   }
 *
 * Both ends of a migration need equal kernel-independent hardware: the same disks (number, ids,
 * order, readonly), the same vCPUs and memory in their views.
 */
/* clang-format on */
#ifndef VDC_LAUNCH_H
#define VDC_LAUNCH_H

#include <stdbool.h>
#include <stdint.h>

#include <vdc/err.h>
#include <vdc/limits.h>

/* Bytes of the file: 16 disks with long paths are under 20 KiB. */
#define VDC_LAUNCH_TEXT_MAX 65536
/* Disks of one partition: each takes one PCI slot of the 31 on q35's root bus. */
#define VDC_LAUNCH_DISKS_MAX 16
/* Bytes of a path without NUL. */
#define VDC_LAUNCH_PATH_MAX 1023
/* Bytes of kernel arguments without NUL: Linux' COMMAND_LINE_SIZE on x86 is 2048. */
#define VDC_LAUNCH_APPEND_MAX 1791

struct vdc_launch_disk {
    char id[VDC_NAME_CAP];
    char path[VDC_LAUNCH_PATH_MAX + 1];
    bool readonly;
};

struct vdc_launch {
    char name[VDC_NAME_CAP];
    char kernel[VDC_LAUNCH_PATH_MAX + 1];
    char initrd[VDC_LAUNCH_PATH_MAX + 1]; /* "": none */
    char append[VDC_LAUNCH_APPEND_MAX + 1];
    struct vdc_launch_disk disks[VDC_LAUNCH_DISKS_MAX];
    uint32_t disk_count;
    bool migrate_incoming;
    bool lease;
    uint32_t uid; /* 0: not given */
    uint32_t gid;
    char cgroup[VDC_LAUNCH_PATH_MAX + 1];
    uint32_t grace_ms;
    uint32_t stop_timeout_s;
    uint32_t tsc_khz; /* 0: measure */
};

/* Reads the JSON text. INVALID with the place and reason in err: unknown and duplicate fields,
 * wrong types, numbers out of range, relative paths, ".." in the cgroup are refused. */
enum vdc_rc vdc_launch_parse(const char *text, size_t len, struct vdc_launch *launch,
                             struct vdc_err *err) VDC_MUST_USE;
/* Writes it as JSON; caller frees. For the node agent. */
char *vdc_launch_to_json(const struct vdc_launch *launch);

#endif
