/* SPDX-License-Identifier: BSD-3-Clause
 * Routes, neighbours and own addresses, from the kernel through netlink.
 */
#include "tunnel/nexthop.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/neighbour.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/siphash.h"
#include "tunnel/forwarding.h"
#include "tunnel/route.h"

#define ROUTE_CNT       1024 /* remembered destinations; a later one replaces an older one */
#define HOP_MAX_CNT     4096
#define LOCAL_MAX_CNT   1024
#define FORWARDS_AGE_MS 1000
#define WAITING_MAX_CNT 1024 /* packets per unresolved neighbour; a lost SYN costs the option */
#define NUD_USABLE      (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY)

struct waiting {
    struct waiting *next;
    struct nexthop_path path;
    size_t len;
    uint8_t bytes[];
};

struct link {
    int ifindex;
    unsigned mtu;
    size_t link_len;
    uint8_t mac[ETH_ALEN];
};

/* A neighbour on one of the links. */
struct hop {
    struct hop *next;
    struct addr addr;
    int ifindex;
    bool resolved;
    bool stale;
    bool used; /* since the last tick */
    uint8_t link[NEXTHOP_LINK_MAX_LEN];
    struct waiting *waiting, **waiting_end;
    size_t waiting_cnt;
};

struct route {
    struct nexthop_path path;
    struct hop *hop; /* NULL: no route through one of the links */
    uint32_t generation;
};

struct nexthop {
    const struct nexthop_ops *ops;
    void *arg;
    struct nl_sock *ask;   /* questions, blocking */
    struct nl_sock *watch; /* notifications */
    struct link links[NEXTHOP_LINK_MAX_CNT];
    size_t link_cnt;
    bool forwards[2];          /* IPv6, IPv4 */
    int64_t forwards_at_ms[2]; /* when that was asked; 0: never */
    uint32_t generation;       /* of routes; older ones are asked for again */
    struct route routes[ROUTE_CNT];
    struct hop *hops;
    size_t hop_cnt;
    struct addr locals[LOCAL_MAX_CNT];
    size_t local_cnt;
};

static const struct siphash_key table_key = {0x746370637279, 0x6e6573};

static bool addr_from_nl(struct nl_addr *nl, struct addr *ret)
{
    if (!nl)
        return false;
    if (nl_addr_get_family(nl) == AF_INET && nl_addr_get_len(nl) == 4)
        *ret = addr_from_v4(nl_addr_get_binary_addr(nl));
    else if (nl_addr_get_family(nl) == AF_INET6 && nl_addr_get_len(nl) == 16)
        *ret = addr_from_v6(nl_addr_get_binary_addr(nl));
    else
        return false;
    return true;
}

/* --- Neighbours ------------------------------------------------------------------ */

static const struct link *link_find(const struct nexthop *n, int ifindex)
{
    for (size_t i = 0; i < n->link_cnt; i++)
        if (n->links[i].ifindex == ifindex)
            return &n->links[i];
    return NULL;
}

static struct hop *hop_find(const struct nexthop *n, int ifindex, const struct addr *addr)
{
    struct hop *hop = n->hops;

    while (hop && (hop->ifindex != ifindex || !addr_eq(&hop->addr, addr)))
        hop = hop->next;
    return hop;
}

static void put_link_header(const struct link *link, struct hop *hop, const uint8_t *dst_mac)
{
    struct ether_header *eth = (struct ether_header *)(void *)hop->link;

    memcpy(eth->ether_dhost, dst_mac, ETH_ALEN);
    memcpy(eth->ether_shost, link->mac, ETH_ALEN);
    eth->ether_type = htons(addr_is_v4(&hop->addr) ? ETHERTYPE_IP : ETHERTYPE_IPV6);
}

static void hop_release(struct nexthop *n, struct hop *hop, bool resolved)
{
    struct waiting *w = hop->waiting;

    hop->waiting = NULL;
    hop->waiting_end = &hop->waiting;
    hop->waiting_cnt = 0;
    while (w) {
        struct waiting *next = w->next;
        if (resolved)
            n->ops->on_resolved(n->arg, &w->path, w->bytes, w->len);
        else
            n->ops->on_failed(n->arg, &w->path, w->bytes, w->len);
        free(w);
        w = next;
    }
}

