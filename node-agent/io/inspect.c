/* SPDX-License-Identifier: Apache-2.0 */
#include "inspect.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/file.h>
#include <vdc/journal.h>
#include <vdc/quantity.h>

#define ull(x) ((unsigned long long)(x))

/* --- tables --- */

static void render_head(const struct vdc_allocdb *db, struct vdc_buf *out)
{
    struct vdc_digest digest = vdc_allocdb_digest(db);
    char text[VDC_DIGEST_TEXT_CAP];
    char total[VDC_QUANTITY_TEXT_CAP];
    char free_text[VDC_QUANTITY_TEXT_CAP];
    char largest[VDC_QUANTITY_TEXT_CAP];
    vdc_digest_to_text(&digest, text);
    vdc_buf_printf(out, "sequence %llu  digest %s\n", ull(vdc_allocdb_sequence(db)), text);
    vdc_buf_printf(out, "\n%-6s %6s %10s %12s %12s %12s\n", "NUMA", "CPUS", "CPUS-FREE", "MEMORY",
                   "FREE", "LARGEST");
    struct vdc_numa_state numa;
    for (size_t i = 0; vdc_allocdb_numa_at(db, i, &numa); i++) {
        vdc_quantity_bytes_text(numa.memory_bytes, total);
        vdc_quantity_bytes_text(numa.free_bytes, free_text);
        vdc_quantity_bytes_text(numa.largest_free_bytes, largest);
        vdc_buf_printf(out, "%-6u %6u %10u %12s %12s %12s\n", numa.number, numa.cpus,
                       numa.cpus_free, total, free_text, largest);
    }
}

static void render_zones(const struct vdc_allocdb *db, struct vdc_buf *out)
{
    vdc_buf_printf(out, "\n%-16s %-6s %8s %11s %5s %9s %17s %12s %12s %10s\n", "ZONE", "JOINED",
                   "EPOCH", "INCARNATION", "CPUS", "DEDICATED", "SHARED-MILLI", "MEMORY", "USED",
                   "PARTITIONS");
    const struct vdc_zone_slice *zone;
    for (size_t i = 0; (zone = vdc_allocdb_zone_at(db, i)) != NULL; i++) {
        char total[VDC_QUANTITY_TEXT_CAP];
        char used[VDC_QUANTITY_TEXT_CAP];
        char shared[48];
        vdc_quantity_bytes_text(zone->memory_bytes, total);
        vdc_quantity_bytes_text(zone->memory_used_bytes, used);
        (void)snprintf(shared, sizeof(shared), "%llu/%llu", ull(zone->shared_used_milli),
                       ull(zone->shared_capacity_milli));
        vdc_buf_printf(out, "%-16s %-6s %8llu %11llu %5u %9u %17s %12s %12s %10u\n",
                       zone->name[0] == 0 ? "(node)" : zone->name, zone->joined ? "yes" : "no",
                       ull(zone->epoch), ull(zone->incarnation), zone->cpus, zone->cpus_dedicated,
                       shared, total, used, zone->partitions);
    }
}

static void render_cpus(const struct vdc_allocdb *db, struct vdc_buf *out)
{
    vdc_buf_printf(out, "\n%-6s %5s %7s %5s %7s %-16s %s\n", "CPU", "NUMA", "SOCKET", "CORE",
                   "THREAD", "ZONE", "PARTITION");
    struct vdc_cpu_state cpu;
    for (size_t i = 0; vdc_allocdb_cpu_at(db, i, &cpu); i++) {
        vdc_buf_printf(out, "%-6u %5u %7u %5u %7u %-16s %s\n", cpu.info.number, cpu.info.numa,
                       cpu.info.socket, cpu.info.core, cpu.info.thread,
                       cpu.zone[0] == 0 ? "(node)" : cpu.zone,
                       cpu.partition == NULL ? "-" : cpu.partition->name);
    }
}

static void render_block(const struct vdc_memory_block *block, struct vdc_buf *out)
{
    vdc_buf_printf(out, "    memory numa %u [0x%llx, 0x%llx)\n", block->numa, ull(block->addr),
                   ull(block->addr + block->bytes));
}

/* "    cpus 0-3,8": as Linux writes lists. */
static void render_cpu_list(const struct vdc_partition *partition, struct vdc_buf *out)
{
    if (partition->cpus_len == 0) {
        return;
    }
    vdc_buf_printf(out, "    cpus");
    for (uint32_t i = 0; i < partition->cpus_len;) {
        uint32_t last = i;
        while (last + 1 < partition->cpus_len &&
               partition->cpus[last + 1] == partition->cpus[last] + 1) {
            last++;
        }
        vdc_buf_printf(out, "%c%u", i == 0 ? ' ' : ',', partition->cpus[i]);
        if (last > i) {
            vdc_buf_printf(out, "-%u", partition->cpus[last]);
        }
        i = last + 1;
    }
    vdc_buf_printf(out, "\n");
}

