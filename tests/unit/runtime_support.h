/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of TLS, links and HTTP share: a loop that is run until something is true, contexts
 * of the test certificates, raw sockets that send what no good peer sends. */
#ifndef VDC_TESTS_RUNTIME_SUPPORT_H
#define VDC_TESTS_RUNTIME_SUPPORT_H

#include <stdbool.h>
#include <uv.h>

#include <vdc/buf.h>
#include <vdc/tls.h>

/* A guard against hanging for ever, far above what anything here takes. */
#define TEST_GUARD_MS 60000

struct test_loop {
    uv_loop_t loop;
    uv_timer_t guard;
    bool expired;
};

void test_loop_open(struct test_loop *t);
/* Runs the loop until *flag is true; false after TEST_GUARD_MS. */
bool test_run_until(struct test_loop *t, const bool *flag);
bool test_run_until_count(struct test_loop *t, const int *count, int wanted);
/* Runs for so long; only for what must *not* happen. */
void test_run_for(struct test_loop *t, unsigned ms);
/* Runs until nothing is left, then closes the loop; a handle left open fails the test. */
void test_loop_close(struct test_loop *t);

/* Context of ca.pem and NAME.pem in the directory of test certificates; "rogue/n1" is n1 of another
 * CA. */
struct vdc_tls_context *test_context(struct test_loop *t, const char *name, const char *alpn);
/* Blocking client socket to 127.0.0.1. */
int test_connect(uint16_t port);
const char *test_address(uint16_t port);
struct vdc_peer test_peer(const char *uri);

#endif
