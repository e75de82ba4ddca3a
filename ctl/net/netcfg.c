/* SPDX-License-Identifier: BSD-3-Clause
 * All that the daemon configures in the container's namespace.
 */
#include "ctl/net/netcfg_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "ctl/net/hook.h"
#include "ctl/net/neigh.h"
#include "ctl/net/netlink.h"
#include "ctl/net/rules.h"
#include "ctl/net/tundev.h"
#include "tunnel/netconf.h"
#include "tunnel/vnet.h"

#define LOCK_MS 1000 /* for what a killed daemon leaves to go; see NETCFG_GOING_MS */

int netcfg_fail(char err[NETCFG_ERROR_LEN], int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err, NETCFG_ERROR_LEN, fmt, ap);
    va_end(ap);
    return code;
}

static const char *permission_hint(int err)
{
    return err == -EPERM ? " (CAP_NET_ADMIN and CAP_NET_RAW are needed there)" : "";
}

/* --- Uplinks ---------------------------------------------------------------- */

/* The name goes into a quoted string of an nftables command. */
static bool is_plain_name(const char *name)
{
    return *name && strlen(name) < IFNAMSIZ && !strpbrk(name, "\"\\\n");
}

static int check_names(const struct links *named, char err[NETCFG_ERROR_LEN])
{
    for (size_t i = 0; i < named->cnt; i++) {
        const char *name = named->entries[i].name;

        if (!is_plain_name(name) || tundev_is_ours(name))
            return netcfg_fail(err, -EINVAL, "\"%s\" cannot be an uplink", name);
        if (strcmp(name, "lo") == 0)
            return netcfg_fail(err, -EINVAL, "\"%s\" is a loopback interface, not an uplink", name);
    }
    return 0;
}

int netcfg_load_links(struct netcfg *n)
{
    return links_find(n->rtnl, n->named.cnt > 0 ? &n->named : NULL, &n->uplinks, &n->native);
}

int netcfg_smallest_mtu(const struct links *l)
{
    int mtu = 0;

    for (size_t i = 0; i < l->cnt; i++)
        if (l->entries[i].ifindex > 0 && (!mtu || l->entries[i].mtu < mtu))
            mtu = l->entries[i].mtu;
    return mtu;
}

static int find_uplinks(struct netcfg *n, char err[NETCFG_ERROR_LEN])
{
    int e = check_names(&n->named, err);

    if (e)
        return e;
    e = netcfg_load_links(n);
    if (e)
        return netcfg_fail(err, e, "cannot read links and routes: %s", strerror(-e));
    if (n->uplinks.cnt == 0)
        return netcfg_fail(
            err, -ENETUNREACH,
            "the namespace has no interface to the outside, that is one with a route; "
            "name it with --uplink");
    for (size_t i = 0; i < n->uplinks.cnt; i++)
        if (n->uplinks.entries[i].ifindex == 0)
            return netcfg_fail(err, -ENODEV, "the namespace has no interface \"%s\"",
                               n->uplinks.entries[i].name);
    n->mtu = netcfg_smallest_mtu(&n->uplinks);
    return 0;
}

/* --- Leftovers -------------------------------------------------------------- */

/* Programs that we may not look at (-EPERM) are others', unless something else of ours is left.
 * Return: 0; -EACCES: there are such; -errno. */
static int remove_all(struct netcfg *n, bool *found)
{
    bool hook_guard, guard = false, rules = false, hook, ingress = false, routes = false;

    int err_hook_guard = hook_remove_guard(&hook_guard);
    int err_guard = ingress_remove_guard(&guard);
    int err_rules = rules_remove_all(n->rtnl, &rules);
    int err_hook = hook_remove_ingress(&hook);
    int err_ingress = ingress_remove(&ingress);
    int err_routes = mirror_remove_all(n->rtnl, &routes);
    *found = guard || rules || ingress || routes;
    err_hook = err_hook_guard ? err_hook_guard : err_hook;
    if (err_hook == -EPERM)
        err_hook = *found && n->may_have_programs ? -EACCES : 0;
    *found |= hook_guard || hook;
    return err_guard     ? err_guard
           : err_rules   ? err_rules
           : err_ingress ? err_ingress
           : err_routes  ? err_routes
                         : err_hook;
}

/* --- Coming and going ------------------------------------------------------- */

static struct netcfg *alloc(const struct ingress_policy *policy)
{
    struct netcfg *n = calloc(1, sizeof(*n));

