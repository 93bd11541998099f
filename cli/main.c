/* SPDX-License-Identifier: Apache-2.0 */
/* vdc: reads flags, finds the command in the table, runs it. */
#include <curl/curl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <vdc/clock.h>

#include "cli.h"

static const char common_flags[] =
    "  --server URL[,URL...]  zone managers; each is tried (or VDC_SERVER)\n"
    "  --ca, --cert, --key F  PEM files (or VDC_CA, VDC_CERT, VDC_KEY)\n"
    "  --context NAME         of ~/.config/vdc/config.yaml, instead of its current one\n"
    "  --zone NAME            where there are several (or VDC_ZONE)\n"
    "  -o FORMAT              what is printed: table, wide (all columns, uncut), json or yaml\n"
    "  --wait, --no-wait      for an operation's end (default: wait)\n"
    "  --timeout SECONDS      of the whole command (default 120)\n"
    "  --idempotency-key KEY  repeats an earlier request instead of making a new one\n"
    "  -h, --help             of vdc, of a noun or of a command\n";

static const char exit_codes[] =
    "Exit codes: 0 done, 1 failed, 2 usage, 3 refused by policy, 4 not reachable, 5 conflict\n";

/* Flags of single commands, by their letters in the command table. */
static const struct {
    char letter;
    const char *text;
} command_flags[] = {
    {'l', "  --label KEY=VALUE      a label; again for each\n"},
    {'c',
     "  --class NAME           service class of the policy (default: the one called default)\n"},
    {'t', "  --tenant NAME          whose quota it counts for\n"},
    {'i', "  --image NAME           what it boots (default: linux)\n"},
    {'v', "  --vcpus N              (default: 1)\n"},
    {'m', "  --memory SIZE          for example 128MiB; needed\n"},
    {'d', "  --disk SIZE            for example 1GiB (default: none)\n"},
    {'f', "  -f, --file FILE        the partition as YAML or JSON, - for standard input\n"},
    {'T', "  --to NODE              where to migrate (default: the policy chooses)\n"},
    {'F', "  --follow               goes on printing\n"},
};

static void print_command_flags(FILE *to, const char *letters)
{
    for (size_t i = 0; i < VDC_COUNT_OF(command_flags); i++) {
        if (letters == NULL || strchr(letters, command_flags[i].letter) != NULL) {
            fputs(command_flags[i].text, to);
        }
    }
}

static void print_usage(FILE *to)
{
    fputs("Usage: vdc [FLAGS] NOUN VERB [ARGS] [FLAGS]\n"
          "\n"
          "Works with a virtual data center through the REST API of its zone managers.\n"
          "\n"
          "Commands:\n",
          to);
    cli_print_commands(to, NULL);
    fputs("  completion bash              shell completion, to be evaluated by the shell\n"
          "\n"
          "Flags:\n",
          to);
    fputs(common_flags, to);
    fputs("\nFlags of single commands (vdc NOUN VERB --help says which takes which):\n", to);
    print_command_flags(to, NULL);
    fprintf(to, "\n%s", exit_codes);
}

static void print_help_of(const struct cli_command *command)
{
    printf("Usage: vdc %s %s%s%s [FLAGS]\n\n%s\n\nFlags:\n", command->noun, command->verb,
           command->args[0] != 0 ? " " : "", command->args, command->help);
    print_command_flags(stdout, command->flags);
    fputs(common_flags, stdout);
    printf("\n%s", exit_codes);
}

/* --help: of the command, of the noun, of everything. */
static int help(size_t words_len, char **words)
{
    const struct cli_command *command =
        words_len >= 2 ? cli_find_command(words[0], words[1]) : NULL;
    if (command != NULL) {
        print_help_of(command);
    } else if (words_len >= 1 && cli_print_commands(stdout, words[0])) {
        printf("vdc %s VERB --help says more\n", words[0]);
    } else {
        print_usage(stdout);
    }
    return CLI_DONE;
}

enum {
    FLAG_SERVER = 256,
    FLAG_CA,
    FLAG_CERT,
    FLAG_KEY,
    FLAG_CONTEXT,
    FLAG_ZONE,
    FLAG_WAIT,
    FLAG_NO_WAIT,
    FLAG_TIMEOUT,
    FLAG_IDEMPOTENCY_KEY,
    FLAG_VERSION,
    FLAG_HELP = 'h',
};

