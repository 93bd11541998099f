/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vdc-monitor: contains one guest partition. Started by the node agent, which it outlives.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include <vdc/base.h>
#include <vdc/file.h>
#include <vdc/kvm_probe.h>
#include <vdc/launch.h>
#include <vdc/log.h>
#include <vdc/monitor.h>

#define QEMU_DEFAULT "/usr/bin/qemu-system-x86_64"
#define EXIT_USAGE 2

struct options {
    const char *dir;
    const char *config;
    const char *accel;
    const char *qemu;
    int view_fd;
    int lock_fd;
    bool unconfined;
    bool probe;
};

static void usage(FILE *out)
{
    (void)fputs(
        "usage: vdc-monitor --dir DIR --config FILE --view-fd N [--accel auto|kvm|tcg]\n"
        "                   [--lock-fd N] [--qemu PATH] [--unconfined]\n"
        "       vdc-monitor --probe\n"
        "\n"
        "Runs one guest partition in QEMU until it ends. Started by vdc-node-agent.\n"
        "  --dir DIR      directory of the partition's files; monitor.sock is made there\n"
        "  --config FILE  launch configuration (JSON)\n"
        "  --view-fd N    descriptor of the partition's view, open for reading\n"
        "  --lock-fd N    descriptor that this program and QEMU keep open as long as they live\n"
        "  --accel A      auto (default: KVM if it is usable, else TCG), kvm or tcg\n"
        "  --qemu PATH    the emulator (" QEMU_DEFAULT ")\n"
        "  --unconfined   for development without root: no namespaces, user and capabilities\n"
        "  --probe        print as JSON which accelerator is usable and why, and end\n"
        "Exit status: 0 the guest was stopped, 3 it failed, 1 it could not be tried, 2 usage.\n",
        out);
}

static int parse_options(int argc, char **argv, struct options *options)
{
    enum {
        DIR_OPTION = 256,
        CONFIG,
        VIEW_FD,
        LOCK_FD,
        ACCEL,
        QEMU,
        UNCONFINED,
        PROBE,
        HELP,
        VERSION
    };
    static const struct option long_options[] = {
        {"dir", required_argument, NULL, DIR_OPTION},
        {"config", required_argument, NULL, CONFIG},
        {"view-fd", required_argument, NULL, VIEW_FD},
        {"lock-fd", required_argument, NULL, LOCK_FD},
        {"accel", required_argument, NULL, ACCEL},
        {"qemu", required_argument, NULL, QEMU},
        {"unconfined", no_argument, NULL, UNCONFINED},
        {"probe", no_argument, NULL, PROBE},
        {"help", no_argument, NULL, HELP},
        {"version", no_argument, NULL, VERSION},
        {NULL, 0, NULL, 0},
    };
    uint64_t number;
    int option;

    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        switch (option) {
        case DIR_OPTION:
            options->dir = optarg;
            break;
        case CONFIG:
            options->config = optarg;
            break;
        case VIEW_FD:
            if (!vdc_parse_u64(optarg, 1023, &number)) {
                return EXIT_USAGE;
            }
            options->view_fd = (int)number;
            break;
        case LOCK_FD:
            if (!vdc_parse_u64(optarg, 1023, &number)) {
                return EXIT_USAGE;
            }
            options->lock_fd = (int)number;
            break;
        case ACCEL:
            options->accel = optarg;
            break;
        case QEMU:
            options->qemu = optarg;
            break;
        case UNCONFINED:
            options->unconfined = true;
            break;
        case PROBE:
            options->probe = true;
            break;
        case HELP:
            usage(stdout);
            exit(0);
        case VERSION:
            (void)puts("vdc-monitor " VDC_VERSION);
            exit(0);
        default: /* getopt has said what is wrong */
            return EXIT_USAGE;
        }
    }
    if (optind != argc || (!options->probe && (options->dir == NULL || options->config == NULL ||
                                               options->view_fd < 0))) {
        return EXIT_USAGE;
    }
    return 0;
}

