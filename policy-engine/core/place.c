/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One placement:
 *
 *     check the request as a whole (class, tenant, quota)
 *     count each rule's group per rack or node          -> struct rule_state
 *     for each node, by name: every reason against it   -> struct failure[]
 *         none: score it, keep the best two
 *         some: the first is the rejection
 *     nothing fits: what would mend all reasons of a node is a plan; try the cheapest plans by
 *         evaluating again with them done, name the first that works
 *
 * place_node.c looks at one node, place_plan.c at what would help; the order of everything is here.
 *
 * Nodes are visited in the order of their names and a later one wins only by a higher score, so the
 * order of the snapshot's arrays cannot show. All arithmetic is in integers.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/quantity.h>

#include "place_internal.h"

/* ---- order and racks ---- */

static int compare_node_names(const void *a, const void *b, void *nodes)
{
    const struct vdc_policy_node *left = (const struct vdc_policy_node *)nodes + *(const size_t *)a;
    const struct vdc_policy_node *right =
        (const struct vdc_policy_node *)nodes + *(const size_t *)b;
    return strcmp(left->name, right->name);
}

static int compare_racks(const void *a, const void *b, void *nodes)
{
    const struct vdc_policy_node *left = (const struct vdc_policy_node *)nodes + *(const size_t *)a;
    const struct vdc_policy_node *right =
        (const struct vdc_policy_node *)nodes + *(const size_t *)b;
    return strcmp(left->rack, right->rack);
}

/* Numbers the racks; nodes without one get a number each. */
static void number_racks(struct place_context *context)
{
    size_t count = context->snapshot->node_count;
    void *nodes = (void *)(uintptr_t)context->snapshot->nodes;
    vdc_autofree size_t *by_rack = vdc_calloc(count, sizeof *by_rack);
    memcpy(by_rack, context->order, count * sizeof *by_rack);
    if (count > 1) {
        qsort_r(by_rack, count, sizeof *by_rack, compare_racks, nodes);
    }
    size_t number = 0;
    for (size_t i = 0; i < count; i++) {
        const struct vdc_policy_node *node = place_node_at(context, by_rack[i]);
        if (i > 0 && (node->rack[0] == 0 ||
                      strcmp(node->rack, place_node_at(context, by_rack[i - 1])->rack) != 0)) {
            number++;
        }
        context->rack[by_rack[i]] = number;
    }
}

static void sort_nodes(struct place_context *context)
{
    size_t count = context->snapshot->node_count;
    void *nodes = (void *)(uintptr_t)context->snapshot->nodes;
    context->order = vdc_calloc(count, sizeof *context->order);
    context->rack = vdc_calloc(count, sizeof *context->rack);
    for (size_t i = 0; i < count; i++) {
        context->order[i] = i;
    }
    if (count > 1) {
        qsort_r(context->order, count, sizeof *context->order, compare_node_names, nodes);
    }
    number_racks(context);
}

/* ---- what goes into the verdict ---- */

static void milli_text(uint64_t milli, char text[VDC_QUANTITY_TEXT_CAP])
{
    uint64_t fraction = milli % 1000;
    unsigned digits = 3;
    while (fraction > 0 && fraction % 10 == 0) {
        fraction /= 10;
        digits--;
    }
    if (fraction == 0) {
        snprintf(text, VDC_QUANTITY_TEXT_CAP, "%llu", (unsigned long long)(milli / 1000));
    } else {
        snprintf(text, VDC_QUANTITY_TEXT_CAP, "%llu.%0*llu", (unsigned long long)(milli / 1000),
                 (int)digits, (unsigned long long)fraction);
    }
}

