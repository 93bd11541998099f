/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <vdc/base.h>
#include <vdc/id.h>

struct vdc_id vdc_id_make(struct vdc_prng *prng)
{
    struct vdc_id id;
    uint64_t words[2] = {vdc_prng_next(prng), vdc_prng_next(prng)};
    memcpy(id.bytes, words, sizeof id.bytes);
    id.bytes[6] = (uint8_t)((id.bytes[6] & 0x0f) | 0x40);
    id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
    return id;
}

bool vdc_id_is_none(const struct vdc_id *id)
{
    static const struct vdc_id none;
    return memcmp(id, &none, sizeof none) == 0;
}

bool vdc_id_equal(const struct vdc_id *a, const struct vdc_id *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

int vdc_id_compare(const struct vdc_id *a, const struct vdc_id *b)
{
    return memcmp(a, b, sizeof *a);
}

static bool dash_before(unsigned byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void vdc_id_to_text(const struct vdc_id *id, char text[VDC_ID_TEXT_CAP])
{
    static const char digits[] = "0123456789abcdef";
    char *at = text;
    for (unsigned i = 0; i < sizeof id->bytes; i++) {
        if (dash_before(i)) {
            *at++ = '-';
        }
        *at++ = digits[id->bytes[i] >> 4];
        *at++ = digits[id->bytes[i] & 15];
    }
    *at = 0;
}

bool vdc_id_from_text(const char *text, struct vdc_id *id)
{
    memset(id, 0, sizeof *id);
    if (strnlen(text, VDC_ID_TEXT_CAP) != VDC_ID_TEXT_CAP - 1) {
        return false;
    }
    struct vdc_id made;
    for (unsigned i = 0; i < sizeof made.bytes; i++) {
        if (dash_before(i) && *text++ != '-') {
            return false;
        }
        int high = vdc_hex_digit(text[0]);
        int low = vdc_hex_digit(text[1]);
        if (high < 0 || low < 0) {
            return false;
        }
        made.bytes[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    *id = made;
    return true;
}
