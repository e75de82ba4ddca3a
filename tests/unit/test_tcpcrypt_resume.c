/* SPDX-License-Identifier: BSD-3-Clause
 * The cache of session secrets, alone and between two sessions.
 */
#include "tcpcrypt/resume.h"
#include "tcpcrypt_pair.h"

#include <string.h>

#define V_BIT 0x80

/* --- The cache alone --------------------------------------------------------------- */

static const uint8_t peer_1[] = "192.0.2.1:80", peer_2[] = "192.0.2.2:80";
static const struct session_config *const any = &session_config_default;

static struct resume_secret make_secret(uint8_t tep, uint8_t fill)
{
    struct resume_secret secret = {.tep = tep, .aead = AEAD_AES_128_GCM};

    memset(secret.ss, fill, sizeof(secret.ss));
    return secret;
}

static void test_no_secret_twice(void **state)
{
    struct resume_cache *c = resume_cache_new(4);
    struct resume_secret secret = make_secret(TEP_ECDHE_CURVE25519, 1), first, second, next;

    resume_put(c, &secret, peer_1, sizeof(peer_1));
    assert_true(resume_take_active(c, any, peer_1, sizeof(peer_1), &first));
    assert_true(resume_take_active(c, any, peer_1, sizeof(peer_1), &second));
    assert_memory_equal(first.ss, secret.ss, KEYS_K_LEN);
    keys_next_secret(first.ss, next.ss);
    assert_memory_equal(second.ss, next.ss, KEYS_K_LEN);
    assert_int_equal(first.chain, second.chain);
    assert_int_equal(resume_cache_cnt(c), 1);
    resume_cache_free(c);
}

static void test_who_gets_a_secret(void **state)
{
    struct resume_cache *c = resume_cache_new(4);
    struct resume_secret secret = make_secret(TEP_ECDHE_CURVE25519, 2), got;
    struct session_config cfg = session_config_default;
    uint8_t ours[KEYS_RESUME_HALF], theirs[KEYS_RESUME_HALF];

    resume_halves(&secret, ours, theirs);
    resume_put(c, &secret, peer_1, sizeof(peer_1));
    /* an entry of our active opens: only for that peer, only for what cfg allows */
    assert_false(resume_take_active(c, any, peer_2, sizeof(peer_2), &got));
    assert_false(resume_take_active(c, any, peer_1, sizeof(peer_1) - 1, &got));
    assert_false(resume_take_active(c, any, NULL, 0, &got));
    assert_false(resume_take_passive(c, any, secret.tep, theirs, &got));
    cfg.aeads[0] = AEAD_AES_256_GCM;
    cfg.aead_cnt = 1;
    assert_false(resume_take_active(c, &cfg, peer_1, sizeof(peer_1), &got));
    cfg = session_config_default;
    cfg.teps[0] = TEP_ECDHE_P256;
    cfg.tep_cnt = 1;
    assert_false(resume_take_active(c, &cfg, peer_1, sizeof(peer_1), &got));
    resume_cache_clear(c);
    assert_int_equal(resume_cache_cnt(c), 0);
    assert_false(resume_take_active(c, any, peer_1, sizeof(peer_1), &got));

    /* an entry of our passive opens: for the other half of the identifier */
    resume_put(c, &secret, NULL, 0);
    assert_false(resume_take_active(c, any, NULL, 0, &got));
    assert_false(resume_take_passive(c, any, secret.tep, ours, &got));
    assert_false(resume_take_passive(c, any, TEP_ECDHE_P256, theirs, &got));
    assert_false(resume_take_passive(c, &cfg, secret.tep, theirs, &got));
    assert_true(resume_take_passive(c, any, secret.tep, theirs, &got));
    assert_false(resume_take_passive(c, any, secret.tep, theirs, &got)); /* used up */
    resume_cache_free(c);
}

static void test_eviction(void **state)
{
    struct resume_cache *c = resume_cache_new(2);
    struct resume_secret a = make_secret(TEP_ECDHE_CURVE25519, 3), got;
    struct resume_secret b = make_secret(TEP_ECDHE_P256, 4);
    uint64_t chain;

    resume_put(c, &a, peer_1, sizeof(peer_1));
    resume_put(c, &a, peer_1, sizeof(peer_1)); /* one entry per peer and TEP */
    assert_int_equal(resume_cache_cnt(c), 1);
    resume_put(c, &b, peer_1, sizeof(peer_1));
    assert_int_equal(resume_cache_cnt(c), 2);
    assert_true(resume_take_active(c, any, peer_1, sizeof(peer_1), &got));
    assert_int_equal(got.tep, TEP_ECDHE_P256);         /* the newest */
    chain = resume_put(c, &a, peer_2, sizeof(peer_2)); /* drops peer_1's older entry */
    assert_int_equal(resume_cache_cnt(c), 2);
    assert_true(resume_take_active(c, any, peer_1, sizeof(peer_1), &got));
    assert_int_equal(got.tep, TEP_ECDHE_P256);
    resume_forget(c, chain);
    resume_forget(c, 0);
    assert_int_equal(resume_cache_cnt(c), 1);
    assert_false(resume_take_active(c, any, peer_2, sizeof(peer_2), &got));
    resume_cache_free(c);
    resume_cache_free(NULL);
}

