/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life-cycle core, driven by a small stand-in of QEMU: `actions` collects what the core orders
 * as words, the tests answer as QEMU 7.2 does.
 */
#include <signal.h>
#include <string.h>

#include <criterion/criterion.h>

#include <vdc/base.h>
#include <vdc/guest.h>

#define LEASE_NS (4 * VDC_SECOND)

static struct vdc_guest *guest;
static vdc_mono now;
static struct vdc_guest_view view;
static char actions[1024]; /* of the last step, words */
static bool changed;
static struct vdc_guest_update update;
/* Commands that wait for an answer, in order. */
static struct {
    enum vdc_qmp_command command;
    uint64_t id;
} asked[64];
static size_t asked_count;

static void step(struct vdc_guest_event event)
{
    event.now = now;
    vdc_guest_step(guest, &event, &update);
    actions[0] = '\0';
    for (size_t i = 0; i < update.action_count; i++) {
        const struct vdc_guest_action *action = &update.actions[i];
        static const char *const names[] = {"", "connect", "close", "freeze", "thaw", "KILL"};
        const char *name = action->kind == VDC_GUEST_ACT_QMP ? vdc_qmp_command_text(action->command)
                                                             : names[action->kind];
        cr_assert(strlen(actions) + strlen(name) + 2 < sizeof(actions));
        strcat(actions, i == 0 ? "" : " ");
        strcat(actions, name);
        if (action->kind == VDC_GUEST_ACT_QMP) {
            asked[asked_count].command = action->command;
            asked[asked_count++].id = action->id;
        }
    }
    changed = update.changed;
}

static void tick(void)
{
    step((struct vdc_guest_event){.kind = VDC_GUEST_EV_TICK});
}

/* Lets time pass to each deadline of the core in turn. */
static void pass(int64_t ms, const char *expect)
{
    vdc_mono until = vdc_mono_add(now, ms * VDC_MS);
    char all[1024] = "";
    int turns = 0;

    while (!vdc_mono_is_never(vdc_guest_deadline(guest)) &&
           vdc_guest_deadline(guest).ns <= until.ns) {
        now = vdc_mono_max(now, vdc_guest_deadline(guest));
        tick();
        if (actions[0] != '\0') {
            strcat(all, all[0] == '\0' ? "" : " ");
            strcat(all, actions);
        }
        cr_assert(++turns < 1000, "the core asks for a tick for ever");
    }
    now = until;
    cr_assert_str_eq(all, expect);
}

static void set_view(enum vdc_run run, int64_t lease_ns)
{
    view = (struct vdc_guest_view){.run = run, .generation = 1, .lease_ns = lease_ns};
    step((struct vdc_guest_event){.kind = VDC_GUEST_EV_VIEW, .view = view});
}

static void renew(void)
{
    set_view(view.run, now.ns + LEASE_NS);
}

static void qmp(const char *line)
{
    struct vdc_qmp_message message;

    cr_assert_eq(vdc_qmp_message_decode(line, strlen(line), &message, NULL), VDC_RC_OK);
    step((struct vdc_guest_event){.kind = VDC_GUEST_EV_QMP, .qmp = &message});
}

static void event(const char *name)
{
    vdc_autofree char *line = vdc_asprintf("{\"event\":\"%s\",\"data\":{}}", name);

    qmp(line);
}

static void migration(const char *status)
{
    vdc_autofree char *line =
        vdc_asprintf("{\"event\":\"MIGRATION\",\"data\":{\"status\":\"%s\"}}", status);

    qmp(line);
}

/* Answers the oldest command, which must be `command`. */
static void answer(enum vdc_qmp_command command, const char *value)
{
    vdc_autofree char *line = NULL;

    cr_assert_gt(asked_count, 0, "nothing was asked");
    cr_assert_str_eq(vdc_qmp_command_text(asked[0].command), vdc_qmp_command_text(command));
    line = vdc_asprintf("{\"id\":%llu,%s}", (unsigned long long)asked[0].id, value);
    memmove(&asked[0], &asked[1], --asked_count * sizeof(asked[0]));
    qmp(line);
}

static void ok(enum vdc_qmp_command command)
{
    answer(command, "\"return\":{}");
}

static enum vdc_rc request(enum vdc_monitor_command command)
{
    struct vdc_monitor_request req = {.command = command, .timeout_s = 10, .unix_path = "/r.sock"};

