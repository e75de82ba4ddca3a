/* SPDX-License-Identifier: BSD-3-Clause
 * Two sessions against each other: rekeying.
 */
#include "pair_world.h"

#include <string.h>

static void check_generations(const struct session *s, uint32_t tx, uint32_t rx)
{
    struct session_info info = info_of(s);

    assert_int_equal(info.tx_generation, tx);
    assert_int_equal(info.rx_generation, rx);
}

static void carry(struct session *from, struct session *to)
{
    struct wire w = {.len = 0};

    pair_output(from, &w);
    pair_deliver(to, &w, &got);
}

static void test_rekey_is_answered(void **state)
{
    struct buf *b = NULL;

    pair_open(&pair);
    assert_int_equal(session_rekey(pair.client), TCNS_OK);
    assert_int_equal(session_rekey(pair.client), TCNS_OK); /* one at a time */
    carry(pair.client, pair.server);
    check_generations(pair.client, 1, 0);
    check_generations(pair.server, 0, 1);
    carry(pair.server, pair.client);
    check_generations(pair.client, 1, 1);
    check_generations(pair.server, 1, 1);
    assert_int_equal(session_output(pair.client, &b), TCNS_OK);
    assert_null(b); /* the answer is not answered */
    pair_check_data(pair.client, pair.server, "new keys");
    pair_check_data(pair.server, pair.client, "here too");
    assert_int_equal(got.len, 0);
}

static void test_rekey_rides_on_data(void **state)
{
    struct session_rx rx;
    size_t used;

    pair_open(&pair);
    assert_int_equal(session_rekey(pair.server), TCNS_OK);
    pair_seal(pair.server, "data", 4, 0, &to_client);
    assert_int_equal(to_client.bytes[0], 0x01);
    pair_seal(pair.server, "more", 4, 0, &to_client);
    assert_int_equal(to_client.bytes[4 + SESSION_FRAME_OVERHEAD_LEN], 0x00);
    assert_int_equal(session_open(pair.client, to_client.bytes, to_client.len, &used, &rx),
                     TCNS_OK);
    assert_true(rx.output);
    buf_unref(rx.data);
    pair_seal(pair.client, "answer with data", 16, 0, &to_server);
    assert_int_equal(to_server.bytes[0], 0x01);
    pair_deliver(pair.server, &to_server, &got);
    check_generations(pair.server, 1, 1);
    check_generations(pair.client, 1, 1);
}

static void test_crossed_rekeys(void **state)
{
    struct wire from_client = {.len = 0}, from_server = {.len = 0};

    pair_open(&pair);
    for (uint32_t i = 1; i <= 5; i++) {
        from_client.len = from_server.len = 0;
        assert_int_equal(session_rekey(pair.client), TCNS_OK);
        assert_int_equal(session_rekey(pair.server), TCNS_OK);
        pair_output(pair.client, &from_client);
        pair_output(pair.server, &from_server);
        pair_deliver(pair.server, &from_client, &got);
        pair_deliver(pair.client, &from_server, &got);
        check_generations(pair.client, i, i);
        check_generations(pair.server, i, i);
    }
    pair_check_data(pair.client, pair.server, "fifth generation");
}

/* Interpretation I16: after our final frame a rekey is not answered. */
static void test_rekey_after_fin(void **state)
{
    struct session_rx rx;
    struct buf *b = NULL;
    size_t used;

    pair_open(&pair);
    pair_seal(pair.server, "end", 3, SESSION_SEAL_FIN, &to_client);
    pair_deliver(pair.client, &to_client, &got);
    assert_int_equal(session_rekey(pair.client), TCNS_OK);
    pair_output(pair.client, &to_server);
    assert_int_equal(session_open(pair.server, to_server.bytes, to_server.len, &used, &rx),
                     TCNS_OK);
    assert_false(rx.output);
    assert_int_equal(session_output(pair.server, &b), TCNS_OK);
    assert_null(b);
    pair_check_data(pair.client, pair.server, "goes on");
}

