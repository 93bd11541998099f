/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request is waiting, in flight, or (inside `done`) in neither list:
 *
 *   queue -> waiting -> in flight -> done -> freed
 *               ^            |         |
 *               +- try again-+         +-> queue (a list's next page, a write's next attempt)
 *
 * What is cancelled or late while it waits ends from the timer; in flight, by cancelling the call.
 */
#include "client.h"

#include <utlist.h>

#include <vdc/clock.h>

enum vdc_rc vdc_etcd_request_room(const struct vdc_etcd *etcd)
{
    VDC_ASSERT(etcd->magic == VDC_ETCD_MAGIC);
    if (etcd->closing) {
        return VDC_RC_CANCELLED;
    }
    return etcd->request_count < VDC_ETCD_REQUESTS_MAX ? VDC_RC_OK : VDC_RC_LIMIT;
}

void vdc_etcd_request_init(struct vdc_etcd_request *request, struct vdc_etcd *etcd,
                           const struct vdc_etcd_request_kind *kind, vdc_mono deadline)
{
    *request = (struct vdc_etcd_request){.magic = VDC_ETCD_REQUEST_MAGIC,
                                         .etcd = etcd,
                                         .kind = kind,
                                         .attempt_timeout_ms = etcd->attempt_timeout_ms,
                                         .deadline = deadline};
    etcd->request_count++;
}

void vdc_etcd_request_deinit(struct vdc_etcd_request *request)
{
    request->etcd->request_count--;
    request->magic = 0;
    vdc_buf_deinit(&request->body);
}

vdc_mono vdc_etcd_request_deadline(const struct vdc_etcd *etcd)
{
    return vdc_mono_add(vdc_clock_mono(), etcd->request_timeout_ms * VDC_MS);
}

/* To be ended by the timer rather than sent. */
static bool over(const struct vdc_etcd_request *request, vdc_mono now)
{
    return request->cancelled || request->settled || request->etcd->closing ||
           vdc_mono_reached(now, request->deadline);
}

void vdc_etcd_request_queue(struct vdc_etcd_request *request)
{
    struct vdc_etcd *etcd = request->etcd;
    VDC_ASSERT(request->call == NULL);
    if (request->kind->urgent) {
        DL_PREPEND(etcd->waiting, request);
    } else {
        DL_APPEND(etcd->waiting, request);
    }
    vdc_mono now = vdc_clock_mono();
    vdc_etcd_wake_at(etcd, over(request, now) ? now : request->deadline);
    if (!vdc_mono_reached(now, request->not_before)) {
        vdc_etcd_wake_at(etcd, request->not_before);
    }
    vdc_etcd_pump(etcd);
}

static void finish(struct vdc_etcd_request *request, const struct vdc_etcd_request_end *end)
{
    if (request->kind->done(request, end)) {
        request->kind->destroy(request);
    }
}

/* The text of a failed attempt, kept for the case that it was the last. */
static void remember(struct vdc_etcd_request *request, enum vdc_rc rc,
                     const struct vdc_etcd_call_end *end)
{
    vdc_err_set(&request->last, rc, "etcd %s at %s: %s", request->kind->what, end->endpoint,
                end->detail[0] != 0 ? end->detail : vdc_rc_sentence(rc));
}

/* The first new attempt goes out at once: after a failover that is all it takes. Those after it wait,
 * so that a member which refuses under load is not asked in a loop while others are answered. */
static void postpone(struct vdc_etcd_request *request)
{
    request->failures++;
    if (request->failures >= 2) {
        int64_t ms = VDC_ETCD_BACKOFF_MAX_MS;
        if (request->failures <= 6) {
            ms = VDC_MIN(ms, (int64_t)VDC_ETCD_BACKOFF_MIN_MS << (request->failures - 2));
        }
        request->not_before = vdc_mono_add(vdc_clock_mono(), ms * VDC_MS);
    }
}

