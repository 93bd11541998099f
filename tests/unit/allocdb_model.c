/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions on the model. One function per operation; each changes the arrays at once and returns
 * false with the refusal filled, upon which model_commit puts the copy back.
 */
#include "allocdb_model.h"

#include <string.h>

struct run {
    struct model *m;
    struct model_state *s;
    const struct vdc_tx *tx;
    int zone; /* NONE: never heard of */
    struct model_answer answer;
    bool stored;
};

static bool refuse(struct run *run, enum vdc_rc rc, enum vdc_tx_rule rule, uint64_t asked,
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

static bool is_entry(const struct model *m, int e, enum vdc_entry_kind kind)
{
    return m->now.entries[e].exists && m->now.entries[e].kind == kind;
}

int model_find_device(const struct model *m, const char *address)
{
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        if (is_entry(m, e, VDC_ENTRY_DEVICE) &&
            strcmp(m->now.entries[e].device.address, address) == 0) {
            return e;
        }
    }
    return NONE;
}

int model_find_port(const struct model *m, const uint8_t mac[6])
{
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        if (is_entry(m, e, VDC_ENTRY_PORT) && memcmp(m->now.entries[e].port.mac, mac, 6) == 0) {
            return e;
        }
    }
    return NONE;
}

int model_find_channel(const struct model *m, const struct vdc_id *id)
{
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        if (is_entry(m, e, VDC_ENTRY_CHANNEL) &&
            vdc_id_equal(&m->now.entries[e].channel.channel, id)) {
            return e;
        }
    }
    return NONE;
}

int model_find_volume(const struct model *m, const struct vdc_id *volume, int partition)
{
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        if (is_entry(m, e, VDC_ENTRY_VOLUME) && m->now.entries[e].owner == partition &&
            vdc_id_equal(&m->now.entries[e].volume.volume, volume)) {
            return e;
        }
    }
    return NONE;
}

int model_find_promise(const struct model *m, int zone, const char *node)
{
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        if (is_entry(m, e, VDC_ENTRY_PROMISE) && m->now.entries[e].zone == zone &&
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

static bool cpu_is_free(const struct model *m, int c, int zone, int numa)
{
    const struct model_cpu *cpu = &m->now.cpus[c];
    return cpu->zone == zone && cpu->owner == NONE &&
           (numa == NONE || cpu->info.numa == m->numas[numa].number);
}

uint32_t model_count_free_cpus(const struct model *m, int zone, int numa)
{
    uint32_t count = 0;
    for (int c = 0; c < m->now.cpus_len; c++) {
        count += cpu_is_free(m, c, zone, numa);
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
        bool pays = is_entry(m, e, VDC_ENTRY_CHANNEL) && m->now.entries[e].zone == zone;
        sum += pays ? m->now.entries[e].channel.bytes : 0;
    }
    return sum;
}

/* --- what most operations begin with --- */

static bool need_zone(struct run *run)
{
    if (run->zone == NONE) {
        (void)refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_ZONE, 0, 0);
        run->stored = false;
        return false;
    }
    return run->s->zones[run->zone].joined || refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_ZONE, 0, 0);
}

/* The partition of the transaction's zone and claim; NONE: refused. */
static int need_partition(struct run *run, const struct vdc_id *id)
{
    if (!need_zone(run)) {
        return NONE;
    }
    int p = model_find_partition(run->m, id);
    if (p == NONE) {
        (void)refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_PARTITION, 0, 0);
        return NONE;
    }
    if (run->s->partitions[p].zone != run->zone) {
        (void)refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0);
        return NONE;
    }
    if (!vdc_id_equal(&run->s->partitions[p].claim, &run->tx->claim)) {
        (void)refuse(run, VDC_RC_CONFLICT, VDC_RULE_CLAIMED, 0, 0);
        return NONE;
    }
    return p;
}

static int need_guarded(struct run *run, const struct vdc_id *id, uint64_t generation)
{
    int p = need_partition(run, id);
    if (p != NONE && run->s->partitions[p].as.generation != generation) {
        (void)refuse(run, VDC_RC_STALE, VDC_RULE_GENERATION, generation,
                     run->s->partitions[p].as.generation);
        return NONE;
    }
    return p;
}

static void touch(struct run *run, int partition)
{
    run->m->touched[partition] = true;
}

/* --- the machine and its zones --- */

static bool apply_inventory_set(struct run *run, const struct vdc_op_inventory_set *set)
{
    struct model *m = run->m;
    struct model_state *s = run->s;
    if (run->tx->role != VDC_ROLE_SYSTEM || run->zone != NODE) {
        return refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ROLE, 0, 0);
    }
    struct model_cpu cpus[MODEL_CPUS_MAX];
    VDC_ASSERT(set->cpus_len <= MODEL_CPUS_MAX);
    for (int c = 0; c < s->cpus_len; c++) {
        bool stays = false;
        for (uint32_t i = 0; i < set->cpus_len; i++) {
            stays = stays || set->cpus[i].number == s->cpus[c].info.number;
        }
        if (!stays && (s->cpus[c].zone != NODE || s->cpus[c].owner != NONE)) {
            return refuse(run, VDC_RC_CONFLICT, VDC_RULE_IN_USE, s->cpus[c].info.number, 0);
        }
    }
    uint64_t after = 0;
    for (uint32_t i = 0; i < set->numa_len; i++) {
        after += set->numa[i].memory_bytes;
    }
    for (int n = 0; n < m->numas_len; n++) {
        uint64_t kept = 0;
        for (uint32_t i = 0; i < set->numa_len; i++) {
            kept = set->numa[i].number == m->numas[n].number ? set->numa[i].memory_bytes : kept;
        }
        if (kept < m->numas[n].bytes &&
            !memory_is(&m->numas[n], kept, m->numas[n].bytes - kept, 0)) {
            return refuse(run, VDC_RC_CONFLICT, VDC_RULE_IN_USE, kept, m->numas[n].bytes);
        }
    }
    uint64_t spare = s->zones[NODE].memory_bytes - model_memory_used(m, NODE);
    if (after < s->memory_bytes && s->memory_bytes - after > spare) {
        return refuse(run, VDC_RC_CONFLICT, VDC_RULE_SLICE_MEMORY, s->memory_bytes - after, spare);
    }
    for (uint32_t i = 0; i < set->cpus_len; i++) {
        int old = model_find_cpu(m, set->cpus[i].number);
        cpus[i] = (struct model_cpu){.info = set->cpus[i],
                                     .zone = old == NONE ? NODE : s->cpus[old].zone,
                                     .owner = old == NONE ? NONE : s->cpus[old].owner};
    }
    memcpy(s->cpus, cpus, set->cpus_len * sizeof(cpus[0]));
    s->cpus_len = (int)set->cpus_len;
    if (model_shared_used(m, NODE) > model_capacity(m, NODE)) {
        return refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_POOL, model_shared_used(m, NODE),
                      model_capacity(m, NODE));
    }
    /* The only operation of its transaction: nothing takes this back. */
    memory_replace(m, set->numa, set->numa_len);
    s->zones[NODE].memory_bytes += after - s->memory_bytes;
    s->memory_bytes = after;
    return true;
}

