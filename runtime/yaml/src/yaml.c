/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text is checked for UTF-8 first, because libyaml reports bad bytes without their line. Then
 * its events are turned into nodes with a stack of open maps and lists of fixed depth: no
 * recursion, and nesting ends the reading before libyaml's own bookkeeping, which is quadratic in
 * the depth, can cost anything.
 *
 * What can be passed over (an alias, a tag, a second key of one name) is reported and the reading
 * goes on, so that a person sees all of it at once. A syntax error ends it.
 */
#include <stdio.h>
#include <string.h>

#include <yaml.h>

#include <vdc/base.h>
#include <vdc/utf8.h>
#include <vdc/yaml.h>

struct open_node {
    struct vdc_tree_node *node;
    bool want_key;   /* map: the next event is a key */
    const char *key; /* map: the key that waits for its value */
    uint32_t key_line;
    uint32_t key_column;
};

struct loader {
    yaml_parser_t parser;
    struct vdc_tree *tree;
    struct vdc_diags *diags;
    struct open_node stack[VDC_YAML_DEPTH_MAX];
    size_t depth;
    size_t node_count;
    size_t documents;
    enum vdc_rc rc;                      /* not OK: stop */
    const struct vdc_tree_node **sorted; /* room to sort the keys of one map */
    size_t sorted_cap;
};

static uint32_t line_of(const yaml_mark_t *mark)
{
    return (uint32_t)mark->line + 1;
}

static uint32_t column_of(const yaml_mark_t *mark)
{
    return (uint32_t)mark->column + 1;
}

/* ---- characters ---- */

/* What YAML calls printable (section 5.1); a byte order mark is taken at the beginning only. */
static bool is_printable(uint32_t code)
{
    return code == '\t' || code == '\n' || code == '\r' || (code >= 0x20 && code <= 0x7e) ||
           code == 0x85 || (code >= 0xa0 && code <= 0xd7ff) ||
           (code >= 0xe000 && code <= 0xfffd && code != 0xfeff) || code >= 0x10000;
}

static bool check_characters(const char *text, size_t len, struct vdc_diags *diags)
{
    uint32_t line = 1;
    uint32_t column = 1;
    for (size_t i = 0; i < len;) {
        uint32_t code;
        size_t step = vdc_utf8_sequence(text + i, len - i, &code);
        if (step == 0) {
            vdc_diags_add(diags, line, column, "byte 0x%02x is not UTF-8", (unsigned char)text[i]);
            return false;
        }
        if (!is_printable(code)) {
            vdc_diags_add(diags, line, column, "character U+%04X may not stand in a text file",
                          code);
            return false;
        }
        i += step;
        bool ends = code == '\n' || (code == '\r' && (i >= len || text[i] != '\n'));
        line += ends ? 1 : 0;
        column = ends ? 1 : column + 1;
    }
    return true;
}

static size_t utf8_length(const char *text, size_t len)
{
    size_t characters = 0;
    for (size_t i = 0; i < len; i++) {
        characters += ((unsigned char)text[i] & 0xc0) != 0x80;
    }
    return characters;
}

/* ---- events to nodes ---- */

static void stop(struct loader *loader, enum vdc_rc rc)
{
    loader->rc = rc;
}

static struct open_node *top(struct loader *loader)
{
    return loader->depth > 0 ? &loader->stack[loader->depth - 1] : NULL;
}

/* Whether this event stands where a key of the innermost map is due. */
static bool key_is_due(struct loader *loader)
{
    struct open_node *open = top(loader);
    return open != NULL && open->node->kind == VDC_TREE_MAP && open->want_key;
}

static struct vdc_tree_node *add_node(struct loader *loader, const yaml_mark_t *mark,
                                      enum vdc_tree_kind kind)
{
    if (++loader->node_count > VDC_YAML_NODES_MAX) {
        vdc_diags_add(loader->diags, line_of(mark), column_of(mark), "more than %d values",
                      VDC_YAML_NODES_MAX);
        stop(loader, VDC_RC_TOO_LARGE);
        return NULL;
    }
    struct open_node *open = top(loader);
    struct vdc_tree_node *node = vdc_tree_add(loader->tree, open != NULL ? open->node : NULL);
    node->kind = kind;
    node->line = line_of(mark);
    node->column = column_of(mark);
    node->text_column = node->column;
    if (open != NULL && open->node->kind == VDC_TREE_MAP) {
        node->key = open->key;
        node->key_line = open->key_line;
        node->key_column = open->key_column;
        open->want_key = true;
    }
    return node;
}

/* Anchors and tags change the meaning of what follows; nothing of ours needs them. */
static void refuse_decoration(struct loader *loader, const yaml_mark_t *mark, const void *anchor,
                              const void *tag)
{
    if (anchor != NULL) {
        vdc_diags_add(loader->diags, line_of(mark), column_of(mark),
                      "anchors (&name) are not supported");
    }
    if (tag != NULL) {
        vdc_diags_add(loader->diags, line_of(mark), column_of(mark),
                      "tags are not supported; put a text that begins with '!' in quotes");
    }
}

