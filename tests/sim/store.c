/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests travel to the store, take effect there at one instant, and their answers travel back. A
 * request or an answer that is lost is sent again after ATTEMPT_NS; all attempts of one request end
 * after REQUEST_NS with UNAVAILABLE, whether or not one of them took effect.
 */
#include "store.h"

#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/record.h>

#define ATTEMPT_NS (2 * VDC_SECOND)
#define REQUEST_NS (6 * VDC_SECOND)
#define FSYNC_MIN_NS (VDC_MS / 2)
#define FSYNC_MAX_NS (6 * VDC_MS)
#define LEASES_MAX 1024
#define CLIENTS_MAX 64

struct lease {
    int64_t id;
    int64_t ttl_ns;
    int64_t ends; /* true time */
};

struct sim_store {
    struct sim_world *world;
    struct sim_process process; /* always alive: carries no clock of its own */
    struct sim_clock clock;
    bool up;
    uint64_t loss;
    struct sim_kv *kvs; /* by key */
    size_t kvs_len, kvs_cap;
    int64_t revision;
    struct lease leases[LEASES_MAX];
    size_t leases_len;
    int64_t last_lease;
    struct sim_store_client *watchers[CLIENTS_MAX];
    size_t watchers_len;
    int64_t leader_changed; /* revision of the leader key's last change */
};

enum request_kind { WRITE, CAMPAIGN, ABDICATE, LOAD, KEEP_ALIVE };

struct request {
    enum request_kind kind;
    struct sim_store *store;
    struct sim_store_client *client;
    uint64_t life;
    int64_t began; /* true time */
    vdc_mono sent; /* this attempt, by the client's clock */
    uint64_t id;
    int64_t guard;
    struct sim_put *puts;
    size_t puts_len;
    int64_t lease;
    int64_t ttl_ns;
    char value[128];
    /* the answer */
    bool answered;
    enum vdc_rc rc;
    int64_t revision;
    struct sim_kv *kvs;
    size_t kvs_len;
};

static void leader_key(char key[VDC_KEY_CAP])
{
    vdc_key_leader(key, SIM_ZONE);
}

uint32_t sim_store_host(void)
{
    return SIM_HOSTS_MAX - 1;
}

/* ---- the map ---- */

