/* SPDX-License-Identifier: BSD-3-Clause
 * Which packets of the uplink the kernel copies to us: a classic BPF program.
 */
#ifndef TCNS_TUNNEL_FILTER_H
#define TCNS_TUNNEL_FILTER_H

#include <linux/filter.h>
#include <stddef.h>

#include "tunnel/tunnel.h"

#define FILTER_BYPASS_MAX_CNT 64
#define FILTER_MATCH_MAX_CNT  64
/* Of one match: family, four words of each address with load, mask and test, two ports. */
#define FILTER_MATCH_MAX_LEN (2 + 2 * 4 * 3 + 2 * 3 + 1)
/* At most 3 instructions for each range, for either port, and what is around them. */
#define FILTER_MAX_LEN                                                                             \
    (2 * 3 * FILTER_BYPASS_MAX_CNT + FILTER_MATCH_MAX_LEN * FILTER_MATCH_MAX_CNT + 40)

/* Accepts TCP to this host that is not bypassed by port or match, fragments of TCP, and the ICMP
 * errors that may quote it. link_len: bytes ahead of the IP header. Ranges and matches
 * beyond the maxima are copied, too. Return: instructions. */
size_t filter_make(size_t link_len, const struct port_range *bypass, size_t bypass_cnt,
                   const struct policy_match *matches, size_t match_cnt,
                   struct sock_filter ret[FILTER_MAX_LEN]);

#endif
