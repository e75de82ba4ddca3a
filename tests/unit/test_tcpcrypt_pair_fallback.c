/* SPDX-License-Identifier: BSD-3-Clause
 * Two sessions against each other: options, and fallback.
 */
#include "pair_world.h"

#include <string.h>

/* Init messages of two hosts whose SYN exchange is over. */
static void start_keys(void)
{
    to_server.len = 0;
    to_client.len = 0;
    pair_output(pair.client, &to_server);
    pair_deliver(pair.server, &to_server, &got);
    pair_output(pair.server, &to_client);
    pair_deliver(pair.client, &to_client, &got);
}

/* --- Fallback: RFC 8547 4.6 ------------------------------------------------------ */

static void check_plain(struct session *s, enum session_reason reason)
{
    struct session_info info = info_of(s);
    struct session_rx rx;
    struct buf *b = NULL;
    size_t used;

    assert_false(info.enabled || info.has_id);
    assert_int_equal(info.reason, reason);
    assert_false(session_is_enabled(s) || session_is_open(s));
    assert_int_equal(session_output(s, &b), TCNS_OK);
    assert_null(b);
    assert_int_equal(session_seal(s, NULL, 0, SESSION_SEAL_FIN, 0, &b), TCNS_ERR_STATE);
    assert_int_equal(session_open(s, (const uint8_t *)"x", 1, &used, &rx), TCNS_ERR_STATE);
    assert_int_equal(session_on_fin(s), TCNS_ERR_STATE);
    assert_int_equal(session_rekey(s), TCNS_ERR_STATE);
}

#define AREA(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static void check_passive(enum session_reason reason, const uint8_t *area, size_t len)
{
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t out_len = 99;

    pair_new_sessions(&pair);
    assert_int_equal(session_accept(pair.server, area, len, out, &out_len), TCNS_OK);
    assert_int_equal(out_len, 0);
    check_plain(pair.server, reason);
    /* an ENO option on later segments changes nothing */
    assert_int_equal(session_accept_ack(pair.server, eno_ack_option, ENO_ACK_OPTION_LEN), TCNS_OK);
    check_plain(pair.server, reason);
}

static void check_active(enum session_reason reason, const uint8_t *area, size_t len)
{
    pair_new_sessions(&pair);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(session_connect_synack(pair.client, area, len), TCNS_OK);
    check_plain(pair.client, reason);
}

static void test_fallback_passive(void **state)
{
    check_passive(SESSION_REASON_PEER_NO_ENO, NULL, 0);
    check_passive(SESSION_REASON_PEER_NO_ENO, AREA(2, 4, 5, 0xb4, 1, 3, 3, 7));
    check_passive(SESSION_REASON_PEER_NO_ENO, AREA(69, 3, 0x23, 69, 3, 0x23));
    check_passive(SESSION_REASON_PEER_ILL_FORMED, AREA(69, 4, 0x23, 0x80));
    check_passive(SESSION_REASON_PEER_VACUOUS, AREA(69, 2));
    check_passive(SESSION_REASON_PEER_VACUOUS, AREA(69, 3, 0x02));
    check_passive(SESSION_REASON_NO_COMMON_TEP, AREA(69, 3, 0x20));
    check_passive(SESSION_REASON_ROLE_CONFLICT, AREA(69, 4, 0x01, 0x23));
    pair.server_cfg.mandatory_app_aware = true;
    check_passive(SESSION_REASON_NOT_APP_AWARE, AREA(69, 3, 0x23));
    pair.server_cfg.tep_cnt = 0;
    check_passive(SESSION_REASON_OFF, AREA(69, 3, 0x23));
}

static void test_fallback_active(void **state)
{
    check_active(SESSION_REASON_PEER_NO_ENO, NULL, 0);
    check_active(SESSION_REASON_PEER_NO_ENO, AREA(2, 4, 5, 0xb4));
    check_active(SESSION_REASON_PEER_NO_ENO, AREA(69, 4, 1, 0x23, 69, 4, 1, 0x23));
    check_active(SESSION_REASON_PEER_ILL_FORMED, AREA(69, 5, 1, 0x23, 0x80));
    check_active(SESSION_REASON_PEER_VACUOUS, AREA(69, 3, 0x01));
    check_active(SESSION_REASON_NO_COMMON_TEP, AREA(69, 4, 0x01, 0x20));
    check_active(SESSION_REASON_ROLE_CONFLICT, AREA(69, 3, 0x23));
    pair.client_cfg.app_aware = true;
    pair.client_cfg.mandatory_app_aware = true;
    check_active(SESSION_REASON_NOT_APP_AWARE, AREA(69, 4, 0x01, 0x23));
}

