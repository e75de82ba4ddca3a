/* SPDX-License-Identifier: BSD-3-Clause
 * The preflight: what attaching to a namespace takes, and what stands in its way.
 */
#include <errno.h>
#include <string.h>

#include "ctl/check/check.h"
#include "ctl/net/netlink.h"
#include "ctl/net/netns.h"

/* In this order: later ones use what earlier ones found out. */
static void (*const checkers[])(struct check *c) = {
    check_privileges, check_tun,     check_packet, check_sockdiag,  check_uplink,
    check_nftables,   check_exec,    check_routes, check_far_side,  check_mtu,
    check_offloads,   check_filters, check_daemon, check_leftovers, check_rules,
    check_table,      check_memory,  check_clock,  check_random,    check_crypto,
};

int check_doctor(struct check *c)
{
    int err = netns_enter(c->netns_fd);
    if (err)
        return err;
    err = netlink_open(NETLINK_ROUTE, &c->rtnl);
    if (err)
        check_say(c, CHECK_FAIL, "netlink",
                  "allow the process AF_NETLINK sockets (seccomp, SELinux)",
                  "no route netlink socket: %s", strerror(-err));
    for (size_t i = 0; i < sizeof(checkers) / sizeof(checkers[0]); i++)
        checkers[i](c);
    nl_socket_free(c->rtnl);
    c->rtnl = NULL;
    return 0;
}
