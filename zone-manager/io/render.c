/* SPDX-License-Identifier: Apache-2.0 */
/* The resources of the REST API as JSON (docs/api.md). */
#include <string.h>

#include <vdc/utf8.h>

#include "manager.h"

static void set_text(json_t *object, const char *name, const char *text)
{
    json_object_set_new(object, name, render_text(text));
}

/* Absent values are null, so that a client sees that the field exists. */
static void set_name(json_t *object, const char *name, const char *text)
{
    json_object_set_new(object, name, text[0] != 0 ? render_text(text) : json_null());
}

/* A sentence or several lines; NULL: null. They may be cut in the middle of a character. */
static void set_sentence(json_t *object, const char *name, const char *text)
{
    json_object_set_new(object, name, text != NULL ? render_text(text) : json_null());
}

static void set_u64(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

static void set_id(json_t *object, const char *name, const struct vdc_id *id)
{
    if (vdc_id_is_none(id)) {
        json_object_set_new(object, name, json_null());
        return;
    }
    char text[VDC_ID_TEXT_CAP];
    vdc_id_to_text(id, text);
    set_text(object, name, text);
}

static void set_time(json_t *object, const char *name, vdc_wall at)
{
    if (at.ns == 0) {
        json_object_set_new(object, name, json_null());
        return;
    }
    char text[VDC_WALL_TEXT_CAP];
    vdc_wall_to_text(at, text);
    set_text(object, name, text);
}

static void set_ms(json_t *object, const char *name, int64_t ns)
{
    json_object_set_new(object, name, json_real((double)(ns / 1000) / 1000.0));
}

static json_t *labels_json(const struct vdc_label *labels, size_t count)
{
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++) {
        set_text(object, labels[i].key, labels[i].value);
    }
    return object;
}

json_t *render_text(const char *text)
{
    json_t *whole = json_string(text);
    if (whole == NULL) {
        vdc_autofree char *repaired = vdc_strdup(text);
        vdc_text_make_printable(repaired);
        whole = json_string(repaired);
    }
    VDC_ASSERT(whole != NULL);
    return whole;
}

json_t *render_operation(const struct vdc_operation_record *record)
{
    json_t *object = json_object();
    set_id(object, "id", &record->id);
    set_text(object, "kind", vdc_operation_kind_name(record->kind));
    set_text(object, "zone", record->zone);
    set_text(object, "state", vdc_operation_state_name(record->state));
    set_text(object, "step", record->step);
    set_id(object, "partition_id", &record->partition);
    set_name(object, "partition", record->partition_name);
    set_name(object, "source", record->source);
    set_name(object, "target", record->target);
    set_name(object, "user", record->user);
    set_sentence(object, "verdict", record->verdict);
    set_sentence(object, "error", record->error);
    set_time(object, "created_at", record->created_at);
    set_time(object, "finished_at", record->finished_at);
    set_ms(object, "placement_ms", record->placement_ns);
    set_ms(object, "downtime_ms", record->downtime_ns);
    set_ms(object, "duration_ms", record->duration_ns);
    return object;
}

static json_t *guest_json(const struct vdc_zone_partition_info *info)
{
    json_t *object = json_object();
    set_text(object, "state", vdc_guest_state_name(info->guest.state));
    set_name(object, "reason", info->guest.reason);
    set_name(object, "accelerator", info->guest.accelerator);
    if (info->guest.bytes_total > 0) {
        set_u64(object, "migration_bytes_total", info->guest.bytes_total);
        set_u64(object, "migration_bytes_left", info->guest.bytes_left);
        set_u64(object, "migration_bytes_sent", info->guest.bytes_sent);
    }
    set_u64(object, "started_at_boottime_ns", info->guest.started_at_ns);
    set_u64(object, "running_at_boottime_ns", info->guest.running_at_ns);
    return object;
}

