/* SPDX-License-Identifier: BSD-3-Clause
 * Whole sessions against known answers: with the vectors' randomness a session
 * must send the vectors' bytes.
 */
#include "tcpcrypt/resume.h"
#include "tcpcrypt_pair.h"
#include "vectors.h"

#include <string.h>

/* --- Randomness from a script: one list per host ------------------------------- */

struct script {
    struct bytes draws[2];
    size_t next;
};

static struct script client_script, server_script;

static void draw(struct script *s, void *out, size_t len)
{
    assert_in_range(s->next, 0, 1);
    assert_int_equal(s->draws[s->next].len, len);
    memcpy(out, s->draws[s->next++].p, len);
}

static void client_random(void *out, size_t len)
{
    draw(&client_script, out, len);
}

static void server_random(void *out, size_t len)
{
    draw(&server_script, out, len);
}

static struct pair pair;
static struct wire to_server, to_client;
static struct received got;

static void set_up_scripted(void)
{
    pair_init(&pair);
    pair.client_cfg.random = client_random;
    pair.server_cfg.random = server_random;
    client_script = (struct script){0};
    server_script = (struct script){0};
    to_server.len = 0;
    to_client.len = 0;
}

/* --- Fresh sessions: RFC 8548 3.3 to 3.8 ---------------------------------------- */

static void configure(json_t *c)
{
    static const uint8_t teps[] = {TEP_ECDHE_CURVE448, TEP_ECDHE_CURVE25519, TEP_ECDHE_P521,
                                   TEP_ECDHE_P256};
    uint16_t ciphers[3];

    set_up_scripted();
    memcpy(pair.client_cfg.teps, teps, sizeof(teps));
    pair.client_cfg.aead_cnt = vec_hex_ints(c, "sym_cipher_list", ciphers, 3);
    memcpy(pair.client_cfg.aeads, ciphers, sizeof(ciphers));
    pair.server_cfg.teps[0] = (uint8_t)vec_hex_int(c, "tep");
    pair.server_cfg.tep_cnt = 1;
    pair.server_cfg.aeads[0] = vec_hex_int(c, "aead");
    pair.server_cfg.aead_cnt = 1;
    client_script.draws[0] = vec_hex(c, "n_a");
    client_script.draws[1] = vec_hex(c, "private_a");
    server_script.draws[0] = vec_hex(c, "n_b");
    server_script.draws[1] = vec_hex(c, "private_b");
}

static void check_id(json_t *c, const struct session *s)
{
    struct session_info info;

    session_get_info(s, &info);
    assert_true(info.has_id);
    assert_int_equal(info.aead, vec_hex_int(c, "aead"));
    assert_bytes(vec_hex(c, "session_id"), info.id, sizeof(info.id));
}

static json_t *nth_frame(json_t *c, const char *direction, size_t n)
{
    json_t *frames = vec_list(c, "frames");

    for (size_t i = 0; i < json_array_size(frames); i++) {
        json_t *f = json_array_get(frames, i);

        if (vec_is(f, "direction", direction) && n-- == 0)
            return f;
    }
    return NULL;
}

static size_t sealed_urgent_cnt;

/* A second rekeying waits for the answer to the first. cres and fres bits are set in a
 * later frame on purpose; no session of ours sends them. */
static bool is_made_by_us(json_t *f)
{
    return vec_int(f, "generation") < 2 && !(vec_hex_int(f, "control") & 0xfe) &&
           !(vec_hex_int(f, "flags") & 0xfc);
}

/* Seals the frames that a session makes by itself, up to the first that it does not. */
static void check_sealed(json_t *c, struct session *s, const char *direction)
{
    json_t *f;

    for (size_t i = 0; (f = nth_frame(c, direction, i)) && is_made_by_us(f); i++) {
        struct bytes data = vec_hex(f, "data");
        struct iovec iov = {data.p, data.len};
        bool is_urgent = vec_has(f, "urgent");
        unsigned flags =
            (vec_bool(f, "finp") ? SESSION_SEAL_FIN : 0) | (is_urgent ? SESSION_SEAL_URGENT : 0);
        struct buf *b;

        if (vec_bool(f, "rekey"))
            assert_int_equal(session_rekey(s), TCNS_OK);
        assert_int_equal(
            session_seal(s, &iov, 1, flags, is_urgent ? (uint16_t)vec_int(f, "urgent") : 0, &b),
            TCNS_OK);
        sealed_urgent_cnt += is_urgent;
        assert_bytes(vec_hex(f, "frame"), buf_data(b), b->len);
        buf_unref(b);
    }
}

