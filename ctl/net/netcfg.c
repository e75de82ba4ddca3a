/* SPDX-License-Identifier: BSD-3-Clause
 * All that the daemon configures in the container's namespace.
 */
#include "ctl/net/netcfg.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <netlink/route/link.h>

#include "base/log.h"
#include "ctl/net/addrs.h"
#include "ctl/net/ingress.h"
#include "ctl/net/mirror.h"
#include "ctl/net/neigh.h"
#include "ctl/net/netlink.h"
#include "ctl/net/netwatch.h"
#include "ctl/net/rules.h"
#include "ctl/net/tundev.h"
#include "tunnel/forwarding.h"

struct netcfg {
    struct nl_sock *rtnl;
    struct nl_sock *diag;
    struct netwatch watch;
    struct mirror mirror;
    struct ingress_policy policy;
    bool forwards;                /* packets of others, possibly under own addresses */
    struct sockdiag_list opening; /* SYN sent before we came; until netcfg_list_older() */
    int tun_fd;
    int tun_ifindex;
    size_t tun_gso_max_len;
    struct links named; /* by the user; none: links.h finds them */
    struct links uplinks, native;
    int mtu; /* of the TUN device: the smallest of all uplinks */
};

static int fail(char err[NETCFG_ERROR_LEN], int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(char err[NETCFG_ERROR_LEN], int code, const char *fmt, ...)
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

/* --- Sockets ---------------------------------------------------------------- */

struct choice {
    const struct netcfg *n;
    struct addrs addrs;
    bool only_tun;                 /* else also those whose way is closed */
    const struct bypass *bypass;   /* in place of the one in force; NULL: that one */
    const struct bypass *taken_by; /* only those that it takes; NULL: does not matter */
    mirror_is_moving_fn is_moving; /* NULL: does not matter */
    const void *moving_arg;
};

static bool is_chosen(const struct tuple *t, const void *arg)
{
    const struct choice *c = arg;

    if (bypass_takes(c->bypass ? c->bypass : &c->n->policy.bypass, t))
        return false;
    if (c->taken_by && !bypass_takes(c->taken_by, t))
        return false;
    if (IN6_IS_ADDR_LINKLOCAL(&t->local.in6) || IN6_IS_ADDR_LINKLOCAL(&t->peer.in6))
        return false; /* see rules.h */
    if (addrs_is_own(&c->addrs, &t->peer))
        return false;
    if (c->is_moving)
        return c->is_moving(&t->peer, c->moving_arg);
    enum mirror_kind kind = mirror_lookup(&c->n->mirror, &t->peer);
    return c->only_tun ? kind == MIRROR_TUN : kind != MIRROR_NATIVE;
}

static int choose(struct netcfg *n, struct choice *c, struct sockdiag_list *ret)
{
    c->n = n;
    int err = addrs_load(n->rtnl, &c->addrs);
    if (err)
        return err;
    err = sockdiag_load(n->diag, is_chosen, c, ret);
    addrs_done(&c->addrs);
    return err;
}

int netcfg_destroy_list(struct netcfg *n, const struct sockdiag_list *l)
{
    if (l->cnt > 0)
        log_info("resetting %zu connections", l->cnt);
    return sockdiag_destroy(n->diag, l);
}

static int destroy(struct netcfg *n, struct choice *c)
{
    struct sockdiag_list sockets;

    int err = choose(n, c, &sockets);
    if (err)
        return err;
    err = netcfg_destroy_list(n, &sockets);
    sockdiag_done(&sockets);
    return err;
}

static void on_moving(void *ctx, mirror_is_moving_fn is_moving, const void *arg)
{
    struct choice c = {.is_moving = is_moving, .moving_arg = arg};

    int err = destroy(ctx, &c);
    if (err)
        log_error("cannot reset connections that leave the tunnel: %s", strerror(-err));
}

int netcfg_list_sockets(struct netcfg *n, struct sockdiag_list *ret)
{
    struct choice c = {.only_tun = true};

    return choose(n, &c, ret);
}

/* A SYN that was sent after the rules were set waits in the TUN device, and may
 * still be encrypted: only those sent before go on as they began. */
int netcfg_list_older(struct netcfg *n, struct sockdiag_list *ret)
{
    size_t kept = 0;

    int err = netcfg_list_sockets(n, ret);
    if (err)
        return err;
    for (size_t i = 0; i < ret->cnt; i++) {
        const struct sockdiag_socket *s = &ret->sockets[i];

        if (s->state != TCP_SYN_SENT || sockdiag_has(&n->opening, s))
            ret->sockets[kept++] = *s;
    }
    ret->cnt = kept;
    sockdiag_sort(ret);
    sockdiag_done(&n->opening);
    return 0;
}

static int note_opening(struct netcfg *n)
{
    struct sockdiag_list *l = &n->opening;
    size_t kept = 0;

    int err = netcfg_list_sockets(n, l);
    if (err)
        return err;
    for (size_t i = 0; i < l->cnt; i++)
        if (l->sockets[i].state == TCP_SYN_SENT)
            l->sockets[kept++] = l->sockets[i];
    l->cnt = kept;
    sockdiag_sort(l);
    return 0;
}

int netcfg_destroy_sockets(struct netcfg *n)
{
    struct choice c = {.only_tun = false};

    return destroy(n, &c);
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

        if (!is_plain_name(name) || strcmp(name, TUNDEV_NAME) == 0)
            return fail(err, -EINVAL, "\"%s\" cannot be an uplink", name);
        if (strcmp(name, "lo") == 0)
            return fail(err, -EINVAL, "\"%s\" is a loopback interface, not an uplink", name);
    }
    return 0;
}

