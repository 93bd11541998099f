/* SPDX-License-Identifier: Apache-2.0 */
/* The zone's leader in a small world: what it does when all is well, and after single faults. */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include <vdc/policy_io.h>

#include "zone_world.h"

#define ASSERT_SETTLED(world)                                                     \
    do {                                                                          \
        const char *unsettled_ = zw_unsettled(world);                             \
        cr_assert(unsettled_[0] == 0, "%s\n%s", unsettled_, (world)->trace.data); \
    } while (0)

static struct zone_world *ready_world(void)
{
    struct zone_world *world = zw_create();
    zw_run(world, 2000);
    return world;
}

static void create(struct zone_world *world, const char *name, const char *class, const char *app)
{
    uint64_t token = zw_create_partition(world, name, class, app, "");
    zw_run(world, 3000);
    const struct vdc_operation_record *op = zw_operation(world, token);
    cr_assert(op != NULL && op->state == VDC_OPSTATE_DONE, "%s\n%s", name, world->trace.data);
}

/* Three db and one web, as in the quickstart; web is where a db can't be the fourth. */
static struct zone_world *quickstart_world(void)
{
    struct zone_world *world = ready_world();
    create(world, "db-1", "gold", "db");
    create(world, "db-2", "gold", "db");
    create(world, "db-3", "gold", "db");
    create(world, "web", "silver", "web");
    return world;
}

/* The node of r3 with a db. */
static const char *db_node_of_r3(struct zone_world *world)
{
    static const char *const names[] = {"db-1", "db-2", "db-3"};
    for (size_t i = 0; i < 3; i++) {
        const char *owner = zw_owner(world, names[i]);
        if (strcmp(owner, "n3") == 0 || strcmp(owner, "n4") == 0) {
            return owner;
        }
    }
    cr_assert_fail("no db in r3");
    return "";
}

Test(zone_core, nodes_that_the_policy_matches_join_and_become_usable)
{
    struct zone_world *world = ready_world();
    ASSERT_SETTLED(world);
    for (size_t i = 0; i < world->nodes_len; i++) {
        cr_assert_eq(world->nodes[i].incarnation, 1);
        cr_assert_gt(world->nodes[i].grants, 0);
    }
    zw_destroy(world);
}

Test(zone_core, three_db_run_in_three_racks_and_a_fourth_is_refused_with_the_rule)
{
    struct zone_world *world = quickstart_world();
    uint64_t token = zw_create_partition(world, "db-4", "gold", "db", "k4");
    zw_run(world, 100);
    const struct zw_answer *answer = zw_answer(world, token);
    cr_assert(answer != NULL && answer->rc == VDC_RC_REFUSED && answer->has_operation);
    cr_assert(strstr(answer->text, "db-apart") != NULL, "%s", answer->text);
    const struct vdc_operation_record *op = zw_operation(world, token);
    cr_assert(op->state == VDC_OPSTATE_FAILED && op->verdict != NULL);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_repeated_key_gets_the_first_answer_and_another_body_a_conflict)
{
    struct zone_world *world = ready_world();
    uint64_t first = zw_create_partition(world, "web", "silver", "web", "key-1");
    uint64_t second = zw_create_partition(world, "web", "silver", "web", "key-1");
    cr_assert_null(zw_answer(world, first)); /* nothing before it is durable */
    cr_assert_null(zw_answer(world, second));
    uint64_t other = zw_create_partition(world, "cache", "silver", "web", "key-1");
    cr_assert_eq(zw_answer(world, other)->rc, VDC_RC_CONFLICT);
    zw_run(world, 2000);
    const struct zw_answer *a = zw_answer(world, first);
    const struct zw_answer *b = zw_answer(world, second);
    cr_assert(a->rc == VDC_RC_OK && !a->repeated && b->rc == VDC_RC_OK && b->repeated);
    cr_assert(vdc_id_equal(&a->operation, &b->operation));
    zw_new_leader(world, false);
    zw_run(world, 2000);
    uint64_t third = zw_create_partition(world, "web", "silver", "web", "key-1");
    zw_run(world, 10);
    cr_assert(vdc_id_equal(&zw_answer(world, third)->operation, &a->operation));
    cr_assert(zw_answer(world, third)->repeated);
    zw_destroy(world);
}

Test(zone_core, a_refusal_is_repeated_by_a_new_leader_too)
{
    struct zone_world *world = quickstart_world();
    uint64_t first = zw_create_partition(world, "db-4", "gold", "db", "key-r");
    zw_run(world, 100);
    zw_new_leader(world, true);
    zw_run(world, 1000);
    uint64_t again = zw_create_partition(world, "db-4", "gold", "db", "key-r");
    cr_assert_eq(zw_answer(world, again)->rc, VDC_RC_REFUSED);
    cr_assert_str_eq(zw_answer(world, again)->text, zw_answer(world, first)->text);
    zw_destroy(world);
}

Test(zone_core, bad_specs_and_unknown_partitions_are_answered_at_once)
{
    struct zone_world *world = ready_world();
    uint64_t token = zw_create_partition(world, "Bad Name", "gold", "db", "");
    cr_assert_eq(zw_answer(world, token)->rc, VDC_RC_INVALID);
    token = zw_create_partition(world, "x", "platinum", "db", "");
    cr_assert_eq(zw_answer(world, token)->rc, VDC_RC_INVALID);
    cr_assert(strstr(zw_answer(world, token)->text, "platinum") != NULL);
    cr_assert(strstr(zw_answer(world, token)->text, "one of: gold, silver, batch") != NULL, "%s",
              zw_answer(world, token)->text);
    token = zw_create_partition(world, "x", "", "db", "");
    cr_assert_eq(zw_answer(world, token)->rc, VDC_RC_INVALID);
    cr_assert(strstr(zw_answer(world, token)->text, "none was given") != NULL, "%s",
              zw_answer(world, token)->text);
    cr_assert(strstr(zw_answer(world, token)->text, "one of: gold, silver, batch") != NULL);
    token = zw_ask(world, VDC_REQUEST_STOP, "nobody", "", "");
    cr_assert_eq(zw_answer(world, token)->rc, VDC_RC_NOT_FOUND);
    create(world, "web", "silver", "web");
    token = zw_create_partition(world, "web", "silver", "web", "");
    cr_assert_eq(zw_answer(world, token)->rc, VDC_RC_EXISTS);
    zw_destroy(world);
}

