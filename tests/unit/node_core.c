/* SPDX-License-Identifier: Apache-2.0 */
/* The node agent's core: what it does in answer to leaders, monitors, the disk and time. */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "node_support.h"

static struct bench b;

static void setup(void)
{
    bench_init(&b);
}

static void teardown(void)
{
    bench_deinit(&b);
}

TestSuite(node_core, .init = setup, .fini = teardown);

/* --- joining --- */

Test(node_core, the_inventory_is_recorded_once)
{
    cr_assert_eq(vdc_allocdb_count_cpus(vdc_agent_allocdb(b.agent)), 2);
    cr_assert_eq(b.journalled, 1);
    bench_restart(&b, 1);
    bench_recovered(&b);
    cr_assert_eq(b.journalled, 1);
}

Test(node_core, joining_is_told_only_when_it_is_durable_and_asks_for_a_lease_last)
{
    bench_session_up(&b, 0, "m1");
    has(&b, "send 0 hello");
    bench_lead(&b, 0, 7, 1, false);
    has(&b, "journal 3");
    lacks(&b, "send 0 zone_joined");
    bench_durable(&b);
    has(&b, "send 0 zone_joined epoch 7 incarnation 1");
    in_order(&b, "send 0 zone_joined", "send 0 snapshot 3");
    in_order(&b, "send 0 snapshot 3", "send 0 guests_end");
    in_order(&b, "send 0 guests_end", "send 0 lease_ask");
}

Test(node_core, the_managers_that_do_not_lead_hear_what_it_has_joined)
{
    bench_session_up(&b, 0, "m1");
    bench_session_up(&b, 1, "m2");
    bench_lead(&b, 0, 7, 1, false);
    lacks(&b, "send 1 hello prod");
    bench_durable(&b);
    has(&b, "send 1 hello prod/7/1");
    lacks(&b, "send 0 hello");
}

Test(node_core, a_leader_with_an_older_epoch_is_told_so)
{
    bench_join(&b);
    bench_session_up(&b, 1, "m2");
    bench_lead(&b, 1, 9, 1, false);
    bench_durable(&b);
    has(&b, "send 1 zone_joined epoch 9");
    bench_lead(&b, 0, 1, 1, false);
    has(&b, "send 0 bye a leader with a higher epoch was seen");
    /* And its transactions are refused. */
    bench_create(&b, 1, 1, VDC_RUN_RUNNING, true);
    has(&b, "send 0 tx_result r102 STALE seq 0 rule epoch");
    lacks(&b, "journal");
}

Test(node_core, the_epoch_survives_a_restart)
{
    bench_join(&b);
    bench_session_up(&b, 1, "m2");
    bench_lead(&b, 1, 9, 1, false);
    bench_durable(&b);
    bench_restart(&b, b.journalled);
    bench_recovered(&b);
    bench_session_up(&b, 0, "m1");
    has(&b, "send 0 hello prod/9/1");
    bench_lead(&b, 0, 8, 1, false);
    has(&b, "send 0 bye");
}

Test(node_core, a_session_that_does_not_lead_changes_nothing)
{
    bench_join(&b);
    bench_session_up(&b, 1, "m2");
    struct vdc_op op = {.kind = VDC_OP_ZONE_EPOCH};
    bench_tx(&b, 1, 1, 0, &op, 1);
    has(&b, "STALE");
    lacks(&b, "journal");
}

Test(node_core, a_lease_time_out_of_bounds_is_refused)
{
    bench_session_up(&b, 0, "m1");
    struct vdc_msg msg = {.kind = VDC_MSG_ZONE_LEAD};
    vdc_str_set(msg.zone_lead.zone, sizeof msg.zone_lead.zone, "prod");
    msg.zone_lead.epoch = 1;
    msg.zone_lead.incarnation = 1;
    msg.zone_lead.lease_ns = 1;
    bench_msg(&b, 0, &msg);
    has(&b, "send 0 bye a lease or grace time out of bounds");
}

Test(node_core, more_zones_than_the_limit_are_refused)
{
    bench_session_up(&b, 0, "m1");
    for (int i = 0; i <= VDC_MSG_ZONES_MAX; i++) {
        struct vdc_msg msg = {.kind = VDC_MSG_ZONE_LEAD};
        snprintf(msg.zone_lead.zone, sizeof msg.zone_lead.zone, "z%d", i);
        msg.zone_lead.epoch = 1;
        msg.zone_lead.incarnation = 1;
        msg.zone_lead.lease_ns = LEASE_NS;
        bench_msg(&b, 0, &msg);
    }
    has(&b, "send 0 bye too many zones");
}

Test(node_core, a_full_disk_delays_joining)
{
    bench_session_up(&b, 0, "m1");
    b.journal = VDC_RC_NO_SPACE;
    bench_lead(&b, 0, 1, 1, false);
    lacks(&b, "journal");
    cr_assert(!vdc_mono_is_never(vdc_agent_deadline(b.agent)));
    b.journal = VDC_RC_OK;
    bench_tick(&b, VDC_SECOND);
    has(&b, "journal");
}

/* --- transactions --- */

Test(node_core, nothing_is_answered_streamed_or_started_before_its_record_is_durable)
{
    bench_join(&b);
    bench_create(&b, 1, 1, VDC_RUN_RUNNING, true);
    has(&b, "journal");
    lacks(&b, "send 0 tx_result");
    lacks(&b, "send 0 records");
    lacks(&b, "start");
    lacks(&b, "publish");
    bench_durable(&b);
    in_order(&b, "send 0 records", "send 0 tx_result r102 OK");
    in_order(&b, "publish p1.1", "start p1.1");
    has(&b, "send 0 guest p1.1 starting");
}

