/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snapshot, version 3, little-endian:
 *
 *     "VDCSNAP3" | version u32 | 0 u32 | sequence u64 | digest 16 |
 *     CPUs u32: number numa socket core thread u16 | NUMA nodes u32: number u16, bytes u64 |
 *     zones u32, "" first: name, joined u8, epoch, incarnation u64, overcommit u32, 2 shares,
 *         memory u64, CPU numbers |
 *     claims u32, by id: id, zone u16, sequence u64 |
 *     partitions u32, by id: its fields, what it holds |
 *     entries u32, by kind and key (entries.c) |
 *     answers u32, oldest first: request id, sequence u64, answer (u16 of length; 0: OK) |
 *     crc32c u32 of all before
 *
 * It is canonical, because everything is in an order that does not depend on how the state came to
 * be. Restoring goes through the same changes as transactions do, and ends with the digest.
 */
#include <string.h>

#include <vdc/crc32c.h>

#include "allocdb_internal.h"
#include "tx_codec.h"

#define MAGIC "VDCSNAP3"
#define VERSION 3
#define HEAD_BYTES 40
#define FIXED_MAX 512

#define ull(x) ((unsigned long long)(x))

/* --- writing --- */

static uint8_t *begin(struct vdc_buf *out, size_t max)
{
    return (uint8_t *)vdc_buf_reserve(out, max);
}

static void end(struct vdc_buf *out, const uint8_t *to)
{
    out->len = (size_t)((const char *)to - out->data);
}

static void write_inventory(const struct vdc_allocdb *db, struct vdc_buf *out)
{
    uint8_t *to = begin(out, 8 + db->cpus_len * 10ul + db->numa_len * 10ul);
    to = wire_put_u32(to, db->cpus_len);
    for (uint32_t i = 0; i < db->cpus_len; i++) {
        const struct vdc_cpu_info *info = &db->cpus[i].info;
        to = wire_put_u16(to, info->number);
        to = wire_put_u16(to, info->numa);
        to = wire_put_u16(to, info->socket);
        to = wire_put_u16(to, info->core);
        to = wire_put_u16(to, info->thread);
    }
    to = wire_put_u32(to, db->numa_len);
    for (uint32_t i = 0; i < db->numa_len; i++) {
        to = wire_put_u16(to, (uint16_t)db->numa[i].number);
        to = wire_put_u64(to, db->numa[i].map.bytes);
    }
    end(out, to);
}

static void write_zone(const struct vdc_allocdb *db, uint32_t z, struct vdc_buf *out)
{
    const struct vdc_zone_slice *pub = &db->zones[z].pub;
    uint8_t *to = begin(out, FIXED_MAX + pub->cpus * 2ul);
    to = wire_put_text(to, pub->name);
    to = wire_put_u8(to, pub->joined);
    to = wire_put_u64(to, pub->epoch);
    to = wire_put_u64(to, pub->incarnation);
    to = wire_put_u32(to, pub->overcommit_milli);
    to = wire_put_u32(to, pub->cpu_share.milli);
    to = wire_put_u64(to, pub->cpu_share.amount);
    to = wire_put_u32(to, pub->memory_share.milli);
    to = wire_put_u64(to, pub->memory_share.amount);
    to = wire_put_u64(to, pub->memory_bytes);
    to = wire_put_u32(to, pub->cpus);
    for (uint32_t i = 0; i < db->cpus_len; i++) {
        if (db->cpus[i].zone == z) {
            to = wire_put_u16(to, db->cpus[i].info.number);
        }
    }
    end(out, to);
}

static int compare_claims(const void *a, const void *b)
{
    const struct claim *x = *(const struct claim *const *)a;
    const struct claim *y = *(const struct claim *const *)b;
    return vdc_id_compare(&x->id, &y->id);
}