    step((struct vdc_guest_event){.kind = VDC_GUEST_EV_REQUEST, .request = &req});
    return update.reply.rc;
}

static void is_state(enum vdc_phase state)
{
    cr_assert_str_eq(vdc_phase_text(vdc_guest_state(guest)->state), vdc_phase_text(state));
}

static void create(bool incoming)
{
    const struct vdc_guest_config config = {.name = "web-1",
                                            .migrate_incoming = incoming,
                                            .lease = true,
                                            .grace_ms = 2000,
                                            .stop_timeout_s = 10,
                                            .accelerator = "tcg",
                                            .confined = true};

    now = (vdc_mono){100 * VDC_SECOND};
    asked_count = 0;
    guest = vdc_guest_create(&config, now);
    step((struct vdc_guest_event){.kind = VDC_GUEST_EV_STARTED, .pid = 7, .start_time = 9});
}

static void make_ready(void)
{
    qmp("{\"QMP\":{\"version\":{}}}");
    ok(VDC_QMP_CAPABILITIES);
}

static void cont_done(void)
{
    event("RESUME");
    ok(VDC_QMP_CONT);
    is_state(VDC_PHASE_RUNNING);
}

static void make_running(void)
{
    create(false);
    set_view(VDC_RUN_RUNNING, now.ns + LEASE_NS);
    make_ready();
    cr_assert_str_eq(actions, "cont");
    cont_done();
}

/* Running, then at the switch-over. */
static void make_switchover(void)
{
    make_running();
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_OUT), VDC_RC_OK);
    cr_assert_str_eq(actions, "connect");
    step((struct vdc_guest_event){.kind = VDC_GUEST_EV_CONNECTED, .ok = true, .text = ""});
    cr_assert_str_eq(actions, "getfd migrate-set-capabilities migrate-set-parameters migrate");
    ok(VDC_QMP_GETFD);
    ok(VDC_QMP_MIGRATION_CAPABILITIES);
    ok(VDC_QMP_MIGRATION_PARAMETERS);
    ok(VDC_QMP_MIGRATE);
    is_state(VDC_PHASE_MIGRATING);
    migration("active");
    event("STOP");
    migration("pre-switchover");
    is_state(VDC_PHASE_SWITCHOVER);
}

static void make_postmigrate(void)
{
    make_switchover();
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_CONTINUE), VDC_RC_OK);
    cr_assert_str_eq(actions, "migrate-continue");
    ok(VDC_QMP_MIGRATE_CONTINUE);
    is_state(VDC_PHASE_HANDOVER);
    migration("device");
    migration("completed");
    is_state(VDC_PHASE_POSTMIGRATE);
    cr_assert_str_eq(actions, "close query-migrate");
}

static void exited(int code, int sig)
{
    step((struct vdc_guest_event){
        .kind = VDC_GUEST_EV_EXITED, .exit_code = code, .exit_signal = sig, .text = "last words"});
    cr_assert(update.ended);
}

static void fini(void)
{
    vdc_guest_destroy(guest);
    guest = NULL;
}

TestSuite(monitor_guest, .fini = fini);

Test(monitor_guest, runs_when_view_and_lease_allow_it)
{
    make_running();
    cr_assert_eq(vdc_guest_state(guest)->qemu_pid, 7);
    cr_assert_eq(vdc_guest_state(guest)->running_since_ns, now.ns);
}

Test(monitor_guest, waits_without_a_lease_and_is_not_killed_for_it)
{
    create(false);
    set_view(VDC_RUN_RUNNING, VDC_VIEW_LEASE_NEVER);
    make_ready();
    cr_assert_str_eq(actions, "");
    pass(60000, "");
    is_state(VDC_PHASE_PRELAUNCH);
    cr_assert(vdc_guest_waits_for_lease(guest));
    renew();
    cr_assert_str_eq(actions, "cont");
}

Test(monitor_guest, needs_no_lease_where_the_view_says_so)
{
    create(false);
    set_view(VDC_RUN_RUNNING, VDC_VIEW_LEASE_NONE);
    make_ready();
    cont_done();
    pass(INT64_C(1000000), "");
    cr_assert_not(vdc_guest_state(guest)->lease_needed);
}

