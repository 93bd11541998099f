/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of the command channel in protobuf form. Encoding builds a protobuf-c frame on the
 * stack (its strings point into the message) and packs it. Decoding unpacks, then copies field by
 * field with every bound checked: nothing of protobuf-c is visible outside, and bytes
 * (transactions, records, snapshot pieces, console data) stay in the unpacked frame, which the
 * message owns.
 */
#include <string.h>

#include <vdc/base.h>
#include <vdc/msg.h>

#include "command.pb-c.h"
#include "names.h"

/* ---- encoding ---- */

static char *text(const char *from)
{
    return (char *)(uintptr_t)from; /* protobuf-c's fields are not const; packing does not write */
}

static ProtobufCBinaryData bytes(const void *data, size_t len)
{
    return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)data};
}

static ProtobufCBinaryData id_bytes(const struct vdc_id *id)
{
    return bytes(id->bytes, sizeof id->bytes);
}

static void pack(Vdc__Frame *frame, struct vdc_buf *buf)
{
    size_t len = vdc__frame__get_packed_size(frame);
    char *at = vdc_buf_reserve(buf, len);
    vdc__frame__pack(frame, (uint8_t *)at);
    buf->len += len;
    buf->data[buf->len] = 0;
}

static void encode_hello(const struct vdc_msg_hello *hello, Vdc__Frame *frame, struct vdc_buf *buf)
{
    VDC_ASSERT(hello->labels_len <= VDC_LABELS_MAX && hello->numa_len <= VDC_NUMA_NODES_MAX &&
               hello->zones_len <= VDC_MSG_ZONES_MAX);
    Vdc__Label labels[VDC_LABELS_MAX];
    Vdc__Label *label_ptrs[VDC_LABELS_MAX];
    for (size_t i = 0; i < hello->labels_len; i++) {
        labels[i] = (Vdc__Label)VDC__LABEL__INIT;
        labels[i].key = text(hello->labels[i].key);
        labels[i].value = text(hello->labels[i].value);
        label_ptrs[i] = &labels[i];
    }
    Vdc__NumaNode numa[VDC_NUMA_NODES_MAX];
    Vdc__NumaNode *numa_ptrs[VDC_NUMA_NODES_MAX];
    for (size_t i = 0; i < hello->numa_len; i++) {
        numa[i] = (Vdc__NumaNode)VDC__NUMA_NODE__INIT;
        numa[i].id = hello->numa[i].id;
        numa[i].cpus = hello->numa[i].cpus;
        numa[i].memory_bytes = hello->numa[i].memory_bytes;
        numa_ptrs[i] = &numa[i];
    }
    Vdc__ZoneState zones[VDC_MSG_ZONES_MAX];
    Vdc__ZoneState *zone_ptrs[VDC_MSG_ZONES_MAX];
    for (size_t i = 0; i < hello->zones_len; i++) {
        zones[i] = (Vdc__ZoneState)VDC__ZONE_STATE__INIT;
        zones[i].zone = text(hello->zones[i].zone);
        zones[i].epoch = hello->zones[i].epoch;
        zones[i].incarnation = hello->zones[i].incarnation;
        zone_ptrs[i] = &zones[i];
    }
    Vdc__Hello out = VDC__HELLO__INIT;
    out.protocol = hello->protocol;
    out.node = text(hello->node);
    out.rack = text(hello->rack);
    out.labels = label_ptrs;
    out.n_labels = hello->labels_len;
    out.address = text(hello->address);
    out.agent_version = text(hello->agent_version);
    out.boot_id = bytes(hello->boot_id, sizeof hello->boot_id);
    out.cpus = hello->cpus;
    out.numa = numa_ptrs;
    out.n_numa = hello->numa_len;
    out.cpu_model = text(hello->cpu_model);
    out.accelerator = text(hello->accelerator);
    out.accelerator_reason = text(hello->accelerator_reason);
    out.db_sequence = hello->db_sequence;
    out.db_digest = bytes(hello->db_digest, sizeof hello->db_digest);
    out.zones = zone_ptrs;
    out.n_zones = hello->zones_len;
    frame->body_case = VDC__FRAME__BODY_HELLO;
    frame->hello = &out;
    pack(frame, buf);
}