Test(node_core, a_repeated_request_is_answered_again_and_done_once)
{
    bench_join(&b);
    uint64_t request = bench_create(&b, 1, 1, VDC_RUN_RUNNING, true);
    struct vdc_op op = {
        .kind = VDC_OP_PARTITION_SET_RUN,
        .partition_set_run = {id_of(1), 1, VDC_RUN_PAUSED},
    };
    bench_tx(&b, 0, 1, request, &op, 1);
    lacks(&b, "tx_result"); /* its record is not durable: neither is the repeated answer */
    bench_durable(&b);
    const char *first = strstr(vdc_buf_text(&b.log), "tx_result r102 OK");
    cr_assert_not_null(first);
    cr_assert_not_null(strstr(first + 1, "tx_result r102 OK"));
    struct vdc_id id = id_of(1);
    cr_assert_eq(vdc_allocdb_find_partition(vdc_agent_allocdb(b.agent), &id)->run, VDC_RUN_RUNNING);
    bench_tx(&b, 0, 1, request, &op, 1);
    has(&b, "tx_result r102 OK");
    lacks(&b, "journal");
}

Test(node_core, a_request_that_was_lost_with_the_agent_has_no_effect)
{
    bench_join(&b);
    uint64_t before = b.journalled;
    bench_create(&b, 1, 1, VDC_RUN_RUNNING, true);
    bench_restart(&b, before);
    bench_recovered(&b);
    struct vdc_agent_guest_info guest;
    cr_assert(!vdc_agent_guest_at(b.agent, 0, &guest));
}

Test(node_core, a_refusal_carries_its_rule_and_numbers)
{
    bench_join(&b);
    struct vdc_op op = {
        .kind = VDC_OP_PARTITION_SET_RUN,
        .partition_set_run = {id_of(9), 1, VDC_RUN_PAUSED},
    };
    bench_tx(&b, 0, 1, 0, &op, 1);
    bench_durable(&b);
    has(&b, "NOT_FOUND");
    has(&b, "rule unknown-partition");
}

Test(node_core, a_launch_description_that_could_never_start_is_refused)
{
    bench_join(&b);
    struct vdc_op op = {
        .kind = VDC_OP_PARTITION_CREATE,
        .partition_create =
            {
                .id = id_of(1),
                .name = "web",
                .kind = VDC_PARTITION_GUEST,
                .generation = 1,
                .run = VDC_RUN_RUNNING,
                .vcpus = 1,
                .memory_bytes = 64 * MIB,
                .config = (const uint8_t *)"{\"imge\":\"linux\"}",
                .config_len = 16,
            },
    };
    bench_tx(&b, 0, 1, 0, &op, 1);
    has(&b, "INVALID");
    has(&b, "unknown field imge");
    lacks(&b, "journal");
}

Test(node_core, a_guest_with_a_disk_runs_only_while_its_volume_is_attached)
{
    bench_join(&b);
    char id[VDC_ID_TEXT_CAP];
    char config[128];
    struct vdc_id web = id_of(1);
    vdc_id_to_text(&web, id);
    int len = snprintf(config, sizeof config,
                       "{\"image\":\"linux\",\"disk_bytes\":512,\"volume\":\"%s\"}", id);
    struct vdc_op ops[] = {
        {.kind = VDC_OP_PARTITION_CREATE,
         .partition_create = {.id = web,
                              .name = "web",
                              .kind = VDC_PARTITION_GUEST,
                              .generation = 1,
                              .run = VDC_RUN_RUNNING,
                              .vcpus = 1,
                              .memory_bytes = 64 * MIB,
                              .config = (const uint8_t *)config,
                              .config_len = (uint32_t)len}},
        {.kind = VDC_OP_VOLUME_ATTACH,
         .volume_attach = {.id = web, .generation = 1, .volume = web, .mode = VDC_VOLUME_READ}},
    };
    bench_tx(&b, 0, 1, 0, ops, 1);
    has(&b, "CONFLICT");
    has(&b, "is not attached to it");
    bench_tx(&b, 0, 1, 0, ops, 2); /* what it only reads it may not write */
    has(&b, "is not attached to it");
    /* Waiting for a migration stream it writes nothing; running it would. */
    ops[0].partition_create.run = VDC_RUN_INCOMING;
    bench_tx(&b, 0, 1, 0, ops, 1);
    has(&b, "journal");
    struct vdc_op run[] = {
        {.kind = VDC_OP_PARTITION_SET_RUN,
         .partition_set_run = {.id = web, .generation = 1, .run = VDC_RUN_RUNNING}},
        ops[1],
    };
    bench_tx(&b, 0, 1, 0, run, 1);
    has(&b, "is not attached to it");
    run[1].volume_attach.mode = VDC_VOLUME_WRITE;
    bench_tx(&b, 0, 1, 0, run, 2);
    lacks(&b, "is not attached to it");
    bench_set_run(&b, 1, 1, VDC_RUN_STOPPED);
    bench_set_run(&b, 1, 1, VDC_RUN_RUNNING);
    lacks(&b, "is not attached to it");
}

Test(node_core, a_channel_that_begins_or_ends_is_published_to_the_guest_at_either_end)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    struct vdc_op io = {.kind = VDC_OP_PARTITION_CREATE,
                        .partition_create = {.id = id_of(9),
                                             .name = "io-a",
                                             .kind = VDC_PARTITION_IO,
                                             .generation = 1,
                                             .run = VDC_RUN_RUNNING,
                                             .vcpus = 1}};
    bench_tx(&b, 0, 1, 0, &io, 1);
    bench_durable(&b);
    lacks(&b, "publish");
    for (int guest_first = 0; guest_first < 2; guest_first++) {
        struct vdc_op connect = {.kind = VDC_OP_CHANNEL_CONNECT,
                                 .channel_connect = {.channel = id_of(20),
                                                     .endpoint = {id_of(guest_first ? 1 : 9),
                                                                  id_of(guest_first ? 9 : 1)},
                                                     .version = 1,
                                                     .bytes = 4096,
                                                     .numa = VDC_NUMA_ANY}};
        bench_tx(&b, 0, 1, 0, &connect, 1);
        lacks(&b, "publish"); /* not before it is durable */
        bench_durable(&b);
        has(&b, "publish p1.1");
        has(&b, "ask p1.1 refresh");
        struct vdc_op disconnect = {.kind = VDC_OP_CHANNEL_DISCONNECT,
                                    .channel_disconnect = {id_of(20)}};
        bench_tx(&b, 0, 1, 0, &disconnect, 1);
        bench_durable(&b);
        has(&b, "publish p1.1");
        bench_tx(&b, 0, 1, 0, &connect, 1);
        bench_durable(&b);
        bench_tx(&b, 0, 1, 0, &disconnect, 1);
        bench_durable(&b);
    }
    struct vdc_op connect = {.kind = VDC_OP_CHANNEL_CONNECT,
                             .channel_connect = {.channel = id_of(21),
                                                 .endpoint = {id_of(1), id_of(9)},
                                                 .version = 1,
                                                 .bytes = 4096,
                                                 .numa = VDC_NUMA_ANY}};
    bench_tx(&b, 0, 1, 0, &connect, 1);
    bench_durable(&b);
    bench_destroy(&b, 9, 1); /* the channel ends with it */
    bench_durable(&b);
    has(&b, "publish p1.1");
}