    if (!n)
        return NULL;
    n->tun_fd = n->rx_fd = -1;
    n->may_have_programs = true;
    n->watch = (struct netwatch)NETWATCH_NONE;
    n->policy = *policy;
    return n;
}

void netcfg_forget(struct netcfg *n)
{
    netwatch_done(&n->watch);
    mirror_done(&n->mirror);
    sockdiag_done(&n->opening);
    nl_socket_free(n->rtnl);
    nl_socket_free(n->diag);
    free(n);
}

void netcfg_abandon(struct netcfg *n)
{
    const int fds[] = {n->tun_fd, n->rx_fd};

    netcfg_forget(n);
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static int open_netlink(struct netcfg *n, char err[NETCFG_ERROR_LEN])
{
    int e = netlink_open(NETLINK_ROUTE, &n->rtnl);

    if (!e)
        e = netlink_open(NETLINK_SOCK_DIAG, &n->diag);
    /* Before anything is read, so that no change is missed. */
    if (!e)
        e = netwatch_init(&n->watch);
    return e ? netcfg_fail(err, e, "cannot open netlink: %s%s", strerror(-e), permission_hint(e))
             : 0;
}

int netcfg_open_tun(struct netcfg *n, int wait_ms, char err[NETCFG_ERROR_LEN])
{
    int fd = tundev_open_within(TUNDEV_NAME, wait_ms);

    if (fd == -EBUSY)
        return netcfg_fail(err, -EALREADY, "already attached: the namespace has a %s", TUNDEV_NAME);
    if (fd == -ENOENT || fd == -ENODEV || fd == -ENXIO)
        return netcfg_fail(err, fd,
                           "no /dev/net/tun (modprobe tun; for a container --device /dev/net/tun)");
    if (fd < 0)
        return netcfg_fail(err, fd, "cannot create %s: %s%s", TUNDEV_NAME, strerror(-fd),
                           permission_hint(fd));
    n->tun_fd = fd;
    n->tun_ifindex = (int)if_nametoindex(TUNDEV_NAME);
    n->tun_gso_max_len = tundev_gso_max_len(n->rtnl);
    mirror_init(&n->mirror, n->rtnl, n->tun_ifindex, &n->uplinks);
    return 0;
}

/* The tunnel tells programs of unreachable peers by ICMP from 192.0.0.8, which
 * a strict reverse-path filter accepts only from the device that leads there. */
int netcfg_start_tun(struct netcfg *n)
{
    int err = tundev_start(n->rtnl, TUNDEV_NAME, n->mtu);

    if (!err)
        err = mirror_add_dummy_route(n->rtnl, n->tun_ifindex);
    return err;
}

/* The kernel takes the larger of both (ip-sysctl, rp_filter). Loosely (2) is as bad: of a device
 * without an address it drops all that has another way back. */
bool netcfg_filters_paths(struct netcfg *n)
{
    int all = netconf_ask(n->rtnl, AF_INET, NETCONFA_IFINDEX_ALL, NETCONFA_RP_FILTER);
    int own = netconf_ask(n->rtnl, AF_INET, n->tun_ifindex, NETCONFA_RP_FILTER);

    return all > 0 || own > 0;
}

int netcfg_set_rules(struct netcfg *n, const struct bypass *bypass)
{
    n->filters_paths = netcfg_filters_paths(n);
    return rules_sync(n->rtnl, bypass, n->filters_paths);
}

/* Ways into the tunnel first, then the rules that lead there: nothing leaves in
 * clear that could be encrypted, and nothing is led nowhere. */
static int configure(struct netcfg *n, char err[NETCFG_ERROR_LEN])
{
    int e = netcfg_destroy_leftovers(n);

    if (e)
        return netcfg_fail(err, e, "cannot reset the connections of a dead daemon: %s%s",
                           strerror(-e), permission_hint(e));
    e = netcfg_start_tun(n);
    if (e)
        return netcfg_fail(err, e, "cannot set up %s: %s%s", TUNDEV_NAME, strerror(-e),
                           permission_hint(e));
    netcfg_open_rx(n);
    e = mirror_sync(&n->mirror, netcfg_on_moving, n);
    if (e == -EACCES) /* what the kernel says of a device without IPv6 */
        return netcfg_fail(err, -EAFNOSUPPORT,
                           "an uplink has IPv6, but new devices get none: set "
                           "net.ipv6.conf.default.disable_ipv6 to 0 in the namespace");
    if (e)
        return netcfg_fail(err, e, "cannot set routes: %s", strerror(-e));
    e = netcfg_note_opening(n);
    if (e)
        return netcfg_fail(err, e, "cannot list sockets: %s", strerror(-e));
    e = netcfg_set_rules(n, &n->policy.bypass);
    if (e)
        return netcfg_fail(err, e, "cannot set policy rules: %s", strerror(-e));
    e = netcfg_set_ingress(n, &n->policy);
    if (e)
        return netcfg_fail(err, e, "cannot set the nftables table: %s%s", strerror(-e),
                           permission_hint(e));
    return 0;
}

int netcfg_new(const struct links *uplinks, const struct ingress_policy *policy,
               struct netcfg **ret, char err[NETCFG_ERROR_LEN])
{
    struct netcfg *n = alloc(policy);

    if (!n)
        return netcfg_fail(err, -ENOMEM, "out of memory");
    n->named = *uplinks;
    int e = open_netlink(n, err);
    if (!e)
        e = find_uplinks(n, err);
    if (!e)
        e = netcfg_open_tun(n, NETCFG_GOING_MS, err);
    if (e) {
        netcfg_abandon(n);
        return e;
    }
    netcfg_find_forwarding(n);
    e = configure(n, err);
    if (e) {
        netcfg_free(n);
        return e;
    }
    *ret = n;
    return 0;
}

void netcfg_free(struct netcfg *n)
{
    bool found;

    if (!n)
        return;
    int err = remove_all(n, &found);
    if (err)
        log_error("cannot take away all that was configured: %s", strerror(-err));
    netcfg_abandon(n);
}

/* The lock: as long as we hold the TUN device, no daemon attaches. Without
 * /dev/net/tun there can be none. */
static int lock(struct netcfg *n, char err[NETCFG_ERROR_LEN])
{
    int e = netcfg_open_tun(n, LOCK_MS, err);

    if (e == -ENOENT || e == -ENODEV || e == -ENXIO)
        return 0;
    if (e == -EALREADY)
        return netcfg_fail(err, e, "its daemon lives but does not answer");
    return e;
}

int netcfg_remove_leftovers(bool *ret_found, char err[NETCFG_ERROR_LEN])
{
    struct ingress_policy none = {.strict = false};
    struct netcfg *n = alloc(&none);

    if (!n)
        return netcfg_fail(err, -ENOMEM, "out of memory");
    int e = open_netlink(n, err);
    if (!e)
        e = lock(n, err);
    if (e)
        goto out;
    mirror_init(&n->mirror, n->rtnl, n->tun_ifindex, &n->uplinks);
    e = netcfg_destroy_leftovers(n);
    if (!e)
        e = remove_all(n, ret_found);
    if (e == -EACCES)
        netcfg_fail(err, e,
                    "programs of a killed daemon may be left at an interface's tcx hooks: to "
                    "look at them takes CAP_SYS_ADMIN");
    else if (e)
        netcfg_fail(err, e, "cannot take away what is left: %s%s", strerror(-e),
                    permission_hint(e));
out:
    netcfg_abandon(n);
    return e;
}

/* --- While it runs ---------------------------------------------------------- */

void netcfg_resolve(struct netcfg *n, int ifindex, const struct addr *neighbour)
{
    int err = neigh_use(n->rtnl, ifindex, neighbour);

    if (err)
        log_debug("cannot resolve a neighbour: %s", strerror(-err));
}

void netcfg_drain(struct netcfg *n)
{
    vnet_drain(n->tun_fd);
    if (n->rx_fd >= 0)
        vnet_drain(n->rx_fd);
}

int netcfg_tun_fd(const struct netcfg *n)
{
    return n->tun_fd;
}

int netcfg_tun_ifindex(const struct netcfg *n)
{
    return n->tun_ifindex;
}

int netcfg_rx_fd(const struct netcfg *n)
{
    return n->rx_fd;
}

int netcfg_hooked(const struct netcfg *n)
{
    return n->hooked;
}

size_t netcfg_tun_gso_max_len(const struct netcfg *n)
{
    return n->tun_gso_max_len;
}

const struct links *netcfg_uplinks(const struct netcfg *n)
{
    return &n->uplinks;
}

const struct links *netcfg_native(const struct netcfg *n)
{
    return &n->native;
}

int netcfg_event_fd(const struct netcfg *n)
{
    return n->watch.fd;
}
