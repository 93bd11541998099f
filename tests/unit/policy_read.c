/* SPDX-License-Identifier: Apache-2.0 */
/* Policy files with mistakes: exactly what is said, and where. */
#include <criterion/criterion.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/buf.h>
#include <vdc/policy_io.h>

#include "policy_support.h"

#define HEAD "apiVersion: vdc/v1\nkind: ZonePolicy\nzone: prod\nnodes: [{match: rack == \"r1\"}]\n"

struct mistake {
    const char *text; /* behind HEAD, so that it begins in line 5 */
    const char *expected;
};

static void expect_all(const struct mistake *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        vdc_autofree char *text = vdc_asprintf("%s%s", HEAD, cases[i].text);
        vdc_autofree char *said = policy_diagnostics(text);
        cr_expect_str_eq(said, cases[i].expected, "%s\nsaid:\n%s\nexpected:\n%s", cases[i].text,
                         said, cases[i].expected);
    }
}

Test(policy_read, the_example_has_no_mistakes)
{
    vdc_autofree char *text = read_test_file(VDC_EXAMPLE_POLICY);
    vdc_autofree char *said = policy_diagnostics(text);
    cr_assert_str_eq(said, "ok");
}

Test(policy_read, the_head_is_checked)
{
    static const struct mistake cases[] = {
        {"", "1:1: there is nothing in it\n"},
        {"[1]", "1:1: the file: expected a map, found a list\n"},
        {"a: 1",
         "1:1: apiVersion is missing\n1:1: kind is missing\n1:1: zone is missing\n1:1: nodes is "
         "missing\n1:1: unknown field \"a\"\n"},
        {"apiVersion: vdc/v2\nkind: Zone\nzone: Prod\nnodes: []\n",
         "1:13: apiVersion: expected vdc/v1, found \"vdc/v2\"\n"
         "2:7: kind: expected ZonePolicy, found \"Zone\"\n"
         "3:7: zone: \"Prod\" is no name: 1 to 63 of a-z, 0-9, '-' and '.', beginning and ending "
         "with a letter or digit\n"
         "4:8: nodes: a zone without nodes\n"},
    };
    for (size_t i = 0; i < VDC_COUNT_OF(cases); i++) {
        vdc_autofree char *said = policy_diagnostics(cases[i].text);
        cr_assert_str_eq(said, cases[i].expected);
    }
}

Test(policy_read, unknown_fields_are_named_with_the_nearest_known_one)
{
    static const struct mistake cases[] = {
        {"clases: {}\n", "5:1: unknown field \"clases\"; did you mean classes?\n"},
        {"zzz: {}\n", "5:1: unknown field \"zzz\"\n"},
        {"capacity: {cpu_overcomit: 2}\n",
         "5:12: capacity: unknown field \"cpu_overcomit\"; did you mean cpu_overcommit?\n"},
        {"classes:\n  gold: {priorty: 1}\n",
         "6:10: class gold: unknown field \"priorty\"; did you mean priority?\n"},
        {"placement:\n  rules:\n    - name: a\n      apart: rack\n      wen: x\n",
         "9:7: rule a: unknown field \"wen\"; did you mean when?\n"},
        {"tenants: {acme: {qouta: {}}}\n",
         "5:18: tenant acme: unknown field \"qouta\"; did you mean quota?\n"},
        {"migration: {band_width: 1}\n",
         "5:13: migration: unknown field \"band_width\"; did you mean bandwidth?\n"},
    };
    expect_all(cases, VDC_COUNT_OF(cases));
}

Test(policy_read, what_is_not_enforced_is_refused_by_name)
{
    static const struct mistake cases[] = {
        {"rebalance: {mode: propose}\n", "5:1: rebalance: not supported by this version\n"},
        {"rollout: {}\n", "5:1: rollout: not supported by this version\n"},
        {"capacity: {survive: []}\n", "5:12: capacity: survive: not supported by this version\n"},
        {"capacity: {memory_overcommit: 1.5}\n",
         "5:31: memory_overcommit: only 1.0 is supported by this version\n"},
        {"classes: {g: {memory: hugepages}}\n",
         "5:15: class g: memory: not supported by this version\n"},
        {"classes: {g: {cpu_shares: 2}}\n",
         "5:15: class g: cpu_shares: not supported by this version\n"},
        {"classes: {g: {io_paths: 2}}\n",
         "5:15: class g: io_paths: not supported by this version\n"},
        {"classes: {g: {preemptible: true}}\n",
         "5:15: class g: preemptible: not supported by this version\n"},
        {"placement: {weights: {network: 0.2}}\n",
         "5:23: weights: network: not supported by this version\n"},
        {"failover: {depends: []}\n", "5:12: failover: depends: not supported by this version\n"},
        {"failover: {order: [priority, restart_after]}\n",
         "5:30: failover: order: restart_after: not supported by this version\n"},
        {"migration: {per_node: 2, zone: 8}\n",
         "5:13: migration: per_node: not supported by this version\n"
         "5:26: migration: zone: not supported by this version\n"},
    };
    expect_all(cases, VDC_COUNT_OF(cases));
}

