/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One node under one request: what is against it, and how many points it has. Groups of the rules are
 * counted once for all nodes.
 */
#include <string.h>

#include <vdc/base.h>

#include "place_internal.h"

/* Points of a completely free (or full) node, in thousandths. */
#define POINTS INT64_C(100000)
/* ---- small things ---- */

const struct vdc_policy_node *place_node_at(const struct place_context *context, size_t index)
{
    return &context->snapshot->nodes[index];
}

const char *place_rack_text(const struct vdc_policy_node *node)
{
    return node->rack[0] != 0 ? node->rack : node->name;
}

bool place_is_same_partition(const struct vdc_policy_partition *a,
                             const struct vdc_policy_partition *b)
{
    if (vdc_id_is_none(&a->id) || vdc_id_is_none(&b->id)) {
        return strcmp(a->name, b->name) == 0;
    }
    return vdc_id_equal(&a->id, &b->id);
}

static bool is_dropped(const struct place_context *context, size_t rule)
{
    return context->relax.dropped != NULL && context->relax.dropped[rule];
}

static bool is_usable(const struct place_context *context, size_t node)
{
    return place_node_at(context, node)->state == VDC_POLICY_NODE_USABLE ||
           (context->relax.open && context->relax.node == node);
}

/* Whether the partition counts for rules: it is not the one to be placed, and it runs. */
static bool counts_for_rules(const struct place_context *context,
                             const struct vdc_policy_partition *partition)
{
    if (partition->node == VDC_POLICY_NO_NODE ||
        place_is_same_partition(&context->partition, partition)) {
        return false;
    }
    VDC_ASSERT(partition->node < context->snapshot->node_count);
    return place_node_at(context, partition->node)->state != VDC_POLICY_NODE_LOST;
}

/* ---- rules: counting the groups ---- */

size_t place_domain_of(const struct place_context *context, const struct policy_rule *rule,
                       size_t node)
{
    return rule->scope == POLICY_SCOPE_RACK ? context->rack[node] : node;
}

static bool is_in_group(const struct policy_rule *rule,
                        const struct vdc_policy_partition *partition)
{
    if (rule->kind == RULE_NEAR) {
        return vdc_expr_eval(rule->other, NULL, partition);
    }
    return policy_rule_applies(rule, partition);
}

static void count_group(struct place_context *context, const struct policy_rule *rule,
                        struct place_rule_state *state)
{
    const struct vdc_policy_snapshot *snapshot = context->snapshot;
    state->counts = vdc_calloc(snapshot->node_count, sizeof *state->counts);
    state->holders = vdc_calloc(snapshot->node_count, sizeof *state->holders);
    for (size_t i = 0; i < snapshot->partition_count; i++) {
        const struct vdc_policy_partition *partition = &snapshot->partitions[i];
        if (!counts_for_rules(context, partition) || !is_in_group(rule, partition)) {
            continue;
        }
        size_t domain = place_domain_of(context, rule, partition->node);
        const struct vdc_policy_partition *first = state->holders[domain];
        state->counts[domain]++;
        state->total++;
        if (first == NULL || strcmp(partition->name, first->name) < 0) {
            state->holders[domain] = partition;
        }
    }
}

/* Whether the partition could ever go there: a member of the zone, usable, and no `require` against
 * it. Racks with none of these do not make the others look crowded. */
static bool is_eligible(const struct place_context *context, size_t index)
{
    const struct vdc_policy *policy = context->policy;
    const struct vdc_policy_node *node = place_node_at(context, index);
    struct vdc_policy_share share;
    if (!is_usable(context, index) || !vdc_policy_share(policy, node, &share)) {
        return false;
    }
    for (size_t i = 0; i < policy->rule_count; i++) {
        const struct policy_rule *rule = &policy->rules[i];
        if (rule->kind == RULE_REQUIRE && context->states[i].applies &&
            !vdc_expr_eval(rule->other, node, &context->partition)) {
            return false;
        }
    }
    return true;
}

static void find_fewest(struct place_context *context, const struct policy_rule *rule,
                        struct place_rule_state *state)
{
    state->fewest = UINT64_MAX;
    for (size_t i = 0; i < context->snapshot->node_count; i++) {
        if (is_eligible(context, i)) {
            uint64_t count = state->counts[place_domain_of(context, rule, i)];
            state->fewest = VDC_MIN(state->fewest, count);
        }
    }
    if (state->fewest == UINT64_MAX) {
        state->fewest = 0;
    }
}

