/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expressions of the policy language, also used as filters of lists:
 *
 *     rack in ["r1", "r2"] && node.labels.tier == "compute" && node.memory >= 64GiB
 *     partition.labels["app.example/role"] != "db" || !has(partition.labels.pin)
 *
 * An expression is typed and checked when it is compiled; evaluating it cannot fail, allocates
 * nothing and takes at most VDC_EXPR_OPS_MAX steps. Pure: no clock, no allocation after compile.
 *
 * Types: string, number (with up to three decimals), size (64GiB), duration (50ms), and the boolean
 * that comparisons give. Both sides of a comparison have the same type. A label that is not there
 * is unequal to every string and neither less nor greater than one; has(x) tells it from an empty
 * one.
 */
#ifndef VDC_EXPR_H
#define VDC_EXPR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/rc.h>

/* Bytes of an expression's text: a page of conditions. */
#define VDC_EXPR_TEXT_MAX 2048
/* Comparisons and operators of one expression: bounds the cost of each evaluation. */
#define VDC_EXPR_OPS_MAX 256
/* Parentheses and `!` inside each other. */
#define VDC_EXPR_DEPTH_MAX 32

struct vdc_policy_node;
struct vdc_policy_partition;

/* What an expression may speak of; bits. With exactly one of them its attributes may also be
 * written without the subject: `rack` for node.rack. */
#define VDC_EXPR_NODE 1u
#define VDC_EXPR_PARTITION 2u

struct vdc_expr;

struct vdc_expr_error {
    size_t offset;  /* byte of the text where it is wrong */
    char text[256]; /* a sentence without its full stop, with the nearest known name if there is one
                     */
};

/* OK: *expr is the caller's. INVALID or TOO_LARGE: *expr is NULL and *error says where and why.
 * `text` needs no NUL behind it and is not kept. */
enum vdc_rc vdc_expr_compile(const char *text, size_t len, unsigned subjects,
                             struct vdc_expr **expr, struct vdc_expr_error *error) VDC_MUST_USE;
void vdc_expr_destroy(struct vdc_expr *expr); /* accepts NULL */

/* The subjects that it was compiled with must be given; others may be NULL. */
bool vdc_expr_eval(const struct vdc_expr *expr, const struct vdc_policy_node *node,
                   const struct vdc_policy_partition *partition);
/* Bits of the subjects that it really mentions. */
unsigned vdc_expr_subjects(const struct vdc_expr *expr);
/* The text that it was compiled from, NUL-terminated. */
const char *vdc_expr_text(const struct vdc_expr *expr);

#endif
