/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names, and everything that can be said about a transaction without a database. After
 * vdc_tx_validate the database code relies on bounds, order and forms without looking again.
 */
#include <vdc/tx.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <vdc/base.h>

#include "idmap.h"
#include "pagemap.h"
#include "tx_codec.h"

const char *vdc_op_name(enum vdc_op_kind kind)
{
    static const char *const names[] = {
#define X(name, text) text,
        VDC_OP_LIST(X)
#undef X
    };
    _Static_assert(VDC_COUNT_OF(names) == VDC_OP_COUNT, "VDC_OP_COUNT");
    return (unsigned)kind < VDC_OP_COUNT ? names[kind] : "unknown";
}

const char *vdc_tx_rule_name(enum vdc_tx_rule rule)
{
    static const char *const names[] = {
#define X(name, text) text,
        VDC_RULE_LIST(X)
#undef X
    };
    _Static_assert(VDC_COUNT_OF(names) == VDC_RULE_COUNT, "VDC_RULE_COUNT");
    return (unsigned)rule < VDC_RULE_COUNT ? names[rule] : "unknown";
}

void vdc_digest_to_text(const struct vdc_digest *digest, char text[VDC_DIGEST_TEXT_CAP])
{
    (void)snprintf(text, VDC_DIGEST_TEXT_CAP, "%016llx%016llx", (unsigned long long)digest->hi,
                   (unsigned long long)digest->lo);
}

bool vdc_digest_equal(const struct vdc_digest *a, const struct vdc_digest *b)
{
    return a->lo == b->lo && a->hi == b->hi;
}

const char *vdc_locality_name(enum vdc_locality locality)
{
    static const char *const names[] = {"default", "strict", "preferred", "spanning"};
    _Static_assert(VDC_COUNT_OF(names) == VDC_LOCALITY_COUNT, "VDC_LOCALITY_COUNT");
    return (unsigned)locality < VDC_LOCALITY_COUNT ? names[locality] : "unknown";
}

const char *vdc_device_kind_name(enum vdc_device_kind kind)
{
    static const char *const names[] = {"pci", "disk", "nic"};
    _Static_assert(VDC_COUNT_OF(names) == VDC_DEVICE_KIND_COUNT, "VDC_DEVICE_KIND_COUNT");
    return (unsigned)kind < VDC_DEVICE_KIND_COUNT ? names[kind] : "unknown";
}

const char *vdc_channel_type_name(enum vdc_channel_type type)
{
    static const char *const names[] = {"command", "block", "network", "console"};
    _Static_assert(VDC_COUNT_OF(names) == VDC_CHANNEL_TYPE_COUNT, "VDC_CHANNEL_TYPE_COUNT");
    return (unsigned)type < VDC_CHANNEL_TYPE_COUNT ? names[type] : "unknown";
}

/* Apart from each other, so that each saves only the registers that it needs itself. */
#define VALIDATOR __attribute__((noinline)) enum vdc_rc

/* Where an operation's fault is reported. */
struct place {
    uint32_t index;
    const struct vdc_op *op;
    struct vdc_err *err;
};

static enum vdc_rc fault(const struct place *place, enum vdc_rc rc, const char *fmt, ...)
    VDC_PRINTF(3, 4) __attribute__((cold, noinline));
static enum vdc_rc fault(const struct place *place, enum vdc_rc rc, const char *fmt, ...)
{
    char text[160];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return vdc_err_set(place->err, rc, "op %u %s: %s", place->index, vdc_op_name(place->op->kind),
                       text);
}

/* vdc_name_valid for a name in an array of VDC_NAME_CAP bytes. Where there are instructions for it, 16
 * bytes at once, because every transaction brings half a dozen names; what is longer goes the long
 * way. */
