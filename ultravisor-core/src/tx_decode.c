/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading what tx_encode.c writes. Everything decoded lies in one arena: nothing is more than twice as
 * large as its encoding, except the operations themselves, whose number is checked against the bytes
 * that are left. Replaying lends the arena from record to record.
 */
#include "tx_codec.h"

#include <string.h>

#include <vdc/base.h>

struct decoder {
    struct wire_reader in;
    uint8_t *arena; /* aligned to 8 before each use */
    uint8_t *arena_end;
    bool borrows; /* bytes stay where they are in the input */
};

/* Memory of the transaction, to be filled; NULL (and bad) beyond what the bytes can need. */
static void *arena_take(struct decoder *d, size_t count, size_t size)
{
    size_t bytes = (count * size + 7) & ~(size_t)7;
    if (d->in.bad || bytes > (size_t)(d->arena_end - d->arena)) {
        d->in.bad = true;
        return NULL;
    }
    void *at = d->arena;
    d->arena += bytes;
    return at;
}

/* A list's length, checked against the bytes that are left before anything is made of it. */
static uint32_t get_len(struct decoder *d, size_t element_bytes)
{
    uint32_t len = wire_get_u32(&d->in);
    if (len > wire_left(&d->in) / element_bytes) {
        d->in.bad = true;
        return 0;
    }
    return len;
}

static const uint8_t *get_bytes(struct decoder *d, uint32_t *len)
{
    *len = get_len(d, 1);
    if (d->borrows) {
        return *len == 0 ? NULL : wire_get(&d->in, *len);
    }
    uint8_t *bytes = *len == 0 ? NULL : arena_take(d, *len, 1);
    if (bytes == NULL) {
        *len = 0;
        return NULL;
    }
    wire_get_into(&d->in, bytes, *len);
    return bytes;
}

static const uint16_t *get_cpus(struct decoder *d, uint32_t *len)
{
    *len = get_len(d, sizeof(uint16_t));
    uint16_t *cpus = *len == 0 ? NULL : arena_take(d, *len, sizeof(uint16_t));
    if (cpus == NULL) {
        *len = 0;
        return NULL;
    }
    wire_get_into(&d->in, cpus, *len * sizeof(uint16_t));
    return cpus;
}

static const struct vdc_memory_block *get_blocks(struct decoder *d, uint32_t *len)
{
    *len = get_len(d, BLOCK_BYTES);
    struct vdc_memory_block *blocks = *len == 0 ? NULL : arena_take(d, *len, sizeof(blocks[0]));
    if (blocks == NULL) {
        *len = 0;
        return NULL;
    }
    for (uint32_t i = 0; i < *len; i++) {
        blocks[i].numa = wire_get_u16(&d->in);
        blocks[i].addr = wire_get_u64(&d->in);
        blocks[i].bytes = wire_get_u64(&d->in);
    }
    return blocks;
}

static void get_inventory(struct decoder *d, struct vdc_op_inventory_set *set)
{
    set->cpus_len = get_len(d, CPU_INFO_BYTES);
    struct vdc_cpu_info *cpus = arena_take(d, set->cpus_len, sizeof(cpus[0]));
    for (uint32_t i = 0; cpus != NULL && i < set->cpus_len; i++) {
        cpus[i].number = wire_get_u16(&d->in);
        cpus[i].numa = wire_get_u16(&d->in);
        cpus[i].socket = wire_get_u16(&d->in);
        cpus[i].core = wire_get_u16(&d->in);
        cpus[i].thread = wire_get_u16(&d->in);
    }
    set->cpus = cpus;
    set->numa_len = get_len(d, NUMA_INFO_BYTES);
    struct vdc_numa_info *numa = arena_take(d, set->numa_len, sizeof(numa[0]));
    for (uint32_t i = 0; numa != NULL && i < set->numa_len; i++) {
        numa[i].number = wire_get_u16(&d->in);
        numa[i].memory_bytes = wire_get_u64(&d->in);
    }
    set->numa = numa;
}

static struct vdc_share get_share(struct decoder *d)
{
    struct vdc_share share = {.milli = wire_get_u32(&d->in)};
    share.amount = wire_get_u64(&d->in);
    return share;
}

