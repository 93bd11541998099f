/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the checks against real etcd share: a loop, a client, calls that wait for their answer, and a
 * recorder of a watch. A check ends the program when it fails, and says where.
 */
#ifndef TEST_ETCD_HARNESS_H
#define TEST_ETCD_HARNESS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <vdc/base.h>
#include <vdc/etcd.h>

#include "etcd_server.h"

/* Nothing is asserted on time; this only ends a test that hangs. */
#define HANG_SECONDS 90
/* Each is a request of the client, 2.5 s at most in checks of faults. */
#define SETTLE_TRIES 20

#define CHECK(cond)                                                                            \
    do {                                                                                       \
        if (!(cond)) {                                                                         \
            fprintf(stderr, "%s:%d: %s: not true: %s\n", __FILE__, __LINE__, __func__, #cond); \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

struct bench {
    uv_loop_t loop;
    uv_timer_t hang;
    struct vdc_etcd *etcd;
    struct test_etcd *cluster;
};

/* A client of the cluster with these timeouts (0: the defaults); tls only where given. */
void bench_open(struct bench *bench, struct test_etcd *cluster,
                const struct vdc_etcd_config *config);
/* Closes the client and checks that the loop has nothing left. */
void bench_close(struct bench *bench);
/* Runs the loop once; a test that hangs ends here. */
void bench_turn(struct bench *bench);
#define WAIT(bench, cond)      \
    do {                       \
        while (!(cond)) {      \
            bench_turn(bench); \
        }                      \
    } while (0)
void bench_sleep(struct bench *bench, uint64_t ms);

/* Waiting forms: they return the code; what they give is copied out. */
struct outcome {
    bool done;
    enum vdc_rc rc;
    bool succeeded;
    int64_t revision;
    size_t answers;
    int64_t total;    /* of the first answer */
    size_t kv_count;  /* of the first answer */
    char key[64];     /* of the first kv of the first answer */
    char value[64];   /* cut */
    size_t value_len; /* whole */
    int64_t create_revision;
    int64_t mod_revision;
    int64_t version;
    int64_t lease;
    char text[256];
};

void outcome_of_txn(void *data, enum vdc_rc rc, const struct vdc_etcd_result *result,
                    const struct vdc_err *err);
void outcome_of_write(void *data, enum vdc_rc rc, int64_t revision, const struct vdc_err *err);
struct outcome run_txn(struct bench *bench, const struct vdc_etcd_txn *txn);
struct outcome run_put(struct bench *bench, const char *key, const char *value, int64_t lease);
struct outcome run_get(struct bench *bench, const char *key);
/* Creates the key if it is not there; its create_revision. */
int64_t make_guard(struct bench *bench, const char *key);
struct outcome run_write(struct bench *bench, const char *guard, int64_t create_revision,
                         const char *key, const char *value);

/* Records a watch and checks that revisions never fall and that the versions of one key ("seq" in
 * the watched prefix) grow by exactly one: nothing lost, nothing double. */
struct recorder {
    struct vdc_etcd_watch *watch;
    size_t events;
    size_t deletes;
    int64_t last_revision;
    int64_t seq_version;
    char seq_value[64];
    int64_t compacted;
    size_t bytes;
    struct bench *bench;
    bool close_at_first;
};

void recorder_open(struct recorder *recorder, struct bench *bench, const char *prefix,
                   int64_t from_revision);

#endif
