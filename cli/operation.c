/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli.h"

int cli_operation_list(struct cli *cli)
{
    static const struct cli_column columns[] = {
        {"ID", "id", CLI_TEXT, false},
        {"KIND", "kind", CLI_TEXT, false},
        {"PARTITION", "partition", CLI_CUT, false},
        {"STATE", "state", CLI_TEXT, false},
        {"STEP", "step", CLI_CUT, false},
        {"FROM", "source", CLI_TEXT, true},
        {"TO", "target", CLI_TEXT, false},
        {"TOOK", "duration_ms", CLI_MS, false},
        {"BY", "user", CLI_TEXT, true},
        {"CREATED", "created_at", CLI_TEXT, true},
        {"ERROR", "error", CLI_LINE, true},
    };
    int status;
    json_t *items = cli_list(cli, "/v1/operations", "list operations", &status);
    if (items != NULL) {
        cli_print_list(cli, items, columns, VDC_COUNT_OF(columns));
        json_decref(items);
    }
    return status;
}

int cli_operation_show(struct cli *cli)
{
    char path[CLI_PATH_CAP];
    int status;
    snprintf(path, sizeof path, "/v1/operations/%s", cli->args[0]);
    json_t *item = cli_get(cli, path, "show operation", &status);
    if (item != NULL) {
        cli_print_item(cli, item);
        json_decref(item);
    }
    return status;
}
