/* SPDX-License-Identifier: BSD-3-Clause
 * Look-ups in our routing table, and that nothing falls through it.
 */
#include "ctl/net/mirror.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct mirror_route route(const char *text, uint8_t len, uint32_t metric,
                                 enum mirror_kind kind)
{
    struct mirror_route r = {.dst_len = len, .metric = metric, .kind = (uint8_t)kind};

    r.family = strchr(text, ':') ? AF_INET6 : AF_INET;
    assert_int_equal(inet_pton(r.family, text, &r.dst), 1);
    return r;
}

static struct addr address(const char *text)
{
    struct in6_addr bytes;

    if (inet_pton(AF_INET, text, &bytes) == 1)
        return addr_from_v4(&bytes);
    assert_int_equal(inet_pton(AF_INET6, text, &bytes), 1);
    return addr_from_v6(&bytes);
}

static enum mirror_kind look_up(struct mirror_route *routes, size_t cnt, const char *text)
{
    struct mirror m = {.routes = routes, .cnt = cnt};
    struct addr a = address(text);

    return mirror_lookup(&m, &a);
}

static void test_longest_prefix_wins(void **state)
{
    struct mirror_route routes[] = {
        route("0.0.0.0", 0, 0, MIRROR_TUN),     route("10.0.0.0", 8, 0, MIRROR_NATIVE),
        route("10.1.0.0", 16, 100, MIRROR_TUN), route("10.1.2.128", 25, 0, MIRROR_NATIVE),
        route("10.1.2.129", 32, 0, MIRROR_TUN),
    };

    assert_int_equal(look_up(routes, 5, "192.0.2.1"), MIRROR_TUN);
    assert_int_equal(look_up(routes, 5, "10.2.0.1"), MIRROR_NATIVE);
    assert_int_equal(look_up(routes, 5, "10.1.0.1"), MIRROR_TUN);
    assert_int_equal(look_up(routes, 5, "10.1.2.127"), MIRROR_TUN);
    assert_int_equal(look_up(routes, 5, "10.1.2.128"), MIRROR_NATIVE);
    assert_int_equal(look_up(routes, 5, "10.1.2.129"), MIRROR_TUN);
}

static void test_lowest_metric_wins(void **state)
{
    struct mirror_route routes[] = {
        route("10.0.0.0", 8, 4000000000u, MIRROR_UNREACHABLE),
        route("10.0.0.0", 8, 100, MIRROR_NATIVE),
        route("10.0.0.0", 8, 50, MIRROR_TUN),
    };

    assert_int_equal(look_up(routes, 3, "10.9.9.9"), MIRROR_TUN);
    assert_int_equal(look_up(routes, 2, "10.9.9.9"), MIRROR_NATIVE);
    assert_int_equal(look_up(routes, 1, "10.9.9.9"), MIRROR_UNREACHABLE);
}

/* What is left when the TUN device has vanished: a nested prefix must not fall
 * through to a wider one that leads out. */
static void test_closed_without_tun(void **state)
{
    struct mirror_route routes[] = {
        route("0.0.0.0", 0, UINT32_MAX - 1, MIRROR_UNREACHABLE),
        route("10.0.0.0", 8, 0, MIRROR_NATIVE),
        route("10.1.0.0", 16, UINT32_MAX - 1, MIRROR_UNREACHABLE),
    };

    assert_int_equal(look_up(routes, 3, "10.1.0.1"), MIRROR_UNREACHABLE);
    assert_int_equal(look_up(routes, 3, "8.8.8.8"), MIRROR_UNREACHABLE);
    assert_int_equal(look_up(routes, 3, "10.2.0.1"), MIRROR_NATIVE);
}

static void test_families_are_apart(void **state)
{
    struct mirror_route routes[] = {
        route("::", 0, 1024, MIRROR_TUN),
        route("2001:db8::", 33, 256, MIRROR_NATIVE),
        route("0.0.0.0", 0, 0, MIRROR_UNREACHABLE),
    };

    assert_int_equal(look_up(routes, 3, "2001:db8:7fff::1"), MIRROR_NATIVE);
    assert_int_equal(look_up(routes, 3, "2001:db8:8000::1"), MIRROR_TUN);
    assert_int_equal(look_up(routes, 3, "192.0.2.1"), MIRROR_UNREACHABLE);
    assert_int_equal(look_up(routes, 2, "192.0.2.1"), MIRROR_UNREACHABLE);
}

static void test_empty_table_is_closed(void **state)
{
    assert_int_equal(look_up(NULL, 0, "192.0.2.1"), MIRROR_UNREACHABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_longest_prefix_wins),   cmocka_unit_test(test_lowest_metric_wins),
        cmocka_unit_test(test_closed_without_tun),    cmocka_unit_test(test_families_are_apart),
        cmocka_unit_test(test_empty_table_is_closed),
    };

    return cmocka_run_group_tests_name("ctl/mirror", tests, NULL, NULL);
}
