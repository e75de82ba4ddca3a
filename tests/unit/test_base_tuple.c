/* SPDX-License-Identifier: BSD-3-Clause
 * Addresses and tuples.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <string.h>

#include "base/tuple.h"

static struct addr addr_of(int family, const char *text)
{
    uint8_t bytes[16];

    assert_int_equal(inet_pton(family, text, bytes), 1);
    return family == AF_INET ? addr_from_v4(bytes) : addr_from_v6(bytes);
}

static void check_string(int family, const char *text)
{
    struct addr a = addr_of(family, text);
    char out[ADDR_STR_LEN];

    assert_int_equal(addr_is_v4(&a), family == AF_INET);
    assert_ptr_equal(addr_str(&a, out), out);
    assert_string_equal(out, text);
}

static void test_strings(void **state)
{
    static const char *const v4[] = {"0.0.0.0", "192.0.2.1", "255.255.255.255"};
    static const char *const v6[] = {"::", "::1", "2001:db8::1", "fe80::1234:5678:9abc:def0",
                                     "2001:db8:1111:2222:3333:4444:5555:6666"};

    for (size_t i = 0; i < sizeof(v4) / sizeof(*v4); i++)
        check_string(AF_INET, v4[i]);
    for (size_t i = 0; i < sizeof(v6) / sizeof(*v6); i++)
        check_string(AF_INET6, v6[i]);
}

/* The longest text that the system library makes of an IPv6 address. */
static void test_longest_string(void **state)
{
    struct addr a = addr_of(AF_INET6, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    char out[ADDR_STR_LEN];

    assert_int_equal(strlen(addr_str(&a, out)), 39);
}

static void test_addresses_differ(void **state)
{
    struct addr v4 = addr_of(AF_INET, "192.0.2.1"), same = addr_of(AF_INET, "192.0.2.1");
    struct addr next = addr_of(AF_INET, "192.0.2.2"), v6 = addr_of(AF_INET6, "::c000:201");

    assert_true(addr_eq(&v4, &same));
    assert_false(addr_eq(&v4, &next));
    assert_false(addr_eq(&v4, &v6)); /* compatible is not mapped */
}

static void test_each_byte_of_a_tuple_counts(void **state)
{
    struct tuple a = {addr_of(AF_INET, "192.0.2.1"), addr_of(AF_INET, "198.51.100.2"), 1, 2};

    for (size_t i = 0; i < sizeof(a); i++) {
        struct tuple b = a;
        assert_true(tuple_eq(&a, &b));
        ((uint8_t *)&b)[i] ^= 1;
        assert_false(tuple_eq(&a, &b));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_longest_string),
        cmocka_unit_test(test_addresses_differ),
        cmocka_unit_test(test_each_byte_of_a_tuple_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
