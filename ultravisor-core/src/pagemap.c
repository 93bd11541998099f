/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function, set_range(), makes every change: it walks the tiers, splits what it changes in part
 * and merges what became free whole. Taking and freeing differ only in the value that they write.
 * Runs of whole entries are written at once and their bitmaps changed word by word, because nearly
 * every guest has an odd edge of some hundred entries. Searching is in pagemap_find.c.
 */
#include <string.h>
#include <wchar.h>

#include "pagemap_table.h"

static void entries_fill(uint32_t *entries, uint32_t count, uint32_t value)
{
    _Static_assert(sizeof(wchar_t) == sizeof(uint32_t), "a wide character is an entry");
    /* The C library writes 8 or 16 at once; this loop would be the half of a transaction. */
    (void)wmemset((wchar_t *)entries, (wchar_t)value, count);
}

/* --- tables --- */

static uint64_t *free_counter(struct pagemap *map, const struct page_table *table)
{
    return table->tier1 ? &map->free_2m : &map->free_4k;
}

/* A table whose entries are all `fill` (no split). Its free entries are counted in the map. */
static uint32_t table_make(struct pagemap *map, bool tier1, uint32_t fill)
{
    uint32_t number = map->tables_unused;
    if (number == NO_TABLE) {
        VDC_GROW(map->tables, map->tables_cap, (size_t)map->tables_len + 1);
        number = map->tables_len++;
        map->tables[number] = VDC_NEW(struct page_table);
    } else {
        map->tables_unused = map->tables[number]->next_unused;
    }
    struct page_table *table = map->tables[number];
    memset(table->free, fill == FREE ? 0xff : 0, sizeof(table->free));
    memset(table->has4k, 0, sizeof(table->has4k));
    table->free_len = fill == FREE ? PAGE_FANOUT : 0;
    table->has4k_len = 0;
    table->split_len = 0;
    table->tier1 = tier1;
    if (fill != FREE) {
        entries_fill(table->entry, PAGE_FANOUT, fill);
    }
    *free_counter(map, table) += table->free_len;
    return number | SPLIT;
}

static void has4k_put(struct page_table *table, uint32_t i, bool on)
{
    if (bit_get(table->has4k, i) != on) {
        bit_put(table->has4k, i, on);
        table->has4k_len = on ? table->has4k_len + 1 : table->has4k_len - 1;
    }
}

/* Gives a table without splits back; what is free in it is no longer counted. */
static void table_unmake(struct pagemap *map, uint32_t entry)
{
    struct page_table *table = table_of(map, entry);
    VDC_ASSERT(table->split_len == 0);
    *free_counter(map, table) -= table->free_len;
    table->next_unused = map->tables_unused;
    map->tables_unused = entry & ~SPLIT;
}

/* Gives back the tables below the entries [first, end), which then are owned by nobody known. */
static void unsplit(struct pagemap *map, struct page_table *table, uint32_t first, uint32_t end)
{
    for (uint32_t i = first; table->split_len > 0 && i < end; i++) {
        if (is_split(table_entry(table, i))) {
            table_unmake(map, table->entry[i]);
            table->entry[i] = ABSENT;
            table->split_len--;
            has4k_put(table, i, false);
        }
    }
}

/* Sets the entries [first, end) of a table, dropping tables below them. Either all of them are free
 * or none is, and that changes: what is taken was free, what is freed had an owner. */
static void children_set(struct pagemap *map, struct page_table *table, uint32_t first,
                         uint32_t end, uint32_t value)
{
    uint32_t count = end - first;
    bool is_free = value == FREE;
    unsplit(map, table, first, end);
    VDC_ASSERT(bit_get(table->free, first) != is_free);
    if (is_free) {
        table->free_len += count;
        *free_counter(map, table) += count;
        bits_set(table->free, first, end);
    } else {
        table->free_len -= count;
        *free_counter(map, table) -= count;
        bits_clear(table->free, first, end);
        entries_fill(&table->entry[first], count, value);
    }
}