static void hop_update(struct nexthop *n, struct hop *hop, struct rtnl_neigh *neigh)
{
    int state = rtnl_neigh_get_state(neigh);
    struct nl_addr *mac = rtnl_neigh_get_lladdr(neigh);
    const struct link *link = link_find(n, hop->ifindex);

    if (link && state > 0 && state & NUD_USABLE && mac && nl_addr_get_len(mac) == ETH_ALEN) {
        put_link_header(link, hop, nl_addr_get_binary_addr(mac));
        hop->stale = state & NUD_STALE;
        hop->resolved = true;
        hop_release(n, hop, true);
    } else if (state > 0 && state & NUD_FAILED) {
        hop->resolved = false;
        hop_release(n, hop, false);
    }
}

static void hop_use(struct nexthop *n, const struct hop *hop)
{
    n->ops->resolve(n->arg, hop->ifindex, &hop->addr);
}

static void take_neigh(struct nl_object *obj, void *arg)
{
    struct nexthop *n = arg;
    struct rtnl_neigh *neigh = (struct rtnl_neigh *)obj;
    struct addr addr;

    if (!addr_from_nl(rtnl_neigh_get_dst(neigh), &addr))
        return;
    struct hop *hop = hop_find(n, rtnl_neigh_get_ifindex(neigh), &addr);
    if (hop)
        hop_update(n, hop, neigh);
}

/* What the kernel knows of all neighbours, for the hops that we use. */
static void hop_query(struct nexthop *n)
{
    struct nl_cache *cache;

    if (rtnl_neigh_alloc_cache(n->ask, &cache) < 0)
        return;
    nl_cache_foreach(cache, take_neigh, n);
    nl_cache_free(cache);
}

static void hop_free(struct hop *hop)
{
    while (hop->waiting) {
        struct waiting *w = hop->waiting;
        hop->waiting = w->next;
        free(w);
    }
    free(hop);
}

static void hops_free(struct nexthop *n)
{
    while (n->hops) {
        struct hop *hop = n->hops;
        n->hops = hop->next;
        hop_free(hop);
    }
    n->hop_cnt = 0;
}

static struct hop *hop_get(struct nexthop *n, const struct link *link, const struct addr *addr)
{
    struct hop *hop = hop_find(n, link->ifindex, addr);

    if (hop)
        return hop;
    if (n->hop_cnt == HOP_MAX_CNT) { /* start over; what is in use comes back */
        hops_free(n);
        n->generation++;
    }
    hop = calloc(1, sizeof(*hop));
    if (!hop)
        return NULL;
    hop->addr = *addr;
    hop->ifindex = link->ifindex;
    hop->waiting_end = &hop->waiting;
    hop->next = n->hops;
    n->hops = hop;
    n->hop_cnt++;
    if (link->link_len == 0)
        hop->resolved = true; /* nothing to resolve on a point-to-point link */
    else
        hop_query(n);
    return hop;
}

/* --- Own addresses and the link ----------------------------------------------------- */

static void take_local(struct nl_object *obj, void *arg)
{
    struct nexthop *n = arg;
    struct addr a;

    if (!addr_from_nl(rtnl_addr_get_local((struct rtnl_addr *)obj), &a))
        return;
    bool loopback = addr_is_v4(&a) ? a.in6.s6_addr[12] == 127 : IN6_IS_ADDR_LOOPBACK(&a.in6);
    if (!loopback && n->local_cnt < LOCAL_MAX_CNT)
        n->locals[n->local_cnt++] = a;
}

static void read_locals(struct nexthop *n)
{
    struct nl_cache *cache;

    if (rtnl_addr_alloc_cache(n->ask, &cache) < 0)
        return;
    n->local_cnt = 0;
    nl_cache_foreach(cache, take_local, n);
    nl_cache_free(cache);
}

bool nexthop_is_local(const struct nexthop *n, const struct addr *a)
{
    for (size_t i = 0; i < n->local_cnt; i++) {
        if (addr_eq(&n->locals[i], a))
            return true;
    }
    return false;
}

