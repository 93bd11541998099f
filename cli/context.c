/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the servers are and who we are. For each setting the first of: flag, environment (VDC_SERVER,
 * VDC_CA, VDC_CERT, VDC_KEY, VDC_ZONE), the chosen context of ~/.config/vdc/config.yaml:
 *
 *     current: lab
 *     contexts:
 *       lab: {servers: ["https://10.77.0.1:7443"], ca: ca.pem, cert: me.pem, key: me.key, zone: prod}
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <vdc/file.h>
#include <vdc/yaml.h>

#include "cli.h"

#define CONTEXT_TEXT_MAX (256 * 1024)

static void fill(char *to, size_t cap, const char *from)
{
    if (to[0] == 0 && from != NULL && !vdc_str_copy(to, cap, from)) {
        cli_error("\"%.60s...\" is too long", from);
    }
}

static void fill_servers(struct cli *cli, const char *list)
{
    if (cli->servers_len > 0 || list == NULL) {
        return;
    }
    while (*list != 0 && cli->servers_len < CLI_SERVERS_MAX) {
        size_t len = strcspn(list, ",");
        if (len > 0 && len < CLI_PATH_CAP) {
            memcpy(cli->servers[cli->servers_len], list, len);
            cli->servers[cli->servers_len++][len] = 0;
        }
        list += len + (list[len] == ',');
    }
}

static void read_entry(struct cli *cli, const struct vdc_tree_node *entry, struct vdc_diags *diags)
{
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, entry, "context", diags)) {
        return;
    }
    const struct vdc_tree_node *servers = vdc_tree_map_need(&map, "servers");
    if (servers != NULL && vdc_tree_read_list(servers, "servers", diags) && cli->servers_len == 0) {
        for (const struct vdc_tree_node *item = servers->first;
             item != NULL && cli->servers_len < CLI_SERVERS_MAX; item = item->next) {
            const char *text;
            if (vdc_tree_read_text(item, "server", CLI_PATH_CAP - 1, &text, diags)) {
                vdc_str_set(cli->servers[cli->servers_len++], CLI_PATH_CAP, text);
            }
        }
    }
    const struct {
        const char *field;
        char *to;
        size_t cap;
    } texts[] = {{"ca", cli->ca, CLI_PATH_CAP},
                 {"cert", cli->cert, CLI_PATH_CAP},
                 {"key", cli->key, CLI_PATH_CAP},
                 {"zone", cli->zone, VDC_NAME_CAP}};
    for (size_t i = 0; i < VDC_COUNT_OF(texts); i++) {
        const struct vdc_tree_node *node = vdc_tree_map_get(&map, texts[i].field);
        const char *text;
        if (node != NULL &&
            vdc_tree_read_text(node, texts[i].field, texts[i].cap - 1, &text, diags)) {
            fill(texts[i].to, texts[i].cap, text);
        }
    }
    vdc_tree_map_end(&map);
}

static void read_file(struct cli *cli, const struct vdc_tree_node *root, struct vdc_diags *diags)
{
    struct vdc_tree_map map;
    const char *current = cli->context;
    if (root == NULL || !vdc_tree_map_begin(&map, root, "contexts file", diags)) {
        return;
    }
    const struct vdc_tree_node *node = vdc_tree_map_get(&map, "current");
    if (node != NULL && current == NULL) {
        vdc_tree_read_text(node, "current", VDC_NAME_MAX, &current, diags);
    }
    node = vdc_tree_map_need(&map, "contexts");
    const struct vdc_tree_node *entry = NULL;
    for (const struct vdc_tree_node *at = node != NULL ? node->first : NULL; at != NULL;
         at = at->next) {
        if (current != NULL && at->key != NULL && strcmp(at->key, current) == 0) {
            entry = at;
        }
    }
    if (entry != NULL) {
        read_entry(cli, entry, diags);
    } else if (current != NULL) {
        vdc_diags_add(diags, root->line, root->column, "there is no context \"%.63s\"", current);
    }
    vdc_tree_map_end(&map);
}

/* A file that is not there is a mistake of whoever asked, not a server that cannot be reached. */
static bool can_read(const char *flag, const char *path)
{
    if (path[0] == 0 || access(path, R_OK) == 0) {
        return true;
    }
    cli_error("--%s %s: %s", flag, path, strerror(errno));
    return false;
}

bool cli_read_context(struct cli *cli)
{
    fill_servers(cli, getenv("VDC_SERVER"));
    fill(cli->ca, CLI_PATH_CAP, getenv("VDC_CA"));
    fill(cli->cert, CLI_PATH_CAP, getenv("VDC_CERT"));
    fill(cli->key, CLI_PATH_CAP, getenv("VDC_KEY"));
    fill(cli->zone, VDC_NAME_CAP, getenv("VDC_ZONE"));
    char path[CLI_PATH_CAP];
    const char *base = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    snprintf(path, sizeof path, "%s%s/vdc/config.yaml",
             base != NULL   ? base
             : home != NULL ? home
                            : "",
             base != NULL ? "" : "/.config");
    struct vdc_diags diags = {.source = path};
    struct vdc_err err = {0};
    if (vdc_file_exists(path)) {
        struct vdc_buf text = {0};
        struct vdc_tree *tree = NULL;
        if (vdc_file_read(path, CONTEXT_TEXT_MAX, &text, &err) == VDC_RC_OK &&
            vdc_yaml_load(vdc_buf_text(&text), text.len, CONTEXT_TEXT_MAX, &tree, &diags) ==
                VDC_RC_OK) {
            read_file(cli, vdc_tree_root(tree), &diags);
        }
        vdc_tree_destroy(tree);
        vdc_buf_deinit(&text);
    } else if (cli->context != NULL) {
        vdc_err_set(&err, VDC_RC_NOT_FOUND, "there is no context \"%s\": %s does not exist",
                    cli->context, path);
    }
    if (err.rc == VDC_RC_OK) {
        vdc_diags_to_err(&diags, &err);
    }
    vdc_diags_deinit(&diags);
    if (err.rc != VDC_RC_OK) {
        cli_error("%s", vdc_err_text(&err));
        return false;
    }
    if (cli->zone[0] != 0 && !vdc_name_valid(cli->zone)) {
        cli_error("zone \"%.64s\" (VDC_ZONE, or the context's): not a name", cli->zone);
        return false;
    }
    if (cli->servers_len == 0) {
        cli_error("no server is known: use --server https://HOST:7443, set VDC_SERVER, or write a "
                  "context into %s",
                  path);
        return false;
    }
    return can_read("ca", cli->ca) && can_read("cert", cli->cert) && can_read("key", cli->key);
}
