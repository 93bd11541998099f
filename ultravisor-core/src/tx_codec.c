/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The binary form, version 3. All numbers little-endian; text is one byte of length and the bytes;
 * lists are a u32 of length and the elements.
 *
 *     transaction   version u8 | role u8 | kind u8 | 0 | request id 16 | claim 16 | epoch u64 |
 *                   zone text | operations u32 | each: kind u8, its fields in the header's order, but of a
 *                   creation first those that change later (run state, generation)
 *     answer        rc u32 | repeated u8 | sequence u64 | op u32 | rule u16 | asked u64 | free u64 |
 *                   largest u64 | text
 *     record        version u8 | 0 0 0 | rc u32 | sequence u64 | digest 16 | request id 16 |
 *                   answer | transaction
 *
 * rc travels as its place in VDC_RC_LIST, which therefore only ever grows at its end.
 *
 * Decoding makes one allocation: nothing decoded is more than twice as large as its encoding, except
 * the operations themselves, whose number is checked against the bytes that are left.
 */
#include "tx_codec.h"

#include <stdio.h>
#include <string.h>

#include <vdc/base.h>

#define TX_VERSION 3
/* Fixed fields of the largest operation: five texts and numbers. */
#define OP_FIXED_MAX 384
#define BLOCK_BYTES 18
#define CPU_INFO_BYTES 10
#define NUMA_INFO_BYTES 10

uint8_t *tx_put_head(uint8_t *to, const struct vdc_tx *tx, uint32_t ops_len)
{
    to = wire_put_u8(to, TX_VERSION);
    to = wire_put_u8(to, (uint8_t)tx->role);
    to = wire_put_u8(to, (uint8_t)tx->kind);
    to = wire_put_u8(to, 0);
    to = wire_put(to, tx->request_id.bytes, 16);
    to = wire_put(to, tx->claim.bytes, 16);
    to = wire_put_u64(to, tx->epoch);
    to = wire_put_text(to, tx->zone);
    return wire_put_u32(to, ops_len);
}

/* Room for `max` bytes; nearly always there is. */
static inline uint8_t *room(struct vdc_buf *out, size_t max)
{
    return (uint8_t *)(out->cap - out->len > max ? out->data + out->len
                                                 : vdc_buf_reserve(out, max));
}

static uint8_t *put_bytes(uint8_t *to, const uint8_t *data, uint32_t len)
{
    to = wire_put_u32(to, len);
    return len == 0 ? to : wire_put(to, data, len);
}

static uint8_t *put_cpus(uint8_t *to, const uint16_t *cpus, uint32_t len)
{
    to = wire_put_u32(to, len);
    for (uint32_t i = 0; i < len; i++) {
        to = wire_put_u16(to, cpus[i]);
    }
    return to;
}

static uint8_t *put_blocks(uint8_t *to, const struct vdc_memory_block *blocks, uint32_t len)
{
    to = wire_put_u32(to, len);
    for (uint32_t i = 0; i < len; i++) {
        to = wire_put_u16(to, (uint16_t)blocks[i].numa);
        to = wire_put_u64(to, blocks[i].addr);
        to = wire_put_u64(to, blocks[i].bytes);
    }
    return to;
}

static uint8_t *put_inventory(uint8_t *to, const struct vdc_op_inventory_set *set)
{
    to = wire_put_u32(to, set->cpus_len);
    for (uint32_t i = 0; i < set->cpus_len; i++) {
        const struct vdc_cpu_info *cpu = &set->cpus[i];
        to = wire_put_u16(to, cpu->number);
        to = wire_put_u16(to, cpu->numa);
        to = wire_put_u16(to, cpu->socket);
        to = wire_put_u16(to, cpu->core);
        to = wire_put_u16(to, cpu->thread);
    }
    to = wire_put_u32(to, set->numa_len);
    for (uint32_t i = 0; i < set->numa_len; i++) {
        to = wire_put_u16(to, (uint16_t)set->numa[i].number);
        to = wire_put_u64(to, set->numa[i].memory_bytes);
    }
    return to;
}

