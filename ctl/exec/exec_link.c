/* SPDX-License-Identifier: BSD-3-Clause
 * The link between the calling namespace and that of an exec.
 */
#include "ctl/exec/exec_link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/net/netlink.h"
#include "ctl/net/netns.h"

#define MTU_DEFAULT 1500
#define MTU_MIN     1280 /* RFC 8200 5 */

#define CLEANUP(fn) __attribute__((cleanup(fn)))

static void sock_free(struct nl_sock **p)
{
    nl_socket_free(*p);
}
static void cache_free(struct nl_cache **p)
{
    nl_cache_free(*p);
}
static void link_free(struct rtnl_link **p)
{
    rtnl_link_put(*p);
}
static void rtaddr_free(struct rtnl_addr **p)
{
    rtnl_addr_put(*p);
}
static void route_free(struct rtnl_route **p)
{
    rtnl_route_put(*p);
}
static void nladdr_free(struct nl_addr **p)
{
    nl_addr_put(*p);
}

/* Not netlink_open(): libnl's address dump comes back empty with strict checking. */
static int open_route(struct nl_sock **ret)
{
    struct nl_sock *sk = nl_socket_alloc();
    if (!sk)
        return -ENOMEM;
    int nle = nl_connect(sk, NETLINK_ROUTE);
    if (nle < 0) {
        nl_socket_free(sk);
        return netlink_errno(nle);
    }
    *ret = sk;
    return 0;
}

/* --- survey ----------------------------------------------------------------------- */

static int add_nl_addr(struct exec_used *used, struct nl_addr *a)
{
    int family = a ? nl_addr_get_family(a) : AF_UNSPEC;

    if ((family != AF_INET && family != AF_INET6) || nl_addr_get_len(a) == 0)
        return 0;
    return exec_used_add(used, family, nl_addr_get_binary_addr(a), nl_addr_get_prefixlen(a));
}

static int survey_addresses(struct nl_sock *sk, struct exec_used *used, bool *ret_ipv6)
{
    CLEANUP(cache_free) struct nl_cache *cache = NULL;

    int err = netlink_errno(rtnl_addr_alloc_cache(sk, &cache));
    if (err)
        return err;
    for (struct nl_object *o = nl_cache_get_first(cache); o && !err; o = nl_cache_get_next(o)) {
        struct rtnl_addr *a = (struct rtnl_addr *)o;
        err = add_nl_addr(used, rtnl_addr_get_local(a));
        if (!err)
            err = add_nl_addr(used, rtnl_addr_get_peer(a));
        if (rtnl_addr_get_family(a) == AF_INET6 && rtnl_addr_get_scope(a) == RT_SCOPE_UNIVERSE)
            *ret_ipv6 = true;
    }
    return err;
}

static unsigned link_mtu(struct nl_sock *sk, int ifindex)
{
    CLEANUP(link_free) struct rtnl_link *link = NULL;

    if (rtnl_link_get_kernel(sk, ifindex, NULL, &link) < 0)
        return 0;
    return rtnl_link_get_mtu(link);
}

static void lower_mtu(unsigned *mtu, unsigned other)
{
    if (other >= MTU_MIN && (*mtu == 0 || other < *mtu))
        *mtu = other;
}

static void default_route_mtu(struct nl_sock *sk, struct rtnl_route *r, unsigned *mtu)
{
    uint32_t metric;

    for (int i = 0; i < rtnl_route_get_nnexthops(r); i++) {
        struct rtnl_nexthop *nh = rtnl_route_nexthop_n(r, i);
        lower_mtu(mtu, link_mtu(sk, rtnl_route_nh_get_ifindex(nh)));
    }
    if (rtnl_route_get_metric(r, RTAX_MTU, &metric) == 0)
        lower_mtu(mtu, metric);
}

static int survey_routes(struct nl_sock *sk, struct nl_sock *query_sk, struct exec_used *used,
                         unsigned *mtu)
{
    CLEANUP(cache_free) struct nl_cache *cache = NULL;

    int err = netlink_errno(rtnl_route_alloc_cache(sk, AF_UNSPEC, 0, &cache));
    if (err)
        return err;
    for (struct nl_object *o = nl_cache_get_first(cache); o && !err; o = nl_cache_get_next(o)) {
        struct rtnl_route *r = (struct rtnl_route *)o;
        struct nl_addr *dst = rtnl_route_get_dst(r);
        err = add_nl_addr(used, dst);
        if (dst && nl_addr_get_prefixlen(dst) == 0 && rtnl_route_get_table(r) == RT_TABLE_MAIN &&
            rtnl_route_get_type(r) == RTN_UNICAST)
            default_route_mtu(query_sk, r, mtu);
    }
    return err;
}

