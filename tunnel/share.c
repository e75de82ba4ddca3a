/* SPDX-License-Identifier: BSD-3-Clause
 * Who may hold how much, when memory is short.
 */
#include "tunnel/share.h"

#include <stdint.h>

/* A few packets: with less nothing moves. */
#define WINDOW_MIN_LEN (64u * 1024)

size_t share_limit(size_t total, size_t max, size_t cnt)
{
    size_t above = max / 4;

    if (total <= max)
        return SIZE_MAX;
    if (total >= max + above)
        return 0;
    /* The room is at most a quarter of max, so 32 bits do for both factors on any machine. */
    return (size_t)((uint64_t)(max / 2 / (cnt ? cnt : 1)) * (max + above - total) / above);
}

size_t share_window(size_t total, size_t max, size_t cnt)
{
    size_t share = max / 2 / (cnt ? cnt : 1);

    if (total <= max / 2)
        return 0;
    return share > WINDOW_MIN_LEN ? share : WINDOW_MIN_LEN;
}