/* [addr, addr + bytes) within the 2 MiB of entry i. */
static void set_part_of_2m(struct pagemap *map, struct page_table *table, uint32_t i, uint64_t addr,
                           uint64_t bytes, uint32_t value)
{
    uint32_t entry = table_entry(table, i);
    if (!is_split(entry)) {
        if (entry == FREE) {
            children_set(map, table, i, i + 1, ABSENT);
        }
        entry = table_make(map, false, entry);
        table->entry[i] = entry;
        table->split_len++;
    }
    struct page_table *below = table_of(map, entry);
    children_set(map, below, (uint32_t)(addr / PAGE_4K), (uint32_t)((addr + bytes) / PAGE_4K),
                 value);
    has4k_put(table, i, below->free_len > 0);
    if (below->free_len == PAGE_FANOUT) {
        children_set(map, table, i, i + 1, FREE);
    }
}

/* addr is relative to the GiB i, whose table it is. */
static void set_range_in_1g(struct pagemap *map, uint32_t i, struct page_table *table,
                            uint64_t addr, uint64_t bytes, uint32_t value)
{
    while (bytes > 0) {
        uint32_t first = (uint32_t)(addr / PAGE_2M);
        uint32_t end = first + 1;
        uint64_t inside = addr % PAGE_2M;
        uint64_t part;
        if (inside == 0 && bytes >= PAGE_2M) {
            part = bytes - bytes % PAGE_2M;
            end = first + (uint32_t)(part / PAGE_2M);
            children_set(map, table, first, end, value);
        } else {
            part = VDC_MIN(bytes, PAGE_2M - inside);
            set_part_of_2m(map, table, first, inside, part, value);
        }
        if (bit_get(table->free, first)) {
            pagemap_note_run(map, i, first, end);
        }
        addr += part;
        bytes -= part;
    }
}

/* --- the root --- */

/* Gives back the table of the split GiB i, which then is owned by nobody known. */
static void root_unsplit(struct pagemap *map, uint32_t i)
{
    unsplit(map, table_of(map, map->root[i]), 0, PAGE_FANOUT);
    table_unmake(map, map->root[i]);
    map->root[i] = ABSENT;
    map->run_bound[i] = 0;
    bit_put(map->root_split, i, false);
    bit_put(map->root_has2m, i, false);
    bit_put(map->root_has4k, i, false);
}

/* Sets whole GiBs [first, end), dropping tables below them: as children_set. */
static void roots_set(struct pagemap *map, uint32_t first, uint32_t end, uint32_t value)
{
    bool is_free = value == FREE;
    if (!bits_none(map->root_split, first, end, 0)) {
        for (uint32_t i = first; i < end; i++) {
            if (bit_get(map->root_split, i)) {
                root_unsplit(map, i);
            }
        }
    }
    VDC_ASSERT(bit_get(map->root_free, first) != is_free);
    if (is_free) {
        map->free_1g += end - first;
        bits_set(map->root_free, first, end);
        pagemap_note_freed(map, first, end);
    } else {
        map->free_1g -= end - first;
        bits_clear(map->root_free, first, end);
        pagemap_note_taken(map, end);
        entries_fill(&map->root[first], end - first, value);
    }
}

/* [addr, addr + bytes) within GiB i. */
static void set_part_of_1g(struct pagemap *map, uint32_t i, uint64_t addr, uint64_t bytes,
                           uint32_t value)
{
    uint32_t entry = root_entry(map, i);
    if (!is_split(entry)) {
        if (entry == FREE) {
            roots_set(map, i, i + 1, ABSENT);
        }
        map->root[i] = table_make(map, true, entry);
        bit_put(map->root_split, i, true);
        if (entry == FREE) {
            pagemap_note_run(map, i, 0, PAGE_FANOUT);
        }
    }
    struct page_table *below = table_of(map, map->root[i]);
    set_range_in_1g(map, i, below, addr, bytes, value);
    bit_put(map->root_has2m, i, below->free_len > 0);
    bit_put(map->root_has4k, i, below->has4k_len > 0);
    if (below->free_len == PAGE_FANOUT) {
        roots_set(map, i, i + 1, FREE);
    }
}

