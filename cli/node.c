/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli.h"

int cli_node_list(struct cli *cli)
{
    static const struct cli_column columns[] = {
        {"NODE", "name", CLI_TEXT, false},
        {"RACK", "spec.rack", CLI_TEXT, false},
        {"STATE", "status.state", CLI_TEXT, false},
        {"USABLE", "status.usable", CLI_TEXT, false},
        {"LEASE", "status.lease_left_ms", CLI_MS, false},
        {"PARTITIONS", "status.partitions", CLI_TEXT, false},
        {"CPUS", "spec.cpus", CLI_TEXT, false},
        {"MEMORY", "status.allocation.zone_memory_bytes", CLI_BYTES, false},
        {"USED", "status.allocation.zone_memory_used_bytes", CLI_BYTES, false},
        {"ACCEL", "spec.accelerator", CLI_TEXT, false},
        {"ADDRESS", "spec.address", CLI_TEXT, true},
        {"LABELS", "labels", CLI_LABELS, true},
        {"WHY NOT", "status.why_not", CLI_CUT, false},
    };
    int status;
    json_t *items = cli_list(cli, "/v1/nodes", "list nodes", &status);
    if (items != NULL) {
        cli_print_list(cli, items, columns, VDC_COUNT_OF(columns));
        json_decref(items);
    }
    return status;
}

int cli_node_show(struct cli *cli)
{
    char path[CLI_PATH_CAP];
    int status;
    snprintf(path, sizeof path, "/v1/nodes/%s", cli->args[0]);
    json_t *item = cli_get(cli, path, "show node", &status);
    if (item != NULL) {
        cli_print_item(cli, item);
        json_decref(item);
    }
    return status;
}
