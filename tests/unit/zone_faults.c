/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One fault at every single event of a migration, a create and a failover: the world checks after each
 * event that the guest runs at most once; afterwards it must run exactly once, where its record says.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "zone_world.h"

/* More events than any of these stories has; the last ones find it already over. */
#define EVENTS 70

static struct zone_world *world_with_web(void)
{
    struct zone_world *world = zw_create();
    zw_run(world, 2000);
    zw_create_partition(world, "web", "silver", "web", "c");
    zw_run(world, 3000);
    return world;
}

static void arm(struct zone_world *world, enum zw_fault fault, uint64_t after, const char *a,
                const char *b)
{
    static char names[2][VDC_NAME_CAP];
    snprintf(names[0], sizeof names[0], "%s", a);
    snprintf(names[1], sizeof names[1], "%s", b);
    world->fault = fault;
    world->fault_after = after;
    world->node_a = names[0];
    world->node_b = names[1];
}

static void migrate_with(enum zw_fault fault)
{
    size_t moved = 0, stayed = 0;
    for (uint64_t after = 0; after < EVENTS; after++) {
        struct zone_world *world = world_with_web();
        const char *source = zw_owner(world, "web");
        const char *target = strcmp(source, "n2") == 0 ? "n3" : "n2";
        char from[VDC_NAME_CAP];
        snprintf(from, sizeof from, "%s", source);
        arm(world, fault, after, from, target);
        uint64_t token = zw_ask(world, VDC_REQUEST_MIGRATE, "web", target, "m");
        zw_run(world, 40000);
        cr_assert(world->fault_done);
        const char *unsettled = zw_unsettled(world);
        cr_assert(unsettled[0] == 0, "fault %d after %llu: %s\n%s", fault,
                  (unsigned long long)after, unsettled, world->trace.data);
        const struct vdc_operation_record *op = zw_operation(world, token);
        if (op != NULL) {
            cr_assert(op->state == VDC_OPSTATE_DONE || op->state == VDC_OPSTATE_FAILED);
            moved += op->state == VDC_OPSTATE_DONE;
            stayed += op->state == VDC_OPSTATE_FAILED;
        }
        zw_destroy(world);
    }
    /* The faults met both sides of the move; a link that is back at once moves nothing aside. */
    bool blink = fault == ZW_CUT_SOURCE || fault == ZW_CUT_TARGET;
    cr_assert(moved > 0 && (blink ? stayed == 0 : stayed > 0), "moved %zu, stayed %zu", moved,
              stayed);
}

Test(zone_faults, migration_survives_a_cut_link_of_the_source_at_every_event)
{
    migrate_with(ZW_CUT_SOURCE);
}

Test(zone_faults, migration_survives_a_cut_link_of_the_target_at_every_event)
{
    migrate_with(ZW_CUT_TARGET);
}

Test(zone_faults, migration_survives_an_isolated_source_at_every_event)
{
    migrate_with(ZW_ISOLATE_SOURCE);
}

Test(zone_faults, migration_survives_an_isolated_target_at_every_event)
{
    migrate_with(ZW_ISOLATE_TARGET);
}

Test(zone_faults, migration_survives_the_death_of_the_source_at_every_event)
{
    migrate_with(ZW_KILL_SOURCE);
}

Test(zone_faults, migration_survives_the_death_of_the_target_at_every_event)
{
    migrate_with(ZW_KILL_TARGET);
}

Test(zone_faults, migration_survives_a_new_leader_that_finds_the_writes_undone)
{
    migrate_with(ZW_NEW_LEADER_WRITES_LOST);
}

Test(zone_faults, migration_survives_a_new_leader_that_finds_the_writes_done)
{
    migrate_with(ZW_NEW_LEADER_WRITES_DONE);
}

static void create_with(enum zw_fault fault)
{
    for (uint64_t after = 0; after < 30; after++) {
        struct zone_world *world = zw_create();
        zw_run(world, 2000);
        uint64_t probe = zw_create_partition(world, "probe", "silver", "web", "");
        zw_run(world, 2000);
        (void)probe;
        uint64_t token = zw_create_partition(world, "web", "silver", "web", "c");
        arm(world, fault, after, "n1", "n2");
        zw_run(world, 40000);
        const char *unsettled = zw_unsettled(world);
        cr_assert(unsettled[0] == 0, "fault %d after %llu: %s\n%s", fault,
                  (unsigned long long)after, unsettled, world->trace.data);
        /* What was acknowledged is there; what was not may be asked again with its key. */
        if (zw_answer(world, token) == NULL) {
            token = zw_create_partition(world, "web", "silver", "web", "c");
            zw_run(world, 5000);
        }
        cr_assert_eq(zw_answer(world, token)->rc, VDC_RC_OK);
        cr_assert_eq(zw_running(world, "web", NULL), 1, "fault %d after %llu\n%s", fault,
                     (unsigned long long)after, world->trace.data);
        zw_destroy(world);
    }
}

