/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console log of one guest: every byte that it prints is appended to DIR/console.log. At
 * VDC_CONSOLE_FILE_MAX the file becomes console.log.1 (the former one goes), so a guest that prints
 * for ever takes at most twice that. Bytes are counted from 0; a reader asks by offset.
 *
 * A guest that is started again in the same directory goes on in the same log, behind a line that
 * says so: what it said before it failed is what one wants to read then. DIR/console.base has the
 * offset of console.log's first byte as 20 digits and a newline, so that offsets stay true over a new
 * run and for whoever reads the files when no monitor is there.
 *
 * Blocking file work, small.
 */
#ifndef VDC_CONSOLE_H
#define VDC_CONSOLE_H

#include <stddef.h>
#include <stdint.h>

#include <vdc/err.h>
#include <vdc/monitor_protocol.h>
#include <vdc/time.h>

/* Bytes of one of the two files: a boot with all messages is 60 KiB, an hour of a line each 100 ms
 * is 500 KiB. */
#define VDC_CONSOLE_FILE_MAX (1U << 20)

struct vdc_console {
    int dir;           /* descriptor of the directory */
    int file;          /* console.log, read and appended; -1 when it could not be opened again */
    int old;           /* console.log.1; -1: none */
    uint64_t old_base; /* offset of the first byte of each file */
    uint64_t base;
    uint64_t end;   /* of all bytes; base <= end */
    int base_file;  /* console.base; -1: could not be opened */
    bool line_open; /* the last byte was no newline */
    bool failed;    /* a write failed and was said */
};

/* Opens the log in the directory `dirfd` (borrowed, stays open), at the end of what an earlier run
 * left there. */
enum vdc_rc vdc_console_open(struct vdc_console *console, int dirfd,
                             struct vdc_err *err) VDC_MUST_USE;
void vdc_console_close(struct vdc_console *console);
/* Unless the log is empty, appends a line that says that a new run begins. */
void vdc_console_begin_run(struct vdc_console *console, vdc_wall now);
/* Appends. Where the disk is full the bytes are lost but counted, and the error comes once. */
enum vdc_rc vdc_console_write(struct vdc_console *console, const void *data, size_t len,
                              struct vdc_err *err);
/* Reads up to `max` bytes (<= VDC_MONITOR_CONSOLE_READ_MAX) from `offset`, or from the oldest kept
 * byte if that is later; out->data is the caller's to free. */
void vdc_console_read(const struct vdc_console *console, uint64_t offset, size_t max,
                      struct vdc_monitor_console *out);

#endif
