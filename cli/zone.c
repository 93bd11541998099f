/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli.h"

int cli_zone_list(struct cli *cli)
{
    static const struct cli_column columns[] = {
        {"ZONE", "name", CLI_TEXT, false},
        {"POLICY", "policy_version", CLI_TEXT, false},
        {"LEADER", "status.leader", CLI_TEXT, false},
        {"EPOCH", "status.epoch", CLI_TEXT, false},
        {"CREATED", "created_at", CLI_TEXT, false},
        {"PROBLEM", "status.problem", CLI_CUT, true},
    };
    int status;
    json_t *items = cli_list(cli, "/v1/zones", "list zones", &status);
    if (items != NULL) {
        cli_print_list(cli, items, columns, VDC_COUNT_OF(columns));
        json_decref(items);
    }
    return status;
}

/* The zone that was named, or the only one; false: said why. */
static bool choose_zone(struct cli *cli, char zone[VDC_NAME_CAP], int *status)
{
    vdc_str_set(zone, VDC_NAME_CAP, cli->args_len > 0 ? cli->args[0] : cli->zone);
    if (zone[0] != 0) {
        return true;
    }
    json_t *zones = cli_list(cli, "/v1/zones", "list zones", status);
    if (zones == NULL) {
        return false;
    }
    bool one = json_array_size(zones) == 1 &&
               vdc_str_copy(zone, VDC_NAME_CAP, cli_text_at(json_array_get(zones, 0), "name"));
    json_decref(zones);
    if (!one) {
        cli_error("there is not exactly one zone: name one (vdc zone list)");
        *status = CLI_USAGE;
    }
    return one;
}

int cli_zone_show(struct cli *cli)
{
    char zone[VDC_NAME_CAP];
    char path[CLI_PATH_CAP];
    int status;
    if (!choose_zone(cli, zone, &status)) {
        return status;
    }
    snprintf(path, sizeof path, "/v1/zones/%s", zone);
    json_t *item = cli_get(cli, path, "show zone", &status);
    if (item != NULL) {
        cli_print_item(cli, item);
        json_decref(item);
    }
    return status;
}
