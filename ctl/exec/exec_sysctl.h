/* SPDX-License-Identifier: BSD-3-Clause
 * IP forwarding of the current network namespace: switched on, and put back.
 *
 * Values that change are saved in a file before they change. Writing
 * "forwarding" for all interfaces overwrites each interface's own value, and the
 * kernel stops to accept router advertisements on a forwarding interface unless
 * accept_ra is 2: both are taken care of.
 */
#ifndef TCNS_CTL_EXEC_SYSCTL_H
#define TCNS_CTL_EXEC_SYSCTL_H

#include <stdbool.h>

/* Forwarding is on because of us. */
struct exec_sysctl_owned {
    bool ipv4, ipv6;
};

/* The file is <netns>-sysctl in the directory. The caller holds the lock.
 * Return: 0; -errno, nothing is changed then. */
int exec_sysctl_enable(int dir_fd, const char *netns, int family);

/* Puts back what was saved and removes the file. Return: 0, also without a file; -errno. */
int exec_sysctl_restore(int dir_fd, const char *netns);

struct exec_sysctl_owned exec_sysctl_owned(int dir_fd, const char *netns);

#endif