static void get_create(struct decoder *d, struct vdc_op_partition_create *create)
{
    create->run = (enum vdc_run)wire_get_u8(&d->in);
    create->generation = wire_get_u64(&d->in);
    create->id = wire_get_id(&d->in);
    create->kind = (enum vdc_partition_kind)wire_get_u8(&d->in);
    create->vcpus = wire_get_u32(&d->in);
    create->memory_bytes = wire_get_u64(&d->in);
    wire_get_text(&d->in, create->name, sizeof(create->name));
    wire_get_text(&d->in, create->tenant, sizeof(create->tenant));
    wire_get_text(&d->in, create->class_name, sizeof(create->class_name));
    create->config = get_bytes(d, &create->config_len);
}

static void get_locality(struct decoder *d, enum vdc_locality *locality, uint64_t *nodes)
{
    *locality = (enum vdc_locality)wire_get_u8(&d->in);
    *nodes = wire_get_u64(&d->in);
}

static void get_channel(struct decoder *d, struct vdc_op_channel_connect *connect)
{
    connect->channel = wire_get_id(&d->in);
    connect->endpoint[0] = wire_get_id(&d->in);
    connect->endpoint[1] = wire_get_id(&d->in);
    connect->type = (enum vdc_channel_type)wire_get_u8(&d->in);
    connect->version = wire_get_u16(&d->in);
    connect->bytes = wire_get_u64(&d->in);
    connect->numa = wire_get_u32(&d->in);
    connect->blocks = get_blocks(d, &connect->blocks_len);
}

/* 0 or 1: anything else would not come back as it was. */
static bool get_flag(struct decoder *d)
{
    uint8_t flag = wire_get_u8(&d->in);
    d->in.bad = d->in.bad || flag > 1;
    return flag == 1;
}