int exec_link_survey(struct exec_used *used, bool *ret_ipv6, unsigned *ret_mtu)
{
    CLEANUP(sock_free) struct nl_sock *sk = NULL, *query_sk = NULL;
    bool ipv6 = false;
    unsigned mtu = 0;

    int err = open_route(&sk);
    if (!err)
        err = open_route(&query_sk);
    if (!err)
        err = survey_addresses(sk, used, &ipv6);
    if (!err)
        err = survey_routes(sk, query_sk, used, &mtu);
    if (err)
        return err;
    *ret_ipv6 = ipv6;
    *ret_mtu = mtu ? mtu : MTU_DEFAULT;
    return 0;
}

/* --- the pair --------------------------------------------------------------------- */

/* ifindex: of the host side; 0: the kernel's choice. */
static int create_pair(struct nl_sock *sk, const struct exec_link *l, int ifindex)
{
    CLEANUP(link_free) struct rtnl_link *link = rtnl_link_veth_alloc();
    if (!link)
        return -ENOMEM;
    /* A second reference to what the link owns. */
    CLEANUP(link_free) struct rtnl_link *peer = rtnl_link_veth_get_peer(link);
    if (!peer)
        return -ENOMEM;
    rtnl_link_set_name(link, l->host_name);
    rtnl_link_set_mtu(link, l->mtu);
    rtnl_link_set_ifindex(link, ifindex);
    rtnl_link_set_name(peer, EXEC_LINK_INSIDE);
    rtnl_link_set_mtu(peer, l->mtu);
    rtnl_link_set_ns_fd(peer, l->netns_fd);
    return netlink_errno(rtnl_link_add(sk, link, NLM_F_CREATE | NLM_F_EXCL));
}

static int get_ifindex(struct nl_sock *sk, const char *name, int *ret)
{
    CLEANUP(link_free) struct rtnl_link *link = NULL;

    int err = netlink_errno(rtnl_link_get_kernel(sk, 0, name, &link));
    if (err)
        return err;
    *ret = rtnl_link_get_ifindex(link);
    return 0;
}

/* A veth whose peer has the same number in the other namespace looks to the
 * kernel like a physical device: it then delays "carrier on" by up to a second,
 * and drops what is sent until then. So such a pair is made again with another
 * number. */
static int create_distinct_pair(struct nl_sock *sk, const struct exec_link *l)
{
    CLEANUP(link_free) struct rtnl_link *link = NULL;

    int err = create_pair(sk, l, 0);
    if (!err)
        err = netlink_errno(rtnl_link_get_kernel(sk, 0, l->host_name, &link));
    if (err || rtnl_link_get_ifindex(link) != rtnl_link_get_link(link))
        return err;
    err = exec_link_delete(l->host_name);
    return err ? err : create_pair(sk, l, rtnl_link_get_ifindex(link) + 1000);
}

static int set_up(struct nl_sock *sk, int ifindex)
{
    CLEANUP(link_free) struct rtnl_link *old = rtnl_link_alloc(), *new = rtnl_link_alloc();
    if (!old || !new)
        return -ENOMEM;
    rtnl_link_set_ifindex(old, ifindex);
    rtnl_link_set_flags(new, IFF_UP);
    return netlink_errno(rtnl_link_change(sk, old, new, 0));
}

/* Duplicate address detection would keep the link-local addresses, and with them
 * neighbour discovery, waiting for a second or two. There is nobody to collide with. */
static void skip_dad(const char *name)
{
    char path[80];

    snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_dad", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t ignored = write(fd, "0", 1);
    (void)ignored;
    close(fd);
}

static size_t family_len(int family)
{
    return family == AF_INET ? 4 : 16;
}

static int add_address(struct nl_sock *sk, int ifindex, const struct exec_prefix *p, uint8_t n)
{
    uint8_t bytes[16];

    exec_prefix_nth(p, n, bytes);
    CLEANUP(nladdr_free)
    struct nl_addr *local = nl_addr_build(p->family, bytes, family_len(p->family));
    CLEANUP(rtaddr_free) struct rtnl_addr *addr = rtnl_addr_alloc();
    if (!local || !addr)
        return -ENOMEM;
    nl_addr_set_prefixlen(local, (int)p->len);
    rtnl_addr_set_ifindex(addr, ifindex);
    rtnl_addr_set_local(addr, local);
    /* Nobody else is on this link, and the address must work at once. */
    if (p->family == AF_INET6)
        rtnl_addr_set_flags(addr, IFA_F_NODAD);
    return netlink_errno(rtnl_addr_add(sk, addr, NLM_F_CREATE | NLM_F_EXCL));
}

