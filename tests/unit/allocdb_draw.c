/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random transactions. They are drawn with a look at the model, so that most do something, and from
 * small sets of ids, names and numbers, so that they meet. Some have no valid form on purpose.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/prng.h>

#include "allocdb_model.h"

#define PARTITION_IDS 22
#define CHANNEL_IDS 10
#define VOLUME_IDS 4
#define CLAIM_IDS 5
#define MACS 8
#define PORT_NAMES 7
#define RARE_ZONES 70 /* more than the limit of zones */

static const char *const ADDRESSES[] = {"0000:00:01.0", "0000:00:01.1", "nvme0", "eth0", "eth00"};
static const char *const NODE_NAMES[] = {"n1", "n2", "rack-7.host-3"};
static const char *const ZONE_NAMES[] = {"", "prod", "test", "dev"};
static const uint8_t CONFIG[VDC_PARTITION_CONFIG_MAX + 1] = {'{', '}'};
static const uint16_t CPU_NUMBERS[] = {0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 300, 301, 302, 303};
static const uint16_t CPU_NUMAS[] = {0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 5, 5, 5, 5};

struct pen {
    struct draw *draw;
    const struct model *m;
    struct vdc_prng *prng;
    int zone; /* of the transaction, NONE: not known yet */
    uint32_t nth;
    struct vdc_id focus; /* what the operation before was about; none: nothing */
    bool wide;           /* many blocks have been named: not again in this transaction */
};

static uint32_t below(const struct pen *pen, uint32_t bound)
{
    return (uint32_t)vdc_prng_below(pen->prng, bound);
}

static bool one_in(const struct pen *pen, uint32_t n)
{
    return below(pen, n) == 0;
}

static bool make_id(uint8_t kind, uint32_t n, uint32_t len, struct vdc_id *id)
{
    *id = (struct vdc_id){.bytes = {(uint8_t)(n + 1), 0, kind}};
    id->bytes[15] = (uint8_t)(n * 37); /* so that their order is not the numbers' */
    return n < len;
}

bool draw_partition_id(uint32_t n, struct vdc_id *id)
{
    return make_id(1, n, PARTITION_IDS, id);
}

bool draw_channel_id(uint32_t n, struct vdc_id *id)
{
    return make_id(2, n, CHANNEL_IDS, id);
}

bool draw_volume_id(uint32_t n, struct vdc_id *id)
{
    return make_id(3, n, VOLUME_IDS, id);
}

bool draw_claim_id(uint32_t n, struct vdc_id *id)
{
    return make_id(4, n, CLAIM_IDS, id);
}

const char *draw_address(uint32_t n)
{
    return n < VDC_COUNT_OF(ADDRESSES) ? ADDRESSES[n] : NULL;
}

bool draw_mac(uint32_t n, uint8_t mac[6])
{
    const uint8_t is[6] = {2, 0, 0, 0, 0, (uint8_t)n};
    memcpy(mac, is, sizeof(is));
    return n < MACS;
}

const char *draw_node_name(uint32_t n)
{
    return n < VDC_COUNT_OF(NODE_NAMES) ? NODE_NAMES[n] : NULL;
}

/* --- parts --- */

static struct vdc_id any_id(const struct pen *pen)
{
    struct vdc_id id;
    (void)draw_partition_id(below(pen, PARTITION_IDS), &id);
    return id;
}

/* Mostly what the operation before was about, or a partition of the zone. */
static struct vdc_id own_id(const struct pen *pen)
{
    if (!vdc_id_is_none(&pen->focus) && !one_in(pen, 3)) {
        return pen->focus;
    }
    struct vdc_id id = any_id(pen);
    for (int tries = 0; tries < 30 && !one_in(pen, 25); tries++) {
        int p = model_find_partition(pen->m, &id);
        if (p != NONE && pen->m->now.partitions[p].zone == pen->zone &&
            vdc_id_equal(&pen->m->now.partitions[p].claim, &pen->draw->tx.claim)) {
            break;
        }
        id = any_id(pen);
    }
    return id;
}

static uint64_t generation_of(const struct pen *pen, const struct vdc_id *id)
{
    int p = model_find_partition(pen->m, id);
    uint64_t generation = p == NONE ? 1 : pen->m->now.partitions[p].as.generation;
    return generation + one_in(pen, 25);
}

static uint32_t any_numa(const struct pen *pen)
{
    static const uint32_t numbers[] = {0, 0, 0, 1, 1, 5, 5, 7};
    uint32_t at = below(pen, 200);
    return at == 0 ? 7 : at < 80 ? VDC_NUMA_ANY : numbers[below(pen, 7)];
}

static uint64_t any_nodes(const struct pen *pen)
{
    static const uint64_t sets[] = {1, 3, 3, 1 | 32, 3 | 32, 32, 2, 1 | 128};
    return one_in(pen, 30) ? 1 | 128 : sets[below(pen, 7)];
}