Test(node_core, a_damaged_transaction_is_answered_by_bye)
{
    bench_join(&b);
    struct vdc_msg msg = {.kind = VDC_MSG_TX};
    msg.tx.tx.data = "garbage";
    msg.tx.tx.len = 7;
    bench_msg(&b, 0, &msg);
    has(&b, "send 0 bye transaction:");
}

Test(node_core, a_full_disk_refuses_transactions_and_harms_nothing)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    b.journal = VDC_RC_NO_SPACE;
    bench_create(&b, 2, 1, VDC_RUN_RUNNING, true);
    has(&b, "NO_SPACE");
    lacks(&b, "journal 5");
    lacks(&b, "kill");
}

Test(node_core, a_follower_a_little_behind_gets_records_and_one_far_behind_a_snapshot)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_session_up(&b, 1, "m2");
    struct vdc_msg msg = {.kind = VDC_MSG_ZONE_LEAD};
    vdc_str_set(msg.zone_lead.zone, sizeof msg.zone_lead.zone, "prod");
    msg.zone_lead.epoch = 5;
    msg.zone_lead.incarnation = 1;
    msg.zone_lead.lease_ns = LEASE_NS;
    msg.zone_lead.follow_from = b.journalled - 1;
    bench_msg(&b, 1, &msg);
    bench_durable(&b);
    has(&b, "send 1 records");
    lacks(&b, "send 1 snapshot");
    bench_restart(&b, b.journalled);
    bench_recovered(&b);
    bench_session_up(&b, 1, "m2");
    msg.zone_lead.follow_from = 1;
    bench_msg(&b, 1, &msg);
    has(&b, "send 1 snapshot");
    /* One that is ahead of us follows another history. */
    msg.zone_lead.follow_from = 1000;
    bench_msg(&b, 1, &msg);
    has(&b, "send 1 snapshot");
}

/* --- destroying --- */

Test(node_core, a_destroy_kills_first_and_is_answered_when_the_processes_are_gone)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    uint64_t before = b.journalled;
    bench_destroy(&b, 1, 1);
    has(&b, "ask p1.1 kill");
    cr_assert_eq(b.journalled, before);
    bench_gone(&b, 1, 1, "killed");
    cr_assert_eq(b.journalled, before + 1);
    lacks(&b, "tx_result");
    lacks(&b, "start");
    bench_durable(&b);
    has(&b, "tx_result r103 OK");
    has(&b, "forget p1.1");
    lacks(&b, "remove p1.1");
    bench_tick(&b, VDC_AGENT_GRAVE_NS);
    has(&b, "remove p1.1");
}

Test(node_core, a_monitor_that_does_not_answer_the_kill_is_killed_itself)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_destroy(&b, 1, 1);
    lacks(&b, "\nkill p1.1");
    bench_tick(&b, VDC_AGENT_KILL_AFTER_NS);
    has(&b, "kill p1.1");
}

Test(node_core, a_destroy_of_another_generation_kills_nothing)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 2);
    bench_destroy(&b, 1, 1);
    lacks(&b, "ask p1.2 kill");
    bench_durable(&b);
    has(&b, "STALE");
    has(&b, "rule generation");
}

Test(node_core, a_destroy_repeated_while_it_waits_is_answered_once)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    uint64_t request = bench_destroy(&b, 1, 1);
    struct vdc_op op = {
        .kind = VDC_OP_PARTITION_DESTROY,
        .partition_destroy = {id_of(1), 1},
    };
    bench_tx(&b, 0, 1, request, &op, 1);
    lacks(&b, "tx_result");
    bench_gone(&b, 1, 1, "killed");
    bench_durable(&b);
    const char *first = strstr(vdc_buf_text(&b.log), "tx_result");
    cr_assert_not_null(first);
    cr_assert_null(strstr(first + 1, "tx_result"));
}

Test(node_core, a_guest_is_started_again_when_the_destroy_that_killed_it_is_refused)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    struct vdc_op ops[2] = {
        {.kind = VDC_OP_PARTITION_DESTROY, .partition_destroy = {id_of(1), 1}},
        {.kind = VDC_OP_PARTITION_SET_RUN, .partition_set_run = {id_of(9), 1, VDC_RUN_PAUSED}},
    };
    bench_tx(&b, 0, 1, 0, ops, 2);
    has(&b, "ask p1.1 kill");
    bench_gone(&b, 1, 1, "killed");
    has(&b, "start p1.1");
    bench_durable(&b);
    has(&b, "NOT_FOUND");
}

/* --- fencing --- */

Test(node_core, a_fenced_node_destroys_all_it_ran_before_it_joins_again)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_run_guest(&b, 2, 1);
    uint64_t before = b.journalled;
    bench_lead(&b, 0, 1, 2, true);
    has(&b, "ask p1.1 kill");
    has(&b, "ask p2.1 kill");
    has(&b, "lease p1.1 0");
    cr_assert_eq(b.journalled, before);
    bench_gone(&b, 1, 1, "killed");
    cr_assert_eq(b.journalled, before);
    bench_gone(&b, 2, 1, "killed");
    cr_assert_gt(b.journalled, before);
    lacks(&b, "zone_joined");
    bench_durable(&b);
    has(&b, "send 0 zone_joined epoch 1 incarnation 2");
    has(&b, "forget p1.1");
    lacks(&b, "start");
    cr_assert_eq(vdc_allocdb_count_partitions(vdc_agent_allocdb(b.agent)), 0);
    /* A grant for the incarnation that was fenced is worth nothing. */
    bench_grant(&b, 0, 1, 1);
    struct vdc_agent_zone_info zone;
    cr_assert(vdc_agent_zone_at(b.agent, 0, &zone));
    cr_assert_eq(zone.incarnation, 2);
    cr_assert(!vdc_run_lease_valid(&zone.lease, b.now));
}

