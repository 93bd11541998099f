/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tree -> policy. One function per section of the file, in the order of docs/policy.md. Each reads
 * what it can and adds a diagnostic for what it cannot, so that one run shows every error; only at
 * the end is the half-read policy thrown away.
 *
 * Names and texts are copied, expressions compiled: nothing of the tree is kept.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/quantity.h>
#include <vdc/time.h>

#include "policy_internal.h"

#define LEASE_DEFAULT_MS 10000
#define LEASE_MIN_MS 1000
#define LEASE_MAX_MS 600000
#define STORM_BRAKE_DEFAULT_MILLI 500
#define DOWNTIME_DEFAULT_MS 300 /* QEMU's own */
#define DOWNTIME_MAX_MS 60000
#define TIMEOUT_DEFAULT_MS 600000
#define TIMEOUT_MAX_MS (24 * 3600 * 1000)
#define PRIORITY_MAX 1000
/* Weights are multiplied with points in thousandths: 10^6 x 10^5 x 256 rules stays in 64 bits. */
#define WEIGHT_MAX_MILLI 1000000
#define OVERCOMMIT_MAX_MILLI 64000
#define MAX_SKEW_MAX 1000000
/* "the class or rule it is about: the field": for sentences. */
#define WHAT_CAP (VDC_NAME_CAP + 64)

static void make_what(char what[WHAT_CAP], const char *fmt, ...) VDC_PRINTF(2, 3);

static void make_what(char what[WHAT_CAP], const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, WHAT_CAP, fmt, ap);
    va_end(ap);
}

/* ---- values of several sections ---- */

/* NULL with a diagnostic at the wrong character if the text is no expression. */
static struct vdc_expr *read_expr(const struct vdc_tree_node *node, const char *what,
                                  unsigned subjects, struct vdc_diags *diags)
{
    const char *text;
    if (!vdc_tree_read_text(node, what, VDC_EXPR_TEXT_MAX, &text, diags)) {
        return NULL;
    }
    struct vdc_expr *expr;
    struct vdc_expr_error error;
    if (vdc_expr_compile(text, node->text_len, subjects, &expr, &error) == VDC_RC_OK) {
        return expr;
    }
    uint32_t column = node->column;
    if (node->exact) {
        column = node->text_column;
        for (size_t i = 0; i < error.offset && i < node->text_len; i++) {
            column += ((unsigned char)text[i] & 0xc0) != 0x80;
        }
    }
    vdc_diags_add(diags, node->line, column, "%s: %s", what, error.text);
    return NULL;
}

static bool is_percentage(const struct vdc_tree_node *node)
{
    return node->kind == VDC_TREE_SCALAR && node->text_len > 0 &&
           node->text[node->text_len - 1] == '%';
}

static void read_percentage(const struct vdc_tree_node *node, const char *what,
                            struct policy_amount *amount, struct vdc_diags *diags)
{
    uint64_t milli;
    if (!vdc_tree_read_milli(node, what, &milli, diags)) {
        return;
    }
    if (milli > 1000) {
        vdc_diags_add(diags, node->line, node->column, "%s: \"%s\" is more than 100%%", what,
                      node->text);
        return;
    }
    *amount = (struct policy_amount){.relative = true, .value = milli};
}

/* "50%", "16" or "0.5" CPUs. */
static void read_cpu_amount(const struct vdc_tree_node *node, const char *what,
                            struct policy_amount *amount, struct vdc_diags *diags)
{
    if (is_percentage(node)) {
        read_percentage(node, what, amount, diags);
        return;
    }
    uint64_t milli;
    if (vdc_tree_read_milli(node, what, &milli, diags)) {
        *amount = (struct policy_amount){.value = milli};
    }
}

/* "50%" or "64GiB". */
static void read_memory_amount(const struct vdc_tree_node *node, const char *what,
                               struct policy_amount *amount, struct vdc_diags *diags)
{
    if (is_percentage(node)) {
        read_percentage(node, what, amount, diags);
        return;
    }
    uint64_t bytes;
    if (vdc_tree_read_bytes(node, what, &bytes, diags)) {
        *amount = (struct policy_amount){.value = bytes};
    }
}

