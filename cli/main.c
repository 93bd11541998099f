/* SPDX-License-Identifier: Apache-2.0 */
/* vdc: reads flags, finds the command in the table, runs it. */
#include <curl/curl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static void print_usage(FILE *to)
{
    fputs("Usage: vdc [FLAGS] NOUN VERB [ARGS] [FLAGS]\n"
          "\n"
          "Works with a virtual data center through the REST API of its zone managers.\n"
          "\n"
          "Commands:\n",
          to);
    cli_print_commands(to);
    fputs(
        "  completion bash              shell completion, to be evaluated by the shell\n"
        "\n"
        "Flags:\n"
        "  --server URL[,URL...]  zone managers; each is tried (or VDC_SERVER)\n"
        "  --ca, --cert, --key F  PEM files (or VDC_CA, VDC_CERT, VDC_KEY)\n"
        "  --context NAME         of ~/.config/vdc/config.yaml, instead of its current one\n"
        "  --zone NAME            where there are several (or VDC_ZONE)\n"
        "  -o table|json          what is printed\n"
        "  --wait, --no-wait      for an operation's end (default: wait)\n"
        "  --timeout SECONDS      of the whole command (default 120)\n"
        "  --idempotency-key KEY  repeats an earlier request instead of making a new one\n"
        "  --label KEY=VALUE ...  --class  --tenant  --image  --vcpus N  --memory SIZE  --disk "
        "SIZE\n"
        "  --to NODE              where to migrate\n"
        "  -f FILE                the partition as YAML or JSON, - for standard input\n"
        "  --follow               goes on printing the console\n"
        "\n"
        "Exit codes: 0 done, 1 failed, 2 usage, 3 refused by policy, 4 not reachable, 5 conflict\n",
        stdout);
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
    FLAG_HELP,
    FLAG_VERSION,
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
        if (strcmp(value, "json") != 0 && strcmp(value, "table") != 0) {
            cli_error("-o %s: table or json is expected", value);
            return false;
        }
        cli->format = strcmp(value, "json") == 0 ? CLI_JSON : CLI_TABLE;
        return true;
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

static const struct cli_command *find_command(const char *noun, const char *verb)
{
    for (size_t i = 0; i < cli_commands_len; i++) {
        if (strcmp(cli_commands[i].noun, noun) == 0 && strcmp(cli_commands[i].verb, verb) == 0) {
            return &cli_commands[i];
        }
    }
    return NULL;
}

static int run(struct cli *cli, size_t words_len, char **words, const char *used)
{
    if (words_len >= 1 && strcmp(words[0], "completion") == 0) {
        cli_print_completion();
        return CLI_DONE;
    }
    if (words_len < 2) {
        cli_error("a noun and a verb are expected; vdc --help lists them");
        return CLI_USAGE;
    }
    const struct cli_command *command = find_command(words[0], words[1]);
    if (command == NULL) {
        cli_error("there is no command \"%.40s %.40s\"; vdc --help lists them", words[0], words[1]);
        return CLI_USAGE;
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
    bool names = strcmp(command->args, "NAME") == 0 || strcmp(command->args, "ID") == 0;
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
    return command->run(cli);
}

int main(int argc, char **argv)
{
    struct cli *cli = VDC_NEW(struct cli);
    cli->wait = true;
    cli->timeout_s = 120;
    struct vdc_buf used = {0};
    int status = CLI_DONE;
    int flag;
    while ((flag = getopt_long(argc, argv, "o:f:", options, NULL)) != -1 && status == CLI_DONE) {
        if (flag == FLAG_HELP) {
            print_usage(stdout);
            goto out;
        }
        if (flag == FLAG_VERSION) {
            puts("vdc " VDC_VERSION);
            goto out;
        }
        if (!take_flag(cli, flag, optarg, &used)) {
            status = CLI_USAGE;
        }
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
