/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sources: Documentation/ABI/stable/sysfs-devices-node, .../sysfs-devices-system-cpu, proc(5). Files
 * that single CPUs lack (virtual machines, old kernels) have a plain reading: socket 0, a core of its
 * own, thread 0.
 */
#include "discover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include <vdc/base.h>
#include <vdc/clock.h>
#include <vdc/file.h>
#include <vdc/spawn.h>

#define SYS_TEXT_MAX (UINT32_C(64) << 10)
/* /proc/cpuinfo of a machine with thousands of CPUs; only the beginning is of interest. */
#define CPUINFO_MAX (UINT32_C(64) << 20)
#define PROBE_TEXT_MAX (UINT32_C(64) << 10)
/* The probe itself takes well below a second; a busy host may take ten times as long. */
#define PROBE_TIMEOUT_MS 20000
#define PAGE_BYTES (UINT64_C(2) << 20)

static bool read_text(const char *root, const char *path, struct vdc_buf *text)
{
    vdc_autofree char *full = vdc_asprintf("%s%s", root, path);
    vdc_buf_clear(text);
    return vdc_file_read(full, SYS_TEXT_MAX, text, NULL) == VDC_RC_OK;
}

/* "0-3,8,10-11\n" into a set of numbers below VDC_NODE_CPUS_MAX. */
static bool parse_list(const char *text, uint8_t set[VDC_NODE_CPUS_MAX])
{
    memset(set, 0, VDC_NODE_CPUS_MAX);
    const char *at = text;
    while (*at != 0 && *at != '\n') {
        char *end;
        unsigned long first = strtoul(at, &end, 10);
        unsigned long last = first;
        if (end == at) {
            return false;
        }
        if (*end == '-') {
            at = end + 1;
            last = strtoul(at, &end, 10);
            if (end == at) {
                return false;
            }
        }
        if (last < first || last >= VDC_NODE_CPUS_MAX) {
            return false;
        }
        memset(set + first, 1, last - first + 1);
        at = *end == ',' ? end + 1 : end;
        if (*end != ',' && *end != 0 && *end != '\n') {
            return false;
        }
    }
    return true;
}

static uint16_t read_number(const char *root, uint32_t cpu, const char *file, uint16_t otherwise)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/%s", cpu, file);
    struct vdc_buf text = {0};
    uint16_t number = otherwise;
    if (read_text(root, path, &text)) {
        char *end;
        long value = strtol(vdc_buf_text(&text), &end, 10);
        if (end != vdc_buf_text(&text) && value >= 0 && value <= UINT16_MAX) {
            number = (uint16_t)value;
        }
    }
    vdc_buf_deinit(&text);
    return number;
}

/* Its place among the threads of its core. */
static uint16_t read_thread(const char *root, uint32_t cpu)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu);
    struct vdc_buf text = {0};
    uint16_t thread = 0;
    vdc_autofree uint8_t *set = vdc_calloc(VDC_NODE_CPUS_MAX, 1);
    if (read_text(root, path, &text) && parse_list(vdc_buf_text(&text), set)) {
        for (uint32_t i = 0; i < cpu; i++) {
            thread = (uint16_t)(thread + set[i]);
        }
    }
    vdc_buf_deinit(&text);
    return thread;
}

