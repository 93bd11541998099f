/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sources: Documentation/ABI/testing/sysfs-bus-pci, .../stable/sysfs-block, .../testing/
 * sysfs-class-net. The PCI function behind a disk or an interface is the last component of its
 * device's real path that is a PCI address.
 */
#include "devices.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/file.h>
#include <vdc/limits.h>

/* Attributes are one page at most. */
#define ATTRIBUTE_MAX 4096
#define PCI_ADDRESS_LEN 12
#define PCI_CLASS_BRIDGE 0x06

/* Functions that carry disks or interfaces, by address. */
struct carriers {
    char (*addresses)[PCI_ADDRESS_LEN + 1];
    size_t len;
    size_t cap;
};

/* The attribute without white space around it; "" if there is none. The caller's to free. */
static char *read_attribute(const char *dir, const char *name)
{
    vdc_autofree char *path = vdc_asprintf("%s/%s", dir, name);
    struct vdc_buf text = {0};
    char *value = NULL;
    if (vdc_file_read(path, ATTRIBUTE_MAX, &text, NULL) == VDC_RC_OK) {
        const char *first = vdc_buf_text(&text);
        while (isspace((unsigned char)*first)) {
            first++;
        }
        value = vdc_strdup(first);
        for (size_t len = strlen(value); len > 0 && isspace((unsigned char)value[len - 1]); len--) {
            value[len - 1] = 0;
        }
    }
    vdc_buf_deinit(&text);
    return value != NULL ? value : vdc_strdup("");
}

/* "0000:3b:00.0" */
static bool is_pci_address(const char *text)
{
    static const char form[] = "xxxx:xx:xx.x";
    for (size_t i = 0; i < PCI_ADDRESS_LEN; i++) {
        if (form[i] == 'x' ? !isxdigit((unsigned char)text[i]) : text[i] != form[i]) {
            return false;
        }
    }
    return text[PCI_ADDRESS_LEN] == 0 || text[PCI_ADDRESS_LEN] == '/';
}

/* The PCI function that the device hangs on; "": none. */
static void find_pci(const char *device, char address[PCI_ADDRESS_LEN + 1])
{
    char real[PATH_MAX];
    address[0] = 0;
    if (realpath(device, real) == NULL) {
        return;
    }
    for (const char *at = strchr(real, '/'); at != NULL; at = strchr(at + 1, '/')) {
        if (is_pci_address(at + 1)) {
            snprintf(address, PCI_ADDRESS_LEN + 1, "%s", at + 1);
        }
    }
}

static uint32_t read_numa(const char *root, const char *pci)
{
    vdc_autofree char *dir = vdc_asprintf("%s/sys/bus/pci/devices/%s", root, pci);
    vdc_autofree char *text = read_attribute(dir, "numa_node");
    uint64_t numa;
    /* "-1": the firmware does not say. */
    return pci[0] != 0 && vdc_parse_u64(text, VDC_NUMA_NODES_MAX - 1, &numa) ? (uint32_t)numa
                                                                             : VDC_NUMA_ANY;
}

static void add_device(struct devices *devices, enum vdc_device_kind kind, const char *prefix,
                       const char *name, uint32_t numa)
{
    struct vdc_op_device_add device = {.kind = kind, .numa = numa};
    snprintf(device.address, sizeof device.address, "%s%s", prefix, name);
    for (char *c = device.address; *c != 0; c++) {
        *c = *c > ' ' && *c <= '~' ? *c : '_';
    }
    for (size_t i = 0; i < devices->len; i++) {
        if (strcmp(devices->list[i].address, device.address) == 0) {
            return; /* a second path to the same disk */
        }
    }
    if (devices->len == DEVICES_MAX) {
        devices->more = true;
        return;
    }
    devices->list[devices->len++] = device;
}

static void add_carrier(struct carriers *carriers, const char *pci)
{
    if (pci[0] != 0) {
        VDC_GROW(carriers->addresses, carriers->cap, carriers->len + 1);
        snprintf(carriers->addresses[carriers->len++], PCI_ADDRESS_LEN + 1, "%s", pci);
    }
}

static bool is_carrier(const struct carriers *carriers, const char *pci)
{
    for (size_t i = 0; i < carriers->len; i++) {
        if (strcmp(carriers->addresses[i], pci) == 0) {
            return true;
        }
    }
    return false;
}