static int load_links(struct netcfg *n)
{
    return links_find(n->rtnl, n->named.cnt > 0 ? &n->named : NULL, &n->uplinks, &n->native);
}

static int smallest_mtu(const struct links *l)
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
    e = load_links(n);
    if (e)
        return fail(err, e, "cannot read links and routes: %s", strerror(-e));
    if (n->uplinks.cnt == 0)
        return fail(err, -ENETUNREACH,
                    "the namespace has no interface to the outside, that is one with a route; "
                    "name it with --uplink");
    for (size_t i = 0; i < n->uplinks.cnt; i++)
        if (n->uplinks.entries[i].ifindex == 0)
            return fail(err, -ENODEV, "the namespace has no interface \"%s\"",
                        n->uplinks.entries[i].name);
    n->mtu = smallest_mtu(&n->uplinks);
    return 0;
}

/* --- Leftovers -------------------------------------------------------------- */

/* What a dead daemon carried must not go on past us, in clear: its sockets die
 * while its rules still close their way. */
static int destroy_leftover_sockets(struct netcfg *n)
{
    struct choice c = {.only_tun = false};
    struct bypass current = n->policy.bypass;
    bool found;

    int err = rules_read(n->rtnl, &n->policy.bypass, &found);
    if (!err && found) {
        err = mirror_load(&n->mirror);
        if (!err)
            err = destroy(n, &c);
    }
    n->policy.bypass = current;
    return err;
}

static int remove_all(struct nl_sock *rtnl, bool *found)
{
    bool guard = false, rules = false, ingress = false, routes = false;

    int err_guard = ingress_remove_guard(&guard);
    int err_rules = rules_remove_all(rtnl, &rules);
    int err_ingress = ingress_remove(&ingress);
    int err_routes = mirror_remove_all(rtnl, &routes);
    *found = guard || rules || ingress || routes;
    return err_guard ? err_guard : err_rules ? err_rules : err_ingress ? err_ingress : err_routes;
}

/* --- Coming and going ------------------------------------------------------- */

static struct netcfg *alloc(const struct ingress_policy *policy)
{
    struct netcfg *n = calloc(1, sizeof(*n));

    if (!n)
        return NULL;
    n->tun_fd = -1;
    n->watch = (struct netwatch)NETWATCH_NONE;
    n->policy = *policy;
    return n;
}

int netcfg_forget(struct netcfg *n)
{
    int tun_fd = n->tun_fd;

    netwatch_done(&n->watch);
    mirror_done(&n->mirror);
    sockdiag_done(&n->opening);
    nl_socket_free(n->rtnl);
    nl_socket_free(n->diag);
    free(n);
    return tun_fd;
}

