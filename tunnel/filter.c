/* SPDX-License-Identifier: BSD-3-Clause
 * Which packets of the uplink the kernel copies to us: a classic BPF program.
 *
 * A load beyond the end of the packet ends the program and rejects it. Offsets count
 * from the link-layer header: those relative to the network header (SKF_NET_OFF) reach
 * only what lies in the buffer's linear part.
 */
#include "tunnel/filter.h"

#include <assert.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <string.h>

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

size_t filter_make(size_t link_len, const struct port_range *bypass, size_t bypass_cnt,
                   struct sock_filter ret[FILTER_MAX_LEN])
{
    static const struct sock_filter accept[] = {ACCEPT};
    struct program p = {.code = ret};

    if (bypass_cnt > FILTER_BYPASS_MAX_CNT)
        bypass_cnt = FILTER_BYPASS_MAX_CNT;
    add_head(&p, link_len);
    add_port(&p, link_len, bypass, bypass_cnt);
    add_port(&p, link_len + 2, bypass, bypass_cnt);
    add(&p, accept, sizeof(accept));
    assert(p.len <= FILTER_MAX_LEN);
    return p.len;
}
