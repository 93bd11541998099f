/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <vdc/clock.h>
#include <vdc/file.h>
#include <vdc/yaml.h>

#include "cli.h"

#define SPEC_TEXT_MAX (256 * 1024)

int cli_partition_list(struct cli *cli)
{
    static const struct cli_column columns[] = {
        {"PARTITION", "name", CLI_CUT, false},
        {"LABELS", "labels", CLI_LABELS, false},
        {"CLASS", "spec.class", CLI_TEXT, false},
        {"STATE", "status.state", CLI_TEXT, false},
        {"NODE", "status.node", CLI_TEXT, false},
        {"GEN", "status.generation", CLI_TEXT, false},
        {"VCPUS", "spec.vcpus", CLI_TEXT, false},
        {"MEMORY", "spec.memory_bytes", CLI_BYTES, false},
        {"DISK", "spec.disk_bytes", CLI_BYTES, true},
        {"TENANT", "spec.tenant", CLI_TEXT, true},
        {"WANTED", "spec.state", CLI_TEXT, true},
        {"ID", "id", CLI_TEXT, true},
        {"CREATED", "created_at", CLI_TEXT, true},
        {"WHY", "status.verdict", CLI_LINE, false},
    };
    int status;
    json_t *items = cli_list(cli, "/v1/partitions", "list partitions", &status);
    if (items != NULL) {
        cli_print_list(cli, items, columns, VDC_COUNT_OF(columns));
        json_decref(items);
    }
    return status;
}

int cli_partition_show(struct cli *cli)
{
    char path[CLI_PATH_CAP];
    int status;
    snprintf(path, sizeof path, "/v1/partitions/%s", cli->args[0]);
    json_t *item = cli_get(cli, path, "show partition", &status);
    if (item != NULL) {
        cli_print_item(cli, item);
        json_decref(item);
    }
    return status;
}

int cli_partition_explain(struct cli *cli)
{
    char path[CLI_PATH_CAP];
    int status;
    snprintf(path, sizeof path, "/v1/partitions/%s/explain", cli->args[0]);
    json_t *item = cli_get(cli, path, "explain partition", &status);
    if (item != NULL && !cli_is_table(cli)) {
        cli_print_value(cli, item);
    } else if (item != NULL) {
        puts(cli_text_at(item, "verdict"));
    }
    json_decref(item);
    return status;
}

/* The YAML tree as JSON: plain (unquoted) numbers become numbers, the rest stays text. */
static json_t *to_json(const struct vdc_tree_node *node)
{
    uint64_t number;
    json_t *value;
    switch (node->kind) {
    case VDC_TREE_SCALAR:
        if (!node->quoted && vdc_parse_u64(node->text, INT64_MAX, &number)) {
            return json_integer((json_int_t)number);
        }
        return vdc_tree_is_null(node) ? json_null() : json_string(node->text);
    case VDC_TREE_LIST:
        value = json_array();
        for (const struct vdc_tree_node *at = node->first; at != NULL; at = at->next) {
            json_array_append_new(value, to_json(at));
        }
        return value;
    case VDC_TREE_MAP:
        value = json_object();
        for (const struct vdc_tree_node *at = node->first; at != NULL; at = at->next) {
            /* Label values are texts, also those that look like numbers. */
            bool label = node->key != NULL && strcmp(node->key, "labels") == 0;
            json_object_set_new(value, at->key,
                                label && at->kind == VDC_TREE_SCALAR ? json_string(at->text)
                                                                     : to_json(at));
        }
        return value;
    }
    return NULL;
}

/* -f FILE, or an empty object. NULL after saying why. */
static json_t *read_spec(const char *path)
{
    if (path == NULL) {
        return json_object();
    }
    struct vdc_buf text = {0};
    struct vdc_err err = {0};
    struct vdc_tree *tree = NULL;
    struct vdc_diags diags = {.source = path};
    json_t *spec = NULL;
    const char *file = strcmp(path, "-") == 0 ? "/dev/stdin" : path;
    if (vdc_file_read(file, SPEC_TEXT_MAX, &text, &err) != VDC_RC_OK) {
        cli_error("%s", vdc_err_text(&err));
    } else if (vdc_yaml_load(vdc_buf_text(&text), text.len, SPEC_TEXT_MAX, &tree, &diags) !=
               VDC_RC_OK) {
        vdc_diags_to_err(&diags, &err);
        cli_error("%s", vdc_err_text(&err));
    } else if (vdc_tree_root(tree) == NULL || vdc_tree_root(tree)->kind != VDC_TREE_MAP) {
        cli_error("%s: a map of the partition's fields is expected", path);
    } else {
        spec = to_json(vdc_tree_root(tree));
    }
    vdc_tree_destroy(tree);
    vdc_diags_deinit(&diags);
    vdc_buf_deinit(&text);
    return spec;
}

static void set_text(json_t *spec, const char *field, const char *text)
{
    if (text != NULL) {
        json_object_set_new(spec, field, json_string(text));
    }
}

static bool set_labels(struct cli *cli, json_t *spec)
{
    json_t *labels = json_object_get(spec, "labels");
    if (labels == NULL && cli->labels_len > 0) {
        labels = json_object();
        json_object_set_new(spec, "labels", labels);
    }
    for (size_t i = 0; i < cli->labels_len; i++) {
        const char *equals = strchr(cli->labels[i], '=');
        char key[VDC_LABEL_CAP];
        if (equals == NULL || equals == cli->labels[i] ||
            (size_t)(equals - cli->labels[i]) >= sizeof key) {
            cli_error("--label %s: KEY=VALUE is expected", cli->labels[i]);
            return false;
        }
        snprintf(key, sizeof key, "%.*s", (int)(equals - cli->labels[i]), cli->labels[i]);
        json_object_set_new(labels, key, json_string(equals + 1));
    }
    return true;
}

