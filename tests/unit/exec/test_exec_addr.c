/* SPDX-License-Identifier: BSD-3-Clause
 * Address ranges that collide with nothing.
 */
#include "ctl/exec/exec_addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void use(struct exec_used *used, const char *text)
{
    char addr[64];
    uint8_t bytes[16];
    unsigned len;

    assert_int_equal(sscanf(text, "%63[^/]/%u", addr, &len), 2);
    int family = strchr(addr, ':') ? AF_INET6 : AF_INET;
    assert_int_equal(inet_pton(family, addr, bytes), 1);
    assert_int_equal(exec_used_add(used, family, bytes, len), 0);
}

static const char *str(const struct exec_prefix *p)
{
    static char out[80];
    char addr[INET6_ADDRSTRLEN];

    inet_ntop(p->family, p->addr, addr, sizeof(addr));
    snprintf(out, sizeof(out), "%s/%u", addr, p->len);
    return out;
}

static void random_ones(void *out, size_t len)
{
    memset(out, 0xff, len);
}

static void random_zeros(void *out, size_t len)
{
    memset(out, 0, len);
}

static void random_real(void *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)out)[i] = (uint8_t)(random() >> 7);
}

static const char *choose4(const struct exec_used *used, exec_random_fn fn)
{
    struct exec_prefix p;

    int err = exec_addr_choose_ipv4(used, fn, &p);
    return err == -EADDRNOTAVAIL ? "none" : str(&p);
}

static void test_first_and_last_of_a_range(void **state)
{
    struct exec_used used = {0};

    assert_string_equal(choose4(&used, random_zeros), "10.0.0.0/30");
    assert_string_equal(choose4(&used, random_ones), "10.255.255.252/30");
}

static void test_next_range_when_one_is_covered(void **state)
{
    struct exec_used used = {0};

    use(&used, "10.0.0.0/8");
    assert_string_equal(choose4(&used, random_ones), "172.31.255.252/30");
    use(&used, "172.16.0.0/12");
    assert_string_equal(choose4(&used, random_ones), "192.168.255.252/30");
    use(&used, "192.168.0.0/16");
    assert_string_equal(choose4(&used, random_ones), "100.127.255.252/30");
    use(&used, "100.64.0.0/10");
    assert_string_equal(choose4(&used, random_ones), "198.19.255.252/30");
    use(&used, "198.18.0.0/15");
    assert_string_equal(choose4(&used, random_ones), "none");
    exec_used_done(&used);
}

/* Whichever side is the wider one. */
static void test_single_addresses_count(void **state)
{
    struct exec_used used = {0};

    use(&used, "10.255.255.254/32");
    assert_string_equal(choose4(&used, random_ones), "172.31.255.252/30");
    exec_used_done(&used);
    use(&used, "0.0.0.0/1");
    assert_string_equal(choose4(&used, random_ones), "172.31.255.252/30");
    exec_used_done(&used);
}

static void test_default_route_uses_nothing(void **state)
{
    struct exec_used used = {0};

    use(&used, "0.0.0.0/0");
    use(&used, "::/0");
    assert_int_equal(used.cnt, 0);
    exec_used_done(&used);
}

static void test_ipv6(void **state)
{
    struct exec_used used = {0};
    struct exec_prefix p;
    uint8_t host[16];
    char text[INET6_ADDRSTRLEN];

    assert_int_equal(exec_addr_choose_ipv6(&used, random_ones, &p), 0);
    assert_string_equal(str(&p), "fdff:ffff:ffff:ffff::/64");
    exec_prefix_nth(&p, 2, host);
    assert_string_equal(inet_ntop(AF_INET6, host, text, sizeof(text)), "fdff:ffff:ffff:ffff::2");
    use(&used, "fdff:ffff:ffff::/48");
    assert_int_equal(exec_addr_choose_ipv6(&used, random_ones, &p), -EADDRNOTAVAIL);
    assert_int_equal(exec_addr_choose_ipv6(&used, random_zeros, &p), 0);
    use(&used, "fc00::/7");
    assert_int_equal(exec_addr_choose_ipv6(&used, random_zeros, &p), -EADDRNOTAVAIL);
    exec_used_done(&used);
}

/* IPv4 in the first bytes must not look like IPv6. */
static void test_families_are_apart(void **state)
{
    struct exec_used used = {0};

    use(&used, "fd00::/8");
    use(&used, "a00::/8"); /* the bytes of 10.0.0.0/8 */
    assert_string_equal(choose4(&used, random_ones), "10.255.255.252/30");
    exec_used_done(&used);
}

/* Many at a time, each marked as used: never two that overlap. */
static void test_never_twice(void **state)
{
    struct exec_used used = {0};

    srandom(8548);
    use(&used, "10.0.0.0/9");
    use(&used, "10.128.0.0/10");
    for (int i = 0; i < 500; i++) {
        struct exec_prefix p;
        assert_int_equal(exec_addr_choose_ipv4(&used, random_real, &p), 0);
        assert_int_equal(p.len, EXEC_IPV4_LEN);
        for (size_t k = 0; k < used.cnt; k++)
            assert_false(exec_prefix_overlaps(&used.v[k], &p));
        assert_int_equal(exec_used_add(&used, AF_INET, p.addr, p.len), 0);
    }
    exec_used_done(&used);
}

static void test_numbered_addresses(void **state)
{
    struct exec_prefix p = {.family = AF_INET, .len = 30, .addr = {10, 1, 2, 4}};
    uint8_t out[16];

    exec_prefix_nth(&p, 1, out);
    assert_memory_equal(out, ((uint8_t[]){10, 1, 2, 5}), 4);
    exec_prefix_nth(&p, 2, out);
    assert_memory_equal(out, ((uint8_t[]){10, 1, 2, 6}), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_and_last_of_a_range),
        cmocka_unit_test(test_next_range_when_one_is_covered),
        cmocka_unit_test(test_single_addresses_count),
        cmocka_unit_test(test_default_route_uses_nothing),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_families_are_apart),
        cmocka_unit_test(test_never_twice),
        cmocka_unit_test(test_numbered_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
