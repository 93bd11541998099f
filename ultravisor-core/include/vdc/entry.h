/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flat records of the allocation database (allocdb.h), called entries: devices, volumes in use,
 * network ports, channels and fence promises. Each has a key that is unique on the node, at most one
 * owner among the partitions (a channel has two endpoints), and ends with its owner, except devices,
 * which become free, and promises, which nobody owns and nothing ends.
 *
 * Entries come from committed operations (tx.h) only. They are in the digest, the snapshot and the
 * records; vdc_allocdb_check recomputes what is kept about them.
 */
#ifndef VDC_ENTRY_H
#define VDC_ENTRY_H

#include <stddef.h>
#include <stdint.h>

#include <vdc/id.h>
#include <vdc/limits.h>
#include <vdc/tx.h>

/* Entries of one node of all kinds together: 1000 guests with 16 disks, 16 ports and their two
 * channels each. */
#define VDC_ALLOCDB_ENTRIES_MAX 65536

/* The order is part of the snapshot's format. */
enum vdc_entry_kind {
    VDC_ENTRY_DEVICE,
    VDC_ENTRY_VOLUME,
    VDC_ENTRY_PORT,
    VDC_ENTRY_CHANNEL,
    VDC_ENTRY_PROMISE,
};
#define VDC_ENTRY_KIND_COUNT 5
const char *vdc_entry_kind_name(enum vdc_entry_kind kind);

/* Key: the address. */
struct vdc_device {
    char address[VDC_DEVICE_ADDRESS_CAP];
    enum vdc_device_kind kind;
    uint32_t numa; /* VDC_NUMA_ANY: none */
};

/* Key: volume and partition. */
struct vdc_volume_use {
    struct vdc_id volume;
    enum vdc_volume_mode mode;
    uint64_t generation; /* of the owner when it attached: the stamp of what it writes */
};

/* Key: the MAC address. */
struct vdc_port {
    uint8_t mac[6];
    char name[VDC_PORT_NAME_CAP]; /* unique too */
    char network[VDC_NAME_CAP];
};

/* Key: the id. */
struct vdc_channel {
    struct vdc_id id;
    enum vdc_channel_type type;
    uint16_t version;
    uint64_t bytes;
    uint32_t blocks_len;
    const struct vdc_memory_block *blocks; /* ascending, on one NUMA node */
};

/* Key: zone and node. */
struct vdc_promise {
    char node[VDC_NAME_CAP];
    uint64_t incarnation; /* neither this nor an older one is renewed */
};

struct vdc_allocdb;
struct vdc_partition;

/* What readers get, valid until the next commit, apply_record or destroy. */
struct vdc_entry {
    enum vdc_entry_kind kind;
    uint64_t sequence; /* of its last change */
    /* The slice that it belongs to or that pays for it: a device's, a channel's first endpoint's, the
     * owner's; a promise's zone. */
    char zone[VDC_NAME_CAP];
    const struct vdc_partition *partition; /* owner, first endpoint; NULL: nobody */
    const struct vdc_partition *peer;      /* second endpoint of a channel, else NULL */
    union {
        struct vdc_device device;
        struct vdc_volume_use volume;
        struct vdc_port port;
        struct vdc_channel channel;
        struct vdc_promise promise;
    };
};

size_t vdc_allocdb_count_entries(const struct vdc_allocdb *db, enum vdc_entry_kind kind);
/* All of a kind in the order of their keys; the array (not what it points to) is the caller's. */
const struct vdc_entry **vdc_allocdb_list_entries(const struct vdc_allocdb *db,
                                                  enum vdc_entry_kind kind, size_t *len);
/* All that the partition owns or is an endpoint of, by kind and key; the array is the caller's. */
const struct vdc_entry **vdc_allocdb_entries_of(const struct vdc_allocdb *db,
                                                const struct vdc_partition *partition, size_t *len);

/* NULL: unknown. */
const struct vdc_entry *vdc_allocdb_find_device(const struct vdc_allocdb *db, const char *address);
const struct vdc_entry *vdc_allocdb_find_volume(const struct vdc_allocdb *db,
                                                const struct vdc_id *volume,
                                                const struct vdc_id *partition);
const struct vdc_entry *vdc_allocdb_find_port(const struct vdc_allocdb *db, const uint8_t mac[6]);
const struct vdc_entry *vdc_allocdb_find_channel(const struct vdc_allocdb *db,
                                                 const struct vdc_id *id);
/* The newest incarnation of the node's run lease in the zone that is promised away; 0: none. */
uint64_t vdc_allocdb_promised(const struct vdc_allocdb *db, const char *zone, const char *node);
/* The channel whose memory the byte at offset `addr` of NUMA node `numa` is; NULL: none's. */
const struct vdc_entry *vdc_allocdb_memory_channel(const struct vdc_allocdb *db, uint32_t numa,
                                                   uint64_t addr);

#endif
