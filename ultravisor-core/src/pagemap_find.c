/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a demand is met. The rule is exact: of each size the lowest run that is long enough, else the
 * longest. What makes it fast are bounds: for the runs of free GiBs that begin in each word of the
 * bitmap, for the runs of 2 MiB in each split GiB, and for those in each 64 GiBs, a number that none
 * of them exceeds. A search skips what the bounds rule out and makes the bounds of what it looked
 * at in vain exact; taking leaves them as they are, and freeing raises them to the run that became
 * longer. So most words and tables are looked at once between two changes of them, and what is found
 * depends on what is free and not on the bounds.
 */
#include "pagemap_table.h"

/* A run of set bits: the lowest one of at least `want`, else the longest (of equals the lowest).
 * Returns its length, at most `want`; 0: no bit is set. Goes through the words once, clearing each
 * run in the copy of its word; a run at a word's end may go on in the next. */
static uint32_t find_run(const uint64_t *words, uint32_t words_len, uint32_t want, uint32_t *first)
{
    uint32_t longest = 0;
    uint32_t open = 0; /* length of the run that reaches the end of the word before */
    for (uint32_t w = 0; w < words_len && longest < want; w++) {
        uint64_t word = words[w];
        if (word == 0) {
            open = 0;
            continue;
        }
        uint32_t low = word == UINT64_MAX ? 64 : (uint32_t)__builtin_ctzll(~word);
        if (open + low > longest) {
            longest = open + low;
            *first = w * 64 - open;
        }
        if (low == 64) {
            open += 64;
            continue;
        }
        word &= word + 1; /* the run at the beginning is done */
        open = (uint32_t)__builtin_clzll(~word);
        while (word != 0 && longest < want) {
            uint32_t at = (uint32_t)__builtin_ctzll(word);
            uint32_t len = (uint32_t)__builtin_ctzll(~(word >> at));
            if (len > longest) {
                longest = len;
                *first = w * 64 + at;
            }
            word &= word + (UINT64_C(1) << at);
        }
    }
    return VDC_MIN(longest, want);
}

static void raise(uint16_t *bound, uint32_t to)
{
    *bound = (uint16_t)VDC_MAX(*bound, to);
}

/* --- runs of 1 GiB --- */

void pagemap_note_taken(struct pagemap *map, uint32_t end)
{
    if (end < map->roots && bit_get(map->root_free, end)) {
        raise(&map->begin_bound[end / 64],
              bit_next(map->root_free, map->root_words, end, UINT64_MAX) - end);
    }
}

void pagemap_note_freed(struct pagemap *map, uint32_t first, uint32_t end)
{
    uint32_t begin = run_begin(map->root_free, first);
    raise(&map->begin_bound[begin / 64],
          bit_next(map->root_free, map->root_words, end, UINT64_MAX) - begin);
}

/* The first run of at least `want` GiBs that begins in word w, else the longest; its length. */
static uint32_t run_of_word(const struct pagemap *map, uint32_t w, uint32_t want, uint32_t *first)
{
    uint64_t word = map->root_free[w];
    uint64_t before = w == 0 ? 0 : map->root_free[w - 1] >> 63;
    uint64_t begins = word & ~(word << 1 | before);
    uint32_t longest = 0;
    for (; begins != 0 && longest < want; begins &= begins - 1) {
        uint32_t at = (uint32_t)__builtin_ctzll(begins);
        uint64_t clear = ~(word >> at);
        /* Shifting fills with zeros, so only a run that begins at 0 can be all ones. */
        uint32_t len = clear == 0 ? 64 : (uint32_t)__builtin_ctzll(clear);
        if (at + len == 64) {
            len = bit_next(map->root_free, map->root_words, w * 64 + at, UINT64_MAX) - w * 64 - at;
        }
        if (len > longest) {
            longest = len;
            *first = w * 64 + at;
        }
    }
    return longest;
}

static uint64_t find_1g(struct pagemap *map, uint32_t want, uint64_t *addr)
{
    uint32_t longest = 0;
    uint32_t first = 0;
    for (uint32_t w = 0; w < map->root_words && longest < want; w++) {
        if (map->begin_bound[w] >= want) {
            uint32_t len = run_of_word(map, w, want, &first);
            longest = len >= want ? want : longest;
            map->begin_bound[w] = (uint16_t)(len >= want ? map->begin_bound[w] : len);
        }
    }
    for (uint32_t w = 0; w < map->root_words && longest < want; w++) {
        if (map->begin_bound[w] > longest) {
            uint32_t at = 0;
            uint32_t len = run_of_word(map, w, UINT32_MAX, &at);
            map->begin_bound[w] = (uint16_t)len;
            first = len > longest ? at : first;
            longest = VDC_MAX(longest, len);
        }
    }
    VDC_ASSERT(longest > 0);
    *addr = first * PAGE_1G;
    return VDC_MIN(longest, want) * PAGE_1G;
}

