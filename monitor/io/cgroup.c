/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of settings, v1 | v2:
 *   memory.limit_in_bytes           | memory.max (and memory.swap.max 0 where it exists)
 *   cpu.cfs_quota_us, _period_us    | cpu.max "QUOTA PERIOD"
 *   cpu.shares (1024 = one)         | cpu.weight (100 = default, 1..10000)
 *   pids.max                        | pids.max
 *   cpuset.cpus, cpuset.mems (both must be set before a process may enter) | cpuset.cpus
 *
 * In v2 a controller works in a group only if its parent has it in cgroup.subtree_control, so
 * parents get it on the way down. The root of a delegated subtree may refuse ("no internal
 * processes"); that controller is then reported as missing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vdc/base.h>
#include <vdc/buf.h>
#include <vdc/cgroup.h>
#include <vdc/file.h>

/* Microseconds in which a quota is counted: the kernel's default. */
#define CPU_PERIOD_US 100000
/* Bytes of mountinfo: machines with thousands of containers have a few MiB. */
#define MOUNTINFO_MAX (16U << 20)
#define CONTROLLERS_TEXT_MAX 4096

static const char *const controller_names[VDC_CGROUP_CONTROLLERS] = {
    [VDC_CGROUP_CPU] = "cpu",
    [VDC_CGROUP_MEMORY] = "memory",
    [VDC_CGROUP_PIDS] = "pids",
    [VDC_CGROUP_CPUSET] = "cpuset",
};

/* Whether `word` is one of the words of `list` that `separators` part. */
static bool has_word(const char *list, const char *separators, const char *word)
{
    size_t len = strlen(word);

    while (*list != '\0') {
        size_t span = strcspn(list, separators);
        if (span == len && strncmp(list, word, len) == 0) {
            return true;
        }
        list += span;
        list += strspn(list, separators);
    }
    return false;
}

static void note_v1(struct vdc_cgroup_layout *layout, const char *mount, const char *options)
{
    for (int c = 0; c < VDC_CGROUP_CONTROLLERS; c++) {
        if (has_word(options, ",\n", controller_names[c]) &&
            (layout->mount[c] == NULL || layout->v2[c])) {
            free(layout->mount[c]);
            layout->mount[c] = vdc_strdup(mount);
            layout->v2[c] = false;
        }
    }
}

static void note_v2(struct vdc_cgroup_layout *layout, const char *mount)
{
    struct vdc_buf text = {0};
    vdc_autofree char *path = vdc_asprintf("%s/cgroup.controllers", mount);

    if (vdc_file_read(path, CONTROLLERS_TEXT_MAX, &text, NULL) == VDC_RC_OK) {
        for (int c = 0; c < VDC_CGROUP_CONTROLLERS; c++) {
            if (layout->mount[c] == NULL &&
                has_word(vdc_buf_text(&text), " \n", controller_names[c])) {
                layout->mount[c] = vdc_strdup(mount);
                layout->v2[c] = true;
            }
        }
    }
    vdc_buf_deinit(&text);
}

/* One line: "36 35 98:0 /root /mount/point opts optional... - type source superopts". */
static void note_mount(struct vdc_cgroup_layout *layout, char *line, const char *root)
{
    char *rest = strstr(line, " - ");
    char *words[5];
    vdc_autofree char *mount = NULL;
    char *type;

    if (rest == NULL) {
        return;
    }
    *rest = '\0';
    rest += 3;
    for (int i = 0; i < 5; i++) {
        words[i] = strsep(&line, " ");
        if (words[i] == NULL) {
            return;
        }
    }
    type = strsep(&rest, " ");
    (void)strsep(&rest, " ");
    if (rest == NULL) {
        return;
    }
    mount = vdc_asprintf("%s%s", root, words[4]);
    if (strcmp(type, "cgroup") == 0) {
        note_v1(layout, mount, rest);
    } else if (strcmp(type, "cgroup2") == 0) {
        note_v2(layout, mount);
    }
}

void vdc_cgroup_layout_find(struct vdc_cgroup_layout *layout, const char *mountinfo,
                            const char *root)
{
    vdc_autofree char *copy = vdc_strdup(mountinfo);
    char *rest = copy;
    char *line;

    *layout = (struct vdc_cgroup_layout){0};
    while ((line = strsep(&rest, "\n")) != NULL) {
        note_mount(layout, line, root);
    }
}

enum vdc_rc vdc_cgroup_layout_read(struct vdc_cgroup_layout *layout, struct vdc_err *err)
{
    struct vdc_buf text = {0};
    enum vdc_rc rc = vdc_file_read("/proc/self/mountinfo", MOUNTINFO_MAX, &text, err);

    *layout = (struct vdc_cgroup_layout){0};
    if (rc == VDC_RC_OK) {
        vdc_cgroup_layout_find(layout, vdc_buf_text(&text), "");
    }
    vdc_buf_deinit(&text);
    return rc;
}

void vdc_cgroup_layout_deinit(struct vdc_cgroup_layout *layout)
{
    for (int c = 0; c < VDC_CGROUP_CONTROLLERS; c++) {
        free(layout->mount[c]);
    }
    *layout = (struct vdc_cgroup_layout){0};
}

/* ---- one setting ---- */

static enum vdc_rc write_setting(const char *dir, const char *name, const char *value,
                                 struct vdc_err *err)
{
    vdc_autofree char *path = vdc_asprintf("%s/%s", dir, name);

    return vdc_file_poke(path, value, err);
}

static bool try_setting(const char *dir, const char *name, const char *value,
                        struct vdc_trace *trace)
{
    struct vdc_err err = {0};

    if (write_setting(dir, name, value, &err) == VDC_RC_OK) {
        return true;
    }
    vdc_trace_line(trace, VDC_LEVEL_WARN, "cgroup: %s -> goes on without this limit",
                   vdc_err_text(&err));
    return false;
}

/* A v1 cpuset is empty when it is made, and takes no process before it has CPUs and memory nodes:
 * they are copied from the parent. */
static void inherit_cpuset(const char *dir, const char *name, struct vdc_trace *trace)
{
    vdc_autofree char *parent = vdc_asprintf("%s/../%s", dir, name);
    struct vdc_buf text = {0};

    if (vdc_file_read(parent, CONTROLLERS_TEXT_MAX, &text, NULL) == VDC_RC_OK) {
        (void)try_setting(dir, name, vdc_buf_text(&text), trace);
    }
    vdc_buf_deinit(&text);
}

static void set_cpu(const char *dir, bool v2, const struct vdc_cgroup_limits *limits,
                    struct vdc_trace *trace)
{
    char text[64];
    long long quota = (long long)limits->cpu_milli * CPU_PERIOD_US / 1000;

    if (limits->cpu_milli > 0 && v2) {
        (void)snprintf(text, sizeof(text), "%lld %d", quota, CPU_PERIOD_US);
        (void)try_setting(dir, "cpu.max", text, trace);
    } else if (limits->cpu_milli > 0) {
        (void)snprintf(text, sizeof(text), "%d", CPU_PERIOD_US);
        (void)try_setting(dir, "cpu.cfs_period_us", text, trace);
        (void)snprintf(text, sizeof(text), "%lld", quota);
        (void)try_setting(dir, "cpu.cfs_quota_us", text, trace);
    }
    if (limits->cpu_shares > 0 && v2) {
        uint64_t weight = VDC_MIN(VDC_MAX((uint64_t)limits->cpu_shares / 10, 1), 10000);
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)weight);
        (void)try_setting(dir, "cpu.weight", text, trace);
    } else if (limits->cpu_shares > 0) {
        uint64_t shares = VDC_MAX((uint64_t)limits->cpu_shares * 1024 / 1000, 2);
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)shares);
        (void)try_setting(dir, "cpu.shares", text, trace);
    }
}

