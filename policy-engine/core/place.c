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
 * Nodes are visited in the order of their names and a later one wins only by a higher score, so the
 * order of the snapshot's arrays cannot show. All arithmetic is in integers.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/quantity.h>

#include "policy_internal.h"

/* Points of a completely free (or full) node, in thousandths. */
#define POINTS INT64_C(100000)
/* Plans that are tried before the engine says that it knows none. */
#define PLANS_MAX 8

struct rule_state {
    bool applies;
    uint32_t *counts; /* of the group, per rack or node (snapshot index); NULL: not counted */
    const struct vdc_policy_partition **holders; /* the first of them by name */
    uint64_t total;                              /* near: members of the group anywhere */
    uint64_t fewest; /* spread: of all racks (nodes) where the partition could go */
};

/* What a plan changes for the second look; zero: nothing. */
struct relax {
    size_t node; /* what follows concerns this node (snapshot index) */
    uint64_t cpu_milli;
    uint64_t memory_bytes;
    bool open;
    bool *dropped; /* per rule; NULL: none */
};

struct context {
    const struct vdc_policy *policy;
    const struct vdc_policy_snapshot *snapshot;
    const struct vdc_policy_request *request;
    struct vdc_policy_partition partition; /* the request's, vcpus changed by a plan */
    struct vdc_policy_need need;
    size_t *order;             /* snapshot indices by node name */
    size_t *rack;              /* per node: number of its rack */
    struct rule_state *states; /* per rule */
    struct relax relax;
};

struct failure {
    enum vdc_policy_reason reason;
    size_t rule; /* RULE */
    uint64_t asked;
    uint64_t available;
};

#define FAILURES_MAX (VDC_POLICY_RULES_MAX + 8)

struct plan {
    struct vdc_policy_change changes[VDC_POLICY_CHANGES_MAX];
    size_t count;
    uint64_t trouble;  /* sum over the changes, see trouble_of() */
    uint64_t shortage; /* thousandths of what the node offers, summed */
    size_t node;
};

/* ---- small things ---- */

static const struct vdc_policy_node *node_at(const struct context *context, size_t index)
{
    return &context->snapshot->nodes[index];
}

static const char *rack_text(const struct vdc_policy_node *node)
{
    return node->rack[0] != 0 ? node->rack : node->name;
}

static bool is_same_partition(const struct vdc_policy_partition *a,
                              const struct vdc_policy_partition *b)
{
    if (vdc_id_is_none(&a->id) || vdc_id_is_none(&b->id)) {
        return strcmp(a->name, b->name) == 0;
    }
    return vdc_id_equal(&a->id, &b->id);
}

static bool is_dropped(const struct context *context, size_t rule)
{
    return context->relax.dropped != NULL && context->relax.dropped[rule];
}

static bool is_usable(const struct context *context, size_t node)
{
    return node_at(context, node)->state == VDC_POLICY_NODE_USABLE ||
           (context->relax.open && context->relax.node == node);
}

/* Whether the partition counts for rules: it is not the one to be placed, and it runs. */
static bool counts_for_rules(const struct context *context,
                             const struct vdc_policy_partition *partition)
{
    if (partition->node == VDC_POLICY_NO_NODE ||
        is_same_partition(&context->partition, partition)) {
        return false;
    }
    VDC_ASSERT(partition->node < context->snapshot->node_count);
    return node_at(context, partition->node)->state != VDC_POLICY_NODE_LOST;
}

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
static void number_racks(struct context *context)
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
        const struct vdc_policy_node *node = node_at(context, by_rack[i]);
        if (i > 0 && (node->rack[0] == 0 ||
                      strcmp(node->rack, node_at(context, by_rack[i - 1])->rack) != 0)) {
            number++;
        }
        context->rack[by_rack[i]] = number;
    }
}

static void sort_nodes(struct context *context)
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

/* ---- rules: counting the groups ---- */

static size_t domain_of(const struct context *context, const struct policy_rule *rule, size_t node)
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