void place_prepare_rules(struct place_context *context)
{
    const struct vdc_policy *policy = context->policy;
    context->states = vdc_calloc(policy->rule_count, sizeof *context->states);
    for (size_t i = 0; i < policy->rule_count; i++) {
        context->states[i].applies =
            !is_dropped(context, i) && policy_rule_applies(&policy->rules[i], &context->partition);
    }
    for (size_t i = 0; i < policy->rule_count; i++) {
        const struct policy_rule *rule = &policy->rules[i];
        struct place_rule_state *state = &context->states[i];
        bool grouped =
            rule->kind == RULE_APART || rule->kind == RULE_SPREAD || rule->kind == RULE_NEAR;
        if (!state->applies || !grouped) {
            continue;
        }
        count_group(context, rule, state);
        if (rule->kind == RULE_SPREAD) {
            find_fewest(context, rule, state);
        }
    }
}

void place_release_rules(struct place_context *context)
{
    for (size_t i = 0; i < context->policy->rule_count && context->states != NULL; i++) {
        free(context->states[i].counts);
        free(context->states[i].holders);
    }
    free(context->states);
    context->states = NULL;
}

/* ---- one node: what is against it ---- */

/* CPUs in use counted in thousandths of the machine's: what is shared stands overcommitted. */
uint64_t place_cpu_in_use(const struct vdc_policy *policy, uint64_t dedicated,
                          uint64_t shared_milli)
{
    uint64_t ratio = policy->settings.cpu_overcommit_milli;
    unsigned __int128 scaled = (unsigned __int128)shared_milli * 1000 + ratio - 1;
    return dedicated * 1000 + (uint64_t)(scaled / ratio);
}

/* False: the node gives the zone nothing. */
bool place_fill_node(const struct place_context *context, size_t index, struct place_fill *fill)
{
    const struct vdc_policy_node *node = place_node_at(context, index);
    if (!policy_capacity_of(context->policy, node, &fill->capacity)) {
        return false;
    }
    if (context->relax.node == index) {
        fill->capacity.cpu_milli += context->relax.cpu_milli;
        fill->capacity.memory_bytes += context->relax.memory_bytes;
    }
    fill->cpu_before =
        place_cpu_in_use(context->policy, node->cpus_dedicated, node->cpu_shared_milli);
    fill->cpu_after = place_cpu_in_use(
        context->policy, (uint64_t)node->cpus_dedicated + context->need.cpus_dedicated,
        node->cpu_shared_milli + context->need.cpu_shared_milli);
    fill->memory_after = node->memory_used_bytes + context->need.memory_bytes;
    return true;
}

static bool breaks_rule(const struct place_context *context, size_t index,
                        const struct policy_rule *rule, const struct place_rule_state *state)
{
    if (!state->applies || rule->soft) {
        return false;
    }
    switch (rule->kind) {
    case RULE_APART:
        return state->counts[place_domain_of(context, rule, index)] > 0;
    case RULE_SPREAD:
        return state->counts[place_domain_of(context, rule, index)] + UINT64_C(1) >
               state->fewest + rule->max_skew;
    case RULE_NEAR:
        /* The first of two groups that want to be together has nobody to be near to. */
        return state->total > 0 && state->counts[place_domain_of(context, rule, index)] == 0;
    case RULE_REQUIRE:
        return !vdc_expr_eval(rule->other, place_node_at(context, index), &context->partition);
    case RULE_PREFER:
        return false;
    }
    return false;
}

