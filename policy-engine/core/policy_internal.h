/* SPDX-License-Identifier: Apache-2.0 */
/* What build*.c make of a file and policy.c, place*.c, check.c read. Not for other directories. */
#ifndef VDC_POLICY_INTERNAL_H
#define VDC_POLICY_INTERNAL_H

#include <vdc/policy.h>

/* An amount given absolutely or as a part of the node's. */
struct policy_amount {
    bool relative;
    uint64_t value; /* relative: thousandths; else milli-CPU or bytes */
};

struct policy_match {
    struct vdc_expr *match;
    struct policy_amount cpus;
    struct policy_amount memory;
};

/* UINT64_MAX: no limit. */
struct policy_quota {
    uint64_t cpus;
    uint64_t memory_bytes;
    uint64_t partitions;
};

struct policy_tenant {
    char name[VDC_NAME_CAP];
    uint32_t line; /* of its key */
    uint32_t column;
    struct policy_quota quota;
    uint64_t classes; /* bit n: the policy's class n is allowed; VDC_POLICY_CLASSES_MAX <= 64 */
};

enum policy_strategy { POLICY_SPREAD, POLICY_PACK, POLICY_BALANCED };

enum policy_scope { POLICY_SCOPE_RACK, POLICY_SCOPE_NODE };

enum policy_rule_kind { RULE_APART, RULE_SPREAD, RULE_NEAR, RULE_REQUIRE, RULE_PREFER };

struct policy_rule {
    char name[VDC_NAME_CAP];
    uint32_t line; /* of its name */
    uint32_t column;
    enum policy_rule_kind kind;
    bool soft;
    int64_t weight_milli;    /* soft */
    struct vdc_expr *when;   /* over partition; NULL: every partition */
    enum policy_scope scope; /* apart, spread, near */
    uint64_t max_skew;       /* spread */
    struct vdc_expr *other;  /* near: the group; require, prefer: the condition on the node */
};

struct vdc_policy {
    struct vdc_policy_settings settings;
    struct policy_amount keep_cpus;
    struct policy_amount keep_memory;
    struct policy_match *matches;
    size_t match_count;
    struct vdc_policy_class *classes; /* in the order of the file */
    size_t class_count;
    bool tenants_given;
    struct policy_tenant *tenants; /* by name */
    size_t tenant_count;
    enum policy_strategy strategy;
    int64_t weight_cpu_milli;
    int64_t weight_memory_milli;
    struct policy_rule *rules; /* in the order of the file */
    size_t rule_count;
};

/* What a node offers to the zone's partitions, after share and keep_free. */
struct policy_capacity {
    uint64_t cpu_milli; /* of the machine */
    uint64_t memory_bytes;
    uint32_t cpus; /* of the share */
};

bool policy_capacity_of(const struct vdc_policy *policy, const struct vdc_policy_node *node,
                        struct policy_capacity *capacity);
/* NULL: there is no such tenant. */
const struct policy_tenant *policy_tenant_find(const struct vdc_policy *policy, const char *name);
/* The policy's class (not the built-in one) of that name, or -1. */
int policy_class_index(const struct vdc_policy *policy, const char *name);
/* Whether the rule speaks of the partition. */
bool policy_rule_applies(const struct policy_rule *rule,
                         const struct vdc_policy_partition *partition);

#endif