/* Without undoing anything but the TUN device. */
static void release(struct netcfg *n)
{
    int tun_fd = netcfg_forget(n);

    if (tun_fd >= 0)
        close(tun_fd);
}

static int open_netlink(struct netcfg *n, char err[NETCFG_ERROR_LEN])
{
    int e = netlink_open(NETLINK_ROUTE, &n->rtnl);

    if (!e)
        e = netlink_open(NETLINK_SOCK_DIAG, &n->diag);
    /* Before anything is read, so that no change is missed. */
    if (!e)
        e = netwatch_init(&n->watch);
    return e ? fail(err, e, "cannot open netlink: %s%s", strerror(-e), permission_hint(e)) : 0;
}

static int open_tun(struct netcfg *n, char err[NETCFG_ERROR_LEN])
{
    int fd = tundev_open();

    if (fd == -EBUSY)
        return fail(err, -EALREADY, "already attached: the namespace has a %s", TUNDEV_NAME);
    if (fd == -ENOENT || fd == -ENODEV || fd == -ENXIO)
        return fail(err, fd,
                    "no /dev/net/tun (modprobe tun; for a container --device /dev/net/tun)");
    if (fd < 0)
        return fail(err, fd, "cannot create %s: %s%s", TUNDEV_NAME, strerror(-fd),
                    permission_hint(fd));
    n->tun_fd = fd;
    n->tun_ifindex = (int)if_nametoindex(TUNDEV_NAME);
    n->tun_gso_max_len = tundev_gso_max_len(n->rtnl);
    mirror_init(&n->mirror, n->rtnl, n->tun_ifindex, &n->uplinks);
    return 0;
}

/* The tunnel tells programs of unreachable peers by ICMP from 192.0.0.8, which
 * a strict reverse-path filter accepts only from the device that leads there. */
static int start_tun(struct netcfg *n)
{
    int err = tundev_start(n->rtnl, n->mtu);

    if (!err)
        err = mirror_add_dummy_route(n->rtnl, n->tun_ifindex);
    return err;
}

/* Ways into the tunnel first, then the rules that lead there: nothing leaves in
 * clear that could be encrypted, and nothing is led nowhere. */
/* Return: whether it is another than before. */
static bool find_forwarding(struct netcfg *n)
{
    bool before = n->forwards;

    n->forwards = forwarding_ask(n->rtnl, AF_INET) || forwarding_ask(n->rtnl, AF_INET6);
    return n->forwards != before;
}

static int configure(struct netcfg *n, char err[NETCFG_ERROR_LEN])
{
    int e = destroy_leftover_sockets(n);

    if (e)
        return fail(err, e, "cannot reset the connections of a dead daemon: %s%s", strerror(-e),
                    permission_hint(e));
    e = start_tun(n);
    if (e)
        return fail(err, e, "cannot set up %s: %s%s", TUNDEV_NAME, strerror(-e),
                    permission_hint(e));
    e = mirror_sync(&n->mirror, on_moving, n);
    if (e == -EACCES) /* what the kernel says of a device without IPv6 */
        return fail(err, -EAFNOSUPPORT,
                    "an uplink has IPv6, but new devices get none: set "
                    "net.ipv6.conf.default.disable_ipv6 to 0 in the namespace");
    if (e)
        return fail(err, e, "cannot set routes: %s", strerror(-e));
    e = note_opening(n);
    if (e)
        return fail(err, e, "cannot list sockets: %s", strerror(-e));
    e = rules_sync(n->rtnl, &n->policy.bypass);
    if (e)
        return fail(err, e, "cannot set policy rules: %s", strerror(-e));
    e = ingress_set(&n->uplinks, &n->policy, n->forwards);
    if (e)
        return fail(err, e, "cannot set the nftables table: %s%s", strerror(-e),
                    permission_hint(e));
    return 0;
}

int netcfg_new(const struct links *uplinks, const struct ingress_policy *policy,
               struct netcfg **ret, char err[NETCFG_ERROR_LEN])
{
    struct netcfg *n = alloc(policy);