static void write_claims(const struct vdc_allocdb *db, struct vdc_buf *out)
{
    vdc_autofree const struct claim **sorted =
        vdc_calloc((size_t)db->claims_len + 1, sizeof(const struct claim *));
    for (uint32_t i = 0; i < db->claims_len; i++) {
        sorted[i] = &db->claims[i];
    }
    qsort(sorted, db->claims_len, sizeof(const struct claim *), compare_claims);
    uint8_t *to = begin(out, 4 + db->claims_len * 26ul);
    to = wire_put_u32(to, db->claims_len);
    for (uint32_t i = 0; i < db->claims_len; i++) {
        to = wire_put(to, sorted[i]->id.bytes, 16);
        to = wire_put_u16(to, (uint16_t)sorted[i]->zone);
        to = wire_put_u64(to, sorted[i]->sequence);
    }
    end(out, to);
}

static void write_partition(const struct slot *slot, struct vdc_buf *out)
{
    const struct vdc_partition *pub = &slot->pub;
    uint8_t *to =
        begin(out, FIXED_MAX + pub->config_len + pub->cpus_len * 2ul + pub->blocks_len * 18ul);
    to = wire_put(to, pub->id.bytes, 16);
    to = wire_put_text(to, pub->name);
    to = wire_put_u16(to, (uint16_t)slot->zone);
    to = wire_put_text(to, pub->tenant);
    to = wire_put_text(to, pub->class_name);
    to = wire_put(to, pub->claim.bytes, 16);
    to = wire_put_u8(to, (uint8_t)pub->kind);
    to = wire_put_u8(to, (uint8_t)pub->run);
    to = wire_put_u64(to, pub->generation);
    to = wire_put_u64(to, pub->sequence);
    to = wire_put_u32(to, pub->vcpus);
    to = wire_put_u32(to, pub->shared_milli);
    to = wire_put_u64(to, pub->memory_bytes);
    to = wire_put_u32(to, pub->config_len);
    to = pub->config_len == 0 ? to : wire_put(to, pub->config, pub->config_len);
    to = wire_put_u32(to, pub->cpus_len);
    to = pub->cpus_len == 0 ? to : wire_put(to, pub->cpus, pub->cpus_len * 2ul);
    to = wire_put_u32(to, pub->blocks_len);
    for (uint32_t i = 0; i < pub->blocks_len; i++) {
        to = wire_put_u16(to, (uint16_t)pub->blocks[i].numa);
        to = wire_put_u64(to, pub->blocks[i].addr);
        to = wire_put_u64(to, pub->blocks[i].bytes);
    }
    end(out, to);
}

static int compare_slots(const void *a, const void *b)
{
    const struct slot *x = *(const struct slot *const *)a;
    const struct slot *y = *(const struct slot *const *)b;
    return vdc_id_compare(&x->pub.id, &y->pub.id);
}

static void write_partitions(const struct vdc_allocdb *db, struct vdc_buf *out)
{
    vdc_autofree const struct slot **sorted =
        vdc_calloc((size_t)db->partitions_len + 1, sizeof(const struct slot *));
    uint32_t len = 0;
    for (uint32_t s = 0; s < db->slots_len; s++) {
        if (slot_at(db, s)->live) {
            sorted[len++] = slot_at(db, s);
        }
    }
    VDC_ASSERT(len == db->partitions_len);
    qsort(sorted, len, sizeof(const struct slot *), compare_slots);
    end(out, wire_put_u32(begin(out, 4), len));
    for (uint32_t i = 0; i < len; i++) {
        write_partition(sorted[i], out);
    }
}

