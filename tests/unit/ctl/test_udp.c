/* SPDX-License-Identifier: BSD-3-Clause
 * Words about UDP, and the chains that come of them.
 */
#include "ctl/net/udp.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_actions(void **state)
{
    enum udp_action a = UDP_ALLOW;

    assert_int_equal(udp_parse_action("reject", &a), 0);
    assert_int_equal(a, UDP_REJECT);
    assert_int_equal(udp_parse_action("refuse", &a), -EINVAL);
    assert_int_equal(udp_parse_action("", &a), -EINVAL);
    assert_int_equal(a, UDP_REJECT);
    assert_string_equal(udp_action_name(UDP_DROP), "drop");
}

static void test_dns(void **state)
{
    static const char *const bad[] = {"",
                                      ",",
                                      "10.0.0.1,",
                                      "10.0.0.1,,10.0.0.2",
                                      "10.0.0.0/8",
                                      "dns",
                                      "0123456789012345678901234567890123456789012345678"};
    struct udp u = {.action = UDP_DROP};
    char addr[ADDR_STR_LEN];

    assert_int_equal(udp_parse_dns("10.0.0.53,2001:db8::53", &u), 0);
    assert_int_equal(u.dns_cnt, 2);
    assert_string_equal(addr_str(&u.dns[1], addr), "2001:db8::53");
    assert_int_equal(u.action, UDP_DROP);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(udp_parse_dns(bad[i], &u), -EINVAL);
    assert_int_equal(
        udp_parse_dns("1.0.0.1,1.0.0.2,1.0.0.3,1.0.0.4,1.0.0.5,1.0.0.6,1.0.0.7,1.0.0.8,"
                      "1.0.0.9",
                      &u),
        -E2BIG);
    assert_int_equal(u.dns_cnt, 2);
    assert_int_equal(udp_parse_dns("none", &u), 0);
    assert_int_equal(u.dns_cnt, 0);
}

static char *print(const struct udp *u)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    udp_print(out, "2, 3", u);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void test_chains(void **state)
{
    struct udp u = {.action = UDP_ALLOW};

    assert_int_equal(udp_parse_dns("10.0.0.53,2001:db8::53", &u), 0);
    char *text = print(&u);
    assert_string_equal(text, "");
    free(text);
    u.action = UDP_REJECT;
    text = print(&u);
    assert_non_null(strstr(text, "oif != { 2, 3 } accept\n"));
    assert_non_null(strstr(text, "ip daddr 10.0.0.53 udp dport 53 accept\n"));
    assert_non_null(strstr(text, "ip6 saddr 2001:db8::53 udp sport 53 accept\n"));
    assert_non_null(strstr(text, "reject\n}\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_actions),
        cmocka_unit_test(test_dns),
        cmocka_unit_test(test_chains),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