static bool is_excluded(const struct vdc_policy_request *request, const char *name)
{
    for (size_t i = 0; i < request->excluded_count; i++) {
        if (strcmp(request->excluded[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static void add_failure(struct place_failure *failures, size_t *count,
                        enum vdc_policy_reason reason, uint64_t asked, uint64_t available)
{
    failures[(*count)++] =
        (struct place_failure){.reason = reason, .asked = asked, .available = available};
}

uint64_t place_left_of(uint64_t total, uint64_t used)
{
    return total > used ? total - used : 0;
}

/* Every reason against the node, in the order of enum vdc_policy_reason; returns how many. `fill` is
 * valid if none of them is NOT_IN_ZONE. */
size_t place_examine_node(const struct place_context *context, size_t index,
                          struct place_fill *fill, struct place_failure failures[FAILURES_MAX])
{
    const struct vdc_policy_request *request = context->request;
    const struct vdc_policy_node *node = place_node_at(context, index);
    size_t count = 0;
    if (!place_fill_node(context, index, fill)) {
        add_failure(failures, &count, VDC_POLICY_REASON_NOT_IN_ZONE, 0, 0);
        return count;
    }
    if (is_excluded(request, node->name)) {
        add_failure(failures, &count, VDC_POLICY_REASON_EXCLUDED, 0, 0);
    }
    if (request->cause == VDC_POLICY_MIGRATE && request->partition.node == index) {
        add_failure(failures, &count, VDC_POLICY_REASON_ALREADY_THERE, 0, 0);
    }
    if (!is_usable(context, index)) {
        add_failure(failures, &count, VDC_POLICY_REASON_NOT_USABLE, 0, 0);
    }
    if (context->partition.vcpus > fill->capacity.cpus) {
        add_failure(failures, &count, VDC_POLICY_REASON_VCPUS, context->partition.vcpus,
                    fill->capacity.cpus);
    }
    if (fill->cpu_after > fill->capacity.cpu_milli) {
        add_failure(failures, &count, VDC_POLICY_REASON_CPU, fill->cpu_after - fill->cpu_before,
                    place_left_of(fill->capacity.cpu_milli, fill->cpu_before));
    }
    if (fill->memory_after > fill->capacity.memory_bytes) {
        add_failure(failures, &count, VDC_POLICY_REASON_MEMORY, context->need.memory_bytes,
                    place_left_of(fill->capacity.memory_bytes, node->memory_used_bytes));
    }
    for (size_t i = 0; i < context->policy->rule_count; i++) {
        if (breaks_rule(context, index, &context->policy->rules[i], &context->states[i])) {
            failures[count++] = (struct place_failure){.reason = VDC_POLICY_REASON_RULE, .rule = i};
        }
    }
    return count;
}

/* ---- one node: its score ---- */

static void add_part(struct vdc_policy_candidate *candidate, const char *name, int64_t milli)
{
    candidate->score_milli += milli;
    if (milli != 0 && candidate->part_count < VDC_POLICY_PARTS_MAX) {
        struct vdc_policy_part *part = &candidate->parts[candidate->part_count++];
        vdc_str_set(part->name, sizeof part->name, name);
        part->milli = milli;
    }
}

/* Points for the part of `total` that is left when `used` is taken. */
static int64_t free_points(uint64_t total, uint64_t used)
{
    return total == 0 ? 0
                      : (int64_t)((unsigned __int128)place_left_of(total, used) * (uint64_t)POINTS /
                                  total);
}

static void score_strategy(const struct place_context *context, const struct place_fill *fill,
                           struct vdc_policy_candidate *candidate)
{
    const struct vdc_policy *policy = context->policy;
    int64_t cpu_weight = policy->weight_cpu_milli;
    int64_t memory_weight = policy->weight_memory_milli;
    int64_t sum = cpu_weight + memory_weight;
    if (sum == 0) {
        return;
    }
    int64_t cpu = free_points(fill->capacity.cpu_milli, fill->cpu_after);
    int64_t memory = free_points(fill->capacity.memory_bytes, fill->memory_after);
    switch (policy->strategy) {
    case POLICY_SPREAD:
        add_part(candidate, "cpu", cpu * cpu_weight / sum);
        add_part(candidate, "memory", memory * memory_weight / sum);
        return;
    case POLICY_PACK:
        add_part(candidate, "cpu", (POINTS - cpu) * cpu_weight / sum);
        add_part(candidate, "memory", (POINTS - memory) * memory_weight / sum);
        return;
    case POLICY_BALANCED:
        add_part(candidate, "cpu", cpu * cpu_weight / sum / 2);
        add_part(candidate, "memory", memory * memory_weight / sum / 2);
        add_part(candidate, "balance", (POINTS - (cpu > memory ? cpu - memory : memory - cpu)) / 2);
        return;
    }
}

static int64_t rule_points(const struct place_context *context, size_t index,
                           const struct policy_rule *rule, const struct place_rule_state *state)
{
    int64_t count = 0;
    int64_t skew = 0;
    switch (rule->kind) {
    case RULE_APART:
        count = state->counts[place_domain_of(context, rule, index)];
        return rule->weight_milli / (1 + count);
    case RULE_SPREAD:
        count = state->counts[place_domain_of(context, rule, index)];
        skew = count + 1 - (int64_t)state->fewest;
        return skew <= (int64_t)rule->max_skew
                   ? rule->weight_milli
                   : rule->weight_milli * (int64_t)rule->max_skew / skew;
    case RULE_NEAR:
        return state->counts[place_domain_of(context, rule, index)] > 0 ? rule->weight_milli : 0;
    case RULE_PREFER:
        return vdc_expr_eval(rule->other, place_node_at(context, index), &context->partition)
                   ? rule->weight_milli
                   : 0;
    case RULE_REQUIRE:
        return 0;
    }
    return 0;
}

void place_score_node(const struct place_context *context, size_t index,
                      const struct place_fill *fill, struct vdc_policy_candidate *candidate)
{
    const struct vdc_policy_node *node = place_node_at(context, index);
    *candidate = (struct vdc_policy_candidate){0};
    vdc_str_set(candidate->node, sizeof candidate->node, node->name);
    vdc_str_set(candidate->rack, sizeof candidate->rack, node->rack);
    score_strategy(context, fill, candidate);
    for (size_t i = 0; i < context->policy->rule_count; i++) {
        const struct policy_rule *rule = &context->policy->rules[i];
        if (rule->soft && context->states[i].applies) {
            add_part(candidate, rule->name, rule_points(context, index, rule, &context->states[i]));
        }
    }
}

bool place_is_asked_for(const struct place_context *context, size_t index)
{
    const char *target = context->request->target;
    return target == NULL || strcmp(target, place_node_at(context, index)->name) == 0;
}
