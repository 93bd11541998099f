/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of the directory. Codes of the disk are errno values, negated; here they become errors
 * with a sentence.
 */
#include "journal_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>

/* Files in the directory that are looked at: segments between two snapshots are a handful. */
#define FILES_MAX 100000
/* Behind the name of a snapshot that is being written. */
#define TEMPORARY ".tmp"

void journal_segment_name(char name[JOURNAL_NAME_CAP], uint64_t first_sequence)
{
    (void)snprintf(name, JOURNAL_NAME_CAP, "journal-%016" PRIx64 ".log", first_sequence);
}

void journal_snapshot_name(char name[JOURNAL_NAME_CAP], uint64_t sequence)
{
    (void)snprintf(name, JOURNAL_NAME_CAP, "snapshot-%016" PRIx64 ".snap", sequence);
}

/* Whether `name` is exactly `make`(number) for some number. */
static bool parse_name(const char *name, const char *prefix,
                       void (*make)(char[JOURNAL_NAME_CAP], uint64_t), uint64_t *number)
{
    size_t len = strlen(prefix);
    if (strncmp(name, prefix, len) != 0) {
        return false;
    }
    *number = strtoull(name + len, NULL, 16);
    char again[JOURNAL_NAME_CAP];
    make(again, *number);
    return strcmp(name, again) == 0;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

struct list_walk {
    struct journal_listing *out;
    uint32_t files;
};

static int list_one(void *arg, const char *name)
{
    struct list_walk *walk = arg;
    struct journal_listing *out = walk->out;
    uint64_t number;
    if (++walk->files > FILES_MAX) {
        return -EFBIG;
    }
    if (parse_name(name, "journal-", journal_segment_name, &number)) {
        VDC_GROW(out->segments, out->segments_cap, out->segments_len + 1);
        out->segments[out->segments_len++] = number;
    } else if (parse_name(name, "snapshot-", journal_snapshot_name, &number)) {
        VDC_GROW(out->snapshots, out->snapshots_cap, out->snapshots_len + 1);
        out->snapshots[out->snapshots_len++] = number;
    }
    return 0;
}

enum vdc_rc journal_list(const struct journal_dir *dir, struct journal_listing *out,
                         struct vdc_err *err)
{
    *out = (struct journal_listing){0};
    struct list_walk walk = {.out = out};
    int rc = dir->disk->list(dir->disk->ctx, dir->fd, list_one, &walk);
    if (rc < 0) {
        return walk.files > FILES_MAX
                   ? vdc_err_set(err, VDC_RC_TOO_LARGE, "more than %d files", FILES_MAX)
                   : vdc_err_errno(err, -rc, "list the journal's directory");
    }
    if (out->segments_len > 0) {
        qsort(out->segments, out->segments_len, sizeof(out->segments[0]), compare_u64);
    }
    if (out->snapshots_len > 0) {
        qsort(out->snapshots, out->snapshots_len, sizeof(out->snapshots[0]), compare_u64);
    }
    return VDC_RC_OK;
}

void journal_listing_deinit(struct journal_listing *listing)
{
    free(listing->segments);
    free(listing->snapshots);
    *listing = (struct journal_listing){0};
}

enum vdc_rc journal_open_dir(const struct vdc_journal_options *options, bool make,
                             struct journal_dir *dir, struct vdc_err *err)
{
    dir->disk = options->disk == NULL ? &vdc_journal_real_disk : options->disk;
    dir->fd = dir->disk->open_dir(dir->disk->ctx, options->dir, make);
    if (dir->fd < 0) {
        return vdc_err_errno(err, -dir->fd, "open %s", options->dir);
    }
    return VDC_RC_OK;
}

void journal_close_dir(const struct journal_dir *dir)
{
    if (dir->fd >= 0) {
        dir->disk->close(dir->disk->ctx, dir->fd);
    }
}

enum vdc_rc journal_write_all(const struct vdc_journal_disk *disk, int fd, const void *data,
                              size_t len, uint64_t offset, struct vdc_err *err)
{
    const char *from = data;
    while (len > 0) {
        ssize_t wrote = disk->write(disk->ctx, fd, from, len, offset);
        if (wrote < 0) {
            return vdc_err_errno(err, (int)-wrote, "write %zu bytes at %" PRIu64, len, offset);
        }
        VDC_ASSERT(wrote > 0 && (size_t)wrote <= len);
        from += wrote;
        offset += (uint64_t)wrote;
        len -= (size_t)wrote;
    }
    return VDC_RC_OK;
}

static enum vdc_rc fill_spare(const struct journal_dir *dir, struct journal_spare *spare,
                              uint64_t more, struct vdc_err *err)
{
    const struct vdc_journal_disk *disk = dir->disk;
    int rc = 0;
    if (spare->fd < 0) {
        spare->fd = disk->open(disk->ctx, dir->fd, JOURNAL_SPARE, true);
        spare->filled = 0;
        rc = spare->fd < 0 ? spare->fd : disk->reserve(disk->ctx, spare->fd, spare->bytes);
        if (rc < 0) {
            return vdc_err_errno(err, -rc, "make %s of %" PRIu64 " bytes", JOURNAL_SPARE,
                                 spare->bytes);
        }
    }
    uint64_t to = spare->filled + VDC_MIN(more, spare->bytes - spare->filled);
    rc = disk->zero(disk->ctx, spare->fd, spare->filled, to);
    if (rc < 0) {
        return vdc_err_errno(err, -rc, "fill %s up to %" PRIu64, JOURNAL_SPARE, to);
    }
    spare->filled = to;
    if (to == spare->bytes) {
        rc = disk->sync(disk->ctx, spare->fd);
        spare->ready = rc == 0;
    }
    return rc == 0 ? VDC_RC_OK : vdc_err_errno(err, -rc, "sync %s", JOURNAL_SPARE);
}

enum vdc_rc journal_fill_spare(const struct journal_dir *dir, struct journal_spare *spare,
                               uint64_t more, struct vdc_err *err)
{
    enum vdc_rc rc = fill_spare(dir, spare, more, err);
    if (rc != VDC_RC_OK) {
        /* Gives the space back that it took, so that what else is there can go on. */
        if (spare->fd >= 0) {
            dir->disk->close(dir->disk->ctx, spare->fd);
            (void)dir->disk->remove(dir->disk->ctx, dir->fd, JOURNAL_SPARE);
        }
        spare->fd = -1;
    }
    return rc;
}

static enum vdc_rc write_snapshot_file(const struct journal_dir *dir, const char *temporary,
                                       const char *name, const void *data, size_t len,
                                       struct vdc_err *err)
{
    const struct vdc_journal_disk *disk = dir->disk;
    int fd = disk->open(disk->ctx, dir->fd, temporary, true);
    if (fd < 0) {
        return vdc_err_errno(err, -fd, "make");
    }
    enum vdc_rc rc = journal_write_all(disk, fd, data, len, 0, err);
    int code = rc == VDC_RC_OK ? disk->sync(disk->ctx, fd) : 0;
    const char *step = "sync";
    disk->close(disk->ctx, fd);
    if (rc == VDC_RC_OK && code == 0) {
        code = disk->rename(disk->ctx, dir->fd, temporary, name);
        step = "rename";
    }
    if (rc == VDC_RC_OK && code == 0) {
        code = disk->sync_dir(disk->ctx, dir->fd);
        step = "sync of the directory";
    }
    return code == 0 ? rc : vdc_err_errno(err, -code, "%s", step);
}

enum vdc_rc journal_write_snapshot(const struct journal_dir *dir, uint64_t sequence,
                                   const void *data, size_t len, struct vdc_err *err)
{
    char name[JOURNAL_NAME_CAP];
    char temporary[JOURNAL_NAME_CAP + sizeof(TEMPORARY)];
    journal_snapshot_name(name, sequence);
    (void)snprintf(temporary, sizeof(temporary), "%s%s", name, TEMPORARY);
    enum vdc_rc rc = write_snapshot_file(dir, temporary, name, data, len, err);
    if (rc != VDC_RC_OK) {
        (void)dir->disk->remove(dir->disk->ctx, dir->fd, temporary);
        (void)vdc_err_wrap(err, "%s", temporary);
    }
    return rc;
}

static int drop_temporary(void *arg, const char *name)
{
    const struct journal_dir *dir = arg;
    size_t len = strlen(name);
    size_t end = strlen(TEMPORARY);
    if (strncmp(name, "snapshot-", 9) == 0 && len > end &&
        strcmp(name + len - end, TEMPORARY) == 0) {
        (void)dir->disk->remove(dir->disk->ctx, dir->fd, name);
    }
    return 0;
}

void journal_drop_old(const struct journal_dir *dir, uint64_t sequence)
{
    const struct vdc_journal_disk *disk = dir->disk;
    struct journal_dir again = *dir;
    struct journal_listing listing;
    char name[JOURNAL_NAME_CAP];
    (void)disk->list(disk->ctx, dir->fd, drop_temporary, &again);
    if (journal_list(dir, &listing, NULL) == VDC_RC_OK) {
        for (size_t i = 0; i + 1 < listing.segments_len; i++) {
            if (listing.segments[i + 1] <= sequence + 1) {
                journal_segment_name(name, listing.segments[i]);
                (void)disk->remove(disk->ctx, dir->fd, name);
            }
        }
        for (size_t i = 0; i < listing.snapshots_len; i++) {
            if (listing.snapshots[i] < sequence) {
                journal_snapshot_name(name, listing.snapshots[i]);
                (void)disk->remove(disk->ctx, dir->fd, name);
            }
        }
    }
    journal_listing_deinit(&listing);
}
