/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions on the model. One function per operation; each changes the arrays at once and returns
 * false with the refusal filled, upon which model_commit puts the copy back.
 */
#include "allocdb_model_run.h"

#include <string.h>

bool model_refuse(struct model_run *run, enum vdc_rc rc, enum vdc_tx_rule rule, uint64_t asked,
                  uint64_t free_units)
{
    run->answer.rc = rc;
    run->answer.rule = rule;
    run->answer.asked = asked;
    run->answer.free = free_units;
    run->stored = rc != VDC_RC_INVALID && rc != VDC_RC_TOO_LARGE && rc != VDC_RC_FORBIDDEN;
    return false;
}

/* --- finding --- */

int model_find_zone(const struct model *m, const char *name)
{
    for (int z = 0; z < m->now.zones_len; z++) {
        if (strcmp(m->now.zones[z].name, name) == 0) {
            return z;
        }
    }
    return NONE;
}

int model_find_partition(const struct model *m, const struct vdc_id *id)
{
    for (int p = 0; p < MODEL_PARTITIONS_MAX; p++) {
        if (m->now.partitions[p].exists && vdc_id_equal(&m->now.partitions[p].as.id, id)) {
            return p;
        }
    }
    return NONE;
}

int model_find_numa(const struct model *m, uint32_t number)
{
    for (int n = 0; n < m->numas_len; n++) {
        if (m->numas[n].number == number) {
            return n;
        }
    }
    return NONE;
}

int model_find_cpu(const struct model *m, uint32_t number)
{
    for (int c = 0; c < m->now.cpus_len; c++) {
        if (m->now.cpus[c].info.number == number) {
            return c;
        }
    }
    return NONE;
}

bool model_is_entry(const struct model *m, int e, enum vdc_entry_kind kind)
{
    return m->now.entries[e].exists && m->now.entries[e].kind == kind;
}

int model_find_device(const struct model *m, const char *address)
{
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        if (model_is_entry(m, e, VDC_ENTRY_DEVICE) &&
            strcmp(m->now.entries[e].device.address, address) == 0) {
            return e;
        }
    }
    return NONE;
}

int model_find_port(const struct model *m, const uint8_t mac[6])
{
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        if (model_is_entry(m, e, VDC_ENTRY_PORT) &&
            memcmp(m->now.entries[e].port.mac, mac, 6) == 0) {
            return e;
        }
    }
    return NONE;
}

int model_find_channel(const struct model *m, const struct vdc_id *id)
{
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        if (model_is_entry(m, e, VDC_ENTRY_CHANNEL) &&
            vdc_id_equal(&m->now.entries[e].channel.channel, id)) {
            return e;
        }
    }
    return NONE;
}

int model_find_volume(const struct model *m, const struct vdc_id *volume, int partition)
{
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        if (model_is_entry(m, e, VDC_ENTRY_VOLUME) && m->now.entries[e].owner == partition &&
            vdc_id_equal(&m->now.entries[e].volume.volume, volume)) {
            return e;
        }
    }
    return NONE;
}

int model_find_promise(const struct model *m, int zone, const char *node)
{
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        if (model_is_entry(m, e, VDC_ENTRY_PROMISE) && m->now.entries[e].zone == zone &&
            strcmp(m->now.entries[e].promise.node, node) == 0) {
            return e;
        }
    }
    return NONE;
}

int model_find_claim(const struct model *m, const struct vdc_id *id)
{
    for (int c = 0; c < MODEL_CLAIMS_MAX; c++) {
        if (m->now.claims[c].exists && vdc_id_equal(&m->now.claims[c].id, id)) {
            return c;
        }
    }
    return NONE;
}

/* --- counting --- */

uint32_t model_count_cpus(const struct model *m, int zone)
{
    uint32_t count = 0;
    for (int c = 0; c < m->now.cpus_len; c++) {
        count += m->now.cpus[c].zone == zone;
    }
    return count;
}

bool model_cpu_is_free(const struct model *m, int c, int zone, int numa)
{
    const struct model_cpu *cpu = &m->now.cpus[c];
    return cpu->zone == zone && cpu->owner == NONE &&
           (numa == NONE || cpu->info.numa == m->numas[numa].number);
}

uint32_t model_count_free_cpus(const struct model *m, int zone, int numa)
{
    uint32_t count = 0;
    for (int c = 0; c < m->now.cpus_len; c++) {
        count += model_cpu_is_free(m, c, zone, numa);
    }
    return count;
}

