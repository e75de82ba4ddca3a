/* SPDX-License-Identifier: BSD-3-Clause
 * The set of bypassed ports.
 */
#include "ctl/net/bypass.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *parsed(const char *text)
{
    static char out[BYPASS_STR_LEN];
    struct bypass b;

    if (bypass_parse(text, &b) < 0)
        return "refused";
    return bypass_str(&b, out);
}

static void test_parse(void **state)
{
    assert_string_equal(parsed("none"), "none");
    assert_string_equal(parsed("80"), "80");
    assert_string_equal(parsed("1,65534"), "1,65534");
    assert_string_equal(parsed("6000-6010"), "6000-6010");
    assert_string_equal(parsed("443,22"), "22,443");
}

static void test_ranges_merge(void **state)
{
    assert_string_equal(parsed("80,80"), "80");
    assert_string_equal(parsed("80,81,79"), "79-81");
    assert_string_equal(parsed("10-20,15-30"), "10-30");
    assert_string_equal(parsed("10-20,30-40,1-100"), "1-100");
    assert_string_equal(parsed("1-65534,7"), "1-65534");
    assert_string_equal(parsed("65534,65533"), "65533-65534");
}

static void test_refuses_what_is_no_list(void **state)
{
    static const char *const bad[] = {
        "",      ",",         "80,",     ",80",     "0",
        "65536", "-1",        "80-",     "-80",     "9-8",
        "80 81", "80;81",     "ssh",     "0x50",    "+80",
        " 80",   "80-90-100", "none,80", "80,none", "99999999999999999999",
        "1,,2",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct bypass b = {.cnt = 7};
        assert_int_equal(bypass_parse(bad[i], &b), -EINVAL);
        assert_int_equal(b.cnt, 7);
    }
}

/* No rule of the kernel's can have it. */
static void test_refuses_the_last_port(void **state)
{
    static const char *const bad[] = {"65535", "1024-65535", "65534,65535", "default,1-65535"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct bypass b = {.cnt = 7};
        assert_int_equal(bypass_parse(bad[i], &b), -ERANGE);
        assert_int_equal(b.cnt, 7);
    }
}

static void test_default(void **state)
{
    struct bypass b, c;

    bypass_default(&b);
    assert_true(bypass_has(&b, 22));
    assert_true(bypass_has(&b, 443));
    assert_true(bypass_has(&b, 990));
    assert_true(bypass_has(&b, 993));
    assert_false(bypass_has(&b, 80));
    assert_false(bypass_has(&b, 991));
    assert_false(bypass_has(&b, 0));
    assert_int_equal(bypass_parse("default,80", &c), 0);
    assert_true(bypass_has(&c, 80));
    assert_true(bypass_has(&c, 22));
}

static void test_cap(void **state)
{
    struct bypass b = {.cnt = 0}, before;
    uint16_t port = 1;

    for (size_t i = 0; i < BYPASS_MAX_CNT; i++, port += 2)
        assert_int_equal(bypass_add(&b, (struct port_range){port, port}), 0);
    before = b;
    assert_int_equal(bypass_add(&b, (struct port_range){port, port}), -E2BIG);
    assert_memory_equal(&b, &before, sizeof(b));
    /* One that closes a gap needs no place. */
    assert_int_equal(bypass_add(&b, (struct port_range){2, 2}), 0);
    assert_int_equal(b.cnt, BYPASS_MAX_CNT - 1);
}

/* The longest text fits its buffer. */
static void test_text_fits(void **state)
{
    struct bypass b = {.cnt = 0};
    char text[BYPASS_STR_LEN];

    for (uint16_t i = 0; i < BYPASS_MAX_CNT; i++) {
        uint16_t first = (uint16_t)(10000 + 3 * i);
        assert_int_equal(bypass_add(&b, (struct port_range){first, (uint16_t)(first + 1)}), 0);
    }
    assert_true(strlen(bypass_str(&b, text)) < sizeof(text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_ranges_merge),
        cmocka_unit_test(test_refuses_what_is_no_list),
        cmocka_unit_test(test_refuses_the_last_port),
        cmocka_unit_test(test_default),
        cmocka_unit_test(test_cap),
        cmocka_unit_test(test_text_fits),
    };

    return cmocka_run_group_tests_name("ctl/bypass", tests, NULL, NULL);
}
