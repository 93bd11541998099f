/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works: `asked` remembers the last questions since JOIN, so that only an answer to a
 * question really asked under the present lease time moves the deadline. A leader that echoes
 * anything else gains nothing. What can fail: no answer; then the deadline stands and passes.
 */
#include <vdc/run_lease.h>

#include <vdc/base.h>

static void join(struct vdc_run_lease *lease, const struct vdc_run_lease_event *event)
{
    VDC_ASSERT(event->lease_ns >= VDC_RUN_LEASE_MIN_NS && event->lease_ns <= VDC_RUN_LEASE_MAX_NS);
    lease->joined = true;
    lease->granted = false;
    lease->lease_ns = event->lease_ns;
    lease->epoch = event->epoch;
    lease->incarnation = event->incarnation;
    lease->next_ask = event->now;
    lease->asked_len = 0;
    lease->asked_at = 0;
}

static bool was_asked(const struct vdc_run_lease *lease, uint64_t asked_ns)
{
    for (uint32_t i = 0; i < lease->asked_len; i++) {
        if ((uint64_t)lease->asked[i].ns == asked_ns) {
            return true;
        }
    }
    return false;
}

static void grant(struct vdc_run_lease *lease, const struct vdc_run_lease_event *event,
                  struct vdc_run_lease_update *update)
{
    if (!lease->joined || event->incarnation != lease->incarnation || event->epoch < lease->epoch ||
        !was_asked(lease, event->asked_ns)) {
        return;
    }
    if (!lease->granted) {
        lease->granted = true;
        /* From the fast rhythm of joining to the slow one. */
        lease->next_ask = vdc_mono_add((vdc_mono){(int64_t)event->asked_ns}, lease->lease_ns / 4);
    }
    vdc_mono deadline = vdc_mono_add((vdc_mono){(int64_t)event->asked_ns}, lease->lease_ns);
    if (vdc_mono_sub(deadline, lease->deadline) > 0) {
        lease->deadline = deadline;
        update->deadline_changed = true;
    }
}

static void ask_when_due(struct vdc_run_lease *lease, vdc_mono now,
                         struct vdc_run_lease_update *update)
{
    if (!lease->joined || !vdc_mono_reached(now, lease->next_ask)) {
        return;
    }
    int64_t quarter = lease->lease_ns / 4;
    int64_t wait = lease->granted ? quarter : VDC_MIN(quarter, VDC_RUN_LEASE_FIRST_NS);
    lease->next_ask = vdc_mono_add(now, wait);
    lease->asked[lease->asked_at] = now;
    lease->asked_at = (lease->asked_at + 1) % VDC_RUN_LEASE_ASKED_MAX;
    lease->asked_len = VDC_MIN(lease->asked_len + 1, (uint32_t)VDC_RUN_LEASE_ASKED_MAX);
    update->ask = true;
    update->asked_ns = (uint64_t)now.ns;
}

void vdc_run_lease_step(struct vdc_run_lease *lease, const struct vdc_run_lease_event *event,
                        struct vdc_run_lease_update *update)
{
    *update = (struct vdc_run_lease_update){0};
    switch (event->kind) {
    case VDC_RUN_LEASE_JOIN:
        join(lease, event);
        break;
    case VDC_RUN_LEASE_LEAVE:
        lease->joined = false;
        break;
    case VDC_RUN_LEASE_GRANT:
        grant(lease, event, update);
        break;
    case VDC_RUN_LEASE_RESTORE:
        lease->deadline = vdc_mono_max(lease->deadline, event->deadline);
        break;
    case VDC_RUN_LEASE_REVOKE:
        update->deadline_changed = lease->deadline.ns != 0;
        lease->deadline = (vdc_mono){0};
        lease->joined = false;
        break;
    case VDC_RUN_LEASE_TICK:
        break;
    }
    ask_when_due(lease, event->now, update);
    bool valid = vdc_run_lease_valid(lease, event->now);
    update->began = valid && !lease->valid;
    update->expired = !valid && lease->valid;
    lease->valid = valid;
}

bool vdc_run_lease_valid(const struct vdc_run_lease *lease, vdc_mono now)
{
    return lease->deadline.ns != 0 && !vdc_mono_reached(now, lease->deadline);
}

vdc_mono vdc_run_lease_deadline(const struct vdc_run_lease *lease)
{
    vdc_mono at = lease->joined ? lease->next_ask : VDC_NEVER;
    return lease->valid ? vdc_mono_min(at, lease->deadline) : at;
}
