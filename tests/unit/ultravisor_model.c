/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The database against a naive model: flat arrays, linear search, nothing shared with the database
 * but its interface. Random transactions of one to four operations; the model says beforehand which
 * operation is refused by which rule, and afterwards every counter, partition and page must agree.
 * The one thing that the model takes from the database is *which* pages of memory it chose; it
 * checks that they were free, and derives from them what fits later.
 *
 * VDC_MODEL_OPS and VDC_MODEL_SEED make longer and other runs.
 */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <vdc/prng.h>

#include "ultravisor_support.h"

#define OPS_DEFAULT 120000
#define SEED_DEFAULT 20261122
#define IDS 40
#define CPUS 8
#define NUMAS 2
#define ZONES 2 /* besides the node's own slice */
#define PAGE (4 * KIB)
#define PAGES (NUMA_BYTES / PAGE)
#define CHUNK_PAGES 512
#define CHUNKS ((PAGES + CHUNK_PAGES - 1) / CHUNK_PAGES)
#define NODE ZONES /* number of the node's own slice */

static const uint16_t CPU_NUMBERS[CPUS] = {0, 1, 2, 3, 4, 5, 6, 9};
static const char *const ZONE_NAMES[ZONES + 1] = {"prod", "test", ""};

struct model_partition {
    bool exists;
    bool system;
    int zone;
    uint64_t generation;
    enum vdc_run run;
    uint32_t shared;
    uint64_t pages;
};

/* Small enough to be copied before each transaction and put back after a refusal. */
struct model {
    struct model_partition p[IDS];
    int cpu_zone[CPUS];
    int cpu_owner[CPUS]; /* -1: none */
    uint64_t slice_pages[ZONES + 1];
    uint32_t overcommit[ZONES];
    uint64_t epoch[ZONES];
};

static struct model model;
static uint8_t page_owner[NUMAS][PAGES]; /* 0: free, else 1 + id */
static uint16_t chunk_used[NUMAS][CHUNKS];
static struct vdc_prng prng;

static uint64_t below(uint64_t bound)
{
    return vdc_prng_below(&prng, bound);
}

/* --- what the model knows, counted from its arrays --- */

static uint32_t count_cpus(int zone, int numa, bool free_only)
{
    uint32_t count = 0;
    for (int c = 0; c < CPUS; c++) {
        bool in_numa = numa < 0 || CPU_NUMBERS[c] % 2 == numa;
        count += model.cpu_zone[c] == zone && in_numa && (!free_only || model.cpu_owner[c] < 0);
    }
    return count;
}

static uint32_t held_cpus(int id)
{
    uint32_t count = 0;
    for (int c = 0; c < CPUS; c++) {
        count += model.cpu_owner[c] == id;
    }
    return count;
}

static uint64_t shared_used(int zone)
{
    uint64_t sum = 0;
    for (int i = 0; i < IDS; i++) {
        sum += model.p[i].exists && model.p[i].zone == zone ? model.p[i].shared : 0;
    }
    return sum;
}

static uint64_t pages_used(int zone)
{
    uint64_t sum = 0;
    for (int i = 0; i < IDS; i++) {
        sum += model.p[i].exists && model.p[i].zone == zone ? model.p[i].pages : 0;
    }
    return sum;
}

static uint64_t capacity(int zone)
{
    return (uint64_t)count_cpus(zone, -1, true) * model.overcommit[zone];
}

/* Pages of one NUMA node that an allocation in chunks (or single pages) can use. */
static uint64_t usable_pages(int numa, bool chunks)
{
    uint64_t count = 0;
    for (uint64_t c = 0; c < CHUNKS; c++) {
        uint64_t size = VDC_MIN((uint64_t)CHUNK_PAGES, PAGES - c * CHUNK_PAGES);
        if (!chunks) {
            count += size - chunk_used[numa][c];
        } else if (size == CHUNK_PAGES && chunk_used[numa][c] == 0) {
            count += CHUNK_PAGES;
        }
    }
    return count;
}

