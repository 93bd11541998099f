/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tiered page map of one NUMA node's memory: who owns each address.
 *
 *     tier 0: 1 GiB   [own 7][free ][split]
 *                                      |
 *     tier 1: 2 MiB               [free][own 7][split] ... 512
 *                                                 |
 *     tier 2: 4 KiB                          [own 9][free] ... 512
 *
 * An entry is free, owned whole, absent (behind the end of the memory), or split into a table of 512
 * entries of the next tier. Finding an owner takes one step per tier. A table whose entries are all
 * free is merged into one free entry (buddies), so the free structure depends on what is free now
 * and not on history: equal states make equal choices.
 *
 * Each tier has bitmaps of what is free, so free runs of a size are found by scanning words, 64
 * blocks at a time, and bounds of the runs' lengths say where there is nothing to find.
 */
#ifndef VDC_PAGEMAP_H
#define VDC_PAGEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/err.h>
#include <vdc/rc.h>

#define PAGE_4K (UINT64_C(1) << 12)
#define PAGE_2M (UINT64_C(1) << 21)
#define PAGE_1G (UINT64_C(1) << 30)
#define PAGE_FANOUT 512
/* Owners are numbered 0 .. PAGE_OWNER_MAX. */
#define PAGE_OWNER_MAX UINT32_C(0x7ffffff0)
#define PAGE_OWNER_NONE UINT32_MAX

struct page_table;

struct pagemap {
    uint64_t bytes; /* size of the memory, multiple of 4 KiB */
    uint64_t free_bytes;
    uint64_t free_1g; /* entries of each tier that are free whole */
    uint64_t free_2m;
    uint64_t free_4k;
    uint32_t roots;       /* entries of tier 0 */
    uint32_t root_words;  /* words of each bitmap over them */
    uint32_t *root;       /* entries */
    uint64_t *root_free;  /* bit: free whole */
    uint64_t *root_split; /* bit: split */
    uint64_t *root_has2m; /* bit: split, with a free 2 MiB entry */
    uint64_t *root_has4k; /* bit: split, with a free 4 KiB entry somewhere below */
    /* What no run is longer than, so that searches skip (pagemap_find.c): */
    uint16_t *run_bound;   /* of free 2 MiB entries in a split entry */
    uint16_t *group_bound; /* the same in all 64 of a word */
    uint16_t *begin_bound; /* of free entries of tier 0 that begin in a word */
    struct page_table **tables;
    size_t tables_cap;
    uint32_t tables_len;
    uint32_t tables_unused; /* head of the list of unused ones, UINT32_MAX: none */
};

void pagemap_init(struct pagemap *map, uint64_t bytes);
void pagemap_deinit(struct pagemap *map);

/* Owner of the address, PAGE_OWNER_NONE: free or absent. steps: entries looked at, at most 3. */
uint32_t pagemap_owner(const struct pagemap *map, uint64_t addr, unsigned *steps);
/* Bytes that can be taken in blocks of at least `page` (4K, 2M). */
uint64_t pagemap_free_in(const struct pagemap *map, uint64_t page);
/* Largest free block: 1 GiB, 2 MiB, 4 KiB, 0. */
uint64_t pagemap_largest_free(const struct pagemap *map);

/* Fetches what a search looks at first. */
static inline void pagemap_prefetch(const struct pagemap *map)
{
    __builtin_prefetch(map->root_free, 1);
    __builtin_prefetch(map->begin_bound);
    __builtin_prefetch(map->group_bound);
    __builtin_prefetch(map->root_has2m);
}

/* Takes the next run for a demand of `bytes` (> 0, multiple of `page`), at most so much: 1 GiB
 * blocks while they fit, then 2 MiB blocks, then 4 KiB (only if page is 4K). Of each size the lowest
 * run that is long enough, else the longest, so that the demand lies in few pieces. The run is
 * contiguous and one owner's; call again for the rest. bytes <= pagemap_free_in(page). */
void pagemap_take_next(struct pagemap *map, uint64_t bytes, uint64_t page, uint32_t owner,
                       uint64_t *addr, uint64_t *taken);

/* Whether all of [addr, addr + bytes) has the owner (PAGE_OWNER_NONE: is free). False for ranges
 * that are not 4 KiB aligned, empty or beyond the end. */
bool pagemap_range_is(const struct pagemap *map, uint64_t addr, uint64_t bytes, uint32_t owner);
/* Takes a range that pagemap_range_is(..., PAGE_OWNER_NONE). */
void pagemap_take(struct pagemap *map, uint64_t addr, uint64_t bytes, uint32_t owner);
/* Frees a range that has one owner. */
void pagemap_free(struct pagemap *map, uint64_t addr, uint64_t bytes);

/* Recomputes bitmaps and counters from the entries. INTERNAL with the difference. */
enum vdc_rc pagemap_check(const struct pagemap *map, struct vdc_err *err) VDC_MUST_USE;

#endif
