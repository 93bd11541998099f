/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's edges: what it reads of the machine, of its configuration, of launch descriptions and
 * console logs. Machines are small trees of files in a temporary directory. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <vdc/base.h>
#include <vdc/file.h>
#include <vdc/launch_spec.h>

#include "config.h"
#include "console_file.h"
#include "devices.h"
#include "discover.h"

static char root[] = "/tmp/vdc-node-io-XXXXXX";

static void setup(void)
{
    cr_assert_not_null(mkdtemp(root));
}

static void teardown(void)
{
    struct vdc_err err;
    cr_assert_eq(vdc_dir_remove(root, &err), VDC_RC_OK, "%s", err.text);
}

TestSuite(node_io, .init = setup, .fini = teardown);

static void put(const char *path, const char *text)
{
    struct vdc_err err;
    vdc_autofree char *full = vdc_asprintf("%s/%s", root, path);
    vdc_autofree char *dir = vdc_strdup(full);
    *strrchr(dir, '/') = 0;
    cr_assert_eq(vdc_dir_make(dir, 0755, &err), VDC_RC_OK, "%s", err.text);
    cr_assert_eq(vdc_file_write_atomic(full, text, strlen(text), 0644, &err), VDC_RC_OK, "%s",
                 err.text);
}

static void put_cpu(unsigned number, unsigned socket, unsigned core, const char *siblings)
{
    char path[128];
    char text[32];
    snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%u/topology/physical_package_id",
             number);
    snprintf(text, sizeof text, "%u\n", socket);
    put(path, text);
    snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%u/topology/core_id", number);
    snprintf(text, sizeof text, "%u\n", core);
    put(path, text);
    snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%u/topology/thread_siblings_list",
             number);
    put(path, siblings);
}

static void put_node(unsigned number, const char *cpus, unsigned long mib)
{
    char path[128];
    char text[128];
    snprintf(path, sizeof path, "sys/devices/system/node/node%u/cpulist", number);
    put(path, cpus);
    snprintf(path, sizeof path, "sys/devices/system/node/node%u/meminfo", number);
    snprintf(text, sizeof text, "Node %u MemTotal:       %lu kB\nNode %u MemFree: 5 kB\n", number,
             mib * 1024, number);
    put(path, text);
}

#define MIB (UINT64_C(1) << 20)

static struct inventory machine;

static void divide(struct discover_division division)
{
    struct vdc_err err;
    cr_assert_eq(agent_discover_divide(&machine, &division, &err), VDC_RC_OK, "%s", err.text);
}

static void discover(void)
{
    struct vdc_err err;
    cr_assert_eq(agent_discover_inventory(root, &machine, &err), VDC_RC_OK, "%s", err.text);
}

Test(node_io, a_small_machine_without_numa_is_one_node)
{
    put("sys/devices/system/cpu/online", "0-1\n");
    put("proc/meminfo", "MemTotal:        1048577 kB\nMemFree: 1 kB\n");
    put("proc/cpuinfo", "processor : 0\nmodel name\t: Fast CPU 3000\nflags: x\n");
    discover();
    cr_assert_eq(machine.cpus_len, 2);
    cr_assert_eq(machine.cpus[1].number, 1);
    cr_assert_eq(machine.cpus[1].core, 1);
    cr_assert_eq(machine.numa_len, 1);
    cr_assert_eq(machine.numa[0].memory_bytes, UINT64_C(1) << 30); /* whole 2 MiB pages */
    cr_assert_str_eq(machine.cpu_model, "Fast CPU 3000");
    agent_discover_deinit(&machine);
}

