/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step() takes an event to the core and carries out the actions in their order. Nothing that it calls
 * calls back into step(): what fails at once is delivered afterwards, by agent_places_deliver().
 */
#include "driver.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <vdc/agent.h>
#include <vdc/base.h>
#include <vdc/clock.h>
#include <vdc/entropy.h>
#include <vdc/file.h>
#include <vdc/journal.h>
#include <vdc/log.h>

#include "control.h"
#include "devices.h"
#include "discover.h"
#include "places.h"
#include "sessions.h"

#define DRIVER_MAGIC UINT32_C(0x44524956)
/* Bytes of journal behind the last snapshot before the next one: a recovery replays that in well
 * below a second. */
#define SNAPSHOT_AFTER_BYTES (UINT64_C(32) << 20)

struct driver {
    uint32_t magic;
    uv_loop_t *loop;
    const struct agent_config *config;
    struct vdc_journal *journal;
    struct vdc_agent *agent;
    struct places *places;
    struct sessions *sessions;
    struct control *control;
    uv_timer_t timer;
    uv_timer_t rescan; /* for devices that were plugged in or pulled out */
    struct devices devices;
    uv_signal_t term;
    uv_signal_t interrupt;
    bool disk_full; /* the journal said so */
    bool stepping;
    bool stopping;
    struct vdc_allocdb *recovered; /* while the journal is read */
    struct vdc_buf frame;
};

static struct driver *driver_of(void *data)
{
    struct driver *driver;
    VDC_CAST(driver, data, DRIVER_MAGIC);
    return driver;
}

static void step(struct driver *driver, struct vdc_agent_event *event);

/* --- journal --- */

static void on_snapshot_done(void *data, enum vdc_rc rc, const char *text)
{
    (void)data;
    if (rc != VDC_RC_OK) {
        vdc_log_error("journal: snapshot: %s", text);
    }
}

static void snapshot_when_due(struct driver *driver)
{
    if (vdc_journal_replay_bytes(driver->journal) < SNAPSHOT_AFTER_BYTES) {
        return;
    }
    const struct vdc_allocdb *db = vdc_agent_allocdb(driver->agent);
    struct vdc_buf data = {0};
    vdc_allocdb_snapshot(db, &data);
    enum vdc_rc rc = vdc_journal_snapshot(driver->journal, vdc_allocdb_sequence(db), &data,
                                          on_snapshot_done, driver);
    if (rc != VDC_RC_OK && rc != VDC_RC_CONFLICT) {
        vdc_log_error("journal: snapshot: %s", vdc_rc_sentence(rc));
    }
    vdc_buf_deinit(&data);
}

static void on_durable(void *data, uint64_t sequence)
{
    struct driver *driver = driver_of(data);
    if (driver->stopping || sequence < vdc_journal_durable(driver->journal)) {
        return; /* the last of its group speaks for all */
    }
    struct vdc_agent_event event = {.kind = VDC_AGENT_DURABLE, .sequence = sequence};
    step(driver, &event);
    snapshot_when_due(driver);
}

static enum vdc_rc on_recovered_snapshot(void *data, uint64_t sequence, const void *bytes,
                                         size_t len, struct vdc_err *err)
{
    struct driver *driver = driver_of(data);
    (void)sequence;
    vdc_allocdb_destroy(driver->recovered);
    driver->recovered = NULL;
    return vdc_allocdb_restore(bytes, len, &driver->recovered, err);
}

static enum vdc_rc on_recovered_record(void *data, uint64_t sequence, const void *bytes, size_t len,
                                       struct vdc_err *err)
{
    (void)sequence;
    return vdc_allocdb_apply_record(driver_of(data)->recovered, bytes, len, err);
}

