/* SPDX-License-Identifier: Apache-2.0 */
/* Tables, JSON, YAML, errors, the progress line. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <vdc/quantity.h>

#include "cli.h"

/* 153.775, where 17 digits would show the binary fraction. */
#define REAL_DIGITS JSON_REAL_PRECISION(15)
#define TABLE_WIDTH 100
#define COLUMNS_MAX 16
#define CELL_MIN 10 /* a shortened cell is not made narrower than this */

static bool progress_shown;

void cli_progress(const char *fmt, ...)
{
    if (!isatty(STDERR_FILENO)) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, fmt, ap);
    fflush(stderr);
    va_end(ap);
    progress_shown = true;
}

void cli_progress_end(void)
{
    if (progress_shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        progress_shown = false;
    }
}

void cli_error(const char *fmt, ...)
{
    cli_progress_end();
    va_list ap;
    va_start(ap, fmt);
    /* https://no-color.org: set and not empty means none. */
    const char *none = getenv("NO_COLOR");
    bool colour = isatty(STDERR_FILENO) && (none == NULL || none[0] == 0);
    fputs(colour ? "\033[31mvdc:\033[0m " : "vdc: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

bool cli_is_table(const struct cli *cli)
{
    return cli->format == CLI_TABLE || cli->format == CLI_WIDE;
}

bool cli_flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return true;
    }
    cli_error("standard output: %s; not everything was written", strerror(errno));
    return false;
}

/* ---- YAML ---- */

/* Whether the text means itself when it stands alone on a line: no other type, no sign of YAML's. */
static bool is_plain(const char *text)
{
    static const char *const words[] = {"true", "false", "null", "yes", "no",
                                        "on",   "off",   "y",    "n"};
    bool first = true;
    size_t len = strlen(text);
    for (size_t i = 0; i < VDC_COUNT_OF(words); i++) {
        if (strcasecmp(text, words[i]) == 0) {
            return false;
        }
    }
    for (const char *at = text; *at != 0; at++) {
        bool letter = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z');
        bool inner = (*at >= '0' && *at <= '9') || (*at != 0 && strchr("-_./ ", *at) != NULL);
        if (!letter && (first || !inner)) {
            return false;
        }
        first = false;
    }
    return len > 0 && text[len - 1] != ' ';
}

/* Several lines that a block may hold as they are. */
static bool is_block(const char *text)
{
    if (strchr(text, '\n') == NULL || text[0] == ' ' || text[0] == '\n') {
        return false;
    }
    for (const char *at = text; *at != 0; at++) {
        if (((unsigned char)*at < 0x20 && *at != '\n') || *at == 0x7f) {
            return false;
        }
    }
    size_t len = strlen(text);
    return len < 2 || text[len - 1] != '\n' || text[len - 2] != '\n';
}

static void put_yaml(const json_t *value, int indent, bool in_list);

static void put_yaml_text(const char *text, int indent)
{
    if (is_plain(text)) {
        printf(" %s\n", text);
        return;
    }
    if (!is_block(text)) {
        json_t *quoted = json_string(text);
        putchar(' ');
        json_dumpf(quoted, stdout, JSON_ENCODE_ANY); /* JSON's strings are YAML's */
        putchar('\n');
        json_decref(quoted);
        return;
    }
    printf(" |%s\n", text[strlen(text) - 1] == '\n' ? "" : "-");
    while (*text != 0) {
        size_t len = strcspn(text, "\n");
        printf("%*s%.*s\n", len > 0 ? indent : 0, "", (int)len, text);
        text += len + (text[len] == '\n');
    }
}

/* What stands behind "key:" or "-". */
static void put_yaml_value(const json_t *value, int indent, bool in_list)
{
    bool nested = json_object_size(value) > 0 || json_array_size(value) > 0;
    if (nested && !in_list) {
        putchar('\n');
        put_yaml(value, indent, false);
    } else if (nested) {
        put_yaml(value, indent, true);
    } else if (json_is_string(value)) {
        put_yaml_text(json_string_value(value), indent);
    } else {
        putchar(' ');
        json_dumpf(value, stdout, JSON_ENCODE_ANY | REAL_DIGITS);
        putchar('\n');
    }
}

/* `in_list`: the first line follows "-" on its line. */
static void put_yaml(const json_t *value, int indent, bool in_list)
{
    const char *key;
    json_t *item;
    size_t i;
    bool first = in_list;
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        printf("%*s", first ? 1 : indent, "");
        first = false;
        if (is_plain(key)) {
            printf("%s:", key);
        } else {
            json_t *quoted = json_string(key);
            json_dumpf(quoted, stdout, JSON_ENCODE_ANY);
            putchar(':');
            json_decref(quoted);
        }
        put_yaml_value(item, indent + 2, false);
    }
    json_array_foreach(value, i, item)
    {
        printf("%*s-", first ? 1 : indent, "");
        first = false;
        put_yaml_value(item, indent + 2, true);
    }
}

