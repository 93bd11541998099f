/* SPDX-License-Identifier: Apache-2.0 */
/* Placements: strategies, capacity, rules, quotas, and the change that each refusal names. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/policy_io.h>
#include <vdc/prng.h>

#include "policy_support.h"

#define MIB (UINT64_C(1) << 20)
#define HEAD                                                                            \
    "apiVersion: vdc/v1\nkind: ZonePolicy\nzone: prod\nnodes: [{match: labels.tier == " \
    "\"compute\"}]\n"

static struct zone *zone_of_three(const char *policy)
{
    vdc_autofree char *text = vdc_asprintf("%s%s", HEAD, policy);
    struct zone *zone = zone_create(text);
    zone_add_node(zone, "n1", "r1");
    zone_add_node(zone, "n2", "r2");
    zone_add_node(zone, "n3", "r3");
    return zone;
}

static void expect_create(struct zone *zone, struct vdc_policy_partition partition,
                          const char *expected)
{
    vdc_autofree char *line = zone_line(zone_place(zone, VDC_POLICY_CREATE, partition, NULL));
    cr_expect_str_eq(line, expected, "said:     %s\nexpected: %s", line, expected);
}

static void expect_move(struct zone *zone, const char *name, const char *target,
                        const char *expected)
{
    vdc_autofree char *line =
        zone_line(zone_place(zone, VDC_POLICY_MIGRATE, zone_partition(zone, name, NULL), target));
    cr_expect_str_eq(line, expected, "said:     %s\nexpected: %s", line, expected);
}

static struct vdc_policy_partition sized(struct zone *zone, const char *name, uint32_t vcpus,
                                         uint64_t memory_mib)
{
    struct vdc_policy_partition partition = zone_partition(zone, name, NULL);
    partition.vcpus = vcpus;
    partition.memory_bytes = memory_mib * MIB;
    return partition;
}

/* ---- strategies ---- */

Test(policy_place, spread_takes_the_emptiest_node_and_pack_the_fullest)
{
    static const struct {
        const char *policy;
        const char *expected;
    } cases[] = {
        {"placement: {strategy: spread}\n", "n2"},
        {"placement: {strategy: pack}\n", "n3"},
        {"placement: {strategy: balanced}\n", "n2"},
        {"placement: {strategy: spread, weights: {cpu: 0, memory: 1}}\n", "n1"},
        {"placement: {strategy: spread, weights: {cpu: 0, memory: 0}}\n", "n1"},
    };
    for (size_t i = 0; i < VDC_COUNT_OF(cases); i++) {
        vdc_autofree char *policy =
            vdc_asprintf("capacity: {cpu_overcommit: 4.0}\n%s", cases[i].policy);
        struct zone *zone = zone_of_three(policy);
        zone_run(zone, sized(zone, "a", 2, 128), "n1");
        zone_run(zone, sized(zone, "b", 1, 256), "n2");
        zone_run(zone, sized(zone, "c", 2, 512), "n3");
        struct vdc_policy_verdict verdict =
            zone_place(zone, VDC_POLICY_CREATE, sized(zone, "x", 1, 128), NULL);
        cr_expect_str_eq(verdict.winner.node, cases[i].expected, "%s", cases[i].policy);
        vdc_policy_verdict_deinit(&verdict);
        zone_destroy(zone);
    }
}

Test(policy_place, the_long_form_shows_every_part_and_every_rejection)
{
    struct zone *zone =
        zone_of_three("placement:\n  rules:\n"
                      "    - {name: not-n1, require: node.name != \"n1\"}\n"
                      "    - {name: like-n3, prefer: {node: node.name == \"n3\", weight: 2.5}}\n");
    struct vdc_policy_verdict verdict =
        zone_place(zone, VDC_POLICY_CREATE, zone_partition(zone, "x", NULL), NULL);
    struct vdc_buf text = {0};
    vdc_policy_verdict_text(&verdict, &text);
    cr_expect_str_eq(
        vdc_buf_text(&text),
        "x: placed on n3 (rack r3), score 75.937; next n2 73.437; 1 of 3 nodes rejected (1 by rule "
        "not-n1)\n"
        "  create, policy version 3, state 41\n"
        "  winner n3: 75.937 = cpu 25 + memory 48.437 + like-n3 2.5\n"
        "  runner-up n2: 73.437 = cpu 25 + memory 48.437\n"
        "  rejected n1: rule not-n1: does not meet: node.name != \"n1\"\n");
    vdc_buf_deinit(&text);
    vdc_policy_verdict_deinit(&verdict);
    zone_destroy(zone);
}

/* ---- capacity ---- */

