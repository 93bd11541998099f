/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watches. Each has a stream of its own while it is open; a stream that ends is followed by another
 * one, on whatever endpoint is then in use, from where the cursor stands.
 *
 * A stream has three tags; it is freed when the last of them is back:
 *
 *   status  alone, first: comes only when the call is over
 *   create  our headers and the one message we send
 *   read    etcd's headers and first message (it sends the headers only then); again after each
 *           message; a read without a message is the end
 *
 * A watch that is closed or moves to another endpoint lets go of its stream (stream->watch = NULL)
 * and cancels the call: what that stream still brings is not looked at.
 */
#include "client.h"

#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <utlist.h>

#include <vdc/clock.h>

#include "codec.h"
#include "cursor.h"

struct vdc_etcd_watch {
    uint32_t magic;
    struct vdc_etcd *etcd;
    char *prefix;
    struct vdc_etcd_cursor cursor;
    struct vdc_etcd_watch_calls calls;
    void *data;
    struct vdc_etcd_stream *stream; /* NULL: none open */
    bool compacted;                 /* nothing more will come */
    vdc_mono not_before;            /* of the next stream */
    struct vdc_etcd_watch *prev;
    struct vdc_etcd_watch *next;
};

struct stream_tag {
    struct vdc_etcd_tag tag; /* first */
    struct vdc_etcd_stream *stream;
};

struct vdc_etcd_stream {
    struct vdc_etcd *etcd;
    struct vdc_etcd_watch *watch; /* NULL: let go of */
    uint64_t generation;
    vdc_mono opened;
    uint32_t tags_out;
    grpc_call *call;
    struct stream_tag status_tag;
    struct stream_tag create_tag;
    struct stream_tag read_tag;
    grpc_byte_buffer *request;
    grpc_byte_buffer *answer;
    grpc_metadata metadata[1];
    grpc_metadata_array headers;
    grpc_metadata_array trailers;
    grpc_status_code status;
    grpc_slice detail;
    struct vdc_etcd_stream *prev;
    struct vdc_etcd_stream *next;
};

/* ---- Streams ---- */

static void stream_let_go(struct vdc_etcd_stream *stream)
{
    stream->watch->stream = NULL;
    stream->watch = NULL;
    grpc_call_cancel(stream->call, NULL);
}

static void stream_tag_back(struct vdc_etcd_stream *stream)
{
    VDC_ASSERT(stream->tags_out > 0);
    if (--stream->tags_out > 0) {
        return;
    }
    DL_DELETE(stream->etcd->streams, stream);
    grpc_byte_buffer_destroy(stream->request);
    if (stream->answer != NULL) {
        grpc_byte_buffer_destroy(stream->answer);
    }
    grpc_metadata_array_destroy(&stream->headers);
    grpc_metadata_array_destroy(&stream->trailers);
    grpc_slice_unref(stream->detail);
    grpc_call_unref(stream->call);
    free(stream);
}

static void start_batch(struct vdc_etcd_stream *stream, const grpc_op *ops, size_t count,
                        struct stream_tag *tag)
{
    stream->tags_out++;
    VDC_ASSERT(grpc_call_start_batch(stream->call, ops, count, &tag->tag, NULL) == GRPC_CALL_OK);
}

static void start_read(struct vdc_etcd_stream *stream, bool first)
{
    grpc_op ops[2];
    memset(ops, 0, sizeof(ops));
    ops[0].op = GRPC_OP_RECV_MESSAGE;
    ops[0].data.recv_message.recv_message = &stream->answer;
    ops[1].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[1].data.recv_initial_metadata.recv_initial_metadata = &stream->headers;
    start_batch(stream, ops, first ? 2 : 1, &stream->read_tag);
}

/* ---- What comes ---- */

static void deliver(struct vdc_etcd_watch *watch, const Etcdpb__WatchResponse *response)
{
    vdc_autofree struct vdc_etcd_event *events =
        vdc_calloc(response->n_events, sizeof(struct vdc_etcd_event));
    size_t count = 0;
    for (size_t i = 0; i < response->n_events; i++) {
        const Etcdpb__Event *event = response->events[i];
        if (vdc_etcd_cursor_take(&watch->cursor, event->kv->mod_revision)) {
            events[count].deleted = event->type == ETCDPB__EVENT__EVENT_TYPE__DELETE;
            events[count].kv = vdc_etcd_kv_from(event->kv);
            count++;
        }
    }
    vdc_etcd_cursor_end(&watch->cursor, response->fragment != 0);
    if (count > 0) {
        watch->calls.on_events(watch->data, events, count);
    }
}

