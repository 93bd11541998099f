/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removal moves later cells of the same probe run back over the hole, so there are no tombstones and
 * lookups never get slower with time. The index is never iterated, so its order shows nowhere.
 */
#include "answers.h"

#include <string.h>

#include <vdc/allocdb.h>
#include <vdc/base.h>

#include "idmap.h"

#define CELLS_MIN 64
/* Places ahead of the oldest answer that are asked for: what the transactions after this one drop. */
#define PREFETCH_AHEAD 4

static inline uint32_t hash_of(const struct vdc_id *id)
{
    uint64_t words[2];
    memcpy(words, id->bytes, sizeof(words));
    return (uint32_t)(((words[0] ^ (words[1] * UINT64_C(0x9e3779b97f4a7c15))) *
                       UINT64_C(0xd6e8feb86659fd93)) >>
                      32);
}

static inline uint32_t place_of(uint64_t cell)
{
    return (uint32_t)cell - 1;
}

void answers_deinit(struct answers *answers)
{
    for (uint32_t i = 0; i < answers->len; i++) {
        free(answers->ring[i].refusal);
    }
    free(answers->ring);
    free(answers->cells);
    *answers = (struct answers){0};
}

const struct answer *answers_find(const struct answers *answers, const struct vdc_id *request_id)
{
    if (answers->len == 0 || id_is_none(request_id)) {
        return NULL;
    }
    uint32_t mask = answers->cells_cap - 1;
    uint32_t hash = hash_of(request_id);
    for (uint32_t at = hash & mask; answers->cells[at] != 0; at = (at + 1) & mask) {
        const struct answer *answer = &answers->ring[place_of(answers->cells[at])];
        if (answers->cells[at] >> 32 == hash && id_equal(&answer->request_id, request_id)) {
            return answer;
        }
    }
    return NULL;
}

static void cell_put(struct answers *answers, uint64_t cell)
{
    uint32_t mask = answers->cells_cap - 1;
    uint32_t at = (uint32_t)(cell >> 32) & mask;
    while (answers->cells[at] != 0) {
        at = (at + 1) & mask;
    }
    answers->cells[at] = cell;
}

static void cell_remove(struct answers *answers, uint64_t cell)
{
    uint32_t mask = answers->cells_cap - 1;
    uint32_t hole = (uint32_t)(cell >> 32) & mask;
    while (answers->cells[hole] != cell) {
        VDC_ASSERT(answers->cells[hole] != 0);
        hole = (hole + 1) & mask;
    }
    for (uint32_t at = (hole + 1) & mask; answers->cells[at] != 0; at = (at + 1) & mask) {
        uint32_t home = (uint32_t)(answers->cells[at] >> 32) & mask;
        /* May move to the hole unless its home lies (cyclically) behind the hole. */
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            answers->cells[hole] = answers->cells[at];
            hole = at;
        }
    }
    answers->cells[hole] = 0;
}

static void grow(struct answers *answers)
{
    uint32_t old_cap = answers->cells_cap;
    uint64_t *old = answers->cells;
    answers->cells_cap = old_cap == 0 ? CELLS_MIN : old_cap * 2;
    answers->cells = vdc_calloc(answers->cells_cap, sizeof(answers->cells[0]));
    for (uint32_t i = 0; i < old_cap; i++) {
        if (old[i] != 0) {
            cell_put(answers, old[i]);
        }
    }
    free(old);
}

void answers_store(struct answers *answers, const struct vdc_id *request_id,
                   const struct vdc_tx_result *result)
{
    if (id_is_none(request_id)) {
        return;
    }
    uint32_t place;
    if (answers->len < VDC_ALLOCDB_REQUESTS_MAX) {
        place = answers->len++;
        VDC_GROW(answers->ring, answers->ring_cap, (size_t)answers->len);
        if ((uint64_t)answers->len * 2 > answers->cells_cap) {
            grow(answers);
        }
    } else {
        place = answers->oldest;
        answers->oldest = (place + 1) % VDC_ALLOCDB_REQUESTS_MAX;
        struct answer *dropped = &answers->ring[place];
        cell_remove(answers, (uint64_t)hash_of(&dropped->request_id) << 32 | (place + 1));
        free(dropped->refusal);
    }
    struct answer *answer = &answers->ring[place];
    answer->request_id = *request_id;
    answer->sequence = result->sequence;
    answer->refusal = result->rc == VDC_RC_OK ? NULL : vdc_memdup(result, sizeof(*result));
    cell_put(answers, (uint64_t)hash_of(request_id) << 32 | (place + 1));
}

const struct answer *answers_at(const struct answers *answers, uint32_t i)
{
    VDC_ASSERT(i < answers->len);
    return &answers->ring[(answers->oldest + i) % VDC_ALLOCDB_REQUESTS_MAX];
}

static void prefetch_cell(const struct answers *answers, const struct vdc_id *id)
{
    __builtin_prefetch(&answers->cells[hash_of(id) & (answers->cells_cap - 1)]);
}

void answers_prefetch(const struct answers *answers, const struct vdc_id *request_id)
{
    if (answers->len > 0) {
        prefetch_cell(answers, request_id);
    }
    if (answers->len == VDC_ALLOCDB_REQUESTS_MAX) {
        prefetch_cell(answers, &answers->ring[answers->oldest].request_id);
        /* For a later transaction: this one's is on its way. */
        __builtin_prefetch(
            &answers->ring[(answers->oldest + PREFETCH_AHEAD) % VDC_ALLOCDB_REQUESTS_MAX]);
    }
}
