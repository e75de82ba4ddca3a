/* SPDX-License-Identifier: BSD-3-Clause
 * The eBPF programs for an uplink's tcx hooks.
 *
 * Jumps lead forward, to labels; the code reads from top to bottom. Registers that calls leave
 * alone: CTX holds the packet, PROTO the protocol that comes next, OFF where its header begins.
 */
#include "ctl/net/hookprog.h"

#include <arpa/inet.h>
#include <assert.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <sys/socket.h>

#define JUMPS_MAX_CNT     (2 * 2 * BYPASS_MAX_CNT + HOOKPROG_OWN_MAX_CNT + 160)
#define EXTENSION_MAX_CNT 8 /* headers of IPv6 ahead of TCP; more are dropped */

#define VERDICT_NEXT (-1) /* TCX_NEXT: on to the next program, or the kernel */
#define VERDICT_DROP 2    /* TCX_DROP */

enum {
    R0, /* results; scratch */
    R1, /* arguments, R1 to R5; lost in a call */
    R2,
    R3,
    R4,
    CTX = 6,
    PROTO = 7,
    OFF = 8,
    SCRATCH = 9,
    FP = 10,
};

/* What is copied from the packet, behind the frame pointer. */
#define STACK_BYTES (-24)

enum label {
    IP4,
    IP4_FAR,
    IP4_PROTO,
    IP4_HEADER,
    IP6,
    IP6_FAR,
    IP6_PROTO,
    IP6_TCP,
    TCP,
    PORTS,
    ICMP4,
    ICMP6,
    COPY,
    TAKE,
    OWN_IP6,
    OURS,
    DROP,
    REJECT,
    PASS,
    LABEL_CNT
};

struct program {
    struct bpf_insn *code;
    size_t len;
    struct {
        size_t at;
        enum label to;
    } jumps[JUMPS_MAX_CNT];
    size_t jump_cnt;
    size_t labels[LABEL_CNT];
    const struct hookprog_config *cfg;
    bool ingress;
};

/* --- Instructions ----------------------------------------------------------- */

static void add(struct program *p, uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
    assert(p->len < HOOKPROG_MAX_LEN);
    p->code[p->len++] = (struct bpf_insn){
        .code = code, .dst_reg = dst & 0xf, .src_reg = src & 0xf, .off = off, .imm = imm};
}

static void set(struct program *p, uint8_t dst, int32_t value)
{
    add(p, BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value);
}

