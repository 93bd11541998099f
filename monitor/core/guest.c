/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works. Handlers of events (here, and in guest_qmp.c those of what QEMU says) note facts (what QEMU said, what the view says) and make the
 * moves that those facts force. After each event guest_decide() compares what should be with what is:
 * may the guest run (view, holds, lease), does it run, is something overdue. Everything about
 * leases and time limits is there, so it holds after any event and not only after a TICK.
 *
 * QMP answers come in the order of the commands, so one queue of pending commands with deadlines
 * is enough to notice a QEMU that has fallen silent.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <vdc/sm.h>

#include "guest_internal.h"

#define EXIT_STATUS_FAILED 3

#define TO(name) VDC_SM_TO(VDC_PHASE_##name)
#define TO_END (TO(STOPPING) | TO(STOPPED) | TO(FAILED))

/* Indexed by enum vdc_phase. */
static const struct vdc_sm_state states[VDC_PHASES] = {
    [VDC_PHASE_STARTING] = {"starting", TO(PRELAUNCH) | TO(INCOMING) | TO_END},
    [VDC_PHASE_PRELAUNCH] = {"prelaunch", TO(RUNNING) | TO_END},
    [VDC_PHASE_INCOMING] = {"incoming", TO(LOADING) | TO_END},
    [VDC_PHASE_LOADING] = {"loading", TO(LOADED) | TO_END},
    [VDC_PHASE_LOADED] = {"loaded", TO(RUNNING) | TO_END},
    [VDC_PHASE_RUNNING] = {"running", TO(PAUSED) | TO(MIGRATING) | TO_END},
    [VDC_PHASE_PAUSED] = {"paused", TO(RUNNING) | TO_END},
    [VDC_PHASE_MIGRATING] = {"migrating", TO(RUNNING) | TO(PAUSED) | TO(SWITCHOVER) | TO_END},
    [VDC_PHASE_SWITCHOVER] = {"switchover", TO(HANDOVER) | TO(RUNNING) | TO(PAUSED) | TO_END},
    [VDC_PHASE_HANDOVER] = {"handover", TO(POSTMIGRATE) | TO(RUNNING) | TO(PAUSED) | TO_END},
    [VDC_PHASE_POSTMIGRATE] = {"postmigrate", TO(RUNNING) | TO_END},
    [VDC_PHASE_STOPPING] = {"stopping", TO(STOPPED) | TO(FAILED)},
    [VDC_PHASE_STOPPED] = {"stopped", 0},
    [VDC_PHASE_FAILED] = {"failed", 0},
};

/* ---- small helpers ---- */

void guest_move_to(struct vdc_guest *guest, enum vdc_phase to, const char *fmt, ...)
{
    char why[sizeof(guest->state.reason)];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(why, sizeof(why), fmt, args);
    va_end(args);
    guest->state.state =
        (enum vdc_phase)vdc_sm_move(states, VDC_PHASES, (int)guest->state.state, (int)to,
                                    &guest->trace, "guest", guest->state.name, why);
    vdc_str_set(guest->state.reason, sizeof(guest->state.reason), why);
    guest->update->changed = true;
}

struct vdc_guest_action *guest_add_action(struct vdc_guest *guest, enum vdc_guest_action_kind kind)
{
    struct vdc_guest_update *update = guest->update;
    struct vdc_guest_action *action;

    VDC_ASSERT(update->action_count < VDC_GUEST_ACTIONS_MAX);
    action = &update->actions[update->action_count++];
    *action = (struct vdc_guest_action){.kind = kind};
    return action;
}

void guest_order_kill(struct vdc_guest *guest, const char *why)
{
    if (guest->killed || guest->state.ended) {
        return;
    }
    guest->killed = true;
    vdc_trace_line(&guest->trace, VDC_LEVEL_WARN, "guest %s: %s -> kill QEMU", guest->state.name,
                   why);
    (void)guest_add_action(guest, VDC_GUEST_ACT_KILL);
}