static void encode_records(const struct vdc_msg_records *records, Vdc__Frame *frame,
                           struct vdc_buf *buf)
{
    VDC_ASSERT(records->records_len <= VDC_MSG_RECORDS_MAX);
    ProtobufCBinaryData items[VDC_MSG_RECORDS_MAX];
    for (size_t i = 0; i < records->records_len; i++) {
        items[i] = bytes(records->records[i].data, records->records[i].len);
    }
    Vdc__Records out = VDC__RECORDS__INIT;
    out.first_sequence = records->first_sequence;
    out.records = items;
    out.n_records = records->records_len;
    frame->body_case = VDC__FRAME__BODY_RECORDS;
    frame->records = &out;
    pack(frame, buf);
}

static void encode_guest(const struct vdc_msg_guest *guest, Vdc__Frame *frame, struct vdc_buf *buf)
{
    Vdc__Guest out = VDC__GUEST__INIT;
    out.zone = text(guest->zone);
    out.partition = id_bytes(&guest->partition);
    out.generation = guest->generation;
    out.state = text(vdc_guest_state_name(guest->state));
    out.reason = text(guest->reason);
    out.accelerator = text(guest->accelerator);
    out.bytes_total = guest->bytes_total;
    out.bytes_left = guest->bytes_left;
    out.bytes_sent = guest->bytes_sent;
    out.stopped_at_ns = guest->stopped_at_ns;
    out.running_at_ns = guest->running_at_ns;
    out.downtime_ns = guest->downtime_ns;
    out.started_at_ns = guest->started_at_ns;
    frame->body_case = VDC__FRAME__BODY_GUEST;
    frame->guest = &out;
    pack(frame, buf);
}

static void encode_command(const struct vdc_msg_command *command, Vdc__Frame *frame,
                           struct vdc_buf *buf)
{
    Vdc__Command out = VDC__COMMAND__INIT;
    out.request_id = id_bytes(&command->request_id);
    out.zone = text(command->zone);
    out.epoch = command->epoch;
    out.partition = id_bytes(&command->partition);
    out.generation = command->generation;
    out.kind = text(vdc_command_kind_name(command->kind));
    out.peer_node = text(command->peer_node);
    out.peer_address = text(command->peer_address);
    out.peer_port = command->peer_port;
    out.bandwidth = command->bandwidth;
    out.downtime_ns = (uint64_t)command->downtime_ns;
    out.offset = command->offset;
    out.max = command->max;
    frame->body_case = VDC__FRAME__BODY_COMMAND;
    frame->command = &out;
    pack(frame, buf);
}

