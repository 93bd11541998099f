/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etcd, modelled: one linearizable map with revisions, leases and watches, behind a client that may
 * lose requests and answers. What its users see is what vdc_etcd's callers see (vdc/etcd.h): a guarded
 * write ends OK, STALE (the guard no longer holds) or UNAVAILABLE, which says nothing about whether it
 * happened; once it has ended it does not happen later (the client's fence key sees to that).
 */
#ifndef SIM_STORE_H
#define SIM_STORE_H

#include "world.h"

struct sim_kv {
    char key[256];
    struct vdc_buf value;
    int64_t create_revision;
    int64_t mod_revision;
    int64_t lease;
};

struct sim_put {
    char key[256];
    struct vdc_buf value; /* data NULL: delete */
};

struct sim_store *sim_store_create(struct sim_world *world);
void sim_store_destroy(struct sim_store *store);

/* Without a leader of its own it answers nobody until it is up again. */
void sim_store_set_up(struct sim_store *store, bool up);
/* One request (or answer) in `one_in` gets lost; 0: none. The client asks again after its timeout. */
void sim_store_set_loss(struct sim_store *store, uint64_t one_in);
uint32_t sim_store_host(void);

/* Reading for checkers and the first records: at once, no client. */
const struct sim_kv *sim_store_get(const struct sim_store *store, const char *key);
const struct sim_kv *sim_store_at(const struct sim_store *store, size_t i); /* by key; NULL: end */
int64_t sim_store_revision(const struct sim_store *store);
void sim_store_put_now(struct sim_store *store, const char *key, const void *value, size_t len);

/* ---- what a client of it calls; answers come as events of `process` ---- */

struct sim_store_calls {
    /* Write `id` ended. */
    void (*on_written)(void *object, uint64_t id, enum vdc_rc rc);
    /* A campaign ended: OK with the key's create_revision, CONFLICT, UNAVAILABLE. */
    void (*on_campaign)(void *object, enum vdc_rc rc, int64_t revision);
    /* Everything, as of one revision (kvs: copies, freed after the call). */
    void (*on_loaded)(void *object, enum vdc_rc rc, const struct sim_kv *kvs, size_t len);
    /* The lease was granted or renewed; counts from `sent`, by the process' clock. */
    void (*on_renewed)(void *object, int64_t lease, vdc_mono sent);
    void (*on_lease_lost)(void *object);
    /* The leader key: create_revision 0 when it is gone, at revision `mod`. In order, without gaps. */
    void (*on_leader)(void *object, int64_t create_revision, int64_t mod, int64_t lease);
};

struct sim_store_client {
    struct sim_process *process;
    uint32_t host;
    const struct sim_store_calls *calls;
    void *object;
    int64_t seen; /* the leader key's last change that it was told */
};

/* Takes the puts (their values). guard_revision: create_revision of the leader key. */
void sim_store_write(struct sim_store *store, struct sim_store_client *client, uint64_t id,
                     int64_t guard_revision, struct sim_put *puts, size_t puts_len);
/* Puts the leader key under `lease` if its create_revision is `expected` (0: absent). */
void sim_store_campaign(struct sim_store *store, struct sim_store_client *client, int64_t expected,
                        int64_t lease, const char *value);
/* Deletes the leader key if it still has that create_revision. */
void sim_store_abdicate(struct sim_store *store, struct sim_store_client *client, int64_t revision);
void sim_store_load(struct sim_store *store, struct sim_store_client *client);
/* Grants (lease 0) or renews. */
void sim_store_keep_alive(struct sim_store *store, struct sim_store_client *client, int64_t lease,
                          int64_t ttl_ns);
/* Begins to tell of the leader key. */
void sim_store_watch(struct sim_store *store, struct sim_store_client *client);
void sim_store_unwatch(struct sim_store *store, const struct sim_store_client *client);

#endif
