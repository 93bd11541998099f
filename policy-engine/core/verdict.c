/* SPDX-License-Identifier: Apache-2.0 */
/* Verdicts as text. The wording is what operators read in the log, in `vdc` and in the trace. */
#include <string.h>

#include <vdc/base.h>
#include <vdc/quantity.h>

#include "policy_internal.h"

/* Different details shown behind one reason in the line; the long form has all that are kept. */
#define DETAILS_SHOWN 4

static const char *const reason_texts[] = {
#define X(name, text) text,
    VDC_POLICY_REASON_LIST(X)
#undef X
};

const char *vdc_policy_reason_name(enum vdc_policy_reason reason)
{
    /* In lower case with '-', as everything in JSON. In the order of the list. */
    static const char *const names[] = {"not-in-zone", "excluded", "already-there", "not-usable",
                                        "vcpus",       "cpu",      "memory",        "rule",
                                        "quota",       "class",    "tenant",        "target"};
    _Static_assert(VDC_COUNT_OF(names) == VDC_COUNT_OF(reason_texts), "a reason without a name");
    return names[reason];
}

const char *vdc_policy_reason_text(enum vdc_policy_reason reason)
{
    return reason_texts[reason];
}

const char *vdc_policy_cause_text(enum vdc_policy_cause cause)
{
    switch (cause) {
    case VDC_POLICY_CREATE:
        return "create";
    case VDC_POLICY_MIGRATE:
        return "migrate";
    case VDC_POLICY_FAILOVER:
        return "failover";
    }
    return "?";
}

const char *vdc_policy_change_name(enum vdc_policy_change_kind kind)
{
    switch (kind) {
    case VDC_POLICY_CHANGE_DROP_RULE:
        return "drop-rule";
    case VDC_POLICY_CHANGE_FREE_CPU:
        return "free-cpu";
    case VDC_POLICY_CHANGE_FREE_MEMORY:
        return "free-memory";
    case VDC_POLICY_CHANGE_ASK_VCPUS:
        return "ask-vcpus";
    case VDC_POLICY_CHANGE_ASK_MEMORY:
        return "ask-memory";
    case VDC_POLICY_CHANGE_OPEN_NODE:
        return "open-node";
    case VDC_POLICY_CHANGE_RAISE_QUOTA:
        return "raise-quota";
    }
    return "?";
}

/* "12.345", "-0.5"; trailing zeros are dropped. */
static void put_milli(struct vdc_buf *out, int64_t milli)
{
    uint64_t value = milli < 0 ? 0 - (uint64_t)milli : (uint64_t)milli;
    uint64_t fraction = value % 1000;
    int digits = 3;
    while (fraction > 0 && fraction % 10 == 0) {
        fraction /= 10;
        digits--;
    }
    vdc_buf_printf(out, "%s%llu", milli < 0 ? "-" : "", (unsigned long long)(value / 1000));
    if (fraction > 0) {
        vdc_buf_printf(out, ".%0*llu", digits, (unsigned long long)fraction);
    }
}

