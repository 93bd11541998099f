/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that build a policy from its tree share. Each read function leaves the value alone and
 * adds a diagnostic where the node is not what is expected; `what` begins that sentence. */
#ifndef VDC_POLICY_BUILD_INTERNAL_H
#define VDC_POLICY_BUILD_INTERNAL_H

#include "policy_internal.h"

/* "the class or rule it is about: the field": for sentences. */
#define WHAT_CAP (VDC_NAME_CAP + 64)

/* ---- build_values.c ---- */

void policy_make_what(char what[WHAT_CAP], const char *fmt, ...) VDC_PRINTF(2, 3);
/* NULL with a diagnostic at the wrong character if the text is no expression over the subjects. */
struct vdc_expr *policy_read_expr(const struct vdc_tree_node *node, const char *what,
                                  unsigned subjects, struct vdc_diags *diags);
/* 0% to 100%. */
void policy_read_percentage(const struct vdc_tree_node *node, const char *what,
                            struct policy_amount *amount, struct vdc_diags *diags);
/* "50%", "16" or "0.5" CPUs. */
void policy_read_cpu_amount(const struct vdc_tree_node *node, const char *what,
                            struct policy_amount *amount, struct vdc_diags *diags);
/* "50%" or "64GiB". */
void policy_read_memory_amount(const struct vdc_tree_node *node, const char *what,
                               struct policy_amount *amount, struct vdc_diags *diags);
void policy_read_weight(const struct vdc_tree_node *node, const char *what, int64_t *weight_milli,
                        struct vdc_diags *diags);
/* A duration in whole milliseconds from min to max. */
void policy_read_ms(const struct vdc_tree_node *node, const char *what, uint64_t min_ms,
                    uint64_t max_ms, uint64_t *ms, struct vdc_diags *diags);
/* Whether a list or map is not larger than the bound of its section. */
bool policy_check_count(const struct vdc_tree_node *node, const char *what, uint32_t max,
                        struct vdc_diags *diags);

/* ---- build_rules.c ---- */

void policy_read_placement(struct vdc_policy *policy, const struct vdc_tree_node *node,
                           struct vdc_diags *diags);

#endif
