/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `vdc` command. It speaks the REST API and nothing else; only `policy lint` works without a
 * server. Commands stand in one table (command.c), from which help and completion are made; each
 * noun has a file. Exit codes are the last lines of `vdc --help`.
 */
#ifndef VDC_CLI_H
#define VDC_CLI_H

#include <jansson.h>
#include <stdio.h>

#include <vdc/base.h>
#include <vdc/buf.h>
#include <vdc/limits.h>
#include <vdc/time.h>
#include <vdc/tree.h>

enum cli_exit {
    CLI_DONE = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_REFUSED = 3,
    CLI_UNREACHABLE = 4,
    CLI_CONFLICT = 5,
};

/* WIDE: a table with all its columns, cut nowhere. */
enum cli_format { CLI_TABLE, CLI_WIDE, CLI_JSON, CLI_YAML };

/* Managers that one command tries in turn. */
#define CLI_SERVERS_MAX 16
#define CLI_LABELS_MAX VDC_LABELS_MAX
#define CLI_PATH_CAP 1024

struct cli {
    /* Where and as whom: flags, then environment, then the context (context.c). */
    char servers[CLI_SERVERS_MAX][CLI_PATH_CAP];
    size_t servers_len;
    char ca[CLI_PATH_CAP];
    char cert[CLI_PATH_CAP];
    char key[CLI_PATH_CAP];
    char zone[VDC_NAME_CAP]; /* "": the only one */
    const char *context;     /* NULL: the current one */
    enum cli_format format;
    bool wait;
    int64_t timeout_s; /* for everything, retries and waiting included */
    vdc_mono deadline; /* the end of that; each request of `console` has one of its own */
    /* Flags of single commands; which take which stands in the command table. */
    const char *labels[CLI_LABELS_MAX]; /* "key=value" */
    size_t labels_len;
    const char *class;
    const char *tenant;
    const char *image;
    const char *vcpus;
    const char *memory;
    const char *disk;
    const char *to;
    const char *file;
    const char *idempotency_key; /* NULL: made */
    bool follow;
    /* What is left: the arguments of the command. */
    char **args;
    size_t args_len;
    size_t server; /* the one that answered last */
};

/* ---- command.c ---- */

struct cli_command {
    const char *noun;
    const char *verb;
    const char *args;  /* "NAME", "FILE...", "" */
    const char *flags; /* letters of the flags it takes, see main.c */
    const char *help;
    int (*run)(struct cli *cli);
    size_t args_min;
    size_t args_max;
};
extern const struct cli_command cli_commands[];
extern const size_t cli_commands_len;
/* For bash; made from the table. */
void cli_print_completion(void);
/* Every command, or those of one noun, a line each; false: there is no such noun. */
bool cli_print_commands(FILE *to, const char *noun);
const struct cli_command *cli_find_command(const char *noun, const char *verb);
/* The noun or, where the noun is one, the verb that was probably meant; NULL: none comes near. */
const char *cli_nearest_word(const char *noun, const char *verb);

/* ---- context.c ---- */

/* Fills what flags and environment left open from the context file. False: said why. */
bool cli_read_context(struct cli *cli);

/* ---- client.c ---- */

struct cli_answer {
    long status; /* 0: no server could be reached (said why) */
    struct vdc_buf body;
    json_t *json; /* NULL if it is none */
    uint64_t console_offset;
    uint64_t console_end;
};

/* One request with all its retries: other servers when one cannot be reached, again while the zone has
 * no leader, until the time is over. A mutation gets one Idempotency-Key for all its attempts, so
 * that it takes effect once. `path` begins with "/v1/"; ?zone= is added. `what` is shown while it
 * lasts ("create web"). `body` may be NULL. Released by cli_answer_deinit(). */
void cli_request(struct cli *cli, const char *method, const char *path, const char *type,
                 const char *body, const char *what, struct cli_answer *answer);
void cli_answer_deinit(struct cli_answer *answer);
/* 0 for 2xx; else says what went wrong and what to do, and gives the exit code. */
int cli_check(struct cli *cli, const struct cli_answer *answer, const char *what);
/* A mutation: waits for its operation if wanted and prints it. */
int cli_mutate(struct cli *cli, const char *method, const char *path, json_t *body,
               const char *what);
/* GET, checked; NULL after saying why, with *status set. */
json_t *cli_get(struct cli *cli, const char *path, const char *what, int *status);
/* All pages of a list: an array, NULL after saying why. */
json_t *cli_list(struct cli *cli, const char *path, const char *what, int *status);

/* ---- output.c ---- */

struct cli_column {
    const char *title;
    const char *path; /* "status.node" in each item */
    enum {
        CLI_TEXT,
        CLI_BYTES,
        CLI_MS,
        CLI_LABELS,
        CLI_CUT,
        CLI_LINE
    } kind;    /* CUT, LINE: shortened to fit; LINE: the first line only */
    bool wide; /* only with -o wide */
};

/* Whether people read it: a table, not JSON or YAML. */
bool cli_is_table(const struct cli *cli);
/* A table no wider than 100 columns, or the array as JSON or YAML. */
void cli_print_list(const struct cli *cli, const json_t *items, const struct cli_column *columns,
                    size_t count);
/* "key: value" lines, or JSON or YAML. */
void cli_print_item(const struct cli *cli, const json_t *item);
/* As JSON, or as YAML where that was asked for. */
void cli_print_value(const struct cli *cli, const json_t *value);
/* All that was printed has reached its file; else says so and false. */
bool cli_flush(void);
/* The value at "a.b.c", NULL if absent. */
const json_t *cli_at(const json_t *item, const char *path);
const char *cli_text_at(const json_t *item, const char *path); /* "" if absent or no text */
void cli_error(const char *fmt, ...) VDC_PRINTF(1, 2);
/* The progress line on a terminal's standard error; NULL removes it. */
void cli_progress(const char *fmt, ...) VDC_PRINTF(1, 2);
void cli_progress_end(void);

/* ---- the nouns ---- */

int cli_zone_list(struct cli *cli);
int cli_zone_show(struct cli *cli);
int cli_node_list(struct cli *cli);
int cli_node_show(struct cli *cli);
int cli_policy_lint(struct cli *cli);
int cli_policy_apply(struct cli *cli);
int cli_policy_show(struct cli *cli);
int cli_partition_list(struct cli *cli);
int cli_partition_show(struct cli *cli);
int cli_partition_create(struct cli *cli);
int cli_partition_start(struct cli *cli);
int cli_partition_stop(struct cli *cli);
int cli_partition_destroy(struct cli *cli);
int cli_partition_migrate(struct cli *cli);
int cli_partition_console(struct cli *cli);
int cli_partition_explain(struct cli *cli);
int cli_operation_list(struct cli *cli);
int cli_operation_show(struct cli *cli);

#endif
