/* SPDX-License-Identifier: BSD-3-Clause
 * An attacker changes one bit of one message, each bit in turn, for every TEP: the
 * connection fails, or is plain at both ends; nothing is delivered.
 */
#include "tcpcrypt/resume.h"
#include "tcpcrypt_pair.h"

#include <string.h>

static const uint8_t all_teps[] = {TEP_ECDHE_P256, TEP_ECDHE_P521, TEP_ECDHE_CURVE25519,
                                   TEP_ECDHE_CURVE448};
static const uint16_t all_aeads[] = {AEAD_AES_128_GCM, AEAD_AES_256_GCM, AEAD_CHACHA20_POLY1305};

static struct pair pair;
static struct wire to_server;
static struct received got;

static int set_up(void **state)
{
    pair_init(&pair);
    to_server.len = 0;
    memset(&got, 0, sizeof(got));
    return 0;
}

static int tear_down(void **state)
{
    pair_done(&pair);
    pair_free_caches(&pair);
    return buf_total() == 0 ? 0 : -1; /* no buffer is lost */
}

static struct session_info info_of(const struct session *s)
{
    struct session_info info;

    session_get_info(s, &info);
    return info;
}

static void only_tep(uint8_t tep)
{
    pair.server_cfg.teps[0] = tep;
    pair.server_cfg.tep_cnt = 1;
}

static void flip(uint8_t *bytes, size_t bit)
{
    bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
}

/* Carries Init messages and then a frame from each side that is open. Counts data
 * that is delivered, and checks that an error is the peer's fault and final. */
static size_t exchange_all(const struct wire *init1, size_t init2_bit)
{
    struct session *ends[2] = {pair.client, pair.server};
    struct wire w = {.len = 0};
    enum tcns_err e;

    memset(&got, 0, sizeof(got));
    e = pair_feed(pair.server, init1, SIZE_MAX, &got);
    if (e != TCNS_OK && e != TCNS_ERR_AGAIN) {
        assert_int_equal(err_class(e), ERR_CLASS_PEER);
        assert_false(session_is_open(pair.server));
    }
    if (session_is_open(pair.server)) {
        pair_output(pair.server, &w);
        if (init2_bit < 8 * w.len)
            flip(w.bytes, init2_bit);
        e = pair_feed(pair.client, &w, SIZE_MAX, &got);
        if (e != TCNS_OK && e != TCNS_ERR_AGAIN)
            assert_int_equal(err_class(e), ERR_CLASS_PEER);
    }
    for (size_t i = 0; i < 2; i++) {
        w.len = 0;
        if (!session_is_open(ends[i]))
            continue;
        pair_seal(ends[i], "secret", 6, SESSION_SEAL_FIN, &w);
        e = pair_feed(ends[1 - i], &w, SIZE_MAX, &got);
        if (e != TCNS_OK && e != TCNS_ERR_AGAIN)
            assert_int_equal(err_class(e), ERR_CLASS_PEER);
    }
    if (got.len == 0) {
        struct session_info c = info_of(pair.client), s = info_of(pair.server);

        assert_false(got.fin);
        if (c.has_id && s.has_id)
            assert_memory_not_equal(c.id, s.id, sizeof(c.id));
    }
    return got.len;
}

#define NO_BIT SIZE_MAX

static void start_exchange(struct wire *init1)
{
    pair_new_sessions(&pair);
    pair_options(&pair);
    init1->len = 0;
    pair_output(pair.client, init1);
}

/* magic, length, cipher, nonce, public key: RFC 8548 4.1, 5 */
static size_t init2_len_of(uint8_t tep)
{
    switch (tep) {
    case TEP_ECDHE_P256:
        return 42 + 2 + 33;
    case TEP_ECDHE_P521:
        return 42 + 2 + 67;
    case TEP_ECDHE_CURVE448:
        return 42 + 56;
    default:
        return 42 + 32;
    }
}

static void check_init_flips(uint8_t tep)
{
    struct wire init1;
    size_t init2_len = init2_len_of(tep);

    only_tep(tep);
    start_exchange(&init1);
    assert_int_equal(exchange_all(&init1, NO_BIT), 12);
    for (size_t bit = 0; bit < 8 * init1.len; bit++) {
        start_exchange(&init1);
        flip(init1.bytes, bit);
        assert_int_equal(exchange_all(&init1, NO_BIT), 0);
    }
    for (size_t bit = 0; bit < 8 * init2_len; bit++) {
        start_exchange(&init1);
        assert_int_equal(exchange_all(&init1, bit), 0);
    }
}

static void test_flips_in_init_messages_p256(void **state)
{
    check_init_flips(TEP_ECDHE_P256);
}

static void test_flips_in_init_messages_p521(void **state)
{
    check_init_flips(TEP_ECDHE_P521);
}

static void test_flips_in_init_messages_curve25519(void **state)
{
    check_init_flips(TEP_ECDHE_CURVE25519);
}

static void test_flips_in_init_messages_curve448(void **state)
{
    check_init_flips(TEP_ECDHE_CURVE448);
}

/* RFC 8547 4.8: both ends are plain, or the keys differ. */
static void check_option_flip(bool in_syn, size_t bit)
{
    struct wire init1 = {.len = 0};

    pair_new_sessions(&pair);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    if (in_syn)
        flip(pair.syn, bit);
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    if (!in_syn && pair.synack_len > 0)
        flip(pair.synack, bit);
    assert_int_equal(session_connect_synack(pair.client, pair.synack, pair.synack_len), TCNS_OK);
    assert_int_equal(session_accept_ack(pair.server, eno_ack_option,
                                        session_is_enabled(pair.client) ? ENO_ACK_OPTION_LEN : 0),
                     TCNS_OK);
    assert_int_equal(session_is_enabled(pair.client), session_is_enabled(pair.server));
    if (!session_is_enabled(pair.client))
        return;
    pair_output(pair.client, &init1);
    assert_int_equal(exchange_all(&init1, NO_BIT), 0);
}

