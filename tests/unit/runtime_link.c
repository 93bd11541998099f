/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime_support.h"

#include <criterion/criterion.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/limits.h>
#include <vdc/link.h>

struct side {
    struct vdc_link *link;
    int ups;
    int downs;
    int frames;
    int drains;
    int refusals;
    size_t bytes;
    bool echo;
    bool close_on_frame;
    struct vdc_peer peer;
    struct vdc_err why;
    struct vdc_buf last;
};

static void on_up(void *data, struct vdc_link *link)
{
    struct side *side = data;
    side->ups++;
    side->link = link;
    side->peer = *vdc_link_peer(link);
}

static void on_frame(void *data, struct vdc_link *link, const uint8_t *frame, size_t len)
{
    struct side *side = data;
    side->frames++;
    side->bytes += len;
    vdc_buf_clear(&side->last);
    vdc_buf_append(&side->last, frame, len);
    if (side->echo) {
        cr_assert_eq(vdc_link_send(link, frame, len), VDC_RC_OK);
    }
    if (side->close_on_frame) {
        side->link = NULL;
        vdc_link_close(link);
    }
}

static void on_drained(void *data, struct vdc_link *link)
{
    (void)link;
    struct side *side = data;
    side->drains++;
}

static void on_down(void *data, struct vdc_link *link, const struct vdc_err *why)
{
    (void)link;
    struct side *side = data;
    side->downs++;
    side->why = *why;
}

static void on_refused(void *data, const struct vdc_err *why)
{
    struct side *side = data;
    side->refusals++;
    side->why = *why;
}

static const struct vdc_link_handlers handlers = {
    .on_up = on_up, .on_frame = on_frame, .on_drained = on_drained, .on_down = on_down};

struct world {
    struct test_loop t;
    struct vdc_tls_context *node;
    struct vdc_tls_context *manager;
    struct vdc_link_listener *listener;
    struct side dialler;
    struct side accepted;
};

static void listen_at(struct world *w, const char *address)
{
    struct vdc_err err;
    enum vdc_rc rc = vdc_link_listen(w->manager, address, VDC_PEER_BIT(VDC_PEER_NODE), &handlers,
                                     on_refused, &w->accepted, &w->listener, &err);
    cr_assert_eq(rc, VDC_RC_OK, "%s", vdc_err_text(&err));
}

static void open_world(struct world *w)
{
    memset(w, 0, sizeof(*w));
    test_loop_open(&w->t);
    w->node = test_context(&w->t, "n1", NULL);
    w->manager = test_context(&w->t, "m1", NULL);
    listen_at(w, "127.0.0.1:0");
}

static void dial(struct world *w, struct vdc_tls_context *context, const char *expected)
{
    struct vdc_peer peer = test_peer(expected);
    const char *address = test_address(vdc_link_listener_port(w->listener));
    struct vdc_err err;
    enum vdc_rc rc =
        vdc_link_dial(context, &address, 1, &peer, &handlers, &w->dialler, &w->dialler.link, &err);
    cr_assert_eq(rc, VDC_RC_OK, "%s", vdc_err_text(&err));
}

static void close_world(struct world *w)
{
    vdc_link_listener_close(w->listener);
    vdc_tls_context_unref(w->node);
    vdc_tls_context_unref(w->manager);
    test_loop_close(&w->t);
    vdc_buf_deinit(&w->dialler.last);
    vdc_buf_deinit(&w->accepted.last);
}

Test(link, carries_frames_both_ways_and_knows_who_is_there)
{
    struct world w;
    open_world(&w);
    w.accepted.echo = true;
    dial(&w, w.node, "vdc://manager/m1");
    cr_assert(test_run_until_count(&w.t, &w.dialler.ups, 1));
    cr_assert_eq(w.accepted.ups, 1);
    cr_assert_str_eq(w.dialler.peer.name, "m1");
    cr_assert_eq(w.accepted.peer.kind, VDC_PEER_NODE);
    cr_assert_str_eq(w.accepted.peer.name, "n1");
    cr_assert_eq(vdc_link_send(w.dialler.link, "hello", 5), VDC_RC_OK);
    cr_assert(test_run_until_count(&w.t, &w.dialler.frames, 1));
    cr_assert_str_eq(vdc_buf_text(&w.dialler.last), "hello");
    for (int i = 0; i < 1000; i++) {
        cr_assert_eq(vdc_link_send(w.dialler.link, &i, sizeof(i)), VDC_RC_OK);
    }
    cr_assert(test_run_until_count(&w.t, &w.dialler.frames, 1001));
    int last;
    memcpy(&last, w.dialler.last.data, sizeof(last));
    cr_assert_eq(last, 999);
    vdc_link_close(w.dialler.link);
    cr_assert(test_run_until_count(&w.t, &w.accepted.downs, 1));
    cr_assert_eq(w.accepted.why.rc, VDC_RC_END);
    cr_assert_eq(w.dialler.downs, 0);
    close_world(&w);
}

