/* SPDX-License-Identifier: BSD-3-Clause
 * Ports of a namespace that exec or netns made, reached at the host's addresses.
 *
 * How it works: destination NAT in the host's nftables. The peer's address stays
 * as it is, and so do TCP's options: what is encrypted is encrypted up to the namespace.
 */
#ifndef TCNS_CTL_PUBLISH_H
#define TCNS_CTL_PUBLISH_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define PUBLISH_MAX_CNT 64

struct publish_port {
    int family;       /* AF_INET or AF_INET6, with an address; 0: all of the host's */
    uint8_t addr[16]; /* network byte order, the first 4 for AF_INET */
    uint16_t host_port, inside_port;
    int protocol; /* IPPROTO_TCP or IPPROTO_UDP */
};

struct publish {
    struct publish_port ports[PUBLISH_MAX_CNT];
    size_t cnt;
};

/* Adds what text names: [ADDRESS:]PORT[:PORT-INSIDE][/tcp|/udp], an IPv6 address in brackets.
 * Return: 0; -EINVAL; -EEXIST: the same port of the host again; -E2BIG. */
int publish_add(struct publish *p, const char *text);

/* Writes nftables rules for destination NAT to the address inside (as text) of one family. */
void publish_rules(FILE *out, const struct publish *p, int family, const char *inside);

#endif
