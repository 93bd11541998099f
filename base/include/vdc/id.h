/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Identifiers: 128 bits, made from the caller's generator (cores own a seeded one), written as a
 * UUID version 4 (RFC 9562), which every orchestration tool takes. Names are for people and can be
 * given again after a destroy; ids never are.
 */
#ifndef VDC_ID_H
#define VDC_ID_H

#include <stdbool.h>
#include <stdint.h>

#include <vdc/prng.h>

struct vdc_id {
    uint8_t bytes[16]; /* all zero: none */
};

#define VDC_ID_TEXT_CAP 37

struct vdc_id vdc_id_make(struct vdc_prng *prng);
bool vdc_id_is_none(const struct vdc_id *id);
bool vdc_id_equal(const struct vdc_id *a, const struct vdc_id *b);
int vdc_id_compare(const struct vdc_id *a, const struct vdc_id *b);
/* Lower case, 36 bytes and NUL. */
void vdc_id_to_text(const struct vdc_id *id, char text[VDC_ID_TEXT_CAP]);
/* False for anything but 36 bytes in the form above (upper case is taken). */
bool vdc_id_from_text(const char *text, struct vdc_id *id) __attribute__((warn_unused_result));

#endif