static uint64_t share_of(const struct vdc_share *share, uint64_t whole)
{
    return share->milli != 0 ? whole * share->milli / 1000 : share->amount;
}

/* The zone's CPUs are to be `wants`. */
static bool set_zone_cpus(struct run *run, const bool *wants)
{
    for (int c = 0; c < run->s->cpus_len; c++) {
        struct model_cpu *cpu = &run->s->cpus[c];
        if (wants[c] == (cpu->zone == run->zone)) {
            continue;
        }
        if (cpu->owner != NONE || (wants[c] && cpu->zone != NODE)) {
            return refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_BUSY, cpu->info.number, 0);
        }
        cpu->zone = wants[c] ? run->zone : NODE;
    }
    return true;
}

static bool judge_pools(struct run *run)
{
    struct model *m = run->m;
    if (model_shared_used(m, run->zone) > model_capacity(m, run->zone)) {
        return refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_POOL, model_shared_used(m, run->zone),
                      model_capacity(m, run->zone));
    }
    if (model_shared_used(m, NODE) > model_capacity(m, NODE)) {
        return refuse(run, VDC_RC_NO_SPACE, VDC_RULE_SLICE_CPU, model_shared_used(m, NODE),
                      model_capacity(m, NODE));
    }
    return true;
}

/* A number of CPUs: the highest free ones go, the lowest free ones come. False: not possible. */
static bool resolve_zone_cpus(struct run *run, uint64_t wanted, bool *wants)
{
    uint64_t have = model_count_cpus(run->m, run->zone);
    for (int c = run->s->cpus_len - 1; c >= 0; c--) {
        wants[c] = run->s->cpus[c].zone == run->zone;
        if (wants[c] && run->s->cpus[c].owner == NONE && have > wanted) {
            wants[c] = false;
            have--;
        }
    }
    for (int c = 0; c < run->s->cpus_len; c++) {
        if (cpu_is_free(run->m, c, NODE, NONE) && have < wanted) {
            wants[c] = true;
            have++;
        }
    }
    return have == wanted || refuse(run, VDC_RC_NO_SPACE, VDC_RULE_SLICE_CPU, wanted, have);
}

static bool apply_zone_set(struct run *run, const struct vdc_op_zone_set *set)
{
    struct model_state *s = run->s;
    bool wants[MODEL_CPUS_MAX] = {0};
    if (run->zone == NODE) {
        return refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0);
    }
    if (run->zone == NONE) {
        if (s->zones_len == VDC_ALLOCDB_ZONES_MAX) {
            return refuse(run, VDC_RC_LIMIT, VDC_RULE_LIMIT, VDC_ALLOCDB_ZONES_MAX + 1,
                          VDC_ALLOCDB_ZONES_MAX);
        }
        run->zone = s->zones_len++;
        s->zones[run->zone] = (struct model_zone){0};
        vdc_str_set(s->zones[run->zone].name, VDC_NAME_CAP, run->tx->zone);
    }
    struct model_zone *zone = &s->zones[run->zone];
    zone->joined = true;
    zone->overcommit = set->overcommit_milli;
    zone->cpu_share = set->cpu;
    zone->memory_share = set->memory;
    uint32_t at = 0;
    if (set->cpus_len == 0 &&
        !resolve_zone_cpus(run, share_of(&set->cpu, (uint64_t)s->cpus_len), wants)) {
        return false;
    }
    for (int c = 0; c < s->cpus_len && at < set->cpus_len; c++) {
        /* The list is looked through in step with the CPUs: behind an unknown one nothing counts. */
        wants[c] = set->cpus[at] == s->cpus[c].info.number;
        at += wants[c];
    }
    if (!set_zone_cpus(run, wants)) {
        return false;
    }
    if (at < set->cpus_len) {
        return refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CPU, set->cpus[at], 0);
    }
    if (!judge_pools(run)) {
        return false;
    }
    uint64_t wanted = share_of(&set->memory, s->memory_bytes) / PAGE * PAGE;
    uint64_t used = model_memory_used(run->m, run->zone);
    uint64_t spare = s->zones[NODE].memory_bytes - model_memory_used(run->m, NODE);
    if (wanted < used) {
        return refuse(run, VDC_RC_CONFLICT, VDC_RULE_IN_USE, wanted, used);
    }
    if (wanted > zone->memory_bytes && wanted - zone->memory_bytes > spare) {
        return refuse(run, VDC_RC_NO_SPACE, VDC_RULE_SLICE_MEMORY, wanted - zone->memory_bytes,
                      spare);
    }
    s->zones[NODE].memory_bytes = s->zones[NODE].memory_bytes + zone->memory_bytes - wanted;
    zone->memory_bytes = wanted;
    return true;
}

static bool apply_zone_leave(struct run *run)
{
    struct model_state *s = run->s;
    if (!need_zone(run)) {
        return false;
    }
    if (run->zone == NODE) {
        return refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0);
    }
    uint32_t partitions = model_count_partitions(run->m, run->zone);
    if (partitions > 0) {
        return refuse(run, VDC_RC_CONFLICT, VDC_RULE_IN_USE, 0, partitions);
    }
    struct model_zone *zone = &s->zones[run->zone];
    for (int c = 0; c < s->cpus_len; c++) {
        s->cpus[c].zone = s->cpus[c].zone == run->zone ? NODE : s->cpus[c].zone;
    }
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        if (is_entry(run->m, e, VDC_ENTRY_DEVICE) && s->entries[e].zone == run->zone) {
            s->entries[e].zone = NODE;
            run->m->touched_entry[e] = true;
        }
    }
    s->zones[NODE].memory_bytes += zone->memory_bytes;
    zone->memory_bytes = 0;
    zone->joined = false;
    zone->overcommit = 1000;
    zone->cpu_share = (struct vdc_share){0};
    zone->memory_share = (struct vdc_share){0};
    return true;
}

static bool apply_zone_epoch(struct run *run)
{
    if (run->zone == NONE) {
        return need_zone(run);
    }
    return run->zone != NODE || refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0);
}

static bool apply_incarnation_set(struct run *run, uint64_t incarnation)
{
    if (!need_zone(run)) {
        return false;
    }
    struct model_zone *zone = &run->s->zones[run->zone];
    if (incarnation <= zone->incarnation) {
        return refuse(run, VDC_RC_STALE, VDC_RULE_INCARNATION, incarnation, zone->incarnation);
    }
    zone->incarnation = incarnation;
    return true;
}

/* --- entries --- */