/* Opens all frames of a direction. */
static void check_opened(json_t *c, struct session *s, const char *direction)
{
    json_t *f;
    bool is_final = false;

    for (size_t i = 0; (f = nth_frame(c, direction, i)); i++) {
        struct bytes frame = vec_hex(f, "frame");
        struct session_rx rx;
        struct session_info info;
        size_t used;

        assert_int_equal(session_open(s, frame.p, frame.len, &used, &rx), TCNS_OK);
        assert_int_equal(used, frame.len);
        assert_bytes(vec_hex(f, "data"), rx.data ? buf_data(rx.data) : NULL,
                     rx.data ? rx.data->len : 0);
        assert_int_equal(rx.fin, vec_bool(f, "finp"));
        assert_int_equal(rx.urgent, vec_has(f, "urgent"));
        if (rx.urgent)
            assert_int_equal(rx.urgent_off, vec_int(f, "urgent"));
        session_get_info(s, &info);
        assert_int_equal(info.rx_generation, vec_int(f, "generation"));
        is_final = rx.fin;
        buf_unref(rx.data);
    }
    assert_int_equal(session_on_fin(s), is_final ? TCNS_OK : TCNS_ERR_TRUNCATED);
}

/* A session that can be played by our host A: Init1 without ignored bytes and
 * with ciphers that we know. */
static void check_as_both(json_t *c)
{
    configure(c);
    pair_new_sessions(&pair);
    pair_options(&pair);
    assert_bytes(vec_hex(c, "option_a"), pair.syn, pair.syn_len);
    assert_bytes(vec_hex(c, "option_b"), pair.synack, pair.synack_len);
    pair_output(pair.client, &to_server);
    assert_bytes(vec_hex(c, "init1"), to_server.bytes, to_server.len);
    pair_deliver(pair.server, &to_server, &got);
    pair_output(pair.server, &to_client);
    assert_bytes(vec_hex(c, "init2"), to_client.bytes, to_client.len);
    pair_deliver(pair.client, &to_client, &got);
    check_id(c, pair.client);
    check_id(c, pair.server);
    check_sealed(c, pair.client, "ab");
    check_sealed(c, pair.server, "ba");
    check_opened(c, pair.client, "ba");
    check_opened(c, pair.server, "ab");
    pair_done(&pair);
}

/* Otherwise: Init1 as given must be accepted by our host B. Its answer has no
 * ignored bytes, so the keys are others from there on. */
static void check_as_b(json_t *c)
{
    struct bytes init1 = vec_hex(c, "init1");
    struct session_rx rx;
    size_t used;

    set_up_scripted();
    pair.client_cfg.random = session_config_default.random;
    pair.server_cfg.random = session_config_default.random;
    pair_new_sessions(&pair);
    pair_options(&pair);
    assert_int_equal(session_open(pair.server, init1.p, init1.len, &used, &rx), TCNS_OK);
    assert_int_equal(used, init1.len);
    assert_true(rx.opened && rx.output);
    pair_done(&pair);
}

static void check_fresh(json_t *c)
{
    if (vec_hex(c, "ignored").len == 0)
        check_as_both(c);
    else
        check_as_b(c);
}

/* --- Resumed sessions: RFC 8548 3.5 ------------------------------------------------ */

static const struct resume_peer peer = {.len = 8, .host_len = 8, .name = "10.0.0.1"};

static struct resume_secret secret_of(json_t *c, bool is_client)
{
    bool client_was_a = vec_is(c, "active_opener_was", "A");
    struct resume_secret secret = {
        .tep = (uint8_t)vec_hex_int(c, "tep"),
        .aead = vec_hex_int(c, "aead"),
        .original_role = is_client == client_was_a ? SESSION_ROLE_A : SESSION_ROLE_B,
    };

    memcpy(secret.ss, vec_hex(c, "ss").p, sizeof(secret.ss));
    return secret;
}