/* --- one operation on the model: OK or the rule --- */

static enum vdc_tx_rule model_share(int id, uint32_t milli)
{
    struct model_partition *p = &model.p[id];
    if (held_cpus(id) > 0) {
        return VDC_RULE_CPU_FORM;
    }
    if (shared_used(p->zone) + milli > capacity(p->zone)) {
        return VDC_RULE_CPU_POOL;
    }
    p->shared += milli;
    return VDC_RULE_NONE;
}

static enum vdc_tx_rule model_any(int id, uint32_t any, int numa)
{
    struct model_partition *p = &model.p[id];
    if (any > count_cpus(p->zone, numa, true)) {
        return VDC_RULE_CPU_FREE;
    }
    if (p->shared > 0) {
        return VDC_RULE_CPU_FORM;
    }
    for (int c = 0; c < CPUS && any > 0; c++) {
        if (model.cpu_zone[c] == p->zone && model.cpu_owner[c] < 0 &&
            (numa < 0 || CPU_NUMBERS[c] % 2 == numa)) {
            model.cpu_owner[c] = id;
            any--;
        }
    }
    return shared_used(p->zone) > capacity(p->zone) ? VDC_RULE_CPU_POOL : VDC_RULE_NONE;
}

static enum vdc_tx_rule model_named(int id, int c)
{
    struct model_partition *p = &model.p[id];
    if (p->shared > 0) {
        return VDC_RULE_CPU_FORM;
    }
    if (model.cpu_zone[c] != p->zone || model.cpu_owner[c] >= 0) {
        return VDC_RULE_CPU_BUSY;
    }
    model.cpu_owner[c] = id;
    return shared_used(p->zone) > capacity(p->zone) ? VDC_RULE_CPU_POOL : VDC_RULE_NONE;
}

static enum vdc_tx_rule model_memory(int id, uint64_t pages, int numa)
{
    struct model_partition *p = &model.p[id];
    uint64_t usable = 0;
    for (int n = 0; n < NUMAS; n++) {
        usable += numa < 0 || numa == n ? usable_pages(n, !p->system) : 0;
    }
    if (pages_used(p->zone) + pages > model.slice_pages[p->zone]) {
        return VDC_RULE_MEMORY_SLICE;
    }
    if (pages > usable) {
        return VDC_RULE_MEMORY_FREE;
    }
    p->pages += pages;
    return VDC_RULE_NONE;
}

static void model_drop(int id)
{
    for (int c = 0; c < CPUS; c++) {
        model.cpu_owner[c] = model.cpu_owner[c] == id ? -1 : model.cpu_owner[c];
    }
    model.p[id] = (struct model_partition){0};
}

static enum vdc_tx_rule model_zone_set(int zone, const struct vdc_op_zone_set *set)
{
    uint32_t wanted = (uint32_t)set->cpu.amount;
    uint64_t pages = set->memory.amount / PAGE;
    model.overcommit[zone] = set->overcommit_milli;
    for (int c = CPUS - 1; c >= 0 && count_cpus(zone, -1, false) > wanted; c--) {
        if (model.cpu_zone[c] == zone && model.cpu_owner[c] < 0) {
            model.cpu_zone[c] = NODE;
        }
    }
    for (int c = 0; c < CPUS && count_cpus(zone, -1, false) < wanted; c++) {
        if (model.cpu_zone[c] == NODE) {
            model.cpu_zone[c] = zone;
        }
    }
    if (count_cpus(zone, -1, false) != wanted) {
        return VDC_RULE_SLICE_CPU;
    }
    if (shared_used(zone) > capacity(zone)) {
        return VDC_RULE_CPU_POOL;
    }
    if (pages < pages_used(zone)) {
        return VDC_RULE_IN_USE;
    }
    uint64_t others = model.slice_pages[1 - zone];
    if (pages + others > NUMAS * PAGES) {
        return VDC_RULE_SLICE_MEMORY;
    }
    model.slice_pages[zone] = pages;
    model.slice_pages[NODE] = NUMAS * PAGES - pages - others;
    return VDC_RULE_NONE;
}