/* False: an operation of a later version. */
static bool get_op(struct decoder *d, struct vdc_op *op)
{
    uint8_t kind = wire_get_u8(&d->in);
    if (kind >= VDC_OP_COUNT) {
        return false;
    }
    op->kind = (enum vdc_op_kind)kind;
    switch (op->kind) {
    case VDC_OP_INVENTORY_SET:
        get_inventory(d, &op->inventory_set);
        break;
    case VDC_OP_ZONE_SET:
        op->zone_set.overcommit_milli = wire_get_u32(&d->in);
        op->zone_set.cpu = get_share(d);
        op->zone_set.memory = get_share(d);
        op->zone_set.cpus = get_cpus(d, &op->zone_set.cpus_len);
        break;
    case VDC_OP_ZONE_LEAVE:
    case VDC_OP_ZONE_EPOCH:
        break;
    case VDC_OP_INCARNATION_SET:
        op->incarnation_set.incarnation = wire_get_u64(&d->in);
        break;
    case VDC_OP_PARTITION_CREATE:
        get_create(d, &op->partition_create);
        break;
    case VDC_OP_PARTITION_SET_RUN:
        op->partition_set_run.id = wire_get_id(&d->in);
        op->partition_set_run.generation = wire_get_u64(&d->in);
        op->partition_set_run.run = (enum vdc_run)wire_get_u8(&d->in);
        break;
    case VDC_OP_PARTITION_SET_GENERATION:
        op->partition_set_generation.id = wire_get_id(&d->in);
        op->partition_set_generation.generation = wire_get_u64(&d->in);
        op->partition_set_generation.next = wire_get_u64(&d->in);
        break;
    case VDC_OP_PARTITION_SET_CONFIG:
        op->partition_set_config.id = wire_get_id(&d->in);
        op->partition_set_config.generation = wire_get_u64(&d->in);
        op->partition_set_config.config = get_bytes(d, &op->partition_set_config.config_len);
        break;
    case VDC_OP_PARTITION_DESTROY:
        op->partition_destroy.id = wire_get_id(&d->in);
        op->partition_destroy.generation = wire_get_u64(&d->in);
        break;
    case VDC_OP_CPU_ASSIGN:
        op->cpu_assign.id = wire_get_id(&d->in);
        op->cpu_assign.cpus = get_cpus(d, &op->cpu_assign.cpus_len);
        op->cpu_assign.any = wire_get_u32(&d->in);
        op->cpu_assign.numa = wire_get_u32(&d->in);
        op->cpu_assign.shared_milli = wire_get_u32(&d->in);
        get_locality(d, &op->cpu_assign.locality, &op->cpu_assign.nodes);
        op->cpu_assign.whole_cores = get_flag(d);
        break;
    case VDC_OP_CPU_RELEASE:
        op->cpu_release.id = wire_get_id(&d->in);
        op->cpu_release.cpus = get_cpus(d, &op->cpu_release.cpus_len);
        op->cpu_release.shared_milli = wire_get_u32(&d->in);
        break;
    case VDC_OP_MEMORY_ASSIGN:
        op->memory_assign.id = wire_get_id(&d->in);
        op->memory_assign.bytes = wire_get_u64(&d->in);
        op->memory_assign.numa = wire_get_u32(&d->in);
        op->memory_assign.blocks = get_blocks(d, &op->memory_assign.blocks_len);
        get_locality(d, &op->memory_assign.locality, &op->memory_assign.nodes);
        break;
    case VDC_OP_MEMORY_RELEASE:
        op->memory_release.id = wire_get_id(&d->in);
        op->memory_release.blocks = get_blocks(d, &op->memory_release.blocks_len);
        break;
    case VDC_OP_DEVICE_ADD:
        wire_get_text(&d->in, op->device_add.address, sizeof(op->device_add.address));
        op->device_add.kind = (enum vdc_device_kind)wire_get_u8(&d->in);
        op->device_add.numa = wire_get_u32(&d->in);
        break;
    case VDC_OP_DEVICE_REMOVE:
        wire_get_text(&d->in, op->device_remove.address, sizeof(op->device_remove.address));
        break;
    case VDC_OP_DEVICE_ATTACH:
        op->device_attach.id = wire_get_id(&d->in);
        wire_get_text(&d->in, op->device_attach.address, sizeof(op->device_attach.address));
        break;
    case VDC_OP_DEVICE_DETACH:
        op->device_detach.id = wire_get_id(&d->in);
        wire_get_text(&d->in, op->device_detach.address, sizeof(op->device_detach.address));
        break;
    case VDC_OP_VOLUME_ATTACH:
        op->volume_attach.id = wire_get_id(&d->in);
        op->volume_attach.generation = wire_get_u64(&d->in);
        op->volume_attach.volume = wire_get_id(&d->in);
        op->volume_attach.mode = (enum vdc_volume_mode)wire_get_u8(&d->in);
        break;
    case VDC_OP_VOLUME_DETACH:
        op->volume_detach.id = wire_get_id(&d->in);
        op->volume_detach.volume = wire_get_id(&d->in);
        break;
    case VDC_OP_PORT_CONNECT:
        op->port_connect.id = wire_get_id(&d->in);
        wire_get_into(&d->in, op->port_connect.mac, sizeof(op->port_connect.mac));
        wire_get_text(&d->in, op->port_connect.name, sizeof(op->port_connect.name));
        wire_get_text(&d->in, op->port_connect.network, sizeof(op->port_connect.network));
        break;
    case VDC_OP_PORT_DISCONNECT:
        op->port_disconnect.id = wire_get_id(&d->in);
        wire_get_into(&d->in, op->port_disconnect.mac, sizeof(op->port_disconnect.mac));
        break;
    case VDC_OP_CHANNEL_CONNECT:
        get_channel(d, &op->channel_connect);
        break;
    case VDC_OP_CHANNEL_DISCONNECT:
        op->channel_disconnect.channel = wire_get_id(&d->in);
        break;
    case VDC_OP_FENCE_PROMISE:
        wire_get_text(&d->in, op->fence_promise.node, sizeof(op->fence_promise.node));
        op->fence_promise.incarnation = wire_get_u64(&d->in);
        break;
    case VDC_OP_ZONE_TRANSFER:
        wire_get_text(&d->in, op->zone_transfer.to, sizeof(op->zone_transfer.to));
        op->zone_transfer.cpus = get_cpus(d, &op->zone_transfer.cpus_len);
        op->zone_transfer.memory_bytes = wire_get_u64(&d->in);
        wire_get_text(&d->in, op->zone_transfer.device, sizeof(op->zone_transfer.device));
        break;
    }
    return true;
}

