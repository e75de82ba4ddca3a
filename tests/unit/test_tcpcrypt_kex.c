/* SPDX-License-Identifier: BSD-3-Clause
 * Key agreement of the four TEPs.
 */
#include "tcpcrypt/kex.h"
#include "tcpcrypt/kex_pool.h"
#include "vectors.h"

#include <sodium.h>
#include <string.h>

static struct kex_key key_of(json_t *c)
{
    uint8_t tep = (uint8_t)vec_hex_int(c, "tep");
    struct bytes private = vec_hex(c, "private");
    struct kex_key key;

    assert_true(kex_is_known(tep));
    assert_int_equal(private.len, kex_private_len(tep));
    assert_int_equal(kex_from_private(tep, private.p, &key), TCNS_OK);
    return key;
}

/* RFC 8548 5 */
static void check_agreement(json_t *c)
{
    struct kex_key key = key_of(c);
    struct bytes peer = vec_hex(c, "peer_public");
    struct bytes on_wire = vec_hex(c, "public_on_wire");
    size_t prefix_len = kex_has_length_prefix(key.tep) ? 2 : 0;
    uint8_t es[KEX_SECRET_MAX_LEN];

    assert_bytes(vec_hex(c, "public"), key.public, key.public_len);
    assert_int_equal(on_wire.len, prefix_len + key.public_len);
    assert_int_equal(kex_agree(&key, peer.p, peer.len, es), TCNS_OK);
    assert_bytes(vec_hex(c, "es"), es, kex_secret_len(key.tep));
}

/* RFC 8548 5: validation, all-zero secrets; interpretation I12 */
static void check_failure(json_t *c)
{
    struct kex_key key = key_of(c);
    struct bytes peer = vec_hex(c, "peer_public");
    uint8_t es[KEX_SECRET_MAX_LEN] = {0};

    assert_int_equal(kex_agree(&key, peer.p, peer.len, es), TCNS_ERR_INIT_PUBKEY);
    assert_true(sodium_is_zero(es, sizeof(es)));
}

static void test_agreement(void **state)
{
    vectors_run("key_agreement", check_agreement);
}

static void test_failures(void **state)
{
    vectors_run("key_agreement_failures", check_failure);
}

static const uint8_t all_teps[] = {TEP_ECDHE_P256, TEP_ECDHE_P521, TEP_ECDHE_CURVE25519,
                                   TEP_ECDHE_CURVE448};

static void test_ephemeral_keys_agree(void **state)
{
    for (size_t i = 0; i < sizeof(all_teps); i++) {
        struct kex_key ours, theirs;
        uint8_t es[KEX_SECRET_MAX_LEN], peer_es[KEX_SECRET_MAX_LEN];

        assert_int_equal(kex_ephemeral(all_teps[i], randombytes_buf, &ours), TCNS_OK);
        assert_int_equal(kex_ephemeral(all_teps[i], randombytes_buf, &theirs), TCNS_OK);
        assert_memory_not_equal(ours.public, theirs.public, ours.public_len);
        assert_int_equal(kex_agree(&ours, theirs.public, theirs.public_len, es), TCNS_OK);
        assert_int_equal(kex_agree(&theirs, ours.public, ours.public_len, peer_es), TCNS_OK);
        assert_memory_equal(es, peer_es, kex_secret_len(all_teps[i]));
    }
}

/* RFC 7748 5: the top bit is masked, and a u that is not reduced is accepted. 2^255 - 19 + 9
 * is 9, the base point. RFC 8548 5 asks for that function. */
static void test_non_canonical_x25519_inputs(void **state)
{
    const uint8_t base[32] = {9};
    uint8_t same[3][32] = {{9}, {0}, {0}};
    uint8_t private[32], es[KEX_SECRET_MAX_LEN], es_same[KEX_SECRET_MAX_LEN];
    struct kex_key key;

    same[0][31] = 0x80;
    memset(same[1], 0xff, 32);
    same[1][0] = 0xf6; /* 2^255 - 19 + 9 */
    same[1][31] = 0x7f;
    memcpy(same[2], same[1], 32);
    same[2][31] = 0xff;
    randombytes_buf(private, sizeof(private));
    assert_int_equal(kex_from_private(TEP_ECDHE_CURVE25519, private, &key), TCNS_OK);
    assert_int_equal(kex_agree(&key, base, sizeof(base), es), TCNS_OK);
    assert_memory_equal(es, key.public, 32);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(kex_agree(&key, same[i], 32, es_same), TCNS_OK);
        assert_memory_equal(es, es_same, 32);
    }
    /* p, p + 1 and -1 in all forms: the shared secret would be all zero */
    memset(same[0], 0xff, 32);
    same[0][31] = 0x7f;
    for (int low = 0xec; low <= 0xee; low++) {
        same[0][0] = (uint8_t)low;
        assert_int_equal(kex_agree(&key, same[0], 32, es_same), TCNS_ERR_INIT_PUBKEY);
        same[0][31] ^= 0x80;
        assert_int_equal(kex_agree(&key, same[0], 32, es_same), TCNS_ERR_INIT_PUBKEY);
        same[0][31] ^= 0x80;
    }
}

