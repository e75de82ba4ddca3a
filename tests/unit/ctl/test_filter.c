/* SPDX-License-Identifier: BSD-3-Clause
 * The uplink's packet filter, run by an interpreter of what it uses.
 */
#include "tunnel/filter.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctl/conf/ruletext.h"
#include "ctl/net/bypass.h"

#define IP4_LEN 20
#define IP6_LEN 40

struct frame {
    uint8_t bytes[200];
    size_t len;
    uint16_t protocol;
    uint32_t type, vlan;
};

/* Return: false when the load is out of bounds, as the kernel's interpreter ends then. */
static bool load(const struct frame *f, uint32_t off, size_t size, uint32_t *ret)
{
    if (off == (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE))
        *ret = f->type;
    else if (off == (uint32_t)(SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT))
        *ret = f->vlan;
    else if (off == (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL))
        *ret = f->protocol;
    else if (off + size > f->len)
        return false;
    else
        for (*ret = 0; size > 0; size--)
            *ret = *ret << 8 | f->bytes[off++];
    return true;
}

static bool compare(uint16_t op, uint32_t a, uint32_t k)
{
    switch (op) {
    case BPF_JEQ:
        return a == k;
    case BPF_JGE:
        return a >= k;
    case BPF_JGT:
        return a > k;
    case BPF_JSET:
        return a & k;
    default:
        fail_msg("jump %x", op);
        return false;
    }
}

static bool run(const struct sock_filter *code, size_t len, const struct frame *f)
{
    uint32_t a = 0, x = 0;

    for (size_t pc = 0; pc < len; pc++) {
        const struct sock_filter *i = &code[pc];

        switch (i->code) {
        case BPF_LD | BPF_B | BPF_ABS:
            if (!load(f, i->k, 1, &a))
                return false;
            break;
        case BPF_LD | BPF_H | BPF_ABS:
            if (!load(f, i->k, 2, &a))
                return false;
            break;
        case BPF_LD | BPF_H | BPF_IND:
            if (!load(f, x + i->k, 2, &a))
                return false;
            break;
        case BPF_LD | BPF_W | BPF_ABS:
            if (!load(f, i->k, 4, &a))
                return false;
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= i->k;
            break;
        case BPF_LD | BPF_W | BPF_LEN:
            a = (uint32_t)f->len;
            break;
        case BPF_LDX | BPF_W | BPF_IMM:
            x = i->k;
            break;
        case BPF_LDX | BPF_B | BPF_MSH:
            if (i->k >= f->len)
                return false;
            x = 4u * (f->bytes[i->k] & 15);
            break;
        case BPF_ALU | BPF_SUB | BPF_X:
            a -= x;
            break;
        case BPF_JMP | BPF_JA:
            pc += i->k;
            break;
        case BPF_RET | BPF_K:
            return i->k != 0;
        default:
            pc += compare(i->code & 0xf0, a, i->k) ? i->jt : i->jf;
            break;
        }
    }
    fail_msg("it runs off its end");
    return false;
}

/* --- Frames ------------------------------------------------------------------------ */

static void put16(uint8_t *out, uint16_t value)
{
    out[0] = (uint8_t)(value >> 8);
    out[1] = (uint8_t)value;
}

static struct frame v4(size_t link_len, uint8_t protocol, size_t ip_len, uint16_t sport,
                       uint16_t dport)
{
    struct frame f = {.protocol = ETHERTYPE_IP, .type = PACKET_HOST};
    uint8_t *ip = f.bytes + link_len;

    ip[0] = (uint8_t)(0x40 | ip_len / 4);
    ip[9] = protocol;
    put16(ip + ip_len, sport);
    put16(ip + ip_len + 2, dport);
    f.len = link_len + ip_len + 20;
    return f;
}

static struct frame v6(size_t link_len, uint8_t protocol, uint16_t sport, uint16_t dport)
{
    struct frame f = {.protocol = ETHERTYPE_IPV6, .type = PACKET_HOST};
    uint8_t *ip = f.bytes + link_len;

    ip[0] = 0x60;
    ip[6] = protocol;
    put16(ip + IP6_LEN, sport);
    put16(ip + IP6_LEN + 2, dport);
    f.len = link_len + IP6_LEN + 20;
    return f;
}

struct fixture {
    struct sock_filter code[FILTER_MAX_LEN];
    size_t len, link_len;
    struct bypass bypass;
};

static void make(struct fixture *f, size_t link_len, const char *bypass)
{
    assert_int_equal(bypass_parse(bypass, &f->bypass), 0);
    f->link_len = link_len;
    f->len = filter_make(link_len, f->bypass.ranges, f->bypass.cnt, f->bypass.matches,
                         f->bypass.match_cnt, f->code);
}

static bool takes(const struct fixture *f, struct frame frame)
{
    return run(f->code, f->len, &frame);
}

static const size_t link_lens[] = {0, 14};

/* --- Tests -------------------------------------------------------------------------- */

