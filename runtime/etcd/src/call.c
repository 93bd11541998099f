/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One unary call: a single batch of all six operations, so one tag. With the status in the batch its
 * `ok` is always true: the status says everything. Keep-alives of leases go this way too, although
 * etcd declares them as a stream: a stream of one message each way and a half-close looks the same
 * on the wire, and gives each keep-alive a deadline and a place of its own in the failure handling.
 */
#include "client.h"

#include <string.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>

#include <vdc/clock.h>

struct vdc_etcd_call {
    struct vdc_etcd_tag tag; /* first */
    struct vdc_etcd *etcd;
    uint64_t generation;
    vdc_mono sent;
    const char *endpoint;
    grpc_call *call;
    grpc_byte_buffer *request;
    grpc_byte_buffer *answer; /* NULL: none came */
    grpc_metadata metadata[1];
    grpc_metadata_array headers;
    grpc_metadata_array trailers;
    grpc_status_code status;
    grpc_slice detail;
    bool cancelled; /* by us: says nothing about the endpoint */
    vdc_etcd_call_cb cb;
    void *data;
};

static void call_free(struct vdc_etcd_call *call)
{
    grpc_byte_buffer_destroy(call->request);
    if (call->answer != NULL) {
        grpc_byte_buffer_destroy(call->answer);
    }
    grpc_metadata_array_destroy(&call->headers);
    grpc_metadata_array_destroy(&call->trailers);
    grpc_slice_unref(call->detail);
    grpc_call_unref(call->call);
    free(call);
}

static void on_call_done(struct vdc_etcd_tag *tag, bool ok)
{
    (void)ok;
    struct vdc_etcd_call *call = (struct vdc_etcd_call *)tag;
    char *detail = grpc_slice_to_c_string(call->detail);
    struct vdc_etcd_call_end end = {.outcome = vdc_etcd_status_outcome((int)call->status, detail),
                                    .detail = detail,
                                    .answer = "",
                                    .sent = call->sent,
                                    .endpoint = call->endpoint};
    grpc_slice answer = grpc_empty_slice();
    if (call->answer != NULL) {
        grpc_byte_buffer_reader reader;
        if (grpc_byte_buffer_reader_init(&reader, call->answer)) {
            grpc_slice_unref(answer);
            answer = grpc_byte_buffer_reader_readall(&reader);
            grpc_byte_buffer_reader_destroy(&reader);
        }
        end.answer = GRPC_SLICE_START_PTR(answer);
        end.answer_len = GRPC_SLICE_LENGTH(answer);
    } else if (call->status == GRPC_STATUS_OK) {
        /* A keep-alive's stream may end before its answer, when the member is being stopped. */
        end.outcome = (struct vdc_etcd_outcome){VDC_ETCD_LOST, VDC_RC_UNAVAILABLE};
        end.detail = "no answer before the end of the call";
    }
    if (!call->cancelled) {
        vdc_etcd_report(call->etcd, call->generation, call->sent, end.outcome, end.detail);
    }
    call->cb(call->data, &end);
    grpc_slice_unref(answer);
    gpr_free(detail);
    call_free(call);
}

struct vdc_etcd_call *vdc_etcd_call_start(struct vdc_etcd *etcd, const char *method,
                                          const void *body, size_t len, int64_t timeout_ms,
                                          vdc_etcd_call_cb cb, void *data)
{
    struct vdc_etcd_call *call = VDC_NEW(struct vdc_etcd_call);
    call->tag.fn = on_call_done;
    call->etcd = etcd;
    call->generation = etcd->route.generation;
    call->endpoint = vdc_etcd_endpoint(etcd);
    call->cb = cb;
    call->data = data;
    call->detail = grpc_empty_slice();
    call->metadata[0] = *vdc_etcd_metadata();
    grpc_metadata_array_init(&call->headers);
    grpc_metadata_array_init(&call->trailers);
    gpr_timespec deadline =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(timeout_ms, GPR_TIMESPAN));
    grpc_channel *channel = vdc_etcd_channel(etcd);
    call->call =
        grpc_channel_create_call(channel, NULL, GRPC_PROPAGATE_DEFAULTS, etcd->queue.cq,
                                 grpc_slice_from_static_string(method), NULL, deadline, NULL);
    grpc_slice slice = grpc_slice_from_copied_buffer(body, len);
    call->request = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);

    grpc_op ops[6];
    memset(ops, 0, sizeof(ops)); /* gRPC checks the reserved fields */
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[0].data.send_initial_metadata.count = 1;
    ops[0].data.send_initial_metadata.metadata = call->metadata;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = call->request;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &call->headers;
    ops[4].op = GRPC_OP_RECV_MESSAGE;
    ops[4].data.recv_message.recv_message = &call->answer;
    ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[5].data.recv_status_on_client.trailing_metadata = &call->trailers;
    ops[5].data.recv_status_on_client.status = &call->status;
    ops[5].data.recv_status_on_client.status_details = &call->detail;
    call->sent = vdc_clock_mono();
    VDC_ASSERT(grpc_call_start_batch(call->call, ops, VDC_COUNT_OF(ops), &call->tag, NULL) ==
               GRPC_CALL_OK);
    return call;
}

void vdc_etcd_call_cancel(struct vdc_etcd_call *call)
{
    call->cancelled = true;
    grpc_call_cancel(call->call, NULL);
}
