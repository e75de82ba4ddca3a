/* SPDX-License-Identifier: BSD-3-Clause
 * Relay: resumed sessions, and keep-alive.
 */
#include "relay_world.h"

#include "base/clock.h"
#include "tcpcrypt/resume.h"

static void make_caches(void)
{
    relay.cache = resume_cache_new(10);
    set_policy(TUNNEL_POLICY_PREFER);
    far.cfg.cache = resume_cache_new(10);
}

/* A first connection, whose secrets both ends keep. */
static void open_with_caches(void)
{
    make_caches();
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

/* --- The far host resumes -------------------------------------------------------------------- */

/* A connection that the far host will open, with a secret if it has one. */
static void new_inbound(void)
{
    new_connection();
    session_set_peer(far.session, "relay", 5, 5);
}

static void open_and_close_inbound(enum tunnel_reason reason)
{
    new_inbound();
    open_inbound();
    net_sends_output();
    settle();
    check_reason(reason);
    check_both_ways();
    close_in_order();
}

static void start_with_caches(void)
{
    make_caches();
    relay.key_timeout_ms = 30000;
    wire.now_ms = (uint64_t)clock_coarse_ms(); /* keys are awaited by that clock */
    resume_cache_tick(relay.cache, wire.now_ms);
    open_and_close_inbound(TUNNEL_REASON_FULL);
    open_and_close_inbound(TUNNEL_REASON_RESUMED);
}

/* Its SYN names the next secret, and the application has not answered. */
static void propose(void)
{
    new_inbound();
    net_sends_syn();
}

static void refused_by_the_application(void)
{
    propose();
    free(peer_expect(&app, PACKET_SYN));
    peer_send(&app, PACKET_RST | PACKET_ACK, NULL, 0);
    expect_end(TUNNEL_END_REFUSED, TCNS_OK);
}

static void silence_of_the_application(void)
{
    propose();
    pass(80000);
    expect_end(TUNNEL_END_TIMEOUT, TCNS_OK);
}

static void reset_before_the_answer(void)
{
    propose();
    peer_send(&net, PACKET_RST, NULL, 0);
    expect_end(TUNNEL_END_RESET_BY_PEER, TCNS_OK);
}

/* And it has; our SYN-ACK is on its way. */
static void propose_and_answer(void)
{
    propose();
    app_answers();
    free(peer_expect(&net, PACKET_SYN | PACKET_ACK));
}

static void reset_of_the_answer(void)
{
    propose_and_answer();
    peer_send(&net, PACKET_RST, NULL, 0);
    expect_end(TUNNEL_END_RESET_BY_PEER, TCNS_OK);
}

static void reset_by_the_application(void)
{
    propose_and_answer();
    peer_send(&app, PACKET_RST, NULL, 0);
    expect_end(TUNNEL_END_RESET_BY_APPLICATION, TCNS_OK);
}

static void answer_without_an_ack(void)
{
    propose();
    app_answers();
    pass(31000);
    assert_null(the_flow());
}

static void detached(void)
{
    propose();
    app_answers();
    relay_abort_all(&relay);
    expect_end(TUNNEL_END_DETACHED, TCNS_OK);
}

static void check_clear(void)
{
    no_tcpcrypt_far();
    peer_pull(&app);
    check_both_ways();
    close_in_order();
}

static void ack_without_the_option(void)
{
    propose();
    app_answers();
    net_completes(true);
    check_reason(TUNNEL_REASON_ENO_STRIPPED);
    check_clear();
}

static void syn_again_without_the_option(void)
{
    propose();
    no_tcpcrypt_far();
    net.seq--;
    net_sends_syn();
    app_answers();
    net_completes(false);
    check_reason(TUNNEL_REASON_PEER_NO_ENO);
    check_clear();
}

/* An opening that names a secret and does not resume, however it ends, keeps those that
 * follow from resuming no longer than it lasts. */
static void check_others_after(void (*ending)(void))
{
    start_with_caches();
    ending();
    for (int i = 0; i < RESUME_WINDOW_CNT + 2; i++)
        open_and_close_inbound(TUNNEL_REASON_RESUMED);
    free_caches();
}

#define ENDING_LIST(X)                                                                             \
    X(refused_by_the_application)                                                                  \
    X(silence_of_the_application)                                                                  \
    X(reset_before_the_answer)                                                                     \
    X(reset_of_the_answer)                                                                         \
    X(reset_by_the_application)                                                                    \
    X(answer_without_an_ack)                                                                       \
    X(detached)                                                                                    \
    X(ack_without_the_option)                                                                      \
    X(syn_again_without_the_option)

#define X(name)                                                                                    \
    static void test_others_resume_after_##name(void **state)                                      \
    {                                                                                              \
        check_others_after(name);                                                                  \
    }
ENDING_LIST(X)
#undef X

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
    const struct CMUnitTest tests[] = {TEST(test_resumption), TEST(test_resumed_server_first),
                                       TEST(test_keep_alive),
#define X(name) TEST(test_others_resume_after_##name),
                                       ENDING_LIST(X)
#undef X
    };

    return wire_run_tests(tests);
}
