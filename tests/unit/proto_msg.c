/* SPDX-License-Identifier: Apache-2.0 */
/* The codec of the command channel: every message comes back as it was, and nothing bad comes in. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include <vdc/msg.h>

static void round_trip(const struct vdc_msg *msg, struct vdc_msg *out)
{
    struct vdc_buf buf = {0};
    struct vdc_err err = {0};
    vdc_msg_encode(msg, &buf);
    cr_assert_eq(vdc_msg_decode(buf.data, buf.len, out, &err), VDC_RC_OK, "%s", err.text);
    cr_assert_eq(out->kind, msg->kind);
    vdc_buf_deinit(&buf);
}

static struct vdc_id some_id(uint64_t seed)
{
    struct vdc_prng prng;
    vdc_prng_init(&prng, seed);
    return vdc_id_make(&prng);
}

static void fill_hello(struct vdc_msg *msg)
{
    memset(msg, 0, sizeof *msg);
    msg->kind = VDC_MSG_HELLO;
    struct vdc_msg_hello *hello = &msg->hello;
    hello->protocol = VDC_MSG_PROTOCOL;
    strcpy(hello->node, "n1");
    strcpy(hello->rack, "r1");
    strcpy(hello->address, "10.77.0.11");
    strcpy(hello->accelerator, "tcg");
    hello->cpus = 2;
    hello->labels_len = VDC_LABELS_MAX;
    for (size_t i = 0; i < VDC_LABELS_MAX; i++) {
        snprintf(hello->labels[i].key, VDC_LABEL_CAP, "key%zu", i);
        memset(hello->labels[i].value, 'v', VDC_LABEL_MAX);
    }
    hello->numa_len = 2;
    hello->numa[1] = (struct vdc_msg_numa){.id = 7, .cpus = 1, .memory_bytes = UINT64_C(1) << 40};
    hello->zones_len = 1;
    strcpy(hello->zones[0].zone, "prod");
    hello->zones[0].epoch = VDC_COUNTER_MAX;
    hello->zones[0].incarnation = 3;
    hello->db_sequence = 42;
    hello->db_digest[15] = 9;
}

Test(msg, a_hello_with_everything_at_its_bound_comes_back)
{
    static struct vdc_msg msg, out;
    fill_hello(&msg);
    round_trip(&msg, &out);
    cr_assert_str_eq(out.hello.node, "n1");
    cr_assert_eq(out.hello.labels_len, VDC_LABELS_MAX);
    cr_assert_eq(memcmp(out.hello.labels, msg.hello.labels, sizeof msg.hello.labels), 0);
    cr_assert_eq(out.hello.numa[1].memory_bytes, UINT64_C(1) << 40);
    cr_assert_eq(out.hello.zones[0].epoch, VDC_COUNTER_MAX);
    cr_assert_eq(out.hello.db_digest[15], 9);
    vdc_msg_deinit(&out);
}

Test(msg, bytes_point_into_the_message_until_it_is_deinited)
{
    static struct vdc_msg msg, out;
    memset(&msg, 0, sizeof msg);
    msg.kind = VDC_MSG_RECORDS;
    msg.records.first_sequence = 5;
    msg.records.records_len = 2;
    msg.records.records[0] = (struct vdc_msg_bytes){"abc", 3};
    msg.records.records[1] = (struct vdc_msg_bytes){"", 0};
    round_trip(&msg, &out);
    cr_assert_eq(out.records.records_len, 2);
    cr_assert_eq(memcmp(out.records.records[0].data, "abc", 3), 0);
    cr_assert_eq(out.records.records[1].len, 0);
    vdc_msg_deinit(&out);
}

Test(msg, every_other_kind_comes_back)
{
    static struct vdc_msg msg, out;
    for (int kind = VDC_MSG_WELCOME; kind <= VDC_MSG_BYE; kind++) {
        memset(&msg, 0, sizeof msg);
        msg.kind = (enum vdc_msg_kind)kind;
        switch (msg.kind) {
        case VDC_MSG_WELCOME:
            strcpy(msg.welcome.manager, "m1");
            break;
        case VDC_MSG_ZONE_LEAD:
            strcpy(msg.zone_lead.zone, "prod");
            msg.zone_lead.lease_ns = 4000000000;
            msg.zone_lead.fenced = true;
            break;
        case VDC_MSG_ZONE_JOINED:
            strcpy(msg.zone_joined.zone, "prod");
            msg.zone_joined.incarnation = 8;
            break;
        case VDC_MSG_LEASE_ASK:
            strcpy(msg.lease_ask.zone, "prod");
            msg.lease_ask.asked_ns = 12345;
            break;
        case VDC_MSG_LEASE_GRANT:
            strcpy(msg.lease_grant.zone, "prod");
            msg.lease_grant.asked_ns = 12345;
            break;
        case VDC_MSG_TX:
            msg.tx.tx = (struct vdc_msg_bytes){"tx", 2};
            break;
        case VDC_MSG_TX_RESULT:
            msg.tx_result.request_id = some_id(1);
            msg.tx_result.rc = VDC_RC_NO_SPACE;
            strcpy(msg.tx_result.rule, "memory");
            break;
        case VDC_MSG_SNAPSHOT:
            msg.snapshot.total = 4;
            msg.snapshot.piece = (struct vdc_msg_bytes){"snap", 4};
            break;
        case VDC_MSG_GUEST:
            strcpy(msg.guest.zone, "prod");
            msg.guest.partition = some_id(2);
            msg.guest.state = VDC_GUEST_SWITCHOVER;
            msg.guest.stopped_at_ns = 77;
            break;
        case VDC_MSG_GUESTS_END:
            strcpy(msg.guests_end.zone, "prod");
            break;
        case VDC_MSG_COMMAND:
            strcpy(msg.command.zone, "prod");
            msg.command.kind = VDC_COMMAND_MIGRATE_OUT;
            msg.command.peer_port = 65535;
            break;
        case VDC_MSG_COMMAND_RESULT:
            msg.command_result.rc = VDC_RC_CANCELLED;
            msg.command_result.data = (struct vdc_msg_bytes){"out", 3};
            break;
        case VDC_MSG_BYE:
            strcpy(msg.bye.reason, "enough");
            break;
        case VDC_MSG_HELLO:
        case VDC_MSG_RECORDS:
            continue;
        }
        round_trip(&msg, &out);
        void *owned = out.owned;
        out.owned = NULL;
        /* Apart from what points into the frame, the structs are the same bytes. */
        if (msg.kind != VDC_MSG_TX && msg.kind != VDC_MSG_SNAPSHOT &&
            msg.kind != VDC_MSG_COMMAND_RESULT) {
            cr_assert_eq(memcmp(&msg, &out, sizeof msg), 0, "%s", vdc_msg_kind_name(msg.kind));
        }
        out.owned = owned;
        vdc_msg_deinit(&out);
    }
}

