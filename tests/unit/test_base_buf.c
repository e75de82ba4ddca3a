/* SPDX-License-Identifier: BSD-3-Clause
 * Buffers: references, and the count of all bytes held.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/buf.h"

static void test_new(void **state)
{
    struct buf *b = buf_new(100);

    assert_non_null(b);
    assert_int_equal(b->refs, 1);
    assert_true(b->cap >= 100);
    assert_int_equal(b->off, 0);
    assert_int_equal(b->len, 0);
    memset(b->bytes, 1, b->cap);
    b->off = 7;
    assert_ptr_equal(buf_data(b), b->bytes + 7);
    buf_unref(b);
}

static void test_references(void **state)
{
    size_t before = buf_total();
    struct buf *b = buf_new(100);

    assert_ptr_equal(buf_ref(b), b);
    assert_int_equal(b->refs, 2);
    buf_unref(b);
    assert_int_equal(b->refs, 1);
    assert_true(buf_total() > before);
    buf_unref(b);
    assert_int_equal(buf_total(), before);
    buf_unref(NULL);
}

static void test_nothing(void **state)
{
    struct buf *b = buf_new(0);

    assert_non_null(b);
    buf_unref(b);
    assert_int_equal(buf_total(), 0);
}

static void test_too_large(void **state)
{
    assert_null(buf_new((size_t)UINT32_MAX + 1));
    assert_null(buf_new(SIZE_MAX));
    assert_int_equal(buf_total(), 0);
}

/* Sizes around those that are kept for reuse: what is asked for is there, and counted. */
static void test_sizes(void **state)
{
    static const size_t sizes[] = {1, 32767, 32768, 32769, 65535, 69631, 69632, 69633, 1 << 20};
    size_t cnt = sizeof(sizes) / sizeof(*sizes), total = 0;
    struct buf *b[sizeof(sizes) / sizeof(*sizes)];

    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < cnt; i++) {
            b[i] = buf_new(sizes[i]);
            assert_true(b[i]->cap >= sizes[i]);
            assert_int_equal(b[i]->len, 0);
            assert_int_equal(b[i]->off, 0);
            memset(b[i]->bytes, round, b[i]->cap);
            b[i]->len = b[i]->off = 5;
            total += b[i]->cap + BUF_COST;
        }
        assert_int_equal(buf_total(), total);
        for (size_t i = 0; i < cnt; i++)
            buf_unref(b[i]);
        assert_int_equal(buf_total(), 0);
        total = 0;
    }
}

/* More large ones than are kept. */
static void test_many_large(void **state)
{
    struct buf *b[200];

    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 200; i++) {
            b[i] = buf_new(65536);
            b[i]->bytes[65535] = (uint8_t)i;
        }
        for (size_t i = 0; i < 200; i++) {
            assert_int_equal(b[i]->bytes[65535], (uint8_t)i);
            buf_unref(b[i]);
        }
        assert_int_equal(buf_total(), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new),     cmocka_unit_test(test_references),
        cmocka_unit_test(test_nothing), cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_sizes),   cmocka_unit_test(test_many_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
