/* SPDX-License-Identifier: BSD-3-Clause
 * Log lines: level, form, and one write each.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static char got[8192];

/* What fn writes to standard error. */
static void capture(void (*fn)(void))
{
    int fds[2], saved = dup(STDERR_FILENO);
    ssize_t n;

    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    fn();
    dup2(saved, STDERR_FILENO);
    close(saved);
    n = read(fds[0], got, sizeof(got) - 1);
    close(fds[0]);
    got[n > 0 ? n : 0] = '\0';
}

static void write_all_levels(void)
{
    log_error("e%d", 1);
    log_warn("w");
    log_info("i");
    log_debug("d");
    log_trace("t");
}

static void write_long(void)
{
    char text[5000];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_error("%s", text);
}

static void test_levels(void **state)
{
    unsetenv("JOURNAL_STREAM");
    capture(write_all_levels);
    assert_string_equal(got, "tcpcrypt-ns: e1\ntcpcrypt-ns: w\n");
    log_set_level(LOG_LEVEL_TRACE);
    assert_true(log_enabled(LOG_LEVEL_TRACE));
    capture(write_all_levels);
    assert_string_equal(got, "tcpcrypt-ns: e1\ntcpcrypt-ns: w\ntcpcrypt-ns: i\n"
                             "tcpcrypt-ns: d\ntcpcrypt-ns: t\n");
    log_set_level(LOG_LEVEL_ERROR);
    assert_false(log_enabled(LOG_LEVEL_WARN));
    capture(write_all_levels);
    assert_string_equal(got, "tcpcrypt-ns: e1\n");
    log_set_level(LOG_LEVEL_WARN);
}

static void test_journal(void **state)
{
    setenv("JOURNAL_STREAM", "8:1", 1);
    capture(write_all_levels);
    unsetenv("JOURNAL_STREAM");
    assert_string_equal(got, "<3>e1\n<4>w\n");
}

static void test_long_line_is_cut(void **state)
{
    capture(write_long);
    assert_in_range(strlen(got), 500, 1024);
    assert_int_equal(got[strlen(got) - 1], '\n');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_journal),
        cmocka_unit_test(test_long_line_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
