/* SPDX-License-Identifier: Apache-2.0 */
/* Values of base: quantities, ids, names, numbers, checksums, random numbers, instants. */
#include <criterion/criterion.h>
#include <string.h>

#include <vdc/base.h>
#include <vdc/crc32c.h>
#include <vdc/id.h>
#include <vdc/limits.h>
#include <vdc/prng.h>
#include <vdc/quantity.h>
#include <vdc/time.h>

/* ---- quantities ---- */

Test(base_values, sizes_are_read_exactly)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"0", 0},
        {"1", 1},
        {"7B", 7},
        {"1KiB", 1024},
        {"1.5KiB", 1536},
        {"64GiB", UINT64_C(64) << 30},
        {"2 MiB", UINT64_C(2) << 20},
        {"1TiB", UINT64_C(1) << 40},
        {"1K", 1000},
        {"1.25MB", 1250000},
        {"2G", 2000000000},
        {"1T", 1000000000000},
        {"0.5KiB", 512},
    };
    for (size_t i = 0; i < VDC_COUNT_OF(cases); i++) {
        uint64_t bytes = 99;
        struct vdc_err err = {0};
        cr_expect_eq(vdc_quantity_bytes(cases[i].text, &bytes, &err), VDC_RC_OK, "%s: %s",
                     cases[i].text, vdc_err_text(&err));
        cr_expect_eq(bytes, cases[i].bytes, "%s", cases[i].text);
    }
}

Test(base_values, sizes_that_are_none_are_refused_and_change_nothing)
{
    static const char *const texts[] = {
        "",          "GiB",     "-1",   "+1",     "1.",
        "1..5",      ".5",      "1XiB", "0.1GiB", "1.2",
        "1kb",       "1 GiB x", "0x10", "1e3",    "9999999999999999999",
        "9000000TiB"};
    for (size_t i = 0; i < VDC_COUNT_OF(texts); i++) {
        uint64_t bytes = 99;
        struct vdc_err err = {0};
        enum vdc_rc rc = vdc_quantity_bytes(texts[i], &bytes, &err);
        cr_expect_eq(rc, VDC_RC_INVALID, "%s", texts[i]);
        cr_expect_eq(bytes, 99, "%s", texts[i]);
        cr_expect_neq(err.text[0], 0, "%s", texts[i]);
    }
}

Test(base_values, durations_shares_and_rates_are_read_exactly)
{
    int64_t ns = 0;
    cr_expect_eq(vdc_quantity_duration("4s", &ns, NULL), VDC_RC_OK);
    cr_expect_eq(ns, 4 * VDC_SECOND);
    cr_expect_eq(vdc_quantity_duration("1.5h", &ns, NULL), VDC_RC_OK);
    cr_expect_eq(ns, 5400 * VDC_SECOND);
    cr_expect_eq(vdc_quantity_duration("50ms", &ns, NULL), VDC_RC_OK);
    cr_expect_eq(ns, 50 * VDC_MS);
    cr_expect_eq(vdc_quantity_duration("4", &ns, NULL), VDC_RC_INVALID);
    cr_expect_eq(vdc_quantity_duration("0.5ns", &ns, NULL), VDC_RC_INVALID);

    uint64_t value = 0;
    cr_expect_eq(vdc_quantity_milli("5%", &value, NULL), VDC_RC_OK);
    cr_expect_eq(value, 50);
    cr_expect_eq(vdc_quantity_milli("0.05", &value, NULL), VDC_RC_OK);
    cr_expect_eq(value, 50);
    cr_expect_eq(vdc_quantity_milli("4.0", &value, NULL), VDC_RC_OK);
    cr_expect_eq(value, 4000);
    cr_expect_eq(vdc_quantity_milli("0.0005", &value, NULL), VDC_RC_INVALID);

    cr_expect_eq(vdc_quantity_rate("1Gbit/s", &value, NULL), VDC_RC_OK);
    cr_expect_eq(value, 125000000);
    cr_expect_eq(vdc_quantity_rate("100MiB/s", &value, NULL), VDC_RC_OK);
    cr_expect_eq(value, UINT64_C(100) << 20);
    cr_expect_eq(vdc_quantity_rate("1bit/s", &value, NULL), VDC_RC_INVALID);
}

Test(base_values, quantities_are_shown_short)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes[] = {{0, "0 B"},
                 {1023, "1023 B"},
                 {1024, "1 KiB"},
                 {1536, "1.5 KiB"},
                 {UINT64_C(128) << 20, "128 MiB"},
                 {UINT64_C(3) << 39, "1.5 TiB"}};
    char text[VDC_QUANTITY_TEXT_CAP];
    for (size_t i = 0; i < VDC_COUNT_OF(sizes); i++) {
        vdc_quantity_bytes_text(sizes[i].bytes, text);
        cr_expect_str_eq(text, sizes[i].text);
    }
    vdc_quantity_duration_text(3 * VDC_MS, text);
    cr_expect_str_eq(text, "3 ms");
    vdc_quantity_duration_text(0, text);
    cr_expect_str_eq(text, "0 ns");
}

