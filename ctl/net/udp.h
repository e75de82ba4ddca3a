/* SPDX-License-Identifier: BSD-3-Clause
 * What becomes of the container's UDP while its TCP must be encrypted.
 *
 * UDP is not ours to encrypt. Who requires encryption may want it to stop: then chains on output
 * and input drop or reject UDP that leaves or comes by an uplink. Loopback and other interfaces are
 * as before. Left alone are DHCP, without which the address would go, and on request questions to
 * resolvers, and their answers.
 */
#ifndef TCNS_CTL_UDP_H
#define TCNS_CTL_UDP_H

#include <stddef.h>
#include <stdio.h>

#include "base/tuple.h"

#define UDP_DNS_MAX_CNT 8

enum udp_action { UDP_ALLOW, UDP_DROP, UDP_REJECT };

struct udp {
    enum udp_action action;
    struct addr dns[UDP_DNS_MAX_CNT]; /* resolvers that may be asked */
    size_t dns_cnt;
};

/* Reads "allow", "drop" or "reject". Return: 0; -EINVAL. */
int udp_parse_action(const char *text, enum udp_action *ret);
/* Return: that word. */
const char *udp_action_name(enum udp_action action);

/* Reads "none", "resolv.conf" (what /etc/resolv.conf says now), or addresses with commas. Return:
 * 0, and ret's list; -EINVAL: no such list; -E2BIG; -errno of reading the file. */
int udp_parse_dns(const char *text, struct udp *ret);

/* Writes the chains, for a table of family inet; numbers: those of the uplinks, with commas.
 * Nothing with UDP_ALLOW. */
void udp_print(FILE *out, const char *numbers, const struct udp *udp);

#endif