Test(monitor_guest, is_paused_before_its_lease_ends_and_killed_after_the_grace_time)
{
    make_running();
    pass(LEASE_NS / VDC_MS - VDC_GUEST_LEASE_MARGIN_MS - 1, "");
    pass(1, "stop");
    event("STOP");
    ok(VDC_QMP_STOP);
    is_state(VDC_PHASE_PAUSED);
    cr_assert_str_eq(vdc_guest_state(guest)->reason, "lease");
    pass(VDC_GUEST_LEASE_MARGIN_MS + 1999, "");
    pass(1, "KILL");
    exited(-1, SIGKILL);
    is_state(VDC_PHASE_FAILED);
    cr_assert_eq(update.exit_status, 3);
}

Test(monitor_guest, goes_on_when_the_lease_is_renewed_in_the_grace_time)
{
    make_running();
    pass(LEASE_NS / VDC_MS - 100, "stop");
    event("STOP");
    ok(VDC_QMP_STOP);
    pass(1000, "");
    renew();
    cr_assert_str_eq(actions, "cont");
    cont_done();
}

Test(monitor_guest, is_killed_at_the_deadline_when_the_pause_is_not_confirmed)
{
    make_running();
    pass(LEASE_NS / VDC_MS - 1, "stop");
    pass(1, "KILL");
}

Test(monitor_guest, obeys_pause_and_resume_and_the_view)
{
    make_running();
    cr_assert_eq(request(VDC_MONITOR_PAUSE), VDC_RC_OK);
    cr_assert_str_eq(actions, "stop");
    event("STOP");
    ok(VDC_QMP_STOP);
    is_state(VDC_PHASE_PAUSED);
    renew();
    cr_assert_str_eq(actions, "", "a held guest is not run by a new view");
    cr_assert_eq(request(VDC_MONITOR_RESUME), VDC_RC_OK);
    cr_assert_str_eq(actions, "cont");
    cont_done();
    set_view(VDC_RUN_PAUSED, now.ns + LEASE_NS);
    cr_assert_str_eq(actions, "stop");
}

Test(monitor_guest, resumed_before_the_pause_was_confirmed_runs_in_the_end)
{
    make_running();
    cr_assert_eq(request(VDC_MONITOR_PAUSE), VDC_RC_OK);
    cr_assert_eq(request(VDC_MONITOR_RESUME), VDC_RC_OK);
    event("STOP");
    ok(VDC_QMP_STOP);
    cr_assert_str_eq(actions, "cont");
    cont_done();
}

Test(monitor_guest, stops_by_the_power_button_then_quit_then_kill)
{
    make_running();
    set_view(VDC_RUN_RUNNING, VDC_VIEW_LEASE_NONE);
    cr_assert_eq(request(VDC_MONITOR_STOP), VDC_RC_OK);
    cr_assert_str_eq(actions, "system_powerdown");
    ok(VDC_QMP_POWERDOWN);
    pass(9999, "");
    pass(1, "quit");
    pass(VDC_GUEST_QUIT_TIMEOUT_MS, "KILL");
    exited(-1, SIGKILL);
    is_state(VDC_PHASE_STOPPED);
    cr_assert_eq(update.exit_status, 0);
}

Test(monitor_guest, a_view_that_says_stopped_ends_it)
{
    make_running();
    set_view(VDC_RUN_STOPPED, now.ns + LEASE_NS);
    cr_assert_str_eq(actions, "system_powerdown");
    qmp("{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-shutdown\"}}");
    exited(0, 0);
    is_state(VDC_PHASE_STOPPED);
}

Test(monitor_guest, one_that_powers_itself_off_is_stopped_and_one_that_crashes_has_failed)
{
    make_running();
    qmp("{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-shutdown\"}}");
    event("STOP");
    is_state(VDC_PHASE_RUNNING);
    exited(0, 0);
    is_state(VDC_PHASE_STOPPED);
    fini();
    make_running();
    exited(-1, SIGSEGV);
    is_state(VDC_PHASE_FAILED);
    fini();
    make_running();
    exited(1, 0);
    cr_assert_not_null(strstr(vdc_guest_state(guest)->reason, "last words"));
}

Test(monitor_guest, qemu_that_never_answers_is_killed)
{
    create(false);
    pass(VDC_GUEST_START_TIMEOUT_MS - 1, "");
    pass(1, "KILL");
    pass(100000, "");
    exited(-1, SIGKILL);
    is_state(VDC_PHASE_FAILED);
}

