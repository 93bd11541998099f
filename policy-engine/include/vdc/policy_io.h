/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy engine's edges: the YAML text of a policy, and verdicts as JSON. Library vdc-policy-io
 * (over vdc-policy, vdc-yaml and jansson); the core never includes this.
 */
#ifndef VDC_POLICY_IO_H
#define VDC_POLICY_IO_H

#include <jansson.h>

#include <vdc/policy.h>

/* Reads a policy file's text (at most VDC_POLICY_TEXT_MAX bytes). diags->source is the name that
 * rendered diagnostics begin with. OK: *policy is the caller's. INVALID, TOO_LARGE: *policy is NULL
 * and diags says everything that is wrong, in the order of the text. This is also all that
 * `vdc policy lint` does. */
enum vdc_rc vdc_policy_parse(const char *text, size_t len, struct vdc_policy **policy,
                             struct vdc_diags *diags) VDC_MUST_USE;

/* A new JSON object of the verdict (the caller decrefs); keys are in docs/policy.md, "Verdicts". It
 * holds the one-line and the long text as "summary" and "text", so that no client formats it. */
json_t *vdc_policy_verdict_json(const struct vdc_policy_verdict *verdict) VDC_MUST_USE;

/* A new JSON array of {"line", "column", "message"}: the `errors` of a problem+json answer. */
json_t *vdc_diags_json(const struct vdc_diags *diags) VDC_MUST_USE;

#endif
