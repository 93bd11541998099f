/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text from outside. Inside, every text is UTF-8 (RFC 3629: no surrogates, no overlong forms) without
 * control characters, so that it can be a line of a log, a JSON string or a cell of a table; what
 * comes from peers, programs and files is refused or repaired where it comes in.
 */
#ifndef VDC_UTF8_H
#define VDC_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the sequence at `text` (`len` >= 1 bytes) and its code point; 0 if it is none. */
size_t vdc_utf8_sequence(const char *text, size_t len, uint32_t *code);
/* Whether all `len` bytes are UTF-8 without control characters (U+0000 to U+001F, U+007F). */
bool vdc_text_is_printable(const char *text, size_t len);
/* Repairs a text that may have been cut at a bound: a control character becomes a blank, a byte that
 * is no UTF-8 becomes '?', half a sequence at the end is dropped. Never longer than before. */
void vdc_text_make_printable(char *text);

#endif