void cli_print_value(const struct cli *cli, const json_t *value)
{
    cli_progress_end();
    if (cli->format == CLI_YAML && (json_object_size(value) > 0 || json_array_size(value) > 0)) {
        put_yaml(value, 0, false);
        return;
    }
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY | REAL_DIGITS);
    fputc('\n', stdout);
}

const json_t *cli_at(const json_t *item, const char *path)
{
    while (item != NULL && *path != 0) {
        size_t len = strcspn(path, ".");
        char key[64];
        VDC_ASSERT(len < sizeof key);
        memcpy(key, path, len);
        key[len] = 0;
        item = json_object_get(item, key);
        path += len + (path[len] == '.');
    }
    return item;
}

const char *cli_text_at(const json_t *item, const char *path)
{
    const char *text = json_string_value(cli_at(item, path));
    return text != NULL ? text : "";
}

/* What comes from guests and other users must not move the cursor. */
static void append_plain(struct vdc_buf *buf, const char *text)
{
    for (; *text != 0; text++) {
        char c = (unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text;
        vdc_buf_append(buf, &c, 1);
    }
}

static void append_value(struct vdc_buf *buf, const json_t *value, int kind)
{
    char text[VDC_QUANTITY_TEXT_CAP];
    if (value == NULL || json_is_null(value)) {
        vdc_buf_puts(buf, "-");
    } else if (json_is_object(value)) {
        const char *key;
        json_t *item;
        bool first = true;
        json_object_foreach((json_t *)(uintptr_t)value, key, item)
        {
            vdc_buf_puts(buf, first ? "" : ",");
            append_plain(buf, key);
            vdc_buf_puts(buf, "=");
            append_value(buf, item, CLI_TEXT);
            first = false;
        }
    } else if (json_is_string(value)) {
        append_plain(buf, json_string_value(value));
        if (kind == CLI_LINE) {
            size_t line = strcspn(json_string_value(value), "\n");
            buf->len = VDC_MIN(buf->len, line);
            buf->data[buf->len] = 0;
        }
    } else if (json_is_boolean(value)) {
        vdc_buf_puts(buf, json_is_true(value) ? "yes" : "no");
    } else if (kind == CLI_BYTES) {
        vdc_quantity_bytes_text((uint64_t)json_integer_value(value), text);
        vdc_buf_puts(buf, text);
    } else if (kind == CLI_MS && json_number_value(value) == 0) {
        vdc_buf_puts(buf, "0 s");
    } else if (kind == CLI_MS) {
        vdc_quantity_duration_text((int64_t)(json_number_value(value) * 1e6), text);
        vdc_buf_puts(buf, text);
    } else if (json_is_integer(value)) {
        vdc_buf_printf(buf, "%lld", (long long)json_integer_value(value));
    } else {
        vdc_buf_printf(buf, "%.3f", json_number_value(value));
    }
}

/* Columns of a UTF-8 text, counting each character as one. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text != 0; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

static void print_cell(const char *text, size_t width, bool last)
{
    size_t have = width_of(text);
    if (have > width) {
        size_t shown = 0;
        for (; *text != 0 && (shown < width - 1 || ((unsigned char)*text & 0xc0) == 0x80); text++) {
            shown += ((unsigned char)*text & 0xc0) != 0x80;
            putchar(*text);
        }
        fputs("…", stdout);
    } else {
        fputs(text, stdout);
    }
    for (; !last && have < width; have++) {
        putchar(' ');
    }
    fputs(last ? "\n" : "  ", stdout);
}

/* A verdict begins with the name that stands in the same row already. */
static void drop_name(struct vdc_buf *cell, const char *name)
{
    size_t len = strlen(name);
    const char *text = vdc_buf_text(cell);
    if (len > 0 && strncmp(text, name, len) == 0 && strncmp(text + len, ": ", 2) == 0) {
        struct vdc_buf rest = {0};
        vdc_buf_puts(&rest, text + len + 2);
        vdc_buf_deinit(cell);
        *cell = rest;
    }
}

static void print_table(const json_t *items, const struct cli_column *columns, size_t count,
                        size_t width_max)
{
    size_t rows = json_array_size(items);
    struct vdc_buf *cells = vdc_calloc(rows * count, sizeof *cells);
    size_t widths[COLUMNS_MAX];
    size_t total = 0;
    VDC_ASSERT(count <= COLUMNS_MAX);
    for (size_t c = 0; c < count; c++) {
        widths[c] = strlen(columns[c].title);
        for (size_t r = 0; r < rows; r++) {
            struct vdc_buf *cell = &cells[r * count + c];
            append_value(cell, cli_at(json_array_get(items, r), columns[c].path),
                         (int)columns[c].kind);
            if (columns[c].kind == CLI_LINE) {
                drop_name(cell, cli_text_at(json_array_get(items, r), "name"));
            }
            widths[c] = VDC_MAX(widths[c], width_of(vdc_buf_text(cell)));
        }
        total += widths[c] + 2;
    }
    for (size_t c = 0; c < count && total > width_max + 2; c++) {
        if (columns[c].kind == CLI_CUT || columns[c].kind == CLI_LABELS ||
            columns[c].kind == CLI_LINE) {
            size_t excess = total - width_max - 2;
            size_t can = widths[c] > CELL_MIN ? widths[c] - CELL_MIN : 0;
            size_t cut = VDC_MIN(excess, can);
            widths[c] -= cut;
            total -= cut;
        }
    }
    for (size_t c = 0; c < count; c++) {
        print_cell(columns[c].title, widths[c], c + 1 == count);
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < count; c++) {
            print_cell(vdc_buf_text(&cells[r * count + c]), widths[c], c + 1 == count);
            vdc_buf_deinit(&cells[r * count + c]);
        }
    }
    free(cells);
}