static uint8_t *put_share(uint8_t *to, const struct vdc_share *share)
{
    return wire_put_u64(wire_put_u32(to, share->milli), share->amount);
}

static uint8_t *put_create(uint8_t *to, const struct vdc_op_partition_create *create)
{
    to = wire_put_u8(to, (uint8_t)create->run);
    to = wire_put_u64(to, create->generation);
    to = wire_put(to, create->id.bytes, 16);
    to = wire_put_u8(to, (uint8_t)create->kind);
    to = wire_put_u32(to, create->vcpus);
    to = wire_put_u64(to, create->memory_bytes);
    to = wire_put_text(to, create->name);
    to = wire_put_text(to, create->tenant);
    to = wire_put_text(to, create->class_name);
    return put_bytes(to, create->config, create->config_len);
}

static uint8_t *put_locality(uint8_t *to, enum vdc_locality locality, uint64_t nodes)
{
    return wire_put_u64(wire_put_u8(to, (uint8_t)locality), nodes);
}

static uint8_t *put_channel(uint8_t *to, const struct vdc_op_channel_connect *connect)
{
    to = wire_put(to, connect->channel.bytes, 16);
    to = wire_put(to, connect->endpoint[0].bytes, 16);
    to = wire_put(to, connect->endpoint[1].bytes, 16);
    to = wire_put_u8(to, (uint8_t)connect->type);
    to = wire_put_u16(to, connect->version);
    to = wire_put_u64(to, connect->bytes);
    to = wire_put_u32(to, connect->numa);
    return put_blocks(to, connect->blocks, connect->blocks_len);
}

/* An upper bound of an operation's encoding. */
static size_t op_bytes_max(const struct vdc_op *op)
{
    switch (op->kind) {
    case VDC_OP_INVENTORY_SET:
        return OP_FIXED_MAX + (size_t)op->inventory_set.cpus_len * CPU_INFO_BYTES +
               (size_t)op->inventory_set.numa_len * NUMA_INFO_BYTES;
    case VDC_OP_ZONE_SET:
        return OP_FIXED_MAX + op->zone_set.cpus_len * sizeof(uint16_t);
    case VDC_OP_PARTITION_CREATE:
        return OP_FIXED_MAX + op->partition_create.config_len;
    case VDC_OP_PARTITION_SET_CONFIG:
        return OP_FIXED_MAX + op->partition_set_config.config_len;
    case VDC_OP_CPU_ASSIGN:
        return OP_FIXED_MAX + op->cpu_assign.cpus_len * sizeof(uint16_t);
    case VDC_OP_CPU_RELEASE:
        return OP_FIXED_MAX + op->cpu_release.cpus_len * sizeof(uint16_t);
    case VDC_OP_MEMORY_ASSIGN:
        return OP_FIXED_MAX + (size_t)op->memory_assign.blocks_len * BLOCK_BYTES;
    case VDC_OP_MEMORY_RELEASE:
        return OP_FIXED_MAX + (size_t)op->memory_release.blocks_len * BLOCK_BYTES;
    case VDC_OP_ZONE_LEAVE:
    case VDC_OP_ZONE_EPOCH:
    case VDC_OP_INCARNATION_SET:
    case VDC_OP_PARTITION_SET_RUN:
    case VDC_OP_PARTITION_SET_GENERATION:
    case VDC_OP_PARTITION_DESTROY:
        break;
    case VDC_OP_CHANNEL_CONNECT:
        return OP_FIXED_MAX + (size_t)op->channel_connect.blocks_len * BLOCK_BYTES;
    case VDC_OP_ZONE_TRANSFER:
        return OP_FIXED_MAX + op->zone_transfer.cpus_len * sizeof(uint16_t);
    case VDC_OP_DEVICE_ADD:
    case VDC_OP_DEVICE_REMOVE:
    case VDC_OP_DEVICE_ATTACH:
    case VDC_OP_DEVICE_DETACH:
    case VDC_OP_VOLUME_ATTACH:
    case VDC_OP_VOLUME_DETACH:
    case VDC_OP_PORT_CONNECT:
    case VDC_OP_PORT_DISCONNECT:
    case VDC_OP_CHANNEL_DISCONNECT:
    case VDC_OP_FENCE_PROMISE:
        break;
    }
    return OP_FIXED_MAX;
}

