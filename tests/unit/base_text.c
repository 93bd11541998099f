/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of base: codes, errors, buffers, trace, state machines, diagnostics. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/buf.h>
#include <vdc/sm.h>
#include <vdc/trace.h>
#include <vdc/tree.h>
#include <vdc/utf8.h>

/* ---- codes and errors ---- */

Test(base_text, every_code_has_a_name_that_leads_back)
{
    static const enum vdc_rc codes[] = {
#define X(name, http, retryable, sentence) VDC_RC_##name,
        VDC_RC_LIST(X)
#undef X
    };
    for (size_t i = 0; i < VDC_COUNT_OF(codes); i++) {
        cr_expect_eq(vdc_rc_from_name(vdc_rc_name(codes[i])), codes[i]);
        cr_expect_neq(vdc_rc_sentence(codes[i])[0], 0);
        int status = vdc_rc_http_status(codes[i]);
        cr_expect(status >= 200 && status < 600);
    }
    cr_expect_eq(vdc_rc_from_name("A_NEWER_PEERS_CODE"), VDC_RC_INTERNAL);
    cr_expect_str_eq(vdc_rc_name((enum vdc_rc)4711), "INTERNAL");
    cr_expect(vdc_rc_retryable(VDC_RC_NO_LEADER));
    cr_expect_not(vdc_rc_retryable(VDC_RC_INVALID));
}

Test(base_text, an_error_reads_from_the_outside_in)
{
    struct vdc_err err = {0};
    cr_expect_eq(vdc_err_errno(&err, EACCES, "open %s", "/dev/net/tun"), VDC_RC_FORBIDDEN);
    cr_expect_eq(vdc_err_wrap(&err, "attach tap %s", "vdc12"), VDC_RC_FORBIDDEN);
    cr_expect_eq(vdc_err_wrap(&err, "start partition web-3"), VDC_RC_FORBIDDEN);
    cr_expect_str_eq(vdc_err_text(&err), "start partition web-3: attach tap vdc12: open "
                                         "/dev/net/tun: Permission denied");
}

Test(base_text, an_error_that_nobody_reads_keeps_its_code_on_the_way_up)
{
    struct vdc_err other;
    cr_expect_eq(vdc_err_errno(NULL, ENOSPC, "write"), VDC_RC_NO_SPACE);
    vdc_err_set(&other, VDC_RC_TIMEOUT, "of somebody else");
    cr_expect_eq(vdc_err_wrap(NULL, "snapshot"), VDC_RC_NO_SPACE);
    cr_expect_eq(vdc_err_wrap(NULL, "journal"), VDC_RC_NO_SPACE);
    cr_expect_eq(vdc_err_set(NULL, VDC_RC_STALE, "epoch"), VDC_RC_STALE);
    cr_expect_eq(vdc_err_wrap(NULL, "commit"), VDC_RC_STALE);
}

Test(base_text, an_error_without_a_text_has_its_codes_sentence)
{
    struct vdc_err err = {.rc = VDC_RC_NOT_FOUND};
    cr_expect_str_eq(vdc_err_text(&err), "there is no such thing");
    cr_expect_eq(vdc_err_set(NULL, VDC_RC_LIMIT, "nobody reads it"), VDC_RC_LIMIT);
    cr_expect_eq(vdc_err_errno(NULL, ENOSPC, "nor this"), VDC_RC_NO_SPACE);
}

Test(base_text, an_error_may_be_made_from_its_own_text_and_is_cut_at_its_bound)
{
    struct vdc_err err = {0};
    vdc_err_set(&err, VDC_RC_IO, "inner");
    vdc_err_set(&err, VDC_RC_IO, "outer: %s", err.text);
    cr_expect_str_eq(err.text, "outer: inner");
    for (int i = 0; i < 300; i++) {
        vdc_err_wrap(&err, "step %d", i);
    }
    cr_expect_eq(strnlen(err.text, sizeof err.text), VDC_ERR_TEXT_MAX - 1);
    cr_expect_eq(strncmp(err.text, "step 299: step 298: ", 20), 0);
    char wide[2 * VDC_ERR_TEXT_MAX];
    memset(wide, 'x', sizeof wide - 1);
    wide[sizeof wide - 1] = 0;
    vdc_err_wrap(&err, "%s", wide);
    cr_expect_eq(strnlen(err.text, sizeof err.text), VDC_ERR_TEXT_MAX - 1);
}