/* Entries have places of their own that are never moved, so that a channel's pages know it. */
static struct model_entry *entry_make(struct run *run, enum vdc_entry_kind kind, int zone,
                                      int owner, int peer)
{
    int e = 0;
    while (run->s->entries[e].exists) {
        e++;
        VDC_ASSERT(e < MODEL_ENTRIES_MAX);
    }
    struct model_entry *entry = &run->s->entries[e];
    *entry = (struct model_entry){
        .exists = true, .kind = kind, .zone = zone, .owner = owner, .peer = peer};
    run->m->touched_entry[e] = true;
    if (owner != NONE) {
        touch(run, owner);
    }
    if (peer != NONE) {
        touch(run, peer);
    }
    return entry;
}

static void entry_end(struct run *run, int e)
{
    struct model_entry *entry = &run->s->entries[e];
    if (entry->owner != NONE) {
        touch(run, entry->owner);
    }
    if (entry->peer != NONE) {
        touch(run, entry->peer);
    }
    if (entry->kind == VDC_ENTRY_CHANNEL) {
        memory_drop(run->m, (uint16_t)(OWNER_CHANNEL + e));
    }
    entry->exists = false;
}

static bool judge_machine(struct run *run)
{
    return (run->tx->role == VDC_ROLE_SYSTEM && run->zone == NODE) ||
           refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ROLE, 0, 0);
}

static bool apply_device_add(struct run *run, const struct vdc_op_device_add *add)
{
    if (!judge_machine(run)) {
        return false;
    }
    if (model_find_device(run->m, add->address) != NONE) {
        return refuse(run, VDC_RC_EXISTS, VDC_RULE_DEVICE_EXISTS, 0, 0);
    }
    entry_make(run, VDC_ENTRY_DEVICE, NODE, NONE, NONE)->device = *add;
    return true;
}

/* NONE: refused. */
static int need_device(struct run *run, const char *address)
{
    int e = model_find_device(run->m, address);
    if (e == NONE) {
        (void)refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_DEVICE, 0, 0);
    }
    return e;
}

static int need_free_device(struct run *run, const char *address)
{
    int e = need_device(run, address);
    if (e != NONE && (run->s->entries[e].zone != run->zone || run->s->entries[e].owner != NONE)) {
        (void)refuse(run, VDC_RC_CONFLICT, VDC_RULE_DEVICE_BUSY, 1, 0);
        return NONE;
    }
    return e;
}

static bool apply_device_remove(struct run *run, const struct vdc_op_device_remove *remove)
{
    int e = judge_machine(run) ? need_free_device(run, remove->address) : NONE;
    if (e != NONE) {
        entry_end(run, e);
    }
    return e != NONE;
}

static bool apply_device_attach(struct run *run, const struct vdc_op_device_attach *attach)
{
    int p = need_partition(run, &attach->id);
    int e = p == NONE ? NONE : need_free_device(run, attach->address);
    if (e == NONE) {
        return false;
    }
    run->s->entries[e].owner = p;
    run->m->touched_entry[e] = true;
    touch(run, p);
    return true;
}

static bool apply_device_detach(struct run *run, const struct vdc_op_device_attach *detach)
{
    int p = need_partition(run, &detach->id);
    int e = p == NONE ? NONE : need_device(run, detach->address);
    if (e == NONE) {
        return false;
    }
    if (run->s->entries[e].owner != p) {
        return refuse(run, VDC_RC_CONFLICT, VDC_RULE_DEVICE_BUSY, 1, 0);
    }
    run->s->entries[e].owner = NONE;
    run->m->touched_entry[e] = true;
    touch(run, p);
    return true;
}

static bool apply_volume_attach(struct run *run, const struct vdc_op_volume_attach *attach)
{
    int p = need_guarded(run, &attach->id, attach->generation);
    if (p == NONE) {
        return false;
    }
    uint64_t others = 0;
    bool written = false;
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        const struct model_entry *entry = &run->s->entries[e];
        if (is_entry(run->m, e, VDC_ENTRY_VOLUME) && entry->owner != p &&
            vdc_id_equal(&entry->volume.volume, &attach->volume)) {
            others++;
            written = written || entry->volume.mode == VDC_VOLUME_WRITE;
        }
    }
    if (written || (others > 0 && attach->mode == VDC_VOLUME_WRITE)) {
        return refuse(run, VDC_RC_CONFLICT, VDC_RULE_VOLUME_BUSY, 1, others);
    }
    int old = model_find_volume(run->m, &attach->volume, p);
    if (old != NONE) {
        entry_end(run, old);
    }
    entry_make(run, VDC_ENTRY_VOLUME, run->zone, p, NONE)->volume = *attach;
    return true;
}

static bool apply_volume_detach(struct run *run, const struct vdc_op_volume_detach *detach)
{
    int p = need_partition(run, &detach->id);
    if (p == NONE) {
        return false;
    }
    int e = model_find_volume(run->m, &detach->volume, p);
    if (e == NONE) {
        return refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_VOLUME, 0, 0);
    }
    entry_end(run, e);
    return true;
}

static bool apply_port_connect(struct run *run, const struct vdc_op_port_connect *connect)
{
    int p = need_partition(run, &connect->id);
    if (p == NONE) {
        return false;
    }
    for (int e = 0; e < MODEL_ENTRIES_MAX; e++) {
        const struct vdc_op_port_connect *port = &run->s->entries[e].port;
        if (is_entry(run->m, e, VDC_ENTRY_PORT) &&
            (memcmp(port->mac, connect->mac, 6) == 0 || strcmp(port->name, connect->name) == 0)) {
            return refuse(run, VDC_RC_CONFLICT, VDC_RULE_PORT_BUSY, 1, 0);
        }
    }
    entry_make(run, VDC_ENTRY_PORT, run->zone, p, NONE)->port = *connect;
    return true;
}

static bool apply_port_disconnect(struct run *run, const struct vdc_op_port_disconnect *disconnect)
{
    int p = need_partition(run, &disconnect->id);
    if (p == NONE) {
        return false;
    }
    int e = model_find_port(run->m, disconnect->mac);
    if (e == NONE || run->s->entries[e].owner != p) {
        return refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_PORT, 0, 0);
    }
    entry_end(run, e);
    return true;
}

/* The second end of a channel; NONE: refused. */
static int need_peer(struct run *run, const struct vdc_id *id)
{
    int p = model_find_partition(run->m, id);
    if (p == NONE) {
        (void)refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_PARTITION, 0, 0);
        return NONE;
    }
    const struct model_partition *peer = &run->s->partitions[p];
    if (peer->zone != run->zone && peer->zone != NODE) {
        (void)refuse(run, VDC_RC_CONFLICT, VDC_RULE_CHANNEL_ENDPOINT, 0, 0);
        return NONE;
    }
    if (!vdc_id_is_none(&peer->claim) && !vdc_id_equal(&peer->claim, &run->tx->claim)) {
        (void)refuse(run, VDC_RC_CONFLICT, VDC_RULE_CLAIMED, 0, 0);
        return NONE;
    }
    return p;
}

static bool refuse_slice(struct run *run, uint64_t bytes)
{
    uint64_t left = run->s->zones[run->zone].memory_bytes - model_memory_used(run->m, run->zone);
    return bytes <= left || refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_SLICE, bytes, left);
}