Test(policy_read, wrong_values_are_named)
{
    static const struct mistake cases[] = {
        {"capacity: {cpu_overcommit: 0.5}\n", "5:28: cpu_overcommit: from 1 to 64 is allowed\n"},
        {"capacity: {cpu_overcommit: four}\n",
         "5:28: cpu_overcommit: share \"four\" does not begin with a number\n"},
        {"capacity: {cpu_overcommit: {}}\n",
         "5:28: cpu_overcommit: expected a number such as 0.5 or 50%, found a map\n"},
        {"capacity: {cpu_overcommit: }\n",
         "5:28: cpu_overcommit: expected a number such as 0.5 or 50%, found nothing\n"},
        {"capacity: {keep_free: {cpus: 101%}}\n",
         "5:30: keep_free: cpus: \"101%\" is more than 100%\n"},
        {"capacity: {keep_free: {memory: 5XB}}\n",
         "5:32: keep_free: memory: size \"5XB\" has no unit that is known (known: B KiB MiB GiB "
         "TiB K M G T KB MB GB TB)\n"},
        {"capacity: 3\n", "5:11: capacity: expected a map, found a value\n"},
        {"classes: [gold]\n", "5:10: classes: expected a map, found a list\n"},
        {"classes: {gold: {priority: 2000}}\n",
         "5:28: class gold: priority: expected a whole number from 0 to 1000, found \"2000\"\n"},
        {"classes: {gold: {cpu: dedicatd}}\n",
         "5:23: class gold: cpu: expected shared or dedicated, found \"dedicatd\"\n"},
        {"classes: {gold: {preemptible: maybe}}\n",
         "5:31: class gold: preemptible: expected true or false, found \"maybe\"\n"},
        {"classes: {Gold: {}}\n", "5:11: class Gold: that is no name\n"},
        {"placement: {strategy: sprad}\n",
         "5:23: strategy: expected spread, pack or balanced, found \"sprad\"\n"},
        {"placement: {weights: {cpu: 1001}}\n", "5:28: weights: cpu: at most 1000 is allowed\n"},
        {"failover: {lease: 4}\n",
         "5:19: failover: lease: duration \"4\" has no unit that is known (known: ns us ms s m h "
         "d)\n"},
        {"failover: {lease: 10ms}\n",
         "5:19: failover: lease: \"10ms\" is not from 1 s to 600 s in whole milliseconds\n"},
        {"migration: {downtime: 1500us}\n",
         "5:23: migration: downtime: \"1500us\" is not from 1 ms to 60 s in whole milliseconds\n"},
        {"migration: {bandwidth: fast}\n",
         "5:24: migration: bandwidth: rate \"fast\" does not begin with a number\n"},
    };
    expect_all(cases, VDC_COUNT_OF(cases));
}

Test(policy_read, nodes_are_checked)
{
    static const struct {
        const char *nodes;
        const char *expected;
    } cases[] = {
        {"[{}]", "4:9: nodes: match is missing\n"},
        {"[{match: rak == \"r1\"}]", "4:17: match: unknown attribute rak; did you mean rack?\n"},
        {"[{match: 'rak == \"r1\"'}]", "4:18: match: unknown attribute rak; did you mean rack?\n"},
        {"[{match: \"rak == \\\"r1\\\"\"}]",
         "4:17: match: unknown attribute rak; did you mean rack?\n"},
        {"[{match: rack == \"\xc3\xa4\xc3\xb6\" && rak == \"r1\"}]",
         "4:33: match: unknown attribute rak; did you mean rack?\n"},
        {"[{match: partition.name == \"x\"}]",
         "4:17: match: partition cannot be used here, only node\n"},
        {"[{match: true, share: {cpus: 1.5}}]", "4:37: share: cpus: a zone gets whole CPUs\n"},
        {"[{match: true, share: {disk: 1}}]", "4:31: share: unknown field \"disk\"\n"},
    };
    for (size_t i = 0; i < VDC_COUNT_OF(cases); i++) {
        vdc_autofree char *text = vdc_asprintf(
            "apiVersion: vdc/v1\nkind: ZonePolicy\nzone: prod\nnodes: %s\n", cases[i].nodes);
        vdc_autofree char *said = policy_diagnostics(text);
        cr_expect_str_eq(said, cases[i].expected, "%s\nsaid:\n%s\nexpected:\n%s", cases[i].nodes,
                         said, cases[i].expected);
    }
}