Test(policy_place, shared_cpus_count_by_the_overcommit_and_dedicated_ones_fully)
{
    struct zone *zone = zone_of_three(
        "capacity: {cpu_overcommit: 4.0}\nclasses: {s: {cpu: shared}, d: {cpu: dedicated}}\n");
    zone->node_count = 1;
    struct vdc_policy_partition dedicated = sized(zone, "d1", 1, 2);
    dedicated.class_name = "d";
    expect_create(zone, dedicated, "d1: placed on n1 (rack r1), score 74.975");
    for (int i = 0; i < 2; i++) {
        static const char *const names[] = {"s1", "s2"};
        struct vdc_policy_partition shared = sized(zone, names[i], 2, 2);
        shared.class_name = "s";
        struct vdc_policy_verdict verdict = zone_place(zone, VDC_POLICY_CREATE, shared, NULL);
        cr_expect(verdict.placed);
        vdc_policy_verdict_deinit(&verdict);
    }
    struct vdc_policy_partition more = sized(zone, "s3", 1, 2);
    more.class_name = "s";
    expect_create(zone, more,
                  "s3: refused, no node of 1 fits (1 by CPU: n1 asks 0.25 CPU, 0 free); smallest "
                  "change: free 0.25 CPU on n1");
    dedicated.name = "d2";
    expect_create(zone, dedicated,
                  "d2: refused, no node of 1 fits (1 by CPU: n1 asks 1 CPU, 0 free); smallest "
                  "change: free 1 CPU on n1");
    zone_destroy(zone);
}

Test(policy_place, memory_is_counted_in_blocks_behind_what_is_kept_free)
{
    struct zone *zone = zone_of_three("capacity: {keep_free: {memory: 25%}}\n");
    zone_run(zone, sized(zone, "a", 1, 3071), "n1"); /* 3072 in blocks: all */
    zone_run(zone, sized(zone, "b", 1, 3000), "n2");
    zone_run(zone, sized(zone, "c", 1, 2900), "n3");
    expect_create(zone, sized(zone, "x", 1, 513),
                  "x: refused, no node of 3 fits (3 by memory: n1 asks 514 MiB, 0 B free, n2 asks "
                  "514 MiB, 72 MiB free, n3 asks 514 MiB, 172 MiB free); smallest change: free 342 "
                  "MiB on n3");
    zone_destroy(zone);
}

Test(policy_place, more_vcpus_than_any_node_has_cpus_are_refused)
{
    struct zone *zone = zone_of_three("capacity: {cpu_overcommit: 4.0}\n");
    expect_create(
        zone, sized(zone, "x", 3, 128),
        "x: refused, no node of 3 fits (3 by more vCPUs than the node has CPUs: n1 asks 3 "
        "vCPUs, the node has 2 CPUs); smallest change: ask for 2 vCPUs");
    zone_destroy(zone);
}

Test(policy_place, a_share_is_a_part_of_the_node_or_an_amount)
{
    struct zone *zone =
        zone_create("apiVersion: vdc/v1\nkind: ZonePolicy\nzone: prod\nnodes:\n"
                    "  - {match: name == \"n1\", share: {cpus: 50%, memory: 10%}}\n"
                    "  - {match: rack == \"r1\", share: {cpus: 16, memory: 1001MiB}}\n");
    struct vdc_policy_node *n1 = zone_add_node(zone, "n1", "r1");
    struct vdc_policy_node *n2 = zone_add_node(zone, "n2", "r1");
    struct vdc_policy_node *n3 = zone_add_node(zone, "n3", "r2");
    struct vdc_policy_share share;
    cr_assert(vdc_policy_share(zone->policy, n1, &share));
    cr_assert_eq(share.cpus, 1);
    cr_assert_eq(share.memory_bytes, 408 * MIB);
    cr_assert(vdc_policy_share(zone->policy, n2, &share));
    cr_assert_eq(share.cpus, 2, "not more than the node has");
    cr_assert_eq(share.memory_bytes, 1000 * MIB);
    cr_assert_not(vdc_policy_share(zone->policy, n3, &share));
    zone_destroy(zone);
}

/* ---- which nodes ---- */

Test(policy_place, nodes_that_are_no_candidates_are_counted_by_reason)
{
    struct zone *zone = zone_of_three("");
    zone->nodes[0].state = VDC_POLICY_NODE_CLOSED;
    zone->nodes[0].why_not = "draining";
    zone->nodes[1].label_count = 0;
    zone_run(zone, zone_partition(zone, "x", NULL), "n3");
    expect_move(zone, "x", NULL,
                "x: refused, no node of 3 fits (1 by not in the zone; 1 by it runs there; 1 by not "
                "usable: n1 draining); smallest change: make n1 usable");
    expect_move(zone, "x", "n3", "x: refused, no node of 1 fits (1 by it runs there)");
    expect_move(zone, "x", "n2", "x: refused, no node of 1 fits (1 by not in the zone)");
    expect_move(zone, "x", "n9", "x: refused, there is no node \"n9\"");
    zone_destroy(zone);
}

Test(policy_place, excluded_nodes_are_left_out)
{
    struct zone *zone = zone_of_three("");
    struct vdc_policy_snapshot snapshot = zone_snapshot(zone);
    static const char *const excluded[] = {"n1", "n3"};
    struct vdc_policy_request request = {
        .partition = zone_partition(zone, "x", NULL), .excluded = excluded, .excluded_count = 2};
    struct vdc_policy_verdict verdict;
    vdc_policy_place(zone->policy, &snapshot, &request, &verdict);
    vdc_autofree char *line = zone_line(verdict);
    cr_assert_str_eq(line, "x: placed on n2 (rack r2), score 73.437; 2 of 3 nodes rejected (2 by "
                           "excluded by the request)");
    zone_destroy(zone);
}

