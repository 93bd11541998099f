/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is KVM usable here? That /dev/kvm exists says little: in containers and nested machines it may
 * be forbidden, or be an emulation in software that runs small guests slowly and stock kernels not
 * at all. So a tiny guest is run and counted, in 16-bit real mode (where every boot begins) and in
 * 64-bit long mode, in a child process with a time limit, since a broken KVM may also hang.
 */
#ifndef VDC_KVM_PROBE_H
#define VDC_KVM_PROBE_H

#include <stdbool.h>
#include <stdint.h>

/* Instructions per second of a two-instruction loop below which KVM is not used. Hardware gives
 * 10^9 and more, also nested; TCG gives about 2 * 10^8 on such a loop; software KVM was measured
 * at 10^6. What is slower than TCG by a factor has no place. */
#define VDC_KVM_INSTRUCTIONS_PER_S_MIN UINT64_C(50000000)
/* Milliseconds that each of the two loops runs. */
#define VDC_KVM_PROBE_RUN_MS 20
/* Milliseconds for the whole probe before it is killed. */
#define VDC_KVM_PROBE_TIMEOUT_MS 1000

struct vdc_kvm_probe {
    bool usable;
    uint64_t real_instructions_per_s; /* 0: did not run */
    uint64_t long_instructions_per_s; /* 0: did not run */
    char reason[160];                 /* a fact and an arrow, for log and discovery */
};

/* Blocks for at most VDC_KVM_PROBE_TIMEOUT_MS. */
void vdc_kvm_probe(struct vdc_kvm_probe *probe);

/* The time-stamp counter's frequency in kHz, measured against CLOCK_BOOTTIME in about 10 ms (good
 * to about 10 ppm); 0 where the CPU has no usable counter. */
uint32_t vdc_tsc_khz(void);

#endif
