/* SPDX-License-Identifier: BSD-3-Clause
 * Log lines: level, form, and one write each.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/* Only while standard error is what the variable names. */
static void write_for_journal(void)
{
    char stream[64];
    struct stat st;

    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_set_format(LOG_FORMAT_AUTO);
    log_error("e%d", 1);
    log_warn("w");
    setenv("JOURNAL_STREAM", "8:1", 1);
    log_set_format(LOG_FORMAT_AUTO);
    log_error("other");
    setenv("JOURNAL_STREAM", "nonsense", 1);
    log_set_format(LOG_FORMAT_AUTO);
    log_error("nonsense");
}

static void test_journal(void **state)
{
    capture(write_for_journal);
    unsetenv("JOURNAL_STREAM");
    assert_string_equal(got, "<3>e1\n<4>w\ntcpcrypt-ns: other\ntcpcrypt-ns: nonsense\n");
    log_set_format(LOG_FORMAT_JOURNAL);
    capture(write_all_levels);
    assert_string_equal(got, "<3>e1\n<4>w\n");
}

static void write_event(void)
{
    static const struct log_field fields[] = {
        {"name", "a\nb \"c\"", 0},
        {"bytes", NULL, 9007199254740992.0},
        {"seconds", NULL, 0.25},
    };

    log_event(LOG_LEVEL_WARN, "it happened\x1b", fields, 3);
    log_event(LOG_LEVEL_INFO, "not shown", fields, 3);
}

static void write_long_event(void)
{
    static char text[900];
    static const struct log_field fields[] = {
        {"long", text, 0}, {"longer", text, 0}, {"short", "x", 0}};

    memset(text, '\n', sizeof(text) - 1);
    log_event(LOG_LEVEL_WARN, "m", fields + 2, 1);
    log_event(LOG_LEVEL_WARN, "m", fields, 3);
    log_write(LOG_LEVEL_WARN, "%s%s", text, text);
}

static void test_text_event(void **state)
{
    log_set_format(LOG_FORMAT_TEXT);
    capture(write_event);
    assert_string_equal(got, "tcpcrypt-ns: it happened\\x1b: name=a\\x0ab \"c\" "
                             "bytes=9007199254740992 seconds=0.250000\n");
}

static void test_file(void **state)
{
    int year, month, day, hour, minute, len = 0;
    float second;

    log_set_format(LOG_FORMAT_FILE);
    capture(write_event);
    assert_int_equal(sscanf(got, "%d-%d-%dT%d:%d:%fZ warn it happened%n", &year, &month, &day,
                            &hour, &minute, &second, &len),
                     6);
    assert_true(len > 0 && year > 2020);
}

static void test_json(void **state)
{
    double time;
    int len = 0;

    log_set_format(LOG_FORMAT_JSON);
    capture(write_event);
    assert_int_equal(sscanf(got, "{\"time\":%lf,%n", &time, &len), 1);
    assert_true(time > 1.6e9);
    assert_string_equal(got + len, "\"level\":\"warn\",\"message\":\"it happened\\u001b\","
                                   "\"name\":\"a\\u000ab \\\"c\\\"\","
                                   "\"bytes\":9007199254740992,\"seconds\":0.250000}\n");
    /* Cut lines are still objects. */
    capture(write_long_event);
    size_t lines = 0;
    for (char *line = strtok(got, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        assert_true(strlen(line) < 1024);
        assert_int_equal(line[0], '{');
        assert_string_equal(line + strlen(line) - 2, "\"}");
    }
    assert_int_equal(lines, 3);
}

static void test_long_line_is_cut(void **state)
{
    log_set_format(LOG_FORMAT_TEXT);
    capture(write_long);
    assert_in_range(strlen(got), 500, 1024);
    assert_int_equal(got[strlen(got) - 1], '\n');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),     cmocka_unit_test(test_journal),
        cmocka_unit_test(test_text_event), cmocka_unit_test(test_file),
        cmocka_unit_test(test_json),       cmocka_unit_test(test_long_line_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
