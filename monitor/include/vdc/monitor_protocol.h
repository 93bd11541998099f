/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off: the columns below are meant so. */
/*
 * The control protocol between vdc-monitor and the node agent (or a test, or a person with a
 * socket tool): the messages, their JSON, and a codec for both sides (library
 * vdc-monitor-protocol: base and jansson only, no sockets, no clock).
 *
 * Transport: the unix stream socket DIR/monitor.sock, mode 0600. One JSON object per line in both
 * directions, a line is at most VDC_MONITOR_LINE_MAX bytes. Several clients may be connected
 * (VDC_MONITOR_CLIENTS_MAX); each gets every `state` event. A line that is too long, no JSON
 * object or has an unknown command is answered with rc INVALID (id 0 where the id could not be
 * read); after one that is too long the connection is closed.
 *
 * On connect the monitor first sends one complete `state` event. It sends another one after every
 * change of anything in it (migration progress: at most 5 a second). So a client that has lost its
 * connection loses nothing: the first line after connecting again is the whole truth.
 *
 * Requests: {"id": N, "command": "NAME", ...}. Each gets exactly one reply, in any order:
 *   {"id": N, "rc": "OK"} or {"id": N, "rc": "CONFLICT", "error": "a sentence"}.
 * A reply OK to a command that takes time (stop, migrate_out, ...) says that it was begun; how it
 * went is told by the state events. Commands:
 *
 *   status                        reply has "state": the same object as in the event
 *   refresh                       the view has changed: read it now (else within 1 s)
 *   pause                         hold the guest, until `resume`, whatever the view says
 *   resume                        end that hold; the guest runs if view and lease allow it.
 *                                 In `postmigrate`: the migration was aborted, run here again (the
 *                                 caller has made sure that the target is gone or will not run)
 *   stop        timeout_s         ACPI power button, after timeout_s (default 10) quit, then kill
 *   kill                          SIGKILL to QEMU at once; the monitor reports and ends
 *   migrate_out unix max_bandwidth downtime_ms
 *                                 connect to the unix socket (a relay) and send the guest there;
 *                                 max_bandwidth in bytes/s (0: 1 GiB/s), downtime_ms is QEMU's
 *                                 downtime-limit (0: 50). States: migrating -> switchover
 *   migrate_continue              in `switchover`: hand over. -> handover -> postmigrate
 *   migrate_cancel                in `migrating` or `switchover`: the guest goes on here
 *   migrate_in  unix              in `incoming`: connect to the unix socket and load from there.
 *                                 -> loading -> loaded
 *   activate                      in `loaded`: this side owns the guest now: run it. -> running
 *                                 (Only this command starts a loaded guest; its view may say
 *                                 `incoming` or `running`, but not paused or stopped.)
 *   console_read offset max       reply has "console": {"offset","end","data"}
 *
 * The guest runs if and only if: it was started or activated, no `pause` holds it, the view says
 * running, and the run lease in the view is valid (or none is needed). So long before the lease's end
 * (VDC_GUEST_LEASE_MARGIN_MS, guest.h) that it stands still at it, the guest is paused (state `paused`,
 * reason `lease`); if that is not confirmed by then, or the lease is not renewed within the grace time,
 * QEMU is killed. A guest that QEMU itself stopped, or would not run, is tried again (guest.h).
 *
 * Migration, who may do what (architecture.md 7.2). The source in `switchover`, `handover` and
 * `postmigrate` does not run the guest; up to `handover` QEMU may resume it by itself when the
 * migration fails, from `postmigrate` on only `resume` does. The target never runs before
 * `activate`. Hence the caller commits the change of owner only after it has seen `postmigrate`
 * here AND `loaded` there, sends `activate` after the commit, and `kill`s the source.
 * When `postmigrate` is reported, everything the guest printed here is in the console log: the
 * source's log followed by the target's is the exact byte stream.
 *
 * When QEMU has ended (stopped or failed), the last state is also written to DIR/final.json (one
 * line, the state object), the event is sent, and the monitor ends with exit status 0 (stopped)
 * or 3 (failed). A monitor that vanished without final.json was killed; its QEMU died with it.
 */
/* clang-format on */
#ifndef VDC_MONITOR_PROTOCOL_H
#define VDC_MONITOR_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/buf.h>
#include <vdc/err.h>
#include <vdc/limits.h>
#include <vdc/phase.h>

