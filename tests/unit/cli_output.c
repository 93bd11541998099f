/* SPDX-License-Identifier: Apache-2.0 */
/* What `vdc` prints: tables, and YAML that reads back as what it was. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <vdc/yaml.h>

#include "cli.h"

/* What a function prints on standard output. */
static char printed[16384];

static FILE *capture_begin(int *saved)
{
    FILE *file = tmpfile();
    cr_assert_not_null(file);
    fflush(stdout);
    *saved = dup(STDOUT_FILENO);
    cr_assert(dup2(fileno(file), STDOUT_FILENO) >= 0);
    return file;
}

static void capture_end(FILE *file, int saved)
{
    fflush(stdout);
    cr_assert(dup2(saved, STDOUT_FILENO) >= 0);
    close(saved);
    rewind(file);
    printed[fread(printed, 1, sizeof printed - 1, file)] = 0;
    fclose(file);
}

static void print_value(enum cli_format format, const json_t *value)
{
    struct cli cli = {.format = format};
    int saved;
    FILE *file = capture_begin(&saved);
    cli_print_value(&cli, value);
    capture_end(file, saved);
}

/* The tree says the same as the JSON; numbers and booleans stand unquoted. */
static void assert_same(const struct vdc_tree_node *node, const json_t *value)
{
    const char *key;
    json_t *item;
    size_t i;
    const struct vdc_tree_node *at = node->first;
    if (json_is_object(value) && json_object_size(value) > 0) {
        cr_assert_eq(node->kind, VDC_TREE_MAP, "%s", printed);
        json_object_foreach((json_t *)(uintptr_t)value, key, item)
        {
            cr_assert(at != NULL && strcmp(at->key, key) == 0, "%s\n%s", key, printed);
            assert_same(at, item);
            at = at->next;
        }
    } else if (json_is_array(value) && json_array_size(value) > 0) {
        cr_assert_eq(node->kind, VDC_TREE_LIST, "%s", printed);
        json_array_foreach(value, i, item)
        {
            cr_assert_not_null(at, "%s", printed);
            assert_same(at, item);
            at = at->next;
        }
    } else if (json_is_string(value)) {
        cr_assert_str_eq(node->text, json_string_value(value), "%s", printed);
    } else if (json_is_integer(value)) {
        cr_assert(!node->quoted && strtoll(node->text, NULL, 10) == json_integer_value(value));
    }
    cr_assert_null(at);
}

Test(cli_output, yaml_reads_back_as_what_it_was)
{
    json_t *value =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:n, s:[{s:s, s:[s,s]}, {s:i}], "
                  "s:{s:s, s:{s:s}}, s:{}, s:[]}",
                  "plain", "n1", "number", "0123", "word", "yes", "colon", "a: b # c", "dash",
                  "- x", "lines", "first\n  second: x\n\nfourth\n", "cut", "no\nnewline", "seven",
                  7, "nothing", "items", "name", "a", "more", "x", "@y", "only", 3, "deep",
                  "key/with:", "value", "deeper", "t\tab", "ctrl\n\x07", "none", "nil");
    cr_assert_not_null(value);
    print_value(CLI_YAML, value);
    struct vdc_tree *tree = NULL;
    struct vdc_diags diags = {.source = "yaml"};
    cr_assert_eq(vdc_yaml_load(printed, strlen(printed), sizeof printed, &tree, &diags), VDC_RC_OK,
                 "%s", printed);
    assert_same(vdc_tree_root(tree), value);
    vdc_tree_destroy(tree);
    json_decref(value);
}

Test(cli_output, numbers_show_no_binary_fraction)
{
    json_t *value = json_pack("{s:f}", "ms", 3641.204);
    print_value(CLI_JSON, value);
    cr_assert_str_eq(printed, "{\n  \"ms\": 3641.204\n}\n");
    json_decref(value);
}

Test(cli_output, a_table_fits_and_a_wide_one_shows_all)
{
    static const struct cli_column columns[] = {{"NAME", "name", CLI_TEXT, false},
                                                {"ID", "id", CLI_TEXT, true},
                                                {"WHY", "why", CLI_LINE, false}};
    char why[300] = "web: ";
    memset(why + 5, 'x', 200);
    strcpy(why + 205, "\nsecond line");
    json_t *items = json_pack("[{s:s, s:s, s:s}]", "name", "web", "id", "1234", "why", why);
    struct cli cli = {.format = CLI_TABLE};
    int saved;
    FILE *file = capture_begin(&saved);
    cli_print_list(&cli, items, columns, VDC_COUNT_OF(columns));
    capture_end(file, saved);
    cr_assert_null(strstr(printed, "ID"));
    cr_assert_null(strstr(printed, "web: "));
    cr_assert_null(strstr(printed, "second"));
    cr_assert_leq(strlen(strchr(printed, '\n') + 1), 104, "%s", printed); /* the mark has 3 bytes */
    cli.format = CLI_WIDE;
    file = capture_begin(&saved);
    cli_print_list(&cli, items, columns, VDC_COUNT_OF(columns));
    capture_end(file, saved);
    cr_assert_not_null(strstr(printed, "1234"));
    cr_assert_gt(strlen(printed), 200);
    json_decref(items);
}
