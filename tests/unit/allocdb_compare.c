/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that the database's readers say, against the model. The digest cannot be foretold, but it
 * must depend on the state alone: compare_rebuilt gives the state another history and compares.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <vdc/prng.h>

#include "allocdb_model.h"

uint64_t compare_seed;
uint64_t compare_transaction;
const struct vdc_tx *compare_tx;

#define ull(x) ((unsigned long long)(x))

void compare_failed(const char *file, int line, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)fprintf(stderr, "%s:%d: seed %llu, transaction %llu: ", file, line, ull(compare_seed),
                  ull(compare_transaction));
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fprintf(stderr, "\n  role %u, zone \"%s\", kind %u:", compare_tx->role, compare_tx->zone,
                  compare_tx->kind);
    for (uint32_t i = 0; i < VDC_MIN(compare_tx->ops_len, (uint32_t)DRAW_OPS_MAX); i++) {
        (void)fprintf(stderr, " %s", vdc_op_name(compare_tx->ops[i].kind));
    }
    (void)fputc('\n', stderr);
    abort();
}

void compare_answers(const struct vdc_tx_result *result, const struct model_answer *answer)
{
    MUST(result->rule == answer->rule && result->rc == answer->rc,
         "the database says %s %s, the model %s %s: \"%s\"", vdc_rc_name(result->rc),
         vdc_tx_rule_name(result->rule), vdc_rc_name(answer->rc), vdc_tx_rule_name(answer->rule),
         result->text);
    MUST(result->op == answer->op, "operation %u, not %u: %s", result->op, answer->op,
         result->text);
    MUST(result->asked == answer->asked && result->free == answer->free &&
             result->largest == answer->largest,
         "asked %llu free %llu largest %llu, not %llu %llu %llu: %s", ull(result->asked),
         ull(result->free), ull(result->largest), ull(answer->asked), ull(answer->free),
         ull(answer->largest), result->text);
    MUST(result->sequence == answer->sequence, "sequence %llu, not %llu", ull(result->sequence),
         ull(answer->sequence));
    MUST(result->repeated == answer->repeated, "repeated: %d, not %d", result->repeated,
         answer->repeated);
    MUST((result->text[0] == 0) == (result->rc == VDC_RC_OK), "a sentence, or none: \"%s\"",
         result->text);
}

/* --- state --- */

static void compare_zone(const struct model *m, const struct vdc_allocdb *db, int z)
{
    const struct model_zone *zone = &m->now.zones[z];
    const struct vdc_zone_slice *is = vdc_allocdb_zone_at(db, (size_t)z);
    MUST(is != NULL && strcmp(is->name, zone->name) == 0, "zone %d", z);
    MUST(is->joined == zone->joined && is->epoch == zone->epoch &&
             is->incarnation == zone->incarnation,
         "zone \"%s\": joined, epoch or incarnation", zone->name);
    MUST(is->overcommit_milli == zone->overcommit && is->cpu_share.milli == zone->cpu_share.milli &&
             is->cpu_share.amount == zone->cpu_share.amount &&
             is->memory_share.milli == zone->memory_share.milli &&
             is->memory_share.amount == zone->memory_share.amount,
         "zone \"%s\": shares", zone->name);
    uint32_t cpus = model_count_cpus(m, z);
    uint32_t free_cpus = model_count_free_cpus(m, z, NONE);
    MUST(is->cpus == cpus && is->cpus_dedicated == cpus - free_cpus, "zone \"%s\": CPUs",
         zone->name);
    MUST(is->shared_capacity_milli == model_capacity(m, z) &&
             is->shared_used_milli == model_shared_used(m, z) &&
             is->shared_used_milli <= is->shared_capacity_milli,
         "zone \"%s\": pool", zone->name);
    MUST(is->memory_bytes == zone->memory_bytes &&
             is->memory_used_bytes == model_memory_used(m, z) &&
             is->memory_used_bytes <= is->memory_bytes,
         "zone \"%s\": memory", zone->name);
    MUST(is->partitions == model_count_partitions(m, z), "zone \"%s\": partitions", zone->name);
}

static void compare_zones(const struct model *m, const struct vdc_allocdb *db)
{
    uint64_t memory = 0;
    for (int z = 0; z < m->now.zones_len; z++) {
        compare_zone(m, db, z);
        memory += m->now.zones[z].memory_bytes;
    }
    MUST(vdc_allocdb_zone_at(db, (size_t)m->now.zones_len) == NULL, "a zone more");
    MUST(memory == m->now.memory_bytes && vdc_allocdb_memory_bytes(db) == memory,
         "the slices' sum is not the node's memory");
}

