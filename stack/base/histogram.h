/* SPDX-License-Identifier: BSD-3-Clause
 * How often something took how long: counts in fixed buckets, from 50 us to 10 s.
 */
#ifndef TCNS_BASE_HISTOGRAM_H
#define TCNS_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BOUND_CNT 17

struct histogram {
    uint64_t counts[HISTOGRAM_BOUND_CNT + 1]; /* [i]: up to the i-th bound; the last: above all */
    uint64_t sum_us;
    uint64_t max_us;
};

/* Microseconds, ascending; a bound belongs to its bucket. */
extern const uint32_t histogram_bounds_us[HISTOGRAM_BOUND_CNT];

/* A zeroed histogram is an empty one. */
void histogram_add(struct histogram *h, uint64_t us);

#endif
