/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small files, whole: read with a bound, written so that after a crash either the old or the new
 * content is there. Blocking: for start-up and for files of a few KiB, not for disks of guests nor
 * the journal (which has its own driver).
 */
#ifndef VDC_FILE_H
#define VDC_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <vdc/buf.h>
#include <vdc/err.h>

/* Appends the content of `path` to `buf` (caller frees it by vdc_buf_deinit, also after an error).
 * More than `max` bytes: TOO_LARGE. Works for files without a size (/proc, pipes). */
enum vdc_rc vdc_file_read(const char *path, size_t max, struct vdc_buf *buf,
                          struct vdc_err *err) VDC_MUST_USE;
/* Writes PATH.tmp, fsyncs it, renames it over `path`, fsyncs the directory. One writer per path. */
enum vdc_rc vdc_file_write_atomic(const char *path, const void *data, size_t len, mode_t mode,
                                  struct vdc_err *err) VDC_MUST_USE;
/* Plain write without durability, for control files (cgroup, /proc, /sys): one write(2), no create.
 */
enum vdc_rc vdc_file_poke(const char *path, const char *text, struct vdc_err *err) VDC_MUST_USE;
/* Removes a file; one that is not there is fine. */
enum vdc_rc vdc_file_remove(const char *path, struct vdc_err *err) VDC_MUST_USE;
bool vdc_file_exists(const char *path);

/* mkdir -p: every missing part with `mode`; OK if it is there already. CONFLICT if a part is no
 * directory. */
enum vdc_rc vdc_dir_make(const char *path, mode_t mode, struct vdc_err *err) VDC_MUST_USE;
/* fsync of a directory: makes renames and new names in it durable. */
enum vdc_rc vdc_dir_sync(const char *path, struct vdc_err *err) VDC_MUST_USE;
/* rm -r, on one file system, without following symbolic links; a missing one is fine. */
enum vdc_rc vdc_dir_remove(const char *path, struct vdc_err *err) VDC_MUST_USE;

#endif