static void write_answers(const struct vdc_allocdb *db, struct vdc_buf *out)
{
    struct vdc_buf refusal = {0};
    end(out, wire_put_u32(begin(out, 4), db->answers.len));
    for (uint32_t i = 0; i < db->answers.len; i++) {
        const struct answer *answer = answers_at(&db->answers, i);
        vdc_buf_clear(&refusal);
        if (answer->refusal != NULL) {
            vdc_tx_result_encode(answer->refusal, &refusal);
        }
        uint8_t *to = begin(out, 26 + refusal.len);
        to = wire_put(to, answer->request_id.bytes, 16);
        to = wire_put_u64(to, answer->sequence);
        to = wire_put_u16(to, (uint16_t)refusal.len);
        to = refusal.len == 0 ? to : wire_put(to, refusal.data, refusal.len);
        end(out, to);
    }
    vdc_buf_deinit(&refusal);
}

void vdc_allocdb_snapshot(const struct vdc_allocdb *db, struct vdc_buf *out)
{
    size_t start = out->len;
    uint8_t *to = begin(out, HEAD_BYTES);
    to = wire_put(to, MAGIC, 8);
    to = wire_put_u32(to, VERSION);
    to = wire_put_u32(to, 0);
    to = wire_put_u64(to, db->sequence);
    to = wire_put_u64(to, db->digest.lo);
    to = wire_put_u64(to, db->digest.hi);
    end(out, to);
    write_inventory(db, out);
    end(out, wire_put_u32(begin(out, 4), db->zones_len));
    for (uint32_t z = 0; z < db->zones_len; z++) {
        write_zone(db, z, out);
    }
    write_claims(db, out);
    write_partitions(db, out);
    entries_write(db, out);
    write_answers(db, out);
    uint32_t crc = vdc_crc32c(0, out->data + start, out->len - start);
    end(out, wire_put_u32(begin(out, 4), crc));
    (void)vdc_buf_reserve(out, 1);
}

/* --- reading: each part says what is wrong with it, NULL when nothing is --- */

/* A list's length, if so many elements of at least that size can follow. */
static uint32_t read_len(struct wire_reader *in, size_t element_min)
{
    uint32_t len = wire_get_u32(in);
    if (len > wire_left(in) / element_min) {
        in->bad = true;
        return 0;
    }
    return len;
}

static const char *read_inventory(struct vdc_allocdb *db, struct wire_reader *in,
                                  struct vdc_err *err)
{
    struct vdc_op op = {.kind = VDC_OP_INVENTORY_SET};
    struct vdc_op_inventory_set *set = &op.inventory_set;
    set->cpus_len = read_len(in, 10);
    vdc_autofree struct vdc_cpu_info *cpus = vdc_calloc(set->cpus_len + 1ul, sizeof(cpus[0]));
    for (uint32_t i = 0; i < set->cpus_len; i++) {
        cpus[i].number = wire_get_u16(in);
        cpus[i].numa = wire_get_u16(in);
        cpus[i].socket = wire_get_u16(in);
        cpus[i].core = wire_get_u16(in);
        cpus[i].thread = wire_get_u16(in);
    }
    set->numa_len = read_len(in, 10);
    vdc_autofree struct vdc_numa_info *numa = vdc_calloc(set->numa_len + 1ul, sizeof(numa[0]));
    for (uint32_t i = 0; i < set->numa_len; i++) {
        numa[i].number = wire_get_u16(in);
        numa[i].memory_bytes = wire_get_u64(in);
    }
    set->cpus = cpus;
    set->numa = numa;
    if (in->bad) {
        return "the inventory is cut short";
    }
    if (set->cpus_len == 0 && set->numa_len == 0) {
        return NULL; /* taken before the first inventory */
    }
    if (tx_validate_op(&op, 0, err) != VDC_RC_OK) {
        return "the inventory is not one";
    }
    inventory_replace(db, set);
    return NULL;
}

static const char *read_zone_cpus(struct vdc_allocdb *db, struct wire_reader *in, uint32_t z)
{
    uint32_t len = read_len(in, 2);
    for (uint32_t i = 0; i < len; i++) {
        uint32_t index = cpu_index_of(db, wire_get_u16(in));
        if (index == UINT32_MAX || db->cpus[index].zone != NODE_ZONE) {
            return "a zone has a CPU that is not there or another zone's";
        }
        if (z != NODE_ZONE) {
            cpu_move(db, index, z);
        }
    }
    return in->bad ? "a zone's CPUs are cut short" : NULL;
}

