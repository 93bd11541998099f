/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One partition's monitor, seen through DIR/monitor.sock. Connects and connects again until closed:
 * the first line after each connect is the monitor's whole state, so nothing is lost. Requests made
 * while there is no connection wait for one (bounded; the oldest that nobody waits for go first).
 *
 * This header and its .c file are the only place that knows monitor_protocol.h; the core has its own
 * words (agent_monitor.h).
 */
#ifndef VDC_NODE_AGENT_MONITOR_CLIENT_H
#define VDC_NODE_AGENT_MONITOR_CLIENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <uv.h>

#include <vdc/agent_monitor.h>
#include <vdc/spawn.h>

/* Between two attempts to connect: a monitor needs some milliseconds to open its socket. */
#define MONITOR_CONNECT_MS 20
/* Requests waiting for a connection or a reply. */
#define MONITOR_REQUESTS_MAX 64
/* Of them: looks at the view, of which one more says nothing new, and console reads of people. A hung
 * monitor that answers neither keeps its room for what it must do. */
#define MONITOR_REFRESHES_MAX 2
#define MONITOR_CONSOLE_READS_MAX 16

struct monitor_client;

struct monitor_console {
    uint64_t offset;
    uint64_t end;
    const void *data;
    size_t len;
};

struct monitor_client_handlers {
    /* qemu: its process as reported (pid 0: none). */
    void (*on_state)(void *data, const struct vdc_agent_monitor_state *state,
                     const struct vdc_proc *qemu, uint64_t console_end);
    /* console: not NULL for the reply to a read. */
    void (*on_reply)(void *data, uint64_t ticket, enum vdc_rc rc, const char *text,
                     const struct monitor_console *console);
};

struct monitor_client *agent_monitor_client_open(uv_loop_t *loop, const char *dir,
                                                 const struct monitor_client_handlers *handlers,
                                                 void *data);
/* ticket 0: no on_reply. unix_path: of the relay's socket, for the migrations. Handlers are never
 * called from within. */
void agent_monitor_client_ask(struct monitor_client *client, enum vdc_agent_monitor_request request,
                              uint64_t ticket, const char *unix_path, uint64_t bandwidth,
                              int64_t downtime_ns);
/* False: too many wait for an answer already. */
bool agent_monitor_client_read_console(struct monitor_client *client, uint64_t ticket,
                                       uint64_t offset, uint32_t max) VDC_MUST_USE;
/* No handler is called any more; requests without a reply are dropped. NULL is fine. */
void agent_monitor_client_close(struct monitor_client *client);

/* DIR/final.json: what a monitor left when it ended; false: nothing (readable). */
bool agent_monitor_read_final(const char *dir, struct vdc_agent_monitor_state *state,
                              uint64_t *console_end);
/* The pid of whoever listens on DIR/monitor.sock; 0: nobody. Blocking, local. */
pid_t agent_monitor_find_listener(const char *dir);

#endif
