/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the files of the model: one transaction under way, what most operations begin with, and the
 * operations. Each operation changes the arrays at once; false: it is refused, with the refusal in
 * the answer, upon which model_commit puts everything back.
 */
#ifndef VDC_TEST_ALLOCDB_MODEL_RUN_H
#define VDC_TEST_ALLOCDB_MODEL_RUN_H

#include "allocdb_model.h"

struct model_run {
    struct model *m;
    struct model_state *s;
    const struct vdc_tx *tx;
    int zone; /* NONE: never heard of */
    struct model_answer answer;
    bool stored;
};

/* Fills the refusal; always false. */
bool model_refuse(struct model_run *run, enum vdc_rc rc, enum vdc_tx_rule rule, uint64_t asked,
                  uint64_t free_units);
/* What must be there: false or NONE, and it is refused. */
bool model_need_zone(struct model_run *run);
int model_need_partition(struct model_run *run, const struct vdc_id *id);
int model_need_guarded(struct model_run *run, const struct vdc_id *id, uint64_t generation);
bool model_need_numa(struct model_run *run, uint32_t number, int *numa);
bool model_need_nodes(struct model_run *run, uint64_t nodes);
int model_need_free_device(struct model_run *run, const char *address);
void model_touch(struct model_run *run, int partition);
bool model_cpu_is_free(const struct model *m, int c, int zone, int numa);
bool model_is_entry(const struct model *m, int e, enum vdc_entry_kind kind);
bool model_within_slice(struct model_run *run, uint64_t bytes);
uint32_t model_count_bits(uint64_t bits);
bool model_node_fits(enum vdc_locality locality, uint32_t numa, uint64_t nodes, uint32_t first,
                     uint32_t number);
void model_end_entry(struct model_run *run, int e);

bool model_apply_inventory_set(struct model_run *run, const struct vdc_op_inventory_set *set);
bool model_apply_zone_set(struct model_run *run, const struct vdc_op_zone_set *set);
bool model_apply_zone_leave(struct model_run *run);
bool model_apply_zone_epoch(struct model_run *run);
bool model_apply_incarnation_set(struct model_run *run, uint64_t incarnation);
bool model_apply_zone_transfer(struct model_run *run, const struct vdc_op_zone_transfer *transfer);
bool model_apply_device_add(struct model_run *run, const struct vdc_op_device_add *add);
bool model_apply_device_remove(struct model_run *run, const struct vdc_op_device_remove *remove);
bool model_apply_device_attach(struct model_run *run, const struct vdc_op_device_attach *attach);
bool model_apply_device_detach(struct model_run *run, const struct vdc_op_device_attach *detach);
bool model_apply_volume_attach(struct model_run *run, const struct vdc_op_volume_attach *attach);
bool model_apply_volume_detach(struct model_run *run, const struct vdc_op_volume_detach *detach);
bool model_apply_port_connect(struct model_run *run, const struct vdc_op_port_connect *connect);
bool model_apply_port_disconnect(struct model_run *run,
                                 const struct vdc_op_port_disconnect *disconnect);
bool model_apply_channel_connect(struct model_run *run,
                                 const struct vdc_op_channel_connect *connect);
bool model_apply_channel_disconnect(struct model_run *run, const struct vdc_id *id);
bool model_apply_promise(struct model_run *run, const struct vdc_op_fence_promise *promise);
bool model_apply_cpu_assign(struct model_run *run, const struct vdc_op_cpu_assign *assign);
bool model_apply_cpu_release(struct model_run *run, const struct vdc_op_cpu_release *release);
bool model_apply_memory_assign(struct model_run *run, const struct vdc_op_memory_assign *assign);
bool model_apply_memory_release(struct model_run *run, const struct vdc_op_memory_release *release);

#endif
