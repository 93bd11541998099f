/* SPDX-License-Identifier: Apache-2.0 */
#include "journal_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vdc/base.h>

/* Bytes of one write of zeros: large enough that system calls do not matter. */
#define ZERO_CHUNK (UINT32_C(1) << 18)
/* Files in the directory that are looked at: segments between two snapshots are a handful. */
#define FILES_MAX 100000

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

static int compare_segments(const void *a, const void *b)
{
    const struct journal_segment *x = a;
    const struct journal_segment *y = b;
    return x->first_sequence < y->first_sequence ? -1 : x->first_sequence > y->first_sequence;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void list_one(int dir_fd, const char *name, struct journal_listing *out)
{
    uint64_t number;
    struct stat st;
    if (parse_name(name, "journal-", journal_segment_name, &number) &&
        fstatat(dir_fd, name, &st, 0) == 0) {
        VDC_GROW(out->segments, out->segments_cap, out->segments_len + 1);
        out->segments[out->segments_len++] =
            (struct journal_segment){.first_sequence = number, .bytes = (uint64_t)st.st_size};
    } else if (parse_name(name, "snapshot-", journal_snapshot_name, &number)) {
        VDC_GROW(out->snapshots, out->snapshots_cap, out->snapshots_len + 1);
        out->snapshots[out->snapshots_len++] = number;
    }
}

enum vdc_rc journal_list(int dir_fd, struct journal_listing *out, struct vdc_err *err)
{
    *out = (struct journal_listing){0};
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        enum vdc_rc rc = vdc_err_errno(err, errno, "list the journal's directory");
        if (fd >= 0) {
            (void)close(fd);
        }
        return rc;
    }
    enum vdc_rc rc = VDC_RC_OK;
    uint32_t files = 0;
    const struct dirent *entry;
    while (errno = 0, (entry = readdir(dir)) != NULL) {
        if (++files > FILES_MAX) {
            rc = vdc_err_set(err, VDC_RC_TOO_LARGE, "more than %d files", FILES_MAX);
            break;
        }
        list_one(dir_fd, entry->d_name, out);
    }
    if (entry == NULL && errno != 0) {
        rc = vdc_err_errno(err, errno, "list the journal's directory");
    }
    (void)closedir(dir);
    if (out->segments_len > 0) {
        qsort(out->segments, out->segments_len, sizeof(out->segments[0]), compare_segments);
    }
    if (out->snapshots_len > 0) {
        qsort(out->snapshots, out->snapshots_len, sizeof(out->snapshots[0]), compare_u64);
    }
    return rc;
}

void journal_listing_deinit(struct journal_listing *listing)
{
    free(listing->segments);
    free(listing->snapshots);
    *listing = (struct journal_listing){0};
}

enum vdc_rc journal_open_dir(const char *dir, bool create, int *fd, struct vdc_err *err)
{
    if (create && mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return vdc_err_errno(err, errno, "make %s", dir);
    }
    *fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0) {
        return vdc_err_errno(err, errno, "open %s", dir);
    }
    return VDC_RC_OK;
}

enum vdc_rc journal_write_all(int fd, const void *data, size_t len, uint64_t offset,
                              struct vdc_err *err)
{
    const char *from = data;
    while (len > 0) {
        ssize_t wrote = pwrite(fd, from, len, (off_t)offset);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote <= 0) {
            return vdc_err_errno(err, wrote < 0 ? errno : ENOSPC, "write %zu bytes at %" PRIu64,
                                 len, offset);
        }
        from += wrote;
        offset += (uint64_t)wrote;
        len -= (size_t)wrote;
    }
    return VDC_RC_OK;
}

enum vdc_rc journal_zero(int fd, uint64_t from, uint64_t to, struct vdc_err *err)
{
    vdc_autofree void *zeros = vdc_calloc(1, ZERO_CHUNK);
    while (from < to) {
        size_t part = (size_t)VDC_MIN((uint64_t)ZERO_CHUNK, to - from);
        enum vdc_rc rc = journal_write_all(fd, zeros, part, from, err);
        if (rc != VDC_RC_OK) {
            return rc;
        }
        from += part;
    }
    return VDC_RC_OK;
}