static const struct option options[] = {
    {"server", required_argument, NULL, FLAG_SERVER},
    {"ca", required_argument, NULL, FLAG_CA},
    {"cert", required_argument, NULL, FLAG_CERT},
    {"key", required_argument, NULL, FLAG_KEY},
    {"context", required_argument, NULL, FLAG_CONTEXT},
    {"zone", required_argument, NULL, FLAG_ZONE},
    {"output", required_argument, NULL, 'o'},
    {"wait", no_argument, NULL, FLAG_WAIT},
    {"no-wait", no_argument, NULL, FLAG_NO_WAIT},
    {"timeout", required_argument, NULL, FLAG_TIMEOUT},
    {"idempotency-key", required_argument, NULL, FLAG_IDEMPOTENCY_KEY},
    {"label", required_argument, NULL, 'l'},
    {"class", required_argument, NULL, 'c'},
    {"tenant", required_argument, NULL, 't'},
    {"image", required_argument, NULL, 'i'},
    {"vcpus", required_argument, NULL, 'v'},
    {"memory", required_argument, NULL, 'm'},
    {"disk", required_argument, NULL, 'd'},
    {"to", required_argument, NULL, 'T'},
    {"file", required_argument, NULL, 'f'},
    {"follow", no_argument, NULL, 'F'},
    {"help", no_argument, NULL, FLAG_HELP},
    {"version", no_argument, NULL, FLAG_VERSION},
    {NULL, 0, NULL, 0},
};

static bool set_path(char *to, const char *from)
{
    if (!vdc_str_copy(to, CLI_PATH_CAP, from)) {
        cli_error("\"%.60s...\" is too long", from);
        return false;
    }
    return true;
}

static bool take_format(struct cli *cli, const char *value)
{
    /* In the order of enum cli_format. */
    static const char *const formats[] = {"table", "wide", "json", "yaml"};
    for (size_t i = 0; i < VDC_COUNT_OF(formats); i++) {
        if (strcmp(value, formats[i]) == 0) {
            cli->format = (enum cli_format)i;
            return true;
        }
    }
    cli_error("-o %s: table, wide, json or yaml is expected", value);
    return false;
}

/* It goes into a header: nothing may end that. */
static bool is_key(const char *value)
{
    size_t len = strlen(value);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)value[i] <= 0x20 || (unsigned char)value[i] >= 0x7f) {
            return false;
        }
    }
    return len > 0 && len <= VDC_REQUEST_KEY_MAX;
}

/* Flags of single commands are remembered in `used`, to be compared with what the command takes. */
static bool take_flag(struct cli *cli, int flag, char *value, struct vdc_buf *used)
{
    const char **texts[] = {&cli->class,  &cli->tenant, &cli->image, &cli->vcpus,
                            &cli->memory, &cli->disk,   &cli->to,    &cli->file};
    static const char letters[] = "ctivmdTf";
    uint64_t number;
    const char *letter = flag < 256 && flag > 0 ? strchr(letters, flag) : NULL;
    if (letter != NULL) {
        *texts[letter - letters] = value;
        vdc_buf_printf(used, "%c", flag);
        return true;
    }
    switch (flag) {
    case FLAG_SERVER:
        setenv("VDC_SERVER", value, 1); /* read where the environment is */
        return true;
    case FLAG_CA:
        return set_path(cli->ca, value);
    case FLAG_CERT:
        return set_path(cli->cert, value);
    case FLAG_KEY:
        return set_path(cli->key, value);
    case FLAG_CONTEXT:
        cli->context = value;
        return true;
    case FLAG_ZONE:
        if (!vdc_name_valid(value)) {
            cli_error("--zone %.64s: not a name", value);
            return false;
        }
        vdc_str_set(cli->zone, sizeof cli->zone, value);
        return true;
    case 'o':
        return take_format(cli, value);
    case FLAG_WAIT:
    case FLAG_NO_WAIT:
        cli->wait = flag == FLAG_WAIT;
        return true;
    case FLAG_TIMEOUT:
        if (!vdc_parse_u64(value, 86400, &number)) {
            cli_error("--timeout %s: seconds up to 86400 are expected", value);
            return false;
        }
        cli->timeout_s = (int64_t)number;
        return true;
    case FLAG_IDEMPOTENCY_KEY:
        if (!is_key(value)) {
            cli_error("--idempotency-key: 1 to %d visible ASCII characters are expected",
                      VDC_REQUEST_KEY_MAX);
            return false;
        }
        cli->idempotency_key = value;
        return true;
    case 'l':
        if (cli->labels_len == CLI_LABELS_MAX) {
            cli_error("at most %d labels", CLI_LABELS_MAX);
            return false;
        }
        cli->labels[cli->labels_len++] = value;
        vdc_buf_puts(used, "l");
        return true;
    case 'F':
        cli->follow = true;
        vdc_buf_puts(used, "F");
        return true;
    default:
        return false; /* getopt has said why */
    }
}

