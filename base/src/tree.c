/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes and texts live in chunks that are freed together, so that building costs no allocation per
 * node and a node's address never changes.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/limits.h>
#include <vdc/quantity.h>
#include <vdc/tree.h>

#define NODES_PER_CHUNK 256
#define TEXT_CHUNK_BYTES 16384
/* A scalar shown in a sentence is cut after so many bytes. */
#define SHOWN_MAX 40

/* ---- diagnostics ---- */

void vdc_diags_deinit(struct vdc_diags *diags)
{
    free(diags->items);
    *diags = (struct vdc_diags){0};
}

void vdc_diags_add(struct vdc_diags *diags, uint32_t line, uint32_t column, const char *fmt, ...)
{
    if (diags->count >= VDC_DIAGS_MAX) {
        diags->dropped++;
        return;
    }
    VDC_GROW(diags->items, diags->cap, diags->count + 1);
    struct vdc_diag *diag = &diags->items[diags->count++];
    diag->line = line;
    diag->column = column;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(diag->text, sizeof diag->text, fmt, ap);
    va_end(ap);
    vdc_text_make_printable(diag->text);
}

void vdc_diags_sort(struct vdc_diags *diags)
{
    /* Insertion sort: there are at most VDC_DIAGS_MAX, and it is stable. */
    for (size_t i = 1; i < diags->count; i++) {
        struct vdc_diag moved = diags->items[i];
        size_t to = i;
        while (to > 0 && (diags->items[to - 1].line > moved.line ||
                          (diags->items[to - 1].line == moved.line &&
                           diags->items[to - 1].column > moved.column))) {
            diags->items[to] = diags->items[to - 1];
            to--;
        }
        diags->items[to] = moved;
    }
}

static void render_one(const struct vdc_diags *diags, const struct vdc_diag *diag,
                       struct vdc_buf *out)
{
    if (diags->source != NULL) {
        vdc_buf_printf(out, "%s:", diags->source);
    }
    if (diag->line > 0) {
        vdc_buf_printf(out, "%u:%u:", diag->line, diag->column);
    }
    vdc_buf_printf(out, "%s%s", out->len > 0 && out->data[out->len - 1] == ':' ? " " : "",
                   diag->text);
}

void vdc_diags_render(const struct vdc_diags *diags, struct vdc_buf *out)
{
    for (size_t i = 0; i < diags->count; i++) {
        render_one(diags, &diags->items[i], out);
        vdc_buf_puts(out, "\n");
    }
    if (diags->dropped > 0) {
        vdc_buf_printf(out, "... and %llu more\n", (unsigned long long)diags->dropped);
    }
}

enum vdc_rc vdc_diags_to_err(const struct vdc_diags *diags, struct vdc_err *err)
{
    if (diags->count == 0) {
        return VDC_RC_OK;
    }
    struct vdc_buf line = {0};
    render_one(diags, &diags->items[0], &line);
    uint64_t more = diags->count - 1 + diags->dropped;
    if (more > 0) {
        vdc_buf_printf(&line, " (and %llu more)", (unsigned long long)more);
    }
    vdc_err_set(err, VDC_RC_INVALID, "%s", vdc_buf_text(&line));
    vdc_buf_deinit(&line);
    return VDC_RC_INVALID;
}

/* ---- names ---- */

/* Edits (insert, remove, replace, swap two neighbours) between two names of at most VDC_NAME_MAX
 * bytes; SIZE_MAX for longer ones. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t m = strnlen(a, VDC_NAME_CAP);
    size_t n = strnlen(b, VDC_NAME_CAP);
    if (m > VDC_NAME_MAX || n > VDC_NAME_MAX) {
        return SIZE_MAX;
    }
    size_t rows[3][VDC_NAME_CAP];
    size_t *before = rows[0];
    size_t *above = rows[1];
    size_t *row = rows[2];
    for (size_t j = 0; j <= n; j++) {
        above[j] = j;
        before[j] = 0;
    }
    for (size_t i = 1; i <= m; i++) {
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            best = VDC_MIN(best, above[j] + 1);
            best = VDC_MIN(best, row[j - 1] + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                best = VDC_MIN(best, before[j - 2] + 1);
            }
            row[j] = best;
        }
        size_t *spare = before;
        before = above;
        above = row;
        row = spare;
    }
    return above[n];
}

const char *vdc_nearest_name(const char *name, const char *const *known, size_t count)
{
    size_t allowed = VDC_MAX(strnlen(name, VDC_NAME_CAP) / 3, (size_t)1);
    const char *nearest = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(name, known[i]);
        /* Replacing all of a short name is no resemblance. */
        if (distance <= allowed && distance < strlen(known[i])) {
            nearest = known[i];
            allowed = distance;
            if (allowed == 0) {
                break;
            }
            allowed--;
        }
    }
    return nearest;
}

