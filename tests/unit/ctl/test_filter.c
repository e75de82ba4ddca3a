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

#include <cmocka.h>

#include "ctl/bypass.h"

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
        *ret = size == 1 ? f->bytes[off] : (uint32_t)(f->bytes[off] << 8 | f->bytes[off + 1]);
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
    f->len = filter_make(link_len, f->bypass.ranges, f->bypass.cnt, f->code);
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
    static const char *const lists[] = {"none", "default", "1", "65535", "22,6000-6010", "1-30000"};
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
    f.len = filter_make(14, f.bypass.ranges, f.bypass.cnt, f.code);
    assert_true(f.len <= FILTER_MAX_LEN);
    for (uint16_t port = 0; port < 1000; port++)
        check_ports(&f, port);
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
        cmocka_unit_test(test_every_port),           cmocka_unit_test(test_full_list),
        cmocka_unit_test(test_other_protocols),      cmocka_unit_test(test_not_for_us),
        cmocka_unit_test(test_fragments_and_stumps),
    };

    return cmocka_run_group_tests_name("tunnel/filter", tests, NULL, NULL);
}