Test(monitor_guest, qemu_that_falls_silent_is_reported_and_again_when_it_answers)
{
    make_running();
    set_view(VDC_RUN_PAUSED, VDC_VIEW_LEASE_NONE);
    cr_assert_str_eq(actions, "stop");
    cr_assert(vdc_guest_state(guest)->responsive);
    pass(VDC_GUEST_QMP_TIMEOUT_MS, "");
    cr_assert_not(vdc_guest_state(guest)->responsive);
    pass(100000, "");
    event("STOP");
    ok(VDC_QMP_STOP);
    cr_assert(vdc_guest_state(guest)->responsive);
}

Test(monitor_guest, qemu_that_closes_qmp_and_stays_is_killed)
{
    make_running();
    set_view(VDC_RUN_RUNNING, VDC_VIEW_LEASE_NONE);
    step((struct vdc_guest_event){.kind = VDC_GUEST_EV_QMP_BROKEN, .text = "garbage"});
    cr_assert_str_eq(actions, "");
    pass(VDC_GUEST_QUIT_TIMEOUT_MS, "KILL");
}

Test(monitor_guest, a_panic_is_reported_and_not_resumed)
{
    make_running();
    qmp("{\"event\":\"GUEST_PANICKED\",\"data\":{\"action\":\"pause\"}}");
    event("STOP");
    is_state(VDC_PHASE_PAUSED);
    cr_assert(vdc_guest_state(guest)->panicked);
    renew();
    cr_assert_str_eq(strstr(actions, "cont") == NULL ? "" : "cont", "");
}

Test(monitor_guest, a_guest_that_qemu_stopped_is_tried_again_until_its_disk_takes_it)
{
    make_running();
    set_view(VDC_RUN_RUNNING, VDC_VIEW_LEASE_NONE);
    for (int i = 0; i < 3; i++) {
        qmp("{\"event\":\"BLOCK_IO_ERROR\",\"data\":{\"reason\":\"No space left on device\"}}");
        event("STOP");
        is_state(VDC_PHASE_PAUSED);
        cr_assert_not_null(strstr(vdc_guest_state(guest)->reason, "No space left on device"));
        pass(VDC_GUEST_STOPPED_RETRY_MS - 1, "");
        pass(1, "cont");
        cont_done();
    }
    pass(60000, "");
    is_state(VDC_PHASE_RUNNING);
}

Test(monitor_guest, a_guest_that_qemu_stopped_goes_on_at_once_by_resume)
{
    make_running();
    set_view(VDC_RUN_RUNNING, VDC_VIEW_LEASE_NONE);
    event("STOP");
    is_state(VDC_PHASE_PAUSED);
    cr_assert_eq(request(VDC_MONITOR_RESUME), VDC_RC_OK);
    cr_assert_str_eq(actions, "cont");
}

/* ---- migration: the source ---- */

Test(monitor_guest, source_waits_at_the_switchover_and_does_not_run_after_postmigrate)
{
    const struct vdc_monitor_migration *m;

    make_postmigrate();
    m = &vdc_guest_state(guest)->migration;
    cr_assert_eq(m->dir, VDC_MIGRATION_OUT);
    cr_assert_eq(m->status, VDC_MIGRATION_STATUS_COMPLETED);
    cr_assert_eq(m->stopped_ns, now.ns);
    answer(VDC_QMP_QUERY_MIGRATE,
           "\"return\":{\"status\":\"completed\",\"downtime\":0,\"total-time\":600}");
    cr_assert_eq(m->qemu_downtime_ms, -1, "0 right after completion means not known yet");
    pass(VDC_GUEST_DOWNTIME_QUERY_MS, "query-migrate");
    answer(VDC_QMP_QUERY_MIGRATE,
           "\"return\":{\"status\":\"completed\",\"downtime\":12,\"total-time\":600}");
    cr_assert_eq(m->qemu_downtime_ms, 12);
    cr_assert_eq(m->qemu_total_ms, 600);
    set_view(VDC_RUN_RUNNING, now.ns + LEASE_NS);
    cr_assert_str_eq(actions, "", "the view does not run what was sent away");
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_CANCEL), VDC_RC_CONFLICT);
}

