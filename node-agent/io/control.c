/* SPDX-License-Identifier: Apache-2.0 */
#include "control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/clock.h>
#include <vdc/file.h>
#include <vdc/monitor_protocol.h>
#include <vdc/quantity.h>

#include "inspect.h"

#define CONTROL_MAGIC UINT32_C(0x4143544c)
#define CLIENT_MAGIC UINT32_C(0x41434c49)

struct client;

struct control {
    uint32_t magic;
    uv_pipe_t pipe;
    const struct vdc_agent *agent;
    char *path;
    struct client *clients[CONTROL_CLIENTS_MAX]; /* NULL: free */
    unsigned handles;                            /* the pipe and the clients; 0: freed */
};

/* --- tables --- */

static void render_zones(const struct vdc_agent *agent, vdc_mono now, struct vdc_buf *out)
{
    vdc_buf_printf(out, "%-16s %-8s %12s %12s %-16s %s\n", "ZONE", "JOINED", "EPOCH", "INCARNATION",
                   "LEADER", "LEASE");
    struct vdc_agent_zone_info zone;
    for (size_t i = 0; vdc_agent_zone_at(agent, i, &zone); i++) {
        char left[VDC_QUANTITY_TEXT_CAP] = "none";
        if (vdc_run_lease_valid(&zone.lease, now)) {
            vdc_quantity_duration_text(vdc_mono_sub(zone.lease.deadline, now), left);
        }
        vdc_buf_printf(out, "%-16s %-8s %12llu %12llu %-16s %s\n", zone.name,
                       zone.joined ? "yes" : "no", (unsigned long long)zone.epoch,
                       (unsigned long long)zone.incarnation,
                       zone.leader[0] != 0 ? zone.leader : "-", left);
    }
}

static void render_guests(const struct vdc_agent *agent, struct vdc_buf *out)
{
    vdc_buf_printf(out, "\n%-16s %-36s %5s %-9s %-9s %-10s %8s %s\n", "PARTITION", "ID", "GEN",
                   "WANTED", "PROCESS", "STATE", "FAILURES", "REASON");
    struct vdc_agent_guest_info guest;
    for (size_t i = 0; vdc_agent_guest_at(agent, i, &guest); i++) {
        char id[VDC_ID_TEXT_CAP];
        vdc_id_to_text(&guest.key.id, id);
        vdc_buf_printf(out, "%-16s %-36s %5llu %-9s %-9s %-10s %8u %s\n",
                       guest.partition != NULL ? guest.partition->name : "-", id,
                       (unsigned long long)guest.key.generation,
                       guest.partition != NULL ? vdc_run_name(guest.partition->run) : "gone",
                       vdc_agent_process_name(guest.process),
                       vdc_guest_state_name(guest.report.state), guest.failures,
                       guest.report.reason);
    }
}

static void render_sessions(const struct vdc_agent *agent, struct vdc_buf *out)
{
    vdc_buf_printf(out, "\n%-8s %-16s %-5s %-10s %12s\n", "SESSION", "MANAGER", "UP", "FOLLOWS",
                   "SENT");
    struct vdc_agent_session_info session;
    for (uint32_t i = 0; vdc_agent_session_at(agent, i, &session); i++) {
        if (session.manager[0] != 0) {
            vdc_buf_printf(out, "%-8u %-16s %-5s %-10s %12llu\n", i, session.manager,
                           session.up ? "yes" : "no", session.following ? "yes" : "no",
                           (unsigned long long)session.sent_sequence);
        }
    }
}

void agent_control_render(const struct vdc_agent *agent, vdc_mono now, struct vdc_buf *out)
{
    render_zones(agent, now, out);
    render_guests(agent, out);
    render_sessions(agent, out);
    vdc_buf_puts(out, "\n");
    agent_inspect_render(vdc_agent_allocdb(agent), out);
}

/* --- the same as JSON --- */

