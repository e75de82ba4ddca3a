/* SPDX-License-Identifier: BSD-3-Clause
 * The eBPF programs for an uplink's tcx hooks, see hook.h.
 *
 * Both look at Ethernet frames, find TCP as nftables' "meta l4proto" does (behind IPv6 extension
 * headers, too), and leave to the kernel what is bypassed, link-local addresses, VLANs' packets,
 * and fragments behind the first, which nobody completes without it. The rest goes to another
 * device, and the kernel sees no more of it; but what comes in tagged as of no VLAN is dropped.
 *
 * What is not TCP pays for them with each packet: so they ask first whether it is TCP, of the
 * packet's linear part; only then call helpers.
 */
#ifndef TCNS_CTL_HOOKPROG_H
#define TCNS_CTL_HOOKPROG_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>

#include "ctl/net/bypass.h"

#define HOOKPROG_OWN_MAX_CNT 32

/* At most 4 instructions for each range, for either port, 9 for each own address, and what is
 * around them. */
#define HOOKPROG_MAX_LEN (2 * 4 * BYPASS_MAX_CNT + 9 * HOOKPROG_OWN_MAX_CNT + 360)

struct hookprog_config {
    const struct bypass *bypass; /* its ranges; matches are not looked at */
    bool strict;                 /* see ingress.h */
    const struct addr *own;      /* at least one; TCP to others is the kernel's, to forward it */
    size_t own_cnt;
    int to_ifindex; /* where TCP goes */
};

/* What comes in. ICMP errors that may quote TCP go to both, the other device and the kernel.
 * Return: instructions. */
size_t hookprog_ingress(const struct hookprog_config *cfg, struct bpf_insn ret[HOOKPROG_MAX_LEN]);

/* What goes out, but for packets without a socket (forwarded ones) and of packet sockets, as ours
 * are: what an output hook of netfilter would see. Return: instructions. */
size_t hookprog_egress(const struct hookprog_config *cfg, struct bpf_insn ret[HOOKPROG_MAX_LEN]);

#endif
