/* SPDX-License-Identifier: Apache-2.0 */
/* The names of the enums that messages and records carry as text. */
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/record.h>

#include "names.h"

static const char *name_of(const char *const *names, size_t count, int value)
{
    VDC_ASSERT(value >= 0 && (size_t)value < count);
    return names[value];
}

int vdc_enum_find(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

#define X(name, text) text,
const char *const vdc_guest_state_names[] = {VDC_GUEST_STATES(X)};
const char *const vdc_command_kind_names[] = {VDC_COMMAND_KINDS(X)};
const char *const vdc_node_state_names[] = {VDC_NODE_STATES(X)};
const char *const vdc_operation_kind_names[] = {VDC_OPERATION_KINDS(X)};
const char *const vdc_operation_state_names[] = {VDC_OPERATION_STATES(X)};
#undef X
const char *const vdc_desired_names[] = {"running", "stopped", "absent"};
static const char *const msg_kind_names[] = {
    "hello",       "welcome",    "zone_lead", "zone_joined",    "lease_ask",
    "lease_grant", "tx",         "tx_result", "records",        "snapshot",
    "guest",       "guests_end", "command",   "command_result", "bye"};

const char *vdc_guest_state_name(enum vdc_guest_state state)
{
    return name_of(vdc_guest_state_names, VDC_COUNT_OF(vdc_guest_state_names), (int)state);
}

int vdc_guest_state_find(const char *name)
{
    return vdc_enum_find(vdc_guest_state_names, VDC_COUNT_OF(vdc_guest_state_names), name);
}

const char *vdc_command_kind_name(enum vdc_command_kind kind)
{
    return name_of(vdc_command_kind_names, VDC_COUNT_OF(vdc_command_kind_names), (int)kind);
}

const char *vdc_node_state_name(enum vdc_node_state state)
{
    return name_of(vdc_node_state_names, VDC_COUNT_OF(vdc_node_state_names), (int)state);
}

const char *vdc_desired_name(enum vdc_desired desired)
{
    return name_of(vdc_desired_names, VDC_COUNT_OF(vdc_desired_names), (int)desired);
}

const char *vdc_operation_kind_name(enum vdc_operation_kind kind)
{
    return name_of(vdc_operation_kind_names, VDC_COUNT_OF(vdc_operation_kind_names), (int)kind);
}

const char *vdc_operation_state_name(enum vdc_operation_state state)
{
    return name_of(vdc_operation_state_names, VDC_COUNT_OF(vdc_operation_state_names), (int)state);
}

const char *vdc_msg_kind_name(enum vdc_msg_kind kind)
{
    return name_of(msg_kind_names, VDC_COUNT_OF(msg_kind_names), (int)kind);
}

void vdc_key_zone(char key[VDC_KEY_CAP], const char *zone)
{
    snprintf(key, VDC_KEY_CAP, VDC_STORE_PREFIX "zones/%s", zone);
}

void vdc_key_leader(char key[VDC_KEY_CAP], const char *zone)
{
    snprintf(key, VDC_KEY_CAP, VDC_STORE_PREFIX "leaders/%s", zone);
}

void vdc_key_policy(char key[VDC_KEY_CAP], const char *zone, uint64_t version)
{
    snprintf(key, VDC_KEY_CAP, VDC_STORE_PREFIX "policies/%s/%010llu", zone,
             (unsigned long long)version);
}

void vdc_key_node(char key[VDC_KEY_CAP], const char *zone, const char *node)
{
    snprintf(key, VDC_KEY_CAP, VDC_STORE_PREFIX "nodes/%s/%s", zone, node);
}

void vdc_key_partition(char key[VDC_KEY_CAP], const char *zone, const struct vdc_id *id)
{
    char text[VDC_ID_TEXT_CAP];
    vdc_id_to_text(id, text);
    snprintf(key, VDC_KEY_CAP, VDC_STORE_PREFIX "partitions/%s/%s", zone, text);
}

void vdc_key_operation(char key[VDC_KEY_CAP], const char *zone, const struct vdc_id *id)
{
    char text[VDC_ID_TEXT_CAP];
    vdc_id_to_text(id, text);
    snprintf(key, VDC_KEY_CAP, VDC_STORE_PREFIX "operations/%s/%s", zone, text);
}