Test(zone_core, a_create_before_any_node_is_there_is_refused_with_reasons)
{
    struct zone_world *world = zw_create();
    uint64_t token = zw_create_partition(world, "web", "silver", "web", "");
    zw_run(world, 10);
    cr_assert_eq(zw_answer(world, token)->rc, VDC_RC_REFUSED);
    cr_assert_neq(zw_answer(world, token)->text[0], 0);
    zw_destroy(world);
}

Test(zone_core, a_new_leader_refuses_nothing_before_it_sees_its_nodes)
{
    struct zone_world *world = quickstart_world();
    zw_run(world, 100);
    zw_new_leader(world, true);
    uint64_t token = zw_create_partition(world, "late", "silver", "late", "key-late");
    zw_run(world, 10);
    cr_assert_eq(zw_answer(world, token)->rc, VDC_RC_NO_LEADER);
    zw_run(world, 2000);
    token = zw_create_partition(world, "late", "silver", "late", "key-late");
    zw_run(world, 2000);
    cr_assert_eq(zw_answer(world, token)->rc, VDC_RC_OK);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_second_operation_on_one_partition_names_the_first)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    zw_ask(world, VDC_REQUEST_STOP, "web", "", "");
    uint64_t second = zw_ask(world, VDC_REQUEST_DESTROY, "web", "", "");
    cr_assert_eq(zw_answer(world, second)->rc, VDC_RC_CONFLICT);
    cr_assert(strstr(zw_answer(world, second)->text, "stop") != NULL);
    zw_run(world, 2000);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, stop_start_and_destroy_do_what_they_say)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    uint64_t token = zw_ask(world, VDC_REQUEST_STOP, "web", "", "");
    zw_run(world, 1000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_DONE);
    cr_assert_eq(zw_running(world, "web", NULL), 0);
    token = zw_ask(world, VDC_REQUEST_START, "web", "", "");
    zw_run(world, 2000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_DONE);
    ASSERT_SETTLED(world);
    token = zw_ask(world, VDC_REQUEST_DESTROY, "web", "", "");
    zw_run(world, 1000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_DONE);
    cr_assert_str_eq(zw_owner(world, "web"), "");
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

/* ---- volumes ---- */

static struct vdc_id id_of(struct zone_world *world, const char *partition)
{
    struct vdc_zone_partition_info info;
    cr_assert(vdc_zone_partition_find(world->zone, partition, &info));
    return info.record->id;
}

Test(zone_core, only_a_destroy_deletes_a_volume_and_only_its_own)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    create(world, "cache", "silver", "cache");
    struct vdc_id web = id_of(world, "web");
    zw_ask(world, VDC_REQUEST_STOP, "web", "", "");
    zw_run(world, 1000);
    zw_ask(world, VDC_REQUEST_START, "web", "", "");
    zw_run(world, 2000);
    zw_ask(world, VDC_REQUEST_MIGRATE, "web", "", "");
    zw_run(world, 5000);
    zw_kill(world, zw_owner(world, "web"));
    zw_run(world, 20000);
    cr_assert_eq(zw_running(world, "web", NULL), 1);
    cr_assert_eq(world->volumes_len, 0);
    uint64_t token = zw_ask(world, VDC_REQUEST_DESTROY, "web", "", "");
    zw_run(world, 1000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_DONE);
    cr_assert_eq(world->volumes_len, 1);
    cr_assert(vdc_id_equal(&world->volumes[0], &web));
    zw_destroy(world);
}

Test(zone_core, a_volume_whose_node_is_gone_is_deleted_by_another)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    zw_ask(world, VDC_REQUEST_STOP, "web", "", "");
    zw_run(world, 1000);
    zw_kill(world, zw_owner(world, "web"));
    uint64_t token = zw_ask(world, VDC_REQUEST_DESTROY, "web", "", "");
    zw_run(world, 2000);
    cr_assert_eq(world->volumes_len, 0, "before its node is fenced, its guest may run");
    zw_run(world, 20000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_DONE);
    cr_assert_eq(world->volumes_len, 1);
    zw_destroy(world);
}

Test(zone_core, a_volume_that_cannot_be_deleted_yet_is_tried_again)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    zw_node(world, zw_owner(world, "web"))->refuse_volumes = 2;
    uint64_t token = zw_ask(world, VDC_REQUEST_DESTROY, "web", "", "");
    zw_run(world, 3000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_RUNNING);
    zw_run(world, 10000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_DONE);
    cr_assert_eq(world->volumes_len, 1);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_volume_that_cannot_be_deleted_at_all_fails_the_destroy_which_may_be_repeated)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    struct zw_node *node = zw_node(world, zw_owner(world, "web"));
    node->refuse_volumes = UINT32_MAX;
    uint64_t token = zw_ask(world, VDC_REQUEST_DESTROY, "web", "", "");
    zw_run(world, 140000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_FAILED);
    cr_assert_neq(zw_owner(world, "web")[0], 0);
    node->refuse_volumes = 0;
    token = zw_ask(world, VDC_REQUEST_DESTROY, "web", "", "");
    zw_run(world, 2000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_DONE);
    cr_assert_eq(world->volumes_len, 1);
    zw_destroy(world);
}

