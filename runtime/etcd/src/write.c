/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guarded writes. One transaction per attempt:
 *
 *   if    create_revision(guard) == mine  and  mod_revision(fence) == the one I know
 *   then  the operations, and after a lost attempt also: put fence
 *   else  get guard, get fence
 *
 *   then done               -> OK
 *   else, guard not mine    -> STALE
 *   else, fence moved       -> learn it, try again at once
 *   no answer               -> remember that an attempt is loose, try again
 */
#include "client.h"

#include <string.h>

#include "codec.h"

struct write_request {
    struct vdc_etcd_request request; /* first */
    struct vdc_etcd_guard_state *guard;
    int64_t create_revision;
    struct vdc_buf ops; /* encoded */
    size_t op_count;
    struct vdc_etcd_attempt attempt; /* the last one that was sent */
    vdc_etcd_write_cb cb;
    void *data;
};

static struct vdc_etcd_guard_state *find_guard(struct vdc_etcd *etcd, const char *key)
{
    struct vdc_etcd_guard_state *guard;
    HASH_FIND_STR(etcd->guards, key, guard);
    return guard;
}

static struct vdc_etcd_guard_state *make_guard(struct vdc_etcd *etcd, const char *key)
{
    struct vdc_etcd_guard_state *guard = VDC_NEW(struct vdc_etcd_guard_state);
    guard->key = vdc_strdup(key);
    guard->fence_key = vdc_asprintf("%s%s", key, VDC_ETCD_FENCE_SUFFIX);
    HASH_ADD_KEYPTR(hh, etcd->guards, guard->key, strlen(guard->key), guard);
    etcd->guard_count++;
    return guard;
}

void vdc_etcd_guards_free(struct vdc_etcd *etcd)
{
    struct vdc_etcd_guard_state *guard;
    struct vdc_etcd_guard_state *next;
    HASH_ITER(hh, etcd->guards, guard, next)
    {
        HASH_DEL(etcd->guards, guard);
        free(guard->key);
        free(guard->fence_key);
        free(guard);
    }
}

static void write_prepare(struct vdc_etcd_request *request)
{
    struct write_request *write = (struct write_request *)request;
    const struct vdc_etcd_guard_state *guard = write->guard;
    write->attempt = vdc_etcd_fence_begin(&guard->fence);

    struct vdc_etcd_compare compares[] = {
        {.key = guard->key,
         .target = VDC_ETCD_CREATE_REVISION,
         .relation = VDC_ETCD_EQUAL,
         .number = write->create_revision},
        {.key = guard->fence_key,
         .target = VDC_ETCD_MOD_REVISION,
         .relation = VDC_ETCD_EQUAL,
         .number = write->attempt.revision},
    };
    struct vdc_etcd_op move = {.kind = VDC_ETCD_PUT, .key = guard->fence_key};
    struct vdc_etcd_op look[] = {
        {.kind = VDC_ETCD_GET, .key = guard->key},
        {.kind = VDC_ETCD_GET, .key = guard->fence_key},
    };
    vdc_buf_clear(&request->body);
    vdc_etcd_encode_compares(&request->body, compares, VDC_COUNT_OF(compares));
    vdc_buf_append(&request->body, vdc_buf_text(&write->ops), write->ops.len);
    if (write->attempt.moves) {
        vdc_etcd_encode_ops(&request->body, VDC_ETCD_THEN, &move, 1);
    }
    vdc_etcd_encode_ops(&request->body, VDC_ETCD_OTHERWISE, look, VDC_COUNT_OF(look));
}

/* Attempts of an earlier term say nothing about the fence as this term knows it. */
static bool is_of_this_term(const struct write_request *write)
{
    return write->create_revision == write->guard->create_revision;
}

static void attempt_lost(struct write_request *write)
{
    struct vdc_etcd_fence *fence = &write->guard->fence;
    if (!is_of_this_term(write)) {
        return;
    }
    bool was_dirty = fence->dirty;
    vdc_etcd_fence_lost(fence, write->attempt);
    if (fence->dirty && !was_dirty) {
        /* Once for all writes that were under way together. */
        vdc_etcd_trace(
            write->request.etcd, VDC_LEVEL_WARN,
            "etcd: the answer to a write under %s was lost -> next writes move its fence",
            write->guard->key);
    }
}

static bool write_end(struct write_request *write, enum vdc_rc rc, int64_t revision,
                      const struct vdc_err *err)
{
    write->cb(write->data, rc, revision, err);
    return true;
}

/* The compares failed: which of the two? */
static bool write_refused(struct write_request *write, const struct vdc_etcd_answer *guard_answer,
                          const struct vdc_etcd_answer *fence_answer)
{
    struct vdc_err err = {0};
    if (guard_answer->kind != VDC_ETCD_GET || fence_answer->kind != VDC_ETCD_GET) {
        vdc_err_set(&err, VDC_RC_PROTOCOL, "etcd write: the answer cannot be read");
        return write_end(write, VDC_RC_PROTOCOL, 0, &err);
    }
    int64_t holder = guard_answer->kv_count == 1 ? guard_answer->kvs[0].create_revision : 0;
    if (holder != write->create_revision || !is_of_this_term(write)) {
        vdc_err_set(&err, VDC_RC_STALE, "etcd write: %s is no longer held: revision %lld, not %lld",
                    write->guard->key, (long long)holder, (long long)write->create_revision);
        return write_end(write, VDC_RC_STALE, 0, &err);
    }
    int64_t fence = fence_answer->kv_count == 1 ? fence_answer->kvs[0].mod_revision : 0;
    if (fence <= write->attempt.revision) {
        /* Only by deleting the fence key could this come about: nobody may. */
        vdc_err_set(&err, VDC_RC_CORRUPT, "etcd write: the fence %s went back from %lld to %lld",
                    write->guard->fence_key, (long long)write->attempt.revision, (long long)fence);
        return write_end(write, VDC_RC_CORRUPT, 0, &err);
    }
    vdc_etcd_fence_learn(&write->guard->fence, fence);
    vdc_etcd_request_queue(&write->request);
    return false;
}