static inline bool name_valid(const char *name)
{
#ifdef __SSE2__
    __m128i c = _mm_loadu_si128((const void *)name);
    __m128i letter = _mm_sub_epi8(c, _mm_set1_epi8('a'));
    __m128i digit = _mm_sub_epi8(c, _mm_set1_epi8('0'));
    __m128i mark = _mm_sub_epi8(c, _mm_set1_epi8('-')); /* and '.', which follows it */
    letter = _mm_cmpeq_epi8(letter, _mm_min_epu8(letter, _mm_set1_epi8('z' - 'a')));
    digit = _mm_cmpeq_epi8(digit, _mm_min_epu8(digit, _mm_set1_epi8('9' - '0')));
    mark = _mm_cmpeq_epi8(mark, _mm_min_epu8(mark, _mm_set1_epi8('.' - '-')));
    unsigned anywhere = (unsigned)_mm_movemask_epi8(_mm_or_si128(letter, digit));
    unsigned inside = anywhere | (unsigned)_mm_movemask_epi8(mark);
    unsigned len = (unsigned)__builtin_ctz(~inside);
    if (len < sizeof(c)) {
        return len > 0 && name[len] == 0 && (anywhere & 1) != 0 && (anywhere >> (len - 1) & 1) != 0;
    }
#endif
    return vdc_name_valid(name);
}

/* "" or a valid name. */
static bool name_or_empty(const char *name)
{
    return name[0] == 0 || name_valid(name);
}

static enum vdc_rc validate_cpu_list(const struct place *place, const uint16_t *cpus, uint32_t len,
                                     uint32_t max)
{
    if (len > max) {
        return fault(place, VDC_RC_TOO_LARGE, "%u CPUs, limit %u", len, max);
    }
    for (uint32_t i = 1; i < len; i++) {
        if (cpus[i] <= cpus[i - 1]) {
            return fault(place, VDC_RC_INVALID, "CPU list is not ascending at %u", cpus[i]);
        }
    }
    return VDC_RC_OK;
}

static enum vdc_rc validate_blocks(const struct place *place, const struct vdc_memory_block *blocks,
                                   uint32_t len, uint64_t *sum)
{
    *sum = 0;
    if (len > VDC_VIEW_BLOCKS_MAX) {
        return fault(place, VDC_RC_TOO_LARGE, "%u memory blocks, limit %u", len,
                     VDC_VIEW_BLOCKS_MAX);
    }
    for (uint32_t i = 0; i < len; i++) {
        const struct vdc_memory_block *b = &blocks[i];
        if (b->numa >= VDC_NUMA_NODES_MAX || b->bytes == 0 || b->addr % PAGE_4K != 0 ||
            b->bytes % PAGE_4K != 0 || b->addr > VDC_NUMA_MEMORY_MAX ||
            b->bytes > VDC_NUMA_MEMORY_MAX - b->addr) {
            return fault(place, VDC_RC_INVALID, "memory block %u is not one", i);
        }
        if (i > 0 && (b->numa < b[-1].numa ||
                      (b->numa == b[-1].numa && b->addr < b[-1].addr + b[-1].bytes))) {
            return fault(place, VDC_RC_INVALID, "memory block %u is not behind the one before", i);
        }
        *sum += b->bytes;
    }
    return VDC_RC_OK;
}

