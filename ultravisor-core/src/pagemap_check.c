/* SPDX-License-Identifier: Apache-2.0 */
/* The page map's bitmaps, counters and bounds, recomputed from its entries one by one. */
#include "pagemap_table.h"

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
    uint32_t split_len = 0;
    *has4k_len = 0;
    tally->tables++;
    if (table->tier1 != tier1) {
        tally->wrong = "a table hangs at the wrong tier";
        return 0;
    }
    for (uint32_t i = 0; i < PAGE_FANOUT; i++) {
        uint32_t child = table_entry(table, i);
        bool is_free = child == FREE;
        bool has4k = false;
        free_len += is_free;
        if (is_split(child)) {
            split_len++;
            uint32_t ignored;
            uint32_t below = tally_table(map, child, false, &ignored, tally);
            has4k = below > 0;
            tally->wrong =
                below == PAGE_FANOUT ? "a free 2 MiB table was not merged" : tally->wrong;
        }
        *has4k_len += has4k;
        if (bit_get(table->has4k, i) != has4k) {
            tally->wrong = "a table's bitmap differs from its entries";
        }
    }
    uint64_t *counter = tier1 ? &tally->free_2m : &tally->free_4k;
    *counter += free_len;
    if (table->free_len != free_len || table->has4k_len != *has4k_len ||
        table->split_len != split_len) {
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
        run = bit_get(table->free, i) ? run + 1 : 0;
        longest = VDC_MAX(longest, run);
    }
    return longest;
}

/* The longest run of free GiBs that begins at i, 0: none does. */
static uint32_t tally_begin(const struct pagemap *map, uint32_t i)
{
    uint32_t len = 0;
    bool begins = i == 0 || !bit_get(map->root_free, i - 1);
    while (begins && i + len < map->roots && bit_get(map->root_free, i + len)) {
        len++;
    }
    return len;
}

static void tally_root(const struct pagemap *map, uint32_t i, struct tally *tally)
{
    uint32_t entry = root_entry(map, i);
    uint32_t free_len = 0;
    uint32_t has4k_len = 0;
    uint32_t run = 0;
    tally->free_1g += entry == FREE;
    if (is_split(entry)) {
        run = tally_run(table_of(map, entry));
        free_len = tally_table(map, entry, true, &has4k_len, tally);
        tally->wrong = free_len == PAGE_FANOUT ? "a free 1 GiB table was not merged" : tally->wrong;
    }
    if (bit_get(map->root_split, i) != is_split(entry) ||
        bit_get(map->root_has2m, i) != (free_len > 0) ||
        bit_get(map->root_has4k, i) != (has4k_len > 0)) {
        tally->wrong = "the root's bitmaps differ from its entries";
    }
    if (map->run_bound[i] < run || map->group_bound[i / 64] < run ||
        map->begin_bound[i / 64] < tally_begin(map, i)) {
        tally->wrong = "a run is longer than its bound";
    }
}

enum vdc_rc pagemap_check(const struct pagemap *map, struct vdc_err *err)
{
    struct tally tally = {0};
    for (uint32_t i = 0; i < map->roots; i++) {
        tally_root(map, i, &tally);
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
