/* SPDX-License-Identifier: Apache-2.0 */
/* Expressions: what they mean, and what is said about those that mean nothing. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/buf.h>
#include <vdc/expr.h>
#include <vdc/policy.h>

#define BOTH (VDC_EXPR_NODE | VDC_EXPR_PARTITION)

static const struct vdc_policy_label node_labels[] = {{"tier", "compute"}, {"empty", ""}};
static const struct vdc_policy_label partition_labels[] = {{"app", "db"},
                                                           {"example.org/role", "primary"}};
static const struct vdc_policy_node node = {.name = "n1",
                                            .rack = "r1",
                                            .labels = node_labels,
                                            .label_count = 2,
                                            .cpu_model = "",
                                            .accelerator = "kvm",
                                            .numa_nodes = 2,
                                            .cpus = 8,
                                            .memory_bytes = UINT64_C(64) << 30};
static const struct vdc_policy_partition partition = {.name = "db-1",
                                                      .tenant = "",
                                                      .class_name = "gold",
                                                      .labels = partition_labels,
                                                      .label_count = 2,
                                                      .vcpus = 4,
                                                      .memory_bytes = UINT64_C(8) << 30};

static bool value_of(const char *text, unsigned subjects)
{
    struct vdc_expr *expr;
    struct vdc_expr_error error;
    enum vdc_rc rc = vdc_expr_compile(text, strlen(text), subjects, &expr, &error);
    cr_assert_eq(rc, VDC_RC_OK, "%s: %zu: %s", text, error.offset, error.text);
    bool value = vdc_expr_eval(expr, &node, &partition);
    vdc_expr_destroy(expr);
    return value;
}

/* "OFFSET: sentence" */
static char *error_of(const char *text, unsigned subjects)
{
    struct vdc_expr *expr;
    struct vdc_expr_error error;
    enum vdc_rc rc = vdc_expr_compile(text, strlen(text), subjects, &expr, &error);
    cr_assert_neq(rc, VDC_RC_OK, "%s", text);
    cr_assert_null(expr);
    return vdc_asprintf("%zu: %s", error.offset, error.text);
}

Test(policy_expr, true_expressions_are_true)
{
    static const char *const texts[] = {
        "node.rack == \"r1\"",
        "node.rack == 'r1'",
        "node.rack != \"r2\"",
        "node.rack in [\"r0\", \"r1\"]",
        "node.rack < \"r2\" && node.rack >= \"r1\"",
        "node.cpus == 8",
        "node.cpus > 7.5",
        "8 == node.cpus",
        "node.cpus in [4, 8]",
        "node.memory >= 64GiB && node.memory <= 65536MiB",
        "partition.memory < node.memory",
        "partition.vcpus <= node.cpus",
        "partition.name != partition.class",
        "node.labels.tier == \"compute\"",
        "node.labels[\"tier\"] == \"compute\"",
        "partition.labels[\"example.org/role\"] == \"primary\"",
        "has(node.labels.tier)",
        "has(node.labels.empty)",
        "!has(node.labels.missing)",
        "!has(node.cpu_model)",
        "!has(partition.tenant)",
        "has(node.cpus)",
        "node.labels.missing != \"x\"",
        "true || false",
        "false && false || true",
        "true || false && false",
        "!(true && false)",
        "!!true",
        "((((node.name == \"n1\"))))",
        "  node.name\t==\n\"n1\"  ",
    };
    for (size_t i = 0; i < VDC_COUNT_OF(texts); i++) {
        cr_assert(value_of(texts[i], BOTH), "%s", texts[i]);
    }
}

Test(policy_expr, false_expressions_are_false)
{
    static const char *const texts[] = {
        "node.rack == \"r2\"",
        "node.rack in [\"r2\"]",
        "node.cpus < 8",
        "node.labels.missing == \"\"",
        "node.labels.missing < \"x\"",
        "node.labels.missing >= \"\"",
        "node.labels.missing in [\"x\"]",
        "has(node.labels.missing)",
        "false || false",
        "!(node.name == \"n1\" || partition.name == \"x\")",
        "partition.name == \"db\\\\1\"",
    };
    for (size_t i = 0; i < VDC_COUNT_OF(texts); i++) {
        cr_assert_not(value_of(texts[i], BOTH), "%s", texts[i]);
    }
}

Test(policy_expr, with_one_subject_its_name_may_be_left_out)
{
    cr_assert(value_of("rack == \"r1\" && labels.tier == \"compute\"", VDC_EXPR_NODE));
    cr_assert(value_of("class == \"gold\" && vcpus == 4", VDC_EXPR_PARTITION));
}

