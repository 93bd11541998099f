/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"

static void book_taken(struct op_run *run, struct slot *slot, uint32_t numa, uint64_t addr,
                       uint64_t bytes)
{
    struct undo *undo = undo_push(run->db, UNDO_MEM_TAKE, slot->number);
    undo->number = numa;
    undo->a = addr;
    undo->b = bytes;
    memory_book(run->db, slot, numa, addr, bytes);
}

static enum vdc_rc refuse_fragmented(struct op_run *run, uint64_t asked)
{
    return op_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_FRAGMENTED, asked, VDC_VIEW_BLOCKS_MAX,
                     "%llu bytes would lie in more than %u blocks", ull(asked),
                     VDC_VIEW_BLOCKS_MAX);
}

/* Takes `bytes` of one NUMA node, which has them, and lists the runs in scratch. */
enum vdc_rc op_take_from_numa(struct op_run *run, struct slot *slot, uint32_t numa, uint64_t bytes)
{
    struct vdc_allocdb *db = run->db;
    uint64_t left = bytes;
    while (left > 0) {
        uint64_t addr;
        uint64_t taken;
        pagemap_take_next(&db->numa[numa].map, left, op_page_of(slot), slot->number, &addr, &taken);
        book_taken(run, slot, numa, addr, taken);
        left -= taken;
        uint32_t len = db->scratch_blocks_len;
        uint32_t number = db->numa[numa].number;
        if (len > 0 && db->scratch_blocks[len - 1].numa == number &&
            db->scratch_blocks[len - 1].addr + db->scratch_blocks[len - 1].bytes == addr) {
            db->scratch_blocks[len - 1].bytes += taken;
            continue;
        }
        VDC_GROW(db->scratch_blocks, db->scratch_blocks_cap, (size_t)len + 1);
        db->scratch_blocks[len] =
            (struct vdc_memory_block){.addr = addr, .bytes = taken, .numa = number};
        db->scratch_blocks_len++;
        if (db->scratch_blocks_len > VDC_VIEW_BLOCKS_MAX ||
            slot->pub.blocks_len > VDC_VIEW_BLOCKS_MAX) {
            return refuse_fragmented(run, bytes);
        }
    }
    return VDC_RC_OK;
}

static bool lies_before(const struct vdc_memory_block *a, const struct vdc_memory_block *b)
{
    return a->numa != b->numa ? a->numa < b->numa : a->addr < b->addr;
}

/* By insertion: there are two or three, and never more than VDC_VIEW_BLOCKS_MAX. */
static void sort_blocks(struct vdc_memory_block *blocks, uint32_t len)
{
    for (uint32_t i = 1; i < len; i++) {
        struct vdc_memory_block block = blocks[i];
        uint32_t at = i;
        while (at > 0 && lies_before(&block, &blocks[at - 1])) {
            blocks[at] = blocks[at - 1];
            at--;
        }
        blocks[at] = block;
    }
}

/* Decides which NUMA nodes give how much: one that has it all if there is one. */
static enum vdc_rc take_anywhere(struct op_run *run, struct slot *slot, uint64_t bytes)
{
    struct vdc_allocdb *db = run->db;
    uint64_t page = op_page_of(slot);
    uint64_t free_bytes = 0;
    uint64_t largest = 0;
    for (uint32_t i = 0; i < db->numa_len; i++) {
        uint64_t here = pagemap_free_in(&db->numa[i].map, page);
        if (here >= bytes) {
            return op_take_from_numa(run, slot, i, bytes);
        }
        free_bytes += here;
        largest = VDC_MAX(largest, pagemap_largest_free(&db->numa[i].map));
    }
    if (free_bytes < bytes) {
        return op_refuse_memory(run, bytes, free_bytes, largest);
    }
    enum vdc_rc rc = VDC_RC_OK;
    for (uint32_t i = 0; rc == VDC_RC_OK && bytes > 0; i++) {
        uint64_t part = VDC_MIN(bytes, pagemap_free_in(&db->numa[i].map, page));
        rc = op_take_from_numa(run, slot, i, part);
        bytes -= part;
    }
    return rc;
}

