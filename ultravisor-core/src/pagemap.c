/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function, set_range(), makes every change: it walks the tiers, splits what it changes in part
 * and merges what became free whole. Taking and freeing differ only in the value that they write.
 * Runs of whole entries are written at once and their bitmaps changed word by word, because nearly
 * every guest has an odd edge of some hundred entries.
 *
 * An entry: 0 free, 1 + owner, ABSENT, or SPLIT | table number.
 */
#include "pagemap.h"

#include <string.h>
#include <wchar.h>

#include <vdc/base.h>

#define FREE UINT32_C(0)
#define ABSENT UINT32_C(0x7fffffff)
#define SPLIT UINT32_C(0x80000000)
#define NO_TABLE UINT32_MAX
#define TABLE_WORDS (PAGE_FANOUT / 64)

struct page_table {
    uint32_t entry[PAGE_FANOUT];
    uint64_t free[TABLE_WORDS];  /* bit: free whole */
    uint64_t has4k[TABLE_WORDS]; /* tier 1 only; bit: split, with a free entry */
    uint32_t free_len;
    uint32_t has4k_len;
    uint32_t split_len;
    uint32_t next_unused;
    bool tier1;
};

static void bit_put(uint64_t *words, uint32_t i, bool on)
{
    uint64_t bit = UINT64_C(1) << (i % 64);
    words[i / 64] = on ? words[i / 64] | bit : words[i / 64] & ~bit;
}

static bool bit_get(const uint64_t *words, uint32_t i)
{
    return (words[i / 64] >> (i % 64) & 1) != 0;
}

/* The mask of the bits of word `w` that lie in [first, end). */
static uint64_t word_mask(uint32_t w, uint32_t first, uint32_t end)
{
    uint64_t mask = UINT64_MAX;
    if (first > w * 64) {
        mask &= UINT64_MAX << (first - w * 64);
    }
    if (end < (w + 1) * 64) {
        mask &= UINT64_MAX >> ((w + 1) * 64 - end);
    }
    return mask;
}

/* Writes the bits [first, end), which are not none. */
static void bits_put(uint64_t *words, uint32_t first, uint32_t end, bool on)
{
    for (uint32_t w = first / 64; w <= (end - 1) / 64; w++) {
        uint64_t mask = word_mask(w, first, end);
        words[w] = on ? words[w] | mask : words[w] & ~mask;
    }
}

/* Whether the bits [first, end), which are not none, are all set. */
static bool bits_all(const uint64_t *words, uint32_t first, uint32_t end)
{
    for (uint32_t w = first / 64; w <= (end - 1) / 64; w++) {
        uint64_t mask = word_mask(w, first, end);
        if ((words[w] & mask) != mask) {
            return false;
        }
    }
    return true;
}

/* The lowest bit at or behind `from` that is set (`flip` 0) or clear (`flip` UINT64_MAX); the number
 * of bits: none. */
static uint32_t bit_next(const uint64_t *words, uint32_t words_len, uint32_t from, uint64_t flip)
{
    uint32_t w = from / 64;
    if (w >= words_len) {
        return words_len * 64;
    }
    uint64_t word = (words[w] ^ flip) & UINT64_MAX << (from % 64);
    while (word == 0) {
        if (++w == words_len) {
            return words_len * 64;
        }
        word = words[w] ^ flip;
    }
    return w * 64 + (uint32_t)__builtin_ctzll(word);
}

/* Lowest set bit, UINT32_MAX: none. */
static uint32_t bit_first(const uint64_t *words, uint32_t words_len)
{
    uint32_t bit = bit_next(words, words_len, 0, 0);
    return bit == words_len * 64 ? UINT32_MAX : bit;
}

/* A run of set bits: the lowest one of at least `want`, else the longest (of equals the lowest).
 * Returns its length, at most `want`; 0: no bit is set. Goes through the words once, clearing each
 * run in the copy of its word; a run at a word's end may go on in the next. */
