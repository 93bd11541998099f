/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>

struct sim_event {
    int64_t at;
    uint64_t order;
    struct sim_process *process;
    uint64_t life;
    sim_fn *fn;
    void *object;
    void *data;
    void (*free_data)(void *);
};

/* ---- the queue: a binary heap by (at, order) ---- */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct sim_world *world, const struct sim_event *event)
{
    VDC_GROW(world->heap, world->heap_cap, world->heap_len + 1);
    size_t at = world->heap_len++;
    while (at > 0 && before(event, &world->heap[(at - 1) / 2])) {
        world->heap[at] = world->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    world->heap[at] = *event;
}

static struct sim_event pop(struct sim_world *world)
{
    struct sim_event top = world->heap[0];
    struct sim_event last = world->heap[--world->heap_len];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= world->heap_len) {
            break;
        }
        if (child + 1 < world->heap_len && before(&world->heap[child + 1], &world->heap[child])) {
            child++;
        }
        if (!before(&world->heap[child], &last)) {
            break;
        }
        world->heap[at] = world->heap[child];
        at = child;
    }
    world->heap[at] = last;
    return top;
}

static void drop(struct sim_event *event)
{
    if (event->free_data != NULL) {
        event->free_data(event->data);
    }
}

void sim_after(struct sim_world *world, struct sim_process *process, int64_t delay_ns, sim_fn *fn,
               void *object, void *data, void (*free_data)(void *))
{
    struct sim_event event = {
        .at = world->now + VDC_MAX(delay_ns, INT64_C(0)),
        .order = world->order++,
        .process = process,
        .life = process != NULL ? process->life : 0,
        .fn = fn,
        .object = object,
        .data = data,
        .free_data = free_data,
    };
    push(world, &event);
}

bool sim_step(struct sim_world *world, int64_t until)
{
    if (world->heap_len == 0 || world->heap[0].at > until) {
        world->now = VDC_MAX(world->now, until);
        return false;
    }
    struct sim_event event = pop(world);
    world->now = event.at;
    struct sim_process *process = event.process;
    if (process != NULL && (!process->alive || process->life != event.life)) {
        drop(&event);
        return true;
    }
    if (process != NULL && process->stopped) {
        VDC_GROW(world->held, world->held_cap, world->held_len + 1);
        world->held[world->held_len++] = event;
        return true;
    }
    world->events++;
    event.fn(event.object, event.data);
    drop(&event);
    return true;
}

/* ---- the transcript ---- */

static void fold(struct sim_world *world, const char *text)
{
    uint64_t hash = world->digest;
    for (const char *at = text; *at != 0; at++) {
        hash = (hash ^ (uint8_t)*at) * UINT64_C(0x100000001b3); /* FNV-1a */
    }
    world->digest = hash;
    world->lines++;
}

void sim_say(struct sim_world *world, const char *who, const char *fmt, ...)
{
    char line[2300];
    int len = snprintf(line, sizeof line, "%5lld.%06lld %s: ", (long long)(world->now / VDC_SECOND),
                       (long long)(world->now % VDC_SECOND / 1000), who);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line + len, sizeof line - (size_t)len, fmt, ap);
    va_end(ap);
    fold(world, line);
    if (world->trace) {
        puts(line);
    }
}

void sim_say_trace(struct sim_world *world, const char *who, struct vdc_trace *trace)
{
    enum vdc_level level;
    char line[2048];
    while (vdc_trace_take(trace, &level, line, sizeof line)) {
        sim_say(world, who, "%s", line);
    }
}

void sim_break(struct sim_world *world, const char *fmt, ...)
{
    char text[sizeof world->broken];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    sim_say(world, "check", "BROKEN: %s", text);
    if (world->broken[0] == 0) {
        memcpy(world->broken, text, sizeof text);
    }
}

/* ---- chance ---- */

int64_t sim_chance(struct sim_world *world, int64_t from, int64_t to)
{
    return from + (int64_t)vdc_prng_below(&world->chance, (uint64_t)(to - from) + 1);
}