static void take_key(struct loader *loader, const yaml_event_t *event)
{
    struct open_node *open = top(loader);
    const char *text = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    uint32_t line = line_of(&event->start_mark);
    uint32_t column = column_of(&event->start_mark);
    if (len == 0 && plain) {
        vdc_diags_add(loader->diags, line, column, "a key is missing before ':'");
    } else if (plain && strcmp(text, "<<") == 0) {
        vdc_diags_add(loader->diags, line, column, "merge keys (<<) are not supported");
    } else if (len > VDC_YAML_KEY_MAX) {
        vdc_diags_add(loader->diags, line, column, "a key of %zu bytes, at most %d are allowed",
                      len, VDC_YAML_KEY_MAX);
        len = VDC_YAML_KEY_MAX;
    } else if (memchr(text, 0, len) != NULL) {
        vdc_diags_add(loader->diags, line, column, "a key with a NUL character");
    }
    open->key = vdc_tree_text(loader->tree, text, len);
    open->key_line = line;
    open->key_column = column;
    open->want_key = false;
}

static void take_scalar(struct loader *loader, const yaml_event_t *event)
{
    refuse_decoration(loader, &event->start_mark, event->data.scalar.anchor,
                      event->data.scalar.tag);
    if (key_is_due(loader)) {
        take_key(loader, event);
        return;
    }
    struct vdc_tree_node *node = add_node(loader, &event->start_mark, VDC_TREE_SCALAR);
    if (node == NULL) {
        return;
    }
    const char *text = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    if (memchr(text, 0, len) != NULL) {
        vdc_diags_add(loader->diags, node->line, node->column, "a text with a NUL character");
    }
    node->text = vdc_tree_text(loader->tree, text, len);
    node->text_len = len;
    node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    /* If what stands in the file is as long as the text (and its quotes), nothing was folded or
     * unescaped, and a place in the text is a place in the file. */
    bool in_quotes = event->data.scalar.style == YAML_SINGLE_QUOTED_SCALAR_STYLE ||
                     event->data.scalar.style == YAML_DOUBLE_QUOTED_SCALAR_STYLE;
    size_t written = event->end_mark.index - event->start_mark.index;
    node->exact = event->start_mark.line == event->end_mark.line && (in_quotes || !node->quoted) &&
                  written == utf8_length(text, len) + (in_quotes ? 2 : 0);
    node->text_column = node->column + (in_quotes ? 1 : 0);
}

static void open_container(struct loader *loader, const yaml_event_t *event,
                           enum vdc_tree_kind kind)
{
    const yaml_mark_t *mark = &event->start_mark;
    if (kind == VDC_TREE_MAP) {
        refuse_decoration(loader, mark, event->data.mapping_start.anchor,
                          event->data.mapping_start.tag);
    } else {
        refuse_decoration(loader, mark, event->data.sequence_start.anchor,
                          event->data.sequence_start.tag);
    }
    if (key_is_due(loader)) {
        vdc_diags_add(loader->diags, line_of(mark), column_of(mark), "a key must be a plain text");
        stop(loader, VDC_RC_INVALID);
        return;
    }
    if (loader->depth == VDC_YAML_DEPTH_MAX) {
        vdc_diags_add(loader->diags, line_of(mark), column_of(mark),
                      "nested too deeply, at most %d levels are allowed", VDC_YAML_DEPTH_MAX);
        stop(loader, VDC_RC_TOO_LARGE);
        return;
    }
    struct vdc_tree_node *node = add_node(loader, mark, kind);
    if (node != NULL) {
        loader->stack[loader->depth++] = (struct open_node){.node = node, .want_key = true};
    }
}

/* By key, then by place, so that equal keys stand side by side in the order of the text. */
static int compare_keys(const void *a, const void *b)
{
    const struct vdc_tree_node *left = *(const struct vdc_tree_node *const *)a;
    const struct vdc_tree_node *right = *(const struct vdc_tree_node *const *)b;
    int order = strcmp(left->key, right->key);
    if (order != 0) {
        return order;
    }
    if (left->key_line != right->key_line) {
        return left->key_line < right->key_line ? -1 : 1;
    }
    return left->key_column < right->key_column ? -1 : left->key_column > right->key_column;
}

/* Sorting instead of hashing: no choice of keys makes it slow. */
static void refuse_duplicate_keys(struct loader *loader, const struct vdc_tree_node *map)
{
    VDC_GROW(loader->sorted, loader->sorted_cap, map->count);
    size_t count = 0;
    for (const struct vdc_tree_node *at = map->first; at != NULL; at = at->next) {
        loader->sorted[count++] = at;
    }
    if (count < 2) {
        return;
    }
    qsort(loader->sorted, count, sizeof loader->sorted[0], compare_keys);
    const struct vdc_tree_node *first = loader->sorted[0];
    for (size_t i = 1; i < count; i++) {
        const struct vdc_tree_node *at = loader->sorted[i];
        if (strcmp(first->key, at->key) != 0) {
            first = at;
            continue;
        }
        vdc_diags_add(loader->diags, at->key_line, at->key_column,
                      "duplicate key \"%.40s\", given before at line %u, column %u", at->key,
                      first->key_line, first->key_column);
    }
}

