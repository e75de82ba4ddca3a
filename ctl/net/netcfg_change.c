/* SPDX-License-Identifier: BSD-3-Clause
 * A change of what is bypassed, while a daemon is attached.
 */
#include "ctl/net/netcfg_impl.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

/* What is carried must not go on past us, in clear. A socket in TIME-WAIT has nothing to say. */
static int check_carried(struct netcfg *n, const struct bypass *next, char err[NETCFG_ERROR_LEN])
{
    struct netcfg_choice c = {.only_tun = true, .taken_by = next};
    struct sockdiag_list l;
    size_t cnt = 0;

    int e = netcfg_choose(n, &c, &l);
    if (e)
        return netcfg_fail(err, e, "cannot list sockets: %s", strerror(-e));
    for (size_t i = 0; i < l.cnt; i++)
        cnt += l.sockets[i].state != TCP_TIME_WAIT;
    sockdiag_done(&l);
    if (cnt == 0)
        return 0;
    return netcfg_fail(
        err, -EBUSY,
        "%zu connection%s of the tunnel would be bypassed, and go on in clear: when they "
        "have ended, try again",
        cnt, cnt == 1 ? "" : "s");
}

static int list_released(struct netcfg *n, const struct bypass *before, const struct bypass *next,
                         struct sockdiag_list *ret)
{
    struct netcfg_choice c = {.only_tun = true, .bypass = next, .taken_by = before};
    int err = netcfg_choose(n, &c, ret);

    if (!err)
        sockdiag_sort(ret);
    return err;
}

static int set_kernel(struct netcfg *n, const struct ingress_policy *policy)
{
    int err = netcfg_set_rules(n, &policy->bypass);

    return err ? err : netcfg_set_ingress(n, policy);
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
        return netcfg_fail(err, e, "cannot list sockets: %s", strerror(-e));
    e = set_kernel(n, policy);
    if (!e)
        e = list_released(n, now, next, ret_older);
    if (e) {
        (void)set_kernel(n, &n->policy);
        e = netcfg_fail(err, e, "cannot change what is bypassed: %s", strerror(-e));
    } else {
        netcfg_keep_older(ret_older, &before);
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
        e = netcfg_set_ingress(n, policy);
        if (e)
            netcfg_fail(err, e, "cannot set the nftables table: %s", strerror(-e));
    }
    if (!e)
        n->policy = *policy;
    return e;
}