/* ---- ids, names, numbers ---- */

Test(base_values, an_id_survives_its_text)
{
    struct vdc_prng prng;
    vdc_prng_init(&prng, 7);
    for (int i = 0; i < 100; i++) {
        struct vdc_id id = vdc_id_make(&prng);
        char text[VDC_ID_TEXT_CAP];
        vdc_id_to_text(&id, text);
        cr_expect_eq(strlen(text), 36);
        cr_expect_eq(text[14], '4', "version 4: %s", text);
        cr_expect_not_null(strchr("89ab", text[19]), "variant: %s", text);
        struct vdc_id back;
        cr_expect(vdc_id_from_text(text, &back));
        cr_expect(vdc_id_equal(&id, &back));
        cr_expect_not(vdc_id_is_none(&id));
    }
}

Test(base_values, texts_that_are_no_ids_are_refused)
{
    static const char *const texts[] = {"",
                                        "0",
                                        "01234567-89ab-4def-8123-456789abcde",
                                        "01234567-89ab-4def-8123-456789abcdef0",
                                        "01234567+89ab-4def-8123-456789abcdef",
                                        "0123456g-89ab-4def-8123-456789abcdef",
                                        "0123456789ab-4def-8123-456789abcdef-"};
    for (size_t i = 0; i < VDC_COUNT_OF(texts); i++) {
        struct vdc_id id;
        cr_expect_not(vdc_id_from_text(texts[i], &id), "%s", texts[i]);
        cr_expect(vdc_id_is_none(&id));
    }
    struct vdc_id lower;
    struct vdc_id upper;
    cr_expect(vdc_id_from_text("01234567-89ab-4def-8123-456789abcdef", &lower));
    cr_expect(vdc_id_from_text("01234567-89AB-4DEF-8123-456789ABCDEF", &upper));
    cr_expect_eq(vdc_id_compare(&lower, &upper), 0);
}

Test(base_values, names_are_what_paths_and_dns_take)
{
    char longest[VDC_NAME_CAP + 1];
    memset(longest, 'a', sizeof longest);
    longest[VDC_NAME_MAX] = 0;
    cr_expect(vdc_name_valid(longest));
    longest[VDC_NAME_MAX] = 'a';
    longest[VDC_NAME_MAX + 1] = 0;
    cr_expect_not(vdc_name_valid(longest));
    static const char *const good[] = {"a", "0", "web-3", "a.b", "r1"};
    static const char *const bad[] = {"", "A", "-a", "a-", ".a", "a/b", "a b", "a_b", "\xc3\xa4"};
    for (size_t i = 0; i < VDC_COUNT_OF(good); i++) {
        cr_expect(vdc_name_valid(good[i]), "%s", good[i]);
    }
    for (size_t i = 0; i < VDC_COUNT_OF(bad); i++) {
        cr_expect_not(vdc_name_valid(bad[i]), "%s", bad[i]);
    }
}

Test(base_values, whole_numbers_are_read_to_their_bound)
{
    uint64_t value = 5;
    cr_expect(vdc_parse_u64("18446744073709551615", UINT64_MAX, &value));
    cr_expect_eq(value, UINT64_MAX);
    static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "1.0", "18446744073709551616"};
    for (size_t i = 0; i < VDC_COUNT_OF(bad); i++) {
        cr_expect_not(vdc_parse_u64(bad[i], UINT64_MAX, &value), "%s", bad[i]);
    }
    cr_expect(vdc_parse_u64("007", 7, &value));
    cr_expect_not(vdc_parse_u64("8", 7, &value));
    cr_expect_eq(value, 7);
}

Test(base_values, a_copy_that_does_not_fit_leaves_nothing)
{
    char text[4];
    cr_expect(vdc_str_copy(text, sizeof text, "abc"));
    cr_expect_str_eq(text, "abc");
    cr_expect_not(vdc_str_copy(text, sizeof text, "abcd"));
    cr_expect_str_eq(text, "");
}

/* ---- checksums, random numbers ---- */