void cli_print_list(const struct cli *cli, const json_t *items, const struct cli_column *columns,
                    size_t count)
{
    struct cli_column shown[COLUMNS_MAX];
    size_t shown_len = 0;
    cli_progress_end();
    if (!cli_is_table(cli)) {
        cli_print_value(cli, items);
        return;
    }
    if (json_array_size(items) == 0) {
        puts("none");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (!columns[i].wide || cli->format == CLI_WIDE) {
            VDC_ASSERT(shown_len < COLUMNS_MAX);
            shown[shown_len++] = columns[i];
        }
    }
    print_table(items, shown, shown_len, cli->format == CLI_WIDE ? SIZE_MAX / 2 : TABLE_WIDTH);
}

/* How a number is shown, by the unit that its name ends with. */
static int kind_of(const char *key)
{
    size_t len = strlen(key);
    if (len > 6 && strcmp(key + len - 6, "_bytes") == 0) {
        return CLI_BYTES;
    }
    return len > 3 && strcmp(key + len - 3, "_ms") == 0 ? CLI_MS : CLI_TEXT;
}

/* A line for each element, its fields one behind the other. */
static void print_array(const json_t *array, int indent)
{
    size_t i;
    json_t *element;
    json_array_foreach((json_t *)(uintptr_t)array, i, element)
    {
        struct vdc_buf text = {0};
        const char *key;
        json_t *value;
        if (!json_is_object(element)) {
            append_value(&text, element, CLI_TEXT);
        }
        json_object_foreach(element, key, value)
        {
            vdc_buf_printf(&text, "%s%s ", text.len > 0 ? ", " : "", key);
            append_value(&text, value, kind_of(key));
        }
        printf("%*s- %s\n", indent, "", vdc_buf_text(&text));
        vdc_buf_deinit(&text);
    }
}

static void print_fields(const json_t *object, int indent)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        if (json_is_object(value) && strcmp(key, "labels") != 0) {
            printf("%*s%s:\n", indent, "", key);
            print_fields(value, indent + 2);
            continue;
        }
        if (json_is_array(value)) {
            printf("%*s%s:%s\n", indent, "", key, json_array_size(value) == 0 ? " none" : "");
            print_array(value, indent + 2);
            continue;
        }
        struct vdc_buf text = {0};
        if (json_is_string(value) && strchr(json_string_value(value), '\n') != NULL) {
            /* A text of several lines, such as a verdict, keeps them. */
            printf("%*s%s:\n", indent, "", key);
            const char *at = json_string_value(value);
            while (*at != 0) {
                size_t line = strcspn(at, "\n");
                printf("%*s%.*s\n", indent + 2, "", (int)line, at);
                at += line + (at[line] == '\n');
            }
            continue;
        }
        append_value(&text, value, kind_of(key));
        printf("%*s%s: %s\n", indent, "", key, vdc_buf_text(&text));
        vdc_buf_deinit(&text);
    }
}

void cli_print_item(const struct cli *cli, const json_t *item)
{
    cli_progress_end();
    if (!cli_is_table(cli)) {
        cli_print_value(cli, item);
    } else {
        print_fields(item, 0);
    }
}
