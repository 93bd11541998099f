/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The database as JSON: for programs that compare or collect. Names are those of the headers in
 * snake_case, amounts are in the base unit that the name ends with, the node's own slice is "".
 */
#include "inspect.h"

#include <stdio.h>
#include <stdlib.h>

#include <vdc/base.h>

static void set_text(json_t *object, const char *key, const char *text)
{
    json_object_set_new(object, key, json_string(text));
}

static void set_u64(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

/* null: none. */
static void set_id(json_t *object, const char *key, const struct vdc_id *id)
{
    char text[VDC_ID_TEXT_CAP];
    vdc_id_to_text(id, text);
    json_object_set_new(object, key, vdc_id_is_none(id) ? json_null() : json_string(text));
}

/* By id and name, null: nobody. */
static void set_partition(json_t *object, const char *key, const struct vdc_partition *partition)
{
    json_t *value = json_null();
    if (partition != NULL) {
        value = json_object();
        set_id(value, "id", &partition->id);
        set_text(value, "name", partition->name);
    }
    json_object_set_new(object, key, value);
}

static void set_numa(json_t *object, uint32_t numa)
{
    json_object_set_new(object, "numa",
                        numa == VDC_NUMA_ANY ? json_null() : json_integer((json_int_t)numa));
}

static json_t *blocks_json(const struct vdc_memory_block *blocks, uint32_t len)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < len; i++) {
        json_t *item = json_object();
        set_u64(item, "numa", blocks[i].numa);
        set_u64(item, "addr", blocks[i].addr);
        set_u64(item, "bytes", blocks[i].bytes);
        json_array_append_new(list, item);
    }
    return list;
}

static json_t *numa_json(const struct vdc_allocdb *db)
{
    json_t *list = json_array();
    struct vdc_numa_state numa;
    for (size_t i = 0; vdc_allocdb_numa_at(db, i, &numa); i++) {
        json_t *item = json_object();
        set_u64(item, "number", numa.number);
        set_u64(item, "cpus", numa.cpus);
        set_u64(item, "cpus_free", numa.cpus_free);
        set_u64(item, "memory_bytes", numa.memory_bytes);
        set_u64(item, "free_bytes", numa.free_bytes);
        set_u64(item, "largest_free_bytes", numa.largest_free_bytes);
        json_array_append_new(list, item);
    }
    return list;
}

static json_t *zones_json(const struct vdc_allocdb *db)
{
    json_t *list = json_array();
    const struct vdc_zone_slice *zone;
    for (size_t i = 0; (zone = vdc_allocdb_zone_at(db, i)) != NULL; i++) {
        json_t *item = json_object();
        set_text(item, "name", zone->name);
        json_object_set_new(item, "joined", json_boolean(zone->joined));
        set_u64(item, "epoch", zone->epoch);
        set_u64(item, "incarnation", zone->incarnation);
        set_u64(item, "overcommit_milli", zone->overcommit_milli);
        set_u64(item, "cpus", zone->cpus);
        set_u64(item, "cpus_dedicated", zone->cpus_dedicated);
        set_u64(item, "shared_used_milli", zone->shared_used_milli);
        set_u64(item, "shared_capacity_milli", zone->shared_capacity_milli);
        set_u64(item, "memory_bytes", zone->memory_bytes);
        set_u64(item, "memory_used_bytes", zone->memory_used_bytes);
        set_u64(item, "partitions", zone->partitions);
        json_array_append_new(list, item);
    }
    return list;
}

static json_t *cpus_json(const struct vdc_allocdb *db)
{
    json_t *list = json_array();
    struct vdc_cpu_state cpu;
    for (size_t i = 0; vdc_allocdb_cpu_at(db, i, &cpu); i++) {
        json_t *item = json_object();
        set_u64(item, "number", cpu.info.number);
        set_u64(item, "numa", cpu.info.numa);
        set_u64(item, "socket", cpu.info.socket);
        set_u64(item, "core", cpu.info.core);
        set_u64(item, "thread", cpu.info.thread);
        set_text(item, "zone", cpu.zone);
        set_partition(item, "partition", cpu.partition);
        json_array_append_new(list, item);
    }
    return list;
}

static json_t *partition_json(const struct vdc_partition *partition)
{
    json_t *item = json_object();
    set_id(item, "id", &partition->id);
    set_text(item, "name", partition->name);
    set_text(item, "kind", vdc_partition_kind_name(partition->kind));
    set_text(item, "zone", partition->zone);
    set_text(item, "tenant", partition->tenant);
    set_text(item, "class", partition->class_name);
    set_u64(item, "generation", partition->generation);
    set_text(item, "run", vdc_run_name(partition->run));
    set_u64(item, "vcpus", partition->vcpus);
    set_u64(item, "shared_milli", partition->shared_milli);
    json_t *cpus = json_array();
    for (uint32_t i = 0; i < partition->cpus_len; i++) {
        json_array_append_new(cpus, json_integer(partition->cpus[i]));
    }
    json_object_set_new(item, "cpus", cpus);
    set_u64(item, "memory_bytes", partition->memory_bytes);
    set_u64(item, "held_bytes", partition->held_bytes);
    json_object_set_new(item, "blocks", blocks_json(partition->blocks, partition->blocks_len));
    set_id(item, "claim", &partition->claim);
    set_u64(item, "sequence", partition->sequence);
    return item;
}