uint32_t model_count_held_cpus(const struct model *m, int partition)
{
    uint32_t count = 0;
    for (int c = 0; c < m->now.cpus_len; c++) {
        count += m->now.cpus[c].owner == partition;
    }
    return count;
}

static bool is_of_zone(const struct model *m, int p, int zone)
{
    return m->now.partitions[p].exists && m->now.partitions[p].zone == zone;
}

uint32_t model_count_partitions(const struct model *m, int zone)
{
    uint32_t count = 0;
    for (int p = 0; p < MODEL_PARTITIONS_MAX; p++) {
        count += is_of_zone(m, p, zone);
    }
    return count;
}

uint64_t model_capacity(const struct model *m, int zone)
{
    return (uint64_t)model_count_free_cpus(m, zone, NONE) * m->now.zones[zone].overcommit;
}

uint64_t model_shared_used(const struct model *m, int zone)
{
    uint64_t sum = 0;
    for (int p = 0; p < MODEL_PARTITIONS_MAX; p++) {
        sum += is_of_zone(m, p, zone) ? m->now.partitions[p].shared : 0;
    }
    return sum;
}

uint64_t model_memory_used(const struct model *m, int zone)
{
    uint64_t sum = 0;
    for (int p = 0; p < MODEL_PARTITIONS_MAX; p++) {
        sum += is_of_zone(m, p, zone) ? m->now.partitions[p].held : 0;
    }
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        bool pays = model_is_entry(m, e, VDC_ENTRY_CHANNEL) && m->now.entries[e].zone == zone;
        sum += pays ? m->now.entries[e].channel.bytes : 0;
    }
    return sum;
}

/* --- what most operations begin with --- */

bool model_need_zone(struct model_run *run)
{
    if (run->zone == NONE) {
        (void)model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_ZONE, 0, 0);
        run->stored = false;
        return false;
    }
    return run->s->zones[run->zone].joined ||
           model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_ZONE, 0, 0);
}

/* The partition of the transaction's zone and claim; NONE: refused. */
int model_need_partition(struct model_run *run, const struct vdc_id *id)
{
    if (!model_need_zone(run)) {
        return NONE;
    }
    int p = model_find_partition(run->m, id);
    if (p == NONE) {
        (void)model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_PARTITION, 0, 0);
        return NONE;
    }
    if (run->s->partitions[p].zone != run->zone) {
        (void)model_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0);
        return NONE;
    }
    if (!vdc_id_equal(&run->s->partitions[p].claim, &run->tx->claim)) {
        (void)model_refuse(run, VDC_RC_CONFLICT, VDC_RULE_CLAIMED, 0, 0);
        return NONE;
    }
    return p;
}

int model_need_guarded(struct model_run *run, const struct vdc_id *id, uint64_t generation)
{
    int p = model_need_partition(run, id);
    if (p != NONE && run->s->partitions[p].as.generation != generation) {
        (void)model_refuse(run, VDC_RC_STALE, VDC_RULE_GENERATION, generation,
                           run->s->partitions[p].as.generation);
        return NONE;
    }
    return p;
}

void model_touch(struct model_run *run, int partition)
{
    run->m->touched[partition] = true;
}

bool model_within_slice(struct model_run *run, uint64_t bytes)
{
    uint64_t left = run->s->zones[run->zone].memory_bytes - model_memory_used(run->m, run->zone);
    return bytes <= left || model_refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_SLICE, bytes, left);
}

/* The NUMA node that is asked for; false: refused. */
bool model_need_numa(struct model_run *run, uint32_t number, int *numa)
{
    *numa = number == VDC_NUMA_ANY ? NONE : model_find_numa(run->m, number);
    return number == VDC_NUMA_ANY || *numa != NONE ||
           model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, number, 0);
}

bool model_need_nodes(struct model_run *run, uint64_t nodes)
{
    for (uint32_t number = 0; number < VDC_NUMA_NODES_MAX; number++) {
        int ignored;
        if ((nodes >> number & 1) != 0 && !model_need_numa(run, number, &ignored)) {
            return false;
        }
    }
    return true;
}

uint32_t model_count_bits(uint64_t bits)
{
    uint32_t count = 0;
    for (; bits != 0; bits >>= 1) {
        count += (uint32_t)(bits & 1);
    }
    return count;
}

bool model_node_fits(enum vdc_locality locality, uint32_t numa, uint64_t nodes, uint32_t first,
                     uint32_t number)
{
    if (locality == VDC_LOCALITY_STRICT) {
        return number == (numa == VDC_NUMA_ANY ? first : numa);
    }
    return locality != VDC_LOCALITY_SPANNING || (nodes >> number & 1) != 0;
}