Test(monitor_guest, source_runs_again_after_postmigrate_only_by_resume)
{
    make_postmigrate();
    answer(VDC_QMP_QUERY_MIGRATE,
           "\"return\":{\"status\":\"completed\",\"downtime\":12,\"total-time\":600}");
    cr_assert_eq(request(VDC_MONITOR_RESUME), VDC_RC_OK);
    cr_assert_str_eq(actions, "cont");
    cont_done();
    cr_assert_eq(vdc_guest_state(guest)->migration.resumed_ns, now.ns);
}

Test(monitor_guest, cancel_at_the_switchover_lets_the_source_go_on)
{
    make_switchover();
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_CANCEL), VDC_RC_OK);
    cr_assert_str_eq(actions, "migrate_cancel");
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_CONTINUE), VDC_RC_CONFLICT);
    migration("cancelling");
    ok(VDC_QMP_MIGRATE_CANCEL);
    event("RESUME");
    migration("cancelled");
    is_state(VDC_PHASE_RUNNING);
    cr_assert_eq(vdc_guest_state(guest)->migration.status, VDC_MIGRATION_STATUS_CANCELLED);
    cr_assert_str_eq(actions, "close");
}

Test(monitor_guest, a_failure_at_the_switchover_lets_the_source_go_on)
{
    make_switchover();
    migration("failed");
    is_state(VDC_PHASE_RUNNING);
    cr_assert_str_eq(actions, "close query-migrate");
    event("RESUME");
    answer(VDC_QMP_QUERY_MIGRATE,
           "\"return\":{\"status\":\"failed\",\"error-desc\":\"Broken pipe\"}");
    cr_assert_str_eq(vdc_guest_state(guest)->migration.error, "Broken pipe");
    pass(1000, "");
}

Test(monitor_guest, a_source_that_qemu_does_not_resume_after_a_failure_is_helped)
{
    make_switchover();
    migration("failed");
    answer(VDC_QMP_QUERY_MIGRATE, "\"return\":{\"status\":\"failed\"}");
    pass(VDC_GUEST_RESUME_WAIT_MS - 1, "");
    pass(1, "cont");
}

Test(monitor_guest, a_lease_that_passes_at_the_switchover_freezes_qemu)
{
    make_switchover();
    pass(LEASE_NS / VDC_MS - 1, "freeze");
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_CONTINUE), VDC_RC_CONFLICT);
    pass(2000, "");
    pass(1, "KILL");
    fini();
    make_switchover();
    pass(LEASE_NS / VDC_MS + 500, "freeze");
    renew();
    cr_assert_str_eq(actions, "thaw");
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_CONTINUE), VDC_RC_OK);
}

/* Its leader gives the migration up while the lease is over: said once, it must not be forgotten. */
Test(monitor_guest, a_migration_cancelled_while_qemu_is_frozen_ends_when_it_is_thawed)
{
    make_switchover();
    pass(LEASE_NS / VDC_MS + 500, "freeze");
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_CANCEL), VDC_RC_OK);
    cr_assert_str_eq(actions, "migrate_cancel");
    renew();
    cr_assert_str_eq(actions, "thaw");
    migration("cancelled");
    event("RESUME");
    is_state(VDC_PHASE_RUNNING);
}

Test(monitor_guest, a_lease_that_passes_while_memory_is_sent_cancels_and_pauses)
{
    make_running();
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_OUT), VDC_RC_OK);
    step((struct vdc_guest_event){.kind = VDC_GUEST_EV_CONNECTED, .ok = true, .text = ""});
    now = vdc_mono_add(now, LEASE_NS - VDC_GUEST_LEASE_MARGIN_MS * VDC_MS);
    tick();
    cr_assert_str_eq(actions, "migrate_cancel stop query-migrate");
    event("STOP");
    migration("cancelled");
    is_state(VDC_PHASE_PAUSED);
    cr_assert_str_eq(vdc_guest_state(guest)->reason, "lease");
}

/* QEMU stops the guest, flushes its disks (seconds, on a bad one), and says pre-switchover only then;
 * cancelled in between it resumes the guest by itself, after the deadline as well as before. */