/* Bytes of one line: a console_read reply of VDC_MONITOR_CONSOLE_READ_MAX in base64 fits. */
#define VDC_MONITOR_LINE_MAX 65536
/* Bytes of console text in one reply. */
#define VDC_MONITOR_CONSOLE_READ_MAX 32768
/* Connections to one monitor: the agent, the one it is just replaced by, and people. */
#define VDC_MONITOR_CLIENTS_MAX 8
/* Bytes of a path in a request, without NUL: longer than sockaddr_un's (see vdc_unix_path_open). */
#define VDC_MONITOR_PATH_MAX 1023
/* Bytes of a reason or error sentence. */
#define VDC_MONITOR_TEXT_MAX 255
/* DIR/console.base (console.h): the bytes of its text. */
#define VDC_CONSOLE_BASE_FILE "console.base"
#define VDC_CONSOLE_BASE_LEN 21
/* Seconds for a `stop`: an hour is longer than any guest needs to shut down. */
#define VDC_MONITOR_STOP_TIMEOUT_MAX 3600
#define VDC_MONITOR_STOP_TIMEOUT_DEFAULT 10
/* Milliseconds of downtime that a migration may ask for: QEMU's own limit for downtime-limit. */
#define VDC_MONITOR_DOWNTIME_MS_MAX 2000000

enum vdc_guest_migration_dir { VDC_MIGRATION_NONE, VDC_MIGRATION_OUT, VDC_MIGRATION_IN };

/* How the current or last migration stands. */
#define VDC_MIGRATION_STATUS_LIST(X) \
    X(NONE, "none")                  \
    X(ACTIVE, "active")              \
    X(SWITCHOVER, "switchover")      \
    X(COMPLETED, "completed")        \
    X(CANCELLED, "cancelled")        \
    X(FAILED, "failed")

enum vdc_guest_migration_status {
#define X(name, text) VDC_MIGRATION_STATUS_##name,
    VDC_MIGRATION_STATUS_LIST(X)
#undef X
};

const char *vdc_guest_migration_status_text(enum vdc_guest_migration_status status);

struct vdc_monitor_migration {
    enum vdc_guest_migration_dir dir;
    enum vdc_guest_migration_status status;
    uint64_t bytes_total;       /* of guest memory; 0: not known yet (always on the target) */
    uint64_t bytes_transferred; /* sent so far, over all passes */
    uint64_t bytes_remaining;
    uint64_t dirty_bytes_per_s;
    int64_t started_ns; /* CLOCK_BOOTTIME, 0: not yet. So are the next two */
    int64_t stopped_ns; /* source: the guest was stopped for the switch-over */
    int64_t resumed_ns; /* target: QEMU confirmed that the guest runs; source: it runs here again */
    int64_t
        qemu_downtime_ms;  /* QEMU's own figure at the source, from its stop to the end of sending
                                 * (so with the wait in switchover); -1: not known */
    int64_t qemu_total_ms; /* the same for the whole migration; -1: not known */
    char error[VDC_MONITOR_TEXT_MAX + 1]; /* why it failed; "" otherwise */
};

/* Everything that the monitor knows; JSON names are the field names, dir/status/state as texts. */
struct vdc_monitor_state {
    char name[VDC_NAME_CAP]; /* of the partition */
    enum vdc_phase state;
    char reason[VDC_MONITOR_TEXT_MAX + 1]; /* why it is in this state, a phrase */
    uint64_t generation;                   /* in the view */
    bool lease_needed;
    int64_t lease_deadline_ns; /* in the view, CLOCK_BOOTTIME; 0: none */
    int64_t monitor_pid;       /* pids as seen in the monitor's own pid namespace */
    uint64_t monitor_start;    /* clock ticks, field 22 of /proc/PID/stat */
    int64_t qemu_pid;          /* 0: not running */
    uint64_t qemu_start;
    char accelerator[8];      /* "kvm" or "tcg" */
    bool confined;            /* false only for --unconfined */
    bool responsive;          /* false: QEMU did not answer QMP in time (a hung backend?) */
    int64_t running_since_ns; /* CLOCK_BOOTTIME of the first or last start of the guest; 0 */
    uint64_t resets;          /* the guest rebooted itself so many times */
    bool panicked;            /* the guest's kernel reported a panic */
    uint64_t console_end;     /* bytes that the guest has printed so far */
    bool ended;               /* QEMU has ended; then one of the next two is set */
    int32_t exit_code;
    int32_t exit_signal;
    struct vdc_monitor_migration migration;
};