void guest_order(struct vdc_guest *guest, enum vdc_qmp_command command,
                 const struct vdc_qmp_params *params)
{
    struct vdc_guest_action *action;

    if (guest->killed || guest->state.ended || !vdc_mono_is_never(guest->broken_deadline)) {
        return;
    }
    if (guest->pending_count == VDC_GUEST_PENDING_MAX) {
        guest_order_kill(guest, "QEMU leaves too many commands without an answer");
        return;
    }
    action = guest_add_action(guest, VDC_GUEST_ACT_QMP);
    action->command = command;
    action->id = ++guest->last_id;
    if (params != NULL) {
        action->params = *params;
    }
    guest->pending[guest->pending_count++] = (struct pending){
        .command = command,
        .id = action->id,
        .deadline = vdc_mono_add(guest->now, VDC_GUEST_QMP_TIMEOUT_MS * VDC_MS),
    };
}

vdc_mono guest_lease_deadline(const struct vdc_guest *guest)
{
    if (!guest->lease || guest->view.lease_ns == VDC_VIEW_LEASE_NONE) {
        return VDC_NEVER;
    }
    return (vdc_mono){guest->view.lease_ns};
}

vdc_mono guest_lease_margin(const struct vdc_guest *guest)
{
    return vdc_mono_add(guest_lease_deadline(guest), -VDC_GUEST_LEASE_MARGIN_MS * VDC_MS);
}

bool guest_lease_valid(const struct vdc_guest *guest)
{
    return guest->view_known && !vdc_mono_reached(guest->now, guest_lease_margin(guest));
}

bool guest_may_run(const struct vdc_guest *guest)
{
    bool view_runs = guest->view.run == VDC_RUN_RUNNING || guest->view.run == VDC_RUN_LEAVING ||
                     (guest->view.run == VDC_RUN_INCOMING && guest->activated);

    return guest->view_known && view_runs && !guest->held && !guest->state.panicked &&
           guest_lease_valid(guest);
}

const char *guest_why_not(const struct vdc_guest *guest)
{
    if (guest->state.panicked) {
        return "the guest's kernel panicked";
    }
    if (!guest_lease_valid(guest)) {
        return "lease";
    }
    return guest->held ? "command" : "view";
}

bool guest_in_migration_out(const struct vdc_guest *guest)
{
    switch (guest->state.state) {
    case VDC_PHASE_MIGRATING:
    case VDC_PHASE_SWITCHOVER:
    case VDC_PHASE_HANDOVER:
        return true;
    case VDC_PHASE_STARTING:
    case VDC_PHASE_PRELAUNCH:
    case VDC_PHASE_INCOMING:
    case VDC_PHASE_LOADING:
    case VDC_PHASE_LOADED:
    case VDC_PHASE_RUNNING:
    case VDC_PHASE_PAUSED:
    case VDC_PHASE_POSTMIGRATE:
    case VDC_PHASE_STOPPING:
    case VDC_PHASE_STOPPED:
    case VDC_PHASE_FAILED:
        return false;
    }
    VDC_ASSERT(false);
}

bool guest_is_over(const struct vdc_guest *guest)
{
    return guest->state.state == VDC_PHASE_STOPPED || guest->state.state == VDC_PHASE_FAILED;
}

void guest_order_cont(struct vdc_guest *guest)
{
    if (!guest->cont_pending) {
        guest->cont_pending = true;
        guest->has_run = true;
        guest_order(guest, VDC_QMP_CONT, NULL);
    }
}

void guest_order_stop(struct vdc_guest *guest)
{
    if (!guest->stop_pending) {
        guest->stop_pending = true;
        guest_order(guest, VDC_QMP_STOP, NULL);
    }
}

