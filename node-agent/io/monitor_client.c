/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor_client.h"
#include "monitor_words.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/buf.h>
#include <vdc/file.h>
#include <vdc/line_reader.h>
#include <vdc/log.h>
#include <vdc/monitor_protocol.h>
#include <vdc/time.h>

#define CLIENT_MAGIC UINT32_C(0x4d434c49)

struct request {
    uint64_t id;
    uint64_t ticket; /* 0: nobody waits */
    bool sent;
    struct vdc_monitor_request message;
};

struct monitor_client {
    uint32_t magic;
    uv_loop_t *loop;
    char *path;
    const struct monitor_client_handlers *handlers;
    void *data;
    uv_timer_t timer;
    uv_pipe_t *pipe; /* NULL: not connecting */
    bool connected;
    bool closed;
    unsigned handles;
    struct vdc_line_reader reader;
    char bytes[16384];
    uint64_t ids;
    struct request requests[MONITOR_REQUESTS_MAX];
    size_t requests_len;
};

static void connect_later(struct monitor_client *client);

static struct monitor_client *from_data(void *data)
{
    struct monitor_client *client;
    VDC_CAST(client, data, CLIENT_MAGIC);
    return client;
}

static void release(struct monitor_client *client)
{
    if (--client->handles > 0) {
        return;
    }
    vdc_line_reader_deinit(&client->reader);
    free(client->path);
    client->magic = 0;
    free(client);
}

static void on_pipe_closed(uv_handle_t *handle)
{
    struct monitor_client *client = from_data(handle->data);
    free(handle);
    release(client);
}

static void drop_pipe(struct monitor_client *client)
{
    if (client->pipe != NULL) {
        uv_close((uv_handle_t *)client->pipe, on_pipe_closed);
        client->pipe = NULL;
    }
    client->connected = false;
    for (size_t i = 0; i < client->requests_len; i++) {
        client->requests[i].sent = false; /* asked again: each of them may be repeated */
    }
}

/* --- receiving --- */

static void take_reply(struct monitor_client *client, const struct vdc_monitor_message *message)
{
    for (size_t i = 0; i < client->requests_len; i++) {
        if (client->requests[i].id != message->id) {
            continue;
        }
        uint64_t ticket = client->requests[i].ticket;
        enum vdc_monitor_command command = client->requests[i].message.command;
        client->requests_len--;
        memmove(&client->requests[i], &client->requests[i + 1],
                (client->requests_len - i) * sizeof client->requests[0]);
        if (ticket == 0) {
            if (message->rc != VDC_RC_OK) {
                vdc_log_warn("%s: %s: %s", client->path, vdc_monitor_command_text(command),
                             message->error);
            }
            return;
        }
        struct monitor_console console = {
            .offset = message->console.offset,
            .end = message->console.end,
            .data = message->console.data,
            .len = message->console.len,
        };
        client->handlers->on_reply(client->data, ticket, message->rc, message->error,
                                   message->has_console ? &console : NULL);
        return;
    }
}

static bool take_line(struct monitor_client *client, const char *line, size_t len)
{
    struct vdc_monitor_message message;
    struct vdc_err err;
    if (vdc_monitor_message_decode(line, len, &message, &err) != VDC_RC_OK) {
        vdc_log_error("%s: %s", client->path, vdc_err_text(&err));
        return false;
    }
    switch (message.kind) {
    case VDC_MONITOR_MESSAGE_STATE: {
        struct vdc_agent_monitor_state state;
        agent_monitor_translate(&message.state, &state);
        struct vdc_proc qemu = {(pid_t)message.state.qemu_pid, message.state.qemu_start};
        client->handlers->on_state(client->data, &state, &qemu, message.state.console_end);
        break;
    }
    case VDC_MONITOR_MESSAGE_REPLY:
        take_reply(client, &message);
        break;
    }
    vdc_monitor_message_deinit(&message);
    return true;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct monitor_client *client = from_data(handle->data);
    *buf = uv_buf_init(client->bytes, sizeof client->bytes);
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
    struct monitor_client *client = from_data(stream->data);
    if (client->closed || (uv_stream_t *)client->pipe != stream) {
        return;
    }
    if (got == 0) {
        return;
    }
    bool good =
        got > 0 && vdc_line_reader_feed(&client->reader, buf->base, (size_t)got) == VDC_RC_OK;
    size_t len;
    char *line;
    while (good && !client->closed &&
           (line = vdc_line_reader_take(&client->reader, &len)) != NULL) {
        good = take_line(client, line, len);
    }
    if (!good && !client->closed) {
        drop_pipe(client);
        connect_later(client);
    }
}

