/* SPDX-License-Identifier: BSD-3-Clause
 * Connections that a command leaves behind when it ends.
 *
 * A kernel goes on to send what a program wrote before it ended. Our daemon is
 * to do the same before exec takes it away.
 */
#ifndef TCNS_CTL_EXEC_DRAIN_H
#define TCNS_CTL_EXEC_DRAIN_H

#include <stddef.h>
#include <sys/types.h>

/* Counts live connections that no process owns any more. netns_fd: the command's
 * namespace; inside: a process in it.
 * Return: 0; -errno when the daemon does not answer. */
int exec_drain_pending(int netns_fd, pid_t inside, size_t *ret_cnt);

#endif
