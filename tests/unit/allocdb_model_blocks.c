/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model's memory of partitions: which NUMA nodes give how much, and what may be named.
 */
#include "allocdb_model_run.h"

static uint64_t page_of(const struct model_run *run, int p)
{
    return run->s->partitions[p].as.kind == VDC_PARTITION_GUEST ? 2 * MIB : PAGE;
}

static bool judge_runs(struct model_run *run, int p, uint32_t pieces, uint64_t asked)
{
    uint32_t runs = memory_runs(run->m, (uint16_t)(1 + p), NULL, 0);
    return (pieces <= VDC_VIEW_BLOCKS_MAX && runs <= VDC_VIEW_BLOCKS_MAX) ||
           model_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_FRAGMENTED, asked,
                        VDC_VIEW_BLOCKS_MAX);
}

/* What a demand takes of each NUMA node, by index. */
struct split {
    uint64_t bytes[MODEL_NUMAS_MAX];
    int first; /* is taken from before the others; NONE: they go in order */
};

static bool refuse_memory(struct model_run *run, enum vdc_tx_rule rule, uint64_t asked,
                          uint64_t there, uint64_t largest)
{
    run->answer.largest = largest;
    return model_refuse(run, VDC_RC_NO_SPACE, rule, asked, there);
}

/* `first`, then all others in order, each as far as it goes. */
static bool split_over_all(struct model_run *run, uint64_t bytes, uint64_t page, int first,
                           struct split *split)
{
    const struct model *m = run->m;
    uint64_t there = 0;
    uint64_t largest = 0;
    for (int n = 0; n < m->numas_len; n++) {
        there += memory_free(&m->numas[n], page);
        largest = VDC_MAX(largest, memory_largest(&m->numas[n]));
    }
    if (there < bytes) {
        return refuse_memory(run, VDC_RULE_MEMORY_FREE, bytes, there, largest);
    }
    split->first = first;
    if (first != NONE) {
        split->bytes[first] = VDC_MIN(bytes, memory_free(&m->numas[first], page));
        bytes -= split->bytes[first];
    }
    for (int n = 0; n < m->numas_len; n++) {
        if (n != first) {
            split->bytes[n] = VDC_MIN(bytes, memory_free(&m->numas[n], page));
            bytes -= split->bytes[n];
        }
    }
    return true;
}

/* All of it on `only`, or on the first that has all of it. False with *most, *largest: none has. */
static bool split_on_one(const struct model_run *run, uint64_t bytes, uint64_t page, int only,
                         struct split *split, uint64_t *most, uint64_t *largest)
{
    *most = 0;
    *largest = 0;
    for (int n = 0; n < run->m->numas_len; n++) {
        const struct model_numa *numa = &run->m->numas[n];
        if (only != NONE && n != only) {
            continue;
        }
        if (memory_free(numa, page) >= bytes) {
            split->bytes[n] = bytes;
            return true;
        }
        *most = VDC_MAX(*most, memory_free(numa, page));
        *largest = VDC_MAX(*largest, memory_largest(numa));
    }
    return false;
}

static bool split_equally(struct model_run *run, uint64_t bytes, uint64_t page, uint64_t nodes,
                          struct split *split)
{
    uint32_t count = model_count_bits(nodes);
    uint32_t nth = 0;
    if (!model_need_nodes(run, nodes)) {
        return false;
    }
    for (int n = 0; n < run->m->numas_len; n++) {
        const struct model_numa *numa = &run->m->numas[n];
        if ((nodes >> numa->number & 1) == 0) {
            continue;
        }
        uint64_t part = (bytes / page / count + (nth < bytes / page % count)) * page;
        if (part > memory_free(numa, page)) {
            return refuse_memory(run, VDC_RULE_LOCALITY, part, memory_free(numa, page),
                                 memory_largest(numa));
        }
        split->bytes[n] = part;
        nth++;
    }
    return true;
}

static bool resolve_memory(struct model_run *run, int p, const struct vdc_op_memory_assign *assign,
                           struct split *split)
{
    uint64_t page = page_of(run, p);
    uint64_t most;
    uint64_t largest;
    int numa;
    if (!model_need_numa(run, assign->numa, &numa)) {
        return false;
    }
    switch (assign->locality) {
    case VDC_LOCALITY_DEFAULT:
        if (split_on_one(run, assign->bytes, page, numa, split, &most, &largest)) {
            return true;
        }
        return numa == NONE
                   ? split_over_all(run, assign->bytes, page, NONE, split)
                   : refuse_memory(run, VDC_RULE_MEMORY_FREE, assign->bytes, most, largest);
    case VDC_LOCALITY_STRICT:
        return split_on_one(run, assign->bytes, page, numa, split, &most, &largest) ||
               refuse_memory(run, VDC_RULE_LOCALITY, assign->bytes, most, largest);
    case VDC_LOCALITY_PREFERRED:
        return split_over_all(run, assign->bytes, page, numa, split);
    case VDC_LOCALITY_SPANNING:
        return split_equally(run, assign->bytes, page, assign->nodes, split);
    }
    return false;
}

