/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's control language (docs/interop/qmp-spec.txt and qapi/ in QEMU's source), as far as the
 * monitor speaks it: commands to text, messages from text. Pure; the socket is io/qemu.c's. QEMU is
 * not trusted: its lines are bounded and validated.
 */
#ifndef VDC_QMP_H
#define VDC_QMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/buf.h>
#include <vdc/err.h>

/* Bytes of one line from QEMU: the largest answer that we ask for (query-migrate) is under 4 KiB,
 * events are smaller; names of devices in errors may be long. */
#define VDC_QMP_LINE_MAX 65536
/* Bytes of an error's text that are kept. */
#define VDC_QMP_TEXT_CAP 256

/* X(name, command on the wire) */
#define VDC_QMP_COMMAND_LIST(X)                           \
    X(CAPABILITIES, "qmp_capabilities")                   \
    X(MIGRATION_CAPABILITIES, "migrate-set-capabilities") \
    X(MIGRATION_PARAMETERS, "migrate-set-parameters")     \
    X(GETFD, "getfd")                                     \
    X(MIGRATE, "migrate")                                 \
    X(MIGRATE_INCOMING, "migrate-incoming")               \
    X(MIGRATE_CONTINUE, "migrate-continue")               \
    X(MIGRATE_CANCEL, "migrate_cancel")                   \
    X(QUERY_MIGRATE, "query-migrate")                     \
    X(CONT, "cont")                                       \
    X(STOP, "stop")                                       \
    X(POWERDOWN, "system_powerdown")                      \
    X(QUIT, "quit")

enum vdc_qmp_command {
#define X(name, text) VDC_QMP_##name,
    VDC_QMP_COMMAND_LIST(X)
#undef X
};

const char *vdc_qmp_command_text(enum vdc_qmp_command command);

/* The name under which a migration's socket is passed to QEMU. */
#define VDC_QMP_MIGRATION_FD "migration"

struct vdc_qmp_params {
    bool incoming;          /* MIGRATION_CAPABILITIES: of a target; else of a source */
    uint64_t max_bandwidth; /* MIGRATION_PARAMETERS, bytes/s */
    uint32_t downtime_ms;   /* MIGRATION_PARAMETERS */
};

/* Appends the command as one line. GETFD's descriptor goes beside it as SCM_RIGHTS. */
void vdc_qmp_command_encode(enum vdc_qmp_command command, const struct vdc_qmp_params *params,
                            uint64_t id, struct vdc_buf *out);

enum vdc_qmp_message_kind {
    VDC_QMP_GREETING,
    VDC_QMP_RETURN,
    VDC_QMP_ERROR,
    VDC_QMP_EVENT,
};

enum vdc_qmp_event {
    VDC_QMP_EVENT_OTHER, /* one that changes nothing for us */
    VDC_QMP_EVENT_STOP,
    VDC_QMP_EVENT_RESUME,
    VDC_QMP_EVENT_RESET,
    VDC_QMP_EVENT_SHUTDOWN,
    VDC_QMP_EVENT_POWERDOWN,
    VDC_QMP_EVENT_MIGRATION,
    VDC_QMP_EVENT_PANICKED,
    VDC_QMP_EVENT_IO_ERROR,
};

/* MigrationStatus of qapi/migration.json, those that a precopy goes through. */
enum vdc_qmp_migration {
    VDC_QMP_MIGRATION_NONE,
    VDC_QMP_MIGRATION_ACTIVE, /* setup, active, and what we never ask for */
    VDC_QMP_MIGRATION_PRE_SWITCHOVER,
    VDC_QMP_MIGRATION_DEVICE,
    VDC_QMP_MIGRATION_COMPLETED,
    VDC_QMP_MIGRATION_CANCELLING,
    VDC_QMP_MIGRATION_CANCELLED,
    VDC_QMP_MIGRATION_FAILED,
};

struct vdc_qmp_message {
    enum vdc_qmp_message_kind kind;
    uint64_t id;                      /* RETURN, ERROR; 0: none */
    char error[VDC_QMP_TEXT_CAP];     /* ERROR: desc; a failed migration: error-desc */
    enum vdc_qmp_event event;         /* EVENT */
    char event_name[64];              /* EVENT, for the log */
    bool by_guest;                    /* SHUTDOWN, RESET */
    char reason[64];                  /* SHUTDOWN, RESET, or IO_ERROR */
    enum vdc_qmp_migration migration; /* EVENT MIGRATION, RETURN of query-migrate */
    /* RETURN of query-migrate; numbers that are absent are 0, times -1. */
    uint64_t ram_total, ram_transferred, ram_remaining;
    uint64_t dirty_bytes_per_s;
    int64_t downtime_ms, total_ms;
};

/* Reads one line (without '\n'). PROTOCOL with the reason in err for what is no QMP message. */
enum vdc_rc vdc_qmp_message_decode(const char *line, size_t len, struct vdc_qmp_message *message,
                                   struct vdc_err *err) VDC_MUST_USE;

#endif
