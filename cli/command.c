/* SPDX-License-Identifier: Apache-2.0 */
/* The command table, and what is made from it. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

/* Flags by letter: l --label, c --class, t --tenant, i --image, v --vcpus, m --memory, d --disk, T --to,
 * f --file, F --follow. */
const struct cli_command cli_commands[] = {
    {"zone", "list", "", "", "zones with their leaders", cli_zone_list, 0, 0},
    {"zone", "show", "[NAME]", "", "one zone, or the only one", cli_zone_show, 0, 1},
    {"node", "list", "", "", "nodes with state, lease and what is free", cli_node_list, 0, 0},
    {"node", "show", "NAME", "", "one node with its allocation record", cli_node_show, 1, 1},
    {"policy", "lint", "FILE...", "", "check policy files, without a server", cli_policy_lint, 1,
     64},
    {"policy", "apply", "FILE", "", "put a policy in force (creates its zone)", cli_policy_apply, 1,
     1},
    {"policy", "show", "", "", "the policy in force", cli_policy_show, 0, 0},
    {"partition", "create", "[NAME]", "lctivmdf", "place and start a partition",
     cli_partition_create, 0, 1},
    {"partition", "list", "", "", "partitions, where they run and in which state",
     cli_partition_list, 0, 0},
    {"partition", "show", "NAME", "", "one partition", cli_partition_show, 1, 1},
    {"partition", "explain", "NAME", "", "why it is where it is", cli_partition_explain, 1, 1},
    {"partition", "start", "NAME", "", "start a stopped partition", cli_partition_start, 1, 1},
    {"partition", "stop", "NAME", "", "shut its guest down; resources stay reserved",
     cli_partition_stop, 1, 1},
    {"partition", "migrate", "NAME", "T", "move it live (--to NODE, or where policy says)",
     cli_partition_migrate, 1, 1},
    {"partition", "destroy", "NAME", "", "end it and free its resources", cli_partition_destroy, 1,
     1},
    {"partition", "console", "NAME", "F", "what its guest printed (--follow: goes on)",
     cli_partition_console, 1, 1},
    {"operation", "list", "", "", "operations, newest first", cli_operation_list, 0, 0},
    {"operation", "show", "ID", "", "one operation with its verdict", cli_operation_show, 1, 1},
};
const size_t cli_commands_len = VDC_COUNT_OF(cli_commands);

bool cli_print_commands(FILE *to, const char *noun)
{
    bool any = false;
    for (size_t i = 0; i < cli_commands_len; i++) {
        const struct cli_command *command = &cli_commands[i];
        if (noun != NULL && strcmp(command->noun, noun) != 0) {
            continue;
        }
        char call[64];
        snprintf(call, sizeof call, "%s %s %s", command->noun, command->verb, command->args);
        fprintf(to, "  %-28s %s\n", call, command->help);
        any = true;
    }
    return any;
}

const struct cli_command *cli_find_command(const char *noun, const char *verb)
{
    for (size_t i = 0; i < cli_commands_len; i++) {
        if (strcmp(cli_commands[i].noun, noun) == 0 && strcmp(cli_commands[i].verb, verb) == 0) {
            return &cli_commands[i];
        }
    }
    return NULL;
}

const char *cli_nearest_word(const char *noun, const char *verb)
{
    const char *words[VDC_COUNT_OF(cli_commands)];
    bool known = false;
    size_t count = 0;
    for (size_t i = 0; i < cli_commands_len; i++) {
        known = known || strcmp(cli_commands[i].noun, noun) == 0;
    }
    for (size_t i = 0; i < cli_commands_len; i++) {
        if (!known) {
            words[count++] = cli_commands[i].noun;
        } else if (strcmp(cli_commands[i].noun, noun) == 0) {
            words[count++] = cli_commands[i].verb;
        }
    }
    return vdc_nearest_name(known ? verb : noun, words, count);
}

/* The distinct nouns, or the verbs of `noun`, separated by blanks. */
static void print_words(const char *noun)
{
    const char *last = "";
    for (size_t i = 0; i < cli_commands_len; i++) {
        if (noun == NULL && strcmp(last, cli_commands[i].noun) != 0) {
            last = cli_commands[i].noun;
            printf("%s ", last);
        } else if (noun != NULL && strcmp(noun, cli_commands[i].noun) == 0) {
            printf("%s ", cli_commands[i].verb);
        }
    }
}

void cli_print_completion(void)
{
    printf("# bash completion for vdc: eval \"$(vdc completion bash)\"\n"
           "_vdc() {\n"
           "    local noun=${COMP_WORDS[1]} word=${COMP_WORDS[COMP_CWORD]}\n"
           "    case $COMP_CWORD:$noun:$word in\n"
           "    *:*:-*) COMPREPLY=($(compgen -W '--server --ca --cert --key --context --zone -o "
           "--wait '\\\n"
           "'--no-wait --timeout --idempotency-key --label --class --tenant --image --vcpus "
           "--memory '\\\n"
           "'--disk --to -f --follow --help' -- \"$word\")) ;;\n"
           "    1:*:*) COMPREPLY=($(compgen -W '");
    print_words(NULL);
    printf("completion' -- \"$word\")) ;;\n");
    const char *last = "";
    for (size_t i = 0; i < cli_commands_len; i++) {
        if (strcmp(last, cli_commands[i].noun) != 0) {
            last = cli_commands[i].noun;
            printf("    2:%s:*) COMPREPLY=($(compgen -W '", last);
            print_words(last);
            printf("' -- \"$word\")) ;;\n");
        }
    }
    printf("    *) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n"
           "    esac\n"
           "}\n"
           "complete -F _vdc vdc\n");
}