void guest_begin_stop(struct vdc_guest *guest, uint32_t timeout_s, const char *why)
{
    bool runs = guest->vcpus_run && timeout_s > 0;

    if (guest->state.state == VDC_PHASE_STARTING) {
        guest_move_to(guest, VDC_PHASE_STOPPING, "%s", why);
        guest_order_kill(guest, "to be stopped before it answered");
        return;
    }
    guest_move_to(guest, VDC_PHASE_STOPPING, "%s", why);
    guest_order(guest, runs ? VDC_QMP_POWERDOWN : VDC_QMP_QUIT, NULL);
    guest->quit_sent = !runs;
    guest->stop_deadline = vdc_mono_add(guest->now, runs ? timeout_s * VDC_SECOND
                                                         : VDC_GUEST_QUIT_TIMEOUT_MS * VDC_MS);
}

bool guest_waits_to_retry(const struct vdc_guest *guest)
{
    return !vdc_mono_is_never(guest->retry_at) && !vdc_mono_reached(guest->now, guest->retry_at);
}

/* ---- other events ---- */

static void on_view(struct vdc_guest *guest, const struct vdc_guest_view *view)
{
    struct vdc_monitor_state *state = &guest->state;
    bool needed = guest->lease && view->lease_ns != VDC_VIEW_LEASE_NONE;
    int64_t deadline = needed ? view->lease_ns : 0;

    if (!guest->view_known || guest->view.run != view->run ||
        guest->view.generation != view->generation || state->lease_needed != needed) {
        const char *run = vdc_run_name(view->run);
        vdc_trace_line(&guest->trace, VDC_LEVEL_INFO, "guest %s: view says %s, generation %llu%s",
                       state->name, run == NULL ? "?" : run, (unsigned long long)view->generation,
                       needed ? "" : ", no lease needed");
        guest->update->changed = true;
    }
    guest->view = *view;
    guest->view_known = true;
    state->generation = view->generation;
    state->lease_needed = needed;
    /* A renewal alone is not worth a message to everybody each second. */
    state->lease_deadline_ns = deadline;
}

static void on_exited(struct vdc_guest *guest, const struct vdc_guest_event *event)
{
    struct vdc_monitor_state *state = &guest->state;
    bool asked = state->state == VDC_PHASE_STOPPING;

    state->ended = true;
    state->exit_code = event->exit_code;
    state->exit_signal = event->exit_signal;
    state->qemu_pid = 0;
    guest->pending_count = 0;
    guest->vcpus_run = false;
    guest->frozen = false;
    if (state->migration.status == VDC_MIGRATION_STATUS_ACTIVE ||
        state->migration.status == VDC_MIGRATION_STATUS_SWITCHOVER) {
        state->migration.status = VDC_MIGRATION_STATUS_FAILED;
    }
    if (asked) {
        guest_move_to(guest, VDC_PHASE_STOPPED, "%s",
                      guest->killed ? "killed" : "stopped as asked");
    } else if (guest->by_guest && event->exit_signal == 0 && event->exit_code == 0) {
        guest_move_to(guest, VDC_PHASE_STOPPED, "the guest powered itself off");
    } else if (guest->killed) {
        guest_move_to(guest, VDC_PHASE_FAILED, "%s",
                      guest->has_run && !guest_lease_valid(guest)
                          ? "lease"
                          : "QEMU was killed by its monitor");
    } else if (event->exit_signal != 0) {
        guest_move_to(guest, VDC_PHASE_FAILED, "QEMU ended by signal %d", event->exit_signal);
    } else {
        guest_move_to(guest, VDC_PHASE_FAILED, "QEMU ended with status %d: %.200s",
                      event->exit_code, event->text[0] == '\0' ? "it said nothing" : event->text);
    }
    guest->update->ended = true;
}

/* QEMU closes its socket when it ends, so its end is waited for a moment. */
static void on_broken(struct vdc_guest *guest, const char *text)
{
    vdc_trace_line(&guest->trace, VDC_LEVEL_INFO, "guest %s: QMP: %s -> wait for QEMU's end",
                   guest->state.name, text);
    guest->pending_count = 0;
    guest->broken_deadline = vdc_mono_add(guest->now, VDC_GUEST_QUIT_TIMEOUT_MS * VDC_MS);
}