static void read_weight(const struct vdc_tree_node *node, const char *what, int64_t *weight_milli,
                        struct vdc_diags *diags)
{
    uint64_t milli;
    if (!vdc_tree_read_milli(node, what, &milli, diags)) {
        return;
    }
    if (milli > WEIGHT_MAX_MILLI) {
        vdc_diags_add(diags, node->line, node->column, "%s: at most %d is allowed", what,
                      WEIGHT_MAX_MILLI / 1000);
        return;
    }
    *weight_milli = (int64_t)milli;
}

/* A duration in whole milliseconds from min to max. */
static void read_ms(const struct vdc_tree_node *node, const char *what, uint64_t min_ms,
                    uint64_t max_ms, uint64_t *ms, struct vdc_diags *diags)
{
    int64_t ns;
    if (!vdc_tree_read_duration(node, what, &ns, diags)) {
        return;
    }
    uint64_t value = (uint64_t)(ns / VDC_MS);
    if (ns % VDC_MS != 0 || value < min_ms || value > max_ms) {
        char least[VDC_QUANTITY_TEXT_CAP];
        char most[VDC_QUANTITY_TEXT_CAP];
        vdc_quantity_duration_text((int64_t)min_ms * VDC_MS, least);
        vdc_quantity_duration_text((int64_t)max_ms * VDC_MS, most);
        vdc_diags_add(diags, node->line, node->column,
                      "%s: \"%s\" is not from %s to %s in whole milliseconds", what, node->text,
                      least, most);
        return;
    }
    *ms = value;
}

/* Whether a list or map is not larger than the bound of its section. */
static bool check_count(const struct vdc_tree_node *node, const char *what, uint32_t max,
                        struct vdc_diags *diags)
{
    if (node->count > max) {
        vdc_diags_add(diags, node->line, node->column, "%s: %u entries, at most %u are allowed",
                      what, node->count, max);
    }
    return node->count <= max;
}

/* ---- head, nodes ---- */

static void read_constant(struct vdc_tree_map *top, const char *field, const char *expected)
{
    const struct vdc_tree_node *node = vdc_tree_map_need(top, field);
    size_t index;
    if (node != NULL) {
        (void)vdc_tree_read_word(node, field, &expected, 1, &index, top->diags);
    }
}

static void read_match(struct vdc_policy *policy, const struct vdc_tree_node *node,
                       struct vdc_diags *diags)
{
    struct policy_match *match = &policy->matches[policy->match_count++];
    match->cpus = match->memory = (struct policy_amount){.relative = true, .value = 1000};
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, node, "nodes", diags)) {
        return;
    }
    const struct vdc_tree_node *expr = vdc_tree_map_need(&map, "match");
    if (expr != NULL) {
        match->match = read_expr(expr, "match", VDC_EXPR_NODE, diags);
    }
    const struct vdc_tree_node *share = vdc_tree_map_get(&map, "share");
    struct vdc_tree_map parts;
    if (share != NULL && vdc_tree_map_begin(&parts, share, "share", diags)) {
        const struct vdc_tree_node *cpus = vdc_tree_map_get(&parts, "cpus");
        if (cpus != NULL) {
            read_cpu_amount(cpus, "share: cpus", &match->cpus, diags);
            if (!match->cpus.relative && match->cpus.value % 1000 != 0) {
                vdc_diags_add(diags, cpus->line, cpus->column,
                              "share: cpus: a zone gets whole CPUs");
            }
        }
        const struct vdc_tree_node *memory = vdc_tree_map_get(&parts, "memory");
        if (memory != NULL) {
            read_memory_amount(memory, "share: memory", &match->memory, diags);
        }
        vdc_tree_map_end(&parts);
    }
    vdc_tree_map_end(&map);
}

static void read_nodes(struct vdc_policy *policy, const struct vdc_tree_node *node,
                       struct vdc_diags *diags)
{
    if (!vdc_tree_read_list(node, "nodes", diags) ||
        !check_count(node, "nodes", VDC_POLICY_MATCHES_MAX, diags)) {
        return;
    }
    if (node->count == 0) {
        vdc_diags_add(diags, node->line, node->column, "nodes: a zone without nodes");
    }
    policy->matches = vdc_calloc(node->count, sizeof policy->matches[0]);
    for (const struct vdc_tree_node *at = node->first; at != NULL; at = at->next) {
        read_match(policy, at, diags);
    }
}