static enum vdc_rc read_cpus(const char *root, struct inventory *inventory, struct vdc_err *err)
{
    struct vdc_buf text = {0};
    vdc_autofree uint8_t *online = vdc_calloc(VDC_NODE_CPUS_MAX, 1);
    enum vdc_rc rc = VDC_RC_OK;
    if (!read_text(root, "/sys/devices/system/cpu/online", &text)) {
        rc = vdc_err_set(err, VDC_RC_NOT_FOUND, "sys/devices/system/cpu/online cannot be read");
    } else if (!parse_list(vdc_buf_text(&text), online)) {
        rc = vdc_err_set(err, VDC_RC_INVALID, "sys/devices/system/cpu/online is no list of CPUs");
    }
    vdc_buf_deinit(&text);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    inventory->cpus = vdc_calloc(VDC_NODE_CPUS_MAX, sizeof *inventory->cpus);
    for (uint32_t i = 0; i < VDC_NODE_CPUS_MAX; i++) {
        if (online[i]) {
            inventory->cpus[inventory->cpus_len++] = (struct vdc_cpu_info){
                .number = (uint16_t)i,
                .socket = read_number(root, i, "physical_package_id", 0),
                .core = read_number(root, i, "core_id", (uint16_t)i),
                .thread = read_thread(root, i),
            };
        }
    }
    if (inventory->cpus_len == 0) {
        return vdc_err_set(err, VDC_RC_INVALID, "no CPU is online");
    }
    return VDC_RC_OK;
}

/* The number of kB behind `field` in a meminfo text. */
static bool find_kb(const char *text, const char *field, uint64_t *bytes)
{
    const char *at = strstr(text, field);
    if (at == NULL) {
        return false;
    }
    unsigned long long kb = strtoull(at + strlen(field), NULL, 10);
    *bytes = (uint64_t)kb << 10;
    return kb <= (VDC_NUMA_MEMORY_MAX >> 10);
}

static enum vdc_rc read_plain_memory(const char *root, struct inventory *inventory,
                                     struct vdc_err *err)
{
    struct vdc_buf text = {0};
    uint64_t bytes = 0;
    bool found = read_text(root, "/proc/meminfo", &text) &&
                 find_kb(vdc_buf_text(&text), "MemTotal:", &bytes);
    vdc_buf_deinit(&text);
    if (!found) {
        return vdc_err_set(err, VDC_RC_NOT_FOUND, "proc/meminfo has no MemTotal");
    }
    inventory->numa[0] = (struct vdc_numa_info){.memory_bytes = bytes / PAGE_BYTES * PAGE_BYTES};
    inventory->numa_len = 1;
    return VDC_RC_OK;
}

static enum vdc_rc read_node(const char *root, uint32_t number, struct inventory *inventory,
                             uint8_t *set, struct vdc_err *err)
{
    char path[128];
    struct vdc_buf text = {0};
    uint64_t bytes = 0;
    snprintf(path, sizeof path, "/sys/devices/system/node/node%u/meminfo", number);
    bool found = read_text(root, path, &text) && find_kb(vdc_buf_text(&text), "MemTotal:", &bytes);
    snprintf(path, sizeof path, "/sys/devices/system/node/node%u/cpulist", number);
    found = found && read_text(root, path, &text) && parse_list(vdc_buf_text(&text), set);
    vdc_buf_deinit(&text);
    if (!found) {
        return vdc_err_set(err, VDC_RC_INVALID, "sys/devices/system/node/node%u cannot be read",
                           number);
    }
    for (uint32_t i = 0; i < inventory->cpus_len; i++) {
        if (set[inventory->cpus[i].number]) {
            inventory->cpus[i].numa = (uint16_t)number;
        }
    }
    inventory->numa[inventory->numa_len++] = (struct vdc_numa_info){
        .number = number,
        .memory_bytes = bytes / PAGE_BYTES * PAGE_BYTES,
    };
    return VDC_RC_OK;
}

static enum vdc_rc read_memory(const char *root, struct inventory *inventory, struct vdc_err *err)
{
    struct vdc_buf text = {0};
    vdc_autofree uint8_t *online = vdc_calloc(VDC_NODE_CPUS_MAX, 1);
    vdc_autofree uint8_t *set = vdc_calloc(VDC_NODE_CPUS_MAX, 1);
    bool numa = read_text(root, "/sys/devices/system/node/online", &text) &&
                parse_list(vdc_buf_text(&text), online);
    vdc_buf_deinit(&text);
    if (!numa) {
        return read_plain_memory(root, inventory, err);
    }
    enum vdc_rc rc = VDC_RC_OK;
    for (uint32_t i = 0; i < VDC_NODE_CPUS_MAX && rc == VDC_RC_OK; i++) {
        if (online[i] && i >= VDC_NUMA_NODES_MAX) {
            rc = vdc_err_set(err, VDC_RC_LIMIT, "NUMA node %u: more than %d are not supported", i,
                             VDC_NUMA_NODES_MAX);
        } else if (online[i]) {
            rc = read_node(root, i, inventory, set, err);
        }
    }
    return rc;
}

