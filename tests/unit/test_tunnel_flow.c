/* SPDX-License-Identifier: BSD-3-Clause
 * The table of flows: look-up, lists, and the one place where flows die.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tunnel/flow.h"

#define CAP 10000

static struct flow_table table;

static int set_up(void **state)
{
    return flow_table_init(&table, &(struct siphash_key){1, 2}, CAP);
}

static void run_dead(void)
{
    struct flow *f;

    while ((f = flow_next_queued(&table))) {
        if (f->phase == FLOW_DEAD)
            flow_reap(&table, f);
    }
}

static bool kill_one(struct flow *f, void *arg)
{
    flow_kill(&table, f);
    return true;
}

static int tear_down(void **state)
{
    flow_each(&table, kill_one, NULL);
    run_dead();
    assert_int_equal(table.cnt, 0);
    assert_int_equal(table.connecting_cnt, 0);
    assert_null(table.connecting_old);
    assert_null(table.connecting_new);
    assert_null(table.queue);
    assert_int_equal(buf_total(), 0);
    flow_table_done(&table);
    return 0;
}

static struct tuple tuple_of(uint32_t n)
{
    struct tuple t = {.local_port = (uint16_t)n, .peer_port = 80};

    t.local = addr_from_v4((uint8_t[]){192, 0, 2, 1});
    t.peer = addr_from_v4((uint8_t[]){10, (uint8_t)(n >> 24), (uint8_t)(n >> 16), 1});
    return t;
}

static struct flow *new_flow(uint32_t n, uint64_t now_ms)
{
    struct tuple t = tuple_of(n);

    return flow_new(&table, &t, n % 2, buf_new(60), now_ms);
}

static struct flow *find(uint32_t n)
{
    struct tuple t = tuple_of(n);

    return flow_find(&table, &t);
}

/* --- Look-up -------------------------------------------------------------------------- */

static void test_new_flow(void **state)
{
    struct flow *f = new_flow(1, 77);
    struct tuple t = tuple_of(1);

    assert_ptr_equal(find(1), f);
    assert_null(find(2));
    assert_true(tuple_eq(&f->tuple, &t));
    assert_int_equal(f->phase, FLOW_CONNECTING);
    assert_true(f->inbound);
    assert_int_equal(f->touched_ms, 77);
    assert_non_null(f->syn);
    assert_null(f->session);
    assert_int_equal(f->legs[SIDE_INNER].side, SIDE_INNER);
    assert_int_equal(f->legs[SIDE_OUTER].side, SIDE_OUTER);
    assert_ptr_equal(flow_from_leg(&f->legs[SIDE_INNER]), f);
    assert_ptr_equal(flow_from_leg(&f->legs[SIDE_OUTER]), f);
    assert_true(f->started_s > 1e9);
}

static void test_growth(void **state)
{
    size_t first = table.bucket_cnt;

    for (uint32_t n = 0; n < 6000; n++)
        assert_non_null(new_flow(n, n));
    assert_true(table.bucket_cnt > first);
    assert_int_equal(table.bucket_cnt & (table.bucket_cnt - 1), 0);
    assert_int_equal(table.cnt, 6000);
    for (uint32_t n = 0; n < 6000; n++) {
        struct tuple t = tuple_of(n);
        assert_non_null(find(n));
        assert_true(tuple_eq(&find(n)->tuple, &t));
    }
    assert_null(find(6000));
}

/* The caller looks before it adds; if it did not, both are there, the later first. */
static void test_same_tuple_twice(void **state)
{
    struct flow *a = new_flow(1, 1), *b = new_flow(1, 2);

    assert_ptr_not_equal(a, b);
    assert_ptr_equal(find(1), b);
    flow_kill(&table, b);
    assert_ptr_equal(find(1), a);
}

/* A dead flow is out of sight before it is reaped: its tuple may be opened anew. */
static void test_tuple_opens_anew(void **state)
{
    struct flow *a = new_flow(1, 1);

    flow_kill(&table, a);
    assert_null(find(1));
    struct flow *b = new_flow(1, 2);
    assert_ptr_equal(find(1), b);
    run_dead();
    assert_ptr_equal(find(1), b);
    assert_int_equal(table.cnt, 1);
}

static void test_cap(void **state)
{
    table.max_cnt = 3;
    for (uint32_t n = 0; n < 3; n++)
        assert_non_null(new_flow(n, 0));
    assert_null(new_flow(3, 0)); /* its SYN is freed: the tear-down looks */
    flow_kill(&table, find(0));
    assert_null(new_flow(3, 0)); /* dead ones count until they are reaped */
    run_dead();
    assert_non_null(new_flow(3, 0));
}

/* --- The list of those that connect ----------------------------------------------------- */

static void check_connecting(const uint32_t *order, size_t cnt)
{
    const struct flow *f = table.connecting_old, *last = NULL;

    assert_int_equal(table.connecting_cnt, cnt);
    for (size_t i = 0; i < cnt; i++) {
        assert_ptr_equal(f, find(order[i]));
        assert_ptr_equal(f->older, last);
        last = f;
        f = f->younger;
    }
    assert_null(f);
    assert_ptr_equal(table.connecting_new, last);
}

