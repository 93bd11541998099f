/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How it works. Handlers of events note facts (what QEMU said, what the view says) and make the
 * moves that those facts force. After each event decide() compares what should be with what is:
 * may the guest run (view, holds, lease), does it run, is something overdue. Everything about
 * leases and time limits is there, so it holds after any event and not only after a TICK.
 *
 * QMP answers come in the order of the commands, so one queue of pending commands with deadlines
 * is enough to notice a QEMU that has fallen silent.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/guest.h>
#include <vdc/sm.h>

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

struct pending {
    enum vdc_qmp_command command;
    uint64_t id;
    vdc_mono deadline;
};

struct vdc_guest {
    struct vdc_monitor_state state;
    struct vdc_trace trace;

    /* The configuration. */
    bool incoming;
    bool lease;
    int64_t grace_ns;
    uint32_t stop_timeout_s;

    /* What is wanted. */
    struct vdc_guest_view view;
    bool view_known;
    bool held;      /* by `pause` */
    bool activated; /* by `activate`, or the guest has been started here */

    /* What is. */
    bool vcpus_run; /* by QEMU's STOP and RESUME */
    bool has_run;   /* here, ever: only then does the lease's end kill */
    bool frozen;
    bool killed;       /* SIGKILL was ordered */
    bool cont_pending; /* asked and not answered */
    bool stop_pending;
    bool by_guest;   /* the guest powered itself off */
    bool cancelling; /* the migration was told to end */
    /* A migration out ended with the vCPUs stopped: QEMU may be about to resume them by itself. */
    bool resumes_itself;
    bool quit_sent;

    struct pending pending[VDC_GUEST_PENDING_MAX];
    size_t pending_count;
    uint64_t last_id;

    vdc_mono start_deadline;  /* STARTING: QEMU's first answer */
    vdc_mono broken_deadline; /* the end of a QEMU whose QMP is closed */
    vdc_mono stop_deadline;   /* STOPPING: the next harder step */
    vdc_mono progress_at;     /* the next query-migrate */
    vdc_mono resume_at;       /* when a guest that QEMU should have resumed by itself is helped */
    vdc_mono retry_at;        /* stopped by QEMU, or `cont` refused: not let run before */
    uint64_t disk_errors;     /* that QEMU has reported */
    char disk_error[64];      /* the last one, since the guest ran last */
    uint32_t downtime_queries;
    struct vdc_qmp_params migration_params;

    struct vdc_guest_update *update; /* of the step that is being done */
    vdc_mono now;                    /* of the same */
};

/* ---- small helpers ---- */

static void move_to(struct vdc_guest *guest, enum vdc_phase to, const char *fmt, ...)
    VDC_PRINTF(3, 4);

static void move_to(struct vdc_guest *guest, enum vdc_phase to, const char *fmt, ...)
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

static struct vdc_guest_action *add_action(struct vdc_guest *guest, enum vdc_guest_action_kind kind)
{
    struct vdc_guest_update *update = guest->update;
    struct vdc_guest_action *action;

    VDC_ASSERT(update->action_count < VDC_GUEST_ACTIONS_MAX);
    action = &update->actions[update->action_count++];
    *action = (struct vdc_guest_action){.kind = kind};
    return action;
}

static void order_kill(struct vdc_guest *guest, const char *why)
{
    if (guest->killed || guest->state.ended) {
        return;
    }
    guest->killed = true;
    vdc_trace_line(&guest->trace, VDC_LEVEL_WARN, "guest %s: %s -> kill QEMU", guest->state.name,
                   why);
    (void)add_action(guest, VDC_GUEST_ACT_KILL);
}

/* Asks QEMU for something. One that has stopped answering has at most VDC_GUEST_PENDING_MAX
 * questions open; the rest would not be answered either. */
