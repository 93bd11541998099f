/* SPDX-License-Identifier: Apache-2.0 */
#include <vdc/file.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vdc/base.h>

/* Bytes of one read: most small files in one piece. */
#define READ_PIECE 16384
/* Levels below which vdc_dir_remove() does not go: our own trees have three. */
#define REMOVE_DEPTH_MAX 16

enum vdc_rc vdc_file_read(const char *path, size_t max, struct vdc_buf *buf, struct vdc_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return vdc_err_errno(err, errno, "open %s", path);
    }
    enum vdc_rc rc = VDC_RC_OK;
    size_t total = 0;
    for (;;) {
        char *at = vdc_buf_reserve(buf, READ_PIECE);
        ssize_t got = read(fd, at, READ_PIECE);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            rc = vdc_err_errno(err, errno, "read %s", path);
            break;
        }
        if (got == 0) {
            break;
        }
        total += (size_t)got;
        if (total > max) {
            rc = vdc_err_set(err, VDC_RC_TOO_LARGE, "%s: more than %zu bytes", path, max);
            break;
        }
        buf->len += (size_t)got;
        buf->data[buf->len] = '\0';
    }
    close(fd);
    return rc;
}

static enum vdc_rc write_all(int fd, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t put = write(fd, at, len);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return VDC_RC_IO;
        }
        at += put;
        len -= (size_t)put;
    }
    return VDC_RC_OK;
}

enum vdc_rc vdc_dir_sync(const char *path, struct vdc_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return vdc_err_errno(err, errno, "open directory %s", path);
    }
    enum vdc_rc rc = VDC_RC_OK;
    if (fsync(fd) != 0) {
        rc = vdc_err_errno(err, errno, "fsync directory %s", path);
    }
    close(fd);
    return rc;
}

/* The directory that `path` is in; never NULL. */
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return vdc_strdup(".");
    }
    if (slash == path) {
        return vdc_strdup("/");
    }
    char *parent = vdc_strdup(path);
    parent[slash - path] = '\0';
    return parent;
}

static enum vdc_rc write_durably(const char *tmp, const void *data, size_t len, mode_t mode,
                                 struct vdc_err *err)
{
    /* A leftover of a crash may have another mode or be a link: it is replaced, not reused. */
    if (unlink(tmp) != 0 && errno != ENOENT) {
        return vdc_err_errno(err, errno, "remove %s", tmp);
    }
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0) {
        return vdc_err_errno(err, errno, "create %s", tmp);
    }
    enum vdc_rc rc = VDC_RC_OK;
    if (fchmod(fd, mode) != 0) { /* the umask does not know better than the caller */
        rc = vdc_err_errno(err, errno, "chmod %s", tmp);
    } else if (write_all(fd, data, len) != VDC_RC_OK) {
        rc = vdc_err_errno(err, errno, "write %s", tmp);
    } else if (fsync(fd) != 0) {
        rc = vdc_err_errno(err, errno, "fsync %s", tmp);
    }
    if (close(fd) != 0 && rc == VDC_RC_OK) {
        rc = vdc_err_errno(err, errno, "close %s", tmp);
    }
    return rc;
}

enum vdc_rc vdc_file_write_atomic(const char *path, const void *data, size_t len, mode_t mode,
                                  struct vdc_err *err)
{
    vdc_autofree char *tmp = vdc_asprintf("%s.tmp", path);
    enum vdc_rc rc = write_durably(tmp, data, len, mode, err);
    if (rc == VDC_RC_OK && rename(tmp, path) != 0) {
        rc = vdc_err_errno(err, errno, "rename %s to %s", tmp, path);
    }
    if (rc != VDC_RC_OK) {
        unlink(tmp);
        return rc;
    }
    vdc_autofree char *parent = parent_of(path);
    return vdc_dir_sync(parent, err);
}

enum vdc_rc vdc_file_poke(const char *path, const char *text, struct vdc_err *err)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return vdc_err_errno(err, errno, "open %s", path);
    }
    enum vdc_rc rc = VDC_RC_OK;
    size_t len = strlen(text);
    ssize_t put = write(fd, text, len);
    if (put < 0) {
        rc = vdc_err_errno(err, errno, "write \"%s\" to %s", text, path);
    } else if ((size_t)put != len) {
        rc = vdc_err_set(err, VDC_RC_IO, "write \"%s\" to %s: cut short", text, path);
    }
    close(fd);
    return rc;
}