static void on_start_failed(struct vdc_guest *guest, const char *text)
{
    guest->state.ended = true;
    guest->state.exit_code = -1;
    guest_move_to(guest, VDC_PHASE_FAILED, "%.250s", text);
    guest->update->ended = true;
}

/* ---- requests ---- */

static enum vdc_rc conflict(struct vdc_guest *guest, const char *what)
{
    return vdc_err_set(&guest->update->reply, VDC_RC_CONFLICT, "%s is not possible in state %s",
                       what, vdc_phase_text(guest->state.state));
}

static enum vdc_rc request_migrate_out(struct vdc_guest *guest,
                                       const struct vdc_monitor_request *request)
{
    if (guest->state.state != VDC_PHASE_RUNNING || guest->stop_pending) {
        return conflict(guest, "migrate_out");
    }
    if (!guest_may_run(guest)) {
        return vdc_err_set(&guest->update->reply, VDC_RC_CONFLICT,
                           "the guest is about to be paused: %s", guest_why_not(guest));
    }
    guest->migration_params = (struct vdc_qmp_params){
        .max_bandwidth =
            request->max_bandwidth == 0 ? VDC_GUEST_BANDWIDTH_DEFAULT : request->max_bandwidth,
        .downtime_ms =
            request->downtime_ms == 0 ? VDC_GUEST_DOWNTIME_MS_DEFAULT : request->downtime_ms,
    };
    guest_migration_begin(guest, VDC_MIGRATION_OUT);
    guest_move_to(guest, VDC_PHASE_MIGRATING, "migrate_out");
    (void)guest_add_action(guest, VDC_GUEST_ACT_CONNECT);
    guest->update->path = request->unix_path;
    return VDC_RC_OK;
}

static enum vdc_rc request_migrate_in(struct vdc_guest *guest,
                                      const struct vdc_monitor_request *request)
{
    if (guest->state.state != VDC_PHASE_INCOMING) {
        return conflict(guest, "migrate_in");
    }
    guest_migration_begin(guest, VDC_MIGRATION_IN);
    guest_move_to(guest, VDC_PHASE_LOADING, "migrate_in");
    (void)guest_add_action(guest, VDC_GUEST_ACT_CONNECT);
    guest->update->path = request->unix_path;
    return VDC_RC_OK;
}

static enum vdc_rc request_continue(struct vdc_guest *guest)
{
    if (guest->state.state != VDC_PHASE_SWITCHOVER || guest->cancelling) {
        return conflict(guest, "migrate_continue");
    }
    if (guest->frozen) {
        return vdc_err_set(&guest->update->reply, VDC_RC_CONFLICT, "the run lease has passed");
    }
    guest_order(guest, VDC_QMP_MIGRATE_CONTINUE, NULL);
    guest_move_to(guest, VDC_PHASE_HANDOVER, "migrate_continue");
    return VDC_RC_OK;
}

static enum vdc_rc request_cancel(struct vdc_guest *guest)
{
    if (guest->state.state != VDC_PHASE_MIGRATING && guest->state.state != VDC_PHASE_SWITCHOVER) {
        return conflict(guest, "migrate_cancel");
    }
    /* A frozen QEMU finds it when it is thawed, which a renewed lease does: without it the guest would
     * stand at the switch-over point for ever. */
    if (!guest->cancelling) {
        guest->cancelling = true;
        guest_order(guest, VDC_QMP_MIGRATE_CANCEL, NULL);
    }
    return VDC_RC_OK;
}

static enum vdc_rc request_resume(struct vdc_guest *guest)
{
    if (guest_in_migration_out(guest) || guest->state.state == VDC_PHASE_STOPPING) {
        return conflict(guest, "resume");
    }
    guest->held = false;
    guest->retry_at = VDC_NEVER;
    if (guest->state.state == VDC_PHASE_POSTMIGRATE) {
        if (!guest_may_run(guest)) {
            return vdc_err_set(&guest->update->reply, VDC_RC_CONFLICT, "the guest may not run: %s",
                               guest_why_not(guest));
        }
        guest_order_cont(guest);
    }
    return VDC_RC_OK;
}

