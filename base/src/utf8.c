/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <vdc/utf8.h>

/* Bytes of a sequence that begins with `first`; 0: none does. */
static size_t sequence_len(unsigned char first)
{
    if (first < 0x80) {
        return 1;
    }
    if (first < 0xc2 || first > 0xf4) {
        return 0;
    }
    return first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
}

/* The continuation bytes among the `len - 1` that stand behind the first one and before `end`. */
static size_t continuation_len(const unsigned char *at, const unsigned char *end, size_t len)
{
    size_t count = 0;
    while (count + 1 < len && at + count + 1 < end && (at[count + 1] & 0xc0) == 0x80) {
        count++;
    }
    return count;
}

size_t vdc_utf8_sequence(const char *text, size_t left, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; /* by length: no overlong forms */
    const unsigned char *at = (const unsigned char *)text;
    size_t len = sequence_len(at[0]);
    if (len == 1) {
        *code = at[0];
        return 1;
    }
    if (len == 0 || continuation_len(at, at + left, len) + 1 < len) {
        return 0;
    }
    uint32_t value = at[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        value = value << 6 | (at[i] & 0x3fu);
    }
    if (value < least[len] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) {
        return 0;
    }
    *code = value;
    return len;
}

static bool is_control(uint32_t code)
{
    return code < 0x20 || code == 0x7f;
}

bool vdc_text_is_printable(const char *text, size_t len)
{
    while (len > 0) {
        uint32_t code;
        size_t step = vdc_utf8_sequence(text, len, &code);
        if (step == 0 || is_control(code)) {
            return false;
        }
        text += step;
        len -= step;
    }
    return true;
}

/* Whether nothing but the beginning of one sequence is left. */
static bool is_cut(const char *text, size_t left)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t len = sequence_len(at[0]);
    return left < len && continuation_len(at, at + left, len) + 1 == left;
}

void vdc_text_make_printable(char *text)
{
    for (size_t left = strlen(text), step; left > 0; text += step, left -= step) {
        uint32_t code = 0;
        step = vdc_utf8_sequence(text, left, &code);
        if (step == 0 && is_cut(text, left)) {
            *text = 0;
            return;
        }
        if (step == 0) {
            *text = '?';
            step = 1;
        } else if (is_control(code)) {
            *text = ' ';
        }
    }
}