static bool write_answered(struct write_request *write, const void *answer, size_t len)
{
    struct vdc_etcd_decoded decoded;
    enum vdc_rc rc = vdc_etcd_decode_txn(
        answer, len, write->op_count + (write->attempt.moves ? 1 : 0), 2, &decoded);
    bool finished;
    struct vdc_err err = {0};
    if (rc != VDC_RC_OK) {
        attempt_lost(write);
        vdc_err_set(&err, rc, "etcd write: the answer cannot be read");
        finished = write_end(write, rc, 0, &err);
    } else if (decoded.result.succeeded) {
        if (is_of_this_term(write)) {
            vdc_etcd_fence_done(&write->guard->fence, write->attempt, decoded.result.revision);
        }
        finished = write_end(write, VDC_RC_OK, decoded.result.revision, &err);
    } else {
        finished = write_refused(write, &decoded.answers[0], &decoded.answers[1]);
    }
    vdc_etcd_decoded_deinit(&decoded);
    return finished;
}

static bool write_done(struct vdc_etcd_request *request, const struct vdc_etcd_request_end *end)
{
    struct write_request *write = (struct write_request *)request;
    if (end->rc == VDC_RC_OK) {
        return write_answered(write, end->answer, end->answer_len);
    }
    if (end->may_be_done) {
        attempt_lost(write);
    }
    if (end->rc == VDC_RC_UNKNOWN_OUTCOME) {
        vdc_etcd_request_queue(request);
        return false;
    }
    return write_end(write, end->rc, 0, end->err);
}

static void write_destroy(struct vdc_etcd_request *request)
{
    struct write_request *write = (struct write_request *)request;
    vdc_etcd_request_deinit(request);
    vdc_buf_deinit(&write->ops);
    free(write);
}

static const struct vdc_etcd_request_kind write_kind = {.method = VDC_ETCD_METHOD_TXN,
                                                        .what = "write",
                                                        .prepare = write_prepare,
                                                        .done = write_done,
                                                        .destroy = write_destroy};

static enum vdc_rc check_write(struct vdc_etcd *etcd, const struct vdc_etcd_guard *guard,
                               const struct vdc_etcd_op *ops, size_t op_count)
{
    enum vdc_rc rc = vdc_etcd_request_room(etcd);
    if (rc == VDC_RC_OK) {
        rc = vdc_etcd_check_key(guard->key, false);
    }
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (guard->create_revision <= 0 ||
        strlen(guard->key) + strlen(VDC_ETCD_FENCE_SUFFIX) > VDC_ETCD_KEY_MAX || op_count == 0) {
        return VDC_RC_INVALID;
    }
    if (op_count > VDC_ETCD_WRITE_OPS_MAX ||
        (etcd->guard_count >= VDC_ETCD_GUARDS_MAX && find_guard(etcd, guard->key) == NULL)) {
        return VDC_RC_LIMIT;
    }
    rc = vdc_etcd_check_ops(ops, op_count);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    for (size_t i = 0; i < op_count; i++) {
        if (!vdc_etcd_ops_write(&ops[i], 1)) {
            return VDC_RC_INVALID;
        }
    }
    return VDC_RC_OK;
}

enum vdc_rc vdc_etcd_write(struct vdc_etcd *etcd, const struct vdc_etcd_guard *guard,
                           const struct vdc_etcd_op *ops, size_t op_count, vdc_etcd_write_cb cb,
                           void *data, struct vdc_etcd_request **request)
{
    enum vdc_rc rc = check_write(etcd, guard, ops, op_count);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    struct vdc_buf encoded = {0};
    vdc_etcd_encode_ops(&encoded, VDC_ETCD_THEN, ops, op_count);
    /* Room for the compares, the fence and the look at both: five keys and their framing. */
    if (encoded.len > VDC_ETCD_REQUEST_MAX - 6 * (VDC_ETCD_KEY_MAX + 64)) {
        vdc_buf_deinit(&encoded);
        return VDC_RC_TOO_LARGE;
    }

    struct write_request *made = VDC_NEW(struct write_request);
    vdc_etcd_request_init(&made->request, etcd, &write_kind, VDC_NEVER);
    made->guard = find_guard(etcd, guard->key);
    if (made->guard == NULL) {
        made->guard = make_guard(etcd, guard->key);
    }
    if (guard->create_revision > made->guard->create_revision) {
        /* A new term: no attempt of it can be loose, and since the last one the zone and its fence may
         * have been deleted. What the fence is now, the first attempt will tell. */
        made->guard->create_revision = guard->create_revision;
        made->guard->fence = (struct vdc_etcd_fence){0};
    }
    made->create_revision = guard->create_revision;
    made->ops = encoded;
    made->op_count = op_count;
    made->cb = cb;
    made->data = data;
    if (request != NULL) {
        *request = &made->request;
    }
    vdc_etcd_request_queue(&made->request);
    return VDC_RC_OK;
}
