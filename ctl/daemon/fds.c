/* SPDX-License-Identifier: BSD-3-Clause
 * Descriptors that must not travel into a forked process.
 */
#include "ctl/daemon/fds.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

static int compare(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;

    return (x > y) - (x < y);
}

void fds_close_others(int *keep, size_t cnt)
{
    unsigned first = STDERR_FILENO + 1;

    qsort(keep, cnt, sizeof(*keep), compare);
    for (size_t i = 0; i < cnt; i++) {
        if (keep[i] < (int)first)
            continue;
        if ((unsigned)keep[i] > first)
            (void)close_range(first, (unsigned)keep[i] - 1, 0);
        first = (unsigned)keep[i] + 1;
    }
    (void)close_range(first, UINT_MAX, 0);
}

void fds_fill_stdio(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}
