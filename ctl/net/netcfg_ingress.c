/* SPDX-License-Identifier: BSD-3-Clause
 * TCP of the uplinks is kept from the kernel: by programs or by chains.
 */
#include "ctl/net/netcfg_impl.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "ctl/net/hook.h"
#include "ctl/net/tundev.h"
#include "tunnel/forwarding.h"
#include "tunnel/netconf.h"

int netcfg_start_rx(struct netcfg *n)
{
    return tundev_start(n->rtnl, TUNDEV_RX_NAME, n->mtu);
}

void netcfg_open_rx(struct netcfg *n)
{
    int err = n->rx_fd = tundev_open_within(TUNDEV_RX_NAME, NETCFG_GOING_MS);

    n->rx_ifindex = (int)if_nametoindex(TUNDEV_RX_NAME);
    if (err >= 0)
        err = netcfg_start_rx(n);
    if (err >= 0)
        err = hook_try(n->rx_ifindex);
    if (err >= 0)
        return;
    log_debug("no programs at the uplinks' tcx hooks: %s", strerror(-err));
    if (n->rx_fd >= 0)
        close(n->rx_fd);
    n->rx_fd = -1;
}

void netcfg_close_rx(struct netcfg *n)
{
    if (n->rx_fd < 0)
        return;
    log_warn("%s was deleted: no more programs at the uplinks' tcx hooks", TUNDEV_RX_NAME);
    close(n->rx_fd);
    n->rx_fd = -1;
}

static bool can_forward(struct netcfg *n, int uplink)
{
    return (n->forwards || netconf_ask(n->rtnl, AF_INET, uplink, NETCONFA_FORWARDING) ||
            netconf_ask(n->rtnl, AF_INET6, uplink, NETCONFA_FORWARDING)) &&
           forwarding_is_possible(n->rtnl);
}

/* Return: whether that is all of them. */
static bool list_own(struct netcfg *n, struct netcfg_own *ret)
{
    struct addrs all;
    bool fits = true;

    if (addrs_load(n->rtnl, &all) < 0)
        return false;
    for (size_t i = 0; i < all.cnt; i++) {
        const struct addr *a = &all.entries[i].addr;
        bool known = false;

        for (size_t k = 0; k < ret->cnt; k++)
            known |= addr_eq(&ret->addrs[k], a);
        fits &= known || ret->cnt < HOOKPROG_OWN_MAX_CNT;
        if (!known && fits)
            ret->addrs[ret->cnt++] = *a;
    }
    addrs_done(&all);
    return fits;
}

/* The usual container: one device that takes programs and has no others' ahead of them, few
 * addresses, nothing that is bypassed by address, nothing to forward. *ret_first: whose come first
 * there. Return: that device; 0: it needs the chains. */
static int find_hooked(struct netcfg *n, const struct ingress_policy *policy,
                       struct netcfg_own *ret_own, enum hook_first *ret_first)
{
    const struct links_entry *only = NULL;

    *ret_first = HOOK_NOBODYS;
    *ret_own = (struct netcfg_own){.cnt = 0};
    if (n->rx_fd < 0 || policy->bypass.match_cnt > 0)
        return 0;
    for (size_t i = 0; i < n->uplinks.cnt; i++) {
        if (n->uplinks.entries[i].ifindex == 0)
            continue;
        if (only)
            return 0;
        only = &n->uplinks.entries[i];
    }
    if (!only || !only->hookable || can_forward(n, only->ifindex))
        return 0;
    *ret_first = hook_first(only->ifindex);
    if (*ret_first == HOOK_OTHERS)
        return 0;
    return list_own(n, ret_own) && ret_own->cnt > 0 ? only->ifindex : 0;
}

static int set_hook(struct netcfg *n, int uplink, const struct ingress_policy *policy,
                    const struct netcfg_own *own)
{
    struct hookprog_config cfg = {
        .bypass = &policy->bypass,
        .strict = policy->strict,
        .own = own->addrs,
        .own_cnt = own->cnt,
        .to_ifindex = n->rx_ifindex,
    };

    n->may_have_programs = true;
    n->own = *own;
    return hook_set(uplink, &cfg);
}

static void remove_hook(void)
{
    bool found;
    int err = hook_remove_guard(&found), err_ingress = hook_remove_ingress(&found);

    err = err ? err : err_ingress;
    if (err == -EPERM)
        log_info("there are programs at tcx hooks that we may not look at");
    else if (err)
        log_error("cannot detach programs: %s", strerror(-err));
}

int netcfg_set_ingress(struct netcfg *n, const struct ingress_policy *policy)
{
    struct netcfg_own own;
    enum hook_first first;
    int uplink = find_hooked(n, policy, &own, &first);
    int err = uplink ? set_hook(n, uplink, policy, &own) : 0;

    if (err) {
        log_warn("cannot attach programs to an uplink: %s", strerror(-err));
        uplink = 0;
    }
    err = ingress_set(&n->uplinks, policy, n->forwards, uplink);
    if (err)
        return err;
    if (!uplink && n->may_have_programs) {
        remove_hook();
        n->may_have_programs = false;
    }
    n->hooked = uplink;
    return 0;
}

int netcfg_follow_ingress(struct netcfg *n)
{
    struct netcfg_own own;
    enum hook_first first;
    int uplink = find_hooked(n, &n->policy, &own, &first);
    bool same = first == HOOK_OURS && own.cnt == n->own.cnt &&
                memcmp(own.addrs, n->own.addrs, own.cnt * sizeof(own.addrs[0])) == 0;

    if (uplink == n->hooked && (!uplink || same || set_hook(n, uplink, &n->policy, &own) == 0))
        return 0;
    return netcfg_set_ingress(n, &n->policy);
}

bool netcfg_find_forwarding(struct netcfg *n)
{
    bool before = n->forwards;

    n->forwards = forwarding_ask(n->rtnl, AF_INET) || forwarding_ask(n->rtnl, AF_INET6);
    return n->forwards != before;
}
