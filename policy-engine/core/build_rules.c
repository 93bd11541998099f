/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The section `placement`: strategy, weights and rules, and which rules contradict each other by what
 * is written alone.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>

#include "build_internal.h"

#define MAX_SKEW_MAX 1000000

static bool read_scope(const struct vdc_tree_node *node, const char *what, enum policy_scope *scope,
                       struct vdc_diags *diags)
{
    static const char *const words[] = {"rack", "node"};
    size_t word;
    if (!vdc_tree_read_word(node, what, words, 2, &word, diags)) {
        return false;
    }
    *scope = word == 0 ? POLICY_SCOPE_RACK : POLICY_SCOPE_NODE;
    return true;
}

/* `soft` and `weight`, which stand in the rule or in its body: a soft rule has a weight, a hard one
 * has none. */
static void read_softness(struct vdc_tree_map *map, const char *what, struct policy_rule *rule)
{
    char field[WHAT_CAP + 16];
    const struct vdc_tree_node *soft = vdc_tree_map_get(map, "soft");
    const struct vdc_tree_node *weight = vdc_tree_map_get(map, "weight");
    snprintf(field, sizeof field, "%s: soft", what);
    if (soft != NULL) {
        (void)vdc_tree_read_bool(soft, field, &rule->soft, map->diags);
    }
    snprintf(field, sizeof field, "%s: weight", what);
    if (weight != NULL) {
        policy_read_weight(weight, field, &rule->weight_milli, map->diags);
        if (!rule->soft) {
            vdc_diags_add(map->diags, weight->key_line, weight->key_column,
                          "%s: a hard rule has no weight; write soft: true beside it", what);
        }
    } else if (rule->soft && soft != NULL) {
        vdc_diags_add(map->diags, soft->key_line, soft->key_column,
                      "%s: a soft rule needs a weight", what);
    }
}

static void read_spread(struct policy_rule *rule, const struct vdc_tree_node *node,
                        const char *what, struct vdc_diags *diags)
{
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, node, what, diags)) {
        return;
    }
    const struct vdc_tree_node *at = vdc_tree_map_need(&map, "over");
    if (at != NULL) {
        (void)read_scope(at, "spread: over", &rule->scope, diags);
    }
    at = vdc_tree_map_need(&map, "max_skew");
    if (at != NULL) {
        (void)vdc_tree_read_u64(at, "spread: max_skew", 1, MAX_SKEW_MAX, &rule->max_skew, diags);
    }
    read_softness(&map, what, rule);
    vdc_tree_map_end(&map);
}

static void read_near(struct policy_rule *rule, const struct vdc_tree_node *node, const char *what,
                      struct vdc_diags *diags)
{
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, node, what, diags)) {
        return;
    }
    const struct vdc_tree_node *at = vdc_tree_map_need(&map, "group");
    if (at != NULL) {
        rule->other = policy_read_expr(at, "near: group", VDC_EXPR_PARTITION, diags);
    }
    at = vdc_tree_map_need(&map, "within");
    if (at != NULL) {
        (void)read_scope(at, "near: within", &rule->scope, diags);
    }
    read_softness(&map, what, rule);
    vdc_tree_map_end(&map);
}

static void read_prefer(struct policy_rule *rule, const struct vdc_tree_node *node,
                        const char *what, struct vdc_diags *diags)
{
    rule->soft = true;
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, node, what, diags)) {
        return;
    }
    const struct vdc_tree_node *at = vdc_tree_map_need(&map, "node");
    if (at != NULL) {
        rule->other =
            policy_read_expr(at, "prefer: node", VDC_EXPR_NODE | VDC_EXPR_PARTITION, diags);
    }
    at = vdc_tree_map_need(&map, "weight");
    if (at != NULL) {
        policy_read_weight(at, "prefer: weight", &rule->weight_milli, diags);
    }
    vdc_tree_map_end(&map);
}

static void read_rule_body(struct policy_rule *rule, enum policy_rule_kind kind,
                           const struct vdc_tree_node *body, const char *what,
                           struct vdc_diags *diags)
{
    char field[WHAT_CAP + 16];
    rule->kind = kind;
    switch (kind) {
    case RULE_APART:
        snprintf(field, sizeof field, "%s: apart", what);
        (void)read_scope(body, field, &rule->scope, diags);
        return;
    case RULE_SPREAD:
        read_spread(rule, body, what, diags);
        return;
    case RULE_NEAR:
        read_near(rule, body, what, diags);
        return;
    case RULE_REQUIRE:
        snprintf(field, sizeof field, "%s: require", what);
        rule->other = policy_read_expr(body, field, VDC_EXPR_NODE | VDC_EXPR_PARTITION, diags);
        return;
    case RULE_PREFER:
        read_prefer(rule, body, what, diags);
        return;
    }
}