    if (!n)
        return fail(err, -ENOMEM, "out of memory");
    n->named = *uplinks;
    int e = open_netlink(n, err);
    if (!e)
        e = find_uplinks(n, err);
    if (!e)
        e = open_tun(n, err);
    if (e) {
        release(n);
        return e;
    }
    find_forwarding(n);
    e = configure(n, err);
    if (e) {
        netcfg_free(n);
        return e;
    }
    *ret = n;
    return 0;
}

/* What is carried must not go on past us, in clear. A socket in TIME-WAIT has nothing to say. */
static int check_carried(struct netcfg *n, const struct bypass *next, char err[NETCFG_ERROR_LEN])
{
    struct choice c = {.only_tun = true, .taken_by = next};
    struct sockdiag_list l;
    size_t cnt = 0;

    int e = choose(n, &c, &l);
    if (e)
        return fail(err, e, "cannot list sockets: %s", strerror(-e));
    for (size_t i = 0; i < l.cnt; i++)
        cnt += l.sockets[i].state != TCP_TIME_WAIT;
    sockdiag_done(&l);
    if (cnt == 0)
        return 0;
    return fail(err, -EBUSY,
                "%zu connection%s of the tunnel would be bypassed, and go on in clear: when they "
                "have ended, try again",
                cnt, cnt == 1 ? "" : "s");
}

static int list_released(struct netcfg *n, const struct bypass *before, const struct bypass *next,
                         struct sockdiag_list *ret)
{
    struct choice c = {.only_tun = true, .bypass = next, .taken_by = before};
    int err = choose(n, &c, ret);

    if (!err)
        sockdiag_sort(ret);
    return err;
}

static int set_kernel(struct netcfg *n, const struct ingress_policy *policy)
{
    int err = rules_sync(n->rtnl, &policy->bypass);

    return err ? err : ingress_set(&n->uplinks, policy, n->forwards);
}

/* Of those after the change, the ones that the kernel carried before it: a SYN that was sent after
 * it waits in the TUN device, and may be encrypted. */
static void keep_older(struct sockdiag_list *after, const struct sockdiag_list *before)
{
    size_t kept = 0;

    for (size_t i = 0; i < after->cnt; i++)
        if (after->sockets[i].state != TCP_SYN_SENT || sockdiag_has(before, &after->sockets[i]))
            after->sockets[kept++] = after->sockets[i];
    after->cnt = kept;
}

static int change_bypass(struct netcfg *n, const struct ingress_policy *policy,
                         struct sockdiag_list *ret_older, char err[NETCFG_ERROR_LEN])
{
    const struct bypass *now = &n->policy.bypass, *next = &policy->bypass;
    struct sockdiag_list before = {.cnt = 0};

    int e = check_carried(n, next, err);
    if (e)
        return e;
    e = list_released(n, now, next, &before);
    if (e)
        return fail(err, e, "cannot list sockets: %s", strerror(-e));
    e = set_kernel(n, policy);
    if (!e)
        e = list_released(n, now, next, ret_older);
    if (e) {
        (void)set_kernel(n, &n->policy);
        e = fail(err, e, "cannot change what is bypassed: %s", strerror(-e));
    } else {
        keep_older(ret_older, &before);
    }
    sockdiag_done(&before);
    return e;
}

int netcfg_change(struct netcfg *n, const struct ingress_policy *policy,
                  struct sockdiag_list *ret_older, char err[NETCFG_ERROR_LEN])
{
    int e = 0;

    *ret_older = (struct sockdiag_list){.cnt = 0};
    if (!bypass_eq(&policy->bypass, &n->policy.bypass)) {
        e = change_bypass(n, policy, ret_older, err);
    } else {
        e = ingress_set(&n->uplinks, policy, n->forwards);
        if (e)
            fail(err, e, "cannot set the nftables table: %s", strerror(-e));
    }
    if (!e)
        n->policy = *policy;
    return e;
}

void netcfg_free(struct netcfg *n)
{
    bool found;

    if (!n)
        return;
    int err = remove_all(n->rtnl, &found);
    if (err)
        log_error("cannot take away all that was configured: %s", strerror(-err));
    release(n);
}

/* The lock: as long as we hold the TUN device, no daemon attaches. Without
 * /dev/net/tun there can be none. */
