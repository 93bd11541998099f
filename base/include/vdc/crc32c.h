/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), by the CPU's instruction where it has one. */
#ifndef VDC_CRC32C_H
#define VDC_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `data` continued from `crc` (0 to begin). */
uint32_t vdc_crc32c(uint32_t crc, const void *data, size_t len);

#endif