static void any_locality(const struct pen *pen, enum vdc_locality *locality, uint32_t *numa,
                         uint64_t *nodes)
{
    *numa = any_numa(pen);
    *nodes = 0;
    *locality = one_in(pen, 2) ? VDC_LOCALITY_DEFAULT : (enum vdc_locality)below(pen, 4);
    if (*locality == VDC_LOCALITY_SPANNING) {
        *numa = VDC_NUMA_ANY;
        *nodes = any_nodes(pen);
    } else if (*locality == VDC_LOCALITY_PREFERRED && *numa == VDC_NUMA_ANY) {
        *numa = 0;
    }
}

/* Some CPUs, ascending: mostly such that are free in the zone. Sometimes one that there isn't. */
static uint32_t some_cpus(const struct pen *pen, uint32_t max, bool held_by_focus,
                          const struct vdc_id *id)
{
    uint16_t *cpus = pen->draw->cpus[pen->nth];
    int p = model_find_partition(pen->m, id);
    uint32_t len = 0;
    uint32_t wanted = 1 + below(pen, max);
    for (int c = 0; c < pen->m->now.cpus_len && len < wanted; c++) {
        const struct model_cpu *cpu = &pen->m->now.cpus[c];
        bool good = held_by_focus ? cpu->owner == p : cpu->zone == pen->zone && cpu->owner == NONE;
        if (good ? !one_in(pen, 3) : one_in(pen, 60)) {
            cpus[len++] = cpu->info.number;
        }
    }
    if (len == 0 || one_in(pen, 60)) {
        cpus[len] = len == 0 ? CPU_NUMBERS[below(pen, VDC_COUNT_OF(CPU_NUMBERS))] : 999;
        len++;
    }
    return len;
}

/* A range in one NUMA node, mostly one that has the owner. */
static struct vdc_memory_block any_block(const struct pen *pen, uint64_t page, uint16_t owner)
{
    const struct model *m = pen->m;
    struct vdc_memory_block block = {.bytes = page};
    for (int tries = 0; tries < 40; tries++) {
        const struct model_numa *numa = &m->numas[below(pen, (uint32_t)m->numas_len)];
        uint64_t pages = numa->bytes / page;
        block.numa = one_in(pen, 300) ? 7 : numa->number;
        block.bytes = page * (1 + below(pen, 6));
        block.addr = pages == 0 ? 0 : vdc_prng_below(pen->prng, pages) * page;
        if (one_in(pen, 60) || memory_is(numa, block.addr, block.bytes, owner)) {
            break;
        }
    }
    if (one_in(pen, 60)) {
        block.addr += PAGE;
    }
    return block;
}

/* The CPUs and memory of the machine: sometimes another one. */
static void inventory(struct pen *pen, struct vdc_op *op, bool first)
{
    struct draw *draw = pen->draw;
    static const uint64_t sizes[][4] = {{2 * GIB + 12 * KIB, 2 * GIB, 2 * GIB + 16 * MIB, 1 * GIB},
                                        {1 * GIB + 6 * MIB, 1 * GIB, 1 * GIB + 7 * MIB, 0},
                                        {20 * MIB + 8 * KIB, 20 * MIB, 24 * MIB, 8 * MIB}};
    static const uint32_t numbers[] = {0, 1, 5};
    uint32_t cpus = 0;
    uint32_t numas = 0;
    bool has[6] = {0};
    for (uint32_t i = 0; i < 3; i++) {
        if (first || !one_in(pen, 12)) {
            uint64_t bytes = sizes[i][first ? 0 : one_in(pen, 6) ? 3 : below(pen, 3)];
            draw->numas[numas++] =
                (struct vdc_numa_info){.number = numbers[i], .memory_bytes = bytes};
            has[numbers[i]] = true;
        }
    }
    for (uint32_t i = 0; i < VDC_COUNT_OF(CPU_NUMBERS); i++) {
        uint16_t numa = CPU_NUMAS[i];
        if ((!first && one_in(pen, 10)) || !has[numa]) {
            continue;
        }
        /* Node 0: cores of one thread and of two; node 1: one core; node 5: two of two. */
        draw->infos[cpus++] =
            (struct vdc_cpu_info){.number = CPU_NUMBERS[i],
                                  .numa = numa,
                                  .socket = numa,
                                  .core = (uint16_t)(numa == 1 ? 0 : CPU_NUMBERS[i] / 2),
                                  .thread = CPU_NUMBERS[i] % 2};
    }
    op->inventory_set = (struct vdc_op_inventory_set){
        .cpus = draw->infos, .cpus_len = cpus, .numa = draw->numas, .numa_len = numas};
    draw->form = cpus == 0 || numas == 0 ? VDC_RC_INVALID : VDC_RC_OK;
}

/* --- operations --- */