static bool take_for_channel(struct run *run, const struct vdc_op_channel_connect *connect,
                             uint16_t owner)
{
    struct model *m = run->m;
    for (uint32_t i = 0; i < connect->blocks_len; i++) {
        const struct vdc_memory_block *block = &connect->blocks[i];
        int n = model_find_numa(m, block->numa);
        if (n == NONE) {
            return refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, block->numa, 0);
        }
        if (!memory_is(&m->numas[n], block->addr, block->bytes, 0)) {
            return refuse(run, VDC_RC_CONFLICT, VDC_RULE_MEMORY_BUSY, block->bytes, 0);
        }
        memory_set(m, n, block->addr, block->bytes, owner);
    }
    if (connect->blocks_len > 0) {
        return true;
    }
    int only = connect->numa == VDC_NUMA_ANY ? NONE : model_find_numa(m, connect->numa);
    if (connect->numa != VDC_NUMA_ANY && only == NONE) {
        return refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, connect->numa, 0);
    }
    uint64_t most = 0;
    uint64_t largest = 0;
    for (int n = 0; n < m->numas_len; n++) {
        if (only != NONE && n != only) {
            continue;
        }
        uint64_t here = memory_free(&m->numas[n], PAGE);
        if (here >= connect->bytes) {
            for (uint64_t left = connect->bytes; left > 0;) {
                uint64_t addr;
                left -= memory_take(m, n, left, PAGE, owner, &addr);
            }
            uint32_t runs = memory_runs(m, owner, NULL, 0);
            return runs <= VDC_CHANNEL_BLOCKS_MAX ||
                   refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_FRAGMENTED, runs,
                          VDC_CHANNEL_BLOCKS_MAX);
        }
        most = VDC_MAX(most, here);
        largest = VDC_MAX(largest, memory_largest(&m->numas[n]));
    }
    run->answer.largest = largest;
    return refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_FREE, connect->bytes, most);
}

static bool apply_channel_connect(struct run *run, const struct vdc_op_channel_connect *connect)
{
    int p = need_partition(run, &connect->endpoint[0]);
    int peer = p == NONE ? NONE : need_peer(run, &connect->endpoint[1]);
    if (peer == NONE) {
        return false;
    }
    if (model_find_channel(run->m, &connect->channel) != NONE) {
        return refuse(run, VDC_RC_EXISTS, VDC_RULE_CHANNEL_EXISTS, 0, 0);
    }
    if (!refuse_slice(run, connect->bytes)) {
        return false;
    }
    struct model_entry *entry = entry_make(run, VDC_ENTRY_CHANNEL, run->zone, p, peer);
    entry->channel = *connect;
    entry->channel.blocks = NULL;
    return take_for_channel(run, connect, (uint16_t)(OWNER_CHANNEL + (entry - run->s->entries)));
}

static bool apply_channel_disconnect(struct run *run, const struct vdc_id *id)
{
    if (!need_zone(run)) {
        return false;
    }
    int e = model_find_channel(run->m, id);
    if (e == NONE) {
        return refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CHANNEL, 0, 0);
    }
    if (run->s->entries[e].zone != run->zone) {
        return refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0);
    }
    if (!vdc_id_is_none(&run->s->partitions[run->s->entries[e].owner].claim)) {
        return refuse(run, VDC_RC_CONFLICT, VDC_RULE_CLAIMED, 0, 0);
    }
    entry_end(run, e);
    return true;
}

static bool apply_promise(struct run *run, const struct vdc_op_fence_promise *promise)
{
    if (!need_zone(run)) {
        return false;
    }
    if (run->zone == NODE) {
        return refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0);
    }
    int old = model_find_promise(run->m, run->zone, promise->node);
    uint64_t last = old == NONE ? 0 : run->s->entries[old].promise.incarnation;
    if (promise->incarnation <= last) {
        return refuse(run, VDC_RC_STALE, VDC_RULE_PROMISE, promise->incarnation, last);
    }
    if (old != NONE) {
        entry_end(run, old);
    }
    entry_make(run, VDC_ENTRY_PROMISE, run->zone, NONE, NONE)->promise = *promise;
    return true;
}

static bool apply_zone_transfer(struct run *run, const struct vdc_op_zone_transfer *transfer)
{
    struct model_state *s = run->s;
    if (!need_zone(run)) {
        return false;
    }
    int to = model_find_zone(run->m, transfer->to);
    if (to == NONE || !s->zones[to].joined) {
        return refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_ZONE, 0, 0);
    }
    if (to == run->zone) {
        return refuse(run, VDC_RC_INVALID, VDC_RULE_ZONE, 0, 0);
    }
    for (uint32_t i = 0; i < transfer->cpus_len; i++) {
        int c = model_find_cpu(run->m, transfer->cpus[i]);
        if (c == NONE) {
            return refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CPU, transfer->cpus[i], 0);
        }
        if (!cpu_is_free(run->m, c, run->zone, NONE)) {
            return refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_BUSY, transfer->cpus[i], 0);
        }
        s->cpus[c].zone = to;
    }
    uint64_t used = model_shared_used(run->m, run->zone);
    if (used > model_capacity(run->m, run->zone)) {
        return refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_POOL, used,
                      model_capacity(run->m, run->zone));
    }
    if (!refuse_slice(run, transfer->memory_bytes)) {
        return false;
    }
    s->zones[run->zone].memory_bytes -= transfer->memory_bytes;
    s->zones[to].memory_bytes += transfer->memory_bytes;
    if (transfer->device[0] != 0) {
        int e = need_free_device(run, transfer->device);
        if (e == NONE) {
            return false;
        }
        s->entries[e].zone = to;
        run->m->touched_entry[e] = true;
    }
    const int both[2] = {run->zone, to};
    for (int i = 0; i < 2; i++) {
        struct model_zone *zone = &s->zones[both[i]];
        if (both[i] != NODE && transfer->cpus_len > 0) {
            zone->cpu_share = (struct vdc_share){.amount = model_count_cpus(run->m, both[i])};
        }
        if (both[i] != NODE && transfer->memory_bytes > 0) {
            zone->memory_share = (struct vdc_share){.amount = zone->memory_bytes};
        }
    }
    return true;
}

/* --- partitions --- */

static bool apply_create(struct run *run, const struct vdc_op_partition_create *create)
{
    if (!need_zone(run)) {
        return false;
    }
    int other = model_find_partition(run->m, &create->id);
    if (other != NONE) {
        return refuse(run, VDC_RC_EXISTS, VDC_RULE_PARTITION_EXISTS, create->generation,
                      run->s->partitions[other].as.generation);
    }
    int p = 0;
    while (run->s->partitions[p].exists) {
        p++;
        VDC_ASSERT(p < MODEL_PARTITIONS_MAX);
    }
    run->s->partitions[p] = (struct model_partition){
        .exists = true, .as = *create, .zone = run->zone, .claim = run->tx->claim};
    touch(run, p);
    return true;
}

