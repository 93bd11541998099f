/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The database against the naive model (allocdb_model.h). VDC_MODEL_OPS and VDC_MODEL_SEED make other
 * and longer runs; allocdb-model is the program for very long ones.
 */
#include <stdio.h>

#include <criterion/criterion.h>

#include "allocdb_model.h"

/* Enough that every rule is met. */
#define OPS_DEFAULT UINT64_C(110000)
#define SEED_DEFAULT UINT64_C(20261122)

static uint64_t number_of_env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t number;
    return text != NULL && vdc_parse_u64(text, UINT64_MAX, &number) ? number : otherwise;
}

Test(allocdb_model, every_answer_state_and_digest_is_what_a_naive_model_says)
{
    struct run_stats stats;
    char text[160];
    uint64_t seed = number_of_env("VDC_MODEL_SEED", SEED_DEFAULT);
    uint64_t operations = number_of_env("VDC_MODEL_OPS", OPS_DEFAULT);
    (void)fprintf(stderr, "seed %llu, %llu operations\n", (unsigned long long)seed,
                  (unsigned long long)operations);
    run_model(seed, operations, operations, &stats, NULL);
    const char *missing = run_missing(&stats, text, sizeof(text));
    cr_assert_null(missing, "not reached: %s", missing == NULL ? "" : missing);
}