static void zone_set(struct pen *pen, struct vdc_op_zone_set *set)
{
    bool rare = pen->zone == NONE && !one_in(pen, 20);
    set->overcommit_milli = 1000 + below(pen, 5) * 500;
    if (rare) {
        return; /* a slice of nothing */
    }
    if (one_in(pen, 10)) {
        set->cpu.milli = 100 * (1 + below(pen, 4));
    } else {
        set->cpu.amount = below(pen, 6);
    }
    if (one_in(pen, 10)) {
        set->memory.milli = 50 * (1 + below(pen, 7));
    } else if (one_in(pen, 3)) {
        set->memory.amount = PAGE * (1 + below(pen, 4096));
    } else {
        set->memory.amount = 2 * MIB * below(pen, one_in(pen, 4) ? 900 : 400);
    }
    if (one_in(pen, 3)) {
        uint16_t *cpus = pen->draw->cpus[pen->nth];
        for (int c = 0; c < pen->m->now.cpus_len; c++) {
            const struct model_cpu *cpu = &pen->m->now.cpus[c];
            bool own = cpu->zone == pen->zone;
            bool free_one = cpu->zone == NODE && cpu->owner == NONE;
            if (own        ? cpu->owner != NONE || !one_in(pen, 4)
                : free_one ? one_in(pen, 3)
                           : one_in(pen, 100)) {
                cpus[set->cpus_len++] = cpu->info.number;
            }
        }
        if (one_in(pen, 20)) {
            cpus[set->cpus_len++] = 999;
        }
        set->cpus = cpus;
    }
}

static void create(struct pen *pen, struct vdc_op_partition_create *as)
{
    as->id = any_id(pen);
    for (int tries = 0; tries < 20 && !one_in(pen, 25); tries++) {
        if (model_find_partition(pen->m, &as->id) == NONE) {
            break;
        }
        as->id = any_id(pen);
    }
    (void)snprintf(as->name, VDC_NAME_CAP, "p%u", below(pen, 5));
    vdc_str_set(as->tenant, VDC_NAME_CAP, one_in(pen, 4) ? "" : "acme");
    vdc_str_set(as->class_name, VDC_NAME_CAP, one_in(pen, 4) ? "" : "gold");
    as->kind = (enum vdc_partition_kind)below(pen, 3);
    as->generation = 1 + below(pen, 3);
    as->run = (enum vdc_run)below(pen, 4);
    as->vcpus = 1 + below(pen, 4);
    as->memory_bytes = MIB * below(pen, 512);
    as->config = CONFIG;
    as->config_len = one_in(pen, 100) ? VDC_PARTITION_CONFIG_MAX : below(pen, 40);
    pen->focus = as->id;
}

static void cpu_assign(struct pen *pen, struct vdc_op_cpu_assign *assign)
{
    assign->id = own_id(pen);
    pen->focus = assign->id;
    assign->numa = VDC_NUMA_ANY;
    if (one_in(pen, 2)) {
        assign->shared_milli = one_in(pen, 200) ? 250000 : 1 + below(pen, 3000);
        return;
    }
    any_locality(pen, &assign->locality, &assign->numa, &assign->nodes);
    assign->whole_cores = one_in(pen, 4);
    if (one_in(pen, 3)) {
        assign->cpus_len = some_cpus(pen, 4, false, &assign->id);
        assign->cpus = pen->draw->cpus[pen->nth];
    } else {
        assign->any = 1 + below(pen, one_in(pen, 8) ? 9 : 3);
    }
}

static void cpu_release(struct pen *pen, struct vdc_op_cpu_release *release)
{
    release->id = own_id(pen);
    int p = model_find_partition(pen->m, &release->id);
    if (one_in(pen, 2)) {
        return;
    }
    if (p != NONE && pen->m->now.partitions[p].shared > 0) {
        release->shared_milli = 1 + below(pen, pen->m->now.partitions[p].shared + 1);
        return;
    }
    release->cpus_len = some_cpus(pen, 3, true, &release->id);
    release->cpus = pen->draw->cpus[pen->nth];
}

static uint64_t page_of(const struct pen *pen, const struct vdc_id *id)
{
    int p = model_find_partition(pen->m, id);
    bool guest = p == NONE || pen->m->now.partitions[p].as.kind == VDC_PARTITION_GUEST;
    return guest ? 2 * MIB : PAGE;
}

static void memory_assign(struct pen *pen, struct vdc_op_memory_assign *assign)
{
    assign->id = own_id(pen);
    pen->focus = assign->id;
    uint64_t page = page_of(pen, &assign->id);
    any_locality(pen, &assign->locality, &assign->numa, &assign->nodes);
    if (one_in(pen, 4)) {
        struct vdc_memory_block *block = pen->draw->blocks[pen->nth];
        *block = any_block(pen, page, 0);
        assign->bytes = block->bytes;
        assign->blocks = block;
        assign->blocks_len = 1;
        if (one_in(pen, 3)) {
            /* A second one behind it, perhaps with a gap. */
            block[1] = *block;
            block[1].addr += block->bytes + page * below(pen, 2);
            assign->bytes += block[1].bytes;
            assign->blocks_len = 2;
        }
        return;
    }
    uint32_t dice = below(pen, 100);
    if (page == PAGE) {
        bool large = dice >= 80; /* enough to be broken into more runs than a view shows */
        assign->bytes = PAGE * (large ? 2048 + below(pen, 2000) : 1 + below(pen, 1200));
    } else if (dice < 3) {
        assign->bytes = GIB + 2 * MIB * below(pen, 600);
    } else if (dice < 5) {
        assign->bytes = 3 * GIB + 2 * MIB * below(pen, 100);
    } else if (dice < 8) {
        assign->bytes = PAGE * (1 + below(pen, 600));
    } else {
        assign->bytes = 2 * MIB * (1 + below(pen, 60));
    }
}

