/* SPDX-License-Identifier: BSD-3-Clause
 * One direction's AEAD over libcrypto.
 */
#include "tcpcrypt/aead.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <string.h>

#include "tcpcrypt/session.h"

enum { ALG_CNT = 3 };

static const struct alg {
    uint16_t id;
    uint8_t key_len;
    const char *name;
    const char *libcrypto_name;
} algs[ALG_CNT] = {
    {AEAD_AES_128_GCM, 16, "AEAD_AES_128_GCM", "AES-128-GCM"},
    {AEAD_AES_256_GCM, 32, "AEAD_AES_256_GCM", "AES-256-GCM"},
    {AEAD_CHACHA20_POLY1305, 32, "AEAD_CHACHA20_POLY1305", "ChaCha20-Poly1305"},
};

/* Fetched once for the life of the process: a fetch per connection takes locks and hashes names. */
static EVP_CIPHER *ciphers[ALG_CNT];
static CRYPTO_ONCE ciphers_once = CRYPTO_ONCE_STATIC_INIT;

static void fetch_ciphers(void)
{
    for (size_t i = 0; i < ALG_CNT; i++)
        ciphers[i] = EVP_CIPHER_fetch(NULL, algs[i].libcrypto_name, NULL);
}

static const struct alg *find_alg(uint16_t id)
{
    for (size_t i = 0; i < ALG_CNT; i++)
        if (algs[i].id == id)
            return &algs[i];
    return NULL;
}

size_t aead_key_len(uint16_t id)
{
    const struct alg *alg = find_alg(id);

    return alg ? alg->key_len : 0;
}

const char *aead_name(uint16_t id)
{
    const struct alg *alg = find_alg(id);

    return alg ? alg->name : NULL;
}

enum tcns_err aead_init(struct aead *a, uint16_t id, bool seals)
{
    const struct alg *alg = find_alg(id);
    EVP_CIPHER_CTX *ctx;

    assert(alg);
    if (!CRYPTO_THREAD_run_once(&ciphers_once, fetch_ciphers) || !ciphers[alg - algs])
        return TCNS_ERR_CRYPTO;
    ctx = EVP_CIPHER_CTX_new();
    if (!ctx)
        return TCNS_ERR_NO_MEMORY;
    if (!EVP_CipherInit_ex2(ctx, ciphers[alg - algs], NULL, NULL, seals, NULL) ||
        EVP_CIPHER_CTX_get_iv_length(ctx) != AEAD_NONCE_LEN) {
        EVP_CIPHER_CTX_free(ctx);
        return TCNS_ERR_CRYPTO;
    }
    *a = (struct aead){.ctx = ctx, .id = id, .seals = seals};
    return TCNS_OK;
}

void aead_done(struct aead *a)
{
    EVP_CIPHER_CTX_free(a->ctx);
    OPENSSL_cleanse(a, sizeof(*a));
}

enum tcns_err aead_set_key(struct aead *a, const uint8_t *key)
{
    if (!EVP_CipherInit_ex2(a->ctx, NULL, key, NULL, a->seals, NULL))
        return TCNS_ERR_CRYPTO;
    memcpy(a->nr, key + aead_key_len(a->id), AEAD_NONCE_LEN);
    return TCNS_OK;
}

/* RFC 8548 3.6 and 4.2.3: N = frame_ID XOR NR; the frame ID is the offset, padded on the left. */
static void make_nonce(const uint8_t nr[AEAD_NONCE_LEN], uint64_t offset,
                       uint8_t ret[AEAD_NONCE_LEN])
{
    memcpy(ret, nr, AEAD_NONCE_LEN);
    for (size_t i = 0; i < sizeof(offset); i++)
        ret[AEAD_NONCE_LEN - 1 - i] ^= (uint8_t)(offset >> (8 * i));
}

enum tcns_err aead_begin(struct aead *a, uint64_t offset, const uint8_t *ad, size_t ad_len)
{
    uint8_t nonce[AEAD_NONCE_LEN];
    int n;

    make_nonce(a->nr, offset, nonce);
    if (!EVP_CipherInit_ex2(a->ctx, NULL, NULL, nonce, a->seals, NULL) ||
        !EVP_CipherUpdate(a->ctx, NULL, &n, ad, (int)ad_len))
        return TCNS_ERR_CRYPTO;
    return TCNS_OK;
}

enum tcns_err aead_update(struct aead *a, uint8_t *out, const uint8_t *in, size_t len)
{
    int n = 0;

    assert(len <= UINT16_MAX);
    if (len > 0 && (!EVP_CipherUpdate(a->ctx, out, &n, in, (int)len) || (size_t)n != len))
        return TCNS_ERR_CRYPTO;
    return TCNS_OK;
}

enum tcns_err aead_seal_tag(struct aead *a, uint8_t ret_tag[AEAD_TAG_LEN])
{
    uint8_t rest[EVP_MAX_BLOCK_LENGTH];
    int n;

    if (!EVP_CipherFinal_ex(a->ctx, rest, &n) || n != 0 ||
        !EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_LEN, ret_tag))
        return TCNS_ERR_CRYPTO;
    return TCNS_OK;
}

enum tcns_err aead_open_tag(struct aead *a, const uint8_t tag[AEAD_TAG_LEN])
{
    uint8_t expected[AEAD_TAG_LEN];
    uint8_t rest[EVP_MAX_BLOCK_LENGTH];
    int n;

    memcpy(expected, tag, sizeof(expected)); /* the control call takes a pointer to non-const */
    if (!EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_LEN, expected))
        return TCNS_ERR_CRYPTO;
    return EVP_CipherFinal_ex(a->ctx, rest, &n) == 1 ? TCNS_OK : TCNS_ERR_FRAME_AUTH;
}