Test(link, carries_the_largest_frame_and_refuses_a_larger_one_and_an_empty_one)
{
    struct world w;
    open_world(&w);
    w.accepted.echo = true;
    dial(&w, w.node, "vdc://manager/m1");
    cr_assert(test_run_until_count(&w.t, &w.dialler.ups, 1));
    vdc_autofree char *big = vdc_calloc(1, VDC_FRAME_MAX + 1);
    memset(big, 'x', VDC_FRAME_MAX);
    cr_assert_eq(vdc_link_send(w.dialler.link, big, VDC_FRAME_MAX + 1), VDC_RC_TOO_LARGE);
    cr_assert_eq(vdc_link_send(w.dialler.link, big, 0), VDC_RC_INVALID);
    cr_assert_eq(vdc_link_send(w.dialler.link, big, VDC_FRAME_MAX), VDC_RC_OK);
    cr_assert(test_run_until_count(&w.t, &w.dialler.frames, 1));
    cr_assert_eq(w.dialler.bytes, VDC_FRAME_MAX);
    cr_assert_eq(memcmp(w.dialler.last.data, big, VDC_FRAME_MAX), 0);
    vdc_link_close(w.dialler.link);
    close_world(&w);
}

Test(link, says_limit_when_its_queue_is_full_and_drained_when_it_is_not)
{
    struct world w;
    open_world(&w);
    dial(&w, w.node, "vdc://manager/m1");
    cr_assert(test_run_until_count(&w.t, &w.accepted.ups, 1));
    cr_assert(test_run_until_count(&w.t, &w.dialler.ups, 1));
    vdc_link_pause(w.accepted.link);
    vdc_autofree char *frame = vdc_calloc(1, 1 << 20);
    int sent = 0;
    while (vdc_link_send(w.dialler.link, frame, 1 << 20) == VDC_RC_OK) {
        sent++;
        cr_assert_lt(sent, 1000);
    }
    cr_assert_eq(sent, 15, "sixteen and their headers are more than 16 MiB");
    cr_assert_eq(vdc_link_send(w.dialler.link, frame, 1 << 20), VDC_RC_LIMIT);
    test_run_for(&w.t, 50);
    cr_assert_eq(w.accepted.frames, 0, "it was paused");
    vdc_link_resume(w.accepted.link);
    cr_assert(test_run_until_count(&w.t, &w.accepted.frames, sent));
    cr_assert_eq(w.dialler.drains, 1);
    cr_assert_eq(vdc_link_queued(w.dialler.link), 0);
    vdc_link_close(w.dialler.link);
    close_world(&w);
}

Test(link, dials_again_after_the_listener_was_gone)
{
    struct world w;
    open_world(&w);
    uint16_t port = vdc_link_listener_port(w.listener);
    dial(&w, w.node, "vdc://manager/m1");
    cr_assert(test_run_until_count(&w.t, &w.accepted.ups, 1));
    cr_assert(test_run_until_count(&w.t, &w.dialler.ups, 1));
    vdc_link_listener_close(w.listener);
    w.listener = NULL;
    vdc_link_close(w.accepted.link);
    cr_assert(test_run_until_count(&w.t, &w.dialler.downs, 3));
    cr_assert_not(vdc_link_is_up(w.dialler.link));
    cr_assert_eq(vdc_link_send(w.dialler.link, "x", 1), VDC_RC_END);
    listen_at(&w, test_address(port));
    cr_assert(test_run_until_count(&w.t, &w.dialler.ups, 2));
    vdc_link_close(w.dialler.link);
    close_world(&w);
}

Test(link, tries_all_its_addresses_in_turn)
{
    struct world w;
    open_world(&w);
    struct vdc_peer any_manager = {.kind = VDC_PEER_MANAGER};
    const char *addresses[] = {"127.0.0.1:1", test_address(vdc_link_listener_port(w.listener))};
    cr_assert_eq(vdc_link_dial(w.node, addresses, 2, &any_manager, &handlers, &w.dialler,
                               &w.dialler.link, NULL),
                 VDC_RC_OK);
    cr_assert(test_run_until_count(&w.t, &w.dialler.ups, 1));
    cr_assert_eq(w.dialler.downs, 1);
    cr_assert_eq(w.dialler.why.rc, VDC_RC_UNAVAILABLE);
    vdc_link_redial(w.dialler.link, NULL);
    cr_assert(test_run_until_count(&w.t, &w.dialler.ups, 2));
    vdc_link_close(w.dialler.link);
    close_world(&w);
}