static void drop_partition(struct run *run, int p)
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
            entry_end(run, e);
        }
    }
    memory_drop(run->m, (uint16_t)(1 + p));
    run->s->partitions[p].exists = false;
}

static bool apply_change(struct run *run, const struct vdc_op *op)
{
    int p = NONE;
    if (op->kind == VDC_OP_PARTITION_SET_RUN) {
        p = need_guarded(run, &op->partition_set_run.id, op->partition_set_run.generation);
    } else if (op->kind == VDC_OP_PARTITION_SET_GENERATION) {
        p = need_guarded(run, &op->partition_set_generation.id,
                         op->partition_set_generation.generation);
    } else if (op->kind == VDC_OP_PARTITION_SET_CONFIG) {
        p = need_guarded(run, &op->partition_set_config.id, op->partition_set_config.generation);
    } else {
        p = need_guarded(run, &op->partition_destroy.id, op->partition_destroy.generation);
    }
    if (p == NONE) {
        return false;
    }
    struct vdc_op_partition_create *as = &run->s->partitions[p].as;
    touch(run, p);
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

/* --- CPUs --- */

static bool same_core(const struct model_cpu *a, const struct model_cpu *b)
{
    return a->info.socket == b->info.socket && a->info.core == b->info.core;
}

/* Whether c is the lowest-numbered CPU of its core, and the whole core is free in the zone. */
static bool begins_free_core(const struct model *m, int c, int zone)
{
    for (int i = 0; i < m->now.cpus_len; i++) {
        if (same_core(&m->now.cpus[i], &m->now.cpus[c]) &&
            (i < c || !cpu_is_free(m, i, zone, NONE))) {
            return false;
        }
    }
    return true;
}

/* Lists free CPUs of the NUMA node (NONE: of all), lowest first, until there are `wanted`; whole
 * cores are not broken. */
static uint32_t list_cpus(const struct run *run, int numa, uint32_t wanted, bool whole,
                          bool listed[MODEL_CPUS_MAX])
{
    const struct model *m = run->m;
    uint32_t found = 0;
    for (int c = 0; c < m->now.cpus_len && found < wanted; c++) {
        if (!cpu_is_free(m, c, run->zone, numa) || (whole && !begins_free_core(m, c, run->zone))) {
            continue;
        }
        for (int i = 0; i < m->now.cpus_len; i++) {
            bool take = whole ? same_core(&m->now.cpus[i], &m->now.cpus[c]) : i == c;
            found += take && !listed[i];
            listed[i] = listed[i] || take;
        }
    }
    return found;
}

static bool refuse_cpus(struct run *run, const struct vdc_op_cpu_assign *assign,
                        enum vdc_tx_rule rule, uint32_t asked, uint32_t found)
{
    return refuse(run, VDC_RC_NO_SPACE, assign->whole_cores ? VDC_RULE_CPU_CORE : rule, asked,
                  found);
}

/* The NUMA node that is asked for; false: refused. */
static bool need_numa(struct run *run, uint32_t number, int *numa)
{
    *numa = number == VDC_NUMA_ANY ? NONE : model_find_numa(run->m, number);
    return number == VDC_NUMA_ANY || *numa != NONE ||
           refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, number, 0);
}

static bool need_nodes(struct run *run, uint64_t nodes)
{
    for (uint32_t number = 0; number < VDC_NUMA_NODES_MAX; number++) {
        int ignored;
        if ((nodes >> number & 1) != 0 && !need_numa(run, number, &ignored)) {
            return false;
        }
    }
    return true;
}

static uint32_t count_bits(uint64_t bits)
{
    uint32_t count = 0;
    for (; bits != 0; bits >>= 1) {
        count += (uint32_t)(bits & 1);
    }
    return count;
}

static bool list_of_one(struct run *run, const struct vdc_op_cpu_assign *assign, int only,
                        bool *listed)
{
    uint32_t most = 0;
    for (int n = 0; n < run->m->numas_len; n++) {
        if (only != NONE && n != only) {
            continue;
        }
        memset(listed, 0, MODEL_CPUS_MAX * sizeof(listed[0]));
        uint32_t found = list_cpus(run, n, assign->any, assign->whole_cores, listed);
        if (found >= assign->any) {
            return true;
        }
        most = VDC_MAX(most, found);
    }
    return refuse_cpus(run, assign, VDC_RULE_LOCALITY, assign->any, most);
}

static bool list_of_all(struct run *run, const struct vdc_op_cpu_assign *assign, int first,
                        bool *listed)
{
    uint32_t found = 0;
    if (first != NONE) {
        found = list_cpus(run, first, assign->any, assign->whole_cores, listed);
    }
    for (int n = 0; n < run->m->numas_len && found < assign->any; n++) {
        if (n != first) {
            found += list_cpus(run, n, assign->any - found, assign->whole_cores, listed);
        }
    }
    return found >= assign->any || refuse_cpus(run, assign, VDC_RULE_CPU_FREE, assign->any, found);
}

static bool list_of_set(struct run *run, const struct vdc_op_cpu_assign *assign, bool *listed)
{
    uint32_t count = count_bits(assign->nodes);
    uint32_t nth = 0;
    if (!need_nodes(run, assign->nodes)) {
        return false;
    }
    for (int n = 0; n < run->m->numas_len; n++) {
        if ((assign->nodes >> run->m->numas[n].number & 1) == 0) {
            continue;
        }
        uint32_t part = assign->any / count + (nth < assign->any % count);
        uint32_t found = list_cpus(run, n, part, assign->whole_cores, listed);
        if (found < part) {
            return refuse_cpus(run, assign, VDC_RULE_LOCALITY, part, found);
        }
        nth++;
    }
    return true;
}

static bool resolve_cpus(struct run *run, const struct vdc_op_cpu_assign *assign, bool *listed)
{
    int numa;
    if (!need_numa(run, assign->numa, &numa)) {
        return false;
    }
    switch (assign->locality) {
    case VDC_LOCALITY_DEFAULT:
        if (!assign->whole_cores) {
            uint32_t here = model_count_free_cpus(run->m, run->zone, numa);
            (void)list_cpus(run, numa, assign->any, false, listed);
            return assign->any <= here ||
                   refuse(run, VDC_RC_NO_SPACE, VDC_RULE_CPU_FREE, assign->any, here);
        }
        return numa == NONE ? list_of_all(run, assign, NONE, listed)
                            : list_of_one(run, assign, numa, listed);
    case VDC_LOCALITY_STRICT:
        return list_of_one(run, assign, numa, listed);
    case VDC_LOCALITY_PREFERRED:
        return list_of_all(run, assign, numa, listed);
    case VDC_LOCALITY_SPANNING:
        return list_of_set(run, assign, listed);
    }
    return false;
}