static int read_link(struct nexthop *n, struct link *ret)
{
    struct rtnl_link *link;
    int err = rtnl_link_get_kernel(n->ask, ret->ifindex, NULL, &link);

    if (err < 0)
        return -ENODEV;
    ret->mtu = rtnl_link_get_mtu(link);
    struct nl_addr *mac = rtnl_link_get_addr(link);
    switch (rtnl_link_get_arptype(link)) {
    case ARPHRD_ETHER:
        ret->link_len = ETH_HLEN;
        if (mac && nl_addr_get_len(mac) == ETH_ALEN)
            memcpy(ret->mac, nl_addr_get_binary_addr(mac), ETH_ALEN);
        break;
    case ARPHRD_NONE:
    case ARPHRD_PPP:
        ret->link_len = 0;
        break;
    default:
        err = -EPFNOSUPPORT;
        break;
    }
    rtnl_link_put(link);
    return err < 0 ? err : 0;
}

unsigned nexthop_mtu(const struct nexthop *n)
{
    unsigned mtu = 0;

    for (size_t i = 0; i < n->link_cnt; i++)
        if (!mtu || n->links[i].mtu < mtu)
            mtu = n->links[i].mtu;
    return mtu;
}

size_t nexthop_link_len(const struct nexthop *n, int ifindex)
{
    const struct link *link = link_find(n, ifindex);

    return link ? link->link_len : 0;
}

static void tell_mtu(struct nexthop *n, unsigned before)
{
    unsigned mtu = nexthop_mtu(n);

    if (mtu && mtu != before)
        n->ops->on_mtu(n->arg, mtu);
}

int nexthop_add_link(struct nexthop *n, int ifindex)
{
    struct link link = {.ifindex = ifindex};
    unsigned before = nexthop_mtu(n);

    if (link_find(n, ifindex))
        return 0;
    if (n->link_cnt == NEXTHOP_LINK_MAX_CNT)
        return -ENOSPC;
    int err = read_link(n, &link);
    if (err < 0)
        return err;
    n->links[n->link_cnt++] = link;
    n->generation++;
    tell_mtu(n, before);
    return 0;
}

void nexthop_del_link(struct nexthop *n, int ifindex)
{
    const struct link *link = link_find(n, ifindex);
    struct hop **at = &n->hops;
    unsigned before = nexthop_mtu(n);

    if (!link)
        return;
    n->links[link - n->links] = n->links[--n->link_cnt];
    while (*at) {
        struct hop *hop = *at;
        if (hop->ifindex != ifindex) {
            at = &hop->next;
            continue;
        }
        *at = hop->next;
        hop_free(hop);
        n->hop_cnt--;
    }
    n->generation++; /* routes point to hops that are gone */
    tell_mtu(n, before);
}

/* --- Routes ------------------------------------------------------------------------- */

/* What answers a packet leaves where that came in, if it can. */
static struct hop *ask_route(struct nexthop *n, const struct nexthop_path *path)
{
    struct route_answer answer;
    const struct link *link;

    if (path->via && link_find(n, path->via) &&
        route_ask(n->ask, &path->src, &path->dst, path->via, &answer))
        return hop_get(n, link_find(n, path->via), &answer.next_hop);
    if (!route_ask(n->ask, &path->src, &path->dst, 0, &answer))
        return NULL;
    link = link_find(n, answer.ifindex);
    return link ? hop_get(n, link, &answer.next_hop) : NULL;
}

static struct hop *find_hop(struct nexthop *n, const struct nexthop_path *path)
{
    struct route *r = &n->routes[siphash(&table_key, path, sizeof(*path)) % ROUTE_CNT];

    if (r->generation != n->generation || memcmp(&r->path, path, sizeof(*path)) != 0) {
        struct hop *hop = ask_route(n, path);
        *r = (struct route){*path, hop, n->generation};
    }
    return r->hop;
}

enum nexthop_result nexthop_lookup(struct nexthop *n, const struct nexthop_path *path,
                                   struct nexthop_way *ret)
{
    struct hop *hop = find_hop(n, path);

    if (!hop)
        return NEXTHOP_NO_ROUTE;
    hop->used = true;
    *ret = (struct nexthop_way){hop->ifindex, hop->link};
    return hop->resolved ? NEXTHOP_OK : NEXTHOP_WAIT;
}

void nexthop_wait(struct nexthop *n, const struct nexthop_path *path, const uint8_t *bytes,
                  size_t len)
{
    struct hop *hop = find_hop(n, path);

    if (!hop || hop->waiting_cnt == WAITING_MAX_CNT)
        return;
    struct waiting *w = malloc(sizeof(*w) + len);
    if (!w)
        return;
    w->next = NULL;
    w->path = *path;
    w->len = len;
    memcpy(w->bytes, bytes, len);
    bool first = hop->waiting_cnt == 0;
    *hop->waiting_end = w;
    hop->waiting_end = &w->next;
    hop->waiting_cnt++;
    if (first)
        hop_use(n, hop);
}

