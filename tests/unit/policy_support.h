/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small zone for the policy engine's tests: nodes and partitions are added by a line each and
 * kept in fixed arrays, so that pointers into them stay valid.
 */
#ifndef VDC_TEST_POLICY_SUPPORT_H
#define VDC_TEST_POLICY_SUPPORT_H

#include <vdc/policy.h>

#define ZONE_NODES_MAX 16
#define ZONE_PARTITIONS_MAX 32

struct zone {
    struct vdc_policy *policy;
    struct vdc_policy_node nodes[ZONE_NODES_MAX];
    size_t node_count;
    struct vdc_policy_partition partitions[ZONE_PARTITIONS_MAX];
    size_t partition_count;
    struct vdc_policy_label labels[ZONE_NODES_MAX + ZONE_PARTITIONS_MAX];
    size_t label_count;
};

/* The policy's text must be free of errors. */
struct zone *zone_create(const char *policy_text);
void zone_destroy(struct zone *zone);
/* 2 CPUs, 4 GiB, label tier=compute. */
struct vdc_policy_node *zone_add_node(struct zone *zone, const char *name, const char *rack);
/* Label app=APP (none if NULL), 1 vCPU, 128 MiB, running nowhere, not in the snapshot. */
struct vdc_policy_partition zone_partition(struct zone *zone, const char *name, const char *app);
/* Puts it into the snapshot on a node, which it uses from then on. */
void zone_run(struct zone *zone, struct vdc_policy_partition partition, const char *node);
size_t zone_node(const struct zone *zone, const char *name);
struct vdc_policy_snapshot zone_snapshot(const struct zone *zone);
/* Decides; if placed, the partition runs there afterwards (moved from where it was). */
struct vdc_policy_verdict zone_place(struct zone *zone, enum vdc_policy_cause cause,
                                     struct vdc_policy_partition partition, const char *target);
/* The verdict's line, to be freed; the verdict is deinited. */
char *zone_line(struct vdc_policy_verdict verdict);

/* "ok", or the rendered diagnostics without source; to be freed. */
char *policy_diagnostics(const char *text);
/* The file's text; to be freed. */
char *read_test_file(const char *path);

#endif
