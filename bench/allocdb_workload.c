/* SPDX-License-Identifier: Apache-2.0 */
#include "allocdb_workload.h"

#include <stdio.h>
#include <stdlib.h>

#include <vdc/base.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define PAGE (2 * MIB)
#define FULL_PERCENT 90

static struct vdc_cpu_info cpus[WORKLOAD_NUMA_NODES * WORKLOAD_CPUS_PER_NUMA];
static struct vdc_numa_info numa_nodes[WORKLOAD_NUMA_NODES];

static void describe_machine(void)
{
    for (uint32_t i = 0; i < VDC_COUNT_OF(cpus); i++) {
        uint32_t numa = i / WORKLOAD_CPUS_PER_NUMA;
        uint32_t inside = i % WORKLOAD_CPUS_PER_NUMA;
        cpus[i] = (struct vdc_cpu_info){.number = (uint16_t)i,
                                        .numa = (uint16_t)numa,
                                        .socket = (uint16_t)numa,
                                        .core = (uint16_t)(inside / 2),
                                        .thread = (uint16_t)(inside % 2)};
    }
    for (uint32_t i = 0; i < WORKLOAD_NUMA_NODES; i++) {
        numa_nodes[i] =
            (struct vdc_numa_info){.number = i, .memory_bytes = WORKLOAD_BYTES_PER_NUMA};
    }
}

void workload_init(struct workload *w, uint64_t seed)
{
    *w = (struct workload){0};
    vdc_prng_init(&w->prng, seed);
    describe_machine();
}

void workload_deinit(struct workload *w)
{
    free(w->guests);
    *w = (struct workload){0};
}

bool workload_full(const struct workload *w)
{
    return w->filling == WORKLOAD_NUMA_NODES;
}

static uint32_t draw_vcpus(struct workload *w)
{
    uint64_t draw = vdc_prng_below(&w->prng, 10);
    return draw < 4 ? 1 : draw < 7 ? 2 : draw < 9 ? 4 : 8;
}

/* 2 to 4 GiB for each vCPU, or 4 to 6 if more memory than CPUs is free on the node: so both stay as
 * full as they shall be. */
static uint64_t draw_bytes(struct workload *w, const struct workload_node *node, uint32_t vcpus)
{
    bool more = node->bytes_used < node->cpus_used * 4 * GIB;
    uint64_t range = 2 * GIB * vcpus;
    uint64_t page = vdc_prng_below(&w->prng, 2) == 0 ? GIB : PAGE;
    return (more ? 2 : 1) * range + vdc_prng_below(&w->prng, range / page + 1) * page;
}

static void make_create(struct workload *w, const struct workload_guest *guest,
                        struct workload_tx *out)
{
    char id[VDC_ID_TEXT_CAP];
    vdc_id_to_text(&guest->id, id);
    struct vdc_op *op = &out->ops[0];
    *op = (struct vdc_op){.kind = VDC_OP_PARTITION_CREATE};
    struct vdc_op_partition_create *create = &op->partition_create;
    (void)snprintf(create->name, sizeof(create->name), "web-%llu", (unsigned long long)w->next);
    (void)snprintf(create->tenant, sizeof(create->tenant), "tenant-%u", (unsigned)(w->next % 100));
    vdc_str_set(create->class_name, sizeof(create->class_name), "gold");
    int len = snprintf(out->config, sizeof(out->config),
                       "{\"image\":\"debian-12\",\"disk_bytes\":10737418240,\"volume\":\"%s\","
                       "\"restartable\":true,\"name\":\"%s\"}",
                       id, create->name);
    create->id = guest->id;
    create->kind = VDC_PARTITION_GUEST;
    create->generation = 1;
    create->run = VDC_RUN_RUNNING;
    create->vcpus = guest->vcpus;
    create->memory_bytes = guest->bytes;
    create->config = (const uint8_t *)out->config;
    create->config_len = (uint32_t)len;
    out->ops[1] =
        (struct vdc_op){.kind = VDC_OP_CPU_ASSIGN,
                        .cpu_assign = {.id = guest->id, .any = guest->vcpus, .numa = guest->numa}};
    out->ops[2] = (struct vdc_op){
        .kind = VDC_OP_MEMORY_ASSIGN,
        .memory_assign = {.id = guest->id, .bytes = guest->bytes, .numa = guest->numa}};
}

static struct workload_guest make_guest(struct workload *w, uint32_t numa, uint32_t vcpus)
{
    struct workload_node *node = &w->nodes[numa];
    struct workload_guest guest = {.id = vdc_id_make(&w->prng), .numa = numa, .vcpus = vcpus};
    guest.bytes = draw_bytes(w, node, vcpus);
    node->cpus_used += vcpus;
    node->bytes_used += guest.bytes;
    return guest;
}

static void fill(struct workload *w, struct workload_tx *out)
{
    struct workload_guest guest = make_guest(w, w->filling, draw_vcpus(w));
    make_create(w, &guest, out);
    out->tx.ops_len = 3;
    VDC_GROW(w->guests, w->guests_cap, w->guests_len + 1);
    w->guests[w->guests_len++] = guest;
    uint32_t full = WORKLOAD_CPUS_PER_NUMA * FULL_PERCENT / 100;
    w->filling += w->nodes[w->filling].cpus_used >= full;
}

static void replace(struct workload *w, struct workload_tx *out)
{
    struct workload_guest *old = &w->guests[vdc_prng_below(&w->prng, w->guests_len)];
    struct workload_guest guest = make_guest(w, old->numa, old->vcpus);
    make_create(w, &guest, out);
    out->ops[3] = (struct vdc_op){.kind = VDC_OP_PARTITION_DESTROY,
                                  .partition_destroy = {.id = old->id, .generation = 1}};
    out->tx.ops_len = WORKLOAD_OPS;
    w->nodes[old->numa].cpus_used -= old->vcpus;
    w->nodes[old->numa].bytes_used -= old->bytes;
    *old = guest;
}

void workload_next(struct workload *w, struct workload_tx *out)
{
    out->tx = (struct vdc_tx){.request_id = vdc_id_make(&w->prng),
                              .zone = "prod",
                              .epoch = 1,
                              .role = VDC_ROLE_COMMAND,
                              .kind = VDC_TX_APPLY,
                              .ops = out->ops};
    if (w->next == 0) {
        out->tx.zone[0] = 0;
        out->tx.epoch = 0;
        out->tx.role = VDC_ROLE_SYSTEM;
        out->tx.ops_len = 1;
        out->ops[0] = (struct vdc_op){.kind = VDC_OP_INVENTORY_SET,
                                      .inventory_set = {.cpus = cpus,
                                                        .cpus_len = VDC_COUNT_OF(cpus),
                                                        .numa = numa_nodes,
                                                        .numa_len = WORKLOAD_NUMA_NODES}};
    } else if (w->next == 1) {
        out->tx.ops_len = 1;
        out->ops[0] = (struct vdc_op){.kind = VDC_OP_ZONE_SET,
                                      .zone_set = {.overcommit_milli = 1000,
                                                   .cpu = {.milli = 1000},
                                                   .memory = {.milli = 1000}}};
    } else if (!workload_full(w)) {
        fill(w, out);
    } else {
        replace(w, out);
    }
    w->next++;
}
