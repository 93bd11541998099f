/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <stdio.h>
#include <string.h>

#include <uthash.h>

#include <vdc/base.h>
#include <vdc/record.h>
#include <vdc/tx.h>

#include "manager.h"
#include "node.h"
#include "plan.h"
#include "store.h"

#define LOOK_NS (250 * VDC_MS)

/* The shared storage of a partition, stamped with the generation of who wrote last. */
struct volume {
    UT_hash_handle hh;
    struct vdc_id partition;
    uint64_t stamp;
    uint64_t version; /* one more each time that somebody began to write */
};

struct acknowledged {
    UT_hash_handle hh;
    char key[VDC_REQUEST_KEY_CAP];
    struct vdc_id operation;
};

struct sim_checks {
    struct sim_world *world;
    struct sim_execution *executions;
    struct volume *volumes;
    struct acknowledged *acknowledged;
    uint64_t versions;
    char text[512];
    /* What was looked at last: nothing is judged twice. */
    int64_t store_revision;
    uint64_t node_sequence[SIM_NODES_MAX];
    uint64_t replica_sequence[SIM_MANAGERS_MAX][SIM_NODES_MAX];
};

/* ---- S1: who executes and writes ---- */

void sim_check_add(struct sim_world *world, struct sim_execution *execution)
{
    execution->next = world->checks->executions;
    world->checks->executions = execution;
}

void sim_check_remove(struct sim_world *world, struct sim_execution *execution)
{
    struct sim_execution **at = &world->checks->executions;
    while (*at != NULL && *at != execution) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        *at = execution->next;
    }
}

static struct volume *volume_of(struct sim_checks *checks, const struct vdc_id *partition)
{
    struct volume *volume;
    HASH_FIND(hh, checks->volumes, partition, sizeof *partition, volume);
    if (volume == NULL) {
        volume = VDC_NEW(struct volume);
        volume->partition = *partition;
        HASH_ADD(hh, checks->volumes, partition, sizeof volume->partition, volume);
    }
    return volume;
}

void sim_check_executes(struct sim_world *world, struct sim_execution *execution, bool executes,
                        uint64_t generation)
{
    struct sim_checks *checks = world->checks;
    char id[VDC_ID_TEXT_CAP];
    vdc_id_to_text(&execution->partition, id);
    execution->executes = executes;
    sim_say(world, execution->where, "guest %.8s %s (generation %llu)", id,
            executes ? "executes" : "stands still", (unsigned long long)generation);
    if (!executes) {
        return;
    }
    for (const struct sim_execution *other = checks->executions; other != NULL;
         other = other->next) {
        if (other != execution && other->executes &&
            vdc_id_equal(&other->partition, &execution->partition)) {
            sim_break(world, "S1: guest %.8s executes on %s and on %s", id, other->where,
                      execution->where);
        }
    }
    struct volume *volume = volume_of(checks, &execution->partition);
    if (generation < volume->stamp) {
        sim_break(world, "S1: guest %.8s on %s writes with generation %llu after generation %llu",
                  id, execution->where, (unsigned long long)generation,
                  (unsigned long long)volume->stamp);
    }
    if (execution->image != 0 && execution->image != volume->version) {
        sim_break(world,
                  "S1: guest %.8s on %s goes on from state %llu, but its disk has seen state %llu",
                  id, execution->where, (unsigned long long)execution->image,
                  (unsigned long long)volume->version);
    }
    volume->stamp = generation;
    volume->version = ++checks->versions;
    execution->image = volume->version;
}

