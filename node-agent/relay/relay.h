/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One byte stream between a unix socket and a mutual-TLS connection, both directions, with
 * backpressure and half-close. QEMU's migration goes through it, so that QEMU needs neither keys nor
 * network.
 */
#ifndef VDC_RELAY_H
#define VDC_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include <vdc/tls.h>

struct uv_loop_s;
struct relay;

/* Bytes that wait on either side before the other is no longer read: at 10 Gbit/s one millisecond. */
#define RELAY_QUEUE_HIGH (UINT32_C(1) << 20)

struct relay_config {
    const char *unix_path; /* made by us, removed when its one connection has come */
    const char *address;   /* to dial once the unix side is there; or NULL: */
    const char *listen_at; /* "10.77.0.11:0" */
    struct vdc_peer peer;  /* who must be at the other end */
    uint32_t timeout_s;    /* until both ends are connected */
};

/* The config and its strings must stay. Also after an error the loop is to be run to its end and the
 * relay to be freed. */
enum vdc_rc relay_open(struct vdc_tls_context *context, const struct relay_config *config,
                       struct relay **relay, struct vdc_err *err) VDC_MUST_USE;
/* 0 when dialling. */
uint16_t relay_port(const struct relay *relay);
/* After the loop has ended: OK if both ends closed in order. */
enum vdc_rc relay_result(const struct relay *relay, struct vdc_err *err) VDC_MUST_USE;
void relay_free(struct relay *relay);

#endif
