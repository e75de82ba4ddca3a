/* SPDX-License-Identifier: BSD-3-Clause
 * Which packets of the uplink the kernel copies to us: a classic BPF program.
 *
 * A load beyond the end of the packet ends the program and rejects it. Offsets count
 * from the link-layer header: those relative to the network header (SKF_NET_OFF) reach
 * only what lies in the buffer's linear part.
 */
#include "tunnel/filter.h"

#include <arpa/inet.h>
#include <assert.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <sys/socket.h>

#define LOAD_B(off)        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(off))
#define LOAD_H(off)        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, (uint32_t)(off))
#define LOAD_H_X(off)      BPF_STMT(BPF_LD | BPF_H | BPF_IND, (uint32_t)(off))
#define IF(op, k, yes, no) BPF_JUMP(BPF_JMP | (op) | BPF_K, (uint32_t)(k), yes, no)
#define IF_EQ(k, yes, no)  IF(BPF_JEQ, k, yes, no)
#define ACCEPT             BPF_STMT(BPF_RET | BPF_K, 0xffffffff)
#define REJECT             BPF_STMT(BPF_RET | BPF_K, 0)

struct program {
    struct sock_filter *code;
    size_t len;
};

static void add(struct program *p, const struct sock_filter *code, size_t bytes)
{
    memcpy(&p->code[p->len], code, bytes);
    p->len += bytes / sizeof(*code);
}

/* Leaves X at the TCP header; the lines' numbers are jump targets. */
static void add_head(struct program *p, size_t ip)
{
    const struct sock_filter head[] = {
        /* 0 */ LOAD_B(SKF_AD_OFF + SKF_AD_PKTTYPE),
        /* 1 */ IF_EQ(PACKET_HOST, 0, 17),
        /* 2 */ LOAD_B(SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT),
        /* 3 */ IF_EQ(0, 0, 15),
        /* 4 */ LOAD_H(SKF_AD_OFF + SKF_AD_PROTOCOL),
        /* 5 */ IF_EQ(ETHERTYPE_IP, 0, 5),
        /* 6 */ LOAD_B(ip + 9),
        /* 7 */ IF_EQ(IPPROTO_TCP, 14, 0),
        /* 8 */ IF_EQ(IPPROTO_ICMP, 0, 10),
        /* 9 */ LOAD_B(ip + 20),
        /* 10 */ IF_EQ(ICMP_DEST_UNREACH, 7, 8),
        /* 11 */ IF_EQ(ETHERTYPE_IPV6, 0, 7),
        /* 12 */ LOAD_B(ip + 6),
        /* 13 */ IF_EQ(IPPROTO_TCP, 6, 0),
        /* 14 */ IF_EQ(IPPROTO_ICMPV6, 0, 4),
        /* 15 */ LOAD_B(ip + 40),
        /* 16 */ IF_EQ(ICMP6_DST_UNREACH, 1, 0),
        /* 17 */ IF_EQ(ICMP6_PACKET_TOO_BIG, 0, 1),
        /* 18 */ ACCEPT,
        /* 19 */ REJECT,
        /* 20, TCP over IPv6 */ BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 40),
        /* 21 */ BPF_STMT(BPF_JMP | BPF_JA, 4),
        /* 22, TCP over IPv4 */ LOAD_H(ip + 6),
        /* 23, behind the first fragment */ IF(BPF_JSET, 0x1fff, 0, 1),
        /* 24 */ ACCEPT,
        /* 25 */ BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, (uint32_t)ip),
        /* 26, no ports: ours to count */ BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        /* 27 */ BPF_STMT(BPF_ALU | BPF_SUB | BPF_X, 0),
        /* 28 */ IF(BPF_JGE, ip + 4, 1, 0),
        /* 29 */ ACCEPT,
    };

    add(p, head, sizeof(head));
}

static void add_port(struct program *p, size_t off, const struct port_range *ranges, size_t cnt)
{
    const struct sock_filter load[] = {LOAD_H_X(off)};

    add(p, load, sizeof(load));
    for (size_t i = 0; i < cnt; i++) {
        const struct sock_filter test[] = {
            IF(BPF_JGE, ranges[i].first, 0, 2),
            IF(BPF_JGT, ranges[i].last, 1, 0),
            REJECT,
        };
        add(p, test, sizeof(test));
    }
}

/* --- Matches --------------------------------------------------------------------- */

#define SKIP 0xff /* as jump: behind the match */

static void add_prefix(struct program *p, const struct policy_prefix *prefix, size_t off)
{
    size_t first = prefix->is_v6 ? 0 : 12, end = (prefix->len + 7u) / 8;

    for (size_t byte = first; byte < end; byte += 4) {
        unsigned bits = prefix->len - (unsigned)(8 * byte);
        uint32_t mask = bits >= 32 ? UINT32_MAX : ~(UINT32_MAX >> bits), value;
        memcpy(&value, &prefix->addr.in6.s6_addr[byte], sizeof(value));
        const struct sock_filter test[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(off + byte - first)),
            BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask),
            IF_EQ(ntohl(value), 0, SKIP),
        };
        add(p, test, sizeof(test));
    }
}

static void add_match_port(struct program *p, const struct port_range *r, size_t off)
{
    const struct sock_filter test[] = {
        LOAD_H_X(off),
        IF(BPF_JGE, r->first, 0, SKIP),
        IF(BPF_JGT, r->last, SKIP, 0),
    };

    if (!policy_is_any_port(r))
        add(p, test, sizeof(test));
}

/* The peer is the source of what comes in. */
static void add_match(struct program *p, const struct policy_match *m, size_t ip)
{
    static const struct sock_filter reject[] = {REJECT};
    int family = policy_match_family(m);
    size_t start = p->len;
    const struct sock_filter of_family[] = {
        LOAD_H(SKF_AD_OFF + SKF_AD_PROTOCOL),
        IF_EQ(family == AF_INET ? ETHERTYPE_IP : ETHERTYPE_IPV6, 0, SKIP),
    };

    if (family)
        add(p, of_family, sizeof(of_family));
    add_prefix(p, &m->peer, ip + (family == AF_INET ? 12 : 8));
    add_prefix(p, &m->local, ip + (family == AF_INET ? 16 : 24));
    add_match_port(p, &m->peer_port, ip);
    add_match_port(p, &m->local_port, ip + 2);
    add(p, reject, sizeof(reject));
    for (size_t i = start; i < p->len; i++) {
        struct sock_filter *code = &p->code[i];
        uint8_t rest = (uint8_t)(p->len - i - 1);

        if (BPF_CLASS(code->code) != BPF_JMP)
            continue;
        code->jt = code->jt == SKIP ? rest : code->jt;
        code->jf = code->jf == SKIP ? rest : code->jf;
    }
}

size_t filter_make(size_t link_len, const struct port_range *bypass, size_t bypass_cnt,
                   const struct policy_match *matches, size_t match_cnt,
                   struct sock_filter ret[FILTER_MAX_LEN])
{
    static const struct sock_filter accept[] = {ACCEPT};
    struct program p = {.code = ret};

    if (bypass_cnt > FILTER_BYPASS_MAX_CNT)
        bypass_cnt = FILTER_BYPASS_MAX_CNT;
    add_head(&p, link_len);
    add_port(&p, link_len, bypass, bypass_cnt);
    add_port(&p, link_len + 2, bypass, bypass_cnt);
    for (size_t i = 0; i < match_cnt && i < FILTER_MATCH_MAX_CNT; i++)
        add_match(&p, &matches[i], link_len);
    add(&p, accept, sizeof(accept));
    assert(p.len <= FILTER_MAX_LEN);
    return p.len;
}
