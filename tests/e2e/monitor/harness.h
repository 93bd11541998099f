/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the node agent does for a monitor, for tests, blocking: makes a view and a launch
 * configuration, starts vdc-monitor, renews its lease, speaks the control protocol.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdbool.h>

#include <vdc/launch.h>
#include <vdc/line_reader.h>
#include <vdc/monitor_protocol.h>
#include <vdc/spawn.h>
#include <vdc/view.h>

/* Milliseconds that any wait may take before the test has failed: a bound against hanging only. */
#define WAIT_MS 60000

struct setup {
    const char *monitor; /* program */
    const char *kernel;
    const char *initrd;
    const char *dir; /* for everything */
};

struct guest {
    char dir[2048];
    struct vdc_launch launch;
    struct vdc_view_content content;
    void *page; /* of the view */
    int view_fd;
    int64_t lease_ns; /* length of each renewal */
    bool renew;       /* the harness renews while it waits */
    struct vdc_proc monitor;
    bool unconfined; /* start it with --unconfined */
    int sock;        /* -1: not connected */
    struct vdc_line_reader reader;
    struct vdc_monitor_state state; /* the last one that came */
    bool state_known;
    uint64_t last_id;
};

/* Begins a guest with a disk of 16 MiB at `disk` (made if it is not there), not yet started. */
void guest_init(struct guest *guest, const struct setup *setup, const char *name, const char *disk);
void guest_start(struct guest *guest, const struct setup *setup);
/* Publishes guest->content and sends `refresh`. */
void guest_publish(struct guest *guest);
bool guest_connect(struct guest *guest);
void guest_disconnect(struct guest *guest);
/* Sends a request and waits for its reply; false (with a line on stderr) unless it is OK. */
bool guest_request(struct guest *guest, struct vdc_monitor_request request,
                   struct vdc_monitor_message *reply);
bool guest_command(struct guest *guest, enum vdc_monitor_command command);
/* Waits until the state is `state`; false when it becomes stopped or failed instead, or too late. */
bool guest_wait(struct guest *guest, enum vdc_phase state);
/* Waits until the console holds `text`; false when too late. */
bool guest_wait_console(struct guest *guest, const char *text);
/* Reads messages for so long; leases of all started guests are renewed. */
void settle(int ms);
/* Waits for the monitor's process; its exit status, -1 if it was killed, -2 if it did not end. */
int guest_join(struct guest *guest);
/* Kills what is left and frees. */
void guest_end(struct guest *guest);
/* After the last guest_end(): removes the guests' common control group. */
void guests_end(void);
/* The struct was copied from `old` to `now`: the harness renews leases by address. */
void guest_moved(const struct guest *old, struct guest *now);
/* The console log (both files), all of it or what the present run has printed: what is behind the last
 * line that says that the guest was started anew. The caller frees. */
char *guest_console_all(const struct guest *guest);
char *guest_console(const struct guest *guest);

#endif