static void on_call_end(void *data, const struct vdc_etcd_call_end *call_end)
{
    struct vdc_etcd_request *request;
    VDC_CAST(request, data, VDC_ETCD_REQUEST_MAGIC);
    struct vdc_etcd *etcd = request->etcd;
    DL_DELETE(etcd->in_flight, request);
    etcd->in_flight_count--;
    request->call = NULL;

    struct vdc_etcd_request_end end = {.rc = call_end->outcome.rc,
                                       .answer = call_end->answer,
                                       .answer_len = call_end->answer_len,
                                       .sent = call_end->sent,
                                       .err = &request->last};
    bool lost = call_end->outcome.fate == VDC_ETCD_LOST;
    if (call_end->outcome.fate == VDC_ETCD_ANSWERED) {
        if (end.rc != VDC_RC_OK) {
            remember(request, end.rc, call_end);
        }
        finish(request, &end);
        return;
    }

    end.may_be_done = lost;
    if (request->cancelled || etcd->closing) {
        end.rc = vdc_err_set(&request->last, VDC_RC_CANCELLED, "etcd %s: cancelled",
                             request->kind->what);
        finish(request, &end);
        return;
    }
    remember(request, end.rc, call_end);
    postpone(request);
    if (lost && !request->kind->idempotent) {
        end.rc = request->last.rc = VDC_RC_UNKNOWN_OUTCOME;
        finish(request, &end);
        return;
    }
    if (!vdc_rc_retryable(end.rc)) {
        finish(request, &end);
        return;
    }
    vdc_etcd_request_queue(request);
}

static void request_send(struct vdc_etcd_request *request, vdc_mono now)
{
    struct vdc_etcd *etcd = request->etcd;
    DL_DELETE(etcd->waiting, request);
    DL_APPEND(etcd->in_flight, request);
    etcd->in_flight_count++;
    if (request->kind->prepare != NULL) {
        request->kind->prepare(request);
    }
    int64_t left_ms = vdc_mono_sub(request->deadline, now) / VDC_MS + 1;
    request->call = vdc_etcd_call_start(
        etcd, request->kind->method, vdc_buf_text(&request->body), request->body.len,
        VDC_MIN(request->attempt_timeout_ms, left_ms), on_call_end, request);
}

void vdc_etcd_requests_send(struct vdc_etcd *etcd)
{
    vdc_mono now = vdc_clock_mono();
    struct vdc_etcd_request *request;
    struct vdc_etcd_request *next;
    DL_FOREACH_SAFE(etcd->waiting, request, next)
    {
        if (etcd->in_flight_count >= VDC_ETCD_IN_FLIGHT_MAX && !request->kind->urgent) {
            return; /* urgent ones stand in front */
        }
        if (!over(request, now) && vdc_mono_reached(now, request->not_before)) {
            request_send(request, now);
        }
    }
}

static void expire(struct vdc_etcd_request *request)
{
    struct vdc_etcd_request_end end = {.answer = "", .err = &request->last};
    if (request->settled) {
        end.rc = VDC_RC_OK;
    } else if (request->cancelled || request->etcd->closing) {
        end.rc = vdc_err_set(&request->last, VDC_RC_CANCELLED, "etcd %s: cancelled",
                             request->kind->what);
    } else if (request->last.rc != VDC_RC_OK) {
        end.rc = request->last.rc;
    } else {
        end.rc = vdc_err_set(&request->last, VDC_RC_TIMEOUT, "etcd %s: not sent in time",
                             request->kind->what);
    }
    finish(request, &end);
}

void vdc_etcd_requests_expire(struct vdc_etcd *etcd, vdc_mono now)
{
    /* From the front again after each: its callback may change the list. The most common case, that
     * all are over, finds the next one at once. */
    for (;;) {
        struct vdc_etcd_request *found = NULL;
        struct vdc_etcd_request *request;
        DL_FOREACH(etcd->waiting, request)
        {
            if (over(request, now)) {
                found = request;
                break;
            }
        }
        if (found == NULL) {
            return;
        }
        DL_DELETE(etcd->waiting, found);
        expire(found);
    }
}

vdc_mono vdc_etcd_requests_due(const struct vdc_etcd *etcd)
{
    vdc_mono due = VDC_NEVER;
    const struct vdc_etcd_request *request;
    DL_FOREACH(etcd->waiting, request)
    {
        due = vdc_mono_min(due, request->deadline);
        /* Where there is no room, the next answer sends. */
        if (etcd->in_flight_count < VDC_ETCD_IN_FLIGHT_MAX || request->kind->urgent) {
            due = vdc_mono_min(due, vdc_mono_max(request->not_before, etcd->route.not_before));
        }
    }
    return due;
}

void vdc_etcd_cancel(struct vdc_etcd_request *request)
{
    VDC_ASSERT(request != NULL && request->magic == VDC_ETCD_REQUEST_MAGIC);
    request->cancelled = true;
    if (request->call != NULL) {
        vdc_etcd_call_cancel(request->call);
    } else {
        vdc_etcd_wake_at(request->etcd, vdc_clock_mono());
    }
}