/* ---- the tree ---- */

struct slot {
    struct vdc_tree_node node;
    struct slot *last; /* its last child */
};

struct node_chunk {
    struct node_chunk *next;
    size_t used;
    struct slot items[NODES_PER_CHUNK];
};

struct text_chunk {
    struct text_chunk *next;
    size_t used;
    size_t cap;
    char bytes[];
};

struct vdc_tree {
    struct node_chunk *nodes;
    struct text_chunk *texts;
    struct vdc_tree_node *root;
};

struct vdc_tree *vdc_tree_create(void)
{
    return VDC_NEW(struct vdc_tree);
}

void vdc_tree_destroy(struct vdc_tree *tree)
{
    if (tree == NULL) {
        return;
    }
    while (tree->nodes != NULL) {
        struct node_chunk *chunk = tree->nodes;
        tree->nodes = chunk->next;
        free(chunk);
    }
    while (tree->texts != NULL) {
        struct text_chunk *chunk = tree->texts;
        tree->texts = chunk->next;
        free(chunk);
    }
    free(tree);
}

const struct vdc_tree_node *vdc_tree_root(const struct vdc_tree *tree)
{
    return tree->root;
}

struct vdc_tree_node *vdc_tree_add(struct vdc_tree *tree, struct vdc_tree_node *parent)
{
    if (tree->nodes == NULL || tree->nodes->used == NODES_PER_CHUNK) {
        struct node_chunk *chunk = VDC_NEW(struct node_chunk);
        chunk->next = tree->nodes;
        tree->nodes = chunk;
    }
    struct slot *slot = &tree->nodes->items[tree->nodes->used++];
    if (parent == NULL) {
        VDC_ASSERT(tree->root == NULL);
        tree->root = &slot->node;
        return tree->root;
    }
    VDC_ASSERT(parent->kind != VDC_TREE_SCALAR);
    struct slot *above = vdc_container_of(parent, struct slot, node);
    if (above->last == NULL) {
        parent->first = &slot->node;
    } else {
        above->last->node.next = &slot->node;
    }
    above->last = slot;
    parent->count++;
    return &slot->node;
}

const char *vdc_tree_text(struct vdc_tree *tree, const char *text, size_t len)
{
    if (tree->texts == NULL || tree->texts->cap - tree->texts->used < len + 1) {
        size_t cap = VDC_MAX(len + 1, (size_t)TEXT_CHUNK_BYTES);
        struct text_chunk *chunk = vdc_calloc(1, sizeof *chunk + cap);
        chunk->cap = cap;
        chunk->next = tree->texts;
        tree->texts = chunk;
    }
    char *copy = tree->texts->bytes + tree->texts->used;
    if (len > 0) {
        memcpy(copy, text, len);
    }
    copy[len] = 0;
    tree->texts->used += len + 1;
    return copy;
}

const char *vdc_tree_kind_text(const struct vdc_tree_node *node)
{
    switch (node->kind) {
    case VDC_TREE_SCALAR:
        return vdc_tree_is_null(node) ? "nothing" : "a value";
    case VDC_TREE_LIST:
        return "a list";
    case VDC_TREE_MAP:
        return "a map";
    }
    return "?";
}

bool vdc_tree_is_null(const struct vdc_tree_node *node)
{
    return node->kind == VDC_TREE_SCALAR && !node->quoted &&
           (node->text_len == 0 || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0);
}

/* ---- reading ---- */

static bool is_filled_scalar(const struct vdc_tree_node *node, const char *what,
                             const char *expected, struct vdc_diags *diags)
{
    if (node->kind == VDC_TREE_SCALAR && !vdc_tree_is_null(node)) {
        return true;
    }
    vdc_diags_add(diags, node->line, node->column, "%s: expected %s, found %s", what, expected,
                  vdc_tree_kind_text(node));
    return false;
}

