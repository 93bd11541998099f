/* SPDX-License-Identifier: Apache-2.0 */
/* The example policy through the whole story that deploy/quickstart tells, decision by decision. */
#include <criterion/criterion.h>
#include <string.h>

#include <vdc/base.h>

#include "policy_support.h"

static struct zone *lab(void)
{
    vdc_autofree char *text = read_test_file(VDC_EXAMPLE_POLICY);
    struct zone *zone = zone_create(text);
    static const char *const names[][2] = {{"n1", "r1"}, {"n2", "r2"}, {"n3", "r3"}, {"n4", "r3"}};
    for (size_t i = 0; i < VDC_COUNT_OF(names); i++) {
        zone_add_node(zone, names[i][0], names[i][1]);
    }
    return zone;
}

static void expect_line(struct vdc_policy_verdict verdict, const char *expected)
{
    vdc_autofree char *line = zone_line(verdict);
    cr_assert_str_eq(line, expected);
}

static struct vdc_policy_partition partition(struct zone *zone, const char *name, const char *app,
                                             const char *class_name)
{
    struct vdc_policy_partition made = zone_partition(zone, name, app);
    made.class_name = class_name;
    return made;
}

static void create_all(struct zone *zone)
{
    expect_line(zone_place(zone, VDC_POLICY_CREATE, partition(zone, "db-1", "db", "gold"), NULL),
                "db-1: placed on n1 (rack r1), score 91.754; next n2 91.754");
    expect_line(zone_place(zone, VDC_POLICY_CREATE, partition(zone, "db-2", "db", "gold"), NULL),
                "db-2: placed on n2 (rack r2), score 91.754; next n3 91.754; 1 of 4 nodes rejected "
                "(1 by rule db-apart)");
    expect_line(zone_place(zone, VDC_POLICY_CREATE, partition(zone, "db-3", "db", "gold"), NULL),
                "db-3: placed on n3 (rack r3), score 91.754; next n4 91.754; 2 of 4 nodes rejected "
                "(2 by rule db-apart)");
    expect_line(zone_place(zone, VDC_POLICY_CREATE, partition(zone, "web", "web", "silver"), NULL),
                "web: placed on n4 (rack r3), score 111.754; next n1 103.508");
}

Test(policy_quickstart, the_fourth_db_is_refused_with_the_rule_and_the_racks_named)
{
    struct zone *zone = lab();
    create_all(zone);
    expect_line(zone_place(zone, VDC_POLICY_CREATE, partition(zone, "db-4", "db", "gold"), NULL),
                "db-4: refused, no node of 4 fits (4 by rule db-apart: rack r1 holds db-1, rack r2 "
                "holds db-2, rack r3 holds db-3); smallest change: drop hard rule db-apart");
    zone_destroy(zone);
}

Test(policy_quickstart, web_moves_to_the_node_of_a_db_and_survives_its_death)
{
    struct zone *zone = lab();
    create_all(zone);
    struct vdc_policy_partition web = partition(zone, "web", "web", "silver");
    struct vdc_policy_partition db = partition(zone, "db-3", "db", "gold");
    expect_line(zone_place(zone, VDC_POLICY_MIGRATE, web, "n3"),
                "web: placed on n3 (rack r3), score 103.508");

    struct vdc_policy_node *dead = &zone->nodes[zone_node(zone, "n3")];
    dead->state = VDC_POLICY_NODE_LOST;
    dead->why_not = "fenced";
    size_t order[2] = {3, 2}; /* web, db-3 */
    struct vdc_policy_snapshot snapshot = zone_snapshot(zone);
    vdc_policy_failover_order(zone->policy, &snapshot, order, 2);
    cr_assert_str_eq(zone->partitions[order[0]].name, "db-3");

    expect_line(zone_place(zone, VDC_POLICY_FAILOVER, db, NULL),
                "db-3: placed on n4 (rack r3), score 91.754; 3 of 4 nodes rejected (2 by rule "
                "db-apart; 1 by not usable)");
    vdc_autofree char *line = zone_line(zone_place(zone, VDC_POLICY_FAILOVER, web, NULL));
    cr_assert_eq(strncmp(line, "web: placed on n1 (rack r1)", 27), 0, "%s", line);
    zone_destroy(zone);
}