/* Each piece is judged, one that goes on behind the one before is not another. */
static bool take_of_numa(struct model_run *run, int p, int numa, uint64_t bytes, uint32_t *pieces)
{
    uint64_t end = UINT64_MAX;
    for (uint64_t left = bytes; left > 0;) {
        uint64_t addr;
        uint64_t taken = memory_take(run->m, numa, left, page_of(run, p), (uint16_t)(1 + p), &addr);
        *pieces += addr != end;
        end = addr + taken;
        left -= taken;
        if (!judge_runs(run, p, *pieces, bytes)) {
            return false;
        }
    }
    return true;
}

static bool take_split(struct model_run *run, int p, const struct split *split)
{
    uint32_t pieces = 0;
    if (split->first != NONE &&
        !take_of_numa(run, p, split->first, split->bytes[split->first], &pieces)) {
        return false;
    }
    for (int n = 0; n < run->m->numas_len; n++) {
        if (n != split->first && !take_of_numa(run, p, n, split->bytes[n], &pieces)) {
            return false;
        }
    }
    return true;
}

static bool take_named(struct model_run *run, int p, const struct vdc_op_memory_assign *assign)
{
    struct model *m = run->m;
    uint64_t page = page_of(run, p);
    for (uint32_t i = 0; i < assign->blocks_len; i++) {
        const struct vdc_memory_block *block = &assign->blocks[i];
        int n = model_find_numa(m, block->numa);
        if (n == NONE) {
            return model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, block->numa, 0);
        }
        if (block->addr % page != 0 || block->bytes % page != 0) {
            return model_refuse(run, VDC_RC_INVALID, VDC_RULE_MEMORY_PAGE, block->bytes, page);
        }
        if (!memory_is(&m->numas[n], block->addr, block->bytes, 0)) {
            return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_MEMORY_BUSY, block->bytes, 0);
        }
        memory_set(m, n, block->addr, block->bytes, (uint16_t)(1 + p));
        if (!judge_runs(run, p, 0, assign->bytes)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < assign->blocks_len; i++) {
        uint32_t number = assign->blocks[i].numa;
        if (!model_node_fits(assign->locality, assign->numa, assign->nodes, assign->blocks[0].numa,
                             number)) {
            return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_LOCALITY, assign->blocks[i].bytes,
                                number);
        }
    }
    return true;
}

bool model_apply_memory_assign(struct model_run *run, const struct vdc_op_memory_assign *assign)
{
    int p = model_need_partition(run, &assign->id);
    if (p == NONE) {
        return false;
    }
    if (assign->bytes % page_of(run, p) != 0) {
        return model_refuse(run, VDC_RC_INVALID, VDC_RULE_MEMORY_PAGE, assign->bytes,
                            page_of(run, p));
    }
    if (!model_within_slice(run, assign->bytes)) {
        return false;
    }
    struct split split = {.first = NONE};
    bool taken = assign->blocks_len > 0
                     ? take_named(run, p, assign)
                     : resolve_memory(run, p, assign, &split) && take_split(run, p, &split);
    if (taken) {
        run->s->partitions[p].held += assign->bytes;
        model_touch(run, p);
    }
    return taken;
}

bool model_apply_memory_release(struct model_run *run, const struct vdc_op_memory_release *release)
{
    struct model *m = run->m;
    int p = model_need_partition(run, &release->id);
    if (p == NONE) {
        return false;
    }
    struct model_partition *partition = &run->s->partitions[p];
    uint64_t page = page_of(run, p);
    if (release->blocks_len == 0) {
        memory_drop(m, (uint16_t)(1 + p));
        m->touched[p] = m->touched[p] || partition->held > 0;
        partition->held = 0;
    }
    for (uint32_t i = 0; i < release->blocks_len; i++) {
        const struct vdc_memory_block *block = &release->blocks[i];
        int n = model_find_numa(m, block->numa);
        if (n == NONE || !memory_is(&m->numas[n], block->addr, block->bytes, (uint16_t)(1 + p))) {
            return model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_MEMORY_BUSY, block->bytes, 0);
        }
        if (block->addr % page != 0 || block->bytes % page != 0) {
            return model_refuse(run, VDC_RC_INVALID, VDC_RULE_MEMORY_PAGE, block->bytes, page);
        }
        memory_set(m, n, block->addr, block->bytes, 0);
        partition->held -= block->bytes;
        model_touch(run, p);
        if (!judge_runs(run, p, 0, block->bytes)) {
            return false;
        }
    }
    return true;
}
