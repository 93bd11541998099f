/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small things that every file needs: assertions that stay on in release builds, allocation that
 * ends the process when memory is gone (see docs/architecture.md, "Memory"), scope cleanup, magic
 * words for objects that travel through a void *, bounded string copies. libc only.
 */
#ifndef VDC_BASE_H
#define VDC_BASE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <vdc/err.h>
#include <vdc/rc.h>

/* What only a defect of ours can break; never for input from outside. Always on. */
#define VDC_ASSERT(cond)                                            \
    do {                                                            \
        if (!(cond)) {                                              \
            vdc_assert_failed(__FILE__, __LINE__, __func__, #cond); \
        }                                                           \
    } while (0)
VDC_NORETURN void vdc_assert_failed(const char *file, int line, const char *func, const char *cond);

/* Never NULL; zero-filled; (0) gives a pointer that may be freed. */
void *vdc_calloc(size_t count, size_t size) __attribute__((malloc));
void *vdc_realloc(void *ptr, size_t count, size_t size) VDC_MUST_USE;
char *vdc_strdup(const char *text) __attribute__((malloc));
void *vdc_memdup(const void *data, size_t len) __attribute__((malloc));
char *vdc_asprintf(const char *fmt, ...) VDC_PRINTF(1, 2);

/* `struct x *x = VDC_NEW(struct x);` */
#define VDC_NEW(type) ((type *)vdc_calloc(1, sizeof(type)))
/* Makes room for `need` elements; cap (size_t) at least doubles. */
#define VDC_GROW(ptr, cap, need)                                   \
    do {                                                           \
        if ((need) > (cap)) {                                      \
            size_t vdc_grow_ = (cap) ? (cap)*2 : 8;                \
            while (vdc_grow_ < (need)) {                           \
                vdc_grow_ *= 2;                                    \
            }                                                      \
            (ptr) = vdc_realloc((ptr), vdc_grow_, sizeof(*(ptr))); \
            (cap) = vdc_grow_;                                     \
        }                                                          \
    } while (0)

static inline void vdc_autofree_(void *ptr)
{
    free(*(void **)ptr);
}
/* `vdc_autofree char *text = ...;` is freed when the scope ends; vdc_steal(&text) hands it out. */
#define vdc_autofree __attribute__((cleanup(vdc_autofree_)))
#define vdc_steal(ptr)                                  \
    __extension__({                                     \
        __typeof__(ptr) vdc_from_ = (ptr);              \
        __typeof__(*vdc_from_) vdc_value_ = *vdc_from_; \
        *vdc_from_ = NULL;                              \
        vdc_value_;                                     \
    })
#define vdc_auto(fn) __attribute__((cleanup(fn)))

/* Objects reached through a void * start with `uint32_t magic` and are checked on the way back. */
#define VDC_CAST(var, ptr, magic_word)                             \
    do {                                                           \
        (var) = (ptr);                                             \
        VDC_ASSERT((var) != NULL && (var)->magic == (magic_word)); \
    } while (0)

#define VDC_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define VDC_MIN(a, b) ((a) < (b) ? (a) : (b))
#define VDC_MAX(a, b) ((a) > (b) ? (a) : (b))
#define vdc_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Copies src with its NUL into dst of `cap` bytes; false (dst = "") when it does not fit. */
bool vdc_str_copy(char *dst, size_t cap, const char *src) VDC_MUST_USE;
/* The same where the source has been checked before: not fitting is a defect of ours. */
void vdc_str_set(char *dst, size_t cap, const char *src);
/* A name of a node, zone, partition, rule, ...: 1 to VDC_NAME_MAX bytes of [a-z0-9.-], beginning and
 * ending with [a-z0-9] (what DNS, paths, etcd keys and certificates all take unquoted). */
bool vdc_name_valid(const char *name);

/* 0 to 15, -1 for what is no hexadecimal digit. */
int vdc_hex_digit(char c);
/* Unsigned decimal of the whole string, at most `max`. */
bool vdc_parse_u64(const char *text, uint64_t max, uint64_t *out) VDC_MUST_USE;

#endif
