/* SPDX-License-Identifier: Apache-2.0 */
/* Tables, JSON, errors, the progress line. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <vdc/quantity.h>

#include "cli.h"

#define TABLE_WIDTH 100
#define COLUMNS_MAX 12
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
    bool colour = isatty(STDERR_FILENO);
    fputs(colour ? "\033[31mvdc:\033[0m " : "vdc: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

void cli_print_json(const json_t *value)
{
    cli_progress_end();
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
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
    } else if (json_is_boolean(value)) {
        vdc_buf_puts(buf, json_is_true(value) ? "yes" : "no");
    } else if (kind == CLI_BYTES) {
        vdc_quantity_bytes_text((uint64_t)json_integer_value(value), text);
        vdc_buf_puts(buf, text);
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

static void print_table(const json_t *items, const struct cli_column *columns, size_t count)
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
            widths[c] = VDC_MAX(widths[c], width_of(vdc_buf_text(cell)));
        }
        total += widths[c] + 2;
    }
    for (size_t c = 0; c < count && total > TABLE_WIDTH + 2; c++) {
        if (columns[c].kind == CLI_CUT || columns[c].kind == CLI_LABELS) {
            size_t excess = total - TABLE_WIDTH - 2;
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
    cli_progress_end();
    if (cli->format == CLI_JSON) {
        cli_print_json(items);
    } else if (json_array_size(items) == 0) {
        puts("none");
    } else {
        print_table(items, columns, count);
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
        struct vdc_buf text = {0};
        size_t len = strlen(key);
        bool bytes = len > 6 && strcmp(key + len - 6, "_bytes") == 0;
        bool ms = len > 3 && strcmp(key + len - 3, "_ms") == 0;
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
        append_value(&text, value, bytes ? CLI_BYTES : ms ? CLI_MS : CLI_TEXT);
        printf("%*s%s: %s\n", indent, "", key, vdc_buf_text(&text));
        vdc_buf_deinit(&text);
    }
}

void cli_print_item(const struct cli *cli, const json_t *item)
{
    cli_progress_end();
    if (cli->format == CLI_JSON) {
        cli_print_json(item);
    } else {
        print_fields(item, 0);
    }
}