static size_t place_of(const struct sim_store *store, const char *key, bool *found)
{
    size_t low = 0;
    size_t high = store->kvs_len;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = strcmp(store->kvs[mid].key, key);
        if (order == 0) {
            *found = true;
            return mid;
        }
        if (order < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    *found = false;
    return low;
}

const struct sim_kv *sim_store_get(const struct sim_store *store, const char *key)
{
    bool found;
    size_t at = place_of(store, key, &found);
    return found ? &store->kvs[at] : NULL;
}

const struct sim_kv *sim_store_at(const struct sim_store *store, size_t i)
{
    return i < store->kvs_len ? &store->kvs[i] : NULL;
}

int64_t sim_store_revision(const struct sim_store *store)
{
    return store->revision;
}

static void tell_leader(struct sim_store *store, struct sim_store_client *client);

static void put(struct sim_store *store, const char *key, const void *value, size_t len,
                int64_t lease)
{
    bool found;
    size_t at = place_of(store, key, &found);
    if (value == NULL) {
        if (found) {
            vdc_buf_deinit(&store->kvs[at].value);
            store->kvs_len--;
            memmove(&store->kvs[at], &store->kvs[at + 1],
                    (store->kvs_len - at) * sizeof store->kvs[0]);
        }
    } else {
        if (!found) {
            VDC_GROW(store->kvs, store->kvs_cap, store->kvs_len + 1);
            memmove(&store->kvs[at + 1], &store->kvs[at],
                    (store->kvs_len - at) * sizeof store->kvs[0]);
            store->kvs_len++;
            memset(&store->kvs[at], 0, sizeof store->kvs[at]);
            vdc_str_set(store->kvs[at].key, sizeof store->kvs[at].key, key);
            store->kvs[at].create_revision = store->revision;
        }
        vdc_buf_clear(&store->kvs[at].value);
        vdc_buf_append(&store->kvs[at].value, value, len);
        store->kvs[at].mod_revision = store->revision;
        store->kvs[at].lease = lease;
    }
    char leader[VDC_KEY_CAP];
    leader_key(leader);
    if (strcmp(key, leader) == 0) {
        store->leader_changed = store->revision;
        for (size_t i = 0; i < store->watchers_len; i++) {
            tell_leader(store, store->watchers[i]);
        }
    }
}

void sim_store_put_now(struct sim_store *store, const char *key, const void *value, size_t len)
{
    store->revision++;
    put(store, key, value, len, 0);
}

static int64_t create_revision(const struct sim_store *store, const char *key)
{
    const struct sim_kv *kv = sim_store_get(store, key);
    return kv != NULL ? kv->create_revision : 0;
}

/* ---- the watch of the leader key ---- */

struct news {
    struct sim_store_client *client;
    int64_t create_revision;
    int64_t mod;
    int64_t lease;
};

static void on_news(void *object, void *data)
{
    struct sim_store *store = object;
    struct news *news = data;
    struct sim_store_client *client = news->client;
    if (!store->up || sim_net_is_cut(store->world, sim_store_host(), client->host)) {
        struct news *again = vdc_memdup(news, sizeof *news);
        sim_after(store->world, client->process, 100 * VDC_MS, on_news, store, again, free);
        return;
    }
    if (news->mod <= client->seen) {
        return; /* a newer one came first: a resumed watch tells in order */
    }
    client->seen = news->mod;
    client->calls->on_leader(client->object, news->create_revision, news->mod, news->lease);
}

static void tell_leader(struct sim_store *store, struct sim_store_client *client)
{
    char key[VDC_KEY_CAP];
    leader_key(key);
    const struct sim_kv *kv = sim_store_get(store, key);
    struct news *news = VDC_NEW(struct news);
    *news = (struct news){client, kv != NULL ? kv->create_revision : 0, store->leader_changed,
                          kv != NULL ? kv->lease : 0};
    sim_after(store->world, client->process,
              sim_net_delay(store->world, sim_store_host(), client->host), on_news, store, news,
              free);
}

void sim_store_watch(struct sim_store *store, struct sim_store_client *client)
{
    sim_store_unwatch(store, client);
    VDC_ASSERT(store->watchers_len < CLIENTS_MAX);
    client->seen = -1;
    store->watchers[store->watchers_len++] = client;
    tell_leader(store, client);
}

void sim_store_unwatch(struct sim_store *store, const struct sim_store_client *client)
{
    for (size_t i = 0; i < store->watchers_len; i++) {
        if (store->watchers[i] == client) {
            store->watchers[i] = store->watchers[--store->watchers_len];
            return;
        }
    }
}

/* ---- leases ---- */

static struct lease *find_lease(struct sim_store *store, int64_t id)
{
    for (size_t i = 0; i < store->leases_len; i++) {
        if (store->leases[i].id == id) {
            return &store->leases[i];
        }
    }
    return NULL;
}

static void on_lease_check(void *object, void *data)
{
    struct sim_store *store = object;
    (void)data;
    struct sim_world *world = store->world;
    for (size_t i = 0; store->up && i < store->leases_len;) {
        if (world->now < store->leases[i].ends) {
            i++;
            continue;
        }
        int64_t id = store->leases[i].id;
        store->leases[i] = store->leases[--store->leases_len];
        char key[VDC_KEY_CAP];
        leader_key(key);
        const struct sim_kv *kv = sim_store_get(store, key);
        if (kv != NULL && kv->lease == id) {
            sim_say(world, "store", "lease %lld has run out -> the leader key goes", (long long)id);
            store->revision++;
            put(store, key, NULL, 0, 0);
        }
    }
    sim_after(world, NULL, 500 * VDC_MS, on_lease_check, store, NULL, NULL);
}

/* ---- requests ---- */

static void free_request(void *data)
{
    struct request *request = data;
    for (size_t i = 0; i < request->puts_len; i++) {
        vdc_buf_deinit(&request->puts[i].value);
    }
    free(request->puts);
    for (size_t i = 0; i < request->kvs_len; i++) {
        vdc_buf_deinit(&request->kvs[i].value);
    }
    free(request->kvs);
    free(request);
}

static void attempt(void *object, void *data);
static void send_attempt(struct sim_store *store, struct request *request);

/* A request that waits for its next attempt, and goes with the event if its client dies. */
struct parked {
    struct request *request;
};

static void free_parked(void *data)
{
    struct parked *parked = data;
    if (parked->request != NULL) {
        free_request(parked->request);
    }
    free(parked);
}

static bool lost(const struct sim_store *store, const struct request *request, bool back)
{
    uint32_t host = request->client->host;
    return !store->up ||
           sim_net_is_cut(store->world, back ? sim_store_host() : host,
                          back ? host : sim_store_host()) ||
           (store->loss != 0 && sim_one_in(&store->world->chance, store->loss));
}

static void apply(struct sim_store *store, struct request *request)
{
    char leader[VDC_KEY_CAP];
    leader_key(leader);
    request->answered = true;
    request->rc = VDC_RC_OK;
    switch (request->kind) {
    case WRITE:
        if (create_revision(store, leader) != request->guard) {
            request->rc = VDC_RC_STALE;
            break;
        }
        store->revision++;
        for (size_t i = 0; i < request->puts_len; i++) {
            put(store, request->puts[i].key, request->puts[i].value.data,
                request->puts[i].value.len, 0);
        }
        break;
    case CAMPAIGN:
        if (create_revision(store, leader) != request->guard ||
            find_lease(store, request->lease) == NULL) {
            request->rc = VDC_RC_CONFLICT;
            break;
        }
        store->revision++;
        put(store, leader, request->value, strlen(request->value), request->lease);
        request->revision = create_revision(store, leader);
        break;
    case ABDICATE:
        if (create_revision(store, leader) == request->guard) {
            store->revision++;
            put(store, leader, NULL, 0, 0);
        }
        break;
    case LOAD:
        request->kvs = vdc_calloc(store->kvs_len, sizeof *request->kvs);
        for (size_t i = 0; i < store->kvs_len; i++) {
            request->kvs[i] = store->kvs[i];
            request->kvs[i].value = (struct vdc_buf){0};
            vdc_buf_append(&request->kvs[i].value, store->kvs[i].value.data,
                           store->kvs[i].value.len);
        }
        request->kvs_len = store->kvs_len;
        break;
    case KEEP_ALIVE: {
        struct lease *lease = find_lease(store, request->lease);
        if (request->lease == 0) {
            VDC_ASSERT(store->leases_len < LEASES_MAX);
            lease = &store->leases[store->leases_len++];
            lease->id = ++store->last_lease;
            lease->ttl_ns = request->ttl_ns;
        }
        if (lease == NULL) {
            request->rc = VDC_RC_NOT_FOUND;
            break;
        }
        lease->ends = store->world->now + lease->ttl_ns;
        request->lease = lease->id;
        break;
    }
    }
}

static void answer(void *object, void *data)
{
    struct request *request = data;
    struct sim_store_client *client = request->client;
    (void)object;
    switch (request->kind) {
    case WRITE:
        client->calls->on_written(client->object, request->id, request->rc);
        break;
    case CAMPAIGN:
        client->calls->on_campaign(client->object, request->rc, request->revision);
        break;
    case ABDICATE:
        break; /* the watch tells */
    case LOAD:
        client->calls->on_loaded(client->object, request->rc, request->kvs, request->kvs_len);
        break;
    case KEEP_ALIVE:
        if (request->rc == VDC_RC_OK) {
            client->calls->on_renewed(client->object, request->lease, request->sent);
        } else {
            client->calls->on_lease_lost(client->object);
        }
        break;
    }
}

/* The client's next attempt, or its end. The event is the client's process'. */
static void again(struct sim_store *store, struct request *request)
{
    struct sim_world *world = store->world;
    if (world->now + ATTEMPT_NS - request->began > REQUEST_NS) {
        request->rc = VDC_RC_UNAVAILABLE;
        if (request->kind == KEEP_ALIVE) {
            /* Asked again and again until the store says that it is gone, or it must be. */
            request->rc = VDC_RC_NOT_FOUND;
        }
        sim_after(world, request->client->process, ATTEMPT_NS, answer, store, request,
                  free_request);
        return;
    }
    struct parked *parked = VDC_NEW(struct parked);
    parked->request = request;
    sim_after(world, request->client->process, ATTEMPT_NS, attempt, store, parked, free_parked);
}

static void arrive(void *object, void *data)
{
    struct sim_store *store = object;
    struct request *request = data;
    struct sim_world *world = store->world;
    struct sim_process *process = request->client->process;
    if (!process->alive || process->life != request->life) {
        /* The client died: what it sent may still take effect. */
        if (!lost(store, request, false)) {
            apply(store, request);
        }
        free_request(request);
        return;
    }
    if (lost(store, request, false)) {
        again(store, request);
        return;
    }
    apply(store, request);
    if (lost(store, request, true)) {
        again(store, request);
        return;
    }
    sim_after(world, process, sim_net_delay(world, sim_store_host(), request->client->host), answer,
              store, request, free_request);
}

static void attempt(void *object, void *data)
{
    struct parked *parked = data;
    struct request *request = parked->request;
    parked->request = NULL;
    send_attempt(object, request);
}

static void send_attempt(struct sim_store *store, struct request *request)
{
    struct sim_world *world = store->world;
    request->sent = sim_process_now(request->client->process);
    if (request->kind == KEEP_ALIVE && request->answered) {
        request->answered = false;
    }
    /* The way and the store's disk. Not an event of the client: what is sent is sent. */
    sim_after(world, NULL,
              sim_net_delay(world, request->client->host, sim_store_host()) +
                  sim_chance(world, FSYNC_MIN_NS, FSYNC_MAX_NS),
              arrive, store, request, NULL);
}

static struct request *begin(struct sim_store *store, struct sim_store_client *client,
                             enum request_kind kind)
{
    struct request *request = VDC_NEW(struct request);
    request->kind = kind;
    request->store = store;
    request->client = client;
    request->life = client->process->life;
    request->began = store->world->now;
    return request;
}

void sim_store_write(struct sim_store *store, struct sim_store_client *client, uint64_t id,
                     int64_t guard_revision, struct sim_put *puts, size_t puts_len)
{
    struct request *request = begin(store, client, WRITE);
    request->id = id;
    request->guard = guard_revision;
    request->puts = puts;
    request->puts_len = puts_len;
    send_attempt(store, request);
}

void sim_store_campaign(struct sim_store *store, struct sim_store_client *client, int64_t expected,
                        int64_t lease, const char *value)
{
    struct request *request = begin(store, client, CAMPAIGN);
    request->guard = expected;
    request->lease = lease;
    vdc_str_set(request->value, sizeof request->value, value);
    send_attempt(store, request);
}

void sim_store_abdicate(struct sim_store *store, struct sim_store_client *client, int64_t revision)
{
    struct request *request = begin(store, client, ABDICATE);
    request->guard = revision;
    send_attempt(store, request);
}

void sim_store_load(struct sim_store *store, struct sim_store_client *client)
{
    send_attempt(store, begin(store, client, LOAD));
}

void sim_store_keep_alive(struct sim_store *store, struct sim_store_client *client, int64_t lease,
                          int64_t ttl_ns)
{
    struct request *request = begin(store, client, KEEP_ALIVE);
    request->lease = lease;
    request->ttl_ns = ttl_ns;
    send_attempt(store, request);
}

/* ---- faults and life ---- */

void sim_store_set_up(struct sim_store *store, bool up)
{
    if (up && !store->up) {
        /* A new leader of etcd gives every lease its whole time again. */
        for (size_t i = 0; i < store->leases_len; i++) {
            store->leases[i].ends = store->world->now + store->leases[i].ttl_ns;
        }
    }
    store->up = up;
}

void sim_store_set_loss(struct sim_store *store, uint64_t one_in)
{
    store->loss = one_in;
}

struct sim_store *sim_store_create(struct sim_world *world)
{
    struct sim_store *store = VDC_NEW(struct sim_store);
    store->world = world;
    store->up = true;
    sim_after(world, NULL, 500 * VDC_MS, on_lease_check, store, NULL, NULL);
    return store;
}

void sim_store_destroy(struct sim_store *store)
{
    for (size_t i = 0; i < store->kvs_len; i++) {
        vdc_buf_deinit(&store->kvs[i].value);
    }
    free(store->kvs);
    free(store);
}