static void render_partitions(const struct vdc_allocdb *db, struct vdc_buf *out)
{
    size_t len;
    vdc_autofree const struct vdc_partition **list = vdc_allocdb_list_partitions(db, &len);
    vdc_buf_printf(out, "\n%-16s %-36s %-7s %-16s %5s %-9s %6s %12s %12s %s\n", "PARTITION", "ID",
                   "KIND", "ZONE", "GEN", "RUN", "VCPUS", "CPU-MILLI", "MEMORY", "CLAIM");
    for (size_t i = 0; i < len; i++) {
        const struct vdc_partition *p = list[i];
        char id[VDC_ID_TEXT_CAP];
        char claim[VDC_ID_TEXT_CAP] = "-";
        char memory[VDC_QUANTITY_TEXT_CAP];
        vdc_id_to_text(&p->id, id);
        if (!vdc_id_is_none(&p->claim)) {
            vdc_id_to_text(&p->claim, claim);
        }
        vdc_quantity_bytes_text(p->held_bytes, memory);
        vdc_buf_printf(out, "%-16s %-36s %-7s %-16s %5llu %-9s %6u %12u %12s %s\n", p->name, id,
                       vdc_partition_kind_name(p->kind), p->zone[0] == 0 ? "(node)" : p->zone,
                       ull(p->generation), vdc_run_name(p->run), p->vcpus,
                       p->cpus_len > 0 ? p->cpus_len * 1000 : p->shared_milli, memory, claim);
        render_cpu_list(p, out);
        for (uint32_t b = 0; b < p->blocks_len; b++) {
            render_block(&p->blocks[b], out);
        }
    }
    struct vdc_claim claim;
    for (size_t i = 0; vdc_allocdb_claim_at(db, i, &claim); i++) {
        char id[VDC_ID_TEXT_CAP];
        vdc_id_to_text(&claim.id, id);
        vdc_buf_printf(out, "claim %s of zone %s holds %u partitions since %llu\n", id, claim.zone,
                       claim.partitions, ull(claim.sequence));
    }
}

static void render_entry(const struct vdc_entry *entry, struct vdc_buf *out)
{
    const uint8_t *mac = entry->port.mac;
    char id[VDC_ID_TEXT_CAP];
    switch (entry->kind) {
    case VDC_ENTRY_DEVICE:
        vdc_buf_printf(out, "device %s  %s", entry->device.address,
                       vdc_device_kind_name(entry->device.kind));
        if (entry->device.numa != VDC_NUMA_ANY) {
            vdc_buf_printf(out, " numa %u", entry->device.numa);
        }
        break;
    case VDC_ENTRY_VOLUME:
        vdc_id_to_text(&entry->volume.volume, id);
        vdc_buf_printf(out, "volume %s  %s generation %llu", id,
                       entry->volume.mode == VDC_VOLUME_WRITE ? "write" : "read",
                       ull(entry->volume.generation));
        break;
    case VDC_ENTRY_PORT:
        vdc_buf_printf(out, "port %02x:%02x:%02x:%02x:%02x:%02x  %s of network %s", mac[0], mac[1],
                       mac[2], mac[3], mac[4], mac[5], entry->port.name, entry->port.network);
        break;
    case VDC_ENTRY_CHANNEL:
        vdc_id_to_text(&entry->channel.id, id);
        vdc_buf_printf(out, "channel %s  %s version %u", id,
                       vdc_channel_type_name(entry->channel.type), entry->channel.version);
        break;
    case VDC_ENTRY_PROMISE:
        vdc_buf_printf(out, "promise node %s  up to incarnation %llu", entry->promise.node,
                       ull(entry->promise.incarnation));
        break;
    }
    vdc_buf_printf(out, "  zone %s", entry->zone[0] == 0 ? "(node)" : entry->zone);
    if (entry->partition != NULL) {
        vdc_buf_printf(out, "  partition %s", entry->partition->name);
    }
    if (entry->peer != NULL) {
        vdc_buf_printf(out, " and %s", entry->peer->name);
    }
    vdc_buf_printf(out, "  since %llu\n", ull(entry->sequence));
    for (uint32_t b = 0; entry->kind == VDC_ENTRY_CHANNEL && b < entry->channel.blocks_len; b++) {
        render_block(&entry->channel.blocks[b], out);
    }
}

static void render_entries(const struct vdc_allocdb *db, struct vdc_buf *out)
{
    for (int kind = 0; kind < VDC_ENTRY_KIND_COUNT; kind++) {
        size_t len;
        vdc_autofree const struct vdc_entry **list =
            vdc_allocdb_list_entries(db, (enum vdc_entry_kind)kind, &len);
        if (len > 0) {
            vdc_buf_printf(out, "\n");
        }
        for (size_t i = 0; i < len; i++) {
            render_entry(list[i], out);
        }
    }
}

void agent_inspect_render(const struct vdc_allocdb *db, struct vdc_buf *out)
{
    render_head(db, out);
    render_zones(db, out);
    render_cpus(db, out);
    render_partitions(db, out);
    render_entries(db, out);
}

/* --- the journal --- */

