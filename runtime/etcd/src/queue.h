/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC's completion queue on a libuv loop. The queue has no descriptor to poll, so one thread waits
 * in it and hands {tag, ok} pairs over in an array; it wakes the loop only when the array was empty,
 * so that wake-ups batch under load. The array rather than a list through the tags: the thread never
 * writes to a tag, which keeps thread sanitizers quiet and the ownership plain.
 */
#ifndef VDC_ETCD_QUEUE_H
#define VDC_ETCD_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include <grpc/grpc.h>
#include <pthread.h>
#include <uv.h>

/* The first member of whatever is passed to gRPC as a tag. */
struct vdc_etcd_tag {
    void (*fn)(struct vdc_etcd_tag *tag, bool ok); /* on the loop's thread */
};

struct vdc_etcd_ready {
    struct vdc_etcd_tag *tag;
    bool ok;
};

struct vdc_etcd_ready_list {
    struct vdc_etcd_ready *items;
    size_t len;
    size_t cap;
};

struct vdc_etcd_queue {
    grpc_completion_queue *cq;
    pthread_t thread;
    uv_async_t async;
    pthread_mutex_t lock;               /* of filling and down */
    struct vdc_etcd_ready_list filling; /* by the thread */
    struct vdc_etcd_ready_list drained; /* by the loop */
    bool down;                          /* the thread has seen the end of the queue */
    void (*on_drained)(void *data);     /* after each batch of tags */
    void (*on_down)(void *data);        /* once: the queue is gone, the handle closed */
    void *data;
};

/* grpc_init() has been called. */
void vdc_etcd_queue_open(struct vdc_etcd_queue *queue, uv_loop_t *loop,
                         void (*on_drained)(void *data), void (*on_down)(void *data), void *data);
/* No tag is out any more. */
void vdc_etcd_queue_close(struct vdc_etcd_queue *queue);

#endif
