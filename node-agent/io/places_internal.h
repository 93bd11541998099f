/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of places share:
 *
 *   places.c         the list of places, their views, finding them at the start and leaving them
 *   place_run.c      monitors: starting, watching, killing; the lock
 *   place_relay.c    migration streams
 *   place_console.c  console logs
 *   place_volumes.c  the files on the shared storage
 */
#ifndef VDC_NODE_AGENT_PLACES_INTERNAL_H
#define VDC_NODE_AGENT_PLACES_INTERNAL_H

#include <uthash.h>
#include <uv.h>

#include <vdc/agent.h>
#include <vdc/base.h>
#include <vdc/spawn.h>
#include <vdc/view.h>

#include "monitor_client.h"
#include "places.h"

#define PLACE_MAGIC UINT32_C(0x504c4143)
/* Console reads that wait for a monitor. */
#define CONSOLE_WAITS_MAX 256
/* Tickets of our own beside the core's. */
#define TICKET_OWN (UINT64_C(1) << 63)
/* "ID.GENERATION" with NUL. */
#define PLACE_KEY_CAP 64
/* Bytes of monitor.log or relay.log from which on a new one is begun; the last one is kept. */
#define PLACE_LOG_MAX (UINT64_C(1) << 20)

struct relay;
struct deletion;

struct place {
    uint32_t magic;
    struct vdc_agent_key key;
    UT_hash_handle hh;
    struct places *owner;
    char *dir;
    char *view_path;
    void *view; /* mapped; NULL: none */
    struct vdc_proc monitor;
    struct vdc_proc_watch *monitor_watch;
    struct vdc_proc qemu;
    struct vdc_proc_watch *qemu_watch;
    uv_timer_t *lock_timer; /* waits for the lock to be free; NULL: does not */
    uint32_t lock_polls;    /* since then */
    struct monitor_client *client;
    struct relay *relay;
    uint32_t slot; /* uid_base + slot; 0: none yet */
    bool have_last;
    struct vdc_agent_monitor_state last;
    uint64_t console_end;
};

struct console_wait {
    uint64_t ticket;
    struct vdc_agent_key key;
    uint32_t session;
    struct vdc_id request_id;
};

/* What came of an action at once: most are failures. */
struct outcome {
    struct vdc_agent_key key;
    enum vdc_agent_event_kind kind;
    enum vdc_rc rc;
    char text[VDC_ERR_TEXT_MAX];
};

struct places {
    struct places_config config;
    char *partitions_dir;
    char *views_dir;
    struct place *all;
    struct outcome *outcomes;
    size_t outcomes_len;
    size_t outcomes_cap;
    uint64_t tickets;
    struct console_wait waits[CONSOLE_WAITS_MAX];
    size_t waits_len;
    struct deletion *deletions;
    size_t deletions_len;
    struct vdc_view_content *content; /* too large for the stack */
};

/* places.c */
struct place *place_of(void *data);
struct place *place_find(struct places *places, const struct vdc_agent_key *key);
struct place *place_find_or_add(struct places *places, const struct vdc_agent_key *key);
void place_key_text(const struct vdc_agent_key *key, char text[PLACE_KEY_CAP]);
/* An event of the loop; never from within an action. */
void place_deliver(struct place *place, struct vdc_agent_event *event);
/* From within an action. */
void place_tell_later(struct places *places, const struct vdc_agent_key *key,
                      enum vdc_agent_event_kind kind, enum vdc_rc rc, const char *text);
void place_fail_later(struct places *places, const struct vdc_agent_key *key,
                      enum vdc_agent_event_kind kind, const struct vdc_err *err);
enum vdc_rc place_map_view(struct place *place, struct vdc_err *err) VDC_MUST_USE;
/* Puts the log `name` aside where it has grown large: programs append to it over many starts. */
void place_turn_log(const struct place *place, const char *name);

/* place_run.c */
enum vdc_rc place_watch_monitor(struct place *place, struct vdc_err *err) VDC_MUST_USE;
/* True: processes of the guest live on; they are killed, and GONE comes when they have ended. */
bool place_await_lock(struct place *place);
void place_stop_lock_timer(struct place *place);

/* place_relay.c */
/* The agent ends: the relay goes on without us. */
void place_leave_relay(struct place *place);

/* place_console.c */
/* Reads that wait for a monitor that has ended. */
void place_answer_waits(struct place *place);
void place_take_console(struct place *place, uint64_t ticket, enum vdc_rc rc, const char *text,
                        const struct monitor_console *console);

/* place_volumes.c */
char *place_volume_path(const struct places *places, const char *volume); /* caller frees */
/* Makes the file where it is missing. CONFLICT: it has another size. UNAVAILABLE: no storage. */
enum vdc_rc place_make_volume(const struct places *places, const char *volume, uint64_t bytes,
                              struct vdc_err *err) VDC_MUST_USE;
/* The agent ends: deletions under way end by themselves, unanswered. */
void place_leave_deletions(struct places *places);

#endif
