/* SPDX-License-Identifier: BSD-3-Clause
 * Where the kernel would send a packet: by which uplink, to which neighbour, with which
 * hardware address; and which addresses are the container's own.
 *
 * How it works: routes are asked for one pair of addresses at a time (RTM_GETROUTE) and
 * remembered until any route, address or link changes. Neighbours are resolved
 * by the kernel, which ops->resolve() tells to, and followed by notifications; packets for one that
 * is being resolved wait in a short queue.
 *
 * Several links: the routing tables say which one a packet leaves by, source address
 * and all. What answers a packet (via) leaves where that came in, when there is a way to the
 * destination; a peer that reached us by one network may not be reached by another.
 */
#ifndef TCNS_TUNNEL_NEXTHOP_H
#define TCNS_TUNNEL_NEXTHOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tuple.h"

#define NEXTHOP_LINK_MAX_LEN 14 /* Ethernet */
#define NEXTHOP_LINK_MAX_CNT 16

struct nexthop;

/* What a way is asked for; compared and hashed as bytes. */
struct nexthop_path {
    struct addr src, dst;
    int via; /* interface to prefer; 0: none */
};
_Static_assert(sizeof(struct nexthop_path) == 36, "paths are compared as bytes");

struct nexthop_ops {
    /* The kernel is to resolve or confirm a neighbour, which takes CAP_NET_ADMIN. */
    void (*resolve)(void *arg, int ifindex, const struct addr *neighbour);
    /* The neighbour answered: packet waited for it. bytes are as given to nexthop_wait(). */
    void (*on_resolved)(void *arg, const struct nexthop_path *path, const uint8_t *bytes,
                        size_t len);
    /* The neighbour does not answer. */
    void (*on_failed)(void *arg, const struct nexthop_path *path, const uint8_t *bytes, size_t len);
    /* nexthop_mtu() is another. */
    void (*on_mtu)(void *arg, unsigned mtu);
};

/* Without links there is no way anywhere. Return: 0 and *ret; -errno. */
int nexthop_new(const struct nexthop_ops *ops, void *arg, struct nexthop **ret);
void nexthop_free(struct nexthop *n);

/* An interface that packets may leave by. Return: 0; -ENODEV, -EPFNOSUPPORT: not of a
 * kind that we know; -ENOSPC at NEXTHOP_LINK_MAX_CNT. */
int nexthop_add_link(struct nexthop *n, int ifindex);
/* Drops what waits for its neighbours. */
void nexthop_del_link(struct nexthop *n, int ifindex);

/* Descriptor that becomes readable when something changed; then call nexthop_read(). */
int nexthop_fd(const struct nexthop *n);
void nexthop_read(struct nexthop *n);

/* Once in a few seconds: neighbours in use that went stale are confirmed anew. */
void nexthop_tick(struct nexthop *n);

/* Return: the smallest of all links'; 0 without any. */
unsigned nexthop_mtu(const struct nexthop *n);
/* Return: bytes of the link-layer header: 14 or 0. */
size_t nexthop_link_len(const struct nexthop *n, int ifindex);

/* Are packets of this family forwarded here? Up to a second old. */
bool nexthop_forwards(struct nexthop *n, bool ipv4);

/* Is it an address of this namespace (not loopback)? */
bool nexthop_is_local(const struct nexthop *n, const struct addr *a);

enum nexthop_result {
    NEXTHOP_OK,
    NEXTHOP_WAIT,     /* being resolved: nexthop_wait() keeps a packet meanwhile */
    NEXTHOP_NO_ROUTE, /* no route, or not through one of the links */
};

struct nexthop_way {
    int ifindex;
    const uint8_t *link; /* the link-layer header to use, until the next call */
};

/* *ret is filled unless there is no route. */
enum nexthop_result nexthop_lookup(struct nexthop *n, const struct nexthop_path *path,
                                   struct nexthop_way *ret);
/* Keeps a copy of bytes until the neighbour is resolved; drops it when too many wait. */
void nexthop_wait(struct nexthop *n, const struct nexthop_path *path, const uint8_t *bytes,
                  size_t len);

#endif
