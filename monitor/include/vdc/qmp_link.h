/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection to one QEMU's QMP socket on the libuv loop: text lines out, some with a descriptor
 * beside them, decoded messages in. libuv's pipes pass only its own handles, so this one works on
 * the plain socket.
 */
#ifndef VDC_QMP_LINK_H
#define VDC_QMP_LINK_H

#include <uv.h>

#include <vdc/buf.h>
#include <vdc/qmp.h>

struct vdc_qmp_link;

typedef void (*vdc_qmp_message_cb)(void *data, const struct vdc_qmp_message *message);
/* Once, when QEMU has closed or broken the protocol; nothing comes afterwards. */
typedef void (*vdc_qmp_broken_cb)(void *data, const char *why);

/* Takes the connected, non-blocking socket. */
struct vdc_qmp_link *vdc_qmp_link_open(uv_loop_t *loop, int fd, vdc_qmp_message_cb on_message,
                                       vdc_qmp_broken_cb on_broken, void *data);
/* Sends a line; with fd >= 0 a copy of that descriptor goes with its first byte. What QEMU does not
 * take at once is queued (the caller bounds its open commands). */
void vdc_qmp_link_send(struct vdc_qmp_link *link, const struct vdc_buf *line, int fd);
/* Reads what is there without waiting for the loop: after QEMU's end its last words. */
void vdc_qmp_link_drain(struct vdc_qmp_link *link);
/* NULL is fine. The pointer is dead afterwards; memory is freed in a later turn of the loop. */
void vdc_qmp_link_close(struct vdc_qmp_link *link);

#endif
