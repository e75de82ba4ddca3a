/* SPDX-License-Identifier: BSD-3-Clause
 * Where the kernel would send a packet: route, next hop, neighbour's hardware
 * address; and which addresses are the container's own.
 *
 * How it works: routes are asked for one destination at a time (RTM_GETROUTE) and
 * remembered until any route, address or link changes. Neighbours are resolved
 * by the kernel (NTF_USE) and followed by notifications; packets for one that is
 * being resolved wait in a short queue.
 */
#ifndef TCNS_TUNNEL_NEXTHOP_H
#define TCNS_TUNNEL_NEXTHOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tuple.h"

#define NEXTHOP_LINK_MAX_LEN 14 /* Ethernet */

struct nexthop;

struct nexthop_ops {
    /* The neighbour answered: packet waited for it. bytes are as given to nexthop_wait(). */
    void (*on_resolved)(void *arg, const struct addr *dst, const uint8_t *bytes, size_t len);
    /* The neighbour does not answer. */
    void (*on_failed)(void *arg, const struct addr *dst, const uint8_t *bytes, size_t len);
    /* The uplink's MTU is now this. */
    void (*on_mtu)(void *arg, unsigned mtu);
};

/* Return: 0 and *ret; -errno. */
int nexthop_new(int ifindex, const struct nexthop_ops *ops, void *arg, struct nexthop **ret);
void nexthop_free(struct nexthop *n);

/* Descriptor that becomes readable when something changed; then call nexthop_read(). */
int nexthop_fd(const struct nexthop *n);
void nexthop_read(struct nexthop *n);

/* Once in a few seconds: neighbours in use that went stale are confirmed anew. */
void nexthop_tick(struct nexthop *n);

unsigned nexthop_mtu(const struct nexthop *n);
size_t nexthop_link_len(const struct nexthop *n); /* 14 or 0 */

/* Is it an address of this namespace (not loopback)? */
bool nexthop_is_local(const struct nexthop *n, const struct addr *a);

enum nexthop_result {
    NEXTHOP_OK,       /* *ret_link is the link-layer header to use */
    NEXTHOP_WAIT,     /* being resolved: nexthop_wait() keeps a packet meanwhile */
    NEXTHOP_NO_ROUTE, /* no route, or not through this uplink */
};

enum nexthop_result nexthop_lookup(struct nexthop *n, const struct addr *dst,
                                   const uint8_t **ret_link);
/* Keeps a copy of bytes until dst is resolved; drops it when too many wait. */
void nexthop_wait(struct nexthop *n, const struct addr *dst, const uint8_t *bytes, size_t len);

#endif
