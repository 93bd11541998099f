/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the page map is made of, for the files that take, search and check it.
 *
 * An entry is 1 + owner, ABSENT, or SPLIT | table number; whether it is free is said by its bit in a
 * bitmap and not by the entry, so that freeing 512 entries is writing 8 words.
 */
#ifndef VDC_PAGEMAP_TABLE_H
#define VDC_PAGEMAP_TABLE_H

#include <vdc/base.h>

#include "bits.h"
#include "pagemap.h"

#define FREE UINT32_C(0)
#define ABSENT UINT32_C(0x7fffffff)
#define SPLIT UINT32_C(0x80000000)
#define NO_TABLE UINT32_MAX
#define TABLE_WORDS (PAGE_FANOUT / 64)

struct page_table {
    uint64_t free[TABLE_WORDS];  /* bit: free whole */
    uint64_t has4k[TABLE_WORDS]; /* tier 1 only; bit: split, with a free entry */
    uint32_t free_len;
    uint32_t has4k_len;
    uint32_t split_len;
    uint32_t next_unused;
    bool tier1;
    uint32_t entry[PAGE_FANOUT]; /* of those that are not free */
};

static inline bool is_split(uint32_t entry)
{
    return (entry & SPLIT) != 0;
}

static inline uint32_t table_entry(const struct page_table *table, uint32_t i)
{
    return bit_get(table->free, i) ? FREE : table->entry[i];
}

static inline uint32_t root_entry(const struct pagemap *map, uint32_t i)
{
    return bit_get(map->root_free, i) ? FREE : map->root[i];
}

static inline struct page_table *table_of(const struct pagemap *map, uint32_t entry)
{
    VDC_ASSERT(is_split(entry));
    return map->tables[entry & ~SPLIT];
}

/* pagemap_find.c */

/* The next run for a demand of `bytes`, see pagemap_take_next. True: it is of whole GiBs; false: it
 * lies within one. */
bool pagemap_find(struct pagemap *map, uint64_t bytes, uint64_t page, uint64_t *addr,
                  uint64_t *found);
/* Free GiBs [first, end) were taken / became free; free 2 MiB entries [first, end) of the split GiB
 * i became free, or all of them changed: keeps the bounds right. */
void pagemap_note_taken(struct pagemap *map, uint32_t end);
void pagemap_note_freed(struct pagemap *map, uint32_t first, uint32_t end);
void pagemap_note_run(struct pagemap *map, uint32_t i, uint32_t first, uint32_t end);

#endif