Test(node_core, a_guest_that_needs_no_lease_runs_on_through_a_fencing_and_is_reported)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_create(&b, 2, 1, VDC_RUN_RUNNING, false);
    bench_durable(&b);
    bench_state(&b, 2, 1, VDC_PHASE_RUNNING);
    bench_session_down(&b, 0);
    bench_tick(&b, LEASE_NS + VDC_SECOND);
    bench_session_up(&b, 0, "m1");
    bench_lead(&b, 0, 1, 2, true);
    has(&b, "ask p1.1 kill");
    lacks(&b, "ask p2.1 kill");
    bench_gone(&b, 1, 1, "killed");
    bench_durable(&b);
    has(&b, "send 0 zone_joined epoch 1 incarnation 2");
    has(&b, "send 0 guest p2.1 running");
    lacks(&b, "guest p1.1");
    struct vdc_id first = id_of(1);
    struct vdc_id second = id_of(2);
    cr_assert_null(vdc_allocdb_find_partition(vdc_agent_allocdb(b.agent), &first));
    cr_assert_not_null(vdc_allocdb_find_partition(vdc_agent_allocdb(b.agent), &second));
    /* And it is restarted here when it fails, lease or not. */
    bench_gone(&b, 2, 1, "it crashed");
    bench_tick(&b, VDC_AGENT_RESTART_FIRST_NS);
    has(&b, "start p2.1");
}

Test(node_core, a_node_without_its_journal_joins_when_all_that_it_ran_is_dead)
{
    bench_restart(&b, 0);
    struct vdc_agent_event found = {.kind = VDC_AGENT_FOUND, .key = key_of(7, 3)};
    found.found.alive = true;
    found.found.generation = 3;
    bench_step(&b, &found);
    struct vdc_agent_event event = {.kind = VDC_AGENT_RECOVERED};
    bench_step(&b, &event);
    has(&b, "kill p7.3");
    bench_durable(&b);
    bench_session_up(&b, 0, "m1");
    bench_lead(&b, 0, 2, 2, true);
    bench_durable(&b);
    lacks(&b, "zone_joined");
    bench_gone(&b, 7, 3, "killed");
    bench_durable(&b);
    has(&b, "zone_joined");
}

Test(node_core, the_same_fencing_told_twice_destroys_once)
{
    bench_join(&b);
    bench_lead(&b, 0, 1, 2, true);
    bench_durable(&b);
    bench_grant(&b, 0, 1, 2);
    bench_run_guest(&b, 1, 1);
    bench_lead(&b, 0, 1, 2, true);
    lacks(&b, "kill");
    has(&b, "send 0 zone_joined epoch 1 incarnation 2");
}

Test(node_core, a_fencing_goes_on_when_its_session_breaks)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_lead(&b, 0, 1, 2, true);
    bench_session_down(&b, 0);
    bench_gone(&b, 1, 1, "killed");
    bench_durable(&b);
    bench_session_up(&b, 0, "m1");
    has(&b, "hello prod/1/2");
    bench_lead(&b, 0, 1, 2, true);
    has(&b, "zone_joined epoch 1 incarnation 2");
}

Test(node_core, an_incarnation_that_has_passed_is_refused)
{
    bench_join(&b);
    bench_lead(&b, 0, 1, 5, false);
    bench_durable(&b);
    bench_lead(&b, 0, 1, 4, false);
    has(&b, "bye an incarnation that has passed");
}

/* --- leases --- */

Test(node_core, nothing_starts_without_a_lease_and_everything_when_it_comes)
{
    bench_session_up(&b, 0, "m1");
    bench_lead(&b, 0, 1, 1, false);
    bench_durable(&b);
    struct vdc_op op = {
        .kind = VDC_OP_ZONE_SET,
        .zone_set = {.overcommit_milli = 4000, .cpu = {.milli = 1000}, .memory = {.milli = 1000}},
    };
    bench_tx(&b, 0, 1, 0, &op, 1);
    bench_durable(&b);
    bench_create(&b, 1, 1, VDC_RUN_RUNNING, true);
    bench_durable(&b);
    lacks(&b, "start p1.1");
    bench_create(&b, 2, 1, VDC_RUN_RUNNING, false);
    bench_durable(&b);
    has(&b, "start p2.1"); /* not restartable: needs none */
    has(&b, "lease p2.1 none-needed");
    bench_grant(&b, 0, 1, 1);
    has(&b, "lease p1.1 4000000000");
    has(&b, "start p1.1");
}

Test(node_core, a_lease_is_asked_for_every_quarter_and_counts_from_the_asking)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    uint64_t asks = b.asks;
    bench_tick(&b, LEASE_NS / 4);
    cr_assert_eq(b.asks, asks + 1);
    bench_tick(&b, VDC_SECOND / 2); /* the answer comes late */
    cr_assert_eq(b.asks, asks + 1);
    bench_grant(&b, 0, 1, 1);
    has(&b, "lease p1.1 3500000000");
}

Test(node_core, a_guest_that_fails_past_its_lease_is_not_started_before_the_next_grant)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_session_down(&b, 0);
    bench_tick(&b, 2 * LEASE_NS);
    has(&b, "the run lease ran out -> nothing is started");
    bench_gone(&b, 1, 1, "lease");
    bench_tick(&b, 120 * VDC_SECOND);
    lacks(&b, "start");
    bench_session_up(&b, 0, "m1");
    bench_lead(&b, 0, 1, 1, false);
    lacks(&b, "start");
    bench_grant(&b, 0, 1, 1);
    has(&b, "start p1.1");
}

/* --- failures --- */

