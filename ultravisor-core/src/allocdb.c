/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transaction's way:
 *
 *     form -> role -> request id known? -> epoch -> operations ------------> record, answer stored
 *      |       |            |               |            | refused
 *      no record         stored answer   no record       undo all -> refusal recorded and stored
 *
 * Replaying a record goes the same way from the operations on, with every choice already made, and
 * then compares the digest.
 */
#include <vdc/allocdb.h>

#include <string.h>

#include "ops.h"
#include "tx_codec.h"

/* Operations for which memory is asked for ahead: more would only push each other out. */
#define PREFETCH_OPS_MAX 16u
#define CACHE_LINE 64

/* All of it but the names, which are only written: a processor can wait for a dozen lines at once, and
 * two partitions are more. */
static inline void slot_prefetch(const struct slot *slot)
{
    const char *begin = (const char *)slot;
    __builtin_prefetch(begin);
#pragma GCC unroll 16
    for (size_t at = offsetof(struct slot, pub.claim); at < sizeof(*slot) + CACHE_LINE;
         at += CACHE_LINE) {
        __builtin_prefetch(begin + VDC_MIN(at, sizeof(*slot) - 1));
    }
}

struct vdc_allocdb *vdc_allocdb_create(void)
{
    struct vdc_allocdb *db = VDC_NEW(struct vdc_allocdb);
    db->slots_unused = SLOT_NONE;
    db->entries_unused = SLOT_NONE;
    db->scratch_cpus = vdc_calloc(VDC_NODE_CPUS_MAX, sizeof(db->scratch_cpus[0]));
    (void)zone_make(db, "");
    db->zones[NODE_ZONE].pub.joined = true;
    touched_settle(db, 0, NULL);
    return db;
}

void vdc_allocdb_destroy(struct vdc_allocdb *db)
{
    if (db == NULL) {
        return;
    }
    undo_forget(db, 0);
    entries_deinit(db);
    for (uint32_t s = 0; s < db->slots_len; s++) {
        slot_deinit(slot_at(db, s));
    }
    for (uint32_t s = 0; s < db->slots_len; s += SLOTS_PER_CHUNK) {
        free(db->chunks[s / SLOTS_PER_CHUNK]);
    }
    free(db->chunks);
    for (uint32_t z = 0; z < db->zones_len; z++) {
        free(db->zones[z].free);
        free(db->zones[z].free_numa);
    }
    free(db->zones);
    for (uint32_t i = 0; i < db->numa_len; i++) {
        pagemap_deinit(&db->numa[i].map);
        free(db->numa[i].mask);
    }
    free(db->numa);
    free(db->cpus);
    free(db->cpu_index);
    free(db->cpu_number);
    free(db->cpu_numa);
    free(db->core_next);
    answers_deinit(&db->answers);
    free(db->claims);
    idmap_deinit(&db->by_id);
    idmap_deinit(&db->claim_by_id);
    free(db->undo);
    free(db->touched);
    vdc_buf_deinit(&db->scratch_bytes);
    free(db->arena.data);
    free(db->saved_zones);
    free(db->scratch_cpus);
    free(db->scratch_blocks);
    free(db);
}

/* Whether the request is known; then its first answer. */
static bool answer_again(const struct vdc_allocdb *db, const struct vdc_id *request_id,
                         struct vdc_tx_result *result)
{
    const struct answer *answer = answers_find(&db->answers, request_id);
    if (answer == NULL) {
        return false;
    }
    if (answer->refusal != NULL) {
        *result = *answer->refusal;
    } else {
        *result = (struct vdc_tx_result){.op = VDC_TX_OP_NONE, .sequence = answer->sequence};
    }
    result->repeated = true;
    return true;
}

/* --- records --- */

static void record_begin(struct vdc_buf *record, const struct vdc_tx *tx,
                         const struct vdc_tx_result *result, uint32_t ops_len)
{
    record->len = 0;
    uint8_t *to =
        (uint8_t *)vdc_buf_reserve(record, RECORD_HEAD_BYTES + TX_RESULT_MAX + TX_HEAD_MAX);
    to = wire_put_u32(to, RECORD_VERSION);
    to = wire_put_u32(to, (uint32_t)result->rc);
    to = wire_put_u64(to, result->sequence);
    to = wire_put_u64(to, 0);
    to = wire_put_u64(to, 0);
    to = wire_put(to, tx->request_id.bytes, 16);
    to = tx_put_head(tx_put_result(to, result), tx, ops_len);
    record->len = (size_t)((char *)to - record->data);
}