/* Every other page of what it has: more runs than a view shows, if it has enough. */
static void release_every_other(struct pen *pen, struct vdc_op_memory_release *release, int p)
{
    struct vdc_memory_block runs[8];
    struct vdc_memory_block *blocks = pen->draw->blocks[pen->nth];
    uint32_t len = VDC_MIN(memory_runs(pen->m, (uint16_t)(1 + p), runs, 8), 8u);
    uint32_t max = one_in(pen, 2) ? VDC_VIEW_BLOCKS_MAX : 200;
    for (uint32_t i = 0; i < len; i++) {
        for (uint64_t at = PAGE; at < runs[i].bytes && release->blocks_len < max; at += 2 * PAGE) {
            blocks[release->blocks_len++] = (struct vdc_memory_block){
                .addr = runs[i].addr + at, .bytes = PAGE, .numa = runs[i].numa};
        }
    }
    release->blocks = blocks;
    pen->wide = true;
}

static void memory_release(struct pen *pen, struct vdc_op_memory_release *release)
{
    release->id = own_id(pen);
    int p = model_find_partition(pen->m, &release->id);
    if (one_in(pen, 3) || p == NONE) {
        return;
    }
    uint64_t page = page_of(pen, &release->id);
    if (!pen->wide && page == PAGE && pen->m->now.partitions[p].held > 8 * MIB && one_in(pen, 4)) {
        release_every_other(pen, release, p);
        return;
    }
    struct vdc_memory_block *block = pen->draw->blocks[pen->nth];
    struct vdc_memory_block runs[4];
    uint32_t len = VDC_MIN(memory_runs(pen->m, (uint16_t)(1 + p), runs, 4), 4u);
    *block = len == 0 || one_in(pen, 20) ? any_block(pen, page, 0) : runs[below(pen, len)];
    if (block->bytes > page && one_in(pen, 2)) {
        block->addr += page * below(pen, (uint32_t)VDC_MIN(block->bytes / page, UINT64_C(600)));
        block->bytes = page * (1 + one_in(pen, 8));
    }
    if (one_in(pen, 30)) {
        block->addr += PAGE;
        block->bytes = PAGE;
    }
    release->blocks = block;
    release->blocks_len = 1;
}

static void change(struct pen *pen, struct vdc_op *op)
{
    struct vdc_id id = own_id(pen);
    uint64_t generation = generation_of(pen, &id);
    if (op->kind == VDC_OP_PARTITION_SET_RUN) {
        op->partition_set_run = (struct vdc_op_partition_set_run){
            .id = id, .generation = generation, .run = (enum vdc_run)below(pen, 4)};
    } else if (op->kind == VDC_OP_PARTITION_SET_GENERATION) {
        op->partition_set_generation = (struct vdc_op_partition_set_generation){
            .id = id, .generation = generation, .next = generation + 1 + below(pen, 2)};
    } else if (op->kind == VDC_OP_PARTITION_SET_CONFIG) {
        op->partition_set_config = (struct vdc_op_partition_set_config){
            .id = id, .generation = generation, .config = CONFIG, .config_len = below(pen, 50)};
    } else {
        op->partition_destroy =
            (struct vdc_op_partition_destroy){.id = id, .generation = generation};
    }
}

static const char *any_address(const struct pen *pen)
{
    return ADDRESSES[below(pen, VDC_COUNT_OF(ADDRESSES))];
}

static void channel_connect(struct pen *pen, struct vdc_op_channel_connect *connect)
{
    (void)draw_channel_id(below(pen, CHANNEL_IDS), &connect->channel);
    connect->endpoint[0] = own_id(pen);
    for (int tries = 0; tries < 30; tries++) {
        connect->endpoint[1] = any_id(pen);
        int p = model_find_partition(pen->m, &connect->endpoint[1]);
        bool other = !vdc_id_equal(&connect->endpoint[0], &connect->endpoint[1]);
        int zone = p == NONE ? NONE : pen->m->now.partitions[p].zone;
        if (other && (one_in(pen, 12) || (p != NONE && (zone == pen->zone || zone == NODE)))) {
            break;
        }
    }
    while (vdc_id_equal(&connect->endpoint[0], &connect->endpoint[1])) {
        connect->endpoint[1] = any_id(pen);
    }
    connect->type = (enum vdc_channel_type)below(pen, 4);
    connect->version = (uint16_t)(1 + below(pen, 3));
    connect->bytes = PAGE * (1 + below(pen, one_in(pen, 6) ? 1500 : 80));
    connect->numa = any_numa(pen);
    if (one_in(pen, 5)) {
        struct vdc_memory_block *block = pen->draw->blocks[pen->nth];
        *block = any_block(pen, PAGE, 0);
        connect->bytes = block->bytes;
        connect->numa = one_in(pen, 2) ? block->numa : VDC_NUMA_ANY;
        connect->blocks = block;
        connect->blocks_len = 1;
    }
}

