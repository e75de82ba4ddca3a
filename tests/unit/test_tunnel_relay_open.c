/* SPDX-License-Identifier: BSD-3-Clause
 * Relay: how connections open, with tcpcrypt, without an answer, and both ways at once.
 */
#include "relay_world.h"

/* --- Fresh sessions --------------------------------------------------------------------- */

static void test_outbound(void **state)
{
    app_sends_syn();
    struct sent *s = wire.first[SIDE_OUTER];
    assert_non_null(s);
    assert_true(has_eno(&s->p));
    assert_true(addr_eq(&s->p.src, &app.tuple.local));
    assert_int_equal(s->p.src_port, app.tuple.local_port);
    peer_expect_nothing(&app); /* not before the far end has answered */
    net_answers();
    s = wire.first[SIDE_OUTER];
    assert_true(has_eno(&s->p)); /* the first ACK */
    net_sees_ack();
    assert_true(session_is_enabled(far.session));
    app_completes();
    settle();
    assert_true(session_is_open(far.session));
    check_reason(TUNNEL_REASON_FULL);
    check_both_ways();
    /* No plaintext went out. */
    for (size_t i = 0; i + 8 <= net.rx_len; i++)
        assert_int_not_equal(memcmp(net.rx + i, "question", 8), 0);
    close_in_order();
    assert_int_equal(relay.counters.flows_opened, 1);
    assert_int_equal(relay.counters.flows_encrypted, 1);
    assert_int_equal(relay.counters.flows_clear, 0);
    struct tunnel_session last = last_ended();
    assert_int_equal(last.tx_bytes, 8);
    assert_int_equal(last.rx_bytes, 6);
    const struct tunnel_metrics *m = &relay.metrics;
    assert_int_equal(m->settled[TUNNEL_REASON_FULL], 1);
    assert_int_equal(m->ended[TUNNEL_END_CLOSED], 1);
    assert_int_equal(m->encrypted_bytes[SIDE_INNER], 8);
    assert_int_equal(m->encrypted_bytes[SIDE_OUTER], 6);
    assert_int_equal(m->clear_bytes[SIDE_INNER] + m->clear_bytes[SIDE_OUTER], 0);
    assert_true(m->full.sum_us > 0 && m->full.sum_us == m->full.max_us);
    assert_int_equal(m->resumed.sum_us, 0);
    assert_int_equal(m->session.frames_sealed, 2); /* the question, the end */
    assert_int_equal(m->session.frames_opened, 2);
}

static void test_inbound(void **state)
{
    open_inbound();
    assert_true(session_is_enabled(far.session));
    net_sends_output(); /* the active opener sends Init1 */
    settle();
    assert_true(session_is_open(far.session));
    check_reason(TUNNEL_REASON_FULL);
    check_both_ways();
    close_in_order();
    assert_int_equal(relay.counters.flows_encrypted, 1);
    assert_true(last_ended().inbound);
}

/* The program has no connection before the peer has completed the handshake. */
static void test_inbound_waits_for_the_peer(void **state)
{
    net_sends_syn();
    app_answers();
    assert_int_equal(wire_cnt(SIDE_INNER), 0);
    pass(1000);
    assert_int_equal(wire_cnt(SIDE_INNER), 0);
    net_completes(false);
    free(peer_expect(&app, PACKET_ACK));
    net_sends_output();
    settle();
    check_both_ways();
    close_in_order();
}

static void test_peer_gives_up_inbound(void **state)
{
    net_sends_syn();
    app_answers();
    free(peer_expect(&net, PACKET_SYN | PACKET_ACK));
    peer_send(&net, PACKET_RST, NULL, 0);
    assert_true(peer_pull(&app) > 0);
    assert_true(app.rst);
}

/* What Init1 or a resumed session's first frame can carry needs no packet of its own. */
static void test_first_ack_comes_with_init1(void **state)
{
    app_sends_syn();
    net_answers();
    struct sent *s = peer_expect(&net, PACKET_ACK);
    assert_true(s->p.data_len > 0);
    assert_true(has_eno(&s->p));
    free(s);
    peer_expect_nothing(&net);
}

/* Our segments bear ENO until one without SYN has come (RFC 8547 4.6). */
static void test_eno_until_the_peer_speaks(void **state)
{
    open_outbound();
    settle();
    net_seals("x", 1, 0);
    peer_send(&app, PACKET_ACK, "y", 1);
    struct sent *s = peer_expect(&net, PACKET_ACK);
    assert_false(has_eno(&s->p));
    free(s);
}

