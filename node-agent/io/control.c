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
#include <vdc/quantity.h>

#include "monitor_client.h"

struct control {
    uv_pipe_t pipe;
    const struct vdc_agent *agent;
    char *path;
};

/* --- tables --- */

static void render_node(const struct vdc_agent *agent, struct vdc_buf *out)
{
    const struct vdc_allocdb *db = vdc_agent_allocdb(agent);
    struct vdc_digest digest = vdc_allocdb_digest(db);
    char digest_text[VDC_DIGEST_TEXT_CAP];
    char total[VDC_QUANTITY_TEXT_CAP];
    char free_text[VDC_QUANTITY_TEXT_CAP];
    vdc_digest_to_text(&digest, digest_text);
    vdc_quantity_bytes_text(vdc_allocdb_memory_bytes(db), total);
    vdc_quantity_bytes_text(vdc_allocdb_memory_free_bytes(db), free_text);
    vdc_buf_printf(out, "sequence %llu  digest %s\n", (unsigned long long)vdc_allocdb_sequence(db),
                   digest_text);
    vdc_buf_printf(out, "cpus %u  memory %s  free %s\n\n", vdc_allocdb_count_cpus(db), total,
                   free_text);
    vdc_buf_printf(out, "%-6s %6s %10s %12s %12s\n", "NUMA", "CPUS", "CPUS-FREE", "MEMORY", "FREE");
    struct vdc_numa_state numa;
    for (size_t i = 0; vdc_allocdb_numa_at(db, i, &numa); i++) {
        vdc_quantity_bytes_text(numa.memory_bytes, total);
        vdc_quantity_bytes_text(numa.free_bytes, free_text);
        vdc_buf_printf(out, "%-6u %6u %10u %12s %12s\n", numa.number, numa.cpus, numa.cpus_free,
                       total, free_text);
    }
}

static void render_zones(const struct vdc_agent *agent, vdc_mono now, struct vdc_buf *out)
{
    vdc_buf_printf(out, "\n%-16s %-8s %12s %12s %-16s %s\n", "ZONE", "JOINED", "EPOCH",
                   "INCARNATION", "LEADER", "LEASE");
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
    render_node(agent, out);
    render_zones(agent, now, out);
    render_guests(agent, out);
    render_sessions(agent, out);
}

/* --- the socket --- */

struct reply {
    uv_write_t req;
    uv_pipe_t pipe;
    struct vdc_buf text;
};

static void on_reply_closed(uv_handle_t *handle)
{
    struct reply *reply = vdc_container_of(handle, struct reply, pipe);
    vdc_buf_deinit(&reply->text);
    free(reply);
}

static void on_written(uv_write_t *req, int status)
{
    (void)status;
    struct reply *reply = vdc_container_of(req, struct reply, req);
    uv_close((uv_handle_t *)&reply->pipe, on_reply_closed);
}

static void on_connection(uv_stream_t *server, int status)
{
    struct control *control = server->data;
    if (status != 0) {
        return;
    }
    struct reply *reply = VDC_NEW(struct reply);
    uv_pipe_init(server->loop, &reply->pipe, 0);
    if (uv_accept(server, (uv_stream_t *)&reply->pipe) != 0) {
        uv_close((uv_handle_t *)&reply->pipe, on_reply_closed);
        return;
    }
    agent_control_render(control->agent, vdc_clock_mono(), &reply->text);
    uv_buf_t buf = uv_buf_init(reply->text.data, (unsigned)reply->text.len);
    if (uv_write(&reply->req, (uv_stream_t *)&reply->pipe, &buf, 1, on_written) != 0) {
        on_written(&reply->req, -1);
    }
}

enum vdc_rc agent_control_open(uv_loop_t *loop, const char *run_dir, const struct vdc_agent *agent,
                               struct control **out, struct vdc_err *err)
{
    struct control *control = VDC_NEW(struct control);
    control->agent = agent;
    control->path = vdc_asprintf("%s/agent.sock", run_dir);
    uv_pipe_init(loop, &control->pipe, 0);
    control->pipe.data = control;
    enum vdc_rc rc = vdc_file_remove(control->path, err);
    char path[MONITOR_UNIX_PATH_CAP] = "";
    int dirfd = -1;
    if (rc == VDC_RC_OK) {
        rc = agent_unix_path_open(control->path, path, &dirfd, err);
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
    struct control *control = handle->data;
    free(control->path);
    free(control);
}

void agent_control_close(struct control *control)
{
    if (control != NULL) {
        uv_close((uv_handle_t *)&control->pipe, on_control_closed);
    }
}

enum vdc_rc agent_control_show(const char *run_dir, struct vdc_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    vdc_autofree char *path = vdc_asprintf("%s/agent.sock", run_dir);
    int dirfd;
    enum vdc_rc rc = agent_unix_path_open(path, address.sun_path, &dirfd, err);
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
    if (rc != VDC_RC_OK) {
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    char bytes[4096];
    ssize_t got;
    while ((got = read(fd, bytes, sizeof bytes)) > 0) {
        fwrite(bytes, 1, (size_t)got, stdout);
    }
    close(fd);
    return got == 0 ? VDC_RC_OK : vdc_err_errno(err, errno, "read %s", path);
}
