/* SPDX-License-Identifier: BSD-3-Clause
 * Ethernet frames for the programs at the tcx hooks, from a description of what is in them.
 */
#ifndef TCNS_TESTS_HOOK_FRAMES_H
#define TCNS_TESTS_HOOK_FRAMES_H

#include <net/ethernet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define FRAME_MAX_LEN 3000

struct frame {
    uint8_t data[FRAME_MAX_LEN];
    size_t len;
    size_t l4; /* offset of the last header */
};

/* What a frame has that others have not. */
struct spec {
    const char *headers; /* letters, see protocol(); the last is no extension header */
    bool v6;
    unsigned words;     /* of options in IPv4's header; length field of extension headers */
    uint16_t fragment;  /* that field, of IPv4, or of the fragment header */
    uint16_t src, dst;  /* the addresses' beginnings */
    uint16_t ethertype; /* 0: IP */
    uint8_t mac;        /* first byte of whom it is to */
    uint8_t type;       /* of ICMP */
    uint16_t sport, dport;
    uint8_t flags;
};

#define OWN4_DST 0xcb00
#define OWN6_DST 0x2001

#define MORE4 0x2000
#define MORE6 0x0001
#define SYN   0x02
#define ACK   0x10

static inline uint8_t protocol(char letter)
{
    static const char letters[] = "tuichrdafge";
    static const uint8_t protocols[] = {IPPROTO_TCP,     IPPROTO_UDP,     IPPROTO_ICMP,
                                        IPPROTO_ICMPV6,  IPPROTO_HOPOPTS, IPPROTO_ROUTING,
                                        IPPROTO_DSTOPTS, IPPROTO_AH,      IPPROTO_FRAGMENT,
                                        IPPROTO_GRE,     IPPROTO_ESP};
    const char *at = strchr(letters, letter);

    assert_non_null(at);
    return protocols[at - letters];
}

static inline void put16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static inline void add_ip4(struct frame *f, const struct spec *s)
{
    uint8_t *ip = &f->data[f->len];

    ip[0] = (uint8_t)(0x45 + s->words);
    ip[1] = 0;
    put16(ip + 6, s->fragment);
    ip[9] = protocol(s->headers[0]);
    put16(ip + 16, s->dst ? s->dst : OWN4_DST);
    f->len += 20 + 4 * s->words;
}

/* Extension headers' lengths: RFC 8200 4.3, 4.4, 4.6; AH: RFC 4302 2.2. */
static inline void add_ip6(struct frame *f, const struct spec *s)
{
    uint8_t *ip = &f->data[f->len];
    const char *h = s->headers;

    ip[0] = 0x60;
    ip[6] = protocol(h[0]);
    put16(ip + 8, s->src ? s->src : 0x2001);
    put16(ip + 24, s->dst ? s->dst : OWN6_DST);
    f->len += 40;
    for (; h[1]; h++) {
        uint8_t *header = &f->data[f->len];

        header[0] = protocol(h[1]);
        header[1] = (uint8_t)s->words;
        if (*h == 'f')
            put16(header + 2, s->fragment);
        f->len += *h == 'f' ? 8 : *h == 'a' ? 4 * (s->words + 2) : 8 * (s->words + 1);
    }
}

/* What is not said is full of a bypassed port: who looks for ports elsewhere finds that. */
static inline void frame_build(struct frame *f, const struct spec *s)
{
    for (size_t i = 0; i < FRAME_MAX_LEN; i += 2)
        put16(&f->data[i], 22);
    memset(f->data, 0, ETH_HLEN);
    f->data[0] = s->mac;
    uint16_t ip_type = s->v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP;
    put16(&f->data[12], s->ethertype ? s->ethertype : ip_type);
    f->len = ETH_HLEN;
    if (s->v6)
        add_ip6(f, s);
    else
        add_ip4(f, s);
    f->l4 = f->len;
    uint8_t *l4 = &f->data[f->l4];
    put16(l4, s->sport ? s->sport : 40000);
    put16(l4 + 2, s->dport ? s->dport : 80);
    l4[13] = s->flags;
    if (strpbrk(s->headers, "ic"))
        l4[0] = s->type;
    f->len += 20;
    assert_in_range(f->len, 15, FRAME_MAX_LEN);
}

#endif