static int id_number(const struct vdc_id *id)
{
    return id->bytes[0];
}

/* The partition that an operation names must be there and the zone's. */
static enum vdc_tx_rule model_find(const struct vdc_id *id, int zone)
{
    const struct model_partition *p = &model.p[id_number(id)];
    if (!p->exists) {
        return VDC_RULE_UNKNOWN_PARTITION;
    }
    return p->zone == zone ? VDC_RULE_NONE : VDC_RULE_ZONE;
}

static enum vdc_tx_rule model_guarded(const struct vdc_id *id, uint64_t generation, int zone)
{
    enum vdc_tx_rule rule = model_find(id, zone);
    bool stale = rule == VDC_RULE_NONE && model.p[id_number(id)].generation != generation;
    return stale ? VDC_RULE_GENERATION : rule;
}

static int cpu_of_number(uint16_t number)
{
    int c = 0;
    while (CPU_NUMBERS[c] != number) {
        c++;
    }
    return c;
}

static enum vdc_tx_rule model_apply(const struct vdc_op *op, int zone)
{
    enum vdc_tx_rule rule = VDC_RULE_NONE;
    const struct vdc_op_partition_create *create = &op->partition_create;
    const struct vdc_op_cpu_assign *assign = &op->cpu_assign;
    const struct vdc_op_memory_assign *memory = &op->memory_assign;
    int numa;
    switch (op->kind) {
    case VDC_OP_ZONE_SET:
        return model_zone_set(zone, &op->zone_set);
    case VDC_OP_PARTITION_CREATE:
        if (model.p[id_number(&create->id)].exists) {
            return VDC_RULE_PARTITION_EXISTS;
        }
        model.p[id_number(&create->id)] =
            (struct model_partition){.exists = true,
                                     .system = create->kind == VDC_PARTITION_SYSTEM,
                                     .zone = zone,
                                     .generation = create->generation,
                                     .run = create->run};
        return VDC_RULE_NONE;
    case VDC_OP_PARTITION_SET_RUN:
        rule = model_guarded(&op->partition_set_run.id, op->partition_set_run.generation, zone);
        if (rule == VDC_RULE_NONE) {
            model.p[id_number(&op->partition_set_run.id)].run = op->partition_set_run.run;
        }
        return rule;
    case VDC_OP_PARTITION_SET_GENERATION:
        rule = model_guarded(&op->partition_set_generation.id,
                             op->partition_set_generation.generation, zone);
        if (rule == VDC_RULE_NONE) {
            model.p[id_number(&op->partition_set_generation.id)].generation =
                op->partition_set_generation.next;
        }
        return rule;
    case VDC_OP_PARTITION_DESTROY:
        rule = model_guarded(&op->partition_destroy.id, op->partition_destroy.generation, zone);
        if (rule == VDC_RULE_NONE) {
            model_drop(id_number(&op->partition_destroy.id));
        }
        return rule;
    case VDC_OP_CPU_ASSIGN:
        rule = model_find(&assign->id, zone);
        if (rule != VDC_RULE_NONE) {
            return rule;
        }
        numa = assign->numa == VDC_NUMA_ANY ? -1 : (int)assign->numa;
        if (assign->shared_milli > 0) {
            return model_share(id_number(&assign->id), assign->shared_milli);
        }
        return assign->any > 0
                   ? model_any(id_number(&assign->id), assign->any, numa)
                   : model_named(id_number(&assign->id), cpu_of_number(assign->cpus[0]));
    case VDC_OP_CPU_RELEASE:
        rule = model_find(&op->cpu_release.id, zone);
        for (int c = 0; rule == VDC_RULE_NONE && c < CPUS; c++) {
            bool own = model.cpu_owner[c] == id_number(&op->cpu_release.id);
            model.cpu_owner[c] = own ? -1 : model.cpu_owner[c];
        }
        if (rule == VDC_RULE_NONE) {
            model.p[id_number(&op->cpu_release.id)].shared = 0;
        }
        return rule;
    case VDC_OP_MEMORY_ASSIGN:
        rule = model_find(&memory->id, zone);
        numa = memory->numa == VDC_NUMA_ANY ? -1 : (int)memory->numa;
        if (rule == VDC_RULE_NONE && !model.p[id_number(&memory->id)].system &&
            memory->bytes % (2 * MIB) != 0) {
            return VDC_RULE_MEMORY_PAGE;
        }
        return rule != VDC_RULE_NONE
                   ? rule
                   : model_memory(id_number(&memory->id), memory->bytes / PAGE, numa);
    case VDC_OP_MEMORY_RELEASE:
        rule = model_find(&op->memory_release.id, zone);
        if (rule == VDC_RULE_NONE) {
            model.p[id_number(&op->memory_release.id)].pages = 0;
        }
        return rule;
    case VDC_OP_INVENTORY_SET:
    case VDC_OP_ZONE_LEAVE:
    case VDC_OP_ZONE_EPOCH:
    case VDC_OP_INCARNATION_SET:
    case VDC_OP_PARTITION_SET_CONFIG:
    case VDC_OP_DEVICE_ADD: /* these and the following: ultravisor_entries_model.c */
    case VDC_OP_DEVICE_REMOVE:
    case VDC_OP_DEVICE_ATTACH:
    case VDC_OP_DEVICE_DETACH:
    case VDC_OP_VOLUME_ATTACH:
    case VDC_OP_VOLUME_DETACH:
    case VDC_OP_PORT_CONNECT:
    case VDC_OP_PORT_DISCONNECT:
    case VDC_OP_CHANNEL_CONNECT:
    case VDC_OP_CHANNEL_DISCONNECT:
    case VDC_OP_FENCE_PROMISE:
    case VDC_OP_ZONE_TRANSFER:
        break;
    }
    cr_assert_fail("not drawn");
    return VDC_RULE_FORM;
}