Test(zone_core, a_new_leader_deletes_the_volume_that_its_predecessor_was_about_to)
{
    /* At each moment of a destroy. */
    for (int64_t ms = 0; ms < 60; ms++) {
        struct zone_world *world = ready_world();
        create(world, "web", "silver", "web");
        uint64_t token = zw_ask(world, VDC_REQUEST_DESTROY, "web", "", "k");
        zw_run(world, ms);
        zw_new_leader(world, ms % 2 == 0);
        zw_run(world, 5000);
        if (zw_owner(world, "web")[0] != 0) { /* the request itself was lost */
            token = zw_ask(world, VDC_REQUEST_DESTROY, "web", "", "k");
            zw_run(world, 5000);
        }
        cr_assert_str_eq(zw_owner(world, "web"), "", "after %lld ms", (long long)ms);
        cr_assert_geq(world->volumes_len, 1);
        (void)token;
        ASSERT_SETTLED(world);
        zw_destroy(world);
    }
}

Test(zone_core, a_node_that_refuses_is_passed_over_with_a_new_generation)
{
    struct zone_world *world = ready_world();
    uint64_t probe = zw_create_partition(world, "probe", "silver", "web", "");
    zw_run(world, 2000);
    (void)probe;
    zw_node(world, "n2")->refuse_tx = true;
    zw_node(world, "n3")->refuse_tx = true;
    zw_node(world, "n4")->refuse_tx = true;
    create(world, "web", "silver", "web");
    cr_assert_str_eq(zw_owner(world, "web"), "n1");
    ASSERT_SETTLED(world);
    zw_node(world, "n1")->refuse_tx = true;
    uint64_t token = zw_create_partition(world, "more", "silver", "web", "");
    zw_run(world, 2000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_FAILED);
    cr_assert_str_eq(zw_owner(world, "more"), "");
    zw_destroy(world);
}

Test(zone_core, a_migration_moves_the_guest_and_tells_its_downtime)
{
    struct zone_world *world = quickstart_world();
    const char *target = db_node_of_r3(world);
    if (strcmp(zw_owner(world, "web"), target) == 0) {
        target = strcmp(target, "n3") == 0 ? "n4" : "n3";
    }
    uint64_t token = zw_ask(world, VDC_REQUEST_MIGRATE, "web", target, "m1");
    zw_run(world, 3000);
    const struct vdc_operation_record *op = zw_operation(world, token);
    cr_assert(op != NULL && op->state == VDC_OPSTATE_DONE, "%s", world->trace.data);
    cr_assert_str_eq(zw_owner(world, "web"), target);
    cr_assert(op->downtime_ns > 0 && op->downtime_ns < 100 * VDC_MS);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

/* The generation that writes the partition's volume by the node's database; 0: none does. */
static uint64_t writes_volume(struct zone_world *world, const char *node, const struct vdc_id *id)
{
    const struct vdc_entry *use = vdc_allocdb_find_volume(zw_node(world, node)->db, id, id);
    return use != NULL && use->volume.mode == VDC_VOLUME_WRITE ? use->volume.generation : 0;
}

Test(zone_core, a_volume_is_in_use_where_the_guest_may_write_it_and_follows_a_migration)
{
    struct zone_world *world = ready_world();
    struct vdc_zone_partition_info info;
    create(world, "web", "silver", "web");
    cr_assert(vdc_zone_partition_find(world->zone, "web", &info));
    struct vdc_id id = info.record->id;
    char source[VDC_NAME_CAP];
    vdc_str_set(source, sizeof source, zw_owner(world, "web"));
    const char *target = strcmp(source, "n1") == 0 ? "n2" : "n1";
    cr_assert_eq(writes_volume(world, source, &id), 1);
    zw_node(world, source)->stream_ns = 1000 * VDC_MS;
    zw_ask(world, VDC_REQUEST_MIGRATE, "web", target, "m1");
    zw_run(world, 500);
    /* The target holds it and waits for the stream: it does not write. */
    cr_assert_not_null(vdc_allocdb_find_partition(zw_node(world, target)->db, &id));
    cr_assert_eq(writes_volume(world, target, &id), 0);
    cr_assert_eq(writes_volume(world, source, &id), 1);
    zw_run(world, 3000);
    cr_assert_str_eq(zw_owner(world, "web"), target);
    cr_assert_eq(writes_volume(world, target, &id), 2);
    cr_assert_eq(writes_volume(world, source, &id), 0);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_target_that_fails_at_the_last_moment_leaves_the_guest_at_its_source)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    char source[VDC_NAME_CAP];
    snprintf(source, sizeof source, "%s", zw_owner(world, "web"));
    const char *target = strcmp(source, "n2") == 0 ? "n3" : "n2";
    zw_node(world, target)->guest_fails = true;
    uint64_t token = zw_ask(world, VDC_REQUEST_MIGRATE, "web", target, "");
    zw_run(world, 3000);
    const struct vdc_operation_record *op = zw_operation(world, token);
    cr_assert(op->state == VDC_OPSTATE_FAILED && op->error != NULL, "%s", world->trace.data);
    cr_assert(strstr(op->error, "target failed") != NULL, "%s", op->error);
    cr_assert_str_eq(zw_owner(world, "web"), source);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_paused_guest_is_not_migrated_and_the_answer_says_what_to_do)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    struct zw_node *node = zw_node(world, zw_owner(world, "web"));
    node->mute = true;
    zw_run(world, 3100); /* its lease is over, and the leader does not count on that yet */
    uint64_t token = zw_ask(world, VDC_REQUEST_MIGRATE, "web", "", "");
    const struct zw_answer *answer = zw_answer(world, token);
    cr_assert(answer != NULL && answer->rc == VDC_RC_CONFLICT, "%s", world->trace.data);
    cr_assert(strstr(answer->text, "is paused on") != NULL, "%s", answer->text);
    cr_assert(strstr(answer->text, "stop it and start it") != NULL, "%s", answer->text);
    node->mute = false;
    zw_run(world, 15000);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_link_that_blinks_does_not_end_a_migration)
{
    for (int end = 0; end < 2; end++) {
        struct zone_world *world = ready_world();
        create(world, "web", "silver", "web");
        char source[VDC_NAME_CAP];
        snprintf(source, sizeof source, "%s", zw_owner(world, "web"));
        const char *target = strcmp(source, "n2") == 0 ? "n3" : "n2";
        zw_node(world, source)->stream_ns = 3 * VDC_SECOND;
        uint64_t token = zw_ask(world, VDC_REQUEST_MIGRATE, "web", target, "");
        zw_run(world, 1000);
        zw_cut(world, end == 0 ? source : target, 1000);
        zw_run(world, 5000);
        const struct vdc_operation_record *op = zw_operation(world, token);
        cr_assert_eq(op->state, VDC_OPSTATE_DONE, "%s", world->trace.data);
        ASSERT_SETTLED(world);
        zw_destroy(world);
    }
}

