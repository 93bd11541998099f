/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include <vdc/base.h>
#include <vdc/file.h>
#include <vdc/tree.h>
#include <vdc/yaml.h>

/* uid_base + a slot for each partition must stay below the 32-bit "no user". */
#define UID_BASE_MAX UINT32_C(4000000000)
#define UID_BASE_DEFAULT UINT32_C(200000)

static void read_into(struct vdc_tree_map *map, const char *field, bool needed, bool name,
                      char *out, size_t cap)
{
    const struct vdc_tree_node *node =
        needed ? vdc_tree_map_need(map, field) : vdc_tree_map_get(map, field);
    const char *text;
    if (node == NULL) {
        return;
    }
    if (name ? vdc_tree_read_name(node, field, &text, map->diags)
             : vdc_tree_read_text(node, field, cap - 1, &text, map->diags)) {
        vdc_str_set(out, cap, text);
    }
}

static void read_path(struct vdc_tree_map *map, const char *field, char out[AGENT_PATH_CAP])
{
    read_into(map, field, true, false, out, AGENT_PATH_CAP);
    if (out[0] != 0 && out[0] != '/') {
        const struct vdc_tree_node *node = vdc_tree_map_get(map, field);
        vdc_diags_add(map->diags, node->line, node->column, "%s: not an absolute path", field);
    }
}

static void read_labels(const struct vdc_tree_node *node, struct agent_config *config,
                        struct vdc_diags *diags)
{
    if (node->kind != VDC_TREE_MAP) {
        vdc_diags_add(diags, node->line, node->column, "labels: expected a map");
        return;
    }
    if (node->count > VDC_LABELS_MAX) {
        vdc_diags_add(diags, node->line, node->column, "labels: more than %d", VDC_LABELS_MAX);
        return;
    }
    for (const struct vdc_tree_node *at = node->first; at != NULL; at = at->next) {
        struct vdc_label *label = &config->labels[config->labels_len];
        const char *value;
        if (!vdc_name_valid(at->key)) {
            vdc_diags_add(diags, at->key_line, at->key_column,
                          "labels: the key is not a name of [a-z0-9.-]");
        } else if (vdc_tree_read_text(at, at->key, VDC_LABEL_MAX, &value, diags)) {
            vdc_str_set(label->key, sizeof label->key, at->key);
            vdc_str_set(label->value, sizeof label->value, value);
            config->labels_len++;
        }
    }
}

static void read_managers(const struct vdc_tree_node *node, struct agent_config *config,
                          struct vdc_diags *diags)
{
    if (!vdc_tree_read_list(node, "managers", diags)) {
        return;
    }
    if (node->count == 0 || node->count > AGENT_MANAGERS_MAX) {
        vdc_diags_add(diags, node->line, node->column, "managers: expected 1 to %d addresses",
                      AGENT_MANAGERS_MAX);
        return;
    }
    for (const struct vdc_tree_node *at = node->first; at != NULL; at = at->next) {
        const char *text;
        if (vdc_tree_read_text(at, "managers", VDC_ADDRESS_CAP - 1, &text, diags)) {
            if (strrchr(text, ':') == NULL) {
                vdc_diags_add(diags, at->line, at->column,
                              "managers: expected HOST:PORT, found \"%s\"", text);
                continue;
            }
            vdc_str_set(config->managers[config->managers_len++], VDC_ADDRESS_CAP, text);
        }
    }
}

static void read_tls(const struct vdc_tree_node *node, struct agent_config *config,
                     struct vdc_diags *diags)
{
    struct vdc_tree_map map;
    if (vdc_tree_map_begin(&map, node, "tls", diags)) {
        read_path(&map, "ca", config->tls_ca);
        read_path(&map, "cert", config->tls_cert);
        read_path(&map, "key", config->tls_key);
        vdc_tree_map_end(&map);
    }
}

static void read_amount(const struct vdc_tree_node *node, const char *field, uint64_t cpus_max,
                        struct discover_amount *amount, struct vdc_diags *diags)
{
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, node, field, diags)) {
        return;
    }
    const struct vdc_tree_node *at = vdc_tree_map_get(&map, "cpus");
    if (at != NULL) {
        vdc_tree_read_u64(at, "cpus", 1, cpus_max, &amount->cpus, diags);
    }
    at = vdc_tree_map_get(&map, "memory");
    if (at != NULL && vdc_tree_read_bytes(at, "memory", &amount->memory_bytes, diags)) {
        if (amount->memory_bytes < (UINT64_C(2) << 20)) {
            vdc_diags_add(diags, at->line, at->column, "memory: less than 2 MiB");
        } else if (amount->memory_bytes > VDC_PARTITION_MEMORY_MAX) {
            vdc_diags_add(diags, at->line, at->column, "memory: more than 16 TiB");
        }
    }
    vdc_tree_map_end(&map);
}