bool sim_one_in(struct vdc_prng *prng, uint64_t n)
{
    return vdc_prng_below(prng, n) == 0;
}

/* ---- processes ---- */

int64_t sim_local(const struct sim_clock *clock, int64_t true_ns)
{
    return clock->offset_ns + true_ns + true_ns / 1000000 * clock->ppm;
}

/* The first true instant at which the clock shows `local` or more. */
static int64_t true_at(const struct sim_clock *clock, int64_t local)
{
    int64_t elapsed = local - clock->offset_ns;
    int64_t guess = elapsed - elapsed / 1000000 * clock->ppm;
    while (sim_local(clock, guess) < local) {
        guess += VDC_MAX((local - sim_local(clock, guess)), INT64_C(1));
    }
    return guess;
}

void sim_process_init(struct sim_process *process, struct sim_world *world,
                      const struct sim_clock *clock, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(process->name, sizeof process->name, fmt, ap);
    va_end(ap);
    process->world = world;
    process->clock = clock;
    process->timer = INT64_MAX;
}

void sim_process_begin(struct sim_process *process)
{
    process->alive = true;
    process->stopped = false;
    process->life++;
    process->timer = INT64_MAX;
}

void sim_process_end(struct sim_process *process)
{
    process->alive = false;
    process->stopped = false;
    process->life++;
    process->timer = INT64_MAX;
}

void sim_process_stop(struct sim_process *process, bool stop)
{
    struct sim_world *world = process->world;
    process->stopped = stop;
    if (stop) {
        return;
    }
    /* What came meanwhile is taken now, in its order. */
    size_t kept = 0;
    for (size_t i = 0; i < world->held_len; i++) {
        if (world->held[i].process != process) {
            world->held[kept++] = world->held[i];
            continue;
        }
        world->held[i].at = world->now;
        world->held[i].order = world->order++;
        push(world, &world->held[i]);
    }
    world->held_len = kept;
}

vdc_mono sim_process_now(const struct sim_process *process)
{
    return (vdc_mono){sim_local(process->clock, process->world->now)};
}

struct timer {
    struct sim_process *process;
    uint64_t number;
    sim_fn *fn;
};

static void on_timer(void *object, void *data)
{
    struct timer *timer = data;
    if (timer->process->armed == timer->number) {
        timer->process->timer = INT64_MAX;
        timer->fn(object, NULL);
    }
}

void sim_process_arm(struct sim_process *process, vdc_mono at, sim_fn *fn, void *object)
{
    struct sim_world *world = process->world;
    if (vdc_mono_is_never(at)) {
        process->armed++;
        process->timer = INT64_MAX;
        return;
    }
    /* Timers of the real loops count in milliseconds and wake late, never early. */
    int64_t when = VDC_MAX(true_at(process->clock, at.ns), world->now);
    if (when == process->timer) {
        return;
    }
    process->timer = when;
    struct timer *timer = VDC_NEW(struct timer);
    *timer = (struct timer){process, ++process->armed, fn};
    sim_after(world, process, when - world->now + (int64_t)vdc_prng_below(&world->chance, VDC_MS),
              on_timer, object, timer, free);
}

/* ---- the world ---- */

struct sim_world *sim_world_create(uint64_t seed)
{
    struct sim_world *world = VDC_NEW(struct sim_world);
    struct vdc_prng root;
    vdc_prng_init(&root, seed);
    vdc_prng_split(&root, &world->chance);
    vdc_prng_split(&root, &world->faults);
    vdc_prng_split(&root, &world->clients);
    world->seed = seed;
    world->digest = UINT64_C(0xcbf29ce484222325);
    sim_net_init(world);
    return world;
}

void sim_world_destroy(struct sim_world *world)
{
    for (size_t i = 0; i < world->heap_len; i++) {
        drop(&world->heap[i]);
    }
    for (size_t i = 0; i < world->held_len; i++) {
        drop(&world->held[i]);
    }
    free(world->held);
    free(world->heap);
    sim_net_free(world);
    free(world);
}
