/* SPDX-License-Identifier: BSD-3-Clause
 * One TCP socket of the current network namespace, found by its connection.
 */
#ifndef TCNS_CTL_SOCKFIND_H
#define TCNS_CTL_SOCKFIND_H

#include <netlink/netlink.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/tuple.h"

struct sockfind {
    uint64_t cookie; /* what SO_COOKIE says of it */
    uint32_t uid;    /* who made it; 65534 when the daemon's user namespace has no name for them */
    uint8_t state;   /* TCP_ESTABLISHED and the like */
    int ifindex;     /* of the interface that it is bound to; 0: none */
};

/* Finds the socket that has the connection, or the listening one that would get it. diag: from
 * netlink_open(NETLINK_SOCK_DIAG). ifindex: by which interface its packets come and go, for
 * sockets that are bound to one.
 * Return: 0; -ENOENT when there is none; -errno. */
int sockfind(struct nl_sock *diag, const struct tuple *tuple, int ifindex, struct sockfind *ret);

/* Aborts the socket that was found so: its program sees ECONNABORTED. Return: 0; -ENOENT when it
 * has gone meanwhile; -errno. */
int sockfind_abort(struct nl_sock *diag, const struct tuple *tuple, int ifindex,
                   const struct sockfind *socket);

#endif