void vdc_msg_encode(const struct vdc_msg *msg, struct vdc_buf *buf)
{
    Vdc__Frame frame = VDC__FRAME__INIT;
    switch (msg->kind) {
    case VDC_MSG_HELLO:
        encode_hello(&msg->hello, &frame, buf);
        return;
    case VDC_MSG_WELCOME: {
        Vdc__Welcome out = VDC__WELCOME__INIT;
        out.manager = text(msg->welcome.manager);
        out.protocol = msg->welcome.protocol;
        frame.body_case = VDC__FRAME__BODY_WELCOME;
        frame.welcome = &out;
        pack(&frame, buf);
        return;
    }
    case VDC_MSG_ZONE_LEAD: {
        Vdc__ZoneLead out = VDC__ZONE_LEAD__INIT;
        out.zone = text(msg->zone_lead.zone);
        out.epoch = msg->zone_lead.epoch;
        out.lease_ns = (uint64_t)msg->zone_lead.lease_ns;
        out.grace_ns = (uint64_t)msg->zone_lead.grace_ns;
        out.incarnation = msg->zone_lead.incarnation;
        out.fenced = msg->zone_lead.fenced;
        out.follow_from = msg->zone_lead.follow_from;
        out.snapshot = msg->zone_lead.snapshot;
        frame.body_case = VDC__FRAME__BODY_ZONE_LEAD;
        frame.zone_lead = &out;
        pack(&frame, buf);
        return;
    }
    case VDC_MSG_ZONE_JOINED: {
        Vdc__ZoneJoined out = VDC__ZONE_JOINED__INIT;
        out.zone = text(msg->zone_joined.zone);
        out.epoch = msg->zone_joined.epoch;
        out.incarnation = msg->zone_joined.incarnation;
        frame.body_case = VDC__FRAME__BODY_ZONE_JOINED;
        frame.zone_joined = &out;
        pack(&frame, buf);
        return;
    }
    case VDC_MSG_LEASE_ASK: {
        Vdc__LeaseAsk out = VDC__LEASE_ASK__INIT;
        out.zone = text(msg->lease_ask.zone);
        out.epoch = msg->lease_ask.epoch;
        out.incarnation = msg->lease_ask.incarnation;
        out.asked_ns = msg->lease_ask.asked_ns;
        out.db_sequence = msg->lease_ask.db_sequence;
        out.db_digest = bytes(msg->lease_ask.db_digest, VDC_MSG_DIGEST_LEN);
        frame.body_case = VDC__FRAME__BODY_LEASE_ASK;
        frame.lease_ask = &out;
        pack(&frame, buf);
        return;
    }
    case VDC_MSG_LEASE_GRANT: {
        Vdc__LeaseGrant out = VDC__LEASE_GRANT__INIT;
        out.zone = text(msg->lease_grant.zone);
        out.epoch = msg->lease_grant.epoch;
        out.incarnation = msg->lease_grant.incarnation;
        out.asked_ns = msg->lease_grant.asked_ns;
        frame.body_case = VDC__FRAME__BODY_LEASE_GRANT;
        frame.lease_grant = &out;
        pack(&frame, buf);
        return;
    }
    case VDC_MSG_TX: {
        Vdc__Tx out = VDC__TX__INIT;
        out.tx = bytes(msg->tx.tx.data, msg->tx.tx.len);
        frame.body_case = VDC__FRAME__BODY_TX;
        frame.tx = &out;
        pack(&frame, buf);
        return;
    }
    case VDC_MSG_TX_RESULT: {
        Vdc__TxResult out = VDC__TX_RESULT__INIT;
        out.request_id = id_bytes(&msg->tx_result.request_id);
        out.rc = text(vdc_rc_name(msg->tx_result.rc));
        out.sequence = msg->tx_result.sequence;
        out.op_index = msg->tx_result.op_index;
        out.rule = text(msg->tx_result.rule);
        out.text = text(msg->tx_result.text);
        frame.body_case = VDC__FRAME__BODY_TX_RESULT;
        frame.tx_result = &out;
        pack(&frame, buf);
        return;
    }
    case VDC_MSG_RECORDS:
        encode_records(&msg->records, &frame, buf);
        return;
    case VDC_MSG_SNAPSHOT: {
        VDC_ASSERT(msg->snapshot.piece.len <= VDC_MSG_PIECE_MAX);
        Vdc__Snapshot out = VDC__SNAPSHOT__INIT;
        out.sequence = msg->snapshot.sequence;
        out.offset = msg->snapshot.offset;
        out.total = msg->snapshot.total;
        out.piece = bytes(msg->snapshot.piece.data, msg->snapshot.piece.len);
        frame.body_case = VDC__FRAME__BODY_SNAPSHOT;
        frame.snapshot = &out;
        pack(&frame, buf);
        return;
    }
    case VDC_MSG_GUEST:
        encode_guest(&msg->guest, &frame, buf);
        return;
    case VDC_MSG_GUESTS_END: {
        Vdc__GuestsEnd out = VDC__GUESTS_END__INIT;
        out.zone = text(msg->guests_end.zone);
        frame.body_case = VDC__FRAME__BODY_GUESTS_END;
        frame.guests_end = &out;
        pack(&frame, buf);
        return;
    }
    case VDC_MSG_COMMAND:
        encode_command(&msg->command, &frame, buf);
        return;
    case VDC_MSG_COMMAND_RESULT: {
        VDC_ASSERT(msg->command_result.data.len <= VDC_MSG_CONSOLE_MAX);
        Vdc__CommandResult out = VDC__COMMAND_RESULT__INIT;
        out.request_id = id_bytes(&msg->command_result.request_id);
        out.rc = text(vdc_rc_name(msg->command_result.rc));
        out.text = text(msg->command_result.text);
        out.port = msg->command_result.port;
        out.offset = msg->command_result.offset;
        out.end = msg->command_result.end;
        out.data = bytes(msg->command_result.data.data, msg->command_result.data.len);
        frame.body_case = VDC__FRAME__BODY_COMMAND_RESULT;
        frame.command_result = &out;
        pack(&frame, buf);
        return;
    }
    case VDC_MSG_BYE: {
        Vdc__Bye out = VDC__BYE__INIT;
        out.reason = text(msg->bye.reason);
        frame.body_case = VDC__FRAME__BODY_BYE;
        frame.bye = &out;
        pack(&frame, buf);
        return;
    }
    }
}

