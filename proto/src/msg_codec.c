/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of the command channel in protobuf form. Each message is described once, as a list of
 * fields with their types (the *_FIELDS below); what a type means in each direction is a PUT_ and a
 * GET_ macro, so that encoder and decoder cannot disagree and no field is read without its check.
 *
 * Encoding builds a protobuf-c frame on the stack (its strings point into the message) and packs it.
 * Decoding unpacks, then copies field by field: nothing of protobuf-c is visible outside, and bytes
 * (transactions, records, snapshot pieces, console data) stay in the unpacked frame, which the
 * message owns. Macros rather than a table of offsets: the compiler then checks each field's type on
 * both sides, ours and protobuf-c's.
 */
#include <string.h>

#include <vdc/base.h>
#include <vdc/msg.h>
#include <vdc/utf8.h>

#include "command.pb-c.h"
#include "names.h"

/* ---- the messages: F(type, field[, bound]) ---- */

#define LABEL_FIELDS(F)         \
    F(TEXT, key, VDC_LABEL_CAP) \
    F(TEXT, value, VDC_LABEL_CAP)

#define NUMA_NODE_FIELDS(F)                          \
    F(UP_TO, id, VDC_NUMA_NODES_MAX - 1)             \
    F(UP_TO, memory_bytes, VDC_PARTITION_MEMORY_MAX) \
    F(UP_TO, cpus, VDC_MSG_CPUS_MAX)

#define ZONE_STATE_FIELDS(F) \
    F(NAME, zone)            \
    F(COUNTER, epoch)        \
    F(COUNTER, incarnation)

#define HELLO_FIELDS(F)                                    \
    F(PLAIN, protocol)                                     \
    F(NAME, node)                                          \
    F(NAME, rack)                                          \
    F(LIST, labels, VDC_LABELS_MAX, Label, label)          \
    F(TEXT, address, VDC_ADDRESS_CAP)                      \
    F(TEXT, agent_version, VDC_NAME_CAP)                   \
    F(BYTES, boot_id)                                      \
    F(UP_TO, cpus, VDC_MSG_CPUS_MAX)                       \
    F(LIST, numa, VDC_NUMA_NODES_MAX, NumaNode, numa_node) \
    F(FREE_TEXT, cpu_model, VDC_ADDRESS_CAP)               \
    F(TEXT, accelerator, VDC_NAME_CAP)                     \
    F(FREE_TEXT, accelerator_reason, VDC_MSG_TEXT_CAP)     \
    F(COUNTER, db_sequence)                                \
    F(BYTES, db_digest)                                    \
    F(LIST, zones, VDC_MSG_ZONES_MAX, ZoneState, zone_state)

#define WELCOME_FIELDS(F) \
    F(NAME, manager)      \
    F(PLAIN, protocol)

#define ZONE_LEAD_FIELDS(F) \
    F(NAME, zone)           \
    F(COUNTER, epoch)       \
    F(NS, lease_ns)         \
    F(NS, grace_ns)         \
    F(COUNTER, incarnation) \
    F(PLAIN, fenced)        \
    F(COUNTER, follow_from) \
    F(PLAIN, snapshot)

#define ZONE_JOINED_FIELDS(F) \
    F(NAME, zone)             \
    F(COUNTER, epoch)         \
    F(COUNTER, incarnation)

#define LEASE_ASK_FIELDS(F) \
    F(NAME, zone)           \
    F(COUNTER, epoch)       \
    F(COUNTER, incarnation) \
    F(PLAIN, asked_ns)      \
    F(COUNTER, db_sequence) \
    F(BYTES, db_digest)

#define LEASE_GRANT_FIELDS(F) \
    F(NAME, zone)             \
    F(COUNTER, epoch)         \
    F(COUNTER, incarnation)   \
    F(PLAIN, asked_ns)

#define TX_FIELDS(F) F(DATA, tx, VDC_FRAME_MAX)

#define TX_RESULT_FIELDS(F)     \
    F(ID, request_id)           \
    F(RC, rc)                   \
    F(COUNTER, sequence)        \
    F(PLAIN, op_index)          \
    F(TEXT, rule, VDC_NAME_CAP) \
    F(FREE_TEXT, text, VDC_MSG_TEXT_CAP)

#define RECORDS_FIELDS(F)      \
    F(COUNTER, first_sequence) \
    F(DATA_LIST, records, VDC_MSG_RECORDS_MAX)

