/* SPDX-License-Identifier: BSD-3-Clause
 * SipHash-2-4 against the paper's vector and against OpenSSL's.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <endian.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/siphash.h"

static struct siphash_key key_of(const uint8_t bytes[16])
{
    uint64_t k[2];

    memcpy(k, bytes, 16);
    return (struct siphash_key){le64toh(k[0]), le64toh(k[1])};
}

static uint64_t hash_of_openssl(const uint8_t key[16], const uint8_t *data, size_t len)
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    size_t out_len = 8;
    uint64_t out = 0;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &out_len),
        OSSL_PARAM_construct_end(),
    };

    assert_non_null(ctx);
    assert_int_equal(EVP_MAC_init(ctx, key, 16, params), 1);
    assert_int_equal(EVP_MAC_update(ctx, data, len), 1);
    assert_int_equal(EVP_MAC_final(ctx, (uint8_t *)&out, &out_len, sizeof(out)), 1);
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    return le64toh(out);
}

static void fill(uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)i;
}

/* Aumasson and Bernstein, appendix A: key 00..0f, message 00..0e; and the first entries
 * of the table in the reference implementation, messages of 0, 1, 2 bytes and so on. */
static void test_published(void **state)
{
    static const uint64_t table[] = {
        0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d,
        0xcf2794e0277187b7, 0x18765564cd99a68d, 0xcbc9466e58fee3ce, 0xab0200f58b01d137,
    };
    uint8_t bytes[16];
    struct siphash_key key;

    fill(bytes, sizeof(bytes));
    key = key_of(bytes);
    assert_true(siphash(&key, bytes, 15) == 0xa129ca6149be45e5);
    for (size_t len = 0; len < sizeof(table) / sizeof(*table); len++)
        assert_true(siphash(&key, bytes, len) == table[len]);
}

static void test_every_length_like_openssl(void **state)
{
    uint8_t key_bytes[16], data[130];
    struct siphash_key key;

    fill(key_bytes, sizeof(key_bytes));
    key = key_of(key_bytes);
    for (size_t len = 0; len <= sizeof(data); len++) {
        uint8_t *exact = malloc(len + 1); /* off by one, and of exact size */
        fill(exact + 1, len);
        assert_true(siphash(&key, exact + 1, len) == hash_of_openssl(key_bytes, exact + 1, len));
        free(exact);
    }
}

static void test_other_keys_like_openssl(void **state)
{
    uint8_t key_bytes[16], data[36];

    fill(data, sizeof(data));
    for (int bit = 0; bit < 128; bit++) {
        memset(key_bytes, 0xff, sizeof(key_bytes));
        key_bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct siphash_key key = key_of(key_bytes);
        assert_true(siphash(&key, data, sizeof(data)) ==
                    hash_of_openssl(key_bytes, data, sizeof(data)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_every_length_like_openssl),
        cmocka_unit_test(test_other_keys_like_openssl),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