static void read_model(const char *root, struct inventory *inventory)
{
    vdc_autofree char *path = vdc_asprintf("%s/proc/cpuinfo", root);
    struct vdc_buf text = {0};
    vdc_str_set(inventory->cpu_model, sizeof inventory->cpu_model, "unknown");
    if (vdc_file_read(path, CPUINFO_MAX, &text, NULL) == VDC_RC_OK) {
        const char *at = strstr(vdc_buf_text(&text), "model name");
        at = at != NULL ? strchr(at, ':') : NULL;
        if (at != NULL) {
            at += 1 + strspn(at + 1, " \t");
            snprintf(inventory->cpu_model, sizeof inventory->cpu_model, "%.*s",
                     (int)VDC_MIN(strcspn(at, "\n"), (size_t)200), at);
        }
    }
    vdc_buf_deinit(&text);
}

enum vdc_rc agent_discover_inventory(const char *root, struct inventory *inventory,
                                     struct vdc_err *err)
{
    *inventory = (struct inventory){0};
    enum vdc_rc rc = read_cpus(root, inventory, err);
    if (rc == VDC_RC_OK) {
        rc = read_memory(root, inventory, err);
    }
    if (rc != VDC_RC_OK) {
        agent_discover_deinit(inventory);
        vdc_err_wrap(err, "discover the machine");
        return rc;
    }
    read_model(root, inventory);
    return rc;
}

/* The last CPUs of what is left, in the order of their numbers. */
static void give_cpus(struct inventory *inventory, struct vdc_agent_system *system, uint32_t *left,
                      uint32_t count)
{
    for (uint32_t i = *left - count; i < *left; i++) {
        system->cpus[system->cpus_len++] = inventory->cpus[i].number;
    }
    *left -= count;
}

/* From the NUMA nodes that have most left, so that small ones stay whole. In 2 MiB pages. */
static void give_memory(const struct inventory *inventory, struct vdc_agent_system *system,
                        uint64_t rest[VDC_NUMA_NODES_MAX], uint64_t bytes)
{
    while (bytes > 0) {
        uint32_t most = 0;
        for (uint32_t i = 1; i < inventory->numa_len; i++) {
            most = rest[i] > rest[most] ? i : most;
        }
        uint64_t part = VDC_MIN(bytes, rest[most]);
        VDC_ASSERT(part > 0);
        system->memory_bytes[most] += part;
        rest[most] -= part;
        bytes -= part;
    }
}

/* In pages, so that the product stays within 64 bits; what rounding leaves goes to the first node
 * that has room. */
static void offer_memory(struct inventory *inventory, uint64_t total, uint64_t offer)
{
    uint64_t pages = offer / PAGE_BYTES;
    uint64_t total_pages = total / PAGE_BYTES;
    uint64_t left = pages;
    for (uint32_t i = 0; i < inventory->numa_len; i++) {
        uint64_t had = inventory->numa[i].memory_bytes / PAGE_BYTES;
        uint64_t share = total_pages > 0 ? had * pages / total_pages : 0;
        inventory->memory_offered[i] = share * PAGE_BYTES;
        left -= share;
    }
    for (uint32_t i = 0; i < inventory->numa_len && left > 0; i++) {
        uint64_t room = inventory->numa[i].memory_bytes - inventory->memory_offered[i];
        uint64_t more = VDC_MIN(left, room / PAGE_BYTES);
        inventory->memory_offered[i] += more * PAGE_BYTES;
        left -= more;
    }
}

