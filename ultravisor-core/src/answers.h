/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stored answers of the last VDC_ALLOCDB_REQUESTS_MAX requests: a ring in the order of the
 * requests, and an index from request ids to places in it. A cell of the index is eight bytes, the
 * id's hash and the place, because with so many answers each cell that is looked at is one wait for
 * memory; the id itself is only read when the hashes are equal.
 */
#ifndef VDC_ANSWERS_H
#define VDC_ANSWERS_H

#include <stddef.h>
#include <stdint.h>

#include <vdc/id.h>
#include <vdc/tx.h>

struct answer {
    struct vdc_id request_id;
    uint64_t sequence;
    struct vdc_tx_result *refusal; /* NULL: OK. Refusals are rare, their details lie elsewhere. */
};

struct answers {
    struct answer *ring; /* `oldest` is 0 until it is full */
    size_t ring_cap;
    uint32_t len;
    uint32_t oldest;
    uint64_t *cells;    /* hash << 32 | place + 1; 0: free. Linear probing. */
    uint32_t cells_cap; /* power of two >= 2 * len, or 0 */
};

void answers_deinit(struct answers *answers);
/* NULL: not known. `request_id` may be none, which never is. */
const struct answer *answers_find(const struct answers *answers, const struct vdc_id *request_id);
/* The id is not known yet; none is not stored. Drops the oldest one when there are too many. */
void answers_store(struct answers *answers, const struct vdc_id *request_id,
                   const struct vdc_tx_result *result);
/* The i-th, oldest first; i < len. */
const struct answer *answers_at(const struct answers *answers, uint32_t i);
/* Fetches what finding and storing will look at. */
void answers_prefetch(const struct answers *answers, const struct vdc_id *request_id);

#endif