Test(node_io, two_numa_nodes_with_threads_are_told_apart)
{
    put("sys/devices/system/cpu/online", "0-7\n");
    for (unsigned i = 0; i < 8; i++) {
        char siblings[16];
        snprintf(siblings, sizeof siblings, "%u,%u\n", i % 4, i % 4 + 4);
        put_cpu(i, i % 4 / 2, i % 2, siblings);
    }
    put("sys/devices/system/node/online", "0-1\n");
    put_node(0, "0-1,4-5\n", 2048);
    put_node(1, "2-3,6-7\n", 1024);
    discover();
    cr_assert_eq(machine.cpus_len, 8);
    cr_assert_eq(machine.cpus[2].numa, 1);
    cr_assert_eq(machine.cpus[2].socket, 1);
    cr_assert_eq(machine.cpus[2].thread, 0);
    cr_assert_eq(machine.cpus[6].thread, 1);
    cr_assert_eq(machine.cpus[4].numa, 0);
    cr_assert_eq(machine.numa_len, 2);
    divide((struct discover_division){.limit = {3, 1536 * MIB}});
    cr_assert_eq(machine.cpus_len, 8);
    cr_assert_eq(machine.cpus_offered, 3);
    cr_assert_eq(machine.memory_offered[0], 1024 * MIB);
    cr_assert_eq(machine.memory_offered[1], 512 * MIB);
    /* The ultravisor has the rest. */
    cr_assert_eq(machine.systems_len, 1);
    cr_assert_str_eq(machine.systems[0].name, "ultravisor");
    cr_assert_eq(machine.systems[0].cpus_len, 5);
    cr_assert_eq(machine.systems[0].cpus[0], 3);
    cr_assert_eq(machine.systems[0].memory_bytes[0], 1024 * MIB);
    cr_assert_eq(machine.systems[0].memory_bytes[1], 512 * MIB);
    agent_discover_deinit(&machine);
}

Test(node_io, odd_machines_are_read_as_they_are)
{
    /* CPU 1 is offline, node 3 has memory only, node 5 has CPUs only. */
    put("sys/devices/system/cpu/online", "0,2-3\n");
    put("sys/devices/system/node/online", "3,5\n");
    put_node(3, "\n", 512);
    put_node(5, "0,2-3\n", 0);
    discover();
    cr_assert_eq(machine.cpus_len, 3);
    cr_assert_eq(machine.cpus[1].number, 2);
    cr_assert_eq(machine.cpus[1].numa, 5);
    cr_assert_eq(machine.numa_len, 2);
    cr_assert_eq(machine.numa[0].number, 3);
    cr_assert_eq(machine.numa[1].memory_bytes, 0);
    agent_discover_deinit(&machine);
}

Test(node_io, without_a_limit_the_host_keeps_its_reserve)
{
    put("sys/devices/system/cpu/online", "0\n");
    put("proc/meminfo", "MemTotal: 1048576 kB\n");
    discover();
    divide((struct discover_division){0});
    cr_assert_eq(machine.cpus_offered, 1);
    cr_assert_eq(machine.systems[0].cpus_len, 0);
    cr_assert_eq(machine.numa[0].memory_bytes, 1024 * MIB);
    cr_assert_eq(machine.memory_offered[0], 1024 * MIB - DISCOVER_RESERVE_MIN);
    cr_assert_eq(machine.systems[0].memory_bytes[0], DISCOVER_RESERVE_MIN);
    agent_discover_deinit(&machine);
}

Test(node_io, a_limit_beyond_the_machine_offers_the_machine)
{
    put("sys/devices/system/cpu/online", "0\n");
    put("proc/meminfo", "MemTotal: 1048576 kB\n");
    discover();
    divide((struct discover_division){.limit = {64, UINT64_C(1) << 40}});
    cr_assert_eq(machine.cpus_offered, 1);
    cr_assert_eq(machine.memory_offered[0], 1024 * MIB);
    cr_assert_eq(machine.systems[0].memory_bytes[0], 0);
    agent_discover_deinit(&machine);
}

Test(node_io, managers_and_stores_beside_the_agent_have_their_own)
{
    put("sys/devices/system/cpu/online", "0-3\n");
    put("proc/meminfo", "MemTotal: 4194304 kB\n");
    discover();
    divide((struct discover_division){.has_command = true,
                                      .has_operations = true,
                                      .command = {1, 511 * MIB},
                                      .operations = {0, 1024 * MIB}});
    cr_assert_eq(machine.systems_len, 3);
    cr_assert_str_eq(machine.systems[1].name, "command");
    cr_assert_eq(machine.systems[1].cpus[0], 3);
    cr_assert_eq(machine.systems[1].memory_bytes[0], 512 * MIB); /* whole pages */
    cr_assert_str_eq(machine.systems[2].name, "operations");
    cr_assert_eq(machine.systems[2].cpus_len, 0);
    cr_assert_eq(machine.systems[2].memory_bytes[0], 1024 * MIB);
    cr_assert_eq(machine.cpus_offered, 3);
    uint64_t held = machine.systems[0].memory_bytes[0] + 1536 * MIB;
    cr_assert_eq(machine.memory_offered[0] + held, 4096 * MIB);
    struct vdc_err err;
    struct discover_division greedy = {.command = {4, 0}, .has_command = true};
    cr_assert_eq(agent_discover_divide(&machine, &greedy, &err), VDC_RC_INVALID);
    cr_assert_not_null(strstr(err.text, "4 CPUs of 4"), "%s", err.text);
    greedy.command = (struct discover_amount){1, 5000 * MIB};
    cr_assert_eq(agent_discover_divide(&machine, &greedy, &err), VDC_RC_INVALID);
    cr_assert_not_null(strstr(err.text, "5000 MiB of 4096"), "%s", err.text);
    agent_discover_deinit(&machine);
}