/* What the application says before the keys are agreed waits for them. */
static void test_data_and_fin_before_keys(void **state)
{
    open_outbound();
    peer_send(&app, PACKET_ACK, "early", 5);
    peer_send(&app, PACKET_FIN | PACKET_ACK, NULL, 0);
    settle();
    assert_int_equal(far.text_len, 5);
    assert_memory_equal(far.text, "early", 5);
    assert_true(far.fin);
    assert_true(net.fin);
    net_seals("late", 4, 0); /* half-close: the other way goes on */
    net_seals(NULL, 0, SESSION_SEAL_FIN);
    peer_send(&net, PACKET_FIN | PACKET_ACK, NULL, 0);
    settle();
    assert_int_equal(app.rx_len, 4);
    assert_true(app.fin);
    expect_end(TUNNEL_END_CLOSED, TCNS_OK);
}

/* The peer's final frame ends the application's stream; TCP's FIN may come later. */
static void test_peer_closes_first(void **state)
{
    open_outbound();
    settle();
    net_seals("bye", 3, SESSION_SEAL_FIN);
    settle();
    assert_true(app.fin);
    peer_send(&app, PACKET_ACK, "still here", 10);
    settle();
    assert_int_equal(far.text_len, 10);
    peer_send(&net, PACKET_FIN | PACKET_ACK, NULL, 0);
    peer_send(&app, PACKET_FIN | PACKET_ACK, NULL, 0);
    settle();
    assert_true(far.fin && net.fin);
    expect_end(TUNNEL_END_CLOSED, TCNS_OK);
}

/* --- Opening that fails ----------------------------------------------------------------- */

static void test_refused(void **state)
{
    app_sends_syn();
    free(peer_expect(&net, PACKET_SYN));
    peer_send(&net, PACKET_RST | PACKET_ACK, NULL, 0);
    struct sent *s = wire_next(SIDE_INNER);
    assert_int_equal(s->p.flags, PACKET_RST | PACKET_ACK);
    assert_int_equal(s->p.ack, app.seq); /* Linux checks it */
    free(s);
    peer_expect_nothing(&app);
    expect_end(TUNNEL_END_REFUSED, TCNS_OK);
    assert_string_equal(events, "ox");
}

static void test_inbound_refused(void **state)
{
    net_sends_syn();
    free(peer_expect(&app, PACKET_SYN));
    peer_send(&app, PACKET_RST | PACKET_ACK, NULL, 0);
    struct sent *s = wire_next(SIDE_OUTER);
    assert_int_equal(s->p.flags, PACKET_RST | PACKET_ACK);
    assert_int_equal(s->p.ack, net.seq);
    free(s);
    expect_end(TUNNEL_END_REFUSED, TCNS_OK);
}

/* Silence for silence: the opener's own time-outs count. */
static void test_silent(void **state)
{
    app_sends_syn();
    wire_discard(SIDE_OUTER);
    pass(70000);
    assert_non_null(the_flow());
    peer_expect_nothing(&app);
    peer_expect_nothing(&net);
    pass(20000);
    assert_null(the_flow());
    peer_expect_nothing(&app);
    peer_expect_nothing(&net);
    expect_end(TUNNEL_END_TIMEOUT, TCNS_OK);
}

static void test_opener_gives_up(void **state)
{
    app_sends_syn();
    wire_discard(SIDE_OUTER);
    peer_send(&app, PACKET_RST, NULL, 0);
    assert_null(the_flow());
    peer_expect_nothing(&net); /* it has not answered */
    expect_end(TUNNEL_END_RESET_BY_APPLICATION, TCNS_OK);
}

/* A SYN with other numbers: the kernel has forgotten the first. */
static void test_opener_starts_over(void **state)
{
    app_sends_syn();
    wire_discard(SIDE_OUTER);
    app.seq = 77777;
    app_sends_syn();
    assert_null(the_flow());
    app.seq = 77777;
    app_sends_syn(); /* sent again */
    assert_non_null(the_flow());
    finish_outbound();
    settle();
    check_both_ways();
}

static void test_opener_sends_other_segments(void **state)
{
    app_sends_syn();
    wire_discard(SIDE_OUTER);
    peer_send_at(&app, 0, PACKET_ACK, "x", 1);
    peer_send_at(&app, 0, PACKET_FIN | PACKET_ACK, NULL, 0);
    assert_non_null(the_flow());
    peer_expect_nothing(&app);
    peer_expect_nothing(&net);
}