/* --- sending --- */

struct write {
    uv_write_t req;
    struct vdc_buf line;
};

static void on_written(uv_write_t *req, int status)
{
    (void)status; /* a broken connection shows in reading */
    struct write *write = vdc_container_of(req, struct write, req);
    vdc_buf_deinit(&write->line);
    free(write);
}

static void send_requests(struct monitor_client *client)
{
    size_t kept = 0;
    for (size_t i = 0; i < client->requests_len; i++) {
        struct request *request = &client->requests[i];
        if (client->connected && !request->sent) {
            struct write *write = VDC_NEW(struct write);
            vdc_monitor_request_encode(&request->message, &write->line);
            uv_buf_t buf = uv_buf_init(write->line.data, (unsigned)write->line.len);
            request->sent = true;
            if (uv_write(&write->req, (uv_stream_t *)client->pipe, &buf, 1, on_written) != 0) {
                on_written(&write->req, -1);
            }
        }
        client->requests[kept++] = *request;
    }
    client->requests_len = kept;
}

static size_t count_requests(const struct monitor_client *client, enum vdc_monitor_command command)
{
    size_t count = 0;
    for (size_t i = 0; i < client->requests_len; i++) {
        count += client->requests[i].message.command == command;
    }
    return count;
}

static struct request *add_request(struct monitor_client *client, uint64_t ticket)
{
    if (client->requests_len == MONITOR_REQUESTS_MAX) {
        /* Somebody who waits has a deadline; a refresh does no harm by being lost. */
        vdc_log_warn("%s: %d requests without a reply -> the oldest is dropped", client->path,
                     MONITOR_REQUESTS_MAX);
        client->requests_len--;
        memmove(&client->requests[0], &client->requests[1],
                client->requests_len * sizeof client->requests[0]);
    }
    struct request *request = &client->requests[client->requests_len++];
    *request = (struct request){.id = ++client->ids, .ticket = ticket};
    request->message.id = request->id;
    return request;
}

void agent_monitor_client_ask(struct monitor_client *client, enum vdc_agent_monitor_request what,
                              uint64_t ticket, const char *unix_path, uint64_t bandwidth,
                              int64_t downtime_ns)
{
    if (what == VDC_MONITOR_ASK_REFRESH &&
        count_requests(client, VDC_MONITOR_REFRESH) >= MONITOR_REFRESHES_MAX) {
        return; /* those under way do it, or the monitor's own look each second */
    }
    struct request *request = add_request(client, ticket);
    request->message.command = agent_monitor_command(what);
    if (what == VDC_MONITOR_ASK_MIGRATE_IN || what == VDC_MONITOR_ASK_MIGRATE_OUT) {
        vdc_str_set(request->message.unix_path, sizeof request->message.unix_path, unix_path);
    }
    if (what == VDC_MONITOR_ASK_MIGRATE_OUT) {
        request->message.max_bandwidth = bandwidth;
        request->message.downtime_ms =
            (uint32_t)VDC_MIN(VDC_MAX(downtime_ns / VDC_MS, INT64_C(0)), INT64_C(60000));
    }
    send_requests(client);
}

bool agent_monitor_client_read_console(struct monitor_client *client, uint64_t ticket,
                                       uint64_t offset, uint32_t max)
{
    if (count_requests(client, VDC_MONITOR_CONSOLE_READ) >= MONITOR_CONSOLE_READS_MAX) {
        return false;
    }
    struct request *request = add_request(client, ticket);
    request->message.command = VDC_MONITOR_CONSOLE_READ;
    request->message.offset = offset;
    request->message.max = VDC_MIN(max, (uint32_t)VDC_MONITOR_CONSOLE_READ_MAX);
    send_requests(client);
    return true;
}