static void set_limits(const char *dir, enum vdc_cgroup_controller controller, bool v2,
                       const struct vdc_cgroup_limits *limits, struct vdc_trace *trace)
{
    char text[64];

    switch (controller) {
    case VDC_CGROUP_CPU:
        set_cpu(dir, v2, limits, trace);
        break;
    case VDC_CGROUP_MEMORY:
        if (limits->memory_bytes > 0) {
            (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)limits->memory_bytes);
            (void)try_setting(dir, v2 ? "memory.max" : "memory.limit_in_bytes", text, trace);
        }
        break;
    case VDC_CGROUP_PIDS:
        if (limits->pids > 0) {
            (void)snprintf(text, sizeof(text), "%u", limits->pids);
            (void)try_setting(dir, "pids.max", text, trace);
        }
        break;
    case VDC_CGROUP_CPUSET:
        if (limits->cpus != NULL) {
            (void)try_setting(dir, "cpuset.cpus", limits->cpus, trace);
        }
        break;
    }
}

/* ---- groups ---- */

/* Makes each part of `path` below `mount`. */
static enum vdc_rc make_dirs(const struct vdc_cgroup_layout *layout,
                             enum vdc_cgroup_controller controller, const char *path,
                             struct vdc_trace *trace, struct vdc_err *err)
{
    vdc_autofree char *copy = vdc_strdup(path);
    char *rest = copy;
    char *part;
    struct vdc_buf dir = {0};
    enum vdc_rc rc = VDC_RC_OK;
    char enable[32];

