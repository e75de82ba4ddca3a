/* SPDX-License-Identifier: BSD-3-Clause
 * Relay: resumed sessions, and keep-alive.
 */
#include "relay_world.h"

#include "tcpcrypt/resume.h"

/* A first connection, whose secrets both ends keep. */
static void open_with_caches(void)
{
    relay.cache = resume_cache_new(10);
    set_policy(TUNNEL_POLICY_PREFER);
    far.cfg.cache = resume_cache_new(10);
    new_connection();
    open_outbound();
    settle();
}

static void free_caches(void)
{
    session_free(far.session);
    far.session = NULL;
    resume_cache_free(relay.cache);
    resume_cache_free(far.cfg.cache);
}

static void test_resumption(void **state)
{
    open_with_caches();
    check_reason(TUNNEL_REASON_FULL);
    check_both_ways();
    close_in_order();

    struct tuple first = app.tuple;
    new_connection();
    app.tuple.peer_port = net.tuple.peer_port = first.peer_port;
    open_outbound();
    settle();
    check_reason(TUNNEL_REASON_RESUMED);
    assert_int_equal(relay.counters.flows_resumed, 1);
    check_both_ways();
    close_in_order();
    free_caches();
}

/* A server that speaks first, through a resumed session, and closes: the final frame is
 * there before the application's kernel has acknowledged. */
static void test_resumed_server_first(void **state)
{
    struct buf *b;

    open_with_caches();
    close_in_order();

    new_connection();
    app_sends_syn();
    net_answers();
    net_sees_ack();
    assert_true(session_is_open(far.session));
    struct iovec iov = {(void *)(uintptr_t) "hello", 5};
    assert_int_equal(session_seal(far.session, &iov, 1, SESSION_SEAL_FIN, 0, &b), TCNS_OK);
    net_sends_buf(b);
    peer_send(&net, PACKET_FIN | PACKET_ACK, NULL, 0);
    app_completes();
    settle();
    assert_int_equal(app.rx_len, 5);
    assert_true(app.fin);
    check_reason(TUNNEL_REASON_RESUMED);
    peer_send(&app, PACKET_FIN | PACKET_ACK, "bye", 3);
    settle();
    assert_int_equal(far.text_len, 3);
    expect_end(TUNNEL_END_CLOSED, TCNS_OK);
    free_caches();
}

static void test_keep_alive(void **state)
{
    use_policy(&(struct policy_config){.keepalive_s = 3});
    open_outbound();
    settle();
    check_both_ways();
    for (int s = 0; s < 10; s++) { /* the far host answers each time */
        pass(1000);
        settle();
    }
    assert_non_null(the_flow());
    for (int s = 0; s < 20 && the_flow(); s++) {
        pass(1000);
        wire_discard(SIDE_OUTER);
    }
    expect_end(TUNNEL_END_TIMEOUT, TCNS_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, relay_world_set_up, relay_world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_resumption),
        TEST(test_resumed_server_first),
        TEST(test_keep_alive),
    };

    return wire_run_tests(tests);
}