static const char *read_zone(struct vdc_allocdb *db, struct wire_reader *in, uint32_t expected)
{
    char name[VDC_NAME_CAP];
    wire_get_text(in, name, sizeof(name));
    bool is_node = expected == NODE_ZONE;
    if (in->bad || (is_node ? name[0] != 0 : !vdc_name_valid(name))) {
        return "a zone's name is not one";
    }
    if (!is_node && (zone_find(db, name) != ZONE_NONE || db->zones_len >= VDC_ALLOCDB_ZONES_MAX)) {
        return "a zone is there twice, or too many are";
    }
    uint32_t z = is_node ? NODE_ZONE : zone_make(db, name);
    struct vdc_zone_slice *pub = &db->zones[z].pub;
    uint8_t joined = wire_get_u8(in);
    pub->joined = joined != 0;
    pub->epoch = wire_get_u64(in);
    pub->incarnation = wire_get_u64(in);
    pub->overcommit_milli = wire_get_u32(in);
    pub->cpu_share.milli = wire_get_u32(in);
    pub->cpu_share.amount = wire_get_u64(in);
    pub->memory_share.milli = wire_get_u32(in);
    pub->memory_share.amount = wire_get_u64(in);
    pub->memory_bytes = wire_get_u64(in);
    if (in->bad || joined > 1 || pub->overcommit_milli < 1000 ||
        pub->overcommit_milli > VDC_OVERCOMMIT_MILLI_MAX || (is_node && joined == 0)) {
        return "a zone's fields are out of bounds";
    }
    const char *wrong = read_zone_cpus(db, in, z);
    zone_touch(db, z);
    return wrong;
}

static const char *read_zones(struct vdc_allocdb *db, struct wire_reader *in)
{
    uint32_t len = read_len(in, 40);
    if (len == 0) {
        return "the node's own slice is missing";
    }
    for (uint32_t i = 0; i < len; i++) {
        const char *wrong = read_zone(db, in, i);
        if (wrong != NULL) {
            return wrong;
        }
    }
    return NULL;
}

static const char *read_claims(struct vdc_allocdb *db, struct wire_reader *in)
{
    uint32_t len = read_len(in, 26);
    if (len > VDC_ALLOCDB_CLAIMS_MAX) {
        return "too many claims";
    }
    for (uint32_t i = 0; i < len; i++) {
        struct vdc_id id = wire_get_id(in);
        uint16_t zone = wire_get_u16(in);
        uint64_t sequence = wire_get_u64(in);
        if (in->bad || vdc_id_is_none(&id) || zone >= db->zones_len ||
            claim_find(db, &id) != NULL) {
            return "a claim is not one, or there twice";
        }
        claim_make(db, &id, zone)->sequence = sequence;
    }
    return in->bad ? "the claims are cut short" : NULL;
}

static const char *read_held_cpus(struct vdc_allocdb *db, struct wire_reader *in, struct slot *slot)
{
    uint32_t len = read_len(in, 2);
    if (len > VDC_VCPUS_MAX) {
        return "a partition has too many CPUs";
    }
    for (uint32_t i = 0; i < len; i++) {
        uint32_t index = cpu_index_of(db, wire_get_u16(in));
        if (index == UINT32_MAX || db->cpus[index].zone != slot->zone ||
            db->cpus[index].owner != SLOT_NONE) {
            return "a partition has a CPU that it cannot have";
        }
        cpu_assign(db, slot, index);
    }
    return NULL;
}

