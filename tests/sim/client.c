/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of the API: one request at a time, each under its own idempotency key, repeated with that key
 * at another manager until somebody answers it.
 */
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>

#include "check.h"
#include "manager.h"
#include "plan.h"

#define TIMEOUT_NS (5 * VDC_SECOND)
#define RETRY_NS (300 * VDC_MS)
#define NAMES_MAX 64

struct sim_client {
    struct sim_world *world;
    uint32_t number;
    char name[VDC_NAME_CAP];
    bool finishing;
    bool busy;
    uint64_t attempt; /* answers and timeouts of earlier ones are void */
    uint64_t keys;
    struct vdc_zone_request request;
    char partitions[NAMES_MAX][VDC_NAME_CAP]; /* that it created */
    size_t partitions_len;
    uint64_t created;
};

/* One of all clients' tokens. */
static uint64_t last_token;

static void send(struct sim_client *client);

struct number {
    uint64_t number;
};

static void on_timeout(void *object, void *data)
{
    struct sim_client *client = object;
    if (client->busy && client->attempt == ((const struct number *)data)->number) {
        send(client);
    }
}

static void after(struct sim_client *client, int64_t delay_ns, sim_fn *fn)
{
    struct number *number = VDC_NEW(struct number);
    number->number = client->attempt;
    sim_after(client->world, NULL, delay_ns, fn, client, number, free);
}

static void next_later(struct sim_client *client);

static void on_answer(void *object, uint64_t token, const struct vdc_zone_answer *answer)
{
    struct sim_client *client = object;
    struct sim_world *world = client->world;
    if (!client->busy || client->request.token != token) {
        return; /* of an attempt that was given up */
    }
    if (sim_one_in(&world->clients, 20)) {
        sim_say(world, client->name, "%s: the answer gets lost", client->request.request_key);
        return; /* its timeout repeats it */
    }
    if (vdc_rc_retryable(answer->rc)) {
        client->attempt++;
        after(client, RETRY_NS, on_timeout);
        return;
    }
    if (answer->has_operation) {
        sim_check_acknowledged(world, client->request.request_key, &answer->operation);
    }
    sim_say(world, client->name, "%s: %s%s%s", client->request.request_key, vdc_rc_name(answer->rc),
            answer->text[0] != 0 ? ": " : "", answer->text);
    client->busy = false;
    client->attempt++;
    next_later(client);
}

static void arrive(void *object, void *data)
{
    struct sim_client *client = object;
    struct sim_world *world = client->world;
    if (!client->busy || client->attempt != ((const struct number *)data)->number) {
        return;
    }
    /* Managers forward to the leader: whoever leads is reached, if the network lets. */
    for (size_t i = 0; i < world->managers_len; i++) {
        client->request.token = ++last_token;
        struct vdc_zone_request request = client->request;
        if (request.kind == VDC_REQUEST_APPLY_POLICY) {
            request.policy_text = world->plan->policy;
            if (sim_manager_zone(world->managers[i]) != NULL) {
                request.policy = sim_policy_parse(request.policy_text);
            }
        }
        if (sim_manager_request(world->managers[i], &request, on_answer, client)) {
            return;
        }
        if (request.policy != NULL) {
            vdc_policy_destroy(request.policy);
        }
    }
    client->attempt++;
    after(client, RETRY_NS, on_timeout);
}

static void send(struct sim_client *client)
{
    client->attempt++;
    after(client, sim_chance(client->world, VDC_MS / 2, 4 * VDC_MS), arrive);
    after(client, TIMEOUT_NS, on_timeout);
}