static void rule_detail(const struct place_context *context, size_t index, size_t rule_index,
                        char detail[VDC_POLICY_DETAIL_CAP])
{
    const struct policy_rule *rule = &context->policy->rules[rule_index];
    const struct place_rule_state *state = &context->states[rule_index];
    const struct vdc_policy_node *node = place_node_at(context, index);
    const char *kind = rule->scope == POLICY_SCOPE_RACK ? "rack" : "node";
    const char *place = rule->scope == POLICY_SCOPE_RACK ? place_rack_text(node) : node->name;
    size_t domain = place_domain_of(context, rule, index);
    char more[32] = "";
    switch (rule->kind) {
    case RULE_APART:
        if (state->counts[domain] > 1) {
            snprintf(more, sizeof more, " and %u more", state->counts[domain] - 1);
        }
        snprintf(detail, VDC_POLICY_DETAIL_CAP, "%s %s holds %s%s", kind, place,
                 state->holders[domain]->name, more);
        return;
    case RULE_SPREAD:
        snprintf(detail, VDC_POLICY_DETAIL_CAP,
                 "%s %s would hold %llu, the emptiest %s holds %llu, %llu more is allowed", kind,
                 place, (unsigned long long)state->counts[domain] + 1, kind,
                 (unsigned long long)state->fewest, (unsigned long long)rule->max_skew);
        return;
    case RULE_NEAR:
        snprintf(detail, VDC_POLICY_DETAIL_CAP, "%s %s holds none of: %.80s", kind, place,
                 vdc_expr_text(rule->other));
        return;
    case RULE_REQUIRE:
        snprintf(detail, VDC_POLICY_DETAIL_CAP, "does not meet: %.120s",
                 vdc_expr_text(rule->other));
        return;
    case RULE_PREFER:
        return;
    }
}

static void failure_detail(const struct place_context *context, size_t index,
                           const struct place_failure *failure, char detail[VDC_POLICY_DETAIL_CAP])
{
    const struct vdc_policy_node *node = place_node_at(context, index);
    char asked[VDC_QUANTITY_TEXT_CAP];
    char available[VDC_QUANTITY_TEXT_CAP];
    switch (failure->reason) {
    case VDC_POLICY_REASON_CPU:
        milli_text(failure->asked, asked);
        milli_text(failure->available, available);
        snprintf(detail, VDC_POLICY_DETAIL_CAP, "asks %s CPU, %s free", asked, available);
        return;
    case VDC_POLICY_REASON_MEMORY:
        vdc_quantity_bytes_text(failure->asked, asked);
        vdc_quantity_bytes_text(failure->available, available);
        snprintf(detail, VDC_POLICY_DETAIL_CAP, "asks %s, %s free", asked, available);
        return;
    case VDC_POLICY_REASON_VCPUS:
        snprintf(detail, VDC_POLICY_DETAIL_CAP, "asks %llu vCPUs, the node has %llu CPUs",
                 (unsigned long long)failure->asked, (unsigned long long)failure->available);
        return;
    case VDC_POLICY_REASON_NOT_USABLE:
        snprintf(detail, VDC_POLICY_DETAIL_CAP, "%.160s",
                 node->why_not != NULL                 ? node->why_not
                 : node->state == VDC_POLICY_NODE_LOST ? "lost"
                                                       : "closed");
        return;
    case VDC_POLICY_REASON_RULE:
        rule_detail(context, index, failure->rule, detail);
        return;
    case VDC_POLICY_REASON_NOT_IN_ZONE:
    case VDC_POLICY_REASON_EXCLUDED:
    case VDC_POLICY_REASON_ALREADY_THERE:
    case VDC_POLICY_REASON_QUOTA:
    case VDC_POLICY_REASON_CLASS:
    case VDC_POLICY_REASON_TENANT:
    case VDC_POLICY_REASON_TARGET:
        return;
    }
}

static void tally(struct vdc_policy_verdict *verdict, enum vdc_policy_reason reason,
                  const char *rule)
{
    for (size_t i = 0; i < verdict->tally_count; i++) {
        struct vdc_policy_tally *known = &verdict->tallies[i];
        if (known->reason == reason && strcmp(known->rule, rule) == 0) {
            known->nodes++;
            return;
        }
    }
    verdict->tallies =
        vdc_realloc(verdict->tallies, verdict->tally_count + 1, sizeof verdict->tallies[0]);
    struct vdc_policy_tally *made = &verdict->tallies[verdict->tally_count++];
    *made = (struct vdc_policy_tally){.reason = reason, .nodes = 1};
    vdc_str_set(made->rule, sizeof made->rule, rule);
}