Test(msg, every_truncation_is_an_error_or_a_message_and_never_a_crash)
{
    static struct vdc_msg msg, out;
    fill_hello(&msg);
    struct vdc_buf buf = {0};
    vdc_msg_encode(&msg, &buf);
    for (size_t len = 0; len < buf.len; len++) {
        struct vdc_err err = {0};
        char *exact = malloc(len + 1);
        memcpy(exact, buf.data, len);
        if (vdc_msg_decode(exact, len, &out, &err) == VDC_RC_OK) {
            vdc_msg_deinit(&out);
        } else {
            cr_assert_neq(err.text[0], 0);
        }
        free(exact);
    }
    vdc_buf_deinit(&buf);
}

/* field 1 (length-delimited) of the frame: a HELLO whose field 2 is a node's name. */
Test(msg, a_name_that_is_none_is_refused_with_its_field)
{
    static const char frame[] = "\x0a\x04\x12\x02"
                                "N!";
    static struct vdc_msg out;
    struct vdc_err err = {0};
    cr_assert_eq(vdc_msg_decode(frame, sizeof frame - 1, &out, &err), VDC_RC_INVALID);
    cr_assert(strstr(err.text, "hello") != NULL && strstr(err.text, "node") != NULL, "%s",
              err.text);
}

Test(msg, a_frame_of_a_kind_that_is_not_known_is_refused)
{
    static struct vdc_msg out;
    struct vdc_err err = {0};
    cr_assert_eq(vdc_msg_decode("", 0, &out, &err), VDC_RC_UNSUPPORTED);
}