Test(policy_place, a_zone_without_nodes_says_so)
{
    struct zone *zone = zone_of_three("");
    zone->node_count = 0;
    expect_create(zone, zone_partition(zone, "x", NULL), "x: refused, there are no nodes");
    zone_destroy(zone);
}

Test(policy_place, what_ran_on_a_lost_node_counts_no_more_and_on_a_closed_one_it_does)
{
    struct zone *zone = zone_of_three("placement: {rules: [{name: apart, apart: node}]}\n");
    zone->nodes[2].label_count = 0;
    zone_run(zone, zone_partition(zone, "a", NULL), "n1");
    zone_run(zone, zone_partition(zone, "b", NULL), "n2");
    zone->nodes[1].state = VDC_POLICY_NODE_CLOSED;
    expect_move(zone, "a", NULL,
                "a: refused, no node of 3 fits (1 by not in the zone; 1 by it runs there; 1 by not "
                "usable: n2 closed); smallest change: make n2 usable and drop hard rule apart");
    zone->nodes[1].state = VDC_POLICY_NODE_LOST;
    expect_move(zone, "a", NULL,
                "a: refused, no node of 3 fits (1 by not in the zone; 1 by it runs there; 1 by not "
                "usable: n2 lost); smallest change: make n2 usable");
    zone_destroy(zone);
}

/* ---- rules ---- */

Test(policy_place, a_crowded_rack_names_its_first_member_and_counts_the_others)
{
    struct zone *zone = zone_of_three("placement: {rules: [{name: apart, apart: rack}]}\n");
    zone_run(zone, zone_partition(zone, "c", NULL), "n1");
    zone_run(zone, zone_partition(zone, "a", NULL), "n1");
    zone_run(zone, zone_partition(zone, "b", NULL), "n1");
    vdc_autofree char *line =
        zone_line(zone_place(zone, VDC_POLICY_CREATE, zone_partition(zone, "x", NULL), "n1"));
    zone->nodes[0].cpu_shared_milli = 0;
    vdc_autofree char *with_room =
        zone_line(zone_place(zone, VDC_POLICY_CREATE, zone_partition(zone, "x", NULL), "n1"));
    cr_expect_str_eq(line, "x: refused, no node of 1 fits (1 by CPU: n1 asks 1 CPU, 0 free); "
                           "smallest change: free 2 CPU on n1 and drop hard rule apart");
    cr_expect_str_eq(with_room, "x: refused, no node of 1 fits (1 by rule apart: rack r1 holds a "
                                "and 2 more); smallest change: drop hard rule apart");
    zone_destroy(zone);
}

Test(policy_place, a_partition_on_the_move_may_be_shown_twice)
{
    struct zone *zone = zone_of_three("placement: {rules: [{name: apart, apart: rack}]}\n");
    static const char *const names[] = {"a", "b"};
    for (uint8_t i = 0; i < 2; i++) {
        struct vdc_policy_partition partition = zone_partition(zone, names[i], NULL);
        partition.id.bytes[0] = i + 1;
        zone_run(zone, partition, i == 0 ? "n1" : "n2");
    }
    struct vdc_policy_partition shadow = zone->partitions[0];
    shadow.id = (struct vdc_id){0};
    shadow.node = 2;
    zone->partitions[zone->partition_count++] = shadow;
    struct vdc_policy_snapshot snapshot = zone_snapshot(zone);
    struct vdc_diags diags = {0};
    zone->nodes[0].state = VDC_POLICY_NODE_LOST;
    cr_expect_eq(vdc_policy_check(zone->policy, &snapshot, &diags), VDC_RC_OK);
    struct vdc_policy_request request = {.cause = VDC_POLICY_FAILOVER,
                                         .partition = zone->partitions[0]};
    struct vdc_policy_verdict verdict;
    vdc_policy_place(zone->policy, &snapshot, &request, &verdict);
    cr_expect_str_eq(verdict.winner.node, "n3");
    vdc_policy_verdict_deinit(&verdict);
    request.partition = zone->partitions[1];
    request.cause = VDC_POLICY_MIGRATE;
    vdc_policy_place(zone->policy, &snapshot, &request, &verdict);
    cr_expect_not(verdict.placed, "rack r3 is promised to a");
    vdc_policy_verdict_deinit(&verdict);
    zone_destroy(zone);
}

Test(policy_place, hard_spread_keeps_the_difference_of_racks_small)
{
    struct zone *zone = zone_of_three(
        "placement: {strategy: pack, rules: [{name: even, spread: {over: rack, max_skew: 1}}]}\n");
    expect_create(zone, sized(zone, "a", 1, 128),
                  "a: placed on n1 (rack r1), score 26.562; next "
                  "n2 26.562");
    expect_create(zone, sized(zone, "b", 1, 128),
                  "b: placed on n2 (rack r2), score 26.562; next n3 26.562; 1 of 3 nodes rejected "
                  "(1 by rule even)");
    zone->nodes[2].state = VDC_POLICY_NODE_CLOSED; /* an empty rack that cannot be used */
    expect_create(zone, sized(zone, "c", 1, 128),
                  "c: placed on n1 (rack r1), score 53.125; next n2 53.125; 1 of 3 nodes rejected "
                  "(1 by not usable)");
    zone->nodes[2].state = VDC_POLICY_NODE_USABLE;
    vdc_autofree char *line =
        zone_line(zone_place(zone, VDC_POLICY_CREATE, sized(zone, "d", 1, 128), "n2"));
    cr_expect_str_eq(line, "d: refused, no node of 1 fits (1 by rule even: rack r2 would hold 2, "
                           "the emptiest rack holds 0, 1 more is allowed); smallest change: drop "
                           "hard rule even");
    zone_destroy(zone);
}

