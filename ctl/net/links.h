/* SPDX-License-Identifier: BSD-3-Clause
 * Which interfaces of a namespace are uplinks: TCP by them is ours. By the others it is
 * the kernel's, in clear.
 *
 * How it works: when the user names uplinks, those it is. Otherwise an interface is one that
 *   - has a default route, whatever it is; or
 *   - is an Ethernet device with a global address of its own and a route: a second
 *     network of a container, a second card of a host; but no bridge and no exec's link, behind
 *     which there are containers (they have daemons of their own), and no dummy.
 * So a VPN's tunnel, which encrypts already, is one only when the default route goes by it, and a
 * link without an address of its own, as routed containers have it on their host's side, is
 * none. An interface that was an uplink stays one until it is gone, whatever becomes of its routes
 * and addresses: what it carried must not go on in clear.
 */
#ifndef TCNS_CTL_LINKS_H
#define TCNS_CTL_LINKS_H

#include <net/if.h>
#include <netlink/netlink.h>
#include <stdbool.h>
#include <stddef.h>

#include "tunnel/tunnel.h"

struct links_entry {
    int ifindex; /* 0: named, but not there now */
    int mtu;
    int hookable; /* truth value, see hook.h; entries are compared as bytes */
    char name[IFNAMSIZ];
};

struct links {
    struct links_entry entries[TUNNEL_UPLINK_MAX_CNT];
    size_t cnt;
};

/* What is known of an interface. */
struct links_facts {
    struct links_entry id;
    bool loopback;
    bool ethernet;
    bool hides_containers; /* a bridge, an exec's link */
    bool dummy;
    bool has_address; /* global */
    bool has_route;   /* unicast, in the main table */
    bool has_default; /* likewise */
};

/* The rule above. */
bool links_is_uplink(const struct links_facts *f);

bool links_has(const struct links *l, int ifindex);

/* Finds the uplinks now. named: entries with the names, when the user gave some; else
 * NULL. *uplinks: those of the last time; updated. *ret_native: interfaces that have routes and
 * are none of ours; the tunnel's device is not among them. Both are cut at the maximum, with a
 * warning for uplinks. Return: 0; -errno. */
int links_find(struct nl_sock *rtnl, const struct links *named, struct links *uplinks,
               struct links *ret_native);

#endif
