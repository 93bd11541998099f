/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections. A frame is sent with the delay of its way and never overtakes one before it. On a cut
 * way frames wait, as TCP repeats them; a connection whose way (either one) was cut for DEAD_NS breaks:
 * each end is told by itself, at its own time, and what waited is lost.
 */
#include "world.h"

#include <string.h>

#include <vdc/base.h>

#define DELAY_MIN_NS (100 * VDC_MS / 1000)
#define DELAY_MAX_NS (1500 * VDC_MS / 1000)
/* The links ping each other; silence of this length ends them (runtime/link). */
#define DEAD_MIN_NS (2 * VDC_SECOND)
#define DEAD_MAX_NS (4 * VDC_SECOND)
#define CUT_POLL_NS (20 * VDC_MS)

struct way {
    bool cut;
    int64_t extra_ns;
};

static struct way *way_of(const struct sim_world *world, uint32_t from, uint32_t to);

struct side {
    struct sim_end end;
    uint64_t life;
    bool open;            /* its process has not been told that it is down */
    int64_t last_at;      /* the last frame to this side arrives then */
    int64_t silent_since; /* the way to this side has been cut since; INT64_MAX: it is not */
};

struct sim_conn {
    struct sim_conn *next;
    uint64_t number;
    struct side sides[2];
};

struct sim_net {
    struct way ways[SIM_HOSTS_MAX][SIM_HOSTS_MAX];
    uint64_t last_conn;
};

/* One world per process at a time, but for --jobs, which forks. */
static struct sim_net net;

static struct way *way_of(const struct sim_world *world, uint32_t from, uint32_t to)
{
    (void)world;
    VDC_ASSERT(from < SIM_HOSTS_MAX && to < SIM_HOSTS_MAX);
    return &net.ways[from][to];
}

void sim_net_init(struct sim_world *world)
{
    memset(&net, 0, sizeof net);
    (void)world;
}

void sim_net_cut(struct sim_world *world, uint32_t from, uint32_t to, bool cut)
{
    way_of(world, from, to)->cut = cut;
}

bool sim_net_is_cut(const struct sim_world *world, uint32_t from, uint32_t to)
{
    return way_of(world, from, to)->cut;
}

void sim_net_slow(struct sim_world *world, uint32_t from, uint32_t to, int64_t extra_ns)
{
    way_of(world, from, to)->extra_ns = extra_ns;
}

void sim_net_heal(struct sim_world *world)
{
    (void)world;
    memset(net.ways, 0, sizeof net.ways);
}

int64_t sim_net_delay(struct sim_world *world, uint32_t from, uint32_t to)
{
    return sim_chance(world, DELAY_MIN_NS, DELAY_MAX_NS) + way_of(world, from, to)->extra_ns;
}

static struct sim_conn *find(const struct sim_world *world, uint64_t number)
{
    struct sim_conn *conn = world->conns;
    while (conn != NULL && conn->number != number) {
        conn = conn->next;
    }
    return conn;
}

static bool lives(const struct side *side)
{
    return side->open && side->end.process->alive && side->end.process->life == side->life;
}

static void forget_if_over(struct sim_world *world, uint64_t number)
{
    struct sim_conn **at = &world->conns;
    while (*at != NULL && (*at)->number != number) {
        at = &(*at)->next;
    }
    struct sim_conn *conn = *at;
    if (conn != NULL && !lives(&conn->sides[0]) && !lives(&conn->sides[1])) {
        *at = conn->next;
        free(conn);
    }
}

struct note {
    uint64_t conn;
    int side;
    size_t len;
    uint8_t bytes[];
};

static void tell_down(void *object, void *data)
{
    struct sim_world *world = object;
    const struct note *note = data;
    struct sim_conn *conn = find(world, note->conn);
    if (conn == NULL) {
        return;
    }
    struct side *side = &conn->sides[note->side];
    if (lives(side)) {
        side->open = false;
        struct sim_end end = side->end;
        end.calls->on_down(end.object, note->conn);
    }
    forget_if_over(world, note->conn);
}

static struct note *make_note(uint64_t conn, int side, const void *data, size_t len)
{
    struct note *note = vdc_calloc(1, sizeof *note + len);
    note->conn = conn;
    note->side = side;
    note->len = len;
    if (len > 0) {
        memcpy(note->bytes, data, len);
    }
    return note;
}

static void down_later(struct sim_world *world, struct sim_conn *conn, int side, int64_t delay_ns)
{
    sim_after(world, conn->sides[side].end.process, delay_ns, tell_down, world,
              make_note(conn->number, side, NULL, 0), free);
}

static void deliver(void *object, void *data)
{
    struct sim_world *world = object;
    struct note *note = data;
    struct sim_conn *conn = find(world, note->conn);
    if (conn == NULL) {
        return;
    }
    struct side *to = &conn->sides[note->side];
    struct side *from = &conn->sides[1 - note->side];
    if (!lives(to)) {
        forget_if_over(world, note->conn);
        return;
    }
    if (sim_net_is_cut(world, from->end.host, to->end.host)) {
        /* TCP sends it again and again; in order, so it keeps its place. */
        sim_after(world, to->end.process, CUT_POLL_NS, deliver, world,
                  make_note(note->conn, note->side, note->bytes, note->len), free);
        to->last_at = VDC_MAX(to->last_at, world->now + CUT_POLL_NS);
        return;
    }
    struct sim_end end = to->end;
    end.calls->on_frame(end.object, note->conn, note->bytes, note->len);
}

