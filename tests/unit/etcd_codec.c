/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/prng.h>

#include "codec.h"

Test(etcd_codec, the_end_of_a_prefix_is_the_next_string_that_does_not_have_it)
{
    uint8_t end[16];
    cr_assert_eq(vdc_etcd_prefix_end("/vdc/", end), 5);
    cr_assert_eq(memcmp(end, "/vdc0", 5), 0);
    cr_assert_eq(vdc_etcd_prefix_end("a\xff\xff", end), 1);
    cr_assert_eq(end[0], 'b');
    cr_assert_eq(vdc_etcd_prefix_end("\xff", end), 1);
    cr_assert_eq(end[0], 0);
    cr_assert_eq(vdc_etcd_prefix_end("", end), 1);
    cr_assert_eq(end[0], 0);
}

Test(etcd_codec, pieces_put_behind_each_other_are_one_transaction)
{
    struct vdc_etcd_compare compare = {
        .key = "/a", .target = VDC_ETCD_MOD_REVISION, .relation = VDC_ETCD_LESS, .number = 42};
    struct vdc_etcd_op ops[] = {
        {.kind = VDC_ETCD_PUT, .key = "/b", .value = "v\0w", .value_len = 3, .lease = 9},
        {.kind = VDC_ETCD_DELETE_PREFIX, .key = "/c/"},
        {.kind = VDC_ETCD_GET_PREFIX, .key = "", .limit = 5},
    };
    struct vdc_buf buf = {0};
    vdc_etcd_encode_ops(&buf, VDC_ETCD_THEN, ops, 2);
    vdc_etcd_encode_compares(&buf, &compare, 1);
    vdc_etcd_encode_ops(&buf, VDC_ETCD_OTHERWISE, &ops[2], 1);
    Etcdpb__TxnRequest *txn = etcdpb__txn_request__unpack(NULL, buf.len, (const uint8_t *)buf.data);
    cr_assert_not_null(txn);
    cr_assert_eq(txn->n_compare, 1);
    cr_assert_eq(txn->compare[0]->mod_revision, 42);
    cr_assert_eq(txn->compare[0]->result, ETCDPB__COMPARE__COMPARE_RESULT__LESS);
    cr_assert_eq(txn->compare[0]->target, ETCDPB__COMPARE__COMPARE_TARGET__MOD);
    cr_assert_eq(txn->n_success, 2);
    cr_assert_eq(txn->success[0]->request_put->value.len, 3);
    cr_assert_eq(txn->success[0]->request_put->lease, 9);
    cr_assert_eq(txn->success[1]->request_delete_range->range_end.len, 3);
    cr_assert_eq(txn->success[1]->request_delete_range->range_end.data[2], '0');
    cr_assert_eq(txn->n_failure, 1);
    cr_assert_eq(txn->failure[0]->request_range->key.len, 1);
    cr_assert_eq(txn->failure[0]->request_range->limit, 5);
    etcdpb__txn_request__free_unpacked(txn, NULL);
    vdc_buf_deinit(&buf);
}

Test(etcd_codec, operations_that_etcd_could_misread_are_refused)
{
    struct vdc_etcd_op bad[] = {
        {.kind = VDC_ETCD_PUT, .key = ""},
        {.kind = VDC_ETCD_PUT, .key = NULL},
        {.kind = VDC_ETCD_DELETE_PREFIX, .key = ""},
        {.kind = VDC_ETCD_PUT, .key = "/a", .value = NULL, .value_len = 1},
        {.kind = VDC_ETCD_PUT, .key = "/a", .lease = -1},
        {.kind = VDC_ETCD_GET_PREFIX, .key = "/a", .limit = -1},
        {.kind = (enum vdc_etcd_op_kind)77, .key = "/a"},
    };
    for (size_t i = 0; i < VDC_COUNT_OF(bad); i++) {
        cr_assert_eq(vdc_etcd_check_ops(&bad[i], 1), VDC_RC_INVALID, "%zu", i);
    }
    struct vdc_etcd_op all = {.kind = VDC_ETCD_GET_PREFIX, .key = ""};
    cr_assert_eq(vdc_etcd_check_ops(&all, 1), VDC_RC_OK);
}