void sim_check_volume_deleted(struct sim_world *world, const struct vdc_id *partition,
                              const char *where)
{
    char id[VDC_ID_TEXT_CAP];
    vdc_id_to_text(partition, id);
    sim_say(world, where, "volume of guest %.8s is deleted", id);
    char key[VDC_KEY_CAP];
    vdc_key_partition(key, SIM_ZONE, partition);
    const struct sim_kv *kv = sim_store_get(world->store, key);
    struct vdc_partition_record record;
    struct vdc_err err = {0};
    if (kv != NULL && vdc_partition_record_decode(vdc_buf_text(&kv->value), kv->value.len, &record,
                                                  &err) == VDC_RC_OK) {
        if (record.desired != VDC_DESIRED_ABSENT) {
            sim_break(world, "S3: the volume of %s is deleted, which nobody asked for",
                      record.spec.name);
        }
        vdc_partition_record_deinit(&record);
    }
}

/* ---- S5 and S3: what clients were told ---- */

void sim_check_acknowledged(struct sim_world *world, const char *key,
                            const struct vdc_id *operation)
{
    struct sim_checks *checks = world->checks;
    struct acknowledged *known;
    HASH_FIND_STR(checks->acknowledged, key, known);
    if (known != NULL && !vdc_id_equal(&known->operation, operation)) {
        sim_break(world, "S5: request %s became two operations", key);
    }
    if (known == NULL) {
        known = VDC_NEW(struct acknowledged);
        vdc_str_set(known->key, sizeof known->key, key);
        known->operation = *operation;
        HASH_ADD_STR(checks->acknowledged, key, known);
    }
    char path[VDC_KEY_CAP];
    vdc_key_operation(path, SIM_ZONE, operation);
    if (sim_store_get(world->store, path) == NULL) {
        sim_break(world, "S3: request %s was acknowledged, but %s is not in the store", key, path);
    }
}

/* One request key in the store names one operation; one name one partition. */
static void check_store(struct sim_world *world)
{
    struct seen {
        UT_hash_handle hh;
        char text[VDC_NAME_CAP + VDC_REQUEST_KEY_CAP];
    } *seen = NULL, *one, *next;
    for (size_t i = 0;; i++) {
        const struct sim_kv *kv = sim_store_at(world->store, i);
        if (kv == NULL) {
            break;
        }
        const char *key = kv->key + strlen(VDC_STORE_PREFIX);
        char text[sizeof one->text] = "";
        struct vdc_err err = {0};
        if (strncmp(key, "operations/", 11) == 0) {
            struct vdc_operation_record record;
            VDC_ASSERT(vdc_operation_record_decode(vdc_buf_text(&kv->value), kv->value.len, &record,
                                                   &err) == VDC_RC_OK);
            if (record.request_key[0] != 0) {
                snprintf(text, sizeof text, "request %s", record.request_key);
            }
            vdc_operation_record_deinit(&record);
        } else if (strncmp(key, "partitions/", 11) == 0) {
            struct vdc_partition_record record;
            VDC_ASSERT(vdc_partition_record_decode(vdc_buf_text(&kv->value), kv->value.len, &record,
                                                   &err) == VDC_RC_OK);
            snprintf(text, sizeof text, "partition %s", record.spec.name);
            vdc_partition_record_deinit(&record);
        }
        if (text[0] == 0) {
            continue;
        }
        HASH_FIND_STR(seen, text, one);
        if (one != NULL) {
            sim_break(world, "S5: %s is there twice", text);
            continue;
        }
        one = VDC_NEW(struct seen);
        memcpy(one->text, text, sizeof text);
        HASH_ADD_STR(seen, text, one);
    }
    HASH_ITER(hh, seen, one, next)
    {
        HASH_DEL(seen, one);
        free(one);
    }
}

/* ---- S2: units ---- */

struct span {
    uint64_t from, to;
    const struct vdc_partition *partition;
};

static int compare_spans(const void *a, const void *b)
{
    const struct span *left = a;
    const struct span *right = b;
    return left->from < right->from ? -1 : left->from > right->from;
}