/* --- runs of 2 MiB --- */

void pagemap_note_run(struct pagemap *map, uint32_t i, uint32_t first, uint32_t end)
{
    const struct page_table *table = table_of(map, map->root[i]);
    uint32_t len =
        bit_next(table->free, TABLE_WORDS, end, UINT64_MAX) - run_begin(table->free, first);
    raise(&map->run_bound[i], len);
    raise(&map->group_bound[i / 64], len);
}

/* The lowest split GiB with a run of `want`, UINT32_MAX: none has; *j is where it begins. */
static uint32_t find_split(struct pagemap *map, uint32_t want, uint32_t *j)
{
    for (uint32_t w = 0; w < map->root_words; w++) {
        if (map->group_bound[w] < want) {
            continue;
        }
        uint32_t most = 0;
        for (uint64_t word = map->root_has2m[w]; word != 0; word &= word - 1) {
            uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(word);
            if (map->run_bound[i] >= want) {
                uint32_t run = find_run(table_of(map, map->root[i])->free, TABLE_WORDS, want, j);
                if (run == want) {
                    return i;
                }
                map->run_bound[i] = (uint16_t)run;
            }
            most = VDC_MAX(most, map->run_bound[i]);
        }
        map->group_bound[w] = (uint16_t)most;
    }
    return UINT32_MAX;
}

/* The split GiB with the longest run, *run. */
static uint32_t find_longest(struct pagemap *map, uint32_t *run, uint32_t *j)
{
    uint32_t longest_at = UINT32_MAX;
    *run = 0;
    for (uint32_t i = bit_next(map->root_has2m, map->root_words, 0, 0); i < map->root_words * 64;
         i = bit_next(map->root_has2m, map->root_words, i + 1, 0)) {
        if (map->run_bound[i] > *run) {
            uint32_t at = 0;
            uint32_t len =
                find_run(table_of(map, map->root[i])->free, TABLE_WORDS, PAGE_FANOUT, &at);
            map->run_bound[i] = (uint16_t)len;
            if (len > *run) {
                *run = len;
                *j = at;
                longest_at = i;
            }
        }
    }
    return longest_at;
}

/* A run of 2 MiB blocks, less than 1 GiB: the lowest split GiB that has a run long enough; else a
 * GiB is split; else the longest run that there is. So memory breaks into few pieces, and what is
 * free in the edges of others serves the next edge. */
static uint64_t find_2m(struct pagemap *map, uint64_t bytes, uint64_t *addr)
{
    uint32_t run = (uint32_t)VDC_MIN(bytes / PAGE_2M, (uint64_t)PAGE_FANOUT);
    uint32_t j = 0;
    uint32_t i = find_split(map, run, &j);
    if (i == UINT32_MAX && map->free_1g > 0) {
        i = bit_next(map->root_free, map->root_words, 0, 0);
        j = 0; /* looked for in vain elsewhere */
    } else if (i == UINT32_MAX) {
        i = find_longest(map, &run, &j);
        VDC_ASSERT(i != UINT32_MAX);
    }
    *addr = i * PAGE_1G + j * PAGE_2M;
    return run * PAGE_2M;
}

/* --- runs of 4 KiB --- */

/* They come from what is split already, so that large blocks stay whole. */
static uint64_t find_4k(struct pagemap *map, uint64_t bytes, uint64_t *addr)
{
    uint32_t i = bit_next(map->root_has4k, map->root_words, 0, 0);
    if (i == map->root_words * 64) {
        (void)find_2m(map, PAGE_2M, addr);
        return VDC_MIN(bytes, PAGE_2M);
    }
    const struct page_table *table = table_of(map, map->root[i]);
    uint32_t j = bit_next(table->has4k, TABLE_WORDS, 0, 0);
    const struct page_table *below = table_of(map, table->entry[j]);
    uint32_t k = bit_next(below->free, TABLE_WORDS, 0, 0);
    uint32_t run = bit_next(below->free, TABLE_WORDS, k, UINT64_MAX) - k;
    *addr = i * PAGE_1G + j * PAGE_2M + k * PAGE_4K;
    return VDC_MIN(run * PAGE_4K, bytes);
}

uint64_t pagemap_find(struct pagemap *map, uint64_t bytes, uint64_t page, uint64_t *addr)
{
    if (bytes >= PAGE_1G && map->free_1g > 0) {
        return find_1g(map, (uint32_t)VDC_MIN(bytes / PAGE_1G, (uint64_t)map->roots), addr);
    }
    if (bytes >= PAGE_2M && map->free_1g + map->free_2m > 0) {
        return find_2m(map, bytes, addr);
    }
    VDC_ASSERT(page == PAGE_4K);
    return find_4k(map, bytes, addr);
}