bool vdc_tree_read_text(const struct vdc_tree_node *node, const char *what, size_t len_max,
                        const char **out, struct vdc_diags *diags)
{
    if (!is_filled_scalar(node, what, "a text", diags)) {
        return false;
    }
    if (node->text_len > len_max) {
        vdc_diags_add(diags, node->line, node->column, "%s: %zu bytes, at most %zu are allowed",
                      what, node->text_len, len_max);
        return false;
    }
    *out = node->text;
    return true;
}

bool vdc_tree_read_name(const struct vdc_tree_node *node, const char *what, const char **out,
                        struct vdc_diags *diags)
{
    if (!is_filled_scalar(node, what, "a name", diags)) {
        return false;
    }
    if (!vdc_name_valid(node->text)) {
        vdc_diags_add(diags, node->line, node->column,
                      "%s: \"%.*s\" is no name: 1 to %d of a-z, 0-9, '-' and '.', beginning and "
                      "ending with a letter or digit",
                      what, SHOWN_MAX, node->text, VDC_NAME_MAX);
        return false;
    }
    *out = node->text;
    return true;
}

bool vdc_tree_read_bool(const struct vdc_tree_node *node, const char *what, bool *out,
                        struct vdc_diags *diags)
{
    if (node->kind == VDC_TREE_SCALAR && !node->quoted) {
        if (strcmp(node->text, "true") == 0) {
            *out = true;
            return true;
        }
        if (strcmp(node->text, "false") == 0) {
            *out = false;
            return true;
        }
    }
    if (is_filled_scalar(node, what, "true or false", diags)) {
        vdc_diags_add(diags, node->line, node->column, "%s: expected true or false, found \"%.*s\"",
                      what, SHOWN_MAX, node->text);
    }
    return false;
}

bool vdc_tree_read_u64(const struct vdc_tree_node *node, const char *what, uint64_t min,
                       uint64_t max, uint64_t *out, struct vdc_diags *diags)
{
    if (!is_filled_scalar(node, what, "a number", diags)) {
        return false;
    }
    uint64_t value;
    if (!vdc_parse_u64(node->text, max, &value) || value < min) {
        vdc_diags_add(diags, node->line, node->column,
                      "%s: expected a whole number from %llu to %llu, found \"%.*s\"", what,
                      (unsigned long long)min, (unsigned long long)max, SHOWN_MAX, node->text);
        return false;
    }
    *out = value;
    return true;
}

/* Adds what a quantity's parser said about the node. */
static bool say_quantity(const struct vdc_tree_node *node, const char *what, enum vdc_rc rc,
                         const struct vdc_err *err, struct vdc_diags *diags)
{
    if (rc != VDC_RC_OK) {
        vdc_diags_add(diags, node->line, node->column, "%s: %s", what, vdc_err_text(err));
    }
    return rc == VDC_RC_OK;
}

bool vdc_tree_read_bytes(const struct vdc_tree_node *node, const char *what, uint64_t *out,
                         struct vdc_diags *diags)
{
    struct vdc_err err = {0};
    return is_filled_scalar(node, what, "a size such as 4GiB", diags) &&
           say_quantity(node, what, vdc_quantity_bytes(node->text, out, &err), &err, diags);
}

bool vdc_tree_read_duration(const struct vdc_tree_node *node, const char *what, int64_t *ns,
                            struct vdc_diags *diags)
{
    struct vdc_err err = {0};
    return is_filled_scalar(node, what, "a duration such as 4s", diags) &&
           say_quantity(node, what, vdc_quantity_duration(node->text, ns, &err), &err, diags);
}

bool vdc_tree_read_milli(const struct vdc_tree_node *node, const char *what, uint64_t *out,
                         struct vdc_diags *diags)
{
    struct vdc_err err = {0};
    return is_filled_scalar(node, what, "a number such as 0.5 or 50%", diags) &&
           say_quantity(node, what, vdc_quantity_milli(node->text, out, &err), &err, diags);
}