Test(policy_place, hard_near_follows_its_group_and_asks_nothing_without_one)
{
    struct zone *zone =
        zone_of_three("placement:\n  rules:\n"
                      "    - name: cache-near-web\n      when: partition.labels.app == \"cache\"\n"
                      "      near: {group: 'partition.labels.app == \"web\"', within: node}\n");
    struct vdc_policy_partition cache = zone_partition(zone, "cache", "cache");
    vdc_autofree char *alone = zone_line(zone_place(zone, VDC_POLICY_CREATE, cache, NULL));
    cr_expect_str_eq(alone, "cache: placed on n1 (rack r1), score 73.437; next n2 73.437");
    zone_run(zone, zone_partition(zone, "web", "web"), "n3");
    cache.name = "cache-2";
    expect_create(zone, cache,
                  "cache-2: placed on n3 (rack r3), score 46.875; 2 of 3 nodes rejected (2 by rule "
                  "cache-near-web)");
    zone->nodes[2].cpu_shared_milli = 2000;
    cache.name = "cache-3";
    expect_create(zone, cache,
                  "cache-3: refused, no node of 3 fits (2 by rule cache-near-web: node n1 holds "
                  "none of: partition.labels.app == \"web\", node n2 holds none of: "
                  "partition.labels.app == \"web\"; 1 by CPU: n3 asks 1 CPU, 0 free); smallest "
                  "change: free 1 CPU on n3");
    zone_destroy(zone);
}

Test(policy_place, soft_rules_give_points_and_refuse_nothing)
{
    struct zone *zone = zone_of_three(
        "placement:\n  weights: {cpu: 0, memory: 0}\n  rules:\n"
        "    - {name: apart, apart: rack, soft: true, weight: 10}\n"
        "    - {name: near, near: {group: name == \"a\", within: rack, soft: true, weight: 4}}\n"
        "    - {name: even, spread: {over: node, max_skew: 1, soft: true, weight: 6}}\n");
    zone_run(zone, zone_partition(zone, "a", NULL), "n2");
    struct vdc_policy_verdict verdict =
        zone_place(zone, VDC_POLICY_CREATE, zone_partition(zone, "b", NULL), "n2");
    struct vdc_buf text = {0};
    vdc_policy_verdict_text(&verdict, &text);
    cr_expect_str_eq(vdc_buf_text(&text), "b: placed on n2 (rack r2), score 12\n"
                                          "  create, policy version 3, state 41\n"
                                          "  winner n2: 12 = apart 5 + near 4 + even 3\n");
    vdc_buf_deinit(&text);
    vdc_policy_verdict_deinit(&verdict);
    expect_create(
        zone, zone_partition(zone, "c", NULL),
        "c: placed on n1 (rack r1), score 16; next n3 16; 1 of 3 nodes rejected (1 by CPU)");
    zone_destroy(zone);
}

Test(policy_place, the_smallest_change_may_be_two)
{
    struct zone *zone = zone_of_three(
        "placement: {rules: [{name: only-n2, require: node.name == \"n2\"}, {name: apart, apart: "
        "rack}]}\n");
    zone_run(zone, sized(zone, "a", 1, 128), "n1");
    zone_run(zone, sized(zone, "b", 1, 4032), "n2");
    zone_run(zone, sized(zone, "c", 1, 128), "n3");
    expect_create(
        zone, sized(zone, "x", 1, 128),
        "x: refused, no node of 3 fits (2 by rule only-n2: does not meet: node.name == "
        "\"n2\"; 1 by memory: n2 asks 128 MiB, 64 MiB free); smallest change: free 64 MiB "
        "on n2 and drop hard rule apart");
    zone_destroy(zone);
}

/* ---- classes, tenants, quotas ---- */

Test(policy_place, classes_and_tenants_that_do_not_exist_are_named)
{
    struct zone *zone =
        zone_of_three("classes: {gold: {}, silver: {}}\ntenants: {acme: {classes: [gold]}}\n");
    struct vdc_policy_partition x = zone_partition(zone, "x", NULL);
    expect_create(zone, x,
                  "x: refused, no class was given and there is none called \"default\" "
                  "(known: gold silver)");
    x.class_name = "golf";
    expect_create(zone, x, "x: refused, there is no class \"golf\"; did you mean gold?");
    x.class_name = "silver";
    x.tenant = "acme";
    expect_create(zone, x, "x: refused, tenant acme may not use class silver");
    x.tenant = "nobody";
    expect_create(zone, x, "x: refused, there is no tenant \"nobody\"");
    x.tenant = "";
    expect_create(zone, x, "x: placed on n1 (rack r1), score 73.437; next n2 73.437");
    zone_destroy(zone);
}

