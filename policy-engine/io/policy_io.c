/* SPDX-License-Identifier: Apache-2.0 */
#include <vdc/base.h>
#include <vdc/policy_io.h>
#include <vdc/yaml.h>

enum vdc_rc vdc_policy_parse(const char *text, size_t len, struct vdc_policy **policy,
                             struct vdc_diags *diags)
{
    *policy = NULL;
    struct vdc_tree *tree;
    enum vdc_rc rc = vdc_yaml_load_partly(text, len, VDC_POLICY_TEXT_MAX, &tree, diags);
    if (tree == NULL) {
        return rc;
    }
    /* A file with a duplicate key is refused, but its other mistakes are shown with it. */
    struct vdc_policy *built;
    enum vdc_rc built_rc = vdc_policy_build(tree, &built, diags);
    vdc_tree_destroy(tree);
    if (rc != VDC_RC_OK || built_rc != VDC_RC_OK) {
        vdc_policy_destroy(built);
        return rc != VDC_RC_OK ? rc : built_rc;
    }
    *policy = built;
    return VDC_RC_OK;
}

/* jansson fails only without memory, which ends the process as everywhere. */
static json_t *need(json_t *json)
{
    VDC_ASSERT(json != NULL);
    return json;
}

static void set(json_t *object, const char *key, json_t *value)
{
    VDC_ASSERT(json_object_set_new(object, key, need(value)) == 0);
}

/* Texts that callers put into a snapshot may be anything; JSON takes UTF-8 only. */
static json_t *text_json(const char *text)
{
    json_t *json = json_string(text);
    if (json != NULL) {
        return json;
    }
    vdc_autofree char *copy = vdc_strdup(text);
    for (char *at = copy; *at != 0; at++) {
        *at = (unsigned char)*at < 0x80 ? *at : '?';
    }
    return need(json_string(copy));
}

static void set_text(json_t *object, const char *key, const char *text)
{
    set(object, key, text_json(text));
}

/* JSON integers of ours are signed 64 bit; nothing real comes near. */
static void set_number(json_t *object, const char *key, uint64_t number)
{
    set(object, key, json_integer((json_int_t)VDC_MIN(number, (uint64_t)INT64_MAX)));
}

static json_t *candidate_json(const struct vdc_policy_candidate *candidate)
{
    if (candidate->node[0] == 0) {
        return need(json_null());
    }
    json_t *object = need(json_object());
    set_text(object, "node", candidate->node);
    set_text(object, "rack", candidate->rack);
    set(object, "score_milli", json_integer(candidate->score_milli));
    json_t *parts = need(json_array());
    for (size_t i = 0; i < candidate->part_count; i++) {
        json_t *part = need(json_object());
        set_text(part, "name", candidate->parts[i].name);
        set(part, "milli", json_integer(candidate->parts[i].milli));
        VDC_ASSERT(json_array_append_new(parts, part) == 0);
    }
    set(object, "parts", parts);
    return object;
}

static json_t *rejections_json(const struct vdc_policy_verdict *verdict)
{
    json_t *array = need(json_array());
    for (size_t i = 0; i < verdict->rejection_count; i++) {
        const struct vdc_policy_rejection *rejection = &verdict->rejections[i];
        json_t *object = need(json_object());
        if (rejection->node[0] != 0) {
            set_text(object, "node", rejection->node);
            set_text(object, "rack", rejection->rack);
        }
        set_text(object, "reason", vdc_policy_reason_name(rejection->reason));
        if (rejection->rule[0] != 0) {
            set_text(object, "rule", rejection->rule);
        }
        set_text(object, "detail", rejection->detail);
        if (rejection->asked > rejection->available) {
            set_number(object, "asked", rejection->asked);
            set_number(object, "available", rejection->available);
        }
        VDC_ASSERT(json_array_append_new(array, object) == 0);
    }
    return array;
}

static json_t *counts_json(const struct vdc_policy_verdict *verdict)
{
    json_t *array = need(json_array());
    for (size_t i = 0; i < verdict->tally_count; i++) {
        const struct vdc_policy_tally *tally = &verdict->tallies[i];
        json_t *object = need(json_object());
        set_text(object, "reason", vdc_policy_reason_name(tally->reason));
        if (tally->rule[0] != 0) {
            set_text(object, "rule", tally->rule);
        }
        set_number(object, "nodes", tally->nodes);
        VDC_ASSERT(json_array_append_new(array, object) == 0);
    }
    return array;
}

static json_t *changes_json(const struct vdc_policy_verdict *verdict)
{
    json_t *array = need(json_array());
    for (size_t i = 0; i < verdict->change_count; i++) {
        const struct vdc_policy_change *change = &verdict->changes[i];
        json_t *object = need(json_object());
        set_text(object, "kind", vdc_policy_change_name(change->kind));
        if (change->rule[0] != 0) {
            set_text(object, "rule", change->rule);
        }
        if (change->node[0] != 0) {
            set_text(object, "node", change->node);
        }
        if (change->amount > 0) {
            set_number(object, "amount", change->amount);
        }
        VDC_ASSERT(json_array_append_new(array, object) == 0);
    }
    return array;
}

static void set_rendered(json_t *object, const char *key, const struct vdc_policy_verdict *verdict,
                         void (*render)(const struct vdc_policy_verdict *, struct vdc_buf *))
{
    struct vdc_buf text = {0};
    render(verdict, &text);
    set_text(object, key, vdc_buf_text(&text));
    vdc_buf_deinit(&text);
}

json_t *vdc_policy_verdict_json(const struct vdc_policy_verdict *verdict)
{
    json_t *object = need(json_object());
    set_text(object, "outcome", verdict->placed ? "placed" : "refused");
    set_text(object, "cause", vdc_policy_cause_text(verdict->cause));
    set_text(object, "partition", verdict->partition);
    set_number(object, "policy_version", verdict->policy_version);
    set_number(object, "generation", verdict->generation);
    set_number(object, "considered", verdict->considered);
    set_number(object, "fitting", verdict->fitting);
    set(object, "node", verdict->placed ? json_string(verdict->winner.node) : json_null());
    set(object, "winner", candidate_json(&verdict->winner));
    set(object, "runner_up", candidate_json(&verdict->runner_up));
    set(object, "rejected", rejections_json(verdict));
    set(object, "counts", counts_json(verdict));
    set(object, "changes", changes_json(verdict));
    set_rendered(object, "smallest_change", verdict, vdc_policy_changes_text);
    set_rendered(object, "summary", verdict, vdc_policy_verdict_line);
    set_rendered(object, "text", verdict, vdc_policy_verdict_text);
    return object;
}

json_t *vdc_diags_json(const struct vdc_diags *diags)
{
    json_t *array = need(json_array());
    for (size_t i = 0; i < diags->count; i++) {
        const struct vdc_diag *diag = &diags->items[i];
        json_t *object = need(json_object());
        if (diag->line > 0) {
            set_number(object, "line", diag->line);
            set_number(object, "column", diag->column);
        }
        set_text(object, "message", diag->text);
        VDC_ASSERT(json_array_append_new(array, object) == 0);
    }
    return array;
}
