/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One parser for all kinds: a decimal number, exactly kept as digits and a power of ten, times the
 * unit's factor. Everything is 128-bit integer arithmetic, so that "0.1GiB" is refused (it is no
 * whole number of bytes) instead of being rounded.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/buf.h>
#include <vdc/quantity.h>
#include <vdc/time.h>

struct unit {
    const char *name;
    uint64_t factor;  /* base units in one of it */
    uint64_t divisor; /* for units below the base unit */
};

static const struct unit byte_units[] = {
    {"", 1, 1},
    {"B", 1, 1},
    {"KiB", UINT64_C(1) << 10, 1},
    {"MiB", UINT64_C(1) << 20, 1},
    {"GiB", UINT64_C(1) << 30, 1},
    {"TiB", UINT64_C(1) << 40, 1},
    {"K", UINT64_C(1000), 1},
    {"M", UINT64_C(1000000), 1},
    {"G", UINT64_C(1000000000), 1},
    {"T", UINT64_C(1000000000000), 1},
    {"KB", UINT64_C(1000), 1},
    {"MB", UINT64_C(1000000), 1},
    {"GB", UINT64_C(1000000000), 1},
    {"TB", UINT64_C(1000000000000), 1},
};

static const struct unit duration_units[] = {
    {"ns", 1, 1},
    {"us", UINT64_C(1000), 1},
    {"ms", UINT64_C(1000000), 1},
    {"s", UINT64_C(1000000000), 1},
    {"m", UINT64_C(60000000000), 1},
    {"h", UINT64_C(3600000000000), 1},
    {"d", UINT64_C(86400000000000), 1},
};

static const struct unit milli_units[] = {{"", 1000, 1}, {"%", 10, 1}};

static const struct unit rate_units[] = {
    {"", 1, 1},
    {"B/s", 1, 1},
    {"KiB/s", UINT64_C(1) << 10, 1},
    {"MiB/s", UINT64_C(1) << 20, 1},
    {"GiB/s", UINT64_C(1) << 30, 1},
    {"KB/s", UINT64_C(1000), 1},
    {"MB/s", UINT64_C(1000000), 1},
    {"GB/s", UINT64_C(1000000000), 1},
    {"bit/s", 1, 8},
    {"Kbit/s", UINT64_C(1000), 8},
    {"Mbit/s", UINT64_C(1000000), 8},
    {"Gbit/s", UINT64_C(1000000000), 8},
};

/* Digits before and after the point together: 10^18 times the largest factor fits 128 bits. */
#define DIGITS_MAX 18

static enum vdc_rc parse(const char *text, const struct unit *units, size_t count, uint64_t max,
                         const char *what, uint64_t *out, struct vdc_err *err)
{
    unsigned __int128 digits = 0;
    unsigned __int128 scale = 1;
    unsigned seen = 0;
    bool point = false;
    const char *at = text;
    for (; (*at >= '0' && *at <= '9') || (*at == '.' && !point); at++) {
        if (*at == '.') {
            point = true;
            continue;
        }
        if (++seen > DIGITS_MAX) {
            return vdc_err_set(err, VDC_RC_INVALID, "%s \"%.40s\" has more than %d digits", what,
                               text, DIGITS_MAX);
        }
        digits = digits * 10 + (unsigned)(*at - '0');
        scale *= point ? 10 : 1;
    }
    if (seen == 0 || at[-1] == '.') {
        return vdc_err_set(err, VDC_RC_INVALID, "%s \"%.40s\" does not begin with a number", what,
                           text);
    }
    while (*at == ' ') {
        at++;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(at, units[i].name) != 0) {
            continue;
        }
        unsigned __int128 scaled = digits * units[i].factor;
        unsigned __int128 divisor = scale * units[i].divisor;
        if (scaled % divisor != 0) {
            return vdc_err_set(err, VDC_RC_INVALID, "%s \"%.40s\" is no whole number of base units",
                               what, text);
        }
        if (scaled / divisor > max) {
            return vdc_err_set(err, VDC_RC_INVALID, "%s \"%.40s\" is too large", what, text);
        }
        *out = (uint64_t)(scaled / divisor);
        return VDC_RC_OK;
    }
    struct vdc_buf known = {0};
    for (size_t i = 0; i < count; i++) {
        if (units[i].name[0] != 0) {
            vdc_buf_printf(&known, "%s%s", known.len > 0 ? " " : "", units[i].name);
        }
    }
    vdc_err_set(err, VDC_RC_INVALID, "%s \"%.40s\" has no unit that is known (known: %s)", what,
                text, vdc_buf_text(&known));
    vdc_buf_deinit(&known);
    return VDC_RC_INVALID;
}