static const char *any_zone(const struct pen *pen, char name[VDC_NAME_CAP])
{
    if (one_in(pen, 60)) {
        (void)snprintf(name, VDC_NAME_CAP, "z%u", below(pen, RARE_ZONES));
        return name;
    }
    return ZONE_NAMES[one_in(pen, 6) ? 0 : 1 + below(pen, 3)];
}

static void zone_transfer(struct pen *pen, struct vdc_op_zone_transfer *transfer)
{
    char name[VDC_NAME_CAP];
    static const struct vdc_id none;
    vdc_str_set(transfer->to, VDC_NAME_CAP, any_zone(pen, name));
    if (!one_in(pen, 3)) {
        transfer->cpus_len = some_cpus(pen, 2, false, &none);
        transfer->cpus = pen->draw->cpus[pen->nth];
    }
    if (!one_in(pen, 3)) {
        transfer->memory_bytes = one_in(pen, 3) ? PAGE * below(pen, 600) : 2 * MIB * below(pen, 99);
    }
    if (one_in(pen, 3)) {
        vdc_str_set(transfer->device, VDC_DEVICE_ADDRESS_CAP, any_address(pen));
    }
    if (transfer->cpus_len == 0 && transfer->memory_bytes == 0) {
        transfer->memory_bytes = PAGE;
    }
}

static void promise(struct pen *pen, struct vdc_op_fence_promise *is)
{
    vdc_str_set(is->node, VDC_NAME_CAP, NODE_NAMES[below(pen, VDC_COUNT_OF(NODE_NAMES))]);
    int e = pen->zone == NONE ? NONE : model_find_promise(pen->m, pen->zone, is->node);
    uint64_t last = e == NONE ? 0 : pen->m->now.entries[e].promise.incarnation;
    is->incarnation = last + below(pen, 3) + (last == 0);
}

/* Mostly an entry of the kind that the zone can do something with; NONE: any. */
static int own_entry(const struct pen *pen, enum vdc_entry_kind kind, bool owned)
{
    uint32_t first = below(pen, MODEL_ENTRIES_MAX);
    for (uint32_t i = 0; i < MODEL_ENTRIES_MAX && !one_in(pen, 900); i++) {
        int e = (int)((first + i) % MODEL_ENTRIES_MAX);
        const struct model_entry *entry = &pen->m->now.entries[e];
        if (entry->exists && entry->kind == kind && entry->zone == pen->zone &&
            (entry->owner != NONE) == owned) {
            return e;
        }
    }
    return NONE;
}

static const struct vdc_id *owner_of(const struct pen *pen, int e)
{
    return &pen->m->now.partitions[pen->m->now.entries[e].owner].as.id;
}

static void port(struct pen *pen, struct vdc_op *op)
{
    if (op->kind == VDC_OP_PORT_CONNECT) {
        op->port_connect.id = own_id(pen);
        (void)draw_mac(below(pen, MACS), op->port_connect.mac);
        (void)snprintf(op->port_connect.name, VDC_PORT_NAME_CAP, "vdc%u", below(pen, PORT_NAMES));
        vdc_str_set(op->port_connect.network, VDC_NAME_CAP, "lan");
        return;
    }
    int own = own_entry(pen, VDC_ENTRY_PORT, true);
    (void)draw_mac(below(pen, MACS), op->port_disconnect.mac);
    op->port_disconnect.id = own_id(pen);
    if (own != NONE && !one_in(pen, 6)) {
        op->port_disconnect.id = *owner_of(pen, own);
        memcpy(op->port_disconnect.mac, pen->m->now.entries[own].port.mac, 6);
    }
}

static void channel_disconnect(const struct pen *pen, struct vdc_id *id)
{
    int own = own_entry(pen, VDC_ENTRY_CHANNEL, true);
    (void)draw_channel_id(below(pen, CHANNEL_IDS), id);
    if (own != NONE && !one_in(pen, 6)) {
        *id = pen->m->now.entries[own].channel.channel;
    }
}

static void device(struct pen *pen, struct vdc_op *op)
{
    const char *address = any_address(pen);
    int own = own_entry(pen, VDC_ENTRY_DEVICE, op->kind == VDC_OP_DEVICE_DETACH);
    if (own != NONE && op->kind != VDC_OP_DEVICE_ADD && !one_in(pen, 8)) {
        address = pen->m->now.entries[own].device.address;
    }
    if (op->kind == VDC_OP_DEVICE_ADD) {
        op->device_add.kind = (enum vdc_device_kind)below(pen, 3);
        op->device_add.numa = any_numa(pen);
        vdc_str_set(op->device_add.address, VDC_DEVICE_ADDRESS_CAP, address);
        return;
    }
    if (op->kind == VDC_OP_DEVICE_REMOVE) {
        vdc_str_set(op->device_remove.address, VDC_DEVICE_ADDRESS_CAP, address);
        return;
    }
    vdc_str_set(op->device_attach.address, VDC_DEVICE_ADDRESS_CAP, address);
    op->device_attach.id = own_id(pen);
    if (op->kind == VDC_OP_DEVICE_DETACH && own != NONE && !one_in(pen, 6)) {
        op->device_detach.id = *owner_of(pen, own);
    }
}