/* ---- buffers ---- */

Test(base_text, a_buffer_is_text_at_every_moment)
{
    struct vdc_buf buf = {0};
    cr_expect_str_eq(vdc_buf_text(&buf), "");
    vdc_buf_puts(&buf, "");
    vdc_buf_printf(&buf, "%s-%d", "a", 1);
    vdc_buf_append(&buf, "\0b", 2);
    cr_expect_eq(buf.len, 5);
    cr_expect_eq(buf.data[5], 0);
    vdc_buf_consume(&buf, 2);
    cr_expect_str_eq(vdc_buf_text(&buf), "1");
    cr_expect_eq(buf.len, 3);
    vdc_buf_consume(&buf, 3);
    cr_expect_str_eq(vdc_buf_text(&buf), "");
    for (int i = 0; i < 10000; i++) {
        vdc_buf_puts(&buf, "0123456789");
    }
    cr_expect_eq(buf.len, 100000);
    cr_expect_eq(strlen(buf.data), 100000);
    vdc_buf_clear(&buf);
    cr_expect_str_eq(vdc_buf_text(&buf), "");
    vdc_buf_puts(&buf, "handed out");
    vdc_autofree char *text = vdc_buf_steal(&buf);
    cr_expect_str_eq(text, "handed out");
    cr_expect_null(buf.data);
    vdc_autofree char *empty = vdc_buf_steal(&buf);
    cr_expect_str_eq(empty, "");
}

Test(base_text, taking_more_than_is_there_is_our_own_bug, .signal = SIGABRT)
{
    struct vdc_buf buf = {0};
    vdc_buf_puts(&buf, "ab");
    vdc_buf_consume(&buf, 3);
}

/* ---- trace ---- */

Test(base_text, trace_lines_come_out_as_they_went_in)
{
    struct vdc_trace trace = {0};
    vdc_trace_line(&trace, VDC_LEVEL_WARN, "node %s: %d -> %d", "n1", 1, 2);
    vdc_trace_line(&trace, VDC_LEVEL_DEBUG, "two\nlines and a \x1b[31m colour");
    enum vdc_level level;
    char line[64];
    cr_expect(vdc_trace_take(&trace, &level, line, sizeof line));
    cr_expect_str_eq(line, "node n1: 1 -> 2");
    cr_expect_eq(level, VDC_LEVEL_WARN);
    cr_expect(vdc_trace_take(&trace, &level, line, 10));
    cr_expect_str_eq(line, "two lines", "cut and on one line");
    cr_expect_str_eq(vdc_level_name(level), "debug");
    cr_expect_not(vdc_trace_take(&trace, &level, line, sizeof line));
    vdc_trace_deinit(&trace);
}

Test(base_text, too_many_trace_lines_are_counted)
{
    struct vdc_trace trace = {0};
    for (int i = 0; i < VDC_TRACE_LINES_MAX + 3; i++) {
        vdc_trace_line(&trace, VDC_LEVEL_INFO, "line %d", i);
    }
    enum vdc_level level;
    char line[128];
    int lines = 0;
    while (vdc_trace_take(&trace, &level, line, sizeof line)) {
        lines++;
    }
    cr_expect_eq(lines, VDC_TRACE_LINES_MAX + 1);
    cr_expect_str_eq(line, "trace: 3 more lines in this step were dropped");
    vdc_trace_deinit(&trace);
}

/* ---- state machines ---- */

static const struct vdc_sm_state door[] = {
    {"open", VDC_SM_TO(1)},
    {"closed", VDC_SM_TO(0) | VDC_SM_TO(2)},
    {"locked", VDC_SM_TO(1)},
};