Test(policy_place, quotas_are_counted_over_the_zone_and_only_for_new_partitions)
{
    struct zone *zone = zone_of_three(
        "capacity: {cpu_overcommit: 4}\n"
        "tenants: {acme: {quota: {cpus: 3, memory: 300MiB, partitions: 2}}, other: {}}\n");
    struct vdc_policy_partition a = sized(zone, "a", 2, 128);
    a.tenant = "acme";
    struct vdc_policy_verdict verdict = zone_place(zone, VDC_POLICY_CREATE, a, NULL);
    cr_expect(verdict.placed);
    vdc_policy_verdict_deinit(&verdict);
    struct vdc_policy_partition b = sized(zone, "b", 2, 200);
    b.tenant = "acme";
    expect_create(
        zone, b,
        "b: refused, quota acme.cpus asks 2, uses 2 of 3; quota acme.memory asks 200 MiB, "
        "uses 128 MiB of 300 MiB; smallest change: raise quota acme.cpus to 4 and raise "
        "quota acme.memory to 328 MiB");
    b.tenant = "other";
    verdict = zone_place(zone, VDC_POLICY_CREATE, b, NULL);
    cr_expect(verdict.placed);
    vdc_policy_verdict_deinit(&verdict);
    /* The quota was larger when these were created: what runs may still move. */
    struct vdc_policy_partition c = sized(zone, "c", 2, 128);
    c.tenant = "acme";
    zone_run(zone, c, "n1");
    expect_move(zone, "a", "n3", "a: placed on n3 (rack r3), score 85.937");
    zone_destroy(zone);
}

/* ---- the order of restarts, the check against what exists ---- */

Test(policy_place, restarts_go_by_priority_and_then_by_name)
{
    struct zone *zone = zone_of_three("capacity: {cpu_overcommit: 8}\n"
                                      "classes: {hi: {priority: 9}, lo: {priority: 1}}\n");
    static const char *const names[][2] = {{"c", "lo"}, {"b", "hi"}, {"a", "lo"}, {"d", "hi"}};
    size_t indices[4];
    for (size_t i = 0; i < 4; i++) {
        struct vdc_policy_partition partition = zone_partition(zone, names[i][0], NULL);
        partition.class_name = names[i][1];
        zone_run(zone, partition, "n1");
        indices[i] = i;
    }
    struct vdc_policy_snapshot snapshot = zone_snapshot(zone);
    vdc_policy_failover_order(zone->policy, &snapshot, indices, 4);
    char order[5] = "";
    for (size_t i = 0; i < 4; i++) {
        order[i] = zone->partitions[indices[i]].name[0];
    }
    cr_assert_str_eq(order, "bdac");
    zone_destroy(zone);
}

Test(policy_place, a_policy_that_contradicts_what_exists_is_refused_with_its_lines)
{
    struct zone *running =
        zone_of_three("capacity: {cpu_overcommit: 8}\nclasses: {old: {}, default: {}}\n");
    static const char *const names[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < 4; i++) {
        struct vdc_policy_partition partition = zone_partition(running, names[i], "db");
        partition.class_name = i == 3 ? "old" : "";
        partition.tenant = i < 2 ? "acme" : i == 2 ? "gone" : "";
        running->partitions[running->partition_count] = partition;
        running->partitions[running->partition_count++].node = 0;
    }
    struct zone *next =
        zone_of_three("classes: {default: {}}\n"
                      "tenants:\n"
                      "  acme: {quota: {cpus: 1, memory: 200MiB, partitions: 1}}\n"
                      "placement:\n  rules:\n"
                      "    - {name: apart, when: labels.app == \"db\", apart: rack}\n"
                      "    - {name: soft, apart: rack, soft: true, weight: 1}\n");
    struct vdc_policy_snapshot snapshot = zone_snapshot(running);
    struct vdc_diags diags = {0};
    cr_assert_eq(vdc_policy_check(next->policy, &snapshot, &diags), VDC_RC_INVALID);
    struct vdc_buf text = {0};
    vdc_diags_render(&diags, &text);
    cr_expect_str_eq(vdc_buf_text(&text),
                     "partition d has class \"old\", which is not defined\n"
                     "partition c has tenant \"gone\", which is not defined\n"
                     "7:3: tenant acme: quota of 1 cpus, 2 are in use\n"
                     "7:3: tenant acme: quota of 200 MiB memory, 256 MiB are in use\n"
                     "7:3: tenant acme: quota of 1 partitions, there are 2\n"
                     "10:14: rule apart: 4 partitions must be apart, the zone has 3 racks\n");
    vdc_buf_deinit(&text);
    vdc_diags_deinit(&diags);
    cr_assert_eq(vdc_policy_check(running->policy, &snapshot, &diags), VDC_RC_OK);
    zone_destroy(running);
    zone_destroy(next);
}

/* ---- JSON ---- */

