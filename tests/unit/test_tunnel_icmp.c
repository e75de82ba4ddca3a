/* SPDX-License-Identifier: BSD-3-Clause
 * ICMP errors: any bytes may come in, and the kernel must understand ours.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>
#include <string.h>

#include "tunnel/icmp.h"

static void put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

/* RFC 1071 by the letter. */
static uint16_t naive_sum(const uint8_t *p, size_t len, uint32_t sum)
{
    for (size_t i = 0; i < len; i++)
        sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static uint16_t naive_icmp6_sum(const uint8_t *ip, size_t len)
{
    return naive_sum(ip + 40, len - 40, naive_sum(ip + 8, 32, 58 + (uint32_t)(len - 40)));
}

/* --- Errors as routers send them ----------------------------------------------------------- */

struct sample {
    uint8_t bytes[256];
    size_t len;   /* of the whole packet */
    size_t icmp;  /* where the ICMP header is */
    size_t quote; /* where the quoted packet is */
};

static const uint8_t container4[4] = {192, 0, 2, 1}, peer4[4] = {198, 51, 100, 2};

static void sum_up(struct sample *s)
{
    uint8_t *icmp = s->bytes + s->icmp;

    put16(icmp + 2, 0);
    if (s->bytes[0] >> 4 == 4)
        put16(icmp + 2, (uint16_t)~naive_sum(icmp, s->len - s->icmp, 0));
    else
        put16(icmp + 2, (uint16_t)~naive_icmp6_sum(s->bytes, s->len));
}

/* ip_options and quote_options are lengths; tcp_len is how much of TCP is quoted. */
static struct sample sample4(uint8_t code, size_t ip_options, size_t quote_options, size_t tcp_len)
{
    struct sample s = {.icmp = 20 + ip_options, .quote = 28 + ip_options};
    uint8_t *quote = s.bytes + s.quote, *tcp = quote + 20 + quote_options;

    s.len = s.quote + 20 + quote_options + tcp_len;
    s.bytes[0] = (uint8_t)(0x40 | s.icmp / 4);
    put16(s.bytes + 2, s.len);
    s.bytes[9] = IPPROTO_ICMP;
    memcpy(s.bytes + 12, (uint8_t[]){203, 0, 113, 9}, 4); /* some router */
    memcpy(s.bytes + 16, container4, 4);
    s.bytes[s.icmp] = ICMP_DEST_UNREACH;
    s.bytes[s.icmp + 1] = code;
    put16(s.bytes + s.icmp + 6, 1400);
    quote[0] = (uint8_t)(0x45 + quote_options / 4);
    put16(quote + 2, 1500);
    quote[9] = IPPROTO_TCP;
    memcpy(quote + 12, container4, 4);
    memcpy(quote + 16, peer4, 4);
    for (size_t i = 0; i < tcp_len; i++)
        tcp[i] = (uint8_t)(i + 1); /* ports 0x0102, 0x0304; seq 0x05060708 */
    sum_up(&s);
    return s;
}

static struct sample sample6(uint8_t type, size_t tcp_len)
{
    struct sample s = {.icmp = 40, .quote = 48, .len = 88 + tcp_len};
    uint8_t *quote = s.bytes + s.quote;

    s.bytes[0] = 0x60;
    put16(s.bytes + 4, s.len - 40);
    s.bytes[6] = IPPROTO_ICMPV6;
    inet_pton(AF_INET6, "2001:db8:9::9", s.bytes + 8);
    inet_pton(AF_INET6, "2001:db8::1", s.bytes + 24);
    s.bytes[s.icmp] = type;
    s.bytes[s.icmp + 1] = 3;
    memcpy(s.bytes + s.icmp + 4, (uint8_t[]){0, 1, 0, 0}, 4);
    quote[0] = 0x60;
    put16(quote + 4, 1440);
    quote[6] = IPPROTO_TCP;
    inet_pton(AF_INET6, "2001:db8::1", quote + 8);
    inet_pton(AF_INET6, "2001:db8::2", quote + 24);
    for (size_t i = 0; i < tcp_len; i++)
        quote[40 + i] = (uint8_t)(i + 1);
    sum_up(&s);
    return s;
}

/* From a heap copy of exactly that length. */
static bool parse(const struct sample *s, size_t len, struct icmp_error *ret)
{
    uint8_t *copy = malloc(len ? len : 1);

    memcpy(copy, s->bytes, len);
    bool ok = icmp_parse(copy, len, ret);
    free(copy);
    return ok;
}

static bool is_error(const struct sample *s)
{
    struct icmp_error e;

    return parse(s, s->len, &e);
}

static void check_ports(const struct icmp_error *e)
{
    assert_int_equal(e->tuple.local_port, 0x0102);
    assert_int_equal(e->tuple.peer_port, 0x0304);
    assert_int_equal(e->seq, 0x05060708);
}

static void test_ipv4(void **state)
{
    static const size_t tcp_lens[] = {8, 9, 20, 60};
    struct addr local = addr_from_v4(container4), peer = addr_from_v4(peer4);

    for (size_t i = 0; i < 4 * 11 * 11; i++) {
        struct sample s = sample4(ICMP_HOST_UNREACH, i / 44 * 4, i / 4 % 11 * 4, tcp_lens[i % 4]);
        struct icmp_error e;
        assert_true(parse(&s, s.len, &e));
        assert_true(addr_eq(&e.tuple.local, &local));
        assert_true(addr_eq(&e.tuple.peer, &peer));
        check_ports(&e);
        assert_false(e.too_big);
        assert_int_equal(e.code, ICMP_HOST_UNREACH);
    }
}

static void test_every_code(void **state)
{
    for (unsigned code = 0; code < 256; code++) {
        struct sample s = sample4((uint8_t)code, 0, 0, 8);
        struct icmp_error e;
        assert_true(parse(&s, s.len, &e));
        assert_int_equal(e.code, code);
        assert_int_equal(e.too_big, code == ICMP_FRAG_NEEDED);
        if (e.too_big)
            assert_int_equal(e.mtu, 1400);
    }
}

static void test_ipv6(void **state)
{
    struct sample s = sample6(ICMP6_DST_UNREACH, 8);
    struct icmp_error e;
    char text[ADDR_STR_LEN];

    assert_true(parse(&s, s.len, &e));
    assert_string_equal(addr_str(&e.tuple.local, text), "2001:db8::1");
    assert_string_equal(addr_str(&e.tuple.peer, text), "2001:db8::2");
    check_ports(&e);
    assert_false(e.too_big);
    assert_int_equal(e.code, 3);
    s = sample6(ICMP6_PACKET_TOO_BIG, 20);
    assert_true(parse(&s, s.len, &e));
    assert_true(e.too_big);
    assert_int_equal(e.mtu, 65536);
}

static void test_padding(void **state)
{
    struct sample v4 = sample4(1, 0, 0, 8), v6 = sample6(1, 8);

    v4.len += 10;
    assert_true(is_error(&v4));
    v6.len += 10;
    assert_true(is_error(&v6));
}

/* --- What is no error of ours ------------------------------------------------------------- */

static void test_every_truncation(void **state)
{
    struct sample v4 = sample4(1, 4, 4, 8), v6 = sample6(1, 8);
    struct icmp_error e;

    for (size_t len = 0; len < v4.len; len++)
        assert_false(parse(&v4, len, &e));
    for (size_t len = 0; len < v6.len; len++)
        assert_false(parse(&v6, len, &e));
}

/* Less of TCP quoted than ports and sequence number. */
static void test_short_quotes(void **state)
{
    for (size_t tcp_len = 0; tcp_len < 8; tcp_len++) {
        struct sample v4 = sample4(1, 0, 0, tcp_len), v6 = sample6(1, tcp_len);
        assert_false(is_error(&v4));
        assert_false(is_error(&v6));
    }
}

static void test_every_flipped_bit(void **state)
{
    struct sample v4 = sample4(1, 0, 0, 8), v6 = sample6(1, 8);

    for (size_t bit = v4.icmp * 8; bit < v4.len * 8; bit++) {
        struct sample s = v4;
        s.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(is_error(&s));
    }
    for (size_t bit = 8 * 8; bit < v6.len * 8; bit++) { /* addresses are in the sum */
        struct sample s = v6;
        s.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(is_error(&s));
    }
}

static void test_other_types(void **state)
{
    for (unsigned type = 0; type < 256; type++) {
        struct sample v4 = sample4(1, 0, 0, 8), v6 = sample6((uint8_t)type, 8);
        v4.bytes[v4.icmp] = (uint8_t)type;
        sum_up(&v4);
        assert_int_equal(is_error(&v4), type == ICMP_DEST_UNREACH);
        assert_int_equal(is_error(&v6), type == ICMP6_DST_UNREACH || type == ICMP6_PACKET_TOO_BIG);
    }
}

static void spoil(size_t quote_off, uint8_t value)
{
    struct sample s = sample4(1, 0, 0, 20);

    s.bytes[s.quote + quote_off] = value;
    sum_up(&s);
    assert_false(is_error(&s));
}

static void test_bad_quotes(void **state)
{
    struct sample s = sample6(1, 20);

    for (unsigned first = 0; first < 256; first++) {
        if (first >> 4 != 4 || (first & 15) < 5 || (first & 15) > 8)
            spoil(0, (uint8_t)first); /* version and header length */
    }
    spoil(9, IPPROTO_UDP);
    spoil(6, 0x1f); /* a later fragment has no ports */
    spoil(7, 0x01);
    s.bytes[s.quote] = 0x45;
    sum_up(&s);
    assert_false(is_error(&s));
    s = sample6(1, 20);
    s.bytes[s.quote + 6] = IPPROTO_FRAGMENT;
    sum_up(&s);
    assert_false(is_error(&s));
}

/* Inside the program these stand for IPv4; on the wire they are bogus. */
static void test_mapped_addresses(void **state)
{
    for (size_t at = 8; at <= 24; at += 16) {
        struct sample s = sample6(ICMP6_PACKET_TOO_BIG, 20);
        inet_pton(AF_INET6, "::ffff:192.0.2.1", s.bytes + s.quote + at);
        sum_up(&s);
        assert_false(is_error(&s));
    }
}

static void test_other_protocols(void **state)
{
    struct sample v4 = sample4(1, 0, 0, 8), v6 = sample6(1, 8);

    v4.bytes[9] = IPPROTO_TCP;
    assert_false(is_error(&v4));
    v6.bytes[6] = IPPROTO_TCP;
    assert_false(is_error(&v6));
    v6.bytes[0] = 0x50;
    assert_false(is_error(&v6));
}

static void test_random_bytes(void **state)
{
    uint32_t seed = 3;

    for (int round = 0; round < 100000; round++) {
        struct sample s = round % 2 ? sample4(3, 0, 0, 8) : sample6(2, 8);
        struct icmp_error e;
        for (int i = 0; i < 4; i++) {
            seed = seed * 1664525 + 1013904223;
            s.bytes[(seed >> 8) % s.len] = (uint8_t)(seed >> 24);
        }
        if (seed >> 31)
            sum_up(&s);
        parse(&s, s.len - (seed >> 16) % 4, &e);
    }
}

/* --- Ours ----------------------------------------------------------------------------------- */

/* A SYN of the application's; ip_options only with IPv4. */
static size_t make_syn(uint8_t *bytes, bool v6, size_t ip_options, size_t tcp_options)
{
    size_t ip_len = v6 ? 40 : 20 + ip_options, len = ip_len + 20 + tcp_options;
    uint8_t *tcp = bytes + ip_len;

    memset(bytes, 0, len);
    if (v6) {
        bytes[0] = 0x60;
        put16(bytes + 4, len - 40);
        bytes[6] = IPPROTO_TCP;
        inet_pton(AF_INET6, "2001:db8::1", bytes + 8);
        inet_pton(AF_INET6, "2001:db8::2", bytes + 24);
    } else {
        bytes[0] = (uint8_t)(0x40 | ip_len / 4);
        put16(bytes + 2, len);
        bytes[9] = IPPROTO_TCP;
        memcpy(bytes + 12, container4, 4);
        memcpy(bytes + 16, peer4, 4);
        memset(bytes + 20, 1, ip_options);
        put16(bytes + 10, (uint16_t)~naive_sum(bytes, ip_len, 0));
    }
    memcpy(tcp, (uint8_t[]){1, 2, 3, 4, 5, 6, 7, 8}, 8);
    tcp[12] = (uint8_t)((20 + tcp_options) / 4 << 4);
    tcp[13] = PACKET_SYN;
    memset(tcp + 20, 1, tcp_options);
    return len;
}

static void check_unreachable(bool v6, size_t ip_options, size_t tcp_options, uint8_t code)
{
    uint8_t syn[128], out[ICMP_MAX_LEN];
    size_t syn_len = make_syn(syn, v6, ip_options, tcp_options), ip_len = v6 ? 40 : 20;
    struct packet packet;

    assert_int_equal(packet_parse(syn, syn_len, true, &packet), PACKET_TCP);
    memset(out, 0xee, sizeof(out));
    size_t len = icmp_make_unreachable(&packet, code, out);

    assert_in_range(len, ip_len + 8 + 28, ICMP_MAX_LEN);
    const uint8_t *icmp = out + ip_len, *quote = icmp + 8;
    if (v6) {
        assert_int_equal(out[0] >> 4, 6);
        assert_int_equal(get16(out + 4), len - 40);
        assert_int_equal(out[6], IPPROTO_ICMPV6);
        assert_true(out[7] > 0);
        assert_memory_equal(out + 24, syn + 8, 16); /* to the sender */
        assert_int_equal(icmp[0], ICMP6_DST_UNREACH);
        assert_int_equal(naive_icmp6_sum(out, len), 0xffff);
    } else {
        assert_int_equal(out[0], 0x45);
        assert_int_equal(get16(out + 2), len);
        assert_true(out[8] > 0);
        assert_int_equal(out[9], IPPROTO_ICMP);
        assert_int_equal(naive_sum(out, 20, 0), 0xffff);
        assert_memory_equal(out + 16, syn + 12, 4);
        assert_int_equal(icmp[0], ICMP_DEST_UNREACH);
        assert_int_equal(naive_sum(icmp, len - 20, 0), 0xffff);
    }
    assert_int_equal(icmp[1], code);
    /* RFC 792: the header and at least 8 bytes; Linux looks at ports and sequence number. */
    assert_true(len - ip_len - 8 >= ip_len + ip_options + 8);
    assert_memory_equal(quote, syn, len - ip_len - 8);
}

static void test_unreachable(void **state)
{
    for (size_t tcp_options = 0; tcp_options <= 40; tcp_options += 4) {
        check_unreachable(true, 0, tcp_options, ICMP6_DST_UNREACH_ADDR);
        for (size_t ip_options = 0; ip_options <= 40; ip_options += 4)
            check_unreachable(false, ip_options, tcp_options, ICMP_HOST_UNREACH);
    }
}

static void test_codes(void **state)
{
    assert_int_equal(icmp_code(ICMP_REASON_HOST, false), ICMP_HOST_UNREACH);
    assert_int_equal(icmp_code(ICMP_REASON_NO_ROUTE, false), ICMP_NET_UNREACH);
    assert_int_equal(icmp_code(ICMP_REASON_HOST, true), ICMP6_DST_UNREACH_ADDR);
    assert_int_equal(icmp_code(ICMP_REASON_NO_ROUTE, true), ICMP6_DST_UNREACH_NOROUTE);
}

/* What we make, we understand. */
static void test_round_trip(void **state)
{
    uint8_t syn[128], out[ICMP_MAX_LEN];
    struct packet packet;
    struct icmp_error e;

    for (int v6 = 0; v6 < 2; v6++) {
        size_t len = make_syn(syn, v6, 0, 20);
        assert_int_equal(packet_parse(syn, len, true, &packet), PACKET_TCP);
        len = icmp_make_unreachable(&packet, 1, out);
        assert_true(icmp_parse(out, len, &e));
        assert_true(addr_eq(&e.tuple.local, &packet.src));
        assert_true(addr_eq(&e.tuple.peer, &packet.dst));
        check_ports(&e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipv4),
        cmocka_unit_test(test_every_code),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_short_quotes),
        cmocka_unit_test(test_every_flipped_bit),
        cmocka_unit_test(test_other_types),
        cmocka_unit_test(test_bad_quotes),
        cmocka_unit_test(test_mapped_addresses),
        cmocka_unit_test(test_other_protocols),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_unreachable),
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
