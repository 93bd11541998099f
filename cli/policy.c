/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include <vdc/file.h>
#include <vdc/policy_io.h>

#include "cli.h"

/* Reads and checks one file. NULL: *mistakes (vdc_diags) or *err says why. *text is the caller's. */
static struct vdc_policy *read_policy(const char *path, struct vdc_buf *text,
                                      struct vdc_diags *mistakes, struct vdc_err *err)
{
    struct vdc_policy *policy = NULL;
    mistakes->source = path;
    if (vdc_file_read(path, VDC_POLICY_TEXT_MAX, text, err) != VDC_RC_OK) {
        return NULL;
    }
    if (vdc_policy_parse(vdc_buf_text(text), text->len, &policy, mistakes) != VDC_RC_OK) {
        return NULL;
    }
    return policy;
}

static void say_mistakes(const struct vdc_diags *mistakes, const struct vdc_err *err)
{
    struct vdc_buf lines = {0};
    if (err->rc != VDC_RC_OK) {
        cli_error("%s", vdc_err_text(err));
        return;
    }
    vdc_diags_render(mistakes, &lines);
    fputs(vdc_buf_text(&lines), stderr);
    vdc_buf_deinit(&lines);
}

/* One element of what `lint -o json` prints. */
static json_t *lint_json(const char *path, const struct vdc_policy *policy,
                         const struct vdc_diags *mistakes, const struct vdc_err *err)
{
    json_t *errors = vdc_diags_json(mistakes);
    if (err->rc != VDC_RC_OK) {
        json_array_append_new(errors, json_pack("{s:s}", "message", vdc_err_text(err)));
    }
    return json_pack("{s:s, s:b, s:s?, s:o}", "file", path, "ok", policy != NULL, "zone",
                     policy != NULL ? vdc_policy_settings(policy)->zone : NULL, "errors", errors);
}

int cli_policy_lint(struct cli *cli)
{
    int status = CLI_DONE;
    bool table = cli_is_table(cli);
    json_t *all = json_array();
    for (size_t i = 0; i < cli->args_len; i++) {
        struct vdc_buf text = {0};
        struct vdc_diags mistakes = {0};
        struct vdc_err err = {0};
        struct vdc_policy *policy = read_policy(cli->args[i], &text, &mistakes, &err);
        status = policy == NULL ? CLI_FAILED : status;
        if (!table) {
            json_array_append_new(all, lint_json(cli->args[i], policy, &mistakes, &err));
        } else if (policy == NULL) {
            say_mistakes(&mistakes, &err);
        } else {
            printf("%s: zone %s, no mistakes\n", cli->args[i], vdc_policy_settings(policy)->zone);
        }
        vdc_policy_destroy(policy);
        vdc_diags_deinit(&mistakes);
        vdc_buf_deinit(&text);
    }
    if (!table) {
        cli_print_value(cli, all);
    }
    json_decref(all);
    return status;
}

int cli_policy_apply(struct cli *cli)
{
    struct vdc_buf text = {0};
    struct vdc_diags mistakes = {0};
    struct vdc_err err = {0};
    struct vdc_policy *policy = read_policy(cli->args[0], &text, &mistakes, &err);
    int status = CLI_FAILED;
    if (policy == NULL) {
        say_mistakes(&mistakes, &err);
    }
    if (policy != NULL) {
        char path[CLI_PATH_CAP];
        snprintf(path, sizeof path, "/v1/zones/%s/policy", vdc_policy_settings(policy)->zone);
        status = cli_mutate(cli, "PUT", path, json_pack("{s:s}", "policy", vdc_buf_text(&text)),
                            "apply policy");
    }
    vdc_policy_destroy(policy);
    vdc_diags_deinit(&mistakes);
    vdc_buf_deinit(&text);
    return status;
}

int cli_policy_show(struct cli *cli)
{
    char path[CLI_PATH_CAP];
    int status;
    char zone[VDC_NAME_CAP];
    vdc_str_set(zone, sizeof zone, cli->zone);
    if (zone[0] == 0) {
        json_t *zones = cli_list(cli, "/v1/zones", "list zones", &status);
        if (zones == NULL) {
            return status;
        }
        bool one = json_array_size(zones) == 1 &&
                   vdc_str_copy(zone, sizeof zone, cli_text_at(json_array_get(zones, 0), "name"));
        json_decref(zones);
        if (!one) {
            cli_error("there is not exactly one zone: say which by --zone NAME (vdc zone list)");
            return CLI_USAGE;
        }
    }
    snprintf(path, sizeof path, "/v1/zones/%s/policy", zone);
    json_t *item = cli_get(cli, path, "show policy", &status);
    if (item != NULL && !cli_is_table(cli)) {
        cli_print_value(cli, item);
    } else if (item != NULL) {
        printf("# version %lld, applied by %s at %s\n",
               (long long)json_integer_value(cli_at(item, "version")),
               cli_text_at(item, "applied_by"), cli_text_at(item, "applied_at"));
        fputs(cli_text_at(item, "policy"), stdout);
    }
    json_decref(item);
    return status;
}
