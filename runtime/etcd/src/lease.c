/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases:
 *
 *   granting --granted--> held --confirmed--> held ...
 *      |                   +-- etcd says gone, or confirmed sent + ttl has passed --> lost
 *      +-- refused --> lost
 *
 * The deadline counts from the instant at which the confirmed request was sent, so it is never later
 * than etcd's own, whatever time the answer took. A keep-alive is one request, tried on any endpoint
 * until the deadline.
 */
#include "client.h"

#include <utlist.h>

#include <vdc/clock.h>

#include "codec.h"

#define TTL_MAX_S 86400

enum lease_state { LEASE_GRANTING, LEASE_HELD, LEASE_LOST };

struct vdc_etcd_lease {
    uint32_t magic;
    struct vdc_etcd *etcd;
    enum lease_state state;
    int64_t ttl_s; /* wanted, then granted */
    int64_t id;
    vdc_mono next_beat;            /* HELD: when the next keep-alive is sent */
    vdc_mono deadline;             /* HELD: not later than etcd's */
    struct lease_request *request; /* under way, or NULL */
    struct vdc_etcd_lease_calls calls;
    void *data;
    struct vdc_etcd_lease *prev;
    struct vdc_etcd_lease *next;
};

struct lease_request {
    struct vdc_etcd_request request;             /* first */
    struct vdc_etcd_lease *lease;                /* NULL: the lease has let go of it */
    void (*on_done)(void *data, enum vdc_rc rc); /* of a revoke; may be NULL */
    void *data;
};

static void lease_request_destroy(struct vdc_etcd_request *request)
{
    vdc_etcd_request_deinit(request);
    free(request);
}

static struct lease_request *
make_request(struct vdc_etcd *etcd, const struct vdc_etcd_request_kind *kind, vdc_mono deadline)
{
    struct lease_request *made = VDC_NEW(struct lease_request);
    vdc_etcd_request_init(&made->request, etcd, kind, deadline);
    return made;
}

static void lease_let_go(struct vdc_etcd_lease *lease)
{
    if (lease->request != NULL) {
        lease->request->lease = NULL;
        vdc_etcd_cancel(&lease->request->request);
        lease->request = NULL;
    }
}

/* ---- Revoking ---- */

static bool revoke_done(struct vdc_etcd_request *request, const struct vdc_etcd_request_end *end)
{
    struct lease_request *revoke = (struct lease_request *)request;
    if (revoke->on_done != NULL) {
        /* Gone already is what was wanted. */
        revoke->on_done(revoke->data, end->rc == VDC_RC_NOT_FOUND ? VDC_RC_OK : end->rc);
    }
    return true;
}

static const struct vdc_etcd_request_kind revoke_kind = {.method = VDC_ETCD_METHOD_REVOKE,
                                                         .what = "lease revoke",
                                                         .idempotent = true,
                                                         .urgent = true,
                                                         .done = revoke_done,
                                                         .destroy = lease_request_destroy};

static void send_revoke(struct vdc_etcd *etcd, int64_t id,
                        void (*on_done)(void *data, enum vdc_rc rc), void *data)
{
    struct lease_request *made = make_request(etcd, &revoke_kind, vdc_etcd_request_deadline(etcd));
    made->on_done = on_done;
    made->data = data;
    made->request.settled = id == 0;
    vdc_etcd_encode_revoke(&made->request.body, id);
    vdc_etcd_request_queue(&made->request);
}

/* ---- Grant and keep-alive ---- */

static void lose(struct vdc_etcd_lease *lease, enum vdc_rc rc, const struct vdc_err *err)
{
    lease->state = LEASE_LOST;
    lease_let_go(lease);
    if (rc == VDC_RC_TIMEOUT && lease->id != 0) {
        /* The holder knows that it is over; the sooner its keys go, the sooner others can follow. */
        send_revoke(lease->etcd, lease->id, NULL, NULL);
    }
    vdc_etcd_trace(lease->etcd, VDC_LEVEL_WARN, "etcd: lease %llx: %s -> lost",
                   (unsigned long long)lease->id, vdc_err_text(err));
    lease->calls.on_lost(lease->data, rc, err);
}

