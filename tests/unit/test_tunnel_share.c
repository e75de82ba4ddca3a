/* SPDX-License-Identifier: BSD-3-Clause
 * Shares of memory that is short.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tunnel/share.h"

#define MIB ((size_t)1 << 20)
#define MAX (256 * MIB)

static void enough(void **state)
{
    assert_true(share_limit(0, MAX, 0) == SIZE_MAX);
    assert_true(share_limit(MAX, MAX, 100000) == SIZE_MAX);
    assert_int_equal(share_window(MAX / 2, MAX, 10), 0);
}

/* What 400 stalled connections hold, 640 KiB each and more, is over the limit; nothing is under it. */
static void newcomers_have_room(void **state)
{
    size_t stalled = MAX / 400, limit = share_limit(MAX + 1, MAX, 401);

    assert_true(limit < stalled);
    assert_true(limit > 256 * 1024);
}

static void less_and_less(void **state)
{
    size_t last = SIZE_MAX;

    for (size_t total = MAX + 1; total < MAX + MAX / 4; total += MIB) {
        size_t limit = share_limit(total, MAX, 10);
        assert_true(limit < last);
        last = limit;
    }
    assert_int_equal(share_limit(MAX + MAX / 4, MAX, 10), 0);
    assert_int_equal(share_limit(SIZE_MAX, MAX, 10), 0);
}

static void windows(void **state)
{
    assert_int_equal(share_window(MAX, MAX, 100000), 64 * 1024);
    assert_int_equal(share_window(MAX, MAX, 128), MIB);
    assert_int_equal(share_window(MAX, MAX, 0), MAX / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(enough),
        cmocka_unit_test(newcomers_have_room),
        cmocka_unit_test(less_and_less),
        cmocka_unit_test(windows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
