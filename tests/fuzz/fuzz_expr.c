/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an expression, compiled with each choice of subjects and evaluated where it is good. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/expr.h>
#include <vdc/policy.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct vdc_policy_label labels[] = {{"tier", "compute"}, {"app", ""}};
    static const struct vdc_policy_node node = {.name = "n1",
                                                .rack = "r1",
                                                .labels = labels,
                                                .label_count = 2,
                                                .cpu_model = "",
                                                .accelerator = "kvm",
                                                .cpus = 2,
                                                .memory_bytes = UINT64_C(1) << 30};
    static const struct vdc_policy_partition partition = {.name = "a",
                                                          .tenant = "",
                                                          .class_name = "gold",
                                                          .labels = labels,
                                                          .label_count = 1,
                                                          .vcpus = 2,
                                                          .memory_bytes = UINT64_MAX};
    for (unsigned subjects = 1; subjects <= 3; subjects++) {
        struct vdc_expr *expr;
        struct vdc_expr_error error;
        enum vdc_rc rc = vdc_expr_compile((const char *)data, len, subjects, &expr, &error);
        VDC_ASSERT((rc == VDC_RC_OK) == (expr != NULL));
        if (expr == NULL) {
            VDC_ASSERT(error.offset <= len && error.text[0] != 0);
            VDC_ASSERT(memchr(error.text, 0, sizeof error.text) != NULL);
            continue;
        }
        VDC_ASSERT((vdc_expr_subjects(expr) & ~subjects) == 0);
        (void)vdc_expr_eval(expr, &node, &partition);
        vdc_expr_destroy(expr);
    }
    return 0;
}
