/* SPDX-License-Identifier: BSD-3-Clause
 * Neighbours of an interface.
 */
#include "ctl/net/neigh.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

#include <netlink/attr.h>
#include <netlink/msg.h>

#include "ctl/net/netlink.h"

int neigh_use(struct nl_sock *rtnl, int ifindex, const struct addr *addr)
{
    bool v4 = addr_is_v4(addr);
    struct ndmsg ndm = {
        .ndm_family = v4 ? AF_INET : AF_INET6,
        .ndm_ifindex = ifindex,
        .ndm_flags = NTF_USE,
    };
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
    int err = -ENOMEM;

    if (msg && nlmsg_append(msg, &ndm, sizeof(ndm), NLMSG_ALIGNTO) == 0 &&
        nla_put(msg, NDA_DST, v4 ? 4 : 16, &addr->in6.s6_addr[v4 ? 12 : 0]) == 0)
        err = netlink_talk(rtnl, msg, NULL, NULL);
    nlmsg_free(msg);
    return err;
}
