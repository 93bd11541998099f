/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a transaction: all that it changed goes back, last change first, or it stands and the
 * digest follows. A refused transaction hashes nothing.
 */
#include "allocdb_internal.h"

static void undo_zone_fields(struct vdc_allocdb *db, const struct undo *undo)
{
    const struct vdc_zone_slice *saved = &db->saved_zones[undo->number];
    struct vdc_zone_slice *pub = &db->zones[undo->zone].pub;
    pub->joined = saved->joined;
    pub->incarnation = saved->incarnation;
    pub->overcommit_milli = saved->overcommit_milli;
    pub->cpu_share = saved->cpu_share;
    pub->memory_share = saved->memory_share;
    pub->memory_bytes = saved->memory_bytes;
    zone_touch(db, undo->zone);
}

static void undo_one(struct vdc_allocdb *db, const struct undo *undo)
{
    struct slot *slot = undo->slot == SLOT_NONE ? NULL : slot_at(db, undo->slot);
    switch (undo->kind) {
    case UNDO_ZONE_NEW:
        zone_unmake(db, undo->zone);
        break;
    case UNDO_ZONE_FIELDS:
        undo_zone_fields(db, undo);
        break;
    case UNDO_CPU_ZONE:
        cpu_move(db, undo->number, undo->zone);
        break;
    case UNDO_CPU_ASSIGN:
        cpu_release(db, slot, undo->number);
        break;
    case UNDO_CPU_RELEASE:
        cpu_assign(db, slot, undo->number);
        break;
    case UNDO_CPUS_FIRST:
        cpus_release_all(db, slot);
        break;
    case UNDO_SHARED:
        shared_set(db, slot, (uint32_t)undo->a);
        break;
    case UNDO_MEM_TAKE:
        memory_unbook(db, slot, undo->number, undo->a, undo->b);
        pagemap_free(&db->numa[undo->number].map, undo->a, undo->b);
        break;
    case UNDO_MEM_FREE:
        pagemap_take(&db->numa[undo->number].map, undo->a, undo->b, slot->number);
        memory_book(db, slot, undo->number, undo->a, undo->b);
        break;
    case UNDO_MEM_FIRST:
        memory_give_all(db, slot);
        break;
    case UNDO_RUN:
        slot->pub.run = (enum vdc_run)undo->a;
        slot_touch(db, slot);
        break;
    case UNDO_GENERATION:
        slot->pub.generation = undo->a;
        slot_touch(db, slot);
        break;
    case UNDO_CONFIG:
        slot_set_config(slot, undo->saved, (uint32_t)undo->a);
        slot_make_identity(slot);
        slot_touch(db, slot);
        free(undo->saved);
        break;
    case UNDO_CREATE:
        slot_leave(db, slot);
        slot_recycle(db, slot);
        break;
    case UNDO_DESTROY:
        slot_enter(db, slot);
        break;
    case UNDO_ENTRY_ADD:
    case UNDO_ENTRY_DROP:
        entries_undo(db, undo);
        break;
    }
}

void undo_all(struct vdc_allocdb *db)
{
    while (db->undo_len > 0) {
        struct undo undo = db->undo[--db->undo_len];
        undo_one(db, &undo);
    }
    db->saved_zones_len = 0;
    /* All is as it was, so the digest is too. */
    for (uint32_t i = 0; i < db->touched_len; i++) {
        slot_at(db, db->touched[i])->touched = false;
    }
    db->touched_len = 0;
    db->touched_zones = 0;
}

void undo_forget(struct vdc_allocdb *db, uint64_t sequence)
{
    for (size_t i = 0; i < db->undo_len; i++) {
        const struct undo *undo = &db->undo[i];
        if (undo->kind == UNDO_CONFIG) {
            free(undo->saved);
        } else if (undo->kind == UNDO_DESTROY) {
            slot_recycle(db, slot_at(db, undo->slot));
        } else if (undo->kind == UNDO_ENTRY_ADD || undo->kind == UNDO_ENTRY_DROP) {
            entries_settle(db, undo, sequence);
        }
    }
    db->undo_len = 0;
    db->saved_zones_len = 0;
}

/* Made as late as this, because reading what has just been written in pieces of other sizes makes a
 * processor wait. */
static void make_identity(struct slot *slot, const struct vdc_buf *encoded)
{
    VDC_ASSERT(encoded != NULL && slot->identity_at + slot->identity_len <= encoded->len);
    slot->identity = digest_of_identity(encoded->data + slot->identity_at, slot->identity_len);
    slot->identity_at = 0;
}

void touched_settle(struct vdc_allocdb *db, uint64_t sequence, const struct vdc_buf *encoded)
{
    for (uint32_t i = 0; i < db->touched_len; i++) {
        struct slot *slot = slot_at(db, db->touched[i]);
        slot->touched = false;
        digest_sub(&db->digest, &slot->item);
        slot->item = (struct vdc_digest){0};
        if (slot->live) {
            slot->pub.sequence = sequence == 0 ? slot->pub.sequence : sequence;
            if (slot->identity_at != 0) {
                make_identity(slot, encoded);
            }
            slot->item = digest_of_slot(db, slot);
            digest_add(&db->digest, &slot->item);
        }
    }
    db->touched_len = 0;
    for (; db->touched_zones != 0; db->touched_zones &= db->touched_zones - 1) {
        struct zone *zone = &db->zones[__builtin_ctzll(db->touched_zones)];
        digest_sub(&db->digest, &zone->item);
        zone->item = digest_of_zone(zone);
        digest_add(&db->digest, &zone->item);
    }
}