Test(zone_core, a_migration_ends_when_a_node_stays_away)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    char source[VDC_NAME_CAP];
    snprintf(source, sizeof source, "%s", zw_owner(world, "web"));
    zw_node(world, source)->stream_ns = 30 * VDC_SECOND;
    uint64_t token = zw_ask(world, VDC_REQUEST_MIGRATE, "web", "", "");
    zw_run(world, 1000);
    char target[VDC_NAME_CAP];
    snprintf(target, sizeof target, "%s", zw_operation(world, token)->target);
    zw_cut(world, target, -1);
    zw_run(world, 3000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_RUNNING, "%s", world->trace.data);
    zw_run(world, 3000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_FAILED, "%s", world->trace.data);
    cr_assert_eq(zw_running(world, "web", NULL), 1);
    cr_assert_str_eq(zw_owner(world, "web"), source);
    zw_node(world, target)->relink_at = world->now;
    zw_run(world, 10000);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

/* What the owner's database says of the partition's guest. */
static enum vdc_run run_at(struct zone_world *world, const char *node, const char *name)
{
    struct vdc_zone_partition_info info;
    cr_assert(vdc_zone_partition_find(world->zone, name, &info));
    const struct vdc_partition *held =
        vdc_allocdb_find_partition(zw_node(world, node)->db, &info.record->id);
    cr_assert_not_null(held);
    return held->run;
}

Test(zone_core, a_guest_that_is_on_its_way_is_leaving_in_its_source_s_database)
{
    struct zone_world *world = ready_world();
    create(world, "web", "batch", "web");
    char source[VDC_NAME_CAP];
    snprintf(source, sizeof source, "%s", zw_owner(world, "web"));
    zw_node(world, source)->stream_ns = 30 * VDC_SECOND;
    uint64_t token = zw_ask(world, VDC_REQUEST_MIGRATE, "web", "", "");
    zw_run(world, 1000);
    cr_assert_eq(run_at(world, source, "web"), VDC_RUN_LEAVING, "%s", world->trace.data);
    zw_cut(world, zw_operation(world, token)->target, 8000);
    zw_run(world, 20000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_FAILED, "%s", world->trace.data);
    cr_assert_eq(run_at(world, source, "web"), VDC_RUN_RUNNING, "%s", world->trace.data);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_guest_that_stands_still_for_no_migration_is_told_to_go_on)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    struct zw_node *owner = zw_node(world, zw_owner(world, "web"));
    owner->guests[0].state = VDC_GUEST_SWITCHOVER;
    zw_cut(world, owner->name, 300);
    zw_run(world, 3000);
    cr_assert(zw_saw(world, "no migration is under way -> told to go on"), "%s", world->trace.data);
    cr_assert_eq(zw_running(world, "web", NULL), 1);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_migration_whose_source_runs_again_without_a_reason_is_given_up)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    struct zw_node *source = zw_node(world, zw_owner(world, "web"));
    source->stream_ns = 3600 * VDC_SECOND;
    uint64_t token = zw_ask(world, VDC_REQUEST_MIGRATE, "web", "", "");
    zw_run(world, 1000);
    cr_assert_eq(source->guests[0].state, VDC_GUEST_MIGRATING);
    source->guests[0].state = VDC_GUEST_RUNNING;
    source->guests[0].next_at = VDC_NEVER;
    zw_cut(world, source->name, 10); /* so that it says so */
    zw_run(world, 5000);
    const struct vdc_operation_record *op = zw_operation(world, token);
    cr_assert_eq(op->state, VDC_OPSTATE_FAILED, "%s", world->trace.data);
    cr_assert(strstr(op->error, "gave up and is running") != NULL, "%s", op->error);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, what_was_to_stop_while_its_node_was_away_stops_when_it_is_back)
{
    struct zone_world *world = ready_world();
    create(world, "job", "batch", "x"); /* runs on without a lease */
    create(world, "job-2", "batch", "x");
    char first[VDC_NAME_CAP];
    snprintf(first, sizeof first, "%s", zw_owner(world, "job"));
    const char *second = zw_owner(world, "job-2");
    zw_cut(world, first, -1);
    zw_cut(world, strcmp(second, first) == 0 ? "n3" : second,
           -1); /* two of four: the brake holds */
    uint64_t token = zw_ask(world, VDC_REQUEST_STOP, "job", "", "");
    zw_run(world, 130000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_FAILED, "%s", world->trace.data);
    cr_assert_eq(zw_running(world, "job", NULL), 1);
    for (size_t i = 0; i < world->nodes_len; i++) {
        if (!world->nodes[i].linked) {
            world->nodes[i].relink_at = world->now;
        }
    }
    zw_run(world, 10000);
    cr_assert_eq(zw_running(world, "job", NULL), 0, "%s", world->trace.data);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, what_a_node_refused_to_start_starts_when_it_can)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    zw_ask(world, VDC_REQUEST_STOP, "web", "", "");
    zw_run(world, 2000);
    struct zw_node *node = zw_node(world, zw_owner(world, "web"));
    node->refuse_tx = true;
    uint64_t token = zw_ask(world, VDC_REQUEST_START, "web", "", "");
    zw_run(world, 30000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_FAILED, "%s", world->trace.data);
    cr_assert(zw_saw(world, "refuses to be brought into line"));
    node->refuse_tx = false;
    zw_run(world, 15000);
    ASSERT_SETTLED(world); /* it was meant to run, so it does */
    zw_destroy(world);
}

