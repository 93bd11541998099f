/* SPDX-License-Identifier: Apache-2.0 */
/* The store's records: what is written is read again, damage is named. */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include <vdc/record.h>

Test(record, a_partition_comes_back_whole)
{
    struct vdc_prng prng;
    vdc_prng_init(&prng, 3);
    struct vdc_partition_record record;
    memset(&record, 0, sizeof record);
    record.id = vdc_id_make(&prng);
    record.operation = vdc_id_make(&prng);
    strcpy(record.spec.name, "db-1");
    strcpy(record.spec.zone, "prod");
    strcpy(record.spec.image, "linux");
    record.spec.labels_len = 2;
    strcpy(record.spec.labels[0].key, "z");
    strcpy(record.spec.labels[0].value, "last in the alphabet, first here");
    strcpy(record.spec.labels[1].key, "app");
    strcpy(record.spec.labels[1].value, "db \"quoted\"");
    record.spec.vcpus = 2;
    record.spec.memory_bytes = VDC_PARTITION_MEMORY_MAX;
    record.desired = VDC_DESIRED_STOPPED;
    strcpy(record.owner, "n3");
    record.generation = 7;
    record.generation_last = 9;
    record.restartable = true;
    record.verdict = vdc_strdup("placed\non n3");
    record.created_at.ns = INT64_C(1790000000123456789);
    struct vdc_buf json = {0};
    struct vdc_partition_record back;
    struct vdc_err err = {0};
    vdc_partition_record_encode(&record, &json);
    cr_assert_eq(vdc_partition_record_decode(json.data, json.len, &back, &err), VDC_RC_OK, "%s",
                 err.text);
    cr_assert_str_eq(back.verdict, record.verdict);
    vdc_partition_record_deinit(&back);
    char *verdict = vdc_steal(&record.verdict);
    cr_assert_eq(memcmp(&back, &record, sizeof record), 0);
    free(verdict);
    vdc_buf_deinit(&json);
}

Test(record, an_operation_comes_back_whole)
{
    struct vdc_operation_record record;
    memset(&record, 0, sizeof record);
    strcpy(record.zone, "prod");
    strcpy(record.step, "switchover");
    strcpy(record.request_key, "key-1");
    record.kind = VDC_OPERATION_FAILOVER;
    record.state = VDC_OPSTATE_FAILED;
    record.rc = VDC_RC_REFUSED;
    record.body_digest[0] = 0xab;
    record.body_digest[31] = 0x01;
    record.downtime_ns = -1;
    record.error = vdc_strdup("no");
    struct vdc_buf json = {0};
    struct vdc_operation_record back;
    struct vdc_err err = {0};
    vdc_operation_record_encode(&record, &json);
    cr_assert_eq(vdc_operation_record_decode(json.data, json.len, &back, &err), VDC_RC_OK, "%s",
                 err.text);
    cr_assert_str_eq(back.error, "no");
    vdc_operation_record_deinit(&back);
    free(vdc_steal(&record.error));
    cr_assert_eq(memcmp(&back, &record, sizeof record), 0);
    vdc_buf_deinit(&json);
}

static enum vdc_rc decode_node(const char *json, struct vdc_err *err)
{
    struct vdc_node_record record;
    *err = (struct vdc_err){0};
    return vdc_node_record_decode(json, strlen(json), &record, err);
}

Test(record, a_wrong_field_is_named)
{
    struct vdc_err err;
    cr_assert_eq(decode_node("{\"name\":\"n1\",\"incarnation\":-1}", &err), VDC_RC_CORRUPT);
    cr_assert(strstr(err.text, "\"incarnation\"") != NULL, "%s", err.text);
    cr_assert_eq(decode_node("{\"state\":\"asleep\"}", &err), VDC_RC_CORRUPT);
    cr_assert(strstr(err.text, "\"state\"") != NULL, "%s", err.text);
    cr_assert_eq(decode_node("{\"labels\":{\"a\":1}}", &err), VDC_RC_CORRUPT);
    cr_assert_eq(decode_node("[]", &err), VDC_RC_CORRUPT);
    cr_assert_eq(decode_node("{\"name\":\"n1\"", &err), VDC_RC_CORRUPT);
    cr_assert_eq(decode_node("{\"name\":\"n1\",\"name\":\"n2\"}", &err), VDC_RC_CORRUPT);
}

Test(record, fields_of_a_newer_version_are_ignored_and_absent_ones_are_zero)
{
    struct vdc_err err;
    cr_assert_eq(decode_node("{\"name\":\"n1\",\"colour\":\"green\"}", &err), VDC_RC_OK);
}

Test(record, a_failed_decode_leaves_nothing_owned)
{
    struct vdc_operation_record record;
    struct vdc_err err = {0};
    const char *json = "{\"error\":\"kept?\",\"verdict\":\"kept?\",\"duration_ns\":\"long\"}";
    cr_assert_eq(vdc_operation_record_decode(json, strlen(json), &record, &err), VDC_RC_CORRUPT);
    cr_assert_null(record.error);
    cr_assert_null(record.verdict);
}

Test(record, keys_are_what_the_documents_say)
{
    char key[VDC_KEY_CAP];
    vdc_key_policy(key, "prod", 7);
    cr_assert_str_eq(key, "/vdc/v1/policies/prod/0000000007");
    vdc_key_node(key, "prod", "n1");
    cr_assert_str_eq(key, "/vdc/v1/nodes/prod/n1");
    vdc_key_leader(key, "prod");
    cr_assert_str_eq(key, "/vdc/v1/leaders/prod");
}

Test(record, a_sentence_that_was_cut_within_a_character_is_kept)
{
    char error[] = "too long: caf\xc3";
    struct vdc_operation_record record = {.error = error};
    struct vdc_operation_record out;
    struct vdc_buf json = {0};
    struct vdc_err err = {0};
    vdc_operation_record_encode(&record, &json);
    cr_assert_eq(vdc_operation_record_decode(json.data, json.len, &out, &err), VDC_RC_OK, "%s",
                 err.text);
    cr_assert_str_eq(out.error, "too long: caf");
    vdc_operation_record_deinit(&out);
    vdc_buf_deinit(&json);
}

Test(record, a_number_that_could_not_be_read_back_is_our_own_bug, .signal = SIGABRT)
{
    struct vdc_node_record record = {.memory_bytes = UINT64_MAX};
    struct vdc_buf json = {0};
    vdc_node_record_encode(&record, &json);
}