/* --- connecting --- */

static void on_connect(uv_connect_t *req, int status)
{
    struct monitor_client *client = from_data(req->data);
    uv_stream_t *stream = req->handle;
    free(req);
    if (client->closed || (uv_stream_t *)client->pipe != stream) {
        return;
    }
    if (status != 0 || uv_read_start(stream, on_alloc, on_read) != 0) {
        drop_pipe(client);
        connect_later(client);
        return;
    }
    client->connected = true;
    vdc_line_reader_deinit(&client->reader);
    vdc_line_reader_init(&client->reader, VDC_MONITOR_LINE_MAX);
    send_requests(client);
}

static void on_timer(uv_timer_t *timer)
{
    struct monitor_client *client = from_data(timer->data);
    char path[VDC_UNIX_PATH_CAP];
    int dirfd;
    if (vdc_unix_path_open(client->path, path, &dirfd, NULL) != VDC_RC_OK) {
        connect_later(client);
        return;
    }
    client->pipe = VDC_NEW(uv_pipe_t);
    uv_pipe_init(client->loop, client->pipe, 0);
    client->pipe->data = client;
    client->handles++;
    uv_connect_t *req = VDC_NEW(uv_connect_t);
    req->data = client;
    uv_pipe_connect(req, client->pipe, path, on_connect);
    if (dirfd >= 0) {
        close(dirfd); /* connect(2) of a unix socket is done by now */
    }
}

static void connect_later(struct monitor_client *client)
{
    uv_timer_start(&client->timer, on_timer, MONITOR_CONNECT_MS, 0);
}

struct monitor_client *agent_monitor_client_open(uv_loop_t *loop, const char *dir,
                                                 const struct monitor_client_handlers *handlers,
                                                 void *data)
{
    struct monitor_client *client = VDC_NEW(struct monitor_client);
    client->magic = CLIENT_MAGIC;
    client->loop = loop;
    client->path = vdc_asprintf("%s/monitor.sock", dir);
    client->handlers = handlers;
    client->data = data;
    client->handles = 1;
    vdc_line_reader_init(&client->reader, VDC_MONITOR_LINE_MAX);
    uv_timer_init(loop, &client->timer);
    client->timer.data = client;
    uv_timer_start(&client->timer, on_timer, 0, 0);
    return client;
}

static void on_timer_closed(uv_handle_t *handle)
{
    release(from_data(handle->data));
}

void agent_monitor_client_close(struct monitor_client *client)
{
    if (client == NULL) {
        return;
    }
    client->closed = true;
    drop_pipe(client);
    uv_close((uv_handle_t *)&client->timer, on_timer_closed);
}

/* --- without a loop --- */

bool agent_monitor_read_final(const char *dir, struct vdc_agent_monitor_state *state,
                              uint64_t *console_end)
{
    vdc_autofree char *path = vdc_asprintf("%s/final.json", dir);
    struct vdc_buf text = {0};
    struct vdc_monitor_state last;
    bool found = vdc_file_read(path, VDC_MONITOR_LINE_MAX, &text, NULL) == VDC_RC_OK;
    if (found && text.len > 0 && text.data[text.len - 1] == '\n') {
        text.data[--text.len] = 0;
    }
    found =
        found && vdc_monitor_state_decode(vdc_buf_text(&text), text.len, &last, NULL) == VDC_RC_OK;
    if (found) {
        agent_monitor_translate(&last, state);
        *console_end = last.console_end;
    }
    vdc_buf_deinit(&text);
    return found;
}

pid_t agent_monitor_find_listener(const char *dir)
{
    vdc_autofree char *full = vdc_asprintf("%s/monitor.sock", dir);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int dirfd;
    if (vdc_unix_path_open(full, address.sun_path, &dirfd, NULL) != VDC_RC_OK) {
        return 0;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0) {
        peer.pid = 0;
    }
    if (fd >= 0) {
        close(fd);
    }
    if (dirfd >= 0) {
        close(dirfd);
    }
    return peer.pid;
}