#define RULES "placement:\n  rules:\n"

Test(policy_read, rules_are_checked)
{
    static const struct mistake cases[] = {
        {RULES "    - apart: rack\n", "7:7: rule 1: name is missing\n"},
        {RULES "    - name: a\n",
         "7:7: rule a: needs one of apart, spread, near, require or prefer\n"},
        {RULES "    - name: a\n      apart: rak\n",
         "8:14: rule a: apart: expected rack or node, found \"rak\"\n"},
        {RULES "    - {name: a, apart: rack, require: true}\n",
         "7:30: rule a: require beside apart; a rule says one thing\n"},
        {RULES "    - {name: a, apart: rack, soft: true}\n",
         "7:30: rule a: a soft rule needs a weight\n"},
        {RULES "    - {name: a, apart: rack, weight: 3}\n",
         "7:30: rule a: a hard rule has no weight; write soft: true beside it\n"},
        {RULES "    - {name: a, apart: rack}\n    - {name: a, apart: node}\n",
         "8:14: rule a: there is a rule of that name at line 7\n"},
        {RULES "    - {name: a, when: node.rack == \"r1\", apart: rack}\n",
         "7:23: rule a: when: node cannot be used here, only partition\n"},
        {RULES "    - name: a\n      when: partition.labels.app = \"db\"\n      apart: rack\n",
         "8:34: rule a: when: \"=\": did you mean \"==\"?\n"},
        {RULES "    - {name: a, spread: {over: rack}}\n", "7:25: rule a: max_skew is missing\n"},
        {RULES "    - {name: a, spread: {over: rack, max_skew: 0}}\n",
         "7:48: spread: max_skew: expected a whole number from 1 to 1000000, found \"0\"\n"},
        {RULES "    - {name: a, near: {group: name == \"x\", within: rck}}\n",
         "7:52: near: within: expected rack or node, found \"rck\"\n"},
        {RULES "    - {name: a, require: node.labels.x == \"y\", soft: true}\n",
         "7:7: rule a: require is always hard; write prefer instead\n"},
        {RULES "    - {name: a, prefer: {node: true}}\n", "7:25: rule a: weight is missing\n"},
        {RULES "    - 3\n", "7:7: rule 1: expected a map, found a value\n"},
    };
    expect_all(cases, VDC_COUNT_OF(cases));
}

Test(policy_read, rules_that_contradict_each_other_are_refused_with_both_lines)
{
    static const struct mistake cases[] = {
        {RULES "    - {name: together, when: class == \"a\", near: {group: class == \"a\", within: "
               "rack}}\n    - {name: apart, when: class == \"a\", apart: rack}\n",
         "7:14: rule together keeps together what rule apart at line 8 keeps apart\n"},
        {RULES "    - {name: together, near: {group: class == \"a\", within: node}}\n"
               "    - {name: apart, apart: node}\n",
         "7:14: rule together keeps together what rule apart at line 8 keeps apart\n"},
        /* One rack has several nodes: both can hold. */
        {RULES "    - {name: together, near: {group: class == \"a\", within: rack}}\n"
               "    - {name: apart, apart: node}\n",
         "ok"},
        {RULES "    - {name: together, near: {group: class == \"a\", within: node, soft: true, "
               "weight: 1}}\n    - {name: apart, apart: node}\n",
         "ok"},
    };
    expect_all(cases, VDC_COUNT_OF(cases));
}

Test(policy_read, classes_that_nobody_defined_are_refused)
{
    static const struct mistake cases[] = {
        {"classes: {gold: {}}\ntenants: {acme: {classes: [gold, gould]}}\n",
         "6:34: tenant acme: classes: there is no class \"gould\"; did you mean gold?\n"},
        {"tenants: {acme: {classes: [gold]}}\n",
         "5:28: tenant acme: classes: there is no class \"gold\"\n"},
    };
    expect_all(cases, VDC_COUNT_OF(cases));
}

