/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What would make a refused request succeed: for each node the changes that mend everything against it,
 * then the cheapest of these plans that works when it is tried.
 */
#include <string.h>

#include <vdc/base.h>

#include "place_internal.h"

/* Plans that are tried before the engine says that it knows none. */
#define PLANS_MAX 8

/* ---- changes ---- */

/* How much a change asks of an operator: freeing room happens every day, a rule was written for a
 * reason, a node that is down may be broken. */
static uint64_t trouble_of(enum vdc_policy_change_kind kind)
{
    switch (kind) {
    case VDC_POLICY_CHANGE_FREE_CPU:
    case VDC_POLICY_CHANGE_FREE_MEMORY:
    case VDC_POLICY_CHANGE_ASK_VCPUS:
    case VDC_POLICY_CHANGE_ASK_MEMORY:
    case VDC_POLICY_CHANGE_RAISE_QUOTA:
        return 1;
    case VDC_POLICY_CHANGE_DROP_RULE:
        return 2;
    case VDC_POLICY_CHANGE_OPEN_NODE:
        return 3;
    }
    return 0;
}

static bool add_change(struct place_plan *plan, enum vdc_policy_change_kind kind, const char *rule,
                       const char *node, uint64_t amount)
{
    if (plan->count == VDC_POLICY_CHANGES_MAX) {
        return false;
    }
    struct vdc_policy_change *change = &plan->changes[plan->count++];
    *change = (struct vdc_policy_change){.kind = kind, .amount = amount};
    vdc_str_set(change->rule, sizeof change->rule, rule);
    vdc_str_set(change->node, sizeof change->node, node);
    plan->trouble += trouble_of(kind);
    return true;
}

/* ---- plans: what would make it fit ---- */

/* The most vCPUs, up to those asked for, that the node could take as it is (or, `empty`, if nothing
 * ran there); 0: none. */
static uint32_t vcpus_that_fit(const struct place_context *context, size_t index,
                               const struct place_fill *fill, bool empty)
{
    struct vdc_policy_partition trial = context->partition;
    const struct vdc_policy_node *node = place_node_at(context, index);
    for (trial.vcpus = VDC_MIN(fill->capacity.cpus, trial.vcpus); trial.vcpus > 0; trial.vcpus--) {
        struct vdc_policy_need need;
        (void)vdc_policy_need(context->policy, &trial, &need);
        uint64_t dedicated = empty ? 0 : node->cpus_dedicated;
        uint64_t shared = empty ? 0 : node->cpu_shared_milli;
        if (place_cpu_in_use(context->policy, dedicated + need.cpus_dedicated,
                             shared + need.cpu_shared_milli) <= fill->capacity.cpu_milli) {
            break;
        }
    }
    return trial.vcpus;
}

/* Room on the node where that can be enough, else a smaller request, else both. */
static bool plan_cpu(const struct place_context *context, size_t index,
                     const struct place_fill *fill, struct place_plan *plan)
{
    const char *node = place_node_at(context, index)->name;
    uint32_t most = vcpus_that_fit(context, index, fill, true);
    if (most == 0) {
        return false;
    }
    if (most < context->partition.vcpus) {
        uint32_t now = vcpus_that_fit(context, index, fill, false);
        if (!add_change(plan, VDC_POLICY_CHANGE_ASK_VCPUS, "", "", now > 0 ? now : most)) {
            return false;
        }
        if (now > 0) {
            return true;
        }
    }
    struct place_context trial = *context;
    struct place_fill wanted;
    trial.partition.vcpus = most;
    (void)vdc_policy_need(context->policy, &trial.partition, &trial.need);
    (void)place_fill_node(&trial, index, &wanted);
    uint64_t amount = wanted.cpu_after - wanted.capacity.cpu_milli;
    plan->shortage += amount * 1000 / VDC_MAX(fill->capacity.cpu_milli, UINT64_C(1));
    return add_change(plan, VDC_POLICY_CHANGE_FREE_CPU, "", node, amount);
}

