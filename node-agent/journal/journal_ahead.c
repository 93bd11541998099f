/* SPDX-License-Identifier: Apache-2.0 */
#include "journal_ahead.h"

#include <vdc/base.h>

void journal_ahead_init(struct journal_ahead *ahead)
{
    VDC_ASSERT(uv_mutex_init(&ahead->mutex) == 0 && uv_cond_init(&ahead->changed) == 0);
    ahead->begun = 0;
    ahead->used = 0;
    ahead->ended = false;
    ahead->stopped = false;
}

void journal_ahead_deinit(struct journal_ahead *ahead)
{
    uv_cond_destroy(&ahead->changed);
    uv_mutex_destroy(&ahead->mutex);
}

struct ahead_batch *journal_ahead_begin(struct journal_ahead *ahead, uint64_t segment)
{
    uv_mutex_lock(&ahead->mutex);
    while (ahead->begun - ahead->used == AHEAD_BATCHES && !ahead->stopped) {
        uv_cond_wait(&ahead->changed, &ahead->mutex);
    }
    struct ahead_batch *batch =
        ahead->stopped ? NULL : &ahead->batches[ahead->begun % AHEAD_BATCHES];
    uv_mutex_unlock(&ahead->mutex);
    if (batch != NULL) {
        batch->segment = segment;
        batch->len = 0;
        batch->map = (struct journal_mapping){0};
    }
    return batch;
}

/* Every change wakes the other thread, which is the only one that waits. */
static void change(struct journal_ahead *ahead, uint32_t *counter, bool *flag)
{
    uv_mutex_lock(&ahead->mutex);
    if (counter != NULL) {
        ++*counter;
    }
    if (flag != NULL) {
        *flag = true;
    }
    uv_cond_signal(&ahead->changed);
    uv_mutex_unlock(&ahead->mutex);
}

void journal_ahead_hand_over(struct journal_ahead *ahead)
{
    change(ahead, &ahead->begun, NULL);
}

void journal_ahead_end(struct journal_ahead *ahead)
{
    change(ahead, NULL, &ahead->ended);
}

struct ahead_batch *journal_ahead_wait(struct journal_ahead *ahead)
{
    uv_mutex_lock(&ahead->mutex);
    while (ahead->begun == ahead->used && !ahead->ended) {
        uv_cond_wait(&ahead->changed, &ahead->mutex);
    }
    struct ahead_batch *batch =
        ahead->begun == ahead->used ? NULL : &ahead->batches[ahead->used % AHEAD_BATCHES];
    uv_mutex_unlock(&ahead->mutex);
    return batch;
}

void journal_ahead_give_back(struct journal_ahead *ahead)
{
    change(ahead, &ahead->used, NULL);
}

void journal_ahead_stop(struct journal_ahead *ahead)
{
    change(ahead, NULL, &ahead->stopped);
}
