/* SPDX-License-Identifier: BSD-3-Clause
 * X25519 through libsodium, X448 through libcrypto (RFC 7748).
 */
#include <assert.h>
#include <openssl/evp.h>
#include <sodium.h>

#include "tcpcrypt/kex_impl.h"

#define X448_LEN 56

static_assert(crypto_scalarmult_BYTES == 32 && crypto_scalarmult_SCALARBYTES == 32, "RFC 7748 5");

enum tcns_err kex_x25519_public(uint8_t tep, const uint8_t *private, uint8_t *ret_public)
{
    (void)tep;
    return crypto_scalarmult_base(ret_public, private) == 0 ? TCNS_OK : TCNS_ERR_CRYPTO;
}

enum tcns_err kex_x25519_agree(uint8_t tep, const uint8_t *private, const uint8_t *peer,
                               uint8_t *ret_es)
{
    uint8_t es[crypto_scalarmult_BYTES];
    enum tcns_err e = TCNS_ERR_INIT_PUBKEY;

    (void)tep;
    /* RFC 8548 5: the all-zero secret is refused. libsodium refuses the points
     * that lead to it as well; the check does not rely on that. */
    if (crypto_scalarmult(es, private, peer) == 0 && !sodium_is_zero(es, sizeof(es))) {
        for (size_t i = 0; i < sizeof(es); i++)
            ret_es[i] = es[i];
        e = TCNS_OK;
    }
    sodium_memzero(es, sizeof(es));
    return e;
}

enum tcns_err kex_x448_public(uint8_t tep, const uint8_t *private, uint8_t *ret_public)
{
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_X448, NULL, private, X448_LEN);
    size_t len = X448_LEN;
    bool is_ok = key && EVP_PKEY_get_raw_public_key(key, ret_public, &len) == 1 && len == X448_LEN;

    (void)tep;
    EVP_PKEY_free(key);
    return is_ok ? TCNS_OK : TCNS_ERR_CRYPTO;
}

/* Return: OK; INIT_PUBKEY when libcrypto gives no secret, which for X448 it
 * refuses only for the all-zero one. */
static enum tcns_err derive(EVP_PKEY_CTX *ctx, EVP_PKEY *peer, uint8_t *ret_es)
{
    uint8_t es[X448_LEN];
    size_t len = sizeof(es);
    enum tcns_err e = TCNS_ERR_INIT_PUBKEY;

    if (EVP_PKEY_derive_init(ctx) != 1 || EVP_PKEY_derive_set_peer(ctx, peer) != 1)
        return TCNS_ERR_CRYPTO;
    if (EVP_PKEY_derive(ctx, es, &len) == 1 && len == sizeof(es) &&
        !sodium_is_zero(es, sizeof(es))) {
        for (size_t i = 0; i < sizeof(es); i++)
            ret_es[i] = es[i];
        e = TCNS_OK;
    }
    sodium_memzero(es, sizeof(es));
    return e;
}

enum tcns_err kex_x448_agree(uint8_t tep, const uint8_t *private, const uint8_t *peer,
                             uint8_t *ret_es)
{
    EVP_PKEY *ours = EVP_PKEY_new_raw_private_key(EVP_PKEY_X448, NULL, private, X448_LEN);
    EVP_PKEY *theirs = EVP_PKEY_new_raw_public_key(EVP_PKEY_X448, NULL, peer, X448_LEN);
    EVP_PKEY_CTX *ctx = ours ? EVP_PKEY_CTX_new(ours, NULL) : NULL;
    enum tcns_err e = TCNS_ERR_CRYPTO;

    (void)tep;
    if (ctx && theirs)
        e = derive(ctx, theirs, ret_es);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(theirs);
    EVP_PKEY_free(ours);
    return e;
}
