/* SPDX-License-Identifier: BSD-3-Clause
 * What others change in the namespace while the daemon is attached: links, addresses, routes,
 * rules, tables, devices.
 */
#include "ctl/net/netcfg_impl.h"

#include <string.h>
#include <unistd.h>

#include <netlink/route/link.h>

#include "base/log.h"
#include "ctl/net/tundev.h"

/* An address that comes without a message of its link may make an uplink of it. */
static bool find_again(struct netcfg *n)
{
    struct links uplinks = n->uplinks, native = n->native;

    int err = netcfg_load_links(n);
    if (err) {
        log_error("cannot read links and routes: %s", strerror(-err));
        return false;
    }
    return memcmp(&uplinks, &n->uplinks, sizeof(uplinks)) != 0 ||
           memcmp(&native, &n->native, sizeof(native)) != 0;
}

static void follow_mtu(struct netcfg *n)
{
    int mtu = netcfg_smallest_mtu(&n->uplinks);

    if (mtu && mtu != n->mtu && tundev_set_mtu(n->rtnl, TUNDEV_NAME, mtu) == 0)
        n->mtu = mtu;
}

static bool is_down(struct netcfg *n, int ifindex)
{
    struct rtnl_link *link = NULL;

    if (rtnl_link_get_kernel(n->rtnl, ifindex, NULL, &link) < 0)
        return false;
    bool down = !(rtnl_link_get_flags(link) & IFF_UP);
    rtnl_link_put(link);
    return down;
}

static void follow_tun(struct netcfg *n, const char *name, int ifindex,
                       int (*start)(struct netcfg *n))
{
    if (!is_down(n, ifindex))
        return;
    log_warn("%s was set down; setting it up again", name);
    int err = start(n);
    if (err)
        log_error("cannot set up %s: %s", name, strerror(-err));
}

/* Their sockets, programs and chains went with them: what comes in their place is new, though it
 * may look the same. Return: whether there were such. */
static bool forget_gone(struct netcfg *n)
{
    struct links left = {.cnt = 0};

    for (size_t i = 0; i < n->uplinks.cnt; i++) {
        const struct links_entry *e = &n->uplinks.entries[i];

        if (e->ifindex == 0 || !netwatch_has_gone(&n->watch, e->ifindex))
            left.entries[left.cnt++] = *e;
        else if (e->ifindex == n->hooked)
            n->hooked = 0;
    }
    bool any = left.cnt != n->uplinks.cnt;
    n->uplinks = left;
    return any;
}

/* Somebody has deleted it: its routes went with it, and those below them lead nowhere. The next
 * event tries again what fails. Return: whether there is another. */
static bool renew_tun(struct netcfg *n)
{
    char err[NETCFG_ERROR_LEN];

    if (n->tun_fd >= 0) {
        log_warn("%s was deleted; making another", TUNDEV_NAME);
        close(n->tun_fd);
        n->tun_fd = -1;
        mirror_done(&n->mirror);
    }
    int e = netcfg_open_tun(n, NETCFG_GOING_MS, err);
    if (e) {
        log_error("%s", err);
        return false;
    }
    e = netcfg_start_tun(n);
    if (e)
        log_error("cannot set up %s: %s", TUNDEV_NAME, strerror(-e));
    return true;
}

static void report(const char *what, int err)
{
    if (err)
        log_error("cannot follow a change of %s: %s", what, strerror(-err));
}

void netcfg_on_event(struct netcfg *n, void (*on_links)(void *arg), void *arg)
{
    int hooked = n->hooked;
    unsigned news = netwatch_read(&n->watch);
    bool gone = forget_gone(n);

    if (gone)
        on_links(arg);
    if (netwatch_has_gone(&n->watch, n->rx_ifindex))
        netcfg_close_rx(n);
    bool changed = (news & (NETWATCH_LINK | NETWATCH_ROUTES) && find_again(n)) || gone;
    if (n->tun_fd < 0 || netwatch_has_gone(&n->watch, n->tun_ifindex))
        changed |= renew_tun(n);

    if (changed)
        follow_mtu(n);
    if (news & NETWATCH_LINK)
        follow_tun(n, TUNDEV_NAME, n->tun_ifindex, netcfg_start_tun);
    if (news & NETWATCH_LINK && n->rx_fd >= 0)
        follow_tun(n, TUNDEV_RX_NAME, n->rx_ifindex, netcfg_start_rx);
    bool forwarding = news & NETWATCH_CONF && netcfg_find_forwarding(n);
    if (changed || forwarding || news & NETWATCH_INGRESS)
        report("nftables", netcfg_set_ingress(n, &n->policy));
    else if (news & (NETWATCH_LINK | NETWATCH_ROUTES | NETWATCH_CONF))
        report("programs", netcfg_follow_ingress(n));
    if (news & NETWATCH_RULES ||
        (news & NETWATCH_CONF && netcfg_filters_paths(n) != n->filters_paths))
        report("policy rules", netcfg_set_rules(n, &n->policy.bypass));
    if (changed || (news & NETWATCH_ROUTES))
        report("routes", mirror_sync(&n->mirror, netcfg_on_moving, n));
    /* Last: with a way out but without its route a connection would get a source address of
     * another uplink, and wait in vain. Without the way it fails at once. */
    if (changed || n->hooked != hooked)
        on_links(arg);
}