/* ---- capacity ---- */

static void read_capacity(struct vdc_policy *policy, const struct vdc_tree_node *node,
                          struct vdc_diags *diags)
{
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, node, "capacity", diags)) {
        return;
    }
    uint64_t milli;
    const struct vdc_tree_node *at = vdc_tree_map_get(&map, "cpu_overcommit");
    if (at != NULL && vdc_tree_read_milli(at, "cpu_overcommit", &milli, diags)) {
        if (milli < 1000 || milli > OVERCOMMIT_MAX_MILLI) {
            vdc_diags_add(diags, at->line, at->column, "cpu_overcommit: from 1 to %d is allowed",
                          OVERCOMMIT_MAX_MILLI / 1000);
        } else {
            policy->settings.cpu_overcommit_milli = milli;
        }
    }
    at = vdc_tree_map_get(&map, "memory_overcommit");
    if (at != NULL && vdc_tree_read_milli(at, "memory_overcommit", &milli, diags) &&
        milli != 1000) {
        vdc_diags_add(diags, at->line, at->column,
                      "memory_overcommit: only 1.0 is supported by this version");
    }
    at = vdc_tree_map_get(&map, "keep_free");
    struct vdc_tree_map keep;
    if (at != NULL && vdc_tree_map_begin(&keep, at, "keep_free", diags)) {
        const struct vdc_tree_node *cpus = vdc_tree_map_get(&keep, "cpus");
        if (cpus != NULL) {
            read_cpu_amount(cpus, "keep_free: cpus", &policy->keep_cpus, diags);
        }
        const struct vdc_tree_node *memory = vdc_tree_map_get(&keep, "memory");
        if (memory != NULL) {
            read_memory_amount(memory, "keep_free: memory", &policy->keep_memory, diags);
        }
        vdc_tree_map_end(&keep);
    }
    vdc_tree_map_unsupported(&map, "survive");
    vdc_tree_map_end(&map);
}

/* ---- classes, tenants ---- */

static void read_class(struct vdc_policy *policy, const struct vdc_tree_node *node,
                       struct vdc_diags *diags)
{
    char what[WHAT_CAP];
    make_what(what, "class %.*s", VDC_NAME_MAX, node->key);
    struct vdc_policy_class *made = &policy->classes[policy->class_count++];
    *made = (struct vdc_policy_class){.failover_restart = true};
    if (!vdc_name_valid(node->key)) {
        vdc_diags_add(diags, node->key_line, node->key_column, "%s: that is no name", what);
    } else {
        vdc_str_set(made->name, sizeof made->name, node->key);
    }
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, node, what, diags)) {
        return;
    }
    char field[WHAT_CAP + 16];
    uint64_t number;
    size_t word;
    const struct vdc_tree_node *at = vdc_tree_map_get(&map, "priority");
    snprintf(field, sizeof field, "%s: priority", what);
    if (at != NULL && vdc_tree_read_u64(at, field, 0, PRIORITY_MAX, &number, diags)) {
        made->priority = (uint32_t)number;
    }
    static const char *const cpu_words[] = {"shared", "dedicated"};
    at = vdc_tree_map_get(&map, "cpu");
    snprintf(field, sizeof field, "%s: cpu", what);
    if (at != NULL && vdc_tree_read_word(at, field, cpu_words, 2, &word, diags)) {
        made->cpu = word == 0 ? VDC_POLICY_CPU_SHARED : VDC_POLICY_CPU_DEDICATED;
    }
    static const char *const failover_words[] = {"restart", "none"};
    at = vdc_tree_map_get(&map, "failover");
    snprintf(field, sizeof field, "%s: failover", what);
    if (at != NULL && vdc_tree_read_word(at, field, failover_words, 2, &word, diags)) {
        made->failover_restart = word == 0;
    }
    bool preemptible;
    at = vdc_tree_map_get(&map, "preemptible");
    snprintf(field, sizeof field, "%s: preemptible", what);
    if (at != NULL && vdc_tree_read_bool(at, field, &preemptible, diags) && preemptible) {
        vdc_diags_add(diags, at->key_line, at->key_column,
                      "%s: preemptible: not supported by this version", what);
    }
    /* The node takes a vCPU's weight from its number of CPUs; a class has no say in it yet. */
    vdc_tree_map_unsupported(&map, "cpu_shares");
    vdc_tree_map_unsupported(&map, "memory");
    vdc_tree_map_unsupported(&map, "io_paths");
    vdc_tree_map_end(&map);
}