Test(base_values, crc32c_gives_the_vectors_of_rfc_3720)
{
    uint8_t data[48];
    memset(data, 0, 32);
    cr_expect_eq(vdc_crc32c(0, data, 32), 0x8a9136aa);
    memset(data, 0xff, 32);
    cr_expect_eq(vdc_crc32c(0, data, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++) {
        data[i] = (uint8_t)i;
    }
    cr_expect_eq(vdc_crc32c(0, data, 32), 0x46dd794e);
    for (int i = 0; i < 32; i++) {
        data[i] = (uint8_t)(31 - i);
    }
    cr_expect_eq(vdc_crc32c(0, data, 32), 0x113fdb5c);
    cr_expect_eq(vdc_crc32c(0, "123456789", 9), 0xe3069283);
    cr_expect_eq(vdc_crc32c(0, NULL, 0), 0);
}

Test(base_values, crc32c_of_pieces_is_that_of_the_whole)
{
    uint8_t data[300];
    struct vdc_prng prng;
    vdc_prng_init(&prng, 3);
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)vdc_prng_next(&prng);
    }
    uint32_t whole = vdc_crc32c(0, data, sizeof data);
    for (size_t cut = 0; cut <= sizeof data; cut++) {
        uint32_t first = vdc_crc32c(0, data, cut);
        cr_assert_eq(vdc_crc32c(first, data + cut, sizeof data - cut), whole, "cut at %zu", cut);
    }
}

Test(base_values, equal_seeds_give_equal_numbers)
{
    struct vdc_prng a;
    struct vdc_prng b;
    struct vdc_prng c;
    vdc_prng_init(&a, 42);
    vdc_prng_init(&b, 42);
    vdc_prng_init(&c, 43);
    size_t differ = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t drawn = vdc_prng_next(&a);
        cr_assert_eq(drawn, vdc_prng_next(&b));
        differ += drawn != vdc_prng_next(&c);
    }
    cr_expect_gt(differ, 990);
}

/* The reference implementation's first outputs for the state 1, 2, 3, 4. */
Test(base_values, the_generator_is_xoshiro256_starstar)
{
    struct vdc_prng prng = {.s = {1, 2, 3, 4}};
    static const uint64_t expected[] = {UINT64_C(11520), 0, UINT64_C(1509978240),
                                        UINT64_C(1215971899390074240)};
    for (size_t i = 0; i < VDC_COUNT_OF(expected); i++) {
        cr_expect_eq(vdc_prng_next(&prng), expected[i], "output %zu", i);
    }
}

Test(base_values, draws_stay_below_their_bound_and_reach_all_of_it)
{
    struct vdc_prng prng;
    vdc_prng_init(&prng, 5);
    size_t seen[7] = {0};
    for (int i = 0; i < 7000; i++) {
        uint64_t drawn = vdc_prng_below(&prng, 7);
        cr_assert_lt(drawn, 7);
        seen[drawn]++;
    }
    for (size_t i = 0; i < 7; i++) {
        cr_expect(seen[i] > 800 && seen[i] < 1200, "%zu was drawn %zu times", i, seen[i]);
    }
    cr_expect_eq(vdc_prng_below(&prng, 1), 0);
    struct vdc_prng child;
    vdc_prng_split(&prng, &child);
    cr_expect_neq(vdc_prng_next(&prng), vdc_prng_next(&child));
}

/* ---- instants ---- */

Test(base_values, instants_saturate_at_never)
{
    vdc_mono at = {100};
    cr_expect_eq(vdc_mono_add(at, 5).ns, 105);
    cr_expect(vdc_mono_is_never(vdc_mono_add(at, INT64_MAX)));
    cr_expect(vdc_mono_is_never(vdc_mono_add(VDC_NEVER, -5)));
    cr_expect(vdc_mono_is_never(vdc_mono_add(VDC_NEVER, 5)));
    cr_expect_eq(vdc_mono_sub((vdc_mono){7}, (vdc_mono){10}), -3);
    cr_expect_eq(vdc_mono_min(at, VDC_NEVER).ns, 100);
    cr_expect(vdc_mono_is_never(vdc_mono_max(at, VDC_NEVER)));
    cr_expect(vdc_mono_reached(at, at));
    cr_expect_not(vdc_mono_reached((vdc_mono){99}, at));
    cr_expect_not(vdc_mono_reached((vdc_mono){INT64_MAX}, VDC_NEVER));
}

Test(base_values, wall_time_is_written_as_rfc_3339)
{
    char text[VDC_WALL_TEXT_CAP];
    vdc_wall_to_text((vdc_wall){0}, text);
    cr_expect_str_eq(text, "1970-01-01T00:00:00.000Z");
    vdc_wall_to_text((vdc_wall){INT64_C(1709210096) * VDC_SECOND + 789 * VDC_MS}, text);
    cr_expect_str_eq(text, "2024-02-29T12:34:56.789Z");
    vdc_wall_to_text((vdc_wall){-1}, text);
    cr_expect_str_eq(text, "1969-12-31T23:59:59.999Z");
    vdc_wall_to_text((vdc_wall){-VDC_SECOND}, text);
    cr_expect_str_eq(text, "1969-12-31T23:59:59.000Z");
    vdc_wall_to_text((vdc_wall){INT64_MIN}, text);
    cr_expect_str_eq(text, "1677-09-21T00:12:43.145Z");
}