Test(policy_place, a_verdict_as_json_has_all_of_it)
{
    struct zone *zone = zone_of_three("placement: {rules: [{name: apart, apart: rack}]}\n");
    zone_run(zone, zone_partition(zone, "a", NULL), "n1");
    zone_run(zone, zone_partition(zone, "b", NULL), "n2");
    zone->nodes[2].memory_used_bytes = 4000 * MIB;
    struct vdc_policy_verdict verdict =
        zone_place(zone, VDC_POLICY_CREATE, sized(zone, "x", 1, 128), NULL);
    json_t *json = vdc_policy_verdict_json(&verdict);
    json_object_del(json, "text");
    json_object_del(json, "summary");
    vdc_autofree char *dump = json_dumps(json, JSON_COMPACT);
    cr_expect_str_eq(
        dump,
        "{\"outcome\":\"refused\",\"cause\":\"create\",\"partition\":\"x\",\"policy_version\":3,"
        "\"generation\":41,\"considered\":3,\"fitting\":0,\"node\":null,\"winner\":null,"
        "\"runner_up\":null,\"rejected\":["
        "{\"node\":\"n1\",\"rack\":\"r1\",\"reason\":\"rule\",\"rule\":\"apart\",\"detail\":"
        "\"rack r1 holds a\"},"
        "{\"node\":\"n2\",\"rack\":\"r2\",\"reason\":\"rule\",\"rule\":\"apart\",\"detail\":"
        "\"rack r2 holds b\"},"
        "{\"node\":\"n3\",\"rack\":\"r3\",\"reason\":\"memory\",\"detail\":\"asks 128 MiB, 96 MiB "
        "free\",\"asked\":134217728,\"available\":100663296}],"
        "\"counts\":[{\"reason\":\"rule\",\"rule\":\"apart\",\"nodes\":2},{\"reason\":\"memory\","
        "\"nodes\":1}],\"changes\":[{\"kind\":\"free-memory\",\"node\":\"n3\",\"amount\":33554432}]"
        ",\"smallest_change\":\"free 32 MiB on n3\"}");
    json_decref(json);
    vdc_policy_verdict_deinit(&verdict);
    zone_destroy(zone);
}

