/* SPDX-License-Identifier: BSD-3-Clause
 * Walks over the tunnel's tables that a ctl client may take any time for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tunnel/fallback.h"
#include "tunnel/flow.h"

#define MANY 100000

static struct flow_table table;
static unsigned char *seen; /* how often each flow came, by its number */

static int set_up(void **state)
{
    seen = calloc(2 * MANY, 1);
    return seen ? flow_table_init(&table, &(struct siphash_key){3, 4}, 2 * MANY) : -1;
}

static void reap(void)
{
    struct flow *f;

    while ((f = flow_next_queued(&table)))
        if (f->phase == FLOW_DEAD)
            flow_reap(&table, f);
}

static bool kill_flow(struct flow *f, void *arg)
{
    flow_kill(&table, f);
    return true;
}

static int tear_down(void **state)
{
    flow_each(&table, kill_flow, NULL);
    reap();
    flow_table_done(&table);
    free(seen);
    return 0;
}

static struct tuple tuple_of(uint32_t n)
{
    struct tuple t = {.local_port = (uint16_t)n, .peer_port = (uint16_t)(n >> 16)};

    t.local = addr_from_v4((uint8_t[]){192, 0, 2, 1});
    t.peer = addr_from_v4((uint8_t[]){192, 0, 2, 2});
    return t;
}

static uint32_t number_of(const struct flow *f)
{
    return f->tuple.local_port | (uint32_t)f->tuple.peer_port << 16;
}

static void open_flows(uint32_t first, uint32_t end)
{
    for (uint32_t n = first; n < end; n++) {
        struct tuple t = tuple_of(n);
        struct flow *f = flow_new(&table, &t, false, NULL, 1);

        assert_non_null(f);
        flow_start_relaying(&table, f);
    }
}

static void close_flows(uint32_t first, uint32_t end)
{
    for (uint32_t n = first; n < end; n++) {
        struct tuple t = tuple_of(n);
        flow_kill(&table, flow_find(&table, &t));
    }
    reap();
}

static void note(struct flow *f, void *arg)
{
    size_t *cnt = arg;

    seen[number_of(f)]++;
    (*cnt)++;
}

static void test_empty(void **state)
{
    size_t cursor = 0, cnt = 0, steps = 1;

    while (flow_scan(&table, &cursor, note, &cnt))
        steps++;
    assert_int_equal(cnt, 0);
    assert_int_equal(cursor, 0);
    assert_int_equal(steps, table.bucket_cnt);
}

static void test_each_once(void **state)
{
    size_t cursor = 0, cnt = 0;

    open_flows(0, MANY);
    while (flow_scan(&table, &cursor, note, &cnt))
        ;
    assert_int_equal(cnt, MANY);
    for (uint32_t n = 0; n < MANY; n++)
        assert_int_equal(seen[n], 1);
}

/* Between steps others come, so that the table grows several times, and go. */
static void test_each_once_while_the_table_grows(void **state)
{
    size_t cursor = 0, cnt = 0, buckets;
    uint32_t next = 1000;
    bool more = true;

    open_flows(0, 1000);
    buckets = table.bucket_cnt;
    for (int step = 0; more; step++) {
        more = flow_scan(&table, &cursor, note, &cnt);
        if (step % 7 == 0 && next < MANY) {
            open_flows(next, next + 100);
            close_flows(next, next + 30);
            next += 100;
        }
    }
    assert_true(table.bucket_cnt >= 16 * buckets);
    for (uint32_t n = 0; n < 1000; n++)
        assert_int_equal(seen[n], 1);
    for (uint32_t n = 1000; n < next; n++)
        assert_true(seen[n] <= 1);
}

/* --- Peers without ENO ------------------------------------------------------------ */

struct peers {
    unsigned cnt, left_s;
    struct addr last;
};

static void on_peer(const struct addr *peer, unsigned left_s, void *arg)
{
    struct peers *p = arg;

    p->cnt++;
    p->left_s = left_s;
    p->last = *peer;
}

static void test_fallback(void **state)
{
    static struct fallback_table t;
    struct addr peer = addr_from_v4((uint8_t[]){192, 0, 2, 7});
    struct peers p = {0};

    fallback_each(&t, 1000, on_peer, &p);
    assert_int_equal(p.cnt, 0);
    fallback_add(&t, &peer, 1000, 5000);
    fallback_each(&t, 1001, on_peer, &p);
    assert_int_equal(p.cnt, 1);
    assert_int_equal(p.left_s, 5);
    assert_true(addr_eq(&p.last, &peer));
    fallback_each(&t, 5999, on_peer, &p);
    assert_int_equal(p.cnt, 2);
    assert_int_equal(p.left_s, 1);
    fallback_each(&t, 6000, on_peer, &p);
    assert_int_equal(p.cnt, 2);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_empty),
        TEST(test_each_once),
        TEST(test_each_once_while_the_table_grows),
        cmocka_unit_test(test_fallback),
    };

    return cmocka_run_group_tests_name("ctl/listing", tests, NULL, NULL);
}