static void test_off_sends_nothing(void **state)
{
    pair.client_cfg.tep_cnt = 0;
    pair_open(&pair);
    assert_int_equal(pair.syn_len, 0);
    assert_int_equal(pair.synack_len, 0);
    check_plain(pair.client, SESSION_REASON_OFF);
    check_plain(pair.server, SESSION_REASON_PEER_NO_ENO);
}

static void test_stripped_ack(void **state)
{
    pair_new_sessions(&pair);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    assert_int_equal(info_of(pair.server).reason, SESSION_REASON_PENDING);
    assert_int_equal(session_accept_ack(pair.server, NULL, 0), TCNS_OK);
    check_plain(pair.server, SESSION_REASON_ENO_STRIPPED);
}

static void test_repeated_segments(void **state)
{
    uint8_t again[ENO_OPTION_MAX_LEN];
    size_t len;

    pair_new_sessions(&pair);
    pair_options(&pair);
    /* the same option on every retransmission, whenever it is asked for */
    assert_int_equal(session_connect(pair.client, again, &len), TCNS_OK);
    assert_int_equal(len, pair.syn_len);
    assert_memory_equal(again, pair.syn, len);
    assert_int_equal(session_accept(pair.server, pair.syn, pair.syn_len, again, &len), TCNS_OK);
    assert_int_equal(len, pair.synack_len);
    assert_memory_equal(again, pair.synack, len);
    /* and what was settled stays settled */
    assert_int_equal(session_connect_synack(pair.client, NULL, 0), TCNS_OK);
    assert_int_equal(session_accept_ack(pair.server, NULL, 0), TCNS_OK);
    assert_true(session_is_enabled(pair.client) && session_is_enabled(pair.server));
}

/* RFC 8547 4.6: what the first SYN-ACK settled stays. */
static void test_synack_again_without_eno(void **state)
{
    const uint8_t other_option[] = {69, 4, 1, TEP_ECDHE_P256};

    pair_new_sessions(&pair);
    pair_options(&pair);
    assert_int_equal(session_connect_synack(pair.client, NULL, 0), TCNS_OK);
    assert_int_equal(session_connect_synack(pair.client, other_option, sizeof(other_option)),
                     TCNS_OK);
    assert_int_equal(info_of(pair.client).tep, TEP_ECDHE_CURVE25519);
    start_keys();
    pair_check_data(pair.client, pair.server, "still encrypted");
}

/* A SYN that is altered between transmissions: the first counts, and the SYN-ACK does not
 * change. Who sent the second will not come to the same keys (RFC 8547 4.8). */
static void test_second_syn_with_another_option(void **state)
{
    const uint8_t second[] = {69, 3, TEP_ECDHE_P256};
    uint8_t again[ENO_OPTION_MAX_LEN];
    size_t len;

    pair_new_sessions(&pair);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    assert_int_equal(session_accept(pair.server, second, sizeof(second), again, &len), TCNS_OK);
    assert_int_equal(len, pair.synack_len);
    assert_memory_equal(again, pair.synack, len);
    assert_int_equal(session_connect_synack(pair.client, pair.synack, pair.synack_len), TCNS_OK);
    assert_int_equal(session_accept_ack(pair.server, eno_ack_option, ENO_ACK_OPTION_LEN), TCNS_OK);
    start_keys();
    pair_check_data(pair.client, pair.server, "as the first SYN had it");
}

/* The SYN-ACK for these options beside ours. Return: its length. */
static size_t answer_to(const uint8_t *area, size_t len, uint8_t out[ENO_OPTION_MAX_LEN])
{
    size_t out_len;

    pair_new_sessions(&pair);
    assert_int_equal(session_accept(pair.server, area, len, out, &out_len), TCNS_OK);
    return out_len;
}

