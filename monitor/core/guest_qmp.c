/* SPDX-License-Identifier: Apache-2.0 */
/* What QEMU says, and how a migration goes. Facts are noted and the moves made that they force. */
#include <stdio.h>
#include <string.h>

#include "guest_internal.h"

/* ---- migration ---- */

void guest_migration_begin(struct vdc_guest *guest, enum vdc_guest_migration_dir dir)
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
 * before, so only the state is settled here; guest_decide() stops it again where it may not run. */
static void migration_out_ended(struct vdc_guest *guest, enum vdc_guest_migration_status status)
{
    const char *what = status == VDC_MIGRATION_STATUS_CANCELLED ? "cancelled" : "failed";

    guest->state.migration.status = status;
    guest->cancelling = false;
    guest->resumes_itself = !guest->vcpus_run;
    guest->progress_at = VDC_NEVER;
    (void)guest_add_action(guest, VDC_GUEST_ACT_CLOSE_MIGRATION);
    if (guest->vcpus_run || guest->state.state != VDC_PHASE_MIGRATING) {
        guest->resume_at = vdc_mono_add(guest->now, VDC_GUEST_RESUME_WAIT_MS * VDC_MS);
        guest_move_to(guest, VDC_PHASE_RUNNING, "migration %s", what);
    } else {
        guest_move_to(guest, VDC_PHASE_PAUSED, "%s", guest_why_not(guest));
    }
    if (status == VDC_MIGRATION_STATUS_FAILED) {
        guest_order(guest, VDC_QMP_QUERY_MIGRATE, NULL); /* for the reason */
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
            guest_move_to(guest, VDC_PHASE_SWITCHOVER, "memory is sent, the guest is stopped");
        }
        break;
    case VDC_QMP_MIGRATION_COMPLETED:
        /* A cancel that came too late changes nothing: all was sent. */
        if (guest->state.state == VDC_PHASE_MIGRATING) {
            guest_move_to(guest, VDC_PHASE_SWITCHOVER, "QEMU did not wait");
        }
        if (guest->state.state == VDC_PHASE_SWITCHOVER) {
            guest_move_to(guest, VDC_PHASE_HANDOVER, "QEMU did not wait");
        }
        guest->state.migration.status = VDC_MIGRATION_STATUS_COMPLETED;
        guest->vcpus_run = false;
        guest->cancelling = false;
        guest_move_to(guest, VDC_PHASE_POSTMIGRATE, "all was sent");
        (void)guest_add_action(guest, VDC_GUEST_ACT_CLOSE_MIGRATION);
        guest_order(guest, VDC_QMP_QUERY_MIGRATE, NULL);
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
        (void)guest_add_action(guest, VDC_GUEST_ACT_CLOSE_MIGRATION);
        guest_move_to(guest, VDC_PHASE_LOADED, "all was received");
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
        guest_order(guest, VDC_QMP_MIGRATION_CAPABILITIES, &params);
        guest_move_to(guest, VDC_PHASE_INCOMING, "QEMU answers");
    } else {
        guest_move_to(guest, VDC_PHASE_PRELAUNCH, "QEMU answers");
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
        guest_move_to(guest, VDC_PHASE_RUNNING, "started");
        break;
    case VDC_PHASE_LOADED:
        guest->state.migration.resumed_ns = guest->now.ns;
        guest_move_to(guest, VDC_PHASE_RUNNING, "activated");
        break;
    case VDC_PHASE_PAUSED:
        guest_move_to(guest, VDC_PHASE_RUNNING, "resumed");
        break;
    case VDC_PHASE_POSTMIGRATE:
        guest->state.migration.resumed_ns = guest->now.ns;
        guest_move_to(guest, VDC_PHASE_RUNNING, "the migration was aborted");
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
            guest_move_to(guest, VDC_PHASE_PAUSED, "%s", guest_why_not(guest));
        } else {
            /* A full disk, say. To resume at once would meet it again. */
            guest->retry_at = vdc_mono_add(guest->now, VDC_GUEST_STOPPED_RETRY_MS * VDC_MS);
            guest_move_to(guest, VDC_PHASE_PAUSED, "QEMU stopped it%s%s, tried again every %d s",
                          guest->disk_error[0] == '\0' ? "" : ": a disk failed: ",
                          guest->disk_error, VDC_GUEST_STOPPED_RETRY_MS / 1000);
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
        if (guest_in_migration_out(guest)) {
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
            guest_begin_stop(guest, 0, "QEMU refuses the migration");
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
            guest_order(guest, VDC_QMP_MIGRATE_CANCEL, NULL);
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

void guest_on_qmp(struct vdc_guest *guest, const struct vdc_qmp_message *message)
{
    switch (message->kind) {
    case VDC_QMP_GREETING:
        if (guest->state.state == VDC_PHASE_STARTING) {
            guest_order(guest, VDC_QMP_CAPABILITIES, NULL);
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

/* ---- the migration's socket ---- */

void guest_on_connected(struct vdc_guest *guest, bool ok, const char *text)
{
    bool out = guest->state.state == VDC_PHASE_MIGRATING;

    if (!out && guest->state.state != VDC_PHASE_LOADING) {
        (void)guest_add_action(guest, VDC_GUEST_ACT_CLOSE_MIGRATION);
        return;
    }
    if (!ok) {
        migration_note_error(guest, text);
        if (out) {
            migration_out_ended(guest, VDC_MIGRATION_STATUS_FAILED);
        } else {
            guest->state.migration.status = VDC_MIGRATION_STATUS_FAILED;
            guest_begin_stop(guest, 0, "no connection for the migration");
        }
        return;
    }
    guest_order(guest, VDC_QMP_GETFD, NULL);
    if (out) {
        /* Now and not at the start: a guest that came by migration has those of a target. */
        guest_order(guest, VDC_QMP_MIGRATION_CAPABILITIES, &guest->migration_params);
        guest_order(guest, VDC_QMP_MIGRATION_PARAMETERS, &guest->migration_params);
        guest_order(guest, VDC_QMP_MIGRATE, NULL);
        guest->progress_at = vdc_mono_add(guest->now, VDC_GUEST_PROGRESS_MS * VDC_MS);
    } else {
        guest_order(guest, VDC_QMP_MIGRATE_INCOMING, NULL);
    }
}