static void set_u64(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

/* What monitors say may hold bytes that are no UTF-8; they are shown as '?'. */
static void set_text(json_t *object, const char *key, const char *text)
{
    json_t *value = json_string(text);
    if (value == NULL) {
        vdc_autofree char *plain = vdc_strdup(text);
        for (char *c = plain; *c != 0; c++) {
            *c = (*c & 0x80) != 0 ? '?' : *c;
        }
        value = json_string(plain);
    }
    json_object_set_new(object, key, value);
}

static json_t *zones_json(const struct vdc_agent *agent, vdc_mono now)
{
    json_t *list = json_array();
    struct vdc_agent_zone_info zone;
    for (size_t i = 0; vdc_agent_zone_at(agent, i, &zone); i++) {
        json_t *item = json_object();
        bool valid = vdc_run_lease_valid(&zone.lease, now);
        set_text(item, "name", zone.name);
        json_object_set_new(item, "joined", json_boolean(zone.joined));
        set_u64(item, "epoch", zone.epoch);
        set_u64(item, "incarnation", zone.incarnation);
        set_text(item, "leader", zone.leader);
        json_object_set_new(item, "lease_left_ms",
                            valid ? json_integer(vdc_mono_sub(zone.lease.deadline, now) / VDC_MS)
                                  : json_null());
        json_array_append_new(list, item);
    }
    return list;
}

static json_t *guests_json(const struct vdc_agent *agent)
{
    json_t *list = json_array();
    struct vdc_agent_guest_info guest;
    for (size_t i = 0; vdc_agent_guest_at(agent, i, &guest); i++) {
        char id[VDC_ID_TEXT_CAP];
        vdc_id_to_text(&guest.key.id, id);
        json_t *item = json_object();
        const struct vdc_partition *partition = guest.partition;
        json_object_set_new(item, "name",
                            partition != NULL ? json_string(partition->name) : json_null());
        set_text(item, "id", id);
        set_u64(item, "generation", guest.key.generation);
        set_text(item, "wanted", partition != NULL ? vdc_run_name(partition->run) : "gone");
        set_text(item, "process", vdc_agent_process_name(guest.process));
        set_text(item, "state", vdc_guest_state_name(guest.report.state));
        set_u64(item, "failures", guest.failures);
        set_text(item, "reason", guest.report.reason);
        json_array_append_new(list, item);
    }
    return list;
}

static json_t *sessions_json(const struct vdc_agent *agent)
{
    json_t *list = json_array();
    struct vdc_agent_session_info session;
    for (uint32_t i = 0; vdc_agent_session_at(agent, i, &session); i++) {
        if (session.manager[0] == 0) {
            continue;
        }
        json_t *item = json_object();
        set_text(item, "manager", session.manager);
        json_object_set_new(item, "up", json_boolean(session.up));
        json_object_set_new(item, "following", json_boolean(session.following));
        set_u64(item, "sent_sequence", session.sent_sequence);
        json_array_append_new(list, item);
    }
    return list;
}

void agent_control_render_json(const struct vdc_agent *agent, vdc_mono now, struct vdc_buf *out)
{
    json_t *root = json_object();
    json_object_set_new(root, "zones", zones_json(agent, now));
    json_object_set_new(root, "guests", guests_json(agent));
    json_object_set_new(root, "sessions", sessions_json(agent));
    json_object_set_new(root, "database", agent_inspect_json(vdc_agent_allocdb(agent)));
    agent_inspect_dump(root, out);
}

/* --- the socket --- */

struct client {
    uint32_t magic;
    uv_pipe_t pipe;
    uv_write_t write;
    struct control *control;
    char line[CONTROL_LINE_MAX + 1];
    size_t line_len;
    struct vdc_buf text;
};

static struct client *client_of(void *data)
{
    struct client *client;
    VDC_CAST(client, data, CLIENT_MAGIC);
    return client;
}

static struct control *control_of(void *data)
{
    struct control *control;
    VDC_CAST(control, data, CONTROL_MAGIC);
    return control;
}

static void release(struct control *control)
{
    if (--control->handles == 0) {
        free(control->path);
        control->magic = 0;
        free(control);
    }
}

static void on_client_closed(uv_handle_t *handle)
{
    struct client *client = client_of(handle->data);
    struct control *control = client->control;
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        if (control->clients[i] == client) {
            control->clients[i] = NULL;
        }
    }
    vdc_buf_deinit(&client->text);
    client->magic = 0;
    free(client);
    release(control);
}

static void close_client(struct client *client)
{
    if (!uv_is_closing((uv_handle_t *)&client->pipe)) {
        uv_close((uv_handle_t *)&client->pipe, on_client_closed);
    }
}

static void on_written(uv_write_t *req, int status)
{
    (void)status;
    close_client(client_of(req->data));
}