/* Says what is wrong with the words and which were probably meant. */
static int say_unknown(size_t words_len, char **words)
{
    if (words_len == 0) {
        cli_error("a noun and a verb are expected; vdc --help lists them");
        return CLI_USAGE;
    }
    const char *verb = words_len > 1 ? words[1] : "";
    const char *nearest = cli_nearest_word(words[0], verb);
    if (words_len == 1 && cli_print_commands(stderr, words[0])) {
        cli_error("which of these?");
        return CLI_USAGE;
    }
    cli_error("there is no command \"%.40s%s%.40s\"%s%s%s; vdc --help lists them", words[0],
              words_len > 1 ? " " : "", verb, nearest != NULL ? " (did you mean " : "",
              nearest != NULL ? nearest : "", nearest != NULL ? "?)" : "");
    return CLI_USAGE;
}

static int run(struct cli *cli, size_t words_len, char **words, const char *used)
{
    if (words_len >= 1 && strcmp(words[0], "completion") == 0) {
        cli_print_completion();
        return CLI_DONE;
    }
    const struct cli_command *command =
        words_len >= 2 ? cli_find_command(words[0], words[1]) : NULL;
    if (command == NULL) {
        return say_unknown(words_len, words);
    }
    cli->args = words + 2;
    cli->args_len = words_len - 2;
    if (cli->args_len < command->args_min || cli->args_len > command->args_max) {
        cli_error("usage: vdc %s %s %s", command->noun, command->verb, command->args);
        return CLI_USAGE;
    }
    for (; *used != 0; used++) {
        if (strchr(command->flags, *used) == NULL) {
            const char *name = "?";
            for (const struct option *option = options; option->name != NULL; option++) {
                name = option->val == *used ? option->name : name;
            }
            cli_error("vdc %s %s takes no --%s", command->noun, command->verb, name);
            return CLI_USAGE;
        }
    }
    bool names = strstr(command->args, "NAME") != NULL || strcmp(command->args, "ID") == 0;
    for (size_t i = 0; names && i < cli->args_len; i++) {
        if (!vdc_name_valid(cli->args[i])) {
            cli_error("\"%.64s\" is not a name: a-z 0-9 . - are expected, at most %d", cli->args[i],
                      VDC_NAME_MAX);
            return CLI_USAGE;
        }
    }
    bool offline = command->run == cli_policy_lint;
    if (!offline && !cli_read_context(cli)) {
        return CLI_USAGE;
    }
    cli->deadline = vdc_mono_add(vdc_clock_mono(), cli->timeout_s * VDC_SECOND);
    int status = command->run(cli);
    return cli_flush() || status != CLI_DONE ? status : CLI_FAILED;
}

int main(int argc, char **argv)
{
    struct cli *cli = VDC_NEW(struct cli);
    cli->wait = true;
    cli->timeout_s = 120;
    struct vdc_buf used = {0};
    int status = CLI_DONE;
    int flag;
    bool want_help = false;
    while (status == CLI_DONE && (flag = getopt_long(argc, argv, "ho:f:", options, NULL)) != -1) {
        if (flag == FLAG_VERSION) {
            puts("vdc " VDC_VERSION);
            goto out;
        }
        if (flag == FLAG_HELP) {
            want_help = true;
        } else if (!take_flag(cli, flag, optarg, &used)) {
            status = CLI_USAGE;
        }
    }
    if (status == CLI_DONE && want_help) {
        status = help((size_t)(argc - optind), argv + optind);
        status = cli_flush() ? status : CLI_FAILED;
        goto out;
    }
    if (status == CLI_DONE) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        status = run(cli, (size_t)(argc - optind), argv + optind, vdc_buf_text(&used));
        curl_global_cleanup();
    }
out:
    vdc_buf_deinit(&used);
    free(cli);
    return status;
}
