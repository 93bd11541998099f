/* SPDX-License-Identifier: Apache-2.0 */
/* A policy that has been built, read: settings, classes, tenants, shares, needs. */
#include <string.h>

#include <vdc/base.h>

#include "policy_internal.h"

const struct vdc_policy_settings *vdc_policy_settings(const struct vdc_policy *policy)
{
    return &policy->settings;
}

size_t vdc_policy_class_count(const struct vdc_policy *policy)
{
    return policy->class_count;
}

const struct vdc_policy_class *vdc_policy_class_at(const struct vdc_policy *policy, size_t index)
{
    VDC_ASSERT(index < policy->class_count);
    return &policy->classes[index];
}

int policy_class_index(const struct vdc_policy *policy, const char *name)
{
    for (size_t i = 0; i < policy->class_count; i++) {
        if (strcmp(policy->classes[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

const struct vdc_policy_class *vdc_policy_class_find(const struct vdc_policy *policy,
                                                     const char *name)
{
    static const struct vdc_policy_class built_in = {.name = "default", .failover_restart = true};
    if (name[0] == 0) {
        name = built_in.name;
    }
    int index = policy_class_index(policy, name);
    if (index >= 0) {
        return &policy->classes[index];
    }
    return policy->class_count == 0 && strcmp(name, built_in.name) == 0 ? &built_in : NULL;
}

const struct policy_tenant *policy_tenant_find(const struct vdc_policy *policy, const char *name)
{
    size_t low = 0;
    size_t high = policy->tenant_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(policy->tenants[middle].name, name);
        if (order == 0) {
            return &policy->tenants[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

bool policy_rule_applies(const struct policy_rule *rule,
                         const struct vdc_policy_partition *partition)
{
    return rule->when == NULL || vdc_expr_eval(rule->when, NULL, partition);
}

/* value x milli / 1000 in 128 bits, rounded down. */
static uint64_t part_of(uint64_t value, uint64_t milli)
{
    return (uint64_t)((unsigned __int128)value * milli / 1000);
}

static const struct policy_match *match_of(const struct vdc_policy *policy,
                                           const struct vdc_policy_node *node)
{
    for (size_t i = 0; i < policy->match_count; i++) {
        if (vdc_expr_eval(policy->matches[i].match, node, NULL)) {
            return &policy->matches[i];
        }
    }
    return NULL;
}

bool vdc_policy_share(const struct vdc_policy *policy, const struct vdc_policy_node *node,
                      struct vdc_policy_share *share)
{
    const struct policy_match *match = match_of(policy, node);
    if (match == NULL) {
        return false;
    }
    uint64_t cpus = match->cpus.relative ? part_of(node->cpus, match->cpus.value)
                                         : VDC_MIN(match->cpus.value / 1000, node->cpus);
    uint64_t memory = match->memory.relative ? part_of(node->memory_bytes, match->memory.value)
                                             : VDC_MIN(match->memory.value, node->memory_bytes);
    share->cpus = (uint32_t)cpus;
    share->memory_bytes = memory - memory % VDC_POLICY_MEMORY_BLOCK;
    return true;
}

/* What is kept free of `total`, at most all of it; parts are rounded up. */
static uint64_t kept_of(const struct policy_amount *keep, uint64_t total)
{
    return keep->relative ? total - part_of(total, 1000 - keep->value)
                          : VDC_MIN(keep->value, total);
}

bool policy_capacity_of(const struct vdc_policy *policy, const struct vdc_policy_node *node,
                        struct policy_capacity *capacity)
{
    struct vdc_policy_share share;
    if (!vdc_policy_share(policy, node, &share)) {
        return false;
    }
    uint64_t cpu_milli = UINT64_C(1000) * share.cpus;
    capacity->cpus = share.cpus;
    capacity->cpu_milli = cpu_milli - kept_of(&policy->keep_cpus, cpu_milli);
    capacity->memory_bytes = share.memory_bytes - kept_of(&policy->keep_memory, share.memory_bytes);
    return true;
}

bool vdc_policy_need(const struct vdc_policy *policy, const struct vdc_policy_partition *partition,
                     struct vdc_policy_need *need)
{
    const struct vdc_policy_class *found = vdc_policy_class_find(policy, partition->class_name);
    *need = (struct vdc_policy_need){0};
    if (found == NULL) {
        return false;
    }
    if (found->cpu == VDC_POLICY_CPU_DEDICATED) {
        need->cpus_dedicated = partition->vcpus;
    } else {
        need->cpu_shared_milli = UINT64_C(1000) * partition->vcpus;
    }
    uint64_t memory = VDC_MIN(partition->memory_bytes, (uint64_t)VDC_PARTITION_MEMORY_MAX);
    memory += VDC_POLICY_MEMORY_BLOCK - 1;
    need->memory_bytes = memory - memory % VDC_POLICY_MEMORY_BLOCK;
    return true;
}
