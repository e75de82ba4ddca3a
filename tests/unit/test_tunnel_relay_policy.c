/* SPDX-License-Identifier: BSD-3-Clause
 * Relay: what policy, its rules and sockets' wishes make of a connection.
 */
#include "relay_world.h"

#include <errno.h>

#include "tcpcrypt/resume.h"

/* --- Policy ----------------------------------------------------------------------------- */

static void test_policy_off(void **state)
{
    set_policy(TUNNEL_POLICY_OFF);
    app_sends_syn();
    assert_false(has_eno(&wire.first[SIDE_OUTER]->p));
    no_tcpcrypt_far();
    finish_outbound();
    check_reason(TUNNEL_REASON_OFF);
    check_both_ways();
    assert_string_equal(events, "oc");
}

static void test_require_outbound(void **state)
{
    set_policy(TUNNEL_POLICY_REQUIRE);
    no_tcpcrypt_far();
    app_sends_syn();
    net_answers();
    expect_rst(&app);
    expect_rst(&net);
    expect_end(TUNNEL_END_REFUSED, TCNS_OK);
    assert_int_equal(last_ended().reason, TUNNEL_REASON_REQUIRE_REFUSED);
    assert_int_equal(relay.counters.flows_refused, 1);
    assert_string_equal(events, "ox");
}

static void test_require_inbound(void **state)
{
    set_policy(TUNNEL_POLICY_REQUIRE);
    no_tcpcrypt_far();
    net_sends_syn();
    expect_rst(&net);
    peer_expect_nothing(&app); /* it has not heard of it */
    expect_end(TUNNEL_END_REFUSED, TCNS_OK);
}

static void test_require_inbound_eno_stripped(void **state)
{
    set_policy(TUNNEL_POLICY_REQUIRE);
    net_sends_syn();
    app_answers();
    net_completes(true);
    expect_rst(&net);
    expect_rst(&app);
    expect_end(TUNNEL_END_REFUSED, TCNS_OK);
}

static void test_require_with_tcpcrypt(void **state)
{
    set_policy(TUNNEL_POLICY_REQUIRE);
    open_outbound();
    settle();
    check_both_ways();
}

/* Its rule, and the rule's name, are told; another connection is the default's. */
static void test_rule_off(void **state)
{
    struct policy_rule rule = {.name = "plain", .action = TUNNEL_POLICY_OFF, .dir = POLICY_DIR_OUT};
    struct tunnel_session s;

    use_policy(
        &(struct policy_config){.policy = TUNNEL_POLICY_REQUIRE, .rules = &rule, .rule_cnt = 1});
    app_sends_syn();
    assert_false(has_eno(&wire.first[SIDE_OUTER]->p));
    no_tcpcrypt_far();
    finish_outbound();
    check_reason(TUNNEL_REASON_RULE_OFF);
    relay_describe(the_flow(), &s);
    assert_int_equal(s.rule, 1);
    assert_string_equal(s.rule_name, "plain");
    check_both_ways();
    close_in_order();
    assert_string_equal(last_ended().rule_name, "plain");

    new_connection();
    no_tcpcrypt_far();
    net_sends_syn();
    expect_rst(&net);
    assert_int_equal(last_ended().reason, TUNNEL_REASON_REQUIRE_REFUSED);
    assert_int_equal(last_ended().rule, 0);
    assert_string_equal(last_ended().rule_name, "");
}

/* A connection keeps what held when it was opened, cipher and refusal included. */
static void test_policy_changes(void **state)
{
    struct policy_rule rule = {
        .action = TUNNEL_POLICY_REQUIRE,
        .settings = {.set = POLICY_SET_AEADS_A,
                     .session = {{.aeads = {AEAD_CHACHA20_POLY1305}, .aead_cnt = 1}}}};
    struct tunnel_session s;

    use_policy(&(struct policy_config){.rules = &rule, .rule_cnt = 1});
    app_sends_syn();
    set_policy(TUNNEL_POLICY_OFF);
    finish_outbound();
    settle();
    check_reason(TUNNEL_REASON_FULL);
    relay_describe(the_flow(), &s);
    assert_int_equal(s.rule, 1);
    assert_int_equal(s.info.aead, AEAD_CHACHA20_POLY1305);
    check_both_ways();
    close_in_order();
}

/* --- What applications wish ------------------------------------------------------------- */

static struct wish the_wish;
static int wish_found;

static int on_wish(void *arg, const struct tuple *tuple, bool inbound, struct wish *ret)
{
    assert_ptr_equal(arg, &the_wish);
    assert_true(tuple_eq(tuple, &app.tuple));
    *ret = the_wish;
    return wish_found;
}