Test(policy_read, a_duplicate_key_is_refused_with_both_places_and_the_rest_is_read_on)
{
    static const struct mistake cases[] = {
        {"classes:\n  gold: {}\n  silver: {}\n  gold: {cpu: fast}\n",
         "8:3: duplicate key \"gold\", given before at line 6, column 3\n"
         "8:15: class gold: cpu: expected shared or dedicated, found \"fast\"\n"},
        {"zone: other\n", "5:1: duplicate key \"zone\", given before at line 3, column 1\n"},
        {"failover: {lease: 4s, lease: 4s, lease: 4s}\n",
         "5:23: duplicate key \"lease\", given before at line 5, column 12\n"
         "5:34: duplicate key \"lease\", given before at line 5, column 12\n"},
    };
    expect_all(cases, VDC_COUNT_OF(cases));
}

Test(policy_read, all_mistakes_are_shown_up_to_a_bound)
{
    struct vdc_buf text = {0};
    vdc_buf_puts(&text, HEAD);
    for (int i = 0; i < VDC_DIAGS_MAX + 7; i++) {
        vdc_buf_printf(&text, "x%d: 1\n", i);
    }
    vdc_autofree char *said = policy_diagnostics(vdc_buf_text(&text));
    vdc_buf_deinit(&text);
    cr_assert_not_null(strstr(said, "54:1: unknown field \"x49\"\n... and 7 more\n"), "%s", said);
}

Test(policy_read, the_first_mistake_becomes_an_error_of_one_line)
{
    struct vdc_diags diags = {.source = "prod.yaml"};
    struct vdc_policy *policy;
    static const char text[] = "a: 1";
    cr_assert_eq(vdc_policy_parse(text, strlen(text), &policy, &diags), VDC_RC_INVALID);
    struct vdc_err err = {0};
    cr_assert_eq(vdc_diags_to_err(&diags, &err), VDC_RC_INVALID);
    cr_assert_str_eq(vdc_err_text(&err), "prod.yaml:1:1: apiVersion is missing (and 4 more)");
    json_t *json = vdc_diags_json(&diags);
    vdc_autofree char *dump = json_dumps(json_array_get(json, 0), JSON_SORT_KEYS);
    cr_assert_str_eq(dump, "{\"column\": 1, \"line\": 1, \"message\": \"apiVersion is missing\"}");
    json_decref(json);
    vdc_diags_deinit(&diags);
}

Test(policy_read, settings_have_the_values_of_the_file)
{
    vdc_autofree char *text = read_test_file(VDC_EXAMPLE_POLICY);
    struct zone *zone = zone_create(text);
    const struct vdc_policy_settings *settings = vdc_policy_settings(zone->policy);
    cr_assert_str_eq(settings->zone, "prod");
    cr_assert_eq(settings->cpu_overcommit_milli, 4000);
    cr_assert_eq(settings->lease_ms, 4000);
    cr_assert_eq(settings->storm_brake_milli, 300);
    cr_assert_eq(settings->migration_bandwidth, 125000000);
    cr_assert_eq(settings->migration_downtime_ms, 300);
    cr_assert_eq(settings->migration_timeout_ms, 120000);
    cr_assert_eq(vdc_policy_class_count(zone->policy), 3);
    const struct vdc_policy_class *gold = vdc_policy_class_find(zone->policy, "gold");
    cr_assert_eq(gold, vdc_policy_class_at(zone->policy, 0));
    cr_assert_eq(gold->priority, 100);
    cr_assert(gold->failover_restart);
    cr_assert_not(vdc_policy_class_find(zone->policy, "batch")->failover_restart);
    cr_assert_null(vdc_policy_class_find(zone->policy, "bronze"));
    cr_assert_null(vdc_policy_class_find(zone->policy, ""));
    zone_destroy(zone);
}

Test(policy_read, without_classes_there_is_a_built_in_one)
{
    struct zone *zone = zone_create(HEAD);
    const struct vdc_policy_class *found = vdc_policy_class_find(zone->policy, "");
    cr_assert_str_eq(found->name, "default");
    cr_assert(found->failover_restart);
    cr_assert_eq(vdc_policy_class_find(zone->policy, "default"), found);
    cr_assert_null(vdc_policy_class_find(zone->policy, "gold"));
    zone_destroy(zone);
}