static void count_group(struct context *context, const struct policy_rule *rule,
                        struct rule_state *state)
{
    const struct vdc_policy_snapshot *snapshot = context->snapshot;
    state->counts = vdc_calloc(snapshot->node_count, sizeof *state->counts);
    state->holders = vdc_calloc(snapshot->node_count, sizeof *state->holders);
    for (size_t i = 0; i < snapshot->partition_count; i++) {
        const struct vdc_policy_partition *partition = &snapshot->partitions[i];
        if (!counts_for_rules(context, partition) || !is_in_group(rule, partition)) {
            continue;
        }
        size_t domain = domain_of(context, rule, partition->node);
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
static bool is_eligible(const struct context *context, size_t index)
{
    const struct vdc_policy *policy = context->policy;
    const struct vdc_policy_node *node = node_at(context, index);
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

static void find_fewest(struct context *context, const struct policy_rule *rule,
                        struct rule_state *state)
{
    state->fewest = UINT64_MAX;
    for (size_t i = 0; i < context->snapshot->node_count; i++) {
        if (is_eligible(context, i)) {
            uint64_t count = state->counts[domain_of(context, rule, i)];
            state->fewest = VDC_MIN(state->fewest, count);
        }
    }
    if (state->fewest == UINT64_MAX) {
        state->fewest = 0;
    }
}

static void prepare_rules(struct context *context)
{
    const struct vdc_policy *policy = context->policy;
    context->states = vdc_calloc(policy->rule_count, sizeof *context->states);
    for (size_t i = 0; i < policy->rule_count; i++) {
        context->states[i].applies =
            !is_dropped(context, i) && policy_rule_applies(&policy->rules[i], &context->partition);
    }
    for (size_t i = 0; i < policy->rule_count; i++) {
        const struct policy_rule *rule = &policy->rules[i];
        struct rule_state *state = &context->states[i];
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

static void release_rules(struct context *context)
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
static uint64_t cpu_in_use(const struct vdc_policy *policy, uint64_t dedicated,
                           uint64_t shared_milli)
{
    uint64_t ratio = policy->settings.cpu_overcommit_milli;
    unsigned __int128 scaled = (unsigned __int128)shared_milli * 1000 + ratio - 1;
    return dedicated * 1000 + (uint64_t)(scaled / ratio);
}

struct fill {
    struct policy_capacity capacity;
    uint64_t cpu_before;
    uint64_t cpu_after;
    uint64_t memory_after;
};

/* False: the node gives the zone nothing. */
static bool fill_node(const struct context *context, size_t index, struct fill *fill)
{
    const struct vdc_policy_node *node = node_at(context, index);
    if (!policy_capacity_of(context->policy, node, &fill->capacity)) {
        return false;
    }
    if (context->relax.node == index) {
        fill->capacity.cpu_milli += context->relax.cpu_milli;
        fill->capacity.memory_bytes += context->relax.memory_bytes;
    }
    fill->cpu_before = cpu_in_use(context->policy, node->cpus_dedicated, node->cpu_shared_milli);
    fill->cpu_after =
        cpu_in_use(context->policy, (uint64_t)node->cpus_dedicated + context->need.cpus_dedicated,
                   node->cpu_shared_milli + context->need.cpu_shared_milli);
    fill->memory_after = node->memory_used_bytes + context->need.memory_bytes;
    return true;
}

static bool breaks_rule(const struct context *context, size_t index, const struct policy_rule *rule,
                        const struct rule_state *state)
{
    if (!state->applies || rule->soft) {
        return false;
    }
    switch (rule->kind) {
    case RULE_APART:
        return state->counts[domain_of(context, rule, index)] > 0;
    case RULE_SPREAD:
        return state->counts[domain_of(context, rule, index)] + UINT64_C(1) >
               state->fewest + rule->max_skew;
    case RULE_NEAR:
        /* The first of two groups that want to be together has nobody to be near to. */
        return state->total > 0 && state->counts[domain_of(context, rule, index)] == 0;
    case RULE_REQUIRE:
        return !vdc_expr_eval(rule->other, node_at(context, index), &context->partition);
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

static void add_failure(struct failure *failures, size_t *count, enum vdc_policy_reason reason,
                        uint64_t asked, uint64_t available)
{
    failures[(*count)++] =
        (struct failure){.reason = reason, .asked = asked, .available = available};
}

static uint64_t left_of(uint64_t total, uint64_t used)
{
    return total > used ? total - used : 0;
}

/* Every reason against the node, in the order of enum vdc_policy_reason; returns how many. `fill` is
 * valid if none of them is NOT_IN_ZONE. */
static size_t examine_node(const struct context *context, size_t index, struct fill *fill,
                           struct failure failures[FAILURES_MAX])
{
    const struct vdc_policy_request *request = context->request;
    const struct vdc_policy_node *node = node_at(context, index);
    size_t count = 0;
    if (!fill_node(context, index, fill)) {
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
                    left_of(fill->capacity.cpu_milli, fill->cpu_before));
    }
    if (fill->memory_after > fill->capacity.memory_bytes) {
        add_failure(failures, &count, VDC_POLICY_REASON_MEMORY, context->need.memory_bytes,
                    left_of(fill->capacity.memory_bytes, node->memory_used_bytes));
    }
    for (size_t i = 0; i < context->policy->rule_count; i++) {
        if (breaks_rule(context, index, &context->policy->rules[i], &context->states[i])) {
            failures[count++] = (struct failure){.reason = VDC_POLICY_REASON_RULE, .rule = i};
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
    return total == 0
               ? 0
               : (int64_t)((unsigned __int128)left_of(total, used) * (uint64_t)POINTS / total);
}

static void score_strategy(const struct context *context, const struct fill *fill,
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

static int64_t rule_points(const struct context *context, size_t index,
                           const struct policy_rule *rule, const struct rule_state *state)
{
    int64_t count = 0;
    int64_t skew = 0;
    switch (rule->kind) {
    case RULE_APART:
        count = state->counts[domain_of(context, rule, index)];
        return rule->weight_milli / (1 + count);
    case RULE_SPREAD:
        count = state->counts[domain_of(context, rule, index)];
        skew = count + 1 - (int64_t)state->fewest;
        return skew <= (int64_t)rule->max_skew
                   ? rule->weight_milli
                   : rule->weight_milli * (int64_t)rule->max_skew / skew;
    case RULE_NEAR:
        return state->counts[domain_of(context, rule, index)] > 0 ? rule->weight_milli : 0;
    case RULE_PREFER:
        return vdc_expr_eval(rule->other, node_at(context, index), &context->partition)
                   ? rule->weight_milli
                   : 0;
    case RULE_REQUIRE:
        return 0;
    }
    return 0;
}

static void score_node(const struct context *context, size_t index, const struct fill *fill,
                       struct vdc_policy_candidate *candidate)
{
    const struct vdc_policy_node *node = node_at(context, index);
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

static void rule_detail(const struct context *context, size_t index, size_t rule_index,
                        char detail[VDC_POLICY_DETAIL_CAP])
{
    const struct policy_rule *rule = &context->policy->rules[rule_index];
    const struct rule_state *state = &context->states[rule_index];
    const struct vdc_policy_node *node = node_at(context, index);
    const char *kind = rule->scope == POLICY_SCOPE_RACK ? "rack" : "node";
    const char *place = rule->scope == POLICY_SCOPE_RACK ? rack_text(node) : node->name;
    size_t domain = domain_of(context, rule, index);
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

static void failure_detail(const struct context *context, size_t index,
                           const struct failure *failure, char detail[VDC_POLICY_DETAIL_CAP])
{
    const struct vdc_policy_node *node = node_at(context, index);
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

static void reject_node(const struct context *context, size_t index, const struct failure *failure,
                        struct vdc_policy_verdict *verdict)
{
    const char *rule =
        failure->reason == VDC_POLICY_REASON_RULE ? context->policy->rules[failure->rule].name : "";
    tally(verdict, failure->reason, rule);
    struct vdc_policy_rejection *made = add_rejection(verdict, failure->reason, rule);
    if (made == NULL) {
        return;
    }
    const struct vdc_policy_node *node = node_at(context, index);
    vdc_str_set(made->node, sizeof made->node, node->name);
    vdc_str_set(made->rack, sizeof made->rack, node->rack);
    made->asked = failure->asked;
    made->available = failure->available;
    failure_detail(context, index, failure, made->detail);
    vdc_text_make_printable(made->detail);
}

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

static bool add_change(struct plan *plan, enum vdc_policy_change_kind kind, const char *rule,
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
static bool check_class(const struct context *context, struct vdc_policy_verdict *verdict)
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

static struct usage usage_of(const struct context *context, const char *tenant)
{
    struct usage usage = {0};
    for (size_t i = 0; i < context->snapshot->partition_count; i++) {
        const struct vdc_policy_partition *partition = &context->snapshot->partitions[i];
        if (strcmp(partition->tenant, tenant) == 0 &&
            !is_same_partition(&context->partition, partition)) {
            usage.cpus += partition->vcpus;
            usage.memory_bytes += partition->memory_bytes;
            usage.partitions++;
        }
    }
    return usage;
}

/* Refuses what would exceed one quota and says in the plan what would mend it. */
static void check_quota(struct vdc_policy_verdict *verdict, struct plan *plan, const char *tenant,
                        const char *unit, uint64_t limit, uint64_t used, uint64_t asked)
{
    if (limit == UINT64_MAX || used + asked <= limit) {
        return;
    }
    char rule[VDC_POLICY_RULE_CAP];
    snprintf(rule, sizeof rule, "%s.%s", tenant, unit);
    struct vdc_policy_rejection *made = add_rejection(verdict, VDC_POLICY_REASON_QUOTA, rule);
    VDC_ASSERT(made != NULL);
    made->asked = asked;
    made->available = left_of(limit, used);
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
static bool check_tenant(const struct context *context, struct vdc_policy_verdict *verdict,
                         struct plan *plan)
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

/* ---- plans: what would make it fit ---- */

/* The most vCPUs, up to those asked for, that the node could take as it is (or, `empty`, if nothing
 * ran there); 0: none. */
static uint32_t vcpus_that_fit(const struct context *context, size_t index, const struct fill *fill,
                               bool empty)
{
    struct vdc_policy_partition trial = context->partition;
    const struct vdc_policy_node *node = node_at(context, index);
    for (trial.vcpus = VDC_MIN(fill->capacity.cpus, trial.vcpus); trial.vcpus > 0; trial.vcpus--) {
        struct vdc_policy_need need;
        (void)vdc_policy_need(context->policy, &trial, &need);
        uint64_t dedicated = empty ? 0 : node->cpus_dedicated;
        uint64_t shared = empty ? 0 : node->cpu_shared_milli;
        if (cpu_in_use(context->policy, dedicated + need.cpus_dedicated,
                       shared + need.cpu_shared_milli) <= fill->capacity.cpu_milli) {
            break;
        }
    }
    return trial.vcpus;
}

/* Room on the node where that can be enough, else a smaller request, else both. */
static bool plan_cpu(const struct context *context, size_t index, const struct fill *fill,
                     struct plan *plan)
{
    const char *node = node_at(context, index)->name;
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
    struct context trial = *context;
    struct fill wanted;
    trial.partition.vcpus = most;
    (void)vdc_policy_need(context->policy, &trial.partition, &trial.need);
    (void)fill_node(&trial, index, &wanted);
    uint64_t amount = wanted.cpu_after - wanted.capacity.cpu_milli;
    plan->shortage += amount * 1000 / VDC_MAX(fill->capacity.cpu_milli, UINT64_C(1));
    return add_change(plan, VDC_POLICY_CHANGE_FREE_CPU, "", node, amount);
}

static bool plan_memory(const struct context *context, size_t index, const struct fill *fill,
                        struct plan *plan)
{
    const struct vdc_policy_node *node = node_at(context, index);
    uint64_t capacity = fill->capacity.memory_bytes;
    uint64_t most = capacity - capacity % VDC_POLICY_MEMORY_BLOCK;
    uint64_t asked = context->need.memory_bytes;
    if (most == 0) {
        return false;
    }
    if (most < asked) {
        uint64_t now = left_of(capacity, node->memory_used_bytes);
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

static bool plan_failure(const struct context *context, size_t index, const struct fill *fill,
                         const struct failure *failure, bool *cpu_planned, struct plan *plan)
{
    switch (failure->reason) {
    case VDC_POLICY_REASON_NOT_USABLE:
        return add_change(plan, VDC_POLICY_CHANGE_OPEN_NODE, "", node_at(context, index)->name, 0);
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

static bool plans_are_equal(const struct plan *a, const struct plan *b)
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

static bool is_cheaper(const struct plan *a, const struct plan *b)
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
    struct plan items[PLANS_MAX]; /* cheapest first; equal ones by node name */
    size_t count;
};

static void keep_plan(struct plans *plans, const struct plan *plan)
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
static void plan_node(const struct context *context, size_t index, const struct fill *fill,
                      const struct failure *failures, size_t count, const struct plan *whole,
                      struct plans *plans)
{
    struct plan plan = *whole;
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
static bool plan_works(const struct context *context, const struct plan *plan)
{
    struct context trial = *context;
    const struct vdc_policy *policy = context->policy;
    vdc_autofree bool *dropped = vdc_calloc(policy->rule_count, sizeof *dropped);
    trial.relax = (struct relax){.node = plan->node, .dropped = dropped};
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
    prepare_rules(&trial);
    struct fill fill;
    struct failure failures[FAILURES_MAX];
    bool works = examine_node(&trial, plan->node, &fill, failures) == 0;
    release_rules(&trial);
    return works;
}

static void choose_plan(const struct context *context, const struct plans *plans,
                        struct vdc_policy_verdict *verdict)
{
    for (size_t i = 0; i < plans->count; i++) {
        const struct plan *plan = &plans->items[i];
        if (plan_works(context, plan)) {
            memcpy(verdict->changes, plan->changes, sizeof verdict->changes);
            verdict->change_count = plan->count;
            return;
        }
    }
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

static bool is_asked_for(const struct context *context, size_t index)
{
    const char *target = context->request->target;
    return target == NULL || strcmp(target, node_at(context, index)->name) == 0;
}

static void examine_all(const struct context *context, struct vdc_policy_verdict *verdict)
{
    for (size_t i = 0; i < context->snapshot->node_count; i++) {
        size_t index = context->order[i];
        if (!is_asked_for(context, index)) {
            continue;
        }
        verdict->considered++;
        struct fill fill;
        struct failure failures[FAILURES_MAX];
        if (examine_node(context, index, &fill, failures) > 0) {
            reject_node(context, index, &failures[0], verdict);
            continue;
        }
        struct vdc_policy_candidate candidate;
        score_node(context, index, &fill, &candidate);
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

/* `whole` holds the changes that no node can do without. */
static void plan_all(const struct context *context, const struct plan *whole,
                     struct vdc_policy_verdict *verdict)
{
    struct plans plans = {0};
    for (size_t i = 0; i < context->snapshot->node_count; i++) {
        size_t index = context->order[i];
        if (is_asked_for(context, index)) {
            struct fill fill;
            struct failure failures[FAILURES_MAX];
            size_t count = examine_node(context, index, &fill, failures);
            plan_node(context, index, &fill, failures, count, whole, &plans);
        }
    }
    choose_plan(context, &plans, verdict);
}

void vdc_policy_place(const struct vdc_policy *policy, const struct vdc_policy_snapshot *snapshot,
                      const struct vdc_policy_request *request, struct vdc_policy_verdict *verdict)
{
    *verdict = (struct vdc_policy_verdict){.cause = request->cause,
                                           .policy_version = snapshot->policy_version,
                                           .generation = snapshot->generation,
                                           .node = VDC_POLICY_NO_NODE};
    vdc_str_set(verdict->partition, sizeof verdict->partition, request->partition.name);
    struct context context = {.policy = policy,
                              .snapshot = snapshot,
                              .request = request,
                              .partition = request->partition,
                              .relax = {.node = VDC_POLICY_NO_NODE}};
    struct plan whole = {0};
    if (!check_class(&context, verdict) || !check_tenant(&context, verdict, &whole)) {
        return;
    }
    (void)vdc_policy_need(policy, &context.partition, &context.need);
    verdict->need = context.need;
    sort_nodes(&context);
    prepare_rules(&context);
    examine_all(&context, verdict);
    verdict->placed = whole.count == 0 && verdict->fitting > 0;
    if (!verdict->placed) {
        plan_all(&context, &whole, verdict);
    }
    release_rules(&context);
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