static struct vdc_agent_system *add_system(struct inventory *inventory, const char *name)
{
    struct vdc_agent_system *system = &inventory->systems[inventory->systems_len++];
    *system = (struct vdc_agent_system){0};
    vdc_str_set(system->name, sizeof system->name, name);
    return system;
}

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static enum vdc_rc judge_division(const struct inventory *inventory, uint64_t total,
                                  const struct discover_division *division, struct vdc_err *err)
{
    uint64_t cpus = division->command.cpus + division->operations.cpus;
    uint64_t bytes =
        round_up(division->command.memory_bytes) + round_up(division->operations.memory_bytes);
    if (cpus >= inventory->cpus_len || division->command.cpus > VDC_VCPUS_MAX ||
        division->operations.cpus > VDC_VCPUS_MAX) {
        return vdc_err_set(err, VDC_RC_INVALID,
                           "system: command and operations ask for %llu CPUs of %u",
                           (unsigned long long)cpus, inventory->cpus_len);
    }
    if (bytes > total) {
        return vdc_err_set(err, VDC_RC_INVALID,
                           "system: command and operations ask for %llu MiB of %llu",
                           (unsigned long long)(bytes >> 20), (unsigned long long)(total >> 20));
    }
    return VDC_RC_OK;
}

/* Those between `from` and `to`. */
static void drop_cpus(struct inventory *inventory, uint32_t from, uint32_t to)
{
    memmove(&inventory->cpus[from], &inventory->cpus[to],
            (inventory->cpus_len - to) * sizeof inventory->cpus[0]);
    inventory->cpus_len -= to - from;
}

enum vdc_rc agent_discover_divide(struct inventory *inventory,
                                  const struct discover_division *division, struct vdc_err *err)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < inventory->numa_len; i++) {
        total += inventory->numa[i].memory_bytes;
    }
    enum vdc_rc rc = judge_division(inventory, total, division, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    const struct discover_amount *limit = &division->limit;
    uint64_t free_bytes = total - round_up(division->command.memory_bytes) -
                          round_up(division->operations.memory_bytes);
    uint64_t reserve = VDC_MAX(total / DISCOVER_RESERVE_DIVISOR, DISCOVER_RESERVE_MIN);
    uint64_t offer = free_bytes > reserve ? free_bytes - reserve : 0;
    if (limit->memory_bytes > 0) {
        offer = VDC_MIN(limit->memory_bytes, free_bytes);
    }
    offer_memory(inventory, total, offer);
    uint64_t rest[VDC_NUMA_NODES_MAX];
    for (uint32_t i = 0; i < inventory->numa_len; i++) {
        rest[i] = inventory->numa[i].memory_bytes - inventory->memory_offered[i];
    }

    uint32_t left = inventory->cpus_len;
    inventory->systems_len = 0;
    struct vdc_agent_system *ultravisor = add_system(inventory, "ultravisor");
    if (division->has_command) {
        struct vdc_agent_system *command = add_system(inventory, "command");
        give_cpus(inventory, command, &left, (uint32_t)division->command.cpus);
        give_memory(inventory, command, rest, round_up(division->command.memory_bytes));
    }
    if (division->has_operations) {
        struct vdc_agent_system *operations = add_system(inventory, "operations");
        give_cpus(inventory, operations, &left, (uint32_t)division->operations.cpus);
        give_memory(inventory, operations, rest, round_up(division->operations.memory_bytes));
    }
    inventory->cpus_offered = limit->cpus > 0 && limit->cpus < left ? (uint32_t)limit->cpus : left;
    if (left - inventory->cpus_offered > VDC_VCPUS_MAX) {
        uint32_t excess = left - inventory->cpus_offered - VDC_VCPUS_MAX;
        drop_cpus(inventory, inventory->cpus_offered, inventory->cpus_offered + excess);
        left -= excess;
    }
    give_cpus(inventory, ultravisor, &left, left - inventory->cpus_offered);
    memcpy(ultravisor->memory_bytes, rest, inventory->numa_len * sizeof rest[0]);
    return VDC_RC_OK;
}