/* --- partitions --- */

static bool apply_create(struct model_run *run, const struct vdc_op_partition_create *create)
{
    if (!model_need_zone(run)) {
        return false;
    }
    int other = model_find_partition(run->m, &create->id);
    if (other != NONE) {
        return model_refuse(run, VDC_RC_EXISTS, VDC_RULE_PARTITION_EXISTS, create->generation,
                            run->s->partitions[other].as.generation);
    }
    int p = 0;
    while (run->s->partitions[p].exists) {
        p++;
        VDC_ASSERT(p < MODEL_PARTITIONS_MAX);
    }
    run->s->partitions[p] = (struct model_partition){
        .exists = true, .as = *create, .zone = run->zone, .claim = run->tx->claim};
    model_touch(run, p);
    return true;
}

static void drop_partition(struct model_run *run, int p)
{
    for (int c = 0; c < run->s->cpus_len; c++) {
        run->s->cpus[c].owner = run->s->cpus[c].owner == p ? NONE : run->s->cpus[c].owner;
    }
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        struct model_entry *entry = &run->s->entries[e];
        if (!entry->exists || (entry->owner != p && entry->peer != p)) {
            continue;
        }
        if (entry->kind == VDC_ENTRY_DEVICE) {
            entry->owner = NONE;
            run->m->touched_entry[e] = true;
        } else {
            model_end_entry(run, e);
        }
    }
    memory_drop(run->m, (uint16_t)(1 + p));
    run->s->partitions[p].exists = false;
}

static bool apply_change(struct model_run *run, const struct vdc_op *op)
{
    int p = NONE;
    if (op->kind == VDC_OP_PARTITION_SET_RUN) {
        p = model_need_guarded(run, &op->partition_set_run.id, op->partition_set_run.generation);
    } else if (op->kind == VDC_OP_PARTITION_SET_GENERATION) {
        p = model_need_guarded(run, &op->partition_set_generation.id,
                               op->partition_set_generation.generation);
    } else if (op->kind == VDC_OP_PARTITION_SET_CONFIG) {
        p = model_need_guarded(run, &op->partition_set_config.id,
                               op->partition_set_config.generation);
    } else {
        p = model_need_guarded(run, &op->partition_destroy.id, op->partition_destroy.generation);
    }
    if (p == NONE) {
        return false;
    }
    struct vdc_op_partition_create *as = &run->s->partitions[p].as;
    model_touch(run, p);
    if (op->kind == VDC_OP_PARTITION_SET_RUN) {
        as->run = op->partition_set_run.run;
    } else if (op->kind == VDC_OP_PARTITION_SET_GENERATION) {
        as->generation = op->partition_set_generation.next;
    } else if (op->kind == VDC_OP_PARTITION_SET_CONFIG) {
        as->config = op->partition_set_config.config;
        as->config_len = op->partition_set_config.config_len;
    } else {
        drop_partition(run, p);
    }
    return true;
}

/* --- transactions --- */

static bool apply_op(struct model_run *run, const struct vdc_op *op)
{
    switch (op->kind) {
    case VDC_OP_INVENTORY_SET:
        return model_apply_inventory_set(run, &op->inventory_set);
    case VDC_OP_ZONE_SET:
        return model_apply_zone_set(run, &op->zone_set);
    case VDC_OP_ZONE_LEAVE:
        return model_apply_zone_leave(run);
    case VDC_OP_ZONE_EPOCH:
        return model_apply_zone_epoch(run);
    case VDC_OP_INCARNATION_SET:
        return model_apply_incarnation_set(run, op->incarnation_set.incarnation);
    case VDC_OP_PARTITION_CREATE:
        return apply_create(run, &op->partition_create);
    case VDC_OP_PARTITION_SET_RUN:
    case VDC_OP_PARTITION_SET_GENERATION:
    case VDC_OP_PARTITION_SET_CONFIG:
    case VDC_OP_PARTITION_DESTROY:
        return apply_change(run, op);
    case VDC_OP_CPU_ASSIGN:
        return model_apply_cpu_assign(run, &op->cpu_assign);
    case VDC_OP_CPU_RELEASE:
        return model_apply_cpu_release(run, &op->cpu_release);
    case VDC_OP_MEMORY_ASSIGN:
        return model_apply_memory_assign(run, &op->memory_assign);
    case VDC_OP_MEMORY_RELEASE:
        return model_apply_memory_release(run, &op->memory_release);
    case VDC_OP_DEVICE_ADD:
        return model_apply_device_add(run, &op->device_add);
    case VDC_OP_DEVICE_REMOVE:
        return model_apply_device_remove(run, &op->device_remove);
    case VDC_OP_DEVICE_ATTACH:
        return model_apply_device_attach(run, &op->device_attach);
    case VDC_OP_DEVICE_DETACH:
        return model_apply_device_detach(run, &op->device_detach);
    case VDC_OP_VOLUME_ATTACH:
        return model_apply_volume_attach(run, &op->volume_attach);
    case VDC_OP_VOLUME_DETACH:
        return model_apply_volume_detach(run, &op->volume_detach);
    case VDC_OP_PORT_CONNECT:
        return model_apply_port_connect(run, &op->port_connect);
    case VDC_OP_PORT_DISCONNECT:
        return model_apply_port_disconnect(run, &op->port_disconnect);
    case VDC_OP_CHANNEL_CONNECT:
        return model_apply_channel_connect(run, &op->channel_connect);
    case VDC_OP_CHANNEL_DISCONNECT:
        return model_apply_channel_disconnect(run, &op->channel_disconnect.channel);
    case VDC_OP_FENCE_PROMISE:
        return model_apply_promise(run, &op->fence_promise);
    case VDC_OP_ZONE_TRANSFER:
        return model_apply_zone_transfer(run, &op->zone_transfer);
    }
    return false;
}