Test(zone_core, a_partition_of_a_lost_node_that_does_not_restart_can_be_destroyed)
{
    struct zone_world *world = ready_world();
    create(world, "job", "batch", "x");
    char name[VDC_NAME_CAP];
    snprintf(name, sizeof name, "%s", zw_owner(world, "job"));
    zw_cut(world, name, -1); /* it runs there still */
    zw_run(world, 10000);
    cr_assert(zw_saw(world, "fenced"));
    uint64_t token = zw_ask(world, VDC_REQUEST_DESTROY, "job", "", "");
    zw_run(world, 1000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_DONE, "%s", world->trace.data);
    cr_assert_eq(world->volumes_len, 1);
    zw_node(world, name)->relink_at = world->now;
    zw_run(world, 5000);
    cr_assert_eq(zw_node(world, name)->guests_len, 0);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_lost_host_that_is_back_during_a_destroy_ends_what_it_kept_first)
{
    struct zone_world *world = ready_world();
    create(world, "job", "batch", "x");
    char name[VDC_NAME_CAP];
    snprintf(name, sizeof name, "%s", zw_owner(world, "job"));
    zw_cut(world, name, -1);
    zw_run(world, 10000);
    for (size_t i = 0; i < world->nodes_len; i++) {
        world->nodes[i].refuse_volumes = UINT32_MAX; /* so that the destroy waits there */
    }
    uint64_t token = zw_ask(world, VDC_REQUEST_DESTROY, "job", "", "");
    zw_run(world, 1000);
    zw_node(world, name)->relink_at = world->now;
    zw_run(world, 8000);
    cr_assert_eq(zw_node(world, name)->guests_len, 0, "%s", world->trace.data);
    for (size_t i = 0; i < world->nodes_len; i++) {
        world->nodes[i].refuse_volumes = 0;
    }
    zw_run(world, 10000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_DONE, "%s", world->trace.data);
    cr_assert_eq(world->volumes_len, 1);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_new_leader_finishes_a_migration_that_is_on_its_way)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    const char *source = zw_owner(world, "web");
    const char *target = strcmp(source, "n2") == 0 ? "n3" : "n2";
    zw_node(world, source)->stream_ns = 3 * VDC_SECOND;
    uint64_t token = zw_ask(world, VDC_REQUEST_MIGRATE, "web", target, "");
    zw_run(world, 1000);
    zw_new_leader(world, true);
    zw_run(world, 5000);
    const struct vdc_operation_record *op = zw_operation(world, token);
    cr_assert_eq(op->state, VDC_OPSTATE_DONE, "%s", world->trace.data);
    cr_assert_str_eq(zw_owner(world, "web"), target);
    cr_assert_gt(op->downtime_ns, 0);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_migration_that_takes_too_long_is_given_up)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    char source[VDC_NAME_CAP];
    snprintf(source, sizeof source, "%s", zw_owner(world, "web"));
    zw_node(world, source)->stream_ns = 3600 * VDC_SECOND;
    uint64_t token = zw_ask(world, VDC_REQUEST_MIGRATE, "web", "", "");
    zw_run(world, 590000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_RUNNING);
    zw_run(world, 20000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_FAILED);
    cr_assert_str_eq(zw_owner(world, "web"), source);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_migration_against_a_rule_is_refused_with_its_verdict)
{
    struct zone_world *world = quickstart_world();
    const char *target = strcmp(zw_owner(world, "db-1"), "n1") == 0 ? "n2" : "n1";
    uint64_t token = zw_ask(world, VDC_REQUEST_MIGRATE, "db-1", target, "");
    zw_run(world, 100);
    cr_assert_eq(zw_answer(world, token)->rc, VDC_RC_REFUSED, "%s", world->trace.data);
    cr_assert_not_null(zw_operation(world, token)->verdict);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_dead_node_is_fenced_and_its_partitions_restart_where_policy_says)
{
    struct zone_world *world = quickstart_world();
    const char *dead = db_node_of_r3(world);
    if (strcmp(zw_owner(world, "web"), dead) != 0) {
        zw_ask(world, VDC_REQUEST_MIGRATE, "web", dead, "");
        zw_run(world, 3000);
    }
    cr_assert_str_eq(zw_owner(world, "web"), dead);
    char name[VDC_NAME_CAP];
    snprintf(name, sizeof name, "%s", dead);
    zw_kill(world, name);
    zw_run(world, 3000);
    cr_assert_str_eq(zw_owner(world, "web"), name); /* its lease may still run */
    zw_run(world, 4000);
    ASSERT_SETTLED(world);
    cr_assert(zw_saw(world, "lease over -> fenced"));
    cr_assert_str_neq(zw_owner(world, "web"), name);
    cr_assert_str_eq(db_node_of_r3(world), strcmp(name, "n3") == 0 ? "n4" : "n3");
    zw_revive(world, name, false);
    zw_run(world, 3000);
    ASSERT_SETTLED(world);
    cr_assert_eq(zw_node(world, name)->incarnation, 2);
    zw_destroy(world);
}

Test(zone_core, gold_restarts_before_silver)
{
    struct zone_world *world = ready_world();
    create(world, "a-silver", "silver", "x");
    create(world, "b-gold", "gold", "x");
    const char *node = zw_owner(world, "a-silver");
    if (strcmp(zw_owner(world, "b-gold"), node) != 0) {
        zw_ask(world, VDC_REQUEST_MIGRATE, "b-gold", node, "");
        zw_run(world, 2000);
    }
    zw_kill(world, zw_owner(world, "a-silver"));
    zw_run(world, 8000);
    const char *gold = strstr(world->trace.data, "b-gold: its node is fenced");
    const char *silver = strstr(world->trace.data, "a-silver: its node is fenced");
    cr_assert(gold != NULL && silver != NULL && gold < silver, "%s", world->trace.data);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_class_without_failover_stays_with_its_lost_node)
{
    struct zone_world *world = ready_world();
    create(world, "job", "batch", "x");
    char name[VDC_NAME_CAP];
    snprintf(name, sizeof name, "%s", zw_owner(world, "job"));
    zw_kill(world, name);
    zw_run(world, 10000);
    cr_assert_str_eq(zw_owner(world, "job"), name);
    cr_assert_eq(zw_running(world, "job", NULL), 0);
    zw_revive(world, name, false);
    zw_run(world, 8000);
    ASSERT_SETTLED(world); /* it runs again, wherever */
    zw_destroy(world);
}

