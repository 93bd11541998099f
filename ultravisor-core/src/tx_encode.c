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
 */
#include "tx_codec.h"

#include <string.h>

#include <vdc/base.h>

/* Fixed fields of the largest operation: five texts and numbers. */
#define OP_FIXED_MAX 384

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