/* The field's full length, leading zeros kept (interpretation I12): one key pair in 256. */
static void test_p256_secret_with_a_leading_zero(void **state)
{
    struct kex_key ours, theirs;
    uint8_t es[KEX_SECRET_MAX_LEN], peer_es[KEX_SECRET_MAX_LEN];
    size_t found_cnt = 0;

    assert_int_equal(kex_ephemeral(TEP_ECDHE_P256, randombytes_buf, &ours), TCNS_OK);
    for (size_t i = 0; i < 20000 && found_cnt < 2; i++) {
        assert_int_equal(kex_ephemeral(TEP_ECDHE_P256, randombytes_buf, &theirs), TCNS_OK);
        memset(es, 0xee, sizeof(es));
        assert_int_equal(kex_agree(&ours, theirs.public, theirs.public_len, es), TCNS_OK);
        if (es[0] != 0)
            continue;
        memset(peer_es, 0xee, sizeof(peer_es));
        assert_int_equal(kex_agree(&theirs, ours.public, ours.public_len, peer_es), TCNS_OK);
        assert_memory_equal(es, peer_es, kex_secret_len(TEP_ECDHE_P256));
        assert_int_equal(es[kex_secret_len(TEP_ECDHE_P256)], 0xee);
        found_cnt++;
    }
    assert_int_equal(found_cnt, 2);
}

static void random_zero(void *out, size_t len)
{
    memset(out, 0, len);
}

static void random_ones(void *out, size_t len)
{
    memset(out, 0xff, len);
}

/* A scalar must be in [1, n-1]; a source that never gives one is an error, not a loop. */
static void test_bad_randomness_ends(void **state)
{
    struct kex_key key;

    assert_int_equal(kex_ephemeral(TEP_ECDHE_P256, random_zero, &key), TCNS_ERR_CRYPTO);
    assert_int_equal(kex_ephemeral(TEP_ECDHE_P256, random_ones, &key), TCNS_ERR_CRYPTO);
    assert_int_equal(kex_ephemeral(TEP_ECDHE_P521, random_zero, &key), TCNS_ERR_CRYPTO);
    assert_int_equal(kex_ephemeral(TEP_ECDHE_P521, random_ones, &key), TCNS_ERR_CRYPTO);
}

/* Each key serves once, and is as good as one made on the spot. */
static void test_pool(void **state)
{
    struct kex_pool *p = kex_pool_new(randombytes_buf);
    struct kex_key keys[2], theirs;
    uint8_t es[KEX_SECRET_MAX_LEN], peer_es[KEX_SECRET_MAX_LEN];

    assert_non_null(p);
    assert_false(kex_pool_take(p, TEP_ECDHE_CURVE25519, &keys[0]));
    for (size_t i = 0; i < KEX_POOL_CNT; i++) {
        assert_false(kex_pool_is_full(p));
        kex_pool_add(p);
    }
    assert_true(kex_pool_is_full(p));
    kex_pool_add(p);

    assert_false(kex_pool_take(p, TEP_ECDHE_CURVE448, &keys[0]));
    for (size_t i = 0; i < KEX_POOL_CNT; i++)
        assert_true(kex_pool_take(p, TEP_ECDHE_CURVE25519, &keys[i % 2]));
    assert_false(kex_pool_take(p, TEP_ECDHE_CURVE25519, &keys[0]));
    assert_memory_not_equal(keys[0].private, keys[1].private, kex_private_len(keys[0].tep));

    assert_int_equal(kex_ephemeral(TEP_ECDHE_CURVE25519, randombytes_buf, &theirs), TCNS_OK);
    assert_int_equal(kex_agree(&keys[0], theirs.public, theirs.public_len, es), TCNS_OK);
    assert_int_equal(kex_agree(&theirs, keys[0].public, keys[0].public_len, peer_es), TCNS_OK);
    assert_memory_equal(es, peer_es, kex_secret_len(TEP_ECDHE_CURVE25519));
    kex_pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_agreement, vectors_blame),
        cmocka_unit_test_teardown(test_failures, vectors_blame),
        cmocka_unit_test(test_ephemeral_keys_agree),
        cmocka_unit_test(test_non_canonical_x25519_inputs),
        cmocka_unit_test(test_p256_secret_with_a_leading_zero),
        cmocka_unit_test(test_bad_randomness_ends),
        cmocka_unit_test(test_pool),
    };

    return cmocka_run_group_tests_name("tcpcrypt/kex", tests, vectors_setup, vectors_teardown);
}