Test(zone_core, the_storm_brake_holds_while_too_much_is_gone_and_heals_by_itself)
{
    struct zone_world *world = quickstart_world();
    zw_cut(world, "n3", -1);
    zw_cut(world, "n4", -1);
    zw_run(world, 20000);
    cr_assert(zw_saw(world, "brake at 30.0%"), "%s", world->trace.data);
    cr_assert_not(zw_saw(world, "fenced"));
    zw_node(world, "n3")->relink_at = world->now;
    zw_node(world, "n4")->relink_at = world->now;
    zw_run(world, 5000);
    ASSERT_SETTLED(world);
    cr_assert_eq(zw_node(world, "n3")->incarnation, 1);
    zw_destroy(world);
}

Test(zone_core, one_of_two_gone_nodes_that_returns_lets_the_other_fail_over)
{
    struct zone_world *world = quickstart_world();
    zw_kill(world, "n3");
    zw_kill(world, "n4");
    zw_run(world, 10000);
    cr_assert_not(zw_saw(world, "fenced"));
    zw_revive(world, "n4", false);
    zw_run(world, 8000);
    cr_assert(zw_saw(world, "n3: silent"));
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_new_leader_waits_a_lease_time_before_it_fences)
{
    struct zone_world *world = quickstart_world();
    char name[VDC_NAME_CAP];
    snprintf(name, sizeof name, "%s", zw_owner(world, "web"));
    zw_run(world, 100);
    zw_new_leader(world, true);
    zw_kill(world, name);
    zw_run(world, 3990);
    cr_assert_not(zw_saw(world, "fenced"));
    zw_run(world, 6000);
    cr_assert(zw_saw(world, "fenced"));
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_node_that_joined_after_it_met_the_new_leader_is_not_fenced)
{
    struct zone_world *world = quickstart_world();
    for (size_t i = 0; i < world->nodes_len; i++) {
        world->nodes[i].old_hello = true;
    }
    zw_run(world, 100);
    zw_new_leader(world, true);
    zw_run(world, 10000);
    cr_assert_not(zw_saw(world, "fenced"), "%s", world->trace.data);
    cr_assert_eq(zw_node(world, "n1")->incarnation, 1);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_paused_leader_that_wakes_grants_nothing_and_fences_nobody)
{
    struct zone_world *world = quickstart_world();
    world->leader_paused = true;
    zw_run(world, 20000);
    uint32_t grants = zw_node(world, "n1")->grants;
    world->store_down = true; /* it wakes and does not yet know whether it leads */
    world->leader_paused = false;
    zw_run(world, 3000);
    cr_assert_eq(zw_node(world, "n1")->grants, grants);
    cr_assert_not(zw_saw(world, "fenced"), "%s", world->trace.data);
    world->store_down = false;
    zw_run(world, 5000);
    cr_assert_gt(zw_node(world, "n1")->grants, grants);
    cr_assert_not(zw_saw(world, "fenced"), "%s", world->trace.data);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_write_of_an_old_leader_stops_it)
{
    struct zone_world *world = ready_world();
    uint64_t token = zw_create_partition(world, "web", "silver", "web", "");
    world->epoch = ++world->revision; /* somebody else leads now */
    zw_run(world, 2000);
    cr_assert_null(zw_answer(world, token));
    cr_assert(zw_saw(world, "no more steps"));
    cr_assert(vdc_mono_is_never(vdc_zone_deadline(world->zone)));
    zw_destroy(world);
}

Test(zone_core, an_agent_that_reconnects_keeps_its_guests)
{
    struct zone_world *world = quickstart_world();
    uint32_t snapshots = zw_node(world, "n1")->snapshots;
    for (int i = 0; i < 5; i++) {
        zw_cut(world, "n1", 500);
        zw_run(world, 1500);
    }
    ASSERT_SETTLED(world);
    cr_assert_eq(zw_node(world, "n1")->snapshots, snapshots); /* it goes on where the replica was */
    cr_assert_eq(zw_node(world, "n1")->incarnation, 1);
    zw_destroy(world);
}