/* --- Lost SYNs -------------------------------------------------------------------------- */

/* A connection whose SYN with ENO gets no answer, and the one without does. */
static void eno_is_dropped(void)
{
    app_sends_syn();
    wire_discard(SIDE_OUTER);
    app_sends_syn_again(); /* at once: the first was late in coming here */
    assert_true(has_eno(&wire.first[SIDE_OUTER]->p));
    wire_discard(SIDE_OUTER);
    wire.now_ms += 1000;
    app_sends_syn_again();
    while (the_flow()->session) { /* it may try with ENO more than once */
        wire_discard(SIDE_OUTER);
        app_sends_syn_again();
    }
    while (wire_cnt(SIDE_OUTER) > 1)
        free(wire_next(SIDE_OUTER));
    assert_false(has_eno(&wire.first[SIDE_OUTER]->p));
    no_tcpcrypt_far();
    finish_outbound();
    check_reason(TUNNEL_REASON_ENO_DROPPED);
    check_both_ways();
}

/* The second in a row is remembered: one lost SYN is no proof. */
static void test_fallback(void **state)
{
    eno_is_dropped();
    pass(25);
    new_connection();
    eno_is_dropped();

    new_connection();
    no_tcpcrypt_far();
    app_sends_syn();
    assert_false(has_eno(&wire.first[SIDE_OUTER]->p));
    finish_outbound();
    check_reason(TUNNEL_REASON_FALLBACK_CACHE);

    pass(25);
    wire.now_ms += relay.fallback_ms;
    new_connection();
    app_sends_syn();
    assert_true(has_eno(&wire.first[SIDE_OUTER]->p));
    wire_discard(SIDE_OUTER);
}

static void test_no_fallback_under_require(void **state)
{
    set_policy(TUNNEL_POLICY_REQUIRE);
    app_sends_syn();
    struct sent *first = wire_next(SIDE_OUTER);
    for (int i = 0; i < 6; i++) {
        app_sends_syn_again();
        struct sent *again = wire_next(SIDE_OUTER);
        assert_int_equal(first->p.options_len, again->p.options_len);
        assert_memory_equal(packet_options(&first->p), packet_options(&again->p),
                            first->p.options_len);
        free(again);
        peer_expect_nothing(&net);
    }
    free(first);
}

static void test_inbound_syn_again(void **state)
{
    net_sends_syn();
    free(peer_expect(&app, PACKET_SYN));
    uint32_t after = net.seq;
    net.seq--;
    peer_set_syn_options(&net, 1460, 7);
    peer_send(&net, PACKET_SYN, NULL, 0);
    net.options_len = 0;
    assert_int_equal(net.seq, after);
    app_answers(); /* to the SYN that was sent again */
    net_completes(false);
    net_sends_output();
    settle();
    check_both_ways();
}

/* --- Both open at once ------------------------------------------------------------------ */

static void test_crossing_syns(void **state)
{
    no_tcpcrypt_far();
    app_sends_syn();
    free(peer_expect(&net, PACKET_SYN));
    peer_set_syn_options(&net, 1460, 7);
    peer_send(&net, PACKET_SYN, NULL, 0);
    struct sent *s = peer_expect(&net, PACKET_SYN | PACKET_ACK);
    assert_false(has_eno(&s->p));
    free(s);
    peer_send_at(&net, -1, PACKET_SYN | PACKET_ACK, NULL, 0);
    net.options_len = 0;
    peer_pull(&net);
    app_completes();
    check_both_ways();
    close_in_order();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, relay_world_set_up, relay_world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_outbound),
        TEST(test_inbound),
        TEST(test_inbound_waits_for_the_peer),
        TEST(test_peer_gives_up_inbound),
        TEST(test_first_ack_comes_with_init1),
        TEST(test_eno_until_the_peer_speaks),
        TEST(test_data_and_fin_before_keys),
        TEST(test_peer_closes_first),
        TEST(test_refused),
        TEST(test_inbound_refused),
        TEST(test_silent),
        TEST(test_opener_gives_up),
        TEST(test_opener_starts_over),
        TEST(test_opener_sends_other_segments),
        TEST(test_fallback),
        TEST(test_no_fallback_under_require),
        TEST(test_inbound_syn_again),
        TEST(test_crossing_syns),
    };

    return wire_run_tests(tests);
}