static void check_ports(const struct fixture *f, uint16_t port)
{
    bool wanted = !bypass_has(&f->bypass, port);

    assert_int_equal(takes(f, v4(f->link_len, IPPROTO_TCP, IP4_LEN, port, 40000)), wanted);
    assert_int_equal(takes(f, v4(f->link_len, IPPROTO_TCP, IP4_LEN, 40000, port)), wanted);
    assert_int_equal(takes(f, v4(f->link_len, IPPROTO_TCP, 60, 40000, port)), wanted);
    assert_int_equal(takes(f, v6(f->link_len, IPPROTO_TCP, port, 40000)), wanted);
    assert_int_equal(takes(f, v6(f->link_len, IPPROTO_TCP, 40000, port)), wanted);
}

static void test_every_port(void **state)
{
    static const char *const lists[] = {"none", "default", "1", "65534", "22,6000-6010", "1-30000"};
    struct fixture f;

    for (size_t l = 0; l < sizeof(lists) / sizeof(lists[0]); l++) {
        for (size_t i = 0; i < 2; i++) {
            make(&f, link_lens[i], lists[l]);
            for (unsigned port = 0; port <= UINT16_MAX; port++)
                if (port != 40000)
                    check_ports(&f, (uint16_t)port);
        }
    }
}

static void test_full_list(void **state)
{
    struct fixture f = {.link_len = 14};

    for (uint16_t i = 0; i < BYPASS_MAX_CNT; i++)
        assert_int_equal(bypass_add(&f.bypass, (struct port_range){10 * i + 1, 10 * i + 3}), 0);
    f.len = filter_make(14, f.bypass.ranges, f.bypass.cnt, NULL, 0, f.code);
    assert_true(f.len <= FILTER_MAX_LEN);
    for (uint16_t port = 0; port < 1000; port++)
        check_ports(&f, port);
}

/* Return: a frame from peer to local. */
static struct frame frame_of(size_t link_len, const char *peer, uint16_t peer_port,
                             const char *local, uint16_t local_port)
{
    bool is_v6 = strchr(peer, ':') != NULL;
    struct frame f = is_v6 ? v6(link_len, IPPROTO_TCP, peer_port, local_port)
                           : v4(link_len, IPPROTO_TCP, IP4_LEN, peer_port, local_port);
    uint8_t *ip = f.bytes + link_len;

    assert_int_equal(inet_pton(is_v6 ? AF_INET6 : AF_INET, peer, ip + (is_v6 ? 8 : 12)), 1);
    assert_int_equal(inet_pton(is_v6 ? AF_INET6 : AF_INET, local, ip + (is_v6 ? 24 : 16)), 1);
    return f;
}

static struct tuple tuple_of(const char *peer, uint16_t peer_port, const char *local,
                             uint16_t local_port)
{
    uint8_t p[16], l[16];
    bool is_v6 = strchr(peer, ':') != NULL;

    assert_int_equal(inet_pton(is_v6 ? AF_INET6 : AF_INET, peer, p), 1);
    assert_int_equal(inet_pton(is_v6 ? AF_INET6 : AF_INET, local, l), 1);
    return (struct tuple){is_v6 ? addr_from_v6(l) : addr_from_v4(l),
                          is_v6 ? addr_from_v6(p) : addr_from_v4(p), local_port, peer_port};
}

/* The filter leaves to the kernel what the rules do, and nothing else. */
static void test_rules(void **state)
{
    static const char *const rules[] = {
        "bypass peer=10.1.0.0/16",
        "bypass peer=10.1.2.0/23,2001:db8::/33 port=80",
        "bypass local=10.2.0.1 peer-port=1000-2000",
        "bypass peer=::/0",
        "bypass peer=0.0.0.0/0 local-port=443",
        "bypass peer=2001:db8:0:1::2 local=2001:db8::/64",
        "bypass local-port=7 peer-port=80",
    };
    static const char *const v4s[] = {"10.1.0.1", "10.1.3.255", "10.1.4.0", "10.2.0.1", "9.1.0.1"};
    static const char *const v6s[] = {"2001:db8::1", "2001:db8:7fff::1", "2001:db8:8000::1",
                                      "2001:db8:0:1::2", "2001:db9::1"};
    static const uint16_t ports[] = {7, 80, 443, 999, 1000, 2000, 2001};

    for (size_t r = 0; r < sizeof(rules) / sizeof(rules[0]); r++) {
        struct fixture f = {.link_len = link_lens[r % 2]};
        char err[RULETEXT_ERROR_LEN];
        struct policy_rule rule;

        assert_int_equal(ruletext_parse(rules[r], &rule, err), 0);
        assert_int_equal(bypass_add_rule(&f.bypass, &rule), 0);
        f.len = filter_make(f.link_len, NULL, 0, f.bypass.matches, f.bypass.match_cnt, f.code);
        for (size_t i = 0; i < 2 * 25 * 49; i++) {
            const char *const *addrs = i % 2 ? v4s : v6s;
            const char *peer = addrs[i / 2 % 5], *local = addrs[i / 10 % 5];
            uint16_t peer_port = ports[i / 50 % 7], local_port = ports[i / 350];
            struct tuple t = tuple_of(peer, peer_port, local, local_port);
            bool taken = takes(&f, frame_of(f.link_len, peer, peer_port, local, local_port));
            if (taken == bypass_takes(&f.bypass, &t))
                fail_msg("%s: %s port %u to %s port %u", rules[r], peer, peer_port, local,
                         local_port);
        }
    }
}

