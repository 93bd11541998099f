/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is at the other end: the identity in a certificate, as the URI vdc://KIND/NAME (a subject
 * alternative name, RFC 5280 4.2.1.6). Host names and addresses prove nothing here.
 */
#ifndef VDC_PEER_H
#define VDC_PEER_H

#include <stdbool.h>
#include <stddef.h>

#include <vdc/limits.h>
#include <vdc/rc.h>

enum vdc_peer_kind {
    VDC_PEER_NONE, /* no certificate; as an expectation: anybody */
    VDC_PEER_NODE,
    VDC_PEER_MANAGER,
    VDC_PEER_USER,
};

/* Sets of kinds. */
#define VDC_PEER_BIT(kind) (1u << (kind))
#define VDC_PEERS_ALL \
    (VDC_PEER_BIT(VDC_PEER_NODE) | VDC_PEER_BIT(VDC_PEER_MANAGER) | VDC_PEER_BIT(VDC_PEER_USER))

struct vdc_peer {
    enum vdc_peer_kind kind;
    char name[VDC_NAME_CAP]; /* as an expectation, "": any name of that kind */
};

#define VDC_PEER_TEXT_CAP (VDC_NAME_CAP + 16)

/* "node", "manager", "user", "none". */
const char *vdc_peer_kind_name(enum vdc_peer_kind kind);
/* Of exactly `len` bytes: "vdc://node/n1". INVALID for anything else (peer is then none). */
enum vdc_rc vdc_peer_parse(const char *uri, size_t len, struct vdc_peer *peer) VDC_MUST_USE;
/* "vdc://node/n1"; "vdc://node/(any)" for any name; "anybody" for none. */
void vdc_peer_to_text(const struct vdc_peer *peer, char text[VDC_PEER_TEXT_CAP]);
bool vdc_peer_equal(const struct vdc_peer *a, const struct vdc_peer *b);
/* Whether `peer` is one that `expected` means. */
bool vdc_peer_matches(const struct vdc_peer *peer, const struct vdc_peer *expected);

#endif