enum vdc_rc journal_sync(int fd, const char *name, struct vdc_err *err)
{
    if (fdatasync(fd) != 0) {
        return vdc_err_errno(err, errno, "fdatasync %s", name);
    }
    return VDC_RC_OK;
}

enum vdc_rc journal_make_spare(int dir_fd, uint64_t bytes, int *fd, struct vdc_err *err)
{
    *fd = openat(dir_fd, JOURNAL_SPARE, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (*fd < 0) {
        return vdc_err_errno(err, errno, "make %s", JOURNAL_SPARE);
    }
    enum vdc_rc rc = journal_zero(*fd, 0, bytes, err);
    if (rc == VDC_RC_OK) {
        rc = journal_sync(*fd, JOURNAL_SPARE, err);
    }
    if (rc != VDC_RC_OK) {
        /* Gives the space back that it took, so that what else is there can go on. */
        (void)close(*fd);
        (void)unlinkat(dir_fd, JOURNAL_SPARE, 0);
        *fd = -1;
        return vdc_err_wrap(err, "fill %s", JOURNAL_SPARE);
    }
    return VDC_RC_OK;
}

static enum vdc_rc write_snapshot_file(int dir_fd, const char *temporary, const char *name,
                                       const void *data, size_t len, struct vdc_err *err)
{
    int fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return vdc_err_errno(err, errno, "make %s", temporary);
    }
    enum vdc_rc rc = journal_write_all(fd, data, len, 0, err);
    if (rc == VDC_RC_OK && fsync(fd) != 0) {
        rc = vdc_err_errno(err, errno, "fsync");
    }
    if (close(fd) != 0 && rc == VDC_RC_OK) {
        rc = vdc_err_errno(err, errno, "close");
    }
    if (rc == VDC_RC_OK && renameat(dir_fd, temporary, dir_fd, name) != 0) {
        rc = vdc_err_errno(err, errno, "rename to %s", name);
    }
    if (rc == VDC_RC_OK && fsync(dir_fd) != 0) {
        rc = vdc_err_errno(err, errno, "fsync of the directory");
    }
    return rc == VDC_RC_OK ? rc : vdc_err_wrap(err, "%s", temporary);
}

enum vdc_rc journal_write_snapshot(int dir_fd, uint64_t sequence, const void *data, size_t len,
                                   struct vdc_err *err)
{
    char name[JOURNAL_NAME_CAP];
    char temporary[JOURNAL_NAME_CAP + 4];
    journal_snapshot_name(name, sequence);
    (void)snprintf(temporary, sizeof(temporary), "%s.tmp", name);
    enum vdc_rc rc = write_snapshot_file(dir_fd, temporary, name, data, len, err);
    if (rc != VDC_RC_OK) {
        (void)unlinkat(dir_fd, temporary, 0);
    }
    return rc;
}

void journal_drop_old(int dir_fd, uint64_t sequence)
{
    struct journal_listing listing;
    char name[JOURNAL_NAME_CAP];
    if (journal_list(dir_fd, &listing, NULL) == VDC_RC_OK) {
        for (size_t i = 0; i + 1 < listing.segments_len; i++) {
            if (listing.segments[i + 1].first_sequence <= sequence + 1) {
                journal_segment_name(name, listing.segments[i].first_sequence);
                (void)unlinkat(dir_fd, name, 0);
            }
        }
        for (size_t i = 0; i < listing.snapshots_len; i++) {
            if (listing.snapshots[i] < sequence) {
                journal_snapshot_name(name, listing.snapshots[i]);
                (void)unlinkat(dir_fd, name, 0);
            }
        }
    }
    journal_listing_deinit(&listing);
}