/* Looks after one connection: is either way dead? */
static void watch(void *object, void *data)
{
    struct sim_world *world = object;
    const struct note *note = data;
    struct sim_conn *conn = find(world, note->conn);
    if (conn == NULL) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        struct side *to = &conn->sides[i];
        const struct side *from = &conn->sides[1 - i];
        bool silent = sim_net_is_cut(world, from->end.host, to->end.host) ||
                      (from->end.process->stopped && from->open);
        if (!silent) {
            to->silent_since = INT64_MAX;
        } else if (to->silent_since == INT64_MAX) {
            to->silent_since = world->now;
        } else if (world->now - to->silent_since > sim_chance(world, DEAD_MIN_NS, DEAD_MAX_NS) &&
                   lives(to)) {
            down_later(world, conn, i, 0);
            if (from->open) {
                /* A reset follows; on a cut way it does not arrive, and silence tells. */
                bool arrives = !sim_net_is_cut(world, to->end.host, from->end.host);
                down_later(world, conn, 1 - i,
                           arrives ? sim_net_delay(world, to->end.host, from->end.host)
                                   : sim_chance(world, DEAD_MIN_NS, DEAD_MAX_NS));
            }
            return;
        }
    }
    sim_after(world, NULL, 500 * VDC_MS, watch, world, make_note(conn->number, 0, NULL, 0), free);
}

uint64_t sim_conn_open(struct sim_world *world, const struct sim_end *a, const struct sim_end *b)
{
    struct sim_conn *conn = VDC_NEW(struct sim_conn);
    conn->number = ++net.last_conn;
    for (int i = 0; i < 2; i++) {
        conn->sides[i].end = i == 0 ? *a : *b;
        conn->sides[i].life = conn->sides[i].end.process->life;
        conn->sides[i].open = true;
        conn->sides[i].silent_since = INT64_MAX;
    }
    conn->next = world->conns;
    world->conns = conn;
    sim_after(world, NULL, 500 * VDC_MS, watch, world, make_note(conn->number, 0, NULL, 0), free);
    return conn->number;
}

static int side_of(const struct sim_conn *conn, const struct sim_process *process)
{
    return conn->sides[0].end.process == process ? 0 : 1;
}

void sim_conn_send(struct sim_world *world, uint64_t number, const struct sim_process *process,
                   const void *data, size_t len)
{
    struct sim_conn *conn = find(world, number);
    if (conn == NULL) {
        return;
    }
    int from = side_of(conn, process);
    struct side *to = &conn->sides[1 - from];
    if (!lives(&conn->sides[from]) || !lives(to)) {
        return; /* into a broken connection */
    }
    int64_t at = world->now + sim_net_delay(world, conn->sides[from].end.host, to->end.host);
    at = VDC_MAX(at, to->last_at);
    to->last_at = at;
    sim_after(world, to->end.process, at - world->now, deliver, world,
              make_note(number, 1 - from, data, len), free);
}

void sim_conn_close(struct sim_world *world, uint64_t number, const struct sim_process *process)
{
    struct sim_conn *conn = find(world, number);
    if (conn == NULL) {
        return;
    }
    int from = side_of(conn, process);
    conn->sides[from].open = false;
    if (lives(&conn->sides[1 - from])) {
        int64_t at = world->now + sim_net_delay(world, conn->sides[from].end.host,
                                                conn->sides[1 - from].end.host);
        down_later(world, conn, 1 - from, VDC_MAX(at, conn->sides[1 - from].last_at) - world->now);
    }
    forget_if_over(world, number);
}

static void drop_of(struct sim_world *world, const struct sim_process *process, bool silent,
                    bool both)
{
    struct sim_conn *next;
    for (struct sim_conn *conn = world->conns; conn != NULL; conn = next) {
        next = conn->next;
        for (int i = 0; i < 2; i++) {
            if (conn->sides[i].end.process != process) {
                continue;
            }
            if (both && lives(&conn->sides[i])) {
                down_later(world, conn, i, sim_net_delay(world, 0, 0));
            } else if (!both) {
                conn->sides[i].open = false;
            }
            if (lives(&conn->sides[1 - i])) {
                bool heard = !silent && !sim_net_is_cut(world, conn->sides[i].end.host,
                                                        conn->sides[1 - i].end.host);
                down_later(world, conn, 1 - i,
                           heard ? sim_net_delay(world, conn->sides[i].end.host,
                                                 conn->sides[1 - i].end.host)
                                 : sim_chance(world, DEAD_MIN_NS, DEAD_MAX_NS));
            }
        }
    }
}

void sim_conn_drop_all(struct sim_world *world, const struct sim_process *of, bool silent)
{
    drop_of(world, of, silent, false);
}

void sim_conn_reset(struct sim_world *world, const struct sim_process *of)
{
    drop_of(world, of, false, true);
}

void sim_net_free(struct sim_world *world)
{
    while (world->conns != NULL) {
        struct sim_conn *next = world->conns->next;
        free(world->conns);
        world->conns = next;
    }
}
