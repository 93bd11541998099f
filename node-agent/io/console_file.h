/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the console log of a guest whose monitor is gone: DIR/console.log.1, then console.log. */
#ifndef VDC_NODE_AGENT_CONSOLE_FILE_H
#define VDC_NODE_AGENT_CONSOLE_FILE_H

#include <stdint.h>

#include <vdc/buf.h>

/* Appends up to `max` bytes of the stream from `offset` on to `data`. *end: bytes printed in all
 * as the monitor noted in console.base (where that is missing, `known_end` if it is not 0: older parts
 * may have been rotated away); *first: offset of the first
 * byte given. False: there is no log. */
bool agent_console_file_read(const char *dir, uint64_t known_end, uint64_t offset, uint32_t max,
                             struct vdc_buf *data, uint64_t *first, uint64_t *end);

#endif
