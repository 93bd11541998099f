/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop. One database commits; a second one is fed with its records, and now and then becomes what
 * its own snapshot restores to; the first one is restarted in the same way. Both must stay what the
 * model says.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/prng.h>

#include "allocdb_model.h"

/* Every so many transactions ... */
#define BLOCKS_EVERY 32     /* all memory of all partitions is compared */
#define ALL_EVERY 1024      /* every reader and every invariant, of both */
#define REBUILD_EVERY 512   /* the digest is compared with another history's */
#define SNAPSHOT_EVERY 4096 /* the replica is restored from its snapshot */
#define RESTART_EVERY 16384 /* the database itself is */
#define PROGRESS_EVERY 65536

struct episode {
    struct model *m;
    struct vdc_allocdb *db;
    struct vdc_allocdb *replica;
    struct draw *draw;
    struct vdc_buf record;
    struct vdc_buf bytes;
    struct vdc_prng prng;
    struct run_stats *stats;
    uint64_t requests; /* ids given out */
};

static struct vdc_id request_id(uint64_t number)
{
    struct vdc_id id = {.bytes = {[15] = 9}};
    memcpy(id.bytes, &number, sizeof(number));
    return id;
}

/* Mostly a new id; sometimes none, or one that was used before, lately or long ago. */
static struct vdc_id draw_request_id(struct episode *e)
{
    uint64_t dice = vdc_prng_below(&e->prng, 1000);
    if (dice < 40) {
        return (struct vdc_id){0};
    }
    if (dice < 60 && e->requests > 0) {
        uint64_t back = VDC_MIN(e->requests, UINT64_C(50));
        return request_id(e->requests - vdc_prng_below(&e->prng, back));
    }
    if (dice < 64 && e->requests > 0) {
        return request_id(1 + vdc_prng_below(&e->prng, e->requests));
    }
    return request_id(++e->requests);
}

static bool is_older_answer(const struct episode *e, const struct vdc_id *id)
{
    uint64_t number;
    memcpy(&number, id->bytes, sizeof(number));
    return number != 0 && number < e->requests;
}

static void count(struct run_stats *stats, const struct vdc_tx *tx, const struct vdc_tx_result *r)
{
    stats->transactions++;
    stats->operations += VDC_MIN(tx->ops_len, (uint32_t)DRAW_OPS_MAX);
    stats->repeated += r->repeated;
    if (r->repeated || r->rule == VDC_RULE_FORM) {
        stats->rules[VDC_RULE_FORM] += r->rule == VDC_RULE_FORM && !r->repeated;
        return;
    }
    stats->rules[r->rule]++;
    for (uint32_t i = 0; r->rc == VDC_RC_OK && i < tx->ops_len; i++) {
        stats->accepted[tx->ops[i].kind]++;
    }
    if (r->op != VDC_TX_OP_NONE) {
        stats->refused[tx->ops[r->op].kind]++;
    }
}

static void feed_replica(struct episode *e, const struct vdc_tx *tx,
                         const struct vdc_tx_result *result)
{
    struct vdc_record_head head;
    struct vdc_tx resolved;
    struct vdc_tx_result stored;
    struct vdc_err err = {0};
    struct vdc_digest digest = vdc_allocdb_digest(e->db);
    MUST(vdc_record_decode(e->record.data, e->record.len, &head, &resolved, &stored, &err) ==
             VDC_RC_OK,
         "%s", err.text);
    MUST(head.sequence == result->sequence && head.rc == result->rc &&
             vdc_digest_equal(&head.digest, &digest) &&
             vdc_id_equal(&head.request_id, &tx->request_id),
         "a record's head");
    MUST(stored.rc == result->rc && stored.rule == result->rule && stored.op == result->op &&
             stored.asked == result->asked && stored.free == result->free &&
             stored.largest == result->largest && strcmp(stored.text, result->text) == 0,
         "a record's answer");
    vdc_tx_deinit(&resolved);
    MUST(vdc_allocdb_apply_record(e->replica, e->record.data, e->record.len, &err) == VDC_RC_OK,
         "%s", err.text);
}

/* The transaction as it comes from a link. */
static void commit_encoded(struct episode *e, const struct vdc_tx *tx, struct vdc_tx_result *result)
{
    struct vdc_tx decoded;
    struct vdc_err err = {0};
    vdc_buf_clear(&e->bytes);
    vdc_tx_encode(tx, &e->bytes);
    MUST(vdc_tx_decode(e->bytes.data, e->bytes.len, &decoded, &err) == VDC_RC_OK, "%s", err.text);
    (void)vdc_allocdb_commit(e->db, &decoded, result, &e->record);
    vdc_tx_deinit(&decoded);
}

