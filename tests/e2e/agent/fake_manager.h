/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A zone manager that only does what a test tells it: it listens on the real link, leads zone "prod",
 * grants leases (while told to), keeps a replica of each node's database and compares it at each
 * LEASE_ASK. One process, blocking waits around one loop.
 */
#ifndef FAKE_MANAGER_H
#define FAKE_MANAGER_H

#include <uv.h>

#include <vdc/allocdb.h>
#include <vdc/base.h>
#include <vdc/link.h>
#include <vdc/msg.h>

/* A bound against hanging only. */
#define WAIT_MS 90000
#define NODES 2
#define LEASE_NS (4 * VDC_SECOND)
#define GUESTS_MAX 16
#define RESULTS_MAX 64

struct node {
    char name[VDC_NAME_CAP];
    struct vdc_link *link; /* NULL: not connected */
    unsigned sessions;
    uint64_t incarnation; /* recorded, as a leader would in the store */
    bool fenced;
    bool lead; /* send ZONE_LEAD after HELLO */
    bool grant;
    bool joined;
    bool guests_complete;
    unsigned grants;
    struct vdc_msg_hello hello;
    struct vdc_allocdb *replica;
    struct vdc_buf snapshot;
    bool replica_equal; /* at the last LEASE_ASK */
    unsigned compared;
    struct vdc_msg_guest guests[GUESTS_MAX];
    size_t guests_len;
    bool has_result;
    struct vdc_msg_tx_result result;
    struct vdc_msg_tx_result results[RESULTS_MAX]; /* since manager_race */
    size_t results_len;
    bool has_answer;
    struct vdc_msg_command_result answer; /* data: in console */
    struct vdc_buf console;
    uint64_t bye;
};

struct manager {
    uv_loop_t loop;
    uv_timer_t timer;
    bool timed_out;
    struct vdc_tls_context *tls;
    struct vdc_link_listener *listener;
    uint16_t port;
    uint64_t epoch;
    uint64_t requests;
    struct node nodes[NODES]; /* n1, n2 */
};

void manager_open(struct manager *manager, const char *pki);
void manager_close(struct manager *manager);

/* Runs the loop until `condition` holds; false when that takes too long. */
#define manager_wait(manager, condition)                \
    ({                                                  \
        manager_begin_wait(manager);                    \
        while (!(condition) && manager_turn(manager)) { \
        }                                               \
        (condition);                                    \
    })
void manager_begin_wait(struct manager *manager);
bool manager_turn(struct manager *manager);
/* Runs the loop for so long. */
void manager_settle(struct manager *manager, unsigned ms);

/* Sends and waits for the answer; rc TIMEOUT if none comes. */
enum vdc_rc manager_tx(struct manager *manager, struct node *node, const struct vdc_op *ops,
                       uint32_t ops_len);
/* Sends `clients` transactions of `ops_len` operations each, all of them twice, without waiting, then
 * waits for all answers, which are in node->results. False: one is missing, or a repeated request has
 * another answer than the first. */
bool manager_race(struct manager *manager, struct node *node, const struct vdc_op *ops,
                  uint32_t ops_len, uint32_t clients);
enum vdc_rc manager_create(struct manager *manager, struct node *node, const struct vdc_id *id,
                           uint64_t generation, enum vdc_run run);
enum vdc_rc manager_set_run(struct manager *manager, struct node *node, const struct vdc_id *id,
                            uint64_t generation, enum vdc_run run);
enum vdc_rc manager_destroy(struct manager *manager, struct node *node, const struct vdc_id *id,
                            uint64_t generation);
enum vdc_rc manager_command(struct manager *manager, struct node *node, const struct vdc_id *id,
                            uint64_t generation, enum vdc_command_kind kind,
                            const struct vdc_msg_command *more);
/* The last report; NULL: none. */
const struct vdc_msg_guest *manager_guest(const struct node *node, const struct vdc_id *id,
                                          uint64_t generation);
bool manager_guest_is(const struct node *node, const struct vdc_id *id, uint64_t generation,
                      enum vdc_guest_state state);

#endif