/* --- the three kinds --- */

static void add_disk(const char *root, const char *dir, struct devices *devices,
                     struct carriers *carriers)
{
    static const char *const names[] = {"wwid", "device/wwid", "serial", "device/serial"};
    vdc_autofree char *removable = read_attribute(dir, "removable");
    vdc_autofree char *device = vdc_asprintf("%s/device", dir);
    if (!vdc_file_exists(device) || strcmp(removable, "1") == 0) {
        return;
    }
    char pci[PCI_ADDRESS_LEN + 1];
    find_pci(device, pci);
    add_carrier(carriers, pci);
    vdc_autofree char *name = vdc_strdup("");
    for (size_t i = 0; i < VDC_COUNT_OF(names) && name[0] == 0; i++) {
        free(name);
        name = read_attribute(dir, names[i]);
    }
    /* Without a name of its own it is the disk at its place, or the kernel's name has to do. */
    const char *place = pci[0] != 0 ? pci : strrchr(dir, '/') + 1;
    add_device(devices, VDC_DEVICE_DISK, "disk:", name[0] != 0 ? name : place,
               read_numa(root, pci));
}

static void add_nic(const char *root, const char *dir, struct devices *devices,
                    struct carriers *carriers)
{
    vdc_autofree char *device = vdc_asprintf("%s/device", dir);
    vdc_autofree char *mac = read_attribute(dir, "address");
    if (!vdc_file_exists(device) || mac[0] == 0) {
        return;
    }
    char pci[PCI_ADDRESS_LEN + 1];
    find_pci(device, pci);
    add_carrier(carriers, pci);
    add_device(devices, VDC_DEVICE_NIC, "nic:", mac, read_numa(root, pci));
}

static void add_pci(const char *root, const char *dir, struct devices *devices,
                    struct carriers *carriers)
{
    const char *address = strrchr(dir, '/') + 1;
    vdc_autofree char *text = read_attribute(dir, "class");
    unsigned long class = strtoul(text, NULL, 16);
    if (is_pci_address(address) && text[0] != 0 && class >> 16 != PCI_CLASS_BRIDGE &&
        !is_carrier(carriers, address)) {
        add_device(devices, VDC_DEVICE_PCI, "", address, read_numa(root, address));
    }
}

static void scan(const char *root, const char *path, struct devices *devices,
                 struct carriers *carriers,
                 void (*add)(const char *root, const char *dir, struct devices *devices,
                             struct carriers *carriers))
{
    vdc_autofree char *parent = vdc_asprintf("%s%s", root, path);
    struct dirent **entries;
    int count = scandir(parent, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        if (entries[i]->d_name[0] != '.') {
            vdc_autofree char *dir = vdc_asprintf("%s/%s", parent, entries[i]->d_name);
            add(root, dir, devices, carriers);
        }
        free(entries[i]);
    }
    if (count >= 0) {
        free(entries);
    }
}

static int compare_devices(const void *a, const void *b)
{
    const struct vdc_op_device_add *x = a;
    const struct vdc_op_device_add *y = b;
    return strcmp(x->address, y->address);
}

void agent_devices_read(const char *root, struct devices *devices)
{
    struct carriers carriers = {0};
    *devices = (struct devices){.list = vdc_calloc(DEVICES_MAX, sizeof *devices->list)};
    scan(root, "/sys/block", devices, &carriers, add_disk);
    scan(root, "/sys/class/net", devices, &carriers, add_nic);
    scan(root, "/sys/bus/pci/devices", devices, &carriers, add_pci);
    qsort(devices->list, devices->len, sizeof *devices->list, compare_devices);
    free(carriers.addresses);
}

bool agent_devices_equal(const struct devices *a, const struct devices *b)
{
    bool equal = a->len == b->len;
    for (size_t i = 0; equal && i < a->len; i++) {
        equal = strcmp(a->list[i].address, b->list[i].address) == 0 &&
                a->list[i].kind == b->list[i].kind && a->list[i].numa == b->list[i].numa;
    }
    return equal;
}

void agent_devices_deinit(struct devices *devices)
{
    free(devices->list);
    *devices = (struct devices){0};
}