static void volume(struct pen *pen, struct vdc_op *op)
{
    struct vdc_id id = own_id(pen);
    struct vdc_id is;
    (void)draw_volume_id(below(pen, VOLUME_IDS), &is);
    if (op->kind == VDC_OP_VOLUME_ATTACH) {
        op->volume_attach =
            (struct vdc_op_volume_attach){.id = id,
                                          .generation = generation_of(pen, &id),
                                          .volume = is,
                                          .mode = (enum vdc_volume_mode)one_in(pen, 3)};
        return;
    }
    int own = own_entry(pen, VDC_ENTRY_VOLUME, true);
    if (own != NONE && !one_in(pen, 6)) {
        id = *owner_of(pen, own);
        is = pen->m->now.entries[own].volume.volume;
    }
    op->volume_detach = (struct vdc_op_volume_detach){.id = id, .volume = is};
}

/* How often each kind is drawn, of the sum of all. */
static const uint8_t WEIGHTS[VDC_OP_COUNT] = {
    [VDC_OP_INVENTORY_SET] = 0, /* by itself */
    [VDC_OP_ZONE_SET] = 7,
    [VDC_OP_ZONE_LEAVE] = 1,
    [VDC_OP_ZONE_EPOCH] = 2,
    [VDC_OP_INCARNATION_SET] = 2,
    [VDC_OP_PARTITION_CREATE] = 26,
    [VDC_OP_PARTITION_SET_RUN] = 6,
    [VDC_OP_PARTITION_SET_GENERATION] = 6,
    [VDC_OP_PARTITION_SET_CONFIG] = 4,
    [VDC_OP_PARTITION_DESTROY] = 22,
    [VDC_OP_CPU_ASSIGN] = 26,
    [VDC_OP_CPU_RELEASE] = 12,
    [VDC_OP_MEMORY_ASSIGN] = 30,
    [VDC_OP_MEMORY_RELEASE] = 14,
    [VDC_OP_DEVICE_ADD] = 5,
    [VDC_OP_DEVICE_REMOVE] = 3,
    [VDC_OP_DEVICE_ATTACH] = 6,
    [VDC_OP_DEVICE_DETACH] = 5,
    [VDC_OP_VOLUME_ATTACH] = 9,
    [VDC_OP_VOLUME_DETACH] = 5,
    [VDC_OP_PORT_CONNECT] = 9,
    [VDC_OP_PORT_DISCONNECT] = 6,
    [VDC_OP_CHANNEL_CONNECT] = 14,
    [VDC_OP_CHANNEL_DISCONNECT] = 8,
    [VDC_OP_FENCE_PROMISE] = 4,
    [VDC_OP_ZONE_TRANSFER] = 9,
};

static enum vdc_op_kind any_kind(const struct pen *pen, bool claims)
{
    static const enum vdc_op_kind claimable[] = {
        VDC_OP_CPU_ASSIGN,      VDC_OP_MEMORY_ASSIGN, VDC_OP_CPU_ASSIGN,
        VDC_OP_MEMORY_ASSIGN,   VDC_OP_PORT_CONNECT,  VDC_OP_VOLUME_ATTACH,
        VDC_OP_CHANNEL_CONNECT, VDC_OP_DEVICE_ATTACH, VDC_OP_PARTITION_CREATE};
    if (claims && !one_in(pen, 12)) {
        return pen->nth == 0 ? VDC_OP_PARTITION_CREATE
                             : claimable[below(pen, VDC_COUNT_OF(claimable))];
    }
    uint32_t sum = 0;
    for (int k = 0; k < VDC_OP_COUNT; k++) {
        sum += WEIGHTS[k];
    }
    uint32_t dice = below(pen, sum);
    int kind = 0;
    while (dice >= WEIGHTS[kind]) {
        dice -= WEIGHTS[kind++];
    }
    return (enum vdc_op_kind)kind;
}

/* Not so often what can only be refused: one more partition where all ids are in use, hardware by
 * another zone than the node's. */
static enum vdc_op_kind sensible_kind(const struct pen *pen, bool claims)
{
    enum vdc_op_kind kind = any_kind(pen, claims);
    if (kind == VDC_OP_PARTITION_CREATE && pen->draw->tx.zone[0] == 'z') {
        return VDC_OP_ZONE_LEAVE; /* nobody would come again to take it away */
    }
    if (claims || one_in(pen, 8)) {
        return kind;
    }
    uint32_t partitions = 0;
    for (int p = 0; p < MODEL_PARTITIONS_MAX; p++) {
        partitions += pen->m->now.partitions[p].exists;
    }
    if (kind == VDC_OP_PARTITION_CREATE && partitions > PARTITION_IDS - 6) {
        return VDC_OP_PARTITION_DESTROY;
    }
    bool machine = kind == VDC_OP_DEVICE_ADD || kind == VDC_OP_DEVICE_REMOVE;
    return machine && pen->zone != NODE ? VDC_OP_MEMORY_ASSIGN : kind;
}