/* etcd ended the watch, not the stream. The user may close the watch in here. */
static void cancelled_by_etcd(struct vdc_etcd_watch *watch, const Etcdpb__WatchResponse *response)
{
    struct vdc_etcd *etcd = watch->etcd;
    stream_let_go(watch->stream);
    if (response->compact_revision > 0) {
        watch->compacted = true;
        vdc_etcd_trace(etcd, VDC_LEVEL_WARN,
                       "etcd: watch %s wants revision %lld, compacted up to %lld -> list again",
                       watch->prefix, (long long)watch->cursor.revision,
                       (long long)response->compact_revision);
        watch->calls.on_compacted(watch->data, response->compact_revision);
        return;
    }
    watch->not_before = vdc_mono_add(vdc_clock_mono(), VDC_ETCD_BACKOFF_MAX_MS * VDC_MS);
    vdc_etcd_wake_at(etcd, watch->not_before);
    vdc_etcd_trace(etcd, VDC_LEVEL_WARN, "etcd: watch %s was ended: %.200s -> again in %d ms",
                   watch->prefix, response->cancel_reason, VDC_ETCD_BACKOFF_MAX_MS);
}

static void take_response(struct vdc_etcd_watch *watch, const Etcdpb__WatchResponse *response)
{
    if (response->canceled) {
        cancelled_by_etcd(watch, response);
    } else if (response->n_events > 0) {
        deliver(watch, response);
    } else if (!response->created && !response->fragment) {
        vdc_etcd_cursor_progress(&watch->cursor, response->header->revision);
    }
}

static void on_read(struct vdc_etcd_tag *tag, bool ok)
{
    struct vdc_etcd_stream *stream = ((struct stream_tag *)tag)->stream;
    bool message = ok && stream->answer != NULL;
    if (message && stream->watch != NULL) {
        grpc_slice slice = grpc_empty_slice();
        grpc_byte_buffer_reader reader;
        if (grpc_byte_buffer_reader_init(&reader, stream->answer)) {
            slice = grpc_byte_buffer_reader_readall(&reader);
            grpc_byte_buffer_reader_destroy(&reader);
        }
        Etcdpb__WatchResponse *response =
            vdc_etcd_decode_watch(GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice));
        grpc_slice_unref(slice);
        if (response != NULL) {
            take_response(stream->watch, response);
            vdc_etcd_watch_response_free(response);
        } else {
            /* The stream's end is reported as a failure of the endpoint. */
            vdc_etcd_trace(stream->etcd, VDC_LEVEL_ERROR,
                           "etcd: a watch answer cannot be read -> stream ended");
            grpc_call_cancel(stream->call, NULL);
        }
    }
    if (stream->answer != NULL) {
        grpc_byte_buffer_destroy(stream->answer);
        stream->answer = NULL;
    }
    if (message) {
        start_read(stream, false);
    }
    stream_tag_back(stream);
}

static void on_create(struct vdc_etcd_tag *tag, bool ok)
{
    (void)ok;
    stream_tag_back(((struct stream_tag *)tag)->stream);
}

static void on_status(struct vdc_etcd_tag *tag, bool ok)
{
    (void)ok;
    struct vdc_etcd_stream *stream = ((struct stream_tag *)tag)->stream;
    struct vdc_etcd_watch *watch = stream->watch;
    if (watch != NULL) {
        watch->stream = NULL;
        stream->watch = NULL;
        char *detail = grpc_slice_to_c_string(stream->detail);
        struct vdc_etcd_outcome outcome = vdc_etcd_status_outcome((int)stream->status, detail);
        if (outcome.fate == VDC_ETCD_ANSWERED && outcome.rc != VDC_RC_OK) {
            /* A refusal (permission, ...): another endpoint would say the same. */
            watch->not_before = vdc_mono_add(vdc_clock_mono(), VDC_ETCD_BACKOFF_MAX_MS * VDC_MS);
            vdc_etcd_wake_at(stream->etcd, watch->not_before);
            vdc_etcd_trace(stream->etcd, VDC_LEVEL_WARN, "etcd: watch %s: %s -> again in %d ms",
                           watch->prefix, detail, VDC_ETCD_BACKOFF_MAX_MS);
        } else {
            /* Also a stream that ended well: a member does that when it stops. */
            outcome = (struct vdc_etcd_outcome){VDC_ETCD_LOST, VDC_RC_UNAVAILABLE};
            vdc_etcd_report(stream->etcd, stream->generation, stream->opened, outcome, detail);
        }
        gpr_free(detail);
    }
    stream_tag_back(stream);
}

/* ---- Opening streams ---- */