Test(zone_faults, create_survives_every_fault_at_every_event)
{
    create_with(ZW_CUT_SOURCE);
    create_with(ZW_CUT_TARGET);
    create_with(ZW_ISOLATE_SOURCE);
    create_with(ZW_ISOLATE_TARGET);
    create_with(ZW_KILL_SOURCE);
    create_with(ZW_KILL_TARGET);
    create_with(ZW_NEW_LEADER_WRITES_LOST);
    create_with(ZW_NEW_LEADER_WRITES_DONE);
}

static void failover_with(enum zw_fault fault)
{
    for (uint64_t after = 0; after < 80; after += 2) {
        struct zone_world *world = world_with_web();
        char dead[VDC_NAME_CAP];
        snprintf(dead, sizeof dead, "%s", zw_owner(world, "web"));
        zw_kill(world, dead);
        zw_run(world, 3000);
        arm(world, fault, after, strcmp(dead, "n4") == 0 ? "n3" : "n4", dead);
        zw_run(world, 30000);
        zw_revive(world, dead, after % 4 == 0);
        zw_run(world, 20000);
        const char *unsettled = zw_unsettled(world);
        cr_assert(unsettled[0] == 0, "fault %d after %llu: %s\n%s", fault,
                  (unsigned long long)after, unsettled, world->trace.data);
        zw_destroy(world);
    }
}

/* The node has taken the partition, its answer was lost, and the repeated request is refused for a
 * reason of the moment (a full disk, a node that is just joining): the guest runs there. */
Test(zone_faults, a_refusal_of_a_repeated_create_moves_nothing_that_its_node_holds)
{
    for (int64_t cut_after = 1; cut_after < 12; cut_after++) {
        struct zone_world *world = zw_create();
        zw_run(world, 2000);
        (void)zw_create_partition(world, "web", "silver", "web", "c");
        zw_run(world, cut_after);
        char owner[VDC_NAME_CAP];
        snprintf(owner, sizeof owner, "%s", zw_owner(world, "web"));
        if (owner[0] != 0) {
            bool holds = vdc_allocdb_count_partitions(zw_node(world, owner)->db) > 0;
            zw_cut(world, owner, 300);
            zw_node(world, owner)->refuse_tx = true;
            zw_run(world, 40000);
            const char *unsettled = zw_unsettled(world);
            cr_assert(unsettled[0] == 0, "cut after %lld: %s\n%s", (long long)cut_after, unsettled,
                      world->trace.data);
            cr_assert_eq(strcmp(zw_owner(world, "web"), owner) == 0, holds, "cut after %lld",
                         (long long)cut_after);
        }
        zw_destroy(world);
    }
}

Test(zone_faults, a_start_that_the_holder_refuses_goes_to_no_other_node)
{
    struct zone_world *world = world_with_web();
    char owner[VDC_NAME_CAP];
    snprintf(owner, sizeof owner, "%s", zw_owner(world, "web"));
    zw_node(world, owner)->refuse_tx = true;
    uint64_t token = zw_ask(world, VDC_REQUEST_START, "web", "", "s"); /* it runs already */
    zw_run(world, 5000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_FAILED);
    cr_assert_eq(zw_operation(world, token)->rc, VDC_RC_NO_SPACE);
    cr_assert_str_eq(zw_owner(world, "web"), owner);
    const char *unsettled = zw_unsettled(world);
    cr_assert(unsettled[0] == 0, "%s\n%s", unsettled, world->trace.data);
    zw_destroy(world);
}

Test(zone_faults, failover_survives_a_new_leader_and_cut_links)
{
    failover_with(ZW_NEW_LEADER_WRITES_LOST);
    failover_with(ZW_NEW_LEADER_WRITES_DONE);
    failover_with(ZW_CUT_SOURCE);
}

