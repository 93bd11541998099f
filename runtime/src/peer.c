/* SPDX-License-Identifier: Apache-2.0 */
#include <vdc/peer.h>

#include <stdio.h>
#include <string.h>

#include <vdc/base.h>

const char *vdc_peer_kind_name(enum vdc_peer_kind kind)
{
    switch (kind) {
    case VDC_PEER_NONE:
        return "none";
    case VDC_PEER_NODE:
        return "node";
    case VDC_PEER_MANAGER:
        return "manager";
    case VDC_PEER_USER:
        return "user";
    }
    return "none";
}

enum vdc_rc vdc_peer_parse(const char *uri, size_t len, struct vdc_peer *peer)
{
    static const enum vdc_peer_kind kinds[] = {VDC_PEER_NODE, VDC_PEER_MANAGER, VDC_PEER_USER};
    *peer = (struct vdc_peer){0};
    for (size_t i = 0; i < VDC_COUNT_OF(kinds); i++) {
        char prefix[32];
        int n = snprintf(prefix, sizeof(prefix), "vdc://%s/", vdc_peer_kind_name(kinds[i]));
        size_t prefix_len = (size_t)n;
        if (len <= prefix_len || memcmp(uri, prefix, prefix_len) != 0) {
            continue;
        }
        char name[VDC_NAME_CAP] = {0};
        size_t name_len = len - prefix_len;
        /* A NUL inside would make a longer name look like a shorter one. */
        if (name_len > VDC_NAME_MAX || memchr(uri, '\0', len) != NULL) {
            return VDC_RC_INVALID;
        }
        memcpy(name, uri + prefix_len, name_len);
        if (!vdc_name_valid(name)) {
            return VDC_RC_INVALID;
        }
        peer->kind = kinds[i];
        vdc_str_set(peer->name, sizeof(peer->name), name);
        return VDC_RC_OK;
    }
    return VDC_RC_INVALID;
}

void vdc_peer_to_text(const struct vdc_peer *peer, char text[VDC_PEER_TEXT_CAP])
{
    if (peer->kind == VDC_PEER_NONE) {
        vdc_str_set(text, VDC_PEER_TEXT_CAP, "anybody");
        return;
    }
    snprintf(text, VDC_PEER_TEXT_CAP, "vdc://%s/%s", vdc_peer_kind_name(peer->kind),
             peer->name[0] != '\0' ? peer->name : "(any)");
}

bool vdc_peer_equal(const struct vdc_peer *a, const struct vdc_peer *b)
{
    return a->kind == b->kind && strcmp(a->name, b->name) == 0;
}

bool vdc_peer_matches(const struct vdc_peer *peer, const struct vdc_peer *expected)
{
    if (expected->kind == VDC_PEER_NONE) {
        return true;
    }
    return peer->kind == expected->kind &&
           (expected->name[0] == '\0' || strcmp(peer->name, expected->name) == 0);
}