/* As many, and as long, as there may be: the program is one that the kernel takes. */
static void test_full_rules(void **state)
{
    struct fixture f = {.link_len = 14};
    struct policy_match m = {.peer = {.len = 128, .is_v6 = true},
                             .local = {.len = 128, .is_v6 = true},
                             .peer_port = {1, 2},
                             .local_port = {3, 4}};

    for (uint16_t i = 0; i < BYPASS_MAX_CNT; i++)
        assert_int_equal(bypass_add(&f.bypass, (struct port_range){10 * i + 1, 10 * i + 3}), 0);
    for (uint8_t i = 0; i < BYPASS_MATCH_MAX_CNT; i++) {
        m.peer.addr.in6.s6_addr[15] = i;
        assert_int_equal(bypass_add_match(&f.bypass, &m), 0);
    }
    f.len = filter_make(14, f.bypass.ranges, f.bypass.cnt, f.bypass.matches, f.bypass.match_cnt,
                        f.code);
    assert_true(f.len <= FILTER_MAX_LEN && f.len <= BPF_MAXINSNS);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct sock_fprog prog = {(unsigned short)f.len, f.code};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)), 0);
    close(fd);
    check_ports(&f, 5);
}

static void test_other_protocols(void **state)
{
    static const uint8_t others[] = {IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_GRE, 0};
    struct fixture f;

    for (size_t i = 0; i < 2; i++) {
        make(&f, link_lens[i], "22");
        for (size_t p = 0; p < sizeof(others); p++) {
            assert_false(takes(&f, v4(f.link_len, others[p], IP4_LEN, 80, 81)));
            assert_false(takes(&f, v6(f.link_len, others[p], 80, 81)));
        }
        assert_true(takes(&f, v4(f.link_len, IPPROTO_ICMP, IP4_LEN, ICMP_DEST_UNREACH << 8, 22)));
        assert_false(takes(&f, v4(f.link_len, IPPROTO_ICMP, IP4_LEN, ICMP_ECHO << 8, 22)));
        assert_true(takes(&f, v6(f.link_len, IPPROTO_ICMPV6, ICMP6_DST_UNREACH << 8, 22)));
        assert_true(takes(&f, v6(f.link_len, IPPROTO_ICMPV6, ICMP6_PACKET_TOO_BIG << 8, 22)));
        assert_false(takes(&f, v6(f.link_len, IPPROTO_ICMPV6, ICMP6_TIME_EXCEEDED << 8, 22)));
    }
}

static void test_not_for_us(void **state)
{
    struct fixture f;
    struct frame frame = v4(14, IPPROTO_TCP, IP4_LEN, 80, 81);

    make(&f, 14, "22");
    assert_true(takes(&f, frame));
    frame.type = PACKET_OTHERHOST;
    assert_false(takes(&f, frame));
    frame.type = PACKET_HOST;
    frame.vlan = 1;
    assert_false(takes(&f, frame));
    frame.vlan = 0;
    frame.protocol = ETHERTYPE_ARP;
    assert_false(takes(&f, frame));
}

/* What has no ports, or something else in their place, is ours to count and drop. */
static void test_fragments_and_stumps(void **state)
{
    struct fixture f;
    struct frame frame = v4(14, IPPROTO_TCP, IP4_LEN, 22, 22);

    make(&f, 14, "22");
    put16(frame.bytes + 14 + 6, 0x4000);
    assert_false(takes(&f, frame));
    put16(frame.bytes + 14 + 6, 0x2001);
    assert_true(takes(&f, frame));
    put16(frame.bytes + 14 + 6, 0x2000);
    assert_false(takes(&f, frame));
    for (frame.len = 14 + 20; frame.len < 14 + 24; frame.len++)
        assert_true(takes(&f, frame));
    frame = v6(14, IPPROTO_TCP, 22, 22);
    for (frame.len = 14 + 40; frame.len < 14 + 44; frame.len++)
        assert_true(takes(&f, frame));
    assert_false(takes(&f, frame));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_port),
        cmocka_unit_test(test_full_list),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_full_rules),
        cmocka_unit_test(test_other_protocols),
        cmocka_unit_test(test_not_for_us),
        cmocka_unit_test(test_fragments_and_stumps),
    };

    return cmocka_run_group_tests_name("tunnel/filter", tests, NULL, NULL);
}