/* --- Changes ------------------------------------------------------------------------- */

static int on_change(struct nl_msg *msg, void *arg)
{
    struct nexthop *n = arg;

    switch (nlmsg_hdr(msg)->nlmsg_type) {
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
        nl_msg_parse(msg, take_neigh, n);
        break;
    case RTM_NEWADDR:
    case RTM_DELADDR:
        read_locals(n);
        n->generation++;
        break;
    case RTM_NEWLINK: {
        unsigned mtu = nexthop_mtu(n);
        n->generation++;
        for (size_t i = 0; i < n->link_cnt; i++)
            (void)read_link(n, &n->links[i]); /* it keeps what it had when it is gone */
        tell_mtu(n, mtu);
        break;
    }
    default:
        n->generation++;
        break;
    }
    return NL_OK;
}

static int no_seq_check(struct nl_msg *msg, void *arg)
{
    return NL_OK;
}

static int watch_open(struct nexthop *n)
{
    n->watch = nl_socket_alloc();
    if (!n->watch)
        return -ENOMEM;
    nl_socket_disable_seq_check(n->watch);
    nl_socket_modify_cb(n->watch, NL_CB_SEQ_CHECK, NL_CB_CUSTOM, no_seq_check, NULL);
    nl_socket_modify_cb(n->watch, NL_CB_VALID, NL_CB_CUSTOM, on_change, n);
    if (nl_connect(n->watch, NETLINK_ROUTE) < 0)
        return -EPERM;
    nl_socket_set_buffer_size(n->watch, 1 << 20, 0);
    if (nl_socket_add_memberships(n->watch, RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR,
                                  RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
                                  RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, 0) < 0)
        return -EPERM;
    return nl_socket_set_nonblocking(n->watch) < 0 ? -EIO : 0;
}

int nexthop_new(const struct nexthop_ops *ops, void *arg, struct nexthop **ret)
{
    struct nexthop *n = calloc(1, sizeof(*n));
    int err = -ENOMEM;

    if (!n)
        return -ENOMEM;
    n->ops = ops;
    n->arg = arg;
    n->generation = 1;
    n->ask = nl_socket_alloc();
    if (!n->ask)
        goto fail;
    err = -EPERM;
    if (nl_connect(n->ask, NETLINK_ROUTE) < 0)
        goto fail;
    err = watch_open(n); /* before the first question, so that no change is missed */
    if (err < 0)
        goto fail;
    read_locals(n);
    *ret = n;
    return 0;

fail:
    nexthop_free(n);
    return err;
}

void nexthop_free(struct nexthop *n)
{
    if (!n)
        return;
    nl_socket_free(n->watch);
    nl_socket_free(n->ask);
    hops_free(n);
    free(n);
}

bool nexthop_forwards(struct nexthop *n, bool ipv4)
{
    int64_t now = clock_coarse_ms();

    if (n->forwards_at_ms[ipv4] == 0 || now - n->forwards_at_ms[ipv4] > FORWARDS_AGE_MS) {
        n->forwards[ipv4] =
            forwarding_ask(n->ask, ipv4 ? AF_INET : AF_INET6) && forwarding_is_possible(n->ask);
        n->forwards_at_ms[ipv4] = now;
    }
    return n->forwards[ipv4];
}

int nexthop_fd(const struct nexthop *n)
{
    return nl_socket_get_fd(n->watch);
}

void nexthop_read(struct nexthop *n)
{
    int err = nl_recvmsgs_default(n->watch);

    if (err == -NLE_NOMEM) { /* notifications were lost: all may have changed */
        n->generation++;
        read_locals(n);
        hop_query(n);
    }
}

void nexthop_tick(struct nexthop *n)
{
    bool unresolved = false;

    for (struct hop *hop = n->hops; hop; hop = hop->next) {
        if (hop->used && nexthop_link_len(n, hop->ifindex) > 0 && (hop->stale || !hop->resolved))
            hop_use(n, hop);
        unresolved |= hop->used && !hop->resolved;
        hop->used = false;
    }
    if (unresolved)
        hop_query(n); /* in case the answer came before we listened */
}
