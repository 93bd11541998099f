/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The strict YAML loader: libyaml's events into a `struct vdc_tree` (vdc/tree.h). It reads the part
 * of YAML 1.1 that a configuration needs and refuses the rest with line and column: anchors,
 * aliases, merge keys, tags, directives, keys that are no scalars, the same key twice (both places
 * are named), a second document, nesting deeper than VDC_YAML_DEPTH_MAX, anything that is not
 * UTF-8. JSON is a part of what it reads. Time and memory grow linearly with the text, whatever it
 * holds.
 */
#ifndef VDC_YAML_H
#define VDC_YAML_H

#include <stddef.h>

#include <vdc/rc.h>
#include <vdc/tree.h>

/* Maps and lists inside each other; the policy language needs 6. */
#define VDC_YAML_DEPTH_MAX 32
/* Nodes of one tree: a text of VDC_POLICY_TEXT_MAX bytes can hold half as many as it has bytes;
 * no honest file comes near this, and a tree of it takes about 60 MiB. */
#define VDC_YAML_NODES_MAX 500000
/* Bytes of a map's key. */
#define VDC_YAML_KEY_MAX 255

/* Reads `len` bytes at `text`, at most `len_max` (VDC_POLICY_TEXT_MAX for policies). OK: *tree is
 * the caller's, to be destroyed. INVALID or TOO_LARGE: *tree is NULL and diags (required) says
 * where and why; a syntax error ends the reading, so that it is the last one. */
enum vdc_rc vdc_yaml_load(const char *text, size_t len, size_t len_max, struct vdc_tree **tree,
                          struct vdc_diags *diags) VDC_MUST_USE;

/* The same, but where all that is wrong could be passed over (a duplicate key, a tag) it returns
 * INVALID and *tree is not NULL and the caller's: for looking on for more mistakes, not for use. */
enum vdc_rc vdc_yaml_load_partly(const char *text, size_t len, size_t len_max,
                                 struct vdc_tree **tree, struct vdc_diags *diags) VDC_MUST_USE;

#endif