/* Reads everything but does not judge; `ops` and all that they point to in the arena. */
static enum vdc_rc decode_parts(struct decoder *d, size_t len, struct vdc_tx *out,
                                struct tx_arena *arena, struct vdc_err *err)
{
    out->role = (enum vdc_role)wire_get_u8(&d->in);
    out->kind = (enum vdc_tx_kind)wire_get_u8(&d->in);
    (void)wire_get_u8(&d->in);
    out->request_id = wire_get_id(&d->in);
    out->claim = wire_get_id(&d->in);
    out->epoch = wire_get_u64(&d->in);
    wire_get_text(&d->in, out->zone, sizeof(out->zone));
    out->ops_len = wire_get_u32(&d->in);
    if (d->in.bad || out->ops_len > wire_left(&d->in)) {
        return vdc_err_set(err, VDC_RC_INVALID, "transaction: cut short");
    }
    if (out->ops_len > VDC_TX_OPS_MAX) {
        return vdc_err_set(err, VDC_RC_TOO_LARGE, "transaction: %u operations, limit %u",
                           out->ops_len, VDC_TX_OPS_MAX);
    }
    VDC_GROW(arena->data, arena->cap, out->ops_len * (sizeof(struct vdc_op) + 16) + 2 * len);
    d->arena = arena->data;
    d->arena_end = arena->data + arena->cap;
    struct vdc_op *ops = arena_take(d, out->ops_len, sizeof(ops[0]));
    out->ops = ops;
    if (!d->borrows && out->ops_len > 0) {
        /* What an operation's kind has no use for, and what is behind a name: callers may look. */
        memset(ops, 0, out->ops_len * sizeof(ops[0]));
    }
    for (uint32_t i = 0; i < out->ops_len; i++) {
        if (!get_op(d, &ops[i])) {
            return vdc_err_set(err, VDC_RC_UNSUPPORTED, "transaction: op %u: unknown kind", i);
        }
    }
    if (d->in.bad || wire_left(&d->in) != 0) {
        return vdc_err_set(err, VDC_RC_INVALID, "transaction: cut short or with bytes left over");
    }
    return VDC_RC_OK;
}

static enum vdc_rc decode(const void *data, size_t len, bool borrows, struct vdc_tx *out,
                          struct tx_arena *arena, struct vdc_err *err)
{
    out->memory = NULL;
    if (len > VDC_TX_BYTES_MAX) {
        return vdc_err_set(err, VDC_RC_TOO_LARGE, "transaction: %zu bytes, limit %u", len,
                           VDC_TX_BYTES_MAX);
    }
    struct decoder d = {.in = {.at = data, .end = (const uint8_t *)data + len}, .borrows = borrows};
    uint8_t version = wire_get_u8(&d.in);
    if (version != TX_VERSION) {
        return vdc_err_set(err, VDC_RC_UNSUPPORTED, "transaction: version %u", version);
    }
    return decode_parts(&d, len, out, arena, err);
}

/* The arena becomes the transaction's memory, or goes. */
static enum vdc_rc hand_over(enum vdc_rc rc, struct tx_arena *arena, struct vdc_tx *out)
{
    if (rc == VDC_RC_OK) {
        out->memory = vdc_steal(&arena->data);
    } else {
        *out = (struct vdc_tx){0};
    }
    free(arena->data);
    return rc;
}

enum vdc_rc vdc_tx_decode(const void *data, size_t len, struct vdc_tx *out, struct vdc_err *err)
{
    struct tx_arena arena = {0};
    enum vdc_rc rc = decode(data, len, false, out, &arena, err);
    if (rc == VDC_RC_OK) {
        rc = vdc_tx_validate(out, err);
    }
    return hand_over(rc, &arena, out);
}

void vdc_tx_deinit(struct vdc_tx *tx)
{
    free(tx->memory);
    *tx = (struct vdc_tx){0};
}

/* --- answers and records --- */

static bool get_result(struct wire_reader *in, struct vdc_tx_result *out)
{
    uint32_t rc = wire_get_u32(in);
    uint8_t repeated = wire_get_u8(in);
    out->sequence = wire_get_u64(in);
    out->op = wire_get_u32(in);
    uint16_t rule = wire_get_u16(in);
    out->asked = wire_get_u64(in);
    out->free = wire_get_u64(in);
    out->largest = wire_get_u64(in);
    wire_get_text(in, out->text, sizeof(out->text));
    if (in->bad || rc > VDC_RC_INTERNAL || repeated > 1 || rule >= VDC_RULE_COUNT) {
        return false;
    }
    out->rc = (enum vdc_rc)rc;
    out->repeated = repeated != 0;
    out->rule = (enum vdc_tx_rule)rule;
    return true;
}