static bool is_partition(const struct model *m, const struct vdc_partition *is, int p)
{
    if (is == NULL || p == NONE) {
        return is == NULL && p == NONE;
    }
    return vdc_id_equal(&is->id, &m->now.partitions[p].as.id);
}

static void compare_cpus(const struct model *m, const struct vdc_allocdb *db)
{
    struct vdc_cpu_state is;
    for (int c = 0; c < m->now.cpus_len; c++) {
        const struct model_cpu *cpu = &m->now.cpus[c];
        MUST(vdc_allocdb_cpu_at(db, (size_t)c, &is), "CPU %u is not there", cpu->info.number);
        MUST(is.info.number == cpu->info.number && is.info.numa == cpu->info.numa &&
                 is.info.socket == cpu->info.socket && is.info.core == cpu->info.core &&
                 is.info.thread == cpu->info.thread,
             "CPU %u: topology", cpu->info.number);
        MUST(strcmp(is.zone, m->now.zones[cpu->zone].name) == 0 &&
                 is_partition(m, is.partition, cpu->owner) &&
                 vdc_allocdb_cpu_owner(db, cpu->info.number) == is.partition,
             "CPU %u: zone or owner", cpu->info.number);
    }
    MUST(!vdc_allocdb_cpu_at(db, (size_t)m->now.cpus_len, &is), "a CPU more");
}

static void compare_numas(const struct model *m, const struct vdc_allocdb *db)
{
    struct vdc_numa_state is;
    for (int n = 0; n < m->numas_len; n++) {
        const struct model_numa *numa = &m->numas[n];
        MUST(vdc_allocdb_numa_at(db, (size_t)n, &is) && is.number == numa->number, "NUMA node %u",
             numa->number);
        MUST(is.memory_bytes == numa->bytes && is.free_bytes == memory_free(numa, PAGE) &&
                 is.largest_free_bytes == memory_largest(numa),
             "NUMA node %u: %llu bytes free, largest %llu, not %llu, %llu", numa->number,
             ull(is.free_bytes), ull(is.largest_free_bytes), ull(memory_free(numa, PAGE)),
             ull(memory_largest(numa)));
        uint32_t cpus = 0;
        uint32_t free_cpus = 0;
        for (int c = 0; c < m->now.cpus_len; c++) {
            bool here = m->now.cpus[c].info.numa == numa->number;
            cpus += here;
            free_cpus += here && m->now.cpus[c].owner == NONE;
        }
        MUST(is.cpus == cpus && is.cpus_free == free_cpus, "NUMA node %u: CPUs", numa->number);
    }
    MUST(!vdc_allocdb_numa_at(db, (size_t)m->numas_len, &is), "a NUMA node more");
}

static void compare_blocks(const struct model *m, uint16_t owner,
                           const struct vdc_memory_block *blocks, uint32_t len, const char *whose)
{
    static struct vdc_memory_block runs[VDC_VIEW_BLOCKS_MAX];
    uint32_t runs_len = memory_runs(m, owner, runs, VDC_VIEW_BLOCKS_MAX);
    MUST(len == runs_len, "%s has %u blocks, not %u", whose, len, runs_len);
    for (uint32_t i = 0; i < len; i++) {
        MUST(blocks[i].numa == runs[i].numa && blocks[i].addr == runs[i].addr &&
                 blocks[i].bytes == runs[i].bytes,
             "block %u of %s: %u/%llu+%llu, not %u/%llu+%llu", i, whose, blocks[i].numa,
             ull(blocks[i].addr), ull(blocks[i].bytes), runs[i].numa, ull(runs[i].addr),
             ull(runs[i].bytes));
    }
}

static void compare_partition(const struct model *m, const struct vdc_partition *is, int p,
                              bool blocks)
{
    const struct model_partition *partition = &m->now.partitions[p];
    const struct vdc_op_partition_create *as = &partition->as;
    MUST(strcmp(is->name, as->name) == 0 && strcmp(is->tenant, as->tenant) == 0 &&
             strcmp(is->class_name, as->class_name) == 0 &&
             strcmp(is->zone, m->now.zones[partition->zone].name) == 0,
         "partition %d: names", p);
    MUST(is->kind == as->kind && is->run == as->run && is->generation == as->generation &&
             is->vcpus == as->vcpus && is->memory_bytes == as->memory_bytes &&
             vdc_id_equal(&is->claim, &partition->claim),
         "partition %d: descriptor", p);
    MUST(is->config_len == as->config_len &&
             (as->config_len == 0 || memcmp(is->config, as->config, as->config_len) == 0),
         "partition %d: launch description", p);
    MUST(is->sequence == partition->sequence, "partition %d: changed at %llu, not %llu", p,
         ull(is->sequence), ull(partition->sequence));
    MUST(is->shared_milli == partition->shared && is->held_bytes == partition->held &&
             is->cpus_len == model_count_held_cpus(m, p),
         "partition %d: holdings", p);
    for (uint32_t i = 0; i < is->cpus_len; i++) {
        int c = model_find_cpu(m, is->cpus[i]);
        MUST(c != NONE && m->now.cpus[c].owner == p && (i == 0 || is->cpus[i - 1] < is->cpus[i]),
             "partition %d: CPU %u", p, is->cpus[i]);
    }
    if (blocks) {
        compare_blocks(m, (uint16_t)(1 + p), is->blocks, is->blocks_len, is->name);
    }
}

