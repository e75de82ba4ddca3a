/* SPDX-License-Identifier: BSD-3-Clause
 * An IP packet that carries TCP, taken apart and checked.
 */
#ifndef TCNS_TCP_PACKET_H
#define TCNS_TCP_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tuple.h"

#define PACKET_MAX_LEN         65535
#define PACKET_TCP_HDR_MAX_LEN 60 /* options included, RFC 9293 3.1 */

/* TCP flags, RFC 9293 3.1 */
#define PACKET_FIN 0x01u
#define PACKET_SYN 0x02u
#define PACKET_RST 0x04u
#define PACKET_PSH 0x08u
#define PACKET_ACK 0x10u
#define PACKET_URG 0x20u

struct packet {
    struct addr src, dst;
    uint16_t src_port, dst_port;
    uint32_t seq, ack;
    uint8_t flags;
    uint16_t window; /* unscaled, as on the wire */
    uint16_t urgent;
    bool v6;
    uint8_t *ip;  /* the IP header; the packet is ip[0..len) */
    uint8_t *tcp; /* the TCP header; options follow its fixed 20 bytes */
    size_t len;   /* of the whole packet, link-layer padding excluded */
    size_t options_len;
    uint8_t *data; /* payload */
    size_t data_len;
    int via; /* where it came in, for those who answer it; 0: no matter */
};

enum packet_verdict {
    PACKET_TCP,       /* *ret is filled */
    PACKET_NOT_TCP,   /* another protocol above IP */
    PACKET_TRUNCATED, /* shorter than its headers say */
    PACKET_MALFORMED, /* a field has an impossible value */
    PACKET_CHECKSUM,  /* the IP or TCP checksum is wrong */
    PACKET_FRAGMENT,  /* an IP fragment */
};

/* Takes apart bytes[0..len), any content. csum_ok: somebody trustworthy has
 * checked the TCP checksum, or there is none yet (offload).
 * The pointers in *ret lead into bytes. */
enum packet_verdict packet_parse(uint8_t *bytes, size_t len, bool csum_ok, struct packet *ret);

static inline const uint8_t *packet_options(const struct packet *p)
{
    return p->tcp + 20;
}

/* Is it a SYN, and no answer to one? */
static inline bool packet_is_opening(const struct packet *p)
{
    return (p->flags & (PACKET_SYN | PACKET_ACK | PACKET_RST)) == PACKET_SYN;
}

/* Internet checksum, RFC 1071: sum over data on top of sum, not folded. */
uint32_t packet_sum(const void *data, size_t len, uint32_t sum);
/* Return: sum folded to 16 bits, not complemented, in network byte order. */
uint16_t packet_sum_fold(uint32_t sum);
/* Sum of the pseudo-header (RFC 9293 3.1, RFC 8200 8.1) for protocol proto. */
uint32_t packet_pseudo_sum(const struct addr *src, const struct addr *dst, uint8_t proto,
                           size_t len);

#endif