enum vdc_rc vdc_tx_result_decode(const void *data, size_t len, struct vdc_tx_result *out,
                                 struct vdc_err *err)
{
    *out = (struct vdc_tx_result){0};
    struct wire_reader in = {.at = data, .end = (const uint8_t *)data + len};
    if (!get_result(&in, out) || wire_left(&in) != 0) {
        return vdc_err_set(err, VDC_RC_INVALID, "answer: not one");
    }
    return VDC_RC_OK;
}

static enum vdc_rc get_record_head(struct wire_reader *in, struct vdc_record_head *out)
{
    *out = (struct vdc_record_head){0};
    uint32_t version = wire_get_u32(in);
    uint32_t rc = wire_get_u32(in);
    out->sequence = wire_get_u64(in);
    out->digest.lo = wire_get_u64(in);
    out->digest.hi = wire_get_u64(in);
    out->request_id = wire_get_id(in);
    if (in->bad) {
        return VDC_RC_INVALID;
    }
    if (version != RECORD_VERSION) {
        return VDC_RC_UNSUPPORTED;
    }
    if (rc > VDC_RC_INTERNAL) {
        return VDC_RC_INVALID;
    }
    out->rc = (enum vdc_rc)rc;
    return VDC_RC_OK;
}

enum vdc_rc vdc_record_head_read(const void *data, size_t len, struct vdc_record_head *out)
{
    struct wire_reader in = {.at = data, .end = (const uint8_t *)data + len};
    return get_record_head(&in, out);
}

/* A refusal's record has no operations, which no transaction may that does not settle a claim. */
static enum vdc_rc validate_recorded(const struct vdc_tx *tx, const struct vdc_record_head *head,
                                     const struct vdc_tx_result *result, struct vdc_err *err)
{
    bool refused = head->rc != VDC_RC_OK;
    enum vdc_rc rc = refused ? tx_validate_head(tx, err) : vdc_tx_validate(tx, err);
    bool agrees = result->rc == head->rc && result->sequence == head->sequence &&
                  !result->repeated && vdc_id_equal(&tx->request_id, &head->request_id) &&
                  (!refused || tx->ops_len == 0);
    return rc != VDC_RC_OK || agrees
               ? rc
               : vdc_err_set(err, VDC_RC_INVALID, "record: its parts disagree");
}

static enum vdc_rc decode_record(const void *data, size_t len, bool borrows,
                                 struct vdc_record_head *head, struct vdc_tx *tx_out,
                                 struct vdc_tx_result *result, struct tx_arena *arena,
                                 struct vdc_err *err)
{
    struct wire_reader in = {.at = data, .end = (const uint8_t *)data + len};
    enum vdc_rc rc = get_record_head(&in, head);
    if (rc != VDC_RC_OK || !get_result(&in, result)) {
        return vdc_err_set(err, rc == VDC_RC_OK ? VDC_RC_INVALID : rc, "record: not one");
    }
    rc = decode(in.at, wire_left(&in), borrows, tx_out, arena, err);
    if (rc == VDC_RC_OK) {
        rc = validate_recorded(tx_out, head, result, err);
    }
    return rc;
}

enum vdc_rc record_decode_borrowed(const void *data, size_t len, struct vdc_record_head *head,
                                   struct vdc_tx *tx_out, struct vdc_tx_result *result,
                                   struct tx_arena *arena, struct vdc_err *err)
{
    return decode_record(data, len, true, head, tx_out, result, arena, err);
}

enum vdc_rc vdc_record_decode(const void *data, size_t len, struct vdc_record_head *head,
                              struct vdc_tx *tx_out, struct vdc_tx_result *result,
                              struct vdc_err *err)
{
    struct tx_arena arena = {0};
    *result = (struct vdc_tx_result){0};
    enum vdc_rc rc = decode_record(data, len, false, head, tx_out, result, &arena, err);
    rc = hand_over(rc, &arena, tx_out);
    return rc == VDC_RC_OK ? rc
                           : vdc_err_wrap(err, "record %llu", (unsigned long long)head->sequence);
}
