/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bench around the node agent's core with a real allocation database: gives it events, and writes
 * what it wants done as text lines, which the tests look for. Manager 0 leads zone "prod".
 */
#ifndef NODE_SUPPORT_H
#define NODE_SUPPORT_H

#include <vdc/agent.h>
#include <vdc/base.h>

#define MIB (UINT64_C(1) << 20)
#define LEASE_NS (4 * VDC_SECOND)

struct bench {
    struct vdc_agent *agent;
    vdc_mono now;
    enum vdc_rc journal;
    struct vdc_buf log; /* of the last event: a line for each action, then the trace */
    uint64_t journalled;
    struct vdc_buf *records; /* [i] has sequence i + 1 */
    size_t records_cap;
    uint64_t asked_ns; /* of the last LEASE_ASK */
    uint64_t asks;
    uint64_t ticket; /* of the last request with one */
    uint64_t requests;
};

void bench_init(struct bench *bench);
/* From the journal of `from` up to `durable` records: the agent was killed and started again. */
void bench_restart(struct bench *bench, uint64_t durable);
void bench_recovered(struct bench *bench);
void bench_deinit(struct bench *bench);

void bench_step(struct bench *bench, struct vdc_agent_event *event);
/* Everything journalled becomes durable. */
void bench_durable(struct bench *bench);
void bench_tick(struct bench *bench, int64_t later_ns);
void bench_msg(struct bench *bench, uint32_t session, const struct vdc_msg *msg);
void bench_session_up(struct bench *bench, uint32_t session, const char *manager);
void bench_session_down(struct bench *bench, uint32_t session);
void bench_lead(struct bench *bench, uint32_t session, uint64_t epoch, uint64_t incarnation,
                bool fenced);
void bench_grant(struct bench *bench, uint32_t session, uint64_t epoch, uint64_t incarnation);
/* Joined, the zone has everything, lease granted. */
void bench_join(struct bench *bench);

struct vdc_id id_of(uint64_t n);
struct vdc_agent_key key_of(uint64_t n, uint64_t generation);
/* Transactions of manager `session` with epoch 1 of zone prod; request 0: a new one. Returns it. */
uint64_t bench_tx(struct bench *bench, uint32_t session, uint64_t epoch, uint64_t request,
                  const struct vdc_op *ops, uint32_t ops_len);
uint64_t bench_create(struct bench *bench, uint64_t n, uint64_t generation, enum vdc_run run,
                      bool restartable);
uint64_t bench_set_run(struct bench *bench, uint64_t n, uint64_t generation, enum vdc_run run);
uint64_t bench_destroy(struct bench *bench, uint64_t n, uint64_t generation);
void bench_state(struct bench *bench, uint64_t n, uint64_t generation, enum vdc_phase phase);
void bench_gone(struct bench *bench, uint64_t n, uint64_t generation, const char *why);
/* How the writing of the hand-over's mark went. */
void bench_marked(struct bench *bench, uint64_t n, uint64_t generation, enum vdc_rc rc);
void bench_reply(struct bench *bench, uint64_t n, uint64_t generation, enum vdc_rc rc);
void bench_command(struct bench *bench, uint64_t n, uint64_t generation,
                   enum vdc_command_kind kind);
/* Created, durable, started, running. */
void bench_run_guest(struct bench *bench, uint64_t n, uint64_t generation);

#define has(bench, text)                                                                        \
    cr_assert(strstr(vdc_buf_text(&(bench)->log), (text)) != NULL, "no \"%s\" in:\n%s", (text), \
              vdc_buf_text(&(bench)->log))
#define lacks(bench, text)                                                                   \
    cr_assert(strstr(vdc_buf_text(&(bench)->log), (text)) == NULL, "\"%s\" in:\n%s", (text), \
              vdc_buf_text(&(bench)->log))
/* `first` stands before `second`. */
#define in_order(bench, first, second)                                                     \
    do {                                                                                   \
        const char *a_ = strstr(vdc_buf_text(&(bench)->log), (first));                     \
        const char *b_ = strstr(vdc_buf_text(&(bench)->log), (second));                    \
        cr_assert(a_ != NULL && b_ != NULL && a_ < b_, "\"%s\" not before \"%s\" in:\n%s", \
                  (first), (second), vdc_buf_text(&(bench)->log));                         \
    } while (0)

#endif
