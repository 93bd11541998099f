/* SPDX-License-Identifier: Apache-2.0 */
/* Values that several sections of a policy file have. */
#include <stdarg.h>
#include <stdio.h>

#include <vdc/base.h>
#include <vdc/quantity.h>
#include <vdc/time.h>

#include "build_internal.h"

/* Weights are multiplied with points in thousandths: 10^6 x 10^5 x 256 rules stays in 64 bits. */
#define WEIGHT_MAX_MILLI 1000000

void policy_make_what(char what[WHAT_CAP], const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, WHAT_CAP, fmt, ap);
    va_end(ap);
}

/* NULL with a diagnostic at the wrong character if the text is no expression. */
struct vdc_expr *policy_read_expr(const struct vdc_tree_node *node, const char *what,
                                  unsigned subjects, struct vdc_diags *diags)
{
    const char *text;
    if (!vdc_tree_read_text(node, what, VDC_EXPR_TEXT_MAX, &text, diags)) {
        return NULL;
    }
    struct vdc_expr *expr;
    struct vdc_expr_error error;
    if (vdc_expr_compile(text, node->text_len, subjects, &expr, &error) == VDC_RC_OK) {
        return expr;
    }
    uint32_t column = node->column;
    if (node->exact) {
        column = node->text_column;
        for (size_t i = 0; i < error.offset && i < node->text_len; i++) {
            column += ((unsigned char)text[i] & 0xc0) != 0x80;
        }
    }
    vdc_diags_add(diags, node->line, column, "%s: %s", what, error.text);
    return NULL;
}

static bool is_percentage(const struct vdc_tree_node *node)
{
    return node->kind == VDC_TREE_SCALAR && node->text_len > 0 &&
           node->text[node->text_len - 1] == '%';
}

void policy_read_percentage(const struct vdc_tree_node *node, const char *what,
                            struct policy_amount *amount, struct vdc_diags *diags)
{
    uint64_t milli;
    if (!vdc_tree_read_milli(node, what, &milli, diags)) {
        return;
    }
    if (milli > 1000) {
        vdc_diags_add(diags, node->line, node->column, "%s: \"%s\" is more than 100%%", what,
                      node->text);
        return;
    }
    *amount = (struct policy_amount){.relative = true, .value = milli};
}

/* "50%", "16" or "0.5" CPUs. */
void policy_read_cpu_amount(const struct vdc_tree_node *node, const char *what,
                            struct policy_amount *amount, struct vdc_diags *diags)
{
    if (is_percentage(node)) {
        policy_read_percentage(node, what, amount, diags);
        return;
    }
    uint64_t milli;
    if (vdc_tree_read_milli(node, what, &milli, diags)) {
        *amount = (struct policy_amount){.value = milli};
    }
}

/* "50%" or "64GiB". */
void policy_read_memory_amount(const struct vdc_tree_node *node, const char *what,
                               struct policy_amount *amount, struct vdc_diags *diags)
{
    if (is_percentage(node)) {
        policy_read_percentage(node, what, amount, diags);
        return;
    }
    uint64_t bytes;
    if (vdc_tree_read_bytes(node, what, &bytes, diags)) {
        *amount = (struct policy_amount){.value = bytes};
    }
}

void policy_read_weight(const struct vdc_tree_node *node, const char *what, int64_t *weight_milli,
                        struct vdc_diags *diags)
{
    uint64_t milli;
    if (!vdc_tree_read_milli(node, what, &milli, diags)) {
        return;
    }
    if (milli > WEIGHT_MAX_MILLI) {
        vdc_diags_add(diags, node->line, node->column, "%s: at most %d is allowed", what,
                      WEIGHT_MAX_MILLI / 1000);
        return;
    }
    *weight_milli = (int64_t)milli;
}

/* A duration in whole milliseconds from min to max. */
void policy_read_ms(const struct vdc_tree_node *node, const char *what, uint64_t min_ms,
                    uint64_t max_ms, uint64_t *ms, struct vdc_diags *diags)
{
    int64_t ns;
    if (!vdc_tree_read_duration(node, what, &ns, diags)) {
        return;
    }
    uint64_t value = (uint64_t)(ns / VDC_MS);
    if (ns % VDC_MS != 0 || value < min_ms || value > max_ms) {
        char least[VDC_QUANTITY_TEXT_CAP];
        char most[VDC_QUANTITY_TEXT_CAP];
        vdc_quantity_duration_text((int64_t)min_ms * VDC_MS, least);
        vdc_quantity_duration_text((int64_t)max_ms * VDC_MS, most);
        vdc_diags_add(diags, node->line, node->column,
                      "%s: \"%s\" is not from %s to %s in whole milliseconds", what, node->text,
                      least, most);
        return;
    }
    *ms = value;
}

/* Whether a list or map is not larger than the bound of its section. */
bool policy_check_count(const struct vdc_tree_node *node, const char *what, uint32_t max,
                        struct vdc_diags *diags)
{
    if (node->count > max) {
        vdc_diags_add(diags, node->line, node->column, "%s: %u entries, at most %u are allowed",
                      what, node->count, max);
    }
    return node->count <= max;
}
