/* SPDX-License-Identifier: BSD-3-Clause
 * The datagrams to the service manager.
 */
#include "ctl/daemon/sdnotify.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"

#define ABSTRACT "@tcns-test-sdnotify-%d"

/* Return: a socket that a manager would listen on; its address is in NOTIFY_SOCKET. */
static int manager(const char *text)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(text);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    memcpy(addr.sun_path, text, len);
    if (text[0] == '@')
        addr.sun_path[0] = '\0';
    assert_int_equal(
        bind(fd, (struct sockaddr *)&addr,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (text[0] != '@'))),
        0);
    setenv("NOTIFY_SOCKET", text, 1);
    return fd;
}

static const char *heard(int fd)
{
    static char text[1000];
    ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

    if (n < 0)
        return "nothing";
    text[n] = '\0';
    return text;
}

static void test_messages(void **state)
{
    char name[60];
    struct sdnotify n;

    snprintf(name, sizeof(name), ABSTRACT, (int)getpid());
    int fd = manager(name);
    setenv("WATCHDOG_USEC", "1000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    assert_int_equal(sdnotify_init(&n), 0);
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_null(getenv("WATCHDOG_USEC"));
    assert_null(getenv("WATCHDOG_PID"));

    sdnotify_ready(&n, "Uplink eth0");
    assert_string_equal(heard(fd), "READY=1\nSTATUS=Uplink eth0\n");
    sdnotify_status(&n, "Uplink eth1");
    assert_string_equal(heard(fd), "STATUS=Uplink eth1\n");
    sdnotify_alive(&n);
    assert_string_equal(heard(fd), "WATCHDOG=1\n");
    sdnotify_stopping(&n);
    assert_string_equal(heard(fd), "STOPPING=1\n");

    int64_t before = clock_us();
    long long told;
    sdnotify_reloading(&n);
    assert_int_equal(sscanf(heard(fd), "RELOADING=1\nMONOTONIC_USEC=%lld\n", &told), 1);
    assert_true(before <= told && told <= clock_us());
    sdnotify_done(&n);
    sdnotify_alive(&n);
    assert_string_equal(heard(fd), "nothing");
    close(fd);
}

static void test_path(void **state)
{
    char dir[] = "/tmp/tcns-sdnotify-XXXXXX", path[60];
    struct sdnotify n;

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/notify", dir);
    int fd = manager(path);
    assert_int_equal(sdnotify_init(&n), 0);
    sdnotify_alive(&n);
    assert_string_equal(heard(fd), "WATCHDOG=1\n");
    /* A manager that is gone, or does not read, must not stop us. */
    for (int i = 0; i < 1000; i++)
        sdnotify_alive(&n);
    close(fd);
    sdnotify_alive(&n);
    sdnotify_done(&n);
    unlink(path);
    rmdir(dir);
}

static void test_long_line_is_cut(void **state)
{
    char name[60], line[2000];
    struct sdnotify n;

    snprintf(name, sizeof(name), ABSTRACT, (int)getpid());
    int fd = manager(name);
    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 1] = '\0';
    assert_int_equal(sdnotify_init(&n), 0);
    sdnotify_status(&n, line);
    assert_true(strlen(heard(fd)) < 500);
    sdnotify_done(&n);
    close(fd);
}

static void test_nobody(void **state)
{
    struct sdnotify n;

    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(sdnotify_init(&n), 0);
    assert_int_equal(n.fd, -1);
    sdnotify_ready(&n, "");
    sdnotify_ready(NULL, "");
    sdnotify_done(&n);
}

static void test_bad_addresses(void **state)
{
    static const char *const bad[] = {"", "/", "@", "relative", "vsock:2:1"};
    char longest[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
    struct sdnotify n;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setenv("NOTIFY_SOCKET", bad[i], 1);
        assert_int_equal(sdnotify_init(&n), -EINVAL);
        assert_int_equal(n.fd, -1);
    }
    memset(longest, '/', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    setenv("NOTIFY_SOCKET", longest, 1);
    assert_int_equal(sdnotify_init(&n), -E2BIG);
    assert_null(getenv("NOTIFY_SOCKET"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),         cmocka_unit_test(test_path),
        cmocka_unit_test(test_long_line_is_cut), cmocka_unit_test(test_nobody),
        cmocka_unit_test(test_bad_addresses),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