static int add_default_route(struct nl_sock *sk, int ifindex, const struct exec_prefix *p)
{
    static const uint8_t zero[16];
    uint8_t bytes[16];

    exec_prefix_nth(p, 1, bytes);
    CLEANUP(nladdr_free)
    struct nl_addr *gw = nl_addr_build(p->family, bytes, family_len(p->family));
    CLEANUP(nladdr_free)
    struct nl_addr *dst = nl_addr_build(p->family, zero, family_len(p->family));
    CLEANUP(route_free) struct rtnl_route *route = rtnl_route_alloc();
    struct rtnl_nexthop *nh = rtnl_route_nh_alloc();
    if (!gw || !dst || !route || !nh) {
        rtnl_route_nh_free(nh);
        return -ENOMEM;
    }
    nl_addr_set_prefixlen(dst, 0);
    rtnl_route_nh_set_ifindex(nh, ifindex);
    rtnl_route_nh_set_gateway(nh, gw);
    rtnl_route_set_family(route, (uint8_t)p->family);
    rtnl_route_set_dst(route, dst);
    rtnl_route_add_nexthop(route, nh); /* takes it */
    return netlink_errno(rtnl_route_add(sk, route, NLM_F_CREATE | NLM_F_EXCL));
}

static int configure_host(struct nl_sock *sk, const struct exec_link *l)
{
    int ifindex;

    skip_dad(l->host_name);
    int err = get_ifindex(sk, l->host_name, &ifindex);
    if (!err)
        err = add_address(sk, ifindex, &l->ipv4, 1);
    if (!err && l->has_ipv6)
        err = add_address(sk, ifindex, &l->ipv6, 1);
    if (!err)
        err = set_up(sk, ifindex);
    return err;
}

static int configure_inside(const struct exec_link *l)
{
    CLEANUP(sock_free) struct nl_sock *sk = NULL;
    int lo, uplink;

    skip_dad(EXEC_LINK_INSIDE);
    int err = open_route(&sk);
    if (!err)
        err = get_ifindex(sk, "lo", &lo);
    if (!err)
        err = set_up(sk, lo);
    if (!err)
        err = get_ifindex(sk, EXEC_LINK_INSIDE, &uplink);
    if (!err)
        err = add_address(sk, uplink, &l->ipv4, 2);
    if (!err && l->has_ipv6)
        err = add_address(sk, uplink, &l->ipv6, 2);
    if (!err)
        err = set_up(sk, uplink);
    if (!err)
        err = add_default_route(sk, uplink, &l->ipv4);
    if (!err && l->has_ipv6)
        err = add_default_route(sk, uplink, &l->ipv6);
    return err;
}

static int enter_and_configure(const struct exec_link *l)
{
    int home_fd = netns_open("self");
    if (home_fd < 0)
        return home_fd;
    int err = netns_enter(l->netns_fd);
    if (!err) {
        err = configure_inside(l);
        int back = netns_enter(home_fd);
        if (!err)
            err = back;
    }
    close(home_fd);
    return err;
}

int exec_link_create(const struct exec_link *l, const char **ret_step)
{
    CLEANUP(sock_free) struct nl_sock *sk = NULL;

    *ret_step = "netlink";
    int err = open_route(&sk);
    if (err)
        return err;
    *ret_step = "making the veth pair";
    err = create_distinct_pair(sk, l);
    if (err)
        return err;
    *ret_step = "the host side's addresses";
    err = configure_host(sk, l);
    if (err)
        return err;
    *ret_step = "the new namespace's addresses and routes";
    return enter_and_configure(l);
}

int exec_link_bytes(const char *host_name, uint64_t *ret)
{
    CLEANUP(sock_free) struct nl_sock *sk = NULL;
    CLEANUP(link_free) struct rtnl_link *link = NULL;

    int err = open_route(&sk);
    if (!err)
        err = netlink_errno(rtnl_link_get_kernel(sk, 0, host_name, &link));
    if (!err)
        *ret = rtnl_link_get_stat(link, RTNL_LINK_RX_BYTES) +
               rtnl_link_get_stat(link, RTNL_LINK_TX_BYTES);
    return err;
}

int exec_link_delete(const char *host_name)
{
    CLEANUP(sock_free) struct nl_sock *sk = NULL;
    CLEANUP(link_free) struct rtnl_link *link = NULL;

    int err = open_route(&sk);
    if (err)
        return err;
    link = rtnl_link_alloc();
    if (!link)
        return -ENOMEM;
    rtnl_link_set_name(link, host_name);
    err = netlink_errno(rtnl_link_delete(sk, link));
    return err == -ENODEV || err == -ENOENT ? 0 : err;
}