/* The usual case, a partition's first memory, on one NUMA node: what it then holds is the choice. */
static enum vdc_rc take_first(struct op_run *run, struct slot *slot, uint32_t numa,
                              struct vdc_op_memory_assign *assign)
{
    (void)undo_push(run->db, UNDO_MEM_FIRST, slot->number);
    memory_take_first(run->db, slot, numa, op_page_of(slot), assign->bytes);
    assign->blocks = slot->blocks;
    assign->blocks_len = slot->pub.blocks_len;
    return slot->pub.blocks_len > VDC_VIEW_BLOCKS_MAX ? refuse_fragmented(run, assign->bytes)
                                                      : VDC_RC_OK;
}

static enum vdc_rc resolve_memory(struct op_run *run, struct slot *slot,
                                  struct vdc_op_memory_assign *assign)
{
    struct vdc_allocdb *db = run->db;
    db->scratch_blocks_len = 0;
    enum vdc_rc rc;
    if (assign->locality != VDC_LOCALITY_DEFAULT) {
        rc = place_memory(run, slot, assign);
    } else if (assign->numa == VDC_NUMA_ANY) {
        rc = take_anywhere(run, slot, assign->bytes);
    } else {
        uint32_t numa = numa_index_of(db, assign->numa);
        if (numa == UINT32_MAX) {
            return op_refuse_numa(run, assign->numa);
        }
        const struct pagemap *map = &db->numa[numa].map;
        uint64_t free_bytes = pagemap_free_in(map, op_page_of(slot));
        if (assign->bytes > free_bytes) {
            return op_refuse_memory(run, assign->bytes, free_bytes, pagemap_largest_free(map));
        }
        if (slot->pub.blocks_len == 0) {
            return take_first(run, slot, numa, assign);
        }
        rc = op_take_from_numa(run, slot, numa, assign->bytes);
    }
    if (rc != VDC_RC_OK) {
        return rc;
    }
    sort_blocks(db->scratch_blocks, db->scratch_blocks_len);
    assign->blocks = db->scratch_blocks;
    assign->blocks_len = db->scratch_blocks_len;
    return rc;
}

/* All of them before any is taken: they ascend, so none lies in another. */
static enum vdc_rc judge_blocks(struct op_run *run, const struct slot *slot,
                                const struct vdc_op_memory_assign *assign)
{
    const struct vdc_allocdb *db = run->db;
    uint64_t page = op_page_of(slot);
    for (uint32_t i = 0; i < assign->blocks_len; i++) {
        const struct vdc_memory_block *block = &assign->blocks[i];
        uint32_t numa = numa_index_of(db, block->numa);
        if (numa == UINT32_MAX) {
            return op_refuse_numa(run, block->numa);
        }
        if (((block->addr | block->bytes) & (page - 1)) != 0) {
            return op_refuse(run, VDC_RC_INVALID, VDC_RULE_MEMORY_PAGE, block->bytes, page,
                             "block %u is not made of pages of %llu bytes", i, ull(page));
        }
        if (!pagemap_range_is(&db->numa[numa].map, block->addr, block->bytes, PAGE_OWNER_NONE)) {
            return op_refuse_busy_block(run, i, block);
        }
    }
    return VDC_RC_OK;
}

static enum vdc_rc take_named(struct op_run *run, struct slot *slot,
                              const struct vdc_op_memory_assign *assign)
{
    struct vdc_allocdb *db = run->db;
    enum vdc_rc rc = judge_blocks(run, slot, assign);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (slot->pub.blocks_len == 0) {
        (void)undo_push(db, UNDO_MEM_FIRST, slot->number);
        memory_take_named(db, slot, assign->blocks, assign->blocks_len);
        return VDC_RC_OK;
    }
    for (uint32_t i = 0; i < assign->blocks_len; i++) {
        const struct vdc_memory_block *block = &assign->blocks[i];
        uint32_t numa = numa_index_of(db, block->numa);
        pagemap_take(&db->numa[numa].map, block->addr, block->bytes, slot->number);
        book_taken(run, slot, numa, block->addr, block->bytes);
        if (slot->pub.blocks_len > VDC_VIEW_BLOCKS_MAX) {
            return refuse_fragmented(run, assign->bytes);
        }
    }
    return VDC_RC_OK;
}