/* A final frame can carry new keys; it is answered as any other. */
static void test_fin_with_rekey(void **state)
{
    pair_open(&pair);
    assert_int_equal(session_rekey(pair.client), TCNS_OK);
    pair_seal(pair.client, "end", 3, SESSION_SEAL_FIN, &to_server);
    assert_int_equal(to_server.bytes[0], 0x01);
    pair_deliver(pair.server, &to_server, &got);
    assert_true(got.fin);
    check_generations(pair.server, 0, 1);
    carry(pair.server, pair.client);
    check_generations(pair.client, 1, 1);
    pair_check_data(pair.server, pair.client, "under new keys");
    assert_int_equal(session_on_fin(pair.server), TCNS_OK);
}

/* A rekey that is owed when we end rides on the final frame. */
static void test_owed_rekey_rides_on_fin(void **state)
{
    struct session_rx rx;
    struct buf *b = NULL;
    size_t used;

    pair_open(&pair);
    assert_int_equal(session_rekey(pair.client), TCNS_OK);
    pair_output(pair.client, &to_server);
    assert_int_equal(session_open(pair.server, to_server.bytes, to_server.len, &used, &rx),
                     TCNS_OK);
    assert_true(rx.output);
    pair_seal(pair.server, NULL, 0, SESSION_SEAL_FIN, &to_client);
    assert_int_equal(to_client.bytes[0], 0x01);
    assert_int_equal(session_output(pair.server, &b), TCNS_OK);
    assert_null(b);
    pair_deliver(pair.client, &to_client, &got);
    assert_true(got.fin);
    check_generations(pair.client, 1, 1);
}

/* After both FINs at one side, with frames still coming from the other. */
static void test_rekey_after_both_fins(void **state)
{
    struct session_rx rx;
    size_t used;

    pair_open(&pair);
    pair_seal(pair.server, "end", 3, SESSION_SEAL_FIN, &to_client);
    pair_deliver(pair.client, &to_client, &got);
    assert_int_equal(session_on_fin(pair.client), TCNS_OK); /* the TCP FIN arrived as well */
    for (int i = 0; i < 3; i++) {                           /* unanswered: data goes on */
        to_server.len = 0;
        assert_int_equal(session_rekey(pair.client), TCNS_OK);
        pair_seal(pair.client, "more", 4, i == 2 ? SESSION_SEAL_FIN : 0, &to_server);
        assert_int_equal(session_open(pair.server, to_server.bytes, to_server.len, &used, &rx),
                         TCNS_OK);
        assert_false(rx.output);
        assert_int_equal(rx.fin, i == 2);
        buf_unref(rx.data);
    }
    assert_int_equal(session_on_fin(pair.server), TCNS_OK);
}

/* An attacker sets the rekey bit: the frame fails, and no generation changes. */
static void test_forged_rekey_bit(void **state)
{
    pair_open(&pair);
    pair_seal(pair.client, "data", 4, 0, &to_server);
    to_server.bytes[0] = 0x01;
    assert_int_equal(pair_feed(pair.server, &to_server, SIZE_MAX, &got), TCNS_ERR_FRAME_AUTH);
    check_generations(pair.server, 0, 0);
    assert_int_equal(got.len, 0);
}

/* A frame with rekey = 1 that was sealed with the keys of another connection. */
static void test_rekey_under_the_wrong_key(void **state)
{
    pair_open(&pair);
    assert_int_equal(session_rekey(pair.client), TCNS_OK);
    pair_seal(pair.client, "data", 4, 0, &to_server);
    pair_open(&pair);
    assert_int_equal(pair_feed(pair.server, &to_server, SIZE_MAX, &got), TCNS_ERR_FRAME_AUTH);
    check_generations(pair.server, 0, 0);
    assert_int_equal(got.len, 0);
}

/* cres and fres: RFC 8548 4.2, 4.2.1. */
static void test_reserved_bits_are_sent_as_zero(void **state)
{
    pair_open(&pair);
    pair_seal(pair.client, "x", 1, SESSION_SEAL_FIN, &to_server);
    assert_int_equal(to_server.bytes[0] & 0xfe, 0);
}

