/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated world: one queue of events in virtual time, the processes that live in it, their
 * clocks, the network between them, and a transcript. Everything that happens is an event; what
 * chance decides comes from the world's generators, so one seed is one history.
 *
 * A process is anything that can be killed or stopped by itself: a manager, an agent, a monitor.
 * Events of a process that ended are dropped, those of one that is stopped (SIGSTOP) wait until it
 * goes on. Each process reads time by its host's clock, which drifts; the queue has the true time.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vdc/buf.h>
#include <vdc/id.h>
#include <vdc/limits.h>
#include <vdc/prng.h>
#include <vdc/time.h>
#include <vdc/trace.h>

#define SIM_NODES_MAX 128
#define SIM_MANAGERS_MAX 8
#define SIM_CLIENTS_MAX 16
#define SIM_ZONE "prod"

struct sim_world;
struct sim_store;
struct sim_manager;
struct sim_node;
struct sim_client;
struct sim_checks;

/* local = offset + true * (1 + ppm / 1e6) */
struct sim_clock {
    int64_t offset_ns;
    int64_t ppm;
};

struct sim_process {
    struct sim_world *world;
    const struct sim_clock *clock;
    char name[VDC_NAME_CAP];
    bool alive;
    bool stopped;
    uint64_t life;  /* counts its starts: events of an earlier life are dropped */
    int64_t timer;  /* true time that its timer is armed for; INT64_MAX: not */
    uint64_t armed; /* the number of that timer event */
};

typedef void sim_fn(void *object, void *data);

/* A directed pair of mailboxes between two ends, as a TCP connection behaves: in order, delayed by a
 * slow or cut network, broken for both ends (each in its own time) when a cut lasts too long. */
struct sim_conn;

struct sim_plan; /* plan.h */

struct sim_world {
    int64_t now; /* true time, ns */
    uint64_t seed;
    struct vdc_prng chance; /* delays and the like */
    struct vdc_prng faults; /* own streams, so that one draw more does not change the others */
    struct vdc_prng clients;
    const struct sim_plan *plan;

    struct sim_event *heap;
    size_t heap_len, heap_cap;
    struct sim_event *held; /* of stopped processes, in their order */
    size_t held_len, held_cap;
    uint64_t order;
    uint64_t events; /* dispatched */

    struct sim_store *store;
    struct sim_manager *managers[SIM_MANAGERS_MAX];
    size_t managers_len;
    struct sim_node *nodes[SIM_NODES_MAX];
    size_t nodes_len;
    struct sim_client *clients_all[SIM_CLIENTS_MAX];
    size_t clients_len;
    struct sim_checks *checks;
    struct sim_conn *conns;

    bool trace;      /* print the transcript */
    uint64_t digest; /* of the whole transcript, printed or not */
    uint64_t lines;
    char broken[512];   /* the first broken invariant; "" : none */
    const char *mutant; /* deliberate defect of a driver or core, NULL: none */
};

struct sim_world *sim_world_create(uint64_t seed);
void sim_world_destroy(struct sim_world *world);

/* A line of the transcript: "   12.345678 n1/agent: ...". */
void sim_say(struct sim_world *world, const char *who, const char *fmt, ...) VDC_PRINTF(3, 4);
/* Takes the lines of a core out. */
void sim_say_trace(struct sim_world *world, const char *who, struct vdc_trace *trace);
/* An invariant is broken: the run ends after this event. */
void sim_break(struct sim_world *world, const char *fmt, ...) VDC_PRINTF(2, 3);

/* fn(object, data) after delay_ns of true time. process: whose event it is, or NULL: the world's.
 * data is freed with free_data (NULL: not) when the event was done or dropped. */
void sim_after(struct sim_world *world, struct sim_process *process, int64_t delay_ns, sim_fn *fn,
               void *object, void *data, void (*free_data)(void *));
/* Does the next event; false when none is left or it lies after `until`. */
bool sim_step(struct sim_world *world, int64_t until);

int64_t sim_chance(struct sim_world *world, int64_t from, int64_t to); /* even over [from, to] */
bool sim_one_in(struct vdc_prng *prng, uint64_t n);

void sim_process_init(struct sim_process *process, struct sim_world *world,
                      const struct sim_clock *clock, const char *fmt, ...) VDC_PRINTF(4, 5);
void sim_process_begin(struct sim_process *process); /* a new life */
void sim_process_end(struct sim_process *process);
void sim_process_stop(struct sim_process *process, bool stop);
vdc_mono sim_process_now(const struct sim_process *process);
/* One timer: on_timer(object, NULL) when the process' clock reaches `at`; replaces the one before. */
void sim_process_arm(struct sim_process *process, vdc_mono at, sim_fn *on_timer, void *object);
int64_t sim_local(const struct sim_clock *clock, int64_t true_ns);

/* ---- the network ---- */

/* Places in it: hosts. Managers have their own. A cut is between two hosts, one way or both. */
struct sim_host {
    uint32_t number; /* nodes first, then managers, then the store's */
};

#define SIM_HOSTS_MAX (SIM_NODES_MAX + SIM_MANAGERS_MAX + 1)

void sim_net_init(struct sim_world *world);
void sim_net_free(struct sim_world *world);
void sim_net_cut(struct sim_world *world, uint32_t from, uint32_t to, bool cut);
bool sim_net_is_cut(const struct sim_world *world, uint32_t from, uint32_t to);
void sim_net_slow(struct sim_world *world, uint32_t from, uint32_t to, int64_t extra_ns);
void sim_net_heal(struct sim_world *world);
int64_t sim_net_delay(struct sim_world *world, uint32_t from, uint32_t to);

struct sim_end_calls {
    void (*on_frame)(void *object, uint64_t conn, const void *data, size_t len);
    void (*on_down)(void *object, uint64_t conn);
};

struct sim_end {
    struct sim_process *process;
    uint32_t host;
    const struct sim_end_calls *calls;
    void *object;
};

/* Both ends are told of nothing: whoever dials has checked that the way is free. Returns its number. */
uint64_t sim_conn_open(struct sim_world *world, const struct sim_end *a, const struct sim_end *b);
/* From the end whose process this is. */
void sim_conn_send(struct sim_world *world, uint64_t conn, const struct sim_process *from,
                   const void *data, size_t len);
/* This end is told nothing more; the other one learns it after a delay. */
void sim_conn_close(struct sim_world *world, uint64_t conn, const struct sim_process *from);
/* The process is gone: all its connections break, the other ends learn it (at once when only the
 * process died, by silence when its host lost power). */
void sim_conn_drop_all(struct sim_world *world, const struct sim_process *of, bool silent);
/* The same, without an end of the process: a link was reset. */
void sim_conn_reset(struct sim_world *world, const struct sim_process *of);

#endif