static const char *read_held_memory(struct vdc_allocdb *db, struct wire_reader *in,
                                    struct slot *slot)
{
    uint32_t len = read_len(in, 18);
    if (len > VDC_VIEW_BLOCKS_MAX) {
        return "a partition has too many memory blocks";
    }
    for (uint32_t i = 0; i < len; i++) {
        uint32_t numa = numa_index_of(db, wire_get_u16(in));
        uint64_t addr = wire_get_u64(in);
        uint64_t bytes = wire_get_u64(in);
        if (numa == UINT32_MAX ||
            !pagemap_range_is(&db->numa[numa].map, addr, bytes, PAGE_OWNER_NONE)) {
            return "a partition has memory that it cannot have";
        }
        pagemap_take(&db->numa[numa].map, addr, bytes, slot->number);
        memory_book(db, slot, numa, addr, bytes);
    }
    return NULL;
}

/* Into its claim, at the end, so that the order by id is kept. */
static void hang_into_claim(struct vdc_allocdb *db, struct claim *claim, struct slot *slot)
{
    uint32_t *link = &claim->first_slot;
    while (*link != SLOT_NONE) {
        link = &slot_at(db, *link)->next_in_claim;
    }
    *link = slot->number;
    claim->partitions++;
}

static const char *read_partition(struct vdc_allocdb *db, struct wire_reader *in)
{
    struct vdc_op op = {.kind = VDC_OP_PARTITION_CREATE};
    struct vdc_op_partition_create *create = &op.partition_create;
    create->id = wire_get_id(in);
    wire_get_text(in, create->name, sizeof(create->name));
    uint16_t zone = wire_get_u16(in);
    wire_get_text(in, create->tenant, sizeof(create->tenant));
    wire_get_text(in, create->class_name, sizeof(create->class_name));
    struct vdc_id claim_id = wire_get_id(in);
    create->kind = (enum vdc_partition_kind)wire_get_u8(in);
    create->run = (enum vdc_run)wire_get_u8(in);
    create->generation = wire_get_u64(in);
    uint64_t sequence = wire_get_u64(in);
    create->vcpus = wire_get_u32(in);
    uint32_t shared_milli = wire_get_u32(in);
    create->memory_bytes = wire_get_u64(in);
    create->config_len = read_len(in, 1);
    create->config = wire_get(in, create->config_len);
    struct claim *claim = vdc_id_is_none(&claim_id) ? NULL : claim_find(db, &claim_id);
    if (in->bad || tx_validate_op(&op, 0, NULL) != VDC_RC_OK || zone >= db->zones_len ||
        (claim == NULL) != vdc_id_is_none(&claim_id) || (claim != NULL && claim->zone != zone) ||
        idmap_get(&db->by_id, &create->id) != VDC_IDMAP_NONE ||
        db->partitions_len >= VDC_ALLOCDB_PARTITIONS_MAX) {
        return "a partition is not one, or there twice";
    }
    struct slot *slot = slot_make(db, create, zone);
    slot->pub.claim = claim_id;
    slot->pub.sequence = sequence;
    slot_make_identity(slot);
    slot_enter(db, slot);
    shared_set(db, slot, shared_milli);
    if (claim != NULL) {
        hang_into_claim(db, claim, slot);
    }
    const char *wrong = read_held_cpus(db, in, slot);
    return wrong != NULL ? wrong : read_held_memory(db, in, slot);
}

static const char *read_answers(struct vdc_allocdb *db, struct wire_reader *in)
{
    uint32_t len = read_len(in, 26);
    if (len > VDC_ALLOCDB_REQUESTS_MAX) {
        return "too many answers";
    }
    for (uint32_t i = 0; i < len; i++) {
        struct vdc_id id = wire_get_id(in);
        struct vdc_tx_result result = {.op = VDC_TX_OP_NONE, .sequence = wire_get_u64(in)};
        uint64_t sequence = result.sequence;
        uint16_t bytes = wire_get_u16(in);
        const uint8_t *refusal = wire_get(in, bytes);
        if (in->bad || vdc_id_is_none(&id) || answers_find(&db->answers, &id) != NULL) {
            return "an answer is not one, or there twice";
        }
        if (bytes > 0 && (vdc_tx_result_decode(refusal, bytes, &result, NULL) != VDC_RC_OK ||
                          result.rc == VDC_RC_OK || result.sequence != sequence)) {
            return "a refusal is not one";
        }
        answers_store(&db->answers, &id, &result);
    }
    return NULL;
}

