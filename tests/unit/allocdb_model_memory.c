/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of the model. A chunk is 2 MiB; as long as all of it has one owner, that is written once,
 * which is all the cleverness that there is.
 */
#include <string.h>

#include "allocdb_model.h"

#define GIB_PAGES (GIB_CHUNKS * CHUNK_PAGES)

uint16_t memory_owner(const struct model_numa *numa, uint64_t page)
{
    const struct model_chunk *chunk = &numa->chunks[page / CHUNK_PAGES];
    return chunk->split ? chunk->page[page % CHUNK_PAGES] : chunk->owner;
}

bool memory_is(const struct model_numa *numa, uint64_t addr, uint64_t bytes, uint16_t owner)
{
    if (bytes == 0 || addr > numa->bytes || bytes > numa->bytes - addr) {
        return false;
    }
    for (uint64_t page = addr / PAGE; page < (addr + bytes) / PAGE;) {
        if (memory_owner(numa, page) != owner) {
            return false;
        }
        bool whole = page % CHUNK_PAGES == 0 && !numa->chunks[page / CHUNK_PAGES].split;
        page += whole ? CHUNK_PAGES : 1;
    }
    return true;
}

static void count_free(struct model_chunk *chunk)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < chunk->pages; i++) {
        count += (chunk->split ? chunk->page[i] : chunk->owner) == 0;
    }
    chunk->free_pages = (uint16_t)count;
}

static void chunk_set(struct model_chunk *chunk, uint32_t first, uint32_t len, uint16_t owner)
{
    if (first == 0 && len == chunk->pages) {
        chunk->split = false;
        chunk->owner = owner;
        chunk->free_pages = owner == 0 ? chunk->pages : 0;
        return;
    }
    for (uint32_t i = 0; !chunk->split && i < chunk->pages; i++) {
        chunk->page[i] = chunk->owner;
    }
    chunk->split = true;
    for (uint32_t i = first; i < first + len; i++) {
        chunk->page[i] = owner;
    }
    count_free(chunk);
}

void memory_set(struct model *m, int numa, uint64_t addr, uint64_t bytes, uint16_t owner)
{
    uint64_t page = addr / PAGE;
    uint64_t left = bytes / PAGE;
    while (left > 0) {
        uint32_t c = (uint32_t)(page / CHUNK_PAGES);
        uint32_t first = (uint32_t)(page % CHUNK_PAGES);
        struct model_chunk *chunk = &m->numas[numa].chunks[c];
        uint32_t len = (uint32_t)VDC_MIN(left, (uint64_t)(chunk->pages - first));
        VDC_GROW(m->saved, m->saved_cap, m->saved_len + 1);
        m->saved[m->saved_len].numa = numa;
        m->saved[m->saved_len].chunk = c;
        m->saved[m->saved_len++].was = *chunk;
        chunk_set(chunk, first, len, owner);
        page += len;
        left -= len;
    }
}

void memory_keep(struct model *m)
{
    m->saved_len = 0;
}

void memory_undo(struct model *m)
{
    while (m->saved_len > 0) {
        const struct model_saved_chunk *saved = &m->saved[--m->saved_len];
        m->numas[saved->numa].chunks[saved->chunk] = saved->was;
    }
}

void memory_drop(struct model *m, uint16_t owner)
{
    for (int n = 0; n < m->numas_len; n++) {
        for (uint32_t c = 0; c < m->numas[n].chunks_len; c++) {
            struct model_chunk *chunk = &m->numas[n].chunks[c];
            uint64_t addr = c * CHUNK_PAGES * PAGE;
            if (!chunk->split) {
                if (chunk->owner == owner) {
                    memory_set(m, n, addr, chunk->pages * PAGE, 0);
                }
                continue;
            }
            bool any = false;
            for (uint32_t i = 0; i < chunk->pages; i++) {
                any = any || chunk->page[i] == owner;
            }
            for (uint32_t i = 0; any && i < chunk->pages; i++) {
                if (chunk->page[i] == owner) {
                    uint32_t end = i + 1;
                    while (end < chunk->pages && chunk->page[end] == owner) {
                        end++;
                    }
                    memory_set(m, n, addr + i * PAGE, (end - i) * PAGE, 0);
                    i = end - 1;
                    any = chunk->split;
                }
            }
        }
    }
}

static bool chunk_is_free(const struct model_numa *numa, uint32_t c)
{
    return c < numa->chunks_len && numa->chunks[c].free_pages == CHUNK_PAGES;
}

