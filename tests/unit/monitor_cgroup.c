/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cgroup shim against directories that look like cgroupfs: only mkdir and the files are
 * imitated, so settings are made beforehand where the kernel would make them.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <vdc/base.h>
#include <vdc/cgroup.h>
#include <vdc/file.h>

static char root[] = "/tmp/vdc-cgroup.XXXXXX";

static void init(void)
{
    strcpy(root, "/tmp/vdc-cgroup.XXXXXX");
    cr_assert_not_null(mkdtemp(root));
}

static void fini(void)
{
    (void)!vdc_dir_remove(root, NULL);
}

static void put(const char *path, const char *text)
{
    vdc_autofree char *full = vdc_asprintf("%s/%s", root, path);
    vdc_autofree char *dir = vdc_strdup(full);

    *strrchr(dir, '/') = '\0';
    cr_assert_eq(vdc_dir_make(dir, 0755, NULL), VDC_RC_OK);
    cr_assert_eq(vdc_file_write_atomic(full, text, strlen(text), 0644, NULL), VDC_RC_OK);
}

static void is(const char *path, const char *text)
{
    vdc_autofree char *full = vdc_asprintf("%s/%s", root, path);
    struct vdc_buf buf = {0};

    cr_assert_eq(vdc_file_read(full, 4096, &buf, NULL), VDC_RC_OK, "%s", path);
    cr_assert_str_eq(vdc_buf_text(&buf), text, "%s: %s", path, vdc_buf_text(&buf));
    vdc_buf_deinit(&buf);
}

TestSuite(monitor_cgroup, .init = init, .fini = fini);

static const char v1_mounts[] =
    "20 1 0:1 / /proc rw - proc proc rw\n"
    "30 1 0:2 / /cg/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "31 1 0:3 / /cg/memory rw,relatime shared:3 master:4 - cgroup cgroup rw,memory\n"
    "32 1 0:4 / /cg/pids rw - cgroup cgroup rw,pids\n"
    "33 1 0:5 / /cg/unified rw - cgroup2 cgroup2 rw\n"
    "broken line - \n"
    "34 1 0:6 / /cg/cpuset rw - cgroup cgroup rw,cpuset";

static const struct vdc_cgroup_limits limits = {
    .memory_bytes = 1 << 28, .cpu_milli = 1500, .cpu_shares = 500, .pids = 64, .cpus = "2,3"};

Test(monitor_cgroup, v1_settings_go_to_the_hierarchy_of_each_controller)
{
    struct vdc_cgroup_layout layout;
    struct vdc_trace trace = {0};

    put("cg/unified/cgroup.controllers", "hugetlb\n");
    put("cg/cpu,cpuacct/vdc/p1/cpu.cfs_quota_us", "-1");
    put("cg/cpu,cpuacct/vdc/p1/cpu.cfs_period_us", "1");
    put("cg/cpu,cpuacct/vdc/p1/cpu.shares", "1024");
    put("cg/cpu,cpuacct/vdc/p1/cgroup.procs", "");
    put("cg/memory/vdc/p1/memory.limit_in_bytes", "");
    put("cg/memory/vdc/p1/cgroup.procs", "");
    put("cg/pids/vdc/p1/pids.max", "");
    put("cg/pids/vdc/p1/cgroup.procs", "");
    put("cg/cpuset/vdc/p1/cpuset.cpus", "");
    put("cg/cpuset/vdc/p1/cgroup.procs", "");
    vdc_cgroup_layout_find(&layout, v1_mounts, root);
    cr_assert_eq(vdc_cgroup_make(&layout, "vdc/p1", &limits, &trace, NULL), VDC_RC_OK);
    cr_assert_eq(trace.lines, 0, "%s", vdc_buf_text(&trace.text));
    is("cg/cpu,cpuacct/vdc/p1/cpu.cfs_period_us", "100000");
    /* Written without truncation, as cgroupfs takes it. */
    is("cg/cpu,cpuacct/vdc/p1/cpu.cfs_quota_us", "150000");
    is("cg/cpu,cpuacct/vdc/p1/cpu.shares", "5124"); /* "512" over "1024" */
    is("cg/memory/vdc/p1/memory.limit_in_bytes", "268435456");
    is("cg/pids/vdc/p1/pids.max", "64");
    is("cg/cpuset/vdc/p1/cpuset.cpus", "2,3");
    cr_assert_eq(vdc_cgroup_enter(&layout, "vdc/p1", 77, NULL), VDC_RC_OK);
    is("cg/memory/vdc/p1/cgroup.procs", "77");
    is("cg/cpuset/vdc/p1/cgroup.procs", "77");
    vdc_trace_deinit(&trace);
    vdc_cgroup_layout_deinit(&layout);
}