Test(msg, more_than_a_frame_may_hold_is_refused_before_it_is_read)
{
    static struct vdc_msg out;
    struct vdc_err err = {0};
    cr_assert_eq(vdc_msg_decode("x", VDC_FRAME_MAX + (size_t)1, &out, &err), VDC_RC_TOO_LARGE);
}

static void expect_refused(const struct vdc_msg *msg, enum vdc_rc rc, const char *field)
{
    static struct vdc_msg out;
    struct vdc_buf buf = {0};
    struct vdc_err err = {0};
    vdc_msg_encode(msg, &buf);
    cr_assert_eq(vdc_msg_decode(buf.data, buf.len, &out, &err), rc, "%s", field);
    cr_assert(strstr(err.text, field) != NULL, "%s", err.text);
    cr_assert_eq(out.owned, NULL);
    vdc_buf_deinit(&buf);
}

/* The manager adds them up and writes them into the store, where they would be unreadable. */
Test(msg, a_node_that_claims_more_than_any_machine_has_is_refused)
{
    static struct vdc_msg msg;
    fill_hello(&msg);
    msg.hello.numa[0].memory_bytes = VDC_PARTITION_MEMORY_MAX + 1;
    expect_refused(&msg, VDC_RC_INVALID, "memory_bytes");
    fill_hello(&msg);
    msg.hello.numa[0].id = VDC_NUMA_NODES_MAX;
    expect_refused(&msg, VDC_RC_INVALID, "id");
    fill_hello(&msg);
    msg.hello.cpus = VDC_MSG_CPUS_MAX + 1;
    expect_refused(&msg, VDC_RC_INVALID, "cpus");
    fill_hello(&msg);
    msg.hello.zones[0].incarnation = UINT64_MAX;
    expect_refused(&msg, VDC_RC_INVALID, "incarnation");
}

Test(msg, texts_are_printable_when_they_are_in)
{
    static struct vdc_msg msg, out;
    fill_hello(&msg);
    strcpy(msg.hello.labels[0].value, "two\nlines");
    expect_refused(&msg, VDC_RC_INVALID, "value");
    fill_hello(&msg);
    strcpy(msg.hello.address, "\xff");
    expect_refused(&msg, VDC_RC_INVALID, "address");
    fill_hello(&msg);
    strcpy(msg.hello.cpu_model, "Xe\xc3(n)\x1b \xe2\x82");
    round_trip(&msg, &out);
    cr_assert_str_eq(out.hello.cpu_model, "Xe?(n)  ");
    vdc_msg_deinit(&out);
}

Test(msg, a_piece_that_lies_outside_its_whole_is_refused)
{
    /* snapshot (field 10): total 4, piece of 5 bytes */
    static const char frame[] = "\x52\x09\x18\x04\x22\x05snaps";
    static struct vdc_msg out;
    struct vdc_err err = {0};
    cr_assert_eq(vdc_msg_decode(frame, sizeof frame - 1, &out, &err), VDC_RC_INVALID);
    cr_assert(strstr(err.text, "piece") != NULL, "%s", err.text);
}

/* A frame may make the decoder use a few times its own size, not thirty times. */
Test(msg, a_frame_of_a_million_tiny_fields_is_refused)
{
    static struct vdc_msg out;
    struct vdc_err err = {0};
    struct vdc_buf frame = {0};
    for (int i = 0; i < 1000000; i++) {
        vdc_buf_append(&frame, "\x98\x06\x01", 3); /* field 99, a number */
    }
    cr_assert_eq(vdc_msg_decode(frame.data, frame.len, &out, &err), VDC_RC_INVALID);
    cr_assert(strstr(err.text, "not a valid message") != NULL, "%s", err.text);
    vdc_buf_deinit(&frame);
}