/* The user may close the lease in here. */
static void confirm(struct vdc_etcd_lease *lease, vdc_mono sent, int64_t ttl_s)
{
    int64_t ttl_ns = ttl_s * VDC_SECOND;
    lease->state = LEASE_HELD;
    lease->ttl_s = ttl_s;
    lease->deadline = vdc_mono_add(sent, ttl_ns);
    lease->next_beat = vdc_mono_add(sent, ttl_ns / 3);
    vdc_etcd_wake_at(lease->etcd, lease->next_beat);
    lease->calls.on_renewed(lease->data, lease->id, sent, ttl_s * 1000);
}

/* A TTL beyond any that we ask for is a defect of the answer; it must not overflow the deadline. */
static bool is_sound_ttl(int64_t ttl_s)
{
    return ttl_s <= 2 * TTL_MAX_S;
}

/* The request's lease, which is free for the next one; NULL if it has let go. */
static struct vdc_etcd_lease *lease_of(struct vdc_etcd_request *request)
{
    struct vdc_etcd_lease *lease = ((struct lease_request *)request)->lease;
    if (lease != NULL) {
        VDC_ASSERT(lease->magic == VDC_ETCD_LEASE_MAGIC);
        lease->request = NULL;
    }
    return lease;
}

static bool grant_done(struct vdc_etcd_request *request, const struct vdc_etcd_request_end *end)
{
    struct vdc_etcd_lease *lease = lease_of(request);
    int64_t id = 0;
    int64_t ttl_s = 0;
    enum vdc_rc rc = end->rc;
    struct vdc_err err = *end->err;
    if (rc == VDC_RC_OK) {
        rc = vdc_etcd_decode_grant(end->answer, end->answer_len, &id, &ttl_s);
        if (rc == VDC_RC_OK && !is_sound_ttl(ttl_s)) {
            rc = VDC_RC_PROTOCOL;
        }
        vdc_err_set(&err, rc, "etcd lease grant: %s", vdc_rc_sentence(rc));
    }
    if (lease == NULL) {
        if (rc == VDC_RC_OK && !request->etcd->closing) {
            send_revoke(request->etcd, id, NULL, NULL);
        }
    } else if (rc == VDC_RC_OK) {
        lease->id = id;
        confirm(lease, end->sent, ttl_s);
    } else {
        lose(lease, rc, &err);
    }
    return true;
}

static const struct vdc_etcd_request_kind grant_kind = {.method = VDC_ETCD_METHOD_GRANT,
                                                        .what = "lease grant",
                                                        .idempotent = true, /* a lost one expires */
                                                        .urgent = true,
                                                        .done = grant_done,
                                                        .destroy = lease_request_destroy};

static bool beat_done(struct vdc_etcd_request *request, const struct vdc_etcd_request_end *end)
{
    struct vdc_etcd_lease *lease = lease_of(request);
    if (lease == NULL) {
        return true;
    }
    int64_t ttl_s = 0;
    enum vdc_rc rc = end->rc;
    if (rc == VDC_RC_OK) {
        rc = vdc_etcd_decode_keepalive(end->answer, end->answer_len, &ttl_s);
    }
    if (rc == VDC_RC_NOT_FOUND || (rc == VDC_RC_OK && ttl_s <= 0)) {
        struct vdc_err err;
        vdc_err_set(&err, VDC_RC_NOT_FOUND, "etcd has let it run out, or it was revoked");
        lose(lease, VDC_RC_NOT_FOUND, &err);
    } else if (rc == VDC_RC_OK && is_sound_ttl(ttl_s)) {
        confirm(lease, end->sent, ttl_s);
    } else {
        /* Refused for another reason, or too late: the deadline decides. */
        lease->next_beat = vdc_mono_add(vdc_clock_mono(), VDC_ETCD_BACKOFF_MAX_MS * VDC_MS);
        vdc_etcd_wake_at(lease->etcd, vdc_mono_min(lease->next_beat, lease->deadline));
    }
    return true;
}

static const struct vdc_etcd_request_kind beat_kind = {.method = VDC_ETCD_METHOD_KEEPALIVE,
                                                       .what = "lease keep-alive",
                                                       .idempotent = true,
                                                       .urgent = true,
                                                       .done = beat_done,
                                                       .destroy = lease_request_destroy};

