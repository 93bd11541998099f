/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a policy file: the YAML loader, the reader, and where the file is good a placement
 * with everything that is rendered of it.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <vdc/base.h>
#include <vdc/policy_io.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void place(const struct vdc_policy *policy)
{
    static const struct vdc_policy_label labels[] = {{"tier", "compute"}, {"app", "db"}};
    const struct vdc_policy_node nodes[] = {
        {.name = "n1",
         .rack = "r1",
         .labels = labels,
         .label_count = 2,
         .cpu_model = "",
         .accelerator = "kvm",
         .numa_nodes = 1,
         .cpus = 2,
         .memory_bytes = UINT64_C(1) << 30},
        {.name = "n2",
         .rack = "",
         .labels = labels,
         .label_count = 1,
         .cpu_model = "x",
         .accelerator = "",
         .numa_nodes = 2,
         .cpus = 64,
         .memory_bytes = UINT64_C(1) << 40,
         .cpu_shared_milli = 5000,
         .memory_used_bytes = UINT64_C(1) << 30},
        {.name = "n3",
         .rack = "r1",
         .cpu_model = "",
         .accelerator = "",
         .cpus = 1,
         .state = VDC_POLICY_NODE_CLOSED},
    };
    const struct vdc_policy_partition running = {.name = "a",
                                                 .tenant = "acme",
                                                 .class_name = "gold",
                                                 .labels = labels,
                                                 .label_count = 2,
                                                 .vcpus = 2,
                                                 .memory_bytes = 12345678,
                                                 .node = 1};
    struct vdc_policy_snapshot snapshot = {
        .nodes = nodes, .node_count = 3, .partitions = &running, .partition_count = 1};
    struct vdc_policy_request request = {.partition = running};
    request.partition.name = "b";
    request.partition.node = VDC_POLICY_NO_NODE;
    const char *class_names[2] = {"", "gold"};
    if (vdc_policy_class_count(policy) > 0) {
        class_names[0] = vdc_policy_class_at(policy, 0)->name;
    }
    for (size_t i = 0; i < 2; i++) {
        request.partition.class_name = class_names[i];
        struct vdc_policy_verdict verdict;
        vdc_policy_place(policy, &snapshot, &request, &verdict);
        json_decref(vdc_policy_verdict_json(&verdict));
        vdc_policy_verdict_deinit(&verdict);
    }
    struct vdc_diags diags = {0};
    (void)!vdc_policy_check(policy, &snapshot, &diags);
    vdc_diags_deinit(&diags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct vdc_policy *policy;
    struct vdc_diags diags = {.source = "fuzz"};
    enum vdc_rc rc = vdc_policy_parse((const char *)data, len, &policy, &diags);
    VDC_ASSERT((rc == VDC_RC_OK) == (policy != NULL));
    VDC_ASSERT((rc == VDC_RC_OK) == (diags.count == 0));
    struct vdc_buf text = {0};
    vdc_diags_render(&diags, &text);
    vdc_buf_deinit(&text);
    json_t *json = vdc_diags_json(&diags); /* fails on text that is not UTF-8 */
    json_decref(json);
    if (policy != NULL) {
        place(policy);
    }
    vdc_policy_destroy(policy);
    vdc_diags_deinit(&diags);
    return 0;
}