/* --- drawing --- */

static struct vdc_op draw_memory(uint64_t id)
{
    uint32_t numa = below(2) == 0 ? VDC_NUMA_ANY : (uint32_t)below(NUMAS);
    uint64_t bytes;
    if (model.p[id].system) {
        bytes = PAGE * (1 + below(1200));
    } else if (below(100) == 0) {
        bytes = GIB + 2 * MIB * below(600);
    } else {
        bytes = 2 * MIB * (1 + below(100)) + (below(50) == 0 ? PAGE : 0);
    }
    return op_memory(id, numa, bytes);
}

static struct vdc_op draw_op(bool may_memory, uint16_t *cpu)
{
    uint64_t id = below(IDS);
    uint64_t generation = model.p[id].generation + (below(30) == 0);
    generation = generation == 0 ? 1 : generation;
    struct vdc_op op = {0};
    switch (below(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
        op = op_create(id, "p");
        op.partition_create.kind = below(3) == 0 ? VDC_PARTITION_SYSTEM : VDC_PARTITION_GUEST;
        op.partition_create.generation = 1 + below(3);
        return op;
    case 4:
    case 5:
        return op_shared(id, 1 + (uint32_t)below(3000));
    case 6:
        return op_any(id, 1 + (uint32_t)below(2),
                      below(2) == 0 ? VDC_NUMA_ANY : (uint32_t)below(2));
    case 7:
        *cpu = CPU_NUMBERS[below(CPUS)];
        op.kind = VDC_OP_CPU_ASSIGN;
        op.cpu_assign = (struct vdc_op_cpu_assign){.id = id_of(id), .cpus = cpu, .cpus_len = 1};
        return op;
    case 8:
    case 9:
    case 10:
        return may_memory ? draw_memory(id) : op_run(id, generation, (enum vdc_run)below(4));
    case 11:
        op.kind = VDC_OP_CPU_RELEASE;
        op.cpu_release = (struct vdc_op_cpu_release){.id = id_of(id)};
        return op;
    case 12:
        if (!may_memory) {
            return op_run(id, generation, (enum vdc_run)below(4));
        }
        op.kind = VDC_OP_MEMORY_RELEASE;
        op.memory_release = (struct vdc_op_memory_release){.id = id_of(id)};
        return op;
    case 13:
        op.kind = VDC_OP_PARTITION_SET_GENERATION;
        op.partition_set_generation = (struct vdc_op_partition_set_generation){
            .id = id_of(id), .generation = generation, .next = generation + 1};
        return op;
    case 14:
        if (may_memory && below(8) == 0) {
            op = op_zone_set(0, 0, 1000 + (uint32_t)below(4000));
            op.zone_set.cpu.amount = below(CPUS);
            op.zone_set.memory.amount = PAGE * below(NUMAS * PAGES);
            return op;
        }
        return op_run(id, generation, (enum vdc_run)below(4));
    default:
        return op_destroy(id, generation);
    }
}

static bool touches_memory(const struct vdc_op *op)
{
    return op->kind == VDC_OP_MEMORY_ASSIGN || op->kind == VDC_OP_MEMORY_RELEASE ||
           op->kind == VDC_OP_PARTITION_DESTROY;
}

/* --- comparing --- */

/* Brings the pages of every partition up to what the database says, checking as it goes. */
static void take_over_pages(struct bench *b, int id)
{
    struct vdc_id key = id_of((uint64_t)id);
    const struct vdc_partition *p = vdc_allocdb_find_partition(b->db, &key);
    /* Free what the model believes to be its own, then take what the database says. */
    for (int n = 0; n < NUMAS; n++) {
        for (uint64_t at = 0; at < PAGES; at++) {
            if (page_owner[n][at] == id + 1) {
                page_owner[n][at] = 0;
                chunk_used[n][at / CHUNK_PAGES]--;
            }
        }
    }
    uint64_t pages = 0;
    for (uint32_t i = 0; p != NULL && i < p->blocks_len; i++) {
        const struct vdc_memory_block *block = &p->blocks[i];
        cr_assert_leq(block->addr + block->bytes, NUMA_BYTES);
        for (uint64_t at = block->addr / PAGE; at < (block->addr + block->bytes) / PAGE; at++) {
            cr_assert_eq(page_owner[block->numa][at], 0, "page %lu belongs to two",
                         (unsigned long)at);
            page_owner[block->numa][at] = (uint8_t)(id + 1);
            chunk_used[block->numa][at / CHUNK_PAGES]++;
            pages++;
        }
    }
    cr_assert_eq(pages, model.p[id].pages);
}

static void compare_zones(struct bench *b)
{
    for (int z = 0; z < ZONES; z++) {
        const struct vdc_zone_slice *zone = vdc_allocdb_find_zone(b->db, ZONE_NAMES[z]);
        cr_assert_eq(zone->cpus, count_cpus(z, -1, false));
        cr_assert_eq(zone->cpus - zone->cpus_dedicated, count_cpus(z, -1, true));
        cr_assert_eq(zone->shared_capacity_milli, capacity(z));
        cr_assert_eq(zone->shared_used_milli, shared_used(z));
        cr_assert_eq(zone->memory_bytes, model.slice_pages[z] * PAGE);
        cr_assert_eq(zone->memory_used_bytes, pages_used(z) * PAGE);
        cr_assert_eq(zone->epoch, model.epoch[z]);
        cr_assert_leq(zone->shared_used_milli, zone->shared_capacity_milli);
    }
    for (int c = 0; c < CPUS; c++) {
        const struct vdc_partition *owner = vdc_allocdb_cpu_owner(b->db, CPU_NUMBERS[c]);
        cr_assert_eq(owner == NULL ? -1 : id_number(&owner->id), model.cpu_owner[c]);
    }
}

static void compare_all(struct bench *b)
{
    struct vdc_err err = {0};
    uint32_t exist = 0;
    for (int i = 0; i < IDS; i++) {
        struct vdc_id key = id_of((uint64_t)i);
        const struct vdc_partition *p = vdc_allocdb_find_partition(b->db, &key);
        const struct model_partition *m = &model.p[i];
        cr_assert_eq(p != NULL, m->exists);
        exist += m->exists;
        if (p != NULL) {
            cr_assert_str_eq(p->zone, ZONE_NAMES[m->zone]);
            cr_assert(p->generation == m->generation && p->run == m->run &&
                      p->shared_milli == m->shared && p->cpus_len == held_cpus(i) &&
                      p->held_bytes == m->pages * PAGE);
        }
    }
    cr_assert_eq(vdc_allocdb_count_partitions(b->db), exist);
    for (uint32_t n = 0; n < NUMAS; n++) {
        for (int i = 0; i < 200; i++) {
            uint64_t at = below(PAGES);
            unsigned steps;
            const struct vdc_partition *owner =
                vdc_allocdb_memory_owner(b->db, n, at * PAGE + below(PAGE), &steps);
            cr_assert_eq(owner == NULL ? 0 : id_number(&owner->id) + 1, page_owner[n][at]);
            cr_assert_leq(steps, 3);
        }
    }
    cr_assert_eq(vdc_allocdb_check(b->db, &err), VDC_RC_OK, "%s", err.text);
    cr_assert_eq(vdc_allocdb_check(b->replica, &err), VDC_RC_OK, "%s", err.text);
}

/* The replica becomes what its snapshot restores to: choices must not depend on what is lost. */
static void restart_replica(struct bench *b)
{
    struct vdc_buf mine = {0};
    struct vdc_buf theirs = {0};
    struct vdc_err err = {0};
    struct vdc_allocdb *restored;
    vdc_allocdb_snapshot(b->db, &mine);
    vdc_allocdb_snapshot(b->replica, &theirs);
    cr_assert_eq(mine.len, theirs.len);
    cr_assert_eq(memcmp(mine.data, theirs.data, mine.len), 0, "snapshots of equal states differ");
    cr_assert_eq(vdc_allocdb_restore(theirs.data, theirs.len, &restored, &err), VDC_RC_OK, "%s",
                 err.text);
    vdc_allocdb_destroy(b->replica);
    b->replica = restored;
    vdc_buf_deinit(&mine);
    vdc_buf_deinit(&theirs);
}

static uint64_t number_of_env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t number;
    return text != NULL && vdc_parse_u64(text, UINT64_MAX, &number) ? number : otherwise;
}