Test(monitor_guest, a_lease_that_passes_just_before_the_switchover_freezes_qemu)
{
    make_running();
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_OUT), VDC_RC_OK);
    step((struct vdc_guest_event){.kind = VDC_GUEST_EV_CONNECTED, .ok = true, .text = ""});
    migration("active");
    event("STOP");
    now = vdc_mono_add(now, LEASE_NS - VDC_GUEST_LEASE_MARGIN_MS * VDC_MS);
    tick();
    cr_assert_not_null(strstr(actions, "freeze"), "%s", actions);
    cr_assert_null(strstr(actions, "migrate_cancel"), "%s", actions);
    renew();
    cr_assert_not_null(strstr(actions, "thaw"), "%s", actions);
    migration("pre-switchover");
    is_state(VDC_PHASE_SWITCHOVER);
}

Test(monitor_guest, a_lease_that_passes_before_qemu_has_resumed_after_a_failure_freezes_qemu)
{
    make_switchover();
    now = vdc_mono_add(now, LEASE_NS - (VDC_GUEST_LEASE_MARGIN_MS + 100) * VDC_MS);
    tick();
    cr_assert_str_eq(actions, "");
    migration("failed");
    is_state(VDC_PHASE_RUNNING);
    pass(100, "freeze");
    renew();
    cr_assert_not_null(strstr(actions, "thaw"), "%s", actions);
    event("RESUME");
    now = vdc_mono_add(now, LEASE_NS - VDC_GUEST_LEASE_MARGIN_MS * VDC_MS);
    tick();
    cr_assert_str_eq(actions, "stop");
}

Test(monitor_guest, no_connection_means_no_migration)
{
    make_running();
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_OUT), VDC_RC_OK);
    step((struct vdc_guest_event){
        .kind = VDC_GUEST_EV_CONNECTED, .ok = false, .text = "connection refused"});
    is_state(VDC_PHASE_RUNNING);
    cr_assert_eq(vdc_guest_state(guest)->migration.status, VDC_MIGRATION_STATUS_FAILED);
    cr_assert_str_eq(vdc_guest_state(guest)->migration.error, "connection refused");
}

Test(monitor_guest, a_qemu_that_would_not_wait_at_the_switchover_is_cancelled)
{
    make_running();
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_OUT), VDC_RC_OK);
    step((struct vdc_guest_event){.kind = VDC_GUEST_EV_CONNECTED, .ok = true, .text = ""});
    ok(VDC_QMP_GETFD);
    answer(VDC_QMP_MIGRATION_CAPABILITIES, "\"error\":{\"desc\":\"no\"}");
    cr_assert_str_eq(actions, "migrate_cancel");
}

Test(monitor_guest, progress_is_asked_for_while_memory_is_sent)
{
    make_running();
    set_view(VDC_RUN_RUNNING, VDC_VIEW_LEASE_NONE);
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_OUT), VDC_RC_OK);
    step((struct vdc_guest_event){.kind = VDC_GUEST_EV_CONNECTED, .ok = true, .text = ""});
    ok(VDC_QMP_GETFD);
    ok(VDC_QMP_MIGRATION_CAPABILITIES);
    ok(VDC_QMP_MIGRATION_PARAMETERS);
    ok(VDC_QMP_MIGRATE);
    pass(VDC_GUEST_PROGRESS_MS, "query-migrate");
    pass(VDC_GUEST_PROGRESS_MS, ""); /* one question at a time */
    answer(VDC_QMP_QUERY_MIGRATE,
           "\"return\":{\"status\":\"active\",\"ram\":{\"total\":1000,\"transferred\":10,"
           "\"remaining\":990,\"page-size\":4096,\"dirty-pages-rate\":2}}");
    cr_assert(changed);
    cr_assert_eq(vdc_guest_state(guest)->migration.bytes_remaining, 990);
    cr_assert_eq(vdc_guest_state(guest)->migration.dirty_bytes_per_s, 8192);
}

Test(monitor_guest, pause_and_stop_are_refused_during_a_migration)
{
    make_switchover();
    cr_assert_eq(request(VDC_MONITOR_PAUSE), VDC_RC_CONFLICT);
    cr_assert_eq(request(VDC_MONITOR_STOP), VDC_RC_CONFLICT);
    cr_assert_eq(request(VDC_MONITOR_RESUME), VDC_RC_CONFLICT);
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_OUT), VDC_RC_CONFLICT);
    cr_assert_eq(request(VDC_MONITOR_KILL), VDC_RC_OK);
    cr_assert_str_eq(actions, "KILL");
}

/* ---- migration: the target ---- */