static void find(uint64_t n, uint64_t generation, bool alive)
{
    struct vdc_agent_event event = {.kind = VDC_AGENT_FOUND, .key = key_of(n, generation)};
    event.found.generation = generation;
    event.found.alive = alive;
    event.found.lease_ns = b.now.ns + 3 * VDC_SECOND;
    bench_step(&b, &event);
}

/* A monitor pauses and kills by itself; one that hangs (stopped, or stuck in a disk) does not. */
Test(node_core, a_guest_whose_monitor_lets_it_run_past_its_lease_is_killed)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_run_guest(&b, 2, 1);
    bench_run_guest(&b, 3, 1);
    bench_create(&b, 4, 1, VDC_RUN_RUNNING, false);
    bench_durable(&b);
    bench_state(&b, 4, 1, VDC_PHASE_RUNNING);
    bench_state(&b, 3, 1, VDC_PHASE_PAUSED);
    bench_session_down(&b, 0);
    bench_tick(&b, LEASE_NS);
    has(&b, "the run lease ran out");
    lacks(&b, "kill");
    bench_state(&b, 2, 1, VDC_PHASE_PAUSED); /* its word was only late */
    bench_tick(&b, VDC_AGENT_LEASE_KILL_NS);
    has(&b, "kill p1.1");
    lacks(&b, "kill p2.1");
    lacks(&b, "kill p3.1");
    lacks(&b, "kill p4.1"); /* needs no lease */
    bench_tick(&b, VDC_AGENT_LEASE_KILL_NS);
    lacks(&b, "kill");
}

Test(node_core, a_hung_monitor_that_was_asked_to_kill_has_no_longer_than_the_lease)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_tick(&b, LEASE_NS - 100 * VDC_MS);
    bench_destroy(&b, 1, 1);
    has(&b, "ask p1.1 kill");
    bench_tick(&b, 100 * VDC_MS); /* the lease is over, the monitor silent */
    bench_tick(&b, VDC_AGENT_LEASE_KILL_NS);
    has(&b, "kill p1.1");
    lacks(&b, "ask p1.1");
}

Test(node_core, a_monitor_that_was_started_and_never_speaks_is_killed_and_started_again)
{
    bench_join(&b);
    bench_create(&b, 1, 1, VDC_RUN_RUNNING, false);
    bench_durable(&b);
    has(&b, "start p1.1");
    cr_assert_leq(vdc_agent_deadline(b.agent).ns, b.now.ns + VDC_AGENT_START_NS);
    bench_tick(&b, VDC_AGENT_START_NS - 1);
    lacks(&b, "kill");
    bench_tick(&b, 1);
    has(&b, "says nothing -> kill");
    has(&b, "kill p1.1");
    bench_gone(&b, 1, 1, "the monitor was killed");
    bench_tick(&b, VDC_AGENT_RESTART_FIRST_NS);
    has(&b, "start p1.1");
}

Test(node_core, an_adopted_monitor_that_says_nothing_until_the_lease_is_over_is_killed)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_restart(&b, b.journalled);
    find(1, 1, true);
    struct vdc_agent_event event = {.kind = VDC_AGENT_RECOVERED};
    bench_step(&b, &event);
    bench_tick(&b, 3 * VDC_SECOND);
    lacks(&b, "kill");
    bench_tick(&b, VDC_AGENT_LEASE_KILL_NS);
    has(&b, "kill p1.1");
}

Test(node_core, a_hung_monitor_is_killed_too_when_the_lease_ended_while_the_agent_was_away)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_restart(&b, b.journalled);
    find(1, 1, true);
    b.now = vdc_mono_add(b.now, LEASE_NS); /* after the views were read: nothing more comes */
    struct vdc_agent_event event = {.kind = VDC_AGENT_RECOVERED};
    bench_step(&b, &event);
    bench_tick(&b, VDC_AGENT_KILL_AFTER_NS);
    has(&b, "kill p1.1");
}

Test(node_core, a_monitor_that_dies_is_started_again_with_a_doubling_wait)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    int64_t wait = VDC_AGENT_RESTART_FIRST_NS;
    for (int i = 0; i < 8; i++) {
        bench_gone(&b, 1, 1, "it broke");
        has(&b, "send 0 guest p1.1 failed (it broke)");
        lacks(&b, "start p1.1");
        bench_tick(&b, wait - 1);
        bench_grant(&b, 0, 1, 1);
        lacks(&b, "start p1.1");
        bench_tick(&b, 1);
        if (strstr(vdc_buf_text(&b.log), "start p1.1") == NULL) {
            bench_tick(&b, 0); /* the lease was asked for in between */
            bench_grant(&b, 0, 1, 1);
        }
        has(&b, "start p1.1");
        wait = VDC_MIN(2 * wait, VDC_AGENT_RESTART_MAX_NS);
    }
}

Test(node_core, a_start_that_fails_is_reported_with_its_reason)
{
    bench_join(&b);
    bench_create(&b, 1, 1, VDC_RUN_RUNNING, true);
    bench_durable(&b);
    bench_gone(&b, 1, 1, "start p1: open vmlinuz: no such file");
    has(&b, "send 0 guest p1.1 failed (start p1: open vmlinuz: no such file)");
}

Test(node_core, a_guest_that_powered_itself_off_stays_off_until_it_is_started)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    struct vdc_agent_monitor_state last = {.phase = VDC_PHASE_STOPPED, .reason = "guest shutdown"};
    struct vdc_agent_event event = {
        .kind = VDC_AGENT_MONITOR_GONE,
        .key = key_of(1, 1),
        .monitor.state = &last,
    };
    bench_step(&b, &event);
    has(&b, "send 0 guest p1.1 stopped (guest shutdown)");
    bench_tick(&b, VDC_SECOND);
    bench_grant(&b, 0, 1, 1);
    lacks(&b, "start");
    bench_set_run(&b, 1, 1, VDC_RUN_RUNNING);
    bench_durable(&b);
    has(&b, "start p1.1");
}