static void order(struct vdc_guest *guest, enum vdc_qmp_command command,
                  const struct vdc_qmp_params *params)
{
    struct vdc_guest_action *action;

    if (guest->killed || guest->state.ended || !vdc_mono_is_never(guest->broken_deadline)) {
        return;
    }
    if (guest->pending_count == VDC_GUEST_PENDING_MAX) {
        order_kill(guest, "QEMU leaves too many commands without an answer");
        return;
    }
    action = add_action(guest, VDC_GUEST_ACT_QMP);
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

static bool is_pending(const struct vdc_guest *guest, enum vdc_qmp_command command)
{
    for (size_t i = 0; i < guest->pending_count; i++) {
        if (guest->pending[i].command == command) {
            return true;
        }
    }
    return false;
}

/* The instant from which the guest must not run; VDC_NEVER without a lease. */
static vdc_mono lease_deadline(const struct vdc_guest *guest)
{
    if (!guest->lease || guest->view.lease_ns == VDC_VIEW_LEASE_NONE) {
        return VDC_NEVER;
    }
    return (vdc_mono){guest->view.lease_ns};
}

/* The instant at which a stop is ordered, so that it is done at the deadline. */
static vdc_mono lease_margin(const struct vdc_guest *guest)
{
    return vdc_mono_add(lease_deadline(guest), -VDC_GUEST_LEASE_MARGIN_MS * VDC_MS);
}

static bool lease_valid(const struct vdc_guest *guest)
{
    return guest->view_known && !vdc_mono_reached(guest->now, lease_margin(guest));
}

static bool may_run(const struct vdc_guest *guest)
{
    bool view_runs = guest->view.run == VDC_RUN_RUNNING ||
                     (guest->view.run == VDC_RUN_INCOMING && guest->activated);

    return guest->view_known && view_runs && !guest->held && !guest->state.panicked &&
           lease_valid(guest);
}

static const char *why_not(const struct vdc_guest *guest)
{
    if (guest->state.panicked) {
        return "the guest's kernel panicked";
    }
    if (!lease_valid(guest)) {
        return "lease";
    }
    return guest->held ? "command" : "view";
}

static bool in_migration_out(const struct vdc_guest *guest)
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

static bool is_over(const struct vdc_guest *guest)
{
    return guest->state.state == VDC_PHASE_STOPPED || guest->state.state == VDC_PHASE_FAILED;
}

static void order_cont(struct vdc_guest *guest)
{
    if (!guest->cont_pending) {
        guest->cont_pending = true;
        guest->has_run = true;
        order(guest, VDC_QMP_CONT, NULL);
    }
}

static void order_stop(struct vdc_guest *guest)
{
    if (!guest->stop_pending) {
        guest->stop_pending = true;
        order(guest, VDC_QMP_STOP, NULL);
    }
}

/* Ends the guest: by its power button while it runs, otherwise at once. */
static void begin_stop(struct vdc_guest *guest, uint32_t timeout_s, const char *why)
{
    bool runs = guest->vcpus_run && timeout_s > 0;

    if (guest->state.state == VDC_PHASE_STARTING) {
        move_to(guest, VDC_PHASE_STOPPING, "%s", why);
        order_kill(guest, "to be stopped before it answered");
        return;
    }
    move_to(guest, VDC_PHASE_STOPPING, "%s", why);
    order(guest, runs ? VDC_QMP_POWERDOWN : VDC_QMP_QUIT, NULL);
    guest->quit_sent = !runs;
    guest->stop_deadline = vdc_mono_add(guest->now, runs ? timeout_s * VDC_SECOND
                                                         : VDC_GUEST_QUIT_TIMEOUT_MS * VDC_MS);
}

/* ---- migration ---- */

static void migration_begin(struct vdc_guest *guest, enum vdc_guest_migration_dir dir)
{
    guest->state.migration = (struct vdc_monitor_migration){
        .dir = dir,
        .status = VDC_MIGRATION_STATUS_ACTIVE,
        .started_ns = guest->now.ns,
        .qemu_downtime_ms = -1,
        .qemu_total_ms = -1,
    };
    guest->cancelling = false;
    guest->resumes_itself = false;
    guest->downtime_queries = 0;
}

static void migration_note_error(struct vdc_guest *guest, const char *text)
{
    char *error = guest->state.migration.error;

    if (error[0] == '\0') {
        (void)snprintf(error, sizeof(guest->state.migration.error), "%s", text);
    }
}

/* The source after a cancelled or failed migration: QEMU resumes the guest by itself where it ran
 * before, so only the state is settled here; decide() stops it again where it may not run. */
static void migration_out_ended(struct vdc_guest *guest, enum vdc_guest_migration_status status)
{
    const char *what = status == VDC_MIGRATION_STATUS_CANCELLED ? "cancelled" : "failed";

    guest->state.migration.status = status;
    guest->cancelling = false;
    guest->resumes_itself = !guest->vcpus_run;
    guest->progress_at = VDC_NEVER;
    (void)add_action(guest, VDC_GUEST_ACT_CLOSE_MIGRATION);
    if (guest->vcpus_run || guest->state.state != VDC_PHASE_MIGRATING) {
        guest->resume_at = vdc_mono_add(guest->now, VDC_GUEST_RESUME_WAIT_MS * VDC_MS);
        move_to(guest, VDC_PHASE_RUNNING, "migration %s", what);
    } else {
        move_to(guest, VDC_PHASE_PAUSED, "%s", why_not(guest));
    }
    if (status == VDC_MIGRATION_STATUS_FAILED) {
        order(guest, VDC_QMP_QUERY_MIGRATE, NULL); /* for the reason */
    }
}

static void source_on_migration(struct vdc_guest *guest, enum vdc_qmp_migration status)
{
    switch (status) {
    case VDC_QMP_MIGRATION_NONE:
    case VDC_QMP_MIGRATION_ACTIVE:
    case VDC_QMP_MIGRATION_DEVICE:
    case VDC_QMP_MIGRATION_CANCELLING:
        break;
    case VDC_QMP_MIGRATION_PRE_SWITCHOVER:
        if (guest->state.state == VDC_PHASE_MIGRATING && !guest->cancelling) {
            guest->state.migration.status = VDC_MIGRATION_STATUS_SWITCHOVER;
            guest->progress_at = VDC_NEVER;
            if (guest->state.migration.stopped_ns == 0) {
                guest->state.migration.stopped_ns = guest->now.ns;
            }
            move_to(guest, VDC_PHASE_SWITCHOVER, "memory is sent, the guest is stopped");
        }
        break;
    case VDC_QMP_MIGRATION_COMPLETED:
        /* A cancel that came too late changes nothing: all was sent. */
        if (guest->state.state == VDC_PHASE_MIGRATING) {
            move_to(guest, VDC_PHASE_SWITCHOVER, "QEMU did not wait");
        }
        if (guest->state.state == VDC_PHASE_SWITCHOVER) {
            move_to(guest, VDC_PHASE_HANDOVER, "QEMU did not wait");
        }
        guest->state.migration.status = VDC_MIGRATION_STATUS_COMPLETED;
        guest->vcpus_run = false;
        guest->cancelling = false;
        move_to(guest, VDC_PHASE_POSTMIGRATE, "all was sent");
        (void)add_action(guest, VDC_GUEST_ACT_CLOSE_MIGRATION);
        order(guest, VDC_QMP_QUERY_MIGRATE, NULL);
        break;
    case VDC_QMP_MIGRATION_CANCELLED:
        migration_out_ended(guest, VDC_MIGRATION_STATUS_CANCELLED);
        break;
    case VDC_QMP_MIGRATION_FAILED:
        migration_out_ended(guest, VDC_MIGRATION_STATUS_FAILED);
        break;
    }
}

static void target_on_migration(struct vdc_guest *guest, enum vdc_qmp_migration status)
{
    if (status == VDC_QMP_MIGRATION_COMPLETED) {
        guest->state.migration.status = VDC_MIGRATION_STATUS_COMPLETED;
        (void)add_action(guest, VDC_GUEST_ACT_CLOSE_MIGRATION);
        move_to(guest, VDC_PHASE_LOADED, "all was received");
    } else if (status == VDC_QMP_MIGRATION_FAILED) {
        /* QEMU ends by itself now; EXITED tells the rest. */
        guest->state.migration.status = VDC_MIGRATION_STATUS_FAILED;
        guest->update->changed = true;
    }
}

static void on_query_migrate(struct vdc_guest *guest, const struct vdc_qmp_message *message)
{
    struct vdc_monitor_migration *migration = &guest->state.migration;

    if (migration->dir != VDC_MIGRATION_OUT) {
        return;
    }
    guest->update->changed = true;
    if (message->ram_total > 0) {
        migration->bytes_total = message->ram_total;
        migration->bytes_transferred = message->ram_transferred;
        migration->bytes_remaining = message->ram_remaining;
        migration->dirty_bytes_per_s = message->dirty_bytes_per_s;
    }
    if (migration->status == VDC_MIGRATION_STATUS_FAILED && message->error[0] != '\0') {
        migration_note_error(guest, message->error);
    }
    if (migration->status != VDC_MIGRATION_STATUS_COMPLETED ||
        guest->state.state != VDC_PHASE_POSTMIGRATE) {
        return;
    }
    if (message->downtime_ms > 0 || guest->downtime_queries >= VDC_GUEST_DOWNTIME_QUERIES_MAX) {
        migration->qemu_downtime_ms = message->downtime_ms;
        migration->qemu_total_ms = message->total_ms;
        guest->progress_at = VDC_NEVER;
    } else {
        guest->downtime_queries++;
        guest->progress_at = vdc_mono_add(guest->now, VDC_GUEST_DOWNTIME_QUERY_MS * VDC_MS);
    }
}

/* ---- QMP ---- */

static void on_ready(struct vdc_guest *guest)
{
    struct vdc_qmp_params params = {.incoming = guest->incoming};

    if (guest->state.state != VDC_PHASE_STARTING) {
        return;
    }
    guest->start_deadline = VDC_NEVER;
    if (guest->incoming) {
        order(guest, VDC_QMP_MIGRATION_CAPABILITIES, &params);
        move_to(guest, VDC_PHASE_INCOMING, "QEMU answers");
    } else {
        move_to(guest, VDC_PHASE_PRELAUNCH, "QEMU answers");
    }
}

static void on_running(struct vdc_guest *guest)
{
    guest->vcpus_run = true;
    guest->has_run = true;
    guest->resumes_itself = false;
    guest->resume_at = VDC_NEVER;
    guest->retry_at = VDC_NEVER;
    guest->disk_error[0] = '\0';
    guest->state.running_since_ns = guest->now.ns;
    guest->update->changed = true;
    switch (guest->state.state) {
    case VDC_PHASE_PRELAUNCH:
        move_to(guest, VDC_PHASE_RUNNING, "started");
        break;
    case VDC_PHASE_LOADED:
        guest->state.migration.resumed_ns = guest->now.ns;
        move_to(guest, VDC_PHASE_RUNNING, "activated");
        break;
    case VDC_PHASE_PAUSED:
        move_to(guest, VDC_PHASE_RUNNING, "resumed");
        break;
    case VDC_PHASE_POSTMIGRATE:
        guest->state.migration.resumed_ns = guest->now.ns;
        move_to(guest, VDC_PHASE_RUNNING, "the migration was aborted");
        break;
    case VDC_PHASE_MIGRATING:
    case VDC_PHASE_SWITCHOVER:
    case VDC_PHASE_HANDOVER:
        /* QEMU resumes by itself on failure and cancel; the MIGRATION event that says which
         * settles the state. */
        guest->state.migration.resumed_ns = guest->now.ns;
        break;
    case VDC_PHASE_STARTING:
    case VDC_PHASE_INCOMING:
    case VDC_PHASE_LOADING:
    case VDC_PHASE_RUNNING:
    case VDC_PHASE_STOPPING:
    case VDC_PHASE_STOPPED:
    case VDC_PHASE_FAILED:
        break;
    }
}

static void on_stopped(struct vdc_guest *guest)
{
    guest->vcpus_run = false;
    if (guest->state.state == VDC_PHASE_RUNNING) {
        if (guest->by_guest) {
            return; /* it powers off: EXITED follows */
        }
        if (guest->stop_pending || guest->state.panicked) {
            move_to(guest, VDC_PHASE_PAUSED, "%s", why_not(guest));
        } else {
            /* A full disk, say. To resume at once would meet it again. */
            guest->retry_at = vdc_mono_add(guest->now, VDC_GUEST_STOPPED_RETRY_MS * VDC_MS);
            move_to(guest, VDC_PHASE_PAUSED, "QEMU stopped it%s%s, tried again every %d s",
                    guest->disk_error[0] == '\0' ? "" : ": a disk failed: ", guest->disk_error,
                    VDC_GUEST_STOPPED_RETRY_MS / 1000);
        }
    } else if (guest->state.state == VDC_PHASE_MIGRATING && !guest->stop_pending) {
        guest->state.migration.stopped_ns = guest->now.ns;
    }
}

/* A guest may make its disk fail thousands of times a second: the log doubles its steps. */
static void on_disk_error(struct vdc_guest *guest, const char *reason)
{
    uint64_t count = ++guest->disk_errors;

    vdc_str_set(guest->disk_error, sizeof(guest->disk_error), reason);
    if ((count & (count - 1)) == 0) {
        vdc_trace_line(&guest->trace, VDC_LEVEL_ERROR, "guest %s: a disk failed: %s (%llu so far)",
                       guest->state.name, reason, (unsigned long long)count);
    }
}

static void on_qmp_event(struct vdc_guest *guest, const struct vdc_qmp_message *message)
{
    switch (message->event) {
    case VDC_QMP_EVENT_STOP:
        on_stopped(guest);
        break;
    case VDC_QMP_EVENT_RESUME:
        on_running(guest);
        break;
    case VDC_QMP_EVENT_RESET:
        if (message->by_guest) {
            guest->state.resets++;
            guest->update->changed = true;
            vdc_trace_line(&guest->trace, VDC_LEVEL_INFO, "guest %s: rebooted itself (%llu)",
                           guest->state.name, (unsigned long long)guest->state.resets);
        }
        break;
    case VDC_QMP_EVENT_SHUTDOWN:
        guest->by_guest = message->by_guest;
        break;
    case VDC_QMP_EVENT_MIGRATION:
        if (in_migration_out(guest)) {
            source_on_migration(guest, message->migration);
        } else if (guest->state.state == VDC_PHASE_LOADING) {
            target_on_migration(guest, message->migration);
        }
        break;
    case VDC_QMP_EVENT_PANICKED:
        guest->state.panicked = true;
        guest->update->changed = true;
        break;
    case VDC_QMP_EVENT_IO_ERROR:
        on_disk_error(guest, message->reason);
        break;
    case VDC_QMP_EVENT_POWERDOWN:
    case VDC_QMP_EVENT_OTHER:
        break;
    }
}

/* What a refused command means. */
static void on_qmp_error(struct vdc_guest *guest, enum vdc_qmp_command command, const char *text)
{
    vdc_trace_line(&guest->trace, VDC_LEVEL_WARN, "guest %s: QEMU refuses %s: %s",
                   guest->state.name, vdc_qmp_command_text(command), text);
    switch (command) {
    case VDC_QMP_GETFD:
    case VDC_QMP_MIGRATION_PARAMETERS:
    case VDC_QMP_MIGRATE:
    case VDC_QMP_MIGRATE_INCOMING:
        migration_note_error(guest, text);
        if (guest->state.state == VDC_PHASE_MIGRATING && command == VDC_QMP_MIGRATE) {
            migration_out_ended(guest, VDC_MIGRATION_STATUS_FAILED);
        } else if (guest->state.state == VDC_PHASE_LOADING && command == VDC_QMP_MIGRATE_INCOMING) {
            guest->state.migration.status = VDC_MIGRATION_STATUS_FAILED;
            begin_stop(guest, 0, "QEMU refuses the migration");
        }
        break;
    case VDC_QMP_CONT:
        /* Most likely the disks cannot be taken yet: the other end of a migration has them until it
         * has ended. */
        guest->retry_at = vdc_mono_add(guest->now, VDC_GUEST_CONT_RETRY_MS * VDC_MS);
        (void)snprintf(guest->state.reason, sizeof(guest->state.reason),
                       "QEMU refuses to run it, tried again every %d s: %.160s",
                       VDC_GUEST_CONT_RETRY_MS / 1000, text);
        guest->update->changed = true;
        break;
    case VDC_QMP_POWERDOWN:
        guest->stop_deadline = guest->now;
        break;
    case VDC_QMP_MIGRATION_CAPABILITIES:
        migration_note_error(guest, text);
        if (guest->state.state == VDC_PHASE_MIGRATING && !guest->cancelling) {
            /* It would not wait at the switch-over. */
            guest->cancelling = true;
            order(guest, VDC_QMP_MIGRATE_CANCEL, NULL);
        }
        break;
    case VDC_QMP_CAPABILITIES:
    case VDC_QMP_MIGRATE_CONTINUE:
    case VDC_QMP_MIGRATE_CANCEL:
    case VDC_QMP_QUERY_MIGRATE:
    case VDC_QMP_STOP:
    case VDC_QMP_QUIT:
        break;
    }
}

static void on_qmp_answer(struct vdc_guest *guest, const struct vdc_qmp_message *message)
{
    enum vdc_qmp_command command;

    if (guest->pending_count == 0 || guest->pending[0].id != message->id) {
        vdc_trace_line(&guest->trace, VDC_LEVEL_WARN,
                       "guest %s: QEMU answers what was not asked (id %llu) -> ignored",
                       guest->state.name, (unsigned long long)message->id);
        return;
    }
    command = guest->pending[0].command;
    guest->pending_count--;
    memmove(&guest->pending[0], &guest->pending[1],
            guest->pending_count * sizeof(guest->pending[0]));
    if (!guest->state.responsive) {
        guest->state.responsive = true;
        guest->update->changed = true;
        vdc_trace_line(&guest->trace, VDC_LEVEL_INFO, "guest %s: QEMU answers again",
                       guest->state.name);
    }
    if (command == VDC_QMP_CONT) {
        guest->cont_pending = false;
    } else if (command == VDC_QMP_STOP) {
        guest->stop_pending = false;
    }
    if (message->kind == VDC_QMP_ERROR) {
        on_qmp_error(guest, command, message->error);
    } else if (command == VDC_QMP_CAPABILITIES) {
        on_ready(guest);
    } else if (command == VDC_QMP_QUERY_MIGRATE) {
        on_query_migrate(guest, message);
    }
}

static void on_qmp(struct vdc_guest *guest, const struct vdc_qmp_message *message)
{
    switch (message->kind) {
    case VDC_QMP_GREETING:
        if (guest->state.state == VDC_PHASE_STARTING) {
            order(guest, VDC_QMP_CAPABILITIES, NULL);
        }
        break;
    case VDC_QMP_RETURN:
    case VDC_QMP_ERROR:
        on_qmp_answer(guest, message);
        break;
    case VDC_QMP_EVENT:
        on_qmp_event(guest, message);
        break;
    }
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
        move_to(guest, VDC_PHASE_STOPPED, "%s", guest->killed ? "killed" : "stopped as asked");
    } else if (guest->by_guest && event->exit_signal == 0 && event->exit_code == 0) {
        move_to(guest, VDC_PHASE_STOPPED, "the guest powered itself off");
    } else if (guest->killed) {
        move_to(guest, VDC_PHASE_FAILED, "%s",
                guest->has_run && !lease_valid(guest) ? "lease" : "QEMU was killed by its monitor");
    } else if (event->exit_signal != 0) {
        move_to(guest, VDC_PHASE_FAILED, "QEMU ended by signal %d", event->exit_signal);
    } else {
        move_to(guest, VDC_PHASE_FAILED, "QEMU ended with status %d: %.200s", event->exit_code,
                event->text[0] == '\0' ? "it said nothing" : event->text);
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
    move_to(guest, VDC_PHASE_FAILED, "%.250s", text);
    guest->update->ended = true;
}

static void on_connected(struct vdc_guest *guest, bool ok, const char *text)
{
    bool out = guest->state.state == VDC_PHASE_MIGRATING;

    if (!out && guest->state.state != VDC_PHASE_LOADING) {
        (void)add_action(guest, VDC_GUEST_ACT_CLOSE_MIGRATION);
        return;
    }
    if (!ok) {
        migration_note_error(guest, text);
        if (out) {
            migration_out_ended(guest, VDC_MIGRATION_STATUS_FAILED);
        } else {
            guest->state.migration.status = VDC_MIGRATION_STATUS_FAILED;
            begin_stop(guest, 0, "no connection for the migration");
        }
        return;
    }
    order(guest, VDC_QMP_GETFD, NULL);
    if (out) {
        /* Now and not at the start: a guest that came by migration has those of a target. */
        order(guest, VDC_QMP_MIGRATION_CAPABILITIES, &guest->migration_params);
        order(guest, VDC_QMP_MIGRATION_PARAMETERS, &guest->migration_params);
        order(guest, VDC_QMP_MIGRATE, NULL);
        guest->progress_at = vdc_mono_add(guest->now, VDC_GUEST_PROGRESS_MS * VDC_MS);
    } else {
        order(guest, VDC_QMP_MIGRATE_INCOMING, NULL);
    }
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
    if (!may_run(guest)) {
        return vdc_err_set(&guest->update->reply, VDC_RC_CONFLICT,
                           "the guest is about to be paused: %s", why_not(guest));
    }
    guest->migration_params = (struct vdc_qmp_params){
        .max_bandwidth =
            request->max_bandwidth == 0 ? VDC_GUEST_BANDWIDTH_DEFAULT : request->max_bandwidth,
        .downtime_ms =
            request->downtime_ms == 0 ? VDC_GUEST_DOWNTIME_MS_DEFAULT : request->downtime_ms,
    };
    migration_begin(guest, VDC_MIGRATION_OUT);
    move_to(guest, VDC_PHASE_MIGRATING, "migrate_out");
    (void)add_action(guest, VDC_GUEST_ACT_CONNECT);
    guest->update->path = request->unix_path;
    return VDC_RC_OK;
}

static enum vdc_rc request_migrate_in(struct vdc_guest *guest,
                                      const struct vdc_monitor_request *request)
{
    if (guest->state.state != VDC_PHASE_INCOMING) {
        return conflict(guest, "migrate_in");
    }
    migration_begin(guest, VDC_MIGRATION_IN);
    move_to(guest, VDC_PHASE_LOADING, "migrate_in");
    (void)add_action(guest, VDC_GUEST_ACT_CONNECT);
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
    order(guest, VDC_QMP_MIGRATE_CONTINUE, NULL);
    move_to(guest, VDC_PHASE_HANDOVER, "migrate_continue");
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
        order(guest, VDC_QMP_MIGRATE_CANCEL, NULL);
    }
    return VDC_RC_OK;
}

