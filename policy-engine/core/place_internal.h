/* SPDX-License-Identifier: Apache-2.0 */
/* What place.c, place_node.c and place_plan.c share; place.c says how a placement goes. */
#ifndef VDC_POLICY_PLACE_INTERNAL_H
#define VDC_POLICY_PLACE_INTERNAL_H

#include "policy_internal.h"

struct place_rule_state {
    bool applies;
    uint32_t *counts; /* of the group, per rack or node (snapshot index); NULL: not counted */
    const struct vdc_policy_partition **holders; /* the first of them by name */
    uint64_t total;                              /* near: members of the group anywhere */
    uint64_t fewest; /* spread: of all racks (nodes) where the partition could go */
};

/* What a plan changes for the second look; zero: nothing. */
struct place_relax {
    size_t node; /* what follows concerns this node (snapshot index) */
    uint64_t cpu_milli;
    uint64_t memory_bytes;
    bool open;
    bool *dropped; /* per rule; NULL: none */
};

struct place_context {
    const struct vdc_policy *policy;
    const struct vdc_policy_snapshot *snapshot;
    const struct vdc_policy_request *request;
    struct vdc_policy_partition partition; /* the request's, vcpus changed by a plan */
    struct vdc_policy_need need;
    size_t *order;                   /* snapshot indices by node name */
    size_t *rack;                    /* per node: number of its rack */
    struct place_rule_state *states; /* per rule */
    struct place_relax relax;
};

struct place_failure {
    enum vdc_policy_reason reason;
    size_t rule; /* RULE */
    uint64_t asked;
    uint64_t available;
};

#define FAILURES_MAX (VDC_POLICY_RULES_MAX + 8)

struct place_plan {
    struct vdc_policy_change changes[VDC_POLICY_CHANGES_MAX];
    size_t count;
    uint64_t trouble;  /* sum over the changes, see trouble_of() */
    uint64_t shortage; /* thousandths of what the node offers, summed */
    size_t node;
};

struct place_fill {
    struct policy_capacity capacity;
    uint64_t cpu_before;
    uint64_t cpu_after;
    uint64_t memory_after;
};

/* ---- place_node.c ---- */

const struct vdc_policy_node *place_node_at(const struct place_context *context, size_t index);
/* A node without a rack is one of its own. */
const char *place_rack_text(const struct vdc_policy_node *node);
bool place_is_same_partition(const struct vdc_policy_partition *a,
                             const struct vdc_policy_partition *b);
/* The number of the rack or node (as the rule counts) that the node is in. */
size_t place_domain_of(const struct place_context *context, const struct policy_rule *rule,
                       size_t node);
/* Which rules speak of the partition, and their groups; released by place_release_rules(). */
void place_prepare_rules(struct place_context *context);
void place_release_rules(struct place_context *context);
/* CPUs in use counted in thousandths of the machine's: what is shared stands overcommitted. */
uint64_t place_cpu_in_use(const struct vdc_policy *policy, uint64_t dedicated,
                          uint64_t shared_milli);
uint64_t place_left_of(uint64_t total, uint64_t used);
/* False: the node gives the zone nothing. */
bool place_fill_node(const struct place_context *context, size_t index, struct place_fill *fill);
/* Every reason against the node, in the order of enum vdc_policy_reason; returns how many. `fill` is
 * valid if none of them is NOT_IN_ZONE. */
size_t place_examine_node(const struct place_context *context, size_t index,
                          struct place_fill *fill, struct place_failure failures[FAILURES_MAX]);
void place_score_node(const struct place_context *context, size_t index,
                      const struct place_fill *fill, struct vdc_policy_candidate *candidate);
/* Whether the request leaves the node as a candidate: it has no target, or this one. */
bool place_is_asked_for(const struct place_context *context, size_t index);

/* ---- place_plan.c ---- */

/* Names the smallest change in the verdict, if there is one. `whole` holds the changes that no node can
 * do without. */
void place_plan_all(const struct place_context *context, const struct place_plan *whole,
                    struct vdc_policy_verdict *verdict);

#endif
