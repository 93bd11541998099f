/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the guest's core share; see vdc/guest.h for the whole. */
#ifndef VDC_GUEST_INTERNAL_H
#define VDC_GUEST_INTERNAL_H

#include <vdc/base.h>
#include <vdc/guest.h>

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

/* guest.c */
/* The one way from state to state: checked, traced, reported. The text is the state's reason. */
void guest_move_to(struct vdc_guest *guest, enum vdc_phase to, const char *fmt, ...)
    VDC_PRINTF(3, 4);
struct vdc_guest_action *guest_add_action(struct vdc_guest *guest, enum vdc_guest_action_kind kind);
void guest_order_kill(struct vdc_guest *guest, const char *why);
/* Asks QEMU for something. One that has stopped answering has at most VDC_GUEST_PENDING_MAX
 * questions open; the rest would not be answered either. */
void guest_order(struct vdc_guest *guest, enum vdc_qmp_command command,
                 const struct vdc_qmp_params *params);
void guest_order_cont(struct vdc_guest *guest);
void guest_order_stop(struct vdc_guest *guest);
/* Ends the guest: by its power button while it runs, otherwise at once. */
void guest_begin_stop(struct vdc_guest *guest, uint32_t timeout_s, const char *why);
/* The instant from which the guest must not run; VDC_NEVER without a lease. */
vdc_mono guest_lease_deadline(const struct vdc_guest *guest);
/* The instant at which a stop is ordered, so that it is done at the deadline. */
vdc_mono guest_lease_margin(const struct vdc_guest *guest);
bool guest_lease_valid(const struct vdc_guest *guest);
bool guest_may_run(const struct vdc_guest *guest);
const char *guest_why_not(const struct vdc_guest *guest);
bool guest_in_migration_out(const struct vdc_guest *guest);
bool guest_is_over(const struct vdc_guest *guest);
/* Whether time has to pass before a `cont` is worth trying. */
bool guest_waits_to_retry(const struct vdc_guest *guest);

/* guest_qmp.c: what QEMU says */
void guest_migration_begin(struct vdc_guest *guest, enum vdc_guest_migration_dir dir);
void guest_on_qmp(struct vdc_guest *guest, const struct vdc_qmp_message *message);
void guest_on_connected(struct vdc_guest *guest, bool ok, const char *text);

/* guest_decide.c: what should be against what is */
void guest_decide(struct vdc_guest *guest);

#endif
