/* SPDX-License-Identifier: BSD-3-Clause
 * One question to the kernel's routing tables.
 */
#ifndef TCNS_TUNNEL_ROUTE_H
#define TCNS_TUNNEL_ROUTE_H

#include <stdbool.h>

#include "base/tuple.h"

struct nl_sock;

struct route_answer {
    int ifindex;
    struct addr next_hop; /* the gateway, or the destination itself */
};

/* By which interface, and to whom, does a packet from src to dst leave? by: the
 * interface to answer for; 0: the tables choose. Blocks for a moment.
 * Return: false when there is no such route. */
bool route_ask(struct nl_sock *ask, const struct addr *src, const struct addr *dst, int by,
               struct route_answer *ret);

#endif