Test(policy_expr, mistakes_are_named_with_their_place)
{
    static const struct {
        const char *text;
        unsigned subjects;
        const char *expected;
    } cases[] = {
        {"", BOTH, "0: an empty expression"},
        {"   ", BOTH, "0: an empty expression"},
        {"node.rak == \"r1\"", BOTH, "5: unknown attribute node.rak; did you mean node.rack?"},
        {"node.colour == \"r1\"", BOTH,
         "5: unknown attribute node.colour (known: name rack labels numa_nodes cpus memory "
         "cpu_model accelerator)"},
        {"partition.vcpu > 1", BOTH,
         "10: unknown attribute partition.vcpu; did you mean partition.vcpus?"},
        {"rak == \"r1\"", VDC_EXPR_NODE, "0: unknown attribute rak; did you mean rack?"},
        {"rack == \"r1\"", BOTH,
         "0: \"rack\" is not known; attributes are written node.NAME or partition.NAME, strings in "
         "quotes"},
        {"partition.name == \"x\"", VDC_EXPR_NODE, "0: partition cannot be used here, only node"},
        {"node.name == \"x\"", VDC_EXPR_PARTITION, "0: node cannot be used here, only partition"},
        {"node.rack = \"r1\"", BOTH, "10: \"=\": did you mean \"==\"?"},
        {"has(node.rack) & true", BOTH, "15: \"&\": did you mean \"&&\"?"},
        {"has(node.rack) and true", BOTH, "15: \"and\": write &&"},
        {"has(node.rack) true", BOTH, "15: expected && or || or the end"},
        {"node.rack == 3", BOTH, "13: compares a string with a number; put it in quotes"},
        {"node.memory > 3", BOTH,
         "14: compares a size with a number; write a unit behind it, such as GiB"},
        {"node.cpus > 3GiB", BOTH, "12: compares a number with a size"},
        {"node.cpus > 3s", BOTH, "12: compares a number with a duration"},
        {"3 == 3", BOTH, "0: compares two constants"},
        {"3 in [3]", BOTH, "0: expected an attribute before \"in\""},
        {"node.cpus in []", BOTH, "14: expected an attribute or a constant"},
        {"node.cpus in [3", BOTH, "15: expected \"]\" at the end of the list"},
        {"node.cpus in [node.cpus]", BOTH, "14: a list holds constants only"},
        {"node.cpus in [\"3\"]", BOTH, "14: compares a number with a string"},
        {"node.cpus", BOTH, "9: expected a comparison (== != < <= > >= in)"},
        {"node", BOTH, "4: expected \".\" and an attribute's name"},
        {"node.", BOTH, "5: expected an attribute's name behind \"node.\""},
        {"node.labels == \"x\"", BOTH, "12: expected labels.KEY or labels[\"KEY\"]"},
        {"node.labels[tier] == \"x\"", BOTH, "12: expected a label's key in quotes"},
        {"node.labels. == \"x\"", BOTH,
         "12: expected a label's key of 1 to 63 letters, digits, '_' or '-'"},
        {"(node.cpus == 1", BOTH, "15: expected \")\" to close the parenthesis"},
        {"node.cpus == ", BOTH, "13: it ends where an attribute or a constant is due"},
        {"node.rack == \"r1", BOTH, "13: a string that does not end"},
        {"node.rack == \"r\\1\"", BOTH, "15: only \\\\ and \\\" are known after a backslash"},
        {"node.cpus == 4x", BOTH,
         "13: \"4x\" is no number, size (KiB MiB GiB TiB K M G T) or duration (ms s m h d)"},
        {"node.cpus == 1.2345", BOTH, "13: share \"1.2345\" is no whole number of base units"},
        {"has(3)", BOTH, "4: has() takes an attribute"},
        {"has node.cpus", BOTH, "4: expected \"(\" behind \"has\""},
        {"node.rack == \"r1\" $", BOTH, "18: \"$\" is not known here"},
        {"node.rack == r1", VDC_EXPR_NODE,
         "13: unknown attribute r1 (known: name rack labels numa_nodes cpus memory cpu_model "
         "accelerator)"},
    };
    for (size_t i = 0; i < VDC_COUNT_OF(cases); i++) {
        vdc_autofree char *said = error_of(cases[i].text, cases[i].subjects);
        cr_expect_str_eq(said, cases[i].expected, "%s\n  said:     %s\n  expected: %s",
                         cases[i].text, said, cases[i].expected);
    }
}

Test(policy_expr, every_limit_has_its_answer)
{
    struct vdc_buf text = {0};
    for (int i = 0; i < VDC_EXPR_DEPTH_MAX; i++) {
        vdc_buf_puts(&text, "(");
    }
    vdc_buf_puts(&text, "true");
    vdc_autofree char *deep = error_of(vdc_buf_text(&text), BOTH);
    cr_assert_str_eq(deep, "32: nested too deeply, at most 32 levels are allowed");

    vdc_buf_clear(&text);
    for (int i = 0; i < VDC_EXPR_OPS_MAX / 2; i++) {
        vdc_buf_puts(&text, "true||");
    }
    vdc_buf_puts(&text, "true");
    vdc_autofree char *many = error_of(vdc_buf_text(&text), BOTH);
    cr_assert_not_null(strstr(many, "more than 256 comparisons and operators"), "%s", many);

    vdc_buf_clear(&text);
    for (int i = 0; i <= VDC_EXPR_TEXT_MAX; i++) {
        vdc_buf_puts(&text, " ");
    }
    vdc_autofree char *large = error_of(vdc_buf_text(&text), BOTH);
    cr_assert_str_eq(large, "0: 2049 bytes, at most 2048 are allowed");
    vdc_buf_deinit(&text);
}

Test(policy_expr, the_deepest_expression_that_is_allowed_evaluates)
{
    /* Pending left sides of || and && at each level: the stack's worst case. */
    struct vdc_buf text = {0};
    for (int i = 1; i < VDC_EXPR_DEPTH_MAX; i++) {
        vdc_buf_puts(&text, "false || true && (");
    }
    vdc_buf_puts(&text, "true");
    for (int i = 1; i < VDC_EXPR_DEPTH_MAX; i++) {
        vdc_buf_puts(&text, ")");
    }
    cr_assert(value_of(vdc_buf_text(&text), BOTH));
    vdc_buf_deinit(&text);
}

Test(policy_expr, it_says_which_subjects_it_mentions)
{
    struct vdc_expr *expr;
    struct vdc_expr_error error;
    static const char text[] = "node.cpus > 2";
    cr_assert_eq(vdc_expr_compile(text, strlen(text), BOTH, &expr, &error), VDC_RC_OK);
    cr_assert_eq(vdc_expr_subjects(expr), VDC_EXPR_NODE);
    cr_assert_str_eq(vdc_expr_text(expr), text);
    cr_assert(vdc_expr_eval(expr, &node, NULL));
    vdc_expr_destroy(expr);
}
