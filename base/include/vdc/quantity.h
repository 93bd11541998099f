/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantities as operators write them: "64GiB", "512M", "4s", "50ms", "1.5h", "5%", "1Gbit/s".
 * Binary units KiB MiB GiB TiB, decimal K M G T (also KB MB GB TB), plain bytes; durations ns us ms
 * s m h d. Exact integer arithmetic; a fraction that gives no whole base unit is refused.
 */
#ifndef VDC_QUANTITY_H
#define VDC_QUANTITY_H

#include <stdint.h>

#include <vdc/err.h>

enum vdc_rc vdc_quantity_bytes(const char *text, uint64_t *bytes, struct vdc_err *err);
enum vdc_rc vdc_quantity_duration(const char *text, int64_t *ns, struct vdc_err *err);
/* "5%" or "0.05" -> 50 (thousandths). */
enum vdc_rc vdc_quantity_milli(const char *text, uint64_t *milli, struct vdc_err *err);
/* "1Gbit/s", "100MiB/s", "125000000" -> bytes per second. */
enum vdc_rc vdc_quantity_rate(const char *text, uint64_t *bytes_per_s, struct vdc_err *err);

#define VDC_QUANTITY_TEXT_CAP 32
/* "1.5 GiB": at most one decimal, for tables. */
void vdc_quantity_bytes_text(uint64_t bytes, char text[VDC_QUANTITY_TEXT_CAP]);
/* "1.25 s", "3 ms". */
void vdc_quantity_duration_text(int64_t ns, char text[VDC_QUANTITY_TEXT_CAP]);

#endif
