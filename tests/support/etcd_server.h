/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real etcd for tests: a cluster of 1 to 5 members on free loopback ports, its data in a directory
 * under $TMPDIR that is removed with it. Needs Debian's etcd-server and etcd-client and no root. Every
 * function ends the program with a message if it cannot do what it says. Members die with the program.
 *
 *   struct test_etcd *cluster = test_etcd_start(3, NULL);
 *   ... test_etcd_endpoints(cluster), test_etcd_signal(cluster, 0, SIGKILL) ...
 *   test_etcd_stop(cluster);
 */
#ifndef TEST_ETCD_SERVER_H
#define TEST_ETCD_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#define TEST_ETCD_MEMBERS_MAX 5

struct test_etcd;

/* PEM files that members show and ask of clients; they need the names of `tls` in etcd's sense. */
struct test_etcd_tls {
    const char *ca_path;
    const char *cert_path;
    const char *key_path;
    const char *client_cert_path; /* for etcdctl */
    const char *client_key_path;
};

/* Starts the members and waits until the cluster has a leader. tls may be NULL; it is borrowed until
 * stop. */
struct test_etcd *test_etcd_start(size_t members, const struct test_etcd_tls *tls);
/* "127.0.0.1:PORT" for each member, in the members' order; valid until stop. */
const char *const *test_etcd_endpoints(const struct test_etcd *cluster);
size_t test_etcd_count(const struct test_etcd *cluster);
/* The directory of data and logs (mN.log). */
const char *test_etcd_dir(const struct test_etcd *cluster);
/* Waits until the cluster has a leader and returns its number, asking the members that run. */
size_t test_etcd_leader(const struct test_etcd *cluster);
/* SIGKILL also waits for the end; SIGSTOP and SIGCONT freeze and thaw. */
void test_etcd_signal(struct test_etcd *cluster, size_t member, int signal_number);
/* Starts a member that was killed, on its old data. Does not wait until it serves. */
void test_etcd_restart(struct test_etcd *cluster, size_t member);
/* Runs etcdctl (API 3) against one member with these words and returns what it printed (free it);
 * NULL if it failed. */
char *test_etcd_ctl(const struct test_etcd *cluster, size_t member, const char *words);
void test_etcd_stop(struct test_etcd *cluster);

#endif