static void test_connecting_order(void **state)
{
    for (uint32_t n = 0; n < 4; n++)
        new_flow(n, n);
    check_connecting((uint32_t[]){0, 1, 2, 3}, 4);
    flow_touch(&table, find(1), 10);
    assert_int_equal(find(1)->touched_ms, 10);
    check_connecting((uint32_t[]){0, 2, 3, 1}, 4);
    flow_touch(&table, find(1), 11); /* the youngest stays it */
    flow_touch(&table, find(0), 12);
    check_connecting((uint32_t[]){2, 3, 1, 0}, 4);
    flow_start_relaying(&table, find(3));
    assert_int_equal(find(3)->phase, FLOW_RELAYING);
    assert_null(find(3)->syn);
    check_connecting((uint32_t[]){2, 1, 0}, 3);
    flow_kill(&table, find(2));
    check_connecting((uint32_t[]){1, 0}, 2);
    flow_kill(&table, find(0));
    check_connecting((uint32_t[]){1}, 1);
    flow_kill(&table, find(3)); /* it is not in the list any more */
    check_connecting((uint32_t[]){1}, 1);
}

/* At the cap of half-open connections the one that has waited longest goes. */
static void test_connecting_cap(void **state)
{
    size_t cap;

    for (cap = 0; table.queue == NULL; cap++)
        assert_non_null(new_flow((uint32_t)cap, cap));
    assert_in_range(cap, 1000, CAP - 1);
    assert_null(find(0));
    assert_non_null(find(1));
    assert_int_equal(table.connecting_cnt, cap - 1);
    assert_int_equal(table.queue->phase, FLOW_DEAD);
    assert_int_equal(table.connecting_old->touched_ms, 1);
}

/* --- The queue -------------------------------------------------------------------------- */

static void test_queue_order(void **state)
{
    for (uint32_t n = 0; n < 3; n++)
        new_flow(n, n);
    flow_queue(&table, find(2));
    flow_queue(&table, find(0));
    flow_queue(&table, find(2)); /* it is there */
    assert_ptr_equal(flow_next_queued(&table), find(2));
    flow_queue(&table, find(2)); /* anew, behind the other */
    assert_ptr_equal(flow_next_queued(&table), find(0));
    assert_ptr_equal(flow_next_queued(&table), find(2));
    assert_null(flow_next_queued(&table));
    flow_queue(&table, find(1));
    assert_ptr_equal(flow_next_queued(&table), find(1));
    assert_null(flow_next_queued(&table));
}

static void test_kill_queues_once(void **state)
{
    struct flow *f = new_flow(1, 1);

    flow_queue(&table, f);
    flow_kill(&table, f);
    flow_kill(&table, f);
    assert_ptr_equal(flow_next_queued(&table), f);
    assert_null(flow_next_queued(&table));
    assert_int_equal(f->phase, FLOW_DEAD);
    flow_reap(&table, f);
    assert_int_equal(table.cnt, 0);
}

/* --- All of them -------------------------------------------------------------------------- */

static bool count(struct flow *f, void *arg)
{
    int *left = arg;

    return --*left > 0;
}

static void test_each_until_false(void **state)
{
    int left = 100;

    for (uint32_t n = 0; n < 10; n++)
        new_flow(n, n);
    flow_each(&table, count, &left);
    assert_int_equal(left, 90);
    left = 4;
    flow_each(&table, count, &left);
    assert_int_equal(left, 0);
}

static void test_each_may_kill(void **state)
{
    for (uint32_t n = 0; n < 2000; n++) /* several in one bucket */
        new_flow(n, n);
    flow_each(&table, kill_one, NULL);
    run_dead();
    assert_int_equal(table.cnt, 0);
}

/* --- A walk in steps ---------------------------------------------------------------------- */

static void count_visit(struct flow *f, void *arg)
{
    unsigned *visits = arg;

    visits[f->tuple.local_port]++;
}

/* Flows come and go and the table grows meanwhile: who is there all the time is met once. */
static void test_scan(void **state)
{
    enum { OLD = 3000, NEW = 6000 };
    static unsigned visits[NEW];
    size_t cursor = 0, first = table.bucket_cnt;
    uint32_t next = OLD, killed = 0;

    memset(visits, 0, sizeof(visits));
    for (uint32_t n = 0; n < OLD; n++) {
        new_flow(n, n);
        flow_start_relaying(&table, find(n));
    }
    for (int step = 0; flow_scan(&table, &cursor, count_visit, visits); step++) {
        assert_true(step < 1 << 20);
        for (int i = 0; i < 3 && next < NEW; i++)
            new_flow(next++, 0);
        if (step % 2 && killed < OLD / 10) {
            flow_kill(&table, find(killed++));
            run_dead();
        }
    }
    assert_true(table.bucket_cnt > 2 * first);
    assert_int_equal(next, NEW);
    for (uint32_t n = 0; n < NEW; n++)
        assert_true(n < killed || n >= OLD ? visits[n] <= 1 : visits[n] == 1);
}

static void test_scan_of_nothing(void **state)
{
    size_t cursor = 0, steps = 1;

    while (flow_scan(&table, &cursor, count_visit, NULL))
        steps++;
    assert_int_equal(steps, table.bucket_cnt);
    assert_int_equal(cursor, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_new_flow),         TEST(test_growth),        TEST(test_same_tuple_twice),
        TEST(test_tuple_opens_anew), TEST(test_cap),           TEST(test_connecting_order),
        TEST(test_connecting_cap),   TEST(test_queue_order),   TEST(test_kill_queues_once),
        TEST(test_each_until_false), TEST(test_each_may_kill), TEST(test_scan),
        TEST(test_scan_of_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
