/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transaction that brings a partition to its node: descriptor, CPUs, memory, volume, all or
 * nothing. CPUs are named and the memory's NUMA node too (vdc/zone_choice.h): the node checks. A
 * choice is kept with its operation until the replica shows it, so that two creates on their way to
 * one node do not name the same CPUs.
 *
 * A volume is in use from the moment that its partition may write it: of one that runs, with its
 * create; of the target of a migration, with the transaction that lets it run there (volume_op), which
 * is sent when the ownership has moved. The source's use ends with its partition. Each node's record
 * says who may write there, stamped with the generation; across nodes the ownership record does.
 */
#include "zone_internal.h"

/* Operations of a create: partition, CPUs, memory, volume. */
#define CREATE_OPS_MAX 4

/* What others that are on their way to the node were given. The array is the caller's. */
static const struct vdc_zone_choice **choices_under_way(const struct vdc_zone *zone,
                                                        const struct zone_op *but,
                                                        const struct zone_node *node, size_t *len)
{
    size_t count = 0;
    for (const struct zone_op *op = zone->active; op != NULL; op = op->active_next) {
        count++;
    }
    const struct vdc_zone_choice **list = vdc_calloc(count, sizeof(const struct vdc_zone_choice *));
    *len = 0;
    for (const struct zone_op *op = zone->active; op != NULL; op = op->active_next) {
        if (op != but && op->work != NULL && op->work->calls[SLOT_TARGET].state == CALL_SENT &&
            strcmp(op->rec.target, node->rec.name) == 0 &&
            node_holds(node, &op->rec.partition, op->rec.generation_to) == NULL) {
            list[(*len)++] = &op->work->choice;
        }
    }
    return list;
}

static void choose(const struct vdc_zone *zone, struct zone_op *op, const struct zone_node *node,
                   const struct vdc_policy_need *need)
{
    struct vdc_zone_choice *choice = &op->work->choice;
    if (node->replica == NULL) {
        *choice = (struct vdc_zone_choice){.numa = VDC_NUMA_ANY};
        return;
    }
    size_t len;
    const struct vdc_zone_choice **busy = choices_under_way(zone, op, node, &len);
    vdc_zone_choose(node->replica, zone->name, need->cpus_dedicated, need->memory_bytes, busy, len,
                    choice);
    free(busy);
}

static struct vdc_op create_op(const struct vdc_partition_record *rec, uint64_t generation,
                               enum vdc_run run, const struct vdc_buf *config)
{
    const struct vdc_partition_spec *spec = &rec->spec;
    struct vdc_op op = {.kind = VDC_OP_PARTITION_CREATE};
    struct vdc_op_partition_create *create = &op.partition_create;
    create->id = rec->id;
    vdc_str_set(create->name, sizeof create->name, spec->name);
    vdc_str_set(create->tenant, sizeof create->tenant, spec->tenant);
    vdc_str_set(create->class_name, sizeof create->class_name, spec->class);
    create->kind = VDC_PARTITION_GUEST;
    create->generation = generation;
    create->run = run;
    create->vcpus = spec->vcpus;
    create->memory_bytes = spec->memory_bytes;
    create->config = (const uint8_t *)config->data;
    create->config_len = (uint32_t)config->len;
    return op;
}

/* Named CPUs are named; a number that cannot be named is asked for, and refused with the numbers. */
static struct vdc_op cpu_op(const struct vdc_id *id, const struct vdc_policy_need *need,
                            const struct vdc_zone_choice *choice)
{
    struct vdc_op op = {.kind = VDC_OP_CPU_ASSIGN};
    op.cpu_assign = (struct vdc_op_cpu_assign){.id = *id, .numa = VDC_NUMA_ANY};
    if (choice->cpus_len > 0) {
        op.cpu_assign.cpus = choice->cpus;
        op.cpu_assign.cpus_len = choice->cpus_len;
        if (choice->one_node) {
            op.cpu_assign.locality = VDC_LOCALITY_STRICT;
            op.cpu_assign.numa = choice->numa;
        }
    } else {
        op.cpu_assign.any = need->cpus_dedicated;
        op.cpu_assign.shared_milli = (uint32_t)need->cpu_shared_milli;
    }
    return op;
}

/* Preferred, not strict: a channel may have taken a page there since the replica was as it is, and a
 * guest with some memory next door is better than none. */
static struct vdc_op memory_op(const struct vdc_id *id, uint64_t bytes,
                               const struct vdc_zone_choice *choice)
{
    struct vdc_op op = {.kind = VDC_OP_MEMORY_ASSIGN};
    op.memory_assign = (struct vdc_op_memory_assign){
        .id = *id,
        .bytes = bytes,
        .numa = choice->numa,
        .locality = choice->numa == VDC_NUMA_ANY ? VDC_LOCALITY_DEFAULT : VDC_LOCALITY_PREFERRED,
    };
    return op;
}

uint32_t volume_op(const struct vdc_partition_record *rec, uint64_t generation, struct vdc_op *op)
{
    if (rec->spec.disk_bytes == 0) {
        return 0;
    }
    *op = (struct vdc_op){.kind = VDC_OP_VOLUME_ATTACH};
    op->volume_attach = (struct vdc_op_volume_attach){
        .id = rec->id,
        .generation = generation,
        .volume = rec->id, /* a partition's one disk has its id */
        .mode = VDC_VOLUME_WRITE,
    };
    return 1;
}

static void put_config(const struct vdc_partition_record *rec, struct vdc_buf *config)
{
    char id[VDC_ID_TEXT_CAP];
    vdc_id_to_text(&rec->id, id);
    /* Every text in it is a checked name, so nothing needs escaping. */
    vdc_buf_printf(config,
                   "{\"image\":\"%s\",\"disk_bytes\":%llu,\"volume\":\"%s\",\"restartable\":%s,"
                   "\"name\":\"%s\"}",
                   rec->spec.image, (unsigned long long)rec->spec.disk_bytes, id,
                   rec->restartable ? "true" : "false", rec->spec.name);
}

bool op_send_create(struct vdc_zone *zone, struct zone_op *op, struct zone_node *node,
                    enum vdc_run run)
{
    const struct vdc_partition_record *rec = &op->partition->rec;
    const struct vdc_policy_partition partition = {
        .id = rec->id,
        .name = rec->spec.name,
        .tenant = rec->spec.tenant,
        .class_name = rec->spec.class,
        .vcpus = rec->spec.vcpus,
        .memory_bytes = rec->spec.memory_bytes,
        .node = VDC_POLICY_NO_NODE,
    };
    struct vdc_policy_need need;
    if (!vdc_policy_need(zone->policy, &partition, &need)) {
        return false;
    }
    if (!op_needs_send(op, SLOT_TARGET, node)) {
        return true;
    }
    choose(zone, op, node, &need);
    struct vdc_buf config = {0};
    put_config(rec, &config);
    struct vdc_op ops[CREATE_OPS_MAX];
    uint32_t len = 0;
    ops[len++] = create_op(rec, op->rec.generation_to, run, &config);
    ops[len++] = cpu_op(&rec->id, &need, &op->work->choice);
    ops[len++] = memory_op(&rec->id, need.memory_bytes, &op->work->choice);
    if (run != VDC_RUN_INCOMING) {
        len += volume_op(rec, op->rec.generation_to, &ops[len]);
    }
    op_send_tx(zone, op, SLOT_TARGET, node, ops, len);
    vdc_buf_deinit(&config);
    return true;
}
