/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor_words.h"

#include <vdc/base.h>

void agent_monitor_translate(const struct vdc_monitor_state *from,
                             struct vdc_agent_monitor_state *to)
{
    *to = (struct vdc_agent_monitor_state){
        .phase = from->state,
        .generation = from->generation,
        .running_since_ns = from->running_since_ns,
        .migration_failed = from->migration.status == VDC_MIGRATION_STATUS_FAILED,
        .bytes_total = from->migration.bytes_total,
        .bytes_sent = from->migration.bytes_transferred,
        .bytes_left = from->migration.bytes_remaining,
        .downtime_ms = from->migration.qemu_downtime_ms,
    };
    switch (from->migration.dir) {
    case VDC_MIGRATION_NONE:
        break;
    case VDC_MIGRATION_OUT:
        to->stopped_ns = from->migration.stopped_ns;
        break;
    case VDC_MIGRATION_IN:
        to->resumed_ns = from->migration.resumed_ns;
        break;
    }
    vdc_str_set(to->reason, sizeof to->reason, from->reason);
    vdc_str_set(to->accelerator, sizeof to->accelerator, from->accelerator);
    vdc_str_set(to->migration_error, sizeof to->migration_error, from->migration.error);
}

enum vdc_monitor_command agent_monitor_command(enum vdc_agent_monitor_request request)
{
    switch (request) {
    case VDC_MONITOR_ASK_REFRESH:
        return VDC_MONITOR_REFRESH;
    case VDC_MONITOR_ASK_KILL:
        return VDC_MONITOR_KILL;
    case VDC_MONITOR_ASK_RESUME:
        return VDC_MONITOR_RESUME;
    case VDC_MONITOR_ASK_ACTIVATE:
        return VDC_MONITOR_ACTIVATE;
    case VDC_MONITOR_ASK_MIGRATE_IN:
        return VDC_MONITOR_MIGRATE_IN;
    case VDC_MONITOR_ASK_MIGRATE_OUT:
        return VDC_MONITOR_MIGRATE_OUT;
    case VDC_MONITOR_ASK_MIGRATE_CONTINUE:
        return VDC_MONITOR_MIGRATE_CONTINUE;
    case VDC_MONITOR_ASK_MIGRATE_CANCEL:
        return VDC_MONITOR_MIGRATE_CANCEL;
    }
    return VDC_MONITOR_STATUS;
}