/* --- Between two hosts: RFC 8548 3.5 --------------------------------------------------- */

static struct pair pair;

static int set_up(void **state)
{
    pair_init(&pair);
    pair.client_cfg.cache = resume_cache_new(8);
    pair.server_cfg.cache = resume_cache_new(8);
    return 0;
}

static int tear_down(void **state)
{
    struct resume_cache *client = pair.client_cfg.cache, *server = pair.server_cfg.cache;

    pair_done(&pair);
    resume_cache_free(client);
    resume_cache_free(server);
    return buf_total() == 0 ? 0 : -1;
}

static void new_sessions(void)
{
    pair_new_sessions(&pair);
    session_set_peer(pair.client, peer_1, sizeof(peer_1));
}

static void carry(struct session *from, struct session *to)
{
    static struct wire w;
    static struct received r;

    w.len = 0;
    pair_output(from, &w);
    pair_deliver(to, &w, &r);
}

/* A connection from SYN to data. Return: why it is encrypted. */
static enum session_reason connect_once(struct session_info *client)
{
    struct session_info server;

    new_sessions();
    pair_options(&pair);
    if (!session_is_open(pair.client)) {
        carry(pair.client, pair.server);
        carry(pair.server, pair.client);
    }
    session_get_info(pair.client, client);
    session_get_info(pair.server, &server);
    assert_true(client->has_id && server.has_id);
    assert_memory_equal(client->id, server.id, sizeof(server.id));
    assert_int_equal(client->reason, server.reason);
    assert_int_equal(client->aead, server.aead);
    pair_check_data(pair.client, pair.server, "to server");
    pair_check_data(pair.server, pair.client, "to client");
    return client->reason;
}

static void test_chain_of_resumptions(void **state)
{
    struct session_info info[4];

    assert_int_equal(connect_once(&info[0]), SESSION_REASON_FULL);
    for (size_t i = 1; i < 4; i++) {
        assert_int_equal(connect_once(&info[i]), SESSION_REASON_RESUMED);
        assert_int_equal(info[i].tep, info[0].tep);
        assert_int_equal(info[i].id[0], info[0].tep | V_BIT);
        assert_memory_not_equal(info[i].id, info[i - 1].id, SESSION_ID_LEN);
    }
    assert_int_equal(resume_cache_cnt(pair.client_cfg.cache), 1);
    assert_int_equal(resume_cache_cnt(pair.server_cfg.cache), 1);
}

static void test_resumed_session_keeps_tep_and_aead(void **state)
{
    struct session_info info;

    pair.server_cfg.teps[0] = TEP_ECDHE_P256;
    pair.server_cfg.aeads[0] = AEAD_CHACHA20_POLY1305;
    pair.server_cfg.aeads[2] = AEAD_AES_128_GCM;
    assert_int_equal(connect_once(&info), SESSION_REASON_FULL);
    /* another order of preference does not matter (interpretations I06, I20) */
    pair.server_cfg.teps[0] = TEP_ECDHE_CURVE25519;
    pair.server_cfg.aeads[0] = AEAD_AES_128_GCM;
    pair.server_cfg.aeads[2] = AEAD_CHACHA20_POLY1305;
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
    assert_int_equal(info.tep, TEP_ECDHE_P256);
    assert_int_equal(info.aead, AEAD_CHACHA20_POLY1305);
}

static void test_server_has_forgotten(void **state)
{
    struct session_info info;

    connect_once(&info);
    resume_cache_clear(pair.server_cfg.cache);
    assert_int_equal(connect_once(&info), SESSION_REASON_FULL);
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
}

static void test_client_has_forgotten(void **state)
{
    struct session_info info;

    connect_once(&info);
    resume_cache_clear(pair.client_cfg.cache);
    assert_int_equal(connect_once(&info), SESSION_REASON_FULL);
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
}

static void test_policy_of_one_connection(void **state)
{
    struct session_info info;
    struct resume_cache *cache = pair.client_cfg.cache;

    connect_once(&info);
    pair.client_cfg.cache = NULL; /* neither resume nor remember */
    assert_int_equal(connect_once(&info), SESSION_REASON_FULL);
    pair.client_cfg.cache = cache;
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
    /* flush what this connection used */
    session_forget(pair.client);
    session_forget(pair.server);
    assert_int_equal(resume_cache_cnt(cache), 0);
    assert_int_equal(connect_once(&info), SESSION_REASON_FULL);
    /* and what it made */
    session_forget(pair.client);
    assert_int_equal(resume_cache_cnt(cache), 0);
}