Test(node_core, stop_is_told_by_the_view_and_reported_when_it_has_ended)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_set_run(&b, 1, 1, VDC_RUN_STOPPED);
    bench_durable(&b);
    in_order(&b, "publish p1.1", "ask p1.1 refresh");
    bench_gone(&b, 1, 1, "it had to be killed");
    has(&b, "send 0 guest p1.1 stopped");
    bench_tick(&b, VDC_SECOND);
    lacks(&b, "start");
}

Test(node_core, a_guest_started_again_before_its_stop_had_ended_is_started_when_it_has)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_set_run(&b, 1, 1, VDC_RUN_STOPPED);
    bench_durable(&b);
    bench_state(&b, 1, 1, VDC_PHASE_STOPPED);
    has(&b, "send 0 guest p1.1 stopped");
    bench_set_run(&b, 1, 1, VDC_RUN_RUNNING);
    bench_durable(&b);
    lacks(&b, "start p1.1");
    struct vdc_agent_monitor_state last = {.phase = VDC_PHASE_STOPPED, .reason = "guest shutdown"};
    struct vdc_agent_event event = {
        .kind = VDC_AGENT_MONITOR_GONE,
        .key = key_of(1, 1),
        .monitor.state = &last,
    };
    bench_step(&b, &event);
    has(&b, "start p1.1");
}

/* --- adoption --- */

Test(node_core, a_restarted_agent_adopts_what_runs_and_touches_it_not)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_restart(&b, b.journalled);
    find(1, 1, true);
    struct vdc_agent_event event = {.kind = VDC_AGENT_RECOVERED};
    bench_step(&b, &event);
    has(&b, "publish p1.1");
    has(&b, "lease p1.1 3000000000"); /* as it was found in the view */
    lacks(&b, "start");
    lacks(&b, "kill");
    bench_state(&b, 1, 1, VDC_PHASE_RUNNING);
    lacks(&b, "kill");
    bench_session_up(&b, 0, "m1");
    bench_lead(&b, 0, 1, 1, false);
    has(&b, "send 0 guest p1.1 running");
}

Test(node_core, what_the_database_does_not_know_is_killed_and_removed)
{
    bench_restart(&b, b.journalled);
    find(7, 3, true);
    find(8, 1, false);
    struct vdc_agent_event event = {.kind = VDC_AGENT_RECOVERED};
    bench_step(&b, &event);
    has(&b, "kill p7.3");
    has(&b, "forget p8.1");
    bench_gone(&b, 7, 3, "killed");
    has(&b, "forget p7.3");
}

Test(node_core, a_known_guest_that_died_meanwhile_is_started_while_the_lease_lasts)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_restart(&b, b.journalled);
    find(1, 1, false);
    struct vdc_agent_event event = {.kind = VDC_AGENT_RECOVERED};
    bench_step(&b, &event);
    has(&b, "start p1.1");
}

Test(node_core, a_rebooted_node_starts_nothing_before_its_leader_has_seen_what_it_has)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_restart(&b, b.journalled);
    bench_recovered(&b);
    lacks(&b, "start");
    bench_session_up(&b, 0, "m1");
    bench_lead(&b, 0, 1, 1, false);
    in_order(&b, "send 0 guests_end", "send 0 lease_ask");
    /* The leader has moved it away meanwhile: its destroy comes before its grant. */
    bench_destroy(&b, 1, 1);
    bench_grant(&b, 0, 1, 1);
    lacks(&b, "start");
}

/* --- migration --- */

Test(node_core, a_target_listens_then_loads_then_runs_when_its_record_says_so)
{
    bench_join(&b);
    bench_create(&b, 1, 2, VDC_RUN_INCOMING, true);
    bench_durable(&b);
    has(&b, "start p1.2 incoming");
    bench_state(&b, 1, 2, VDC_PHASE_INCOMING);
    has(&b, "send 0 guest p1.2 incoming");
    bench_command(&b, 1, 2, VDC_COMMAND_MIGRATE_IN);
    has(&b, "relay p1.2 listen n2");
    struct vdc_agent_event ready = {.kind = VDC_AGENT_RELAY_READY, .key = key_of(1, 2)};
    ready.relay.port = 5555;
    bench_step(&b, &ready);
    has(&b, "ask p1.2 migrate_in");
    bench_reply(&b, 1, 2, VDC_RC_OK);
    has(&b, "send 0 command_result OK port 5555");
    bench_state(&b, 1, 2, VDC_PHASE_LOADED);
    has(&b, "send 0 guest p1.2 loaded");
    lacks(&b, "activate");
    bench_set_run(&b, 1, 2, VDC_RUN_RUNNING);
    lacks(&b, "activate");
    bench_durable(&b);
    in_order(&b, "publish p1.2", "ask p1.2 activate");
    bench_state(&b, 1, 2, VDC_PHASE_RUNNING);
    has(&b, "send 0 guest p1.2 running");
}

Test(node_core, a_target_that_fails_is_not_started_again)
{
    bench_join(&b);
    bench_create(&b, 1, 2, VDC_RUN_INCOMING, true);
    bench_durable(&b);
    bench_state(&b, 1, 2, VDC_PHASE_INCOMING);
    bench_gone(&b, 1, 2, "bad stream");
    has(&b, "send 0 guest p1.2 failed (bad stream)");
    bench_tick(&b, VDC_SECOND);
    bench_grant(&b, 0, 1, 1);
    lacks(&b, "start");
}

static void migrate_out(void)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_OUT);
    has(&b, "relay p1.1 connect n2");
    struct vdc_agent_event ready = {.kind = VDC_AGENT_RELAY_READY, .key = key_of(1, 1)};
    bench_step(&b, &ready);
    has(&b, "ask p1.1 migrate_out");
    bench_reply(&b, 1, 1, VDC_RC_OK);
    has(&b, "command_result OK");
    bench_state(&b, 1, 1, VDC_PHASE_MIGRATING);
    bench_state(&b, 1, 1, VDC_PHASE_SWITCHOVER);
    has(&b, "send 0 guest p1.1 switchover");
}