Test(zone_core, a_replica_that_differs_is_reported_and_read_anew)
{
    struct zone_world *world = quickstart_world();
    uint32_t snapshots = zw_node(world, "n2")->snapshots;
    zw_node(world, "n2")->lie_digest = true;
    zw_run(world, 1500);
    zw_node(world, "n2")->lie_digest = false;
    zw_run(world, 2500);
    cr_assert(zw_saw(world, "differs at sequence"));
    cr_assert_gt(zw_node(world, "n2")->snapshots, snapshots);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_node_that_lost_its_journal_is_fenced_first_and_joins_anew)
{
    struct zone_world *world = quickstart_world();
    char name[VDC_NAME_CAP];
    snprintf(name, sizeof name, "%s", zw_owner(world, "web"));
    zw_kill(world, name);
    zw_revive(world, name, true);
    zw_run(world, 2000);
    cr_assert_not(zw_saw(world, "fenced"));
    cr_assert_eq(zw_node(world, name)->incarnation, 0);
    zw_run(world, 8000);
    cr_assert_eq(zw_node(world, name)->incarnation, 2);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_failover_without_room_waits_and_goes_on_when_there_is_some)
{
    struct zone_world *world = quickstart_world();
    const char *dead = zw_owner(world, "db-1");
    char name[VDC_NAME_CAP];
    snprintf(name, sizeof name, "%s", dead);
    if (strcmp(zw_node(world, name)->rack, "r3") == 0) {
        dead = zw_owner(world, "db-2");
        snprintf(name, sizeof name, "%s", dead);
    }
    const char *partition = strcmp(name, zw_owner(world, "db-1")) == 0 ? "db-1" : "db-2";
    zw_kill(world, name); /* its rack has no other node, so apart forbids every one */
    zw_run(world, 9000);
    cr_assert_eq(zw_running(world, partition, NULL), 0);
    struct vdc_zone_partition_info info;
    cr_assert(vdc_zone_partition_find(world->zone, partition, &info));
    const struct vdc_operation_record *op =
        vdc_zone_operation_find(world->zone, &info.record->operation);
    cr_assert(op != NULL && op->kind == VDC_OPERATION_FAILOVER && op->state == VDC_OPSTATE_QUEUED &&
              op->verdict != NULL);
    zw_new_leader(world, true);
    zw_run(world, 2000);
    zw_revive(world, name, false);
    zw_run(world, 5000);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

Test(zone_core, a_destroy_ends_a_failover_that_waits_for_room)
{
    struct zone_world *world = quickstart_world();
    const char *partition =
        strcmp(zw_node(world, zw_owner(world, "db-1"))->rack, "r3") == 0 ? "db-2" : "db-1";
    zw_kill(world, zw_owner(world, partition));
    zw_run(world, 9000);
    uint64_t token = zw_ask(world, VDC_REQUEST_DESTROY, partition, "", "");
    zw_run(world, 1000);
    cr_assert_not_null(zw_operation(world, token), "%s", world->trace.data);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_DONE);
    cr_assert_str_eq(zw_owner(world, partition), "");
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

static char *policy_with(const char *from, const char *to)
{
    const char *at = strstr(zw_policy_text, from);
    cr_assert_not_null(at);
    size_t head = (size_t)(at - zw_policy_text);
    char *text = malloc(strlen(zw_policy_text) + strlen(to) + 1);
    memcpy(text, zw_policy_text, head);
    strcpy(text + head, to);
    strcat(text, at + strlen(from));
    return text;
}

Test(zone_core, a_new_policy_is_one_version_more_and_reaches_the_nodes)
{
    struct zone_world *world = quickstart_world();
    char *text = policy_with("lease: 4s", "lease: 8s");
    uint64_t token = zw_apply(world, text, "p2");
    zw_run(world, 3000);
    cr_assert_eq(zw_operation(world, token)->state, VDC_OPSTATE_DONE);
    cr_assert_eq(vdc_zone_policy_record(world->zone)->version, 2);
    cr_assert_eq(zw_node(world, "n1")->lease_ns, 8 * VDC_SECOND);
    ASSERT_SETTLED(world);
    free(text);
    zw_destroy(world);
}

Test(zone_core, a_shorter_lease_does_not_let_a_new_leader_fence_too_early)
{
    struct zone_world *world = quickstart_world();
    char *text = policy_with("lease: 4s", "lease: 60s");
    zw_apply(world, text, "");
    free(text);
    zw_run(world, 20000);
    char name[VDC_NAME_CAP];
    snprintf(name, sizeof name, "%s", zw_owner(world, "web"));
    zw_cut(world, name, -1); /* it runs on under its long lease */
    zw_run(world, 10);
    zw_apply(world, zw_policy_text, "");
    zw_run(world, 100);
    zw_new_leader(world, true);
    zw_node(world, name)->relink_at = VDC_NEVER;
    zw_run(world, 50000);
    cr_assert_not(zw_saw(world, "fenced"));
    zw_run(world, 25000);
    cr_assert(zw_saw(world, "fenced"));
    cr_assert_eq(zw_running(world, "web", NULL), 1);
    zw_destroy(world);
}

Test(zone_core, creates_on_their_way_to_one_node_are_given_different_cpus)
{
    struct zone_world *world = ready_world();
    vdc_autofree char *dedicated = policy_with("50, cpu: shared", "50, cpu: dedicated");
    const char *racks = strstr(dedicated, "[\"r1\", \"r2\", \"r3\"]");
    cr_assert_not_null(racks);
    vdc_autofree char *text =
        vdc_asprintf("%.*s[\"r1\"]%s", (int)(racks - dedicated), dedicated, strchr(racks, ']') + 1);
    zw_apply(world, text, "");
    zw_run(world, 2000);
    uint64_t first = zw_create_partition(world, "a", "silver", "x", "k1");
    uint64_t second = zw_create_partition(world, "b", "silver", "x", "k2");
    zw_run(world, 3000);
    cr_assert_eq(zw_operation(world, first)->state, VDC_OPSTATE_DONE, "%s", world->trace.data);
    cr_assert_eq(zw_operation(world, second)->state, VDC_OPSTATE_DONE, "%s", world->trace.data);
    cr_assert_not(zw_saw(world, "refused"), "%s", world->trace.data);
    zw_destroy(world);
}

Test(zone_core, a_policy_change_that_excludes_a_node_places_nothing_new_there)
{
    struct zone_world *world = ready_world();
    char *text = policy_with("[\"r1\", \"r2\", \"r3\"]", "[\"r1\"]");
    zw_apply(world, text, "");
    free(text);
    zw_run(world, 2000);
    create(world, "web", "silver", "web");
    create(world, "web-2", "silver", "web");
    cr_assert_str_eq(zw_owner(world, "web"), "n1");
    cr_assert_str_eq(zw_owner(world, "web-2"), "n1");
    zw_destroy(world);
}

Test(zone_core, a_policy_that_drops_a_class_in_use_is_refused)
{
    struct zone_world *world = quickstart_world();
    char *text = policy_with("  silver: {priority: 50, cpu: shared, failover: restart}\n", "");
    uint64_t token = zw_apply(world, text, "");
    free(text);
    zw_run(world, 100);
    cr_assert_eq(zw_answer(world, token)->rc, VDC_RC_REFUSED, "%s", world->trace.data);
    cr_assert_eq(vdc_zone_policy_record(world->zone)->version, 1);
    zw_destroy(world);
}

Test(zone_core, the_console_is_read_from_the_owner_or_is_unavailable)
{
    struct zone_world *world = ready_world();
    create(world, "web", "silver", "web");
    uint64_t token = zw_ask(world, VDC_REQUEST_CONSOLE, "web", "", "");
    zw_run(world, 10);
    cr_assert_str_eq(zw_answer(world, token)->data, "COUNT 7\n");
    token = zw_ask(world, VDC_REQUEST_CONSOLE, "web", "", "");
    zw_cut(world, zw_owner(world, "web"), 1000);
    zw_run(world, 10);
    cr_assert_eq(zw_answer(world, token)->rc, VDC_RC_UNAVAILABLE);
    token = zw_ask(world, VDC_REQUEST_CONSOLE, "web", "", "");
    cr_assert_eq(zw_answer(world, token)->rc, VDC_RC_UNAVAILABLE);
    zw_run(world, 2000);
    zw_destroy(world);
}

Test(zone_core, a_store_outage_holds_answers_back_and_loses_nothing)
{
    struct zone_world *world = ready_world();
    world->store_down = true;
    uint64_t token = zw_create_partition(world, "web", "silver", "web", "");
    zw_run(world, 10000);
    cr_assert_null(zw_answer(world, token));
    cr_assert_eq(zw_running(world, "web", NULL), 0);
    world->store_down = false;
    zw_run(world, 5000);
    cr_assert_eq(zw_answer(world, token)->rc, VDC_RC_OK);
    ASSERT_SETTLED(world);
    zw_destroy(world);
}

/* The first event of a leader that finds a start at a step which it does not know. */
static struct vdc_zone_update *load_unknown_step(struct vdc_zone *zone)
{
    struct vdc_diags diags = {.source = "policy"};
    struct vdc_zone_event event = {.now = {1000 * VDC_SECOND}};
    struct vdc_zone_record record = {.name = "prod", .policy_version = 1};
    event.kind = VDC_ZONE_LOAD_ZONE;
    event.zone = &record;
    vdc_zone_step(zone, &event);
    char text[] = "";
    struct vdc_policy_record policy = {.zone = "prod", .version = 1, .text = text};
    event.kind = VDC_ZONE_LOAD_POLICY;
    event.policy.record = &policy;
    cr_assert_eq(
        vdc_policy_parse(zw_policy_text, strlen(zw_policy_text), &event.policy.built, &diags),
        VDC_RC_OK);
    vdc_zone_step(zone, &event);
    static const char *const nodes[] = {"n1", "n2"};
    for (size_t i = 0; i < VDC_COUNT_OF(nodes); i++) {
        struct vdc_node_record node = {.zone = "prod",
                                       .rack = "r1",
                                       .cpus = 2,
                                       .incarnation = 1,
                                       .memory_bytes = UINT64_C(4) << 30,
                                       .state = VDC_NODE_READY};
        vdc_str_set(node.name, sizeof node.name, nodes[i]);
        event.kind = VDC_ZONE_LOAD_NODE;
        event.node = &node;
        vdc_zone_step(zone, &event);
    }
    struct vdc_prng prng;
    vdc_prng_init(&prng, 7);
    struct vdc_partition_record partition = {
        .spec = {.name = "web",
                 .zone = "prod",
                 .class = "silver",
                 .image = "linux",
                 .vcpus = 1,
                 .memory_bytes = UINT64_C(128) << 20},
        .id = vdc_id_make(&prng),
        .owner = "n1",
        .generation = 1,
        .generation_last = 1,
        .restartable = true,
    };
    struct vdc_operation_record op = {.id = vdc_id_make(&prng),
                                      .kind = VDC_OPERATION_START,
                                      .state = VDC_OPSTATE_RUNNING,
                                      .step = "warm-up",
                                      .partition = partition.id,
                                      .target = "n1",
                                      .generation_from = 1,
                                      .generation_to = 1};
    partition.operation = op.id;
    event.kind = VDC_ZONE_LOAD_PARTITION;
    event.partition = &partition;
    vdc_zone_step(zone, &event);
    event.kind = VDC_ZONE_LOAD_OPERATION;
    event.operation = &op;
    vdc_zone_step(zone, &event);
    event.kind = VDC_ZONE_LOADED;
    return vdc_zone_step(zone, &event);
}

Test(zone_core, an_operation_at_an_unknown_step_gives_no_other_node_what_may_still_run)
{
    const struct vdc_zone_config config = {
        .zone = "prod", .manager = "m1", .epoch = 3, .seed = 1, .now = {1000 * VDC_SECOND}};
    struct vdc_zone *zone = vdc_zone_create(&config);
    struct vdc_zone_update *update = load_unknown_step(zone);
    cr_assert_eq(update->writes_len, 0);
    /* At the step `place` n2 would get it, if that is back before n1. */
    cr_assert(strstr(vdc_buf_text(&update->trace.text),
                     "warm-up is not known -> goes on at commit") != NULL);
    struct vdc_zone_partition_info info;
    cr_assert(vdc_zone_partition_find(zone, "web", &info));
    cr_assert_str_eq(info.record->owner, "n1");
    cr_assert_eq(info.record->generation, 1);
    vdc_zone_destroy(zone);
}

Test(zone_core, only_the_newest_finished_operations_are_kept)
{
    struct zone_world *world = quickstart_world();
    for (int i = 0; i < 240; i++) {
        world->answers_len = 0;
        for (int j = 0; j < 5; j++) {
            char key[32];
            snprintf(key, sizeof key, "k-%d-%d", i, j);
            zw_create_partition(world, "db-4", "gold", "db", key);
        }
        zw_run(world, 20);
    }
    size_t count = 0;
    const struct vdc_operation_record *op = NULL;
    while ((op = vdc_zone_operation_next(world->zone, op == NULL ? NULL : &op->id)) != NULL) {
        count++;
    }
    cr_assert_eq(count, 1000);
    size_t stored = 0;
    zw_new_leader(world, true);
    op = NULL;
    while ((op = vdc_zone_operation_next(world->zone, op == NULL ? NULL : &op->id)) != NULL) {
        stored++;
    }
    cr_assert_eq(stored, 1000);
    zw_destroy(world);
}
