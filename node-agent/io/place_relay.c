/* SPDX-License-Identifier: Apache-2.0 */
/* A place's migration relay: a program of its own, so that a stream survives the agent. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <vdc/file.h>
#include <vdc/log.h>

#include "places_internal.h"

#define RELAY_MAGIC UINT32_C(0x52454c59)
/* A relay whose other end never comes. One whose agent died before it could write the pid down is
 * found by nobody and ends by this alone, so it is short: both ends are there before a stream is
 * asked for. */
#define RELAY_TIMEOUT_S "30"

struct relay {
    uint32_t magic;
    struct place *place; /* NULL: stopped, only waits to be reaped */
    struct vdc_proc proc;
    struct vdc_proc_watch *watch;
    uv_pipe_t out; /* its first line says that it listens, and the port */
    bool listen;
    bool ready;
    unsigned handles;
    char line[64];
    size_t line_len;
};

static void release_relay(struct relay *relay)
{
    if (--relay->handles == 0) {
        relay->magic = 0;
        free(relay);
    }
}

static struct relay *relay_of(void *data)
{
    struct relay *relay;
    VDC_CAST(relay, data, RELAY_MAGIC);
    return relay;
}

static void on_relay_handle_closed(uv_handle_t *handle)
{
    release_relay(relay_of(handle->data));
}

static void close_relay_handles(struct relay *relay)
{
    vdc_proc_watch_close(relay->watch);
    relay->watch = NULL;
    uv_close((uv_handle_t *)&relay->out, on_relay_handle_closed);
}

static void on_relay_exit(void *data, const struct vdc_proc_exit *how)
{
    struct relay *relay = relay_of(data);
    struct place *place = relay->place;
    close_relay_handles(relay);
    if (place == NULL) {
        return;
    }
    place->relay = NULL;
    char text[128] = "";
    bool good = how->known && how->code == 0;
    if (!good) {
        snprintf(text, sizeof text, "the relay ended with %s %d, see relay.log",
                 how->sig != 0 ? "signal" : "code", how->sig != 0 ? how->sig : how->code);
    }
    struct vdc_agent_event event = {.kind = VDC_AGENT_RELAY_ENDED};
    event.relay.rc = good ? VDC_RC_OK : VDC_RC_UNAVAILABLE;
    event.relay.text = text;
    place_deliver(place, &event);
}

static void tell_relay_ready(struct relay *relay, uint16_t port)
{
    if (relay->ready || relay->place == NULL) {
        return;
    }
    relay->ready = true;
    struct vdc_agent_event event = {.kind = VDC_AGENT_RELAY_READY, .relay.port = port};
    place_deliver(relay->place, &event);
}

static void on_relay_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct relay *relay = relay_of(handle->data);
    /* When the line is full, what comes is read and dropped at its last byte. */
    size_t room = sizeof relay->line - 1 - relay->line_len;
    *buf = uv_buf_init(relay->line + relay->line_len - (room == 0), (unsigned)(room + (room == 0)));
}

static void on_relay_out(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
    (void)buf;
    struct relay *relay = relay_of(stream->data);
    if (got < 0) {
        uv_read_stop(stream);
        return;
    }
    relay->line_len = VDC_MIN(relay->line_len + (size_t)got, sizeof relay->line - 1);
    relay->line[relay->line_len] = 0;
    unsigned port;
    if (strchr(relay->line, '\n') != NULL && sscanf(relay->line, "port %u", &port) == 1 &&
        port <= UINT16_MAX && (port > 0) == relay->listen) {
        tell_relay_ready(relay, (uint16_t)port);
    }
}

