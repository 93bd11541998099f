/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/console.h>

#define FILE_NAME "console.log"
#define OLD_NAME "console.log.1"

/* One write into a block that exists: it needs no space on a full disk, and a process that is killed
 * does not tear it. */
static void note_base(struct vdc_console *console)
{
    char text[VDC_CONSOLE_BASE_LEN + 1];

    (void)snprintf(text, sizeof(text), "%020llu\n", (unsigned long long)console->base);
    if (console->base_file >= 0) {
        (void)!pwrite(console->base_file, text, VDC_CONSOLE_BASE_LEN, 0);
    }
}

static uint64_t read_base(const struct vdc_console *console)
{
    char text[VDC_CONSOLE_BASE_LEN];
    uint64_t base;

    if (console->base_file < 0 ||
        pread(console->base_file, text, sizeof(text), 0) != (ssize_t)sizeof(text)) {
        return 0;
    }
    text[sizeof(text) - 1] = '\0';
    return vdc_parse_u64(text, INT64_MAX, &base) ? base : 0;
}

/* -1: none. */
static int open_file(int dirfd, const char *name, int flags, uint64_t *size)
{
    int fd = openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW, 0640);
    struct stat info;

    *size = fd >= 0 && fstat(fd, &info) == 0 ? (uint64_t)info.st_size : 0;
    return fd;
}

static void rotate(struct vdc_console *console);

enum vdc_rc vdc_console_open(struct vdc_console *console, int dirfd, struct vdc_err *err)
{
    uint64_t size;
    uint64_t old_size;
    char last = '\n';

    *console = (struct vdc_console){.dir = dirfd, .file = -1, .old = -1, .base_file = -1};
    console->file = open_file(dirfd, FILE_NAME, O_RDWR | O_CREAT | O_APPEND, &size);
    if (console->file < 0) {
        return vdc_err_errno(err, errno, "open " FILE_NAME);
    }
    console->base_file =
        openat(dirfd, VDC_CONSOLE_BASE_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    console->old = open_file(dirfd, OLD_NAME, O_RDONLY, &old_size);
    console->base = VDC_MAX(read_base(console), old_size);
    console->old_base = console->base - old_size;
    console->end = console->base + size;
    note_base(console);
    if (size > 0) {
        (void)!pread(console->file, &last, 1, (off_t)size - 1);
    }
    console->line_open = last != '\n';
    if (size >= VDC_CONSOLE_FILE_MAX) {
        rotate(console);
    }
    return VDC_RC_OK;
}

void vdc_console_begin_run(struct vdc_console *console, vdc_wall now)
{
    char time[VDC_WALL_TEXT_CAP];
    vdc_autofree char *line = NULL;

    if (console->end == 0) {
        return;
    }
    vdc_wall_to_text(now, time);
    /* A line that the last run was cut off in is not ended as if it were whole. */
    line = vdc_asprintf("%s--- %s: the guest is started anew ---\r\n",
                        console->line_open ? " ...\r\n" : "", time);
    (void)vdc_console_write(console, line, strlen(line), NULL);
}

void vdc_console_close(struct vdc_console *console)
{
    if (console->file >= 0) {
        (void)close(console->file);
    }
    if (console->old >= 0) {
        (void)close(console->old);
    }
    if (console->base_file >= 0) {
        (void)close(console->base_file);
    }
    console->file = console->old = console->base_file = -1;
}

static void rotate(struct vdc_console *console)
{
    if (console->file >= 0 && renameat(console->dir, FILE_NAME, console->dir, OLD_NAME) == 0) {
        if (console->old >= 0) {
            (void)close(console->old);
        }
        console->old = console->file;
        console->old_base = console->base;
        console->file = -1;
    } else if (console->file >= 0) {
        (void)close(console->file);
    }
    console->file = openat(console->dir, FILE_NAME,
                           O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
    console->base = console->end;
    note_base(console);
}

/* Ends the current file where bytes could not be kept, so that offsets in it stay true. */
static enum vdc_rc lose(struct vdc_console *console, size_t len, struct vdc_err *err)
{
    int errnum = errno;

    console->end += len;
    rotate(console);
    if (console->failed) {
        return VDC_RC_OK;
    }
    console->failed = true;
    return vdc_err_errno(err, errnum, "write " FILE_NAME ", bytes are lost");
}

enum vdc_rc vdc_console_write(struct vdc_console *console, const void *data, size_t len,
                              struct vdc_err *err)
{
    const char *at = data;

    while (len > 0) {
        size_t room = VDC_CONSOLE_FILE_MAX - (size_t)(console->end - console->base);
        ssize_t put;

        if (console->file < 0) {
            errno = EBADF;
            return lose(console, len, err);
        }
        put = write(console->file, at, VDC_MIN(len, room));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return lose(console, len, err);
        }
        at += put;
        len -= (size_t)put;
        console->line_open = at[-1] != '\n';
        console->end += (uint64_t)put;
        if (console->end - console->base >= VDC_CONSOLE_FILE_MAX) {
            rotate(console);
        }
    }
    return VDC_RC_OK;
}

/* Up to `max` bytes of one file that holds [base, base + its size). */
static size_t read_file(int fd, uint64_t base, uint64_t offset, char *data, size_t max)
{
    ssize_t got = fd < 0 ? 0 : pread(fd, data, max, (off_t)(offset - base));

    return got < 0 ? 0 : (size_t)got;
}

void vdc_console_read(const struct vdc_console *console, uint64_t offset, size_t max,
                      struct vdc_monitor_console *out)
{
    uint64_t oldest = console->old >= 0 ? console->old_base : console->base;
    size_t len = 0;

    VDC_ASSERT(max <= VDC_MONITOR_CONSOLE_READ_MAX);
    offset = VDC_MIN(VDC_MAX(offset, oldest), console->end);
    *out = (struct vdc_monitor_console){.offset = offset, .end = console->end};
    out->data = vdc_calloc(max + 1, 1);
    if (offset < console->base) {
        len = read_file(console->old, console->old_base, offset, out->data,
                        (size_t)VDC_MIN((uint64_t)max, console->base - offset));
        if (len == 0) { /* that part was lost: the disk was full */
            offset = out->offset = console->base;
        }
    }
    if (len < max && offset + len >= console->base) {
        len += read_file(console->file, console->base, offset + len, out->data + len, max - len);
    }
    out->len = len;
}