static void draw_op(struct pen *pen, struct vdc_op *op, bool claims)
{
    op->kind = sensible_kind(pen, claims);
    switch (op->kind) {
    case VDC_OP_INVENTORY_SET:
    case VDC_OP_ZONE_LEAVE:
    case VDC_OP_ZONE_EPOCH:
        break;
    case VDC_OP_ZONE_SET:
        zone_set(pen, &op->zone_set);
        break;
    case VDC_OP_INCARNATION_SET:
        op->incarnation_set.incarnation =
            pen->zone == NONE ? 1 : pen->m->now.zones[pen->zone].incarnation + below(pen, 3);
        op->incarnation_set.incarnation += op->incarnation_set.incarnation == 0;
        break;
    case VDC_OP_PARTITION_CREATE:
        create(pen, &op->partition_create);
        break;
    case VDC_OP_PARTITION_SET_RUN:
    case VDC_OP_PARTITION_SET_GENERATION:
    case VDC_OP_PARTITION_SET_CONFIG:
    case VDC_OP_PARTITION_DESTROY:
        change(pen, op);
        break;
    case VDC_OP_CPU_ASSIGN:
        cpu_assign(pen, &op->cpu_assign);
        break;
    case VDC_OP_CPU_RELEASE:
        cpu_release(pen, &op->cpu_release);
        break;
    case VDC_OP_MEMORY_ASSIGN:
        memory_assign(pen, &op->memory_assign);
        break;
    case VDC_OP_MEMORY_RELEASE:
        memory_release(pen, &op->memory_release);
        break;
    case VDC_OP_DEVICE_ADD:
    case VDC_OP_DEVICE_REMOVE:
    case VDC_OP_DEVICE_ATTACH:
    case VDC_OP_DEVICE_DETACH:
        device(pen, op);
        break;
    case VDC_OP_VOLUME_ATTACH:
    case VDC_OP_VOLUME_DETACH:
        volume(pen, op);
        break;
    case VDC_OP_PORT_CONNECT:
    case VDC_OP_PORT_DISCONNECT:
        port(pen, op);
        break;
    case VDC_OP_CHANNEL_CONNECT:
        channel_connect(pen, &op->channel_connect);
        break;
    case VDC_OP_CHANNEL_DISCONNECT:
        channel_disconnect(pen, &op->channel_disconnect.channel);
        break;
    case VDC_OP_FENCE_PROMISE:
        promise(pen, &op->fence_promise);
        break;
    case VDC_OP_ZONE_TRANSFER:
        zone_transfer(pen, &op->zone_transfer);
        break;
    }
}

/* --- transactions --- */

static void draw_role(struct pen *pen)
{
    struct vdc_tx *tx = &pen->draw->tx;
    uint64_t epoch = pen->zone == NONE ? 0 : pen->m->now.zones[pen->zone].epoch;
    tx->role = tx->zone[0] == 0 || one_in(pen, 12) ? VDC_ROLE_SYSTEM : VDC_ROLE_COMMAND;
    if (one_in(pen, 60)) {
        tx->role = (enum vdc_role)(1 + below(pen, 3));
    }
    if (tx->role == VDC_ROLE_SYSTEM) {
        return;
    }
    tx->epoch = epoch + one_in(pen, 60);
    if (one_in(pen, 40) && tx->epoch > 1) {
        tx->epoch--;
    }
    tx->epoch += tx->epoch == 0;
}

/* Makes the form wrong in one of many ways. */
static void spoil(struct pen *pen)
{
    struct draw *draw = pen->draw;
    struct vdc_tx *tx = &draw->tx;
    struct vdc_op *op = &draw->ops[below(pen, VDC_MAX(tx->ops_len, 1u))];
    uint32_t way = below(pen, 14);
    draw->form = VDC_RC_INVALID;
    switch (way) {
    case 0:
        tx->epoch = tx->epoch == 0;
        break;
    case 1:
        tx->kind = tx->kind == VDC_TX_APPLY ? VDC_TX_PREPARE : VDC_TX_APPLY;
        break;
    case 2:
        vdc_str_set(tx->zone, VDC_NAME_CAP, "No Zone");
        break;
    case 3:
        tx->ops_len = VDC_TX_OPS_MAX + 1;
        draw->form = VDC_RC_TOO_LARGE;
        break;
    case 4:
        tx->ops_len = tx->ops_len == 0;
        break;
    case 5:
        tx->role = (enum vdc_role)VDC_ROLE_COUNT;
        break;
    case 6:
        op->kind = VDC_OP_INVENTORY_SET;
        op->inventory_set = (struct vdc_op_inventory_set){0};
        break;
    case 7:
        op->kind = VDC_OP_MEMORY_ASSIGN;
        op->memory_assign = (struct vdc_op_memory_assign){.id = any_id(pen), .bytes = 4095};
        break;
    case 8:
        op->kind = VDC_OP_CPU_ASSIGN;
        op->cpu_assign = (struct vdc_op_cpu_assign){.id = any_id(pen), .any = 1, .shared_milli = 1};
        break;
    case 9:
        op->kind = VDC_OP_ZONE_SET;
        op->zone_set = (struct vdc_op_zone_set){.overcommit_milli = 999};
        break;
    case 10:
        op->kind = VDC_OP_PARTITION_SET_GENERATION;
        op->partition_set_generation =
            (struct vdc_op_partition_set_generation){.id = any_id(pen), .generation = 2, .next = 2};
        break;
    case 11:
        op->kind = VDC_OP_PARTITION_SET_CONFIG;
        op->partition_set_config =
            (struct vdc_op_partition_set_config){.id = any_id(pen),
                                                 .generation = 1,
                                                 .config = CONFIG,
                                                 .config_len = VDC_PARTITION_CONFIG_MAX + 1};
        draw->form = VDC_RC_TOO_LARGE;
        break;
    case 12:
        op->kind = VDC_OP_ZONE_TRANSFER;
        op->zone_transfer = (struct vdc_op_zone_transfer){.to = "test"};
        break;
    default:
        op->kind = (enum vdc_op_kind)VDC_OP_COUNT;
        draw->form = VDC_RC_UNSUPPORTED;
        break;
    }
    if (way >= 6 && tx->ops_len == 0) {
        tx->ops_len = 1; /* which does not go with settling a claim, whatever it is */
        draw->form = VDC_RC_INVALID;
    }
}

