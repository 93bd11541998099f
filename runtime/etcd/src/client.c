/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client itself: configuration, the one channel, the one timer, the end.
 *
 * A channel is made anew at each move, with its own pool of connections: gRPC would otherwise give
 * the new channel the old connection, frozen or waiting for its own back-off. Calls under way keep
 * the old channel alive until they end.
 *
 * The end: everything waiting is ended from the timer, everything in flight is cancelled; when the
 * last request and stream are gone the queue is closed, then channel and credentials are released.
 */
#include "client.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <grpc/grpc_security.h>
#include <grpc/support/log.h>
#include <utlist.h>

#include <vdc/clock.h>
#include <vdc/file.h>
#include <vdc/quantity.h>

/* Bytes of a PEM file: a bundle of all public authorities is a quarter of this. */
#define PEM_MAX (1024 * 1024)
/* etcd answers pings more often than every 5 s with GOAWAY; 2 s more and a silent peer is given up
 * even where only a watch is open. */
#define KEEPALIVE_MS 6000
#define KEEPALIVE_TIMEOUT_MS 2000
/* Time for one connection, TLS included, to come up. */
#define CONNECT_MS 2000

/* ---- Small things for the other files ---- */

void vdc_etcd_trace(struct vdc_etcd *etcd, enum vdc_level level, const char *fmt, ...)
{
    if (etcd->on_trace == NULL) {
        return;
    }
    char line[VDC_ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    etcd->on_trace(etcd->data, level, line);
}

const grpc_metadata *vdc_etcd_metadata(void)
{
    static grpc_metadata metadata;
    metadata.key = grpc_slice_from_static_string("hasleader");
    metadata.value = grpc_slice_from_static_string("true");
    return &metadata;
}

const char *vdc_etcd_endpoint(const struct vdc_etcd *etcd)
{
    return etcd->endpoints[etcd->route.current];
}

void vdc_etcd_pump(struct vdc_etcd *etcd)
{
    if (etcd->closing) {
        return;
    }
    vdc_mono now = vdc_clock_mono();
    if (!vdc_mono_reached(now, etcd->route.not_before)) {
        vdc_etcd_wake_at(etcd, etcd->route.not_before);
        return;
    }
    vdc_etcd_requests_send(etcd);
    vdc_etcd_watches_open(etcd);
}

/* ---- The channel ---- */

static grpc_arg integer(const char *key, int value)
{
    /* gRPC's keys are not const; it only reads them. */
    return (grpc_arg){
        .type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

/* "ipv4:" and "ipv6:" keep literal addresses away from the resolver. */
static char *target_of(const char *endpoint)
{
    if (endpoint[0] == '[') {
        return vdc_asprintf("ipv6:%s", endpoint);
    }
    if (strspn(endpoint, "0123456789.:") == strlen(endpoint)) {
        return vdc_asprintf("ipv4:%s", endpoint);
    }
    return vdc_asprintf("dns:///%s", endpoint);
}

grpc_channel *vdc_etcd_channel(struct vdc_etcd *etcd)
{
    if (etcd->channel != NULL) {
        return etcd->channel;
    }
    grpc_arg args[] = {
        integer(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
        integer(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
        integer(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
        integer(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, VDC_ETCD_ANSWER_MAX),
        integer(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        integer(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        integer(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        integer(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, VDC_ETCD_BACKOFF_MIN_MS),
        integer(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_MS),
        integer(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, CONNECT_MS),
        {.type = GRPC_ARG_STRING,
         .key = (char *)(uintptr_t)GRPC_ARG_DEFAULT_AUTHORITY,
         .value.string = etcd->authority},
    };
    size_t count = VDC_COUNT_OF(args) - (etcd->authority == NULL ? 1 : 0);
    vdc_autofree char *target = target_of(vdc_etcd_endpoint(etcd));
    etcd->channel = grpc_channel_create(target, etcd->credentials,
                                        &(grpc_channel_args){.num_args = count, .args = args});
    VDC_ASSERT(etcd->channel != NULL);
    return etcd->channel;
}

/* One line for each endpoint of the first round, one more when none is left; then silence until one
 * answers, so that a long outage does not fill the log. */
static void trace_move(struct vdc_etcd *etcd, const char *before, const char *why)
{
    if (etcd->route.failures <= etcd->route.count) {
        vdc_etcd_trace(etcd, VDC_LEVEL_WARN, "etcd: %s: %s -> %s", before, why,
                       vdc_etcd_endpoint(etcd));
    }
    if (etcd->route.failures == etcd->route.count) {
        etcd->away_since = vdc_clock_mono();
        vdc_etcd_trace(etcd, VDC_LEVEL_ERROR,
                       "etcd: no endpoint answers (%zu of them) -> asking on, at most %d ms apart",
                       etcd->route.count, VDC_ETCD_BACKOFF_MAX_MS);
    }
}

/* The route has moved: what is asked from now on goes to the next endpoint. */
static void follow_route(struct vdc_etcd *etcd, const char *before, const char *why)
{
    trace_move(etcd, before, why);
    if (etcd->channel != NULL) {
        grpc_channel_destroy(etcd->channel);
        etcd->channel = NULL;
    }
    vdc_etcd_watches_move(etcd);
}

static void report_answer(struct vdc_etcd *etcd, uint64_t generation, vdc_mono now)
{
    vdc_etcd_route_answered(&etcd->route, generation, now);
    if (etcd->route.failures == 0 && !vdc_mono_is_never(etcd->away_since)) {
        char text[VDC_QUANTITY_TEXT_CAP];
        vdc_quantity_duration_text(vdc_mono_sub(now, etcd->away_since), text);
        etcd->away_since = VDC_NEVER;
        vdc_etcd_trace(etcd, VDC_LEVEL_INFO, "etcd: %s answers again after %s",
                       vdc_etcd_endpoint(etcd), text);
    }
}

void vdc_etcd_report(struct vdc_etcd *etcd, uint64_t generation, vdc_mono sent,
                     struct vdc_etcd_outcome outcome, const char *detail)
{
    vdc_mono now = vdc_clock_mono();
    const char *before = vdc_etcd_endpoint(etcd);
    bool moved = false;
    switch (outcome.fate) {
    case VDC_ETCD_ANSWERED:
        report_answer(etcd, generation, now);
        break;
    case VDC_ETCD_NOT_DONE:
    case VDC_ETCD_LOST:
        if (outcome.rc == VDC_RC_TIMEOUT) {
            moved = vdc_etcd_route_timed_out(&etcd->route, generation, sent, now);
        } else {
            moved = vdc_etcd_route_failed(&etcd->route, generation, now);
        }
        break;
    }
    if (moved && !etcd->closing) {
        follow_route(etcd, before, detail[0] != 0 ? detail : vdc_rc_sentence(outcome.rc));
    }
}

/* ---- The timer, and the end ---- */

static void free_client(struct vdc_etcd *etcd)
{
    vdc_etcd_guards_free(etcd);
    for (size_t i = 0; i < etcd->route.count; i++) {
        free(etcd->endpoints[i]);
    }
    free(etcd->authority);
    etcd->magic = 0;
    free(etcd);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct vdc_etcd *etcd;
    VDC_CAST(etcd, handle->data, VDC_ETCD_MAGIC);
    void (*on_closed)(void *data) = etcd->on_closed;
    void *data = etcd->on_closed_data;
    free_client(etcd);
    if (on_closed != NULL) {
        on_closed(data);
    }
}

static void on_queue_down(void *data)
{
    struct vdc_etcd *etcd;
    VDC_CAST(etcd, data, VDC_ETCD_MAGIC);
    if (etcd->channel != NULL) {
        grpc_channel_destroy(etcd->channel);
    }
    grpc_channel_credentials_release(etcd->credentials);
    grpc_shutdown();
    uv_close((uv_handle_t *)&etcd->timer, on_timer_closed);
}

static void close_queue_if_idle(struct vdc_etcd *etcd)
{
    if (!etcd->closing || etcd->queue_closed || etcd->request_count > 0 || etcd->streams != NULL) {
        return;
    }
    etcd->queue_closed = true;
    vdc_etcd_queue_close(&etcd->queue);
}

static void on_timer(uv_timer_t *timer);

/* Called with the instant of the earliest thing to do, which may only come nearer until it fires. */
void vdc_etcd_wake_at(struct vdc_etcd *etcd, vdc_mono when)
{
    if (etcd->queue_closed || when.ns >= etcd->timer_due.ns) {
        return;
    }
    etcd->timer_due = when;
    int64_t ns = vdc_mono_sub(when, vdc_clock_mono());
    /* Rounded up; the loop's own clock may lag behind ours, then the timer is set again. */
    uint64_t ms = ns <= 0 ? 0 : (uint64_t)((ns + VDC_MS - 1) / VDC_MS);
    uv_update_time(etcd->loop);
    VDC_ASSERT(uv_timer_start(&etcd->timer, on_timer, ms, 0) == 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct vdc_etcd *etcd;
    VDC_CAST(etcd, timer->data, VDC_ETCD_MAGIC);
    etcd->timer_due = VDC_NEVER;
    vdc_mono now = vdc_clock_mono();
    vdc_etcd_requests_expire(etcd, now);
    vdc_etcd_leases_run(etcd, now);
    vdc_etcd_pump(etcd);
    vdc_mono due = vdc_mono_min(vdc_etcd_requests_due(etcd), vdc_etcd_leases_due(etcd));
    vdc_etcd_wake_at(etcd, vdc_mono_min(due, vdc_etcd_watches_due(etcd)));
    close_queue_if_idle(etcd);
}

static void on_queue_drained(void *data)
{
    struct vdc_etcd *etcd;
    VDC_CAST(etcd, data, VDC_ETCD_MAGIC);
    vdc_etcd_pump(etcd);
    close_queue_if_idle(etcd);
}

void vdc_etcd_close(struct vdc_etcd *etcd, void (*on_closed)(void *data), void *data)
{
    if (etcd == NULL) {
        return;
    }
    VDC_ASSERT(etcd->magic == VDC_ETCD_MAGIC && !etcd->closing);
    etcd->on_closed = on_closed;
    etcd->on_closed_data = data;
    vdc_etcd_leases_drop(etcd);
    while (etcd->watches != NULL) {
        vdc_etcd_watch_close(etcd->watches);
    }
    etcd->closing = true;
    struct vdc_etcd_request *request;
    DL_FOREACH(etcd->in_flight, request)
    {
        vdc_etcd_call_cancel(request->call);
    }
    vdc_etcd_wake_at(etcd, vdc_clock_mono());
}

/* ---- Opening ---- */

/* gRPC would write to standard error. What matters comes back as a status with a text. */
static void drop_log(gpr_log_func_args *args)
{
    (void)args;
}

static enum vdc_rc check_endpoint(const char *endpoint, struct vdc_err *err)
{
    const char *colon = endpoint == NULL ? NULL : strrchr(endpoint, ':');
    uint64_t port;
    if (colon == NULL || colon == endpoint || strlen(endpoint) > VDC_ETCD_ENDPOINT_MAX ||
        !vdc_parse_u64(colon + 1, UINT16_MAX, &port) || port == 0) {
        return vdc_err_set(err, VDC_RC_INVALID, "etcd endpoint \"%.300s\" is not HOST:PORT",
                           endpoint == NULL ? "" : endpoint);
    }
    return VDC_RC_OK;
}

static enum vdc_rc check_config(const struct vdc_etcd_config *config, struct vdc_err *err)
{
    if (config->endpoint_count < 1 || config->endpoint_count > VDC_ETCD_ENDPOINTS_MAX) {
        return vdc_err_set(err, VDC_RC_INVALID, "%zu etcd endpoints, 1 to %d are possible",
                           config->endpoint_count, VDC_ETCD_ENDPOINTS_MAX);
    }
    for (size_t i = 0; i < config->endpoint_count; i++) {
        enum vdc_rc rc = check_endpoint(config->endpoints[i], err);
        if (rc != VDC_RC_OK) {
            return rc;
        }
    }
    if ((config->cert_path == NULL) != (config->key_path == NULL) ||
        (config->cert_path != NULL && config->ca_path == NULL)) {
        return vdc_err_set(err, VDC_RC_INVALID,
                           "etcd: a client certificate needs its key and the authority's file");
    }
    return VDC_RC_OK;
}

struct pem_files {
    struct vdc_buf ca;
    struct vdc_buf cert;
    struct vdc_buf key;
};

static void pem_files_deinit(struct pem_files *files)
{
    vdc_buf_deinit(&files->ca);
    vdc_buf_deinit(&files->cert);
    if (files->key.data != NULL) {
        explicit_bzero(files->key.data, files->key.len);
    }
    vdc_buf_deinit(&files->key);
}

static enum vdc_rc read_pem(const char *path, struct vdc_buf *buf, struct vdc_err *err)
{
    if (path == NULL) {
        return VDC_RC_OK;
    }
    return vdc_file_read(path, PEM_MAX, buf, err);
}

static enum vdc_rc read_pem_files(const struct vdc_etcd_config *config, struct pem_files *files,
                                  struct vdc_err *err)
{
    enum vdc_rc rc = read_pem(config->ca_path, &files->ca, err);
    if (rc == VDC_RC_OK) {
        rc = read_pem(config->cert_path, &files->cert, err);
    }
    if (rc == VDC_RC_OK) {
        rc = read_pem(config->key_path, &files->key, err);
    }
    return rc == VDC_RC_OK ? rc : vdc_err_wrap(err, "etcd TLS");
}

static grpc_channel_credentials *make_credentials(const struct vdc_etcd_config *config,
                                                  const struct pem_files *files)
{
    if (config->ca_path == NULL) {
        return grpc_insecure_credentials_create();
    }
    grpc_ssl_pem_key_cert_pair pair = {.private_key = vdc_buf_text(&files->key),
                                       .cert_chain = vdc_buf_text(&files->cert)};
    return grpc_ssl_credentials_create_ex(vdc_buf_text(&files->ca),
                                          config->cert_path == NULL ? NULL : &pair, NULL, NULL);
}

static struct vdc_etcd *make_client(uv_loop_t *loop, const struct vdc_etcd_config *config)
{
    struct vdc_etcd *etcd = VDC_NEW(struct vdc_etcd);
    etcd->magic = VDC_ETCD_MAGIC;
    etcd->loop = loop;
    etcd->attempt_timeout_ms = config->attempt_timeout_ms != 0 ? config->attempt_timeout_ms : 2000;
    etcd->request_timeout_ms = config->request_timeout_ms != 0 ? config->request_timeout_ms : 6000;
    etcd->on_trace = config->on_trace;
    etcd->data = config->data;
    etcd->authority = config->authority == NULL ? NULL : vdc_strdup(config->authority);
    etcd->timer_due = VDC_NEVER;
    etcd->away_since = VDC_NEVER;
    for (size_t i = 0; i < config->endpoint_count; i++) {
        etcd->endpoints[i] = vdc_strdup(config->endpoints[i]);
    }
    vdc_etcd_route_init(&etcd->route, config->endpoint_count, config->seed);
    return etcd;
}

enum vdc_rc vdc_etcd_open(uv_loop_t *loop, const struct vdc_etcd_config *config,
                          struct vdc_etcd **out, struct vdc_err *err)
{
    enum vdc_rc rc = check_config(config, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }
    vdc_auto(pem_files_deinit) struct pem_files files = {0};
    rc = read_pem_files(config, &files, err);
    if (rc != VDC_RC_OK) {
        return rc;
    }

    /* gRPC starts threads here; signals stay with the loop's thread. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    gpr_set_log_function(drop_log);
    grpc_init();
    grpc_channel_credentials *credentials = make_credentials(config, &files);
    if (credentials == NULL) {
        grpc_shutdown();
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return vdc_err_set(err, VDC_RC_INVALID, "etcd TLS: the PEM files are not usable");
    }
    struct vdc_etcd *etcd = make_client(loop, config);
    etcd->credentials = credentials;
    vdc_etcd_queue_open(&etcd->queue, loop, on_queue_drained, on_queue_down, etcd);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    VDC_ASSERT(uv_timer_init(loop, &etcd->timer) == 0);
    etcd->timer.data = etcd;
    *out = etcd;
    return VDC_RC_OK;
}