static void record_finish(const struct vdc_allocdb *db, struct vdc_buf *record)
{
    uint8_t *to = (uint8_t *)record->data + RECORD_DIGEST_AT;
    to = wire_put_u64(to, db->digest.lo);
    (void)wire_put_u64(to, db->digest.hi);
    (void)vdc_buf_reserve(record, 1);
    record->data[record->len] = 0;
}

/* --- epochs and claims --- */

static void raise_epoch(struct vdc_allocdb *db, const struct vdc_tx *tx, uint32_t z)
{
    if (z != ZONE_NONE && tx->epoch > db->zones[z].pub.epoch) {
        db->zones[z].pub.epoch = tx->epoch;
        zone_touch(db, z);
    }
}

/* All that a prepared transaction created hangs together in the claim, for its settling. */
static void make_claim(struct vdc_allocdb *db, const struct vdc_tx *tx, uint32_t zone)
{
    struct claim *claim = claim_make(db, &tx->claim, zone);
    claim->sequence = db->sequence;
    for (size_t i = db->undo_len; i-- > 0;) {
        if (db->undo[i].kind == UNDO_CREATE) {
            struct slot *slot = slot_at(db, db->undo[i].slot);
            slot->next_in_claim = claim->first_slot;
            claim->first_slot = slot->number;
            claim->partitions++;
        }
    }
    struct vdc_digest item = digest_of_claim(db, claim);
    digest_add(&db->digest, &item);
}

static enum vdc_rc settle_claim(struct op_run *run)
{
    struct vdc_allocdb *db = run->db;
    struct claim *claim = claim_find(db, &run->tx->claim);
    if (run->zone == ZONE_NONE || claim == NULL) {
        enum vdc_rc rc = op_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CLAIM, 0, 0,
                                   "no such claim, or settled before");
        /* As in op_find_zone: where no epoch is known, nothing is remembered. */
        run->stored = run->zone != ZONE_NONE;
        return rc;
    }
    if (claim->zone != run->zone) {
        return op_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0,
                         "the claim belongs to zone \"%s\"", db->zones[claim->zone].pub.name);
    }
    struct vdc_digest item = digest_of_claim(db, claim);
    digest_sub(&db->digest, &item);
    uint32_t next;
    for (uint32_t s = claim->first_slot; s != SLOT_NONE; s = next) {
        struct slot *slot = slot_at(db, s);
        next = slot->next_in_claim;
        slot->next_in_claim = SLOT_NONE;
        if (run->tx->kind == VDC_TX_COMMIT_CLAIM) {
            slot->pub.claim = (struct vdc_id){0};
            slot_touch(db, slot);
        } else {
            op_destroy_slot(db, slot);
        }
    }
    claim_remove(db, claim);
    return VDC_RC_OK;
}

static enum vdc_rc judge_prepare(struct op_run *run)
{
    if (claim_find(run->db, &run->tx->claim) != NULL) {
        return op_refuse(run, VDC_RC_EXISTS, VDC_RULE_CLAIM_EXISTS, 0, 0,
                         "a claim with that id is not settled yet");
    }
    if (run->db->claims_len == VDC_ALLOCDB_CLAIMS_MAX) {
        return op_refuse(run, VDC_RC_LIMIT, VDC_RULE_LIMIT, VDC_ALLOCDB_CLAIMS_MAX + 1,
                         VDC_ALLOCDB_CLAIMS_MAX, "%d unsettled claims", VDC_ALLOCDB_CLAIMS_MAX);
    }
    return VDC_RC_OK;
}

/* --- the transaction --- */

/* OK, no record. Not by assigning a whole one: most of it is the text, which nobody reads then. */
static void result_clear(struct vdc_tx_result *result)
{
    result->rc = VDC_RC_OK;
    result->repeated = false;
    result->sequence = 0;
    result->op = VDC_TX_OP_NONE;
    result->rule = VDC_RULE_NONE;
    result->asked = 0;
    result->free = 0;
    result->largest = 0;
    result->text[0] = 0;
}

static enum vdc_rc run_ops(struct op_run *run)
{
    enum vdc_rc rc = VDC_RC_OK;
    run->index = VDC_TX_OP_NONE;
    switch (run->tx->kind) {
    case VDC_TX_APPLY:
        break;
    case VDC_TX_PREPARE:
        rc = judge_prepare(run);
        break;
    case VDC_TX_COMMIT_CLAIM:
    case VDC_TX_ABORT_CLAIM:
        return settle_claim(run);
    }
    for (uint32_t i = 0; rc == VDC_RC_OK && i < run->tx->ops_len; i++) {
        run->index = i;
        rc = op_apply(run, &run->tx->ops[i]);
    }
    run->index = VDC_TX_OP_NONE;
    if (rc == VDC_RC_OK && run->record != NULL && run->record->len > VDC_TX_BYTES_MAX) {
        return op_refuse(run, VDC_RC_LIMIT, VDC_RULE_LIMIT, run->record->len, VDC_TX_BYTES_MAX,
                         "resolved, it takes %zu bytes, limit %u", run->record->len,
                         VDC_TX_BYTES_MAX);
    }
    return rc;
}