/* ---- decoding ---- */

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
    }
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

static void read_id(struct reader *in, struct vdc_id *id, const ProtobufCBinaryData *src,
                    const char *field)
{
    read_bytes(in, id->bytes, sizeof id->bytes, src, field);
}

static void read_count(struct reader *in, size_t count, size_t max, const char *field)
{
    if (count > max) {
        fail(in, VDC_RC_TOO_LARGE, field, "has too many elements");
    }
}

/* Durations travel as uint64; ours are int64. */
static int64_t read_ns(struct reader *in, uint64_t ns, const char *field)
{
    if (ns > INT64_MAX) {
        fail(in, VDC_RC_INVALID, field, "is out of range");
        return 0;
    }
    return (int64_t)ns;
}

static void decode_hello(struct reader *in, const Vdc__Hello *from, struct vdc_msg_hello *hello)
{
    read_count(in, from->n_labels, VDC_LABELS_MAX, "labels");
    read_count(in, from->n_numa, VDC_NUMA_NODES_MAX, "numa");
    read_count(in, from->n_zones, VDC_MSG_ZONES_MAX, "zones");
    if (in->rc != VDC_RC_OK) {
        return;
    }
    hello->protocol = from->protocol;
    read_name(in, hello->node, from->node, false, "node");
    read_name(in, hello->rack, from->rack, false, "rack");
    hello->labels_len = from->n_labels;
    for (size_t i = 0; i < from->n_labels; i++) {
        read_text(in, hello->labels[i].key, VDC_LABEL_CAP, from->labels[i]->key, "label key");
        read_text(in, hello->labels[i].value, VDC_LABEL_CAP, from->labels[i]->value, "label value");
    }
    read_text(in, hello->address, VDC_ADDRESS_CAP, from->address, "address");
    read_text(in, hello->agent_version, VDC_NAME_CAP, from->agent_version, "agent_version");
    read_bytes(in, hello->boot_id, sizeof hello->boot_id, &from->boot_id, "boot_id");
    hello->cpus = from->cpus;
    hello->numa_len = from->n_numa;
    for (size_t i = 0; i < from->n_numa; i++) {
        hello->numa[i] = (struct vdc_msg_numa){.id = from->numa[i]->id,
                                               .cpus = from->numa[i]->cpus,
                                               .memory_bytes = from->numa[i]->memory_bytes};
    }
    read_text(in, hello->cpu_model, VDC_ADDRESS_CAP, from->cpu_model, "cpu_model");
    read_text(in, hello->accelerator, VDC_NAME_CAP, from->accelerator, "accelerator");
    read_text(in, hello->accelerator_reason, VDC_MSG_TEXT_CAP, from->accelerator_reason,
              "accelerator_reason");
    hello->db_sequence = from->db_sequence;
    read_bytes(in, hello->db_digest, VDC_MSG_DIGEST_LEN, &from->db_digest, "db_digest");
    hello->zones_len = from->n_zones;
    for (size_t i = 0; i < from->n_zones; i++) {
        read_name(in, hello->zones[i].zone, from->zones[i]->zone, false, "zones.zone");
        hello->zones[i].epoch = from->zones[i]->epoch;
        hello->zones[i].incarnation = from->zones[i]->incarnation;
    }
}

