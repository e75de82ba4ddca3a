/* SPDX-License-Identifier: BSD-3-Clause
 * Does this namespace forward packets? Asked by netlink, which a process without /proc can.
 */
#include "tunnel/forwarding.h"

#include <linux/netconf.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>

static int on_answer(struct nl_msg *msg, void *arg)
{
    struct nlmsghdr *nlh = nlmsg_hdr(msg);
    struct nlattr *tb[NETCONFA_MAX + 1];
    bool *ret = arg;

    if (nlh->nlmsg_type != RTM_NEWNETCONF ||
        nlmsg_parse(nlh, sizeof(struct netconfmsg), tb, NETCONFA_MAX, NULL) < 0)
        return NL_SKIP;
    *ret = tb[NETCONFA_FORWARDING] && nla_get_u32(tb[NETCONFA_FORWARDING]) != 0;
    return NL_OK;
}

bool forwarding_ask(struct nl_sock *ask, int family)
{
    struct netconfmsg ncm = {.ncm_family = (unsigned char)family};
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETNETCONF, 0);
    struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
    bool on = false;

    if (msg && cb && nlmsg_append(msg, &ncm, sizeof(ncm), NLMSG_ALIGNTO) == 0 &&
        nla_put_u32(msg, NETCONFA_IFINDEX, (uint32_t)NETCONFA_IFINDEX_ALL) == 0) {
        nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_answer, &on);
        /* An error comes alone, an answer with an acknowledgement behind it. */
        if (nl_send_auto(ask, msg) >= 0 && nl_recvmsgs(ask, cb) >= 0)
            nl_wait_for_ack(ask);
    }
    if (cb)
        nl_cb_put(cb);
    nlmsg_free(msg);
    return on;
}

static void count_device(struct nl_object *o, void *arg)
{
    int *cnt = arg;

    if (!(rtnl_link_get_flags((struct rtnl_link *)o) & IFF_LOOPBACK))
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
    return cnt > 2;
}