int cli_partition_create(struct cli *cli)
{
    json_t *spec = read_spec(cli->file);
    if (spec == NULL) {
        return CLI_USAGE;
    }
    if (cli->args_len > 0) {
        set_text(spec, "name", cli->args[0]);
    }
    set_text(spec, "class", cli->class);
    set_text(spec, "tenant", cli->tenant);
    set_text(spec, "image", cli->image);
    set_text(spec, "memory", cli->memory);
    set_text(spec, "disk", cli->disk);
    set_text(spec, "zone", cli->zone[0] != 0 ? cli->zone : NULL);
    uint64_t vcpus;
    bool ok = set_labels(cli, spec);
    if (ok && cli->vcpus != NULL) {
        ok = vdc_parse_u64(cli->vcpus, VDC_VCPUS_MAX, &vcpus);
        if (!ok) {
            cli_error("--vcpus %s: a number up to %d is expected", cli->vcpus, VDC_VCPUS_MAX);
        } else {
            json_object_set_new(spec, "vcpus", json_integer((json_int_t)vcpus));
        }
    }
    const char *name = json_string_value(json_object_get(spec, "name"));
    if (ok && name == NULL) {
        cli_error("a partition needs a name: vdc partition create NAME");
        ok = false;
    }
    if (!ok) {
        json_decref(spec);
        return CLI_USAGE;
    }
    char what[128];
    snprintf(what, sizeof what, "create %.63s", name);
    return cli_mutate(cli, "POST", "/v1/partitions", spec, what);
}

static int change(struct cli *cli, const char *method, const char *verb, const char *path_verb,
                  json_t *body)
{
    char path[CLI_PATH_CAP];
    char what[128];
    snprintf(path, sizeof path, "/v1/partitions/%.63s%s%s", cli->args[0],
             path_verb != NULL ? "/" : "", path_verb != NULL ? path_verb : "");
    snprintf(what, sizeof what, "%s %.63s", verb, cli->args[0]);
    return cli_mutate(cli, method, path, body, what);
}

int cli_partition_start(struct cli *cli)
{
    return change(cli, "POST", "start", "start", NULL);
}

int cli_partition_stop(struct cli *cli)
{
    return change(cli, "POST", "stop", "stop", NULL);
}

int cli_partition_destroy(struct cli *cli)
{
    return change(cli, "DELETE", "destroy", NULL, NULL);
}

int cli_partition_migrate(struct cli *cli)
{
    json_t *body = json_object();
    set_text(body, "target", cli->to);
    return change(cli, "POST", "migrate", "migrate", body);
}

/* What the guest printed as one object: bytes that are not UTF-8 are shown as '?'. */
static void print_console(const struct cli *cli, const struct vdc_buf *all, uint64_t end)
{
    json_t *text = json_stringn(vdc_buf_text(all), all->len);
    if (text == NULL) {
        struct vdc_buf plain = {0};
        for (size_t i = 0; i < all->len; i++) {
            char c =
                (unsigned char)all->data[i] < 0x80 && all->data[i] != 0 ? (char)all->data[i] : '?';
            vdc_buf_append(&plain, &c, 1);
        }
        text = json_stringn(vdc_buf_text(&plain), plain.len);
        vdc_buf_deinit(&plain);
    }
    json_t *item = json_pack("{s:s, s:I, s:o}", "partition", cli->args[0], "end", (json_int_t)end,
                             "text", text);
    cli_print_value(cli, item);
    json_decref(item);
}

int cli_partition_console(struct cli *cli)
{
    uint64_t offset = 0;
    bool table = cli_is_table(cli);
    struct vdc_buf all = {0}; /* what is printed as one JSON */
    if (!table && cli->follow) {
        cli_error("--follow prints text as it comes: leave -o out");
        return CLI_USAGE;
    }
    for (;;) {
        char path[CLI_PATH_CAP];
        struct cli_answer answer;
        snprintf(path, sizeof path, "/v1/partitions/%.63s/console?offset=%llu", cli->args[0],
                 (unsigned long long)offset);
        cli->deadline = vdc_mono_add(vdc_clock_mono(), cli->timeout_s * VDC_SECOND);
        cli_request(cli, "GET", path, NULL, NULL, "read console", &answer);
        int status = cli_check(cli, &answer, "read console");
        if (status != CLI_DONE) {
            cli_answer_deinit(&answer);
            vdc_buf_deinit(&all);
            return status;
        }
        if (table) {
            fwrite(vdc_buf_text(&answer.body), 1, answer.body.len, stdout);
        } else {
            vdc_buf_append(&all, vdc_buf_text(&answer.body), answer.body.len);
        }
        if (!cli_flush()) {
            cli_answer_deinit(&answer);
            vdc_buf_deinit(&all);
            return CLI_FAILED;
        }
        uint64_t next = answer.console_offset + answer.body.len;
        uint64_t end = answer.console_end;
        bool moved = next > offset;
        /* A partition that moved has a new console on its new node. */
        offset = end < offset ? 0 : next;
        cli_answer_deinit(&answer);
        if (!cli->follow && (!moved || next >= end)) {
            if (!table) {
                print_console(cli, &all, end);
            }
            vdc_buf_deinit(&all);
            return CLI_DONE;
        }
        if (next >= end) {
            struct timespec time = {.tv_nsec = 200 * 1000 * 1000};
            nanosleep(&time, NULL);
        }
    }
}
