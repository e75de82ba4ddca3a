/* SPDX-License-Identifier: BSD-3-Clause
 * Two sessions against each other: urgent data, RFC 8548 3.7, interpretation I07.
 */
#include "pair_world.h"

/* One frame from client to server. */
static void send_urgent(size_t len, unsigned flags, uint16_t off, struct session_rx *rx)
{
    static uint8_t data[SESSION_FRAME_DATA_MAX_LEN];
    struct iovec iov = {data, len};
    struct buf *b;
    size_t used;

    fill(data, len);
    assert_int_equal(session_seal(pair.client, &iov, 1, flags, off, &b), TCNS_OK);
    assert_int_equal(b->len, len + SESSION_FRAME_OVERHEAD_LEN +
                                 (flags & SESSION_SEAL_URGENT ? SESSION_FRAME_URGENT_LEN : 0));
    assert_int_equal(session_open(pair.server, buf_data(b), b->len, &used, rx), TCNS_OK);
    buf_unref(b);
    assert_int_equal(rx->data ? rx->data->len : 0, len);
    if (rx->data)
        assert_memory_equal(buf_data(rx->data), data, len);
    buf_unref(rx->data);
}

static void test_urgent_mark_is_carried(void **state)
{
    static const struct {
        size_t len;
        uint16_t off;
    } marks[] = {{1, 0}, {10, 9}, {10, 10}, {10, 65535}, {0, 0}, {0, 65535}, {65516, 65515}};
    struct session_rx rx;

    pair_open(&pair);
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        send_urgent(marks[i].len, SESSION_SEAL_URGENT, marks[i].off, &rx);
        assert_true(rx.urgent);
        assert_int_equal(rx.urgent_off, marks[i].off);
        send_urgent(5, 0, 3, &rx); /* without the flag the offset means nothing */
        assert_false(rx.urgent);
        assert_int_equal(rx.urgent_off, 0);
    }
    send_urgent(4, SESSION_SEAL_URGENT | SESSION_SEAL_FIN, 3, &rx);
    assert_true(rx.urgent && rx.fin);
}

static void test_urgent_mark_takes_room(void **state)
{
    static uint8_t data[SESSION_FRAME_DATA_MAX_LEN];
    struct iovec iov = {data, SESSION_FRAME_DATA_MAX_LEN - SESSION_FRAME_URGENT_LEN + 1};
    struct session_rx rx;
    struct buf *b = NULL;

    pair_open(&pair);
    assert_int_equal(session_seal(pair.client, &iov, 1, SESSION_SEAL_URGENT, 0, &b),
                     TCNS_ERR_TOO_LARGE);
    assert_null(b);
    send_urgent(iov.iov_len - 1, SESSION_SEAL_URGENT, 7, &rx);
    assert_int_equal(rx.urgent_off, 7);
    send_urgent(SESSION_FRAME_DATA_MAX_LEN, 0, 0, &rx);
}

#define T(name) cmocka_unit_test_setup_teardown(name, pair_world_set_up, pair_world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_urgent_mark_is_carried),
        T(test_urgent_mark_takes_room),
    };

    return cmocka_run_group_tests_name("tcpcrypt/pair_urgent", tests, NULL, NULL);
}