/* The partitions of the data center itself that this host runs beside its agent. */
static void read_system(const struct vdc_tree_node *node, struct discover_division *division,
                        struct vdc_diags *diags)
{
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, node, "system", diags)) {
        return;
    }
    const struct vdc_tree_node *at = vdc_tree_map_get(&map, "command");
    if (at != NULL) {
        division->has_command = true;
        read_amount(at, "command", VDC_VCPUS_MAX, &division->command, diags);
    }
    at = vdc_tree_map_get(&map, "operations");
    if (at != NULL) {
        division->has_operations = true;
        read_amount(at, "operations", VDC_VCPUS_MAX, &division->operations, diags);
    }
    vdc_tree_map_end(&map);
}

static void read_root(const struct vdc_tree_node *root, struct agent_config *config,
                      struct vdc_diags *diags)
{
    struct vdc_tree_map map;
    if (!vdc_tree_map_begin(&map, root, "node", diags)) {
        return;
    }
    read_into(&map, "name", true, true, config->name, sizeof config->name);
    read_into(&map, "rack", true, true, config->rack, sizeof config->rack);
    const struct vdc_tree_node *node = vdc_tree_map_get(&map, "labels");
    if (node != NULL) {
        read_labels(node, config, diags);
    }
    node = vdc_tree_map_need(&map, "managers");
    if (node != NULL) {
        read_managers(node, config, diags);
    }
    read_into(&map, "address", true, false, config->address, sizeof config->address);
    read_path(&map, "state_dir", config->state_dir);
    read_path(&map, "run_dir", config->run_dir);
    read_path(&map, "shared_dir", config->shared_dir);
    read_path(&map, "image_dir", config->image_dir);
    node = vdc_tree_map_need(&map, "tls");
    if (node != NULL) {
        read_tls(node, config, diags);
    }
    node = vdc_tree_map_get(&map, "resources");
    if (node != NULL) {
        read_amount(node, "resources", VDC_NODE_CPUS_MAX, &config->division.limit, diags);
    }
    node = vdc_tree_map_get(&map, "system");
    if (node != NULL) {
        read_system(node, &config->division, diags);
    }
    read_into(&map, "cgroup", false, false, config->cgroup, sizeof config->cgroup);
    node = vdc_tree_map_get(&map, "cgroup");
    if (config->cgroup[0] == '/' || strstr(config->cgroup, "..") != NULL) {
        vdc_diags_add(diags, node->line, node->column,
                      "cgroup: expected a path relative to the mount, without \"..\"");
    }
    uint64_t uid_base = UID_BASE_DEFAULT;
    node = vdc_tree_map_get(&map, "uid_base");
    if (node != NULL) {
        vdc_tree_read_u64(node, "uid_base", 1000, UID_BASE_MAX, &uid_base, diags);
    }
    config->uid_base = (uint32_t)uid_base;
    vdc_tree_map_end(&map);
}

enum vdc_rc agent_config_parse(const char *source, const char *text, size_t len,
                               struct agent_config *config, struct vdc_buf *complaints)
{
    *config = (struct agent_config){0};
    struct vdc_diags diags = {.source = source};
    struct vdc_tree *tree = NULL;
    enum vdc_rc rc = vdc_yaml_load(text, len, AGENT_CONFIG_TEXT_MAX, &tree, &diags);
    if (rc == VDC_RC_OK && vdc_tree_root(tree) == NULL) {
        vdc_diags_add(&diags, 1, 1, "the file is empty");
    } else if (rc == VDC_RC_OK) {
        read_root(vdc_tree_root(tree), config, &diags);
    }
    if (diags.count > 0) {
        vdc_diags_sort(&diags);
        vdc_diags_render(&diags, complaints);
        rc = rc == VDC_RC_OK ? VDC_RC_INVALID : rc;
    }
    vdc_tree_destroy(tree);
    vdc_diags_deinit(&diags);
    return rc;
}

enum vdc_rc agent_config_load(const char *path, struct agent_config *config,
                              struct vdc_buf *complaints)
{
    struct vdc_buf text = {0};
    struct vdc_err err;
    enum vdc_rc rc = vdc_file_read(path, AGENT_CONFIG_TEXT_MAX, &text, &err);
    if (rc != VDC_RC_OK) {
        vdc_buf_printf(complaints, "%s\n", vdc_err_text(&err));
    } else {
        rc = agent_config_parse(path, vdc_buf_text(&text), text.len, config, complaints);
    }
    vdc_buf_deinit(&text);
    return rc;
}