static bool plan_memory(const struct place_context *context, size_t index,
                        const struct place_fill *fill, struct place_plan *plan)
{
    const struct vdc_policy_node *node = place_node_at(context, index);
    uint64_t capacity = fill->capacity.memory_bytes;
    uint64_t most = capacity - capacity % VDC_POLICY_MEMORY_BLOCK;
    uint64_t asked = context->need.memory_bytes;
    if (most == 0) {
        return false;
    }
    if (most < asked) {
        uint64_t now = place_left_of(capacity, node->memory_used_bytes);
        now -= now % VDC_POLICY_MEMORY_BLOCK;
        asked = now > 0 ? now : most;
        if (!add_change(plan, VDC_POLICY_CHANGE_ASK_MEMORY, "", "", asked)) {
            return false;
        }
        if (now > 0) {
            return true;
        }
    }
    uint64_t amount = node->memory_used_bytes + asked - capacity;
    plan->shortage += (uint64_t)((unsigned __int128)amount * 1000 / capacity);
    return add_change(plan, VDC_POLICY_CHANGE_FREE_MEMORY, "", node->name, amount);
}

static bool plan_failure(const struct place_context *context, size_t index,
                         const struct place_fill *fill, const struct place_failure *failure,
                         bool *cpu_planned, struct place_plan *plan)
{
    switch (failure->reason) {
    case VDC_POLICY_REASON_NOT_USABLE:
        return add_change(plan, VDC_POLICY_CHANGE_OPEN_NODE, "",
                          place_node_at(context, index)->name, 0);
    case VDC_POLICY_REASON_VCPUS:
    case VDC_POLICY_REASON_CPU:
        if (*cpu_planned) {
            return true; /* both have one remedy */
        }
        *cpu_planned = true;
        return plan_cpu(context, index, fill, plan);
    case VDC_POLICY_REASON_MEMORY:
        return plan_memory(context, index, fill, plan);
    case VDC_POLICY_REASON_RULE:
        return add_change(plan, VDC_POLICY_CHANGE_DROP_RULE,
                          context->policy->rules[failure->rule].name, "", 0);
    case VDC_POLICY_REASON_NOT_IN_ZONE:
    case VDC_POLICY_REASON_EXCLUDED:
    case VDC_POLICY_REASON_ALREADY_THERE:
    case VDC_POLICY_REASON_QUOTA:
    case VDC_POLICY_REASON_CLASS:
    case VDC_POLICY_REASON_TENANT:
    case VDC_POLICY_REASON_TARGET:
        return false;
    }
    return false;
}

static bool plans_are_equal(const struct place_plan *a, const struct place_plan *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (size_t i = 0; i < a->count; i++) {
        const struct vdc_policy_change *left = &a->changes[i];
        const struct vdc_policy_change *right = &b->changes[i];
        if (left->kind != right->kind || left->amount != right->amount ||
            strcmp(left->rule, right->rule) != 0 || strcmp(left->node, right->node) != 0) {
            return false;
        }
    }
    return true;
}

static bool is_cheaper(const struct place_plan *a, const struct place_plan *b)
{
    if (a->count != b->count) {
        return a->count < b->count;
    }
    if (a->trouble != b->trouble) {
        return a->trouble < b->trouble;
    }
    return a->shortage < b->shortage;
}

struct plans {
    struct place_plan items[PLANS_MAX]; /* cheapest first; equal ones by node name */
    size_t count;
};

static void keep_plan(struct plans *plans, const struct place_plan *plan)
{
    for (size_t i = 0; i < plans->count; i++) {
        if (plans_are_equal(&plans->items[i], plan)) {
            return;
        }
    }
    size_t to = plans->count;
    while (to > 0 && is_cheaper(plan, &plans->items[to - 1])) {
        to--;
    }
    if (to == PLANS_MAX) {
        return;
    }
    size_t moved = VDC_MIN(plans->count, (size_t)PLANS_MAX - 1) - to;
    memmove(&plans->items[to + 1], &plans->items[to], moved * sizeof plans->items[0]);
    plans->items[to] = *plan;
    plans->count = VDC_MIN(plans->count + 1, (size_t)PLANS_MAX);
}

