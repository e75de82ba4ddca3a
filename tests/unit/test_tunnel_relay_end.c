/* SPDX-License-Identifier: BSD-3-Clause
 * Relay: connections that end otherwise than in order: breaches, silence, resets.
 */
#include "relay_world.h"

#include "base/clock.h"
#include "tunnel/silence.h"

/* --- Breaches --------------------------------------------------------------------------- */

static void expect_both_reset(enum tcns_err err)
{
    expect_rst(&app);
    expect_rst(&net);
    expect_end(TUNNEL_END_ERROR, err);
    assert_int_equal(relay.counters.flows_aborted, 1);
    assert_int_equal(history_error_cnt(&relay.history, err), 1);
}

static void test_truncation(void **state)
{
    open_outbound();
    settle();
    net_seals("half", 4, 0);
    settle();
    peer_send(&net, PACKET_FIN | PACKET_ACK, NULL, 0);
    expect_both_reset(TCNS_ERR_TRUNCATED);
    assert_false(app.fin); /* it must not look like an end */
    assert_string_equal(events, "oEx");
}

static void test_truncation_before_keys(void **state)
{
    open_outbound();
    peer_send(&net, PACKET_FIN | PACKET_ACK, NULL, 0);
    expect_both_reset(TCNS_ERR_TRUNCATED);
    assert_string_equal(events, "ox");
}

static void test_flipped_bit(void **state)
{
    struct iovec iov = {(void *)(uintptr_t) "transfer 100", 12};
    struct buf *b;

    open_outbound();
    settle();
    assert_int_equal(session_seal(far.session, &iov, 1, 0, 0, &b), TCNS_OK);
    buf_data(b)[b->len - 20] ^= 1;
    net_sends_buf(b);
    expect_both_reset(TCNS_ERR_FRAME_AUTH);
    assert_int_equal(app.rx_len, 0);
}

/* Bytes of a middlebox in front of a frame. */
static void test_inserted_bytes(void **state)
{
    open_outbound();
    settle();
    peer_send(&net, PACKET_ACK, "HTTP/1.1 400", 12); /* looks like a frame of 21,588 bytes */
    peer_send(&net, PACKET_ACK, pattern(0), 21600);
    expect_both_reset(TCNS_ERR_FRAME_AUTH);
    assert_int_equal(app.rx_len, 0);
}

static void test_nonsense_in_place_of_init(void **state)
{
    open_outbound();
    peer_send(&net, PACKET_ACK, "220 ready\r\n", 11);
    expect_both_reset(TCNS_ERR_INIT_MAGIC);
}

/* --- Silence ---------------------------------------------------------------------------- */

/* So much later. */
static void tick(unsigned *now_ms, unsigned seconds)
{
    *now_ms += seconds * 1000;
    relay_tick(&relay, (uint64_t)clock_coarse_ms() + *now_ms);
    run();
}

/* The peer agreed to encrypt and then says nothing: the program must not wait for ever. */
static void test_key_exchange_without_end(void **state)
{
    unsigned later_ms = 0;

    relay.key_timeout_ms = 30000;
    open_outbound();
    tick(&later_ms, 29);
    assert_int_equal(the_flow()->phase, FLOW_RELAYING);
    tick(&later_ms, 2);
    expect_both_reset(TCNS_ERR_KEY_TIMEOUT);
}

static void test_key_exchange_without_begin(void **state)
{
    unsigned later_ms = 0;

    relay.key_timeout_ms = 30000;
    open_inbound();
    tick(&later_ms, 31);
    expect_both_reset(TCNS_ERR_KEY_TIMEOUT);
}

/* What is open, or clear, has all the time. */
static void test_key_timeout_spares_others(void **state)
{
    unsigned later_ms = 0;

    relay.key_timeout_ms = 30000;
    open_outbound();
    settle();
    tick(&later_ms, 1000);
    assert_int_equal(the_flow()->phase, FLOW_RELAYING);
    assert_null(relay.flows.keying_old);
}

/* One half has ended, and nothing comes any more from anybody. */
static void test_half_closed_and_silent(void **state)
{
    unsigned later_ms = 0;

    open_outbound();
    settle();
    peer_send(&app, PACKET_FIN | PACKET_ACK, NULL, 0);
    app.seq++;
    settle();
    for (int i = 0; i < SILENCE_PROBES_MAX; i++) {
        tick(&later_ms, SILENCE_LOOK_MS / 1000);
        assert_int_equal(the_flow()->phase, FLOW_RELAYING);
    }
    tick(&later_ms, SILENCE_LOOK_MS / 1000);
    tick(&later_ms, SILENCE_LOOK_MS / 1000);
    assert_null(the_flow());
    expect_end(TUNNEL_END_TIMEOUT, TCNS_OK);
}