static void copy(struct program *p, uint8_t dst, uint8_t src)
{
    add(p, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
}

static void calculate(struct program *p, uint8_t op, uint8_t dst, int32_t value)
{
    add(p, BPF_ALU64 | op | BPF_K, dst, 0, 0, value);
}

/* size: BPF_B, BPF_H, BPF_W, BPF_DW. */
static void load(struct program *p, uint8_t size, uint8_t dst, uint8_t from, int off)
{
    add(p, BPF_LDX | BPF_MEM | size, dst, from, (int16_t)off, 0);
}

static void swap_be16(struct program *p, uint8_t reg)
{
    add(p, BPF_ALU | BPF_END | BPF_TO_BE, reg, 0, 0, 16);
}

static void note_jump(struct program *p, enum label to)
{
    assert(p->jump_cnt < JUMPS_MAX_CNT);
    p->jumps[p->jump_cnt].at = p->len;
    p->jumps[p->jump_cnt++].to = to;
}

/* op: BPF_JEQ, BPF_JNE, BPF_JGT, BPF_JSET and the like. */
static void jump_if(struct program *p, uint8_t op, uint8_t reg, int32_t value, enum label to)
{
    note_jump(p, to);
    add(p, BPF_JMP | op | BPF_K, reg, 0, 0, value);
}

static void jump(struct program *p, enum label to)
{
    note_jump(p, to);
    add(p, BPF_JMP | BPF_JA, 0, 0, 0, 0);
}

static void here(struct program *p, enum label l)
{
    p->labels[l] = p->len;
}

static void call(struct program *p, int32_t function)
{
    add(p, BPF_JMP | BPF_CALL, 0, 0, 0, function);
}

static void leave(struct program *p, int32_t verdict)
{
    set(p, R0, verdict);
    add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* For a jump whose way ends here. */
static void end_skip(struct program *p, size_t jump_at)
{
    p->code[jump_at].off = (int16_t)(p->len - jump_at - 1);
}

static size_t begin_skip(struct program *p, uint8_t op, uint8_t reg, int32_t value)
{
    add(p, BPF_JMP | op | BPF_K, reg, 0, 0, value);
    return p->len - 1;
}

static void resolve_jumps(struct program *p)
{
    for (size_t i = 0; i < p->jump_cnt; i++) {
        size_t at = p->jumps[i].at;

        p->code[at].off = (int16_t)(p->labels[p->jumps[i].to] - at - 1);
    }
}

/* One of the four words of an address, as it lies in memory; IPv4's is the last. */
static int32_t word_of(const struct addr *a, int word)
{
    int32_t ret;

    memcpy(&ret, &a->in6.s6_addr[4 * word], sizeof(ret));
    return ret;
}

/* Copies len bytes at OFF + off of the frame to STACK_BYTES; to too_short if there are fewer. */
static void load_bytes(struct program *p, int32_t off, int32_t len, enum label too_short)
{
    copy(p, R1, CTX);
    copy(p, R2, OFF);
    calculate(p, BPF_ADD, R2, off);
    copy(p, R3, FP);
    calculate(p, BPF_ADD, R3, STACK_BYTES);
    set(p, R4, len);
    call(p, BPF_FUNC_skb_load_bytes);
    jump_if(p, BPF_JNE, R0, 0, too_short);
}

/* --- Parts ------------------------------------------------------------------ */

#define CTX_FIELD(name) ((int)offsetof(struct __sk_buff, name))

/* R2 becomes the frame's beginning, if len bytes of it are in the linear part; else to otherwise.
 */
static void add_linear(struct program *p, int len, enum label otherwise)
{
    load(p, BPF_W, R2, CTX, CTX_FIELD(data));
    load(p, BPF_W, R3, CTX, CTX_FIELD(data_end));
    copy(p, R4, R2);
    calculate(p, BPF_ADD, R4, len);
    note_jump(p, otherwise);
    add(p, BPF_JMP | BPF_JGT | BPF_X, R4, R3, 0, 0);
}

/* PROTO becomes one byte of the IP header, wherever that lies. */
static void add_far_proto(struct program *p, int off)
{
    set(p, OFF, 0);
    load_bytes(p, off, 1, PASS);
    load(p, BPF_B, PROTO, FP, STACK_BYTES);
}

/* SCRATCH and PROTO: source and destination port. base: a register that points at them. */
static void load_ports(struct program *p, uint8_t base, int off)
{
    load(p, BPF_H, SCRATCH, base, off);
    swap_be16(p, SCRATCH);
    load(p, BPF_H, PROTO, base, off + 2);
    swap_be16(p, PROTO);
}

#define VLAN_ID_MASK 0x0fff

/* Packets of VLANs and to others' link-layer addresses. What is tagged for its priority only (IEEE
 * 802.1Q), as of no VLAN, would go to the kernel's own TCP: of_none says what becomes of it. */
static void add_not_ours(struct program *p, enum label of_none)
{
    load(p, BPF_W, R0, CTX, CTX_FIELD(vlan_present));
    if (!p->ingress) {
        jump_if(p, BPF_JNE, R0, 0, PASS);
        return;
    }
    size_t not_tagged = begin_skip(p, BPF_JEQ, R0, 0);
    load(p, BPF_W, R0, CTX, CTX_FIELD(vlan_tci));
    calculate(p, BPF_AND, R0, VLAN_ID_MASK);
    jump_if(p, BPF_JNE, R0, 0, PASS);
    jump(p, of_none);
    end_skip(p, not_tagged);
    load(p, BPF_W, R0, CTX, CTX_FIELD(pkt_type));
    jump_if(p, BPF_JNE, R0, PACKET_HOST, PASS);
}

/* What an output hook does not see: see hookprog_egress(). */
static void add_no_socket(struct program *p)
{
    load(p, BPF_DW, R1, CTX, CTX_FIELD(sk));
    jump_if(p, BPF_JEQ, R1, 0, PASS);
    load(p, BPF_W, R0, R1, offsetof(struct bpf_sock, family));
    jump_if(p, BPF_JEQ, R0, AF_PACKET, PASS);
}

/* SCRATCH: the offset of a fragment, in bytes. PROTO: of what. */
static void add_fragment(struct program *p)
{
    /* Flags behind a first fragment that shows only ports (RFC 1858 2.1). */
    if (p->cfg->strict && p->ingress) {
        size_t not_tcp = begin_skip(p, BPF_JNE, PROTO, IPPROTO_TCP);
        jump_if(p, BPF_JEQ, SCRATCH, 8, DROP);
        end_skip(p, not_tcp);
    }
    jump_if(p, BPF_JNE, SCRATCH, 0, PASS);
}

#define IP4_DST_OFF 16
#define IP6_SRC_OFF 8
#define IP6_DST_OFF 24
#define TCP4_OFF    (ETH_HLEN + 20) /* without options */
#define TCP6_OFF    (ETH_HLEN + 40)

/* R2: as add_linear() leaves it. */
static void add_near_ports(struct program *p, int off)
{
    load_ports(p, R2, off);
    set(p, OFF, off);
    jump(p, PORTS);
}

/* Of most packets: nothing else is asked of what is not TCP, and no helper of what is. */
static void add_near_ip4(struct program *p)
{
    here(p, IP4);
    add_linear(p, TCP4_OFF + 4, IP4_FAR);
    load(p, BPF_B, PROTO, R2, ETH_HLEN + 9);
    jump_if(p, BPF_JNE, PROTO, IPPROTO_TCP, IP4_PROTO);
    load(p, BPF_B, R0, R2, ETH_HLEN);
    jump_if(p, BPF_JNE, R0, 0x45, IP4_HEADER);
    load(p, BPF_H, R0, R2, ETH_HLEN + 6);
    jump_if(p, BPF_JSET, R0, htons(0x1fff), IP4_HEADER);
    if (!p->ingress)
        add_no_socket(p);
    add_near_ports(p, TCP4_OFF);
}

static void add_ip4(struct program *p)
{
    add_near_ip4(p);
    here(p, IP4_FAR);
    add_far_proto(p, ETH_HLEN + 9);
    here(p, IP4_PROTO);
    jump_if(p, BPF_JEQ, PROTO, IPPROTO_TCP, IP4_HEADER);
    jump_if(p, BPF_JNE, PROTO, p->ingress ? IPPROTO_ICMP : IPPROTO_TCP, PASS);
    here(p, IP4_HEADER);
    if (!p->ingress)
        add_no_socket(p);
    set(p, OFF, ETH_HLEN);
    load_bytes(p, 0, 20, PASS);
    load(p, BPF_H, SCRATCH, FP, STACK_BYTES + 6);
    swap_be16(p, SCRATCH);
    calculate(p, BPF_AND, SCRATCH, 0x1fff);
    calculate(p, BPF_LSH, SCRATCH, 3);
    add_fragment(p);
    load(p, BPF_B, OFF, FP, STACK_BYTES);
    calculate(p, BPF_AND, OFF, 0xf);
    calculate(p, BPF_LSH, OFF, 2);
    calculate(p, BPF_ADD, OFF, ETH_HLEN);
    if (p->ingress)
        jump_if(p, BPF_JEQ, PROTO, IPPROTO_ICMP, ICMP4);
    jump(p, TCP);
}

static const uint8_t extensions[] = {IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS, IPPROTO_AH,
                                     IPPROTO_FRAGMENT};
#define EXTENSION_CNT (sizeof(extensions) / sizeof(extensions[0]))

/* RFC 8200 4: each names the next one. */
static void add_extension(struct program *p)
{
    size_t is_one[EXTENSION_CNT];

    jump_if(p, BPF_JEQ, PROTO, IPPROTO_TCP, IP6_TCP);
    for (size_t i = 0; i < EXTENSION_CNT; i++)
        is_one[i] = begin_skip(p, BPF_JEQ, PROTO, extensions[i]);
    jump(p, PASS);
    for (size_t i = 0; i < EXTENSION_CNT; i++)
        end_skip(p, is_one[i]);
    load_bytes(p, 0, 4, PASS);
    /* Their length counts, behind the first 8 bytes, in units of 8, of AH in units of 4. */
    load(p, BPF_B, R1, FP, STACK_BYTES + 1);
    size_t not_auth = begin_skip(p, BPF_JNE, PROTO, IPPROTO_AH);
    calculate(p, BPF_LSH, R1, 2);
    calculate(p, BPF_ADD, OFF, 8);
    size_t known = begin_skip(p, BPF_JA, 0, 0);
    end_skip(p, not_auth);
    calculate(p, BPF_LSH, R1, 3);
    calculate(p, BPF_ADD, OFF, 8);
    size_t not_fragment = begin_skip(p, BPF_JNE, PROTO, IPPROTO_FRAGMENT);
    load(p, BPF_H, SCRATCH, FP, STACK_BYTES + 2);
    swap_be16(p, SCRATCH);
    calculate(p, BPF_AND, SCRATCH, 0xfff8);
    load(p, BPF_B, PROTO, FP, STACK_BYTES);
    add_fragment(p);
    set(p, R1, 0); /* its second byte is reserved */
    end_skip(p, not_fragment);
    end_skip(p, known);
    add(p, BPF_ALU64 | BPF_ADD | BPF_X, OFF, R1, 0, 0);
    load(p, BPF_B, PROTO, FP, STACK_BYTES);
}

/* R0: the first bytes of an address. fe80::/10. */
static void add_link_local(struct program *p)
{
    swap_be16(p, R0);
    calculate(p, BPF_AND, R0, 0xffc0);
    jump_if(p, BPF_JEQ, R0, 0xfe80, PASS);
}

static void add_near_ip6(struct program *p)
{
    here(p, IP6);
    add_linear(p, TCP6_OFF + 4, IP6_FAR);
    load(p, BPF_B, PROTO, R2, ETH_HLEN + 6);
    jump_if(p, BPF_JNE, PROTO, IPPROTO_TCP, IP6_PROTO);
    if (!p->ingress)
        add_no_socket(p);
    load(p, BPF_H, R0, R2, ETH_HLEN + IP6_SRC_OFF);
    add_link_local(p);
    load(p, BPF_H, R0, R2, ETH_HLEN + IP6_DST_OFF);
    add_link_local(p);
    add_near_ports(p, TCP6_OFF);
}

static void add_ip6(struct program *p)
{
    add_near_ip6(p);
    here(p, IP6_FAR);
    add_far_proto(p, ETH_HLEN + 6);
    here(p, IP6_PROTO);
    jump_if(p, BPF_JEQ, PROTO, IPPROTO_UDP, PASS);
    set(p, OFF, TCP6_OFF);
    if (p->ingress)
        jump_if(p, BPF_JEQ, PROTO, IPPROTO_ICMPV6, ICMP6);
    for (int i = 0; i < EXTENSION_MAX_CNT; i++)
        add_extension(p);
    for (size_t i = 0; i < EXTENSION_CNT; i++)
        jump_if(p, BPF_JEQ, PROTO, extensions[i], DROP);
    jump_if(p, BPF_JNE, PROTO, IPPROTO_TCP, PASS);
    here(p, IP6_TCP);
    if (!p->ingress)
        add_no_socket(p);
    copy(p, PROTO, OFF); /* the protocol is known */
    set(p, OFF, ETH_HLEN);
    load_bytes(p, IP6_SRC_OFF, IP6_DST_OFF + 2 - IP6_SRC_OFF, PASS);
    load(p, BPF_H, R0, FP, STACK_BYTES);
    add_link_local(p);
    load(p, BPF_H, R0, FP, STACK_BYTES + IP6_DST_OFF - IP6_SRC_OFF);
    add_link_local(p);
    copy(p, OFF, PROTO);
}

/* PROTO: a port. */
static void add_bypassed(struct program *p)
{
    const struct bypass *b = p->cfg->bypass;

    for (size_t i = 0; i < b->cnt; i++) {
        const struct port_range *r = &b->ranges[i];

        if (r->first == r->last) {
            jump_if(p, BPF_JEQ, PROTO, r->first, PASS);
            continue;
        }
        size_t below = begin_skip(p, BPF_JLT, PROTO, r->first);
        jump_if(p, BPF_JLE, PROTO, r->last, PASS);
        end_skip(p, below);
    }
}

#define TCP_FLAGS_OFF       13
#define TCP_FIN_SYN_RST_ACK 0x17
#define TCP_SYN             0x02

/* Without ports, or flags, it is the tunnel's to count and to drop. */
static void add_tcp(struct program *p)
{
    here(p, TCP);
    load_bytes(p, 0, 4, TAKE);
    load_ports(p, FP, STACK_BYTES);
    here(p, PORTS);
    add_bypassed(p);
    if (p->cfg->strict && p->ingress) {
        load_bytes(p, TCP_FLAGS_OFF, 1, TAKE);
        load(p, BPF_B, R0, FP, STACK_BYTES);
        calculate(p, BPF_AND, R0, TCP_FIN_SYN_RST_ACK);
        jump_if(p, BPF_JEQ, R0, TCP_SYN, TAKE);
    }
    copy(p, PROTO, SCRATCH);
    add_bypassed(p);
    here(p, TAKE);
    set(p, PROTO, 0); /* it is known; now it says whether to drop */
}

/* TCP to others' addresses. */
static void add_own_ip4(struct program *p)
{
    set(p, OFF, ETH_HLEN);
    load_bytes(p, IP4_DST_OFF, 4, PASS);
    load(p, BPF_W, R0, FP, STACK_BYTES);
    for (size_t i = 0; i < p->cfg->own_cnt; i++) {
        const struct addr *a = &p->cfg->own[i];

        if (!addr_is_v4(a))
            continue;
        note_jump(p, OURS);
        add(p, BPF_JMP32 | BPF_JEQ | BPF_K, R0, 0, 0, word_of(a, 3));
    }
    jump(p, PASS);
}

static void add_own_ip6(struct program *p)
{
    here(p, OWN_IP6);
    set(p, OFF, ETH_HLEN);
    load_bytes(p, IP6_DST_OFF, 16, PASS);
    for (size_t i = 0; i < p->cfg->own_cnt; i++) {
        const struct addr *a = &p->cfg->own[i];
        size_t others[4];

        if (addr_is_v4(a))
            continue;
        for (int word = 0; word < 4; word++) {
            load(p, BPF_W, R0, FP, STACK_BYTES + 4 * word);
            others[word] = p->len;
            add(p, BPF_JMP32 | BPF_JNE | BPF_K, R0, 0, 0, word_of(a, word));
        }
        jump(p, OURS);
        for (int word = 0; word < 4; word++)
            end_skip(p, others[word]);
    }
    jump(p, PASS);
}

/* TCP that nobody but us may see. PROTO: whether it is to be dropped. */
static void add_end(struct program *p)
{
    size_t over_drop = begin_skip(p, BPF_JA, 0, 0);
    here(p, DROP);
    if (!p->ingress)
        add_no_socket(p);
    set(p, PROTO, 1);
    end_skip(p, over_drop);
    add_not_ours(p, REJECT); /* as the chains do; packet sockets do not read it either */
    if (p->ingress) {
        load(p, BPF_W, R0, CTX, CTX_FIELD(protocol));
        jump_if(p, BPF_JEQ, R0, htons(ETHERTYPE_IPV6), OWN_IP6);
        add_own_ip4(p);
        add_own_ip6(p);
        here(p, OURS);
    }
    jump_if(p, BPF_JNE, PROTO, 0, REJECT);
    set(p, R1, p->cfg->to_ifindex);
    set(p, R2, 0);
    call(p, BPF_FUNC_redirect);
    add(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    here(p, REJECT);
    leave(p, VERDICT_DROP);
}

static void add_icmp(struct program *p)
{
    here(p, ICMP4);
    load_bytes(p, 0, 1, PASS);
    load(p, BPF_B, R0, FP, STACK_BYTES);
    jump_if(p, BPF_JEQ, R0, ICMP_DEST_UNREACH, COPY);
    jump(p, PASS);
    here(p, ICMP6);
    load_bytes(p, 0, 1, PASS);
    load(p, BPF_B, R0, FP, STACK_BYTES);
    jump_if(p, BPF_JEQ, R0, ICMP6_DST_UNREACH, COPY);
    jump_if(p, BPF_JNE, R0, ICMP6_PACKET_TOO_BIG, PASS);
    here(p, COPY);
    add_not_ours(p, PASS);
    copy(p, R1, CTX);
    set(p, R2, p->cfg->to_ifindex);
    set(p, R3, 0);
    call(p, BPF_FUNC_clone_redirect);
}

static size_t make(const struct hookprog_config *cfg, bool ingress, struct bpf_insn *ret)
{
    struct program p = {.code = ret, .cfg = cfg, .ingress = ingress};

    copy(&p, CTX, R1);
    load(&p, BPF_W, R0, CTX, CTX_FIELD(protocol));
    jump_if(&p, BPF_JEQ, R0, htons(ETHERTYPE_IP), IP4);
    jump_if(&p, BPF_JEQ, R0, htons(ETHERTYPE_IPV6), IP6);
    leave(&p, VERDICT_NEXT);
    add_ip6(&p);
    size_t over_ip4 = begin_skip(&p, BPF_JA, 0, 0);
    add_ip4(&p);
    end_skip(&p, over_ip4);
    add_tcp(&p);
    add_end(&p);
    if (ingress)
        add_icmp(&p);
    here(&p, PASS);
    leave(&p, VERDICT_NEXT);
    resolve_jumps(&p);
    return p.len;
}

size_t hookprog_ingress(const struct hookprog_config *cfg, struct bpf_insn ret[HOOKPROG_MAX_LEN])
{
    return make(cfg, true, ret);
}

size_t hookprog_egress(const struct hookprog_config *cfg, struct bpf_insn ret[HOOKPROG_MAX_LEN])
{
    return make(cfg, false, ret);
}
