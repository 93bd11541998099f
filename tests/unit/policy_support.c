/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/policy_io.h>

#include "policy_support.h"

#define MIB (UINT64_C(1) << 20)

struct zone *zone_create(const char *policy_text)
{
    struct zone *zone = VDC_NEW(struct zone);
    struct vdc_diags diags = {0};
    enum vdc_rc rc = vdc_policy_parse(policy_text, strlen(policy_text), &zone->policy, &diags);
    cr_assert_eq(rc, VDC_RC_OK, "%s", diags.count > 0 ? diags.items[0].text : "?");
    vdc_diags_deinit(&diags);
    return zone;
}

void zone_destroy(struct zone *zone)
{
    vdc_policy_destroy(zone->policy);
    free(zone);
}

struct vdc_policy_node *zone_add_node(struct zone *zone, const char *name, const char *rack)
{
    struct vdc_policy_label *label = &zone->labels[zone->label_count++];
    *label = (struct vdc_policy_label){"tier", "compute"};
    struct vdc_policy_node *node = &zone->nodes[zone->node_count++];
    *node = (struct vdc_policy_node){.name = name,
                                     .rack = rack,
                                     .labels = label,
                                     .label_count = 1,
                                     .cpu_model = "",
                                     .accelerator = "tcg",
                                     .numa_nodes = 1,
                                     .cpus = 2,
                                     .memory_bytes = 4096 * MIB};
    return node;
}

struct vdc_policy_partition zone_partition(struct zone *zone, const char *name, const char *app)
{
    struct vdc_policy_partition partition = {.name = name,
                                             .tenant = "",
                                             .class_name = "",
                                             .vcpus = 1,
                                             .memory_bytes = 128 * MIB,
                                             .node = VDC_POLICY_NO_NODE};
    if (app != NULL) {
        struct vdc_policy_label *label = &zone->labels[zone->label_count++];
        *label = (struct vdc_policy_label){"app", app};
        partition.labels = label;
        partition.label_count = 1;
    }
    return partition;
}

size_t zone_node(const struct zone *zone, const char *name)
{
    for (size_t i = 0; i < zone->node_count; i++) {
        if (strcmp(zone->nodes[i].name, name) == 0) {
            return i;
        }
    }
    cr_assert_fail("no node %s", name);
    return VDC_POLICY_NO_NODE;
}

static void take(struct zone *zone, size_t index, const struct vdc_policy_need *need)
{
    struct vdc_policy_node *node = &zone->nodes[index];
    node->cpus_dedicated += need->cpus_dedicated;
    node->cpu_shared_milli += need->cpu_shared_milli;
    node->memory_used_bytes += need->memory_bytes;
}

static void give_back(struct zone *zone, size_t index, const struct vdc_policy_need *need)
{
    struct vdc_policy_node *node = &zone->nodes[index];
    node->cpus_dedicated -= need->cpus_dedicated;
    node->cpu_shared_milli -= need->cpu_shared_milli;
    node->memory_used_bytes -= need->memory_bytes;
}

static struct vdc_policy_partition *find(struct zone *zone, const char *name)
{
    for (size_t i = 0; i < zone->partition_count; i++) {
        if (strcmp(zone->partitions[i].name, name) == 0) {
            return &zone->partitions[i];
        }
    }
    return NULL;
}

void zone_run(struct zone *zone, struct vdc_policy_partition partition, const char *node)
{
    struct vdc_policy_need need;
    cr_assert(vdc_policy_need(zone->policy, &partition, &need));
    struct vdc_policy_partition *known = find(zone, partition.name);
    if (known == NULL) {
        known = &zone->partitions[zone->partition_count++];
    } else if (known->node != VDC_POLICY_NO_NODE) {
        give_back(zone, known->node, &need);
    }
    *known = partition;
    known->node = zone_node(zone, node);
    take(zone, known->node, &need);
}

struct vdc_policy_snapshot zone_snapshot(const struct zone *zone)
{
    return (struct vdc_policy_snapshot){.policy_version = 3,
                                        .generation = 41,
                                        .nodes = zone->nodes,
                                        .node_count = zone->node_count,
                                        .partitions = zone->partitions,
                                        .partition_count = zone->partition_count};
}

struct vdc_policy_verdict zone_place(struct zone *zone, enum vdc_policy_cause cause,
                                     struct vdc_policy_partition partition, const char *target)
{
    struct vdc_policy_snapshot snapshot = zone_snapshot(zone);
    struct vdc_policy_partition *known = find(zone, partition.name);
    struct vdc_policy_request request = {
        .cause = cause, .partition = known != NULL ? *known : partition, .target = target};
    struct vdc_policy_verdict verdict;
    vdc_policy_place(zone->policy, &snapshot, &request, &verdict);
    if (verdict.placed) {
        zone_run(zone, request.partition, verdict.winner.node);
    }
    return verdict;
}

char *zone_line(struct vdc_policy_verdict verdict)
{
    struct vdc_buf line = {0};
    vdc_policy_verdict_line(&verdict, &line);
    vdc_policy_verdict_deinit(&verdict);
    return vdc_buf_steal(&line);
}

char *policy_diagnostics(const char *text)
{
    struct vdc_policy *policy;
    struct vdc_diags diags = {0};
    if (vdc_policy_parse(text, strlen(text), &policy, &diags) == VDC_RC_OK) {
        vdc_policy_destroy(policy);
        vdc_diags_deinit(&diags);
        return vdc_strdup("ok");
    }
    cr_assert_null(policy);
    struct vdc_buf out = {0};
    vdc_diags_render(&diags, &out);
    vdc_diags_deinit(&diags);
    return vdc_buf_steal(&out);
}

char *read_test_file(const char *path)
{
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    struct vdc_buf text = {0};
    char piece[4096];
    for (size_t got; (got = fread(piece, 1, sizeof piece, file)) > 0;) {
        vdc_buf_append(&text, piece, got);
    }
    fclose(file);
    return vdc_buf_steal(&text);
}