Test(policy_place, a_verdict_with_foreign_text_is_still_json)
{
    struct zone *zone = zone_of_three("classes: {gold: {}}\n");
    struct vdc_policy_partition x = zone_partition(zone, "x", NULL);
    /* 62 letters and a euro sign: the sentence is cut in the middle of it. */
    static const char *const names[] = {
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xe2\x82\xac", "\xff\n"};
    for (size_t i = 0; i < VDC_COUNT_OF(names); i++) {
        x.class_name = names[i];
        struct vdc_policy_verdict verdict = zone_place(zone, VDC_POLICY_CREATE, x, NULL);
        json_t *json = vdc_policy_verdict_json(&verdict);
        const char *summary = json_string_value(json_object_get(json, "summary"));
        cr_expect_not_null(strstr(summary, "there is no class"));
        cr_expect_null(strchr(summary, '\n'));
        json_decref(json);
        vdc_policy_verdict_deinit(&verdict);
    }
    zone_destroy(zone);
}

/* ---- bounds ---- */

Test(policy_place, many_rejections_are_counted_and_some_are_kept)
{
    struct zone *zone = zone_of_three("");
    enum { NODES = 200 };
    struct vdc_policy_node nodes[NODES];
    char names[NODES][8];
    for (size_t i = 0; i < NODES; i++) {
        snprintf(names[i], sizeof names[i], "m%03zu", i);
        nodes[i] = zone->nodes[0];
        nodes[i].name = names[i];
        nodes[i].memory_used_bytes = nodes[i].memory_bytes;
    }
    struct vdc_policy_snapshot snapshot = {.nodes = nodes, .node_count = NODES};
    struct vdc_policy_request request = {.partition = zone_partition(zone, "x", NULL)};
    struct vdc_policy_verdict verdict;
    vdc_policy_place(zone->policy, &snapshot, &request, &verdict);
    cr_assert_eq(verdict.considered, NODES);
    cr_assert_eq(verdict.rejection_count, VDC_POLICY_REJECTIONS_MAX);
    cr_assert_eq(verdict.tallies[0].nodes, NODES);
    struct vdc_buf text = {0};
    vdc_policy_verdict_text(&verdict, &text);
    cr_assert_not_null(strstr(vdc_buf_text(&text), "  ... and 136 more rejected\n"));
    vdc_buf_deinit(&text);
    vdc_autofree char *line = zone_line(verdict);
    cr_assert_str_eq(
        line, "x: refused, no node of 200 fits (200 by memory: m000 asks 128 MiB, 0 B free); "
              "smallest change: free 128 MiB on m000");
    zone_destroy(zone);
}

/* ---- drawn at random ---- */

/* One rule per line, so that a line can be left out; the last is there to keep the list a list. */
static const char *const random_policies[] = {
    "placement:\n  rules:\n",
    "capacity: {cpu_overcommit: 4.0, keep_free: {cpus: 5%, memory: 256MiB}}\n"
    "placement:\n  rules:\n",
    "placement:\n  strategy: pack\n  rules:\n"
    "    - {name: r1, when: labels.app == \"db\", apart: rack}\n",
    "classes: {default: {cpu: dedicated}}\nplacement:\n  strategy: balanced\n  rules:\n"
    "    - {name: r1, apart: node}\n"
    "    - {name: r2, require: node.rack != \"r1\"}\n"
    "    - {name: r3, when: labels.app == \"web\", spread: {over: rack, max_skew: 1}}\n",
    "placement:\n  rules:\n"
    "    - {name: r1, when: labels.app == \"web\", near: {group: labels.app == \"db\", within: "
    "rack}}\n"
    "    - {name: r2, spread: {over: node, max_skew: 1}}\n"
    "    - {name: r3, when: vcpus > 1, require: node.rack == \"r2\"}\n",
    "capacity: {cpu_overcommit: 2.0}\nplacement:\n  rules:\n"
    "    - {name: r1, when: labels.app == \"db\", apart: rack}\n",
};

struct random_policy {
    const char *base;
    uint64_t quota_cpus;
    uint64_t quota_memory;
    uint64_t quota_partitions;
};

static char *random_policy_text(const struct random_policy *policy)
{
    return vdc_asprintf("%s%s    - {name: last, prefer: {node: true, weight: 0}}\n"
                        "tenants: {acme: {quota: {cpus: %llu, memory: %lluB, partitions: %llu}}}\n",
                        HEAD, policy->base, (unsigned long long)policy->quota_cpus,
                        (unsigned long long)policy->quota_memory,
                        (unsigned long long)policy->quota_partitions);
}

static char random_names[ZONE_NODES_MAX + ZONE_PARTITIONS_MAX][24];

static struct vdc_policy_partition random_partition(struct zone *zone, struct vdc_prng *prng,
                                                    size_t number)
{
    static const char *const apps[] = {"db", "web", "other"};
    char *name = random_names[ZONE_NODES_MAX + number];
    snprintf(name, sizeof random_names[0], "p%zu", number);
    struct vdc_policy_partition partition =
        zone_partition(zone, name, apps[vdc_prng_below(prng, 3)]);
    partition.vcpus = (uint32_t)(1 + vdc_prng_below(prng, 4));
    partition.memory_bytes = (1 + vdc_prng_below(prng, 1500)) * MIB;
    partition.tenant = vdc_prng_below(prng, 2) == 0 ? "acme" : "";
    return partition;
}

static struct zone *random_zone(struct vdc_prng *prng, struct random_policy *policy)
{
    *policy = (struct random_policy){
        .base = random_policies[vdc_prng_below(prng, VDC_COUNT_OF(random_policies))],
        .quota_cpus = 4 + vdc_prng_below(prng, 20),
        .quota_memory = 4096 * MIB,
        .quota_partitions = 5};
    vdc_autofree char *text = random_policy_text(policy);
    struct zone *zone = zone_create(text);
    static const char *const racks[] = {"r1", "r2", "r3", ""};
    size_t nodes = 1 + vdc_prng_below(prng, 5);
    for (size_t i = 0; i < nodes; i++) {
        snprintf(random_names[i], sizeof random_names[i], "n%zu", i);
        struct vdc_policy_node *node =
            zone_add_node(zone, random_names[i], racks[vdc_prng_below(prng, 4)]);
        node->cpus = (uint32_t)(1 + vdc_prng_below(prng, 4));
        node->memory_bytes = (500 + vdc_prng_below(prng, 3000)) * MIB;
        node->state =
            (enum vdc_policy_node_state)(vdc_prng_below(prng, 4) > 0 ? 0 : vdc_prng_below(prng, 3));
    }
    size_t partitions = vdc_prng_below(prng, 8);
    for (size_t i = 0; i < partitions; i++) {
        struct vdc_policy_verdict verdict =
            zone_place(zone, VDC_POLICY_CREATE, random_partition(zone, prng, i), NULL);
        vdc_policy_verdict_deinit(&verdict);
    }
    return zone;
}

static char *text_of(const struct zone *zone, const struct vdc_policy_snapshot *snapshot,
                     const struct vdc_policy_request *request)
{
    struct vdc_policy_verdict verdict;
    vdc_policy_place(zone->policy, snapshot, request, &verdict);
    struct vdc_buf text = {0};
    vdc_policy_verdict_text(&verdict, &text);
    vdc_policy_changes_text(&verdict, &text);
    vdc_policy_verdict_deinit(&verdict);
    return vdc_buf_steal(&text);
}

Test(policy_place, the_order_of_the_snapshot_does_not_show)
{
    struct vdc_prng prng;
    vdc_prng_init(&prng, 1);
    for (int round = 0; round < 1000; round++) {
        struct random_policy policy;
        struct zone *zone = random_zone(&prng, &policy);
        struct vdc_policy_snapshot snapshot = zone_snapshot(zone);
        struct vdc_policy_request request = {.partition = random_partition(zone, &prng, 9)};
        vdc_autofree char *before = text_of(zone, &snapshot, &request);
        /* Swap nodes and partitions about, with the indices between them. */
        for (size_t i = 0; i < zone->node_count; i++) {
            size_t other = vdc_prng_below(&prng, zone->node_count);
            struct vdc_policy_node moved = zone->nodes[i];
            zone->nodes[i] = zone->nodes[other];
            zone->nodes[other] = moved;
            for (size_t p = 0; p < zone->partition_count; p++) {
                size_t *at = &zone->partitions[p].node;
                *at = *at == i ? other : *at == other ? i : *at;
            }
        }
        for (size_t i = 0; i < zone->partition_count; i++) {
            size_t other = vdc_prng_below(&prng, zone->partition_count);
            struct vdc_policy_partition moved = zone->partitions[i];
            zone->partitions[i] = zone->partitions[other];
            zone->partitions[other] = moved;
        }
        vdc_autofree char *after = text_of(zone, &snapshot, &request);
        cr_assert_str_eq(after, before);
        zone_destroy(zone);
    }
}

/* The policy's text with the change done in it: a rule's line left out, a quota raised. */
static void change_policy(struct zone *zone, struct random_policy *policy,
                          const struct vdc_policy_change *change)
{
    static char base[2048];
    if (change->kind == VDC_POLICY_CHANGE_DROP_RULE) {
        vdc_autofree char *mark = vdc_asprintf("    - {name: %s,", change->rule);
        const char *from = strstr(policy->base, mark);
        cr_assert_not_null(from);
        const char *behind = strchr(from, '\n') + 1;
        vdc_autofree char *rest = vdc_strdup(behind);
        vdc_autofree char *before = vdc_strdup(policy->base);
        before[from - policy->base] = 0;
        snprintf(base, sizeof base, "%s%s", before, rest);
        policy->base = base;
    } else if (strcmp(change->rule, "acme.cpus") == 0) {
        policy->quota_cpus = change->amount;
    } else if (strcmp(change->rule, "acme.memory") == 0) {
        policy->quota_memory = change->amount;
    } else {
        cr_assert_str_eq(change->rule, "acme.partitions");
        policy->quota_partitions = change->amount;
    }
    vdc_autofree char *text = random_policy_text(policy);
    struct vdc_diags diags = {0};
    vdc_policy_destroy(zone->policy);
    cr_assert_eq(vdc_policy_parse(text, strlen(text), &zone->policy, &diags), VDC_RC_OK);
    vdc_diags_deinit(&diags);
}

static void do_change(struct zone *zone, struct random_policy *policy,
                      struct vdc_policy_request *request, const struct vdc_policy_change *change)
{
    struct vdc_policy_node *node =
        change->node[0] != 0 ? &zone->nodes[zone_node(zone, change->node)] : NULL;
    uint64_t ratio = vdc_policy_settings(zone->policy)->cpu_overcommit_milli;
    switch (change->kind) {
    case VDC_POLICY_CHANGE_FREE_CPU:
        if (node->cpus_dedicated > 0) {
            node->cpus_dedicated -= (uint32_t)((change->amount + 999) / 1000);
        } else {
            node->cpu_shared_milli -=
                VDC_MIN(node->cpu_shared_milli, change->amount * ratio / 1000);
        }
        return;
    case VDC_POLICY_CHANGE_FREE_MEMORY:
        cr_assert_leq(change->amount, node->memory_used_bytes);
        node->memory_used_bytes -= change->amount;
        return;
    case VDC_POLICY_CHANGE_ASK_VCPUS:
        request->partition.vcpus = (uint32_t)change->amount;
        return;
    case VDC_POLICY_CHANGE_ASK_MEMORY:
        request->partition.memory_bytes = change->amount;
        return;
    case VDC_POLICY_CHANGE_OPEN_NODE:
        node->state = VDC_POLICY_NODE_USABLE;
        return;
    case VDC_POLICY_CHANGE_DROP_RULE:
    case VDC_POLICY_CHANGE_RAISE_QUOTA:
        change_policy(zone, policy, change);
        return;
    }
}

Test(policy_place, what_a_refusal_names_as_the_smallest_change_makes_it_succeed)
{
    struct vdc_prng prng;
    vdc_prng_init(&prng, 2);
    size_t refused = 0;
    size_t kinds[7] = {0};
    for (int round = 0; round < 3000; round++) {
        struct random_policy policy;
        struct zone *zone = random_zone(&prng, &policy);
        struct vdc_policy_snapshot snapshot = zone_snapshot(zone);
        struct vdc_policy_request request = {.partition = random_partition(zone, &prng, 9)};
        struct vdc_policy_verdict verdict;
        vdc_policy_place(zone->policy, &snapshot, &request, &verdict);
        if (!verdict.placed) {
            refused++;
            for (size_t i = 0; i < verdict.change_count; i++) {
                kinds[verdict.changes[i].kind]++;
                do_change(zone, &policy, &request, &verdict.changes[i]);
            }
            struct vdc_policy_verdict again;
            vdc_policy_place(zone->policy, &snapshot, &request, &again);
            vdc_autofree char *line = zone_line(verdict);
            vdc_autofree char *still = zone_line(again);
            cr_assert_eq(strstr(still, "refused"), NULL, "round %d\n%s\n%s", round, line, still);
            cr_assert_not_null(strstr(line, "smallest change: "), "round %d\n%s", round, line);
        } else {
            vdc_policy_verdict_deinit(&verdict);
        }
        zone_destroy(zone);
    }
    cr_assert_gt(refused, 500);
    for (size_t i = 0; i < VDC_COUNT_OF(kinds); i++) {
        cr_assert_gt(kinds[i], 10, "too few changes of kind %zu were drawn: %zu", i, kinds[i]);
    }
}
