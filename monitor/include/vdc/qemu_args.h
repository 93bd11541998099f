/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's command line for a partition: pure, text only. It is the guest's hardware; both ends of a
 * migration must come to the same one from equal (launch, view, accelerator).
 */
#ifndef VDC_QEMU_ARGS_H
#define VDC_QEMU_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include <vdc/launch.h>

/* Descriptors at which QEMU finds what it was given. A disk takes two: open for writing and for
 * reading, since QEMU asks for either. */
#define VDC_QEMU_FD_QMP 3
#define VDC_QEMU_FD_CONSOLE 4
#define VDC_QEMU_FD_AGENT 5
#define VDC_QEMU_FD_LOCK 6 /* not used by QEMU, only held */
#define VDC_QEMU_FD_DISK 10
#define VDC_QEMU_FDS_MAX (VDC_QEMU_FD_DISK + 2 * VDC_LAUNCH_DISKS_MAX)

/* MiB of translated code that TCG keeps: its own default of 1 GiB would need as much memory in the
 * partition's control group; 32 costs 0.1 s of a boot (measured, also 16 and 8). */
#define VDC_QEMU_TCG_CACHE_MIB 32
/* Bytes taken off the guest's memory: QEMU 7.2 under TCG loses dirty pages in a migration when the
 * memory is a multiple of 256 KiB long (mended upstream in 03bfc2188f06, QEMU 9.0). 8 KiB less, not
 * more, stays inside what the allocation database gave. */
#define VDC_QEMU_MEMORY_TRIM UINT64_C(8192)
/* Bytes that QEMU needs beside guest memory and TCG's cache, in its control group: 60 MiB measured
 * with one vCPU, the rest is room for threads, queues and page tables. */
#define VDC_QEMU_OVERHEAD_BYTES (UINT64_C(112) << 20)
#define VDC_QEMU_OVERHEAD_PER_VCPU_BYTES (UINT64_C(4) << 20)
/* Threads and processes of one QEMU beside its vCPUs: main, RCU, migration, and up to 64 of its
 * thread pool for disks. */
#define VDC_QEMU_THREADS_MAX 96

struct vdc_qemu_hardware {
    const struct vdc_launch *launch;
    const char *kernel; /* paths as QEMU will see them */
    const char *initrd; /* NULL: none */
    uint32_t vcpus;
    uint64_t memory_bytes; /* of the view */
    bool kvm;
    bool incoming;
    bool sandbox;                      /* seccomp; needs libseccomp in QEMU */
    uint32_t tsc_khz;                  /* of the host */
    bool direct[VDC_LAUNCH_DISKS_MAX]; /* the file system takes O_DIRECT */
};

/* NULL-terminated, argv[0] is "qemu-system-x86_64"; freed by vdc_qemu_args_free. */
char **vdc_qemu_args_make(const struct vdc_qemu_hardware *hardware);
void vdc_qemu_args_free(char **args);

/* Memory limit of the partition's control group. */
uint64_t vdc_qemu_memory_limit(uint64_t memory_bytes, uint32_t vcpus, bool kvm);

#endif
