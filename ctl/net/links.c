/* SPDX-License-Identifier: BSD-3-Clause
 * Which interfaces of a namespace are uplinks.
 */
#include "ctl/net/links.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include <netlink/route/link.h>

#include "base/log.h"
#include "ctl/exec/exec_link.h"
#include "ctl/net/addrs.h"
#include "ctl/net/mirror_msg.h"
#include "ctl/net/netlink.h"
#include "ctl/net/tundev.h"

bool links_is_uplink(const struct links_facts *f)
{
    if (f->loopback)
        return false;
    if (f->has_default)
        return true;
    return f->ethernet && f->has_address && f->has_route && !f->hides_containers && !f->dummy;
}

static const struct links_entry *by_index(const struct links *l, int ifindex)
{
    for (size_t i = 0; i < l->cnt; i++)
        if (l->entries[i].ifindex == ifindex)
            return &l->entries[i];
    return NULL;
}

static const struct links_entry *by_name(const struct links *l, const char *name)
{
    for (size_t i = 0; i < l->cnt; i++)
        if (strcmp(l->entries[i].name, name) == 0)
            return &l->entries[i];
    return NULL;
}

bool links_has(const struct links *l, int ifindex)
{
    return ifindex > 0 && by_index(l, ifindex);
}

/* --- What there is ---------------------------------------------------------- */

struct facts {
    struct links_facts *list;
    size_t cnt;
};

static struct links_facts *facts_of(const struct facts *all, int ifindex)
{
    for (size_t i = 0; i < all->cnt; i++)
        if (all->list[i].id.ifindex == ifindex)
            return &all->list[i];
    return NULL;
}

static bool is_kind(struct rtnl_link *link, const char *kind)
{
    const char *is = rtnl_link_get_type(link);

    return is && strcmp(is, kind) == 0;
}

/* What is made for a namespace and ends with it. Others (a VLAN's, a bond) may be lent like a card:
 * who takes them out again would take our programs along. */
static bool is_made_for_namespace(struct rtnl_link *link)
{
    static const char *const kinds[] = {"veth", "macvlan", "ipvlan"};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (is_kind(link, kinds[i]))
            return true;
    return false;
}

static void note_link(struct nl_object *obj, void *arg)
{
    struct rtnl_link *link = (struct rtnl_link *)obj;
    bool ethernet = rtnl_link_get_arptype(link) == ARPHRD_ETHER;
    struct facts *all = arg;
    const char *name = rtnl_link_get_name(link);

    /* The ports of a bridge may be listed a second time, by the bridge. */
    if (!name || facts_of(all, rtnl_link_get_ifindex(link)) || tundev_is_ours(name))
        return;
    struct links_facts *f = &all->list[all->cnt++];
    *f = (struct links_facts){
        .id = {.ifindex = rtnl_link_get_ifindex(link),
               .mtu = (int)rtnl_link_get_mtu(link),
               .hookable = ethernet && is_made_for_namespace(link)},
        .loopback = rtnl_link_get_flags(link) & IFF_LOOPBACK,
        .ethernet = ethernet,
        .hides_containers = is_kind(link, "bridge") ||
                            strncmp(name, EXEC_LINK_PREFIX, strlen(EXEC_LINK_PREFIX)) == 0,
        .dummy = is_kind(link, "dummy"),
    };
    strncpy(f->id.name, name, IFNAMSIZ - 1);
}

static int note_links(struct nl_sock *rtnl, struct facts *all)
{
    struct nl_cache *cache;

    int nle = rtnl_link_alloc_cache(rtnl, AF_UNSPEC, &cache);
    if (nle < 0)
        return netlink_errno(nle);
    all->list = calloc((size_t)nl_cache_nitems(cache) + 1, sizeof(*all->list));
    if (all->list)
        nl_cache_foreach(cache, note_link, all);
    nl_cache_free(cache);
    return all->list ? 0 : -ENOMEM;
}

static int note_route(const struct mirror_seen *s, void *arg)
{
    if (s->route.kind != MIRROR_TUN || s->protocol == MIRROR_PROTOCOL)
        return 0;
    /* Every interface has these, up or not in use. */
    if (s->route.family == AF_INET6 && s->route.dst_len > 0 &&
        (IN6_IS_ADDR_LINKLOCAL(&s->route.dst) || IN6_IS_ADDR_MULTICAST(&s->route.dst)))
        return 0;
    for (size_t i = 0; i < s->ifindex_cnt; i++) {
        struct links_facts *f = facts_of(arg, s->ifindexes[i]);

        if (!f)
            continue;
        f->has_route = true;
        f->has_default |= s->route.dst_len == 0;
    }
    return 0;
}

static int note_routes(struct nl_sock *rtnl, struct facts *all)
{
    struct links none = {.cnt = 0};
    struct mirror m = {.rtnl = rtnl, .uplinks = &none};
    int err = mirror_msg_list(&m, AF_INET, RT_TABLE_MAIN, note_route, all);

    return err ? err : mirror_msg_list(&m, AF_INET6, RT_TABLE_MAIN, note_route, all);
}

static int note_addresses(struct nl_sock *rtnl, struct facts *all)
{
    struct addrs addrs;

    int err = addrs_load(rtnl, &addrs);
    if (err)
        return err;
    for (size_t i = 0; i < addrs.cnt; i++) {
        struct links_facts *f = facts_of(all, addrs.entries[i].ifindex);

        if (f && addrs.entries[i].scope == RT_SCOPE_UNIVERSE)
            f->has_address = true;
    }
    addrs_done(&addrs);
    return 0;
}

/* --- Which are ours --------------------------------------------------------- */

static bool is_ours(const struct links_facts *f, const struct links *named,
                    const struct links *before)
{
    if (named)
        return by_name(named, f->id.name);
    return links_has(before, f->id.ifindex) || links_is_uplink(f);
}

static bool add(struct links *l, const struct links_entry *e)
{
    if (l->cnt == TUNNEL_UPLINK_MAX_CNT)
        return false;
    l->entries[l->cnt++] = *e;
    return true;
}

static void sort_out(const struct facts *all, const struct links *named, struct links *uplinks,
                     struct links *native)
{
    struct links before = *uplinks;

    *uplinks = *native = (struct links){.cnt = 0};
    for (size_t i = 0; i < all->cnt; i++) {
        const struct links_facts *f = &all->list[i];

        if (!is_ours(f, named, &before)) {
            if (f->has_route && !f->loopback)
                (void)add(native, &f->id); /* for show */
        } else if (!add(uplinks, &f->id)) {
            log_warn("more than %d uplinks: %s is left to the kernel", TUNNEL_UPLINK_MAX_CNT,
                     f->id.name);
            (void)add(native, &f->id);
        }
    }
    for (size_t i = 0; named && i < named->cnt; i++) {
        struct links_entry missing = named->entries[i];

        missing.ifindex = 0;
        if (!by_name(uplinks, missing.name))
            (void)add(uplinks, &missing);
    }
}

int links_find(struct nl_sock *rtnl, const struct links *named, struct links *uplinks,
               struct links *ret_native)
{
    struct facts all = {.cnt = 0};

    int err = note_links(rtnl, &all);
    if (!err)
        err = note_routes(rtnl, &all);
    if (err == -EINTR) /* a table changed meanwhile; news of that will come, too */
        err = note_routes(rtnl, &all);
    if (!err)
        err = note_addresses(rtnl, &all);
    if (!err)
        sort_out(&all, named, uplinks, ret_native);
    free(all.list);
    return err;
}
