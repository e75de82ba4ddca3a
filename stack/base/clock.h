/* SPDX-License-Identifier: BSD-3-Clause
 * Clocks. Those without "epoch" never go back and count from an unknown beginning.
 */
#ifndef TCNS_BASE_CLOCK_H
#define TCNS_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline struct timespec clock_read(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now); /* cannot fail for the clocks below */
    return now;
}

static inline int64_t clock_us(void)
{
    struct timespec now = clock_read(CLOCK_MONOTONIC);

    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static inline int64_t clock_ms(void)
{
    return clock_us() / 1000;
}

/* As of the kernel's last tick, at most some 10 ms ago, and cheaper. */
static inline int64_t clock_coarse_ms(void)
{
    struct timespec now = clock_read(CLOCK_MONOTONIC_COARSE);

    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Seconds since 1970 in UTC, as people and logs count them; may go back. */
static inline double clock_epoch_s(void)
{
    struct timespec now = clock_read(CLOCK_REALTIME);

    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

#endif