static json_t *partitions_json(const struct vdc_allocdb *db)
{
    json_t *list = json_array();
    size_t len;
    vdc_autofree const struct vdc_partition **all = vdc_allocdb_list_partitions(db, &len);
    for (size_t i = 0; i < len; i++) {
        json_array_append_new(list, partition_json(all[i]));
    }
    return list;
}

static json_t *claims_json(const struct vdc_allocdb *db)
{
    json_t *list = json_array();
    struct vdc_claim claim;
    for (size_t i = 0; vdc_allocdb_claim_at(db, i, &claim); i++) {
        json_t *item = json_object();
        set_id(item, "id", &claim.id);
        set_text(item, "zone", claim.zone);
        set_u64(item, "partitions", claim.partitions);
        set_u64(item, "sequence", claim.sequence);
        json_array_append_new(list, item);
    }
    return list;
}

static void set_port(json_t *item, const struct vdc_port *port)
{
    char mac[18];
    snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", port->mac[0], port->mac[1],
             port->mac[2], port->mac[3], port->mac[4], port->mac[5]);
    set_text(item, "mac", mac);
    set_text(item, "name", port->name);
    set_text(item, "network", port->network);
}

static void set_channel(json_t *item, const struct vdc_entry *entry)
{
    const struct vdc_channel *channel = &entry->channel;
    set_id(item, "id", &channel->id);
    set_text(item, "type", vdc_channel_type_name(channel->type));
    set_u64(item, "version", channel->version);
    set_u64(item, "bytes", channel->bytes);
    json_object_set_new(item, "blocks", blocks_json(channel->blocks, channel->blocks_len));
    set_partition(item, "peer", entry->peer);
}

static json_t *entry_json(const struct vdc_entry *entry)
{
    json_t *item = json_object();
    switch (entry->kind) {
    case VDC_ENTRY_DEVICE:
        set_text(item, "address", entry->device.address);
        set_text(item, "kind", vdc_device_kind_name(entry->device.kind));
        set_numa(item, entry->device.numa);
        break;
    case VDC_ENTRY_VOLUME:
        set_id(item, "volume", &entry->volume.volume);
        set_text(item, "mode", entry->volume.mode == VDC_VOLUME_WRITE ? "write" : "read");
        set_u64(item, "generation", entry->volume.generation);
        break;
    case VDC_ENTRY_PORT:
        set_port(item, &entry->port);
        break;
    case VDC_ENTRY_CHANNEL:
        set_channel(item, entry);
        break;
    case VDC_ENTRY_PROMISE:
        set_text(item, "node", entry->promise.node);
        set_u64(item, "incarnation", entry->promise.incarnation);
        break;
    }
    set_text(item, "zone", entry->zone);
    if (entry->kind != VDC_ENTRY_PROMISE) {
        set_partition(item, "partition", entry->partition);
    }
    set_u64(item, "sequence", entry->sequence);
    return item;
}

json_t *agent_inspect_json(const struct vdc_allocdb *db)
{
    static const char *const keys[] = {
        [VDC_ENTRY_DEVICE] = "devices",   [VDC_ENTRY_VOLUME] = "volumes",
        [VDC_ENTRY_PORT] = "ports",       [VDC_ENTRY_CHANNEL] = "channels",
        [VDC_ENTRY_PROMISE] = "promises",
    };
    _Static_assert(VDC_COUNT_OF(keys) == VDC_ENTRY_KIND_COUNT, "VDC_ENTRY_KIND_COUNT");
    struct vdc_digest digest = vdc_allocdb_digest(db);
    char text[VDC_DIGEST_TEXT_CAP];
    vdc_digest_to_text(&digest, text);
    json_t *root = json_object();
    set_u64(root, "sequence", vdc_allocdb_sequence(db));
    set_text(root, "digest", text);
    set_u64(root, "memory_bytes", vdc_allocdb_memory_bytes(db));
    set_u64(root, "memory_free_bytes", vdc_allocdb_memory_free_bytes(db));
    json_object_set_new(root, "numa", numa_json(db));
    json_object_set_new(root, "zones", zones_json(db));
    json_object_set_new(root, "cpus", cpus_json(db));
    json_object_set_new(root, "partitions", partitions_json(db));
    json_object_set_new(root, "claims", claims_json(db));
    for (int kind = 0; kind < VDC_ENTRY_KIND_COUNT; kind++) {
        size_t len;
        vdc_autofree const struct vdc_entry **entries =
            vdc_allocdb_list_entries(db, (enum vdc_entry_kind)kind, &len);
        json_t *list = json_array();
        for (size_t i = 0; i < len; i++) {
            json_array_append_new(list, entry_json(entries[i]));
        }
        json_object_set_new(root, keys[kind], list);
    }
    return root;
}

void agent_inspect_dump(json_t *root, struct vdc_buf *out)
{
    char *text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    VDC_ASSERT(text != NULL); /* every name in a database is ASCII */
    vdc_buf_puts(out, text);
    vdc_buf_puts(out, "\n");
    free(text);
}
