/* SPDX-License-Identifier: BSD-3-Clause
 * Relay: connections whose other end has no tcpcrypt.
 */
#include "relay_world.h"

static void test_peer_without_eno(void **state)
{
    no_tcpcrypt_far();
    open_outbound();
    check_reason(TUNNEL_REASON_PEER_NO_ENO);
    check_both_ways();
    close_in_order();
    assert_int_equal(relay.counters.flows_clear, 1);
    assert_int_equal(relay.metrics.settled[TUNNEL_REASON_PEER_NO_ENO], 1);
    assert_int_equal(relay.metrics.clear_bytes[SIDE_INNER], 8);
    assert_int_equal(relay.metrics.clear_bytes[SIDE_OUTER], 6);
    assert_int_equal(relay.metrics.full.max_us, 0);
}

static void test_inbound_without_eno(void **state)
{
    no_tcpcrypt_far();
    open_inbound();
    check_reason(TUNNEL_REASON_PEER_NO_ENO);
    check_both_ways();
    close_in_order();
    assert_int_equal(relay.counters.flows_clear, 1);
}

/* Something on the way took the option off the last ACK. */
static void test_inbound_eno_stripped(void **state)
{
    net_sends_syn();
    app_answers();
    net_completes(true);
    check_reason(TUNNEL_REASON_ENO_STRIPPED);
    no_tcpcrypt_far();
    peer_pull(&app);
    check_both_ways();
    close_in_order();
}

static void test_later_require_spares_clear(void **state)
{
    no_tcpcrypt_far();
    app_sends_syn();
    net_answers();
    net_sees_ack();
    set_policy(TUNNEL_POLICY_REQUIRE);
    app_completes();
    check_reason(TUNNEL_REASON_PEER_NO_ENO);
    check_both_ways();
    pass(3000);
    check_both_ways();
    close_in_order();
}

/* The far end's SYN-ACK, the text and a FIN come before the application's kernel has
 * acknowledged. */
static void open_to_one_that_closes(const char *text)
{
    no_tcpcrypt_far();
    app_sends_syn();
    free(peer_expect(&net, PACKET_SYN));
    peer_set_syn_options(&net, 1460, 7);
    in_one_turn = true;
    peer_send(&net, PACKET_SYN | PACKET_ACK, NULL, 0);
    net.options_len = 0;
    if (*text)
        peer_send(&net, PACKET_ACK, text, strlen(text));
    peer_send(&net, PACKET_FIN | PACKET_ACK, NULL, 0);
    in_one_turn = false;
    run();
}

/* A server that speaks, and closes. */
static void test_server_first(void **state)
{
    open_to_one_that_closes("hello");
    app_completes();
    settle();
    assert_int_equal(app.rx_len, 5);
    assert_memory_equal(app.rx, "hello", 5);
    assert_true(app.fin);
    for (size_t off = 0; off < 500000; off += 10000) { /* the other way stays open */
        peer_send(&app, PACKET_ACK, pattern(off), 10000);
        settle();
    }
    assert_int_equal(far.text_len, 500000);
    assert_memory_equal(far.text, pattern(0), 500000);
    peer_send(&app, PACKET_FIN | PACKET_ACK, NULL, 0);
    settle();
    expect_end(TUNNEL_END_CLOSED, TCNS_OK);
}

/* One that closes at once and says nothing. */
static void test_server_closes_at_once(void **state)
{
    open_to_one_that_closes("");
    app_completes();
    settle();
    assert_true(app.fin);
    for (size_t off = 0; off < 500000; off += 10000) {
        peer_send(&app, PACKET_ACK, pattern(off), 10000);
        settle();
    }
    assert_int_equal(far.text_len, 500000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, relay_world_set_up, relay_world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_peer_without_eno),     TEST(test_inbound_without_eno),
        TEST(test_inbound_eno_stripped), TEST(test_later_require_spares_clear),
        TEST(test_server_first),         TEST(test_server_closes_at_once),
    };

    return wire_run_tests(tests);
}