Test(zone_faults, two_leaders_in_a_row_finish_or_give_up_a_migration)
{
    for (uint64_t after = 0; after < EVENTS; after += 3) {
        struct zone_world *world = world_with_web();
        const char *source = zw_owner(world, "web");
        arm(world, ZW_NEW_LEADER_WRITES_DONE, after, source, "n2");
        zw_ask(world, VDC_REQUEST_MIGRATE, "web", strcmp(source, "n2") == 0 ? "n3" : "n2", "m");
        zw_run(world, 60 + (int64_t)after * 7);
        zw_new_leader(world, after % 2 == 0);
        zw_run(world, 40000);
        const char *unsettled = zw_unsettled(world);
        cr_assert(unsettled[0] == 0, "after %llu: %s\n%s", (unsigned long long)after, unsettled,
                  world->trace.data);
        zw_destroy(world);
    }
}

/* Random stories: requests and faults at random, then everything heals and must settle. */
static void story(uint64_t seed)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    static const char *const nodes[] = {"n1", "n2", "n3", "n4"};
    static const char *const classes[] = {"gold", "silver", "batch"};
    struct vdc_prng prng;
    vdc_prng_init(&prng, seed);
    fprintf(stderr, "VDC_SEED=%llu\n", (unsigned long long)seed);
    struct zone_world *world = zw_create();
    zw_run(world, 1500);
    for (int i = 0; i < 60; i++) {
        const char *name = names[vdc_prng_below(&prng, 5)];
        const char *node = nodes[vdc_prng_below(&prng, 4)];
        world->answers_len = 0;
        switch (vdc_prng_below(&prng, 14)) {
        case 0:
        case 1:
        case 2:
            zw_create_partition(world, name, classes[vdc_prng_below(&prng, 3)],
                                vdc_prng_below(&prng, 2) == 0 ? "db" : "web", "");
            break;
        case 3:
            zw_ask(world, VDC_REQUEST_STOP, name, "", "");
            break;
        case 4:
            zw_ask(world, VDC_REQUEST_START, name, "", "");
            break;
        case 5:
            zw_ask(world, VDC_REQUEST_DESTROY, name, "", "");
            break;
        case 6:
        case 7:
        case 8:
            zw_ask(world, VDC_REQUEST_MIGRATE, name, vdc_prng_below(&prng, 2) == 0 ? node : "", "");
            break;
        case 9:
            zw_cut(world, node, (int64_t)vdc_prng_below(&prng, 9000));
            break;
        case 10:
            if (zw_node(world, node)->up) {
                zw_kill(world, node);
            } else {
                zw_revive(world, node, vdc_prng_below(&prng, 4) == 0);
            }
            break;
        case 11:
            zw_new_leader(world, vdc_prng_below(&prng, 2) == 0);
            break;
        case 12:
            world->store_down = !world->store_down;
            break;
        case 13:
            world->leader_paused = !world->leader_paused;
            break;
        }
        zw_run(world, (int64_t)vdc_prng_below(&prng, vdc_prng_below(&prng, 2) == 0 ? 100 : 4000));
    }
    world->store_down = false;
    world->leader_paused = false;
    for (size_t i = 0; i < 4; i++) {
        struct zw_node *node = zw_node(world, nodes[i]);
        if (!node->up) {
            zw_revive(world, nodes[i], false);
        } else if (!node->linked) {
            node->relink_at = world->now;
        }
    }
    zw_run(world, 240000);
    const char *unsettled = zw_unsettled(world);
    if (unsettled[0] != 0) {
        fprintf(stderr, "%s", world->trace.data); /* too long for an assertion's text */
    }
    cr_assert(unsettled[0] == 0, "VDC_SEED=%llu: %s", (unsigned long long)seed, unsettled);
    zw_destroy(world);
}

Test(zone_faults, random_stories_settle_after_everything_has_healed)
{
    /* VDC_SEED repeats one, VDC_SEEDS runs so many from there on. */
    const char *first = getenv("VDC_SEED");
    const char *count = getenv("VDC_SEEDS");
    uint64_t from = first == NULL ? 1 : strtoull(first, NULL, 10);
    uint64_t len = count != NULL ? strtoull(count, NULL, 10) : first != NULL ? 1 : 150;
    for (uint64_t seed = from; seed < from + len; seed++) {
        story(seed);
    }
}
