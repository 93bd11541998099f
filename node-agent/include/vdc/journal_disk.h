/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that the journal asks of the file system, as a table of calls. Daemons use
 * vdc_journal_real_disk; tests put a disk in memory behind it that loses, tears and reorders what
 * was not synced, or that is full or broken, and the same driver runs on either.
 *
 * The calls block, and come from the loop's thread, libuv's pool and the journal's writer, at the same
 * time. Unless said otherwise they return 0 or more, or an errno value negated. Nothing is durable
 * before a sync of it came back: not a file's bytes, not its length, and not a name in a directory.
 */
#ifndef VDC_JOURNAL_DISK_H
#define VDC_JOURNAL_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct vdc_journal_disk {
    void *ctx; /* the first argument of each call */
    /* A descriptor of the directory, which is made (0700) if `make` and absent. */
    int (*open_dir)(void *ctx, const char *path, bool make);
    /* Keeps others out of the directory while the descriptor is open; -EWOULDBLOCK: one is in. */
    int (*lock)(void *ctx, int dir);
    /* A file for reading and writing; `make`: it is made if absent and emptied if not. */
    int (*open)(void *ctx, int dir, const char *name, bool make);
    /* Sees that the first `len` bytes can be written: -ENOSPC now and not later. */
    int (*reserve)(void *ctx, int fd, uint64_t len);
    /* May write less than asked for, never nothing. */
    ssize_t (*write)(void *ctx, int fd, const void *data, size_t len, uint64_t offset);
    /* Writes zeros over [from, to), so that a later sync has little left to do. */
    int (*zero)(void *ctx, int fd, uint64_t from, uint64_t to);
    /* The bytes and length of a file. */
    int (*sync)(void *ctx, int fd);
    /* The names in a directory. */
    int (*sync_dir)(void *ctx, int dir);
    int (*rename)(void *ctx, int dir, const char *from, const char *to);
    int (*remove)(void *ctx, int dir, const char *name);
    void (*close)(void *ctx, int fd);
    /* Calls `each` for every name, in no order, until it returns other than 0, which is returned. */
    int (*list)(void *ctx, int dir, int (*each)(void *arg, const char *name), void *arg);
    /* The whole file, read-only, until unmap; *data is NULL when it is empty. */
    int (*map)(void *ctx, int dir, const char *name, void **data, size_t *len);
    void (*unmap)(void *ctx, void *data, size_t len);
};

extern const struct vdc_journal_disk vdc_journal_real_disk;

#endif