static void check_units(struct sim_world *world, const struct sim_node *node)
{
    const struct vdc_allocdb *db = sim_node_db(node);
    if (db == NULL) {
        return;
    }
    size_t len;
    const struct vdc_partition **all = vdc_allocdb_list_partitions(db, &len);
    struct span *spans = NULL;
    size_t spans_len = 0;
    size_t spans_cap = 0;
    uint64_t milli = 0;
    uint64_t held = 0;
    for (size_t i = 0; i < len; i++) {
        milli += all[i]->shared_milli;
        uint64_t sum = 0;
        for (uint32_t k = 0; k < all[i]->blocks_len; k++) {
            const struct vdc_memory_block *block = &all[i]->blocks[k];
            VDC_GROW(spans, spans_cap, spans_len + 1);
            spans[spans_len++] = (struct span){block->addr, block->addr + block->bytes, all[i]};
            sum += block->bytes;
        }
        held += sum;
        if (all[i]->kind == VDC_PARTITION_GUEST && sum < all[i]->memory_bytes) {
            sim_break(world, "S2: %s: partition %s holds less than it is told", sim_node_name(node),
                      all[i]->name);
        }
    }
    if (spans_len > 0) {
        qsort(spans, spans_len, sizeof *spans, compare_spans);
    }
    for (size_t i = 1; i < spans_len; i++) {
        if (spans[i].from < spans[i - 1].to) {
            sim_break(world, "S2: %s: %s and %s share memory", sim_node_name(node),
                      spans[i].partition->name, spans[i - 1].partition->name);
        }
    }
    if (held + vdc_allocdb_memory_free_bytes(db) != vdc_allocdb_memory_bytes(db)) {
        sim_break(world, "S2: %s: held and free memory do not add up", sim_node_name(node));
    }
    const struct vdc_zone_slice *slice = vdc_allocdb_find_zone(db, SIM_ZONE);
    uint64_t most = slice != NULL ? (uint64_t)slice->cpus * slice->overcommit_milli : 0;
    if (milli > most) {
        sim_break(world, "S2: %s: %llu milli-CPU are used of %llu", sim_node_name(node),
                  (unsigned long long)milli, (unsigned long long)most);
    }
    free(spans);
    free((void *)all);
}

/* ---- S10: replicas ---- */

static void check_replicas(struct sim_world *world, size_t manager, const struct vdc_zone *zone)
{
    uint64_t *looked = world->checks->replica_sequence[manager];
    for (size_t i = 0; i < world->nodes_len; i++) {
        struct vdc_zone_node_info info;
        struct vdc_digest digest;
        if (!vdc_zone_node_find(zone, sim_node_name(world->nodes[i]), &info) ||
            info.replica == NULL || !info.connected ||
            !sim_node_digest_at(world->nodes[i], vdc_allocdb_sequence(info.replica), &digest)) {
            continue;
        }
        uint64_t sequence = vdc_allocdb_sequence(info.replica);
        if (sequence == looked[i]) {
            continue;
        }
        looked[i] = sequence;
        struct vdc_digest own = vdc_allocdb_digest(info.replica);
        if (!vdc_digest_equal(&own, &digest)) {
            sim_break(world, "S10: the replica of %s differs at sequence %llu",
                      sim_node_name(world->nodes[i]), (unsigned long long)sequence);
        }
    }
}

void sim_check_all(struct sim_world *world)
{
    struct sim_checks *checks = world->checks;
    if (checks->store_revision != sim_store_revision(world->store)) {
        checks->store_revision = sim_store_revision(world->store);
        check_store(world);
    }
    for (size_t i = 0; i < world->nodes_len; i++) {
        const struct vdc_allocdb *db = sim_node_db(world->nodes[i]);
        if (db != NULL && vdc_allocdb_sequence(db) != checks->node_sequence[i]) {
            checks->node_sequence[i] = vdc_allocdb_sequence(db);
            check_units(world, world->nodes[i]);
        }
    }
    for (size_t i = 0; i < world->managers_len; i++) {
        const struct vdc_zone *zone = sim_manager_zone(world->managers[i]);
        if (zone != NULL) {
            check_replicas(world, i, zone);
        }
    }
}

static void on_look(void *object, void *data)
{
    struct sim_world *world = object;
    (void)data;
    sim_check_all(world);
    sim_after(world, NULL, LOOK_NS, on_look, world, NULL, NULL);
}

