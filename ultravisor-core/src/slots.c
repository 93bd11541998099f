/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Partitions with what they hold, and claims. A partition that leaves in a transaction keeps the lists
 * of what it held until the transaction stands, so that undoing its end needs nothing else.
 */
#include <string.h>

#include "allocdb_internal.h"
#include "tx_codec.h"

/* --- partitions --- */

static struct slot *take_unused(struct vdc_allocdb *db)
{
    uint32_t number = db->slots_unused;
    if (number != SLOT_NONE) {
        struct slot *slot = slot_at(db, number);
        db->slots_unused = slot->next_unused;
        return slot;
    }
    number = db->slots_len++;
    if (number % SLOTS_PER_CHUNK == 0) {
        VDC_GROW(db->chunks, db->chunks_cap, (size_t)number / SLOTS_PER_CHUNK + 1);
        db->chunks[number / SLOTS_PER_CHUNK] = vdc_calloc(SLOTS_PER_CHUNK, sizeof(struct slot));
    }
    struct slot *slot = slot_at(db, number);
    slot->number = number;
    slot->cpus = slot->few_cpus;
    slot->cpus_cap = SLOT_FEW_CPUS;
    slot->blocks = slot->few_blocks;
    slot->blocks_cap = SLOT_FEW_BLOCKS;
    return slot;
}

/* Back to the lists in the slot: else every slot would sooner or later have had more. */
static void drop_lists(struct slot *slot)
{
    if (slot->cpus != slot->few_cpus) {
        free(slot->cpus);
        slot->cpus = slot->few_cpus;
        slot->cpus_cap = SLOT_FEW_CPUS;
    }
    if (slot->blocks != slot->few_blocks) {
        free(slot->blocks);
        slot->blocks = slot->few_blocks;
        slot->blocks_cap = SLOT_FEW_BLOCKS;
    }
}

void slot_deinit(struct slot *slot)
{
    drop_lists(slot);
    free(slot->config);
    free(slot->entries);
}

/* Where `len` elements of `size` bytes go on with twice the room, at least `need`. */
static void *grow(void *elements, const void *few, size_t size, uint32_t len, uint32_t need,
                  uint32_t *cap)
{
    *cap = VDC_MAX(*cap * 2, need);
    if (elements != few) {
        return vdc_realloc(elements, *cap, size);
    }
    void *more = vdc_calloc(*cap, size);
    memcpy(more, few, len * size);
    return more;
}

void slot_need_cpus(struct slot *slot, uint32_t need)
{
    if (need > slot->cpus_cap) {
        slot->cpus = grow(slot->cpus, slot->few_cpus, sizeof(slot->cpus[0]), slot->pub.cpus_len,
                          need, &slot->cpus_cap);
    }
    slot->pub.cpus = slot->cpus;
}

/* All that is there is kept, because blocks are added before they are counted. */
void slot_need_blocks(struct slot *slot, uint32_t need)
{
    if (need > slot->blocks_cap) {
        slot->blocks = grow(slot->blocks, slot->few_blocks, sizeof(slot->blocks[0]),
                            slot->blocks_cap, need, &slot->blocks_cap);
    }
    slot->pub.blocks = slot->blocks;
}

/* Field by field, because a partition is some 400 bytes and most of them are names. */
struct slot *slot_make(struct vdc_allocdb *db, const struct vdc_op_partition_create *create,
                       uint32_t zone)
{
    struct slot *slot = take_unused(db);
    struct vdc_partition *pub = &slot->pub;
    VDC_ASSERT(!slot->live && slot->item.lo == 0 && slot->item.hi == 0);
    slot->zone = zone;
    slot->next_in_claim = SLOT_NONE;
    pub->id = create->id;
    memcpy(pub->name, create->name, sizeof(pub->name));
    memcpy(pub->zone, db->zones[zone].pub.name, sizeof(pub->zone));
    memcpy(pub->tenant, create->tenant, sizeof(pub->tenant));
    memcpy(pub->class_name, create->class_name, sizeof(pub->class_name));
    pub->claim = (struct vdc_id){0};
    pub->kind = create->kind;
    pub->run = create->run;
    pub->generation = create->generation;
    pub->sequence = 0;
    pub->vcpus = create->vcpus;
    pub->shared_milli = 0;
    pub->memory_bytes = create->memory_bytes;
    pub->held_bytes = 0;
    pub->cpus_len = 0;
    pub->cpus = NULL;
    pub->blocks_len = 0;
    pub->blocks = NULL;
    slot_set_config(slot, create->config, create->config_len);
    return slot;
}

