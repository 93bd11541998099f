/* SPDX-License-Identifier: Apache-2.0 */
#include "console_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/file.h>
#include <vdc/monitor_protocol.h>

struct part {
    int fd;
    uint64_t len;
};

static struct part open_part(const char *dir, const char *name)
{
    vdc_autofree char *path = vdc_asprintf("%s/%s", dir, name);
    struct part part = {.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
    struct stat info;
    if (part.fd >= 0 && fstat(part.fd, &info) == 0) {
        part.len = (uint64_t)info.st_size;
    }
    return part;
}

static void read_part(const struct part *part, uint64_t offset, uint64_t max, struct vdc_buf *data)
{
    while (part->fd >= 0 && max > 0 && offset < part->len) {
        size_t want = (size_t)VDC_MIN(VDC_MIN(max, part->len - offset), UINT64_C(65536));
        ssize_t got = pread(part->fd, vdc_buf_reserve(data, want), want, (off_t)offset);
        if (got <= 0) {
            return;
        }
        data->len += (size_t)got;
        offset += (uint64_t)got;
        max -= (uint64_t)got;
    }
}

/* False: the monitor noted none. */
static bool read_base(const char *dir, uint64_t *base)
{
    vdc_autofree char *path = vdc_asprintf("%s/" VDC_CONSOLE_BASE_FILE, dir);
    struct vdc_buf text = {0};
    bool found = vdc_file_read(path, VDC_CONSOLE_BASE_LEN, &text, NULL) == VDC_RC_OK &&
                 text.len == VDC_CONSOLE_BASE_LEN;
    if (found) {
        text.data[VDC_CONSOLE_BASE_LEN - 1] = 0;
        found = vdc_parse_u64(text.data, INT64_MAX, base);
    }
    vdc_buf_deinit(&text);
    return found;
}

bool agent_console_file_read(const char *dir, uint64_t known_end, uint64_t offset, uint32_t max,
                             struct vdc_buf *data, uint64_t *first, uint64_t *end)
{
    struct part old = open_part(dir, "console.log.1");
    struct part log = open_part(dir, "console.log");
    bool found = log.fd >= 0;
    uint64_t kept = old.len + log.len;
    uint64_t base;
    *end = VDC_MAX(read_base(dir, &base) ? base + log.len : known_end, kept);
    uint64_t begin = *end - kept;
    *first = VDC_MIN(VDC_MAX(offset, begin), *end);
    size_t before = data->len;
    uint64_t at = *first - begin;
    if (at < old.len) {
        read_part(&old, at, max, data);
    }
    uint64_t got = data->len - before;
    if (at + got >= old.len) {
        read_part(&log, at + got - old.len, max - got, data);
    }
    if (old.fd >= 0) {
        close(old.fd);
    }
    if (log.fd >= 0) {
        close(log.fd);
    }
    return found;
}