static bool claim_may(enum vdc_op_kind kind)
{
    return kind == VDC_OP_PARTITION_CREATE || kind == VDC_OP_CPU_ASSIGN ||
           kind == VDC_OP_MEMORY_ASSIGN || kind == VDC_OP_DEVICE_ATTACH ||
           kind == VDC_OP_VOLUME_ATTACH || kind == VDC_OP_PORT_CONNECT ||
           kind == VDC_OP_CHANNEL_CONNECT;
}

static bool settle_claim(struct model_run *run)
{
    int c = run->zone == NONE ? NONE : model_find_claim(run->m, &run->tx->claim);
    if (c == NONE) {
        (void)model_refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CLAIM, 0, 0);
        run->stored = run->zone != NONE;
        return false;
    }
    if (run->s->claims[c].zone != run->zone) {
        return model_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0);
    }
    for (int p = 0; p < MODEL_PARTITIONS_MAX; p++) {
        struct model_partition *partition = &run->s->partitions[p];
        if (!partition->exists || !vdc_id_equal(&partition->claim, &run->tx->claim)) {
            continue;
        }
        if (run->tx->kind == VDC_TX_COMMIT_CLAIM) {
            partition->claim = (struct vdc_id){0};
            model_touch(run, p);
        } else {
            drop_partition(run, p);
        }
    }
    run->s->claims[c].exists = false;
    return true;
}

static bool make_claim(struct model_run *run)
{
    int c = 0;
    while (run->s->claims[c].exists) {
        c++;
        VDC_ASSERT(c < MODEL_CLAIMS_MAX);
    }
    struct model_claim *claim = &run->s->claims[c];
    *claim = (struct model_claim){
        .exists = true, .id = run->tx->claim, .zone = run->zone, .sequence = run->m->sequence + 1};
    for (int p = 0; p < MODEL_PARTITIONS_MAX; p++) {
        const struct model_partition *partition = &run->s->partitions[p];
        claim->partitions += partition->exists && vdc_id_equal(&partition->claim, &run->tx->claim);
    }
    return true;
}

static bool apply_ops(struct model_run *run)
{
    const struct vdc_tx *tx = run->tx;
    run->answer.op = VDC_TX_OP_NONE;
    if (tx->kind == VDC_TX_COMMIT_CLAIM || tx->kind == VDC_TX_ABORT_CLAIM) {
        return settle_claim(run);
    }
    bool prepares = tx->kind == VDC_TX_PREPARE;
    if (prepares && model_find_claim(run->m, &tx->claim) != NONE) {
        return model_refuse(run, VDC_RC_EXISTS, VDC_RULE_CLAIM_EXISTS, 0, 0);
    }
    for (uint32_t i = 0; i < tx->ops_len; i++) {
        run->answer.op = i;
        if (prepares && !claim_may(tx->ops[i].kind)) {
            return model_refuse(run, VDC_RC_INVALID, VDC_RULE_CLAIM_OPS, 0, 0);
        }
        if (!apply_op(run, &tx->ops[i])) {
            return false;
        }
    }
    run->answer.op = VDC_TX_OP_NONE;
    return !prepares || make_claim(run);
}