static bool node_fits(enum vdc_locality locality, uint32_t numa, uint64_t nodes, uint32_t first,
                      uint32_t number)
{
    if (locality == VDC_LOCALITY_STRICT) {
        return number == (numa == VDC_NUMA_ANY ? first : numa);
    }
    return locality != VDC_LOCALITY_SPANNING || (nodes >> number & 1) != 0;
}

static bool judge_cores(struct run *run, int p, const uint16_t *cpus, uint32_t len, int c)
{
    int count = run->s->cpus_len;
    for (int step = 1; step < count; step++) {
        int other = (c + step) % count;
        const struct model_cpu *cpu = &run->s->cpus[other];
        bool listed = cpu->owner == p;
        for (uint32_t i = 0; i < len; i++) {
            listed = listed || cpus[i] == cpu->info.number;
        }
        if (same_core(cpu, &run->s->cpus[c]) && !listed) {
            return refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_CORE, run->s->cpus[c].info.number,
                          cpu->info.number);
        }
    }
    return true;
}

static bool judge_cpu_place(struct run *run, int p, const struct vdc_op_cpu_assign *assign,
                            const uint16_t *cpus, uint32_t len)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < len; i++) {
        int c = model_find_cpu(run->m, cpus[i]);
        if (c == NONE) {
            return true; /* refused as unknown when it is assigned */
        }
        uint32_t number = run->s->cpus[c].info.numa;
        first = i == 0 ? number : first;
        if (!node_fits(assign->locality, assign->numa, assign->nodes, first, number)) {
            return refuse(run, VDC_RC_CONFLICT, VDC_RULE_LOCALITY, cpus[i], number);
        }
        if (assign->whole_cores && !judge_cores(run, p, cpus, len, c)) {
            return false;
        }
    }
    return true;
}

static bool assign_cpus(struct run *run, int p, const uint16_t *cpus, uint32_t len)
{
    struct model *m = run->m;
    if (run->s->partitions[p].shared > 0) {
        return refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, len, run->s->partitions[p].shared);
    }
    uint32_t pool = model_count_free_cpus(m, run->zone, NONE);
    uint64_t left = len >= pool ? 0 : (uint64_t)(pool - len) * run->s->zones[run->zone].overcommit;
    for (uint32_t i = 0; i < len; i++) {
        int c = model_find_cpu(m, cpus[i]);
        if (c == NONE) {
            return refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CPU, cpus[i], 0);
        }
        if (!cpu_is_free(m, c, run->zone, NONE)) {
            return refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_BUSY, cpus[i], 0);
        }
        run->s->cpus[c].owner = p;
        touch(run, p);
    }
    uint64_t used = model_shared_used(m, run->zone);
    return used <= left || refuse(run, VDC_RC_NO_SPACE, VDC_RULE_CPU_POOL, used, left);
}

static bool assign_share(struct run *run, int p, uint32_t milli)
{
    struct model_partition *partition = &run->s->partitions[p];
    uint32_t held = model_count_held_cpus(run->m, p);
    if (held > 0 || partition->shared + milli > VDC_VCPUS_MAX * 1000) {
        return refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, milli, held);
    }
    uint64_t left = model_capacity(run->m, run->zone) - model_shared_used(run->m, run->zone);
    if (milli > left) {
        return refuse(run, VDC_RC_NO_SPACE, VDC_RULE_CPU_POOL, milli, left);
    }
    partition->shared += milli;
    touch(run, p);
    return true;
}

static bool apply_cpu_assign(struct run *run, const struct vdc_op_cpu_assign *assign)
{
    int p = need_partition(run, &assign->id);
    if (p == NONE) {
        return false;
    }
    if (assign->shared_milli > 0) {
        return assign_share(run, p, assign->shared_milli);
    }
    uint16_t chosen[MODEL_CPUS_MAX];
    const uint16_t *cpus = assign->cpus;
    uint32_t len = assign->cpus_len;
    if (assign->any > 0) {
        bool listed[MODEL_CPUS_MAX] = {0};
        if (!resolve_cpus(run, assign, listed)) {
            return false;
        }
        cpus = chosen;
        len = 0;
        for (int c = 0; c < run->s->cpus_len; c++) {
            if (listed[c]) {
                chosen[len++] = run->s->cpus[c].info.number;
            }
        }
    }
    bool places = assign->locality != VDC_LOCALITY_DEFAULT || assign->whole_cores;
    return (!places || judge_cpu_place(run, p, assign, cpus, len)) &&
           assign_cpus(run, p, cpus, len);
}

static bool apply_cpu_release(struct run *run, const struct vdc_op_cpu_release *release)
{
    int p = need_partition(run, &release->id);
    if (p == NONE) {
        return false;
    }
    struct model_partition *partition = &run->s->partitions[p];
    if (release->cpus_len == 0 && release->shared_milli == 0) {
        for (int c = 0; c < run->s->cpus_len; c++) {
            if (run->s->cpus[c].owner == p) {
                run->s->cpus[c].owner = NONE;
                touch(run, p);
            }
        }
        run->m->touched[p] = run->m->touched[p] || partition->shared > 0;
        partition->shared = 0;
        return true;
    }
    if (release->shared_milli > partition->shared) {
        return refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, release->shared_milli,
                      partition->shared);
    }
    partition->shared -= release->shared_milli;
    for (uint32_t i = 0; i < release->cpus_len; i++) {
        int c = model_find_cpu(run->m, release->cpus[i]);
        if (c == NONE || run->s->cpus[c].owner != p) {
            return refuse(run, VDC_RC_CONFLICT, VDC_RULE_CPU_FORM, release->cpus[i], 0);
        }
        run->s->cpus[c].owner = NONE;
    }
    touch(run, p);
    return true;
}

/* --- memory --- */

static uint64_t page_of(const struct run *run, int p)
{
    return run->s->partitions[p].as.kind == VDC_PARTITION_GUEST ? 2 * MIB : PAGE;
}

static bool judge_runs(struct run *run, int p, uint32_t pieces, uint64_t asked)
{
    uint32_t runs = memory_runs(run->m, (uint16_t)(1 + p), NULL, 0);
    return (pieces <= VDC_VIEW_BLOCKS_MAX && runs <= VDC_VIEW_BLOCKS_MAX) ||
           refuse(run, VDC_RC_NO_SPACE, VDC_RULE_MEMORY_FRAGMENTED, asked, VDC_VIEW_BLOCKS_MAX);
}

/* What a demand takes of each NUMA node, by index. */
struct split {
    uint64_t bytes[MODEL_NUMAS_MAX];
    int first; /* is taken from before the others; NONE: they go in order */
};

static bool refuse_memory(struct run *run, enum vdc_tx_rule rule, uint64_t asked, uint64_t there,
                          uint64_t largest)
{
    run->answer.largest = largest;
    return refuse(run, VDC_RC_NO_SPACE, rule, asked, there);
}

