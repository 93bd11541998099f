/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console log of one guest: every byte that it prints is appended to DIR/console.log. At
 * VDC_CONSOLE_FILE_MAX the file becomes console.log.1 (the former one goes), so a guest that prints
 * for ever takes at most twice that. Bytes are counted from 0; a reader asks by offset. Blocking
 * file work, small.
 */
#ifndef VDC_CONSOLE_H
#define VDC_CONSOLE_H

#include <stddef.h>
#include <stdint.h>

#include <vdc/err.h>
#include <vdc/monitor_protocol.h>

/* Bytes of one of the two files: a boot with all messages is 60 KiB, an hour of a line each 100 ms
 * is 500 KiB. */
#define VDC_CONSOLE_FILE_MAX (1U << 20)

struct vdc_console {
    int dir;           /* descriptor of the directory */
    int file;          /* console.log, read and appended; -1 when it could not be opened again */
    int old;           /* console.log.1; -1: none */
    uint64_t old_base; /* offset of the first byte of each file */
    uint64_t base;
    uint64_t end; /* of all bytes; base <= end */
    bool failed;  /* a write failed and was said */
};

/* Begins a new, empty log in the directory `dirfd` (borrowed, stays open); files of an earlier run
 * are removed. */
enum vdc_rc vdc_console_open(struct vdc_console *console, int dirfd,
                             struct vdc_err *err) VDC_MUST_USE;
void vdc_console_close(struct vdc_console *console);
/* Appends. Where the disk is full the bytes are lost but counted, and the error comes once. */
enum vdc_rc vdc_console_write(struct vdc_console *console, const void *data, size_t len,
                              struct vdc_err *err);
/* Reads up to `max` bytes (<= VDC_MONITOR_CONSOLE_READ_MAX) from `offset`, or from the oldest kept
 * byte if that is later; out->data is the caller's to free. */
void vdc_console_read(const struct vdc_console *console, uint64_t offset, size_t max,
                      struct vdc_monitor_console *out);

#endif