static enum vdc_rc open_journal(struct driver *driver, struct vdc_err *err)
{
    vdc_autofree char *dir = vdc_asprintf("%s/journal", driver->config->state_dir);
    enum vdc_rc rc = vdc_dir_make(driver->config->state_dir, 0700, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    driver->recovered = vdc_allocdb_create();
    struct vdc_journal_options options = {
        .dir = dir,
        .seed = vdc_entropy_seed(),
        .on_snapshot = on_recovered_snapshot,
        .on_record = on_recovered_record,
        .ctx = driver,
    };
    struct vdc_journal_report report;
    rc = vdc_journal_open(&driver->journal, driver->loop, &options, &report, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct vdc_digest digest = vdc_allocdb_digest(driver->recovered);
    char text[VDC_DIGEST_TEXT_CAP];
    vdc_digest_to_text(&digest, text);
    vdc_log_info("journal: sequence %llu, digest %s, %llu records replayed",
                 (unsigned long long)report.last_sequence, text,
                 (unsigned long long)report.records);
    if (report.torn_bytes > 0) {
        vdc_log_warn("journal: %s: %llu bytes torn at offset %llu -> cut", report.torn_file,
                     (unsigned long long)report.torn_bytes, (unsigned long long)report.torn_offset);
    }
    return rc;
}

/* --- actions --- */

static void send_msg(struct driver *driver, uint32_t session, const struct vdc_msg *msg)
{
    vdc_buf_clear(&driver->frame);
    vdc_msg_encode(msg, &driver->frame);
    agent_sessions_send(driver->sessions, session, driver->frame.data, driver->frame.len);
}

static void act(struct driver *driver, const struct vdc_agent_action *action)
{
    switch (action->kind) {
    case VDC_AGENT_DO_JOURNAL:
        vdc_journal_append(driver->journal, action->journal.sequence, action->journal.data,
                           action->journal.len, on_durable, driver);
        break;
    case VDC_AGENT_DO_PUBLISH:
        agent_places_publish(driver->places, vdc_agent_allocdb(driver->agent), &action->key);
        break;
    case VDC_AGENT_DO_LEASE:
        agent_places_set_lease(driver->places, &action->key, action->lease_ns);
        break;
    case VDC_AGENT_DO_START:
        agent_places_start(driver->places, action);
        break;
    case VDC_AGENT_DO_KILL:
        agent_places_kill(driver->places, &action->key);
        break;
    case VDC_AGENT_DO_ASK:
        agent_places_ask(driver->places, action);
        break;
    case VDC_AGENT_DO_HANDOVER:
        agent_places_mark_handover(driver->places, &action->key, action->handover);
        break;
    case VDC_AGENT_DO_RELAY:
        agent_places_start_relay(driver->places, action);
        break;
    case VDC_AGENT_DO_RELAY_STOP:
        agent_places_stop_relay(driver->places, &action->key);
        break;
    case VDC_AGENT_DO_FORGET:
        agent_places_forget(driver->places, &action->key);
        break;
    case VDC_AGENT_DO_REMOVE:
        agent_places_remove(driver->places, &action->key);
        break;
    case VDC_AGENT_DO_VOLUME_DELETE:
        agent_places_delete_volume(driver->places, action);
        break;
    case VDC_AGENT_DO_CONSOLE:
        agent_places_read_console(driver->places, action);
        break;
    case VDC_AGENT_DO_SEND:
        send_msg(driver, action->send.session, action->send.msg);
        break;
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct vdc_agent_event event = {.kind = VDC_AGENT_TICK};
    step(driver_of(timer->data), &event);
}

static void arm(struct driver *driver)
{
    vdc_mono deadline = vdc_agent_deadline(driver->agent);
    if (vdc_mono_is_never(deadline)) {
        uv_timer_stop(&driver->timer);
        return;
    }
    int64_t wait = vdc_mono_sub(deadline, vdc_clock_mono());
    /* Rounded up: a timer that comes before its deadline would only come again. */
    uint64_t ms = wait <= 0 ? 0 : (uint64_t)((wait + VDC_MS - 1) / VDC_MS);
    /* libuv counts from its loop's cached time, which may lag behind after a long step. */
    uv_update_time(driver->loop);
    uv_timer_start(&driver->timer, on_timer, ms, 0);
}

/* Whether the journal takes records; what an operator can do about it is logged once. */
static enum vdc_rc ask_journal(struct driver *driver)
{
    struct vdc_err err;
    enum vdc_rc rc = vdc_journal_check_space(driver->journal, &err);
    bool full = rc == VDC_RC_NO_SPACE;
    if (full && !driver->disk_full) {
        vdc_log_error("%s -> transactions are refused, all else goes on", err.text);
    } else if (rc == VDC_RC_OK && driver->disk_full) {
        vdc_log_info("journal: there is room again -> transactions are taken");
    }
    driver->disk_full = rc == VDC_RC_LIMIT ? driver->disk_full : full;
    return rc;
}

static void step(struct driver *driver, struct vdc_agent_event *event)
{
    if (driver->stopping) {
        return;
    }
    VDC_ASSERT(!driver->stepping);
    driver->stepping = true;
    event->now = vdc_clock_mono();
    event->journal = ask_journal(driver);
    event->sessions_busy = driver->sessions != NULL ? agent_sessions_busy(driver->sessions) : 0;
    struct vdc_agent_update *update = vdc_agent_step(driver->agent, event);
    for (size_t i = 0; i < update->actions_len; i++) {
        act(driver, &update->actions[i]);
    }
    vdc_log_trace(&update->trace);
    driver->stepping = false;
    agent_places_deliver(driver->places);
    arm(driver);
}

/* --- events --- */

static void on_place_event(void *data, struct vdc_agent_event *event)
{
    step(driver_of(data), event);
}

static void on_command_result(void *data, uint32_t session,
                              const struct vdc_msg_command_result *result)
{
    struct driver *driver = driver_of(data);
    struct vdc_msg msg = {.kind = VDC_MSG_COMMAND_RESULT, .command_result = *result};
    if (!driver->stopping) {
        send_msg(driver, session, &msg);
    }
}

static void on_session_up(void *data, uint32_t index, const char *manager)
{
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_UP};
    event.session.index = index;
    event.session.manager = manager;
    step(driver_of(data), &event);
}

static void on_session_frame(void *data, uint32_t index, const uint8_t *frame, size_t len)
{
    struct driver *driver = driver_of(data);
    struct vdc_msg *msg = VDC_NEW(struct vdc_msg);
    struct vdc_err err;
    if (vdc_msg_decode(frame, len, msg, &err) != VDC_RC_OK) {
        vdc_log_warn("session %u: %s -> the frame is ignored", index, vdc_err_text(&err));
    } else {
        struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_MSG};
        event.session.index = index;
        event.session.msg = msg;
        step(driver, &event);
        vdc_msg_deinit(msg);
    }
    free(msg);
}

static void on_session_drained(void *data, uint32_t index)
{
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_DRAINED};
    event.session.index = index;
    step(driver_of(data), &event);
}

