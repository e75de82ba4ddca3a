/* SPDX-License-Identifier: BSD-3-Clause
 * Counts of durations: each goes to the right bucket.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/histogram.h"

static void test_bounds_ascend(void **state)
{
    for (int i = 1; i < HISTOGRAM_BOUND_CNT; i++)
        assert_true(histogram_bounds_us[i] > histogram_bounds_us[i - 1]);
}

/* Prometheus' "le": a bound belongs to its own bucket. */
static void test_bound_belongs_to_its_bucket(void **state)
{
    for (int i = 0; i < HISTOGRAM_BOUND_CNT; i++) {
        struct histogram h = {0};

        histogram_add(&h, histogram_bounds_us[i]);
        assert_int_equal(h.counts[i], 1);
        histogram_add(&h, histogram_bounds_us[i] + 1);
        assert_int_equal(h.counts[i + 1], 1);
    }
}

static void test_sum_and_max(void **state)
{
    struct histogram h = {0};

    histogram_add(&h, 0);
    histogram_add(&h, 3000000000u);
    histogram_add(&h, 70);
    assert_int_equal(h.counts[0], 1);
    assert_int_equal(h.counts[1], 1);
    assert_int_equal(h.counts[HISTOGRAM_BOUND_CNT], 1);
    assert_int_equal(h.sum_us, 3000000070u);
    assert_int_equal(h.max_us, 3000000000u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds_ascend),
        cmocka_unit_test(test_bound_belongs_to_its_bucket),
        cmocka_unit_test(test_sum_and_max),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
