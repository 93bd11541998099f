/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removal moves later cells of the same probe run back over the hole, so there are no tombstones and
 * lookups never get slower with time.
 */
#include "idmap.h"

#include <string.h>

#include <vdc/base.h>

#define CAP_MIN 64

struct words {
    uint64_t lo;
    uint64_t hi;
};

static inline struct words words_of(const struct vdc_id *id)
{
    struct words words;
    memcpy(&words.lo, id->bytes, 8);
    memcpy(&words.hi, id->bytes + 8, 8);
    return words;
}

/* Ids are drawn at random, but a peer may choose them: the multiplication spreads what it can, and
 * the number of entries is bounded, so the worst case is a slow node of its own leader's making. */
static inline uint32_t home_of(const struct idmap *map, struct words id)
{
    uint64_t mixed =
        (id.lo ^ (id.hi * UINT64_C(0x9e3779b97f4a7c15))) * UINT64_C(0xd6e8feb86659fd93);
    return (uint32_t)(mixed >> 32) & (map->cap - 1);
}

static inline bool is_free(const struct idmap_cell *cell)
{
    struct words words = words_of(&cell->id);
    return (words.lo | words.hi) == 0;
}

void idmap_deinit(struct idmap *map)
{
    free(map->cells);
    *map = (struct idmap){0};
}

/* The cell of `id`, or the free one where it would go. cap > len >= 0. */
static inline uint32_t probe(const struct idmap *map, const struct vdc_id *id)
{
    struct words wanted = words_of(id);
    uint32_t at = home_of(map, wanted);
    for (;;) {
        struct words there = words_of(&map->cells[at].id);
        if ((there.lo == wanted.lo && there.hi == wanted.hi) || (there.lo | there.hi) == 0) {
            return at;
        }
        at = (at + 1) & (map->cap - 1);
    }
}

uint32_t idmap_get(const struct idmap *map, const struct vdc_id *id)
{
    if (map->len == 0) {
        return VDC_IDMAP_NONE;
    }
    const struct idmap_cell *cell = &map->cells[probe(map, id)];
    return is_free(cell) ? VDC_IDMAP_NONE : cell->value;
}

void idmap_prefetch(const struct idmap *map, const struct vdc_id *id)
{
    if (map->len > 0) {
        __builtin_prefetch(&map->cells[home_of(map, words_of(id))]);
    }
}

static void grow(struct idmap *map)
{
    struct idmap bigger = {.cap = map->cap == 0 ? CAP_MIN : map->cap * 2, .len = map->len};
    bigger.cells = vdc_calloc(bigger.cap, sizeof(bigger.cells[0]));
    for (uint32_t i = 0; i < map->cap; i++) {
        if (!is_free(&map->cells[i])) {
            bigger.cells[probe(&bigger, &map->cells[i].id)] = map->cells[i];
        }
    }
    free(map->cells);
    *map = bigger;
}

void idmap_put(struct idmap *map, const struct vdc_id *id, uint32_t value)
{
    VDC_ASSERT(!vdc_id_is_none(id) && value != VDC_IDMAP_NONE);
    if ((uint64_t)(map->len + 1) * 2 > map->cap) {
        grow(map);
    }
    struct idmap_cell *cell = &map->cells[probe(map, id)];
    VDC_ASSERT(is_free(cell));
    cell->id = *id;
    cell->value = value;
    map->len++;
}

void idmap_remove(struct idmap *map, const struct vdc_id *id)
{
    VDC_ASSERT(map->len > 0);
    uint32_t mask = map->cap - 1;
    uint32_t hole = probe(map, id);
    VDC_ASSERT(!is_free(&map->cells[hole]));
    for (uint32_t at = (hole + 1) & mask; !is_free(&map->cells[at]); at = (at + 1) & mask) {
        uint32_t home = home_of(map, words_of(&map->cells[at].id));
        /* May move to the hole unless its home lies (cyclically) behind the hole. */
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            map->cells[hole] = map->cells[at];
            hole = at;
        }
    }
    map->cells[hole] = (struct idmap_cell){0};
    map->len--;
}