static int compare_tallies(const void *a, const void *b)
{
    const struct vdc_policy_tally *left = a;
    const struct vdc_policy_tally *right = b;
    if (left->nodes != right->nodes) {
        return left->nodes > right->nodes ? -1 : 1;
    }
    if (left->reason != right->reason) {
        return left->reason < right->reason ? -1 : 1;
    }
    return strcmp(left->rule, right->rule);
}

/* Room for one more rejection, or NULL where enough examples are kept. */
static struct vdc_policy_rejection *add_rejection(struct vdc_policy_verdict *verdict,
                                                  enum vdc_policy_reason reason, const char *rule)
{
    if (verdict->rejection_count == VDC_POLICY_REJECTIONS_MAX) {
        return NULL;
    }
    if (verdict->rejections == NULL) {
        verdict->rejections = vdc_calloc(VDC_POLICY_REJECTIONS_MAX, sizeof verdict->rejections[0]);
    }
    struct vdc_policy_rejection *made = &verdict->rejections[verdict->rejection_count++];
    *made = (struct vdc_policy_rejection){.reason = reason};
    vdc_str_set(made->rule, sizeof made->rule, rule);
    return made;
}

static void reject_node(const struct place_context *context, size_t index,
                        const struct place_failure *failure, struct vdc_policy_verdict *verdict)
{
    const char *rule =
        failure->reason == VDC_POLICY_REASON_RULE ? context->policy->rules[failure->rule].name : "";
    tally(verdict, failure->reason, rule);
    struct vdc_policy_rejection *made = add_rejection(verdict, failure->reason, rule);
    if (made == NULL) {
        return;
    }
    const struct vdc_policy_node *node = place_node_at(context, index);
    vdc_str_set(made->node, sizeof made->node, node->name);
    vdc_str_set(made->rack, sizeof made->rack, node->rack);
    made->asked = failure->asked;
    made->available = failure->available;
    failure_detail(context, index, failure, made->detail);
    vdc_text_make_printable(made->detail);
}

/* ---- the request as a whole ---- */

static void add_hint(char detail[VDC_POLICY_DETAIL_CAP], const char *name, const char *const *known,
                     size_t count)
{
    const char *nearest = vdc_nearest_name(name, known, count);
    size_t used = strlen(detail);
    vdc_text_make_printable(detail);
    if (nearest != NULL) {
        snprintf(detail + used, VDC_POLICY_DETAIL_CAP - used, "; did you mean %s?", nearest);
        return;
    }
    for (size_t i = 0; i < count && used < VDC_POLICY_DETAIL_CAP; i++) {
        snprintf(detail + used, VDC_POLICY_DETAIL_CAP - used, "%s%s", i == 0 ? " (known: " : " ",
                 known[i]);
        used = strlen(detail);
    }
    if (count > 0) {
        snprintf(detail + used, VDC_POLICY_DETAIL_CAP - used, ")");
    }
}

/* False: the class is unknown and nothing can be counted. */
static bool check_class(const struct place_context *context, struct vdc_policy_verdict *verdict)
{
    const struct vdc_policy *policy = context->policy;
    const char *name = context->partition.class_name;
    if (vdc_policy_class_find(policy, name) != NULL) {
        return true;
    }
    struct vdc_policy_rejection *made = add_rejection(verdict, VDC_POLICY_REASON_CLASS, "");
    VDC_ASSERT(made != NULL);
    const char *known[VDC_POLICY_CLASSES_MAX];
    for (size_t i = 0; i < policy->class_count; i++) {
        known[i] = policy->classes[i].name;
    }
    if (name[0] == 0) {
        snprintf(made->detail, sizeof made->detail,
                 "no class was given and there is none called \"default\"");
    } else {
        snprintf(made->detail, sizeof made->detail, "there is no class \"%.63s\"", name);
    }
    add_hint(made->detail, name, known, policy->class_count);
    return false;
}

