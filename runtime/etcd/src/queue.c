/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order of the end: all tags are back -> the queue is shut down -> the thread sees that, says so and
 * returns -> the loop joins it, destroys the queue, closes the async handle -> on_down.
 */
#include "queue.h"

#include <signal.h>

#include <vdc/base.h>

static void *wait_for_completions(void *data)
{
    struct vdc_etcd_queue *queue = data;
    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(queue->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        bool down = event.type == GRPC_QUEUE_SHUTDOWN;
        pthread_mutex_lock(&queue->lock);
        bool was_empty = queue->filling.len == 0;
        if (down) {
            queue->down = true;
        } else {
            struct vdc_etcd_ready_list *list = &queue->filling;
            VDC_GROW(list->items, list->cap, list->len + 1);
            list->items[list->len++] =
                (struct vdc_etcd_ready){.tag = event.tag, .ok = event.success != 0};
        }
        pthread_mutex_unlock(&queue->lock);
        if (was_empty || down) {
            uv_async_send(&queue->async);
        }
        if (down) {
            return NULL;
        }
    }
}

static void on_async_closed(uv_handle_t *handle)
{
    struct vdc_etcd_queue *queue = handle->data;
    pthread_mutex_destroy(&queue->lock);
    free(queue->filling.items);
    free(queue->drained.items);
    queue->on_down(queue->data);
}

static void on_async(uv_async_t *async)
{
    struct vdc_etcd_queue *queue = async->data;
    pthread_mutex_lock(&queue->lock);
    struct vdc_etcd_ready_list list = queue->filling;
    queue->filling = queue->drained;
    queue->filling.len = 0;
    queue->drained = list;
    bool down = queue->down;
    pthread_mutex_unlock(&queue->lock);

    for (size_t i = 0; i < list.len; i++) {
        list.items[i].tag->fn(list.items[i].tag, list.items[i].ok);
    }
    if (down) {
        if (!uv_is_closing((uv_handle_t *)async)) {
            pthread_join(queue->thread, NULL);
            grpc_completion_queue_destroy(queue->cq);
            uv_close((uv_handle_t *)async, on_async_closed);
        }
        return;
    }
    queue->on_drained(queue->data);
}

void vdc_etcd_queue_open(struct vdc_etcd_queue *queue, uv_loop_t *loop,
                         void (*on_drained)(void *data), void (*on_down)(void *data), void *data)
{
    *queue = (struct vdc_etcd_queue){.on_drained = on_drained, .on_down = on_down, .data = data};
    queue->cq = grpc_completion_queue_create_for_next(NULL);
    VDC_ASSERT(uv_async_init(loop, &queue->async, on_async) == 0);
    queue->async.data = queue;
    VDC_ASSERT(pthread_mutex_init(&queue->lock, NULL) == 0);
    VDC_ASSERT(pthread_create(&queue->thread, NULL, wait_for_completions, queue) == 0);
}

void vdc_etcd_queue_close(struct vdc_etcd_queue *queue)
{
    grpc_completion_queue_shutdown(queue->cq);
}