Test(node_io, cpus_that_nobody_can_have_leave_the_inventory)
{
    put("sys/devices/system/cpu/online", "0-599\n");
    put("proc/meminfo", "MemTotal: 4194304 kB\n");
    discover();
    divide((struct discover_division){.limit = {.cpus = 10}});
    cr_assert_eq(machine.cpus_offered, 10);
    cr_assert_eq(machine.cpus_len, 10 + VDC_VCPUS_MAX);
    cr_assert_eq(machine.systems[0].cpus_len, VDC_VCPUS_MAX);
    cr_assert_eq(machine.systems[0].cpus[0], 600 - VDC_VCPUS_MAX);
    cr_assert_eq(machine.cpus[10].number, 600 - VDC_VCPUS_MAX);
    agent_discover_deinit(&machine);
}

/* --- devices --- */

static void link_to(const char *path, const char *target)
{
    struct vdc_err err;
    vdc_autofree char *full = vdc_asprintf("%s/%s", root, path);
    vdc_autofree char *dir = vdc_strdup(full);
    vdc_autofree char *to = vdc_asprintf("%s/%s", root, target);
    *strrchr(dir, '/') = 0;
    cr_assert_eq(vdc_dir_make(dir, 0755, &err), VDC_RC_OK, "%s", err.text);
    cr_assert_eq(vdc_dir_make(to, 0755, &err), VDC_RC_OK, "%s", err.text);
    cr_assert_eq(symlink(to, full), 0);
}

/* A function at its real place, with its name under bus/pci. */
static void put_pci(const char *address, const char *class, const char *node)
{
    char path[320];
    char real[256];
    snprintf(real, sizeof real, "sys/devices/pci0000:00/%s", address);
    snprintf(path, sizeof path, "sys/bus/pci/devices/%s", address);
    link_to(path, real);
    snprintf(path, sizeof path, "%s/class", real);
    put(path, class);
    snprintf(path, sizeof path, "%s/numa_node", real);
    put(path, node);
}

static void is_device(const struct devices *devices, size_t i, enum vdc_device_kind kind,
                      const char *address, uint32_t on)
{
    cr_assert_lt(i, devices->len);
    cr_assert_str_eq(devices->list[i].address, address);
    cr_assert_eq(devices->list[i].kind, kind, "%s", address);
    cr_assert_eq(devices->list[i].numa, on, "%s", address);
}

