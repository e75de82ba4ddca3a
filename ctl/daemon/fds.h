/* SPDX-License-Identifier: BSD-3-Clause
 * Descriptors that must not travel into a forked process.
 */
#ifndef TCNS_CTL_FDS_H
#define TCNS_CTL_FDS_H

#include <stddef.h>

/* Closes all descriptors but 0, 1, 2 and those in keep, which is sorted; negative
 * ones in it are skipped. */
void fds_close_others(int *keep, size_t cnt);

/* Opens /dev/null on those of 0, 1, 2 that are closed. A daemon started without a
 * descriptor 2 would open something of its own there, and then log into it. */
void fds_fill_stdio(void);

#endif