static void take_event(struct loader *loader, const yaml_event_t *event)
{
    const yaml_mark_t *mark = &event->start_mark;
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (++loader->documents > 1) {
            vdc_diags_add(loader->diags, line_of(mark), column_of(mark),
                          "a second document; one file holds one");
            stop(loader, VDC_RC_INVALID);
        }
        if (event->data.document_start.version_directive != NULL ||
            event->data.document_start.tag_directives.start !=
                event->data.document_start.tag_directives.end) {
            vdc_diags_add(loader->diags, line_of(mark), column_of(mark),
                          "directives (%%) are not supported");
        }
        return;
    case YAML_ALIAS_EVENT:
        vdc_diags_add(loader->diags, line_of(mark), column_of(mark),
                      "aliases (*name) are not supported");
        stop(loader, VDC_RC_INVALID);
        return;
    case YAML_SCALAR_EVENT:
        take_scalar(loader, event);
        return;
    case YAML_SEQUENCE_START_EVENT:
        open_container(loader, event, VDC_TREE_LIST);
        return;
    case YAML_MAPPING_START_EVENT:
        open_container(loader, event, VDC_TREE_MAP);
        return;
    case YAML_MAPPING_END_EVENT:
        refuse_duplicate_keys(loader, top(loader)->node);
        loader->depth--;
        return;
    case YAML_SEQUENCE_END_EVENT:
        loader->depth--;
        return;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return;
    }
}

static void say_syntax_error(struct loader *loader)
{
    const yaml_parser_t *parser = &loader->parser;
    const char *problem = parser->problem != NULL ? parser->problem : "not readable as YAML";
    char begins[32] = "";
    if (parser->context != NULL && parser->context_mark.line != parser->problem_mark.line) {
        snprintf(begins, sizeof begins, " from line %u", line_of(&parser->context_mark));
    }
    vdc_diags_add(loader->diags, line_of(&parser->problem_mark), column_of(&parser->problem_mark),
                  "syntax: %s%s%s%s", problem, parser->context != NULL ? " " : "",
                  parser->context != NULL ? parser->context : "", begins);
    stop(loader, VDC_RC_INVALID);
}

static void load_events(struct loader *loader)
{
    for (bool more = true; more && loader->rc == VDC_RC_OK;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&loader->parser, &event)) {
            say_syntax_error(loader);
            return;
        }
        take_event(loader, &event);
        more = event.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
}

enum vdc_rc vdc_yaml_load_partly(const char *text, size_t len, size_t len_max,
                                 struct vdc_tree **tree, struct vdc_diags *diags)
{
    *tree = NULL;
    if (len > len_max) {
        vdc_diags_add(diags, 0, 0, "%zu bytes, at most %zu are allowed", len, len_max);
        return VDC_RC_TOO_LARGE;
    }
    static const char byte_order_mark[] = "\xef\xbb\xbf";
    if (len >= 3 && memcmp(text, byte_order_mark, 3) == 0) {
        text += 3;
        len -= 3;
    }
    if (!check_characters(text, len, diags)) {
        return VDC_RC_INVALID;
    }
    uint64_t said_before = diags->count + diags->dropped;
    struct loader loader = {.tree = vdc_tree_create(), .diags = diags, .rc = VDC_RC_OK};
    VDC_ASSERT(yaml_parser_initialize(&loader.parser)); /* fails only without memory */
    yaml_parser_set_encoding(&loader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&loader.parser, (const unsigned char *)text, len);
    load_events(&loader);
    yaml_parser_delete(&loader.parser);
    free(loader.sorted);
    if (loader.rc == VDC_RC_OK && vdc_tree_root(loader.tree) == NULL) {
        vdc_diags_add(diags, 1, 1, "there is nothing in it");
        loader.rc = VDC_RC_INVALID;
    }
    vdc_diags_sort(diags);
    if (loader.rc != VDC_RC_OK) {
        vdc_tree_destroy(loader.tree);
        return loader.rc;
    }
    *tree = loader.tree;
    return diags->count + diags->dropped > said_before ? VDC_RC_INVALID : VDC_RC_OK;
}

enum vdc_rc vdc_yaml_load(const char *text, size_t len, size_t len_max, struct vdc_tree **tree,
                          struct vdc_diags *diags)
{
    enum vdc_rc rc = vdc_yaml_load_partly(text, len, len_max, tree, diags);
    if (rc != VDC_RC_OK) {
        vdc_tree_destroy(*tree);
        *tree = NULL;
    }
    return rc;
}