static int lock(struct netcfg *n, char err[NETCFG_ERROR_LEN])
{
    int e = open_tun(n, err);

    if (e == -ENOENT || e == -ENODEV || e == -ENXIO)
        return 0;
    if (e == -EALREADY)
        return fail(err, e, "its daemon lives but does not answer");
    return e;
}

int netcfg_remove_leftovers(bool *ret_found, char err[NETCFG_ERROR_LEN])
{
    struct ingress_policy none = {.strict = false};
    struct netcfg *n = alloc(&none);

    if (!n)
        return fail(err, -ENOMEM, "out of memory");
    int e = open_netlink(n, err);
    if (!e)
        e = lock(n, err);
    if (e)
        goto out;
    mirror_init(&n->mirror, n->rtnl, n->tun_ifindex, &n->uplinks);
    e = destroy_leftover_sockets(n);
    if (!e)
        e = remove_all(n->rtnl, ret_found);
    if (e)
        e = fail(err, e, "cannot take away what is left: %s%s", strerror(-e), permission_hint(e));
out:
    release(n);
    return e;
}

/* --- Following -------------------------------------------------------------- */

/* An address that comes without a message of its link may make an uplink of it. */
static bool find_again(struct netcfg *n)
{
    struct links uplinks = n->uplinks, native = n->native;

    int err = load_links(n);
    if (err) {
        log_error("cannot read links and routes: %s", strerror(-err));
        return false;
    }
    return memcmp(&uplinks, &n->uplinks, sizeof(uplinks)) != 0 ||
           memcmp(&native, &n->native, sizeof(native)) != 0;
}

static void follow_mtu(struct netcfg *n)
{
    int mtu = smallest_mtu(&n->uplinks);

    if (mtu && mtu != n->mtu && tundev_set_mtu(n->rtnl, mtu) == 0)
        n->mtu = mtu;
}

static bool is_tun_down(struct netcfg *n)
{
    struct rtnl_link *link = NULL;

    if (rtnl_link_get_kernel(n->rtnl, n->tun_ifindex, NULL, &link) < 0)
        return false;
    bool down = !(rtnl_link_get_flags(link) & IFF_UP);
    rtnl_link_put(link);
    return down;
}

static void follow_tun(struct netcfg *n)
{
    if (!is_tun_down(n))
        return;
    log_warn("%s was set down; setting it up again", TUNDEV_NAME);
    int err = start_tun(n);
    if (err)
        log_error("cannot set up %s: %s", TUNDEV_NAME, strerror(-err));
}

static void report(const char *what, int err)
{
    if (err)
        log_error("cannot follow a change of %s: %s", what, strerror(-err));
}

void netcfg_on_event(struct netcfg *n, void (*on_links)(void *arg), void *arg)
{
    unsigned news = netwatch_read(&n->watch);
    bool changed = news & (NETWATCH_LINK | NETWATCH_ROUTES) && find_again(n);

    if (changed)
        follow_mtu(n);
    if (news & NETWATCH_LINK)
        follow_tun(n);
    bool forwarding = news & NETWATCH_FORWARD && find_forwarding(n);
    if (changed || forwarding || (news & NETWATCH_INGRESS))
        report("nftables", ingress_set(&n->uplinks, &n->policy, n->forwards));
    if (news & NETWATCH_RULES)
        report("policy rules", rules_sync(n->rtnl, &n->policy.bypass));
    if (changed || (news & NETWATCH_ROUTES))
        report("routes", mirror_sync(&n->mirror, on_moving, n));
    /* Last: with a way out but without its route a connection would get a source address of
     * another uplink, and wait in vain. Without the way it fails at once. */
    if (changed)
        on_links(arg);
}

void netcfg_resolve(struct netcfg *n, int ifindex, const struct addr *neighbour)
{
    int err = neigh_use(n->rtnl, ifindex, neighbour);

    if (err)
        log_debug("cannot resolve a neighbour: %s", strerror(-err));
}

void netcfg_drain(struct netcfg *n)
{
    tundev_drain(n->tun_fd);
}

int netcfg_tun_fd(const struct netcfg *n)
{
    return n->tun_fd;
}

int netcfg_tun_ifindex(const struct netcfg *n)
{
    return n->tun_ifindex;
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