static void beat(struct vdc_etcd_lease *lease)
{
    struct lease_request *made = make_request(lease->etcd, &beat_kind, lease->deadline);
    made->lease = lease;
    lease->request = made;
    /* Two more tries have room before the deadline if this endpoint keeps silent. */
    made->request.attempt_timeout_ms =
        VDC_MIN(made->request.attempt_timeout_ms, lease->ttl_s * 1000 / 4);
    vdc_etcd_encode_keepalive(&made->request.body, lease->id);
    vdc_etcd_request_queue(&made->request);
}

static struct vdc_etcd_lease *first_lapsed(struct vdc_etcd *etcd, vdc_mono now)
{
    struct vdc_etcd_lease *lease;
    DL_FOREACH(etcd->leases, lease)
    {
        if (lease->state == LEASE_HELD && vdc_mono_reached(now, lease->deadline)) {
            return lease;
        }
    }
    return NULL;
}

void vdc_etcd_leases_run(struct vdc_etcd *etcd, vdc_mono now)
{
    struct vdc_etcd_lease *lease;
    /* From the front after each: the callback may close any of them. */
    while ((lease = first_lapsed(etcd, now)) != NULL) {
        struct vdc_err err;
        vdc_err_set(&err, VDC_RC_TIMEOUT, "not confirmed within its %lld s",
                    (long long)lease->ttl_s);
        lose(lease, VDC_RC_TIMEOUT, &err);
    }
    DL_FOREACH(etcd->leases, lease)
    {
        if (lease->state == LEASE_HELD && lease->request == NULL &&
            vdc_mono_reached(now, lease->next_beat)) {
            beat(lease);
        }
    }
}

vdc_mono vdc_etcd_leases_due(const struct vdc_etcd *etcd)
{
    vdc_mono due = VDC_NEVER;
    const struct vdc_etcd_lease *lease;
    DL_FOREACH(etcd->leases, lease)
    {
        if (lease->state == LEASE_HELD) {
            due = vdc_mono_min(due, lease->deadline);
            if (lease->request == NULL) {
                due = vdc_mono_min(due, lease->next_beat);
            }
        }
    }
    return due;
}

/* ---- For the user ---- */

enum vdc_rc vdc_etcd_lease_open(struct vdc_etcd *etcd, int64_t ttl_s,
                                const struct vdc_etcd_lease_calls *calls, void *data,
                                struct vdc_etcd_lease **out)
{
    enum vdc_rc rc = vdc_etcd_request_room(etcd);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    if (ttl_s < 1 || ttl_s > TTL_MAX_S) {
        return VDC_RC_INVALID;
    }
    if (etcd->lease_count >= VDC_ETCD_LEASES_MAX) {
        return VDC_RC_LIMIT;
    }
    struct vdc_etcd_lease *lease = VDC_NEW(struct vdc_etcd_lease);
    lease->magic = VDC_ETCD_LEASE_MAGIC;
    lease->etcd = etcd;
    lease->state = LEASE_GRANTING;
    lease->ttl_s = ttl_s;
    lease->calls = *calls;
    lease->data = data;
    DL_APPEND(etcd->leases, lease);
    etcd->lease_count++;
    *out = lease;

    struct lease_request *made = make_request(etcd, &grant_kind, VDC_NEVER);
    made->lease = lease;
    lease->request = made;
    vdc_etcd_encode_grant(&made->request.body, ttl_s);
    vdc_etcd_request_queue(&made->request);
    return VDC_RC_OK;
}

int64_t vdc_etcd_lease_id(const struct vdc_etcd_lease *lease)
{
    return lease->id;
}

static void lease_free(struct vdc_etcd_lease *lease)
{
    lease_let_go(lease);
    DL_DELETE(lease->etcd->leases, lease);
    lease->etcd->lease_count--;
    lease->magic = 0;
    free(lease);
}

void vdc_etcd_lease_close(struct vdc_etcd_lease *lease, void (*on_done)(void *data, enum vdc_rc rc),
                          void *data)
{
    if (lease == NULL) {
        return;
    }
    VDC_ASSERT(lease->magic == VDC_ETCD_LEASE_MAGIC);
    int64_t id = lease->state == LEASE_HELD ? lease->id : 0;
    struct vdc_etcd *etcd = lease->etcd;
    lease_free(lease);
    if (id != 0 || on_done != NULL) {
        send_revoke(etcd, id, on_done, data);
    }
}

void vdc_etcd_leases_drop(struct vdc_etcd *etcd)
{
    while (etcd->leases != NULL) {
        lease_free(etcd->leases);
    }
}