static uint32_t find_run(const uint64_t *words, uint32_t words_len, uint32_t want, uint32_t *first)
{
    uint32_t longest = 0;
    uint32_t open = 0; /* length of the run that reaches the end of the word before */
    for (uint32_t w = 0; w < words_len && longest < want; w++) {
        uint64_t word = words[w];
        if (word == UINT64_MAX) {
            open += 64;
            if (open > longest) {
                longest = open;
                *first = (w + 1) * 64 - open;
            }
            continue;
        }
        uint32_t low = (uint32_t)__builtin_ctzll(~word);
        if (open + low > longest) {
            longest = open + low;
            *first = w * 64 - open;
        }
        word &= word + 1; /* the run at the beginning is done */
        open = (uint32_t)__builtin_clzll(~word);
        while (word != 0 && longest < want) {
            uint32_t at = (uint32_t)__builtin_ctzll(word);
            uint64_t above = ~(word >> at);
            uint32_t len = (uint32_t)__builtin_ctzll(above);
            if (len > longest) {
                longest = len;
                *first = w * 64 + at;
            }
            word &= word + (UINT64_C(1) << at);
        }
    }
    return VDC_MIN(longest, want);
}

static bool is_split(uint32_t entry)
{
    return (entry & SPLIT) != 0;
}

static struct page_table *table_of(const struct pagemap *map, uint32_t entry)
{
    VDC_ASSERT(is_split(entry));
    return map->tables[entry & ~SPLIT];
}

static void entries_fill(uint32_t *entries, uint32_t count, uint32_t value)
{
    _Static_assert(sizeof(wchar_t) == sizeof(uint32_t), "a wide character is an entry");
    /* The C library writes 8 or 16 at once; this loop would be the half of a transaction. */
    (void)wmemset((wchar_t *)entries, (wchar_t)value, count);
}

static void child_set(struct pagemap *map, struct page_table *table, uint32_t i, uint32_t entry)
{
    uint32_t old = table->entry[i];
    table->entry[i] = entry;
    table->split_len += (uint32_t)is_split(entry) - (uint32_t)is_split(old);
    bool was_free = old == FREE;
    bool is_free = entry == FREE;
    if (was_free != is_free) {
        bit_put(table->free, i, is_free);
        uint64_t *counter = table->tier1 ? &map->free_2m : &map->free_4k;
        *counter = is_free ? *counter + 1 : *counter - 1;
        table->free_len = is_free ? table->free_len + 1 : table->free_len - 1;
    }
}

static void root_set(struct pagemap *map, uint32_t i, uint32_t entry)
{
    bool was_free = map->root[i] == FREE;
    bool is_free = entry == FREE;
    map->root[i] = entry;
    if (was_free != is_free) {
        bit_put(map->root_free, i, is_free);
        map->free_1g = is_free ? map->free_1g + 1 : map->free_1g - 1;
    }
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
    entries_fill(table->entry, PAGE_FANOUT, fill);
    memset(table->free, fill == FREE ? 0xff : 0, sizeof(table->free));
    memset(table->has4k, 0, sizeof(table->has4k));
    table->free_len = fill == FREE ? PAGE_FANOUT : 0;
    table->has4k_len = 0;
    table->split_len = 0;
    table->tier1 = tier1;
    uint64_t *counter = tier1 ? &map->free_2m : &map->free_4k;
    *counter += table->free_len;
    return number | SPLIT;
}

/* Gives a table and those below it back; what is free in them is no longer counted. */
static void table_drop(struct pagemap *map, uint32_t entry)
{
    struct page_table *table = table_of(map, entry);
    for (uint32_t i = 0; table->split_len > 0 && i < PAGE_FANOUT; i++) {
        if (is_split(table->entry[i])) {
            table_drop(map, table->entry[i]);
            child_set(map, table, i, ABSENT);
        }
    }
    uint64_t *counter = table->tier1 ? &map->free_2m : &map->free_4k;
    *counter -= table->free_len;
    table->next_unused = map->tables_unused;
    map->tables_unused = entry & ~SPLIT;
}

static void has4k_put(struct page_table *table, uint32_t i, bool on)
{
    if (bit_get(table->has4k, i) != on) {
        bit_put(table->has4k, i, on);
        table->has4k_len = on ? table->has4k_len + 1 : table->has4k_len - 1;
    }
}

/* Sets the entries [first, first + count) of a table, dropping tables below them. Either all of them
 * are free or none is, and that changes: what is taken was free, what is freed had an owner. */