static enum vdc_rc spawn_relay(struct relay *relay, const struct vdc_agent_action *action, int out,
                               struct vdc_err *err)
{
    const struct place *place = relay->place;
    const struct places_config *config = &place->owner->config;
    vdc_autofree char *program = vdc_asprintf("%s/%s", config->program_dir, PLACES_RELAY);
    vdc_autofree char *path = vdc_asprintf("%s/relay.sock", place->dir);
    vdc_autofree char *log = vdc_asprintf("%s/relay.log", place->dir);
    place_turn_log(place, "relay.log");
    /* A unix socket's address holds 107 bytes: a name in its own directory always fits. */
    vdc_autofree char *peer = vdc_asprintf("vdc://node/%s", action->relay.peer_node);
    vdc_autofree char *to = vdc_asprintf(strchr(action->relay.address, ':') ? "[%s]:%u" : "%s:%u",
                                         action->relay.address, action->relay.port);
    const char *argv[20] = {program};
    size_t n = 1;
    if (relay->listen) {
        argv[n++] = "--listen";
        argv[n++] = config->agent->address;
        argv[n++] = "--port";
        argv[n++] = "0";
    } else {
        argv[n++] = "--connect";
        argv[n++] = to;
    }
    const char *const rest[] = {
        "--unix", "relay.sock",           "--peer",      peer,
        "--ca",   config->agent->tls_ca,  "--cert",      config->agent->tls_cert,
        "--key",  config->agent->tls_key, "--timeout-s", RELAY_TIMEOUT_S,
    };
    for (size_t i = 0; i < VDC_COUNT_OF(rest); i++) {
        argv[n++] = rest[i];
    }
    enum vdc_rc rc = vdc_file_remove(path, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct vdc_spawn_fd fd = {.fd = out, .as = 1};
    struct vdc_spawn_config spawn = {
        .argv = argv,
        .cwd = place->dir,
        .fds = &fd,
        .fd_count = 1,
        .log_path = log,
        .detached = true,
    };
    return vdc_spawn(&spawn, &relay->proc, err);
}

static enum vdc_rc start_relay(struct place *place, const struct vdc_agent_action *action,
                               struct vdc_err *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return vdc_err_errno(err, errno, "pipe");
    }
    struct relay *relay = VDC_NEW(struct relay);
    relay->magic = RELAY_MAGIC;
    relay->place = place;
    relay->listen = action->relay.listen;
    enum vdc_rc rc = spawn_relay(relay, action, fds[1], err);
    close(fds[1]);
    if (rc == VDC_RC_OK) {
        rc = vdc_proc_watch_open(place->owner->config.loop, &relay->proc, on_relay_exit, relay,
                                 &relay->watch, err);
    }
    if (rc != VDC_RC_OK) {
        close(fds[0]);
        free(relay);
        return rc;
    }
    relay->handles = 1;
    uv_pipe_init(place->owner->config.loop, &relay->out, 0);
    relay->out.data = relay;
    if (uv_pipe_open(&relay->out, fds[0]) != 0) {
        close(fds[0]);
    } else {
        uv_read_start((uv_stream_t *)&relay->out, on_relay_alloc, on_relay_out);
    }
    place->relay = relay;
    return VDC_RC_OK;
}

void agent_places_start_relay(struct places *places, const struct vdc_agent_action *action)
{
    struct place *place = place_find_or_add(places, &action->key);
    struct vdc_err err;
    agent_places_stop_relay(places, &action->key);
    if (start_relay(place, action, &err) != VDC_RC_OK) {
        vdc_err_wrap(&err, "start the relay");
        place_fail_later(places, &action->key, VDC_AGENT_RELAY_ENDED, &err);
    }
}

void agent_places_stop_relay(struct places *places, const struct vdc_agent_key *key)
{
    struct place *place = place_find(places, key);
    if (place == NULL || place->relay == NULL) {
        return;
    }
    struct vdc_err err;
    place->relay->place = NULL;
    if (vdc_proc_kill(&place->relay->proc, SIGKILL, &err) != VDC_RC_OK &&
        err.rc != VDC_RC_NOT_FOUND) {
        vdc_log_error("stop the relay: %s", vdc_err_text(&err));
    }
    place->relay = NULL; /* its watch reaps and frees it */
}

void place_leave_relay(struct place *place)
{
    if (place->relay != NULL) {
        close_relay_handles(place->relay);
        place->relay = NULL;
    }
}