static void compare_partitions(const struct model *m, const struct vdc_allocdb *db, bool blocks)
{
    struct vdc_id id;
    size_t count = 0;
    for (uint32_t i = 0; draw_partition_id(i, &id); i++) {
        const struct vdc_partition *is = vdc_allocdb_find_partition(db, &id);
        int p = model_find_partition(m, &id);
        MUST((is != NULL) == (p != NONE), "partition %u is there: %d", i, is != NULL);
        if (p != NONE) {
            compare_partition(m, is, p, blocks || m->touched[p]);
            count++;
        }
    }
    MUST(vdc_allocdb_count_partitions(db) == count, "number of partitions");
}

/* e NONE: there must be none. */
static void compare_entry(const struct model *m, const struct vdc_entry *is, int e, bool blocks)
{
    MUST((is != NULL) == (e != NONE), "entry %d is there: %d", e, is != NULL);
    if (e == NONE) {
        return;
    }
    const struct model_entry *entry = &m->now.entries[e];
    const char *kind = vdc_entry_kind_name(entry->kind);
    MUST(is->kind == entry->kind && strcmp(is->zone, m->now.zones[entry->zone].name) == 0 &&
             is_partition(m, is->partition, entry->owner) && is_partition(m, is->peer, entry->peer),
         "%s: zone or owners", kind);
    MUST(is->sequence == entry->sequence, "%s: changed at %llu, not %llu", kind, ull(is->sequence),
         ull(entry->sequence));
    switch (entry->kind) {
    case VDC_ENTRY_DEVICE:
        MUST(strcmp(is->device.address, entry->device.address) == 0 &&
                 is->device.kind == entry->device.kind && is->device.numa == entry->device.numa,
             "device %s", entry->device.address);
        break;
    case VDC_ENTRY_VOLUME:
        MUST(is->volume.mode == entry->volume.mode &&
                 is->volume.generation == entry->volume.generation &&
                 vdc_id_equal(&is->volume.volume, &entry->volume.volume),
             "volume in use");
        break;
    case VDC_ENTRY_PORT:
        MUST(memcmp(is->port.mac, entry->port.mac, 6) == 0 &&
                 strcmp(is->port.name, entry->port.name) == 0 &&
                 strcmp(is->port.network, entry->port.network) == 0,
             "port %s", entry->port.name);
        break;
    case VDC_ENTRY_CHANNEL:
        MUST(is->channel.type == entry->channel.type &&
                 is->channel.version == entry->channel.version &&
                 is->channel.bytes == entry->channel.bytes,
             "channel");
        if (blocks || m->touched_entry[e]) {
            compare_blocks(m, (uint16_t)(OWNER_CHANNEL + e), is->channel.blocks,
                           is->channel.blocks_len, "a channel");
        }
        break;
    case VDC_ENTRY_PROMISE:
        MUST(is->promise.incarnation == entry->promise.incarnation, "promise");
        break;
    }
}

static void compare_entries(const struct model *m, const struct vdc_allocdb *db, bool blocks)
{
    struct vdc_id id;
    struct vdc_id partition;
    uint8_t mac[6];
    for (uint32_t i = 0; draw_address(i) != NULL; i++) {
        compare_entry(m, vdc_allocdb_find_device(db, draw_address(i)),
                      model_find_device(m, draw_address(i)), blocks);
    }
    for (uint32_t i = 0; draw_volume_id(i, &id); i++) {
        for (uint32_t k = 0; draw_partition_id(k, &partition); k++) {
            int p = model_find_partition(m, &partition);
            compare_entry(m, vdc_allocdb_find_volume(db, &id, &partition),
                          p == NONE ? NONE : model_find_volume(m, &id, p), blocks);
        }
    }
    for (uint32_t i = 0; draw_mac(i, mac); i++) {
        compare_entry(m, vdc_allocdb_find_port(db, mac), model_find_port(m, mac), blocks);
    }
    for (uint32_t i = 0; draw_channel_id(i, &id); i++) {
        compare_entry(m, vdc_allocdb_find_channel(db, &id), model_find_channel(m, &id), blocks);
    }
    for (int z = 0; z < m->now.zones_len; z++) {
        for (uint32_t i = 0; draw_node_name(i) != NULL; i++) {
            int e = model_find_promise(m, z, draw_node_name(i));
            uint64_t promised = vdc_allocdb_promised(db, m->now.zones[z].name, draw_node_name(i));
            MUST(promised == (e == NONE ? 0 : m->now.entries[e].promise.incarnation),
                 "promise about %s", draw_node_name(i));
        }
    }
    size_t counts[VDC_ENTRY_KIND_COUNT] = {0};
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        counts[m->now.entries[e].kind] += m->now.entries[e].exists;
    }
    for (int k = 0; k < VDC_ENTRY_KIND_COUNT; k++) {
        MUST(vdc_allocdb_count_entries(db, (enum vdc_entry_kind)k) == counts[k], "number of %ss",
             vdc_entry_kind_name((enum vdc_entry_kind)k));
    }
}