static void set_range(struct pagemap *map, uint64_t addr, uint64_t bytes, uint32_t value)
{
    while (bytes > 0) {
        uint32_t i = (uint32_t)(addr / PAGE_1G);
        uint64_t inside = addr % PAGE_1G;
        uint64_t part;
        if (inside == 0 && bytes >= PAGE_1G) {
            part = bytes - bytes % PAGE_1G;
            roots_set(map, i, i + (uint32_t)(part / PAGE_1G), value);
        } else {
            part = VDC_MIN(bytes, PAGE_1G - inside);
            set_part_of_1g(map, i, inside, part, value);
        }
        addr += part;
        bytes -= part;
    }
}

/* --- the map --- */

void pagemap_init(struct pagemap *map, uint64_t bytes)
{
    VDC_ASSERT(bytes % PAGE_4K == 0);
    *map = (struct pagemap){.bytes = bytes, .free_bytes = bytes, .tables_unused = NO_TABLE};
    map->roots = (uint32_t)((bytes + PAGE_1G - 1) / PAGE_1G);
    map->root_words = (map->roots + 63) / 64;
    map->root = vdc_calloc(map->roots, sizeof(map->root[0]));
    map->run_bound = vdc_calloc(map->roots, sizeof(map->run_bound[0]));
    /* Searched four at once. */
    map->begin_bound = vdc_calloc(map->root_words + 3ul, sizeof(map->begin_bound[0]));
    map->group_bound = vdc_calloc(map->root_words + 3ul, sizeof(map->group_bound[0]));
    map->root_free = vdc_calloc(map->root_words, sizeof(uint64_t));
    map->root_split = vdc_calloc(map->root_words, sizeof(uint64_t));
    map->root_has2m = vdc_calloc(map->root_words, sizeof(uint64_t));
    map->root_has4k = vdc_calloc(map->root_words, sizeof(uint64_t));
    for (uint32_t i = 0; i < map->roots; i++) {
        map->root[i] = ABSENT;
    }
    set_range(map, 0, bytes, FREE);
}

void pagemap_deinit(struct pagemap *map)
{
    for (uint32_t i = 0; i < map->tables_len; i++) {
        free(map->tables[i]);
    }
    free(map->tables);
    free(map->root);
    free(map->run_bound);
    free(map->begin_bound);
    free(map->group_bound);
    free(map->root_split);
    free(map->root_free);
    free(map->root_has2m);
    free(map->root_has4k);
    *map = (struct pagemap){0};
}

uint32_t pagemap_owner(const struct pagemap *map, uint64_t addr, unsigned *steps)
{
    unsigned count = 0;
    uint32_t entry = ABSENT;
    if (addr < map->bytes) {
        count = 1;
        entry = root_entry(map, (uint32_t)(addr / PAGE_1G));
        if (is_split(entry)) {
            count = 2;
            entry = table_entry(table_of(map, entry), addr % PAGE_1G / PAGE_2M);
        }
        if (is_split(entry)) {
            count = 3;
            entry = table_entry(table_of(map, entry), addr % PAGE_2M / PAGE_4K);
        }
    }
    if (steps != NULL) {
        *steps = count;
    }
    return entry == FREE || entry == ABSENT ? PAGE_OWNER_NONE : entry - 1;
}

uint64_t pagemap_free_in(const struct pagemap *map, uint64_t page)
{
    return page == PAGE_4K ? map->free_bytes : map->free_1g * PAGE_1G + map->free_2m * PAGE_2M;
}

