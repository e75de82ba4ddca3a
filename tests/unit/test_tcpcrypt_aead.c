/* SPDX-License-Identifier: BSD-3-Clause
 * The libraries behind aead.h agree, whole and in pieces. Known answers: test_tcpcrypt_frame.
 */
#include "tcpcrypt/aead_impl.h"
#include "tcpcrypt/session.h"
#include "vectors.h"

#include <sodium.h>
#include <string.h>

#define TEXT_MAX_LEN 70000u
#define KEY_MAX_LEN  (32 + AEAD_NONCE_LEN)

static const uint16_t ids[] = {AEAD_AES_128_GCM, AEAD_AES_256_GCM, AEAD_CHACHA20_POLY1305};

struct message {
    uint64_t offset;
    uint8_t ad[3];
    size_t len;
    uint8_t text[TEXT_MAX_LEN];
    uint8_t tag[AEAD_TAG_LEN];
};

static struct message plain, sealed, opened;

static void update_in_pieces(struct aead *a, const struct message *in, struct message *out,
                             size_t piece_max_len)
{
    assert_int_equal(aead_begin(a, in->offset, in->ad, sizeof(in->ad)), TCNS_OK);
    for (size_t pos = 0, n; pos < in->len; pos += n) {
        n = 1 + randombytes_uniform((uint32_t)piece_max_len);
        if (n > in->len - pos)
            n = in->len - pos;
        assert_int_equal(aead_update(a, out->text + pos, in->text + pos, n), TCNS_OK);
    }
}

/* What one library seals the other opens, and nothing else. */
static void check_message(struct aead *seals, struct aead *opens, size_t len, size_t piece_max_len)
{
    plain.len = len;
    randombytes_buf(&plain.offset, sizeof(plain.offset));
    randombytes_buf(plain.ad, sizeof(plain.ad));
    randombytes_buf(plain.text, len);
    sealed = plain;
    update_in_pieces(seals, &plain, &sealed, piece_max_len);
    assert_int_equal(aead_seal_tag(seals, sealed.tag), TCNS_OK);

    update_in_pieces(opens, &sealed, &opened, piece_max_len);
    assert_int_equal(aead_open_tag(opens, sealed.tag), TCNS_OK);
    assert_memory_equal(opened.text, plain.text, len);

    update_in_pieces(opens, &sealed, &opened, piece_max_len);
    sealed.tag[randombytes_uniform(AEAD_TAG_LEN)] ^= (uint8_t)(1u << randombytes_uniform(8));
    assert_int_equal(aead_open_tag(opens, sealed.tag), TCNS_ERR_FRAME_AUTH);
}

static void check_pair(uint16_t id, const struct aead_ops *one, const struct aead_ops *other)
{
    static const size_t lens[] = {0, 1, 15, 16, 17, 255, 256, 257, 1448, 16384, 65518};
    struct aead seals, opens;
    uint8_t key[KEY_MAX_LEN];

    assert_int_equal(aead_init_with(&seals, one, id, true), TCNS_OK);
    assert_int_equal(aead_init_with(&opens, other, id, false), TCNS_OK);
    for (int generation = 0; generation < 3; generation++) {
        randombytes_buf(key, sizeof(key));
        assert_int_equal(aead_set_key(&seals, key), TCNS_OK);
        assert_int_equal(aead_set_key(&opens, key), TCNS_OK);
        for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
            check_message(&seals, &opens, lens[i], 40);
            check_message(&seals, &opens, lens[i], 3000);
            check_message(&seals, &opens, lens[i], UINT16_MAX);
        }
    }
    aead_done(&seals);
    aead_done(&opens);
}

static void test_libcrypto(void **state)
{
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        const struct aead_ops *ops = aead_ops_libcrypto(ids[i]);

        assert_non_null(ops);
        check_pair(ids[i], ops, ops);
    }
    assert_null(aead_ops_libcrypto(0));
}

/* On a processor without VAES the library is not used, and there is nothing to compare. */
static void test_ipsec_mb(void **state)
{
#ifdef HAVE_IPSEC_MB
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        const struct aead_ops *mb = aead_ops_ipsec_mb(ids[i]);
        const struct aead_ops *reference = aead_ops_libcrypto(ids[i]);

        if (!mb)
            continue;
        check_pair(ids[i], mb, reference);
        check_pair(ids[i], reference, mb);
        check_pair(ids[i], mb, mb);
    }
    assert_null(aead_ops_ipsec_mb(AEAD_CHACHA20_POLY1305));
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_libcrypto),
        cmocka_unit_test(test_ipsec_mb),
    };

    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