/* Drafts used the experimental kind 253 with ExID 0x454E. RFC 8547 has kind 69 only. */
static void test_experimental_option_253(void **state)
{
    uint8_t out[ENO_OPTION_MAX_LEN];

    check_passive(SESSION_REASON_PEER_NO_ENO, AREA(253, 5, 0x45, 0x4e, 0x23));
    check_active(SESSION_REASON_PEER_NO_ENO, AREA(253, 6, 0x45, 0x4e, 0x01, 0x23));
    assert_int_equal(answer_to(AREA(253, 5, 0x45, 0x4e, 0x21, 69, 3, 0x23), out), 4);
    assert_int_equal(out[3], TEP_ECDHE_CURVE25519);
    assert_int_equal(answer_to(AREA(69, 3, 0x23, 253, 4, 0x45, 0x4e), out), 4);
    assert_int_equal(out[3], TEP_ECDHE_CURVE25519);
}

/* RFC 8547 4.7: it decides about SYN data, which we discard in any case; not about ENO. */
static void test_tfo_option(void **state)
{
    uint8_t out[ENO_OPTION_MAX_LEN];
    const uint8_t expected[] = {69, 4, 1, TEP_ECDHE_CURVE25519};

    assert_int_equal(answer_to(AREA(34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 69, 3, 0x23), out), 4);
    assert_memory_equal(out, expected, 4);
    assert_int_equal(answer_to(AREA(69, 3, 0x23, 34, 2), out), 4);
    assert_memory_equal(out, expected, 4);
}

/* RFC 8547 8.1: a middlebox that sends the SYN's options back. */
static void test_echoed_option(void **state)
{
    pair_new_sessions(&pair);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(session_connect_synack(pair.client, pair.syn, pair.syn_len), TCNS_OK);
    check_plain(pair.client, SESSION_REASON_ROLE_CONFLICT);
}

/* RFC 8547 4.1: contents of the non-SYN form are ignored, and several count as one. */
static void test_ack_option_with_contents(void **state)
{
    const uint8_t area[] = {69, 5, 0x80, 0x00, 0xff, 69, 2};

    pair_new_sessions(&pair);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    assert_int_equal(session_accept_ack(pair.server, area, sizeof(area)), TCNS_OK);
    assert_true(session_is_enabled(pair.server));
    assert_int_equal(ENO_ACK_OPTION_LEN, 2); /* ours has none */
}

static void test_app_aware_bits(void **state)
{
    pair.client_cfg.app_aware = true;
    pair_open(&pair);
    assert_false(info_of(pair.client).peer_app_aware);
    assert_true(info_of(pair.server).peer_app_aware);
    check_same_id();
}

/* RFC 8547 4.3: two active openers, one of which has set b = 1. */
static void test_simultaneous_open(void **state)
{
    struct wire w = {.len = 0};

    pair.server_cfg.passive_role = true;
    pair_new_sessions(&pair);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(session_connect(pair.server, pair.synack, &pair.synack_len), TCNS_OK);
    assert_int_equal(session_connect_synack(pair.client, pair.synack, pair.synack_len), TCNS_OK);
    assert_int_equal(session_connect_synack(pair.server, pair.syn, pair.syn_len), TCNS_OK);
    assert_int_equal(info_of(pair.client).role, SESSION_ROLE_A);
    assert_int_equal(info_of(pair.server).role, SESSION_ROLE_B);
    pair_output(pair.client, &to_server);
    pair_deliver(pair.server, &to_server, &got);
    pair_output(pair.server, &w);
    pair_deliver(pair.client, &w, &got);
    check_same_id();
    pair_check_data(pair.client, pair.server, "hello");
}

#define T(name) cmocka_unit_test_setup_teardown(name, pair_world_set_up, pair_world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_fallback_passive),
        T(test_fallback_active),
        T(test_off_sends_nothing),
        T(test_stripped_ack),
        T(test_repeated_segments),
        T(test_synack_again_without_eno),
        T(test_second_syn_with_another_option),
        T(test_experimental_option_253),
        T(test_tfo_option),
        T(test_echoed_option),
        T(test_ack_option_with_contents),
        T(test_app_aware_bits),
        T(test_simultaneous_open),
    };

    return cmocka_run_group_tests_name("tcpcrypt/pair_fallback", tests, NULL, NULL);
}