uint64_t pagemap_largest_free(const struct pagemap *map)
{
    if (map->free_1g > 0) {
        return PAGE_1G;
    }
    return map->free_2m > 0 ? PAGE_2M : map->free_4k > 0 ? PAGE_4K : 0;
}

void pagemap_take_next(struct pagemap *map, uint64_t bytes, uint64_t page, uint32_t owner,
                       uint64_t *addr, uint64_t *taken)
{
    VDC_ASSERT(bytes > 0 && (bytes & (page - 1)) == 0 && bytes <= pagemap_free_in(map, page));
    if (pagemap_find(map, bytes, page, addr, taken)) {
        uint32_t first = (uint32_t)(*addr / PAGE_1G);
        roots_set(map, first, first + (uint32_t)(*taken / PAGE_1G), owner + 1);
    } else {
        set_part_of_1g(map, (uint32_t)(*addr / PAGE_1G), *addr % PAGE_1G, *taken, owner + 1);
    }
    map->free_bytes -= *taken;
}

static bool table_range_is(const struct pagemap *map, const struct page_table *table, uint64_t page,
                           uint64_t addr, uint64_t bytes, uint32_t value)
{
    if (value == FREE && addr % page == 0 && bytes % page == 0) {
        /* A split entry is never free whole: it would have been merged. */
        return bits_none(table->free, (uint32_t)(addr / page), (uint32_t)((addr + bytes) / page),
                         UINT64_MAX);
    }
    while (bytes > 0) {
        uint64_t inside = addr % page;
        uint64_t part = VDC_MIN(bytes, page - inside);
        uint32_t entry = table_entry(table, (uint32_t)(addr / page));
        if (is_split(entry)) {
            if (!table_range_is(map, table_of(map, entry), PAGE_4K, inside, part, value)) {
                return false;
            }
        } else if (entry != value) {
            return false;
        }
        addr += part;
        bytes -= part;
    }
    return true;
}

bool pagemap_range_is(const struct pagemap *map, uint64_t addr, uint64_t bytes, uint32_t owner)
{
    uint32_t value = owner == PAGE_OWNER_NONE ? FREE : owner + 1;
    if (bytes == 0 || addr % PAGE_4K != 0 || bytes % PAGE_4K != 0 || addr > map->bytes ||
        bytes > map->bytes - addr) {
        return false;
    }
    while (bytes > 0) {
        uint64_t inside = addr % PAGE_1G;
        uint64_t part = VDC_MIN(bytes, PAGE_1G - inside);
        if (value == FREE && inside == 0 && bytes >= PAGE_1G) {
            part = bytes - bytes % PAGE_1G;
            uint32_t first = (uint32_t)(addr / PAGE_1G);
            if (!bits_none(map->root_free, first, first + (uint32_t)(part / PAGE_1G), UINT64_MAX)) {
                return false;
            }
            addr += part;
            bytes -= part;
            continue;
        }
        uint32_t entry = root_entry(map, (uint32_t)(addr / PAGE_1G));
        if (is_split(entry)) {
            if (!table_range_is(map, table_of(map, entry), PAGE_2M, inside, part, value)) {
                return false;
            }
        } else if (entry != value) {
            return false;
        }
        addr += part;
        bytes -= part;
    }
    return true;
}

void pagemap_take(struct pagemap *map, uint64_t addr, uint64_t bytes, uint32_t owner)
{
    VDC_ASSERT(owner <= PAGE_OWNER_MAX);
    VDC_ASSERT(bytes <= map->free_bytes);
    set_range(map, addr, bytes, owner + 1);
    map->free_bytes -= bytes;
}

void pagemap_free(struct pagemap *map, uint64_t addr, uint64_t bytes)
{
    VDC_ASSERT(bytes <= map->bytes - map->free_bytes);
    set_range(map, addr, bytes, FREE);
    map->free_bytes += bytes;
}