/* `first`, then all others in order, each as far as it goes. */
static bool split_over_all(struct run *run, uint64_t bytes, uint64_t page, int first,
                           struct split *split)
{
    const struct model *m = run->m;
    uint64_t there = 0;
    uint64_t largest = 0;
    for (int n = 0; n < m->numas_len; n++) {
        there += memory_free(&m->numas[n], page);
        largest = VDC_MAX(largest, memory_largest(&m->numas[n]));
    }
    if (there < bytes) {
        return refuse_memory(run, VDC_RULE_MEMORY_FREE, bytes, there, largest);
    }
    split->first = first;
    if (first != NONE) {
        split->bytes[first] = VDC_MIN(bytes, memory_free(&m->numas[first], page));
        bytes -= split->bytes[first];
    }
    for (int n = 0; n < m->numas_len; n++) {
        if (n != first) {
            split->bytes[n] = VDC_MIN(bytes, memory_free(&m->numas[n], page));
            bytes -= split->bytes[n];
        }
    }
    return true;
}

/* All of it on `only`, or on the first that has all of it. False with *most, *largest: none has. */
static bool split_on_one(const struct run *run, uint64_t bytes, uint64_t page, int only,
                         struct split *split, uint64_t *most, uint64_t *largest)
{
    *most = 0;
    *largest = 0;
    for (int n = 0; n < run->m->numas_len; n++) {
        const struct model_numa *numa = &run->m->numas[n];
        if (only != NONE && n != only) {
            continue;
        }
        if (memory_free(numa, page) >= bytes) {
            split->bytes[n] = bytes;
            return true;
        }
        *most = VDC_MAX(*most, memory_free(numa, page));
        *largest = VDC_MAX(*largest, memory_largest(numa));
    }
    return false;
}

static bool split_equally(struct run *run, uint64_t bytes, uint64_t page, uint64_t nodes,
                          struct split *split)
{
    uint32_t count = count_bits(nodes);
    uint32_t nth = 0;
    if (!need_nodes(run, nodes)) {
        return false;
    }
    for (int n = 0; n < run->m->numas_len; n++) {
        const struct model_numa *numa = &run->m->numas[n];
        if ((nodes >> numa->number & 1) == 0) {
            continue;
        }
        uint64_t part = (bytes / page / count + (nth < bytes / page % count)) * page;
        if (part > memory_free(numa, page)) {
            return refuse_memory(run, VDC_RULE_LOCALITY, part, memory_free(numa, page),
                                 memory_largest(numa));
        }
        split->bytes[n] = part;
        nth++;
    }
    return true;
}

static bool resolve_memory(struct run *run, int p, const struct vdc_op_memory_assign *assign,
                           struct split *split)
{
    uint64_t page = page_of(run, p);
    uint64_t most;
    uint64_t largest;
    int numa;
    if (!need_numa(run, assign->numa, &numa)) {
        return false;
    }
    switch (assign->locality) {
    case VDC_LOCALITY_DEFAULT:
        if (split_on_one(run, assign->bytes, page, numa, split, &most, &largest)) {
            return true;
        }
        return numa == NONE
                   ? split_over_all(run, assign->bytes, page, NONE, split)
                   : refuse_memory(run, VDC_RULE_MEMORY_FREE, assign->bytes, most, largest);
    case VDC_LOCALITY_STRICT:
        return split_on_one(run, assign->bytes, page, numa, split, &most, &largest) ||
               refuse_memory(run, VDC_RULE_LOCALITY, assign->bytes, most, largest);
    case VDC_LOCALITY_PREFERRED:
        return split_over_all(run, assign->bytes, page, numa, split);
    case VDC_LOCALITY_SPANNING:
        return split_equally(run, assign->bytes, page, assign->nodes, split);
    }
    return false;
}

/* Each piece is judged, one that goes on behind the one before is not another. */
static bool take_of_numa(struct run *run, int p, int numa, uint64_t bytes, uint32_t *pieces)
{
    uint64_t end = UINT64_MAX;
    for (uint64_t left = bytes; left > 0;) {
        uint64_t addr;
        uint64_t taken = memory_take(run->m, numa, left, page_of(run, p), (uint16_t)(1 + p), &addr);
        *pieces += addr != end;
        end = addr + taken;
        left -= taken;
        if (!judge_runs(run, p, *pieces, bytes)) {
            return false;
        }
    }
    return true;
}

static bool take_split(struct run *run, int p, const struct split *split)
{
    uint32_t pieces = 0;
    if (split->first != NONE &&
        !take_of_numa(run, p, split->first, split->bytes[split->first], &pieces)) {
        return false;
    }
    for (int n = 0; n < run->m->numas_len; n++) {
        if (n != split->first && !take_of_numa(run, p, n, split->bytes[n], &pieces)) {
            return false;
        }
    }
    return true;
}

static bool take_named(struct run *run, int p, const struct vdc_op_memory_assign *assign)
{
    struct model *m = run->m;
    uint64_t page = page_of(run, p);
    for (uint32_t i = 0; i < assign->blocks_len; i++) {
        const struct vdc_memory_block *block = &assign->blocks[i];
        int n = model_find_numa(m, block->numa);
        if (n == NONE) {
            return refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_NUMA, block->numa, 0);
        }
        if (block->addr % page != 0 || block->bytes % page != 0) {
            return refuse(run, VDC_RC_INVALID, VDC_RULE_MEMORY_PAGE, block->bytes, page);
        }
        if (!memory_is(&m->numas[n], block->addr, block->bytes, 0)) {
            return refuse(run, VDC_RC_CONFLICT, VDC_RULE_MEMORY_BUSY, block->bytes, 0);
        }
        memory_set(m, n, block->addr, block->bytes, (uint16_t)(1 + p));
        if (!judge_runs(run, p, 0, assign->bytes)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < assign->blocks_len; i++) {
        uint32_t number = assign->blocks[i].numa;
        if (!node_fits(assign->locality, assign->numa, assign->nodes, assign->blocks[0].numa,
                       number)) {
            return refuse(run, VDC_RC_CONFLICT, VDC_RULE_LOCALITY, assign->blocks[i].bytes, number);
        }
    }
    return true;
}

static bool apply_memory_assign(struct run *run, const struct vdc_op_memory_assign *assign)
{
    int p = need_partition(run, &assign->id);
    if (p == NONE) {
        return false;
    }
    if (assign->bytes % page_of(run, p) != 0) {
        return refuse(run, VDC_RC_INVALID, VDC_RULE_MEMORY_PAGE, assign->bytes, page_of(run, p));
    }
    if (!refuse_slice(run, assign->bytes)) {
        return false;
    }
    struct split split = {.first = NONE};
    bool taken = assign->blocks_len > 0
                     ? take_named(run, p, assign)
                     : resolve_memory(run, p, assign, &split) && take_split(run, p, &split);
    if (taken) {
        run->s->partitions[p].held += assign->bytes;
        touch(run, p);
    }
    return taken;
}