static VALIDATOR validate_inventory(const struct place *place,
                                    const struct vdc_op_inventory_set *set)
{
    if (set->cpus_len > VDC_NODE_CPUS_MAX || set->numa_len > VDC_NUMA_NODES_MAX) {
        return fault(place, VDC_RC_TOO_LARGE, "%u CPUs in %u NUMA nodes", set->cpus_len,
                     set->numa_len);
    }
    if (set->cpus_len == 0 || set->numa_len == 0) {
        return fault(place, VDC_RC_INVALID, "no CPU or no NUMA node");
    }
    bool known[VDC_NUMA_NODES_MAX] = {0};
    for (uint32_t i = 0; i < set->numa_len; i++) {
        const struct vdc_numa_info *numa = &set->numa[i];
        if (numa->number >= VDC_NUMA_NODES_MAX || numa->memory_bytes > VDC_NUMA_MEMORY_MAX ||
            numa->memory_bytes % PAGE_4K != 0 || (i > 0 && numa->number <= numa[-1].number)) {
            return fault(place, VDC_RC_INVALID, "NUMA node %u", numa->number);
        }
        known[numa->number] = true;
    }
    for (uint32_t i = 0; i < set->cpus_len; i++) {
        const struct vdc_cpu_info *cpu = &set->cpus[i];
        if (cpu->numa >= VDC_NUMA_NODES_MAX || !known[cpu->numa] ||
            (i > 0 && cpu->number <= cpu[-1].number)) {
            return fault(place, VDC_RC_INVALID, "CPU %u", cpu->number);
        }
    }
    return VDC_RC_OK;
}

static VALIDATOR validate_zone_set(const struct place *place, const struct vdc_op_zone_set *set)
{
    if (set->overcommit_milli < 1000 || set->overcommit_milli > VDC_OVERCOMMIT_MILLI_MAX) {
        return fault(place, VDC_RC_INVALID, "overcommit of %u thousandths", set->overcommit_milli);
    }
    if (set->cpu.milli > 1000 || set->memory.milli > 1000 ||
        (set->cpu.milli != 0 && set->cpu.amount != 0) ||
        (set->memory.milli != 0 && set->memory.amount != 0)) {
        return fault(place, VDC_RC_INVALID, "a share is thousandths or an amount");
    }
    if (set->memory.amount % PAGE_4K != 0) {
        return fault(place, VDC_RC_INVALID, "the memory share is no multiple of 4 KiB");
    }
    return validate_cpu_list(place, set->cpus, set->cpus_len, VDC_NODE_CPUS_MAX);
}

static VALIDATOR validate_create(const struct place *place,
                                 const struct vdc_op_partition_create *create)
{
    if (id_is_none(&create->id) || !name_valid(create->name) || !name_or_empty(create->tenant) ||
        !name_or_empty(create->class_name)) {
        return fault(place, VDC_RC_INVALID, "id, name, tenant or class");
    }
    if ((unsigned)create->kind >= VDC_PARTITION_KIND_COUNT ||
        (unsigned)create->run >= VDC_RUN_COUNT || create->generation == 0) {
        return fault(place, VDC_RC_INVALID, "kind, run state or generation 0");
    }
    if (create->vcpus > VDC_VCPUS_MAX || create->memory_bytes > VDC_PARTITION_MEMORY_MAX ||
        create->config_len > VDC_PARTITION_CONFIG_MAX) {
        return fault(place, VDC_RC_TOO_LARGE, "%u vCPUs, %llu bytes, %u bytes of configuration",
                     create->vcpus, (unsigned long long)create->memory_bytes, create->config_len);
    }
    if (create->vcpus == 0 && create->kind != VDC_PARTITION_SYSTEM) {
        return fault(place, VDC_RC_INVALID, "no vCPU");
    }
    return VDC_RC_OK;
}

static enum vdc_rc validate_guard(const struct place *place, const struct vdc_id *id,
                                  uint64_t generation)
{
    if (id_is_none(id) || generation == 0) {
        return fault(place, VDC_RC_INVALID, "no id or generation 0");
    }
    return VDC_RC_OK;
}

static enum vdc_rc validate_locality(const struct place *place, enum vdc_locality locality,
                                     uint32_t numa, uint64_t nodes)
{
    if ((unsigned)locality >= VDC_LOCALITY_COUNT ||
        (locality == VDC_LOCALITY_SPANNING) != (nodes != 0)) {
        return fault(place, VDC_RC_INVALID, "NUMA nodes go with spanning, and with nothing else");
    }
    if (locality == VDC_LOCALITY_PREFERRED && numa == VDC_NUMA_ANY) {
        return fault(place, VDC_RC_INVALID, "no NUMA node is preferred");
    }
    if (locality == VDC_LOCALITY_SPANNING && numa != VDC_NUMA_ANY) {
        return fault(place, VDC_RC_INVALID, "NUMA node %u and a set of them", numa);
    }
    return VDC_RC_OK;
}

