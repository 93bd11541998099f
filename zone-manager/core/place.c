/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the policy engine is shown: nodes with what their replicas say is used, plus what was decided
 * and is not in a replica yet; partitions where their records put them. A partition that is being
 * migrated stands at its source; a shadow of it stands at the target, so that no rule is broken by
 * what arrives there in a moment.
 */
#include "zone_internal.h"

struct view {
    struct vdc_policy_node *nodes;
    struct zone_node **of; /* nodes[i] is of[i] */
    size_t nodes_len;
    struct vdc_policy_partition *partitions;
    size_t partitions_len;
    struct vdc_policy_label *labels; /* of both, one after the other */
    size_t labels_len;
    struct vdc_policy_snapshot snapshot;
};

static const struct vdc_policy_label *view_labels(struct view *view, const struct vdc_label *labels,
                                                  size_t len)
{
    struct vdc_policy_label *first = &view->labels[view->labels_len];
    for (size_t i = 0; i < len; i++) {
        first[i].key = labels[i].key;
        first[i].value = labels[i].value;
    }
    view->labels_len += len;
    return first;
}

static size_t view_node_index(const struct view *view, const char *name)
{
    for (size_t i = 0; i < view->nodes_len; i++) {
        if (strcmp(view->nodes[i].name, name) == 0) {
            return i;
        }
    }
    return VDC_POLICY_NO_NODE;
}

static struct vdc_policy_partition
view_spec(struct view *view, const struct vdc_partition_spec *spec, const struct vdc_id *id)
{
    return (struct vdc_policy_partition){
        .id = *id,
        .name = spec->name,
        .tenant = spec->tenant,
        .class_name = spec->class,
        .labels = view_labels(view, spec->labels, spec->labels_len),
        .label_count = spec->labels_len,
        .vcpus = spec->vcpus,
        .memory_bytes = spec->memory_bytes,
        .node = VDC_POLICY_NO_NODE,
    };
}

/* The partition is to be on the node, but its replica does not show it yet. */
static void add_need(const struct vdc_policy *policy, struct view *view, size_t at,
                     const struct vdc_policy_partition *partition, uint64_t generation)
{
    struct vdc_policy_need need;
    if (at == VDC_POLICY_NO_NODE || node_holds(view->of[at], &partition->id, generation) != NULL ||
        !vdc_policy_need(policy, partition, &need)) {
        return;
    }
    view->nodes[at].cpus_dedicated += need.cpus_dedicated;
    view->nodes[at].cpu_shared_milli += need.cpu_shared_milli;
    view->nodes[at].memory_used_bytes += need.memory_bytes;
}

static void view_node(const struct vdc_zone *zone, struct view *view, struct zone_node *node)
{
    const struct vdc_node_record *rec = &node->rec;
    size_t at = view->nodes_len++;
    const char *why = "";
    bool usable = node_is_usable(zone, node, &why);
    view->of[at] = node;
    view->nodes[at] = (struct vdc_policy_node){
        .name = rec->name,
        .rack = rec->rack,
        .labels = view_labels(view, rec->labels, rec->labels_len),
        .label_count = rec->labels_len,
        .cpu_model = rec->cpu_model,
        .accelerator = rec->accelerator,
        .state = node_is_lost(node) ? VDC_POLICY_NODE_LOST
                 : usable           ? VDC_POLICY_NODE_USABLE
                                    : VDC_POLICY_NODE_CLOSED,
        .why_not = why,
        .numa_nodes = rec->numa_nodes,
        .cpus = rec->cpus,
        .memory_bytes = rec->memory_bytes,
    };
    const struct vdc_zone_slice *slice =
        node->replica == NULL ? NULL : vdc_allocdb_find_zone(node->replica, zone->name);
    if (slice != NULL) {
        view->nodes[at].cpus_dedicated = slice->cpus_dedicated;
        view->nodes[at].cpu_shared_milli = slice->shared_used_milli;
        view->nodes[at].memory_used_bytes = slice->memory_used_bytes;
    }
}

static void view_partition(const struct vdc_policy *policy, struct view *view,
                           const struct zone_partition *partition)
{
    const struct vdc_partition_record *rec = &partition->rec;
    struct vdc_policy_partition *seen = &view->partitions[view->partitions_len++];
    *seen = view_spec(view, &rec->spec, &rec->id);
    seen->node = view_node_index(view, rec->owner);
    add_need(policy, view, seen->node, seen, rec->generation);
    const struct zone_op *op = partition->op;
    if (op == NULL || op->rec.kind != VDC_OPERATION_MIGRATE || op->step == MIGRATE_MOVED ||
        op_is_finished(op)) {
        return;
    }
    struct vdc_policy_partition *shadow = &view->partitions[view->partitions_len++];
    *shadow = *seen;
    shadow->tenant = ""; /* its quota is counted at the source */
    shadow->node = view_node_index(view, op->rec.target);
    add_need(policy, view, shadow->node, shadow, op->rec.generation_to);
    shadow->id = (struct vdc_id){0};
}