static void children_set(struct pagemap *map, struct page_table *table, uint32_t first,
                         uint32_t count, uint32_t value)
{
    for (uint32_t i = first; table->split_len > 0 && i < first + count; i++) {
        if (is_split(table->entry[i])) {
            table_drop(map, table->entry[i]);
            child_set(map, table, i, ABSENT);
            has4k_put(table, i, false);
        }
    }
    bool is_free = value == FREE;
    VDC_ASSERT((table->entry[first] == FREE) != is_free);
    uint64_t *counter = table->tier1 ? &map->free_2m : &map->free_4k;
    table->free_len = is_free ? table->free_len + count : table->free_len - count;
    *counter = is_free ? *counter + count : *counter - count;
    bits_put(table->free, first, first + count, is_free);
    entries_fill(&table->entry[first], count, value);
}

/* [addr, addr + bytes) within the 2 MiB of entry i. */
static void set_part_of_2m(struct pagemap *map, struct page_table *table, uint32_t i, uint64_t addr,
                           uint64_t bytes, uint32_t value)
{
    uint32_t entry = table->entry[i];
    if (!is_split(entry)) {
        entry = table_make(map, false, entry);
        child_set(map, table, i, entry);
    }
    struct page_table *below = table_of(map, entry);
    children_set(map, below, (uint32_t)(addr / PAGE_4K), (uint32_t)(bytes / PAGE_4K), value);
    has4k_put(table, i, below->free_len > 0);
    if (below->free_len == PAGE_FANOUT) {
        table_drop(map, entry);
        child_set(map, table, i, FREE);
        has4k_put(table, i, false);
    }
}

/* addr is relative to the table's GiB. */
static void set_range_in_2m(struct pagemap *map, struct page_table *table, uint64_t addr,
                            uint64_t bytes, uint32_t value)
{
    while (bytes > 0) {
        uint32_t i = (uint32_t)(addr / PAGE_2M);
        uint64_t inside = addr % PAGE_2M;
        uint64_t part;
        if (inside == 0 && bytes >= PAGE_2M) {
            part = bytes - bytes % PAGE_2M;
            children_set(map, table, i, (uint32_t)(part / PAGE_2M), value);
        } else {
            part = VDC_MIN(bytes, PAGE_2M - inside);
            set_part_of_2m(map, table, i, inside, part, value);
        }
        addr += part;
        bytes -= part;
    }
}

/* What the root knows of the split GiB i. */
static void root_note(struct pagemap *map, uint32_t i, uint32_t run_2m, bool has4k)
{
    map->root_run[i] = (uint16_t)run_2m;
    bit_put(map->root_has2m, i, run_2m > 0);
    bit_put(map->root_has4k, i, has4k);
}

/* Sets whole GiBs [first, first + count), dropping tables below them: as children_set. */
static void roots_set(struct pagemap *map, uint32_t first, uint32_t count, uint32_t value)
{
    for (uint32_t i = first; i < first + count; i++) {
        if (is_split(map->root[i])) {
            table_drop(map, map->root[i]);
            root_note(map, i, 0, false);
        }
    }
    bool is_free = value == FREE;
    VDC_ASSERT((map->root[first] == FREE) != is_free);
    map->free_1g = is_free ? map->free_1g + count : map->free_1g - count;
    bits_put(map->root_free, first, first + count, is_free);
    entries_fill(&map->root[first], count, value);
}

/* [addr, addr + bytes) within GiB i. */
static void set_part_of_1g(struct pagemap *map, uint32_t i, uint64_t addr, uint64_t bytes,
                           uint32_t value)
{
    uint32_t entry = map->root[i];
    if (!is_split(entry)) {
        entry = table_make(map, true, entry);
        root_set(map, i, entry);
    }
    struct page_table *below = table_of(map, entry);
    set_range_in_2m(map, below, addr, bytes, value);
    if (below->free_len == PAGE_FANOUT) {
        roots_set(map, i, 1, FREE);
    } else {
        uint32_t first;
        root_note(map, i, find_run(below->free, TABLE_WORDS, PAGE_FANOUT, &first),
                  below->has4k_len > 0);
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
            roots_set(map, i, (uint32_t)(part / PAGE_1G), value);
        } else {
            part = VDC_MIN(bytes, PAGE_1G - inside);
            set_part_of_1g(map, i, inside, part, value);
        }
        addr += part;
        bytes -= part;
    }
}

