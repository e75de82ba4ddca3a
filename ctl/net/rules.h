/* SPDX-License-Identifier: BSD-3-Clause
 * The policy-routing rules that lead the container's TCP to our table.
 *
 * They stand behind the local table's rule (0), so that loopback and own-address
 * traffic never comes to us, behind whatever rules others put in (a VPN's, say),
 * and ahead of the main table's (32766):
 *
 *   32546  not iif lo ipproto tcp goto 32549
 *   32547  iif lo ipproto tcp dport|sport P lookup main    for each bypassed range
 *   32547  iif lo ipproto tcp from L to P sport N dport M lookup main  of rules
 *   32547  iif lo ipproto tcp to|from fe80::/10 lookup main  IPv6
 *   32548  iif lo ipproto tcp lookup 8548
 *   32549  iif tcpcrypt0 [ipproto tcp] nop
 *
 * Link-local TCP stays with the kernel: such addresses mean something only together
 * with the interface, and a socket that names one (sin6_scope_id) accepts packets
 * of no other, so not those of the TUN device.
 *
 * "iif lo" means packets of this host, not forwarded ones. All others jump over the
 * bypassed ranges: to look at each of those rules for each packet took an eighth of
 * the time of a ping.
 *
 * The rule that does nothing is where they jump to. It names the protocol for a reverse-path filter
 * (rp_filter 1 or 2), and only then, as that takes 4 % of the time of a ping. The filter looks up
 * the way back of each packet that comes from the TUN device, as if this host sent it; but the
 * kernel looks at such a packet's protocol only while a rule with a protocol exists whose interface
 * is not "lo" (fib_rule_requires_fldissect; Linux 6.18). Without it the way back would be the
 * uplink and the packet be dropped: tried. A loose filter (2), too, takes only the way through the
 * very device, if that has no address, as ours has none. Limit: a host that filters strictly and
 * also forwards TCP from its uplink has the same check turned against forwarded packets.
 */
#ifndef TCNS_CTL_RULES_H
#define TCNS_CTL_RULES_H

#include <netlink/netlink.h>
#include <stdbool.h>

#include "ctl/net/bypass.h"

#define RULES_PRIORITY_JUMP   32546
#define RULES_PRIORITY_BYPASS 32547
#define RULES_PRIORITY_TCP    32548
#define RULES_PRIORITY_END    32549

/* Makes our rules be exactly these, for both families (IPv4 alone where the
 * kernel has no IPv6). New ones go in before old ones go out. filters_paths: the reverse-path
 * filter, what comes from the TUN device. Return: 0; -errno. */
int rules_sync(struct nl_sock *rtnl, const struct bypass *bypass, bool filters_paths);

/* *ret_found: there were some. Return: 0; -errno. */
int rules_remove_all(struct nl_sock *rtnl, bool *ret_found);

/* Reads the bypass set back from the rules that are there. *ret_found: the rule
 * for TCP is there. Return: 0; -errno. */
int rules_read(struct nl_sock *rtnl, struct bypass *ret, bool *ret_found);

#endif