static void step(struct episode *e)
{
    struct vdc_tx *tx = &e->draw->tx;
    struct vdc_tx_result result;
    bool recorded;
    compare_tx = tx;
    draw_tx(e->draw, e->m, &e->prng);
    tx->request_id = draw_request_id(e);
    struct vdc_digest before = vdc_allocdb_digest(e->db);
    struct model_answer answer = model_commit(e->m, tx, e->draw->form, &recorded);
    if (e->draw->form == VDC_RC_OK && vdc_prng_below(&e->prng, 4) == 0) {
        commit_encoded(e, tx, &result);
    } else {
        (void)vdc_allocdb_commit(e->db, tx, &result, &e->record);
    }
    compare_answers(&result, &answer);
    MUST((e->record.len > 0) == recorded, "a record of %zu bytes", e->record.len);
    count(e->stats, tx, &result);
    if (recorded) {
        e->stats->records++;
        e->stats->forgotten +=
            is_older_answer(e, &tx->request_id) && e->m->answers_len > VDC_ALLOCDB_REQUESTS_MAX;
        feed_replica(e, tx, &result);
    }
    struct vdc_digest after = vdc_allocdb_digest(e->db);
    struct vdc_digest theirs = vdc_allocdb_digest(e->replica);
    MUST(vdc_digest_equal(&after, &theirs), "the replica has another digest");
    MUST(vdc_digest_equal(&before, &after) || recorded, "no record, and another state");
    compare_state(e->m, e->db, compare_transaction % BLOCKS_EVERY == 0);
}

static void restore(struct vdc_allocdb **db, const struct vdc_buf *bytes)
{
    struct vdc_err err = {0};
    struct vdc_allocdb *restored;
    MUST(vdc_allocdb_restore(bytes->data, bytes->len, &restored, &err) == VDC_RC_OK, "%s",
         err.text);
    struct vdc_digest was = vdc_allocdb_digest(*db);
    struct vdc_digest is = vdc_allocdb_digest(restored);
    MUST(vdc_digest_equal(&was, &is), "the snapshot has another digest");
    vdc_allocdb_destroy(*db);
    *db = restored;
}

static void restart(struct episode *e, bool both)
{
    struct vdc_buf theirs = {0};
    vdc_buf_clear(&e->bytes);
    vdc_allocdb_snapshot(e->db, &e->bytes);
    vdc_allocdb_snapshot(e->replica, &theirs);
    MUST(e->bytes.len == theirs.len && memcmp(e->bytes.data, theirs.data, theirs.len) == 0,
         "snapshots of equal states differ");
    restore(&e->replica, &theirs);
    if (both) {
        restore(&e->db, &e->bytes);
    }
    e->stats->restarts += both;
    vdc_buf_deinit(&theirs);
}

static void episode_init(struct episode *e, uint64_t seed, uint64_t nth, struct run_stats *stats)
{
    *e = (struct episode){.m = model_create(),
                          .db = vdc_allocdb_create(),
                          .replica = vdc_allocdb_create(),
                          .draw = VDC_NEW(struct draw),
                          .stats = stats};
    vdc_prng_init(&e->prng, seed + nth * UINT64_C(0x9e3779b97f4a7c15));
}

static void episode_deinit(struct episode *e)
{
    model_destroy(e->m);
    vdc_allocdb_destroy(e->db);
    vdc_allocdb_destroy(e->replica);
    free(e->draw);
    vdc_buf_deinit(&e->record);
    vdc_buf_deinit(&e->bytes);
}

void run_model(uint64_t seed, uint64_t operations, uint64_t episode_operations,
               struct run_stats *stats, void (*progress)(const struct run_stats *stats))
{
    compare_seed = seed;
    compare_transaction = 0;
    *stats = (struct run_stats){0};
    for (uint64_t nth = 0; stats->operations < operations; nth++) {
        struct episode e;
        uint64_t end = VDC_MIN(stats->operations + episode_operations, operations);
        episode_init(&e, seed, nth, stats);
        while (stats->operations < end) {
            step(&e);
            uint64_t at = ++compare_transaction;
            if (at % ALL_EVERY == 0) {
                compare_all(e.m, e.db, &e.prng);
                compare_all(e.m, e.replica, &e.prng);
            }
            if (at % REBUILD_EVERY == 0) {
                stats->rebuilt += compare_rebuilt(e.m, e.db);
            }
            if (at % SNAPSHOT_EVERY == 0) {
                restart(&e, at % RESTART_EVERY == 0);
            }
            if (at % PROGRESS_EVERY == 0 && progress != NULL) {
                progress(stats);
            }
        }
        compare_state(e.m, e.replica, true);
        compare_all(e.m, e.db, &e.prng);
        episode_deinit(&e);
    }
}

const char *run_missing(const struct run_stats *stats, char *text, size_t cap)
{
    for (int k = 0; k < VDC_OP_COUNT; k++) {
        if (stats->accepted[k] == 0 || stats->refused[k] == 0) {
            (void)snprintf(text, cap, "%s was accepted %llu times and refused %llu times",
                           vdc_op_name((enum vdc_op_kind)k), (unsigned long long)stats->accepted[k],
                           (unsigned long long)stats->refused[k]);
            return text;
        }
    }
    for (int rule = 0; rule < VDC_RULE_COUNT; rule++) {
        if (stats->rules[rule] == 0) {
            (void)snprintf(text, cap, "rule %s was never the answer",
                           vdc_tx_rule_name((enum vdc_tx_rule)rule));
            return text;
        }
    }
    if (stats->repeated == 0 || stats->rebuilt == 0 || stats->restarts == 0) {
        (void)snprintf(text, cap, "no repeated request, rebuilt state or restart");
        return text;
    }
    return NULL;
}