void pagemap_init(struct pagemap *map, uint64_t bytes)
{
    VDC_ASSERT(bytes % PAGE_4K == 0);
    *map = (struct pagemap){.bytes = bytes, .free_bytes = bytes, .tables_unused = NO_TABLE};
    map->roots = (uint32_t)((bytes + PAGE_1G - 1) / PAGE_1G);
    map->root_words = (map->roots + 63) / 64;
    map->root = vdc_calloc(map->roots, sizeof(map->root[0]));
    map->root_run = vdc_calloc(map->roots, sizeof(map->root_run[0]));
    map->root_free = vdc_calloc(map->root_words, sizeof(uint64_t));
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
    free(map->root_run);
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
        entry = map->root[addr / PAGE_1G];
        if (is_split(entry)) {
            count = 2;
            entry = table_of(map, entry)->entry[addr % PAGE_1G / PAGE_2M];
        }
        if (is_split(entry)) {
            count = 3;
            entry = table_of(map, entry)->entry[addr % PAGE_2M / PAGE_4K];
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

/* A run of 2 MiB blocks, less than 1 GiB: the lowest split GiB that has a run long enough; else a
 * GiB is split; else the longest run that there is. So memory breaks into few pieces, and what is
 * free in the edges of others serves the next edge. */
static uint64_t find_2m(const struct pagemap *map, uint64_t bytes, uint64_t *addr)
{
    uint32_t want = (uint32_t)VDC_MIN(bytes / PAGE_2M, PAGE_FANOUT);
    uint32_t longest = 0;
    uint32_t i = 0;
    uint32_t at = bit_next(map->root_has2m, map->root_words, 0, 0);
    while (longest < want && at < map->root_words * 64) {
        if (map->root_run[at] > longest) {
            longest = map->root_run[at];
            i = at;
        }
        at = bit_next(map->root_has2m, map->root_words, at + 1, 0);
    }
    if (longest < want && map->free_1g > 0) {
        *addr = bit_first(map->root_free, map->root_words) * PAGE_1G;
        return want * PAGE_2M;
    }
    VDC_ASSERT(longest > 0);
    uint32_t j = 0;
    uint32_t run = find_run(table_of(map, map->root[i])->free, TABLE_WORDS, want, &j);
    *addr = i * PAGE_1G + j * PAGE_2M;
    return run * PAGE_2M;
}

/* Blocks of 4 KiB come from what is split already, so that large blocks stay whole. */
static uint64_t find_4k(const struct pagemap *map, uint64_t bytes, uint64_t *addr)
{
    uint32_t i = bit_first(map->root_has4k, map->root_words);
    if (i == UINT32_MAX) {
        (void)find_2m(map, PAGE_2M, addr);
        return VDC_MIN(bytes, PAGE_2M);
    }
    const struct page_table *table = table_of(map, map->root[i]);
    uint32_t j = bit_first(table->has4k, TABLE_WORDS);
    const struct page_table *below = table_of(map, table->entry[j]);
    uint32_t k = bit_first(below->free, TABLE_WORDS);
    uint32_t run = bit_next(below->free, TABLE_WORDS, k, UINT64_MAX) - k;
    *addr = i * PAGE_1G + j * PAGE_2M + k * PAGE_4K;
    return VDC_MIN(run * PAGE_4K, bytes);
}

void pagemap_take_next(struct pagemap *map, uint64_t bytes, uint64_t page, uint32_t owner,
                       uint64_t *addr, uint64_t *taken)
{
    VDC_ASSERT(bytes > 0 && bytes % page == 0 && bytes <= pagemap_free_in(map, page));
    if (bytes >= PAGE_1G && map->free_1g > 0) {
        uint32_t first = 0;
        uint32_t want = (uint32_t)VDC_MIN(bytes / PAGE_1G, map->roots);
        *taken = find_run(map->root_free, map->root_words, want, &first) * PAGE_1G;
        *addr = first * PAGE_1G;
    } else if (bytes >= PAGE_2M && map->free_1g + map->free_2m > 0) {
        *taken = find_2m(map, bytes, addr);
    } else {
        VDC_ASSERT(page == PAGE_4K);
        *taken = find_4k(map, bytes, addr);
    }
    pagemap_take(map, *addr, *taken, owner);
}

static bool table_range_is(const struct pagemap *map, const struct page_table *table, uint64_t page,
                           uint64_t addr, uint64_t bytes, uint32_t value)
{
    if (value == FREE && addr % page == 0 && bytes % page == 0) {
        /* A split entry is never free whole: it would have been merged. */
        return bits_all(table->free, (uint32_t)(addr / page), (uint32_t)((addr + bytes) / page));
    }
    while (bytes > 0) {
        uint64_t inside = addr % page;
        uint64_t part = VDC_MIN(bytes, page - inside);
        uint32_t entry = table->entry[addr / page];
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
        uint32_t entry = map->root[addr / PAGE_1G];
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

struct tally {
    uint64_t free_1g;
    uint64_t free_2m;
    uint64_t free_4k;
    uint32_t tables;
    const char *wrong;
};

/* Counts a table's free entries and judges its bitmaps; returns its free entries. */
static uint32_t tally_table(const struct pagemap *map, uint32_t entry, bool tier1,
                            uint32_t *has4k_len, struct tally *tally)
{
    const struct page_table *table = table_of(map, entry);
    uint32_t free_len = 0;
    *has4k_len = 0;
    tally->tables++;
    if (table->tier1 != tier1) {
        tally->wrong = "a table hangs at the wrong tier";
        return 0;
    }
    for (uint32_t i = 0; i < PAGE_FANOUT; i++) {
        bool is_free = table->entry[i] == FREE;
        bool has4k = false;
        free_len += is_free;
        if (is_split(table->entry[i])) {
            uint32_t ignored;
            uint32_t below = tally_table(map, table->entry[i], false, &ignored, tally);
            has4k = below > 0;
            tally->wrong =
                below == PAGE_FANOUT ? "a free 2 MiB table was not merged" : tally->wrong;
        }
        *has4k_len += has4k;
        if (bit_get(table->free, i) != is_free || bit_get(table->has4k, i) != has4k) {
            tally->wrong = "a table's bitmap differs from its entries";
        }
    }
    uint64_t *counter = tier1 ? &tally->free_2m : &tally->free_4k;
    *counter += free_len;
    if (table->free_len != free_len || table->has4k_len != *has4k_len) {
        tally->wrong = "a table's counters differ from its entries";
    }
    return free_len;
}

/* The longest run of free entries, by looking at each. */
static uint32_t tally_run(const struct page_table *table)
{
    uint32_t longest = 0;
    uint32_t run = 0;
    for (uint32_t i = 0; i < PAGE_FANOUT; i++) {
        run = table->entry[i] == FREE ? run + 1 : 0;
        longest = VDC_MAX(longest, run);
    }
    return longest;
}

enum vdc_rc pagemap_check(const struct pagemap *map, struct vdc_err *err)
{
    struct tally tally = {0};
    for (uint32_t i = 0; i < map->roots; i++) {
        uint32_t free_len = 0;
        uint32_t has4k_len = 0;
        uint32_t run = 0;
        bool is_free = map->root[i] == FREE;
        tally.free_1g += is_free;
        if (is_split(map->root[i])) {
            run = tally_run(table_of(map, map->root[i]));
            free_len = tally_table(map, map->root[i], true, &has4k_len, &tally);
            tally.wrong =
                free_len == PAGE_FANOUT ? "a free 1 GiB table was not merged" : tally.wrong;
        }
        if (bit_get(map->root_free, i) != is_free ||
            bit_get(map->root_has2m, i) != (free_len > 0) ||
            bit_get(map->root_has4k, i) != (has4k_len > 0) || map->root_run[i] != run) {
            tally.wrong = "the root's bitmaps or runs differ from its entries";
        }
    }
    uint32_t unused = 0;
    for (uint32_t t = map->tables_unused; t != NO_TABLE; t = map->tables[t]->next_unused) {
        unused++;
    }
    if (tally.tables + unused != map->tables_len) {
        tally.wrong = "tables were lost";
    }
    uint64_t free_bytes =
        tally.free_1g * PAGE_1G + tally.free_2m * PAGE_2M + tally.free_4k * PAGE_4K;
    if (tally.free_1g != map->free_1g || tally.free_2m != map->free_2m ||
        tally.free_4k != map->free_4k || free_bytes != map->free_bytes) {
        tally.wrong = "the free counters differ from the entries";
    }
    if (tally.wrong != NULL) {
        return vdc_err_set(err, VDC_RC_INTERNAL, "page map: %s", tally.wrong);
    }
    return VDC_RC_OK;
}
