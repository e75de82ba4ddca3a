/* SPDX-License-Identifier: BSD-3-Clause
 * Published ports: what is read, and the rules for it.
 */
#include "ctl/exec/publish.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

static const char *rules(const struct publish *p, int family)
{
    static char text[8192];
    FILE *out = fmemopen(text, sizeof(text), "w");

    assert_non_null(out);
    text[0] = '\0';
    publish_rules(out, p, family, family == AF_INET ? "10.0.0.2" : "fd00::2");
    fclose(out);
    return text;
}

static void expect_rules(const char *text, const char *v4, const char *v6)
{
    struct publish p = {.cnt = 0};

    assert_int_equal(publish_add(&p, text), 0);
    assert_string_equal(rules(&p, AF_INET), v4);
    assert_string_equal(rules(&p, AF_INET6), v6);
}

static void test_forms(void **state)
{
    expect_rules("80",
                 "meta nfproto ipv4 fib daddr type local tcp dport 80 dnat ip to 10.0.0.2:80\n",
                 "meta nfproto ipv6 fib daddr type local tcp dport 80 dnat ip6 to [fd00::2]:80\n");
    expect_rules(
        "8080:80/tcp",
        "meta nfproto ipv4 fib daddr type local tcp dport 8080 dnat ip to 10.0.0.2:80\n",
        "meta nfproto ipv6 fib daddr type local tcp dport 8080 dnat ip6 to [fd00::2]:80\n");
    expect_rules("192.0.2.1:53/udp", "ip daddr 192.0.2.1 udp dport 53 dnat ip to 10.0.0.2:53\n",
                 "");
    expect_rules("[2001:db8::1]:443:65535", "",
                 "ip6 daddr 2001:db8::1 tcp dport 443 dnat ip6 to [fd00::2]:65535\n");
}

static void test_refuses_what_is_no_port(void **state)
{
    static const char *const bad[] = {
        "",
        "0",
        "65536",
        "80:",
        ":80",
        "80/",
        "80/sctp",
        "80:80:80",
        "a.b:80",
        "1.2.3:80",
        "1.2.3.4",
        "1.2.3.4:",
        "[::1]80",
        "[::1]",
        "[1.2.3.4]:80",
        "::1:80",
        "-80",
        "+80",
        " 80",
        "80 ",
        "80-90",
        "080080",
        "99999999",
        "[::1]:",
        "1.2.3.4:80:0",
        "80;drop",
        "80/tcp/tcp",
        "[::1%lo]:80",
        "1.2.3.4.5:80",
        "[2001:db8:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]:80",
    };
    struct publish p = {.cnt = 0};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (publish_add(&p, bad[i]) != -EINVAL)
            fail_msg("\"%s\" is taken", bad[i]);
    assert_int_equal(p.cnt, 0);
}

static void test_a_port_of_the_host_once(void **state)
{
    struct publish p = {.cnt = 0};

    assert_int_equal(publish_add(&p, "80"), 0);
    assert_int_equal(publish_add(&p, "80:81"), -EEXIST);
    assert_int_equal(publish_add(&p, "192.0.2.1:80"), -EEXIST);
    assert_int_equal(publish_add(&p, "80/udp"), 0);
    assert_int_equal(publish_add(&p, "192.0.2.1:81"), 0);
    assert_int_equal(publish_add(&p, "192.0.2.2:81"), 0);
    assert_int_equal(publish_add(&p, "[::1]:81"), 0);
    assert_int_equal(publish_add(&p, "81"), -EEXIST);
    assert_int_equal(p.cnt, 5);
}

static void test_cap(void **state)
{
    struct publish p = {.cnt = 0};
    char text[10];

    for (unsigned i = 1; i <= PUBLISH_MAX_CNT; i++) {
        snprintf(text, sizeof(text), "%u", i);
        assert_int_equal(publish_add(&p, text), 0);
    }
    assert_int_equal(publish_add(&p, "1000"), -E2BIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_refuses_what_is_no_port),
        cmocka_unit_test(test_a_port_of_the_host_once),
        cmocka_unit_test(test_cap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