static VALIDATOR validate_cpu_assign(const struct place *place,
                                     const struct vdc_op_cpu_assign *assign)
{
    int forms = (assign->cpus_len > 0) + (assign->any > 0) + (assign->shared_milli > 0);
    if (id_is_none(&assign->id) || forms != 1) {
        return fault(place, VDC_RC_INVALID, "exactly one of a list, a number or a share");
    }
    if (assign->any > VDC_VCPUS_MAX || assign->shared_milli > VDC_VCPUS_MAX * 1000) {
        return fault(place, VDC_RC_TOO_LARGE, "more than %u CPUs", VDC_VCPUS_MAX);
    }
    if (assign->numa >= VDC_NUMA_NODES_MAX && assign->numa != VDC_NUMA_ANY) {
        return fault(place, VDC_RC_INVALID, "NUMA node %u", assign->numa);
    }
    if (assign->shared_milli > 0 &&
        (assign->locality != VDC_LOCALITY_DEFAULT || assign->nodes != 0 || assign->whole_cores)) {
        return fault(place, VDC_RC_INVALID, "a share of the pool lies nowhere");
    }
    enum vdc_rc rc = validate_locality(place, assign->locality, assign->numa, assign->nodes);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    return validate_cpu_list(place, assign->cpus, assign->cpus_len, VDC_VCPUS_MAX);
}

static VALIDATOR validate_memory_assign(const struct place *place,
                                        const struct vdc_op_memory_assign *assign)
{
    if (id_is_none(&assign->id) || assign->bytes == 0 || assign->bytes % PAGE_4K != 0) {
        return fault(place, VDC_RC_INVALID, "no id, no bytes or no multiple of 4 KiB");
    }
    if (assign->bytes > VDC_PARTITION_MEMORY_MAX) {
        return fault(place, VDC_RC_TOO_LARGE, "%llu bytes", (unsigned long long)assign->bytes);
    }
    if (assign->numa >= VDC_NUMA_NODES_MAX && assign->numa != VDC_NUMA_ANY) {
        return fault(place, VDC_RC_INVALID, "NUMA node %u", assign->numa);
    }
    uint64_t sum;
    enum vdc_rc rc = validate_locality(place, assign->locality, assign->numa, assign->nodes);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    rc = validate_blocks(place, assign->blocks, assign->blocks_len, &sum);
    if (rc == VDC_RC_OK && assign->blocks_len > 0 && sum != assign->bytes) {
        return fault(place, VDC_RC_INVALID, "the blocks' sum is %llu, not %llu",
                     (unsigned long long)sum, (unsigned long long)assign->bytes);
    }
    return rc;
}

static bool address_valid(const char *address)
{
    for (const char *c = address; *c != 0; c++) {
        if (*c <= ' ' || *c > '~') {
            return false;
        }
    }
    return address[0] != 0;
}