struct usage {
    uint64_t cpus;
    uint64_t memory_bytes;
    uint64_t partitions;
};

static struct usage usage_of(const struct place_context *context, const char *tenant)
{
    struct usage usage = {0};
    for (size_t i = 0; i < context->snapshot->partition_count; i++) {
        const struct vdc_policy_partition *partition = &context->snapshot->partitions[i];
        if (strcmp(partition->tenant, tenant) == 0 &&
            !place_is_same_partition(&context->partition, partition)) {
            usage.cpus += partition->vcpus;
            usage.memory_bytes += partition->memory_bytes;
            usage.partitions++;
        }
    }
    return usage;
}

/* Refuses what would exceed one quota and says in the plan what would mend it. */
static void check_quota(struct vdc_policy_verdict *verdict, struct place_plan *plan,
                        const char *tenant, const char *unit, uint64_t limit, uint64_t used,
                        uint64_t asked)
{
    if (limit == UINT64_MAX || used + asked <= limit) {
        return;
    }
    char rule[VDC_POLICY_RULE_CAP];
    snprintf(rule, sizeof rule, "%s.%s", tenant, unit);
    struct vdc_policy_rejection *made = add_rejection(verdict, VDC_POLICY_REASON_QUOTA, rule);
    VDC_ASSERT(made != NULL);
    made->asked = asked;
    made->available = place_left_of(limit, used);
    char texts[3][VDC_QUANTITY_TEXT_CAP];
    uint64_t numbers[3] = {asked, used, limit};
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(unit, "memory") == 0) {
            vdc_quantity_bytes_text(numbers[i], texts[i]);
        } else {
            snprintf(texts[i], sizeof texts[i], "%llu", (unsigned long long)numbers[i]);
        }
    }
    snprintf(made->detail, sizeof made->detail, "asks %s, uses %s of %s", texts[0], texts[1],
             texts[2]);
    VDC_ASSERT(plan->count < VDC_POLICY_CHANGES_MAX);
    struct vdc_policy_change *change = &plan->changes[plan->count++];
    *change =
        (struct vdc_policy_change){.kind = VDC_POLICY_CHANGE_RAISE_QUOTA, .amount = used + asked};
    vdc_str_set(change->rule, sizeof change->rule, rule);
}

/* False: refused, and no change on a node would help. Quotas that are exceeded go into `plan`. */
static bool check_tenant(const struct place_context *context, struct vdc_policy_verdict *verdict,
                         struct place_plan *plan)
{
    const struct vdc_policy *policy = context->policy;
    const struct vdc_policy_partition *partition = &context->partition;
    if (context->request->cause != VDC_POLICY_CREATE || partition->tenant[0] == 0 ||
        !policy->tenants_given) {
        return true;
    }
    const struct policy_tenant *tenant = policy_tenant_find(policy, partition->tenant);
    if (tenant == NULL) {
        struct vdc_policy_rejection *made = add_rejection(verdict, VDC_POLICY_REASON_TENANT, "");
        VDC_ASSERT(made != NULL);
        snprintf(made->detail, sizeof made->detail, "there is no tenant \"%.63s\"",
                 partition->tenant);
        vdc_text_make_printable(made->detail);
        return false;
    }
    const struct vdc_policy_class *found = vdc_policy_class_find(policy, partition->class_name);
    int class_index = policy_class_index(policy, found->name);
    if (class_index >= 0 && (tenant->classes >> class_index & 1) == 0) {
        struct vdc_policy_rejection *made = add_rejection(verdict, VDC_POLICY_REASON_CLASS, "");
        VDC_ASSERT(made != NULL);
        snprintf(made->detail, sizeof made->detail, "tenant %s may not use class %s", tenant->name,
                 found->name);
        return false;
    }
    struct usage usage = usage_of(context, tenant->name);
    check_quota(verdict, plan, tenant->name, "cpus", tenant->quota.cpus, usage.cpus,
                partition->vcpus);
    check_quota(verdict, plan, tenant->name, "memory", tenant->quota.memory_bytes,
                usage.memory_bytes, partition->memory_bytes);
    check_quota(verdict, plan, tenant->name, "partitions", tenant->quota.partitions,
                usage.partitions, 1);
    return true;
}