void compare_state(const struct model *m, const struct vdc_allocdb *db, bool blocks)
{
    MUST(vdc_allocdb_sequence(db) == m->sequence, "sequence %llu, not %llu",
         ull(vdc_allocdb_sequence(db)), ull(m->sequence));
    compare_zones(m, db);
    compare_cpus(m, db);
    compare_numas(m, db);
    compare_partitions(m, db, blocks);
    compare_entries(m, db, blocks);
}

/* --- the rest, now and then --- */

static void compare_lists(const struct model *m, const struct vdc_allocdb *db)
{
    size_t len;
    vdc_autofree const struct vdc_partition **list = vdc_allocdb_list_partitions(db, &len);
    MUST(len == vdc_allocdb_count_partitions(db), "list of partitions");
    for (size_t i = 1; i < len; i++) {
        int order = strcmp(list[i - 1]->name, list[i]->name);
        MUST(order < 0 || (order == 0 && vdc_id_compare(&list[i - 1]->id, &list[i]->id) < 0),
             "the list of partitions is not sorted");
    }
    for (size_t i = 0; i < len; i++) {
        int p = model_find_partition(m, &list[i]->id);
        MUST(p != NONE, "a partition that nobody made");
        size_t owned = 0;
        size_t entries_len;
        vdc_autofree const struct vdc_entry **entries =
            vdc_allocdb_entries_of(db, list[i], &entries_len);
        for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
            const struct model_entry *entry = &m->now.entries[e];
            owned += entry->exists && (entry->owner == p || entry->peer == p);
        }
        MUST(owned == entries_len, "%s has %zu entries, not %zu", list[i]->name, entries_len,
             owned);
        for (size_t k = 0; k < entries_len; k++) {
            MUST(entries[k]->partition == list[i] || entries[k]->peer == list[i],
                 "an entry of %s is another's", list[i]->name);
        }
    }
    for (int k = 0; k < VDC_ENTRY_KIND_COUNT; k++) {
        vdc_autofree const struct vdc_entry **entries =
            vdc_allocdb_list_entries(db, (enum vdc_entry_kind)k, &len);
        MUST(len == vdc_allocdb_count_entries(db, (enum vdc_entry_kind)k), "list of entries");
        for (size_t i = 0; i < len; i++) {
            MUST(entries[i]->kind == (enum vdc_entry_kind)k, "an entry of another kind");
        }
    }
}

static void compare_claims(const struct model *m, const struct vdc_allocdb *db)
{
    struct vdc_claim is;
    struct vdc_claim last = {0};
    size_t count = 0;
    for (int c = 0; c < MODEL_CLAIMS_MAX; c++) {
        count += m->now.claims[c].exists;
    }
    for (size_t i = 0; i < count; i++) {
        MUST(vdc_allocdb_claim_at(db, i, &is), "claim %zu of %zu", i, count);
        int c = model_find_claim(m, &is.id);
        MUST(c != NONE && (i == 0 || vdc_id_compare(&last.id, &is.id) < 0), "claims");
        const struct model_claim *claim = &m->now.claims[c];
        MUST(strcmp(is.zone, m->now.zones[claim->zone].name) == 0 &&
                 is.partitions == claim->partitions && is.sequence == claim->sequence,
             "a claim's fields");
        last = is;
    }
    MUST(!vdc_allocdb_claim_at(db, count, &is), "a claim more");
}