static void on_session_down(void *data, uint32_t index)
{
    struct vdc_agent_event event = {.kind = VDC_AGENT_SESSION_DOWN};
    event.session.index = index;
    step(driver_of(data), &event);
}

static const struct sessions_handlers session_handlers = {
    .on_up = on_session_up,
    .on_frame = on_session_frame,
    .on_drained = on_session_drained,
    .on_down = on_session_down,
};

static void on_signal(uv_signal_t *signal, int number)
{
    vdc_log_info("signal %d -> the agent ends, its guests go on", number);
    agent_driver_stop(driver_of(signal->data));
}

/* --- opening --- */

static void fill_hello(const struct driver *driver, const struct inventory *inventory,
                       const struct accelerator *accelerator, struct vdc_msg_hello *hello)
{
    const struct agent_config *config = driver->config;
    vdc_str_set(hello->node, sizeof hello->node, config->name);
    vdc_str_set(hello->rack, sizeof hello->rack, config->rack);
    memcpy(hello->labels, config->labels, sizeof hello->labels);
    hello->labels_len = config->labels_len;
    vdc_str_set(hello->address, sizeof hello->address, config->address);
    vdc_str_set(hello->agent_version, sizeof hello->agent_version, VDC_VERSION);
    hello->cpus = inventory->cpus_offered;
    for (uint32_t i = 0; i < inventory->numa_len; i++) {
        struct vdc_msg_numa *numa = &hello->numa[hello->numa_len++];
        numa->id = inventory->numa[i].number;
        numa->memory_bytes = inventory->memory_offered[i];
        for (uint32_t k = 0; k < inventory->cpus_offered; k++) {
            numa->cpus += inventory->cpus[k].numa == numa->id;
        }
    }
    vdc_str_set(hello->cpu_model, sizeof hello->cpu_model, inventory->cpu_model);
    vdc_str_set(hello->accelerator, sizeof hello->accelerator, accelerator->name);
    vdc_str_set(hello->accelerator_reason, sizeof hello->accelerator_reason, accelerator->reason);
    struct vdc_buf boot = {0};
    struct vdc_id id;
    if (vdc_file_read("/proc/sys/kernel/random/boot_id", 128, &boot, NULL) == VDC_RC_OK &&
        boot.len >= VDC_ID_TEXT_CAP - 1) {
        boot.data[VDC_ID_TEXT_CAP - 1] = 0;
        if (vdc_id_from_text(boot.data, &id)) {
            memcpy(hello->boot_id, id.bytes, sizeof hello->boot_id);
        }
    }
    vdc_buf_deinit(&boot);
}

