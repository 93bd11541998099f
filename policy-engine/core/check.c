/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A policy against what exists, before it is applied, and the order of restarts. What a file alone
 * can contradict is checked when it is read (build.c).
 */
#include <string.h>

#include <vdc/base.h>
#include <vdc/quantity.h>

#include "policy_internal.h"

/* ---- order of restarts ---- */

struct ranked {
    const struct vdc_policy_snapshot *snapshot;
    const struct vdc_policy *policy;
};

static uint32_t priority_of(const struct ranked *ranked, size_t index)
{
    const struct vdc_policy_class *found =
        vdc_policy_class_find(ranked->policy, ranked->snapshot->partitions[index].class_name);
    return found != NULL ? found->priority : 0;
}

static int compare_restarts(const void *a, const void *b, void *data)
{
    const struct ranked *ranked = data;
    size_t left = *(const size_t *)a;
    size_t right = *(const size_t *)b;
    uint32_t left_priority = priority_of(ranked, left);
    uint32_t right_priority = priority_of(ranked, right);
    if (left_priority != right_priority) {
        return left_priority > right_priority ? -1 : 1;
    }
    const struct vdc_policy_partition *partitions = ranked->snapshot->partitions;
    int order = strcmp(partitions[left].name, partitions[right].name);
    return order != 0 ? order : vdc_id_compare(&partitions[left].id, &partitions[right].id);
}

void vdc_policy_failover_order(const struct vdc_policy *policy,
                               const struct vdc_policy_snapshot *snapshot, size_t *indices,
                               size_t count)
{
    struct ranked ranked = {.snapshot = snapshot, .policy = policy};
    if (count > 1) {
        qsort_r(indices, count, sizeof indices[0], compare_restarts, &ranked);
    }
}

/* ---- groups that cannot be apart ---- */

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static size_t count_different(const char **names, size_t count)
{
    if (count > 1) {
        qsort(names, count, sizeof *names, compare_texts);
    }
    size_t different = 0;
    for (size_t i = 0; i < count; i++) {
        different += i == 0 || strcmp(names[i], names[i - 1]) != 0;
    }
    return different;
}

/* By name: a partition on the move may be in the snapshot twice. */
static size_t count_members(const struct policy_rule *rule,
                            const struct vdc_policy_snapshot *snapshot)
{
    vdc_autofree const char **names = vdc_calloc(snapshot->partition_count, sizeof *names);
    size_t count = 0;
    for (size_t i = 0; i < snapshot->partition_count; i++) {
        if (policy_rule_applies(rule, &snapshot->partitions[i])) {
            names[count++] = snapshot->partitions[i].name;
        }
    }
    return count_different(names, count);
}

/* Racks (nodes) that give resources to the zone and are not lost. */
static size_t count_domains(const struct vdc_policy *policy,
                            const struct vdc_policy_snapshot *snapshot, enum policy_scope scope)
{
    vdc_autofree const char **names = vdc_calloc(snapshot->node_count, sizeof *names);
    size_t count = 0;
    for (size_t i = 0; i < snapshot->node_count; i++) {
        const struct vdc_policy_node *node = &snapshot->nodes[i];
        struct vdc_policy_share share;
        if (node->state != VDC_POLICY_NODE_LOST && vdc_policy_share(policy, node, &share)) {
            bool by_node = scope == POLICY_SCOPE_NODE || node->rack[0] == 0;
            names[count++] = by_node ? node->name : node->rack;
        }
    }
    return count_different(names, count);
}

static void check_apart(const struct vdc_policy *policy, const struct vdc_policy_snapshot *snapshot,
                        struct vdc_diags *diags)
{
    for (size_t i = 0; i < policy->rule_count; i++) {
        const struct policy_rule *rule = &policy->rules[i];
        if (rule->kind != RULE_APART || rule->soft) {
            continue;
        }
        size_t members = count_members(rule, snapshot);
        size_t domains = count_domains(policy, snapshot, rule->scope);
        if (members > domains) {
            const char *kind = rule->scope == POLICY_SCOPE_RACK ? "rack" : "node";
            vdc_diags_add(diags, rule->line, rule->column,
                          "rule %s: %zu partitions must be apart, the zone has %zu %s%s",
                          rule->name, members, domains, kind, domains == 1 ? "" : "s");
        }
    }
}