/* A run draws fewer channels than a view has room for, so all are there. */
static void compare_view_channels(const struct model *m, const struct vdc_view_content *view, int p)
{
    uint32_t ends = 0;
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        const struct model_entry *entry = &m->now.entries[e];
        ends += entry->exists && entry->kind == VDC_ENTRY_CHANNEL &&
                (entry->owner == p || entry->peer == p);
    }
    MUST(view->channels_len == ends && view->channels_total == ends, "view of %d: %u channels", p,
         view->channels_len);
    for (uint32_t i = 0; i < ends; i++) {
        const struct vdc_view_channel *is = &view->channels[i];
        int e = model_find_channel(m, &is->id);
        MUST(e != NONE && (i == 0 || vdc_id_compare(&is[-1].id, &is->id) < 0), "channel %u", i);
        const struct model_entry *entry = &m->now.entries[e];
        int other = is->second ? entry->owner : entry->peer;
        MUST((is->second ? entry->peer : entry->owner) == p &&
                 vdc_id_equal(&is->peer, &m->now.partitions[other].as.id),
             "view of %d: ends of a channel", p);
        MUST(is->type == entry->channel.type && is->version == entry->channel.version &&
                 is->bytes == entry->channel.bytes,
             "view of %d: a channel", p);
        compare_blocks(m, (uint16_t)(OWNER_CHANNEL + e), &view->channel_blocks[is->blocks_at],
                       is->blocks_len, "a view's channel");
    }
}

static void compare_view(const struct model *m, const struct vdc_allocdb *db, int p)
{
    static struct vdc_view_content view;
    const struct model_partition *partition = &m->now.partitions[p];
    const struct vdc_partition *is = vdc_allocdb_find_partition(db, &partition->as.id);
    uint32_t cpus = model_count_held_cpus(m, p);
    vdc_allocdb_fill_view(db, is, &view);
    MUST(vdc_id_equal(&view.partition, &partition->as.id) && view.sequence == m->sequence &&
             view.generation == partition->as.generation &&
             view.incarnation == m->now.zones[partition->zone].incarnation &&
             view.run == partition->as.run && view.kind == partition->as.kind &&
             strcmp(view.name, partition->as.name) == 0,
         "view of %d", p);
    MUST(view.cpus_len == cpus && view.cpu_milli == (cpus > 0 ? cpus * 1000 : partition->shared) &&
             view.vcpus == partition->as.vcpus && view.memory_bytes == partition->held,
         "view of %d: quotas", p);
    compare_blocks(m, (uint16_t)(1 + p), view.blocks, view.blocks_len, "a view");
    compare_view_channels(m, &view, p);
}

static void compare_owners(const struct model *m, const struct vdc_allocdb *db,
                           struct vdc_prng *prng)
{
    for (int i = 0; i < 1000; i++) {
        const struct model_numa *numa = &m->numas[vdc_prng_below(prng, (uint64_t)m->numas_len)];
        if (numa->bytes == 0) {
            continue;
        }
        uint64_t addr = vdc_prng_below(prng, numa->bytes);
        uint16_t owner = memory_owner(numa, addr / PAGE);
        int e = owner >= OWNER_CHANNEL ? owner - OWNER_CHANNEL : NONE;
        int p = owner == 0 ? NONE : e == NONE ? owner - 1 : m->now.entries[e].owner;
        unsigned steps;
        MUST(is_partition(m, vdc_allocdb_memory_owner(db, numa->number, addr, &steps), p),
             "owner of %llu", ull(addr));
        MUST(steps >= 1 && steps <= 3, "%u steps for one address", steps);
        const struct vdc_entry *channel = vdc_allocdb_memory_channel(db, numa->number, addr);
        MUST((channel != NULL) == (e != NONE) &&
                 (e == NONE ||
                  vdc_id_equal(&channel->channel.id, &m->now.entries[e].channel.channel)),
             "channel at %llu", ull(addr));
    }
    for (int n = 0; n < m->numas_len; n++) {
        unsigned steps;
        MUST(vdc_allocdb_memory_owner(db, m->numas[n].number, m->numas[n].bytes, &steps) == NULL &&
                 steps <= 3,
             "somebody owns what is behind the end");
    }
}

void compare_all(const struct model *m, const struct vdc_allocdb *db, struct vdc_prng *prng)
{
    struct vdc_err err = {0};
    MUST(vdc_allocdb_check(db, &err) == VDC_RC_OK, "%s", err.text);
    compare_lists(m, db);
    compare_claims(m, db);
    compare_owners(m, db, prng);
    for (int p = 0; p < MODEL_PARTITIONS_MAX; p++) {
        if (m->now.partitions[p].exists) {
            compare_view(m, db, p);
        }
    }
    for (int z = 0; z < m->now.zones_len; z++) {
        for (int n = 0; n < m->numas_len; n++) {
            MUST(vdc_allocdb_zone_cpus_free(db, m->now.zones[z].name, m->numas[n].number) ==
                     model_count_free_cpus(m, z, n),
                 "free CPUs of a zone");
        }
        MUST(vdc_allocdb_zone_cpus_free(db, m->now.zones[z].name, VDC_NUMA_ANY) ==
                 model_count_free_cpus(m, z, NONE),
             "free CPUs of a zone");
    }
}