static void test_flips_in_options(void **state)
{
    for (size_t t = 0; t < sizeof(all_teps); t++) {
        only_tep(all_teps[t]);
        pair_open(&pair);
        size_t syn_bits = 8 * pair.syn_len, synack_bits = 8 * pair.synack_len;

        for (size_t bit = 0; bit < syn_bits; bit++)
            check_option_flip(true, bit);
        for (size_t bit = 0; bit < synack_bits; bit++)
            check_option_flip(false, bit);
    }
}

/* RFC 8548 3.5: with a secret at both ends. */
static const struct resume_peer peer = {.len = 4, .host_len = 4, .name = "peer"};

static void put_secrets(uint8_t tep)
{
    struct resume_secret secret = {.tep = tep, .aead = AEAD_AES_128_GCM};

    resume_cache_clear(pair.client_cfg.cache);
    resume_cache_clear(pair.server_cfg.cache);
    resume_put(pair.client_cfg.cache, &secret, &peer, true);
    secret.original_role = SESSION_ROLE_B;
    resume_put(pair.server_cfg.cache, &secret, &peer, false);
}

/* Half of the identifier and nonce are the last bytes of both options. The rest of an
 * option is no part of resumed keys (interpretation I05): a TEP that is not negotiated, a
 * reserved bit may change and the connection is what it would have been.
 * Return: whether keys were resumed at both ends. */
static bool check_resumption_flip(uint8_t tep, bool in_syn, size_t bit)
{
    struct wire init1 = {.len = 0};
    size_t len;
    bool is_on, is_proof;

    put_secrets(tep);
    pair_new_sessions(&pair);
    session_set_peer(pair.client, peer.name, peer.len, peer.host_len);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    if (in_syn && bit != NO_BIT)
        flip(pair.syn, bit);
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    if (!in_syn && bit != NO_BIT)
        flip(pair.synack, bit);
    assert_int_equal(session_connect_synack(pair.client, pair.synack, pair.synack_len), TCNS_OK);
    is_on = session_is_enabled(pair.client);
    assert_int_equal(
        session_accept_ack(pair.server, eno_ack_option, is_on ? ENO_ACK_OPTION_LEN : 0), TCNS_OK);
    assert_int_equal(session_is_enabled(pair.server), is_on);
    if (!is_on)
        return false;
    if (!session_is_open(pair.client))
        pair_output(pair.client, &init1);
    is_proof = bit / 8 >= (in_syn ? pair.syn_len : pair.synack_len) - 17;
    len = exchange_all(&init1, NO_BIT);
    assert_true(len == 12 || len == 0);
    if (bit != NO_BIT && is_proof)
        assert_int_equal(len, 0);
    return info_of(pair.client).reason == SESSION_REASON_RESUMED &&
           info_of(pair.server).reason == SESSION_REASON_RESUMED;
}

static void test_flips_in_resumption_options(void **state)
{
    pair_add_caches(&pair, 1);
    for (size_t t = 0; t < sizeof(all_teps); t++) {
        size_t resumed_cnt = 0;

        assert_true(check_resumption_flip(all_teps[t], true, NO_BIT));
        size_t syn_bits = 8 * pair.syn_len, synack_bits = 8 * pair.synack_len;

        for (size_t bit = 0; bit < syn_bits; bit++)
            resumed_cnt += check_resumption_flip(all_teps[t], true, bit);
        for (size_t bit = 0; bit < synack_bits; bit++)
            resumed_cnt += check_resumption_flip(all_teps[t], false, bit);
        assert_true(resumed_cnt >= 2 * 8 * 8); /* the nonces: other keys at the other end */
    }
}

/* Larger frames follow the flipped one, so that a longer clen finds bytes to swallow. */
static void check_frame_flip(size_t bit)
{
    enum tcns_err e;

    memset(&got, 0, sizeof(got));
    to_server.len = 0;
    pair_open(&pair);
    pair_seal(pair.client, "payload", 7, 0, &to_server);
    flip(to_server.bytes, bit);
    for (size_t i = 0; i < 2; i++) {
        static const uint8_t more[SESSION_FRAME_DATA_MAX_LEN];

        pair_seal(pair.client, more, sizeof(more), 0, &to_server);
    }
    e = pair_feed(pair.server, &to_server, 1448, &got);
    assert_int_equal(err_class(e), ERR_CLASS_PEER);
    assert_int_equal(got.len, 0);
    assert_int_equal(got.frame_cnt, 0);
    assert_int_equal(pair_feed(pair.server, &to_server, SIZE_MAX, &got), e);
    assert_false(session_is_open(pair.server));
}

static void test_flips_in_a_frame(void **state)
{
    const size_t frame_len = 7 + SESSION_FRAME_OVERHEAD_LEN;

    for (size_t a = 0; a < sizeof(all_aeads) / sizeof(all_aeads[0]); a++) {
        for (size_t t = 0; t < sizeof(all_teps); t++) {
            pair.server_cfg.aeads[0] = all_aeads[a];
            only_tep(all_teps[t]);
            for (size_t bit = 0; bit < 8 * frame_len; bit++)
                check_frame_flip(bit);
        }
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_flips_in_init_messages_p256),
        T(test_flips_in_init_messages_p521),
        T(test_flips_in_init_messages_curve25519),
        T(test_flips_in_init_messages_curve448),
        T(test_flips_in_options),
        T(test_flips_in_resumption_options),
        T(test_flips_in_a_frame),
    };

    return cmocka_run_group_tests_name("tcpcrypt/flips", tests, NULL, NULL);
}