/* Both kernels answer: it may wait. */
static void test_half_closed_and_alive(void **state)
{
    unsigned later_ms = 0;

    open_outbound();
    settle();
    peer_send(&app, PACKET_FIN | PACKET_ACK, NULL, 0);
    app.seq++;
    settle();
    for (int i = 0; i < 3 * SILENCE_PROBES_MAX; i++) {
        tick(&later_ms, SILENCE_LOOK_MS / 1000);
        peer_ack(&app);
        peer_ack(&net);
        wire_discard(SIDE_INNER);
        wire_discard(SIDE_OUTER);
    }
    assert_int_equal(the_flow()->phase, FLOW_RELAYING);
}

/* --- Resets ----------------------------------------------------------------------------- */

static void test_reset_by_application(void **state)
{
    open_outbound();
    settle();
    peer_send(&app, PACKET_RST, NULL, 0);
    expect_rst(&net);
    expect_end(TUNNEL_END_RESET_BY_APPLICATION, TCNS_OK);
}

static void test_reset_by_peer(void **state)
{
    open_outbound();
    settle();
    peer_send(&net, PACKET_RST, NULL, 0);
    expect_rst(&app);
    expect_end(TUNNEL_END_RESET_BY_PEER, TCNS_OK);
}

/* One turn of the relay sees both: what came first goes on first. */
static void sends_and_resets(struct peer *p)
{
    in_one_turn = true;
    if (p == &net)
        net_sends("an answer", 9);
    else
        peer_send(p, PACKET_ACK, "an answer", 9);
    peer_send(p, PACKET_RST, NULL, 0);
    in_one_turn = false;
    run();
}

static void expect_both_at_net(void)
{
    settle();
    assert_int_equal(far.text_len, 9);
    expect_rst(&net);
    expect_end(TUNNEL_END_RESET_BY_APPLICATION, TCNS_OK);
}

static void expect_both_at_app(void)
{
    app_reads();
    assert_int_equal(app.rx_len, 9);
    expect_rst(&app);
    expect_end(TUNNEL_END_RESET_BY_PEER, TCNS_OK);
}

static void test_data_before_a_reset_by_application(void **state)
{
    open_outbound();
    settle();
    sends_and_resets(&app);
    expect_both_at_net();
}

/* It waits for the keys. */
static void test_data_before_an_early_reset_by_application(void **state)
{
    open_outbound();
    sends_and_resets(&app);
    assert_non_null(the_flow());
    expect_both_at_net();
}

static void test_data_before_a_reset_by_peer(void **state)
{
    open_outbound();
    settle();
    sends_and_resets(&net);
    expect_both_at_app();
}

static void test_data_before_a_reset_in_clear(void **state)
{
    no_tcpcrypt_far();
    open_outbound();
    settle();
    sends_and_resets(&net);
    expect_both_at_app();
}

static void test_abort_all(void **state)
{
    open_outbound();
    settle();
    struct peer old_app = app, old_net = net;
    app.rx = net.rx = NULL;
    peer_init(&app, SIDE_INNER);
    peer_init(&net, SIDE_OUTER);
    net.tuple = app.tuple;
    app.deliver = net.deliver = deliver;
    app_sends_syn(); /* a second one, that connects */
    wire_discard(SIDE_OUTER);
    relay_abort_all(&relay);
    stack_flush();
    assert_int_equal(relay.flows.cnt, 0);
    assert_int_equal(wire_cnt(SIDE_INNER), 2);
    assert_int_equal(wire_cnt(SIDE_OUTER), 1);
    assert_true(wire.first[SIDE_INNER]->p.flags & PACKET_RST);
    assert_true(wire.first[SIDE_INNER]->next->p.flags & PACKET_RST);
    assert_true(wire.first[SIDE_OUTER]->p.flags & PACKET_RST);
    expect_end(TUNNEL_END_DETACHED, TCNS_OK);
    free(old_app.rx);
    free(old_net.rx);
}

/* A peer that vanishes: in the end the application hears of it. */
static void test_peer_vanishes(void **state)
{
    no_tcpcrypt_far();
    open_outbound();
    peer_send(&app, PACKET_ACK, "anybody?", 8);
    for (int i = 0; i < 2000 && the_flow(); i++) {
        pass(1000);
        wire_discard(SIDE_OUTER);
    }
    expect_end(TUNNEL_END_TIMEOUT, TCNS_OK);
    expect_rst(&app);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, relay_world_set_up, relay_world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_truncation),
        TEST(test_truncation_before_keys),
        TEST(test_flipped_bit),
        TEST(test_inserted_bytes),
        TEST(test_nonsense_in_place_of_init),
        TEST(test_key_exchange_without_end),
        TEST(test_key_exchange_without_begin),
        TEST(test_key_timeout_spares_others),
        TEST(test_half_closed_and_silent),
        TEST(test_half_closed_and_alive),
        TEST(test_reset_by_application),
        TEST(test_reset_by_peer),
        TEST(test_data_before_a_reset_by_application),
        TEST(test_data_before_an_early_reset_by_application),
        TEST(test_data_before_a_reset_by_peer),
        TEST(test_data_before_a_reset_in_clear),
        TEST(test_abort_all),
        TEST(test_peer_vanishes),
    };

    return wire_run_tests(tests);
}
