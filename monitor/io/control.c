/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/control.h>
#include <vdc/line_reader.h>

#define CONTROL_MAGIC UINT32_C(0x4354524c)
#define CLIENT_MAGIC UINT32_C(0x43544c43)
#define WRITE_MAGIC UINT32_C(0x43545257)
#define BACKLOG 8

struct vdc_control {
    uint32_t magic;
    uv_loop_t *loop;
    uv_pipe_t listener;
    uv_timer_t linger;
    struct vdc_control_config config;
    char *path;
    struct vdc_control_client *clients[VDC_MONITOR_CLIENTS_MAX]; /* NULL: free */
    bool closing;
    int open_handles; /* listener, linger and clients; 0: freed */
};

struct vdc_control_client {
    uint32_t magic;
    uv_pipe_t pipe;
    uv_shutdown_t shutdown;
    struct vdc_control *control;
    struct vdc_line_reader reader;
    bool closing;
    char data[8192];
};

struct write_request {
    uint32_t magic;
    uv_write_t request;
    struct vdc_buf line;
};

/* ---- ends ---- */

static void release(struct vdc_control *control)
{
    if (--control->open_handles == 0) {
        free(control->path);
        control->magic = 0;
        free(control);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct vdc_control *control;

    VDC_CAST(control, handle->data, CONTROL_MAGIC);
    release(control);
}

static void on_client_closed(uv_handle_t *handle)
{
    struct vdc_control_client *client;

    VDC_CAST(client, handle->data, CLIENT_MAGIC);
    vdc_line_reader_deinit(&client->reader);
    release(client->control);
    client->magic = 0;
    free(client);
}

static void close_client(struct vdc_control_client *client)
{
    struct vdc_control *control = client->control;
    bool last = true;

    if (client->closing) {
        return;
    }
    client->closing = true;
    for (size_t i = 0; i < VDC_COUNT_OF(control->clients); i++) {
        if (control->clients[i] == client) {
            control->clients[i] = NULL;
        }
        last = last && control->clients[i] == NULL;
    }
    uv_close((uv_handle_t *)&client->pipe, on_client_closed);
    if (last && control->closing && !uv_is_closing((uv_handle_t *)&control->linger)) {
        uv_close((uv_handle_t *)&control->linger, on_handle_closed);
    }
}

/* ---- writing ---- */

static void on_written(uv_write_t *request, int status)
{
    struct write_request *write;

    VDC_CAST(write, request->data, WRITE_MAGIC);
    if (status < 0 && status != UV_ECANCELED) {
        struct vdc_control_client *client;
        VDC_CAST(client, request->handle->data, CLIENT_MAGIC);
        close_client(client);
    }
    vdc_buf_deinit(&write->line);
    write->magic = 0;
    free(write);
}

static void send_line(struct vdc_control_client *client, const struct vdc_buf *line)
{
    struct write_request *write;
    uv_buf_t buf;

    if (client->closing) {
        return;
    }
    if (uv_stream_get_write_queue_size((uv_stream_t *)&client->pipe) + line->len >
        VDC_CONTROL_QUEUE_MAX) {
        close_client(client);
        return;
    }
    write = VDC_NEW(struct write_request);
    write->magic = WRITE_MAGIC;
    write->request.data = write;
    vdc_buf_append(&write->line, line->data, line->len);
    buf = uv_buf_init(write->line.data, (unsigned)write->line.len);
    if (uv_write(&write->request, (uv_stream_t *)&client->pipe, &buf, 1, on_written) != 0) {
        vdc_buf_deinit(&write->line);
        free(write);
        close_client(client);
    }
}

void vdc_control_send(struct vdc_control_client *client, const struct vdc_monitor_message *message)
{
    struct vdc_buf line = {0};

    vdc_monitor_message_encode(message, &line);
    send_line(client, &line);
    vdc_buf_deinit(&line);
}

void vdc_control_broadcast(struct vdc_control *control, const struct vdc_monitor_message *message)
{
    struct vdc_buf line = {0};

    vdc_monitor_message_encode(message, &line);
    for (size_t i = 0; i < VDC_COUNT_OF(control->clients); i++) {
        if (control->clients[i] != NULL) {
            send_line(control->clients[i], &line);
        }
    }
    vdc_buf_deinit(&line);
}

/* ---- reading ---- */

static void refuse(struct vdc_control_client *client, uint64_t id, const struct vdc_err *err)
{
    struct vdc_monitor_message message = {
        .kind = VDC_MONITOR_MESSAGE_REPLY, .id = id, .rc = VDC_RC_INVALID};

    (void)snprintf(message.error, sizeof(message.error), "%.*s", VDC_MONITOR_TEXT_MAX,
                   vdc_err_text(err));
    vdc_control_send(client, &message);
}

static void take_requests(struct vdc_control_client *client)
{
    struct vdc_control *control = client->control;
    struct vdc_err too_long = {0};
    char *line;
    size_t len;

    while (!client->closing && !control->closing &&
           (line = vdc_line_reader_take(&client->reader, &len)) != NULL) {
        struct vdc_monitor_request request;
        struct vdc_err err = {0};

        if (vdc_monitor_request_decode(line, len, &request, &err) == VDC_RC_OK) {
            control->config.on_request(control->config.data, client, &request);
        } else {
            refuse(client, request.id, &err);
        }
    }
    if (!client->closing && vdc_line_reader_is_over(&client->reader)) {
        (void)vdc_err_set(&too_long, VDC_RC_INVALID, "a line of more than %d bytes",
                          VDC_MONITOR_LINE_MAX);
        refuse(client, 0, &too_long);
        close_client(client);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct vdc_control_client *client;

    (void)suggested;
    VDC_CAST(client, handle->data, CLIENT_MAGIC);
    *buf = uv_buf_init(client->data, sizeof(client->data));
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct vdc_control_client *client;

    VDC_CAST(client, stream->data, CLIENT_MAGIC);
    if (len < 0) {
        close_client(client);
        return;
    }
    if (len > 0) {
        if (vdc_line_reader_feed(&client->reader, buf->base, (size_t)len) != VDC_RC_OK) {
            close_client(client);
            return;
        }
        take_requests(client);
    }
}

/* ---- connections ---- */

static struct vdc_control_client **free_place(struct vdc_control *control)
{
    for (size_t i = 0; i < VDC_COUNT_OF(control->clients); i++) {
        if (control->clients[i] == NULL) {
            return &control->clients[i];
        }
    }
    return NULL;
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct vdc_control *control;
    struct vdc_control_client **place;
    struct vdc_control_client *client;

    VDC_CAST(control, listener->data, CONTROL_MAGIC);
    if (status < 0 || control->closing) {
        return;
    }
    client = VDC_NEW(struct vdc_control_client);
    client->magic = CLIENT_MAGIC;
    client->control = control;
    vdc_line_reader_init(&client->reader, VDC_MONITOR_LINE_MAX);
    VDC_ASSERT(uv_pipe_init(control->loop, &client->pipe, 0) == 0);
    client->pipe.data = client;
    control->open_handles++;
    place = free_place(control);
    if (uv_accept(listener, (uv_stream_t *)&client->pipe) != 0 || place == NULL) {
        close_client(client);
        return;
    }
    *place = client;
    if (uv_read_start((uv_stream_t *)&client->pipe, on_alloc, on_read) != 0) {
        close_client(client);
        return;
    }
    control->config.on_connect(control->config.data, client);
}

static enum vdc_rc listen_at(struct vdc_control *control, struct vdc_err *err)
{
    char path[VDC_UNIX_PATH_CAP];
    int dirfd;
    int status;
    enum vdc_rc rc = vdc_unix_path_open(control->path, path, &dirfd, err);

    if (rc != VDC_RC_OK) {
        return rc;
    }
    (void)unlink(path);
    status = uv_pipe_bind(&control->listener, path);
    if (status == 0 && chmod(path, 0600) != 0) {
        status = uv_translate_sys_error(errno);
    }
    if (status == 0) {
        status = uv_listen((uv_stream_t *)&control->listener, BACKLOG, on_connection);
    }
    if (dirfd >= 0) {
        (void)close(dirfd);
    }
    return status == 0 ? VDC_RC_OK
                       : vdc_err_set(err, VDC_RC_IO, "listen at %s: %s", control->path,
                                     uv_strerror(status));
}

enum vdc_rc vdc_control_open(uv_loop_t *loop, const struct vdc_control_config *config,
                             struct vdc_control **out, struct vdc_err *err)
{
    struct vdc_control *control = VDC_NEW(struct vdc_control);
    enum vdc_rc rc;

    control->magic = CONTROL_MAGIC;
    control->loop = loop;
    control->config = *config;
    control->path = vdc_strdup(config->path);
    VDC_ASSERT(uv_pipe_init(loop, &control->listener, 0) == 0);
    VDC_ASSERT(uv_timer_init(loop, &control->linger) == 0);
    control->listener.data = control;
    control->linger.data = control;
    control->open_handles = 2;
    rc = listen_at(control, err);
    if (rc != VDC_RC_OK) {
        uv_close((uv_handle_t *)&control->listener, on_handle_closed);
        uv_close((uv_handle_t *)&control->linger, on_handle_closed);
        return rc;
    }
    *out = control;
    return VDC_RC_OK;
}

static void on_linger(uv_timer_t *timer)
{
    struct vdc_control *control;

    VDC_CAST(control, timer->data, CONTROL_MAGIC);
    for (size_t i = 0; i < VDC_COUNT_OF(control->clients); i++) {
        if (control->clients[i] != NULL) {
            close_client(control->clients[i]);
        }
    }
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    struct vdc_control_client *client;

    (void)status;
    VDC_CAST(client, request->data, CLIENT_MAGIC);
    close_client(client);
}

void vdc_control_close(struct vdc_control *control)
{
    bool waits = false;

    if (control->closing) {
        return;
    }
    control->closing = true;
    (void)unlink(control->path);
    uv_close((uv_handle_t *)&control->listener, on_handle_closed);
    for (size_t i = 0; i < VDC_COUNT_OF(control->clients); i++) {
        struct vdc_control_client *client = control->clients[i];

        if (client == NULL) {
            continue;
        }
        client->shutdown.data = client;
        if (uv_shutdown(&client->shutdown, (uv_stream_t *)&client->pipe, on_shutdown) != 0) {
            close_client(client);
        } else {
            waits = true;
        }
    }
    if (waits) {
        (void)uv_timer_start(&control->linger, on_linger, VDC_CONTROL_LINGER_MS, 0);
    } else if (!uv_is_closing((uv_handle_t *)&control->linger)) {
        uv_close((uv_handle_t *)&control->linger, on_handle_closed);
    }
}