void slot_recycle(struct vdc_allocdb *db, struct slot *slot)
{
    VDC_ASSERT(!slot->live && slot->entries_len == 0);
    drop_lists(slot);
    slot->next_unused = db->slots_unused;
    db->slots_unused = slot->number;
}

void slot_set_config(struct slot *slot, const uint8_t *config, uint32_t len)
{
    VDC_GROW(slot->config, slot->config_cap, (size_t)len);
    if (len > 0) {
        memcpy(slot->config, config, len);
    }
    slot->pub.config = slot->config;
    slot->pub.config_len = len;
}

struct vdc_digest slot_identity(const struct slot *slot)
{
    const struct vdc_partition *pub = &slot->pub;
    struct vdc_op op = {.kind = VDC_OP_PARTITION_CREATE};
    op.partition_create = (struct vdc_op_partition_create){.id = pub->id,
                                                           .kind = pub->kind,
                                                           .vcpus = pub->vcpus,
                                                           .memory_bytes = pub->memory_bytes,
                                                           .config = pub->config,
                                                           .config_len = pub->config_len};
    memcpy(op.partition_create.name, pub->name, sizeof(pub->name));
    memcpy(op.partition_create.tenant, pub->tenant, sizeof(pub->tenant));
    memcpy(op.partition_create.class_name, pub->class_name, sizeof(pub->class_name));
    struct vdc_buf bytes = {0};
    tx_encode_op(&op, &bytes);
    struct vdc_digest identity =
        digest_of_identity(bytes.data + TX_IDENTITY_AT, bytes.len - TX_IDENTITY_AT);
    vdc_buf_deinit(&bytes);
    return identity;
}

void slot_make_identity(struct slot *slot)
{
    slot->identity = slot_identity(slot);
    slot->identity_at = 0;
}

void shared_set(struct vdc_allocdb *db, struct slot *slot, uint32_t milli)
{
    struct vdc_zone_slice *slice = &db->zones[slot->zone].pub;
    slice->shared_used_milli = slice->shared_used_milli - slot->pub.shared_milli + milli;
    slot->pub.shared_milli = milli;
    slot_touch(db, slot);
}

void slot_enter(struct vdc_allocdb *db, struct slot *slot)
{
    VDC_ASSERT(!slot->live);
    struct vdc_zone_slice *slice = &db->zones[slot->zone].pub;
    slot->live = true;
    idmap_put(&db->by_id, &slot->pub.id, slot->number);
    db->partitions_len++;
    slice->partitions++;
    slice->shared_used_milli += slot->pub.shared_milli;
    slice->memory_used_bytes += slot->pub.held_bytes;
    if (slot->pub.cpus_len > 0) {
        cpus_take(db, slot);
    }
    for (uint32_t i = 0; i < slot->pub.blocks_len; i++) {
        const struct vdc_memory_block *block = &slot->blocks[i];
        pagemap_take(&db->numa[numa_index_of(db, block->numa)].map, block->addr, block->bytes,
                     slot->number);
    }
    slot_touch(db, slot);
}

void slot_leave(struct vdc_allocdb *db, struct slot *slot)
{
    VDC_ASSERT(slot->live);
    struct vdc_zone_slice *slice = &db->zones[slot->zone].pub;
    slot->live = false;
    idmap_remove(&db->by_id, &slot->pub.id);
    db->partitions_len--;
    slice->partitions--;
    slice->shared_used_milli -= slot->pub.shared_milli;
    slice->memory_used_bytes -= slot->pub.held_bytes;
    if (slot->pub.cpus_len > 0) {
        cpus_give(db, slot);
    }
    for (uint32_t i = 0; i < slot->pub.blocks_len; i++) {
        const struct vdc_memory_block *block = &slot->blocks[i];
        pagemap_free(&db->numa[numa_index_of(db, block->numa)].map, block->addr, block->bytes);
    }
    slot_touch(db, slot);
}

