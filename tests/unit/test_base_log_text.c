/* SPDX-License-Identifier: BSD-3-Clause
 * Escaping for log lines.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/log_text.h"

static char bytes[64];
static struct log_text t;

static void start(size_t cap)
{
    memset(bytes, 'z', sizeof(bytes));
    bytes[0] = '\0';
    t = (struct log_text){bytes, 0, cap, false};
}

static void check_plain(const char *text, const char *want)
{
    start(sizeof(bytes));
    log_text_add_plain(&t, text);
    assert_string_equal(bytes, want);
    assert_int_equal(t.len, strlen(want));
}

static void check_json(const char *text, const char *want)
{
    start(sizeof(bytes));
    log_text_add_json(&t, text);
    assert_string_equal(bytes, want);
}

static void test_plain(void **state)
{
    check_plain("", "");
    check_plain("a b\"\\~", "a b\"\\~");
    check_plain("a\nb\r\t\x1b[31m\x7f\x01", "a\\x0ab\\x0d\\x09\\x1b[31m\\x7f\\x01");
    check_plain("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    check_plain("\xc2\x9b", "\\xc2\\x9b"); /* U+009B: CSI to some terminals */
    check_plain("\xff\xc3", "\\xff\\xc3");
}

static void test_json(void **state)
{
    check_json("a\"b\\c", "a\\\"b\\\\c");
    check_json("\n\x1b\x7f", "\\u000a\\u001b\\u007f");
    check_json("\xc2\x9b", "\\u009b");
    check_json("\xc3\xa4", "\xc3\xa4");
    check_json("\xff", "\\ufffd");
    check_json("\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"); /* half of a surrogate pair */
    check_json("\xc0\x80", "\\ufffd\\ufffd");            /* longer than needed */
    check_json("\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd");
    check_json("\xe2\x82", "\\ufffd\\ufffd"); /* cut off */
}

/* Whole characters, the zero byte in its place, nothing behind the end. */
static void test_cut(void **state)
{
    for (size_t cap = 1; cap < 12; cap++) {
        start(cap);
        log_text_add_plain(&t, "\xe2\x82\xac\n\xe2\x82\xac");
        assert_true(t.cut == (cap < 11));
        assert_true(t.len < cap);
        assert_int_equal(t.len, cap > 10 ? 10 : cap > 7 ? 7 : cap > 3 ? 3 : 0);
        assert_int_equal(bytes[t.len], '\0');
        for (size_t i = cap; i < sizeof(bytes); i++)
            assert_true(bytes[i] == 'z' || i == 0);
    }
    start(4);
    log_text_add(&t, "abcd");
    assert_true(t.cut && t.len == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