static void view_build(struct vdc_zone *zone, const struct vdc_policy *policy, struct view *view)
{
    size_t labels = VDC_LABELS_MAX; /* of a request */
    for (size_t i = 0; i < zone->nodes_len; i++) {
        labels += zone->nodes[i]->rec.labels_len;
    }
    for (size_t i = 0; i < zone->partitions_len; i++) {
        labels += zone->partitions[i]->rec.spec.labels_len;
    }
    *view = (struct view){0};
    view->labels = vdc_calloc(labels, sizeof *view->labels);
    view->nodes = vdc_calloc(zone->nodes_len, sizeof *view->nodes);
    view->of = vdc_calloc(zone->nodes_len, sizeof *view->of);
    view->partitions = vdc_calloc(2 * zone->partitions_len, sizeof *view->partitions);
    for (size_t i = 0; i < zone->nodes_len; i++) {
        if (zone->nodes[i]->rec.incarnation != 0) {
            view_node(zone, view, zone->nodes[i]);
        }
    }
    for (size_t i = 0; i < zone->partitions_len; i++) {
        view_partition(policy, view, zone->partitions[i]);
    }
    view->snapshot = (struct vdc_policy_snapshot){
        .policy_version = zone->policy_rec.version,
        .generation = zone->generation,
        .nodes = view->nodes,
        .node_count = view->nodes_len,
        .partitions = view->partitions,
        .partition_count = view->partitions_len,
    };
}

static void view_deinit(struct view *view)
{
    free(view->labels);
    free(view->nodes);
    free(view->of);
    free(view->partitions);
}

void zone_place(struct vdc_zone *zone, const struct vdc_partition_spec *spec,
                const struct vdc_id *id, enum vdc_policy_cause cause, const char *target,
                const char *const *excluded, size_t excluded_len, struct placement *placement)
{
    struct view view;
    view_build(zone, zone->policy, &view);
    /* A node that still holds an earlier generation of it cannot take it a second time. */
    const char **all = vdc_calloc(excluded_len + view.nodes_len, sizeof *all);
    size_t all_len = 0;
    for (size_t i = 0; i < excluded_len; i++) {
        all[all_len++] = excluded[i];
    }
    for (size_t i = 0; i < view.nodes_len && !vdc_id_is_none(id); i++) {
        bool holds = view.of[i]->replica != NULL &&
                     vdc_allocdb_find_partition(view.of[i]->replica, id) != NULL;
        if (holds && cause != VDC_POLICY_MIGRATE) {
            all[all_len++] = view.nodes[i].name;
        }
    }
    const struct vdc_policy_request request = {
        .cause = cause,
        .partition = view_spec(&view, spec, id),
        .target = target != NULL && target[0] != 0 ? target : NULL,
        .excluded = all,
        .excluded_count = all_len,
    };
    struct vdc_policy_request with_node = request;
    for (size_t i = 0; i < view.partitions_len && !vdc_id_is_none(id); i++) {
        if (vdc_id_equal(&view.partitions[i].id, id)) {
            with_node.partition.node = view.partitions[i].node;
            break;
        }
    }
    struct vdc_policy_verdict verdict = {0};
    vdc_policy_place(zone->policy, &view.snapshot, &with_node, &verdict);
    struct vdc_buf text = {0};
    vdc_policy_verdict_line(&verdict, &text);
    *placement = (struct placement){.placed = verdict.placed};
    if (text.len >= sizeof placement->line) {
        text.data[sizeof placement->line - 1] = 0;
    }
    vdc_str_set(placement->line, sizeof placement->line, vdc_buf_text(&text));
    vdc_buf_clear(&text);
    vdc_policy_verdict_text(&verdict, &text);
    if (text.len > VDC_VERDICT_TEXT_MAX) {
        text.data[VDC_VERDICT_TEXT_MAX] = 0;
    }
    placement->text = vdc_buf_steal(&text);
    if (verdict.placed) {
        placement->node = view.of[verdict.node];
    }
    vdc_policy_verdict_deinit(&verdict);
    free(all);
    view_deinit(&view);
}

void placement_trace(struct vdc_zone *zone, const struct placement *placement)
{
    TRACE(zone, INFO, "%s -> %s", placement->line,
          placement->placed ? placement->node->rec.name : "nowhere");
}

void placement_deinit(struct placement *placement)
{
    free(placement->text);
    *placement = (struct placement){0};
}

enum vdc_rc zone_check_policy(struct vdc_zone *zone, const struct vdc_policy *policy,
                              struct vdc_err *err)
{
    struct view view;
    struct vdc_diags diags = {.source = "policy"};
    view_build(zone, policy, &view);
    enum vdc_rc rc = vdc_policy_check(policy, &view.snapshot, &diags);
    if (rc != VDC_RC_OK) {
        rc = vdc_diags_to_err(&diags, err);
    }
    vdc_diags_deinit(&diags);
    view_deinit(&view);
    return rc;
}

void zone_failover_order(struct vdc_zone *zone, struct zone_partition **partitions, size_t len)
{
    if (len < 2) {
        return;
    }
    struct vdc_policy_partition *seen = vdc_calloc(len, sizeof *seen);
    struct zone_partition **from = vdc_memdup(partitions, len * sizeof(struct zone_partition *));
    size_t *order = vdc_calloc(len, sizeof *order);
    for (size_t i = 0; i < len; i++) {
        const struct vdc_partition_spec *spec = &from[i]->rec.spec;
        seen[i] = (struct vdc_policy_partition){
            .id = from[i]->rec.id,
            .name = spec->name,
            .tenant = spec->tenant,
            .class_name = spec->class,
            .vcpus = spec->vcpus,
            .memory_bytes = spec->memory_bytes,
            .node = VDC_POLICY_NO_NODE,
        };
        order[i] = i;
    }
    const struct vdc_policy_snapshot snapshot = {.partitions = seen, .partition_count = len};
    vdc_policy_failover_order(zone->policy, &snapshot, order, len);
    for (size_t i = 0; i < len; i++) {
        partitions[i] = from[order[i]];
    }
    free(seen);
    free(from);
    free(order);
}
