/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fence against a model of the store in which every attempt may be done at once, later, or
 * never, and its answer may be lost.
 */
#include <criterion/criterion.h>

#include <vdc/prng.h>

#include "fence.h"

enum { KEYS = 3, LOOSE = 64 };

struct loose {
    bool used;
    struct vdc_etcd_attempt attempt;
    int key;
    int value;
};

struct model {
    int64_t revision; /* of the store */
    int64_t fence;
    int values[KEYS];
    struct loose loose[LOOSE];
};

/* Whether the store does the attempt now. */
static bool model_do(struct model *model, struct vdc_etcd_attempt attempt, int key, int value)
{
    if (attempt.revision != model->fence) {
        return false;
    }
    model->revision++;
    model->values[key] = value;
    if (attempt.moves) {
        model->fence = model->revision;
    }
    return true;
}

static void model_thaw(struct model *model, struct vdc_prng *prng)
{
    for (int i = 0; i < LOOSE; i++) {
        struct loose *loose = &model->loose[i];
        if (loose->used && vdc_prng_below(prng, 4) == 0) {
            model_do(model, loose->attempt, loose->key, loose->value);
            loose->used = false;
        }
    }
}

static void model_hold(struct model *model, struct vdc_etcd_attempt attempt, int key, int value)
{
    for (int i = 0; i < LOOSE; i++) {
        if (!model->loose[i].used) {
            model->loose[i] = (struct loose){true, attempt, key, value};
            return;
        }
    }
}

/* One write, tried until it is done, as write.c does it. */
static void write_until_done(struct model *model, struct vdc_etcd_fence *fence,
                             struct vdc_prng *prng, int key, int value)
{
    for (;;) {
        model_thaw(model, prng);
        struct vdc_etcd_attempt attempt = vdc_etcd_fence_begin(fence);
        uint64_t fate = vdc_prng_below(prng, 5);
        if (fate == 0) {
            model_hold(model, attempt, key, value);
            vdc_etcd_fence_lost(fence, attempt);
        } else if (fate == 1) {
            model_do(model, attempt, key, value);
            vdc_etcd_fence_lost(fence, attempt);
        } else if (model_do(model, attempt, key, value)) {
            vdc_etcd_fence_done(fence, attempt, model->revision);
            return;
        } else {
            cr_assert_gt(model->fence, attempt.revision);
            vdc_etcd_fence_learn(fence, model->fence);
        }
    }
}

Test(etcd_fence, no_lost_attempt_is_done_after_a_later_write_of_its_key)
{
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct vdc_prng prng;
        vdc_prng_init(&prng, seed);
        struct model model = {.revision = 100, .fence = seed % 2 == 0 ? 90 : 0};
        struct vdc_etcd_fence fence = {0};
        for (int value = 1; value <= 60; value++) {
            int key = (int)vdc_prng_below(&prng, KEYS);
            write_until_done(&model, &fence, &prng, key, value);
            for (int i = 0; i < 5; i++) {
                model_thaw(&model, &prng);
            }
            cr_assert_eq(model.values[key], value, "seed %llu", (unsigned long long)seed);
        }
    }
}

Test(etcd_fence, nothing_lost_moves_nothing)
{
    struct vdc_etcd_fence fence = {0};
    struct vdc_etcd_attempt attempt = vdc_etcd_fence_begin(&fence);
    cr_assert_not(attempt.moves);
    vdc_etcd_fence_done(&fence, attempt, 7);
    cr_assert_eq(fence.revision, 0);
    cr_assert_not(fence.dirty);
}

Test(etcd_fence, an_attempt_that_requires_an_older_fence_is_harmless)
{
    struct vdc_etcd_fence fence = {.revision = 5};
    struct vdc_etcd_attempt old = vdc_etcd_fence_begin(&fence);
    vdc_etcd_fence_learn(&fence, 9);
    vdc_etcd_fence_lost(&fence, old);
    cr_assert_not(fence.dirty);
    vdc_etcd_fence_learn(&fence, 8); /* an answer that was late */
    cr_assert_eq(fence.revision, 9);
}