/* --- the same state with another history --- */

struct rebuild {
    const struct model *m;
    struct vdc_allocdb *db;
    struct vdc_buf record;
    struct vdc_tx tx;
    struct vdc_op ops[VDC_TX_OPS_MAX];
    void *lists[VDC_TX_OPS_MAX]; /* what the operations point to */
};

static struct vdc_op *add_op(struct rebuild *r, enum vdc_op_kind kind)
{
    VDC_ASSERT(r->tx.ops_len < VDC_TX_OPS_MAX);
    struct vdc_op *op = &r->ops[r->tx.ops_len++];
    memset(op, 0, sizeof(*op));
    op->kind = kind;
    return op;
}

static void *add_list(struct rebuild *r, size_t count, size_t size)
{
    free(r->lists[r->tx.ops_len - 1]);
    r->lists[r->tx.ops_len - 1] = vdc_calloc(count, size);
    return r->lists[r->tx.ops_len - 1];
}

static void begin_tx(struct rebuild *r, int zone)
{
    r->tx = (struct vdc_tx){.ops = r->ops, .role = VDC_ROLE_SYSTEM};
    vdc_str_set(r->tx.zone, sizeof(r->tx.zone), r->m->now.zones[zone].name);
}

static void commit_tx(struct rebuild *r)
{
    struct vdc_tx_result result;
    if (r->tx.ops_len > 0) {
        enum vdc_rc rc = vdc_allocdb_commit(r->db, &r->tx, &result, &r->record);
        MUST(rc == VDC_RC_OK, "the state is there, but can't be made at once: %s", result.text);
    }
}

static void rebuild_inventory(struct rebuild *r)
{
    const struct model *m = r->m;
    struct vdc_numa_info numas[MODEL_NUMAS_MAX];
    begin_tx(r, NODE);
    struct vdc_op_inventory_set *set = &add_op(r, VDC_OP_INVENTORY_SET)->inventory_set;
    struct vdc_cpu_info *infos = add_list(r, (size_t)m->now.cpus_len, sizeof(infos[0]));
    for (int c = 0; c < m->now.cpus_len; c++) {
        infos[c] = m->now.cpus[c].info;
    }
    for (int n = 0; n < m->numas_len; n++) {
        numas[n] =
            (struct vdc_numa_info){.number = m->numas[n].number, .memory_bytes = m->numas[n].bytes};
    }
    *set = (struct vdc_op_inventory_set){.cpus = infos,
                                         .cpus_len = (uint32_t)m->now.cpus_len,
                                         .numa = numas,
                                         .numa_len = (uint32_t)m->numas_len};
    commit_tx(r);
}

/* What a share comes to now. */
static uint64_t amount_of(const struct vdc_share *share, uint64_t whole)
{
    return share->milli != 0 ? whole * share->milli / 1000 : share->amount;
}

/* After another inventory a share may say something else than what the zone has. */
static bool zone_says_what_it_has(const struct model *m, int z)
{
    const struct model_zone *zone = &m->now.zones[z];
    uint64_t memory = amount_of(&zone->memory_share, m->now.memory_bytes) / PAGE * PAGE;
    bool names_cpus = model_count_cpus(m, z) > 0;
    return !zone->joined ||
           (memory == zone->memory_bytes &&
            (names_cpus || amount_of(&zone->cpu_share, (uint64_t)m->now.cpus_len) == 0));
}

static void rebuild_zone(struct rebuild *r, int z)
{
    const struct model *m = r->m;
    const struct model_zone *zone = &m->now.zones[z];
    begin_tx(r, z);
    if (z != NODE) {
        struct vdc_op_zone_set *set = &add_op(r, VDC_OP_ZONE_SET)->zone_set;
        uint16_t *cpus = add_list(r, MODEL_CPUS_MAX, sizeof(cpus[0]));
        set->overcommit_milli = zone->overcommit;
        set->cpu = zone->cpu_share;
        set->memory = zone->memory_share;
        set->cpus = cpus;
        for (int c = 0; c < m->now.cpus_len; c++) {
            if (m->now.cpus[c].zone == z) {
                cpus[set->cpus_len++] = m->now.cpus[c].info.number;
            }
        }
    }
    if (zone->incarnation > 0) {
        add_op(r, VDC_OP_INCARNATION_SET)->incarnation_set.incarnation = zone->incarnation;
    }
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        const struct model_entry *entry = &m->now.entries[e];
        if (entry->exists && entry->kind == VDC_ENTRY_PROMISE && entry->zone == z) {
            add_op(r, VDC_OP_FENCE_PROMISE)->fence_promise = entry->promise;
        }
    }
    if (!zone->joined) {
        (void)add_op(r, VDC_OP_ZONE_LEAVE);
    }
    commit_tx(r);
}