static void test_without_a_name_nothing_is_kept(void **state)
{
    pair_open(&pair);
    assert_int_equal(resume_cache_cnt(pair.client_cfg.cache), 0);
    assert_int_equal(resume_cache_cnt(pair.server_cfg.cache), 1);
}

static void test_nonce_len_limit(void **state)
{
    new_sessions();
    assert_int_equal(session_set_resume_nonce_len(pair.client, 9), TCNS_ERR_TOO_LARGE);
    assert_int_equal(session_set_resume_nonce_len(pair.client, 8), TCNS_OK);
}

/* A SYN seen on the wire and sent again gets a fresh key exchange: the secret is used up. */
static void test_replayed_syn(void **state)
{
    struct session_info info;
    struct session *other = session_new(&pair.server_cfg);
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;

    connect_once(&info);
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
    assert_int_equal(session_accept(other, pair.syn, pair.syn_len, out, &len), TCNS_OK);
    assert_int_equal(len, 4);
    assert_int_equal(out[3], TEP_ECDHE_CURVE25519); /* v = 0 */
    session_free(other);
}

/* Connections at the same time propose different secrets. */
static void test_parallel_opens(void **state)
{
    struct session_info info;
    struct session *other = session_new(&pair.client_cfg);
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;

    connect_once(&info);
    new_sessions();
    session_set_peer(other, peer_1, sizeof(peer_1));
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(session_connect(other, out, &len), TCNS_OK);
    assert_int_equal(len, pair.syn_len);
    /* the suboption comes last: half of the identifier, nonce */
    assert_memory_not_equal(out + len - 17, pair.syn + len - 17, KEYS_RESUME_HALF);
    session_free(other);
}

/* The same SYN again to the same server session: the same answer, no second secret. */
static void test_repeated_syn(void **state)
{
    struct session_info info;
    uint8_t again[ENO_OPTION_MAX_LEN];
    size_t len;

    connect_once(&info);
    new_sessions();
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    assert_int_equal(session_accept(pair.server, pair.syn, pair.syn_len, again, &len), TCNS_OK);
    assert_int_equal(len, pair.synack_len);
    assert_memory_equal(again, pair.synack, len);
}

/* RFC 8548 3.5: an identifier half that does not match is ignored; it was the only TEP. */
static void test_wrong_half_from_server(void **state)
{
    struct session_info info;

    connect_once(&info);
    for (size_t byte = 4; byte < 4 + KEYS_RESUME_HALF; byte++) {
        new_sessions();
        assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
        assert_int_equal(
            session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
            TCNS_OK);
        assert_int_equal(pair.synack_len, 4 + KEYS_RESUME_HALF + 8);
        pair.synack[byte] ^= 0x10;
        assert_int_equal(session_connect_synack(pair.client, pair.synack, pair.synack_len),
                         TCNS_OK);
        assert_false(session_is_enabled(pair.client));
        assert_int_equal(session_accept_ack(pair.server, NULL, 0), TCNS_OK);
        assert_false(session_is_enabled(pair.server));
    }
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
}

/* A nonce altered on its way changes the keys: nothing is delivered. */
static void test_altered_nonce(void **state)
{
    struct session_info info;
    static struct wire w;
    static struct received r;

    connect_once(&info);
    new_sessions();
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    pair.syn[pair.syn_len - 1] ^= 1;
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    assert_int_equal(session_connect_synack(pair.client, pair.synack, pair.synack_len), TCNS_OK);
    assert_int_equal(session_accept_ack(pair.server, eno_ack_option, ENO_ACK_OPTION_LEN), TCNS_OK);
    assert_true(session_is_open(pair.client) && session_is_open(pair.server));
    w.len = 0;
    pair_seal(pair.client, "secret", 6, 0, &w);
    assert_int_equal(pair_feed(pair.server, &w, SIZE_MAX, &r), TCNS_ERR_FRAME_AUTH);
    assert_int_equal(r.len, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_secret_twice),
        cmocka_unit_test(test_who_gets_a_secret),
        cmocka_unit_test(test_eviction),
        T(test_chain_of_resumptions),
        T(test_resumed_session_keeps_tep_and_aead),
        T(test_server_has_forgotten),
        T(test_client_has_forgotten),
        T(test_policy_of_one_connection),
        T(test_without_a_name_nothing_is_kept),
        T(test_nonce_len_limit),
        T(test_replayed_syn),
        T(test_parallel_opens),
        T(test_repeated_syn),
        T(test_wrong_half_from_server),
        T(test_altered_nonce),
    };

    return cmocka_run_group_tests_name("tcpcrypt/resume", tests, NULL, NULL);
}