static void fill_caches(json_t *c)
{
    struct resume_secret client = secret_of(c, true), server = secret_of(c, false);

    pair.client_cfg.cache = resume_cache_new(2);
    pair.server_cfg.cache = resume_cache_new(2);
    resume_put(pair.client_cfg.cache, &client, &peer, true);
    resume_put(pair.server_cfg.cache, &server, &peer, false);
}

/* What is left in both caches is ss[index+1]. */
static void check_next_secret(json_t *c)
{
    uint8_t ours[KEYS_RESUME_HALF], theirs[KEYS_RESUME_HALF];
    struct resume_secret next;

    assert_true(resume_take_active(pair.client_cfg.cache, &pair.client_cfg, &peer, &next));
    assert_bytes(vec_hex(c, "next_ss"), next.ss, sizeof(next.ss));
    resume_halves(&next, ours, theirs);
    assert_true(
        resume_find_passive(pair.server_cfg.cache, &pair.server_cfg, next.tep, ours, &next));
    assert_bytes(vec_hex(c, "next_ss"), next.ss, sizeof(next.ss));
    assert_int_equal(next.index, 1);
}

static void check_resumed(json_t *c)
{
    bool client_was_a = vec_is(c, "active_opener_was", "A");
    struct bytes nonce_a = vec_hex(c, "nonce_a"), nonce_b = vec_hex(c, "nonce_b");

    set_up_scripted();
    pair.client_cfg.teps[0] = (uint8_t)vec_hex_int(c, "tep");
    pair.client_cfg.tep_cnt = 1;
    client_script.draws[0] = client_was_a ? nonce_a : nonce_b;
    server_script.draws[0] = client_was_a ? nonce_b : nonce_a;
    fill_caches(c);
    pair_new_sessions(&pair);
    session_set_peer(pair.client, peer.name, peer.len, peer.host_len);
    assert_int_equal(session_set_resume_nonce_len(pair.client, client_script.draws[0].len),
                     TCNS_OK);
    assert_int_equal(session_set_resume_nonce_len(pair.server, server_script.draws[0].len),
                     TCNS_OK);
    pair_options(&pair);
    assert_bytes(vec_hex(c, "option_a"), pair.syn, pair.syn_len);
    assert_bytes(vec_hex(c, "option_b"), pair.synack, pair.synack_len);
    assert_true(session_is_open(pair.client) && session_is_open(pair.server));
    check_id(c, pair.client);
    check_id(c, pair.server);
    check_sealed(c, client_was_a ? pair.client : pair.server, "ab");
    check_sealed(c, client_was_a ? pair.server : pair.client, "ba");
    check_opened(c, client_was_a ? pair.client : pair.server, "ba");
    check_opened(c, client_was_a ? pair.server : pair.client, "ab");
    check_next_secret(c);
    pair_done(&pair);
    resume_cache_free(pair.client_cfg.cache);
    resume_cache_free(pair.server_cfg.cache);
}

static void test_fresh(void **state)
{
    sealed_urgent_cnt = 0;
    vectors_run("key_schedule", check_fresh);
    assert_true(sealed_urgent_cnt > 0);
}

static void test_resumed(void **state)
{
    vectors_run("resumption", check_resumed);
}

static void test_names(void **state)
{
    assert_string_equal(session_reason_name(SESSION_REASON_PEER_NO_ENO), "peer-no-eno");
    assert_string_equal(session_reason_name(SESSION_REASON_FULL), "full");
    assert_string_equal(session_reason_name((enum session_reason)99), "unknown");
    assert_string_equal(session_aead_name(AEAD_CHACHA20_POLY1305), "AEAD_CHACHA20_POLY1305");
    assert_string_equal(session_aead_name(0), "unknown");
    assert_string_equal(session_tep_name(TEP_ECDHE_CURVE25519), "TCPCRYPT_ECDHE_Curve25519");
    assert_string_equal(session_tep_name(0x20), "unknown");
}

static void test_selftest(void **state)
{
    struct session_config cfg = session_config_default;

    assert_int_equal(session_selftest(&cfg), TCNS_OK);
    cfg.tep_cnt = 0; /* ENO is off: nothing to test but the AEADs */
    assert_int_equal(session_selftest(&cfg), TCNS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_fresh, vectors_blame),
        cmocka_unit_test_teardown(test_resumed, vectors_blame),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_selftest),
    };

    return cmocka_run_group_tests_name("tcpcrypt/session", tests, vectors_setup, vectors_teardown);
}
