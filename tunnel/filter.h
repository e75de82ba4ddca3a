/* SPDX-License-Identifier: BSD-3-Clause
 * Which packets of the uplink the kernel copies to us: a classic BPF program.
 */
#ifndef TCNS_TUNNEL_FILTER_H
#define TCNS_TUNNEL_FILTER_H

#include <linux/filter.h>
#include <stddef.h>

#include "tunnel/tunnel.h"

#define FILTER_BYPASS_MAX_CNT 64
/* At most 3 instructions for each range, for either port, and what is around them. */
#define FILTER_MAX_LEN (2 * 3 * FILTER_BYPASS_MAX_CNT + 40)

/* Accepts TCP to this host whose ports are not bypassed, fragments of TCP, and the ICMP
 * errors that may quote it. link_len: bytes ahead of the IP header. Ranges beyond
 * FILTER_BYPASS_MAX_CNT are copied, too. Return: instructions. */
size_t filter_make(size_t link_len, const struct port_range *bypass, size_t bypass_cnt,
                   struct sock_filter ret[FILTER_MAX_LEN]);

#endif
