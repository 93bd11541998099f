/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the node agent's core knows of a partition's monitor, apart from the monitor's own protocol
 * (monitor_protocol.h), which only io/monitor_client.c reads: the core works in the simulator too,
 * where no JSON is. The phases are the same (phase.h).
 */
#ifndef VDC_AGENT_MONITOR_H
#define VDC_AGENT_MONITOR_H

#include <stdbool.h>
#include <stdint.h>

#include <vdc/limits.h>
#include <vdc/phase.h>
#include <vdc/rc.h>

#define VDC_AGENT_REASON_CAP 256

struct vdc_agent_monitor_state {
    enum vdc_phase phase;
    char reason[VDC_AGENT_REASON_CAP];
    char accelerator[VDC_NAME_CAP];
    uint64_t generation;
    int64_t running_since_ns; /* CLOCK_BOOTTIME; 0: never */
    bool migration_failed;    /* the last migration's outcome, with its sentence */
    char migration_error[VDC_AGENT_REASON_CAP];
    uint64_t bytes_total;
    uint64_t bytes_sent;
    uint64_t bytes_left;
    int64_t stopped_ns;  /* source: stopped for the switch-over; 0: not */
    int64_t resumed_ns;  /* target: began to run after a migration; 0: not */
    int64_t downtime_ms; /* as QEMU reports it; -1: not known */
};

/* What the core asks of a monitor. */
enum vdc_agent_monitor_request {
    VDC_MONITOR_ASK_REFRESH,
    VDC_MONITOR_ASK_KILL,
    VDC_MONITOR_ASK_RESUME,
    VDC_MONITOR_ASK_ACTIVATE,
    VDC_MONITOR_ASK_MIGRATE_IN,  /* through the partition's relay socket */
    VDC_MONITOR_ASK_MIGRATE_OUT, /* the same; bandwidth, downtime_ns */
    VDC_MONITOR_ASK_MIGRATE_CONTINUE,
    VDC_MONITOR_ASK_MIGRATE_CANCEL,
};
const char *vdc_agent_monitor_request_name(enum vdc_agent_monitor_request request);

#endif