#define VDC_MONITOR_COMMAND_LIST(X)         \
    X(STATUS, "status")                     \
    X(REFRESH, "refresh")                   \
    X(PAUSE, "pause")                       \
    X(RESUME, "resume")                     \
    X(STOP, "stop")                         \
    X(KILL, "kill")                         \
    X(MIGRATE_OUT, "migrate_out")           \
    X(MIGRATE_CONTINUE, "migrate_continue") \
    X(MIGRATE_CANCEL, "migrate_cancel")     \
    X(MIGRATE_IN, "migrate_in")             \
    X(ACTIVATE, "activate")                 \
    X(CONSOLE_READ, "console_read")

enum vdc_monitor_command {
#define X(name, text) VDC_MONITOR_##name,
    VDC_MONITOR_COMMAND_LIST(X)
#undef X
};

const char *vdc_monitor_command_text(enum vdc_monitor_command command);

struct vdc_monitor_request {
    uint64_t id; /* the client's, echoed in the reply; at most 2^63 - 1 */
    enum vdc_monitor_command command;
    uint32_t timeout_s;                       /* stop */
    char unix_path[VDC_MONITOR_PATH_MAX + 1]; /* migrate_out, migrate_in: absolute */
    uint64_t max_bandwidth;                   /* migrate_out, bytes/s; 0: default */
    uint32_t downtime_ms;                     /* migrate_out; 0: default */
    uint64_t offset; /* console_read: first byte wanted, 0: since the start */
    uint32_t max;    /* console_read: 1..VDC_MONITOR_CONSOLE_READ_MAX; 0: that */
};

/* A piece of the console's byte stream. */
struct vdc_monitor_console {
    uint64_t offset; /* of data[0]; larger than asked when that part is no longer kept */
    uint64_t end;    /* bytes printed so far; offset + len == end: all was read */
    size_t len;
    char *data; /* owned by the message; not text: may hold any byte */
};

enum vdc_monitor_message_kind { VDC_MONITOR_MESSAGE_STATE, VDC_MONITOR_MESSAGE_REPLY };

/* What a client receives. */
struct vdc_monitor_message {
    enum vdc_monitor_message_kind kind;
    /* REPLY */
    uint64_t id;
    enum vdc_rc rc;
    char error[VDC_MONITOR_TEXT_MAX + 1];
    bool has_console;
    struct vdc_monitor_console console;
    /* STATE, and the reply to `status` (has_state) */
    bool has_state;
    struct vdc_monitor_state state;
};

/* Client side. Appends the line with its '\n'. */
void vdc_monitor_request_encode(const struct vdc_monitor_request *request, struct vdc_buf *out);
/* Reads one line (without '\n'). PROTOCOL with the reason in err when it is no message: unknown
 * fields are ignored (a newer monitor), missing or mistyped ones are not. message is filled only on
 * OK and then freed by vdc_monitor_message_deinit. */
enum vdc_rc vdc_monitor_message_decode(const char *line, size_t len,
                                       struct vdc_monitor_message *message,
                                       struct vdc_err *err) VDC_MUST_USE;
void vdc_monitor_message_deinit(struct vdc_monitor_message *message);

/* Monitor side. INVALID with the reason in err; request->id is set if it could be read. Unknown
 * fields are refused: a mistyped one would silently mean its default. */
enum vdc_rc vdc_monitor_request_decode(const char *line, size_t len,
                                       struct vdc_monitor_request *request,
                                       struct vdc_err *err) VDC_MUST_USE;
void vdc_monitor_message_encode(const struct vdc_monitor_message *message, struct vdc_buf *out);
/* The state object alone as one line with '\n': final.json. */
void vdc_monitor_state_encode(const struct vdc_monitor_state *state, struct vdc_buf *out);
/* Reads final.json. CORRUPT with the reason in err. */
enum vdc_rc vdc_monitor_state_decode(const char *line, size_t len, struct vdc_monitor_state *state,
                                     struct vdc_err *err) VDC_MUST_USE;

/*
 * Unix socket paths longer than sockaddr_un takes (107 bytes): opens the directory of `path` and
 * writes a short path through /proc/self/fd/N to `out`, to be used in bind or connect while *dirfd
 * is open; where the path is short enough it is copied and *dirfd is -1. The caller closes *dirfd
 * (if not -1) after bind or connect. INVALID for a path without a '/'; errno's translation if the
 * directory cannot be opened.
 */
#define VDC_UNIX_PATH_CAP 108
enum vdc_rc vdc_unix_path_open(const char *path, char out[VDC_UNIX_PATH_CAP], int *dirfd,
                               struct vdc_err *err) VDC_MUST_USE;

#endif