static void draw_create(struct sim_client *client, struct vdc_zone_request *request)
{
    static const char *const classes[] = {"gold", "silver", "batch"};
    struct vdc_prng *prng = &client->world->clients;
    struct vdc_partition_spec *spec = &request->spec;
    request->kind = VDC_REQUEST_CREATE;
    snprintf(spec->name, sizeof spec->name, "p%u-%llu", client->number + 1,
             (unsigned long long)++client->created);
    vdc_str_set(spec->zone, sizeof spec->zone, SIM_ZONE);
    vdc_str_set(spec->class, sizeof spec->class, classes[vdc_prng_below(prng, 3)]);
    vdc_str_set(spec->image, sizeof spec->image, "linux");
    spec->labels_len = 1;
    vdc_str_set(spec->labels[0].key, VDC_LABEL_CAP, "app");
    vdc_str_set(spec->labels[0].value, VDC_LABEL_CAP, sim_one_in(prng, 3) ? "db" : "web");
    spec->vcpus = 1 + (uint32_t)vdc_prng_below(prng, 2);
    spec->memory_bytes = (1 + vdc_prng_below(prng, 4)) << 28;
    spec->disk_bytes = UINT64_C(64) << 20;
    vdc_str_set(client->partitions[client->partitions_len++], VDC_NAME_CAP, spec->name);
}

static void draw(struct sim_client *client)
{
    struct sim_world *world = client->world;
    struct vdc_prng *prng = &world->clients;
    struct vdc_zone_request *request = &client->request;
    memset(request, 0, sizeof *request);
    snprintf(request->request_key, sizeof request->request_key, "c%u-%llu", client->number + 1,
             (unsigned long long)++client->keys);
    vdc_str_set(request->user, sizeof request->user, client->name);
    memcpy(request->body_digest, request->request_key, 8);
    uint32_t mine =
        (world->plan->partitions + (uint32_t)world->clients_len - 1) / (uint32_t)world->clients_len;
    uint64_t what = vdc_prng_below(prng, 10);
    if (client->partitions_len == 0 || (client->partitions_len < mine && what < 5)) {
        draw_create(client, request);
        return;
    }
    size_t at = (size_t)vdc_prng_below(prng, client->partitions_len);
    vdc_str_set(request->partition, sizeof request->partition, client->partitions[at]);
    if (what < 5) {
        request->kind = VDC_REQUEST_MIGRATE;
        if (sim_one_in(prng, 2)) {
            snprintf(request->target, sizeof request->target, "n%llu",
                     (unsigned long long)vdc_prng_below(prng, world->nodes_len) + 1);
        }
    } else if (what == 5) {
        request->kind = VDC_REQUEST_STOP;
    } else if (what < 8) {
        request->kind = VDC_REQUEST_START;
    } else if (what == 8) {
        request->kind = VDC_REQUEST_DESTROY;
        memmove(client->partitions[at], client->partitions[client->partitions_len - 1],
                VDC_NAME_CAP);
        client->partitions_len--;
    } else {
        request->kind = VDC_REQUEST_APPLY_POLICY;
        request->partition[0] = 0;
    }
}

static void next(void *object, void *data)
{
    static const char *const kinds[] = {"create",  "start",        "stop",   "destroy",
                                        "migrate", "apply policy", "console"};
    struct sim_client *client = object;
    (void)data;
    if (client->finishing || client->busy) {
        return;
    }
    draw(client);
    client->busy = true;
    sim_say(client->world, client->name, "%s: %s %s%s %s", client->request.request_key,
            kinds[client->request.kind], client->request.spec.name, client->request.partition,
            client->request.target);
    send(client);
}

static void next_later(struct sim_client *client)
{
    struct sim_world *world = client->world;
    int64_t most = 2 * world->plan->request_every_ns * (int64_t)world->clients_len;
    sim_after(world, NULL, (int64_t)vdc_prng_below(&world->clients, (uint64_t)most), next, client,
              NULL, NULL);
}

struct sim_client *sim_client_create(struct sim_world *world, uint32_t number)
{
    struct sim_client *client = VDC_NEW(struct sim_client);
    client->world = world;
    client->number = number;
    snprintf(client->name, sizeof client->name, "c%u", number + 1);
    return client;
}

void sim_client_destroy(struct sim_client *client)
{
    free(client);
}

void sim_client_begin(struct sim_client *client)
{
    next_later(client);
}

void sim_client_finish(struct sim_client *client)
{
    client->finishing = true;
}

bool sim_client_is_idle(const struct sim_client *client)
{
    return !client->busy;
}