static void feed_replica(struct bench *b)
{
    struct vdc_err err = {0};
    if (b->record.len == 0) {
        return;
    }
    enum vdc_rc rc = vdc_allocdb_apply_record(b->replica, b->record.data, b->record.len, &err);
    cr_assert_eq(rc, VDC_RC_OK, "%s", err.text);
    struct vdc_digest x = vdc_allocdb_digest(b->db);
    struct vdc_digest y = vdc_allocdb_digest(b->replica);
    cr_assert(vdc_digest_equal(&x, &y));
}

static uint64_t refusals;

/* One transaction; returns its number of operations. */
static uint32_t step(struct bench *b)
{
    int zone = (int)below(ZONES);
    uint32_t len = 1 + (uint32_t)below(4);
    struct vdc_op ops[4];
    uint16_t cpus[4];
    bool may_memory = true;
    for (uint32_t i = 0; i < len; i++) {
        ops[i] = draw_op(may_memory, &cpus[i]);
        /* What this one takes or frees is known to the model only afterwards. */
        may_memory = may_memory && !touches_memory(&ops[i]);
    }
    struct vdc_tx tx = tx_of(b, ops, len);
    vdc_str_set(tx.zone, sizeof(tx.zone), ZONE_NAMES[zone]);
    tx.epoch = model.epoch[zone] + (below(100) == 0);
    struct model before = model;
    enum vdc_tx_rule rule = VDC_RULE_NONE;
    uint32_t failed = VDC_TX_OP_NONE;
    for (uint32_t i = 0; i < len && rule == VDC_RULE_NONE; i++) {
        rule = model_apply(&ops[i], zone);
        failed = rule == VDC_RULE_NONE ? VDC_TX_OP_NONE : i;
    }
    (void)vdc_allocdb_commit(b->db, &tx, &b->result, &b->record);
    cr_assert_eq(b->result.rule, rule, "%s, not %s: %s", vdc_tx_rule_name(b->result.rule),
                 vdc_tx_rule_name(rule), b->result.text);
    cr_assert_eq(b->result.op, failed);
    feed_replica(b);
    if (rule != VDC_RULE_NONE) {
        refusals++;
        model = before;
    }
    if (b->record.len > 0) {
        model.epoch[zone] = tx.epoch;
    }
    for (uint32_t i = 0; i < len && rule == VDC_RULE_NONE; i++) {
        if (touches_memory(&ops[i])) {
            const struct vdc_id *id = ops[i].kind == VDC_OP_MEMORY_ASSIGN ? &ops[i].memory_assign.id
                                      : ops[i].kind == VDC_OP_MEMORY_RELEASE
                                          ? &ops[i].memory_release.id
                                          : &ops[i].partition_destroy.id;
            take_over_pages(b, id_number(id));
        }
    }
    compare_zones(b);
    return len;
}