#define SNAPSHOT_FIELDS(F)            \
    F(COUNTER, sequence)              \
    F(PLAIN, offset)                  \
    F(PLAIN, total)                   \
    F(DATA, piece, VDC_MSG_PIECE_MAX) \
    F(CHECK, piece, piece_fits)

#define GUEST_FIELDS(F)                                     \
    F(NAME, zone)                                           \
    F(ID, partition)                                        \
    F(COUNTER, generation)                                  \
    F(WORD, state, vdc_guest_state_names, VDC_GUEST_STATES) \
    F(FREE_TEXT, reason, VDC_MSG_TEXT_CAP)                  \
    F(TEXT, accelerator, VDC_NAME_CAP)                      \
    F(PLAIN, bytes_total)                                   \
    F(PLAIN, bytes_left)                                    \
    F(PLAIN, bytes_sent)                                    \
    F(PLAIN, stopped_at_ns)                                 \
    F(PLAIN, running_at_ns)                                 \
    F(PLAIN, downtime_ns)                                   \
    F(PLAIN, started_at_ns)

#define GUESTS_END_FIELDS(F) F(NAME, zone)

#define COMMAND_FIELDS(F)                                    \
    F(ID, request_id)                                        \
    F(NAME, zone)                                            \
    F(COUNTER, epoch)                                        \
    F(ID, partition)                                         \
    F(COUNTER, generation)                                   \
    F(WORD, kind, vdc_command_kind_names, VDC_COMMAND_KINDS) \
    F(NAME_OR_NONE, peer_node)                               \
    F(TEXT, peer_address, VDC_ADDRESS_CAP)                   \
    F(UP_TO, peer_port, UINT16_MAX)                          \
    F(PLAIN, bandwidth)                                      \
    F(NS, downtime_ns)                                       \
    F(PLAIN, offset)                                         \
    F(CUT_TO, max, VDC_MSG_CONSOLE_MAX)

#define COMMAND_RESULT_FIELDS(F)         \
    F(ID, request_id)                    \
    F(RC, rc)                            \
    F(FREE_TEXT, text, VDC_MSG_TEXT_CAP) \
    F(UP_TO, port, UINT16_MAX)           \
    F(PLAIN, offset)                     \
    F(PLAIN, end)                        \
    F(DATA, data, VDC_MSG_CONSOLE_MAX)

#define BYE_FIELDS(F) F(FREE_TEXT, reason, VDC_MSG_TEXT_CAP)

/* KIND, member of both unions, protobuf-c's type. */
#define MESSAGES(M)                                  \
    M(HELLO, hello, Hello)                           \
    M(WELCOME, welcome, Welcome)                     \
    M(ZONE_LEAD, zone_lead, ZoneLead)                \
    M(ZONE_JOINED, zone_joined, ZoneJoined)          \
    M(LEASE_ASK, lease_ask, LeaseAsk)                \
    M(LEASE_GRANT, lease_grant, LeaseGrant)          \
    M(TX, tx, Tx)                                    \
    M(TX_RESULT, tx_result, TxResult)                \
    M(RECORDS, records, Records)                     \
    M(SNAPSHOT, snapshot, Snapshot)                  \
    M(GUEST, guest, Guest)                           \
    M(GUESTS_END, guests_end, GuestsEnd)             \
    M(COMMAND, command, Command)                     \
    M(COMMAND_RESULT, command_result, CommandResult) \
    M(BYE, bye, Bye)

/* ---- what the decoder does with a field ---- */

/* One decoding under way: the first wrong field is kept, later steps do nothing. */
struct reader {
    enum vdc_rc rc;
    struct vdc_err *err;
    const char *message;
};

static void fail(struct reader *in, enum vdc_rc rc, const char *field, const char *what)
{
    if (in->rc == VDC_RC_OK) {
        in->rc = vdc_err_set(in->err, rc, "message %s: field %s %s", in->message, field, what);
    }
}

static void read_text(struct reader *in, char *dst, size_t cap, const char *src, const char *field)
{
    if (!vdc_str_copy(dst, cap, src)) {
        fail(in, VDC_RC_TOO_LARGE, field, "is too long");
    } else if (!vdc_text_is_printable(dst, strlen(dst))) {
        fail(in, VDC_RC_INVALID, field, "has control characters or is not UTF-8");
    }
}