static void wish_for(struct wish w)
{
    relay.wish = on_wish;
    relay.wish_arg = &the_wish;
    the_wish = w;
    wish_found = 1;
}

static void test_wish_off(void **state)
{
    wish_for((struct wish){.set = WISH_POLICY, .policy = TUNNEL_POLICY_OFF});
    app_sends_syn();
    assert_false(has_eno(&wire.first[SIDE_OUTER]->p));
    no_tcpcrypt_far();
    finish_outbound();
    check_reason(TUNNEL_REASON_SOCKET_OFF);
    check_both_ways();
    close_in_order();

    set_policy(TUNNEL_POLICY_OFF); /* then it is not the socket's doing */
    new_connection();
    no_tcpcrypt_far();
    open_outbound();
    check_reason(TUNNEL_REASON_OFF);
    close_in_order();
}

static void test_wish_require(void **state)
{
    wish_for((struct wish){.set = WISH_POLICY, .policy = TUNNEL_POLICY_REQUIRE});
    no_tcpcrypt_far();
    app_sends_syn();
    free(wire_next(SIDE_OUTER));
    app_sends_syn_again(); /* with ENO still: no falling back */
    assert_true(has_eno(&wire.first[SIDE_OUTER]->p));
    net_answers();
    expect_rst(&app);
    expect_rst(&net);
    assert_int_equal(last_ended().reason, TUNNEL_REASON_REQUIRE_REFUSED);

    new_connection(); /* and no more than that one socket */
    relay.wish = NULL;
    no_tcpcrypt_far();
    open_outbound();
    check_reason(TUNNEL_REASON_PEER_NO_ENO);
    close_in_order();
}

static void test_wish_require_inbound(void **state)
{
    wish_for((struct wish){.set = WISH_POLICY, .policy = TUNNEL_POLICY_REQUIRE});
    no_tcpcrypt_far();
    net_sends_syn();
    expect_rst(&net);
    expect_end(TUNNEL_END_REFUSED, TCNS_OK);
}

static void test_wish_cannot_weaken(void **state)
{
    set_policy(TUNNEL_POLICY_REQUIRE);
    wish_for((struct wish){.set = WISH_POLICY, .policy = TUNNEL_POLICY_OFF});
    no_tcpcrypt_far();
    app_sends_syn();
    net_answers();
    expect_rst(&app);
    expect_rst(&net);
    assert_int_equal(last_ended().reason, TUNNEL_REASON_REQUIRE_REFUSED);
}

/* Nobody knows what the application wanted: nothing goes out. */
static void test_wish_unknown(void **state)
{
    wish_for((struct wish){.set = 0});
    wish_found = -EIO;
    app_sends_syn();
    assert_null(wire.first[SIDE_OUTER]);
    assert_int_equal(relay.flows.cnt, 0);
}

static void test_wish_cipher(void **state)
{
    struct tunnel_session s;

    wish_for((struct wish){.set = WISH_AEADS, .aeads = {AEAD_CHACHA20_POLY1305}, .aead_cnt = 1});
    open_outbound();
    settle();
    set_policy(TUNNEL_POLICY_OFF); /* the connection's own settings live on */
    relay_describe(the_flow(), &s);
    assert_int_equal(s.info.aead, AEAD_CHACHA20_POLY1305);
    check_both_ways();
    close_in_order();
}

static void test_wish_no_cache(void **state)
{
    relay.cache = resume_cache_new(10);
    set_policy(TUNNEL_POLICY_PREFER);
    wish_for((struct wish){.set = WISH_CACHE, .no_cache = true});
    open_outbound();
    settle();
    check_both_ways();
    assert_int_equal(resume_cache_cnt(relay.cache), 0);
    close_in_order();
    wish_found = 0; /* a socket nobody has spoken of */
    new_connection();
    open_outbound();
    settle();
    check_both_ways();
    assert_int_equal(resume_cache_cnt(relay.cache), 1);
    session_forget(the_flow()->session);
    assert_int_equal(resume_cache_cnt(relay.cache), 0);
    close_in_order();
    resume_cache_free(relay.cache);
    relay.cache = NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, relay_world_set_up, relay_world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_policy_off),
        TEST(test_rule_off),
        TEST(test_policy_changes),
        TEST(test_wish_off),
        TEST(test_wish_require),
        TEST(test_wish_require_inbound),
        TEST(test_wish_cannot_weaken),
        TEST(test_wish_unknown),
        TEST(test_wish_cipher),
        TEST(test_wish_no_cache),
        TEST(test_require_outbound),
        TEST(test_require_inbound),
        TEST(test_require_inbound_eno_stripped),
        TEST(test_require_with_tcpcrypt),
    };

    return wire_run_tests(tests);
}