static enum vdc_rc request_activate(struct vdc_guest *guest)
{
    if (guest->state.state != VDC_PHASE_LOADED) {
        return conflict(guest, "activate");
    }
    guest->activated = true;
    return VDC_RC_OK;
}

static enum vdc_rc request_stop(struct vdc_guest *guest, uint32_t timeout_s)
{
    if (guest_in_migration_out(guest)) {
        return conflict(guest, "stop");
    }
    if (guest->state.state != VDC_PHASE_STOPPING) {
        guest_begin_stop(guest, timeout_s, "stop was asked for");
    }
    return VDC_RC_OK;
}

static enum vdc_rc on_request(struct vdc_guest *guest, const struct vdc_monitor_request *request)
{
    if (guest_is_over(guest)) {
        return conflict(guest, vdc_monitor_command_text(request->command));
    }
    switch (request->command) {
    case VDC_MONITOR_STATUS:
    case VDC_MONITOR_REFRESH:
    case VDC_MONITOR_CONSOLE_READ:
        return VDC_RC_OK;
    case VDC_MONITOR_PAUSE:
        if (guest_in_migration_out(guest) || guest->state.state == VDC_PHASE_STOPPING) {
            return conflict(guest, "pause");
        }
        guest->held = true;
        return VDC_RC_OK;
    case VDC_MONITOR_RESUME:
        return request_resume(guest);
    case VDC_MONITOR_STOP:
        return request_stop(guest, request->timeout_s);
    case VDC_MONITOR_KILL:
        if (guest->state.state != VDC_PHASE_STOPPING) {
            guest_move_to(guest, VDC_PHASE_STOPPING, "kill was asked for");
        }
        guest_order_kill(guest, "kill was asked for");
        return VDC_RC_OK;
    case VDC_MONITOR_MIGRATE_OUT:
        return request_migrate_out(guest, request);
    case VDC_MONITOR_MIGRATE_CONTINUE:
        return request_continue(guest);
    case VDC_MONITOR_MIGRATE_CANCEL:
        return request_cancel(guest);
    case VDC_MONITOR_MIGRATE_IN:
        return request_migrate_in(guest, request);
    case VDC_MONITOR_ACTIVATE:
        return request_activate(guest);
    }
    VDC_ASSERT(false);
}

/* ---- the interface ---- */

struct vdc_guest *vdc_guest_create(const struct vdc_guest_config *config, vdc_mono now)
{
    struct vdc_guest *guest = VDC_NEW(struct vdc_guest);

    vdc_str_set(guest->state.name, sizeof(guest->state.name), config->name);
    vdc_str_set(guest->state.accelerator, sizeof(guest->state.accelerator), config->accelerator);
    vdc_str_set(guest->state.reason, sizeof(guest->state.reason), "QEMU was started");
    guest->state.state = VDC_PHASE_STARTING;
    guest->state.confined = config->confined;
    guest->state.responsive = true;
    guest->state.migration.qemu_downtime_ms = -1;
    guest->state.migration.qemu_total_ms = -1;
    guest->incoming = config->migrate_incoming;
    guest->activated = !config->migrate_incoming;
    guest->lease = config->lease;
    guest->grace_ns = config->grace_ms * VDC_MS;
    guest->stop_timeout_s = config->stop_timeout_s;
    guest->start_deadline = vdc_mono_add(now, VDC_GUEST_START_TIMEOUT_MS * VDC_MS);
    guest->broken_deadline = VDC_NEVER;
    guest->stop_deadline = VDC_NEVER;
    guest->progress_at = VDC_NEVER;
    guest->resume_at = VDC_NEVER;
    guest->retry_at = VDC_NEVER;
    return guest;
}