static enum vdc_rc on_snapshot(void *ctx, uint64_t sequence, const void *data, size_t len,
                               struct vdc_err *err)
{
    struct vdc_allocdb **db = ctx;
    struct vdc_allocdb *restored;
    enum vdc_rc rc = vdc_allocdb_restore(data, len, &restored, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    vdc_allocdb_destroy(*db);
    *db = restored;
    if (vdc_allocdb_sequence(restored) != sequence) {
        return vdc_err_set(err, VDC_RC_CORRUPT, "it is of %llu, its name says %llu",
                           ull(vdc_allocdb_sequence(restored)), ull(sequence));
    }
    return VDC_RC_OK;
}

static enum vdc_rc on_record(void *ctx, uint64_t sequence, const void *data, size_t len,
                             struct vdc_err *err)
{
    (void)sequence;
    struct vdc_allocdb **db = ctx;
    return vdc_allocdb_apply_record(*db, data, len, err);
}

static void render_report(const struct vdc_journal_report *report, struct vdc_buf *out)
{
    vdc_buf_printf(out, "journal: snapshot %llu, %llu records behind it, last %llu\n",
                   ull(report->snapshot_sequence), ull(report->records),
                   ull(report->last_sequence));
    if (report->torn_bytes > 0) {
        vdc_buf_printf(out, "journal: torn end, %llu bytes of %s at %llu: the agent will cut it\n",
                       ull(report->torn_bytes), report->torn_file, ull(report->torn_offset));
    }
}

/* A directory without a journal would read as an empty database, which is an answer to a question
 * that nobody asked. */
static enum vdc_rc find_journal(const char *path, struct vdc_err *err)
{
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return vdc_err_errno(err, errno, "open the journal's directory %s", path);
    }
    bool found = false;
    struct dirent *entry;
    while (!found && (entry = readdir(dir)) != NULL) {
        found = strncmp(entry->d_name, "journal-", 8) == 0 ||
                strncmp(entry->d_name, "snapshot-", 9) == 0;
    }
    closedir(dir);
    if (found) {
        return VDC_RC_OK;
    }
    vdc_autofree char *below = vdc_asprintf("%s/journal", path);
    return vdc_err_set(err, VDC_RC_NOT_FOUND,
                       vdc_file_exists(below)
                           ? "%s holds no journal, but a directory \"journal\": inspect that one"
                           : "%s holds no journal: no segment and no snapshot is there",
                       path);
}

static json_t *report_json(const struct vdc_journal_report *report, enum vdc_rc rc,
                           const struct vdc_err *err)
{
    json_t *torn = json_null();
    if (report->torn_bytes > 0) {
        torn = json_pack("{s:s, s:I, s:I}", "file", report->torn_file, "offset",
                         (json_int_t)report->torn_offset, "bytes", (json_int_t)report->torn_bytes);
    }
    return json_pack("{s:I, s:I, s:I, s:o, s:o}", "snapshot_sequence",
                     (json_int_t)report->snapshot_sequence, "records", (json_int_t)report->records,
                     "last_sequence", (json_int_t)report->last_sequence, "torn", torn, "damage",
                     rc == VDC_RC_OK ? json_null() : json_string(vdc_err_text(err)));
}

static void render_text(const struct vdc_journal_report *report, enum vdc_rc rc,
                        const struct vdc_allocdb *db, const char *invariants, struct vdc_buf *out)
{
    render_report(report, out);
    if (rc != VDC_RC_OK) {
        vdc_buf_printf(out, "journal: what follows is the state before the damage\n");
    }
    vdc_buf_printf(out, "\n");
    agent_inspect_render(db, out);
    vdc_buf_printf(out, "\ninvariants: %s\n", invariants);
}

enum vdc_rc agent_inspect(const char *dir, bool json, struct vdc_buf *out, struct vdc_err *err)
{
    struct vdc_err why = {0};
    if (err == NULL) {
        err = &why;
    }
    enum vdc_rc rc = find_journal(dir, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct vdc_allocdb *db = vdc_allocdb_create();
    struct vdc_journal_options options = {
        .dir = dir, .on_snapshot = on_snapshot, .on_record = on_record, .ctx = &db};
    struct vdc_journal_report report;
    rc = vdc_journal_verify(&options, &report, err);
    struct vdc_err broken = {0};
    enum vdc_rc checked = vdc_allocdb_check(db, &broken);
    const char *invariants = checked == VDC_RC_OK ? "all hold" : vdc_err_text(&broken);
    if (json) {
        agent_inspect_dump(json_pack("{s:o, s:o, s:s}", "journal", report_json(&report, rc, err),
                                     "database", agent_inspect_json(db), "invariants", invariants),
                           out);
    } else {
        render_text(&report, rc, db, invariants, out);
    }
    if (rc == VDC_RC_OK && checked != VDC_RC_OK) {
        rc = vdc_err_set(err, VDC_RC_CORRUPT, "%s", invariants);
    }
    vdc_allocdb_destroy(db);
    return rc;
}