enum vdc_rc apply_memory_assign(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    struct vdc_op_memory_assign *assign = &run->db->resolved.memory_assign;
    uint64_t bytes = op->memory_assign.bytes;
    if ((bytes & (op_page_of(slot) - 1)) != 0) {
        return op_refuse(run, VDC_RC_INVALID, VDC_RULE_MEMORY_PAGE, bytes, op_page_of(slot),
                         "%llu bytes are not whole pages of %llu", ull(bytes),
                         ull(op_page_of(slot)));
    }
    if (bytes > op_slice_left(run)) {
        return op_refuse_slice(run, bytes);
    }
    *assign = op->memory_assign;
    run->db->resolved.kind = VDC_OP_MEMORY_ASSIGN;
    run->resolved = &run->db->resolved;
    enum vdc_rc rc =
        assign->blocks_len > 0 ? take_named(run, slot, assign) : resolve_memory(run, slot, assign);
    if (rc == VDC_RC_OK && assign->locality != VDC_LOCALITY_DEFAULT) {
        rc = judge_memory_place(run, assign);
    }
    return rc;
}

static void release_memory(struct vdc_allocdb *db, struct slot *slot, uint32_t numa, uint64_t addr,
                           uint64_t bytes)
{
    struct undo *undo = undo_push(db, UNDO_MEM_FREE, slot->number);
    undo->number = numa;
    undo->a = addr;
    undo->b = bytes;
    memory_unbook(db, slot, numa, addr, bytes);
    pagemap_free(&db->numa[numa].map, addr, bytes);
}

static void release_all(struct vdc_allocdb *db, struct slot *slot)
{
    while (slot->pub.blocks_len > 0) {
        struct vdc_memory_block last = slot->blocks[slot->pub.blocks_len - 1];
        release_memory(db, slot, numa_index_of(db, last.numa), last.addr, last.bytes);
    }
}

enum vdc_rc apply_memory_release(struct op_run *run, const struct vdc_op *op, struct slot *slot)
{
    const struct vdc_op_memory_release *release = &op->memory_release;
    struct vdc_allocdb *db = run->db;
    if (release->blocks_len == 0) {
        release_all(db, slot);
    }
    for (uint32_t i = 0; i < release->blocks_len; i++) {
        const struct vdc_memory_block *block = &release->blocks[i];
        uint32_t numa = numa_index_of(db, block->numa);
        if (numa == UINT32_MAX ||
            !pagemap_range_is(&db->numa[numa].map, block->addr, block->bytes, slot->number)) {
            return op_refuse(run, VDC_RC_CONFLICT, VDC_RULE_MEMORY_BUSY, block->bytes, 0,
                             "block %u (NUMA node %u at %llu, %llu bytes) is not %s's", i,
                             block->numa, ull(block->addr), ull(block->bytes), slot->pub.name);
        }
        if (block->addr % op_page_of(slot) != 0 || block->bytes % op_page_of(slot) != 0) {
            return op_refuse(run, VDC_RC_INVALID, VDC_RULE_MEMORY_PAGE, block->bytes,
                             op_page_of(slot), "block %u is not made of pages of %llu bytes", i,
                             ull(op_page_of(slot)));
        }
        release_memory(db, slot, numa, block->addr, block->bytes);
        if (slot->pub.blocks_len > VDC_VIEW_BLOCKS_MAX) {
            return refuse_fragmented(run, block->bytes);
        }
    }
    return VDC_RC_OK;
}