/* Control byte of a frame of len bytes, which arrives. */
static uint8_t send_control(struct session *from, struct session *to, size_t len)
{
    static uint8_t data[1000];
    uint8_t control;

    to_server.len = 0;
    pair_seal(from, data, len, 0, &to_server);
    control = to_server.bytes[0];
    got.len = 0;
    pair_deliver(to, &to_server, &got);
    return control;
}

/* We rekey after a number of frames, or of bytes on the wire. */
static void test_rekey_after_frames(void **state)
{
    pair.client_cfg.rekey_frames = 3;
    pair_open(&pair);
    for (uint32_t generation = 0; generation < 4; generation++) {
        for (int i = 0; i < 3; i++) {
            bool is_first = i == 0 && generation > 0;

            assert_int_equal(send_control(pair.client, pair.server, 10), is_first);
            check_generations(pair.server, generation > 0 ? generation - is_first : 0, generation);
            if (is_first)
                carry(pair.server, pair.client);
        }
        check_generations(pair.client, generation, generation);
    }
}

static void test_rekey_after_bytes(void **state)
{
    pair.client_cfg.rekey_bytes = 1000;
    pair_open(&pair);
    assert_int_equal(send_control(pair.client, pair.server, 979), 0); /* 999 bytes */
    assert_int_equal(send_control(pair.client, pair.server, 1), 0);
    assert_int_equal(send_control(pair.client, pair.server, 1), 1);
    /* unanswered: data may go on to the next generation, RFC 8548 3.8 */
    assert_int_equal(send_control(pair.client, pair.server, 979), 0);
    assert_int_equal(send_control(pair.client, pair.server, 1), 1);
    check_generations(pair.client, 2, 0);
    check_generations(pair.server, 0, 2);
    carry(pair.server, pair.client); /* two frames, one per generation (I08) */
    check_generations(pair.client, 2, 2);
    check_generations(pair.server, 2, 2);
}

/* RFC 8548 3.8: an empty frame does not initiate while an earlier rekeying is unanswered. */
static void test_empty_frames_rekey_once(void **state)
{
    pair.client_cfg.rekey_frames = 2;
    pair_open(&pair);
    assert_int_equal(send_control(pair.client, pair.server, 0), 0);
    assert_int_equal(send_control(pair.client, pair.server, 0), 0);
    assert_int_equal(send_control(pair.client, pair.server, 0), 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(send_control(pair.client, pair.server, 0), 0);
    carry(pair.server, pair.client);
    assert_int_equal(send_control(pair.client, pair.server, 0), 1);
}

/* The limit on frames per key is kept without the caller's help, whatever he asks for. */
static void test_rekey_by_itself(void **state)
{
    struct iovec iov = {(void *)(uintptr_t) "x", 1};
    struct buf *b;
    uint8_t control = 0;

    pair.client_cfg.rekey_frames = UINT32_MAX;
    pair_open(&pair);
    for (uint32_t i = 0; i < SESSION_REKEY_FRAMES_MAX; i++) {
        assert_int_equal(session_seal(pair.client, &iov, 1, 0, 0, &b), TCNS_OK);
        control |= b->bytes[0];
        buf_unref(b);
    }
    assert_int_equal(control, 0);
    for (int is_first = 1; is_first >= 0; is_first--) {
        assert_int_equal(session_seal(pair.client, &iov, 1, 0, 0, &b), TCNS_OK);
        assert_int_equal(b->bytes[0], is_first);
        buf_unref(b);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, pair_world_set_up, pair_world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_rekey_is_answered),
        T(test_rekey_rides_on_data),
        T(test_crossed_rekeys),
        T(test_rekey_after_fin),
        T(test_fin_with_rekey),
        T(test_owed_rekey_rides_on_fin),
        T(test_rekey_after_both_fins),
        T(test_forged_rekey_bit),
        T(test_rekey_under_the_wrong_key),
        T(test_reserved_bits_are_sent_as_zero),
        T(test_rekey_after_frames),
        T(test_rekey_after_bytes),
        T(test_empty_frames_rekey_once),
        T(test_rekey_by_itself),
    };

    return cmocka_run_group_tests_name("tcpcrypt/pair_rekey", tests, NULL, NULL);
}