/* ---- L1 ---- */

static const struct sim_node *node_named(const struct sim_world *world, const char *name)
{
    for (size_t i = 0; i < world->nodes_len; i++) {
        if (strcmp(sim_node_name(world->nodes[i]), name) == 0) {
            return world->nodes[i];
        }
    }
    return NULL;
}

/* An accepted placement that policy or a lack of room refuses later waits, with its verdict, until something changes. */
static bool waits_for_room(const struct sim_world *world, const struct vdc_id *operation)
{
    char key[VDC_KEY_CAP];
    vdc_key_operation(key, SIM_ZONE, operation);
    const struct sim_kv *kv = vdc_id_is_none(operation) ? NULL : sim_store_get(world->store, key);
    struct vdc_operation_record record;
    struct vdc_err err = {0};
    if (kv == NULL || vdc_operation_record_decode(vdc_buf_text(&kv->value), kv->value.len, &record,
                                                  &err) != VDC_RC_OK) {
        return false;
    }
    bool places = record.kind == VDC_OPERATION_FAILOVER || record.kind == VDC_OPERATION_START ||
                  record.kind == VDC_OPERATION_CREATE;
    bool waits = places && strcmp(record.step, "place") == 0 && record.verdict != NULL &&
                 strstr(record.verdict, "refused") != NULL;
    vdc_operation_record_deinit(&record);
    return waits;
}

static const char *partition_unsettled(struct sim_world *world,
                                       const struct vdc_partition_record *record)
{
    struct sim_checks *checks = world->checks;
    const struct sim_execution *runs = NULL;
    for (const struct sim_execution *at = checks->executions; at != NULL; at = at->next) {
        if (at->executes && vdc_id_equal(&at->partition, &record->id)) {
            runs = at;
        }
    }
    if (waits_for_room(world, &record->operation)) {
        return "";
    }
    if (!vdc_id_is_none(&record->operation)) {
        snprintf(checks->text, sizeof checks->text, "%s has an operation under way",
                 record->spec.name);
        return checks->text;
    }
    bool wanted = record->desired == VDC_DESIRED_RUNNING;
    const struct sim_node *owner = node_named(world, record->owner);
    const struct vdc_partition *there =
        owner != NULL && sim_node_db(owner) != NULL
            ? vdc_allocdb_find_partition(sim_node_db(owner), &record->id)
            : NULL;
    if (owner == NULL) {
        return ""; /* nowhere to put it: its verdict says so */
    }
    if (there == NULL && !wanted && runs == NULL) {
        return ""; /* its node was fenced and gave it up; the next start places it anew */
    }
    if (there == NULL || there->generation != record->generation) {
        snprintf(checks->text, sizeof checks->text,
                 "%s belongs to %s with generation %llu, whose database says %lld",
                 record->spec.name, record->owner, (unsigned long long)record->generation,
                 there != NULL ? (long long)there->generation : -1);
        return checks->text;
    }
    if (runs != NULL && (!wanted || strcmp(runs->where, record->owner) != 0)) {
        snprintf(checks->text, sizeof checks->text, "%s runs on %s, wanted %s on %s",
                 record->spec.name, runs->where, vdc_desired_name(record->desired), record->owner);
        return checks->text;
    }
    /* A guest that powered itself off stays off until somebody starts it. */
    if (runs == NULL && wanted && !world->plan->faults[SIM_POWEROFF]) {
        snprintf(checks->text, sizeof checks->text, "%s should run on %s and does not",
                 record->spec.name, record->owner);
        return checks->text;
    }
    return "";
}

