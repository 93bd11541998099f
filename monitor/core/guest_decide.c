/* SPDX-License-Identifier: Apache-2.0 */
/* What should be against what is: silence, orders to stop, the lease, running, a migration's progress.
 * Done after every event, so that time limits hold whichever event comes first. */
#include "guest_internal.h"

static bool is_pending(const struct vdc_guest *guest, enum vdc_qmp_command command)
{
    for (size_t i = 0; i < guest->pending_count; i++) {
        if (guest->pending[i].command == command) {
            return true;
        }
    }
    return false;
}

static void decide_silence(struct vdc_guest *guest)
{
    if (guest->pending_count == 0 || !guest->state.responsive || guest->frozen ||
        !vdc_mono_reached(guest->now, guest->pending[0].deadline)) {
        return;
    }
    guest->state.responsive = false;
    guest->update->changed = true;
    vdc_trace_line(&guest->trace, VDC_LEVEL_WARN,
                   "guest %s: no answer to %s for %d ms -> QEMU is not responsive",
                   guest->state.name, vdc_qmp_command_text(guest->pending[0].command),
                   VDC_GUEST_QMP_TIMEOUT_MS);
}

static void decide_lease(struct vdc_guest *guest)
{
    vdc_mono deadline = guest_lease_deadline(guest);
    /* Stopped by a migration and not by us: its failure or cancel resumes it, at any moment. */
    bool may_resume_itself = guest_in_migration_out(guest) || guest->resumes_itself;

    if (!guest->has_run || !guest->view_known || guest->state.ended) {
        return;
    }
    if (!vdc_mono_reached(guest->now,
                          vdc_mono_add(deadline, -VDC_GUEST_LEASE_MARGIN_MS * VDC_MS))) {
        if (guest->frozen) {
            guest->frozen = false;
            vdc_trace_line(&guest->trace, VDC_LEVEL_INFO, "guest %s: lease renewed -> QEMU thawed",
                           guest->state.name);
            (void)guest_add_action(guest, VDC_GUEST_ACT_THAW);
        }
        return;
    }
    if (may_resume_itself && !guest->vcpus_run && !guest->frozen) {
        guest->frozen = true;
        vdc_trace_line(&guest->trace, VDC_LEVEL_WARN,
                       "guest %s: lease passed in state %s -> QEMU frozen", guest->state.name,
                       vdc_phase_text(guest->state.state));
        (void)guest_add_action(guest, VDC_GUEST_ACT_FREEZE);
    } else if (guest->state.state == VDC_PHASE_MIGRATING && !guest->cancelling) {
        guest->cancelling = true;
        guest_order(guest, VDC_QMP_MIGRATE_CANCEL, NULL);
    }
    if ((guest->vcpus_run || guest->cont_pending) && !guest->frozen) {
        if (!guest->stop_pending) {
            vdc_trace_line(&guest->trace, VDC_LEVEL_WARN,
                           "guest %s: lease ends in %lld ms and was not renewed -> pause",
                           guest->state.name,
                           (long long)(vdc_mono_sub(deadline, guest->now) / VDC_MS));
        }
        guest_order_stop(guest);
    }
    if (!vdc_mono_reached(guest->now, deadline)) {
        return;
    }
    if ((guest->vcpus_run || guest->cont_pending) && !guest->frozen) {
        guest_order_kill(guest, "lease passed and the pause is not confirmed");
    } else if (vdc_mono_reached(guest->now, vdc_mono_add(deadline, guest->grace_ns))) {
        guest_order_kill(guest, "lease passed and was not renewed in the grace time");
    }
}

static void decide_run(struct vdc_guest *guest)
{
    bool may = guest_may_run(guest) && !guest_waits_to_retry(guest);

    switch (guest->state.state) {
    case VDC_PHASE_PRELAUNCH:
    case VDC_PHASE_PAUSED:
        if (may && !guest->stop_pending) {
            guest_order_cont(guest);
        }
        break;
    case VDC_PHASE_LOADED:
        if (may && guest->activated) {
            guest_order_cont(guest);
        }
        break;
    case VDC_PHASE_POSTMIGRATE:
        /* Only where `resume` has said that this side owns the guest, and QEMU refused. */
        if (may && !vdc_mono_is_never(guest->retry_at)) {
            guest_order_cont(guest);
        }
        break;
    case VDC_PHASE_RUNNING:
        if (!guest_may_run(guest) && guest->vcpus_run) {
            guest_order_stop(guest);
        } else if (may && !guest->vcpus_run && !guest->by_guest && !guest->stop_pending &&
                   (vdc_mono_reached(guest->now, guest->resume_at) ||
                    !vdc_mono_is_never(guest->retry_at))) {
            guest->resume_at = VDC_NEVER;
            guest_order_cont(guest);
        }
        break;
    case VDC_PHASE_STARTING:
    case VDC_PHASE_INCOMING:
    case VDC_PHASE_LOADING:
    case VDC_PHASE_MIGRATING:
    case VDC_PHASE_SWITCHOVER:
    case VDC_PHASE_HANDOVER:
    case VDC_PHASE_STOPPING:
    case VDC_PHASE_STOPPED:
    case VDC_PHASE_FAILED:
        break;
    }
}

static void decide_stop(struct vdc_guest *guest)
{
    if (vdc_mono_reached(guest->now, guest->broken_deadline)) {
        guest->broken_deadline = VDC_NEVER;
        guest_order_kill(guest, "QMP is closed and QEMU does not end");
    }
    if (guest->state.state == VDC_PHASE_STARTING) {
        if (vdc_mono_reached(guest->now, guest->start_deadline)) {
            guest->start_deadline = VDC_NEVER;
            guest_order_kill(guest, "QEMU did not answer after its start");
        }
        return;
    }
    if (guest->view_known && guest->view.run == VDC_RUN_STOPPED && !guest_in_migration_out(guest) &&
        guest->state.state != VDC_PHASE_STOPPING) {
        guest_begin_stop(guest, guest->stop_timeout_s, "the view says stopped");
    }
    if (guest->state.state != VDC_PHASE_STOPPING ||
        !vdc_mono_reached(guest->now, guest->stop_deadline)) {
        return;
    }
    if (guest->quit_sent) {
        guest->stop_deadline = VDC_NEVER;
        guest_order_kill(guest, "QEMU did not quit");
    } else {
        guest->quit_sent = true;
        guest->stop_deadline = vdc_mono_add(guest->now, VDC_GUEST_QUIT_TIMEOUT_MS * VDC_MS);
        vdc_trace_line(&guest->trace, VDC_LEVEL_WARN, "guest %s: did not power off in time -> quit",
                       guest->state.name);
        guest_order(guest, VDC_QMP_QUIT, NULL);
    }
}

static void decide_progress(struct vdc_guest *guest)
{
    if (!vdc_mono_reached(guest->now, guest->progress_at)) {
        return;
    }
    guest->progress_at = VDC_NEVER;
    if (guest->state.state == VDC_PHASE_MIGRATING) {
        guest->progress_at = vdc_mono_add(guest->now, VDC_GUEST_PROGRESS_MS * VDC_MS);
    } else if (guest->state.state != VDC_PHASE_POSTMIGRATE) {
        return;
    }
    if (!is_pending(guest, VDC_QMP_QUERY_MIGRATE)) {
        guest_order(guest, VDC_QMP_QUERY_MIGRATE, NULL);
    }
}

void guest_decide(struct vdc_guest *guest)
{
    if (guest_is_over(guest)) {
        return;
    }
    decide_silence(guest);
    decide_stop(guest);
    decide_lease(guest);
    decide_run(guest);
    decide_progress(guest);
}