/* All operations succeeded: what they did is now the state. */
static void stand(struct op_run *run)
{
    struct vdc_allocdb *db = run->db;
    db->sequence++;
    raise_epoch(db, run->tx, run->zone);
    if (run->tx->kind == VDC_TX_PREPARE) {
        make_claim(db, run->tx, run->zone);
    }
    touched_settle(db, db->sequence, run->record != NULL ? run->record : &db->scratch_bytes);
    undo_forget(db, db->sequence);
}

/* `result` says OK and nothing else. */
static enum vdc_rc apply_tx(struct vdc_allocdb *db, const struct vdc_tx *tx, uint32_t zone,
                            struct vdc_tx_result *result, struct vdc_buf *record)
{
    struct op_run run = {.db = db, .tx = tx, .zone = zone, .result = result, .record = record};
    result->sequence = db->sequence + 1;
    if (record != NULL) {
        record_begin(record, tx, result, tx->ops_len);
    } else {
        vdc_buf_clear(&db->scratch_bytes);
    }
    if (run_ops(&run) == VDC_RC_OK) {
        stand(&run);
        answers_store(&db->answers, &tx->request_id, result);
        if (record != NULL) {
            record_finish(db, record);
        }
        return VDC_RC_OK;
    }
    undo_all(db);
    result->sequence = 0;
    if (record != NULL) {
        vdc_buf_clear(record);
        if (run.stored && !id_is_none(&tx->request_id)) {
            result->sequence = ++db->sequence;
            raise_epoch(db, tx, zone_find(db, tx->zone));
            touched_settle(db, db->sequence, NULL);
            answers_store(&db->answers, &tx->request_id, result);
            record_begin(record, tx, result, 0);
            record_finish(db, record);
        }
    }
    return result->rc;
}

/* Refusals that stand whatever the state holds. */
static enum vdc_rc judge_tx(const struct vdc_allocdb *db, const struct vdc_tx *tx, uint32_t z,
                            struct vdc_tx_result *result)
{
    struct op_run run = {.tx = tx, .result = result, .index = VDC_TX_OP_NONE};
    struct vdc_err err;
    enum vdc_rc rc = vdc_tx_validate(tx, &err);
    if (rc != VDC_RC_OK) {
        return op_refuse(&run, rc, VDC_RULE_FORM, 0, 0, "%s", err.text);
    }
    if (tx->role == VDC_ROLE_IO || tx->role == VDC_ROLE_GUEST) {
        return op_refuse(&run, VDC_RC_FORBIDDEN, VDC_RULE_ROLE, 0, 0,
                         "guests and I/O partitions change nothing here");
    }
    if (tx->role == VDC_ROLE_COMMAND && tx->zone[0] == 0) {
        return op_refuse(&run, VDC_RC_FORBIDDEN, VDC_RULE_ROLE, 0, 0,
                         "the node's own slice belongs to no leader");
    }
    if (answer_again(db, &tx->request_id, result)) {
        return result->rc;
    }
    uint64_t newest = z == ZONE_NONE ? 0 : db->zones[z].pub.epoch;
    if (tx->role == VDC_ROLE_COMMAND && tx->epoch < newest) {
        return op_refuse(&run, VDC_RC_STALE, VDC_RULE_EPOCH, tx->epoch, newest,
                         "epoch %llu of zone %s has passed, the newest is %llu", ull(tx->epoch),
                         tx->zone, ull(newest));
    }
    return VDC_RC_OK;
}

/* Asks for the memory that the transaction will need and that is in no cache, before its form is
 * looked at: by the end of that it is there. Trusts nothing in it but the number of operations. */
static void prefetch_tables(const struct vdc_allocdb *db, const struct vdc_tx *tx)
{
    const struct vdc_op *end = tx->ops + VDC_MIN(tx->ops_len, PREFETCH_OPS_MAX);
    for (const struct vdc_op *op = tx->ops; op < end; op++) {
        if (op->kind == VDC_OP_PARTITION_CREATE) {
            idmap_prefetch(&db->by_id, &op->partition_create.id);
        } else if (op->kind == VDC_OP_PARTITION_DESTROY) {
            idmap_prefetch(&db->by_id, &op->partition_destroy.id);
        } else if (op->kind == VDC_OP_MEMORY_ASSIGN) {
            uint32_t numa = numa_index_of(db, op->memory_assign.numa);
            if (numa != UINT32_MAX) {
                __builtin_prefetch(&db->numa[numa]);
                __builtin_prefetch((const char *)&db->numa[numa] + CACHE_LINE);
                __builtin_prefetch((const char *)&db->numa[numa] + 2 * CACHE_LINE);
            }
        }
    }
    if (db->slots_unused != SLOT_NONE) {
        slot_prefetch(slot_at(db, db->slots_unused));
    }
}