enum vdc_rc vdc_file_remove(const char *path, struct vdc_err *err)
{
    if (unlink(path) != 0 && errno != ENOENT) {
        return vdc_err_errno(err, errno, "remove %s", path);
    }
    return VDC_RC_OK;
}

bool vdc_file_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static enum vdc_rc make_one(const char *path, mode_t mode, struct vdc_err *err)
{
    if (mkdir(path, mode) == 0) {
        return VDC_RC_OK;
    }
    int errnum = errno;
    struct stat st;
    if (errnum == EEXIST && stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode)) {
            return VDC_RC_OK;
        }
        return vdc_err_set(err, VDC_RC_CONFLICT, "%s: is no directory", path);
    }
    return vdc_err_errno(err, errnum, "make directory %s", path);
}

enum vdc_rc vdc_dir_make(const char *path, mode_t mode, struct vdc_err *err)
{
    vdc_autofree char *part = vdc_strdup(path);
    if (part[0] == '\0') {
        return vdc_err_set(err, VDC_RC_INVALID, "make directory: the path is empty");
    }
    for (char *c = part + 1; *c != '\0'; c++) {
        if (*c != '/' || c[1] == '/' || c[1] == '\0') {
            continue;
        }
        *c = '\0';
        enum vdc_rc rc = make_one(part, mode, err);
        if (rc != VDC_RC_OK) {
            return rc;
        }
        *c = '/';
    }
    return make_one(part, mode, err);
}

static enum vdc_rc remove_entry(int dir, const char *name, const char *path, dev_t dev, int depth,
                                struct vdc_err *err);

/* Takes `fd` over. */
static enum vdc_rc empty_dir(int fd, const char *path, dev_t dev, int depth, struct vdc_err *err)
{
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int errnum = errno;
        close(fd);
        return vdc_err_errno(err, errnum, "read directory %s", path);
    }
    enum vdc_rc rc = VDC_RC_OK;
    const struct dirent *entry;
    while (rc == VDC_RC_OK && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            rc = remove_entry(dirfd(dir), entry->d_name, path, dev, depth, err);
        }
    }
    closedir(dir);
    return rc;
}

static enum vdc_rc remove_entry(int dir, const char *name, const char *path, dev_t dev, int depth,
                                struct vdc_err *err)
{
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT) {
        return VDC_RC_OK;
    }
    if (errno != EISDIR && errno != EPERM) {
        return vdc_err_errno(err, errno, "remove %s in %s", name, path);
    }
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0) {
        return vdc_err_errno(err, errno, "open directory %s in %s", name, path);
    }
    if (fstat(fd, &st) != 0 || st.st_dev != dev || depth >= REMOVE_DEPTH_MAX) {
        close(fd);
        return vdc_err_set(err, VDC_RC_CONFLICT, "remove %s in %s: %s", name, path,
                           depth >= REMOVE_DEPTH_MAX ? "too deep" : "another file system");
    }
    enum vdc_rc rc = empty_dir(fd, path, dev, depth + 1, err);
    if (rc == VDC_RC_OK && unlinkat(dir, name, AT_REMOVEDIR) != 0) {
        rc = vdc_err_errno(err, errno, "remove directory %s in %s", name, path);
    }
    return rc;
}

enum vdc_rc vdc_dir_remove(const char *path, struct vdc_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? VDC_RC_OK : vdc_err_errno(err, errno, "open directory %s", path);
    }
    struct stat st;
    if (fstat(fd, &st) != 0) {
        int errnum = errno;
        close(fd);
        return vdc_err_errno(err, errnum, "stat %s", path);
    }
    enum vdc_rc rc = empty_dir(fd, path, st.st_dev, 0, err);
    if (rc == VDC_RC_OK && rmdir(path) != 0) {
        rc = vdc_err_errno(err, errno, "remove directory %s", path);
    }
    return rc;
}