/* For people only, and often made by other programs or cut: repaired, not refused. */
static void read_free_text(struct reader *in, char *dst, size_t cap, const char *src,
                           const char *field)
{
    if (!vdc_str_copy(dst, cap, src)) {
        fail(in, VDC_RC_TOO_LARGE, field, "is too long");
    }
    vdc_text_make_printable(dst);
}

/* Names of things; `empty` where none is a value. */
static void read_name(struct reader *in, char dst[VDC_NAME_CAP], const char *src, bool empty,
                      const char *field)
{
    if ((!empty || src[0] != 0) && !vdc_name_valid(src)) {
        fail(in, VDC_RC_INVALID, field, "is not a valid name");
        return;
    }
    read_text(in, dst, VDC_NAME_CAP, src, field);
}

static void read_bytes(struct reader *in, void *dst, size_t len, const ProtobufCBinaryData *src,
                       const char *field)
{
    if (src->len != len) {
        fail(in, VDC_RC_INVALID, field, "has a wrong length");
        return;
    }
    memcpy(dst, src->data, len);
}

static struct vdc_msg_bytes read_data(struct reader *in, const ProtobufCBinaryData *src, size_t max,
                                      const char *field)
{
    if (src->len > max) {
        fail(in, VDC_RC_TOO_LARGE, field, "is too long");
    }
    return (struct vdc_msg_bytes){src->data, src->len};
}

static uint64_t read_number(struct reader *in, uint64_t value, uint64_t max, const char *field)
{
    if (value > max) {
        fail(in, VDC_RC_INVALID, field, "is out of range");
        return 0;
    }
    return value;
}

/* The number of elements; 0 if there are too many. */
static size_t read_count(struct reader *in, size_t count, size_t max, const char *field)
{
    if (count > max) {
        fail(in, VDC_RC_TOO_LARGE, field, "has too many elements");
        return 0;
    }
    return count;
}

static unsigned read_word(struct reader *in, const char *const *words, size_t count,
                          const char *src, const char *field)
{
    int found = vdc_enum_find(words, count, src);
    if (found < 0) {
        fail(in, VDC_RC_UNSUPPORTED, field, "is not a word that is known");
    }
    return found < 0 ? 0 : (unsigned)found;
}

static bool piece_fits(const struct vdc_msg_snapshot *snapshot)
{
    return snapshot->offset <= snapshot->total &&
           snapshot->piece.len <= snapshot->total - snapshot->offset;
}

/* ---- the types ---- */

static char *text(const char *from)
{
    return (char *)(uintptr_t)from; /* protobuf-c's fields are not const; packing does not write */
}

static ProtobufCBinaryData bytes(const void *data, size_t len)
{
    return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)data};
}

static ProtobufCBinaryData data_of(const struct vdc_msg_bytes *data, size_t max)
{
    VDC_ASSERT(data->len <= max);
    return bytes(data->data, data->len);
}

/* In the functions made below: `from` and `to` are the two structs, `in` is the reader. */

