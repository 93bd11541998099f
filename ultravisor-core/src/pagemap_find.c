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
#include <string.h>

#include <vdc/tx.h>

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
    uint32_t longest = 0;
    if (w > 0 && map->root_free[w - 1] >> 63 != 0) {
        word &= word + 1; /* its first run began before */
    }
    while (word != 0 && longest < want) {
        uint32_t at = (uint32_t)__builtin_ctzll(word);
        uint64_t behind = word + (UINT64_C(1) << at); /* 0: the run goes up to the word's end */
        uint32_t end = behind != 0 ? (uint32_t)__builtin_ctzll(behind) : 64;
        if (end == 64) {
            end = bit_next(map->root_free, map->root_words, w * 64 + at, UINT64_MAX) - w * 64;
        }
        if (end - at > longest) {
            longest = end - at;
            *first = w * 64 + at;
        }
        word &= behind;
    }
    return longest;
}

/* The first of `bounds` from `from` on that is at least `want`, `len`: none. Four at once: adding
 * what is missing to 2^15 carries a bound into its highest bit if it is large enough. */
static uint32_t next_bound(const uint16_t *bounds, uint32_t len, uint32_t from, uint32_t want)
{
    _Static_assert(VDC_NUMA_MEMORY_MAX / PAGE_1G < 0x8000, "a bound has 15 bits");
    const uint64_t each = UINT64_C(0x0001000100010001);
    const uint64_t highest = each << 15;
    const uint64_t missing = (0x8000 - (uint64_t)want) * each;
    for (uint32_t i = from / 4; i * 4 < len; i++) {
        uint64_t four;
        memcpy(&four, &bounds[i * 4], sizeof(four));
        uint64_t hits = (four + missing) & highest;
        hits &= i == from / 4 ? UINT64_MAX << (from % 4 * 16) : UINT64_MAX;
        if (hits != 0) {
            return i * 4 + (uint32_t)__builtin_ctzll(hits) / 16;
        }
    }
    return len;
}

/* The longest run of free GiBs, of equals the lowest. The word with the largest bound has it, if
 * that bound is exact; else it is made so, and the next largest is looked at. */
static uint32_t longest_run(struct pagemap *map, uint32_t *first)
{
    for (;;) {
        uint32_t most = 0;
        uint32_t w = 0;
        for (uint32_t i = 0; i < map->root_words; i++) {
            if (map->begin_bound[i] > most) {
                most = map->begin_bound[i];
                w = i;
            }
        }
        uint32_t len = run_of_word(map, w, UINT32_MAX, first);
        if (len == map->begin_bound[w]) {
            return len;
        }
        map->begin_bound[w] = (uint16_t)len;
    }
}

static uint64_t find_1g(struct pagemap *map, uint32_t want, uint64_t *addr)
{
    uint32_t words = map->root_words;
    uint32_t first = 0;
    uint32_t len = 0;
    uint32_t w = next_bound(map->begin_bound, words, 0, want);
    while (w < words && (len = run_of_word(map, w, want, &first)) < want) {
        map->begin_bound[w] = (uint16_t)len;
        w = next_bound(map->begin_bound, words, w + 1, want);
    }
    if (w == words) {
        len = longest_run(map, &first);
    }
    *addr = first * PAGE_1G;
    return VDC_MIN(len, want) * PAGE_1G;
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
    for (uint32_t w = next_bound(map->group_bound, map->root_words, 0, want); w < map->root_words;
         w = next_bound(map->group_bound, map->root_words, w + 1, want)) {
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

bool pagemap_find(struct pagemap *map, uint64_t bytes, uint64_t page, uint64_t *addr,
                  uint64_t *found)
{
    if (bytes >= PAGE_1G && map->free_1g > 0) {
        *found = find_1g(map, (uint32_t)VDC_MIN(bytes / PAGE_1G, (uint64_t)map->roots), addr);
        return true;
    }
    if (bytes >= PAGE_2M && map->free_1g + map->free_2m > 0) {
        *found = find_2m(map, bytes, addr);
    } else {
        VDC_ASSERT(page == PAGE_4K);
        *found = find_4k(map, bytes, addr);
    }
    return false;
}
