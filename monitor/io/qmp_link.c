/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/line_reader.h>
#include <vdc/qmp_link.h>

#define MAGIC UINT32_C(0x514d504c)
/* Reads in one turn of the loop: QEMU cannot keep us from our other work. */
#define READS_PER_TURN_MAX 16

/* One line that waits to be sent. */
struct outgoing {
    struct outgoing *next;
    char *data;
    size_t len;
    size_t sent;
    int fd; /* -1: none, or sent already */
};

struct vdc_qmp_link {
    uint32_t magic;
    uv_poll_t poll;
    int fd;
    struct vdc_line_reader reader;
    struct outgoing *first;
    struct outgoing **last;
    bool broken;
    bool closing;
    vdc_qmp_message_cb on_message;
    vdc_qmp_broken_cb on_broken;
    void *data;
};

static void on_poll(uv_poll_t *handle, int status, int events);

static void arm(struct vdc_qmp_link *link)
{
    int events = UV_READABLE | (link->first != NULL ? UV_WRITABLE : 0);

    if (!link->broken && !link->closing) {
        VDC_ASSERT(uv_poll_start(&link->poll, events, on_poll) == 0);
    }
}

static void break_link(struct vdc_qmp_link *link, const char *why)
{
    if (!link->broken && !link->closing) {
        link->broken = true;
        (void)uv_poll_stop(&link->poll);
        link->on_broken(link->data, why);
    }
}

static void free_outgoing(struct outgoing *out)
{
    if (out->fd >= 0) {
        (void)close(out->fd);
    }
    free(out->data);
    free(out);
}

static ssize_t send_some(int fd, const struct outgoing *out)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = out->data + out->sent, .iov_len = out->len - out->sent};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (out->fd >= 0) {
        struct cmsghdr *cmsg;

        msg.msg_control = control.space;
        msg.msg_controllen = sizeof(control.space);
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &out->fd, sizeof(int));
    }
    return sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void flush(struct vdc_qmp_link *link)
{
    while (link->first != NULL && !link->broken) {
        struct outgoing *out = link->first;
        ssize_t put = send_some(link->fd, out);

        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            break;
        }
        if (put < 0) {
            break; /* reading tells the end, after QEMU's last words */
        }
        if (out->fd >= 0) {
            (void)close(out->fd);
            out->fd = -1;
        }
        out->sent += (size_t)put;
        if (out->sent == out->len) {
            link->first = out->next;
            if (link->first == NULL) {
                link->last = &link->first;
            }
            free_outgoing(out);
        }
    }
}

static void take_lines(struct vdc_qmp_link *link)
{
    char *line;
    size_t len;

    while (!link->broken && !link->closing &&
           (line = vdc_line_reader_take(&link->reader, &len)) != NULL) {
        struct vdc_qmp_message message;
        struct vdc_err err = {0};

        if (vdc_qmp_message_decode(line, len, &message, &err) != VDC_RC_OK) {
            break_link(link, vdc_err_text(&err));
            return;
        }
        link->on_message(link->data, &message);
    }
    if (!link->broken && !link->closing && vdc_line_reader_is_over(&link->reader)) {
        break_link(link, "a line that does not end");
    }
}

/* False when nothing more is there. */
static bool read_some(struct vdc_qmp_link *link)
{
    char data[16384];
    ssize_t got = recv(link->fd, data, sizeof(data), MSG_DONTWAIT);

    if (got < 0 && errno == EINTR) {
        return true;
    }
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return false;
    }
    if (got <= 0) {
        break_link(link, "closed by QEMU");
        return false;
    }
    if (vdc_line_reader_feed(&link->reader, data, (size_t)got) != VDC_RC_OK) {
        break_link(link, "a line that does not end");
        return false;
    }
    take_lines(link);
    return !link->broken && !link->closing;
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct vdc_qmp_link *link;

    VDC_CAST(link, handle->data, MAGIC);
    if (status < 0) {
        events = UV_READABLE;
    }
    if ((events & UV_WRITABLE) != 0) {
        flush(link);
    }
    for (int i = 0; i < READS_PER_TURN_MAX && read_some(link); i++) {
    }
    arm(link);
}

struct vdc_qmp_link *vdc_qmp_link_open(uv_loop_t *loop, int fd, vdc_qmp_message_cb on_message,
                                       vdc_qmp_broken_cb on_broken, void *data)
{
    struct vdc_qmp_link *link = VDC_NEW(struct vdc_qmp_link);

    link->magic = MAGIC;
    link->fd = fd;
    link->last = &link->first;
    link->on_message = on_message;
    link->on_broken = on_broken;
    link->data = data;
    vdc_line_reader_init(&link->reader, VDC_QMP_LINE_MAX);
    VDC_ASSERT(uv_poll_init(loop, &link->poll, fd) == 0);
    link->poll.data = link;
    arm(link);
    return link;
}

void vdc_qmp_link_send(struct vdc_qmp_link *link, const struct vdc_buf *line, int fd)
{
    struct outgoing *out;

    if (link->broken || link->closing) {
        return;
    }
    out = VDC_NEW(struct outgoing);
    out->data = vdc_memdup(line->data, line->len);
    out->len = line->len;
    out->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    *link->last = out;
    link->last = &out->next;
    flush(link);
    arm(link);
}

void vdc_qmp_link_drain(struct vdc_qmp_link *link)
{
    while (!link->broken && !link->closing && read_some(link)) {
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct vdc_qmp_link *link;

    VDC_CAST(link, handle->data, MAGIC);
    (void)close(link->fd);
    while (link->first != NULL) {
        struct outgoing *out = link->first;
        link->first = out->next;
        free_outgoing(out);
    }
    vdc_line_reader_deinit(&link->reader);
    link->magic = 0;
    free(link);
}

void vdc_qmp_link_close(struct vdc_qmp_link *link)
{
    if (link != NULL && !link->closing) {
        link->closing = true;
        uv_close((uv_handle_t *)&link->poll, on_closed);
    }
}
