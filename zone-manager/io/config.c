/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the manager's configuration file; docs/man/vdc-zone-manager.8 describes it. */
#include <string.h>

#include <vdc/file.h>
#include <vdc/yaml.h>

#include "manager.h"

#define CONFIG_TEXT_MAX (64 * 1024)

static void read_text(struct vdc_tree_map *map, const char *field, bool needed, char *out,
                      size_t cap)
{
    const struct vdc_tree_node *node =
        needed ? vdc_tree_map_need(map, field) : vdc_tree_map_get(map, field);
    const char *text;
    if (node != NULL && vdc_tree_read_text(node, field, cap - 1, &text, map->diags)) {
        vdc_str_set(out, cap, text);
    }
}

static void read_tls(struct vdc_tree_map *map, char *ca, char *cert, char *key)
{
    read_text(map, "ca", true, ca, MANAGER_PATH_CAP);
    read_text(map, "cert", true, cert, MANAGER_PATH_CAP);
    read_text(map, "key", true, key, MANAGER_PATH_CAP);
}

static void read_etcd(const struct vdc_tree_node *node, struct manager_config *config,
                      struct vdc_diags *diags)
{
    struct vdc_tree_map map;
    if (node == NULL || !vdc_tree_map_begin(&map, node, "etcd", diags)) {
        return;
    }
    const struct vdc_tree_node *list = vdc_tree_map_need(&map, "endpoints");
    if (list != NULL && vdc_tree_read_list(list, "etcd: endpoints", diags)) {
        if (list->count == 0 || list->count > VDC_ETCD_ENDPOINTS_MAX) {
            vdc_diags_add(diags, list->line, list->column, "etcd: endpoints: 1 to %d are expected",
                          VDC_ETCD_ENDPOINTS_MAX);
        } else {
            for (const struct vdc_tree_node *item = list->first; item != NULL; item = item->next) {
                const char *text;
                if (vdc_tree_read_text(item, "etcd: endpoint", VDC_ETCD_ENDPOINT_MAX, &text,
                                       diags)) {
                    vdc_str_set(config->etcd_endpoints[config->etcd_endpoints_len++],
                                VDC_ETCD_ENDPOINT_MAX + 1, text);
                }
            }
        }
    }
    read_text(&map, "authority", false, config->etcd_authority, VDC_ADDRESS_CAP);
    if (vdc_tree_map_get(&map, "ca") != NULL) {
        read_tls(&map, config->etcd_ca, config->etcd_cert, config->etcd_key);
    }
    vdc_tree_map_end(&map);
}

static void read_listen(struct vdc_tree_map *root, const char *field, char *listen, char *advertise)
{
    const struct vdc_tree_node *node = vdc_tree_map_need(root, field);
    struct vdc_tree_map map;
    if (node == NULL || !vdc_tree_map_begin(&map, node, field, root->diags)) {
        return;
    }
    read_text(&map, "listen", true, listen, VDC_ADDRESS_CAP);
    if (advertise != NULL) {
        vdc_str_set(advertise, VDC_ADDRESS_CAP, listen);
        read_text(&map, "advertise", false, advertise, VDC_ADDRESS_CAP);
    }
    vdc_tree_map_end(&map);
}

static void read_root(const struct vdc_tree_node *root, struct manager_config *config,
                      struct vdc_diags *diags)
{
    struct vdc_tree_map map;
    if (root == NULL) {
        vdc_diags_add(diags, 0, 0, "the configuration is empty");
        return;
    }
    if (!vdc_tree_map_begin(&map, root, "configuration", diags)) {
        return;
    }
    const struct vdc_tree_node *node = vdc_tree_map_need(&map, "name");
    const char *name;
    if (node != NULL && vdc_tree_read_name(node, "name", &name, diags)) {
        vdc_str_set(config->name, VDC_NAME_CAP, name);
    }
    read_listen(&map, "api", config->api_listen, config->api_advertise);
    read_listen(&map, "nodes", config->nodes_listen, NULL);
    read_etcd(vdc_tree_map_need(&map, "etcd"), config, diags);
    node = vdc_tree_map_need(&map, "tls");
    struct vdc_tree_map tls;
    if (node != NULL && vdc_tree_map_begin(&tls, node, "tls", diags)) {
        read_tls(&tls, config->tls_ca, config->tls_cert, config->tls_key);
        vdc_tree_map_end(&tls);
    }
    config->leader_ttl_s = 2;
    node = vdc_tree_map_get(&map, "leader_ttl");
    int64_t ns;
    if (node != NULL && vdc_tree_read_duration(node, "leader_ttl", &ns, diags)) {
        if (ns < 2 * VDC_SECOND || ns > 60 * VDC_SECOND || ns % VDC_SECOND != 0) {
            vdc_diags_add(diags, node->line, node->column,
                          "leader_ttl: whole seconds from 2s to 60s are expected");
        } else {
            config->leader_ttl_s = ns / VDC_SECOND;
        }
    }
    vdc_tree_map_end(&map);
}

enum vdc_rc manager_config_load(const char *path, struct manager_config *config,
                                struct vdc_err *err)
{
    memset(config, 0, sizeof *config);
    struct vdc_buf text = {0};
    enum vdc_rc rc = vdc_file_read(path, CONFIG_TEXT_MAX, &text, err);
    if (rc != VDC_RC_OK) {
        vdc_buf_deinit(&text);
        return vdc_err_wrap(err, "configuration");
    }
    struct vdc_diags diags = {.source = path};
    struct vdc_tree *tree = NULL;
    if (vdc_yaml_load(vdc_buf_text(&text), text.len, CONFIG_TEXT_MAX, &tree, &diags) == VDC_RC_OK) {
        read_root(vdc_tree_root(tree), config, &diags);
    }
    vdc_diags_sort(&diags);
    rc = vdc_diags_to_err(&diags, err);
    vdc_tree_destroy(tree);
    vdc_diags_deinit(&diags);
    vdc_buf_deinit(&text);
    return rc;
}
