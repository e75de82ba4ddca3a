/* SPDX-License-Identifier: BSD-3-Clause
 * The packet parser: any bytes may come in.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "tcp/packet.h"

/* --- Independent checksums ------------------------------------------------------------ */

/* RFC 1071 by the letter: big-endian 16-bit words, end-around carry. */
static uint16_t naive_sum(const uint8_t *p, size_t len, uint32_t sum)
{
    for (size_t i = 0; i < len; i++)
        sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static uint16_t naive_tcp_sum(const uint8_t *ip, size_t ip_len, size_t len)
{
    bool v6 = ip[0] >> 4 == 6;
    uint32_t sum = v6 ? naive_sum(ip + 8, 32, 0) : naive_sum(ip + 12, 8, 0);

    return naive_sum(ip + ip_len, len - ip_len, sum + IPPROTO_TCP + (uint32_t)(len - ip_len));
}

static void put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* --- A packet to be spoilt -------------------------------------------------------------- */

struct sample {
    uint8_t bytes[256];
    size_t ip_len, len;
};

static void sum_up(struct sample *s)
{
    uint8_t *tcp = s->bytes + s->ip_len;

    if (s->bytes[0] >> 4 == 4) {
        put16(s->bytes + 10, 0);
        put16(s->bytes + 10, (uint16_t)~naive_sum(s->bytes, s->ip_len, 0));
    }
    put16(tcp + 16, 0);
    put16(tcp + 16, (uint16_t)~naive_tcp_sum(s->bytes, s->ip_len, s->len));
}

/* ip_options and tcp_options are lengths in bytes, filled with no-operations. */
static struct sample sample4(size_t ip_options, size_t tcp_options, size_t data_len)
{
    struct sample s = {.ip_len = 20 + ip_options};
    uint8_t *tcp = s.bytes + s.ip_len;

    s.len = s.ip_len + 20 + tcp_options + data_len;
    s.bytes[0] = (uint8_t)(0x40 | s.ip_len / 4);
    put16(s.bytes + 2, s.len);
    s.bytes[8] = 64;
    s.bytes[9] = IPPROTO_TCP;
    memcpy(s.bytes + 12, (uint8_t[]){192, 0, 2, 1, 198, 51, 100, 2}, 8);
    memset(s.bytes + 20, 1, ip_options);
    memcpy(tcp, (uint8_t[]){0x12, 0x34, 0x00, 0x50, 1, 2, 3, 4, 5, 6, 7, 8}, 12);
    tcp[12] = (uint8_t)((20 + tcp_options) / 4 << 4);
    tcp[13] = PACKET_ACK | PACKET_PSH | PACKET_URG;
    put16(tcp + 14, 0xabcd);
    put16(tcp + 18, 7);
    memset(tcp + 20, 1, tcp_options);
    for (size_t i = 0; i < data_len; i++)
        tcp[20 + tcp_options + i] = (uint8_t)(i + 1);
    sum_up(&s);
    return s;
}

static struct sample sample6(size_t tcp_options, size_t data_len)
{
    struct sample s = sample4(0, tcp_options, data_len);

    memmove(s.bytes + 40, s.bytes + 20, s.len - 20);
    memset(s.bytes, 0, 40);
    s.len += 20;
    s.ip_len = 40;
    s.bytes[0] = 0x60;
    put16(s.bytes + 4, s.len - 40);
    s.bytes[6] = IPPROTO_TCP;
    s.bytes[7] = 64;
    inet_pton(AF_INET6, "2001:db8::1", s.bytes + 8);
    inet_pton(AF_INET6, "2001:db8::2", s.bytes + 24);
    sum_up(&s);
    return s;
}

/* From a heap copy of exactly that length, so that ASan sees any read beyond. */
static enum packet_verdict parse(const struct sample *s, size_t len, bool csum_ok)
{
    uint8_t *copy = malloc(len ? len : 1);
    struct packet p;

    memcpy(copy, s->bytes, len);
    enum packet_verdict verdict = packet_parse(copy, len, csum_ok, &p);
    free(copy);
    return verdict;
}

static enum packet_verdict verdict_of(const struct sample *s)
{
    return parse(s, s->len, false);
}

/* --- Good ones -------------------------------------------------------------------------- */

static void check_fields(struct sample *s, size_t options_len, size_t data_len)
{
    struct packet p;

    assert_int_equal(packet_parse(s->bytes, s->len, false, &p), PACKET_TCP);
    assert_int_equal(p.v6, s->bytes[0] >> 4 == 6);
    assert_int_equal(p.src_port, 0x1234);
    assert_int_equal(p.dst_port, 80);
    assert_int_equal(p.seq, 0x01020304);
    assert_int_equal(p.ack, 0x05060708);
    assert_int_equal(p.flags, PACKET_ACK | PACKET_PSH | PACKET_URG);
    assert_int_equal(p.window, 0xabcd);
    assert_int_equal(p.urgent, 7);
    assert_ptr_equal(p.ip, s->bytes);
    assert_ptr_equal(p.tcp, s->bytes + s->ip_len);
    assert_int_equal(p.len, s->len);
    assert_int_equal(p.options_len, options_len);
    assert_ptr_equal(packet_options(&p), p.tcp + 20);
    assert_ptr_equal(p.data, p.tcp + 20 + options_len);
    assert_int_equal(p.data_len, data_len);
}

static void test_ipv4(void **state)
{
    struct packet p;
    char text[ADDR_STR_LEN];

    for (size_t ip_options = 0; ip_options <= 40; ip_options += 4) {
        for (size_t tcp_options = 0; tcp_options <= 40; tcp_options += 4) {
            for (size_t data_len = 0; data_len < 10; data_len++) {
                struct sample s = sample4(ip_options, tcp_options, data_len);
                check_fields(&s, tcp_options, data_len);
            }
        }
    }
    struct sample s = sample4(0, 0, 0);
    assert_int_equal(packet_parse(s.bytes, s.len, false, &p), PACKET_TCP);
    assert_string_equal(addr_str(&p.src, text), "192.0.2.1");
    assert_string_equal(addr_str(&p.dst, text), "198.51.100.2");
}

static void test_ipv6(void **state)
{
    struct packet p;
    char text[ADDR_STR_LEN];

    for (size_t tcp_options = 0; tcp_options <= 40; tcp_options += 4) {
        for (size_t data_len = 0; data_len < 10; data_len++) {
            struct sample s = sample6(tcp_options, data_len);
            check_fields(&s, tcp_options, data_len);
        }
    }
    struct sample s = sample6(0, 0);
    assert_int_equal(packet_parse(s.bytes, s.len, false, &p), PACKET_TCP);
    assert_string_equal(addr_str(&p.src, text), "2001:db8::1");
    assert_string_equal(addr_str(&p.dst, text), "2001:db8::2");
}

/* Short Ethernet frames are padded; the padding is no data. */
static void test_padding(void **state)
{
    struct sample v4 = sample4(0, 0, 3), v6 = sample6(0, 3);
    struct packet p;

    memset(v4.bytes + v4.len, 0xee, 20);
    assert_int_equal(packet_parse(v4.bytes, v4.len + 20, false, &p), PACKET_TCP);
    assert_int_equal(p.len, v4.len);
    assert_int_equal(p.data_len, 3);
    memset(v6.bytes + v6.len, 0xee, 20);
    assert_int_equal(packet_parse(v6.bytes, v6.len + 20, false, &p), PACKET_TCP);
    assert_int_equal(p.len, v6.len);
    assert_int_equal(p.data_len, 3);
}

/* The largest there are. */
static void test_largest(void **state)
{
    static uint8_t bytes[40 + 65535];
    struct sample head = sample6(0, 0);
    struct packet p;

    memcpy(bytes, head.bytes, head.len);
    put16(bytes + 4, 65535);
    assert_int_equal(packet_parse(bytes, sizeof(bytes), true, &p), PACKET_TCP);
    assert_int_equal(p.data_len, 65515);
    head = sample4(0, 0, 0);
    put16(head.bytes + 2, 65535);
    sum_up(&head);
    memcpy(bytes, head.bytes, head.len);
    assert_int_equal(packet_parse(bytes, 65535, true, &p), PACKET_TCP);
    assert_int_equal(p.data_len, 65495);
}

/* --- Bad ones --------------------------------------------------------------------------- */

static void test_every_truncation(void **state)
{
    struct sample v4 = sample4(8, 12, 5), v6 = sample6(12, 5);

    for (size_t len = 0; len < v4.len; len++)
        assert_int_equal(parse(&v4, len, false), PACKET_TRUNCATED);
    for (size_t len = 0; len < v6.len; len++)
        assert_int_equal(parse(&v6, len, false), PACKET_TRUNCATED);
}

/* Headers that agree with the length, which is too short for TCP's. */
static void test_no_room_for_tcp(void **state)
{
    for (size_t tcp_len = 0; tcp_len < 20; tcp_len++) {
        struct sample v4 = sample4(0, 0, 0), v6 = sample6(0, 0);
        v4.len = 20 + tcp_len;
        put16(v4.bytes + 2, v4.len);
        sum_up(&v4);
        assert_int_equal(verdict_of(&v4), PACKET_TRUNCATED);
        v6.len = 40 + tcp_len;
        put16(v6.bytes + 4, tcp_len);
        assert_int_equal(verdict_of(&v6), PACKET_TRUNCATED);
    }
}

static void test_ip_header_lengths(void **state)
{
    for (uint8_t words = 0; words < 5; words++) {
        struct sample s = sample4(0, 0, 0);
        s.bytes[0] = (uint8_t)(0x40 | words);
        assert_int_equal(verdict_of(&s), PACKET_MALFORMED);
    }
    for (uint8_t words = 6; words < 16; words++) { /* more than the total length has */
        struct sample s = sample4(0, 0, 0);
        s.bytes[0] = (uint8_t)(0x40 | words);
        put16(s.bytes + 2, 20);
        assert_int_equal(verdict_of(&s), PACKET_MALFORMED);
    }
    for (size_t total = 0; total < 20; total++) {
        struct sample s = sample4(0, 0, 0);
        put16(s.bytes + 2, total);
        assert_int_equal(verdict_of(&s), PACKET_MALFORMED);
    }
}

static void test_tcp_header_lengths(void **state)
{
    for (unsigned words = 0; words < 16; words++) {
        struct sample s = sample4(0, 8, 4);
        s.bytes[32] = (uint8_t)(words << 4);
        sum_up(&s);
        bool fits = words >= 5 && words <= 8;
        assert_int_equal(verdict_of(&s), fits ? PACKET_TCP : PACKET_MALFORMED);
    }
}

static void test_versions(void **state)
{
    for (unsigned version = 0; version < 16; version++) {
        struct sample s = sample4(0, 0, 0);
        if (version == 4 || version == 6)
            continue;
        s.bytes[0] = (uint8_t)(version << 4 | 5);
        assert_int_equal(verdict_of(&s), PACKET_MALFORMED);
    }
}

static void test_other_protocols(void **state)
{
    static const uint8_t protocols[] = {0, 1, 17, 41, 58, 132, 255};

    for (size_t i = 0; i < sizeof(protocols); i++) {
        struct sample v4 = sample4(0, 0, 0), v6 = sample6(0, 0);
        v4.bytes[9] = protocols[i];
        sum_up(&v4);
        assert_int_equal(verdict_of(&v4), PACKET_NOT_TCP);
        v6.bytes[6] = protocols[i];
        assert_int_equal(verdict_of(&v6), PACKET_NOT_TCP);
    }
}

static void test_fragments(void **state)
{
    static const uint16_t fragment_fields[] = {0x2000, 0x0001, 0x1fff, 0x2001, 0x3fff};
    struct sample v6 = sample6(0, 0), v4 = sample4(0, 0, 0);

    for (size_t i = 0; i < 5; i++) {
        struct sample s = sample4(0, 0, 4);
        put16(s.bytes + 6, fragment_fields[i]);
        sum_up(&s);
        assert_int_equal(verdict_of(&s), PACKET_FRAGMENT);
    }
    put16(v4.bytes + 6, 0x4000); /* don't fragment */
    sum_up(&v4);
    assert_int_equal(verdict_of(&v4), PACKET_TCP);
    put16(v4.bytes + 6, 0x8000); /* the reserved bit */
    sum_up(&v4);
    assert_int_equal(verdict_of(&v4), PACKET_TCP);
    v6.bytes[6] = IPPROTO_FRAGMENT;
    assert_int_equal(verdict_of(&v6), PACKET_FRAGMENT);
}

/* --- Checksums -------------------------------------------------------------------------- */

/* Any bit but those outside all sums spoils the packet. */
static void test_every_flipped_bit(void **state)
{
    struct sample v4 = sample4(4, 8, 9), v6 = sample6(8, 9);

    for (size_t bit = 0; bit < v4.len * 8; bit++) {
        struct sample s = v4;
        s.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(verdict_of(&s), PACKET_TCP);
    }
    for (size_t bit = 0; bit < v6.len * 8; bit++) {
        size_t byte = bit / 8;
        struct sample s = v6;
        s.bytes[byte] ^= (uint8_t)(1 << bit % 8);
        bool summed = byte == 4 || byte == 5 || byte == 6 || byte >= 8;
        if (summed || (byte == 0 && bit % 8 >= 4))
            assert_int_not_equal(verdict_of(&s), PACKET_TCP);
        else
            assert_int_equal(verdict_of(&s), PACKET_TCP); /* class, label, hop limit */
    }
}

static void test_tcp_sum_is_believed(void **state)
{
    struct sample s = sample4(0, 0, 5);

    s.bytes[36] ^= 0x55;
    assert_int_equal(parse(&s, s.len, false), PACKET_CHECKSUM);
    assert_int_equal(parse(&s, s.len, true), PACKET_TCP);
    s.bytes[10] ^= 0x55; /* the IP header's never is */
    assert_int_equal(parse(&s, s.len, true), PACKET_CHECKSUM);
}

static void test_sums_like_naive(void **state)
{
    uint8_t bytes[300];
    uint32_t seed = 1;

    for (int round = 0; round < 2000; round++) {
        for (size_t i = 0; i < sizeof(bytes); i++) {
            seed = seed * 1664525 + 1013904223;
            bytes[i] = round % 3 == 0 ? 0xff : (uint8_t)(seed >> 24);
        }
        size_t off = (seed >> 8) % 8, len = (seed >> 11) % (sizeof(bytes) - 8);
        size_t half = len / 4 * 2; /* sums can be made in pieces of even length */
        uint32_t sum = packet_sum(bytes + off, half, 0);
        sum = packet_sum(bytes + off + half, len - half, sum);
        assert_int_equal(ntohs(packet_sum_fold(sum)), naive_sum(bytes + off, len, 0));
    }
}

static void test_pseudo_sum(void **state)
{
    struct sample v4 = sample4(0, 0, 0), v6 = sample6(0, 0);
    struct addr src = addr_from_v4(v4.bytes + 12), dst = addr_from_v4(v4.bytes + 16);
    uint32_t sum = packet_pseudo_sum(&src, &dst, 6, 0x12345);

    assert_int_equal(ntohs(packet_sum_fold(sum)), naive_sum(v4.bytes + 12, 8, 6 + 0x1 + 0x2345));
    src = addr_from_v6(v6.bytes + 8);
    dst = addr_from_v6(v6.bytes + 24);
    sum = packet_pseudo_sum(&src, &dst, 58, 60000);
    assert_int_equal(ntohs(packet_sum_fold(sum)), naive_sum(v6.bytes + 8, 32, 58 + 60000));
}

/* --- Addresses and ports ------------------------------------------------------------------ */

static void check_addr4(const char *text, bool is_src, enum packet_verdict want)
{
    struct sample s = sample4(0, 0, 0);

    inet_pton(AF_INET, text, s.bytes + (is_src ? 12 : 16));
    sum_up(&s);
    assert_int_equal(verdict_of(&s), want);
}

static void check_addr6(const char *text, bool is_src, enum packet_verdict want)
{
    struct sample s = sample6(0, 0);

    inet_pton(AF_INET6, text, s.bytes + (is_src ? 8 : 24));
    sum_up(&s);
    assert_int_equal(verdict_of(&s), want);
}

static void test_addresses(void **state)
{
    static const char *const bad4[] = {"0.0.0.0", "224.0.0.1", "239.255.255.255", "240.0.0.1",
                                       "255.255.255.255"};
    static const char *const good4[] = {"0.0.0.1", "10.0.0.1", "127.0.0.1", "223.255.255.255"};
    static const char *const bad6[] = {"::", "ff02::1", "ff0e::1", "::ffff:192.0.2.1",
                                       "::ffff:0.0.0.0"};
    static const char *const good6[] = {
        "::1", "fe80::1", "fd00::1", "::192.0.2.1", "64:ff9b::192.0.2.1", "::fffe:192.0.2.1"};

    for (int is_src = 0; is_src < 2; is_src++) {
        for (size_t i = 0; i < 5; i++)
            check_addr4(bad4[i], is_src, PACKET_MALFORMED);
        for (size_t i = 0; i < 4; i++)
            check_addr4(good4[i], is_src, PACKET_TCP);
        for (size_t i = 0; i < 5; i++)
            check_addr6(bad6[i], is_src, PACKET_MALFORMED);
        for (size_t i = 0; i < 6; i++)
            check_addr6(good6[i], is_src, PACKET_TCP);
    }
}

static void test_zero_ports(void **state)
{
    for (size_t at = 20; at <= 22; at += 2) {
        struct sample s = sample4(0, 0, 0);
        put16(s.bytes + at, 0);
        sum_up(&s);
        assert_int_equal(verdict_of(&s), PACKET_MALFORMED);
    }
}

/* --- Anything ------------------------------------------------------------------------------ */

static void check_inside(const struct packet *p, const uint8_t *bytes, size_t len)
{
    assert_ptr_equal(p->ip, bytes);
    assert_true(p->len <= len);
    assert_true(p->tcp >= bytes + 20 && p->tcp + 20 <= bytes + p->len);
    assert_ptr_equal(p->data, p->tcp + 20 + p->options_len);
    assert_ptr_equal(p->data + p->data_len, bytes + p->len);
    assert_true(p->src_port > 0 && p->dst_port > 0);
}

/* Random bytes, most of them made to look like IP, in memory of exactly that size. */
static void test_random_bytes(void **state)
{
    uint32_t seed = 7;
    unsigned tcp_cnt = 0;

    for (int round = 0; round < 200000; round++) {
        seed = seed * 1664525 + 1013904223;
        size_t len = (seed >> 10) % 120;
        uint8_t *bytes = malloc(len ? len : 1);
        for (size_t i = 0; i < len; i++) {
            seed = seed * 1664525 + 1013904223;
            bytes[i] = (uint8_t)(seed >> 24);
        }
        if (len > 12 && round % 2) {
            bytes[0] = (uint8_t)(0x60 | (bytes[0] & 15));
            put16(bytes + 4, bytes[5] % 64);
            bytes[6] = IPPROTO_TCP;
        } else if (len > 12) {
            bytes[0] = (uint8_t)(0x40 | (bytes[0] & 7));
            put16(bytes + 2, bytes[3] % 128);
            bytes[9] = IPPROTO_TCP;
        }
        struct packet p;
        if (packet_parse(bytes, len, round % 4 < 3, &p) == PACKET_TCP) {
            check_inside(&p, bytes, len);
            tcp_cnt++;
        }
        free(bytes);
    }
    assert_true(tcp_cnt > 100); /* the rounds do get that far */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipv4),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_largest),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_no_room_for_tcp),
        cmocka_unit_test(test_ip_header_lengths),
        cmocka_unit_test(test_tcp_header_lengths),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_other_protocols),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_every_flipped_bit),
        cmocka_unit_test(test_tcp_sum_is_believed),
        cmocka_unit_test(test_sums_like_naive),
        cmocka_unit_test(test_pseudo_sum),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_zero_ports),
        cmocka_unit_test(test_random_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