Test(monitor_cgroup, v2_settings_go_to_the_one_hierarchy_and_parents_pass_controllers_on)
{
    struct vdc_cgroup_layout layout;
    struct vdc_trace trace = {0};

    put("cg/cgroup.controllers", "cpuset cpu io memory pids\n");
    put("cg/cgroup.subtree_control", "");
    put("cg/vdc/cgroup.subtree_control", "");
    put("cg/vdc/p1/cpu.max", "");
    put("cg/vdc/p1/cpu.weight", "");
    put("cg/vdc/p1/memory.max", "");
    put("cg/vdc/p1/pids.max", "");
    put("cg/vdc/p1/cpuset.cpus", "");
    put("cg/vdc/p1/cgroup.procs", "");
    vdc_cgroup_layout_find(&layout, "30 1 0:2 / /cg rw - cgroup2 cgroup2 rw,nsdelegate\n", root);
    cr_assert_eq(vdc_cgroup_make(&layout, "vdc/p1", &limits, &trace, NULL), VDC_RC_OK);
    cr_assert_eq(trace.lines, 0, "%s", vdc_buf_text(&trace.text));
    is("cg/vdc/p1/cpu.max", "150000 100000");
    is("cg/vdc/p1/cpu.weight", "50");
    is("cg/vdc/p1/memory.max", "268435456");
    is("cg/vdc/p1/pids.max", "64");
    is("cg/vdc/p1/cpuset.cpus", "2,3");
    is("cg/vdc/cgroup.subtree_control", "+cpuset"); /* the last of four writes over each other */
    cr_assert_eq(vdc_cgroup_enter(&layout, "vdc/p1", 78, NULL), VDC_RC_OK);
    is("cg/vdc/p1/cgroup.procs", "78");
    vdc_trace_deinit(&trace);
    vdc_cgroup_layout_deinit(&layout);
}

Test(monitor_cgroup, what_is_missing_is_said_once_and_the_rest_goes_on)
{
    struct vdc_cgroup_layout layout;
    struct vdc_trace trace = {0};
    struct vdc_cgroup_limits some = limits;
    enum vdc_level level;
    char line[256];

    some.cpus = NULL;
    put("cg/memory/vdc/p1/memory.limit_in_bytes", "");
    vdc_cgroup_layout_find(&layout, "31 1 0:3 / /cg/memory rw - cgroup cgroup rw,memory\n", root);
    cr_assert_eq(vdc_cgroup_make(&layout, "vdc/p1", &some, &trace, NULL), VDC_RC_OK);
    cr_assert_eq(trace.lines, 2);
    cr_assert(vdc_trace_take(&trace, &level, line, sizeof(line)));
    cr_assert_str_eq(line, "cgroup: this machine has no controller cpu -> goes on without it");
    vdc_trace_deinit(&trace);
    vdc_cgroup_layout_deinit(&layout);
    vdc_cgroup_layout_find(&layout, "", root);
    cr_assert_eq(vdc_cgroup_make(&layout, "vdc/p1", &some, &trace, NULL), VDC_RC_NOT_FOUND);
    vdc_trace_deinit(&trace);
    vdc_cgroup_layout_deinit(&layout);
}

Test(monitor_cgroup, removing_takes_the_last_group_only_and_twice_is_fine)
{
    struct vdc_cgroup_layout layout;
    vdc_autofree char *parent = vdc_asprintf("%s/cg/memory/vdc", root);
    vdc_autofree char *group = vdc_asprintf("%s/p1", parent);

    cr_assert_eq(vdc_dir_make(group, 0755, NULL), VDC_RC_OK);
    vdc_cgroup_layout_find(&layout, "31 1 0:3 / /cg/memory rw - cgroup cgroup rw,memory\n", root);
    cr_assert_eq(vdc_cgroup_remove(&layout, "vdc/p1", NULL), VDC_RC_OK);
    cr_assert_eq(vdc_cgroup_remove(&layout, "vdc/p1", NULL), VDC_RC_OK);
    cr_assert_not(vdc_file_exists(group));
    cr_assert(vdc_file_exists(parent));
    vdc_cgroup_layout_deinit(&layout);
}

Test(monitor_cgroup, this_machine_is_read_without_trouble)
{
    struct vdc_cgroup_layout layout;

    cr_assert_eq(vdc_cgroup_layout_read(&layout, NULL), VDC_RC_OK);
    for (int c = 0; c < VDC_CGROUP_CONTROLLERS; c++) {
        cr_assert(layout.mount[c] == NULL || vdc_file_exists(layout.mount[c]));
    }
    vdc_cgroup_layout_deinit(&layout);
}