Test(node_core, a_source_marks_the_hand_over_before_it_lets_go)
{
    migrate_out();
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_CONTINUE);
    has(&b, "mark p1.1");
    lacks(&b, "migrate_continue");
    bench_marked(&b, 1, 1, VDC_RC_OK);
    has(&b, "ask p1.1 migrate_continue");
    bench_reply(&b, 1, 1, VDC_RC_OK);
    bench_state(&b, 1, 1, VDC_PHASE_POSTMIGRATE);
    has(&b, "send 0 guest p1.1 migrated");
    bench_destroy(&b, 1, 1);
    has(&b, "ask p1.1 kill");
    bench_gone(&b, 1, 1, "killed");
    bench_durable(&b);
    has(&b, "tx_result");
    has(&b, "forget p1.1");
}

Test(node_core, a_hand_over_that_cannot_be_noted_is_refused_and_the_guest_stays_the_sources)
{
    migrate_out();
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_CONTINUE);
    bench_marked(&b, 1, 1, VDC_RC_NO_SPACE);
    has(&b, "unmark p1.1");
    has(&b, "command_result NO_SPACE port 0: the hand-over cannot be noted: no space left");
    lacks(&b, "ask p1.1");
    /* Its leader gives up, and the guest is this node's alone: also when it dies now. */
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_CANCEL);
    has(&b, "ask p1.1 migrate_cancel");
    bench_gone(&b, 1, 1, "killed");
    has(&b, "start again");
}

Test(node_core, a_cancel_while_the_hand_over_is_being_noted_wins)
{
    migrate_out();
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_CONTINUE);
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_CANCEL);
    bench_marked(&b, 1, 1, VDC_RC_OK);
    lacks(&b, "migrate_continue");
    bench_reply(&b, 1, 1, VDC_RC_OK);
    has(&b, "unmark p1.1");
    has(&b, "command_result OK");
}

Test(node_core, a_source_that_dies_after_the_hand_over_is_not_started_again_by_itself)
{
    migrate_out();
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_CONTINUE);
    bench_marked(&b, 1, 1, VDC_RC_OK);
    bench_reply(&b, 1, 1, VDC_RC_OK);
    bench_gone(&b, 1, 1, "killed");
    has(&b, "ended after it was handed over");
    bench_tick(&b, VDC_SECOND);
    bench_grant(&b, 0, 1, 1);
    lacks(&b, "start");
    /* The leader aborts: then it is ours. */
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_CANCEL);
    has(&b, "unmark p1.1");
    has(&b, "start p1.1");
}

Test(node_core, the_hand_over_is_remembered_through_a_restart)
{
    migrate_out();
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_CONTINUE);
    bench_marked(&b, 1, 1, VDC_RC_OK);
    bench_restart(&b, b.journalled);
    struct vdc_agent_event event = {.kind = VDC_AGENT_FOUND, .key = key_of(1, 1)};
    event.found.generation = 1;
    event.found.handover = true;
    event.found.lease_ns = b.now.ns + 3 * VDC_SECOND;
    bench_step(&b, &event);
    event = (struct vdc_agent_event){.kind = VDC_AGENT_RECOVERED};
    bench_step(&b, &event);
    lacks(&b, "start");
}

Test(node_core, a_cancel_after_the_stream_was_complete_resumes_the_source)
{
    migrate_out();
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_CONTINUE);
    bench_marked(&b, 1, 1, VDC_RC_OK);
    bench_reply(&b, 1, 1, VDC_RC_OK);
    bench_state(&b, 1, 1, VDC_PHASE_HANDOVER);
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_CANCEL);
    lacks(&b, "ask p1.1 resume");
    bench_state(&b, 1, 1, VDC_PHASE_POSTMIGRATE);
    has(&b, "ask p1.1 resume");
    bench_reply(&b, 1, 1, VDC_RC_OK);
    has(&b, "unmark p1.1");
    has(&b, "command_result OK");
}

Test(node_core, a_cancel_waits_for_the_first_word_of_an_adopted_monitor)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_restart(&b, b.journalled);
    find(1, 1, true);
    struct vdc_agent_event event = {.kind = VDC_AGENT_RECOVERED};
    bench_step(&b, &event);
    bench_session_up(&b, 0, "m1");
    bench_lead(&b, 0, 1, 1, false);
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_CANCEL);
    lacks(&b, "command_result"); /* it may stand still at the switch-over */
    bench_state(&b, 1, 1, VDC_PHASE_SWITCHOVER);
    has(&b, "ask p1.1 migrate_cancel");
    bench_reply(&b, 1, 1, VDC_RC_OK);
    has(&b, "command_result OK");
}

static void hand_over(uint64_t n)
{
    bench_run_guest(&b, n, 1);
    bench_state(&b, n, 1, VDC_PHASE_SWITCHOVER);
    bench_command(&b, n, 1, VDC_COMMAND_MIGRATE_CONTINUE);
    bench_marked(&b, n, 1, VDC_RC_OK);
    bench_reply(&b, n, 1, VDC_RC_OK);
    bench_state(&b, n, 1, VDC_PHASE_HANDOVER);
}

Test(node_core, a_source_that_dies_while_it_is_told_to_go_on_is_started_again)
{
    bench_join(&b);
    hand_over(1);
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_CANCEL);
    lacks(&b, "command_result");
    bench_gone(&b, 1, 1, "killed");
    in_order(&b, "unmark p1.1", "command_result OK");
    bench_tick(&b, VDC_AGENT_RESTART_FIRST_NS);
    has(&b, "start p1.1");
}

Test(node_core, a_start_by_the_leader_ends_what_a_hand_over_left_open)
{
    bench_join(&b);
    hand_over(1);
    bench_gone(&b, 1, 1, "killed");
    bench_set_run(&b, 1, 1, VDC_RUN_RUNNING);
    bench_durable(&b);
    has(&b, "start p1.1");
}

Test(node_core, a_cancel_right_behind_migrate_out_breaks_the_stream)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_OUT);
    struct vdc_agent_event ready = {.kind = VDC_AGENT_RELAY_READY, .key = key_of(1, 1)};
    bench_step(&b, &ready);
    has(&b, "ask p1.1 migrate_out");
    bench_command(&b, 1, 1,
                  VDC_COMMAND_MIGRATE_CANCEL); /* the monitor has not said that it began */
    has(&b, "relay-stop p1.1");
}