static void rebuild_epoch(struct rebuild *r, int z)
{
    begin_tx(r, z);
    if (r->m->now.zones[z].epoch > 0) {
        r->tx.role = VDC_ROLE_COMMAND;
        r->tx.epoch = r->m->now.zones[z].epoch;
        (void)add_op(r, VDC_OP_ZONE_EPOCH);
        commit_tx(r);
    }
}

static void rebuild_devices(struct rebuild *r)
{
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        const struct model_entry *entry = &r->m->now.entries[e];
        if (!entry->exists || entry->kind != VDC_ENTRY_DEVICE) {
            continue;
        }
        begin_tx(r, NODE);
        add_op(r, VDC_OP_DEVICE_ADD)->device_add = entry->device;
        if (entry->zone != NODE) {
            struct vdc_op_zone_transfer *give = &add_op(r, VDC_OP_ZONE_TRANSFER)->zone_transfer;
            vdc_str_set(give->to, sizeof(give->to), r->m->now.zones[entry->zone].name);
            vdc_str_set(give->device, sizeof(give->device), entry->device.address);
        }
        commit_tx(r);
    }
}

static void add_holdings(struct rebuild *r, int p)
{
    const struct model *m = r->m;
    const struct model_partition *partition = &m->now.partitions[p];
    const struct vdc_id *id = &partition->as.id;
    if (model_count_held_cpus(m, p) > 0) {
        struct vdc_op_cpu_assign *assign = &add_op(r, VDC_OP_CPU_ASSIGN)->cpu_assign;
        uint16_t *cpus = add_list(r, MODEL_CPUS_MAX, sizeof(cpus[0]));
        *assign = (struct vdc_op_cpu_assign){.id = *id, .cpus = cpus, .numa = VDC_NUMA_ANY};
        for (int c = 0; c < m->now.cpus_len; c++) {
            if (m->now.cpus[c].owner == p) {
                cpus[assign->cpus_len++] = m->now.cpus[c].info.number;
            }
        }
    }
    if (partition->shared > 0) {
        add_op(r, VDC_OP_CPU_ASSIGN)->cpu_assign = (struct vdc_op_cpu_assign){
            .id = *id, .shared_milli = partition->shared, .numa = VDC_NUMA_ANY};
    }
    if (partition->held > 0) {
        struct vdc_op_memory_assign *assign = &add_op(r, VDC_OP_MEMORY_ASSIGN)->memory_assign;
        struct vdc_memory_block *blocks = add_list(r, VDC_VIEW_BLOCKS_MAX, sizeof(blocks[0]));
        *assign = (struct vdc_op_memory_assign){
            .id = *id, .bytes = partition->held, .numa = VDC_NUMA_ANY, .blocks = blocks};
        assign->blocks_len = memory_runs(m, (uint16_t)(1 + p), blocks, VDC_VIEW_BLOCKS_MAX);
    }
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        const struct model_entry *entry = &m->now.entries[e];
        if (!entry->exists || entry->owner != p) {
            continue;
        }
        if (entry->kind == VDC_ENTRY_DEVICE) {
            struct vdc_op_device_attach *attach = &add_op(r, VDC_OP_DEVICE_ATTACH)->device_attach;
            attach->id = *id;
            vdc_str_set(attach->address, sizeof(attach->address), entry->device.address);
        } else if (entry->kind == VDC_ENTRY_PORT) {
            add_op(r, VDC_OP_PORT_CONNECT)->port_connect = entry->port;
        }
    }
}

/* The volume's use of the lowest generation that is at least `from`; NONE: no more. */
static int next_volume(const struct model *m, int p, uint64_t from)
{
    int next = NONE;
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        const struct model_entry *entry = &m->now.entries[e];
        if (entry->exists && entry->kind == VDC_ENTRY_VOLUME && entry->owner == p &&
            entry->volume.generation >= from &&
            (next == NONE || entry->volume.generation < m->now.entries[next].volume.generation)) {
            next = e;
        }
    }
    return next;
}

static void move_generation(struct rebuild *r, const struct vdc_id *id, uint64_t *at, uint64_t to)
{
    if (to > *at) {
        add_op(r, VDC_OP_PARTITION_SET_GENERATION)->partition_set_generation =
            (struct vdc_op_partition_set_generation){.id = *id, .generation = *at, .next = to};
        *at = to;
    }
}

