/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server of the control protocol (monitor_protocol.h): the unix socket, its clients, lines in
 * and out. What a request means is the owner's.
 */
#ifndef VDC_CONTROL_H
#define VDC_CONTROL_H

#include <uv.h>

#include <vdc/err.h>
#include <vdc/monitor_protocol.h>

/* Bytes that may wait for one client that does not read; then it is cut off, and reads the whole
 * state when it connects again. Holds a reply of console_read and hundreds of states. */
#define VDC_CONTROL_QUEUE_MAX (1U << 20)
/* Milliseconds that the last messages get to reach their clients at the end. */
#define VDC_CONTROL_LINGER_MS 1000

struct vdc_control;
struct vdc_control_client;

struct vdc_control_config {
    const char *path; /* of the socket; a file that is there is removed */
    /* A client has connected: answer with the state (vdc_control_send). */
    void (*on_connect)(void *data, struct vdc_control_client *client);
    /* Answer exactly once, now, by vdc_control_send. */
    void (*on_request)(void *data, struct vdc_control_client *client,
                       const struct vdc_monitor_request *request);
    void *data;
};

enum vdc_rc vdc_control_open(uv_loop_t *loop, const struct vdc_control_config *config,
                             struct vdc_control **control, struct vdc_err *err) VDC_MUST_USE;
void vdc_control_send(struct vdc_control_client *client, const struct vdc_monitor_message *message);
void vdc_control_broadcast(struct vdc_control *control, const struct vdc_monitor_message *message);
/* Takes no more clients and requests, lets what was sent be delivered (bounded by
 * VDC_CONTROL_LINGER_MS), removes the socket, then frees itself. */
void vdc_control_close(struct vdc_control *control);

#endif