static void read_rule(struct vdc_policy *policy, const struct vdc_tree_node *node, size_t number,
                      struct vdc_diags *diags)
{
    struct policy_rule *rule = &policy->rules[policy->rule_count++];
    *rule = (struct policy_rule){.line = node->line, .column = node->column};
    char what[WHAT_CAP];
    policy_make_what(what, "rule %zu", number);
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, node, what, diags)) {
        return;
    }
    const struct vdc_tree_node *at = vdc_tree_map_need(&map, "name");
    const char *name;
    if (at != NULL && vdc_tree_read_name(at, "rule: name", &name, diags)) {
        vdc_str_set(rule->name, sizeof rule->name, name);
        rule->line = at->line;
        rule->column = at->column;
        policy_make_what(what, "rule %s", name);
    }
    at = vdc_tree_map_get(&map, "when");
    if (at != NULL) {
        char field[WHAT_CAP + 16];
        snprintf(field, sizeof field, "%s: when", what);
        rule->when = policy_read_expr(at, field, VDC_EXPR_PARTITION, diags);
    }
    /* In the order of enum policy_rule_kind. */
    static const char *const kinds[] = {"apart", "spread", "near", "require", "prefer"};
    const struct vdc_tree_node *first = NULL;
    for (size_t i = 0; i < VDC_COUNT_OF(kinds); i++) {
        const struct vdc_tree_node *body = vdc_tree_map_get(&map, kinds[i]);
        if (body != NULL && first != NULL) {
            vdc_diags_add(diags, body->key_line, body->key_column,
                          "%s: %s beside %s; a rule says one thing", what, body->key, first->key);
        } else if (body != NULL) {
            first = body;
            read_rule_body(rule, (enum policy_rule_kind)i, body, what, diags);
        }
    }
    if (first == NULL) {
        vdc_diags_add(diags, node->line, node->column,
                      "%s: needs one of apart, spread, near, require or prefer", what);
    } else if (rule->kind == RULE_APART) {
        read_softness(&map, what, rule);
    } else if (rule->kind == RULE_REQUIRE && vdc_tree_map_get(&map, "soft") != NULL) {
        vdc_diags_add(diags, node->line, node->column,
                      "%s: require is always hard; write prefer instead", what);
    }
    vdc_tree_map_end(&map);
}

/* Expressions are compared as written: two that mean the same and are written differently pass here
 * and show in the verdicts. NULL stands for every partition. */
static bool covers(const struct vdc_expr *group, const struct vdc_expr *part)
{
    return group == NULL ||
           (part != NULL && strcmp(vdc_expr_text(group), vdc_expr_text(part)) == 0);
}

/* Hard `near` and hard `apart` on one pair of partitions can never both hold. */
static void check_contradictions(const struct vdc_policy *policy, struct vdc_diags *diags)
{
    for (size_t i = 0; i < policy->rule_count; i++) {
        const struct policy_rule *near = &policy->rules[i];
        if (near->kind != RULE_NEAR || near->soft || near->other == NULL) {
            continue;
        }
        for (size_t j = 0; j < policy->rule_count; j++) {
            const struct policy_rule *apart = &policy->rules[j];
            if (apart->kind != RULE_APART || apart->soft ||
                (near->scope == POLICY_SCOPE_RACK && apart->scope == POLICY_SCOPE_NODE) ||
                !covers(apart->when, near->when) || !covers(apart->when, near->other)) {
                continue;
            }
            vdc_diags_add(diags, near->line, near->column,
                          "rule %s keeps together what rule %s at line %u keeps apart", near->name,
                          apart->name, apart->line);
        }
    }
}

static void check_rule_names(const struct vdc_policy *policy, struct vdc_diags *diags)
{
    for (size_t i = 0; i < policy->rule_count; i++) {
        const struct policy_rule *rule = &policy->rules[i];
        for (size_t j = 0; j < i && rule->name[0] != 0; j++) {
            if (strcmp(policy->rules[j].name, rule->name) == 0) {
                vdc_diags_add(diags, rule->line, rule->column,
                              "rule %s: there is a rule of that name at line %u", rule->name,
                              policy->rules[j].line);
                break;
            }
        }
    }
}

static void read_rules(struct vdc_policy *policy, const struct vdc_tree_node *node,
                       struct vdc_diags *diags)
{
    if (!vdc_tree_read_list(node, "rules", diags) ||
        !policy_check_count(node, "rules", VDC_POLICY_RULES_MAX, diags)) {
        return;
    }
    policy->rules = vdc_calloc(node->count, sizeof policy->rules[0]);
    size_t number = 0;
    size_t said_before = diags->count;
    for (const struct vdc_tree_node *at = node->first; at != NULL; at = at->next) {
        read_rule(policy, at, ++number, diags);
    }
    check_rule_names(policy, diags);
    if (diags->count == said_before) {
        /* A rule that was not understood would seem to contradict others. */
        check_contradictions(policy, diags);
    }
}

void policy_read_placement(struct vdc_policy *policy, const struct vdc_tree_node *node,
                           struct vdc_diags *diags)
{
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, node, "placement", diags)) {
        return;
    }
    static const char *const strategies[] = {"spread", "pack", "balanced"};
    size_t word;
    const struct vdc_tree_node *at = vdc_tree_map_get(&map, "strategy");
    if (at != NULL && vdc_tree_read_word(at, "strategy", strategies, 3, &word, diags)) {
        policy->strategy = (enum policy_strategy)word;
    }
    at = vdc_tree_map_get(&map, "weights");
    struct vdc_tree_map weights;
    if (at != NULL && vdc_tree_map_begin(&weights, at, "weights", diags)) {
        const struct vdc_tree_node *cpu = vdc_tree_map_get(&weights, "cpu");
        if (cpu != NULL) {
            policy_read_weight(cpu, "weights: cpu", &policy->weight_cpu_milli, diags);
        }
        const struct vdc_tree_node *memory = vdc_tree_map_get(&weights, "memory");
        if (memory != NULL) {
            policy_read_weight(memory, "weights: memory", &policy->weight_memory_milli, diags);
        }
        vdc_tree_map_unsupported(&weights, "network");
        vdc_tree_map_end(&weights);
    }
    at = vdc_tree_map_get(&map, "rules");
    if (at != NULL) {
        read_rules(policy, at, diags);
    }
    vdc_tree_map_end(&map);
}
