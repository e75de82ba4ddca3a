/* SPDX-License-Identifier: BSD-3-Clause
 * ICMP and ICMPv6 errors (RFC 792, RFC 4443).
 */
#include "tunnel/icmp.h"

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <string.h>

#include "base/wire.h"

#define IP4_LEN       20
#define IP6_LEN       40
#define ICMP_HDR_LEN  8
#define QUOTE_TCP_LEN 8  /* ports and sequence number: what RFC 792 promises */
#define QUOTE_MAX_LEN 68 /* what we quote: the longest IP header and the start of TCP's */

/* IPv4 errors come from here (RFC 7600): an address of nobody, which ctl routes to
 * the TUN, so that a strict reverse-path filter lets them in. */
static const uint8_t dummy_source[4] = {192, 0, 0, 8};

static void get_ports(const uint8_t *tcp, struct icmp_error *e)
{
    e->tuple.local_port = get_be16(tcp);
    e->tuple.peer_port = get_be16(tcp + 2);
    e->seq = get_be32(tcp + 4);
}

static bool parse4(const uint8_t *bytes, size_t len, struct icmp_error *e)
{
    size_t hdr_len = (size_t)(bytes[0] & 0xf) * 4;
    size_t total = get_be16(bytes + 2);

    if (hdr_len < IP4_LEN || total > len || total < hdr_len + ICMP_HDR_LEN + IP4_LEN ||
        bytes[9] != IPPROTO_ICMP)
        return false;
    const uint8_t *icmp = bytes + hdr_len;
    if (icmp[0] != ICMP_DEST_UNREACH ||
        packet_sum_fold(packet_sum(icmp, total - hdr_len, 0)) != 0xffff)
        return false;

    const uint8_t *quote = icmp + ICMP_HDR_LEN;
    size_t quote_len = total - hdr_len - ICMP_HDR_LEN;
    size_t quote_hdr_len = (size_t)(quote[0] & 0xf) * 4;
    if (quote[0] >> 4 != 4 || quote_hdr_len < IP4_LEN || quote[9] != IPPROTO_TCP ||
        quote_hdr_len + QUOTE_TCP_LEN > quote_len || get_be16(quote + 6) & 0x1fff)
        return false;
    e->tuple.local = addr_from_v4(quote + 12);
    e->tuple.peer = addr_from_v4(quote + 16);
    get_ports(quote + quote_hdr_len, e);
    e->code = icmp[1];
    e->too_big = icmp[1] == ICMP_FRAG_NEEDED;
    e->mtu = get_be16(icmp + 6);
    return true;
}

static bool parse6(const uint8_t *bytes, size_t len, struct icmp_error *e)
{
    if (len < IP6_LEN + ICMP_HDR_LEN + IP6_LEN + QUOTE_TCP_LEN || bytes[6] != IPPROTO_ICMPV6)
        return false;
    size_t payload_len = get_be16(bytes + 4);
    if (payload_len > len - IP6_LEN || payload_len < ICMP_HDR_LEN + IP6_LEN + QUOTE_TCP_LEN)
        return false;
    const uint8_t *icmp = bytes + IP6_LEN;
    struct addr src = addr_from_v6(bytes + 8), dst = addr_from_v6(bytes + 24);
    uint32_t sum = packet_pseudo_sum(&src, &dst, IPPROTO_ICMPV6, payload_len);
    if ((icmp[0] != ICMP6_DST_UNREACH && icmp[0] != ICMP6_PACKET_TOO_BIG) ||
        packet_sum_fold(packet_sum(icmp, payload_len, sum)) != 0xffff)
        return false;

    const uint8_t *quote = icmp + ICMP_HDR_LEN;
    if (quote[0] >> 4 != 6 || quote[6] != IPPROTO_TCP)
        return false;
    e->tuple.local = addr_from_v6(quote + 8);
    e->tuple.peer = addr_from_v6(quote + 24);
    /* Mapped addresses name IPv4 inside the program; on the wire they are bogus. */
    if (addr_is_v4(&e->tuple.local) || addr_is_v4(&e->tuple.peer))
        return false;
    get_ports(quote + IP6_LEN, e);
    e->code = icmp[1];
    e->too_big = icmp[0] == ICMP6_PACKET_TOO_BIG;
    e->mtu = get_be32(icmp + 4);
    return true;
}

bool icmp_parse(const uint8_t *bytes, size_t len, struct icmp_error *ret)
{
    struct icmp_error e = {0};

    if (len < IP4_LEN)
        return false;
    bool ok =
        bytes[0] >> 4 == 4 ? parse4(bytes, len, &e) : bytes[0] >> 4 == 6 && parse6(bytes, len, &e);
    if (ok)
        *ret = e;
    return ok;
}

uint8_t icmp_code(enum icmp_reason reason, bool v6)
{
    if (v6)
        return reason == ICMP_REASON_HOST ? ICMP6_DST_UNREACH_ADDR : ICMP6_DST_UNREACH_NOROUTE;
    return reason == ICMP_REASON_HOST ? ICMP_HOST_UNREACH : ICMP_NET_UNREACH;
}

static void put_sum(uint8_t *at, uint32_t sum)
{
    uint16_t folded = (uint16_t)~packet_sum_fold(sum);

    memcpy(at, &folded, 2);
}

size_t icmp_make_unreachable(const struct packet *packet, uint8_t code, uint8_t out[ICMP_MAX_LEN])
{
    size_t quote_len = packet->len < QUOTE_MAX_LEN ? packet->len : QUOTE_MAX_LEN;
    size_t ip_len = packet->v6 ? IP6_LEN : IP4_LEN;
    size_t total = ip_len + ICMP_HDR_LEN + quote_len;
    uint8_t *icmp = out + ip_len;

    memset(out, 0, total);
    icmp[0] = packet->v6 ? ICMP6_DST_UNREACH : ICMP_DEST_UNREACH;
    icmp[1] = code;
    memcpy(icmp + ICMP_HDR_LEN, packet->ip, quote_len);
    if (packet->v6) {
        out[0] = 0x60;
        put_be16(out + 4, total - IP6_LEN);
        out[6] = IPPROTO_ICMPV6;
        out[7] = 64;
        memcpy(out + 8, &packet->dst.in6, 16);
        memcpy(out + 24, &packet->src.in6, 16);
        put_sum(icmp + 2, packet_sum(icmp, total - IP6_LEN,
                                     packet_pseudo_sum(&packet->dst, &packet->src, IPPROTO_ICMPV6,
                                                       total - IP6_LEN)));
    } else {
        out[0] = 0x45;
        put_be16(out + 2, total);
        out[8] = 64;
        out[9] = IPPROTO_ICMP;
        memcpy(out + 12, dummy_source, 4);
        memcpy(out + 16, &packet->src.in6.s6_addr[12], 4);
        put_sum(out + 10, packet_sum(out, IP4_LEN, 0));
        put_sum(icmp + 2, packet_sum(icmp, total - IP4_LEN, 0));
    }
    return total;
}
