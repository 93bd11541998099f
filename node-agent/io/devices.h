/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which devices the machine has: disks, network interfaces and other PCI functions, each with the
 * NUMA node that it hangs on. Reads sysfs; blocking, for milliseconds: at the start and every
 * DEVICES_RESCAN_MS.
 *
 * One piece of hardware is one record, or two partitions could be given the same one by two names:
 * a PCI function that carries recorded disks or interfaces is not recorded itself, nor are bridges.
 *
 *   disk   "disk:" and its world-wide name or serial number, "disk:0000:00:05.0" without one
 *   NIC    "nic:" and its MAC address
 *   PCI    the function's address, "0000:3b:00.0"
 *
 * These stay the same over reboots; Linux' names (sda, eth0) do not. What has no hardware behind it
 * (loop devices, bridges, tunnels) is not a device.
 */
#ifndef VDC_NODE_AGENT_DEVICES_H
#define VDC_NODE_AGENT_DEVICES_H

#include <stdbool.h>
#include <stddef.h>

#include <vdc/tx.h>

/* Devices of one machine: twenty times a full storage server. More are left out, with *more set. */
#define DEVICES_MAX 2048
/* How long a device that was plugged in may wait to be seen. */
#define DEVICES_RESCAN_MS 30000

struct devices {
    struct vdc_op_device_add *list; /* by address; owned */
    size_t len;
    bool more; /* there are more than DEVICES_MAX */
};

/* Reads ROOT/sys (root "" is the machine; tests have trees of their own). A part of sysfs that is not
 * there has no devices. */
void agent_devices_read(const char *root, struct devices *devices);
bool agent_devices_equal(const struct devices *a, const struct devices *b);
void agent_devices_deinit(struct devices *devices);

#endif