static void raise_epoch(struct model *m, const struct vdc_tx *tx)
{
    int zone = model_find_zone(m, tx->zone);
    if (zone != NONE && tx->epoch > m->now.zones[zone].epoch) {
        m->now.zones[zone].epoch = tx->epoch;
    }
}

static uint64_t number_of(const struct vdc_id *id)
{
    uint64_t number;
    memcpy(&number, id->bytes, sizeof(number));
    return number;
}

static bool find_answer(const struct model *m, const struct vdc_id *id, struct model_answer *out)
{
    uint64_t len = VDC_MIN(m->answers_len, (uint64_t)VDC_ALLOCDB_REQUESTS_MAX);
    if (number_of(id) > m->answers_highest) {
        return false; /* spares the search for nearly all, since the ids are drawn ascending */
    }
    for (uint64_t i = 0; !vdc_id_is_none(id) && i < len; i++) {
        if (vdc_id_equal(&m->answer_ids[i], id)) {
            *out = m->answers[i];
            out->repeated = true;
            return true;
        }
    }
    return false;
}

static void store_answer(struct model *m, const struct vdc_id *id,
                         const struct model_answer *answer)
{
    if (!vdc_id_is_none(id)) {
        uint64_t at = m->answers_len++ % VDC_ALLOCDB_REQUESTS_MAX;
        m->answer_ids[at] = *id;
        m->answers[at] = *answer;
        m->answers_highest = VDC_MAX(m->answers_highest, number_of(id));
    }
}

/* Refusals that need no state, and repeated requests. False: that is the answer. */
static bool judge(struct model_run *run, enum vdc_rc form)
{
    const struct vdc_tx *tx = run->tx;
    run->answer.op = VDC_TX_OP_NONE;
    if (form != VDC_RC_OK) {
        return model_refuse(run, form, VDC_RULE_FORM, 0, 0);
    }
    if (tx->role == VDC_ROLE_IO || tx->role == VDC_ROLE_GUEST ||
        (tx->role == VDC_ROLE_COMMAND && tx->zone[0] == 0)) {
        return model_refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ROLE, 0, 0);
    }
    if (find_answer(run->m, &tx->request_id, &run->answer)) {
        return false;
    }
    uint64_t newest = run->zone == NONE ? 0 : run->s->zones[run->zone].epoch;
    return tx->role != VDC_ROLE_COMMAND || tx->epoch >= newest ||
           model_refuse(run, VDC_RC_STALE, VDC_RULE_EPOCH, tx->epoch, newest);
}

struct model_answer model_commit(struct model *m, const struct vdc_tx *tx, enum vdc_rc form,
                                 bool *recorded)
{
    struct model_run run = {.m = m, .s = &m->now, .tx = tx, .zone = model_find_zone(m, tx->zone)};
    *recorded = false;
    if (!judge(&run, form)) {
        return run.answer;
    }
    m->before = m->now;
    memset(m->touched, 0, sizeof(m->touched));
    memset(m->touched_entry, 0, sizeof(m->touched_entry));
    if (apply_ops(&run)) {
        memory_keep(m);
        run.answer.sequence = ++m->sequence;
        for (int p = 0; p < MODEL_PARTITIONS_MAX; p++) {
            m->now.partitions[p].sequence =
                m->touched[p] ? m->sequence : m->now.partitions[p].sequence;
        }
        for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
            m->now.entries[e].sequence =
                m->touched_entry[e] ? m->sequence : m->now.entries[e].sequence;
        }
        *recorded = true;
    } else {
        m->now = m->before;
        memory_undo(m);
        if (!run.stored || vdc_id_is_none(&tx->request_id)) {
            return run.answer;
        }
        run.answer.sequence = ++m->sequence;
        *recorded = true;
    }
    raise_epoch(m, tx);
    store_answer(m, &tx->request_id, &run.answer);
    return run.answer;
}

struct model *model_create(void)
{
    struct model *m = VDC_NEW(struct model);
    m->now.zones_len = 1;
    m->now.zones[NODE] = (struct model_zone){.joined = true, .overcommit = 1000};
    m->answer_ids = vdc_calloc(VDC_ALLOCDB_REQUESTS_MAX, sizeof(m->answer_ids[0]));
    m->answers = vdc_calloc(VDC_ALLOCDB_REQUESTS_MAX, sizeof(m->answers[0]));
    return m;
}

void model_destroy(struct model *m)
{
    for (int n = 0; n < m->numas_len; n++) {
        free(m->numas[n].chunks);
    }
    free(m->saved);
    free(m->answer_ids);
    free(m->answers);
    free(m);
}
