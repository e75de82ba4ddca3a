/* SPDX-License-Identifier: BSD-3-Clause
 * Parser of IP and TCP headers. Any bytes may come in.
 */
#include "tcp/packet.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/wire.h"

#define IP4_MIN_LEN 20
#define IP6_LEN     40
#define TCP_MIN_LEN 20

uint32_t packet_sum(const void *data, size_t len, uint32_t sum)
{
    const uint8_t *p = data;
    uint64_t acc = sum;

    for (; len >= 4; len -= 4, p += 4) {
        uint32_t word;
        memcpy(&word, p, 4);
        acc += word;
    }
    if (len >= 2) {
        uint16_t half;
        memcpy(&half, p, 2);
        acc += half;
        p += 2;
        len -= 2;
    }
    if (len)
        acc += htons((uint16_t)(*p << 8));
    while (acc >> 32)
        acc = (acc & 0xffffffff) + (acc >> 32);
    return (uint32_t)acc;
}

uint16_t packet_sum_fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

uint32_t packet_pseudo_sum(const struct addr *src, const struct addr *dst, uint8_t proto,
                           size_t len)
{
    /* The upper 12 bytes of mapped IPv4 addresses are not part of the sum. */
    size_t skip = addr_is_v4(src) ? 12 : 0;
    uint32_t sum = packet_sum(src->in6.s6_addr + skip, 16 - skip, 0);

    /* Both families sum protocol and length; the field widths make no difference. */
    sum = packet_sum(dst->in6.s6_addr + skip, 16 - skip, sum);
    uint32_t tail[2] = {htonl((uint32_t)len), htonl(proto)};
    return packet_sum(tail, sizeof(tail), sum);
}

static enum packet_verdict parse_ip4(uint8_t *bytes, size_t len, struct packet *p)
{
    if (len < IP4_MIN_LEN)
        return PACKET_TRUNCATED;

    size_t hdr_len = (size_t)(bytes[0] & 0xf) * 4;
    size_t total_len = get_be16(bytes + 2);
    if (hdr_len < IP4_MIN_LEN || total_len < hdr_len)
        return PACKET_MALFORMED;
    if (total_len > len)
        return PACKET_TRUNCATED;
    if (bytes[9] != IPPROTO_TCP)
        return PACKET_NOT_TCP;
    if (packet_sum_fold(packet_sum(bytes, hdr_len, 0)) != 0xffff)
        return PACKET_CHECKSUM;
    if (get_be16(bytes + 6) & 0x3fff) /* more fragments, or an offset */
        return PACKET_FRAGMENT;

    p->v6 = false;
    p->len = total_len;
    p->tcp = bytes + hdr_len;
    p->src = addr_from_v4(bytes + 12);
    p->dst = addr_from_v4(bytes + 16);
    return PACKET_TCP;
}

static enum packet_verdict parse_ip6(uint8_t *bytes, size_t len, struct packet *p)
{
    if (len < IP6_LEN)
        return PACKET_TRUNCATED;

    size_t payload_len = get_be16(bytes + 4);
    if (IP6_LEN + payload_len > len)
        return PACKET_TRUNCATED;
    if (bytes[6] == IPPROTO_FRAGMENT)
        return PACKET_FRAGMENT;
    if (bytes[6] != IPPROTO_TCP)
        return PACKET_NOT_TCP;

    p->v6 = true;
    p->len = IP6_LEN + payload_len;
    p->tcp = bytes + IP6_LEN;
    p->src = addr_from_v6(bytes + 8);
    p->dst = addr_from_v6(bytes + 24);
    /* Mapped addresses name IPv4 inside the program; on the wire they are bogus. */
    if (addr_is_v4(&p->src) || addr_is_v4(&p->dst))
        return PACKET_MALFORMED;
    return PACKET_TCP;
}

static bool tcp_sum_is_right(const struct packet *p)
{
    size_t tcp_len = p->len - (size_t)(p->tcp - p->ip);
    uint32_t sum = packet_pseudo_sum(&p->src, &p->dst, IPPROTO_TCP, tcp_len);

    return packet_sum_fold(packet_sum(p->tcp, tcp_len, sum)) == 0xffff;
}

/* Addresses that no TCP segment may have: multicast, broadcast, unspecified. */
static bool addr_is_impossible(const struct addr *a)
{
    if (addr_is_v4(a)) {
        uint32_t ip = get_be32(a->in6.s6_addr + 12);
        return ip == 0 || ip >= 0xe0000000;
    }
    return IN6_IS_ADDR_UNSPECIFIED(&a->in6) || IN6_IS_ADDR_MULTICAST(&a->in6);
}

enum packet_verdict packet_parse(uint8_t *bytes, size_t len, bool csum_ok, struct packet *ret)
{
    struct packet p = {.ip = bytes};
    enum packet_verdict verdict;

    if (len < 1)
        return PACKET_TRUNCATED;
    switch (bytes[0] >> 4) {
    case 4:
        verdict = parse_ip4(bytes, len, &p);
        break;
    case 6:
        verdict = parse_ip6(bytes, len, &p);
        break;
    default:
        return PACKET_MALFORMED;
    }
    if (verdict != PACKET_TCP)
        return verdict;

    size_t tcp_len = p.len - (size_t)(p.tcp - p.ip);
    if (tcp_len < TCP_MIN_LEN)
        return PACKET_TRUNCATED;
    size_t hdr_len = (size_t)(p.tcp[12] >> 4) * 4;
    if (hdr_len < TCP_MIN_LEN || hdr_len > tcp_len)
        return PACKET_MALFORMED;
    if (!csum_ok && !tcp_sum_is_right(&p))
        return PACKET_CHECKSUM;

    p.src_port = get_be16(p.tcp);
    p.dst_port = get_be16(p.tcp + 2);
    p.seq = get_be32(p.tcp + 4);
    p.ack = get_be32(p.tcp + 8);
    p.flags = p.tcp[13] & 0x3f;
    p.window = get_be16(p.tcp + 14);
    p.urgent = get_be16(p.tcp + 18);
    p.options_len = hdr_len - TCP_MIN_LEN;
    p.data = p.tcp + hdr_len;
    p.data_len = tcp_len - hdr_len;
    if (p.src_port == 0 || p.dst_port == 0 || addr_is_impossible(&p.src) ||
        addr_is_impossible(&p.dst))
        return PACKET_MALFORMED;
    *ret = p;
    return PACKET_TCP;
}
