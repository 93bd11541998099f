/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>

static bool host_valid(const char *host)
{
    for (const char *c = host; *c != '\0'; c++) {
        bool ok = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                  (*c >= '0' && *c <= '9') || *c == '.' || *c == '-' || *c == '_';
        if (!ok) {
            return false;
        }
    }
    return *host != '\0';
}

enum vdc_rc vdc_address_parse(const char *text, struct vdc_address *address, struct vdc_err *err)
{
    memset(address, 0, sizeof(*address));
    const char *colon = strrchr(text, ':');
    bool bracketed = text[0] == '[';
    size_t host_len = colon != NULL ? (size_t)(colon - text) : 0;
    uint64_t port;
    if (colon == NULL || !vdc_parse_u64(colon + 1, UINT16_MAX, &port)) {
        return vdc_err_set(err, VDC_RC_INVALID, "address %.300s: wanted HOST:PORT", text);
    }
    if (bracketed && (host_len < 2 || text[host_len - 1] != ']')) {
        return vdc_err_set(err, VDC_RC_INVALID, "address %.300s: wanted [IPV6]:PORT", text);
    }
    const char *host = text + (bracketed ? 1 : 0);
    host_len -= bracketed ? 2 : 0;
    if (host_len >= sizeof(address->host)) {
        return vdc_err_set(err, VDC_RC_INVALID, "address %.300s: the host is too long", text);
    }
    memcpy(address->host, host, host_len);
    address->port = (uint16_t)port;

    struct sockaddr_in *in4 = (struct sockaddr_in *)(void *)&address->sockaddr;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&address->sockaddr;
    if (bracketed) {
        if (inet_pton(AF_INET6, address->host, &in6->sin6_addr) != 1) {
            return vdc_err_set(err, VDC_RC_INVALID, "address %.300s: no IPv6 address", text);
        }
        address->sockaddr.ss_family = AF_INET6;
        address->is_literal = true;
    } else if (inet_pton(AF_INET, address->host, &in4->sin_addr) == 1) {
        address->sockaddr.ss_family = AF_INET;
        address->is_literal = true;
    } else if (!host_valid(address->host)) {
        return vdc_err_set(err, VDC_RC_INVALID, "address %.300s: no valid host", text);
    }
    if (address->is_literal) {
        vdc_address_set_port(&address->sockaddr, address->port);
    }
    return VDC_RC_OK;
}

void vdc_address_set_port(struct sockaddr_storage *sockaddr, uint16_t port)
{
    if (sockaddr->ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)(void *)sockaddr)->sin6_port = htons(port);
    } else {
        ((struct sockaddr_in *)(void *)sockaddr)->sin_port = htons(port);
    }
}

uint16_t vdc_address_port(const struct sockaddr_storage *sockaddr)
{
    if (sockaddr->ss_family == AF_INET6) {
        return ntohs(((const struct sockaddr_in6 *)(const void *)sockaddr)->sin6_port);
    }
    return ntohs(((const struct sockaddr_in *)(const void *)sockaddr)->sin_port);
}

void vdc_address_to_text(const struct sockaddr_storage *sockaddr, char text[VDC_ADDRESS_CAP])
{
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = vdc_address_port(sockaddr);
    if (sockaddr->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sockaddr;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        snprintf(text, VDC_ADDRESS_CAP, "[%s]:%u", host, port);
    } else {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)(const void *)sockaddr;
        inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
        snprintf(text, VDC_ADDRESS_CAP, "%s:%u", host, port);
    }
}
