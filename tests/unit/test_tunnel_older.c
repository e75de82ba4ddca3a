/* SPDX-License-Identifier: BSD-3-Clause
 * Connections older than the tunnel.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "tunnel/older.h"

static struct older_table table;

static int tear_down(void **state)
{
    older_done(&table);
    assert_int_equal(table.cnt, 0);
    return 0;
}

static struct tuple tuple_of(uint32_t n)
{
    struct tuple t = {.local_port = (uint16_t)n, .peer_port = (uint16_t)(n >> 16)};

    t.local = addr_from_v4((uint8_t[]){192, 0, 2, 1});
    t.peer = addr_from_v4((uint8_t[]){198, 51, 100, 2});
    return t;
}

static struct older *add(uint32_t n)
{
    struct tuple t = tuple_of(n);

    assert_int_equal(older_add(&table, &t), 0);
    struct older *o = older_find(&table, &t);
    assert_non_null(o);
    return o;
}

static bool has(uint32_t n)
{
    struct tuple t = tuple_of(n);

    return older_find(&table, &t) != NULL;
}

static void note(struct older *o, enum side from, uint8_t flags, size_t data_len, uint64_t now_ms)
{
    struct packet packet = {.flags = flags, .data_len = data_len};

    older_note(&table, o, from, &packet, now_ms);
}

static void test_adding_twice(void **state)
{
    struct older *o = add(1);

    assert_ptr_equal(add(1), o);
    assert_int_equal(table.cnt, 1);
    assert_false(has(2));
}

/* More than there are buckets. */
static void test_many(void **state)
{
    for (uint32_t n = 0; n < 5000; n++)
        add(n * 7);
    assert_int_equal(table.cnt, 5000);
    for (uint32_t n = 0; n < 5000; n += 2)
        older_remove(&table, add(n * 7));
    for (uint32_t n = 0; n < 5000; n++)
        assert_int_equal(has(n * 7), n % 2);
    assert_int_equal(table.cnt, 2500);
}

static void test_bytes_are_counted(void **state)
{
    struct older *o = add(1);

    note(o, SIDE_INNER, PACKET_ACK, 10, 0);
    note(o, SIDE_INNER, PACKET_ACK, 5, 0);
    note(o, SIDE_OUTER, PACKET_ACK, 100, 0);
    assert_int_equal(o->bytes[SIDE_INNER], 15);
    assert_int_equal(o->bytes[SIDE_OUTER], 100);
}

static void test_reset_ends_it_at_once(void **state)
{
    note(add(1), SIDE_OUTER, PACKET_RST | PACKET_ACK, 0, 0);
    assert_false(has(1));
    assert_int_equal(table.cnt, 0);
}

/* One FIN is half a close; after both there is time for the last ACKs. */
static void test_fins(void **state)
{
    struct older *o = add(1);

    add(2);
    note(o, SIDE_INNER, PACKET_FIN | PACKET_ACK, 0, 1000);
    note(o, SIDE_INNER, PACKET_FIN | PACKET_ACK, 0, 1500); /* once more */
    older_tick(&table, 1000000);
    assert_true(has(1));
    note(o, SIDE_OUTER, PACKET_FIN | PACKET_ACK, 0, 2000000);
    note(o, SIDE_INNER, PACKET_ACK, 0, 2000001);
    older_tick(&table, 2000000 + 30000);
    assert_true(has(1));
    note(o, SIDE_OUTER, PACKET_FIN | PACKET_ACK, 0, 2000000 + 40000); /* no second term */
    older_tick(&table, 2000000 + 60000);
    assert_false(has(1));
    assert_true(has(2));
}

static void test_tick_of_nothing(void **state)
{
    older_tick(&table, 1);
    assert_int_equal(table.cnt, 0);
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_adding_twice),          TEST(test_many), TEST(test_bytes_are_counted),
        TEST(test_reset_ends_it_at_once), TEST(test_fins), TEST(test_tick_of_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