/* --- memory: a partition's blocks are its maximal runs, so that equal holdings look equal --- */

/* Index of the first block that does not lie wholly before (numa, addr). */
static uint32_t block_at(const struct slot *slot, uint32_t numa, uint64_t addr)
{
    uint32_t lo = 0;
    uint32_t hi = slot->pub.blocks_len;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct vdc_memory_block *b = &slot->blocks[mid];
        if (b->numa < numa || (b->numa == numa && b->addr + b->bytes <= addr)) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static void block_remove(struct slot *slot, uint32_t at)
{
    slot->pub.blocks_len--;
    memmove(&slot->blocks[at], &slot->blocks[at + 1],
            (slot->pub.blocks_len - at) * sizeof(slot->blocks[0]));
}

static void block_insert(struct slot *slot, uint32_t at, const struct vdc_memory_block *block)
{
    slot_need_blocks(slot, slot->pub.blocks_len + 1);
    memmove(&slot->blocks[at + 1], &slot->blocks[at],
            (slot->pub.blocks_len - at) * sizeof(slot->blocks[0]));
    slot->blocks[at] = *block;
    slot->pub.blocks_len++;
}

void memory_book(struct vdc_allocdb *db, struct slot *slot, uint32_t numa, uint64_t addr,
                 uint64_t bytes)
{
    uint32_t number = db->numa[numa].number;
    struct vdc_memory_block run = {.addr = addr, .bytes = bytes, .numa = number};
    uint32_t at = block_at(slot, number, addr);
    if (at < slot->pub.blocks_len && slot->blocks[at].numa == number &&
        slot->blocks[at].addr == addr + bytes) {
        run.bytes += slot->blocks[at].bytes;
        block_remove(slot, at);
    }
    if (at > 0 && slot->blocks[at - 1].numa == number &&
        slot->blocks[at - 1].addr + slot->blocks[at - 1].bytes == addr) {
        at--;
        run.addr = slot->blocks[at].addr;
        run.bytes += slot->blocks[at].bytes;
        block_remove(slot, at);
    }
    block_insert(slot, at, &run);
    slot_touch(db, slot);
    slot->pub.held_bytes += bytes;
    db->zones[slot->zone].pub.memory_used_bytes += bytes;
}

void memory_unbook(struct vdc_allocdb *db, struct slot *slot, uint32_t numa, uint64_t addr,
                   uint64_t bytes)
{
    uint32_t number = db->numa[numa].number;
    uint32_t at = block_at(slot, number, addr);
    VDC_ASSERT(at < slot->pub.blocks_len);
    struct vdc_memory_block run = slot->blocks[at];
    VDC_ASSERT(run.numa == number && run.addr <= addr && addr + bytes <= run.addr + run.bytes);
    block_remove(slot, at);
    struct vdc_memory_block tail = {
        .addr = addr + bytes, .bytes = run.addr + run.bytes - addr - bytes, .numa = number};
    if (tail.bytes > 0) {
        block_insert(slot, at, &tail);
    }
    struct vdc_memory_block head = {.addr = run.addr, .bytes = addr - run.addr, .numa = number};
    if (head.bytes > 0) {
        block_insert(slot, at, &head);
    }
    slot_touch(db, slot);
    slot->pub.held_bytes -= bytes;
    db->zones[slot->zone].pub.memory_used_bytes -= bytes;
}

static bool lies_before(const struct vdc_memory_block *a, const struct vdc_memory_block *b)
{
    return a->numa != b->numa ? a->numa < b->numa : a->addr < b->addr;
}

static bool touches(const struct vdc_memory_block *a, const struct vdc_memory_block *b)
{
    return a->numa == b->numa && a->addr + a->bytes == b->addr;
}

/* Sorts and joins what was taken, by insertion: there are two or three, seldom more. Moves only what
 * must be, because a block that has just been written is slow to copy. */
static void blocks_arrange(struct slot *slot)
{
    struct vdc_memory_block *blocks = slot->blocks;
    uint32_t len = slot->pub.blocks_len;
    for (uint32_t i = 1; i < len; i++) {
        if (lies_before(&blocks[i - 1], &blocks[i])) {
            continue;
        }
        struct vdc_memory_block block = blocks[i];
        uint32_t at = i;
        for (; at > 0 && lies_before(&block, &blocks[at - 1]); at--) {
            blocks[at] = blocks[at - 1];
        }
        blocks[at] = block;
    }
    uint32_t runs = 0;
    for (uint32_t i = 1; i < len; i++) {
        if (touches(&blocks[runs], &blocks[i])) {
            blocks[runs].bytes += blocks[i].bytes;
        } else if (++runs != i) {
            blocks[runs] = blocks[i];
        }
    }
    slot->pub.blocks_len = runs + 1;
}

void memory_take_first(struct vdc_allocdb *db, struct slot *slot, uint32_t numa, uint64_t page,
                       uint64_t bytes)
{
    VDC_ASSERT(slot->pub.blocks_len == 0 && bytes > 0);
    uint32_t len = 0;
    for (uint64_t left = bytes; left > 0; len++) {
        slot_need_blocks(slot, len + 1);
        struct vdc_memory_block *block = &slot->blocks[len];
        block->numa = db->numa[numa].number;
        pagemap_take_next(&db->numa[numa].map, left, page, slot->number, &block->addr,
                          &block->bytes);
        left -= block->bytes;
    }
    slot->pub.blocks_len = len;
    if (len > 1) {
        blocks_arrange(slot);
    }
    slot->pub.held_bytes = bytes;
    db->zones[slot->zone].pub.memory_used_bytes += bytes;
    slot_touch(db, slot);
}

void memory_take_named(struct vdc_allocdb *db, struct slot *slot,
                       const struct vdc_memory_block *blocks, uint32_t len)
{
    VDC_ASSERT(slot->pub.blocks_len == 0 && len > 0);
    slot_need_blocks(slot, len);
    uint64_t bytes = 0;
    uint32_t runs = 0;
    for (uint32_t i = 0; i < len; i++) {
        pagemap_take(&db->numa[numa_index_of(db, blocks[i].numa)].map, blocks[i].addr,
                     blocks[i].bytes, slot->number);
        bytes += blocks[i].bytes;
        if (runs > 0 && touches(&slot->blocks[runs - 1], &blocks[i])) {
            slot->blocks[runs - 1].bytes += blocks[i].bytes;
        } else {
            slot->blocks[runs++] = blocks[i];
        }
    }
    slot->pub.blocks_len = runs;
    slot->pub.held_bytes = bytes;
    db->zones[slot->zone].pub.memory_used_bytes += bytes;
    slot_touch(db, slot);
}

void memory_give_all(struct vdc_allocdb *db, struct slot *slot)
{
    for (uint32_t i = 0; i < slot->pub.blocks_len; i++) {
        const struct vdc_memory_block *block = &slot->blocks[i];
        pagemap_free(&db->numa[numa_index_of(db, block->numa)].map, block->addr, block->bytes);
    }
    db->zones[slot->zone].pub.memory_used_bytes -= slot->pub.held_bytes;
    slot->pub.held_bytes = 0;
    slot->pub.blocks_len = 0;
    slot_touch(db, slot);
}

/* --- claims: whole transactions only, so they need no undo --- */

struct claim *claim_find(const struct vdc_allocdb *db, const struct vdc_id *id)
{
    uint32_t at = idmap_get(&db->claim_by_id, id);
    return at == VDC_IDMAP_NONE ? NULL : &db->claims[at];
}

struct claim *claim_make(struct vdc_allocdb *db, const struct vdc_id *id, uint32_t zone)
{
    VDC_GROW(db->claims, db->claims_cap, (size_t)db->claims_len + 1);
    uint32_t at = db->claims_len++;
    db->claims[at] = (struct claim){.id = *id, .zone = zone, .first_slot = SLOT_NONE};
    idmap_put(&db->claim_by_id, id, at);
    return &db->claims[at];
}

void claim_remove(struct vdc_allocdb *db, struct claim *claim)
{
    uint32_t at = (uint32_t)(claim - db->claims);
    uint32_t last = db->claims_len - 1;
    idmap_remove(&db->claim_by_id, &claim->id);
    if (at != last) {
        idmap_remove(&db->claim_by_id, &db->claims[last].id);
        db->claims[at] = db->claims[last];
        idmap_put(&db->claim_by_id, &db->claims[at].id, at);
    }
    db->claims_len--;
}
