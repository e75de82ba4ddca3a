/* SPDX-License-Identifier: BSD-3-Clause
 * Does this namespace forward packets?
 */
#include "tunnel/forwarding.h"

#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <string.h>

#include "tunnel/netconf.h"
#include "tunnel/tunnel.h"

bool forwarding_ask(struct nl_sock *ask, int family)
{
    return netconf_ask(ask, family, NETCONFA_IFINDEX_ALL, NETCONFA_FORWARDING);
}

static void count_device(struct nl_object *o, void *arg)
{
    struct rtnl_link *link = (struct rtnl_link *)o;
    const char *name = rtnl_link_get_name(link);
    bool is_ours = name && strncmp(name, TUNNEL_DEVICE_PREFIX, strlen(TUNNEL_DEVICE_PREFIX)) == 0;
    int *cnt = arg;

    if (!is_ours && !(rtnl_link_get_flags(link) & IFF_LOOPBACK))
        ++*cnt;
}

bool forwarding_is_possible(struct nl_sock *ask)
{
    struct nl_cache *links = NULL;
    int cnt = 0;

    if (rtnl_link_alloc_cache(ask, AF_UNSPEC, &links) < 0)
        return true;
    nl_cache_foreach(links, count_device, &cnt);
    nl_cache_free(links);
    return cnt > 1;
}
