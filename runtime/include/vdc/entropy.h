/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random bytes from the kernel. runtime/src/entropy.c is the only file that asks for them: cores
 * use a generator in their state (vdc/prng.h), which their driver seeds from here.
 */
#ifndef VDC_ENTROPY_H
#define VDC_ENTROPY_H

#include <stddef.h>
#include <stdint.h>

#include <vdc/id.h>

/* Fills `len` bytes; good for secrets. Never fails (a kernel without getrandom ends the process).
 */
void vdc_entropy_fill(void *bytes, size_t len);
/* A seed for vdc_prng_init(). */
uint64_t vdc_entropy_seed(void);
/* An identifier that is unique everywhere. */
struct vdc_id vdc_entropy_id(void);

#endif