/* Any value is good. */
#define PUT_PLAIN(field) to->field = from->field;
#define GET_PLAIN(field) to->field = from->field;
#define PUT_UP_TO(field, max) to->field = from->field;
#define GET_UP_TO(field, max) \
    to->field = (__typeof__(to->field))read_number(in, from->field, max, #field);
#define PUT_CUT_TO(field, max) to->field = from->field;
#define GET_CUT_TO(field, max) to->field = (__typeof__(to->field))VDC_MIN(from->field, (max));
#define PUT_COUNTER(field) to->field = from->field;
#define GET_COUNTER(field) to->field = read_number(in, from->field, VDC_COUNTER_MAX, #field);
/* Durations travel as uint64; ours are int64. */
#define PUT_NS(field) to->field = (uint64_t)from->field;
#define GET_NS(field) to->field = (int64_t)read_number(in, from->field, INT64_MAX, #field);
#define PUT_NAME(field) to->field = text(from->field);
#define GET_NAME(field) read_name(in, to->field, from->field, false, #field);
#define PUT_NAME_OR_NONE(field) to->field = text(from->field);
#define GET_NAME_OR_NONE(field) read_name(in, to->field, from->field, true, #field);
#define PUT_TEXT(field, cap) to->field = text(from->field);
#define GET_TEXT(field, cap) read_text(in, to->field, cap, from->field, #field);
#define PUT_FREE_TEXT(field, cap) to->field = text(from->field);
#define GET_FREE_TEXT(field, cap) read_free_text(in, to->field, cap, from->field, #field);
#define PUT_ID(field) to->field = bytes(from->field.bytes, sizeof from->field.bytes);
#define GET_ID(field) read_bytes(in, to->field.bytes, sizeof to->field.bytes, &from->field, #field);
#define PUT_BYTES(field) to->field = bytes(from->field, sizeof from->field);
#define GET_BYTES(field) read_bytes(in, to->field, sizeof to->field, &from->field, #field);
#define PUT_RC(field) to->field = text(vdc_rc_name(from->field));
#define GET_RC(field) to->field = vdc_rc_from_name(from->field);
/* An enum that travels as its name; `LIST` is its X-macro. */
#define COUNT_ONE(name, text) +1
#define PUT_WORD(field, words, LIST)                          \
    VDC_ASSERT((unsigned)from->field < (0u LIST(COUNT_ONE))); \
    to->field = text((words)[from->field]);
#define GET_WORD(field, words, LIST) \
    to->field =                      \
        (__typeof__(to->field))read_word(in, words, 0u LIST(COUNT_ONE), from->field, #field);
/* Bytes that stay where they are. */
#define PUT_DATA(field, max) to->field = data_of(&from->field, max);
#define GET_DATA(field, max) to->field = read_data(in, &from->field, max, #field);
/* The arrays live until the frame is packed: they are the encoding function's own. */
#define PUT_DATA_LIST(field, max)                              \
    VDC_ASSERT(from->field##_len <= (max));                    \
    ProtobufCBinaryData field##_items[max];                    \
    for (size_t i = 0; i < from->field##_len; i++) {           \
        field##_items[i] = data_of(&from->field[i], SIZE_MAX); \
    }                                                          \
    to->field = field##_items;                                 \
    to->n_##field = from->field##_len;
#define GET_DATA_LIST(field, max)                                        \
    to->field##_len = read_count(in, from->n_##field, max, #field);      \
    for (size_t i = 0; i < to->field##_len; i++) {                       \
        to->field[i] = read_data(in, &from->field[i], SIZE_MAX, #field); \
    }
#define PUT_LIST(field, max, Type, type)                \
    VDC_ASSERT(from->field##_len <= (max));             \
    Vdc__##Type field##_items[max];                     \
    Vdc__##Type *field##_ptrs[max];                     \
    for (size_t i = 0; i < from->field##_len; i++) {    \
        put_##type(&from->field[i], &field##_items[i]); \
        field##_ptrs[i] = &field##_items[i];            \
    }                                                   \
    to->field = field##_ptrs;                           \
    to->n_##field = from->field##_len;
#define GET_LIST(field, max, Type, type)                            \
    to->field##_len = read_count(in, from->n_##field, max, #field); \
    for (size_t i = 0; i < to->field##_len; i++) {                  \
        get_##type(in, from->field[i], &to->field[i]);              \
    }
/* What concerns more than one field. */
#define PUT_CHECK(field, fits) VDC_ASSERT(fits(from));
#define GET_CHECK(field, fits)                                             \
    if (!fits(to)) {                                                       \
        fail(in, VDC_RC_INVALID, #field, "does not fit the other fields"); \
    }

#define PUT(type, ...) PUT_##type(__VA_ARGS__)
#define GET(type, ...) GET_##type(__VA_ARGS__)

/* ---- the functions ---- */

#define ELEMENT(NAME, name, Type, ours)                                                 \
    static void put_##name(const struct ours *from, Vdc__##Type *to)                    \
    {                                                                                   \
        *to = (Vdc__##Type)VDC__##NAME##__INIT;                                         \
        NAME##_FIELDS(PUT)                                                              \
    }                                                                                   \
    static void get_##name(struct reader *in, const Vdc__##Type *from, struct ours *to) \
    {                                                                                   \
        NAME##_FIELDS(GET)                                                              \
    }

ELEMENT(LABEL, label, Label, vdc_label)
ELEMENT(NUMA_NODE, numa_node, NumaNode, vdc_msg_numa)
ELEMENT(ZONE_STATE, zone_state, ZoneState, vdc_msg_zone_state)

static void pack(Vdc__Frame *frame, struct vdc_buf *buf)
{
    size_t len = vdc__frame__get_packed_size(frame);
    char *at = vdc_buf_reserve(buf, len);
    vdc__frame__pack(frame, (uint8_t *)at);
    buf->len += len;
    buf->data[buf->len] = 0;
}

#define MESSAGE(KIND, name, Type)                                                     \
    static void encode_##name(const struct vdc_msg_##name *from, struct vdc_buf *buf) \
    {                                                                                 \
        Vdc__##Type packed = VDC__##KIND##__INIT;                                     \
        Vdc__##Type *to = &packed;                                                    \
        KIND##_FIELDS(PUT) Vdc__Frame frame = VDC__FRAME__INIT;                       \
        frame.body_case = VDC__FRAME__BODY_##KIND;                                    \
        frame.name = to;                                                              \
        pack(&frame, buf);                                                            \
    }                                                                                 \
    static void decode_##name(struct reader *in, const Vdc__##Type *from,             \
                              struct vdc_msg_##name *to)                              \
    {                                                                                 \
        KIND##_FIELDS(GET)                                                            \
    }

MESSAGES(MESSAGE)

void vdc_msg_encode(const struct vdc_msg *msg, struct vdc_buf *buf)
{
    switch (msg->kind) {
#define ENCODE(KIND, name, Type)        \
    case VDC_MSG_##KIND:                \
        encode_##name(&msg->name, buf); \
        return;
        MESSAGES(ENCODE)
    }
}

static void decode_body(struct reader *in, const Vdc__Frame *frame, struct vdc_msg *msg)
{
    switch (frame->body_case) {
#define DECODE(KIND, name, Type)                    \
    case VDC__FRAME__BODY_##KIND:                   \
        in->message = #name;                        \
        msg->kind = VDC_MSG_##KIND;                 \
        decode_##name(in, frame->name, &msg->name); \
        return;
        MESSAGES(DECODE)
    case VDC__FRAME__BODY__NOT_SET:
    case _VDC__FRAME__BODY__CASE_IS_INT_SIZE:
        break;
    }
    fail(in, VDC_RC_UNSUPPORTED, "body", "is of a kind that this version does not know");
}

/* protobuf-c allocates a struct for each element and each field that it does not know, up to thirty
 * times the bytes of a frame made for that. Ours is a few times its frame, whatever it holds: each
 * allocation is taken from what is left, and the first that does not fit ends the unpacking. */
struct allowance {
    size_t left;
};

#define ALLOWED_PER_BYTE 4
#define ALLOWED_ANYHOW 65536

static void *allowed_alloc(void *data, size_t size)
{
    struct allowance *allowance = data;
    if (size > allowance->left) {
        return NULL;
    }
    allowance->left -= size;
    return vdc_calloc(1, size);
}

static void allowed_free(void *data, void *memory)
{
    (void)data;
    free(memory);
}

enum vdc_rc vdc_msg_decode(const void *data, size_t len, struct vdc_msg *msg, struct vdc_err *err)
{
    memset(msg, 0, sizeof *msg);
    if (len > VDC_FRAME_MAX) {
        return vdc_err_set(err, VDC_RC_TOO_LARGE, "a frame of %zu bytes, the limit is %u", len,
                           VDC_FRAME_MAX);
    }
    struct allowance allowance = {.left = len * ALLOWED_PER_BYTE + ALLOWED_ANYHOW};
    ProtobufCAllocator allocator = {
        .alloc = allowed_alloc, .free = allowed_free, .allocator_data = &allowance};
    Vdc__Frame *frame = vdc__frame__unpack(&allocator, len, data);
    if (frame == NULL) {
        return vdc_err_set(err, VDC_RC_INVALID, "a frame of %zu bytes is not a valid message", len);
    }
    struct reader in = {.rc = VDC_RC_OK, .err = err, .message = "?"};
    decode_body(&in, frame, msg);
    msg->owned = frame;
    if (in.rc != VDC_RC_OK) {
        vdc_msg_deinit(msg);
        memset(msg, 0, sizeof *msg);
    }
    return in.rc;
}

void vdc_msg_deinit(struct vdc_msg *msg)
{
    if (msg->owned != NULL) {
        static ProtobufCAllocator allocator = {.alloc = allowed_alloc, .free = allowed_free};
        vdc__frame__free_unpacked(msg->owned, &allocator);
        msg->owned = NULL;
    }
}
