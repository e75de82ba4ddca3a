/* SPDX-License-Identifier: BSD-3-Clause
 * Key agreement of the four TEPs.
 */
#include "tcpcrypt/kex.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_agreement, vectors_blame),
        cmocka_unit_test_teardown(test_failures, vectors_blame),
        cmocka_unit_test(test_ephemeral_keys_agree),
        cmocka_unit_test(test_bad_randomness_ends),
    };

    return cmocka_run_group_tests_name("tcpcrypt/kex", tests, vectors_setup, vectors_teardown);
}