/* The names that every tool takes for a network interface. */
static bool port_name_valid(const char *name)
{
    for (const char *c = name; *c != 0; c++) {
        bool is_alnum =
            (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
        if (!is_alnum && strchr("-_.", *c) == NULL) {
            return false;
        }
    }
    return name[0] != 0 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static bool mac_valid(const uint8_t mac[6])
{
    static const uint8_t zero[6];
    return (mac[0] & 1) == 0 && memcmp(mac, zero, sizeof(zero)) != 0;
}

static enum vdc_rc validate_device(const struct place *place, const char *address)
{
    return address_valid(address) ? VDC_RC_OK
                                  : fault(place, VDC_RC_INVALID, "not a device's address");
}

static VALIDATOR validate_device_add(const struct place *place, const struct vdc_op_device_add *add)
{
    if ((unsigned)add->kind >= VDC_DEVICE_KIND_COUNT ||
        (add->numa >= VDC_NUMA_NODES_MAX && add->numa != VDC_NUMA_ANY)) {
        return fault(place, VDC_RC_INVALID, "kind or NUMA node");
    }
    return validate_device(place, add->address);
}

static VALIDATOR validate_device_attach(const struct place *place,
                                        const struct vdc_op_device_attach *attach)
{
    if (id_is_none(&attach->id)) {
        return fault(place, VDC_RC_INVALID, "no id");
    }
    return validate_device(place, attach->address);
}

static enum vdc_rc validate_volume(const struct place *place, const struct vdc_id *id,
                                   const struct vdc_id *volume)
{
    if (id_is_none(id) || id_is_none(volume)) {
        return fault(place, VDC_RC_INVALID, "no id of partition or volume");
    }
    return VDC_RC_OK;
}

static VALIDATOR validate_volume_attach(const struct place *place,
                                        const struct vdc_op_volume_attach *attach)
{
    if (attach->generation == 0 || (unsigned)attach->mode >= VDC_VOLUME_MODE_COUNT) {
        return fault(place, VDC_RC_INVALID, "generation 0 or mode");
    }
    return validate_volume(place, &attach->id, &attach->volume);
}

static enum vdc_rc validate_mac(const struct place *place, const struct vdc_id *id,
                                const uint8_t mac[6])
{
    if (id_is_none(id) || !mac_valid(mac)) {
        return fault(place, VDC_RC_INVALID, "no id or not the MAC address of one port");
    }
    return VDC_RC_OK;
}

static VALIDATOR validate_port(const struct place *place, const struct vdc_op_port_connect *connect)
{
    if (!port_name_valid(connect->name) || !name_valid(connect->network)) {
        return fault(place, VDC_RC_INVALID, "name of the port or of the network");
    }
    return validate_mac(place, &connect->id, connect->mac);
}

static VALIDATOR validate_channel(const struct place *place,
                                  const struct vdc_op_channel_connect *connect)
{
    if (id_is_none(&connect->channel) || id_is_none(&connect->endpoint[0]) ||
        id_is_none(&connect->endpoint[1]) ||
        id_equal(&connect->endpoint[0], &connect->endpoint[1])) {
        return fault(place, VDC_RC_INVALID, "no id, or one partition at both ends");
    }
    if ((unsigned)connect->type >= VDC_CHANNEL_TYPE_COUNT || connect->version == 0) {
        return fault(place, VDC_RC_INVALID, "type or version 0");
    }
    if (connect->bytes == 0 || connect->bytes % PAGE_4K != 0 ||
        (connect->numa >= VDC_NUMA_NODES_MAX && connect->numa != VDC_NUMA_ANY)) {
        return fault(place, VDC_RC_INVALID, "bytes or NUMA node");
    }
    if (connect->bytes > VDC_CHANNEL_MEMORY_MAX || connect->blocks_len > VDC_CHANNEL_BLOCKS_MAX) {
        return fault(place, VDC_RC_TOO_LARGE, "%llu bytes in %u blocks",
                     (unsigned long long)connect->bytes, connect->blocks_len);
    }
    uint64_t sum;
    enum vdc_rc rc = validate_blocks(place, connect->blocks, connect->blocks_len, &sum);
    if (rc != VDC_RC_OK || connect->blocks_len == 0) {
        return rc;
    }
    const struct vdc_memory_block *last = &connect->blocks[connect->blocks_len - 1];
    if (sum != connect->bytes || connect->blocks[0].numa != last->numa ||
        (connect->numa != VDC_NUMA_ANY && connect->numa != last->numa)) {
        return fault(place, VDC_RC_INVALID, "its blocks are not %llu bytes of one NUMA node",
                     (unsigned long long)connect->bytes);
    }
    return VDC_RC_OK;
}

static VALIDATOR validate_promise(const struct place *place,
                                  const struct vdc_op_fence_promise *promise)
{
    if (!name_valid(promise->node) || promise->incarnation == 0) {
        return fault(place, VDC_RC_INVALID, "node or incarnation 0");
    }
    return VDC_RC_OK;
}

static VALIDATOR validate_transfer(const struct place *place,
                                   const struct vdc_op_zone_transfer *transfer)
{
    if (!name_or_empty(transfer->to) || transfer->memory_bytes % PAGE_4K != 0 ||
        (transfer->device[0] != 0 && !address_valid(transfer->device))) {
        return fault(place, VDC_RC_INVALID, "zone, memory or device");
    }
    if (transfer->cpus_len == 0 && transfer->memory_bytes == 0 && transfer->device[0] == 0) {
        return fault(place, VDC_RC_INVALID, "nothing to transfer");
    }
    return validate_cpu_list(place, transfer->cpus, transfer->cpus_len, VDC_NODE_CPUS_MAX);
}

enum vdc_rc tx_validate_op(const struct vdc_op *op, uint32_t index, struct vdc_err *err)
{
    const struct place place = {.index = index, .op = op, .err = err};
    enum vdc_rc rc;
    uint64_t sum;
    switch (op->kind) {
    case VDC_OP_INVENTORY_SET:
        return validate_inventory(&place, &op->inventory_set);
    case VDC_OP_ZONE_SET:
        return validate_zone_set(&place, &op->zone_set);
    case VDC_OP_ZONE_LEAVE:
    case VDC_OP_ZONE_EPOCH:
        return VDC_RC_OK;
    case VDC_OP_INCARNATION_SET:
        return op->incarnation_set.incarnation > 0 ? VDC_RC_OK
                                                   : fault(&place, VDC_RC_INVALID, "incarnation 0");
    case VDC_OP_PARTITION_CREATE:
        return validate_create(&place, &op->partition_create);
    case VDC_OP_PARTITION_SET_RUN:
        if ((unsigned)op->partition_set_run.run >= VDC_RUN_COUNT) {
            return fault(&place, VDC_RC_INVALID, "unknown run state");
        }
        return validate_guard(&place, &op->partition_set_run.id, op->partition_set_run.generation);
    case VDC_OP_PARTITION_SET_GENERATION:
        if (op->partition_set_generation.next <= op->partition_set_generation.generation) {
            return fault(&place, VDC_RC_INVALID, "the next generation is not greater");
        }
        return validate_guard(&place, &op->partition_set_generation.id,
                              op->partition_set_generation.generation);
    case VDC_OP_PARTITION_SET_CONFIG:
        if (op->partition_set_config.config_len > VDC_PARTITION_CONFIG_MAX) {
            return fault(&place, VDC_RC_TOO_LARGE, "%u bytes of configuration, limit %u",
                         op->partition_set_config.config_len, VDC_PARTITION_CONFIG_MAX);
        }
        return validate_guard(&place, &op->partition_set_config.id,
                              op->partition_set_config.generation);
    case VDC_OP_PARTITION_DESTROY:
        return validate_guard(&place, &op->partition_destroy.id, op->partition_destroy.generation);
    case VDC_OP_CPU_ASSIGN:
        return validate_cpu_assign(&place, &op->cpu_assign);
    case VDC_OP_CPU_RELEASE:
        rc = validate_guard(&place, &op->cpu_release.id, 1);
        return rc != VDC_RC_OK ? rc
                               : validate_cpu_list(&place, op->cpu_release.cpus,
                                                   op->cpu_release.cpus_len, VDC_VCPUS_MAX);
    case VDC_OP_MEMORY_ASSIGN:
        return validate_memory_assign(&place, &op->memory_assign);
    case VDC_OP_MEMORY_RELEASE:
        rc = validate_guard(&place, &op->memory_release.id, 1);
        return rc != VDC_RC_OK ? rc
                               : validate_blocks(&place, op->memory_release.blocks,
                                                 op->memory_release.blocks_len, &sum);
    case VDC_OP_DEVICE_ADD:
        return validate_device_add(&place, &op->device_add);
    case VDC_OP_DEVICE_REMOVE:
        return validate_device(&place, op->device_remove.address);
    case VDC_OP_DEVICE_ATTACH:
        return validate_device_attach(&place, &op->device_attach);
    case VDC_OP_DEVICE_DETACH:
        return validate_device_attach(&place, &op->device_detach);
    case VDC_OP_VOLUME_ATTACH:
        return validate_volume_attach(&place, &op->volume_attach);
    case VDC_OP_VOLUME_DETACH:
        return validate_volume(&place, &op->volume_detach.id, &op->volume_detach.volume);
    case VDC_OP_PORT_CONNECT:
        return validate_port(&place, &op->port_connect);
    case VDC_OP_PORT_DISCONNECT:
        return validate_mac(&place, &op->port_disconnect.id, op->port_disconnect.mac);
    case VDC_OP_CHANNEL_CONNECT:
        return validate_channel(&place, &op->channel_connect);
    case VDC_OP_CHANNEL_DISCONNECT:
        return id_is_none(&op->channel_disconnect.channel) ? fault(&place, VDC_RC_INVALID, "no id")
                                                           : VDC_RC_OK;
    case VDC_OP_FENCE_PROMISE:
        return validate_promise(&place, &op->fence_promise);
    case VDC_OP_ZONE_TRANSFER:
        return validate_transfer(&place, &op->zone_transfer);
    }
    return vdc_err_set(err, VDC_RC_UNSUPPORTED, "op %u: unknown kind %u", index, op->kind);
}

enum vdc_rc tx_validate_head(const struct vdc_tx *tx, struct vdc_err *err)
{
    if ((unsigned)tx->role >= VDC_ROLE_COUNT || (unsigned)tx->kind >= VDC_TX_KIND_COUNT ||
        !name_or_empty(tx->zone)) {
        return vdc_err_set(err, VDC_RC_INVALID, "role, kind or zone");
    }
    if ((tx->role == VDC_ROLE_SYSTEM) != (tx->epoch == 0)) {
        return vdc_err_set(err, VDC_RC_INVALID, "epoch %llu does not go with the role",
                           (unsigned long long)tx->epoch);
    }
    if (id_is_none(&tx->claim) != (tx->kind == VDC_TX_APPLY)) {
        return vdc_err_set(err, VDC_RC_INVALID, "a claim id goes with prepare, commit and abort");
    }
    if (tx->ops_len > VDC_TX_OPS_MAX) {
        return vdc_err_set(err, VDC_RC_TOO_LARGE, "%u operations, limit %u", tx->ops_len,
                           VDC_TX_OPS_MAX);
    }
    return VDC_RC_OK;
}

enum vdc_rc vdc_tx_validate(const struct vdc_tx *tx, struct vdc_err *err)
{
    enum vdc_rc rc = tx_validate_head(tx, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    bool settles = tx->kind == VDC_TX_COMMIT_CLAIM || tx->kind == VDC_TX_ABORT_CLAIM;
    if (settles != (tx->ops_len == 0)) {
        return vdc_err_set(err, VDC_RC_INVALID, "%u operations do not go with this kind",
                           tx->ops_len);
    }
    for (uint32_t i = 0; i < tx->ops_len; i++) {
        const struct vdc_op *op = &tx->ops[i];
        rc = tx_validate_op(op, i, err);
        if (rc != VDC_RC_OK) {
            return rc;
        }
        if (op->kind == VDC_OP_INVENTORY_SET && tx->ops_len > 1) {
            return vdc_err_set(err, VDC_RC_INVALID,
                               "op %u inventory-set: must be the only operation", i);
        }
    }
    return VDC_RC_OK;
}
