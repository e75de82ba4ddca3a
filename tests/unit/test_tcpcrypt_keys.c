/* SPDX-License-Identifier: BSD-3-Clause
 * The key schedule.
 */
#include "tcpcrypt/keys.h"
#include "tcpcrypt/aead.h"
#include "tcpcrypt/kex.h"
#include "vectors.h"

#include <string.h>

static void check_traffic(json_t *generation, const char *field, const uint8_t *mk,
                          enum session_role sender, uint16_t aead)
{
    json_t *expected = json_object_get(generation, field);
    uint8_t key[KEYS_TRAFFIC_MAX_LEN];
    size_t key_len = aead_key_len(aead);

    keys_traffic(mk, sender, key, key_len + AEAD_NONCE_LEN);
    assert_bytes(vec_hex(expected, "k"), key, key_len);
    assert_bytes(vec_hex(expected, "nr"), key + key_len, AEAD_NONCE_LEN);
}

/* RFC 8548 3.3, 3.8: mk[j], k_ab[j], k_ba[j] */
static void check_generations(json_t *c, const uint8_t *ss, struct bytes sn)
{
    json_t *list = vec_list(c, "generations");
    uint16_t aead = vec_hex_int(c, "aead");
    uint8_t mk[KEYS_K_LEN];

    keys_first_master(ss, sn.p, sn.len, mk);
    assert_int_not_equal(json_array_size(list), 0);
    for (size_t j = 0; j < json_array_size(list); j++) {
        json_t *generation = json_array_get(list, j);

        assert_int_equal(vec_int(generation, "generation"), j);
        assert_bytes(vec_hex(generation, "mk"), mk, sizeof(mk));
        check_traffic(generation, "k_ab", mk, SESSION_ROLE_A, aead);
        check_traffic(generation, "k_ba", mk, SESSION_ROLE_B, aead);
        keys_next_master(mk, mk);
    }
}

/* RFC 8548 3.5: ss[i] and resume[i] */
static void check_secrets(json_t *c, const uint8_t *prk)
{
    json_t *list = vec_list(c, "session_secrets");
    uint8_t ss[KEYS_K_LEN], id[KEYS_RESUME_ID_LEN];

    memcpy(ss, prk, sizeof(ss));
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *secret = json_array_get(list, i);

        keys_next_secret(ss, ss);
        keys_resume_id(ss, id);
        assert_bytes(vec_hex(secret, "ss"), ss, sizeof(ss));
        assert_bytes(vec_hex(secret, "resume"), id, sizeof(id));
        assert_bytes(vec_hex(secret, "sent_by_original_a"), id, KEYS_RESUME_HALF);
        assert_bytes(vec_hex(secret, "sent_by_original_b"), id + KEYS_RESUME_HALF,
                     KEYS_RESUME_HALF);
    }
}

static void update(struct keys_prk *prk, struct bytes b)
{
    keys_prk_update(prk, b.p, b.len);
}

/* RFC 8548 3.3, 3.4 */
static void check_schedule(json_t *c)
{
    uint8_t tep = (uint8_t)vec_hex_int(c, "tep");
    struct kex_key a, b;
    struct keys_prk prk;
    uint8_t es[KEX_SECRET_MAX_LEN], peer_es[KEX_SECRET_MAX_LEN];
    uint8_t ss[KEYS_K_LEN], id[SESSION_ID_LEN];

    assert_int_equal(kex_from_private(tep, vec_hex(c, "private_a").p, &a), TCNS_OK);
    assert_int_equal(kex_from_private(tep, vec_hex(c, "private_b").p, &b), TCNS_OK);
    assert_bytes(vec_hex(c, "pub_a"), a.public, a.public_len);
    assert_bytes(vec_hex(c, "pub_b"), b.public, b.public_len);
    assert_int_equal(kex_agree(&a, b.public, b.public_len, es), TCNS_OK);
    assert_int_equal(kex_agree(&b, a.public, a.public_len, peer_es), TCNS_OK);
    assert_bytes(vec_hex(c, "es"), es, kex_secret_len(tep));
    assert_bytes(vec_hex(c, "es"), peer_es, kex_secret_len(tep));

    keys_prk_init(&prk, vec_hex(c, "n_a").p);
    update(&prk, vec_hex(c, "eno_transcript"));
    update(&prk, vec_hex(c, "init1"));
    update(&prk, vec_hex(c, "init2"));
    update(&prk, vec_hex(c, "es"));
    keys_prk_final(&prk, ss);
    assert_bytes(vec_hex(c, "prk"), ss, sizeof(ss));

    keys_session_id(tep, ss, NULL, 0, id);
    assert_bytes(vec_hex(c, "session_id"), id, sizeof(id));
    check_secrets(c, ss);
    check_generations(c, ss, (struct bytes){0});
}

/* RFC 8548 3.5 */
static void check_resumption(json_t *c)
{
    uint8_t ss[KEYS_K_LEN], id[SESSION_ID_LEN], resume[KEYS_RESUME_ID_LEN];
    struct bytes sn = vec_hex(c, "sn");

    memcpy(ss, vec_hex(c, "prk").p, sizeof(ss));
    for (uint64_t i = 0; i < vec_int(c, "index"); i++)
        keys_next_secret(ss, ss);
    assert_bytes(vec_hex(c, "ss"), ss, sizeof(ss));
    keys_resume_id(ss, resume);
    assert_bytes(vec_hex(c, "resume"), resume, sizeof(resume));
    keys_session_id((uint8_t)(0x80 | vec_hex_int(c, "tep")), ss, sn.p, sn.len, id);
    assert_bytes(vec_hex(c, "session_id"), id, sizeof(id));
    check_generations(c, ss, sn);
    keys_next_secret(ss, ss);
    assert_bytes(vec_hex(c, "next_ss"), ss, sizeof(ss));
}

static void test_schedule(void **state)
{
    vectors_run("key_schedule", check_schedule);
}

static void test_resumption(void **state)
{
    vectors_run("resumption", check_resumption);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_schedule, vectors_blame),
        cmocka_unit_test_teardown(test_resumption, vectors_blame),
    };

    return cmocka_run_group_tests_name("tcpcrypt/keys", tests, vectors_setup, vectors_teardown);
}