void tx_encode_op(const struct vdc_op *op, struct vdc_buf *out)
{
    uint8_t *start = room(out, op_bytes_max(op));
    uint8_t *to = wire_put_u8(start, (uint8_t)op->kind);
    switch (op->kind) {
    case VDC_OP_INVENTORY_SET:
        to = put_inventory(to, &op->inventory_set);
        break;
    case VDC_OP_ZONE_SET:
        to = wire_put_u32(to, op->zone_set.overcommit_milli);
        to = put_share(to, &op->zone_set.cpu);
        to = put_share(to, &op->zone_set.memory);
        to = put_cpus(to, op->zone_set.cpus, op->zone_set.cpus_len);
        break;
    case VDC_OP_ZONE_LEAVE:
    case VDC_OP_ZONE_EPOCH:
        break;
    case VDC_OP_INCARNATION_SET:
        to = wire_put_u64(to, op->incarnation_set.incarnation);
        break;
    case VDC_OP_PARTITION_CREATE:
        to = put_create(to, &op->partition_create);
        break;
    case VDC_OP_PARTITION_SET_RUN:
        to = wire_put(to, op->partition_set_run.id.bytes, 16);
        to = wire_put_u64(to, op->partition_set_run.generation);
        to = wire_put_u8(to, (uint8_t)op->partition_set_run.run);
        break;
    case VDC_OP_PARTITION_SET_GENERATION:
        to = wire_put(to, op->partition_set_generation.id.bytes, 16);
        to = wire_put_u64(to, op->partition_set_generation.generation);
        to = wire_put_u64(to, op->partition_set_generation.next);
        break;
    case VDC_OP_PARTITION_SET_CONFIG:
        to = wire_put(to, op->partition_set_config.id.bytes, 16);
        to = wire_put_u64(to, op->partition_set_config.generation);
        to = put_bytes(to, op->partition_set_config.config, op->partition_set_config.config_len);
        break;
    case VDC_OP_PARTITION_DESTROY:
        to = wire_put(to, op->partition_destroy.id.bytes, 16);
        to = wire_put_u64(to, op->partition_destroy.generation);
        break;
    case VDC_OP_CPU_ASSIGN:
        to = wire_put(to, op->cpu_assign.id.bytes, 16);
        to = put_cpus(to, op->cpu_assign.cpus, op->cpu_assign.cpus_len);
        to = wire_put_u32(to, op->cpu_assign.any);
        to = wire_put_u32(to, op->cpu_assign.numa);
        to = wire_put_u32(to, op->cpu_assign.shared_milli);
        to = put_locality(to, op->cpu_assign.locality, op->cpu_assign.nodes);
        to = wire_put_u8(to, op->cpu_assign.whole_cores);
        break;
    case VDC_OP_CPU_RELEASE:
        to = wire_put(to, op->cpu_release.id.bytes, 16);
        to = put_cpus(to, op->cpu_release.cpus, op->cpu_release.cpus_len);
        to = wire_put_u32(to, op->cpu_release.shared_milli);
        break;
    case VDC_OP_MEMORY_ASSIGN:
        to = wire_put(to, op->memory_assign.id.bytes, 16);
        to = wire_put_u64(to, op->memory_assign.bytes);
        to = wire_put_u32(to, op->memory_assign.numa);
        to = put_blocks(to, op->memory_assign.blocks, op->memory_assign.blocks_len);
        to = put_locality(to, op->memory_assign.locality, op->memory_assign.nodes);
        break;
    case VDC_OP_MEMORY_RELEASE:
        to = wire_put(to, op->memory_release.id.bytes, 16);
        to = put_blocks(to, op->memory_release.blocks, op->memory_release.blocks_len);
        break;
    case VDC_OP_DEVICE_ADD:
        to = wire_put_text(to, op->device_add.address);
        to = wire_put_u8(to, (uint8_t)op->device_add.kind);
        to = wire_put_u32(to, op->device_add.numa);
        break;
    case VDC_OP_DEVICE_REMOVE:
        to = wire_put_text(to, op->device_remove.address);
        break;
    case VDC_OP_DEVICE_ATTACH:
        to = wire_put(to, op->device_attach.id.bytes, 16);
        to = wire_put_text(to, op->device_attach.address);
        break;
    case VDC_OP_DEVICE_DETACH:
        to = wire_put(to, op->device_detach.id.bytes, 16);
        to = wire_put_text(to, op->device_detach.address);
        break;
    case VDC_OP_VOLUME_ATTACH:
        to = wire_put(to, op->volume_attach.id.bytes, 16);
        to = wire_put_u64(to, op->volume_attach.generation);
        to = wire_put(to, op->volume_attach.volume.bytes, 16);
        to = wire_put_u8(to, (uint8_t)op->volume_attach.mode);
        break;
    case VDC_OP_VOLUME_DETACH:
        to = wire_put(to, op->volume_detach.id.bytes, 16);
        to = wire_put(to, op->volume_detach.volume.bytes, 16);
        break;
    case VDC_OP_PORT_CONNECT:
        to = wire_put(to, op->port_connect.id.bytes, 16);
        to = wire_put(to, op->port_connect.mac, sizeof(op->port_connect.mac));
        to = wire_put_text(to, op->port_connect.name);
        to = wire_put_text(to, op->port_connect.network);
        break;
    case VDC_OP_PORT_DISCONNECT:
        to = wire_put(to, op->port_disconnect.id.bytes, 16);
        to = wire_put(to, op->port_disconnect.mac, sizeof(op->port_disconnect.mac));
        break;
    case VDC_OP_CHANNEL_CONNECT:
        to = put_channel(to, &op->channel_connect);
        break;
    case VDC_OP_CHANNEL_DISCONNECT:
        to = wire_put(to, op->channel_disconnect.channel.bytes, 16);
        break;
    case VDC_OP_FENCE_PROMISE:
        to = wire_put_text(to, op->fence_promise.node);
        to = wire_put_u64(to, op->fence_promise.incarnation);
        break;
    case VDC_OP_ZONE_TRANSFER:
        to = wire_put_text(to, op->zone_transfer.to);
        to = put_cpus(to, op->zone_transfer.cpus, op->zone_transfer.cpus_len);
        to = wire_put_u64(to, op->zone_transfer.memory_bytes);
        to = wire_put_text(to, op->zone_transfer.device);
        break;
    }
    out->len += (size_t)(to - start);
}