/* Bytes so that reading them back gives the number: in the largest unit that divides them. */
static void put_bytes_exactly(struct vdc_buf *out, uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (unit + 1 < VDC_COUNT_OF(units) && bytes > 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    vdc_buf_printf(out, "%llu %s", (unsigned long long)bytes, units[unit]);
}

static void put_quota(struct vdc_buf *out, const struct vdc_policy_change *change)
{
    vdc_buf_printf(out, "raise quota %s to ", change->rule);
    const char *unit = strrchr(change->rule, '.');
    if (unit != NULL && strcmp(unit, ".memory") == 0) {
        put_bytes_exactly(out, change->amount);
    } else {
        vdc_buf_printf(out, "%llu", (unsigned long long)change->amount);
    }
}

static void put_change(struct vdc_buf *out, const struct vdc_policy_change *change)
{
    switch (change->kind) {
    case VDC_POLICY_CHANGE_DROP_RULE:
        vdc_buf_printf(out, "drop hard rule %s", change->rule);
        return;
    case VDC_POLICY_CHANGE_FREE_CPU:
        vdc_buf_puts(out, "free ");
        put_milli(out, (int64_t)change->amount);
        vdc_buf_printf(out, " CPU on %s", change->node);
        return;
    case VDC_POLICY_CHANGE_FREE_MEMORY:
        vdc_buf_puts(out, "free ");
        put_bytes_exactly(out, change->amount);
        vdc_buf_printf(out, " on %s", change->node);
        return;
    case VDC_POLICY_CHANGE_ASK_VCPUS:
        vdc_buf_printf(out, "ask for %llu vCPU%s", (unsigned long long)change->amount,
                       change->amount == 1 ? "" : "s");
        return;
    case VDC_POLICY_CHANGE_ASK_MEMORY:
        vdc_buf_puts(out, "ask for ");
        put_bytes_exactly(out, change->amount);
        return;
    case VDC_POLICY_CHANGE_OPEN_NODE:
        vdc_buf_printf(out, "make %s usable", change->node);
        return;
    case VDC_POLICY_CHANGE_RAISE_QUOTA:
        put_quota(out, change);
        return;
    }
}

void vdc_policy_changes_text(const struct vdc_policy_verdict *verdict, struct vdc_buf *out)
{
    for (size_t i = 0; i < verdict->change_count; i++) {
        vdc_buf_puts(out, i == 0 ? "" : i + 1 < verdict->change_count ? ", " : " and ");
        put_change(out, &verdict->changes[i]);
    }
}

/* "rule db-apart", "memory". */
static void put_reason(struct vdc_buf *out, enum vdc_policy_reason reason, const char *rule)
{
    vdc_buf_printf(out, "%s%s%s", vdc_policy_reason_text(reason), rule[0] != 0 ? " " : "", rule);
}

/* The different details of one tally: ": rack r1 holds db-1, rack r2 holds db-2, ...". Where the
 * detail does not name its node, the node stands before it. */
static void put_details(struct vdc_buf *out, const struct vdc_policy_verdict *verdict,
                        const struct vdc_policy_tally *tally)
{
    const char *seen[DETAILS_SHOWN];
    size_t count = 0;
    for (size_t i = 0; i < verdict->rejection_count; i++) {
        const struct vdc_policy_rejection *rejection = &verdict->rejections[i];
        if (rejection->reason != tally->reason || strcmp(rejection->rule, tally->rule) != 0 ||
            rejection->node[0] == 0 || rejection->detail[0] == 0) {
            continue;
        }
        bool known = false;
        for (size_t j = 0; j < count; j++) {
            known = known || strcmp(seen[j], rejection->detail) == 0;
        }
        if (known) {
            continue;
        }
        if (count == DETAILS_SHOWN) {
            vdc_buf_puts(out, ", ...");
            return;
        }
        seen[count] = rejection->detail;
        vdc_buf_puts(out, count == 0 ? ": " : ", ");
        if (tally->reason != VDC_POLICY_REASON_RULE) {
            vdc_buf_printf(out, "%s ", rejection->node);
        }
        vdc_buf_puts(out, rejection->detail);
        count++;
    }
}

static void put_tallies(struct vdc_buf *out, const struct vdc_policy_verdict *verdict,
                        bool with_details)
{
    for (size_t i = 0; i < verdict->tally_count; i++) {
        const struct vdc_policy_tally *tally = &verdict->tallies[i];
        vdc_buf_printf(out, "%s%llu by ", i == 0 ? "" : "; ", (unsigned long long)tally->nodes);
        put_reason(out, tally->reason, tally->rule);
        if (with_details) {
            put_details(out, verdict, tally);
        }
    }
}

static void put_placed(struct vdc_buf *out, const struct vdc_policy_verdict *verdict)
{
    const struct vdc_policy_candidate *winner = &verdict->winner;
    vdc_buf_printf(out, "placed on %s", winner->node);
    if (winner->rack[0] != 0) {
        vdc_buf_printf(out, " (rack %s)", winner->rack);
    }
    vdc_buf_puts(out, ", score ");
    put_milli(out, winner->score_milli);
    if (verdict->runner_up.node[0] != 0) {
        vdc_buf_printf(out, "; next %s ", verdict->runner_up.node);
        put_milli(out, verdict->runner_up.score_milli);
    }
    uint64_t rejected = verdict->considered - verdict->fitting;
    if (rejected > 0) {
        vdc_buf_printf(out, "; %llu of %llu nodes rejected (", (unsigned long long)rejected,
                       (unsigned long long)verdict->considered);
        put_tallies(out, verdict, false);
        vdc_buf_puts(out, ")");
    }
}

static void put_refused(struct vdc_buf *out, const struct vdc_policy_verdict *verdict)
{
    vdc_buf_puts(out, "refused");
    for (size_t i = 0; i < verdict->rejection_count && verdict->rejections[i].node[0] == 0; i++) {
        const struct vdc_policy_rejection *rejection = &verdict->rejections[i];
        vdc_buf_puts(out, i == 0 ? ", " : "; ");
        if (rejection->reason == VDC_POLICY_REASON_QUOTA) {
            put_reason(out, rejection->reason, rejection->rule);
            vdc_buf_puts(out, " ");
        }
        vdc_buf_puts(out, rejection->detail);
    }
    if (verdict->considered > 0 && verdict->fitting == 0) {
        vdc_buf_printf(out, ", no node of %llu fits (", (unsigned long long)verdict->considered);
        put_tallies(out, verdict, true);
        vdc_buf_puts(out, ")");
    } else if (verdict->considered == 0 && verdict->rejection_count == 0) {
        vdc_buf_puts(out, ", there are no nodes");
    }
    if (verdict->change_count > 0) {
        vdc_buf_puts(out, "; smallest change: ");
        vdc_policy_changes_text(verdict, out);
    }
}

void vdc_policy_verdict_line(const struct vdc_policy_verdict *verdict, struct vdc_buf *out)
{
    vdc_buf_printf(out, "%s: ", verdict->partition);
    if (verdict->placed) {
        put_placed(out, verdict);
    } else {
        put_refused(out, verdict);
    }
}

static void put_candidate(struct vdc_buf *out, const char *what,
                          const struct vdc_policy_candidate *candidate)
{
    if (candidate->node[0] == 0) {
        return;
    }
    vdc_buf_printf(out, "  %s %s: ", what, candidate->node);
    put_milli(out, candidate->score_milli);
    for (size_t i = 0; i < candidate->part_count; i++) {
        vdc_buf_printf(out, "%s%s ", i == 0 ? " = " : " + ", candidate->parts[i].name);
        put_milli(out, candidate->parts[i].milli);
    }
    vdc_buf_puts(out, "\n");
}

void vdc_policy_verdict_text(const struct vdc_policy_verdict *verdict, struct vdc_buf *out)
{
    vdc_policy_verdict_line(verdict, out);
    vdc_buf_printf(
        out, "\n  %s, policy version %llu, state %llu\n", vdc_policy_cause_text(verdict->cause),
        (unsigned long long)verdict->policy_version, (unsigned long long)verdict->generation);
    put_candidate(out, "winner", &verdict->winner);
    put_candidate(out, "runner-up", &verdict->runner_up);
    for (size_t i = 0; i < verdict->rejection_count; i++) {
        const struct vdc_policy_rejection *rejection = &verdict->rejections[i];
        vdc_buf_printf(out, "  rejected%s%s: ", rejection->node[0] != 0 ? " " : "",
                       rejection->node);
        put_reason(out, rejection->reason, rejection->rule);
        if (rejection->detail[0] != 0) {
            vdc_buf_printf(out, ": %s", rejection->detail);
        }
        vdc_buf_puts(out, "\n");
    }
    uint64_t kept = 0;
    for (size_t i = 0; i < verdict->rejection_count; i++) {
        kept += verdict->rejections[i].node[0] != 0;
    }
    uint64_t rejected = verdict->considered - verdict->fitting;
    if (rejected > kept) {
        vdc_buf_printf(out, "  ... and %llu more rejected\n",
                       (unsigned long long)(rejected - kept));
    }
}
