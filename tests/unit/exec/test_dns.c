/* SPDX-License-Identifier: BSD-3-Clause
 * Which resolvers of a resolv.conf are on loopback.
 */
#include "ctl/exec/dns.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Return: the addresses, separated by spaces. */
static const char *loopback(const char *text)
{
    static char out[DNS_SERVER_MAX_CNT * 64];
    union dns_addr servers[DNS_SERVER_MAX_CNT];

    out[0] = '\0';
    size_t cnt = dns_loopback_servers(text, servers, DNS_SERVER_MAX_CNT);
    for (size_t i = 0; i < cnt; i++) {
        char one[INET6_ADDRSTRLEN];
        const union dns_addr *a = &servers[i];
        bool v4 = a->sa.sa_family == AF_INET;
        assert_int_equal(ntohs(v4 ? a->in.sin_port : a->in6.sin6_port), DNS_PORT);
        inet_ntop(a->sa.sa_family, v4 ? (const void *)&a->in.sin_addr : &a->in6.sin6_addr, one,
                  sizeof(one));
        snprintf(out + strlen(out), sizeof(out) - strlen(out), "%s%s", i ? " " : "", one);
    }
    return out;
}

static void test_loopback_addresses(void **state)
{
    assert_string_equal(loopback("nameserver 127.0.0.53\n"), "127.0.0.53");
    assert_string_equal(loopback("nameserver 127.255.255.254"), "127.255.255.254");
    assert_string_equal(loopback("nameserver ::1\n"), "::1");
    assert_string_equal(loopback("nameserver\t127.0.0.1\t\n"), "127.0.0.1");
    assert_string_equal(loopback("nameserver 127.0.0.1 # local\n"), "127.0.0.1");
    assert_string_equal(loopback("nameserver 127.0.0.1;x\r\n"), "127.0.0.1");
}

static void test_others_are_left_out(void **state)
{
    assert_string_equal(loopback("nameserver 192.0.2.1\n"), "");
    assert_string_equal(loopback("nameserver 2001:db8::1\n"), "");
    assert_string_equal(loopback("nameserver fe80::1%eth0\n"), "");
    assert_string_equal(loopback("nameserver 128.0.0.1\nnameserver 126.255.255.255\n"), "");
    assert_string_equal(loopback("nameserver 192.0.2.1\nnameserver 127.0.0.1\n"), "127.0.0.1");
}

/* resolv.conf(5): without a nameserver the local machine is asked. */
static void test_default(void **state)
{
    assert_string_equal(loopback(""), "127.0.0.1");
    assert_string_equal(loopback("search example.org\noptions edns0\n"), "127.0.0.1");
    assert_string_equal(loopback("# nameserver 192.0.2.1\n"), "127.0.0.1");
    assert_string_equal(loopback("nameserverx 192.0.2.1\n"), "127.0.0.1");
    assert_string_equal(loopback("nameserver\n"), "127.0.0.1");
}

static void test_not_more_than_the_resolver_reads(void **state)
{
    assert_string_equal(loopback("nameserver 127.0.0.1\nnameserver 127.0.0.2\n"
                                 "nameserver 127.0.0.3\nnameserver 127.0.0.4\n"),
                        "127.0.0.1 127.0.0.2 127.0.0.3");
    assert_string_equal(loopback("nameserver 192.0.2.1\nnameserver 192.0.2.2\n"
                                 "nameserver 192.0.2.3\nnameserver 127.0.0.1\n"),
                        "");
    union dns_addr one;
    assert_int_equal(dns_loopback_servers("nameserver 127.0.0.1\nnameserver ::1\n", &one, 1), 1);
    assert_int_equal(dns_loopback_servers("", &one, 0), 0);
}

static void test_garbage(void **state)
{
    char text[4096];

    assert_string_equal(loopback("nameserver 127.0.0.256\n"), "");
    assert_string_equal(loopback("nameserver 127.1\n"), "");
    assert_string_equal(loopback("\n\n\n\nnameserver ::1"), "::1");
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    memcpy(text, "nameserver ", 11);
    assert_string_equal(loopback(text), "127.0.0.1");
}

static void test_file(void **state)
{
    union dns_addr servers[DNS_SERVER_MAX_CNT];

    assert_int_equal(dns_loopback_servers_of("/nonexistent/resolv.conf", servers, 3), 1);
    assert_int_equal(servers[0].in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loopback_addresses),
        cmocka_unit_test(test_others_are_left_out),
        cmocka_unit_test(test_default),
        cmocka_unit_test(test_not_more_than_the_resolver_reads),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