void vdc_tx_encode(const struct vdc_tx *tx, struct vdc_buf *out)
{
    uint8_t *start = (uint8_t *)vdc_buf_reserve(out, TX_HEAD_MAX);
    out->len += (size_t)(tx_put_head(start, tx, tx->ops_len) - start);
    for (uint32_t i = 0; i < tx->ops_len; i++) {
        tx_encode_op(&tx->ops[i], out);
    }
    (void)vdc_buf_reserve(out, 1);
    out->data[out->len] = 0;
}

/* --- decoding --- */

struct decoder {
    struct wire_reader in;
    uint8_t *arena; /* aligned to 8 before each use */
    uint8_t *arena_end;
};

/* Zero-filled memory of the transaction; NULL (and bad) beyond what the bytes can need. */
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

/* Reads everything but does not judge; `ops` in tx->memory. */
static enum vdc_rc decode_parts(struct decoder *d, size_t len, struct vdc_tx *out,
                                struct vdc_err *err)
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
    size_t arena = out->ops_len * (sizeof(struct vdc_op) + 16) + 2 * len;
    out->memory = vdc_calloc(1, arena);
    d->arena = out->memory;
    d->arena_end = d->arena + arena;
    struct vdc_op *ops = arena_take(d, out->ops_len, sizeof(ops[0]));
    out->ops = ops;
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