Test(node_io, one_piece_of_hardware_is_one_device)
{
    put_pci("0000:00:00.0", "0x060000\n", "0\n"); /* a bridge */
    put_pci("0000:3b:00.0", "0x010802\n", "1\n"); /* carries nvme0n1 */
    put_pci("0000:3c:00.0", "0x020000\n", "0\n"); /* carries eth0 */
    put_pci("0000:3d:00.0", "0x030000\n", "-1\n");
    put("sys/devices/pci0000:00/0000:3b:00.0/nvme/nvme0/serial", "S 42\n");
    link_to("sys/block/nvme0n1/device", "sys/devices/pci0000:00/0000:3b:00.0/nvme/nvme0");
    link_to("sys/block/vda/device", "sys/devices/pci0000:00/0000:00:05.0/virtio2");
    link_to("sys/block/vdb/device", "sys/devices/odd");
    link_to("sys/block/sr0/device", "sys/devices/pci0000:00/0000:00:06.0/ata1");
    put("sys/block/sr0/removable", "1\n");
    put("sys/block/loop0/removable", "0\n"); /* no hardware */
    link_to("sys/class/net/eth0/device", "sys/devices/pci0000:00/0000:3c:00.0");
    put("sys/class/net/eth0/address", "52:54:00:12:34:56\n");
    put("sys/class/net/lo/address", "00:00:00:00:00:00\n");
    struct devices devices;
    agent_devices_read(root, &devices);
    is_device(&devices, 0, VDC_DEVICE_PCI, "0000:3d:00.0", VDC_NUMA_ANY);
    is_device(&devices, 1, VDC_DEVICE_DISK, "disk:0000:00:05.0", VDC_NUMA_ANY);
    is_device(&devices, 2, VDC_DEVICE_DISK, "disk:S_42", 1);
    is_device(&devices, 3, VDC_DEVICE_DISK, "disk:vdb", VDC_NUMA_ANY);
    is_device(&devices, 4, VDC_DEVICE_NIC, "nic:52:54:00:12:34:56", 0);
    cr_assert_eq(devices.len, 5);
    struct devices again;
    agent_devices_read(root, &again);
    cr_assert(agent_devices_equal(&devices, &again));
    put("sys/block/vdb/device/serial", "new\n");
    agent_devices_deinit(&again);
    agent_devices_read(root, &again);
    cr_assert_not(agent_devices_equal(&devices, &again));
    agent_devices_deinit(&again);
    agent_devices_deinit(&devices);
}

Test(node_io, two_paths_to_one_disk_are_one_device)
{
    link_to("sys/block/sda/device", "sys/devices/pci0000:00/0000:01:00.0/host0");
    link_to("sys/block/sdb/device", "sys/devices/pci0000:00/0000:02:00.0/host1");
    put("sys/devices/pci0000:00/0000:01:00.0/host0/wwid", "naa.5000c500a1b2c3d4\n");
    put("sys/devices/pci0000:00/0000:02:00.0/host1/wwid", "naa.5000c500a1b2c3d4\n");
    put_pci("0000:01:00.0", "0x010700\n", "0\n");
    put_pci("0000:02:00.0", "0x010700\n", "0\n");
    struct devices devices;
    agent_devices_read(root, &devices);
    is_device(&devices, 0, VDC_DEVICE_DISK, "disk:naa.5000c500a1b2c3d4", 0);
    cr_assert_eq(devices.len, 1);
    agent_devices_deinit(&devices);
}

Test(node_io, a_machine_without_sysfs_has_no_devices_and_one_with_too_many_says_so)
{
    struct devices devices;
    agent_devices_read(root, &devices);
    cr_assert_eq(devices.len, 0);
    agent_devices_deinit(&devices);
    for (unsigned i = 0; i <= DEVICES_MAX; i++) {
        char address[32];
        snprintf(address, sizeof address, "0000:%02x:%02x.%x", i / 256, i / 8 % 32, i % 8);
        put_pci(address, "0x030000", "0");
    }
    agent_devices_read(root, &devices);
    cr_assert_eq(devices.len, DEVICES_MAX);
    cr_assert(devices.more);
    agent_devices_deinit(&devices);
}

Test(node_io, damaged_files_are_refused_with_their_name)
{
    struct vdc_err err;
    cr_assert_neq(agent_discover_inventory(root, &machine, &err), VDC_RC_OK);
    cr_assert_not_null(strstr(err.text, "cpu/online"));
    static const char *const lists[] = {"0-", "3-1", "99999", "a", "0;1"};
    for (size_t i = 0; i < VDC_COUNT_OF(lists); i++) {
        put("sys/devices/system/cpu/online", lists[i]);
        cr_assert_eq(agent_discover_inventory(root, &machine, &err), VDC_RC_INVALID, "%s",
                     lists[i]);
    }
    put("sys/devices/system/cpu/online", "0");
    put("sys/devices/system/node/online", "70");
    cr_assert_eq(agent_discover_inventory(root, &machine, &err), VDC_RC_LIMIT);
}

/* --- configuration --- */

