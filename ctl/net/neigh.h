/* SPDX-License-Identifier: BSD-3-Clause
 * Neighbours of an interface.
 */
#ifndef TCNS_CTL_NEIGH_H
#define TCNS_CTL_NEIGH_H

#include <netlink/netlink.h>

#include "base/tuple.h"

/* Asks the kernel to resolve or confirm a neighbour, as if it had a packet for it. Takes
 * CAP_NET_ADMIN. Return: 0; -errno. */
int neigh_use(struct nl_sock *rtnl, int ifindex, const struct addr *addr);

#endif