enum vdc_rc tx_decode_loose(const void *data, size_t len, struct vdc_tx *out, struct vdc_err *err)
{
    *out = (struct vdc_tx){0};
    if (len > VDC_TX_BYTES_MAX) {
        return vdc_err_set(err, VDC_RC_TOO_LARGE, "transaction: %zu bytes, limit %u", len,
                           VDC_TX_BYTES_MAX);
    }
    struct decoder d = {.in = {.at = data, .end = (const uint8_t *)data + len}};
    uint8_t version = wire_get_u8(&d.in);
    if (version != TX_VERSION) {
        return vdc_err_set(err, VDC_RC_UNSUPPORTED, "transaction: version %u", version);
    }
    enum vdc_rc rc = decode_parts(&d, len, out, err);
    if (rc == VDC_RC_OK) {
        rc = tx_validate_head(out, err);
    }
    for (uint32_t i = 0; rc == VDC_RC_OK && i < out->ops_len; i++) {
        rc = tx_validate_op(&out->ops[i], i, err);
    }
    if (rc != VDC_RC_OK) {
        vdc_tx_deinit(out);
    }
    return rc;
}

enum vdc_rc vdc_tx_decode(const void *data, size_t len, struct vdc_tx *out, struct vdc_err *err)
{
    enum vdc_rc rc = tx_decode_loose(data, len, out, err);
    if (rc == VDC_RC_OK) {
        rc = vdc_tx_validate(out, err);
        if (rc != VDC_RC_OK) {
            vdc_tx_deinit(out);
        }
    }
    return rc;
}

void vdc_tx_deinit(struct vdc_tx *tx)
{
    free(tx->memory);
    *tx = (struct vdc_tx){0};
}

/* --- answers and records --- */

uint8_t *tx_put_result(uint8_t *to, const struct vdc_tx_result *result)
{
    to = wire_put_u32(to, (uint32_t)result->rc);
    to = wire_put_u8(to, result->repeated);
    to = wire_put_u64(to, result->sequence);
    to = wire_put_u32(to, result->op);
    to = wire_put_u16(to, (uint16_t)result->rule);
    to = wire_put_u64(to, result->asked);
    to = wire_put_u64(to, result->free);
    to = wire_put_u64(to, result->largest);
    return wire_put_text(to, result->text);
}

void vdc_tx_result_encode(const struct vdc_tx_result *result, struct vdc_buf *out)
{
    uint8_t *start = (uint8_t *)vdc_buf_reserve(out, TX_RESULT_MAX);
    uint8_t *to = tx_put_result(start, result);
    *to = 0;
    out->len += (size_t)(to - start);
}

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

enum vdc_rc vdc_record_decode(const void *data, size_t len, struct vdc_record_head *head,
                              struct vdc_tx *tx_out, struct vdc_tx_result *result,
                              struct vdc_err *err)
{
    *tx_out = (struct vdc_tx){0};
    *result = (struct vdc_tx_result){0};
    struct wire_reader in = {.at = data, .end = (const uint8_t *)data + len};
    enum vdc_rc rc = get_record_head(&in, head);
    if (rc != VDC_RC_OK || !get_result(&in, result)) {
        return vdc_err_set(err, rc == VDC_RC_OK ? VDC_RC_INVALID : rc, "record: not one");
    }
    rc = tx_decode_loose(in.at, wire_left(&in), tx_out, err);
    if (rc == VDC_RC_OK && head->rc == VDC_RC_OK) {
        rc = vdc_tx_validate(tx_out, err);
    }
    if (rc != VDC_RC_OK) {
        vdc_tx_deinit(tx_out);
        return vdc_err_wrap(err, "record %llu", (unsigned long long)head->sequence);
    }
    bool settles = tx_out->kind == VDC_TX_COMMIT_CLAIM || tx_out->kind == VDC_TX_ABORT_CLAIM;
    bool agrees = result->rc == head->rc && result->sequence == head->sequence &&
                  !result->repeated && vdc_id_equal(&tx_out->request_id, &head->request_id) &&
                  (tx_out->ops_len == 0) == (settles || head->rc != VDC_RC_OK);
    if (!agrees) {
        vdc_tx_deinit(tx_out);
        return vdc_err_set(err, VDC_RC_INVALID, "record: its parts disagree");
    }
    return VDC_RC_OK;
}
