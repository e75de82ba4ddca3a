/* SPDX-License-Identifier: BSD-3-Clause
 * Which connections of the namespace are the tunnel's.
 */
#include "ctl/net/netcfg_impl.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

#include "base/log.h"
#include "ctl/net/rules.h"
#include "ctl/net/sockfind.h"

static bool is_chosen(const struct tuple *t, const void *arg)
{
    const struct netcfg_choice *c = arg;

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

int netcfg_choose(struct netcfg *n, struct netcfg_choice *c, struct sockdiag_list *ret)
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

static int destroy(struct netcfg *n, struct netcfg_choice *c)
{
    struct sockdiag_list sockets;

    int err = netcfg_choose(n, c, &sockets);
    if (err)
        return err;
    err = netcfg_destroy_list(n, &sockets);
    sockdiag_done(&sockets);
    return err;
}

void netcfg_on_moving(void *ctx, mirror_is_moving_fn is_moving, const void *arg)
{
    struct netcfg_choice c = {.is_moving = is_moving, .moving_arg = arg};

    int err = destroy(ctx, &c);
    if (err)
        log_error("cannot reset connections that leave the tunnel: %s", strerror(-err));
}

int netcfg_list_sockets(struct netcfg *n, struct sockdiag_list *ret)
{
    struct netcfg_choice c = {.only_tun = true};

    return netcfg_choose(n, &c, ret);
}

void netcfg_keep_older(struct sockdiag_list *after, const struct sockdiag_list *before)
{
    size_t kept = 0;

    for (size_t i = 0; i < after->cnt; i++)
        if (after->sockets[i].state != TCP_SYN_SENT || sockdiag_has(before, &after->sockets[i]))
            after->sockets[kept++] = after->sockets[i];
    after->cnt = kept;
}

int netcfg_list_older(struct netcfg *n, struct sockdiag_list *ret)
{
    int err = netcfg_list_sockets(n, ret);
    if (err)
        return err;
    netcfg_keep_older(ret, &n->opening);
    sockdiag_sort(ret);
    sockdiag_done(&n->opening);
    return 0;
}

int netcfg_note_opening(struct netcfg *n)
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

/* What others send past us they repeat, and it will not pass when the rules are back. */
static bool may_be_aborted(const struct netcfg *n, const struct sockfind *s)
{
    return s->state == TCP_SYN_SENT || (s->state != TCP_LISTEN && s->ifindex == n->hooked);
}

void netcfg_abort(struct netcfg *n, const struct tuple *tuple)
{
    struct netcfg_choice c = {.n = n};
    struct sockfind socket;

    if (!n->hooked)
        return;
    int err = addrs_load(n->rtnl, &c.addrs);
    if (err)
        return;
    if (is_chosen(tuple, &c) && sockfind(n->diag, tuple, n->hooked, &socket) == 0 &&
        may_be_aborted(n, &socket))
        err = sockfind_abort(n->diag, tuple, n->hooked, &socket);
    addrs_done(&c.addrs);
    if (err && err != -ENOENT)
        log_error("cannot abort a socket that passes by: %s", strerror(-err));
}

int netcfg_destroy_sockets(struct netcfg *n)
{
    struct netcfg_choice c = {.only_tun = false};

    return destroy(n, &c);
}

/* Somebody may have flushed its rules, before or after it died: then what it bypassed is not known,
 * and nothing is spared. */
int netcfg_destroy_leftovers(struct netcfg *n)
{
    struct netcfg_choice c = {.only_tun = false};
    struct bypass current = n->policy.bypass;
    bool found;

    int err = rules_read(n->rtnl, &n->policy.bypass, &found);
    if (!err && !found) {
        n->policy.bypass = (struct bypass){.cnt = 0};
        found = ingress_is_there() || hook_is_there();
    }
    if (!err && found) {
        err = mirror_load(&n->mirror);
        if (!err)
            err = destroy(n, &c);
    }
    n->policy.bypass = current;
    return err;
}