/* Mostly a claim that there is, in its zone, or an id that is free. */
static void draw_kind(struct pen *pen)
{
    struct vdc_tx *tx = &pen->draw->tx;
    uint32_t dice = below(pen, 100);
    tx->kind = dice < 82   ? VDC_TX_APPLY
               : dice < 91 ? VDC_TX_PREPARE
               : dice < 96 ? VDC_TX_COMMIT_CLAIM
                           : VDC_TX_ABORT_CLAIM;
    bool any_claim = false;
    for (int c = 0; c < MODEL_CLAIMS_MAX; c++) {
        any_claim = any_claim || pen->m->now.claims[c].exists;
    }
    if (tx->kind != VDC_TX_APPLY && !any_claim && !one_in(pen, 6)) {
        tx->kind = VDC_TX_PREPARE;
    }
    for (int tries = 0; tx->kind != VDC_TX_APPLY && tries < 20; tries++) {
        (void)draw_claim_id(below(pen, CLAIM_IDS), &tx->claim);
        int c = model_find_claim(pen->m, &tx->claim);
        if (one_in(pen, 12) || (c == NONE) == (tx->kind == VDC_TX_PREPARE)) {
            break;
        }
    }
    int c = tx->kind == VDC_TX_APPLY ? NONE : model_find_claim(pen->m, &tx->claim);
    if (c != NONE && !one_in(pen, 12)) {
        vdc_str_set(tx->zone, VDC_NAME_CAP, pen->m->now.zones[pen->m->now.claims[c].zone].name);
    }
}

void draw_tx(struct draw *draw, const struct model *m, struct vdc_prng *prng)
{
    struct pen pen = {.draw = draw, .m = m, .prng = prng};
    char name[VDC_NAME_CAP];
    struct vdc_tx *tx = &draw->tx;
    *tx = (struct vdc_tx){.ops = draw->ops};
    draw->form = VDC_RC_OK;
    memset(draw->ops, 0, DRAW_OPS_MAX * sizeof(draw->ops[0]));
    if (m->now.cpus_len == 0 || one_in(&pen, 400)) {
        draw->ops[0].kind = VDC_OP_INVENTORY_SET;
        inventory(&pen, &draw->ops[0], m->now.cpus_len == 0);
        tx->ops_len = 1;
        tx->role = VDC_ROLE_SYSTEM;
        if (m->now.cpus_len > 0 && one_in(&pen, 10)) {
            vdc_str_set(tx->zone, VDC_NAME_CAP, "prod"); /* which may not */
        }
        return;
    }
    vdc_str_set(tx->zone, VDC_NAME_CAP, any_zone(&pen, name));
    draw_kind(&pen);
    pen.zone = model_find_zone(m, tx->zone);
    draw_role(&pen);
    if (tx->kind == VDC_TX_APPLY || tx->kind == VDC_TX_PREPARE) {
        tx->ops_len = 1 + below(&pen, one_in(&pen, 4) ? DRAW_OPS_MAX : 2);
    }
    for (pen.nth = 0; pen.nth < tx->ops_len; pen.nth++) {
        draw_op(&pen, &draw->ops[pen.nth], tx->kind == VDC_TX_PREPARE);
    }
    bool joined = pen.zone != NONE && m->now.zones[pen.zone].joined;
    if (!joined && tx->kind == VDC_TX_APPLY && !one_in(&pen, 8)) {
        memset(&draw->ops[0], 0, sizeof(draw->ops[0]));
        draw->ops[0].kind = VDC_OP_ZONE_SET;
        pen.nth = 0;
        zone_set(&pen, &draw->ops[0].zone_set);
        tx->ops_len = 1;
    }
    if (one_in(&pen, 60)) {
        spoil(&pen);
    }
}