json_t *render_partition(const struct vdc_zone_partition_info *info)
{
    const struct vdc_partition_record *record = info->record;
    const struct vdc_partition_spec *spec = &record->spec;
    json_t *object = json_object();
    set_id(object, "id", &record->id);
    set_text(object, "name", spec->name);
    set_text(object, "zone", spec->zone);
    json_object_set_new(object, "labels", labels_json(spec->labels, spec->labels_len));
    set_time(object, "created_at", record->created_at);
    set_time(object, "changed_at", record->changed_at);

    json_t *wanted = json_object();
    set_name(wanted, "tenant", spec->tenant);
    set_name(wanted, "class", spec->class);
    set_text(wanted, "image", spec->image);
    set_u64(wanted, "vcpus", spec->vcpus);
    set_u64(wanted, "memory_bytes", spec->memory_bytes);
    set_u64(wanted, "disk_bytes", spec->disk_bytes);
    set_text(wanted, "state", vdc_desired_name(record->desired));
    json_object_set_new(object, "spec", wanted);

    json_t *status = json_object();
    set_text(status, "state", info->seen ? vdc_guest_state_name(info->guest.state) : "unknown");
    set_name(status, "node", record->owner);
    set_u64(status, "generation", record->generation);
    set_u64(status, "policy_version", record->policy_version);
    json_object_set_new(status, "restartable", json_boolean(record->restartable));
    set_id(status, "operation", &record->operation);
    set_sentence(status, "verdict", record->verdict);
    json_object_set_new(status, "guest", info->seen ? guest_json(info) : json_null());
    json_object_set_new(object, "status", status);
    return object;
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
        set_u64(item, "memory_free_bytes", numa.free_bytes);
        json_array_append_new(list, item);
    }
    return list;
}

/* What the node keeps for itself: its ultravisor's, command and operations partitions. */
static json_t *system_json(const struct vdc_allocdb *db)
{
    json_t *list = json_array();
    size_t len;
    vdc_autofree const struct vdc_partition **all = vdc_allocdb_list_partitions(db, &len);
    for (size_t i = 0; i < len; i++) {
        if (all[i]->kind == VDC_PARTITION_SYSTEM) {
            json_t *item = json_object();
            set_text(item, "name", all[i]->name);
            set_u64(item, "cpus", all[i]->cpus_len);
            set_u64(item, "memory_bytes", all[i]->held_bytes);
            json_array_append_new(list, item);
        }
    }
    return list;
}

/* Those of the node's own slice and of this zone; another zone's are not this one's to show. */
static json_t *devices_json(const struct vdc_allocdb *db, const char *zone)
{
    json_t *list = json_array();
    size_t len;
    vdc_autofree const struct vdc_entry **all =
        vdc_allocdb_list_entries(db, VDC_ENTRY_DEVICE, &len);
    for (size_t i = 0; i < len; i++) {
        if (all[i]->zone[0] != 0 && strcmp(all[i]->zone, zone) != 0) {
            continue;
        }
        json_t *item = json_object();
        set_text(item, "address", all[i]->device.address);
        set_text(item, "kind", vdc_device_kind_name(all[i]->device.kind));
        json_object_set_new(item, "numa",
                            all[i]->device.numa == VDC_NUMA_ANY
                                ? json_null()
                                : json_integer((json_int_t)all[i]->device.numa));
        set_name(item, "zone", all[i]->zone); /* null: the node's own */
        json_object_set_new(item, "partition",
                            all[i]->partition != NULL ? json_string(all[i]->partition->name)
                                                      : json_null());
        json_array_append_new(list, item);
    }
    return list;
}

