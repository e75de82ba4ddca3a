/* SPDX-License-Identifier: BSD-3-Clause
 * ECDH on P-256 and P-521 through libcrypto's point arithmetic.
 *
 * EVP_PKEY would accept uncompressed points and draw its own randomness; here
 * the format is fixed (RFC 8548 5) and randomness is passed in.
 */
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/objects.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>

#include "tcpcrypt/kex.h"
#include "tcpcrypt/kex_impl.h"

/* Draws until the scalar is in [1, n-1]; for both curves one draw almost always does. */
#define DRAWS_MAX 64

/* What one operation needs; all or nothing. */
struct curve {
    EC_GROUP *group;
    BN_CTX *bn;
    EC_POINT *point;
    BIGNUM *scalar;
    size_t field_len;
};

static void curve_done(struct curve *c)
{
    BN_clear_free(c->scalar);
    EC_POINT_clear_free(c->point);
    BN_CTX_free(c->bn);
    EC_GROUP_free(c->group);
}

static bool curve_init(struct curve *c, uint8_t tep)
{
    *c = (struct curve){
        .group = EC_GROUP_new_by_curve_name(tep == TEP_ECDHE_P256 ? NID_X9_62_prime256v1
                                                                  : NID_secp521r1),
        .bn = BN_CTX_secure_new(),
        .scalar = BN_secure_new(),
        .field_len = kex_secret_len(tep),
    };
    if (c->group)
        c->point = EC_POINT_new(c->group);
    if (c->group && c->bn && c->scalar && c->point)
        return true;
    curve_done(c);
    return false;
}

/* Return: private is in [1, n-1]; c->scalar is then set to it. */
static bool load_scalar(struct curve *c, const uint8_t *private)
{
    if (!BN_bin2bn(private, (int)c->field_len, c->scalar))
        return false;
    BN_set_flags(c->scalar, BN_FLG_CONSTTIME);
    return !BN_is_zero(c->scalar) && BN_cmp(c->scalar, EC_GROUP_get0_order(c->group)) < 0;
}

enum tcns_err kex_nist_generate(uint8_t tep, session_random_fn random, uint8_t *ret_private)
{
    struct curve c;
    uint8_t private[KEX_PRIVATE_MAX_LEN];
    enum tcns_err e = TCNS_ERR_CRYPTO;

    if (!curve_init(&c, tep))
        return TCNS_ERR_NO_MEMORY;
    for (unsigned i = 0; i < DRAWS_MAX && e != TCNS_OK; i++) {
        random(private, c.field_len);
        if (tep == TEP_ECDHE_P521)
        private[0] &= 0x01; /* 521 bits */
        if (load_scalar(&c, private)) {
            memcpy(ret_private, private, c.field_len);
            e = TCNS_OK;
        }
    }
    sodium_memzero(private, sizeof(private));
    curve_done(&c);
    return e;
}

enum tcns_err kex_nist_public(uint8_t tep, const uint8_t *private, uint8_t *ret_public)
{
    struct curve c;
    size_t len = kex_public_len(tep);
    enum tcns_err e = TCNS_ERR_CRYPTO;

    if (!curve_init(&c, tep))
        return TCNS_ERR_NO_MEMORY;
    if (load_scalar(&c, private) &&
        EC_POINT_mul(c.group, c.point, c.scalar, NULL, NULL, c.bn) == 1 &&
        EC_POINT_point2oct(c.group, c.point, POINT_CONVERSION_COMPRESSED, ret_public, len, c.bn) ==
            len)
        e = TCNS_OK;
    curve_done(&c);
    return e;
}

/* RFC 8548 5, IEEE 1363 A.16.10: compressed format, coordinates in the field, on
 * the curve, not the point at infinity. The cofactor is 1. */
static bool load_peer(struct curve *c, const uint8_t *peer, size_t peer_len)
{
    if (peer[0] != POINT_CONVERSION_COMPRESSED && peer[0] != (POINT_CONVERSION_COMPRESSED | 1))
        return false;
    return EC_POINT_oct2point(c->group, c->point, peer, peer_len, c->bn) == 1 &&
           EC_POINT_is_on_curve(c->group, c->point, c->bn) == 1 &&
           !EC_POINT_is_at_infinity(c->group, c->point);
}

/* ECSVDP-DH: the x coordinate, in the full length of the field. */
static enum tcns_err multiply(struct curve *c, uint8_t *ret_es)
{
    BIGNUM *x = BN_secure_new();
    EC_POINT *product = EC_POINT_new(c->group);
    enum tcns_err e = TCNS_ERR_CRYPTO;

    if (x && product && EC_POINT_mul(c->group, product, NULL, c->point, c->scalar, c->bn) == 1 &&
        !EC_POINT_is_at_infinity(c->group, product) &&
        EC_POINT_get_affine_coordinates(c->group, product, x, NULL, c->bn) == 1 &&
        BN_bn2binpad(x, ret_es, (int)c->field_len) == (int)c->field_len)
        e = TCNS_OK;
    EC_POINT_clear_free(product);
    BN_clear_free(x);
    return e;
}

enum tcns_err kex_nist_agree(uint8_t tep, const uint8_t *private, const uint8_t *peer,
                             uint8_t *ret_es)
{
    struct curve c;
    enum tcns_err e;

    if (!curve_init(&c, tep))
        return TCNS_ERR_NO_MEMORY;
    if (!load_peer(&c, peer, kex_public_len(tep)))
        e = TCNS_ERR_INIT_PUBKEY;
    else if (!load_scalar(&c, private))
        e = TCNS_ERR_CRYPTO;
    else
        e = multiply(&c, ret_es);
    curve_done(&c);
    return e;
}
