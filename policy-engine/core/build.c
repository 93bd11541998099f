/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tree -> policy. One function per section of the file, in the order of docs/policy.md (placement and
 * its rules are in build_rules.c, values that several sections have in build_values.c). Each reads
 * what it can and adds a diagnostic for what it cannot, so that one run shows every error; only at
 * the end is the half-read policy thrown away.
 *
 * Names and texts are copied, expressions compiled: nothing of the tree is kept.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/quantity.h>
#include <vdc/time.h>

#include "build_internal.h"

#define LEASE_DEFAULT_MS 10000
#define LEASE_MIN_MS 1000
#define LEASE_MAX_MS 600000
#define STORM_BRAKE_DEFAULT_MILLI 500
#define DOWNTIME_DEFAULT_MS 300 /* QEMU's own */
#define DOWNTIME_MAX_MS 60000
#define TIMEOUT_DEFAULT_MS 600000
#define TIMEOUT_MAX_MS (24 * 3600 * 1000)
#define PRIORITY_MAX 1000
#define OVERCOMMIT_MAX_MILLI 64000

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
        match->match = policy_read_expr(expr, "match", VDC_EXPR_NODE, diags);
    }
    const struct vdc_tree_node *share = vdc_tree_map_get(&map, "share");
    struct vdc_tree_map parts;
    if (share != NULL && vdc_tree_map_begin(&parts, share, "share", diags)) {
        const struct vdc_tree_node *cpus = vdc_tree_map_get(&parts, "cpus");
        if (cpus != NULL) {
            policy_read_cpu_amount(cpus, "share: cpus", &match->cpus, diags);
            if (!match->cpus.relative && match->cpus.value % 1000 != 0) {
                vdc_diags_add(diags, cpus->line, cpus->column,
                              "share: cpus: a zone gets whole CPUs");
            }
        }
        const struct vdc_tree_node *memory = vdc_tree_map_get(&parts, "memory");
        if (memory != NULL) {
            policy_read_memory_amount(memory, "share: memory", &match->memory, diags);
        }
        vdc_tree_map_end(&parts);
    }
    vdc_tree_map_end(&map);
}

static void read_nodes(struct vdc_policy *policy, const struct vdc_tree_node *node,
                       struct vdc_diags *diags)
{
    if (!vdc_tree_read_list(node, "nodes", diags) ||
        !policy_check_count(node, "nodes", VDC_POLICY_MATCHES_MAX, diags)) {
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
            policy_read_cpu_amount(cpus, "keep_free: cpus", &policy->keep_cpus, diags);
        }
        const struct vdc_tree_node *memory = vdc_tree_map_get(&keep, "memory");
        if (memory != NULL) {
            policy_read_memory_amount(memory, "keep_free: memory", &policy->keep_memory, diags);
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
    policy_make_what(what, "class %.*s", VDC_NAME_MAX, node->key);
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
    if (!policy_check_count(node, "classes", VDC_POLICY_CLASSES_MAX, diags)) {
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
    policy_make_what(what, "tenant %.*s", VDC_NAME_MAX, node->key);
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
    if (!policy_check_count(node, "tenants", VDC_POLICY_TENANTS_MAX, diags)) {
        return;
    }
    policy->tenants_given = true;
    policy->tenants = vdc_calloc(node->count, sizeof policy->tenants[0]);
    for (const struct vdc_tree_node *at = node->first; at != NULL; at = at->next) {
        read_tenant(policy, at, diags);
    }
    qsort(policy->tenants, policy->tenant_count, sizeof policy->tenants[0], compare_tenants);
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
        policy_read_ms(at, "failover: lease", LEASE_MIN_MS, LEASE_MAX_MS,
                       &policy->settings.lease_ms, diags);
    }
    at = vdc_tree_map_get(&map, "storm_brake");
    struct policy_amount brake = {.value = policy->settings.storm_brake_milli};
    if (at != NULL) {
        policy_read_percentage(at, "failover: storm_brake", &brake, diags);
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
        policy_read_ms(at, "migration: downtime", 1, DOWNTIME_MAX_MS,
                       &settings->migration_downtime_ms, diags);
    }
    at = vdc_tree_map_get(&map, "timeout");
    if (at != NULL) {
        policy_read_ms(at, "migration: timeout", 1000, TIMEOUT_MAX_MS,
                       &settings->migration_timeout_ms, diags);
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
        {"capacity", read_capacity}, {"classes", read_classes},
        {"tenants", read_tenants},   {"placement", policy_read_placement},
        {"failover", read_failover}, {"migration", read_migration},
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
