/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plain tree of maps, lists and scalars with the place in the text where each stands: what the
 * YAML loader (runtime/yaml) builds and what cores read, and the list of diagnostics that reading
 * leaves. Cores never see YAML: they see this.
 *
 * A reader takes each map through `struct vdc_tree_map`: it asks for the fields it knows and then
 * calls vdc_tree_map_end(), which complains about every field that nobody asked for, with the
 * nearest name that somebody did ask for. So a forgotten or misspelt field cannot pass silently.
 *
 * A tree is immutable after it is built and may be read from any thread.
 */
#ifndef VDC_TREE_H
#define VDC_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/buf.h>
#include <vdc/err.h>
#include <vdc/utf8.h>

/* ---- diagnostics ---- */

/* Diagnostics kept of one text; more are counted. A person mends a handful at a time, and a file of
 * another kind would otherwise give one for each line. */
#define VDC_DIAGS_MAX 50
#define VDC_DIAG_TEXT_CAP 320

struct vdc_diag {
    uint32_t line;                /* 1-based; 0: about the text as a whole */
    uint32_t column;              /* 1-based, in characters */
    char text[VDC_DIAG_TEXT_CAP]; /* a sentence without its full stop, with its hint */
};

/* Zero-initialise; `source` (borrowed, may be NULL) is the file's name as the person gave it. */
struct vdc_diags {
    const char *source;
    struct vdc_diag *items; /* in the order of the text after vdc_diags_sort() */
    size_t count;           /* <= VDC_DIAGS_MAX */
    size_t cap;
    uint64_t dropped; /* not kept */
};

void vdc_diags_deinit(struct vdc_diags *diags);
void vdc_diags_add(struct vdc_diags *diags, uint32_t line, uint32_t column, const char *fmt, ...)
    VDC_PRINTF(4, 5);
/* By line, then column; equal places keep their order. */
void vdc_diags_sort(struct vdc_diags *diags);
/* One line each, "prod.policy.yaml:12:7: sentence\n", then "... and N more\n" if some were dropped.
 */
void vdc_diags_render(const struct vdc_diags *diags, struct vdc_buf *out);
/* The first one in the form above without '\n' as the text of `err`, "(and N more)" behind it.
 * Returns VDC_RC_INVALID, or OK if there is none. */
enum vdc_rc vdc_diags_to_err(const struct vdc_diags *diags, struct vdc_err *err);

/* The name in `known` nearest to `name` (at most a third of its letters differ), or NULL. */
const char *vdc_nearest_name(const char *name, const char *const *known, size_t count);

/* ---- the tree ---- */

enum vdc_tree_kind { VDC_TREE_SCALAR, VDC_TREE_LIST, VDC_TREE_MAP };

struct vdc_tree_node {
    enum vdc_tree_kind kind;
    bool quoted;     /* scalar: written in quotes (then "null", "yes" and "" are plain text) */
    bool exact;      /* scalar: text is byte for byte what stands in the file from text_column on */
    uint32_t line;   /* where it begins; 1-based */
    uint32_t column; /* 1-based, in characters */
    uint32_t text_column; /* scalar: where the text begins (behind an opening quote) */
    const char *text;     /* scalar: valid UTF-8, NUL-terminated, no NUL inside; else NULL */
    size_t text_len;
    const char *key; /* its key if it is in a map, else NULL; the keys of a map differ */
    uint32_t key_line;
    uint32_t key_column;
    uint32_t count;              /* list, map: children */
    struct vdc_tree_node *first; /* list, map: children in the order of the text */
    struct vdc_tree_node *next;  /* its next sibling */
};

/* Owns all nodes and texts. Opaque: built by a loader, freed at once. */
struct vdc_tree;