/* Adds the plan that mends every failure of the node, if there is one, to those that are kept. */
static void plan_node(const struct place_context *context, size_t index,
                      const struct place_fill *fill, const struct place_failure *failures,
                      size_t count, const struct place_plan *whole, struct plans *plans)
{
    struct place_plan plan = *whole;
    plan.node = index;
    bool cpu_planned = false;
    for (size_t i = 0; i < count; i++) {
        if (!plan_failure(context, index, fill, &failures[i], &cpu_planned, &plan)) {
            return;
        }
    }
    keep_plan(plans, &plan);
}

/* Looks again at the plan's node with the plan done. Dropping one rule can make another fail (the
 * racks that `spread` compares change), so what is promised is tried first. */
static bool plan_works(const struct place_context *context, const struct place_plan *plan)
{
    struct place_context trial = *context;
    const struct vdc_policy *policy = context->policy;
    vdc_autofree bool *dropped = vdc_calloc(policy->rule_count, sizeof *dropped);
    trial.relax = (struct place_relax){.node = plan->node, .dropped = dropped};
    for (size_t i = 0; i < plan->count; i++) {
        const struct vdc_policy_change *change = &plan->changes[i];
        switch (change->kind) {
        case VDC_POLICY_CHANGE_DROP_RULE:
            for (size_t j = 0; j < policy->rule_count; j++) {
                dropped[j] = dropped[j] || strcmp(policy->rules[j].name, change->rule) == 0;
            }
            break;
        case VDC_POLICY_CHANGE_FREE_CPU:
            trial.relax.cpu_milli = change->amount;
            break;
        case VDC_POLICY_CHANGE_FREE_MEMORY:
            trial.relax.memory_bytes = change->amount;
            break;
        case VDC_POLICY_CHANGE_ASK_VCPUS:
            trial.partition.vcpus = (uint32_t)change->amount;
            break;
        case VDC_POLICY_CHANGE_ASK_MEMORY:
            trial.partition.memory_bytes = change->amount;
            break;
        case VDC_POLICY_CHANGE_OPEN_NODE:
            trial.relax.open = true;
            break;
        case VDC_POLICY_CHANGE_RAISE_QUOTA:
            break; /* is no node's business */
        }
    }
    (void)vdc_policy_need(policy, &trial.partition, &trial.need);
    place_prepare_rules(&trial);
    struct place_fill fill;
    struct place_failure failures[FAILURES_MAX];
    bool works = place_examine_node(&trial, plan->node, &fill, failures) == 0;
    place_release_rules(&trial);
    return works;
}

static void choose_plan(const struct place_context *context, const struct plans *plans,
                        struct vdc_policy_verdict *verdict)
{
    for (size_t i = 0; i < plans->count; i++) {
        const struct place_plan *plan = &plans->items[i];
        if (plan_works(context, plan)) {
            memcpy(verdict->changes, plan->changes, sizeof verdict->changes);
            verdict->change_count = plan->count;
            return;
        }
    }
}

/* `whole` holds the changes that no node can do without. */
void place_plan_all(const struct place_context *context, const struct place_plan *whole,
                    struct vdc_policy_verdict *verdict)
{
    struct plans plans = {0};
    for (size_t i = 0; i < context->snapshot->node_count; i++) {
        size_t index = context->order[i];
        if (place_is_asked_for(context, index)) {
            struct place_fill fill;
            struct place_failure failures[FAILURES_MAX];
            size_t count = place_examine_node(context, index, &fill, failures);
            plan_node(context, index, &fill, failures, count, whole, &plans);
        }
    }
    choose_plan(context, &plans, verdict);
}
