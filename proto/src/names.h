/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of enum names, shared by the two codecs of this directory. */
#ifndef VDC_PROTO_NAMES_H
#define VDC_PROTO_NAMES_H

#include <stddef.h>

extern const char *const vdc_guest_state_names[];
extern const char *const vdc_command_kind_names[];
extern const char *const vdc_node_state_names[];
extern const char *const vdc_operation_kind_names[];
extern const char *const vdc_operation_state_names[];
extern const char *const vdc_desired_names[];

/* The index of `name`, or -1. */
int vdc_enum_find(const char *const *names, size_t count, const char *name);

#endif