Test(base_text, a_move_that_the_table_allows_is_traced)
{
    struct vdc_trace trace = {0};
    int state = vdc_sm_move(door, 3, 0, 1, &trace, "door", "front", "wind");
    cr_expect_eq(state, 1);
    enum vdc_level level;
    char line[64];
    cr_expect(vdc_trace_take(&trace, &level, line, sizeof line));
    cr_expect_str_eq(line, "door front: open -> closed (wind)");
    cr_expect_eq(vdc_sm_find(door, 3, "locked"), 2);
    cr_expect_eq(vdc_sm_find(door, 3, "ajar"), -1);
    vdc_trace_deinit(&trace);
}

Test(base_text, a_move_that_the_table_does_not_allow_ends_the_process, .signal = SIGABRT)
{
    struct vdc_trace trace = {0};
    vdc_sm_move(door, 3, 0, 2, &trace, "door", "front", "magic");
}

/* ---- diagnostics and the tree's readers ---- */

Test(base_text, the_nearest_name_is_near)
{
    static const char *const known[] = {"cpus", "memory", "partitions", "x"};
    cr_expect_str_eq(vdc_nearest_name("cpu", known, 4), "cpus");
    cr_expect_str_eq(vdc_nearest_name("cpsu", known, 4), "cpus", "two neighbours swapped");
    cr_expect_str_eq(vdc_nearest_name("memroy", known, 4), "memory");
    cr_expect_str_eq(vdc_nearest_name("partition", known, 4), "partitions");
    cr_expect_null(vdc_nearest_name("disk", known, 4));
    cr_expect_null(vdc_nearest_name("y", known, 4), "nothing of it is the same");
    cr_expect_null(vdc_nearest_name("", known, 4));
    char wide[500];
    memset(wide, 'c', sizeof wide - 1);
    wide[sizeof wide - 1] = 0;
    cr_expect_null(vdc_nearest_name(wide, known, 4));
}

Test(base_text, diagnostics_are_sorted_bounded_and_printable)
{
    struct vdc_diags diags = {.source = "a.yaml"};
    vdc_diags_add(&diags, 3, 1, "third\nline");
    vdc_diags_add(&diags, 1, 9, "second");
    vdc_diags_add(&diags, 1, 2, "first");
    vdc_diags_add(&diags, 0, 0, "about all");
    vdc_diags_sort(&diags);
    struct vdc_buf out = {0};
    vdc_diags_render(&diags, &out);
    cr_expect_str_eq(vdc_buf_text(&out), "a.yaml: about all\na.yaml:1:2: first\na.yaml:1:9: "
                                         "second\na.yaml:3:1: third line\n");
    vdc_buf_deinit(&out);
    char wide[1000];
    memset(wide, 'a', sizeof wide - 1);
    wide[sizeof wide - 1] = 0;
    memcpy(wide + VDC_DIAG_TEXT_CAP - 3, "\xe2\x82\xac", 3); /* cut in the middle */
    vdc_diags_add(&diags, 9, 9, "%s", wide);
    cr_expect_eq(strlen(diags.items[4].text), VDC_DIAG_TEXT_CAP - 3, "no half character is left");
    for (int i = 0; i < 2 * VDC_DIAGS_MAX; i++) {
        vdc_diags_add(&diags, 1, 1, "more");
    }
    cr_expect_eq(diags.count, VDC_DIAGS_MAX);
    cr_expect_eq(diags.dropped, VDC_DIAGS_MAX + 5);
    vdc_diags_deinit(&diags);
}