static void make_loaded(void)
{
    create(true);
    set_view(VDC_RUN_INCOMING, now.ns + LEASE_NS);
    make_ready();
    cr_assert_str_eq(actions, "migrate-set-capabilities");
    ok(VDC_QMP_MIGRATION_CAPABILITIES);
    is_state(VDC_PHASE_INCOMING);
    cr_assert_eq(request(VDC_MONITOR_ACTIVATE), VDC_RC_CONFLICT);
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_IN), VDC_RC_OK);
    cr_assert_str_eq(actions, "connect");
    step((struct vdc_guest_event){.kind = VDC_GUEST_EV_CONNECTED, .ok = true, .text = ""});
    cr_assert_str_eq(actions, "getfd migrate-incoming");
    ok(VDC_QMP_GETFD);
    ok(VDC_QMP_MIGRATE_INCOMING);
    migration("active");
    migration("completed");
    is_state(VDC_PHASE_LOADED);
}

Test(monitor_guest, target_runs_only_after_activate)
{
    make_loaded();
    set_view(VDC_RUN_RUNNING, now.ns + LEASE_NS);
    cr_assert_str_eq(actions, "");
    pass(60000, "");
    is_state(VDC_PHASE_LOADED);
    renew();
    cr_assert_eq(request(VDC_MONITOR_ACTIVATE), VDC_RC_OK);
    cr_assert_str_eq(actions, "cont");
    cont_done();
    cr_assert_eq(vdc_guest_state(guest)->migration.resumed_ns, now.ns);
}

Test(monitor_guest, target_that_is_activated_without_a_lease_waits_for_it)
{
    make_loaded();
    set_view(VDC_RUN_INCOMING, VDC_VIEW_LEASE_NEVER);
    cr_assert_eq(request(VDC_MONITOR_ACTIVATE), VDC_RC_OK);
    cr_assert_str_eq(actions, "");
    renew();
    cr_assert_str_eq(actions, "cont");
}

Test(monitor_guest, target_whose_load_fails_has_failed)
{
    create(true);
    set_view(VDC_RUN_INCOMING, now.ns + LEASE_NS);
    make_ready();
    ok(VDC_QMP_MIGRATION_CAPABILITIES);
    cr_assert_eq(request(VDC_MONITOR_MIGRATE_IN), VDC_RC_OK);
    step((struct vdc_guest_event){.kind = VDC_GUEST_EV_CONNECTED, .ok = true, .text = ""});
    ok(VDC_QMP_GETFD);
    ok(VDC_QMP_MIGRATE_INCOMING);
    migration("failed");
    cr_assert_eq(vdc_guest_state(guest)->migration.status, VDC_MIGRATION_STATUS_FAILED);
    exited(1, 0);
    is_state(VDC_PHASE_FAILED);
}

Test(monitor_guest, a_stopped_guest_that_may_not_run_is_not_tried)
{
    make_running();
    event("STOP");
    set_view(VDC_RUN_PAUSED, VDC_VIEW_LEASE_NONE);
    pass(60000, "");
    is_state(VDC_PHASE_PAUSED);
}

Test(monitor_guest, disk_errors_are_logged_ever_more_seldom)
{
    int lines = 0;
    enum vdc_level level;
    char line[512];

    make_running();
    for (int i = 0; i < 1000; i++) {
        qmp("{\"event\":\"BLOCK_IO_ERROR\",\"data\":{\"reason\":\"Input/output error\"}}");
        while (vdc_trace_take(vdc_guest_trace(guest), &level, line, sizeof(line))) {
            lines += strstr(line, "a disk failed") != NULL;
        }
    }
    cr_assert_eq(lines, 10);
}

Test(monitor_guest, a_source_that_cannot_have_its_disks_back_yet_tries_until_it_can)
{
    make_postmigrate();
    set_view(VDC_RUN_RUNNING, VDC_VIEW_LEASE_NONE);
    answer(VDC_QMP_QUERY_MIGRATE, "\"return\":{\"status\":\"completed\",\"downtime\":5}");
    cr_assert_eq(request(VDC_MONITOR_RESUME), VDC_RC_OK);
    answer(VDC_QMP_CONT, "\"error\":{\"desc\":\"disk is locked\"}");
    is_state(VDC_PHASE_POSTMIGRATE);
    pass(VDC_GUEST_CONT_RETRY_MS, "cont");
    cont_done();
}

