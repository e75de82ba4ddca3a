/* SPDX-License-Identifier: BSD-3-Clause
 * May that process change what the daemon does?
 *
 * What it takes to set all this up, it takes to change it: CAP_NET_ADMIN, in the daemon's own
 * user namespace. Root of a container without that capability is not enough: its application
 * may run as root. Nor is one that a process has given itself in a user namespace of its
 * own.
 *
 * The answer is in /proc, which the worker cannot read (sandbox.h): it asks the supervisor.
 */
#ifndef TCNS_CTL_PRIVILEGE_H
#define TCNS_CTL_PRIVILEGE_H

#include <stdbool.h>
#include <sys/socket.h>

/* who: as SO_PEERCRED tells; pidfd: of the same process, -1 where the kernel has none. */
bool privilege_has(const struct ucred *who, int pidfd);

/* Asks over a channel, and waits a moment for the answer. Return: false without one. */
bool privilege_ask(int channel, const struct ucred *who, int pidfd);
/* The other end: answers all questions that are there. Return: false when the asker is gone. */
bool privilege_answer(int channel);

#endif
