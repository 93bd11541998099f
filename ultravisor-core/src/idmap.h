/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash table from ids to 32-bit numbers (indexes into the arrays of the database). Open
 * addressing with linear probing in one array: no allocation per entry, one or two cache lines per
 * lookup. Not uthash, because its handle in every element and its growth by relinking cost more than
 * the rest of a transaction. Never iterated, so its order shows nowhere.
 */
#ifndef VDC_IDMAP_H
#define VDC_IDMAP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <vdc/id.h>

#define VDC_IDMAP_NONE UINT32_MAX

/* vdc_id_is_none and vdc_id_equal without a call: a transaction asks them a dozen times. */
static inline bool id_is_none(const struct vdc_id *id)
{
    uint64_t words[2];
    memcpy(words, id->bytes, sizeof(words));
    return (words[0] | words[1]) == 0;
}

static inline bool id_equal(const struct vdc_id *a, const struct vdc_id *b)
{
    uint64_t x[2];
    uint64_t y[2];
    memcpy(x, a->bytes, sizeof(x));
    memcpy(y, b->bytes, sizeof(y));
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

struct idmap_cell {
    struct vdc_id id; /* none: free */
    uint32_t value;
};

struct idmap {
    struct idmap_cell *cells;
    uint32_t cap; /* power of two, or 0 */
    uint32_t
        len; /* <= cap / 2: at 3/4 a search for what is not there looks at 8 cells, at 1/2 at 2 */
};

void idmap_deinit(struct idmap *map);
/* VDC_IDMAP_NONE: not there. */
uint32_t idmap_get(const struct idmap *map, const struct vdc_id *id);
/* Fetches what a later call with this id will read: the tables are larger than a cache, and waiting
 * for them one after the other is what a transaction would spend its time on. */
void idmap_prefetch(const struct idmap *map, const struct vdc_id *id);
/* `id` is not none and not there yet. */
void idmap_put(struct idmap *map, const struct vdc_id *id, uint32_t value);
/* `id` is there. */
void idmap_remove(struct idmap *map, const struct vdc_id *id);

#endif