bool vdc_tree_read_rate(const struct vdc_tree_node *node, const char *what, uint64_t *bytes_per_s,
                        struct vdc_diags *diags)
{
    struct vdc_err err = {0};
    return is_filled_scalar(node, what, "a rate such as 1Gbit/s", diags) &&
           say_quantity(node, what, vdc_quantity_rate(node->text, bytes_per_s, &err), &err, diags);
}

bool vdc_tree_read_word(const struct vdc_tree_node *node, const char *what,
                        const char *const *words, size_t count, size_t *out,
                        struct vdc_diags *diags)
{
    if (!is_filled_scalar(node, what, "a word", diags)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(node->text, words[i]) == 0) {
            *out = i;
            return true;
        }
    }
    struct vdc_buf known = {0};
    for (size_t i = 0; i < count; i++) {
        vdc_buf_printf(&known, "%s%s", i == 0 ? "" : i + 1 < count ? ", " : " or ", words[i]);
    }
    vdc_diags_add(diags, node->line, node->column, "%s: expected %s, found \"%.*s\"", what,
                  vdc_buf_text(&known), SHOWN_MAX, node->text);
    vdc_buf_deinit(&known);
    return false;
}

bool vdc_tree_read_list(const struct vdc_tree_node *node, const char *what, struct vdc_diags *diags)
{
    if (node->kind != VDC_TREE_LIST) {
        vdc_diags_add(diags, node->line, node->column, "%s: expected a list, found %s", what,
                      vdc_tree_kind_text(node));
    }
    return node->kind == VDC_TREE_LIST;
}

/* The map of the whole file needs no name in front. */
static const char *colon(const struct vdc_tree_map *map)
{
    return map->what[0] != 0 ? ": " : "";
}

bool vdc_tree_map_begin(struct vdc_tree_map *map, const struct vdc_tree_node *node,
                        const char *what, struct vdc_diags *diags)
{
    *map = (struct vdc_tree_map){.node = node, .what = what, .diags = diags};
    if (node->kind != VDC_TREE_MAP) {
        vdc_diags_add(diags, node->line, node->column, "%s: expected a map, found %s",
                      what[0] != 0 ? what : "the file", vdc_tree_kind_text(node));
    }
    return node->kind == VDC_TREE_MAP;
}

const struct vdc_tree_node *vdc_tree_map_get(struct vdc_tree_map *map, const char *field)
{
    VDC_ASSERT(map->asked_count < VDC_TREE_FIELDS_MAX);
    map->asked[map->asked_count++] = field;
    for (const struct vdc_tree_node *at = map->node->first; at != NULL; at = at->next) {
        if (strcmp(at->key, field) == 0) {
            return at;
        }
    }
    return NULL;
}

const struct vdc_tree_node *vdc_tree_map_need(struct vdc_tree_map *map, const char *field)
{
    const struct vdc_tree_node *node = vdc_tree_map_get(map, field);
    if (node == NULL) {
        vdc_diags_add(map->diags, map->node->line, map->node->column, "%s%s%s is missing",
                      map->what, colon(map), field);
    }
    return node;
}

void vdc_tree_map_unsupported(struct vdc_tree_map *map, const char *field)
{
    const struct vdc_tree_node *node = vdc_tree_map_get(map, field);
    if (node != NULL) {
        vdc_diags_add(map->diags, node->key_line, node->key_column,
                      "%s%s%s: not supported by this version", map->what, colon(map), field);
    }
}

void vdc_tree_map_end(struct vdc_tree_map *map)
{
    for (const struct vdc_tree_node *at = map->node->first; at != NULL; at = at->next) {
        bool asked = false;
        for (size_t i = 0; i < map->asked_count && !asked; i++) {
            asked = strcmp(at->key, map->asked[i]) == 0;
        }
        if (asked) {
            continue;
        }
        if (map->diags->count >= VDC_DIAGS_MAX) {
            /* Looking for the nearest name of each of 100,000 wrong keys would take seconds. */
            map->diags->dropped++;
            continue;
        }
        const char *nearest = vdc_nearest_name(at->key, map->asked, map->asked_count);
        vdc_diags_add(map->diags, at->key_line, at->key_column, "%s%sunknown field \"%.*s\"%s%s%s",
                      map->what, colon(map), SHOWN_MAX, at->key,
                      nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
                      nearest != NULL ? "?" : "");
    }
}