/* ---- classes and tenants in use ---- */

static void check_classes(const struct vdc_policy *policy,
                          const struct vdc_policy_snapshot *snapshot, struct vdc_diags *diags)
{
    for (size_t i = 0; i < snapshot->partition_count; i++) {
        const struct vdc_policy_partition *partition = &snapshot->partitions[i];
        if (vdc_policy_class_find(policy, partition->class_name) == NULL) {
            vdc_diags_add(diags, 0, 0, "partition %s has class \"%.63s\", which is not defined",
                          partition->name, partition->class_name);
        }
    }
}

struct in_use {
    uint64_t cpus;
    uint64_t memory_bytes;
    uint64_t partitions;
};

static void say_quota(const struct policy_tenant *tenant, const struct in_use *use,
                      struct vdc_diags *diags)
{
    if (use->cpus > tenant->quota.cpus) {
        vdc_diags_add(diags, tenant->line, tenant->column,
                      "tenant %s: quota of %llu cpus, %llu are in use", tenant->name,
                      (unsigned long long)tenant->quota.cpus, (unsigned long long)use->cpus);
    }
    if (use->memory_bytes > tenant->quota.memory_bytes) {
        char quota[VDC_QUANTITY_TEXT_CAP];
        char used[VDC_QUANTITY_TEXT_CAP];
        vdc_quantity_bytes_text(tenant->quota.memory_bytes, quota);
        vdc_quantity_bytes_text(use->memory_bytes, used);
        vdc_diags_add(diags, tenant->line, tenant->column,
                      "tenant %s: quota of %s memory, %s are in use", tenant->name, quota, used);
    }
    if (use->partitions > tenant->quota.partitions) {
        vdc_diags_add(diags, tenant->line, tenant->column,
                      "tenant %s: quota of %llu partitions, there are %llu", tenant->name,
                      (unsigned long long)tenant->quota.partitions,
                      (unsigned long long)use->partitions);
    }
}

static void check_tenants(const struct vdc_policy *policy,
                          const struct vdc_policy_snapshot *snapshot, struct vdc_diags *diags)
{
    if (!policy->tenants_given) {
        return;
    }
    vdc_autofree struct in_use *uses = vdc_calloc(policy->tenant_count, sizeof *uses);
    for (size_t i = 0; i < snapshot->partition_count; i++) {
        const struct vdc_policy_partition *partition = &snapshot->partitions[i];
        const struct policy_tenant *tenant = policy_tenant_find(policy, partition->tenant);
        if (tenant != NULL) {
            struct in_use *use = &uses[tenant - policy->tenants];
            use->cpus += partition->vcpus;
            use->memory_bytes += partition->memory_bytes;
            use->partitions++;
        } else if (partition->tenant[0] != 0) {
            vdc_diags_add(diags, 0, 0, "partition %s has tenant \"%.63s\", which is not defined",
                          partition->name, partition->tenant);
        }
    }
    for (size_t i = 0; i < policy->tenant_count; i++) {
        say_quota(&policy->tenants[i], &uses[i], diags);
    }
}

enum vdc_rc vdc_policy_check(const struct vdc_policy *policy,
                             const struct vdc_policy_snapshot *snapshot, struct vdc_diags *diags)
{
    uint64_t said_before = diags->count + diags->dropped;
    check_classes(policy, snapshot, diags);
    check_tenants(policy, snapshot, diags);
    check_apart(policy, snapshot, diags);
    vdc_diags_sort(diags);
    return diags->count + diags->dropped > said_before ? VDC_RC_INVALID : VDC_RC_OK;
}