Test(monitor_guest, a_cont_that_qemu_refuses_is_told_and_tried_again)
{
    make_loaded();
    cr_assert_eq(request(VDC_MONITOR_ACTIVATE), VDC_RC_OK);
    answer(VDC_QMP_CONT, "\"error\":{\"desc\":\"disk is locked\"}");
    is_state(VDC_PHASE_LOADED);
    cr_assert_not_null(strstr(vdc_guest_state(guest)->reason, "disk is locked"));
    cr_assert_str_eq(actions, "");
    pass(VDC_GUEST_CONT_RETRY_MS, "cont");
    answer(VDC_QMP_CONT, "\"error\":{\"desc\":\"disk is locked\"}");
    cr_assert_str_eq(actions, "");
    cr_assert_eq(request(VDC_MONITOR_RESUME), VDC_RC_OK);
    cr_assert_str_eq(actions, "cont");
}

/* ---- anything at any time ---- */

Test(monitor_guest, random_events_never_break_it_nor_let_it_run_without_a_lease)
{
    static const char *const lines[] = {
        "{\"event\":\"STOP\"}",
        "{\"event\":\"RESUME\"}",
        "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"active\"}}",
        "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"pre-switchover\"}}",
        "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"completed\"}}",
        "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"failed\"}}",
        "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"cancelled\"}}",
        "{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true}}",
        "{\"event\":\"GUEST_PANICKED\"}",
        "{\"QMP\":{}}",
        "{\"return\":{},\"id\":99}",
    };
    struct vdc_prng prng;

    vdc_prng_init(&prng, 1);
    for (int round = 0; round < 2000; round++) {
        bool runs = false; /* as QEMU would say */
        create(vdc_prng_below(&prng, 2) == 0);
        for (int i = 0; i < 60 && !update.ended; i++) {
            switch (vdc_prng_below(&prng, 8)) {
            case 0:
                qmp(lines[vdc_prng_below(&prng, VDC_COUNT_OF(lines))]);
                break;
            case 1:
            case 2:
                if (asked_count > 0) {
                    enum vdc_qmp_command command = asked[0].command;
                    bool refuse = vdc_prng_below(&prng, 6) == 0;
                    if (!refuse && command == VDC_QMP_CONT && !runs) {
                        runs = true;
                        event("RESUME");
                    } else if (!refuse && command == VDC_QMP_STOP && runs) {
                        runs = false;
                        event("STOP");
                    }
                    answer(command, refuse ? "\"error\":{\"desc\":\"no\"}" : "\"return\":{}");
                }
                break;
            case 3:
                (void)request((enum vdc_monitor_command)vdc_prng_below(&prng, 12));
                break;
            case 4:
                set_view((enum vdc_run)vdc_prng_below(&prng, VDC_RUN_COUNT),
                         now.ns + (int64_t)vdc_prng_below(&prng, 5000) * VDC_MS);
                break;
            case 5:
                now = vdc_mono_add(now, (int64_t)vdc_prng_below(&prng, 1500) * VDC_MS);
                tick();
                break;
            case 6:
                step((struct vdc_guest_event){.kind = VDC_GUEST_EV_CONNECTED,
                                              .ok = vdc_prng_below(&prng, 2) == 0,
                                              .text = "?"});
                break;
            default:
                if (vdc_prng_below(&prng, 10) == 0) {
                    step((struct vdc_guest_event){
                        .kind = VDC_GUEST_EV_EXITED, .exit_signal = 9, .text = ""});
                }
                break;
            }
            /* No order to run is ever given without a lease. */
            if (strstr(actions, "cont") != NULL && strstr(actions, "migrate-cont") == NULL) {
                cr_assert_lt(now.ns, view.lease_ns, "round %d", round);
            }
            cr_assert_lt(asked_count, 60);
            if (!update.ended && vdc_guest_deadline(guest).ns <= now.ns) {
                tick();
                cr_assert(
                    vdc_guest_deadline(guest).ns > now.ns || update.action_count > 0,
                    "round %d: state %s: a deadline that passed %lld ns ago and nothing to do",
                    round, vdc_phase_text(vdc_guest_state(guest)->state),
                    (long long)(now.ns - vdc_guest_deadline(guest).ns));
            }
        }
        fini();
    }
}
