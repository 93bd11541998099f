/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real disk. Zero-filling goes past the page cache where the file system lets it: dirty pages of
 * a whole segment would all be written out by one sync, and every group of records that is synced
 * meanwhile would stand behind them.
 */
#include <vdc/journal_disk.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vdc/base.h>

/* Bytes of one write of zeros: what a group that comes meanwhile has to wait for at most. */
#define ZERO_CHUNK (UINT32_C(1) << 17)
/* What writes past the page cache must be multiples of: a page, no disk has larger blocks. */
#define DIRECT_ALIGN 4096

static int checked(int value)
{
    return value < 0 ? -errno : value;
}

static int real_open_dir(void *ctx, const char *path, bool make)
{
    (void)ctx;
    if (make && mkdir(path, 0700) != 0 && errno != EEXIST) {
        return -errno;
    }
    return checked(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int real_lock(void *ctx, int dir)
{
    (void)ctx;
    int fd = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int errnum = errno;
        (void)close(fd);
        return -errnum;
    }
    return checked(fd);
}

static int real_open(void *ctx, int dir, const char *name, bool make)
{
    (void)ctx;
    return checked(openat(dir, name, O_RDWR | O_CLOEXEC | (make ? O_CREAT | O_TRUNC : 0), 0600));
}

static int real_reserve(void *ctx, int fd, uint64_t len)
{
    (void)ctx;
    while (fallocate(fd, 0, 0, (off_t)len) != 0) {
        if (errno == EOPNOTSUPP) {
            return 0; /* writing the zeros finds out */
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

static ssize_t real_write(void *ctx, int fd, const void *data, size_t len, uint64_t offset)
{
    (void)ctx;
    for (;;) {
        ssize_t wrote = pwrite(fd, data, len, (off_t)offset);
        if (wrote > 0) {
            return wrote;
        }
        if (wrote == 0 || errno != EINTR) {
            return wrote == 0 ? -ENOSPC : -errno;
        }
    }
}

/* Whether writes pass the page cache from now on; not where the file system cannot. */
static bool set_direct(int fd, bool direct)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

static int real_zero(void *ctx, int fd, uint64_t from, uint64_t to)
{
    static const _Alignas(DIRECT_ALIGN) char zeros[ZERO_CHUNK];
    bool direct = from % DIRECT_ALIGN == 0 && to % DIRECT_ALIGN == 0 && set_direct(fd, true);
    while (from < to) {
        size_t part = (size_t)VDC_MIN((uint64_t)ZERO_CHUNK, to - from);
        ssize_t wrote = real_write(ctx, fd, zeros, part, from);
        if (wrote == -EINVAL && direct) {
            direct = !set_direct(fd, false);
            continue;
        }
        if (wrote < 0) {
            return (int)wrote;
        }
        from += (uint64_t)wrote;
    }
    return direct && !set_direct(fd, false) ? -errno : 0;
}

static int real_sync(void *ctx, int fd)
{
    (void)ctx;
    return checked(fdatasync(fd));
}

static int real_sync_dir(void *ctx, int dir)
{
    (void)ctx;
    return checked(fsync(dir));
}

static int real_rename(void *ctx, int dir, const char *from, const char *to)
{
    (void)ctx;
    return checked(renameat(dir, from, dir, to));
}

static int real_remove(void *ctx, int dir, const char *name)
{
    (void)ctx;
    return checked(unlinkat(dir, name, 0));
}

static void real_close(void *ctx, int fd)
{
    (void)ctx;
    (void)close(fd);
}

static int real_list(void *ctx, int dir, int (*each)(void *arg, const char *name), void *arg)
{
    (void)ctx;
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (stream == NULL) {
        int errnum = errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return -errnum;
    }
    int rc = 0;
    const struct dirent *entry;
    while (rc == 0 && (errno = 0, entry = readdir(stream)) != NULL) {
        rc = each(arg, entry->d_name);
    }
    rc = rc == 0 ? -errno : rc;
    (void)closedir(stream);
    return rc;
}

static int real_map(void *ctx, int dir, const char *name, void **data, size_t *len)
{
    (void)ctx;
    *data = NULL;
    *len = 0;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    struct stat st;
    int rc = fstat(fd, &st) == 0 ? 0 : -errno;
    if (rc == 0 && st.st_size > 0) {
        void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            rc = -errno;
        } else {
            /* It will be read once, from its beginning to its end, beginning now. */
            (void)madvise(map, (size_t)st.st_size, MADV_SEQUENTIAL);
            (void)madvise(map, (size_t)st.st_size, MADV_WILLNEED);
            *data = map;
            *len = (size_t)st.st_size;
        }
    }
    (void)close(fd);
    return rc;
}

static void real_unmap(void *ctx, void *data, size_t len)
{
    (void)ctx;
    if (data != NULL) {
        (void)munmap(data, len);
    }
}

const struct vdc_journal_disk vdc_journal_real_disk = {
    .open_dir = real_open_dir,
    .lock = real_lock,
    .open = real_open,
    .reserve = real_reserve,
    .write = real_write,
    .zero = real_zero,
    .sync = real_sync,
    .sync_dir = real_sync_dir,
    .rename = real_rename,
    .remove = real_remove,
    .close = real_close,
    .list = real_list,
    .map = real_map,
    .unmap = real_unmap,
};
