/* SPDX-License-Identifier: BSD-3-Clause
 * Slots: distinct, writable, reused, and given back.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/slab.h"

#define CNT        1000
#define REGION_LEN ((size_t)2 << 20)

static uint8_t *slots[CNT];

static void fill(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        slots[i] = slab_alloc();
        assert_non_null(slots[i]);
        memset(slots[i], (int)(i & 0xff), SLAB_SLOT_LEN);
    }
}

static void check(size_t from, size_t to)
{
    static uint8_t expected[SLAB_SLOT_LEN];

    for (size_t i = from; i < to; i++) {
        memset(expected, (int)(i & 0xff), sizeof(expected));
        assert_memory_equal(slots[i], expected, sizeof(expected));
    }
}

static void release(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        slab_free(slots[i]);
}

static void trim_all(void)
{
    for (int i = 0; i < 16; i++)
        slab_trim();
}

static void test_slots_do_not_overlap(void **state)
{
    fill(0, CNT);
    check(0, CNT);
    release(0, CNT);
}

static void test_last_freed_comes_first(void **state)
{
    fill(0, 3);
    slab_free(slots[1]);
    assert_ptr_equal(slab_alloc(), slots[1]);
    release(0, 3);
}

/* Every third stays: what is freed around it is used again, and it keeps its bytes. */
static void test_holes_are_filled(void **state)
{
    fill(0, CNT);
    size_t held = slab_held();
    for (size_t i = 0; i < CNT; i++)
        if (i % 3)
            slab_free(slots[i]);
    slab_trim();
    for (size_t i = 0; i < CNT; i++) {
        if (!(i % 3))
            continue;
        slots[i] = slab_alloc();
        memset(slots[i], (int)(i & 0xff), SLAB_SLOT_LEN);
    }
    assert_int_equal(slab_held(), held);
    check(0, CNT);
    release(0, CNT);
}

/* A load's memory goes in a few seconds, not all at once; what is used stays. */
static void test_trim(void **state)
{
    trim_all();
    assert_int_equal(slab_held(), 0);
    fill(0, CNT);
    size_t held = slab_held();
    slab_trim();
    assert_int_equal(slab_held(), held);
    release(1, CNT);
    slab_trim();
    assert_int_equal(slab_held(), held); /* it was used a moment ago */
    slab_trim();
    assert_in_range(slab_held(), held / 2, held - REGION_LEN);
    trim_all();
    assert_int_equal(slab_held(), REGION_LEN);
    check(0, 1);
    release(0, 1);
    trim_all();
    assert_int_equal(slab_held(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots_do_not_overlap),
        cmocka_unit_test(test_last_freed_comes_first),
        cmocka_unit_test(test_holes_are_filled),
        cmocka_unit_test(test_trim),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