Test(base_text, a_map_with_a_field_that_nobody_asked_for_is_complained_about)
{
    struct vdc_tree *tree = vdc_tree_create();
    struct vdc_tree_node *root = vdc_tree_add(tree, NULL);
    root->kind = VDC_TREE_MAP;
    static const char *const fields[][2] = {{"name", "a"}, {"adress", "b"}, {"old", "c"}};
    for (size_t i = 0; i < VDC_COUNT_OF(fields); i++) {
        struct vdc_tree_node *node = vdc_tree_add(tree, root);
        node->kind = VDC_TREE_SCALAR;
        node->key = vdc_tree_text(tree, fields[i][0], strlen(fields[i][0]));
        node->key_line = (uint32_t)i + 1;
        node->key_column = 1;
        node->text = vdc_tree_text(tree, fields[i][1], 1);
        node->text_len = 1;
    }
    struct vdc_diags diags = {0};
    struct vdc_tree_map map;
    cr_assert(vdc_tree_map_begin(&map, root, "host", &diags));
    cr_expect_str_eq(vdc_tree_map_get(&map, "name")->text, "a");
    cr_expect_null(vdc_tree_map_get(&map, "address"));
    cr_expect_null(vdc_tree_map_need(&map, "rack"));
    vdc_tree_map_unsupported(&map, "old");
    vdc_tree_map_end(&map);
    vdc_diags_sort(&diags);
    struct vdc_buf out = {0};
    vdc_diags_render(&diags, &out);
    cr_expect_str_eq(vdc_buf_text(&out),
                     "host: rack is missing\n"
                     "2:1: host: unknown field \"adress\"; did you mean address?\n"
                     "3:1: host: old: not supported by this version\n");
    vdc_buf_deinit(&out);
    vdc_diags_deinit(&diags);
    vdc_tree_destroy(tree);
}

Test(base_text, utf8_is_what_rfc_3629_says)
{
    static const struct {
        const char *text;
        size_t len; /* of the first sequence */
        uint32_t code;
    } cases[] = {
        {"a", 1, 'a'},
        {"\xc2\xa0", 2, 0xa0},
        {"\xe2\x82\xac", 3, 0x20ac},
        {"\xf4\x8f\xbf\xbf", 4, 0x10ffff},
        {"\xc1\xbf", 0, 0},         /* overlong */
        {"\xe0\x9f\xbf", 0, 0},     /* overlong */
        {"\xed\xa0\x80", 0, 0},     /* a surrogate */
        {"\xf4\x90\x80\x80", 0, 0}, /* beyond the last */
        {"\xf8\x88\x80\x80", 0, 0},
        {"\x80", 0, 0},
        {"\xe2\x82", 0, 0}, /* cut */
        {"\xe2(\xac", 0, 0},
    };
    for (size_t i = 0; i < VDC_COUNT_OF(cases); i++) {
        uint32_t code = 0;
        size_t len = strlen(cases[i].text);
        cr_expect_eq(vdc_utf8_sequence(cases[i].text, len, &code), cases[i].len, "case %zu", i);
        cr_expect_eq(code, cases[i].code, "case %zu", i);
        cr_expect_eq(vdc_text_is_printable(cases[i].text, len), cases[i].len > 0, "case %zu", i);
    }
    cr_expect(vdc_text_is_printable("", 0));
    cr_expect_not(vdc_text_is_printable("a\tb", 3));
    cr_expect_not(vdc_text_is_printable("a\x7f", 2));
    cr_expect_not(vdc_text_is_printable("a\0b", 3));
}

Test(base_text, a_text_from_outside_is_repaired_in_its_place)
{
    static const char *const cases[][2] = {
        {"plain", "plain"}, {"a\r\nb\x7f", "a  b "}, {"caf\xc3\xa9", "caf\xc3\xa9"},
        {"caf\xc3", "caf"}, {"\xf0\x9f\x98", ""},    {"\xc3(", "?("},
        {"\xff\xfe", "??"}, {"\x80", "?"},
    };
    for (size_t i = 0; i < VDC_COUNT_OF(cases); i++) {
        char text[32];
        strcpy(text, cases[i][0]);
        vdc_text_make_printable(text);
        cr_expect_str_eq(text, cases[i][1], "case %zu", i);
        cr_expect(vdc_text_is_printable(text, strlen(text)));
    }
}