void agent_discover_deinit(struct inventory *inventory)
{
    free(inventory->cpus);
    inventory->cpus = NULL;
    inventory->cpus_len = 0;
}

/* --- accelerator --- */

static bool parse_probe(const char *text, size_t len, struct accelerator *out)
{
    json_t *root = json_loadb(text, len, 0, NULL);
    const char *name = json_string_value(json_object_get(root, "accelerator"));
    const char *reason = json_string_value(json_object_get(root, "reason"));
    bool good = name != NULL && (strcmp(name, "kvm") == 0 || strcmp(name, "tcg") == 0);
    if (good) {
        vdc_str_set(out->name, sizeof out->name, name);
        snprintf(out->reason, sizeof out->reason, "%s", reason != NULL ? reason : "");
    }
    json_decref(root);
    return good;
}

/* Reads until the end of the pipe or the deadline; false for the latter. */
static bool read_pipe(int fd, struct vdc_buf *text)
{
    vdc_mono deadline = vdc_mono_add(vdc_clock_mono(), PROBE_TIMEOUT_MS * VDC_MS);
    for (;;) {
        int64_t left_ms = vdc_mono_sub(deadline, vdc_clock_mono()) / VDC_MS;
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (left_ms <= 0 || text->len > PROBE_TEXT_MAX) {
            return false;
        }
        if (poll(&wait, 1, (int)left_ms) <= 0) {
            continue;
        }
        ssize_t got = read(fd, vdc_buf_reserve(text, 4096), 4096);
        if (got == 0 || (got < 0 && errno != EINTR)) {
            return got == 0;
        }
        text->len += got > 0 ? (size_t)got : 0;
    }
}

static bool run_probe(const char *monitor, struct vdc_buf *text, struct vdc_err *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        vdc_err_errno(err, errno, "pipe");
        return false;
    }
    const char *argv[] = {monitor, "--probe", NULL};
    struct vdc_spawn_fd out = {.fd = fds[1], .as = 1};
    struct vdc_spawn_config config = {.argv = argv, .fds = &out, .fd_count = 1};
    struct vdc_proc proc = {0};
    bool good = vdc_spawn(&config, &proc, err) == VDC_RC_OK;
    close(fds[1]);
    if (good && !read_pipe(fds[0], text)) {
        good = false;
        vdc_err_set(err, VDC_RC_TIMEOUT, "the probe gave no answer in time");
        if (vdc_proc_kill(&proc, 9, NULL) != VDC_RC_OK) {
            /* It has just ended by itself. */
        }
    }
    close(fds[0]);
    if (proc.pid != 0) {
        waitpid(proc.pid, NULL, 0);
    }
    return good;
}

void agent_discover_accelerator(const char *monitor, const char *cache, struct accelerator *out)
{
    struct vdc_buf text = {0};
    *out = (struct accelerator){.name = "tcg"};
    if (vdc_file_read(cache, PROBE_TEXT_MAX, &text, NULL) == VDC_RC_OK &&
        parse_probe(vdc_buf_text(&text), text.len, out)) {
        vdc_buf_deinit(&text);
        return;
    }
    vdc_buf_clear(&text);
    struct vdc_err err;
    if (!run_probe(monitor, &text, &err)) {
        snprintf(out->reason, sizeof out->reason, "%s", vdc_err_text(&err));
    } else if (!parse_probe(vdc_buf_text(&text), text.len, out)) {
        snprintf(out->reason, sizeof out->reason, "the probe's answer cannot be read");
    } else if (vdc_file_write_atomic(cache, text.data, text.len, 0640, NULL) != VDC_RC_OK) {
        /* Asked again at the next start. */
    }
    vdc_buf_deinit(&text);
}