static const char good[] = "name: n1\n"
                           "rack: r1\n"
                           "labels:\n"
                           "  tier: compute\n"
                           "managers: [\"10.77.0.1:7444\", \"10.77.0.2:7444\"]\n"
                           "address: 10.77.0.11\n"
                           "state_dir: /var/lib/vdc\n"
                           "run_dir: /run/vdc\n"
                           "shared_dir: /srv/vdc\n"
                           "image_dir: /srv/images\n"
                           "tls:\n"
                           "  ca: /etc/vdc/ca.pem\n"
                           "  cert: /etc/vdc/n1.pem\n"
                           "  key: /etc/vdc/n1.key\n"
                           "resources:\n"
                           "  cpus: 2\n"
                           "  memory: 4GiB\n"
                           "cgroup: vdc/n1\n"
                           "uid_base: 201000\n";

static struct agent_config config;
static char complaints[4096];

static enum vdc_rc parse(const char *text)
{
    struct vdc_buf out = {0};
    enum vdc_rc rc = agent_config_parse("n1.yaml", text, strlen(text), &config, &out);
    snprintf(complaints, sizeof complaints, "%s", vdc_buf_text(&out));
    vdc_buf_deinit(&out);
    return rc;
}

Test(node_io, a_whole_configuration_is_read)
{
    cr_assert_eq(parse(good), VDC_RC_OK, "%s", complaints);
    cr_assert_str_eq(config.name, "n1");
    cr_assert_eq(config.managers_len, 2);
    cr_assert_str_eq(config.managers[1], "10.77.0.2:7444");
    cr_assert_str_eq(config.labels[0].value, "compute");
    cr_assert_eq(config.division.limit.memory_bytes, UINT64_C(4) << 30);
    cr_assert_not(config.division.has_command);
    cr_assert_eq(config.uid_base, 201000);
    cr_assert_str_eq(config.tls_key, "/etc/vdc/n1.key");
}

Test(node_io, what_else_the_host_runs_is_read)
{
    vdc_autofree char *text = vdc_asprintf(
        "%ssystem: {command: {cpus: 1, memory: 512MiB}, operations: {memory: 1GiB}}\n", good);
    cr_assert_eq(parse(text), VDC_RC_OK, "%s", complaints);
    cr_assert(config.division.has_command && config.division.has_operations);
    cr_assert_eq(config.division.command.cpus, 1);
    cr_assert_eq(config.division.command.memory_bytes, 512 * MIB);
    cr_assert_eq(config.division.operations.cpus, 0);
    cr_assert_eq(config.division.operations.memory_bytes, 1024 * MIB);
    vdc_autofree char *bad =
        vdc_asprintf("%ssystem: {command: {cpus: 0}, ultravisor: {memory: 1GiB}}\n", good);
    cr_assert_eq(parse(bad), VDC_RC_INVALID);
    cr_assert_not_null(strstr(complaints, "ultravisor"), "%s", complaints);
    cr_assert_not_null(strstr(complaints, "cpus"), "%s", complaints);
}

Test(node_io, an_unknown_field_is_refused_with_its_place)
{
    vdc_autofree char *text = vdc_asprintf("%sresorces: {cpus: 1}\n", good);
    cr_assert_eq(parse(text), VDC_RC_INVALID);
    cr_assert_not_null(strstr(complaints, "n1.yaml:20:1: "), "%s", complaints);
    cr_assert_not_null(strstr(complaints, "resorces"), "%s", complaints);
    cr_assert_not_null(strstr(complaints, "resources"), "%s", complaints);
}

Test(node_io, all_complaints_are_made_at_once)
{
    cr_assert_eq(parse("name: N1\nmanagers: []\nstate_dir: here\n"), VDC_RC_INVALID);
    cr_assert_not_null(strstr(complaints, "n1.yaml:1:7: "), "%s", complaints);
    cr_assert_not_null(strstr(complaints, "n1.yaml:2:11: managers: expected 1 to 16"), "%s",
                       complaints);
    cr_assert_not_null(strstr(complaints, "n1.yaml:3:12: state_dir: not an absolute path"), "%s",
                       complaints);
    cr_assert_not_null(strstr(complaints, "tls"), "%s", complaints);
}

Test(node_io, damaged_texts_are_refused)
{
    cr_assert_eq(parse(""), VDC_RC_INVALID);
    cr_assert_eq(parse("- a\n"), VDC_RC_INVALID);
    cr_assert_eq(parse("name: a\nname: b\n"), VDC_RC_INVALID);
    vdc_autofree char *text = vdc_asprintf("%scgroup: ../x\n", good);
    cr_assert_eq(parse(text), VDC_RC_INVALID);
    vdc_autofree char *large = vdc_calloc(AGENT_CONFIG_TEXT_MAX + 2, 1);
    memset(large, '#', AGENT_CONFIG_TEXT_MAX + 1);
    cr_assert_eq(parse(large), VDC_RC_TOO_LARGE);
}