struct vdc_tree *vdc_tree_create(void);
void vdc_tree_destroy(struct vdc_tree *tree); /* accepts NULL */
/* NULL while nothing was added (an empty text). */
const struct vdc_tree_node *vdc_tree_root(const struct vdc_tree *tree);
/* For loaders: a zeroed node, added as the last child of `parent` (NULL: it becomes the root). */
struct vdc_tree_node *vdc_tree_add(struct vdc_tree *tree, struct vdc_tree_node *parent);
/* For loaders: a NUL-terminated copy that lives as long as the tree. */
const char *vdc_tree_text(struct vdc_tree *tree, const char *text, size_t len);

/* "a map", "a list", "a value": for sentences. */
const char *vdc_tree_kind_text(const struct vdc_tree_node *node);
/* Whether it is a plain (unquoted) empty value, "~" or "null": a field without a value. */
bool vdc_tree_is_null(const struct vdc_tree_node *node);

/* ---- reading with diagnostics ----
 * Every reader returns false after adding a diagnostic at the node; *out is then untouched. `what`
 * names the thing in sentences: "lease", "class gold: priority". */

bool vdc_tree_read_text(const struct vdc_tree_node *node, const char *what, size_t len_max,
                        const char **out, struct vdc_diags *diags);
/* A name by vdc_name_valid(). */
bool vdc_tree_read_name(const struct vdc_tree_node *node, const char *what, const char **out,
                        struct vdc_diags *diags);
bool vdc_tree_read_bool(const struct vdc_tree_node *node, const char *what, bool *out,
                        struct vdc_diags *diags);
bool vdc_tree_read_u64(const struct vdc_tree_node *node, const char *what, uint64_t min,
                       uint64_t max, uint64_t *out, struct vdc_diags *diags);
bool vdc_tree_read_bytes(const struct vdc_tree_node *node, const char *what, uint64_t *out,
                         struct vdc_diags *diags);
bool vdc_tree_read_duration(const struct vdc_tree_node *node, const char *what, int64_t *ns,
                            struct vdc_diags *diags);
/* "5%" or "0.05" or "4.0" -> thousandths. */
bool vdc_tree_read_milli(const struct vdc_tree_node *node, const char *what, uint64_t *out,
                         struct vdc_diags *diags);
bool vdc_tree_read_rate(const struct vdc_tree_node *node, const char *what, uint64_t *bytes_per_s,
                        struct vdc_diags *diags);
/* One of `words`; *out is its index. */
bool vdc_tree_read_word(const struct vdc_tree_node *node, const char *what,
                        const char *const *words, size_t count, size_t *out,
                        struct vdc_diags *diags);
/* The node itself if it is a list (a map), else false with a diagnostic. */
bool vdc_tree_read_list(const struct vdc_tree_node *node, const char *what,
                        struct vdc_diags *diags);

/* Fields that one reader may ask a map for: more than any map of ours has. */
#define VDC_TREE_FIELDS_MAX 32

struct vdc_tree_map {
    const struct vdc_tree_node *node;
    const char *what; /* "class gold"; "" for the map of the whole file; borrowed until the end */
    struct vdc_diags *diags;
    const char *asked[VDC_TREE_FIELDS_MAX]; /* static strings, borrowed */
    size_t asked_count;
};

/* False with a diagnostic if the node is no map. */
bool vdc_tree_map_begin(struct vdc_tree_map *map, const struct vdc_tree_node *node,
                        const char *what, struct vdc_diags *diags);
/* The field's value or NULL. */
const struct vdc_tree_node *vdc_tree_map_get(struct vdc_tree_map *map, const char *field);
/* The same, with the diagnostic "WHAT: FIELD is missing" at the map where there is none. */
const struct vdc_tree_node *vdc_tree_map_need(struct vdc_tree_map *map, const char *field);
/* Says "WHAT: FIELD: not supported by this version" at the field if it is there. */
void vdc_tree_map_unsupported(struct vdc_tree_map *map, const char *field);
/* Says "WHAT: unknown field FIELD; did you mean NAME?" for each field that was not asked for. */
void vdc_tree_map_end(struct vdc_tree_map *map);

#endif