static const char *store_unsettled(struct sim_world *world)
{
    for (size_t i = 0;; i++) {
        const struct sim_kv *kv = sim_store_at(world->store, i);
        if (kv == NULL) {
            return "";
        }
        struct vdc_partition_record record;
        struct vdc_err err = {0};
        if (strncmp(kv->key + strlen(VDC_STORE_PREFIX), "partitions/", 11) != 0 ||
            vdc_partition_record_decode(vdc_buf_text(&kv->value), kv->value.len, &record, &err) !=
                VDC_RC_OK) {
            continue;
        }
        const char *why = partition_unsettled(world, &record);
        vdc_partition_record_deinit(&record);
        if (why[0] != 0) {
            return why;
        }
    }
}

static const char *node_unsettled(struct sim_world *world, const struct sim_node *node)
{
    struct sim_checks *checks = world->checks;
    const struct vdc_allocdb *db = sim_node_db(node);
    struct vdc_claim claim;
    if (db == NULL) {
        snprintf(checks->text, sizeof checks->text, "%s has no agent", sim_node_name(node));
        return checks->text;
    }
    if (vdc_allocdb_claim_at(db, 0, &claim)) {
        snprintf(checks->text, sizeof checks->text, "%s has a claim that nobody settles",
                 sim_node_name(node));
        return checks->text;
    }
    size_t len;
    const struct vdc_partition **all = vdc_allocdb_list_partitions(db, &len);
    const char *why = "";
    for (size_t i = 0; i < len && why[0] == 0; i++) {
        char key[VDC_KEY_CAP];
        vdc_key_partition(key, SIM_ZONE, &all[i]->id);
        const struct sim_kv *kv = sim_store_get(world->store, key);
        struct vdc_partition_record record;
        struct vdc_err err = {0};
        bool owned = false;
        if (kv != NULL && vdc_partition_record_decode(vdc_buf_text(&kv->value), kv->value.len,
                                                      &record, &err) == VDC_RC_OK) {
            owned = strcmp(record.owner, sim_node_name(node)) == 0;
            vdc_partition_record_deinit(&record);
        }
        if (all[i]->kind == VDC_PARTITION_GUEST && !owned) {
            snprintf(checks->text, sizeof checks->text, "%s holds %s, which is not its own",
                     sim_node_name(node), all[i]->name);
            why = checks->text;
        }
    }
    free((void *)all);
    return why;
}

const char *sim_check_settled(struct sim_world *world)
{
    const struct vdc_zone *leader = NULL;
    for (size_t i = 0; i < world->managers_len; i++) {
        if (sim_manager_zone(world->managers[i]) != NULL) {
            leader = sim_manager_zone(world->managers[i]);
        }
    }
    if (leader == NULL) {
        return "nobody leads the zone";
    }
    for (size_t i = 0; i < world->clients_len; i++) {
        if (!sim_client_is_idle(world->clients_all[i])) {
            return "a client is not answered";
        }
    }
    for (size_t i = 0; i < world->nodes_len; i++) {
        struct vdc_zone_node_info info;
        if (!vdc_zone_node_find(leader, sim_node_name(world->nodes[i]), &info) || !info.usable ||
            !info.replica_equal) {
            snprintf(world->checks->text, sizeof world->checks->text, "%s is not usable",
                     sim_node_name(world->nodes[i]));
            return world->checks->text;
        }
        const char *why = node_unsettled(world, world->nodes[i]);
        if (why[0] != 0) {
            return why;
        }
    }
    return store_unsettled(world);
}

/* ---- life ---- */

struct sim_checks *sim_checks_create(struct sim_world *world)
{
    struct sim_checks *checks = VDC_NEW(struct sim_checks);
    checks->world = world;
    sim_after(world, NULL, LOOK_NS, on_look, world, NULL, NULL);
    return checks;
}

void sim_checks_destroy(struct sim_checks *checks)
{
    struct volume *volume, *next_volume;
    HASH_ITER(hh, checks->volumes, volume, next_volume)
    {
        HASH_DEL(checks->volumes, volume);
        free(volume);
    }
    struct acknowledged *known, *next_known;
    HASH_ITER(hh, checks->acknowledged, known, next_known)
    {
        HASH_DEL(checks->acknowledged, known);
        free(known);
    }
    free(checks);
}