static void answer(struct client *client)
{
    const struct vdc_agent *agent = client->control->agent;
    uv_read_stop((uv_stream_t *)&client->pipe);
    if (strcmp(client->line, "json") == 0) {
        agent_control_render_json(agent, vdc_clock_mono(), &client->text);
    } else if (client->line[0] == 0 || strcmp(client->line, "text") == 0) {
        agent_control_render(agent, vdc_clock_mono(), &client->text);
    } else {
        vdc_buf_puts(&client->text, "unknown request: expected \"text\" or \"json\"\n");
    }
    client->write.data = client;
    uv_buf_t buf = uv_buf_init(client->text.data, (unsigned)client->text.len);
    if (uv_write(&client->write, (uv_stream_t *)&client->pipe, &buf, 1, on_written) != 0) {
        close_client(client);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct client *client = client_of(handle->data);
    *buf = uv_buf_init(client->line + client->line_len,
                       (unsigned)(CONTROL_LINE_MAX - client->line_len));
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
    (void)buf;
    struct client *client = client_of(stream->data);
    if (got < 0 && got != UV_EOF) {
        close_client(client);
        return;
    }
    client->line_len += got > 0 ? (size_t)got : 0;
    client->line[client->line_len] = 0;
    char *end = strchr(client->line, '\n');
    if (end != NULL) {
        *end = 0;
    }
    if (end != NULL || got == UV_EOF || client->line_len == CONTROL_LINE_MAX) {
        answer(client);
    }
}

static void on_connection(uv_stream_t *server, int status)
{
    struct control *control = control_of(server->data);
    if (status != 0) {
        return;
    }
    struct client *client = VDC_NEW(struct client);
    client->magic = CLIENT_MAGIC;
    client->control = control;
    uv_pipe_init(server->loop, &client->pipe, 0);
    client->pipe.data = client;
    control->handles++;
    size_t slot = 0;
    while (slot < CONTROL_CLIENTS_MAX && control->clients[slot] != NULL) {
        slot++;
    }
    if (uv_accept(server, (uv_stream_t *)&client->pipe) != 0 || slot == CONTROL_CLIENTS_MAX) {
        close_client(client);
        return;
    }
    control->clients[slot] = client;
    if (uv_read_start((uv_stream_t *)&client->pipe, on_alloc, on_read) != 0) {
        close_client(client);
    }
}

enum vdc_rc agent_control_open(uv_loop_t *loop, const char *run_dir, const struct vdc_agent *agent,
                               struct control **out, struct vdc_err *err)
{
    struct control *control = VDC_NEW(struct control);
    control->magic = CONTROL_MAGIC;
    control->handles = 1;
    control->agent = agent;
    control->path = vdc_asprintf("%s/agent.sock", run_dir);
    uv_pipe_init(loop, &control->pipe, 0);
    control->pipe.data = control;
    enum vdc_rc rc = vdc_file_remove(control->path, err);
    char path[VDC_UNIX_PATH_CAP] = "";
    int dirfd = -1;
    if (rc == VDC_RC_OK) {
        rc = vdc_unix_path_open(control->path, path, &dirfd, err);
    }
    mode_t mask = umask(0177);
    int status = rc == VDC_RC_OK ? uv_pipe_bind(&control->pipe, path) : 0;
    umask(mask);
    if (dirfd >= 0) {
        close(dirfd);
    }
    if (rc == VDC_RC_OK && status == 0) {
        status = uv_listen((uv_stream_t *)&control->pipe, 8, on_connection);
    }
    if (rc == VDC_RC_OK && status != 0) {
        rc = vdc_err_set(err, VDC_RC_IO, "listen on %s: %s", control->path, uv_strerror(status));
    }
    if (rc != VDC_RC_OK) {
        agent_control_close(control);
        return rc;
    }
    *out = control;
    return rc;
}

static void on_control_closed(uv_handle_t *handle)
{
    release(control_of(handle->data));
}

void agent_control_close(struct control *control)
{
    if (control == NULL) {
        return;
    }
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        if (control->clients[i] != NULL) {
            close_client(control->clients[i]);
        }
    }
    uv_close((uv_handle_t *)&control->pipe, on_control_closed);
}

static enum vdc_rc print_answer(int fd, const char *path, const char *request, struct vdc_err *err)
{
    /* EPIPE: it has closed already, and what it may have said before is still to be read. */
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0 && errno != EPIPE) {
        return vdc_err_errno(err, errno, "write to %s", path);
    }
    char bytes[4096];
    ssize_t got;
    size_t total = 0;
    while ((got = read(fd, bytes, sizeof bytes)) > 0) {
        total += (size_t)got;
        if (fwrite(bytes, 1, (size_t)got, stdout) != (size_t)got) {
            return vdc_err_errno(err, errno, "write to standard output");
        }
    }
    if (got < 0 && errno != ECONNRESET) {
        return vdc_err_errno(err, errno, "read %s", path);
    }
    return total > 0
               ? VDC_RC_OK
               : vdc_err_set(err, VDC_RC_UNAVAILABLE,
                             "%s gave no answer: the agent ends, or too many ask it: try again",
                             path);
}

enum vdc_rc agent_control_show(const char *run_dir, bool json, struct vdc_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    vdc_autofree char *path = vdc_asprintf("%s/agent.sock", run_dir);
    int dirfd;
    enum vdc_rc rc = vdc_unix_path_open(path, address.sun_path, &dirfd, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        rc = vdc_err_errno(err, errno, "connect to %s", path);
    }
    if (dirfd >= 0) {
        close(dirfd);
    }
    if (rc == VDC_RC_OK) {
        rc = print_answer(fd, path, json ? "json\n" : "text\n", err);
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}