/* What the node's own database says, as the replica has it. */
static json_t *allocation_json(const struct vdc_zone_node_info *info, const char *zone)
{
    const struct vdc_allocdb *db = info->replica;
    json_t *object = json_object();
    set_u64(object, "sequence", info->replica_sequence);
    json_object_set_new(object, "equal", json_boolean(info->replica_equal));
    set_u64(object, "memory_bytes", vdc_allocdb_memory_bytes(db));
    set_u64(object, "memory_free_bytes", vdc_allocdb_memory_free_bytes(db));
    const struct vdc_zone_slice *slice = vdc_allocdb_find_zone(db, zone);
    if (slice != NULL && slice->joined) {
        set_u64(object, "partitions", slice->partitions);
        set_u64(object, "zone_cpus", slice->cpus);
        set_u64(object, "zone_cpus_dedicated", slice->cpus_dedicated);
        set_u64(object, "zone_shared_capacity_milli", slice->shared_capacity_milli);
        set_u64(object, "zone_shared_used_milli", slice->shared_used_milli);
        set_u64(object, "zone_memory_bytes", slice->memory_bytes);
        set_u64(object, "zone_memory_used_bytes", slice->memory_used_bytes);
    }
    return object;
}

json_t *render_node(const struct vdc_zone *zone, const struct vdc_zone_node_info *info,
                    vdc_mono now)
{
    (void)zone;
    const struct vdc_node_record *record = info->record;
    json_t *object = json_object();
    set_text(object, "id", record->name);
    set_text(object, "name", record->name);
    set_text(object, "zone", record->zone);
    json_object_set_new(object, "labels", labels_json(record->labels, record->labels_len));

    json_t *inventory = json_object();
    set_text(inventory, "rack", record->rack);
    set_text(inventory, "address", record->address);
    set_u64(inventory, "cpus", record->cpus);
    set_u64(inventory, "memory_bytes", record->memory_bytes);
    set_u64(inventory, "numa_nodes", record->numa_nodes);
    set_name(inventory, "cpu_model", record->cpu_model);
    set_name(inventory, "accelerator", record->accelerator);
    json_object_set_new(object, "spec", inventory);

    json_t *status = json_object();
    set_text(status, "state", vdc_node_state_name(info->state));
    json_object_set_new(status, "connected", json_boolean(info->connected));
    json_object_set_new(status, "usable", json_boolean(info->usable));
    set_name(status, "why_not", info->usable ? "" : info->why_not);
    set_u64(status, "incarnation", record->incarnation);
    set_u64(status, "partitions", info->partitions);
    int64_t left = info->lease_until.ns > now.ns ? vdc_mono_sub(info->lease_until, now) : 0;
    set_ms(status, "lease_left_ms", vdc_mono_is_never(info->lease_until) ? 0 : left);
    set_time(status, "changed_at", record->changed_at);
    json_object_set_new(status, "allocation",
                        info->replica != NULL ? allocation_json(info, record->zone) : json_null());
    json_object_set_new(object, "status", status);
    return object;
}

json_t *render_node_whole(const struct vdc_zone *zone, const struct vdc_zone_node_info *info,
                          vdc_mono now)
{
    json_t *object = render_node(zone, info, now);
    json_t *allocation = json_object_get(json_object_get(object, "status"), "allocation");
    if (info->replica != NULL) {
        json_object_set_new(allocation, "numa", numa_json(info->replica));
        json_object_set_new(allocation, "system", system_json(info->replica));
        json_object_set_new(allocation, "devices", devices_json(info->replica, info->record->zone));
    }
    return object;
}

json_t *render_zone(const struct seat *seat)
{
    json_t *object = json_object();
    set_text(object, "id", seat->zone);
    set_text(object, "name", seat->zone);
    set_u64(object, "policy_version", seat->record.policy_version);
    set_time(object, "created_at", seat->record.created_at);
    json_t *status = json_object();
    set_name(status, "leader", seat->leader.manager);
    set_u64(status, "epoch", (uint64_t)seat->leader_revision);
    set_name(status, "problem", seat->leader_revision == 0 ? seat->trouble : "");
    json_object_set_new(object, "status", status);
    return object;
}
