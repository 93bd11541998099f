/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/limits.h>

void vdc_assert_failed(const char *file, int line, const char *func, const char *cond)
{
    fprintf(stderr, "%s:%d: %s: this must hold but does not: %s\n", file, line, func, cond);
    abort();
}

static void out_of_memory(size_t count, size_t size)
{
    fprintf(stderr, "out of memory: asked for %zu x %zu bytes\n", count, size);
    abort();
}

void *vdc_calloc(size_t count, size_t size)
{
    void *ptr = calloc(count > 0 ? count : 1, size > 0 ? size : 1);
    if (ptr == NULL) {
        out_of_memory(count, size);
    }
    return ptr;
}

void *vdc_realloc(void *ptr, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        out_of_memory(count, size);
    }
    void *grown = realloc(ptr, bytes > 0 ? bytes : 1);
    if (grown == NULL) {
        out_of_memory(count, size);
    }
    return grown;
}

char *vdc_strdup(const char *text)
{
    return vdc_memdup(text, strlen(text) + 1);
}

void *vdc_memdup(const void *data, size_t len)
{
    void *copy = vdc_calloc(1, len);
    if (len > 0) {
        memcpy(copy, data, len);
    }
    return copy;
}

char *vdc_asprintf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = NULL;
    if (vasprintf(&text, fmt, ap) < 0) {
        out_of_memory(1, strlen(fmt));
    }
    va_end(ap);
    return text;
}

bool vdc_str_copy(char *dst, size_t cap, const char *src)
{
    size_t len = strnlen(src, cap);
    if (len >= cap) {
        dst[0] = 0;
        return false;
    }
    memcpy(dst, src, len + 1);
    return true;
}

void vdc_str_set(char *dst, size_t cap, const char *src)
{
    bool fits = vdc_str_copy(dst, cap, src);
    VDC_ASSERT(fits);
}

/* What a name is made of, by byte: names are checked in every transaction, so by table. */
enum name_byte {
    NAME_NEVER = 0,
    NAME_INSIDE = 1,
    NAME_ANYWHERE = 3,
};

static const unsigned char name_bytes[256] = {
    ['-'] = NAME_INSIDE,
    ['.'] = NAME_INSIDE,
    ['0' ... '9'] = NAME_ANYWHERE,
    ['a' ... 'z'] = NAME_ANYWHERE,
};

bool vdc_name_valid(const char *name)
{
    const unsigned char *bytes = (const unsigned char *)name;
    size_t len = 0;
    while (len <= VDC_NAME_MAX && name_bytes[bytes[len]] != NAME_NEVER) {
        len++;
    }
    return len > 0 && len <= VDC_NAME_MAX && bytes[len] == 0 &&
           name_bytes[bytes[0]] == NAME_ANYWHERE && name_bytes[bytes[len - 1]] == NAME_ANYWHERE;
}

int vdc_hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool vdc_parse_u64(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    if (*text == 0) {
        return false;
    }
    for (; *text != 0; text++) {
        if (*text < '0' || *text > '9') {
            return false;
        }
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value)) {
            return false;
        }
    }
    if (value > max) {
        return false;
    }
    *out = value;
    return true;
}
