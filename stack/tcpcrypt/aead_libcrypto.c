/* SPDX-License-Identifier: BSD-3-Clause
 * AEADs of OpenSSL's libcrypto: all three, on every processor.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "tcpcrypt/aead_impl.h"
#include "tcpcrypt/session.h"

enum { ALG_CNT = 3 };

static const struct {
    uint16_t id;
    const char *name;
} algs[ALG_CNT] = {
    {AEAD_AES_128_GCM, "AES-128-GCM"},
    {AEAD_AES_256_GCM, "AES-256-GCM"},
    {AEAD_CHACHA20_POLY1305, "ChaCha20-Poly1305"},
};

/* Fetched once for the life of the process: a fetch per connection takes locks and hashes names. */
static EVP_CIPHER *ciphers[ALG_CNT];
static CRYPTO_ONCE ciphers_once = CRYPTO_ONCE_STATIC_INIT;

static void fetch_ciphers(void)
{
    for (size_t i = 0; i < ALG_CNT; i++)
        ciphers[i] = EVP_CIPHER_fetch(NULL, algs[i].name, NULL);
}

static const EVP_CIPHER *find_cipher(uint16_t id)
{
    if (!CRYPTO_THREAD_run_once(&ciphers_once, fetch_ciphers))
        return NULL;
    for (size_t i = 0; i < ALG_CNT; i++)
        if (algs[i].id == id)
            return ciphers[i];
    return NULL;
}

static void *libcrypto_new(uint16_t id, bool seals)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

    if (ctx && !EVP_CipherInit_ex2(ctx, find_cipher(id), NULL, NULL, seals, NULL)) {
        EVP_CIPHER_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

static void libcrypto_free(void *ctx)
{
    EVP_CIPHER_CTX_free(ctx);
}

/* -1 keeps the direction as it is. */
static bool libcrypto_set_key(void *ctx, const uint8_t *key)
{
    return EVP_CipherInit_ex2(ctx, NULL, key, NULL, -1, NULL);
}

static bool libcrypto_begin(void *ctx, const uint8_t nonce[AEAD_NONCE_LEN], const uint8_t *ad,
                            size_t ad_len)
{
    int n;

    return EVP_CipherInit_ex2(ctx, NULL, NULL, nonce, -1, NULL) &&
           EVP_CipherUpdate(ctx, NULL, &n, ad, (int)ad_len);
}

static bool libcrypto_update(void *ctx, uint8_t *out, const uint8_t *in, size_t len)
{
    int n;

    return EVP_CipherUpdate(ctx, out, &n, in, (int)len) && (size_t)n == len;
}

static bool libcrypto_seal_tag(void *ctx, uint8_t ret_tag[AEAD_TAG_LEN])
{
    uint8_t rest[EVP_MAX_BLOCK_LENGTH];
    int n;

    return EVP_CipherFinal_ex(ctx, rest, &n) && n == 0 &&
           EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_LEN, ret_tag);
}

static bool libcrypto_open_tag(void *ctx, const uint8_t tag[AEAD_TAG_LEN])
{
    uint8_t expected[AEAD_TAG_LEN];
    uint8_t rest[EVP_MAX_BLOCK_LENGTH];
    int n;

    memcpy(expected, tag, sizeof(expected)); /* the control call takes a pointer to non-const */
    return EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_LEN, expected) &&
           EVP_CipherFinal_ex(ctx, rest, &n) == 1;
}

const struct aead_ops *aead_ops_libcrypto(uint16_t id)
{
    static const struct aead_ops ops = {
        .new = libcrypto_new,
        .free = libcrypto_free,
        .set_key = libcrypto_set_key,
        .begin = libcrypto_begin,
        .update = libcrypto_update,
        .seal_tag = libcrypto_seal_tag,
        .open_tag = libcrypto_open_tag,
    };

    return find_cipher(id) ? &ops : NULL;
}
