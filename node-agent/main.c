/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vdc-node-agent --config FILE      runs the agent of this node
 * vdc-node-agent --check FILE       reads the configuration, says what is wrong with it, ends
 * vdc-node-agent --show RUN_DIR     prints what the agent running there knows
 * vdc-node-agent --inspect DIR      prints what the journal there holds, and whether it is whole
 * The last two with --json behind: as one JSON object.
 *
 * Exit status: 0 ended by a signal (or all was well), 1 could not begin or the journal is damaged,
 * 2 wrong use or configuration.
 */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <uv.h>

#include <vdc/base.h>
#include <vdc/log.h>

#include "io/config.h"
#include "io/control.h"
#include "io/driver.h"
#include "io/inspect.h"

static const char usage[] =
    "Usage: vdc-node-agent --config FILE | --check FILE | --show RUN_DIR [--json] |\n"
    "                      --inspect DIR [--json] | --help | --version\n"
    "\n"
    "Keeps one node's allocation database, commits the zone managers' transactions and runs the\n"
    "node's partitions. One per node, as root. Guests outlive it.\n"
    "\n"
    "  --config FILE    runs the agent; YAML, see vdc-node-agent(8)\n"
    "  --check FILE     says what is wrong with a configuration\n"
    "  --show RUN_DIR   what the agent running there knows: leases, guests, the whole database\n"
    "  --inspect DIR    what the journal there holds, and whether it is whole; changes nothing\n"
    "  --json           the last two as one JSON object, for programs (also: -o json)\n";

static int wrong_use(void)
{
    fputs(usage, stderr);
    return 2;
}

static bool load_config(const char *path, struct agent_config *config)
{
    struct vdc_buf complaints = {0};
    enum vdc_rc rc = agent_config_load(path, config, &complaints);
    if (rc != VDC_RC_OK) {
        fputs(vdc_buf_text(&complaints), stderr);
    }
    vdc_buf_deinit(&complaints);
    return rc == VDC_RC_OK;
}

/* The directory of this program: vdc-monitor and vdc-relay lie beside it. */
static bool find_program_dir(char dir[PATH_MAX])
{
    ssize_t len = readlink("/proc/self/exe", dir, PATH_MAX - 1);
    if (len <= 0) {
        return false;
    }
    dir[len] = 0;
    char *slash = strrchr(dir, '/');
    if (slash == NULL) {
        return false;
    }
    *slash = 0;
    return true;
}

static int run(const char *path)
{
    static struct agent_config config;
    char program_dir[PATH_MAX];
    if (!load_config(path, &config)) {
        return 2;
    }
    if (!find_program_dir(program_dir)) {
        fputs("vdc-node-agent: /proc/self/exe cannot be read\n", stderr);
        return 1;
    }
    vdc_log_open("vdc-node-agent", VDC_LEVEL_INFO);
    signal(SIGPIPE, SIG_IGN);
    uv_loop_t loop;
    uv_loop_init(&loop);
    struct driver *driver;
    struct vdc_err err;
    enum vdc_rc rc = agent_driver_open(&loop, &config, program_dir, &driver, &err);
    if (rc != VDC_RC_OK) {
        vdc_log_error("node %s cannot begin: %s", config.name, vdc_err_text(&err));
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    agent_driver_free(driver);
    if (uv_loop_close(&loop) != 0) {
        vdc_log_warn("handles were left open");
    }
    return rc == VDC_RC_OK ? 0 : 1;
}

static int inspect(const char *dir, bool json)
{
    struct vdc_buf text = {0};
    struct vdc_err err;
    enum vdc_rc rc = agent_inspect(dir, json, &text, &err);
    fputs(vdc_buf_text(&text), stdout);
    vdc_buf_deinit(&text);
    if (rc != VDC_RC_OK) {
        fprintf(stderr, "vdc-node-agent: %s\n", vdc_err_text(&err));
    }
    return rc == VDC_RC_OK ? 0 : 1;
}

static int show(const char *run_dir, bool json)
{
    struct vdc_err err;
    if (agent_control_show(run_dir, json, &err) != VDC_RC_OK) {
        fprintf(stderr, "vdc-node-agent: %s\n", vdc_err_text(&err));
        return 1;
    }
    return 0;
}

/* Takes "--json" or "-o json" from the end of the arguments. */
static bool take_json(int *argc, char **argv)
{
    if (*argc == 4 && strcmp(argv[3], "--json") == 0) {
        *argc = 3;
        return true;
    }
    if (*argc == 5 && strcmp(argv[3], "-o") == 0 && strcmp(argv[4], "json") == 0) {
        *argc = 3;
        return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("vdc-node-agent %s\n", VDC_VERSION);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    bool json = take_json(&argc, argv);
    if (argc != 3) {
        return wrong_use();
    }
    if (strcmp(argv[1], "--inspect") == 0) {
        return inspect(argv[2], json);
    }
    if (strcmp(argv[1], "--show") == 0) {
        return show(argv[2], json);
    }
    if (json) {
        return wrong_use();
    }
    if (strcmp(argv[1], "--config") == 0) {
        return run(argv[2]);
    }
    if (strcmp(argv[1], "--check") == 0) {
        static struct agent_config config;
        return load_config(argv[2], &config) ? 0 : 2;
    }
    return wrong_use();
}
