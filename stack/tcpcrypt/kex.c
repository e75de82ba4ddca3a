/* SPDX-License-Identifier: BSD-3-Clause
 * Key agreement of the four TEPs.
 */
#include "tcpcrypt/kex.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "tcpcrypt/kex_impl.h"

static const struct scheme {
    uint8_t tep;
    uint8_t private_len;
    uint8_t public_len;
    uint8_t secret_len;
    bool has_length_prefix;
    const char *name;
    enum tcns_err (*generate)(uint8_t tep, session_random_fn random, uint8_t *ret_private);
    enum tcns_err (*make_public)(uint8_t tep, const uint8_t *private, uint8_t *ret_public);
    enum tcns_err (*agree)(uint8_t tep, const uint8_t *private, const uint8_t *peer,
                           uint8_t *ret_es);
} schemes[] = {
    {TEP_ECDHE_CURVE25519, 32, 32, 32, false, "TCPCRYPT_ECDHE_Curve25519", NULL, kex_x25519_public,
     kex_x25519_agree},
    {TEP_ECDHE_CURVE448, 56, 56, 56, false, "TCPCRYPT_ECDHE_Curve448", NULL, kex_x448_public,
     kex_x448_agree},
    {TEP_ECDHE_P256, 32, 33, 32, true, "TCPCRYPT_ECDHE_P256", kex_nist_generate, kex_nist_public,
     kex_nist_agree},
    {TEP_ECDHE_P521, 66, 67, 66, true, "TCPCRYPT_ECDHE_P521", kex_nist_generate, kex_nist_public,
     kex_nist_agree},
};

static const struct scheme *find_scheme(uint8_t tep)
{
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
        if (schemes[i].tep == tep)
            return &schemes[i];
    return NULL;
}

static const struct scheme *known_scheme(uint8_t tep)
{
    const struct scheme *scheme = find_scheme(tep);

    assert(scheme);
    return scheme;
}

bool kex_is_known(uint8_t tep)
{
    return find_scheme(tep) != NULL;
}

const char *kex_name(uint8_t tep)
{
    const struct scheme *scheme = find_scheme(tep);

    return scheme ? scheme->name : NULL;
}

size_t kex_private_len(uint8_t tep)
{
    return known_scheme(tep)->private_len;
}

size_t kex_public_len(uint8_t tep)
{
    return known_scheme(tep)->public_len;
}

size_t kex_secret_len(uint8_t tep)
{
    return known_scheme(tep)->secret_len;
}

bool kex_has_length_prefix(uint8_t tep)
{
    return known_scheme(tep)->has_length_prefix;
}

enum tcns_err kex_from_private(uint8_t tep, const uint8_t *private, struct kex_key *ret)
{
    const struct scheme *scheme = known_scheme(tep);
    struct kex_key key = {.tep = tep, .public_len = scheme->public_len};
    enum tcns_err e;

    memcpy(key.private, private, scheme->private_len);
    e = scheme->make_public(tep, key.private, key.public);
    if (e == TCNS_OK)
        *ret = key;
    sodium_memzero(&key, sizeof(key));
    return e;
}

enum tcns_err kex_ephemeral(uint8_t tep, session_random_fn random, struct kex_key *ret)
{
    const struct scheme *scheme = known_scheme(tep);
    uint8_t private[KEX_PRIVATE_MAX_LEN];
    enum tcns_err e = TCNS_OK;

    if (scheme->generate)
        e = scheme->generate(tep, random, private);
    else
        random(private, scheme->private_len);
    if (e == TCNS_OK)
        e = kex_from_private(tep, private, ret);
    sodium_memzero(private, sizeof(private));
    return e;
}

enum tcns_err kex_agree(const struct kex_key *key, const uint8_t *peer, size_t peer_len,
                        uint8_t ret_es[KEX_SECRET_MAX_LEN])
{
    const struct scheme *scheme = known_scheme(key->tep);

    if (peer_len != scheme->public_len)
        return TCNS_ERR_INIT_PUBKEY;
    return scheme->agree(key->tep, key->private, peer, ret_es);
}