static void read_classes(struct vdc_policy *policy, const struct vdc_tree_node *node,
                         struct vdc_diags *diags)
{
    if (node->kind != VDC_TREE_MAP) {
        vdc_diags_add(diags, node->line, node->column, "classes: expected a map, found %s",
                      vdc_tree_kind_text(node));
        return;
    }
    if (!check_count(node, "classes", VDC_POLICY_CLASSES_MAX, diags)) {
        return;
    }
    policy->classes = vdc_calloc(node->count, sizeof policy->classes[0]);
    for (const struct vdc_tree_node *at = node->first; at != NULL; at = at->next) {
        read_class(policy, at, diags);
    }
}

/* `known` are the names of the policy's classes. */
static void read_tenant_classes(const struct vdc_policy *policy, struct policy_tenant *tenant,
                                const struct vdc_tree_node *node, const char *what,
                                struct vdc_diags *diags)
{
    if (!vdc_tree_read_list(node, what, diags)) {
        return;
    }
    tenant->classes = 0;
    for (const struct vdc_tree_node *at = node->first; at != NULL; at = at->next) {
        const char *name;
        if (!vdc_tree_read_name(at, what, &name, diags)) {
            continue;
        }
        int index = policy_class_index(policy, name);
        if (index >= 0) {
            tenant->classes |= UINT64_C(1) << index;
            continue;
        }
        const char *known[VDC_POLICY_CLASSES_MAX];
        for (size_t i = 0; i < policy->class_count; i++) {
            known[i] = policy->classes[i].name;
        }
        const char *nearest = vdc_nearest_name(name, known, policy->class_count);
        vdc_diags_add(diags, at->line, at->column, "%s: there is no class \"%s\"%s%s%s", what, name,
                      nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
                      nearest != NULL ? "?" : "");
    }
}

static void read_tenant(struct vdc_policy *policy, const struct vdc_tree_node *node,
                        struct vdc_diags *diags)
{
    struct policy_tenant *tenant = &policy->tenants[policy->tenant_count++];
    *tenant = (struct policy_tenant){.line = node->key_line,
                                     .column = node->key_column,
                                     .quota = {UINT64_MAX, UINT64_MAX, UINT64_MAX},
                                     .classes = UINT64_MAX};
    char what[WHAT_CAP];
    make_what(what, "tenant %.*s", VDC_NAME_MAX, node->key);
    if (!vdc_name_valid(node->key)) {
        vdc_diags_add(diags, node->key_line, node->key_column, "%s: that is no name", what);
    } else {
        vdc_str_set(tenant->name, sizeof tenant->name, node->key);
    }
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, node, what, diags)) {
        return;
    }
    char field[WHAT_CAP + 24];
    const struct vdc_tree_node *at = vdc_tree_map_get(&map, "quota");
    struct vdc_tree_map quota;
    snprintf(field, sizeof field, "%s: quota", what);
    if (at != NULL && vdc_tree_map_begin(&quota, at, field, diags)) {
        const struct vdc_tree_node *limit = vdc_tree_map_get(&quota, "cpus");
        if (limit != NULL) {
            (void)vdc_tree_read_u64(limit, "quota: cpus", 0, UINT32_MAX, &tenant->quota.cpus,
                                    diags);
        }
        limit = vdc_tree_map_get(&quota, "memory");
        if (limit != NULL) {
            (void)vdc_tree_read_bytes(limit, "quota: memory", &tenant->quota.memory_bytes, diags);
        }
        limit = vdc_tree_map_get(&quota, "partitions");
        if (limit != NULL) {
            (void)vdc_tree_read_u64(limit, "quota: partitions", 0, UINT32_MAX,
                                    &tenant->quota.partitions, diags);
        }
        vdc_tree_map_end(&quota);
    }
    at = vdc_tree_map_get(&map, "classes");
    snprintf(field, sizeof field, "%s: classes", what);
    if (at != NULL) {
        read_tenant_classes(policy, tenant, at, field, diags);
    }
    vdc_tree_map_end(&map);
}

