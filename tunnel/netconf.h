/* SPDX-License-Identifier: BSD-3-Clause
 * What the kernel does with packets of an interface (sysctl net.ipv4.conf, net.ipv6.conf). Asked by
 * netlink, which a process without /proc can.
 */
#ifndef TCNS_TUNNEL_NETCONF_H
#define TCNS_TUNNEL_NETCONF_H

#include <linux/netconf.h>

struct nl_sock;

/* family: AF_INET or AF_INET6. ifindex: also NETCONFA_IFINDEX_ALL. attr: NETCONFA_FORWARDING and
 * the like, of a 32-bit number. Blocks for a moment. Return: also 0 when the kernel does not say.
 */
int netconf_ask(struct nl_sock *ask, int family, int ifindex, int attr);

#endif