/* The same for what those tables lead to. */
static void prefetch_slots(const struct vdc_allocdb *db, const struct vdc_tx *tx)
{
    const struct vdc_op *end = tx->ops + VDC_MIN(tx->ops_len, PREFETCH_OPS_MAX);
    for (const struct vdc_op *op = tx->ops; op < end; op++) {
        if (op->kind == VDC_OP_PARTITION_DESTROY) {
            uint32_t number = idmap_get(&db->by_id, &op->partition_destroy.id);
            if (number != VDC_IDMAP_NONE) {
                slot_prefetch(slot_at(db, number));
            }
        } else if (op->kind == VDC_OP_MEMORY_ASSIGN) {
            uint32_t numa = numa_index_of(db, op->memory_assign.numa);
            if (numa != UINT32_MAX) {
                pagemap_prefetch(&db->numa[numa].map);
            }
        }
    }
}

enum vdc_rc vdc_allocdb_commit(struct vdc_allocdb *db, const struct vdc_tx *tx,
                               struct vdc_tx_result *result, struct vdc_buf *record)
{
    result_clear(result);
    vdc_buf_clear(record);
    answers_prefetch(&db->answers, &tx->request_id);
    prefetch_tables(db, tx);
    uint32_t zone = zone_find(db, tx->zone);
    enum vdc_rc rc = judge_tx(db, tx, zone, result);
    if (rc != VDC_RC_OK || result->repeated) {
        return rc;
    }
    prefetch_slots(db, tx);
    return apply_tx(db, tx, zone, result, record);
}

static enum vdc_rc replay(struct vdc_allocdb *db, const struct vdc_tx *tx,
                          const struct vdc_tx_result *first, struct vdc_err *err)
{
    struct vdc_tx_result result;
    result_clear(&result);
    if (answer_again(db, &tx->request_id, &result)) {
        return vdc_err_set(err, VDC_RC_CORRUPT, "its request id was answered before");
    }
    if (first->rc != VDC_RC_OK) {
        db->sequence++;
        raise_epoch(db, tx, zone_find(db, tx->zone));
        touched_settle(db, db->sequence, NULL);
        answers_store(&db->answers, &tx->request_id, first);
        return VDC_RC_OK;
    }
    if (apply_tx(db, tx, zone_find(db, tx->zone), &result, NULL) != VDC_RC_OK) {
        return vdc_err_set(err, VDC_RC_CORRUPT, "does not apply: %s", result.text);
    }
    return VDC_RC_OK;
}

enum vdc_rc vdc_allocdb_apply_record(struct vdc_allocdb *db, const void *record, size_t len,
                                     struct vdc_err *err)
{
    struct vdc_record_head head;
    struct vdc_tx tx;
    struct vdc_tx_result first;
    if (vdc_record_head_read(record, len, &head) == VDC_RC_OK &&
        head.sequence != db->sequence + 1) {
        return vdc_err_set(err, VDC_RC_PROTOCOL, "record %llu does not follow %llu",
                           ull(head.sequence), ull(db->sequence));
    }
    answers_prefetch(&db->answers, &head.request_id);
    enum vdc_rc rc = record_decode_borrowed(record, len, &head, &tx, &first, &db->arena, err);
    if (rc != VDC_RC_OK) {
        return vdc_err_set(err, VDC_RC_CORRUPT, "record %llu: %s", ull(head.sequence),
                           err == NULL ? "" : err->text);
    }
    prefetch_tables(db, &tx);
    prefetch_slots(db, &tx);
    rc = replay(db, &tx, &first, err);
    if (rc == VDC_RC_OK && !vdc_digest_equal(&db->digest, &head.digest)) {
        rc = vdc_err_set(err, VDC_RC_CORRUPT, "another digest afterwards");
    }
    return rc == VDC_RC_OK ? rc : vdc_err_wrap(err, "record %llu", ull(head.sequence));
}

uint64_t vdc_allocdb_sequence(const struct vdc_allocdb *db)
{
    return db->sequence;
}

struct vdc_digest vdc_allocdb_digest(const struct vdc_allocdb *db)
{
    return db->digest;
}