/* An answer with one get and one put, as etcd would send it. */
static void make_answer(struct vdc_buf *buf)
{
    Etcdpb__ResponseHeader header = ETCDPB__RESPONSE_HEADER__INIT;
    header.revision = 77;
    Etcdpb__KeyValue kv = ETCDPB__KEY_VALUE__INIT;
    kv.key = (ProtobufCBinaryData){2, (uint8_t *)"/k"};
    kv.value = (ProtobufCBinaryData){3, (uint8_t *)"abc"};
    kv.create_revision = 5;
    kv.mod_revision = 6;
    kv.version = 2;
    Etcdpb__KeyValue empty = ETCDPB__KEY_VALUE__INIT;
    Etcdpb__KeyValue *kvs[] = {&kv, &empty};
    Etcdpb__RangeResponse range = ETCDPB__RANGE_RESPONSE__INIT;
    range.n_kvs = 2;
    range.kvs = kvs;
    range.count = 9;
    Etcdpb__PutResponse put = ETCDPB__PUT_RESPONSE__INIT;
    Etcdpb__ResponseOp ops[2] = {ETCDPB__RESPONSE_OP__INIT, ETCDPB__RESPONSE_OP__INIT};
    ops[0].response_case = ETCDPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE;
    ops[0].response_range = &range;
    ops[1].response_case = ETCDPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT;
    ops[1].response_put = &put;
    Etcdpb__ResponseOp *list[] = {&ops[0], &ops[1]};
    Etcdpb__TxnResponse txn = ETCDPB__TXN_RESPONSE__INIT;
    txn.header = &header;
    txn.succeeded = true;
    txn.n_responses = 2;
    txn.responses = list;
    buf->len = etcdpb__txn_response__pack(
        &txn, (uint8_t *)vdc_buf_reserve(buf, etcdpb__txn_response__get_packed_size(&txn)));
}

Test(etcd_codec, an_answer_becomes_plain_structs_with_a_nul_behind_keys_and_values)
{
    struct vdc_buf buf = {0};
    make_answer(&buf);
    struct vdc_etcd_decoded decoded;
    cr_assert_eq(vdc_etcd_decode_txn(buf.data, buf.len, 2, 0, &decoded), VDC_RC_OK);
    cr_assert(decoded.result.succeeded);
    cr_assert_eq(decoded.result.revision, 77);
    cr_assert_eq(decoded.result.answer_count, 2);
    const struct vdc_etcd_answer *get = &decoded.result.answers[0];
    cr_assert_eq(get->kind, VDC_ETCD_GET);
    cr_assert_eq(get->total, 9);
    cr_assert_eq(get->kv_count, 2);
    cr_assert_str_eq(get->kvs[0].key, "/k");
    cr_assert_str_eq(get->kvs[0].value, "abc");
    cr_assert_eq(get->kvs[0].version, 2);
    cr_assert_str_eq(get->kvs[1].value, "");
    cr_assert_eq(decoded.result.answers[1].kind, VDC_ETCD_PUT);
    vdc_etcd_decoded_deinit(&decoded);
    cr_assert_eq(vdc_etcd_decode_txn(buf.data, buf.len, 3, 0, &decoded), VDC_RC_PROTOCOL);
    vdc_etcd_decoded_deinit(&decoded);
    vdc_buf_deinit(&buf);
}

Test(etcd_codec, damaged_answers_are_refused_or_read_but_never_crash)
{
    struct vdc_buf buf = {0};
    make_answer(&buf);
    struct vdc_prng prng;
    vdc_prng_init(&prng, 4);
    for (int i = 0; i < 20000; i++) {
        vdc_autofree uint8_t *bytes = vdc_memdup(buf.data, buf.len);
        size_t len = 1 + (size_t)vdc_prng_below(&prng, buf.len);
        for (uint64_t n = vdc_prng_below(&prng, 4); n > 0; n--) {
            bytes[vdc_prng_below(&prng, len)] = (uint8_t)vdc_prng_next(&prng);
        }
        struct vdc_etcd_decoded decoded;
        enum vdc_rc rc = vdc_etcd_decode_txn(bytes, len, 2, 0, &decoded);
        cr_assert(rc == VDC_RC_OK || rc == VDC_RC_PROTOCOL);
        vdc_etcd_decoded_deinit(&decoded);
        Etcdpb__WatchResponse *watch = vdc_etcd_decode_watch(bytes, len);
        if (watch != NULL) {
            vdc_etcd_watch_response_free(watch);
        }
    }
    vdc_buf_deinit(&buf);
}

Test(etcd_codec, a_keep_alive_of_a_lease_that_is_gone_has_no_ttl)
{
    int64_t ttl_s = 99;
    cr_assert_eq(vdc_etcd_decode_keepalive("", 0, &ttl_s), VDC_RC_OK);
    cr_assert_eq(ttl_s, 0);
    int64_t id = 0;
    cr_assert_eq(vdc_etcd_decode_grant("", 0, &id, &ttl_s), VDC_RC_PROTOCOL);
    cr_assert_eq(vdc_etcd_decode_grant("\x22\x03no!", 5, &id, &ttl_s), VDC_RC_INVALID);
}