enum vdc_rc vdc_quantity_bytes(const char *text, uint64_t *bytes, struct vdc_err *err)
{
    return parse(text, byte_units, VDC_COUNT_OF(byte_units), INT64_MAX, "size", bytes, err);
}

enum vdc_rc vdc_quantity_duration(const char *text, int64_t *ns, struct vdc_err *err)
{
    uint64_t value;
    enum vdc_rc rc = parse(text, duration_units, VDC_COUNT_OF(duration_units), INT64_MAX,
                           "duration", &value, err);
    if (rc == VDC_RC_OK) {
        *ns = (int64_t)value;
    }
    return rc;
}

enum vdc_rc vdc_quantity_milli(const char *text, uint64_t *milli, struct vdc_err *err)
{
    return parse(text, milli_units, VDC_COUNT_OF(milli_units), INT64_MAX, "share", milli, err);
}

enum vdc_rc vdc_quantity_rate(const char *text, uint64_t *bytes_per_s, struct vdc_err *err)
{
    return parse(text, rate_units, VDC_COUNT_OF(rate_units), INT64_MAX, "rate", bytes_per_s, err);
}

/* value / unit with at most one decimal, without ".0". */
static void scaled_text(uint64_t value, uint64_t unit, const char *name,
                        char text[VDC_QUANTITY_TEXT_CAP])
{
    uint64_t whole = value / unit;
    uint64_t tenth = value % unit / (unit >= 10 ? unit / 10 : 1);
    if (unit < 10 || tenth == 0 || tenth > 9) {
        snprintf(text, VDC_QUANTITY_TEXT_CAP, "%llu %s", (unsigned long long)whole, name);
    } else {
        snprintf(text, VDC_QUANTITY_TEXT_CAP, "%llu.%llu %s", (unsigned long long)whole,
                 (unsigned long long)tenth, name);
    }
}

void vdc_quantity_bytes_text(uint64_t bytes, char text[VDC_QUANTITY_TEXT_CAP])
{
    static const struct unit shown[] = {{"TiB", UINT64_C(1) << 40, 1},
                                        {"GiB", UINT64_C(1) << 30, 1},
                                        {"MiB", UINT64_C(1) << 20, 1},
                                        {"KiB", UINT64_C(1) << 10, 1}};
    for (size_t i = 0; i < VDC_COUNT_OF(shown); i++) {
        if (bytes >= shown[i].factor) {
            scaled_text(bytes, shown[i].factor, shown[i].name, text);
            return;
        }
    }
    scaled_text(bytes, 1, "B", text);
}

void vdc_quantity_duration_text(int64_t ns, char text[VDC_QUANTITY_TEXT_CAP])
{
    static const struct unit shown[] = {
        {"s", (uint64_t)VDC_SECOND, 1}, {"ms", (uint64_t)VDC_MS, 1}, {"us", 1000, 1}};
    uint64_t value = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    for (size_t i = 0; i < VDC_COUNT_OF(shown); i++) {
        if (value >= shown[i].factor) {
            scaled_text(value, shown[i].factor, shown[i].name, text);
            return;
        }
    }
    scaled_text(value, 1, "ns", text);
}
