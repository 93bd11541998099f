/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of a transaction, one function for each. Each judges against the present state
 * (which includes what the operations before it in the same transaction did), resolves open choices
 * and changes the state with an entry in the undo log for each change. A refusal may leave changes
 * behind: the caller undoes the whole transaction. What all of them need, finding the zone or the
 * partition and putting the operation into the record, is done around them (ops.c).
 *
 *     ops.c            the table of operations; refusals
 *     ops_zone.c       inventory, zones          ops_memory.c     memory
 *     ops_partition.c  partitions                ops_entry.c      devices, volumes, ports, promises
 *     ops_cpu.c        CPUs                      ops_channel.c    channels
 *     ops_transfer.c   from zone to zone         allocdb_place.c  localities, whole cores
 */
#ifndef VDC_OPS_H
#define VDC_OPS_H

#include "allocdb_internal.h"

#define ull(x) ((unsigned long long)(x))

struct op_run {
    struct vdc_allocdb *db;
    const struct vdc_tx *tx;
    uint32_t zone; /* ZONE_NONE until a zone-set makes it */
    uint32_t index;
    struct vdc_tx_result *result;
    struct vdc_buf *record;        /* NULL: replaying */
    const struct vdc_op *resolved; /* what is to be recorded; NULL: that was done */
    struct slot *last;             /* the partition found last, NULL when that ended */
    bool stored;                   /* a refusal by the state: becomes the request's answer */
};

/* One operation; not OK: refused, result filled. */
enum vdc_rc op_apply(struct op_run *run, const struct vdc_op *op) VDC_MUST_USE;
/* The transaction's zone must be on this node. */
enum vdc_rc op_find_zone(struct op_run *run) VDC_MUST_USE;
/* Fills a refusal. `fmt` is the sentence behind "op N name: ". */
enum vdc_rc op_refuse(struct op_run *run, enum vdc_rc rc, enum vdc_tx_rule rule, uint64_t asked,
                      uint64_t free, const char *fmt, ...) VDC_PRINTF(6, 7)
    __attribute__((cold, noinline));
enum vdc_rc op_refuse_memory(struct op_run *run, uint64_t asked, uint64_t free_bytes,
                             uint64_t largest);
enum vdc_rc op_refuse_slice(struct op_run *run, uint64_t asked);
enum vdc_rc op_refuse_numa(struct op_run *run, uint32_t number);
enum vdc_rc op_refuse_busy_block(struct op_run *run, uint32_t i,
                                 const struct vdc_memory_block *block);

void op_save_zone(struct vdc_allocdb *db, uint32_t zone);
void op_move_cpu(struct vdc_allocdb *db, uint32_t index, uint32_t zone);
/* Takes `bytes` of one NUMA node, which has them, and adds the runs to scratch. */
enum vdc_rc op_take_from_numa(struct op_run *run, struct slot *slot, uint32_t numa, uint64_t bytes);
/* Releases all that the partition holds and takes it out. */
void op_destroy_slot(struct vdc_allocdb *db, struct slot *slot);

/* Guests' memory is backed by 2 MiB pages and up; channels and system partitions take 4 KiB. */
static inline uint64_t op_page_of(const struct slot *slot)
{
    return slot->pub.kind == VDC_PARTITION_GUEST ? PAGE_2M : PAGE_4K;
}

/* What the zone may still use of its slice of memory. */
static inline uint64_t op_slice_left(const struct op_run *run)
{
    const struct vdc_zone_slice *slice = &run->db->zones[run->zone].pub;
    return slice->memory_bytes - slice->memory_used_bytes;
}

/* --- the functions of the table: `slot` is what the table says that the operation needs --- */

#define OP_FUNCTION(name) \
    enum vdc_rc name(struct op_run *run, const struct vdc_op *op, struct slot *slot)

OP_FUNCTION(apply_inventory_set);
OP_FUNCTION(apply_zone_set);
OP_FUNCTION(apply_zone_leave);
OP_FUNCTION(apply_zone_epoch);
OP_FUNCTION(apply_incarnation_set);
OP_FUNCTION(apply_zone_transfer);
OP_FUNCTION(apply_partition_create);
OP_FUNCTION(apply_partition_set_run);
OP_FUNCTION(apply_partition_set_generation);
OP_FUNCTION(apply_partition_set_config);
OP_FUNCTION(apply_partition_destroy);
OP_FUNCTION(apply_cpu_assign);
OP_FUNCTION(apply_cpu_release);
OP_FUNCTION(apply_memory_assign);
OP_FUNCTION(apply_memory_release);
OP_FUNCTION(apply_device_add);
OP_FUNCTION(apply_device_remove);
OP_FUNCTION(apply_device_attach);
OP_FUNCTION(apply_device_detach);
OP_FUNCTION(apply_volume_attach);
OP_FUNCTION(apply_volume_detach);
OP_FUNCTION(apply_port_connect);
OP_FUNCTION(apply_port_disconnect);
OP_FUNCTION(apply_channel_connect);
OP_FUNCTION(apply_channel_disconnect);
OP_FUNCTION(apply_fence_promise);

/* --- allocdb_place.c --- */

/* The CPUs of an assignment that has a locality or wants whole cores, into scratch, ascending. */
enum vdc_rc place_cpus(struct op_run *run, const struct slot *slot,
                       const struct vdc_op_cpu_assign *assign, uint32_t *len) VDC_MUST_USE;
/* What the caller named, or what was chosen, lies as asked. */
enum vdc_rc judge_cpu_place(struct op_run *run, const struct slot *slot,
                            const struct vdc_op_cpu_assign *assign) VDC_MUST_USE;
/* Takes memory with a locality, runs into scratch. */
enum vdc_rc place_memory(struct op_run *run, struct slot *slot,
                         const struct vdc_op_memory_assign *assign) VDC_MUST_USE;
enum vdc_rc judge_memory_place(struct op_run *run,
                               const struct vdc_op_memory_assign *assign) VDC_MUST_USE;

#endif
