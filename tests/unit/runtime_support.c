/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime_support.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <vdc/base.h>

static void on_guard(uv_timer_t *timer)
{
    struct test_loop *t = timer->data;
    t->expired = true;
}

void test_loop_open(struct test_loop *t)
{
    memset(t, 0, sizeof(*t));
    cr_assert_eq(uv_loop_init(&t->loop), 0);
    cr_assert_eq(uv_timer_init(&t->loop, &t->guard), 0);
    t->guard.data = t;
    uv_unref((uv_handle_t *)&t->guard);
}

static void arm(struct test_loop *t, unsigned ms)
{
    t->expired = false;
    uv_ref((uv_handle_t *)&t->guard);
    uv_update_time(&t->loop);
    uv_timer_start(&t->guard, on_guard, ms, 0);
}

static void disarm(struct test_loop *t)
{
    uv_timer_stop(&t->guard);
    uv_unref((uv_handle_t *)&t->guard);
}

bool test_run_until(struct test_loop *t, const bool *flag)
{
    arm(t, TEST_GUARD_MS);
    while (!*flag && !t->expired) {
        uv_run(&t->loop, UV_RUN_ONCE);
    }
    disarm(t);
    return *flag;
}

bool test_run_until_count(struct test_loop *t, const int *count, int wanted)
{
    arm(t, TEST_GUARD_MS);
    while (*count < wanted && !t->expired) {
        uv_run(&t->loop, UV_RUN_ONCE);
    }
    disarm(t);
    return *count >= wanted;
}

void test_run_for(struct test_loop *t, unsigned ms)
{
    arm(t, ms);
    while (!t->expired) {
        uv_run(&t->loop, UV_RUN_ONCE);
    }
    disarm(t);
}

void test_loop_close(struct test_loop *t)
{
    uv_close((uv_handle_t *)&t->guard, NULL);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(&t->loop), 0, "a handle was left open");
}

struct vdc_tls_context *test_context(struct test_loop *t, const char *name, const char *alpn)
{
    const char *rogue = strncmp(name, "rogue/", 6) == 0 ? "rogue/" : "";
    vdc_autofree char *ca = vdc_asprintf("%s/%sca.pem", VDC_TEST_PKI, rogue);
    vdc_autofree char *cert = vdc_asprintf("%s/%s.pem", VDC_TEST_PKI, name);
    vdc_autofree char *key = vdc_asprintf("%s/%s.key", VDC_TEST_PKI, name);
    struct vdc_tls_config config = {
        .ca_path = ca, .cert_path = cert, .key_path = key, .alpn = alpn};
    struct vdc_tls_context *context = NULL;
    struct vdc_err err;
    enum vdc_rc rc = vdc_tls_context_create(&t->loop, &config, &context, &err);
    cr_assert_eq(rc, VDC_RC_OK, "%s", vdc_err_text(&err));
    return context;
}

int test_connect(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

const char *test_address(uint16_t port)
{
    static char text[32];
    snprintf(text, sizeof(text), "127.0.0.1:%u", (unsigned)port);
    return text;
}

struct vdc_peer test_peer(const char *uri)
{
    struct vdc_peer peer;
    cr_assert_eq(vdc_peer_parse(uri, strlen(uri), &peer), VDC_RC_OK);
    return peer;
}