void vdc_guest_destroy(struct vdc_guest *guest)
{
    if (guest != NULL) {
        vdc_trace_deinit(&guest->trace);
        free(guest);
    }
}

void vdc_guest_step(struct vdc_guest *guest, const struct vdc_guest_event *event,
                    struct vdc_guest_update *update)
{
    *update = (struct vdc_guest_update){0};
    guest->update = update;
    guest->now = event->now;
    switch (event->kind) {
    case VDC_GUEST_EV_TICK:
        break;
    case VDC_GUEST_EV_VIEW:
        on_view(guest, &event->view);
        break;
    case VDC_GUEST_EV_STARTED:
        guest->state.qemu_pid = event->pid;
        guest->state.qemu_start = event->start_time;
        update->changed = true;
        break;
    case VDC_GUEST_EV_START_FAILED:
        if (!guest_is_over(guest)) {
            on_start_failed(guest, event->text);
        }
        break;
    case VDC_GUEST_EV_QMP:
        if (!guest_is_over(guest)) {
            guest_on_qmp(guest, event->qmp);
        }
        break;
    case VDC_GUEST_EV_QMP_BROKEN:
        if (!guest_is_over(guest)) {
            on_broken(guest, event->text);
        }
        break;
    case VDC_GUEST_EV_CONNECTED:
        if (!guest_is_over(guest)) {
            guest_on_connected(guest, event->ok, event->text);
        }
        break;
    case VDC_GUEST_EV_EXITED:
        if (!guest_is_over(guest)) {
            on_exited(guest, event);
        }
        break;
    case VDC_GUEST_EV_REQUEST:
        (void)on_request(guest, event->request);
        break;
    }
    guest_decide(guest);
    update->exit_status = guest->state.state == VDC_PHASE_FAILED ? EXIT_STATUS_FAILED : 0;
    guest->update = NULL;
}

vdc_mono vdc_guest_deadline(const struct vdc_guest *guest)
{
    vdc_mono at = vdc_mono_min(guest->stop_deadline, guest->progress_at);
    vdc_mono lease = guest_lease_deadline(guest);

    if (guest_is_over(guest)) {
        return VDC_NEVER;
    }
    at = vdc_mono_min(at, guest->broken_deadline);
    if (guest->state.state == VDC_PHASE_STARTING) {
        at = vdc_mono_min(at, guest->start_deadline);
    }
    if (guest->state.state == VDC_PHASE_RUNNING && !guest->vcpus_run && guest_may_run(guest)) {
        at = vdc_mono_min(at, guest->resume_at);
    }
    if (guest_waits_to_retry(guest) && guest_may_run(guest)) {
        at = vdc_mono_min(at, guest->retry_at);
    }
    if (guest->pending_count > 0 && guest->state.responsive && !guest->frozen) {
        at = vdc_mono_min(at, guest->pending[0].deadline);
    }
    if (guest->has_run && guest->view_known && !guest->killed && !vdc_mono_is_never(lease)) {
        /* The next of its three instants that has not passed yet, seen from the last step. */
        vdc_mono margin = guest_lease_margin(guest);
        if (!vdc_mono_reached(guest->now, margin)) {
            at = vdc_mono_min(at, margin);
        } else if (!vdc_mono_reached(guest->now, lease)) {
            at = vdc_mono_min(at, lease);
        } else {
            at = vdc_mono_min(at, vdc_mono_add(lease, guest->grace_ns));
        }
    }
    return at;
}

const struct vdc_monitor_state *vdc_guest_state(const struct vdc_guest *guest)
{
    return &guest->state;
}

bool vdc_guest_waits_for_lease(const struct vdc_guest *guest)
{
    vdc_mono lease = guest_lease_deadline(guest);

    return !guest_is_over(guest) && !vdc_mono_is_never(lease) && !guest_lease_valid(guest);
}

struct vdc_trace *vdc_guest_trace(struct vdc_guest *guest)
{
    return &guest->trace;
}
