/* SPDX-License-Identifier: BSD-3-Clause
 * What a session tells its key log: both hosts the same keys, each once, no others.
 */
#include "tcpcrypt_pair.h"

#include <string.h>

#include "tcpcrypt/resume.h"

#define MAX_CNT 16

struct log {
    size_t cnt;
    struct entry {
        struct session_key key;
        uint8_t id[SESSION_ID_LEN], bytes[SESSION_KEY_MAX_LEN], nonce[SESSION_KEY_NONCE_LEN];
    } entries[MAX_CNT];
};

static struct pair pair;
static struct log client_log, server_log;

static void on_key(const struct session_key *key, void *arg)
{
    struct log *log = arg;
    struct entry *e = &log->entries[log->cnt++];

    assert_in_range(log->cnt, 1, MAX_CNT);
    e->key = *key;
    memcpy(e->id, key->id, SESSION_ID_LEN);
    memcpy(e->bytes, key->key, key->key_len);
    memcpy(e->nonce, key->nonce, SESSION_KEY_NONCE_LEN);
}

static void start(void)
{
    client_log.cnt = server_log.cnt = 0;
    pair_new_sessions(&pair);
    session_set_key_log(pair.client, on_key, &client_log);
    session_set_key_log(pair.server, on_key, &server_log);
    pair_options(&pair);
}

static void exchange(void)
{
    struct wire w = {.len = 0};
    struct received got = {.len = 0};

    pair_output(pair.client, &w);
    pair_deliver(pair.server, &w, &got);
    w.len = 0;
    pair_output(pair.server, &w);
    pair_deliver(pair.client, &w, &got);
}

static const struct entry *find(const struct log *log, bool seals, uint32_t generation)
{
    const struct entry *found = NULL;

    for (size_t i = 0; i < log->cnt; i++) {
        const struct entry *e = &log->entries[i];
        if (e->key.seals == seals && e->key.generation == generation) {
            assert_null(found); /* each once */
            found = e;
        }
    }
    assert_non_null(found);
    return found;
}

/* What one seals with the other opens with. */
static void check_generation(uint32_t generation)
{
    struct session_info info;

    session_get_info(pair.client, &info);
    for (int seals = 0; seals <= 1; seals++) {
        const struct entry *a = find(&client_log, seals, generation);
        const struct entry *b = find(&server_log, !seals, generation);

        assert_int_equal(a->key.aead, info.aead);
        assert_memory_equal(a->id, info.id, SESSION_ID_LEN);
        assert_memory_equal(b->id, info.id, SESSION_ID_LEN);
        assert_int_equal(a->key.key_len, info.aead == AEAD_AES_128_GCM ? 16 : 32);
        assert_int_equal(a->key.key_len, b->key.key_len);
        assert_memory_equal(a->bytes, b->bytes, a->key.key_len);
        assert_memory_equal(a->nonce, b->nonce, SESSION_KEY_NONCE_LEN);
    }
    assert_memory_not_equal(find(&client_log, true, generation)->bytes,
                            find(&client_log, false, generation)->bytes, 16);
}

static void check_all_aeads(void (*fn)(void))
{
    static const uint16_t aeads[] = {AEAD_AES_128_GCM, AEAD_AES_256_GCM, AEAD_CHACHA20_POLY1305};

    for (size_t i = 0; i < sizeof(aeads) / sizeof(aeads[0]); i++) {
        pair_init(&pair);
        pair.client_cfg.aeads[0] = pair.server_cfg.aeads[0] = aeads[i];
        pair.client_cfg.aead_cnt = pair.server_cfg.aead_cnt = 1;
        fn();
        pair_done(&pair);
    }
}

static void fresh(void)
{
    start();
    assert_int_equal(client_log.cnt + server_log.cnt, 0); /* no keys yet */
    exchange();
    assert_int_equal(client_log.cnt, 2);
    assert_int_equal(server_log.cnt, 2);
    check_generation(0);
    pair_check_data(pair.client, pair.server, "no new key");
    assert_int_equal(client_log.cnt + server_log.cnt, 4);
}

static void test_fresh(void **state)
{
    check_all_aeads(fresh);
}

static void rekeyed(void)
{
    start();
    exchange();
    assert_int_equal(session_rekey(pair.client), TCNS_OK);
    pair_check_data(pair.client, pair.server, "with the next key");
    exchange(); /* the server's answer */
    check_generation(1);
    assert_int_equal(client_log.cnt, 4);
    assert_int_equal(server_log.cnt, 4);
    assert_memory_not_equal(find(&client_log, true, 0)->bytes, find(&client_log, true, 1)->bytes,
                            16);
}

static void test_rekeyed(void **state)
{
    check_all_aeads(rekeyed);
}

static void test_resumed(void **state)
{
    pair_init(&pair);
    pair_add_caches(&pair, 4);
    struct session_info info;
    for (int i = 0; i < 2; i++) {
        pair_new_sessions(&pair);
        session_set_peer(pair.client, "s", 1, 1);
        session_set_peer(pair.server, "c", 1, 1);
        client_log.cnt = server_log.cnt = 0;
        session_set_key_log(pair.client, on_key, &client_log);
        session_set_key_log(pair.server, on_key, &server_log);
        pair_options(&pair);
        if (i == 0)
            exchange();
        session_get_info(pair.client, &info);
        assert_int_equal(info.reason, i ? SESSION_REASON_RESUMED : SESSION_REASON_FULL);
        check_generation(0);
        assert_int_equal(client_log.cnt, 2);
    }
    pair_done(&pair);
    pair_free_caches(&pair);
}

/* A frame that is not authentic gives no key. */
static void test_forged_rekey(void **state)
{
    struct wire w = {.len = 0};
    struct received got = {.len = 0};

    pair_init(&pair);
    start();
    exchange();
    pair_seal(pair.client, "x", 1, 0, &w);
    w.bytes[0] ^= 1; /* rekey */
    assert_int_equal(pair_feed(pair.server, &w, w.len, &got), TCNS_ERR_FRAME_AUTH);
    assert_int_equal(server_log.cnt, 2);
    pair_done(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_rekeyed),
        cmocka_unit_test(test_resumed),
        cmocka_unit_test(test_forged_rekey),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