static bool gib_is_free(const struct model_numa *numa, uint32_t g)
{
    for (uint32_t c = g * GIB_CHUNKS; c < (g + 1) * GIB_CHUNKS; c++) {
        if (!chunk_is_free(numa, c)) {
            return false;
        }
    }
    return true;
}

uint64_t memory_free(const struct model_numa *numa, uint64_t page)
{
    uint64_t bytes = 0;
    for (uint32_t c = 0; c < numa->chunks_len; c++) {
        if (page == PAGE || chunk_is_free(numa, c)) {
            bytes += numa->chunks[c].free_pages * PAGE;
        }
    }
    return bytes;
}

static uint32_t count_gibs(const struct model_numa *numa)
{
    return numa->chunks_len / GIB_CHUNKS;
}

uint64_t memory_largest(const struct model_numa *numa)
{
    for (uint32_t g = 0; g < count_gibs(numa); g++) {
        if (gib_is_free(numa, g)) {
            return GIB;
        }
    }
    if (memory_free(numa, 2 * MIB) > 0) {
        return 2 * MIB;
    }
    return memory_free(numa, PAGE) > 0 ? PAGE : 0;
}

/* --- where a demand goes: tx.h, vdc_op_memory_assign --- */

/* The first run of whole free GiBs that is long enough, else the longest. */
static uint32_t find_gibs(const struct model_numa *numa, uint64_t want, uint32_t *first)
{
    uint32_t longest = 0;
    for (uint32_t g = 0; g < count_gibs(numa) && longest < want; g++) {
        uint32_t len = 0;
        while (g + len < count_gibs(numa) && gib_is_free(numa, g + len)) {
            len++;
        }
        if (len > longest) {
            longest = len;
            *first = g;
        }
    }
    return (uint32_t)VDC_MIN(longest, want);
}

/* The same among the chunks of one GiB. */
static uint32_t find_chunks(const struct model_numa *numa, uint32_t g, uint32_t want,
                            uint32_t *first)
{
    uint32_t longest = 0;
    uint32_t end = (g + 1) * GIB_CHUNKS;
    for (uint32_t c = g * GIB_CHUNKS; c < end && longest < want; c++) {
        uint32_t len = 0;
        while (c + len < end && chunk_is_free(numa, c + len)) {
            len++;
        }
        if (len > longest) {
            longest = len;
            *first = c;
        }
        c += len;
    }
    return VDC_MIN(longest, want);
}

/* Chunks: of the GiBs that are broken already the first with a run that is long enough; else a whole
 * GiB is broken; else the longest run. */
static uint64_t choose_chunks(const struct model_numa *numa, uint64_t bytes, uint64_t *addr)
{
    uint32_t want = (uint32_t)VDC_MIN(bytes / (2 * MIB), (uint64_t)GIB_CHUNKS);
    uint32_t longest = 0;
    uint32_t at = 0;
    for (uint32_t g = 0; g * GIB_CHUNKS < numa->chunks_len && longest < want; g++) {
        uint32_t first = 0;
        uint32_t len = gib_is_free(numa, g) ? 0 : find_chunks(numa, g, want, &first);
        if (len > longest) {
            longest = len;
            at = first;
        }
    }
    for (uint32_t g = 0; longest < want && g < count_gibs(numa); g++) {
        if (gib_is_free(numa, g)) {
            longest = want;
            at = g * GIB_CHUNKS;
        }
    }
    *addr = at * 2 * MIB;
    return longest * 2 * MIB;
}

/* Pages: from the first chunk that is broken already, its first run; else a chunk is broken. */
static uint64_t choose_pages(const struct model_numa *numa, uint64_t bytes, uint64_t *addr)
{
    for (uint32_t c = 0; c < numa->chunks_len; c++) {
        const struct model_chunk *chunk = &numa->chunks[c];
        if (chunk->free_pages == 0 || chunk->free_pages == CHUNK_PAGES) {
            continue;
        }
        uint64_t page = (uint64_t)c * CHUNK_PAGES;
        while (memory_owner(numa, page) != 0) {
            page++;
        }
        uint64_t end = page;
        while (end < (uint64_t)c * CHUNK_PAGES + chunk->pages && memory_owner(numa, end) == 0) {
            end++;
        }
        *addr = page * PAGE;
        return VDC_MIN((end - page) * PAGE, bytes);
    }
    (void)choose_chunks(numa, 2 * MIB, addr);
    return VDC_MIN(bytes, 2 * MIB);
}