/* False: they are the same as at the last look. */
static bool read_devices(struct driver *driver)
{
    struct devices now;
    agent_devices_read("", &now);
    bool changed = !agent_devices_equal(&now, &driver->devices);
    if (changed && now.more) {
        vdc_log_warn("devices: more than %d -> the others are not recorded", DEVICES_MAX);
    }
    agent_devices_deinit(&driver->devices);
    driver->devices = now;
    return changed;
}

static void on_rescan(uv_timer_t *timer)
{
    struct driver *driver = driver_of(timer->data);
    if (read_devices(driver)) {
        struct vdc_agent_event event = {.kind = VDC_AGENT_DEVICES};
        event.devices.list = driver->devices.list;
        event.devices.len = driver->devices.len;
        step(driver, &event);
    }
}

static enum vdc_rc make_agent(struct driver *driver, const char *program_dir, struct vdc_err *err)
{
    vdc_autofree struct inventory *inventory = VDC_NEW(struct inventory);
    enum vdc_rc rc = agent_discover_inventory("", inventory, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    uint32_t cpus = inventory->cpus_len;
    rc = agent_discover_divide(inventory, &driver->config->division, err);
    if (rc != VDC_RC_OK) {
        agent_discover_deinit(inventory);
        return rc;
    }
    if (inventory->cpus_len < cpus) {
        vdc_log_warn("inventory: %u CPUs are beyond what is offered and what the ultravisor can "
                     "have -> left out",
                     cpus - inventory->cpus_len);
    }
    read_devices(driver);
    vdc_autofree char *monitor = vdc_asprintf("%s/%s", program_dir, PLACES_MONITOR);
    vdc_autofree char *cache = vdc_asprintf("%s/probe.json", driver->config->run_dir);
    struct accelerator accelerator;
    agent_discover_accelerator(monitor, cache, &accelerator);
    vdc_log_info("accelerator %s: %s", accelerator.name, accelerator.reason);
    vdc_autofree struct vdc_agent_config *config = VDC_NEW(struct vdc_agent_config);
    fill_hello(driver, inventory, &accelerator, &config->hello);
    config->cpus = inventory->cpus;
    config->cpus_len = inventory->cpus_len;
    config->numa = inventory->numa;
    config->numa_len = inventory->numa_len;
    config->systems = inventory->systems;
    config->systems_len = inventory->systems_len;
    config->devices = driver->devices.list;
    config->devices_len = driver->devices.len;
    driver->agent = vdc_agent_create(config, driver->recovered);
    driver->recovered = NULL;
    agent_discover_deinit(inventory);
    struct places_config places = {
        .loop = driver->loop,
        .agent = driver->config,
        .program_dir = program_dir,
        .accelerator = strcmp(accelerator.name, "kvm") == 0 ? "kvm" : "tcg",
        .on_event = on_place_event,
        .on_command_result = on_command_result,
        .data = driver,
    };
    return agent_places_open(&places, &driver->places, err);
}

static void begin(struct driver *driver)
{
    agent_places_find(driver->places);
    struct vdc_agent_event event = {.kind = VDC_AGENT_RECOVERED};
    step(driver, &event);
    uv_timer_start(&driver->rescan, on_rescan, DEVICES_RESCAN_MS, DEVICES_RESCAN_MS);
}

static enum vdc_rc open_parts(struct driver *driver, const char *program_dir, struct vdc_err *err)
{
    enum vdc_rc rc = vdc_dir_make(driver->config->run_dir, 0755, err);
    if (rc == VDC_RC_OK) {
        rc = open_journal(driver, err);
    }
    if (rc == VDC_RC_OK) {
        rc = make_agent(driver, program_dir, err);
    }
    if (rc == VDC_RC_OK) {
        rc = agent_control_open(driver->loop, driver->config->run_dir, driver->agent,
                                &driver->control, err);
    }
    if (rc == VDC_RC_OK) {
        rc = agent_sessions_open(driver->loop, driver->config, &session_handlers, driver,
                                 &driver->sessions, err);
    }
    return rc;
}

enum vdc_rc agent_driver_open(uv_loop_t *loop, const struct agent_config *config,
                              const char *program_dir, struct driver **out, struct vdc_err *err)
{
    struct driver *driver = VDC_NEW(struct driver);
    driver->magic = DRIVER_MAGIC;
    driver->loop = loop;
    driver->config = config;
    uv_timer_init(loop, &driver->timer);
    uv_timer_init(loop, &driver->rescan);
    uv_signal_init(loop, &driver->term);
    uv_signal_init(loop, &driver->interrupt);
    driver->timer.data = driver;
    driver->rescan.data = driver;
    driver->term.data = driver;
    driver->interrupt.data = driver;
    enum vdc_rc rc = open_parts(driver, program_dir, err);
    *out = driver;
    if (rc != VDC_RC_OK) {
        agent_driver_stop(driver);
        return rc;
    }
    uv_signal_start(&driver->term, on_signal, SIGTERM);
    uv_signal_start(&driver->interrupt, on_signal, SIGINT);
    begin(driver);
    return rc;
}

void agent_driver_stop(struct driver *driver)
{
    if (driver->stopping) {
        return;
    }
    driver->stopping = true;
    agent_sessions_close(driver->sessions);
    driver->sessions = NULL;
    agent_control_close(driver->control);
    driver->control = NULL;
    agent_places_close(driver->places);
    driver->places = NULL;
    uv_close((uv_handle_t *)&driver->timer, NULL);
    uv_close((uv_handle_t *)&driver->rescan, NULL);
    uv_close((uv_handle_t *)&driver->term, NULL);
    uv_close((uv_handle_t *)&driver->interrupt, NULL);
    if (driver->journal != NULL) {
        vdc_journal_close(driver->journal, NULL, NULL);
        driver->journal = NULL;
    }
}

void agent_driver_free(struct driver *driver)
{
    if (driver == NULL) {
        return;
    }
    VDC_ASSERT(driver->stopping);
    vdc_agent_destroy(driver->agent);
    vdc_allocdb_destroy(driver->recovered);
    vdc_buf_deinit(&driver->frame);
    agent_devices_deinit(&driver->devices);
    driver->magic = 0;
    free(driver);
}
