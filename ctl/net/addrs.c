/* SPDX-License-Identifier: BSD-3-Clause
 * The addresses of the current network namespace.
 */
#include "ctl/net/addrs.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>

#include <netlink/attr.h>
#include <netlink/msg.h>

#include "ctl/net/netlink.h"

#define DUMP_TRIES 5

static int append(struct addrs *a, const struct addrs_entry *e)
{
    struct addrs_entry *grown = reallocarray(a->entries, a->cnt + 1, sizeof(*grown));

    if (!grown)
        return -ENOMEM;
    grown[a->cnt++] = *e;
    a->entries = grown;
    return 0;
}

static int on_address(struct nlmsghdr *nlh, void *arg)
{
    struct nlattr *tb[IFA_MAX + 1];
    struct ifaddrmsg *ifa = nlmsg_data(nlh);

    if (nlh->nlmsg_type != RTM_NEWADDR || nlmsg_parse(nlh, sizeof(*ifa), tb, IFA_MAX, NULL) < 0)
        return 0;
    /* On a point-to-point link IFA_ADDRESS is the far end's. */
    struct nlattr *own = tb[IFA_LOCAL] ? tb[IFA_LOCAL] : tb[IFA_ADDRESS];
    struct addrs_entry e = {.ifindex = (int)ifa->ifa_index, .scope = ifa->ifa_scope};
    if (own && ifa->ifa_family == AF_INET && nla_len(own) == 4)
        e.addr = addr_from_v4(nla_data(own));
    else if (own && ifa->ifa_family == AF_INET6 && nla_len(own) == 16)
        e.addr = addr_from_v6(nla_data(own));
    else
        return 0;
    return append(arg, &e);
}

static int load_once(struct nl_sock *rtnl, struct addrs *a)
{
    struct ifaddrmsg ifa = {.ifa_family = AF_UNSPEC};
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETADDR, NLM_F_DUMP);
    int err = -ENOMEM;

    if (msg && nlmsg_append(msg, &ifa, sizeof(ifa), NLMSG_ALIGNTO) == 0)
        err = netlink_talk(rtnl, msg, on_address, a);
    nlmsg_free(msg);
    return err;
}

int addrs_load(struct nl_sock *rtnl, struct addrs *ret)
{
    struct addrs a = {.cnt = 0};
    int err = -EINTR;

    for (int i = 0; i < DUMP_TRIES && err == -EINTR; i++) {
        a.cnt = 0;
        err = load_once(rtnl, &a);
    }
    if (err) {
        addrs_done(&a);
        return err;
    }
    *ret = a;
    return 0;
}

void addrs_done(struct addrs *a)
{
    free(a->entries);
    *a = (struct addrs){.cnt = 0};
}

static bool is_loopback(const struct addr *addr)
{
    if (addr_is_v4(addr))
        return addr->in6.s6_addr[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(&addr->in6);
}

bool addrs_is_own(const struct addrs *a, const struct addr *addr)
{
    if (is_loopback(addr))
        return true;
    for (size_t i = 0; i < a->cnt; i++)
        if (addr_eq(&a->entries[i].addr, addr))
            return true;
    return false;
}