    vdc_buf_puts(&dir, layout->mount[controller]);
    (void)snprintf(enable, sizeof(enable), "+%s", controller_names[controller]);
    while (rc == VDC_RC_OK && (part = strsep(&rest, "/")) != NULL) {
        if (layout->v2[controller]) {
            rc = write_setting(vdc_buf_text(&dir), "cgroup.subtree_control", enable, err);
            if (rc != VDC_RC_OK) {
                break;
            }
        }
        vdc_buf_printf(&dir, "/%s", part);
        if (mkdir(vdc_buf_text(&dir), 0755) == 0) {
            if (controller == VDC_CGROUP_CPUSET && !layout->v2[controller]) {
                inherit_cpuset(vdc_buf_text(&dir), "cpuset.cpus", trace);
                inherit_cpuset(vdc_buf_text(&dir), "cpuset.mems", trace);
            }
        } else if (errno != EEXIST) {
            rc = vdc_err_errno(err, errno, "mkdir %s", vdc_buf_text(&dir));
        }
    }
    vdc_buf_deinit(&dir);
    return rc;
}

/* Whether an earlier controller stands in the same hierarchy (v2, or a joint v1 mount). */
static bool shares_mount(const struct vdc_cgroup_layout *layout, int controller)
{
    for (int c = 0; c < controller; c++) {
        if (layout->mount[c] != NULL && layout->mount[controller] != NULL &&
            strcmp(layout->mount[c], layout->mount[controller]) == 0) {
            return true;
        }
    }
    return false;
}

enum vdc_rc vdc_cgroup_make(const struct vdc_cgroup_layout *layout, const char *path,
                            const struct vdc_cgroup_limits *limits, struct vdc_trace *trace,
                            struct vdc_err *err)
{
    int made = 0;

    for (int c = 0; c < VDC_CGROUP_CONTROLLERS; c++) {
        enum vdc_cgroup_controller controller = (enum vdc_cgroup_controller)c;
        struct vdc_err why = {0};
        vdc_autofree char *dir = NULL;

        if (controller == VDC_CGROUP_CPUSET && limits->cpus == NULL) {
            continue; /* nothing to limit, and an empty v1 cpuset would only be in the way */
        }
        if (layout->mount[c] == NULL) {
            vdc_trace_line(trace, VDC_LEVEL_WARN,
                           "cgroup: this machine has no controller %s -> goes on without it",
                           controller_names[c]);
            continue;
        }
        if (make_dirs(layout, controller, path, trace, &why) != VDC_RC_OK) {
            vdc_trace_line(trace, VDC_LEVEL_WARN, "cgroup: %s: %s -> goes on without it",
                           controller_names[c], vdc_err_text(&why));
            continue;
        }
        made++;
        dir = vdc_asprintf("%s/%s", layout->mount[c], path);
        set_limits(dir, controller, layout->v2[c], limits, trace);
    }
    return made > 0 ? VDC_RC_OK
                    : vdc_err_set(err, VDC_RC_NOT_FOUND, "no cgroup controller is usable");
}

enum vdc_rc vdc_cgroup_enter(const struct vdc_cgroup_layout *layout, const char *path, pid_t pid,
                             struct vdc_err *err)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%d", (int)pid);
    for (int c = 0; c < VDC_CGROUP_CONTROLLERS; c++) {
        vdc_autofree char *dir = NULL;
        enum vdc_rc rc;

        if (layout->mount[c] == NULL || shares_mount(layout, c)) {
            continue;
        }
        dir = vdc_asprintf("%s/%s", layout->mount[c], path);
        if (!vdc_file_exists(dir)) {
            continue;
        }
        rc = write_setting(dir, "cgroup.procs", text, err);
        if (rc != VDC_RC_OK) {
            (void)vdc_err_wrap(err, "enter the control group");
            return rc;
        }
    }
    return VDC_RC_OK;
}

enum vdc_rc vdc_cgroup_remove(const struct vdc_cgroup_layout *layout, const char *path,
                              struct vdc_err *err)
{
    enum vdc_rc rc = VDC_RC_OK;

    for (int c = 0; c < VDC_CGROUP_CONTROLLERS; c++) {
        vdc_autofree char *dir = NULL;

        if (layout->mount[c] == NULL) {
            continue;
        }
        dir = vdc_asprintf("%s/%s", layout->mount[c], path);
        if (rmdir(dir) != 0 && errno != ENOENT) {
            rc = vdc_err_errno(err, errno, "rmdir %s", dir);
            if (errno == EBUSY) {
                rc = vdc_err_set(err, VDC_RC_CONFLICT, "%s still has processes", dir);
            }
        }
    }
    return rc;
}