/* Volumes carry the generation in which they were attached: the partition goes through them again. */
static void add_partition(struct rebuild *r, int p)
{
    const struct model *m = r->m;
    const struct model_partition *partition = &m->now.partitions[p];
    int first = next_volume(m, p, 0);
    uint64_t at = partition->as.generation;
    at = first == NONE ? at : VDC_MIN(at, m->now.entries[first].volume.generation);
    struct vdc_op_partition_create *create = &add_op(r, VDC_OP_PARTITION_CREATE)->partition_create;
    *create = partition->as;
    create->generation = at;
    for (int e = first; e != NONE; e = next_volume(m, p, at + 1)) {
        move_generation(r, &partition->as.id, &at, m->now.entries[e].volume.generation);
        for (int other = 0; other < MODEL_ENTRIES_MAX; other++) {
            const struct model_entry *entry = &m->now.entries[other];
            if (entry->exists && entry->kind == VDC_ENTRY_VOLUME && entry->owner == p &&
                entry->volume.generation == at) {
                add_op(r, VDC_OP_VOLUME_ATTACH)->volume_attach = entry->volume;
            }
        }
    }
    move_generation(r, &partition->as.id, &at, partition->as.generation);
    add_holdings(r, p);
}

/* The channels whose first endpoint is real (claim none) or of the claim. */
static void add_channels(struct rebuild *r, const struct vdc_id *claim, int zone)
{
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        const struct model_entry *entry = &r->m->now.entries[e];
        if (!entry->exists || entry->kind != VDC_ENTRY_CHANNEL || entry->zone != zone ||
            !vdc_id_equal(&r->m->now.partitions[entry->owner].claim, claim)) {
            continue;
        }
        struct vdc_op_channel_connect *connect =
            &add_op(r, VDC_OP_CHANNEL_CONNECT)->channel_connect;
        struct vdc_memory_block *blocks = add_list(r, VDC_CHANNEL_BLOCKS_MAX, sizeof(blocks[0]));
        *connect = entry->channel;
        connect->numa = VDC_NUMA_ANY;
        connect->blocks = blocks;
        connect->blocks_len =
            memory_runs(r->m, (uint16_t)(OWNER_CHANNEL + e), blocks, VDC_CHANNEL_BLOCKS_MAX);
    }
}

static void rebuild_partitions(struct rebuild *r)
{
    const struct model *m = r->m;
    static const struct vdc_id none;
    for (int p = MODEL_PARTITIONS_MAX - 1; p >= 0; p--) {
        if (m->now.partitions[p].exists && vdc_id_is_none(&m->now.partitions[p].claim)) {
            begin_tx(r, m->now.partitions[p].zone);
            add_partition(r, p);
            commit_tx(r);
        }
    }
    for (int z = 0; z < m->now.zones_len; z++) {
        begin_tx(r, z);
        add_channels(r, &none, z);
        commit_tx(r);
    }
    for (int c = 0; c < MODEL_CLAIMS_MAX; c++) {
        const struct model_claim *claim = &m->now.claims[c];
        if (!claim->exists) {
            continue;
        }
        begin_tx(r, claim->zone);
        r->tx.kind = VDC_TX_PREPARE;
        r->tx.claim = claim->id;
        for (int p = 0; p < MODEL_PARTITIONS_MAX; p++) {
            if (m->now.partitions[p].exists &&
                vdc_id_equal(&m->now.partitions[p].claim, &claim->id)) {
                add_partition(r, p);
            }
        }
        add_channels(r, &claim->id, claim->zone);
        commit_tx(r);
    }
}

bool compare_rebuilt(const struct model *m, const struct vdc_allocdb *db)
{
    for (int z = 0; z < m->now.zones_len; z++) {
        if (z != NODE && !zone_says_what_it_has(m, z)) {
            return false;
        }
    }
    struct rebuild *r = VDC_NEW(struct rebuild);
    struct vdc_err err = {0};
    r->m = m;
    r->db = vdc_allocdb_create();
    rebuild_inventory(r);
    /* Backwards, so that the zones have other numbers than there. */
    for (int z = m->now.zones_len - 1; z >= 0; z--) {
        rebuild_zone(r, z);
    }
    rebuild_devices(r);
    rebuild_partitions(r);
    for (int z = 0; z < m->now.zones_len; z++) {
        rebuild_epoch(r, z);
    }
    struct vdc_digest is = vdc_allocdb_digest(db);
    struct vdc_digest must = vdc_allocdb_digest(r->db);
    MUST(vdc_digest_equal(&is, &must), "the same state after another history, another digest");
    MUST(vdc_allocdb_check(r->db, &err) == VDC_RC_OK, "rebuilt: %s", err.text);
    vdc_allocdb_destroy(r->db);
    vdc_buf_deinit(&r->record);
    for (size_t i = 0; i < VDC_COUNT_OF(r->lists); i++) {
        free(r->lists[i]);
    }
    free(r);
    return true;
}