static const char *read_parts(struct vdc_allocdb *db, struct wire_reader *in, struct vdc_err *err)
{
    const char *wrong = read_inventory(db, in, err);
    if (wrong == NULL) {
        wrong = read_zones(db, in);
    }
    if (wrong == NULL) {
        wrong = read_claims(db, in);
    }
    uint32_t partitions = wrong == NULL ? read_len(in, 80) : 0;
    for (uint32_t i = 0; wrong == NULL && i < partitions; i++) {
        wrong = read_partition(db, in);
    }
    if (wrong != NULL) {
        return wrong;
    }
    for (uint32_t i = 0; i < db->claims_len; i++) {
        struct vdc_digest item = digest_of_claim(db, &db->claims[i]);
        digest_add(&db->digest, &item);
    }
    wrong = entries_read(db, in);
    if (wrong == NULL) {
        wrong = read_answers(db, in);
    }
    return wrong == NULL && (in->bad || wire_left(in) != 0) ? "it is cut short or too long" : wrong;
}

enum vdc_rc vdc_allocdb_restore(const void *data, size_t len, struct vdc_allocdb **out,
                                struct vdc_err *err)
{
    *out = NULL;
    if (len > VDC_ALLOCDB_SNAPSHOT_MAX) {
        return vdc_err_set(err, VDC_RC_TOO_LARGE, "snapshot: %zu bytes", len);
    }
    uint32_t crc = 0;
    if (len < HEAD_BYTES + sizeof(crc) || memcmp(data, MAGIC, 8) != 0) {
        return vdc_err_set(err, VDC_RC_CORRUPT, "snapshot: not one");
    }
    memcpy(&crc, (const uint8_t *)data + len - sizeof(crc), sizeof(crc));
    if (crc != vdc_crc32c(0, data, len - sizeof(crc))) {
        return vdc_err_set(err, VDC_RC_CORRUPT, "snapshot: wrong checksum");
    }
    struct wire_reader in = {.at = (const uint8_t *)data + 8,
                             .end = (const uint8_t *)data + len - sizeof(crc)};
    uint32_t version = wire_get_u32(&in);
    if (version != VERSION) {
        return vdc_err_set(err, VDC_RC_UNSUPPORTED, "snapshot: version %u", version);
    }
    (void)wire_get_u32(&in);
    struct vdc_allocdb *db = vdc_allocdb_create();
    db->sequence = wire_get_u64(&in);
    struct vdc_digest digest = {.lo = wire_get_u64(&in)};
    digest.hi = wire_get_u64(&in);
    const char *wrong = read_parts(db, &in, err);
    touched_settle(db, 0, NULL);
    if (wrong == NULL && !vdc_digest_equal(&digest, &db->digest)) {
        wrong = "another digest than it says";
    }
    enum vdc_rc rc = VDC_RC_OK;
    if (wrong != NULL) {
        rc = vdc_err_set(err, VDC_RC_CORRUPT, "snapshot of %llu: %s", ull(db->sequence), wrong);
    } else if (vdc_allocdb_check(db, err) != VDC_RC_OK) {
        rc = vdc_err_set(err, VDC_RC_CORRUPT, "snapshot of %llu: %s", ull(db->sequence),
                         err == NULL ? "" : err->text);
    }
    if (rc != VDC_RC_OK) {
        vdc_allocdb_destroy(db);
        return rc;
    }
    *out = db;
    return VDC_RC_OK;
}