static void init_model(struct bench *b)
{
    bench_init(b);
    for (int c = 0; c < CPUS; c++) {
        model.cpu_owner[c] = -1;
        model.cpu_zone[c] = 0;
    }
    struct vdc_op half = op_zone_set(0, 0, 4000);
    half.zone_set.cpu.amount = 4;
    half.zone_set.memory.amount = NUMA_BYTES;
    for (int z = 0; z < ZONES; z++) {
        struct vdc_tx tx = tx_of(b, &half, 1);
        vdc_str_set(tx.zone, sizeof(tx.zone), ZONE_NAMES[z]);
        cr_assert_eq(commit_tx(b, &tx), VDC_RC_OK, "%s", b->result.text);
        model.slice_pages[z] = PAGES;
        model.overcommit[z] = 4000;
        model.epoch[z] = 1;
    }
    for (int c = 4; c < CPUS; c++) {
        model.cpu_zone[c] = 1;
    }
}

Test(ultravisor_model, agrees_with_a_naive_model_after_each_of_many_random_operations)
{
    struct bench b;
    uint64_t seed = number_of_env("VDC_MODEL_SEED", SEED_DEFAULT);
    uint64_t ops_max = number_of_env("VDC_MODEL_OPS", OPS_DEFAULT);
    (void)fprintf(stderr, "seed %lu\n", (unsigned long)seed);
    vdc_prng_init(&prng, seed);
    init_model(&b);
    compare_all(&b);
    uint64_t ops = 0;
    uint64_t txs = 0;
    while (ops < ops_max) {
        ops += step(&b);
        if (++txs % 500 == 0) {
            compare_all(&b);
        }
        if (txs % 5000 == 0) {
            restart_replica(&b);
        }
    }
    compare_all(&b);
    cr_assert_gt(refusals, txs / 20, "too few refusals to mean anything");
    cr_assert_lt(refusals, txs * 19 / 20, "too few successes to mean anything");
    bench_deinit(&b);
}