static int compare_tenants(const void *a, const void *b)
{
    const struct policy_tenant *left = a;
    const struct policy_tenant *right = b;
    return strcmp(left->name, right->name);
}

static void read_tenants(struct vdc_policy *policy, const struct vdc_tree_node *node,
                         struct vdc_diags *diags)
{
    if (node->kind != VDC_TREE_MAP) {
        vdc_diags_add(diags, node->line, node->column, "tenants: expected a map, found %s",
                      vdc_tree_kind_text(node));
        return;
    }
    if (!check_count(node, "tenants", VDC_POLICY_TENANTS_MAX, diags)) {
        return;
    }
    policy->tenants_given = true;
    policy->tenants = vdc_calloc(node->count, sizeof policy->tenants[0]);
    for (const struct vdc_tree_node *at = node->first; at != NULL; at = at->next) {
        read_tenant(policy, at, diags);
    }
    qsort(policy->tenants, policy->tenant_count, sizeof policy->tenants[0], compare_tenants);
}

/* ---- placement ---- */

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
        read_weight(weight, field, &rule->weight_milli, map->diags);
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
        rule->other = read_expr(at, "near: group", VDC_EXPR_PARTITION, diags);
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
        rule->other = read_expr(at, "prefer: node", VDC_EXPR_NODE | VDC_EXPR_PARTITION, diags);
    }
    at = vdc_tree_map_need(&map, "weight");
    if (at != NULL) {
        read_weight(at, "prefer: weight", &rule->weight_milli, diags);
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
        rule->other = read_expr(body, field, VDC_EXPR_NODE | VDC_EXPR_PARTITION, diags);
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
    make_what(what, "rule %zu", number);
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
        make_what(what, "rule %s", name);
    }
    at = vdc_tree_map_get(&map, "when");
    if (at != NULL) {
        char field[WHAT_CAP + 16];
        snprintf(field, sizeof field, "%s: when", what);
        rule->when = read_expr(at, field, VDC_EXPR_PARTITION, diags);
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
        !check_count(node, "rules", VDC_POLICY_RULES_MAX, diags)) {
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

static void read_placement(struct vdc_policy *policy, const struct vdc_tree_node *node,
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
            read_weight(cpu, "weights: cpu", &policy->weight_cpu_milli, diags);
        }
        const struct vdc_tree_node *memory = vdc_tree_map_get(&weights, "memory");
        if (memory != NULL) {
            read_weight(memory, "weights: memory", &policy->weight_memory_milli, diags);
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

/* ---- failover, migration ---- */

static void read_order(const struct vdc_tree_node *node, struct vdc_diags *diags)
{
    if (!vdc_tree_read_list(node, "failover: order", diags)) {
        return;
    }
    static const char *const words[] = {"priority", "restart_after"};
    for (const struct vdc_tree_node *at = node->first; at != NULL; at = at->next) {
        size_t word;
        if (vdc_tree_read_word(at, "failover: order", words, 2, &word, diags) && word == 1) {
            vdc_diags_add(diags, at->line, at->column,
                          "failover: order: restart_after: not supported by this version");
        }
    }
}

static void read_failover(struct vdc_policy *policy, const struct vdc_tree_node *node,
                          struct vdc_diags *diags)
{
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, node, "failover", diags)) {
        return;
    }
    const struct vdc_tree_node *at = vdc_tree_map_get(&map, "order");
    if (at != NULL) {
        read_order(at, diags);
    }
    at = vdc_tree_map_get(&map, "lease");
    if (at != NULL) {
        read_ms(at, "failover: lease", LEASE_MIN_MS, LEASE_MAX_MS, &policy->settings.lease_ms,
                diags);
    }
    at = vdc_tree_map_get(&map, "storm_brake");
    struct policy_amount brake = {.value = policy->settings.storm_brake_milli};
    if (at != NULL) {
        read_percentage(at, "failover: storm_brake", &brake, diags);
    }
    policy->settings.storm_brake_milli = brake.value;
    vdc_tree_map_unsupported(&map, "depends");
    vdc_tree_map_end(&map);
}