static void stream_open(struct vdc_etcd_watch *watch)
{
    struct vdc_etcd *etcd = watch->etcd;
    struct vdc_etcd_stream *stream = VDC_NEW(struct vdc_etcd_stream);
    stream->etcd = etcd;
    stream->watch = watch;
    stream->generation = etcd->route.generation;
    stream->opened = vdc_clock_mono();
    stream->status_tag = (struct stream_tag){{on_status}, stream};
    stream->create_tag = (struct stream_tag){{on_create}, stream};
    stream->read_tag = (struct stream_tag){{on_read}, stream};
    stream->metadata[0] = *vdc_etcd_metadata();
    stream->detail = grpc_empty_slice();
    grpc_metadata_array_init(&stream->headers);
    grpc_metadata_array_init(&stream->trailers);
    watch->stream = stream;
    DL_APPEND(etcd->streams, stream);

    vdc_etcd_cursor_resume(&watch->cursor);
    struct vdc_buf body = {0};
    vdc_etcd_encode_watch(&body, watch->prefix, watch->cursor.revision);
    grpc_slice slice = grpc_slice_from_copied_buffer(body.data, body.len);
    stream->request = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    vdc_buf_deinit(&body);

    stream->call = grpc_channel_create_call(vdc_etcd_channel(etcd), NULL, GRPC_PROPAGATE_DEFAULTS,
                                            etcd->queue.cq,
                                            grpc_slice_from_static_string(VDC_ETCD_METHOD_WATCH),
                                            NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);

    grpc_op status;
    memset(&status, 0, sizeof(status));
    status.op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    status.data.recv_status_on_client.trailing_metadata = &stream->trailers;
    status.data.recv_status_on_client.status = &stream->status;
    status.data.recv_status_on_client.status_details = &stream->detail;
    start_batch(stream, &status, 1, &stream->status_tag);

    grpc_op create[2];
    memset(create, 0, sizeof(create));
    create[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    create[0].data.send_initial_metadata.count = 1;
    create[0].data.send_initial_metadata.metadata = stream->metadata;
    create[1].op = GRPC_OP_SEND_MESSAGE;
    create[1].data.send_message.send_message = stream->request;
    start_batch(stream, create, VDC_COUNT_OF(create), &stream->create_tag);

    start_read(stream, true);
}

void vdc_etcd_watches_open(struct vdc_etcd *etcd)
{
    vdc_mono now = vdc_clock_mono();
    struct vdc_etcd_watch *watch;
    DL_FOREACH(etcd->watches, watch)
    {
        if (watch->stream == NULL && !watch->compacted &&
            vdc_mono_reached(now, watch->not_before)) {
            stream_open(watch);
        }
    }
}

void vdc_etcd_watches_move(struct vdc_etcd *etcd)
{
    struct vdc_etcd_watch *watch;
    DL_FOREACH(etcd->watches, watch)
    {
        if (watch->stream != NULL && watch->stream->generation != etcd->route.generation) {
            stream_let_go(watch->stream);
        }
    }
}

vdc_mono vdc_etcd_watches_due(const struct vdc_etcd *etcd)
{
    vdc_mono due = VDC_NEVER;
    const struct vdc_etcd_watch *watch;
    DL_FOREACH(etcd->watches, watch)
    {
        if (watch->stream == NULL && !watch->compacted) {
            due = vdc_mono_min(due, vdc_mono_max(watch->not_before, etcd->route.not_before));
        }
    }
    return due;
}

/* ---- For the user ---- */

enum vdc_rc vdc_etcd_watch_open(struct vdc_etcd *etcd, const char *prefix, int64_t from_revision,
                                const struct vdc_etcd_watch_calls *calls, void *data,
                                struct vdc_etcd_watch **out)
{
    VDC_ASSERT(etcd->magic == VDC_ETCD_MAGIC);
    if (etcd->closing) {
        return VDC_RC_CANCELLED;
    }
    if (vdc_etcd_check_key(prefix, true) != VDC_RC_OK || from_revision < 1) {
        return VDC_RC_INVALID;
    }
    if (etcd->watch_count >= VDC_ETCD_WATCHES_MAX) {
        return VDC_RC_LIMIT;
    }
    struct vdc_etcd_watch *watch = VDC_NEW(struct vdc_etcd_watch);
    watch->magic = VDC_ETCD_WATCH_MAGIC;
    watch->etcd = etcd;
    watch->prefix = vdc_strdup(prefix);
    watch->calls = *calls;
    watch->data = data;
    vdc_etcd_cursor_init(&watch->cursor, from_revision);
    DL_APPEND(etcd->watches, watch);
    etcd->watch_count++;
    *out = watch;
    vdc_etcd_pump(etcd);
    return VDC_RC_OK;
}

int64_t vdc_etcd_watch_revision(const struct vdc_etcd_watch *watch)
{
    return watch->cursor.revision;
}

void vdc_etcd_watch_close(struct vdc_etcd_watch *watch)
{
    if (watch == NULL) {
        return;
    }
    VDC_ASSERT(watch->magic == VDC_ETCD_WATCH_MAGIC);
    if (watch->stream != NULL) {
        stream_let_go(watch->stream);
    }
    DL_DELETE(watch->etcd->watches, watch);
    watch->etcd->watch_count--;
    watch->magic = 0;
    free(watch->prefix);
    free(watch);
}