/* ---- the decision ---- */

static void keep_candidate(struct vdc_policy_verdict *verdict, size_t index,
                           const struct vdc_policy_candidate *candidate)
{
    bool first = verdict->winner.node[0] == 0;
    if (first || candidate->score_milli > verdict->winner.score_milli) {
        if (!first) {
            verdict->runner_up = verdict->winner;
        }
        verdict->winner = *candidate;
        verdict->node = index;
    } else if (verdict->runner_up.node[0] == 0 ||
               candidate->score_milli > verdict->runner_up.score_milli) {
        verdict->runner_up = *candidate;
    }
}

static void examine_all(const struct place_context *context, struct vdc_policy_verdict *verdict)
{
    for (size_t i = 0; i < context->snapshot->node_count; i++) {
        size_t index = context->order[i];
        if (!place_is_asked_for(context, index)) {
            continue;
        }
        verdict->considered++;
        struct place_fill fill;
        struct place_failure failures[FAILURES_MAX];
        if (place_examine_node(context, index, &fill, failures) > 0) {
            reject_node(context, index, &failures[0], verdict);
            continue;
        }
        struct vdc_policy_candidate candidate;
        place_score_node(context, index, &fill, &candidate);
        verdict->fitting++;
        keep_candidate(verdict, index, &candidate);
    }
    if (verdict->considered == 0 && context->request->target != NULL) {
        struct vdc_policy_rejection *made = add_rejection(verdict, VDC_POLICY_REASON_TARGET, "");
        VDC_ASSERT(made != NULL);
        snprintf(made->detail, sizeof made->detail, "there is no node \"%.63s\"",
                 context->request->target);
    }
}

void vdc_policy_place(const struct vdc_policy *policy, const struct vdc_policy_snapshot *snapshot,
                      const struct vdc_policy_request *request, struct vdc_policy_verdict *verdict)
{
    *verdict = (struct vdc_policy_verdict){.cause = request->cause,
                                           .policy_version = snapshot->policy_version,
                                           .generation = snapshot->generation,
                                           .node = VDC_POLICY_NO_NODE};
    vdc_str_set(verdict->partition, sizeof verdict->partition, request->partition.name);
    struct place_context context = {.policy = policy,
                                    .snapshot = snapshot,
                                    .request = request,
                                    .partition = request->partition,
                                    .relax = {.node = VDC_POLICY_NO_NODE}};
    struct place_plan whole = {0};
    if (!check_class(&context, verdict) || !check_tenant(&context, verdict, &whole)) {
        return;
    }
    (void)vdc_policy_need(policy, &context.partition, &context.need);
    verdict->need = context.need;
    sort_nodes(&context);
    place_prepare_rules(&context);
    examine_all(&context, verdict);
    verdict->placed = whole.count == 0 && verdict->fitting > 0;
    if (!verdict->placed) {
        place_plan_all(&context, &whole, verdict);
    }
    place_release_rules(&context);
    free(context.order);
    free(context.rack);
    if (!verdict->placed) {
        /* Nodes that would fit do not matter where a quota stands against all of them. */
        verdict->node = VDC_POLICY_NO_NODE;
        verdict->winner = verdict->runner_up = (struct vdc_policy_candidate){0};
    }
    if (verdict->tally_count > 1) {
        qsort(verdict->tallies, verdict->tally_count, sizeof verdict->tallies[0], compare_tallies);
    }
}

void vdc_policy_verdict_deinit(struct vdc_policy_verdict *verdict)
{
    free(verdict->rejections);
    free(verdict->tallies);
    *verdict = (struct vdc_policy_verdict){.node = VDC_POLICY_NO_NODE};
}