static void decode_guest(struct reader *in, const Vdc__Guest *from, struct vdc_msg_guest *guest)
{
    read_name(in, guest->zone, from->zone, false, "zone");
    read_id(in, &guest->partition, &from->partition, "partition");
    guest->generation = from->generation;
    int state = vdc_guest_state_find(from->state);
    if (state < 0) {
        fail(in, VDC_RC_INVALID, "state", "is not known");
        return;
    }
    guest->state = (enum vdc_guest_state)state;
    read_text(in, guest->reason, VDC_MSG_TEXT_CAP, from->reason, "reason");
    read_text(in, guest->accelerator, VDC_NAME_CAP, from->accelerator, "accelerator");
    guest->bytes_total = from->bytes_total;
    guest->bytes_left = from->bytes_left;
    guest->bytes_sent = from->bytes_sent;
    guest->stopped_at_ns = from->stopped_at_ns;
    guest->running_at_ns = from->running_at_ns;
    guest->downtime_ns = from->downtime_ns;
    guest->started_at_ns = from->started_at_ns;
}

static void decode_command(struct reader *in, const Vdc__Command *from,
                           struct vdc_msg_command *command)
{
    static const size_t kinds = VDC_COMMAND_CONSOLE_READ + 1;
    read_id(in, &command->request_id, &from->request_id, "request_id");
    read_name(in, command->zone, from->zone, false, "zone");
    command->epoch = from->epoch;
    read_id(in, &command->partition, &from->partition, "partition");
    command->generation = from->generation;
    int kind = vdc_enum_find(vdc_command_kind_names, kinds, from->kind);
    if (kind < 0) {
        fail(in, VDC_RC_UNSUPPORTED, "kind", "is not known");
        return;
    }
    command->kind = (enum vdc_command_kind)kind;
    read_name(in, command->peer_node, from->peer_node, true, "peer_node");
    read_text(in, command->peer_address, VDC_ADDRESS_CAP, from->peer_address, "peer_address");
    if (from->peer_port > UINT16_MAX) {
        fail(in, VDC_RC_INVALID, "peer_port", "is out of range");
    }
    command->peer_port = (uint16_t)from->peer_port;
    command->bandwidth = from->bandwidth;
    command->downtime_ns = read_ns(in, from->downtime_ns, "downtime_ns");
    command->offset = from->offset;
    command->max = from->max > VDC_MSG_CONSOLE_MAX ? VDC_MSG_CONSOLE_MAX : (uint32_t)from->max;
}