static bool apply_memory_release(struct run *run, const struct vdc_op_memory_release *release)
{
    struct model *m = run->m;
    int p = need_partition(run, &release->id);
    if (p == NONE) {
        return false;
    }
    struct model_partition *partition = &run->s->partitions[p];
    uint64_t page = page_of(run, p);
    if (release->blocks_len == 0) {
        memory_drop(m, (uint16_t)(1 + p));
        m->touched[p] = m->touched[p] || partition->held > 0;
        partition->held = 0;
    }
    for (uint32_t i = 0; i < release->blocks_len; i++) {
        const struct vdc_memory_block *block = &release->blocks[i];
        int n = model_find_numa(m, block->numa);
        if (n == NONE || !memory_is(&m->numas[n], block->addr, block->bytes, (uint16_t)(1 + p))) {
            return refuse(run, VDC_RC_CONFLICT, VDC_RULE_MEMORY_BUSY, block->bytes, 0);
        }
        if (block->addr % page != 0 || block->bytes % page != 0) {
            return refuse(run, VDC_RC_INVALID, VDC_RULE_MEMORY_PAGE, block->bytes, page);
        }
        memory_set(m, n, block->addr, block->bytes, 0);
        partition->held -= block->bytes;
        touch(run, p);
        if (!judge_runs(run, p, 0, block->bytes)) {
            return false;
        }
    }
    return true;
}

/* --- transactions --- */

static bool apply_op(struct run *run, const struct vdc_op *op)
{
    switch (op->kind) {
    case VDC_OP_INVENTORY_SET:
        return apply_inventory_set(run, &op->inventory_set);
    case VDC_OP_ZONE_SET:
        return apply_zone_set(run, &op->zone_set);
    case VDC_OP_ZONE_LEAVE:
        return apply_zone_leave(run);
    case VDC_OP_ZONE_EPOCH:
        return apply_zone_epoch(run);
    case VDC_OP_INCARNATION_SET:
        return apply_incarnation_set(run, op->incarnation_set.incarnation);
    case VDC_OP_PARTITION_CREATE:
        return apply_create(run, &op->partition_create);
    case VDC_OP_PARTITION_SET_RUN:
    case VDC_OP_PARTITION_SET_GENERATION:
    case VDC_OP_PARTITION_SET_CONFIG:
    case VDC_OP_PARTITION_DESTROY:
        return apply_change(run, op);
    case VDC_OP_CPU_ASSIGN:
        return apply_cpu_assign(run, &op->cpu_assign);
    case VDC_OP_CPU_RELEASE:
        return apply_cpu_release(run, &op->cpu_release);
    case VDC_OP_MEMORY_ASSIGN:
        return apply_memory_assign(run, &op->memory_assign);
    case VDC_OP_MEMORY_RELEASE:
        return apply_memory_release(run, &op->memory_release);
    case VDC_OP_DEVICE_ADD:
        return apply_device_add(run, &op->device_add);
    case VDC_OP_DEVICE_REMOVE:
        return apply_device_remove(run, &op->device_remove);
    case VDC_OP_DEVICE_ATTACH:
        return apply_device_attach(run, &op->device_attach);
    case VDC_OP_DEVICE_DETACH:
        return apply_device_detach(run, &op->device_detach);
    case VDC_OP_VOLUME_ATTACH:
        return apply_volume_attach(run, &op->volume_attach);
    case VDC_OP_VOLUME_DETACH:
        return apply_volume_detach(run, &op->volume_detach);
    case VDC_OP_PORT_CONNECT:
        return apply_port_connect(run, &op->port_connect);
    case VDC_OP_PORT_DISCONNECT:
        return apply_port_disconnect(run, &op->port_disconnect);
    case VDC_OP_CHANNEL_CONNECT:
        return apply_channel_connect(run, &op->channel_connect);
    case VDC_OP_CHANNEL_DISCONNECT:
        return apply_channel_disconnect(run, &op->channel_disconnect.channel);
    case VDC_OP_FENCE_PROMISE:
        return apply_promise(run, &op->fence_promise);
    case VDC_OP_ZONE_TRANSFER:
        return apply_zone_transfer(run, &op->zone_transfer);
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

static bool settle_claim(struct run *run)
{
    int c = run->zone == NONE ? NONE : model_find_claim(run->m, &run->tx->claim);
    if (c == NONE) {
        return refuse(run, VDC_RC_NOT_FOUND, VDC_RULE_UNKNOWN_CLAIM, 0, 0);
    }
    if (run->s->claims[c].zone != run->zone) {
        return refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ZONE, 0, 0);
    }
    for (int p = 0; p < MODEL_PARTITIONS_MAX; p++) {
        struct model_partition *partition = &run->s->partitions[p];
        if (!partition->exists || !vdc_id_equal(&partition->claim, &run->tx->claim)) {
            continue;
        }
        if (run->tx->kind == VDC_TX_COMMIT_CLAIM) {
            partition->claim = (struct vdc_id){0};
            touch(run, p);
        } else {
            drop_partition(run, p);
        }
    }
    run->s->claims[c].exists = false;
    return true;
}

static bool make_claim(struct run *run)
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

static bool apply_ops(struct run *run)
{
    const struct vdc_tx *tx = run->tx;
    run->answer.op = VDC_TX_OP_NONE;
    if (tx->kind == VDC_TX_COMMIT_CLAIM || tx->kind == VDC_TX_ABORT_CLAIM) {
        return settle_claim(run);
    }
    bool prepares = tx->kind == VDC_TX_PREPARE;
    if (prepares && model_find_claim(run->m, &tx->claim) != NONE) {
        return refuse(run, VDC_RC_EXISTS, VDC_RULE_CLAIM_EXISTS, 0, 0);
    }
    for (uint32_t i = 0; i < tx->ops_len; i++) {
        run->answer.op = i;
        if (prepares && !claim_may(tx->ops[i].kind)) {
            return refuse(run, VDC_RC_INVALID, VDC_RULE_CLAIM_OPS, 0, 0);
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
static bool judge(struct run *run, enum vdc_rc form)
{
    const struct vdc_tx *tx = run->tx;
    run->answer.op = VDC_TX_OP_NONE;
    if (form != VDC_RC_OK) {
        return refuse(run, form, VDC_RULE_FORM, 0, 0);
    }
    if (tx->role == VDC_ROLE_IO || tx->role == VDC_ROLE_GUEST ||
        (tx->role == VDC_ROLE_COMMAND && tx->zone[0] == 0)) {
        return refuse(run, VDC_RC_FORBIDDEN, VDC_RULE_ROLE, 0, 0);
    }
    if (find_answer(run->m, &tx->request_id, &run->answer)) {
        return false;
    }
    uint64_t newest = run->zone == NONE ? 0 : run->s->zones[run->zone].epoch;
    return tx->role != VDC_ROLE_COMMAND || tx->epoch >= newest ||
           refuse(run, VDC_RC_STALE, VDC_RULE_EPOCH, tx->epoch, newest);
}

struct model_answer model_commit(struct model *m, const struct vdc_tx *tx, enum vdc_rc form,
                                 bool *recorded)
{
    struct run run = {.m = m, .s = &m->now, .tx = tx, .zone = model_find_zone(m, tx->zone)};
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