Test(link, does_not_take_a_listener_with_another_name_for_the_one_expected)
{
    struct world w;
    open_world(&w);
    dial(&w, w.node, "vdc://manager/m2");
    cr_assert(test_run_until_count(&w.t, &w.dialler.downs, 2));
    cr_assert_eq(w.dialler.ups, 0);
    cr_assert_eq(w.dialler.why.rc, VDC_RC_UNAUTHENTICATED);
    cr_assert(strstr(w.dialler.why.text,
                     "peer certificate is vdc://manager/m1, expected vdc://manager/m2") != NULL,
              "%s", w.dialler.why.text);
    vdc_link_close(w.dialler.link);
    close_world(&w);
}

Test(link, is_never_up_where_the_listener_refuses_its_certificate)
{
    struct world w;
    open_world(&w);
    struct vdc_tls_context *user = test_context(&w.t, "alice", NULL);
    dial(&w, user, "vdc://manager/m1");
    cr_assert(test_run_until_count(&w.t, &w.accepted.refusals, 2));
    cr_assert(strstr(w.accepted.why.text, "a user may not come here") != NULL, "%s",
              w.accepted.why.text);
    cr_assert_eq(w.dialler.ups, 0);
    cr_assert_eq(w.accepted.ups, 0);
    vdc_link_close(w.dialler.link);
    vdc_tls_context_unref(user);
    close_world(&w);
}

Test(link, may_be_closed_by_its_own_frame_handler)
{
    struct world w;
    open_world(&w);
    w.accepted.close_on_frame = true;
    dial(&w, w.node, "vdc://manager/m1");
    cr_assert(test_run_until_count(&w.t, &w.dialler.ups, 1));
    cr_assert_eq(vdc_link_send(w.dialler.link, "one", 3), VDC_RC_OK);
    cr_assert_eq(vdc_link_send(w.dialler.link, "two", 3), VDC_RC_OK);
    cr_assert(test_run_until_count(&w.t, &w.dialler.downs, 1));
    cr_assert_eq(w.dialler.why.rc, VDC_RC_END, "%s", w.dialler.why.text);
    cr_assert_eq(w.accepted.frames, 1);
    vdc_link_close(w.dialler.link);
    close_world(&w);
}

/* A peer with a good certificate that breaks the framing. */
struct raw {
    struct vdc_tls *tls;
    bool up;
    bool down;
    size_t bytes;
};

static void raw_on_up(void *data, struct vdc_tls *tls)
{
    (void)tls;
    ((struct raw *)data)->up = true;
}

static void raw_on_data(void *data, struct vdc_tls *tls, const uint8_t *bytes, size_t len)
{
    (void)tls;
    (void)bytes;
    ((struct raw *)data)->bytes += len;
}

static void raw_on_down(void *data, struct vdc_tls *tls, const struct vdc_err *why)
{
    (void)tls;
    (void)why;
    ((struct raw *)data)->down = true;
}

static const struct vdc_tls_handlers raw_handlers = {
    .on_up = raw_on_up, .on_data = raw_on_data, .on_down = raw_on_down};

static void send_raw(const char *bytes, size_t len, const char *expected_reason)
{
    struct world w;
    open_world(&w);
    struct raw raw = {0};
    cr_assert_eq(vdc_tls_dial(w.node, test_address(vdc_link_listener_port(w.listener)), NULL,
                              &raw_handlers, &raw, &raw.tls, NULL),
                 VDC_RC_OK);
    cr_assert_eq(vdc_tls_write(raw.tls, bytes, len), VDC_RC_OK);
    cr_assert(test_run_until(&w.t, &raw.down));
    cr_assert_eq(raw.bytes, 4, "the greeting");
    cr_assert_eq(w.accepted.downs, 1);
    cr_assert_eq(w.accepted.why.rc, VDC_RC_PROTOCOL);
    cr_assert(strstr(w.accepted.why.text, expected_reason) != NULL, "%s", w.accepted.why.text);
    close_world(&w);
}

Test(link, breaks_off_at_a_frame_longer_than_the_bound)
{
    send_raw("\x00\x40\x00\x01xx", 6, "longer than the bound");
}

Test(link, breaks_off_at_an_empty_frame_of_a_dialler)
{
    send_raw("\x00\x00\x00\x01z\x00\x00\x00\x00", 9, "an empty frame");
}
