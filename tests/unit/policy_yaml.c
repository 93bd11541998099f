/* SPDX-License-Identifier: Apache-2.0 */
/* The YAML loader: the places of what it reads, and everything that it refuses. */
#include <criterion/criterion.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/buf.h>
#include <vdc/yaml.h>

static char *load(const char *text, size_t len, enum vdc_rc *rc)
{
    struct vdc_tree *tree;
    struct vdc_diags diags = {0};
    *rc = vdc_yaml_load(text, len, 100000, &tree, &diags);
    cr_assert_eq(*rc == VDC_RC_OK, tree != NULL);
    cr_assert_eq(*rc == VDC_RC_OK, diags.count == 0);
    struct vdc_buf out = {0};
    vdc_diags_render(&diags, &out);
    vdc_diags_deinit(&diags);
    vdc_tree_destroy(tree);
    return vdc_buf_steal(&out);
}

Test(policy_yaml, what_a_configuration_does_not_need_is_refused_with_its_place)
{
    static const struct {
        const char *text;
        const char *expected;
    } cases[] = {
        {"", "1:1: there is nothing in it\n"},
        {"# only a comment\n", "1:1: there is nothing in it\n"},
        {"a: *x", "1:4: aliases (*name) are not supported\n"},
        {"a: &x 1\nb: &y [1]", "1:4: anchors (&name) are not supported\n"
                               "2:4: anchors (&name) are not supported\n"},
        {"<<: {}\n", "1:1: merge keys (<<) are not supported\n"},
        {"a: !!int 3", "1:4: tags are not supported; put a text that begins with '!' in quotes\n"},
        {"a: !has(x)", "1:4: tags are not supported; put a text that begins with '!' in quotes\n"},
        {"%YAML 1.1\n---\na: 1\n", "1:1: directives (%) are not supported\n"},
        {"a: 1\n---\nb: 1\n", "2:1: a second document; one file holds one\n"},
        {"a: 1\n...\n---\nb: 1\n", "3:1: a second document; one file holds one\n"},
        {"? [a]\n: 1\n", "1:3: a key must be a plain text\n"},
        {"? \n: 1\n", "1:2: a key is missing before ':'\n"},
        {"{a: 1, b: 2, a: 3}", "1:14: duplicate key \"a\", given before at line 1, column 2\n"},
        {"x:\n  a: 1\n  \"a\": 2\n",
         "3:3: duplicate key \"a\", given before at line 2, column 3\n"},
        {"a: \"\\0\"", "1:4: a text with a NUL character\n"},
        {"a: b: c", "1:5: syntax: mapping values are not allowed in this context\n"},
        {"\ta: 1", "1:1: syntax: found character that cannot start any token while scanning for "
                   "the next token\n"},
        {"a: \"x\n", "2:1: syntax: found unexpected end of stream while scanning a quoted scalar "
                     "from line 1\n"},
        {"a: [1, 2\n", "2:1: syntax: did not find expected ',' or ']' while parsing a flow "
                       "sequence from line 1\n"},
        {"a: 1\n b: 2\n", "2:3: syntax: mapping values are not allowed in this context\n"},
        {"a: \xff", "1:4: byte 0xff is not UTF-8\n"},
        {"\xc3\xa4\xc3\xa4: \xc0\xaf", "1:5: byte 0xc0 is not UTF-8\n"},
        {"a\n\xed\xa0\x80", "2:1: byte 0xed is not UTF-8\n"},
        {"a: \xf0\x9f\x98", "1:4: byte 0xf0 is not UTF-8\n"},
        {"a: b\x01", "1:5: character U+0001 may not stand in a text file\n"},
        {"\xef\xbb\xbf\xef\xbb\xbf"
         "a: 1",
         "1:1: character U+FEFF may not stand in a text file\n"},
    };
    for (size_t i = 0; i < VDC_COUNT_OF(cases); i++) {
        enum vdc_rc rc;
        vdc_autofree char *said = load(cases[i].text, strlen(cases[i].text), &rc);
        cr_assert_eq(rc, VDC_RC_INVALID);
        cr_expect_str_eq(said, cases[i].expected, "%s\nsaid: %s\nexpected: %s", cases[i].text, said,
                         cases[i].expected);
    }
}