static int print_probe(void)
{
    struct vdc_kvm_probe probe;
    json_t *json;

    vdc_kvm_probe(&probe);
    json =
        json_pack("{s:s, s:s, s:I, s:I, s:I}", "accelerator", probe.usable ? "kvm" : "tcg",
                  "reason", probe.reason, "instructions_per_s",
                  (json_int_t)VDC_MIN(probe.real_instructions_per_s, probe.long_instructions_per_s),
                  "long_mode_instructions_per_s", (json_int_t)probe.long_instructions_per_s,
                  "tsc_khz", (json_int_t)vdc_tsc_khz());
    VDC_ASSERT(json != NULL && json_dumpf(json, stdout, JSON_COMPACT) == 0);
    (void)putchar('\n');
    json_decref(json);
    return 0;
}

/* Whether to use KVM; -1 for an unknown word. */
static int choose_kvm(const char *accel)
{
    struct vdc_kvm_probe probe;

    if (strcmp(accel, "kvm") == 0) {
        return 1;
    }
    if (strcmp(accel, "tcg") == 0) {
        return 0;
    }
    if (strcmp(accel, "auto") != 0) {
        return -1;
    }
    vdc_kvm_probe(&probe);
    vdc_log_info("%s", probe.reason);
    return probe.usable ? 1 : 0;
}

static enum vdc_rc read_launch(const char *path, struct vdc_launch *launch, struct vdc_err *err)
{
    struct vdc_buf text = {0};
    enum vdc_rc rc = vdc_file_read(path, VDC_LAUNCH_TEXT_MAX, &text, err);

    if (rc == VDC_RC_OK) {
        rc = vdc_launch_parse(vdc_buf_text(&text), text.len, launch, err);
        if (rc != VDC_RC_OK) {
            (void)vdc_err_wrap(err, "%s", path);
        }
    }
    vdc_buf_deinit(&text);
    return rc;
}

static int run(const struct options *options)
{
    vdc_autofree struct vdc_launch *launch = VDC_NEW(struct vdc_launch);
    struct vdc_monitor_config config = {
        .dir = options->dir,
        .qemu = options->qemu,
        .view_fd = options->view_fd,
        .lock_fd = options->lock_fd,
        .unconfined = options->unconfined,
        .launch = launch,
    };
    struct vdc_err err = {0};
    int kvm = choose_kvm(options->accel);
    int exit_status = 0;

    if (kvm < 0) {
        usage(stderr);
        return EXIT_USAGE;
    }
    config.kvm = kvm == 1;
    if (read_launch(options->config, launch, &err) != VDC_RC_OK) {
        vdc_log_error("%s", vdc_err_text(&err));
        return 1;
    }
    if (!options->unconfined && (launch->uid == 0 || launch->gid == 0 || geteuid() != 0)) {
        vdc_log_error("%s -> give --unconfined if that is meant",
                      geteuid() != 0 ? "without root QEMU cannot be confined"
                                     : "the configuration names no uid and gid to confine QEMU by");
        return 1;
    }
    if (options->unconfined) {
        vdc_log_warn("--unconfined -> QEMU runs with the rights of this user");
    }
    if (vdc_monitor_run(&config, &exit_status, &err) != VDC_RC_OK) {
        vdc_log_error("%s", vdc_err_text(&err));
        return 1;
    }
    return exit_status;
}

int main(int argc, char **argv)
{
    struct options options = {.accel = "auto", .qemu = QEMU_DEFAULT, .view_fd = -1};
    int status = parse_options(argc, argv, &options);

    if (status != 0) {
        usage(stderr);
        return status;
    }
    if (options.probe) {
        return print_probe();
    }
    (void)umask(077);
    (void)signal(SIGPIPE, SIG_IGN);
    vdc_log_open("vdc-monitor", VDC_LEVEL_INFO);
    return run(&options);
}