static void decode_body(struct reader *in, const Vdc__Frame *frame, struct vdc_msg *msg)
{
    switch (frame->body_case) {
    case VDC__FRAME__BODY_HELLO:
        in->message = "hello";
        msg->kind = VDC_MSG_HELLO;
        decode_hello(in, frame->hello, &msg->hello);
        return;
    case VDC__FRAME__BODY_WELCOME:
        in->message = "welcome";
        msg->kind = VDC_MSG_WELCOME;
        read_name(in, msg->welcome.manager, frame->welcome->manager, false, "manager");
        msg->welcome.protocol = frame->welcome->protocol;
        return;
    case VDC__FRAME__BODY_ZONE_LEAD:
        in->message = "zone_lead";
        msg->kind = VDC_MSG_ZONE_LEAD;
        read_name(in, msg->zone_lead.zone, frame->zone_lead->zone, false, "zone");
        msg->zone_lead.epoch = frame->zone_lead->epoch;
        msg->zone_lead.lease_ns = read_ns(in, frame->zone_lead->lease_ns, "lease_ns");
        msg->zone_lead.grace_ns = read_ns(in, frame->zone_lead->grace_ns, "grace_ns");
        msg->zone_lead.incarnation = frame->zone_lead->incarnation;
        msg->zone_lead.fenced = frame->zone_lead->fenced;
        msg->zone_lead.follow_from = frame->zone_lead->follow_from;
        msg->zone_lead.snapshot = frame->zone_lead->snapshot;
        return;
    case VDC__FRAME__BODY_ZONE_JOINED:
        in->message = "zone_joined";
        msg->kind = VDC_MSG_ZONE_JOINED;
        read_name(in, msg->zone_joined.zone, frame->zone_joined->zone, false, "zone");
        msg->zone_joined.epoch = frame->zone_joined->epoch;
        msg->zone_joined.incarnation = frame->zone_joined->incarnation;
        return;
    case VDC__FRAME__BODY_LEASE_ASK:
        in->message = "lease_ask";
        msg->kind = VDC_MSG_LEASE_ASK;
        read_name(in, msg->lease_ask.zone, frame->lease_ask->zone, false, "zone");
        msg->lease_ask.epoch = frame->lease_ask->epoch;
        msg->lease_ask.incarnation = frame->lease_ask->incarnation;
        msg->lease_ask.asked_ns = frame->lease_ask->asked_ns;
        msg->lease_ask.db_sequence = frame->lease_ask->db_sequence;
        read_bytes(in, msg->lease_ask.db_digest, VDC_MSG_DIGEST_LEN, &frame->lease_ask->db_digest,
                   "db_digest");
        return;
    case VDC__FRAME__BODY_LEASE_GRANT:
        in->message = "lease_grant";
        msg->kind = VDC_MSG_LEASE_GRANT;
        read_name(in, msg->lease_grant.zone, frame->lease_grant->zone, false, "zone");
        msg->lease_grant.epoch = frame->lease_grant->epoch;
        msg->lease_grant.incarnation = frame->lease_grant->incarnation;
        msg->lease_grant.asked_ns = frame->lease_grant->asked_ns;
        return;
    case VDC__FRAME__BODY_TX:
        in->message = "tx";
        msg->kind = VDC_MSG_TX;
        msg->tx.tx = (struct vdc_msg_bytes){frame->tx->tx.data, frame->tx->tx.len};
        return;
    case VDC__FRAME__BODY_TX_RESULT:
        in->message = "tx_result";
        msg->kind = VDC_MSG_TX_RESULT;
        read_id(in, &msg->tx_result.request_id, &frame->tx_result->request_id, "request_id");
        msg->tx_result.rc = vdc_rc_from_name(frame->tx_result->rc);
        msg->tx_result.sequence = frame->tx_result->sequence;
        msg->tx_result.op_index = frame->tx_result->op_index;
        read_text(in, msg->tx_result.rule, VDC_NAME_CAP, frame->tx_result->rule, "rule");
        read_text(in, msg->tx_result.text, VDC_MSG_TEXT_CAP, frame->tx_result->text, "text");
        return;
    case VDC__FRAME__BODY_RECORDS:
        in->message = "records";
        msg->kind = VDC_MSG_RECORDS;
        read_count(in, frame->records->n_records, VDC_MSG_RECORDS_MAX, "records");
        if (in->rc != VDC_RC_OK) {
            return;
        }
        msg->records.first_sequence = frame->records->first_sequence;
        msg->records.records_len = frame->records->n_records;
        for (size_t i = 0; i < frame->records->n_records; i++) {
            msg->records.records[i] = (struct vdc_msg_bytes){frame->records->records[i].data,
                                                             frame->records->records[i].len};
        }
        return;
    case VDC__FRAME__BODY_SNAPSHOT:
        in->message = "snapshot";
        msg->kind = VDC_MSG_SNAPSHOT;
        if (frame->snapshot->piece.len > VDC_MSG_PIECE_MAX ||
            frame->snapshot->offset > frame->snapshot->total ||
            frame->snapshot->piece.len > frame->snapshot->total - frame->snapshot->offset) {
            fail(in, VDC_RC_INVALID, "piece", "is larger than allowed or lies outside the whole");
            return;
        }
        msg->snapshot.sequence = frame->snapshot->sequence;
        msg->snapshot.offset = frame->snapshot->offset;
        msg->snapshot.total = frame->snapshot->total;
        msg->snapshot.piece =
            (struct vdc_msg_bytes){frame->snapshot->piece.data, frame->snapshot->piece.len};
        return;
    case VDC__FRAME__BODY_GUEST:
        in->message = "guest";
        msg->kind = VDC_MSG_GUEST;
        decode_guest(in, frame->guest, &msg->guest);
        return;
    case VDC__FRAME__BODY_GUESTS_END:
        in->message = "guests_end";
        msg->kind = VDC_MSG_GUESTS_END;
        read_name(in, msg->guests_end.zone, frame->guests_end->zone, false, "zone");
        return;
    case VDC__FRAME__BODY_COMMAND:
        in->message = "command";
        msg->kind = VDC_MSG_COMMAND;
        decode_command(in, frame->command, &msg->command);
        return;
    case VDC__FRAME__BODY_COMMAND_RESULT:
        in->message = "command_result";
        msg->kind = VDC_MSG_COMMAND_RESULT;
        read_id(in, &msg->command_result.request_id, &frame->command_result->request_id,
                "request_id");
        msg->command_result.rc = vdc_rc_from_name(frame->command_result->rc);
        read_text(in, msg->command_result.text, VDC_MSG_TEXT_CAP, frame->command_result->text,
                  "text");
        if (frame->command_result->port > UINT16_MAX) {
            fail(in, VDC_RC_INVALID, "port", "is out of range");
        }
        if (frame->command_result->data.len > VDC_MSG_CONSOLE_MAX) {
            fail(in, VDC_RC_TOO_LARGE, "data", "is too long");
        }
        msg->command_result.port = (uint16_t)frame->command_result->port;
        msg->command_result.offset = frame->command_result->offset;
        msg->command_result.end = frame->command_result->end;
        msg->command_result.data = (struct vdc_msg_bytes){frame->command_result->data.data,
                                                          frame->command_result->data.len};
        return;
    case VDC__FRAME__BODY_BYE:
        in->message = "bye";
        msg->kind = VDC_MSG_BYE;
        read_text(in, msg->bye.reason, VDC_MSG_TEXT_CAP, frame->bye->reason, "reason");
        return;
    case VDC__FRAME__BODY__NOT_SET:
    case _VDC__FRAME__BODY__CASE_IS_INT_SIZE:
        break;
    }
    fail(in, VDC_RC_UNSUPPORTED, "body", "is of a kind that this version does not know");
}

enum vdc_rc vdc_msg_decode(const void *data, size_t len, struct vdc_msg *msg, struct vdc_err *err)
{
    memset(msg, 0, sizeof *msg);
    if (len > VDC_FRAME_MAX) {
        return vdc_err_set(err, VDC_RC_TOO_LARGE, "a frame of %zu bytes, the limit is %u", len,
                           VDC_FRAME_MAX);
    }
    Vdc__Frame *frame = vdc__frame__unpack(NULL, len, data);
    if (frame == NULL) {
        return vdc_err_set(err, VDC_RC_INVALID, "a frame of %zu bytes is not a valid message", len);
    }
    struct reader in = {.rc = VDC_RC_OK, .err = err, .message = "?"};
    decode_body(&in, frame, msg);
    if (in.rc != VDC_RC_OK) {
        vdc__frame__free_unpacked(frame, NULL);
        memset(msg, 0, sizeof *msg);
        return in.rc;
    }
    msg->owned = frame;
    return VDC_RC_OK;
}

void vdc_msg_deinit(struct vdc_msg *msg)
{
    if (msg->owned != NULL) {
        vdc__frame__free_unpacked(msg->owned, NULL);
        msg->owned = NULL;
    }
}