Test(policy_yaml, a_nul_byte_is_refused)
{
    enum vdc_rc rc;
    vdc_autofree char *said = load("a: \0b", 5, &rc);
    cr_assert_str_eq(said, "1:4: character U+0000 may not stand in a text file\n");
}

Test(policy_yaml, deep_nesting_is_refused_at_once)
{
    char text[50000];
    memset(text, '[', sizeof text);
    enum vdc_rc rc;
    vdc_autofree char *said = load(text, sizeof text, &rc);
    cr_assert_eq(rc, VDC_RC_TOO_LARGE);
    cr_assert_str_eq(said, "1:33: nested too deeply, at most 32 levels are allowed\n");
}

Test(policy_yaml, a_text_beyond_the_bound_is_refused)
{
    char text[100001];
    memset(text, ' ', sizeof text);
    enum vdc_rc rc;
    vdc_autofree char *said = load(text, sizeof text, &rc);
    cr_assert_eq(rc, VDC_RC_TOO_LARGE);
    cr_assert_str_eq(said, "100001 bytes, at most 100000 are allowed\n");
}

Test(policy_yaml, too_many_values_are_refused)
{
    size_t len = 2 * (VDC_YAML_NODES_MAX + 2);
    vdc_autofree char *text = vdc_calloc(1, len);
    for (size_t i = 0; i < len; i += 2) {
        memcpy(text + i, i == 0 ? "[1" : ",1", 2);
    }
    struct vdc_tree *tree;
    struct vdc_diags diags = {0};
    cr_assert_eq(vdc_yaml_load(text, len, len, &tree, &diags), VDC_RC_TOO_LARGE);
    cr_assert_null(tree);
    cr_assert_str_eq(diags.items[0].text, "more than 500000 values");
    vdc_diags_deinit(&diags);
}

Test(policy_yaml, places_count_characters_and_quotes)
{
    static const char text[] = "\xef\xbb\xbf# \xc3\xa4\n"
                               "k\xc3\xa4y: plain text  # comment\n"
                               "q: 'in quotes'\n"
                               "e: \"esc\\u0061ped\"\n"
                               "l: [1, {x: 2}]\n"
                               "n:\n"
                               "f: >\n"
                               "  folded\n"
                               "  text\n";
    struct vdc_tree *tree;
    struct vdc_diags diags = {0};
    cr_assert_eq(vdc_yaml_load(text, strlen(text), 1000, &tree, &diags), VDC_RC_OK);
    const struct vdc_tree_node *root = vdc_tree_root(tree);
    cr_assert_eq(root->count, 6);
    const struct vdc_tree_node *at = root->first;
    cr_assert_str_eq(at->key, "k\xc3\xa4y");
    cr_assert_str_eq(at->text, "plain text");
    cr_assert(at->exact && !at->quoted && at->line == 2 && at->column == 6 && at->key_column == 1);
    at = at->next;
    cr_assert_str_eq(at->text, "in quotes");
    cr_assert(at->exact && at->quoted && at->column == 4 && at->text_column == 5);
    at = at->next;
    cr_assert_str_eq(at->text, "escaped");
    cr_assert(!at->exact && at->quoted);
    at = at->next;
    cr_assert(at->kind == VDC_TREE_LIST && at->count == 2 && at->line == 5 && at->column == 4);
    const struct vdc_tree_node *inner = at->first->next;
    cr_assert(inner->kind == VDC_TREE_MAP && inner->key == NULL && inner->column == 8);
    cr_assert_str_eq(inner->first->key, "x");
    at = at->next;
    cr_assert(vdc_tree_is_null(at));
    at = at->next;
    cr_assert_str_eq(at->text, "folded text\n");
    cr_assert(!at->exact && at->quoted && at->next == NULL);
    vdc_tree_destroy(tree);
}

Test(policy_yaml, json_is_read_too)
{
    static const char text[] = "{\"a\": [1, true, null, \"x\"], \"b\": {}}";
    struct vdc_tree *tree;
    struct vdc_diags diags = {0};
    cr_assert_eq(vdc_yaml_load(text, strlen(text), 1000, &tree, &diags), VDC_RC_OK);
    const struct vdc_tree_node *list = vdc_tree_root(tree)->first;
    cr_assert_eq(list->count, 4);
    cr_assert_str_eq(list->first->text, "1");
    cr_assert(vdc_tree_is_null(list->first->next->next));
    vdc_tree_destroy(tree);
}
