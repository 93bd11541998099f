/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

int cli_zone_list(struct cli *cli)
{
    static const struct cli_column columns[] = {{"ZONE", "name", CLI_TEXT},
                                                {"POLICY", "policy_version", CLI_TEXT},
                                                {"LEADER", "status.leader", CLI_TEXT},
                                                {"EPOCH", "status.epoch", CLI_TEXT},
                                                {"CREATED", "created_at", CLI_TEXT}};
    int status;
    json_t *items = cli_list(cli, "/v1/zones", "list zones", &status);
    if (items != NULL) {
        cli_print_list(cli, items, columns, VDC_COUNT_OF(columns));
        json_decref(items);
    }
    return status;
}
