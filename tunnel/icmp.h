/* SPDX-License-Identifier: BSD-3-Clause
 * ICMP errors: those that quote a connection of ours, and those that tell the
 * application what became of its SYN.
 */
#ifndef TCNS_TUNNEL_ICMP_H
#define TCNS_TUNNEL_ICMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tuple.h"
#include "tcp/packet.h"

struct icmp_error {
    struct tuple tuple; /* of the quoted segment, which the container sent */
    uint32_t seq;       /* of the quoted segment */
    bool too_big;       /* else: unreachable */
    uint32_t mtu;       /* with too_big; 0 when the router did not say (RFC 1191 3) */
    uint8_t code;       /* as received; ICMP type 3 or ICMPv6 type 1 */
};

/* bytes[0..len) is an IP packet of any content. Return: it is such an error, and
 * its checksum is right. */
bool icmp_parse(const uint8_t *bytes, size_t len, struct icmp_error *ret);

#define ICMP_MAX_LEN 128

enum icmp_reason { ICMP_REASON_NO_ROUTE, ICMP_REASON_HOST };
uint8_t icmp_code(enum icmp_reason reason, bool v6);

/* Makes the error "unreachable" with code, quoting packet, to its sender.
 * Return: length. */
size_t icmp_make_unreachable(const struct packet *packet, uint8_t code, uint8_t out[ICMP_MAX_LEN]);

#endif
