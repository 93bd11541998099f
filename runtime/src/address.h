/* SPDX-License-Identifier: Apache-2.0 */
/* "10.0.0.2:7444", "[fd00::2]:7444", "name:7444": text to socket addresses and back. */
#ifndef VDC_RUNTIME_ADDRESS_H
#define VDC_RUNTIME_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include <vdc/tls.h>

/* RFC 1035: 253 bytes of a name. */
#define VDC_HOST_CAP 254

struct vdc_address {
    char host[VDC_HOST_CAP];
    uint16_t port;
    bool is_literal; /* `sockaddr` is filled; else `host` must be looked up */
    struct sockaddr_storage sockaddr;
};

/* INVALID without a port, with an empty host, or with bytes that no host name has. */
enum vdc_rc vdc_address_parse(const char *text, struct vdc_address *address,
                              struct vdc_err *err) VDC_MUST_USE;
/* The text of a socket address. */
void vdc_address_to_text(const struct sockaddr_storage *sockaddr, char text[VDC_ADDRESS_CAP]);
void vdc_address_set_port(struct sockaddr_storage *sockaddr, uint16_t port);
uint16_t vdc_address_port(const struct sockaddr_storage *sockaddr);

#endif