static void read_migration(struct vdc_policy *policy, const struct vdc_tree_node *node,
                           struct vdc_diags *diags)
{
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, node, "migration", diags)) {
        return;
    }
    struct vdc_policy_settings *settings = &policy->settings;
    const struct vdc_tree_node *at = vdc_tree_map_get(&map, "bandwidth");
    if (at != NULL) {
        (void)vdc_tree_read_rate(at, "migration: bandwidth", &settings->migration_bandwidth, diags);
    }
    at = vdc_tree_map_get(&map, "downtime");
    if (at != NULL) {
        read_ms(at, "migration: downtime", 1, DOWNTIME_MAX_MS, &settings->migration_downtime_ms,
                diags);
    }
    at = vdc_tree_map_get(&map, "timeout");
    if (at != NULL) {
        read_ms(at, "migration: timeout", 1000, TIMEOUT_MAX_MS, &settings->migration_timeout_ms,
                diags);
    }
    vdc_tree_map_unsupported(&map, "per_node");
    vdc_tree_map_unsupported(&map, "zone");
    vdc_tree_map_end(&map);
}

/* ---- the whole ---- */

static void read_policy(struct vdc_policy *policy, const struct vdc_tree_node *root,
                        struct vdc_diags *diags)
{
    struct vdc_tree_map top;
    if (!vdc_tree_map_begin(&top, root, "", diags)) {
        return;
    }
    read_constant(&top, "apiVersion", "vdc/v1");
    read_constant(&top, "kind", "ZonePolicy");
    const struct vdc_tree_node *at = vdc_tree_map_need(&top, "zone");
    const char *zone;
    if (at != NULL && vdc_tree_read_name(at, "zone", &zone, diags)) {
        vdc_str_set(policy->settings.zone, sizeof policy->settings.zone, zone);
    }
    at = vdc_tree_map_need(&top, "nodes");
    if (at != NULL) {
        read_nodes(policy, at, diags);
    }
    /* Classes before tenants, which name them. */
    static const struct {
        const char *field;
        void (*read)(struct vdc_policy *, const struct vdc_tree_node *, struct vdc_diags *);
    } sections[] = {
        {"capacity", read_capacity},   {"classes", read_classes},   {"tenants", read_tenants},
        {"placement", read_placement}, {"failover", read_failover}, {"migration", read_migration},
    };
    for (size_t i = 0; i < VDC_COUNT_OF(sections); i++) {
        at = vdc_tree_map_get(&top, sections[i].field);
        if (at != NULL) {
            sections[i].read(policy, at, diags);
        }
    }
    vdc_tree_map_unsupported(&top, "rebalance");
    vdc_tree_map_unsupported(&top, "rollout");
    vdc_tree_map_end(&top);
}

enum vdc_rc vdc_policy_build(const struct vdc_tree *tree, struct vdc_policy **policy,
                             struct vdc_diags *diags)
{
    *policy = NULL;
    struct vdc_policy *made = VDC_NEW(struct vdc_policy);
    made->settings = (struct vdc_policy_settings){.cpu_overcommit_milli = 1000,
                                                  .lease_ms = LEASE_DEFAULT_MS,
                                                  .storm_brake_milli = STORM_BRAKE_DEFAULT_MILLI,
                                                  .migration_downtime_ms = DOWNTIME_DEFAULT_MS,
                                                  .migration_timeout_ms = TIMEOUT_DEFAULT_MS};
    made->weight_cpu_milli = made->weight_memory_milli = 1000;
    uint64_t said_before = diags->count + diags->dropped;
    read_policy(made, vdc_tree_root(tree), diags);
    if (diags->count + diags->dropped > said_before) {
        vdc_diags_sort(diags);
        vdc_policy_destroy(made);
        return VDC_RC_INVALID;
    }
    *policy = made;
    return VDC_RC_OK;
}

void vdc_policy_destroy(struct vdc_policy *policy)
{
    if (policy == NULL) {
        return;
    }
    for (size_t i = 0; i < policy->match_count; i++) {
        vdc_expr_destroy(policy->matches[i].match);
    }
    for (size_t i = 0; i < policy->rule_count; i++) {
        vdc_expr_destroy(policy->rules[i].when);
        vdc_expr_destroy(policy->rules[i].other);
    }
    free(policy->matches);
    free(policy->classes);
    free(policy->tenants);
    free(policy->rules);
    free(policy);
}

/* ---- readers ---- */

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