static enum vdc_rc request_resume(struct vdc_guest *guest)
{
    if (in_migration_out(guest) || guest->state.state == VDC_PHASE_STOPPING) {
        return conflict(guest, "resume");
    }
    guest->held = false;
    guest->retry_at = VDC_NEVER;
    if (guest->state.state == VDC_PHASE_POSTMIGRATE) {
        if (!may_run(guest)) {
            return vdc_err_set(&guest->update->reply, VDC_RC_CONFLICT, "the guest may not run: %s",
                               why_not(guest));
        }
        order_cont(guest);
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
    if (in_migration_out(guest)) {
        return conflict(guest, "stop");
    }
    if (guest->state.state != VDC_PHASE_STOPPING) {
        begin_stop(guest, timeout_s, "stop was asked for");
    }
    return VDC_RC_OK;
}

static enum vdc_rc on_request(struct vdc_guest *guest, const struct vdc_monitor_request *request)
{
    if (is_over(guest)) {
        return conflict(guest, vdc_monitor_command_text(request->command));
    }
    switch (request->command) {
    case VDC_MONITOR_STATUS:
    case VDC_MONITOR_REFRESH:
    case VDC_MONITOR_CONSOLE_READ:
        return VDC_RC_OK;
    case VDC_MONITOR_PAUSE:
        if (in_migration_out(guest) || guest->state.state == VDC_PHASE_STOPPING) {
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
            move_to(guest, VDC_PHASE_STOPPING, "kill was asked for");
        }
        order_kill(guest, "kill was asked for");
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

/* ---- what should be against what is ---- */

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
    vdc_mono deadline = lease_deadline(guest);
    /* Stopped by a migration and not by us: its failure or cancel resumes it, at any moment. */
    bool may_resume_itself = in_migration_out(guest) || guest->resumes_itself;

    if (!guest->has_run || !guest->view_known || guest->state.ended) {
        return;
    }
    if (!vdc_mono_reached(guest->now,
                          vdc_mono_add(deadline, -VDC_GUEST_LEASE_MARGIN_MS * VDC_MS))) {
        if (guest->frozen) {
            guest->frozen = false;
            vdc_trace_line(&guest->trace, VDC_LEVEL_INFO, "guest %s: lease renewed -> QEMU thawed",
                           guest->state.name);
            (void)add_action(guest, VDC_GUEST_ACT_THAW);
        }
        return;
    }
    if (may_resume_itself && !guest->vcpus_run && !guest->frozen) {
        guest->frozen = true;
        vdc_trace_line(&guest->trace, VDC_LEVEL_WARN,
                       "guest %s: lease passed in state %s -> QEMU frozen", guest->state.name,
                       vdc_phase_text(guest->state.state));
        (void)add_action(guest, VDC_GUEST_ACT_FREEZE);
    } else if (guest->state.state == VDC_PHASE_MIGRATING && !guest->cancelling) {
        guest->cancelling = true;
        order(guest, VDC_QMP_MIGRATE_CANCEL, NULL);
    }
    if ((guest->vcpus_run || guest->cont_pending) && !guest->frozen) {
        if (!guest->stop_pending) {
            vdc_trace_line(&guest->trace, VDC_LEVEL_WARN,
                           "guest %s: lease ends in %lld ms and was not renewed -> pause",
                           guest->state.name,
                           (long long)(vdc_mono_sub(deadline, guest->now) / VDC_MS));
        }
        order_stop(guest);
    }
    if (!vdc_mono_reached(guest->now, deadline)) {
        return;
    }
    if ((guest->vcpus_run || guest->cont_pending) && !guest->frozen) {
        order_kill(guest, "lease passed and the pause is not confirmed");
    } else if (vdc_mono_reached(guest->now, vdc_mono_add(deadline, guest->grace_ns))) {
        order_kill(guest, "lease passed and was not renewed in the grace time");
    }
}

/* Whether time has to pass before a `cont` is worth trying. */
static bool waits_to_retry(const struct vdc_guest *guest)
{
    return !vdc_mono_is_never(guest->retry_at) && !vdc_mono_reached(guest->now, guest->retry_at);
}

static void decide_run(struct vdc_guest *guest)
{
    bool may = may_run(guest) && !waits_to_retry(guest);

    switch (guest->state.state) {
    case VDC_PHASE_PRELAUNCH:
    case VDC_PHASE_PAUSED:
        if (may && !guest->stop_pending) {
            order_cont(guest);
        }
        break;
    case VDC_PHASE_LOADED:
        if (may && guest->activated) {
            order_cont(guest);
        }
        break;
    case VDC_PHASE_POSTMIGRATE:
        /* Only where `resume` has said that this side owns the guest, and QEMU refused. */
        if (may && !vdc_mono_is_never(guest->retry_at)) {
            order_cont(guest);
        }
        break;
    case VDC_PHASE_RUNNING:
        if (!may_run(guest) && guest->vcpus_run) {
            order_stop(guest);
        } else if (may && !guest->vcpus_run && !guest->by_guest && !guest->stop_pending &&
                   (vdc_mono_reached(guest->now, guest->resume_at) ||
                    !vdc_mono_is_never(guest->retry_at))) {
            guest->resume_at = VDC_NEVER;
            order_cont(guest);
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
        order_kill(guest, "QMP is closed and QEMU does not end");
    }
    if (guest->state.state == VDC_PHASE_STARTING) {
        if (vdc_mono_reached(guest->now, guest->start_deadline)) {
            guest->start_deadline = VDC_NEVER;
            order_kill(guest, "QEMU did not answer after its start");
        }
        return;
    }
    if (guest->view_known && guest->view.run == VDC_RUN_STOPPED && !in_migration_out(guest) &&
        guest->state.state != VDC_PHASE_STOPPING) {
        begin_stop(guest, guest->stop_timeout_s, "the view says stopped");
    }
    if (guest->state.state != VDC_PHASE_STOPPING ||
        !vdc_mono_reached(guest->now, guest->stop_deadline)) {
        return;
    }
    if (guest->quit_sent) {
        guest->stop_deadline = VDC_NEVER;
        order_kill(guest, "QEMU did not quit");
    } else {
        guest->quit_sent = true;
        guest->stop_deadline = vdc_mono_add(guest->now, VDC_GUEST_QUIT_TIMEOUT_MS * VDC_MS);
        vdc_trace_line(&guest->trace, VDC_LEVEL_WARN, "guest %s: did not power off in time -> quit",
                       guest->state.name);
        order(guest, VDC_QMP_QUIT, NULL);
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
        order(guest, VDC_QMP_QUERY_MIGRATE, NULL);
    }
}

static void decide(struct vdc_guest *guest)
{
    if (is_over(guest)) {
        return;
    }
    decide_silence(guest);
    decide_stop(guest);
    decide_lease(guest);
    decide_run(guest);
    decide_progress(guest);
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
        if (!is_over(guest)) {
            on_start_failed(guest, event->text);
        }
        break;
    case VDC_GUEST_EV_QMP:
        if (!is_over(guest)) {
            on_qmp(guest, event->qmp);
        }
        break;
    case VDC_GUEST_EV_QMP_BROKEN:
        if (!is_over(guest)) {
            on_broken(guest, event->text);
        }
        break;
    case VDC_GUEST_EV_CONNECTED:
        if (!is_over(guest)) {
            on_connected(guest, event->ok, event->text);
        }
        break;
    case VDC_GUEST_EV_EXITED:
        if (!is_over(guest)) {
            on_exited(guest, event);
        }
        break;
    case VDC_GUEST_EV_REQUEST:
        (void)on_request(guest, event->request);
        break;
    }
    decide(guest);
    update->exit_status = guest->state.state == VDC_PHASE_FAILED ? EXIT_STATUS_FAILED : 0;
    guest->update = NULL;
}

vdc_mono vdc_guest_deadline(const struct vdc_guest *guest)
{
    vdc_mono at = vdc_mono_min(guest->stop_deadline, guest->progress_at);
    vdc_mono lease = lease_deadline(guest);

    if (is_over(guest)) {
        return VDC_NEVER;
    }
    at = vdc_mono_min(at, guest->broken_deadline);
    if (guest->state.state == VDC_PHASE_STARTING) {
        at = vdc_mono_min(at, guest->start_deadline);
    }
    if (guest->state.state == VDC_PHASE_RUNNING && !guest->vcpus_run && may_run(guest)) {
        at = vdc_mono_min(at, guest->resume_at);
    }
    if (waits_to_retry(guest) && may_run(guest)) {
        at = vdc_mono_min(at, guest->retry_at);
    }
    if (guest->pending_count > 0 && guest->state.responsive && !guest->frozen) {
        at = vdc_mono_min(at, guest->pending[0].deadline);
    }
    if (guest->has_run && guest->view_known && !guest->killed && !vdc_mono_is_never(lease)) {
        /* The next of its three instants that has not passed yet, seen from the last step. */
        vdc_mono margin = lease_margin(guest);
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
    vdc_mono lease = lease_deadline(guest);

    return !is_over(guest) && !vdc_mono_is_never(lease) && !lease_valid(guest);
}

struct vdc_trace *vdc_guest_trace(struct vdc_guest *guest)
{
    return &guest->trace;
}