static uint64_t choose(const struct model_numa *numa, uint64_t bytes, uint64_t *addr)
{
    uint32_t first = 0;
    uint32_t gibs = bytes >= GIB ? find_gibs(numa, bytes / GIB, &first) : 0;
    if (gibs > 0) {
        *addr = first * GIB;
        return gibs * GIB;
    }
    if (bytes >= 2 * MIB && memory_free(numa, 2 * MIB) > 0) {
        return choose_chunks(numa, bytes, addr);
    }
    return choose_pages(numa, bytes, addr);
}

uint64_t memory_take(struct model *m, int numa, uint64_t bytes, uint64_t page, uint16_t owner,
                     uint64_t *addr)
{
    VDC_ASSERT(bytes <= memory_free(&m->numas[numa], page));
    uint64_t taken = choose(&m->numas[numa], bytes, addr);
    VDC_ASSERT(taken > 0 && taken <= bytes && *addr % page == 0 && taken % page == 0);
    memory_set(m, numa, *addr, taken, owner);
    return taken;
}

uint32_t memory_runs(const struct model *m, uint16_t owner, struct vdc_memory_block *out,
                     uint32_t max)
{
    uint32_t len = 0;
    for (int n = 0; n < m->numas_len; n++) {
        const struct model_numa *numa = &m->numas[n];
        uint64_t end = UINT64_MAX; /* of the run that may go on */
        struct vdc_memory_block run = {.numa = numa->number};
        for (uint32_t c = 0; c < numa->chunks_len; c++) {
            const struct model_chunk *chunk = &numa->chunks[c];
            uint32_t step = chunk->split ? 1 : chunk->pages;
            for (uint32_t i = 0; i < chunk->pages; i += step) {
                if ((chunk->split ? chunk->page[i] : chunk->owner) != owner) {
                    continue;
                }
                uint64_t addr = (c * CHUNK_PAGES + i) * PAGE;
                if (addr != end) {
                    run = (struct vdc_memory_block){.numa = numa->number, .addr = addr};
                    len++;
                }
                run.bytes += step * PAGE;
                end = addr + step * PAGE;
                if (len <= max) {
                    out[len - 1] = run;
                }
            }
        }
    }
    return len;
}

static struct model_chunk *chunks_make(const struct model_numa *old, uint64_t bytes, uint32_t *len)
{
    *len = (uint32_t)((bytes + 2 * MIB - 1) / (2 * MIB));
    struct model_chunk *chunks = vdc_calloc(*len, sizeof(chunks[0]));
    for (uint32_t c = 0; c < *len; c++) {
        uint64_t pages = VDC_MIN(bytes / PAGE - c * CHUNK_PAGES, (uint64_t)CHUNK_PAGES);
        bool kept = old != NULL && c < old->chunks_len;
        chunks[c].pages = (uint16_t)pages;
        chunks[c].split = true;
        for (uint32_t i = 0; i < pages; i++) {
            bool there = kept && i < old->chunks[c].pages;
            chunks[c].page[i] = there ? memory_owner(old, c * CHUNK_PAGES + i) : 0;
        }
        count_free(&chunks[c]);
        if (chunks[c].free_pages == pages) {
            chunk_set(&chunks[c], 0, (uint32_t)pages, 0);
        } else if (kept && !old->chunks[c].split && old->chunks[c].pages == pages) {
            chunk_set(&chunks[c], 0, (uint32_t)pages, old->chunks[c].owner);
        }
    }
    return chunks;
}

void memory_replace(struct model *m, const struct vdc_numa_info *infos, uint32_t len)
{
    struct model_numa fresh[MODEL_NUMAS_MAX];
    VDC_ASSERT(len <= MODEL_NUMAS_MAX);
    for (uint32_t i = 0; i < len; i++) {
        int old = model_find_numa(m, infos[i].number);
        fresh[i] = (struct model_numa){.number = infos[i].number, .bytes = infos[i].memory_bytes};
        fresh[i].chunks =
            chunks_make(old == NONE ? NULL : &m->numas[old], fresh[i].bytes, &fresh[i].chunks_len);
    }
    for (int n = 0; n < m->numas_len; n++) {
        free(m->numas[n].chunks);
    }
    memcpy(m->numas, fresh, len * sizeof(fresh[0]));
    m->numas_len = (int)len;
}