/* --- launch descriptions --- */

static struct vdc_launch_spec spec;
static struct vdc_err spec_err;

static enum vdc_rc launch(const char *text)
{
    return vdc_launch_spec_parse(text, strlen(text), &spec, &spec_err);
}

Test(node_io, a_launch_description_is_read)
{
    cr_assert_eq(launch("{\"image\":\"linux\",\"disk_bytes\":67108864,\"volume\":\"v-1\","
                        "\"restartable\":false,\"name\":\"web\"}"),
                 VDC_RC_OK, "%s", spec_err.text);
    cr_assert_str_eq(spec.image, "linux");
    cr_assert_eq(spec.disk_bytes, 67108864);
    cr_assert(!spec.restartable);
    cr_assert_eq(launch("{\"image\":\"linux\"}"), VDC_RC_OK);
    cr_assert(spec.restartable);
}

Test(node_io, bad_launch_descriptions_are_refused_by_field)
{
    static const struct {
        const char *text;
        const char *names;
    } bad[] = {
        {"", "empty"},
        {"[]", "not a JSON object"},
        {"{\"image\":\"linux\"", "not a JSON object"},
        {"{}", "image is missing"},
        {"{\"image\":\"../etc\"}", "image is not a name"},
        {"{\"image\":\"a\",\"volume\":\"a/b\"}", "volume is not a name"},
        {"{\"image\":\"a\",\"disk_bytes\":513}", "disk_bytes"},
        {"{\"image\":\"a\",\"disk_bytes\":512}", "without a volume"},
        {"{\"image\":\"a\",\"disk_bytes\":-512}", "disk_bytes"},
        {"{\"image\":\"a\",\"restartable\":1}", "restartable"},
        {"{\"image\":\"a\",\"image\":\"b\"}", "not a JSON object"},
        {"{\"image\":\"a\",\"evil\":1}", "unknown field evil"},
    };
    for (size_t i = 0; i < VDC_COUNT_OF(bad); i++) {
        cr_assert_eq(launch(bad[i].text), VDC_RC_INVALID, "%s", bad[i].text);
        cr_assert_not_null(strstr(spec_err.text, bad[i].names), "%s: %s", bad[i].text,
                           spec_err.text);
    }
}

/* --- console logs --- */

static char piece[64];
static uint64_t first;
static uint64_t end;

static bool read_console(uint64_t known_end, uint64_t offset, uint32_t max)
{
    struct vdc_buf data = {0};
    bool found = agent_console_file_read(root, known_end, offset, max, &data, &first, &end);
    snprintf(piece, sizeof piece, "%.*s", (int)data.len, vdc_buf_text(&data));
    vdc_buf_deinit(&data);
    return found;
}

Test(node_io, a_console_log_is_read_in_pieces_over_its_rotation)
{
    cr_assert(!read_console(0, 0, 10));
    put("console.log", "67890");
    cr_assert(read_console(0, 2, 10));
    cr_assert_str_eq(piece, "890");
    cr_assert_eq(first, 2);
    cr_assert_eq(end, 5);
    put("console.log.1", "12345");
    cr_assert(read_console(0, 3, 4));
    cr_assert_str_eq(piece, "4567");
    /* 100 bytes were printed in all: the first 90 are gone. */
    cr_assert(read_console(100, 0, 6));
    cr_assert_str_eq(piece, "123456");
    cr_assert_eq(first, 90);
    cr_assert_eq(end, 100);
    cr_assert(read_console(100, 97, 64));
    cr_assert_str_eq(piece, "890");
    cr_assert(read_console(100, 500, 64));
    cr_assert_str_eq(piece, "");
    cr_assert_eq(first, 100);
    /* What the monitor has noted counts more than what was heard from it last. */
    put("console.base", "00000000000000000200\n");
    cr_assert(read_console(100, 0, 6));
    cr_assert_str_eq(piece, "123456");
    cr_assert_eq(first, 195);
    cr_assert_eq(end, 205);
}
