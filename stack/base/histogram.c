/* SPDX-License-Identifier: BSD-3-Clause
 * Counts of durations.
 */
#include "base/histogram.h"

const uint32_t histogram_bounds_us[HISTOGRAM_BOUND_CNT] = {
    50,    100,    250,    500,    1000,    2500,    5000,    10000,    25000,
    50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000,
};

void histogram_add(struct histogram *h, uint64_t us)
{
    unsigned i = 0;

    /* Most are short: found at once. */
    while (i < HISTOGRAM_BOUND_CNT && us > histogram_bounds_us[i])
        i++;
    h->counts[i]++;
    h->sum_us += us;
    if (us > h->max_us)
        h->max_us = us;
}
