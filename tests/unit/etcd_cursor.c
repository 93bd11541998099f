/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "cursor.h"

#include <vdc/prng.h>

Test(etcd_cursor, a_whole_answer_moves_behind_its_last_revision)
{
    struct vdc_etcd_cursor cursor;
    vdc_etcd_cursor_init(&cursor, 10);
    cr_assert(vdc_etcd_cursor_take(&cursor, 12));
    cr_assert(vdc_etcd_cursor_take(&cursor, 12));
    cr_assert(vdc_etcd_cursor_take(&cursor, 15));
    vdc_etcd_cursor_end(&cursor, false);
    cr_assert_eq(cursor.revision, 16);
}

Test(etcd_cursor, what_was_delivered_of_a_cut_revision_is_skipped_once)
{
    struct vdc_etcd_cursor cursor;
    vdc_etcd_cursor_init(&cursor, 10);
    cr_assert(vdc_etcd_cursor_take(&cursor, 12));
    cr_assert(vdc_etcd_cursor_take(&cursor, 12));
    vdc_etcd_cursor_end(&cursor, true);
    cr_assert_eq(cursor.revision, 12); /* a new stream starts here */
    vdc_etcd_cursor_resume(&cursor);
    cr_assert_not(vdc_etcd_cursor_take(&cursor, 12));
    cr_assert_not(vdc_etcd_cursor_take(&cursor, 12));
    cr_assert(vdc_etcd_cursor_take(&cursor, 12));
    vdc_etcd_cursor_end(&cursor, false);
    cr_assert_eq(cursor.revision, 13);
}

Test(etcd_cursor, progress_moves_forward_only)
{
    struct vdc_etcd_cursor cursor;
    vdc_etcd_cursor_init(&cursor, 10);
    vdc_etcd_cursor_progress(&cursor, 20);
    cr_assert_eq(cursor.revision, 21);
    vdc_etcd_cursor_progress(&cursor, 5);
    cr_assert_eq(cursor.revision, 21);
    cr_assert_not(vdc_etcd_cursor_take(&cursor, 20));
}

/* A history of revisions with 1 to 4 changes, streamed in answers that end anywhere, cut off anywhere:
 * what is delivered must be the history. */
Test(etcd_cursor, no_change_is_lost_or_doubled_however_streams_end)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct vdc_prng prng;
        vdc_prng_init(&prng, seed);
        int64_t history[400];
        size_t len = 0;
        for (int64_t revision = 5; len < 390; revision++) {
            for (uint64_t n = 1 + vdc_prng_below(&prng, 4); n > 0; n--) {
                history[len++] = revision;
            }
        }
        struct vdc_etcd_cursor cursor;
        vdc_etcd_cursor_init(&cursor, 1);
        size_t delivered = 0;
        while (delivered < len) {
            vdc_etcd_cursor_resume(&cursor);
            size_t at = 0;
            while (at < len && history[at] < cursor.revision) {
                at++;
            }
            for (uint64_t answers = vdc_prng_below(&prng, 5); answers > 0 && at < len; answers--) {
                size_t end = at + 1 + vdc_prng_below(&prng, 12);
                end = end > len ? len : end;
                for (; at < end; at++) {
                    if (vdc_etcd_cursor_take(&cursor, history[at])) {
                        cr_assert_lt(delivered, len);
                        cr_assert_eq(history[at], history[delivered]);
                        cr_assert_eq(at, delivered, "seed %llu", (unsigned long long)seed);
                        delivered++;
                    }
                }
                bool more = at < len && history[at] == history[at - 1];
                vdc_etcd_cursor_end(&cursor, more);
            }
        }
    }
}