Test(node_core, a_cancel_displaces_the_command_under_way)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_OUT);
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_CANCEL);
    has(&b, "command_result CANCELLED");
    has(&b, "command_result OK");
}

Test(node_core, a_command_without_an_answer_times_out)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_OUT);
    bench_tick(&b, VDC_AGENT_COMMAND_NS);
    has(&b, "command_result TIMEOUT");
}

Test(node_core, a_relay_that_cannot_start_fails_the_command)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_OUT);
    struct vdc_agent_event event = {.kind = VDC_AGENT_RELAY_ENDED, .key = key_of(1, 1)};
    event.relay.rc = VDC_RC_UNAVAILABLE;
    event.relay.text = "no such program";
    bench_step(&b, &event);
    has(&b, "command_result UNAVAILABLE port 0: no such program");
}

Test(node_core, a_command_in_the_wrong_phase_or_generation_is_refused)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_command(&b, 1, 1, VDC_COMMAND_MIGRATE_CONTINUE);
    has(&b, "command_result CONFLICT port 0: the guest is running here");
    bench_command(&b, 1, 2, VDC_COMMAND_MIGRATE_OUT);
    has(&b, "command_result STALE");
    bench_command(&b, 5, 1, VDC_COMMAND_MIGRATE_OUT);
    has(&b, "command_result NOT_FOUND");
}

/* --- console --- */

Test(node_core, the_console_of_a_guest_that_moved_away_can_still_be_read)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_command(&b, 1, 1, VDC_COMMAND_CONSOLE_READ);
    has(&b, "console p1.1 known");
    bench_destroy(&b, 1, 1);
    bench_gone(&b, 1, 1, "killed");
    bench_durable(&b);
    bench_command(&b, 1, 1, VDC_COMMAND_CONSOLE_READ);
    has(&b, "console p1.1 known");
    bench_command(&b, 3, 1, VDC_COMMAND_CONSOLE_READ);
    has(&b, "unknown");
}

/* --- volumes --- */

Test(node_core, a_volume_is_deleted_by_command_and_never_beside_its_partition)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_command(&b, 1, 1, VDC_COMMAND_VOLUME_DELETE);
    has(&b, "command_result CONFLICT");
    lacks(&b, "volume-delete");
    bench_command(&b, 2, 1, VDC_COMMAND_VOLUME_DELETE);
    has(&b, "volume-delete p2 for 0");
    /* A destroy by itself (a move, say) deletes nothing. */
    bench_destroy(&b, 1, 1);
    lacks(&b, "volume-delete");
    bench_command(&b, 1, 1, VDC_COMMAND_VOLUME_DELETE);
    has(&b, "command_result CONFLICT"); /* it is being killed */
    bench_gone(&b, 1, 1, "killed");
    bench_durable(&b);
    lacks(&b, "volume-delete");
    bench_command(&b, 1, 1, VDC_COMMAND_VOLUME_DELETE);
    has(&b, "volume-delete p1 for 0");
}

Test(node_core, a_volume_that_another_partition_uses_is_not_deleted)
{
    bench_join(&b);
    bench_run_guest(&b, 2, 1);
    struct vdc_op attach = {
        .kind = VDC_OP_VOLUME_ATTACH,
        .volume_attach = {
            .id = id_of(2), .generation = 1, .volume = id_of(1), .mode = VDC_VOLUME_READ}};
    bench_tx(&b, 0, 1, 0, &attach, 1);
    bench_durable(&b);
    bench_command(&b, 1, 1, VDC_COMMAND_VOLUME_DELETE);
    has(&b, "CONFLICT");
    has(&b, "in use");
}

Test(node_core, a_volume_is_not_deleted_for_somebody_who_does_not_lead)
{
    bench_join(&b);
    bench_session_up(&b, 1, "m2");
    bench_lead(&b, 1, 9, 1, false);
    bench_durable(&b);
    bench_command(&b, 2, 1, VDC_COMMAND_VOLUME_DELETE);
    has(&b, "command_result STALE");
    lacks(&b, "volume-delete");
}

Test(node_core, graves_are_bounded)
{
    bench_join(&b);
    for (uint64_t n = 1; n <= VDC_AGENT_GRAVES_MAX + 1; n++) {
        bench_create(&b, n, 1, VDC_RUN_STOPPED, true);
        bench_durable(&b);
        bench_destroy(&b, n, 1);
        bench_durable(&b);
        if (n <= VDC_AGENT_GRAVES_MAX) {
            lacks(&b, "remove");
        }
    }
    has(&b, "remove p1.1");
}

/* The power goes at the source of a migration: what its target has become nobody here knows. */
Test(node_core, a_guest_that_was_leaving_is_not_started_after_a_reboot_until_its_leader_says_so)
{
    bench_join(&b);
    bench_run_guest(&b, 1, 1);
    bench_set_run(&b, 1, 1, VDC_RUN_LEAVING);
    bench_durable(&b);
    lacks(&b, "kill");
    bench_restart(&b, b.journalled);
    bench_recovered(&b);
    bench_session_up(&b, 0, "m1");
    bench_lead(&b, 0, 1, 1, false);
    bench_durable(&b);
    bench_grant(&b, 0, 1, 1);
    bench_tick(&b, VDC_SECOND);
    lacks(&b, "start p1.1");
    bench_set_run(&b, 1, 1, VDC_RUN_RUNNING);
    bench_durable(&b);
    has(&b, "start p1.1");
}

/* Its node was lost after the move: the stream came to an earlier life. */
Test(node_core, a_guest_that_waits_for_a_stream_and_is_wanted_running_boots)
{
    bench_join(&b);
    bench_create(&b, 1, 1, VDC_RUN_INCOMING, true);
    bench_durable(&b);
    bench_state(&b, 1, 1, VDC_PHASE_INCOMING);
    bench_set_run(&b, 1, 1, VDC_RUN_RUNNING);
    bench_durable(&b);
    has(&b, "ask p1.1 kill");
    bench_gone(&b, 1, 1, "killed");
    has(&b, "start p1.1");
}
