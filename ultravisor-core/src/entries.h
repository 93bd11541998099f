/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries inside the database. An entry is never changed in place: a change is leaving with the old
 * and entering with the new one, so that two kinds of undo are enough for all kinds of entries.
 *
 *     entries.c        the table, the digest
 *     entries_read.c, entries_snapshot.c, entries_check.c
 *     ops_entry.c, ops_channel.c    one function per operation
 */
#ifndef VDC_ENTRIES_H
#define VDC_ENTRIES_H

#include "allocdb_internal.h"
#include "wire.h"

#define ENTRY_KEY_MAX (1 + 2 * VDC_NAME_CAP + 1)
_Static_assert(ENTRY_KEY_MAX > VDC_DEVICE_ADDRESS_CAP, "a device's key fits");
/* In the page maps a channel owns its memory under its number plus this; partitions' are smaller. */
#define ENTRY_OWNER_BASE UINT32_C(0x40000000)
_Static_assert(ENTRY_OWNER_BASE + VDC_ALLOCDB_ENTRIES_MAX * 2 < PAGE_OWNER_MAX, "owners are apart");

struct entry_key {
    uint8_t bytes[ENTRY_KEY_MAX]; /* kind, then what is unique within it */
    uint32_t len;
};

struct entry {
    struct vdc_entry pub; /* first: readers get a pointer to it */
    uint32_t number;
    uint32_t zone;  /* of the slice, as in pub.zone */
    uint32_t owner; /* slot, SLOT_NONE: nobody */
    uint32_t peer;
    bool live;
    struct vdc_memory_block *blocks; /* of a channel */
    struct entry_key key;
    struct vdc_digest item;
    uint32_t next_unused;
    UT_hash_handle hh;      /* by key */
    UT_hash_handle hh_name; /* ports: by name */
};

/* An unused entry of that kind, not in any table. */
struct entry *entry_make(struct vdc_allocdb *db, enum vdc_entry_kind kind, uint32_t zone,
                         uint32_t owner, uint32_t peer);
void entry_recycle(struct vdc_allocdb *db, struct entry *entry);
/* Into (out of) the tables, the owners' lists, the page map (a channel's blocks are free), the
 * slice and the digest. */
void entry_enter(struct vdc_allocdb *db, struct entry *entry);
void entry_leave(struct vdc_allocdb *db, struct entry *entry);
/* The same with undo. */
void entry_add(struct vdc_allocdb *db, struct entry *entry);
void entry_drop(struct vdc_allocdb *db, struct entry *entry);
/* What is to replace `entry` (not a channel): its content in an unused entry. */
struct entry *entry_copy(struct vdc_allocdb *db, const struct entry *entry);
/* Gives a device another zone and owner (SLOT_NONE: nobody). */
void entry_set_device(struct vdc_allocdb *db, struct entry *entry, uint32_t zone, uint32_t owner);
struct entry *entry_at(const struct vdc_allocdb *db, uint32_t number);

struct entry_key entry_key_of(const struct entry *entry);
/* NULL: no such entry; as all of these. */
struct entry *entry_find(const struct vdc_allocdb *db, const struct entry_key *key);
struct entry *entry_find_device(const struct vdc_allocdb *db, const char *address);
struct entry *entry_find_volume(const struct vdc_allocdb *db, const struct vdc_id *volume,
                                const struct vdc_id *partition);
struct entry *entry_find_port(const struct vdc_allocdb *db, const uint8_t mac[6]);
struct entry *entry_find_port_name(const struct vdc_allocdb *db, const char *name);
struct entry *entry_find_channel(const struct vdc_allocdb *db, const struct vdc_id *id);
struct entry *entry_find_promise(const struct vdc_allocdb *db, const char *zone, const char *node);

#define VOLUME_WRITTEN UINT32_MAX
/* Partitions that read the volume; VOLUME_WRITTEN: one writes it; 0: unused. */
uint32_t volume_use(const struct vdc_allocdb *db, const struct vdc_id *volume);
/* Stores that in a map of uses. */
void volume_set_use(struct idmap *uses, const struct vdc_id *volume, uint32_t use);
/* entries_snapshot.c: whether its owners are those that its kind must have. */
bool entry_owners_fit(const struct vdc_allocdb *db, const struct entry *entry);

/* --- ops_entry.c --- */

struct op_run;
/* There may be one more entry. */
enum vdc_rc op_judge_entries_limit(struct op_run *run) VDC_MUST_USE;
/* A device of the transaction's zone that is nobody's. */
enum vdc_rc op_find_free_device(struct op_run *run, const char *address,
                                struct entry **out) VDC_MUST_USE;

#endif
